/* describe_configs.c - DescribeConfigs: topics, groups, the broker, the defaults of all brokers
 * (resource ""), and the broker's one logger, from lib/meta/config_keys.h. Synonyms list the steps
 * by which a value is looked for, from the one in force to the default. Where Kafka's default is
 * that of a key in hours, that key is listed after a value of the one in ms, and alone not at all,
 * as Kafka has it. */
#include "dataplane/kafka/handlers.h"
#include "lib/iface/conf_kafka.h"
#include "lib/meta/config_keys.h"
#include <stdio.h>

#define TOPIC_ROWS config_topic_cnt()
#define BROKER_ROWS config_broker_cnt()
#define GROUP_ROWS config_group_cnt()
enum { RES_TOPIC = 2, RES_BROKER = 4, RES_LOGGER = 8, RES_GROUP = 32 };
enum { ERR_UNKNOWN_TOPIC = 3, ERR_INVALID_TOPIC = 17, ERR_INVALID_REQUEST = 42 };

struct describe {
    struct kreq *req;
    struct describe_configs_request in;
    struct describe_configs_response resp;
};

/* What the file says about a broker's key; NULL: nothing (or no memory). */
static const char *conf_value(struct kreq *req, const char *key)
{
    static _Thread_local char text[CONF_KAFKA_VALUE_MAX];
    if (!conf_kafka_value(req->k->s->conf, key, text, sizeof(text)))
        return NULL;
    size_t len = strlen(text) + 1;
    char *copy = arena_alloc(&req->arena, len);
    if (copy != NULL)
        memcpy(copy, text, len);
    return copy;
}

static bool is_asked(const struct describe_configs_request_resource *r, const char *key)
{
    if (r->configuration_keys.null)
        return true;
    for (uint32_t i = 0; i < r->configuration_keys.cnt; i++)
        if (span_eq_str(r->configuration_keys.v[i], key))
            return true;
    return false;
}

static void add_synonym(struct describe_configs_response_config *out, const char *key,
                        const char *value, int8_t source)
{
    struct describe_configs_response_synonym *s = &out->synonyms.v[out->synonyms.cnt++];
    describe_configs_response_synonym_init(s);
    s->name = span_str(key);
    s->value = span_str(value);
    s->source = source;
}

/* Whose keys are described. NULL for the broker itself. */
struct owner {
    enum config_source source;
    const struct meta_config *configs; /* its overrides */
    uint32_t cnt;
};

/* The steps by which a value is looked for, first to last. */
struct step {
    const char *key, *value; /* value NULL: not set there */
    enum config_source source;
};
#define STEPS 6
static void steps_find(struct kreq *req, const struct config_key *k, const struct owner *owner,
                       struct step s[STEPS])
{
    const struct meta_image *img = req->k->s->image;
    const char *base = owner == NULL || k->broker_key[0] != '\0' ? config_broker_name(k) : NULL;
    const char *of_node = NULL, *of_all = NULL;
    if (base != NULL && img != NULL) {
        of_node = meta_config_find(img->broker_configs, img->broker_config_cnt, base);
        of_all = meta_config_find(img->default_configs, img->default_config_cnt, base);
    }
    const char *file = base != NULL ? conf_value(req, base) : NULL;
    if (file != NULL && strcmp(file, k->def) == 0)
        file = NULL; /* the default */
    s[0] = (struct step){k->key, NULL, CONFIG_SOURCE_TOPIC};
    if (owner != NULL)
        s[0] = (struct step){k->key, meta_config_find(owner->configs, owner->cnt, k->key),
                             owner->source};
    s[1] = (struct step){base, of_node, CONFIG_SOURCE_BROKER};
    s[2] = (struct step){base, of_all, CONFIG_SOURCE_DEFAULT_BROKER};
    s[3] = (struct step){base, file, CONFIG_SOURCE_STATIC};
    const struct config_key *fallback = base != NULL ? config_broker_fallback(base) : NULL;
    s[4] = (struct step){base != NULL ? base : k->key, fallback == NULL ? k->def : NULL,
                         CONFIG_SOURCE_DEFAULT};
    bool shown = fallback != NULL && (of_node != NULL || of_all != NULL || file != NULL);
    s[5] = shown ? (struct step){fallback->key, fallback->def, CONFIG_SOURCE_DEFAULT}
                 : (struct step){NULL, NULL, CONFIG_SOURCE_DEFAULT};
}

