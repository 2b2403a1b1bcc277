/* What a start makes of damage: nothing is deleted because it is damaged, and what can be rebuilt
 * is. */
#include "accel/crc32c.h"
#include "dataplane/store/format.h"
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
#include "tests/unit/store/steps.h"
#include <sys/mman.h>
#include <unistd.h>

static char said[64u << 10];
static void say(void *arg, const char *text)
{
    size_t at = strlen(said);
    (void)arg;
    (void)snprintf(said + at, sizeof(said) - at, "%s\n", text);
}

static void reopen(struct env *e)
{
    said[0] = 0;
    e->say = say;
    assert_ok(env_open(e));
}

/* The process dies; what it did stays. */
static void crash(struct env *e)
{
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    fake_disk_revive(e->disk);
}

static bool exists(struct env *e, const char *name)
{
    char path[256];
    uint64_t len;
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%s", name);
    return fake_disk_content(e->disk, path, &len) != NULL;
}

static uint8_t *content(struct env *e, const char *name, uint64_t *ret_len)
{
    char path[256];
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%s", name);
    const uint8_t *p = fake_disk_content(e->disk, path, ret_len);
    assert_non_null(p);
    uint8_t *copy = malloc(*ret_len + 1);
    assert_non_null(copy);
    memcpy(copy, p, *ret_len);
    return copy;
}

static void flip(struct env *e, const char *name, uint64_t pos)
{
    char path[256];
    uint64_t len;
    uint8_t *p = content(e, name, &len);
    assert_true(pos < len);
    p[pos] ^= 0x40;
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%s", name);
    fake_disk_put(e->disk, path, p, len);
    free(p);
}

static void zero(struct env *e, const char *name, uint64_t pos, uint64_t n)
{
    char path[256];
    uint64_t len;
    uint8_t *p = content(e, name, &len);
    assert_true(pos + n <= len);
    memset(p + pos, 0, n);
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%s", name);
    fake_disk_put(e->disk, path, p, len);
    free(p);
}

/* The batch at pos, changed since, is as if it had been written so. */
static void batch_crc_again(struct env *e, const char *name, uint64_t pos, uint64_t n)
{
    char path[256];
    uint64_t len;
    uint8_t *p = content(e, name, &len);
    assert_true(pos + n <= len);
    store_be32(p + pos + BATCH_CRC, crc32c(0, p + pos + BATCH_CRC_START, n - BATCH_CRC_START));
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%s", name);
    fake_disk_put(e->disk, path, p, len);
    free(p);
}

static void tune_no_checkpoint(struct env *e)
{
    e->sc.checkpoint_ms = 1000000000;
}

#define SEG(base) "000000000000000000" base ".log"

static void segments_behind_damage_are_kept_whatever_the_checkpoint_says(void **state)
{
    struct env *e =
        start(1, tune_no_checkpoint); /* it says 0: all of this was acknowledged above it */
    uint64_t len, len2;
    for (uint64_t i = 0; i < 12; i++) /* two to a segment */
        (void)put(e, 0, i + 1, 100000);
    env_settle(e);
    crash(e);
    uint8_t *was = content(e, SEG("06"), &len);
    zero(e, SEG("04"), 512, 512); /* as a write that was cut off leaves it */
    reopen(e);
    assert_int_equal(count_all(e, 0), 4);
    assert_int_equal(e->rep.cnt[RC_LATER_SEGMENT], 3);
    assert_int_equal(e->rep.cnt[RC_DAMAGED_TAIL], 1); /* offset 5 behind it was good */
    assert_true(exists(e, SEG("04") ".0.damaged"));
    assert_true(exists(e, SEG("08") ".quarantine"));
    assert_true(exists(e, SEG("10") ".quarantine"));
    assert_false(exists(e, SEG("06")));
    uint8_t *is = content(e, SEG("06") ".quarantine", &len2);
    assert_int_equal(len, len2);
    assert_memory_equal(was, is, len);
    free(was);
    free(is);
    assert_non_null(strstr(said,
                           "topic t partition 0: the log ends at offset 4, byte 0 of segment 4; "
                           "offsets 6 to 7, 200000 bytes, are in "));
    assert_non_null(
        strstr(said, "topic t partition 0: offset 4 and above, 200000 bytes from byte 0 of"));
    assert_int_equal(e->cat->found_damage.segments, 3);
    /* The same again: what was kept stays. */
    for (uint64_t i = 4; i < 12; i++)
        (void)put(e, 0, i + 100, 100000);
    env_settle(e);
    crash(e);
    zero(e, SEG("04"), 512, 512); /* as a write that was cut off leaves it */
    reopen(e);
    assert_true(exists(e, SEG("06") ".quarantine"));
    assert_true(exists(e, SEG("06") ".quarantine.1"));
    assert_int_equal(count_all(e, 0), 4);
    stop(e);
}

