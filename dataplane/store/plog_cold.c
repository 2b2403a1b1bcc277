/* plog_cold.c - reads of what is not in memory any more: direct reads of the segment through a
 * bounded pool of bounce buffers.
 *
 *     open? --reads_opened--> SEEK (find the batch that holds the offset, by its header)
 *     --> COPY (raw bytes to dst) --> trim to whole batches, CRC of each --> done
 *
 * It begins with one buffer; COPY takes more while there are some, up to its share of the pool, so
 * that the disk has several reads at a time. Who finds no buffer at all waits: cold readers slow
 * each other down, never a writer, and nothing of this goes through the page cache. */
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <string.h>

#define SEEK_BYTES (32u << 10) /* of headers at a time */

static void read_step(struct plog_read_io *k);

static struct seg *seg_of(const struct plog *p, int64_t offset)
{
    uint32_t lo = 0, hi = p->seg_cnt; /* segs [0, lo) begin at or below offset */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->segs[mid]->base <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return p->segs[lo == 0 ? 0 : lo - 1];
}

static struct seg *seg_after(const struct plog *p, const struct seg *s)
{
    for (uint32_t i = 0; i + 1 < p->seg_cnt; i++)
        if (p->segs[i] == s)
            return p->segs[i + 1];
    return NULL;
}

static void buf_release(struct plog_read_io *k, struct read_buf *b)
{
    k->buf_cnt--;
    list_add_tail(&k->set->buf_free, &b->link);
}

static struct read_buf *buf_take(struct plog_read_io *k)
{
    struct list *n = list_pop_head(&k->set->buf_free);
    if (n == NULL)
        return NULL;
    struct read_buf *b = container_of(n, struct read_buf, link);
    b->k = k;
    k->buf_cnt++;
    return b;
}

static void io_put(struct plog_read_io *k)
{
    if (k->seek != NULL)
        buf_release(k, k->seek);
    k->seek = NULL;
    ASSERT(k->buf_cnt == 0);
    k->set->reads_in_flight--;
    list_add_tail(&k->set->read_free, &k->link);
}

static void disk_done(struct plog_read_io *k, int rc)
{
    struct plog_read *r = k->r;
    const struct plog *p = k->p;
    r->io = NULL;
    io_put(k);
    read_finish_data(p, r, rc);
}

/* What cannot be read is looked at by the scrubber soon (upkeep/scrub.h), which keeps the damaged
 * bytes aside and makes what lies behind them readable. It only touches closed segments. */
static void damage_seen(struct plog_read_io *k, uint64_t pos, const char *what)
{
    struct seg *s = k->s;
    k->set->st.damaged_reads++;
    if (!s->is_suspect) /* once: readers come back */
        LOG_ERROR("%s-%d: %s at position %llu of segment %lld, looking for offset %lld",
                  k->p->part->topic, k->p->part->partition, what, (unsigned long long)pos,
                  (long long)s->base, (long long)k->r->offset);
    k->set->suspect_cnt += !s->is_suspect;
    s->is_suspect = true;
    if (!s->is_rolled)
        plog_roll_now(k->p);
}

/* dst holds raw log bytes from the first batch on: keep whole, visible, undamaged batches. What
 * lies outside their checksums is checked against each other: offsets must ascend, and where they
 * do not, the batch behind a gap is the one that is wrong. */
static int trim(struct plog_read_io *k)
{
    struct plog_read *r = k->r;
    int64_t limit = read_limit(k->p, r), next = k->expect;
    uint64_t from = k->pos - r->len;
    uint32_t at = 0, before = 0;
    bool was_gap = false;
    int rc = 0;
    while (at < r->len) {
        struct batch_info b;
        rc = batch_verify(r->dst + at, r->len - at, &b);
        if (rc < 0 || b.base_offset >= limit || batch_is_lost(r->dst + at))
            break;
        if (b.base_offset < next) {
            at = was_gap ? before : at;
            rc = -E_CORRUPT_BATCH;
            break;
        }
        was_gap = next >= 0 && b.base_offset > next;
        before = at;
        next = b.base_offset + b.last_offset_delta + 1;
        at += b.total_len;
    }
    if (rc == -E_CORRUPT_BATCH)
        damage_seen(k, from + at, "damaged batch");
    r->len = at;
    return at == 0 && rc == -E_CORRUPT_BATCH ? rc : 0;
}

