/* recover_journal.c - what the journals hold beyond the ends of the segments: every run of every
 * entry, idempotent by (partition, base offset), appended and flushed before the journals are
 * reset. */
#include "dataplane/store/journal.h"
#include "dataplane/store/recover_int.h"
#include "dataplane/store/store_file.h"
#include "lib/base/span.h"
#include "lib/batch/lost.h"
#include <inttypes.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ appending what the journal has
 */

struct tail_writer {
    struct part *p;
    const struct recover_opts *o;
    struct recover_report *rep;
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
    bool known = rc == -ENOENT && g->len == 0;
    if (known || (t->o->spare_derived && (rc == -ENOENT || rc == -E_MALFORMED)))
        rc = 0; /* nothing yet; or left out when there was no room for it */
    t->ix.bytes_since = g->index_since;
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
        rc = recover_derived(t->o, t->rep, t->dir,
                             seg_index_store(&t->ix, t->p->dir->io, t->dir, false));
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
            rc = recover_derived(t->o, t->rep, t->dir,
                                 recover_state_store(p, t->dir, p->seg_cnt - 1, true));
        if (rc == 0)
            rc = recover_seg_create(p, t->dir, p->next);
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
    g->index_since = t->ix.bytes_since;
    g->max_ts = t->ix.max_ts;
    g->max_ts_offset = t->ix.max_ts_offset;
    p->next = last + 1;
    int rc = epochs_assign(&p->epochs, info->leader_epoch, info->base_offset);
    return rc < 0 ? rc : recover_txn(p, info, b);
}

/* Offsets are missing in front of `next`: a batch that says so stands for them, so that who reads
 * them is told. */
static int tail_gap(struct tail_writer *t, const struct batch_info *next)
{
    static const char why[] =
        "lost: these offsets were to come from the journal, and are not in it";
    uint8_t lost[256];
    struct batch_info info;
    struct part *p = t->p;
    recover_note(t->rep, RC_JOURNAL_GAP,
                 "topic %s partition %" PRId32 ": offsets %" PRId64 " to %" PRId64
                 " are missing: %s",
                 p->topic, p->partition, p->next, next->base_offset - 1, t->dir);
    int rc = batch_lost_build(lost, sizeof(lost),
                              &(struct batch_lost){.from = p->next,
                                                   .to = next->base_offset,
                                                   .leader_epoch = next->leader_epoch,
                                                   .text = why});
    if (rc == 0)
        rc = batch_verify(lost, sizeof(lost), &info);
    if (rc == 0)
        return tail_write(t, lost, &info);
    return rc == -E_LIMIT ? 0 : rc; /* more offsets than one batch can have: they stay missing */
}

int recover_part_append(struct part *p, const struct span *batches, uint32_t cnt,
                        const struct recover_opts *o, struct recover_report *rep)
{
    struct tail_writer t = {.p = p, .o = o, .rep = rep};
    bool wrote = false;
    int rc = recover_path(t.dir, p);
    for (uint32_t i = 0; rc == 0 && i < cnt; i++) {
        struct batch_info info;
        if (batch_verify(batches[i].p, batches[i].len, &info) < 0 ||
            info.total_len != batches[i].len) {
            recover_note(rep, RC_JOURNAL_BAD, "%s offset %" PRId64, t.dir, p->next);
            break;
        }
        if (info.base_offset < p->next) {
            recover_note(rep, RC_JOURNAL_KNOWN, "%s offset %" PRId64, t.dir, info.base_offset);
            continue;
        }
        if (!wrote)
            rc = tail_open(&t);
        wrote = true;
        if (rc == 0 && info.base_offset > p->next)
            rc = tail_gap(&t, &info);
        if (rc == 0)
            rc = tail_write(&t, batches[i].p, &info);
        if (rc == 0)
            recover_note(rep, RC_JOURNAL_APPLIED, "%s offset %" PRId64, t.dir, info.base_offset);
    }
    int rc2 = tail_close(&t);
    seg_index_fini(&t.ix);
    if (rc == 0)
        rc = rc2;
    if (rc < 0 || !wrote)
        return rc;
    p->recovery_point = p->next;
    p->was_clean = false;
    recover_mark_set(p);
    rc = recover_derived(o, rep, t.dir, recover_epochs_store(p, t.dir, true));
    if (rc == 0)
        rc = recover_derived(o, rep, t.dir, recover_state_store(p, t.dir, p->seg_cnt - 1, false));
    return rc;
}

/* --------------------------------------------------------------------------------- journal replay
 */

