/* net_sim.c - see net_sim.h.
 *
 * Each connection holds the pieces on their way to it (`in`, in order, each with its time). Sending
 * moves bytes from the send queue into the peer's `in` as far as the peer's window allows: that is
 * pump(), called when something is sent, credited or delivered. Delivery and timers run in poll().
 *
 *     CONNECTING --connect_run, somebody listens--> UP --FIN both ways, RST, timeouts--> DEAD
 *
 * A RST or FIN is a piece like any other, so it arrives after the bytes before it. */
#include "dataplane/net/net_sim.h"
#include "dataplane/net/conn.h"
#include "lib/base/assert.h"
#include "lib/iface/net_addr.h"
#include <stdlib.h>

struct sim_net;
struct sim_conn;

enum piece_kind { PIECE_DATA, PIECE_FIN, PIECE_RST };
struct piece {
    struct rx_buf rb; /* first; DATA: the bytes, allocated behind */
    enum piece_kind kind;
    uint64_t at_ns;
};

struct sim_listener {
    struct net_addr addr;
    struct conn_opts opts;
    bool open;
};

struct sim_conn {
    struct conn c; /* first */
    struct sim_net *net;
    struct list live;      /* in sim_net.live until freed */
    struct sim_conn *peer; /* NULL: connecting, or the other end is gone */
    struct list in;        /* struct piece.rb.link */
    uint32_t in_bytes;     /* DATA bytes in it */
    uint64_t in_last_ns;   /* nothing may overtake this */
    bool connecting;
    uint64_t connect_ns;
    bool fin_sent;
    uint64_t linger_ns; /* 0: not closing */
};

struct sim_net {
    struct net n; /* first */
    struct sim_world *w;
    struct conn_table t;
    struct list live;
    struct list link; /* in the world */
    struct sim_listener listeners[NET_LISTENERS_MAX];
    uint32_t listener_cnt;
};

struct sim_world {
    struct sim_cfg cfg;
    uint64_t rng, now;
    struct list nets;
    uint16_t next_port;
};

static struct sim_net *net_of(const struct net *n)
{
    return (struct sim_net *)(uintptr_t)n;
}

/* xorshift64*: small, and the same on every machine. */
static uint64_t rng_next(struct sim_world *w)
{
    w->rng ^= w->rng >> 12;
    w->rng ^= w->rng << 25;
    w->rng ^= w->rng >> 27;
    return w->rng * UINT64_C(0x2545F4914F6CDD1D);
}

static uint64_t rng_below(struct sim_world *w, uint64_t n)
{
    return n == 0 ? 0 : (rng_next(w) >> 11) % n;
}

static uint64_t delay_draw(struct sim_world *w)
{
    uint64_t spread =
        w->cfg.delay_max_ns > w->cfg.delay_min_ns ? w->cfg.delay_max_ns - w->cfg.delay_min_ns : 0;
    return w->cfg.delay_min_ns + rng_below(w, spread + 1);
}

static struct sim_conn *conn_of(const struct net *n, conn_id id)
{
    return (struct sim_conn *)conn_lookup(&net_of(n)->t, id);
}

/* ---- the wire ---- */

static void piece_drop(struct buf *b)
{
    free(container_of(b, struct piece, rb.b));
}

static struct piece *piece_new(struct sim_conn *to, enum piece_kind kind, uint32_t len)
{
    struct sim_world *w = to->net->w;
    struct piece *p = malloc(sizeof(*p) + len);
    ASSERT(p != NULL);
    memset(p, 0, sizeof(*p));
    p->kind = kind;
    p->rb.b = (struct buf){.refs = 1,
                           .owner = to->net->n.shard,
                           .kind = BUF_SIM,
                           .base = (uint8_t *)(p + 1),
                           .cap = len,
                           .drop = piece_drop};
    p->rb.len = len;
    p->at_ns = w->now + delay_draw(w);
    if (p->at_ns < to->in_last_ns)
        p->at_ns = to->in_last_ns;
    to->in_last_ns = p->at_ns;
    to->in_bytes += len;
    list_add_tail(&to->in, &p->rb.link);
    return p;
}

