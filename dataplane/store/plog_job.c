/* plog_job.c - what blocks, done by the set's housekeeping threads (dirwork.h): one for what reads
 * and writes wait for, one for what takes long.
 *
 * A job works on what it was handed; results are adopted by the shard in `done`. A segment has at
 * most one job (seg.job). Jobs that take the whole partition (fence, close, detach) are submitted
 * when nothing else is in flight, and the shard leaves it alone until they are done. */
#include "dataplane/store/plog_int.h"
#include "dataplane/store/store_file.h"
#include "lib/base/span.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

struct plog_job {
    struct dirjob j;
    enum job_kind kind;
    struct plog *p;
    struct seg *s;
    struct file_io *io; /* the set's: files opened here are used by the shard */
    char dir[STORE_PATH_MAX];
    uint64_t len;
    struct seg_index ix; /* OPEN: loaded; IDLE: taken from the segment */
    bool need_index, got_index, need_name, is_placed, need_tail, got_tail, cut;
    struct file *file;
    uint8_t *tail;
    char *text; /* EPOCHS */
    size_t text_len;
    /* FENCE */
    struct part part;
    struct file **files;
    uint32_t file_cnt;
    uint8_t *bytes;
    uint64_t bytes_len;
    int64_t limit, log_start; /* limit: also the base of the segment behind the one of SEAL, DROP */
    int64_t first_ts;         /* DROP: of the first batch; -1: not known */
    uint64_t bad_use;
    struct recover_opts ro;
    struct recover_report report;
};

struct dir_job {
    struct dirjob j;
    struct set_dir *sd;
    enum { DIR_SPACE, DIR_CHECKPOINT, DIR_SYNC } what; /* SPACE: measure the file system */
    struct space_check space;
};

static const struct file_io_ops *ops_of(const struct plog_job *k)
{
    return k->io->ops;
}

/* ---------------------------------------------------------------------------- running, on the
 * worker */

static int open_or_create(struct plog_job *k)
{
    char path[STORE_PATH_MAX], next[STORE_PATH_MAX];
    int rc = path_seg(path, k->dir, k->s->base, SFX_LOG);
    if (rc < 0)
        return rc;
    if (k->file != NULL && k->need_name && !k->is_placed) { /* the prepared file gets its name */
        rc = path_join(next, k->dir, FN_NEXT);
        if (rc == 0)
            rc = ops_of(k)->rename(k->io, next, path);
    } else if (k->file == NULL) {
        int flags = FILE_DIRECT | (k->need_name ? FILE_CREATE : 0);
        rc = ops_of(k)->open(k->io, path, flags, &k->file);
        if (rc < 0)
            k->file = NULL;
    }
    k->is_placed |= rc == 0; /* from here on FN_NEXT is another file */
    if (rc == 0 && k->need_name)
        rc = ops_of(k)->dir_sync(k->io, k->dir);
    return rc;
}

static int tail_read(struct plog_job *k)
{
    k->tail = aligned_alloc(FILE_BLOCK, FILE_BLOCK);
    if (k->tail == NULL)
        return -ENOMEM;
    memset(k->tail, 0, FILE_BLOCK);
    uint64_t pos = k->len & ~(uint64_t)(FILE_BLOCK - 1);
    int64_t n = ops_of(k)->pread(k->file, k->tail, FILE_BLOCK, pos);
    if (n < 0)
        return (int)n;
    if ((uint64_t)n < k->len - pos)
        return -EIO; /* the file is shorter than the log */
    k->got_tail = true;
    return 0;
}

static void open_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    j->rc = open_or_create(k);
    if (j->rc == 0 && k->need_index) {
        int rc = seg_index_load(&k->ix, k->io, k->dir);
        k->got_index =
            true; /* a lost index is only slower: the scan starts at the segment's start */
        if (rc < 0 && rc != -ENOENT)
            LOG_WARN("%s: index of segment %lld: %s; reading without it", k->dir,
                     (long long)k->s->base, err_text(rc));
    }
    if (j->rc == 0 && k->need_tail)
        j->rc = tail_read(k);
}

static void prepare_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    char path[STORE_PATH_MAX];
    j->rc = path_join(path, k->dir, FN_NEXT);
    if (j->rc == 0)
        j->rc = ops_of(k)->open(k->io, path, FILE_CREATE | FILE_DIRECT, &k->file);
    if (j->rc == 0)
        j->rc = ops_of(k)->truncate(k->file, 0);
}

