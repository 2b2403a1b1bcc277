/* conf_value.c - see conf_int.h */
#include "lib/iface/conf_int.h"
#include "lib/base/assert.h"
#include "lib/iface/net_addr.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const names_replicas[] = {"refuse", "clamp", NULL};
static const char *const names_idle[] = {"adaptive", "poll", NULL};
static const char *const names_compression[] = {"auto",   "producer", "none", "gzip",
                                                "snappy", "lz4",      "zstd", NULL};
static const char *const names_transport[] = {"udp", "tcp", NULL};
static const char *const names_proto[] = {"syslog", "raw", "gelf", "json", "netflow", NULL};
static const char *const names_key[] = {"none", "source", "host", NULL};
static const char *const names_rule_compression[] = {"topic",  "auto", "none", "gzip",
                                                     "snappy", "lz4",  "zstd", NULL};
static const char *const names_facility[CONF_FACILITIES] = {
#define SYSLOG_FACILITY(name) name,
#include "lib/iface/syslog_names.def"
};
static const char *const names_severity[CONF_SEVERITIES] = {
#define SYSLOG_SEVERITY(name) name,
#include "lib/iface/syslog_names.def"
};
static const char *const names_header[RH_CNT] = {"source",     "facility",  "severity", "host",
                                                 "app",        "procid",    "msgid",    "listener",
                                                 "event_time", "truncated", "reason"};

int conf_fail(char *err, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (cap > 0)
        vsnprintf(err, cap, fmt, ap);
    va_end(ap);
    return -E_CONFIG;
}

int conf_number_parse(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    char *end;
    if (!(isdigit((unsigned char)text[0]) || (text[0] == '-' && isdigit((unsigned char)text[1]))))
        return -E_MALFORMED;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || v < min || v > max)
        return -E_MALFORMED;
    *ret = v;
    return 0;
}
bool conf_topic_name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > 249 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)name[i];
        if (ch >= 0x80 || !(isalnum(ch) || ch == '.' || ch == '_' || ch == '-'))
            return false;
    }
    return true;
}
static int cpu_parse(const char **s, uint32_t min, uint32_t *ret, char *err, size_t cap)
{
    uint32_t v = 0, n = 0;
    for (; n < 6 && isdigit((unsigned char)(*s)[n]); n++)
        v = v * 10 + (uint32_t)((*s)[n] - '0');
    if (n == 0 || v < min || v > CONF_CPU_MAX)
        return conf_fail(err, cap, "a number from %u to %d was expected at \"%s\"", min,
                         CONF_CPU_MAX, *s);
    *s += n;
    *ret = v;
    return 0;
}
int conf_cpus_next(const char **list, uint32_t *ret_first, uint32_t *ret_last, char *err,
                   size_t cap)
{
    const char *s = *list;
    if (*s == '\0')
        return 0;
    int rc = cpu_parse(&s, 0, ret_first, err, cap);
    *ret_last = *ret_first;
    if (rc == 0 && *s == '-') {
        s++;
        rc = cpu_parse(&s, *ret_first, ret_last, err, cap);
    }
    if (rc < 0)
        return rc;
    if (*s != '\0' && (*s != ',' || s[1] == '\0'))
        return conf_fail(err, cap, "unexpected \"%s\"", s);
    *list = s + (*s == ',');
    return 1;
}
const char *conf_compression_name(enum conf_compression c)
{
    ASSERT(c <= CONF_COMP_ZSTD);
    return names_compression[c];
}
const char *conf_proto_name(enum conf_proto p)
{
    ASSERT(p <= CONF_NETFLOW);
    return names_proto[p];
}
uint32_t conf_addr_bits(const struct conf_addr *a)
{
    return a->prefix_len + (net_addr_is_v4(&a->ip) ? 96u : 0);
}
bool conf_is_dlq_of(const char *topic, const char *of)
{
    size_t n = strlen(of);
    return strncmp(topic, of, n) == 0 && strcmp(topic + n, ".dlq") == 0;
}
bool conf_addr_contains(const struct conf_addr *net, const struct net_addr *a)
{
    uint32_t bits = conf_addr_bits(net);
    uint32_t whole = bits / 8, rest = bits % 8;
    if (memcmp(net->ip.ip, a->ip, whole) != 0)
        return false;
    return rest == 0 || ((net->ip.ip[whole] ^ a->ip[whole]) >> (8 - rest)) == 0;
}
enum conf_compression conf_compression_of(enum conf_rule_compression c)
{
    static const enum conf_compression of_rule[] = {
        [CONF_RULE_COMP_TOPIC] = CONF_COMP_PRODUCER, [CONF_RULE_COMP_AUTO] = CONF_COMP_AUTO,
        [CONF_RULE_COMP_NONE] = CONF_COMP_NONE,      [CONF_RULE_COMP_GZIP] = CONF_COMP_GZIP,
        [CONF_RULE_COMP_SNAPPY] = CONF_COMP_SNAPPY,  [CONF_RULE_COMP_LZ4] = CONF_COMP_LZ4,
        [CONF_RULE_COMP_ZSTD] = CONF_COMP_ZSTD,
    };
    ASSERT(c <= CONF_RULE_COMP_ZSTD);
    return of_rule[c];
}

