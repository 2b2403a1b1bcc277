/* plog_cold.c - reads of what is not in memory any more: direct reads of the segment through a
 * bounded pool of bounce buffers.
 *
 *     open? --reads_opened--> SEEK (find the batch that holds the offset, by its header)
 *     --> COPY (raw bytes to dst) --> CHECK (CRC of each batch, cut to whole ones) --> done
 *
 * It begins with one buffer; COPY takes more while there are some, up to its share of the pool, so
 * that the disk has several reads at a time. Who finds no buffer at all waits, in order: cold
 * readers slow each other down, never a writer, and nothing of this goes through the page cache.
 *
 * What a replay may take from producers and from readers at the end of the log:
 * - of the disk, BESIDE_WRITES reads at a time while anybody writes to it. A commit is a write and
 * a flush, one after the other, and each stands behind all reads that the device was given before.
 * - of the core, CHECK_BYTES of checksums a turn. */
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <string.h>

#define SEEK_BYTES (32u << 10) /* of headers at a time */
#define BESIDE_WRITES 2u       /* reads of a shard under way beside writes to the same disk */
#define WROTE_RECENTLY_NS UINT64_C(1000000000)
#define CHECK_BYTES (256u << 10) /* checked in a turn, or one batch that is larger */

static void read_step(struct plog_read_io *k);
static void read_next(struct plog *p, struct plog_read *r);

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

/* What a read in flight may come back to. */
static int read_rc(const struct plog *p, int res)
{
    if (res < 0 || p->state == PL_FENCED)
        return -E_STORAGE;
    return p->state == PL_DETACHING ? -E_UNKNOWN_TOPIC : 0;
}

static bool is_written_to(const struct set_dir *sd)
{
    uint64_t wrote = atomic_load_explicit(&sd->d->wrote_ns, memory_order_relaxed);
    return wrote != 0 && now_ns(sd->set) < wrote + WROTE_RECENTLY_NS;
}

/* Submit as many as the directory may have under way. As long as one waits, one is under way, and
 * its end comes back here. */
static void cold_go(struct set_dir *sd)
{
    uint32_t most = is_written_to(sd) ? BESIDE_WRITES : UINT32_MAX;
    while (sd->cold_reads < most && !list_is_empty(&sd->cold_wait)) {
        struct read_buf *b = container_of(list_pop_head(&sd->cold_wait), struct read_buf, link);
        sd->cold_reads++;
        sd->set->io->ops->read(b->k->s->file, &b->op, b->mem, b->len, b->at);
    }
}

static void buf_read(struct read_buf *b, uint32_t len, file_done_fn *done)
{
    struct plog_read_io *k = b->k;
    struct set_dir *sd = k->p->sd;
    b->op.done = done;
    b->len = len;
    k->s->io++;
    k->s->used_ns = now_ns(k->set);
    k->p->io++;
    list_add_tail(&sd->cold_wait, &b->link);
    cold_go(sd);
}

/* A read has ended. Its buffer is used next. */
static void buf_back(struct plog_read_io *k)
{
    k->s->io--;
    k->p->io--;
    k->p->sd->cold_reads--;
}

/* After which nothing of the read is looked at: what waited for it goes on. */
static void read_let_go(struct plog *p, struct seg *s)
{
    cold_go(p->sd);
    if (s->is_retired && s->io == 0)
        plog_seg_retire(s);
    if (p->state != PL_OPEN)
        plog_settle(p);
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
    buf_back(k);
    int rc = read_rc(p, res);
    if (rc == 0 && k->read_at + (uint64_t)res < k->pos + BATCH_HEADER_LEN)
        rc = -E_STORAGE; /* the file ends before the log does */
    /* What was not written when the read began may have come meanwhile, behind its back: the block
     * that is being filled is written again and again. */
    uint64_t known = k->seek->to - k->read_at;
    k->read_len = rc < 0 || (uint64_t)res < known ? (uint32_t)res : (uint32_t)known;
    if (rc < 0)
        disk_done(k, rc);
    else
        read_step(k);
    read_let_go(p, s);
}

static void seek_issue(struct plog_read_io *k)
{
    k->read_at = k->pos & ~(uint64_t)(FILE_BLOCK - 1);
    uint64_t n = block_end(k->s->written) - k->read_at;
    k->seek->at = k->read_at;
    k->seek->to = k->s->written;
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
        bool may_have_more = k->buf_cnt < share && list_is_empty(&k->set->read_wait) &&
                             list_is_empty(&k->p->sd->cold_wait);
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
    if (!read_at_once(p, r))
        read_next(p, r);
}

