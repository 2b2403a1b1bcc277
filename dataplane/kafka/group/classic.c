/* classic.c - the state machine of classic groups, after Kafka's GroupMetadataManager and
 * ClassicGroup. group_state.def has the picture; who makes each move:
 *
 *   EMPTY, STABLE, COMPLETING -> PREPARING   classic_rebalance
 *   PREPARING -> COMPLETING or EMPTY         join_complete
 *   COMPLETING -> STABLE                     on_assignment_durable
 *   any -> DEAD                              group_remove
 *
 * A member whose connection is gone stays "awaiting" with no call to answer: it counts as joined,
 * and its session decides afterwards. */
#include "dataplane/kafka/group/classic.h"
#include "dataplane/kafka/group/consumer.h"
#include "lib/base/log.h"

static void join_complete(struct group *g);
static void on_sync_phase(struct timer *t, uint64_t now_ns);

/* ------------------------------------------------------------------ rebalance */

static int64_t rebalance_timeout(const struct group *g)
{
    int64_t max = 0;
    list_for_each(n, &g->members)
    {
        const struct member *m = container_of(n, struct member, link);
        if (m->rebalance_timeout_ms > max)
            max = m->rebalance_timeout_ms;
    }
    return max;
}

static bool all_joined(const struct group *g)
{
    return g->awaiting_join_cnt == g->member_cnt && g->pending_cnt == 0;
}

static void on_join_phase(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct group *g = container_of(t, struct group, timer);
    if (!g->c->draining)
        join_complete(g);
}

static void on_initial_delay(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct group *g = container_of(t, struct group, timer);
    if (g->c->draining)
        return;
    if (!g->member_added || g->remaining_ms == 0) {
        join_complete(g);
        return;
    }
    g->member_added = false;
    int32_t delay = (int32_t)group_conf(g)->group_initial_rebalance_delay_ms;
    int32_t spent = g->delay_ms;
    g->delay_ms = delay < g->remaining_ms ? delay : g->remaining_ms;
    g->remaining_ms = g->remaining_ms > spent ? g->remaining_ms - spent : 0;
    group_arm(g, &g->timer, g->delay_ms, on_initial_delay);
}

/* The leader goes on leading if it has joined; else the first who has. False: nobody has. */
static bool leader_elect(struct group *g)
{
    if (g->leader == NULL)
        return false;
    if (g->leader->awaiting_join)
        return true;
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (m->awaiting_join) {
            g->leader = m;
            return true;
        }
    }
    return false;
}

static void on_empty_durable(struct coord_write *w, int16_t error)
{
    (void)error; /* logged; the members are gone all the same, and a reload would expire them */
    (void)w;
}

static bool protocol_set(struct group *g, struct span name)
{
    struct span copy;
    if (!coord_keep(g->c, name, &copy))
        return false;
    coord_drop(g->c, &g->protocol_name);
    g->protocol_name = copy;
    return true;
}

static void generation_begin(struct group *g)
{
    g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    if (g->member_cnt == 0) {
        coord_drop(g->c, &g->protocol_name);
        group_set_state(g, GROUP_EMPTY);
        if (classic_write(g, false, NULL, on_empty_durable) < 0)
            LOG_WARN("group %.*s: no memory to note that it is empty", (int)g->id.len,
                     (const char *)g->id.p);
        return;
    }
    (void)protocol_set(g, classic_protocol_vote(g)); /* without memory the old name stays */
    group_set_state(g, GROUP_COMPLETING);
}

static void join_complete(struct group *g)
{
    timer_cancel(g->c->s->timers, &g->timer);
    list_for_each_safe(n, tmp, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (!m->awaiting_join && span_is_null(m->instance_id))
            member_remove(m, KE_UNKNOWN_MEMBER);
    }
    if (g->member_cnt > 0 && !leader_elect(g)) { /* static members only, all away: wait for them */
        group_arm(g, &g->timer, rebalance_timeout(g), on_join_phase);
        return;
    }
    generation_begin(g);
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        struct group_call *call = member_take_join(m);
        m->is_new = false;
        m->pending_sync = true;
        coord_drop(g->c, &m->next_assignment);
        group_touch(m);
        if (call != NULL)
            classic_join_answer(g, m, call, m == g->leader, g->leader->id, false);
    }
    if (g->state == GROUP_COMPLETING)
        group_arm(g, &g->timer, rebalance_timeout(g), on_sync_phase);
}

void classic_join_check(struct group *g)
{
    if (g->state == GROUP_PREPARING && g->before != GROUP_EMPTY && all_joined(g))
        join_complete(g);
}

