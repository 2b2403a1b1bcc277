/* plog_read.c - offset -> bytes: from the chunks still in memory, else from the segment by direct
 * reads through a bounded pool of bounce buffers. Also ListOffsets and parked fetches.
 *
 * A disk read:  open? --reads_opened--> SEEK (find the batch that holds the offset, by its header)
 *               --> COPY (raw bytes to dst) --> trim to whole batches, CRC of each --> done
 *
 * It begins with one buffer; COPY takes more while there are some, up to its share of the pool, so
 * that the disk has several reads at a time. Who finds no buffer at all waits: cold readers slow
 * each other down, never a writer, and nothing of this goes through the page cache. */
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------ memory
 */

struct cursor { /* a byte in the chunk chain */
    const struct plog *p;
    struct chunk *c;
    uint32_t at;
};

static void cursor_normalize(struct cursor *u)
{
    while (u->c != NULL && u->at >= u->c->used) {
        uint32_t over = u->at - u->c->used;
        bool last = u->c->link.next == &u->p->chunks;
        u->c = last ? NULL : container_of(u->c->link.next, struct chunk, link);
        if (u->c != NULL)
            u->at = u->c->from + over;
    }
}

static uint64_t cursor_lsn(const struct cursor *u)
{
    return u->c ? u->c->lsn + (u->at - u->c->from) : u->p->end.lsn;
}

static void cursor_copy(struct cursor u, uint8_t *dst, uint32_t len)
{
    while (len > 0) {
        ASSERT(u.c != NULL);
        uint32_t n = u.c->used - u.at < len ? u.c->used - u.at : len;
        memcpy(dst, u.c->buf + u.at, n);
        dst += n;
        len -= n;
        u.at += n;
        cursor_normalize(&u);
    }
}

static bool mem_has(const struct plog *p, int64_t offset)
{
    list_for_each(it, &p->chunks)
    {
        const struct chunk *c = container_of(it, struct chunk, link);
        if (c->first_batch != UINT32_MAX)
            return c->first_offset <= offset;
    }
    return false;
}

/* The batch that holds `offset` (or the first after it); its header in h. False: beyond the end. */
static bool mem_seek(const struct plog *p, int64_t offset, struct cursor *u,
                     uint8_t h[BATCH_HEADER_LEN])
{
    *u = (struct cursor){.p = p};
    for (struct list *it = p->chunks.prev; it != &p->chunks; it = it->prev) {
        struct chunk *c = container_of(it, struct chunk, link);
        if (c->first_batch == UINT32_MAX || c->first_offset > offset)
            continue;
        u->c = c;
        u->at = c->first_batch;
        break;
    }
    while (u->c != NULL) {
        cursor_copy(*u, h, BATCH_HEADER_LEN);
        if (batch_last_offset(h) >= offset)
            return true;
        u->at += batch_total_len(h);
        cursor_normalize(u);
    }
    return false;
}

/* Aborted transactions with records among the bytes of the answer. */
static int aborted_collect(const struct plog *p, struct plog_read *r)
{
    int64_t end = r->offset;
    for (uint32_t at = 0; at < r->len; at += batch_total_len(r->dst + at))
        end = batch_last_offset(r->dst + at) + 1;
    struct aborted_txns found = aborted_find(&p->part->aborted, r->offset, end);
    if (found.cnt == 0)
        return 0;
    r->aborted = malloc(found.cnt * sizeof(*r->aborted));
    if (r->aborted == NULL)
        return -E_BUSY;
    for (uint32_t i = 0; i < found.cnt; i++)
        if (found.v[i].first_offset < end)
            r->aborted[r->aborted_cnt++] = found.v[i];
    return 0;
}

static void finish(struct plog_set *set, struct plog_read *r, int rc)
{
    r->rc = rc;
    if (rc < 0)
        r->len = 0;
    set->st.read_bytes += r->len;
    list_add_tail(&set->ready_reads, &r->link);
}