int64_t conf_int_load(const void *p, uint32_t size, bool is_signed)
{
    switch (size) {
    case 1: {
        uint8_t v;
        memcpy(&v, p, 1);
        return v;
    }
    case 2: {
        uint16_t v;
        memcpy(&v, p, 2);
        return v;
    }
    case 4: {
        uint32_t v;
        memcpy(&v, p, 4);
        return is_signed ? (int64_t)(int32_t)v : (int64_t)v;
    }
    default: {
        int64_t v;
        memcpy(&v, p, 8);
        return v;
    }
    }
}
void conf_int_store(void *p, uint32_t size, int64_t v)
{
    uint8_t v8 = (uint8_t)v;
    uint16_t v16 = (uint16_t)v;
    uint32_t v32 = (uint32_t)v;
    switch (size) {
    case 1:
        memcpy(p, &v8, 1);
        break;
    case 2:
        memcpy(p, &v16, 2);
        break;
    case 4:
        memcpy(p, &v32, 4);
        break;
    default:
        memcpy(p, &v, 8);
    }
}
static const char *const *enum_names(enum kind kind)
{
    switch (kind) {
    case K_ENUM_IDLE:
        return names_idle;
    case K_ENUM_COMPRESSION:
        return names_compression;
    case K_ENUM_TRANSPORT:
        return names_transport;
    case K_ENUM_PROTO:
        return names_proto;
    case K_ENUM_REPLICAS:
        return names_replicas;
    case K_ENUM_KEY:
        return names_key;
    case K_ENUM_RULE_COMPRESSION:
        return names_rule_compression;
    default:
        return NULL;
    }
}

void conf_kind_text(enum kind kind, char *out, size_t cap)
{
    static const char *const text[] = {
        [K_BOOL] = "true or false",
        [K_INT] = "number",
        [K_SIZE] = "size",
        [K_DURATION] = "duration",
        [K_TEXT] = "text",
        [K_PATH] = "path",
        [K_NAME] = "name",
        [K_TOPIC] = "topic name",
        [K_CPUS] = "list of cores",
        [K_ADDR] = "address:port",
        [K_IP] = "address",
        [K_CIDR] = "address/prefix",
        [K_UUID] = "id",
        [K_HEADERS] = "list of headers",
        [K_FACILITIES] = "list of facilities",
        [K_SEVERITIES] = "list of severities",
        [K_ZONE] = "zone",
    };
    const char *const *names = enum_names(kind);
    size_t len = 0;
    if (names == NULL) {
        snprintf(out, cap, "%s", text[kind]);
        return;
    }
    for (int i = 0; names[i] != NULL && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%s", i == 0 ? "" : ", ", names[i]);
}

/* ---- units ---- */

static const struct unit {
    const char *name;
    int64_t factor;
} size_units[] = {{"TiB", INT64_C(1) << 40},
                  {"GiB", INT64_C(1) << 30},
                  {"MiB", INT64_C(1) << 20},
                  {"KiB", INT64_C(1) << 10},
                  {"B", 1},
                  {NULL, 0}},
  time_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};