struct replay_run {
    struct part *p;
    uint32_t kept; /* number of the start that kept it; UINT32_MAX: of the last run */
    uint64_t seq;
    uint32_t order;
    int64_t base;
    uint8_t *bytes;
    uint32_t len;
};
struct replay {
    struct recover_report *rep;
    const char *path; /* of the journal file that is read */
    const struct recover_opts *o;
    struct part **by_id;
    uint32_t part_cnt;
    struct replay_run *runs;
    uint32_t cnt, cap;
    uint32_t kept;     /* of the file that is read now */
    uint32_t unknown;  /* runs in it of partitions that are not there */
    uint32_t kept_max; /* largest number in use */
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
        return part_id_cmp(&x->p, &y->p); /* not by address: a history replays the same way */
    if (x->kept != y->kept)
        return x->kept < y->kept ? -1 : 1;
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

/* NULL: it is gone. */
static struct part *part_of_run(const struct replay *r, const struct journal_run *run)
{
    struct part key = {.topic_id = run->topic_id, .partition = run->partition}, *k = &key;
    struct part **hit = r->part_cnt == 0
                            ? NULL
                            : bsearch(&k, r->by_id, r->part_cnt, sizeof(*r->by_id), part_id_cmp);
    return hit == NULL ? NULL : *hit;
}

static int replay_collect(void *arg, const struct journal_found *f)
{
    struct replay *r = arg;
    struct part *p = part_of_run(r, &f->run);
    if (p == NULL) {
        r->unknown++;
        recover_note(r->rep, RC_JOURNAL_UNKNOWN, "journal entry %" PRIu64, f->seq);
        return 0;
    }
    if (run_is_known(f, p->next)) {
        recover_note(r->rep, RC_JOURNAL_KNOWN, "%s offset %" PRId64, p->name, f->run.base_offset);
        return 0;
    }
    void *a = r->runs;
    int rc = recover_grow(&a, r->cnt, &r->cap, sizeof(*r->runs));
    if (rc < 0)
        return rc;
    r->runs = a;
    uint8_t *bytes = malloc(f->run.len ? f->run.len : 1);
    if (bytes == NULL)
        return -ENOMEM;
    memcpy(bytes, f->bytes, f->run.len);
    r->runs[r->cnt] = (struct replay_run){.p = p,
                                          .kept = r->kept,
                                          .seq = f->seq,
                                          .order = r->cnt,
                                          .base = f->run.base_offset,
                                          .bytes = bytes,
                                          .len = f->run.len};
    r->cnt++;
    return 0;
}

static int replay_damage(void *arg, const struct journal_damage *d)
{
    struct replay *r = arg;
    char where[STORE_PATH_MAX + 160];
    (void)snprintf(where, sizeof(where),
                   "%" PRIu64 " bytes at byte %" PRIu64 " of %s, entry %" PRIu64, d->len, d->pos,
                   r->path, d->seq);
    if (d->is_mended) {
        recover_note(r->rep, RC_JOURNAL_MENDED, "%s", where);
        return 0;
    }
    if (d->run == NULL) {
        recover_note(r->rep, RC_JOURNAL_LOST, "%s, %" PRIu64 " entries, of partitions unknown",
                     where, d->seq_cnt);
        return 0;
    }
    struct part *p = part_of_run(r, d->run);
    if (p == NULL) {
        r->unknown++;
        recover_note(r->rep, RC_JOURNAL_UNKNOWN, "journal entry %" PRIu64, d->seq);
        return 0;
    }
    int64_t from = d->run->base_offset;
    if (from < p->next) { /* its segment has it */
        recover_note(r->rep, RC_JOURNAL_KNOWN, "%s offset %" PRId64, p->name, from);
        return 0;
    }
    recover_note(r->rep, RC_JOURNAL_LOST,
                 "topic %s partition %" PRId32 ": offsets %" PRId64 " and above: %s", p->topic,
                 p->partition, from, where);
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
                recover_note(r->rep, RC_JOURNAL_BAD, "%s, run of offset %" PRId64, runs[i].p->name,
                             runs[i].base);
                break;
            }
            void *a = batches;
            rc = recover_grow(&a, n, &cap, sizeof(*batches));
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

/* "<journal file>.<number>.kept": entries of a partition that was left out are in it. */
static bool kept_parse(const char *name, char journal[STORE_NAME_MAX], uint32_t *ret_number)
{
    const char *dot = strstr(name, SFX_JOURNAL ".");
    unsigned number;
    int used = 0;
    if (dot == NULL)
        return false;
    size_t len = (size_t)(dot - name) + sizeof(SFX_JOURNAL) - 1;
    if (sscanf(name + len, ".%9u" SFX_KEPT "%n", &number, &used) != 1 || used == 0 ||
        name[len + (size_t)used] != 0)
        return false;
    memcpy(journal, name, len);
    journal[len] = 0;
    *ret_number = number;
    return true;
}

struct journal_name {
    char name[STORE_NAME_MAX];
    uint32_t shard, kept;
    bool has_unknown;
};
struct journal_names {
    struct journal_name *v;
    uint32_t cnt;
};

static int journal_names_read(struct data_dir *d, struct replay *r, struct journal_names *ret)
{
    struct names names = {0};
    int rc = d->io->ops->list(d->io, d->journal_path, recover_names_add, &names);
    if (rc == 0 && (ret->v = calloc(names.cnt + 1, sizeof(*ret->v))) == NULL)
        rc = -ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < names.cnt; i++) {
        struct journal_name *x = &ret->v[ret->cnt];
        char journal[STORE_NAME_MAX];
        const char *name = names.name[i];
        struct uuid id;
        uint32_t n;
        x->kept = UINT32_MAX;
        if (kept_parse(name, journal, &x->kept))
            name = journal;
        if (journal_file_parse(name, &id, &x->shard, &n) < 0 || !uuid_eq(&id, &d->id))
            continue;
        if (x->kept != UINT32_MAX && x->kept > r->kept_max)
            r->kept_max = x->kept;
        strcpy(x->name, names.name[i]);
        ret->cnt++;
    }
    free(names.name);
    return rc == -ENOENT ? 0 : rc;
}

