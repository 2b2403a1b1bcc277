/* ip_reasm.c - see ip_reasm.h.
 *
 * One bit per 8 bytes of the datagram says what has arrived. A datagram is whole when its end is
 * known and as many blocks have arrived as it has. */
#include "dataplane/net/ip_reasm.h"
#include "lib/base/assert.h"
#include <stdlib.h>

#define BLOCK 8u
#define BLOCKS ((REASM_LEN_MAX + BLOCK) / BLOCK)

enum state { FREE, FILLING, WHOLE };
struct datagram {
    enum state state;
    bool is_v6;
    uint8_t proto;
    uint32_t id;
    uint8_t src[16], dst[16];
    int64_t start_ms;
    uint32_t frames;    /* held */
    uint32_t len;       /* 0: the end is not known yet */
    uint32_t reach;     /* end of the furthest byte */
    uint32_t block_cnt; /* arrived */
    uint64_t arrived[(BLOCKS + 63) / 64];
};
struct ip_reasm {
    uint32_t held, busy; /* frames; datagrams not FREE */
    bool has_whole;
    struct datagram d[REASM_MAX];
    uint8_t *bytes; /* REASM_MAX times BLOCKS * BLOCK */
};

int ip_reasm_create(struct ip_reasm **ret)
{
    struct ip_reasm *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->bytes = malloc((size_t)REASM_MAX * BLOCKS * BLOCK);
    if (r->bytes == NULL) {
        free(r);
        return -ENOMEM;
    }
    *ret = r;
    return 0;
}

void ip_reasm_destroy(struct ip_reasm *r)
{
    if (r == NULL)
        return;
    free(r->bytes);
    free(r);
}

/* The frames it held. */
static uint32_t datagram_free(struct ip_reasm *r, struct datagram *d)
{
    uint32_t frames = d->frames;
    d->state = FREE;
    d->frames = 0;
    r->held -= frames;
    r->busy--;
    return frames;
}

static bool datagram_is(const struct datagram *d, const struct pkt *p, const uint8_t *dst,
                        uint32_t addr_len)
{
    return d->state == FILLING && d->id == p->frag_id && d->proto == p->proto &&
           d->is_v6 == p->is_v6 && memcmp(d->src, p->src.ip, 16) == 0 &&
           memcmp(d->dst, dst, addr_len) == 0;
}

/* The datagram the fragment belongs to, or a fresh one; *ret_dropped: frames of one that had to go.
 * NULL: all are whole and being read in this turn. */
static struct datagram *datagram_get(struct ip_reasm *r, const struct pkt *p, int64_t now_ms,
                                     uint32_t *ret_dropped)
{
    const uint8_t *dst = p->ip + (p->is_v6 ? 24 : 16); /* IP6_DST, IP4_DST */
    uint32_t addr_len = p->is_v6 ? 16 : 4;
    struct datagram *free_one = NULL, *oldest = NULL;
    for (uint32_t i = 0; i < REASM_MAX; i++) {
        struct datagram *d = &r->d[i];
        if (datagram_is(d, p, dst, addr_len))
            return d;
        if (d->state == FREE && free_one == NULL)
            free_one = d;
        if (d->state == FILLING && (oldest == NULL || d->start_ms < oldest->start_ms))
            oldest = d;
    }
    struct datagram *d = free_one;
    if (d == NULL) {
        if (oldest == NULL)
            return NULL;
        d = oldest;
        *ret_dropped += datagram_free(r, d);
    }
    memset(d, 0, sizeof(*d));
    d->state = FILLING;
    d->is_v6 = p->is_v6;
    d->proto = p->proto;
    d->id = p->frag_id;
    memcpy(d->src, p->src.ip, 16);
    memcpy(d->dst, dst, addr_len);
    d->start_ms = now_ms;
    r->busy++;
    return d;
}

/* Blocks from..to-1 that have arrived already. */
static uint32_t blocks_arrived(const struct datagram *d, uint32_t from, uint32_t to)
{
    uint32_t n = 0;
    for (uint32_t b = from; b < to; b++)
        n += d->arrived[b / 64] >> (b % 64) & 1;
    return n;
}

struct ip_reasm_result ip_reasm_add(struct ip_reasm *r, const struct pkt *p, int64_t now_ms)
{
    struct ip_reasm_result res = {0};
    uint32_t pos = p->frag_pos, end = pos + p->l4.len;
    DASSERT(p->kind == PKT_FRAGMENT);
    DASSERT(pos % BLOCK == 0);
    struct datagram *d = datagram_get(r, p, now_ms, &res.dropped_cnt);
    if (d == NULL) {
        res.dropped_cnt++;
        return res;
    }
    /* Malformed: empty, too long, not a multiple of 8 before the end, or at odds with the end that
     * is known. */
    bool is_bad = p->l4.len == 0 || end > REASM_LEN_MAX ||
                  (p->frag_more && p->l4.len % BLOCK != 0) || (d->len > 0 && end > d->len) ||
                  (!p->frag_more && (end < d->reach || (d->len > 0 && end != d->len)));
    if (is_bad) {
        res.dropped_cnt += 1 + datagram_free(r, d);
        return res;
    }
    uint32_t from = pos / BLOCK, to = (end + BLOCK - 1) / BLOCK;
    uint32_t arrived = blocks_arrived(d, from, to);
    if (arrived > 0) {
        bool is_repeat = arrived == to - from && (end % BLOCK == 0 || end == d->len);
        res.dropped_cnt += is_repeat ? 1 : 1 + datagram_free(r, d);
        return res;
    }
    uint8_t *bytes = r->bytes + (size_t)(d - r->d) * BLOCKS * BLOCK;
    memcpy(bytes + pos, p->l4.p, p->l4.len);
    for (uint32_t b = from; b < to; b++)
        d->arrived[b / 64] |= UINT64_C(1) << (b % 64);
    d->block_cnt += to - from;
    d->reach = end > d->reach ? end : d->reach;
    if (!p->frag_more)
        d->len = end;
    d->frames++;
    r->held++;
    if (d->len > 0 && d->block_cnt == (d->len + BLOCK - 1) / BLOCK) {
        res.is_whole = true;
        res.l4 = span_of(bytes, d->len);
        res.frame_cnt = d->frames;
        r->held -= d->frames;
        d->frames = 0;
        d->state = WHOLE;
        r->has_whole = true;
    }
    return res;
}

uint32_t ip_reasm_expire(struct ip_reasm *r, int64_t now_ms)
{
    uint32_t frames = 0;
    for (uint32_t i = 0; i < REASM_MAX && r->busy > 0; i++)
        if (r->d[i].state == FILLING && now_ms - r->d[i].start_ms >= REASM_TIMEOUT_MS)
            frames += datagram_free(r, &r->d[i]);
    return frames;
}

uint32_t ip_reasm_clear(struct ip_reasm *r)
{
    uint32_t frames = 0;
    for (uint32_t i = 0; i < REASM_MAX; i++)
        if (r->d[i].state == FILLING)
            frames += datagram_free(r, &r->d[i]);
    return frames;
}

void ip_reasm_turn_end(struct ip_reasm *r)
{
    if (!r->has_whole)
        return;
    r->has_whole = false;
    for (uint32_t i = 0; i < REASM_MAX; i++)
        if (r->d[i].state == WHOLE)
            (void)datagram_free(r, &r->d[i]); /* frames already left with the datagram */
}

uint32_t ip_reasm_held(const struct ip_reasm *r)
{
    return r->held;
}
