/* shared.c - see shared.h. All orders are relaxed: the words stand alone, nothing is published
 * through them. */
#include "dataplane/kafka/shared.h"
#include "lib/base/assert.h"
#include "lib/base/hash.h"
#include <stdatomic.h>
#include <stdlib.h>

#define CONN_PROBES 16
#define CONN_CNT_BITS 24
#define CONN_CNT_MASK ((UINT64_C(1) << CONN_CNT_BITS) - 1)
#define NS_MAX (INT64_MAX / 4) /* of one taking: sums stay below INT64_MAX */

struct bucket {
    _Atomic uint64_t key; /* 0: never used */
    _Atomic int64_t until_ns;
};
struct kafka_shared {
    struct bucket buckets[QUOTA_BUCKETS];
    _Atomic uint32_t conns;
    uint32_t word_cnt; /* a power of two */
    _Atomic uint64_t *words;
};

int kafka_shared_create(uint32_t conns_max, struct kafka_shared **ret)
{
    struct kafka_shared *ks = (struct kafka_shared *)calloc(1, sizeof(*ks));
    if (ks == NULL)
        return -ENOMEM;
    ks->word_cnt = 1024;
    while (ks->word_cnt < 4 * (uint64_t)conns_max && ks->word_cnt < 1u << 24)
        ks->word_cnt *= 2;
    ks->words = (_Atomic uint64_t *)calloc(ks->word_cnt, sizeof(*ks->words));
    if (ks->words == NULL) {
        free(ks);
        return -ENOMEM;
    }
    *ret = ks;
    return 0;
}

void kafka_shared_destroy(struct kafka_shared *ks)
{
    if (ks == NULL)
        return;
    free(ks->words);
    free(ks);
}

/* ---- byte rates ---- */

/* The bucket of `key`: its own, else one that nobody needs any more, else a neighbour's. */
static struct bucket *bucket_of(struct kafka_shared *ks, uint64_t key, int64_t full_ns)
{
    struct bucket *unused = NULL;
    uint64_t unused_key = 0;
    for (uint32_t i = 0; i < QUOTA_PROBES; i++) {
        struct bucket *b = &ks->buckets[(key + i) & (QUOTA_BUCKETS - 1)];
        uint64_t k = atomic_load_explicit(&b->key, memory_order_relaxed);
        if (k == key)
            return b;
        bool idle = atomic_load_explicit(&b->until_ns, memory_order_relaxed) <= full_ns;
        if (unused == NULL && (k == 0 || idle)) {
            unused = b;
            unused_key = k;
        }
    }
    if (unused == NULL)
        return &ks->buckets[key & (QUOTA_BUCKETS - 1)];
    if (atomic_compare_exchange_strong_explicit(&unused->key, &unused_key, key,
                                                memory_order_relaxed, memory_order_relaxed) ||
        unused_key == key)
        return unused;
    return &ks->buckets[key & (QUOTA_BUCKETS - 1)]; /* another shard was quicker: for this once */
}

uint64_t quota_take(struct kafka_shared *ks, uint64_t key, double rate, uint64_t bytes,
                    uint64_t now_ns)
{
    uint64_t rate_bits;
    ASSERT(rate > 0);
    memcpy(&rate_bits, &rate, sizeof(rate_bits));
    key = hash_mix64(key ^ hash_mix64(rate_bits)) | 1; /* never 0 */
    double cost = (double)bytes * 1e9 / rate;
    int64_t ns = cost < (double)NS_MAX ? (int64_t)cost : NS_MAX;
    int64_t now = (int64_t)now_ns, full = now - (int64_t)QUOTA_BURST_NS, next;
    struct bucket *b = bucket_of(ks, key, full);
    int64_t until = atomic_load_explicit(&b->until_ns, memory_order_relaxed);
    do {
        int64_t from = until > full ? until : full;
        next = from > NS_MAX ? from : from + ns;
    } while (bytes > 0 &&
             !atomic_compare_exchange_weak_explicit(&b->until_ns, &until, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return next > now ? (uint64_t)(next - now) : 0;
}

/* ---- connections ---- */

static uint32_t word_cnt_of(uint64_t word)
{
    return (uint32_t)(word & CONN_CNT_MASK);
}

/* Counts in the word of the address: its index, CONN_SLOT_NONE: no room; -1: its limit. */
static int64_t address_count(struct kafka_shared *ks, const struct net_addr *peer, uint32_t max)
{
    uint64_t h = hash_bytes(peer->ip, sizeof(peer->ip)), tag = h & ~CONN_CNT_MASK;
    for (int attempt = 0; attempt < 4; attempt++) {
        uint32_t unused = CONN_SLOT_NONE;
        for (uint32_t i = 0; i < CONN_PROBES; i++) {
            uint32_t at = (uint32_t)(h + i) & (ks->word_cnt - 1);
            uint64_t word = atomic_load_explicit(&ks->words[at], memory_order_relaxed);
            while (word_cnt_of(word) > 0 && (word & ~CONN_CNT_MASK) == tag) {
                if (word_cnt_of(word) >= max || word_cnt_of(word) == CONN_CNT_MASK)
                    return -1;
                if (atomic_compare_exchange_weak_explicit(&ks->words[at], &word, word + 1,
                                                          memory_order_relaxed,
                                                          memory_order_relaxed))
                    return at;
            }
            if (word_cnt_of(word) == 0 && unused == CONN_SLOT_NONE)
                unused = at;
        }
        if (unused == CONN_SLOT_NONE)
            break;
        uint64_t word = atomic_load_explicit(&ks->words[unused], memory_order_relaxed);
        if (word_cnt_of(word) == 0 &&
            atomic_compare_exchange_strong_explicit(&ks->words[unused], &word, tag | 1,
                                                    memory_order_relaxed, memory_order_relaxed))
            return unused;
    }
    return CONN_SLOT_NONE;
}

enum conn_verdict conn_count(struct kafka_shared *ks, const struct net_addr *peer, uint32_t max,
                             uint32_t max_per_ip, uint32_t *ret_slot)
{
    uint32_t before = atomic_fetch_add_explicit(&ks->conns, 1, memory_order_relaxed);
    if (before >= max) {
        atomic_fetch_sub_explicit(&ks->conns, 1, memory_order_relaxed);
        return CONN_TOO_MANY;
    }
    int64_t slot = max_per_ip == 0 ? -1 : address_count(ks, peer, max_per_ip);
    if (slot < 0) {
        atomic_fetch_sub_explicit(&ks->conns, 1, memory_order_relaxed);
        return CONN_TOO_MANY_OF_ADDRESS;
    }
    *ret_slot = (uint32_t)slot;
    return CONN_COUNTED;
}

void conn_uncount(struct kafka_shared *ks, uint32_t slot)
{
    atomic_fetch_sub_explicit(&ks->conns, 1, memory_order_relaxed);
    if (slot == CONN_SLOT_NONE)
        return;
    uint64_t before = atomic_fetch_sub_explicit(&ks->words[slot], 1, memory_order_relaxed);
    ASSERT(word_cnt_of(before) > 0);
}

uint32_t conn_total(const struct kafka_shared *ks)
{
    return atomic_load_explicit(&ks->conns, memory_order_relaxed);
}
