/* consumer.c - ConsumerGroupHeartbeat: members join, follow their target, leave, are fenced. After
 * Kafka's GroupMetadataManager.consumerGroupHeartbeat; consumer.h has the picture.
 *
 * A heartbeat first checks everything that can be refused, then makes one change (struct cchange):
 * memory moves step by step and the records of each step are collected; consumer_commit hands them
 * to the log and parks the answer until they are durable. */
#include "dataplane/kafka/group/consumer_priv.h"
#include "lib/base/log.h"
#include "lib/meta/image.h"
#include <stdarg.h>
#include <stdio.h>

/* ------------------------------------------------------------------- answers */

__attribute__((format(printf, 3, 4))) static void refuse(struct group_call *call, int16_t error,
                                                         const char *fmt, ...)
{
    struct consumer_group_heartbeat_response *out = &call->out.consumer_heartbeat;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len >= (int)sizeof(text))
        len = (int)sizeof(text) - 1;
    consumer_group_heartbeat_response_init(out);
    out->error_code = error;
    out->error_message = call_keep(call, span_of(text, (uint32_t)(len > 0 ? len : 0)));
    call_reply(call);
}
/* For "%.*s". */
#define SPAN_ARG(s) (int)(s).len, (s).len > 0 ? (const char *)(s).p : ""

static bool answer_assignment(struct group_call *call, const struct cmember *m)
{
    struct consumer_group_heartbeat_response_assignment *to =
        arena_alloc(&call->arena, sizeof(*to));
    const struct tpset *s = &m->assigned;
    if (to == NULL)
        return false;
    to->topic_partitions.v = arena_array(&call->arena, s->cnt, sizeof(*to->topic_partitions.v));
    if (to->topic_partitions.v == NULL)
        return false;
    for (uint32_t i = 0, run; i < s->cnt; i += run) {
        run = tpset_run(s, i);
        struct consumer_group_heartbeat_response_topic_partitions *t =
            &to->topic_partitions.v[to->topic_partitions.cnt++];
        t->topic_id = s->v[i].topic;
        t->partitions.cnt = run;
        t->partitions.v = arena_array(&call->arena, run, sizeof(*t->partitions.v));
        if (t->partitions.v == NULL)
            return false;
        for (uint32_t k = 0; k < run; k++)
            t->partitions.v[k] = s->v[i + k].partition;
    }
    call->out.consumer_heartbeat.assignment = to;
    return true;
}

/* ------------------------------------------------------------------- changes */

/* Null stays null, and so does what the arena has no room for: rc says so. */
static struct span span_dup(struct cchange *ch, struct span s)
{
    uint8_t *p = span_is_null(s) ? NULL : arena_alloc(ch->a, s.len + 1);
    if (span_is_null(s))
        return SPAN_NULL;
    if (p == NULL) {
        ch->rc = -E_LIMIT;
        return SPAN_NULL;
    }
    memcpy(p, s.p, s.len);
    return span_of(p, s.len);
}

bool consumer_begin(struct cchange *ch, struct group *g, struct arena *a)
{
    *ch = (struct cchange){.g = g, .w = coord_write_new(g->p, g), .a = a};
    return ch->w != NULL;
}

/* All calls that waited for the write. */
static void on_durable(struct coord_write *w, int16_t error)
{
    struct cgroup *cg = w->g->consumer;
    if (cg != NULL && cg->last_write == w)
        cg->last_write = NULL;
    for (struct group_call *call = w->call, *next; call != NULL; call = next) {
        next = call->next; /* the answer takes the call away */
        if (error != 0)
            call_fail(call, error);
        else
            call_reply(call);
    }
    if (error != 0)
        coord_reload(w->p);
}

