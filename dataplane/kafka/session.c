/* session.c - frames in, responses out, in order. session.h has the states and the rules.
 *
 * conn_run is the only place that moves a connection: read, start, flush, close. Everything else
 * (events, grants of memory, finished handlers) notes a fact and puts the connection on
 * kafka.ready. */
#include "dataplane/kafka/session.h"
#include "dataplane/kafka/fetch_session.h"
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/txn/txn.h"
#include "dataplane/kafka/handlers.h"
#include "lib/base/log.h"
#include "lib/iface/net_addr.h"
#include <stdlib.h>
#include <string.h>

#define MS_NS UINT64_C(1000000)
#define ARENA_BASE_BYTES 262144 /* decoding may use this plus ARENA_PER_BYTE per byte of frame */
#define ARENA_PER_BYTE 24

static struct net *conn_net(const struct kconn *c)
{
    return c->k->s->net;
}

void kconn_ready(struct kconn *c)
{
    if (!list_is_linked(&c->ready))
        list_add_tail(&c->k->ready, &c->ready);
}

/* ------------------------------------------------------------- connections */

static struct budget *frame_budget(const struct kconn *c)
{
    return c->frame_len > FRAME_LARGE_MIN ? &c->k->frames_large : &c->k->frames_small;
}

static void on_frame_granted(struct budget_waiter *w)
{
    struct kconn *c = container_of(w, struct kconn, frame_wait);
    c->frame_granted = true;
    kconn_ready(c);
}

static void on_gate_granted(struct budget_waiter *w)
{
    struct kconn *c = container_of(w, struct kconn, gate_wait);
    c->gate_granted = true; /* conn_gate gives the byte back: a release must not nest in another */
    kconn_ready(c);
}

static void conn_drop_frame(struct kconn *c)
{
    budget_cancel(frame_budget(c), &c->frame_wait);
    if (c->frame_granted)
        budget_release(frame_budget(c), c->frame_len);
    c->frame_granted = false;
    kbuf_put(c->frame);
    c->frame = NULL;
    c->head_len = 0;
    c->frame_len = c->frame_got = 0;
}

static void conn_add_req(struct kconn *c, struct kreq *req)
{
    list_add_tail(&c->reqs, &req->link);
    if (c->req_cnt++ < KAFKA_REQS_OWN)
        c->k->own_used++;
    if ((req->api->flags & API_PIPELINES) == 0)
        c->queued_serial_cnt++;
}

/* Let go of the oldest `req`: it is sent, or will never be. */
static void conn_remove_req(struct kconn *c, struct kreq *req)
{
    list_del(&req->link);
    if (--c->req_cnt < KAFKA_REQS_OWN)
        c->k->own_used--;
    if (req->state == RQ_QUEUED && (req->api->flags & API_PIPELINES) == 0)
        c->queued_serial_cnt--;
    if (req->state == RQ_RUNNING) {
        c->running_cnt--;
        if ((req->api->flags & API_PIPELINES) == 0)
            c->running_serial_cnt--;
    }
    req->conn = NULL;
    if (list_is_linked(&req->kick))
        list_del(&req->kick);
    if (req->state == RQ_RUNNING && req->api->cancel != NULL)
        req->api->cancel(req);
    kreq_put(req);
}

static void conn_drop_reqs(struct kconn *c)
{
    while (!list_is_empty(&c->reqs))
        conn_remove_req(c, container_of(c->reqs.next, struct kreq, link));
}

/* The handle is dead: forget everything that belongs to it. */
void kconn_gone(struct kconn *c)
{
    struct kafka *k = c->k;
    conn_drop_reqs(c);
    conn_drop_frame(c);
    budget_cancel(&k->responses, &c->gate_wait);
    if (c->gate_granted)
        budget_release(&k->responses, 1);
    if (list_is_linked(&c->ready))
        list_del(&c->ready);
    if (list_is_linked(&c->starved))
        list_del(&c->starved);
    timer_cancel(k->s->timers, &c->unmute);
    conn_uncount(k->shared, c->count_slot);
    list_del(&c->link);
    list_add_head(&k->free_conns, &c->link);
    c->id = CONN_NONE;
    k->conn_cnt--;
    k->st.connections_closed++;
}

