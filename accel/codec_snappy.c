/* codec_snappy.c - snappy in the two framings that Kafka clients use.
 *
 * xerial (Java, written by us):
 *     82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | int32 version 1 | int32 compatible with 1
 *     { int32 length | raw snappy block of that length }...        all big-endian
 * A further header in place of a length starts the next stream (SnappyInputStream reads on).
 * raw (librdkafka): one snappy block, nothing around it. A raw block never starts like the magic:
 * its first byte 0x82 would begin a length varint, and 'S' ends it at 0x2982 = 10,626 bytes; then
 * 'N' (0x4e) would be a copy before any literal, which is invalid. */
#include "accel/accel_int.h"
#include "lib/base/span.h"
#include <snappy-c.h>

enum { XERIAL_HEADER_LEN = 16, XERIAL_BLOCK_LEN = 32 * 1024, XERIAL_VERSION = 1 };

static const uint8_t xerial_header[XERIAL_HEADER_LEN] = {
    0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, XERIAL_VERSION, 0, 0, 0, XERIAL_VERSION};

static size_t snap_bound(size_t src_len)
{
    size_t blocks = src_len / XERIAL_BLOCK_LEN + 1;
    return XERIAL_HEADER_LEN + blocks * (4 + snappy_max_compressed_length(XERIAL_BLOCK_LEN));
}

static int64_t snap_compress(void *state, int level, const uint8_t *src, size_t src_len,
                             uint8_t *dst, size_t dst_cap)
{
    (void)state;
    (void)level; /* snappy has none */
    if (dst_cap < XERIAL_HEADER_LEN)
        return -E_LIMIT;
    memcpy(dst, xerial_header, XERIAL_HEADER_LEN);
    size_t len = XERIAL_HEADER_LEN;
    while (src_len > 0) {
        size_t n = src_len < XERIAL_BLOCK_LEN ? src_len : XERIAL_BLOCK_LEN;
        if (dst_cap - len < 4)
            return -E_LIMIT;
        size_t packed = dst_cap - len - 4; /* snappy asks for its worst case */
        if (snappy_compress((const char *)src, n, (char *)dst + len + 4, &packed) != SNAPPY_OK)
            return -E_LIMIT;
        store_be32(dst + len, (uint32_t)packed);
        len += 4 + packed;
        src += n;
        src_len -= n;
    }
    return (int64_t)len;
}

/* One raw block: bytes written, or -E_LIMIT, -E_CORRUPT_BATCH. */
static int64_t block_decompress(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_cap)
{
    size_t len;
    if (snappy_uncompressed_length((const char *)src, src_len, &len) != SNAPPY_OK)
        return -E_CORRUPT_BATCH;
    if (len > dst_cap)
        return -E_LIMIT;
    if (snappy_uncompress((const char *)src, src_len, (char *)dst, &len) != SNAPPY_OK)
        return -E_CORRUPT_BATCH;
    return (int64_t)len;
}

/* Whether a xerial header starts here that this version can read. */
static bool is_xerial_header(const uint8_t *p, size_t len)
{
    return len >= XERIAL_HEADER_LEN && memcmp(p, xerial_header, 8) == 0 &&
           (int32_t)load_be32(p + 12) <= XERIAL_VERSION;
}

static int64_t snap_decompress(void *state, const uint8_t *src, size_t src_len, uint8_t *dst,
                               size_t dst_cap)
{
    (void)state;
    size_t out = 0;
    if (src_len < 8 || memcmp(src, xerial_header, 8) != 0)
        return block_decompress(src, src_len, dst, dst_cap);
    while (src_len > 0) {
        if (src[0] == xerial_header[0]) { /* as a length it would be negative */
            if (!is_xerial_header(src, src_len))
                return -E_CORRUPT_BATCH;
            src += XERIAL_HEADER_LEN;
            src_len -= XERIAL_HEADER_LEN;
            continue;
        }
        if (src_len < 4 || load_be32(src) > src_len - 4)
            return -E_CORRUPT_BATCH;
        size_t n = load_be32(src);
        int64_t rc = block_decompress(src + 4, n, dst + out, dst_cap - out);
        if (rc < 0)
            return rc;
        out += (size_t)rc;
        src += 4 + n;
        src_len -= 4 + n;
    }
    return (int64_t)out;
}

const struct codec_ops codec_snappy = {"snappy",   NULL,          NULL,
                                       snap_bound, snap_compress, snap_decompress};
