/* conn.c - see conn.h. */
#include "dataplane/net/conn.h"
#include "lib/base/assert.h"
#include <stdlib.h>

int conn_table_init(struct conn_table *t, struct net *net, size_t conn_size, uint32_t conn_max,
                    uint32_t tx_ent_max)
{
    memset(t, 0, sizeof(*t));
    list_init(&t->free_conns);
    list_init(&t->ready);
    list_init(&t->starved);
    list_init(&t->tx_free);
    t->net = net;
    t->size = (conn_size + 63) & ~(size_t)63;
    t->max = conn_max;
    t->mem = calloc(conn_max, t->size);
    t->tx_mem = calloc(tx_ent_max, sizeof(*t->tx_mem));
    if (t->mem == NULL || t->tx_mem == NULL) {
        conn_table_fini(t);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < tx_ent_max; i++)
        list_add_tail(&t->tx_free, &t->tx_mem[i].link);
    t->tx_cnt = t->tx_free_cnt = tx_ent_max;
    net->conn_max = conn_max;
    return 0;
}

void conn_table_fini(struct conn_table *t)
{
    free(t->mem);
    free(t->tx_mem);
    t->mem = NULL;
    t->tx_mem = NULL;
}

struct conn *conn_alloc(struct conn_table *t, const struct conn_opts *opts)
{
    if (t->free_cnt < CONN_REST_MIN && t->fresh < t->max) {
        struct conn *c = conn_at(t, t->fresh);
        c->idx = t->fresh++;
        t->free_cnt++;
        list_add_head(&t->free_conns, &c->ready);
    }
    struct list *l = list_pop_head(&t->free_conns);
    if (l == NULL)
        return NULL;
    t->free_cnt--;
    struct conn *c = container_of(l, struct conn, ready);
    uint32_t idx = c->idx, gen = conn_gen_next(c->gen);
    memset(c, 0, t->size);
    c->idx = idx;
    c->gen = gen;
    c->phase = CONN_LIVE;
    c->opts = conn_opts_complete(opts);
    c->active_ns = t->net->now;
    list_init(&c->rxq);
    list_init(&c->txq);
    list_init(&c->doneq);
    t->net->conn_cnt++;
    return c;
}

static void tx_ent_put(struct conn_table *t, struct tx_ent *e)
{
    /* At the head: the most recently used entry is the one still in the cache. */
    list_add_head(&t->tx_free, &e->link);
    t->tx_free_cnt++;
}

static void doneq_drop(struct conn_table *t, struct conn *c)
{
    for (struct list *l; (l = list_pop_head(&c->doneq)) != NULL;)
        tx_ent_put(t, container_of(l, struct tx_ent, link));
}

void conn_free(struct conn_table *t, struct conn *c)
{
    ASSERT(c->phase != CONN_FREE);
    conn_rx_drop(c);
    conn_tx_drop(t, c);
    doneq_drop(t, c);
    if (list_is_linked(&c->ready))
        list_del(&c->ready);
    if (list_is_linked(&c->starved))
        list_del(&c->starved);
    c->phase = CONN_FREE;
    t->net->conn_cnt--;
    /* At the tail: a slot rests as long as possible, which keeps generations apart. */
    list_add_tail(&t->free_conns, &c->ready);
    t->free_cnt++;
}

struct conn *conn_lookup(const struct conn_table *t, conn_id id)
{
    uint32_t idx = conn_id_idx(id);
    if (idx >= t->max || conn_id_shard(id) != (t->net->shard & 0xff))
        return NULL;
    struct conn *c = conn_at(t, idx);
    if (c->phase == CONN_FREE || c->gen != conn_id_gen(id))
        return NULL;
    return c;
}

/* ---- events ---- */

static void starved_wake(struct conn_table *t);

static void ready_add(struct conn_table *t, struct conn *c)
{
    if (!list_is_linked(&c->ready))
        list_add_tail(&t->ready, &c->ready);
}

void conn_raise(struct conn_table *t, struct conn *c, uint32_t ev)
{
    if (c->closing)
        return;
    c->ev |= ev;
    ready_add(t, c);
}

