/* test_sock_dgram.c - kernel UDP over loopback: bytes, addresses, losses, steering between shards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dataplane/net/sock_dgram.c"
#include "dataplane/net/sock_open.h"
#include "dataplane/shard/shard.h"
#include <linux/filter.h>
#include <stdio.h>

/* ---- a mailbox of this test's own: messages wait until pumped ---- */

struct mbox {
    uint16_t self;
};
static struct mbox boxes[4] = {{0}, {1}, {2}, {3}};
static struct dgram_handover *handovers[4];
static struct {
    struct msg *m;
    uint16_t to;
} posted[256];
static uint32_t posted_cnt;

void mbox_send(struct mbox *mb, uint16_t to, struct msg *m)
{
    assert_true(posted_cnt < 256);
    m->origin = mb->self;
    m->is_reply = 0;
    posted[posted_cnt].m = m;
    posted[posted_cnt++].to = to;
}

void msg_reply(struct mbox *mb, struct msg *m, int rc)
{
    m->is_reply = 1;
    m->rc = rc;
    assert_true(posted_cnt < 256);
    posted[posted_cnt].m = m;
    posted[posted_cnt++].to = m->origin;
}

static void mail_pump(void)
{
    for (uint32_t i = 0; i < posted_cnt; i++) { /* handlers may post more */
        struct msg *m = posted[i].m;
        assert_int_equal(m->type, MSG_DGRAMS);
        if (m->is_reply)
            dgram_handover_on_reply(handovers[posted[i].to], m);
        else
            dgram_handover_on_request(handovers[posted[i].to], m);
    }
    posted_cnt = 0;
}

/* ---- what is delivered ---- */

#define SEEN_MAX 4096
struct sink {
    uint16_t shard;
    uint32_t cnt;
    struct {
        uint16_t listener;
        struct net_addr peer;
        uint32_t len, seq;
        int64_t arrival_ms;
        bool truncated;
    } seen[SEEN_MAX];
};

static uint32_t sink_deliver(void *arg, uint16_t listener, const struct dgram *dg, uint32_t n)
{
    struct sink *k = arg;
    assert_in_range(n, 1, DGRAM_BURST_MAX);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(k->cnt < SEEN_MAX);
        k->seen[k->cnt].listener = listener;
        k->seen[k->cnt].peer = dg[i].peer;
        k->seen[k->cnt].len = dg[i].bytes.len;
        k->seen[k->cnt].arrival_ms = dg[i].arrival_ms;
        k->seen[k->cnt].truncated = dg[i].truncated;
        k->seen[k->cnt++].seq = dg[i].bytes.len >= 4 ? load_be32(dg[i].bytes.p) : UINT32_MAX;
    }
    return n;
}

static struct net_addr addr_of(const char *text)
{
    struct net_addr a;
    assert_int_equal(net_addr_parse(text, (uint32_t)strlen(text), &a), 0);
    return a;
}

