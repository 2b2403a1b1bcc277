/* plog.c - the partitions of a shard: segments, writing, flushing, rolling, fencing, closing.
 * plog_int.h has the states; plog_append.c and plog_read.c the two ends; plog_job.c what blocks. */
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
#include "lib/iface/conf.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_MIN 1024u
#define RETRY_NS UINT64_C(1000000000)
#define OVERDUE_NS UINT64_C(1000000)

/* ------------------------------------------------------------------------------------- small parts
 */

struct chunk *plog_tail_chunk(const struct plog *p)
{
    if (list_is_empty(&p->chunks))
        return NULL;
    struct chunk *c = container_of(p->chunks.prev, struct chunk, link);
    return c->seg == plog_active(p) ? c : NULL;
}

static struct chunk *chunk_next(const struct plog *p, struct chunk *c)
{
    return c->link.next == &p->chunks ? NULL : container_of(c->link.next, struct chunk, link);
}

static uint64_t chunk_end(const struct chunk *c)
{
    return c->lsn + (c->used - c->from);
}

struct chunk *plog_chunk_at(const struct plog *p, uint64_t lsn)
{
    for (struct list *it = p->chunks.prev; it != &p->chunks; it = it->prev) {
        struct chunk *c = container_of(it, struct chunk, link);
        if (c->lsn <= lsn)
            return lsn < chunk_end(c) ? c : NULL;
    }
    return NULL;
}

void plog_bytes_copy(const struct plog *p, uint64_t lsn, uint8_t *dst, uint64_t len)
{
    struct chunk *c = plog_chunk_at(p, lsn);
    while (len > 0) {
        ASSERT(c != NULL);
        uint64_t at = c->from + (lsn - c->lsn);
        uint64_t n = c->used - at < len ? c->used - at : len;
        memcpy(dst, c->buf + at, n);
        dst += n;
        lsn += n;
        len -= n;
        c = chunk_next(p, c);
    }
}

uint64_t plog_written_lsn(const struct plog *p)
{
    return p->wchunk ? p->wchunk->lsn + (p->wchunk->written - p->wchunk->from) : p->end.lsn;
}

void plog_publish(struct plog *p)
{
    struct part_mark *m = p->part->mark;
    atomic_store_explicit(&m->recovery_point, p->flushed.offset, memory_order_relaxed);
    atomic_store_explicit(&m->high_watermark, p->durable.offset, memory_order_relaxed);
    atomic_store_explicit(&m->log_start, p->log_start, memory_order_relaxed);
    atomic_store_explicit(&m->first_base, p->segs[0]->base, memory_order_relaxed);
    if (!atomic_load_explicit(&p->sd->d->dirty, memory_order_relaxed))
        atomic_store(&p->sd->d->dirty, true);
}

void plog_hold_release(struct plog *p)
{
    if (p->hold_use == JOURNAL_USE_NONE)
        return;
    journal_release(p->sd->journal, p->hold_use);
    p->hold_use = JOURNAL_USE_NONE;
    list_del(&p->drain_link);
}

static void drain_end(struct plog *p)
{
    if (!p->draining)
        return;
    p->draining = false;
    p->set->draining_cnt--;
    p->sd->draining_cnt--;
    if (p->hold_use == JOURNAL_USE_NONE)
        return;
    /* More went to the journal meanwhile, which is young: its age begins here. Else a partition
     * that is written to all the time would be drained back to back instead of once per drain_age.
     */
    p->drain_ns = now_ns(p->set);
    list_del(&p->drain_link);
    list_add_tail(&p->set->drain, &p->drain_link);
}

/* ------------------------------------------------------------------------------ chunks and caching
 */

/* Bytes that are flushed may be forgotten. The tail chunk too, when nothing else is to come soon:
 * its last block moves to p->tail then. */
void plog_cache_update(struct plog *p)
{
    while (p->keep != NULL) {
        struct chunk *c = p->keep, *next = chunk_next(p, c);
        uint64_t need = c->last_batch_end > chunk_end(c) ? c->last_batch_end : chunk_end(c);
        if (need > p->flushed.lsn || c->write_to != 0 || c->written < c->used)
            return;
        list_add_tail(&p->set->cache, &c->cache);
        p->keep = next;
    }
}

static void chunk_evict(struct plog_set *set, struct chunk *c)
{
    struct plog *p = c->plog;
    uint32_t tail_len = c->used & (FILE_BLOCK - 1);
    ASSERT(p->chunks.next == &c->link);
    ASSERT(c->write_to == 0);
    if (c == plog_tail_chunk(p) && tail_len > 0) {
        if (p->tail == NULL)
            p->tail = malloc(FILE_BLOCK);
        if (p->tail != NULL) /* else it is read from the file again */
            memcpy(p->tail, c->buf + (c->used - tail_len), tail_len);
    }
    if (p->wchunk == c)
        p->wchunk = chunk_next(p, c);
    list_del(&c->cache);
    list_del(&c->link);
    staging_put(set->staging, c);
}

bool staging_take(struct plog_set *set, bool large, struct chunk **ret)
{
    for (;;) {
        struct chunk *c = staging_get(set->staging, large);
        if (c != NULL) {
            *ret = c;
            return true;
        }
        if (list_is_empty(&set->cache))
            return false;
        chunk_evict(set, container_of(set->cache.next, struct chunk, cache));
    }
}

void plog_chunks_drop(struct plog *p)
{
    for (struct list *n = list_pop_head(&p->chunks); n; n = list_pop_head(&p->chunks)) {
        struct chunk *c = container_of(n, struct chunk, link);
        ASSERT(c->write_to == 0);
        if (list_is_linked(&c->cache))
            list_del(&c->cache);
        staging_put(p->set->staging, c);
    }
    p->wchunk = p->keep = NULL;
    free(p->tail);
    p->tail = NULL;
}

/* ------------------------------------------------------------------------------------------
 * writing */

static void flush_round_start(struct plog *p);

