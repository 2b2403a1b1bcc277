/* offsets.c - committed offsets: commit, fetch, delete, expiry. A commit is installed when its
 * records are durable; the log completes appends of a partition in order, so later commits win. */
#include "dataplane/kafka/group/txn_offsets.h"
#include "dataplane/kafka/group/consumer.h"
#include "lib/base/log.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define OFFSET_VALUE_VERSION 3
#define OFFSET_VALUE_VERSION_EXPIRES 1

/* ------------------------------------------------------------------- tables */

static int span_order(struct span a, struct span b)
{
    uint32_t n = a.len < b.len ? a.len : b.len;
    int d = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return d != 0 ? d : a.len < b.len ? -1 : a.len > b.len;
}

static void ctopic_note_id(struct coord *c, struct ctopic *t)
{
    const struct meta_topic *mt =
        c->s->image != NULL ? image_topic_by_name(c->s->image, t->name) : NULL;
    if (mt != NULL)
        t->id = mt->id;
}

static struct ctopic *ctopic_get(struct coord *c, struct span name)
{
    list_for_each(n, &c->topics)
    {
        struct ctopic *t = container_of(n, struct ctopic, link);
        if (span_eq(t->name, name)) {
            t->refs++;
            return t;
        }
    }
    struct ctopic *t = coord_alloc(c, sizeof(*t));
    if (t == NULL)
        return NULL;
    if (!coord_keep(c, name, &t->name)) {
        coord_free(c, t, sizeof(*t));
        return NULL;
    }
    t->refs = 1;
    ctopic_note_id(c, t);
    list_add_tail(&c->topics, &t->link);
    return t;
}

static void ctopic_put(struct coord *c, struct ctopic *t)
{
    if (--t->refs > 0)
        return;
    list_del(&t->link);
    coord_drop(c, &t->name);
    coord_free(c, t, sizeof(*t));
}

/* Index of the topic's row, or of where it belongs. */
static uint32_t topic_pos(const struct group *g, struct span name, bool *found)
{
    uint32_t lo = 0, hi = g->topic_cnt;
    *found = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int d = span_order(g->offsets[mid].topic->name, name);
        if (d == 0) {
            *found = true;
            return mid;
        }
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static uint32_t part_pos(const struct goffsets *t, int32_t partition, bool *found)
{
    uint32_t lo = 0, hi = t->cnt;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->v[mid].partition < partition)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = lo < t->cnt && t->v[lo].partition == partition;
    return lo;
}

const struct goffset *offset_find(const struct group *g, struct span topic, int32_t partition)
{
    bool found;
    uint32_t i = topic_pos(g, topic, &found);
    if (!found)
        return NULL;
    uint32_t k = part_pos(&g->offsets[i], partition, &found);
    return found ? &g->offsets[i].v[k] : NULL;
}

static struct goffsets *topic_get(struct group *g, struct span name)
{
    bool found;
    uint32_t i = topic_pos(g, name, &found);
    if (found)
        return &g->offsets[i];
    if (!coord_room(g->c, (void **)&g->offsets, g->topic_cnt, &g->topic_cap, sizeof(*g->offsets)))
        return NULL;
    struct ctopic *t = ctopic_get(g->c, name);
    if (t == NULL)
        return NULL;
    memmove(&g->offsets[i + 1], &g->offsets[i], (g->topic_cnt - i) * sizeof(*g->offsets));
    g->offsets[i] = (struct goffsets){.topic = t};
    g->topic_cnt++;
    return &g->offsets[i];
}

static void topic_remove(struct group *g, uint32_t i)
{
    struct goffsets *t = &g->offsets[i];
    for (uint32_t k = 0; k < t->cnt; k++)
        coord_drop(g->c, &t->v[k].metadata);
    g->offset_cnt -= t->cnt;
    coord_free(g->c, t->v, t->cap * sizeof(*t->v));
    ctopic_put(g->c, t->topic);
    memmove(t, t + 1, (g->topic_cnt - i - 1) * sizeof(*t));
    g->topic_cnt--;
}

