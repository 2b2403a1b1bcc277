/* test_controller.c - Kafka's rules for topics, registration, and who is answered when. */
#include "ctl/controller/controller_int.h"
#include "ctl/controller/topic_rules.h"
#include "lib/base/text_file.h"
#include "accel/accel.h"
#include "tests/support/test.h"

struct fixture {
    char *dir;
    struct conf conf;
    struct identity id;
    struct controller *c;
    uint32_t published;
    int64_t last_published;
    /* the last answer */
    uint32_t answers;
    int16_t error;
    struct arena arena;
    struct create_topics_response create;
    struct delete_topics_response del;
    struct create_partitions_response grow;
    struct alter_configs_response alter;
    struct incremental_alter_configs_response incremental;
    struct alter_client_quotas_response quotas;
    int16_t expect; /* api of the next answer */
};
static void on_publish(void *arg, const struct span *records, uint32_t cnt, int64_t last)
{
    struct fixture *f = arg;
    f->published++;
    f->last_published = last;
}
static void open_again(struct fixture *f)
{
    char err[512] = "";
    struct controller_opts o = {
        .conf = &f->conf, .identity = &f->id, .publish = on_publish, .publish_arg = f};
    if (identity_load(&f->conf, &f->id, err, sizeof(err)) < 0 ||
        controller_open(&o, &f->c, err, sizeof(err)) < 0)
        fail_msg("%s", err);
}
static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char err[256];
    f->dir = test_tmpdir();
    conf_init(&f->conf);
    snprintf(f->conf.dir, sizeof(f->conf.dir), "%s", f->dir);
    assert_ok(conf_set(&f->conf, "topic_defaults.partitions_max", "100", false, err, sizeof(err)));
    assert_ok(conf_set(&f->conf, "topic_defaults.partitions", "2", false, err, sizeof(err)));
    conf_finish(&f->conf);
    arena_init(&f->arena, 64 << 20);
    open_again(f);
    *state = f;
    return 0;
}
static int teardown(void **state)
{
    struct fixture *f = *state;
    controller_close(f->c);
    arena_fini(&f->arena);
    test_tmpdir_remove(f->dir);
    free(f);
    return 0;
}
static void on_done(void *arg, int16_t error, const char *message, struct span body)
{
    struct fixture *f = arg;
    struct wire_reader r;
    f->answers++;
    f->error = error;
    if (error != 0)
        return;
    uint8_t *copy = arena_alloc(&f->arena, body.len + 1);
    memcpy(copy, body.p, body.len);
    wire_reader_init(&r, span_of(copy, body.len));
    if (f->expect == 19)
        assert_ok(create_topics_response_read(&r, 7, &f->arena, &f->create));
    else if (f->expect == 20)
        assert_ok(delete_topics_response_read(&r, 6, &f->arena, &f->del));
    else if (f->expect == 33)
        assert_ok(alter_configs_response_read(&r, 2, &f->arena, &f->alter));
    else if (f->expect == 44)
        assert_ok(incremental_alter_configs_response_read(&r, 1, &f->arena, &f->incremental));
    else if (f->expect == 49)
        assert_ok(alter_client_quotas_response_read(&r, 1, &f->arena, &f->quotas));
    else
        assert_ok(create_partitions_response_read(&r, 3, &f->arena, &f->grow));
}
static void call(struct fixture *f, int16_t key, int16_t version, const void *msg)
{
    static uint8_t buf[1 << 20];
    struct wire_writer w;
    wire_writer_init(&w, buf, sizeof(buf));
    if (key == 19)
        create_topics_request_write(&w, version, msg);
    else if (key == 20)
        delete_topics_request_write(&w, version, msg);
    else if (key == 33)
        alter_configs_request_write(&w, version, msg);
    else if (key == 44)
        incremental_alter_configs_request_write(&w, version, msg);
    else if (key == 49)
        alter_client_quotas_request_write(&w, version, msg);
    else
        create_partitions_request_write(&w, version, msg);
    assert_int_equal(w.err, 0);
    f->expect = key;
    struct admin_request q = {.api_key = key,
                              .api_version = version,
                              .body = span_of(buf, (uint32_t)w.len),
                              .done = on_done,
                              .arg = f};
    controller_admin(f->c, &q);
}
static void applied(struct fixture *f)
{
    struct ctl_metadata_applied m;
    ctl_metadata_applied_init(&m);
    m.offset = controller_last_offset(f->c);
    controller_on_applied(f->c, &m);
}
static void topic(struct create_topics_request_topic *t, const char *name, int32_t n, int16_t rf)
{
    create_topics_request_topic_init(t);
    t->name = span_str(name);
    t->num_partitions = n;
    t->replication_factor = rf;
}
static int16_t create1(struct fixture *f, const char *name, int32_t n, int16_t rf)
{
    struct create_topics_request q;
    struct create_topics_request_topic t;
    create_topics_request_init(&q);
    topic(&t, name, n, rf);
    q.topics.v = &t;
    q.topics.cnt = 1;
    uint32_t before = f->answers;
    call(f, 19, 7, &q);
    applied(f);
    assert_int_equal(f->answers, before + 1);
    return f->create.topics.v[0].error_code;
}
static struct ctl_hello hello_of(struct fixture *f)
{
    struct ctl_hello h;
    ctl_hello_init(&h);
    uuid_random(&h.incarnation);
    h.cluster_id = f->id.cluster_id;
    h.node_id = f->id.node_id;
    h.shard_cnt = 3;
    return h;
}

