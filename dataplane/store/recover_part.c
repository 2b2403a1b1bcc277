/* recover_part.c - one partition: what lies in its directory, which of it is the log, and the state
 * that the log says (end, epochs, producers). */
#include "dataplane/store/recover_int.h"
#include "dataplane/store/store_file.h"
#include "lib/batch/layout.h"
#include <inttypes.h>
#include <stdlib.h>

int recover_path(char out[STORE_PATH_MAX], const struct part *p)
{
    return path_join(out, p->dir->path, p->name);
}

/* ------------------------------------------------------------------------ names in the directory
 */

struct found {
    int64_t *log, *snap;
    uint32_t log_cnt, log_cap, snap_cnt, snap_cap;
    char (*junk)[80];
    uint32_t junk_cnt, junk_cap;
    int64_t *index; /* of .index, .timeindex, .txnindex */
    uint32_t index_cnt, index_cap;
    bool rewrite; /* .cleaned or .swap */
};

static int add_i64(int64_t **arr, uint32_t *cnt, uint32_t *cap, int64_t v)
{
    void *a = *arr;
    int rc = recover_grow(&a, *cnt, cap, sizeof(v));
    if (rc == 0) {
        *arr = a;
        (*arr)[(*cnt)++] = v;
    }
    return rc;
}

int64_t recover_name_base(const char *name, const char **ret_suffix)
{
    int64_t v = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || v > (INT64_MAX - 9) / 10)
            return -1;
        v = v * 10 + (name[i] - '0');
    }
    *ret_suffix = name + 20;
    return v;
}

static int found_name(void *arg, const char *name)
{
    struct found *x = arg;
    const char *suffix;
    int64_t base = recover_name_base(name, &suffix);
    bool junk = strcmp(name, FN_NEXT) == 0 || (base >= 0 && ends_with(name, SFX_DELETED));
    if (junk && strlen(name) < sizeof(x->junk[0])) {
        void *a = x->junk;
        int rc = recover_grow(&a, x->junk_cnt, &x->junk_cap, sizeof(x->junk[0]));
        if (rc < 0)
            return rc;
        x->junk = a;
        strcpy(x->junk[x->junk_cnt++], name);
        return 0;
    }
    if (base < 0)
        return 0;
    if (ends_with(name, SFX_CLEANED) || ends_with(name, SFX_SWAP))
        x->rewrite = true;
    if (strcmp(suffix, SFX_LOG) == 0)
        return add_i64(&x->log, &x->log_cnt, &x->log_cap, base);
    if (strcmp(suffix, SFX_SNAPSHOT) == 0)
        return add_i64(&x->snap, &x->snap_cnt, &x->snap_cap, base);
    if (strcmp(suffix, SFX_INDEX) == 0 || strcmp(suffix, SFX_TIMEINDEX) == 0 ||
        strcmp(suffix, SFX_TXNINDEX) == 0)
        return add_i64(&x->index, &x->index_cnt, &x->index_cap, base);
    return 0;
}

static void found_fini(struct found *x)
{
    free(x->log);
    free(x->snap);
    free(x->index);
    free(x->junk);
    *x = (struct found){0};
}

static int cmp_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool has_i64(const int64_t *a, uint32_t cnt, int64_t v)
{
    return cnt > 0 && bsearch(&v, a, cnt, sizeof(v), cmp_i64) != NULL;
}

static int unlink_seg(struct file_io *io, const char *dir, int64_t base, const char *suffix)
{
    char path[STORE_PATH_MAX];
    int rc = path_seg(path, dir, base, suffix);
    if (rc == 0)
        rc = io->ops->unlink(io, path);
    return rc == -ENOENT ? 0 : rc;
}

static int found_clean(struct scan *s, struct found *x)
{
    struct file_io *io = s->p->dir->io;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < x->junk_cnt; i++) {
        char path[STORE_PATH_MAX];
        rc = path_join(path, s->dir, x->junk[i]);
        if (rc == 0)
            rc = io->ops->unlink(io, path);
        recover_note(s->rep, RC_ORPHAN, "%s/%s", s->dir, x->junk[i]);
    }
    for (uint32_t i = 0; rc == 0 && i < x->index_cnt; i++) {
        int64_t base = x->index[i];
        if (has_i64(x->log, x->log_cnt, base))
            continue;
        rc = unlink_seg(io, s->dir, base, SFX_INDEX);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, base, SFX_TIMEINDEX);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, base, SFX_TXNINDEX);
        recover_note(s->rep, RC_ORPHAN, "%s indexes of segment %" PRId64, s->dir, base);
    }
    return rc;
}

