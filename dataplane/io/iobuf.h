/* iobuf.h - a pool of equal buffers for direct I/O, carved from one piece of memory.
 *
 * The memory is given by the caller (on the shard's NUMA node: topo_mem.h), so that the pool
 * itself knows neither NUMA nor huge pages. Every buffer is aligned to FILE_BLOCK.
 * Runs on: the owning shard. Never allocates after creation; empty is an answer (NULL). */
#pragma once
#include "lib/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct iobuf_pool;

/* mem: aligned to FILE_BLOCK, the pool's until destroy, freed by the caller after it. buf_size: a
 * multiple of FILE_BLOCK. As many buffers as fit. -EINVAL: misaligned, or not one buffer fits. */
NODISCARD int iobuf_pool_create(void *mem, size_t mem_len, uint32_t buf_size,
                                struct iobuf_pool **ret);
/* All buffers must be back. Accepts NULL. */
void iobuf_pool_destroy(struct iobuf_pool *p);

/* A buffer with undefined contents, or NULL when all are out. The last one given back comes first:
 * it is the one still in the cache. */
void *iobuf_get(struct iobuf_pool *p);
void iobuf_put(struct iobuf_pool *p, void *buf);

uint32_t iobuf_size(const struct iobuf_pool *p);
uint32_t iobuf_cnt(const struct iobuf_pool *p);
uint32_t iobuf_free_cnt(const struct iobuf_pool *p);
