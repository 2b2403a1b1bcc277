/* json_scan.h - reads JSON only as far as ingest needs: is it one whole value, and which members
 * does the outermost object have. Nothing is built, copied or unescaped; nesting is bounded by
 * JSON_DEPTH_MAX, time by the length of the text.
 * Loose where senders are: control characters and bytes that are no UTF-8 pass inside strings, and
 * an escape may be any byte. Pure functions, any thread; views borrow the text. */
#pragma once
#include "lib/base/span.h"
#include <stdbool.h>

#define JSON_DEPTH_MAX 64

enum json_type { JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_NUMBER, JSON_LITERAL };
struct json_value {
    struct span text; /* strings: without the quotes */
    enum json_type type;
    bool escaped; /* a string with a backslash: its text is not what it means */
};
/* What follows is what scanning found. */
#define JSON_BAD (-1) /* not JSON, or nested deeper than JSON_DEPTH_MAX */
#define JSON_CUT (-2) /* the text ends inside the value */

/* The whole text is one value, white space around it allowed: 0, JSON_BAD or JSON_CUT. */
int json_check(struct span text);

/* Members of an object, in order:
 *     struct json_scan s;
 *     int rc = json_object_begin(&s, text);
 *     while (rc == 0 && (rc = json_object_next(&s, &key, &value)) == 1) ...
 * begin: 0, JSON_BAD (no object), JSON_CUT. next: 1, 0 at the end of object and text, JSON_BAD,
 * JSON_CUT. */
struct json_scan {
    const uint8_t *at, *end;
    bool first;
};
int json_object_begin(struct json_scan *s, struct span text);
int json_object_next(struct json_scan *s, struct json_value *ret_key, struct json_value *ret_value);

/* A JSON number, or the same in a string, times 1,000, cut to a whole number: seconds with a
 * fraction -> milliseconds. false: not a number, or beyond +-2^53. */
bool json_number_milli(struct span text, int64_t *ret);
