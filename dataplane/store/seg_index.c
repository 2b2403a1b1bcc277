/* seg_index.c - see seg_index.h. Kafka's rules (ondisk.md 3 and 4):
 *   - an entry when more than index.interval.bytes were appended since the last one, taken before
 *     the batch's own size is added; so a segment's first batch never has one;
 *   - a time index entry only when its timestamp is larger than the last one's. */
#include "dataplane/store/seg_index.h"
#include "dataplane/store/format.h"
#include "dataplane/store/store_file.h"
#include "lib/base/span.h"
#include <stdlib.h>

void seg_index_init(struct seg_index *ix, int64_t base, uint32_t bytes_max)
{
    *ix = (struct seg_index){.base = base,
                             .off_max = bytes_max / INDEX_ENTRY_LEN,
                             .ts_max = bytes_max / TIMEINDEX_ENTRY_LEN,
                             .max_ts = -1,
                             .max_ts_offset = base};
}

void seg_index_fini(struct seg_index *ix)
{
    free(ix->off);
    free(ix->ts);
    ix->off = ix->ts = NULL;
    ix->off_cnt = ix->off_cap = ix->ts_cnt = ix->ts_cap = 0;
}

static uint8_t *entry_add(uint8_t **arr, uint32_t *cnt, uint32_t *cap, uint32_t len)
{
    if (*cnt == *cap) {
        uint32_t next = *cap ? *cap * 2 : 32;
        uint8_t *p = realloc(*arr, (size_t)next * len);
        if (p == NULL)
            return NULL;
        *arr = p;
        *cap = next;
    }
    return *arr + (size_t)(*cnt)++ * len;
}

static int64_t ts_last(const struct seg_index *ix)
{
    if (ix->ts_cnt == 0)
        return -1;
    return (int64_t)load_be64(ix->ts + (size_t)(ix->ts_cnt - 1) * TIMEINDEX_ENTRY_LEN);
}

static void ts_maybe_add(struct seg_index *ix, uint32_t cnt_max)
{
    if (ix->max_ts <= ts_last(ix) || ix->ts_cnt >= cnt_max)
        return;
    uint8_t *e = entry_add(&ix->ts, &ix->ts_cnt, &ix->ts_cap, TIMEINDEX_ENTRY_LEN);
    if (e == NULL)
        return;
    store_be64(e, (uint64_t)ix->max_ts);
    store_be32(e + 8, (uint32_t)(ix->max_ts_offset - ix->base));
}

void seg_index_add(struct seg_index *ix, const struct seg_index_batch *b, uint32_t interval_bytes)
{
    if (b->max_ts > ix->max_ts) {
        ix->max_ts = b->max_ts;
        ix->max_ts_offset = b->last_offset;
    }
    if (ix->bytes_since > interval_bytes && !seg_index_is_full(ix)) {
        uint8_t *e = entry_add(&ix->off, &ix->off_cnt, &ix->off_cap, INDEX_ENTRY_LEN);
        if (e != NULL) {
            store_be32(e, (uint32_t)(b->last_offset - ix->base));
            store_be32(e + 4, b->pos);
            ix->bytes_since = 0;
            ts_maybe_add(ix, ix->ts_max - 1);
        }
    }
    ix->bytes_since = ix->bytes_since > UINT32_MAX - b->len ? UINT32_MAX : ix->bytes_since + b->len;
}

void seg_index_finish(struct seg_index *ix)
{
    ts_maybe_add(ix, ix->ts_max);
}

bool seg_index_is_full(const struct seg_index *ix)
{
    return ix->off_cnt >= ix->off_max || ix->ts_cnt + 1 >= ix->ts_max;
}

uint32_t seg_index_pos(const struct seg_index *ix, int64_t offset)
{
    int64_t last;
    return seg_index_seek(ix, offset, &last);
}

