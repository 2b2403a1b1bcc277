/* staging.c - see staging.h. */
#include "dataplane/store/staging.h"
#include "lib/base/assert.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PIECES (CHUNK_LARGE / CHUNK_SMALL)

struct home {
    uint32_t free_cnt; /* of its pieces; PIECES when whole and free */
    bool carved;
};
struct staging {
    uint8_t *mem;
    uint64_t bytes, free_bytes;
    uint32_t home_cnt;
    struct home *homes;
    struct chunk *chunks; /* PIECES per home; a whole chunk uses the first one */
    struct list large, small;
};

int staging_create(uint64_t bytes, struct staging **ret)
{
    uint64_t cnt = bytes / CHUNK_LARGE;
    if (cnt < 8 || cnt > UINT32_MAX / PIECES)
        return -E_CONFIG;
    struct staging *st = calloc(1, sizeof(*st));
    if (st == NULL)
        return -ENOMEM;
    st->home_cnt = (uint32_t)cnt;
    st->bytes = st->free_bytes = cnt * CHUNK_LARGE;
    st->homes = calloc(cnt, sizeof(*st->homes));
    st->chunks = calloc(cnt * PIECES, sizeof(*st->chunks));
    st->mem = mmap(NULL, st->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (st->mem == MAP_FAILED)
        st->mem = NULL;
    if (st->homes == NULL || st->chunks == NULL || st->mem == NULL) {
        staging_destroy(st);
        return -ENOMEM;
    }
    (void)madvise(st->mem, st->bytes, MADV_HUGEPAGE); /* a hint */
    list_init(&st->large);
    list_init(&st->small);
    for (uint32_t h = 0; h < st->home_cnt; h++) {
        st->homes[h].free_cnt = PIECES;
        for (uint32_t i = 0; i < PIECES; i++) {
            struct chunk *c = &st->chunks[(size_t)h * PIECES + i];
            c->home = h;
            c->buf = st->mem + (size_t)h * CHUNK_LARGE + (size_t)i * CHUNK_SMALL;
        }
        list_add_tail(&st->large, &st->chunks[(size_t)h * PIECES].link);
    }
    *ret = st;
    return 0;
}

void staging_destroy(struct staging *st)
{
    if (st == NULL)
        return;
    if (st->mem != NULL)
        munmap(st->mem, st->bytes);
    free(st->homes);
    free(st->chunks);
    free(st);
}

static void carve_one(struct staging *st)
{
    struct list *n = list_pop_head(&st->large);
    if (n == NULL)
        return;
    struct chunk *first = container_of(n, struct chunk, link);
    st->homes[first->home].carved = true;
    for (uint32_t i = 0; i < PIECES; i++)
        list_add_tail(&st->small, &first[i].link);
}

struct chunk *staging_get(struct staging *st, bool large)
{
    struct list *n = large ? list_pop_head(&st->large) : NULL;
    if (n == NULL) {
        if (list_is_empty(&st->small))
            carve_one(st);
        large = false;
        n = list_pop_head(&st->small);
    }
    if (n == NULL)
        return NULL;
    struct chunk *c = container_of(n, struct chunk, link);
    uint8_t *buf = c->buf;
    uint32_t home = c->home;
    *c = (struct chunk){.buf = buf,
                        .home = home,
                        .cap = large ? CHUNK_LARGE : CHUNK_SMALL,
                        .carved = !large,
                        .first_batch = UINT32_MAX};
    st->homes[home].free_cnt -= large ? PIECES : 1;
    st->free_bytes -= c->cap;
    return c;
}

void staging_put(struct staging *st, struct chunk *c)
{
    struct home *h = &st->homes[c->home];
    st->free_bytes += c->cap;
    if (!c->carved) {
        h->free_cnt = PIECES;
        list_add_head(&st->large, &c->link);
        return;
    }
    list_add_head(&st->small, &c->link);
    if (++h->free_cnt < PIECES)
        return;
    struct chunk *first = &st->chunks[(size_t)c->home * PIECES];
    for (uint32_t i = 0; i < PIECES; i++)
        list_del(&first[i].link);
    h->carved = false;
    list_add_tail(&st->large, &first->link);
}

uint64_t staging_free_bytes(const struct staging *st)
{
    return st->free_bytes;
}

uint64_t staging_bytes(const struct staging *st)
{
    return st->bytes;
}