static int sender_from(const char *ip_port, const struct net_addr *to)
{
    struct sockaddr_storage ss;
    struct net_addr from = addr_of(ip_port);
    socklen_t len = net_addr_to_sockaddr(&from, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    len = net_addr_to_sockaddr(to, &ss);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    return fd;
}

static void send_seq(int fd, uint32_t seq, uint32_t len)
{
    static uint8_t bytes[65536];
    store_be32(bytes, seq);
    assert_int_equal(send(fd, bytes, len, 0), len);
}

/* Datagrams that the sink will take; the others wait. */
static uint32_t room_left = UINT32_MAX;
static uint32_t sink_room(void *arg, uint32_t n)
{
    (void)arg;
    n = n < room_left ? n : room_left;
    room_left -= room_left == UINT32_MAX ? 0 : n;
    return n;
}

struct rig {
    struct uring *u;
    struct sock_dgrams *sd[2];
    struct sink *sink[2];
    struct net_addr at;
    uint32_t cnt;
    struct sock_opened opened;
};

static void rig_open(struct rig *r, const char *bind_to, uint32_t shards, uint32_t buf_cnt,
                     uint32_t payload_max, uint32_t rcvbuf)
{
    int fd[2];
    memset(r, 0, sizeof(*r));
    r->cnt = shards;
    struct net_addr a = addr_of(bind_to);
    struct sock_open_opts o = {.kind = SOCK_KIND_UDP, .cnt = shards, .rcvbuf_bytes = rcvbuf};
    assert_int_equal(sock_open_listeners(&a, &o, fd, &r->opened), 0);
    r->at = r->opened.bound;
    assert_int_not_equal(r->at.port, 0);
    assert_int_equal(uring_create(64, &r->u), 0);
    for (uint32_t i = 0; i < shards; i++) {
        r->sink[i] = calloc(1, sizeof(struct sink));
        assert_non_null(r->sink[i]);
        r->sink[i]->shard = (uint16_t)i;
        struct dgram_handover_cfg hc = {.mbox = &boxes[i],
                                        .shard = (uint16_t)i,
                                        .shard_cnt = (uint16_t)shards,
                                        .deliver = sink_deliver,
                                        .arg = r->sink[i]};
        assert_int_equal(dgram_handover_create(&hc, &handovers[i]), 0);
        struct sock_dgrams_cfg cfg = {.uring = r->u,
                                      .buf_group = (uint16_t)(10 + i),
                                      .buf_cnt = buf_cnt,
                                      .payload_max = payload_max,
                                      .handover = shards > 1 ? handovers[i] : NULL,
                                      .deliver = sink_deliver,
                                      .room = sink_room,
                                      .arg = r->sink[i]};
        assert_int_equal(sock_dgrams_create(&cfg, &r->sd[i]), 0);
        assert_int_equal(sock_dgrams_add(r->sd[i], 7, fd[i]), 0);
    }
}

static uint32_t rig_turn(struct rig *r)
{
    uint32_t n = 0;
    (void)uring_submit(r->u);
    if (uring_reap(r->u, 256) == 0)
        uring_wait(r->u, 1000000);
    (void)uring_reap(r->u, 256);
    for (uint32_t i = 0; i < r->cnt; i++)
        n += sock_dgrams_poll(r->sd[i], 1234567, 1000);
    mail_pump();
    for (uint32_t i = 0; i < r->cnt; i++) {
        sock_dgrams_turn_end(r->sd[i]);
        dgram_handover_turn_end(handovers[i]);
    }
    mail_pump();
    return n;
}

/* Turns until `total` datagrams were delivered, then a few more. */
static void rig_run(struct rig *r, uint32_t total)
{
    for (int i = 0; i < 5000; i++) {
        uint32_t have = r->sink[0]->cnt + (r->cnt > 1 ? r->sink[1]->cnt : 0);
        if (have >= total)
            break;
        (void)rig_turn(r);
    }
    for (int i = 0; i < 3; i++)
        (void)rig_turn(r);
    assert_int_equal(r->sink[0]->cnt + (r->cnt > 1 ? r->sink[1]->cnt : 0), total);
}

static void rig_close(struct rig *r)
{
    for (uint32_t i = 0; i < r->cnt; i++) {
        sock_dgrams_destroy(r->sd[i]);
        assert_int_equal(dgram_handover_in_flight(handovers[i]), 0);
        dgram_handover_destroy(handovers[i]);
        free(r->sink[i]);
    }
    assert_int_equal(uring_in_flight(r->u), 0);
    uring_destroy(r->u);
}

/* ---- claims ---- */

static void datagrams_arrive_whole_and_in_order(void **state)
{
    static const char *const binds[] = {"127.0.0.1:0", "[::1]:0", "*:0"};
    static const char *const froms[] = {"127.0.0.9:0", "[::1]:0", "127.0.0.9:0"};
    for (int i = 0; i < 3; i++) {
        struct rig r;
        rig_open(&r, binds[i], 1, 64, 2000, 0);
        if (i == 2)
            memcpy(r.at.ip, addr_of("127.0.0.1:0").ip, 16); /* any address: reach it by IPv4 */
        int fd = sender_from(froms[i], &r.at);
        for (uint32_t k = 0; k < 300; k++) {
            send_seq(fd, k, 4 + k);
            if (k % 50 == 49)
                rig_run(&r, k + 1);
        }
        struct net_addr from = addr_of(froms[i]);
        for (uint32_t k = 0; k < 300; k++) {
            assert_int_equal(r.sink[0]->seen[k].seq, k);
            assert_int_equal(r.sink[0]->seen[k].len, 4 + k);
            assert_int_equal(r.sink[0]->seen[k].listener, 7);
            assert_int_equal(r.sink[0]->seen[k].arrival_ms, 1234567);
            assert_false(r.sink[0]->seen[k].truncated);
            assert_memory_equal(r.sink[0]->seen[k].peer.ip, from.ip, 16);
        }
        const struct sock_dgram_stats *st = sock_dgrams_stats(r.sd[0], 7);
        assert_int_equal(st->received, 300);
        assert_int_equal(st->bytes, 300 * 4 + 299 * 300 / 2);
        assert_int_equal(st->kernel_drops + st->malformed + st->errors, 0);
        assert_null(sock_dgrams_stats(r.sd[0], 8));
        close(fd);
        rig_close(&r);
    }
}

static void empty_and_oversized_datagrams_are_told_apart(void **state)
{
    struct rig r;
    rig_open(&r, "127.0.0.1:0", 1, 16, 1000, 0);
    int fd = sender_from("127.0.0.1:0", &r.at);
    static const uint32_t len[] = {0, 1, 999, 1000, 1001, 60000, 5};
    for (size_t i = 0; i < 7; i++)
        send_seq(fd, 1, len[i]);
    rig_run(&r, 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(r.sink[0]->seen[i].len, len[i] > 1000 ? 1000 : len[i]);
        assert_int_equal(r.sink[0]->seen[i].truncated, len[i] > 1000);
    }
    assert_int_equal(sock_dgrams_stats(r.sd[0], 7)->truncated, 2);
    close(fd);
    rig_close(&r);
}

static void a_burst_larger_than_the_buffers_gets_through(void **state)
{
    struct rig r;
    rig_open(&r, "127.0.0.1:0", 1, 8, 200, 1 << 20);
    int fd = sender_from("127.0.0.1:0", &r.at);
    for (uint32_t k = 0; k < 100; k++)
        send_seq(fd, k, 100);
    rig_run(&r, 100);
    for (uint32_t k = 0; k < 100; k++)
        assert_int_equal(r.sink[0]->seen[k].seq, k);
    assert_true(sock_dgrams_stats(r.sd[0], 7)->nobuf > 0);
    close(fd);
    rig_close(&r);
}

static void without_room_datagrams_wait_in_the_socket_and_none_is_lost(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, "127.0.0.1:0", 1, 16, 512, 4 << 20);
    int fd = sender_from("127.0.0.1:0", &r.at);
    room_left = 5;
    for (uint32_t i = 0; i < 300; i++)
        send_seq(fd, i, 100);
    for (int i = 0; i < 50; i++)
        (void)rig_turn(&r);
    assert_int_equal(r.sink[0]->cnt, 5);
    assert_int_equal(sock_dgrams_stats(r.sd[0], 7)->received, 5);
    room_left = UINT32_MAX;
    rig_run(&r, 300);
    sock_dgrams_sync(r.sd[0]);
    assert_int_equal(sock_dgrams_stats(r.sd[0], 7)->kernel_drops, 0);
    close(fd);
    rig_close(&r);
}

