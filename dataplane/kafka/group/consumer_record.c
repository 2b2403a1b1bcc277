/* consumer_record.c - the records of consumer groups, written and read.
 *
 *   type  key              value
 *    3    group            epoch, hash of the topics        the group is there
 *    5    group, member    who it is, what it subscribes to
 *    6    group            epoch of the target
 *    7    group, member    its target
 *    8    group, member    its epochs, state, partitions
 *   16    group, pattern   the topics it matched
 *
 * Compaction keeps the last of each key, so they are read in any order: each makes the group and
 * the member it speaks of; consumer_loaded drops members that have no record 5. */
#include "dataplane/kafka/group/classic.h"
#include "dataplane/kafka/group/consumer_priv.h"
#include "lib/base/log.h"

#define PARTITION_METADATA_TYPE 4 /* Kafka 3.7 to 4.0 */

/* ------------------------------------------------------------------- encoding */

/* int16 type or version, and the message in version 0. The null span: the arena is full. */
#define RECORD_BYTES(msg)                                                                          \
    static struct span msg##_bytes(struct arena *a, int16_t head, const struct msg *m)             \
    {                                                                                              \
        size_t len = 2 + msg##_size(m, 0);                                                         \
        uint8_t *p = len <= COORD_CALL_BYTES_MAX ? arena_alloc(a, len) : NULL;                     \
        struct wire_writer w;                                                                      \
        if (p == NULL)                                                                             \
            return SPAN_NULL;                                                                      \
        wire_writer_init(&w, p, len);                                                              \
        wire_put_i16(&w, head);                                                                    \
        msg##_write(&w, 0, m);                                                                     \
        return span_of(p, (uint32_t)len);                                                          \
    }
RECORD_BYTES(consumer_group_metadata_key)
RECORD_BYTES(consumer_group_metadata_value)
RECORD_BYTES(consumer_group_member_metadata_key)
RECORD_BYTES(consumer_group_member_metadata_value)
RECORD_BYTES(consumer_group_target_assignment_metadata_key)
RECORD_BYTES(consumer_group_target_assignment_metadata_value)
RECORD_BYTES(consumer_group_target_assignment_member_key)
RECORD_BYTES(consumer_group_target_assignment_member_value)
RECORD_BYTES(consumer_group_current_member_assignment_key)
RECORD_BYTES(consumer_group_current_member_assignment_value)
RECORD_BYTES(consumer_group_regular_expression_key)
RECORD_BYTES(consumer_group_regular_expression_value)

static void put(struct cchange *ch, struct span key, struct span value)
{
    if (ch->rc < 0)
        return;
    if (span_is_null(key) || span_is_null(value))
        ch->rc = -E_LIMIT;
    else
        coord_write_add(ch->w, key, value);
}

static void put_gone(struct cchange *ch, struct span key)
{
    if (ch->rc < 0)
        return;
    if (span_is_null(key))
        ch->rc = -E_LIMIT;
    else
        coord_write_add(ch->w, key, SPAN_NULL);
}

/* The partitions of one topic; with their epochs if `epochs`. False: the arena is full. */
static bool run_fill(struct arena *a, const struct tpset *s, uint32_t at, uint32_t cnt,
                     struct wire_i32s *partitions, struct wire_i32s *epochs)
{
    int32_t *p = arena_array(a, cnt, sizeof(*p)), *e = arena_array(a, cnt, sizeof(*e));
    if (p == NULL || e == NULL)
        return false;
    for (uint32_t i = 0; i < cnt; i++) {
        p[i] = s->v[at + i].partition;
        e[i] = s->v[at + i].epoch;
    }
    *partitions = (struct wire_i32s){.v = p, .cnt = cnt};
    if (epochs != NULL)
        *epochs = (struct wire_i32s){.v = e, .cnt = cnt};
    return true;
}

static uint32_t topic_cnt(const struct tpset *s)
{
    uint32_t cnt = 0;
    for (uint32_t i = 0; i < s->cnt; i += tpset_run(s, i))
        cnt++;
    return cnt;
}

static void
current_fill(struct cchange *ch, const struct tpset *s,
             struct consumer_group_current_member_assignment_value_topic_partitions_arr *to)
{
    to->v = arena_array(ch->a, topic_cnt(s), sizeof(*to->v));
    if (to->v == NULL)
        ch->rc = -E_LIMIT;
    for (uint32_t i = 0, run; i < s->cnt && ch->rc == 0; i += run) {
        run = tpset_run(s, i);
        consumer_group_current_member_assignment_value_topic_partitions_init(&to->v[to->cnt]);
        to->v[to->cnt].topic_id = s->v[i].topic;
        if (!run_fill(ch->a, s, i, run, &to->v[to->cnt].partitions,
                      &to->v[to->cnt].assignment_epochs))
            ch->rc = -E_LIMIT;
        to->cnt++;
    }
}

