/* classic.h - between the files of the classic protocol; what others may use is in group.h.
 *
 * classic.c is the state machine: rebalance, SyncGroup, Heartbeat, LeaveGroup. classic_join.c is
 * JoinGroup; classic_member.c members, what they speak and what they are answered;
 * classic_record.c the group's record, written and read. Runs on: the shard of the group. */
#pragma once
#include "dataplane/kafka/group/group.h"

/* ---- classic_member.c ---- */
struct member *member_new(struct group *g, struct span id, struct span instance_id,
                          struct span client_id, struct span client_host);
void member_free(struct member *m);
void member_link(struct member *m);
struct member *member_find(const struct group *g, struct span id);
struct member *member_find_static(const struct group *g, struct span instance_id);
/* Out of the group; who waits is answered with `error`. The caller moves the group's state. */
void member_remove(struct member *m, int16_t error);
void member_set_protos(struct member *m, struct proto *v, uint32_t cnt);
/* NULL: out of memory. */
struct proto *protos_keep(struct coord *c, const struct join_group_request_protocol *in,
                          uint32_t cnt);
/* What the member says in this protocol; empty when it does not speak it. */
struct span member_metadata(const struct member *m, struct span protocol);
bool member_matches(const struct member *m, const struct join_group_request *in);
void member_park(struct member *m, struct group_call *call);
/* The parked join (sync) of m, which is answered now; NULL: nobody to tell. Ends the waiting. */
struct group_call *member_take_join(struct member *m);
struct group_call *member_take_sync(struct member *m);
void member_fail_join(struct member *m, int16_t error);
void member_fail_sync(struct member *m, int16_t error);
void classic_join_answer_error(struct group_call *call, struct span member_id, int16_t error);
/* The generation's answer to a join. `leader` is who the member shall believe leads. */
void classic_join_answer(struct group *g, struct member *m, struct group_call *call,
                         bool with_members, struct span leader, bool skip);
void classic_sync_answer(struct group_call *call, const struct group *g, const struct member *m,
                         int16_t error);
/* May one who speaks these join? */
bool classic_supports(const struct group *g, const struct join_group_request *in);
/* Each member votes for the first of its protocols that all support. There is one: joins that
 * would leave none are refused. */
struct span classic_protocol_vote(const struct group *g);
struct pending_member *pending_find(const struct group *g, struct span id);
void pending_free(struct pending_member *pm);
bool classic_subscribes(const struct group *g, struct span topic);
/* All members and pending ones out. */
void classic_clear(struct group *g, int16_t error);

/* ---- classic_record.c ---- */
/* Key of the group's metadata record, in `a`. */
struct span classic_key(struct arena *a, struct span id);
/* Write the group as it is, with the assignments to come if `next`. done as in coord.h. Negative:
 * out of memory, nothing happens. */
int classic_write(struct group *g, bool next, struct member *about,
                  void (*done)(struct coord_write *w, int16_t error));

/* ---- classic.c ---- */
void classic_rebalance(struct group *g);
/* Somebody joined, left or was told to wait: is the join phase over? */
void classic_join_check(struct group *g);
void classic_rebalance_or_check(struct group *g);
/* Members left. */
void classic_after_removal(struct group *g);
void classic_on_session(struct timer *t, uint64_t now_ns);