/* Forget what is on its way to sc. Returns whether bytes were lost with it. */
static bool in_drop(struct sim_conn *sc)
{
    bool lost = false;
    for (struct list *l; (l = list_pop_head(&sc->in)) != NULL;) {
        struct piece *p = container_of(l, struct piece, rb.link);
        lost |= p->kind == PIECE_DATA;
        buf_put(&p->rb.b);
    }
    sc->in_bytes = 0;
    return lost;
}

static void pump(struct sim_conn *sc);

/* End this side. rst: the peer hears of it as a reset, else by what was already sent. */
static void conn_kill(struct sim_conn *sc, int err, bool rst)
{
    if (sc->c.phase != CONN_LIVE)
        return;
    struct sim_conn *peer = sc->peer;
    rst |= in_drop(sc); /* bytes for a connection that is gone are answered by RST */
    if (peer != NULL) {
        if (rst)
            (void)piece_new(peer, PIECE_RST, 0);
        peer->peer = NULL;
        sc->peer = NULL;
        pump(peer); /* what it has queued finds nobody */
    }
    if (sc->c.closing)
        conn_rx_drop(&sc->c);
    conn_set_dead(&sc->net->t, &sc->c, err);
}

/* Move queued bytes into the peer's `in`, in pieces, as far as its window and the wire allow. */
static void pump(struct sim_conn *sc)
{
    struct sim_world *w = sc->net->w;
    if (sc->c.phase != CONN_LIVE || sc->connecting)
        return;
    struct sim_conn *to = sc->peer;
    if (to == NULL) { /* nobody is there: the first byte brings a reset back */
        if (sc->c.tx_queued > 0 && list_is_empty(&sc->in))
            (void)piece_new(sc, PIECE_RST, 0);
        else if (sc->c.tx_queued == 0 && sc->c.tx_shut)
            sc->fin_sent = true;
        return;
    }
    uint32_t skip = to->in_bytes; /* bytes of txq that are already on the wire */
    list_for_each(l, &sc->c.txq)
    {
        struct tx_ent *e = container_of(l, struct tx_ent, link);
        uint32_t left = e->ref.len - e->done;
        uint32_t pos = e->done;
        if (skip >= left) {
            skip -= left;
            continue;
        }
        pos += skip;
        skip = 0;
        while (pos < e->ref.len) {
            uint64_t charged = (uint64_t)to->c.rx_charged + to->in_bytes;
            uint64_t room = to->c.opts.rx_window > charged ? to->c.opts.rx_window - charged : 0;
            if (to->linger_ns != 0)
                room = UINT32_MAX; /* it throws away what comes */
            if (w->cfg.wire_max != 0) {
                uint64_t wire = w->cfg.wire_max > to->in_bytes ? w->cfg.wire_max - to->in_bytes : 0;
                room = wire < room ? wire : room;
            }
            if (room == 0)
                return;
            uint32_t len =
                w->cfg.chunk_max != 0 ? 1 + (uint32_t)rng_below(w, w->cfg.chunk_max) : 65536;
            if (len > e->ref.len - pos)
                len = e->ref.len - pos;
            if (len > room)
                len = (uint32_t)room;
            if (w->cfg.reset_ppm != 0 && rng_below(w, 1000000) < w->cfg.reset_ppm) {
                conn_kill(sc, NET_ERESET, true);
                return;
            }
            struct piece *p = piece_new(to, PIECE_DATA, len);
            memcpy(p->rb.b.base, seg_ptr(&e->ref) + pos, len);
            sc->net->n.st.tx_segs++;
            pos += len;
        }
    }
    if (sc->c.tx_shut && !sc->fin_sent) {
        sc->fin_sent = true;
        (void)piece_new(to, PIECE_FIN, 0);
    }
}