static void unit_format(int64_t v, const struct unit *units, bool bare_ok, char *out, size_t cap)
{
    if (v == -1) {
        snprintf(out, cap, "unlimited");
        return;
    }
    for (const struct unit *u = units; u->name != NULL; u++) {
        if ((v != 0 && v % u->factor == 0 && u->factor > 1) || u->factor == 1) {
            bool bare = bare_ok && u->factor == 1;
            snprintf(out, cap, "%" PRId64 "%s", v / u->factor, bare ? "" : u->name);
            return;
        }
    }
}
/* A number with one of `units`; `bare`: the unit may be missing. */
static int unit_parse(const char *value, const struct unit *units, bool bare, const char *what,
                      const char *hint, int64_t *ret, char *err, size_t cap)
{
    if (strcmp(value, "unlimited") == 0 || strcmp(value, "-1") == 0) {
        *ret = -1;
        return 0;
    }
    if (!isdigit((unsigned char)value[0]))
        return conf_fail(err, cap, "'%s' is not a %s: write a number and a unit (%s)", value, what,
                         hint);
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno != 0)
        return conf_fail(err, cap, "'%s' is too large", value);
    while (*end == ' ')
        end++;
    if (*end == '\0') {
        if (!bare && n != 0)
            return conf_fail(err, cap, "'%s' has no unit: write one of %s", value, hint);
        *ret = n;
        return 0;
    }
    for (const struct unit *u = units; u->name != NULL; u++) {
        if (strcmp(end, u->name) == 0) {
            if (n > INT64_MAX / u->factor)
                return conf_fail(err, cap, "'%s' is too large", value);
            *ret = n * u->factor;
            return 0;
        }
    }
    return conf_fail(err, cap, "'%s' has an unknown unit '%s': write one of %s", value, end, hint);
}

/* ---- one value: text -> field, field -> text ---- */

