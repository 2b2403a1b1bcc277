/* test_auto.c - sluice.compression=auto stops when cycles get scarce, smoothly, and at once when
 * events wait. */
#include "dataplane/ingest/auto.c"
#include "tests/support/test.h"

/* Runs for ms milliseconds with this part of the cycles busy; how many of 1,000 batches would be
 * compressed afterwards. */
static uint64_t now_ns, busy_sum, idle_sum, turn;
static struct auto_share a;

static uint32_t after(uint32_t ms, uint32_t busy_percent)
{
    for (uint32_t i = 0; i < ms; i++) {
        now_ns += 1000000;
        busy_sum += busy_percent * 1000;
        idle_sum += (100 - busy_percent) * 1000;
        auto_look(&a, now_ns, busy_sum, idle_sum);
    }
    struct auto_share copy = a;
    uint32_t n = 0;
    for (uint32_t i = 0; i < 1000; i++)
        n += auto_take(&copy, turn);
    return n;
}

static int setup(void **state)
{
    (void)state;
    now_ns = busy_sum = idle_sum = turn = 0;
    auto_init(&a);
    return 0;
}

static void with_cycles_to_spare_all_is_compressed(void **state)
{
    (void)state;
    assert_int_equal(after(0, 0), 1000);
    assert_int_equal(after(1000, 10), 1000);
    assert_int_equal(after(1000, 75), 1000);
}

static void a_busy_core_stops_smoothly_and_begins_again(void **state)
{
    (void)state;
    uint32_t last = after(5, 95), steps = 0;
    assert_true(last < 1000);
    for (; last > 0; steps++) {
        uint32_t n = after(5, 95);
        assert_true(n <= last);
        assert_true(last - n <= 300); /* never much at once */
        assert_true(steps < 40);
        last = n;
    }
    assert_true(steps > 5);
    assert_int_equal(after(1000, 95), 0);
    assert_int_equal(after(1000, 85), 0); /* neither: it stays as it is */
    last = 0;
    for (steps = 0; last < 1000; steps++) {
        uint32_t n = after(5, 50);
        assert_true(n > last && n - last <= 100);
        assert_true(steps < 40);
        last = n;
    }
    assert_int_equal(after(1000, 85), 1000);
}

static void a_core_without_idle_cycles_stops_within_35_ms(void **state)
{
    (void)state;
    assert_int_equal(after(35, 100), 0);
}

static void it_settles_between_the_bounds_when_compression_is_the_load(void **state)
{
    (void)state;
    uint32_t share = 1000; /* ingest takes half of the core, compressing everything all of it */
    for (uint32_t i = 0; i < 400; i++)
        share = after(5, 50 + share / 20);
    assert_true(50 + share / 20 >= 70 && 50 + share / 20 <= 92);
}

static void what_is_compressed_is_spread_evenly(void **state)
{
    (void)state;
    a.share = AUTO_SHARE_ALL / 4;
    for (uint32_t i = 1; i <= 100; i++)
        assert_int_equal(auto_take(&a, 0), i % 4 == 0);
}

static void when_events_wait_it_stops_at_once(void **state)
{
    (void)state;
    auto_events(&a, 7, AUTO_BACKLOG - 1);
    assert_true(auto_take(&a, 7));
    auto_events(&a, 7, 1);
    assert_false(auto_take(&a, 7));
    assert_false(auto_take(&a, 8)); /* the turn after it, too */
    assert_true(auto_take(&a, 9));
    auto_events(&a, 10, AUTO_BACKLOG);
    assert_true(auto_take(&a, 12)); /* a turn without events came between */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(with_cycles_to_spare_all_is_compressed, setup),
        cmocka_unit_test_setup(a_busy_core_stops_smoothly_and_begins_again, setup),
        cmocka_unit_test_setup(a_core_without_idle_cycles_stops_within_35_ms, setup),
        cmocka_unit_test_setup(it_settles_between_the_bounds_when_compression_is_the_load, setup),
        cmocka_unit_test_setup(what_is_compressed_is_spread_evenly, setup),
        cmocka_unit_test_setup(when_events_wait_it_stops_at_once, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
