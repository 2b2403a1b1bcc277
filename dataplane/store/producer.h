/* producer.h - what a partition knows of its idempotent producers: epoch and the last five batches
 * of each (gotchas 8), and Kafka's snapshot file of it.
 *
 * Runs on: the partition's owner (recovery before it). Bounded: PRODUCERS_MAX per partition, the
 * longest idle one goes first; entries expire after PRODUCER_EXPIRE_MS. */
#pragma once
#include "lib/base/err.h"
#include "lib/batch/check.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRODUCERS_MAX 65536u
#define PRODUCER_BATCHES 5u
#define PRODUCER_EXPIRE_MS INT64_C(86400000)

struct producer;
struct producers {
    struct producer **slots; /* open addressing, power of two */
    uint32_t cap, cnt;
};
void producers_fini(struct producers *t);

struct producer_dup {
    int64_t base_offset, last_offset, timestamp_ms;
};
/* Judge a batch before its append. 0: new, 1: a duplicate (*ret says of what), or
 *   -E_INVALID_PRODUCER_EPOCH, -E_OUT_OF_ORDER_SEQUENCE. Batches without producer id are always 0.
 */
NODISCARD int producers_check(const struct producers *t, const struct batch_info *b,
                              struct producer_dup *ret);
/* Remember an appended (or replayed) batch; info->base_offset is the assigned one. 0 or -ENOMEM:
 * nothing remembered. */
NODISCARD int producers_update(struct producers *t, const struct batch_info *b,
                               int64_t timestamp_ms);
/* Make room for one more producer so that the next update cannot fail. */
NODISCARD int producers_reserve(struct producers *t, int64_t producer_id);
/* Drop what was idle since before now - PRODUCER_EXPIRE_MS. Count dropped. */
uint32_t producers_expire(struct producers *t, int64_t now_ms);

/* Fills v with up to `cap` of them, in no order; how many there are. */
struct producer_view;
uint32_t producers_list(const struct producers *t, struct producer_view *v, uint32_t cap);

/* Snapshot file (version 1), malloc'd. */
NODISCARD int producers_encode(const struct producers *t, uint8_t **ret, size_t *ret_len);
/* 0, -ENOMEM, -E_MALFORMED, -E_CORRUPT_BATCH (checksum): t is then empty. */
NODISCARD int producers_decode(struct producers *t, const uint8_t *p, size_t len);