static void an_index_that_lost_its_entries_is_rebuilt_at_a_clean_start(void **state)
{
    struct env *e = start(1, NULL);
    uint64_t len, len2;
    for (uint64_t i = 0; i < 12; i++)
        (void)put(e, 0, i + 1, 5000);
    assert_ok(env_close(e));
    uint8_t *was = content(e, "00000000000000000000.index", &len);
    assert_true(len > 0);
    fake_disk_put(e->disk, ENV_DIR "/t-0/00000000000000000000.index", "", 0);
    reopen(e);
    assert_int_equal(e->rep.cnt[RC_INDEX_REBUILT], 1);
    assert_int_equal(count_all(e, 0), 12);
    assert_ok(env_close(e));
    uint8_t *is = content(e, "00000000000000000000.index", &len2);
    assert_int_equal(len, len2);
    assert_memory_equal(was, is, len);
    free(was);
    free(is);
    reopen(e);
    assert_int_equal(e->rep.cnt[RC_CLEAN], 1);
    stop(e);
}

static void an_index_without_entries_is_right_for_one_large_batch(void **state)
{
    struct env *e = start(1, NULL);
    uint64_t len;
    (void)put(e, 0, 1, 90000);
    assert_ok(env_close(e));
    free(content(e, "00000000000000000000.index", &len));
    assert_int_equal(len, 0);
    reopen(e);
    assert_int_equal(e->rep.cnt[RC_CLEAN], 1);
    stop(e);
}

static void restarts_do_not_thin_out_the_index(void **state)
{
    uint64_t len, len2;
    uint8_t *ix[2];
    for (int restarts = 0; restarts < 2; restarts++) {
        struct env *e = start(1, NULL);
        for (uint64_t i = 0; i < 12; i++) {
            (void)put(e, 0, i + 1, 1500);
            if (restarts && i % 2) {
                assert_ok(env_close(e));
                reopen(e);
                assert_int_equal(e->rep.cnt[RC_CLEAN], 1);
            }
        }
        assert_ok(env_close(e));
        ix[restarts] = content(e, "00000000000000000000.index", restarts ? &len2 : &len);
        reopen(e);
        stop(e);
    }
    assert_true(len >= 2 * INDEX_ENTRY_LEN);
    assert_int_equal(len, len2);
    assert_memory_equal(ix[0], ix[1], len);
    free(ix[0]);
    free(ix[1]);
}

static void a_partition_that_nobody_touched_costs_a_start_no_write_and_no_flush(void **state)
{
    uint64_t ops[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct env *e = start(i == 0 ? 5 : 105, NULL);
        (void)put(e, 0, 1, 1000);
        env_settle(e);
        crash(e);
        reopen(e);
        crash(e); /* not closed cleanly, and as the first crash left it */
        uint64_t before = fake_disk_ops(e->disk);
        reopen(e);
        ops[i] = fake_disk_ops(e->disk) - before;
        assert_int_equal(e->rep.cnt[RC_SCANNED], i == 0 ? 5 : 105);
        stop(e);
    }
    assert_int_equal(ops[0], ops[1]);
}

/* ------------------------------------------------------------------------- several directories */

struct three {
    struct fake_disk *disk;
    struct catalog *cat;
    struct list parts;
    struct recover_report rep;
};

static int three_open(struct three *x, bool format)
{
    static const struct uuid cluster = {{1, 2, 3}};
    char err[CATALOG_ERR_MAX];
    struct recover_opts ro;
    struct catalog_opts co = {.ops = &fake_file_ops,
                              .ops_arg = x->disk,
                              .dir_cnt = 3,
                              .dirs = {"/a/log", "/b/log", "/c/log"},
                              .cluster_id = &cluster,
                              .node_id = 1,
                              .format = true,
                              .may_miss = !format};
    list_init(&x->parts);
    x->rep = (struct recover_report){0};
    recover_opts_default(&ro);
    x->cat = NULL;
    int rc = catalog_open(&co, &x->cat, err);
    return rc < 0 ? rc : recover_data_dirs(x->cat, &ro, &x->rep, &x->parts);
}

static void three_close(struct three *x)
{
    for (struct list *n = list_pop_head(&x->parts); n != NULL; n = list_pop_head(&x->parts))
        part_destroy(container_of(n, struct part, link));
    if (x->cat != NULL)
        (void)catalog_close(x->cat, false); /* the disk may fail here too */
}

