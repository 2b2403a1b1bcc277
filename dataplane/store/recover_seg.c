/* recover_seg.c - one segment file: its batches walked, its end found, its indexes made; or, when
 * it was closed cleanly, only the ends of its indexes looked at. */
#include "dataplane/store/recover_int.h"
#include "dataplane/store/seg_heal.h"
#include "dataplane/store/store_file.h"
#include "lib/batch/layout.h"
#include <inttypes.h>
#include <stdlib.h>

/* ----------------------------------------------------------------------------------- one segment
 */

int recover_txn(struct part *p, const struct batch_info *b, const uint8_t *bytes)
{
    struct batch_marker marker;
    struct aborted_txn ended;
    bool is_marker =
        (b->attributes & BATCH_ATTR_CONTROL) != 0 && marker_read(bytes, b->total_len, &marker) == 0;
    int rc =
        producers_update(&p->producers, b, is_marker ? &marker : NULL, b->max_timestamp, &ended);
    return rc == 1 ? marker.commit ? 0 : aborted_add(&p->aborted, &ended) : rc;
}

/* The window holds the whole batch. */
static int scan_batch(struct scan *s, struct walk *w, struct seg_index *ix, uint64_t pos,
                      const struct batch_info *b)
{
    int64_t last = b->base_offset + b->last_offset_delta;
    seg_index_add(ix,
                  &(struct seg_index_batch){.pos = (uint32_t)pos,
                                            .len = b->total_len,
                                            .last_offset = last,
                                            .max_ts = b->max_timestamp},
                  s->o->index_interval_bytes);
    int rc = epochs_assign(&s->p->epochs, b->leader_epoch, b->base_offset);
    if (rc < 0)
        return rc;
    if (b->base_offset >= s->producer_from) {
        const uint8_t *bytes;
        rc = walk_get(w, pos, b->total_len, &bytes);
        if (rc == 0)
            rc = recover_txn(s->p, b, bytes);
        if (rc < 0)
            return rc;
    }
    s->next = last + 1;
    s->rep->batches++;
    return 0;
}

static bool is_in_place(const struct scan *s, int64_t seg_base, const struct batch_info *b)
{
    return b->base_offset >= s->next && b->base_offset >= seg_base &&
           b->base_offset + b->last_offset_delta - seg_base <= INT32_MAX;
}

/* Damage to flushed bytes: what is wrong with one field is put right, what is lost is kept aside
 * with a batch that says so in its place. Above the recovery point, which is some seconds old, it
 * may also be what a crash tore, which was never acknowledged and goes. 1: look at pos again, 0:
 * nothing can be done; *ret_keep: the bytes must not be lost. */
static int heal(struct scan *s, struct walk *w, int64_t seg_base, int64_t seg_end, uint64_t pos,
                bool *ret_keep)
{
    struct seg_damage d;
    struct seg_healed h;
    struct seg_judge j = {.w = w,
                          .base = seg_base,
                          .end = seg_end,
                          .next = s->next,
                          .epoch = epochs_at(&s->p->epochs, s->next),
                          .has_gaps = s->has_gaps};
    bool torn = false;
    int rc = seg_judge(&j, pos, &d);
    if (rc == 1 && s->next >= s->po->recovery_point) {
        int err = seg_may_be_torn(w, &d, s->next, &torn);
        rc = err < 0 ? err : rc;
    }
    if (rc < 0)
        return rc;
    *ret_keep = rc == 1 && (!torn || pos + d.len < w->size);
    if (rc == 1 &&
        (torn || !(damage_is_repairable(d.kind) && d.to > d.from && d.kind != DAMAGE_ZERO_TAIL)))
        rc = 0;
    if (rc == 1) {
        rc = seg_heal(w->io, s->dir, seg_base, &d, &h);
        rc = rc < 0 ? rc == -E_LIMIT || rc == -ENOSPC ? 0 : rc : 1;
        w->len = 0; /* what the window holds is old */
    }
    if (rc == 1)
        recover_note(s->rep, damage_is_lost(d.kind) ? RC_DAMAGED_BATCH : RC_DAMAGED_FIELD,
                     "topic %s partition %" PRId32 ": %s, offsets %" PRId64 " to %" PRId64
                     ", %" PRIu64 " bytes at byte %" PRIu64 " of %s segment %" PRId64 ": %s",
                     s->p->topic, s->p->partition, damage_name(d.kind), d.from, d.to - 1, d.len,
                     d.pos, s->dir, seg_base, h.text);
    return rc;
}

