/* txn_state.c - the moves of one transactional id: who may make them (Kafka's tables, gotchas 12),
 * and what follows when their record is durable. */
#include "dataplane/kafka/txn/txn.h"
#include "lib/base/log.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)
#define EXPIRE_MAX 1000 /* ids per look */

static void run_waiting(struct txn *t);
static void txn_abort(struct txn *t, struct txn_call *call);

/* -------------------------------------------------------------------- moves */

struct txn_write { /* one move under way */
    struct clog_write w;
    struct txn *t;
    struct txn_value next;
    bool deleted;
    struct txn_call *call; /* to be answered; NULL: nobody asked */
    int16_t answer;        /* when all went well */
};

/* Everything but the partitions. */
static struct txn_value value_from(const struct txn *t)
{
    struct txn_value v = t->v;
    v.parts = (struct txn_parts){0};
    v.prev_producer_id = t->v.producer_id;
    v.update_ms = t->p->c->s->wall_ms;
    return v;
}

static void on_timeout(struct timer *timer, uint64_t now_ns)
{
    struct txn *t = container_of(timer, struct txn, timer);
    if (t->writing) { /* its outcome decides */
        timer_arm(t->p->c->s->timers, timer, now_ns + TXN_MARKER_RETRY_MS * MS_NS, on_timeout);
        return;
    }
    if (t->v.state == TXN_ONGOING) {
        t->p->c->k->st.txns_timed_out++;
        LOG_INFO("transaction of '%.*s' has timed out after %d ms: aborted", (int)t->id.len,
                 (const char *)t->id.p, t->v.timeout_ms);
        txn_abort(t, NULL);
    }
}

static void timeout_arm(struct txn *t)
{
    const struct shard *s = t->p->c->s;
    int64_t left_ms = t->v.start_ms + t->v.timeout_ms - s->wall_ms;
    if (left_ms > t->v.timeout_ms) /* the clock was set back between two starts */
        left_ms = t->v.timeout_ms;
    uint64_t ns = left_ms > 0 ? (uint64_t)left_ms * MS_NS : 0;
    timer_arm(s->timers, &t->timer, s->now_ns + ns, on_timeout);
}

static void prepared(struct txn *t)
{
    txn_parts_fini(&t->left);
    if (txn_parts_copy(&t->left, &t->v.parts) == 0) {
        txn_markers_send(t);
        return;
    }
    LOG_ERROR("no memory for the markers of '%.*s'", (int)t->id.len, (const char *)t->id.p);
    clog_reload(&t->p->log); /* starts again from here */
}

/* The move is durable. */
static void moved(struct txn *t)
{
    switch (t->v.state) {
    case TXN_ONGOING:
        timeout_arm(t);
        break;
    case TXN_PREPARE_COMMIT:
    case TXN_PREPARE_ABORT:
        timer_cancel(t->p->c->s->timers, &t->timer);
        prepared(t);
        break;
    case TXN_EMPTY:
    case TXN_COMPLETE_COMMIT:
    case TXN_COMPLETE_ABORT:
    case TXN_STATE_CNT:
        timer_cancel(t->p->c->s->timers, &t->timer);
        break;
    }
}

static void on_written(struct clog_write *log, int16_t error)
{
    struct txn_write *w = container_of(log, struct txn_write, w);
    struct txn *t = w->t;
    struct txn_coord *c = t->p->c;
    bool ours = !t->gone;
    t->writing = false;
    if (error == 0 && ours && !w->deleted) {
        txn_swap(t, &w->next);
        c->k->st.txns_committed += t->v.state == TXN_COMPLETE_COMMIT;
        c->k->st.txns_aborted += t->v.state == TXN_COMPLETE_ABORT;
    }
    if (w->call != NULL) {
        w->call->ret_producer_id =
            t->v.next_producer_id >= 0 ? t->v.next_producer_id : t->v.producer_id;
        w->call->ret_epoch = t->v.next_producer_id >= 0 ? 0 : t->v.epoch;
        txn_reply(c, w->call, error != 0 ? error : ours ? w->answer : TE_NOT_COORDINATOR);
    }
    bool deleted = w->deleted;
    txn_value_fini(&w->next);
    clog_write_fini(&w->w);
    free(w);
    if (ours && error != 0) {
        clog_reload(&t->p->log); /* nobody knows whether the record is there: t is gone */
    } else if (ours && deleted) {
        c->k->st.txn_ids_expired++;
        txn_remove(t, TE_NOT_COORDINATOR);
    } else if (ours && !c->draining) {
        moved(t);
        if (!t->gone)
            run_waiting(t);
    }
    txn_put(t);
}