/* A disk with a partition d-N in each directory. */
static void three_init(struct three *x)
{
    struct part *p;
    *x = (struct three){.disk = fake_disk_new(3)};
    struct file_io io = {.ops = &fake_file_ops, .arg = x->disk};
    log_set_level(LOG_LEVEL_NONE);
    accel_init(false);
    for (const char *const *d = (const char *const[]){"/a", "/b", "/c", NULL}; *d; d++)
        assert_ok(fake_file_ops.mkdir(&io, *d));
    assert_ok(three_open(x, true));
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(catalog_part_create(x->cat,
                                      &(struct part_create_opts){.dir_idx = i,
                                                                 .topic = "d",
                                                                 .topic_id = env_topic_id(),
                                                                 .partition = (int32_t)i,
                                                                 .sync_parent = true},
                                      &p));
        list_add_tail(&x->parts, &p->link);
    }
    three_close(x);
}

/* The first and the last directory are served, whatever the one between them is. */
static void assert_served(const struct three *x)
{
    uint32_t seen = 0;
    assert_int_equal(x->cat->dir_cnt + x->cat->offline_cnt, 3);
    assert_int_equal(x->rep.partitions, x->cat->dir_cnt);
    for (uint32_t i = 0; i < x->cat->dir_cnt; i++)
        assert_int_equal(x->cat->dirs[i].path[1], 'a' + x->cat->dirs[i].conf_idx);
    list_for_each(it, &x->parts)
    {
        const struct part *p = container_of(it, struct part, link);
        assert_int_equal(p->dir->path[1], 'a' + p->partition);
        assert_true(p->dir >= x->cat->dirs);
        assert_true(p->dir < x->cat->dirs + x->cat->dir_cnt);
        seen |= 1u << p->partition;
    }
    for (uint32_t i = 0; i < x->cat->offline_cnt; i++)
        seen |= 1u << (x->cat->offline[i].path[1] - 'a');
    assert_int_equal(seen, 7);
}

static void a_directory_whose_disk_fails_at_the_start_is_left_out_alone(void **state)
{
    uint32_t left_out = 0, refused = 0;
    for (uint32_t n = 0; n < 40; n++) {
        struct three x;
        three_init(&x);
        for (const char *d = "abc"; *d; d++) { /* work that recovery has to do in each */
            char path[64];
            (void)snprintf(path, sizeof(path), "/%c/log/d-%d/00000000000000000007.log.deleted", *d,
                           *d - 'a');
            fake_disk_put(x.disk, path, "x", 1);
        }
        fake_disk_fail_at(x.disk, fake_disk_ops(x.disk) + n, -EIO);
        int rc = three_open(&x, false);
        if (rc < 0) {
            assert_rc(rc, -EIO); /* the first one holds the metadata: nothing starts without */
            refused++;
        } else {
            assert_served(&x);
            left_out += x.cat->offline_cnt;
            if (x.cat->offline_cnt > 0)
                assert_non_null(strstr(x.cat->offline[0].why, x.cat->offline[0].path));
        }
        three_close(&x);
        assert_ok(three_open(&x, false)); /* the disk is well again: nothing was lost */
        assert_int_equal(x.cat->dir_cnt, 3);
        assert_served(&x);
        three_close(&x);
        fake_disk_free(x.disk);
    }
    assert_true(left_out >= 2);
    assert_true(refused >= 1);
}

static void a_directory_without_its_name_plate_is_an_empty_mount_point(void **state)
{
    struct three x;
    struct file_io io;
    three_init(&x);
    io = (struct file_io){.ops = &fake_file_ops, .arg = x.disk};
    assert_ok(fake_file_ops.unlink(&io, "/b/log/meta.properties"));
    assert_ok(three_open(&x, false));
    assert_int_equal(x.cat->offline_cnt, 1);
    assert_string_equal(x.cat->offline[0].path, "/b/log");
    assert_non_null(strstr(x.cat->offline[0].why, "not mounted"));
    assert_served(&x);
    three_close(&x);
    fake_disk_free(x.disk);
}

/* Nothing but the log has these batches, and no checkpoint says that they were flushed. */
static void a_flipped_bit_above_the_recovery_point_loses_at_most_one_batch(void **state)
{
    struct test_rng rng = {test_seed(11)};
    (void)state;
    for (int round = 0; round < 60; round++) {
        struct env *e = start(1, tune_no_checkpoint);
        static const char *const segs[] = {SEG("00"), SEG("02"), SEG("04")};
        uint32_t lost = 0;
        for (uint64_t i = 0; i < 6; i++) /* two to a segment */
            (void)put(e, 0, i + 1, 100000);
        env_settle(e);
        crash(e);
        const char *seg = segs[rng_below(&rng, 3)];
        uint64_t at = rng_below(&rng, round % 2 ? 200000 : 61) + (round % 4 == 2 ? 100000 : 0);
        if (round % 5 == 0 &&
            at % 100000 >= BATCH_HEADER_LEN) { /* sectors of zeros prove nothing */
            zero(e, seg, at / 512 * 512, 512);
            batch_crc_again(e, seg, at / 100000 * 100000, 100000);
        }
        flip(e, seg, at);
        reopen(e);
        for (int64_t o = 0; o < 6; o++) {
            struct env_read x;
            int rc = env_read(e, 0, o, buf, sizeof(buf), &x);
            lost += rc < 0 || x.r.len == 0;
        }
        bool told = strstr(said, "DAMAGED") != NULL;
        bool unseen = at % 100000 >= BATCH_LEADER_EPOCH && at % 100000 < BATCH_MAGIC;
        if (lost > 1 || (!told && !unseen))
            fail_msg("%s byte %" PRIu64 ": %u lost:\n%s", seg, at, lost, said);
        assert_int_equal(e->rep.cnt[RC_LATER_SEGMENT], 0);
        stop(e);
    }
}