bool offset_put(struct group *g, struct span topic, const struct goffset *o)
{
    struct span metadata;
    bool found;
    if (!coord_keep(g->c, o->metadata, &metadata))
        return false;
    struct goffsets *t = topic_get(g, topic);
    if (t == NULL) {
        coord_drop(g->c, &metadata);
        return false;
    }
    uint32_t k = part_pos(t, o->partition, &found);
    if (!found) {
        if (!coord_room(g->c, (void **)&t->v, t->cnt, &t->cap, sizeof(*t->v))) {
            coord_drop(g->c, &metadata);
            if (t->cnt == 0)
                topic_remove(g, (uint32_t)(t - g->offsets));
            return false;
        }
        memmove(&t->v[k + 1], &t->v[k], (t->cnt - k) * sizeof(*t->v));
        t->cnt++;
        g->offset_cnt++;
    } else {
        coord_drop(g->c, &t->v[k].metadata);
    }
    t->v[k] = *o;
    t->v[k].metadata = metadata;
    if (t->v[k].seq == 0)
        t->v[k].seq = ++g->c->offset_seq;
    return true;
}

static void offset_remove(struct group *g, struct span topic, int32_t partition)
{
    bool found;
    uint32_t i = topic_pos(g, topic, &found);
    if (!found)
        return;
    struct goffsets *t = &g->offsets[i];
    uint32_t k = part_pos(t, partition, &found);
    if (!found)
        return;
    if (t->cnt == 1) {
        topic_remove(g, i);
        return;
    }
    coord_drop(g->c, &t->v[k].metadata);
    memmove(&t->v[k], &t->v[k + 1], (t->cnt - k - 1) * sizeof(*t->v));
    t->cnt--;
    g->offset_cnt--;
}

void offsets_clear(struct group *g)
{
    while (g->topic_cnt > 0)
        topic_remove(g, g->topic_cnt - 1);
    coord_free(g->c, g->offsets, g->topic_cap * sizeof(*g->offsets));
    g->offsets = NULL;
    g->topic_cap = 0;
}

/* ------------------------------------------------------------------- records */

struct span offset_key(struct arena *a, struct span group, struct span topic, int32_t part)
{
    struct offset_commit_key key = {.group = group, .topic = topic, .partition = part};
    size_t len = 2 + offset_commit_key_size(&key, 0);
    uint8_t *p = arena_alloc(a, len);
    if (p == NULL)
        return SPAN_NULL;
    struct wire_writer w;
    wire_writer_init(&w, p, len);
    wire_put_i16(&w, OFFSET_COMMIT_KEY_KEY);
    offset_commit_key_write(&w, 0, &key);
    return span_of(p, (uint32_t)len);
}

struct span offset_value(struct arena *a, const struct goffset *o)
{
    int16_t version = o->expire_ms >= 0 ? OFFSET_VALUE_VERSION_EXPIRES : OFFSET_VALUE_VERSION;
    struct offset_commit_value v;
    offset_commit_value_init(&v);
    v.offset = o->offset;
    v.leader_epoch = o->leader_epoch;
    v.metadata = o->metadata;
    v.commit_timestamp = o->commit_ms;
    v.expire_timestamp = o->expire_ms;
    size_t len = 2 + offset_commit_value_size(&v, version);
    uint8_t *p = arena_alloc(a, len);
    if (p == NULL)
        return SPAN_NULL;
    struct wire_writer w;
    wire_writer_init(&w, p, len);
    wire_put_i16(&w, version);
    offset_commit_value_write(&w, version, &v);
    return span_of(p, (uint32_t)len);
}

static void write_deleted(struct group *g, struct coord_write *w, struct arena *a,
                          struct span topic, int32_t partition)
{
    struct span key = offset_key(a, g->id, topic, partition);
    if (span_is_null(key))
        w->w.rc = -ENOMEM;
    coord_write_add(w, key, SPAN_NULL);
}

void offsets_write_deleted(struct group *g, struct coord_write *w, struct arena *a)
{
    for (uint32_t i = 0; i < g->topic_cnt; i++)
        for (uint32_t k = 0; k < g->offsets[i].cnt; k++)
            write_deleted(g, w, a, g->offsets[i].topic->name, g->offsets[i].v[k].partition);
}

