/* net_uring.c - see net_uring.h.
 *
 * A connection has at most one operation of each kind in flight: receive (multishot), send, and
 * "misc" (connect, then shutdown, then close). `ops` counts them.
 *
 *     CONNECTING --on_misc: connected--> UP --kill--> DYING --ops == 0--> closing fd --> DEAD
 *                                        ^ accept
 * kill() decides the reason, cancels what is in flight; the last completion closes the descriptor
 * and its completion makes the connection DEAD: so CLOSED comes after every other completion.
 *
 * Sending: the send queue is the truth. A sendmsg carries its first views; whatever number of bytes
 * it reports is retired and the rest sent again. So it is harmless to extend the vector of a
 * request that was prepared but possibly not yet submitted: the kernel sees more, or it does not.
 */
#include "dataplane/net/net_uring.h"
#include "dataplane/net/conn.h"
#include "dataplane/net/sock_open.h"
#include "lib/base/assert.h"
#include "lib/base/timer.h"
#include "lib/iface/net_addr.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOV_MAX_SEND 32
#define SEND_BYTES_MAX (256u << 10) /* of one operation: the kernel copies them within a turn */
#define ACCEPT_RETRY_NS UINT64_C(100000000)
#define STARVED_RETRY_NS UINT64_C(1000000)
#define STARVED_POLLS_BEFORE_COPY 2
#define NS_PER_MS UINT64_C(1000000)

struct nu_net;

struct nu_buf {       /* one provided buffer */
    struct rx_buf rb; /* first */
    struct nu_net *net;
    bool lent; /* not with the kernel */
};

struct nu_heap_buf {  /* bytes copied out of a provided buffer */
    struct rx_buf rb; /* first */
    struct nu_net *net;
};

struct nu_listener {
    struct uring_op op;
    struct nu_net *net;
    struct net_addr addr;
    struct conn_opts opts;
    struct timer retry;
    int fd; /* -1: closed */
    bool armed, closing;
};

enum misc_op { MISC_NONE, MISC_CONNECT, MISC_SHUTDOWN, MISC_CLOSE };

struct nu_conn {
    struct conn c; /* first */
    struct nu_net *net;
    int fd;
    uint32_t ops; /* in flight */
    struct uring_op op_recv, op_send, op_misc;
    bool recv_armed, recv_cancelled, send_busy, dying, fin_sent;
    uint8_t misc; /* enum misc_op */
    int die_err;
    uint64_t linger_ns; /* 0: not closing */
    struct timer timer; /* idle and linger */
    struct list corked; /* in nu_net.corked: a send said MORE */
    struct list hungry; /* in nu_net.hungry: receive found no buffer */
    struct sockaddr_storage to;
    struct msghdr mh;
    struct iovec iov[IOV_MAX_SEND];
};

struct nu_net {
    struct net n; /* first */
    struct net_uring_cfg cfg;
    struct conn_table t;
    struct timer_wheel *timers;
    struct uring_bufs *bufs;
    struct nu_buf *buf; /* by buffer id */
    uint32_t bufs_free; /* with the kernel, as far as we have seen completions */
    uint32_t hungry_polls;
    uint64_t copy_bytes;
    uint32_t ops; /* all operations in flight that point into this net */
    struct uring_op op_cancel;
    struct list corked, hungry;
    struct nu_listener listeners[NET_LISTENERS_MAX];
    uint32_t listener_cnt;
};

static struct nu_net *net_of(const struct net *n)
{
    return (struct nu_net *)(uintptr_t)n;
}

static struct nu_conn *conn_of(const struct net *n, conn_id id)
{
    return (struct nu_conn *)conn_lookup(&net_of(n)->t, id);
}

static void cancel(struct nu_net *nn, struct uring_op *target)
{
    nn->ops++;
    uring_cancel(nn->cfg.uring, &nn->op_cancel, target);
}

static void on_cancel(struct uring_op *op, int res, int buf_id, bool more)
{
    container_of(op, struct nu_net, op_cancel)->ops--;
}

/* ---- receive buffers ---- */

static void ring_buf_drop(struct buf *b)
{
    struct nu_buf *nb = container_of(b, struct nu_buf, rb.b);
    struct nu_net *nn = nb->net;
    nb->lent = false;
    nn->bufs_free++;
    uring_bufs_give_back(nn->bufs, (int)(nb - nn->buf));
}