/* What was never flushed does not come back, whatever sector of it is missing, and though a batch
 * of the same write lies whole behind it: its producer offers both again. */
static void a_torn_write_above_the_recovery_point_is_cut_off(void **state)
{
    struct test_rng rng = {test_seed(12)};
    (void)state;
    for (int round = 0; round < 40; round++) {
        struct env *e = start(1, tune_no_checkpoint);
        for (uint64_t i = 0; i < 6; i++)
            (void)put(e, 0, i + 1, 100000);
        env_settle(e);
        crash(e);
        zero(e, SEG("04"), (1 + rng_below(&rng, 100000 / 512 - 1)) * 512,
             512 * (1 + rng_below(&rng, 8)));
        reopen(e);
        assert_int_equal(count_all(e, 0), 4);
        assert_int_equal(e->rep.cnt[RC_DAMAGED_BATCH] + e->rep.cnt[RC_DAMAGED_FIELD], 0);
        assert_int_equal(put(e, 0, 5, 100000).a.base_offset, 4);
        stop(e);
    }
}

/* The same where the head of a batch, at the end of a sector, is missing too: its length, or half
 * of it, is not to be believed. */
static void a_head_at_the_end_of_a_torn_sector_is_missed(void **state)
{
    (void)state;
    for (uint32_t room = 1; room <= 16; room++) {
        struct env *e = start(1, tune_no_checkpoint);
        uint32_t first = 200 * 512 - room;
        (void)put(e, 0, 1, first);
        (void)put(e, 0, 2, 70000);
        (void)put(e, 0, 3, 100000); /* in the next segment */
        env_settle(e);
        crash(e);
        zero(e, SEG("00"), first, room);
        zero(e, SEG("00"), 260 * 512, 512);
        reopen(e);
        assert_int_equal(count_all(e, 0), 1);
        assert_int_equal(e->rep.cnt[RC_DAMAGED_BATCH] + e->rep.cnt[RC_DAMAGED_FIELD], 0);
        stop(e);
    }
}

/* Kafka's cleaner makes its file and writes nothing to it until it has cleaned something; any other
 * empty checkpoint is a damaged one. */
static void an_empty_checkpoint_of_the_cleaner_is_no_damage(void **state)
{
    static const char *const names[] = {FN_CLEANER, FN_RECOVERY_POINT, FN_LOG_START};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct env *e = start(1, NULL);
        char path[256], text[4096] = {0};
        assert_ok(env_close(e));
        (void)snprintf(path, sizeof(path), ENV_DIR "/%s", names[i]);
        fake_disk_put(e->disk, path, "", 0);
        int fd = memfd_create("log", 0);
        assert_true(fd >= 0);
        log_set_fd(fd);
        log_set_level(LOG_LEVEL_WARN);
        assert_ok(env_open(e));
        log_set_level(LOG_LEVEL_NONE);
        log_set_fd(2);
        assert_true(pread(fd, text, sizeof(text) - 1, 0) >= 0);
        close(fd);
        assert_true((strstr(text, names[i]) != NULL) == (i > 0));
        stop(e);
    }
}

TEST_MAIN(TEST(an_empty_checkpoint_of_the_cleaner_is_no_damage),
          TEST(a_head_at_the_end_of_a_torn_sector_is_missed),
          TEST(a_flipped_bit_above_the_recovery_point_loses_at_most_one_batch),
          TEST(a_torn_write_above_the_recovery_point_is_cut_off),
          TEST(a_directory_whose_disk_fails_at_the_start_is_left_out_alone),
          TEST(a_directory_without_its_name_plate_is_an_empty_mount_point),
          TEST(a_partition_that_nobody_touched_costs_a_start_no_write_and_no_flush),
          TEST(segments_behind_damage_are_kept_whatever_the_checkpoint_says),
          TEST(an_index_that_lost_its_entries_is_rebuilt_at_a_clean_start),
          TEST(an_index_without_entries_is_right_for_one_large_batch),
          TEST(restarts_do_not_thin_out_the_index))
