/* classic_member.c - members of classic groups, their answers, what they speak. See classic.h. */
#include "dataplane/kafka/group/classic.h"

/* ------------------------------------------------------------------ answers */

void classic_join_answer_error(struct group_call *call, struct span member_id, int16_t error)
{
    struct join_group_response *out = &call->out.join;
    join_group_response_init(out);
    out->error_code = error;
    out->member_id = call_keep(call, member_id);
    call_reply(call);
}

struct span member_metadata(const struct member *m, struct span protocol)
{
    for (uint32_t i = 0; i < m->proto_cnt; i++)
        if (span_eq(m->protos[i].name, protocol))
            return m->protos[i].metadata;
    return WIRE_EMPTY;
}

void classic_join_answer(struct group *g, struct member *m, struct group_call *call,
                         bool with_members, struct span leader, bool skip)
{
    struct join_group_response *out = &call->out.join;
    join_group_response_init(out);
    out->generation_id = g->generation;
    out->protocol_type = call_keep_nullable(call, g->protocol_type);
    out->protocol_name = call_keep_nullable(call, g->protocol_name);
    out->leader = call_keep(call, leader);
    out->member_id = call_keep(call, m->id);
    out->skip_assignment = skip;
    if (with_members) {
        out->members.v = arena_array(&call->arena, g->member_cnt, sizeof(*out->members.v));
        if (out->members.v == NULL) {
            classic_join_answer_error(call, m->id, KE_UNKNOWN);
            return;
        }
        list_for_each(n, &g->members)
        {
            const struct member *o = container_of(n, struct member, link);
            struct join_group_response_member *v = &out->members.v[out->members.cnt++];
            join_group_response_member_init(v);
            v->member_id = call_keep(call, o->id);
            v->group_instance_id = call_keep_nullable(call, o->instance_id);
            v->metadata = call_keep(call, member_metadata(o, g->protocol_name));
        }
    }
    call_reply(call);
}

void classic_sync_answer(struct group_call *call, const struct group *g, const struct member *m,
                         int16_t error)
{
    struct sync_group_response *out = &call->out.sync;
    sync_group_response_init(out);
    out->error_code = error;
    if (error == 0) {
        out->protocol_type = call_keep_nullable(call, g->protocol_type);
        out->protocol_name = call_keep_nullable(call, g->protocol_name);
        out->assignment = call_keep(call, m->assignment);
    }
    call_reply(call);
}

void member_park(struct member *m, struct group_call *call)
{
    call->parked = m;
}

struct group_call *member_take_join(struct member *m)
{
    struct group_call *call = m->join;
    if (m->awaiting_join)
        m->g->awaiting_join_cnt--;
    m->awaiting_join = false;
    m->join = NULL;
    if (call != NULL)
        call->parked = NULL;
    return call;
}

struct group_call *member_take_sync(struct member *m)
{
    struct group_call *call = m->sync;
    m->awaiting_sync = false;
    m->sync = NULL;
    if (call != NULL)
        call->parked = NULL;
    return call;
}

void member_fail_join(struct member *m, int16_t error)
{
    struct group_call *call = member_take_join(m);
    if (call != NULL)
        classic_join_answer_error(call, m->id, error);
}

void member_fail_sync(struct member *m, int16_t error)
{
    struct group_call *call = member_take_sync(m);
    if (call != NULL)
        classic_sync_answer(call, m->g, m, error);
}

void group_unpark(struct group_call *call)
{
    struct member *m = call->parked;
    if (m->join == call)
        m->join = NULL;
    if (m->sync == call)
        m->sync = NULL;
    call->parked = NULL;
}

/* ------------------------------------------------------------------ members */

static void protos_free(struct coord *c, struct proto *v, uint32_t cnt)
{
    for (uint32_t i = 0; v != NULL && i < cnt; i++) {
        coord_drop(c, &v[i].name);
        coord_drop(c, &v[i].metadata);
    }
    coord_free(c, v, cnt * sizeof(*v));
}

struct proto *protos_keep(struct coord *c, const struct join_group_request_protocol *in,
                          uint32_t cnt)
{
    struct proto *v = coord_alloc(c, cnt * sizeof(*v));
    bool ok = v != NULL;
    for (uint32_t i = 0; ok && i < cnt; i++)
        ok = coord_keep(c, in[i].name, &v[i].name) && coord_keep(c, in[i].metadata, &v[i].metadata);
    if (!ok) {
        protos_free(c, v, cnt);
        return NULL;
    }
    return v;
}

void member_set_protos(struct member *m, struct proto *v, uint32_t cnt)
{
    protos_free(m->g->c, m->protos, m->proto_cnt);
    m->protos = v;
    m->proto_cnt = cnt;
}

void member_free(struct member *m)
{
    struct coord *c = m->g->c;
    timer_cancel(c->s->timers, &m->session);
    protos_free(c, m->protos, m->proto_cnt);
    coord_drop(c, &m->id);
    coord_drop(c, &m->instance_id);
    coord_drop(c, &m->client_id);
    coord_drop(c, &m->client_host);
    coord_drop(c, &m->assignment);
    coord_drop(c, &m->next_assignment);
    coord_free(c, m, sizeof(*m));
}

struct member *member_new(struct group *g, struct span id, struct span instance_id,
                          struct span client_id, struct span client_host)
{
    struct coord *c = g->c;
    struct member *m = coord_alloc(c, sizeof(*m));
    if (m == NULL)
        return NULL;
    m->g = g;
    if (!coord_keep(c, id, &m->id) || !coord_keep(c, instance_id, &m->instance_id) ||
        !coord_keep(c, client_id, &m->client_id) || !coord_keep(c, client_host, &m->client_host)) {
        member_free(m);
        return NULL;
    }
    return m;
}

