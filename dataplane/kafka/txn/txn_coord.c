/* txn_coord.c - the table of transactional ids, what records mean, and requests. txn.h has the
 * rules. */
#include "dataplane/kafka/group/topic_regex.h"
#include "dataplane/kafka/txn/txn.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)

/* -------------------------------------------------------------------- table */

struct txn *txn_find(struct txn_coord *c, struct span id)
{
    struct id_node *n = id_table_find(&c->ids, id);
    return n != NULL ? container_of(n, struct txn, node) : NULL;
}

struct txn *txn_get(struct tpart *p, struct span id)
{
    struct txn_coord *c = p->c;
    struct txn *t = txn_find(c, id);
    if (t != NULL || c->ids.cnt >= TXN_IDS_MAX)
        return t;
    t = (struct txn *)calloc(1, sizeof(*t));
    uint8_t *name = (uint8_t *)malloc(id.len + 1u);
    if (t == NULL || name == NULL) {
        free(t);
        free(name);
        return NULL;
    }
    if (id.len > 0)
        memcpy(name, id.p, id.len);
    t->p = p;
    t->id = span_of(name, id.len);
    t->refs = 1;
    t->v = (struct txn_value){.state = TXN_EMPTY,
                              .producer_id = -1,
                              .prev_producer_id = -1,
                              .next_producer_id = -1,
                              .epoch = -1,
                              .last_epoch = -1,
                              .start_ms = -1,
                              .update_ms = -1};
    list_init(&t->waiting);
    id_table_add(&c->ids, &t->node, t->id);
    c->states[t->v.state]++;
    list_add_tail(&p->txns, &t->part_link);
    return t;
}

void txn_put(struct txn *t)
{
    if (--t->refs > 0)
        return;
    txn_value_fini(&t->v);
    txn_parts_fini(&t->left);
    free((void *)(uintptr_t)t->id.p);
    free(t);
}

void txn_swap(struct txn *t, struct txn_value *v)
{
    struct txn_value old = t->v;
    t->p->c->states[old.state]--;
    t->p->c->states[v->state]++;
    t->v = *v;
    *v = old;
}

void txn_remove(struct txn *t, int16_t error)
{
    struct txn_coord *c = t->p->c;
    txn_fail_waiting(t, error);
    timer_cancel(c->s->timers, &t->timer);
    id_table_del(&c->ids, &t->node);
    c->states[t->v.state]--;
    list_del(&t->part_link);
    t->gone = true;
    txn_put(t);
}

/* ------------------------------------------------------------------ records */

static int part_replay(struct clog *l, const struct batch_info *b, const struct record_view *rec,
                       struct arena *a)
{
    struct tpart *p = container_of(l, struct tpart, log);
    struct txn_value v;
    struct span id;
    bool deleted;
    if ((b->attributes & BATCH_ATTR_CONTROL) != 0)
        return 0;
    int rc = txn_record_read(rec, a, &id, &deleted, &v);
    if (rc <= 0)
        return rc;
    struct txn *t = deleted ? txn_find(p->c, id) : txn_get(p, id);
    if (deleted) {
        if (t != NULL)
            txn_remove(t, TE_NOT_COORDINATOR);
        return 0;
    }
    if (t == NULL) {
        txn_value_fini(&v);
        return -ENOMEM;
    }
    txn_swap(t, &v);
    txn_value_fini(&v);
    return 0;
}

static struct clog *part_create(struct clog_set *set)
{
    struct tpart *p = (struct tpart *)calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->c = container_of(set, struct txn_coord, logs);
    list_init(&p->txns);
    return &p->log;
}

static void part_destroy(struct clog *l)
{
    free(container_of(l, struct tpart, log));
}

static void part_clear(struct clog *l, int16_t error)
{
    struct tpart *p = container_of(l, struct tpart, log);
    while (!list_is_empty(&p->txns))
        txn_remove(container_of(p->txns.next, struct txn, part_link), error);
}

static void part_loaded(struct clog *l)
{
    list_for_each_safe(n, tmp, &container_of(l, struct tpart, log)->txns)
    {
        txn_loaded(container_of(n, struct txn, part_link));
    }
}

static const struct clog_ops txn_log = {.topic = TXN_TOPIC,
                                        .create = part_create,
                                        .destroy = part_destroy,
                                        .replay = part_replay,
                                        .loaded = part_loaded,
                                        .clear = part_clear};

