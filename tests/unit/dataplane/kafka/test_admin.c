/* test_admin.c - Metadata, DescribeCluster, DescribeConfigs, DescribeTopicPartitions, and what is
 * forwarded to the control plane. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum {
    METADATA = 3,
    CREATE_TOPICS = 19,
    DELETE_TOPICS = 20,
    DESCRIBE_CONFIGS = 32,
    CREATE_PARTITIONS = 37,
    DESCRIBE_CLUSTER = 60,
    DESCRIBE_TOPIC_PARTITIONS = 75,
};

struct metadata1 {
    struct metadata_request req;
    struct metadata_request_topic t[3];
};
static struct metadata_request *names(struct metadata1 *m, uint32_t n, const char *a, const char *b)
{
    metadata_request_init(&m->req);
    m->req.topics.v = m->t;
    m->req.topics.cnt = n;
    m->req.topics.null = false;
    m->req.allow_auto_topic_creation = false;
    for (uint32_t i = 0; i < n; i++) {
        metadata_request_topic_init(&m->t[i]);
        m->t[i].name = span_str(i == 0 ? a : b);
    }
    return &m->req;
}

static void metadata_names_one_broker_and_every_topic_in_all_versions(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 3});
    world_topic(w, "b", NULL);
    world_topic(w, "a", NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 13; v++) {
        struct metadata1 m;
        struct metadata_response resp;
        names(&m, 0, NULL, NULL);
        m.req.topics.null = v > 0;
        REQUEST(c, METADATA, v, metadata, &m.req);
        world_run(w, 2);
        RESPONSE(c, METADATA, v, metadata, &resp);
        assert_int_equal(resp.brokers.cnt, 1);
        assert_true(span_eq_str(resp.brokers.v[0].host, "127.0.0.1"));
        assert_int_equal(resp.brokers.v[0].port, 9092);
        assert_int_equal(resp.brokers.v[0].node_id, w->conf->node_id);
        if (v >= 1)
            assert_int_equal(resp.controller_id, w->conf->node_id);
        if (v >= 2)
            assert_int_equal(resp.cluster_id.len, UUID_TEXT_LEN);
        assert_int_equal(resp.topics.cnt, 2);
        assert_true(span_eq_str(resp.topics.v[0].name, "a"));
        assert_int_equal(resp.topics.v[0].partitions.cnt, WORLD_TOPIC_PARTITIONS);
        const struct metadata_response_partition *p = &resp.topics.v[0].partitions.v[3];
        assert_int_equal(p->leader_id, w->conf->node_id);
        assert_int_equal(p->isr_nodes.cnt, 1);
        if (v >= 7)
            assert_true(p->leader_epoch >= 0);
        if (v >= 10)
            assert_false(uuid_is_zero(&resp.topics.v[0].topic_id));
        if (v >= 1) { /* an empty list asks for none */
            REQUEST(c, METADATA, v, metadata, names(&m, 0, NULL, NULL));
            world_run(w, 2);
            RESPONSE(c, METADATA, v, metadata, &resp);
            assert_int_equal(resp.topics.cnt, 0);
            assert_int_equal(resp.brokers.cnt, 1);
        }
    }
    client_close(c);
    close_world();
}

