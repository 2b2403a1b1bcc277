/* txn_offsets.h - offsets that were committed in a transaction (TxnOffsetCommit): kept beside those
 * of the group until the marker of the transaction reaches the partition, then they count or are
 * forgotten. Rebuilt from the partition: the records lie in transactional batches, the markers are
 * its control batches.
 * Runs on: the shard of the group's partition. */
#pragma once
#include "dataplane/kafka/group/offsets.h"

struct txn_offset {
    struct span topic;
    struct goffset o;
};
struct txn_offsets {  /* of one group in one open transaction */
    struct list link; /* cpart.txns */
    struct group *g;  /* held: a group amid a transaction is neither deleted nor expired */
    int64_t producer_id;
    struct txn_offset *v;
    uint32_t cnt, cap;
};

void txn_offsets_on_commit(struct cpart *p, struct group_call *call);
/* The offset's metadata is copied. False: out of memory, nothing changed. */
bool txn_offsets_put(struct group *g, int64_t producer_id, struct span topic,
                     const struct goffset *o);
/* The marker of a producer is durable in the partition. False: out of memory, read it again. */
NODISCARD bool txn_offsets_end(struct cpart *p, int64_t producer_id, bool commit);
bool txn_offsets_is_pending(const struct group *g, struct span topic, int32_t partition);
/* Forget all of the partition. */
void txn_offsets_clear(struct cpart *p);
