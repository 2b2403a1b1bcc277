/* staging.h - the pool of aligned chunks in which a shard's unwritten (and recent) log bytes lie.
 *
 * Two sizes: large chunks, and large ones carved into CHUNK_SMALL pieces for partitions with little
 * to write; a large chunk whose pieces are all free is whole again. Memory is taken once.
 * Runs on: the owning shard. */
#pragma once
#include "dataplane/io/file.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include <stdbool.h>
#include <stdint.h>

#define CHUNK_SMALL (16u << 10)
#define CHUNK_LARGE (256u << 10)

struct plog;
struct seg;
/* A stretch of log bytes. buf[0] is the byte at file position `pos` (a block), buf[from] the first
 * byte that this chunk holds; bytes below `from` complete the first block once has_prefix is set.
 *     from <= written <= used <= cap; written: in the file (not necessarily flushed) */
struct chunk {
    struct list link;  /* free list, or the plog's chunks, oldest first */
    struct list cache; /* the set's list of chunks that may be reused */
    uint8_t *buf;
    uint32_t cap;
    uint32_t home; /* index of the large chunk it is a part of */
    bool carved;   /* a small one */

    struct plog *plog;
    struct seg *seg;
    uint64_t pos;
    uint64_t lsn; /* log sequence (bytes since attach) of buf[from] */
    uint32_t from, used, written;
    uint32_t write_to; /* end of the write in flight, 0: none */
    bool has_prefix;
    uint32_t first_batch;    /* in buf, of the first batch that begins here; UINT32_MAX: none */
    int64_t first_offset;    /* its base offset */
    uint64_t last_batch_end; /* lsn at which the last batch that begins here ends */
    struct file_op op;
};

struct staging;
NODISCARD int staging_create(uint64_t bytes, struct staging **ret);
void staging_destroy(struct staging *st);
/* A chunk of at least CHUNK_SMALL, large if `large` and there is one; NULL: none left. */
struct chunk *staging_get(struct staging *st, bool large);
void staging_put(struct staging *st, struct chunk *c);
uint64_t staging_free_bytes(const struct staging *st);
uint64_t staging_bytes(const struct staging *st);