/* Takes next->parts. */
static void move(struct txn *t, struct txn_value *next, bool deleted, struct txn_call *call,
                 int16_t answer)
{
    struct txn_write *w = (struct txn_write *)calloc(1, sizeof(*w));
    struct arena a;
    ASSERT(!t->writing);
    if (w == NULL) {
        txn_value_fini(next);
        if (call != NULL)
            txn_reply(t->p->c, call, TE_NOT_AVAILABLE);
        return;
    }
    clog_write_init(&w->w, &t->p->log);
    w->w.done = on_written;
    w->t = t;
    w->next = *next;
    w->deleted = deleted;
    w->call = call;
    w->answer = answer;
    arena_init(&a, TXN_CALL_BYTES_MAX);
    struct span key = txn_record_key(&a, t->id);
    struct span value = deleted ? SPAN_NULL : txn_record_value(&a, next);
    if (span_is_null(key) || (!deleted && span_is_null(value)))
        w->w.rc = -ENOMEM;
    clog_write_add(&w->w, key, value);
    arena_fini(&a);
    if (clog_write_is_empty(&w->w)) { /* no memory, or a record that no batch can hold */
        if (call != NULL)
            txn_reply(t->p->c, call, w->w.rc == -ENOMEM ? TE_NOT_AVAILABLE : TE_UNKNOWN);
        txn_value_fini(&w->next);
        clog_write_fini(&w->w);
        free(w);
        return;
    }
    t->writing = true;
    t->refs++;
    clog_write_submit(&w->w);
}

/* -------------------------------------------------------------------- waits */

void txn_fail_waiting(struct txn *t, int16_t error)
{
    struct list *n;
    timer_cancel(t->p->c->s->timers, &t->wait);
    while ((n = list_pop_head(&t->waiting)) != NULL)
        txn_reply(t->p->c, container_of(n, struct txn_call, msg.link), error);
}

static void on_wait_over(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    txn_fail_waiting(container_of(timer, struct txn, wait), TE_CONCURRENT);
}

static void wait_for_move(struct txn *t, struct txn_call *call)
{
    const struct shard *s = t->p->c->s;
    if (list_is_empty(&t->waiting))
        timer_arm(s->timers, &t->wait, s->now_ns + TXN_WAIT_MS * MS_NS, on_wait_over);
    list_add_tail(&t->waiting, &call->msg.link);
}

static bool is_prepared(const struct txn *t)
{
    return t->v.state == TXN_PREPARE_COMMIT || t->v.state == TXN_PREPARE_ABORT;
}

/* ----------------------------------------------------------- InitProducerId */

/* The next id and epoch of a producer that is not amid a transaction. 0 or Kafka's code. */
static int16_t init_epoch(const struct txn *t, const struct txn_call *call, struct txn_value *next)
{
    bool expects = call->epoch >= 0;
    if (t->v.epoch >= TXN_EPOCH_EXHAUSTED && (!expects || call->epoch == t->v.epoch)) {
        int rc = kafka_take_producer_id(t->p->c->k, &next->producer_id);
        next->epoch = 0;
        next->last_epoch = expects ? t->v.epoch : -1;
        return (int16_t)err_kafka_code(rc);
    }
    if (expects && t->v.epoch >= 0 && call->epoch == t->v.last_epoch)
        return 0; /* the answer was lost: once more */
    if (expects && t->v.epoch >= 0 && call->epoch != t->v.epoch)
        return TE_PRODUCER_FENCED;
    next->epoch = (int16_t)(t->v.epoch + 1);
    next->last_epoch = expects ? t->v.epoch : -1;
    return 0;
}