/* A million names, 8 of which are the same; then one topic a hundred thousand times. */
static void a_metadata_request_of_10_mb_is_answered_each_topic_once(void **state)
{
    enum { NAMES = 1000000, REPEATS = 100000 };
    (void)state;
    open_world(&(struct world_opts){.request_bytes = 400u << 20});
    world_topic(w, "abcde", NULL);
    struct client *c = client_open(w);
    struct metadata_request m;
    struct metadata_response resp;
    struct metadata_request_topic *t = calloc(NAMES, sizeof(*t));
    char *text = malloc((size_t)NAMES * 8);
    assert_non_null(t);
    assert_non_null(text);
    metadata_request_init(&m);
    m.topics.null = false;
    m.allow_auto_topic_creation = false;
    m.topics.v = t;
    for (uint32_t i = 0; i < NAMES; i++) {
        metadata_request_topic_init(&t[i]);
        snprintf(text + 8 * (size_t)i, 8, "%07u", i);
        t[i].name = i % (NAMES / 8) == 0 ? span_str("abcde") : span_of(text + 8 * (size_t)i, 7);
    }
    m.topics.cnt = NAMES;
    REQUEST(c, METADATA, 8, metadata, &m);
    world_run(w, 2000);
    RESPONSE(c, METADATA, 8, metadata, &resp);
    assert_int_equal(resp.topics.cnt, NAMES - 7);
    assert_true(span_eq_str(resp.topics.v[0].name, "abcde"));
    assert_int_equal(resp.topics.v[0].error_code, 0);
    assert_int_equal(resp.topics.v[NAMES - 8].error_code, 3);
    for (uint32_t i = 0; i < REPEATS; i++)
        t[i].name = span_str("abcde");
    m.topics.cnt = REPEATS;
    REQUEST(c, METADATA, 8, metadata, &m);
    world_run(w, 200);
    RESPONSE(c, METADATA, 8, metadata, &resp);
    assert_int_equal(resp.topics.cnt, 1);
    free(t);
    free(text);
    client_close(c);
    close_world();
}

static void metadata_tells_what_is_wrong_with_a_name_or_an_id(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct metadata1 m;
    struct metadata_response resp;
    REQUEST(c, METADATA, 9, metadata, names(&m, 2, "absent", "bad/name"));
    world_run(w, 2);
    RESPONSE(c, METADATA, 9, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 3);
    assert_int_equal(resp.topics.v[1].error_code, 17);
    names(&m, 2, "t", "t");
    m.t[0].name = m.t[1].name = SPAN_NULL;
    m.t[0].topic_id = world_topic_id(1);
    m.t[1].topic_id = world_topic_id(77);
    REQUEST(c, METADATA, 12, metadata, &m.req);
    REQUEST(c, METADATA, 10, metadata, &m.req);
    world_run(w, 2);
    RESPONSE(c, METADATA, 12, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 0);
    assert_true(span_eq_str(resp.topics.v[0].name, "t"));
    assert_int_equal(resp.topics.v[1].error_code, 100);
    assert_true(span_is_null(resp.topics.v[1].name));
    RESPONSE(c, METADATA, 10, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 42);
    client_close(c);
    close_world();
}

static void metadata_creates_a_topic_that_is_asked_for(void **state)
{
    (void)state;
    open_world(NULL);
    w->creates = true;
    struct client *c = client_open(w);
    struct metadata1 m;
    struct metadata_response resp;
    names(&m, 2, "new", "new");
    m.req.allow_auto_topic_creation = true;
    REQUEST(c, METADATA, 8, metadata, &m.req);
    world_run(w, 5);
    RESPONSE(c, METADATA, 8, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 0);
    assert_int_equal(resp.topics.v[0].partitions.cnt, WORLD_TOPIC_PARTITIONS);
    assert_int_equal(w->admin.cnt, 1);
    assert_true(w->admin.fail_fast);
    m.req.allow_auto_topic_creation = false;
    names(&m, 2, "other", "__consumer_offsets");
    REQUEST(c, METADATA, 8, metadata, &m.req);
    m.req.allow_auto_topic_creation = true;
    m.req.topics.cnt = 0;
    REQUEST(c, METADATA, 8, metadata, &m.req);
    world_run(w, 5);
    RESPONSE(c, METADATA, 8, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 3);
    RESPONSE(c, METADATA, 8, metadata, &resp);
    assert_int_equal(w->admin.cnt, 1);
    w->conf->auto_create_topics = false;
    names(&m, 1, "other", NULL);
    m.req.allow_auto_topic_creation = true;
    REQUEST(c, METADATA, 8, metadata, &m.req);
    world_run(w, 5);
    RESPONSE(c, METADATA, 8, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 3);
    assert_int_equal(w->admin.cnt, 1);
    client_close(c);
    close_world();
}

