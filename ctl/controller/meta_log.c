/* meta_log.c - see meta_log.h, and meta_dir.h for the files. Segments hold RecordBatch v2 back to
 * back, uncompressed; partition.metadata has the topic id AAAAAAAAAAAAAAAAAAAAAQ, Kafka's fixed
 * one. Invariant: [0, pos) of the last segment holds whole batches with dense offsets base ..
 * next_offset - 1. */
#include "ctl/controller/meta_log.h"
#include "ctl/controller/meta_dir.h"
#include "lib/base/text_file.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include "lib/wire/wire_gen.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTROL_ARENA_MAX (1u << 20)
enum { /* Kafka's ControlRecordType */
       CONTROL_LEADER_CHANGE = 2,
       CONTROL_SNAPSHOT_FOOTER = 4,
       CONTROL_KRAFT_VOTERS = 6,
};
#define RECORD_OVERHEAD 32 /* more than the varints around one value */

struct meta_log {
    int fd; /* of the last segment */
    bool failed, leads;
    uint64_t pos;        /* end of the last whole batch in it */
    int64_t next_offset; /* offset of the next record */
    int32_t epoch;       /* highest leader epoch seen; once `leads`, that of what is appended */
    struct meta_log_writer writer;
    struct codec_ctx *codecs;
    struct meta_log_opts opts;
    char dir[PATH_MAX - 64], path[PATH_MAX];
};

/* What a replay hands on, and to whom. */
struct replay {
    meta_batch_fn *fn;
    void *arg;
    int64_t from; /* the first offset that no snapshot has told */
    char *err;
    size_t err_cap;
};
__attribute__((format(printf, 3, 4))) static int refuse(const struct replay *r, int rc,
                                                        const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->err, r->err_cap, format, ap);
    va_end(ap);
    return rc;
}

/* ---- reading ---- */

