/* slab.c - fixed-size object pool: one block of memory and a stack of free indices. */
#include "lib/base/slab.h"
#include "lib/base/align.h"
#include "lib/base/assert.h"
#include "lib/base/bits.h"

static size_t stride_of(size_t obj_len)
{
    return align_up(obj_len, obj_len >= CACHE_LINE ? CACHE_LINE : 16);
}

size_t slab_mem_len(size_t obj_len, uint32_t cnt)
{
    return align_up(stride_of(obj_len) * cnt, CACHE_LINE);
}

int slab_init_at(struct slab *s, void *mem, size_t obj_len, uint32_t cnt)
{
    *s = (struct slab){0};
    if (obj_len == 0 || cnt == 0)
        return -EINVAL;
    s->free_idx = malloc(cnt * sizeof(*s->free_idx));
    s->used = calloc(div_ceil(cnt, 64), sizeof(*s->used));
    if (s->free_idx == NULL || s->used == NULL) {
        slab_fini(s);
        return -ENOMEM;
    }
    s->mem = mem;
    s->stride = stride_of(obj_len);
    s->cnt = s->free_cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++)
        s->free_idx[i] = cnt - 1 - i; /* the first get is object 0 */
    return 0;
}

int slab_init(struct slab *s, size_t obj_len, uint32_t cnt)
{
    *s = (struct slab){0};
    if (obj_len == 0 || cnt == 0)
        return -EINVAL;
    void *mem = aligned_alloc(CACHE_LINE, slab_mem_len(obj_len, cnt));
    if (mem == NULL)
        return -ENOMEM;
    int rc = slab_init_at(s, mem, obj_len, cnt);
    if (rc < 0) {
        free(mem);
        return rc;
    }
    s->mem_is_ours = true;
    return 0;
}

void slab_fini(struct slab *s)
{
    if (s == NULL)
        return;
    if (s->mem_is_ours)
        free(s->mem);
    free(s->free_idx);
    free(s->used);
    *s = (struct slab){0};
}

void *slab_get(struct slab *s)
{
    if (s->free_cnt == 0)
        return NULL;
    uint32_t idx = s->free_idx[--s->free_cnt];
    DASSERT(!bit_is_set(s->used, idx));
    bit_set(s->used, idx);
    return s->mem + idx * s->stride;
}

void slab_put(struct slab *s, void *obj)
{
    if (obj == NULL)
        return;
    uint32_t idx = slab_idx(s, obj);
    DASSERT(bit_is_set(s->used, idx)); /* put twice */
    DASSERT(s->free_cnt < s->cnt);
    bit_clear(s->used, idx);
    s->free_idx[s->free_cnt++] = idx;
}

uint32_t slab_idx(const struct slab *s, const void *obj)
{
    size_t at = (size_t)((const uint8_t *)obj - s->mem);
    DASSERT(at % s->stride == 0);
    DASSERT(at / s->stride < s->cnt);
    return (uint32_t)(at / s->stride);
}

void *slab_at(const struct slab *s, uint32_t idx)
{
    DASSERT(idx < s->cnt);
    return s->mem + idx * s->stride;
}

bool slab_is_used(const struct slab *s, uint32_t idx)
{
    return idx < s->cnt && bit_is_set(s->used, idx);
}
