/* utf8.c - ASCII 16 bytes at a time, everything else by the table of RFC 3629 section 4. */
#include "dataplane/ingest/utf8.h"
#include <emmintrin.h>

static bool is_tail(uint8_t b)
{
    return (b & 0xc0) == 0x80;
}

/* Length of the one valid character at p, 0 when there is none. */
static uint32_t char_len(const uint8_t *p, uint32_t len)
{
    uint8_t b = p[0];
    if (b < 0x80)
        return 1;
    if (b < 0xc2 || b > 0xf4) /* a tail byte, an overlong form of ASCII, beyond U+10FFFF */
        return 0;
    if (b < 0xe0)
        return len >= 2 && is_tail(p[1]) ? 2 : 0;
    if (b < 0xf0) {
        if (len < 3 || !is_tail(p[1]) || !is_tail(p[2]))
            return 0;
        if (b == 0xe0 && p[1] < 0xa0) /* overlong */
            return 0;
        return b == 0xed && p[1] > 0x9f ? 0 : 3; /* surrogates */
    }
    if (len < 4 || !is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3]))
        return 0;
    if (b == 0xf0 && p[1] < 0x90) /* overlong */
        return 0;
    return b == 0xf4 && p[1] > 0x8f ? 0 : 4;
}

bool utf8_is_valid_scalar(const uint8_t *p, uint32_t len)
{
    for (uint32_t at = 0; at < len;) {
        uint32_t n = char_len(p + at, len - at);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

bool utf8_is_valid(const uint8_t *p, uint32_t len)
{
    uint32_t at = 0;
    while (len - at >= 16 &&
           _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + at))) == 0)
        at += 16;
    return utf8_is_valid_scalar(p + at, len - at);
}