void consumer_commit(struct cchange *ch, struct group_call *call)
{
    struct cgroup *cg = ch->g->consumer;
    if (ch->rc == 0)
        ch->rc = ch->w->w.rc;
    if (ch->rc < 0) { /* memory has moved and the log will not: read it again */
        struct cpart *p = ch->g->p;
        LOG_WARN("group %.*s: a change cannot be written: %s", SPAN_ARG(ch->g->id),
                 err_text(ch->rc));
        coord_write_drop(ch->w);
        if (call != NULL)
            call_fail(call, KE_NOT_AVAILABLE);
        coord_reload(p);
        return;
    }
    consumer_state_update(ch->g);
    if (clog_write_is_empty(&ch->w->w)) {
        coord_write_drop(ch->w);
        if (call != NULL && cg->last_write != NULL) {
            call->next = cg->last_write->call;
            cg->last_write->call = call;
        } else if (call != NULL) {
            call_reply(call);
        }
        return;
    }
    if (call != NULL)
        call->next = NULL;
    ch->w->call = call;
    ch->w->done = on_durable;
    cg->last_write = ch->w;
    coord_write_submit(ch->w);
}

static void regex_left(struct cchange *ch, struct span text)
{
    struct cregex *re = span_is_null(text) ? NULL : cregex_find(ch->g->consumer, text);
    if (re == NULL || cregex_users(ch->g->consumer, text) > 0)
        return;
    consumer_put_regex_gone(ch, re->text);
    cregex_free(ch->g->c, re);
}

void consumer_remove(struct cchange *ch, struct cmember *m)
{
    static const struct tpset none;
    struct span regex = span_dup(ch, m->regex);
    consumer_put_member_gone(ch, m->id);
    if (ch->rc == 0 && !cmember_own(m, &none, &none))
        ch->rc = -ENOMEM;
    cmember_free(m);
    if (ch->rc == 0)
        regex_left(ch, regex);
    if (ch->rc < 0)
        return;
    consumer_follow(ch, true, false); /* the next heartbeat makes a target for those who stay */
}

/* Out, for a reason that is no request. */
static void expel(struct cmember *m, const char *why)
{
    struct group *g = m->g;
    struct cchange ch;
    struct arena a;
    if (g->c->draining)
        return;
    LOG_INFO("group %.*s: member %.*s %s, removed", SPAN_ARG(g->id), SPAN_ARG(m->id), why);
    arena_init(&a, COORD_CALL_BYTES_MAX);
    if (consumer_begin(&ch, g, &a)) {
        g->c->k->st.group_members_expired++;
        consumer_remove(&ch, m);
        consumer_commit(&ch, NULL);
    } else {
        consumer_arm_session(m); /* again later */
    }
    arena_fini(&a);
}

static void on_session(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    expel(container_of(t, struct cmember, session), "has not been heard of");
}

static void on_rebalance(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    expel(container_of(t, struct cmember, rebalance), "did not give up its partitions in time");
}

void consumer_arm_session(struct cmember *m)
{
    group_arm(m->g, &m->session, group_session_timeout_ms(m->g), on_session);
}

void consumer_arm_rebalance(struct cmember *m)
{
    group_arm(m->g, &m->rebalance, m->rebalance_timeout_ms, on_rebalance);
}

/* ------------------------------------------------------------------- checks */

/* What can be said without looking at the group. NULL: nothing is wrong. */
static const char *request_fault(const struct group_call *call)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    if (in->group_id.len == 0)
        return "GroupId can't be empty.";
    if (in->member_id.len == 0 && (call->version >= 1 || in->member_epoch != CONSUMER_EPOCH_JOIN))
        return "MemberId can't be empty.";
    if (!span_is_null(in->instance_id) && in->instance_id.len == 0)
        return "InstanceId can't be empty.";
    if (!span_is_null(in->rack_id) && in->rack_id.len == 0)
        return "RackId can't be empty.";
    if (in->member_epoch < CONSUMER_EPOCH_LEAVE_STATIC)
        return "MemberEpoch is invalid.";
    if (in->member_epoch == CONSUMER_EPOCH_LEAVE_STATIC && span_is_null(in->instance_id))
        return "InstanceId can't be null.";
    if (in->member_epoch <
        0) /* who leaves says nothing more: @platformatic/kafka sends a timeout of 0 */
        return NULL;
    if (in->rebalance_timeout_ms < -1 || in->rebalance_timeout_ms == 0)
        return "RebalanceTimeoutMs must be positive.";
    if (in->member_epoch != CONSUMER_EPOCH_JOIN)
        return NULL;
    if (in->rebalance_timeout_ms == -1)
        return "RebalanceTimeoutMs must be provided in first request.";
    if (in->topic_partitions.null || in->topic_partitions.cnt > 0)
        return "TopicPartitions must be empty when (re-)joining.";
    if (in->subscribed_topic_names.null && span_is_null(in->subscribed_topic_regex))
        return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
               "(re-)joining.";
    return NULL;
}