/* -------------------------------------------------------------------------------- producer state
 */

static int snapshot_load(struct scan *s, int64_t at, struct producers *t)
{
    char path[STORE_PATH_MAX];
    uint8_t *b;
    uint64_t len;
    int rc = path_seg(path, s->dir, at, SFX_SNAPSHOT);
    if (rc == 0)
        rc = store_file_read(s->p->dir->io, path, UINT64_C(1) << 28, &b, &len);
    if (rc < 0)
        return rc;
    rc = producers_decode(t, b, len);
    free(b);
    return rc;
}

/* The newest good snapshot at or below `max`; damaged ones are removed. -1: none. One below the
 * first segment says nothing: what producers wrote between it and the log is gone. */
static int64_t snapshot_newest(struct scan *s, struct found *x, int64_t max)
{
    for (uint32_t i = x->snap_cnt; i > 0; i--) {
        int64_t at = x->snap[i - 1];
        if (at > max || at < s->p->segs[0].base)
            continue;
        int rc = snapshot_load(s, at, &s->p->producers);
        if (rc == 0)
            return at;
        recover_note(s->rep, RC_SNAPSHOT_BAD, "%s snapshot %" PRId64 ": %s", s->dir, at,
                     err_text(rc));
        (void)unlink_seg(s->p->dir->io, s->dir, at, SFX_SNAPSHOT); /* it is not used either way */
    }
    return -1;
}

/* sync: no segment below `at` may be dropped without it. Else: lost, there are an older one and the
 * log. */
static int snapshot_store(struct part *p, const char *dir, int64_t at, bool sync)
{
    char path[STORE_PATH_MAX];
    uint8_t *b;
    size_t len;
    int rc = producers_encode(&p->producers, &b, &len);
    if (rc < 0)
        return rc;
    rc = path_seg(path, dir, at, SFX_SNAPSHOT);
    if (rc == 0)
        rc = (sync ? store_file_write : store_file_update)(p->dir->io, path, b, len, sync);
    free(b);
    return rc;
}

/* Where a segment ends that was never sealed, or whose sealing failed: retention drops segments as
 * if it had been, and after that only this file knows what producers wrote there. */
static int snapshot_between(struct scan *s, uint32_t i)
{
    struct part *p = s->p;
    if (i == s->first || s->next != p->segs[i].base || s->producer_from >= s->next)
        return 0;
    s->has_new_names = true;
    return recover_derived(s->o, s->rep, s->dir, snapshot_store(p, s->dir, s->next, true));
}

static int txn_index_write(struct part *p, const char *dir, uint32_t idx)
{
    uint8_t *b;
    size_t len;
    int64_t base = p->segs[idx].base;
    int64_t end = idx + 1 < p->seg_cnt ? p->segs[idx + 1].base : INT64_MAX;
    int rc = aborted_encode(&p->aborted, base, end, &b, &len);
    if (rc < 0)
        return rc;
    rc = txn_index_store(p->dir->io, dir, base, b, len);
    free(b);
    return rc;
}

int recover_state_store(struct part *p, const char *dir, uint32_t first, bool ends)
{
    ends = ends || (p->seg_cnt > 1 && p->next == p->segs[p->seg_cnt - 1].base);
    int rc = 0;
    for (uint32_t i = first; rc == 0 && i < p->seg_cnt; i++)
        rc = txn_index_write(p, dir, i);
    return rc == 0 ? snapshot_store(p, dir, p->next, ends) : rc;
}

/* What the files of segments [0, cnt) say of transactions that ended below `to`. 0, -errno,
 * -E_MALFORMED: some file is damaged. */
