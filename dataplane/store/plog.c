/* plog.c - one partition: its bytes in memory, fencing, settling, what others ask of it. plog_int.h
 * has the states; plog_append.c and plog_read.c the two ends; plog_write.c and plog_seg.c the
 * files; plog_job.c what blocks; plog_set.c the partitions of a shard together. */
#include "dataplane/store/plog_int.h"
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- small parts
 */

struct chunk *plog_tail_chunk(const struct plog *p)
{
    if (list_is_empty(&p->chunks))
        return NULL;
    struct chunk *c = container_of(p->chunks.prev, struct chunk, link);
    return c->seg == plog_active(p) ? c : NULL;
}

struct chunk *plog_chunk_next(const struct plog *p, struct chunk *c)
{
    return c->link.next == &p->chunks ? NULL : container_of(c->link.next, struct chunk, link);
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
        c = plog_chunk_next(p, c);
    }
}

uint64_t plog_written_lsn(const struct plog *p)
{
    return p->wchunk ? p->wchunk->lsn + (p->wchunk->written - p->wchunk->from) : p->end.lsn;
}

void plog_written(struct plog *p, uint64_t bytes)
{
    ASSERT(bytes <= p->unwritten);
    p->unwritten -= bytes;
    space_count(&p->sd->d->space.written, bytes);
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

/* ------------------------------------------------------------------------------ chunks and caching
 */

/* Bytes that are flushed may be forgotten. The tail chunk too, when nothing else is to come soon:
 * its last block moves to p->tail then. */
void plog_cache_update(struct plog *p)
{
    while (p->keep != NULL) {
        struct chunk *c = p->keep, *next = plog_chunk_next(p, c);
        uint64_t need = c->last_batch_end > chunk_end(c) ? c->last_batch_end : chunk_end(c);
        if (need > p->flushed.lsn || c->write_to != 0 || c->written < c->used)
            return;
        list_add_tail(&p->set->cache, &c->cache);
        p->keep = next;
    }
}

void plog_chunk_evict(struct plog_set *set, struct chunk *c)
{
    struct plog *p = c->plog;
    uint32_t tail_len = c->used & (FILE_BLOCK - 1);
    ASSERT(p->chunks.next == &c->link);
    ASSERT(c->write_to == 0);
    if (c == plog_tail_chunk(p) && plog_active(p)->file == NULL) {
        free(p->tail); /* idle: it is read when the file is opened again */
        p->tail = NULL;
    } else if (c == plog_tail_chunk(p) && tail_len > 0) {
        if (p->tail == NULL)
            p->tail = malloc(FILE_BLOCK);
        if (p->tail != NULL) /* else it is read from the file again */
            memcpy(p->tail, c->buf + (c->used - tail_len), tail_len);
    }
    if (p->wchunk == c)
        p->wchunk = plog_chunk_next(p, c);
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
        plog_chunk_evict(set, container_of(set->cache.next, struct chunk, cache));
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

/* ------------------------------------------------------------------------------- fence, settle */

void plog_fail(struct plog *p, int rc, const char *what)
{
    if (p->state == PL_FENCED || p->state == PL_DETACHING || p->state == PL_CLOSED)
        return;
    LOG_ERROR("%s: %s failed: %s; the partition is fenced until its file is recovered", p->dir,
              what, err_text(rc));
    if (is_no_space(rc))
        atomic_store(&p->sd->d->space.read_only, true);
    if (p->state == PL_CLOSING && p->set->close_rc == 0)
        p->set->close_rc = rc;
    p->set->st.fenced++;
    p->state = PL_FENCED;
    plog_drain_end(p);
    if (list_is_linked(&p->dirty_link))
        list_del(&p->dirty_link);
    if (p->commit == C_DIRECT)
        p->commit = C_NONE;
    /* What is in a journal entry in flight is answered when that ends. */
    appends_fail_from(p, p->commit == C_JOURNAL ? p->commit_to.offset : p->durable.offset,
                      -E_STORAGE);
    reads_fail_waiting(p, -E_STORAGE);
    p->retry_ns = p->full_retry_ns = 0;
    p->fence_tries = 0;
    plog_settle(p);
}

void plog_stall(struct plog *p, int rc, const char *what)
{
    if (p->stall_ns == 0)
        LOG_ERROR("%s: %s: %s; what is appended waits in memory until there is room", p->dir, what,
                  err_text(rc));
    p->stall_ns = now_ns(p->set) + TICK_NS;
    p->set->st.stalls++;
    atomic_store(&p->sd->d->space.read_only, true);
    appends_fail_clients(p, -E_READ_ONLY);
}

/* Recovery reads a segment: on a full disk, where it may fail for long, ever less often. */
static uint64_t retry_at(const struct plog *p)
{
    return atomic_load(&p->sd->d->space.read_only) ? p->full_retry_ns : p->retry_ns;
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
        if (!p->set->closing && now_ns(p->set) >= retry_at(p))
            (void)job_submit(p, JOB_FENCE, NULL); /* no memory: the tick tries again */
        break;
    case PL_CLOSING:
        if (p->commit == C_NONE && p->durable.lsn == p->end.lsn && p->flushed.lsn == p->end.lsn &&
            p->flush_pending == 0)
            (void)job_submit(p, JOB_CLOSE, NULL);
        else if (p->commit == C_NONE && p->flush_pending == 0) {
            plog_dirty(p);
            plog_flush_want(p, p->durable);
            plog_write_wanted(p);
        }
        break;
    case PL_DETACHING:
        (void)job_submit(p, JOB_DETACH, NULL);
        break;
    }
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
    return p->state == PL_OPEN && !atomic_load(&p->sd->d->space.read_only);
}

void plog_offsets_get(const struct plog *p, struct plog_offsets *ret)
{
    *ret = (struct plog_offsets){
        .log_start = p->log_start,
        .recovery_point = p->flushed.offset,
        .durable = p->durable.offset,
        .stable = p->stable,
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
    uint64_t min_free = set->conf.storage_min_free_bytes;
    return (struct plog_dir){
        .path = d->path,
        .total_bytes = atomic_load_explicit(&d->space.total_bytes, memory_order_relaxed),
        .free_bytes = atomic_load_explicit(&d->space.free_bytes, memory_order_relaxed),
        .missing_bytes = min_free > 0 ? space_missing(&d->space, min_free) : 0,
        .read_only = atomic_load_explicit(&d->space.read_only, memory_order_relaxed),
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

/* -------------------------------------------------------------------------------------- checks */

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
