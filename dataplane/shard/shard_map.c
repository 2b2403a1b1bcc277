/* shard_map.c - see the header. */
#include "dataplane/shard/shard_map.h"
#include "lib/base/assert.h"
#include <endian.h>

/* Shards of `among`, lowest first: for (m = among; m != 0; m &= m - 1) lowest(m). */
static uint16_t lowest(uint64_t among)
{
    return (uint16_t)__builtin_ctzll(among);
}

uint16_t shard_map_choose(uint64_t among, const uint32_t *of_topic, const uint32_t *load)
{
    ASSERT(among != 0);
    uint16_t best = lowest(among);
    for (uint64_t m = among & (among - 1); m != 0; m &= m - 1) {
        uint16_t i = lowest(m);
        if (of_topic[i] < of_topic[best] || (of_topic[i] == of_topic[best] && load[i] < load[best]))
            best = i;
    }
    return best;
}

/* A 64-bit finalizer (splitmix64): stored owners depend on it, so it never changes. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

uint16_t shard_map_rendezvous(const struct uuid *topic_id, int32_t partition, uint64_t among)
{
    ASSERT(among != 0);
    uint64_t hi, lo;
    memcpy(&hi, topic_id->b, 8);
    memcpy(&lo, topic_id->b + 8, 8);
    uint64_t key = mix(mix(be64toh(hi)) ^ be64toh(lo)) ^ (uint64_t)(uint32_t)partition;
    uint16_t best = lowest(among);
    uint64_t best_score = 0;
    for (uint64_t m = among; m != 0; m &= m - 1) {
        uint16_t i = lowest(m);
        uint64_t score = mix(mix(key) ^ (uint64_t)i << 32);
        if (m == among || score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}
