/* codec_gzip.c - gzip by ISA-L. Compression streams through one reused isal_zstream; decompression
 * has all input at hand, so it uses the one-shot inflate, which writes straight to dst. */
#include "accel/accel_int.h"
#include "lib/base/assert.h"
#include <isa-l/igzip_lib.h>

enum { LEVEL_DEFAULT = 1, LEVEL_MAX = 3, LEVEL_BUF_LEN = ISAL_DEF_LVL3_LARGE };
static_assert((int)LEVEL_BUF_LEN >= (int)(ISAL_DEF_LVL1_LARGE), "one buffer serves all levels");
static_assert((int)LEVEL_BUF_LEN >= (int)(ISAL_DEF_LVL2_LARGE), "one buffer serves all levels");

struct gzip_state {
    struct isal_zstream deflate;
    struct inflate_state inflate;
    uint8_t level_buf[LEVEL_BUF_LEN];
};

static void gzip_destroy(void *state)
{
    free(state);
}

static int gzip_create(void **ret_state)
{
    struct gzip_state *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return -ENOMEM;
    isal_deflate_init(&g->deflate);
    isal_inflate_init(&g->inflate);
    *ret_state = g;
    return 0;
}

/* igzip falls back to stored blocks (5 bytes each) where Huffman coding would grow them; the rest
 * is for headers of the blocks where it does not notice. */
static size_t gzip_bound(size_t src_len)
{
    return src_len + src_len / 16 + 512;
}

static int64_t gzip_compress(void *state, int level, const uint8_t *src, size_t src_len,
                             uint8_t *dst, size_t dst_cap)
{
    struct gzip_state *g = state;
    struct isal_zstream *z = &g->deflate;
    isal_deflate_reset(z);
    z->level = level <= 0 ? LEVEL_DEFAULT : level > LEVEL_MAX ? LEVEL_MAX : (uint32_t)level;
    z->level_buf = g->level_buf;
    z->level_buf_size = sizeof(g->level_buf);
    z->gzip_flag = IGZIP_GZIP;
    z->flush = NO_FLUSH;
    z->end_of_stream = 1;
    z->next_in = (uint8_t *)(uintptr_t)src; /* only read; its type lacks const */
    z->avail_in = (uint32_t)src_len;
    z->next_out = dst;
    z->avail_out = (uint32_t)dst_cap;
    int rc = isal_deflate(z);
    ASSERT(rc == COMP_OK); /* every other result is about our own parameters */
    if (z->internal_state.state != ZSTATE_END)
        return -E_LIMIT;
    return z->total_out;
}

static int64_t gzip_decompress(void *state, const uint8_t *src, size_t src_len, uint8_t *dst,
                               size_t dst_cap)
{
    struct gzip_state *g = state;
    struct inflate_state *z = &g->inflate;
    size_t out = 0;
    while (src_len > 0) { /* one member per round */
        if (src[0] != 0x1f)
            return -E_CORRUPT_BATCH; /* neither gzip nor a further member */
        isal_inflate_reset(z);
        z->crc_flag = ISAL_GZIP;
        z->next_in = (uint8_t *)(uintptr_t)src;
        z->avail_in = (uint32_t)src_len;
        z->next_out = dst + out;
        z->avail_out = (uint32_t)(dst_cap - out);
        int rc = isal_inflate_stateless(z);
        if (rc == ISAL_OUT_OVERFLOW)
            return -E_LIMIT;
        if (rc != ISAL_DECOMP_OK || z->block_state != ISAL_BLOCK_FINISH)
            return -E_CORRUPT_BATCH;
        ASSERT(z->avail_in < src_len); /* or the loop would not end */
        out = dst_cap - z->avail_out;
        src += src_len - z->avail_in;
        src_len = z->avail_in;
    }
    return (int64_t)out;
}

const struct codec_ops codec_gzip = {"gzip",     gzip_create,   gzip_destroy,
                                     gzip_bound, gzip_compress, gzip_decompress};
