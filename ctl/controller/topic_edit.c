/* topic_edit.c - see topic_edit.h. A change is worked out on a copy of the topic's overrides, that
 * copy is checked as a whole, and the records are its difference to what is in force. */
#include "ctl/controller/topic_edit.h"
#include "ctl/controller/topic_rules.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS_MAX 1000      /* of one resource in one request: they are compared with each other */
#define ROOT_LOGGER "root" /* the only one; its level is fixed */
#define ROOT_LEVEL "INFO"
enum { RES_TOPIC = 2, RES_BROKER = 4, RES_LOGGER = 8, RES_GROUP = 32 };

struct override {
    struct span key, value;
};
struct overrides {
    struct override *v; /* room for all the topic has and all the request names */
    uint32_t cnt;
};

__attribute__((format(printf, 4, 5))) static int16_t fail(int16_t code, char *err, size_t cap,
                                                          const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, cap, fmt, ap);
    va_end(ap);
    return code;
}

/* For "%.*s": keys and values of clients may be long. */
static int shown(struct span s)
{
    return (int)(s.len < 200 ? s.len : 200);
}

static struct override *find(const struct overrides *o, struct span key)
{
    for (uint32_t i = 0; i < o->cnt; i++)
        if (span_eq(o->v[i].key, key))
            return &o->v[i];
    return NULL;
}

static void set(struct overrides *o, struct span key, struct span value)
{
    struct override *at = find(o, key);
    if (at == NULL)
        at = &o->v[o->cnt++];
    *at = (struct override){key, value};
}

static void unset(struct overrides *o, struct span key)
{
    struct override *at = find(o, key);
    if (at != NULL)
        *at = o->v[--o->cnt];
}

/* What is edited: whose overrides, and by which rules. */
struct target {
    const struct meta_topic *topic; /* NULL: not a topic's */
    const struct meta_config *configs;
    uint32_t cnt;
    const struct config_key *(*find)(struct span key);
    int16_t (*check)(struct span key, struct span value, char *err, size_t cap);
};

static int16_t group_of(const struct meta_image *img, const struct topic_edits *in,
                        struct target *ret, char *err, size_t cap)
{
    if (in->resource.len == 0)
        return fail(KERR_INVALID_REQUEST, err, cap, "Default group resources are not allowed.");
    if (memchr(in->resource.p, 0, in->resource.len) != NULL)
        return fail(KERR_INVALID_REQUEST, err, cap, "The name of the group has a NUL.");
    const struct meta_group *g = groups_find(img->groups, in->resource);
    *ret = (struct target){.find = config_group_find, .check = group_config_check};
    if (g == NULL && img->groups != NULL && img->groups->cnt == META_GROUPS_MAX)
        return fail(KERR_POLICY_VIOLATION, err, cap, "%d groups have a configuration already.",
                    META_GROUPS_MAX);
    if (g != NULL) {
        ret->configs = g->v;
        ret->cnt = g->cnt;
    }
    return 0;
}

static int16_t self_check(const struct meta_image *img, struct span node, char *err, size_t cap)
{
    char self[16];
    snprintf(self, sizeof(self), "%d", img->node_id);
    return span_eq_str(node, self) ? 0
                                   : fail(KERR_INVALID_REQUEST, err, cap,
                                          "Unexpected broker id, expected %s, but received %.*s",
                                          self, shown(node), (const char *)node.p);
}

static int16_t broker_of(const struct meta_image *img, const struct topic_edits *in,
                         struct target *ret, char *err, size_t cap)
{
    *ret = (struct target){NULL, img->default_configs, img->default_config_cnt, config_broker_find,
                           broker_config_check};
    if (in->resource.len == 0)
        return 0;
    int16_t code = self_check(img, in->resource, err, cap);
    ret->configs = img->broker_configs;
    ret->cnt = img->broker_config_cnt;
    return code;
}

static int16_t target_of(const struct meta_image *img, const struct topic_edits *in,
                         struct target *ret, char *err, size_t cap)
{
    if (in->resource_type == RES_BROKER)
        return broker_of(img, in, ret, err, cap);
    if (in->resource_type == RES_GROUP)
        return group_of(img, in, ret, err, cap);
    if (in->resource_type != RES_TOPIC)
        return fail(KERR_INVALID_REQUEST, err, cap, "Unexpected resource type %d.",
                    in->resource_type);
    if (in->resource.len == 0)
        return fail(KERR_INVALID_REQUEST, err, cap, "Default topic resources are not allowed.");
    int16_t code = topic_name_check(in->resource, err, cap);
    if (code != 0)
        return code;
    const struct meta_topic *t = image_topic_by_name(img, in->resource);
    if (t == NULL)
        return fail(KERR_UNKNOWN_TOPIC, err, cap, "The topic '%.*s' does not exist.",
                    shown(in->resource), (const char *)in->resource.p);
    *ret = (struct target){t, t->configs, t->config_cnt, config_topic_find, topic_config_check};
    return 0;
}

