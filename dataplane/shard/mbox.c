/* mbox.c - single-producer single-consumer rings of pointers, and the sleep protocol.
 *
 * One ring per ordered pair of endpoints, a ring from an endpoint to itself included. A ring's
 * sender side and receiver side lie on different cache lines; each side keeps a copy of the other
 * one's position and reads the real one only when the copy says full, or empty.
 *
 * Atomics, in pairs:
 *   P1 tail  release in ring_push       pairs with P2 acquire in ring_has/ring_pop: the message's
 *                                       contents are visible before its pointer is
 *   C1 head  release in ring_pop        pairs with C2 acquire in ring_push: the slot was read
 * before it is written again S1 tail (seq_cst store in ring_push), then S2 asleep (seq_cst load in
 * wake): sender R1 asleep (seq_cst store in mbox_sleep_prepare), then R2 tail (seq_cst load in
 * ring_has): receiver In the single order of these four, either S1 is before R2, and the receiver
 * sees the message and stays awake, or R1 is before S2, and the sender sees a sleeper and writes
 * its eventfd. */
#include "dataplane/shard/mbox.h"
#include "lib/base/assert.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CACHE_LINE 64

struct ring {
    /* sender's line */
    _Alignas(CACHE_LINE) _Atomic uint32_t tail;
    uint32_t head_seen;
    /* receiver's line */
    _Alignas(CACHE_LINE) _Atomic uint32_t head;
    uint32_t tail_seen;
    /* both, never written after creation */
    _Alignas(CACHE_LINE) uint32_t mask;
    struct msg **slots;
};
_Static_assert(offsetof(struct ring, head) - offsetof(struct ring, tail) >= CACHE_LINE,
               "sender and receiver write different cache lines");

struct mbox {
    /* written by senders too */
    _Alignas(CACHE_LINE) _Atomic uint32_t asleep;
    /* the endpoint's own */
    _Alignas(CACHE_LINE) struct mbox_net *net;
    uint16_t id, first; /* first: whose ring is looked at first in the next poll */
    int wake_fd;
    uint32_t overflow_cnt;
    uint64_t handled;
    struct list *overflow; /* by receiver */
};

struct mbox_net {
    uint16_t cnt;
    struct mbox *boxes;
    struct ring *rings; /* [from * cnt + to] */
    struct msg **slots;
};

static struct ring *ring_of(struct mbox_net *n, uint16_t from, uint16_t to)
{
    return &n->rings[(size_t)from * n->cnt + to];
}

/* ------------------------------------------------------------------------------------------ rings
 */

static bool ring_push(struct ring *r, struct msg *m)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail - r->head_seen > r->mask) {
        r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire); /* C2 */
        if (tail - r->head_seen > r->mask)
            return false;
    }
    r->slots[tail & r->mask] = m;
    atomic_store_explicit(&r->tail, tail + 1, memory_order_seq_cst); /* P1, S1 */
    return true;
}

/* Messages in the ring right now, for its receiver. */
static uint32_t ring_has(struct ring *r)
{
    r->tail_seen = atomic_load_explicit(&r->tail, memory_order_seq_cst); /* P2, R2 */
    return r->tail_seen - atomic_load_explicit(&r->head, memory_order_relaxed);
}

/* The ring must have one (ring_has). */
static struct msg *ring_pop(struct ring *r)
{
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    DASSERT(head != r->tail_seen);
    struct msg *m = r->slots[head & r->mask];
    atomic_store_explicit(&r->head, head + 1, memory_order_release); /* C1 */
    return m;
}

/* --------------------------------------------------------------------------------- create, destroy
 */

int mbox_net_create(uint16_t endpoint_cnt, uint32_t ring_cap, struct mbox_net **ret)
{
    ASSERT(endpoint_cnt > 0 && endpoint_cnt <= MBOX_ENDPOINTS_MAX);
    ASSERT(ring_cap > 0 && (ring_cap & (ring_cap - 1)) == 0);
    size_t ring_cnt = (size_t)endpoint_cnt * endpoint_cnt;
    int rc = -ENOMEM;
    struct mbox_net *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return rc;
    n->cnt = endpoint_cnt;
    n->boxes = aligned_alloc(CACHE_LINE, endpoint_cnt * sizeof(*n->boxes));
    n->rings = aligned_alloc(CACHE_LINE, ring_cnt * sizeof(*n->rings));
    n->slots = calloc(ring_cnt * ring_cap, sizeof(*n->slots));
    if (n->boxes == NULL || n->rings == NULL || n->slots == NULL)
        goto undo;
    memset(n->rings, 0, ring_cnt * sizeof(*n->rings));
    memset(n->boxes, 0, endpoint_cnt * sizeof(*n->boxes));
    for (size_t i = 0; i < ring_cnt; i++) {
        n->rings[i].mask = ring_cap - 1;
        n->rings[i].slots = n->slots + i * ring_cap;
    }
    for (uint16_t i = 0; i < endpoint_cnt; i++)
        n->boxes[i] = (struct mbox){.net = n, .id = i, .wake_fd = -1};
    for (uint16_t i = 0; i < endpoint_cnt; i++) {
        struct mbox *mb = &n->boxes[i];
        mb->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (mb->wake_fd < 0) {
            rc = -errno;
            goto undo;
        }
        mb->overflow = malloc(endpoint_cnt * sizeof(*mb->overflow));
        if (mb->overflow == NULL)
            goto undo;
        for (uint16_t to = 0; to < endpoint_cnt; to++)
            list_init(&mb->overflow[to]);
    }
    *ret = n;
    return 0;
undo:
    mbox_net_destroy(n);
    return rc;
}