int offsets_replay(struct cpart *p, int64_t producer_id, const struct offset_commit_key *k,
                   const struct offset_commit_value *v)
{
    struct group *g = v != NULL ? coord_get(p, k->group) : coord_find(p->c, k->group);
    if (v == NULL) {
        if (g != NULL)
            offset_remove(g, k->topic, k->partition);
        return 0;
    }
    struct goffset o = {.partition = k->partition,
                        .leader_epoch = v->leader_epoch,
                        .offset = v->offset,
                        .commit_ms = v->commit_timestamp,
                        .expire_ms = v->expire_timestamp,
                        .metadata = v->metadata};
    if (g == NULL)
        return -ENOMEM;
    bool ok = producer_id < 0 ? offset_put(g, k->topic, &o)
                              : txn_offsets_put(g, producer_id, k->topic, &o);
    return ok ? 0 : -ENOMEM;
}

/* ------------------------------------------------------------------- OffsetCommit */

int16_t offsets_check(struct cpart *p, struct commit_who *who, struct group **ret_group)
{
    struct group *g = coord_find(p->c, who->group);
    struct member *m = NULL;
    if (g == NULL) {
        if (who->generation >= 0)
            return who->version >= 9 ? KE_GROUP_NOT_FOUND : KE_ILLEGAL_GENERATION;
        g = coord_get(p, who->group);
        *ret_group = g;
        return g == NULL ? KE_NOT_AVAILABLE : 0;
    }
    *ret_group = g;
    who->old = NULL;
    if (g->consumer != NULL)
        return consumer_check_commit(g, who);
    if (who->generation < 0 && g->state == GROUP_EMPTY)
        return 0; /* a consumer that assigns its partitions itself */
    if (who->generation >= 0 || who->member_id.len > 0 || !span_is_null(who->instance_id)) {
        int16_t error = group_check_member(g, who->member_id, who->instance_id, &m);
        if (error != 0)
            return error;
        if (who->generation != g->generation)
            return KE_ILLEGAL_GENERATION;
    } else if (!who->is_txn) {
        return KE_UNKNOWN_MEMBER;
    }
    if (who->is_txn)
        return 0;
    if (g->state == GROUP_COMPLETING)
        return KE_REBALANCE;
    group_touch(m);
    return 0;
}

struct commit *commit_begin(struct cpart *p, struct group_call *call, struct commit_who *who,
                            uint32_t topic_cnt)
{
    struct group *g = NULL;
    int16_t error = offsets_check(p, who, &g);
    if (error != 0) {
        call_fail(call, error);
        return NULL;
    }
    struct coord_write *w = coord_write_new(p, g);
    struct commit *cm = arena_alloc(&call->arena, sizeof(*cm));
    if (cm != NULL)
        *cm = (struct commit){.w = w,
                              .names = arena_array(&call->arena, topic_cnt, sizeof(*cm->names)),
                              .now_ms = p->c->s->wall_ms,
                              .generation = who->generation,
                              .old = who->old};
    if (w == NULL || cm == NULL || cm->names == NULL) {
        if (w != NULL)
            coord_write_drop(w);
        call_fail(call, KE_COMMIT_SIZE);
        return NULL;
    }
    call->ctx = cm;
    return cm;
}

int16_t commit_add(struct group_call *call, const struct meta_topic *t, struct span name,
                   const struct goffset *o)
{
    struct commit *cm = call->ctx;
    if (t == NULL || o->partition < 0 || (uint32_t)o->partition >= t->partition_cnt)
        return KE_UNKNOWN_TOPIC;
    if (o->metadata.len > COMMIT_METADATA_MAX)
        return KE_METADATA_TOO_LARGE;
    if (cm->old != NULL && !consumer_may_commit_old(cm->old, &t->id, o->partition, cm->generation))
        return KE_STALE_MEMBER_EPOCH;
    struct span key = offset_key(&call->arena, cm->w->g->id, name, o->partition);
    struct span value = offset_value(&call->arena, o);
    if (span_is_null(key) || span_is_null(value))
        return KE_COMMIT_SIZE;
    coord_write_add(cm->w, key, value);
    return 0;
}

