/* test_transport_conformance.c - what every backend of transport.h promises, checked by the same
 * code against each row of backends[]. A rig is two nets: [SRV] listens, [CLI] connects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dataplane/io/uring.h"
#include "dataplane/net/conn_id.h"
#include "dataplane/net/net_sim.h"
#include "dataplane/net/net_uring.h"
#include "lib/base/clock.h"
#include "lib/iface/net_addr.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLI, SRV };
#define LOG_MAX 65536

struct logged {
    int net;
    struct net_ev ev;
};

struct rig_opts {
    uint32_t conn_max, buf_cnt, buf_size, tx_segs_max;
    struct sim_cfg sim;
};

struct rig {
    const struct backend *be;
    struct net *net[2];
    uint64_t now, t0;
    struct logged *log;
    uint32_t log_cnt;
    struct sim_world *world;
    struct uring *uring;
    struct net_addr at; /* where SRV listens */
};

struct backend {
    const char *name;
    bool virtual_time;
    void (*setup)(struct rig *r, const struct rig_opts *o);
    void (*step)(struct rig *r);
    void (*teardown)(struct rig *r);
};

/* ---- the two backends ---- */

static void sim_setup(struct rig *r, const struct rig_opts *o)
{
    struct sim_cfg cfg = o->sim;
    if (cfg.seed == 0)
        cfg.seed = 1;
    cfg.conn_max = o->conn_max;
    cfg.tx_segs_max = o->tx_segs_max;
    assert_int_equal(sim_world_create(&cfg, &r->world), 0);
    assert_int_equal(net_sim_create(r->world, 3, 5, &r->net[SRV]), 0);
    assert_int_equal(net_sim_create(r->world, 4, 5, &r->net[CLI]), 0);
    r->now = 1000000000;
}

static void sim_step(struct rig *r)
{
    r->now += 1000000;
}

static void sim_teardown(struct rig *r)
{
    sim_world_destroy(r->world);
}

static void uring_setup(struct rig *r, const struct rig_opts *o)
{
    struct net_uring_cfg cfg = {.shard = 3,
                                .nshards = 5,
                                .buf_group = 1,
                                .conn_max = o->conn_max,
                                .buf_cnt = o->buf_cnt,
                                .buf_size = o->buf_size,
                                .tx_segs_max = o->tx_segs_max};
    assert_int_equal(uring_create(256, &r->uring), 0);
    cfg.uring = r->uring;
    r->now = clock_mono_ns();
    cfg.now_ns = r->now;
    assert_int_equal(net_uring_create(&cfg, &r->net[SRV]), 0);
    cfg.shard = 4;
    cfg.buf_group = 2;
    assert_int_equal(net_uring_create(&cfg, &r->net[CLI]), 0);
}

static void uring_step(struct rig *r)
{
    uint64_t ms = 1000000;
    for (int i = 0; i < 2; i++)
        if (r->net[i] != NULL && r->net[i]->ops->next_deadline(r->net[i]) == 0)
            ms = 0;
    (void)uring_submit(r->uring);
    if (uring_reap(r->uring, 512) == 0 && ms != 0)
        uring_wait(r->uring, ms);
    (void)uring_reap(r->uring, 512);
    r->now = clock_mono_ns();
}

static void uring_teardown(struct rig *r)
{
    assert_int_equal(uring_in_flight(r->uring), 0);
    uring_destroy(r->uring);
}

static const struct backend backends[] = {
    {"sim", true, sim_setup, sim_step, sim_teardown},
    {"uring", false, uring_setup, uring_step, uring_teardown},
};

/* ---- driving a rig ---- */

static void rig_poll(struct rig *r)
{
    struct net_ev ev[16];
    r->be->step(r);
    for (int i = 0; i < 2; i++) {
        if (r->net[i] == NULL)
            continue;
        int n = r->net[i]->ops->poll(r->net[i], r->now, ev, 16, 64);
        assert_in_range(n, 0, 16);
        for (int j = 0; j < n; j++) {
            assert_true(r->log_cnt < LOG_MAX);
            r->log[r->log_cnt++] = (struct logged){i, ev[j]};
        }
    }
}

static void rig_open_opts(struct rig *r, const struct backend *be, const struct rig_opts *o,
                          const struct conn_opts *srv_opts)
{
    static const uint8_t lo[4] = {127, 0, 0, 1};
    memset(r, 0, sizeof(*r));
    r->be = be;
    r->log = calloc(LOG_MAX, sizeof(*r->log));
    assert_non_null(r->log);
    be->setup(r, o);
    r->t0 = r->now;
    struct net_addr any = net_addr_v4(lo, 0);
    int lid = r->net[SRV]->ops->listen(r->net[SRV], &any, 64, srv_opts);
    assert_int_equal(lid, 0);
    assert_int_equal(r->net[SRV]->ops->listener_addr(r->net[SRV], lid, &r->at), 0);
    assert_int_not_equal(r->at.port, 0);
    rig_poll(r);
}

static const struct rig_opts plain = {
    .conn_max = 64, .buf_cnt = 64, .buf_size = 16384, .tx_segs_max = 1024};

static void rig_open(struct rig *r, const struct backend *be)
{
    rig_open_opts(r, be, &plain, NULL);
}

static void rig_close(struct rig *r)
{
    for (int i = 0; i < 2; i++)
        if (r->net[i] != NULL)
            r->net[i]->ops->destroy(r->net[i]);
    r->be->teardown(r);
    free(r->log);
}

/* Time allowed for something that must happen: generous, machines are slow. */
static bool rig_timed_out(const struct rig *r, uint64_t since)
{
    return r->now - since > UINT64_C(20000000000);
}