static void finish_data(const struct plog *p, struct plog_read *r, int rc)
{
    if (rc == 0 && r->len > 0 && r->isolation == PLOG_READ_COMMITTED)
        rc = aborted_collect(p, r);
    finish(p->set, r, rc);
}

static void read_memory(struct plog *p, struct plog_read *r, int64_t limit)
{
    struct cursor u;
    uint8_t h[BATCH_HEADER_LEN];
    p->set->st.reads_memory++;
    int rc = 0;
    for (bool more = mem_seek(p, r->offset, &u, h); more && batch_base_offset(h) < limit;) {
        uint32_t n = batch_total_len(h);
        bool first = r->len == 0;
        if (first)
            r->need = n;
        if (r->len + n > r->max_bytes && !(first && r->min_one_batch))
            break;
        if (r->len + n > r->dst_cap) {
            rc = first ? -E_DST_SMALL : 0;
            break;
        }
        cursor_copy(u, r->dst + r->len, n);
        r->len += n;
        u.at += n;
        cursor_normalize(&u);
        more = u.c != NULL;
        if (more)
            cursor_copy(u, h, sizeof(h));
    }
    finish_data(p, r, rc);
}

/* -------------------------------------------------------------------------------------------- disk
 */

#define SEEK_BYTES (32u << 10) /* of headers at a time */

static void read_step(struct plog_read_io *k);
static void read_start(struct plog *p, struct plog_read *r);

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
    finish_data(p, r, rc);
}

static int64_t read_limit(const struct plog *p, const struct plog_read *r)
{
    return r->isolation == PLOG_READ_COMMITTED ? p->stable : p->durable.offset;
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

static void read_disk(struct plog *p, struct plog_read *r)
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
            finish(set, r, -E_UNKNOWN_TOPIC);
        else
            read_start(p, r);
    }
}

/* -------------------------------------------------------------------------------------------- read
 */

static int state_rc(const struct plog *p)
{
    switch (p->state) {
    case PL_OPEN:
        return 0;
    case PL_FENCED:
        return -E_STORAGE;
    case PL_CLOSING:
    case PL_CLOSED:
        return -E_NOT_OWNER;
    case PL_DETACHING:
        return -E_UNKNOWN_TOPIC;
    }
    return -E_STORAGE;
}

static int epoch_check(const struct plog *p, int32_t current)
{
    if (current < 0 || current == p->leader_epoch)
        return 0;
    return current < p->leader_epoch ? -E_FENCED_LEADER_EPOCH : -E_UNKNOWN_LEADER_EPOCH;
}

/* KIP-595: the reader's last epoch must not have ended before its offset. */
static bool diverges(const struct plog *p, struct plog_read *r)
{
    int32_t epoch;
    int64_t end;
    if (r->last_fetched_epoch < 0)
        return false;
    epochs_end_offset(&p->part->epochs, r->last_fetched_epoch, p->durable.offset, &epoch, &end);
    if (epoch == r->last_fetched_epoch && end >= r->offset)
        return false;
    if (end < 0) /* nothing known of it: only an epoch above ours is a divergence */
        return false;
    r->diverging_epoch = epoch;
    r->diverging_end_offset = end;
    return true;
}

static void read_start(struct plog *p, struct plog_read *r)
{
    int64_t limit = read_limit(p, r);
    int rc = state_rc(p);
    if (rc < 0)
        finish(p->set, r, rc);
    else if (r->offset >= limit)
        finish(p->set, r, 0);
    else if (mem_has(p, r->offset))
        read_memory(p, r, limit);
    else
        read_disk(p, r);
}

