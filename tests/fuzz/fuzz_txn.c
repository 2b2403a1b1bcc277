/* fuzz_txn.c - what transactions read from disks: a record of __transaction_state (a key's length,
 * key, value), a .txnindex file, a control batch. The first byte says which. What is accepted must
 * survive being written again. */
#include "dataplane/kafka/txn/txn_record.h"
#include "dataplane/store/txn_index.h"
#include "lib/base/assert.h"
#include "lib/batch/control.h"
#include <stdlib.h>
#include <string.h>

static void record(const uint8_t *p, size_t len)
{
    struct txn_value v, again;
    struct span id, id2;
    struct arena a;
    bool deleted;
    if (len == 0)
        return;
    uint32_t n = p[0] < len - 1 ? p[0] : (uint32_t)len - 1;
    struct record_view rec = {.key = span_of(p + 1, n),
                              .value = span_of(p + 1 + n, (uint32_t)len - 1 - n)};
    if (rec.value.len == 0)
        rec.value = SPAN_NULL;
    arena_init(&a, 64u << 20);
    int rc = txn_record_read(&rec, &a, &id, &deleted, &v);
    if (rc == 1 && !deleted) {
        struct record_view out = {.key = txn_record_key(&a, id), .value = txn_record_value(&a, &v)};
        ASSERT(!span_is_null(out.key));
        ASSERT(!span_is_null(out.value));
        rc = txn_record_read(&out, &a, &id2, &deleted, &again);
        ASSERT(rc == 1);
        ASSERT(span_eq(id, id2));
        ASSERT(again.state == v.state);
        ASSERT(again.producer_id == v.producer_id);
        ASSERT(again.state == TXN_EMPTY || again.parts.part_cnt == v.parts.part_cnt);
        txn_value_fini(&again);
        txn_value_fini(&v);
    }
    arena_fini(&a);
}

static void index_file(const uint8_t *p, size_t len)
{
    struct aborted_txns t = {0};
    uint8_t *out;
    size_t out_len;
    if (aborted_decode(&t, INT64_MAX, p, len) == 0) {
        int rc = aborted_encode(&t, 0, INT64_MAX, &out, &out_len);
        ASSERT(rc == 0);
        ASSERT(out_len <= len);
        ASSERT(out_len == 0 || memcmp(out, p, out_len) == 0);
        free(out);
        (void)aborted_find(&t, 0, INT64_MAX); /* looks at every entry */
    }
    aborted_fini(&t);
}

static void marker(const uint8_t *p, size_t len)
{
    struct batch_marker m, again;
    uint8_t out[MARKER_BATCH_MAX];
    if (marker_read(p, (uint32_t)len, &m) < 0)
        return;
    uint32_t n = marker_write(&m, out);
    int rc = marker_read(out, n, &again);
    ASSERT(rc == 0);
    ASSERT(again.commit == m.commit);
    ASSERT(again.coordinator_epoch == m.coordinator_epoch);
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    size_t len = 1;
    buf[0] = (uint8_t)i;
    if (i == 0) {
        struct txn_value v = {.state = TXN_PREPARE_ABORT,
                              .producer_id = 5,
                              .prev_producer_id = 4,
                              .next_producer_id = 6,
                              .epoch = 7,
                              .client_version = 2,
                              .timeout_ms = 60000};
        struct arena a;
        arena_init(&a, 1 << 20);
        int rc = txn_parts_add(&v.parts, span_str("topic"), 3);
        ASSERT(rc == 0);
        struct span k = txn_record_key(&a, span_str("id")), val = txn_record_value(&a, &v);
        buf[len++] = (uint8_t)k.len;
        memcpy(buf + len, k.p, k.len);
        memcpy(buf + len + k.len, val.p, val.len);
        len += k.len + val.len;
        txn_value_fini(&v);
        arena_fini(&a);
    } else if (i == 1) {
        struct aborted_txns t = {0};
        uint8_t *out;
        size_t n;
        for (int k = 0; k < 3; k++) {
            struct aborted_txn one = {7 + k, 10 * k, 10 * k + 5, 10 * k + 6};
            int rc = aborted_add(&t, &one);
            ASSERT(rc == 0);
        }
        int rc = aborted_encode(&t, 0, INT64_MAX, &out, &n);
        ASSERT(rc == 0);
        memcpy(buf + len, out, n);
        len += n;
        free(out);
        aborted_fini(&t);
    } else if (i == 2) {
        struct batch_marker m = {.commit = true, .producer_id = 5, .producer_epoch = 2};
        len += marker_write(&m, buf + len);
    } else {
        return 0;
    }
    ASSERT(len <= cap);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    switch (data[0] % 3) {
    case 0:
        record(data + 1, len - 1);
        break;
    case 1:
        index_file(data + 1, len - 1);
        break;
    default:
        marker(data + 1, len - 1);
        break;
    }
    return 0;
}
