/* counter.h - plain uint64_t counters owned by one thread.
 *
 * Nothing here is atomic: the owner counts with ordinary additions and publishes copies
 * (lib/iface/stats_shm.h). Which counters exist is said in dataplane/counters.def.
 * Runs on: the owner of the memory. No allocation, no failure. */
#pragma once
#include <stdint.h>

/* @hot. Add a burst's sums, collected on the stack, to the shard's counters. */
static inline void counters_add(uint64_t *to, const uint32_t *sums, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++)
        to[i] += sums[i];
}

/* Bucket of a log2 histogram with `cnt` buckets: 0 -> 0, 1 -> 1, 2..3 -> 2, 4..7 -> 3, ...; what is
 * beyond the last bucket lands in it. */
static inline uint32_t hist_bucket(uint64_t v, uint32_t cnt)
{
    uint32_t b = v == 0 ? 0 : 64u - (uint32_t)__builtin_clzll(v);
    return b < cnt ? b : cnt - 1;
}
/* @hot. */
static inline void hist_add(uint64_t *hist, uint32_t cnt, uint64_t v)
{
    hist[hist_bucket(v, cnt)]++;
}
