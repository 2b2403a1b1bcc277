/* key_map.c - see key_map.h. Open addressing, linear probing; an empty slot has offset -1. */
#include "dataplane/store/key_map.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

struct key_slot {
    uint64_t hash[2];
    int64_t next; /* offset + 1; 0: empty */
};
_Static_assert(sizeof(struct key_slot) == KEY_MAP_SLOT_LEN, "the budget counts slots");

#define SLOTS_MIN 16u

static inline uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_rounds(struct sip *s, int n)
{
    while (n-- > 0) {
        s->v0 += s->v1;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v2 = rotl(s->v2, 32);
    }
}

/* SipHash-2-4 with 128 bits of output (Aumasson, Bernstein). */
static void sip128(const uint64_t secret[2], struct span key, uint64_t ret[2])
{
    struct sip s = {
        secret[0] ^ UINT64_C(0x736f6d6570736575), secret[1] ^ UINT64_C(0x646f72616e646f6d) ^ 0xee,
        secret[0] ^ UINT64_C(0x6c7967656e657261), secret[1] ^ UINT64_C(0x7465646279746573)};
    uint32_t at = 0;
    uint64_t last = (uint64_t)key.len << 56;
    for (; key.len - at >= 8; at += 8) {
        uint64_t w;
        memcpy(&w, key.p + at, 8); /* little-endian, as the machine */
        s.v3 ^= w;
        sip_rounds(&s, 2);
        s.v0 ^= w;
    }
    for (uint32_t i = 0; at + i < key.len; i++)
        last |= (uint64_t)key.p[at + i] << (8 * i);
    s.v3 ^= last;
    sip_rounds(&s, 2);
    s.v0 ^= last;
    s.v2 ^= 0xee;
    sip_rounds(&s, 4);
    ret[0] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    s.v1 ^= 0xdd;
    sip_rounds(&s, 4);
    ret[1] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

int key_map_init(struct key_map *m, uint64_t bytes)
{
    uint64_t cap = bytes / KEY_MAP_SLOT_LEN;
    cap = cap < SLOTS_MIN ? SLOTS_MIN : cap > INT32_MAX ? INT32_MAX : cap;
    *m = (struct key_map){.cap = (uint32_t)cap, .cnt_max = (uint32_t)(cap * 9 / 10), .latest = -1};
    if (getrandom(m->secret, sizeof(m->secret), 0) != sizeof(m->secret))
        return -EIO;
    m->slots = calloc(cap, sizeof(*m->slots)); /* pages are touched as they fill */
    return m->slots == NULL ? -ENOMEM : 0;
}

void key_map_fini(struct key_map *m)
{
    free(m->slots);
    *m = (struct key_map){.latest = -1};
}

static struct key_slot *slot_of(const struct key_map *m, const uint64_t hash[2])
{
    uint32_t i = (uint32_t)(((hash[0] >> 32) * m->cap) >> 32);
    for (;;) {
        struct key_slot *s = &m->slots[i];
        if (s->next == 0 || (s->hash[0] == hash[0] && s->hash[1] == hash[1]))
            return s;
        i = i + 1 == m->cap ? 0 : i + 1;
    }
}

bool key_map_put(struct key_map *m, struct span key, int64_t offset)
{
    uint64_t hash[2];
    sip128(m->secret, key, hash);
    struct key_slot *s = slot_of(m, hash);
    if (s->next == 0) {
        if (m->cnt >= m->cnt_max)
            return false;
        m->cnt++;
        s->hash[0] = hash[0];
        s->hash[1] = hash[1];
    }
    s->next = offset + 1;
    m->latest = offset;
    return true;
}

int64_t key_map_get(const struct key_map *m, struct span key)
{
    uint64_t hash[2];
    sip128(m->secret, key, hash);
    return slot_of(m, hash)->next - 1;
}