/* What a read in flight may come back to. */
static int read_rc(const struct plog *p, int res)
{
    if (res < 0 || p->state == PL_FENCED)
        return -E_STORAGE;
    return p->state == PL_DETACHING ? -E_UNKNOWN_TOPIC : 0;
}

static void buf_read(struct read_buf *b, uint32_t len, file_done_fn *done)
{
    struct plog_read_io *k = b->k;
    struct seg *s = k->s;
    b->op.done = done;
    s->io++;
    s->used_ns = now_ns(k->set);
    k->p->io++;
    k->set->io->ops->read(s->file, &b->op, b->mem, len, b->at);
}

static uint64_t block_end(uint64_t pos)
{
    return (pos + FILE_BLOCK - 1) & ~(uint64_t)(FILE_BLOCK - 1);
}

static void on_sought(struct file_op *op, int res)
{
    struct plog_read_io *k = container_of(op, struct read_buf, op)->k;
    struct plog *p = k->p;
    struct seg *s = k->s;
    s->io--;
    p->io--;
    int rc = read_rc(p, res);
    if (rc == 0 && k->read_at + (uint64_t)res < k->pos + BATCH_HEADER_LEN)
        rc = -E_STORAGE; /* the file ends before the log does */
    k->read_len = (uint32_t)res;
    if (rc < 0)
        disk_done(k, rc);
    else
        read_step(k);
    if (s->is_retired && s->io == 0)
        plog_seg_retire(s);
    if (p->state != PL_OPEN)
        plog_settle(p);
}

static void seek_issue(struct plog_read_io *k)
{
    k->read_at = k->pos & ~(uint64_t)(FILE_BLOCK - 1);
    uint64_t n = block_end(k->s->written) - k->read_at;
    k->seek->at = k->read_at;
    buf_read(k->seek, n < SEEK_BYTES ? (uint32_t)n : SEEK_BYTES, on_sought);
}

static void on_copied(struct file_op *op, int res);

/* Ask for what has not been asked for yet, with b first (NULL: none) and then with free buffers, as
 * long as nobody waits for one. */
static void copy_issue(struct plog_read_io *k, struct read_buf *b)
{
    uint64_t end = k->first_pos + k->want;
    uint32_t share = k->set->read_buf_cnt / READ_SHARE;
    while (k->next_pos < end && k->rc == 0) {
        bool may_have_more = k->buf_cnt < share && list_is_empty(&k->set->read_wait);
        if (b == NULL && (k->buf_cnt == 0 || may_have_more))
            b = buf_take(k);
        if (b == NULL)
            return;
        b->from = k->next_pos;
        b->at = b->from & ~(uint64_t)(FILE_BLOCK - 1);
        uint64_t to = b->at + READ_IO_BYTES;
        b->to = k->next_pos = to < end ? to : end;
        buf_read(b, (uint32_t)(block_end(b->to) - b->at), on_copied);
        b = NULL;
    }
    if (b != NULL)
        buf_release(k, b);
}

/* Ends k; its read begins anew. */
static void read_again(struct plog_read_io *k)
{
    struct plog_read *r = k->r;
    struct plog *p = k->p;
    r->io = NULL;
    r->len = 0;
    io_put(k);
    read_start(p, r);
}

/* All that was asked for is there, or has failed. Which transactions of a segment were aborted is
 * not known any more when the one in its place has none of their records. */
static void copy_done(struct plog_read_io *k)
{
    if (k->rc == 0 && k->s->is_retired && k->r->isolation == PLOG_READ_COMMITTED) {
        read_again(k);
        return;
    }
    k->r->len = k->got;
    k->pos = k->first_pos + k->got;
    disk_done(k, k->rc < 0 ? k->rc : trim(k));
}