static void written_advance(struct plog *p)
{
    while (p->wchunk != NULL) {
        struct chunk *c = p->wchunk;
        struct chunk *next = chunk_next(p, c);
        c->seg->written = c->pos + c->written;
        if (c->written < c->used || next == NULL)
            return; /* the last chunk stays: it may take more bytes */
        p->wchunk = next;
    }
}

static void on_written(struct file_op *op, int res)
{
    struct chunk *c = container_of(op, struct chunk, op);
    struct plog *p = c->plog;
    uint32_t to = c->write_to;
    c->write_to = 0;
    c->seg->io--;
    p->io--;
    if (p->state == PL_FENCED || p->state == PL_DETACHING) {
        plog_settle(p);
        return;
    }
    if (res != (int)op->len) {
        plog_fail(p, res < 0 ? res : -EIO, "segment write");
        return;
    }
    c->written = to;
    c->seg->is_dirty = true; /* here, not at submission: a flush under way does not cover it */
    written_advance(p);
    plog_pump(p);
}

static void chunk_write(struct plog *p, struct chunk *c)
{
    struct seg *s = c->seg;
    uint32_t start = c->written & ~(FILE_BLOCK - 1);
    uint32_t end = (c->used + FILE_BLOCK - 1) & ~(FILE_BLOCK - 1);
    memset(c->buf + c->used, 0, end - c->used);
    c->write_to = c->used;
    c->op.done = on_written;
    c->op.file = s->file;
    c->op.len = end - start;
    s->io++;
    s->used_ns = now_ns(p->set);
    p->io++;
    p->set->io->ops->write(s->file, &c->op, c->buf + start, end - start, c->pos + start);
}

/* Write what is wanted in the files, flush what is wanted flushed. At most one write is in flight
 * per chunk, and chunks begin at blocks: so at most one per block. */
static void pump(struct plog *p)
{
    if (p->state == PL_FENCED || p->state == PL_DETACHING || p->state == PL_CLOSED ||
        p->set->ending)
        return;
    uint64_t want = p->flush_to.lsn > p->write_to ? p->flush_to.lsn : p->write_to;
    for (struct chunk *c = p->wchunk; c != NULL && c->lsn < want; c = chunk_next(p, c)) {
        if (c->write_to != 0 || c->written == c->used)
            continue;
        if (c->seg->file == NULL) {
            seg_want_open(c->seg);
            continue;
        }
        if (!c->has_prefix) {
            seg_want_open(c->seg); /* reads the block that the chunk begins in */
            continue;
        }
        chunk_write(p, c);
    }
    if (p->flush_pending == 0 && p->flush_to.lsn > p->flushed.lsn &&
        plog_written_lsn(p) >= p->flush_to.lsn)
        flush_round_start(p);
}

void plog_pump(struct plog *p)
{
    pump(p);
    if (p->state == PL_CLOSING)
        plog_settle(p);
}

/* -----------------------------------------------------------------------------------------
 * flushing */

/* Segments that were left by a roll and are flushed now: cut and index them. */
static void seal_rolled(struct plog *p)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        if (s->is_rolled && !s->is_sealed && !s->job && s->end_lsn <= p->flushed.lsn &&
            p->state == PL_OPEN)
            (void)job_submit(p, JOB_SEAL, s); /* no memory: the next round or tick tries again */
    }
}

static void flush_round_done(struct plog *p)
{
    if (p->flush_rc < 0) {
        plog_fail(p, p->flush_rc, "segment flush");
        return;
    }
    ASSERT(p->flush_at.lsn >= p->flushed.lsn);
    p->sd->staged_bytes -= p->flush_at.lsn - p->flushed.lsn;
    p->flushed = p->flush_at;
    if (p->hold_use != JOURNAL_USE_NONE) {
        if (p->journal_lsn <= p->flushed.lsn) {
            plog_hold_release(p);
        } else if (p->hold_next != p->hold_use) {
            journal_hold(p->sd->journal, p->hold_next);
            journal_release(p->sd->journal, p->hold_use);
            p->hold_use = p->hold_next;
        }
    }
    if (p->flushed.lsn >= p->flush_to.lsn)
        drain_end(p);
    plog_cache_update(p);
    plog_publish(p);
    if (p->commit == C_DIRECT && p->flushed.lsn >= p->commit_to.lsn)
        commit_direct_done(p);
    seal_rolled(p);
    plog_pump(p);
}

static void on_flushed(struct file_op *op, int res)
{
    struct seg *s = container_of(op, struct seg, flush_op);
    struct plog *p = s->plog;
    s->io--;
    p->io--;
    p->flush_pending--;
    if (res < 0)
        p->flush_rc = res;
    if (p->state == PL_FENCED || p->state == PL_DETACHING)
        plog_settle(p);
    else if (p->flush_pending == 0)
        flush_round_done(p);
}

static void flush_round_start(struct plog *p)
{
    uint32_t dirty = 0;
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        if (!s->is_dirty)
            continue;
        if (!s->is_named) { /* its name must be flushed first: the rename's end pumps again */
            seg_want_open(s);
            return;
        }
        dirty++;
    }
    p->flush_at = p->flush_to;
    p->flush_rc = 0;
    p->hold_next = p->flush_to_use;
    p->flush_pending = dirty;
    if (dirty == 0) {
        flush_round_done(p);
        return;
    }
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        if (!s->is_dirty)
            continue;
        s->is_dirty = false;
        s->io++;
        p->io++;
        s->flush_op.done = on_flushed;
        s->flush_op.file = s->file;
        p->set->io->ops->flush(s->file, &s->flush_op);
    }
}

/* What goes to the journal from now on lies in this use of a file or a later one: once `m` is
 * flushed, older uses are not needed for this partition. */
void plog_flush_want(struct plog *p, struct mark m)
{
    if (m.lsn <= p->flush_to.lsn)
        return;
    p->flush_to = m;
    p->flush_to_use = journal_use(p->sd->journal);
}

