/* test_net_uring.c - what only kernel sockets do: shared ports, running out of descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dataplane/net/net_uring.h"
#include "dataplane/net/sock_open.h"
#include "lib/base/clock.h"
#include "lib/iface/net_addr.h"
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct uring *u;
static struct net *nets[2];

static void open_nets(void)
{
    assert_int_equal(uring_create(64, &u), 0);
    for (uint16_t i = 0; i < 2; i++) {
        struct net_uring_cfg cfg = {.uring = u,
                                    .shard = i,
                                    .nshards = 2,
                                    .buf_group = i,
                                    .conn_max = 64,
                                    .buf_cnt = 16,
                                    .buf_size = 4096,
                                    .now_ns = clock_mono_ns()};
        assert_int_equal(net_uring_create(&cfg, &nets[i]), 0);
    }
}

static void close_nets(void)
{
    nets[0]->ops->destroy(nets[0]);
    nets[1]->ops->destroy(nets[1]);
    assert_int_equal(uring_in_flight(u), 0);
    uring_destroy(u);
}

/* One turn of both; events of `what` are counted per net. */
static void turn(uint32_t what, uint32_t cnt[2])
{
    struct net_ev ev[16];
    (void)uring_submit(u);
    if (uring_reap(u, 256) == 0)
        uring_wait(u, 1000000);
    for (int i = 0; i < 2; i++) {
        int n = nets[i]->ops->poll(nets[i], clock_mono_ns(), ev, 16, 64);
        for (int j = 0; j < n; j++)
            cnt[i] += (ev[j].what & what) != 0;
    }
}

static int dial(const struct net_addr *to)
{
    struct sockaddr_storage ss;
    socklen_t len = net_addr_to_sockaddr(to, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    return fd;
}

static struct net_addr loopback(void)
{
    static const uint8_t lo[4] = {127, 0, 0, 1};
    return net_addr_v4(lo, 0);
}

static void shards_share_one_port(void **state)
{
    struct net_addr any = loopback(), at0, at1;
    struct sock_open_opts o = {.kind = SOCK_KIND_TCP, .cnt = 2};
    struct sock_opened opened;
    int fd[2], client[40];
    uint32_t accepts[2] = {0};
    open_nets();
    assert_int_equal(sock_open_listeners(&any, &o, fd, &opened), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(net_uring_listen_fd(nets[i], fd[i], NULL), 0);
    assert_int_equal(nets[0]->ops->listener_addr(nets[0], 0, &at0), 0);
    assert_int_equal(nets[1]->ops->listener_addr(nets[1], 0, &at1), 0);
    assert_true(net_addr_eq(&at0, &at1));
    assert_true(net_addr_eq(&at0, &opened.bound));
    for (int i = 0; i < 40; i++)
        client[i] = dial(&at0);
    for (int i = 0; i < 2000 && accepts[0] + accepts[1] < 40; i++)
        turn(NET_EV_ACCEPT, accepts);
    assert_int_equal(accepts[0] + accepts[1], 40);
    assert_true(accepts[0] > 0); /* 40 equal: 2^-39 */
    assert_true(accepts[1] > 0);
    for (int i = 0; i < 40; i++)
        close(client[i]);
    close_nets();
}

static void out_of_descriptors_is_counted_and_survived(void **state)
{
    struct net_addr any = loopback(), at;
    struct rlimit was, low;
    uint32_t accepts[2] = {0};
    open_nets();
    assert_int_equal(nets[0]->ops->listen(nets[0], &any, 16, NULL), 0);
    assert_int_equal(nets[0]->ops->listener_addr(nets[0], 0, &at), 0);
    turn(NET_EV_ACCEPT, accepts);
    int client = dial(&at), lowest = dup(client);
    assert_true(lowest >= 0);
    close(lowest); /* the number that accept would get */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = was;
    low.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 5000 && nets[0]->st.accept_errors == 0; i++)
        turn(NET_EV_ACCEPT, accepts);
    uint64_t errors = nets[0]->st.accept_errors;
    uint32_t accepts_before = accepts[0];
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    if (accepts_before == 0) /* (the connection may have been accepted before the limit fell) */
        assert_true(errors > 0);
    for (int i = 0; i < 5000 && accepts[0] == 0; i++)
        turn(NET_EV_ACCEPT, accepts);
    assert_int_equal(accepts[0], 1);
    close(client);
    close_nets();
}

static void unix_sockets_are_served_too(void **state)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/sluice-net-XXXXXX";
    uint32_t seen[2] = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", dir);
    int lfd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(lfd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    assert_int_equal(listen(lfd, 4), 0);
    open_nets();
    assert_int_equal(net_uring_listen_fd(nets[0], lfd, NULL), 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&sun, sizeof(sun)), 0);
    assert_int_equal(write(client, "hello", 5), 5);
    for (int i = 0; i < 2000 && seen[0] == 0; i++)
        turn(NET_EV_RX, seen);
    assert_int_equal(seen[0], 1);
    assert_int_equal(nets[0]->st.rx_bytes, 5);
    close(client);
    close_nets();
    unlink(sun.sun_path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_share_one_port),
        cmocka_unit_test(out_of_descriptors_is_counted_and_survived),
        cmocka_unit_test(unix_sockets_are_served_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
