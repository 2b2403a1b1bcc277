/* test_police.c - token buckets against a plain model: exact counts, longest prefix, bounded table.
 */
#include "dataplane/net/police.c"
#include "tests/support/test.h"
#include <pthread.h>

#define SECOND UINT64_C(1000000000)

static struct conf *conf_of(uint32_t cnt, const struct conf_police_rule *rules)
{
    struct conf *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->police_sources_max = 64;
    c->police_rule_cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++)
        c->police_rules[i] = rules[i];
    return c;
}
static struct net_addr v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return (struct net_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = a, b, c, d}};
}
static struct conf_police_rule rule(struct net_addr from, uint8_t len, uint32_t rate,
                                    uint32_t burst, bool shared)
{
    return (struct conf_police_rule){{from, len}, rate, burst, shared};
}

static uint32_t burst_of(struct police *p, uint64_t now, struct net_addr peer, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i += 32) {
        struct dgram dg[32];
        uint32_t k = n - i < 32 ? n - i : 32;
        for (uint32_t j = 0; j < k; j++)
            dg[j] = (struct dgram){.peer = peer, .arrival_ms = i + j};
        kept += police_burst(p, now, dg, k);
    }
    return kept;
}

static struct police_shared *shared;
static struct police *police_of(struct conf **ret_conf, uint32_t cnt,
                                const struct conf_police_rule *rules)
{
    struct police *p = NULL;
    *ret_conf = conf_of(cnt, rules);
    assert_ok(police_shared_create(&shared));
    assert_ok(police_create(*ret_conf, shared, &p));
    return p;
}
static void police_end(struct police *p, struct conf *c)
{
    police_destroy(p);
    police_shared_destroy(shared);
    free(c);
}

static void a_source_gets_its_burst_and_then_its_rate(void **state)
{
    struct conf *c;
    struct conf_police_rule r[] = {rule(v4(10, 0, 0, 0), 8, 1000, 50, false)};
    struct police *p = police_of(&c, 1, r);
    uint64_t now = 5 * SECOND;
    assert_int_equal(burst_of(p, now, v4(10, 1, 1, 1), 200), 50);
    assert_int_equal(burst_of(p, now, v4(10, 1, 1, 2), 20), 20);   /* another one has its own */
    assert_int_equal(burst_of(p, now, v4(11, 1, 1, 1), 200), 200); /* no rule */
    /* 1,000 a second from then on: one for each millisecond */
    assert_int_equal(burst_of(p, now + SECOND / 100, v4(10, 1, 1, 1), 200), 10);
    for (uint32_t ms = 11; ms < 1011; ms++)
        assert_int_equal(burst_of(p, now + ms * (SECOND / 1000), v4(10, 1, 1, 1), 3), 1);
    /* a pause fills the bucket, no further than its brim */
    assert_int_equal(burst_of(p, now + 100 * SECOND, v4(10, 1, 1, 1), 200), 50);
    assert_int_equal(police_refused_cnt(p), 150 + 190 + 2000 + 150);
    police_end(p, c);
}