static void what_the_kernel_dropped_is_counted_exactly(void **state)
{
    struct rig r;
    rig_open(&r, "127.0.0.1:0", 1, 8, 2000, 4096);
    assert_in_range(r.opened.rcvbuf_bytes, 1, 100000);
    int fd = sender_from("127.0.0.1:0", &r.at);
    uint32_t sent = 0;
    for (int round = 0; round < 5; round++) {
        for (uint32_t k = 0; k < 200; k++)
            send_seq(fd, sent++, 1000);
        for (int i = 0; i < 20; i++)
            (void)rig_turn(&r);
    }
    const struct sock_dgram_stats *st = sock_dgrams_stats(r.sd[0], 7);
    uint64_t seen_with_datagrams = st->kernel_drops;
    sock_dgrams_sync(r.sd[0]);
    assert_true(seen_with_datagrams > 0);
    assert_true(st->kernel_drops > seen_with_datagrams); /* those after the last datagram */
    assert_int_equal(st->received + st->kernel_drops, sent);
    sock_dgrams_sync(r.sd[0]);
    assert_int_equal(st->received + st->kernel_drops, sent);
    close(fd);
    rig_close(&r);
}

static void the_drop_counter_may_wrap(void **state)
{
    struct sock s = {.ovfl_last = UINT32_MAX - 5};
    ovfl_update(&s, UINT32_MAX - 1);
    assert_int_equal(s.st.kernel_drops, 4);
    ovfl_update(&s, 3);
    assert_int_equal(s.st.kernel_drops, 9);
    ovfl_update(&s, 3);
    ovfl_update(&s, UINT32_MAX); /* older, seen later */
    assert_int_equal(s.st.kernel_drops, 9);
}

