/* group.c - what groups have in common: life, and their administration. See group.h. */
#include "dataplane/kafka/group/classic.h"
#include "dataplane/kafka/group/consumer.h"
#include "dataplane/kafka/group/offsets.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)

const char *const group_state_text[GROUP_STATE_CNT] = {
#define GROUP_STATE(name, text) [GROUP_##name] = text,
#include "dataplane/kafka/group/group_state.def"
#undef GROUP_STATE
};

/* ------------------------------------------------------------------ administration */

struct span group_text(struct group_call *call, const char *tail)
{
    static const char head[] = "Group ";
    size_t head_len = sizeof(head) - 1, id_len = call->group.len, tail_len = strlen(tail);
    char *text = arena_alloc(&call->arena, head_len + id_len + tail_len);
    if (text == NULL)
        return WIRE_EMPTY;
    memcpy(text, head, head_len);
    if (id_len > 0)
        memcpy(text + head_len, call->group.p, id_len);
    memcpy(text + head_len + id_len, tail, tail_len);
    return span_of(text, (uint32_t)(head_len + id_len + tail_len));
}

void group_on_describe(struct cpart *p, struct group_call *call)
{
    struct describe_groups_response_group *out = &call->out.describe;
    const struct group *g = coord_find(p->c, call->group);
    describe_groups_response_group_init(out);
    out->group_id = call->group;
    if (call->read_all)
        out->authorized_operations = GROUP_OPERATIONS;
    if (g == NULL || g->consumer != NULL) {
        out->group_state = span_str(group_state_text[GROUP_DEAD]);
        if (call->version >= 6) {
            out->error_code = KE_GROUP_NOT_FOUND;
            out->error_message =
                group_text(call, g == NULL ? " not found." : " is not a classic group.");
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
    out->groups.v = arena_array(&call->arena, c->groups.cnt, sizeof(*out->groups.v));
    if (out->groups.v == NULL) {
        call_fail(call, KE_UNKNOWN);
        return;
    }
    bool classic = filter_has(in->types_filter, "classic");
    bool consumer = filter_has(in->types_filter, "consumer");
    for (uint32_t i = 0; i < c->logs.cnt; i++)
        list_for_each(n, &coord_part(c, i)->groups)
        {
            const struct group *g = container_of(n, struct group, part_link);
            if (!(g->consumer != NULL ? consumer : classic) ||
                !filter_has(in->states_filter, group_state_text[g->state]))
                continue;
            struct list_groups_response_group *o = &out->groups.v[out->groups.cnt++];
            list_groups_response_group_init(o);
            o->group_id = call_keep(call, g->id);
            o->protocol_type = call_keep(call, g->protocol_type);
            o->group_state = span_str(group_state_text[g->state]);
            o->group_type = span_str(g->consumer != NULL ? "consumer" : "classic");
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
    if (w == NULL) {
        call_fail(call, KE_UNKNOWN);
        return;
    }
    offsets_write_deleted(g, w, &call->arena);
    group_write_deleted(g, w, &call->arena);
    if (w->w.rc < 0) {
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

const struct conf *group_conf(const struct group *g)
{
    return g->c->s->conf;
}

/* The first of: the group's own, the file's. */
static uint32_t group_number(const struct group *g, const char *key, uint32_t of_file)
{
    const struct meta_image *img = g->c->s->image;
    const char *text = img != NULL ? image_group_config(img, g->id, key) : NULL;
    return text != NULL ? (uint32_t)strtoul(text, NULL, 10) : of_file; /* sluiced checked it */
}

uint32_t group_session_timeout_ms(const struct group *g)
{
    return group_number(g, "consumer.session.timeout.ms",
                        group_conf(g)->group_consumer_session_timeout_ms);
}

uint32_t group_heartbeat_interval_ms(const struct group *g)
{
    return group_number(g, "consumer.heartbeat.interval.ms",
                        group_conf(g)->group_consumer_heartbeat_interval_ms);
}

void group_arm(struct group *g, struct timer *t, int64_t ms, timer_fn *fn)
{
    timer_arm(g->c->s->timers, t, g->c->s->now_ns + (uint64_t)(ms > 0 ? ms : 0) * MS_NS, fn);
}

void group_load_state(struct group *g, enum group_state state)
{
    g->c->states[g->state]--;
    g->c->states[state]++;
    g->state = state;
}

void group_set_state(struct group *g, enum group_state state)
{
    g->before = g->state;
    group_load_state(g, state);
    g->state_ms = g->c->s->wall_ms;
}

struct group *group_new(struct cpart *p, struct span id)
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
        member_fail_join(m, error);
        member_fail_sync(m, error);
    }
}

void group_remove(struct group *g, int16_t error)
{
    timer_cancel(g->c->s->timers, &g->timer);
    classic_clear(g, error);
    consumer_free(g);
    offsets_clear(g);
    g->c->states[g->state]--;
    g->state = GROUP_DEAD; /* and in no table */
    id_table_del(&g->c->groups, &g->node);
    list_del(&g->part_link);
    group_put(g);
}

bool group_has_record(const struct group *g)
{
    return g->consumer != NULL || g->protocol_type.len > 0 || g->generation > 0;
}

void group_write_deleted(const struct group *g, struct coord_write *w, struct arena *a)
{
    if (g->consumer != NULL) {
        consumer_write_deleted(g, w, a);
        return;
    }
    struct span key = classic_key(a, g->id);
    if (span_is_null(key))
        w->w.rc = -ENOMEM;
    else
        coord_write_add(w, key, SPAN_NULL);
}

bool group_subscribes(const struct group *g, struct span topic)
{
    return g->consumer != NULL ? consumer_subscribes(g, topic) : classic_subscribes(g, topic);
}

bool group_is_unused(const struct group *g)
{
    return g->state == GROUP_EMPTY && g->member_cnt == 0 && g->pending_cnt == 0 &&
           g->offset_cnt == 0;
}