/* Both directions are finished: done. A closing side also stops once its linger is over. */
static void finish_check(struct sim_conn *sc)
{
    if (sc->c.phase == CONN_LIVE && sc->c.closing && sc->fin_sent && sc->c.tx_queued == 0 &&
        sc->c.eof)
        conn_kill(sc, 0, false);
}

static void deliver_one(struct sim_conn *sc, struct piece *p)
{
    struct sim_net *sn = sc->net;
    struct sim_conn *from = sc->peer;
    uint32_t len = p->rb.len;
    switch (p->kind) {
    case PIECE_RST:
        buf_put(&p->rb.b);
        conn_kill(sc, NET_ERESET, false);
        return;
    case PIECE_FIN:
        buf_put(&p->rb.b);
        sc->c.eof = true;
        conn_raise(&sn->t, &sc->c, NET_EV_RX_EOF);
        pump(sc); /* if that was all that kept a reset away */
        finish_check(sc);
        return;
    case PIECE_DATA:
        break;
    }
    sc->in_bytes -= len;
    sc->c.active_ns = sn->n.now;
    sc->c.rx_bytes += len;
    sn->n.st.rx_bytes += len;
    sn->n.st.rx_segs++;
    if (sc->c.closing)
        buf_put(&p->rb.b);
    else
        conn_rx_append(&sn->t, &sc->c, &p->rb);
    if (from != NULL && from->c.phase == CONN_LIVE) { /* the acknowledgement */
        from->c.active_ns = sn->n.now;
        conn_tx_retire(&from->net->t, &from->c, len);
        pump(from);
        finish_check(from);
    }
}

static void deliver_due(struct sim_conn *sc)
{
    while (sc->c.phase == CONN_LIVE && !list_is_empty(&sc->in)) {
        struct piece *p = container_of(sc->in.next, struct piece, rb.link);
        if (p->at_ns > sc->net->n.now)
            return;
        list_del(&p->rb.link);
        deliver_one(sc, p);
    }
}

/* ---- opening ---- */

static struct sim_conn *sim_conn_new(struct sim_net *sn, const struct conn_opts *opts)
{
    struct sim_conn *sc = (struct sim_conn *)conn_alloc(&sn->t, opts);
    if (sc == NULL)
        return NULL;
    sc->net = sn;
    list_init(&sc->in);
    list_add_tail(&sn->live, &sc->live);
    return sc;
}

static void sim_conn_freed(struct conn *c)
{
    struct sim_conn *sc = (struct sim_conn *)c;
    (void)in_drop(sc);
    list_del(&sc->live);
}

static bool listener_matches(const struct sim_listener *l, const struct net_addr *to)
{
    return l->open && l->addr.port == to->port &&
           (net_addr_is_any(&l->addr) || net_addr_eq(&l->addr, to));
}

/* One of the listeners on `to`, drawn; NULL when there is none. */
static struct sim_net *listener_find(struct sim_world *w, const struct net_addr *to,
                                     uint32_t *ret_idx)
{
    struct sim_net *found = NULL;
    uint64_t seen = 0;
    list_for_each(l, &w->nets)
    {
        struct sim_net *sn = container_of(l, struct sim_net, link);
        for (uint32_t i = 0; i < sn->listener_cnt; i++) {
            if (listener_matches(&sn->listeners[i], to) && rng_below(w, ++seen) == 0) {
                found = sn;
                *ret_idx = i;
            }
        }
    }
    return found;
}

