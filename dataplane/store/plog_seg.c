/* plog_seg.c - the segments of a partition: made by recovery and by rolls, sealed, dropped from the
 * front. */
#include "dataplane/store/plog_int.h"
#include <stdlib.h>
#include <string.h>

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
    s->plog->set->suspect_cnt -= s->is_suspect;
    seg_reserve_end(s);
    ASSERT(list_is_empty(&s->waiters));
    seg_index_fini(&s->ix);
    free(s->snapshot);
    free(s->txn_index);
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
    s->ix.bytes_since = g->index_since;
    s->ix.max_ts = g->max_ts;
    s->ix.max_ts_offset = g->max_ts < 0 ? g->base : g->max_ts_offset;
    s->created_ms = g->mtime_ms > 0 ? g->mtime_ms : s->created_ms;
    return s;
}

struct seg *plog_seg_rewritten(struct plog *p, const struct plog_swap *w, const struct seg *last)
{
    struct seg *s = seg_new(p, w->base);
    if (s == NULL)
        return NULL;
    s->len = s->written = w->len;
    s->is_named = s->is_rolled = s->is_sealed = true;
    s->has_index = w->len == 0;
    s->ix.max_ts = w->max_ts;
    s->ix.max_ts_offset = w->max_ts_offset;
    s->first_ts = w->first_ts;
    s->is_recoded = w->recoded;
    s->created_ms = last->created_ms;
    s->end_lsn = last->end_lsn;
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

/* Segments that were left by a roll and are flushed now: cut and index them. */
void plog_seal_rolled(struct plog *p)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        if (s->is_rolled && !s->is_sealed && !s->job && s->reserve_to == s->reserved &&
            s->end_lsn <= p->flushed.lsn && p->state == PL_OPEN && now_ns(p->set) >= p->stall_ns)
            (void)job_submit(p, JOB_SEAL, s); /* no memory: the next round or tick tries again */
    }
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
    if (producers_encode(&p->part->producers, &old->snapshot, &old->snapshot_len) < 0 ||
        aborted_encode(&p->part->aborted, old->base, p->end.offset, &old->txn_index,
                       &old->txn_index_len) < 0) {
        free(old->snapshot);
        old->snapshot = NULL;
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
        plog_seal_rolled(p);
    return true;
}

void plog_roll_now(struct plog *p)
{
    if (p->state == PL_OPEN && plog_active(p)->len > 0)
        (void)plog_roll(p); /* no memory: retention asks again */
}

/* Also of a fenced partition that waits for its next recovery: on a full disk that may need the
 * very room that its segments take. */
static bool may_drop(const struct plog *p)
{
    return p->state == PL_OPEN || (p->state == PL_FENCED && !p->fence_job);
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
        .first_timestamp_ms = s->first_ts,
        .max_timestamp_ms = s->ix.max_ts,
        .recoded = s->is_recoded,
        .mtime_ms = s->created_ms,
        .sealed = s->is_sealed,
        .suspect = s->is_suspect,
        .can_drop = s->is_sealed && may_drop(p) && !s->job && s->io == 0 &&
                    list_is_empty(&s->waiters) && idx + 1 < p->seg_cnt,
    };
    return true;
}

bool plog_scrub_is_due(const struct plog *p, uint32_t idx, uint64_t pass)
{
    return p->segs[idx]->scrub_pass != pass;
}

bool plog_scrub_claim(struct plog *p, uint32_t idx, uint64_t pass)
{
    struct seg *s = p->segs[idx];
    bool is_new = s->scrub_pass != pass;
    s->scrub_pass = pass;
    return is_new;
}

void plog_suspect_set(struct plog *p, int64_t base)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        if (p->segs[i]->base != base || p->segs[i]->is_suspect)
            continue;
        p->segs[i]->is_suspect = true;
        p->set->suspect_cnt++;
    }
}

void plog_recoded_set(struct plog *p, int64_t base)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++)
        if (p->segs[i]->base == base)
            p->segs[i]->is_recoded = true;
}

void plog_suspect_clear(struct plog *p, int64_t base)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        if (p->segs[i]->base != base || !p->segs[i]->is_suspect)
            continue;
        p->segs[i]->is_suspect = false;
        p->set->suspect_cnt--;
    }
}

uint32_t plog_set_suspects(const struct plog_set *set)
{
    return set->suspect_cnt;
}

uint32_t plog_drop_segments(struct plog *p, uint32_t cnt, bool for_space)
{
    uint32_t n = 0;
    while (n < cnt && p->seg_cnt > 1 && may_drop(p)) {
        struct seg *s = p->segs[0];
        if (!p->segs[1]->is_named) { /* who finds no segment after a crash begins at offset 0 */
            seg_want_open(p->segs[1]);
            break;
        }
        s->for_space = for_space;
        bool busy = !s->is_sealed || s->job || s->io > 0 || !list_is_empty(&s->waiters);
        bool in_memory = false; /* its chunks name it: they must be reused first */
        if (!list_is_empty(&p->chunks))
            in_memory = container_of(p->chunks.next, struct chunk, link)->seg == s;
        while (in_memory && !busy) {
            struct chunk *c = container_of(p->chunks.next, struct chunk, link);
            if (!list_is_linked(&c->cache))
                break;
            plog_chunk_evict(p->set, c);
            in_memory = !list_is_empty(&p->chunks) &&
                        container_of(p->chunks.next, struct chunk, link)->seg == s;
        }
        if (busy || in_memory || !job_submit(p, JOB_DROP, s))
            break;
        space_count(&p->sd->d->space.dropped, s->len);
        atomic_store(&p->sd->d->space.low_checks, 0);
        p->size_bytes -= s->len;
        memmove(p->segs, p->segs + 1, --p->seg_cnt * sizeof(struct seg *));
        if (p->log_start < p->segs[0]->base)
            p->log_start = p->segs[0]->base;
        p->set->st.segments_dropped++;
        p->set->st.space_segments += for_space;
        p->set->st.space_bytes += for_space ? s->len : 0;
        n++;
    }
    if (n > 0) {
        aborted_truncate_start(&p->part->aborted, p->segs[0]->base);
        epochs_truncate_start(&p->part->epochs, p->log_start);
        plog_publish(p);
    }
    return n;
}

/* Jobs of a partition end in the order they were submitted: gaps follow one another. What was put
 * back comes before what was added since. */
void plog_gap_add(struct plog *p, const struct plog_gap *g)
{
    struct plog_gap *all = &p->gap;
    if (all->segments == 0) {
        *all = *g;
        p->set->gap_cnt++;
        return;
    }
    if (g->from_offset < all->from_offset) {
        all->from_offset = g->from_offset;
        all->from_ms = g->from_ms;
    }
    all->to_offset = g->to_offset > all->to_offset ? g->to_offset : all->to_offset;
    all->to_ms = g->to_ms > all->to_ms ? g->to_ms : all->to_ms;
    all->bytes += g->bytes;
    all->segments += g->segments;
}

bool plog_gap_take(struct plog *p, struct plog_gap *ret)
{
    if (p->gap.segments == 0)
        return false;
    *ret = p->gap;
    p->gap.segments = 0;
    p->set->gap_cnt--;
    return true;
}

void plog_gap_put_back(struct plog *p, const struct plog_gap *g)
{
    plog_gap_add(p, g);
}

uint32_t plog_set_gap_cnt(const struct plog_set *set)
{
    return set->gap_cnt;
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