static int txn_indexes_load(struct scan *s, uint32_t cnt, int64_t to)
{
    struct part *p = s->p;
    int rc = 0;
    aborted_fini(&p->aborted);
    for (uint32_t i = 0; rc == 0 && i < cnt; i++)
        rc = txn_index_load(p->dir->io, s->dir, p->segs[i].base, to, &p->aborted);
    if (rc < 0)
        aborted_fini(&p->aborted); /* of earlier files too: the log is read again from its start */
    if (rc == -E_MALFORMED && !s->txn_index_bad) {
        s->txn_index_bad = true;
        recover_note(s->rep, RC_TXNINDEX_BAD, "%s", s->dir);
    }
    return rc;
}

/* Kept: those at segment bases and the one at the log's end. */
static int snapshots_prune(struct scan *s, struct found *x)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < x->snap_cnt; i++) {
        int64_t at = x->snap[i];
        bool keep = at == s->p->next;
        for (uint32_t k = 0; !keep && k < s->p->seg_cnt; k++)
            keep = s->p->segs[k].base == at;
        if (!keep)
            rc = unlink_seg(s->p->dir->io, s->dir, at, SFX_SNAPSHOT);
    }
    return rc;
}

/* ---------------------------------------------------------------------------------- one partition
 */

int recover_part_init(struct part *p, struct data_dir *d, const char *name)
{
    *p = (struct part){.dir = d};
    if (strlen(name) >= sizeof(p->name))
        return -ENAMETOOLONG;
    strcpy(p->name, name);
    return part_name_parse(name, p->topic, &p->partition);
}

static int segs_set(struct part *p, const struct found *x, const char *dir)
{
    p->seg_cnt = 0;
    if (x->log_cnt == 0)
        return 0;
    struct part_seg *g = realloc(p->segs, x->log_cnt * sizeof(*g));
    if (g == NULL)
        return -ENOMEM;
    p->segs = g;
    p->seg_cap = x->log_cnt;
    for (uint32_t i = 0; i < x->log_cnt; i++) {
        char path[STORE_PATH_MAX];
        struct file_stat st;
        int rc = path_seg(path, dir, x->log[i], SFX_LOG);
        if (rc == 0)
            rc = p->dir->io->ops->stat(p->dir->io, path, &st);
        if (rc < 0)
            return rc;
        g[i] = (struct part_seg){.base = x->log[i],
                                 .len = st.size,
                                 .max_ts = -1,
                                 .max_ts_offset = -1,
                                 .mtime_ms = st.mtime_ms};
    }
    p->seg_cnt = x->log_cnt;
    return 0;
}

int recover_seg_create(struct part *p, const char *dir, int64_t base)
{
    struct file_io *io = p->dir->io;
    char path[STORE_PATH_MAX];
    void *a = p->segs;
    int rc = recover_grow(&a, p->seg_cnt, &p->seg_cap, sizeof(*p->segs));
    if (rc < 0)
        return rc;
    p->segs = a;
    rc = path_seg(path, dir, base, SFX_LOG);
    if (rc == 0)
        rc = store_file_write(io, path, NULL, 0, true);
    if (rc == 0)
        rc = io->ops->dir_sync(io, dir);
    if (rc == 0)
        p->segs[p->seg_cnt++] = (struct part_seg){.base = base, .max_ts = -1, .max_ts_offset = -1};
    return rc;
}

/* A name next to `from` that nothing has yet. */
static int quarantine_name(struct scan *s, int64_t base, char to[STORE_PATH_MAX])
{
    struct file_io *io = s->p->dir->io;
    for (uint32_t i = 0; i < 1000; i++) {
        char suffix[48];
        struct file_stat st;
        (void)snprintf(suffix, sizeof(suffix),
                       i == 0 ? SFX_LOG ".quarantine" : SFX_LOG ".quarantine.%u", i);
        int rc = path_seg(to, s->dir, base, suffix);
        if (rc == 0)
            rc = io->ops->stat(io, to, &st);
        if (rc < 0)
            return rc == -ENOENT ? 0 : rc;
    }
    return -EEXIST;
}

