/* kafka_bytes.c - see kafka_bytes.h. */
#include "tests/support/kafka_bytes.h"
#include "lib/batch/build.h"
#include "lib/batch/layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "kafka_bytes: %s\n", err_text(rc));
        abort();
    }
}

static void *must_alloc(size_t len)
{
    void *p = calloc(1, len > 0 ? len : 1);
    if (p == NULL)
        abort();
    return p;
}

uint8_t *request_bytes(int16_t key, int16_t version, int32_t correlation, write_fn *write,
                       const void *m, size_t *ret_len)
{
    struct wire_request_header h = {.api_key = key,
                                    .api_version = version,
                                    .correlation_id = correlation,
                                    .client_id = span_str("test"),
                                    .api = wire_api_find(key)};
    size_t cap = 64u << 20;
    struct wire_writer w;
    wire_writer_init_count(&w);
    wire_request_header_write(&w, &h);
    write(&w, version, m);
    cap = w.len;
    uint8_t *p = must_alloc(4 + cap);
    store_be32(p, (uint32_t)cap);
    wire_writer_init(&w, p + 4, cap);
    wire_request_header_write(&w, &h);
    write(&w, version, m);
    must(w.err);
    *ret_len = 4 + cap;
    return p;
}

struct span make_batch(uint32_t n, uint32_t value_len, const struct seal_opts *opts)
{
    static const struct seal_opts plain = {
        .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    uint32_t cap = BATCH_HEADER_LEN + n * (value_len + 32);
    uint8_t *buf = must_alloc(cap), *value = must_alloc(value_len);
    memset(value, 'x', value_len);
    struct batch_builder b;
    batch_builder_init(&b, buf, cap);
    for (uint32_t i = 0; i < n; i++) {
        struct rec r = {.value = span_of(value, value_len), .timestamp_ms = INT64_C(1700000000000)};
        must(batch_builder_add(&b, &r));
    }
    struct span out;
    must(batch_seal(&b, NULL, opts != NULL ? opts : &plain, NULL, 0, &out));
    free(value);
    return out; /* in place: buf */
}