static struct nu_buf *ring_buf_lend(struct nu_net *nn, int buf_id)
{
    struct nu_buf *nb = &nn->buf[buf_id];
    ASSERT(!nb->lent);
    nb->lent = true;
    nb->rb.b.refs = 1;
    nn->bufs_free--;
    return nb;
}

static void heap_buf_drop(struct buf *b)
{
    struct nu_heap_buf *hb = container_of(b, struct nu_heap_buf, rb.b);
    hb->net->copy_bytes -= b->cap;
    free(hb);
}

/* Copy what nobody took yet out of provided buffers. Views lent by rx_peek ended with the poll. */
static void unread_copy_out(struct nu_net *nn)
{
    for (uint32_t i = 0; i < nn->cfg.buf_cnt; i++) {
        struct rx_buf *rb = &nn->buf[i].rb;
        if (!nn->buf[i].lent || !list_is_linked(&rb->link) || rb->b.refs != 1)
            continue;
        if (nn->copy_bytes + rb->len > nn->cfg.copy_bytes_max)
            return;
        struct nu_heap_buf *hb = malloc(sizeof(*hb) + rb->len);
        if (hb == NULL)
            return;
        *hb = (struct nu_heap_buf){.net = nn,
                                   .rb = {.b = {.refs = 1,
                                                .owner = nn->n.shard,
                                                .kind = BUF_HEAP,
                                                .base = (uint8_t *)(hb + 1),
                                                .cap = rb->len,
                                                .drop = heap_buf_drop},
                                          .len = rb->len}};
        memcpy(hb->rb.b.base, rb->b.base + rb->off, rb->len);
        nn->copy_bytes += rb->len;
        nn->n.st.copies += rb->len;
        list_insert_between(&hb->rb.link, rb->link.prev, &rb->link);
        list_del(&rb->link);
        buf_put(&rb->b);
    }
}

/* ---- the end of a connection ---- */

static void close_step(struct nu_conn *nc)
{
    if (!nc->dying || nc->ops > 0)
        return;
    if (nc->fd >= 0) {
        nc->misc = MISC_CLOSE;
        nc->ops++;
        nc->net->ops++;
        uring_close(nc->net->cfg.uring, &nc->op_misc, nc->fd);
        nc->fd = -1;
        return;
    }
    if (nc->c.closing)
        conn_rx_drop(&nc->c);
    conn_set_dead(&nc->net->t, &nc->c, nc->die_err);
}

