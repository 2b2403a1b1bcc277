/* varint.h - Kafka's variable-length integers: uvarint (7 bits per byte, low first), and varint and
 * varlong, which are the same over the zig-zag of a signed 32- or 64-bit value.
 *
 * Readers take [p, end) and return the bytes read (1..5 or 1..10), or
 *   -E_TRUNCATED  the bytes end inside the number
 *   -E_MALFORMED  it is longer than the type allows or does not fit it
 * Writers need VARINT_MAX or VARLONG_MAX bytes at p and return the bytes written. Pure, any thread.
 */
#pragma once
#include "lib/base/assert.h"
#include "lib/base/err.h"
#include <stdint.h>

enum { VARINT_MAX = 5, VARLONG_MAX = 10 };

static inline uint32_t zigzag32(int32_t v)
{
    return (uint32_t)v << 1 ^ (uint32_t)(v >> 31);
}
static inline uint64_t zigzag64(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}
static inline int32_t unzigzag32(uint32_t v)
{
    return (int32_t)(v >> 1 ^ (0 - (v & 1)));
}
static inline int64_t unzigzag64(uint64_t v)
{
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

/* More than one byte; out of line because most numbers have one. */
static inline int uvarlong_get_slow(const uint8_t *p, const uint8_t *end, int len_max, int bits,
                                    uint64_t *ret)
{
    uint64_t v = 0;
    for (int i = 0; i < len_max; i++) {
        if (p + i >= end)
            return -E_TRUNCATED;
        uint8_t c = p[i];
        if (i == len_max - 1 && c >> (bits - 7 * i) != 0)
            return -E_MALFORMED; /* continues past the longest form, or has bits above the type */
        v |= (uint64_t)(c & 0x7f) << (7 * i);
        if (c < 0x80) {
            *ret = v;
            return i + 1;
        }
    }
    return -E_MALFORMED;
}

static inline int uvarint_get(const uint8_t *p, const uint8_t *end, uint32_t *ret)
{
    if (likely(p < end && *p < 0x80)) {
        *ret = *p;
        return 1;
    }
    uint64_t v;
    int n = uvarlong_get_slow(p, end, VARINT_MAX, 32, &v);
    if (n > 0)
        *ret = (uint32_t)v;
    return n;
}
static inline int uvarlong_get(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    if (likely(p < end && *p < 0x80)) {
        *ret = *p;
        return 1;
    }
    return uvarlong_get_slow(p, end, VARLONG_MAX, 64, ret);
}
static inline int varint_get(const uint8_t *p, const uint8_t *end, int32_t *ret)
{
    uint32_t u;
    int n = uvarint_get(p, end, &u);
    if (n > 0)
        *ret = unzigzag32(u);
    return n;
}
static inline int varlong_get(const uint8_t *p, const uint8_t *end, int64_t *ret)
{
    uint64_t u;
    int n = uvarlong_get(p, end, &u);
    if (n > 0)
        *ret = unzigzag64(u);
    return n;
}

static inline int uvarlong_put(uint8_t *p, uint64_t v)
{
    int n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}
static inline int uvarint_put(uint8_t *p, uint32_t v)
{
    return uvarlong_put(p, v);
}
static inline int varint_put(uint8_t *p, int32_t v)
{
    return uvarint_put(p, zigzag32(v));
}
static inline int varlong_put(uint8_t *p, int64_t v)
{
    return uvarlong_put(p, zigzag64(v));
}

/* Bytes the number takes. */
static inline int uvarlong_len(uint64_t v)
{
    return (70 - __builtin_clzll(v | 1)) / 7;
}
static inline int uvarint_len(uint32_t v)
{
    return uvarlong_len(v);
}
static inline int varint_len(int32_t v)
{
    return uvarint_len(zigzag32(v));
}
static inline int varlong_len(int64_t v)
{
    return uvarlong_len(zigzag64(v));
}
