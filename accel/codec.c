/* codec.c - Kafka's codec ids to the codecs; the checks they share. */
#include "accel/codec.h"
#include "accel/accel_int.h"
#include <stdlib.h>
#include <string.h>

struct codec_ctx {
    void *state[CODEC_CNT];
};

static const struct codec_ops *const codecs[CODEC_CNT] = {
    [CODEC_GZIP] = &codec_gzip,
    [CODEC_SNAPPY] = &codec_snappy,
    [CODEC_LZ4] = &codec_lz4,
    [CODEC_ZSTD] = &codec_zstd,
};

static const struct codec_ops *codec_of(enum codec_id id)
{
    return (unsigned)id < CODEC_CNT ? codecs[id] : NULL;
}

int codec_ctx_create(struct codec_ctx **ret_ctx)
{
    struct codec_ctx *ctx = calloc(1, sizeof(*ctx));
    if (ctx == NULL)
        return -ENOMEM;
    for (int id = 0; id < CODEC_CNT; id++) {
        if (codecs[id] == NULL || codecs[id]->create == NULL)
            continue;
        int rc = codecs[id]->create(&ctx->state[id]);
        if (rc < 0) {
            codec_ctx_destroy(ctx);
            return rc;
        }
    }
    *ret_ctx = ctx;
    return 0;
}

void codec_ctx_destroy(struct codec_ctx *ctx)
{
    if (ctx == NULL)
        return;
    for (int id = 0; id < CODEC_CNT; id++)
        if (ctx->state[id] != NULL)
            codecs[id]->destroy(ctx->state[id]);
    free(ctx);
}

const char *codec_name(enum codec_id id)
{
    if (id == CODEC_NONE)
        return "none";
    const struct codec_ops *c = codec_of(id);
    return c != NULL ? c->name : NULL;
}

int codec_by_name(const char *name)
{
    for (int id = 0; id < CODEC_CNT; id++)
        if (strcmp(name, codec_name((enum codec_id)id)) == 0)
            return id;
    return -E_UNSUPPORTED_CODEC;
}

size_t codec_bound(enum codec_id id, size_t src_len)
{
    const struct codec_ops *c = codec_of(id);
    return c != NULL ? c->bound(src_len) : src_len;
}

int64_t codec_compress(struct codec_ctx *ctx, enum codec_id id, int level, const void *src,
                       size_t src_len, void *dst, size_t dst_cap)
{
    const struct codec_ops *c = codec_of(id);
    if (c == NULL)
        return -E_UNSUPPORTED_CODEC;
    if (src_len > CODEC_LEN_MAX)
        return -E_LIMIT;
    if (dst_cap > CODEC_LEN_MAX)
        dst_cap = CODEC_LEN_MAX;
    return c->compress(ctx->state[id], level, src, src_len, dst, dst_cap);
}

int64_t codec_decompress(struct codec_ctx *ctx, enum codec_id id, const void *src, size_t src_len,
                         void *dst, size_t dst_cap)
{
    const struct codec_ops *c = codec_of(id);
    if (c == NULL)
        return -E_UNSUPPORTED_CODEC;
    if (src_len == 0)
        return -E_CORRUPT_BATCH; /* every format has at least one byte */
    if (src_len > CODEC_LEN_MAX)
        return -E_LIMIT;
    if (dst_cap > CODEC_LEN_MAX)
        dst_cap = CODEC_LEN_MAX;
    return c->decompress(ctx->state[id], src, src_len, dst, dst_cap);
}