static void kill_conn(struct nu_conn *nc, int err, bool rst)
{
    struct nu_net *nn = nc->net;
    if (nc->c.phase != CONN_LIVE || nc->dying)
        return;
    nc->dying = true;
    nc->die_err = err;
    timer_cancel(nn->timers, &nc->timer);
    if (list_is_linked(&nc->corked))
        list_del(&nc->corked);
    if (list_is_linked(&nc->hungry))
        list_del(&nc->hungry);
    if (rst) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        /* Fails for a peer that is gone already: nothing to reset then. */
        (void)setsockopt(nc->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    if (nc->recv_armed)
        cancel(nn, &nc->op_recv);
    if (nc->send_busy)
        cancel(nn, &nc->op_send);
    if (nc->misc == MISC_CONNECT)
        cancel(nn, &nc->op_misc);
    close_step(nc);
}

/* What the peer did to us, from the result of an operation. */
static int peer_err(int res)
{
    return res == -EPIPE ? NET_ERESET : -res;
}

static void finish_check(struct nu_conn *nc)
{
    if (nc->c.closing && nc->fin_sent && nc->c.eof)
        kill_conn(nc, 0, false);
}

/* ---- timers: idle and linger share one, which is late-checked instead of moved per byte ---- */

static uint64_t conn_deadline(const struct nu_conn *nc)
{
    uint64_t at = UINT64_MAX;
    if (nc->c.opts.idle_ms != 0)
        at = nc->c.active_ns + nc->c.opts.idle_ms * NS_PER_MS;
    if (nc->linger_ns != 0 && nc->linger_ns < at)
        at = nc->linger_ns;
    return at;
}

static void on_timer(struct timer *t, uint64_t now_ns)
{
    struct nu_conn *nc = container_of(t, struct nu_conn, timer);
    if (nc->linger_ns != 0 && nc->linger_ns <= now_ns)
        kill_conn(nc, nc->fin_sent ? 0 : NET_ETIMEDOUT, !nc->fin_sent);
    else if (conn_deadline(nc) <= now_ns)
        kill_conn(nc, NET_ETIMEDOUT, true);
    else
        timer_arm(nc->net->timers, t, conn_deadline(nc), on_timer);
}

static void timer_update(struct nu_conn *nc)
{
    uint64_t at = conn_deadline(nc);
    if (at != UINT64_MAX)
        timer_arm(nc->net->timers, &nc->timer, at, on_timer);
}

/* ---- receiving ---- */

static bool recv_wanted(const struct nu_conn *nc)
{
    return nc->c.phase == CONN_LIVE && !nc->dying && !nc->c.eof && nc->misc != MISC_CONNECT &&
           (nc->c.closing || nc->c.rx_charged < nc->c.opts.rx_window);
}

static void recv_arm(struct nu_conn *nc)
{
    if (!recv_wanted(nc) || nc->recv_armed || list_is_linked(&nc->hungry))
        return;
    nc->recv_armed = true;
    nc->recv_cancelled = false;
    nc->ops++;
    nc->net->ops++;
    uring_recv_multishot(nc->net->cfg.uring, &nc->op_recv, nc->fd, nc->net->cfg.buf_group);
}

static void recv_bytes(struct nu_conn *nc, struct nu_buf *nb, uint32_t len)
{
    struct nu_net *nn = nc->net;
    nc->c.active_ns = nn->n.now;
    nc->c.rx_bytes += len;
    nn->n.st.rx_bytes += len;
    nn->n.st.rx_segs++;
    nb->rb.off = 0;
    nb->rb.len = len;
    if (nc->c.closing || nc->dying)
        buf_put(&nb->rb.b);
    else
        conn_rx_append(&nn->t, &nc->c, &nb->rb);
}

static void on_recv(struct uring_op *op, int res, int buf_id, bool more)
{
    struct nu_conn *nc = container_of(op, struct nu_conn, op_recv);
    struct nu_net *nn = nc->net;
    struct nu_buf *nb = buf_id >= 0 ? ring_buf_lend(nn, buf_id) : NULL;
    if (!more) {
        nc->recv_armed = false;
        nc->ops--;
        nn->ops--;
    }
    if (nb != NULL && res > 0) {
        recv_bytes(nc, nb, (uint32_t)res);
    } else if (nb != NULL) {
        buf_put(&nb->rb.b);
    }
    if (nc->dying) {
        close_step(nc);
        return;
    }
    if (res == 0) {
        nc->c.eof = true;
        conn_raise(&nn->t, &nc->c, NET_EV_RX_EOF);
        finish_check(nc);
    } else if (res == -ENOBUFS) {
        nn->n.st.drop_nobuf++;
        list_add_tail(&nn->hungry, &nc->hungry);
    } else if (res < 0 && res != -ECANCELED && res != -EINTR && res != -EAGAIN) {
        kill_conn(nc, peer_err(res), false);
    } else if (nc->recv_armed && !nc->recv_cancelled && !recv_wanted(nc)) {
        nc->recv_cancelled = true;
        cancel(nn, &nc->op_recv);
    } else if (!nc->recv_armed) {
        recv_arm(nc);
    }
}

/* Buffers came back: let those receive again who found none, as many as there are buffers. */
static void hungry_feed(struct nu_net *nn)
{
    if (list_is_empty(&nn->hungry)) {
        nn->hungry_polls = 0;
        return;
    }
    if (nn->bufs_free == 0 && ++nn->hungry_polls >= STARVED_POLLS_BEFORE_COPY)
        unread_copy_out(nn);
    for (uint32_t i = 0; i < nn->bufs_free && !list_is_empty(&nn->hungry); i++)
        recv_arm(container_of(list_pop_head(&nn->hungry), struct nu_conn, hungry));
}

/* ---- sending ---- */

static void fin_step(struct nu_conn *nc)
{
    if (!nc->c.tx_shut || nc->fin_sent || nc->dying || nc->misc != MISC_NONE || nc->send_busy ||
        nc->c.tx_queued > 0)
        return;
    nc->misc = MISC_SHUTDOWN;
    nc->ops++;
    nc->net->ops++;
    uring_shutdown(nc->net->cfg.uring, &nc->op_misc, nc->fd, SHUT_WR);
}

static void send_kick(struct nu_conn *nc)
{
    if (nc->dying || nc->misc == MISC_CONNECT || nc->c.phase != CONN_LIVE)
        return;
    if (list_is_linked(&nc->corked))
        list_del(&nc->corked);
    size_t cnt = 0, room = SEND_BYTES_MAX;
    list_for_each(l, &nc->c.txq)
    {
        struct tx_ent *e = container_of(l, struct tx_ent, link);
        if (cnt == IOV_MAX_SEND || room == 0)
            break;
        size_t len = e->ref.len - e->done;
        len = len < room ? len : room;
        nc->iov[cnt].iov_base = seg_ptr(&e->ref) + e->done;
        nc->iov[cnt++].iov_len = len;
        room -= len;
    }
    if (cnt == 0) {
        fin_step(nc);
        return;
    }
    nc->mh.msg_iov = nc->iov;
    nc->mh.msg_iovlen = cnt;
    if (nc->send_busy)
        return; /* the vector grew, or its completion will come back here */
    nc->send_busy = true;
    nc->ops++;
    nc->net->ops++;
    uring_sendmsg(nc->net->cfg.uring, &nc->op_send, nc->fd, &nc->mh, MSG_NOSIGNAL);
}

static void on_send(struct uring_op *op, int res, int buf_id, bool more)
{
    struct nu_conn *nc = container_of(op, struct nu_conn, op_send);
    struct nu_net *nn = nc->net;
    nc->send_busy = false;
    nc->ops--;
    nn->ops--;
    if (res > 0) {
        nc->c.active_ns = nn->n.now;
        nn->n.st.tx_segs++;
        conn_tx_retire(&nn->t, &nc->c, (uint32_t)res);
    }
    if (nc->dying)
        close_step(nc);
    else if (res < 0 && res != -EINTR && res != -EAGAIN && res != -ECANCELED)
        kill_conn(nc, peer_err(res), false);
    else
        send_kick(nc);
}

/* ---- opening ---- */

static void set_opt(int fd, int level, int name, int value)
{
    /* Best effort: unix sockets have no TCP options, and a missing one harms nobody's bytes. */
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void sock_options(int fd, const struct conn_opts *o)
{
    set_opt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (o->user_timeout_ms != 0)
        set_opt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)o->user_timeout_ms);
    if (o->keepalive_ms != 0) {
        int s = (int)((o->keepalive_ms + 999) / 1000);
        set_opt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_opt(fd, IPPROTO_TCP, TCP_KEEPIDLE, s);
        set_opt(fd, IPPROTO_TCP, TCP_KEEPINTVL, s < 4 ? 1 : s / 4);
        set_opt(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
    }
    if (o->max_rate != 0)
        set_opt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, (int)o->max_rate);
}

