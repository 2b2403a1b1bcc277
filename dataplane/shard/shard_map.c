/* shard_map.c - see the header. */
#include "dataplane/shard/shard_map.h"
#include "lib/base/assert.h"
#include <endian.h>

uint16_t shard_map_start(const uint32_t *load, uint16_t shard_cnt)
{
    ASSERT(shard_cnt > 0);
    uint16_t best = 0;
    for (uint16_t i = 1; i < shard_cnt; i++)
        if (load[i] < load[best])
            best = i;
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

uint16_t shard_map_rendezvous(const struct uuid *topic_id, int32_t partition, uint16_t shard_cnt)
{
    ASSERT(shard_cnt > 0);
    uint64_t hi, lo;
    memcpy(&hi, topic_id->b, 8);
    memcpy(&lo, topic_id->b + 8, 8);
    uint64_t key = mix(mix(be64toh(hi)) ^ be64toh(lo)) ^ (uint64_t)(uint32_t)partition;
    uint16_t best = 0;
    uint64_t best_score = 0;
    for (uint16_t i = 0; i < shard_cnt; i++) {
        uint64_t score = mix(mix(key) ^ (uint64_t)i << 32);
        if (i == 0 || score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}