/* Entries of `more` behind those of `ix`. */
static void index_merge(struct seg_index *ix, const struct seg_index *more)
{
    uint32_t off_cnt = ix->off_cnt + more->off_cnt, ts_cnt = ix->ts_cnt + more->ts_cnt;
    uint8_t *off = realloc(ix->off, (size_t)off_cnt * INDEX_ENTRY_LEN + 1);
    uint8_t *ts = realloc(ix->ts, (size_t)ts_cnt * TIMEINDEX_ENTRY_LEN + 1);
    if (off != NULL)
        ix->off = off;
    if (ts != NULL)
        ix->ts = ts;
    if (off != NULL && more->off_cnt > 0) {
        memcpy(off + (size_t)ix->off_cnt * INDEX_ENTRY_LEN, more->off,
               (size_t)more->off_cnt * INDEX_ENTRY_LEN);
        ix->off_cnt = ix->off_cap = off_cnt;
    }
    /* The segment's first entries in memory may repeat what the file knows: only later ones count.
     */
    for (uint32_t i = 0; ts != NULL && i < more->ts_cnt; i++) {
        const uint8_t *e = more->ts + (size_t)i * TIMEINDEX_ENTRY_LEN;
        const uint8_t *last =
            ix->ts_cnt ? ts + (size_t)(ix->ts_cnt - 1) * TIMEINDEX_ENTRY_LEN : NULL;
        if (last != NULL && (int64_t)load_be64(e) <= (int64_t)load_be64(last))
            continue;
        memcpy(ts + (size_t)ix->ts_cnt++ * TIMEINDEX_ENTRY_LEN, e, TIMEINDEX_ENTRY_LEN);
    }
    ix->ts_cap = ts_cnt;
    if (more->max_ts > ix->max_ts) {
        ix->max_ts = more->max_ts;
        ix->max_ts_offset = more->max_ts_offset;
    }
    ix->bytes_since = more->bytes_since;
}

/* Write the whole index of a segment whose memory has all of it, or only what was added since the
 * file was written. */
static int index_write(struct plog_job *k, const struct seg_index *mem, bool whole, bool finish,
                       bool sync)
{
    struct seg_index full;
    seg_index_init(&full, mem->base, 0);
    full.off_max = mem->off_max;
    full.ts_max = mem->ts_max;
    if (!whole) {
        int rc = seg_index_load(&full, k->io, k->dir);
        if (rc < 0 && rc != -ENOENT && rc != -E_MALFORMED)
            return rc;
    }
    index_merge(&full, mem);
    if (finish)
        seg_index_finish(&full);
    int rc = seg_index_store(&full, k->io, k->dir, sync);
    seg_index_fini(&full);
    return rc;
}

static int snapshot_write(struct plog_job *k, int64_t at, const uint8_t *b, size_t len, bool sync)
{
    char path[STORE_PATH_MAX];
    int rc = path_seg(path, k->dir, at, SFX_SNAPSHOT);
    return rc < 0 ? rc : store_file_write(k->io, path, b, len, sync);
}

static int snapshot_update(struct plog_job *k, int64_t at, const uint8_t *b, size_t len)
{
    char path[STORE_PATH_MAX];
    int rc = path_seg(path, k->dir, at, SFX_SNAPSHOT);
    return rc < 0 ? rc : store_file_update(k->io, path, b, len, false);
}

/* Cut the zero tail, write the final indexes; sync: flush both. */
static int seg_finish(struct plog_job *k, struct seg *s, bool sync)
{
    char path[STORE_PATH_MAX];
    int rc = 0;
    if (s->file == NULL) {
        rc = path_seg(path, k->dir, s->base, SFX_LOG);
        if (rc == 0)
            rc = ops_of(k)->open(k->io, path, FILE_DIRECT, &s->file);
        if (rc < 0) {
            s->file = NULL;
            return rc;
        }
    }
    uint64_t size;
    rc = ops_of(k)->size(s->file, &size);
    if (rc == 0 && size < s->len)
        rc = -EIO;
    if (rc == 0 && size > s->len)
        rc = ops_of(k)->truncate(s->file, s->len);
    if (rc == 0 && sync)
        rc = ops_of(k)->fsync(s->file);
    if (is_no_space(rc))
        rc = -EIO; /* of the log itself it is not to be tried again */
    if (rc == 0 && (s->index_changed || s->ix.off_cnt > 0 || s->ix.ts_cnt > 0 || s->has_index ||
                    s->is_unfinished)) /* also one whose file and index an idle second closed */
        rc = index_write(k, &s->ix, s->has_index, true, sync);
    return rc;
}

