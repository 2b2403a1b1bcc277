/* conf.c - the configuration keys as a table (conf.def), texts to fields and back, and the internal
 * file that carries a configuration from sluiced to the dataplane:
 *
 *     sluice-conf 1 <version of the build>
 *     <path>=<value>          one line per field, in the order of conf.def
 *     end <FNV-1a 64 of everything before this line, 16 hex digits>
 *
 * Paths and values are those of the YAML file, so one parser serves YAML, --set and this file. */
#include "lib/iface/conf.h"
#include "lib/base/build_id.h"
#include "lib/base/assert.h"
#include "lib/iface/net_addr.h"
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONF_FILE_MAX (1u << 20)
#define CONF_VALUE_MAX 1100 /* longest value as text: a path */

enum kind {
    K_BOOL,
    K_INT,
    K_SIZE,
    K_DURATION,
    K_TEXT,
    K_PATH,
    K_NAME,
    K_TOPIC,
    K_ADDR,
    K_IP,
    K_CIDR,
    K_UUID,
    K_HEADERS,
    K_ZONE,
    K_ENUM_IDLE,
    K_ENUM_COMPRESSION,
    K_ENUM_TRANSPORT,
    K_ENUM_PROTO,
    K_ENUM_REPLICAS,
};
enum scope {
    SC_conf,
    SC_conf_listener,
    SC_conf_port,
    SC_conf_kafka_listener,
    SC_conf_route,
};
enum change { CH_RESTART, CH_INTERNAL };

struct key {
    enum scope scope;
    const char *name;
    enum kind kind;
    uint32_t off, size;
    const char *def;
    int64_t min, max;
    enum change change;
    const char *help;
    int row; /* line in conf.def: which heading it stands under */
};
struct list { /* of mappings (elem > 0) or of values (elem 0) */
    enum scope scope;
    const char *name;
    enum scope elem;
    enum kind kind; /* of values */
    uint32_t off, cnt_off, elem_size, max;
    const char *help;
    int row;
};
struct group {
    const char *title, *help;
    int row;
};

#define FIELD_SIZE(type, field) sizeof(((struct type *)0)->field)
#define ELEM_SIZE(type, field) sizeof(((struct type *)0)->field[0])

static const struct key keys[] = {
#define CONF_KEY(sc, name, kind, field, def, min, max, change, help)                               \
    {                                                                                              \
        SC_##sc,                                                                                   \
        name,                                                                                      \
        K_##kind,                                                                                  \
        offsetof(struct sc, field),                                                                \
        FIELD_SIZE(sc, field),                                                                     \
        def,                                                                                       \
        min,                                                                                       \
        max,                                                                                       \
        CH_##change,                                                                               \
        help,                                                                                      \
        __LINE__},
#include "lib/iface/conf.def"
};
static const struct list lists[] = {
#define CONF_LIST(sc, name, el, field, cnt, max, help)                                             \
    {SC_##sc,                                                                                      \
     name,                                                                                         \
     SC_##el,                                                                                      \
     0,                                                                                            \
     offsetof(struct sc, field),                                                                   \
     offsetof(struct sc, cnt),                                                                     \
     ELEM_SIZE(sc, field),                                                                         \
     max,                                                                                          \
     help,                                                                                         \
     __LINE__},
#define CONF_VALUES(sc, name, kind, field, cnt, max, help)                                         \
    {SC_##sc,                                                                                      \
     name,                                                                                         \
     SC_conf,                                                                                      \
     K_##kind,                                                                                     \
     offsetof(struct sc, field),                                                                   \
     offsetof(struct sc, cnt),                                                                     \
     ELEM_SIZE(sc, field),                                                                         \
     max,                                                                                          \
     help,                                                                                         \
     __LINE__},
#include "lib/iface/conf.def"
};
static const struct group groups[] = {
#define CONF_GROUP(title, help) {title, help, __LINE__},
#include "lib/iface/conf.def"
};
#define KEY_CNT (sizeof(keys) / sizeof(keys[0]))
#define LIST_CNT (sizeof(lists) / sizeof(lists[0]))
#define GROUP_CNT (sizeof(groups) / sizeof(groups[0]))

static const char *const names_replicas[] = {"refuse", "clamp", NULL};
static const char *const names_idle[] = {"adaptive", "poll", NULL};
static const char *const names_compression[] = {"auto",   "producer", "none", "gzip",
                                                "snappy", "lz4",      "zstd", NULL};
static const char *const names_transport[] = {"udp", "tcp", NULL};
static const char *const names_proto[] = {"syslog", "raw", NULL};
static const char *const names_header[RH_CNT] = {"source",     "facility",  "severity", "host",
                                                 "app",        "procid",    "msgid",    "listener",
                                                 "event_time", "truncated", "reason"};

