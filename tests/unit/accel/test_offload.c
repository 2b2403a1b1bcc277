/* test_offload.c - gzip by the compress_isal device: what comes out is what gzip reads. */
#include "accel/codec.h"
#include "accel/offload.h"
#include "tests/support/test.h"
#include <rte_eal.h>

enum { LEN_MAX = 300000 };
static struct offload *o;
static struct offload_queue *q;
static struct codec_ctx *codecs;
static uint8_t src[LEN_MAX + 1], dst[OFFLOAD_SLOTS + 1][LEN_MAX], back[LEN_MAX];

static int setup(void **state)
{
    char err[256] = "";
    if (offload_open("compress_isal", 2, LEN_MAX, &o, err, sizeof(err)) < 0)
        fail_msg("%s", err);
    assert_ok(offload_queue_open(o, 1, &q));
    assert_ok(codec_ctx_create(&codecs));
    for (uint32_t i = 0; i < sizeof(src); i++)
        src[i] = (uint8_t)("<14>Oct 11 22:14:15 host app: message "[i % 38] + (i / 977) % 3);
    return 0;
}

static int teardown(void **state)
{
    codec_ctx_destroy(codecs);
    offload_queue_close(q);
    offload_close(o);
    return 0;
}

static uint32_t collect(struct offload_result *ret, uint32_t want)
{
    uint32_t n = 0;
    for (int tries = 0; n < want && tries < 1000; tries++)
        n += q->ops->poll(q, ret + n, want - n);
    return n;
}

static void any_length_and_level_is_read_back_by_gzip(void **state)
{
    static const uint32_t lens[] = {
        1, 100, OFFLOAD_SEG_BYTES - 1, OFFLOAD_SEG_BYTES, OFFLOAD_SEG_BYTES + 1, 262144, LEN_MAX};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        for (int level = -1; level <= 10; level++) {
            struct offload_result r;
            assert_ok(q->ops->submit(q, level, src, lens[i], dst[0], LEN_MAX, &dst[0]));
            assert_int_equal(collect(&r, 1), 1);
            assert_ptr_equal(r.user, &dst[0]);
            assert_true(r.len > 0);
            assert_int_equal(
                codec_decompress(codecs, CODEC_GZIP, dst[0], (size_t)r.len, back, sizeof(back)),
                lens[i]);
            assert_memory_equal(back, src, lens[i]);
        }
}

static void the_result_may_replace_what_was_submitted(void **state)
{
    struct offload_result r;
    memcpy(dst[0], src, 200000);
    assert_ok(q->ops->submit(q, 1, dst[0], 200000, dst[0], 199999, &r));
    assert_int_equal(collect(&r, 1), 1);
    assert_true(r.len > 0 && r.len < 199999);
    assert_int_equal(
        codec_decompress(codecs, CODEC_GZIP, dst[0], (size_t)r.len, back, sizeof(back)), 200000);
    assert_memory_equal(back, src, 200000);
}

static void what_does_not_fit_is_a_limit_and_nothing_is_written(void **state)
{
    struct offload_result r;
    memset(dst[0], 7, 100);
    assert_ok(q->ops->submit(q, 1, src, 100000, dst[0], 50, &r));
    assert_int_equal(collect(&r, 1), 1);
    assert_int_equal(r.len, -E_LIMIT);
    assert_int_equal(dst[0][0], 7);
    for (uint32_t i = 0, x = 1; i < 60000; i++) {
        x = x * 1103515245 + 12345;
        dst[1][i] = (uint8_t)(x >> 16);
    }
    assert_ok(q->ops->submit(q, 1, dst[1], 60000, dst[0], 59999, &r));
    assert_int_equal(collect(&r, 1), 1);
    assert_int_equal(r.len, -E_LIMIT); /* noise does not get smaller */
    assert_rc(q->ops->submit(q, 1, src, LEN_MAX + 1, dst[0], LEN_MAX, &r), -E_LIMIT);
    assert_rc(q->ops->submit(q, 1, src, 0, dst[0], LEN_MAX, &r), -E_LIMIT);
}

static void all_slots_can_be_under_way_and_no_more(void **state)
{
    struct offload_result r[OFFLOAD_SLOTS];
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < OFFLOAD_SLOTS; i++)
            assert_ok(q->ops->submit(q, 1, src, 1000 + i, dst[i], LEN_MAX, dst[i]));
        assert_rc(q->ops->submit(q, 1, src, 1000, dst[OFFLOAD_SLOTS], LEN_MAX, dst[0]), -EAGAIN);
        assert_int_equal(collect(r, OFFLOAD_SLOTS), OFFLOAD_SLOTS);
        for (uint32_t i = 0; i < OFFLOAD_SLOTS; i++) {
            uint32_t at = (uint32_t)(((uint8_t(*)[LEN_MAX])r[i].user) - dst);
            assert_int_equal(
                codec_decompress(codecs, CODEC_GZIP, dst[at], (size_t)r[i].len, back, sizeof(back)),
                1000 + at);
        }
    }
}

static void a_device_given_up_answers_nothing_more(void **state)
{
    struct offload_result r;
    assert_ok(q->ops->submit(q, 1, src, 1000, dst[0], LEN_MAX, dst[0]));
    q->ops->give_up(q);
    assert_int_equal(q->ops->poll(q, &r, 1), 0);
    assert_rc(q->ops->submit(q, 1, src, 1000, dst[0], LEN_MAX, dst[0]), -ENODEV);
}

static void a_device_that_is_not_there_is_named(void **state)
{
    struct offload *none;
    char err[256];
    assert_rc(offload_open("compress_none,x=1", 1, 1000, &none, err, sizeof(err)), -E_CONFIG);
    assert_non_null(strstr(err, "\"compress_none,x=1\": no such compression device"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_length_and_level_is_read_back_by_gzip),
        cmocka_unit_test(the_result_may_replace_what_was_submitted),
        cmocka_unit_test(what_does_not_fit_is_a_limit_and_nothing_is_written),
        cmocka_unit_test(all_slots_can_be_under_way_and_no_more),
        cmocka_unit_test(a_device_that_is_not_there_is_named),
        cmocka_unit_test(a_device_given_up_answers_nothing_more), /* last */
    };
    char *argv[] = {
        "test_offload",   "--no-huge",     "--no-shconf",          "-m", "128", "--no-pci",
        "--no-telemetry", "--log-level=4", "--vdev=compress_isal", "-l", "0"};
    if (rte_eal_init(11, argv) < 0)
        return 1;
    return cmocka_run_group_tests(tests, setup, teardown);
}