static const struct net_ev *find_ev(const struct rig *r, int net, conn_id id, uint32_t what,
                                    uint32_t from)
{
    for (uint32_t i = from; i < r->log_cnt; i++)
        if (r->log[i].net == net && (id == CONN_NONE || r->log[i].ev.conn == id) &&
            (r->log[i].ev.what & what) != 0)
            return &r->log[i].ev;
    return NULL;
}

/* The first such event since log position `from`; fails the test when it does not come. */
static struct net_ev wait_from(struct rig *r, int net, conn_id id, uint32_t what, uint32_t from)
{
    uint64_t since = r->now;
    for (;;) {
        const struct net_ev *ev = find_ev(r, net, id, what, from);
        if (ev != NULL)
            return *ev;
        if (rig_timed_out(r, since))
            fail_msg("%s: no event %#x", r->be->name, what);
        rig_poll(r);
    }
}

static struct net_ev wait_ev(struct rig *r, int net, conn_id id, uint32_t what)
{
    return wait_from(r, net, id, what, 0);
}

static uint32_t count_ev(const struct rig *r, int net, conn_id id, uint32_t what)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->log_cnt; i++)
        n += r->log[i].net == net && r->log[i].ev.conn == id && (r->log[i].ev.what & what) != 0;
    return n;
}

static void settle(struct rig *r, uint32_t polls)
{
    while (polls-- > 0)
        rig_poll(r);
}

static void pair_open(struct rig *r, const struct conn_opts *cli_opts, conn_id *ret_cli,
                      conn_id *ret_srv)
{
    uint32_t from = r->log_cnt;
    assert_int_equal(r->net[CLI]->ops->connect(r->net[CLI], &r->at, cli_opts, ret_cli), 0);
    (void)wait_from(r, CLI, *ret_cli, NET_EV_CONNECT, from);
    *ret_srv = wait_from(r, SRV, CONN_NONE, NET_EV_ACCEPT, from).conn;
}

/* ---- bytes ---- */

static uint32_t tbufs_live;

static void tbuf_drop(struct buf *b)
{
    tbufs_live--;
    free(b);
}

static struct buf *tbuf_new(uint32_t len, uint8_t fill)
{
    struct buf *b = calloc(1, sizeof(*b) + len);
    assert_non_null(b);
    *b = (struct buf){
        .refs = 1, .kind = BUF_HEAP, .base = (uint8_t *)(b + 1), .cap = len, .drop = tbuf_drop};
    memset(b->base, fill, len);
    tbufs_live++;
    return b;
}

/* Send len bytes of one value; the reference is the transport's alone. */
static int send_fill(struct rig *r, int net, conn_id id, uint32_t len, uint8_t fill,
                     uint64_t cookie)
{
    struct buf *b = tbuf_new(len, fill);
    struct bytes_ref ref = {b, 0, len};
    int rc = r->net[net]->ops->send(r->net[net], id, &ref, 1, cookie, 0);
    buf_put(b);
    return rc;
}

/* Take and credit everything unread; sum and count of it. */
static uint32_t drain_rx(struct rig *r, int net, conn_id id, uint8_t *last)
{
    struct bytes_ref ref[8];
    uint32_t total = 0;
    for (;;) {
        int n = r->net[net]->ops->rx_peek(r->net[net], id, ref, 8);
        if (n <= 0)
            return total;
        uint32_t len = 0;
        for (int i = 0; i < n; i++) {
            len += ref[i].len;
            *last = seg_ptr(&ref[i])[ref[i].len - 1];
        }
        assert_int_equal(r->net[net]->ops->rx_take(r->net[net], id, len, NULL, 0), 0);
        r->net[net]->ops->rx_credit(r->net[net], id, len);
        total += len;
    }
}

static void recv_exactly(struct rig *r, int net, conn_id id, uint32_t len)
{
    uint64_t since = r->now;
    uint8_t last;
    uint32_t got = 0;
    while ((got += drain_rx(r, net, id, &last)) < len) {
        if (rig_timed_out(r, since))
            fail_msg("%s: %u of %u bytes", r->be->name, got, len);
        rig_poll(r);
    }
    assert_int_equal(got, len);
}

/* ---- claims ---- */

static void bytes_go_both_ways(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    struct bytes_ref ref[4];
    struct conn_info ci, si;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(conn_id_shard(c), 4);
    assert_int_equal(conn_id_shard(s), 3);
    assert_int_equal(r.net[CLI]->ops->info(r.net[CLI], c, &ci), 0);
    assert_int_equal(r.net[SRV]->ops->info(r.net[SRV], s, &si), 0);
    assert_true(net_addr_eq(&ci.local, &si.peer));
    assert_true(net_addr_eq(&ci.peer, &si.local));

    int user = 0;
    r.net[SRV]->ops->set_user(r.net[SRV], s, &user);
    assert_int_equal(send_fill(&r, CLI, c, 5, 'x', 0), 0);
    assert_ptr_equal(wait_ev(&r, SRV, s, NET_EV_RX).user, &user);
    uint32_t got = 0;
    while (got < 5) { /* echo by reference: no copy between the two directions */
        int n = r.net[SRV]->ops->rx_peek(r.net[SRV], s, ref, 4);
        assert_true(n >= 0);
        if (n > 0) {
            assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, ref[0].len, ref, 4), 1);
            assert_int_equal(seg_ptr(&ref[0])[0], 'x');
            assert_int_equal(r.net[SRV]->ops->send(r.net[SRV], s, ref, 1, 0, 0), 0);
            r.net[SRV]->ops->rx_credit(r.net[SRV], s, ref[0].len);
            got += ref[0].len;
            buf_put(ref[0].b);
        }
        rig_poll(&r);
    }
    assert_int_equal(got, 5);
    recv_exactly(&r, CLI, c, 5);
    assert_int_equal(r.net[SRV]->ops->info(r.net[SRV], s, &si), 0);
    assert_int_equal(si.rx_bytes, 5);
    rig_close(&r);
}