static int read_full(int fd, uint8_t *buf, size_t len, uint64_t pos)
{
    while (len > 0) {
        ssize_t n = pread(fd, buf, len, (off_t)pos);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO; /* the file shrank under us */
        buf += n;
        len -= (size_t)n;
        pos += (uint64_t)n;
    }
    return 0;
}
/* Records of one or more batches. */
struct frames {
    struct span *v;
    uint32_t cnt, cap;
};
static int frames_add(struct frames *f, struct span frame)
{
    if (f->cnt == f->cap) {
        uint32_t cap = f->cap == 0 ? 64 : f->cap * 2;
        struct span *v = realloc(f->v, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        f->v = v;
        f->cap = cap;
    }
    f->v[f->cnt++] = frame;
    return 0;
}
/* LeaderChange says who has written what follows, and who votes. */
static int leader_note(struct meta_log *log, struct span value)
{
    struct wire_reader r;
    struct arena a;
    struct leader_change_message m;
    if (value.len < 2)
        return -E_INVALID_RECORD;
    int16_t version = (int16_t)load_be16(value.p);
    if (version < LEADER_CHANGE_MESSAGE_MIN || version > LEADER_CHANGE_MESSAGE_MAX)
        return -E_UNSUPPORTED_VERSION;
    wire_reader_init(&r, value);
    arena_init(&a, CONTROL_ARENA_MAX);
    int rc = leader_change_message_read(&r, version, &a, &m);
    if (rc == 0)
        log->writer = (struct meta_log_writer){.leader_id = m.leader_id, .voter_cnt = m.voters.cnt};
    arena_fini(&a);
    return rc;
}
/* Where the quorum may change (kraft.version 1), KRaftVoters says who votes from here on. */
static int voters_note(struct meta_log *log, struct span value)
{
    struct wire_reader r;
    struct arena a;
    struct voters_record m;
    if (value.len < 2)
        return -E_INVALID_RECORD;
    int16_t version = (int16_t)load_be16(value.p);
    if (version < VOTERS_RECORD_MIN || version > VOTERS_RECORD_MAX)
        return -E_UNSUPPORTED_VERSION;
    wire_reader_init(&r, value);
    arena_init(&a, CONTROL_ARENA_MAX);
    int rc = voters_record_read(&r, version, &a, &m);
    if (rc == 0)
        log->writer.voter_cnt = m.voters.cnt;
    arena_fini(&a);
    return rc;
}
/* The type of a control record, -1: it has none. */
static int control_type(const struct record_view *rec)
{
    return rec->key.p == NULL || rec->key.len < 4 ? -1 : load_be16(rec->key.p + 2);
}
/* Adds the records of a verified batch. Control records carry no frames; *ret_control (may be NULL)
 * is the type of the last one. */
static int batch_read(struct meta_log *log, struct span batch, struct frames *to, int *ret_control)
{
    struct record_iter it;
    struct record_view rec;
    int rc = record_iter_init(&it, log->codecs, batch, NULL, 0);
    bool control = (it.info.attributes & BATCH_ATTR_CONTROL) != 0;
    while (rc >= 0 && (rc = record_iter_next(&it, &rec)) == 1) {
        if (span_is_null(rec.value))
            return -E_INVALID_RECORD;
        if (!control)
            rc = frames_add(to, rec.value);
        else if (control_type(&rec) == CONTROL_LEADER_CHANGE)
            rc = leader_note(log, rec.value);
        else if (control_type(&rec) == CONTROL_KRAFT_VOTERS)
            rc = voters_note(log, rec.value);
        if (control && ret_control != NULL)
            *ret_control = control_type(&rec);
        if (rc < 0)
            return rc;
    }
    return rc;
}
static int batch_deliver(struct meta_log *log, struct span batch, const struct batch_info *info,
                         const struct replay *r)
{
    struct frames f = {0};
    int rc = batch_read(log, batch, &f, NULL);
    if (rc == 0 && f.cnt > 0)
        rc = r->fn(r->arg, f.v, f.cnt, info->base_offset + info->last_offset_delta);
    free(f.v);
    /* What its checksum vouches for is not a torn append, whatever it holds: never to be cut. */
    if (rc == -E_TRUNCATED || rc == -E_CORRUPT_BATCH)
        rc = -E_INVALID_RECORD;
    return rc < 0 ? rc : 0;
}
/* Walks [0, len) of a segment. Below r->from only control batches are read: what a snapshot tells
 * of the quorum may be nothing. log->pos is where it stopped: len, or the first byte that does not
 * start a whole, expected batch (then rc is -E_TRUNCATED or -E_CORRUPT_BATCH). */
static int walk(struct meta_log *log, const uint8_t *bytes, size_t len, const struct replay *r)
{
    log->pos = 0;
    while (log->pos < len) {
        const uint8_t *p = bytes + log->pos;
        struct batch_info info;
        int rc = batch_verify(p, len - log->pos, &info);
        if (rc == 0 && (info.base_offset != log->next_offset || info.last_offset_delta < 0 ||
                        info.record_cnt != info.last_offset_delta + 1))
            rc = -E_CORRUPT_BATCH;
        if (rc == 0 && (info.base_offset + info.last_offset_delta >= r->from ||
                        (info.attributes & BATCH_ATTR_CONTROL) != 0))
            rc = batch_deliver(log, span_of(p, info.total_len), &info, r);
        if (rc < 0)
            return rc;
        if (info.leader_epoch > log->epoch)
            log->epoch = info.leader_epoch;
        log->next_offset += info.last_offset_delta + 1;
        log->pos += info.total_len;
    }
    return 0;
}
/* Is there a whole batch anywhere in bytes[1..len)? Then the damage at 0 is not a torn append. */
static bool batch_behind(const uint8_t *bytes, size_t len, int64_t min_offset)
{
    for (size_t at = 1; at + BATCH_HEADER_LEN <= len; at++) {
        struct batch_info info;
        if (bytes[at + BATCH_MAGIC] != 2)
            continue;
        if (batch_verify(bytes + at, len - at, &info) == 0 && info.base_offset > min_offset)
            return true;
    }
    return false;
}
static int file_load(int fd, uint8_t **ret_bytes, size_t *ret_len)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size > INT32_MAX)
        return -EFBIG;
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    if (bytes == NULL)
        return -ENOMEM;
    int rc = read_full(fd, bytes, (size_t)st.st_size, 0);
    if (rc < 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = bytes;
    *ret_len = (size_t)st.st_size;
    return 0;
}

/* ---- opening ---- */