/* ----------------------------------------------------------------- requests */

void txn_reply(struct txn_coord *c, struct txn_call *call, int16_t error)
{
    call->error = error;
    msg_reply(c->s->mbox, &call->msg, 0);
}

/* A copy in the answer's arena; false: it is full. */
static bool keep(struct txn_call *call, struct span s, struct span *to)
{
    uint8_t *p = arena_alloc(&call->arena, s.len + 1u);
    if (p == NULL)
        return false;
    if (s.len > 0)
        memcpy(p, s.p, s.len);
    *to = span_of(p, s.len);
    return true;
}

/* PREPARE: only the partitions that have no marker yet. */
static bool describe_parts(struct txn_call *call, const struct txn_parts *parts)
{
    struct describe_transactions_response_state *out = &call->out.describe;
    out->topics.v = arena_array(&call->arena, parts->cnt, sizeof(*out->topics.v));
    if (out->topics.v == NULL)
        return false;
    for (uint32_t i = 0; i < parts->cnt; i++) {
        const struct txn_topic *row = &parts->v[i];
        struct describe_transactions_response_topic *o = &out->topics.v[out->topics.cnt++];
        describe_transactions_response_topic_init(o);
        int32_t *v = arena_array(&call->arena, row->cnt, sizeof(*v));
        if (v == NULL || !keep(call, row->name, &o->topic))
            return false;
        memcpy(v, row->v, row->cnt * sizeof(*v));
        o->partitions = (struct wire_i32s){.v = v, .cnt = row->cnt};
    }
    return true;
}

static void on_describe(struct tpart *p, struct txn_call *call)
{
    struct describe_transactions_response_state *out = &call->out.describe;
    const struct txn *t = txn_find(p->c, call->id);
    describe_transactions_response_state_init(out);
    if (t == NULL || t->v.epoch < 0) {
        txn_reply(p->c, call, TE_ID_NOT_FOUND);
        return;
    }
    bool prepared = t->v.state == TXN_PREPARE_COMMIT || t->v.state == TXN_PREPARE_ABORT;
    out->transactional_id = call->id;
    out->transaction_state = span_str(txn_state_text[t->v.state]);
    out->transaction_timeout_ms = t->v.timeout_ms;
    out->transaction_start_time_ms = t->v.start_ms;
    out->producer_id = t->v.producer_id;
    out->producer_epoch = t->v.epoch;
    txn_reply(p->c, call, describe_parts(call, prepared ? &t->left : &t->v.parts) ? 0 : TE_UNKNOWN);
}

/* 1, 0, or -E_LIMIT: the pattern takes too many steps. */
static int is_listed(const struct txn_call *call, const struct txn *t)
{
    const struct list_transactions_request *in = call->list;
    bool state = in->state_filters.cnt == 0, producer = in->producer_id_filters.cnt == 0;
    for (uint32_t i = 0; i < in->state_filters.cnt && !state; i++)
        state = span_eq_str(in->state_filters.v[i], txn_state_text[t->v.state]);
    for (uint32_t i = 0; i < in->producer_id_filters.cnt && !producer; i++)
        producer = in->producer_id_filters.v[i] == t->v.producer_id;
    int64_t now_ms = t->p->c->s->wall_ms;
    bool old = in->duration_filter < 0 ||
               (t->v.start_ms >= 0 && now_ms - t->v.start_ms > in->duration_filter);
    if (!state || !producer || !old || t->v.epoch < 0)
        return 0;
    return call->pattern != NULL ? topic_regex_match(call->pattern, t->id) : 1;
}

/* The ids that the request's filters let through. 0 or Kafka's code. */
static int16_t list_fill(struct txn_coord *c, struct txn_call *call)
{
    struct list_transactions_response *out = &call->out.list;
    out->transaction_states.v =
        arena_array(&call->arena, c->ids.cnt, sizeof(*out->transaction_states.v));
    if (out->transaction_states.v == NULL)
        return TE_UNKNOWN;
    for (uint32_t i = 0; i < c->logs.cnt; i++)
        list_for_each(n, &container_of(c->logs.v[i], struct tpart, log)->txns)
        {
            const struct txn *t = container_of(n, struct txn, part_link);
            struct list_transactions_response_state *o =
                &out->transaction_states.v[out->transaction_states.cnt];
            int rc = is_listed(call, t);
            if (rc < 0)
                return TE_INVALID_REGEX;
            if (rc == 0)
                continue;
            list_transactions_response_state_init(o);
            if (!keep(call, t->id, &o->transactional_id))
                return TE_UNKNOWN;
            o->producer_id = t->v.producer_id;
            o->transaction_state = span_str(txn_state_text[t->v.state]);
            out->transaction_states.cnt++;
        }
    return 0;
}

