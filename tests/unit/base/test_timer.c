/* The timer wheel against a model: a plain array of deadlines. */
#ifndef SLUICE_DEBUG
#define SLUICE_DEBUG
#endif
#include "lib/base/timer.c"
#include "tests/support/test.h"

enum { N = 200 };
#define MS UINT64_C(1000000)

struct probe {
    struct timer t; /* first: the callback gets a timer */
    uint64_t fired_at;
    uint32_t fired_cnt;
};

static void on_fire(struct timer *t, uint64_t now_ns)
{
    struct probe *p = (struct probe *)t;
    assert_false(timer_is_armed(t));
    p->fired_at = now_ns;
    p->fired_cnt++;
}

/* Structure: bits match lists, every timer stands above the wheel's own digit of its level. */
static void wheel_check(const struct timer_wheel *w)
{
    for (int l = 0; l < LEVELS; l++)
        for (uint32_t s = 0; s < SLOTS; s++) {
            bool bit = w->occupied[l] >> s & 1;
            assert_int_equal(bit, !list_is_empty(&w->slot[l][s]));
            if (bit)
                assert_true(s > (w->tick >> (l * SLOT_BITS) & SLOT_MASK));
        }
}

static void agrees_with_a_model_over_many_seeds(void **state)
{
    (void)state;
    uint64_t seed = test_seed(7);
    for (uint64_t round = 0; round < 60; round++) {
        struct test_rng rng = {seed * 1000 + round};
        uint64_t now = rng_below(&rng, 4) == 0 ? 0 : rng_u64(&rng) >> rng_below(&rng, 40);
        if (now > UINT64_MAX / 4)
            now /= 4;
        struct timer_wheel *w;
        static struct probe p[N];
        memset(p, 0, sizeof(p));
        assert_ok(timer_wheel_create(now, &w));
        for (int step = 0; step < 400; step++) {
            struct probe *x = &p[rng_below(&rng, N)];
            uint64_t op = rng_below(&rng, 10);
            if (op < 5) {
                uint64_t dist = rng_u64(&rng) >> (10 + rng_below(&rng, 54));
                if (dist > UINT64_MAX / 4)
                    dist = 0;
                x->fired_cnt = 0;
                timer_arm(w, &x->t, rng_below(&rng, 16) == 0 ? now / 2 : now + dist, on_fire);
            } else if (op < 6) {
                timer_cancel(w, &x->t);
            } else {
                bool armed[N];
                uint64_t earliest = UINT64_MAX;
                for (int i = 0; i < N; i++) {
                    armed[i] = timer_is_armed(&p[i].t);
                    if (armed[i] && p[i].t.deadline_ns < earliest)
                        earliest = p[i].t.deadline_ns;
                }
                uint64_t next = timer_next(w);
                if (earliest == UINT64_MAX)
                    assert_true(next == UINT64_MAX);
                else /* never later than the tick in which the earliest fires */
                    assert_true(next <= (earliest + MS - 1 > now ? earliest + MS - 1 : now));
                if (rng_below(&rng, 3) == 0 && next != UINT64_MAX && next > now)
                    now = next;
                else
                    now += rng_u64(&rng) >> (14 + rng_below(&rng, 50));
                uint32_t fired = timer_poll(w, now, UINT32_MAX), expect = 0;
                for (int i = 0; i < N; i++) {
                    if (!armed[i])
                        continue;
                    uint64_t d = p[i].t.deadline_ns;
                    if (!timer_is_armed(&p[i].t)) {
                        assert_true(d <= now); /* never early */
                        assert_int_equal(p[i].fired_cnt, 1);
                        expect++;
                    } else {
                        assert_true(d > now / MS * MS); /* at most one tick late */
                    }
                }
                assert_int_equal(fired, expect);
            }
            wheel_check(w);
        }
        timer_wheel_destroy(w);
    }
}