void commit_end(struct group_call *call, bool is_whole,
                void (*done)(struct coord_write *w, int16_t error))
{
    struct commit *cm = call->ctx;
    struct coord_write *w = cm->w;
    if (is_whole && w->w.rc == 0 && !clog_write_is_empty(&w->w)) {
        w->call = call;
        w->done = done;
        coord_write_submit(w);
        return;
    }
    bool failed = !is_whole || w->w.rc < 0;
    coord_write_drop(w);
    if (failed)
        call_fail(call, KE_COMMIT_SIZE);
    else
        call_reply(call); /* there is nothing to write */
}

static struct goffset commit_offset(const struct offset_commit_request *in,
                                    const struct offset_commit_request_partition *part,
                                    int64_t now_ms)
{
    return (struct goffset){
        .partition = part->partition_index,
        .leader_epoch = part->committed_leader_epoch,
        .offset = part->committed_offset,
        .commit_ms = now_ms,
        .expire_ms = in->retention_time_ms >= 0 ? now_ms + in->retention_time_ms : -1,
        .metadata = span_is_null(part->committed_metadata) ? WIRE_EMPTY : part->committed_metadata,
    };
}

static void on_commit_durable(struct coord_write *w, int16_t error)
{
    struct group_call *call = w->call;
    const struct offset_commit_request *in = call->in;
    const struct commit *cm = call->ctx;
    struct group *g = w->g;
    if (error == KE_UNKNOWN && err_kafka_code(w->w.rc) == 10)
        error = KE_COMMIT_SIZE;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct offset_commit_request_topic *t = &in->topics.v[i];
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            int16_t *code = &call->out.commit.topics.v[i].partitions.v[k].error_code;
            if (*code != 0)
                continue;
            struct goffset o = commit_offset(in, &t->partitions.v[k], cm->now_ms);
            *code = error;
            if (error == 0 && g->state != GROUP_DEAD && !offset_put(g, cm->names[i], &o)) {
                *code = KE_COMMIT_SIZE;
                coord_reload(w->p);
            }
            g->c->k->st.offset_commits += *code == 0;
        }
    }
    call_reply(call);
}

/* The answer's rows, and what is to be written. False: no memory. */
static bool commit_rows(struct cpart *p, struct group_call *call)
{
    const struct offset_commit_request *in = call->in;
    struct offset_commit_response *out = &call->out.commit;
    const struct meta_image *img = p->c->s->image;
    struct commit *cm = call->ctx;
    bool by_id = call->version >= 10;
    out->topics.v = arena_array(&call->arena, in->topics.cnt, sizeof(*out->topics.v));
    if (out->topics.v == NULL)
        return false;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct offset_commit_request_topic *t = &in->topics.v[i];
        struct offset_commit_response_topic *o = &out->topics.v[out->topics.cnt++];
        const struct meta_topic *mt =
            by_id ? image_topic_by_id(img, &t->topic_id) : image_topic_by_name(img, t->name);
        offset_commit_response_topic_init(o);
        o->name = t->name;
        o->topic_id = t->topic_id;
        cm->names[i] = mt != NULL ? call_keep(call, span_str(mt->name)) : SPAN_NULL;
        o->partitions.v = arena_array(&call->arena, t->partitions.cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            return false;
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            struct offset_commit_response_partition *op = &o->partitions.v[o->partitions.cnt++];
            struct goffset off = commit_offset(in, &t->partitions.v[k], cm->now_ms);
            offset_commit_response_partition_init(op);
            op->partition_index = off.partition;
            op->error_code = mt == NULL && by_id ? KE_UNKNOWN_TOPIC_ID
                                                 : commit_add(call, mt, cm->names[i], &off);
        }
    }
    return true;
}

