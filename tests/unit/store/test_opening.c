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

/* ---------------------------------------------------------------------- a partition left out */

static char said[16384];
static void say(void *arg, const char *text)
{
    size_t at = strlen(said);
    (void)arg;
    (void)snprintf(said + at, sizeof(said) - at, "%s\n", text);
}

static void crash(struct env *e)
{
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    fake_disk_revive(e->disk);
}

static void count_kept(void *arg, const char *path)
{
    size_t n = strlen(path), k = strlen(SFX_KEPT);
    *(uint32_t *)arg += n > k && strcmp(path + n - k, SFX_KEPT) == 0;
}

static uint32_t kept_cnt(struct env *e)
{
    uint32_t n = 0;
    fake_disk_each(e->disk, count_kept, &n);
    return n;
}

/* Whatever cannot be read: its partition alone is not served, its file is named, and when it can be
 * read again nothing is missing, what only the journal held included. */
static void left_out_and_back(const char *unreadable)
{
    struct env *e = start(3, NULL);
    for (uint32_t n = 0; n < 5; n++)
        for (uint32_t i = 0; i < 3; i++)
            (void)put(e, i, n, n == 1 ? 100000 : 700); /* segments and journal */
    crash(e);
    e->say = say;
    said[0] = 0;
    fake_disk_unreadable(e->disk, unreadable);
    assert_ok(env_open(e));
    assert_null(e->parts[1]);
    assert_int_equal(e->cat->offline_part_cnt, 1);
    assert_non_null(strstr(said, unreadable));
    assert_non_null(strstr(catalog_part_why_offline(e->cat, "t", 1), unreadable));
    assert_rc(plog_set_absent_rc(e->set), -E_STORAGE);
    for (uint32_t round = 0; round < 3; round++) { /* others live on: stops, starts, crashes */
        for (uint32_t i = 0; i < 3; i += 2) {
            (void)put(e, i, 100 + round, 700);
            assert_int_equal(count_all(e, i), 6 + round);
        }
        assert_int_equal(kept_cnt(e) > 0, 1);
        if (round == 1)
            crash(e);
        else
            assert_ok(env_close(e));
        if (round == 2)
            fake_disk_unreadable(e->disk, NULL);
        assert_ok(env_open(e));
    }
    assert_int_equal(e->cat->offline_part_cnt, 0);
    assert_int_equal(kept_cnt(e), 0);
    assert_int_equal(count_all(e, 1), 5);
    assert_int_equal(count_all(e, 0), 8);
    (void)put(e, 1, 200, 700);
    assert_int_equal(count_all(e, 1), 6);
    stop(e);
}

static void a_partition_that_cannot_be_read_is_left_out_alone_and_comes_back_whole(void **state)
{
    left_out_and_back("/t-1/00000000000000000000.log");
    left_out_and_back("/t-1/" FN_PARTITION_META);
}

TEST_MAIN(TEST(a_partition_that_cannot_be_read_is_left_out_alone_and_comes_back_whole),
          TEST(one_flush_closes_all_partitions_of_a_directory),
          TEST(without_such_a_flush_each_file_has_its_own),
          TEST(a_failed_flush_leaves_no_clean_mark))