static int seg_quarantine(struct scan *s, const struct part_seg *g, const char *from)
{
    const struct part_seg *last = &s->p->segs[s->cut_seg];
    char to[STORE_PATH_MAX];
    struct seg_extent x;
    int rc = recover_seg_extent(s->p->dir->io, from, &x);
    if (rc == 0 && x.is_zero) {
        recover_note(s->rep, RC_UNFLUSHED_SEGMENT, "%s", from);
        return s->p->dir->io->ops->unlink(s->p->dir->io, from);
    }
    if (rc == 0)
        rc = quarantine_name(s, g->base, to);
    if (rc == 0)
        rc = s->p->dir->io->ops->rename(s->p->dir->io, from, to);
    if (rc == 0)
        recover_note(s->rep, RC_LATER_SEGMENT,
                     "topic %s partition %" PRId32 ": the log ends at offset %" PRId64
                     ", byte %" PRIu64 " of segment %" PRId64 "; offsets %" PRId64 " to %" PRId64
                     ", %" PRIu64 " bytes, are in %s now",
                     s->p->topic, s->p->partition, s->next, last->len, last->base, x.first, x.last,
                     g->len, to);
    return rc;
}

/* Segments from `first` on are not a part of the log. Those behind a damaged place are kept under
 * another name: above the recovery point, which is some seconds old, they may have been
 * acknowledged too. Those above a limit never were, or are appended again from memory. */
static int segs_put_aside(struct scan *s, uint32_t first)
{
    struct file_io *io = s->p->dir->io;
    s->cut_seg = first - 1;
    for (uint32_t i = first; i < s->p->seg_cnt; i++) {
        char from[STORE_PATH_MAX];
        const struct part_seg *g = &s->p->segs[i];
        int rc = path_seg(from, s->dir, g->base, SFX_LOG);
        if (rc == 0 && s->po->limit < 0)
            rc = seg_quarantine(s, g, from);
        else if (rc == 0)
            rc = io->ops->unlink(io, from);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, g->base, SFX_INDEX);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, g->base, SFX_TIMEINDEX);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, g->base, SFX_TXNINDEX);
        if (rc < 0)
            return rc;
    }
    bool some = s->p->seg_cnt > first;
    s->was_shortened = s->was_shortened || some;
    s->p->seg_cnt = first;
    return some ? io->ops->dir_sync(io, s->dir) : 0; /* before their names are taken again */
}

static int epochs_load(struct part *p, const char *dir)
{
    char path[STORE_PATH_MAX];
    uint8_t *text;
    uint64_t len;
    int rc = path_join(path, dir, FN_EPOCHS);
    if (rc == 0)
        rc = store_file_read(p->dir->io, path, 1u << 20, &text, &len);
    if (rc < 0)
        return rc;
    rc = epochs_decode(&p->epochs, (char *)text, len);
    free(text);
    if (rc < 0)
        epochs_fini(&p->epochs);
    return rc;
}

int recover_epochs_store(struct part *p, const char *dir, bool sync)
{
    char path[STORE_PATH_MAX], *text;
    size_t len;
    int rc = epochs_encode(&p->epochs, &text, &len);
    if (rc < 0)
        return rc;
    rc = path_join(path, dir, FN_EPOCHS);
    if (rc == 0)
        rc = store_file_update(p->dir->io, path, text, len, sync);
    free(text);
    return rc;
}

/* Closed cleanly: the last segment's end from its index tail and the headers behind it.
 * 1: all fits together, 0: it does not (scan), -errno. */