void conn_set_dead(struct conn_table *t, struct conn *c, int err)
{
    ASSERT(c->phase == CONN_LIVE);
    c->phase = CONN_DEAD;
    c->err = err;
    conn_tx_drop(t, c);
    if (list_is_linked(&c->starved))
        list_del(&c->starved);
    c->ev &= ~(uint32_t)NET_EV_TX_ROOM;
    c->tx_wanted = false;
    t->net->st.closes++;
    if (err == NET_ERESET)
        t->net->st.resets++;
    if (err == NET_ETIMEDOUT)
        t->net->st.timeouts++;
    ready_add(t, c);
}

int conn_emit(struct conn_table *t, struct net_ev *ret_ev, int max, int budget)
{
    struct list later; /* has more to say in the next poll: what follows an ACCEPT, CLOSED */
    int n = 0;
    list_init(&later);
    while (n < max && budget-- > 0 && !list_is_empty(&t->ready)) {
        struct conn *c = container_of(t->ready.next, struct conn, ready);
        struct net_ev base = {.conn = conn_handle(t, c), .user = c->user, .listener = c->listener};
        bool had_news = false;
        if ((c->ev & NET_EV_ACCEPT) != 0) { /* what it says next must find the user's pointer */
            ret_ev[n] = base;
            ret_ev[n++].what = NET_EV_ACCEPT;
            c->ev &= ~(uint32_t)NET_EV_ACCEPT;
            list_del(&c->ready);
            if (c->ev != 0 || !list_is_empty(&c->doneq) || c->phase == CONN_DEAD)
                list_add_tail(&later, &c->ready);
            continue;
        }
        if (c->ev != 0) {
            ret_ev[n] = base;
            ret_ev[n++].what = c->ev;
            c->ev = 0;
            had_news = true;
        }
        while (n < max && !list_is_empty(&c->doneq)) {
            struct tx_ent *e = container_of(list_pop_head(&c->doneq), struct tx_ent, link);
            ret_ev[n] = base;
            ret_ev[n].what = NET_EV_TX_DONE;
            ret_ev[n++].cookie = e->cookie;
            tx_ent_put(t, e);
            had_news = true;
        }
        if (!list_is_empty(&c->doneq))
            break; /* out of room: stays at the head */
        list_del(&c->ready);
        if (c->phase != CONN_DEAD)
            continue;
        if (had_news) {
            list_add_tail(&later, &c->ready);
            continue;
        }
        if (n == max) {
            list_add_head(&t->ready, &c->ready);
            break;
        }
        ret_ev[n] = base;
        ret_ev[n].what = NET_EV_CLOSED;
        ret_ev[n++].err = c->err;
        if (t->on_free != NULL)
            t->on_free(c);
        conn_free(t, c);
    }
    list_splice_tail(&t->ready, &later);
    starved_wake(t); /* reported cookies freed their entries */
    return n;
}

/* ---- receiving ---- */

void conn_rx_append(struct conn_table *t, struct conn *c, struct rx_buf *rb)
{
    list_add_tail(&c->rxq, &rb->link);
    c->rx_unread += rb->len;
    c->rx_charged += rb->len;
    conn_raise(t, c, NET_EV_RX);
}

int conn_rx_peek(const struct conn *c, struct bytes_ref *out, int max)
{
    int n = 0;
    list_for_each(l, &c->rxq)
    {
        if (n == max)
            break;
        struct rx_buf *rb = container_of(l, struct rx_buf, link);
        out[n++] = (struct bytes_ref){&rb->b, rb->off, rb->len};
    }
    return n;
}

int conn_rx_take(struct conn *c, uint32_t n, struct bytes_ref *out, int max)
{
    if (n > c->rx_unread)
        return -NET_EINVAL;
    if (out != NULL) { /* all or nothing: count the views first */
        uint32_t left = n;
        int views = 0;
        for (struct list *l = c->rxq.next; left > 0; l = l->next, views++) {
            uint32_t len = container_of(l, struct rx_buf, link)->len;
            left -= left < len ? left : len;
        }
        if (views > max)
            return -NET_EINVAL;
    }
    int cnt = 0;
    c->rx_unread -= n;
    while (n > 0) {
        struct rx_buf *rb = container_of(c->rxq.next, struct rx_buf, link);
        uint32_t len = n < rb->len ? n : rb->len;
        bool whole = len == rb->len;
        if (out != NULL) {
            out[cnt++] = (struct bytes_ref){&rb->b, rb->off, len};
            if (!whole)
                buf_get(&rb->b); /* the queue keeps its own reference to the rest */
        }
        rb->off += len;
        rb->len -= len;
        n -= len;
        if (whole) {
            list_del(&rb->link);
            if (out == NULL)
                buf_put(&rb->b);
        }
    }
    return cnt;
}

