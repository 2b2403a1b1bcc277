/* plog_append.c - where an offset is assigned, and what "durable" means.
 *
 *     plog_append: checks -> room -> copy into chunks -> end moves
 *     commit_form: [durable, end) of many partitions -> one journal entry, or -> own segment +
 * flush completion:  durable moves -> acks=all appends answered, parked fetches woken
 *
 * When a commit is formed: at once when somebody waits for durability (then everybody who waits
 * while one is in flight shares the next: group commit without a timer); else when the oldest byte
 * is submit_max_ms old; or when enough is queued to be worth a flush of its own. */
#include "accel/crc32c.h"
#include "dataplane/store/plog_int.h"
#include "lib/base/hash.h"
#include "lib/batch/layout.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void answer(struct plog_set *set, struct plog_append *a, int rc)
{
    a->rc = rc;
    if (rc < 0)
        set->st.append_errors++;
    list_add_tail(&set->ready_appends, &a->link);
}

static void answer_error(struct plog *p, struct plog_append *a, int rc)
{
    a->base_offset = -1;
    a->last_offset = -1;
    a->log_append_time_ms = -1;
    a->log_start_offset = p->log_start;
    answer(p->set, a, rc);
}

/* p->appends stays sorted by last_offset; only duplicates are ever inserted before the tail. */
static void wait_for_durable(struct plog *p, struct plog_append *a)
{
    if (a->last_offset < p->durable.offset) {
        answer(p->set, a, 0);
        return;
    }
    struct list *at = p->appends.prev;
    while (at != &p->appends &&
           container_of(at, struct plog_append, link)->last_offset > a->last_offset)
        at = at->prev;
    list_insert_between(&a->link, at, at->next);
    if (a->origin != PLOG_INGEST)
        p->urgent = true;
}

static int state_check(const struct plog *p)
{
    switch (p->state) {
    case PL_OPEN:
        break;
    case PL_FENCED:
        return -E_STORAGE;
    case PL_CLOSING:
    case PL_CLOSED:
        return -E_NOT_OWNER;
    case PL_DETACHING:
        return -E_UNKNOWN_TOPIC;
    }
    return atomic_load_explicit(&p->sd->d->space.read_only, memory_order_relaxed) ? -E_READ_ONLY
                                                                                  : 0;
}

static int batch_accept(const struct plog *p, const struct plog_append *a, struct batch_info *b)
{
    int rc = state_check(p);
    if (rc < 0)
        return rc;
    rc = batch_header_read(a->batch.p, a->batch.len, b);
    if (rc < 0 || b->total_len != a->batch.len)
        return -E_CORRUPT_BATCH;
    if (b->last_offset_delta < 0 || b->record_cnt < 1)
        return -E_INVALID_RECORD;
    if (a->origin == PLOG_CLIENT && b->total_len > p->conf.max_message_bytes)
        return -E_BATCH_TOO_LARGE;
    if (b->total_len > p->conf.segment_bytes)
        return -E_RECORD_LIST_TOO_LARGE;
    if (b->total_len > staging_bytes(p->set->staging) / 4)
        return -E_BATCH_TOO_LARGE;
    if (a->origin == PLOG_CLIENT && (b->attributes & BATCH_ATTR_CONTROL) != 0)
        return -E_INVALID_RECORD;
    bool transactional = (b->attributes & BATCH_ATTR_TRANSACTIONAL) != 0;
    return transactional && a->origin == PLOG_CLIENT && !a->txn_verified ? -E_INVALID_TXN_STATE : 0;
}

/* A time below segment.jitter.ms, another one for every segment, so that segments of one age do not
 * all roll at once. */
static int64_t roll_jitter_ms(const struct plog *p)
{
    int64_t below = p->conf.segment_jitter_ms;
    if (below > p->conf.segment_ms)
        below = p->conf.segment_ms;
    if (below <= 0)
        return 0;
    uint64_t h = hash_bytes(plog_topic_id(p)->b, sizeof(plog_topic_id(p)->b));
    h = hash_mix64(h ^ (uint64_t)plog_partition(p) << 32 ^ (uint64_t)plog_active(p)->base);
    return (int64_t)(h % (uint64_t)below);
}