static int journal_collect(struct data_dir *d, struct replay *r, struct journal_name *x,
                           const char *path)
{
    uint8_t *buf;
    uint64_t len;
    int rc = store_file_read(d->io, path, UINT64_C(4) << 30, &buf, &len);
    if (rc < 0)
        return rc;
    r->kept = x->kept;
    r->unknown = 0;
    const struct journal_reader reader = {replay_collect, replay_damage, r};
    r->path = path;
    int64_t got = journal_walk(buf, len, &reader);
    free(buf);
    x->has_unknown = r->unknown > 0;
    r->rep->cnt[RC_JOURNAL_ENTRY] += got > 0 ? (uint64_t)got : 0;
    return got < 0 ? (int)got : 0;
}

/* What is in it is in its partitions now, but for those that are left out. */
static int journal_done(struct data_dir *d, struct replay *r, const struct journal_name *x,
                        const char *path)
{
    bool keep = x->has_unknown && d->left_out > 0, is_kept = x->kept != UINT32_MAX;
    char to[STORE_PATH_MAX];
    if (is_kept)
        return keep ? 0 : d->io->ops->unlink(d->io, path);
    if (!keep)
        return journal_file_reset(d, path, r->o->shard_cnt > 0 && x->shard >= r->o->shard_cnt);
    int n = snprintf(to, sizeof(to), "%s.%u" SFX_KEPT, path, r->kept_max + 1);
    if (n < 0 || n >= (int)sizeof(to))
        return -ENAMETOOLONG;
    recover_note(r->rep, RC_JOURNAL_KEPT, "%s", to);
    return d->io->ops->rename(d->io, path, to);
}

static void journal_tell(struct replay *r, const char *what, const char *path, int rc)
{
    char text[STORE_PATH_MAX + 128];
    if (r->rep->say == NULL)
        return;
    (void)snprintf(text, sizeof(text), "the journal cannot be %s: %s: %s", what, path,
                   err_text(rc));
    r->rep->say(r->rep->arg, text);
}

int recover_journals(struct data_dir *d, const struct recover_opts *o, struct recover_report *rep,
                     struct list *parts)
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
    struct journal_names names = {0};
    char path[STORE_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s", d->journal_path);
    rc = journal_names_read(d, &r, &names);
    for (i = 0; rc == 0 && i < names.cnt; i++) {
        rc = path_join(path, d->journal_path, names.v[i].name);
        if (rc == 0)
            rc = journal_collect(d, &r, &names.v[i], path);
    }
    if (rc < 0)
        journal_tell(&r, "read", path, rc);
    if (rc == 0)
        rc = replay_apply(&r);
    bool is_applied = rc == 0;
    for (i = 0; rc == 0 && i < names.cnt; i++) {
        rc = path_join(path, d->journal_path, names.v[i].name);
        if (rc == 0)
            rc = journal_done(d, &r, &names.v[i], path);
    }
    if (rc == 0 && names.cnt > 0)
        rc = d->io->ops->dir_sync(d->io, d->journal_path);
    if (is_applied && rc < 0)
        journal_tell(&r, "reset", path, rc);
    free(names.v);
    for (i = 0; i < r.cnt; i++)
        free(r.runs[i].bytes);
    free(r.runs);
    free(r.by_id);
    return rc;
}
