/* Many partition directories at once, on the real file system, and their end. */
#include "dataplane/store/part_many.h"
#include "dataplane/store/recover.h"
#include "tests/support/test.h"

#define CNT 40

static const struct uuid cluster = {{1}}, topic = {{2}};

static struct catalog *open_catalog(const char *dir)
{
    struct catalog *c;
    char err[CATALOG_ERR_MAX];
    struct catalog_opts o = {.ops = &file_io_real,
                             .dir_cnt = 1,
                             .dirs = {dir},
                             .cluster_id = &cluster,
                             .node_id = 1,
                             .format = true};
    assert_ok(catalog_open(&o, &c, err));
    return c;
}

static void make(struct catalog *c, struct part_make *v)
{
    for (int32_t i = 0; i < CNT; i++)
        v[i] = (struct part_make){
            .o = {.topic = "many", .topic_id = topic, .partition = i, .leader_epoch = 3}};
    part_make_many(c, v, CNT);
}

static void many_partitions_are_made_at_once_and_a_failed_one_fails_alone(void **state)
{
    char *tmp = test_tmpdir(), log[600], path[800];
    struct part_make v[CNT];
    snprintf(log, sizeof(log), "%s/log", tmp);
    struct catalog *c = open_catalog(log);
    snprintf(path, sizeof(path), "%s/many-17", log);
    assert_ok(file_io_real.mkdir(&c->io, path));
    make(c, v);
    for (int32_t i = 0; i < CNT; i++) {
        struct uuid id;
        if (i == 17) {
            assert_rc(v[i].rc, -EEXIST);
            assert_null(v[i].part);
            continue;
        }
        assert_ok(v[i].rc);
        assert_int_equal(v[i].part->partition, i);
        snprintf(path, sizeof(path), "%s/many-%d", log, i);
        assert_ok(part_meta_read(&c->io, path, &id));
        assert_true(uuid_eq(&id, &topic));
        part_destroy(v[i].part);
    }
    assert_ok(catalog_close(c, false));
    test_tmpdir_remove(tmp);
}

static int count(void *arg, const char *name)
{
    const char *dash = strstr(name, "-delete");
    *(int *)arg += dash != NULL && dash[7] == '\0';
    return 0;
}

static void a_retired_partition_that_nobody_removed_is_removed_by_the_next_start(void **state)
{
    char *tmp = test_tmpdir(), log[600], to[STORE_PATH_MAX];
    struct part_make v[CNT];
    snprintf(log, sizeof(log), "%s/log", tmp);
    struct catalog *c = open_catalog(log);
    make(c, v);
    for (int32_t i = 0; i < CNT; i++) {
        assert_ok(v[i].rc);
        if (i < 10)
            assert_ok(catalog_part_retire(v[i].part->dir, v[i].part->name, to));
        part_destroy(v[i].part);
    }
    assert_rc(catalog_part_retire(&c->dirs[0], "many-3", to), -ENOENT);
    int left = 0;
    assert_ok(file_io_real.list(&c->io, log, count, &left));
    assert_int_equal(left, 10);
    assert_ok(catalog_dir_sync(&c->dirs[0]));
    assert_ok(catalog_close(c, false));

    struct recover_opts o;
    struct recover_report rep = {.say = NULL};
    struct list found;
    recover_opts_default(&o);
    c = open_catalog(log);
    list_init(&found);
    assert_ok(recover_data_dirs(c, &o, &rep, &found));
    assert_int_equal(rep.partitions, CNT - 10);
    left = 0;
    assert_ok(file_io_real.list(&c->io, log, count, &left));
    assert_int_equal(left, 0);
    while (!list_is_empty(&found))
        part_destroy(container_of(list_pop_head(&found), struct part, link));
    assert_ok(catalog_close(c, false));
    test_tmpdir_remove(tmp);
}

TEST_MAIN(TEST(many_partitions_are_made_at_once_and_a_failed_one_fails_alone),
          TEST(a_retired_partition_that_nobody_removed_is_removed_by_the_next_start))
