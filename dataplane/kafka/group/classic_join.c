/* classic_join.c - JoinGroup: who may join a classic group, and how. See classic.h. */
#include "dataplane/kafka/group/classic.h"
#include "dataplane/kafka/group/consumer.h"

static struct span member_id_make(struct group_call *call, struct span instance_id)
{
    static const char hex[] = "0123456789abcdef";
    struct span head = span_is_null(instance_id) ? call->client_id : instance_id;
    struct uuid u;
    uuid_random(&u);
    uint32_t len = head.len + 37;
    char *p = arena_alloc(&call->arena, len);
    if (p == NULL)
        return SPAN_NULL;
    char *at = p;
    if (head.len > 0)
        memcpy(at, head.p, head.len);
    at += head.len;
    *at++ = '-';
    for (uint32_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = hex[u.b[i] >> 4];
        *at++ = hex[u.b[i] & 15];
    }
    return span_of(p, len);
}

static bool may_join(const struct group *g, const struct member *m)
{
    uint32_t max = group_conf(g)->group_max_size;
    switch (g->state) {
    case GROUP_PREPARING:
        return (m != NULL && m->awaiting_join) || g->awaiting_join_cnt < max;
    case GROUP_COMPLETING:
    case GROUP_STABLE:
        return m != NULL || g->member_cnt < max;
    default:
        return true;
    }
}

/* The member's new protocols and timeouts; its join waits. False: out of memory. */
static bool member_update(struct member *m, struct group_call *call)
{
    const struct join_group_request *in = call->in;
    struct coord *c = m->g->c;
    struct proto *v = protos_keep(c, in->protocols.v, in->protocols.cnt);
    if (v == NULL)
        return false;
    member_set_protos(m, v, in->protocols.cnt);
    m->session_timeout_ms = in->session_timeout_ms;
    m->rebalance_timeout_ms =
        call->version == 0 ? in->session_timeout_ms : in->rebalance_timeout_ms;
    struct group_call *old =
        member_take_join(m); /* a second join of the same member ends the first */
    if (old != NULL)
        classic_join_answer_error(old, m->id, KE_REBALANCE);
    m->awaiting_join = true;
    m->g->awaiting_join_cnt++;
    m->join = call;
    member_park(m, call);
    return true;
}

static void add_member(struct group *g, struct group_call *call, struct span member_id)
{
    const struct join_group_request *in = call->in;
    struct coord *c = g->c;
    struct span type = SPAN_NULL;
    struct member *m = member_new(g, member_id, in->group_instance_id, call->client_id,
                                  span_str(call->client_host));
    bool first = g->member_cnt == 0;
    if (m == NULL || (first && !coord_keep(c, in->protocol_type, &type)) ||
        !member_update(m, call)) {
        if (m != NULL)
            member_free(m);
        coord_drop(c, &type);
        classic_join_answer_error(call, member_id, KE_GROUP_FULL);
        return;
    }
    if (first) {
        coord_drop(c, &g->protocol_type);
        g->protocol_type = type;
    }
    m->is_new = true;
    struct pending_member *pm = pending_find(g, member_id);
    if (pm != NULL)
        pending_free(pm);
    if (g->state == GROUP_PREPARING && g->before == GROUP_EMPTY)
        g->member_added = true;
    member_link(m);
    group_arm(g, &m->session, COORD_NEW_MEMBER_MS, classic_on_session);
    classic_rebalance_or_check(g);
}

static void update_member(struct member *m, struct group_call *call)
{
    if (!member_update(m, call)) {
        classic_join_answer_error(call, m->id, KE_NOT_AVAILABLE);
        return;
    }
    classic_rebalance_or_check(m->g);
}

/* The static member's new identity is durable: it goes on without a rebalance. */
static void on_static_durable(struct coord_write *w, int16_t error)
{
    struct group *g = w->g;
    struct member *m = NULL;
    list_for_each(n, &g->members)
    {
        if (container_of(n, struct member, link) == w->member)
            m = w->member;
    }
    if (m == NULL || g->state == GROUP_DEAD)
        return;
    if (error != 0) { /* its old identity is what a restart would find */
        member_fail_join(m, error);
        coord_reload(g->p);
        return;
    }
    if (g->state != GROUP_STABLE || g->generation != w->generation || !m->awaiting_join)
        return; /* a rebalance has begun: its end answers */
    struct group_call *call = member_take_join(m);
    group_touch(m);
    m->is_new = false;
    if (call == NULL)
        return;
    bool skips = call->version >= 9;
    bool leads = g->leader == m;
    /* Before version 9 a leader that came back must not believe it leads: it would hand in an
     * assignment that nobody waits for. */
    struct span leader = skips || !leads ? g->leader->id : WIRE_EMPTY;
    classic_join_answer(g, m, call, skips && leads, leader, skips && leads);
}