static int16_t request_check(const struct topic_edits *in, char *err, size_t cap)
{
    if (in->cnt > KEYS_MAX)
        return fail(KERR_INVALID_REQUEST, err, cap, "More than %d keys for one resource.",
                    KEYS_MAX);
    for (uint32_t i = 0; i < in->cnt; i++) {
        const struct topic_edit *e = &in->v[i];
        for (uint32_t j = 0; j < i; j++)
            if (span_eq(in->v[j].key, e->key))
                return fail(KERR_INVALID_REQUEST, err, cap,
                            "Error due to duplicate config keys: %.*s", shown(e->key),
                            (const char *)e->key.p);
        if (e->op < EDIT_SET || e->op > EDIT_SUBTRACT)
            return fail(KERR_INVALID_REQUEST, err, cap, "Unknown operation type %d.", e->op);
        if (span_is_null(e->value) && e->op != EDIT_DELETE)
            return fail(KERR_INVALID_REQUEST, err, cap, "Null value not supported for : %.*s",
                        shown(e->key), (const char *)e->key.p);
    }
    return 0;
}

static struct span word_next(struct span *rest)
{
    uint32_t n = 0;
    while (n < rest->len && rest->p[n] != ',')
        n++;
    struct span w = span_of(rest->p, n);
    uint32_t step = n < rest->len ? n + 1 : n;
    *rest = span_of(rest->p + step, rest->len - step);
    while (w.len > 0 && w.p[0] == ' ')
        w = span_of(w.p + 1, w.len - 1);
    while (w.len > 0 && w.p[w.len - 1] == ' ')
        w.len--;
    return w;
}

static bool list_has(struct span list, struct span word)
{
    while (list.len > 0)
        if (span_eq(word_next(&list), word))
            return true;
    return false;
}

static void list_add(uint8_t *out, uint32_t *len, struct span word)
{
    if (word.len == 0)
        return;
    if (*len > 0)
        out[(*len)++] = ',';
    memcpy(out + *len, word.p, word.len);
    *len += word.len;
}

/* APPEND and SUBTRACT: `old` with the words of `arg` added once, or taken out. */
static struct span list_edit(struct arena *a, struct span old, struct span arg, bool add)
{
    uint8_t *out = arena_alloc(a, (size_t)old.len + arg.len + 2);
    uint32_t len = 0;
    if (out == NULL)
        return SPAN_NULL;
    for (struct span rest = old; rest.len > 0;) {
        struct span w = word_next(&rest);
        if (add || !list_has(arg, w))
            list_add(out, &len, w);
    }
    for (struct span rest = arg; add && rest.len > 0;) {
        struct span w = word_next(&rest);
        if (!list_has(span_of(out, len), w))
            list_add(out, &len, w);
    }
    return span_of(out, len);
}

static int16_t apply_one(const struct target *to, struct overrides *next,
                         const struct topic_edit *e, struct arena *a, char *err, size_t cap)
{
    if (e->op == EDIT_DELETE) {
        unset(next, e->key);
        return 0;
    }
    if (e->op == EDIT_SET) {
        set(next, e->key, e->value);
        return 0;
    }
    const struct config_key *k = to->find(e->key);
    if (k == NULL)
        return to->check(e->key, e->value, err, cap); /* says that there is none */
    if (k->type != CONFIG_LIST)
        return fail(
            KERR_INVALID_CONFIG, err, cap, "Can't %s to key %.*s because its type is not LIST.",
            e->op == EDIT_APPEND ? "APPEND" : "SUBTRACT", shown(e->key), (const char *)e->key.p);
    const struct override *old = find(next, e->key);
    struct span value =
        list_edit(a, old != NULL ? old->value : span_str(k->def), e->value, e->op == EDIT_APPEND);
    if (span_is_null(value))
        return fail(KERR_INVALID_REQUEST, err, cap, "The request is too large.");
    set(next, e->key, value);
    return 0;
}

static int64_t number_of(const struct overrides *o, const char *key, int64_t def)
{
    const struct override *at = find(o, span_str(key));
    char text[32] = "";
    if (at == NULL || at->value.len >= sizeof(text))
        return def;
    memcpy(text, at->value.p, at->value.len);
    return strtoll(text, NULL, 10); /* checked before */
}

