/* group.h - one group: members, generations, timers. States: group_state.def; rules: Kafka's
 * GroupMetadataManager. group.c is what groups have in common, classic*.c the classic protocol,
 * consumer*.c that of KIP-848.
 * Runs on: the shard of the group's partition. */
#pragma once
#include "dataplane/kafka/group/coord.h"

#define GROUP_OPERATIONS ((1 << 3) | (1 << 6) | (1 << 8)) /* READ, DELETE, DESCRIBE */
extern const char *const group_state_text[GROUP_STATE_CNT];

struct proto {
    struct span name, metadata;
};
struct member {
    struct list link; /* group.members, in the order of joining */
    struct group *g;
    struct span id, instance_id, client_id, client_host; /* instance_id null: dynamic */
    int32_t rebalance_timeout_ms, session_timeout_ms;
    struct proto *protos;
    uint32_t proto_cnt;
    struct span assignment;
    struct span next_assignment; /* while it is being made durable */
    bool is_new;                 /* has not completed a join */
    bool awaiting_join, awaiting_sync;
    bool pending_sync;              /* of this generation, has not asked for its assignment */
    struct group_call *join, *sync; /* to be answered; NULL when the connection is gone */
    struct timer session;
};
struct pending_member { /* told MEMBER_ID_REQUIRED, expected back */
    struct list link;
    struct group *g;
    struct span id;
    struct timer timer;
};
struct group {
    struct id_node node;   /* coord.groups */
    struct list part_link; /* cpart.groups */
    struct coord *c;
    struct cpart *p;
    struct span id;
    uint32_t refs; /* 1 for being in the table, 1 per write */
    enum group_state state, before;
    int64_t state_ms; /* since when; wall clock */
    int32_t generation;
    struct span protocol_type, protocol_name; /* null: none */
    struct member *leader;
    struct list members, pending;
    uint32_t member_cnt, pending_cnt, awaiting_join_cnt;
    bool member_added; /* during the initial delay */
    int32_t delay_ms, remaining_ms;
    struct timer timer;      /* the join phase's end, or the sync phase's */
    bool writing;            /* an assignment is being made durable */
    struct cgroup *consumer; /* consumer.h; NULL: of the classic protocol */
    /* offsets.c */
    struct goffsets *offsets; /* by topic name */
    uint32_t topic_cnt, topic_cap;
    uint64_t offset_cnt;
};

struct group *group_new(struct cpart *p, struct span id);
/* Out of the table; answers whoever waits with `error`, stops timers. */
void group_remove(struct group *g, int16_t error);
void group_put(struct group *g);
/* Answer whoever waits with `error`; members stay. */
void group_fail_parked(struct group *g, int16_t error);
const struct conf *group_conf(const struct group *g);
/* KIP-848: what is in force for the group now (lib/meta/group_config.def). */
uint32_t group_session_timeout_ms(const struct group *g);
uint32_t group_heartbeat_interval_ms(const struct group *g);
/* (Re)arm a timer of the group in ms. */
void group_arm(struct group *g, struct timer *t, int64_t ms, timer_fn *fn);
void group_set_state(struct group *g, enum group_state state);
/* The same while records are read: nothing has happened, so there is no time and no state before.
 */
void group_load_state(struct group *g, enum group_state state);
/* It is in the log, and not only its offsets. */
bool group_has_record(const struct group *g);
/* The tombstones of its records but the offsets'. */
void group_write_deleted(const struct group *g, struct coord_write *w, struct arena *a);
/* "Group <id><tail>" in the call's arena. */
struct span group_text(struct group_call *call, const char *tail);
bool group_is_unused(const struct group *g);
bool group_is_consumer(const struct group *g);
bool group_subscribes(const struct group *g, struct span topic);
/* Does the member named by these may speak for this group? 0 or Kafka's code. */
int16_t group_check_member(struct group *g, struct span member_id, struct span instance_id,
                           struct member **ret);
void group_touch(struct member *m); /* a sign of life */

/* One request each; every one leads to one call_reply, now or later. */
void group_on_join(struct cpart *p, struct group_call *call);
void group_on_sync(struct cpart *p, struct group_call *call);
void group_on_heartbeat(struct cpart *p, struct group_call *call);
void group_on_leave(struct cpart *p, struct group_call *call);
void group_on_describe(struct cpart *p, struct group_call *call);
void group_on_delete(struct cpart *p, struct group_call *call);
void group_on_list(struct coord *c, struct group_call *call);
/* The connection of a parked call is gone. */
void group_unpark(struct group_call *call);

/* Loading: a record of the group's metadata; v == NULL: deleted. 0 or -E_*. */
NODISCARD int group_replay(struct cpart *p, struct span id, const struct group_metadata_value *v);
/* After the last record: members have one session timeout to show up. */
void group_loaded(struct group *g);