void offsets_on_commit(struct cpart *p, struct group_call *call)
{
    const struct offset_commit_request *in = call->in;
    struct commit_who who = {.group = in->group_id,
                             .member_id = in->member_id,
                             .instance_id = in->group_instance_id,
                             .generation = in->generation_id_or_member_epoch,
                             .version = call->version};
    offset_commit_response_init(&call->out.commit);
    if (commit_begin(p, call, &who, in->topics.cnt) != NULL)
        commit_end(call, commit_rows(p, call), on_commit_durable);
}

/* ------------------------------------------------------------------- OffsetFetch */

static void fetch_fill(struct offset_fetch_response_group_partition *o, struct group_call *call,
                       const struct goffset *g)
{
    o->committed_offset = g->offset;
    o->committed_leader_epoch = g->leader_epoch;
    o->metadata = call_keep(call, g->metadata);
}

static bool fetch_asked(struct group_call *call, const struct coord *c, const struct group *g)
{
    const struct offset_fetch_request_group *in = call->in;
    struct offset_fetch_response_group *out = &call->out.fetch;
    out->topics.v = arena_array(&call->arena, in->topics.cnt, sizeof(*out->topics.v));
    if (out->topics.v == NULL)
        return false;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct offset_fetch_request_group_topic *t = &in->topics.v[i];
        struct offset_fetch_response_group_topic *o = &out->topics.v[out->topics.cnt++];
        struct span name = t->name;
        bool unknown = false;
        offset_fetch_response_group_topic_init(o);
        o->name = t->name;
        o->topic_id = t->topic_id;
        if (call->version >= 10) {
            const struct meta_topic *mt = image_topic_by_id(c->s->image, &t->topic_id);
            unknown = mt == NULL;
            name = mt != NULL ? span_str(mt->name) : WIRE_EMPTY;
        }
        uint32_t cnt = t->partition_indexes.cnt;
        o->partitions.v = arena_array(&call->arena, cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            return false;
        for (uint32_t k = 0; k < cnt; k++) {
            struct offset_fetch_response_group_partition *op =
                &o->partitions.v[o->partitions.cnt++];
            offset_fetch_response_group_partition_init(op);
            op->partition_index = t->partition_indexes.v[k];
            op->committed_offset = -1;
            op->metadata = WIRE_EMPTY;
            op->error_code = unknown ? KE_UNKNOWN_TOPIC_ID : 0;
            const struct goffset *have =
                g != NULL && !unknown ? offset_find(g, name, op->partition_index) : NULL;
            if (g != NULL && call->require_stable &&
                txn_offsets_is_pending(g, name, op->partition_index))
                op->error_code = KE_UNSTABLE_OFFSET;
            else if (have != NULL)
                fetch_fill(op, call, have);
        }
    }
    return true;
}