static int open_clean(struct scan *s, struct found *x)
{
    struct part *p = s->p;
    struct file_io *io = p->dir->io;
    char path[STORE_PATH_MAX];
    struct seg_index ix;
    struct walk w = {0};
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        if (i + 1 == p->seg_cnt && p->segs[i].len == 0)
            continue; /* an empty active segment may have no index yet */
        int64_t end = i + 1 < p->seg_cnt ? p->segs[i + 1].base : INT64_MAX;
        int rc = recover_seg_tail(io, s->dir, &p->segs[i], end, s->o->index_interval_bytes);
        if (rc <= 0)
            return rc;
    }
    struct part_seg *g = &p->segs[p->seg_cnt - 1];
    int64_t next = g->base;
    seg_index_init(&ix, g->base, s->o->index_bytes_max);
    int rc = 0;
    if (g->len > 0) {
        rc = seg_index_load(&ix, io, s->dir);
        uint64_t pos = rc == 0 ? seg_index_pos(&ix, INT64_MAX) : 0;
        g->index_since = (uint32_t)(g->len - pos); /* as if it had never been closed */
        if (rc == -E_MALFORMED || rc == -ENOENT) {
            seg_index_fini(&ix);
            return 0;
        }
        if (rc == 0)
            rc = path_seg(path, s->dir, g->base, SFX_LOG);
        if (rc == 0)
            rc = walk_open(&w, io, path, FILE_RDONLY);
        while (rc == 0 && pos < w.size) {
            const uint8_t *b;
            struct batch_info info;
            if (w.size - pos < BATCH_HEADER_LEN)
                break;
            rc = walk_get(&w, pos, BATCH_HEADER_LEN, &b);
            if (rc < 0 || batch_header_read(b, w.size - pos, &info) < 0)
                break;
            next = info.base_offset + info.last_offset_delta + 1;
            pos += info.total_len;
        }
        bool whole = rc == 0 && pos == w.size;
        walk_close(&w);
        seg_index_fini(&ix);
        if (!whole)
            return rc;
        if (g->max_ts_offset >= next) /* its time index speaks of records that it does not hold */
            return 0;
    }
    p->next = next;
    if (next == p->segs[0].base && g->len == 0 && x->snap_cnt == 0)
        return 1; /* nothing was ever written here */
    if (snapshot_newest(s, x, next) != next)
        return 0;
    rc = txn_indexes_load(s, p->seg_cnt, next);
    return rc == 0 ? 1 : rc == -E_MALFORMED ? 0 : rc;
}

static int part_scan(struct scan *s, struct found *x, bool epochs_known)
{
    struct part *p = s->p;
    int64_t cleaned = p->mark != NULL ? atomic_load(&p->mark->cleaned) : -1;
    uint32_t first = 0;
    while (first + 1 < p->seg_cnt && p->segs[first + 1].base <= s->po->recovery_point)
        first++;
    if (!epochs_known)
        first = 0;
    if (s->po->limit >= 0) /* flushed up to there, but the segment holding it may be an older one */
        while (first > 0 && p->segs[first].base > s->po->limit)
            first--;
    s->producer_from = snapshot_newest(s, x, p->segs[first].base);
    if (s->producer_from < 0)
        producers_fini(&p->producers);
    while (first > 0 && p->segs[first].base > s->producer_from)
        first--;
    int rc = txn_indexes_load(s, first + 1, s->producer_from);
    if (rc == -E_MALFORMED) { /* only the log knows */
        first = 0;
        s->producer_from = -1;
        producers_fini(&p->producers);
    } else if (rc < 0) {
        return rc;
    }
    s->first = first;
    s->next = p->segs[first].base;
    for (uint32_t i = 0; i < first; i++) {
        rc = recover_seg_tail(p->dir->io, s->dir, &p->segs[i], p->segs[i + 1].base,
                              s->o->index_interval_bytes);
        if (rc < 0)
            return rc;
        if (rc == 0) { /* only its indexes: producers and epochs know it already */
            struct scan one = *s;
            struct recover_part_opts po = {.recovery_point = INT64_MAX, .limit = -1};
            one.po = &po;
            one.producer_from = INT64_MAX;
            one.next = p->segs[i].base;
            rc = recover_seg(&one, &p->segs[i], p->segs[i + 1].base);
            if (rc < 0)
                return rc;
        }
    }
    for (uint32_t i = first; i < p->seg_cnt && !s->cut; i++) {
        /* The last one held at least what was flushed of it. */
        int64_t end = i + 1 < p->seg_cnt ? p->segs[i + 1].base : s->po->recovery_point;
        rc = snapshot_between(s, i);
        if (rc == 0)
            rc = recover_seg(s, &p->segs[i], end);
        /* A zero tail in a segment that was left by a roll: the next one continues the log. */
        if (rc == 0 && s->cut && !s->limit_hit && i + 1 < p->seg_cnt &&
            p->segs[i + 1].base == s->next)
            s->cut = false;
        /* A hole between segments at or above the recovery point: what fills it is in the journal,
         * and nothing behind it was acknowledged through its segment. Below, compaction made it;
         * and below its own checkpoint, if the recovery point is lost. */
        if (rc == 0 && i + 1 < p->seg_cnt && p->segs[i + 1].base > s->next &&
            s->next >= s->po->recovery_point && s->next >= cleaned)
            s->cut = true;
        if (rc == 0 && s->cut)
            rc = segs_put_aside(s, i + 1);
        if (rc < 0)
            return rc;
    }
    p->next = s->next;
    return 0;
}