static void take_moves_parts_of_buffers(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    struct bytes_ref ref[4];
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 100, 7, 0), 0);
    uint64_t since = r.now;
    for (uint32_t have = 0; have < 100;) {
        have = 0;
        int n = r.net[SRV]->ops->rx_peek(r.net[SRV], s, ref, 4);
        for (int i = 0; i < n; i++)
            have += ref[i].len;
        assert_false(rig_timed_out(&r, since));
        rig_poll(&r);
    }
    assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, 101, NULL, 0), -NET_EINVAL);
    assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, 30, ref, 0), -NET_EINVAL);
    assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, 30, ref, 1), 1);
    assert_int_equal(ref[0].len, 30);
    struct bytes_ref rest;
    assert_int_equal(r.net[SRV]->ops->rx_peek(r.net[SRV], s, &rest, 1), 1);
    assert_int_equal(rest.len, 70);
    assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, 70, NULL, 0), 0);
    assert_int_equal(seg_ptr(&ref[0])[29], 7); /* the part taken outlives the queue */
    buf_put(ref[0].b);
    assert_int_equal(r.net[SRV]->ops->rx_peek(r.net[SRV], s, &rest, 1), 0);
    rig_close(&r);
}

static void send_is_all_or_nothing_and_room_is_announced(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    const struct conn_opts small = {.tx_high = 200000, .tx_low = 50000};
    const struct conn_opts srv = {.rx_window = 65536};
    rig_open_opts(&r, be, &plain, &srv);
    pair_open(&r, &small, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 0, 1, 0), -NET_EINVAL);
    /* The reader does not credit: sooner or later the queue stays full. */
    uint32_t taken = 0;
    int rc = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        rc = send_fill(&r, CLI, c, 60000, 1, 0);
        if (rc == 0)
            taken += 60000;
        else
            assert_int_equal(rc, -NET_EAGAIN);
        if (i % 16 == 15)
            rig_poll(&r);
        if (rc < 0 && i > 200)
            break;
    }
    assert_int_equal(rc, -NET_EAGAIN);
    assert_true(r.net[CLI]->ops->tx_room(r.net[CLI], c) < 60000);
    uint32_t from = r.log_cnt;
    uint64_t since = r.now;
    uint32_t got = 0;
    uint8_t last;
    while (got < taken) {
        got += drain_rx(&r, SRV, s, &last);
        rig_poll(&r);
        assert_false(rig_timed_out(&r, since));
    }
    assert_int_equal(got, taken); /* what was refused never arrives */
    (void)wait_from(&r, CLI, c, NET_EV_TX_ROOM, from);
    settle(&r, 3);
    assert_int_equal(r.net[CLI]->ops->tx_room(r.net[CLI], c), 200000);
    assert_int_equal(send_fill(&r, CLI, c, 900000, 2, 0), 0); /* larger than tx_high, queue empty */
    recv_exactly(&r, SRV, s, 900000);
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void without_credit_the_peer_is_stopped(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    struct conn_info info;
    const struct conn_opts srv = {.rx_window = 65536};
    const struct conn_opts cli = {.tx_high = 64u << 20};
    rig_open_opts(&r, be, &plain, &srv);
    pair_open(&r, &cli, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 48u << 20, 3, 99), 0);
    settle(&r, 50);
    assert_int_equal(r.net[SRV]->ops->info(r.net[SRV], s, &info), 0);
    uint64_t stopped_at = info.rx_bytes;
    assert_true(stopped_at >= 65536);
    assert_true(stopped_at <= 65536 + 64 * 16384); /* the window, and at most all buffers */
    settle(&r, 20);
    assert_int_equal(r.net[SRV]->ops->info(r.net[SRV], s, &info), 0);
    assert_int_equal(info.rx_bytes, stopped_at);
    assert_int_equal(info.rx_charged, stopped_at);
    assert_null(find_ev(&r, CLI, c, NET_EV_TX_DONE, 0));
    /* Taking alone does not open the window; crediting does. */
    assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, (uint32_t)stopped_at, NULL, 0), 0);
    settle(&r, 10);
    assert_int_equal(r.net[SRV]->ops->info(r.net[SRV], s, &info), 0);
    assert_int_equal(info.rx_bytes, stopped_at);
    r.net[SRV]->ops->rx_credit(r.net[SRV], s, (uint32_t)stopped_at);
    recv_exactly(&r, SRV, s, (48u << 20) - (uint32_t)stopped_at);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_TX_DONE).cookie, 99);
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void half_close_leaves_the_other_direction_open(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 1000, 1, 0), 0);
    assert_int_equal(r.net[CLI]->ops->shutdown_tx(r.net[CLI], c), 0);
    assert_int_equal(r.net[CLI]->ops->shutdown_tx(r.net[CLI], c), -NET_ECLOSED);
    assert_int_equal(send_fill(&r, CLI, c, 1, 1, 0), -NET_ECLOSED);
    (void)wait_ev(&r, SRV, s, NET_EV_RX_EOF);
    recv_exactly(&r, SRV, s, 1000); /* the bytes before the FIN are all there */
    assert_int_equal(send_fill(&r, SRV, s, 70000, 2, 0), 0);
    recv_exactly(&r, CLI, c, 70000);
    assert_int_equal(count_ev(&r, SRV, s, NET_EV_RX_EOF), 1);
    assert_int_equal(count_ev(&r, CLI, c, NET_EV_RX_EOF), 0);
    assert_int_equal(r.net[SRV]->ops->close(r.net[SRV], s, 5000), 0);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, 0);
    (void)wait_ev(&r, CLI, c, NET_EV_RX_EOF);
    assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c, 5000), 0);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_CLOSED).err, 0);
    rig_close(&r);
}