static bool fetch_all(struct group_call *call, const struct coord *c, const struct group *g)
{
    struct offset_fetch_response_group *out = &call->out.fetch;
    uint32_t cnt = g != NULL ? g->topic_cnt : 0;
    out->topics.v = arena_array(&call->arena, cnt, sizeof(*out->topics.v));
    if (out->topics.v == NULL)
        return false;
    for (uint32_t i = 0; i < cnt; i++) {
        const struct goffsets *t = &g->offsets[i];
        const struct meta_topic *mt = image_topic_by_name(c->s->image, t->topic->name);
        if (mt == NULL && call->version >= 10)
            continue; /* it has no id any more */
        struct offset_fetch_response_group_topic *o = &out->topics.v[out->topics.cnt++];
        offset_fetch_response_group_topic_init(o);
        o->name = call_keep(call, t->topic->name);
        if (mt != NULL)
            o->topic_id = mt->id;
        o->partitions.v = arena_array(&call->arena, t->cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            return false;
        for (uint32_t k = 0; k < t->cnt; k++) {
            struct offset_fetch_response_group_partition *op =
                &o->partitions.v[o->partitions.cnt++];
            offset_fetch_response_group_partition_init(op);
            op->partition_index = t->v[k].partition;
            if (call->require_stable &&
                txn_offsets_is_pending(g, t->topic->name, op->partition_index)) {
                op->committed_offset = -1;
                op->metadata = WIRE_EMPTY;
                op->error_code = KE_UNSTABLE_OFFSET;
                continue;
            }
            fetch_fill(op, call, &t->v[k]);
        }
    }
    return true;
}

void offsets_on_fetch(struct cpart *p, struct group_call *call)
{
    const struct offset_fetch_request_group *in = call->in;
    const struct group *g = coord_find(p->c, in->group_id);
    offset_fetch_response_group_init(&call->out.fetch);
    call->out.fetch.group_id = in->group_id;
    if (g != NULL && g->consumer != NULL && call->version >= 9) {
        int16_t error = consumer_check_fetch(g, in->member_id, in->member_epoch);
        if (error != 0) {
            call_fail(call, error);
            return;
        }
    }
    if (in->topics.null ? fetch_all(call, p->c, g) : fetch_asked(call, p->c, g))
        call_reply(call);
    else
        call_fail(call, KE_UNKNOWN);
}

/* ------------------------------------------------------------------- OffsetDelete */

static void on_offsets_deleted(struct coord_write *w, int16_t error)
{
    if (error != 0) {
        call_fail(w->call, error);
        coord_reload(w->p);
        return;
    }
    call_reply(w->call);
}

void offsets_on_delete(struct cpart *p, struct group_call *call)
{
    const struct offset_delete_request *in = call->in;
    struct offset_delete_response *out = &call->out.offset_delete;
    struct group *g = coord_find(p->c, in->group_id);
    struct coord_write *w = NULL;
    offset_delete_response_init(out);
    if (g == NULL || (g->state != GROUP_EMPTY && !group_is_consumer(g))) {
        call_fail(call, g == NULL ? KE_GROUP_NOT_FOUND : KE_NON_EMPTY_GROUP);
        return;
    }
    out->topics.v = arena_array(&call->arena, in->topics.cnt, sizeof(*out->topics.v));
    w = coord_write_new(p, g);
    if (out->topics.v == NULL || w == NULL)
        goto undo;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct offset_delete_request_topic *t = &in->topics.v[i];
        struct offset_delete_response_topic *o = &out->topics.v[out->topics.cnt++];
        const struct meta_topic *mt = image_topic_by_name(p->c->s->image, t->name);
        bool used = g->state != GROUP_EMPTY && group_subscribes(g, t->name);
        offset_delete_response_topic_init(o);
        o->name = t->name;
        o->partitions.v = arena_array(&call->arena, t->partitions.cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL)
            goto undo;
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            int32_t part = t->partitions.v[k].partition_index;
            struct offset_delete_response_partition *op = &o->partitions.v[o->partitions.cnt++];
            offset_delete_response_partition_init(op);
            op->partition_index = part;
            if (mt == NULL || part < 0 || (uint32_t)part >= mt->partition_cnt)
                op->error_code = KE_UNKNOWN_TOPIC;
            else if (used)
                op->error_code = KE_SUBSCRIBED;
            else if (offset_find(g, t->name, part) != NULL)
                write_deleted(g, w, &call->arena, t->name, part);
        }
    }
    if (w->w.rc < 0)
        goto undo;
    if (clog_write_is_empty(&w->w)) {
        coord_write_drop(w);
        call_reply(call);
        return;
    }
    for (uint32_t i = 0; i < in->topics.cnt; i++)
        for (uint32_t k = 0; k < in->topics.v[i].partitions.cnt; k++)
            if (out->topics.v[i].partitions.v[k].error_code == 0)
                offset_remove(g, in->topics.v[i].name,
                              in->topics.v[i].partitions.v[k].partition_index);
    w->call = call;
    w->done = on_offsets_deleted;
    coord_write_submit(w);
    return;
undo:
    if (w != NULL)
        coord_write_drop(w);
    call_fail(call, KE_UNKNOWN);
}

/* ------------------------------------------------------------------- expiry */

static void on_swept(struct coord_write *w, int16_t error)
{
    if (error != 0)
        coord_reload(w->p);
}