static const struct {
    const char *path, *value;
} default_elements[] =
    {
        {"kafka.listeners[0].name", "kafka"}, {"listeners[0].name", "syslog-udp"},
        {"listeners[0].topic", "syslog"},     {"listeners[1].name", "syslog-tcp"},
        {"listeners[1].transport", "tcp"},    {"listeners[1].topic", "syslog"},
},
  dev_values[] = {
      {"node.dev", "true"},
      {"data.dir", "./sluice-data"},
      {"shards", "1"},
};

/* ---- small helpers ---- */

__attribute__((format(printf, 3, 4))) static int fail(char *err, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (cap > 0)
        vsnprintf(err, cap, fmt, ap);
    va_end(ap);
    return -E_CONFIG;
}

static int number_parse(const char *text, int64_t min, int64_t max, int64_t *ret)
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
const char *conf_compression_name(enum conf_compression c)
{
    ASSERT(c <= CONF_COMP_ZSTD);
    return names_compression[c];
}

static int64_t int_load(const void *p, uint32_t size, bool is_signed)
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
static void int_store(void *p, uint32_t size, int64_t v)
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
    default:
        return NULL;
    }
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
        return fail(err, cap, "'%s' is not a %s: write a number and a unit (%s)", value, what,
                    hint);
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno != 0)
        return fail(err, cap, "'%s' is too large", value);
    while (*end == ' ')
        end++;
    if (*end == '\0') {
        if (!bare && n != 0)
            return fail(err, cap, "'%s' has no unit: write one of %s", value, hint);
        *ret = n;
        return 0;
    }
    for (const struct unit *u = units; u->name != NULL; u++) {
        if (strcmp(end, u->name) == 0) {
            if (n > INT64_MAX / u->factor)
                return fail(err, cap, "'%s' is too large", value);
            *ret = n * u->factor;
            return 0;
        }
    }
    return fail(err, cap, "'%s' has an unknown unit '%s': write one of %s", value, end, hint);
}

/* ---- one value: text -> field, field -> text ---- */

struct field { /* one place to set, with the rules of its row */
    enum kind kind;
    void *p;
    uint32_t size;
    int64_t min, max;
};