static void closed_comes_once_and_last_and_the_handle_is_stale(const struct backend *be)
{
    struct rig r;
    conn_id c, s, c2, s2;
    struct bytes_ref ref;
    struct conn_info info;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 3000, 1, 5), 0);
    assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c, 5000), 0);
    assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c, 5000), -NET_ECLOSED);
    (void)wait_ev(&r, SRV, s, NET_EV_RX_EOF);
    recv_exactly(&r, SRV, s, 3000);
    assert_int_equal(r.net[SRV]->ops->close(r.net[SRV], s, 5000), 0);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_CLOSED).err, 0);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, 0);
    pair_open(&r, NULL, &c2, &s2); /* may use the same slots */
    settle(&r, 5);
    for (int i = 0; i < 2; i++) {
        conn_id id = i == CLI ? c : s;
        struct net *n = r.net[i];
        assert_int_equal(count_ev(&r, i, id, NET_EV_CLOSED), 1);
        bool closed = false;
        for (uint32_t j = 0; j < r.log_cnt; j++) {
            if (r.log[j].net != i || r.log[j].ev.conn != id)
                continue;
            assert_false(closed);
            closed = r.log[j].ev.what == NET_EV_CLOSED;
        }
        assert_int_equal(n->ops->rx_peek(n, id, &ref, 1), -NET_ESTALE);
        assert_int_equal(n->ops->rx_take(n, id, 0, NULL, 0), -NET_ESTALE);
        assert_int_equal(send_fill(&r, i, id, 1, 1, 0), -NET_ESTALE);
        assert_int_equal(n->ops->tx_room(n, id), 0);
        assert_int_equal(n->ops->shutdown_tx(n, id), -NET_ESTALE);
        assert_int_equal(n->ops->close(n, id, 0), -NET_ESTALE);
        assert_int_equal(n->ops->abort(n, id), -NET_ESTALE);
        assert_int_equal(n->ops->info(n, id, &info), -NET_ESTALE);
        n->ops->rx_credit(n, id, 1); /* ignored */
        n->ops->set_user(n, id, &r);
    }
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void abort_resets_the_peer(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(r.net[CLI]->ops->abort(r.net[CLI], c), 0);
    assert_int_equal(send_fill(&r, CLI, c, 1, 1, 0), -NET_ECLOSED);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_CLOSED).err, NET_EABORTED);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, NET_ERESET);
    assert_int_equal(r.net[SRV]->conn_cnt, 0);
    rig_close(&r);
}

static void bytes_announced_before_a_reset_can_be_read(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    uint8_t last = 0;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 4096, 9, 1), 0);
    (void)wait_ev(&r, SRV, s, NET_EV_RX);
    assert_int_equal(r.net[CLI]->ops->abort(r.net[CLI], c), 0);
    uint32_t got = 0;
    uint64_t since = r.now;
    while (find_ev(&r, SRV, s, NET_EV_CLOSED, 0) == NULL) {
        if (find_ev(&r, SRV, s, NET_EV_RX, 0) != NULL)
            got += drain_rx(&r, SRV, s, &last);
        rig_poll(&r);
        assert_false(rig_timed_out(&r, since));
    }
    assert_true(got > 0);
    assert_int_equal(last, 9);
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void close_with_unread_input_resets(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 4096, 9, 0), 0);
    (void)wait_ev(&r, SRV, s, NET_EV_RX);
    assert_int_equal(r.net[SRV]->ops->close(r.net[SRV], s, 0), 0);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, 0);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_CLOSED).err, NET_ERESET);
    rig_close(&r);
}

static void lingering_close_flushes_while_input_is_thrown_away(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, SRV, s, 600000, 4, 0), 0); /* the last answer */
    assert_int_equal(r.net[SRV]->ops->close(r.net[SRV], s, 20000), 0);
    for (int i = 0; i < 10; i++) /* the client still has something to say */
        assert_int_equal(send_fill(&r, CLI, c, 30000, 5, 0), 0);
    recv_exactly(&r, CLI, c, 600000);
    (void)wait_ev(&r, CLI, c, NET_EV_RX_EOF);
    assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c, 20000), 0);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_CLOSED).err, 0);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, 0);
    assert_null(find_ev(&r, SRV, s, NET_EV_RX, 0));
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void linger_ends_even_if_the_peer_does_not_read(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    const struct conn_opts cli = {.rx_window = 65536};
    const struct conn_opts srv = {.tx_high = 64u << 20};
    rig_open_opts(&r, be, &plain, &srv);
    pair_open(&r, &cli, &c, &s);
    assert_int_equal(send_fill(&r, SRV, s, 48u << 20, 4, 1), 0);
    uint64_t since = r.now;
    assert_int_equal(r.net[SRV]->ops->close(r.net[SRV], s, 60), 0);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, NET_ETIMEDOUT);
    assert_true(r.now - since >= 55000000u);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).cookie, 0);
    assert_null(find_ev(&r, SRV, s, NET_EV_TX_DONE, 0));
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void silence_ends_a_connection_with_an_idle_limit(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    const struct conn_opts srv = {.idle_ms = 80};
    rig_open_opts(&r, be, &plain, &srv);
    pair_open(&r, NULL, &c, &s);
    uint64_t spoke = r.now;
    for (int i = 0; i < 4; i++) { /* speaking keeps it alive */
        uint64_t until = r.now + 40000000;
        while (r.now < until)
            rig_poll(&r);
        if (find_ev(&r, SRV, s, NET_EV_CLOSED, 0) != NULL) {
            assert_false(be->virtual_time); /* a loaded machine may have slept over it */
            rig_close(&r);
            return;
        }
        assert_int_equal(send_fill(&r, CLI, c, 1, 1, 0), 0);
        spoke = r.now;
    }
    assert_true(r.net[SRV]->ops->next_deadline(r.net[SRV]) != UINT64_MAX);
    assert_int_equal(wait_ev(&r, SRV, s, NET_EV_CLOSED).err, NET_ETIMEDOUT);
    assert_true(r.now - spoke >= 70000000);
    if (be->virtual_time)
        assert_true(r.now - spoke <= 90000000);
    assert_int_equal(wait_ev(&r, CLI, c, NET_EV_CLOSED).err, NET_ERESET);
    rig_close(&r);
}

