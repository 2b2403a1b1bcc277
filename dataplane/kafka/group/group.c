/* group.c - the state machine of classic groups, after Kafka's GroupMetadataManager and
 * ClassicGroup. group_state.def has the picture; who makes each move:
 *
 *   EMPTY, STABLE, COMPLETING -> PREPARING   rebalance_prepare
 *   PREPARING -> COMPLETING or EMPTY         join_complete
 *   COMPLETING -> STABLE                     on_assignment_durable
 *   any -> DEAD                              group_remove
 *
 * A member whose connection is gone stays "awaiting" with no call to answer: it counts as joined,
 * and its session decides afterwards. */
#include "dataplane/kafka/group/group.h"
#include "dataplane/kafka/group/offsets.h"
#include "lib/base/log.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)
#define GROUP_VALUE_VERSION 3
#define GROUP_OPERATIONS ((1 << 3) | (1 << 6) | (1 << 8)) /* READ, DELETE, DESCRIBE */

const char *const group_state_text[GROUP_STATE_CNT] = {
#define GROUP_STATE(name, text) [GROUP_##name] = text,
#include "dataplane/kafka/group/group_state.def"
#undef GROUP_STATE
};

static void rebalance_prepare(struct group *g);
static void join_complete(struct group *g);
static void on_session(struct timer *t, uint64_t now_ns);
static void on_sync_phase(struct timer *t, uint64_t now_ns);

static const struct conf *conf_of(const struct group *g)
{
    return g->c->s->conf;
}

static void arm(struct group *g, struct timer *t, int64_t ms, timer_fn *fn)
{
    timer_arm(g->c->s->timers, t, g->c->s->now_ns + (uint64_t)(ms > 0 ? ms : 0) * MS_NS, fn);
}

static void set_state(struct group *g, enum group_state state)
{
    g->before = g->state;
    g->state = state;
    g->state_ms = g->c->s->wall_ms;
}

/* ------------------------------------------------------------------ answers */

static void join_answer_error(struct group_call *call, struct span member_id, int16_t error)
{
    struct join_group_response *out = &call->out.join;
    join_group_response_init(out);
    out->error_code = error;
    out->member_id = call_keep(call, member_id);
    call_reply(call);
}

static struct span member_metadata(const struct member *m, struct span protocol)
{
    for (uint32_t i = 0; i < m->proto_cnt; i++)
        if (span_eq(m->protos[i].name, protocol))
            return m->protos[i].metadata;
    return WIRE_EMPTY;
}

