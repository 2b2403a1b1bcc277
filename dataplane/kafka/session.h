/* session.h - connections and requests of the Kafka protocol on one shard.
 *
 *   bytes --frame--> kreq QUEUED --api->start--> RUNNING --kreq_done--> DONE --sent--> gone
 *
 * Frames. A frame costs at most FRAME_PROBE_SMALL bytes until that much of it has arrived, then
 * FRAME_PROBE_LARGE if the probe budget has them, and only then its declared size is reserved:
 * frames up to FRAME_LARGE_MIN from `frames_small`, others from `frames_large`, so that large
 * requests can only make each other wait. Who waits for memory does not read, which closes its TCP
 * window. A frame that holds more than the first probe and brings less than FRAME_STALL_BYTES in
 * FRAME_STALL_MS is closed.
 *
 * Order. Responses leave in request order. Requests of APIs marked API_PIPELINES start while
 * earlier ones of the same kind still run (Produce: appends of one connection keep their order per
 * partition because messages to an owner do); everything else starts when it is the oldest.
 *
 * Others do not start, and are not read either: while a request that does not pipeline is queued,
 * nothing is read behind it, and while one runs (it may be parked for minutes) at most one more is
 * read and only FRAME_PROBE_SMALL bytes of it. So who parks holds next to nothing beside it.
 *
 * Requests. Each connection can always have KAFKA_REQS_OWN requests; more come from
 * KAFKA_REQS_SHARED. Who finds none does not read, and stands in line (kafka.starved).
 *
 * Quotas (KIP-219). A client above its rate is answered at once, with throttle_time_ms, and its
 * connection is muted until that has passed: nothing is read and nothing queued is started. A
 * muted connection is not idle. Half-closed and draining connections are not held up.
 *
 * Parking (API_PARKS). All parked requests together hold at most a KAFKA_PARKED_SHARE-th of the
 * response budget: above that the oldest ones are hurried, that is answered at once with what is
 * there. The same happens when the client has sent its last byte and at a drain; a connection that
 * is gone cancels them.
 *
 * Lifetime. A kreq has one reference for its place in the connection's queue and one per message
 * that is under way. A connection that closes lets go of its requests at once (req->conn = NULL);
 * each is freed when its last message has come home. So replies never find freed memory.
 *
 * Runs on: the shard's thread. Nothing blocks. */
#pragma once
#include "dataplane/kafka/admin_msg.h"
#include "dataplane/kafka/api.h"
#include "dataplane/kafka/budget.h"
#include "dataplane/kafka/shared.h"
#include "dataplane/shard/shard.h"
#include "lib/base/arena.h"
#include "lib/base/timer.h"
#include "lib/iface/conf.h"
#include "lib/iface/net_addr.h"
#include "lib/meta/quotas.h"
#include "lib/wire/wire.h"

#define KAFKA_INFLIGHT_MAX 64       /* requests of one connection read but not answered */
#define KAFKA_REQS_SHARED 4096      /* of one shard, beside those each connection is sure of */
#define KAFKA_REQS_OWN 2            /* each connection is sure of so many */
#define KAFKA_RESPONSE_SHARE 4      /* the response budget / this: most that one Fetch returns */
#define KAFKA_PARKED_SHARE 4        /* ... and most that all parked requests may hold */
#define FETCH_WAIT_MAX_MS 300000    /* max_wait_ms above this is taken as this */
#define KAFKA_CONN_READ_MAX 262144  /* bytes taken from one connection per turn */
#define KAFKA_SEND_PIECE_MAX 262144 /* bytes handed to the transport at once */
#define KAFKA_SEND_SEGS_MAX 16
#define FRAME_MIN 10 /* header v1 with a null client id */
#define FRAME_PROBE_SMALL 4096
#define FRAME_PROBE_LARGE 65536
#define FRAME_LARGE_MIN (2u << 20)
#define FRAME_STALL_MS 10000
#define FRAME_STALL_BYTES 32768
#define SEND_STALL_MS 60000 /* a peer that takes no byte of a response for so long */
/* While others wait for response memory a response must be taken within
 * SEND_CONTENDED_MS plus its length at SEND_CONTENDED_RATE bytes per second. */
#define SEND_CONTENDED_MS 10000
#define SEND_CONTENDED_RATE 262144
#define KAFKA_INFLATE_MAX (64u << 20) /* decompressed size of one produced batch */
#define KAFKA_REQUEST_BYTES_MIN (8u << 20)
#define PRODUCER_ID_RETRY_MS 1000
#define CLOSE_LINGER_MS 2000
#define THROTTLE_MAX_MS 3600000 /* of one answer; what is left is due at the next */

