/* coord.c - the table of groups, what records mean, and requests. coord.h has the rules.
 *
 * Memory follows the log: what a request changes is installed when its records are durable (offset
 * commits, assignments), or at once where later requests must see it (deletions); when the append
 * of the latter fails, the partition is read again. */
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/group/consumer.h"
#include "dataplane/kafka/group/txn_offsets.h"
#include "lib/base/log.h"
#include "lib/batch/control.h"
#include "lib/batch/layout.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)

/* ------------------------------------------------------------------- memory */

void *coord_alloc(struct coord *c, size_t size)
{
    if (c->bytes + size > COORD_BYTES_MAX)
        return NULL;
    void *p = calloc(1, size > 0 ? size : 1);
    if (p != NULL)
        c->bytes += size;
    return p;
}

void coord_free(struct coord *c, void *p, size_t size)
{
    if (p == NULL)
        return;
    c->bytes -= size;
    free(p);
}

bool coord_room(struct coord *c, void **v, uint32_t cnt, uint32_t *cap, size_t size)
{
    if (cnt < *cap)
        return true;
    uint32_t more = *cap == 0 ? 4 : *cap * 2;
    void *p = coord_alloc(c, more * size);
    if (p == NULL)
        return false;
    if (cnt > 0)
        memcpy(p, *v, cnt * size);
    coord_free(c, *v, *cap * size);
    *v = p;
    *cap = more;
    return true;
}

bool coord_keep(struct coord *c, struct span s, struct span *to)
{
    *to = SPAN_NULL;
    if (span_is_null(s))
        return true;
    uint8_t *p = coord_alloc(c, s.len);
    if (p == NULL)
        return false;
    if (s.len > 0)
        memcpy(p, s.p, s.len);
    *to = span_of(p, s.len);
    return true;
}

void coord_drop(struct coord *c, struct span *s)
{
    coord_free(c, (void *)(uintptr_t)s->p, s->len);
    *s = SPAN_NULL;
}

/* -------------------------------------------------------------------- calls */

void call_reply(struct group_call *call)
{
    msg_reply(call->coord->s->mbox, &call->msg, 0);
}

void call_fail(struct group_call *call, int16_t error)
{
    call->error = error;
    call_reply(call);
}

struct span call_keep_nullable(struct group_call *call, struct span s)
{
    return span_is_null(s) ? SPAN_NULL : call_keep(call, s);
}

struct span call_keep(struct group_call *call, struct span s)
{
    uint8_t *p = s.len > 0 ? arena_alloc(&call->arena, s.len) : NULL;
    if (p == NULL)
        return WIRE_EMPTY;
    memcpy(p, s.p, s.len);
    return span_of(p, s.len);
}

/* ------------------------------------------------------------------- groups */

struct group *coord_find(struct coord *c, struct span id)
{
    struct id_node *n = id_table_find(&c->groups, id);
    return n != NULL ? container_of(n, struct group, node) : NULL;
}

struct group *coord_get(struct cpart *p, struct span id)
{
    struct coord *c = p->c;
    struct group *g = coord_find(c, id);
    if (g != NULL)
        return g;
    g = group_new(p, id);
    if (g == NULL)
        return NULL;
    id_table_add(&c->groups, &g->node, g->id);
    c->states[g->state]++;
    list_add_tail(&p->groups, &g->part_link);
    return g;
}

/* -------------------------------------------------------------------- writes */

static void on_written(struct clog_write *log, int16_t error)
{
    struct coord_write *w = container_of(log, struct coord_write, w);
    w->done(w, error);
    coord_write_drop(w);
}

struct coord_write *coord_write_new(struct cpart *p, struct group *g)
{
    struct coord_write *w = (struct coord_write *)calloc(1, sizeof(*w));
    if (w == NULL)
        return NULL;
    clog_write_init(&w->w, &p->log);
    w->w.done = on_written;
    w->p = p;
    w->g = g;
    if (g != NULL)
        g->refs++;
    return w;
}

void coord_write_add(struct coord_write *w, struct span key, struct span value)
{
    clog_write_add(&w->w, key, value);
}