/* The generation's answer to a join. `leader` is who the member shall believe leads. */
static void join_answer(struct group *g, struct member *m, struct group_call *call,
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
            join_answer_error(call, m->id, KE_UNKNOWN);
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

static void sync_answer(struct group_call *call, const struct group *g, const struct member *m,
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

static void park(struct group_call *call, struct member *m)
{
    call->parked = m;
}

/* The parked join of m, which is answered now; NULL: nobody to tell. Ends the waiting. */
static struct group_call *take_join(struct member *m)
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

static struct group_call *take_sync(struct member *m)
{
    struct group_call *call = m->sync;
    m->awaiting_sync = false;
    m->sync = NULL;
    if (call != NULL)
        call->parked = NULL;
    return call;
}

static void fail_join(struct member *m, int16_t error)
{
    struct group_call *call = take_join(m);
    if (call != NULL)
        join_answer_error(call, m->id, error);
}

static void fail_sync(struct member *m, int16_t error)
{
    struct group_call *call = take_sync(m);
    if (call != NULL)
        sync_answer(call, m->g, m, error);
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

static struct proto *protos_keep(struct coord *c, const struct join_group_request_protocol *in,
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

static void member_free(struct member *m)
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

static struct member *member_new(struct group *g, struct span id, struct span instance_id,
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

static void member_link(struct member *m)
{
    struct group *g = m->g;
    list_add_tail(&g->members, &m->link);
    g->member_cnt++;
    if (g->leader == NULL)
        g->leader = m;
}

static struct member *member_find(const struct group *g, struct span id)
{
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (span_eq(m->id, id))
            return m;
    }
    return NULL;
}

static struct member *static_find(const struct group *g, struct span instance_id)
{
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        if (!span_is_null(m->instance_id) && span_eq(m->instance_id, instance_id))
            return m;
    }
    return NULL;
}

/* Out of the group; the caller has answered it and moves the group's state. */
static void member_remove(struct member *m, int16_t error)
{
    struct group *g = m->g;
    fail_join(m, error);
    fail_sync(m, error);
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
        struct member *st = static_find(g, instance_id);
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
    arm(m->g, &m->session, m->session_timeout_ms, on_session);
}

static struct pending_member *pending_find(const struct group *g, struct span id)
{
    list_for_each(n, &g->pending)
    {
        struct pending_member *pm = container_of(n, struct pending_member, link);
        if (span_eq(pm->id, id))
            return pm;
    }
    return NULL;
}

static void pending_free(struct pending_member *pm)
{
    struct group *g = pm->g;
    timer_cancel(g->c->s->timers, &pm->timer);
    list_del(&pm->link);
    g->pending_cnt--;
    coord_drop(g->c, &pm->id);
    coord_free(g->c, pm, sizeof(*pm));
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

/* May one who speaks these join? */
static bool group_supports(const struct group *g, const struct join_group_request *in)
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

/* Each member votes for the first of its protocols that all support. There is one: joins that
 * would leave none are refused. */
static struct span protocol_vote(const struct group *g)
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

static bool member_matches(const struct member *m, const struct join_group_request *in)
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

bool group_subscribes(const struct group *g, struct span topic)
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

/* ------------------------------------------------------------------ records */

struct span group_key(struct arena *a, struct span id)
{
    struct group_metadata_key key = {.group = id};
    size_t len = 2 + group_metadata_key_size(&key, 0);
    uint8_t *p = arena_alloc(a, len);
    if (p == NULL)
        return SPAN_NULL;
    struct wire_writer w;
    wire_writer_init(&w, p, len);
    wire_put_i16(&w, GROUP_METADATA_KEY_KEY);
    group_metadata_key_write(&w, 0, &key);
    return span_of(p, (uint32_t)len);
}

/* Write the group as it is, with the assignments to come if `next`. done as in coord.h. Negative:
 * out of memory, nothing happens. */
static int group_write(struct group *g, bool next, struct member *about,
                       void (*done)(struct coord_write *w, int16_t error))
{
    struct arena a;
    struct group_metadata_value v;
    int rc = -ENOMEM;
    arena_init(&a, COORD_CALL_BYTES_MAX);
    group_metadata_value_init(&v);
    v.protocol_type = g->protocol_type;
    v.generation = g->generation;
    v.protocol = g->protocol_name;
    v.leader = g->leader != NULL ? g->leader->id : SPAN_NULL;
    v.current_state_timestamp = g->state_ms;
    v.members.v = arena_array(&a, g->member_cnt, sizeof(*v.members.v));
    struct coord_write *w = coord_write_new(g->p, g);
    if (w == NULL || v.members.v == NULL)
        goto undo;
    list_for_each(n, &g->members)
    {
        const struct member *m = container_of(n, struct member, link);
        struct group_metadata_value_member *o = &v.members.v[v.members.cnt++];
        group_metadata_value_member_init(o);
        o->member_id = m->id;
        o->group_instance_id = m->instance_id;
        o->client_id = m->client_id;
        o->client_host = m->client_host;
        o->rebalance_timeout = m->rebalance_timeout_ms;
        o->session_timeout = m->session_timeout_ms;
        o->subscription = member_metadata(m, g->protocol_name);
        o->assignment = next ? m->next_assignment : m->assignment;
    }
    size_t len = 2 + group_metadata_value_size(&v, GROUP_VALUE_VERSION);
    uint8_t *p = len <= COORD_CALL_BYTES_MAX ? arena_alloc(&a, len) : NULL;
    struct span key = group_key(&a, g->id);
    if (p == NULL || span_is_null(key))
        goto undo;
    struct wire_writer wr;
    wire_writer_init(&wr, p, len);
    wire_put_i16(&wr, GROUP_VALUE_VERSION);
    group_metadata_value_write(&wr, GROUP_VALUE_VERSION, &v);
    coord_write_add(w, key, span_of(p, (uint32_t)len));
    if (w->rc < 0) {
        rc = w->rc;
        goto undo;
    }
    w->generation = g->generation;
    w->member = about;
    w->done = done;
    coord_write_submit(w);
    arena_fini(&a);
    return 0;
undo:
    if (w != NULL)
        coord_write_drop(w);
    arena_fini(&a);
    return rc;
}

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
    int32_t delay = (int32_t)conf_of(g)->group_initial_rebalance_delay_ms;
    int32_t spent = g->delay_ms;
    g->delay_ms = delay < g->remaining_ms ? delay : g->remaining_ms;
    g->remaining_ms = g->remaining_ms > spent ? g->remaining_ms - spent : 0;
    arm(g, &g->timer, g->delay_ms, on_initial_delay);
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
        set_state(g, GROUP_EMPTY);
        if (group_write(g, false, NULL, on_empty_durable) < 0)
            LOG_WARN("group %.*s: no memory to note that it is empty", (int)g->id.len,
                     (const char *)g->id.p);
        return;
    }
    (void)protocol_set(g, protocol_vote(g)); /* without memory the old name stays */
    set_state(g, GROUP_COMPLETING);
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
        arm(g, &g->timer, rebalance_timeout(g), on_join_phase);
        return;
    }
    generation_begin(g);
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        struct group_call *call = take_join(m);
        m->is_new = false;
        m->pending_sync = true;
        coord_drop(g->c, &m->next_assignment);
        group_touch(m);
        if (call != NULL)
            join_answer(g, m, call, m == g->leader, g->leader->id, false);
    }
    if (g->state == GROUP_COMPLETING)
        arm(g, &g->timer, rebalance_timeout(g), on_sync_phase);
}