/* Tell the transport; NET_EV_CLOSED follows. What was handed over is still delivered. */
static void conn_close(struct kconn *c, bool abort)
{
    if (c->closed_by_us)
        return;
    c->closing = c->closed_by_us = true;
    conn_drop_reqs(c);
    conn_drop_frame(c);
    struct net *net = conn_net(c);
    if (abort)
        (void)net->ops->abort(net, c->id); /* stale: CLOSED is on its way already */
    else
        (void)net->ops->close(net, c->id, CLOSE_LINGER_MS);
}

/* Room for more of the frame that is being read: 1, 0 when waiting for memory, -ENOMEM. */
static int frame_room(struct kconn *c)
{
    struct kafka *k = c->k;
    if (c->frame != NULL && c->frame_got < c->frame->buf.cap)
        return 1;
    if (budget_is_waiting(&c->frame_wait))
        return 0;
    struct budget *b = &k->probes;
    uint32_t cap, charge;
    if (c->frame == NULL) {
        cap = c->frame_len < FRAME_PROBE_SMALL ? c->frame_len : FRAME_PROBE_SMALL;
        charge = 0;
    } else if (!c->frame_granted && c->frame->buf.cap == FRAME_PROBE_SMALL &&
               c->frame_len > FRAME_PROBE_LARGE && budget_try(b, FRAME_PROBE_LARGE)) {
        cap = charge = FRAME_PROBE_LARGE;
    } else {
        b = frame_budget(c);
        cap = charge = c->frame_len;
        if (!c->frame_granted && !budget_try(b, charge)) {
            k->st.budget_waits++;
            budget_wait(b, &c->frame_wait, charge);
            return 0;
        }
        c->frame_granted = false;
    }
    struct kbuf *kb = kbuf_create(k->s->id, b, cap, charge);
    if (kb == NULL) {
        budget_release(b, charge);
        return -ENOMEM;
    }
    if (c->frame != NULL)
        memcpy(kb->data, c->frame->data, c->frame_got);
    kbuf_put(c->frame);
    c->frame = kb;
    c->stall_since_ns = k->s->now_ns;
    c->stall_got = c->frame_got;
    return 1;
}

/* A whole frame is there: make it a request. 0, or negative: close. */
static int conn_frame_done(struct kconn *c)
{
    struct kafka *k = c->k;
    struct kreq *req = kreq_get(k);
    ASSERT(req != NULL); /* conn_can_read saw one */
    req->frame = c->frame;
    req->frame_len = c->frame_len;
    c->frame = NULL;
    c->head_len = 0;
    c->frame_len = c->frame_got = 0;

    struct wire_reader r;
    wire_reader_init(&r, span_of(req->frame->data, req->frame_len));
    int rc = wire_request_header_read(&r, &req->hdr);
    if (rc < 0 && rc != -E_UNSUPPORTED_VERSION) {
        k->st.malformed++;
        LOG_WARN("%s: request header: %s, closing", c->peer, err_text(rc));
        goto refuse;
    }
    const struct api *api = api_find(req->hdr.api_key);
    bool served = rc == 0 && api != NULL && req->hdr.api_version >= api->min &&
                  req->hdr.api_version <= api->max;
    if (!served && (api == NULL || api->key != API_KEY_API_VERSIONS)) {
        k->st.unsupported++;
        LOG_WARN("%s: api key %d version %d is not served, closing", c->peer, req->hdr.api_key,
                 req->hdr.api_version);
        rc = -E_UNSUPPORTED_VERSION;
        goto refuse;
    }
    req->conn = c;
    req->api = api;
    req->unserved_version = !served;
    req->body_pos = (uint32_t)(r.p - req->frame->data);
    req->arena.bytes_max =
        req->arena.total + ARENA_BASE_BYTES + (uint64_t)ARENA_PER_BYTE * req->frame_len;
    conn_add_req(c, req);
    k->st.requests++;
    return 0;
refuse:
    kreq_put(req);
    return rc;
}

/* A kreq is there for c: one of its own, or a shared one. */
static bool conn_can_have_req(const struct kconn *c)
{
    const struct kafka *k = c->k;
    uint32_t kept = k->reqs_max - KAFKA_REQS_SHARED - k->own_used;
    uint32_t left = k->reqs_max - k->req_cnt;
    return left > (c->req_cnt < KAFKA_REQS_OWN ? 0 : kept);
}

static bool conn_is_muted(const struct kconn *c)
{
    return c->muted_until_ns > c->k->s->now_ns && !c->closing && !c->rx_eof && !c->k->draining;
}

