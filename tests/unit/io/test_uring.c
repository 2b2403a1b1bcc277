/* io_uring on real pipes, sockets and a thread that is not the creator. */
#include "dataplane/io/uring.c"
#include "tests/support/test.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct probe {
    struct uring_op op;
    int res, buf_id, runs;
    bool more;
};

static void probe_done(struct uring_op *op, int res, int buf_id, bool more)
{
    struct probe *p = (struct probe *)op;
    p->res = res;
    p->buf_id = buf_id;
    p->more = more;
    p->runs++;
}
#define PROBE ((struct probe){.op = {probe_done}})

static struct uring *ring_new(uint32_t entries)
{
    struct uring *u;
    assert_int_equal(uring_create(entries, &u), 0);
    return u;
}

/* Reap until the probe has run `runs` times; the test's time limit ends a hang. */
static void reap_until(struct uring *u, struct probe *p, int runs)
{
    while (p->runs < runs) {
        uring_submit(u);
        if (uring_reap(u, 64) == 0)
            uring_wait(u, 10000000);
    }
}

static void done_never_runs_inside_the_prepare_call(void **state)
{
    struct uring *u = ring_new(4);
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    struct probe p[32];
    for (int i = 0; i < 32; i++) { /* eight times the submission queue */
        p[i] = PROBE;
        uring_write(u, &p[i].op, fd[1], "x", 1, UINT64_MAX);
        for (int j = 0; j <= i; j++)
            assert_int_equal(p[j].runs, 0);
    }
    assert_int_equal(uring_in_flight(u), 32);
    for (int i = 0; i < 32; i++)
        reap_until(u, &p[i], 1);
    for (int i = 0; i < 32; i++)
        assert_int_equal(p[i].res, 1);
    assert_int_equal(uring_in_flight(u), 0);
    close(fd[0]);
    close(fd[1]);
    uring_destroy(u);
}

static void reap_respects_its_budget(void **state)
{
    struct uring *u = ring_new(32);
    struct probe p[10];
    for (int i = 0; i < 10; i++) {
        p[i] = PROBE;
        uring_close(u, &p[i].op, -1);
    }
    assert_int_equal(uring_submit(u), 10);
    assert_int_equal(uring_submit(u), 0);
    uint32_t n = 0, calls = 0;
    while (n < 10) {
        uint32_t k = uring_reap(u, 3);
        assert_true(k <= 3);
        n += k;
        calls++;
    }
    assert_true(calls >= 4);
    for (int i = 0; i < 10; i++)
        assert_int_equal(p[i].res, -EBADF);
    uring_destroy(u);
}

static void more_completions_than_the_queue_holds_are_not_lost(void **state)
{
    struct uring *u = ring_new(2); /* 8 completion slots */
    static struct probe p[200];
    for (int i = 0; i < 200; i++) {
        p[i] = PROBE;
        uring_close(u, &p[i].op, -1);
    }
    uring_submit(u);
    for (int i = 0; i < 200; i++)
        reap_until(u, &p[i], 1);
    for (int i = 0; i < 200; i++)
        assert_int_equal(p[i].runs, 1);
    assert_int_equal(uring_in_flight(u), 0);
    uring_destroy(u);
}

static void wait_returns_at_the_timeout_and_at_a_completion(void **state)
{
    struct uring *u = ring_new(8);
    int ev = eventfd(0, EFD_NONBLOCK);
    struct probe p = PROBE;
    uring_poll_multishot(u, &p.op, ev, POLLIN);
    uint64_t t0 = clock_mono_ns();
    uring_wait(u, 20000000);
    assert_true(clock_mono_ns() - t0 >= 19000000);
    assert_int_equal(uring_reap(u, 8), 0);
    for (int i = 1; i <= 3; i++) { /* every write is seen, though nobody reads the eventfd */
        assert_int_equal(eventfd_write(ev, 1), 0);
        uring_wait(u, 2000000000);
        assert_int_equal(uring_reap(u, 8), 1);
        assert_int_equal(p.runs, i);
        assert_true(p.more);
    }
    assert_int_equal(uring_in_flight(u), 1);
    assert_int_equal(uring_quiesce(u, 1000000000), 0);
    assert_int_equal(p.res, -ECANCELED);
    assert_false(p.more);
    close(ev);
    uring_destroy(u);
}