/* Somebody joined, left or was told to wait: is the join phase over? */
static void join_check(struct group *g)
{
    if (g->state == GROUP_PREPARING && g->before != GROUP_EMPTY && all_joined(g))
        join_complete(g);
}

static void rebalance_prepare(struct group *g)
{
    g->writing = false; /* what is under way belongs to a generation that ends */
    if (g->state == GROUP_COMPLETING)
        list_for_each(n, &g->members)
        {
            struct member *m = container_of(n, struct member, link);
            coord_drop(g->c, &m->assignment);
            coord_drop(g->c, &m->next_assignment);
            bool awaited = m->awaiting_sync;
            fail_sync(m, KE_REBALANCE);
            if (awaited)
                group_touch(m);
        }
    list_for_each(n, &g->members) container_of(n, struct member, link)->pending_sync = false;
    bool initial = g->state == GROUP_EMPTY;
    set_state(g, GROUP_PREPARING);
    if (initial) {
        int32_t delay = (int32_t)conf_of(g)->group_initial_rebalance_delay_ms;
        int64_t rest = rebalance_timeout(g) - delay;
        g->member_added = false;
        g->delay_ms = delay;
        g->remaining_ms = rest > 0 ? (int32_t)rest : 0;
        arm(g, &g->timer, delay, on_initial_delay);
    } else if (all_joined(g)) {
        join_complete(g);
    } else {
        arm(g, &g->timer, rebalance_timeout(g), on_join_phase);
    }
}

static void rebalance_or_check(struct group *g)
{
    if (g->state == GROUP_EMPTY || g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        rebalance_prepare(g);
    else
        join_check(g);
}

/* Members left. */
static void after_removal(struct group *g)
{
    if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        rebalance_prepare(g);
    else
        join_check(g);
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
        rebalance_prepare(g);
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

static void on_session(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct member *m = container_of(t, struct member, session);
    struct group *g = m->g;
    if (g->c->draining)
        return;
    if (!m->is_new && (m->awaiting_join || m->awaiting_sync))
        return; /* alive; armed again when answered */
    LOG_INFO("group %.*s: member %.*s has not been heard of, removed", (int)g->id.len,
             (const char *)g->id.p, (int)m->id.len, (const char *)m->id.p);
    member_remove(m, KE_UNKNOWN_MEMBER);
    after_removal(g);
}

static void on_pending(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct pending_member *pm = container_of(t, struct pending_member, timer);
    struct group *g = pm->g;
    if (g->c->draining)
        return;
    pending_free(pm);
    join_check(g);
}

/* ------------------------------------------------------------------ JoinGroup */

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
    uint32_t max = conf_of(g)->group_max_size;
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
    protos_free(c, m->protos, m->proto_cnt);
    m->protos = v;
    m->proto_cnt = in->protocols.cnt;
    m->session_timeout_ms = in->session_timeout_ms;
    m->rebalance_timeout_ms =
        call->version == 0 ? in->session_timeout_ms : in->rebalance_timeout_ms;
    struct group_call *old = take_join(m); /* a second join of the same member ends the first */
    if (old != NULL)
        join_answer_error(old, m->id, KE_REBALANCE);
    m->awaiting_join = true;
    m->g->awaiting_join_cnt++;
    m->join = call;
    park(call, m);
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
        join_answer_error(call, member_id, KE_GROUP_FULL);
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
    arm(g, &m->session, COORD_NEW_MEMBER_MS, on_session);
    rebalance_or_check(g);
}

static void update_member(struct member *m, struct group_call *call)
{
    if (!member_update(m, call)) {
        join_answer_error(call, m->id, KE_NOT_AVAILABLE);
        return;
    }
    rebalance_or_check(m->g);
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
        fail_join(m, error);
        coord_reload(g->p);
        return;
    }
    if (g->state != GROUP_STABLE || g->generation != w->generation || !m->awaiting_join)
        return; /* a rebalance has begun: its end answers */
    struct group_call *call = take_join(m);
    group_touch(m);
    m->is_new = false;
    if (call == NULL)
        return;
    bool skips = call->version >= 9;
    bool leads = g->leader == m;
    /* Before version 9 a leader that came back must not believe it leads: it would hand in an
     * assignment that nobody waits for. */
    struct span leader = skips || !leads ? g->leader->id : WIRE_EMPTY;
    join_answer(g, m, call, skips && leads, leader, skips && leads);
}