static void nobody_listening_is_refused(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    r.net[SRV]->ops->drain(r.net[SRV]);
    settle(&r, 3);
    conn_id c2;
    assert_int_equal(r.net[CLI]->ops->connect(r.net[CLI], &r.at, NULL, &c2), 0);
    assert_int_equal(wait_ev(&r, CLI, c2, NET_EV_CLOSED).err, NET_EREFUSED);
    assert_int_equal(count_ev(&r, CLI, c2, NET_EV_CONNECT), 0);
    /* Drained: what is open lives on. */
    assert_int_equal(send_fill(&r, CLI, c, 10, 1, 0), 0);
    recv_exactly(&r, SRV, s, 10);
    rig_close(&r);
}

/* A peer that connects, sends and ends before its ACCEPT was fetched: the user's pointer, which is
 * set on ACCEPT, comes with all the rest. */
static void an_accept_comes_alone_before_what_follows_it(const struct backend *be)
{
    struct rig r;
    conn_id c;
    struct net_ev ev[16];
    rig_open(&r, be);
    struct net *srv = r.net[SRV];
    r.net[SRV] = NULL; /* only run below, and asked for no events */
    assert_int_equal(r.net[CLI]->ops->connect(r.net[CLI], &r.at, NULL, &c), 0);
    uint64_t since = r.now;
    bool sent = false;
    for (int calm = 0; calm < 20;) {
        rig_poll(&r);
        assert_int_equal(srv->ops->poll(srv, r.now, ev, 16, 0), 0);
        if (!sent && find_ev(&r, CLI, c, NET_EV_CONNECT, 0) != NULL) {
            assert_int_equal(send_fill(&r, CLI, c, 5, 'x', 0), 0);
            assert_int_equal(r.net[CLI]->ops->shutdown_tx(r.net[CLI], c), 0);
            sent = true;
        }
        calm += srv->st.rx_bytes == 5;
        assert_false(rig_timed_out(&r, since));
    }
    assert_int_equal(srv->ops->poll(srv, r.now, ev, 16, 64), 1);
    assert_int_equal(ev[0].what, NET_EV_ACCEPT);
    int user = 0;
    srv->ops->set_user(srv, ev[0].conn, &user);
    r.net[SRV] = srv;
    assert_ptr_equal(wait_ev(&r, SRV, ev[0].conn, NET_EV_RX).user, &user);
    assert_ptr_equal(wait_ev(&r, SRV, ev[0].conn, NET_EV_RX_EOF).user, &user);
    recv_exactly(&r, SRV, ev[0].conn, 5);
    rig_close(&r);
}

static void an_address_in_use_is_said_precisely(const struct backend *be)
{
    struct rig r;
    rig_open(&r, be);
    assert_int_equal(r.net[SRV]->ops->listen(r.net[SRV], &r.at, 64, NULL), -EADDRINUSE);
    struct net_addr none;
    assert_int_equal(r.net[SRV]->ops->listener_addr(r.net[SRV], 17, &none), -EINVAL);
    struct net_addr any = r.at;
    any.port = 0; /* a second listener has its own number */
    int lid = r.net[SRV]->ops->listen(r.net[SRV], &any, 64, NULL);
    assert_int_equal(lid, 1);
    assert_int_equal(r.net[SRV]->ops->listener_addr(r.net[SRV], lid, &any), 0);
    conn_id c;
    assert_int_equal(r.net[CLI]->ops->connect(r.net[CLI], &any, NULL, &c), 0);
    assert_int_equal(wait_ev(&r, SRV, CONN_NONE, NET_EV_ACCEPT).listener, 1);
    rig_close(&r);
}

