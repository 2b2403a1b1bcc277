/* Idempotence of one partition: gotchas 8, one claim per test. */
#include "dataplane/store/producer.c"
#include "tests/support/test.h"

static struct batch_info batch(int64_t id, int16_t epoch, int32_t seq, int32_t cnt, int64_t offset)
{
    return (struct batch_info){.producer_id = id,
                               .producer_epoch = epoch,
                               .base_sequence = seq,
                               .last_offset_delta = cnt - 1,
                               .record_cnt = cnt,
                               .base_offset = offset,
                               .max_timestamp = 1000};
}
static int check(struct producers *t, struct batch_info b, struct producer_dup *d)
{
    return producers_check(t, &b, false, d);
}
static void add(struct producers *t, struct batch_info b)
{
    struct producer_dup d;
    assert_int_equal(check(t, b, &d), 0);
    assert_int_equal(producers_update(t, &b, NULL, b.max_timestamp, NULL), 0);
}

static void a_batch_without_producer_id_is_always_new(void **state)
{
    struct producers t = {0};
    struct producer_dup d;
    assert_int_equal(check(&t, batch(-1, -1, -1, 5, 0), &d), 0);
    assert_int_equal(t.cnt, 0);
}

static void the_last_five_batches_are_recognized_and_no_more(void **state)
{
    struct producers t = {0};
    struct producer_dup d;
    for (int i = 0; i < 7; i++)
        add(&t, batch(9, 0, i * 10, 10, 100 + i * 10));
    for (int i = 2; i < 7; i++) {
        assert_int_equal(check(&t, batch(9, 0, i * 10, 10, -1), &d), 1);
        assert_int_equal(d.base_offset, 100 + i * 10);
        assert_int_equal(d.last_offset, 109 + i * 10);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(check(&t, batch(9, 0, i * 10, 10, -1), &d), -E_OUT_OF_ORDER_SEQUENCE);
    /* the same first sequence with another length is no duplicate */
    assert_int_equal(check(&t, batch(9, 0, 60, 9, -1), &d), -E_OUT_OF_ORDER_SEQUENCE);
    producers_fini(&t);
}

static void a_gap_is_refused_and_an_unknown_producer_may_start_anywhere(void **state)
{
    struct producers t = {0};
    struct producer_dup d;
    add(&t, batch(1, 0, 77, 3, 0));
    assert_int_equal(check(&t, batch(1, 0, 81, 1, 3), &d), -E_OUT_OF_ORDER_SEQUENCE);
    assert_int_equal(check(&t, batch(1, 0, 80, 1, 3), &d), 0);
    producers_fini(&t);
}

static void sequences_wrap_from_the_largest_int_to_zero(void **state)
{
    struct producers t = {0};
    struct producer_dup d;
    add(&t, batch(1, 0, INT32_MAX - 1, 4, 0)); /* max-1, max, 0, 1 */
    assert_int_equal(check(&t, batch(1, 0, 2, 1, 4), &d), 0);
    assert_int_equal(check(&t, batch(1, 0, INT32_MAX - 1, 4, -1), &d), 1);
    assert_int_equal(check(&t, batch(1, 0, 3, 1, 4), &d), -E_OUT_OF_ORDER_SEQUENCE);
    producers_fini(&t);
    add(&t, batch(1, 0, INT32_MAX, 1, 0));
    assert_int_equal(check(&t, batch(1, 0, 0, 1, 1), &d), 0);
    producers_fini(&t);
}

static void a_new_epoch_starts_at_zero_and_an_old_one_is_fenced(void **state)
{
    struct producers t = {0};
    struct producer_dup d;
    add(&t, batch(1, 3, 0, 1, 0));
    assert_int_equal(check(&t, batch(1, 2, 1, 1, 1), &d), -E_INVALID_PRODUCER_EPOCH);
    assert_int_equal(check(&t, batch(1, 4, 1, 1, 1), &d), -E_OUT_OF_ORDER_SEQUENCE);
    add(&t, batch(1, 4, 0, 1, 1));
    assert_int_equal(check(&t, batch(1, 3, 1, 1, 2), &d), -E_INVALID_PRODUCER_EPOCH);
    producers_fini(&t);
}

static void idle_producers_expire_and_the_others_stay_findable(void **state)
{
    struct producers t = {0};
    for (int i = 0; i < 1000; i++) {
        struct batch_info b = batch(i, 0, 0, 1, i);
        assert_int_equal(producers_update(&t, &b, NULL, i % 2 ? 0 : PRODUCER_EXPIRE_MS, NULL), 0);
    }
    assert_int_equal(producers_expire(&t, PRODUCER_EXPIRE_MS + 1), 500);
    struct producer_dup d;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(check(&t, batch(i, 0, 0, 1, -1), &d), i % 2 ? 0 : 1);
    producers_fini(&t);
}

static void the_table_is_bounded_and_forgets_the_longest_idle(void **state)
{
    struct producers t = {0};
    for (uint32_t i = 0; i < PRODUCERS_MAX + 10; i++) {
        struct batch_info b = batch(i, 0, 0, 1, i);
        assert_int_equal(producers_update(&t, &b, NULL, i, NULL), 0);
    }
    struct producer_dup d;
    assert_int_equal(t.cnt, PRODUCERS_MAX);
    assert_int_equal(check(&t, batch(3, 0, 0, 1, -1), &d), 0);
    assert_int_equal(check(&t, batch(10, 0, 0, 1, -1), &d), 1);
    producers_fini(&t);
}

static void a_snapshot_keeps_the_last_batch_of_everybody(void **state)
{
    struct producers t = {0}, u = {0};
    struct producer_dup d;
    for (int i = 0; i < 50; i++) {
        add(&t, batch(i, (int16_t)i, 0, 2, i * 10));
        add(&t, batch(i, (int16_t)i, 2, 3, i * 10 + 2));
    }
    uint8_t *p;
    size_t len;
    assert_int_equal(producers_encode(&t, &p, &len), 0);
    assert_int_equal(len, SNAP_HEADER_LEN + 50 * SNAP_ENTRY_LEN);
    assert_int_equal(producers_decode(&u, p, len), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(check(&u, batch(i, (int16_t)i, 2, 3, -1), &d), 1);
        assert_int_equal(d.base_offset, i * 10 + 2);
        assert_int_equal(check(&u, batch(i, (int16_t)i, 5, 1, -1), &d), 0);
    }
    for (size_t i = 0; i < len; i++) { /* any damage is noticed */
        p[i] ^= 0x40;
        assert_true(producers_decode(&u, p, len) < 0);
        p[i] ^= 0x40;
    }
    for (size_t n = 0; n < len; n += 7)
        assert_true(producers_decode(&u, p, n) < 0);
    free(p);
    producers_fini(&t);
    producers_fini(&u);
}

static void a_rewrite_keeps_the_last_durable_batch(void **state)
{
    struct producers t = {0};
    struct last_record v[1];
    for (int i = 0; i < 3; i++)
        add(&t, batch(9, 0, i * 10, 10, 100 + i * 10));
    assert_int_equal(producers_last(&t, 130, v), 1);
    assert_int_equal(v[0].data_offset, 129);
    assert_int_equal(producers_last(&t, 120, v), 1); /* the third can be lost yet */
    assert_int_equal(v[0].data_offset, 119);
    for (int i = 3; i < 7; i++)
        add(&t, batch(9, 0, i * 10, 10, 100 + i * 10));
    assert_int_equal(producers_last(&t, 120, v), -E_BUSY); /* the second is not known any more */
    producers_fini(&t);
}

TEST_MAIN(TEST(a_rewrite_keeps_the_last_durable_batch),
          TEST(a_batch_without_producer_id_is_always_new),
          TEST(the_last_five_batches_are_recognized_and_no_more),
          TEST(a_gap_is_refused_and_an_unknown_producer_may_start_anywhere),
          TEST(sequences_wrap_from_the_largest_int_to_zero),
          TEST(a_new_epoch_starts_at_zero_and_an_old_one_is_fenced),
          TEST(idle_producers_expire_and_the_others_stay_findable),
          TEST(the_table_is_bounded_and_forgets_the_longest_idle),
          TEST(a_snapshot_keeps_the_last_batch_of_everybody))
