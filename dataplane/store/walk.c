/* walk.c - see walk.h. */
#include "dataplane/store/walk.h"
#include "lib/base/assert.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

int walk_open(struct walk *w, struct file_io *io, const char *path, int flags)
{
    *w = (struct walk){.io = io};
    int rc = io->ops->open(io, path, flags, &w->f);
    if (rc < 0)
        w->f = NULL;
    return rc < 0 ? rc : io->ops->size(w->f, &w->size);
}

void walk_close(struct walk *w)
{
    if (w->f != NULL)
        w->io->ops->close(w->f);
    free(w->buf);
    *w = (struct walk){0};
}

static uint64_t block_up(uint64_t n)
{
    return (n + FILE_BLOCK - 1) & ~(uint64_t)(FILE_BLOCK - 1);
}

static int buf_grow(struct walk *w, uint64_t cap)
{
    uint8_t *b = aligned_alloc(FILE_BLOCK, cap);
    if (b == NULL)
        return -ENOMEM;
    free(w->buf);
    w->buf = b;
    w->cap = cap;
    return 0;
}

int walk_get(struct walk *w, uint64_t pos, uint64_t len, const uint8_t **ret)
{
    ASSERT(len <= w->size);
    ASSERT(pos <= w->size - len);
    if (pos < w->at || pos + len > w->at + w->len) {
        uint64_t at = pos & ~(uint64_t)(FILE_BLOCK - 1);
        uint64_t want = block_up(pos - at + len);
        want = want > WALK_WINDOW ? want : WALK_WINDOW;
        if (want > block_up(w->size - at))
            want = block_up(w->size - at);
        if (want > w->cap) {
            w->len = 0;
            int rc = buf_grow(w, want);
            if (rc < 0)
                return rc;
        }
        w->at = at;
        w->len = 0;
        int64_t n = w->io->ops->pread(w->f, w->buf, want, at);
        if (n < 0)
            return (int)n;
        w->len = (uint64_t)n;
        w->bytes_read += (uint64_t)n;
        if (pos + len > w->at + w->len)
            return -EIO; /* shorter than its size said */
    }
    *ret = w->buf + (pos - w->at);
    return 0;
}

int walk_is_zero(struct walk *w, uint64_t pos, bool *ret)
{
    while (pos < w->size) {
        uint64_t n = w->size - pos < WALK_WINDOW ? w->size - pos : WALK_WINDOW;
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

/* Could a batch begin here? Its length, when it could; else 0. */
static uint64_t head_len(const uint8_t *b, uint64_t left)
{
    int64_t length = (int32_t)load_be32(b + BATCH_LENGTH);
    if (length < BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD ||
        (uint64_t)length + BATCH_LOG_OVERHEAD > left || b[BATCH_MAGIC] != 2)
        return 0;
    return (uint64_t)length + BATCH_LOG_OVERHEAD;
}

int walk_batch(struct walk *w, uint64_t pos, struct batch_info *ret, const uint8_t **ret_bytes)
{
    const uint8_t *b;
    if (w->size < pos || w->size - pos < BATCH_HEADER_LEN)
        return 0;
    int rc = walk_get(w, pos, BATCH_HEADER_LEN, &b);
    if (rc < 0)
        return rc;
    uint64_t total = head_len(b, w->size - pos);
    if (total == 0)
        return 0;
    rc = walk_get(w, pos, total, &b);
    if (rc < 0)
        return rc;
    if (batch_verify(b, total, ret) < 0 || ret->total_len != total)
        return 0;
    *ret_bytes = b;
    return 1;
}

/* What can be said of a header before its CRC, which costs reading all of the batch. */
static bool head_is_likely(const uint8_t *b, uint64_t left, int64_t from, int64_t to)
{
    if (b[BATCH_MAGIC] != 2 || head_len(b, left) == 0)
        return false;
    int64_t base = batch_base_offset(b);
    int32_t delta = batch_last_offset_delta(b), cnt = (int32_t)load_be32(b + BATCH_RECORD_COUNT);
    return base >= from && base < to && delta >= 0 && cnt >= 0 && cnt - 1 <= delta;
}

int walk_resync(struct walk *w, uint64_t pos, int64_t from, int64_t to, uint64_t *ret_pos,
                struct batch_info *ret)
{
    while (++pos < w->size && w->size - pos >= BATCH_HEADER_LEN) {
        /* A window at a time; a batch that is looked at moves it, so it is fetched anew then. */
        uint64_t n = w->size - pos < WALK_WINDOW ? w->size - pos : WALK_WINDOW;
        const uint8_t *b, *bytes;
        int rc = walk_get(w, pos, n, &b);
        if (rc < 0)
            return rc;
        uint64_t i = 0;
        while (i + BATCH_HEADER_LEN <= n && !head_is_likely(b + i, w->size - pos - i, from, to))
            i++;
        if (i + BATCH_HEADER_LEN > n) {
            pos += i - 1;
            continue;
        }
        pos += i;
        rc = walk_batch(w, pos, ret, &bytes);
        if (rc < 0)
            return rc;
        if (rc == 1) {
            *ret_pos = pos;
            return 1;
        }
    }
    return 0;
}
