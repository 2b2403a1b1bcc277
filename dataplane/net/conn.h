/* conn.h - the parts of a connection that no transport does differently: the table of handles, the
 * queue of received buffers, the queue of bytes to send with its cookies, pending events.
 *
 * For backends (net_*.c) only; everybody else sees transport.h. A backend's connection begins with
 * a struct conn; its struct net owns one struct conn_table.
 *
 *     FREE --conn_alloc--> LIVE --conn_set_dead--> DEAD --CLOSED delivered--> FREE
 *
 * LIVE: bytes may move. DEAD: nothing moves any more, but received bytes that were announced stay
 * readable until CLOSED is delivered. The backend calls conn_set_dead only when nothing outside (a
 * completion, a packet) can refer to the connection any more.
 * Runs on: the shard owning the net. Memory is taken at creation. */
#pragma once
#include "dataplane/net/conn_id.h"
#include "lib/base/list.h"

/* A received buffer in a connection's queue. The node is part of the buffer's own memory, so
 * queueing costs nothing: a fresh buffer is in exactly one queue. */
struct rx_buf {
    struct buf b; /* first: backends cast */
    struct list link;
    uint32_t off, len; /* what is unread */
};

/* One view waiting to be sent, or (done == ref.len) a cookie waiting to be reported. */
struct tx_ent {
    struct list link;
    struct bytes_ref ref;
    uint32_t done; /* bytes of it that are out */
    bool last;     /* last view of its send */
    uint64_t cookie;
};

enum conn_phase { CONN_FREE, CONN_LIVE, CONN_DEAD };

struct conn {
    uint32_t idx, gen;
    uint8_t phase;  /* enum conn_phase */
    bool closing;   /* the user called close or abort: it wants no more news but CLOSED */
    bool tx_shut;   /* the user called shutdown_tx or close */
    bool eof;       /* FIN received */
    bool tx_wanted; /* a send got NET_EAGAIN and TX_ROOM was not yet reported */
    uint16_t listener;
    uint32_t ev; /* pending NET_EV_*, without TX_DONE and CLOSED */
    int err;     /* why, once DEAD */
    void *user;
    struct list ready;   /* in conn_table.ready while there is something to report */
    struct list starved; /* in conn_table.starved: a send found no tx_ent */
    struct list rxq;     /* struct rx_buf */
    struct list txq;     /* struct tx_ent */
    struct list doneq;   /* struct tx_ent: cookies to report */
    uint32_t rx_unread;  /* bytes in rxq */
    uint32_t rx_charged; /* received and not yet credited */
    uint32_t tx_queued;  /* bytes in txq */
    uint64_t rx_bytes, tx_bytes;
    uint64_t active_ns;    /* when bytes last moved */
    struct conn_opts opts; /* complete */
    struct net_addr local, peer;
};

/* While fewer slots than this rest, an untouched one is taken: a handle that has become stale stays
 * so for many generations. */
#define CONN_REST_MIN 1024

struct conn_table {
    struct net *net;
    uint8_t *mem;
    size_t size; /* of one backend connection */
    uint32_t max;
    uint32_t fresh; /* [0 .. fresh) were in use before; the rest is untouched memory */
    uint32_t free_cnt;
    struct list free_conns;
    struct list ready, starved;
    struct tx_ent *tx_mem;
    struct list tx_free;
    uint32_t tx_free_cnt, tx_cnt;
    /* Called when CLOSED was delivered and the slot is about to be reused. */
    void (*on_free)(struct conn *c);
};

NODISCARD int conn_table_init(struct conn_table *t, struct net *net, size_t conn_size,
                              uint32_t conn_max, uint32_t tx_ent_max);
void conn_table_fini(struct conn_table *t);
static inline struct conn *conn_at(const struct conn_table *t, uint32_t idx)
{
    return (struct conn *)(t->mem + (size_t)idx * t->size);
}
/* A zeroed LIVE connection with opts completed, or NULL when conn_max is reached. */
struct conn *conn_alloc(struct conn_table *t, const struct conn_opts *opts);
/* Back to FREE without any event: for a connection nobody has heard of. */
void conn_free(struct conn_table *t, struct conn *c);
static inline conn_id conn_handle(const struct conn_table *t, const struct conn *c)
{
    return conn_id_make(t->net->shard, c->gen, c->idx);
}
/* NULL when the handle is stale. */
struct conn *conn_lookup(const struct conn_table *t, conn_id id);

/* Report ev at the next poll (nothing after close or abort). */
void conn_raise(struct conn_table *t, struct conn *c, uint32_t ev);
/* LIVE -> DEAD: unsent bytes are dropped, CLOSED(err) will be the last event. */
void conn_set_dead(struct conn_table *t, struct conn *c, int err);
/* Emit events; frees the connections whose CLOSED was emitted. */
int conn_emit(struct conn_table *t, struct net_ev *ret_ev, int max, int budget);

/* Receiving. rb becomes the queue's; the charge grows by its length. */
void conn_rx_append(struct conn_table *t, struct conn *c, struct rx_buf *rb);
int conn_rx_peek(const struct conn *c, struct bytes_ref *out, int max);
int conn_rx_take(struct conn *c, uint32_t n, struct bytes_ref *out, int max);
void conn_rx_drop(struct conn *c); /* all of the queue; the charge stays until credited */

/* Sending. push is the send operation of transport.h, but for transmitting. */
int conn_tx_push(struct conn_table *t, struct conn *c, const struct bytes_ref *refs, int n,
                 uint64_t cookie);
/* `n` bytes at the head are out: drop references, queue cookies, report room. */
void conn_tx_retire(struct conn_table *t, struct conn *c, uint32_t n);
void conn_tx_drop(struct conn_table *t, struct conn *c);
static inline uint32_t conn_tx_room(const struct conn *c)
{
    return c->tx_queued >= c->opts.tx_high ? 0 : c->opts.tx_high - c->tx_queued;
}
