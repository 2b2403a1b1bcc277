/* sim_client_int.h - one client of the simulation, shared by sim_clients.c (its connection), and by
 * sim_produce.c, sim_fetch.c and sim_groups.c (what it asks, and what the answers must say). */
#pragma once
#include "dataplane/kafka/handlers.h"
#include "tests/sim/sim_clients.h"
#include "tests/support/kafka_bytes.h"
#include <stdlib.h>

#define CLIENTS_MAX 24
#define CALL_PARTS_MAX 5
#define MAYBE_MAX 16
#define UNACKED_MAX 5 /* of one partition, as Kafka's own producer */
enum {
    E_NONE = 0,
    E_OUT_OF_RANGE = 1,
    E_UNKNOWN_TOPIC_CODE = 3,
    E_NOT_LEADER = 6,
    E_TIMEOUT = 7,
    E_SESSION_NOT_FOUND = 70,
    E_SESSION_EPOCH = 71,
    E_UNKNOWN_ID = 100
};

struct made {         /* one batch of a producer, until it is answered */
    struct list link; /* client.unacked, oldest first; not of other producers */
    struct sim_topic *t;
    int32_t partition;
    uint8_t *bytes;
    uint32_t len, crc;
    bool sent; /* on the present connection */
};
struct asked { /* one partition of a Fetch */
    struct sim_topic *t;
    int32_t partition;
    int64_t offset, acked;
    uint32_t max_bytes;
    bool news; /* of a session: changed since the last request */
};
struct call {
    struct list link;
    int16_t key, version;
    int32_t correlation;
    uint64_t sent_ns;
    uint64_t wait_ns; /* how long the broker may take on purpose */
    /* Produce */
    struct made *made[CALL_PARTS_MAX];
    uint32_t made_cnt;
    int16_t acks;
    bool may_fail; /* a deleted topic, a short timeout */
    /* Fetch */
    struct asked asked[CALL_PARTS_MAX];
    uint32_t asked_cnt;
    uint32_t min_bytes, max_bytes;
    bool in_session, full;
    uint64_t enough_ns; /* since when min_bytes are there; SIM_NEVER: not yet */
    /* OffsetCommit */
    int64_t offset;
};
enum client_state { CL_NONE, CL_CONNECTING, CL_OPEN, CL_CLOSING };
struct client {
    uint32_t idx;
    enum client_state state;
    conn_id id;
    bool half_closed, excused; /* excused: the broker has a reason to close the connection */
    bool was_deaf;             /* while the oldest call waited */
    uint64_t deaf_until;
    uint32_t window;
    uint64_t act_ns, answered_ns;
    uint64_t muted_until; /* as throttle_time_ms said */
    int32_t correlation;
    struct list calls; /* oldest first */
    uint32_t call_cnt;
    uint8_t *in;
    size_t in_len, in_cap;
    bool idempotent, broken[SIM_TOPICS_MAX][SIM_PARTS_MAX];
    int32_t sequence[SIM_TOPICS_MAX][SIM_PARTS_MAX];
    struct list unacked;
    bool sessions;
    int32_t session_id, session_epoch;
    int16_t session_version;           /* names or ids: one of them throughout */
    struct asked mine[CALL_PARTS_MAX]; /* what its session reads */
    uint32_t mine_cnt;
    /* a member of a group, whose client does nothing else */
    bool is_member;
    enum { GR_OUT, GR_JOINED, GR_STABLE } stage;
    char member_id[64];
    int32_t generation;
    bool leads;
    int64_t committed;        /* -1: nothing yet */
    int64_t maybe[MAYBE_MAX]; /* commits that were never answered */
    uint32_t maybe_cnt;
};

extern struct client *clients[CLIENTS_MAX];
extern uint32_t client_cnt;
extern struct arena client_arena; /* of the answer being looked at */

/* ---- sim_clients.c ---- */
/* What an answer of `len` bytes may be late by: everything that takes its time, several times over.
 */
uint64_t slack_ns(const struct client *c, uint32_t len);
/* When the broker may have begun with the oldest call. */
uint64_t begun_ns(const struct client *c, const struct call *call);
void client_throttled(struct client *c, int32_t ms);
/* answered: it is put behind the calls under way. */
struct call *call_new(struct client *c, int16_t key, int16_t version, bool answered);
void call_send(struct client *c, const struct call *call, write_fn *write, const void *m);
int16_t version_of(int16_t key);   /* any that is served */
struct sim_topic *any_topic(void); /* NULL: none just now; rarely a deleted one */
bool has_call(const struct client *c, int16_t key);

/* ---- sim_produce.c ---- */
void made_free(struct made *m);
void produce_some(struct client *c);
/* After a new connection: what was not answered on the old one, in its order. False: nothing. */
bool produce_again(struct client *c);
void on_produced(struct client *c, struct call *call, struct wire_reader *r);

/* ---- sim_fetch.c ---- */
void fetch_some(struct client *c);
/* One step of the client's session; it has one Fetch under way at most. */
void fetch_step(struct client *c);
void fetch_watch(void); /* the oldest calls of all clients: is there already what they wait for? */
void on_fetched(struct client *c, struct call *call, struct wire_reader *r);

/* ---- sim_groups.c ---- */
void group_some(struct client *c);
void group_closed(struct client *c); /* its connection is gone, with what was under way */
void on_group_answer(struct client *c, struct call *call, struct wire_reader *r);