/* A static member came back under a new id; whoever still uses the old one is fenced. */
static void replace_static(struct member *m, struct group_call *call, struct span new_id)
{
    struct group *g = m->g;
    const struct join_group_request *in = call->in;
    struct span id;
    if (!coord_keep(g->c, new_id, &id)) {
        join_answer_error(call, new_id, KE_NOT_AVAILABLE);
        return;
    }
    fail_join(m, KE_FENCED_INSTANCE);
    fail_sync(m, KE_FENCED_INSTANCE);
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
        join_answer_error(call, new_id, KE_NOT_AVAILABLE);
        return;
    }
    group_touch(m);
    switch (g->state) {
    case GROUP_STABLE:
        same = same && span_eq(protocol_vote(g), g->protocol_name);
        if (!same || group_write(g, false, m, on_static_durable) < 0)
            rebalance_prepare(g);
        break;
    case GROUP_COMPLETING:
        rebalance_prepare(g);
        break;
    default:
        join_check(g);
        break;
    }
}

static void tell_member_id(struct group *g, struct group_call *call, struct span member_id)
{
    const struct join_group_request *in = call->in;
    struct pending_member *pm = coord_alloc(g->c, sizeof(*pm));
    if (pm == NULL || g->pending_cnt >= conf_of(g)->group_max_size ||
        !coord_keep(g->c, member_id, &pm->id)) {
        coord_free(g->c, pm, sizeof(*pm));
        join_answer_error(call, WIRE_EMPTY, KE_GROUP_FULL);
        return;
    }
    pm->g = g;
    list_add_tail(&g->pending, &pm->link);
    g->pending_cnt++;
    arm(g, &pm->timer, in->session_timeout_ms, on_pending);
    join_answer_error(call, member_id, KE_MEMBER_ID_REQUIRED);
}