void conf_range_text(const struct field *f, int64_t v, char *out, size_t cap)
{
    if (f->kind == K_SIZE)
        unit_format(v, size_units, true, out, cap);
    else if (f->kind == K_DURATION)
        unit_format(v, time_units, false, out, cap);
    else
        snprintf(out, cap, "%" PRId64, v);
}
static int range_check(const struct field *f, const char *value, int64_t v, char *err, size_t cap)
{
    char bound[64];
    if (v < f->min) {
        conf_range_text(f, f->min, bound, sizeof(bound));
        return conf_fail(err, cap, "%s is below the minimum %s", value, bound);
    }
    if (v > f->max) {
        conf_range_text(f, f->max, bound, sizeof(bound));
        return conf_fail(err, cap, "%s is above the maximum %s", value, bound);
    }
    return 0;
}
static int number_set(const struct field *f, const char *value, char *err, size_t cap)
{
    int64_t v;
    int rc = 0;
    if (f->kind == K_SIZE)
        rc = unit_parse(value, size_units, true, "size", "B, KiB, MiB, GiB, TiB", &v, err, cap);
    else if (f->kind == K_DURATION)
        rc = unit_parse(value, time_units, false, "duration", "ms, s, m, h, d", &v, err, cap);
    else if (conf_number_parse(value, INT64_MIN, INT64_MAX, &v) < 0)
        rc = conf_fail(err, cap, "'%s' is not a whole number", value);
    if (rc == 0)
        rc = range_check(f, value, v, err, cap);
    if (rc == 0)
        conf_int_store(f->p, f->size, v);
    return rc;
}
static int bool_set(const struct field *f, const char *value, char *err, size_t cap)
{
    bool on = strcmp(value, "true") == 0;
    if (!on && strcmp(value, "false") != 0)
        return conf_fail(err, cap, "'%s' is not true or false", value);
    memcpy(f->p, &on, sizeof(on));
    return 0;
}
static int enum_set(const struct field *f, const char *value, char *err, size_t cap)
{
    const char *const *names = enum_names(f->kind);
    char all[160] = "";
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            conf_int_store(f->p, f->size, i);
            return 0;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof(all) - len, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    return conf_fail(err, cap, "'%s' is not one of %s", value, all);
}
static int text_set(const struct field *f, const char *value, char *err, size_t cap)
{
    size_t len = strlen(value);
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)value[i];
        if (ch < 0x20 || ch == 0x7f)
            return conf_fail(err, cap, "contains a control character (0x%02x)", ch);
        if (f->kind == K_NAME && !(ch < 0x80 && (isalnum(ch) || strchr("._-", ch) != NULL)))
            return conf_fail(err, cap, "'%s' is not a name: use letters, digits, '.', '_' and '-'",
                             value);
    }
    if ((int64_t)len < f->min)
        return conf_fail(err, cap, "must not be empty");
    if ((int64_t)len > f->max || len >= f->size)
        return conf_fail(err, cap, "is longer than %" PRId64 " characters", f->max);
    if (f->kind == K_TOPIC && !conf_topic_name_ok(value))
        return conf_fail(err, cap,
                         "'%s' is not a topic name: 1 to 249 of letters, digits, '.', '_', '-'",
                         value);
    uint32_t first, last;
    char why[CONF_VALUE_MAX];
    int rc = f->kind == K_CPUS ? 1 : 0;
    for (const char *s = value; rc > 0;)
        rc = conf_cpus_next(&s, &first, &last, why, sizeof(why));
    if (rc < 0)
        return conf_fail(err, cap, "\"%s\": %s", value, why);
    memset(f->p, 0, f->size);
    memcpy(f->p, value, len);
    return 0;
}
static int addr_set(const struct field *f, const char *value, char *err, size_t cap)
{
    struct net_addr a = {.port = 0};
    if (f->kind == K_ADDR && net_addr_parse(value, (uint32_t)strlen(value), &a) < 0)
        return conf_fail(
            err, cap, "'%s' is not an address and port: write 127.0.0.1:9092 or [::1]:9092", value);
    if (f->kind == K_IP && net_addr_parse_ip(value, (uint32_t)strlen(value), &a) < 0)
        return conf_fail(err, cap, "'%s' is not an IP address", value);
    memcpy(f->p, &a, sizeof(a));
    return 0;
}
static int cidr_set(const struct field *f, const char *value, char *err, size_t cap)
{
    struct conf_addr a = {.prefix_len = 0};
    int64_t prefix;
    const char *slash = strchr(value, '/');
    if (slash == NULL || net_addr_parse_ip(value, (uint32_t)(slash - value), &a.ip) < 0)
        goto bad;
    if (conf_number_parse(slash + 1, 0, net_addr_is_v4(&a.ip) ? 32 : 128, &prefix) < 0)
        goto bad;
    a.prefix_len = (uint8_t)prefix;
    memcpy(f->p, &a, sizeof(a));
    return 0;
bad:
    return conf_fail(err, cap, "'%s' is not an address with prefix length, such as 192.0.2.10/24",
                     value);
}
static int uuid_set(const struct field *f, const char *value, char *err, size_t cap)
{
    struct uuid u = {{0}};
    if (value[0] != '\0' && uuid_parse(value, (uint32_t)strlen(value), &u) < 0)
        return conf_fail(err, cap, "'%s' is not an id of 22 base64url characters", value);
    memcpy(f->p, &u, sizeof(u));
    return 0;
}
/* ---- sets of words: a bit for each ---- */