void plog_read(struct plog *p, struct plog_read *r)
{
    r->topic_id = p->part->topic_id;
    r->partition = p->part->partition;
    r->io = NULL;
    r->len = r->need = 0;
    r->high_watermark = p->durable.offset;
    r->last_stable_offset = p->stable;
    r->aborted = NULL;
    r->aborted_cnt = 0;
    r->log_start_offset = p->log_start;
    r->diverging_epoch = -1;
    r->diverging_end_offset = -1;
    r->damaged_to = -1;
    int rc = epoch_check(p, r->current_leader_epoch);
    if (rc == 0 && (r->offset < p->log_start || r->offset > p->end.offset))
        rc = -E_OFFSET_OUT_OF_RANGE;
    if (rc == 0 && diverges(p, r)) {
        finish(p->set, r, 0);
        return;
    }
    if (rc < 0)
        finish(p->set, r, rc);
    else
        read_start(p, r);
}

/* ------------------------------------------------------------------------------------------- waits
 */

#define START_ANYWHERE UINT64_MAX /* plog_wait.start_bytes: bytes do not count */

static bool wait_is_over(const struct plog *p, const struct plog_wait *w)
{
    uint64_t min = w->min_bytes ? w->min_bytes : 1;
    if (w->min_bytes == PLOG_WAIT_GONE)
        return false;
    if (w->isolation == PLOG_READ_COMMITTED && p->stable <= w->offset)
        return false;
    if (w->start_bytes == START_ANYWHERE)
        return true;
    return p->durable.offset > w->offset && p->durable.lsn >= w->start_bytes + min;
}

static void wait_end(struct plog *p, struct plog_wait *w, int rc)
{
    w->rc = rc;
    list_add_tail(&p->set->ready_waits, &w->link);
}

void plog_wait(struct plog *p, struct plog_wait *w)
{
    struct cursor u;
    uint8_t h[BATCH_HEADER_LEN];
    w->topic_id = p->part->topic_id;
    w->partition = p->part->partition;
    int rc = state_rc(p);
    if (rc < 0 && rc != -E_STORAGE) { /* a fenced partition comes back */
        wait_end(p, w, rc);
        return;
    }
    if (w->min_bytes != PLOG_WAIT_GONE && w->isolation == PLOG_READ_COMMITTED &&
        p->stable <= w->offset && p->stable < p->end.offset)
        w->start_bytes = START_ANYWHERE; /* behind an open transaction: any move of it counts */
    else if (w->offset >= p->end.offset || w->min_bytes == PLOG_WAIT_GONE)
        w->start_bytes = p->end.lsn;
    else if (mem_has(p, w->offset) && mem_seek(p, w->offset, &u, h))
        w->start_bytes = cursor_lsn(&u);
    else { /* so far back that there is enough */
        wait_end(p, w, 0);
        return;
    }
    if (wait_is_over(p, w))
        wait_end(p, w, 0);
    else
        list_add_tail(&p->waits, &w->link);
}

void plog_wait_cancel(struct plog_wait *w)
{
    if (list_is_linked(&w->link))
        list_del(&w->link);
}

void waits_fire(struct plog *p)
{
    list_for_each_safe(it, tmp, &p->waits)
    {
        struct plog_wait *w = container_of(it, struct plog_wait, link);
        if (!wait_is_over(p, w))
            continue;
        list_del(it);
        wait_end(p, w, 0);
    }
}

void waits_fail_all(struct plog *p, int rc)
{
    for (struct list *n = list_pop_head(&p->waits); n; n = list_pop_head(&p->waits))
        wait_end(p, container_of(n, struct plog_wait, link), rc);
}

/* ------------------------------------------------------------------------------------- ListOffsets
 */

#define LOOKUP_BYTES (1u << 20)
#define LOOKUP_SCRATCH_MAX (64u << 20)

/* Look-up by time: reads batches from where the time index says, until one has a record late
 * enough. One request may ask for thousands: LOOKUPS_MAX are under way, the rest stand in line and
 * hold nothing. What is inflated goes to one buffer of the set, as it is used within a call. */
struct lookup {
    struct plog_read r;
    struct plog_list_offsets *q;
    struct plog_set *set;
    int64_t ts, limit;
    uint8_t *buf;
};