static void auto_creation_without_a_control_plane_is_leader_not_available(void **state)
{
    (void)state;
    open_world(NULL);
    w->ctl_away = true;
    struct client *c = client_open(w);
    struct metadata1 m;
    struct metadata_response resp;
    names(&m, 1, "new", NULL);
    m.req.allow_auto_topic_creation = true;
    REQUEST(c, METADATA, 9, metadata, &m.req);
    world_run(w, 5);
    RESPONSE(c, METADATA, 9, metadata, &resp);
    assert_int_equal(resp.topics.v[0].error_code, 5);
    client_close(c);
    close_world();
}

static void the_advertised_address_is_the_listeners(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    struct metadata1 m;
    struct metadata_response resp;
    snprintf(w->conf->kafka[0].advertised_host, sizeof(w->conf->kafka[0].advertised_host),
             "log.example");
    w->conf->kafka[0].advertised_port = 19092;
    REQUEST(c, METADATA, 5, metadata, names(&m, 0, NULL, NULL));
    world_run(w, 2);
    RESPONSE(c, METADATA, 5, metadata, &resp);
    assert_true(span_eq_str(resp.brokers.v[0].host, "log.example"));
    assert_int_equal(resp.brokers.v[0].port, 19092);
    w->conf->kafka[0].advertised_host[0] = '\0';
    w->conf->kafka[0].advertised_port = 0;
    kafka_set_bound_port(w->shard[0].kafka, 0, 40000);
    memset(w->conf->kafka[0].bind.ip, 0, 16); /* a wildcard is no address */
    REQUEST(c, METADATA, 5, metadata, names(&m, 0, NULL, NULL));
    world_run(w, 2);
    RESPONSE(c, METADATA, 5, metadata, &resp);
    assert_true(span_eq_str(resp.brokers.v[0].host, "127.0.0.1"));
    assert_int_equal(resp.brokers.v[0].port, 40000);
    client_close(c);
    close_world();
}

static void describe_cluster_knows_brokers_only(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    struct describe_cluster_request m;
    struct describe_cluster_response resp;
    for (int16_t v = 0; v <= 2; v++) {
        describe_cluster_request_init(&m);
        REQUEST(c, DESCRIBE_CLUSTER, v, describe_cluster, &m);
        world_run(w, 2);
        RESPONSE(c, DESCRIBE_CLUSTER, v, describe_cluster, &resp);
        assert_int_equal(resp.error_code, 0);
        assert_int_equal(resp.brokers.cnt, 1);
        assert_int_equal(resp.controller_id, w->conf->node_id);
    }
    m.endpoint_type = 2;
    REQUEST(c, DESCRIBE_CLUSTER, 1, describe_cluster, &m);
    world_run(w, 2);
    RESPONSE(c, DESCRIBE_CLUSTER, 1, describe_cluster, &resp);
    assert_int_equal(resp.error_code, 114);
    client_close(c);
    close_world();
}

static const struct describe_configs_response_config *
config(const struct describe_configs_response *r, uint32_t i, const char *name)
{
    for (uint32_t j = 0; j < r->results.v[i].configs.cnt; j++)
        if (span_eq_str(r->results.v[i].configs.v[j].name, name))
            return &r->results.v[i].configs.v[j];
    return NULL;
}

