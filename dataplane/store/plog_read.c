/* plog_read.c - offset -> bytes: from the chunks still in memory, else from the segment
 * (plog_cold.c). Also parked fetches. */
#include "dataplane/store/plog_int.h"
#include "lib/batch/layout.h"
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

void read_finish(struct plog_set *set, struct plog_read *r, int rc)
{
    r->rc = rc;
    if (rc < 0)
        r->len = 0;
    set->st.read_bytes += r->len;
    list_add_tail(&set->ready_reads, &r->link);
}

void read_finish_data(const struct plog *p, struct plog_read *r, int rc)
{
    if (rc == 0 && r->len > 0 && r->isolation == PLOG_READ_COMMITTED)
        rc = aborted_collect(p, r);
    read_finish(p->set, r, rc);
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
    read_finish_data(p, r, rc);
}

/* -------------------------------------------------------------------------------------------- read
 */

int plog_state_rc(const struct plog *p)
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

int plog_epoch_check(const struct plog *p, int32_t current)
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

int64_t read_limit(const struct plog *p, const struct plog_read *r)
{
    return r->isolation == PLOG_READ_COMMITTED ? p->stable : p->durable.offset;
}

bool read_at_once(struct plog *p, struct plog_read *r)
{
    int64_t limit = read_limit(p, r);
    int rc = plog_state_rc(p);
    if (rc < 0)
        read_finish(p->set, r, rc);
    else if (r->offset >= limit)
        read_finish(p->set, r, 0);
    else if (mem_has(p, r->offset))
        read_memory(p, r, limit);
    else
        return false;
    return true;
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
    int rc = plog_epoch_check(p, r->current_leader_epoch);
    if (rc == 0 && (r->offset < p->log_start || r->offset > p->end.offset))
        rc = -E_OFFSET_OUT_OF_RANGE;
    if (rc == 0 && diverges(p, r)) {
        read_finish(p->set, r, 0);
        return;
    }
    if (rc < 0)
        read_finish(p->set, r, rc);
    else if (!read_at_once(p, r))
        read_disk(p, r);
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
    int rc = plog_state_rc(p);
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