static void join_new(struct group *g, struct group_call *call)
{
    const struct join_group_request *in = call->in;
    if (!group_supports(g, in)) {
        join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    struct span id = member_id_make(call, in->group_instance_id);
    struct member *known =
        span_is_null(in->group_instance_id) ? NULL : static_find(g, in->group_instance_id);
    if (span_is_null(id))
        join_answer_error(call, in->member_id, KE_UNKNOWN);
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
    if (!group_supports(g, in)) {
        join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    if (pending_find(g, in->member_id) != NULL) {
        if (span_is_null(in->group_instance_id))
            add_member(g, call, in->member_id);
        else
            join_answer_error(call, in->member_id, KE_UNKNOWN_MEMBER);
        return;
    }
    int16_t error = group_check_member(g, in->member_id, in->group_instance_id, &m);
    if (error != 0) {
        join_answer_error(call, in->member_id, error);
        return;
    }
    switch (g->state) {
    case GROUP_PREPARING:
        update_member(m, call);
        break;
    case GROUP_COMPLETING: /* the first answer may have been lost */
        if (member_matches(m, in))
            join_answer(g, m, call, m == g->leader, g->leader->id, false);
        else
            update_member(m, call);
        break;
    case GROUP_STABLE: /* the leader asks for a rebalance by joining again */
        if (m == g->leader || !member_matches(m, in))
            update_member(m, call);
        else
            join_answer(g, m, call, false, g->leader->id, false);
        break;
    default:
        join_answer_error(call, in->member_id, KE_UNKNOWN_MEMBER);
        break;
    }
}

void group_on_join(struct cpart *p, struct group_call *call)
{
    const struct join_group_request *in = call->in;
    const struct conf *conf = p->c->s->conf;
    if (in->group_id.len == 0) {
        join_answer_error(call, in->member_id, KE_INVALID_GROUP_ID);
        return;
    }
    if (in->session_timeout_ms < (int32_t)conf->group_min_session_timeout_ms ||
        in->session_timeout_ms > (int32_t)conf->group_max_session_timeout_ms) {
        join_answer_error(call, in->member_id, KE_INVALID_SESSION_TIMEOUT);
        return;
    }
    if (in->protocol_type.len == 0 || in->protocols.cnt == 0) {
        join_answer_error(call, in->member_id, KE_INCONSISTENT_PROTOCOL);
        return;
    }
    bool is_new = in->member_id.len == 0;
    struct group *g = is_new ? coord_get(p, in->group_id) : coord_find(p->c, in->group_id);
    if (g == NULL) {
        join_answer_error(call, in->member_id, is_new ? KE_NOT_AVAILABLE : KE_UNKNOWN_MEMBER);
        return;
    }
    struct member *m = is_new ? NULL : member_find(g, in->member_id);
    if (!may_join(g, m)) {
        if (m != NULL) {
            member_remove(m, KE_GROUP_FULL);
            after_removal(g);
        }
        join_answer_error(call, WIRE_EMPTY, KE_GROUP_FULL);
        return;
    }
    if (is_new)
        join_new(g, call);
    else
        join_known(g, call);
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
            fail_sync(m, error);
            if (awaited)
                group_touch(m);
        }
        rebalance_prepare(g);
        return;
    }
    set_state(g, GROUP_STABLE);
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
        struct group_call *call = take_sync(m);
        group_touch(m);
        if (call != NULL)
            sync_answer(call, g, m, 0);
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
        rc = group_write(g, true, NULL, on_assignment_durable);
    if (rc == 0)
        return;
    LOG_WARN("group %.*s: its assignment cannot be kept: %s", (int)g->id.len, (const char *)g->id.p,
             err_text(rc));
    g->writing = false;
    list_for_each(n, &g->members) fail_sync(container_of(n, struct member, link), KE_UNKNOWN);
    rebalance_prepare(g);
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
        sync_answer(call, g, m, error);
        return;
    }
    sync_seen(m);
    if (g->state == GROUP_STABLE) {
        group_touch(m);
        sync_answer(call, g, m, 0);
        return;
    }
    struct group_call *old = take_sync(m);
    if (old != NULL)
        sync_answer(old, g, m, KE_REBALANCE);
    m->awaiting_sync = true;
    m->sync = call;
    park(call, m);
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
        m = span_is_null(instance_id) ? NULL : static_find(g, instance_id);
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
        after_removal(g);
    else if (changed)
        join_check(g);
    call_reply(call);
}

/* ------------------------------------------------------------------ administration */

