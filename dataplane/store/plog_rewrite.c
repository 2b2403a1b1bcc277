/* plog_rewrite.c - the partition's side of a rewrite: the lease, what the job is told, and putting
 * its segments in the place of those it read.
 *
 *     lease taken --plog_rewrite_src--> job (store/compact.h, elsewhere) --plog_swap--> swap job
 *       --swap_done--> segments exchanged; the old ones live until their last read has ended */
#include "dataplane/store/plog_int.h"
#include "dataplane/store/seg_out.h"
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------- lease */

bool plog_lease_is_free(const struct plog *p)
{
    return !p->lease && p->scrubbing == 0 && p->state == PL_OPEN && !p->set->closing;
}

bool plog_lease_take(struct plog *p)
{
    if (!plog_lease_is_free(p))
        return false;
    p->lease = true;
    return true;
}

void plog_lease_put(struct plog *p)
{
    p->lease = false;
}

bool plog_lease_has(const struct plog *p)
{
    return p->lease && p->state == PL_OPEN && !p->set->closing;
}

bool plog_scrub_begin(struct plog *p)
{
    if (p->lease)
        return false;
    p->scrubbing++;
    return true;
}

void plog_scrub_end(struct plog *p)
{
    ASSERT(p->scrubbing > 0);
    p->scrubbing--;
}

/* ------------------------------------------------------------------------------ what a job needs
 */

bool plog_rewrite_has_room(const struct plog *p, uint64_t bytes)
{
    uint64_t one = bytes < p->conf.segment_bytes ? bytes : p->conf.segment_bytes;
    int64_t left = space_left(&p->sd->d->space);
    return left >= 0 && (uint64_t)left >= p->set->conf.storage_min_free_bytes + one;
}

int64_t plog_cleaned(const struct plog *p)
{
    int64_t at = atomic_load_explicit(&p->part->mark->cleaned, memory_order_relaxed);
    return at > p->end.offset || at < p->segs[0]->base ? p->segs[0]->base : at;
}

bool plog_has_gaps(const struct plog *p)
{
    return p->conf.compact || atomic_load(&p->part->mark->cleaned) >= 0;
}

static void cleaned_store(struct plog *p, int64_t offset)
{
    atomic_store(&p->part->mark->cleaned, offset);
    atomic_store(&p->sd->d->cleaner_dirty, true);
    atomic_store(&p->sd->d->dirty, true);
}

void plog_cleaned_set(struct plog *p, int64_t offset)
{
    if (offset > atomic_load(&p->part->mark->cleaned))
        cleaned_store(p, offset);
}

void plog_rewrite_failed(struct plog *p, bool damage, uint64_t retry_ns)
{
    if (damage)
        p->rewrite_failures.cnt++;
    else if (retry_ns == 0)
        p->rewrite_failures.cnt = 0;
    p->rewrite_failures.retry_ns = retry_ns;
}

struct plog_rewrite_failures plog_rewrite_failures(const struct plog *p)
{
    return p->rewrite_failures;
}

int plog_rewrite_src(const struct plog *p, struct plog_rewrite_src *ret)
{
    const struct aborted_txns *a = &p->part->aborted;
    struct plog_rewrite_src s = {0};
    struct plog_offsets off;
    plog_offsets_get(p, &off);
    strcpy(s.dir, p->dir); /* one of path_join */
    s.aborted.v = malloc((a->cnt + 1) * sizeof(*s.aborted.v));
    s.producers = malloc((p->part->producers.cnt + 1) * sizeof(*s.producers));
    if (s.aborted.v == NULL || s.producers == NULL) {
        plog_rewrite_src_fini(&s);
        return -ENOMEM;
    }
    if (a->cnt > 0)
        memcpy(s.aborted.v, a->v, a->cnt * sizeof(*a->v));
    s.aborted.cnt = s.aborted.cap = a->cnt;
    int n = producers_last(&p->part->producers, off.durable, s.producers);
    if (n < 0) {
        plog_rewrite_src_fini(&s);
        return n;
    }
    s.producer_cnt = (uint32_t)n;
    *ret = s;
    return 0;
}

