/* uuid.c - Kafka's Uuid: 16 bytes, big-endian, shown as 22 characters of base64url. */
#include "lib/base/uuid.h"
#include "lib/base/assert.h"
#include <sys/random.h>

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    if (c == '_')
        return 63;
    return -1;
}

void uuid_random(struct uuid *ret_u)
{
    struct uuid u;
    do { /* once, unless the text would start with '-' (1 in 64) */
        size_t have = 0;
        while (have < sizeof(u.b)) {
            ssize_t n = getrandom(u.b + have, sizeof(u.b) - have, 0);
            if (n < 0 && errno == EINTR)
                continue;
            ASSERT(n > 0);
            have += (size_t)n;
        }
        u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x40); /* version 4: never one of 0..99 */
        u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80); /* RFC 9562 variant */
    } while (u.b[0] >> 2 == 62);
    *ret_u = u;
}

void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1])
{
    char *o = out;
    for (int i = 0; i < 15; i += 3) {
        uint32_t v = (uint32_t)u->b[i] << 16 | (uint32_t)u->b[i + 1] << 8 | u->b[i + 2];
        *o++ = alphabet[v >> 18];
        *o++ = alphabet[v >> 12 & 63];
        *o++ = alphabet[v >> 6 & 63];
        *o++ = alphabet[v & 63];
    }
    *o++ = alphabet[u->b[15] >> 2];
    *o++ = alphabet[(u->b[15] & 3) << 4];
    *o = '\0';
}

int uuid_parse(const char *text, uint32_t len, struct uuid *ret_u)
{
    struct uuid u;
    uint32_t acc = 0;
    int bits = 0, at = 0;
    if (len != UUID_TEXT_LEN)
        return -E_MALFORMED;
    for (uint32_t i = 0; i < len; i++) {
        int d = digit_of(text[i]);
        if (d < 0)
            return -E_MALFORMED;
        acc = acc << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            u.b[at++] = (uint8_t)(acc >> bits);
        }
    }
    /* The last character carries four bits of padding, ignored as Java's decoder does. */
    *ret_u = u;
    return 0;
}