static void range_text(const struct field *f, int64_t v, char *out, size_t cap)
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
        range_text(f, f->min, bound, sizeof(bound));
        return fail(err, cap, "%s is below the minimum %s", value, bound);
    }
    if (v > f->max) {
        range_text(f, f->max, bound, sizeof(bound));
        return fail(err, cap, "%s is above the maximum %s", value, bound);
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
    else if (number_parse(value, INT64_MIN, INT64_MAX, &v) < 0)
        rc = fail(err, cap, "'%s' is not a whole number", value);
    if (rc == 0)
        rc = range_check(f, value, v, err, cap);
    if (rc == 0)
        int_store(f->p, f->size, v);
    return rc;
}
static int bool_set(const struct field *f, const char *value, char *err, size_t cap)
{
    bool on = strcmp(value, "true") == 0;
    if (!on && strcmp(value, "false") != 0)
        return fail(err, cap, "'%s' is not true or false", value);
    memcpy(f->p, &on, sizeof(on));
    return 0;
}
static int enum_set(const struct field *f, const char *value, char *err, size_t cap)
{
    const char *const *names = enum_names(f->kind);
    char all[160] = "";
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            int_store(f->p, f->size, i);
            return 0;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof(all) - len, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    return fail(err, cap, "'%s' is not one of %s", value, all);
}
static int text_set(const struct field *f, const char *value, char *err, size_t cap)
{
    size_t len = strlen(value);
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)value[i];
        if (ch < 0x20 || ch == 0x7f)
            return fail(err, cap, "contains a control character (0x%02x)", ch);
        if (f->kind == K_NAME && !(ch < 0x80 && (isalnum(ch) || strchr("._-", ch) != NULL)))
            return fail(err, cap, "'%s' is not a name: use letters, digits, '.', '_' and '-'",
                        value);
    }
    if ((int64_t)len < f->min)
        return fail(err, cap, "must not be empty");
    if ((int64_t)len > f->max || len >= f->size)
        return fail(err, cap, "is longer than %" PRId64 " characters", f->max);
    if (f->kind == K_TOPIC && !conf_topic_name_ok(value))
        return fail(err, cap,
                    "'%s' is not a topic name: 1 to 249 of letters, digits, '.', '_', '-'", value);
    memset(f->p, 0, f->size);
    memcpy(f->p, value, len);
    return 0;
}
static int addr_set(const struct field *f, const char *value, char *err, size_t cap)
{
    struct net_addr a = {.port = 0};
    if (f->kind == K_ADDR && net_addr_parse(value, (uint32_t)strlen(value), &a) < 0)
        return fail(err, cap, "'%s' is not an address and port: write 127.0.0.1:9092 or [::1]:9092",
                    value);
    if (f->kind == K_IP && net_addr_parse_ip(value, (uint32_t)strlen(value), &a) < 0)
        return fail(err, cap, "'%s' is not an IP address", value);
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
    if (number_parse(slash + 1, 0, net_addr_is_v4(&a.ip) ? 32 : 128, &prefix) < 0)
        goto bad;
    a.prefix_len = (uint8_t)prefix;
    memcpy(f->p, &a, sizeof(a));
    return 0;
bad:
    return fail(err, cap, "'%s' is not an address with prefix length, such as 192.0.2.10/24",
                value);
}
static int uuid_set(const struct field *f, const char *value, char *err, size_t cap)
{
    struct uuid u = {{0}};
    if (value[0] != '\0' && uuid_parse(value, (uint32_t)strlen(value), &u) < 0)
        return fail(err, cap, "'%s' is not an id of 22 base64url characters", value);
    memcpy(f->p, &u, sizeof(u));
    return 0;
}
static int headers_set(const struct field *f, const char *value, char *err, size_t cap)
{
    uint32_t mask = 0;
    if (strcmp(value, "all") == 0) {
        mask = (1u << RH_CNT) - 1;
    } else if (strcmp(value, "none") != 0) {
        for (const char *p = value; *p != '\0';) {
            size_t n = strcspn(p, " ,");
            uint32_t i = 0;
            while (i < RH_CNT &&
                   !(strlen(names_header[i]) == n && memcmp(p, names_header[i], n) == 0))
                i++;
            if (n > 0 && i == RH_CNT)
                return fail(err, cap, "'%.*s' is not a header", (int)n, p);
            if (n > 0)
                mask |= 1u << i;
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
            return fail(err, cap, "'%s' is not a zone: write UTC or an offset such as +02:00",
                        value);
        offset = ((v[1] - '0') * 10 + v[2] - '0') * 3600 + ((v[4] - '0') * 10 + v[5] - '0') * 60;
        if (v[0] == '-')
            offset = -offset;
    }
    if (offset < f->min || offset > f->max)
        return fail(err, cap, "'%s' is outside -14:00 .. +14:00", value);
    memcpy(f->p, &offset, sizeof(offset));
    return 0;
}
static int field_set(const struct field *f, const char *value, char *err, size_t cap)
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
        return text_set(f, value, err, cap);
    case K_ADDR:
    case K_IP:
        return addr_set(f, value, err, cap);
    case K_CIDR:
        return cidr_set(f, value, err, cap);
    case K_UUID:
        return uuid_set(f, value, err, cap);
    case K_HEADERS:
        return headers_set(f, value, err, cap);
    case K_ZONE:
        return zone_set(f, value, err, cap);
    case K_ENUM_IDLE:
    case K_ENUM_COMPRESSION:
    case K_ENUM_TRANSPORT:
    case K_ENUM_PROTO:
    case K_ENUM_REPLICAS:
        return enum_set(f, value, err, cap);
    }
    UNREACHABLE();
}
static void headers_format(uint32_t mask, char *out, size_t cap)
{
    if (mask == (1u << RH_CNT) - 1 || mask == 0) {
        snprintf(out, cap, "%s", mask == 0 ? "none" : "all");
        return;
    }
    size_t len = 0;
    for (uint32_t i = 0; i < RH_CNT; i++) {
        if (mask & (1u << i))
            len += (size_t)snprintf(out + len, cap - len, "%s%s", len == 0 ? "" : " ",
                                    names_header[i]);
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
static void field_format(const struct field *f, char *out, size_t cap)
{
    int64_t v;
    switch (f->kind) {
    case K_BOOL:
        snprintf(out, cap, "%s", int_load(f->p, 1, false) ? "true" : "false");
        break;
    case K_INT:
    case K_SIZE:
    case K_DURATION:
        range_text(f, int_load(f->p, f->size, f->min < 0), out, cap);
        break;
    case K_TEXT:
    case K_PATH:
    case K_NAME:
    case K_TOPIC:
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
        headers_format((uint32_t)int_load(f->p, 4, false), out, cap);
        break;
    case K_ZONE:
        v = int_load(f->p, 4, true);
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
        snprintf(out, cap, "%s", enum_names(f->kind)[int_load(f->p, f->size, false)]);
        break;
    }
}

/* ---- paths ---- */

struct walk { /* where a path led */
    enum conf_node node;
    enum scope scope;
    const char *rest;        /* the part of the path inside `scope` */
    const struct key *key;   /* CONF_NODE_KEY, unless it is an element of a list of values */
    const struct list *list; /* LIST, VALUES, ELEMENT, and KEY inside a list of values */
    uint32_t idx;            /* of ELEMENT or value */
    char *base;              /* the struct the scope's offsets are in; NULL without a conf */
    char *elem;              /* ELEMENT or value */
};

/* Elements beyond the count have no place: base is NULL below them. */
static int walk_index(const struct list *l, const char *text, struct walk *w, const char **ret_end)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return -E_MALFORMED;
    errno = 0;
    unsigned long idx = strtoul(text, &end, 10);
    if (errno != 0 || *end != ']' || idx > 100000)
        return -E_MALFORMED;
    w->idx = (uint32_t)idx;
    w->list = l;
    w->elem = NULL;
    if (w->base != NULL && idx < (uint64_t)int_load(w->base + l->cnt_off, 4, false))
        w->elem = w->base + l->off + idx * l->elem_size;
    *ret_end = end + 1;
    return 0;
}
static struct walk walk(struct conf *c, const char *path)
{
    struct walk w = {.scope = SC_conf, .base = (char *)c, .rest = path};
next_scope:
    w.node = CONF_NODE_UNKNOWN;
    if (*w.rest == '\0') {
        w.node = CONF_NODE_GROUP;
        return w;
    }
    for (uint32_t i = 0; i < KEY_CNT; i++) {
        if (keys[i].scope == w.scope && strcmp(keys[i].name, w.rest) == 0) {
            w.node = CONF_NODE_KEY;
            w.key = &keys[i];
            w.list = NULL;
            return w;
        }
    }
    for (uint32_t i = 0; i < LIST_CNT; i++) {
        const struct list *l = &lists[i];
        size_t len = strlen(l->name);
        if (l->scope != w.scope || strncmp(l->name, w.rest, len) != 0)
            continue;
        if (w.rest[len] == '\0') {
            w.list = l;
            w.node = l->elem == SC_conf ? CONF_NODE_VALUES : CONF_NODE_LIST;
            return w;
        }
        const char *end;
        if (w.rest[len] != '[' || walk_index(l, w.rest + len + 1, &w, &end) < 0)
            continue;
        if (*end == '\0') {
            w.node = l->elem == SC_conf ? CONF_NODE_KEY : CONF_NODE_ELEMENT;
            w.key = NULL;
            return w;
        }
        if (*end != '.' || l->elem == SC_conf)
            return w;
        w.scope = l->elem;
        w.base = w.elem;
        w.rest = end + 1;
        goto next_scope;
    }
    size_t len = strlen(w.rest);
    for (uint32_t i = 0; i < KEY_CNT + LIST_CNT; i++) {
        enum scope sc = i < KEY_CNT ? keys[i].scope : lists[i - KEY_CNT].scope;
        const char *name = i < KEY_CNT ? keys[i].name : lists[i - KEY_CNT].name;
        if (sc == w.scope && strncmp(name, w.rest, len) == 0 && name[len] == '.')
            w.node = CONF_NODE_GROUP;
    }
    return w;
}
enum conf_node conf_node_kind(const char *path)
{
    struct walk w = walk(NULL, path);
    return w.node;
}
bool conf_node_is_set(const char *path)
{
    struct walk w = walk(NULL, path);
    return w.node == CONF_NODE_KEY && w.key != NULL && w.key->kind == K_HEADERS;
}
bool conf_node_is_internal(const char *path)
{
    struct walk w = walk(NULL, path);
    return w.node == CONF_NODE_KEY && w.key != NULL && w.key->change == CH_INTERNAL;
}

uint32_t conf_word_distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    uint32_t d[MAX + 1][MAX + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX || m > MAX)
        return UINT32_MAX;
    for (size_t i = 0; i <= n; i++)
        d[i][0] = (uint32_t)i;
    for (size_t j = 0; j <= m; j++)
        d[0][j] = (uint32_t)j;
    for (size_t i = 1; i <= n; i++) {
        for (size_t j = 1; j <= m; j++) {
            uint32_t v = d[i - 1][j - 1] + (tolower((unsigned char)a[i - 1]) != b[j - 1]);
            if (d[i - 1][j] + 1 < v)
                v = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < v)
                v = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < v)
                v = d[i - 2][j - 2] + 1;
            d[i][j] = v;
        }
    }
    return d[n][m];
}
const char *conf_suggest(const char *parent, const char *name)
{
    static _Thread_local char best[CONF_NAME_MAX];
    struct walk w = walk(NULL, parent);
    enum scope scope = w.node == CONF_NODE_ELEMENT ? w.list->elem : w.scope;
    const char *prefix = w.node == CONF_NODE_ELEMENT ? "" : w.rest;
    size_t plen = strlen(prefix);
    uint32_t limit = (uint32_t)(strlen(name) + 2) / 3 + 1;
    best[0] = '\0';
    for (uint32_t i = 0; i < KEY_CNT + LIST_CNT; i++) {
        enum scope sc = i < KEY_CNT ? keys[i].scope : lists[i - KEY_CNT].scope;
        const char *full = i < KEY_CNT ? keys[i].name : lists[i - KEY_CNT].name;
        if (sc != scope || (i < KEY_CNT && keys[i].change == CH_INTERNAL))
            continue;
        if (plen > 0 && (strncmp(full, prefix, plen) != 0 || full[plen] != '.'))
            continue;
        char word[CONF_NAME_MAX];
        snprintf(word, sizeof(word), "%s", full + plen + (plen > 0));
        word[strcspn(word, ".")] = '\0';
        uint32_t dist = conf_word_distance(name, word);
        if (dist < limit) {
            limit = dist;
            memcpy(best, word, sizeof(best));
        }
    }
    return best[0] != '\0' ? best : NULL;
}

