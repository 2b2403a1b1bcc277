/* consumer.h - groups of the consumer protocol (KIP-848): the coordinator assigns, members follow.
 *
 * Three epochs. Whatever changes who subscribes to what (a member comes, goes, changes its
 * subscription; a subscribed topic changes) raises the group's epoch; from that the assignor makes
 * a target assignment of that epoch; each member moves towards its target in its own time, and has
 * the target's epoch when it has given up what it must. States of a member, as in its record:
 *
 *     STABLE --target changed--> UNREVOKED (tells it to give up partitions, keeps its old epoch)
 *       |                           | it no longer owns them
 *       |                           v
 *       `-----------------------> STABLE, or UNRELEASED while others still have some of its target
 *
 * No partition is with two members: cgroup.owned has all that are in use.
 *
 * Memory is changed at once, records follow, and no answer leaves before everything it has seen is
 * durable; when an append fails, the partition is read again.
 *
 * consumer.c is the heartbeat and the ends of members; consumer_member.c members and their regular
 * expressions; consumer_target.c subscriptions, the target, reconciliation; consumer_record.c
 * records; consumer_admin.c what others ask. Runs on: the shard of the group's partition. */
#pragma once
#include "dataplane/kafka/group/assignor.h"
#include "dataplane/kafka/group/group.h"
#include "dataplane/kafka/group/topic_regex.h"

#define CONSUMER_EPOCH_JOIN 0
#define CONSUMER_EPOCH_LEAVE -1
#define CONSUMER_EPOCH_LEAVE_STATIC -2
#define CONSUMER_REGEX_REFRESH_MS 1000        /* at most so often when topics come and go */
#define CONSUMER_REGEX_BUDGET_MS 50           /* of matching all topics against one pattern */
#define CONSUMER_ROOM_MIN (UINT64_C(1) << 20) /* of COORD_BYTES_MAX, for a member to join */

enum cmember_state { /* Kafka's numbers */
                     CMEMBER_STABLE = 0,
                     CMEMBER_UNREVOKED = 1,
                     CMEMBER_UNRELEASED = 2,
};
struct cmember {
    struct list link; /* cgroup.members, in the order of their records */
    struct group *g;
    struct span id, client_id, client_host;
    struct span instance_id, rack_id, regex, assignor; /* null: none */
    struct wire_spans names;                           /* subscribed; sorted, each once */
    int32_t rebalance_timeout_ms;
    int32_t epoch, previous_epoch;
    enum cmember_state state;
    struct tpset assigned, revoking; /* epochs: since when it has each */
    struct tpset target;
    bool is_known; /* its metadata has been read (loading) */
    struct timer session, rebalance;
};
struct cregex { /* a pattern that members subscribe to */
    struct list link;
    struct span text;
    struct wire_spans topics; /* that it matched when last looked at; sorted */
    int64_t version, ms;      /* of the image then; wall clock */
    struct topic_regex *compiled;
};
struct cgroup {
    int32_t epoch, target_epoch;
    int64_t metadata_hash; /* of the subscribed topics; 0: none */
    struct list members, regexes;
    uint32_t member_cnt;
    struct tpset owned;             /* all members' assigned and revoking; epochs: the member's */
    int64_t image_offset;           /* the hash is of this image; -1: of none yet */
    int64_t regex_offset;           /* the same of the patterns' topics */
    uint64_t regex_ns;              /* when they were looked at */
    struct coord_write *last_write; /* under way: what was read since is answered after it */
};

/* ---- for coord.c, group.c, offsets.c ---- */
void consumer_on_heartbeat(struct cpart *p, struct group_call *call);
void consumer_on_describe(struct cpart *p, struct group_call *call);
/* LeaveGroup of a consumer group: an administrator removes members. */
void consumer_on_leave_group(struct group *g, struct group_call *call);
/* offsets_check for a consumer group. */
struct commit_who;
int16_t consumer_check_commit(const struct group *g, struct commit_who *who);
/* KIP-1251: the partition has been with the member since that epoch or longer. */
bool consumer_may_commit_old(const struct cmember *m, const struct uuid *topic, int32_t partition,
                             int32_t epoch);
int16_t consumer_check_fetch(const struct group *g, struct span member_id, int32_t epoch);
bool consumer_subscribes(const struct group *g, struct span topic);
/* A group without members changes its kind; tombstones are written. False: out of memory. */
bool consumer_to_classic(struct group *g);
void consumer_free(struct group *g);
void consumer_loaded(struct group *g);
/* Tombstones of the group, which has no members. */
void consumer_write_deleted(const struct group *g, struct coord_write *w, struct arena *a);
/* A record of type `type` from the log; deleted: no value. 1: not one of ours; 0; -E_*. */
NODISCARD int consumer_replay(struct cpart *p, int16_t type, struct wire_reader *key,
                              struct wire_reader *value, int16_t version, bool deleted,
                              struct arena *a);
