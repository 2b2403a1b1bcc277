/* seal.c - header, compression, CRC. */
#include "lib/batch/seal.h"
#include "accel/crc32c.h"
#include "lib/base/assert.h"
#include "lib/batch/layout.h"

void batch_recrc(uint8_t *batch)
{
    store_be32(batch + BATCH_CRC,
               crc32c(0, batch + BATCH_CRC_START, batch_total_len(batch) - BATCH_CRC_START));
}

static void header_write(uint8_t *p, uint32_t total_len, enum codec_id codec,
                         const struct batch_builder *b, const struct seal_opts *opts)
{
    uint16_t attributes = (uint16_t)((opts->attributes & ~BATCH_ATTR_CODEC) | codec);
    store_be64(p + BATCH_BASE_OFFSET, 0);
    store_be32(p + BATCH_LENGTH, total_len - BATCH_LOG_OVERHEAD);
    store_be32(p + BATCH_LEADER_EPOCH, (uint32_t)-1);
    p[BATCH_MAGIC] = 2;
    store_be16(p + BATCH_ATTRIBUTES, attributes);
    store_be32(p + BATCH_LAST_OFFSET_DELTA, (uint32_t)(b->record_cnt - 1));
    store_be64(p + BATCH_BASE_TIMESTAMP, (uint64_t)b->base_timestamp);
    store_be64(p + BATCH_MAX_TIMESTAMP, (uint64_t)b->max_timestamp);
    store_be64(p + BATCH_PRODUCER_ID, (uint64_t)opts->producer_id);
    store_be16(p + BATCH_PRODUCER_EPOCH, (uint16_t)opts->producer_epoch);
    store_be32(p + BATCH_BASE_SEQUENCE, (uint32_t)opts->base_sequence);
    store_be32(p + BATCH_RECORD_COUNT, (uint32_t)b->record_cnt);
    batch_recrc(p);
}

int batch_seal(struct batch_builder *b, struct codec_ctx *codecs, const struct seal_opts *opts,
               uint8_t *dst, size_t dst_cap, struct span *ret)
{
    ASSERT(b->record_cnt > 0);
    uint32_t plain_len = b->len - BATCH_HEADER_LEN;
    if (opts->codec != CODEC_NONE && dst_cap > BATCH_HEADER_LEN) {
        int64_t rc = codec_compress(codecs, opts->codec, opts->level, b->buf + BATCH_HEADER_LEN,
                                    plain_len, dst + BATCH_HEADER_LEN, dst_cap - BATCH_HEADER_LEN);
        if (rc < 0 && rc != -E_LIMIT)
            return (int)rc;
        if (rc > 0 && rc < plain_len) {
            uint32_t len = BATCH_HEADER_LEN + (uint32_t)rc;
            header_write(dst, len, opts->codec, b, opts);
            *ret = span_of(dst, len);
            return 0;
        }
    }
    header_write(b->buf, b->len, CODEC_NONE, b, opts);
    *ret = span_of(b->buf, b->len);
    return 0;
}

struct span batch_seal_packed(struct batch_builder *b, const struct seal_opts *opts, uint32_t len)
{
    ASSERT(b->record_cnt > 0);
    ASSERT(len > 0 && len < b->len - BATCH_HEADER_LEN);
    header_write(b->buf, BATCH_HEADER_LEN + len, opts->codec, b, opts);
    return span_of(b->buf, BATCH_HEADER_LEN + len);
}

size_t batch_recode_bound(enum codec_id codec, uint32_t records_len)
{
    return BATCH_HEADER_LEN + codec_bound(codec, records_len);
}

int64_t batch_recode(struct codec_ctx *codecs, const uint8_t *header, struct span records,
                     enum codec_id codec, int level, uint8_t *dst, size_t dst_cap)
{
    int64_t len = records.len;
    if (dst_cap < BATCH_HEADER_LEN)
        return -E_LIMIT;
    if (codec != CODEC_NONE) {
        len = codec_compress(codecs, codec, level, records.p, records.len, dst + BATCH_HEADER_LEN,
                             dst_cap - BATCH_HEADER_LEN);
        if (len < 0)
            return len;
    } else if (records.len > dst_cap - BATCH_HEADER_LEN) {
        return -E_LIMIT;
    } else {
        memcpy(dst + BATCH_HEADER_LEN, records.p, records.len);
    }
    int64_t total = BATCH_HEADER_LEN + len;
    if (total > INT32_MAX)
        return -E_LIMIT;
    memcpy(dst, header, BATCH_HEADER_LEN);
    uint16_t attributes = batch_attributes(header) & (uint16_t)~BATCH_ATTR_CODEC;
    store_be16(dst + BATCH_ATTRIBUTES, (uint16_t)(attributes | codec));
    store_be32(dst + BATCH_LENGTH, (uint32_t)(total - BATCH_LOG_OVERHEAD));
    batch_recrc(dst);
    return total;
}