/* One key. `owner` NULL describes the broker's key instead. */
static int add_config(struct describe *d, struct describe_configs_response_result *res,
                      const struct config_key *k, const struct owner *owner)
{
    struct step s[STEPS];
    steps_find(d->req, k, owner, s);
    struct describe_configs_response_config *out = &res->configs.v[res->configs.cnt++];
    describe_configs_response_config_init(out);
    uint32_t first = 0;
    while (first < STEPS && s[first].value == NULL)
        first++;
    out->name = span_str(owner != NULL ? k->key : config_broker_name(k));
    if (first < STEPS)
        out->value = span_str(s[first].value);
    else if (owner != NULL) /* the fallback key's default in the topic's unit */
        out->value = span_str(k->def);
    else
        out->value = SPAN_NULL;
    out->config_source = (int8_t)(first < STEPS ? s[first].source : CONFIG_SOURCE_DEFAULT);
    out->read_only = owner == NULL && !k->dynamic;
    out->config_type = (int8_t)k->type;
    if (d->in.include_documentation)
        out->documentation = span_str(k->doc);
    if (!d->in.include_synonyms)
        return 0;
    out->synonyms.v = arena_array(&d->req->arena, STEPS, sizeof(*out->synonyms.v));
    if (out->synonyms.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = first; i < STEPS; i++)
        if (s[i].value != NULL)
            add_synonym(out, s[i].key, s[i].value, (int8_t)s[i].source);
    return 0;
}

/* What image `list` sets for the broker, and nothing else: resource "". */
static int describe_default(struct describe *d, const struct describe_configs_request_resource *in,
                            struct describe_configs_response_result *out)
{
    const struct meta_image *img = d->req->k->s->image;
    uint32_t cnt = img != NULL ? img->default_config_cnt : 0;
    out->configs.v = arena_array(&d->req->arena, cnt, sizeof(*out->configs.v));
    if (out->configs.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt; i++) {
        const struct meta_config *m = &img->default_configs[i];
        const struct config_key *k = config_broker_find(span_str(m->key));
        if (k == NULL || !is_asked(in, m->key))
            continue;
        struct describe_configs_response_config *c = &out->configs.v[out->configs.cnt++];
        describe_configs_response_config_init(c);
        c->name = span_str(m->key);
        c->value = span_str(m->value);
        c->config_source = CONFIG_SOURCE_DEFAULT_BROKER;
        c->config_type = (int8_t)k->type;
        if (d->in.include_documentation)
            c->documentation = span_str(k->doc);
        if (!d->in.include_synonyms)
            continue;
        c->synonyms.v = arena_array(&d->req->arena, 1, sizeof(*c->synonyms.v));
        if (c->synonyms.v == NULL)
            return -E_LIMIT;
        add_synonym(c, m->key, m->value, CONFIG_SOURCE_DEFAULT_BROKER);
    }
    return 0;
}

static void fail_resource(struct describe_configs_response_result *out, int16_t code,
                          const char *why)
{
    out->error_code = code;
    out->error_message = span_str(why);
}

