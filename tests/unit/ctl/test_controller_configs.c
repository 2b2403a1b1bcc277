/* test_controller_configs.c - Kafka's rules for configurations and quotas. */
#include "tests/unit/ctl/controller_test.h"

struct edit1 {
    const char *key;
    int8_t op;
    const char *value; /* NULL: null */
};
/* IncrementalAlterConfigs of one resource; its error. */
static int16_t edit(struct fixture *f, int8_t type, const char *name, const struct edit1 *e,
                    uint32_t n, bool validate_only)
{
    struct incremental_alter_configs_request q;
    struct incremental_alter_configs_request_resource res;
    struct incremental_alter_configs_request_config c[8];
    incremental_alter_configs_request_init(&q);
    incremental_alter_configs_request_resource_init(&res);
    res.resource_type = type;
    res.resource_name = span_str(name);
    res.configs.v = c;
    res.configs.cnt = n;
    for (uint32_t i = 0; i < n; i++) {
        incremental_alter_configs_request_config_init(&c[i]);
        c[i].name = span_str(e[i].key);
        c[i].config_operation = e[i].op;
        c[i].value = e[i].value != NULL ? span_str(e[i].value) : SPAN_NULL;
    }
    q.resources.v = &res;
    q.resources.cnt = 1;
    q.validate_only = validate_only;
    uint32_t before = f->answers;
    call(f, 44, 1, &q);
    applied(f);
    assert_int_equal(f->answers, before + 1);
    assert_int_equal(f->error, 0);
    assert_int_equal(f->incremental.responses.cnt, 1);
    const struct incremental_alter_configs_response_resource *r = &f->incremental.responses.v[0];
    assert_int_equal(r->resource_type, type);
    assert_true(span_eq_str(r->resource_name, name));
    assert_int_equal(span_is_null(r->error_message), r->error_code == 0);
    return r->error_code;
}
static const char *config_of(struct fixture *f, const char *topic_name, const char *key)
{
    const struct meta_topic *t = image_topic_by_name(controller_image(f->c), span_str(topic_name));
    return meta_topic_config(t, key);
}
static void incremental_alter_configs_follows_kafkas_rules(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create1(f, "t", 1, 1), 0);
    static const struct {
        int8_t type;
        const char *name;
        struct edit1 e;
        int16_t error;
    } bad[] = {
        {2, "absent", {"retention.ms", 0, "1"}, 3},
        {2, "", {"retention.ms", 0, "1"}, 42},
        {2, "a/b", {"retention.ms", 0, "1"}, 17},
        {4, "1", {"num.partitions", 0, "1"}, 42}, /* only the file can */
        {16, "x", {"interval.ms", 0, "1"}, 42},
        {2, "t", {"no.such.key", 0, "1"}, 40},
        {2, "t", {"no.such.key", 2, "1"}, 40},
        {2, "t", {"retention.ms", 0, "soon"}, 40},
        {2, "t", {"retention.ms", 0, "-2"}, 40},
        {2, "t", {"retention.ms", 0, NULL}, 42},
        {2, "t", {"retention.ms", 2, "1"}, 40},
        {2, "t", {"retention.ms", 3, "1"}, 40},
        {2, "t", {"retention.ms", 4, "1"}, 42},
        {2, "t", {"cleanup.policy", 0, "shred"}, 40},
        {2, "t", {"cleanup.policy", 3, "delete"}, 40},
        {2, "t", {"message.timestamp.type", 0, "Now"}, 40},
        {2, "t", {"remote.storage.enable", 0, "true"}, 40},
    };
    uint32_t published = f->published;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int16_t got = edit(f, bad[i].type, bad[i].name, &bad[i].e, 1, false);
        if (got != bad[i].error)
            fail_msg("row %zu: %d, expected %d", i, got, bad[i].error);
    }
    const struct edit1 twice[] = {{"retention.ms", 0, "1"}, {"retention.ms", 1, NULL}};
    assert_int_equal(edit(f, 2, "t", twice, 2, false), 42);
    const struct edit1 lag[] = {{"min.compaction.lag.ms", 0, "10"},
                                {"max.compaction.lag.ms", 0, "9"}};
    assert_int_equal(edit(f, 2, "t", lag, 2, false), 40);
    const struct edit1 half[] = {{"retention.ms", 0, "1"}, {"segment.bytes", 0, "1"}};
    assert_int_equal(edit(f, 2, "t", half, 2, false), 40); /* all or nothing */
    assert_int_equal(edit(f, 2, "t", half, 1, true), 0);   /* validate only */
    assert_int_equal(f->published, published);
    assert_null(config_of(f, "t", "retention.ms"));

    const struct edit1 good[] = {{"retention.ms", 0, "5000"}, {"cleanup.policy", 2, "compact"}};
    assert_int_equal(edit(f, 2, "t", good, 2, false), 0);
    assert_string_equal(config_of(f, "t", "retention.ms"), "5000");
    assert_string_equal(config_of(f, "t", "cleanup.policy"), "delete,compact");
    assert_int_equal(f->published, published + 1);
    assert_int_equal(edit(f, 2, "t", good, 2, false), 0); /* nothing changes: no record */
    assert_int_equal(f->published, published + 1);
    const struct edit1 back[] = {
        {"retention.ms", 1, NULL}, {"cleanup.policy", 3, " delete "}, {"unknown.key", 1, NULL}};
    assert_int_equal(edit(f, 2, "t", back, 3, false), 0);
    assert_null(config_of(f, "t", "retention.ms"));
    assert_string_equal(config_of(f, "t", "cleanup.policy"), "compact");
    controller_close(f->c); /* and it is in the log */
    open_again(f);
    assert_null(config_of(f, "t", "retention.ms"));
    assert_string_equal(config_of(f, "t", "cleanup.policy"), "compact");
}
static void alter_configs_replaces_every_override(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create1(f, "t", 1, 1), 0);
    const struct edit1 first[] = {{"retention.ms", 0, "5000"}, {"segment.bytes", 0, "2000000"}};
    assert_int_equal(edit(f, 2, "t", first, 2, false), 0);
    struct alter_configs_request q;
    struct alter_configs_request_resource res[3];
    struct alter_configs_request_config c;
    alter_configs_request_init(&q);
    alter_configs_request_config_init(&c);
    c.name = span_str("segment.bytes");
    c.value = span_str("3000000");
    for (int i = 0; i < 3; i++) {
        alter_configs_request_resource_init(&res[i]);
        res[i].resource_type = i == 2 ? 4 : 2;
        res[i].resource_name = span_str("t");
        res[i].configs.v = &c;
        res[i].configs.cnt = 1;
    }
    q.resources.v = res;
    q.resources.cnt = 3;
    call(f, 33, 2, &q);
    assert_int_equal(f->alter.responses.cnt,
                     3); /* a resource twice; of another type it is another */
    assert_int_equal(f->alter.responses.v[0].error_code, 42);
    assert_int_equal(f->alter.responses.v[1].error_code, 42);
    assert_non_null(strstr((const char *)f->alter.responses.v[1].error_message.p, "at most once"));
    assert_null(strstr((const char *)f->alter.responses.v[2].error_message.p, "at most once"));
    assert_string_equal(config_of(f, "t", "retention.ms"), "5000");
    q.resources.cnt = 1;
    uint32_t before = f->answers;
    call(f, 33, 2, &q);
    assert_int_equal(f->answers, before); /* not before the dataplane has it */
    applied(f);
    assert_int_equal(f->answers, before + 1);
    assert_int_equal(f->alter.responses.v[0].error_code, 0);
    assert_null(config_of(f, "t", "retention.ms"));
    assert_string_equal(config_of(f, "t", "segment.bytes"), "3000000");
}
/* AlterClientQuotas of one entity of one part and one key; its error. */
static int16_t quota(struct fixture *f, const char *type, const char *name, const char *key,
                     double value, bool remove, bool validate_only)
{
    struct alter_client_quotas_request q;
    struct alter_client_quotas_request_entry entry;
    struct alter_client_quotas_request_entity part = {span_str(type), SPAN_NULL};
    struct alter_client_quotas_request_op op = {span_str(key), value, remove};
    alter_client_quotas_request_init(&q);
    alter_client_quotas_request_entry_init(&entry);
    if (name != NULL)
        part.entity_name = span_str(name);
    entry.entity.v = &part;
    entry.entity.cnt = type[0] != 0 ? 1 : 0;
    entry.ops.v = &op;
    entry.ops.cnt = 1;
    q.entries.v = &entry;
    q.entries.cnt = 1;
    q.validate_only = validate_only;
    call(f, 49, 1, &q);
    applied(f);
    assert_int_equal(f->error, 0);
    assert_int_equal(f->quotas.entries.cnt, 1);
    assert_int_equal(f->quotas.entries.v[0].entity.cnt, entry.entity.cnt);
    assert_int_equal(span_is_null(f->quotas.entries.v[0].error_message),
                     f->quotas.entries.v[0].error_code == 0);
    return f->quotas.entries.v[0].error_code;
}
/* Of two equal entities in one request the last one counts. */
static void quota_twice(struct fixture *f, const char *client, double first, double last)
{
    struct alter_client_quotas_request q;
    struct alter_client_quotas_request_entry entry[2];
    struct alter_client_quotas_request_entity part = {span_str("client-id"), span_str(client)};
    struct alter_client_quotas_request_op op[2] = {
        {span_str("producer_byte_rate"), first, false},
        {span_str("producer_byte_rate"), last, last == 0}};
    alter_client_quotas_request_init(&q);
    for (int i = 0; i < 2; i++) {
        alter_client_quotas_request_entry_init(&entry[i]);
        entry[i].entity.v = &part;
        entry[i].entity.cnt = 1;
        entry[i].ops.v = &op[i];
        entry[i].ops.cnt = 1;
    }
    q.entries.v = entry;
    q.entries.cnt = 2;
    call(f, 49, 1, &q);
    applied(f);
    assert_int_equal(f->quotas.entries.v[0].error_code, 0);
    assert_int_equal(f->quotas.entries.v[1].error_code, 0);
}
static double rate_of(struct fixture *f, const char *client, enum quota_type type)
{
    struct quota_entity e = {.client = {QUOTA_DEFAULT, SPAN_NULL}};
    if (client != NULL)
        e.client = (struct quota_name){QUOTA_NAMED, span_str(client)};
    const struct meta_quota *q = quotas_find(controller_image(f->c)->quotas, &e);
    return q != NULL ? q->rate[type] : 0;
}
/* Dynamic configuration of this node and of all nodes; topics without overrides follow. */
static void broker_configs_are_altered_where_kafka_allows_it(void **state)
{
    struct fixture *f = *state;
    char self[16];
    snprintf(self, sizeof(self), "%d", f->id.node_id);
    const struct edit1 bytes = {"message.max.bytes", 0, "5000"};
    const struct edit1 more = {"message.max.bytes", 0, "7000"};
    const struct edit1 none = {"message.max.bytes", 1, NULL};
    const struct edit1 append = {"log.cleanup.policy", 2, "compact"};
    assert_int_equal(edit(f, 4, self, &(struct edit1){"num.partitions", 0, "3"}, 1, false), 42);
    assert_int_equal(edit(f, 4, self, &(struct edit1){"log.retention.hours", 0, "3"}, 1, false),
                     42);
    assert_int_equal(edit(f, 4, self, &(struct edit1){"no.such.key", 0, "3"}, 1, false), 40);
    assert_int_equal(edit(f, 4, self, &(struct edit1){"message.max.bytes", 0, "x"}, 1, false), 40);
    assert_int_equal(edit(f, 4, "999", &bytes, 1, false), 42);
    struct edit1 ip = {"max.connections.per.ip.overrides", 0, "10.0.0.1"};
    assert_int_equal(edit(f, 4, self, &ip, 1, false), 40);
    ip.value = "10.0.0.1:5,::1:6";
    assert_int_equal(edit(f, 4, self, &ip, 1, false), 0);
    assert_int_equal(edit(f, 4, self, &bytes, 1, true), 0); /* validate_only */
    assert_null(image_broker_config(controller_image(f->c), "message.max.bytes"));
    assert_int_equal(edit(f, 4, "", &bytes, 1, false), 0);
    assert_string_equal(image_broker_config(controller_image(f->c), "message.max.bytes"), "5000");
    assert_int_equal(edit(f, 4, self, &more, 1, false), 0);
    assert_int_equal(edit(f, 4, self, &append, 1, false), 0);
    assert_int_equal(create1(f, "t", 1, 1), 0);
    bool seen = false;
    for (uint32_t i = 0; i < f->create.topics.v[0].configs.cnt; i++) {
        const struct create_topics_response_config *k = &f->create.topics.v[0].configs.v[i];
        if (!span_eq_str(k->name, "max.message.bytes"))
            continue;
        assert_true(span_eq_str(k->value, "7000"));
        assert_int_equal(k->config_source, CONFIG_SOURCE_BROKER);
        seen = true;
    }
    assert_true(seen);
    controller_close(f->c);
    open_again(f);
    const struct meta_image *img = controller_image(f->c);
    assert_string_equal(image_broker_config(img, "log.cleanup.policy"), "delete,compact");
    enum config_source source;
    const struct meta_topic *t = image_topic_by_name(img, span_str("t"));
    assert_string_equal(config_of_topic(img, t, "max.message.bytes", &source), "7000");
    assert_int_equal(edit(f, 4, self, &none, 1, false), 0);
    img = controller_image(f->c);
    t = image_topic_by_name(img, span_str("t"));
    assert_string_equal(config_of_topic(img, t, "max.message.bytes", &source), "5000");
    assert_int_equal(source, CONFIG_SOURCE_DEFAULT_BROKER);
    assert_int_equal(edit(f, 4, "", &none, 1, false), 0);
    img = controller_image(f->c);
    t = image_topic_by_name(img, span_str("t"));
    assert_null(config_of_topic(img, t, "max.message.bytes", &source));
}
static void client_quotas_follow_kafkas_rules_and_survive_a_restart(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(quota(f, "", NULL, "producer_byte_rate", 1, false, false), 42);
    assert_int_equal(quota(f, "ip", "10.0.0.1", "connection_creation_rate", 1, false, false), 42);
    assert_int_equal(quota(f, "client-id", "", "producer_byte_rate", 1, false, false), 42);
    assert_int_equal(quota(f, "client-id", "a", "request_percentage", 10, false, false), 42);
    assert_int_equal(quota(f, "client-id", "a", "no_such_key", 10, false, false), 42);
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", 0, false, false), 42);
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", -5, false, false), 42);
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", 1.5, false, false), 42);
    int64_t before = controller_last_offset(f->c);
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", 9, false, true), 0);
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", 0, true, false), 0);
    assert_int_equal(controller_last_offset(f->c), before); /* nothing changed */
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", 1000, false, false), 0);
    assert_int_equal(quota(f, "client-id", "a", "consumer_byte_rate", 2000, false, false), 0);
    assert_int_equal(quota(f, "client-id", NULL, "consumer_byte_rate", 3000, false, false), 0);
    controller_close(f->c);
    open_again(f);
    assert_true(rate_of(f, "a", QUOTA_PRODUCE) == 1000);
    assert_true(rate_of(f, "a", QUOTA_FETCH) == 2000);
    assert_true(rate_of(f, NULL, QUOTA_FETCH) == 3000);
    assert_int_equal(quota(f, "client-id", "a", "producer_byte_rate", 0, true, false), 0);
    assert_true(rate_of(f, "a", QUOTA_PRODUCE) == 0);
    assert_true(rate_of(f, "a", QUOTA_FETCH) == 2000);
    quota_twice(f, "b", 5, 7);
    assert_true(rate_of(f, "b", QUOTA_PRODUCE) == 7);
    quota_twice(f, "b", 5, 7); /* though it is 7 already */
    assert_true(rate_of(f, "b", QUOTA_PRODUCE) == 7);
    quota_twice(f, "b", 5, 0);
    assert_true(rate_of(f, "b", QUOTA_PRODUCE) == 0);
    quota_twice(f, "b", 5, 0);
    assert_true(rate_of(f, "b", QUOTA_PRODUCE) == 0);
}
static const char *group_config(struct fixture *f, const char *group, const char *key)
{
    return image_group_config(controller_image(f->c), span_str(group), key);
}
static void groups_are_configured_by_kafkas_rules_whether_they_exist_or_not(void **state)
{
    struct fixture *f = *state;
    static const char session[] = "consumer.session.timeout.ms";
    static const char beat[] = "consumer.heartbeat.interval.ms";
    static const struct {
        const char *group;
        struct edit1 e;
        int16_t error;
    } bad[] = {{"", {session, 0, "50000"}, 42},
               {"g", {session, 0, "44999"}, 40}, /* group.consumer.min.session.timeout.ms */
               {"g", {session, 0, "60001"}, 40},
               {"g", {beat, 0, "4999"}, 40},
               {"g", {beat, 0, "15001"}, 40},
               {"g", {beat, 0, "often"}, 40},
               {"g", {beat, 2, "6000"}, 40},
               {"g", {beat, 0, NULL}, 42},
               {"g", {"retention.ms", 0, "6000"}, 40},
               {"g", {"share.session.timeout.ms", 0, "50000"}, 40}};
    uint32_t published = f->published;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int16_t got = edit(f, 32, bad[i].group, &bad[i].e, 1, false);
        if (got != bad[i].error)
            fail_msg("row %zu: %d, expected %d", i, got, bad[i].error);
    }
    assert_int_equal(f->published, published);
    const struct edit1 both[] = {{session, 0, "60000"}, {beat, 0, "15000"}};
    assert_int_equal(edit(f, 32, "g", both, 2, false), 0);
    assert_int_equal(edit(f, 32, "a b/c", &both[0], 1, false), 0); /* any text names a group */
    assert_int_equal(edit(f, 32, "g", &(struct edit1){session, 1, NULL}, 1, false), 0);
    controller_close(f->c);
    open_again(f);
    assert_null(group_config(f, "g", session));
    assert_string_equal(group_config(f, "g", beat), "15000");
    assert_string_equal(group_config(f, "a b/c", session), "60000");
    assert_int_equal(edit(f, 32, "g", &(struct edit1){beat, 1, NULL}, 1, false), 0);
    assert_int_equal(edit(f, 32, "a b/c", &(struct edit1){session, 1, NULL}, 1, false), 0);
    assert_null(controller_image(f->c)->groups); /* nothing is left of them */
}
static void the_level_of_the_one_logger_is_fixed(void **state)
{
    struct fixture *f = *state;
    char self[16];
    snprintf(self, sizeof(self), "%d", f->id.node_id);
    const struct {
        const char *node;
        struct edit1 e;
        int16_t error;
    } rows[] = {{self, {"root", 0, "INFO"}, 0},  {self, {"root", 0, "DEBUG"}, 42},
                {self, {"root", 0, "LOUD"}, 40}, {self, {"kafka.server", 0, "INFO"}, 40},
                {self, {"root", 1, NULL}, 42},   {self, {"root", 2, "INFO"}, 42},
                {"", {"root", 0, "INFO"}, 42},   {"99", {"root", 0, "INFO"}, 42}};
    uint32_t published = f->published;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int16_t got = edit(f, 8, rows[i].node, &rows[i].e, 1, false);
        if (got != rows[i].error)
            fail_msg("row %zu: %d, expected %d", i, got, rows[i].error);
    }
    assert_int_equal(f->published, published);
}
int main(void)
{
    accel_init(false);
    const struct CMUnitTest tests[] = {
        T(broker_configs_are_altered_where_kafka_allows_it),
        T(groups_are_configured_by_kafkas_rules_whether_they_exist_or_not),
        T(the_level_of_the_one_logger_is_fixed),
        T(client_quotas_follow_kafkas_rules_and_survive_a_restart),
        T(incremental_alter_configs_follows_kafkas_rules),
        T(alter_configs_replaces_every_override),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