void member_link(struct member *m)
{
    struct group *g = m->g;
    list_add_tail(&g->members, &m->link);
    g->member_cnt++;
    if (g->leader == NULL)
        g->leader = m;
}

struct member *member_find(const struct group *g, struct span id)
{
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (span_eq(m->id, id))
            return m;
    }
    return NULL;
}

struct member *member_find_static(const struct group *g, struct span instance_id)
{
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (!span_is_null(m->instance_id) && span_eq(m->instance_id, instance_id))
            return m;
    }
    return NULL;
}

void member_remove(struct member *m, int16_t error)
{
    struct group *g = m->g;
    member_fail_join(m, error);
    member_fail_sync(m, error);
    list_del(&m->link);
    g->member_cnt--;
    if (g->leader == m)
        g->leader =
            list_is_empty(&g->members) ? NULL : container_of(g->members.next, struct member, link);
    member_free(m);
}

int16_t group_check_member(struct group *g, struct span member_id, struct span instance_id,
                           struct member **ret)
{
    if (!span_is_null(instance_id)) {
        struct member *st = member_find_static(g, instance_id);
        if (st == NULL)
            return KE_UNKNOWN_MEMBER;
        if (!span_eq(st->id, member_id))
            return KE_FENCED_INSTANCE;
    }
    struct member *m = member_find(g, member_id);
    if (m == NULL)
        return KE_UNKNOWN_MEMBER;
    *ret = m;
    return 0;
}

void group_touch(struct member *m)
{
    group_arm(m->g, &m->session, m->session_timeout_ms, classic_on_session);
}

struct pending_member *pending_find(const struct group *g, struct span id)
{
    list_for_each(n, &g->pending)
    {
        struct pending_member *pm = container_of(n, struct pending_member, link);
        if (span_eq(pm->id, id))
            return pm;
    }
    return NULL;
}

void pending_free(struct pending_member *pm)
{
    struct group *g = pm->g;
    timer_cancel(g->c->s->timers, &pm->timer);
    list_del(&pm->link);
    g->pending_cnt--;
    coord_drop(g->c, &pm->id);
    coord_free(g->c, pm, sizeof(*pm));
}

void classic_clear(struct group *g, int16_t error)
{
    while (!list_is_empty(&g->members))
        member_remove(container_of(g->members.next, struct member, link), error);
    while (!list_is_empty(&g->pending))
        pending_free(container_of(g->pending.next, struct pending_member, link));
}

/* ------------------------------------------------------------------ protocols */

static bool member_supports(const struct member *m, struct span protocol)
{
    for (uint32_t i = 0; i < m->proto_cnt; i++)
        if (span_eq(m->protos[i].name, protocol))
            return true;
    return false;
}

static bool all_support(const struct group *g, struct span protocol)
{
    list_for_each(n, &g->members)
    {
        if (!member_supports(container_of(n, struct member, link), protocol))
            return false;
    }
    return true;
}

bool classic_supports(const struct group *g, const struct join_group_request *in)
{
    if (g->state == GROUP_EMPTY || g->member_cnt == 0)
        return in->protocol_type.len > 0 && in->protocols.cnt > 0;
    if (!span_eq(in->protocol_type, g->protocol_type))
        return false;
    for (uint32_t i = 0; i < in->protocols.cnt; i++)
        if (all_support(g, in->protocols.v[i].name))
            return true;
    return false;
}

struct span classic_protocol_vote(const struct group *g)
{
    const struct member *first = container_of(g->members.next, struct member, link);
    struct span best = first->protos[0].name;
    uint32_t most = 0;
    for (uint32_t i = 0; i < first->proto_cnt; i++) {
        struct span candidate = first->protos[i].name;
        uint32_t votes = 0;
        if (!all_support(g, candidate))
            continue;
        list_for_each(n, &g->members)
        {
            const struct member *m = container_of(n, struct member, link);
            for (uint32_t k = 0; k < m->proto_cnt; k++)
                if (all_support(g, m->protos[k].name)) {
                    votes += span_eq(m->protos[k].name, candidate);
                    break;
                }
        }
        if (votes > most) {
            most = votes;
            best = candidate;
        }
    }
    return best;
}

bool member_matches(const struct member *m, const struct join_group_request *in)
{
    if (m->proto_cnt != in->protocols.cnt)
        return false;
    for (uint32_t i = 0; i < m->proto_cnt; i++)
        if (!span_eq(m->protos[i].name, in->protocols.v[i].name) ||
            !span_eq(m->protos[i].metadata, in->protocols.v[i].metadata))
            return false;
    return true;
}

bool group_is_consumer(const struct group *g)
{
    return span_eq_str(g->protocol_type, "consumer");
}

/* Do these bytes (ConsumerProtocolSubscription) name the topic? What cannot be read may. */
static bool subscription_names(struct span metadata, struct span topic)
{
    struct wire_reader r;
    wire_reader_init(&r, metadata);
    (void)wire_get_i16(&r); /* version: the topics stand first in all of them */
    int32_t cnt = wire_get_i32(&r);
    for (int32_t i = 0; i < cnt && r.err == 0; i++)
        if (span_eq(wire_get_string(&r, (struct wire_var){.max = WIRE_STRING_MAX}), topic) &&
            r.err == 0)
            return true;
    return r.err != 0;
}

bool classic_subscribes(const struct group *g, struct span topic)
{
    if (!group_is_consumer(g))
        return false;
    list_for_each(n, &g->members)
    {
        const struct member *m = container_of(n, struct member, link);
        struct span name = g->protocol_name;
        if (span_is_null(name) && m->proto_cnt > 0)
            name = m->protos[0].name;
        if (subscription_names(member_metadata(m, name), topic))
            return true;
    }
    return false;
}
