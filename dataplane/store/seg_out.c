/* seg_out.c - see seg_out.h. */
#include "dataplane/store/seg_out.h"
#include "dataplane/store/store_file.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

#define OUT_BUF (1u << 20) /* whole blocks */

static const char *const sfx[] = {SFX_LOG, SFX_INDEX, SFX_TIMEINDEX, SFX_TXNINDEX};
#define SFX_CNT (sizeof(sfx) / sizeof(sfx[0]))

static int path_of(char out[STORE_PATH_MAX], const char *dir, int64_t base, const char *suffix,
                   const char *more)
{
    char all[32];
    (void)snprintf(all, sizeof(all), "%s%s", suffix, more); /* ours, and short */
    return path_seg(out, dir, base, all);
}

static int unlink_of(struct file_io *io, const char *dir, int64_t base, const char *suffix,
                     const char *more)
{
    char path[STORE_PATH_MAX];
    int rc = path_of(path, dir, base, suffix, more);
    if (rc == 0)
        rc = io->ops->unlink(io, path);
    return rc == -ENOENT ? 0 : rc;
}

static int rename_of(struct file_io *io, const char *dir, int64_t base, const char *suffix,
                     const char *from, const char *to)
{
    char a[STORE_PATH_MAX], b[STORE_PATH_MAX];
    int rc = path_of(a, dir, base, suffix, from);
    if (rc == 0)
        rc = path_of(b, dir, base, suffix, to);
    if (rc == 0)
        rc = io->ops->rename(io, a, b);
    /* An index of aborted transactions there need not be. */
    return rc == -ENOENT && strcmp(suffix, SFX_TXNINDEX) == 0 ? 0 : rc;
}

int seg_out_open(struct seg_out *o, const struct seg_out_opts *opts)
{
    char path[STORE_PATH_MAX];
    *o = (struct seg_out){.io = opts->io,
                          .base = opts->base,
                          .next = opts->base,
                          .first_ts = -1,
                          .interval_bytes = opts->index_interval_bytes};
    (void)snprintf(o->dir, sizeof(o->dir), "%s", opts->dir); /* of the same size */
    seg_index_init(&o->ix, opts->base, opts->index_bytes_max);
    o->buf = aligned_alloc(FILE_BLOCK, OUT_BUF);
    if (o->buf == NULL)
        return -ENOMEM;
    int rc = path_of(path, o->dir, o->base, SFX_LOG, SFX_CLEANED);
    if (rc == 0)
        rc = o->io->ops->open(o->io, path, FILE_CREATE | FILE_DIRECT, &o->f);
    if (rc < 0) {
        o->f = NULL;
        return rc;
    }
    return o->io->ops->truncate(o->f, 0); /* of an attempt that failed */
}

/* Whole blocks: only the last flush has to fill one up, which the end of the file then cuts off. */
static int out_flush(struct seg_out *o)
{
    uint32_t len = (o->used + FILE_BLOCK - 1) & ~(FILE_BLOCK - 1);
    memset(o->buf + o->used, 0, len - o->used);
    int64_t n = len > 0 ? o->io->ops->pwrite(o->f, o->buf, len, o->pos) : 0;
    if (n != len)
        return n < 0 ? (int)n : -EIO;
    o->pos += o->used;
    int rc = o->used < len ? o->io->ops->truncate(o->f, o->pos) : 0;
    o->used = 0;
    return rc;
}