typedef int addr_fn(int fd, struct sockaddr *sa, socklen_t *len);

/* getsockname or getpeername; zero for unix sockets and for a peer that is gone already. */
static void sock_addr(int fd, addr_fn *get, struct net_addr *ret_addr)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (get(fd, (struct sockaddr *)&ss, &len) < 0 ||
        net_addr_from_sockaddr((struct sockaddr *)&ss, len, ret_addr) < 0)
        *ret_addr = (struct net_addr){.port = 0};
}

static void sock_addrs(int fd, struct conn *c)
{
    sock_addr(fd, getsockname, &c->local);
    sock_addr(fd, getpeername, &c->peer);
}

static void on_misc(struct uring_op *op, int res, int buf_id, bool more);

static struct nu_conn *nu_conn_new(struct nu_net *nn, int fd, const struct conn_opts *opts)
{
    struct nu_conn *nc = (struct nu_conn *)conn_alloc(&nn->t, opts);
    if (nc == NULL)
        return NULL;
    nc->net = nn;
    nc->fd = fd;
    nc->op_recv.done = on_recv;
    nc->op_send.done = on_send;
    nc->op_misc.done = on_misc;
    sock_options(fd, &nc->c.opts);
    timer_update(nc);
    return nc;
}

static void on_connected(struct nu_conn *nc, int res)
{
    if (res < 0) {
        kill_conn(nc, -res, false);
        return;
    }
    sock_addrs(nc->fd, &nc->c);
    nc->c.active_ns = nc->net->n.now;
    conn_raise(&nc->net->t, &nc->c, NET_EV_CONNECT);
    recv_arm(nc);
    send_kick(nc);
}

