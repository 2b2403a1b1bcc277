/* conf.c - the configuration keys as a table (conf.def), their paths, and the internal file that
 * carries a configuration from sluiced to the dataplane:
 *
 *     sluice-conf 1 <version of the build>
 *     <path>=<value>          one line per field, in the order of conf.def
 *     end <FNV-1a 64 of everything before this line, 16 hex digits>
 *
 * Paths and values are those of the YAML file, so one parser serves YAML, --set and this file. */
#include "lib/iface/conf_int.h"
#include "lib/base/build_id.h"
#include "lib/base/assert.h"
#include "lib/base/text_file.h"
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CONF_FILE_MAX (1u << 20)

enum scope {
    SC_conf,
    SC_conf_listener,
    SC_conf_port,
    SC_conf_kafka_listener,
    SC_conf_route,
    SC_conf_police_rule,
    SC_conf_rule,
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
    if (w->base != NULL && idx < (uint64_t)conf_int_load(w->base + l->cnt_off, 4, false))
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
    return w.node == CONF_NODE_KEY && w.key != NULL && conf_kind_is_set(w.key->kind);
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
        int rc = conf_field_set(&f, keys[i].def, err, sizeof(err));
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
        return conf_fail(err, cap, "%s has %u entries, the next index is %u", l->name, cnt, cnt);
    if (cnt == l->max)
        return conf_fail(err, cap, "%s may have at most %u entries", l->name, l->max);
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
            return conf_fail(err, cap, "path is too long");
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
            return conf_fail(err, err_cap, "unknown key '%s'", path);
        return conf_fail(err, err_cap, "unknown key '%s'; did you mean '%s%s%s'?", path,
                         dot == NULL ? "" : parent, dot == NULL ? "" : ".", near);
    }
    if (w.node != CONF_NODE_KEY)
        return conf_fail(err, err_cap, "%s is %s, not one value", path,
                         w.node == CONF_NODE_GROUP || w.node == CONF_NODE_ELEMENT
                             ? "a group of keys"
                             : "a list");
    if (w.key != NULL && w.key->change == CH_INTERNAL && !internal)
        return conf_fail(err, err_cap, "unknown key '%s'", path);
    int rc = append_on_the_way(c, path, err, err_cap);
    if (rc < 0)
        return rc;
    w = walk(c, path);
    if (w.key != NULL ? w.base == NULL : w.elem == NULL)
        return conf_fail(err, err_cap, "%s: no such element", path);
    struct field f = w.key != NULL ? key_field(w.key, w.base) : value_field(w.list, w.elem);
    char why[CONF_PATH_MAX];
    rc = conf_field_set(&f, value, why, sizeof(why));
    if (rc < 0)
        return conf_fail(err, err_cap, "%s: %s", path, why);
    return 0;
}
int conf_get(const struct conf *c, const char *path, char *out, size_t cap)
{
    struct walk w = walk((struct conf *)(uintptr_t)c, path); /* only read through the pointer */
    if (w.node != CONF_NODE_KEY || (w.key != NULL ? w.base == NULL : w.elem == NULL))
        return -E_CONFIG;
    struct field f = w.key != NULL ? key_field(w.key, w.base) : value_field(w.list, w.elem);
    conf_field_format(&f, out, cap);
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
        return conf_fail(err, err_cap, "%s is not a list of mappings", path);
    w.idx = (uint32_t)conf_int_load(w.base + w.list->cnt_off, 4, false);
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
        conf_field_format(&f, value, sizeof(value));
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
                conf_field_format(&f, value, sizeof(value));
                text_add(t, "%s%s[%u]=%s\n", prefix, l->name, e, value);
            }
        }
    }
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
        rc = text_file_replace(path, t.p, t.len);
    free(t.p);
    return rc;
}
bool conf_file_matches(const struct conf *c, const char *path)
{
    struct text t;
    char *text = NULL;
    size_t len = 0;
    bool same = conf_render(c, &t) == 0 && text_file_read(path, CONF_FILE_MAX, &text, &len) == 0 &&
                len == t.len && memcmp(text, t.p, len) == 0;
    free(text);
    free(t.p);
    return same;
}
static int line_apply(struct conf *c, char *line, char *err, size_t cap)
{
    char *eq = strchr(line, '=');
    if (eq == NULL)
        return conf_fail(err, cap, "'%.60s' is not key=value", line);
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
    int64_t said, is = w.base == NULL ? 0 : conf_int_load(w.base + w.list->cnt_off, 4, false);
    if (conf_number_parse(line + strlen(path) + 1, 0, INT32_MAX, &said) < 0 || said != is)
        return conf_fail(err, cap, "%s has %d elements, its line says %s", path, (int)is,
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
            return conf_fail(err, cap, "%s", why);
    }
    return 0;
}
int conf_read(struct conf *c, const char *path, char *err, size_t err_cap)
{
    char *text = NULL, *copy = NULL, head[128], tail[40], why[CONF_PATH_MAX + 128];
    size_t len = 0;
    uint32_t line_no = 0;
    int rc = text_file_read(path, CONF_FILE_MAX, &text, &len);
    if (rc < 0) {
        conf_fail(err, err_cap, "%s: %s", path, err_text(rc));
        return rc;
    }
    snprintf(head, sizeof(head), "sluice-conf 1 %s\n", build_id());
    if (strncmp(text, head, strlen(head)) != 0) {
        rc = conf_fail(err, err_cap, "%s:1: written by another build ('%.*s'), this is %s", path,
                       (int)strcspn(text, "\n"), text, build_id());
        goto out;
    }
    size_t tail_len = strlen("end 0123456789abcdef\n");
    size_t body = len > tail_len ? len - tail_len : 0;
    snprintf(tail, sizeof(tail), "end %016" PRIx64 "\n", fnv1a(text, body));
    if (strlen(text) != len || strcmp(text + body, tail) != 0) {
        rc = conf_fail(err, err_cap, "%s: damaged: its last line should be '%.20s'", path, tail);
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
        conf_fail(err, err_cap, "%s:%u: %s", path, line_no - 1, why);
    char *save = NULL;
    for (char *l = strtok_r(copy, "\n", &save); l != NULL && rc == 0;
         l = strtok_r(NULL, "\n", &save)) {
        rc = count_check(next, l, why, sizeof(why));
        if (rc < 0)
            conf_fail(err, err_cap, "%s: %s", path, why);
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
    char type[160];
    conf_kind_text(k->kind, type, sizeof(type));
    fprintf(out, "  %s%s: %s   (%s)\n", prefix, k->name, k->def[0] == '\0' ? "\"\"" : k->def, type);
    if (k->kind == K_INT || k->kind == K_SIZE || k->kind == K_DURATION) {
        struct field f = {.kind = k->kind};
        char lo[64], hi[64];
        conf_range_text(&f, k->min, lo, sizeof(lo));
        conf_range_text(&f, k->max, hi, sizeof(hi));
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
