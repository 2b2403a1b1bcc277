/* plog_lookup.c - ListOffsets: the ends of the log, and the record at a time. */
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

#define LOOKUP_BYTES (1u << 20)
#define LOOKUP_SCRATCH_MAX (64u << 20)

/* Look-up by time: reads batches from where the time index says, until one has a record late
 * enough. One request may ask for thousands: LOOKUPS_MAX are under way, the rest stand in line and
 * hold nothing. What is inflated goes to one buffer of the set, as it is used within a call. */
struct lookup {
    struct plog_read r;
    struct plog_list_offsets *q;
    struct plog_set *set;
    int64_t ts, limit;
    uint8_t *buf;
};

static void list_done(struct plog_set *set, struct plog_list_offsets *q, int rc)
{
    q->rc = rc;
    list_add_tail(&set->ready_lists, &q->link);
}

static void lookup_by_time(struct plog *p, struct plog_list_offsets *q);

static void lookup_end(struct lookup *l, int rc)
{
    struct plog_set *set = l->set;
    list_done(set, l->q, rc);
    free(l->buf);
    free(l);
    set->lookup_cnt--;
    while (set->lookup_cnt < LOOKUPS_MAX && !list_is_empty(&set->lookup_wait)) {
        struct plog_list_offsets *q =
            container_of(list_pop_head(&set->lookup_wait), struct plog_list_offsets, link);
        struct plog *p = plog_set_find(set, &q->topic_id, q->partition);
        if (p == NULL)
            list_done(set, q, -E_UNKNOWN_TOPIC);
        else
            lookup_by_time(p, q);
    }
}

/* First record of the batch with a timestamp >= ts. 1: found, 0: none (the header promised too
 * much). */
static int record_find(struct lookup *l, struct span batch, const struct batch_info *b)
{
    struct plog_list_offsets *q = l->q;
    if (b->attributes & BATCH_ATTR_LOG_APPEND_TIME) { /* one time for all */
        q->offset = b->base_offset;
        q->ret_timestamp = b->max_timestamp;
        return 1;
    }
    struct plog_set *set = l->set;
    struct record_iter it;
    bool packed = (b->attributes & BATCH_ATTR_CODEC) != 0;
    if (packed && set->lookup_scratch == NULL) /* pages are touched only as far as needed */
        set->lookup_scratch = malloc(LOOKUP_SCRATCH_MAX);
    if (packed && set->lookup_scratch == NULL)
        return -E_BUSY;
    int rc = record_iter_init(&it, set->shard->codecs, batch, set->lookup_scratch,
                              packed ? LOOKUP_SCRATCH_MAX : 0);
    struct record_view v;
    int found = 0;
    while (rc >= 0 && found == 0 && (rc = record_iter_next(&it, &v)) == 1) {
        if (v.timestamp < l->ts)
            continue;
        q->offset = v.offset;
        q->ret_timestamp = v.timestamp;
        found = 1;
    }
    return rc < 0 ? rc : found;
}

static void lookup_read(struct lookup *l);

static void lookup_done(struct plog_read *r)
{
    struct lookup *l = container_of(r, struct lookup, r);
    int64_t next = r->offset;
    if (r->rc == -E_DST_SMALL) {
        uint8_t *b = realloc(l->buf, r->need);
        if (b == NULL) {
            lookup_end(l, -E_BUSY);
            return;
        }
        l->buf = r->dst = b;
        r->dst_cap = r->need;
        lookup_read(l);
        return;
    }
    if (r->rc == -E_CORRUPT_BATCH && r->damaged_to > r->offset) { /* no time is known of those */
        next = r->damaged_to;
        r->rc = next < l->limit ? 0 : r->rc;
    }
    if (r->rc < 0) {
        lookup_end(l, r->rc);
        return;
    }
    for (uint32_t at = 0; at < r->len;) {
        struct batch_info b;
        int rc = batch_header_read(r->dst + at, r->len - at, &b);
        if (rc < 0 || b.base_offset >= l->limit) {
            lookup_end(l, rc < 0 ? rc : 0);
            return;
        }
        if (b.max_timestamp >= l->ts) {
            rc = record_find(l, span_of(r->dst + at, b.total_len), &b);
            if (rc != 0) {
                l->q->leader_epoch = b.leader_epoch;
                lookup_end(l, rc < 0 ? rc : 0);
                return;
            }
        }
        next = b.base_offset + b.last_offset_delta + 1;
        at += b.total_len;
    }
    if (next == r->offset || next >= l->limit) { /* nothing that late: offset stays -1 */
        lookup_end(l, 0);
        return;
    }
    r->offset = next;
    lookup_read(l);
}