/* A static member came back under a new id; whoever still uses the old one is fenced. */
static void replace_static(struct member *m, struct group_call *call, struct span new_id)
{
    struct group *g = m->g;
    const struct join_group_request *in = call->in;
    struct span id;
    if (!coord_keep(g->c, new_id, &id)) {
        classic_join_answer_error(call, new_id, KE_NOT_AVAILABLE);
        return;
    }
    member_fail_join(m, KE_FENCED_INSTANCE);
    member_fail_sync(m, KE_FENCED_INSTANCE);
    coord_drop(g->c, &m->id);
    m->id = id;
    bool same = false; /* does the selected protocol stay, and what the member says in it? */
    if (g->state == GROUP_STABLE) {
        struct span was = member_metadata(m, g->protocol_name);
        for (uint32_t i = 0; i < in->protocols.cnt && !same; i++)
            same = span_eq(in->protocols.v[i].name, g->protocol_name) &&
                   span_eq(in->protocols.v[i].metadata, was);
    }
    if (!member_update(m, call)) {
        classic_join_answer_error(call, new_id, KE_NOT_AVAILABLE);
        return;
    }
    group_touch(m);
    switch (g->state) {
    case GROUP_STABLE:
        same = same && span_eq(classic_protocol_vote(g), g->protocol_name);
        if (!same || classic_write(g, false, m, on_static_durable) < 0)
            classic_rebalance(g);
        break;
    case GROUP_COMPLETING:
        classic_rebalance(g);
        break;
    default:
        classic_join_check(g);
        break;
    }
}

static void on_pending(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct pending_member *pm = container_of(t, struct pending_member, timer);
    struct group *g = pm->g;
    if (g->c->draining)
        return;
    pending_free(pm);
    classic_join_check(g);
}

static void tell_member_id(struct group *g, struct group_call *call, struct span member_id)
{
    const struct join_group_request *in = call->in;
    struct pending_member *pm = coord_alloc(g->c, sizeof(*pm));
    if (pm == NULL || g->pending_cnt >= group_conf(g)->group_max_size ||
        !coord_keep(g->c, member_id, &pm->id)) {
        coord_free(g->c, pm, sizeof(*pm));
        classic_join_answer_error(call, WIRE_EMPTY, KE_GROUP_FULL);
        return;
    }
    pm->g = g;
    list_add_tail(&g->pending, &pm->link);
    g->pending_cnt++;
    group_arm(g, &pm->timer, in->session_timeout_ms, on_pending);
    classic_join_answer_error(call, member_id, KE_MEMBER_ID_REQUIRED);
}

static void join_new(struct group *g, struct group_call *call)
{
    const struct join_group_request *in = call->in;
    if (!classic_supports(g, in)) {
        classic_join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    struct span id = member_id_make(call, in->group_instance_id);
    struct member *known =
        span_is_null(in->group_instance_id) ? NULL : member_find_static(g, in->group_instance_id);
    if (span_is_null(id))
        classic_join_answer_error(call, in->member_id, KE_UNKNOWN);
    else if (known != NULL)
        replace_static(known, call, id);
    else if (span_is_null(in->group_instance_id) && call->version >= 4)
        tell_member_id(g, call, id);
    else
        add_member(g, call, id);
}

static void join_known(struct group *g, struct group_call *call)
{
    const struct join_group_request *in = call->in;
    struct member *m;
    if (!classic_supports(g, in)) {
        classic_join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    if (pending_find(g, in->member_id) != NULL) {
        if (span_is_null(in->group_instance_id))
            add_member(g, call, in->member_id);
        else
            classic_join_answer_error(call, in->member_id, KE_UNKNOWN_MEMBER);
        return;
    }
    int16_t error = group_check_member(g, in->member_id, in->group_instance_id, &m);
    if (error != 0) {
        classic_join_answer_error(call, in->member_id, error);
        return;
    }
    switch (g->state) {
    case GROUP_PREPARING:
        update_member(m, call);
        break;
    case GROUP_COMPLETING: /* the first answer may have been lost */
        if (member_matches(m, in))
            classic_join_answer(g, m, call, m == g->leader, g->leader->id, false);
        else
            update_member(m, call);
        break;
    case GROUP_STABLE: /* the leader asks for a rebalance by joining again */
        if (m == g->leader || !member_matches(m, in))
            update_member(m, call);
        else
            classic_join_answer(g, m, call, false, g->leader->id, false);
        break;
    default:
        classic_join_answer_error(call, in->member_id, KE_UNKNOWN_MEMBER);
        break;
    }
}

void group_on_join(struct cpart *p, struct group_call *call)
{
    const struct join_group_request *in = call->in;
    const struct conf *conf = p->c->s->conf;
    if (in->group_id.len == 0) {
        classic_join_answer_error(call, in->member_id, KE_INVALID_GROUP_ID);
        return;
    }
    if (in->session_timeout_ms < (int32_t)conf->group_min_session_timeout_ms ||
        in->session_timeout_ms > (int32_t)conf->group_max_session_timeout_ms) {
        classic_join_answer_error(call, in->member_id, KE_INVALID_SESSION_TIMEOUT);
        return;
    }
    if (in->protocol_type.len == 0 || in->protocols.cnt == 0) {
        classic_join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    bool is_new = in->member_id.len == 0;
    struct group *g = is_new ? coord_get(p, in->group_id) : coord_find(p->c, in->group_id);
    if (g == NULL) {
        classic_join_answer_error(call, in->member_id,
                                  is_new ? KE_NOT_AVAILABLE : KE_UNKNOWN_MEMBER);
        return;
    }
    if (g->consumer != NULL && g->state != GROUP_EMPTY) { /* the protocols do not mix */
        classic_join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    if (g->consumer != NULL && !consumer_to_classic(g)) {
        classic_join_answer_error(call, in->member_id, KE_NOT_AVAILABLE);
        return;
    }
    struct member *m = is_new ? NULL : member_find(g, in->member_id);
    if (!may_join(g, m)) {
        if (m != NULL) {
            member_remove(m, KE_GROUP_FULL);
            classic_after_removal(g);
        }
        classic_join_answer_error(call, WIRE_EMPTY, KE_GROUP_FULL);
        return;
    }
    if (is_new)
        join_new(g, call);
    else
        join_known(g, call);
}