static void drain_one(struct plog *p)
{
    struct plog_set *set = p->set;
    /* Its journal entry may still be in flight: nothing to drain then. */
    if (p->draining || p->state != PL_OPEN || p->durable.lsn <= p->flushed.lsn)
        return;
    p->draining = true;
    set->draining_cnt++;
    p->sd->draining_cnt++;
    set->st.drains++;
    plog_flush_want(p, p->durable);
    plog_pump(p);
}

/* Journalled bytes go to their segments: when they are old, when the journal runs out of files,
 * when memory runs short. Oldest first. */
static void drain_some(struct plog_set *set)
{
    uint64_t now = now_ns(set);
    bool memory_short = staging_free_bytes(set->staging) < staging_bytes(set->staging) / 4 &&
                        (list_is_empty(&set->cache) || !list_is_empty(&set->blocked));
    list_for_each_safe(it, tmp, &set->drain)
    {
        struct plog *p = container_of(it, struct plog, drain_link);
        struct journal *j = p->sd->journal;
        if (p->sd->draining_cnt >= DRAINS_MAX) /* one slow disk does not hold up the others */
            continue;
        bool journal_short = journal_free_cnt(j) <= 1 && p->hold_use == journal_tail_use(j);
        bool old = now - p->drain_ns >= (uint64_t)set->conf.drain_age_ms * 1000000;
        bool large = p->durable.lsn - p->flushed.lsn >= 4 * CHUNK_LARGE;
        if (memory_short || journal_short || old || large)
            drain_one(p);
    }
}

/* ------------------------------------------------------------------------------------ fence,
 * settle */

void plog_fail(struct plog *p, int rc, const char *what)
{
    if (p->state == PL_FENCED || p->state == PL_DETACHING || p->state == PL_CLOSED)
        return;
    LOG_ERROR("%s: %s failed: %s; the partition is fenced until its file is recovered", p->dir,
              what, err_text(rc));
    if (rc == -ENOSPC)
        atomic_store(&p->sd->d->read_only, true);
    if (p->state == PL_CLOSING && p->set->close_rc == 0)
        p->set->close_rc = rc;
    p->set->st.fenced++;
    p->state = PL_FENCED;
    drain_end(p);
    if (list_is_linked(&p->dirty_link))
        list_del(&p->dirty_link);
    if (p->commit == C_DIRECT)
        p->commit = C_NONE;
    /* What is in a journal entry in flight is answered when that ends. */
    appends_fail_from(p, p->commit == C_JOURNAL ? p->commit_to.offset : p->durable.offset,
                      -E_STORAGE);
    reads_fail_waiting(p, -E_STORAGE);
    p->retry_ns = 0;
    plog_settle(p);
}

static bool set_all_closed(const struct plog_set *set)
{
    list_for_each(it, &set->all)
    {
        const struct plog *p = container_of(it, struct plog, all_link);
        bool over = p->state == PL_CLOSED || (p->state == PL_FENCED && p->io == 0 && p->jobs == 0);
        if (!over)
            return false;
    }
    return true;
}

void plog_settle(struct plog *p)
{
    if (p->io > 0 || p->jobs > 0)
        return;
    switch (p->state) {
    case PL_OPEN:
    case PL_CLOSED:
        break;
    case PL_FENCED:
        if (!p->set->closing && now_ns(p->set) >= p->retry_ns)
            (void)job_submit(p, JOB_FENCE, NULL); /* no memory: the tick tries again */
        break;
    case PL_CLOSING:
        if (p->commit == C_NONE && p->durable.lsn == p->end.lsn && p->flushed.lsn == p->end.lsn &&
            p->flush_pending == 0)
            (void)job_submit(p, JOB_CLOSE, NULL);
        else if (p->commit == C_NONE && p->flush_pending == 0) {
            plog_dirty(p);
            plog_flush_want(p, p->durable);
            pump(p);
        }
        break;
    case PL_DETACHING:
        (void)job_submit(p, JOB_DETACH, NULL);
        break;
    }
}

/* -----------------------------------------------------------------------------------------
 * segments */

static struct seg *seg_new(struct plog *p, int64_t base)
{
    struct seg *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->plog = p;
    s->base = base;
    s->first_ts = -1;
    s->created_ms = p->set->shard->wall_ms;
    seg_index_init(&s->ix, base, p->conf.index_bytes_max);
    list_init(&s->waiters);
    return s;
}

void plog_seg_free(struct seg *s)
{
    ASSERT(s->file == NULL);
    ASSERT(list_is_empty(&s->waiters));
    seg_index_fini(&s->ix);
    free(s->snapshot);
    free(s);
}

static bool segs_room(struct plog *p)
{
    if (p->seg_cnt < p->seg_cap)
        return true;
    uint32_t cap = p->seg_cap ? p->seg_cap * 2 : 2;
    struct seg **segs = realloc(p->segs, cap * sizeof(struct seg *));
    if (segs == NULL)
        return false;
    p->segs = segs;
    p->seg_cap = cap;
    return true;
}

static struct seg *seg_from_part(struct plog *p, uint32_t i)
{
    const struct part_seg *g = &p->part->segs[i];
    struct seg *s = seg_new(p, g->base);
    if (s == NULL)
        return NULL;
    s->len = s->written = g->len;
    s->is_named = true;
    s->is_rolled = s->is_sealed = i + 1 < p->part->seg_cnt;
    s->has_index = g->len == 0;
    s->ix.max_ts = g->max_ts;
    s->ix.max_ts_offset = g->max_ts < 0 ? g->base : g->max_ts_offset;
    s->created_ms = g->mtime_ms > 0 ? g->mtime_ms : s->created_ms;
    return s;
}