/* What the member says it owns, as a set in the arena; *ret NULL: it does not say. */
static bool owned_of(struct group_call *call, struct tpset *s, const struct tpset **ret)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    size_t cnt = 0;
    *ret = NULL;
    if (in->topic_partitions.null)
        return true;
    for (uint32_t i = 0; i < in->topic_partitions.cnt; i++)
        cnt += in->topic_partitions.v[i].partitions.cnt;
    *s = (struct tpset){arena_array(&call->arena, cnt, sizeof(*s->v)), 0};
    if (s->v == NULL)
        return false;
    for (uint32_t i = 0; i < in->topic_partitions.cnt; i++)
        for (uint32_t k = 0; k < in->topic_partitions.v[i].partitions.cnt; k++)
            s->v[s->cnt++] = (struct tp){.topic = in->topic_partitions.v[i].topic_id,
                                         .partition = in->topic_partitions.v[i].partitions.v[k]};
    tpset_sort(s);
    *ret = s;
    return true;
}

/* An epoch behind is all right when the answer that raised it may have been lost: the member has
 * then no more than what it had before. */
static bool epoch_is_fenced(const struct cmember *m, int32_t epoch, const struct tpset *owned)
{
    if (epoch == m->epoch)
        return false;
    return epoch > m->epoch || epoch != m->previous_epoch || owned == NULL ||
           !tpset_is_subset(owned, &m->assigned);
}

/* The member that speaks; *ret NULL: a new one, which may join. False: refused. */
static bool member_check(const struct coord *c, const struct group *g, struct group_call *call,
                         const struct tpset *owned, struct cmember **ret)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    bool joins = in->member_epoch == CONSUMER_EPOCH_JOIN;
    struct span inst = in->instance_id;
    struct cmember *m = g == NULL || g->consumer == NULL ? NULL
                        : span_is_null(inst)             ? cmember_find(g, in->member_id)
                                                         : cmember_find_static(g, inst);
    *ret = m;
    if (m == NULL && joins) {
        if (g == NULL || g->consumer == NULL ||
            g->consumer->member_cnt < c->s->conf->group_consumer_max_size)
            return true;
        refuse(call, KE_GROUP_FULL,
               "The consumer group has reached its maximum capacity of %u members.",
               (uint32_t)c->s->conf->group_consumer_max_size);
        return false;
    }
    if (m == NULL) {
        refuse(call, KE_UNKNOWN_MEMBER,
               span_is_null(inst) ? "Member %.*s is not a member of group %.*s."
                                  : "Instance id %.*s is unknown in group %.*s.",
               SPAN_ARG(span_is_null(inst) ? in->member_id : inst), SPAN_ARG(g->id));
        return false;
    }
    if (!span_is_null(inst) && !span_eq(m->id, in->member_id)) {
        if (joins && m->epoch == CONSUMER_EPOCH_LEAVE_STATIC)
            return true; /* it takes the place of its former self */
        refuse(call, joins ? KE_UNRELEASED_INSTANCE : KE_FENCED_INSTANCE,
               joins ? "Static member %.*s with instance id %.*s cannot join the group because the "
                       "instance id is owned by %.*s member."
                     : "Static member %.*s with instance id %.*s was fenced by member %.*s.",
               SPAN_ARG(in->member_id), SPAN_ARG(inst), SPAN_ARG(m->id));
        return false;
    }
    if (joins || !epoch_is_fenced(m, in->member_epoch, owned))
        return true;
    refuse(call, KE_FENCED_MEMBER_EPOCH,
           "The consumer group member has a %s member epoch (%d) than the one known by the group "
           "coordinator (%d). The member must abandon all its partitions and rejoin.",
           in->member_epoch > m->epoch ? "greater" : "smaller", in->member_epoch, m->epoch);
    return false;
}