/* Kafka's rules (ondisk.md 2); message time decides when the batch has one. */
static bool roll_is_due(const struct plog *p, const struct batch_info *b, int64_t max_ts)
{
    const struct seg *s = plog_active(p);
    if (s->len == 0)
        return false;
    if (s->len + b->total_len > p->conf.segment_bytes || s->len + b->total_len > INT32_MAX)
        return true;
    if (s->has_index && seg_index_is_full(&s->ix))
        return true;
    if (p->end.offset + b->last_offset_delta - s->base > INT32_MAX)
        return true;
    int64_t waited = s->first_ts >= 0 && max_ts >= 0 ? max_ts - s->first_ts
                                                     : p->set->shard->wall_ms - s->created_ms;
    return waited > p->conf.segment_ms - roll_jitter_ms(p);
}

/* Writes grow with load: who has this much on its way to its segment, what comes now included, gets
 * large chunks. Who has less gets small ones, also for its second: a thousand with a few KiB each
 * have room at a time. */
#define BUSY_BYTES (4 * CHUNK_SMALL)

/* Chunks for `len` more bytes, all or nothing: they are put behind the tail chunk by copy_in. */
static bool room_reserve(struct plog *p, uint32_t len, struct list *fresh)
{
    struct chunk *t = plog_tail_chunk(p);
    uint64_t room = t ? t->cap - t->used : 0;
    uint32_t prefix = t ? 0 : (uint32_t)(plog_active(p)->len & (FILE_BLOCK - 1));
    bool is_busy = p->end.lsn - p->flushed.lsn + len >= BUSY_BYTES;
    if (t != NULL && list_is_linked(&t->cache)) { /* it will take bytes: not to be reused now */
        list_del(&t->cache);
        p->keep = t;
    }
    list_init(fresh);
    while (room < len) {
        uint64_t missing = len - room + prefix;
        struct chunk *c;
        if (!staging_take(p->set, is_busy || missing > CHUNK_SMALL, &c)) {
            for (struct list *n = list_pop_head(fresh); n; n = list_pop_head(fresh))
                staging_put(p->set->staging, container_of(n, struct chunk, link));
            plog_cache_update(p);
            return false;
        }
        list_add_tail(fresh, &c->link);
        room += c->cap - prefix;
        prefix = 0;
    }
    return true;
}

static struct chunk *chunk_start(struct plog *p, struct chunk *c)
{
    struct seg *s = plog_active(p);
    struct chunk *t = plog_tail_chunk(p);
    c->plog = p;
    c->seg = s;
    c->lsn = p->end.lsn;
    c->from = c->used = c->written = (uint32_t)(s->len & (FILE_BLOCK - 1));
    c->pos = s->len - c->from;
    c->has_prefix = c->from == 0;
    ASSERT(t == NULL || t->used == t->cap);
    if (c->from > 0 && p->tail != NULL) {
        memcpy(c->buf, p->tail, c->from);
        c->has_prefix = true;
        free(p->tail);
        p->tail = NULL;
    }
    list_add_tail(&p->chunks, &c->link);
    if (p->wchunk == NULL)
        p->wchunk = c;
    if (p->keep == NULL)
        p->keep = c;
    return c;
}

/* Copies one piece of the batch; end.lsn and seg.len move with it. */
static void copy_in(struct plog *p, struct list *fresh, const uint8_t *b, uint32_t len)
{
    while (len > 0) {
        struct chunk *c = plog_tail_chunk(p);
        if (c == NULL || c->used == c->cap)
            c = chunk_start(p, container_of(list_pop_head(fresh), struct chunk, link));
        uint32_t n = c->cap - c->used < len ? c->cap - c->used : len;
        memcpy(c->buf + c->used, b, n);
        c->used += n;
        c->seg->len += n;
        p->end.lsn += n;
        p->size_bytes += n;
        b += n;
        len -= n;
    }
}

/* The header as it will lie in the log. The CRC is computed again only when something under it
 * changed. */
