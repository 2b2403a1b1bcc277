/* codec.h - what every compressor provides. Ids are Kafka's (attributes bits 0..2).
 *
 * A struct codec_ctx holds the reused state of all codecs; one per thread (one per shard). All
 * functions are pure over bytes, never block, and allocate only in codec_ctx_create. Decompression
 * is bounded by dst_cap: output past it is -E_LIMIT (decompression bombs), never a larger buffer.
 * Damaged input is -E_CORRUPT_BATCH. gzip = RFC 1952 through ISA-L; snappy compresses in Java's
 * xerial block framing and reads that and librdkafka's raw block; lz4 = LZ4 frame, independent
 * blocks; zstd = standard frame. */
#pragma once
#include "lib/base/err.h"
#include <stddef.h>
#include <stdint.h>

enum codec_id { CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD, CODEC_CNT };

struct codec_ctx;
NODISCARD int codec_ctx_create(struct codec_ctx **ret_ctx);
void codec_ctx_destroy(struct codec_ctx *ctx);

/* Kafka's name ("gzip") or NULL for an unknown id; and back: -E_UNSUPPORTED_CODEC. */
const char *codec_name(enum codec_id id);
int codec_by_name(const char *name);

/* Largest compressed size of src_len bytes. */
size_t codec_bound(enum codec_id id, size_t src_len);
/* Bytes written to dst (> 0), or -E_LIMIT when dst_cap is too small, -E_UNSUPPORTED_CODEC. level 0
 * means the codec's default (gzip 1, zstd 3, lz4 fast). */
NODISCARD int64_t codec_compress(struct codec_ctx *ctx, enum codec_id id, int level,
                                 const void *src, size_t src_len, void *dst, size_t dst_cap);
/* Bytes written to dst, or -E_LIMIT, -E_CORRUPT_BATCH, -E_UNSUPPORTED_CODEC. */
NODISCARD int64_t codec_decompress(struct codec_ctx *ctx, enum codec_id id, const void *src,
                                   size_t src_len, void *dst, size_t dst_cap);
