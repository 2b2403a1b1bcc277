/* txn.h - the transaction coordinator of one shard.
 *
 * A transactional id lives on the shard that owns partition abs(javaHash(id)) % N of
 * __transaction_state. Requests come as MSG_TXN from the connection's shard and are answered by its
 * reply, mostly when a record is durable. What is acknowledged is in that partition, in Kafka's
 * record format; memory is a view of it (clog.h).
 *
 *     EMPTY --add--> ONGOING --end--> PREPARE_x --all markers durable--> COMPLETE_x --add-->
 * ONGOING
 *
 *   add        partitions join: AddPartitionsToTxn, AddOffsetsToTxn, and a Produce or
 *              TxnOffsetCommit of a client that speaks KIP-890
 *   end        EndTxn, the transaction's timeout, or InitProducerId by a new producer (an abort)
 *   PREPARE_x  the outcome is decided and durable: the client is answered. One marker per
 *              partition goes to its owner, again until all are durable; a restart goes on here.
 *
 * A move is a record; it counts when the record is durable (struct txn_write). Only one is under
 * way for an id at a time: requests meanwhile are CONCURRENT_TRANSACTIONS, those of Produce wait.
 * txn_coord.c has the table, reading and requests, txn_state.c the moves, txn_marker.c the markers.
 * Runs on: the shard's thread. Nothing blocks. */
#pragma once
#include "dataplane/kafka/clog.h"
#include "dataplane/kafka/id_table.h"
#include "dataplane/kafka/owner.h"
#include "dataplane/kafka/session.h"
#include "dataplane/kafka/txn/txn_record.h"
#include "lib/batch/control.h"
#include "lib/meta/image.h"
#include "lib/wire/wire_gen.h"

#define TXN_TOPIC "__transaction_state"
#define TXN_IDS_MAX (1u << 20)         /* of one shard */
#define TXN_CALL_BYTES_MAX (64u << 20) /* one answer, one record */
#define TXN_WAIT_MS 100                /* a Produce waits so long for the move before it */
#define TXN_MARKER_RETRY_MS 100
#define TXN_EXPIRY_MS 3600000 /* between looks for expired ids */
#define TXN_EPOCH_EXHAUSTED (INT16_MAX - 1)

enum txn_error { /* Kafka's codes */
                 TE_UNKNOWN = -1,
                 TE_UNKNOWN_TOPIC = 3,
                 TE_NOT_ENOUGH_REPLICAS = 19,
                 TE_LOADING = 14,
                 TE_NOT_AVAILABLE = 15,
                 TE_NOT_COORDINATOR = 16,
                 TE_INVALID_REQUEST = 42,
                 TE_INVALID_PRODUCER_EPOCH = 47,
                 TE_INVALID_TXN_STATE = 48,
                 TE_INVALID_PID_MAPPING = 49,
                 TE_INVALID_TIMEOUT = 50,
                 TE_CONCURRENT = 51,
                 TE_AUTHORIZATION_FAILED = 53,
                 TE_NOT_ATTEMPTED = 55,
                 TE_PRODUCER_FENCED = 90,
                 TE_ID_NOT_FOUND = 105,
                 TE_ABORTABLE = 120,
                 TE_INVALID_REGEX = 128,
};

enum txn_op { TXN_INIT, TXN_ADD, TXN_VERIFY, TXN_END, TXN_DESCRIBE, TXN_LIST };
/* MSG_TXN: one request about one transactional id (TXN_LIST: about all of the shard). Until the
 * reply the owner reads the request's part and the spans, and fills the answer with memory of
 * `arena`. */
struct txn_call {
    struct msg msg;
    struct kreq *req;
    void (*done)(
        struct txn_call *call); /* on the origin; frees the arena when it needs it no more */
    enum txn_op op;
    int32_t partition; /* of TXN_TOPIC; -1: every one the shard owns */
    struct span id;
    int64_t producer_id; /* -1: none */
    int16_t epoch;
    bool v2;                /* the client speaks KIP-890 */
    bool waits;             /* rather than CONCURRENT_TRANSACTIONS, for TXN_WAIT_MS */
    bool commit;            /* END */
    int32_t timeout_ms;     /* INIT */
    struct txn_parts asked; /* ADD, VERIFY: names and arrays are the origin's */
    const struct list_transactions_request *list;
    struct topic_regex *pattern; /* LIST: of ids, the owner's; NULL: all */
    struct arena arena;
    int16_t error;           /* not 0: the answer */
    int64_t ret_producer_id; /* INIT, END */
    int16_t ret_epoch;
    union {
        struct describe_transactions_response_state describe;
        struct list_transactions_response list;
    } out;
};

