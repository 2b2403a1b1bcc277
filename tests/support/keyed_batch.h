/* keyed_batch.h - record batches with keys and values as a test writes them down, in any codec, and
 * the way back. Header only. */
#pragma once
#include "accel/codec.h"
#include "lib/base/assert.h"
#include "lib/base/varint.h"
#include "lib/batch/check.h"
#include "lib/batch/control.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include <stdlib.h>
#include <string.h>

struct kb_rec {
    const char *key, *value; /* NULL: null; a value NULL is a tombstone */
    int64_t ts;
};
struct kb_batch {
    int64_t base;
    const struct kb_rec *recs;
    int32_t cnt;
    enum codec_id codec;
    uint16_t attributes; /* beside the codec */
    int64_t producer_id; /* -1: none */
    int16_t producer_epoch;
    int32_t base_seq;
};

static inline uint8_t *kb_bytes_put(uint8_t *p, const char *s)
{
    int32_t n = s == NULL ? -1 : (int32_t)strlen(s);
    p += varint_put(p, n);
    if (n > 0)
        memcpy(p, s, (size_t)n);
    return p + (n > 0 ? n : 0);
}

/* malloc'd; total length in *ret_len. */
static inline uint8_t *kb_build(const struct kb_batch *b, uint32_t *ret_len)
{
    size_t cap = BATCH_HEADER_LEN + 64;
    int64_t max_ts = -1;
    for (int32_t i = 0; i < b->cnt; i++)
        cap += 64 + (b->recs[i].key ? strlen(b->recs[i].key) : 0) +
               (b->recs[i].value ? strlen(b->recs[i].value) : 0);
    uint8_t *buf = calloc(2, cap), *body = buf == NULL ? NULL : buf + cap;
    ASSERT(buf != NULL);
    uint8_t *p = buf + BATCH_HEADER_LEN;
    for (int32_t i = 0; i < b->cnt; i++) {
        uint8_t *r = body;
        *r++ = 0;
        r += varlong_put(r, b->recs[i].ts - b->recs[0].ts);
        r += varint_put(r, i);
        r = kb_bytes_put(r, b->recs[i].key);
        r = kb_bytes_put(r, b->recs[i].value);
        r += varint_put(r, 0);
        p += varint_put(p, (int32_t)(r - body));
        memcpy(p, body, (size_t)(r - body));
        p += r - body;
        max_ts = b->recs[i].ts > max_ts ? b->recs[i].ts : max_ts;
    }
    uint32_t len = (uint32_t)(p - buf);
    store_be64(buf, (uint64_t)b->base);
    store_be32(buf + BATCH_LENGTH, len - BATCH_LOG_OVERHEAD);
    buf[BATCH_MAGIC] = 2;
    store_be16(buf + BATCH_ATTRIBUTES, b->attributes);
    store_be32(buf + BATCH_LAST_OFFSET_DELTA, (uint32_t)b->cnt - 1);
    store_be64(buf + BATCH_BASE_TIMESTAMP, (uint64_t)b->recs[0].ts);
    store_be64(buf + BATCH_MAX_TIMESTAMP, (uint64_t)max_ts);
    store_be64(buf + BATCH_PRODUCER_ID, (uint64_t)b->producer_id);
    store_be16(buf + BATCH_PRODUCER_EPOCH, (uint16_t)b->producer_epoch);
    store_be32(buf + BATCH_BASE_SEQUENCE, (uint32_t)b->base_seq);
    store_be32(buf + BATCH_RECORD_COUNT, (uint32_t)b->cnt);
    batch_recrc(buf);
    if (b->codec != CODEC_NONE) {
        struct codec_ctx *codecs;
        int rc = codec_ctx_create(&codecs);
        ASSERT(rc == 0);
        size_t out_cap = batch_recode_bound(b->codec, len - BATCH_HEADER_LEN);
        uint8_t *out = malloc(out_cap);
        ASSERT(out != NULL);
        int64_t n =
            batch_recode(codecs, buf, span_of(buf + BATCH_HEADER_LEN, len - BATCH_HEADER_LEN),
                         b->codec, 0, out, out_cap);
        ASSERT(n > 0);
        codec_ctx_destroy(codecs);
        free(buf);
        buf = out;
        len = (uint32_t)n;
    }
    *ret_len = len;
    return buf;
}
