/* recover.c - see recover.h; recover_cases.def lists every decision. */
#include "dataplane/store/recover.h"
#include "dataplane/store/format.h"
#include "dataplane/store/journal.h"
#include "dataplane/store/seg_index.h"
#include "dataplane/store/store_file.h"
#include "lib/base/assert.h"
#include "lib/base/span.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WALK_READ (UINT64_C(1) << 20)

static const struct {
    const char *name, *text;
    bool warn;
} cases[RC_CNT] = {
#define RCASE(name, warn, text) [RC_##name] = {#name, text, warn},
#include "dataplane/store/recover_cases.def"
#undef RCASE
};

const char *recover_case_text(enum recover_case c)
{
    return cases[c].text;
}

void recover_opts_default(struct recover_opts *o)
{
    *o = (struct recover_opts){.index_interval_bytes = 4096,
                               .index_bytes_max = 10u << 20,
                               .segment_bytes = UINT64_C(1) << 30};
}

__attribute__((format(printf, 3, 4))) static void note(struct recover_report *rep,
                                                       enum recover_case c, const char *fmt, ...)
{
    rep->cnt[c]++;
    if (rep->say == NULL || !(cases[c].warn || rep->verbose))
        return;
    char text[STORE_PATH_MAX + 512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof(text))
        (void)snprintf(text + n, sizeof(text) - (size_t)n, " [%s: %s]", cases[c].name,
                       cases[c].text);
    rep->say(rep->arg, text);
}

static int part_path(char out[STORE_PATH_MAX], const struct part *p)
{
    return path_join(out, p->dir->path, p->name);
}

/* --------------------------------------------------------------- a window that slides over a file
 */

struct walk {
    struct file_io *io;
    struct file *f;
    uint64_t size;
    uint8_t *buf;
    uint64_t cap, at, len; /* buf holds [at, at + len) of the file */
};

static int walk_open(struct walk *w, struct file_io *io, const char *path)
{
    *w = (struct walk){.io = io};
    int rc = io->ops->open(io, path, FILE_RDONLY, &w->f);
    if (rc == 0)
        rc = io->ops->size(w->f, &w->size);
    return rc;
}

static void walk_close(struct walk *w)
{
    if (w->f != NULL)
        w->io->ops->close(w->f);
    free(w->buf);
}

/* Bytes [pos, pos + len), which must lie within the file. */
static int walk_get(struct walk *w, uint64_t pos, uint64_t len, const uint8_t **ret)
{
    if (pos < w->at || pos + len > w->at + w->len) {
        uint64_t want = len > WALK_READ ? len : WALK_READ;
        if (want > w->size - pos)
            want = w->size - pos;
        if (want > w->cap) {
            uint8_t *b = realloc(w->buf, want);
            if (b == NULL)
                return -ENOMEM;
            w->buf = b;
            w->cap = want;
        }
        w->at = pos;
        w->len = 0;
        while (w->len < want) {
            int64_t n = w->io->ops->pread(w->f, w->buf + w->len, want - w->len, pos + w->len);
            if (n <= 0)
                return n < 0 ? (int)n : -EIO;
            w->len += (uint64_t)n;
        }
    }
    *ret = w->buf + (pos - w->at);
    return 0;
}

static int walk_is_zero(struct walk *w, uint64_t pos, bool *ret)
{
    while (pos < w->size) {
        uint64_t n = w->size - pos < WALK_READ ? w->size - pos : WALK_READ;
        const uint8_t *b;
        int rc = walk_get(w, pos, n, &b);
        if (rc < 0)
            return rc;
        for (uint64_t i = 0; i < n; i++) {
            if (b[i] != 0) {
                *ret = false;
                return 0;
            }
        }
        pos += n;
    }
    *ret = true;
    return 0;
}

/* The batch at pos, header and CRC. 1: good, 0: not a good batch, -errno. */
static int walk_batch(struct walk *w, uint64_t pos, struct batch_info *ret)
{
    const uint8_t *b;
    if (w->size - pos < BATCH_HEADER_LEN)
        return 0;
    int rc = walk_get(w, pos, BATCH_HEADER_LEN, &b);
    if (rc < 0)
        return rc;
    int64_t length = (int32_t)load_be32(b + BATCH_LENGTH);
    uint64_t total = (uint64_t)length + BATCH_LOG_OVERHEAD;
    if (length < BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD || total > w->size - pos ||
        b[BATCH_MAGIC] != 2)
        return 0;
    rc = walk_get(w, pos, total, &b);
    if (rc < 0)
        return rc;
    rc = batch_verify(b, total, ret);
    return rc == 0 && ret->total_len == total && ret->last_offset_delta >= 0 &&
                   ret->base_offset >= 0
               ? 1
               : 0;
}

/* ----------------------------------------------------------------------------------- one segment
 */

