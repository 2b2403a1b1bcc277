/* plog_write.c - the bytes of a partition on their way into its segment files: written in the order
 * of their chunks, flushed in rounds, drained from the journal. plog_int.h has the states. */
#include "dataplane/store/plog_int.h"
#include <string.h>

static void flush_round_start(struct plog *p);
static void drain_unlist(struct plog *p);

static void written_advance(struct plog *p)
{
    while (p->wchunk != NULL) {
        struct chunk *c = p->wchunk;
        struct chunk *next = plog_chunk_next(p, c);
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
    if (is_no_space(res) && p->state == PL_OPEN) {
        plog_stall(p, res, "segment write");
        return;
    }
    if (res != (int)op->len) {
        plog_fail(p, res < 0 ? res : -EIO, "segment write");
        return;
    }
    plog_written(p, to - c->written);
    c->written = to;
    p->stall_ns = 0;
    c->seg->is_dirty = true; /* here, not at submission: a flush under way does not cover it */
    written_advance(p);
    plog_pump(p);
}

/* A write that makes the file longer takes the inode for itself, is done by a thread of the kernel
 * and waits there for those before it. So a segment that takes much gets room ahead of its end, one
 * step when less than half a step is left. The file then ends in zeros until it is cut: when it is
 * sealed, idle or closed; recovery knows such tails. (ADR 10) */
void seg_reserve_end(struct seg *s)
{
    if (s->reserved > 0)
        s->plog->sd->reserved_cnt--;
    s->reserved = s->reserve_to = 0;
}

static void on_reserved(struct file_op *op, int res)
{
    struct seg *s = container_of(op, struct seg, reserve_op);
    struct plog *p = s->plog;
    struct set_dir *sd = p->sd;
    s->io--;
    p->io--;
    if (res == 0) {
        sd->reserved_cnt += s->reserved == 0;
        s->reserved = s->reserve_to;
    } else { /* writes go on without */
        s->reserve_to = s->reserved;
        sd->no_reserve |= res == -EOPNOTSUPP || res == -ENOSYS || res == -EINVAL;
    }
    if (p->state != PL_OPEN)
        plog_settle(p);
    else if (s->is_rolled)
        plog_seal_rolled(p); /* which cuts it: not while this might make it longer again */
}

/* Every segment that has a reservation may have two steps of it: together at most a sixteenth of
 * what may still be written. */
static bool dir_can_reserve(const struct plog *p)
{
    uint64_t min_free = p->set->conf.storage_min_free_bytes;
    int64_t left = space_left(&p->sd->d->space);
    uint64_t all = (uint64_t)(p->sd->reserved_cnt + 1) * 2 * p->set->conf.reserve_bytes;
    return !p->sd->no_reserve && left >= 0 && (uint64_t)left >= min_free + 16 * all;
}

static void seg_reserve(struct plog *p, struct seg *s, uint64_t end)
{
    uint64_t step = p->set->conf.reserve_bytes;
    if (step == 0 || p->state != PL_OPEN || s->is_rolled || s->reserve_to > s->reserved ||
        end < step / 4 || end + step / 2 <= s->reserved)
        return;
    uint64_t to = end + step,
             max = (p->conf.segment_bytes + FILE_BLOCK) & ~(uint64_t)(FILE_BLOCK - 1);
    to = to < max ? to : max;
    uint64_t from = s->reserved > end ? s->reserved : end;
    if (to <= from || !dir_can_reserve(p))
        return;
    s->reserve_to = to;
    s->reserve_op.done = on_reserved;
    s->io++;
    p->io++;
    p->set->io->ops->reserve(s->file, &s->reserve_op, from, to - from);
}

static void chunk_write(struct plog *p, struct chunk *c)
{
    struct seg *s = c->seg;
    uint32_t start = c->written & ~(FILE_BLOCK - 1);
    uint32_t end = (c->used + FILE_BLOCK - 1) & ~(FILE_BLOCK - 1);
    seg_reserve(p, s, c->pos + end);
    dir_wrote(p->sd);
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
void plog_write_wanted(struct plog *p)
{
    if (p->state == PL_FENCED || p->state == PL_DETACHING || p->state == PL_CLOSED ||
        p->set->ending || (p->state == PL_OPEN && now_ns(p->set) < p->stall_ns))
        return;
    uint64_t want = p->flush_to.lsn > p->write_to ? p->flush_to.lsn : p->write_to;
    for (struct chunk *c = p->wchunk; c != NULL && c->lsn < want; c = plog_chunk_next(p, c)) {
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
    plog_write_wanted(p);
    if (p->state == PL_CLOSING)
        plog_settle(p);
}

/* -------------------------------------------------------------------------------- flush rounds */

void plog_hold_release(struct plog *p)
{
    if (p->hold_use == JOURNAL_USE_NONE)
        return;
    journal_release(p->sd->journal, p->hold_use);
    p->hold_use = JOURNAL_USE_NONE;
    plog_drain_update(p);
}

/* What is still held was journalled after the round began: in this use of a file, or a later one.
 */
static void hold_move(struct plog *p)
{
    if (p->hold_use == JOURNAL_USE_NONE)
        return;
    if (p->journal_lsn <= p->flushed.lsn) {
        plog_hold_release(p);
    } else if (p->hold_next != p->hold_use) {
        journal_hold(p->sd->journal, p->hold_next);
        journal_release(p->sd->journal, p->hold_use);
        p->hold_use = p->hold_next;
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
    drain_unlist(p); /* its age begins anew, and its use of the journal may be another one */
    hold_move(p);
    if (p->flushed.lsn >= p->flush_to.lsn)
        plog_drain_end(p);
    plog_drain_update(p);
    plog_cache_update(p);
    plog_publish(p);
    if (p->commit == C_DIRECT && p->flushed.lsn >= p->commit_to.lsn)
        commit_direct_done(p);
    plog_seal_rolled(p);
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
    dir_wrote(p->sd);
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

/* ---------------------------------------------------------------------------------------- drains
 */

static void drain_unlist(struct plog *p)
{
    if (!list_is_linked(&p->drain_link))
        return;
    list_del(&p->drain_link);
    list_del(&p->drain_use_link);
}

/* In the lists of its directory is a partition that a drain would help: it has journalled bytes
 * that are not flushed in its segments, and none of its drains is under way. */
void plog_drain_update(struct plog *p)
{
    bool waits = p->state == PL_OPEN && !p->draining && p->hold_use != JOURNAL_USE_NONE &&
                 p->durable.lsn > p->flushed.lsn;
    if (!waits) {
        drain_unlist(p);
        return;
    }
    struct set_dir *sd = p->sd;
    bool is_large = p->durable.lsn - p->flushed.lsn >= DRAIN_LARGE;
    if (!list_is_linked(&p->drain_link)) {
        p->drain_ns = now_ns(p->set);
        list_add_tail(&sd->drain, &p->drain_link);
        list_add_tail(&sd->drain_use[p->hold_use % JOURNAL_FILES_MAX], &p->drain_use_link);
    }
    if (is_large && p->drain_ns != 0) { /* is due as if it were very old */
        p->drain_ns = 0;
        list_del(&p->drain_link);
        list_add_head(&sd->drain, &p->drain_link);
    }
}

void plog_drain_end(struct plog *p)
{
    if (p->draining) {
        p->draining = false;
        p->set->draining_cnt--;
        p->sd->draining_cnt--;
    }
    plog_drain_update(p);
}

static void drain_start(struct plog *p)
{
    struct plog_set *set = p->set;
    p->draining = true;
    drain_unlist(p);
    set->draining_cnt++;
    p->sd->draining_cnt++;
    set->st.drains++;
    plog_flush_want(p, p->durable);
    plog_pump(p);
}

uint64_t plog_drain_due_ns(const struct set_dir *sd)
{
    if (list_is_empty(&sd->drain) || sd->draining_cnt >= DRAINS_MAX)
        return UINT64_MAX; /* the end of one that is under way comes first */
    const struct plog *p = container_of(sd->drain.next, struct plog, drain_link);
    return p->drain_ns + (uint64_t)sd->set->conf.drain_age_ms * 1000000;
}

/* Those that hold the oldest file of the journal, when it runs out of files. */
static struct plog *drain_for_journal(struct set_dir *sd)
{
    if (list_is_empty(&sd->drain) || journal_free_cnt(sd->journal) > 1)
        return NULL;
    struct list *at = &sd->drain_use[journal_tail_use(sd->journal) % JOURNAL_FILES_MAX];
    return list_is_empty(at) ? NULL : container_of(at->next, struct plog, drain_use_link);
}

static void drain_dir(struct set_dir *sd, bool memory_short)
{
    struct plog *p;
    while (sd->draining_cnt < DRAINS_MAX && (p = drain_for_journal(sd)) != NULL)
        drain_start(p);
    while (!list_is_empty(&sd->drain) && (plog_drain_due_ns(sd) <= now_ns(sd->set) ||
                                          (memory_short && sd->draining_cnt < DRAINS_MAX)))
        drain_start(container_of(sd->drain.next, struct plog, drain_link));
}

/* Journalled bytes go to their segments: when they are old, when they are many, when the journal
 * runs out of files, when memory runs short. Oldest first. One slow disk does not hold up others.
 */
void plog_drain_some(struct plog_set *set)
{
    bool memory_short = staging_free_bytes(set->staging) < staging_bytes(set->staging) / 4 &&
                        (list_is_empty(&set->cache) || !list_is_empty(&set->blocked));
    for (uint32_t i = 0; i < set->dir_cnt; i++)
        drain_dir(&set->dirs[i], memory_short);
}