void plog_rewrite_src_fini(struct plog_rewrite_src *s)
{
    aborted_fini(&s->aborted);
    free(s->producers);
    s->producers = NULL;
}

/* ------------------------------------------------------------------------------ old segments go */

struct retire_job {
    struct dirjob j;
    struct seg *s;
    struct file_io *io;
};

static void retire_run(struct dirjob *j)
{
    struct retire_job *k = container_of(j, struct retire_job, j);
    k->io->ops->close(k->s->file); /* its last name is gone: this is where its blocks go */
    k->s->file = NULL;
    j->rc = 0;
}

static void retire_done(struct dirjob *j)
{
    struct retire_job *k = container_of(j, struct retire_job, j);
    struct plog *p = k->s->plog;
    plog_seg_free(k->s);
    free(k);
    p->jobs--;
    plog_settle(p);
}

void plog_seg_retire(struct seg *s)
{
    struct plog *p = s->plog;
    s->is_retired = true;
    if (s->io > 0)
        return; /* the end of the last one asks again */
    struct retire_job *k = s->file == NULL || p->set->ending ? NULL : malloc(sizeof(*k));
    if (k == NULL) {
        if (s->file != NULL)
            p->set->io->ops->close(s->file);
        s->file = NULL;
        plog_seg_free(s);
        return;
    }
    *k = (struct retire_job){
        .j = {.run = retire_run, .done = retire_done}, .s = s, .io = p->set->io};
    p->jobs++;
    dirwork_submit(p->set->slow_work, &k->j);
}

/* ----------------------------------------------------------------------------------------- swap */

struct swap_job {
    struct dirjob j;
    struct plog *p;
    struct plog_swap *w;
    struct seg *fresh;
    bool checkpointed; /* from here on files change */
    uint32_t cnt;
    struct seg *old[];
};

/* Recovery must not take the offsets that are missing for damage: the checkpoints that tell it come
 * before. */
static void swap_run(struct dirjob *j)
{
    struct swap_job *k = container_of(j, struct swap_job, j);
    int64_t *bases = malloc(k->cnt * sizeof(*bases));
    if (bases == NULL) {
        j->rc = -ENOMEM;
        return;
    }
    for (uint32_t i = 0; i < k->cnt; i++)
        bases[i] = k->old[i]->base;
    j->rc = catalog_checkpoint(k->p->sd->d);
    if (j->rc == 0) {
        k->checkpointed = true;
        j->rc = seg_swap(k->p->set->io, k->p->dir, bases, k->cnt);
    }
    free(bases);
}

/* Those whose marker lies in [base, end) become the ones given; they were some of them. */
static void aborted_exchange(struct aborted_txns *t, int64_t base, int64_t end,
                             const struct aborted_txns *with)
{
    uint32_t n = 0, i = 0;
    while (i < t->cnt && t->v[i].last_offset < base)
        i++;
    uint32_t to = i;
    while (i < t->cnt && t->v[i].last_offset < end)
        i++;
    ASSERT(with->cnt <= i - to);
    for (; n < with->cnt; n++)
        t->v[to++] = with->v[n];
    if (t->cnt > i)
        memmove(t->v + to, t->v + i, (t->cnt - i) * sizeof(*t->v));
    t->cnt -= i - to;
}

static uint32_t seg_idx(const struct plog *p, const struct seg *s)
{
    uint32_t i = 0;
    while (i < p->seg_cnt && p->segs[i] != s)
        i++;
    return i;
}

static void swap_adopt(struct swap_job *k)
{
    struct plog *p = k->p;
    uint32_t idx = seg_idx(p, k->old[0]);
    ASSERT(idx + k->cnt < p->seg_cnt);
    int64_t end = p->segs[idx + k->cnt]->base;
    p->segs[idx] = k->fresh;
    memmove(p->segs + idx + 1, p->segs + idx + k->cnt,
            (p->seg_cnt - idx - k->cnt) * sizeof(struct seg *));
    p->seg_cnt -= k->cnt - 1;
    p->size_bytes += k->fresh->len;
    aborted_exchange(&p->part->aborted, k->fresh->base, end, &k->w->aborted);
    k->fresh = NULL;
    for (uint32_t i = 0; i < k->cnt; i++) {
        struct list waiters;
        p->size_bytes -= k->old[i]->len;
        list_init(&waiters);
        list_splice_tail(&waiters, &k->old[i]->waiters);
        plog_seg_retire(k->old[i]);
        reads_restart(&waiters);
    }
    plog_publish(p);
}

