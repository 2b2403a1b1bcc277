/* The turn loop: budgets, accounting, idling, waking, ending. */
#include "dataplane/shard/shard.c"
#include "tests/support/test.h"
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

static uint32_t work_left, calls[2], budgets[2];
static uint32_t stage_a(struct shard *s, uint32_t budget)
{
    uint32_t n = work_left < budget ? work_left : budget;
    calls[0]++;
    budgets[0] = budget;
    work_left -= n;
    return n;
}
static uint32_t stage_b(struct shard *s, uint32_t budget)
{
    calls[1]++;
    budgets[1] = budget;
    s->stopping = work_left == 0;
    return 0;
}
static uint32_t poll_mbox(struct shard *s, uint32_t budget)
{
    return mbox_poll(s->mbox, s, budget);
}
static uint32_t poll_timers(struct shard *s, uint32_t budget)
{
    return timer_poll(s->timers, s->now_ns, budget);
}
static uint64_t longest_wait_ns;
static void wait_fd(struct shard *s, uint64_t timeout_ns)
{
    struct pollfd p = {mbox_wake_fd(s->mbox), POLLIN, 0};
    struct timespec ts = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};
    longest_wait_ns = timeout_ns > longest_wait_ns ? timeout_ns : longest_wait_ns;
    (void)ppoll(&p, 1, &ts, NULL);
}
static struct mbox_net *net_new(uint16_t cnt)
{
    struct mbox_net *n = NULL;
    assert_ok(mbox_net_create(cnt, 16, &n));
    return n;
}

static void every_stage_runs_once_a_turn_within_its_budget(void **state)
{
    static const struct stage turn[] = {{"a", stage_a, 7, NULL}, {"b", stage_b, 3, NULL}};
    struct mbox_net *n = net_new(1);
    struct shard s = {.mbox = mbox_of(n, 0), .cnt = 1};
    work_left = 30;
    calls[0] = calls[1] = 0;
    shard_run(&s, &(struct shard_run_opts){.turn = turn, .stage_cnt = 2, .idle = IDLE_POLL});
    assert_int_equal(budgets[0], 7);
    assert_int_equal(budgets[1], 3);
    assert_int_equal(calls[0], 6); /* 7 + 7 + 7 + 7 + 2, and the empty turn that ends it */
    assert_int_equal(calls[1], 6);
    assert_int_equal(s.turns, 6);
    assert_int_equal(s.stage_items[0], 30);
    assert_int_equal(s.stage_items[1], 0);
    assert_true(s.busy_cycles > 0 && s.idle_cycles > 0);
    assert_true(s.stage_cycles[0] + s.stage_cycles[1] == s.busy_cycles + s.idle_cycles);
    assert_true(s.turn_max_cycles <= s.busy_cycles + s.idle_cycles);
    assert_true(s.now_ns > 0 && s.wall_ms > 1000000000000);
    mbox_net_destroy(n);
}

/* ------------------------------------------------------------------------------------- idling */

static void on_stop(struct shard *s, struct msg *m)
{
    s->stopping = true;
    msg_reply(s->mbox, m, 0);
}
static void on_stop_reply(struct shard *s, struct msg *m)
{
}
static const struct stage idle_turn[] = {{"mbox", poll_mbox, 32, NULL},
                                         {"timer", poll_timers, 32, NULL}};
struct idler {
    struct shard s;
    struct shard_run_opts o;
    uint64_t cpu_ns;
};
static void *idle_main(void *arg)
{
    struct idler *x = arg;
    struct timespec ts;
    shard_run(&x->s, &x->o);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    x->cpu_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    return NULL;
}

static void an_idle_adaptive_shard_sleeps_and_is_woken_by_a_message(void **state)
{
    struct mbox_net *n = net_new(2);
    msg_handlers[MSG_STOP] = (struct msg_handlers){on_stop, on_stop_reply};
    struct idler x = {.s = {.mbox = mbox_of(n, 0), .cnt = 1},
                      .o = {.turn = idle_turn,
                            .stage_cnt = 2,
                            .idle = IDLE_ADAPTIVE,
                            .spin_turns = 1000,
                            .sleep_max_ns = 1000000,
                            .wait = wait_fd}};
    assert_ok(timer_wheel_create(clock_mono_ns(), &x.s.timers));
    pthread_t t;
    uint64_t t0 = clock_mono_ns();
    assert_int_equal(pthread_create(&t, NULL, idle_main, &x), 0);
    usleep(400000);
    struct msg stop = {.type = MSG_STOP};
    mbox_send(mbox_of(n, 1), 0, &stop);
    pthread_join(t, NULL);
    uint64_t wall = clock_mono_ns() - t0;
    double share = (double)x.cpu_ns / (double)wall;
    printf("cpu %.2f %% with 1 ms sleeps, %llu sleeps\n", share * 100,
           (unsigned long long)x.s.sleeps);
    assert_true(share < 0.4); /* under 2 % on a quiet machine: a shard that never slept is at 100 */
    assert_true(x.s.sleeps > 5);
    assert_true(x.s.turns <= x.o.spin_turns + 2 * x.s.sleeps + 50); /* after the spin, sleeps */
    assert_true(longest_wait_ns <= 1000000);
    assert_int_equal(mbox_poll(mbox_of(n, 1), NULL, 8), 1);
    timer_wheel_destroy(x.s.timers);
    mbox_net_destroy(n);
}

