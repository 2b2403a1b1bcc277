/* accel_int.h - between the files of accel/: the chosen checksum, and what each codec provides. */
#pragma once
#include "accel/codec.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t crc32c_fn(uint32_t crc, const void *p, size_t len);
/* Set by accel_init before threads start; the scalar twin until then. */
extern crc32c_fn *crc32c_impl;

/* What accel_init decides from the CPU; a pure function, so that tests can ask about other CPUs. */
struct accel_choice {
    crc32c_fn *crc32c;
    const char *crc32c_text, *gzip_text;
};
struct accel_choice accel_choose(bool has_sse42, bool has_pclmul, bool force_soft);

/* One codec. `state` is what create made; NULL create means the codec keeps none. dst_cap and
 * src_len are at most CODEC_LEN_MAX. */
enum { CODEC_LEN_MAX = INT32_MAX };
struct codec_ops {
    const char *name;
    int (*create)(void **ret_state);
    void (*destroy)(void *state);
    size_t (*bound)(size_t src_len);
    int64_t (*compress)(void *state, int level, const uint8_t *src, size_t src_len, uint8_t *dst,
                        size_t dst_cap);
    int64_t (*decompress)(void *state, const uint8_t *src, size_t src_len, uint8_t *dst,
                          size_t dst_cap);
};
extern const struct codec_ops codec_gzip, codec_snappy, codec_lz4, codec_zstd;