static void on_unmute(struct timer *t, uint64_t now_ns)
{
    struct kconn *c = container_of(t, struct kconn, unmute);
    (void)now_ns;
    c->muted_until_ns = 0;
    kconn_ready(c);
}

void kconn_mute(struct kconn *c, uint64_t until_ns)
{
    if (until_ns <= c->muted_until_ns)
        return;
    c->muted_until_ns = until_ns;
    timer_cancel(c->k->s->timers, &c->unmute);
    timer_arm(c->k->s->timers, &c->unmute, until_ns, on_unmute);
}

/* The rules of reading ahead, session.h. */
static bool conn_may_read(const struct kconn *c)
{
    if (conn_is_muted(c))
        return false;
    if (c->closing || c->req_cnt >= KAFKA_INFLIGHT_MAX || c->queued_serial_cnt > 0)
        return false;
    bool grows = c->frame != NULL && c->frame_got == c->frame->buf.cap;
    return !grows || c->running_serial_cnt == 0;
}

static bool conn_can_read(const struct kconn *c)
{
    return conn_may_read(c) && conn_can_have_req(c);
}

void kafka_starved_wake(struct kafka *k)
{
    list_for_each(n, &k->starved)
    {
        struct kconn *c = container_of(n, struct kconn, starved);
        if (!conn_can_have_req(c))
            continue;
        list_del(n);
        kconn_ready(c);
        return;
    }
}

/* Take what `p` has for the head or the frame. Bytes used; *ret_rc < 0: close, 0: no room now. */
static uint32_t conn_feed(struct kconn *c, const uint8_t *p, uint32_t len, int *ret_rc)
{
    uint32_t used = 0;
    *ret_rc = 1;
    while (used < len && conn_can_read(c)) {
        if (c->head_len < 4) {
            c->head[c->head_len++] = p[used++];
            if (c->head_len < 4)
                continue;
            uint32_t size = load_be32(c->head);
            if (size < FRAME_MIN || size > c->k->frame_max) {
                c->k->st.oversized++;
                LOG_WARN("%s: request of %d bytes, allowed are %u to %u, closing", c->peer,
                         (int32_t)size, FRAME_MIN, c->k->frame_max);
                *ret_rc = -E_LIMIT;
                return used;
            }
            c->frame_len = size;
            c->frame_got = 0;
            continue;
        }
        *ret_rc = frame_room(c);
        if (*ret_rc <= 0)
            return used;
        uint32_t n = c->frame->buf.cap - c->frame_got;
        if (n > len - used)
            n = len - used;
        memcpy(c->frame->data + c->frame_got, p + used, n);
        c->frame_got += n;
        used += n;
        if (c->frame_got == c->frame_len) {
            *ret_rc = conn_frame_done(c);
            if (*ret_rc < 0)
                return used;
            *ret_rc = 1;
        }
    }
    return used;
}

static void conn_read(struct kconn *c)
{
    struct net *net = conn_net(c);
    uint32_t taken = 0;
    int rc = 1;
    while (c->rx_pending && rc > 0 && taken < KAFKA_CONN_READ_MAX && conn_can_read(c)) {
        struct bytes_ref segs[16];
        int n = net->ops->rx_peek(net, c->id, segs, 16);
        if (n <= 0) {
            c->rx_pending = false;
            break;
        }
        uint32_t used = 0;
        for (int i = 0; i < n && rc > 0; i++) {
            uint32_t u = conn_feed(c, seg_ptr(&segs[i]), segs[i].len, &rc);
            used += u;
            if (u < segs[i].len)
                break;
        }
        if (used == 0)
            break;
        (void)net->ops->rx_take(net, c->id, used, NULL, 0); /* we peeked that much */
        net->ops->rx_credit(net, c->id, used);
        taken += used;
        c->active_ns = c->k->s->now_ns;
    }
    if (rc < 0)
        c->closing = true;
    else if (c->rx_pending && rc > 0 && taken >= KAFKA_CONN_READ_MAX)
        kconn_ready(c); /* others first */
    if (!c->rx_pending && c->rx_eof)
        c->closing = true; /* answer what is there, then close */
    if (c->rx_pending && conn_may_read(c) && !conn_can_have_req(c) && !list_is_linked(&c->starved))
        list_add_tail(&c->k->starved, &c->starved);
    kafka_starved_wake(c->k);
}