void group_on_describe(struct cpart *p, struct group_call *call)
{
    struct describe_groups_response_group *out = &call->out.describe;
    const struct group *g = coord_find(p->c, call->group);
    describe_groups_response_group_init(out);
    out->group_id = call->group;
    if (call->read_all)
        out->authorized_operations = GROUP_OPERATIONS;
    if (g == NULL) {
        out->group_state = span_str(group_state_text[GROUP_DEAD]);
        if (call->version >= 6) {
            static const char tail[] = " not found.";
            static const char head[] = "Group ";
            uint32_t len = (uint32_t)(sizeof(head) - 1 + call->group.len + sizeof(tail) - 1);
            char *text = arena_alloc(&call->arena, len);
            out->error_code = KE_GROUP_NOT_FOUND;
            if (text != NULL) {
                memcpy(text, head, sizeof(head) - 1);
                if (call->group.len > 0)
                    memcpy(text + sizeof(head) - 1, call->group.p, call->group.len);
                memcpy(text + sizeof(head) - 1 + call->group.len, tail, sizeof(tail) - 1);
                out->error_message = span_of(text, len);
            }
        }
        call_reply(call);
        return;
    }
    bool stable = g->state == GROUP_STABLE;
    out->group_state = span_str(group_state_text[g->state]);
    out->protocol_type = call_keep(call, g->protocol_type);
    if (stable)
        out->protocol_data = call_keep(call, g->protocol_name);
    out->members.v = arena_array(&call->arena, g->member_cnt, sizeof(*out->members.v));
    if (out->members.v == NULL) {
        call_fail(call, KE_UNKNOWN);
        return;
    }
    list_for_each(n, &g->members)
    {
        const struct member *m = container_of(n, struct member, link);
        struct describe_groups_response_member *o = &out->members.v[out->members.cnt++];
        describe_groups_response_member_init(o);
        o->member_id = call_keep(call, m->id);
        o->group_instance_id = call_keep_nullable(call, m->instance_id);
        o->client_id = call_keep(call, m->client_id);
        o->client_host = call_keep(call, m->client_host);
        o->member_metadata =
            stable ? call_keep(call, member_metadata(m, g->protocol_name)) : WIRE_EMPTY;
        o->member_assignment = stable ? call_keep(call, m->assignment) : WIRE_EMPTY;
    }
    call_reply(call);
}

static bool ascii_eq_nocase(struct span s, const char *text)
{
    for (uint32_t i = 0; i < s.len; i++) {
        char a = (char)s.p[i], b = text[i];
        if (b == '\0' || (a | 0x20) != (b | 0x20))
            return false;
    }
    return text[s.len] == '\0';
}

static bool filter_has(struct wire_spans filter, const char *text)
{
    for (uint32_t i = 0; i < filter.cnt; i++)
        if (ascii_eq_nocase(filter.v[i], text))
            return true;
    return filter.cnt == 0;
}

void group_on_list(struct coord *c, struct group_call *call)
{
    const struct list_groups_request *in = call->in;
    struct list_groups_response *out = &call->out.list;
    list_groups_response_init(out);
    out->groups.v = arena_array(&call->arena, c->group_cnt, sizeof(*out->groups.v));
    if (out->groups.v == NULL) {
        call_fail(call, KE_UNKNOWN);
        return;
    }
    for (uint32_t i = 0; i < c->part_cnt && filter_has(in->types_filter, "classic"); i++)
        list_for_each(n, &c->parts[i]->groups)
        {
            const struct group *g = container_of(n, struct group, part_link);
            if (!filter_has(in->states_filter, group_state_text[g->state]))
                continue;
            struct list_groups_response_group *o = &out->groups.v[out->groups.cnt++];
            list_groups_response_group_init(o);
            o->group_id = call_keep(call, g->id);
            o->protocol_type = call_keep(call, g->protocol_type);
            o->group_state = span_str(group_state_text[g->state]);
            o->group_type = span_str("classic");
        }
    call_reply(call);
}

static void on_deleted(struct coord_write *w, int16_t error)
{
    call_fail(w->call, error);
    if (error != 0)
        coord_reload(w->p);
}

void group_on_delete(struct cpart *p, struct group_call *call)
{
    struct group *g = coord_find(p->c, call->group);
    if (g == NULL || g->state != GROUP_EMPTY || g->pending_cnt > 0) {
        call_fail(call, g == NULL ? KE_GROUP_NOT_FOUND : KE_NON_EMPTY_GROUP);
        return;
    }
    if (g->refs > 1) { /* a commit is on its way into the log: it must not outlive the group */
        call_fail(call, KE_NOT_AVAILABLE);
        return;
    }
    struct coord_write *w = coord_write_new(p, g);
    struct span key = group_key(&call->arena, g->id);
    if (w == NULL || span_is_null(key)) {
        if (w != NULL)
            coord_write_drop(w);
        call_fail(call, KE_UNKNOWN);
        return;
    }
    offsets_write_deleted(g, w, &call->arena);
    coord_write_add(w, key, SPAN_NULL);
    if (w->rc < 0) {
        coord_write_drop(w);
        call_fail(call, KE_UNKNOWN);
        return;
    }
    w->call = call;
    w->done = on_deleted;
    group_remove(g, KE_UNKNOWN_MEMBER);
    coord_write_submit(w);
}

/* ------------------------------------------------------------------ life */