static void seal_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    j->rc = seg_finish(k, k->s, true);
    /* Before the snapshot: who finds that does not look for aborted transactions below it. */
    if (j->rc == 0 && k->s->snapshot != NULL)
        j->rc = txn_index_store(k->io, k->dir, k->s->base, k->s->txn_index, k->s->txn_index_len);
    if (j->rc == 0 && k->s->snapshot != NULL) /* limit: the next segment's base */
        j->rc = snapshot_write(k, k->limit, k->s->snapshot, k->s->snapshot_len, true);
    if (j->rc == 0)
        j->rc = ops_of(k)->dir_sync(k->io, k->dir);
}

static void idle_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    if (k->need_index)
        j->rc = index_write(k, &k->ix, k->got_index, false, false);
    if (k->cut) /* what was reserved ahead of its end; not cut, it stays until the next time */
        (void)ops_of(k)->truncate(k->file, k->len);
    ops_of(k)->close(k->file);
}

static void unlink_quiet(struct plog_job *k, int64_t base, const char *suffix)
{
    char path[STORE_PATH_MAX];
    if (path_seg(path, k->dir, base, suffix) == 0)
        (void)ops_of(k)->unlink(k->io, path); /* what stays is removed as an orphan at next start */
}

/* For the record of what is missing: recovery does not know it of older segments. */
static int64_t first_ts_read(struct plog_job *k, const char *path)
{
    uint8_t h[BATCH_HEADER_LEN];
    struct file *f;
    if (k->s->first_ts >= 0)
        return k->s->first_ts;
    if (ops_of(k)->open(k->io, path, FILE_RDONLY, &f) < 0)
        return -1;
    int64_t n = ops_of(k)->pread(f, h, sizeof(h), 0);
    ops_of(k)->close(f);
    return n == sizeof(h) ? (int64_t)load_be64(h + BATCH_BASE_TIMESTAMP) : -1;
}

static void drop_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    char path[STORE_PATH_MAX];
    if (k->s->file != NULL)
        ops_of(k)->close(k->s->file);
    k->s->file = NULL;
    j->rc = path_seg(path, k->dir, k->s->base, SFX_LOG);
    if (j->rc == 0 && k->s->for_space)
        k->first_ts = first_ts_read(k, path);
    if (j->rc == 0)
        j->rc = ops_of(k)->unlink(k->io, path);
    /* It must not be found again: the segment behind it may be gone by then, and the log would have
     * a hole. Names that end in .deleted are removed at the next start. */
    char aside[STORE_PATH_MAX];
    if (j->rc < 0 && j->rc != -ENOENT &&
        path_seg(aside, k->dir, k->s->base, SFX_LOG SFX_DELETED) == 0)
        (void)ops_of(k)->rename(k->io, path, aside);     /* j->rc says what happened */
    space_count(&k->p->sd->d->space.removed, k->s->len); /* also if it stays: then nothing comes */
    unlink_quiet(k, k->s->base, SFX_INDEX);
    unlink_quiet(k, k->s->base, SFX_TIMEINDEX);
    unlink_quiet(k, k->s->base, SFX_TXNINDEX);
    unlink_quiet(k, k->s->base, SFX_SNAPSHOT);
}

static void epochs_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    char path[STORE_PATH_MAX];
    j->rc = path_join(path, k->dir, FN_EPOCHS);
    if (j->rc == 0)
        j->rc = store_file_write(k->io, path, k->text, k->text_len, false);
}

static void files_close(struct plog_job *k)
{
    struct plog *p = k->p;
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        if (p->segs[i]->file != NULL)
            ops_of(k)->close(p->segs[i]->file);
        p->segs[i]->file = NULL;
    }
    if (p->spare != NULL)
        ops_of(k)->close(p->spare);
    p->spare = NULL;
}

static void fence_say(void *arg, const char *text)
{
    (void)arg;
    LOG_WARN("%s", text);
}