static void describe_configs_tells_value_source_and_synonyms(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", "cleanup.policy=compact");
    w->conf->log_retention_ms = 12345;
    struct client *c = client_open(w);
    char self[16];
    snprintf(self, sizeof(self), "%d", w->conf->node_id);
    for (int16_t v = 1; v <= 4; v++) {
        struct describe_configs_request m;
        struct describe_configs_request_resource r[6];
        struct describe_configs_response resp;
        struct span key = span_str("retention.ms");
        const struct {
            int8_t type;
            const char *name;
            int16_t error;
        } res[6] = {{2, "t", 0},   {4, self, 0},  {2, "absent", 3},
                    {4, "99", 42}, {16, "x", 42}, {2, "t", 0}};
        describe_configs_request_init(&m);
        m.include_synonyms = m.include_documentation = true;
        m.resources.v = r;
        m.resources.cnt = 6;
        for (int i = 0; i < 6; i++) {
            describe_configs_request_resource_init(&r[i]);
            r[i].resource_type = res[i].type;
            r[i].resource_name = span_str(res[i].name);
            r[i].configuration_keys.null = true;
        }
        r[5].configuration_keys.null = false;
        r[5].configuration_keys.v = &key;
        r[5].configuration_keys.cnt = 1;
        REQUEST(c, DESCRIBE_CONFIGS, v, describe_configs, &m);
        world_run(w, 2);
        RESPONSE(c, DESCRIBE_CONFIGS, v, describe_configs, &resp);
        assert_int_equal(resp.results.cnt, 6);
        for (uint32_t i = 0; i < 6; i++)
            assert_int_equal(resp.results.v[i].error_code, res[i].error);
        const struct describe_configs_response_config *k = config(&resp, 0, "cleanup.policy");
        assert_true(span_eq_str(k->value, "compact"));
        assert_int_equal(k->config_source, 1);
        assert_int_equal(k->synonyms.cnt, 2);
        assert_true(span_eq_str(k->synonyms.v[1].value, "delete"));
        k = config(&resp, 0, "retention.ms");
        assert_true(span_eq_str(k->value, "12345"));
        assert_int_equal(k->config_source, 4);
        k = config(&resp, 0, "segment.index.bytes");
        assert_int_equal(k->config_source, 5);
        if (v >= 3) {
            assert_int_equal(k->config_type, 3);
            assert_true(k->documentation.len > 0);
        }
        assert_true(span_eq_str(config(&resp, 1, "log.retention.ms")->value, "12345"));
        assert_true(config(&resp, 1, "log.dirs")->read_only);
        assert_int_equal(resp.results.v[5].configs.cnt, 1);
    }
    client_close(c);
    close_world();
}

static void a_value_is_described_by_every_step_it_may_come_from(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", "retention.ms=1");
    world_topic(w, "plain", NULL);
    w->conf->log_retention_ms = 4;
    world_broker_config(w, "log.retention.ms", "3"); /* of all brokers */
    struct client *c = client_open(w);
    struct describe_configs_request m;
    struct describe_configs_request_resource r[4];
    struct describe_configs_response resp;
    char self[16];
    snprintf(self, sizeof(self), "%d", w->conf->node_id);
    const char *const names[] = {"t", "plain", self, ""};
    describe_configs_request_init(&m);
    m.include_synonyms = true;
    m.resources.v = r;
    m.resources.cnt = 4;
    for (int i = 0; i < 4; i++) {
        describe_configs_request_resource_init(&r[i]);
        r[i].resource_type = i < 2 ? 2 : 4;
        r[i].resource_name = span_str(names[i]);
        r[i].configuration_keys.null = true;
    }
    REQUEST(c, DESCRIBE_CONFIGS, 4, describe_configs, &m);
    world_run(w, 2);
    RESPONSE(c, DESCRIBE_CONFIGS, 4, describe_configs, &resp);
    static const int8_t sources[] = {1, 3, 4, 5};
    static const char *const values[] = {"1", "3", "4", "168"};
    static const char *const last = "log.retention.hours"; /* Kafka: log.retention.ms is null */
    for (uint32_t i = 0; i < 3; i++) { /* t has all steps, plain and the broker all but the first */
        const struct describe_configs_response_config *k =
            config(&resp, i, i < 2 ? "retention.ms" : "log.retention.ms");
        uint32_t first = i == 0 ? 0 : 1;
        assert_int_equal(k->config_source, sources[first]);
        assert_true(span_eq_str(k->value, values[first]));
        assert_int_equal(k->synonyms.cnt, 4 - first);
        for (uint32_t j = 0; j < k->synonyms.cnt; j++) {
            assert_int_equal(k->synonyms.v[j].source, sources[first + j]);
            assert_true(span_eq_str(k->synonyms.v[j].value, values[first + j]));
        }
        assert_true(span_eq_str(k->synonyms.v[k->synonyms.cnt - 1].name, last));
        assert_false(k->read_only);
    }
    assert_int_equal(resp.results.v[3].configs.cnt, 1);
    assert_int_equal(config(&resp, 3, "log.retention.ms")->config_source, 3);
    client_close(c);
    close_world();
}

