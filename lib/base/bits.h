/* bits.h - bit arithmetic. Pure. */
#pragma once
#include <stdint.h>

/* Position of the highest set bit; v > 0. */
static inline uint32_t log2_floor(uint64_t v)
{
    return 63 - (uint32_t)__builtin_clzll(v);
}
/* Smallest power of two >= v; 1 for 0; v <= 2^63. */
static inline uint64_t pow2_ceil(uint64_t v)
{
    return v <= 1 ? 1 : UINT64_C(1) << (log2_floor(v - 1) + 1);
}

/* Bit sets in an array of uint64_t. */
static inline void bit_set(uint64_t *w, uint32_t i)
{
    w[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline void bit_clear(uint64_t *w, uint32_t i)
{
    w[i / 64] &= ~(UINT64_C(1) << (i % 64));
}
static inline int bit_is_set(const uint64_t *w, uint32_t i)
{
    return (int)(w[i / 64] >> (i % 64) & 1);
}