static void header_stamp(const struct plog *p, const struct plog_append *a, struct batch_info *b,
                         uint8_t h[BATCH_HEADER_LEN])
{
    memcpy(h, a->batch.p, BATCH_HEADER_LEN);
    b->base_offset = p->end.offset;
    b->leader_epoch = p->leader_epoch;
    store_be64(h + BATCH_BASE_OFFSET, (uint64_t)b->base_offset);
    store_be32(h + BATCH_LEADER_EPOCH, (uint32_t)b->leader_epoch);
    int64_t max_ts = a->max_timestamp_ms;
    if (p->conf.log_append_time) {
        max_ts = a->log_append_time_ms;
        b->attributes |= BATCH_ATTR_LOG_APPEND_TIME;
        store_be16(h + BATCH_ATTRIBUTES, b->attributes);
    }
    if (max_ts == b->max_timestamp && !p->conf.log_append_time)
        return;
    b->max_timestamp = max_ts;
    store_be64(h + BATCH_MAX_TIMESTAMP, (uint64_t)max_ts);
    uint32_t crc = crc32c(0, h + BATCH_CRC_START, BATCH_HEADER_LEN - BATCH_CRC_START);
    crc = crc32c(crc, a->batch.p + BATCH_HEADER_LEN, a->batch.len - BATCH_HEADER_LEN);
    store_be32(h + BATCH_CRC, crc);
}

static void batch_append(struct plog *p, struct plog_append *a, struct batch_info *b,
                         const struct batch_marker *marker, struct list *fresh)
{
    struct seg *s = plog_active(p);
    uint8_t h[BATCH_HEADER_LEN];
    header_stamp(p, a, b, h);
    a->base_offset = b->base_offset;
    a->last_offset = b->base_offset + b->last_offset_delta;
    if (s->len == 0) {
        s->first_ts = b->max_timestamp;
        s->created_ms = p->set->shard->wall_ms;
    }
    struct seg_index_batch ib = {.pos = (uint32_t)s->len,
                                 .len = b->total_len,
                                 .last_offset = a->last_offset,
                                 .max_ts = b->max_timestamp};
    uint64_t lsn = p->end.lsn;
    struct chunk *c = plog_tail_chunk(p);
    if (c == NULL || c->used == c->cap)
        c = chunk_start(p, container_of(list_pop_head(fresh), struct chunk, link));
    if (c->first_batch == UINT32_MAX) {
        c->first_batch = c->used;
        c->first_offset = b->base_offset;
    }
    c->last_batch_end = lsn + b->total_len;
    copy_in(p, fresh, h, sizeof(h));
    copy_in(p, fresh, a->batch.p + sizeof(h), a->batch.len - (uint32_t)sizeof(h));
    ASSERT(list_is_empty(fresh));
    seg_index_add(&s->ix, &ib, p->conf.index_interval_bytes);
    s->index_changed = s->is_unfinished = true;
    s->used_ns = p->used_ns = now_ns(p->set);
    p->end.offset = a->last_offset + 1;
    struct aborted_txn ended; /* neither can fail: room was reserved */
    int rc = producers_update(&p->part->producers, b, marker, b->max_timestamp, &ended);
    ASSERT(rc >= 0);
    if (rc == 1 && !marker->commit)
        rc = aborted_add(&p->part->aborted, &ended);
    ASSERT(rc >= 0);
    p->set->unflushed_bytes += b->total_len;
    p->sd->staged_bytes += b->total_len;
    p->unwritten += b->total_len;
    space_count(&p->sd->d->space.appended, b->total_len);
}

/* Chunks that are full, of bytes that will not go to the journal any more, go to the file while the
 * commit before them is still being flushed: the next one has only its last chunk to wait for. */
static void write_early(struct plog *p)
{
    const struct chunk *t = plog_tail_chunk(p);
    if (t->lsn <= p->write_to || t->lsn < p->durable.lsn + p->set->conf.journal_threshold_bytes)
        return;
    p->write_to = t->lsn;
    plog_pump(p);
}

/* With several disks, one that is slow or hangs leaves this much of the memory to the others. */
static bool dir_has_share(const struct plog *p, uint32_t len)
{
    uint64_t all = staging_bytes(p->set->staging);
    return p->set->dir_cnt == 1 || p->sd->staged_bytes + len <= all - all / 4;
}

/* Our own writes leave half of storage.min_free alone: what waits here goes on as soon as upkeep
 * has made room, or is refused when the log becomes read-only because there is nothing to drop. */
static bool dir_has_space(const struct plog *p, uint32_t len)
{
    uint64_t min_free = p->set->conf.storage_min_free_bytes;
    return min_free == 0 || space_left(&p->sd->d->space) >= (int64_t)(min_free / 2 + len);
}

