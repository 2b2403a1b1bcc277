/* producer.h - what a partition knows of its idempotent producers: epoch, the last five batches and
 * the open transaction of each (gotchas 8, 12), and Kafka's snapshot file of it.
 *
 * A transaction is open here from its first batch to its marker; the last stable offset is held
 * back by the first offset of open ones, and of ended ones until their marker is durable.
 * Runs on: the partition's owner (recovery before it). Bounded: PRODUCERS_MAX per partition, the
 * longest idle one without a transaction goes first; entries expire after PRODUCER_EXPIRE_MS. */
#pragma once
#include "dataplane/store/txn_index.h"
#include "lib/base/err.h"
#include "lib/batch/check.h"
#include "lib/batch/control.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRODUCERS_MAX 65536u
#define PRODUCER_BATCHES 5u
#define PRODUCER_EXPIRE_MS INT64_C(86400000)

struct producer;
struct open_txn {
    int64_t producer_id, first_offset;
};
struct ended_txn {
    int64_t first_offset, marker_offset;
};
struct producers {
    struct producer **slots; /* open addressing, power of two */
    uint32_t cap, cnt;
    struct open_txn *open; /* by first_offset */
    uint32_t open_cnt, open_cap;
    struct ended_txn *ended; /* marker not known to be durable; by marker_offset */
    uint32_t ended_cnt, ended_cap;
};
void producers_fini(struct producers *t);

struct producer_dup {
    int64_t base_offset, last_offset, timestamp_ms;
};
/* Judge a batch of records before its append; txn_v2: it speaks KIP-890. 0: new, 1: a duplicate
 * (*ret says of what), or -E_INVALID_PRODUCER_EPOCH, -E_OUT_OF_ORDER_SEQUENCE,
 * -E_INVALID_TXN_STATE (a plain batch amid a transaction). Batches without producer id are always
 * 0; those without a sequence (offsets of a transaction) are judged by their epoch only. */
NODISCARD int producers_check(const struct producers *t, const struct batch_info *b, bool txn_v2,
                              struct producer_dup *ret);
/* Judge a marker; txn_v2: its epoch is above that of its transaction. 0,
 * -E_INVALID_PRODUCER_EPOCH, -E_COORDINATOR_FENCED. */
NODISCARD int producers_check_marker(const struct producers *t, const struct batch_marker *m,
                                     bool txn_v2);
/* Remember an appended (or replayed) batch; b->base_offset is the assigned one. `marker`: it is one
 * (other control batches are not remembered: pass NULL). 0; 1: a marker has ended the transaction
 * *ret; -ENOMEM, -E_LIMIT: nothing remembered. */
NODISCARD int producers_update(struct producers *t, const struct batch_info *b,
                               const struct batch_marker *marker, int64_t timestamp_ms,
                               struct aborted_txn *ret);
/* Make room for one more producer and transaction so that the next update cannot fail. 0, -ENOMEM,
 * -E_LIMIT: all PRODUCERS_MAX of them have a transaction open. */
NODISCARD int producers_reserve(struct producers *t, int64_t producer_id);
/* The last stable offset when everything below `durable` is. Forgets ended transactions below it.
 */
int64_t producers_stable(struct producers *t, int64_t durable);
/* Drop what was idle since before now - PRODUCER_EXPIRE_MS. Count dropped. */
uint32_t producers_expire(struct producers *t, int64_t now_ms);

/* Fills v with up to `cap` of them, in no order; how many there are. */
struct producer_view;
uint32_t producers_list(const struct producers *t, struct producer_view *v, uint32_t cap);

/* Where a producer left off, for a rewrite that must leave it in the log. */
struct last_record {
    int64_t producer_id;
    int64_t data_offset; /* of its last durable batch of records; -1: only a marker is known */
    int16_t epoch;
};
/* All of them, by producer_id; `v` has room for t->cnt. A batch at or above `durable` is none that a
 * crash leaves: the one before it is what the producer goes on from then. Count, or -E_BUSY: none of
 * the batches that are known of a producer is durable yet. */
NODISCARD int producers_last(const struct producers *t, int64_t durable, struct last_record *v);

/* Snapshot file (version 1), malloc'd. */
NODISCARD int producers_encode(const struct producers *t, uint8_t **ret, size_t *ret_len);
/* 0, -ENOMEM, -E_MALFORMED, -E_CORRUPT_BATCH (checksum): t is then empty. */
NODISCARD int producers_decode(struct producers *t, const uint8_t *p, size_t len);