static void one_source_is_always_on_one_shard(void **state)
{
    static const char *const binds[] = {"127.0.0.1:0", "*:0"};
    for (int i = 0; i < 2; i++) {
        struct rig r;
        uint32_t sent = 0, per_shard[2] = {0};
        rig_open(&r, binds[i], 2, 256, 500, 1 << 20);
        if (i == 1)
            memcpy(r.at.ip, addr_of("127.0.0.1:0").ip, 16);
        for (int src = 1; src <= 32; src++) {
            char from[40];
            snprintf(from, sizeof(from), "127.0.3.%d:0", src);
            for (int port = 0; port < 3; port++) { /* whatever the port */
                int fd = sender_from(from, &r.at);
                for (int k = 0; k < 5; k++)
                    send_seq(fd, sent++, 50);
                close(fd);
            }
            rig_run(&r, sent);
        }
        for (uint16_t shard = 0; shard < 2; shard++) {
            const struct sink *k = r.sink[shard];
            per_shard[shard] = k->cnt;
            for (uint32_t j = 0; j < k->cnt; j++)
                assert_int_equal(source_shard(&k->seen[j].peer, 2), shard);
        }
        assert_true(per_shard[0] > 0);
        assert_true(per_shard[1] > 0);
        if (r.opened.steered) /* the filter and source_shard() are the same function */
            assert_int_equal(dgram_handover_stats(handovers[0])->sent +
                                 dgram_handover_stats(handovers[1])->sent,
                             0);
        rig_close(&r);
    }
}