void coord_write_drop(struct coord_write *w)
{
    clog_write_fini(&w->w);
    if (w->g != NULL)
        group_put(w->g);
    free(w);
}

void coord_write_submit(struct coord_write *w)
{
    clog_write_submit(&w->w);
}

/* ------------------------------------------------------------------- reading */

static int part_replay(struct clog *l, const struct batch_info *b, const struct record_view *rec,
                       struct arena *a)
{
    struct cpart *p = container_of(l, struct cpart, log);
    struct wire_reader k, v;
    bool is_txn = (b->attributes & BATCH_ATTR_TRANSACTIONAL) != 0;
    if ((b->attributes & BATCH_ATTR_CONTROL) != 0) {
        struct batch_marker m;
        if (!is_txn || marker_record_read(rec->key, rec->value, &m) < 0)
            return 0;
        return txn_offsets_end(p, b->producer_id, m.commit) ? 0 : -ENOMEM;
    }
    wire_reader_init(&k, rec->key);
    wire_reader_init(&v, rec->value);
    int16_t type = wire_get_i16(&k);
    bool deleted = span_is_null(rec->value);
    int16_t version = deleted ? 0 : wire_get_i16(&v);
    if (k.err != 0)
        return k.err;
    int rc;
    if (type == 0 || type == OFFSET_COMMIT_KEY_KEY) {
        struct offset_commit_key key;
        struct offset_commit_value value;
        rc = offset_commit_key_read(&k, 0, a, &key);
        if (rc == 0 && !deleted)
            rc = offset_commit_value_read(&v, version, a, &value);
        return rc < 0
                   ? rc
                   : offsets_replay(p, is_txn ? b->producer_id : -1, &key, deleted ? NULL : &value);
    }
    if (type == GROUP_METADATA_KEY_KEY) {
        struct group_metadata_key key;
        struct group_metadata_value value;
        rc = group_metadata_key_read(&k, 0, a, &key);
        if (rc == 0 && !deleted)
            rc = group_metadata_value_read(&v, version, a, &value);
        return rc < 0 ? rc : group_replay(p, key.group, deleted ? NULL : &value);
    }
    rc = consumer_replay(p, type, &k, &v, version, deleted, a);
    return rc < 0 ? rc : 0; /* 1: of another kind of group */
}

static struct clog *part_create(struct clog_set *set)
{
    struct cpart *p = (struct cpart *)calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->c = container_of(set, struct coord, logs);
    list_init(&p->groups);
    list_init(&p->txns);
    return &p->log;
}

static void part_destroy(struct clog *l)
{
    free(container_of(l, struct cpart, log));
}

static void part_clear(struct clog *l, int16_t error)
{
    struct cpart *p = container_of(l, struct cpart, log);
    txn_offsets_clear(p);
    while (!list_is_empty(&p->groups))
        group_remove(container_of(p->groups.next, struct group, part_link), error);
}

static void part_loaded(struct clog *l)
{
    list_for_each_safe(n, tmp, &container_of(l, struct cpart, log)->groups)
    {
        group_loaded(container_of(n, struct group, part_link));
    }
}

static const struct clog_ops offsets_log = {.topic = OFFSETS_TOPIC,
                                            .create = part_create,
                                            .destroy = part_destroy,
                                            .replay = part_replay,
                                            .loaded = part_loaded,
                                            .clear = part_clear};

void coord_reload(struct cpart *p)
{
    clog_reload(&p->log);
}

void coord_poll(struct coord *c)
{
    if (clog_set_poll(&c->logs))
        offsets_on_image(c);
}

/* ----------------------------------------------------------------- requests */