void mbox_net_destroy(struct mbox_net *n)
{
    if (n == NULL)
        return;
    for (uint16_t i = 0; n->boxes != NULL && i < n->cnt; i++) {
        if (n->boxes[i].wake_fd >= 0)
            close(n->boxes[i].wake_fd);
        free(n->boxes[i].overflow);
    }
    free(n->boxes);
    free(n->rings);
    free(n->slots);
    free(n);
}

struct mbox *mbox_of(struct mbox_net *n, uint16_t endpoint)
{
    ASSERT(endpoint < n->cnt);
    return &n->boxes[endpoint];
}

/* ---------------------------------------------------------------------------------------- sending
 */

/* @hot ends: once per sleep of the receiver. The first sender that finds it asleep wakes it; the
 * others see that it was done. */
static void wake(struct mbox *to)
{
    if (atomic_load_explicit(&to->asleep, memory_order_seq_cst) == 0) /* S2 */
        return;
    if (atomic_exchange_explicit(&to->asleep, 0, memory_order_relaxed) != 0)
        (void)eventfd_write(to->wake_fd, 1); /* cannot fail below 2^64 - 1 unread wake-ups */
}

static void post(struct mbox *mb, uint16_t to, struct msg *m)
{
    ASSERT(to < mb->net->cnt);
    ASSERT(m->type < MSG_CNT);
    /* Behind what waits already, or order would be lost. */
    if (!list_is_empty(&mb->overflow[to]) || !ring_push(ring_of(mb->net, mb->id, to), m)) {
        list_add_tail(&mb->overflow[to], &m->link);
        mb->overflow_cnt++;
        return;
    }
    if (to != mb->id)
        wake(&mb->net->boxes[to]);
}

void mbox_send(struct mbox *mb, uint16_t to, struct msg *m)
{
    m->origin = mb->id;
    m->is_reply = 0;
    m->rc = 0;
    post(mb, to, m);
}

void msg_reply(struct mbox *mb, struct msg *m, int rc)
{
    ASSERT(!m->is_reply);
    m->is_reply = 1;
    m->rc = rc;
    post(mb, m->origin, m);
}

static void overflow_flush(struct mbox *mb)
{
    for (uint16_t to = 0; to < mb->net->cnt; to++) {
        struct list *q = &mb->overflow[to];
        bool sent = false;
        while (!list_is_empty(q)) {
            struct msg *m = container_of(q->next, struct msg, link);
            list_del(&m->link); /* before the push: from then on it is the receiver's */
            if (!ring_push(ring_of(mb->net, mb->id, to), m)) {
                list_add_head(q, &m->link);
                break;
            }
            mb->overflow_cnt--;
            sent = true;
        }
        if (sent && to != mb->id)
            wake(&mb->net->boxes[to]);
    }
}

/* -------------------------------------------------------------------------------------- receiving
 */

static void deliver(struct shard *s, struct msg *m)
{
    const struct msg_handlers *h = &msg_handlers[m->type];
    msg_fn *fn = m->is_reply ? h->reply : h->request;
    ASSERT(fn != NULL);
    fn(s, m);
}

uint32_t mbox_poll(struct mbox *mb, struct shard *s, uint32_t budget)
{
    uint16_t cnt = mb->net->cnt;
    if (mb->overflow_cnt > 0)
        overflow_flush(mb);
    /* What handlers send to this very endpoint from now on is for a later poll. */
    uint32_t own = ring_has(ring_of(mb->net, mb->id, mb->id));
    uint32_t done = 0;
    for (uint16_t i = 0; i < cnt && done < budget; i++) {
        uint16_t from = (uint16_t)((mb->first + i) % cnt);
        struct ring *r = ring_of(mb->net, from, mb->id);
        uint32_t has = from == mb->id ? own : ring_has(r);
        uint32_t n = has < budget - done ? has : budget - done;
        for (uint32_t k = 0; k < n; k++)
            deliver(s, ring_pop(r));
        done += n;
    }
    mb->first = (uint16_t)((mb->first + 1) % cnt);
    mb->handled += done;
    return done;
}

/* ---------------------------------------------------------------------------------------- sleeping
 */

bool mbox_sleep_prepare(struct mbox *mb)
{
    if (mb->overflow_cnt > 0)
        return false;
    atomic_store_explicit(&mb->asleep, 1, memory_order_seq_cst); /* R1 */
    for (uint16_t from = 0; from < mb->net->cnt; from++) {
        if (ring_has(ring_of(mb->net, from, mb->id)) > 0) {
            atomic_store_explicit(&mb->asleep, 0, memory_order_relaxed);
            return false;
        }
    }
    return true;
}

/* A sender that cleared `asleep` may still be on its way to the eventfd: its write then ends the
 * next sleep early, which is harmless. */
void mbox_sleep_done(struct mbox *mb)
{
    eventfd_t ignored;
    atomic_store_explicit(&mb->asleep, 0, memory_order_relaxed);
    (void)eventfd_read(mb->wake_fd, &ignored); /* -EAGAIN: woken by something else */
}

int mbox_wake_fd(struct mbox *mb)
{
    return mb->wake_fd;
}

uint32_t mbox_overflow_cnt(const struct mbox *mb)
{
    return mb->overflow_cnt;
}

uint64_t mbox_handled(const struct mbox *mb)
{
    return mb->handled;
}
