/* codec_lz4.c - the LZ4 frame format, one frame per batch as Java's KafkaLZ4BlockInputStream reads
 * it: independent blocks. Linked blocks are read too (other clients write them). */
#include "accel/accel_int.h"
#include "lib/base/span.h"
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

enum { LEVEL_MAX = 12 };
#define LZ4_MAGIC_LE UINT32_C(0x184D2204)

struct lz4_state {
    LZ4F_cctx *cctx;
    LZ4F_dctx *dctx;
};

static LZ4F_preferences_t prefs_of(int level)
{
    return (LZ4F_preferences_t){
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
        .compressionLevel = level <= 0          ? 0
                            : level > LEVEL_MAX ? LEVEL_MAX
                                                : level,
        .autoFlush = 1, /* with independent blocks: no copy into a buffer of the library's */
    };
}

static int64_t lz4_rc(size_t rc, int otherwise)
{
    return strcmp(LZ4F_getErrorName(rc), "ERROR_allocation_failed") == 0 ? -ENOMEM : otherwise;
}

static size_t lz4_bound(size_t src_len)
{
    LZ4F_preferences_t prefs = prefs_of(0);
    return LZ4F_compressFrameBound(src_len, &prefs) + LZ4F_HEADER_SIZE_MAX;
}

static int64_t lz4_compress(void *state, int level, const uint8_t *src, size_t src_len,
                            uint8_t *dst, size_t dst_cap)
{
    struct lz4_state *s = state;
    LZ4F_preferences_t prefs = prefs_of(level);
    LZ4F_compressOptions_t opts = {.stableSrc = 1};
    size_t len = 0;
    size_t rc = LZ4F_compressBegin(s->cctx, dst, dst_cap, &prefs);
    if (LZ4F_isError(rc))
        return lz4_rc(rc, -E_LIMIT);
    len += rc;
    rc = LZ4F_compressUpdate(s->cctx, dst + len, dst_cap - len, src, src_len, &opts);
    if (LZ4F_isError(rc))
        return lz4_rc(rc, -E_LIMIT);
    len += rc;
    rc = LZ4F_compressEnd(s->cctx, dst + len, dst_cap - len, &opts);
    if (LZ4F_isError(rc))
        return lz4_rc(rc, -E_LIMIT);
    return (int64_t)(len + rc);
}

static int64_t lz4_decompress(void *state, const uint8_t *src, size_t src_len, uint8_t *dst,
                              size_t dst_cap)
{
    struct lz4_state *s = state;
    size_t in = 0, out = 0;
    uint8_t spill; /* where output past dst_cap shows itself */
    uint32_t magic;
    if (src_len < sizeof(magic))
        return -E_CORRUPT_BATCH;
    memcpy(&magic, src, sizeof(magic));
    if (le32toh(magic) != LZ4_MAGIC_LE)
        return -E_CORRUPT_BATCH; /* the library would skip a skippable frame; consumers do not */
    LZ4F_resetDecompressionContext(s->dctx);
    for (;;) {
        bool full = out == dst_cap;
        size_t produced = full ? 1 : dst_cap - out, consumed = src_len - in;
        size_t rc = LZ4F_decompress(s->dctx, full ? &spill : dst + out, &produced, src + in,
                                    &consumed, NULL);
        if (LZ4F_isError(rc))
            return lz4_rc(rc, -E_CORRUPT_BATCH);
        if (full && produced > 0)
            return -E_LIMIT;
        in += consumed;
        out += produced;
        if (rc == 0) /* the frame is complete */
            return in == src_len ? (int64_t)out : -E_CORRUPT_BATCH;
        if (consumed == 0 && produced == 0)
            return -E_CORRUPT_BATCH; /* it wants bytes that are not there */
    }
}

static void lz4_destroy(void *state)
{
    struct lz4_state *s = state;
    LZ4F_freeCompressionContext(s->cctx);
    LZ4F_freeDecompressionContext(s->dctx);
    free(s);
}

static int lz4_create(void **ret_state)
{
    struct lz4_state *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    if (LZ4F_isError(LZ4F_createCompressionContext(&s->cctx, LZ4F_VERSION)) ||
        LZ4F_isError(LZ4F_createDecompressionContext(&s->dctx, LZ4F_VERSION))) {
        lz4_destroy(s);
        return -ENOMEM;
    }
    /* One round trip makes the library take the memory that ordinary use needs. */
    static const uint8_t plain[256];
    uint8_t packed[512], back[256];
    int64_t len = lz4_compress(s, 0, plain, sizeof(plain), packed, sizeof(packed));
    if (len > 0)
        len = lz4_decompress(s, packed, (size_t)len, back, sizeof(back));
    if (len < 0) {
        lz4_destroy(s);
        return (int)len;
    }
    *ret_state = s;
    return 0;
}

const struct codec_ops codec_lz4 = {"lz4",     lz4_create,   lz4_destroy,
                                    lz4_bound, lz4_compress, lz4_decompress};