static int16_t all_check(const struct target *to, const struct overrides *o, char *err, size_t cap)
{
    for (uint32_t i = 0; i < o->cnt; i++) {
        int16_t code = to->check(o->v[i].key, o->v[i].value, err, cap);
        if (code != 0)
            return code;
    }
    int64_t lo = number_of(o, "min.compaction.lag.ms", 0);
    int64_t hi = number_of(o, "max.compaction.lag.ms", INT64_MAX);
    if (lo > hi)
        return fail(KERR_INVALID_CONFIG, err, cap,
                    "conflict topic config setting min.compaction.lag.ms (%" PRId64
                    ") > max.compaction.lag.ms (%" PRId64 ")",
                    lo, hi);
    return 0;
}

/* The records that make `next` of what the target has. */
static void difference_put(const struct target *to, const struct topic_edits *in,
                           const struct overrides *next, struct meta_batch *b)
{
    for (uint32_t i = 0; i < next->cnt; i++) {
        const struct override *n = &next->v[i];
        bool same = false;
        for (uint32_t k = 0; k < to->cnt && !same; k++)
            same = span_eq_str(n->key, to->configs[k].key) &&
                   span_eq_str(n->value, to->configs[k].value);
        if (!same)
            meta_put_config(b, in->resource_type, in->resource, n->key, n->value);
    }
    for (uint32_t k = 0; k < to->cnt; k++)
        if (find(next, span_str(to->configs[k].key)) == NULL)
            meta_put_config(b, in->resource_type, in->resource, span_str(to->configs[k].key),
                            SPAN_NULL);
}

/* The levels of loggers, by Kafka's rules; there is one logger, and nothing that could change. */
static int16_t logger_edit(const struct meta_image *img, const struct topic_edits *in, char *err,
                           size_t cap)
{
    static const char *const levels[] = {"FATAL", "ERROR", "WARN", ROOT_LEVEL, "DEBUG", "TRACE"};
    if (in->replace)
        return fail(KERR_INVALID_REQUEST, err, cap, "Unknown resource type %d.", RES_LOGGER);
    int16_t code = self_check(img, in->resource, err, cap);
    for (uint32_t i = 0; i < in->cnt && code == 0; i++) {
        const struct topic_edit *e = &in->v[i];
        bool known = false;
        if (e->op == EDIT_APPEND || e->op == EDIT_SUBTRACT)
            return fail(KERR_INVALID_REQUEST, err, cap,
                        "%s operation is not allowed for the BROKER_LOGGER resource",
                        e->op == EDIT_APPEND ? "APPEND" : "SUBTRACT");
        if (!span_eq_str(e->key, ROOT_LOGGER))
            return fail(KERR_INVALID_CONFIG, err, cap, "Logger %.*s does not exist!", shown(e->key),
                        (const char *)e->key.p);
        if (e->op == EDIT_DELETE)
            return fail(KERR_INVALID_REQUEST, err, cap,
                        "Removing the log level of the root logger is not allowed");
        for (size_t k = 0; k < sizeof(levels) / sizeof(levels[0]); k++)
            known |= span_eq_str(e->value, levels[k]);
        if (!known)
            return fail(KERR_INVALID_CONFIG, err, cap,
                        "Cannot set the log level of %.*s to %.*s as it is not a supported log "
                        "level. Valid log levels are FATAL, ERROR, WARN, INFO, DEBUG, TRACE",
                        shown(e->key), (const char *)e->key.p, shown(e->value),
                        (const char *)e->value.p);
        if (!span_eq_str(e->value, ROOT_LEVEL))
            code = fail(KERR_INVALID_REQUEST, err, cap,
                        "The level of logger " ROOT_LOGGER " is " ROOT_LEVEL " and fixed here.");
    }
    return code;
}

int16_t topic_edit(const struct meta_image *img, const struct topic_edits *in, struct arena *a,
                   struct meta_batch *b, const struct meta_topic **ret_topic, char *err, size_t cap)
{
    struct target to = {0};
    *ret_topic = NULL;
    if (in->resource_type == RES_LOGGER) {
        int16_t bad = request_check(in, err, cap);
        return bad != 0 ? bad : logger_edit(img, in, err, cap);
    }
    int16_t code = target_of(img, in, &to, err, cap);
    if (code == 0)
        code = request_check(in, err, cap);
    if (code != 0)
        return code;
    struct overrides next = {.v = arena_array(a, (size_t)to.cnt + in->cnt + 1, sizeof(*next.v))};
    if (next.v == NULL)
        return fail(KERR_INVALID_REQUEST, err, cap, "The request is too large.");
    for (uint32_t i = 0; i < to.cnt && !in->replace; i++)
        set(&next, span_str(to.configs[i].key), span_str(to.configs[i].value));
    for (uint32_t i = 0; i < in->cnt && code == 0; i++)
        code = apply_one(&to, &next, &in->v[i], a, err, cap);
    if (code == 0)
        code = all_check(&to, &next, err, cap);
    if (code != 0)
        return code;
    difference_put(&to, in, &next, b);
    *ret_topic = to.topic;
    return 0;
}
