/* stream.c - byte streams: framing per connection, and what binds it to a transport.
 *
 * A stream is lossless up to the batch: the bytes of a frame are used only when its event was
 * accepted. framing_feed cuts ahead of that, so its state is saved before and, when only k frames
 * were accepted, put back and run again with max = k.
 *
 *     READING --no batch free, or its turn is over--> WAITING (in->waiting) --streams_poll-->
 * READING
 *        `--end of stream, all read--> FINISHED --CLOSED--> gone */
#include "dataplane/ingest/ingest_int.h"
#include "lib/base/assert.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { PEEK_VIEWS = 8, TURN_BYTES = 256 * 1024 };

struct ingest_stream {
    struct ingest *in;
    struct framing framing;
    struct net_addr peer;
    uint16_t listener;
    struct list free_link;
};
struct ingest_conn {
    struct ingest_stream st;
    struct net *net;
    conn_id id;
    bool open, eof, finished; /* open: until CLOSED */
    struct list wait_link;    /* in->waiting */
};
struct stream_pool {
    uint32_t cnt;
    struct list free;
    struct ingest_conn *conns;
    void *mem;
    size_t mem_len;
};

int stream_pool_create(struct ingest *in, uint16_t listener, uint32_t cnt, uint32_t event_bytes_max,
                       enum framing_mode framing, struct stream_pool **ret)
{
    struct stream_pool *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    int rc = -ENOMEM;
    p->cnt = cnt;
    list_init(&p->free);
    p->conns = calloc(cnt > 0 ? cnt : 1, sizeof(*p->conns));
    if (p->conns == NULL)
        goto undo_pool;
    /* one byte more than an event: the LF at its end does not count. Untouched pages are free. */
    uint32_t buf_len = event_bytes_max + 1;
    p->mem_len = (size_t)(cnt > 0 ? cnt : 1) * buf_len;
    p->mem = mmap(NULL, p->mem_len, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->mem == MAP_FAILED) {
        rc = -errno;
        goto undo_conns;
    }
    for (uint32_t i = 0; i < cnt; i++) {
        struct ingest_stream *st = &p->conns[i].st;
        st->in = in;
        st->listener = listener;
        framing_init(&st->framing, framing, (uint8_t *)p->mem + (size_t)i * buf_len, buf_len);
        list_add_tail(&p->free, &st->free_link);
    }
    *ret = p;
    return 0;
undo_conns:
    free(p->conns);
undo_pool:
    free(p);
    return rc;
}

void stream_pool_destroy(struct stream_pool *p)
{
    if (p == NULL)
        return;
    (void)munmap(p->mem, p->mem_len);
    free(p->conns);
    free(p);
}

/* ---- one stream */
struct ingest_stream *ingest_stream_open(struct ingest *in, uint16_t listener,
                                         const struct net_addr *peer)
{
    ASSERT(listener < in->listener_cnt);
    struct listener_stats *ls = &in->s->counters->listener[listener];
    struct stream_pool *p = in->listener[listener].streams;
    struct list *n = p != NULL && !in->stopping ? list_pop_head(&p->free) : NULL;
    if (n == NULL) {
        ls->conn_refused++;
        return NULL;
    }
    struct ingest_stream *st = container_of(n, struct ingest_stream, free_link);
    framing_init(&st->framing, st->framing.mode, st->framing.buf, st->framing.len_max);
    st->peer = *peer;
    ls->connections++;
    return st;
}

/* Frames -> events; how many were accepted. */
static uint32_t frames_take(struct ingest_stream *st, const struct frame *f, uint32_t n,
                            bool lossless)
{
    struct dgram dg[INGEST_BURST_MAX];
    uint32_t full_len[INGEST_BURST_MAX];
    for (uint32_t i = 0; i < n; i++) {
        dg[i] =
            (struct dgram){.bytes = f[i].bytes, .peer = st->peer, .arrival_ms = st->in->s->wall_ms};
        full_len[i] = f[i].full_len;
    }
    return ingest_burst(st->in, st->listener, dg, full_len, n, lossless);
}

uint32_t ingest_stream_bytes(struct ingest_stream *st, struct span bytes)
{
    struct frame f[INGEST_BURST_MAX];
    uint32_t used = 0;
    while (used < bytes.len && !st->in->stopping) {
        struct span rest = span_of(bytes.p + used, bytes.len - used);
        struct framing before = st->framing;
        uint32_t cnt, n = framing_feed(&st->framing, rest, f, INGEST_BURST_MAX, &cnt);
        uint32_t took = cnt > 0 ? frames_take(st, f, cnt, true) : 0;
        if (took == cnt) {
            used += n;
            continue;
        }
        st->framing = before;
        st->in->s->counters->listener[st->listener].stream_waits++;
        return took > 0 ? used + framing_feed(&st->framing, rest, f, took, &cnt) : used;
    }
    return used;
}