static void tx_done_comes_in_the_order_of_sends(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    const struct conn_opts cli = {.tx_high = 16u << 20};
    rig_open(&r, be);
    pair_open(&r, &cli, &c, &s);
    uint64_t next = 1;
    uint32_t total = 0;
    struct buf *b = tbuf_new(50000, 6);
    for (uint64_t i = 1; i <= 200; i++) {
        struct bytes_ref ref[3] = {{b, 0, 1000}, {b, 7, 0}, {b, 2000, (uint32_t)(i * 100)}};
        /* every third one is not asked about */
        uint64_t cookie = i % 3 == 0 ? 0 : i;
        uint32_t flags = i % 5 == 0 ? NET_SEND_MORE : 0;
        assert_int_equal(r.net[CLI]->ops->send(r.net[CLI], c, ref, 3, cookie, flags), 0);
        total += 1000 + (uint32_t)(i * 100);
    }
    buf_put(b);
    recv_exactly(&r, SRV, s, total);
    (void)wait_from(&r, CLI, c, NET_EV_TX_DONE, 0);
    settle(&r, 40);
    for (uint32_t i = 0; i < r.log_cnt; i++) {
        if (r.log[i].net != CLI || (r.log[i].ev.what & NET_EV_TX_DONE) == 0)
            continue;
        assert_int_equal(r.log[i].ev.what, NET_EV_TX_DONE);
        assert_int_equal(r.log[i].ev.cookie, next);
        next += (next + 1) % 3 == 0 ? 2 : 1;
    }
    assert_int_equal(next, 202); /* 200 was the last cookie, 201 would not be one */
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static uint64_t rnd_state;
static uint32_t rnd(uint32_t n)
{
    rnd_state ^= rnd_state << 13;
    rnd_state ^= rnd_state >> 7;
    rnd_state ^= rnd_state << 17;
    return (uint32_t)((rnd_state >> 16) % n);
}

/* Streams both ways at once, random pieces, random reading: every byte is pos * 31 + direction. */
static void random_transfers_keep_every_byte(const struct backend *be)
{
    for (uint64_t seed = 1; seed <= (be->virtual_time ? 20 : 4); seed++) {
        struct rig r;
        conn_id id[2];
        struct rig_opts o = plain;
        o.sim = (struct sim_cfg){.seed = seed,
                                 .delay_min_ns = 100000,
                                 .delay_max_ns = 5000000,
                                 .chunk_max = 9000,
                                 .wire_max = 30000};
        const struct conn_opts co = {.rx_window = 40000, .tx_high = 100000};
        rnd_state = seed * 77777;
        rig_open_opts(&r, be, &o, &co);
        pair_open(&r, &co, &id[CLI], &id[SRV]);
        enum { TOTAL = 1500000 };
        uint32_t sent[2] = {0}, got[2] = {0}, held[2] = {0};
        uint64_t since = r.now;
        while (got[0] < TOTAL || got[1] < TOTAL) {
            for (int i = 0; i < 2; i++) {
                struct net *n = r.net[i];
                uint32_t len = 1 + rnd(20000);
                if (len > TOTAL - sent[i])
                    len = TOTAL - sent[i];
                if (len > 0) {
                    struct buf *b = tbuf_new(len, 0);
                    for (uint32_t k = 0; k < len; k++)
                        b->base[k] = (uint8_t)((sent[i] + k) * 31 + (uint32_t)i);
                    uint32_t cut = rnd(len + 1);
                    struct bytes_ref ref[2] = {{b, 0, cut}, {b, cut, len - cut}};
                    if (n->ops->send(n, id[i], ref, 2, 0, 0) == 0)
                        sent[i] += len;
                    buf_put(b);
                }
                struct bytes_ref rx[3];
                int cnt = n->ops->rx_peek(n, id[i], rx, 3);
                assert_true(cnt >= 0);
                uint32_t have = 0;
                for (int j = 0; j < cnt; j++)
                    have += rx[j].len;
                uint32_t take = rnd(have + 1), checked = 0;
                cnt = n->ops->rx_take(n, id[i], take, rx, 3);
                for (int j = 0; j < cnt; j++) {
                    for (uint32_t k = 0; k < rx[j].len; k++)
                        if (seg_ptr(&rx[j])[k] !=
                            (uint8_t)((got[i] + checked + k) * 31 + (uint32_t)(1 - i)))
                            fail_msg("%s seed %d: wrong byte", be->name, (int)seed);
                    checked += rx[j].len;
                    buf_put(rx[j].b);
                }
                assert_int_equal(checked, take);
                got[i] += take;
                held[i] += take;
                if (rnd(3) == 0) {
                    n->ops->rx_credit(n, id[i], held[i]);
                    held[i] = 0;
                }
            }
            rig_poll(&r);
            assert_false(rig_timed_out(&r, since));
        }
        rig_close(&r);
        assert_int_equal(tbufs_live, 0);
    }
}

static void many_connections_come_and_go(const struct backend *be)
{
    struct rig r;
    struct rig_opts o = plain;
    enum { N = 200, ROUNDS = 3 };
    o.conn_max = N;
    o.buf_cnt = 32; /* far fewer buffers than connections */
    o.buf_size = 2048;
    rig_open_opts(&r, be, &o, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        conn_id c[N], s[N];
        for (int i = 0; i < N; i++)
            pair_open(&r, NULL, &c[i], &s[i]);
        assert_int_equal(r.net[SRV]->conn_cnt, N);
        for (int i = 0; i < N; i++)
            assert_int_equal(send_fill(&r, CLI, c[i], 3000 + (uint32_t)i, (uint8_t)i, 0), 0);
        for (int i = 0; i < N; i++)
            recv_exactly(&r, SRV, s[i], 3000 + (uint32_t)i);
        r.log_cnt = 0;
        for (int i = 0; i < N; i++)
            assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c[i], 10000), 0);
        for (int i = 0; i < N; i++) {
            (void)wait_ev(&r, SRV, s[i], NET_EV_RX_EOF);
            assert_int_equal(r.net[SRV]->ops->close(r.net[SRV], s[i], 10000), 0);
        }
        for (int i = 0; i < N; i++) {
            assert_int_equal(wait_ev(&r, CLI, c[i], NET_EV_CLOSED).err, 0);
            assert_int_equal(wait_ev(&r, SRV, s[i], NET_EV_CLOSED).err, 0);
        }
        assert_int_equal(r.net[SRV]->conn_cnt, 0);
    }
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void past_conn_max_connections_are_refused_and_counted(const struct backend *be)
{
    struct rig r;
    struct rig_opts o = plain;
    o.conn_max = 4;
    rig_open_opts(&r, be, &o, NULL);
    conn_id c[5], s[4];
    for (int i = 0; i < 4; i++)
        pair_open(&r, NULL, &c[i], &s[i]);
    assert_int_equal(r.net[CLI]->ops->connect(r.net[CLI], &r.at, NULL, &c[4]), -NET_ENOMEM);
    /* A slot that was freed can be used again. */
    assert_int_equal(r.net[CLI]->ops->abort(r.net[CLI], c[0]), 0);
    (void)wait_ev(&r, CLI, c[0], NET_EV_CLOSED);
    (void)wait_ev(&r, SRV, s[0], NET_EV_CLOSED);
    pair_open(&r, NULL, &c[0], &s[0]);
    /* Now the client has room and the server has not: it holds a connection to itself. */
    for (int i = 1; i < 4; i++)
        assert_int_equal(r.net[CLI]->ops->abort(r.net[CLI], c[i]), 0);
    for (int i = 1; i < 4; i++)
        (void)wait_ev(&r, SRV, s[i], NET_EV_CLOSED);
    conn_id own[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(r.net[SRV]->ops->connect(r.net[SRV], &r.at, NULL, &own[i]), 0);
    for (int i = 0; i < 3; i++) /* three slots for three clients: their other ends find none */
        assert_int_equal(wait_ev(&r, SRV, own[i], NET_EV_CLOSED).err, NET_ERESET);
    assert_true(r.net[SRV]->st.accept_refused >= 1);
    assert_int_equal(send_fill(&r, CLI, c[0], 10, 1, 0), 0); /* the one that is in is well */
    recv_exactly(&r, SRV, s[0], 10);
    rig_close(&r);
}

static void received_bytes_outlive_their_connection(const struct backend *be)
{
    struct rig r;
    conn_id c, s;
    struct bytes_ref ref;
    rig_open(&r, be);
    pair_open(&r, NULL, &c, &s);
    assert_int_equal(send_fill(&r, CLI, c, 100, 42, 0), 0);
    (void)wait_ev(&r, SRV, s, NET_EV_RX);
    assert_int_equal(r.net[SRV]->ops->rx_peek(r.net[SRV], s, &ref, 1), 1);
    assert_int_equal(r.net[SRV]->ops->rx_take(r.net[SRV], s, ref.len, &ref, 1), 1);
    assert_int_equal(r.net[SRV]->ops->abort(r.net[SRV], s), 0);
    (void)wait_ev(&r, SRV, s, NET_EV_CLOSED);
    assert_int_equal(seg_ptr(&ref)[ref.len - 1], 42);
    buf_put(ref.b);
    rig_close(&r);
}

/* Half-received messages hold every buffer, yet further input gets through. */
static void unread_bytes_do_not_starve_other_connections(const struct backend *be)
{
    struct rig r;
    struct rig_opts o = plain;
    enum { N = 40 };
    o.buf_cnt = 8;
    o.buf_size = 2048;
    rig_open_opts(&r, be, &o, NULL);
    conn_id c[N], s[N];
    for (int i = 0; i < N; i++) {
        pair_open(&r, NULL, &c[i], &s[i]);
        assert_int_equal(send_fill(&r, CLI, c[i], 10, (uint8_t)i, 0), 0);
    }
    for (int i = 0; i < N; i++)
        (void)wait_ev(&r, SRV, s[i], NET_EV_RX); /* seen, and left unread */
    for (int i = 0; i < N; i++)
        assert_int_equal(send_fill(&r, CLI, c[i], 5000, (uint8_t)i, 0), 0);
    for (int i = N - 1; i >= 0; i--)
        recv_exactly(&r, SRV, s[i], 5010);
    rig_close(&r);
}

static void destroying_live_connections_leaks_nothing(const struct backend *be)
{
    struct rig r;
    conn_id c[6], s[6], half;
    const struct conn_opts srv = {.rx_window = 65536};
    const struct conn_opts cli = {.tx_high = 8u << 20};
    rig_open_opts(&r, be, &plain, &srv);
    for (int i = 0; i < 6; i++)
        pair_open(&r, &cli, &c[i], &s[i]);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(send_fill(&r, CLI, c[i], 6u << 20, 1, 77), 0);
        assert_int_equal(send_fill(&r, SRV, s[i], 6u << 20, 1, 78), 0);
    }
    assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c[1], 5000), 0);
    assert_int_equal(r.net[CLI]->ops->abort(r.net[CLI], c[2]), 0);
    assert_int_equal(r.net[CLI]->ops->shutdown_tx(r.net[CLI], c[3]), 0);
    rig_poll(&r);
    assert_int_equal(r.net[CLI]->ops->connect(r.net[CLI], &r.at, NULL, &half), 0);
    assert_int_equal(r.net[CLI]->ops->close(r.net[CLI], c[4], 0), 0);
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
}