static bool conn_gate(struct kconn *c, const struct api *api)
{
    struct budget *b = &c->k->responses;
    if (c->gate_granted) {
        c->gate_granted = false;
        budget_release(b, 1);
        return true;
    }
    if ((api->flags & API_NO_MEMORY_GATE) != 0)
        return true;
    if (budget_is_waiting(&c->gate_wait))
        return false;
    if (b->used < b->cap)
        return true;
    c->k->st.budget_waits++;
    budget_wait(b, &c->gate_wait, 1);
    return false;
}

static void conn_start(struct kconn *c)
{
    list_for_each_safe(n, tmp, &c->reqs)
    {
        if (conn_is_muted(c))
            return;
        struct kreq *req = container_of(n, struct kreq, link);
        if (req->state != RQ_QUEUED)
            continue;
        bool pipelines = (req->api->flags & API_PIPELINES) != 0;
        bool may = pipelines ? c->running_serial_cnt == 0 : c->reqs.next == n;
        if (!may || !conn_gate(c, req->api))
            return;
        req->state = RQ_RUNNING;
        c->running_cnt++;
        if (!pipelines) {
            c->queued_serial_cnt--;
            c->running_serial_cnt++;
        }
        struct wire_reader r;
        wire_reader_init(&r,
                         span_of(req->frame->data + req->body_pos, req->frame_len - req->body_pos));
        req->refs++; /* the handler may finish at once */
        int rc = req->api->start(req, &r);
        kreq_charge_arena(req);
        if (rc < 0) {
            c->k->st.malformed++;
            LOG_WARN("%s: %s version %d: %s, closing", c->peer, req->api->name, kreq_version(req),
                     err_text(rc));
            kreq_done_silent(req, true);
        }
        kreq_put(req);
        if (!pipelines)
            return;
    }
}

/* Hand the response of req to the transport. True when all of it is there. */
static bool conn_send(struct kconn *c, struct kreq *req)
{
    struct net *net = conn_net(c);
    if (req->send_since_ns == 0) {
        req->send_since_ns = c->k->s->now_ns;
        for (uint32_t i = 0; i < req->seg_cnt; i++)
            req->send_len += req->segs[i].len;
    }
    while (req->seg_idx < req->seg_cnt) {
        struct bytes_ref out[KAFKA_SEND_SEGS_MAX];
        uint32_t n = 0, bytes = 0, idx = req->seg_idx, pos = req->seg_pos;
        while (idx < req->seg_cnt && n < KAFKA_SEND_SEGS_MAX && bytes < KAFKA_SEND_PIECE_MAX) {
            const struct bytes_ref *s = &req->segs[idx];
            uint32_t len = s->len - pos;
            if (len > KAFKA_SEND_PIECE_MAX - bytes)
                len = KAFKA_SEND_PIECE_MAX - bytes;
            out[n++] = (struct bytes_ref){s->b, s->off + pos, len};
            bytes += len;
            pos += len;
            if (pos == s->len) {
                idx++;
                pos = 0;
            }
        }
        uint32_t flags = idx < req->seg_cnt ? NET_SEND_MORE : 0;
        int rc = net->ops->send(net, c->id, out, (int)n, 0, flags);
        if (rc == -NET_EAGAIN) {
            if (!c->tx_blocked)
                c->tx_progress_ns = c->k->s->now_ns;
            c->tx_blocked = true;
            return false;
        }
        if (rc < 0) { /* the connection is gone; CLOSED tells */
            c->closing = true;
            c->tx_blocked = true;
            return false;
        }
        for (uint32_t i = req->seg_idx; i < idx; i++)
            buf_put(req->segs[i].b);
        req->seg_idx = idx;
        req->seg_pos = pos;
        c->active_ns = c->tx_progress_ns = c->k->s->now_ns;
    }
    return true;
}

static void conn_flush(struct kconn *c)
{
    while (!c->tx_blocked && !list_is_empty(&c->reqs)) {
        struct kreq *req = container_of(c->reqs.next, struct kreq, link);
        if (req->state != RQ_DONE)
            return;
        if (req->close_after)
            c->closing = c->close_now = true;
        if (!req->no_response && !conn_send(c, req))
            return;
        conn_remove_req(c, req);
        if (c->close_now)
            return;
    }
}