static int tail_keep_copy(struct scan *s, struct walk *w, int64_t base, uint64_t pos)
{
    char path[STORE_PATH_MAX], suffix[48];
    (void)snprintf(suffix, sizeof(suffix), SFX_LOG ".%" PRIu64 ".damaged", pos);
    int rc = path_seg(path, s->dir, base, suffix);
    const uint8_t *b;
    if (rc == 0)
        rc = walk_get(w, pos, w->size - pos, &b);
    return rc < 0 ? rc : store_file_write(w->io, path, b, w->size - pos, true);
}

/* The log ends at pos, before the file does: say why. */
static int judge_tail(struct scan *s, struct walk *w, int64_t base, uint64_t pos, bool keep)
{
    bool zero;
    int rc = walk_is_zero(w, pos, &zero);
    if (rc < 0)
        return rc;
    uint64_t len = w->size - pos;
    s->cut_zeros = zero;
    if (zero) {
        recover_note(s->rep, RC_ZERO_TAIL,
                     "%s segment %" PRId64 ": %" PRIu64 " zero bytes from %" PRIu64, s->dir, base,
                     len, pos);
    } else if (keep) {
        recover_note(s->rep, RC_DAMAGED_TAIL,
                     "topic %s partition %" PRId32 ": offset %" PRId64 " and above, %" PRIu64
                     " bytes from byte %" PRIu64 " of %s segment %" PRId64,
                     s->p->topic, s->p->partition, s->next, len, pos, s->dir, base);
        rc = tail_keep_copy(s, w, base, pos);
    } else {
        recover_note(s->rep, RC_TORN_TAIL,
                     "%s segment %" PRId64 ": %" PRIu64 " bytes from %" PRIu64, s->dir, base, len,
                     pos);
    }
    return rc;
}

static int seg_scan_walk(struct scan *s, struct walk *w, struct seg_index *ix, int64_t base,
                         int64_t end, uint64_t *ret_len)
{
    uint64_t pos = 0, healed = UINT64_MAX;
    bool keep = false;
    while (pos < w->size) {
        struct batch_info b;
        const uint8_t *bytes;
        int rc = walk_batch(w, pos, &b, &bytes);
        if (rc < 0)
            return rc;
        if (s->po->limit < 0 && healed != pos && (rc == 0 || b.base_offset != s->next)) {
            rc = heal(s, w, base, end, pos, &keep);
            if (rc < 0)
                return rc;
            healed = pos; /* once */
            continue;
        }
        if (rc == 1 && is_in_place(s, base, &b)) {
            if (s->po->limit >= 0 && b.base_offset >= s->po->limit) {
                s->cut = s->limit_hit = true;
                break;
            }
            rc = scan_batch(s, w, ix, pos, &b);
            if (rc < 0)
                return rc;
            pos += b.total_len;
            continue;
        }
        s->cut = true;
        rc = judge_tail(s, w, base, pos, keep && healed == pos);
        if (rc < 0)
            return rc;
        break;
    }
    *ret_len = pos;
    return 0;
}

/* Behind the recovery point nobody knows what is flushed; below it, and in an empty file, all is.
 * Zeros behind flushed bytes may come back: a flush is the slowest that a start does. */
