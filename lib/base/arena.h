/* arena.h - per-request scratch memory, freed in one step. Bounded: it grows in chunks up to
 * bytes_max, then answers NULL (the caller turns that into -E_LIMIT). One thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *first, *cur;
    size_t used_in_cur, total, bytes_max;
};
void arena_init(struct arena *a, size_t bytes_max);
/* Memory aligned to 16, zeroed; NULL when bytes_max would be passed or memory is out. */
void *arena_alloc(struct arena *a, size_t len);
/* count * size with overflow check. */
void *arena_array(struct arena *a, size_t count, size_t size);
/* Everything allocated is gone; one chunk is kept for reuse. */
void arena_reset(struct arena *a);
void arena_fini(struct arena *a);