static void on_copied(struct file_op *op, int res)
{
    struct read_buf *b = container_of(op, struct read_buf, op);
    struct plog_read_io *k = b->k;
    struct plog *p = k->p;
    struct seg *s = k->s;
    s->io--;
    p->io--;
    int rc = read_rc(p, res);
    if (rc == 0 && b->at + (uint64_t)res < b->to)
        rc = -E_STORAGE; /* the file ends before the log does */
    if (rc == 0) {
        memcpy(k->r->dst + (b->from - k->first_pos), b->mem + (b->from - b->at), b->to - b->from);
        k->got += (uint32_t)(b->to - b->from);
    } else if (k->rc == 0) {
        k->rc = rc;
    }
    copy_issue(k, b);
    if (k->buf_cnt == 0)
        copy_done(k);
    if (s->is_retired && s->io == 0)
        plog_seg_retire(s);
    if (p->state != PL_OPEN)
        plog_settle(p);
}

/* What the first batch's length means for the answer. 1: copy it, 0: answer is empty, negative. */
static int decide(struct plog_read_io *k, uint32_t first_len, uint64_t rest)
{
    struct plog_read *r = k->r;
    r->need = first_len;
    if (first_len > r->max_bytes && !r->min_one_batch)
        return 0;
    if (first_len > r->dst_cap)
        return -E_DST_SMALL;
    uint64_t want = r->max_bytes > first_len ? r->max_bytes : first_len;
    want = want < r->dst_cap ? want : r->dst_cap;
    k->want = (uint32_t)(want < rest ? want : rest);
    return 1;
}

static void seek_next_segment(struct plog_read_io *k)
{
    struct seg *next = seg_after(k->p, k->s);
    struct plog_read *r = k->r;
    if (k->s->is_retired) { /* what follows is in the one that stands in its place */
        read_again(k);
        return;
    }
    if (next == NULL || next->base >= read_limit(k->p, r)) {
        disk_done(k, 0);
        return;
    }
    /* A hole in the offsets: the next batch is the first of the next segment. */
    r->offset = next->base > r->offset ? next->base : r->offset;
    read_again(k);
}

/* The index does not fit the log, one of them is damaged: batch by batch, then. */
static void seek_from_start(struct plog_read_io *k)
{
    k->pos = 0;
    k->expect = k->s->base;
    k->ix_last = -1;
}

/* Walk headers in the bounce buffer. True: more is to be read. */
static bool seek_in_buffer(struct plog_read_io *k)
{
    struct seg *s = k->s;
    for (;;) {
        if (k->pos + BATCH_HEADER_LEN > s->written && k->ix_last >= 0) {
            seek_from_start(k);
            return true;
        }
        if (k->pos + BATCH_HEADER_LEN > s->written) {
            seek_next_segment(k);
            return false;
        }
        uint64_t in = k->pos - k->read_at;
        if (in + BATCH_HEADER_LEN > k->read_len)
            return true;
        const uint8_t *h = k->seek->mem + in;
        int64_t length = (int32_t)load_be32(h + BATCH_LENGTH);
        uint64_t total = (uint64_t)length + BATCH_LOG_OVERHEAD;
        bool is_batch = length >= BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD &&
                        k->pos + total <= s->written && h[BATCH_MAGIC] == 2 &&
                        batch_base_offset(h) >= k->expect && batch_last_offset_delta(h) >= 0;
        if (k->ix_last >= 0 && (!is_batch || batch_last_offset(h) != k->ix_last)) {
            seek_from_start(k);
            return true;
        }
        k->ix_last = -1;
        if (!is_batch) {
            damage_seen(k, k->pos, "no batch");
            disk_done(k, -E_CORRUPT_BATCH);
            return false;
        }
        if (batch_last_offset(h) >= k->r->offset && batch_is_lost(h)) {
            if (batch_base_offset(h) <= k->r->offset)
                k->r->damaged_to = batch_last_offset(h) + 1;
            disk_done(k, -E_CORRUPT_BATCH);
            return false;
        }
        if (batch_last_offset(h) >= k->r->offset) {
            int rc = decide(k, (uint32_t)total, s->written - k->pos);
            if (rc <= 0) {
                disk_done(k, rc);
                return false;
            }
            k->copying = true;
            return true;
        }
        k->expect = batch_last_offset(h) + 1;
        k->pos += total;
    }
}