static void conn_run(struct kconn *c)
{
    if (c->closed_by_us)
        return;
    conn_read(c);
    conn_start(c);
    uint32_t before;
    do { /* an answered request lets the next one start */
        before = c->req_cnt;
        conn_flush(c);
        if (c->close_now || c->req_cnt == before)
            break;
        conn_start(c);
    } while (!list_is_empty(&c->reqs));
    if (c->close_now || (c->closing && list_is_empty(&c->reqs)))
        conn_close(c, false);
    else if (c->rx_pending && conn_can_read(c) && !budget_is_waiting(&c->frame_wait))
        kconn_ready(c); /* answering made room to read on */
}

/* Memory of a connection; NULL: memory.connections_max are open. */
static struct kconn *kconn_take(struct kafka *k)
{
    struct list *n = list_pop_head(&k->free_conns);
    if (n != NULL)
        return container_of(n, struct kconn, link);
    return k->conns_fresh < k->s->conf->connections_max ? &k->conn_mem[k->conns_fresh++] : NULL;
}

int kafka_conn_open(struct kafka *k, uint16_t listener_idx, conn_id id)
{
    struct net *net = k->s->net;
    struct conn_info info = {0};
    uint32_t slot = CONN_SLOT_NONE;
    bool known = net->ops->info(net, id, &info) == 0;
    enum conn_verdict verdict = kconn_admit(k, &info.peer, &slot);
    struct kconn *c = k->draining || verdict != CONN_COUNTED ? NULL : kconn_take(k);
    if (c == NULL) {
        char peer[NET_ADDR_TEXT_MAX];
        (void)net_addr_format(&info.peer, peer); /* its length */
        k->st.connections_refused++;
        k->st.connections_over_limit += verdict != CONN_COUNTED;
        LOG_WARN("connection of %s refused: %s", peer,
                 verdict == CONN_TOO_MANY              ? "max.connections are open"
                 : verdict == CONN_TOO_MANY_OF_ADDRESS ? "max.connections.per.ip are open"
                 : k->draining                         ? "the shard is stopping"
                                                       : "memory.connections_max are open");
        if (verdict == CONN_COUNTED)
            conn_uncount(k->shared, slot);
        net->ops->set_user(net, id, NULL);
        (void)net->ops->abort(net, id); /* stale: it closed itself */
        return -E_BUSY;
    }
    memset(c, 0, sizeof(*c));
    c->k = k;
    c->id = id;
    c->listener_idx = listener_idx;
    c->frame_wait.granted = on_frame_granted;
    c->gate_wait.granted = on_gate_granted;
    list_init(&c->reqs);
    list_add_tail(&k->conns, &c->link);
    c->active_ns = k->s->now_ns;
    c->count_slot = slot;
    if (known) {
        (void)net_addr_format(&info.peer, c->peer); /* its length */
        c->local = info.local;
    } else {
        snprintf(c->peer, sizeof(c->peer), "?");
    }
    net->ops->set_user(net, id, c);
    k->conn_cnt++;
    k->st.connections_opened++;
    c->rx_pending = true; /* bytes may have come with the accept */
    kconn_ready(c);
    return 0;
}

/* Requests that wait for the world answer now. */
static void conn_hurry(struct kconn *c)
{
    list_for_each(n, &c->reqs)
    {
        struct kreq *req = container_of(n, struct kreq, link);
        if (req->state == RQ_RUNNING && (req->api->flags & API_PARKS) != 0)
            kreq_kick(req);
    }
}

void kafka_on_event(struct kafka *k, const struct net_ev *ev)
{
    struct kconn *c = (struct kconn *)ev->user;
    if (c == NULL || c->id != ev->conn)
        return; /* one we refused */
    if (ev->what & (NET_EV_RX | NET_EV_RX_EOF))
        c->rx_pending = true;
    if (ev->what & NET_EV_RX_EOF) { /* it waits for nothing more, or is gone: sending tells */
        c->rx_eof = true;
        conn_hurry(c);
    }
    if (ev->what & NET_EV_TX_ROOM) {
        c->tx_blocked = false;
        c->tx_progress_ns = k->s->now_ns;
    }
    if (ev->what & NET_EV_CLOSED)
        kconn_gone(c);
    else
        kconn_ready(c);
}

