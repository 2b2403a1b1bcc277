/* json_scan.c - see json_scan.h. Nesting is a stack of bits: 1 for an object, 0 for an array. */
#include "dataplane/ingest/json_scan.h"

static const uint8_t *space_skip(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

static bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') <= 9;
}

/* *at is at the opening quote; moves behind the closing one. */
static int string_read(const uint8_t **at, const uint8_t *end, struct json_value *ret)
{
    const uint8_t *p = *at + 1;
    ret->type = JSON_STRING;
    ret->escaped = false;
    while (p < end && *p != '"') {
        if (*p == '\\') {
            ret->escaped = true;
            p++;
            if (p == end)
                return JSON_CUT;
        }
        p++;
    }
    if (p == end)
        return JSON_CUT;
    ret->text = span_of(*at + 1, (uint32_t)(p - *at - 1));
    *at = p + 1;
    return 0;
}

static const uint8_t *digits_skip(const uint8_t *p, const uint8_t *end)
{
    while (p < end && is_digit(*p))
        p++;
    return p;
}

/* At the end of the text a number may be cut or whole: it counts as whole when it could be one. */
static int number_skip(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at + (**at == '-'), *digits = p;
    p = digits_skip(p, end);
    if (p == digits)
        return p == end ? JSON_CUT : JSON_BAD;
    if (*digits == '0' && p - digits > 1)
        return JSON_BAD;
    if (p < end && *p == '.') {
        const uint8_t *fraction = ++p;
        p = digits_skip(p, end);
        if (p == fraction)
            return p == end ? JSON_CUT : JSON_BAD;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        const uint8_t *exponent = p;
        p = digits_skip(p, end);
        if (p == exponent)
            return p == end ? JSON_CUT : JSON_BAD;
    }
    *at = p;
    return 0;
}

static int literal_skip(const uint8_t **at, const uint8_t *end)
{
    const char *word = **at == 't' ? "true" : **at == 'f' ? "false" : "null";
    const uint8_t *p = *at;
    for (; *word != '\0'; word++, p++) {
        if (p == end)
            return JSON_CUT;
        if (*p != (uint8_t)*word)
            return JSON_BAD;
    }
    *at = p;
    return 0;
}

/* "key" : with white space around; *at is behind it. */
static int key_read(const uint8_t **at, const uint8_t *end, struct json_value *ret)
{
    const uint8_t *p = space_skip(*at, end);
    if (p == end)
        return JSON_CUT;
    if (*p != '"')
        return JSON_BAD;
    int rc = string_read(&p, end, ret);
    if (rc < 0)
        return rc;
    p = space_skip(p, end);
    if (p == end)
        return JSON_CUT;
    if (*p != ':')
        return JSON_BAD;
    *at = p + 1;
    return 0;
}

/* A value that holds no others. */
static int scalar_read(const uint8_t **at, const uint8_t *end, struct json_value *ret)
{
    const uint8_t *p = *at;
    int rc = JSON_BAD;
    if (*p == '"')
        return string_read(at, end, ret);
    ret->type = *p == '-' || is_digit(*p) ? JSON_NUMBER : JSON_LITERAL;
    if (ret->type == JSON_NUMBER)
        rc = number_skip(at, end);
    else if (*p == 't' || *p == 'f' || *p == 'n')
        rc = literal_skip(at, end);
    ret->text = span_of(p, (uint32_t)(*at - p));
    return rc;
}

struct nest {
    uint64_t is_object; /* bit 0: the innermost */
    uint32_t depth;
};

/* Behind a value: closes what ends here. 1: another value follows; 0: the outermost has ended. */
static int nest_close(struct nest *n, const uint8_t **at, const uint8_t *end)
{
    struct json_value key;
    while (n->depth > 0) {
        const uint8_t *p = space_skip(*at, end);
        if (p == end)
            return JSON_CUT;
        bool object = n->is_object & 1;
        *at = p + 1;
        if (*p == ',') {
            int rc = object ? key_read(at, end, &key) : 0;
            return rc < 0 ? rc : 1;
        }
        if (*p != (object ? '}' : ']'))
            return JSON_BAD;
        n->is_object >>= 1;
        n->depth--;
    }
    return 0;
}

