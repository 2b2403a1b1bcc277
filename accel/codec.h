/* codec.h - what every compressor provides. Ids are Kafka's (attributes bits 0..2).
 *
 * A struct codec_ctx holds the reused state of all codecs (about 2 MiB); one per thread (one per
 * shard). All functions are pure over bytes and never block. Memory is taken in codec_ctx_create;
 * three libraries still allocate inside a call: snappy its hash table per compression (<= 64 KiB),
 * lz4 its block buffers when a client's frame has larger blocks than any before (<= 8 MiB), zstd
 * and lz4 HC their tables when a level other than the default is first used. A failure of theirs is
 * -ENOMEM.
 *
 * Decompression is bounded by dst_cap: output past it is -E_LIMIT (decompression bombs), never a
 * larger buffer. Damaged input is -E_CORRUPT_BATCH, and so are bytes behind the end of the stream:
 * clients differ in what they make of those.
 *   gzip    RFC 1952 through ISA-L; several members are read as one stream, as Java does
 *   snappy  written in Java's xerial block framing; read in that and as librdkafka's raw block
 *   lz4     one LZ4 frame; written with independent 64 KiB blocks, no checksums, no content size
 *   zstd    standard frames, with or without content size */
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

/* Largest compressed size of src_len bytes; src_len itself for CODEC_NONE. */
size_t codec_bound(enum codec_id id, size_t src_len);
/* Bytes written to dst (> 0), or -E_LIMIT when dst_cap is too small (codec_bound always suffices),
 * -E_UNSUPPORTED_CODEC, -ENOMEM. level 0 or below means the codec's default (gzip 1, zstd 3, lz4
 * fast); levels above the codec's highest (gzip 3, lz4 12, zstd 22) mean that. Without CODEC_NONE.
 */
NODISCARD int64_t codec_compress(struct codec_ctx *ctx, enum codec_id id, int level,
                                 const void *src, size_t src_len, void *dst, size_t dst_cap);
/* Bytes written to dst, or -E_LIMIT, -E_CORRUPT_BATCH, -E_UNSUPPORTED_CODEC, -ENOMEM. What is in
 * dst after an error is undefined. */
NODISCARD int64_t codec_decompress(struct codec_ctx *ctx, enum codec_id id, const void *src,
                                   size_t src_len, void *dst, size_t dst_cap);