void consumer_put_group(struct cchange *ch)
{
    struct consumer_group_metadata_key key = {.group_id = ch->g->id};
    struct consumer_group_metadata_value v = {.epoch = ch->g->consumer->epoch,
                                              .metadata_hash = ch->g->consumer->metadata_hash};
    put(ch, consumer_group_metadata_key_bytes(ch->a, CONSUMER_GROUP_METADATA_KEY_KEY, &key),
        consumer_group_metadata_value_bytes(ch->a, 0, &v));
}

void consumer_put_target_epoch(struct cchange *ch)
{
    struct consumer_group_target_assignment_metadata_key key = {.group_id = ch->g->id};
    struct consumer_group_target_assignment_metadata_value v = {
        .assignment_epoch = ch->g->consumer->target_epoch,
        .assignment_timestamp = ch->g->c->s->wall_ms};
    put(ch,
        consumer_group_target_assignment_metadata_key_bytes(
            ch->a, CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_KEY, &key),
        consumer_group_target_assignment_metadata_value_bytes(ch->a, 0, &v));
}

void consumer_put_member(struct cchange *ch, const struct cmember *m)
{
    struct consumer_group_member_metadata_key key = {.group_id = ch->g->id, .member_id = m->id};
    struct consumer_group_member_metadata_value v = {.instance_id = m->instance_id,
                                                     .rack_id = m->rack_id,
                                                     .client_id = m->client_id,
                                                     .client_host = m->client_host,
                                                     .subscribed_topic_names = m->names,
                                                     .subscribed_topic_regex = m->regex,
                                                     .rebalance_timeout_ms =
                                                         m->rebalance_timeout_ms,
                                                     .server_assignor = m->assignor};
    put(ch,
        consumer_group_member_metadata_key_bytes(ch->a, CONSUMER_GROUP_MEMBER_METADATA_KEY_KEY,
                                                 &key),
        consumer_group_member_metadata_value_bytes(ch->a, 0, &v));
}

void consumer_put_target(struct cchange *ch, const struct cmember *m)
{
    struct consumer_group_target_assignment_member_key key = {.group_id = ch->g->id,
                                                              .member_id = m->id};
    struct consumer_group_target_assignment_member_value v = {0};
    const struct tpset *s = &m->target;
    v.topic_partitions.v = arena_array(ch->a, topic_cnt(s), sizeof(*v.topic_partitions.v));
    if (v.topic_partitions.v == NULL)
        ch->rc = -E_LIMIT;
    for (uint32_t i = 0, run; i < s->cnt && ch->rc == 0; i += run) {
        run = tpset_run(s, i);
        v.topic_partitions.v[v.topic_partitions.cnt].topic_id = s->v[i].topic;
        if (!run_fill(ch->a, s, i, run, &v.topic_partitions.v[v.topic_partitions.cnt++].partitions,
                      NULL))
            ch->rc = -E_LIMIT;
    }
    if (ch->rc == 0)
        put(ch,
            consumer_group_target_assignment_member_key_bytes(
                ch->a, CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_KEY, &key),
            consumer_group_target_assignment_member_value_bytes(ch->a, 0, &v));
}

void consumer_put_current(struct cchange *ch, const struct cmember *m)
{
    struct consumer_group_current_member_assignment_key key = {.group_id = ch->g->id,
                                                               .member_id = m->id};
    struct consumer_group_current_member_assignment_value v = {.member_epoch = m->epoch,
                                                               .previous_member_epoch =
                                                                   m->previous_epoch,
                                                               .state = (int8_t)m->state};
    current_fill(ch, &m->assigned, &v.assigned_partitions);
    current_fill(ch, &m->revoking, &v.partitions_pending_revocation);
    if (ch->rc == 0)
        put(ch,
            consumer_group_current_member_assignment_key_bytes(
                ch->a, CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_KEY, &key),
            consumer_group_current_member_assignment_value_bytes(ch->a, 0, &v));
}