static void the_longest_prefix_decides_and_order_is_kept(void **state)
{
    struct conf *c;
    struct conf_police_rule r[] = {rule(v4(0, 0, 0, 0), 0, 100, 0, false),
                                   rule(v4(10, 2, 3, 4), 32, 7, 0, false),
                                   rule(v4(10, 2, 0, 0), 16, 1000000, 1, false),
                                   rule((struct net_addr){.ip = {0x20, 1}}, 16, 5, 3, false)};
    struct police *p = police_of(&c, 4, r);
    uint64_t now = SECOND;
    assert_int_equal(burst_of(p, now, v4(192, 0, 2, 1), 200), 100);
    assert_int_equal(burst_of(p, now, v4(10, 2, 3, 4), 200), 7);
    assert_int_equal(burst_of(p, now, v4(10, 2, 3, 5), 200), 1);
    struct net_addr v6 = {.ip = {0x20, 1, [15] = 1}}, other6 = {.ip = {0x20, 2, [15] = 1}};
    assert_int_equal(burst_of(p, now, v6, 9), 3);
    assert_int_equal(burst_of(p, now, other6, 900), 900); /* 0.0.0.0/0 is IPv4 */
    /* what stays of a mixed burst stays in order */
    struct dgram dg[6];
    for (uint32_t i = 0; i < 6; i++)
        dg[i] = (struct dgram){.peer = i % 2 ? other6 : v4(10, 2, 3, 4), .arrival_ms = i};
    assert_int_equal(police_burst(p, now, dg, 6), 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(dg[i].arrival_ms, 2 * i + 1);
    police_end(p, c);
}

static void a_full_table_forgets_the_quietest_source(void **state)
{
    struct conf *c;
    struct conf_police_rule r[] = {rule(v4(0, 0, 0, 0), 0, 10, 10, false)};
    struct police *p = police_of(&c, 1, r);
    uint64_t now = SECOND;
    /* far more sources than places: never a crash, never a refusal of one that is within its rate
     */
    for (uint32_t i = 0; i < 100000; i++) {
        now += SECOND / 100000;
        assert_int_equal(
            burst_of(p, now, v4(10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i), 1), 1);
    }
    /* one that floods all the while keeps its place and is held to its rate */
    uint32_t passed = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        now += SECOND / 10000;
        passed += burst_of(p, now, v4(172, 16, 0, 1), 5);
        assert_int_equal(
            burst_of(p, now, v4(11, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i), 1), 1);
    }
    assert_int_equal(passed, 10 + 9); /* its burst, and one every tenth of a second */
    struct stats_talker top[STATS_TALKERS_MAX];
    assert_int_equal(police_top(p, top), STATS_TALKERS_MAX);
    assert_memory_equal(top[0].ip, v4(172, 16, 0, 1).ip, 16);
    assert_int_equal(top[0].passed, passed);
    assert_int_equal(top[0].refused, 50000 - passed);
    for (uint32_t i = 1; i + 1 < STATS_TALKERS_MAX; i++)
        assert_true(top[i].refused >= top[i + 1].refused);
    police_end(p, c);
}

struct taker {
    struct police *p;
    uint32_t id, kept;
};
static void *take(void *arg)
{
    struct taker *t = arg;
    for (uint32_t i = 0; i < 1000; i++)
        t->kept += burst_of(t->p, SECOND, v4(10, 0, (uint8_t)t->id, (uint8_t)i), 8);
    return NULL;
}
static void shards_share_the_bucket_of_a_prefix_exactly(void **state)
{
    struct conf *c;
    struct conf_police_rule r[] = {rule(v4(10, 0, 0, 0), 8, 1000, 777, true)};
    struct police *p[3];
    struct taker t[3];
    pthread_t th[3];
    uint32_t kept = 0;
    p[0] = police_of(&c, 1, r);
    for (uint32_t i = 1; i < 3; i++)
        assert_ok(police_create(c, shared, &p[i]));
    for (uint32_t i = 0; i < 3; i++) {
        t[i] = (struct taker){p[i], i, 0};
        assert_int_equal(pthread_create(&th[i], NULL, take, &t[i]), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(th[i], NULL), 0);
        kept += t[i].kept;
    }
    assert_int_equal(kept, 777);
    for (uint32_t i = 1; i < 3; i++)
        police_destroy(p[i]);
    police_end(p[0], c);
}

static void work_paid_for_afterwards_gets_its_share_of_time(void **state)
{
    uint64_t free_at = 0, worked = 0, start = 5 * SECOND, now = start;
    /* always more to do, and each piece takes 70 us of this thread's time */
    for (; now < start + SECOND; now += 100000) {
        if (!bucket_share_has(free_at, now))
            continue;
        bucket_share_pay(&free_at, now, 70000);
        worked += 70000;
    }
    assert_in_range(worked, SECOND / BUCKET_SHARE,
                    SECOND / BUCKET_SHARE + BUCKET_SHARE_AT_ONCE_NS + 70000);
    /* a long rest is not saved up beyond what may be done at once */
    now += 100 * SECOND;
    for (worked = 0; bucket_share_has(free_at, now); worked += 70000)
        bucket_share_pay(&free_at, now, 70000);
    assert_in_range(worked, BUCKET_SHARE_AT_ONCE_NS, BUCKET_SHARE_AT_ONCE_NS + 70000);
}

static void without_rules_there_is_nothing(void **state)
{
    struct conf *c = conf_of(0, NULL);
    struct police *p = (struct police *)c;
    assert_ok(police_create(c, NULL, &p));
    assert_null(p);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_source_gets_its_burst_and_then_its_rate),
        TEST(the_longest_prefix_decides_and_order_is_kept),
        TEST(a_full_table_forgets_the_quietest_source),
        TEST(shards_share_the_bucket_of_a_prefix_exactly),
        TEST(work_paid_for_afterwards_gets_its_share_of_time),
        TEST(without_rules_there_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