/* Replaces what was there; on -ENOMEM nothing changes. */
int plog_segs_from_part(struct plog *p)
{
    uint32_t cnt = p->part->seg_cnt;
    ASSERT(cnt > 0);
    struct seg **segs = calloc(cnt, sizeof(struct seg *));
    if (segs == NULL)
        return -ENOMEM;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < cnt; i++) {
        segs[i] = seg_from_part(p, i);
        if (segs[i] == NULL) {
            while (i > 0)
                plog_seg_free(segs[--i]);
            free(segs);
            return -ENOMEM;
        }
        bytes += segs[i]->len;
    }
    plog_segs_free(p);
    free(p->segs);
    p->segs = segs;
    p->seg_cnt = p->seg_cap = cnt;
    p->size_bytes = bytes;
    return 0;
}

void plog_segs_free(struct plog *p)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++)
        plog_seg_free(p->segs[i]);
    p->seg_cnt = 0;
}

void seg_want_open(struct seg *s)
{
    bool later = now_ns(s->plog->set) < s->plog->retry_ns;
    if (!s->job && !later && s->plog->state != PL_FENCED && s->plog->state != PL_DETACHING)
        (void)job_submit(s->plog, JOB_OPEN, s); /* no memory: whoever needs it asks again */
}

/* A new active segment. Its file is the prepared one if there is one; else the first write asks. */
bool plog_roll(struct plog *p)
{
    struct seg *old = plog_active(p);
    if (!segs_room(p))
        return false;
    struct seg *s = seg_new(p, p->end.offset);
    if (s == NULL)
        return false;
    if (producers_encode(&p->part->producers, &old->snapshot, &old->snapshot_len) < 0) {
        plog_seg_free(s);
        return false;
    }
    old->is_rolled = true;
    old->end_lsn = p->end.lsn;
    s->has_index = true;
    s->index_changed = true;
    s->file = p->spare;
    if (p->spare != NULL)
        p->spare_asked = false; /* else its job is still under way: it serves the roll after this */
    p->spare = NULL;
    free(p->tail);
    p->tail = NULL;
    p->segs[p->seg_cnt++] = s;
    p->set->st.rolls++;
    if (s->file != NULL)
        (void)job_submit(p, JOB_OPEN, s); /* its name; no memory: the flush asks again */
    if (old->end_lsn <= p->flushed.lsn)
        seal_rolled(p);
    return true;
}

void plog_roll_now(struct plog *p)
{
    if (p->state == PL_OPEN && plog_active(p)->len > 0)
        (void)plog_roll(p); /* no memory: retention asks again */
}

bool plog_segment_get(const struct plog *p, uint32_t idx, struct plog_segment *ret)
{
    if (idx >= p->seg_cnt)
        return false;
    const struct seg *s = p->segs[idx];
    *ret = (struct plog_segment){
        .base_offset = s->base,
        .next_offset = idx + 1 < p->seg_cnt ? p->segs[idx + 1]->base : p->end.offset,
        .len = s->len,
        .max_timestamp_ms = s->ix.max_ts,
        .mtime_ms = s->created_ms,
        .sealed = s->is_sealed,
        .can_drop = s->is_sealed && p->state == PL_OPEN && !s->job && s->io == 0 &&
                    list_is_empty(&s->waiters) && idx + 1 < p->seg_cnt,
    };
    return true;
}

uint32_t plog_drop_segments(struct plog *p, uint32_t cnt)
{
    uint32_t n = 0;
    while (n < cnt && p->seg_cnt > 1 && p->state == PL_OPEN) {
        struct seg *s = p->segs[0];
        bool busy = !s->is_sealed || s->job || s->io > 0 || !list_is_empty(&s->waiters);
        bool in_memory = false; /* its chunks name it: they must be reused first */
        if (!list_is_empty(&p->chunks))
            in_memory = container_of(p->chunks.next, struct chunk, link)->seg == s;
        while (in_memory && !busy) {
            struct chunk *c = container_of(p->chunks.next, struct chunk, link);
            if (!list_is_linked(&c->cache))
                break;
            chunk_evict(p->set, c);
            in_memory = !list_is_empty(&p->chunks) &&
                        container_of(p->chunks.next, struct chunk, link)->seg == s;
        }
        if (busy || in_memory || !job_submit(p, JOB_DROP, s))
            break;
        struct data_dir *d = p->sd->d;
        atomic_fetch_add(&d->doomed_bytes, s->len); /* until JOB_DROP is done */
        atomic_fetch_sub(&d->missing_bytes, (int64_t)s->len);
        atomic_store(&d->low_checks, 0);
        p->size_bytes -= s->len;
        memmove(p->segs, p->segs + 1, --p->seg_cnt * sizeof(struct seg *));
        if (p->log_start < p->segs[0]->base)
            p->log_start = p->segs[0]->base;
        p->set->st.segments_dropped++;
        n++;
    }
    if (n > 0) {
        epochs_truncate_start(&p->part->epochs, p->log_start);
        plog_publish(p);
    }
    return n;
}

int plog_set_log_start(struct plog *p, int64_t offset)
{
    if (offset > p->durable.offset || offset < 0)
        return -E_OFFSET_OUT_OF_RANGE;
    if (offset > p->log_start) {
        p->log_start = offset;
        epochs_truncate_start(&p->part->epochs, offset);
        plog_publish(p);
    }
    return 0;
}

/* ---------------------------------------------------------------------------------- configuration
 */

void plog_set_leader_epoch(struct plog *p, int32_t epoch)
{
    if (epoch <= p->leader_epoch)
        return;
    p->leader_epoch = epoch;
    if (epochs_assign(&p->part->epochs, epoch, p->end.offset) != 1)
        return; /* no memory: the batches carry it, recovery finds it there */
    p->epochs_changed = true;
    if (!p->epochs_job && p->state == PL_OPEN)
        p->epochs_job = job_submit(p, JOB_EPOCHS, NULL);
}

void plog_set_conf(struct plog *p, const struct plog_conf *conf)
{
    p->conf = *conf;
    plog_active(p)->ix.off_max = conf->index_bytes_max / INDEX_ENTRY_LEN;
    plog_active(p)->ix.ts_max = conf->index_bytes_max / TIMEINDEX_ENTRY_LEN;
}