void consumer_put_regex(struct cchange *ch, const struct cregex *re)
{
    struct consumer_group_regular_expression_key key = {.group_id = ch->g->id,
                                                        .regular_expression = re->text};
    struct consumer_group_regular_expression_value v = {
        .topics = re->topics, .version = re->version, .timestamp = re->ms};
    put(ch,
        consumer_group_regular_expression_key_bytes(
            ch->a, CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_KEY, &key),
        consumer_group_regular_expression_value_bytes(ch->a, 0, &v));
}

void consumer_put_regex_gone(struct cchange *ch, struct span text)
{
    struct consumer_group_regular_expression_key key = {.group_id = ch->g->id,
                                                        .regular_expression = text};
    put_gone(ch, consumer_group_regular_expression_key_bytes(
                     ch->a, CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_KEY, &key));
}

void consumer_put_member_gone(struct cchange *ch, struct span member_id)
{
    struct consumer_group_current_member_assignment_key current = {.group_id = ch->g->id,
                                                                   .member_id = member_id};
    struct consumer_group_target_assignment_member_key target = {.group_id = ch->g->id,
                                                                 .member_id = member_id};
    struct consumer_group_member_metadata_key metadata = {.group_id = ch->g->id,
                                                          .member_id = member_id};
    put_gone(ch, consumer_group_current_member_assignment_key_bytes(
                     ch->a, CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_KEY, &current));
    put_gone(ch, consumer_group_target_assignment_member_key_bytes(
                     ch->a, CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_KEY, &target));
    put_gone(ch, consumer_group_member_metadata_key_bytes(
                     ch->a, CONSUMER_GROUP_MEMBER_METADATA_KEY_KEY, &metadata));
}

void consumer_write_deleted(const struct group *g, struct coord_write *w, struct arena *a)
{
    struct cchange ch = {.g = (struct group *)(uintptr_t)g, .w = w, .a = a};
    struct consumer_group_target_assignment_metadata_key target = {.group_id = g->id};
    struct consumer_group_metadata_key key = {.group_id = g->id};
    put_gone(&ch, consumer_group_target_assignment_metadata_key_bytes(
                      a, CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_KEY, &target));
    put_gone(&ch, consumer_group_metadata_key_bytes(a, CONSUMER_GROUP_METADATA_KEY_KEY, &key));
    if (ch.rc < 0)
        w->w.rc = ch.rc;
}

/* ------------------------------------------------------------------- replay */

/* The group as a consumer group; with a member id, that member. What a tombstone speaks of need not
 * be there: *ret_m and the result are NULL then. */
static int place(struct cpart *p, struct span group, const struct span *member, bool deleted,
                 struct cgroup **ret, struct cmember **ret_m)
{
    struct group *g = deleted ? coord_find(p->c, group) : coord_get(p, group);
    *ret = NULL;
    *ret_m = NULL;
    if (g == NULL || (deleted && g->consumer == NULL))
        return deleted ? 0 : -ENOMEM;
    if (g->consumer == NULL) {
        classic_clear(g, KE_LOADING); /* it was empty when it changed */
        group_load_state(g, GROUP_EMPTY);
        if (consumer_make(g) == NULL)
            return -ENOMEM;
    }
    *ret = g->consumer;
    if (member == NULL)
        return 0;
    *ret_m = cmember_find(g, *member);
    if (*ret_m == NULL && !deleted)
        *ret_m = cmember_new(g, *member);
    return *ret_m == NULL && !deleted ? -ENOMEM : 0;
}

static int replay_group(struct cpart *p, const struct consumer_group_metadata_key *k,
                        const struct consumer_group_metadata_value *v)
{
    struct cgroup *cg;
    struct cmember *m;
    int rc = place(p, k->group_id, NULL, v == NULL, &cg, &m);
    if (rc < 0 || cg == NULL)
        return rc;
    if (v == NULL) {
        struct group *g = coord_find(p->c, k->group_id);
        consumer_free(g);
        coord_drop(g->c, &g->protocol_type);
        group_load_state(g, GROUP_EMPTY);
        if (g->offset_cnt == 0 && g->refs == 1) /* else offsets of an open transaction hold it */
            group_remove(g, KE_LOADING);
        return 0;
    }
    if (v->epoch < 0 || v->epoch == INT32_MAX)
        return -E_MALFORMED;
    cg->epoch = v->epoch;
    cg->metadata_hash = v->metadata_hash;
    return 0;
}