/* ------------------------------------------------------------------- leaving */

static void on_leave(struct group *g, struct group_call *call)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    struct span inst = in->instance_id;
    struct cmember *m =
        span_is_null(inst) ? cmember_find(g, in->member_id) : cmember_find_static(g, inst);
    static const struct tpset none;
    struct cchange ch;
    if (m == NULL) {
        refuse(call, KE_UNKNOWN_MEMBER, "Member %.*s is not a member of group %.*s.",
               SPAN_ARG(in->member_id), SPAN_ARG(g->id));
        return;
    }
    if (!span_eq(m->id, in->member_id)) {
        refuse(call, KE_FENCED_INSTANCE,
               "Static member %.*s with instance id %.*s was fenced by member %.*s.",
               SPAN_ARG(in->member_id), SPAN_ARG(inst), SPAN_ARG(m->id));
        return;
    }
    if (!consumer_begin(&ch, g, &call->arena)) {
        call_fail(call, KE_NOT_AVAILABLE);
        return;
    }
    struct consumer_group_heartbeat_response *out = &call->out.consumer_heartbeat;
    out->member_id = in->member_id; /* the request's bytes outlive the answer */
    out->member_epoch = in->member_epoch;
    if (in->member_epoch == CONSUMER_EPOCH_LEAVE) {
        consumer_remove(&ch, m);
    } else { /* it keeps its place for one session */
        m->epoch = CONSUMER_EPOCH_LEAVE_STATIC;
        timer_cancel(g->c->s->timers, &m->rebalance);
        struct tpset assigned;
        if (!tpset_or(ch.a, &m->assigned, &none, &assigned) || !cmember_own(m, &assigned, &none))
            ch.rc = -ENOMEM;
        else
            consumer_put_current(&ch, m);
    }
    consumer_commit(&ch, call);
}

/* ------------------------------------------------------------------- joining, heartbeat */

/* The pattern a member brings: valid, and its topics known; not the group's yet. *ret NULL: it
 * brings none, or the group has it. False: refused. */
static bool regex_check(struct coord *c, const struct group *g, struct group_call *call,
                        struct cregex **ret)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    struct span text = in->subscribed_topic_regex;
    char why[160];
    *ret = NULL;
    if (text.len == 0 ||
        (g != NULL && g->consumer != NULL && cregex_find(g->consumer, text) != NULL))
        return true;
    struct cregex *re = cregex_new(c, text);
    int rc = re == NULL ? -ENOMEM : topic_regex_compile(text, &re->compiled, why, sizeof(why));
    if (rc == 0) {
        rc = cregex_look(c, re, &call->arena);
        if (rc == -E_LIMIT)
            snprintf(why, sizeof(why), "it takes too long to match");
    }
    if (rc >= 0) {
        *ret = re;
        return true;
    }
    if (re != NULL)
        cregex_free(c, re);
    if (rc == -ENOMEM)
        call_fail(call, KE_NOT_AVAILABLE);
    else
        refuse(call, KE_INVALID_REGEX,
               "SubscribedTopicRegex `%.*s` is not a valid regular expression: %s.",
               text.len > 200 ? 200 : (int)text.len, (const char *)text.p, why);
    return false;
}

/* Null: as before. */
static bool take(struct coord *c, struct span *to, struct span from, bool *changed)
{
    if (span_is_null(from) || (!span_is_null(*to) && span_eq(*to, from)))
        return true;
    *changed = true;
    return consumer_set_span(c, to, from);
}