static void cancel_ends_the_target_and_answers_itself(void **state)
{
    struct uring *u = ring_new(8);
    int ev = eventfd(0, EFD_NONBLOCK);
    struct probe p = PROBE, c = PROBE, none = PROBE;
    uring_poll_multishot(u, &p.op, ev, POLLIN);
    uring_cancel(u, &c.op, &p.op);
    reap_until(u, &c, 1);
    reap_until(u, &p, 1);
    assert_int_equal(p.res, -ECANCELED);
    assert_true(c.res >= 0);
    uring_cancel(u, &none.op, &p.op); /* nothing left under that name */
    reap_until(u, &none, 1);
    assert_true(none.res == 0 || none.res == -ENOENT);
    uring_cancel(u, NULL, &p.op);
    assert_int_equal(uring_quiesce(u, 1000000000), 0);
    close(ev);
    uring_destroy(u);
}

static void tcp_pair(struct uring *u, int *listener, int *client, struct probe *accepted)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    *listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(*listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(*listener, 8), 0);
    assert_int_equal(getsockname(*listener, (struct sockaddr *)&sa, &len), 0);
    uring_accept_multishot(u, &accepted->op, *listener);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    struct probe c = PROBE;
    uring_connect(u, &c.op, *client, (struct sockaddr *)&sa, sizeof(sa));
    reap_until(u, &c, 1);
    assert_int_equal(c.res, 0);
    reap_until(u, accepted, 1);
    assert_true(accepted->res >= 0);
    assert_true(accepted->more);
}

static void multishot_receive_uses_provided_buffers_and_ends_without_them(void **state)
{
    struct uring *u = ring_new(16);
    struct probe accepted = PROBE, rx = PROBE, tx = PROBE, sh = PROBE;
    int listener, client;
    tcp_pair(u, &listener, &client, &accepted);
    int server = accepted.res;
    struct uring_bufs *b, *again;
    assert_int_equal(uring_bufs_create(u, 7, 4, 256, &b), 0);
    assert_int_equal(uring_bufs_create(u, 7, 4, 256, &again), -EEXIST);
    uring_recv_multishot(u, &rx.op, server, 7);
    struct iovec iov = {(void *)(uintptr_t) "hello", 5};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    int held[4];
    for (int i = 0; i < 4; i++) {
        tx = PROBE;
        uring_sendmsg(u, &tx.op, client, &mh, 0);
        reap_until(u, &tx, 1);
        assert_int_equal(tx.res, 5);
        reap_until(u, &rx, i + 1);
        assert_int_equal(rx.res, 5);
        assert_true(rx.more);
        assert_in_range(rx.buf_id, 0, 3);
        assert_memory_equal(uring_bufs_ptr(b, rx.buf_id), "hello", 5);
        held[i] = rx.buf_id;
    }
    tx = PROBE; /* the fifth finds no buffer */
    uring_sendmsg(u, &tx.op, client, &mh, 0);
    reap_until(u, &tx, 1);
    reap_until(u, &rx, 5);
    assert_int_equal(rx.res, -ENOBUFS);
    assert_false(rx.more);
    for (int i = 0; i < 4; i++)
        uring_bufs_give_back(b, held[i]);
    uring_recv_multishot(u, &rx.op, server, 7);
    reap_until(u, &rx, 6);
    assert_int_equal(rx.res, 5);
    uring_bufs_give_back(b, rx.buf_id);
    uring_shutdown(u, &sh.op, client, SHUT_WR);
    reap_until(u, &rx, 7);
    assert_int_equal(rx.res, 0);
    assert_false(rx.more);
    assert_int_equal(uring_quiesce(u, 1000000000), 0);
    uring_bufs_destroy(b);
    close(server);
    close(client);
    close(listener);
    uring_destroy(u);
}