static int topic_id_write(const char *dir)
{
    static const char text[] = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ";
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/partition.metadata", dir);
    return access(path, F_OK) == 0 ? 0 : text_file_replace(path, text, sizeof(text) - 1);
}
static int tail_cut(struct meta_log *log, const uint8_t *bytes, size_t len, uint64_t pos, char *err,
                    size_t err_cap)
{
    if (batch_behind(bytes + pos, len - pos, log->next_offset)) {
        snprintf(err, err_cap,
                 "%s is damaged at byte %" PRIu64 " (offset %" PRId64
                 ") and whole batches follow: no record was changed; restore it from a copy",
                 log->path, pos, log->next_offset);
        return -E_CORRUPT_BATCH;
    }
    LOG_WARN("%s: cut %zu bytes of a torn last append at byte %" PRIu64 "; nothing acknowledged "
             "was in it",
             log->path, len - (size_t)pos, pos);
    if (ftruncate(log->fd, (off_t)pos) < 0 || fsync(log->fd) < 0)
        return -errno;
    return 0;
}
/* The last segment stays open. */
static int segment_replay(struct meta_log *log, int64_t base, bool is_last, const struct replay *r)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    snprintf(log->path, sizeof(log->path), "%s/%020" PRId64 ".log", log->dir, base);
    if (log->fd >= 0)
        close(log->fd);
    log->fd = open(log->path, (is_last ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0640);
    int rc = log->fd < 0 ? -errno : file_load(log->fd, &bytes, &len);
    if (rc < 0)
        return rc;
    rc = walk(log, bytes, len, r);
    bool torn = rc == -E_TRUNCATED || rc == -E_CORRUPT_BATCH;
    if (torn && is_last)
        rc = tail_cut(log, bytes, len, log->pos, r->err, r->err_cap);
    else if (rc < 0)
        rc = refuse(r, rc, "%s: record batch at byte %" PRIu64 " (offset %" PRId64 "): %s",
                    log->path, log->pos, log->next_offset, err_text(rc));
    free(bytes);
    return rc;
}
/* Every record of a snapshot, when all of it is there: header first, footer last. */
static int snapshot_read(struct meta_log *log, const uint8_t *bytes, size_t len, struct frames *to)
{
    int control = -1, rc = 0;
    for (size_t pos = 0; pos < len && rc == 0;) {
        struct batch_info info;
        bool first = pos == 0;
        rc = batch_verify(bytes + pos, len - pos, &info);
        if (rc < 0)
            break;
        control = -1;
        rc = batch_read(log, span_of(bytes + pos, info.total_len), to, &control);
        if (first && (info.attributes & BATCH_ATTR_CONTROL) == 0)
            rc = -E_CORRUPT_BATCH;
        pos += info.total_len;
    }
    if (rc == 0 && control != CONTROL_SNAPSHOT_FOOTER)
        rc = -E_TRUNCATED;
    return rc;
}
/* The newest snapshot that is whole, to r->fn at once: a snapshot is one state, and its records are
 * in no order that could be applied batch by batch. r->from: what follows it. */
static int snapshot_replay(struct meta_log *log, const struct meta_dir *d, struct replay *r)
{
    for (uint32_t i = d->snapshot_cnt; i-- > 0;) {
        const struct meta_snapshot *s = &d->snapshots[i];
        char path[PATH_MAX];
        uint8_t *bytes = NULL;
        size_t len = 0;
        struct frames f = {0};
        snprintf(path, sizeof(path), "%s/%020" PRId64 "-%010" PRId32 ".checkpoint", log->dir,
                 s->end_offset, s->epoch);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        int rc = fd < 0 ? -errno : file_load(fd, &bytes, &len);
        if (fd >= 0)
            close(fd);
        struct meta_log_writer before = log->writer;
        bool is_whole = rc == 0 && (rc = snapshot_read(log, bytes, len, &f)) == 0;
        if (is_whole && f.cnt > 0) {
            rc = r->fn(r->arg, f.v, f.cnt, s->end_offset - 1);
            if (rc < 0)
                rc = refuse(r, rc, "%s: %s", path, err_text(rc));
        }
        free(f.v);
        free(bytes);
        if (is_whole) {
            r->from = s->end_offset;
            if (s->epoch > log->epoch)
                log->epoch = s->epoch;
            return rc;
        }
        if (rc == -ENOMEM)
            return rc;
        log->writer = before;
        LOG_WARN("%s: %s; an older snapshot, or the whole log, is read instead", path,
                 err_text(rc));
    }
    return 0;
}
/* A segment that the snapshot stands for, for its control records. Nothing of it is needed: damage
 * is no reason to refuse. */