struct kreq;
struct fetch_sessions;
enum { API_PIPELINES = 1, API_PARKS = 2, API_NO_MEMORY_GATE = 4 };

/* One row of api.def. */
struct api {
    int16_t key;
    const char *name;
    int16_t min, max; /* served */
    uint16_t flags;
    /* Decode the body (wire reader `r`) and begin. 0, or negative: the body cannot be understood
     * and the connection is closed. Ends, now or later, with one kreq_done. */
    int (*start)(struct kreq *req, struct wire_reader *r);
    /* After kreq_kick: go on. May be NULL. */
    void (*resume)(struct kreq *req);
    /* The connection is gone (req->conn == NULL): cancel timers and registrations. May be NULL. */
    void (*cancel)(struct kreq *req);
};
const struct api *api_find(int16_t key);
const struct api *api_at(uint32_t idx); /* NULL past the last one */

struct kconn {
    struct list link;    /* kafka.conns */
    struct list ready;   /* kafka.ready, when there is work */
    struct list starved; /* kafka.starved, when it stopped reading for want of a kreq */
    struct kafka *k;
    conn_id id;
    uint16_t listener_idx;
    bool rx_pending, rx_eof, tx_blocked;
    bool closing;      /* no more reading; close when the queue is empty */
    bool close_now;    /* without answering the rest */
    bool closed_by_us; /* net close was called; only NET_EV_CLOSED may still come */
    uint8_t head[4], head_len;
    struct kbuf *frame; /* being filled */
    uint32_t frame_len, frame_got;
    struct budget_waiter frame_wait;
    bool frame_granted;
    uint32_t stall_got;
    uint64_t stall_since_ns;
    struct budget_waiter gate_wait; /* for response memory, before the next request starts */
    bool gate_granted;
    struct net_addr local;
    struct list reqs; /* oldest first */
    uint32_t req_cnt, running_cnt, running_serial_cnt, queued_serial_cnt;
    uint64_t active_ns, tx_progress_ns;
    uint64_t muted_until_ns; /* 0: not muted */
    struct timer unmute;
    uint32_t count_slot; /* of conn_count */
    char peer[NET_ADDR_TEXT_MAX];
};

enum kreq_state { RQ_QUEUED, RQ_RUNNING, RQ_DONE };
struct kreq {
    struct list link; /* conn->reqs, or the free list */
    struct list kick; /* kafka.kicked */
    struct list park; /* kafka.parked, oldest first */
    uint64_t parked_bytes;
    bool hurried; /* see kreq_is_hurried */
    struct kafka *k;
    struct kconn *conn; /* NULL: the connection is gone or the response was sent */
    const struct api *api;
    struct wire_request_header hdr;
    struct kbuf *frame;
    uint32_t body_pos; /* of the body in frame */
    uint32_t frame_len;
    enum kreq_state state;
    uint32_t refs;
    bool unserved_version; /* ApiVersions only: answered in version 0 with the ranges we serve */
    bool no_response, close_after;
    struct arena arena;
    uint64_t arena_charge; /* of arena, to kafka.responses */
    void *op;              /* the handler's state, in arena */
    /* response: references in order; seg_idx, seg_pos say how far it was handed to the transport */
    struct bytes_ref *segs;
    uint32_t seg_cnt, seg_idx, seg_pos;
    uint64_t send_len, send_since_ns; /* of the whole response; 0: not begun */
};

struct producer_block {
    int64_t next, end;
};

struct kafka {
    struct shard *s;
    uint32_t frame_max; /* effective socket.request.max.bytes */
    struct budget probes, frames_small, frames_large, responses;
    struct list conns, ready, starved, kicked, parked, free_reqs;
    struct kreq *reqs;
    uint32_t reqs_max;     /* of reqs */
    uint32_t reqs_fresh;   /* reqs[0 .. reqs_fresh) were in use before; the rest is untouched */
    uint32_t own_used;     /* sum over connections of min(req_cnt, KAFKA_REQS_OWN) */
    uint64_t parked_bytes; /* what parked requests hold */
    struct kconn *conn_mem;
    struct list free_conns;
    uint32_t conns_fresh; /* of conn_mem, as reqs_fresh */
    uint32_t conn_cnt, req_cnt;
    bool draining;
    struct timer tick; /* once a second: idle and stalled connections */
    uint16_t port[CONF_KAFKA_MAX];
    uint8_t *scratch; /* KAFKA_INFLATE_MAX, touched only as far as needed */
    /* producer ids: [0] is handed out, [1] is the next one */
    struct producer_block ids[2];
    struct producer_ids_msg ids_msg;
    bool ids_asked;
    struct timer ids_retry;
    struct kafka_shared *shared, *own_shared; /* own: when the process has none */
    struct fetch_sessions *sessions;
    struct coord *coord;    /* group/coord.h */
    struct txn_coord *txns; /* txn/txn.h */
    struct kafka_stats st;
};