static void groups_and_the_logger_are_described_too(void **state)
{
    (void)state;
    open_world(NULL);
    world_group_config(w, "g", "consumer.session.timeout.ms", "50000");
    w->conf->group_consumer_heartbeat_interval_ms = 7000;
    struct client *c = client_open(w);
    struct describe_configs_request m;
    struct describe_configs_request_resource r[6];
    struct describe_configs_response resp;
    char self[16];
    snprintf(self, sizeof(self), "%d", w->conf->node_id);
    const struct {
        int8_t type;
        const char *name;
        int16_t error;
        uint32_t keys;
    } res[6] = {{32, "g", 0, 2}, {32, "unknown", 0, 2}, {32, "", 42, 0},
                {8, self, 0, 1}, {8, "99", 42, 0},      {8, "", 42, 0}};
    describe_configs_request_init(&m);
    m.include_synonyms = true;
    m.resources.v = r;
    m.resources.cnt = 6;
    for (int i = 0; i < 6; i++) {
        describe_configs_request_resource_init(&r[i]);
        r[i].resource_type = res[i].type;
        r[i].resource_name = span_str(res[i].name);
        r[i].configuration_keys.null = true;
    }
    REQUEST(c, DESCRIBE_CONFIGS, 4, describe_configs, &m);
    world_run(w, 2);
    RESPONSE(c, DESCRIBE_CONFIGS, 4, describe_configs, &resp);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(resp.results.v[i].error_code, res[i].error);
        assert_int_equal(resp.results.v[i].configs.cnt, res[i].keys);
    }
    const struct describe_configs_response_config *k =
        config(&resp, 0, "consumer.session.timeout.ms");
    assert_true(span_eq_str(k->value, "50000"));
    assert_int_equal(k->config_source, CONFIG_SOURCE_GROUP);
    assert_int_equal(k->synonyms.cnt, 2);
    assert_true(span_eq_str(k->synonyms.v[1].name, "group.consumer.session.timeout.ms"));
    assert_true(span_eq_str(k->synonyms.v[1].value, "45000"));
    k = config(&resp, 1, "consumer.session.timeout.ms");
    assert_int_equal(k->config_source, CONFIG_SOURCE_DEFAULT);
    k = config(&resp, 1, "consumer.heartbeat.interval.ms"); /* what the file says */
    assert_true(span_eq_str(k->value, "7000"));
    assert_int_equal(k->config_source, CONFIG_SOURCE_STATIC);
    k = config(&resp, 3, "root");
    assert_true(span_eq_str(k->value, "INFO"));
    assert_int_equal(k->config_source, CONFIG_SOURCE_LOGGER);
    client_close(c);
    close_world();
}