static int replay_member(struct cpart *p, const struct consumer_group_member_metadata_key *k,
                         const struct consumer_group_member_metadata_value *v)
{
    struct coord *c = p->c;
    struct cgroup *cg;
    struct cmember *m;
    int rc = place(p, k->group_id, &k->member_id, v == NULL, &cg, &m);
    if (rc < 0 || m == NULL)
        return rc;
    if (v == NULL) {
        struct tpset none = {0};
        bool ok = cmember_own(m, &none, &none);
        cmember_free(m);
        return ok ? 0 : -ENOMEM;
    }
    m->is_known = v->classic_member_metadata == NULL; /* one of an online migration: never ours */
    m->rebalance_timeout_ms = v->rebalance_timeout_ms;
    return consumer_set_span(c, &m->instance_id, v->instance_id) &&
                   consumer_set_span(c, &m->rack_id, v->rack_id) &&
                   consumer_set_span(c, &m->client_id, v->client_id) &&
                   consumer_set_span(c, &m->client_host, v->client_host) &&
                   consumer_set_span(c, &m->regex, v->subscribed_topic_regex) &&
                   consumer_set_span(c, &m->assignor, v->server_assignor) &&
                   consumer_set_names(c, &m->names, &v->subscribed_topic_names)
               ? 0
               : -ENOMEM;
}

static int replay_target_epoch(struct cpart *p,
                               const struct consumer_group_target_assignment_metadata_key *k,
                               const struct consumer_group_target_assignment_metadata_value *v)
{
    struct cgroup *cg;
    struct cmember *m;
    int rc = place(p, k->group_id, NULL, v == NULL, &cg, &m);
    if (rc == 0 && cg != NULL)
        cg->target_epoch = v != NULL ? v->assignment_epoch : 0;
    return rc;
}

/* Room for the partitions of all topics, then them. */
#define GATHER(a, arr, set, epoch_of)                                                              \
    do {                                                                                           \
        uint32_t all_ = 0;                                                                         \
        for (uint32_t i_ = 0; i_ < (arr)->cnt; i_++)                                               \
            all_ += (arr)->v[i_].partitions.cnt;                                                   \
        (set)->cnt = 0;                                                                            \
        (set)->v = arena_array(a, all_, sizeof(*(set)->v));                                        \
        for (uint32_t i_ = 0; (set)->v != NULL && i_ < (arr)->cnt; i_++)                           \
            for (uint32_t k_ = 0; k_ < (arr)->v[i_].partitions.cnt; k_++)                          \
                (set)->v[(set)->cnt++] = (struct tp){.topic = (arr)->v[i_].topic_id,               \
                                                     .partition = (arr)->v[i_].partitions.v[k_],   \
                                                     .epoch = epoch_of};                           \
    } while (0)

static int replay_target(struct cpart *p,
                         const struct consumer_group_target_assignment_member_key *k,
                         const struct consumer_group_target_assignment_member_value *v,
                         struct arena *a)
{
    struct cgroup *cg;
    struct cmember *m;
    struct tpset s = {0};
    int rc = place(p, k->group_id, &k->member_id, v == NULL, &cg, &m);
    if (rc < 0 || m == NULL)
        return rc;
    if (v != NULL) {
        GATHER(a, &v->topic_partitions, &s, 0);
        if (s.v == NULL)
            return -ENOMEM;
        tpset_sort(&s);
    }
    return consumer_set_tpset(p->c, &m->target, &s) ? 0 : -ENOMEM;
}

static int32_t
since(const struct consumer_group_current_member_assignment_value_topic_partitions *t, uint32_t i,
      int32_t epoch)
{
    return i < t->assignment_epochs.cnt ? t->assignment_epochs.v[i] : epoch;
}

static int replay_current(struct cpart *p,
                          const struct consumer_group_current_member_assignment_key *k,
                          const struct consumer_group_current_member_assignment_value *v,
                          struct arena *a)
{
    struct cgroup *cg;
    struct cmember *m;
    struct tpset assigned = {0}, revoking = {0};
    int rc = place(p, k->group_id, &k->member_id, v == NULL, &cg, &m);
    if (rc < 0 || m == NULL)
        return rc;
    m->epoch = m->previous_epoch = 0;
    m->state = CMEMBER_STABLE;
    if (v != NULL) {
        if (v->state < CMEMBER_STABLE || v->state > CMEMBER_UNRELEASED)
            return -E_MALFORMED;
        m->epoch = v->member_epoch;
        m->previous_epoch = v->previous_member_epoch;
        m->state = (enum cmember_state)v->state;
        GATHER(a, &v->assigned_partitions, &assigned,
               since(&v->assigned_partitions.v[i_], k_, v->member_epoch));
        GATHER(a, &v->partitions_pending_revocation, &revoking,
               since(&v->partitions_pending_revocation.v[i_], k_, v->member_epoch));
        if (assigned.v == NULL || revoking.v == NULL)
            return -ENOMEM;
        tpset_sort(&assigned);
        tpset_sort(&revoking);
    }
    return cmember_own(m, &assigned, &revoking) ? 0 : -ENOMEM;
}