static void without_steering_shards_hand_over_and_keep_order(void **state)
{
    struct rig r;
    uint32_t sent = 0;
    rig_open(&r, "127.0.0.1:0", 2, 256, 500, 1 << 20);
    /* A filter that sends everything to socket 0, as a kernel without ours might. */
    struct sock_filter f[] = {{BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog prog = {.len = 1, .filter = f};
    assert_int_equal(
        setsockopt(r.sd[0]->socks[0].fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)),
        0);
    int fd[8];
    for (int i = 0; i < 8; i++) {
        char from[40];
        snprintf(from, sizeof(from), "127.0.4.%d:0", i + 1);
        fd[i] = sender_from(from, &r.at);
    }
    for (int k = 0; k < 60; k++) {
        for (int i = 0; i < 8; i++)
            send_seq(fd[i], sent++, 60);
        if (k % 10 == 9)
            rig_run(&r, sent);
    }
    for (uint16_t shard = 0; shard < 2; shard++) {
        uint32_t last[256] = {0};
        const struct sink *k = r.sink[shard];
        assert_true(k->cnt > 0);
        for (uint32_t j = 0; j < k->cnt; j++) {
            uint8_t src = k->seen[j].peer.ip[15];
            assert_int_equal(source_shard(&k->seen[j].peer, 2), shard);
            assert_true(k->seen[j].seq + 1 > last[src]);
            last[src] = k->seen[j].seq + 1;
        }
    }
    assert_int_equal(dgram_handover_stats(handovers[0])->sent, r.sink[1]->cnt);
    assert_int_equal(dgram_handover_stats(handovers[1])->received, r.sink[1]->cnt);
    for (int i = 0; i < 8; i++)
        close(fd[i]);
    rig_close(&r);
}

static void without_free_messages_datagrams_are_dropped_and_counted(void **state)
{
    static struct sink sink;
    static uint8_t bytes[2000];
    struct dgram dg[6];
    struct dgram_handover *h;
    struct dgram_handover_cfg cfg = {.mbox = &boxes[0],
                                     .shard = 0,
                                     .shard_cnt = 2,
                                     .msg_cnt = 2,
                                     .msg_bytes = 1000,
                                     .deliver = sink_deliver,
                                     .arg = &sink};
    assert_int_equal(dgram_handover_create(&cfg, &h), 0);
    handovers[0] = handovers[1] = h;
    uint32_t n = 0;
    for (uint8_t i = 1; n < 6; i++) {
        uint8_t ip[4] = {10, 0, 0, i};
        struct net_addr a = net_addr_v4(ip, 1);
        if (source_shard(&a, 2) == (n == 2 ? 0 : 1)) /* number 2 is our own */
            dg[n++] = (struct dgram){.bytes = span_of(bytes, 400), .peer = a};
    }
    dg[3].bytes.len = 1001; /* larger than any message */
    assert_int_equal(dgram_handover_split(h, 7, dg, 6), 1);
    assert_int_equal(dg[0].peer.port, 1);
    assert_int_equal(source_shard(&dg[0].peer, 2), 0);
    /* 0 and 1 fill a message, 4 and 5 the second */
    assert_int_equal(dgram_handover_stats(h)->sent, 4);
    assert_int_equal(dgram_handover_stats(h)->dropped, 1);
    assert_int_equal(dgram_handover_stats(h)->dropped_bytes, 1001);
    assert_int_equal(dgram_handover_in_flight(h), 2);
    mail_pump();
    assert_int_equal(sink.cnt, 4);
    dgram_handover_turn_end(h);
    mail_pump();
    assert_int_equal(dgram_handover_in_flight(h), 0);
    dgram_handover_destroy(h);
}

static void a_port_in_use_is_an_error_also_for_groups(void **state)
{
    for (int kind = SOCK_KIND_TCP; kind <= SOCK_KIND_UDP; kind++) {
        struct net_addr any = addr_of("127.0.0.1:0");
        struct sock_open_opts o = {.kind = (enum sock_kind)kind, .cnt = 3};
        struct sock_opened first, second;
        int fd[3], fd2[3];
        assert_int_equal(sock_open_listeners(&any, &o, fd, &first), 0);
        assert_int_equal(sock_open_listeners(&first.bound, &o, fd2, &second), -EADDRINUSE);
        o.cnt = 1;
        assert_int_equal(sock_open_listeners(&first.bound, &o, fd2, &second), -EADDRINUSE);
        for (int i = 0; i < 3; i++)
            close(fd[i]);
        assert_int_equal(sock_open_listeners(&first.bound, &o, fd2, &second), 0);
        assert_true(net_addr_eq(&first.bound, &second.bound));
        close(fd2[0]);
        struct net_addr foreign = addr_of("192.0.2.1:0");
        assert_int_equal(sock_open_listeners(&foreign, &o, fd2, &second), -EADDRNOTAVAIL);
    }
}

static void malformed_completions_are_refused(void **state)
{
    uint8_t buf[HEAD_LEN + 10] = {0};
    struct dgram dg;
    bool has_ovfl;
    uint32_t ovfl;
    for (uint32_t len = 0; len < HEAD_LEN; len++)
        assert_false(dgram_parse(buf, len, &dg, &has_ovfl, &ovfl));
    assert_false(dgram_parse(buf, sizeof(buf), &dg, &has_ovfl, &ovfl)); /* no address */
    struct io_uring_recvmsg_out out = {.namelen = 1000, .payloadlen = 10};
    memcpy(buf, &out, sizeof(out));
    assert_false(dgram_parse(buf, sizeof(buf), &dg, &has_ovfl, &ovfl));
}

static void drain_delivers_what_the_kernel_has_and_counts_what_comes_later(void **state)
{
    struct rig r;
    rig_open(&r, "127.0.0.1:0", 1, 16, 500, 1 << 20);
    int fd = sender_from("127.0.0.1:0", &r.at);
    send_seq(fd, 1, 10);
    rig_run(&r, 1);
    for (uint32_t i = 2; i <= 100; i++) /* many times the buffers: most wait in the kernel */
        send_seq(fd, i, 10);
    sock_dgrams_drain(r.sd[0]);
    assert_false(sock_dgrams_is_drained(r.sd[0]));
    for (int i = 0; i < 7; i++)
        send_seq(fd, 1000, 10);
    for (int i = 0; i < 1000 && !sock_dgrams_is_drained(r.sd[0]); i++)
        (void)rig_turn(&r);
    assert_true(sock_dgrams_is_drained(r.sd[0]));
    assert_int_equal(r.sink[0]->cnt, 100);
    assert_int_equal(sock_dgrams_stats(r.sd[0], 7)->kernel_drops, 7);
    (void)send(fd, "x", 1, 0); /* may be refused: nobody listens */
    for (int i = 0; i < 5; i++)
        (void)rig_turn(&r);
    assert_int_equal(r.sink[0]->cnt, 100);
    close(fd);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams_arrive_whole_and_in_order),
        cmocka_unit_test(empty_and_oversized_datagrams_are_told_apart),
        cmocka_unit_test(a_burst_larger_than_the_buffers_gets_through),
        cmocka_unit_test(without_room_datagrams_wait_in_the_socket_and_none_is_lost),
        cmocka_unit_test(what_the_kernel_dropped_is_counted_exactly),
        cmocka_unit_test(the_drop_counter_may_wrap),
        cmocka_unit_test(one_source_is_always_on_one_shard),
        cmocka_unit_test(without_steering_shards_hand_over_and_keep_order),
        cmocka_unit_test(without_free_messages_datagrams_are_dropped_and_counted),
        cmocka_unit_test(a_port_in_use_is_an_error_also_for_groups),
        cmocka_unit_test(malformed_completions_are_refused),
        cmocka_unit_test(drain_delivers_what_the_kernel_has_and_counts_what_comes_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