static void list_done(struct plog_set *set, struct plog_list_offsets *q, int rc)
{
    q->rc = rc;
    list_add_tail(&set->ready_lists, &q->link);
}

static void lookup_by_time(struct plog *p, struct plog_list_offsets *q);

static void lookup_end(struct lookup *l, int rc)
{
    struct plog_set *set = l->set;
    list_done(set, l->q, rc);
    free(l->buf);
    free(l);
    set->lookup_cnt--;
    while (set->lookup_cnt < LOOKUPS_MAX && !list_is_empty(&set->lookup_wait)) {
        struct plog_list_offsets *q =
            container_of(list_pop_head(&set->lookup_wait), struct plog_list_offsets, link);
        struct plog *p = plog_set_find(set, &q->topic_id, q->partition);
        if (p == NULL)
            list_done(set, q, -E_UNKNOWN_TOPIC);
        else
            lookup_by_time(p, q);
    }
}

/* First record of the batch with a timestamp >= ts. 1: found, 0: none (the header promised too
 * much). */
static int record_find(struct lookup *l, struct span batch, const struct batch_info *b)
{
    struct plog_list_offsets *q = l->q;
    if (b->attributes & BATCH_ATTR_LOG_APPEND_TIME) { /* one time for all */
        q->offset = b->base_offset;
        q->ret_timestamp = b->max_timestamp;
        return 1;
    }
    struct plog_set *set = l->set;
    struct record_iter it;
    bool packed = (b->attributes & BATCH_ATTR_CODEC) != 0;
    if (packed && set->lookup_scratch == NULL) /* pages are touched only as far as needed */
        set->lookup_scratch = malloc(LOOKUP_SCRATCH_MAX);
    if (packed && set->lookup_scratch == NULL)
        return -E_BUSY;
    int rc = record_iter_init(&it, set->shard->codecs, batch, set->lookup_scratch,
                              packed ? LOOKUP_SCRATCH_MAX : 0);
    struct record_view v;
    int found = 0;
    while (rc >= 0 && found == 0 && (rc = record_iter_next(&it, &v)) == 1) {
        if (v.timestamp < l->ts)
            continue;
        q->offset = v.offset;
        q->ret_timestamp = v.timestamp;
        found = 1;
    }
    return rc < 0 ? rc : found;
}

static void lookup_read(struct lookup *l);

static void lookup_done(struct plog_read *r)
{
    struct lookup *l = container_of(r, struct lookup, r);
    int64_t next = r->offset;
    if (r->rc == -E_DST_SMALL) {
        uint8_t *b = realloc(l->buf, r->need);
        if (b == NULL) {
            lookup_end(l, -E_BUSY);
            return;
        }
        l->buf = r->dst = b;
        r->dst_cap = r->need;
        lookup_read(l);
        return;
    }
    if (r->rc == -E_CORRUPT_BATCH && r->damaged_to > r->offset) { /* no time is known of those */
        next = r->damaged_to;
        r->rc = next < l->limit ? 0 : r->rc;
    }
    if (r->rc < 0) {
        lookup_end(l, r->rc);
        return;
    }
    for (uint32_t at = 0; at < r->len;) {
        struct batch_info b;
        int rc = batch_header_read(r->dst + at, r->len - at, &b);
        if (rc < 0 || b.base_offset >= l->limit) {
            lookup_end(l, rc < 0 ? rc : 0);
            return;
        }
        if (b.max_timestamp >= l->ts) {
            rc = record_find(l, span_of(r->dst + at, b.total_len), &b);
            if (rc != 0) {
                l->q->leader_epoch = b.leader_epoch;
                lookup_end(l, rc < 0 ? rc : 0);
                return;
            }
        }
        next = b.base_offset + b.last_offset_delta + 1;
        at += b.total_len;
    }
    if (next == r->offset || next >= l->limit) { /* nothing that late: offset stays -1 */
        lookup_end(l, 0);
        return;
    }
    r->offset = next;
    lookup_read(l);
}

