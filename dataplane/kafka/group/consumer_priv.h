/* consumer_priv.h - between the files of the consumer protocol; see consumer.h. */
#pragma once
#include "dataplane/kafka/group/consumer.h"

/* One change of a group: memory is changed as it goes, and `w` collects the records. rc < 0: out of
 * memory or of arena; the change is then not finished and the partition must be read again. */
struct cchange {
    struct group *g;
    struct coord_write *w;
    struct arena *a;
    int rc;
};

/* ---- consumer_member.c ---- */
/* Counted copies; the old one is freed. False: out of memory, nothing changed. */
bool consumer_set_span(struct coord *c, struct span *to, struct span from);
bool consumer_set_tpset(struct coord *c, struct tpset *to, const struct tpset *from);
/* `from` is sorted and its repeats dropped on the way. */
bool consumer_set_names(struct coord *c, struct wire_spans *to, const struct wire_spans *from);
bool names_eq(const struct wire_spans *a, const struct wire_spans *b);
/* The group's consumer part, made when there is none. NULL: out of memory. */
struct cgroup *consumer_make(struct group *g);
struct cmember *cmember_new(struct group *g, struct span id);
void cmember_free(struct cmember *m);
struct cmember *cmember_find(const struct group *g, struct span id);
struct cmember *cmember_find_static(const struct group *g, struct span instance_id);
struct cregex *cregex_find(const struct cgroup *cg, struct span text);
/* Not in a group yet. NULL: out of memory. */
struct cregex *cregex_new(struct coord *c, struct span text);
void cregex_link(struct group *g, struct cregex *re);
void cregex_free(struct coord *c, struct cregex *re);
uint32_t cregex_users(const struct cgroup *cg, struct span text);
/* The group's state after a change, see group_state.def. */
void consumer_state_update(struct group *g);
/* Partitions that m uses become those given, of epoch m->epoch. False: out of memory. */
bool cmember_own(struct cmember *m, const struct tpset *assigned, const struct tpset *revoking);

/* ---- consumer_target.c ---- */
/* Takes the topics that the pattern matches in this image. 1: they are others than before, or it is
 * the first look; 0; -E_LIMIT: it takes too long, or the arena is full; -E_MALFORMED, -ENOMEM. */
int cregex_look(struct coord *c, struct cregex *re, struct arena *a);
/* Looks at the topics: what patterns match, a new hash, a higher epoch (`bump`: in any case); with
 * `assign`, a new target when that is behind. */
void consumer_follow(struct cchange *ch, bool bump, bool assign);
/* One step of m towards its target, or none. `owned`: what it says it has, NULL: it does not say.
 */
void consumer_reconcile(struct cchange *ch, struct cmember *m, const struct tpset *owned);
/* The assignor that most members ask for. */
struct span consumer_assignor(const struct group *g);

/* ---- consumer_record.c ---- */
void consumer_put_group(struct cchange *ch);
void consumer_put_target_epoch(struct cchange *ch);
void consumer_put_member(struct cchange *ch, const struct cmember *m);
void consumer_put_target(struct cchange *ch, const struct cmember *m);
void consumer_put_current(struct cchange *ch, const struct cmember *m);
void consumer_put_regex(struct cchange *ch, const struct cregex *re);
/* Tombstones: of a member's three records; of a pattern. */
void consumer_put_member_gone(struct cchange *ch, struct span member_id);
void consumer_put_regex_gone(struct cchange *ch, struct span text);

/* ---- consumer.c ---- */
void consumer_arm_session(struct cmember *m);
void consumer_arm_rebalance(struct cmember *m);
/* The member is out: its records, its partitions, the epoch. */
void consumer_remove(struct cchange *ch, struct cmember *m);
/* Begin a change; false: out of memory, nothing begun. */
bool consumer_begin(struct cchange *ch, struct group *g, struct arena *a);
/* The records go to the log. `call` (NULL: none) is answered when they and all before are durable,
 * or failed. */
void consumer_commit(struct cchange *ch, struct group_call *call);