static void on_misc(struct uring_op *op, int res, int buf_id, bool more)
{
    struct nu_conn *nc = container_of(op, struct nu_conn, op_misc);
    enum misc_op was = nc->misc;
    nc->misc = MISC_NONE;
    nc->ops--;
    nc->net->ops--;
    if (nc->dying) {
        close_step(nc);
        return;
    }
    switch (was) {
    case MISC_CONNECT:
        on_connected(nc, res);
        break;
    case MISC_SHUTDOWN: /* -ENOTCONN: the peer reset us; the receive says so */
        nc->fin_sent = true;
        finish_check(nc);
        break;
    case MISC_NONE:
    case MISC_CLOSE:
        UNREACHABLE();
    }
}

static void accept_arm(struct nu_listener *l)
{
    if (l->armed || l->closing)
        return;
    l->armed = true;
    l->net->ops++;
    uring_accept_multishot(l->net->cfg.uring, &l->op, l->fd);
}

static void on_accept_retry(struct timer *t, uint64_t now_ns)
{
    accept_arm(container_of(t, struct nu_listener, retry));
}

static void accept_one(struct nu_listener *l, int fd)
{
    struct nu_net *nn = l->net;
    struct nu_conn *nc = nu_conn_new(nn, fd, &l->opts);
    if (nc == NULL) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)); /* else it is a FIN */
        (void)close(fd);                                                /* nothing was sent on it */
        nn->n.st.accept_refused++;
        return;
    }
    sock_addrs(fd, &nc->c);
    nc->c.listener = (uint16_t)(l - nn->listeners);
    nn->n.st.accepts++;
    conn_raise(&nn->t, &nc->c, NET_EV_ACCEPT);
    recv_arm(nc);
}

/* Who connected before the end is served: the kernel said yes to them, and their first bytes may
 * be here already. */