/* Whether the batch may be appended: 0, 1 a duplicate (*dup), negative. *marker is filled for a
 * control batch that is a marker (of a coordinator: nobody else writes any). */
static int producer_judge(const struct plog *p, const struct plog_append *a,
                          const struct batch_info *b, struct batch_marker *marker,
                          struct producer_dup *dup)
{
    const struct producers *t = &p->part->producers;
    if ((b->attributes & BATCH_ATTR_CONTROL) == 0)
        return producers_check(t, b, a->txn_v2, dup);
    int rc = marker_read(a->batch.p, a->batch.len, marker);
    return rc < 0 ? rc : producers_check_marker(t, marker, a->txn_v2);
}

/* So that what is remembered of the batch cannot fail. */
static int producer_reserve(struct plog *p, const struct batch_info *b)
{
    int rc = producers_reserve(&p->part->producers, b->producer_id);
    if (rc == 0 && (b->attributes & BATCH_ATTR_TRANSACTIONAL) != 0)
        rc = aborted_reserve(&p->part->aborted);
    return rc;
}

enum tried {
    TRIED_DONE,      /* answered, or will be when it is durable */
    TRIED_NO_MEMORY, /* the shard's memory is used up: everybody waits */
    TRIED_OWN,       /* something of its own partition or disk is: others go on */
};
/* No segment's file is still called FN_NEXT: its renaming may have failed and be tried again while
 * the log goes on to the segment after it. */
static bool next_is_free(const struct plog *p)
{
    for (uint32_t i = p->seg_cnt; i > 0 && !p->segs[i - 1]->is_sealed; i--)
        if (!p->segs[i - 1]->is_named)
            return false;
    return true;
}

static enum tried append_try(struct plog *p, struct plog_append *a)
{
    struct plog_set *set = p->set;
    struct batch_info b;
    struct batch_marker marker;
    struct producer_dup dup;
    struct list fresh;
    int rc = batch_accept(p, a, &b);
    if (rc == 0)
        rc = producer_judge(p, a, &b, &marker, &dup);
    if (rc < 0) {
        answer_error(p, a, rc);
        return TRIED_DONE;
    }
    a->log_start_offset = p->log_start;
    a->leader_epoch = p->leader_epoch;
    a->log_append_time_ms = p->conf.log_append_time ? set->shard->wall_ms : -1;
    if (rc == 1) { /* the answer of the original, when the original is safe */
        set->st.duplicates++;
        a->base_offset = dup.base_offset;
        a->last_offset = dup.last_offset;
        if (p->conf.log_append_time)
            a->log_append_time_ms = dup.timestamp_ms;
        if (a->wait_durable)
            wait_for_durable(p, a);
        else
            answer(set, a, 0);
        return TRIED_DONE;
    }
    int64_t max_ts = p->conf.log_append_time ? set->shard->wall_ms : a->max_timestamp_ms;
    if (!dir_has_share(p, b.total_len))
        return TRIED_OWN;
    if (!dir_has_space(p, b.total_len)) {
        if (!set->shard->stopping && !set->closing)
            return TRIED_OWN;
        answer_error(p, a, -E_READ_ONLY); /* no room is made any more */
        return TRIED_DONE;
    }
    if (roll_is_due(p, &b, max_ts) && !plog_roll(p))
        return TRIED_OWN;
    rc = producer_reserve(p, &b);
    if (rc == -E_LIMIT) { /* only markers could make room, which must not wait behind this one */
        answer_error(p, a, -E_BUSY);
        return TRIED_DONE;
    }
    if (rc < 0)
        return TRIED_OWN;
    if (!room_reserve(p, b.total_len, &fresh))
        return TRIED_NO_MEMORY;
    bool control = (b.attributes & BATCH_ATTR_CONTROL) != 0;
    batch_append(p, a, &b, control ? &marker : NULL, &fresh);
    a->is_copied = true;
    set->st.appends++;
    set->st.append_bytes += b.total_len;
    if (a->wait_durable)
        wait_for_durable(p, a);
    else
        answer(set, a, 0);
    plog_dirty(p);
    write_early(p);
    if (!p->spare_asked && plog_active(p)->len > p->conf.segment_bytes / 2 && next_is_free(p))
        p->spare_asked = job_submit(p, JOB_PREPARE, NULL);
    return TRIED_DONE;
}

