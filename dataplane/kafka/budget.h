/* budget.h - a bounded number of bytes that requests or responses of a shard may hold.
 *
 * Who asks while nobody waits and gets its bytes goes on; who does not, waits in line (first come,
 * first served: a large request is not starved by small ones). budget_release serves the line.
 * Also here: kbuf, a transport buffer whose bytes are charged to a budget until its last reference
 * is gone.
 * Runs on: the owning shard. Never blocks; memory comes from malloc, bounded by the budget. */
#pragma once
#include "dataplane/net/transport.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint64_t cap, used;
    struct list waiters;
    uint64_t wait_cnt; /* how often somebody had to wait */
};
struct budget_waiter {
    struct list link;
    uint64_t need;
    /* The bytes are charged now. Called inside budget_release: must only note the fact. */
    void (*granted)(struct budget_waiter *w);
};

void budget_init(struct budget *b, uint64_t cap);
/* Charge n bytes if nobody waits and they fit. n == 0 always succeeds. */
bool budget_try(struct budget *b, uint64_t n);
/* Charge n bytes although they may not fit: for what is already bounded otherwise (decoded
 * requests, small responses). Those who come after wait until it is gone again. */
void budget_charge(struct budget *b, uint64_t n);
/* Stand in line for n <= cap bytes. w is the caller's until granted or budget_cancel. */
void budget_wait(struct budget *b, struct budget_waiter *w, uint64_t n);
static inline bool budget_is_waiting(const struct budget_waiter *w)
{
    return w->link.next != NULL;
}
/* Leave the line; fine when not in it. */
void budget_cancel(struct budget *b, struct budget_waiter *w);
void budget_release(struct budget *b, uint64_t n);

/* A reference-counted buffer of its own memory. `charge` bytes go back to `budget` with the last
 * reference. Sent bytes may outlive the request that made them; the budget must outlive them. */
struct kbuf {
    struct buf buf;
    struct budget *budget;
    uint64_t charge;
    uint8_t data[];
};
/* One reference, cap bytes (not zeroed), already charged by the caller for `charge` bytes; NULL
 * when memory is out, and then the charge stays the caller's. */
struct kbuf *kbuf_create(uint16_t shard, struct budget *b, uint32_t cap, uint64_t charge);
/* Cut to len bytes and give back the rest, memory and charge. Only while nobody else holds a
 * reference; the buffer may move: use what is returned. */
struct kbuf *kbuf_shrink(struct kbuf *kb, uint32_t len);
/* NULL is fine. */
static inline void kbuf_put(struct kbuf *kb)
{
    if (kb != NULL)
        buf_put(&kb->buf);
}
