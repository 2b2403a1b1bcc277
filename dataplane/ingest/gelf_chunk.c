/* gelf_chunk.c - see gelf_chunk.h.
 *
 * Payloads lie in blocks of BLOCK bytes, chained by next[]. All messages of a source hang in one
 * bucket, newest first, so that one walk finds the message of a chunk, what its source holds, and
 * the source's oldest message; a source's share bounds its length. All messages are also listed by
 * age: with one timeout for all the head is the next to go. */
#include "dataplane/ingest/gelf_chunk.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { HEADER = 12, BLOCK = 512, BUCKETS = 256, SHARE = 8 };
#define NONE UINT32_MAX

struct held {
    uint32_t block; /* first, NONE: not here (or empty) */
    uint32_t len;
};
struct gmsg {
    struct list age;   /* by_age, or free */
    struct gmsg *next; /* in its bucket */
    uint8_t ip[16];
    uint64_t id;
    uint64_t first_ns;
    uint16_t listener;
    uint32_t hash;
    uint32_t cnt, have; /* chunks */
    uint32_t bytes, blocks;
    uint64_t seen[GELF_CHUNKS_MAX / 64];
    struct held chunk[GELF_CHUNKS_MAX];
};
struct gelf_chunks {
    gelf_gone_fn *gone;
    void *arg;
    struct list by_age, free;
    struct gmsg *bucket[BUCKETS];
    struct gmsg *msgs;
    uint32_t *next; /* of blocks */
    uint32_t block_free, block_cnt, blocks_used;
    uint32_t source_blocks_max;
    uint8_t *blocks, *whole; /* whole: a message put together */
    size_t blocks_len;
};

