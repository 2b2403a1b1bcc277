/* consumer_admin.c - what others ask of a consumer group: its description, whether somebody may
 * commit or fetch its offsets, removal of members by an administrator. */
#include "dataplane/kafka/group/consumer_priv.h"
#include "dataplane/kafka/group/offsets.h"
#include "lib/meta/image.h"

/* ------------------------------------------------------------------- ConsumerGroupDescribe */

/* By topic, with names. A topic that is gone is left out, as clients could not name it. */
static bool describe_set(struct group_call *call, const struct tpset *s,
                         struct consumer_group_describe_response_assignment *to)
{
    const struct meta_image *img = call->coord->s->image;
    to->topic_partitions.v = arena_array(&call->arena, s->cnt, sizeof(*to->topic_partitions.v));
    if (to->topic_partitions.v == NULL)
        return false;
    for (uint32_t i = 0, run; i < s->cnt; i += run) {
        run = tpset_run(s, i);
        const struct meta_topic *t = image_topic_by_id(img, &s->v[i].topic);
        if (t == NULL)
            continue;
        struct consumer_group_describe_response_topic_partitions *o =
            &to->topic_partitions.v[to->topic_partitions.cnt++];
        o->topic_id = t->id;
        o->topic_name = call_keep(call, span_str(t->name));
        o->partitions.v = arena_array(&call->arena, run, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            return false;
        for (uint32_t k = 0; k < run; k++)
            o->partitions.v[o->partitions.cnt++] = s->v[i + k].partition;
    }
    return true;
}

static bool describe_member(struct group_call *call, const struct cmember *m,
                            struct consumer_group_describe_response_member *o)
{
    consumer_group_describe_response_member_init(o);
    o->member_id = call_keep(call, m->id);
    o->instance_id = call_keep_nullable(call, m->instance_id);
    o->rack_id = call_keep_nullable(call, m->rack_id);
    o->member_epoch = m->epoch;
    o->client_id = call_keep(call, m->client_id);
    o->client_host = call_keep(call, m->client_host);
    o->subscribed_topic_regex = call_keep_nullable(call, m->regex);
    o->member_type = 1; /* of the consumer protocol */
    o->subscribed_topic_names.v = arena_array(&call->arena, m->names.cnt, sizeof(struct span));
    if (o->subscribed_topic_names.v == NULL)
        return false;
    for (uint32_t i = 0; i < m->names.cnt; i++)
        o->subscribed_topic_names.v[o->subscribed_topic_names.cnt++] =
            call_keep(call, m->names.v[i]);
    return describe_set(call, &m->assigned, &o->assignment) &&
           describe_set(call, &m->target, &o->target_assignment);
}

void consumer_on_describe(struct cpart *p, struct group_call *call)
{
    struct consumer_group_describe_response_group *out = &call->out.consumer_describe;
    const struct group *g = coord_find(p->c, call->group);
    consumer_group_describe_response_group_init(out);
    out->group_id = call->group;
    out->group_state = WIRE_EMPTY;
    if (g == NULL || g->consumer == NULL) {
        out->error_code = KE_GROUP_NOT_FOUND;
        out->error_message =
            group_text(call, g == NULL ? " not found." : " is not a consumer group.");
        call_reply(call);
        return;
    }
    const struct cgroup *cg = g->consumer;
    if (call->read_all)
        out->authorized_operations = GROUP_OPERATIONS;
    out->group_state = span_str(group_state_text[g->state]);
    out->group_epoch = cg->epoch;
    out->assignment_epoch = cg->target_epoch;
    out->assignor_name = call_keep(call, consumer_assignor(g));
    out->members.v = arena_array(&call->arena, cg->member_cnt, sizeof(*out->members.v));
    bool ok = out->members.v != NULL;
    list_for_each(n, &cg->members)
    {
        ok = ok && describe_member(call, container_of(n, struct cmember, link),
                                   &out->members.v[out->members.cnt++]);
    }
    if (!ok)
        call_fail(call, KE_UNKNOWN);
    else if (cg->last_write != NULL) { /* nothing is told that a crash could take back */
        call->next = cg->last_write->call;
        cg->last_write->call = call;
    } else {
        call_reply(call);
    }
}

/* ------------------------------------------------------------------- offsets */

int16_t consumer_check_commit(const struct group *g, struct commit_who *who)
{
    const struct cgroup *cg = g->consumer;
    if (who->generation < 0 && cg->member_cnt == 0)
        return 0; /* an administrator, or a consumer that assigns its partitions itself */
    if (who->is_txn && who->generation == -1 && who->member_id.len == 0 &&
        span_is_null(who->instance_id))
        return 0; /* a producer that says nothing of the group */
    const struct cmember *m = cmember_find(g, who->member_id);
    if (m == NULL)
        return KE_UNKNOWN_MEMBER;
    if (!who->is_txn && who->version < 9)
        return KE_UNSUPPORTED_VERSION; /* it would not understand STALE_MEMBER_EPOCH */
    if (who->generation > m->epoch)
        return KE_STALE_MEMBER_EPOCH;
    if (who->generation < m->epoch)
        who->old = m;
    return 0;
}

bool consumer_may_commit_old(const struct cmember *m, const struct uuid *topic, int32_t partition,
                             int32_t epoch)
{
    const struct tp *tp = tpset_find(&m->assigned, topic, partition);
    if (tp == NULL)
        tp = tpset_find(&m->revoking, topic, partition);
    return tp != NULL && epoch >= tp->epoch;
}

int16_t consumer_check_fetch(const struct group *g, struct span member_id, int32_t epoch)
{
    if (span_is_null(member_id) && epoch < 0)
        return 0; /* an administrator, or somebody older */
    const struct cmember *m = cmember_find(g, member_id);
    if (m == NULL)
        return KE_UNKNOWN_MEMBER;
    return epoch == m->epoch ? 0 : KE_STALE_MEMBER_EPOCH;
}

/* ------------------------------------------------------------------- LeaveGroup */

static int16_t leave_one(struct cchange *ch, struct span member_id, struct span instance_id)
{
    struct cmember *m = !span_is_null(instance_id) ? cmember_find_static(ch->g, instance_id)
                        : member_id.len > 0        ? cmember_find(ch->g, member_id)
                                                   : NULL;
    if (m == NULL)
        return KE_UNKNOWN_MEMBER;
    if (!span_is_null(instance_id) && member_id.len > 0 && !span_eq(m->id, member_id))
        return KE_FENCED_INSTANCE;
    consumer_remove(ch, m);
    return 0;
}

void consumer_on_leave_group(struct group *g, struct group_call *call)
{
    const struct leave_group_request *in = call->in;
    struct leave_group_response *out = &call->out.leave;
    struct cchange ch;
    if (!consumer_begin(&ch, g, &call->arena)) {
        call_fail(call, KE_NOT_AVAILABLE);
        return;
    }
    if (call->version < 3) {
        out->error_code = leave_one(&ch, in->member_id, SPAN_NULL);
    } else {
        out->members.v = arena_array(&call->arena, in->members.cnt, sizeof(*out->members.v));
        if (out->members.v == NULL) {
            coord_write_drop(ch.w);
            call_fail(call, KE_UNKNOWN);
            return;
        }
        for (uint32_t i = 0; i < in->members.cnt; i++) {
            const struct leave_group_request_member *lm = &in->members.v[i];
            struct leave_group_response_member *o = &out->members.v[out->members.cnt++];
            leave_group_response_member_init(o);
            o->member_id = lm->member_id; /* the request's bytes outlive the answer */
            o->group_instance_id = lm->group_instance_id;
            o->error_code =
                ch.rc < 0 ? KE_NOT_AVAILABLE : leave_one(&ch, lm->member_id, lm->group_instance_id);
        }
    }
    consumer_commit(&ch, call);
}

/* ------------------------------------------------------------------- kinds */

static void on_converted(struct coord_write *w, int16_t error)
{
    if (error != 0)
        coord_reload(w->p);
}

bool consumer_to_classic(struct group *g)
{
    struct arena a;
    struct coord_write *w = coord_write_new(g->p, g);
    if (w == NULL)
        return false;
    arena_init(&a, COORD_CALL_BYTES_MAX);
    consumer_write_deleted(g, w, &a);
    arena_fini(&a);
    if (w->w.rc < 0) {
        coord_write_drop(w);
        return false;
    }
    w->done = on_converted;
    coord_write_submit(w);
    consumer_free(g);
    coord_drop(g->c, &g->protocol_type);
    group_load_state(g, GROUP_EMPTY);
    return true;
}
