/* txn_offsets.c - see txn_offsets.h. */
#include "dataplane/kafka/group/txn_offsets.h"
#include "dataplane/kafka/group/consumer.h"
#include "lib/batch/layout.h"
#include "lib/meta/image.h"

/* -------------------------------------------------------------------- table */

static struct txn_offsets *find(const struct group *g, int64_t producer_id)
{
    list_for_each(n, &g->p->txns)
    {
        struct txn_offsets *t = container_of(n, struct txn_offsets, link);
        if (t->g == g && t->producer_id == producer_id)
            return t;
    }
    return NULL;
}

static void drop(struct txn_offsets *t)
{
    struct group *g = t->g;
    for (uint32_t i = 0; i < t->cnt; i++) {
        coord_drop(g->c, &t->v[i].topic);
        coord_drop(g->c, &t->v[i].o.metadata);
    }
    coord_free(g->c, t->v, t->cap * sizeof(*t->v));
    list_del(&t->link);
    coord_free(g->c, t, sizeof(*t));
    group_put(g);
}

static struct txn_offsets *get(struct group *g, int64_t producer_id)
{
    struct txn_offsets *t = find(g, producer_id);
    if (t != NULL)
        return t;
    t = coord_alloc(g->c, sizeof(*t));
    if (t == NULL)
        return NULL;
    t->g = g;
    g->refs++;
    t->producer_id = producer_id;
    list_add_tail(&g->p->txns, &t->link);
    return t;
}

static struct txn_offset *slot_of(const struct txn_offsets *t, struct span topic, int32_t partition)
{
    for (uint32_t i = 0; i < t->cnt; i++)
        if (t->v[i].o.partition == partition && span_eq(t->v[i].topic, topic))
            return &t->v[i];
    return NULL;
}

bool txn_offsets_put(struct group *g, int64_t producer_id, struct span topic,
                     const struct goffset *o)
{
    struct txn_offset fresh = {.o = *o};
    struct txn_offsets *t = get(g, producer_id);
    if (t == NULL)
        return false;
    struct txn_offset *slot = slot_of(t, topic, o->partition);
    void *v = t->v;
    bool ok = coord_keep(g->c, o->metadata, &fresh.o.metadata) &&
              coord_keep(g->c, topic, &fresh.topic) &&
              (slot != NULL || coord_room(g->c, &v, t->cnt, &t->cap, sizeof(*t->v)));
    t->v = v;
    if (!ok) {
        coord_drop(g->c, &fresh.o.metadata);
        coord_drop(g->c, &fresh.topic);
        if (t->cnt == 0)
            drop(t);
        return false;
    }
    fresh.o.seq = ++g->c->offset_seq;
    if (slot == NULL) {
        slot = &t->v[t->cnt++];
    } else {
        coord_drop(g->c, &slot->o.metadata);
        coord_drop(g->c, &slot->topic);
    }
    *slot = fresh;
    return true;
}

/* A commit outside of the transaction that came after it in the log wins. */
static bool install(struct txn_offsets *t)
{
    for (uint32_t i = 0; i < t->cnt; i++) {
        const struct goffset *have = offset_find(t->g, t->v[i].topic, t->v[i].o.partition);
        if (have != NULL && have->seq > t->v[i].o.seq)
            continue;
        if (!offset_put(t->g, t->v[i].topic, &t->v[i].o))
            return false;
    }
    return true;
}

bool txn_offsets_end(struct cpart *p, int64_t producer_id, bool commit)
{
    bool ok = true;
    list_for_each_safe(n, tmp, &p->txns)
    {
        struct txn_offsets *t = container_of(n, struct txn_offsets, link);
        if (t->producer_id != producer_id)
            continue;
        if (commit && t->g->state != GROUP_DEAD)
            ok = install(t) && ok;
        drop(t);
    }
    return ok;
}

bool txn_offsets_is_pending(const struct group *g, struct span topic, int32_t partition)
{
    list_for_each(n, &g->p->txns)
    {
        const struct txn_offsets *t = container_of(n, struct txn_offsets, link);
        if (t->g == g && slot_of(t, topic, partition) != NULL)
            return true;
    }
    return false;
}

void txn_offsets_clear(struct cpart *p)
{
    while (!list_is_empty(&p->txns))
        drop(container_of(p->txns.next, struct txn_offsets, link));
}