/* What the request says about the member, as far as it is new. */
static void member_update(struct cchange *ch, struct cmember *m, const struct group_call *call,
                          bool is_new, bool *ret_subscription)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    struct coord *c = ch->g->c;
    bool changed = is_new, subscription = is_new;
    struct span host = span_str(call->client_host);
    struct span old_regex = span_dup(ch, m->regex);
    bool ok = take(c, &m->instance_id, in->instance_id, &changed) &&
              take(c, &m->rack_id, in->rack_id, &changed) &&
              take(c, &m->assignor, in->server_assignor, &changed) &&
              take(c, &m->client_id, call->client_id, &changed) &&
              take(c, &m->client_host, host, &changed);
    if (in->rebalance_timeout_ms != -1 && in->rebalance_timeout_ms != m->rebalance_timeout_ms) {
        m->rebalance_timeout_ms = in->rebalance_timeout_ms;
        changed = true;
    }
    if (ok && !in->subscribed_topic_names.null) {
        struct wire_spans was = m->names;
        m->names = (struct wire_spans){0};
        ok = consumer_set_names(c, &m->names, &in->subscribed_topic_names);
        subscription |= !names_eq(&was, &m->names);
        struct wire_spans none = {0};
        (void)consumer_set_names(c, &was, &none);
    }
    if (ok && !span_is_null(in->subscribed_topic_regex)) {
        if (in->subscribed_topic_regex.len == 0) { /* subscribes by names only from now on */
            subscription |= !span_is_null(m->regex);
            coord_drop(c, &m->regex);
        } else {
            ok = take(c, &m->regex, in->subscribed_topic_regex, &subscription);
        }
    }
    if (!ok) {
        ch->rc = -ENOMEM;
        return;
    }
    if (changed || subscription)
        consumer_put_member(ch, m);
    if (!span_is_null(old_regex) && (span_is_null(m->regex) || !span_eq(m->regex, old_regex)))
        regex_left(ch, old_regex);
    *ret_subscription = subscription;
}

/* The static member m is somebody else from now on: the records under its old id go. */
static void member_replace(struct cchange *ch, struct cmember *m, struct span id)
{
    consumer_put_member_gone(ch, m->id);
    if (ch->rc == 0 && !consumer_set_span(ch->g->c, &m->id, id))
        ch->rc = -ENOMEM;
    if (ch->rc == 0) {
        consumer_put_member(ch, m);
        consumer_put_target(ch, m);
    }
    m->epoch = m->previous_epoch = CONSUMER_EPOCH_JOIN;
}

static bool is_full_request(const struct consumer_group_heartbeat_request *in)
{
    return in->rebalance_timeout_ms != -1 && !in->topic_partitions.null &&
           (!in->subscribed_topic_names.null || !span_is_null(in->subscribed_topic_regex));
}

static void beat(struct cchange *ch, struct cmember *m, struct group_call *call, struct span id,
                 struct cregex *brought, const struct tpset *owned)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    struct consumer_group_heartbeat_response *out = &call->out.consumer_heartbeat;
    struct group *g = ch->g;
    bool joins = in->member_epoch == CONSUMER_EPOCH_JOIN, is_new = m == NULL, subscribes = false;
    static const struct tpset none;
    struct tpset before = {0};
    if (is_new) {
        m = cmember_new(g, id);
        if (m == NULL) {
            ch->rc = -ENOMEM;
            return;
        }
        m->is_known = true;
    } else if (joins && !span_eq(m->id, id)) {
        member_replace(ch, m, id);
    } else if (joins && m->epoch == CONSUMER_EPOCH_LEAVE_STATIC) { /* back under its old id */
        m->epoch = m->previous_epoch = CONSUMER_EPOCH_JOIN;
    } /* Who joins again where it is known keeps its epoch and what it has: the answer says both. */
    if (!tpset_or(ch->a, &m->assigned, &none, &before))
        ch->rc = -E_LIMIT;
    if (ch->rc == 0)
        member_update(ch, m, call, is_new, &subscribes);
    if (ch->rc == 0 && brought != NULL)
        consumer_put_regex(ch, brought);
    consumer_follow(ch, subscribes, true);
    consumer_reconcile(ch, m, owned);
    if (ch->rc < 0)
        return;
    consumer_arm_session(m);
    out->member_id = call_keep(call, m->id);
    out->member_epoch = m->epoch;
    out->heartbeat_interval_ms = (int32_t)group_heartbeat_interval_ms(g);
    if ((joins || is_full_request(in) || !tpset_eq(&before, &m->assigned)) &&
        !answer_assignment(call, m))
        ch->rc = -E_LIMIT;
}

