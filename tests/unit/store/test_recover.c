/* What a start makes of damage: nothing is deleted because it is damaged, and what can be rebuilt
 * is. */
#include "dataplane/store/format.h"
#include "dataplane/store/plog_int.h"
#include "tests/unit/store/steps.h"

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
    flip(e, SEG("04"), 500);
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
    flip(e, SEG("04"), 500);
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

TEST_MAIN(TEST(a_partition_that_nobody_touched_costs_a_start_no_write_and_no_flush),
          TEST(segments_behind_damage_are_kept_whatever_the_checkpoint_says),
          TEST(an_index_that_lost_its_entries_is_rebuilt_at_a_clean_start),
          TEST(an_index_without_entries_is_right_for_one_large_batch),
          TEST(restarts_do_not_thin_out_the_index))
