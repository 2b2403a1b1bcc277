/* describe_configs.c - DescribeConfigs: topics from topic_config.def, the broker from struct conf.
 * A topic's value is its override (source 1), else what the broker's configuration says (4), else
 * the default (5); synonyms list these steps in that order. */
#include "dataplane/kafka/handlers.h"
#include <inttypes.h>
#include <stdio.h>

enum { RES_TOPIC = 2, RES_BROKER = 4 };
enum { SRC_TOPIC = 1, SRC_STATIC_BROKER = 4, SRC_DEFAULT = 5 };
enum {
    TYPE_BOOLEAN = 1,
    TYPE_STRING = 2,
    TYPE_INT = 3,
    TYPE_LONG = 5,
    TYPE_DOUBLE = 6,
    TYPE_LIST = 7
};
enum { ERR_UNKNOWN_TOPIC = 3, ERR_INVALID_TOPIC = 17, ERR_INVALID_REQUEST = 42 };

struct row {
    const char *key, *def, *broker_key, *doc;
    int8_t type;
};
static const struct row topic_rows[] = {
#define TOPIC_CONFIG(key, type, def, lo, hi, choices, broker, doc)                                 \
    {key, def, broker, doc, TYPE_##type},
#include "lib/meta/topic_config.def"
#undef TOPIC_CONFIG
};
#define TOPIC_ROWS (sizeof(topic_rows) / sizeof(topic_rows[0]))

/* Broker keys that are no topic's default; their values always come from the configuration. */
static const struct row broker_rows[] = {
    {"node.id", "", "", "Number of this node.", TYPE_INT},
    {"broker.id", "", "", "The same by its older name.", TYPE_INT},
    {"log.dirs", "", "", "Directories that hold partitions.", TYPE_LIST},
    {"num.partitions", "1", "", "Partitions of a topic created without saying how many.", TYPE_INT},
    {"default.replication.factor", "1", "", "Replicas of a topic created without saying how many.",
     TYPE_INT},
    {"auto.create.topics.enable", "true", "", "Whether asking for a topic creates it.",
     TYPE_BOOLEAN},
    {"socket.request.max.bytes", "104857600", "", "Largest request taken.", TYPE_INT},
    {"fetch.max.bytes", "57671680", "", "Most bytes of records in one answer.", TYPE_INT},
    {"connections.max.idle.ms", "600000", "", "Connections idle for longer are closed.", TYPE_LONG},
};
#define BROKER_ROWS (sizeof(broker_rows) / sizeof(broker_rows[0]))

struct describe {
    struct kreq *req;
    struct describe_configs_request in;
    struct describe_configs_response resp;
};

static const char *text_i64(struct kreq *req, int64_t v)
{
    char *t = arena_alloc(&req->arena, 24);
    if (t != NULL)
        snprintf(t, 24, "%" PRId64, v);
    return t;
}

/* The configured value of a broker key; NULL: the configuration has no such key (or no memory). */
static const char *conf_value(struct kreq *req, const char *key)
{
    const struct conf *c = req->k->s->conf;
    const struct {
        const char *key;
        int64_t v;
    } numbers[] = {
        {"log.segment.bytes", (int64_t)c->log_segment_bytes},
        {"log.roll.ms", c->log_segment_ms},
        {"log.retention.ms", c->log_retention_ms},
        {"log.retention.bytes", c->log_retention_bytes},
        {"log.index.interval.bytes", c->log_index_interval_bytes},
        {"log.index.size.max.bytes", c->log_index_size_max_bytes},
        {"message.max.bytes", c->message_max_bytes},
        {"node.id", c->node_id},
        {"broker.id", c->node_id},
        {"num.partitions", c->num_partitions},
        {"socket.request.max.bytes", req->k->frame_max},
        {"fetch.max.bytes", c->fetch_max_bytes},
        {"connections.max.idle.ms", c->connections_max_idle_ms},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(key, numbers[i].key) == 0)
            return text_i64(req, numbers[i].v);
    if (strcmp(key, "auto.create.topics.enable") == 0)
        return c->auto_create_topics ? "true" : "false";
    if (strcmp(key, "log.dirs") == 0) {
        size_t cap = (size_t)c->data_dir_cnt * CONF_PATH_MAX + 1, len = 0;
        char *t = arena_alloc(&req->arena, cap);
        for (uint32_t i = 0; t != NULL && i < c->data_dir_cnt; i++)
            len += (size_t)snprintf(t + len, cap - len, "%s%s", i > 0 ? "," : "", c->data_dirs[i]);
        return t;
    }
    return NULL;
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

/* One key. `topic` NULL describes the broker's key instead. */
static int add_config(struct describe *d, struct describe_configs_response_result *res,
                      const struct row *row, const struct meta_topic *topic)
{
    struct kreq *req = d->req;
    const char *broker_key = row->broker_key[0] != '\0' ? row->broker_key : NULL;
    const char *base = topic != NULL ? broker_key : broker_key != NULL ? broker_key : row->key;
    const char *over = topic != NULL ? meta_topic_config(topic, row->key) : NULL;
    const char *conf = base != NULL ? conf_value(req, base) : NULL;
    bool is_static = conf != NULL && strcmp(conf, row->def) != 0;
    struct describe_configs_response_config *out = &res->configs.v[res->configs.cnt++];
    describe_configs_response_config_init(out);
    out->name = span_str(topic != NULL ? row->key : base);
    out->value = span_str(over != NULL ? over : is_static ? conf : row->def);
    out->config_source = over != NULL ? SRC_TOPIC : is_static ? SRC_STATIC_BROKER : SRC_DEFAULT;
    out->read_only = topic == NULL; /* the broker's come from its file */
    out->config_type = row->type;
    if (d->in.include_documentation)
        out->documentation = span_str(row->doc);
    if (!d->in.include_synonyms)
        return 0;
    out->synonyms.v = arena_array(&req->arena, 3, sizeof(*out->synonyms.v));
    if (out->synonyms.v == NULL)
        return -E_LIMIT;
    if (over != NULL)
        add_synonym(out, row->key, over, SRC_TOPIC);
    if (is_static)
        add_synonym(out, base, conf, SRC_STATIC_BROKER);
    add_synonym(out, base != NULL ? base : row->key, row->def, SRC_DEFAULT);
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
    for (uint32_t i = 0; i < TOPIC_ROWS; i++) {
        int rc = is_asked(in, topic_rows[i].key) ? add_config(d, out, &topic_rows[i], t) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int describe_broker(struct describe *d, const struct describe_configs_request_resource *in,
                           struct describe_configs_response_result *out)
{
    char self[16];
    snprintf(self, sizeof(self), "%d", d->req->k->s->conf->node_id);
    if (in->resource_name.len == 0)
        return 0; /* the cluster-wide dynamic defaults: there are none */
    if (!span_eq_str(in->resource_name, self)) {
        fail_resource(out, ERR_INVALID_REQUEST, "not the id of this broker");
        return 0;
    }
    out->configs.v = arena_array(&d->req->arena, TOPIC_ROWS + BROKER_ROWS, sizeof(*out->configs.v));
    if (out->configs.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < BROKER_ROWS; i++) {
        int rc = is_asked(in, broker_rows[i].key) ? add_config(d, out, &broker_rows[i], NULL) : 0;
        if (rc < 0)
            return rc;
    }
    for (uint32_t i = 0; i < TOPIC_ROWS; i++) {
        const char *key = topic_rows[i].broker_key;
        if (key[0] == '\0' || !is_asked(in, key))
            continue;
        int rc = add_config(d, out, &topic_rows[i], NULL);
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
    uint64_t per_resource =
        (TOPIC_ROWS + BROKER_ROWS) * (sizeof(struct describe_configs_response_config) +
                                      3 * sizeof(struct describe_configs_response_synonym) + 64);
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
        else
            fail_resource(out, ERR_INVALID_REQUEST,
                          "only topics (2) and brokers (4) have a configuration");
        if (rc < 0)
            return rc;
    }
    KREQ_RESPOND(req, describe_configs_response, &d.resp);
    return 0;
}