static void lookup_read(struct lookup *l)
{
    struct plog *p = plog_set_find(l->set, &l->q->topic_id, l->q->partition);
    if (p == NULL) {
        lookup_end(l, -E_UNKNOWN_TOPIC);
        return;
    }
    if (l->r.offset < p->log_start)
        l->r.offset = p->log_start;
    plog_read(p, &l->r);
}

static void lookup_start(struct plog *p, struct plog_list_offsets *q, int64_t ts)
{
    struct seg *s = NULL;
    for (uint32_t i = 0; i < p->seg_cnt && s == NULL; i++)
        if (p->segs[i]->ix.max_ts >= ts)
            s = p->segs[i];
    if (s == NULL) {
        list_done(p->set, q, 0);
        return;
    }
    struct lookup *l = calloc(1, sizeof(*l));
    uint8_t *buf = malloc(LOOKUP_BYTES);
    if (l == NULL || buf == NULL) {
        free(l);
        free(buf);
        list_done(p->set, q, -E_BUSY);
        return;
    }
    /* Without the index in memory the scan starts at the segment's first batch. */
    int64_t from = s->has_index ? seg_index_ts_offset(&s->ix, ts) : s->base;
    int64_t limit = q->isolation == PLOG_READ_COMMITTED ? p->stable : p->durable.offset;
    *l = (struct lookup){.q = q, .set = p->set, .ts = ts, .limit = limit, .buf = buf};
    l->r = (struct plog_read){.offset = from,
                              .current_leader_epoch = -1,
                              .last_fetched_epoch = -1,
                              .max_bytes = LOOKUP_BYTES,
                              .min_one_batch = true,
                              .dst = buf,
                              .dst_cap = LOOKUP_BYTES,
                              .done = lookup_done};
    p->set->lookup_cnt++;
    lookup_read(l);
}

static void lookup_by_time(struct plog *p, struct plog_list_offsets *q)
{
    struct plog_set *set = p->set;
    if (set->lookup_cnt >= LOOKUPS_MAX) {
        list_add_tail(&set->lookup_wait, &q->link);
        return;
    }
    int64_t ts = q->timestamp;
    for (uint32_t i = 0; q->timestamp == -3 && i < p->seg_cnt; i++) /* the largest there is */
        if (p->segs[i]->ix.max_ts > ts)
            ts = p->segs[i]->ix.max_ts;
    if (ts < 0)
        list_done(set, q, 0);
    else
        lookup_start(p, q, ts);
}

void plog_list_offsets(struct plog *p, struct plog_list_offsets *q)
{
    q->topic_id = p->part->topic_id;
    q->partition = p->part->partition;
    q->offset = q->ret_timestamp = -1;
    q->leader_epoch = p->leader_epoch;
    int rc = state_rc(p);
    if (rc == 0)
        rc = epoch_check(p, q->current_leader_epoch);
    if (rc < 0) {
        list_done(p->set, q, rc);
        return;
    }
    switch (q->timestamp) {
    case -1: /* latest */
        q->offset = q->isolation == PLOG_READ_COMMITTED ? p->stable : p->durable.offset;
        break;
    case -2: /* earliest */
    case -4: /* earliest local */
    case -6: /* earliest not uploaded: nothing is */
        q->offset = p->log_start;
        q->leader_epoch = epochs_at(&p->part->epochs, p->log_start);
        break;
    case -5: /* latest uploaded: none */
        q->leader_epoch = -1;
        break;
    case -3: /* the record with the largest timestamp */
        q->leader_epoch = -1;
        lookup_by_time(p, q);
        return;
    default:
        if (q->timestamp < 0) {
            list_done(p->set, q, -E_UNSUPPORTED_VERSION);
            return;
        }
        q->leader_epoch = -1;
        lookup_by_time(p, q);
        return;
    }
    list_done(p->set, q, 0);
}