static void segment_skim(struct meta_log *log, int64_t base, const struct replay *r)
{
    struct replay past = *r;
    past.from = INT64_MAX;
    log->next_offset = base;
    int rc = segment_replay(log, base, false, &past);
    if (rc < 0)
        LOG_WARN("%s: %s; a snapshot stands for it", log->path, err_text(rc));
    r->err[0] = '\0';
}
static int segments_replay(struct meta_log *log, const struct meta_dir *d, const struct replay *r)
{
    int64_t first = r->from;
    const int64_t *base = d->segment_cnt > 0 ? d->segments : &first;
    uint32_t cnt = d->segment_cnt > 0 ? d->segment_cnt : 1, i = 0;
    if (base[0] > r->from)
        return refuse(r, -E_CORRUPT_BATCH,
                      "%s begins at offset %" PRId64 ", and no snapshot says what came before: "
                      "no record was changed; restore it from a copy",
                      log->dir, base[0]);
    for (; i + 1 < cnt && base[i + 1] <= r->from; i++) /* told by the snapshot, all of it */
        segment_skim(log, base[i], r);
    log->next_offset = base[i];
    for (int rc = 0; i < cnt; i++) {
        if (base[i] != log->next_offset)
            return refuse(r, -E_CORRUPT_BATCH,
                          "%s: a segment is missing between offset %" PRId64 " and %" PRId64
                          ": no record was changed; restore it from a copy",
                          log->dir, log->next_offset, base[i]);
        rc = segment_replay(log, base[i], i + 1 == cnt, r);
        if (rc < 0)
            return rc;
    }
    if (log->next_offset < r->from)
        return refuse(r, -E_CORRUPT_BATCH,
                      "%s ends at offset %" PRId64 ", before the end of its snapshot, %" PRId64
                      ": no record was changed; restore it from a copy",
                      log->dir, log->next_offset, r->from);
    return 0;
}
static int replay(struct meta_log *log, struct replay *r)
{
    struct meta_dir d;
    struct meta_quorum q;
    int rc = meta_quorum_read(log->dir, &q);
    if (rc < 0 && rc != -ENOENT)
        LOG_WARN("%s/quorum-state: %s; the epochs of the log decide", log->dir, err_text(rc));
    log->epoch = q.epoch;
    rc = meta_dir_scan(log->dir, &d);
    if (rc == 0)
        rc = snapshot_replay(log, &d, r);
    if (rc == 0)
        rc = segments_replay(log, &d, r);
    if (q.leader_id >= 0) /* may be of a later epoch than what was written */
        log->writer.leader_id = q.leader_id;
    if (q.voter_cnt > log->writer.voter_cnt)
        log->writer.voter_cnt = q.voter_cnt;
    meta_dir_fini(&d);
    return rc;
}
int meta_log_open(const struct meta_log_opts *opts, meta_batch_fn *fn, void *arg,
                  struct meta_log **ret_log, char *err, size_t err_cap)
{
    struct replay r = {.fn = fn, .arg = arg, .err = err, .err_cap = err_cap};
    err[0] = '\0';
    struct meta_log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return -ENOMEM;
    log->fd = -1;
    log->opts = *opts;
    log->writer = (struct meta_log_writer){.leader_id = -1};
    int n = snprintf(log->dir, sizeof(log->dir), "%s", opts->dir);
    int rc = n < 0 || (size_t)n >= sizeof(log->dir) ? -ENAMETOOLONG : text_file_mkdirs(opts->dir);
    if (rc == 0)
        rc = topic_id_write(opts->dir);
    if (rc == 0)
        rc = codec_ctx_create(&log->codecs);
    if (rc == 0)
        rc = replay(log, &r);
    if (rc == 0)
        rc = text_file_sync_dir(opts->dir);
    if (rc < 0)
        goto undo;
    *ret_log = log;
    return 0;
undo:
    if (err[0] == '\0')
        snprintf(err, err_cap, "%s: %s", log->path[0] != '\0' ? log->path : opts->dir,
                 err_text(rc));
    meta_log_close(log);
    return rc;
}
void meta_log_close(struct meta_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    codec_ctx_destroy(log->codecs);
    free(log);
}

/* ---- appending ---- */

