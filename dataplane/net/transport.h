/* transport.h - byte streams for one shard: the table of operations that every TCP backend
 * provides.
 *
 *     net_sim    in memory, virtual clock, seeded short reads, delays, resets   (net_sim.h)
 *     net_uring  kernel TCP sockets on the shard's io_uring                     (net_uring.h)
 * A TCP of our own on DPDK ports and TLS over any of them will be further rows. All pass one
 * conformance suite (tests/unit/dataplane/net/test_transport_conformance.c).
 *
 * Runs on: the shard that owns the struct net; nothing here is thread-safe. Blocks: only destroy.
 * Events come out of poll() only; no operation calls back. Time is the caller's: net->now is what
 * the last poll was told, and backends read no other clock.
 *
 * A connection from the caller's side:
 *
 *     connect() --CONNECT--> OPEN --close()/abort()--> CLOSING --CLOSED--> gone (handle is stale)
 *     ACCEPT --------------> OPEN --reset, timeout-------------CLOSED--> gone
 *
 * CLOSED comes exactly once per handle, last, and alone: a poll that has anything else to say about
 * the connection says that first and CLOSED in a later poll, so that bytes announced by RX can
 * always be read. A failed connect() that returned 0 also ends in CLOSED. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- buffers ---- */

/* One reference-counted piece of memory: a provided buffer, an mbuf, a page of the log cache. The
 * count is not atomic: it belongs to shard `owner`, and only that shard gets and puts. */
enum buf_kind { BUF_MBUF, BUF_RING, BUF_PAGE, BUF_SIM, BUF_HEAP };
struct buf {
    uint32_t refs;
    uint16_t owner; /* shard that may touch refs */
    uint16_t kind;  /* enum buf_kind */
    uint8_t *base;
    uint32_t cap;
    uint32_t charge;            /* for the use of whoever created the buffer */
    uint64_t iova;              /* 0: not DMA-able, a DMA backend must copy */
    void (*drop)(struct buf *); /* refs reached 0 */
    void *priv;                 /* of whoever created the buffer */
};

/* A view of [off, off + len) of a buf; what both directions are made of. */
struct bytes_ref {
    struct buf *b;
    uint32_t off;
    uint32_t len;
};

static inline void buf_get(struct buf *b)
{
    b->refs++;
}
static inline void buf_put(struct buf *b)
{
    if (--b->refs == 0)
        b->drop(b);
}
static inline uint8_t *seg_ptr(const struct bytes_ref *s)
{
    return s->b->base + s->off;
}

/* ---- identities ---- */

/* shard:8 | generation:24 | index:32 (conn_id.h). A handle that outlived its connection is
 * recognised by the generation: every call on it returns -NET_ESTALE (or 0 bytes). */
typedef uint64_t conn_id;
#define CONN_NONE ((conn_id)0)

/* Names for the errno values that mean something here, so that err_text() knows them. Functions
 * return them negated; net_ev.err carries them positive. */
enum net_err {
    NET_OK = 0,
    NET_EAGAIN = EAGAIN,         /* send: the queue is full, TX_ROOM will say when to retry */
    NET_ESTALE = ESTALE,         /* the handle's connection is gone */
    NET_ENOMEM = ENOMEM,         /* connect: connections_max reached */
    NET_EINVAL = EINVAL,         /* the caller's mistake */
    NET_ECLOSED = EPIPE,         /* sending after shutdown_tx, close or abort */
    NET_ERESET = ECONNRESET,     /* RST from the peer */
    NET_ETIMEDOUT = ETIMEDOUT,   /* idle, keepalive, user timeout or linger ran out */
    NET_EREFUSED = ECONNREFUSED, /* nobody listens there */
    NET_EUNREACH = EHOSTUNREACH,
    NET_EABORTED = ECONNABORTED, /* we called abort */
};

/* ---- events ---- */

enum {
    NET_EV_ACCEPT = 1 << 0,  /* new connection; ev.conn is live, ev.listener says where */
    NET_EV_CONNECT = 1 << 1, /* connect finished well */
    NET_EV_RX = 1 << 2,      /* rx_peek has more than before */
    NET_EV_RX_EOF = 1 << 3,  /* FIN seen, after all data; sending is still allowed */
    NET_EV_TX_ROOM = 1 << 4, /* queue is at or below tx_low after a send got NET_EAGAIN */
    NET_EV_TX_DONE = 1 << 5, /* ev.cookie: all bytes of that send are out; in the order of sends */
    NET_EV_CLOSED = 1 << 6,  /* last event of this handle; ev.err: why, 0 after an orderly close */
};

/* Edge-triggered; `what` is an or of the above, of which ACCEPT, TX_DONE and CLOSED come alone: what
 * else there is to say of a new connection comes in a later poll, with the `user` set meanwhile. */
struct net_ev {
    conn_id conn;
    void *user; /* set_user; NULL before */
    uint32_t what;
    int err;           /* CLOSED only */
    uint16_t listener; /* ACCEPT only: what listen returned */
    uint64_t cookie;   /* TX_DONE only */
};

/* ---- connections ---- */

struct net;

/* Zero means: the default in parentheses; for connect and listen alike. */
struct conn_opts {
    uint32_t rx_window; /* bytes delivered and not yet credited before we stop reading (1 MiB) */
    uint32_t tx_high;   /* send queue: -NET_EAGAIN when a send would pass this (1 MiB) */
    uint32_t tx_low;    /* TX_ROOM at or below this (tx_high / 2) */
    uint32_t idle_ms;   /* no bytes either way: CLOSED(ETIMEDOUT) (never) */
    uint32_t user_timeout_ms; /* unacknowledged data older than this: the same (the system's) */
    uint32_t keepalive_ms;    /* probe a silent peer after this (never) */
    uint32_t max_rate;        /* bytes/s (unpaced) */
};

