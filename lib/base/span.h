/* span.h - a view of bytes, and big-endian loads and stores.
 *
 * A span borrows: it never owns. p == NULL is null (Kafka's null string), len 0 with p != NULL is
 * empty. Loads and stores tolerate any alignment. */
#pragma once
#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *p;
    uint32_t len;
};

#define SPAN_NULL ((struct span){NULL, 0})

static inline struct span span_of(const void *p, uint32_t len)
{
    return (struct span){(const uint8_t *)p, len};
}
static inline struct span span_str(const char *s)
{
    return (struct span){(const uint8_t *)s, (uint32_t)strlen(s)};
}
static inline bool span_is_null(struct span s)
{
    return s.p == NULL;
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
static inline bool span_eq_str(struct span a, const char *s)
{
    return span_eq(a, span_str(s));
}

static inline uint16_t load_be16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return be16toh(v);
}
static inline uint32_t load_be32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}
static inline uint64_t load_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}
static inline void store_be16(void *p, uint16_t v)
{
    v = htobe16(v);
    memcpy(p, &v, sizeof(v));
}
static inline void store_be32(void *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}
static inline void store_be64(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}