const struct plog_conf *plog_get_conf(const struct plog *p)
{
    return &p->conf;
}

bool plog_is_writable(const struct plog *p)
{
    return p->state == PL_OPEN && !atomic_load(&p->sd->d->read_only);
}

void plog_offsets_get(const struct plog *p, struct plog_offsets *ret)
{
    *ret = (struct plog_offsets){
        .log_start = p->log_start,
        .recovery_point = p->flushed.offset,
        .durable = p->durable.offset,
        .stable = p->durable.offset,
        .next = p->end.offset,
        .leader_epoch = p->leader_epoch,
        .size_bytes = p->size_bytes,
        .unflushed_bytes = p->end.lsn - p->durable.lsn,
        .segment_cnt = p->seg_cnt,
    };
}

void plog_epoch_end_offset(const struct plog *p, int32_t epoch, int32_t *ret_epoch,
                           int64_t *ret_end_offset)
{
    epochs_end_offset(&p->part->epochs, epoch, p->durable.offset, ret_epoch, ret_end_offset);
}

uint32_t plog_producers(const struct plog *p, struct producer_view *v, uint32_t cap)
{
    return producers_list(&p->part->producers, v, cap);
}

uint32_t plog_set_dir_cnt(const struct plog_set *set)
{
    return set->dir_cnt;
}

struct plog_dir plog_set_dir(const struct plog_set *set, uint32_t idx)
{
    const struct data_dir *d = set->dirs[idx].d;
    return (struct plog_dir){
        .path = d->path,
        .total_bytes = atomic_load_explicit(&d->total_bytes, memory_order_relaxed),
        .free_bytes = atomic_load_explicit(&d->free_bytes, memory_order_relaxed),
        .missing_bytes = atomic_load_explicit(&d->missing_bytes, memory_order_relaxed),
        .read_only = atomic_load_explicit(&d->read_only, memory_order_relaxed),
    };
}

uint32_t plog_dir_idx(const struct plog *p)
{
    return (uint32_t)(p->sd - p->set->dirs);
}

const struct uuid *plog_topic_id(const struct plog *p)
{
    return &p->part->topic_id;
}

const char *plog_topic(const struct plog *p)
{
    return p->part->topic;
}

int32_t plog_partition(const struct plog *p)
{
    return p->part->partition;
}

/* ------------------------------------------------------------------------------------------ the
 * set */

static struct list *hash_slot(const struct plog_set *set, const struct uuid *id, int32_t partition)
{
    uint64_t x;
    memcpy(&x, id->b + 8, sizeof(x));
    x = (x ^ (uint32_t)partition) * UINT64_C(0x9E3779B97F4A7C15);
    return &set->hash[(uint32_t)(x >> 32) & set->hash_mask];
}

struct plog *plog_set_find(struct plog_set *set, const struct uuid *topic_id, int32_t partition)
{
    struct list *head = hash_slot(set, topic_id, partition);
    list_for_each(it, head)
    {
        struct plog *p = container_of(it, struct plog, hash_link);
        if (p->part->partition == partition && uuid_eq(&p->part->topic_id, topic_id))
            return p;
    }
    return NULL;
}

static int hash_resize(struct plog_set *set, uint32_t slots)
{
    struct list *h = malloc(slots * sizeof(*h));
    if (h == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < slots; i++)
        list_init(&h[i]);
    free(set->hash);
    set->hash = h;
    set->hash_mask = slots - 1;
    list_for_each(it, &set->all)
    {
        struct plog *p = container_of(it, struct plog, all_link);
        list_add_tail(hash_slot(set, &p->part->topic_id, p->part->partition), &p->hash_link);
    }
    return 0;
}

void plog_set_conf_from(struct plog_set_conf *sc, const struct conf *c)
{
    *sc = (struct plog_set_conf){
        .staging_bytes = c->staging_bytes,
        .submit_max_ms = 5,
        .flush_max_ms = c->flush_max_ms,
        .journal_file_bytes = c->journal_file_bytes,
        .journal_file_cnt = c->journal_file_cnt,
        .journal_threshold_bytes = c->journal_threshold_bytes,
        .storage_min_free_bytes = c->storage_min_free_bytes,
        .drain_age_ms = 1000,
        .idle_close_ms = 10000,
        .checkpoint_ms = 5000,
        .threaded = true,
    };
    if (sc->submit_max_ms > c->flush_max_ms / 2)
        sc->submit_max_ms = c->flush_max_ms / 2;
}

static int set_dirs_create(struct plog_set *set)
{
    for (uint32_t i = 0; i < set->cat->dir_cnt; i++) {
        struct set_dir *sd = &set->dirs[i];
        struct data_dir *d = &set->cat->dirs[i];
        uint64_t entry = set->conf.journal_file_bytes;
        *sd = (struct set_dir){.d = d, .set = set};
        list_init(&sd->group);
        struct journal_conf jc = {
            .dir = d->journal_path,
            .directory_id = d->id,
            .shard = set->shard->id,
            .file_cnt = set->conf.journal_file_cnt,
            .file_bytes = set->conf.journal_file_bytes & ~(uint64_t)(FILE_BLOCK - 1),
            .entry_bytes_max = entry < (8u << 20) ? (uint32_t)entry : 8u << 20,
        };
        int rc = journal_create(set->io, &jc, &sd->journal);
        if (rc < 0)
            return rc;
        set->dir_cnt++;
    }
    return 0;
}

static int read_io_create(struct plog_set *set)
{
    set->read_io = calloc(READ_IO_CNT, sizeof(*set->read_io));
    set->read_mem = aligned_alloc(FILE_BLOCK, READ_IO_CNT * READ_IO_BYTES);
    if (set->read_io == NULL || set->read_mem == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < READ_IO_CNT; i++) {
        set->read_io[i].set = set;
        set->read_io[i].bounce = set->read_mem + (size_t)i * READ_IO_BYTES;
        list_add_tail(&set->read_free, &set->read_io[i].link);
    }
    return 0;
}