static void connect_run(struct sim_conn *sc)
{
    struct sim_world *w = sc->net->w;
    uint32_t idx = 0;
    struct sim_net *ln = listener_find(w, &sc->c.peer, &idx);
    sc->connecting = false;
    if (ln == NULL) {
        conn_kill(sc, NET_EREFUSED, false);
        return;
    }
    struct sim_conn *srv = sim_conn_new(ln, &ln->listeners[idx].opts);
    if (srv == NULL) {
        ln->n.st.accept_refused++;
        conn_kill(sc, NET_ERESET, false);
        return;
    }
    srv->peer = sc;
    sc->peer = srv;
    srv->c.listener = (uint16_t)idx;
    srv->c.local = sc->c.peer;
    srv->c.peer = sc->c.local;
    ln->n.st.accepts++;
    conn_raise(&ln->t, &srv->c, NET_EV_ACCEPT);
    conn_raise(&sc->net->t, &sc->c, NET_EV_CONNECT);
    pump(sc);
}

static uint16_t port_free(struct sim_world *w)
{
    if (w->next_port < 32768)
        w->next_port = 32768;
    return w->next_port++;
}

static int sim_listen(struct net *n, const struct net_addr *addr, uint32_t backlog,
                      const struct conn_opts *opts)
{
    struct sim_net *sn = net_of(n);
    (void)backlog;
    for (uint32_t i = 0; i < sn->listener_cnt; i++)
        if (addr->port != 0 && sn->listeners[i].open && net_addr_eq(&sn->listeners[i].addr, addr))
            return -EADDRINUSE;
    if (sn->listener_cnt == NET_LISTENERS_MAX)
        return -ENOSPC;
    struct sim_listener *l = &sn->listeners[sn->listener_cnt];
    l->addr = *addr;
    if (addr->port == 0)
        l->addr.port = port_free(sn->w);
    l->opts = conn_opts_complete(opts);
    l->open = true;
    n->listening++;
    return (int)sn->listener_cnt++;
}

static int sim_listener_addr(const struct net *n, int listener, struct net_addr *ret_addr)
{
    const struct sim_net *sn = net_of(n);
    if (listener < 0 || (uint32_t)listener >= sn->listener_cnt)
        return -EINVAL;
    *ret_addr = sn->listeners[listener].addr;
    return 0;
}

static int sim_connect(struct net *n, const struct net_addr *addr, const struct conn_opts *opts,
                       conn_id *ret_conn)
{
    struct sim_net *sn = net_of(n);
    struct sim_conn *sc = sim_conn_new(sn, opts);
    if (sc == NULL)
        return -NET_ENOMEM;
    sc->connecting = true;
    sc->connect_ns = sn->w->now + delay_draw(sn->w);
    sc->c.peer = *addr;
    static const uint8_t lo[4] = {127, 0, 0, 1};
    sc->c.local = net_addr_v4(lo, port_free(sn->w));
    n->st.connects++;
    *ret_conn = conn_handle(&sn->t, &sc->c);
    return 0;
}

/* ---- running ---- */

static uint64_t idle_deadline(const struct sim_conn *sc)
{
    if (sc->c.opts.idle_ms == 0)
        return UINT64_MAX;
    return sc->c.active_ns + (uint64_t)sc->c.opts.idle_ms * 1000000;
}

static void conn_timers(struct sim_conn *sc)
{
    uint64_t now = sc->net->n.now;
    if (sc->c.phase != CONN_LIVE)
        return;
    if (sc->connecting && sc->connect_ns <= now)
        connect_run(sc);
    if (sc->c.phase == CONN_LIVE && idle_deadline(sc) <= now)
        conn_kill(sc, NET_ETIMEDOUT, true);
    if (sc->c.phase == CONN_LIVE && sc->linger_ns != 0 && sc->linger_ns <= now) {
        bool flushed = sc->fin_sent && sc->c.tx_queued == 0;
        conn_kill(sc, flushed ? 0 : NET_ETIMEDOUT, !flushed);
    }
}

static int sim_poll(struct net *n, uint64_t now, struct net_ev *ret_ev, int max, int budget)
{
    struct sim_net *sn = net_of(n);
    n->now = now;
    if (sn->w->now < now)
        sn->w->now = now;
    list_for_each_safe(l, tmp, &sn->live)
    {
        struct sim_conn *sc = container_of(l, struct sim_conn, live);
        deliver_due(sc);
        conn_timers(sc);
    }
    return conn_emit(&sn->t, ret_ev, max, budget);
}