uint32_t kafka_poll(struct shard *s, uint32_t budget)
{
    struct kafka *k = s->kafka;
    uint32_t done = 0;
    coord_poll(k->coord);
    txn_coord_poll(k->txns);
    while (done < budget && !list_is_empty(&k->kicked)) {
        struct kreq *req = container_of(list_pop_head(&k->kicked), struct kreq, kick);
        done++;
        if (req->state != RQ_RUNNING)
            continue;
        req->refs++;
        req->api->resume(req);
        kreq_charge_arena(req);
        kreq_put(req);
    }
    /* Only those that are ready now: who gets ready again waits for the next turn. */
    struct list now;
    list_init(&now);
    list_splice_tail(&now, &k->ready);
    while (done < budget && !list_is_empty(&now)) {
        struct kconn *c = container_of(list_pop_head(&now), struct kconn, ready);
        conn_run(c);
        done++;
    }
    list_splice_tail(&now, &k->ready); /* those not reached keep their turn */
    list_splice_tail(&k->ready, &now);
    return done;
}

bool kafka_has_work(const struct kafka *k)
{
    return !list_is_empty(&k->kicked) || !list_is_empty(&k->ready);
}

void kafka_drain(struct kafka *k)
{
    k->draining = true;
    coord_drain(k->coord);
    txn_coord_drain(k->txns);
    list_for_each(n, &k->conns)
    {
        struct kconn *c = container_of(n, struct kconn, link);
        c->closing = true;
        conn_hurry(c);
        kconn_ready(c);
    }
}

bool kafka_is_idle(const struct kafka *k)
{
    return k->conn_cnt == 0 && k->req_cnt == 0 && coord_is_idle(k->coord) &&
           txn_coord_is_idle(k->txns);
}

/* Others wait for the memory that c's response holds, and c takes it too slowly. */
static bool conn_hoards(const struct kconn *c, uint64_t now)
{
    if (!c->tx_blocked || list_is_empty(&c->k->responses.waiters) || list_is_empty(&c->reqs))
        return false;
    const struct kreq *req = container_of(c->reqs.next, struct kreq, link);
    uint64_t ms = SEND_CONTENDED_MS + req->send_len * 1000 / SEND_CONTENDED_RATE;
    return req->send_since_ns != 0 && now - req->send_since_ns > ms * MS_NS;
}

static void conn_tick(struct kconn *c, uint64_t now)
{
    struct kafka *k = c->k;
    if (c->closed_by_us)
        return;
    if (c->tx_blocked && now - c->tx_progress_ns > SEND_STALL_MS * MS_NS) {
        LOG_WARN("%s: takes no bytes of its responses, closing", c->peer);
        conn_close(c, true);
        return;
    }
    if (conn_hoards(c, now)) {
        k->st.slow_readers++;
        LOG_WARN("%s: takes its response too slowly while others wait for memory, closing",
                 c->peer);
        conn_close(c, true);
        return;
    }
    bool waiting = budget_is_waiting(&c->frame_wait);
    bool reading = conn_can_read(c) && !waiting;
    if (!reading || c->frame == NULL || c->frame->buf.cap <= FRAME_PROBE_SMALL) {
        c->stall_since_ns = now;
        c->stall_got = c->frame_got;
    } else if (now - c->stall_since_ns >= FRAME_STALL_MS * MS_NS) {
        if (c->frame_got - c->stall_got < FRAME_STALL_BYTES) {
            k->st.slow_frames++;
            LOG_WARN("%s: %u of %u bytes of a request in too long a time, closing", c->peer,
                     c->frame_got, c->frame_len);
            conn_close(c, true);
            return;
        }
        c->stall_since_ns = now;
        c->stall_got = c->frame_got;
    }
    uint64_t idle_ns = (uint64_t)k->s->conf->connections_max_idle_ms * MS_NS;
    if (idle_ns > 0 && c->req_cnt == 0 && !waiting && !conn_is_muted(c) &&
        now - c->active_ns > idle_ns) {
        k->st.idle_closed++;
        conn_close(c, false);
    }
}

void kafka_on_tick(struct timer *t, uint64_t now_ns)
{
    struct kafka *k = container_of(t, struct kafka, tick);
    list_for_each_safe(n, tmp, &k->conns)
    {
        conn_tick(container_of(n, struct kconn, link), now_ns);
    }
    timer_arm(k->s->timers, &k->tick, now_ns + KAFKA_TICK_NS, kafka_on_tick);
}