static void recvmsg_multishot_tells_the_peer(void **state)
{
    struct uring *u = ring_new(16);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int rx_fd = socket(AF_INET, SOCK_DGRAM, 0), tx_fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(rx_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(getsockname(rx_fd, (struct sockaddr *)&sa, &len), 0);
    struct uring_bufs *b;
    assert_int_equal(uring_bufs_create(u, 1, 8, 512, &b), 0);
    struct probe rx = PROBE;
    struct msghdr mh = {.msg_namelen = sizeof(struct sockaddr_in)};
    uring_recvmsg_multishot(u, &rx.op, rx_fd, &mh, 1);
    uring_submit(u);
    assert_int_equal(sendto(tx_fd, "abc", 3, 0, (struct sockaddr *)&sa, sizeof(sa)), 3);
    reap_until(u, &rx, 1);
    struct io_uring_recvmsg_out *out =
        io_uring_recvmsg_validate(uring_bufs_ptr(b, rx.buf_id), rx.res, &mh);
    assert_non_null(out);
    assert_int_equal(out->namelen, sizeof(struct sockaddr_in));
    assert_int_equal(out->payloadlen, 3);
    assert_int_equal(uring_quiesce(u, 1000000000), 0);
    uring_bufs_destroy(b);
    close(rx_fd);
    close(tx_fd);
    uring_destroy(u);
}

static void *run_elsewhere(void *arg)
{
    struct uring *u = arg;
    struct probe p = PROBE;
    uring_close(u, &p.op, -1);
    reap_until(u, &p, 1);
    return p.res == -EBADF ? arg : NULL;
}

static void a_ring_built_by_one_thread_belongs_to_the_thread_that_first_submits(void **state)
{
    struct uring *u = ring_new(8);
    struct uring_bufs *b;
    assert_int_equal(uring_bufs_create(u, 1, 8, 64, &b), 0); /* the builder prepares buffers too */
    pthread_t t;
    void *ok;
    assert_int_equal(pthread_create(&t, NULL, run_elsewhere, u), 0);
    pthread_join(t, &ok);
    assert_ptr_equal(ok, u);
    uring_bufs_destroy(b);
    uring_destroy(u);
}

static void every_mode_that_an_older_kernel_would_grant_works(void **state)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct uring *u = calloc(1, sizeof(*u));
        struct io_uring_params p = {.flags = modes[i] | IORING_SETUP_R_DISABLED};
        assert_int_equal(io_uring_queue_init_params(8, &u->ring, &p), 0);
        struct probe pr = PROBE;
        uring_close(u, &pr.op, -1);
        reap_until(u, &pr, 1);
        int ev = eventfd(0, EFD_NONBLOCK);
        struct probe poll = PROBE;
        uring_poll_multishot(u, &poll.op, ev, POLLIN);
        uring_submit(u);
        eventfd_write(ev, 1);
        while (poll.runs == 0) /* by peeking alone */
            uring_reap(u, 8);
        assert_int_equal(uring_quiesce(u, 1000000000), 0);
        close(ev);
        uring_destroy(u);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(done_never_runs_inside_the_prepare_call),
        cmocka_unit_test(reap_respects_its_budget),
        cmocka_unit_test(more_completions_than_the_queue_holds_are_not_lost),
        cmocka_unit_test(wait_returns_at_the_timeout_and_at_a_completion),
        cmocka_unit_test(cancel_ends_the_target_and_answers_itself),
        cmocka_unit_test(multishot_receive_uses_provided_buffers_and_ends_without_them),
        cmocka_unit_test(recvmsg_multishot_tells_the_peer),
        cmocka_unit_test(a_ring_built_by_one_thread_belongs_to_the_thread_that_first_submits),
        cmocka_unit_test(every_mode_that_an_older_kernel_would_grant_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