struct group *group_new(struct cpart *p, struct span id, uint64_t hash)
{
    struct group *g = coord_alloc(p->c, sizeof(*g));
    if (g == NULL)
        return NULL;
    if (!coord_keep(p->c, id, &g->id)) {
        coord_free(p->c, g, sizeof(*g));
        return NULL;
    }
    g->c = p->c;
    g->p = p;
    g->hash = hash;
    g->refs = 1;
    g->state_ms = p->c->s->wall_ms;
    list_init(&g->members);
    list_init(&g->pending);
    return g;
}

void group_put(struct group *g)
{
    ASSERT(g->refs > 0);
    if (--g->refs > 0)
        return;
    coord_drop(g->c, &g->id);
    coord_drop(g->c, &g->protocol_type);
    coord_drop(g->c, &g->protocol_name);
    coord_free(g->c, g, sizeof(*g));
}

void group_fail_parked(struct group *g, int16_t error)
{
    list_for_each(n, &g->members)
    {
        struct member *m = container_of(n, struct member, link);
        fail_join(m, error);
        fail_sync(m, error);
    }
}

static void members_clear(struct group *g, int16_t error)
{
    while (!list_is_empty(&g->members))
        member_remove(container_of(g->members.next, struct member, link), error);
    while (!list_is_empty(&g->pending))
        pending_free(container_of(g->pending.next, struct pending_member, link));
}

void group_remove(struct group *g, int16_t error)
{
    timer_cancel(g->c->s->timers, &g->timer);
    members_clear(g, error);
    offsets_clear(g);
    g->state = GROUP_DEAD;
    list_del(&g->bucket);
    list_del(&g->part_link);
    g->c->group_cnt--;
    group_put(g);
}

bool group_is_unused(const struct group *g)
{
    return g->state == GROUP_EMPTY && g->member_cnt == 0 && g->pending_cnt == 0 &&
           g->offset_cnt == 0;
}

/* ------------------------------------------------------------------ loading */

static int replay_member(struct group *g, const struct group_metadata_value *v,
                         const struct group_metadata_value_member *in)
{
    struct member *m =
        member_new(g, in->member_id, in->group_instance_id, in->client_id, in->client_host);
    if (m == NULL)
        return -ENOMEM;
    struct join_group_request_protocol proto = {
        .name = span_is_null(v->protocol) ? WIRE_EMPTY : v->protocol, .metadata = in->subscription};
    m->protos = protos_keep(g->c, &proto, 1);
    m->proto_cnt = m->protos != NULL ? 1 : 0;
    m->session_timeout_ms = in->session_timeout;
    m->rebalance_timeout_ms =
        in->rebalance_timeout == -1 ? in->session_timeout : in->rebalance_timeout;
    if (m->protos == NULL || !coord_keep(g->c, in->assignment, &m->assignment)) {
        member_free(m);
        return -ENOMEM;
    }
    member_link(m);
    if (!span_is_null(v->leader) && span_eq(v->leader, m->id))
        g->leader = m;
    return 0;
}

int group_replay(struct cpart *p, struct span id, const struct group_metadata_value *v)
{
    struct group *g = v != NULL ? coord_get(p, id) : coord_find(p->c, id);
    if (g == NULL)
        return v != NULL ? -ENOMEM : 0;
    members_clear(g, KE_LOADING);
    coord_drop(g->c, &g->protocol_type);
    coord_drop(g->c, &g->protocol_name);
    g->generation = 0;
    g->state = GROUP_EMPTY;
    if (v == NULL) {
        if (g->offset_cnt == 0)
            group_remove(g, KE_LOADING);
        return 0;
    }
    g->generation = v->generation;
    g->state_ms = v->current_state_timestamp >= 0 ? v->current_state_timestamp : p->c->s->wall_ms;
    if (!coord_keep(g->c, v->protocol_type, &g->protocol_type) ||
        !coord_keep(g->c, v->protocol, &g->protocol_name))
        return -ENOMEM;
    int rc = 0;
    for (uint32_t i = 0; i < v->members.cnt && rc == 0; i++)
        rc = replay_member(g, v, &v->members.v[i]);
    g->state = g->member_cnt > 0 ? GROUP_STABLE : GROUP_EMPTY;
    return rc;
}

void group_loaded(struct group *g)
{
    list_for_each(n, &g->members) group_touch(container_of(n, struct member, link));
    if (group_is_unused(g) && span_is_null(g->protocol_type) && g->generation == 0)
        group_remove(g, KE_UNKNOWN_MEMBER); /* all its offsets were deleted again */
}