void txn_on_init(struct tpart *p, struct txn_call *call)
{
    struct txn *t = txn_find(p->c, call->id);
    int16_t error = 0;
    if (t == NULL) {
        int64_t id;
        error = (int16_t)err_kafka_code(kafka_take_producer_id(p->c->k, &id));
        t = error == 0 ? txn_get(p, call->id) : NULL;
        if (error == 0 && t == NULL)
            error = TE_NOT_AVAILABLE;
        if (t != NULL)
            t->v.producer_id = id;
    }
    if (error != 0) {
        txn_reply(p->c, call, error);
        return;
    }
    bool known = call->producer_id < 0 || t->v.epoch < 0 || call->producer_id == t->v.producer_id ||
                 (call->producer_id == t->v.prev_producer_id && call->epoch >= TXN_EPOCH_EXHAUSTED);
    if (!known)
        error = TE_PRODUCER_FENCED;
    else if (t->writing || is_prepared(t))
        error = TE_CONCURRENT;
    if (error == 0 && t->v.state == TXN_ONGOING) { /* of the producer before: out of the way */
        txn_abort(t, call);
        return;
    }
    struct txn_value next = value_from(t);
    next.state = TXN_EMPTY;
    next.next_producer_id = -1;
    next.client_version = 0;
    next.timeout_ms = call->timeout_ms;
    next.start_ms = -1;
    if (error == 0)
        error = init_epoch(t, call, &next);
    if (error != 0)
        txn_reply(p->c, call, error);
    else
        move(t, &next, false, call, 0);
}

/* ---------------------------------------------------------------- partitions */

static bool has_all(const struct txn *t, const struct txn_parts *asked)
{
    for (uint32_t i = 0; i < asked->cnt; i++)
        for (uint32_t k = 0; k < asked->v[i].cnt; k++)
            if (!txn_parts_has(&t->v.parts, asked->v[i].name, asked->v[i].v[k]))
                return false;
    return true;
}

static int add_all(struct txn_parts *to, const struct txn_parts *asked)
{
    int rc = 0;
    for (uint32_t i = 0; i < asked->cnt && rc == 0; i++)
        for (uint32_t k = 0; k < asked->v[i].cnt && rc == 0; k++)
            rc = txn_parts_add(to, asked->v[i].name, asked->v[i].v[k]);
    return rc;
}

static void add(struct txn *t, struct txn_call *call)
{
    struct txn_coord *c = t->p->c;
    struct txn_value next = value_from(t);
    bool ongoing = t->v.state == TXN_ONGOING;
    next.state = TXN_ONGOING;
    next.client_version = call->v2 ? 2 : 0;
    next.next_producer_id = -1;
    if (!ongoing)
        next.start_ms = c->s->wall_ms;
    int rc = ongoing ? txn_parts_copy(&next.parts, &t->v.parts) : 0;
    if (rc == 0)
        rc = add_all(&next.parts, &call->asked);
    if (rc < 0) {
        txn_value_fini(&next);
        txn_reply(c, call, rc == -E_LIMIT ? TE_UNKNOWN : TE_NOT_AVAILABLE);
        return;
    }
    move(t, &next, false, call, 0);
}

/* Answers, begins a move, or (false) the call is to wait. */
static bool add_try(struct txn *t, struct txn_call *call)
{
    struct txn_coord *c = t->p->c;
    if (call->producer_id != t->v.producer_id) {
        txn_reply(c, call, TE_INVALID_PID_MAPPING);
        return true;
    }
    if (call->epoch != t->v.epoch) {
        txn_reply(c, call, TE_PRODUCER_FENCED);
        return true;
    }
    if (t->writing || is_prepared(t)) {
        if (call->waits)
            return false;
        txn_reply(c, call, TE_CONCURRENT);
        return true;
    }
    if (t->v.state == TXN_ONGOING && has_all(t, &call->asked))
        txn_reply(c, call, 0);
    else if (call->op == TXN_VERIFY)
        txn_reply(c, call, TE_ABORTABLE);
    else
        add(t, call);
    return true;
}

void txn_on_add(struct tpart *p, struct txn_call *call)
{
    struct txn *t = txn_find(p->c, call->id);
    if (t == NULL)
        txn_reply(p->c, call, TE_INVALID_PID_MAPPING);
    else if (call->waits && !list_is_empty(&t->waiting))
        wait_for_move(t, call); /* appends of a connection keep their order */
    else if (!add_try(t, call))
        wait_for_move(t, call);
}