static int describe_topic(struct describe *d, const struct describe_configs_request_resource *in,
                          struct describe_configs_response_result *out)
{
    const struct meta_image *img = d->req->k->s->image;
    if (!topic_name_is_valid(in->resource_name)) {
        fail_resource(out, ERR_INVALID_TOPIC, "not a valid topic name");
        return 0;
    }
    const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->resource_name) : NULL;
    if (t == NULL) {
        fail_resource(out, ERR_UNKNOWN_TOPIC, "topic does not exist");
        return 0;
    }
    out->configs.v = arena_array(&d->req->arena, TOPIC_ROWS, sizeof(*out->configs.v));
    if (out->configs.v == NULL)
        return -E_LIMIT;
    struct owner owner = {CONFIG_SOURCE_TOPIC, t->configs, t->config_cnt};
    for (uint32_t i = 0; i < TOPIC_ROWS; i++) {
        const struct config_key *k = config_topic_at(i);
        int rc = is_asked(in, k->key) ? add_config(d, out, k, &owner) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A group need not exist to have a configuration. */
static int describe_group(struct describe *d, const struct describe_configs_request_resource *in,
                          struct describe_configs_response_result *out)
{
    const struct meta_image *img = d->req->k->s->image;
    struct owner owner = {.source = CONFIG_SOURCE_GROUP};
    if (in->resource_name.len == 0) {
        fail_resource(out, ERR_INVALID_REQUEST, "Group name must not be empty");
        return 0;
    }
    const struct meta_group *g = img != NULL ? groups_find(img->groups, in->resource_name) : NULL;
    if (g != NULL) {
        owner.configs = g->v;
        owner.cnt = g->cnt;
    }
    out->configs.v = arena_array(&d->req->arena, GROUP_ROWS, sizeof(*out->configs.v));
    if (out->configs.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < GROUP_ROWS; i++) {
        const struct config_key *k = config_group_at(i);
        int rc = is_asked(in, k->key) ? add_config(d, out, k, &owner) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* One logger, whose level is fixed (lib/base/log.h). */
static int describe_logger(struct describe *d, const struct describe_configs_request_resource *in,
                           struct describe_configs_response_result *out)
{
    char self[16];
    snprintf(self, sizeof(self), "%d", d->req->k->s->conf->node_id);
    if (in->resource_name.len == 0 || !span_eq_str(in->resource_name, self)) {
        fail_resource(out, ERR_INVALID_REQUEST,
                      in->resource_name.len == 0 ? "Broker id must not be empty"
                                                 : "not the id of this broker");
        return 0;
    }
    if (!is_asked(in, "root"))
        return 0;
    out->configs.v = arena_array(&d->req->arena, 1, sizeof(*out->configs.v));
    if (out->configs.v == NULL)
        return -E_LIMIT;
    struct describe_configs_response_config *c = &out->configs.v[out->configs.cnt++];
    describe_configs_response_config_init(c);
    c->name = span_str("root");
    c->value = span_str("INFO");
    c->config_source = CONFIG_SOURCE_LOGGER;
    c->config_type = CONFIG_STRING;
    return 0;
}

static int describe_broker(struct describe *d, const struct describe_configs_request_resource *in,
                           struct describe_configs_response_result *out)
{
    char self[16];
    snprintf(self, sizeof(self), "%d", d->req->k->s->conf->node_id);
    if (in->resource_name.len == 0)
        return describe_default(d, in, out);
    if (!span_eq_str(in->resource_name, self)) {
        fail_resource(out, ERR_INVALID_REQUEST, "not the id of this broker");
        return 0;
    }
    out->configs.v = arena_array(&d->req->arena, TOPIC_ROWS + BROKER_ROWS, sizeof(*out->configs.v));
    if (out->configs.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < BROKER_ROWS; i++) {
        const struct config_key *k = config_broker_at(i);
        int rc = is_asked(in, k->key) ? add_config(d, out, k, NULL) : 0;
        if (rc < 0)
            return rc;
    }
    for (uint32_t i = 0; i < TOPIC_ROWS; i++) {
        const struct config_key *k = config_topic_at(i);
        if (k->broker_key[0] == '\0' || !is_asked(in, k->broker_key))
            continue;
        int rc = add_config(d, out, k, NULL);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int describe_configs_start(struct kreq *req, struct wire_reader *r)
{
    struct describe d = {.req = req};
    int rc = describe_configs_request_read(r, kreq_version(req), &req->arena, &d.in);
    if (rc < 0)
        return rc;
    describe_configs_response_init(&d.resp);
    uint32_t cnt = d.in.resources.cnt;
    /* some 40 keys with synonyms per resource; the largest request still ends in -E_LIMIT */
    uint64_t per_resource = (TOPIC_ROWS + BROKER_ROWS) *
                            (sizeof(struct describe_configs_response_config) +
                             STEPS * sizeof(struct describe_configs_response_synonym) + 96);
    uint64_t allow = per_resource * cnt;
    kreq_arena_allow(req, allow < (64u << 20) ? allow : (64u << 20));
    d.resp.results.v = arena_array(&req->arena, cnt, sizeof(*d.resp.results.v));
    if (d.resp.results.v == NULL)
        return -E_LIMIT;
    d.resp.results.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        const struct describe_configs_request_resource *in = &d.in.resources.v[i];
        struct describe_configs_response_result *out = &d.resp.results.v[i];
        describe_configs_response_result_init(out);
        out->resource_type = in->resource_type;
        out->resource_name = in->resource_name;
        rc = 0;
        if (in->resource_type == RES_TOPIC)
            rc = describe_topic(&d, in, out);
        else if (in->resource_type == RES_BROKER)
            rc = describe_broker(&d, in, out);
        else if (in->resource_type == RES_GROUP)
            rc = describe_group(&d, in, out);
        else if (in->resource_type == RES_LOGGER)
            rc = describe_logger(&d, in, out);
        else
            fail_resource(out, ERR_INVALID_REQUEST,
                          "only topics (2), brokers (4), their loggers (8), and groups (32) have a "
                          "configuration");
        if (rc < 0)
            return rc;
    }
    KREQ_RESPOND(req, describe_configs_response, &d.resp);
    return 0;
}