static void a_default_in_hours_is_described_as_kafka_does(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", "segment.ms=5");
    struct client *c = client_open(w);
    struct describe_configs_request m;
    struct describe_configs_request_resource r[2];
    struct describe_configs_response resp;
    char self[16];
    snprintf(self, sizeof(self), "%d", w->conf->node_id);
    describe_configs_request_init(&m);
    m.include_synonyms = true;
    m.resources.v = r;
    m.resources.cnt = 2;
    for (int i = 0; i < 2; i++) {
        describe_configs_request_resource_init(&r[i]);
        r[i].resource_type = i == 0 ? 2 : 4;
        r[i].resource_name = span_str(i == 0 ? "t" : self);
        r[i].configuration_keys.null = true;
    }
    static const struct {
        uint32_t of;
        const char *key, *value; /* value NULL: null */
        int8_t source;
        uint32_t synonyms;
        bool read_only;
    } rows[] = {
        {0, "retention.ms", "604800000", 5, 0, false},
        {0, "segment.ms", "5", 1, 1, false}, /* its own override alone */
        {0, "segment.jitter.ms", "0", 5, 0, false},
        {0, "flush.ms", "9223372036854775807", 5, 0, false},
        {0, "segment.bytes", "1073741824", 5, 1, false},
        {1, "log.retention.ms", NULL, 5, 0, false},
        {1, "log.retention.minutes", NULL, 5, 0, true},
        {1, "log.retention.hours", "168", 5, 1, true},
        {1, "log.roll.ms", NULL, 5, 0, false},
        {1, "log.roll.hours", "168", 5, 1, true},
        {1, "log.roll.jitter.hours", "0", 5, 1, true},
        {1, "log.flush.scheduler.interval.ms", "9223372036854775807", 5, 1, true},
    };
    for (int16_t v = 1; v <= 4; v++) {
        REQUEST(c, DESCRIBE_CONFIGS, v, describe_configs, &m);
        world_run(w, 2);
        RESPONSE(c, DESCRIBE_CONFIGS, v, describe_configs, &resp);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            const struct describe_configs_response_config *k =
                config(&resp, rows[i].of, rows[i].key);
            assert_non_null(k);
            if (rows[i].value == NULL)
                assert_true(span_is_null(k->value));
            else
                assert_true(span_eq_str(k->value, rows[i].value));
            assert_int_equal(k->config_source, rows[i].source);
            assert_int_equal(k->synonyms.cnt, rows[i].synonyms);
            assert_int_equal(k->read_only, rows[i].read_only);
        }
    }
    client_close(c);
    close_world();
}

static void describe_topic_partitions_goes_on_from_its_cursor(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "a", NULL);
    world_topic(w, "b", NULL);
    struct client *c = client_open(w);
    struct describe_topic_partitions_request m;
    struct describe_topic_partitions_request_cursor cursor;
    struct describe_topic_partitions_response resp;
    uint32_t seen = 0;
    describe_topic_partitions_request_init(&m);
    m.response_partition_limit = 3;
    for (int page = 0; page < 3; page++) {
        REQUEST(c, DESCRIBE_TOPIC_PARTITIONS, 0, describe_topic_partitions, &m);
        world_run(w, 2);
        RESPONSE(c, DESCRIBE_TOPIC_PARTITIONS, 0, describe_topic_partitions, &resp);
        for (uint32_t i = 0; i < resp.topics.cnt; i++)
            seen += resp.topics.v[i].partitions.cnt;
        assert_false(resp.topics.v[0].partitions.v[0].eligible_leader_replicas.null);
        assert_false(resp.topics.v[0].partitions.v[0].last_known_elr.null);
        assert_int_equal(resp.next_cursor != NULL, page < 2);
        if (resp.next_cursor == NULL)
            break;
        cursor.topic_name = resp.next_cursor->topic_name;
        cursor.partition_index = resp.next_cursor->partition_index;
        m.cursor = &cursor;
    }
    assert_int_equal(seen, 2 * WORLD_TOPIC_PARTITIONS);
    client_close(c);
    close_world();
}

static void admin_requests_are_forwarded_as_they_came(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    struct create_topics_request m;
    struct create_topics_request_topic t;
    create_topics_request_init(&m);
    create_topics_request_topic_init(&t);
    t.name = span_str("new");
    m.topics.v = &t;
    m.topics.cnt = 1;
    m.timeout_ms = 777;
    for (int16_t v = 2; v <= 7; v++) {
        struct span f;
        uint8_t want[256];
        struct wire_writer wr;
        REQUEST(c, CREATE_TOPICS, v, create_topics, &m);
        world_run(w, 3);
        wire_writer_init(&wr, want, sizeof(want));
        create_topics_request_write(&wr, v, &m);
        assert_int_equal(w->admin.api_key, CREATE_TOPICS);
        assert_int_equal(w->admin.api_version, v);
        assert_int_equal(w->admin.timeout_ms, 777);
        assert_false(w->admin.fail_fast);
        assert_int_equal(w->admin.body_len, wr.len);
        assert_memory_equal(w->admin.body, want, wr.len);
        assert_true(client_take(c, &f));
        assert_memory_equal(f.p + f.len - 5, "reply", 5);
    }
    client_close(c);
    close_world();
}