static void on_list(struct txn_coord *c, struct txn_call *call)
{
    struct span pattern = call->list->transactional_id_pattern;
    int16_t error = 0;
    char why[128];
    list_transactions_response_init(&call->out.list);
    call->pattern = NULL;
    if (pattern.len > 0) {
        int rc = topic_regex_compile(pattern, &call->pattern, why, sizeof(why));
        error = rc == -ENOMEM ? TE_UNKNOWN : rc < 0 ? TE_INVALID_REGEX : 0;
    }
    if (error == 0)
        error = list_fill(c, call);
    topic_regex_free(call->pattern);
    txn_reply(c, call, error);
}

void txn_on_call(struct shard *s, struct msg *m)
{
    struct txn_call *call = container_of(m, struct txn_call, msg);
    struct txn_coord *c = s->kafka->txns;
    struct clog *log;
    txn_coord_poll(c);
    int16_t error = clog_find(&c->logs, call->partition, &log);
    if (error != 0) {
        txn_reply(c, call, error);
        return;
    }
    struct tpart *p = log != NULL ? container_of(log, struct tpart, log) : NULL;
    switch (call->op) {
    case TXN_INIT:
        txn_on_init(p, call);
        break;
    case TXN_ADD:
    case TXN_VERIFY:
        txn_on_add(p, call);
        break;
    case TXN_END:
        txn_on_end(p, call);
        break;
    case TXN_DESCRIBE:
        on_describe(p, call);
        break;
    case TXN_LIST:
        on_list(c, call);
        break;
    }
}

/* --------------------------------------------------------------------- life */

static void on_expiry(struct timer *t, uint64_t now_ns)
{
    struct txn_coord *c = container_of(t, struct txn_coord, expiry);
    timer_arm(c->s->timers, t, now_ns + TXN_EXPIRY_MS * MS_NS, on_expiry);
    if (!c->draining)
        txn_expire(c);
}

int txn_coord_create(struct kafka *k, struct txn_coord **ret)
{
    struct txn_coord *c = (struct txn_coord *)calloc(1, sizeof(*c));
    if (c == NULL || id_table_init(&c->ids) < 0) {
        free(c);
        return -ENOMEM;
    }
    c->k = k;
    c->s = k->s;
    clog_set_init(&c->logs, k, &txn_log);
    timer_arm(c->s->timers, &c->expiry, c->s->now_ns + TXN_EXPIRY_MS * MS_NS, on_expiry);
    *ret = c;
    return 0;
}

void txn_coord_poll(struct txn_coord *c)
{
    (void)clog_set_poll(&c->logs); /* a changed image is nothing to what is in memory */
}

void txn_coord_drain(struct txn_coord *c)
{
    c->draining = true;
    clog_set_drain(&c->logs);
    for (uint32_t i = 0; i < c->logs.cnt; i++)
        list_for_each_safe(n, tmp, &container_of(c->logs.v[i], struct tpart, log)->txns)
        {
            struct txn *t = container_of(n, struct txn, part_link);
            txn_fail_waiting(t, TE_NOT_AVAILABLE);
            timer_cancel(c->s->timers, &t->timer);
        }
}

void txn_stats_get(const struct txn_coord *c, struct kafka_stats *st)
{
    st->txns_empty = c->states[TXN_EMPTY];
    st->txns_ongoing = c->states[TXN_ONGOING];
    st->txns_prepare_commit = c->states[TXN_PREPARE_COMMIT];
    st->txns_prepare_abort = c->states[TXN_PREPARE_ABORT];
    st->txns_complete_commit = c->states[TXN_COMPLETE_COMMIT];
    st->txns_complete_abort = c->states[TXN_COMPLETE_ABORT];
}

bool txn_coord_is_idle(const struct txn_coord *c)
{
    return c->rounds == 0 && clog_set_is_idle(&c->logs);
}

void txn_coord_destroy(struct txn_coord *c)
{
    if (c == NULL)
        return;
    clog_set_fini(&c->logs);
    timer_cancel(c->s->timers, &c->expiry);
    id_table_fini(&c->ids);
    free(c);
}