static struct span member_id_make(struct arena *a)
{
    struct uuid u;
    char *text = arena_alloc(a, UUID_TEXT_LEN + 1);
    if (text == NULL)
        return SPAN_NULL;
    uuid_random(&u);
    uuid_format(&u, text);
    return span_of(text, UUID_TEXT_LEN);
}

/* The group a member asks for. *ret NULL: it will be made. False: refused. */
static bool group_check(struct cpart *p, struct group_call *call, struct group **ret)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    struct group *g = coord_find(p->c, in->group_id);
    bool joins = in->member_epoch == CONSUMER_EPOCH_JOIN;
    *ret = g;
    if (g == NULL && !joins) {
        refuse(call, KE_GROUP_NOT_FOUND, "Group %.*s not found.", SPAN_ARG(in->group_id));
        return false;
    }
    if (g != NULL && g->consumer == NULL &&
        (!joins || g->state != GROUP_EMPTY || g->pending_cnt > 0)) {
        refuse(call, KE_GROUP_NOT_FOUND, "Group %.*s is not a consumer group.",
               SPAN_ARG(in->group_id));
        return false;
    }
    if (joins && p->c->bytes + CONSUMER_ROOM_MIN > COORD_BYTES_MAX) {
        refuse(call, KE_GROUP_FULL, "The coordinator has no memory for more members.");
        return false;
    }
    return true;
}

/* The group as a consumer group; one of the classic protocol has nobody in it and changes. */
static bool group_begin(struct cpart *p, struct group_call *call, struct group *g,
                        struct cchange *ch)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    if (g == NULL)
        g = coord_get(p, in->group_id);
    if (g == NULL || !consumer_begin(ch, g, &call->arena))
        return false;
    if (g->consumer != NULL)
        return true;
    if (group_has_record(g))
        group_write_deleted(g, ch->w, ch->a);
    if (consumer_make(g) == NULL)
        ch->rc = -ENOMEM;
    return true;
}

void consumer_on_heartbeat(struct cpart *p, struct group_call *call)
{
    const struct consumer_group_heartbeat_request *in = call->in;
    const char *fault = request_fault(call);
    struct group *g;
    struct span id = in->member_id;
    struct cmember *m;
    struct cregex *brought;
    struct cchange ch;
    struct tpset set;
    const struct tpset *owned;
    consumer_group_heartbeat_response_init(&call->out.consumer_heartbeat);
    if (fault != NULL) {
        refuse(call, KE_INVALID_REQUEST, "%s", fault);
        return;
    }
    if (!span_is_null(in->server_assignor) && assignor_find(in->server_assignor) == NULL) {
        refuse(call, KE_UNSUPPORTED_ASSIGNOR,
               "ServerAssignor %.*s is not supported. Supported assignors: uniform, range.",
               SPAN_ARG(in->server_assignor));
        return;
    }
    if (!group_check(p, call, &g))
        return;
    if (in->member_epoch < 0) {
        on_leave(g, call);
        return;
    }
    if (id.len == 0) /* version 0: the coordinator names the member */
        id = member_id_make(&call->arena);
    if (!owned_of(call, &set, &owned) || id.len == 0) {
        call_fail(call, KE_NOT_AVAILABLE);
        return;
    }
    if (!member_check(p->c, g, call, owned, &m) || !regex_check(p->c, g, call, &brought))
        return;
    if (!group_begin(p, call, g, &ch)) {
        if (brought != NULL)
            cregex_free(p->c, brought);
        call_fail(call, KE_NOT_AVAILABLE);
        return;
    }
    if (brought != NULL && ch.rc == 0)
        cregex_link(ch.g, brought);
    else if (brought != NULL)
        cregex_free(p->c, brought);
    if (ch.rc == 0)
        beat(&ch, m, call, id, brought, owned);
    consumer_commit(&ch, call);
}