int plog_set_create(struct shard *s, struct file_io *io, struct catalog *c,
                    const struct plog_set_conf *conf, struct plog_set **ret)
{
    struct plog_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return -ENOMEM;
    set->shard = s;
    set->io = io;
    set->cat = c;
    set->conf = *conf;
    struct list *lists[] = {
        &set->all,         &set->dirty,          &set->drain,       &set->cache,
        &set->blocked,     &set->ready_appends,  &set->ready_reads, &set->ready_waits,
        &set->ready_lists, &set->ready_detached, &set->read_free,   &set->read_wait,
        &set->lookup_wait};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    /* A run must always fit an entry, also in a file of the smallest size. */
    uint64_t run_max = conf->journal_file_bytes / 2;
    if (set->conf.journal_threshold_bytes > run_max)
        set->conf.journal_threshold_bytes = (uint32_t)run_max;
    struct dirwork_opts dw = {.threaded = conf->threaded,
                              .wake_fd = s->mbox ? mbox_wake_fd(s->mbox) : -1,
                              .cpus = conf->work_cpus,
                              .cpu_cnt = conf->work_cpu_cnt};
    int rc = hash_resize(set, HASH_MIN);
    if (rc == 0)
        rc = staging_create(conf->staging_bytes, &set->staging);
    if (rc == 0)
        rc = read_io_create(set);
    if (rc == 0)
        rc = dirwork_create(&dw, &set->dirwork);
    if (rc == 0)
        rc = dirwork_create(&dw, &set->slow_work);
    if (rc == 0)
        rc = set_dirs_create(set);
    if (rc < 0) {
        plog_set_destroy(set);
        return rc;
    }
    s->plogs = set;
    *ret = set;
    return 0;
}

void plog_unlink(struct plog *p)
{
    if (p->set->tick_at == &p->all_link)
        p->set->tick_at = p->all_link.next;
    list_del(&p->all_link);
    list_del(&p->hash_link);
    p->set->plog_cnt--;
}

static void plog_free(struct plog *p)
{
    plog_chunks_drop(p);
    plog_segs_free(p);
    free(p->segs);
    part_destroy(p->part);
    free(p);
}

static uint32_t jobs_pending(const struct plog_set *set)
{
    return dirwork_pending(set->dirwork) + dirwork_pending(set->slow_work);
}

void plog_set_destroy(struct plog_set *set)
{
    if (set == NULL)
        return;
    set->closing = set->ending = true; /* nothing new is begun by what ends now */
    for (int i = 0; set->slow_work != NULL && jobs_pending(set) > 0 && i < 10000; i++) {
        if (dirwork_poll(set->dirwork) + dirwork_poll(set->slow_work) == 0)
            (void)usleep(1000); /* the workers are at it; this is not a shard any more */
    }
    dirwork_destroy(set->dirwork);
    dirwork_destroy(set->slow_work);
    for (struct list *n = list_pop_head(&set->all); n; n = list_pop_head(&set->all)) {
        struct plog *p = container_of(n, struct plog, all_link);
        for (uint32_t i = 0; i < p->seg_cnt; i++) { /* an unclean end: tests, a failed start */
            if (p->segs[i]->file != NULL)
                set->io->ops->close(p->segs[i]->file);
            p->segs[i]->file = NULL;
            list_init(&p->segs[i]->waiters);
        }
        if (p->spare != NULL)
            set->io->ops->close(p->spare);
        for (struct chunk *c = p->wchunk; c != NULL; c = chunk_next(p, c))
            c->write_to = 0;
        p->part->mark = NULL; /* stays for the catalog's last checkpoint, which frees it */
        plog_free(p);
    }
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        journal_destroy(set->dirs[i].journal);
    if (set->shard->timers != NULL && timer_is_armed(&set->timer))
        timer_cancel(set->shard->timers, &set->timer);
    staging_destroy(set->staging);
    free(set->read_io);
    free(set->read_mem);
    free(set->lookup_scratch);
    free(set->hash);
    free(set);
}

int plog_attach(struct plog_set *set, struct part *part, const struct plog_conf *conf,
                struct plog **ret)
{
    if (plog_set_find(set, &part->topic_id, part->partition) != NULL)
        return -EEXIST;
    if (set->plog_cnt >= 2 * (set->hash_mask + 1))
        (void)hash_resize(set, 4 * (set->hash_mask + 1)); /* longer chains are only slower */
    struct plog *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    p->set = set;
    p->part = part;
    p->conf = *conf;
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        if (set->dirs[i].d == part->dir)
            p->sd = &set->dirs[i];
    ASSERT(p->sd != NULL);
    list_init(&p->chunks);
    list_init(&p->blocked);
    list_init(&p->appends);
    list_init(&p->waits);
    p->hold_use = p->hold_next = JOURNAL_USE_NONE;
    p->log_start = part->log_start;
    p->leader_epoch = epochs_latest(&part->epochs);
    p->end = p->durable = p->flushed = p->flush_to = (struct mark){0, part->next};
    p->used_ns = now_ns(set);
    int rc = path_join(p->dir, part->dir->path, part->name);
    if (rc == 0)
        rc = plog_segs_from_part(p);
    if (rc < 0) {
        free(p->segs);
        free(p);
        return rc;
    }
    list_add_tail(&set->all, &p->all_link);
    list_add_tail(hash_slot(set, &part->topic_id, part->partition), &p->hash_link);
    set->plog_cnt++;
    plog_publish(p);
    if (ret != NULL)
        *ret = p;
    return 0;
}

