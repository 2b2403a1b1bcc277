/* codec_zstd.c - zstd with reused contexts. Decompression is the one-shot call, which needs no
 * window buffer of its own, whatever the frame asks for. */
#include "accel/accel_int.h"
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { LEVEL_DEFAULT = 3, WARM_UP_LEN = 1 << 20 };

struct zstd_state {
    ZSTD_CCtx *cctx;
    ZSTD_DCtx *dctx;
};

static size_t zstd_bound(size_t src_len)
{
    return ZSTD_compressBound(src_len);
}

static int64_t zstd_rc(size_t rc)
{
    switch (ZSTD_getErrorCode(rc)) {
    case ZSTD_error_dstSize_tooSmall:
        return -E_LIMIT;
    case ZSTD_error_memory_allocation:
        return -ENOMEM;
    default:
        return -E_CORRUPT_BATCH;
    }
}

static int64_t zstd_compress(void *state, int level, const uint8_t *src, size_t src_len,
                             uint8_t *dst, size_t dst_cap)
{
    struct zstd_state *s = state;
    level = level <= 0 ? LEVEL_DEFAULT : level > ZSTD_maxCLevel() ? ZSTD_maxCLevel() : level;
    size_t rc = ZSTD_compressCCtx(s->cctx, dst, dst_cap, src, src_len, level);
    return ZSTD_isError(rc) ? zstd_rc(rc) : (int64_t)rc;
}

static int64_t zstd_decompress(void *state, const uint8_t *src, size_t src_len, uint8_t *dst,
                               size_t dst_cap)
{
    struct zstd_state *s = state;
    size_t rc = ZSTD_decompressDCtx(s->dctx, dst, dst_cap, src, src_len);
    return ZSTD_isError(rc) ? zstd_rc(rc) : (int64_t)rc;
}

static void zstd_destroy(void *state)
{
    struct zstd_state *s = state;
    ZSTD_freeCCtx(s->cctx);
    ZSTD_freeDCtx(s->dctx);
    free(s);
}

static int zstd_create(void **ret_state)
{
    int rc = -ENOMEM;
    struct zstd_state *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->cctx = ZSTD_createCCtx();
    s->dctx = ZSTD_createDCtx();
    /* Compressing a full-size batch once makes the library take its tables now; smaller ones fit.
     */
    uint8_t *plain = calloc(2, WARM_UP_LEN);
    if (s->cctx != NULL && s->dctx != NULL && plain != NULL) {
        int64_t len = zstd_compress(s, 0, plain, WARM_UP_LEN, plain + WARM_UP_LEN, WARM_UP_LEN);
        rc = len < 0 ? (int)len : 0;
    }
    free(plain);
    if (rc < 0) {
        zstd_destroy(s);
        return rc;
    }
    *ret_state = s;
    return 0;
}

const struct codec_ops codec_zstd = {"zstd",     zstd_create,   zstd_destroy,
                                     zstd_bound, zstd_compress, zstd_decompress};
