/* budget.c - bytes in, bytes out, and the line between. Invariant: when the line is not empty its
 * head did not fit at the last release, so nobody behind it is served before it. */
#include "dataplane/kafka/budget.h"
#include "lib/base/assert.h"
#include <stdlib.h>

void budget_init(struct budget *b, uint64_t cap)
{
    *b = (struct budget){.cap = cap};
    list_init(&b->waiters);
}

bool budget_try(struct budget *b, uint64_t n)
{
    if (n == 0)
        return true;
    if (!list_is_empty(&b->waiters) || b->used + n > b->cap)
        return false;
    b->used += n;
    return true;
}

void budget_charge(struct budget *b, uint64_t n)
{
    b->used += n;
}

void budget_wait(struct budget *b, struct budget_waiter *w, uint64_t n)
{
    ASSERT(n <= b->cap);
    ASSERT(!budget_is_waiting(w));
    w->need = n;
    list_add_tail(&b->waiters, &w->link);
    b->wait_cnt++;
}

static void budget_serve(struct budget *b)
{
    while (!list_is_empty(&b->waiters)) {
        struct budget_waiter *w = container_of(b->waiters.next, struct budget_waiter, link);
        if (b->used + w->need > b->cap)
            return;
        b->used += w->need;
        list_del(&w->link);
        w->granted(w);
    }
}

void budget_cancel(struct budget *b, struct budget_waiter *w)
{
    if (!budget_is_waiting(w))
        return;
    list_del(&w->link);
    budget_serve(b); /* it may have been the one that blocked the others */
}

void budget_release(struct budget *b, uint64_t n)
{
    ASSERT(b->used >= n);
    b->used -= n;
    budget_serve(b);
}

static void kbuf_drop(struct buf *buf)
{
    struct kbuf *kb = container_of(buf, struct kbuf, buf);
    struct budget *b = kb->budget;
    uint64_t charge = kb->charge;
    free(kb);
    budget_release(b, charge);
}

struct kbuf *kbuf_create(uint16_t shard, struct budget *b, uint32_t cap, uint64_t charge)
{
    struct kbuf *kb = (struct kbuf *)malloc(sizeof(*kb) + cap);
    if (kb == NULL)
        return NULL;
    kb->buf = (struct buf){.refs = 1, .owner = shard, .base = kb->data, .cap = cap};
    kb->buf.drop = kbuf_drop;
    kb->budget = b;
    kb->charge = charge;
    return kb;
}

struct kbuf *kbuf_shrink(struct kbuf *kb, uint32_t len)
{
    ASSERT(kb->buf.refs == 1);
    ASSERT(len <= kb->buf.cap);
    struct kbuf *small = (struct kbuf *)realloc(kb, sizeof(*kb) + len);
    if (small == NULL) /* the larger one is still good */
        return kb;
    small->buf.base = small->data;
    small->buf.cap = len;
    if (small->charge > len) {
        uint64_t back = small->charge - len;
        small->charge = len;
        budget_release(small->budget, back);
    }
    return small;
}