void plog_detach(struct plog *p, plog_detached_fn *done, void *arg)
{
    ASSERT(p->state != PL_DETACHING);
    drain_end(p);
    p->state = PL_DETACHING;
    p->detached = done;
    p->detached_arg = arg;
    if (list_is_linked(&p->dirty_link))
        list_del(&p->dirty_link);
    if (p->commit == C_DIRECT)
        p->commit = C_NONE;
    p->set->unflushed_bytes -= p->end.lsn - p->durable.lsn;
    p->durable.lsn = p->end.lsn; /* nobody waits for these bytes any more */
    appends_fail_from(p, INT64_MIN, -E_UNKNOWN_TOPIC);
    waits_fail_all(p, -E_UNKNOWN_TOPIC);
    reads_fail_waiting(p, -E_UNKNOWN_TOPIC);
    list_del(&p->hash_link); /* not found any more */
    list_init(&p->hash_link);
    plog_settle(p);
}

void plog_set_close(struct plog_set *set, plog_set_closed_fn *done, void *arg)
{
    set->closing = true;
    set->closed = done;
    set->closed_arg = arg;
    list_for_each(it, &set->all)
    {
        struct plog *p = container_of(it, struct plog, all_link);
        waits_fail_all(p, -E_NOT_OWNER);
        if (p->state == PL_FENCED && set->close_rc == 0)
            set->close_rc = -E_STORAGE;
        if (p->state != PL_OPEN)
            continue;
        drain_end(p);
        p->state = PL_CLOSING;
        plog_flush_want(p, p->durable);
        plog_dirty(p);
        plog_pump(p);
    }
}

/* A closed set is told once, when everything has come to rest. */
static void close_check(struct plog_set *set)
{
    if (!set->closing || set->closed == NULL || !set_all_closed(set) || !plog_set_is_idle(set))
        return;
    plog_set_closed_fn *done = set->closed;
    set->closed = NULL;
    done(set->closed_arg, set->close_rc);
}

uint32_t plog_set_unclosed_cnt(const struct plog_set *set)
{
    uint32_t cnt = 0;
    list_for_each(it, &set->all) cnt += container_of(it, struct plog, all_link)->state == PL_FENCED;
    return cnt;
}

bool plog_set_is_idle(const struct plog_set *set)
{
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        if (journal_is_busy(set->dirs[i].journal))
            return false;
    return list_is_empty(&set->dirty) && list_is_empty(&set->blocked) &&
           list_is_empty(&set->ready_appends) && list_is_empty(&set->ready_reads) &&
           list_is_empty(&set->ready_waits) && list_is_empty(&set->ready_lists) &&
           list_is_empty(&set->ready_detached) && list_is_empty(&set->read_wait) &&
           set->reads_in_flight == 0 && jobs_pending(set) == 0 && set->draining_cnt == 0 &&
           set->lookup_cnt == 0 && list_is_empty(&set->lookup_wait);
}

/* --------------------------------------------------------------------------------------- the stage
 */

/* One pass over all partitions a second, some of them per poll: close what is idle, retry what
 * failed. */
static void tick_one(struct plog_set *set, struct plog *p)
{
    uint64_t now = now_ns(set), idle = (uint64_t)set->conf.idle_close_ms * 1000000;
    if (p->state == PL_FENCED || p->state == PL_CLOSING || p->state == PL_DETACHING) {
        plog_settle(p);
        plog_pump(p);
        return;
    }
    if (p->state != PL_OPEN)
        return;
    if (p->flush_to.lsn > p->flushed.lsn || p->epochs_changed) {
        plog_pump(p); /* a job may have found no memory */
        if (p->epochs_changed && !p->epochs_job)
            p->epochs_job = job_submit(p, JOB_EPOCHS, NULL);
    }
    seal_rolled(p);
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        bool quiet = s->file != NULL && s->io == 0 && !s->job && list_is_empty(&s->waiters) &&
                     now - s->used_ns >= idle && s->is_named && !s->is_dirty &&
                     (s->is_sealed || (!s->is_rolled && p->flushed.lsn == p->end.lsn &&
                                       p->commit == C_NONE && p->flush_pending == 0));
        if (quiet)
            (void)job_submit(p, JOB_IDLE, s); /* no memory: next second */
    }
    if (p->part->producers.cnt > 0 && (now / TICK_NS) % 64 == 0)
        (void)producers_expire(&p->part->producers, set->shard->wall_ms);
}

static void tick_dirs(struct plog_set *set)
{
    bool checkpoint =
        now_ns(set) - set->checkpoint_ns >= (uint64_t)set->conf.checkpoint_ms * 1000000;
    if (checkpoint)
        set->checkpoint_ns = now_ns(set);
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        struct set_dir *sd = &set->dirs[i];
        if (checkpoint && !sd->checkpoint_job && atomic_load(&sd->d->dirty))
            job_submit_dir(sd, true);
        bool watched = set->conf.storage_min_free_bytes > 0 || atomic_load(&sd->d->read_only);
        bool mine = set->shard->cnt <= 1 ||
                    i % set->shard->cnt == set->shard->id; /* one shard looks after a directory */
        if (mine && !sd->space_job &&
            (watched || checkpoint)) /* unwatched: only for those who ask */
            job_submit_dir(sd, false);
    }
}

static void tick(struct plog_set *set)
{
    uint64_t now = now_ns(set);
    if (set->tick_at == NULL && now - set->tick_ns >= TICK_NS) {
        set->tick_ns = now;
        set->tick_at = set->all.next;
        tick_dirs(set);
    }
    for (uint32_t i = 0; set->tick_at != NULL && i < TICK_PLOGS; i++) {
        if (set->tick_at == &set->all) {
            set->tick_at = NULL;
            break;
        }
        struct plog *p = container_of(set->tick_at, struct plog, all_link);
        set->tick_at = set->tick_at->next;
        tick_one(set, p);
    }
}

