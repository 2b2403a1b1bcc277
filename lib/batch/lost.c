/* lost.c - see lost.h. */
#include "lib/batch/lost.h"
#include "lib/base/varint.h"
#include "lib/batch/seal.h"

/* A record behind its length: attributes, timestamp delta, offset delta, key length and key, the
 * length of the value, the value, header count. */
enum { KEY_LEN = 4, RECORD_FIXED = 4 + KEY_LEN + 1, LONG = VARINT_MAX };

/* A varint in all the bytes that one may have, so that the length of what follows does not change
 * its own. */
static uint8_t *varint_put_long(uint8_t *p, int32_t v)
{
    uint32_t u = zigzag32(v);
    for (int i = 0; i < LONG - 1; i++, u >>= 7)
        *p++ = (uint8_t)((u & 0x7f) | 0x80);
    *p++ = (uint8_t)u;
    return p;
}

/* One record of exactly `len` bytes. */
static void record_put(uint8_t *p, uint32_t len, const char *text)
{
    bool is_short = len < 2 * LONG + RECORD_FIXED;
    uint32_t lengths = is_short ? 2 : 2 * LONG, value = len - lengths - RECORD_FIXED;
    int32_t rest = (int32_t)(len - lengths / 2);
    if (is_short)
        *p++ = (uint8_t)zigzag32(rest);
    else
        p = varint_put_long(p, rest);
    *p++ = 0; /* attributes */
    *p++ = 0; /* timestamp delta */
    *p++ = 0; /* offset delta */
    *p++ = (uint8_t)zigzag32(KEY_LEN);
    store_be16(p, 0);
    store_be16(p + 2, BATCH_LOST_TYPE);
    p += KEY_LEN;
    if (is_short)
        *p++ = (uint8_t)zigzag32((int32_t)value);
    else
        p = varint_put_long(p, (int32_t)value);
    size_t n = strlen(text) < value ? strlen(text) : value;
    memcpy(p, text, n);
    memset(p + n, ' ', value - n);
    p[value] = 0; /* headers */
}

int batch_lost_build(uint8_t *dst, uint64_t len, const struct batch_lost *l)
{
    if (len < BATCH_HEADER_LEN || len > INT32_MAX || l->from < 0 || l->to <= l->from ||
        l->to - l->from > INT32_MAX)
        return -E_LIMIT;
    uint32_t body = (uint32_t)len - BATCH_HEADER_LEN;
    bool has_record = body >= 2 + RECORD_FIXED;
    store_be64(dst + BATCH_BASE_OFFSET, (uint64_t)l->from);
    store_be32(dst + BATCH_LENGTH, (uint32_t)len - BATCH_LOG_OVERHEAD);
    store_be32(dst + BATCH_LEADER_EPOCH, (uint32_t)l->leader_epoch);
    dst[BATCH_MAGIC] = 2;
    store_be16(dst + BATCH_ATTRIBUTES, BATCH_ATTR_CONTROL);
    store_be32(dst + BATCH_LAST_OFFSET_DELTA, (uint32_t)(l->to - l->from - 1));
    store_be64(dst + BATCH_BASE_TIMESTAMP, (uint64_t)-1);
    store_be64(dst + BATCH_MAX_TIMESTAMP, (uint64_t)-1);
    store_be64(dst + BATCH_PRODUCER_ID, (uint64_t)-1);
    store_be16(dst + BATCH_PRODUCER_EPOCH, (uint16_t)-1);
    store_be32(dst + BATCH_BASE_SEQUENCE, (uint32_t)BATCH_LOST_SEQUENCE);
    store_be32(dst + BATCH_RECORD_COUNT, has_record);
    if (has_record)
        record_put(dst + BATCH_HEADER_LEN, body, l->text);
    else
        memset(dst + BATCH_HEADER_LEN, 0, body);
    batch_recrc(dst);
    return 0;
}