/* ---- setting ---- */

static struct field key_field(const struct key *k, char *base)
{
    return (struct field){k->kind, base + k->off, k->size, k->min, k->max};
}
static struct field value_field(const struct list *l, char *elem)
{
    return (struct field){l->kind, elem, l->elem_size, 1, l->elem_size - 1};
}
static void elem_defaults(enum scope scope, char *elem)
{
    char err[256];
    for (uint32_t i = 0; i < KEY_CNT; i++) {
        if (keys[i].scope != scope)
            continue;
        struct field f = key_field(&keys[i], elem);
        if (keys[i].def[0] == '\0') {
            memset(f.p, 0, f.size);
            continue;
        }
        int rc = field_set(&f, keys[i].def, err, sizeof(err));
        if (rc < 0)
            fprintf(stderr, "conf.def: %s: %s\n", keys[i].name, err);
        ASSERT(rc == 0); /* a row of conf.def contradicts itself */
    }
}
/* Makes room for element w->idx of w->list when it is the next one. */
static int elem_append(struct walk *w, char *err, size_t cap)
{
    const struct list *l = w->list;
    uint32_t cnt;
    memcpy(&cnt, w->base + l->cnt_off, 4);
    if (w->idx < cnt)
        return 0;
    if (w->idx > cnt)
        return fail(err, cap, "%s has %u entries, the next index is %u", l->name, cnt, cnt);
    if (cnt == l->max)
        return fail(err, cap, "%s may have at most %u entries", l->name, l->max);
    w->elem = w->base + l->off + (size_t)cnt * l->elem_size;
    memset(w->elem, 0, l->elem_size);
    if (l->elem != SC_conf)
        elem_defaults(l->elem, w->elem);
    cnt++;
    memcpy(w->base + l->cnt_off, &cnt, 4);
    return 0;
}
/* Appends what is missing on the way to `path`: "a[1].b[0].c" may be the first word of a[1]. */
static int append_on_the_way(struct conf *c, const char *path, char *err, size_t cap)
{
    char part[CONF_PATH_MAX];
    for (const char *p = strchr(path, ']'); p != NULL; p = strchr(p + 1, ']')) {
        size_t len = (size_t)(p - path) + 1;
        if (len >= sizeof(part))
            return fail(err, cap, "path is too long");
        memcpy(part, path, len);
        part[len] = '\0';
        struct walk w = walk(c, part);
        if (w.list == NULL || w.base == NULL)
            return 0; /* the caller's walk says what is wrong */
        if (w.node != CONF_NODE_ELEMENT && w.node != CONF_NODE_KEY)
            return 0;
        int rc = elem_append(&w, err, cap);
        if (rc < 0)
            return rc;
    }
    return 0;
}
int conf_set(struct conf *c, const char *path, const char *value, bool internal, char *err,
             size_t err_cap)
{
    struct walk w = walk(NULL, path);
    if (w.node == CONF_NODE_UNKNOWN) {
        char parent[CONF_PATH_MAX];
        snprintf(parent, sizeof(parent), "%s", path);
        char *dot = strrchr(parent, '.');
        const char *last = dot == NULL ? parent : dot + 1;
        if (dot != NULL)
            *dot = '\0';
        const char *near = conf_suggest(dot == NULL ? "" : parent, last);
        if (near == NULL)
            return fail(err, err_cap, "unknown key '%s'", path);
        return fail(err, err_cap, "unknown key '%s'; did you mean '%s%s%s'?", path,
                    dot == NULL ? "" : parent, dot == NULL ? "" : ".", near);
    }
    if (w.node != CONF_NODE_KEY)
        return fail(err, err_cap, "%s is %s, not one value", path,
                    w.node == CONF_NODE_GROUP || w.node == CONF_NODE_ELEMENT ? "a group of keys"
                                                                             : "a list");
    if (w.key != NULL && w.key->change == CH_INTERNAL && !internal)
        return fail(err, err_cap, "unknown key '%s'", path);
    int rc = append_on_the_way(c, path, err, err_cap);
    if (rc < 0)
        return rc;
    w = walk(c, path);
    if (w.key != NULL ? w.base == NULL : w.elem == NULL)
        return fail(err, err_cap, "%s: no such element", path);
    struct field f = w.key != NULL ? key_field(w.key, w.base) : value_field(w.list, w.elem);
    char why[CONF_PATH_MAX];
    rc = field_set(&f, value, why, sizeof(why));
    if (rc < 0)
        return fail(err, err_cap, "%s: %s", path, why);
    return 0;
}
int conf_list_clear(struct conf *c, const char *path)
{
    struct walk w = walk(c, path);
    if ((w.node != CONF_NODE_LIST && w.node != CONF_NODE_VALUES) || w.base == NULL)
        return -E_CONFIG;
    memset(w.base + w.list->cnt_off, 0, 4);
    /* Nothing stays behind the new end: configurations are compared as bytes. */
    memset(w.base + w.list->off, 0, (size_t)w.list->max * w.list->elem_size);
    return 0;
}
int conf_list_append(struct conf *c, const char *path, char *err, size_t err_cap)
{
    struct walk w = walk(c, path);
    if (w.node != CONF_NODE_LIST || w.base == NULL)
        return fail(err, err_cap, "%s is not a list of mappings", path);
    w.idx = (uint32_t)int_load(w.base + w.list->cnt_off, 4, false);
    return elem_append(&w, err, err_cap);
}
static void set_static(struct conf *c, const char *path, const char *value)
{
    char err[256];
    int rc = conf_set(c, path, value, true, err, sizeof(err));
    ASSERT(rc == 0);
}
void conf_init(struct conf *c)
{
    memset(c, 0, sizeof(*c));
    elem_defaults(SC_conf, (char *)c);
    for (uint32_t i = 0; i < sizeof(default_elements) / sizeof(default_elements[0]); i++)
        set_static(c, default_elements[i].path, default_elements[i].value);
}
void conf_dev(struct conf *c)
{
    for (uint32_t i = 0; i < sizeof(dev_values) / sizeof(dev_values[0]); i++)
        set_static(c, dev_values[i].path, dev_values[i].value);
}
void conf_finish(struct conf *c)
{
    char first[CONF_PATH_MAX] = ""; /* to its end: struct conf is compared as bytes in tests */
    int n = snprintf(first, sizeof(first), "%s/log", c->dir);
    ASSERT(n > 0 && (size_t)n < sizeof(first)); /* data.dir is at most 512 characters */
    if (c->data_dir_cnt > 0 && strcmp(c->data_dirs[0], first) == 0)
        return;
    uint32_t keep = c->data_dir_cnt < CONF_DIRS_MAX ? c->data_dir_cnt : CONF_DIRS_MAX - 1;
    memmove(c->data_dirs[1], c->data_dirs[0], keep * sizeof(c->data_dirs[0]));
    memcpy(c->data_dirs[0], first, sizeof(first));
    c->data_dir_cnt = keep + 1;
}
void conf_defaults(struct conf *c)
{
    conf_init(c);
    conf_dev(c);
    conf_finish(c);
}

