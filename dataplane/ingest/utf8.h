/* utf8.h - is this text? Header values that are not valid UTF-8 are left out of a record, because
 * consumers decode them as UTF-8; the record's value keeps the original bytes either way.
 * Pure functions, any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Valid UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF)? Empty is valid. */
bool utf8_is_valid(const uint8_t *p, uint32_t len);
/* The scalar twin, for tests. */
bool utf8_is_valid_scalar(const uint8_t *p, uint32_t len);
