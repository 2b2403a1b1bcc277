/* align.h - powers of two, rounding, cache lines. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CACHE_LINE 64
/* Put before a member so that it starts a cache line of its own. */
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline bool is_pow2(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}
/* to: a power of two. */
static inline uint64_t align_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) & ~(to - 1);
}
static inline uint64_t align_down(uint64_t v, uint64_t to)
{
    return v & ~(to - 1);
}
static inline bool is_aligned(uint64_t v, uint64_t to)
{
    return (v & (to - 1)) == 0;
}
static inline uint64_t div_ceil(uint64_t v, uint64_t by)
{
    return v / by + (v % by != 0);
}