static void run_waiting(struct txn *t)
{
    t->refs++;
    while (!list_is_empty(&t->waiting) && !t->gone) {
        struct list *n = list_pop_head(&t->waiting);
        if (!add_try(t, container_of(n, struct txn_call, msg.link))) {
            list_add_head(&t->waiting, n);
            break;
        }
    }
    if (list_is_empty(&t->waiting))
        timer_cancel(t->p->c->s->timers, &t->wait);
    txn_put(t);
}

/* -------------------------------------------------------------------- EndTxn */

enum end_way { END_NOW, END_WITHOUT_PARTITIONS, END_DONE_BEFORE };

static int16_t end_v2(const struct txn *t, const struct txn_call *call, enum end_way *ret)
{
    const struct txn_value *v = &t->v;
    bool raised = call->producer_id == v->producer_id && v->epoch == call->epoch + 1;
    bool rotated = call->producer_id == v->prev_producer_id && v->epoch == 0 &&
                   call->epoch == TXN_EPOCH_EXHAUSTED;
    bool retry = raised || rotated, current = call->epoch == v->epoch;
    if (call->producer_id != v->producer_id && !rotated)
        return TE_INVALID_PID_MAPPING;
    *ret = END_WITHOUT_PARTITIONS;
    switch (v->state) {
    case TXN_ONGOING:
        *ret = END_NOW;
        return current ? 0 : TE_PRODUCER_FENCED;
    case TXN_EMPTY:
        return !current ? TE_PRODUCER_FENCED : call->commit ? TE_INVALID_TXN_STATE : 0;
    case TXN_PREPARE_COMMIT:
        return !raised ? TE_PRODUCER_FENCED : call->commit ? TE_CONCURRENT : TE_INVALID_TXN_STATE;
    case TXN_PREPARE_ABORT:
        return !raised ? TE_PRODUCER_FENCED : call->commit ? TE_INVALID_TXN_STATE : TE_CONCURRENT;
    case TXN_COMPLETE_COMMIT:
    case TXN_COMPLETE_ABORT:
    case TXN_STATE_CNT:
        break;
    }
    bool committed = v->state == TXN_COMPLETE_COMMIT;
    if (!retry && !current)
        return TE_PRODUCER_FENCED;
    if (retry) {
        *ret = END_DONE_BEFORE;
        return committed == call->commit ? 0 : TE_INVALID_TXN_STATE;
    }
    return call->commit ? TE_INVALID_TXN_STATE : 0;
}

static int16_t end_v0(const struct txn *t, const struct txn_call *call, enum end_way *ret)
{
    const struct txn_value *v = &t->v;
    enum txn_state prepare = call->commit ? TXN_PREPARE_COMMIT : TXN_PREPARE_ABORT;
    enum txn_state complete = call->commit ? TXN_COMPLETE_COMMIT : TXN_COMPLETE_ABORT;
    if (call->producer_id != v->producer_id)
        return TE_INVALID_PID_MAPPING;
    if (call->epoch != v->epoch)
        return TE_PRODUCER_FENCED;
    *ret = v->state == complete ? END_DONE_BEFORE : END_NOW;
    if (v->state == TXN_ONGOING || v->state == complete)
        return 0;
    return v->state == prepare ? TE_CONCURRENT : TE_INVALID_TXN_STATE;
}

/* To PREPARE_x. The epoch of KIP-890 is raised with the outcome, so that nothing late can follow.
 */
static void end(struct txn *t, struct txn_call *call, enum end_way way)
{
    struct txn_value next = value_from(t);
    int rc = 0;
    next.state = call->commit ? TXN_PREPARE_COMMIT : TXN_PREPARE_ABORT;
    next.client_version = call->v2 ? 2 : 0;
    next.next_producer_id = -1;
    if (call->v2) {
        if (t->v.epoch >= TXN_EPOCH_EXHAUSTED)
            rc = kafka_take_producer_id(t->p->c->k, &next.next_producer_id);
        next.epoch = (int16_t)(t->v.epoch < INT16_MAX ? t->v.epoch + 1 : INT16_MAX);
        next.last_epoch = t->v.epoch;
    }
    if (way == END_WITHOUT_PARTITIONS)
        next.start_ms = next.update_ms;
    else if (rc == 0)
        rc = txn_parts_copy(&next.parts, &t->v.parts);
    if (rc < 0) {
        txn_reply(t->p->c, call, rc == -ENOMEM ? TE_NOT_AVAILABLE : (int16_t)err_kafka_code(rc));
        return;
    }
    move(t, &next, false, call, 0);
}

