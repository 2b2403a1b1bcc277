/* rewrite.h - what a rewrite makes of one batch of a sealed segment: kept, changed or dropped.
 *
 * Two filters, one engine (ondisk.md 10, Kafka's Cleaner):
 *     compaction   a record stays when it is the last of its key, or above what the map covers; a
 *                  tombstone until its delete horizon (KIP-534); records of aborted transactions
 *                  and, once their data is gone, the markers go
 *     identity     all records stay; a plain batch without producer id is compressed
 *
 * What never changes: base offset, last offset, leader epoch, producer id, epoch and sequence of a
 * batch; offset, key, value, headers and time of a record; the batch's codec (but for identity).
 * Batches must come in offset order, from the log's first one: transactions are followed.
 *
 * Pure over bytes but for its own memory. One thread at a time. */
#pragma once
#include "accel/codec.h"
#include "dataplane/store/key_map.h"
#include "dataplane/store/producer.h"
#include "lib/base/err.h"
#include "lib/batch/check.h"

/* Records of one batch once inflated: more than any producer could get through the checks. */
#define REWRITE_PLAIN_MAX (UINT64_C(256) << 20)

/* Transactions as the batches go by (Kafka's CleanedTransactionMetadata). */
struct txn_filter {
    struct aborted_txn *todo; /* by first_offset; not begun yet from todo_at on */
    uint32_t todo_cnt, todo_at;
    struct txn_going {
        struct aborted_txn t;
        bool seen; /* a batch of it was met */
    } * aborted;
    uint32_t aborted_cnt, aborted_cap;
    int64_t *committed; /* producers with batches of a transaction that is not aborted */
    uint32_t committed_cnt, committed_cap;
    struct aborted_txns kept; /* those with batches left: the new .txnindex */
};
/* Copies the transactions. 0 or -ENOMEM. */
NODISCARD int txn_filter_init(struct txn_filter *f, const struct aborted_txns *txns);
void txn_filter_fini(struct txn_filter *f);
/* Next batch. 1: its records are of an aborted transaction, or it is a marker without a batch left
 * of its transaction: may be discarded; 0: not; -ENOMEM, -E_LIMIT, -E_INVALID_RECORD. */
NODISCARD int txn_filter_next(struct txn_filter *f, const uint8_t *bytes,
                              const struct batch_info *b);

struct rewrite_rules {
    const struct key_map *keys; /* NULL: identity */
    int64_t now_ms, delete_retention_ms;
    int64_t upper; /* the batch that ends right below it stays, if only empty */
    /* Their last batches stay, if only empty, so that their sequences can be found in the log. By
     * producer_id. */
    const struct last_record *producers;
    uint32_t producer_cnt;
    enum codec_id codec; /* identity: of batches that are plain */
    int level;
};
struct rewrite_stats {
    uint64_t batches_in, batches_out, bytes_in, bytes_out;
    uint64_t records_in, records_out;
    uint64_t keyless; /* records without a key in a compacted topic: dropped */
};
struct rewrite {
    struct rewrite_rules rules;
    struct txn_filter txns;
    struct codec_ctx *codecs;
    struct rewrite_stats st;
    uint8_t *plain, *out, *packed; /* inflated; built; compressed */
    size_t plain_cap, out_cap, packed_cap;
};
/* 0, -ENOMEM; fini in any case. */
NODISCARD int rewrite_init(struct rewrite *w, const struct rewrite_rules *r,
                           const struct aborted_txns *txns);
void rewrite_fini(struct rewrite *w);
/* The next batch, header and CRC already checked. 1: *ret is what stands in its place (its own
 * bytes when nothing changes), valid until the next call; 0: nothing does; or -E_INVALID_RECORD,
 * -E_CORRUPT_BATCH: its records are damaged though its checksum is right; -E_LIMIT, -ENOMEM. */
NODISCARD int rewrite_batch(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                            struct span *ret);
/* First pass of compaction: the keys of the next batch from offset `from` on, into the map. `w` has
 * no map itself and is used for nothing else. 1: in, 0: the map is full, negative as above. */
NODISCARD int rewrite_map(struct rewrite *w, struct key_map *m, int64_t from, const uint8_t *bytes,
                          const struct batch_info *b);
