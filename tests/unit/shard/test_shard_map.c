#include "dataplane/shard/shard_map.c"
#include "tests/support/test.h"

static void a_new_partition_goes_where_fewest_of_its_topic_are_then_fewest_of_all(void **state)
{
    uint32_t load[4] = {5, 2, 2, 9}, none[4] = {0}, of_topic[4] = {0, 1, 1, 0};
    assert_int_equal(shard_map_choose(shard_map_all(4), none, load), 1);
    assert_int_equal(shard_map_choose(shard_map_all(1), none, load), 0);
    assert_int_equal(shard_map_choose(shard_map_all(4), of_topic, load), 0);
    assert_int_equal(shard_map_choose(1u << 3, none, load), 3); /* the only one that may */
    assert_int_equal(shard_map_choose(1u << 3 | 1u << 2, of_topic, load), 3);
    assert_true(shard_map_all(64) == UINT64_MAX);
}

static void topics_of_two_disks_stay_on_their_sockets_and_balanced(void **state)
{
    struct test_rng r = {test_seed(1)};
    const uint64_t socket[2] = {0x07, 0x78}; /* shards 0-2, 3-6 */
    uint32_t load[7] = {0};
    for (int t = 0; t < 1000; t++) {
        uint32_t cnt = 1 + (uint32_t)rng_below(&r, 20), of_topic[7] = {0};
        for (uint32_t p = 0; p < cnt; p++) {
            uint64_t among = socket[(p + (uint32_t)t) % 2];
            uint16_t owner = shard_map_choose(among, of_topic, load);
            assert_true(among >> owner & 1);
            of_topic[owner]++;
            load[owner]++;
        }
        for (int s = 0; s < 7; s++)
            for (int o = 0; o < 7; o++)
                if ((s < 3) == (o < 3))
                    assert_true(of_topic[s] <= of_topic[o] + 1);
    }
    for (int s = 0; s < 7; s++)
        for (int o = 0; o < 7; o++)
            if ((s < 3) == (o < 3))
                assert_true(load[s] <= load[o] + 20);
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
            uint16_t a = shard_map_rendezvous(&id, p, shard_map_all(n));
            uint16_t b = shard_map_rendezvous(&id, p, shard_map_all(n + 1));
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
    for (int32_t p = 0; p < 8; p++) {
        uint16_t low = shard_map_rendezvous(&id, p, 0x15);
        assert_true(low == 0 || low == 2 || low == 4);
    }
    for (int32_t p = 0; p < 8; p++)
        assert_int_equal(shard_map_rendezvous(&id, p, shard_map_all(8)), want[p]);
}

TEST_MAIN(TEST(a_new_partition_goes_where_fewest_of_its_topic_are_then_fewest_of_all),
          TEST(topics_of_two_disks_stay_on_their_sockets_and_balanced),
          TEST(one_more_shard_moves_only_its_share), TEST(owners_are_the_same_for_ever))
