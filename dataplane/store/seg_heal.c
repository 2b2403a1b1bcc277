/* seg_heal.c - see seg_heal.h. */
#include "dataplane/store/seg_heal.h"
#include "dataplane/store/store_file.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOST_BYTES (UINT64_C(1) << 20) /* of one batch that stands for lost ones */
#define KEEP_NAMES 100

static int write_all(struct file *f, const struct file_io_ops *ops, const void *p, uint64_t len,
                     uint64_t pos)
{
    int64_t n = ops->pwrite(f, p, len, pos);
    return n < 0 ? (int)n : (uint64_t)n == len ? 0 : -EIO;
}

/* Copies of the same bytes are the same copy: a heal that was cut off is done again. */
static int is_kept(struct file_io *io, const char *path, const uint8_t *p, uint64_t len)
{
    uint8_t *b;
    uint64_t n;
    int rc = store_file_read(io, path, UINT32_MAX, &b, &n);
    if (rc < 0)
        return rc == -E_LIMIT ? 0 : rc;
    rc = n == len && memcmp(b, p, len) == 0;
    free(b);
    return rc;
}

static int keep(struct file_io *io, const char *dir, int64_t base, const struct seg_damage *d,
                const uint8_t *p, struct seg_healed *ret)
{
    char name[96], path[STORE_PATH_MAX];
    for (int i = 0; i < KEEP_NAMES; i++) {
        char more[16] = "";
        if (i > 0) /* damaged again, at the same place */
            (void)snprintf(more, sizeof(more), ".%d", i);
        (void)snprintf(name, sizeof(name), SEG_NAME_FMT ".%" PRIu64 "%s" SFX_QUARANTINE,
                       (long long)base, SFX_LOG, d->pos, more);
        int rc = path_join(path, dir, name);
        if (rc == 0)
            rc = is_kept(io, path, p, d->len);
        if (rc == 0)
            continue;
        if (rc == -ENOENT)
            rc = store_file_write(io, path, p, d->len, true);
        if (rc >= 0)
            rc = io->ops->dir_sync(io, dir);
        (void)snprintf(ret->text, sizeof(ret->text), "kept in %s", name);
        return rc;
    }
    return -EEXIST;
}

/* Batches that stand for [from, to) over all of the damaged bytes: one, or more when they are many,
 * so that none is larger than what a reader must take whole. */
static int lost_fill(uint8_t *p, const struct seg_damage *d, const char *text)
{
    uint64_t offsets = d->to > d->from ? (uint64_t)(d->to - d->from) : 0;
    uint64_t cnt = (d->len + LOST_BYTES - 1) / LOST_BYTES;
    if (offsets / INT32_MAX + 1 > cnt)
        cnt = offsets / INT32_MAX + 1;
    cnt = cnt < offsets ? cnt : offsets;
    if (cnt == 0)
        return -E_LIMIT;
    for (uint64_t i = 0; i < cnt; i++) {
        uint64_t at = d->len / cnt * i;
        uint64_t len = i + 1 < cnt ? d->len / cnt : d->len - at;
        struct batch_lost l = {.from = d->from + (int64_t)(offsets / cnt * i),
                               .to = i + 1 < cnt ? d->from + (int64_t)(offsets / cnt * (i + 1))
                                                 : d->to,
                               .leader_epoch = d->epoch,
                               .text = text};
        int rc = batch_lost_build(p + at, len, &l);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int heal_lost(struct file_io *io, struct file *f, const char *dir, int64_t base,
                     const struct seg_damage *d, struct seg_healed *ret)
{
    char text[256];
    uint8_t *was = malloc(d->len), *now = malloc(d->len);
    int rc = was == NULL || now == NULL ? -ENOMEM : 0;
    (void)snprintf(text, sizeof(text),
                   "lost: %" PRIu64 " damaged bytes at %" PRIu64 ", offsets %" PRId64 " to %" PRId64
                   "; see the .quarantine file beside the segment",
                   d->len, d->pos, d->from, d->to - 1);
    if (rc == 0)
        rc = lost_fill(now, d, text);
    if (rc == 0) {
        int64_t n = io->ops->pread(f, was, d->len, d->pos);
        rc = n < 0 ? (int)n : (uint64_t)n == d->len ? 0 : -EIO;
    }
    if (rc == 0)
        rc = keep(io, dir, base, d, was, ret);
    if (rc == 0)
        rc = write_all(f, io->ops, now, d->len, d->pos);
    free(was);
    free(now);
    return rc;
}

static int heal_field(struct file_io *io, struct file *f, const struct seg_damage *d,
                      struct seg_healed *ret)
{
    uint8_t b[8];
    uint64_t len = 4, at = BATCH_LENGTH;
    store_be32(b, (uint32_t)d->want);
    if (d->kind == DAMAGE_BASE_OFFSET) {
        store_be64(b, (uint64_t)d->want);
        len = 8;
        at = BATCH_BASE_OFFSET;
    } else if (d->kind == DAMAGE_MAGIC) {
        b[0] = (uint8_t)d->want;
        len = 1;
        at = BATCH_MAGIC;
    } else if (d->kind == DAMAGE_CRC) {
        at = BATCH_CRC;
    } else if (d->kind == DAMAGE_EPOCH) {
        at = BATCH_LEADER_EPOCH;
    }
    (void)snprintf(ret->text, sizeof(ret->text), "put right: %" PRId64 " instead of %" PRId64,
                   d->want, d->is);
    return write_all(f, io->ops, b, len, d->pos + at);
}

int seg_heal(struct file_io *io, const char *dir, int64_t base, const struct seg_damage *d,
             struct seg_healed *ret)
{
    char path[STORE_PATH_MAX];
    struct file *f;
    struct seg_healed h = {""};
    if (!damage_is_repairable(d->kind))
        return -E_LIMIT;
    int rc = path_seg(path, dir, base, SFX_LOG);
    if (rc == 0)
        rc = io->ops->open(io, path, 0, &f);
    if (rc < 0)
        return rc;
    if (d->kind == DAMAGE_BATCH || d->kind == DAMAGE_TAIL) {
        rc = heal_lost(io, f, dir, base, d, &h);
    } else if (d->kind == DAMAGE_ZERO_TAIL) {
        (void)snprintf(h.text, sizeof(h.text), "cut off");
        rc = io->ops->truncate(f, d->pos);
    } else {
        rc = heal_field(io, f, d, &h);
    }
    if (rc == 0)
        rc = io->ops->fsync(f);
    io->ops->close(f);
    if (rc == 0)
        *ret = h;
    return rc;
}