/* ---- for handlers ---- */
static inline int16_t kreq_version(const struct kreq *req)
{
    return req->hdr.api_version;
}
/* A message that belongs to req goes to endpoint `to`: takes a reference, given back by
 * kreq_put in the reply handler. */
void kreq_send(struct kreq *req, uint16_t to, struct msg *m, enum msg_type type);
void kreq_put(struct kreq *req);
/* A reference for a message that is sent otherwise. */
static inline void kreq_hold(struct kreq *req)
{
    req->refs++;
}
/* Run api->resume at the next kafka_poll. */
void kreq_kick(struct kreq *req);
/* req waits for the world (state of an API_PARKS handler) until kreq_unpark, which is fine at any
 * time. It, or older ones, may be hurried and kicked by this call. */
void kreq_park(struct kreq *req);
void kreq_unpark(struct kreq *req);
/* Do not wait for anything any more: answer with what there is. Set before a kick, or at any
 * time; stays set. */
bool kreq_is_hurried(const struct kreq *req);
/* Let the arena grow to at least `bytes` (plus what its request allows). */
void kreq_arena_allow(struct kreq *req, uint64_t bytes);
/* Begin a response of body_len copied bytes: allocates, charges, writes size and header (the frame
 * will be body_len + ref_bytes long behind the header). 0, or -ENOMEM: the connection is being
 * closed and the request is done. */
NODISCARD int kreq_out_begin(struct kreq *req, size_t body_len, size_t ref_bytes,
                             struct wire_writer *w);
/* The response is complete: the copied bytes are in w; data[i] backs w->refs[i] (references are
 * taken over from the caller: each non-NULL kbuf is put when sent). */
void kreq_out_end(struct kreq *req, struct wire_writer *w, struct kbuf **data, uint32_t data_cnt);
/* Done without a response (acks=0); close: and close the connection after earlier responses. */
void kreq_done_silent(struct kreq *req, bool close);
/* Cannot be answered (memory): close the connection. */
void kreq_fail(struct kreq *req);

/* Read and start nothing of c until then. */
void kconn_mute(struct kconn *c, uint64_t until_ns);
/* May a connection from `peer` be open (max.connections, max.connections.per.ip)? Counted then. */
enum conn_verdict kconn_admit(struct kafka *k, const struct net_addr *peer, uint32_t *ret_slot);
/* Count `bytes` against the quota of the client that sent req; 0 bytes only ask. The time for which
 * it should be silent, for throttle_time_ms: 0 within its rate. Mutes the connection that long. */
uint32_t kreq_throttle(struct kreq *req, enum quota_type type, uint64_t bytes);
/* The rate in force for the client that sent req, bytes a second; 0: none. */
double kreq_quota(const struct kreq *req, enum quota_type type);

/* ---- between module.c, session.c and request.c ---- */
#define KAFKA_TICK_NS UINT64_C(1000000000)
/* Idle and stalled connections; arms itself again. */
void kafka_on_tick(struct timer *t, uint64_t now_ns);
/* The handle is dead: forget everything that belongs to it. */
void kconn_gone(struct kconn *c);
/* Has work: conn_run looks at it in this or the next kafka_poll. */
void kconn_ready(struct kconn *c);
/* One connection that can read on does so; conn_run passes it on to the next. */
void kafka_starved_wake(struct kafka *k);
struct kreq *kreq_get(struct kafka *k); /* NULL: all are in use */
/* What the arena holds is charged after the fact: it is bounded by bytes_max already. */
void kreq_charge_arena(struct kreq *req);

/* Write response `m` of generated type x and finish the request. */
#define KREQ_RESPOND(req, x, m)                                                                    \
    do {                                                                                           \
        struct wire_writer w_;                                                                     \
        if (kreq_out_begin(req, x##_size(m, kreq_version(req)), 0, &w_) == 0) {                    \
            x##_write(&w_, kreq_version(req), m);                                                  \
            kreq_out_end(req, &w_, NULL, 0);                                                       \
        }                                                                                          \
    } while (0)

/* Host and port that clients of this connection are told. host lives in the arena. */
void kreq_advertised(struct kreq *req, struct span *ret_host, int32_t *ret_port);
/* A producer id that nobody had before. 0 or -E_NO_PRODUCER_IDS. */
NODISCARD int kafka_take_producer_id(struct kafka *k, int64_t *ret_id);
/* Ask the control thread for another block of producer ids unless one is on its way. */
void kafka_ids_refill(struct kafka *k);
