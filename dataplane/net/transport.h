/* transport.h - byte-stream transport for one shard.
 *
 * One struct net per shard (lcore). Nothing here is thread-safe and nothing
 * here blocks: every call is made by the lcore that owns the shard, and all
 * work happens inside net_poll(). Three implementations must pass the same
 * conformance suite:
 *     net_sim    in-memory, virtual clock, seeded loss/reorder/short-reads
 *     net_uring  kernel TCP sockets on one io_uring per shard
 *     net_tcp    TCP in the dataplane, on DPDK ports
 * TLS is a fourth implementation that is layered over any of them.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "dataplane/flow.h"

/* ---------------------------------------------------------------- buffers */

/* One reference-counted piece of memory. In net_tcp it lives in the mbuf's
 * private area, in net_uring in front of a provided buffer, in the log cache in
 * front of a page: so no backend converts or copies. The count is not atomic:
 * it belongs to shard `owner`. Another shard gives a reference back by message
 * (buf_put_remote), never by touching the count. */
struct buf {
	uint32_t refs;
	uint16_t owner;				/* shard that may touch refs */
	uint16_t kind;				/* BUF_MBUF, BUF_RING, BUF_PAGE, BUF_SIM */
	uint8_t *base;
	uint32_t cap;
	uint32_t charge;			/* receive-window bytes still charged for this */
	uint64_t iova;				/* 0: not DMA-able, send must copy */
	void   (*drop)(struct buf *);		/* refs reached 0 */
	void    *priv;				/* mbuf, buffer id, page */
};

/* A view of [off, off+len) of a buf; what both directions are made of. */
struct bytes_ref {
	struct buf *b;
	uint32_t    off;
	uint32_t    len;
};

static inline void buf_get(struct buf *b)        { b->refs++; }
static inline void buf_put(struct buf *b)        { if (--b->refs == 0) b->drop(b); }
static inline uint8_t *seg_ptr(const struct bytes_ref *s) { return s->b->base + s->off; }

/* ------------------------------------------------------------- identities */

/* shard:8 | generation:24 | index:32. A handle that outlived its connection is
 * recognised by the generation and every call on it returns -NET_ESTALE. */
typedef uint64_t conn_id;
#define CONN_NONE ((conn_id)0)

/* struct net_addr (dataplane/flow.h): IPv4 is v4-mapped, port in host order. */

enum net_err {
	NET_OK = 0, NET_EAGAIN, NET_ESTALE, NET_ENOMEM, NET_EINVAL, NET_ECLOSED,
	NET_ERESET,				/* RST from the peer */
	NET_ETIMEDOUT,				/* retransmissions, keepalive or user timeout ran out */
	NET_EREFUSED, NET_EUNREACH, NET_EABORTED,	/* we called conn_abort */
};

/* ----------------------------------------------------------------- events */

enum {						/* edge-triggered, or-ed together */
	NET_EV_ACCEPT   = 1 << 0,		/* new connection; ev.conn is already live */
	NET_EV_CONNECT  = 1 << 1,		/* conn_connect finished well */
	NET_EV_RX       = 1 << 2,		/* conn_rx_peek has more than before */
	NET_EV_RX_EOF   = 1 << 3,		/* FIN seen, after all data; sending still allowed */
	NET_EV_TX_ROOM  = 1 << 4,		/* queue fell below the low mark after NET_EAGAIN */
	NET_EV_TX_DONE  = 1 << 5,		/* ev.cookie: all bytes of that send acknowledged */
	NET_EV_CLOSED   = 1 << 6,		/* last event of this handle, exactly once; ev.err says why */
};

struct net_ev {
	conn_id  conn;
	void    *user;				/* conn_set_user */
	uint32_t what;
	int      err;
	uint64_t cookie;
};

/* ------------------------------------------------------------------ conns */

struct net;

