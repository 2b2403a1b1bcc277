/* controller_test.h - a controller on its own directory, and requests to it. The dataplane is the
 * test: applied() says that it has what was published. */
#pragma once
#include "ctl/controller/controller_int.h"
#include "ctl/controller/topic_rules.h"
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
__attribute__((unused)) static int16_t create1(struct fixture *f, const char *name, int32_t n,
                                               int16_t rf)
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
__attribute__((unused)) static struct ctl_hello hello_of(struct fixture *f)
{
    struct ctl_hello h;
    ctl_hello_init(&h);
    uuid_random(&h.incarnation);
    h.cluster_id = f->id.cluster_id;
    h.node_id = f->id.node_id;
    h.shard_cnt = 3;
    return h;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
