/* txn_record.h - what is known of one transactional id, and the record of it in
 * __transaction_state (Kafka's TransactionLogKey and TransactionLogValue, ../schemas/transaction).
 * Pure functions over memory; any thread. */
#pragma once
#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/batch/check.h"
#include <stdbool.h>
#include <stdint.h>

#define TXN_PARTS_MAX 10000u /* partitions of one transaction */

enum txn_state { /* Kafka's numbers */
                 TXN_EMPTY,
                 TXN_ONGOING,
                 TXN_PREPARE_COMMIT,
                 TXN_PREPARE_ABORT,
                 TXN_COMPLETE_COMMIT,
                 TXN_COMPLETE_ABORT,
                 TXN_STATE_CNT
};
extern const char *const txn_state_text[TXN_STATE_CNT];

/* Partitions: rows sorted by topic, each sorted. */
struct txn_topic {
    struct span name;
    int32_t *v;
    uint32_t cnt, cap;
};
struct txn_parts {
    struct txn_topic *v;
    uint32_t cnt, cap;
    uint32_t part_cnt; /* of all topics */
};
void txn_parts_fini(struct txn_parts *t);
bool txn_parts_has(const struct txn_parts *t, struct span topic, int32_t partition);
/* 0 (also when it is there), -ENOMEM, -E_LIMIT (TXN_PARTS_MAX). The name is copied. */
NODISCARD int txn_parts_add(struct txn_parts *t, struct span topic, int32_t partition);
void txn_parts_remove(struct txn_parts *t, struct span topic, int32_t partition);
/* `to` is empty. 0, -ENOMEM: it stays empty. */
NODISCARD int txn_parts_copy(struct txn_parts *to, const struct txn_parts *from);

struct txn_value {
    enum txn_state state;
    int64_t producer_id, prev_producer_id, next_producer_id; /* -1: none */
    int16_t epoch, last_epoch;                               /* -1: none; last: not in the record */
    int16_t client_version;                                  /* 2: of KIP-890, else 0 */
    int32_t timeout_ms;
    int64_t start_ms, update_ms; /* start -1: not yet */
    struct txn_parts parts;
};
void txn_value_fini(struct txn_value *v);

/* Key and value in `a`; null spans when it is full. */
struct span txn_record_key(struct arena *a, struct span id);
struct span txn_record_value(struct arena *a, const struct txn_value *v);
/* A record of the partition. 1: *ret_id is a view into it, and *ret_v is filled (malloc'd parts)
 * unless *ret_deleted; 0: a record of a kind that is not ours. -ENOMEM, -E_LIMIT, -E_MALFORMED,
 * -E_TRUNCATED, -E_UNSUPPORTED_VERSION: nothing to free. */
NODISCARD int txn_record_read(const struct record_view *rec, struct arena *a, struct span *ret_id,
                              bool *ret_deleted, struct txn_value *ret_v);
