/* request.c - the life of one request (struct kreq, session.h): references, parking, its response.
 *
 * What it holds is given back in one place, kreq_free, when the last reference is gone; a response
 * that is complete only makes the connection ready: sending is session.c's. */
#include "dataplane/kafka/session.h"
#include "lib/base/log.h"
#include "lib/iface/net_addr.h"
#include <string.h>

struct kreq *kreq_get(struct kafka *k)
{
    struct list *n = list_pop_head(&k->free_reqs);
    if (n == NULL && k->reqs_fresh == k->reqs_max)
        return NULL;
    struct kreq *req = n != NULL ? container_of(n, struct kreq, link) : &k->reqs[k->reqs_fresh++];
    struct arena arena = req->arena;
    memset(req, 0, sizeof(*req));
    req->arena = arena;
    req->k = k;
    req->refs = 1;
    k->req_cnt++;
    return req;
}

static void kreq_free(struct kreq *req)
{
    struct kafka *k = req->k;
    kreq_unpark(req);
    for (uint32_t i = req->seg_idx; i < req->seg_cnt; i++)
        buf_put(req->segs[i].b);
    if (list_is_linked(&req->kick))
        list_del(&req->kick);
    kbuf_put(req->frame);
    arena_reset(&req->arena);
    list_add_head(&k->free_reqs, &req->link);
    k->req_cnt--;
    uint64_t charge = req->arena_charge;
    req->arena_charge = 0;
    budget_release(&k->responses, charge);
    kafka_starved_wake(k);
}

void kreq_put(struct kreq *req)
{
    ASSERT(req->refs > 0);
    if (--req->refs == 0)
        kreq_free(req);
}

void kreq_send(struct kreq *req, uint16_t to, struct msg *m, enum msg_type type)
{
    req->refs++;
    m->type = (uint16_t)type;
    m->origin = req->k->s->id;
    m->is_reply = 0;
    m->rc = 0;
    mbox_send(req->k->s->mbox, to, m);
}

void kreq_kick(struct kreq *req)
{
    if (req->conn != NULL && !list_is_linked(&req->kick))
        list_add_tail(&req->k->kicked, &req->kick);
}

void kreq_unpark(struct kreq *req)
{
    if (!list_is_linked(&req->park))
        return;
    list_del(&req->park);
    req->k->parked_bytes -= req->parked_bytes;
}

void kreq_park(struct kreq *req)
{
    struct kafka *k = req->k;
    kreq_unpark(req);
    req->parked_bytes = req->arena.total + req->frame->buf.cap;
    k->parked_bytes += req->parked_bytes;
    list_add_tail(&k->parked, &req->park);
    while (k->parked_bytes > k->responses.cap / KAFKA_PARKED_SHARE) {
        struct kreq *oldest = container_of(k->parked.next, struct kreq, park);
        k->st.parked_hurried++;
        oldest->hurried = true;
        kreq_unpark(oldest);
        kreq_kick(oldest);
    }
}

bool kreq_is_hurried(const struct kreq *req)
{
    return req->hurried || req->conn == NULL || req->k->draining || req->conn->rx_eof;
}

void kreq_arena_allow(struct kreq *req, uint64_t bytes)
{
    req->arena.bytes_max += bytes;
}

void kreq_charge_arena(struct kreq *req)
{
    if (req->arena.total > req->arena_charge) {
        budget_charge(&req->k->responses, req->arena.total - req->arena_charge);
        req->arena_charge = req->arena.total;
    }
}

static void kreq_set_done(struct kreq *req)
{
    struct kconn *c = req->conn;
    ASSERT(req->state == RQ_RUNNING);
    req->state = RQ_DONE;
    if (c == NULL)
        return;
    c->running_cnt--;
    if ((req->api->flags & API_PIPELINES) == 0)
        c->running_serial_cnt--;
    kconn_ready(c);
}