struct txn_coord;
struct tpart { /* one partition of TXN_TOPIC */
    struct clog log;
    struct txn_coord *c;
    struct list txns; /* txn.part_link */
};
struct txn_round;
struct txn {
    struct id_node node;   /* txn_coord.ids */
    struct list part_link; /* tpart.txns */
    struct tpart *p;
    struct span id;
    uint32_t refs; /* 1 for being in the table, 1 per write and per round of markers */
    bool gone;     /* not in the table any more */
    struct txn_value v;
    bool writing;            /* a move is under way */
    struct list waiting;     /* txn_call.msg.link, oldest first */
    struct timer wait;       /* of the oldest one waiting */
    struct timer timer;      /* ONGOING: the transaction's timeout; PREPARE: markers again */
    struct txn_parts left;   /* PREPARE: partitions without marker */
    struct txn_round *round; /* markers under way */
};
struct txn_coord {
    struct kafka *k;
    struct shard *s;
    struct clog_set logs; /* of struct tpart */
    struct timer expiry;
    struct id_table ids;            /* at most TXN_IDS_MAX */
    uint32_t states[TXN_STATE_CNT]; /* ids of the table by state */
    uint32_t rounds;                /* of markers, under way */
    bool draining;
};

/* ---- for the session ---- */
NODISCARD int txn_coord_create(struct kafka *k, struct txn_coord **ret);
void txn_coord_destroy(struct txn_coord *c);
void txn_coord_poll(struct txn_coord *c);
void txn_coord_drain(struct txn_coord *c);
bool txn_coord_is_idle(const struct txn_coord *c);
/* Transactional ids by state, now. */
void txn_stats_get(const struct txn_coord *c, struct kafka_stats *st);
void txn_on_call(struct shard *s, struct msg *m);

/* MSG_TXN_MARKER: append one marker to one partition; the sender's until the reply. */
struct marker_msg {
    struct produce_msg m;
    bool is_offsets; /* the partition is of __consumer_offsets: tell the group coordinator */
    bool commit;
    int64_t producer_id;
    void (*done)(struct shard *s, struct marker_msg *mm); /* on the origin; rc in m.a.msg.rc */
};
void txn_on_marker(struct shard *s, struct msg *m);
void txn_on_marker_reply(struct shard *s, struct msg *m);
/* Fills and sends. `batch`: of marker_write, unchanged until done. 0, or Kafka's code and nothing
 * was sent. */
int16_t marker_send(struct shard *s, struct marker_msg *mm, const struct meta_topic *t,
                    int32_t partition, const struct batch_marker *marker, struct span batch,
                    bool txn_v2);

/* ---- inside ---- */
struct txn *txn_find(struct txn_coord *c, struct span id);
/* Finds or makes; NULL: out of memory or of TXN_IDS_MAX. */
struct txn *txn_get(struct tpart *p, struct span id);
void txn_remove(struct txn *t, int16_t error);
void txn_put(struct txn *t);
/* t->v becomes *v, which gets the old one. */
void txn_swap(struct txn *t, struct txn_value *v);
void txn_reply(struct txn_coord *c, struct txn_call *call, int16_t error);

/* txn_state.c */
void txn_on_init(struct tpart *p, struct txn_call *call);
void txn_on_add(struct tpart *p, struct txn_call *call);
void txn_on_end(struct tpart *p, struct txn_call *call);
/* After the partition was read: go on with what was under way. */
void txn_loaded(struct txn *t);
/* All markers are durable: write COMPLETE_x. */
void txn_marked(struct txn *t);
void txn_fail_waiting(struct txn *t, int16_t error);
void txn_expire(struct txn_coord *c);

/* txn_marker.c */
/* Send markers to the partitions of t->left. */
void txn_markers_send(struct txn *t);
