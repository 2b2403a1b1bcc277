/* gelf.h - what the first bytes of a GELF datagram say about it. Pure functions, any thread. */
#pragma once
#include "lib/base/span.h"
#include <stdbool.h>

enum gelf_compression { GELF_PLAIN, GELF_GZIP, GELF_ZLIB };

/* 1f 8b, or a zlib header (RFC 1950: method 8, check bits). JSON starts with neither. */
static inline enum gelf_compression gelf_compression(struct span b)
{
    if (b.len >= 2 && b.p[0] == 0x1f && b.p[1] == 0x8b)
        return GELF_GZIP;
    if (b.len >= 2 && (b.p[0] & 0x8f) == 8 && ((uint32_t)b.p[0] << 8 | b.p[1]) % 31 == 0)
        return GELF_ZLIB;
    return GELF_PLAIN;
}

static inline bool gelf_is_chunk(struct span b)
{
    return b.len >= 2 && b.p[0] == 0x1e && b.p[1] == 0x0f;
}