void classic_rebalance(struct group *g)
{
    g->writing = false; /* what is under way belongs to a generation that ends */
    if (g->state == GROUP_COMPLETING)
        list_for_each(n, &g->members)
        {
            struct member *m = container_of(n, struct member, link);
            coord_drop(g->c, &m->assignment);
            coord_drop(g->c, &m->next_assignment);
            bool awaited = m->awaiting_sync;
            member_fail_sync(m, KE_REBALANCE);
            if (awaited)
                group_touch(m);
        }
    list_for_each(n, &g->members) container_of(n, struct member, link)->pending_sync = false;
    bool initial = g->state == GROUP_EMPTY;
    group_set_state(g, GROUP_PREPARING);
    g->c->k->st.group_rebalances++;
    if (initial) {
        int32_t delay = (int32_t)group_conf(g)->group_initial_rebalance_delay_ms;
        int64_t rest = rebalance_timeout(g) - delay;
        g->member_added = false;
        g->delay_ms = delay;
        g->remaining_ms = rest > 0 ? (int32_t)rest : 0;
        group_arm(g, &g->timer, delay, on_initial_delay);
    } else if (all_joined(g)) {
        join_complete(g);
    } else {
        group_arm(g, &g->timer, rebalance_timeout(g), on_join_phase);
    }
}

void classic_rebalance_or_check(struct group *g)
{
    if (g->state == GROUP_EMPTY || g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        classic_rebalance(g);
    else
        classic_join_check(g);
}

void classic_after_removal(struct group *g)
{
    if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        classic_rebalance(g);
    else
        classic_join_check(g);
}

/* Those who never asked for their assignment are gone. */
static void on_sync_phase(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct group *g = container_of(t, struct group, timer);
    bool removed = false;
    if (g->c->draining || (g->state != GROUP_COMPLETING && g->state != GROUP_STABLE))
        return;
    list_for_each_safe(n, tmp, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (m->pending_sync) {
            member_remove(m, KE_UNKNOWN_MEMBER);
            removed = true;
        }
    }
    if (removed)
        classic_rebalance(g);
}

static void sync_seen(struct member *m)
{
    struct group *g = m->g;
    m->pending_sync = false;
    list_for_each(n, &g->members)
    {
        if (container_of(n, struct member, link)->pending_sync)
            return;
    }
    if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        timer_cancel(g->c->s->timers, &g->timer);
}

void classic_on_session(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct member *m = container_of(t, struct member, session);
    struct group *g = m->g;
    if (g->c->draining)
        return;
    if (!m->is_new && (m->awaiting_join || m->awaiting_sync))
        return; /* alive; armed again when answered */
    g->c->k->st.group_members_expired++;
    LOG_INFO("group %.*s: member %.*s has not been heard of, removed", (int)g->id.len,
             (const char *)g->id.p, (int)m->id.len, (const char *)m->id.p);
    member_remove(m, KE_UNKNOWN_MEMBER);
    classic_after_removal(g);
}

/* ------------------------------------------------------------------ SyncGroup */

static void on_assignment_durable(struct coord_write *w, int16_t error)
{
    struct group *g = w->g;
    if (g->state != GROUP_COMPLETING || g->generation != w->generation)
        return; /* another rebalance has begun meanwhile */
    g->writing = false;
    if (error != 0) {
        list_for_each(n, &g->members)
        {
            struct member *m = container_of(n, struct member, link);
            bool awaited = m->awaiting_sync;
            member_fail_sync(m, error);
            if (awaited)
                group_touch(m);
        }
        classic_rebalance(g);
        return;
    }
    group_set_state(g, GROUP_STABLE);
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        coord_drop(g->c, &m->assignment);
        m->assignment = m->next_assignment;
        m->next_assignment = SPAN_NULL;
    }
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (!m->awaiting_sync)
            continue;
        struct group_call *call = member_take_sync(m);
        group_touch(m);
        if (call != NULL)
            classic_sync_answer(call, g, m, 0);
    }
}

/* The leader's word on who gets what; members it does not name get nothing. */
static void assign(struct group *g, const struct sync_group_request *in)
{
    int rc = 0;
    list_for_each(n, &g->members)
    {
        coord_drop(g->c, &container_of(n, struct member, link)->next_assignment);
    }
    for (uint32_t i = 0; i < in->assignments.cnt; i++) {
        struct member *m = member_find(g, in->assignments.v[i].member_id);
        if (m == NULL)
            continue;
        coord_drop(g->c, &m->next_assignment);
        if (!coord_keep(g->c, in->assignments.v[i].assignment, &m->next_assignment))
            rc = -ENOMEM;
    }
    g->writing = true;
    if (rc == 0)
        rc = classic_write(g, true, NULL, on_assignment_durable);
    if (rc == 0)
        return;
    LOG_WARN("group %.*s: its assignment cannot be kept: %s", (int)g->id.len, (const char *)g->id.p,
             err_text(rc));
    g->writing = false;
    list_for_each(n, &g->members)
        member_fail_sync(container_of(n, struct member, link), KE_UNKNOWN);
    classic_rebalance(g);
}

