/* test_counter.c - burst sums and log2 histograms. */
#include "lib/base/counter.h"
#include "tests/support/test.h"

static void a_burst_adds_to_each_counter(void **state)
{
    (void)state;
    uint64_t to[3] = {1, 2, UINT64_C(1) << 40};
    uint32_t sums[3] = {1, 0, 5};
    counters_add(to, sums, 3);
    assert_int_equal(to[0], 2);
    assert_int_equal(to[1], 2);
    assert_int_equal(to[2], (UINT64_C(1) << 40) + 5);
}

static void buckets_are_powers_of_two_and_the_last_takes_the_rest(void **state)
{
    (void)state;
    assert_int_equal(hist_bucket(0, 32), 0);
    assert_int_equal(hist_bucket(1, 32), 1);
    assert_int_equal(hist_bucket(2, 32), 2);
    assert_int_equal(hist_bucket(3, 32), 2);
    assert_int_equal(hist_bucket(4, 32), 3);
    assert_int_equal(hist_bucket(UINT64_MAX, 32), 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_adds_to_each_counter),
        cmocka_unit_test(buckets_are_powers_of_two_and_the_last_takes_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