/* Opens an object or array at **at. 1: its first value follows; 0: it is empty, and closed. */
static int nest_open(struct nest *n, const uint8_t **at, const uint8_t *end)
{
    bool object = **at == '{';
    struct json_value key;
    if (n->depth == JSON_DEPTH_MAX)
        return JSON_BAD;
    const uint8_t *p = space_skip(*at + 1, end);
    if (p == end)
        return JSON_CUT;
    if (*p == (object ? '}' : ']')) {
        *at = p + 1;
        return 0;
    }
    n->is_object = n->is_object << 1 | object;
    n->depth++;
    *at = p;
    int rc = object ? key_read(at, end, &key) : 0;
    return rc < 0 ? rc : 1;
}

/* Any value at *at; moves behind it. */
static int value_read(const uint8_t **at, const uint8_t *end, struct json_value *ret)
{
    struct nest n = {0, 0};
    const uint8_t *begin = space_skip(*at, end), *p = begin;
    if (p == end)
        return JSON_CUT;
    bool nested = *p == '{' || *p == '[';
    struct json_value inner;
    int rc = 1;
    while (rc == 1) {
        p = space_skip(p, end);
        if (p == end)
            return JSON_CUT;
        rc = *p == '{' || *p == '[' ? nest_open(&n, &p, end) : scalar_read(&p, end, &inner);
        if (rc == 0)
            rc = nest_close(&n, &p, end);
    }
    if (rc < 0)
        return rc;
    *at = p;
    if (!nested) {
        *ret = inner;
        return 0;
    }
    *ret = (struct json_value){span_of(begin, (uint32_t)(p - begin)),
                               *begin == '{' ? JSON_OBJECT : JSON_ARRAY, false};
    return 0;
}

int json_check(struct span text)
{
    const uint8_t *p = text.p, *end = text.p + text.len;
    struct json_value v;
    int rc = value_read(&p, end, &v);
    if (rc == 0 && space_skip(p, end) != end)
        rc = JSON_BAD;
    return rc;
}

int json_object_begin(struct json_scan *s, struct span text)
{
    const uint8_t *end = text.p + text.len, *p = space_skip(text.p, end);
    if (p == end)
        return JSON_CUT;
    if (*p != '{')
        return JSON_BAD;
    *s = (struct json_scan){.at = p + 1, .end = end, .first = true};
    return 0;
}

int json_object_next(struct json_scan *s, struct json_value *ret_key, struct json_value *ret_value)
{
    const uint8_t *p = space_skip(s->at, s->end);
    if (p == s->end)
        return JSON_CUT;
    if (*p == '}')
        return space_skip(p + 1, s->end) == s->end ? 0 : JSON_BAD;
    if (!s->first) {
        if (*p != ',')
            return JSON_BAD;
        p++;
    }
    s->first = false;
    int rc = key_read(&p, s->end, ret_key);
    if (rc == 0)
        rc = value_read(&p, s->end, ret_value);
    s->at = p;
    return rc < 0 ? rc : 1;
}

bool json_number_milli(struct span text, int64_t *ret)
{
    const uint8_t *p = text.p, *end = text.p + text.len;
    uint64_t v = 0;
    int32_t scale = 3, exponent = 0;
    bool point = false;
    if (text.len == 0 || number_skip(&p, end) < 0 || p != end)
        return false;
    p = text.p + (*text.p == '-');
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        if (v >= UINT64_C(100000000000000000)) { /* more digits than matter */
            scale += !point;
            continue;
        }
        v = v * 10 + (uint64_t)(*p - '0');
        scale -= point;
    }
    if (p < end) {
        bool negative = *++p == '-';
        p += *p == '-' || *p == '+';
        for (; p < end && exponent < 1000; p++)
            exponent = exponent * 10 + (*p - '0');
        scale += negative ? -exponent : exponent;
    }
    for (; scale < 0 && v > 0; scale++)
        v /= 10;
    for (; scale > 0 && v > 0; scale--) {
        if (v > UINT64_C(1) << 53)
            return false;
        v *= 10;
    }
    if (v > UINT64_C(1) << 53)
        return false;
    *ret = *text.p == '-' ? -(int64_t)v : (int64_t)v;
    return true;
}
