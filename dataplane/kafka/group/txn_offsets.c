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

struct commit {         /* one under way */
    struct span *names; /* of the request's topics; null: unknown */
    int64_t now_ms;
    const struct cmember *old; /* of commit_who; only while the call is checked */
};

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

static int16_t add_partition(struct group_call *call, struct group *g, struct coord_write *w,
                             const struct meta_topic *t, struct span name,
                             const struct txn_offset_commit_request_partition *part)
{
    const struct commit *cm = call->ctx;
    if (t == NULL || part->partition_index < 0 ||
        (uint32_t)part->partition_index >= t->partition_cnt)
        return KE_UNKNOWN_TOPIC;
    if (part->committed_metadata.len > COMMIT_METADATA_MAX)
        return KE_METADATA_TOO_LARGE;
    if (cm->old != NULL && !consumer_may_commit_old(
                               cm->old, &t->id, part->partition_index,
                               ((const struct txn_offset_commit_request *)call->in)->generation_id))
        return KE_STALE_MEMBER_EPOCH;
    struct goffset o = offset_of(part, cm->now_ms);
    struct span key = offset_key(&call->arena, g->id, name, part->partition_index);
    struct span value = offset_value(&call->arena, &o);
    if (span_is_null(key) || span_is_null(value))
        return KE_COMMIT_SIZE;
    coord_write_add(w, key, value);
    return 0;
}

void txn_offsets_on_commit(struct cpart *p, struct group_call *call)
{
    const struct txn_offset_commit_request *in = call->in;
    struct txn_offset_commit_response *out = &call->out.txn_commit;
    struct group *g = NULL;
    struct commit_who who = {.group = in->group_id,
                             .member_id = in->member_id,
                             .instance_id = in->group_instance_id,
                             .generation = in->generation_id,
                             .is_txn = true};
    int16_t error = offsets_check(p, &who, &g);
    if (error != 0) {
        call_fail(call, error);
        return;
    }
    struct coord_write *w = coord_write_new(p, g);
    struct commit *cm = arena_alloc(&call->arena, sizeof(*cm));
    txn_offset_commit_response_init(out);
    out->topics.v = arena_array(&call->arena, in->topics.cnt, sizeof(*out->topics.v));
    if (cm != NULL)
        cm->names = arena_array(&call->arena, in->topics.cnt, sizeof(*cm->names));
    if (w == NULL || cm == NULL || cm->names == NULL || out->topics.v == NULL)
        goto undo;
    cm->now_ms = p->c->s->wall_ms;
    cm->old = who.old;
    call->ctx = cm;
    uint32_t good = 0;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct txn_offset_commit_request_topic *t = &in->topics.v[i];
        struct txn_offset_commit_response_topic *o = &out->topics.v[out->topics.cnt++];
        const struct meta_topic *mt = image_topic_by_name(p->c->s->image, t->name);
        txn_offset_commit_response_topic_init(o);
        o->name = t->name;
        cm->names[i] = t->name;
        o->partitions.v = arena_array(&call->arena, t->partitions.cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            goto undo;
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            struct txn_offset_commit_response_partition *op = &o->partitions.v[o->partitions.cnt++];
            txn_offset_commit_response_partition_init(op);
            op->partition_index = t->partitions.v[k].partition_index;
            op->error_code = add_partition(call, g, w, mt, t->name, &t->partitions.v[k]);
            good += op->error_code == 0;
        }
    }
    if (w->w.rc < 0)
        goto undo;
    if (good == 0) {
        coord_write_drop(w);
        call_reply(call);
        return;
    }
    w->call = call;
    w->done = on_durable;
    w->w.seal.producer_id = in->producer_id;
    w->w.seal.producer_epoch = in->producer_epoch;
    w->w.seal.attributes = BATCH_ATTR_TRANSACTIONAL;
    coord_write_submit(w);
    return;
undo:
    if (w != NULL)
        coord_write_drop(w);
    call_fail(call, KE_COMMIT_SIZE);
}