static void few_send_entries_are_shared_by_waking_waiters(const struct backend *be)
{
    struct rig r;
    struct rig_opts o = plain;
    o.tx_segs_max = 8;
    rig_open_opts(&r, be, &o, NULL);
    conn_id c[4], s[4];
    uint32_t sent[4] = {0}, got[4] = {0};
    bool wait[4] = {false};
    for (int i = 0; i < 4; i++)
        pair_open(&r, NULL, &c[i], &s[i]);
    uint64_t since = r.now;
    uint32_t seen = r.log_cnt;
    uint8_t last;
    for (bool all = false; !all;) {
        all = true;
        for (int i = 0; i < 4; i++) {
            while (!wait[i] && sent[i] < 100) {
                int rc = send_fill(&r, CLI, c[i], 1000, 1, sent[i] + 1);
                if (rc == 0)
                    sent[i]++;
                else
                    wait[i] = true;
                if (rc < 0)
                    assert_int_equal(rc, -NET_EAGAIN);
            }
            got[i] += drain_rx(&r, SRV, s[i], &last);
            all &= got[i] == 100000;
        }
        rig_poll(&r);
        for (; seen < r.log_cnt; seen++)
            for (int i = 0; i < 4; i++)
                if (r.log[seen].net == CLI && r.log[seen].ev.conn == c[i] &&
                    (r.log[seen].ev.what & NET_EV_TX_ROOM) != 0)
                    wait[i] = false;
        assert_false(rig_timed_out(&r, since));
    }
    rig_close(&r);
}

/* ---- sim only ---- */

