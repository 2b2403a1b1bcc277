/* Damage in a running store: readers get an error for just the lost offsets, and the scrubber finds
 * what nobody has read yet. */
#include "dataplane/upkeep/scrub.h"
#include "dataplane/store/format.h"
#include "dataplane/store/walk.h"
#include "lib/batch/lost.h"
#include "tests/unit/store/steps.h"

#define BATCHES 40u
#define LEN 30000u /* 8 to a segment, each with an index entry */

static struct scrub *scrubber(struct env *e, uint64_t rate)
{
    struct scrub *s;
    struct scrub_conf c = {
        .set = e->set, .io = &e->io, .rate_bytes = rate, .interval_ns = 3600ull * 1000000000};
    assert_ok(scrub_create(&c, &s));
    return s;
}

static struct scrub_stats seconds(struct env *e, struct scrub *s, int n)
{
    struct scrub_stats st;
    for (int i = 0; i < n; i++) {
        env_step(e, 1000, 1000000000);
        scrub_poll(s, e->shard.now_ns);
        env_step(e, 1000, 1000000);
    }
    scrub_stats_get(s, &st);
    return st;
}

/* 40 batches of one record in segments of 8, closed and opened again: nothing of it in memory. */
static struct env *filled(void)
{
    struct env *e = start(1, NULL);
    for (uint64_t i = 0; i < BATCHES; i++)
        (void)put(e, 0, i + 1, LEN);
    env_settle(e);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    return e;
}

static void seg_name(char path[256], uint32_t batch)
{
    (void)snprintf(path, 256, ENV_DIR "/t-0/" SEG_NAME_FMT, (long long)(batch / 8 * 8), SFX_LOG);
}

static void damage(struct env *e, uint32_t batch, uint32_t at)
{
    char path[256];
    uint64_t len;
    seg_name(path, batch);
    const uint8_t *p = fake_disk_content(e->disk, path, &len);
    assert_non_null(p);
    uint8_t *b = malloc(len);
    memcpy(b, p, len);
    b[batch % 8 * LEN + at] ^= 0x04;
    fake_disk_put(e->disk, path, b, len);
    free(b);
}

/* Every batch but those lost is read at its offset; `lost` is a set of bits. */
static void all_but(struct env *e, uint64_t lost)
{
    for (uint32_t i = 0; i < BATCHES; i++) {
        struct env_read x;
        int rc = env_read(e, 0, i, buf, sizeof(buf), &x);
        if (lost >> i & 1) {
            assert_rc(rc, -E_CORRUPT_BATCH);
            assert_int_equal(x.r.damaged_to, i + 1);
            continue;
        }
        assert_rc(rc, 0);
        assert_true(x.r.len >= LEN);
        assert_int_equal(batch_base_offset(buf), i);
        assert_int_equal(load_be64(buf + BATCH_HEADER_LEN), i + 1);
        for (uint32_t at = 0; at < x.r.len; at += batch_total_len(buf + at))
            assert_false(batch_is_lost(buf + at));
    }
}

static void a_pass_finds_what_nobody_has_read(void **state)
{
    struct env *e = filled();
    struct scrub *s = scrubber(e, 1u << 20);
    struct scrub_stats st = seconds(e, s, 10);
    assert_int_equal(st.passes, 1);
    assert_int_equal(st.segments, 4); /* the active one is not closed */
    assert_int_equal(st.bytes, st.pass_bytes);
    assert_int_equal(st.found, 0);
    scrub_destroy(s);
    damage(e, 3, 5000);              /* in the records */
    damage(e, 12, BATCH_LENGTH + 1); /* fields that can be put right */
    damage(e, 17, BATCH_BASE_OFFSET + 6);
    damage(e, 30, BATCH_CRC);
    s = scrubber(e, 1u << 20);
    st = seconds(e, s, 10);
    assert_int_equal(st.found, 4);
    assert_int_equal(st.repaired, 3);
    assert_int_equal(st.quarantined, 1);
    assert_int_equal(st.errors, 0);
    all_but(e, 1u << 3);
    scrub_destroy(s);
    stop(e);
}

static void a_pass_is_not_over_while_a_rewrite_has_the_rest(void **state)
{
    struct env *e = filled();
    struct scrub *s = scrubber(e, 1u << 20);
    assert_true(plog_lease_take(e->parts[0]));
    struct scrub_stats st = seconds(e, s, 5);
    assert_int_equal(st.segments, 0);
    assert_int_equal(st.passes, 0);
    plog_lease_put(e->parts[0]);
    st = seconds(e, s, 5);
    assert_int_equal(st.segments, 4);
    assert_int_equal(st.passes, 1);
    assert_true(plog_lease_take(e->parts[0])); /* the next pass: all was seen, or none */
    st = seconds(e, s, 5);
    assert_int_equal(st.passes, 1);
    plog_lease_put(e->parts[0]);
    scrub_destroy(s);
    stop(e);
}