static void whole_milliseconds_fire_exactly(void **state)
{
    (void)state;
    struct timer_wheel *w;
    struct probe p = {0};
    assert_ok(timer_wheel_create(0, &w));
    for (uint64_t ms = 1; ms < 5000; ms += 7) {
        p.fired_cnt = 0;
        timer_arm(w, &p.t, ms * MS, on_fire);
        assert_int_equal(timer_next(w) <= ms * MS, 1);
        assert_int_equal(timer_poll(w, ms * MS - 1, 10), 0);
        assert_int_equal(timer_poll(w, ms * MS, 10), 1);
        assert_int_equal(p.fired_at, ms * MS);
    }
    timer_wheel_destroy(w);
}

static void budget_leaves_the_rest_in_order(void **state)
{
    (void)state;
    struct timer_wheel *w;
    struct probe p[10] = {0};
    assert_ok(timer_wheel_create(0, &w));
    for (int i = 9; i >= 0; i--)
        timer_arm(w, &p[i].t, (uint64_t)(i + 1) * 100 * MS, on_fire);
    for (int i = 0; i < 10; i += 2) {
        assert_int_equal(timer_poll(w, 2000 * MS, 2), 2);
        for (int j = 0; j < 10; j++)
            assert_int_equal(p[j].fired_cnt, j < i + 2);
        assert_true(i == 8 ? timer_next(w) == UINT64_MAX : timer_next(w) <= 2000 * MS);
    }
    timer_wheel_destroy(w);
}

static struct timer_wheel *shared_wheel;
static struct probe *victim;

static void on_fire_cancels_another(struct timer *t, uint64_t now_ns)
{
    on_fire(t, now_ns);
    timer_cancel(shared_wheel, &victim->t);
}
static void on_fire_rearms_for_now(struct timer *t, uint64_t now_ns)
{
    ((struct probe *)t)->fired_cnt++;
    timer_arm(shared_wheel, t, now_ns, on_fire_rearms_for_now);
}

static void callbacks_may_cancel_and_rearm(void **state)
{
    (void)state;
    struct probe a = {0}, b = {0}, c = {0};
    assert_ok(timer_wheel_create(0, &shared_wheel));
    victim = &b;
    timer_arm(shared_wheel, &a.t, 5 * MS, on_fire_cancels_another);
    timer_arm(shared_wheel, &b.t, 5 * MS, on_fire);
    assert_int_equal(timer_poll(shared_wheel, 6 * MS, 100), 1);
    assert_int_equal(b.fired_cnt, 0);
    assert_false(timer_is_armed(&b.t));
    timer_arm(shared_wheel, &c.t, 7 * MS, on_fire_rearms_for_now);
    for (uint32_t i = 1; i < 5; i++) { /* once per poll, never a loop inside one */
        assert_int_equal(timer_poll(shared_wheel, 8 * MS, 100), 1);
        assert_int_equal(c.fired_cnt, i);
    }
    timer_cancel(shared_wheel, &c.t);
    timer_cancel(shared_wheel, &c.t); /* not armed: nothing happens */
    assert_true(timer_next(shared_wheel) == UINT64_MAX);
    timer_wheel_destroy(shared_wheel);
}

static void the_farthest_deadline_is_kept(void **state)
{
    (void)state;
    struct timer_wheel *w;
    struct probe p = {0};
    assert_ok(timer_wheel_create(0, &w));
    timer_arm(w, &p.t, UINT64_MAX, on_fire);
    assert_int_equal(timer_poll(w, UINT64_MAX / 2, 10), 0);
    assert_true(timer_next(w) > UINT64_MAX / 2);
    timer_cancel(w, &p.t);
    timer_wheel_destroy(w);
}

TEST_MAIN(TEST(agrees_with_a_model_over_many_seeds), TEST(whole_milliseconds_fire_exactly),
          TEST(budget_leaves_the_rest_in_order), TEST(callbacks_may_cancel_and_rearm),
          TEST(the_farthest_deadline_is_kept))