static uint64_t sim_run_digest(uint64_t seed)
{
    struct rig r;
    struct rig_opts o = plain;
    o.sim = (struct sim_cfg){.seed = seed,
                             .delay_min_ns = 1000,
                             .delay_max_ns = 9000000,
                             .chunk_max = 5000,
                             .reset_ppm = 3000};
    rig_open_opts(&r, &backends[0], &o, NULL);
    uint64_t digest = 0;
    conn_id c[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(r.net[CLI]->ops->connect(r.net[CLI], &r.at, NULL, &c[i]), 0);
    for (int t = 0; t < 400; t++) {
        rig_poll(&r);
        if (t % 10 == 5)
            for (int i = 0; i < 8; i++)
                (void)send_fill(&r, CLI, c[i], 20000, 1, (uint64_t)t);
        for (uint32_t j = 0; j < r.log_cnt; j++) {
            uint8_t last = 0;
            if (r.log[j].net == SRV && (r.log[j].ev.what & NET_EV_RX) != 0)
                digest = digest * 31 + drain_rx(&r, SRV, r.log[j].ev.conn, &last);
            digest = digest * 31 + r.log[j].ev.conn + r.log[j].ev.what + r.log[j].ev.cookie;
        }
        r.log_cnt = 0;
    }
    digest = digest * 31 + r.net[CLI]->st.resets;
    rig_close(&r);
    assert_int_equal(tbufs_live, 0);
    return digest;
}

static void the_simulated_network_repeats_by_seed(void **state)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        assert_true(sim_run_digest(seed) == sim_run_digest(seed));
    assert_true(sim_run_digest(1) != sim_run_digest(2));
}

/* The kernel completes connections by itself: who has one at the drain may have sent already. */
static void who_connected_before_the_drain_is_served(void **state)
{
    struct rig r;
    int fd[3];
    struct sockaddr_storage ss;
    rig_open(&r, &backends[1]);
    socklen_t len = net_addr_to_sockaddr(&r.at, &ss);
    for (int i = 0; i < 3; i++) {
        fd[i] = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd[i], (struct sockaddr *)&ss, len), 0);
        assert_int_equal(send(fd[i], "hello", 5, 0), 5);
    }
    r.net[SRV]->ops->drain(r.net[SRV]);
    for (uint64_t since = r.now; r.net[SRV]->listening > 0; rig_poll(&r))
        assert_false(rig_timed_out(&r, since));
    assert_int_equal(r.net[SRV]->conn_cnt, 3);
    settle(&r, 3);
    uint32_t served = 0;
    for (uint32_t i = 0; i < r.log_cnt; i++) {
        if (r.log[i].net != SRV || r.log[i].ev.what != NET_EV_ACCEPT)
            continue;
        recv_exactly(&r, SRV, r.log[i].ev.conn, 5);
        served++;
    }
    assert_int_equal(served, 3);
    int late = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&ss, len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    (void)close(late);
    for (int i = 0; i < 3; i++)
        (void)close(fd[i]);
    rig_close(&r);
}

/* ---- main ---- */

typedef void claim_fn(const struct backend *be);
static const struct {
    const char *name;
    claim_fn *fn;
} claims[] = {
#define CLAIM(f)                                                                                   \
    {                                                                                              \
#f, f                                                                                      \
    }
    CLAIM(bytes_go_both_ways),
    CLAIM(take_moves_parts_of_buffers),
    CLAIM(send_is_all_or_nothing_and_room_is_announced),
    CLAIM(without_credit_the_peer_is_stopped),
    CLAIM(half_close_leaves_the_other_direction_open),
    CLAIM(closed_comes_once_and_last_and_the_handle_is_stale),
    CLAIM(abort_resets_the_peer),
    CLAIM(bytes_announced_before_a_reset_can_be_read),
    CLAIM(close_with_unread_input_resets),
    CLAIM(lingering_close_flushes_while_input_is_thrown_away),
    CLAIM(linger_ends_even_if_the_peer_does_not_read),
    CLAIM(silence_ends_a_connection_with_an_idle_limit),
    CLAIM(nobody_listening_is_refused),
    CLAIM(an_accept_comes_alone_before_what_follows_it),
    CLAIM(an_address_in_use_is_said_precisely),
    CLAIM(tx_done_comes_in_the_order_of_sends),
    CLAIM(random_transfers_keep_every_byte),
    CLAIM(many_connections_come_and_go),
    CLAIM(past_conn_max_connections_are_refused_and_counted),
    CLAIM(received_bytes_outlive_their_connection),
    CLAIM(unread_bytes_do_not_starve_other_connections),
    CLAIM(destroying_live_connections_leaks_nothing),
    CLAIM(few_send_entries_are_shared_by_waking_waiters),
};
#define CLAIM_CNT (sizeof(claims) / sizeof(claims[0]))
#define BACKEND_CNT (sizeof(backends) / sizeof(backends[0]))

struct run {
    const struct backend *be;
    claim_fn *fn;
};

static void run_one(void **state)
{
    const struct run *run = *state;
    tbufs_live = 0;
    run->fn(run->be);
}

int main(void)
{
    static struct run runs[CLAIM_CNT * BACKEND_CNT];
    static struct CMUnitTest tests[CLAIM_CNT * BACKEND_CNT + 2];
    static char names[CLAIM_CNT * BACKEND_CNT][120];
    size_t n = 0;
    for (size_t b = 0; b < BACKEND_CNT; b++) {
        for (size_t i = 0; i < CLAIM_CNT; i++) {
            runs[n] = (struct run){&backends[b], claims[i].fn};
            snprintf(names[n], sizeof(names[n]), "%s: %s", backends[b].name, claims[i].name);
            tests[n] = (struct CMUnitTest){
                .name = names[n], .test_func = run_one, .initial_state = &runs[n]};
            n++;
        }
    }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_simulated_network_repeats_by_seed);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(who_connected_before_the_drain_is_served);
    return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
