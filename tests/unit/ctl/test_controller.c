/* test_controller.c - Kafka's rules for topics, registration, and who is answered when. */
#include "lib/base/log.h"
#include "lib/base/text_file.h"
#include "tests/unit/ctl/controller_test.h"
#include <sys/stat.h>

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
    q.timeout_ms = 1000; /* the call flushes: on a busy disk that alone took 30 */
    call(f, 19, 7, &q);
    int ms = controller_tick(f->c);
    assert_true(ms > 0 && ms <= 1000);
    assert_int_equal(f->answers, 0);
    usleep(1010000);
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
static void a_directory_that_was_there_is_missing_and_never_made_anew(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 32], err[1024];
    struct identity first, id;
    struct stat st;
    snprintf(f->conf.data_dirs[1], sizeof(f->conf.data_dirs[1]), "%s/second/log", f->dir);
    f->conf.data_dir_cnt = 2;
    assert_ok(identity_load(&f->conf, &first, err, sizeof(err)));
    assert_memory_equal(&first.dir_id[0], &f->id.dir_id[0], sizeof(struct uuid));
    snprintf(path, sizeof(path), "%s/meta.properties", f->conf.data_dirs[1]);
    assert_int_equal(unlink(path), 0); /* as an empty mount point */
    log_set_level(LOG_LEVEL_NONE);
    for (int i = 0; i < 2; i++) {
        assert_ok(identity_load(&f->conf, &id, err, sizeof(err)));
        assert_true(id.dir_missing[1]);
        assert_false(id.dir_missing[0]);
        assert_memory_equal(id.dir_id, first.dir_id, sizeof(id.dir_id));
        assert_true(stat(path, &st) < 0);
        assert_int_equal(i == 0 ? rmdir(f->conf.data_dirs[1]) : 0, 0); /* now it is gone */
    }
    /* One start without it, and it is a new directory. */
    f->conf.data_dir_cnt = 1;
    assert_ok(identity_load(&f->conf, &id, err, sizeof(err)));
    f->conf.data_dir_cnt = 2;
    assert_ok(identity_load(&f->conf, &id, err, sizeof(err)));
    log_set_level(LOG_LEVEL_INFO);
    assert_false(id.dir_missing[1]);
    assert_false(uuid_eq(&id.dir_id[1], &first.dir_id[1]));
    f->conf.data_dir_cnt = 1;
}
static void new_partitions_go_only_where_the_dataplane_has_a_disk(void **state)
{
    struct fixture *f = *state;
    struct ctl_hello h = hello_of(f);
    struct change ch;
    int64_t epoch;
    uuid_random(&f->c->id.dir_id[1]);
    f->c->id.dir_cnt = 2;
    for (int has = 0; has < 2; has++) {
        h.log_dirs = (struct wire_uuids){.v = f->c->id.dir_id, .cnt = has ? 2 : 1};
        assert_ok(controller_register(f->c, &h, &epoch));
        assert_true(controller_dir_is_open(f->c, 0));
        assert_int_equal(controller_dir_is_open(f->c, 1), has);
        change_init(&ch, f->c);
        uint64_t before = ch.dir_partitions[1];
        for (int32_t i = 0; i < 8; i++)
            change_add_partition(f->c, &ch, &f->c->id.dir_id[0], i);
        assert_int_equal(ch.dir_partitions[1] - before > 0, has);
        change_fini(&ch);
    }
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
        T(more_replicas_are_refused_or_clamped_as_configured),
        T(directories_of_others_are_refused_and_left_alone),
        T(a_directory_that_was_there_is_missing_and_never_made_anew),
        T(new_partitions_go_only_where_the_dataplane_has_a_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
