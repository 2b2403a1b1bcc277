/* compact.c - see compact.h. */
#include "dataplane/store/compact.h"
#include "dataplane/store/format.h"
#include "dataplane/store/seg_out.h"
#include "dataplane/store/walk.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

#define PACE_BYTES (UINT64_C(256) << 10)

int compact_init(struct compact *c, const struct compact_opts *o)
{
    *c = (struct compact){.o = *o, .end = o->first_dirty, .bad_base = -1};
    c->map.latest = -1;
    if (snprintf(c->dir, sizeof(c->dir), "%s", o->dir) >= (int)sizeof(c->dir))
        return -ENAMETOOLONG;
    struct rewrite_rules r = {.keys = o->recode ? NULL : &c->map,
                              .now_ms = o->now_ms,
                              .delete_retention_ms = o->delete_retention_ms,
                              .upper = o->seg_cnt > 0 ? o->segs[o->seg_cnt - 1].end : 0,
                              .producers = o->producers,
                              .producer_cnt = o->producer_cnt,
                              .codec = o->recode ? o->codec : CODEC_NONE,
                              .level = o->level};
    return rewrite_init(&c->rw, &r, o->aborted);
}

void compact_fini(struct compact *c)
{
    rewrite_fini(&c->rw);
    key_map_fini(&c->map);
}

static int pace(struct compact *c, uint64_t bytes)
{
    c->owed += bytes;
    if (c->owed < PACE_BYTES || c->o.pace == NULL)
        return 0;
    uint64_t n = c->owed;
    c->owed = 0;
    return c->o.pace(c->o.arg, n);
}

/* Every batch of a segment, in order; fn returns 0 to go on, else what the walk returns. */
typedef int batch_fn(void *arg, const uint8_t *bytes, const struct batch_info *b);
static int seg_walk(struct compact *c, const struct compact_src *s, batch_fn *fn, void *arg)
{
    char path[STORE_PATH_MAX];
    struct walk w = {0};
    int64_t next = s->base;
    uint64_t pos = 0;
    int rc = path_seg(path, c->dir, s->base, SFX_LOG);
    if (rc == 0)
        rc = walk_open(&w, c->o.io, path, FILE_RDONLY | FILE_DIRECT);
    while (rc == 0 && pos < s->len) {
        struct batch_info b;
        const uint8_t *bytes;
        rc = walk_batch(&w, pos, &b, &bytes);
        if (rc < 0)
            break;
        bool good = rc == 1 && b.base_offset >= next &&
                    b.base_offset + b.last_offset_delta < s->end && pos + b.total_len <= s->len;
        rc = good ? fn(arg, bytes, &b) : -E_CORRUPT_BATCH;
        if (rc != 0)
            break;
        pos += b.total_len;
        next = b.base_offset + b.last_offset_delta + 1;
        rc = pace(c, b.total_len);
    }
    walk_close(&w);
    if (rc == -E_CORRUPT_BATCH || rc == -E_INVALID_RECORD || rc == -E_LIMIT) {
        c->bad_base = s->base;
        c->bad_pos = pos;
    }
    return rc;
}

/* ------------------------------------------------------------------------------------- the map */

struct mapping {
    struct compact *c;
    struct rewrite rw; /* follows the transactions of the dirty part */
};

static int map_one(void *arg, const uint8_t *bytes, const struct batch_info *b)
{
    struct mapping *m = arg;
    int rc = rewrite_map(&m->rw, &m->c->map, m->c->o.first_dirty, bytes, b);
    return rc < 0 ? rc : rc == 0 ? 1 : 0; /* 1: full */
}

int compact_map(struct compact *c)
{
    struct mapping m = {.c = c};
    struct rewrite_rules none = {0};
    uint32_t i = 0;
    while (i < c->o.seg_cnt && c->o.segs[i].end <= c->o.first_dirty)
        i++;
    /* Those that ended before what is read here say nothing of its batches. */
    struct aborted_txns from = {0};
    if (c->o.aborted != NULL && i < c->o.seg_cnt) {
        from = *c->o.aborted;
        while (from.cnt > 0 && from.v[0].last_offset < c->o.segs[i].base) {
            from.v++;
            from.cnt--;
        }
    }
    int rc = key_map_init(&c->map, c->o.map_bytes);
    if (rc == 0)
        rc = rewrite_init(&m.rw, &none, &from);
    for (; rc == 0 && i < c->o.seg_cnt; i++) {
        rc = seg_walk(c, &c->o.segs[i], map_one, &m);
        if (rc == 0 && c->map.latest < c->o.segs[i].end - 1) /* what is missing there is gone */
            c->map.latest = c->o.segs[i].end - 1;
    }
    rewrite_fini(&m.rw);
    if (rc < 0)
        return rc;
    c->keys = c->map.cnt;
    if (c->map.latest < c->o.first_dirty - 1) /* nothing is dirty: what is below has one of each */
        c->map.latest = c->o.first_dirty - 1;
    c->end = c->map.latest + 1;
    return 0;
}

