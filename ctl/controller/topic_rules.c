/* topic_rules.c - see topic_rules.h; the keys are lib/meta/config_keys.h. */
#include "ctl/controller/topic_rules.h"
#include "lib/base/assert.h"
#include "lib/iface/conf_kafka.h"
#include "lib/iface/ip_limits.h"
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum key_kind { KEYS_TOPIC, KEYS_GROUP, KEYS_BROKER };
static const char *const type_name[] = {
    [CONFIG_BOOLEAN] = "BOOLEAN", [CONFIG_STRING] = "STRING", [CONFIG_INT] = "INT",
    [CONFIG_LONG] = "LONG",       [CONFIG_DOUBLE] = "DOUBLE", [CONFIG_LIST] = "LIST"};

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
int topic_name_order(struct span a, struct span b)
{
    for (uint32_t i = 0; i < a.len && i < b.len; i++) {
        uint8_t x = a.p[i] == '.' ? '_' : a.p[i], y = b.p[i] == '.' ? '_' : b.p[i];
        if (x != y)
            return x < y ? -1 : 1;
    }
    return (a.len > b.len) - (a.len < b.len);
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
static int16_t integer_check(const struct config_key *r, const char *v, char *err, size_t cap)
{
    char *end;
    errno = 0;
    long long n = strtoll(v, &end, 10);
    bool bad = errno != 0 || end == v || *end != '\0' || isspace((unsigned char)v[0]);
    if (bad || (r->type == CONFIG_INT && (n < INT32_MIN || n > INT32_MAX)))
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
static int16_t double_check(const struct config_key *r, const char *v, char *err, size_t cap)
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
static int16_t list_check(const struct config_key *r, const char *v, char *err, size_t cap)
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
static int16_t value_check(const struct config_key *r, const char *v, char *err, size_t cap)
{
    switch (r->type) {
    case CONFIG_BOOLEAN:
        if (strcasecmp(v, "true") != 0 && strcasecmp(v, "false") != 0)
            return fail(
                KERR_INVALID_CONFIG, err, cap,
                "Invalid value %s for configuration %s: Expected value to be either true or "
                "false",
                v, r->key);
        if (strcmp(r->key, "remote.storage.enable") == 0 && strcasecmp(v, "true") == 0)
            return fail(KERR_INVALID_CONFIG, err, cap, "Tiered storage is not available here");
        return 0;
    case CONFIG_INT:
    case CONFIG_LONG:
        return integer_check(r, v, err, cap);
    case CONFIG_DOUBLE:
        return double_check(r, v, err, cap);
    case CONFIG_LIST:
        return list_check(r, v, err, cap);
    case CONFIG_STRING:
        if (strcmp(r->key, "max.connections.per.ip.overrides") == 0) {
            char why[160];
            if (ip_limits_check(v, why, sizeof(why)) < 0)
                return fail(KERR_INVALID_CONFIG, err, cap, "Invalid value for configuration %s: %s",
                            r->key, why);
        }
        if (r->choices[0] != '\0' && !choice_has(r->choices, v, strlen(v)))
            return fail(KERR_INVALID_CONFIG, err, cap,
                        "Invalid value %s for configuration %s: String must be one of: %s", v,
                        r->key, r->choices);
        return 0;
    }
    UNREACHABLE();
}
/* The n-th key of a resource type by the name that its users give; NULL: past the last. */
static const char *key_name(enum key_kind kind, uint32_t n)
{
    uint32_t topics = config_topic_cnt();
    switch (kind) {
    case KEYS_TOPIC:
        return n < topics ? config_topic_at(n)->key : NULL;
    case KEYS_GROUP:
        return n < config_group_cnt() ? config_group_at(n)->key : NULL;
    case KEYS_BROKER:
        if (n < topics)
            return config_broker_name(config_topic_at(n));
        n -= topics;
        return n < config_broker_cnt() ? config_broker_at(n)->key : NULL;
    }
    UNREACHABLE();
}
/* The key closest to a mistyped one; NULL when none is close. */
static const char *key_suggest(struct span key, enum key_kind kind)
{
    char word[41];
    const char *best = NULL, *name;
    uint32_t limit = key.len / 3 + 1;
    if (key.len >= sizeof(word) || key.len == 0)
        return NULL;
    memcpy(word, key.p, key.len);
    word[key.len] = '\0';
    for (uint32_t i = 0; (name = key_name(kind, i)) != NULL; i++) {
        uint32_t d = conf_word_distance(word, name);
        if (d < limit) {
            limit = d;
            best = name;
        }
    }
    return best;
}
static int16_t key_unknown(struct span key, enum key_kind kind, char *err, size_t cap)
{
    static const char *const what[] = {
        [KEYS_TOPIC] = "topic", [KEYS_GROUP] = "group", [KEYS_BROKER] = "broker"};
    const char *near = key_suggest(key, kind);
    return fail(KERR_INVALID_CONFIG, err, cap, "Unknown %s config name: %.*s%s%s%s", what[kind],
                (int)(key.len < 200 ? key.len : 200), (const char *)key.p,
                near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                near != NULL ? "'?" : "");
}
static int16_t config_check(const struct config_key *k, struct span key, struct span value,
                            char *err, size_t cap)
{
    char text[1024];
    if (span_is_null(value))
        return fail(KERR_INVALID_CONFIG, err, cap, "Null value not supported for configs: %.*s",
                    (int)key.len, (const char *)key.p);
    if (value.len >= sizeof(text) || memchr(value.p, 0, value.len) != NULL)
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "Invalid value for configuration %.*s: longer than %zu bytes or with a NUL",
                    (int)key.len, (const char *)key.p, sizeof(text) - 1);
    memcpy(text, value.p, value.len);
    text[value.len] = '\0';
    return value_check(k, text, err, cap);
}
int16_t topic_config_check(struct span key, struct span value, char *err, size_t cap)
{
    const struct config_key *k = config_topic_find(key);
    return k != NULL ? config_check(k, key, value, err, cap)
                     : key_unknown(key, KEYS_TOPIC, err, cap);
}
int16_t group_config_check(struct span key, struct span value, char *err, size_t cap)
{
    const struct config_key *k = config_group_find(key);
    return k != NULL ? config_check(k, key, value, err, cap)
                     : key_unknown(key, KEYS_GROUP, err, cap);
}
int16_t broker_config_check(struct span key, struct span value, char *err, size_t cap)
{
    const struct config_key *k = config_broker_find(key);
    if (k == NULL)
        return key_unknown(key, KEYS_BROKER, err, cap);
    if (!k->dynamic)
        return fail(KERR_INVALID_REQUEST, err, cap,
                    "Cannot update these configs dynamically: Set(%.*s): it comes from the "
                    "configuration file",
                    (int)key.len, (const char *)key.p);
    return config_check(k, key, value, err, cap);
}
enum config_source topic_default(const struct conf *c, const struct meta_image *img,
                                 const struct config_key *k, char *out, size_t cap)
{
    static const struct meta_topic none; /* without overrides */
    enum config_source source;
    const char *dynamic = config_of_topic(img, &none, k->key, &source);
    if (dynamic != NULL) {
        snprintf(out, cap, "%s", dynamic);
        return source;
    }
    if (k->broker_key[0] == '\0' || !conf_kafka_value(c, k->broker_key, out, cap))
        snprintf(out, cap, "%s", k->def);
    return strcmp(out, k->def) != 0 ? CONFIG_SOURCE_STATIC : CONFIG_SOURCE_DEFAULT;
}