static int file_cut(struct file_io *io, const char *path, uint64_t len, bool cut, bool sync)
{
    struct file *f;
    int rc = io->ops->open(io, path, 0, &f);
    if (rc < 0)
        return rc;
    if (cut)
        rc = io->ops->truncate(f, len);
    if (rc == 0 && sync)
        rc = io->ops->fsync(f);
    io->ops->close(f);
    return rc;
}

int recover_seg_extent(struct file_io *io, const char *path, struct seg_extent *ret)
{
    struct walk w;
    *ret = (struct seg_extent){.first = -1, .last = -1};
    int rc = walk_open(&w, io, path, FILE_RDONLY);
    bool zero = true;
    if (rc == 0)
        rc = walk_is_zero(&w, 0, &zero);
    ret->is_zero = zero;
    for (uint64_t pos = 0; rc == 0 && pos < w.size;) {
        struct batch_info b;
        const uint8_t *bytes;
        int good = walk_batch(&w, pos, &b, &bytes);
        if (good <= 0) {
            rc = good;
            break;
        }
        ret->first = ret->first < 0 ? b.base_offset : ret->first;
        ret->last = b.base_offset + b.last_offset_delta;
        pos += b.total_len;
    }
    walk_close(&w);
    return rc;
}

int recover_seg(struct scan *s, struct part_seg *g, int64_t end)
{
    s->cut_zeros = false;
    struct file_io *io = s->p->dir->io;
    char path[STORE_PATH_MAX];
    struct walk w;
    struct seg_index ix;
    seg_index_init(&ix, g->base, s->o->index_bytes_max);
    int rc = path_seg(path, s->dir, g->base, SFX_LOG);
    if (rc < 0)
        return rc;
    if (s->next < g->base)
        s->next = g->base;
    rc = walk_open(&w, io, path, FILE_RDONLY);
    uint64_t len = 0;
    if (rc == 0)
        rc = seg_scan_walk(s, &w, &ix, g->base, end, &len);
    uint64_t size = w.size;
    walk_close(&w);
    bool cut = len < size;
    bool flushed = s->next <= s->po->recovery_point && (!cut || (s->cut_zeros && s->po->limit < 0));
    s->was_shortened = s->was_shortened || (cut && !flushed);
    if (rc == 0 && (cut || (!flushed && size > 0)))
        rc = file_cut(io, path, len, cut, !flushed);
    if (rc == 0) {
        s->rep->bytes_scanned += size;
        s->rep->bytes_cut += size - len;
        g->len = len;
        g->max_ts = ix.max_ts;
        g->max_ts_offset = ix.max_ts_offset;
        g->index_since = ix.bytes_since;
        seg_index_finish(&ix);
        recover_note(s->rep, RC_INDEX_REBUILT, "%s segment %" PRId64, s->dir, g->base);
        rc = recover_derived(s->o, s->rep, s->dir, seg_index_store(&ix, io, s->dir, false));
    }
    seg_index_fini(&ix);
    return rc;
}

/* First and last entry of an index file: of an ascending index that was overwritten these two are
 * unlikely to be right. 1: read, 0: missing or no whole entries, -errno. */
struct index_ends {
    uint64_t cnt;
    uint8_t first[TIMEINDEX_ENTRY_LEN], last[TIMEINDEX_ENTRY_LEN];
};
static int index_ends_read(struct file_io *io, const char *dir, int64_t base, const char *suffix,
                           uint32_t entry_len, struct index_ends *ret)
{
    char path[STORE_PATH_MAX];
    struct file *f;
    uint64_t size;
    int rc = path_seg(path, dir, base, suffix);
    if (rc == 0)
        rc = io->ops->open(io, path, FILE_RDONLY, &f);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    rc = io->ops->size(f, &size);
    bool whole = rc == 0 && size % entry_len == 0;
    ret->cnt = size / entry_len;
    if (whole && size > 0) {
        int64_t n = io->ops->pread(f, ret->first, entry_len, 0);
        if (n == (int64_t)entry_len)
            n = io->ops->pread(f, ret->last, entry_len, size - entry_len);
        if (n < 0)
            rc = (int)n;
        whole = n == (int64_t)entry_len;
    }
    io->ops->close(f);
    return rc < 0 ? rc : whole;
}