/* ---------------------------------------------------------------------------------- the groups */

/* Segments [at, at + count) fit into one, by their sizes now. */
static uint32_t group_cnt(const struct compact *c)
{
    const struct compact_src *s = c->o.segs;
    uint32_t n = 1;
    uint64_t bytes = s[c->at].len;
    while (!c->o.recode && c->at + n < c->o.seg_cnt) {
        const struct compact_src *more = &s[c->at + n];
        if (more->base >= c->end || bytes + more->len > c->o.segment_bytes ||
            bytes + more->len > INT32_MAX || more->end - 1 - s[c->at].base > INT32_MAX)
            break;
        bytes += more->len;
        n++;
    }
    return n;
}

struct grouping {
    struct compact *c;
    struct seg_out out;
    bool changed;
};

static int group_one(void *arg, const uint8_t *bytes, const struct batch_info *b)
{
    struct grouping *g = arg;
    struct span batch = SPAN_NULL;
    int rc = rewrite_batch(&g->c->rw, bytes, b, &batch);
    if (rc < 0)
        return rc;
    if (batch.p != bytes)
        g->changed = true;
    if (rc == 1)
        rc = seg_out_add(&g->out, batch);
    return rc < 0 ? rc : pace(g->c, batch.len);
}

static int plain_find(void *arg, const uint8_t *bytes, const struct batch_info *b)
{
    (void)arg;
    (void)bytes;
    bool plain = (b->attributes & (BATCH_ATTR_CODEC | BATCH_ATTR_CONTROL)) == 0;
    return plain && b->producer_id < 0 && b->record_cnt > 0;
}

/* Transactions with markers in the group: those with batches left, or, unfiltered, all. */
static struct aborted_txns aborted_of_group(const struct compact *c, int64_t base, int64_t end)
{
    struct aborted_txns all = c->rw.txns.kept, some = {0};
    if (!c->o.recode)
        return (struct aborted_txns){.v = all.v + c->kept, .cnt = all.cnt - c->kept};
    for (uint32_t i = 0; c->o.aborted != NULL && i < c->o.aborted->cnt; i++) {
        struct aborted_txn *t = &c->o.aborted->v[i];
        if (t->last_offset < base || t->last_offset >= end)
            continue;
        some.v = some.cnt == 0 ? t : some.v;
        some.cnt++;
    }
    return some;
}

/* 1: made, 0: it would be what it is. */
static int group_make(struct compact *c, uint32_t cnt, struct compact_group *ret)
{
    const struct compact_src *s = &c->o.segs[c->at];
    struct grouping g = {.c = c, .changed = cnt > 1};
    struct seg_out_opts so = {.io = c->o.io,
                              .dir = c->dir,
                              .base = s->base,
                              .index_interval_bytes = c->o.index_interval_bytes,
                              .index_bytes_max = c->o.index_bytes_max};
    int rc = 1;
    if (c->o.recode)
        rc = seg_walk(c, s, plain_find, NULL);
    if (rc <= 0)
        return rc;
    rc = seg_out_open(&g.out, &so);
    for (uint32_t i = 0; rc == 0 && i < cnt; i++)
        rc = seg_walk(c, &s[i], group_one, &g);
    if (rc < 0 || !g.changed) {
        seg_out_abandon(&g.out);
        return rc;
    }
    ret->aborted = aborted_of_group(c, s->base, s[cnt - 1].end);
    ret->first = c->at;
    ret->cnt = cnt;
    ret->first_ts = g.out.first_ts;
    rc = seg_out_finish(&g.out, &ret->aborted, &ret->seg);
    if (rc < 0)
        seg_out_abandon(&g.out);
    return rc < 0 ? rc : 1;
}

int compact_next(struct compact *c, struct compact_group *ret)
{
    int rc = 0;
    while (rc == 0 && c->at < c->o.seg_cnt && (c->o.recode || c->o.segs[c->at].base < c->end)) {
        uint32_t cnt = group_cnt(c);
        c->kept = c->rw.txns.kept.cnt;
        rc = group_make(c, cnt, ret);
        c->at += cnt;
    }
    return rc;
}