bool ingest_stream_finish(struct ingest_stream *st)
{
    struct frame f;
    struct framing before = st->framing;
    if (framing_finish(&st->framing, &f) == 0 || frames_take(st, &f, 1, true) == 1)
        return true;
    st->framing = before;
    return false;
}

void ingest_stream_close(struct ingest_stream *st)
{
    struct frame f;
    if (framing_finish(&st->framing, &f) > 0)
        (void)frames_take(st, &f, 1, false);
    st->in->s->counters->listener[st->listener].connections--;
    list_add_head(&st->in->listener[st->listener].streams->free, &st->free_link);
}

/* ---- bound to a transport */
static struct ingest_conn *conn_of(struct ingest_stream *st)
{
    return container_of(st, struct ingest_conn, st);
}

struct ingest_conn *ingest_conn_open(struct ingest *in, uint16_t listener, struct net *net,
                                     conn_id id, const struct net_addr *peer)
{
    struct ingest_stream *st = ingest_stream_open(in, listener, peer);
    if (st == NULL)
        return NULL;
    struct ingest_conn *c = conn_of(st);
    c->net = net;
    c->id = id;
    c->open = true;
    c->eof = c->finished = false;
    list_node_init(&c->wait_link);
    return c;
}

static void conn_wait(struct ingest_conn *c)
{
    if (!list_is_linked(&c->wait_link))
        list_add_tail(&c->st.in->waiting, &c->wait_link);
}

/* One round over what can be seen. Bytes used; *ret_stuck: an event found no buffer. */
static uint32_t conn_round(struct ingest_conn *c, bool *ret_stuck)
{
    struct bytes_ref view[PEEK_VIEWS];
    uint32_t used = 0;
    int n = c->net->ops->rx_peek(c->net, c->id, view, PEEK_VIEWS);
    for (int i = 0; i < n && !*ret_stuck; i++) {
        uint32_t got = ingest_stream_bytes(&c->st, span_of(seg_ptr(&view[i]), view[i].len));
        used += got;
        *ret_stuck = got < view[i].len;
    }
    if (used > 0) {
        int rc = c->net->ops->rx_take(c->net, c->id, used, NULL, 0);
        ASSERT(rc >= 0); /* it was lent just now */
        c->net->ops->rx_credit(c->net, c->id, used);
    }
    return used;
}

static void conn_read(struct ingest_conn *c)
{
    uint32_t sum = 0;
    if (c->finished || c->st.in->stopping)
        return;
    for (;;) {
        bool stuck = false;
        uint32_t used = conn_round(c, &stuck);
        sum += used;
        if (stuck || sum >= TURN_BYTES) {
            conn_wait(c);
            return;
        }
        if (used == 0)
            break;
    }
    if (!c->eof)
        return;
    if (!ingest_stream_finish(&c->st)) {
        conn_wait(c);
        return;
    }
    c->finished = true;
    (void)c->net->ops->close(c->net, c->id, 0); /* gone already: CLOSED comes anyway */
}

void ingest_conn_event(struct ingest_conn *c, const struct net_ev *ev)
{
    if (ev->what & NET_EV_CLOSED) {
        if (list_is_linked(&c->wait_link))
            list_del(&c->wait_link);
        c->open = false;
        ingest_stream_close(&c->st);
        return;
    }
    if (ev->what & NET_EV_RX_EOF)
        c->eof = true;
    if (ev->what & (NET_EV_RX | NET_EV_RX_EOF))
        conn_read(c);
}

void ingest_streams_end(struct ingest *in)
{
    for (uint16_t l = 0; l < in->listener_cnt; l++) {
        struct stream_pool *p = in->listener[l].streams;
        for (uint32_t i = 0; p != NULL && i < p->cnt; i++) {
            struct ingest_conn *c = &p->conns[i];
            if (!c->open || c->finished)
                continue;
            c->finished = true;
            (void)c->net->ops->close(c->net, c->id, 0); /* gone already: CLOSED comes anyway */
        }
    }
}

/* Streams that waited, oldest first; each goes to the end of the queue if it must wait again. */
uint32_t streams_poll(struct ingest *in, uint32_t budget)
{
    struct list now;
    uint32_t n = 0;
    list_init(&now);
    list_splice_tail(&now, &in->waiting);
    while (n < budget && !list_is_empty(&now) && accum_stream_has_room(in->accum)) {
        struct ingest_conn *c = container_of(list_pop_head(&now), struct ingest_conn, wait_link);
        conn_read(c);
        n++;
    }
    list_splice_tail(&now, &in->waiting); /* those not reached stay first */
    list_splice_tail(&in->waiting, &now);
    return n;
}
