/* Rings between endpoints, with real threads; also built with -Db_sanitize=thread. */
#include "dataplane/shard/mbox.c"
#include "tests/support/test.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>

struct num {
    struct msg msg;
    uint32_t seq;
    uint64_t sum; /* of the payload, to catch torn or early reads */
};

/* ------------------------------------------------------------------------------- on one thread */

static uint32_t seen[64], seen_cnt, replies;
static struct mbox *answering;
static void note_request(struct shard *s, struct msg *m)
{
    seen[seen_cnt++] = ((struct num *)m)->seq;
    msg_reply(answering, m, -(int)((struct num *)m)->seq);
}
static void note_reply(struct shard *s, struct msg *m)
{
    assert_int_equal(m->rc, -(int)((struct num *)m)->seq);
    replies++;
}
static struct mbox_net *net_new(uint16_t cnt, uint32_t cap)
{
    struct mbox_net *n = NULL;
    assert_ok(mbox_net_create(cnt, cap, &n));
    seen_cnt = replies = 0;
    msg_handlers[MSG_SEALED] = (struct msg_handlers){note_request, note_reply};
    return n;
}

static void more_messages_than_the_ring_holds_keep_their_order(void **state)
{
    struct mbox_net *n = net_new(2, 4);
    struct mbox *a = mbox_of(n, 0), *b = mbox_of(n, 1);
    answering = b;
    struct num m[20];
    for (uint32_t i = 0; i < 20; i++) {
        m[i] = (struct num){.msg.type = MSG_SEALED, .seq = i};
        mbox_send(a, 1, &m[i].msg);
    }
    assert_int_equal(mbox_overflow_cnt(a), 16);
    assert_false(mbox_sleep_prepare(a)); /* what waits goes out only by polling */
    for (int turn = 0; turn < 100 && replies < 20; turn++) {
        assert_true(mbox_poll(b, NULL, 3) <= 3);
        (void)mbox_poll(a, NULL, 64);
    }
    assert_int_equal(replies, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(seen[i], i);
    assert_int_equal(mbox_overflow_cnt(a) + mbox_overflow_cnt(b), 0);
    assert_int_equal(mbox_handled(b), 20);
    mbox_net_destroy(n);
}

static void a_message_to_oneself_is_handled_by_a_later_poll(void **state)
{
    struct mbox_net *n = net_new(1, 4);
    struct mbox *a = mbox_of(n, 0);
    answering = a;
    struct num m = {.msg.type = MSG_SEALED, .seq = 9};
    mbox_send(a, 0, &m.msg);
    assert_int_equal(seen_cnt, 0);
    assert_int_equal(mbox_poll(a, NULL, 64), 1); /* the request, not yet the reply it sent */
    assert_int_equal(seen_cnt, 1);
    assert_int_equal(replies, 0);
    assert_int_equal(mbox_poll(a, NULL, 64), 1);
    assert_int_equal(replies, 1);
    mbox_net_destroy(n);
}

static void no_sender_starves_another(void **state)
{
    struct mbox_net *n = net_new(4, 16);
    struct mbox *rx = mbox_of(n, 3);
    answering = rx;
    struct num m[3][16];
    for (uint16_t from = 0; from < 3; from++)
        for (uint32_t i = 0; i < 16; i++) {
            m[from][i] = (struct num){.msg.type = MSG_SEALED, .seq = from};
            mbox_send(mbox_of(n, from), 3, &m[from][i].msg);
        }
    uint32_t polls = 0, got[3] = {0};
    while (got[0] == 0 || got[1] == 0 || got[2] == 0) {
        assert_true(polls++ < 8);
        seen_cnt = 0;
        (void)mbox_poll(rx, NULL, 4);
        for (uint32_t i = 0; i < seen_cnt; i++)
            got[seen[i]]++;
    }
    mbox_net_destroy(n);
}

static void a_send_to_a_sleeper_writes_its_eventfd_once(void **state)
{
    struct mbox_net *n = net_new(2, 16);
    struct mbox *a = mbox_of(n, 0), *b = mbox_of(n, 1);
    answering = b;
    struct num m[3] = {
        {.msg.type = MSG_SEALED}, {.msg.type = MSG_SEALED}, {.msg.type = MSG_SEALED}};
    struct pollfd p = {mbox_wake_fd(b), POLLIN, 0};
    mbox_send(a, 1, &m[0].msg); /* awake: no system call */
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_false(mbox_sleep_prepare(b)); /* something waits */
    assert_int_equal(mbox_poll(b, NULL, 16), 1);
    assert_true(mbox_sleep_prepare(b));
    mbox_send(a, 1, &m[1].msg);
    mbox_send(a, 1, &m[2].msg);
    assert_int_equal(poll(&p, 1, 0), 1);
    eventfd_t v;
    assert_int_equal(eventfd_read(mbox_wake_fd(b), &v), 0);
    assert_int_equal(v, 1);
    mbox_sleep_done(b);
    assert_int_equal(mbox_poll(b, NULL, 16), 2);
    mbox_net_destroy(n);
}

/* ---------------------------------------------------------------------------------- with threads
 */

/* Each endpoint sends ROUNDS messages to every other one from a small pool, answers what it gets,
 * and sleeps for real whenever it has nothing to do: a lost wake-up is a hang, which the limit of
 * one second per sleep turns into a failure. */
#define THREADS 3
#define POOL 24
#ifndef ROUNDS
#define ROUNDS 20000u
#endif

struct peer {
    struct mbox *mb;
    uint16_t id;
    struct num pool[THREADS][POOL];
    struct list free[THREADS];
    uint32_t sent[THREADS], next_in[THREADS], got_replies;
    uint32_t sleeps, timeouts;
};
static __thread struct peer *self;
static _Atomic uint32_t finished;

static void peer_request(struct shard *s, struct msg *m)
{
    struct num *x = (struct num *)m;
    ASSERT(x->seq == self->next_in[m->origin]); /* order per pair */
    ASSERT(x->sum == (uint64_t)x->seq * 7 + m->origin);
    self->next_in[m->origin]++;
    x->sum = ~x->sum;
    msg_reply(self->mb, m, 0);
}
static void peer_reply(struct shard *s, struct msg *m)
{
    struct num *x = (struct num *)m;
    ASSERT(x->sum == ~((uint64_t)x->seq * 7 + self->id));
    self->got_replies++;
    list_add_tail(&self->free[(x - &self->pool[0][0]) / POOL], &x->msg.link);
}

static uint32_t peer_send(struct peer *p)
{
    uint32_t n = 0;
    for (uint16_t to = 0; to < THREADS; to++) {
        while (to != p->id && p->sent[to] < ROUNDS && !list_is_empty(&p->free[to])) {
            struct num *x = container_of(list_pop_head(&p->free[to]), struct num, msg.link);
            x->msg.type = MSG_PRODUCE;
            x->seq = p->sent[to]++;
            x->sum = (uint64_t)x->seq * 7 + p->id;
            mbox_send(p->mb, to, &x->msg);
            n++;
            if ((x->seq & 7) == 0)
                break; /* not always in full bursts */
        }
    }
    return n;
}

static void *peer_run(void *arg)
{
    struct peer *p = self = arg;
    bool told = false;
    while (finished < THREADS) {
        uint32_t moved = peer_send(p) + mbox_poll(p->mb, NULL, 16);
        if (!told && p->got_replies == ROUNDS * (THREADS - 1)) {
            told = true;
            finished++;
        }
        if (moved > 0 || told)
            continue;
        if (!mbox_sleep_prepare(p->mb)) {
            sched_yield();
            continue;
        }
        struct pollfd fd = {mbox_wake_fd(p->mb), POLLIN, 0};
        p->sleeps++;
        p->timeouts += poll(&fd, 1, 1000) == 0;
        mbox_sleep_done(p->mb);
    }
    return NULL;
}

static void run_peers(int pool, uint32_t sleeps_min)
{
    static struct peer peers[THREADS];
    memset(peers, 0, sizeof(peers));
    finished = 0;
    struct mbox_net *n = NULL;
    assert_ok(mbox_net_create(THREADS, 8, &n)); /* smaller than the pools: overflow happens */
    msg_handlers[MSG_PRODUCE] = (struct msg_handlers){peer_request, peer_reply};
    pthread_t t[THREADS];
    for (uint16_t i = 0; i < THREADS; i++) {
        peers[i].mb = mbox_of(n, i);
        peers[i].id = i;
        for (int to = 0; to < THREADS; to++) {
            list_init(&peers[i].free[to]);
            for (int k = 0; k < pool; k++)
                list_add_tail(&peers[i].free[to], &peers[i].pool[to][k].msg.link);
        }
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, peer_run, &peers[i]), 0);
    uint32_t sleeps = 0, timeouts = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        sleeps += peers[i].sleeps;
        timeouts += peers[i].timeouts;
    }
    printf("%u messages, %u sleeps\n", ROUNDS * THREADS * (THREADS - 1) * 2, sleeps);
    assert_int_equal(timeouts, 0);
    assert_true(sleeps >= sleeps_min);
    for (int i = 0; i < THREADS; i++)
        for (int from = 0; from < THREADS; from++)
            assert_int_equal(peers[i].next_in[from], from == i ? 0 : ROUNDS);
    mbox_net_destroy(n);
}

static void threads_that_sleep_lose_no_message_order_or_wake_up(void **state)
{
    run_peers(POOL, 0);
    run_peers(1, 100); /* ping-pong: asleep most of the time */
}

TEST_MAIN(TEST(more_messages_than_the_ring_holds_keep_their_order),
          TEST(a_message_to_oneself_is_handled_by_a_later_poll), TEST(no_sender_starves_another),
          TEST(a_send_to_a_sleeper_writes_its_eventfd_once),
          TEST(threads_that_sleep_lose_no_message_order_or_wake_up))