static void fence_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    struct span *batches = NULL;
    uint32_t cnt = 0;
    k->report.say = fence_say;
    files_close(k);
    if (k->bad_use != 0) {
        j->rc = journal_scrub(k->p->sd->journal, k->bad_use);
        if (j->rc < 0)
            return;
    }
    j->rc = recover_part_init(&k->part, k->p->part->dir, k->p->part->name);
    if (j->rc == 0) {
        k->part.mark = k->p->part->mark;
        struct recover_part_opts po = {
            .recovery_point = k->limit, .log_start = k->log_start, .limit = k->limit};
        j->rc = recover_part(&k->part, &po, &k->ro, &k->report);
    }
    if (j->rc == 0 && k->bytes_len > 0) {
        batches = malloc((k->bytes_len / BATCH_HEADER_LEN + 1) * sizeof(*batches));
        j->rc = batches == NULL ? -ENOMEM : 0;
    }
    for (uint64_t at = 0; j->rc == 0 && at < k->bytes_len;) {
        uint32_t n = batch_total_len(k->bytes + at); /* our own memory, checked when it came in */
        batches[cnt++] = span_of(k->bytes + at, n);
        at += n;
    }
    if (j->rc == 0 && cnt > 0)
        j->rc = recover_part_append(&k->part, batches, cnt, &k->ro, &k->report);
    free(batches);
}

/* What is written here is flushed by one sync_all when all partitions are closed (plog_set.c),
 * where the file system can: five flushes of each of 10,000 partitions take most of a minute. */
static void close_run(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    struct plog *p = k->p;
    uint8_t *snap = NULL, *index = NULL;
    size_t len, index_len;
    int rc = 0;
    /* Nothing was appended since recovery wrote all of this: what a power cut would take of it
     * makes the next start read the log again. */
    bool quiet = p->end.lsn == 0, sync = p->sd->d->sync_each;
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct seg *s = p->segs[i];
        bool touched = s->file != NULL || s->index_changed || s->is_dirty || s->is_unfinished;
        if (rc == 0 && !s->is_sealed && touched) {
            if (!s->is_named && s->file == NULL) { /* a roll that nobody wrote to */
                char path[STORE_PATH_MAX];
                rc = path_seg(path, k->dir, s->base, SFX_LOG);
                if (rc == 0)
                    rc = store_file_write(k->io, path, NULL, 0, false);
            } else {
                rc = seg_finish(k, s, sync);
            }
        }
        if (rc == 0 && i + 1 < p->seg_cnt && s->snapshot != NULL)
            rc = txn_index_store(k->io, k->dir, s->base, s->txn_index, s->txn_index_len);
        if (rc == 0 && i + 1 < p->seg_cnt && s->snapshot != NULL)
            rc = snapshot_write(k, p->segs[i + 1]->base, s->snapshot, s->snapshot_len, sync);
    }
    if (rc == 0 && k->cut && !quiet)
        rc = aborted_encode(&p->part->aborted, plog_active(p)->base, p->end.offset, &index,
                            &index_len);
    if (rc == 0 && k->cut && !quiet)
        rc = txn_index_store(k->io, k->dir, plog_active(p)->base, index, index_len);
    if (rc == 0 && k->cut)
        rc = producers_encode(&p->part->producers, &snap, &len);
    if (rc == 0 && k->cut)
        rc = quiet ? snapshot_update(k, p->end.offset, snap, len)
                   : snapshot_write(k, p->end.offset, snap, len, sync);
    if (rc == 0 && k->text != NULL) {
        char path[STORE_PATH_MAX];
        rc = path_join(path, k->dir, FN_EPOCHS);
        if (rc == 0)
            rc = store_file_write(k->io, path, k->text, k->text_len, sync);
    }
    if (p->spare != NULL) {
        char path[STORE_PATH_MAX];
        if (path_join(path, k->dir, FN_NEXT) == 0)
            (void)ops_of(k)->unlink(k->io, path); /* else removed at next start */
    }
    if (rc == 0 && sync && ((k->cut && !quiet) || k->text != NULL))
        rc = ops_of(k)->dir_sync(k->io, k->dir);
    files_close(k);
    free(snap);
    free(index);
    j->rc = rc;
}

static void detach_run(struct dirjob *j)
{
    files_close(container_of(j, struct plog_job, j));
    j->rc = 0;
}

