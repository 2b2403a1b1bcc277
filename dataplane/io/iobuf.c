/* iobuf.c - a stack of free buffer indexes over one piece of memory. A bit per buffer catches a
 * buffer given back twice. */
#include "dataplane/io/iobuf.h"
#include "dataplane/io/file.h"
#include "lib/base/assert.h"

struct iobuf_pool {
    uint8_t *mem;
    uint32_t buf_size, cnt, free_cnt;
    uint8_t *is_out; /* per buffer */
    uint32_t free[]; /* [0, free_cnt) */
};

int iobuf_pool_create(void *mem, size_t mem_len, uint32_t buf_size, struct iobuf_pool **ret)
{
    if (buf_size == 0 || buf_size % FILE_BLOCK != 0 || (uintptr_t)mem % FILE_BLOCK != 0)
        return -EINVAL;
    size_t cnt = mem_len / buf_size;
    if (cnt == 0 || cnt > UINT32_MAX)
        return -EINVAL;
    struct iobuf_pool *p = malloc(sizeof(*p) + cnt * sizeof(p->free[0]));
    if (p == NULL)
        return -ENOMEM;
    *p = (struct iobuf_pool){
        .mem = mem, .buf_size = buf_size, .cnt = (uint32_t)cnt, .free_cnt = (uint32_t)cnt};
    p->is_out = calloc(cnt, 1);
    if (p->is_out == NULL) {
        free(p);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < p->cnt; i++) /* lowest address first */
        p->free[i] = p->cnt - 1 - i;
    *ret = p;
    return 0;
}

void iobuf_pool_destroy(struct iobuf_pool *p)
{
    if (p == NULL)
        return;
    ASSERT(p->free_cnt == p->cnt);
    free(p->is_out);
    free(p);
}

void *iobuf_get(struct iobuf_pool *p)
{
    if (p->free_cnt == 0)
        return NULL;
    uint32_t idx = p->free[--p->free_cnt];
    p->is_out[idx] = 1;
    return p->mem + (size_t)idx * p->buf_size;
}

void iobuf_put(struct iobuf_pool *p, void *buf)
{
    size_t pos = (size_t)((uint8_t *)buf - p->mem);
    size_t idx = pos / p->buf_size;
    ASSERT(pos % p->buf_size == 0);
    ASSERT(idx < p->cnt);
    ASSERT(p->is_out[idx]);
    p->is_out[idx] = 0;
    p->free[p->free_cnt++] = (uint32_t)idx;
}

uint32_t iobuf_size(const struct iobuf_pool *p)
{
    return p->buf_size;
}

uint32_t iobuf_cnt(const struct iobuf_pool *p)
{
    return p->cnt;
}

uint32_t iobuf_free_cnt(const struct iobuf_pool *p)
{
    return p->free_cnt;
}