static uint64_t sim_next_deadline(const struct net *n)
{
    const struct sim_net *sn = net_of(n);
    uint64_t at = UINT64_MAX;
    if (!list_is_empty(&sn->t.ready))
        return 0;
    list_for_each(l, &sn->live)
    {
        struct sim_conn *sc = container_of(l, struct sim_conn, live);
        uint64_t d = idle_deadline(sc);
        if (sc->connecting && sc->connect_ns < d)
            d = sc->connect_ns;
        if (sc->linger_ns != 0 && sc->linger_ns < d)
            d = sc->linger_ns;
        if (!list_is_empty(&sc->in)) {
            uint64_t due = container_of(sc->in.next, struct piece, rb.link)->at_ns;
            d = due < d ? due : d;
        }
        at = d < at ? d : at;
    }
    return at;
}

/* ---- the rest of the table ---- */

static int sim_rx_peek(struct net *n, conn_id id, struct bytes_ref *out, int max)
{
    struct sim_conn *sc = conn_of(n, id);
    return sc == NULL ? -NET_ESTALE : conn_rx_peek(&sc->c, out, max);
}

static int sim_rx_take(struct net *n, conn_id id, uint32_t cnt, struct bytes_ref *out, int max)
{
    struct sim_conn *sc = conn_of(n, id);
    return sc == NULL ? -NET_ESTALE : conn_rx_take(&sc->c, cnt, out, max);
}

static void sim_rx_credit(struct net *n, conn_id id, uint32_t cnt)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc == NULL)
        return;
    ASSERT(cnt <= sc->c.rx_charged);
    sc->c.rx_charged -= cnt;
    if (sc->peer != NULL)
        pump(sc->peer);
}

static int sim_send(struct net *n, conn_id id, const struct bytes_ref *refs, int cnt,
                    uint64_t cookie, uint32_t flags)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc == NULL)
        return -NET_ESTALE;
    int rc = conn_tx_push(&net_of(n)->t, &sc->c, refs, cnt, cookie);
    if (rc == 0)
        pump(sc);
    return rc;
}

static uint32_t sim_tx_room(const struct net *n, conn_id id)
{
    struct sim_conn *sc = conn_of(n, id);
    return sc == NULL ? 0 : conn_tx_room(&sc->c);
}

static int sim_shutdown_tx(struct net *n, conn_id id)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc == NULL)
        return -NET_ESTALE;
    if (sc->c.tx_shut || sc->c.phase != CONN_LIVE)
        return -NET_ECLOSED;
    sc->c.tx_shut = true;
    pump(sc);
    return 0;
}

static int sim_close(struct net *n, conn_id id, uint32_t linger_ms)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc == NULL)
        return -NET_ESTALE;
    if (sc->c.closing)
        return -NET_ECLOSED;
    bool unread = sc->c.rx_unread > 0;
    conn_rx_drop(&sc->c);
    sc->c.closing = true;
    sc->c.ev = 0;
    if (sc->c.phase != CONN_LIVE)
        return 0; /* CLOSED is already on its way */
    sc->c.tx_shut = true;
    if (sc->connecting) {
        conn_kill(sc, 0, false);
        return 0;
    }
    bool queued = sc->c.tx_queued > 0;
    if (linger_ms == 0) {
        if (!queued && !unread)
            pump(sc); /* FIN */
        conn_kill(sc, 0, queued || unread);
        return 0;
    }
    sc->linger_ns = n->now + (uint64_t)linger_ms * 1000000;
    pump(sc);
    if (sc->peer != NULL)
        pump(sc->peer); /* the window is open for what will be thrown away */
    finish_check(sc);
    return 0;
}