/* -------------------------------------------------------------------------- adopting, on the shard
 */

static void job_free(struct plog_job *k)
{
    seg_index_fini(&k->ix);
    free(k->tail);
    free(k->text);
    free(k->bytes);
    free(k);
}

static void open_done(struct plog_job *k)
{
    struct plog *p = k->p;
    struct seg *s = k->s;
    int rc = k->j.rc;
    s->file = k->file;
    s->used_ns = now_ns(p->set);
    s->is_placed = k->is_placed;
    if (rc == 0 && k->need_name)
        s->is_named = true;
    if (k->got_index && !s->has_index) {
        index_merge(&k->ix, &s->ix);
        struct seg_index old = s->ix;
        s->ix = k->ix;
        k->ix = old;
        s->has_index = true;
    }
    struct chunk *c = p->wchunk;
    if (k->got_tail && c != NULL && c->seg == s && !c->has_prefix) {
        ASSERT(c->pos + c->from == k->len);
        memcpy(c->buf, k->tail, c->from);
        c->has_prefix = true;
    }
    if (is_no_space(rc) && p->state == PL_OPEN) { /* a new segment has no room for its name */
        plog_stall(p, rc, "making a segment");
        reads_opened(s, -E_BUSY);
        p->retry_ns = now_ns(p->set) + TICK_NS / 10;
        return;
    }
    if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM) {
        LOG_WARN("%s: cannot open segment %lld: %s; trying again", p->dir, (long long)s->base,
                 err_text(rc));
        reads_opened(s, -E_BUSY);
        p->retry_ns = now_ns(p->set) + TICK_NS / 10; /* the tick asks again for writes */
        return;
    }
    reads_opened(s, rc);
    bool writes = p->wchunk != NULL || s == plog_active(p);
    if (rc < 0 && writes && p->flush_to.lsn > p->flushed.lsn)
        plog_fail(p, rc, "opening the segment");
}

static void idle_done(struct plog_job *k)
{
    struct seg *s = k->s;
    if (k->j.rc < 0) /* only an index: recovery or the next write of it makes it good */
        LOG_WARN("%s: index of segment %lld: %s", k->dir, (long long)s->base, err_text(k->j.rc));
    if (!list_is_empty(&s->waiters))
        seg_want_open(s);
}

static void seal_done(struct plog_job *k)
{
    struct seg *s = k->s;
    if (is_no_space(k->j.rc)) { /* for its indexes: the tick tries again */
        plog_stall(k->p, k->j.rc, "sealing a segment");
        return;
    }
    if (k->j.rc < 0) {
        plog_fail(k->p, k->j.rc, "sealing a segment");
        return;
    }
    s->is_sealed = true;
    seg_reserve_end(s);
    s->index_changed = s->is_unfinished = false;
    free(s->snapshot);
    s->snapshot = NULL;
    free(s->txn_index);
    s->txn_index = NULL;
}

static void part_adopt(struct plog *p, struct part *part)
{
    epochs_fini(&p->part->epochs);
    producers_fini(&p->part->producers);
    aborted_fini(&p->part->aborted);
    free(p->part->segs);
    p->part->epochs = part->epochs;
    p->part->producers = part->producers;
    p->part->aborted = part->aborted;
    p->part->segs = part->segs;
    p->part->seg_cnt = part->seg_cnt;
    p->part->seg_cap = part->seg_cap;
    p->part->next = part->next;
}

static void part_drop(struct part *part)
{
    epochs_fini(&part->epochs);
    producers_fini(&part->producers);
    aborted_fini(&part->aborted);
    free(part->segs);
}

