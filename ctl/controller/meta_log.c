/* meta_log.c - see meta_log.h. The files:
 *     00000000000000000000.log   RecordBatch v2 back to back, uncompressed, leader epoch 1
 *     leader-epoch-checkpoint    "0\n1\n1 0\n"
 *     partition.metadata         topic id AAAAAAAAAAAAAAAAAAAAAQ, Kafka's fixed one
 *     quorum-state               this node is the one voter and leads epoch 1
 * Invariant: [0, pos) holds whole batches with dense offsets 0 .. next_offset - 1. */
#include "ctl/controller/meta_log.h"
#include "lib/base/text_file.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_NAME "00000000000000000000.log"
#define RECORD_OVERHEAD 32 /* more than the varints around one value */

struct meta_log {
    int fd;
    bool failed;
    uint64_t pos;        /* end of the last whole batch */
    int64_t next_offset; /* offset of the next record */
    struct codec_ctx *codecs;
    char path[PATH_MAX];
};

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
/* The records of a verified batch to `fn`. Control batches (none of ours) carry no frames. */
static int batch_deliver(struct meta_log *log, struct span batch, const struct batch_info *info,
                         meta_batch_fn *fn, void *arg)
{
    if (info->attributes & BATCH_ATTR_CONTROL)
        return 0;
    struct span *spans = malloc(sizeof(*spans) * (size_t)(info->record_cnt + 1));
    if (spans == NULL)
        return -ENOMEM;
    struct record_iter it;
    struct record_view rec;
    uint32_t cnt = 0;
    int rc = record_iter_init(&it, log->codecs, batch, NULL, 0);
    while (rc >= 0 && (rc = record_iter_next(&it, &rec)) == 1) {
        if (cnt == (uint32_t)info->record_cnt || span_is_null(rec.value)) {
            rc = -E_INVALID_RECORD;
            break;
        }
        spans[cnt++] = rec.value;
    }
    if (rc == 0 && cnt > 0)
        rc = fn(arg, spans, cnt, info->base_offset + info->last_offset_delta);
    free(spans);
    return rc < 0 ? rc : 0;
}
/* Walks [0, len) of `bytes`; *ret_pos is where it stopped: len, or the first byte that does not
 * start a whole, expected batch (then rc is -E_TRUNCATED or -E_CORRUPT_BATCH). */