struct scan {
    struct part *p;
    const struct recover_part_opts *po;
    const struct recover_opts *o;
    struct recover_report *rep;
    char dir[STORE_PATH_MAX];
    int64_t next;          /* one past the last good batch */
    int64_t producer_from; /* batches below are in the loaded snapshot */
    bool cut;              /* this segment was cut: later ones are not used */
    bool limit_hit;        /* ... because of recover_part_opts.limit */
};

static int scan_batch(struct scan *s, struct seg_index *ix, uint64_t pos,
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
        rc = producers_update(&s->p->producers, b, b->max_timestamp);
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

/* A bad batch at pos below the recovery point: is the log good behind it? Its own length field must
 * lead to a good batch. */
static int damaged_len(struct scan *s, struct walk *w, int64_t seg_base, uint64_t pos,
                       uint64_t *ret_len)
{
    const uint8_t *b;
    struct batch_info after;
    *ret_len = 0;
    if (w->size - pos < BATCH_HEADER_LEN)
        return 0;
    int rc = walk_get(w, pos, BATCH_HEADER_LEN, &b);
    if (rc < 0)
        return rc;
    int64_t length = (int32_t)load_be32(b + BATCH_LENGTH);
    uint64_t total = (uint64_t)length + BATCH_LOG_OVERHEAD;
    if (length < BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD || total >= w->size - pos)
        return 0;
    rc = walk_batch(w, pos + total, &after);
    if (rc == 1 && is_in_place(s, seg_base, &after) && after.base_offset > s->next)
        *ret_len = total;
    return rc < 0 ? rc : 0;
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

/* Nothing good at pos: say why, and whether the bytes must be kept. */
static int judge_tail(struct scan *s, struct walk *w, int64_t base, uint64_t pos)
{
    bool zero;
    int rc = walk_is_zero(w, pos, &zero);
    if (rc < 0)
        return rc;
    uint64_t len = w->size - pos;
    if (zero) {
        note(s->rep, RC_ZERO_TAIL, "%s segment %" PRId64 ": %" PRIu64 " zero bytes from %" PRIu64,
             s->dir, base, len, pos);
    } else if (s->next < s->po->recovery_point && s->po->limit < 0) {
        note(s->rep, RC_DAMAGED_TAIL,
             "%s segment %" PRId64 ": %" PRIu64 " bytes from %" PRIu64 ", offset %" PRId64
             " and above",
             s->dir, base, len, pos, s->next);
        rc = tail_keep_copy(s, w, base, pos);
    } else {
        note(s->rep, RC_TORN_TAIL, "%s segment %" PRId64 ": %" PRIu64 " bytes from %" PRIu64,
             s->dir, base, len, pos);
    }
    return rc;
}

static int seg_scan_walk(struct scan *s, struct walk *w, struct seg_index *ix, int64_t base,
                         uint64_t *ret_len)
{
    uint64_t pos = 0;
    while (pos < w->size) {
        struct batch_info b;
        int rc = walk_batch(w, pos, &b);
        if (rc < 0)
            return rc;
        if (rc == 1 && is_in_place(s, base, &b)) {
            if (s->po->limit >= 0 && b.base_offset >= s->po->limit) {
                s->cut = s->limit_hit = true;
                break;
            }
            rc = scan_batch(s, ix, pos, &b);
            if (rc < 0)
                return rc;
            pos += b.total_len;
            continue;
        }
        uint64_t skip = 0;
        if (s->next < s->po->recovery_point) {
            rc = damaged_len(s, w, base, pos, &skip);
            if (rc < 0)
                return rc;
        }
        if (skip > 0) {
            note(s->rep, RC_DAMAGED_BATCH,
                 "%s segment %" PRId64 ": batch at %" PRIu64 ", offset %" PRId64, s->dir, base, pos,
                 s->next);
            pos += skip;
            continue;
        }
        s->cut = true;
        rc = judge_tail(s, w, base, pos);
        if (rc < 0)
            return rc;
        break;
    }
    *ret_len = pos;
    return 0;
}

static int file_cut(struct file_io *io, const char *path, uint64_t len, bool cut)
{
    struct file *f;
    int rc = io->ops->open(io, path, 0, &f);
    if (rc < 0)
        return rc;
    if (cut)
        rc = io->ops->truncate(f, len);
    if (rc == 0)
        rc = io->ops->fsync(f);
    io->ops->close(f);
    return rc;
}

static int seg_scan(struct scan *s, struct part_seg *g)
{
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
    rc = walk_open(&w, io, path);
    uint64_t len = 0;
    if (rc == 0)
        rc = seg_scan_walk(s, &w, &ix, g->base, &len);
    uint64_t size = w.size;
    walk_close(&w);
    if (rc == 0)
        rc = file_cut(io, path, len, len < size);
    if (rc == 0) {
        s->rep->bytes_scanned += size;
        s->rep->bytes_cut += size - len;
        g->len = len;
        g->max_ts = ix.max_ts;
        g->max_ts_offset = ix.max_ts_offset;
        seg_index_finish(&ix);
        note(s->rep, RC_INDEX_REBUILT, "%s segment %" PRId64, s->dir, g->base);
        rc = seg_index_store(&ix, io, s->dir, false);
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

/* None at all is taken as it is: entries are sparse, and their lack only makes reads slower. */
static bool offset_ends_are_sane(const struct index_ends *e, const struct part_seg *g, int64_t end)
{
    if (e->cnt == 0)
        return true;
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
static int seg_tail_read(struct file_io *io, const char *dir, struct part_seg *g, int64_t end)
{
    struct index_ends e;
    int rc = index_ends_read(io, dir, g->base, SFX_INDEX, INDEX_ENTRY_LEN, &e);
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

/* ------------------------------------------------------------------------ names in the directory
 */

struct found {
    int64_t *log, *snap;
    uint32_t log_cnt, log_cap, snap_cnt, snap_cap;
    char (*junk)[80];
    uint32_t junk_cnt, junk_cap;
    int64_t *index; /* of .index, .timeindex, .txnindex */
    uint32_t index_cnt, index_cap;
};

static int grow(void **arr, uint32_t cnt, uint32_t *cap, size_t size)
{
    if (cnt < *cap)
        return 0;
    uint32_t next = *cap ? *cap * 2 : 16;
    void *p = realloc(*arr, next * size);
    if (p == NULL)
        return -ENOMEM;
    *arr = p;
    *cap = next;
    return 0;
}

static int add_i64(int64_t **arr, uint32_t *cnt, uint32_t *cap, int64_t v)
{
    void *a = *arr;
    int rc = grow(&a, *cnt, cap, sizeof(v));
    if (rc == 0) {
        *arr = a;
        (*arr)[(*cnt)++] = v;
    }
    return rc;
}

/* "%020d<suffix>": the number, or -1. */
static int64_t seg_name_base(const char *name, const char **ret_suffix)
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

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

static int found_name(void *arg, const char *name)
{
    struct found *x = arg;
    const char *suffix;
    int64_t base = seg_name_base(name, &suffix);
    bool junk = strcmp(name, FN_NEXT) == 0 || (base >= 0 && ends_with(name, SFX_DELETED));
    if (junk && strlen(name) < sizeof(x->junk[0])) {
        void *a = x->junk;
        int rc = grow(&a, x->junk_cnt, &x->junk_cap, sizeof(x->junk[0]));
        if (rc < 0)
            return rc;
        x->junk = a;
        strcpy(x->junk[x->junk_cnt++], name);
        return 0;
    }
    if (base < 0)
        return 0;
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
        note(s->rep, RC_ORPHAN, "%s/%s", s->dir, x->junk[i]);
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
        note(s->rep, RC_ORPHAN, "%s indexes of segment %" PRId64, s->dir, base);
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

/* The newest good snapshot at or below `max`; damaged ones are removed. -1: none. */
static int64_t snapshot_newest(struct scan *s, struct found *x, int64_t max)
{
    for (uint32_t i = x->snap_cnt; i > 0; i--) {
        int64_t at = x->snap[i - 1];
        if (at > max)
            continue;
        int rc = snapshot_load(s, at, &s->p->producers);
        if (rc == 0)
            return at;
        note(s->rep, RC_SNAPSHOT_BAD, "%s snapshot %" PRId64 ": %s", s->dir, at, err_text(rc));
        (void)unlink_seg(s->p->dir->io, s->dir, at, SFX_SNAPSHOT); /* it is not used either way */
    }
    return -1;
}

static int snapshot_store(struct part *p, const char *dir, int64_t at)
{
    char path[STORE_PATH_MAX];
    uint8_t *b;
    size_t len;
    int rc = producers_encode(&p->producers, &b, &len);
    if (rc < 0)
        return rc;
    rc = path_seg(path, dir, at, SFX_SNAPSHOT);
    if (rc == 0)
        rc = store_file_write(p->dir->io, path, b, len, true);
    free(b);
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

static int seg_create(struct part *p, const char *dir, int64_t base)
{
    struct file_io *io = p->dir->io;
    char path[STORE_PATH_MAX];
    void *a = p->segs;
    int rc = grow(&a, p->seg_cnt, &p->seg_cap, sizeof(*p->segs));
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

/* Segments from `first` on are not a part of the log. Behind a damaged one they are kept under
 * another name; at or above the recovery point nothing in them was ever acknowledged. */
static int segs_put_aside(struct scan *s, uint32_t first)
{
    struct file_io *io = s->p->dir->io;
    bool keep = s->po->limit < 0 && s->next < s->po->recovery_point;
    for (uint32_t i = first; i < s->p->seg_cnt; i++) {
        char from[STORE_PATH_MAX], to[STORE_PATH_MAX];
        const struct part_seg *g = &s->p->segs[i];
        bool rename = keep && g->len > 0;
        int rc = path_seg(from, s->dir, g->base, SFX_LOG);
        if (rc == 0)
            rc = path_seg(to, s->dir, g->base, SFX_LOG ".quarantine");
        if (rc == 0)
            rc = rename ? io->ops->rename(io, from, to) : io->ops->unlink(io, from);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, g->base, SFX_INDEX);
        if (rc == 0)
            rc = unlink_seg(io, s->dir, g->base, SFX_TIMEINDEX);
        if (rc < 0)
            return rc;
        if (g->len > 0)
            note(s->rep, rename ? RC_LATER_SEGMENT : RC_UNFLUSHED_SEGMENT, "%s segment %" PRId64,
                 s->dir, g->base);
    }
    s->p->seg_cnt = first;
    return 0;
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

static int epochs_store(struct part *p, const char *dir)
{
    char path[STORE_PATH_MAX], *text;
    size_t len;
    int rc = epochs_encode(&p->epochs, &text, &len);
    if (rc < 0)
        return rc;
    rc = path_join(path, dir, FN_EPOCHS);
    if (rc == 0)
        rc = store_file_write(p->dir->io, path, text, len, true);
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
        int rc = seg_tail_read(io, s->dir, &p->segs[i], end);
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
        if (rc == -E_MALFORMED || rc == -ENOENT) {
            seg_index_fini(&ix);
            return 0;
        }
        if (rc == 0)
            rc = path_seg(path, s->dir, g->base, SFX_LOG);
        if (rc == 0)
            rc = walk_open(&w, io, path);
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
    return snapshot_newest(s, x, next) == next;
}

static int part_scan(struct scan *s, struct found *x, bool epochs_known)
{
    struct part *p = s->p;
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
    s->next = p->segs[first].base;
    for (uint32_t i = 0; i < first; i++) {
        int rc = seg_tail_read(p->dir->io, s->dir, &p->segs[i], p->segs[i + 1].base);
        if (rc < 0)
            return rc;
        if (rc == 0) { /* only its indexes: producers and epochs know it already */
            struct scan one = *s;
            struct recover_part_opts po = {.recovery_point = INT64_MAX, .limit = -1};
            one.po = &po;
            one.producer_from = INT64_MAX;
            one.next = p->segs[i].base;
            rc = seg_scan(&one, &p->segs[i]);
            if (rc < 0)
                return rc;
        }
    }
    for (uint32_t i = first; i < p->seg_cnt && !s->cut; i++) {
        int rc = seg_scan(s, &p->segs[i]);
        /* A zero tail in a segment that was left by a roll: the next one continues the log. */
        if (rc == 0 && s->cut && !s->limit_hit && i + 1 < p->seg_cnt &&
            p->segs[i + 1].base == s->next)
            s->cut = false;
        /* A hole between segments at or above the recovery point: what fills it is in the journal,
         * and nothing behind it was acknowledged through its segment. Below, compaction made it. */
        if (rc == 0 && i + 1 < p->seg_cnt && p->segs[i + 1].base > s->next &&
            s->next >= s->po->recovery_point)
            s->cut = true;
        if (rc == 0 && s->cut)
            rc = segs_put_aside(s, i + 1);
        if (rc < 0)
            return rc;
    }
    p->next = s->next;
    return 0;
}

static void part_mark_set(struct part *p)
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
    part_mark_set(p);
    if (clean)
        return 0;
    epochs_truncate_end(&p->epochs, p->next);
    int rc = epochs_store(p, s->dir);
    if (rc == 0)
        rc = snapshot_store(p, s->dir, p->next);
    if (rc == 0)
        rc = snapshots_prune(s, x);
    if (rc == 0)
        rc = p->dir->io->ops->dir_sync(p->dir->io, s->dir);
    return rc;
}

int recover_part(struct part *p, const struct recover_part_opts *po, const struct recover_opts *o,
                 struct recover_report *rep)
{
    struct scan s = {.p = p, .po = po, .o = o, .rep = rep};
    struct found x = {0};
    p->log_start = 0;
    int rc = part_path(s.dir, p);
    if (rc == 0)
        rc = part_meta_read(p->dir->io, s.dir, &p->topic_id);
    if (rc == -ENOENT || rc == -E_MALFORMED) {
        note(rep, RC_NO_META, "%s", s.dir);
        return -E_MALFORMED;
    }
    if (rc == 0)
        rc = p->dir->io->ops->list(p->dir->io, s.dir, found_name, &x);
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
        rc = seg_create(p, s.dir, po->log_start > 0 ? po->log_start : 0);
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
        note(rep, clean ? RC_CLEAN : RC_SCANNED, "%s", s.dir);
    if (rc >= 0)
        rc = part_finish(&s, &x, clean);
out:
    found_fini(&x);
    return rc;
}

/* ------------------------------------------------------------------ appending what the journal has
 */

struct tail_writer {
    struct part *p;
    const struct recover_opts *o;
    struct file *f;
    struct seg_index ix;
    char dir[STORE_PATH_MAX];
};

static int tail_open(struct tail_writer *t)
{
    struct part_seg *g = &t->p->segs[t->p->seg_cnt - 1];
    struct file_io *io = t->p->dir->io;
    char path[STORE_PATH_MAX];
    seg_index_init(&t->ix, g->base, t->o->index_bytes_max);
    int rc = seg_index_load(&t->ix, io, t->dir);
    if (rc == -ENOENT && g->len == 0)
        rc = 0;
    if (rc == 0)
        rc = path_seg(path, t->dir, g->base, SFX_LOG);
    if (rc == 0)
        rc = io->ops->open(io, path, 0, &t->f);
    return rc;
}

static int tail_close(struct tail_writer *t)
{
    int rc = 0;
    if (t->f == NULL)
        return 0;
    rc = t->p->dir->io->ops->fsync(t->f);
    t->p->dir->io->ops->close(t->f);
    t->f = NULL;
    seg_index_finish(&t->ix);
    if (rc == 0)
        rc = seg_index_store(&t->ix, t->p->dir->io, t->dir, false);
    seg_index_fini(&t->ix);
    return rc;
}

static int tail_write(struct tail_writer *t, const uint8_t *b, const struct batch_info *info)
{
    struct part *p = t->p;
    struct part_seg *g = &p->segs[p->seg_cnt - 1];
    bool full = g->len > 0 &&
                (g->len + info->total_len > t->o->segment_bytes || seg_index_is_full(&t->ix) ||
                 info->base_offset + info->last_offset_delta - g->base > INT32_MAX);
    if (full) {
        int rc = tail_close(t);
        if (rc == 0)
            rc = snapshot_store(p, t->dir, p->next);
        if (rc == 0)
            rc = seg_create(p, t->dir, p->next);
        if (rc == 0)
            rc = tail_open(t);
        if (rc < 0)
            return rc;
        g = &p->segs[p->seg_cnt - 1];
    }
    for (uint32_t at = 0; at < info->total_len;) {
        int64_t n = p->dir->io->ops->pwrite(t->f, b + at, info->total_len - at, g->len + at);
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        at += (uint32_t)n;
    }
    int64_t last = info->base_offset + info->last_offset_delta;
    seg_index_add(&t->ix,
                  &(struct seg_index_batch){.pos = (uint32_t)g->len,
                                            .len = info->total_len,
                                            .last_offset = last,
                                            .max_ts = info->max_timestamp},
                  t->o->index_interval_bytes);
    g->len += info->total_len;
    g->max_ts = t->ix.max_ts;
    g->max_ts_offset = t->ix.max_ts_offset;
    p->next = last + 1;
    int rc = epochs_assign(&p->epochs, info->leader_epoch, info->base_offset);
    return rc < 0 ? rc : producers_update(&p->producers, info, info->max_timestamp);
}

int recover_part_append(struct part *p, const struct span *batches, uint32_t cnt,
                        const struct recover_opts *o, struct recover_report *rep)
{
    struct tail_writer t = {.p = p, .o = o};
    bool wrote = false;
    int rc = part_path(t.dir, p);
    for (uint32_t i = 0; rc == 0 && i < cnt; i++) {
        struct batch_info info;
        if (batch_verify(batches[i].p, batches[i].len, &info) < 0 ||
            info.total_len != batches[i].len) {
            note(rep, RC_JOURNAL_BAD, "%s offset %" PRId64, t.dir, p->next);
            break;
        }
        if (info.base_offset < p->next) {
            note(rep, RC_JOURNAL_KNOWN, "%s offset %" PRId64, t.dir, info.base_offset);
            continue;
        }
        if (info.base_offset > p->next)
            note(rep, RC_JOURNAL_GAP, "%s: offsets %" PRId64 " to %" PRId64 " are missing", t.dir,
                 p->next, info.base_offset - 1);
        if (!wrote)
            rc = tail_open(&t);
        wrote = true;
        if (rc == 0)
            rc = tail_write(&t, batches[i].p, &info);
        if (rc == 0)
            note(rep, RC_JOURNAL_APPLIED, "%s offset %" PRId64, t.dir, info.base_offset);
    }
    int rc2 = tail_close(&t);
    seg_index_fini(&t.ix);
    if (rc == 0)
        rc = rc2;
    if (rc < 0 || !wrote)
        return rc;
    p->recovery_point = p->next;
    p->was_clean = false;
    part_mark_set(p);
    rc = epochs_store(p, t.dir);
    return rc == 0 ? snapshot_store(p, t.dir, p->next) : rc;
}

/* --------------------------------------------------------------------------------- journal replay
 */

struct replay_run {
    struct part *p;
    uint64_t seq;
    uint32_t order;
    int64_t base;
    uint8_t *bytes;
    uint32_t len;
};
struct replay {
    struct recover_report *rep;
    const struct recover_opts *o;
    struct part **by_id;
    uint32_t part_cnt;
    struct replay_run *runs;
    uint32_t cnt, cap;
};

static int part_id_cmp(const void *a, const void *b)
{
    const struct part *x = *(struct part *const *)a, *y = *(struct part *const *)b;
    int c = memcmp(&x->topic_id, &y->topic_id, sizeof(x->topic_id));
    return c ? c : (x->partition > y->partition) - (x->partition < y->partition);
}

static int run_cmp(const void *a, const void *b)
{
    const struct replay_run *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? -1 : 1;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* Does the run end below `next`? Then all of it is known; no need to keep its bytes. */
static bool run_is_known(const struct journal_found *f, int64_t next)
{
    int64_t end = f->run.base_offset;
    for (uint32_t at = 0; at < f->run.len;) {
        struct batch_info b;
        if (batch_header_read(f->bytes + at, f->run.len - at, &b) < 0)
            return false;
        end = b.base_offset + b.last_offset_delta + 1;
        at += b.total_len;
    }
    return end <= next;
}

static int replay_collect(void *arg, const struct journal_found *f)
{
    struct replay *r = arg;
    struct part key = {.topic_id = f->run.topic_id, .partition = f->run.partition}, *k = &key;
    struct part **hit = r->part_cnt == 0
                            ? NULL
                            : bsearch(&k, r->by_id, r->part_cnt, sizeof(*r->by_id), part_id_cmp);
    if (hit == NULL) {
        note(r->rep, RC_JOURNAL_UNKNOWN, "journal entry %" PRIu64, f->seq);
        return 0;
    }
    struct part *p = *hit;
    if (run_is_known(f, p->next)) {
        note(r->rep, RC_JOURNAL_KNOWN, "%s offset %" PRId64, p->name, f->run.base_offset);
        return 0;
    }
    void *a = r->runs;
    int rc = grow(&a, r->cnt, &r->cap, sizeof(*r->runs));
    if (rc < 0)
        return rc;
    r->runs = a;
    uint8_t *bytes = malloc(f->run.len ? f->run.len : 1);
    if (bytes == NULL)
        return -ENOMEM;
    memcpy(bytes, f->bytes, f->run.len);
    r->runs[r->cnt] = (struct replay_run){.p = p,
                                          .seq = f->seq,
                                          .order = r->cnt,
                                          .base = f->run.base_offset,
                                          .bytes = bytes,
                                          .len = f->run.len};
    r->cnt++;
    return 0;
}

static int runs_apply(struct replay *r, struct replay_run *runs, uint32_t cnt)
{
    struct span *batches = NULL;
    uint32_t n = 0, cap = 0;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < cnt; i++) {
        for (uint32_t at = 0; rc == 0 && at < runs[i].len;) {
            struct batch_info b;
            if (batch_header_read(runs[i].bytes + at, runs[i].len - at, &b) < 0) {
                note(r->rep, RC_JOURNAL_BAD, "%s, run of offset %" PRId64, runs[i].p->name,
                     runs[i].base);
                break;
            }
            void *a = batches;
            rc = grow(&a, n, &cap, sizeof(*batches));
            batches = a;
            if (rc == 0)
                batches[n++] = span_of(runs[i].bytes + at, b.total_len);
            at += b.total_len;
        }
    }
    if (rc == 0 && n > 0)
        rc = recover_part_append(runs[0].p, batches, n, r->o, r->rep);
    free(batches);
    return rc;
}

static int replay_apply(struct replay *r)
{
    int rc = 0;
    if (r->cnt > 0)
        qsort(r->runs, r->cnt, sizeof(*r->runs), run_cmp);
    for (uint32_t i = 0; rc == 0 && i < r->cnt;) {
        uint32_t n = 1;
        while (i + n < r->cnt && r->runs[i + n].p == r->runs[i].p)
            n++;
        rc = runs_apply(r, &r->runs[i], n);
        i += n;
    }
    return rc;
}

struct names {
    char (*name)[STORE_NAME_MAX];
    uint32_t cnt, cap;
};
static int names_add(void *arg, const char *name)
{
    struct names *x = arg;
    if (strlen(name) >= STORE_NAME_MAX)
        return 0; /* longer than any name of Kafka's or ours */
    void *a = x->name;
    int rc = grow(&a, x->cnt, &x->cap, sizeof(*x->name));
    if (rc < 0)
        return rc;
    x->name = a;
    strcpy(x->name[x->cnt++], name);
    return 0;
}

static int journal_file_reset(struct data_dir *d, const char *path, bool drop)
{
    struct file *f;
    if (drop)
        return d->io->ops->unlink(d->io, path);
    uint8_t *zero = aligned_alloc(FILE_BLOCK, FILE_BLOCK);
    if (zero == NULL)
        return -ENOMEM;
    memset(zero, 0, FILE_BLOCK);
    int rc = d->io->ops->open(d->io, path, 0, &f);
    if (rc == 0) {
        int64_t n = d->io->ops->pwrite(f, zero, FILE_BLOCK, 0);
        rc = n == FILE_BLOCK ? d->io->ops->fsync(f) : n < 0 ? (int)n : -EIO;
        d->io->ops->close(f);
    }
    free(zero);
    return rc;
}

enum journal_pass { PASS_COLLECT, PASS_RESET };

static int journals_of_dir(struct data_dir *d, struct replay *r, enum journal_pass pass)
{
    struct names names = {0};
    int rc = d->io->ops->list(d->io, d->journal_path, names_add, &names);
    if (rc == -ENOENT)
        return 0;
    bool reset_any = false;
    for (uint32_t i = 0; rc == 0 && i < names.cnt; i++) {
        struct uuid id;
        uint32_t shard, n;
        char path[STORE_PATH_MAX];
        if (journal_file_parse(names.name[i], &id, &shard, &n) < 0 || !uuid_eq(&id, &d->id))
            continue;
        rc = path_join(path, d->journal_path, names.name[i]);
        if (rc == 0 && pass == PASS_COLLECT) {
            uint8_t *buf;
            uint64_t len;
            rc = store_file_read(d->io, path, UINT64_C(4) << 30, &buf, &len);
            if (rc < 0)
                break;
            int64_t got = journal_walk(buf, len, replay_collect, r);
            free(buf);
            rc = got < 0 ? (int)got : 0;
            r->rep->cnt[RC_JOURNAL_ENTRY] += got > 0 ? (uint64_t)got : 0;
        } else if (rc == 0) {
            rc = journal_file_reset(d, path, r->o->shard_cnt > 0 && shard >= r->o->shard_cnt);
            reset_any = true;
        }
    }
    if (rc == 0 && reset_any)
        rc = d->io->ops->dir_sync(d->io, d->journal_path);
    free(names.name);
    return rc;
}

static int journals_replay(struct catalog *c, const struct recover_opts *o,
                           struct recover_report *rep, struct list *parts)
{
    struct replay r = {.rep = rep, .o = o};
    int rc = 0;
    list_for_each(it, parts) r.part_cnt++;
    r.by_id = malloc((r.part_cnt + 1) * sizeof(struct part *));
    if (r.by_id == NULL)
        return -ENOMEM;
    uint32_t i = 0;
    list_for_each(it, parts) r.by_id[i++] = container_of(it, struct part, link);
    qsort(r.by_id, r.part_cnt, sizeof(*r.by_id), part_id_cmp);
    for (i = 0; rc == 0 && i < c->dir_cnt; i++)
        rc = journals_of_dir(&c->dirs[i], &r, PASS_COLLECT);
    if (rc == 0)
        rc = replay_apply(&r);
    for (i = 0; rc == 0 && i < c->dir_cnt; i++)
        rc = journals_of_dir(&c->dirs[i], &r, PASS_RESET);
    for (i = 0; i < r.cnt; i++)
        free(r.runs[i].bytes);
    free(r.runs);
    free(r.by_id);
    return rc;
}

/* ------------------------------------------------------------------------------ whole directories
 */

struct unfinished {
    struct file_io *io;
    const char *dir;
};
/* 1: a file that the creation of a partition does not make, or one with data; ends the list. */
static int is_more_than_creation(void *arg, const char *name)
{
    struct unfinished *u = arg;
    char path[STORE_PATH_MAX], first[32];
    struct file_stat st;
    (void)snprintf(first, sizeof(first), SEG_NAME_FMT, 0LL, SFX_LOG);
    if (strncmp(name, FN_PARTITION_META, sizeof(FN_PARTITION_META) - 1) == 0 ||
        strncmp(name, FN_EPOCHS, sizeof(FN_EPOCHS) - 1) == 0 || /* or .tmp, with Kafka */
        ends_with(name, SFX_INDEX) || ends_with(name, SFX_TIMEINDEX))
        return 0;
    if (strcmp(name, first) != 0)
        return 1;
    int rc = path_join(path, u->dir, name);
    if (rc == 0)
        rc = u->io->ops->stat(u->io, path, &st);
    return rc < 0 ? rc : st.size > 0;
}

/* Is this what a creation that was cut off leaves? Then nobody ever appended here: partitions are
 * attached only when partition.metadata is flushed, and their checkpoint has a line for them. */
static int is_unfinished(const struct part *p, const char *dir)
{
    struct data_dir *d = p->dir;
    struct unfinished u = {d->io, dir};
    struct uuid id;
    int rc = part_meta_read(d->io, dir, &id);
    if (rc != -ENOENT && rc != -E_MALFORMED)
        return rc;
    if (checkpoint_find(d->found_recovery, p->topic, p->partition) >= 0)
        return 0;
    rc = d->io->ops->list(d->io, dir, is_more_than_creation, &u);
    return rc < 0 ? rc : rc == 0;
}

/* A partition that is left out keeps its lines in the checkpoints until it is restored. */
static void mark_keep(struct part *p, const struct recover_part_opts *po)
{
    if (po->recovery_point < 0)
        return;
    atomic_store(&p->mark->recovery_point, po->recovery_point);
    atomic_store(&p->mark->high_watermark, po->recovery_point);
    atomic_store(&p->mark->log_start, po->log_start);
    p->mark = NULL; /* the catalog frees it */
}

static int dir_one(struct data_dir *d, const char *name, const struct recover_opts *o,
                   struct recover_report *rep, struct list *parts)
{
    char path[STORE_PATH_MAX];
    struct file_stat st;
    int rc = path_join(path, d->path, name);
    if (rc == 0)
        rc = d->io->ops->stat(d->io, path, &st);
    if (rc < 0 || !st.is_dir)
        return rc;
    if (ends_with(name, SFX_DIR_DELETE) && o->leave_deleted)
        return 0;
    if (ends_with(name, SFX_DIR_DELETE)) {
        note(rep, RC_DELETE_DIR, "%s", path);
        return dir_remove(d->io, path);
    }
    struct part *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    if (strcmp(name, FN_CLUSTER_METADATA) == 0 || recover_part_init(p, d, name) < 0) {
        if (strcmp(name, FN_CLUSTER_METADATA) != 0)
            note(rep, RC_FOREIGN_NAME, "%s", path);
        free(p);
        return 0;
    }
    rc = is_unfinished(p, path);
    if (rc > 0) {
        note(rep, RC_UNFINISHED_DIR, "%s", path);
        rc = dir_remove(d->io, path);
        free(p);
        return rc;
    }
    p->mark = part_mark_create(d, p->topic, p->partition);
    struct recover_part_opts po = {
        .recovery_point = checkpoint_find(d->found_recovery, p->topic, p->partition),
        .log_start = checkpoint_find(d->found_start, p->topic, p->partition),
        .limit = -1,
        .clean = d->was_clean,
    };
    if (rc == 0)
        rc = p->mark == NULL ? -ENOMEM : recover_part(p, &po, o, rep);
    if (rc == -E_MALFORMED) { /* reported as RC_NO_META: its topic id is not known */
        mark_keep(p, &po);
        part_destroy(p);
        return 0;
    }
    if (rc < 0) {
        if (rep->say != NULL) {
            char text[STORE_PATH_MAX + 200];
            (void)snprintf(text, sizeof(text), "cannot read partition %s: %s", path, err_text(rc));
            rep->say(rep->arg, text);
        }
        part_destroy(p);
        return rc;
    }
    rep->partitions++;
    list_add_tail(parts, &p->link);
    return 0;
}

int recover_data_dirs(struct catalog *c, const struct recover_opts *o, struct recover_report *rep,
                      struct list *parts)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < c->dir_cnt; i++) {
        struct names names = {0};
        rc = c->io.ops->list(&c->io, c->dirs[i].path, names_add, &names);
        for (uint32_t k = 0; rc == 0 && k < names.cnt; k++)
            rc = dir_one(&c->dirs[i], names.name[k], o, rep, parts);
        free(names.name);
    }
    if (rc == 0)
        rc = journals_replay(c, o, rep, parts);
    for (uint32_t i = 0; rc == 0 && i < c->dir_cnt; i++)
        rc = catalog_checkpoint(&c->dirs[i]);
    return rc;
}

int store_log_recover(const char *const *dirs, uint32_t dir_cnt, struct recover_report *rep,
                      char err[CATALOG_ERR_MAX])
{
    struct catalog_opts co = {.ops = &file_io_real, .dir_cnt = dir_cnt};
    struct catalog *c;
    struct recover_opts o;
    struct list parts;
    if (dir_cnt == 0 || dir_cnt > CATALOG_DIRS_MAX) {
        (void)snprintf(err, CATALOG_ERR_MAX, "between 1 and %d directories", CATALOG_DIRS_MAX);
        return -E_LIMIT;
    }
    for (uint32_t i = 0; i < dir_cnt; i++)
        co.dirs[i] = dirs[i];
    int rc = catalog_open(&co, &c, err);
    if (rc < 0)
        return rc;
    list_init(&parts);
    recover_opts_default(&o);
    rc = recover_data_dirs(c, &o, rep, &parts);
    if (rc < 0)
        (void)snprintf(err, CATALOG_ERR_MAX, "recovery stopped: %s", err_text(rc));
    bool left_out = rep->cnt[RC_NO_META] > 0;
    /* Marks hold what the checkpoints say: they go with the catalog, after its last checkpoint. */
    for (struct list *n = list_pop_head(&parts); n != NULL; n = list_pop_head(&parts)) {
        struct part *p = container_of(n, struct part, link);
        p->mark = NULL;
        part_destroy(p);
    }
    int rc2 = catalog_close(c, rc == 0 && !left_out);
    if (rc == 0 && rc2 < 0) {
        (void)snprintf(err, CATALOG_ERR_MAX, "cannot write the checkpoints: %s", err_text(rc2));
        rc = rc2;
    }
    return rc;
}