/* An index without entries: is there no batch that should have one? The first batch that begins
 * more than an interval after the start of the segment does. 1: none, 0: there is one, -errno. */
static int may_lack_entries(struct file_io *io, const char *dir, const struct part_seg *g,
                            uint32_t interval)
{
    char path[STORE_PATH_MAX];
    struct file *f;
    if (g->len <= interval)
        return 1;
    int rc = path_seg(path, dir, g->base, SFX_LOG);
    if (rc == 0)
        rc = io->ops->open(io, path, FILE_RDONLY, &f);
    if (rc < 0)
        return rc;
    uint64_t pos = 0;
    while (pos <= interval && g->len - pos >= BATCH_HEADER_LEN) {
        uint8_t h[BATCH_HEADER_LEN];
        struct batch_info b;
        int64_t n = io->ops->pread(f, h, sizeof(h), pos);
        if (n < 0)
            rc = (int)n;
        if (n != sizeof(h) || batch_header_read(h, g->len - pos, &b) < 0)
            break; /* damage: whoever reads there tells */
        pos += b.total_len;
    }
    io->ops->close(f);
    return rc < 0 ? rc : pos <= interval || pos >= g->len;
}

static bool offset_ends_are_sane(const struct index_ends *e, const struct part_seg *g, int64_t end)
{
    if (e->cnt == 0)
        return true; /* may_lack_entries has said so */
    int32_t rel = (int32_t)load_be32(e->last), pos = (int32_t)load_be32(e->last + 4);
    if (rel <= 0 || g->base + rel >= end || pos <= 0 || (uint64_t)pos >= g->len)
        return false;
    return e->cnt == 1 ||
           (rel > (int32_t)load_be32(e->first) && pos > (int32_t)load_be32(e->first + 4));
}

static bool time_ends_are_sane(const struct index_ends *e, const struct part_seg *g, int64_t end)
{
    if (e->cnt == 0)
        return g->len == 0;
    int32_t rel = (int32_t)load_be32(e->last + 8);
    if (rel < 0 || g->base + rel >= end)
        return false;
    if ((int64_t)load_be64(e->last) <= 0)
        return false; /* zeros, or records of no time: scanning the segment tells which */
    return e->cnt == 1 || ((int64_t)load_be64(e->last) > (int64_t)load_be64(e->first) &&
                           rel >= (int32_t)load_be32(e->first + 8));
}

/* Largest timestamp of a segment that is not scanned, from the last time index entry.
 * `end`: no offset of the segment reaches it; INT64_MAX: unknown.
 * 1: known, 0: an index is missing or odd (scan it), -errno. */
int recover_seg_tail(struct file_io *io, const char *dir, struct part_seg *g, int64_t end,
                     uint32_t interval)
{
    struct index_ends e;
    int rc = index_ends_read(io, dir, g->base, SFX_INDEX, INDEX_ENTRY_LEN, &e);
    if (rc == 1 && e.cnt == 0)
        rc = may_lack_entries(io, dir, g, interval);
    if (rc == 1)
        rc = offset_ends_are_sane(&e, g, end);
    if (rc == 1)
        rc = index_ends_read(io, dir, g->base, SFX_TIMEINDEX, TIMEINDEX_ENTRY_LEN, &e);
    if (rc == 1)
        rc = time_ends_are_sane(&e, g, end);
    if (rc == 1 && e.cnt > 0) {
        g->max_ts = (int64_t)load_be64(e.last);
        g->max_ts_offset = g->base + (int32_t)load_be32(e.last + 8);
    }
    return rc;
}