static int batch_make(struct meta_log *log, const struct span *records, uint32_t cnt,
                      int64_t timestamp_ms, uint8_t **ret_buf, struct span *ret_batch)
{
    size_t bytes = BATCH_HEADER_LEN;
    for (uint32_t i = 0; i < cnt; i++)
        bytes += records[i].len + RECORD_OVERHEAD;
    if (bytes > META_BATCH_MAX)
        return -E_LIMIT;
    uint8_t *buf = malloc(bytes);
    if (buf == NULL)
        return -ENOMEM;
    struct batch_builder b;
    batch_builder_init(&b, buf, (uint32_t)bytes);
    int rc = 0;
    for (uint32_t i = 0; i < cnt && rc == 0; i++) {
        struct rec r = {.value = records[i], .timestamp_ms = timestamp_ms};
        rc = batch_builder_add(&b, &r);
    }
    struct seal_opts o = {
        .codec = CODEC_NONE, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    if (rc == 0)
        rc = batch_seal(&b, log->codecs, &o, NULL, 0, ret_batch);
    if (rc < 0) {
        free(buf);
        return rc;
    }
    /* Uncompressed batches are sealed in place; base offset and leader epoch lie outside the CRC.
     */
    ASSERT(ret_batch->p == buf);
    store_be64(buf + BATCH_BASE_OFFSET, (uint64_t)log->next_offset);
    store_be32(buf + BATCH_LEADER_EPOCH, (uint32_t)log->epoch);
    *ret_buf = buf;
    return 0;
}
static int write_full(int fd, const uint8_t *p, size_t len, uint64_t pos)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)pos);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
        pos += (uint64_t)n;
    }
    return 0;
}
/* What Kafka's indexes of the segment say ends where we go on; after a crash they end in megabytes
 * of zeros. Kafka makes them anew. */
static void indexes_remove(const struct meta_log *log)
{
    static const char *const suffixes[] = {".index", ".timeindex"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        int n = snprintf(path, sizeof(path), "%.*s%s", (int)(strlen(log->path) - strlen(".log")),
                         log->path, suffixes[i]);
        if (n > 0 && (size_t)n < sizeof(path))
            (void)unlink(path); /* usually absent; a stale one is no damage */
    }
}
/* Before the first append: the next leader epoch is this process's, as a controller's is that takes
 * over. Kafka refuses a log whose epochs run backwards. */
static int lead(struct meta_log *log)
{
    if (log->epoch == INT32_MAX)
        return -E_LIMIT;
    struct meta_lead l = {.node_id = log->opts.node_id,
                          .epoch = log->epoch + 1,
                          .start = log->next_offset,
                          .directory = log->opts.directory};
    int rc = meta_lead_write(log->dir, &l);
    if (rc < 0)
        return rc;
    log->epoch++;
    log->leads = true;
    indexes_remove(log);
    return 0;
}
int meta_log_append(struct meta_log *log, const struct span *records, uint32_t cnt,
                    int64_t timestamp_ms, int64_t *ret_last_offset)
{
    uint8_t *buf;
    struct span batch;
    struct batch_info info;
    ASSERT(cnt > 0);
    if (log->failed)
        return -E_STORAGE;
    int rc = log->leads ? 0 : lead(log);
    if (rc == 0)
        rc = batch_make(log, records, cnt, timestamp_ms, &buf, &batch);
    if (rc < 0)
        return rc;
    rc = batch_verify(batch.p, batch.len, &info); /* what we could not read back is not written */
    ASSERT(rc == 0);
    if (log->pos + batch.len > INT32_MAX) {
        free(buf);
        return -EFBIG;
    }
    rc = write_full(log->fd, batch.p, batch.len, log->pos);
    if (rc < 0) {
        /* Not flushed and not acknowledged: taking the bytes away again is safe. */
        LOG_ERROR("%s: write failed: %s", log->path, err_text(rc));
        if (ftruncate(log->fd, (off_t)log->pos) < 0)
            log->failed = true;
    } else if (fdatasync(log->fd) < 0) {
        rc = -errno;
        log->failed = true;
        LOG_ERROR("%s: flush failed: %s; metadata cannot change until sluiced is restarted",
                  log->path, err_text(rc));
    } else {
        log->pos += batch.len;
        log->next_offset += cnt;
        *ret_last_offset = log->next_offset - 1;
    }
    free(buf);
    return rc;
}
int64_t meta_log_next_offset(const struct meta_log *log)
{
    return log->next_offset;
}
uint64_t meta_log_size(const struct meta_log *log)
{
    return log->pos;
}
struct meta_log_writer meta_log_writer(const struct meta_log *log)
{
    return log->writer;
}