static void fence_done(struct plog_job *k)
{
    struct plog *p = k->p;
    struct plog_set *set = p->set;
    p->fence_job = false;
    if (k->j.rc == 0 && p->state == PL_FENCED) {
        part_adopt(p, &k->part);
        k->j.rc =
            plog_segs_from_part(p); /* no memory: everything stays as it is, once more later */
        k->part = (struct part){0};
    }
    if (k->j.rc < 0 || p->state != PL_FENCED) {
        if (p->state == PL_FENCED && p->fence_tries == 0)
            LOG_ERROR("%s: still fenced: %s; trying again", p->dir, err_text(k->j.rc));
        part_drop(&k->part);
        p->retry_ns = now_ns(set) + TICK_NS;
        p->full_retry_ns = now_ns(set) + (TICK_NS << (p->fence_tries < 5 ? p->fence_tries : 5));
        p->fence_tries++;
        return;
    }
    if (p->part->next < p->durable.offset)
        LOG_ERROR("%s: offsets %lld to %lld were acknowledged and are gone from the disk", p->dir,
                  (long long)p->part->next, (long long)p->durable.offset - 1);
    set->unflushed_bytes -= p->end.lsn - p->durable.lsn;
    p->sd->staged_bytes -= p->end.lsn - p->flushed.lsn;
    plog_chunks_drop(p);
    plog_written(p, p->unwritten);
    plog_hold_release(p);
    p->end.offset = p->part->next;
    p->end.lsn++; /* marks of the former life are never met again */
    p->durable = p->flushed = p->flush_to = p->end;
    p->stable = producers_stable(&p->part->producers, p->durable.offset);
    p->write_to = 0;
    p->journal_lsn = 0;
    p->flush_pending = 0;
    p->commit = C_NONE;
    p->bad_use = 0;
    p->spare_asked = false;
    p->epochs_changed = k->report.cnt[RC_NO_ROOM] > 0;
    p->lease = false; /* its segments are others now */
    p->state = PL_OPEN;
    set->st.recovered++;
    (void)epochs_assign(&p->part->epochs, p->leader_epoch, p->end.offset);
    LOG_INFO("%s: recovered, writable again from offset %lld", p->dir, (long long)p->end.offset);
    waits_fire(p);
    plog_publish(p);
}

static void detach_done(struct plog *p)
{
    plog_written(p, p->unwritten);
    p->sd->staged_bytes -= p->end.lsn - p->flushed.lsn;
    plog_hold_release(p);
    plog_unlink(p);
    list_add_tail(&p->set->ready_detached, &p->all_link);
}

static void close_done(struct plog_job *k)
{
    struct plog *p = k->p;
    if (k->j.rc < 0) {
        LOG_ERROR("%s: cannot be closed cleanly: %s", p->dir, err_text(k->j.rc));
        if (p->set->close_rc == 0)
            p->set->close_rc = k->j.rc;
    }
    p->state = PL_CLOSED;
    plog_hold_release(p);
    plog_publish(p);
}

static void job_done(struct dirjob *j)
{
    struct plog_job *k = container_of(j, struct plog_job, j);
    struct plog *p = k->p;
    p->jobs--;
    if (k->s != NULL)
        k->s->job = false;
    switch (k->kind) {
    case JOB_OPEN:
        open_done(k);
        break;
    case JOB_PREPARE:
        if (j->rc == 0)
            p->spare = k->file;
        else if (k->file != NULL)
            p->set->io->ops->close(k->file);
        if (j->rc < 0)
            p->spare_asked = false;
        break;
    case JOB_SEAL:
        seal_done(k);
        break;
    case JOB_IDLE:
        idle_done(k);
        break;
    case JOB_DROP:
        if (j->rc < 0)
            LOG_WARN("%s: segment %lld cannot be removed: %s", p->dir, (long long)k->s->base,
                     err_text(j->rc));
        if (k->s->for_space)
            plog_gap_add(p, &(struct plog_gap){.from_offset = k->s->base,
                                               .to_offset = k->limit,
                                               .bytes = k->s->len,
                                               .segments = 1,
                                               .from_ms = k->first_ts,
                                               .to_ms = k->s->ix.max_ts});
        plog_seg_free(k->s);
        if (p->set->conf.storage_min_free_bytes > 0)
            job_submit_space(p->sd, false); /* who waits for room need not wait for the tick */
        break;
    case JOB_EPOCHS:
        p->epochs_job = false;
        if (j->rc < 0)
            LOG_WARN("%s: leader epoch checkpoint: %s", p->dir, err_text(j->rc));
        p->epochs_changed = p->epochs_changed || j->rc < 0; /* the tick tries again */
        break;
    case JOB_FENCE:
        fence_done(k);
        break;
    case JOB_CLOSE:
        close_done(k);
        break;
    case JOB_DETACH:
        job_free(k);
        detach_done(p);
        return;
    }
    job_free(k);
    plog_settle(p);
    plog_pump(p);
}

/* ------------------------------------------------------------------------------------- submitting
 */

