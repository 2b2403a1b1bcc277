/* txn_index.c - see txn_index.h. */
#include "dataplane/store/txn_index.h"
#include "dataplane/store/format.h"
#include "dataplane/store/store_file.h"
#include "lib/base/span.h"
#include <stdlib.h>
#include <string.h>

void aborted_fini(struct aborted_txns *t)
{
    free(t->v);
    *t = (struct aborted_txns){0};
}

int aborted_reserve(struct aborted_txns *t)
{
    if (t->cnt < t->cap)
        return 0;
    if (t->cnt >= ABORTED_MAX)
        return -E_LIMIT;
    uint32_t cap = t->cap == 0 ? 8 : t->cap * 2;
    struct aborted_txn *v = realloc(t->v, cap * sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    t->v = v;
    t->cap = cap;
    return 0;
}

int aborted_add(struct aborted_txns *t, const struct aborted_txn *a)
{
    int rc = aborted_reserve(t);
    if (rc == 0)
        t->v[t->cnt++] = *a;
    return rc;
}

/* Index of the first one whose marker is at or above `offset`. */
static uint32_t pos_of(const struct aborted_txns *t, int64_t offset)
{
    uint32_t lo = 0, hi = t->cnt;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->v[mid].last_offset < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void aborted_truncate_start(struct aborted_txns *t, int64_t offset)
{
    uint32_t n = pos_of(t, offset);
    if (n == 0)
        return;
    memmove(t->v, t->v + n, (t->cnt - n) * sizeof(*t->v));
    t->cnt -= n;
}

/* From the first marker behind `from` to the one after which nothing below `to` was open. */
struct aborted_txns aborted_find(const struct aborted_txns *t, int64_t from, int64_t to)
{
    uint32_t i = pos_of(t, from), end = i;
    while (end < t->cnt && (end == i || t->v[end - 1].stable_offset < to))
        end++;
    return (struct aborted_txns){.v = t->v + i, .cnt = end - i};
}

int aborted_encode(const struct aborted_txns *t, int64_t from, int64_t to, uint8_t **ret,
                   size_t *ret_len)
{
    uint32_t i = pos_of(t, from), end = pos_of(t, to);
    *ret = NULL;
    *ret_len = 0;
    if (i == end)
        return 0;
    uint8_t *p = malloc((size_t)(end - i) * TXNINDEX_ENTRY_LEN);
    if (p == NULL)
        return -ENOMEM;
    *ret = p;
    for (; i < end; i++, p += TXNINDEX_ENTRY_LEN) {
        store_be16(p, 0);
        store_be64(p + 2, (uint64_t)t->v[i].producer_id);
        store_be64(p + 10, (uint64_t)t->v[i].first_offset);
        store_be64(p + 18, (uint64_t)t->v[i].last_offset);
        store_be64(p + 26, (uint64_t)t->v[i].stable_offset);
    }
    *ret_len = (size_t)(p - *ret);
    return 0;
}

int aborted_decode(struct aborted_txns *t, int64_t to, const uint8_t *p, size_t len)
{
    uint32_t before = t->cnt;
    int64_t last = t->cnt == 0 ? -1 : t->v[t->cnt - 1].last_offset; /* also of those left out */
    int rc = len % TXNINDEX_ENTRY_LEN == 0 ? 0 : -E_MALFORMED;
    for (size_t at = 0; rc == 0 && at < len; at += TXNINDEX_ENTRY_LEN) {
        struct aborted_txn a = {.producer_id = (int64_t)load_be64(p + at + 2),
                                .first_offset = (int64_t)load_be64(p + at + 10),
                                .last_offset = (int64_t)load_be64(p + at + 18),
                                .stable_offset = (int64_t)load_be64(p + at + 26)};
        bool sane = load_be16(p + at) == 0 && a.producer_id >= 0 && a.first_offset >= 0 &&
                    a.first_offset < a.last_offset && last < a.last_offset;
        last = a.last_offset;
        if (!sane)
            rc = -E_MALFORMED;
        else if (a.last_offset < to)
            rc = aborted_add(t, &a);
    }
    if (rc < 0)
        t->cnt = before;
    return rc;
}

int txn_index_store(struct file_io *io, const char *dir, int64_t base, const uint8_t *p, size_t len)
{
    char path[STORE_PATH_MAX];
    int rc = path_seg(path, dir, base, SFX_TXNINDEX);
    if (rc < 0)
        return rc;
    if (p != NULL) { /* also when the same can be read: a flush that failed may have lost it */
        rc = store_file_write(io, path, p, len, true);
        return rc == 0 ? io->ops->dir_sync(io, dir) : rc;
    }
    struct file_stat st;
    rc = io->ops->stat(io, path, &st);
    if (rc == 0)
        rc = io->ops->unlink(io, path);
    return rc == -ENOENT ? 0 : rc;
}

int txn_index_load(struct file_io *io, const char *dir, int64_t base, int64_t to,
                   struct aborted_txns *t)
{
    char path[STORE_PATH_MAX];
    uint8_t *b;
    uint64_t len;
    int rc = path_seg(path, dir, base, SFX_TXNINDEX);
    if (rc == 0)
        rc = store_file_read(io, path, (uint64_t)ABORTED_MAX * TXNINDEX_ENTRY_LEN, &b, &len);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc == -E_LIMIT ? -E_MALFORMED : rc;
    rc = aborted_decode(t, to, b, len);
    free(b);
    return rc;
}