static int sim_abort(struct net *n, conn_id id)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc == NULL)
        return -NET_ESTALE;
    conn_rx_drop(&sc->c);
    sc->c.closing = true;
    sc->c.ev = 0;
    conn_kill(sc, NET_EABORTED, true);
    return 0;
}

static int sim_info(const struct net *n, conn_id id, struct conn_info *ret_info)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc == NULL)
        return -NET_ESTALE;
    *ret_info = (struct conn_info){.local = sc->c.local,
                                   .peer = sc->c.peer,
                                   .rx_bytes = sc->c.rx_bytes,
                                   .tx_bytes = sc->c.tx_bytes,
                                   .tx_queued = sc->c.tx_queued,
                                   .rx_charged = sc->c.rx_charged};
    return 0;
}

static void sim_set_user(struct net *n, conn_id id, void *user)
{
    struct sim_conn *sc = conn_of(n, id);
    if (sc != NULL)
        sc->c.user = user;
}

static int sim_mem_register(struct net *n, void *p, size_t len, uint64_t iova)
{
    return 0;
}

static void sim_drain(struct net *n)
{
    struct sim_net *sn = net_of(n);
    for (uint32_t i = 0; i < sn->listener_cnt; i++)
        sn->listeners[i].open = false;
    n->listening = 0;
}

static void sim_destroy(struct net *n)
{
    struct sim_net *sn = net_of(n);
    if (n == NULL)
        return;
    list_for_each_safe(l, tmp, &sn->live)
    {
        struct sim_conn *sc = container_of(l, struct sim_conn, live);
        conn_kill(sc, NET_EABORTED, true);
        sim_conn_freed(&sc->c);
        conn_free(&sn->t, &sc->c);
    }
    list_del(&sn->link);
    conn_table_fini(&sn->t);
    free(sn);
}

static const struct net_ops sim_ops = {
    .listen = sim_listen,
    .listener_addr = sim_listener_addr,
    .connect = sim_connect,
    .poll = sim_poll,
    .next_deadline = sim_next_deadline,
    .rx_peek = sim_rx_peek,
    .rx_take = sim_rx_take,
    .rx_credit = sim_rx_credit,
    .send = sim_send,
    .tx_room = sim_tx_room,
    .shutdown_tx = sim_shutdown_tx,
    .close = sim_close,
    .abort = sim_abort,
    .info = sim_info,
    .set_user = sim_set_user,
    .mem_register = sim_mem_register,
    .drain = sim_drain,
    .destroy = sim_destroy,
};

int sim_world_create(const struct sim_cfg *cfg, struct sim_world **ret_world)
{
    struct sim_world *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    w->cfg = *cfg;
    w->rng = cfg->seed * UINT64_C(0x9E3779B97F4A7C15) + 1; /* xorshift must not start at 0 */
    if (w->cfg.conn_max == 0)
        w->cfg.conn_max = 1024;
    if (w->cfg.tx_segs_max == 0)
        w->cfg.tx_segs_max = 8192;
    list_init(&w->nets);
    *ret_world = w;
    return 0;
}

void sim_world_destroy(struct sim_world *w)
{
    if (w == NULL)
        return;
    ASSERT(list_is_empty(&w->nets));
    free(w);
}

int net_sim_create(struct sim_world *w, uint16_t shard, uint16_t nshards, struct net **ret_net)
{
    struct sim_net *sn = calloc(1, sizeof(*sn));
    if (sn == NULL)
        return -ENOMEM;
    sn->n.ops = &sim_ops;
    sn->n.shard = shard;
    sn->n.nshards = nshards;
    sn->w = w;
    list_init(&sn->live);
    int rc = conn_table_init(&sn->t, &sn->n, sizeof(struct sim_conn), w->cfg.conn_max,
                             w->cfg.tx_segs_max);
    if (rc < 0) {
        free(sn);
        return rc;
    }
    sn->t.on_free = sim_conn_freed;
    list_add_tail(&w->nets, &sn->link);
    *ret_net = &sn->n;
    return 0;
}