void coord_on_marker(struct coord *c, int32_t partition, int64_t producer_id, bool commit)
{
    struct clog *log;
    if (clog_find(&c->logs, partition, &log) != 0 || log == NULL)
        return; /* it is being read, or will be: the marker is there */
    struct cpart *p = container_of(log, struct cpart, log);
    if (!txn_offsets_end(p, producer_id, commit))
        coord_reload(p);
}

/* ---------------------------------------------------------- TxnOffsetCommit */

static struct goffset offset_of(const struct txn_offset_commit_request_partition *part,
                                int64_t now_ms)
{
    return (struct goffset){
        .partition = part->partition_index,
        .leader_epoch = part->committed_leader_epoch,
        .offset = part->committed_offset,
        .commit_ms = now_ms,
        .expire_ms = -1,
        .metadata = span_is_null(part->committed_metadata) ? WIRE_EMPTY : part->committed_metadata,
    };
}

static void on_durable(struct coord_write *w, int16_t error)
{
    struct group_call *call = w->call;
    const struct txn_offset_commit_request *in = call->in;
    const struct commit *cm = call->ctx;
    int code = err_kafka_code(w->w.rc);
    if (error == KE_UNKNOWN && code == KE_INVALID_PRODUCER_EPOCH)
        error = KE_INVALID_PRODUCER_EPOCH;
    else if (error == KE_UNKNOWN && code == KE_BATCH_TOO_LARGE)
        error = KE_COMMIT_SIZE;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct txn_offset_commit_request_topic *t = &in->topics.v[i];
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            int16_t *to = &call->out.txn_commit.topics.v[i].partitions.v[k].error_code;
            struct goffset o = offset_of(&t->partitions.v[k], cm->now_ms);
            if (*to != 0)
                continue;
            *to = error;
            if (error == 0 && w->g->state != GROUP_DEAD &&
                !txn_offsets_put(w->g, in->producer_id, cm->names[i], &o)) {
                *to = KE_COMMIT_SIZE;
                coord_reload(w->p);
            }
            w->p->c->k->st.offset_commits += *to == 0;
        }
    }
    call_reply(call);
}

/* The answer's rows, and what is to be written. False: no memory. */
static bool commit_rows(struct cpart *p, struct group_call *call)
{
    const struct txn_offset_commit_request *in = call->in;
    struct txn_offset_commit_response *out = &call->out.txn_commit;
    struct commit *cm = call->ctx;
    out->topics.v = arena_array(&call->arena, in->topics.cnt, sizeof(*out->topics.v));
    if (out->topics.v == NULL)
        return false;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct txn_offset_commit_request_topic *t = &in->topics.v[i];
        struct txn_offset_commit_response_topic *o = &out->topics.v[out->topics.cnt++];
        const struct meta_topic *mt = image_topic_by_name(p->c->s->image, t->name);
        txn_offset_commit_response_topic_init(o);
        o->name = cm->names[i] = t->name;
        o->partitions.v = arena_array(&call->arena, t->partitions.cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            return false;
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            struct txn_offset_commit_response_partition *op = &o->partitions.v[o->partitions.cnt++];
            struct goffset off = offset_of(&t->partitions.v[k], cm->now_ms);
            txn_offset_commit_response_partition_init(op);
            op->partition_index = off.partition;
            op->error_code = commit_add(call, mt, t->name, &off);
        }
    }
    return true;
}

void txn_offsets_on_commit(struct cpart *p, struct group_call *call)
{
    const struct txn_offset_commit_request *in = call->in;
    struct commit_who who = {.group = in->group_id,
                             .member_id = in->member_id,
                             .instance_id = in->group_instance_id,
                             .generation = in->generation_id,
                             .is_txn = true};
    txn_offset_commit_response_init(&call->out.txn_commit);
    struct commit *cm = commit_begin(p, call, &who, in->topics.cnt);
    if (cm == NULL)
        return;
    cm->w->w.seal.producer_id = in->producer_id;
    cm->w->w.seal.producer_epoch = in->producer_epoch;
    cm->w->w.seal.attributes = BATCH_ATTR_TRANSACTIONAL;
    commit_end(call, commit_rows(p, call), on_durable);
}
