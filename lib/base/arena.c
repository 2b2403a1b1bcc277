/* arena.c - bump allocation in chunks: first -> ... -> cur. Chunks double up to 256 KiB; what
 * counts against bytes_max is the chunks' memory, so the bound is on what is really held. */
#include "lib/base/arena.h"
#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGN = 16, CHUNK_MIN = 4096, CHUNK_MAX = 256 * 1024 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t cap;
    uint8_t bytes[] __attribute__((aligned(ARENA_ALIGN)));
};

void arena_init(struct arena *a, size_t bytes_max)
{
    *a = (struct arena){.bytes_max = bytes_max};
}

static struct arena_chunk *chunk_add(struct arena *a, size_t len)
{
    size_t left = a->bytes_max - a->total;
    if (len > left)
        return NULL;
    size_t want = a->cur == NULL ? CHUNK_MIN : a->cur->cap * 2;
    if (want > CHUNK_MAX)
        want = CHUNK_MAX;
    if (want < len)
        want = len;
    if (want > left)
        want = left;
    struct arena_chunk *c = malloc(sizeof(*c) + want);
    if (c == NULL)
        return NULL;
    c->next = NULL;
    c->cap = want;
    if (a->cur != NULL)
        a->cur->next = c;
    else
        a->first = c;
    a->cur = c;
    a->used_in_cur = 0;
    a->total += want;
    return c;
}

void *arena_alloc(struct arena *a, size_t len)
{
    if (len == 0)
        len = 1;
    if (len > a->bytes_max)
        return NULL;
    struct arena_chunk *c = a->cur;
    if (c == NULL || len > c->cap - a->used_in_cur) {
        c = chunk_add(a, len);
        if (c == NULL)
            return NULL;
    }
    void *p = c->bytes + a->used_in_cur;
    size_t used = a->used_in_cur + ((len + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1));
    a->used_in_cur = used < c->cap ? used : c->cap; /* the last one may end unaligned */
    memset(p, 0, len);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t len;
    if (__builtin_mul_overflow(count, size, &len))
        return NULL;
    return arena_alloc(a, len);
}

static void chunks_free(struct arena_chunk *c)
{
    while (c != NULL) {
        struct arena_chunk *next = c->next;
        free(c);
        c = next;
    }
}

void arena_reset(struct arena *a)
{
    if (a->first == NULL)
        return;
    chunks_free(a->first->next);
    a->first->next = NULL;
    a->cur = a->first;
    a->used_in_cur = 0;
    a->total = a->first->cap;
}

void arena_fini(struct arena *a)
{
    chunks_free(a->first);
    *a = (struct arena){.bytes_max = a->bytes_max};
}