int kreq_out_begin(struct kreq *req, size_t body_len, size_t ref_bytes, struct wire_writer *w)
{
    if (req->conn == NULL)
        return -ECANCELED;
    struct wire_writer count;
    const struct wire_api *wapi = wire_api_find(req->api->key);
    wire_writer_init_count(&count);
    wire_response_header_write(&count, wapi, kreq_version(req), req->hdr.correlation_id);
    size_t frame = count.len + body_len + ref_bytes;
    size_t cap = 4 + count.len + body_len;
    struct kafka *k = req->k;
    struct kbuf *kb = NULL;
    if (frame <= INT32_MAX) {
        budget_charge(&k->responses, cap);
        kb = kbuf_create(k->s->id, &k->responses, (uint32_t)cap, cap);
        if (kb == NULL)
            budget_release(&k->responses, cap);
    }
    if (kb == NULL) {
        LOG_WARN("%s of %s: no memory for a response of %zu bytes, closing", req->api->name,
                 req->conn->peer, frame);
        kreq_fail(req);
        return -ENOMEM;
    }
    wire_writer_init(w, kb->data, cap);
    wire_put_i32(w, (int32_t)frame);
    wire_response_header_write(w, wapi, kreq_version(req), req->hdr.correlation_id);
    return 0;
}

void kreq_out_end(struct kreq *req, struct wire_writer *w, struct kbuf **data, uint32_t data_cnt)
{
    ASSERT(w->err == 0);
    ASSERT(w->len == w->cap); /* x_size and x_write agree */
    struct kbuf *kb = container_of(w->p, struct kbuf, data);
    req->segs =
        (struct bytes_ref *)arena_array(&req->arena, 2 * (size_t)data_cnt + 1, sizeof(*req->segs));
    if (req->segs == NULL) {
        kbuf_put(kb);
        for (uint32_t i = 0; i < data_cnt; i++)
            kbuf_put(data[i]);
        kreq_fail(req);
        return;
    }
    uint32_t cnt = 0;
    size_t pos = 0;
    for (uint32_t i = 0; i < data_cnt; i++) {
        size_t at = w->refs[i].at;
        if (at > pos) {
            buf_get(&kb->buf);
            req->segs[cnt++] = (struct bytes_ref){&kb->buf, (uint32_t)pos, (uint32_t)(at - pos)};
            pos = at;
        }
        if (data[i] != NULL)
            req->segs[cnt++] = (struct bytes_ref){&data[i]->buf, 0, w->refs[i].bytes.len};
    }
    if (w->len > pos) {
        buf_get(&kb->buf);
        req->segs[cnt++] = (struct bytes_ref){&kb->buf, (uint32_t)pos, (uint32_t)(w->len - pos)};
    }
    kbuf_put(kb);
    req->seg_cnt = cnt;
    req->k->st.responses++;
    kreq_set_done(req);
}

void kreq_done_silent(struct kreq *req, bool close)
{
    req->no_response = true;
    req->close_after = close;
    kreq_set_done(req);
}

void kreq_fail(struct kreq *req)
{
    kreq_done_silent(req, true);
}

void kreq_advertised(struct kreq *req, struct span *ret_host, int32_t *ret_port)
{
    struct kafka *k = req->k;
    uint16_t idx = req->conn->listener_idx;
    const struct conf_kafka_listener *l = &k->s->conf->kafka[idx];
    *ret_port = l->advertised_port != 0 ? l->advertised_port
                : k->port[idx] != 0     ? k->port[idx]
                                        : l->bind.port;
    if (l->advertised_host[0] != '\0') {
        *ret_host = span_str(l->advertised_host);
        return;
    }
    /* A wildcard cannot be connected to: name the address this client already reached us by. */
    struct net_addr ip = net_addr_is_any(&l->bind) ? req->conn->local : l->bind;
    char *text = (char *)arena_alloc(&req->arena, NET_ADDR_TEXT_MAX);
    if (text == NULL) {
        *ret_host = WIRE_EMPTY;
        return;
    }
    *ret_host = span_of(text, net_addr_format_ip(&ip, text));
}