static int16_t sync_check(struct group *g, const struct sync_group_request *in, struct member **m)
{
    int16_t error = group_check_member(g, in->member_id, in->group_instance_id, m);
    if (error != 0)
        return error;
    if (in->generation_id != g->generation)
        return KE_ILLEGAL_GENERATION;
    if ((!span_is_null(in->protocol_type) && !span_eq(in->protocol_type, g->protocol_type)) ||
        (!span_is_null(in->protocol_name) && !span_is_null(g->protocol_name) &&
         !span_eq(in->protocol_name, g->protocol_name)))
        return KE_INCONSISTENT_PROTOCOL;
    switch (g->state) {
    case GROUP_PREPARING:
        return KE_REBALANCE;
    case GROUP_COMPLETING:
    case GROUP_STABLE:
        return 0;
    default:
        return KE_UNKNOWN_MEMBER;
    }
}

void group_on_sync(struct cpart *p, struct group_call *call)
{
    const struct sync_group_request *in = call->in;
    struct group *g = coord_find(p->c, in->group_id);
    struct member *m = NULL;
    int16_t error = in->group_id.len == 0 ? KE_INVALID_GROUP_ID
                    : g == NULL           ? KE_UNKNOWN_MEMBER
                                          : sync_check(g, in, &m);
    if (error != 0) {
        classic_sync_answer(call, g, m, error);
        return;
    }
    sync_seen(m);
    if (g->state == GROUP_STABLE) {
        group_touch(m);
        classic_sync_answer(call, g, m, 0);
        return;
    }
    struct group_call *old = member_take_sync(m);
    if (old != NULL)
        classic_sync_answer(old, g, m, KE_REBALANCE);
    m->awaiting_sync = true;
    m->sync = call;
    member_park(m, call);
    if (m == g->leader && !g->writing)
        assign(g, in);
}

/* ------------------------------------------------------------------ Heartbeat, LeaveGroup */

void group_on_heartbeat(struct cpart *p, struct group_call *call)
{
    const struct heartbeat_request *in = call->in;
    struct group *g = coord_find(p->c, in->group_id);
    struct member *m = NULL;
    int16_t error = in->group_id.len == 0 ? KE_INVALID_GROUP_ID
                    : g == NULL || g->state == GROUP_EMPTY
                        ? KE_UNKNOWN_MEMBER
                        : group_check_member(g, in->member_id, in->group_instance_id, &m);
    if (error == 0 && in->generation_id != g->generation)
        error = KE_ILLEGAL_GENERATION;
    if (error == 0) {
        group_touch(m);
        if (g->state == GROUP_PREPARING)
            error = KE_REBALANCE;
    }
    call_fail(call, error);
}

static int16_t leave_one(struct group *g, struct span member_id, struct span instance_id,
                         bool *ret_changed)
{
    struct member *m = NULL;
    if (g == NULL)
        return KE_UNKNOWN_MEMBER;
    if (member_id.len == 0) { /* an administrator names the instance only */
        m = span_is_null(instance_id) ? NULL : member_find_static(g, instance_id);
        if (m == NULL)
            return KE_UNKNOWN_MEMBER;
    } else {
        struct pending_member *pm = pending_find(g, member_id);
        if (pm != NULL) {
            pending_free(pm);
            *ret_changed = true;
            return 0;
        }
        int16_t error = group_check_member(g, member_id, instance_id, &m);
        if (error != 0)
            return error;
    }
    member_remove(m, KE_UNKNOWN_MEMBER);
    *ret_changed = true;
    return 0;
}

void group_on_leave(struct cpart *p, struct group_call *call)
{
    const struct leave_group_request *in = call->in;
    struct leave_group_response *out = &call->out.leave;
    struct group *g = coord_find(p->c, in->group_id);
    bool changed = false, members_changed;
    leave_group_response_init(out);
    if (in->group_id.len == 0) {
        call_fail(call, KE_INVALID_GROUP_ID);
        return;
    }
    if (g != NULL && g->consumer != NULL) {
        consumer_on_leave_group(g, call);
        return;
    }
    uint32_t members = g != NULL ? g->member_cnt : 0;
    if (call->version < 3) {
        out->error_code = leave_one(g, in->member_id, SPAN_NULL, &changed);
    } else {
        out->members.v = arena_array(&call->arena, in->members.cnt, sizeof(*out->members.v));
        if (out->members.v == NULL) {
            call_fail(call, KE_UNKNOWN);
            return;
        }
        out->members.cnt = in->members.cnt;
        for (uint32_t i = 0; i < in->members.cnt; i++) {
            const struct leave_group_request_member *lm = &in->members.v[i];
            struct leave_group_response_member *o = &out->members.v[i];
            leave_group_response_member_init(o);
            o->member_id = lm->member_id; /* the request's bytes outlive the answer */
            o->group_instance_id = lm->group_instance_id;
            o->error_code = leave_one(g, lm->member_id, lm->group_instance_id, &changed);
        }
    }
    members_changed = g != NULL && g->member_cnt != members;
    if (members_changed)
        classic_after_removal(g);
    else if (changed)
        classic_join_check(g);
    call_reply(call);
}