/* ---- the internal file ---- */

struct text {
    char *p;
    size_t len, cap;
    bool full;
};
__attribute__((format(printf, 2, 3))) static void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= t->cap - t->len)
        t->full = true;
    else
        t->len += (size_t)n;
}
static uint64_t fnv1a(const char *p, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)p[i]) * UINT64_C(0x100000001b3);
    return h;
}
static void scope_write(struct text *t, enum scope scope, const char *prefix, char *base)
{
    char value[CONF_VALUE_MAX];
    for (uint32_t i = 0; i < KEY_CNT; i++) {
        if (keys[i].scope != scope)
            continue;
        struct field f = key_field(&keys[i], base);
        field_format(&f, value, sizeof(value));
        if (value[0] != '\0') /* empty: the default of an element, nothing to say */
            text_add(t, "%s%s=%s\n", prefix, keys[i].name, value);
    }
    for (uint32_t i = 0; i < LIST_CNT; i++) {
        const struct list *l = &lists[i];
        if (l->scope != scope)
            continue;
        uint32_t cnt;
        memcpy(&cnt, base + l->cnt_off, 4);
        text_add(t, "%s%s=%u\n", prefix, l->name, cnt);
        for (uint32_t e = 0; e < cnt; e++) {
            char *elem = base + l->off + (size_t)e * l->elem_size;
            char below[256];
            if (l->elem != SC_conf) {
                snprintf(below, sizeof(below), "%s%s[%u].", prefix, l->name, e);
                scope_write(t, l->elem, below, elem);
            } else {
                struct field f = value_field(l, elem);
                field_format(&f, value, sizeof(value));
                text_add(t, "%s%s[%u]=%s\n", prefix, l->name, e, value);
            }
        }
    }
}
static int file_replace(const char *path, const char *bytes, size_t len)
{
    char tmp[CONF_PATH_MAX + 8], dir[CONF_PATH_MAX];
    if (snprintf(tmp, sizeof(tmp), "%s.tmp", path) >= (int)sizeof(tmp) ||
        snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
        return -ENAMETOOLONG;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    int rc = 0;
    for (size_t done = 0; done < len && rc == 0;) {
        ssize_t n = write(fd, bytes + done, len - done);
        if (n < 0 && errno != EINTR)
            rc = -errno;
        else if (n > 0)
            done += (size_t)n;
    }
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(tmp, path) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)unlink(tmp); /* best effort: the error that matters is rc */
        return rc;
    }
    int dfd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dfd < 0)
        return -errno;
    rc = fsync(dfd) < 0 ? -errno : 0;
    close(dfd);
    return rc;
}
/* The file's text; t->p is the caller's to free. */
static int conf_render(const struct conf *c, struct text *t)
{
    *t = (struct text){.p = malloc(CONF_FILE_MAX), .cap = CONF_FILE_MAX};
    if (t->p == NULL)
        return -ENOMEM;
    text_add(t, "sluice-conf 1 %s\n", build_id());
    scope_write(t, SC_conf, "", (char *)(uintptr_t)c); /* only read through the pointer */
    uint64_t sum = fnv1a(t->p, t->len);
    text_add(t, "end %016" PRIx64 "\n", sum);
    return t->full ? -EFBIG : 0;
}
int conf_write(const struct conf *c, const char *path)
{
    struct text t;
    int rc = conf_render(c, &t);
    if (rc == 0)
        rc = file_replace(path, t.p, t.len);
    free(t.p);
    return rc;
}
static int file_read(const char *path, char **ret_text, size_t *ret_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char *buf = malloc(CONF_FILE_MAX + 1);
    int rc = buf == NULL ? -ENOMEM : 0;
    size_t len = 0;
    while (rc == 0 && len <= CONF_FILE_MAX) {
        ssize_t n = read(fd, buf + len, CONF_FILE_MAX + 1 - len);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            rc = -errno;
        if (n > 0)
            len += (size_t)n;
    }
    close(fd);
    if (rc == 0 && len > CONF_FILE_MAX)
        rc = -EFBIG;
    if (rc < 0) {
        free(buf);
        return rc;
    }
    buf[len] = '\0';
    *ret_text = buf;
    *ret_len = len;
    return 0;
}
bool conf_file_matches(const struct conf *c, const char *path)
{
    struct text t;
    char *text = NULL;
    size_t len = 0;
    bool same = conf_render(c, &t) == 0 && file_read(path, &text, &len) == 0 && len == t.len &&
                memcmp(text, t.p, len) == 0;
    free(text);
    free(t.p);
    return same;
}
static int line_apply(struct conf *c, char *line, char *err, size_t cap)
{
    char *eq = strchr(line, '=');
    if (eq == NULL)
        return fail(err, cap, "'%.60s' is not key=value", line);
    *eq = '\0';
    enum conf_node node = conf_node_kind(line);
    if (node == CONF_NODE_LIST || node == CONF_NODE_VALUES)
        return 0; /* the count is checked at the end: see counts_check */
    return conf_set(c, line, eq + 1, true, err, cap);
}
/* Every list has as many elements as its line says. */
static int count_check(struct conf *c, const char *line, char *err, size_t cap)
{
    char path[CONF_PATH_MAX];
    snprintf(path, sizeof(path), "%.*s", (int)strcspn(line, "="), line);
    struct walk w = walk(c, path);
    if (w.node != CONF_NODE_LIST && w.node != CONF_NODE_VALUES)
        return 0;
    int64_t said, is = w.base == NULL ? 0 : int_load(w.base + w.list->cnt_off, 4, false);
    if (number_parse(line + strlen(path) + 1, 0, INT32_MAX, &said) < 0 || said != is)
        return fail(err, cap, "%s has %d elements, its line says %s", path, (int)is,
                    line + strlen(path) + 1);
    return 0;
}
static int lines_apply(struct conf *c, char *text, char *err, size_t cap, uint32_t *line_no)
{
    char *save = NULL, why[CONF_PATH_MAX + 128];
    *line_no = 1;
    for (char *l = strtok_r(text, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save)) {
        if ((*line_no)++ == 1)
            continue; /* the head, checked by the caller */
        int rc = line_apply(c, l, why, sizeof(why));
        if (rc < 0)
            return fail(err, cap, "%s", why);
    }
    return 0;
}
int conf_read(struct conf *c, const char *path, char *err, size_t err_cap)
{
    char *text = NULL, *copy = NULL, head[128], tail[40], why[CONF_PATH_MAX + 128];
    size_t len = 0;
    uint32_t line_no = 0;
    int rc = file_read(path, &text, &len);
    if (rc < 0) {
        fail(err, err_cap, "%s: %s", path, err_text(rc));
        return rc;
    }
    snprintf(head, sizeof(head), "sluice-conf 1 %s\n", build_id());
    if (strncmp(text, head, strlen(head)) != 0) {
        rc = fail(err, err_cap, "%s:1: written by another build ('%.*s'), this is %s", path,
                  (int)strcspn(text, "\n"), text, build_id());
        goto out;
    }
    size_t tail_len = strlen("end 0123456789abcdef\n");
    size_t body = len > tail_len ? len - tail_len : 0;
    snprintf(tail, sizeof(tail), "end %016" PRIx64 "\n", fnv1a(text, body));
    if (strlen(text) != len || strcmp(text + body, tail) != 0) {
        rc = fail(err, err_cap, "%s: damaged: its last line should be '%.20s'", path, tail);
        goto out;
    }
    text[body] = '\0';
    copy = strdup(text);
    if (copy == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    struct conf *next = calloc(1, sizeof(*next));
    if (next == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    elem_defaults(SC_conf, (char *)next);
    rc = lines_apply(next, text, why, sizeof(why), &line_no);
    if (rc < 0)
        fail(err, err_cap, "%s:%u: %s", path, line_no - 1, why);
    char *save = NULL;
    for (char *l = strtok_r(copy, "\n", &save); l != NULL && rc == 0;
         l = strtok_r(NULL, "\n", &save)) {
        rc = count_check(next, l, why, sizeof(why));
        if (rc < 0)
            fail(err, err_cap, "%s: %s", path, why);
    }
    if (rc == 0)
        memcpy(c, next, sizeof(*c));
    free(next);
out:
    free(copy);
    free(text);
    return rc;
}

/* ---- the reference ---- */

static void key_print(FILE *out, const struct key *k, const char *prefix)
{
    if (k->change == CH_INTERNAL)
        return;
    fprintf(out, "  %s%s: %s\n", prefix, k->name, k->def[0] == '\0' ? "\"\"" : k->def);
    if (k->kind == K_INT || k->kind == K_SIZE || k->kind == K_DURATION) {
        struct field f = {.kind = k->kind};
        char lo[64], hi[64];
        range_text(&f, k->min, lo, sizeof(lo));
        range_text(&f, k->max, hi, sizeof(hi));
        if (k->max == INT64_MAX)
            fprintf(out, "      from %s\n", lo);
        else
            fprintf(out, "      %s .. %s\n", lo, hi);
    }
    fprintf(out, "      %s\n", k->help);
}
/* Rows of conf.def between two lines; all of an element's rows below its list. */
static void scope_print(FILE *out, enum scope scope, const char *prefix, int from, int to)
{
    for (uint32_t i = 0; i < KEY_CNT; i++)
        if (keys[i].scope == scope && keys[i].row > from && keys[i].row < to)
            key_print(out, &keys[i], prefix);
    for (uint32_t i = 0; i < LIST_CNT; i++) {
        const struct list *l = &lists[i];
        if (l->scope != scope || l->row < from || l->row > to)
            continue;
        fprintf(out, "  %s%s[]: at most %u\n      %s\n", prefix, l->name, l->max, l->help);
        char below[256];
        snprintf(below, sizeof(below), "%s%s[].", prefix, l->name);
        if (l->elem != SC_conf)
            scope_print(out, l->elem, below, 0, INT_MAX);
    }
}
void conf_print_reference(FILE *out)
{
    for (uint32_t i = 0; i < GROUP_CNT; i++) {
        fprintf(out, "%s%s - %s\n", i == 0 ? "" : "\n", groups[i].title, groups[i].help);
        scope_print(out, SC_conf, "", groups[i].row,
                    i + 1 < GROUP_CNT ? groups[i + 1].row : INT_MAX);
    }
}