static void listener_close(struct nu_listener *l)
{
    if (fcntl(l->fd, F_SETFL, O_NONBLOCK) == 0)
        for (int fd; (fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
            accept_one(l, fd);
    (void)close(l->fd);
    l->fd = -1;
    l->net->n.listening--;
}

static void on_accept(struct uring_op *op, int res, int buf_id, bool more)
{
    struct nu_listener *l = container_of(op, struct nu_listener, op);
    struct nu_net *nn = l->net;
    if (!more) {
        l->armed = false;
        nn->ops--;
    }
    if (res >= 0)
        accept_one(l, res);
    if (l->armed)
        return;
    if (l->closing) {
        listener_close(l);
    } else if (res >= 0 || res == -ECONNABORTED || res == -EINTR || res == -EAGAIN) {
        accept_arm(l);
    } else { /* -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS, ...: it does not get better at once */
        nn->n.st.accept_errors++;
        timer_arm(nn->timers, &l->retry, nn->n.now + ACCEPT_RETRY_NS, on_accept_retry);
    }
}

int net_uring_listen_fd(struct net *n, int fd, const struct conn_opts *opts)
{
    struct nu_net *nn = net_of(n);
    if (nn->listener_cnt == NET_LISTENERS_MAX) {
        (void)close(fd);
        return -ENOSPC;
    }
    struct nu_listener *l = &nn->listeners[nn->listener_cnt];
    *l = (struct nu_listener){.net = nn, .fd = fd, .opts = conn_opts_complete(opts)};
    l->op.done = on_accept;
    sock_addr(fd, getsockname, &l->addr);
    accept_arm(l);
    n->listening++;
    return (int)nn->listener_cnt++;
}

static int nu_listen(struct net *n, const struct net_addr *addr, uint32_t backlog,
                     const struct conn_opts *opts)
{
    struct sock_open_opts o = {.kind = SOCK_KIND_TCP, .cnt = 1, .backlog = backlog};
    struct sock_opened opened;
    int fd;
    int rc = sock_open_listeners(addr, &o, &fd, &opened);
    return rc < 0 ? rc : net_uring_listen_fd(n, fd, opts);
}

static int nu_listener_addr(const struct net *n, int listener, struct net_addr *ret_addr)
{
    const struct nu_net *nn = net_of(n);
    if (listener < 0 || (uint32_t)listener >= nn->listener_cnt)
        return -EINVAL;
    *ret_addr = nn->listeners[listener].addr;
    return 0;
}

static int nu_connect(struct net *n, const struct net_addr *addr, const struct conn_opts *opts,
                      conn_id *ret_conn)
{
    struct nu_net *nn = net_of(n);
    struct sockaddr_storage ss;
    socklen_t len = net_addr_to_sockaddr(addr, &ss);
    if (n->conn_cnt == n->conn_max)
        return -NET_ENOMEM;
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct nu_conn *nc = nu_conn_new(nn, fd, opts);
    ASSERT(nc != NULL);
    nc->to = ss;
    nc->c.peer = *addr;
    nc->misc = MISC_CONNECT;
    nc->ops++;
    nn->ops++;
    n->st.connects++;
    uring_connect(nn->cfg.uring, &nc->op_misc, fd, (struct sockaddr *)&nc->to, len);
    *ret_conn = conn_handle(&nn->t, &nc->c);
    return 0;
}

/* ---- the rest of the table ---- */

static int nu_poll(struct net *n, uint64_t now, struct net_ev *ret_ev, int max, int budget)
{
    struct nu_net *nn = net_of(n);
    n->now = now;
    (void)timer_poll(nn->timers, now, (uint32_t)budget);
    hungry_feed(nn);
    while (!list_is_empty(&nn->corked))
        send_kick(container_of(nn->corked.next, struct nu_conn, corked));
    return conn_emit(&nn->t, ret_ev, max, budget);
}

static uint64_t nu_next_deadline(const struct net *n)
{
    const struct nu_net *nn = net_of(n);
    if (!list_is_empty(&nn->t.ready) || !list_is_empty(&nn->corked))
        return 0;
    uint64_t at = timer_next(nn->timers);
    if (!list_is_empty(&nn->hungry) && nn->n.now + STARVED_RETRY_NS < at)
        at = nn->n.now + STARVED_RETRY_NS;
    return at;
}

static int nu_rx_peek(struct net *n, conn_id id, struct bytes_ref *out, int max)
{
    struct nu_conn *nc = conn_of(n, id);
    return nc == NULL ? -NET_ESTALE : conn_rx_peek(&nc->c, out, max);
}

static int nu_rx_take(struct net *n, conn_id id, uint32_t cnt, struct bytes_ref *out, int max)
{
    struct nu_conn *nc = conn_of(n, id);
    return nc == NULL ? -NET_ESTALE : conn_rx_take(&nc->c, cnt, out, max);
}

static void nu_rx_credit(struct net *n, conn_id id, uint32_t cnt)
{
    struct nu_conn *nc = conn_of(n, id);
    if (nc == NULL)
        return;
    ASSERT(cnt <= nc->c.rx_charged);
    nc->c.rx_charged -= cnt;
    /* At once, however little: the caller may be waiting for the rest of a message of which most is
     * unread and charged; a threshold here would be a deadlock. */
    recv_arm(nc);
}

static int nu_send(struct net *n, conn_id id, const struct bytes_ref *refs, int cnt,
                   uint64_t cookie, uint32_t flags)
{
    struct nu_net *nn = net_of(n);
    struct nu_conn *nc = conn_of(n, id);
    if (nc == NULL)
        return -NET_ESTALE;
    if (nc->dying)
        return -NET_ECLOSED;
    int rc = conn_tx_push(&nn->t, &nc->c, refs, cnt, cookie);
    if (rc < 0)
        return rc;
    if ((flags & NET_SEND_MORE) == 0)
        send_kick(nc);
    else if (!nc->send_busy && !list_is_linked(&nc->corked) && nc->misc != MISC_CONNECT)
        list_add_tail(&nn->corked, &nc->corked); /* the next poll sends it whatever happens */
    return 0;
}

static uint32_t nu_tx_room(const struct net *n, conn_id id)
{
    struct nu_conn *nc = conn_of(n, id);
    return nc == NULL ? 0 : conn_tx_room(&nc->c);
}

static int nu_shutdown_tx(struct net *n, conn_id id)
{
    struct nu_conn *nc = conn_of(n, id);
    if (nc == NULL)
        return -NET_ESTALE;
    if (nc->c.tx_shut || nc->c.phase != CONN_LIVE || nc->dying)
        return -NET_ECLOSED;
    nc->c.tx_shut = true;
    send_kick(nc);
    return 0;
}

static int nu_close(struct net *n, conn_id id, uint32_t linger_ms)
{
    struct nu_conn *nc = conn_of(n, id);
    if (nc == NULL)
        return -NET_ESTALE;
    if (nc->c.closing)
        return -NET_ECLOSED;
    bool unread = nc->c.rx_unread > 0;
    conn_rx_drop(&nc->c);
    nc->c.closing = true;
    nc->c.ev = 0;
    if (nc->c.phase != CONN_LIVE || nc->dying)
        return 0; /* CLOSED is already on its way */
    nc->c.tx_shut = true;
    if (nc->misc == MISC_CONNECT) {
        kill_conn(nc, 0, false);
        return 0;
    }
    if (linger_ms == 0) {
        kill_conn(nc, 0, unread || nc->c.tx_queued > 0);
        return 0;
    }
    nc->linger_ns = n->now + linger_ms * NS_PER_MS;
    timer_update(nc);
    recv_arm(nc); /* what comes is thrown away, so the window does not count */
    send_kick(nc);
    finish_check(nc);
    return 0;
}

static int nu_abort(struct net *n, conn_id id)
{
    struct nu_conn *nc = conn_of(n, id);
    if (nc == NULL)
        return -NET_ESTALE;
    conn_rx_drop(&nc->c);
    nc->c.closing = true;
    nc->c.ev = 0;
    kill_conn(nc, NET_EABORTED, true);
    return 0;
}

static int nu_info(const struct net *n, conn_id id, struct conn_info *ret_info)
{
    struct nu_conn *nc = conn_of(n, id);
    struct tcp_info ti;
    socklen_t len = sizeof(ti);
    if (nc == NULL)
        return -NET_ESTALE;
    *ret_info = (struct conn_info){.local = nc->c.local,
                                   .peer = nc->c.peer,
                                   .rx_bytes = nc->c.rx_bytes,
                                   .tx_bytes = nc->c.tx_bytes,
                                   .tx_queued = nc->c.tx_queued,
                                   .rx_charged = nc->c.rx_charged};
    memset(&ti, 0, sizeof(ti));
    if (nc->fd >= 0 && getsockopt(nc->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0) {
        ret_info->srtt_us = ti.tcpi_rtt;
        ret_info->cwnd = ti.tcpi_snd_cwnd * ti.tcpi_snd_mss;
        ret_info->mss = ti.tcpi_snd_mss;
        ret_info->retrans_now = ti.tcpi_retransmits;
        ret_info->retrans_bytes = (uint64_t)ti.tcpi_total_retrans * ti.tcpi_snd_mss;
        ret_info->state = ti.tcpi_state;
    }
    return 0;
}

static void nu_set_user(struct net *n, conn_id id, void *user)
{
    struct nu_conn *nc = conn_of(n, id);
    if (nc != NULL)
        nc->c.user = user;
}

static int nu_mem_register(struct net *n, void *p, size_t len, uint64_t iova)
{
    return 0; /* the kernel copies from anywhere */
}

static void nu_drain(struct net *n)
{
    struct nu_net *nn = net_of(n);
    for (uint32_t i = 0; i < nn->listener_cnt; i++) {
        struct nu_listener *l = &nn->listeners[i];
        if (l->closing)
            continue;
        l->closing = true;
        timer_cancel(nn->timers, &l->retry);
        if (l->armed)
            cancel(nn, &l->op);
        else
            listener_close(l);
    }
}

static void reap_or_wait(struct nu_net *nn)
{
    if (uring_reap(nn->cfg.uring, 256) == 0)
        uring_wait(nn->cfg.uring, 10 * NS_PER_MS);
}

static void nu_destroy(struct net *n)
{
    struct nu_net *nn = net_of(n);
    if (n == NULL)
        return;
    nu_drain(n);
    while (n->listening > 0)
        reap_or_wait(nn);
    for (uint32_t i = 0; i < nn->t.fresh; i++) {
        struct nu_conn *nc = (struct nu_conn *)conn_at(&nn->t, i);
        if (nc->c.phase == CONN_LIVE) {
            nc->c.closing = true;
            kill_conn(nc, NET_EABORTED, true);
        }
    }
    while (nn->ops > 0)
        reap_or_wait(nn);
    for (uint32_t i = 0; i < nn->t.fresh; i++) {
        struct conn *c = conn_at(&nn->t, i);
        if (c->phase != CONN_FREE)
            conn_free(&nn->t, c);
    }
    ASSERT(nn->bufs_free == nn->cfg.buf_cnt); /* somebody above still holds received bytes */
    ASSERT(nn->copy_bytes == 0);
    conn_table_fini(&nn->t);
    uring_bufs_destroy(nn->bufs);
    free(nn->buf);
    timer_wheel_destroy(nn->timers);
    free(nn);
}

static const struct net_ops nu_ops = {
    .listen = nu_listen,
    .listener_addr = nu_listener_addr,
    .connect = nu_connect,
    .poll = nu_poll,
    .next_deadline = nu_next_deadline,
    .rx_peek = nu_rx_peek,
    .rx_take = nu_rx_take,
    .rx_credit = nu_rx_credit,
    .send = nu_send,
    .tx_room = nu_tx_room,
    .shutdown_tx = nu_shutdown_tx,
    .close = nu_close,
    .abort = nu_abort,
    .info = nu_info,
    .set_user = nu_set_user,
    .mem_register = nu_mem_register,
    .drain = nu_drain,
    .destroy = nu_destroy,
};

static void cfg_complete(struct net_uring_cfg *c)
{
    if (c->conn_max == 0)
        c->conn_max = 1024;
    if (c->buf_cnt == 0)
        c->buf_cnt = 512;
    uint32_t cnt = 1;
    while (cnt < c->buf_cnt && cnt < 32768)
        cnt *= 2;
    c->buf_cnt = cnt;
    if (c->buf_size == 0)
        c->buf_size = 32768;
    if (c->tx_segs_max == 0)
        c->tx_segs_max = 16384;
    if (c->copy_bytes_max == 0)
        c->copy_bytes_max = UINT64_C(32) << 20;
}

int net_uring_create(const struct net_uring_cfg *cfg, struct net **ret_net)
{
    struct nu_net *nn = calloc(1, sizeof(*nn));
    if (nn == NULL)
        return -ENOMEM;
    nn->cfg = *cfg;
    cfg_complete(&nn->cfg);
    nn->n.ops = &nu_ops;
    nn->n.shard = cfg->shard;
    nn->n.nshards = cfg->nshards;
    nn->n.now = cfg->now_ns;
    nn->op_cancel.done = on_cancel;
    list_init(&nn->corked);
    list_init(&nn->hungry);
    int rc = timer_wheel_create(cfg->now_ns, &nn->timers);
    if (rc < 0)
        goto undo_net;
    rc = conn_table_init(&nn->t, &nn->n, sizeof(struct nu_conn), nn->cfg.conn_max,
                         nn->cfg.tx_segs_max);
    if (rc < 0)
        goto undo_timers;
    rc = -ENOMEM;
    nn->buf = calloc(nn->cfg.buf_cnt, sizeof(*nn->buf));
    if (nn->buf == NULL)
        goto undo_table;
    rc =
        uring_bufs_create(cfg->uring, cfg->buf_group, nn->cfg.buf_cnt, nn->cfg.buf_size, &nn->bufs);
    if (rc < 0)
        goto undo_buf;
    for (uint32_t i = 0; i < nn->cfg.buf_cnt; i++)
        nn->buf[i] = (struct nu_buf){.net = nn,
                                     .rb.b = {.owner = cfg->shard,
                                              .kind = BUF_RING,
                                              .base = uring_bufs_ptr(nn->bufs, (int)i),
                                              .cap = nn->cfg.buf_size,
                                              .drop = ring_buf_drop}};
    nn->bufs_free = nn->cfg.buf_cnt;
    *ret_net = &nn->n;
    return 0;
undo_buf:
    free(nn->buf);
undo_table:
    conn_table_fini(&nn->t);
undo_timers:
    timer_wheel_destroy(nn->timers);
undo_net:
    free(nn);
    return rc;
}