int seg_out_add(struct seg_out *o, struct span batch)
{
    uint64_t pos = o->pos + o->used;
    if (pos + batch.len > INT32_MAX)
        return -E_LIMIT;
    int64_t last = batch_last_offset(batch.p);
    seg_index_add(&o->ix,
                  &(struct seg_index_batch){.pos = (uint32_t)pos,
                                            .len = batch.len,
                                            .last_offset = last,
                                            .max_ts = batch_max_timestamp(batch.p)},
                  o->interval_bytes);
    if (pos == 0)
        o->first_ts = (int64_t)load_be64(batch.p + BATCH_BASE_TIMESTAMP);
    o->next = last + 1;
    while (batch.len > 0) {
        uint32_t n = OUT_BUF - o->used < batch.len ? OUT_BUF - o->used : batch.len;
        memcpy(o->buf + o->used, batch.p, n);
        o->used += n;
        batch = span_of(batch.p + n, batch.len - n);
        int rc = o->used == OUT_BUF ? out_flush(o) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int index_write(struct seg_out *o, const char *suffix, const void *p, uint64_t len)
{
    char path[STORE_PATH_MAX];
    int rc = path_of(path, o->dir, o->base, suffix, SFX_CLEANED);
    return rc < 0 ? rc : store_file_write(o->io, path, p, len, true);
}

int seg_out_finish(struct seg_out *o, const struct aborted_txns *aborted, struct part_seg *ret)
{
    uint8_t *txns = NULL;
    size_t txns_len = 0;
    int rc = out_flush(o);
    if (rc == 0)
        rc = o->io->ops->fsync(o->f);
    if (rc < 0)
        return rc;
    o->io->ops->close(o->f);
    o->f = NULL;
    *ret = (struct part_seg){.base = o->base,
                             .len = o->pos,
                             .max_ts = o->ix.max_ts,
                             .max_ts_offset = o->ix.max_ts < 0 ? o->base : o->ix.max_ts_offset,
                             .index_since = o->ix.bytes_since};
    seg_index_finish(&o->ix);
    rc = index_write(o, SFX_INDEX, o->ix.off, (uint64_t)o->ix.off_cnt * INDEX_ENTRY_LEN);
    if (rc == 0)
        rc = index_write(o, SFX_TIMEINDEX, o->ix.ts, (uint64_t)o->ix.ts_cnt * TIMEINDEX_ENTRY_LEN);
    if (rc == 0)
        rc = aborted_encode(aborted, 0, INT64_MAX, &txns, &txns_len);
    if (rc == 0 && txns != NULL)
        rc = index_write(o, SFX_TXNINDEX, txns, txns_len);
    free(txns);
    if (rc == 0)
        rc = o->io->ops->dir_sync(o->io, o->dir);
    if (rc < 0)
        return rc;
    free(o->buf);
    seg_index_fini(&o->ix);
    *o = (struct seg_out){0};
    return 0;
}

void seg_out_remove(struct file_io *io, const char *dir, int64_t base)
{
    for (uint32_t i = 0; i < SFX_CNT; i++)
        (void)unlink_of(io, dir, base, sfx[i], SFX_CLEANED); /* what stays goes at the next start */
}

void seg_out_abandon(struct seg_out *o)
{
    if (o->io == NULL)
        return;
    if (o->f != NULL)
        o->io->ops->close(o->f);
    seg_out_remove(o->io, o->dir, o->base);
    free(o->buf);
    seg_index_fini(&o->ix);
    *o = (struct seg_out){0};
}

int seg_swap(struct file_io *io, const char *dir, const int64_t *bases, uint32_t cnt)
{
    int rc = 0;
    /* The log last: while it is .cleaned, all of it is undone. */
    for (uint32_t i = SFX_CNT; rc == 0 && i > 0; i--)
        rc = rename_of(io, dir, bases[0], sfx[i - 1], SFX_CLEANED, SFX_SWAP);
    if (rc == 0)
        rc = io->ops->dir_sync(io, dir);
    for (uint32_t i = 0; rc == 0 && i < cnt; i++) {
        if (i > 0)
            rc = unlink_of(io, dir, bases[i], SFX_LOG, "");
        for (uint32_t k = 1; rc == 0 && k < SFX_CNT; k++)
            rc = unlink_of(io, dir, bases[i], sfx[k], "");
        if (rc == 0 && i > 0)
            rc = unlink_of(io, dir, bases[i], SFX_SNAPSHOT, "");
    }
    /* Else a segment whose removal is forgotten stands beside the one that holds its records. */
    if (rc == 0)
        rc = io->ops->dir_sync(io, dir);
    /* The log first: with .log.swap gone, nobody removes the indexes that have their names. */
    for (uint32_t i = 0; rc == 0 && i < SFX_CNT; i++) {
        rc = rename_of(io, dir, bases[0], sfx[i], SFX_SWAP, "");
        if (rc == 0 && (i == 0 || i + 1 == SFX_CNT))
            rc = io->ops->dir_sync(io, dir);
    }
    return rc;
}