static void a_sleep_without_limit_ends_at_once_for_a_message(void **state)
{
    struct mbox_net *n = net_new(2);
    msg_handlers[MSG_STOP] = (struct msg_handlers){on_stop, on_stop_reply};
    for (int i = 0; i < 200; i++) {
        struct idler x = {.s = {.mbox = mbox_of(n, 0), .cnt = 1},
                          .o = {.turn = idle_turn,
                                .stage_cnt = 1,
                                .idle = IDLE_ADAPTIVE,
                                .spin_turns = 0,
                                .sleep_max_ns = UINT64_C(20000000000),
                                .wait = wait_fd}};
        pthread_t t;
        uint64_t t0 = clock_mono_ns();
        assert_int_equal(pthread_create(&t, NULL, idle_main, &x), 0);
        struct msg stop = {.type = MSG_STOP};
        for (volatile int spin = 0; spin < i * 50; spin++)
            ; /* hit another point of its way to sleep each time */
        mbox_send(mbox_of(n, 1), 0, &stop);
        pthread_join(t, NULL);
        assert_true(clock_mono_ns() - t0 < UINT64_C(10000000000));
        assert_int_equal(mbox_poll(mbox_of(n, 1), NULL, 8), 1);
    }
    mbox_net_destroy(n);
}

static uint64_t deadline_ns, woken_ns;
static uint32_t due_stage(struct shard *s, uint32_t budget)
{
    if (s->now_ns < deadline_ns || woken_ns != 0)
        return 0;
    woken_ns = s->now_ns;
    s->stopping = true;
    return 1;
}
static uint64_t due_next(struct shard *s)
{
    return woken_ns == 0 ? deadline_ns : UINT64_MAX;
}
static void fired(struct timer *t, uint64_t now_ns)
{
    deadline_ns = now_ns; /* the timer makes the stage due */
}

static void a_sleep_ends_at_the_next_deadline_of_a_stage_or_timer(void **state)
{
    static const struct stage turn[] = {{"timer", poll_timers, 32, NULL},
                                        {"due", due_stage, 1, due_next}};
    struct mbox_net *n = net_new(1);
    for (int by_timer = 0; by_timer < 2; by_timer++) {
        struct shard s = {.mbox = mbox_of(n, 0), .cnt = 1};
        struct timer timer = {.fn = NULL};
        uint64_t t0 = clock_mono_ns();
        assert_ok(timer_wheel_create(t0, &s.timers));
        woken_ns = 0;
        deadline_ns = by_timer ? UINT64_MAX : t0 + 30000000;
        if (by_timer)
            timer_arm(s.timers, &timer, t0 + 30000000, fired);
        shard_run(&s, &(struct shard_run_opts){.turn = turn,
                                               .stage_cnt = 2,
                                               .idle = IDLE_ADAPTIVE,
                                               .wait = wait_fd,
                                               .sleep_max_ns = UINT64_C(20000000000)});
        assert_true(woken_ns - t0 >= 30000000);
        assert_true(woken_ns - t0 < UINT64_C(10000000000));
        assert_true(s.sleeps >= 1);
        timer_wheel_destroy(s.timers);
    }
    mbox_net_destroy(n);
}

#define BEATS 50
static uint32_t beats;
static uint64_t beat_next_ns;
static uint32_t beat_stage(struct shard *s, uint32_t budget)
{
    if (s->now_ns < beat_next_ns)
        return 0;
    beat_next_ns = s->now_ns + 2000000;
    s->stopping = ++beats == BEATS;
    return 1;
}
static uint64_t beat_next(struct shard *s)
{
    return beat_next_ns;
}

static void a_shard_whose_sleeps_are_long_stops_spinning_before_them(void **state)
{
    static const struct stage turn[] = {{"beat", beat_stage, 1, beat_next}};
    struct mbox_net *n = net_new(1);
    struct shard s = {.mbox = mbox_of(n, 0), .cnt = 1};
    beats = 0;
    beat_next_ns = 0;
    shard_run(&s, &(struct shard_run_opts){.turn = turn,
                                           .stage_cnt = 1,
                                           .idle = IDLE_ADAPTIVE,
                                           .spin_turns = 1000,
                                           .wait = wait_fd,
                                           .sleep_max_ns = UINT64_C(20000000000)});
    printf("%llu turns for %d beats\n", (unsigned long long)s.turns, BEATS);
    assert_true(s.sleeps >= BEATS / 2);
    assert_true(s.turns < BEATS * 1000 / 2);
    mbox_net_destroy(n);
}

static bool may_end_now;
static uint32_t may_end_asked;
static bool may_end(struct shard *s)
{
    may_end_asked++;
    return may_end_now;
}
static uint32_t stop_later(struct shard *s, uint32_t budget)
{
    s->stopping = true;
    may_end_now = s->turns >= 10;
    return 0;
}
static void a_stopping_shard_goes_on_until_its_stages_are_closed(void **state)
{
    static const struct stage turn[] = {{"x", stop_later, 1, NULL}};
    struct mbox_net *n = net_new(1);
    struct shard s = {.mbox = mbox_of(n, 0), .cnt = 1};
    shard_run(&s, &(struct shard_run_opts){
                      .turn = turn, .stage_cnt = 1, .idle = IDLE_POLL, .may_end = may_end});
    assert_int_equal(s.turns, 11);
    assert_int_equal(may_end_asked, 11);
    mbox_net_destroy(n);
}

TEST_MAIN(TEST(every_stage_runs_once_a_turn_within_its_budget),
          TEST(an_idle_adaptive_shard_sleeps_and_is_woken_by_a_message),
          TEST(a_sleep_without_limit_ends_at_once_for_a_message),
          TEST(a_sleep_ends_at_the_next_deadline_of_a_stage_or_timer),
          TEST(a_shard_whose_sleeps_are_long_stops_spinning_before_them),
          TEST(a_stopping_shard_goes_on_until_its_stages_are_closed))