static int replay_regex(struct cpart *p, const struct consumer_group_regular_expression_key *k,
                        const struct consumer_group_regular_expression_value *v)
{
    struct cgroup *cg;
    struct cmember *m;
    int rc = place(p, k->group_id, NULL, v == NULL, &cg, &m);
    if (rc < 0 || cg == NULL)
        return rc;
    struct cregex *re = cregex_find(cg, k->regular_expression);
    if (v == NULL) {
        if (re != NULL)
            cregex_free(p->c, re);
        return 0;
    }
    if (re == NULL) {
        re = cregex_new(p->c, k->regular_expression);
        if (re != NULL)
            cregex_link(coord_find(p->c, k->group_id), re);
    }
    if (re == NULL || !consumer_set_names(p->c, &re->topics, &v->topics))
        return -ENOMEM;
    re->version = v->version;
    re->ms = v->timestamp;
    return 0;
}

#define REPLAY(msg, call)                                                                          \
    do {                                                                                           \
        struct msg##_key k;                                                                        \
        struct msg##_value v;                                                                      \
        rc = msg##_key_read(key, 0, a, &k);                                                        \
        if (rc == 0 && !deleted)                                                                   \
            rc = msg##_value_read(value, version, a, &v);                                          \
        return rc < 0 ? rc : call;                                                                 \
    } while (0)

int consumer_replay(struct cpart *p, int16_t type, struct wire_reader *key,
                    struct wire_reader *value, int16_t version, bool deleted, struct arena *a)
{
    int rc;
    switch (type) {
    case CONSUMER_GROUP_METADATA_KEY_KEY:
        REPLAY(consumer_group_metadata, replay_group(p, &k, deleted ? NULL : &v));
    case CONSUMER_GROUP_MEMBER_METADATA_KEY_KEY:
        REPLAY(consumer_group_member_metadata, replay_member(p, &k, deleted ? NULL : &v));
    case CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_KEY:
        REPLAY(consumer_group_target_assignment_metadata,
               replay_target_epoch(p, &k, deleted ? NULL : &v));
    case CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_KEY:
        REPLAY(consumer_group_target_assignment_member,
               replay_target(p, &k, deleted ? NULL : &v, a));
    case CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_KEY:
        REPLAY(consumer_group_current_member_assignment,
               replay_current(p, &k, deleted ? NULL : &v, a));
    case CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_KEY:
        REPLAY(consumer_group_regular_expression, replay_regex(p, &k, deleted ? NULL : &v));
    case PARTITION_METADATA_TYPE:
        return 0;
    default:
        return 1;
    }
}

/* Who uses what, once more from all members: while records were read in another order than they
 * were written in, one partition may have been with two of them. */
static void owned_rebuild(struct group *g)
{
    static const struct tpset none;
    struct cgroup *cg = g->consumer;
    struct tpset empty = none;
    (void)consumer_set_tpset(g->c, &cg->owned, &empty);
    list_for_each(n, &cg->members)
    {
        struct cmember *m = container_of(n, struct cmember, link);
        struct tpset assigned = m->assigned, revoking = m->revoking;
        m->assigned = m->revoking = none;
        bool ok = cmember_own(m, &assigned, &revoking);
        coord_free(g->c, assigned.v, assigned.cnt * sizeof(*assigned.v));
        coord_free(g->c, revoking.v, revoking.cnt * sizeof(*revoking.v));
        if (!ok)
            LOG_ERROR("group %.*s: no memory for what its members have", (int)g->id.len,
                      (const char *)g->id.p);
    }
}

void consumer_loaded(struct group *g)
{
    struct cgroup *cg = g->consumer;
    list_for_each_safe(n, tmp, &cg->members)
    {
        struct cmember *m = container_of(n, struct cmember, link);
        if (!m->is_known) {
            LOG_WARN("group %.*s: member %.*s has no record of who it is, left out", (int)g->id.len,
                     (const char *)g->id.p, (int)m->id.len, (const char *)m->id.p);
            cmember_free(m);
            continue;
        }
        consumer_arm_session(m);
        if (m->state == CMEMBER_UNREVOKED)
            consumer_arm_rebalance(m);
    }
    owned_rebuild(g);
    consumer_state_update(g);
}