/* All that was asked for is there, or has failed. */
static void copy_done(struct plog_read_io *k)
{
    if (k->rc < 0) {
        disk_done(k, k->rc);
        return;
    }
    k->r->len = k->got;
    k->checked = k->before = 0;
    k->was_gap = false;
    k->s->io++; /* it stays until the bytes are checked */
    k->p->io++;
    list_add_tail(&k->set->read_check, &k->link);
}

static void on_copied(struct file_op *op, int res)
{
    struct read_buf *b = container_of(op, struct read_buf, op);
    struct plog_read_io *k = b->k;
    struct plog *p = k->p;
    struct seg *s = k->s;
    buf_back(k);
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
    read_let_go(p, s);
}

/* dst holds raw log bytes from the first batch on: keep whole, visible, undamaged batches. What
 * lies outside their checksums is checked against each other: offsets must ascend, and where they
 * do not, the batch behind a gap is the one that is wrong. Takes at most *budget of bytes, then
 * -EAGAIN; else 0 or the error of the answer. */
static int check_some(struct plog_read_io *k, uint32_t *budget)
{
    struct plog_read *r = k->r;
    int64_t limit = read_limit(k->p, r);
    int rc = 0;
    while (k->checked < r->len) {
        struct batch_info b;
        if (*budget == 0)
            return -EAGAIN;
        rc = batch_verify(r->dst + k->checked, r->len - k->checked, &b);
        if (rc < 0 || b.base_offset >= limit || batch_is_lost(r->dst + k->checked))
            break;
        if (b.base_offset < k->expect) {
            k->checked = k->was_gap ? k->before : k->checked;
            rc = -E_CORRUPT_BATCH;
            break;
        }
        k->was_gap = k->expect >= 0 && b.base_offset > k->expect;
        k->before = k->checked;
        k->expect = b.base_offset + b.last_offset_delta + 1;
        k->checked += b.total_len;
        *budget -= b.total_len < *budget ? b.total_len : *budget;
    }
    if (rc == -E_CORRUPT_BATCH)
        damage_seen(k, k->first_pos + k->checked, "damaged batch");
    r->len = k->checked;
    return k->checked == 0 && rc == -E_CORRUPT_BATCH ? rc : 0;
}

uint32_t reads_check(struct plog_set *set)
{
    uint32_t budget = CHECK_BYTES, n = 0;
    while (budget > 0 && !list_is_empty(&set->read_check)) {
        struct plog_read_io *k =
            container_of(list_pop_head(&set->read_check), struct plog_read_io, link);
        struct plog *p = k->p;
        struct seg *s = k->s;
        int rc = read_rc(p, 0);
        rc = rc < 0 ? rc : check_some(k, &budget);
        n++;
        if (rc == -EAGAIN) { /* the others as well, next time */
            list_add_tail(&set->read_check, &k->link);
            continue;
        }
        s->io--;
        p->io--;
        /* Which transactions of a segment were aborted is not known any more when the one in its
         * place has none of their records. */
        if (rc == 0 && s->is_retired && k->r->isolation == PLOG_READ_COMMITTED)
            read_again(k);
        else
            disk_done(k, rc);
        read_let_go(p, s);
    }
    return n;
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

static void read_begin(struct plog *p, struct plog_read *r)
{
    struct plog_set *set = p->set;
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

static bool has_room(const struct plog_set *set)
{
    return !list_is_empty(&set->read_free) && !list_is_empty(&set->buf_free);
}

/* It is r's turn. */
static void read_next(struct plog *p, struct plog_read *r)
{
    if (has_room(p->set))
        read_begin(p, r);
    else
        list_add_head(&p->set->read_wait, &r->link);
}

/* In the order they came: who waits is not passed by who comes when there is room again. */
void read_disk(struct plog *p, struct plog_read *r)
{
    struct plog_set *set = p->set;
    if (has_room(set) && list_is_empty(&set->read_wait)) {
        read_begin(p, r);
        return;
    }
    set->st.read_waits++;
    list_add_tail(&set->read_wait, &r->link);
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
    while (!list_is_empty(&set->read_wait) && has_room(set)) {
        struct plog_read *r = container_of(list_pop_head(&set->read_wait), struct plog_read, link);
        struct plog *p = plog_set_find(set, &r->topic_id, r->partition);
        if (p == NULL)
            read_finish(set, r, -E_UNKNOWN_TOPIC);
        else if (!read_at_once(p, r))
            read_next(p, r);
    }
}
