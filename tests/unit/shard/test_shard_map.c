#include "dataplane/shard/shard_map.c"
#include "tests/support/test.h"

static void new_topics_start_at_the_least_loaded_shard_and_go_round(void **state)
{
    uint32_t load[4] = {5, 2, 2, 9};
    assert_int_equal(shard_map_start(load, 4), 1);
    assert_int_equal(shard_map_start(load, 1), 0);
    assert_int_equal(shard_map_assign(3, 0, 4), 3);
    assert_int_equal(shard_map_assign(3, 1, 4), 0);
    assert_int_equal(shard_map_assign(3, 1000001, 4), (3 + 1000001) % 4);
}

static void many_topics_leave_the_shards_balanced(void **state)
{
    struct test_rng r = {test_seed(1)};
    uint32_t load[7] = {0};
    for (int t = 0; t < 1000; t++) {
        uint32_t cnt = 1 + (uint32_t)rng_below(&r, 20);
        uint16_t start = shard_map_start(load, 7);
        for (uint32_t p = 0; p < cnt; p++)
            load[shard_map_assign(start, p, 7)]++;
    }
    uint32_t lo = UINT32_MAX, hi = 0;
    for (int i = 0; i < 7; i++) {
        lo = load[i] < lo ? load[i] : lo;
        hi = load[i] > hi ? load[i] : hi;
    }
    assert_true(hi - lo <= 20);
}

static void one_more_shard_moves_only_its_share(void **state)
{
    struct test_rng r = {test_seed(2)};
    for (uint16_t n = 1; n < 10; n++) {
        uint32_t moved = 0, cnt[16] = {0};
        for (int i = 0; i < 20000; i++) {
            struct uuid id;
            rng_fill(&r, &id, sizeof(id));
            int32_t p = (int32_t)rng_below(&r, 50);
            uint16_t a = shard_map_rendezvous(&id, p, n), b = shard_map_rendezvous(&id, p, n + 1);
            assert_true(a < n && b < n + 1);
            if (a != b)
                assert_int_equal(b, n); /* only ever to the new one */
            moved += a != b;
            cnt[b]++;
        }
        double share = moved / 20000.0;
        assert_true(share > 0.85 / (n + 1) && share < 1.15 / (n + 1));
        for (uint16_t i = 0; i <= n; i++)
            assert_true(cnt[i] > 0.85 * 20000 / (n + 1) && cnt[i] < 1.15 * 20000 / (n + 1));
    }
}

static void owners_are_the_same_for_ever(void **state)
{
    struct uuid id;
    for (int i = 0; i < 16; i++)
        id.b[i] = (uint8_t)i;
    static const uint16_t want[8] = {7, 6, 3, 2, 3, 2, 5, 7};
    for (int32_t p = 0; p < 8; p++)
        assert_int_equal(shard_map_rendezvous(&id, p, 8), want[p]);
}

TEST_MAIN(TEST(new_topics_start_at_the_least_loaded_shard_and_go_round),
          TEST(many_topics_leave_the_shards_balanced), TEST(one_more_shard_moves_only_its_share),
          TEST(owners_are_the_same_for_ever))
