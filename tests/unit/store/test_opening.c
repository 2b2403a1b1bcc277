/* What a stop and a start cost, counted on the fake disk. */
#include "dataplane/store/plog_int.h"
#include "tests/unit/store/steps.h"

/* --------------------------------------------------------------------------------------- a stop */

/* Flushes of a stop of `cnt` partitions that were all written just before. */
static uint64_t stop_flushes(uint32_t cnt, bool sync_all)
{
    struct env *e = start(cnt, NULL);
    if (!sync_all) {
        assert_ok(env_close(e));
        fake_disk_refuse_sync_all(e->disk);
        assert_ok(env_open(e)); /* the catalog asks when it is opened */
    }
    for (uint32_t i = 0; i < cnt; i++)
        (void)put(e, i, i, 200);
    for (int i = 0; i < 1000; i++) /* drained: what is left is the stop's own */
        env_step(e, 1000, 10000000);
    uint64_t before = fake_disk_costs(e->disk)->flushes;
    plog_set_close(e->set, env_on_closed, e);
    for (int i = 0; i < 10000 && !e->closed; i++)
        env_step(e, 1000, 1000000);
    assert_true(e->closed);
    assert_ok(e->close_rc);
    uint64_t n = fake_disk_costs(e->disk)->flushes - before;
    plog_set_destroy(e->set);
    assert_ok(catalog_close(e->cat, true));
    fake_disk_power_cut(e->disk); /* all of it was on the disk before the mark was put */
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_CLEAN], cnt);
    for (uint32_t i = 0; i < cnt; i++)
        assert_int_equal(count_all(e, i), 1);
    stop(e);
    return n;
}

static void one_flush_closes_all_partitions_of_a_directory(void **state)
{
    uint64_t few = stop_flushes(4, true), many = stop_flushes(64, true);
    print_message("%" PRIu64 " flushes for 4 partitions, %" PRIu64 " for 64\n", few, many);
    assert_int_equal(few, many);
    assert_true(many <= 2);
}

static void without_such_a_flush_each_file_has_its_own(void **state)
{
    assert_true(stop_flushes(64, false) >= 64 * 3);
}

static void a_failed_flush_leaves_no_clean_mark(void **state)
{
    struct env *e = start(3, NULL);
    uint64_t last = 0, failed = 0;
    for (uint64_t n = 0; last == 0; n++) {
        for (uint32_t i = 0; i < 3; i++)
            (void)put(e, i, n, 200);
        env_settle(e);
        uint64_t at = fake_disk_ops(e->disk) + n;
        fake_disk_fail_at(e->disk, at, -EIO);
        int rc = env_close(e);
        bool met = fake_disk_ops(e->disk) > at;
        fake_disk_fail_at(e->disk, UINT64_MAX, 0);
        struct file_stat st;
        int mark = e->io.ops->stat(&e->io, ENV_DIR "/" FN_CLEAN, &st);
        assert_true(e->close_rc == 0 || mark == -ENOENT);
        failed += rc < 0;
        last = met ? 0 : n;
        assert_ok(env_open(e));
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(count_all(e, i), n + 1);
    }
    assert_true(failed >= 3);
    stop(e);
}

TEST_MAIN(TEST(one_flush_closes_all_partitions_of_a_directory),
          TEST(without_such_a_flush_each_file_has_its_own),
          TEST(a_failed_flush_leaves_no_clean_mark))
