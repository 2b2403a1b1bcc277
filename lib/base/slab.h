/* slab.h - a pool of equally sized objects, all taken at creation; get and put are O(1), last in
 * first out. Nothing grows afterwards: an empty pool answers NULL, which the caller turns into
 * backpressure or a counted drop.
 * Runs on: one thread. Objects start on a cache line (on 16 bytes when smaller than one) and are
 * NOT zeroed by slab_get. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slab {
    uint8_t *mem;
    uint32_t *free_idx; /* stack of free objects */
    uint64_t *used;     /* bit per object: catches double puts and foreign pointers (DASSERT) */
    uint32_t free_cnt, cnt;
    size_t stride;
    bool mem_is_ours;
};

/* 0, -EINVAL (obj_len or cnt 0), -ENOMEM. */
NODISCARD int slab_init(struct slab *s, size_t obj_len, uint32_t cnt);
/* The same over the caller's memory of slab_mem_len() bytes, aligned to 64 (NUMA-local, huge
 * pages), which must outlive the slab. */
NODISCARD int slab_init_at(struct slab *s, void *mem, size_t obj_len, uint32_t cnt);
size_t slab_mem_len(size_t obj_len, uint32_t cnt);
/* Objects still out are lost; NULL-safe and safe on a zeroed slab. */
void slab_fini(struct slab *s);

/* An object, or NULL when all are out. */
void *slab_get(struct slab *s);
/* obj: from slab_get of the same slab, or NULL. */
void slab_put(struct slab *s, void *obj);

/* Number of an object, 0..cnt-1, and back: for ids in messages. */
uint32_t slab_idx(const struct slab *s, const void *obj);
void *slab_at(const struct slab *s, uint32_t idx);
bool slab_is_used(const struct slab *s, uint32_t idx);
static inline uint32_t slab_free_cnt(const struct slab *s)
{
    return s->free_cnt;
}
static inline uint32_t slab_used_cnt(const struct slab *s)
{
    return s->cnt - s->free_cnt;
}