void conn_rx_drop(struct conn *c)
{
    for (struct list *l; (l = list_pop_head(&c->rxq)) != NULL;)
        buf_put(&container_of(l, struct rx_buf, link)->b);
    c->rx_unread = 0;
}

/* ---- sending ---- */

int conn_tx_push(struct conn_table *t, struct conn *c, const struct bytes_ref *refs, int n,
                 uint64_t cookie)
{
    uint64_t total = 0;
    int views = 0, last = -1;
    if (c->phase != CONN_LIVE || c->tx_shut || c->closing)
        return -NET_ECLOSED;
    for (int i = 0; i < n; i++) {
        total += refs[i].len;
        if (refs[i].len > 0) {
            views++;
            last = i;
        }
    }
    if (total == 0 || total > UINT32_MAX / 2 || (uint32_t)views > t->tx_cnt)
        return -NET_EINVAL;
    bool no_room = c->tx_queued > 0 && c->tx_queued + total > c->opts.tx_high;
    bool no_ents = (uint32_t)views > t->tx_free_cnt;
    if (no_room || no_ents) {
        c->tx_wanted = true;
        if (no_ents && !list_is_linked(&c->starved))
            list_add_tail(&t->starved, &c->starved);
        return -NET_EAGAIN;
    }
    for (int i = 0; i < n; i++) {
        if (refs[i].len == 0)
            continue;
        struct tx_ent *e = container_of(list_pop_head(&t->tx_free), struct tx_ent, link);
        t->tx_free_cnt--;
        e->ref = refs[i];
        e->done = 0;
        e->last = i == last;
        e->cookie = cookie;
        buf_get(e->ref.b);
        list_add_tail(&c->txq, &e->link);
    }
    c->tx_queued += (uint32_t)total;
    return 0;
}

static void room_check(struct conn_table *t, struct conn *c)
{
    if (!c->tx_wanted || list_is_linked(&c->starved) || c->tx_queued > c->opts.tx_low)
        return;
    c->tx_wanted = false;
    conn_raise(t, c, NET_EV_TX_ROOM);
}

/* Entries are free again: wake those who found none, once a quarter of the pool is back (waking
 * for each single one would let all waiters fail again and again). */
static void starved_wake(struct conn_table *t)
{
    if (list_is_empty(&t->starved) || t->tx_free_cnt < (t->tx_cnt + 3) / 4)
        return;
    for (struct list *l; (l = list_pop_head(&t->starved)) != NULL;)
        room_check(t, container_of(l, struct conn, starved));
}

void conn_tx_retire(struct conn_table *t, struct conn *c, uint32_t n)
{
    ASSERT(n <= c->tx_queued);
    c->tx_queued -= n;
    c->tx_bytes += n;
    t->net->st.tx_bytes += n;
    while (n > 0) {
        struct tx_ent *e = container_of(c->txq.next, struct tx_ent, link);
        uint32_t left = e->ref.len - e->done;
        uint32_t len = n < left ? n : left;
        e->done += len;
        n -= len;
        if (len < left)
            break;
        list_del(&e->link);
        buf_put(e->ref.b);
        if (e->last && e->cookie != 0) {
            list_add_tail(&c->doneq, &e->link);
            ready_add(t, c);
        } else {
            tx_ent_put(t, e);
        }
    }
    room_check(t, c);
    starved_wake(t);
}

void conn_tx_drop(struct conn_table *t, struct conn *c)
{
    for (struct list *l; (l = list_pop_head(&c->txq)) != NULL;) {
        struct tx_ent *e = container_of(l, struct tx_ent, link);
        buf_put(e->ref.b);
        tx_ent_put(t, e);
    }
    c->tx_queued = 0;
    starved_wake(t);
}
