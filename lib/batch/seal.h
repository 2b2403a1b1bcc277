/* seal.h - finishes an open batch: compresses, writes the header, computes the CRC.
 * Any thread; no allocation: dst is the caller's (cap >= BATCH_HEADER_LEN + codec_bound). */
#pragma once
#include "accel/codec.h"
#include "lib/batch/build.h"

struct seal_opts {
    enum codec_id codec;
    int level;
    int64_t producer_id;    /* -1: none */
    int16_t producer_epoch; /* -1 */
    int32_t base_sequence;  /* -1 */
    uint16_t attributes;    /* extra bits: transactional, control, log append time */
};
/* Seals b, which has at least one record. With CODEC_NONE, or when compression does not make it
 * smaller (or does not fit dst), the batch is finished in place, uncompressed, and *ret points into
 * b->buf; otherwise into dst. Base offset 0, leader epoch -1. b takes no more records; init starts
 * the next batch. 0, or -E_UNSUPPORTED_CODEC, -ENOMEM from the codec: b is as before. codecs and
 * dst may be NULL with CODEC_NONE. */
NODISCARD int batch_seal(struct batch_builder *b, struct codec_ctx *codecs,
                         const struct seal_opts *opts, uint8_t *dst, size_t dst_cap,
                         struct span *ret);
/* Seals b whose records were compressed by somebody else: `len` bytes, fewer than before, stand at
 * b->buf + BATCH_HEADER_LEN now. opts->codec says how. */
struct span batch_seal_packed(struct batch_builder *b, const struct seal_opts *opts, uint32_t len);
/* Largest size of batch_recode's result for `records_len` bytes of plain records. */
size_t batch_recode_bound(enum codec_id codec, uint32_t records_len);
/* The batch with this header (BATCH_HEADER_LEN bytes) and these plain records in another codec,
 * also when that makes it larger: all but codec, length and CRC stays. `dst` must not overlap
 * either. Bytes written, or -E_LIMIT (dst_cap), -E_UNSUPPORTED_CODEC, -ENOMEM. */
NODISCARD int64_t batch_recode(struct codec_ctx *codecs, const uint8_t *header, struct span records,
                               enum codec_id codec, int level, uint8_t *dst, size_t dst_cap);
/* Recompute and store the CRC after attributes or timestamps were changed (LogAppendTime). */
void batch_recrc(uint8_t *batch);