void recover_mark_set(struct part *p)
{
    if (p->mark == NULL)
        return;
    atomic_store(&p->mark->recovery_point, p->recovery_point);
    atomic_store(&p->mark->high_watermark, p->next);
    atomic_store(&p->mark->first_base, p->segs[0].base);
    atomic_store(&p->mark->log_start, p->log_start);
    atomic_store(&p->dir->dirty, true);
}

static int part_finish(struct scan *s, struct found *x, bool clean)
{
    struct part *p = s->p;
    if (s->po->log_start > p->log_start)
        p->log_start = s->po->log_start < p->next ? s->po->log_start : p->next;
    if (p->log_start < p->segs[0].base)
        p->log_start = p->segs[0].base;
    p->recovery_point = p->next;
    p->was_clean = clean;
    recover_mark_set(p);
    if (clean)
        return 0;
    epochs_truncate_end(&p->epochs, p->next);
    /* An epoch without a record is not worth a flush: if it comes back, it is above the end again.
     */
    int rc =
        recover_derived(s->o, s->rep, s->dir, recover_epochs_store(p, s->dir, s->was_shortened));
    if (rc == 0)
        rc = recover_derived(s->o, s->rep, s->dir, recover_state_store(p, s->dir, s->first, false));
    if (rc == 0)
        rc = snapshots_prune(s, x);
    /* The names of .txnindex files, and that of a segment begun since: who died, or failed, between
     * its rename and the flush of that would take it for flushed. */
    int64_t last = p->segs[p->seg_cnt - 1].base;
    bool is_new = last > 0 && (last >= s->po->recovery_point || last == p->next);
    if (rc == 0 && (s->was_shortened || s->has_new_names || p->aborted.cnt > 0 || is_new))
        rc = p->dir->io->ops->dir_sync(p->dir->io, s->dir);
    return rc;
}

int recover_part(struct part *p, const struct recover_part_opts *po, const struct recover_opts *o,
                 struct recover_report *rep)
{
    struct scan s = {.p = p, .po = po, .o = o, .rep = rep};
    struct found x = {0};
    s.has_gaps = p->mark != NULL && atomic_load(&p->mark->cleaned) >= 0;
    p->log_start = 0;
    int rc = recover_path(s.dir, p);
    if (rc == 0)
        rc = part_meta_read(p->dir->io, s.dir, &p->topic_id);
    if (rc == -ENOENT || rc == -E_MALFORMED) {
        recover_note(rep, RC_NO_META, "%s", s.dir);
        return -E_MALFORMED;
    }
    if (rc == 0)
        rc = p->dir->io->ops->list(p->dir->io, s.dir, found_name, &x);
    if (rc == 0 && x.rewrite) {
        found_fini(&x);
        rc = recover_swap(p->dir->io, s.dir, rep);
        if (rc == 0)
            rc = p->dir->io->ops->list(p->dir->io, s.dir, found_name, &x);
    }
    if (rc < 0)
        goto out;
    if (x.log_cnt > 0)
        qsort(x.log, x.log_cnt, sizeof(*x.log), cmp_i64);
    if (x.snap_cnt > 0)
        qsort(x.snap, x.snap_cnt, sizeof(*x.snap), cmp_i64);
    rc = found_clean(&s, &x);
    if (rc == 0)
        rc = segs_set(p, &x, s.dir);
    if (rc == 0 && p->seg_cnt == 0)
        rc = recover_seg_create(p, s.dir, po->log_start > 0 ? po->log_start : 0);
    if (rc < 0)
        goto out;
    bool epochs_known = epochs_load(p, s.dir) == 0;
    bool clean = false;
    if (po->clean && epochs_known) {
        rc = open_clean(&s, &x);
        clean = rc == 1;
    }
    if (rc >= 0 && !clean)
        rc = part_scan(&s, &x, epochs_known);
    if (rc >= 0)
        recover_note(rep, clean ? RC_CLEAN : RC_SCANNED, "%s", s.dir);
    if (rc >= 0)
        rc = part_finish(&s, &x, clean);
out:
    found_fini(&x);
    return rc;
}
