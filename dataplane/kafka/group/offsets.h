/* offsets.h - committed offsets of a group, sorted by topic name and partition.
 * Runs on: the shard of the group's partition. */
#pragma once
#include "dataplane/kafka/group/group.h"
#include "lib/meta/image.h"

struct ctopic { /* a topic that somebody committed to, shared by the groups of the shard */
    struct list link;
    uint32_t refs;
    struct span name;
    struct uuid id; /* zero: never seen in the image */
};
struct goffset {
    int32_t partition, leader_epoch;
    int64_t offset, commit_ms, expire_ms; /* expire_ms -1: after the retention */
    struct span metadata;
    uint64_t seq; /* of all offsets of the shard, in the order of the log; 0: not set yet */
};
struct goffsets {
    struct ctopic *topic;
    struct goffset *v;
    uint32_t cnt, cap;
};

void offsets_on_commit(struct cpart *p, struct group_call *call);
void offsets_on_fetch(struct cpart *p, struct group_call *call);
void offsets_on_delete(struct cpart *p, struct group_call *call);

/* Who commits; 0 and the group (made if need be), or Kafka's code why it may not. */
struct commit_who {
    struct span group, member_id, instance_id; /* instance_id null: dynamic */
    int32_t generation;                        /* -1: none */
    int16_t version;                           /* of OffsetCommit */
    bool is_txn;                               /* TxnOffsetCommit */
    /* Answer: the member of a consumer group when it speaks of an older epoch; then ask
     * consumer_may_commit_old for each partition. Valid until the group changes. */
    const struct cmember *old;
};
int16_t offsets_check(struct cpart *p, struct commit_who *who, struct group **ret_group);
/* What OffsetCommit and TxnOffsetCommit have in common:
 *     commit_begin -> commit_add for each partition -> commit_end
 * Each answers the call when it is over there: begin when it returns NULL, end at once or when the
 * records are durable and `done` has run, which replies. */
struct commit { /* one under way; call->ctx */
    struct coord_write *w;
    struct span *names; /* of the request's topics, the caller's to set; null: unknown */
    int64_t now_ms;
    int32_t generation;
    const struct cmember *old; /* of commit_who; only while the call is checked */
};
struct commit *commit_begin(struct cpart *p, struct group_call *call, struct commit_who *who,
                            uint32_t topic_cnt);
/* 0, or Kafka's code for this partition. t NULL: unknown. */
int16_t commit_add(struct group_call *call, const struct meta_topic *t, struct span name,
                   const struct goffset *o);
/* is_whole: nothing ran out of memory. */
void commit_end(struct group_call *call, bool is_whole,
                void (*done)(struct coord_write *w, int16_t error));
/* NULL: none. */
const struct goffset *offset_find(const struct group *g, struct span topic, int32_t partition);
/* The offset's metadata is copied. False: out of memory, nothing changed. */
bool offset_put(struct group *g, struct span topic, const struct goffset *o);
/* Of the record, in `a`; null when it is full. */
struct span offset_key(struct arena *a, struct span group, struct span topic, int32_t part);
struct span offset_value(struct arena *a, const struct goffset *o);

/* Loading: producer_id >= 0: in its transaction; v == NULL: deleted. 0 or -E_*. */
NODISCARD int offsets_replay(struct cpart *p, int64_t producer_id,
                             const struct offset_commit_key *k,
                             const struct offset_commit_value *v);
void offsets_clear(struct group *g);
/* Tombstones of all offsets of the group. */
void offsets_write_deleted(struct group *g, struct coord_write *w, struct arena *a);
/* Topics that are gone lose their offsets; called when the image has changed. */
void offsets_on_image(struct coord *c);
/* Offsets past their retention, and groups that have nothing left. */
void offsets_expire(struct coord *c);