void plog_append(struct plog *p, struct plog_append *a)
{
    struct plog_set *set = p->set;
    ASSERT(a->done != NULL);
    a->rc = 0;
    a->is_copied = false;
    if (list_is_empty(&p->blocked) && append_try(p, a) == TRIED_DONE)
        return;
    bool full = set->blocked_cnt >= BLOCKED_CNT_MAX ||
                set->blocked_bytes + a->batch.len > staging_bytes(set->staging) / 2;
    if (full) {
        set->st.append_busy++;
        answer_error(p, a, -E_BUSY);
        return;
    }
    set->st.append_blocked++;
    set->st.space_waits += !dir_has_space(p, a->batch.len);
    set->blocked_cnt++;
    set->blocked_bytes += a->batch.len;
    if (list_is_empty(&p->blocked))
        list_add_tail(&set->blocked, &p->blocked_link);
    list_add_tail(&p->blocked, &a->link);
}

static struct plog_append *blocked_pop(struct plog *p)
{
    struct plog_append *a = container_of(list_pop_head(&p->blocked), struct plog_append, link);
    p->set->blocked_cnt--;
    p->set->blocked_bytes -= a->batch.len;
    if (list_is_empty(&p->blocked))
        list_del(&p->blocked_link);
    return a;
}

/* First come, first served among partitions that lack the shard's memory; one that lacks something
 * of its own is passed over. */
void appends_retry_blocked(struct plog_set *set)
{
    list_for_each_safe(it, tmp, &set->blocked)
    {
        struct plog *p = container_of(it, struct plog, blocked_link);
        enum tried t = TRIED_DONE;
        while (t == TRIED_DONE && !list_is_empty(&p->blocked)) {
            struct plog_append *a = blocked_pop(p);
            t = append_try(p, a);
            if (t == TRIED_DONE)
                continue;
            if (list_is_empty(&p->blocked)) /* back to where it was */
                list_insert_between(&p->blocked_link, tmp->prev, tmp);
            list_add_head(&p->blocked, &a->link);
            set->blocked_cnt++;
            set->blocked_bytes += a->batch.len;
        }
        if (t == TRIED_NO_MEMORY)
            return;
    }
}

void appends_fail_from(struct plog *p, int64_t offset, int rc)
{
    while (!list_is_empty(&p->blocked))
        answer_error(p, blocked_pop(p), rc);
    list_for_each_safe(it, tmp, &p->appends)
    {
        struct plog_append *a = container_of(it, struct plog_append, link);
        if (a->last_offset < offset)
            continue;
        list_del(it);
        answer_error(p, a, rc);
    }
}

void appends_fail_clients(struct plog *p, int rc)
{
    list_for_each_safe(it, tmp, &p->appends)
    {
        struct plog_append *a = container_of(it, struct plog_append, link);
        if (a->origin != PLOG_CLIENT)
            continue;
        list_del(it);
        answer_error(p, a, rc);
    }
}

/* ------------------------------------------------------------------------------------ group commit
 */

void plog_dirty(struct plog *p)
{
    bool idle = p->state == PL_OPEN || p->state == PL_CLOSING;
    if (!idle || p->commit != C_NONE || p->end.lsn == p->durable.lsn ||
        list_is_linked(&p->dirty_link))
        return;
    p->dirty_ns = now_ns(p->set);
    list_add_tail(&p->set->dirty, &p->dirty_link);
}

static void commit_done(struct plog *p)
{
    struct plog_set *set = p->set;
    uint64_t took = now_ns(set) - p->commit_ns;
    set->st.flush_cnt++;
    set->st.flush_ns_sum += took;
    if (took > set->st.flush_ns_max)
        set->st.flush_ns_max = took;
    ASSERT(p->commit_to.lsn >= p->durable.lsn);
    set->unflushed_bytes -= p->commit_to.lsn - p->durable.lsn;
    p->durable = p->commit_to;
    p->commit = C_NONE;
    plog_drain_update(p);
    plog_durable_moved(p);
}