static void swap_done(struct dirjob *j)
{
    struct swap_job *k = container_of(j, struct swap_job, j);
    struct plog *p = k->p;
    struct plog_swap *w = k->w;
    p->jobs--;
    for (uint32_t i = 0; i < k->cnt; i++)
        k->old[i]->job = false;
    w->rc = j->rc;
    if (j->rc == 0) {
        swap_adopt(k);
        p->set->st.swaps++;
    } else {
        plog_seg_free(k->fresh);
        if (k->checkpointed) /* recovery tells what the files are, and ends what was begun */
            plog_fail(p, j->rc, "putting rewritten segments in place");
        for (uint32_t i = 0; i < k->cnt && !k->checkpointed; i++)
            if (!list_is_empty(&k->old[i]->waiters))
                seg_want_open(k->old[i]);
    }
    free(k);
    w->done(w);
    plog_settle(p);
    plog_pump(p);
}

/* Bytes in memory name their segment: those of old ones are given up, oldest first. */
static bool chunks_leave(struct plog *p, uint32_t idx_end)
{
    while (!list_is_empty(&p->chunks)) {
        struct chunk *c = container_of(p->chunks.next, struct chunk, link);
        if (seg_idx(p, c->seg) >= idx_end)
            break;
        if (!list_is_linked(&c->cache))
            return false;
        plog_chunk_evict(p->set, c);
    }
    return true;
}

/* 0: they are as the job saw them and nobody is at them; -E_BUSY, -ESTALE. */
static int sources_check(const struct plog *p, const struct plog_swap *w, uint32_t idx)
{
    uint64_t bytes = 0;
    bool busy = false;
    if (idx + w->cnt >= p->seg_cnt || p->segs[idx + w->cnt]->base != w->end)
        return -ESTALE;
    for (uint32_t i = idx; i < idx + w->cnt; i++) {
        const struct seg *s = p->segs[i];
        if (!s->is_sealed || s->is_suspect)
            return -ESTALE;
        bytes += s->len;
        busy = busy || s->job || !list_is_empty(&s->waiters);
    }
    return bytes != w->src_bytes ? -ESTALE : busy ? -E_BUSY : 0;
}

int plog_swap(struct plog *p, struct plog_swap *w)
{
    uint32_t idx = 0;
    if (!plog_lease_has(p) || p->set->ending)
        return -ESTALE;
    while (idx < p->seg_cnt && p->segs[idx]->base != w->base)
        idx++;
    int rc = sources_check(p, w, idx);
    if (rc < 0)
        return rc;
    if (!chunks_leave(p, idx + w->cnt))
        return -E_BUSY;
    struct swap_job *k = calloc(1, sizeof(*k) + w->cnt * sizeof(k->old[0]));
    struct seg *fresh = plog_seg_rewritten(p, w, p->segs[idx + w->cnt - 1]);
    if (k == NULL || fresh == NULL) {
        if (fresh != NULL)
            plog_seg_free(fresh);
        free(k);
        return -ENOMEM;
    }
    if (!w->recoded && atomic_load(&p->part->mark->cleaned) < 0)
        cleaned_store(p, p->segs[0]->base);
    else
        atomic_store(&p->sd->d->dirty, true);
    plog_publish(p); /* the recovery point is above them: flushed is */
    k->j = (struct dirjob){.run = swap_run, .done = swap_done};
    k->p = p;
    k->w = w;
    k->fresh = fresh;
    k->cnt = w->cnt;
    for (uint32_t i = 0; i < w->cnt; i++) {
        k->old[i] = p->segs[idx + i];
        k->old[i]->job = true;
    }
    p->jobs++;
    dirwork_submit(p->set->slow_work, &k->j);
    return 0;
}
