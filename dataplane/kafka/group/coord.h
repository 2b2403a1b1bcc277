/* coord.h - the group coordinator of one shard.
 *
 * A group lives on the shard that owns partition abs(javaHash(group id)) % N of __consumer_offsets.
 * Requests come as MSG_GROUP from the connection's shard and are answered by its reply, at once or
 * when a rebalance ends or a record is durable. What is acknowledged is in that partition, in
 * Kafka's record formats; memory is a view of it, rebuilt by reading the partition:
 *
 *     CPART_NONE --owned, attached--> CPART_LOADING --all read--> CPART_READY
 *        ^  not owned any more               ^  `--- an append failed ---'
 *
 * coord.c owns partitions, the table of groups, reading and writing; group.c what
 * groups have in common, classic.c and consumer.c their two protocols; offsets.c committed offsets.
 * Runs on: the shard's thread. Nothing blocks. */
#pragma once
#include "dataplane/kafka/clog.h"
#include "dataplane/kafka/id_table.h"
#include "dataplane/kafka/session.h"
#include "lib/wire/wire_gen.h"

#define OFFSETS_TOPIC "__consumer_offsets"
#define COORD_BYTES_MAX (UINT64_C(512) << 20) /* all groups of a shard */
#define COORD_CALL_BYTES_MAX (64u << 20)      /* one answer */
#define COORD_EXPIRY_MS 600000                /* between looks for expired offsets */
#define COORD_NEW_MEMBER_MS 300000            /* a member that never completed a join */
#define COMMIT_METADATA_MAX 4096

enum kafka_error { /* Kafka's codes of the group APIs */
                   KE_UNKNOWN = -1,
                   KE_UNKNOWN_TOPIC = 3,
                   KE_BATCH_TOO_LARGE = 10,
                   KE_METADATA_TOO_LARGE = 12,
                   KE_LOADING = 14,
                   KE_NOT_AVAILABLE = 15,
                   KE_NOT_COORDINATOR = 16,
                   KE_ILLEGAL_GENERATION = 22,
                   KE_INCONSISTENT_PROTOCOL = 23,
                   KE_INVALID_GROUP_ID = 24,
                   KE_UNKNOWN_MEMBER = 25,
                   KE_INVALID_SESSION_TIMEOUT = 26,
                   KE_REBALANCE = 27,
                   KE_COMMIT_SIZE = 28,
                   KE_UNSUPPORTED_VERSION = 35,
                   KE_INVALID_REQUEST = 42,
                   KE_INVALID_PRODUCER_EPOCH = 47,
                   KE_NON_EMPTY_GROUP = 68,
                   KE_GROUP_NOT_FOUND = 69,
                   KE_MEMBER_ID_REQUIRED = 79,
                   KE_GROUP_FULL = 81,
                   KE_FENCED_INSTANCE = 82,
                   KE_SUBSCRIBED = 86,
                   KE_UNSTABLE_OFFSET = 88,
                   KE_UNKNOWN_TOPIC_ID = 100,
                   KE_FENCED_MEMBER_EPOCH = 110,
                   KE_UNRELEASED_INSTANCE = 111,
                   KE_UNSUPPORTED_ASSIGNOR = 112,
                   KE_STALE_MEMBER_EPOCH = 113,
                   KE_INVALID_REGEX = 128,
};

/* MSG_GROUP: one request about one group (ListGroups: about all of the shard). Until the reply the
 * owner reads `in` and the spans, fills `out` with memory of `arena`, and uses the last fields. */
struct group_call {
    struct msg msg;
    struct kreq *req;
    void (*done)(struct group_call *call); /* on the origin, before the arena goes */
    int16_t api_key, version;
    int32_t partition; /* of OFFSETS_TOPIC; -1: every one the shard owns */
    uint16_t owner;    /* where it was sent */
    struct span group, client_id;
    char client_host[NET_ADDR_TEXT_MAX + 2];
    const void *in;      /* the decoded request; OffsetFetch: one offset_fetch_request_group */
    bool require_stable; /* OffsetFetch: not while a transaction may change the answer */
    bool read_all;       /* DescribeGroups: the authorized operations too */
    struct arena arena;
    int16_t error; /* not 0: the answer, and `out` is not filled */
    union {
        struct join_group_response join;
        struct sync_group_response sync;
        struct leave_group_response leave;
        struct offset_commit_response commit;
        struct txn_offset_commit_response txn_commit;
        struct offset_delete_response offset_delete;
        struct offset_fetch_response_group fetch;
        struct describe_groups_response_group describe;
        struct list_groups_response list;
        struct consumer_group_heartbeat_response consumer_heartbeat;
        struct consumer_group_describe_response_group consumer_describe;
    } out;
    /* the owner's */
    struct coord *coord;
    struct member *parked;   /* whose join or sync this is */
    void *ctx;               /* of a commit under way, in the arena */
    struct group_call *next; /* waits for the same write */
};
/* MSG_GROUP_CANCEL: the connection of `call` is gone. A parked call is answered; crossing is fine.
 */