static void lookup_read(struct lookup *l)
{
    struct plog *p = plog_set_find(l->set, &l->q->topic_id, l->q->partition);
    if (p == NULL) {
        lookup_end(l, -E_UNKNOWN_TOPIC);
        return;
    }
    if (l->r.offset < p->log_start)
        l->r.offset = p->log_start;
    plog_read(p, &l->r);
}

static void lookup_start(struct plog *p, struct plog_list_offsets *q, int64_t ts)
{
    struct seg *s = NULL;
    for (uint32_t i = 0; i < p->seg_cnt && s == NULL; i++)
        if (p->segs[i]->ix.max_ts >= ts)
            s = p->segs[i];
    if (s == NULL) {
        list_done(p->set, q, 0);
        return;
    }
    struct lookup *l = calloc(1, sizeof(*l));
    uint8_t *buf = malloc(LOOKUP_BYTES);
    if (l == NULL || buf == NULL) {
        free(l);
        free(buf);
        list_done(p->set, q, -E_BUSY);
        return;
    }
    /* Without the index in memory the scan starts at the segment's first batch. */
    int64_t from = s->has_index ? seg_index_ts_offset(&s->ix, ts) : s->base;
    int64_t limit = q->isolation == PLOG_READ_COMMITTED ? p->stable : p->durable.offset;
    *l = (struct lookup){.q = q, .set = p->set, .ts = ts, .limit = limit, .buf = buf};
    l->r = (struct plog_read){.offset = from,
                              .current_leader_epoch = -1,
                              .last_fetched_epoch = -1,
                              .max_bytes = LOOKUP_BYTES,
                              .min_one_batch = true,
                              .dst = buf,
                              .dst_cap = LOOKUP_BYTES,
                              .done = lookup_done};
    p->set->lookup_cnt++;
    lookup_read(l);
}

static void lookup_by_time(struct plog *p, struct plog_list_offsets *q)
{
    struct plog_set *set = p->set;
    if (set->lookup_cnt >= LOOKUPS_MAX) {
        list_add_tail(&set->lookup_wait, &q->link);
        return;
    }
    int64_t ts = q->timestamp;
    for (uint32_t i = 0; q->timestamp == -3 && i < p->seg_cnt; i++) /* the largest there is */
        if (p->segs[i]->ix.max_ts > ts)
            ts = p->segs[i]->ix.max_ts;
    if (ts < 0)
        list_done(set, q, 0);
    else
        lookup_start(p, q, ts);
}

void plog_list_offsets(struct plog *p, struct plog_list_offsets *q)
{
    q->topic_id = p->part->topic_id;
    q->partition = p->part->partition;
    q->offset = q->ret_timestamp = -1;
    q->leader_epoch = p->leader_epoch;
    int rc = plog_state_rc(p);
    if (rc == 0)
        rc = plog_epoch_check(p, q->current_leader_epoch);
    if (rc < 0) {
        list_done(p->set, q, rc);
        return;
    }
    switch (q->timestamp) {
    case -1: /* latest */
        q->offset = q->isolation == PLOG_READ_COMMITTED ? p->stable : p->durable.offset;
        break;
    case -2: /* earliest */
    case -4: /* earliest local */
    case -6: /* earliest not uploaded: nothing is */
        q->offset = p->log_start;
        q->leader_epoch = epochs_at(&p->part->epochs, p->log_start);
        break;
    case -5: /* latest uploaded: none */
        q->leader_epoch = -1;
        break;
    case -3: /* the record with the largest timestamp */
        q->leader_epoch = -1;
        lookup_by_time(p, q);
        return;
    default:
        if (q->timestamp < 0) {
            list_done(p->set, q, -E_UNSUPPORTED_VERSION);
            return;
        }
        q->leader_epoch = -1;
        lookup_by_time(p, q);
        return;
    }
    list_done(p->set, q, 0);
}