/* The first bytes are in the buffer that found them. */
static void copy_start(struct plog_read_io *k)
{
    struct read_buf *b = k->seek;
    uint64_t in = k->pos - k->read_at, n = k->read_len - in;
    n = n < k->want ? n : k->want;
    memcpy(k->r->dst, b->mem + in, n);
    k->first_pos = k->pos;
    k->next_pos = k->pos + n;
    k->got = (uint32_t)n;
    k->rc = 0;
    k->seek = NULL;
    copy_issue(k, b);
    if (k->buf_cnt == 0)
        copy_done(k);
}

static void read_step(struct plog_read_io *k)
{
    if (!seek_in_buffer(k))
        return;
    if (k->copying)
        copy_start(k);
    else if (k->p->state != PL_OPEN && k->p->state != PL_CLOSING)
        disk_done(k, -E_STORAGE);
    else
        seek_issue(k);
}

static void read_go(struct plog_read_io *k)
{
    k->pos = seg_index_seek(&k->s->ix, k->r->offset, &k->ix_last);
    k->expect = k->pos == 0 ? k->s->base : -1;
    k->copying = false;
    k->read_len = 0;
    k->read_at = k->pos;
    seek_issue(k);
}

void read_disk(struct plog *p, struct plog_read *r)
{
    struct plog_set *set = p->set;
    if (list_is_empty(&set->read_free) || list_is_empty(&set->buf_free)) {
        set->st.read_waits++;
        list_add_tail(&set->read_wait, &r->link);
        return;
    }
    struct plog_read_io *k =
        container_of(list_pop_head(&set->read_free), struct plog_read_io, link);
    k->buf_cnt = 0;
    k->seek = buf_take(k);
    set->reads_in_flight++;
    set->st.reads_disk++;
    k->r = r;
    k->p = p;
    k->s = seg_of(p, r->offset);
    r->io = k;
    r->len = 0;
    if (k->s->written == 0) { /* nothing of it is on disk; its batches begin above */
        seek_next_segment(k);
        return;
    }
    if (k->s->file != NULL && k->s->has_index) {
        read_go(k);
        return;
    }
    list_add_tail(&k->s->waiters, &k->link);
    seg_want_open(k->s);
    if (!k->s->job) { /* no memory for the job */
        list_del(&k->link);
        disk_done(k, -E_BUSY);
    }
}

void reads_opened(struct seg *s, int rc)
{
    struct list now;
    list_init(&now);
    list_splice_tail(&now, &s->waiters);
    for (struct list *n = list_pop_head(&now); n; n = list_pop_head(&now)) {
        struct plog_read_io *k = container_of(n, struct plog_read_io, link);
        if (rc < 0 || s->file == NULL)
            disk_done(k, rc == -E_BUSY ? rc : -E_STORAGE);
        else
            read_go(k);
    }
}

void reads_restart(struct list *waiters)
{
    for (struct list *n = list_pop_head(waiters); n; n = list_pop_head(waiters))
        read_again(container_of(n, struct plog_read_io, link));
}

void reads_fail_waiting(struct plog *p, int rc)
{
    for (uint32_t i = 0; i < p->seg_cnt; i++) {
        struct list *w = &p->segs[i]->waiters;
        for (struct list *n = list_pop_head(w); n; n = list_pop_head(w))
            disk_done(container_of(n, struct plog_read_io, link), rc);
    }
}

void reads_retry(struct plog_set *set)
{
    while (!list_is_empty(&set->read_wait) && !list_is_empty(&set->read_free) &&
           !list_is_empty(&set->buf_free)) {
        struct plog_read *r = container_of(list_pop_head(&set->read_wait), struct plog_read, link);
        struct plog *p = plog_set_find(set, &r->topic_id, r->partition);
        if (p == NULL)
            read_finish(set, r, -E_UNKNOWN_TOPIC);
        else
            read_start(p, r);
    }
}