void txn_on_end(struct tpart *p, struct txn_call *call)
{
    struct txn *t = txn_find(p->c, call->id);
    enum end_way way = END_NOW;
    int16_t error = t == NULL    ? TE_INVALID_PID_MAPPING
                    : t->writing ? TE_CONCURRENT
                    : call->v2   ? end_v2(t, call, &way)
                                 : end_v0(t, call, &way);
    if (error == 0 && way != END_DONE_BEFORE) {
        end(t, call, way);
        return;
    }
    if (error == 0) {
        call->ret_producer_id = t->v.producer_id;
        call->ret_epoch = t->v.epoch;
    }
    txn_reply(p->c, call, error);
}

/* The coordinator's own end of a transaction: its producer is fenced by the raised epoch. With
 * KIP-890 by two: one above its own is what a client takes for its own retry. `call`: who wants to
 * take the id over, and is to try again. */
static void txn_abort(struct txn *t, struct txn_call *call)
{
    struct txn_value next = value_from(t);
    next.state = TXN_PREPARE_ABORT;
    next.next_producer_id = -1;
    next.last_epoch = -1;
    if (next.epoch < INT16_MAX)
        next.epoch++;
    if (t->v.client_version == 2 && next.epoch < INT16_MAX)
        next.last_epoch = next.epoch++;
    int rc = txn_parts_copy(&next.parts, &t->v.parts);
    if (rc == 0) {
        move(t, &next, false, call, TE_CONCURRENT);
    } else if (call != NULL) {
        txn_reply(t->p->c, call, TE_NOT_AVAILABLE);
    }
    if (!t->writing && !t->gone && call == NULL) { /* no memory: once more */
        const struct shard *s = t->p->c->s;
        timer_arm(s->timers, &t->timer, s->now_ns + TXN_MARKER_RETRY_MS * MS_NS, on_timeout);
    }
}

static void on_marked_retry(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    txn_marked(container_of(timer, struct txn, timer));
}

void txn_marked(struct txn *t)
{
    struct txn_value next = value_from(t);
    next.state = t->v.state == TXN_PREPARE_COMMIT ? TXN_COMPLETE_COMMIT : TXN_COMPLETE_ABORT;
    next.next_producer_id = -1;
    if (t->v.next_producer_id >= 0) {
        next.producer_id = t->v.next_producer_id;
        next.epoch = 0;
    }
    move(t, &next, false, NULL, 0);
    if (!t->writing && !t->gone) {
        const struct shard *s = t->p->c->s;
        timer_arm(s->timers, &t->timer, s->now_ns + TXN_MARKER_RETRY_MS * MS_NS, on_marked_retry);
    }
}

void txn_loaded(struct txn *t)
{
    moved(t);
}

/* -------------------------------------------------------------------- expiry */

void txn_expire(struct txn_coord *c)
{
    int64_t before = c->s->wall_ms - (int64_t)c->s->conf->transactional_id_expiration_ms;
    uint32_t cnt = 0;
    for (uint32_t i = 0; i < c->logs.cnt; i++) {
        struct tpart *p = container_of(c->logs.v[i], struct tpart, log);
        if (p->log.state != CLOG_READY)
            continue;
        list_for_each_safe(n, tmp, &p->txns)
        {
            struct txn *t = container_of(n, struct txn, part_link);
            bool idle = t->v.state != TXN_ONGOING && !is_prepared(t) && !t->writing;
            if (!idle || t->v.update_ms >= before || cnt++ >= EXPIRE_MAX)
                continue;
            struct txn_value none = {.producer_id = -1};
            move(t, &none, true, NULL, 0);
        }
    }
}