static void create_topics_follows_kafkas_rules(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        int32_t partitions;
        int16_t rf, error;
    } rows[] = {
        {"good", 3, 1, 0},
        {"good", 3, 1, 36},
        {"default", -1, -1, 0},
        {"", 1, 1, 17},
        {".", 1, 1, 17},
        {"..", 1, 1, 17},
        {"with space", 1, 1, 17},
        {"sl/ash", 1, 1, 17},
        {"a.b", 1, 1, 0},
        {"a_b", 1, 1, 17},
        {"rf3", 1, 3, 38},
        {"rf0", 1, 0, 38},
        {"rf-2", 1, -2, 38},
        {"none", 0, 1, 37},
        {"neg", -2, 1, 37},
        {"many", 101, 1, 44},
        {"__cluster_metadata", 1, 1, 17},
        {"__consumer_offsets", 5, 1, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int16_t got = create1(f, rows[i].name, rows[i].partitions, rows[i].rf);
        if (got != rows[i].error)
            fail_msg("%s: %d, expected %d", rows[i].name, got, rows[i].error);
        assert_int_equal(span_is_null(f->create.topics.v[0].error_message), got == 0);
    }
    char longname[251];
    memset(longname, 'x', 250);
    longname[250] = '\0';
    assert_int_equal(create1(f, longname, 1, 1), 17);
    longname[249] = '\0';
    assert_int_equal(create1(f, longname, 1, 1), 0);
    const struct meta_topic *t = image_topic_by_name(controller_image(f->c), span_str("default"));
    assert_int_equal(t->partition_cnt, 2);
    assert_int_equal(t->partitions[1].leader, 1);
    assert_int_equal(t->partitions[1].leader_epoch, 0);
    assert_true(uuid_eq(&t->partitions[1].directory, &f->id.dir_id[0]));
}
static void create_answers_only_after_the_dataplane_has_applied(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t[2];
    create_topics_request_init(&q);
    topic(&t[0], "x", 1, 1);
    topic(&t[1], "bad name", 1, 1);
    q.topics.v = t;
    q.topics.cnt = 2;
    call(f, 19, 7, &q);
    assert_int_equal(f->answers, 0);
    assert_int_equal(f->published, 1);
    struct ctl_metadata_applied m;
    ctl_metadata_applied_init(&m);
    m.offset = f->last_published - 1;
    controller_on_applied(f->c, &m);
    assert_int_equal(f->answers, 0);
    m.offset = f->last_published;
    controller_on_applied(f->c, &m);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->create.topics.v[0].error_code, 0);
    assert_false(uuid_is_zero(&f->create.topics.v[0].topic_id));
    assert_int_equal(f->create.topics.v[0].num_partitions, 1);
    assert_int_equal(f->create.topics.v[0].configs.cnt, config_topic_cnt());
    assert_int_equal(f->create.topics.v[1].error_code, 17);
}
static void a_change_nobody_applies_is_answered_with_a_timeout_and_stays(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t[2];
    create_topics_request_init(&q);
    topic(&t[0], "x", 1, 1);
    topic(&t[1], "bad name", 1, 1);
    q.topics.v = t;
    q.topics.cnt = 2;
    q.timeout_ms = 30;
    call(f, 19, 7, &q);
    int ms = controller_tick(f->c);
    assert_true(ms > 0 && ms <= 30);
    assert_int_equal(f->answers, 0);
    usleep(40000);
    assert_int_equal(controller_tick(f->c), -1);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->create.topics.v[0].error_code, 7);
    assert_int_equal(f->create.topics.v[1].error_code, 17);
    assert_non_null(image_topic_by_name(controller_image(f->c), span_str("x")));
}
static void a_failed_directory_is_that_topics_error(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t[2];
    create_topics_request_init(&q);
    topic(&t[0], "x", 1, 1);
    topic(&t[1], "y", 1, 1);
    q.topics.v = t;
    q.topics.cnt = 2;
    call(f, 19, 7, &q);
    struct ctl_metadata_applied m;
    struct ctl_metadata_applied_topic_error e;
    ctl_metadata_applied_init(&m);
    ctl_metadata_applied_topic_error_init(&e);
    e.topic_id = image_topic_by_name(controller_image(f->c), span_str("y"))->id;
    e.error_code = 56;
    e.error_message = span_str("no space");
    m.offset = f->last_published;
    m.topics.v = &e;
    m.topics.cnt = 1;
    controller_on_applied(f->c, &m);
    assert_int_equal(f->create.topics.v[0].error_code, 0);
    assert_int_equal(f->create.topics.v[1].error_code, 56);
    assert_true(span_eq_str(f->create.topics.v[1].error_message, "no space"));
}
static void validate_only_creates_nothing_and_duplicates_are_refused(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t[4];
    create_topics_request_init(&q);
    topic(&t[0], "v", 4, 1);
    topic(&t[1], "twice", 1, 1);
    topic(&t[2], "twice", 1, 1);
    topic(&t[3], "v_w", 1, 1);
    q.topics.v = t;
    q.topics.cnt = 4;
    q.validate_only = true;
    call(f, 19, 7, &q);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->create.topics.cnt, 4);
    assert_int_equal(f->create.topics.v[0].error_code, 0);
    assert_int_equal(f->create.topics.v[0].num_partitions, 4);
    assert_int_equal(f->create.topics.v[1].error_code, 42);
    assert_int_equal(f->create.topics.v[2].error_code, 42);
    assert_int_equal(f->create.topics.v[3].error_code, 0);
    assert_int_equal(controller_image(f->c)->topic_cnt, 0);
    assert_int_equal(controller_last_offset(f->c), -1);
}
/* With '.' and '_' as one: of a request's rows the first good one has the name. */
static void names_that_collide_are_refused(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t[6];
    static const struct {
        const char *name;
        int16_t rf, error;
    } rows[] = {{"x.y", 3, 38},     {"x_y", 1, 0},  {"x.z", 1, 0},
                {"old_one", 1, 17}, {"x_z", 1, 17}, {"x-y", 1, 0}};
    assert_int_equal(create1(f, "old.one", 1, 1), 0);
    create_topics_request_init(&q);
    for (int i = 0; i < 6; i++)
        topic(&t[i], rows[i].name, 1, rows[i].rf);
    q.topics.v = t;
    q.topics.cnt = 6;
    call(f, 19, 7, &q);
    applied(f);
    for (int i = 0; i < 6; i++)
        assert_int_equal(f->create.topics.v[i].error_code, rows[i].error);
    assert_non_null(
        strstr((const char *)f->create.topics.v[3].error_message.p, "existing topic: old.one"));
    assert_non_null(
        strstr((const char *)f->create.topics.v[4].error_message.p, "another of the request: x.z"));
    assert_int_equal(create1(f, "x.y", 1, 1), 17);
    assert_int_equal(create1(f, "x_y", 1, 1), 36);
}
static void configs_are_checked_against_the_table(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *key, *value;
        int16_t error;
    } rows[] = {
        {"retention.ms", "1000", 0},
        {"retention.ms", "-1", 0},
        {"retention.ms", "-2", 40},
        {"retention.ms", "soon", 40},
        {"retention.ms", "1 ", 40},
        {"retention.sm", "1", 40},
        {"cleanup.policy", "compact", 0},
        {"cleanup.policy", "compact,delete", 0},
        {"cleanup.policy", "", 40},
        {"cleanup.policy", "burn", 40},
        {"compression.type", "zstd", 0},
        {"compression.type", "rar", 40},
        {"segment.bytes", "1048575", 40},
        {"segment.bytes", "4294967296", 40},
        {"preallocate", "TRUE", 0},
        {"preallocate", "yes", 40},
        {"min.cleanable.dirty.ratio", "0.3", 0},
        {"min.cleanable.dirty.ratio", "1.5", 40},
        {"sluice.compression", "auto", 0},
        {"sluice.compression", "gzip", 40},
        {"remote.storage.enable", "true", 40},
        {"flush.ms", NULL, 40},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char why[512];
        struct span v = rows[i].value == NULL ? SPAN_NULL : span_str(rows[i].value);
        int16_t got = topic_config_check(span_str(rows[i].key), v, why, sizeof(why));
        if (got != rows[i].error)
            fail_msg("%s=%s: %d", rows[i].key, rows[i].value, got);
    }
    struct create_topics_request q;
    struct create_topics_request_topic t;
    struct create_topics_request_config cfg[2] = {{span_str("retention.ms"), span_str("1000")},
                                                  {span_str("retention.ms"), span_str("2")}};
    create_topics_request_init(&q);
    topic(&t, "c", 1, 1);
    t.configs.v = cfg;
    t.configs.cnt = 1;
    q.topics.v = &t;
    q.topics.cnt = 1;
    call(f, 19, 7, &q);
    applied(f);
    const struct meta_topic *mt = image_topic_by_name(controller_image(f->c), span_str("c"));
    assert_string_equal(meta_topic_config(mt, "retention.ms"), "1000");
    t.name = span_str("d");
    t.configs.cnt = 2;
    call(f, 19, 7, &q);
    assert_int_equal(f->create.topics.v[0].error_code, 40);
}
static void manual_assignments_must_name_this_broker(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t;
    struct create_topics_request_assignment as[2];
    int32_t us = 1, other = 2;
    create_topics_request_init(&q);
    topic(&t, "m", -1, -1);
    for (int i = 0; i < 2; i++) {
        create_topics_request_assignment_init(&as[i]);
        as[i].partition_index = i;
        as[i].broker_ids = (struct wire_i32s){.v = &us, .cnt = 1};
    }
    t.assignments.v = as;
    t.assignments.cnt = 2;
    q.topics.v = &t;
    q.topics.cnt = 1;
    as[1].broker_ids.v = &other;
    call(f, 19, 7, &q);
    assert_int_equal(f->create.topics.v[0].error_code, 39);
    as[1].broker_ids.v = &us;
    as[1].partition_index = 2;
    call(f, 19, 7, &q);
    assert_int_equal(f->create.topics.v[0].error_code, 39);
    as[1].partition_index = 1;
    t.num_partitions = 2;
    call(f, 19, 7, &q);
    assert_int_equal(f->create.topics.v[0].error_code, 42);
    t.num_partitions = -1;
    call(f, 19, 7, &q);
    applied(f);
    assert_int_equal(f->create.topics.v[0].error_code, 0);
    assert_int_equal(f->create.topics.v[0].num_partitions, 2);
}
static void delete_topics_works_by_name_and_id_and_protects_what_is_written(void **state)
{
    struct fixture *f = *state;
    int64_t epoch;
    struct ctl_hello h = hello_of(f);
    assert_ok(controller_register(f->c, &h, &epoch));
    assert_int_equal(create1(f, "a", 1, 1), 0);
    assert_int_equal(create1(f, "b", 1, 1), 0);
    struct uuid b = image_topic_by_name(controller_image(f->c), span_str("b"))->id;
    struct delete_topics_request q;
    struct delete_topics_request_topic t[8];
    delete_topics_request_init(&q);
    for (int i = 0; i < 8; i++)
        delete_topics_request_topic_init(&t[i]);
    t[0].name = span_str("a");
    t[1].topic_id = b;
    t[2].name = span_str("nosuch");
    uuid_random(&t[3].topic_id);
    t[4].name = span_str("syslog");
    t[5].name = span_str("_sluice.gaps");
    t[6].name = span_str("b");
    t[6].topic_id = b;
    q.topics.v = t; /* t[7]: neither name nor id */
    q.topics.cnt = 8;
    q.timeout_ms = 1000;
    call(f, 20, 6, &q);
    applied(f);
    static const int16_t want[8] = {0, 0, 3, 100, 44, 44, 42, 42};
    for (int i = 0; i < 8; i++)
        assert_int_equal(f->del.responses.v[i].error_code, want[i]);
    assert_true(span_eq_str(f->del.responses.v[1].name, "b"));
    assert_null(image_topic_by_name(controller_image(f->c), span_str("a")));
    assert_null(image_topic_by_name(controller_image(f->c), span_str("b")));
    assert_non_null(image_topic_by_name(controller_image(f->c), span_str("syslog")));
    assert_int_equal(create1(f, "b", 1, 1), 0);
    assert_false(uuid_eq(&b, &image_topic_by_name(controller_image(f->c), span_str("b"))->id));
}
static void create_partitions_only_grows(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create1(f, "g", 2, 1), 0);
    static const struct {
        const char *name;
        int32_t count;
        int16_t error;
    } rows[] = {{"g", 2, 37},   {"g", 1, 37}, {"g", 0, 37},
                {"g", 200, 44}, {"no", 4, 3}, {"g", 5, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct create_partitions_request q;
        struct create_partitions_request_topic t;
        create_partitions_request_init(&q);
        create_partitions_request_topic_init(&t);
        t.name = span_str(rows[i].name);
        t.count = rows[i].count;
        t.assignments.null = true;
        q.topics.v = &t;
        q.topics.cnt = 1;
        q.timeout_ms = 1000;
        call(f, 37, 3, &q);
        applied(f);
        assert_int_equal(f->grow.results.v[0].error_code, rows[i].error);
    }
    const struct meta_topic *t = image_topic_by_name(controller_image(f->c), span_str("g"));
    assert_int_equal(t->partition_cnt, 5);
}
static void registration_makes_features_topics_and_a_broker_epoch(void **state)
{
    struct fixture *f = *state;
    int64_t epoch, again;
    struct ctl_hello h = hello_of(f);
    assert_ok(controller_register(f->c, &h, &epoch));
    assert_int_equal(epoch, meta_feature_cnt); /* offset of its record, after the feature levels */
    struct meta_image *img = controller_image(f->c);
    assert_int_equal(img->broker_epoch, epoch);
    assert_int_equal(image_feature(img, "metadata.version"), 27);
    assert_int_equal(image_feature(img, "group.version"), 1);
    const struct meta_topic *t = image_topic_by_name(img, span_str("syslog"));
    assert_int_equal(t->partition_cnt, 3);
    assert_string_equal(meta_topic_config(t, "sluice.compression"), "auto");
    assert_int_equal(image_topic_by_name(img, span_str("syslog.dlq"))->partition_cnt, 1);
    assert_string_equal(
        meta_topic_config(image_topic_by_name(img, span_str("_sluice.gaps")), "retention.ms"),
        "-1");
    int64_t offset = controller_last_offset(f->c);
    assert_ok(controller_register(f->c, &h, &again)); /* the same process: nothing new */
    assert_int_equal(again, epoch);
    assert_int_equal(controller_last_offset(f->c), offset);
    controller_close(f->c);
    open_again(f); /* sluiced came back */
    assert_ok(controller_register(f->c, &h, &again));
    assert_int_equal(again, epoch);
    assert_int_equal(controller_last_offset(f->c), offset);
    struct ctl_hello h2 = hello_of(f); /* another dataplane process */
    assert_ok(controller_register(f->c, &h2, &again));
    assert_int_equal(again, offset + 1);
}
static void unclean_partitions_get_a_higher_leader_epoch_in_one_batch(void **state)
{
    struct fixture *f = *state;
    int64_t epoch;
    struct ctl_hello h = hello_of(f);
    assert_ok(controller_register(f->c, &h, &epoch));
    struct uuid id = image_topic_by_name(controller_image(f->c), span_str("syslog"))->id, gone;
    uuid_random(&gone);
    int32_t parts[] = {0, 2, 99, -1};
    struct ctl_hello_unclean_topic un[2];
    ctl_hello_unclean_topic_init(&un[0]);
    ctl_hello_unclean_topic_init(&un[1]);
    un[0].topic_id = gone;
    un[0].partitions = (struct wire_i32s){.v = parts, .cnt = 1};
    un[1].topic_id = id;
    un[1].partitions = (struct wire_i32s){.v = parts, .cnt = 4};
    struct ctl_hello h2 = hello_of(f);
    h2.unclean.v = un;
    h2.unclean.cnt = 2;
    uint32_t before = f->published;
    assert_ok(controller_register(f->c, &h2, &epoch));
    assert_int_equal(f->published, before + 1);
    const struct meta_topic *t = image_topic_by_id(controller_image(f->c), &id);
    assert_int_equal(t->partitions[0].leader_epoch, 1);
    assert_int_equal(t->partitions[1].leader_epoch, 0);
    assert_int_equal(t->partitions[2].leader_epoch, 1);
}
static void producer_id_blocks_are_never_given_twice(void **state)
{
    struct fixture *f = *state;
    int64_t a, b, c;
    int32_t n, n2;
    int64_t epoch;
    struct ctl_hello h = hello_of(f);
    assert_ok(controller_register(f->c, &h, &epoch));
    assert_ok(controller_producer_ids(f->c, &a, &n));
    assert_ok(controller_producer_ids(f->c, &b, &n2));
    assert_int_equal(n, 1000);
    assert_int_equal(b, a + 1000);
    controller_close(f->c);
    open_again(f);
    assert_ok(controller_producer_ids(f->c, &c, &n2));
    assert_int_equal(c, b + 1000);
}
static void what_does_not_parse_and_foreign_apis_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int16_t key, version, error;
    } rows[] = {{19, 7, 42}, {20, 6, 42}, {37, 3, 42}, {19, 1, 35}, {19, 8, 35}, {3, 1, 35}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct admin_request q = {.api_key = rows[i].key,
                                  .api_version = rows[i].version,
                                  .body = span_of("\xff\xff\xff\xff\x0f", 5),
                                  .done = on_done,
                                  .arg = f};
        controller_admin(f->c, &q);
        assert_int_equal(f->answers, i + 1);
        assert_int_equal(f->error, rows[i].error);
    }
}
static void too_many_waiting_requests_are_refused_at_once(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request q;
    struct create_topics_request_topic t;
    create_topics_request_init(&q);
    topic(&t, "x", 1, 1);
    q.topics.v = &t;
    q.topics.cnt = 1;
    call(f, 19, 7, &q);
    assert_int_equal(f->answers, 0);
    f->c->waiting_cnt = CONTROLLER_PENDING_MAX;
    t.name = span_str("y");
    call(f, 19, 7, &q);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->error, 7);
    f->c->waiting_cnt = 1;
}
static void directories_of_others_are_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    char path[400], err[1024], *text;
    size_t len;
    struct identity id;
    snprintf(path, sizeof(path), "%s/log/meta.properties", f->dir);
    f->conf.node_id = 7;
    assert_rc(identity_load(&f->conf, &id, err, sizeof(err)), -E_FOREIGN_DIR);
    assert_non_null(strstr(err, "meta.properties belongs to node 1, this node is 7"));
    f->conf.node_id = 1;
    uuid_random(&f->conf.cluster_id);
    assert_rc(identity_load(&f->conf, &id, err, sizeof(err)), -E_FOREIGN_DIR);
    assert_non_null(strstr(err, "belongs to cluster"));
    memset(&f->conf.cluster_id, 0, 16);
    assert_ok(text_file_read(path, 4096, &text, &len));
    assert_ok(text_file_replace(path, "version=1\nnode.id=1\n", 20));
    assert_rc(identity_load(&f->conf, &id, err, sizeof(err)), -E_MALFORMED);
    assert_non_null(strstr(err, "cluster.id is missing"));
    assert_int_equal(unlink(path), 0);
    assert_rc(identity_load(&f->conf, &id, err, sizeof(err)), -E_FOREIGN_DIR);
    assert_non_null(strstr(err, "no meta.properties"));
    assert_ok(text_file_replace(path, text, len));
    assert_ok(identity_load(&f->conf, &id, err, sizeof(err)));
    assert_memory_equal(&id, &f->id, sizeof(id));
    free(text);
}
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
static void more_replicas_are_refused_or_clamped_as_configured(void **state)
{
    struct fixture *f = *state;
    char err[256];
    assert_int_equal(create1(f, "one", 1, 1), 0);
    assert_int_equal(create1(f, "default", 1, -1), 0);
    assert_int_equal(create1(f, "three", 1, 3), 38);
    assert_ok(
        conf_set(&f->conf, "topic_defaults.replicas_above_one", "clamp", false, err, sizeof(err)));
    assert_int_equal(create1(f, "three", 1, 3), 0);
    assert_int_equal(f->create.topics.v[0].replication_factor, 1);
    assert_int_equal(create1(f, "zero", 1, 0), 38);
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
}
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    accel_init(false);
    const struct CMUnitTest tests[] = {
        T(create_topics_follows_kafkas_rules),
        T(create_answers_only_after_the_dataplane_has_applied),
        T(a_change_nobody_applies_is_answered_with_a_timeout_and_stays),
        T(a_failed_directory_is_that_topics_error),
        T(validate_only_creates_nothing_and_duplicates_are_refused),
        T(names_that_collide_are_refused),
        T(configs_are_checked_against_the_table),
        T(manual_assignments_must_name_this_broker),
        T(delete_topics_works_by_name_and_id_and_protects_what_is_written),
        T(create_partitions_only_grows),
        T(registration_makes_features_topics_and_a_broker_epoch),
        T(unclean_partitions_get_a_higher_leader_epoch_in_one_batch),
        T(producer_id_blocks_are_never_given_twice),
        T(what_does_not_parse_and_foreign_apis_are_refused),
        T(too_many_waiting_requests_are_refused_at_once),
        T(broker_configs_are_altered_where_kafka_allows_it),
        T(more_replicas_are_refused_or_clamped_as_configured),
        T(client_quotas_follow_kafkas_rules_and_survive_a_restart),
        T(incremental_alter_configs_follows_kafkas_rules),
        T(alter_configs_replaces_every_override),
        T(directories_of_others_are_refused_and_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