struct conn_info {
    struct net_addr local, peer;
    uint64_t rx_bytes, tx_bytes, retrans_bytes;
    uint32_t srtt_us, min_rtt_us, cwnd, mss, tx_queued, rx_charged;
    uint16_t retrans_now;
    uint8_t state, backend;
};

enum { NET_SEND_MORE = 1 << 0 }; /* another send follows in this turn: do not transmit yet */

struct net_ops {
    /* Bind and accept from the next poll on. Port 0 takes any free one. Returns the listener's
     * number (>= 0), or -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... exactly as the system said, or
     * -ENOSPC past NET_LISTENERS_MAX. opts apply to every accepted connection. */
    int (*listen)(struct net *, const struct net_addr *, uint32_t backlog,
                  const struct conn_opts *);
    /* Where listener number `listener` is bound (the real port). 0 or -EINVAL. */
    int (*listener_addr)(const struct net *, int listener, struct net_addr *ret_addr);
    /* Start connecting; ends in CONNECT or CLOSED. 0, -NET_ENOMEM, or the system's refusal. */
    int (*connect)(struct net *, const struct net_addr *, const struct conn_opts *,
                   conn_id *ret_conn);
    /* Run the backend once at time `now` (ns, monotonic). Fills at most max events, returns how
     * many. budget bounds the connections looked at. Events that did not fit wait for the next
     * poll, and next_deadline says so. */
    int (*poll)(struct net *, uint64_t now, struct net_ev *ret_ev, int max, int budget);
    /* Earliest time at which poll has something to do even if nothing arrives: 0 when events are
     * waiting, UINT64_MAX when there is none. A shard must not sleep past it. */
    uint64_t (*next_deadline)(const struct net *);

    /* In-order bytes, without a copy. peek lends at most max views of what is unread, until the
     * next rx_take or poll. take moves n bytes out: one reference per view written to out, or with
     * out == NULL drops them; returns the views written, -NET_EINVAL if n is more than is there or
     * out too short (then nothing moved). The window re-opens by credit only: bytes parsed but
     * still waiting (for a disk write) keep the peer back. Credit what was taken, once.
     * A message left unread until it is whole must be smaller than rx_window.
     * Hold taken references only while work is under way that ends without further input (else
     * all buffers end up in half-received messages): copy what must wait. */
    int (*rx_peek)(struct net *, conn_id, struct bytes_ref *, int max);
    int (*rx_take)(struct net *, conn_id, uint32_t n, struct bytes_ref *out, int max);
    void (*rx_credit)(struct net *, conn_id, uint32_t n);

    /* Takes one reference on every view and keeps it until the bytes are out. All or nothing: 0,
     * or -NET_EAGAIN (nothing taken), -NET_ECLOSED, -NET_ESTALE, -NET_EINVAL (no bytes). A send
     * larger than tx_high is taken when the queue is empty, so every send can succeed.
     * cookie != 0 asks for TX_DONE; cookies not seen by CLOSED will not come. */
    int (*send)(struct net *, conn_id, const struct bytes_ref *, int n, uint64_t cookie,
                uint32_t flags);
    uint32_t (*tx_room)(const struct net *, conn_id); /* tx_high less what is queued */

    /* FIN after what is queued; receiving goes on. 0, -NET_ECLOSED (already), -NET_ESTALE. */
    int (*shutdown_tx)(struct net *, conn_id);
    /* Orderly end. Unread and later input is thrown away; what is queued is flushed, FIN is sent,
     * the peer's FIN awaited: linger_ms covers all three, then CLOSED. Over before the flush: RST
     * and CLOSED(ETIMEDOUT). linger_ms 0: nothing is awaited; RST if bytes were queued or unread,
     * else FIN. Whatever arrives after CLOSED is answered by RST (RFC 9293 3.6, RFC 2525 2.17). */
    int (*close)(struct net *, conn_id, uint32_t linger_ms);
    /* RST now, queues dropped, CLOSED(ECONNABORTED). */
    int (*abort)(struct net *, conn_id);

    int (*info)(const struct net *, conn_id, struct conn_info *ret_info);
    void (*set_user)(struct net *, conn_id, void *);
    /* Memory that send may reference without copying (DMA backends); others return 0. */
    int (*mem_register)(struct net *, void *, size_t, uint64_t iova);
    /* Take who is connected already, close the listeners; connections live on. Over when
     * `listening` is 0: who connected before this call is an ACCEPT by then. For shutdown. */
    void (*drain)(struct net *);
    /* Reset what is left and free everything; no more events. All buffers lent upward must have
     * been put back. */
    void (*destroy)(struct net *);
};

#define NET_LISTENERS_MAX 64

struct net {
    const struct net_ops *ops;
    uint16_t shard, nshards;
    uint64_t now; /* set by poll */
    uint32_t conn_cnt, conn_max;
    uint32_t listening; /* listeners not closed yet */
    struct net_stats {
        uint64_t accepts, connects, closes, resets, timeouts, rx_bytes, tx_bytes, rx_segs, tx_segs;
        uint64_t accept_refused; /* connections reset because conn_max was reached */
        uint64_t accept_errors;  /* accept failed: out of descriptors or memory; retried */
        uint64_t drop_nobuf;     /* times receiving stopped because no buffer was free */
        uint64_t copies;         /* bytes copied out of ring buffers to free them */
        uint64_t retrans, rto, tlp, fast, ooo, dup, drop_csum, drop_window, syn_cookies,
            challenge_acks; /* TCP of our own only */
    } st;
};