uint32_t seg_index_seek(const struct seg_index *ix, int64_t offset, int64_t *ret_last)
{
    uint32_t lo = 0, hi = ix->off_cnt; /* entries [0, lo) are <= offset */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int64_t at = ix->base + (int32_t)load_be32(ix->off + (size_t)mid * INDEX_ENTRY_LEN);
        if (at <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    const uint8_t *e = lo == 0 ? NULL : ix->off + (size_t)(lo - 1) * INDEX_ENTRY_LEN;
    *ret_last = e == NULL ? -1 : ix->base + (int32_t)load_be32(e);
    return e == NULL ? 0 : load_be32(e + 4);
}

int64_t seg_index_ts_offset(const struct seg_index *ix, int64_t ts)
{
    uint32_t lo = 0, hi = ix->ts_cnt; /* entries [0, lo) have timestamps < ts */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((int64_t)load_be64(ix->ts + (size_t)mid * TIMEINDEX_ENTRY_LEN) < ts)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return ix->base;
    return ix->base + (int32_t)load_be32(ix->ts + (size_t)(lo - 1) * TIMEINDEX_ENTRY_LEN + 8);
}

/* Entries must ascend; anything else is damage and the index is rebuilt from the log. */
static bool index_is_sane(const struct seg_index *ix)
{
    int64_t prev = -1, prev_ts = INT64_MIN;
    int64_t prev_pos = -1;
    for (uint32_t i = 0; i < ix->off_cnt; i++) {
        int32_t rel = (int32_t)load_be32(ix->off + (size_t)i * INDEX_ENTRY_LEN);
        int32_t pos = (int32_t)load_be32(ix->off + (size_t)i * INDEX_ENTRY_LEN + 4);
        if (rel <= prev || pos <= prev_pos)
            return false;
        prev = rel;
        prev_pos = pos;
    }
    prev = -1;
    for (uint32_t i = 0; i < ix->ts_cnt; i++) {
        int64_t ts = (int64_t)load_be64(ix->ts + (size_t)i * TIMEINDEX_ENTRY_LEN);
        int32_t rel = (int32_t)load_be32(ix->ts + (size_t)i * TIMEINDEX_ENTRY_LEN + 8);
        if (ts <= prev_ts || rel < 0 || rel < prev)
            return false;
        prev_ts = ts;
        prev = rel;
    }
    return true;
}

static int load_entries(struct file_io *io, const char *path, uint32_t entry_len, uint8_t **ret,
                        uint32_t *ret_cnt)
{
    uint64_t len;
    uint8_t *p;
    int rc = store_file_read(io, path, UINT32_MAX / 2, &p, &len);
    if (rc < 0)
        return rc;
    if (len % entry_len != 0) {
        free(p);
        return -E_MALFORMED;
    }
    *ret = p;
    *ret_cnt = (uint32_t)(len / entry_len);
    return 0;
}

int seg_index_load(struct seg_index *ix, struct file_io *io, const char *dir)
{
    char path[STORE_PATH_MAX];
    uint8_t *off = NULL, *ts = NULL;
    uint32_t off_cnt = 0, ts_cnt = 0;
    int rc = path_seg(path, dir, ix->base, SFX_INDEX);
    if (rc == 0)
        rc = load_entries(io, path, INDEX_ENTRY_LEN, &off, &off_cnt);
    if (rc == 0)
        rc = path_seg(path, dir, ix->base, SFX_TIMEINDEX);
    if (rc == 0)
        rc = load_entries(io, path, TIMEINDEX_ENTRY_LEN, &ts, &ts_cnt);
    if (rc < 0)
        goto undo;
    seg_index_fini(ix);
    ix->off = off;
    ix->ts = ts;
    ix->off_cnt = ix->off_cap = off_cnt;
    ix->ts_cnt = ix->ts_cap = ts_cnt;
    if (index_is_sane(ix)) {
        if (ts_cnt > 0 && ts_last(ix) > ix->max_ts) {
            ix->max_ts = ts_last(ix);
            ix->max_ts_offset =
                ix->base + (int32_t)load_be32(ts + (size_t)(ts_cnt - 1) * TIMEINDEX_ENTRY_LEN + 8);
        }
        return 0;
    }
    seg_index_fini(ix);
    return -E_MALFORMED;
undo:
    free(off);
    free(ts);
    return rc;
}

int seg_index_store(const struct seg_index *ix, struct file_io *io, const char *dir, bool sync)
{
    int (*store)(struct file_io *, const char *, const void *, uint64_t, bool) =
        sync ? store_file_write : store_file_update;
    char path[STORE_PATH_MAX];
    int rc = path_seg(path, dir, ix->base, SFX_INDEX);
    if (rc == 0)
        rc = store(io, path, ix->off, (uint64_t)ix->off_cnt * INDEX_ENTRY_LEN, sync);
    if (rc == 0)
        rc = path_seg(path, dir, ix->base, SFX_TIMEINDEX);
    if (rc == 0)
        rc = store(io, path, ix->ts, (uint64_t)ix->ts_cnt * TIMEINDEX_ENTRY_LEN, sync);
    return rc;
}