void coord_on_call(struct shard *s, struct msg *m)
{
    struct group_call *call = container_of(m, struct group_call, msg);
    struct coord *c = s->kafka->coord;
    struct clog *log;
    call->coord = c;
    call->parked = NULL;
    coord_poll(c);
    int16_t error = clog_find(&c->logs, call->partition, &log);
    if (error != 0) {
        call_fail(call, error);
        return;
    }
    struct cpart *p = log != NULL ? container_of(log, struct cpart, log) : NULL;
    switch (call->api_key) {
    case JOIN_GROUP_REQUEST_KEY:
        group_on_join(p, call);
        break;
    case SYNC_GROUP_REQUEST_KEY:
        group_on_sync(p, call);
        break;
    case HEARTBEAT_REQUEST_KEY:
        group_on_heartbeat(p, call);
        break;
    case LEAVE_GROUP_REQUEST_KEY:
        group_on_leave(p, call);
        break;
    case DESCRIBE_GROUPS_REQUEST_KEY:
        group_on_describe(p, call);
        break;
    case DELETE_GROUPS_REQUEST_KEY:
        group_on_delete(p, call);
        break;
    case LIST_GROUPS_REQUEST_KEY:
        group_on_list(c, call);
        break;
    case OFFSET_COMMIT_REQUEST_KEY:
        offsets_on_commit(p, call);
        break;
    case TXN_OFFSET_COMMIT_REQUEST_KEY:
        txn_offsets_on_commit(p, call);
        break;
    case OFFSET_FETCH_REQUEST_KEY:
        offsets_on_fetch(p, call);
        break;
    case OFFSET_DELETE_REQUEST_KEY:
        offsets_on_delete(p, call);
        break;
    case CONSUMER_GROUP_HEARTBEAT_REQUEST_KEY:
        consumer_on_heartbeat(p, call);
        break;
    case CONSUMER_GROUP_DESCRIBE_REQUEST_KEY:
        consumer_on_describe(p, call);
        break;
    default:
        UNREACHABLE();
    }
}

void coord_on_cancel(struct shard *s, struct msg *m)
{
    struct group_cancel_msg *cancel = container_of(m, struct group_cancel_msg, msg);
    if (cancel->call->parked != NULL) {
        group_unpark(cancel->call);
        call_fail(cancel->call, KE_NOT_AVAILABLE);
    }
    msg_reply(s->mbox, m, 0);
}

/* ------------------------------------------------------------------- module */

static void on_expiry(struct timer *t, uint64_t now_ns)
{
    struct coord *c = container_of(t, struct coord, expiry);
    timer_arm(c->s->timers, t, now_ns + COORD_EXPIRY_MS * MS_NS, on_expiry);
    if (!c->draining)
        offsets_expire(c);
}

int coord_create(struct kafka *k, struct coord **ret)
{
    struct coord *c = (struct coord *)calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    if (id_table_init(&c->groups) < 0) {
        free(c);
        return -ENOMEM;
    }
    c->k = k;
    c->s = k->s;
    clog_set_init(&c->logs, k, &offsets_log);
    list_init(&c->topics);
    timer_arm(c->s->timers, &c->expiry, c->s->now_ns + COORD_EXPIRY_MS * MS_NS, on_expiry);
    *ret = c;
    return 0;
}

void coord_drain(struct coord *c)
{
    c->draining = true;
    clog_set_drain(&c->logs);
    for (uint32_t i = 0; i < c->logs.cnt; i++)
        list_for_each_safe(n, tmp, &coord_part(c, i)->groups)
        {
            group_fail_parked(container_of(n, struct group, part_link), KE_NOT_AVAILABLE);
        }
}

void coord_stats_get(const struct coord *c, struct kafka_stats *st)
{
    st->groups_empty = c->states[GROUP_EMPTY];
    st->groups_preparing = c->states[GROUP_PREPARING];
    st->groups_completing = c->states[GROUP_COMPLETING];
    st->groups_stable = c->states[GROUP_STABLE];
    st->groups_assigning = c->states[GROUP_ASSIGNING];
    st->groups_reconciling = c->states[GROUP_RECONCILING];
}

bool coord_is_idle(const struct coord *c)
{
    return clog_set_is_idle(&c->logs);
}

void coord_destroy(struct coord *c)
{
    if (c == NULL)
        return;
    clog_set_fini(&c->logs);
    timer_cancel(c->s->timers, &c->expiry);
    id_table_fini(&c->groups);
    free(c);
}
