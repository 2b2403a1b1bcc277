/* hash.h - hashes for tables and for placing keys. Pure functions, any thread.
 *
 * hash_mix64 and hash_bytes are for memory only: they may change between versions and differ by
 * byte order; nothing stored may depend on them. hash_murmur2 is Kafka's default partitioner and
 * is stable for ever (dataplane/flow.h has the stable hash of a source address). None resists an
 * attacker who chooses keys: bound the chains of tables keyed by foreign bytes. */
#pragma once
#include "lib/base/span.h"
#include <stdint.h>
#include <string.h>

/* A bijection in which every input bit changes every output bit with probability about 1/2. */
static inline uint64_t hash_mix64(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    x *= UINT64_C(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    return x;
}

static inline uint64_t hash_bytes(const void *bytes, size_t len)
{
    const uint8_t *p = (const uint8_t *)bytes;
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ len, v;
    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&v, p, 8);
        h = (h ^ v) * UINT64_C(0xD6E8FEB86659FD93);
        h ^= h >> 32;
    }
    if (len > 0) {
        v = 0;
        memcpy(&v, p, len);
        h = (h ^ v) * UINT64_C(0xD6E8FEB86659FD93);
    }
    return hash_mix64(h);
}
static inline uint64_t hash_span(struct span s)
{
    return hash_bytes(s.p, s.len);
}
static inline uint64_t hash_str(const char *s)
{
    return hash_bytes(s, strlen(s));
}

/* murmur2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2). */
static inline int32_t hash_murmur2(const void *bytes, uint32_t len)
{
    const uint8_t *p = (const uint8_t *)bytes;
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ len;
    for (; len >= 4; len -= 4, p += 4) {
        uint32_t k =
            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        k *= m;
        k ^= k >> 24;
        k *= m;
        h = h * m ^ k;
    }
    switch (len) {
    case 3:
        h ^= (uint32_t)p[2] << 16;
        /* fall through */
    case 2:
        h ^= (uint32_t)p[1] << 8;
        /* fall through */
    case 1:
        h = (h ^ p[0]) * m;
        break;
    default:
        break;
    }
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return (int32_t)h;
}
/* The partition Kafka's default partitioner picks for a key; partition_cnt > 0. */
static inline int32_t hash_kafka_partition(struct span key, int32_t partition_cnt)
{
    return (hash_murmur2(key.p, key.len) & INT32_MAX) % partition_cnt;
}
