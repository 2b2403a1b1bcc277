/* uuid.h - Kafka's 16-byte ids (topic, directory, cluster, incarnation) and their text form:
 * base64url without padding, 22 characters. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct uuid {
    uint8_t b[16];
};
#define UUID_TEXT_LEN 22

static inline bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, 16) == 0;
}
static inline bool uuid_is_zero(const struct uuid *u)
{
    static const struct uuid zero;
    return uuid_eq(u, &zero);
}
/* A random id (getrandom): version 4 bits set, never Kafka's reserved 0..99, text never starting
 * with '-' (Kafka's Uuid.randomUuid). Aborts when the kernel has no randomness. */
void uuid_random(struct uuid *ret_u);
/* Writes 22 characters and a NUL. */
void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1]);
/* 0, or -E_MALFORMED when text is not 22 characters of base64url. */
NODISCARD int uuid_parse(const char *text, uint32_t len, struct uuid *ret_u);