static const struct word_set {
    enum kind kind;
    const char *const *names;
    uint32_t cnt;
    const char *what;
} word_sets[] = {
    {K_HEADERS, names_header, RH_CNT, "a header"},
    {K_FACILITIES, names_facility, CONF_FACILITIES, "a facility"},
    {K_SEVERITIES, names_severity, CONF_SEVERITIES, "a severity"},
};
static const struct word_set *word_set_of(enum kind kind)
{
    for (uint32_t i = 0; i < sizeof(word_sets) / sizeof(word_sets[0]); i++)
        if (word_sets[i].kind == kind)
            return &word_sets[i];
    return NULL;
}
bool conf_kind_is_set(enum kind kind)
{
    return word_set_of(kind) != NULL;
}
static int word_bit(const struct word_set *s, const char *p, size_t n)
{
    for (uint32_t i = 0; i < s->cnt; i++)
        if (strlen(s->names[i]) == n && memcmp(p, s->names[i], n) == 0)
            return (int)i;
    return -1;
}
/* `all` and `none` are words of headers only: a rule without a facility takes any. */
static int words_set(const struct field *f, const char *value, char *err, size_t cap)
{
    const struct word_set *s = word_set_of(f->kind);
    uint32_t mask = 0;
    if (f->kind == K_HEADERS && strcmp(value, "all") == 0) {
        mask = (1u << RH_CNT) - 1;
    } else if (f->kind != K_HEADERS || strcmp(value, "none") != 0) {
        for (const char *p = value; *p != '\0';) {
            size_t n = strcspn(p, " ,");
            int bit = n > 0 ? word_bit(s, p, n) : -1;
            if (n > 0 && bit < 0)
                return conf_fail(err, cap, "'%.*s' is not %s", (int)n, p, s->what);
            if (n > 0)
                mask |= 1u << bit;
            p += n;
            p += strspn(p, " ,");
        }
    }
    memcpy(f->p, &mask, sizeof(mask));
    return 0;
}
static int zone_set(const struct field *f, const char *value, char *err, size_t cap)
{
    int32_t offset = 0;
    if (strcmp(value, "UTC") != 0 && strcmp(value, "Z") != 0) {
        const char *v = value;
        if (strlen(v) != 6 || (v[0] != '+' && v[0] != '-') || v[3] != ':' ||
            !isdigit((unsigned char)v[1]) || !isdigit((unsigned char)v[2]) ||
            !isdigit((unsigned char)v[4]) || !isdigit((unsigned char)v[5]) || v[4] > '5')
            return conf_fail(err, cap, "'%s' is not a zone: write UTC or an offset such as +02:00",
                             value);
        offset = ((v[1] - '0') * 10 + v[2] - '0') * 3600 + ((v[4] - '0') * 10 + v[5] - '0') * 60;
        if (v[0] == '-')
            offset = -offset;
    }
    if (offset < f->min || offset > f->max)
        return conf_fail(err, cap, "'%s' is outside -14:00 .. +14:00", value);
    memcpy(f->p, &offset, sizeof(offset));
    return 0;
}
int conf_field_set(const struct field *f, const char *value, char *err, size_t cap)
{
    switch (f->kind) {
    case K_BOOL:
        return bool_set(f, value, err, cap);
    case K_INT:
    case K_SIZE:
    case K_DURATION:
        return number_set(f, value, err, cap);
    case K_TEXT:
    case K_PATH:
    case K_NAME:
    case K_TOPIC:
    case K_CPUS:
        return text_set(f, value, err, cap);
    case K_ADDR:
    case K_IP:
        return addr_set(f, value, err, cap);
    case K_CIDR:
        return cidr_set(f, value, err, cap);
    case K_UUID:
        return uuid_set(f, value, err, cap);
    case K_HEADERS:
    case K_FACILITIES:
    case K_SEVERITIES:
        return words_set(f, value, err, cap);
    case K_ZONE:
        return zone_set(f, value, err, cap);
    case K_ENUM_IDLE:
    case K_ENUM_COMPRESSION:
    case K_ENUM_TRANSPORT:
    case K_ENUM_PROTO:
    case K_ENUM_REPLICAS:
    case K_ENUM_KEY:
    case K_ENUM_RULE_COMPRESSION:
        return enum_set(f, value, err, cap);
    }
    UNREACHABLE();
}
static void words_format(const struct field *f, char *out, size_t cap)
{
    const struct word_set *s = word_set_of(f->kind);
    uint32_t mask = (uint32_t)conf_int_load(f->p, 4, false);
    out[0] = '\0';
    if (f->kind == K_HEADERS && (mask == (1u << RH_CNT) - 1 || mask == 0)) {
        snprintf(out, cap, "%s", mask == 0 ? "none" : "all");
        return;
    }
    size_t len = 0;
    for (uint32_t i = 0; i < s->cnt; i++) {
        if (mask & (1u << i))
            len += (size_t)snprintf(out + len, cap - len, "%s%s", len == 0 ? "" : " ", s->names[i]);
    }
}
static void addr_copy(const struct net_addr *a, bool port, char *out, size_t cap)
{
    char text[NET_ADDR_TEXT_MAX];
    if (port)
        (void)net_addr_format(a, text); /* the length is not needed */
    else
        (void)net_addr_format_ip(a, text);
    snprintf(out, cap, "%s", text);
}
void conf_field_format(const struct field *f, char *out, size_t cap)
{
    int64_t v;
    switch (f->kind) {
    case K_BOOL:
        snprintf(out, cap, "%s", conf_int_load(f->p, 1, false) ? "true" : "false");
        break;
    case K_INT:
    case K_SIZE:
    case K_DURATION:
        conf_range_text(f, conf_int_load(f->p, f->size, f->min < 0), out, cap);
        break;
    case K_TEXT:
    case K_PATH:
    case K_NAME:
    case K_TOPIC:
    case K_CPUS:
        snprintf(out, cap, "%s", (const char *)f->p);
        break;
    case K_ADDR:
        addr_copy(f->p, true, out, cap);
        break;
    case K_IP:
        addr_copy(f->p, false, out, cap);
        break;
    case K_CIDR: {
        const struct conf_addr *a = f->p;
        addr_copy(&a->ip, false, out, cap);
        size_t len = strlen(out);
        snprintf(out + len, cap - len, "/%u", a->prefix_len);
        break;
    }
    case K_UUID: {
        char text[UUID_TEXT_LEN + 1] = "";
        if (!uuid_is_zero(f->p))
            uuid_format(f->p, text);
        snprintf(out, cap, "%s", text);
        break;
    }
    case K_HEADERS:
    case K_FACILITIES:
    case K_SEVERITIES:
        words_format(f, out, cap);
        break;
    case K_ZONE:
        v = conf_int_load(f->p, 4, true);
        if (v == 0)
            snprintf(out, cap, "UTC");
        else
            snprintf(out, cap, "%c%02d:%02d", v < 0 ? '-' : '+', (int)(llabs(v) / 3600),
                     (int)(llabs(v) / 60 % 60));
        break;
    case K_ENUM_IDLE:
    case K_ENUM_COMPRESSION:
    case K_ENUM_TRANSPORT:
    case K_ENUM_PROTO:
    case K_ENUM_REPLICAS:
    case K_ENUM_KEY:
    case K_ENUM_RULE_COMPRESSION:
        snprintf(out, cap, "%s", enum_names(f->kind)[conf_int_load(f->p, f->size, false)]);
        break;
    }
}