static bool is_expired(const struct group *g, const struct ctopic *t, const struct goffset *o,
                       int64_t now_ms)
{
    int64_t since = o->commit_ms;
    if (g->consumer != NULL) { /* counted from the commit */
        if (group_subscribes(g, t->name))
            return false;
    } else if (g->protocol_type.len > 0) {
        if (g->state == GROUP_EMPTY)
            since = g->state_ms;
        else if (g->state != GROUP_STABLE || !group_is_consumer(g) || group_subscribes(g, t->name))
            return false;
    }
    if (o->expire_ms >= 0)
        return now_ms >= o->expire_ms;
    return now_ms - since >= (int64_t)g->c->s->conf->offsets_retention_ms;
}

/* Remove the group's offsets for which `gone` says so, and the group with its last one. */
static void sweep(struct group *g, bool (*gone)(const struct group *g, const struct ctopic *t,
                                                const struct goffset *o, int64_t now_ms))
{
    struct arena a;
    int64_t now_ms = g->c->s->wall_ms;
    bool had = group_has_record(g);
    bool busy = g->refs > 1; /* something is on its way into the log */
    if (g->offset_cnt == 0 && (busy || !group_is_unused(g)))
        return;
    struct coord_write *w = coord_write_new(g->p, g);
    if (w == NULL)
        return; /* next time */
    arena_init(&a, COORD_CALL_BYTES_MAX);
    for (uint32_t i = g->topic_cnt; i-- > 0;) {
        struct goffsets *t = &g->offsets[i];
        bool last = false;
        for (uint32_t k = t->cnt; k-- > 0 && !last && w->w.rc == 0;) {
            if (!gone(g, t->topic, &t->v[k], now_ms))
                continue;
            write_deleted(g, w, &a, t->topic->name, t->v[k].partition);
            last = t->cnt == 1; /* then the row goes too */
            if (w->w.rc != 0)
                break;
            offset_remove(g, t->topic->name, t->v[k].partition);
            g->c->k->st.offsets_expired += gone == is_expired;
        }
    }
    if (!busy && group_is_unused(g) && w->w.rc == 0) {
        if (had)
            group_write_deleted(g, w, &a);
        group_remove(g, KE_UNKNOWN_MEMBER);
    }
    arena_fini(&a);
    if (clog_write_is_empty(&w->w)) {
        coord_write_drop(w);
        return;
    }
    w->w.rc = 0; /* what was collected before memory ran out is deleted, the rest next time */
    w->done = on_swept;
    coord_write_submit(w);
}

static void sweep_all(struct coord *c, bool (*gone)(const struct group *g, const struct ctopic *t,
                                                    const struct goffset *o, int64_t now_ms))
{
    for (uint32_t i = 0; i < c->logs.cnt; i++) {
        if (coord_part(c, i)->log.state != CLOG_READY)
            continue;
        list_for_each_safe(n, tmp, &coord_part(c, i)->groups)
        {
            sweep(container_of(n, struct group, part_link), gone);
        }
    }
}

void offsets_expire(struct coord *c)
{
    sweep_all(c, is_expired);
}

static bool topic_is_gone(const struct group *g, const struct ctopic *t, const struct goffset *o,
                          int64_t now_ms)
{
    (void)o;
    (void)now_ms;
    const struct meta_topic *mt = image_topic_by_name(g->c->s->image, t->name);
    return !uuid_is_zero(&t->id) && (mt == NULL || !uuid_eq(&mt->id, &t->id));
}

void offsets_on_image(struct coord *c)
{
    bool gone = false;
    list_for_each(n, &c->topics)
    {
        struct ctopic *t = container_of(n, struct ctopic, link);
        const struct meta_topic *mt = image_topic_by_name(c->s->image, t->name);
        if (uuid_is_zero(&t->id))
            ctopic_note_id(c, t);
        else if (mt == NULL || !uuid_eq(&mt->id, &t->id))
            gone = true;
    }
    if (!gone)
        return;
    sweep_all(c, topic_is_gone);
    list_for_each(n, &c->topics) /* offsets of the topic that has the name now may stay */
    {
        ctopic_note_id(c, container_of(n, struct ctopic, link));
    }
}