static bool epochs_text(struct plog_job *k)
{
    k->p->epochs_changed = false;
    return epochs_encode(&k->p->part->epochs, &k->text, &k->text_len) == 0;
}

static bool fence_prepare(struct plog_job *k)
{
    struct plog *p = k->p;
    if (p->fence_job)
        return false;
    k->limit = p->flushed.offset;
    k->log_start = p->log_start;
    k->bad_use = p->bad_use;
    recover_opts_default(&k->ro);
    k->ro.index_interval_bytes = p->conf.index_interval_bytes;
    k->ro.index_bytes_max = p->conf.index_bytes_max;
    k->ro.segment_bytes = p->conf.segment_bytes;
    k->ro.spare_derived = true;
    k->bytes_len = p->durable.lsn - p->flushed.lsn;
    if (k->bytes_len > 0) {
        k->bytes = malloc(k->bytes_len);
        if (k->bytes == NULL)
            return false;
        plog_bytes_copy(p, p->flushed.lsn, k->bytes, k->bytes_len);
    }
    p->fence_job = true;
    return true;
}

static void open_prepare(struct plog_job *k)
{
    struct plog *p = k->p;
    struct seg *s = k->s;
    k->file = s->file;
    k->need_name = !s->is_named;
    k->is_placed = s->is_placed;
    k->need_index = !s->has_index;
    seg_index_init(&k->ix, s->base, 0);
    k->ix.off_max = s->ix.off_max;
    k->ix.ts_max = s->ix.ts_max;
    k->ix.max_ts = s->ix.max_ts;
    k->ix.max_ts_offset = s->ix.max_ts_offset;
    /* The tail block is needed by the first chunk that begins inside a block. */
    k->len = s->written;
    k->need_tail = p->wchunk != NULL && p->wchunk->seg == s && !p->wchunk->has_prefix;
}

/* The index leaves memory with the file: entries added meanwhile are merged when it is read again.
 */
static void idle_prepare(struct plog_job *k)
{
    struct seg *s = k->s;
    k->file = s->file;
    s->file = NULL;
    if (s == plog_active(k->p)) { /* the next append reads it again */
        free(k->p->tail);
        k->p->tail = NULL;
    }
    k->cut = s->reserved > 0;
    k->len = s->len;
    seg_reserve_end(s);
    k->need_index = s->index_changed && !s->is_sealed;
    k->got_index = s->has_index;
    k->ix = s->ix;
    seg_index_init(&s->ix, k->ix.base, 0);
    s->ix.off_max = k->ix.off_max;
    s->ix.ts_max = k->ix.ts_max;
    s->ix.max_ts = k->ix.max_ts;
    s->ix.max_ts_offset = k->ix.max_ts_offset;
    s->ix.bytes_since = k->ix.bytes_since;
    s->has_index = false;
    s->index_changed = false;
}

static int64_t next_base(const struct plog *p, const struct seg *s)
{
    for (uint32_t i = 0; i + 1 < p->seg_cnt; i++)
        if (p->segs[i] == s)
            return p->segs[i + 1]->base;
    return p->end.offset;
}

static bool job_prepare(struct plog_job *k)
{
    switch (k->kind) {
    case JOB_OPEN:
        k->j.run = open_run;
        open_prepare(k);
        return true;
    case JOB_PREPARE:
        k->j.run = prepare_run;
        return true;
    case JOB_SEAL:
        k->j.run = seal_run;
        k->limit = next_base(k->p, k->s);
        return true;
    case JOB_IDLE:
        k->j.run = idle_run;
        idle_prepare(k);
        return true;
    case JOB_DROP:
        k->j.run = drop_run;
        k->limit = next_base(k->p, k->s);
        return true;
    case JOB_EPOCHS:
        k->j.run = epochs_run;
        return epochs_text(k);
    case JOB_FENCE:
        k->j.run = fence_run;
        return fence_prepare(k);
    case JOB_CLOSE:
        k->j.run = close_run;
        k->cut = k->p->end.lsn > 0 || k->p->part->producers.cnt > 0 || !k->p->part->was_clean;
        return !k->p->epochs_changed || epochs_text(k);
    case JOB_DETACH:
        k->j.run = detach_run;
        return true;
    }
    return false;
}

/* Nobody's read or write waits for these, and they may take long. Two jobs of a partition may
 * thus run side by side, but never two about the same segment, nor one beside a job that takes
 * the whole partition. */