static void a_pass_keeps_to_its_rate(void **state)
{
    struct env *e = filled();
    struct scrub *s = scrubber(e, 64u << 10);
    for (int i = 0; i < 6; i++) {
        struct scrub_stats a = seconds(e, s, 1), b = seconds(e, s, 1);
        assert_true(b.bytes - a.bytes <= (64u << 10) + WALK_WINDOW + LEN);
    }
    struct scrub_stats st = seconds(e, s, 100);
    assert_int_equal(st.passes, 1);
    scrub_destroy(s);
    stop(e);
}

static void a_read_that_meets_damage_has_it_looked_at_at_once(void **state)
{
    struct env *e = filled();
    struct env_read x;
    struct scrub *s = scrubber(e, 0); /* no passes */
    damage(e, 10, 7000);
    damage(e, 20, BATCH_LENGTH + 2);
    assert_rc(env_read(e, 0, 10, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
    assert_int_equal(x.r.damaged_to, -1); /* nobody knows yet */
    assert_rc(env_read(e, 0, 20, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
    assert_int_equal(plog_set_suspects(e->set), 2);
    struct scrub_stats st = seconds(e, s, 3);
    assert_int_equal(st.found, 2);
    assert_int_equal(plog_set_suspects(e->set), 0);
    all_but(e, 1u << 10);
    scrub_destroy(s);
    stop(e);
}

static void damage_in_the_active_segment_closes_it_first(void **state)
{
    struct env *e = filled();
    struct env_read x;
    struct scrub *s = scrubber(e, 0);
    damage(e, 34, 7000); /* 32 to 39 are in the active one */
    assert_rc(env_read(e, 0, 34, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
    env_settle(e);
    struct scrub_stats st = seconds(e, s, 5);
    assert_int_equal(st.quarantined, 1);
    all_but(e, UINT64_C(1) << 34);
    (void)put(e, 0, 99, LEN);
    scrub_destroy(s);
    stop(e);
}

static void what_is_lost_stays_lost_and_all_else_stays_after_a_restart(void **state)
{
    struct env *e = filled();
    struct env_read x;
    struct scrub *s = scrubber(e, 0);
    damage(e, 5, 9000);
    assert_rc(env_read(e, 0, 5, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
    assert_int_equal(seconds(e, s, 3).quarantined, 1);
    scrub_destroy(s);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    all_but(e, 1u << 5);
    stop(e);
}

/* Recovery meets the same damage in the segments that a crash makes it read. */
static void recovery_heals_what_lies_below_the_checkpoint(void **state)
{
    struct env *e = filled();
    env_step(e, 1000, 1000000000);
    env_settle(e);
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    fake_disk_revive(e->disk);
    damage(e, 33, BATCH_LENGTH + 2); /* as much as a flipped length used to cost all behind it */
    damage(e, 35, 800);
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_DAMAGED_BATCH], 1);
    assert_int_equal(e->rep.cnt[RC_DAMAGED_FIELD], 1);
    all_but(e, UINT64_C(1) << 35);
    stop(e);
}

static void offsets_out_of_order_are_an_error_and_not_other_records(void **state)
{
    struct env *e = filled();
    struct env_read x;
    damage(e, 2, BATCH_BASE_OFFSET + 7); /* 2 becomes 6 */
    int rc = env_read(e, 0, 1, buf, LEN * 5, &x);
    assert_rc(rc, 0);
    assert_int_equal(x.r.len, LEN); /* 1, and not what claims to be 6 */
    assert_rc(env_read(e, 0, 2, buf, LEN * 5, &x), -E_CORRUPT_BATCH);
    stop(e);
}

TEST_MAIN(TEST(a_pass_finds_what_nobody_has_read),
          TEST(a_pass_is_not_over_while_a_rewrite_has_the_rest), TEST(a_pass_keeps_to_its_rate),
          TEST(a_read_that_meets_damage_has_it_looked_at_at_once),
          TEST(damage_in_the_active_segment_closes_it_first),
          TEST(what_is_lost_stays_lost_and_all_else_stays_after_a_restart),
          TEST(recovery_heals_what_lies_below_the_checkpoint),
          TEST(offsets_out_of_order_are_an_error_and_not_other_records))