void plog_durable_moved(struct plog *p)
{
    while (!list_is_empty(&p->appends)) {
        struct plog_append *a = container_of(p->appends.next, struct plog_append, link);
        if (a->last_offset >= p->durable.offset)
            break;
        list_del(&a->link);
        answer(p->set, a, 0);
    }
    p->stable = producers_stable(&p->part->producers, p->durable.offset);
    p->urgent = false;
    list_for_each(it, &p->appends)
    {
        if (container_of(it, struct plog_append, link)->origin != PLOG_INGEST) {
            p->urgent = true;
            break;
        }
    }
    waits_fire(p);
    plog_publish(p);
    plog_dirty(p);
}

void commit_direct_done(struct plog *p)
{
    commit_done(p);
}

static void journal_done(void *arg, int rc)
{
    struct set_dir *sd = arg;
    for (struct list *n = list_pop_head(&sd->group); n; n = list_pop_head(&sd->group)) {
        struct plog *p = container_of(n, struct plog, group_link);
        p->io--;
        if (rc < 0)
            p->bad_use = journal_use(sd->journal);
        if (p->state == PL_DETACHING || rc < 0) {
            p->commit = C_NONE;
            appends_fail_from(p, p->durable.offset, -E_STORAGE);
            plog_fail(p, rc, "journal write"); /* nothing when it is fenced or leaving already */
            plog_settle(p);
            continue;
        }
        /* Also while fenced: the entry is on disk and would be replayed, so it counts. */
        commit_done(p);
        plog_settle(p);
    }
}

static void commit_start(struct plog *p, enum commit_way way)
{
    list_del(&p->dirty_link);
    p->commit = way;
    p->commit_to = p->end;
    p->commit_ns = now_ns(p->set);
}

static bool journal_run_add(struct plog *p)
{
    struct journal *j = p->sd->journal;
    uint32_t len = (uint32_t)(p->end.lsn - p->durable.lsn);
    uint8_t *b = journal_add(j, &(struct journal_run){.topic_id = p->part->topic_id,
                                                      .partition = p->part->partition,
                                                      .base_offset = p->durable.offset,
                                                      .len = len});
    if (b == NULL)
        return false;
    plog_bytes_copy(p, p->durable.lsn, b, len);
    commit_start(p, C_JOURNAL);
    p->set->st.journal_bytes += len;
    p->journal_lsn = p->end.lsn;
    p->io++;
    list_add_tail(&p->sd->group, &p->group_link);
    return true;
}

static bool commit_is_due(const struct plog *p, uint64_t now)
{
    return p->urgent || p->state == PL_CLOSING ||
           now - p->dirty_ns >= (uint64_t)p->set->conf.submit_max_ms * 1000000 ||
           p->end.lsn - p->durable.lsn >= 4 * (uint64_t)p->set->conf.journal_threshold_bytes;
}

static void commit_direct(struct plog *p)
{
    commit_start(p, C_DIRECT);
    p->set->st.group_commits++;
    p->set->st.direct_commits++;
    plog_flush_want(p, p->end);
    plog_pump(p);
}

static void group_hold(struct set_dir *sd)
{
    uint64_t use = journal_use(sd->journal);
    list_for_each(it, &sd->group)
    {
        struct plog *p = container_of(it, struct plog, group_link);
        if (p->hold_use == JOURNAL_USE_NONE) {
            p->hold_use = use;
            journal_hold(sd->journal, use);
        }
    }
}

static void commit_form_dir(struct plog_set *set, struct set_dir *sd)
{
    uint64_t now = now_ns(set);
    bool building = false, room = true;
    list_for_each_safe(it, tmp, &set->dirty)
    {
        struct plog *p = container_of(it, struct plog, dirty_link);
        if (p->sd != sd || !commit_is_due(p, now))
            continue;
        if (p->end.lsn - p->durable.lsn >= set->conf.journal_threshold_bytes) {
            commit_direct(p);
            continue;
        }
        if (!building && room && list_is_empty(&sd->group)) {
            building = journal_begin(sd->journal);
            room = building;
        }
        if (building && room)
            room = journal_run_add(p);
    }
    if (!building)
        return;
    if (journal_run_cnt(sd->journal) > 0) {
        set->st.group_commits++;
        set->st.journal_commits++;
        group_hold(sd);
    }
    dir_wrote(sd);
    journal_commit(sd->journal, journal_done, sd);
}

void commit_form_all(struct plog_set *set)
{
    if (list_is_empty(&set->dirty))
        return;
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        commit_form_dir(set, &set->dirs[i]);
}