static bool job_is_slow(enum job_kind kind)
{
    switch (kind) {
    case JOB_OPEN:
    case JOB_PREPARE:
    case JOB_EPOCHS:
    case JOB_DETACH:
        return false;
    case JOB_SEAL:
    case JOB_IDLE:
    case JOB_DROP:
    case JOB_FENCE:
    case JOB_CLOSE:
        return true;
    }
    return false;
}

bool job_submit(struct plog *p, enum job_kind kind, struct seg *s)
{
    struct plog_job *k = p->set->ending ? NULL : calloc(1, sizeof(*k));
    if (k == NULL)
        return false;
    k->kind = kind;
    k->p = p;
    k->s = s;
    k->io = p->set->io;
    strcpy(k->dir, p->dir); /* one of path_join */
    k->j.done = job_done;
    if (!job_prepare(k)) {
        job_free(k);
        return false;
    }
    if (s != NULL)
        s->job = true;
    p->jobs++;
    dirwork_submit(job_is_slow(kind) ? p->set->slow_work : p->set->dirwork, &k->j);
    return true;
}

static void dir_run(struct dirjob *j)
{
    struct dir_job *k = container_of(j, struct dir_job, j);
    struct data_dir *d = k->sd->d;
    j->rc = k->what == DIR_SYNC         ? d->io->ops->sync_all(d->io, d->path)
            : k->what == DIR_CHECKPOINT ? catalog_checkpoint(d)
                                        : space_check(d, &k->space);
}

static void dir_done(struct dirjob *j)
{
    struct dir_job *k = container_of(j, struct dir_job, j);
    struct set_dir *sd = k->sd;
    struct space *s = &sd->d->space;
    static const char *const name[] = {
        [DIR_SPACE] = "free space", [DIR_CHECKPOINT] = "checkpoint", [DIR_SYNC] = "flush"};
    if (k->what == DIR_CHECKPOINT)
        sd->checkpoint_job = false;
    else if (k->what == DIR_SPACE)
        sd->space_job = false;
    else if (j->rc < 0 && sd->set->close_rc == 0)
        sd->set->close_rc = j->rc;
    if (j->rc < 0)
        LOG_WARN("%s: %s: %s", sd->d->path, name[k->what], err_text(j->rc));
    else if (j->rc == 1 && atomic_load(&s->read_only))
        LOG_ERROR("%s: only %llu bytes free and no segment left that may go: the log is read-only "
                  "until there are %llu",
                  sd->d->path, (unsigned long long)atomic_load(&s->free_bytes),
                  (unsigned long long)k->space.min_free_bytes);
    else if (j->rc == 1)
        LOG_INFO("%s: there is room again: the log is writable", sd->d->path);
    free(k);
    if (sd->space_again && !sd->space_job)
        job_submit_space(sd, false);
}

static bool dir_submit(struct set_dir *sd, struct dir_job what)
{
    struct dir_job *k = sd->set->ending ? NULL : malloc(sizeof(*k));
    if (k == NULL)
        return false; /* the next tick asks again */
    *k = what;
    k->j = (struct dirjob){.run = dir_run, .done = dir_done};
    k->sd = sd;
    dirwork_submit(k->what == DIR_SPACE ? sd->set->dirwork : sd->set->slow_work, &k->j);
    return true;
}

void job_submit_checkpoint(struct set_dir *sd)
{
    sd->checkpoint_job = dir_submit(sd, (struct dir_job){.what = DIR_CHECKPOINT});
}

bool job_submit_sync(struct set_dir *sd)
{
    return dir_submit(sd, (struct dir_job){.what = DIR_SYNC});
}

void job_submit_space(struct set_dir *sd, bool is_tick)
{
    /* Without a limit of its own, a disk that said ENOSPC is tried again when a little is free. */
    uint64_t min_free = sd->set->conf.storage_min_free_bytes;
    struct space_check c = {
        .min_free_bytes = min_free, .make_room = min_free > 0, .is_tick = is_tick};
    if (min_free == 0 && atomic_load(&sd->d->space.read_only))
        c.min_free_bytes = 16u << 20;
    sd->space_again = sd->space_job;
    if (!sd->space_job)
        sd->space_job = dir_submit(sd, (struct dir_job){.space = c});
}
