/* classic_record.c - the record of a classic group: writing and reading it. See classic.h. */
#include "dataplane/kafka/group/classic.h"
#include "dataplane/kafka/group/consumer.h"

#define GROUP_VALUE_VERSION 3

/* ------------------------------------------------------------------ records */

struct span classic_key(struct arena *a, struct span id)
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

int classic_write(struct group *g, bool next, struct member *about,
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
    struct span key = classic_key(&a, g->id);
    if (p == NULL || span_is_null(key))
        goto undo;
    struct wire_writer wr;
    wire_writer_init(&wr, p, len);
    wire_put_i16(&wr, GROUP_VALUE_VERSION);
    group_metadata_value_write(&wr, GROUP_VALUE_VERSION, &v);
    coord_write_add(w, key, span_of(p, (uint32_t)len));
    if (w->w.rc < 0) {
        rc = w->w.rc;
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
    if (g->consumer != NULL && v == NULL)
        return 0; /* what it was before */
    consumer_free(g);
    classic_clear(g, KE_LOADING);
    coord_drop(g->c, &g->protocol_type);
    coord_drop(g->c, &g->protocol_name);
    g->generation = 0;
    group_load_state(g, GROUP_EMPTY);
    if (v == NULL) {
        if (g->offset_cnt == 0 && g->refs == 1) /* else offsets of an open transaction hold it */
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
    group_load_state(g, g->member_cnt > 0 ? GROUP_STABLE : GROUP_EMPTY);
    return rc;
}

void group_loaded(struct group *g)
{
    if (g->consumer != NULL) {
        consumer_loaded(g);
        return;
    }
    list_for_each(n, &g->members) group_touch(container_of(n, struct member, link));
    bool held = g->refs > 1; /* offsets of an open transaction */
    if (!held && group_is_unused(g) && span_is_null(g->protocol_type) && g->generation == 0)
        group_remove(g, KE_UNKNOWN_MEMBER); /* all its offsets were deleted again */
}