static void an_unanswered_admin_request_times_out_for_every_resource(void **state)
{
    (void)state;
    open_world(NULL);
    w->admin_rc = -E_TIMED_OUT;
    struct client *c = client_open(w);
    struct delete_topics_request d;
    struct delete_topics_request_topic dt[2];
    struct span dn[2] = {span_str("a"), span_str("b")};
    delete_topics_request_init(&d);
    for (int i = 0; i < 2; i++) {
        delete_topics_request_topic_init(&dt[i]);
        dt[i].name = dn[i];
    }
    d.topics.v = dt;
    d.topics.cnt = 2;
    d.topic_names.v = dn;
    d.topic_names.cnt = 2;
    for (int16_t v = 1; v <= 6; v++) {
        struct delete_topics_response resp;
        REQUEST(c, DELETE_TOPICS, v, delete_topics, &d);
        world_run(w, 3);
        RESPONSE(c, DELETE_TOPICS, v, delete_topics, &resp);
        assert_int_equal(resp.responses.cnt, 2);
        assert_int_equal(resp.responses.v[1].error_code, 7);
        assert_true(span_eq_str(resp.responses.v[1].name, "b"));
    }
    struct create_partitions_request p;
    struct create_partitions_request_topic pt;
    struct create_partitions_response presp;
    create_partitions_request_init(&p);
    create_partitions_request_topic_init(&pt);
    pt.name = span_str("a");
    pt.assignments.null = true;
    p.topics.v = &pt;
    p.topics.cnt = 1;
    REQUEST(c, CREATE_PARTITIONS, 3, create_partitions, &p);
    world_run(w, 3);
    RESPONSE(c, CREATE_PARTITIONS, 3, create_partitions, &presp);
    assert_int_equal(presp.results.v[0].error_code, 7);
    client_close(c);
    close_world();
}

static void a_connection_that_closes_while_the_control_plane_is_away_is_let_go(void **state)
{
    (void)state;
    open_world(NULL);
    w->ctl_away = true;
    struct client *c = client_open(w);
    struct create_topics_request m;
    create_topics_request_init(&m);
    REQUEST(c, CREATE_TOPICS, 7, create_topics, &m);
    world_run(w, 5);
    assert_int_equal(w->admin.cnt, 1);
    client_close(c);
    world_run(w, 5);
    close_world(); /* the answer comes home now, to nobody; nothing is left */
}

TEST_MAIN(TEST(metadata_names_one_broker_and_every_topic_in_all_versions),
          TEST(a_metadata_request_of_10_mb_is_answered_each_topic_once),
          TEST(metadata_tells_what_is_wrong_with_a_name_or_an_id),
          TEST(metadata_creates_a_topic_that_is_asked_for),
          TEST(auto_creation_without_a_control_plane_is_leader_not_available),
          TEST(the_advertised_address_is_the_listeners), TEST(describe_cluster_knows_brokers_only),
          TEST(describe_configs_tells_value_source_and_synonyms),
          TEST(groups_and_the_logger_are_described_too),
          TEST(a_default_in_hours_is_described_as_kafka_does),
          TEST(a_value_is_described_by_every_step_it_may_come_from),
          TEST(describe_topic_partitions_goes_on_from_its_cursor),
          TEST(admin_requests_are_forwarded_as_they_came),
          TEST(an_unanswered_admin_request_times_out_for_every_resource),
          TEST(a_connection_that_closes_while_the_control_plane_is_away_is_let_go))