int gelf_chunks_create(uint64_t pool_bytes, gelf_gone_fn *gone, void *arg, struct gelf_chunks **ret)
{
    struct gelf_chunks *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return -ENOMEM;
    g->gone = gone;
    g->arg = arg;
    list_init(&g->by_age);
    list_init(&g->free);
    uint64_t cnt = pool_bytes / BLOCK;
    g->block_cnt = (uint32_t)(cnt < NONE ? cnt : NONE - 1);
    g->source_blocks_max = g->block_cnt / SHARE > 0 ? g->block_cnt / SHARE : 1;
    g->blocks_len = (size_t)g->block_cnt * BLOCK;
    g->msgs = calloc(GELF_MESSAGES_MAX, sizeof(*g->msgs));
    g->next = calloc(g->block_cnt > 0 ? g->block_cnt : 1, sizeof(*g->next));
    g->whole = malloc(GELF_MESSAGE_MAX);
    g->blocks = MAP_FAILED;
    if (g->block_cnt > 0 && g->msgs != NULL && g->next != NULL && g->whole != NULL)
        g->blocks = mmap(NULL, g->blocks_len, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (g->blocks == MAP_FAILED) {
        g->blocks = NULL;
        gelf_chunks_destroy(g);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < g->block_cnt; i++)
        g->next[i] = i + 1 < g->block_cnt ? i + 1 : NONE;
    for (uint32_t i = 0; i < GELF_MESSAGES_MAX; i++)
        list_add_tail(&g->free, &g->msgs[i].age);
    *ret = g;
    return 0;
}

void gelf_chunks_destroy(struct gelf_chunks *g)
{
    if (g == NULL)
        return;
    if (g->blocks != NULL)
        (void)munmap(g->blocks, g->blocks_len);
    free(g->whole);
    free(g->next);
    free(g->msgs);
    free(g);
}

/* ---- blocks */
static uint32_t blocks_of(uint32_t len)
{
    return (len + BLOCK - 1) / BLOCK;
}

/* There are enough free ones. */
static uint32_t blocks_fill(struct gelf_chunks *g, struct span s)
{
    uint32_t first = NONE, *link = &first;
    for (uint32_t at = 0; at < s.len; at += BLOCK) {
        uint32_t b = g->block_free, n = s.len - at < BLOCK ? s.len - at : BLOCK;
        ASSERT(b != NONE);
        g->block_free = g->next[b];
        memcpy(g->blocks + (size_t)b * BLOCK, s.p + at, n);
        *link = b;
        link = &g->next[b];
        *link = NONE;
        g->blocks_used++;
    }
    return first;
}

static void blocks_put(struct gelf_chunks *g, uint32_t b)
{
    while (b != NONE) {
        uint32_t next = g->next[b];
        g->next[b] = g->block_free;
        g->block_free = b;
        g->blocks_used--;
        b = next;
    }
}

static uint32_t blocks_copy(const struct gelf_chunks *g, const struct held *h, uint8_t *to)
{
    uint32_t at = 0;
    for (uint32_t b = h->block; b != NONE; b = g->next[b]) {
        uint32_t n = h->len - at < BLOCK ? h->len - at : BLOCK;
        memcpy(to + at, g->blocks + (size_t)b * BLOCK, n);
        at += n;
    }
    return at;
}

/* ---- messages */
static void message_free(struct gelf_chunks *g, struct gmsg *m)
{
    struct gmsg **link = &g->bucket[m->hash % BUCKETS];
    while (*link != m)
        link = &(*link)->next;
    *link = m->next;
    for (uint32_t i = 0; i < m->cnt; i++)
        blocks_put(g, m->chunk[i].block);
    list_del(&m->age);
    list_add_head(&g->free, &m->age);
}

static void message_lose(struct gelf_chunks *g, struct gmsg *m, enum dgram_drop why)
{
    uint16_t listener = m->listener;
    uint32_t cnt = m->have;
    message_free(g, m);
    g->gone(g->arg, listener, cnt, why);
}

static struct gmsg *message_new(struct gelf_chunks *g, uint64_t now_ns)
{
    struct list *n = list_pop_head(&g->free);
    if (n == NULL)
        return NULL;
    struct gmsg *m = container_of(n, struct gmsg, age);
    m->first_ns = now_ns;
    m->have = m->bytes = m->blocks = 0;
    memset(m->seen, 0, sizeof(m->seen));
    list_add_tail(&g->by_age, &m->age);
    return m;
}

/* What one walk along a bucket finds. */
struct found {
    struct gmsg *m;      /* the chunk's message */
    struct gmsg *oldest; /* of its source; another than m */
    uint32_t msgs, blocks;
};

static struct found bucket_walk(const struct gelf_chunks *g, uint32_t hash, uint16_t listener,
                                const struct net_addr *peer, uint64_t id)
{
    struct found f = {0};
    for (struct gmsg *m = g->bucket[hash % BUCKETS]; m != NULL; m = m->next) {
        if (memcmp(m->ip, peer->ip, sizeof(m->ip)) != 0)
            continue;
        f.msgs++;
        f.blocks += m->blocks;
        if (m->id == id && m->listener == listener)
            f.m = m;
        else
            f.oldest = m; /* newest first: the last one seen */
    }
    return f;
}

static bool is_over_share(const struct gelf_chunks *g, const struct found *f, uint32_t need)
{
    bool new_message = f->m == NULL;
    return f->blocks + need > g->source_blocks_max ||
           (new_message && f->msgs >= GELF_MESSAGES_MAX / SHARE);
}

/* Room for `need` blocks of the chunk's message: at its source's limit the source's oldest messages
 * go. false: no room; the message, if any of it is held, has gone too. */
static bool room_make(struct gelf_chunks *g, struct found *f, uint32_t hash, uint16_t listener,
                      const struct net_addr *peer, uint64_t id, uint32_t need)
{
    while (is_over_share(g, f, need) && f->oldest != NULL) {
        message_lose(g, f->oldest, DDROP_reassembly_limit);
        *f = bucket_walk(g, hash, listener, peer, id);
    }
    bool fits = !is_over_share(g, f, need) && g->block_cnt - g->blocks_used >= need &&
                (f->m != NULL || !list_is_empty(&g->free));
    if (!fits && f->m != NULL)
        message_lose(g, f->m, DDROP_reassembly_limit);
    return fits;
}

static struct span message_join(struct gelf_chunks *g, const struct gmsg *m)
{
    uint32_t len = 0;
    ASSERT(m->bytes <= GELF_MESSAGE_MAX);
    for (uint32_t i = 0; i < m->cnt; i++)
        len += blocks_copy(g, &m->chunk[i], g->whole + len);
    ASSERT(len == m->bytes);
    return span_of(g->whole, len);
}

enum gelf_took gelf_chunk_add(struct gelf_chunks *g, uint16_t listener, const struct net_addr *peer,
                              struct span chunk, uint64_t now_ns, struct span *ret_message,
                              uint32_t *ret_cnt, enum dgram_drop *ret_why)
{
    *ret_why = DDROP_chunk_malformed;
    if (chunk.len < HEADER)
        return GELF_DROPPED;
    uint64_t id = load_be64(chunk.p + 2);
    uint32_t no = chunk.p[10], cnt = chunk.p[11];
    struct span payload = span_of(chunk.p + HEADER, chunk.len - HEADER);
    if (cnt == 0 || cnt > GELF_CHUNKS_MAX || no >= cnt)
        return GELF_DROPPED;
    if (cnt == 1) {
        *ret_message = payload;
        *ret_cnt = 1;
        return GELF_WHOLE;
    }
    uint32_t hash = source_hash(peer), need = blocks_of(payload.len);
    struct found f = bucket_walk(g, hash, listener, peer, id);
    if (f.m != NULL && f.m->cnt != cnt)
        return GELF_DROPPED;
    if (f.m != NULL && (f.m->seen[no / 64] >> no % 64 & 1) != 0) {
        *ret_why = DDROP_chunk_duplicate;
        return GELF_DROPPED;
    }
    *ret_why = DDROP_reassembly_limit;
    if (f.m != NULL && f.m->bytes + payload.len > GELF_MESSAGE_MAX) {
        message_lose(g, f.m, DDROP_reassembly_limit);
        return GELF_DROPPED;
    }
    if (!room_make(g, &f, hash, listener, peer, id, need))
        return GELF_DROPPED;
    struct gmsg *m = f.m;
    if (m == NULL) {
        m = message_new(g, now_ns);
        memcpy(m->ip, peer->ip, sizeof(m->ip));
        m->id = id;
        m->listener = listener;
        m->hash = hash;
        m->cnt = cnt;
        for (uint32_t i = 0; i < cnt; i++)
            m->chunk[i] = (struct held){NONE, 0};
        m->next = g->bucket[hash % BUCKETS];
        g->bucket[hash % BUCKETS] = m;
    }
    m->chunk[no] = (struct held){blocks_fill(g, payload), payload.len};
    m->seen[no / 64] |= UINT64_C(1) << no % 64;
    m->bytes += payload.len;
    m->blocks += need;
    if (++m->have < m->cnt)
        return GELF_HELD;
    *ret_message = message_join(g, m);
    *ret_cnt = m->cnt;
    message_free(g, m);
    return GELF_WHOLE;
}

static struct gmsg *oldest(const struct gelf_chunks *g)
{
    return list_is_empty(&g->by_age) ? NULL : container_of(g->by_age.next, struct gmsg, age);
}

uint64_t gelf_chunks_deadline(const struct gelf_chunks *g)
{
    const struct gmsg *m = oldest(g);
    return m != NULL ? m->first_ns + GELF_TIMEOUT_NS : UINT64_MAX;
}

uint32_t gelf_chunks_expire(struct gelf_chunks *g, uint64_t now_ns)
{
    uint32_t n = 0;
    for (struct gmsg *m; (m = oldest(g)) != NULL && now_ns >= m->first_ns + GELF_TIMEOUT_NS; n++)
        message_lose(g, m, DDROP_reassembly_timeout);
    return n;
}

void gelf_chunks_drop_all(struct gelf_chunks *g, enum dgram_drop why)
{
    for (struct gmsg *m; (m = oldest(g)) != NULL;)
        message_lose(g, m, why);
}

uint64_t gelf_chunks_bytes(const struct gelf_chunks *g)
{
    return (uint64_t)g->blocks_used * BLOCK;
}
