/* topic_rules.c - see topic_rules.h; the keys are lib/meta/topic_config.def. */
#include "ctl/controller/topic_rules.h"
#include "lib/base/assert.h"
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum type { T_BOOLEAN, T_STRING, T_INT, T_LONG, T_DOUBLE, T_LIST };
static const char *const type_name[] = {"BOOLEAN", "STRING", "INT", "LONG", "DOUBLE", "LIST"};
static const struct row {
    const char *key;
    enum type type;
    const char *def;
    int64_t lo, hi;
    const char *choices, *broker_key;
} rows[] = {
#define TOPIC_CONFIG(key, type, def, lo, hi, choices, broker_key, doc)                             \
    {key, T_##type, def, lo, hi, choices, broker_key},
#include "lib/meta/topic_config.def"
#undef TOPIC_CONFIG
};
#define ROW_CNT (sizeof(rows) / sizeof(rows[0]))

__attribute__((format(printf, 4, 5))) static int16_t fail(int16_t code, char *err, size_t cap,
                                                          const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, cap, fmt, ap);
    va_end(ap);
    return code;
}
int16_t topic_name_check(struct span name, char *err, size_t cap)
{
    if (name.len == 0)
        return fail(KERR_INVALID_TOPIC, err, cap,
                    "Topic name is invalid: the empty string is not allowed");
    if (span_eq_str(name, ".") || span_eq_str(name, ".."))
        return fail(KERR_INVALID_TOPIC, err, cap,
                    "Topic name is invalid: '.' and '..' are not allowed");
    if (name.len > 249)
        return fail(KERR_INVALID_TOPIC, err, cap,
                    "Topic name is invalid: the length %u is longer than 249", name.len);
    for (uint32_t i = 0; i < name.len; i++) {
        uint8_t ch = name.p[i];
        if (ch >= 0x80 || !(isalnum(ch) || ch == '.' || ch == '_' || ch == '-'))
            return fail(KERR_INVALID_TOPIC, err, cap,
                        "Topic name is invalid: '%.*s' contains one or more characters other than "
                        "ASCII alphanumerics, '.', '_' and '-'",
                        (int)name.len, (const char *)name.p);
    }
    return 0;
}
bool topic_names_collide(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    for (uint32_t i = 0; i < a.len; i++) {
        uint8_t x = a.p[i] == '.' ? '_' : a.p[i], y = b.p[i] == '.' ? '_' : b.p[i];
        if (x != y)
            return false;
    }
    return true;
}
static bool choice_has(const char *choices, const char *word, size_t len)
{
    for (const char *p = choices; *p != '\0';) {
        size_t n = strcspn(p, ",");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n;
        p += *p == ',';
    }
    return false;
}
static int16_t integer_check(const struct row *r, const char *v, char *err, size_t cap)
{
    char *end;
    errno = 0;
    long long n = strtoll(v, &end, 10);
    bool bad = errno != 0 || end == v || *end != '\0' || isspace((unsigned char)v[0]);
    if (bad || (r->type == T_INT && (n < INT32_MIN || n > INT32_MAX)))
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "Invalid value %s for configuration %s: Not a number of type %s", v, r->key,
                    type_name[r->type]);
    if (n < r->lo)
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "Invalid value %s for configuration %s: Value must be at least %" PRId64, v,
                    r->key, r->lo);
    if (n > r->hi)
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "Invalid value %s for configuration %s: Value must be no more than %" PRId64, v,
                    r->key, r->hi);
    return 0;
}
static int16_t double_check(const struct row *r, const char *v, char *err, size_t cap)
{
    char *end;
    double d = strtod(v, &end);
    if (end == v || *end != '\0' || !(d >= (double)r->lo && d <= (double)r->hi))
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "Invalid value %s for configuration %s: Value must be in the range %" PRId64
                    "..%" PRId64,
                    v, r->key, r->lo, r->hi);
    return 0;
}
static int16_t list_check(const struct row *r, const char *v, char *err, size_t cap)
{
    if (r->choices[0] == '\0')
        return 0;
    uint32_t cnt = 0;
    for (const char *p = v; *p != '\0'; p += *p == ',') {
        p += strspn(p, " ");
        size_t n = strcspn(p, ",");
        size_t len = n;
        while (len > 0 && p[len - 1] == ' ')
            len--;
        if (!choice_has(r->choices, p, len))
            return fail(KERR_INVALID_CONFIG, err, cap,
                        "Invalid value %.*s for configuration %s: String must be one of: %s",
                        (int)len, p, r->key, r->choices);
        cnt++;
        p += n;
    }
    if (cnt == 0)
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "Invalid value for configuration %s: Configuration must not be empty", r->key);
    return 0;
}
static int16_t value_check(const struct row *r, const char *v, char *err, size_t cap)
{
    switch (r->type) {
    case T_BOOLEAN:
        if (strcasecmp(v, "true") != 0 && strcasecmp(v, "false") != 0)
            return fail(
                KERR_INVALID_CONFIG, err, cap,
                "Invalid value %s for configuration %s: Expected value to be either true or "
                "false",
                v, r->key);
        if (strcmp(r->key, "remote.storage.enable") == 0 && strcasecmp(v, "true") == 0)
            return fail(KERR_INVALID_CONFIG, err, cap, "Tiered storage is not available here");
        return 0;
    case T_INT:
    case T_LONG:
        return integer_check(r, v, err, cap);
    case T_DOUBLE:
        return double_check(r, v, err, cap);
    case T_LIST:
        return list_check(r, v, err, cap);
    case T_STRING:
        if (r->choices[0] != '\0' && !choice_has(r->choices, v, strlen(v)))
            return fail(KERR_INVALID_CONFIG, err, cap,
                        "Invalid value %s for configuration %s: String must be one of: %s", v,
                        r->key, r->choices);
        return 0;
    }
    UNREACHABLE();
}
/* The key closest to a mistyped one; NULL when none is close. */
static const char *key_suggest(struct span key)
{
    char word[41];
    const char *best = NULL;
    uint32_t limit = key.len / 3 + 1;
    if (key.len >= sizeof(word) || key.len == 0)
        return NULL;
    memcpy(word, key.p, key.len);
    word[key.len] = '\0';
    for (uint32_t i = 0; i < ROW_CNT; i++) {
        uint32_t d = conf_word_distance(word, rows[i].key);
        if (d < limit) {
            limit = d;
            best = rows[i].key;
        }
    }
    return best;
}
int16_t topic_config_check(struct span key, struct span value, char *err, size_t cap)
{
    char text[1024];
    for (size_t i = 0; i < ROW_CNT; i++) {
        if (!span_eq_str(key, rows[i].key))
            continue;
        if (span_is_null(value))
            return fail(KERR_INVALID_CONFIG, err, cap,
                        "Null value not supported for topic configs: %s", rows[i].key);
        if (value.len >= sizeof(text) || memchr(value.p, 0, value.len) != NULL)
            return fail(KERR_INVALID_CONFIG, err, cap,
                        "Invalid value for configuration %s: longer than %zu bytes or with a NUL",
                        rows[i].key, sizeof(text) - 1);
        memcpy(text, value.p, value.len);
        text[value.len] = '\0';
        return value_check(&rows[i], text, err, cap);
    }
    const char *near = key_suggest(key);
    return fail(KERR_INVALID_CONFIG, err, cap, "Unknown topic config name: %.*s%s%s%s",
                (int)(key.len < 200 ? key.len : 200), (const char *)key.p,
                near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                near != NULL ? "'?" : "");
}
bool topic_config_key(struct span key, struct topic_config_key *ret)
{
    for (size_t i = 0; i < ROW_CNT; i++)
        if (span_eq_str(key, rows[i].key)) {
            *ret = (struct topic_config_key){rows[i].key, rows[i].def, rows[i].type == T_LIST};
            return true;
        }
    return false;
}
uint32_t topic_config_cnt(void)
{
    return ROW_CNT;
}
void topic_config_row(const struct conf *c, uint32_t idx, struct topic_config_row *ret)
{
    ASSERT(idx < ROW_CNT);
    const struct row *r = &rows[idx];
    const struct {
        const char *broker_key;
        int64_t value;
    } ours[] = {
        {"log.segment.bytes", (int64_t)c->log_segment_bytes},
        {"log.roll.ms", c->log_segment_ms},
        {"log.retention.ms", c->log_retention_ms},
        {"log.retention.bytes", c->log_retention_bytes},
        {"log.index.interval.bytes", c->log_index_interval_bytes},
        {"log.index.size.max.bytes", c->log_index_size_max_bytes},
        {"message.max.bytes", c->message_max_bytes},
    };
    *ret = (struct topic_config_row){.key = r->key, .def = r->def};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(ours[i].broker_key, r->broker_key) == 0)
            snprintf(ret->broker_value, sizeof(ret->broker_value), "%" PRId64, ours[i].value);
}