struct conn_opts {				/* zero means the listener's default */
	uint32_t rx_window;			/* most bytes in flight to us plus not yet credited */
	uint32_t tx_high, tx_low;		/* send queue marks: EAGAIN above, TX_ROOM below */
	uint32_t idle_ms;			/* no bytes either way: CLOSED(ETIMEDOUT) */
	uint32_t user_timeout_ms;		/* unacknowledged data older than this: the same */
	uint32_t keepalive_ms;			/* 0: none */
	uint32_t max_rate;			/* bytes/s, 0: unpaced */
};

struct conn_info {
	struct net_addr local, peer;
	uint64_t rx_bytes, tx_bytes, retrans_bytes;
	uint32_t srtt_us, min_rtt_us, cwnd, mss, tx_queued, rx_charged;
	uint16_t retrans_now; uint8_t state, backend;
};

struct net_ops {
	/* lifecycle */
	int  (*listen)(struct net *, const struct net_addr *, uint32_t backlog,
		       const struct conn_opts *);
	int  (*connect)(struct net *, const struct net_addr *, const struct conn_opts *,
			conn_id *out);
	/* Run the backend once at time now (ns; the caller's clock, so a test can own
	 * time). Fills at most max events. budget bounds packets/completions taken. */
	int  (*poll)(struct net *, uint64_t now, struct net_ev *, int max, int budget);
	/* Earliest time at which poll must run even if nothing arrives; UINT64_MAX: none. */
	uint64_t (*next_deadline)(const struct net *);

	/* receive: in-order bytes, zero-copy. peek lends; take moves n bytes out and
	 * hands over one reference per seg written to out (NULL: drop them). The
	 * window re-opens by rx_credit only, so bytes that are parsed but whose buffers
	 * wait for a disk write keep the peer back. */
	int      (*rx_peek)(struct net *, conn_id, struct bytes_ref *, int max);
	int      (*rx_take)(struct net *, conn_id, uint32_t n, struct bytes_ref *out, int max);
	void     (*rx_credit)(struct net *, conn_id, uint32_t n);

	/* send: takes one reference on every seg and keeps it until the peer has
	 * acknowledged the bytes. All or nothing: 0 or -NET_EAGAIN (nothing taken).
	 * cookie != 0 asks for NET_EV_TX_DONE. MORE: another send follows at once. */
	int      (*send)(struct net *, conn_id, const struct bytes_ref *, int n,
			 uint64_t cookie, uint32_t flags);
	uint32_t (*tx_room)(const struct net *, conn_id);

	/* close: flush, FIN, wait for the peer's FIN at most linger_ms, then CLOSED.
	 * Unread input is discarded; if any arrives after this, the peer gets RST
	 * (RFC 9293 3.6 / RFC 2525 2.17). abort: RST now, drop queues, CLOSED. */
	int  (*shutdown_tx)(struct net *, conn_id);
	int  (*close)(struct net *, conn_id, uint32_t linger_ms);
	int  (*abort)(struct net *, conn_id);

	int  (*info)(const struct net *, conn_id, struct conn_info *);
	void (*set_user)(struct net *, conn_id, void *);
	/* Memory that send may reference without copying (log pages, hugepages). */
	int  (*mem_register)(struct net *, void *, size_t, uint64_t iova);
	void (*drain)(struct net *);		/* stop accepting; used by shutdown and upgrades */
	void (*destroy)(struct net *);
};

enum { NET_SEND_MORE = 1 << 0 };

struct net {
	const struct net_ops *ops;
	uint16_t shard, nshards;
	uint64_t now;				/* set by poll; backends read no other clock */
	struct net_stats {
		uint64_t accepts, closes, resets, rx_bytes, tx_bytes, rx_segs, tx_segs,
			 retrans, rto, tlp, fast, ooo, dup, drop_csum, drop_window, drop_nobuf,
			 syn_cookies, challenge_acks, copies;
	} st;
};

int net_sim_create(struct net **, uint16_t shard, uint16_t nshards, uint64_t seed);
int net_uring_create(struct net **, uint16_t shard, uint16_t nshards, const void *cfg);
int net_tcp_create(struct net **, uint16_t shard, uint16_t nshards, const void *cfg);
int net_tls_wrap(struct net **, struct net *lower, const void *ssl_ctx);