static uint32_t fire_ready(struct plog_set *set)
{
    uint32_t n = 0;
    struct list now;
    list_init(&now);
    list_splice_tail(&now, &set->ready_appends);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog_append *a = container_of(it, struct plog_append, link);
        a->done(a);
    }
    list_splice_tail(&now, &set->ready_reads);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog_read *r = container_of(it, struct plog_read, link);
        r->done(r);
    }
    list_splice_tail(&now, &set->ready_lists);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog_list_offsets *q = container_of(it, struct plog_list_offsets, link);
        q->done(q);
    }
    /* One at a time: a done may cancel another wait that is still in the list. */
    for (struct list *it = list_pop_head(&set->ready_waits); it;
         it = list_pop_head(&set->ready_waits), n++) {
        struct plog_wait *w = container_of(it, struct plog_wait, link);
        w->done(w);
    }
    list_splice_tail(&now, &set->ready_detached);
    for (struct list *it = list_pop_head(&now); it; it = list_pop_head(&now), n++) {
        struct plog *p = container_of(it, struct plog, all_link);
        plog_detached_fn *done = p->detached;
        void *arg = p->detached_arg;
        plog_free(p);
        done(arg);
    }
    return n;
}

static void on_timer(struct timer *t, uint64_t now)
{
    (void)t;
    (void)now; /* only ends the sleep: the poll does the work */
}

static void timer_set(struct plog_set *set)
{
    struct timer_wheel *w = set->shard->timers;
    if (w == NULL)
        return;
    uint64_t next = set->tick_ns + TICK_NS;
    if (!list_is_empty(&set->dirty)) {
        struct plog *p = container_of(set->dirty.next, struct plog, dirty_link);
        uint64_t due = p->dirty_ns + (uint64_t)set->conf.submit_max_ms * 1000000;
        next = due < next ? due : next;
    }
    /* The oldest that waits for its age. Behind it they are younger; what is being drained, and
     * what is fenced, has other things to wait for. */
    uint32_t seen = 0;
    list_for_each(it, &set->drain)
    {
        const struct plog *p = container_of(it, struct plog, drain_link);
        if (p->state == PL_OPEN && !p->draining && p->durable.lsn > p->flushed.lsn) {
            uint64_t due = p->drain_ns + (uint64_t)set->conf.drain_age_ms * 1000000;
            next = due < next ? due : next;
            break;
        }
        if (++seen == DRAINS_MAX) /* enough: the tick comes anyway */
            break;
    }
    /* What is overdue waits for a completion, or for a disk that fails: looked at again, but not in
     * every turn. */
    uint64_t soon = now_ns(set) + OVERDUE_NS;
    next = next < soon ? soon : next;
    if (set->tick_at != NULL)
        next = now_ns(set);
    if (!timer_is_armed(&set->timer) || set->timer.deadline_ns != next)
        timer_arm(w, &set->timer, next, on_timer);
}

uint32_t plog_set_poll(struct plog_set *set, uint32_t budget)
{
    (void)budget; /* every step below has its own bound */
    uint32_t n = dirwork_poll(set->dirwork) + dirwork_poll(set->slow_work);
    appends_retry_blocked(set);
    reads_retry(set);
    commit_form_all(set);
    drain_some(set);
    tick(set);
    n += fire_ready(set);
    close_check(set);
    timer_set(set);
    return n;
}

void plog_set_each(struct plog_set *set, bool (*fn)(void *arg, struct plog *p), void *arg)
{
    list_for_each_safe(it, tmp, &set->all)
    {
        struct plog *p = container_of(it, struct plog, all_link);
        if (p->state != PL_DETACHING && !fn(arg, p))
            return;
    }
}

void plog_set_stats_get(const struct plog_set *set, struct plog_set_stats *ret)
{
    *ret = set->st;
    ret->unflushed_bytes = set->unflushed_bytes;
    ret->staging_free_bytes = staging_free_bytes(set->staging);
    ret->partitions = set->plog_cnt;
    ret->journal_free_files = UINT32_MAX;
    for (uint32_t i = 0; i < set->dir_cnt; i++) {
        uint32_t n = journal_free_cnt(set->dirs[i].journal);
        if (n < ret->journal_free_files)
            ret->journal_free_files = n;
        ret->read_only = ret->read_only || atomic_load(&set->dirs[i].d->read_only);
    }
    if (!list_is_empty(&set->dirty)) {
        const struct plog *p = container_of(set->dirty.next, struct plog, dirty_link);
        ret->oldest_unflushed_ns = now_ns(set) - p->dirty_ns;
    }
}

/* -------------------------------------------------------------------------------------------
 * checks */

void plog_check(const struct plog *p)
{
    uint64_t lsn = UINT64_MAX;
    ASSERT(p->seg_cnt > 0);
    ASSERT(p->log_start <= p->durable.offset);
    ASSERT(p->flushed.lsn <= p->durable.lsn || p->state == PL_FENCED || p->commit != C_NONE);
    ASSERT(p->durable.lsn <= p->end.lsn);
    ASSERT(p->durable.offset <= p->end.offset);
    ASSERT(p->commit == C_NONE || p->commit_to.lsn >= p->durable.lsn);
    for (uint32_t i = 0; i + 1 < p->seg_cnt; i++) {
        ASSERT(p->segs[i]->base < p->segs[i + 1]->base);
        ASSERT(p->segs[i]->is_rolled);
    }
    ASSERT(!plog_active(p)->is_rolled);
    list_for_each(it, &p->chunks)
    {
        const struct chunk *c = container_of(it, struct chunk, link);
        ASSERT(c->from <= c->written);
        ASSERT(c->written <= c->used);
        ASSERT(c->used <= c->cap);
        ASSERT(lsn == UINT64_MAX || c->lsn == lsn);
        lsn = chunk_end(c);
    }
    ASSERT(lsn == UINT64_MAX || lsn == p->end.lsn);
    if (lsn == UINT64_MAX)
        ASSERT(p->flushed.lsn == p->end.lsn);
}

static bool check_one(void *arg, struct plog *p)
{
    (void)arg;
    if (p->state != PL_FENCED && p->state != PL_CLOSED)
        plog_check(p);
    return true;
}

void plog_set_check(const struct plog_set *set)
{
    plog_set_each((struct plog_set *)(uintptr_t)set, check_one, NULL);
}