struct group_cancel_msg {
    struct msg msg;
    struct group_call *call; /* sent to the same owner before; stays until this is replied */
};

enum group_state {
#define GROUP_STATE(name, text) GROUP_##name,
#include "dataplane/kafka/group/group_state.def"
#undef GROUP_STATE
    GROUP_STATE_CNT
};

struct cpart { /* one partition of OFFSETS_TOPIC */
    struct clog log;
    struct coord *c;
    struct list groups; /* group.part_link */
    struct list txns;   /* txn_offsets.link: offsets in open transactions */
};
struct coord {
    struct kafka *k;
    struct shard *s;
    struct clog_set logs; /* of struct cpart */
    struct timer expiry;
    struct id_table groups;
    uint32_t states[GROUP_STATE_CNT]; /* groups of the table by state */
    struct list topics;               /* struct ctopic: topics with committed offsets */
    uint64_t bytes;                   /* of groups, as far as counted */
    uint64_t offset_seq;              /* goffset.seq */
    bool draining;
};
static inline struct cpart *coord_part(const struct coord *c, uint32_t idx)
{
    return container_of(c->logs.v[idx], struct cpart, log);
}

/* ---- for the session ---- */
NODISCARD int coord_create(struct kafka *k, struct coord **ret);
void coord_destroy(struct coord *c);
/* Every turn: follows the metadata image. */
void coord_poll(struct coord *c);
/* Answer what is parked, take nothing new. */
void coord_drain(struct coord *c);
bool coord_is_idle(const struct coord *c);
/* Groups by state, now. */
void coord_stats_get(const struct coord *c, struct kafka_stats *st);
void coord_on_call(struct shard *s, struct msg *m);
void coord_on_cancel(struct shard *s, struct msg *m);
/* The marker of a transaction is durable in a partition of OFFSETS_TOPIC of this shard. */
void coord_on_marker(struct coord *c, int32_t partition, int64_t producer_id, bool commit);

/* ---- for group.c and offsets.c ---- */
struct group;
/* Copies in heap memory, counted. False: out of memory or of COORD_BYTES_MAX; *to is then null. */
bool coord_keep(struct coord *c, struct span s, struct span *to);
void coord_drop(struct coord *c, struct span *s);
/* Counted zeroed memory. */
void *coord_alloc(struct coord *c, size_t size);
void coord_free(struct coord *c, void *p, size_t size);
/* Room for one more of `size` bytes behind *cap of them. */
bool coord_room(struct coord *c, void **v, uint32_t cnt, uint32_t *cap, size_t size);
struct group *coord_find(struct coord *c, struct span id);
/* Finds or makes; NULL when memory is out. */
struct group *coord_get(struct cpart *p, struct span id);
/* Answer a call (its memory is the origin's again). */
void call_reply(struct group_call *call);
void call_fail(struct group_call *call, int16_t error);
/* A copy in the call's arena; the empty span for null or when the arena is full. */
struct span call_keep(struct group_call *call, struct span s);
struct span call_keep_nullable(struct group_call *call, struct span s);

/* Records on their way into a partition, of one group: `done` runs when all are durable or one has
 * failed. `g` may be NULL; it is held until done has run. */
struct coord_write {
    struct clog_write w;
    struct cpart *p;
    struct group *g;
    struct group_call *call;
    int32_t generation;
    struct member *member; /* only compared with the group's members */
    void (*done)(struct coord_write *w, int16_t error);
};
/* NULL: out of memory. */
struct coord_write *coord_write_new(struct cpart *p, struct group *g);
void coord_write_add(struct coord_write *w, struct span key, struct span value);
/* Hands everything to the log; w is gone when done has run (never inside this call). */
void coord_write_submit(struct coord_write *w);
void coord_write_drop(struct coord_write *w);
/* Memory is ahead of the log: read the partition again. */
void coord_reload(struct cpart *p);