static int walk(struct meta_log *log, const uint8_t *bytes, size_t len, int64_t from,
                meta_batch_fn *fn, void *arg, uint64_t *ret_pos, int64_t *ret_next)
{
    uint64_t pos = 0;
    int64_t next = 0;
    int rc = 0;
    while (pos < len && rc == 0) {
        struct batch_info info;
        rc = batch_verify(bytes + pos, len - pos, &info);
        if (rc == 0 && (info.base_offset != next || info.last_offset_delta < 0 ||
                        info.record_cnt != info.last_offset_delta + 1))
            rc = -E_CORRUPT_BATCH;
        if (rc < 0)
            break;
        if (info.base_offset + info.last_offset_delta >= from) {
            rc = batch_deliver(log, span_of(bytes + pos, info.total_len), &info, fn, arg);
            if (rc < 0) {
                *ret_pos = pos;
                *ret_next = next;
                return rc;
            }
        }
        next += info.last_offset_delta + 1;
        pos += info.total_len;
    }
    *ret_pos = pos;
    *ret_next = next;
    return rc;
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

static int side_files(const struct meta_log_opts *o)
{
    char path[PATH_MAX], text[256], dir_id[UUID_TEXT_LEN + 1];
    uuid_format(&o->directory, dir_id);
    const struct {
        const char *name, *format;
    } files[] = {
        {"partition.metadata", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"},
        {"leader-epoch-checkpoint", "0\n1\n1 0\n"},
        {"quorum-state", NULL},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", o->dir, files[i].name);
        if (access(path, F_OK) == 0)
            continue;
        if (files[i].format != NULL)
            snprintf(text, sizeof(text), "%s", files[i].format);
        else
            snprintf(
                text, sizeof(text),
                "{\"leaderId\":%d,\"leaderEpoch\":%d,\"votedId\":%d,\"votedDirectoryId\":\"%s\","
                "\"data_version\":1}",
                o->node_id, META_LEADER_EPOCH, o->node_id, dir_id);
        int rc = text_file_replace(path, text, strlen(text));
        if (rc < 0)
            return rc;
    }
    return 0;
}
static int tail_cut(struct meta_log *log, const uint8_t *bytes, size_t len, uint64_t pos, char *err,
                    size_t err_cap)
{
    if (batch_behind(bytes + pos, len - pos, log->next_offset)) {
        snprintf(err, err_cap,
                 "%s is damaged at byte %" PRIu64 " (offset %" PRId64
                 ") and whole batches follow: nothing was changed; restore it from a copy",
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
static int replay(struct meta_log *log, meta_batch_fn *fn, void *arg, char *err, size_t err_cap)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    int rc = file_load(log->fd, &bytes, &len);
    if (rc < 0)
        return rc;
    uint64_t pos = 0;
    rc = walk(log, bytes, len, 0, fn, arg, &pos, &log->next_offset);
    log->pos = pos;
    bool torn = rc == -E_TRUNCATED || rc == -E_CORRUPT_BATCH;
    if (torn)
        rc = tail_cut(log, bytes, len, pos, err, err_cap);
    else if (rc < 0)
        snprintf(err, err_cap, "%s: record batch at byte %" PRIu64 " (offset %" PRId64 "): %s",
                 log->path, pos, log->next_offset, err_text(rc));
    free(bytes);
    return rc;
}
int meta_log_open(const struct meta_log_opts *opts, meta_batch_fn *fn, void *arg,
                  struct meta_log **ret_log, char *err, size_t err_cap)
{
    err[0] = '\0';
    struct meta_log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return -ENOMEM;
    log->fd = -1;
    snprintf(log->path, sizeof(log->path), "%s/" SEGMENT_NAME, opts->dir);
    int rc = text_file_mkdirs(opts->dir);
    if (rc == 0)
        rc = side_files(opts);
    if (rc == 0)
        rc = codec_ctx_create(&log->codecs);
    if (rc < 0)
        goto undo;
    log->fd = open(log->path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (log->fd < 0) {
        rc = -errno;
        goto undo;
    }
    rc = text_file_sync_dir(opts->dir);
    if (rc == 0)
        rc = replay(log, fn, arg, err, err_cap);
    if (rc < 0)
        goto undo;
    *ret_log = log;
    return 0;
undo:
    if (err[0] == '\0')
        snprintf(err, err_cap, "%s: %s", log->path, err_text(rc));
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
    store_be32(buf + BATCH_LEADER_EPOCH, META_LEADER_EPOCH);
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
int meta_log_append(struct meta_log *log, const struct span *records, uint32_t cnt,
                    int64_t timestamp_ms, int64_t *ret_last_offset)
{
    uint8_t *buf;
    struct span batch;
    struct batch_info info;
    ASSERT(cnt > 0);
    if (log->failed)
        return -E_STORAGE;
    int rc = batch_make(log, records, cnt, timestamp_ms, &buf, &batch);
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
int meta_log_read(struct meta_log *log, int64_t from, meta_batch_fn *fn, void *arg)
{
    uint8_t *bytes = malloc((size_t)log->pos + 1);
    if (bytes == NULL)
        return -ENOMEM;
    uint64_t pos;
    int64_t next;
    int rc = read_full(log->fd, bytes, (size_t)log->pos, 0);
    if (rc == 0)
        rc = walk(log, bytes, (size_t)log->pos, from, fn, arg, &pos, &next);
    free(bytes);
    return rc;
}
