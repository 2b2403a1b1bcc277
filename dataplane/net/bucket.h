/* bucket.h - a token bucket that is one number, the time at which it will be full again (the
 * generic cell rate algorithm, ITU-T I.371): each item adds 1/rate to it and is refused while it
 * lies more than the burst ahead. Times are in sixteenths of a nanosecond, so that the interval of
 * a high rate is exact to a percent of a percent. Runs on: any thread; a bucket belongs to one,
 * unless it is taken from by bucket_take_shared only. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUCKET_TICKS_PER_NS 16u

struct bucket_rate {
    uint64_t interval, ahead_max; /* of one item; how far a bucket's time may lie ahead */
};
/* rate items a second, burst items at once; both at least 1. */
static inline struct bucket_rate bucket_rate(uint32_t rate, uint32_t burst)
{
    uint64_t interval = UINT64_C(1000000000) * BUCKET_TICKS_PER_NS / rate;
    return (struct bucket_rate){interval, interval * (burst - 1)};
}

/* Takes one out of the bucket that is full at *full_at (0: now); false: it is empty. */
static inline bool bucket_take(const struct bucket_rate *r, uint64_t now_ns, uint64_t *full_at)
{
    uint64_t now = now_ns * BUCKET_TICKS_PER_NS, from = *full_at > now ? *full_at : now;
    if (from - now > r->ahead_max)
        return false;
    *full_at = from + r->interval;
    return true;
}

/* A share of a thread's time for work whose cost is known afterwards: at most 1 / BUCKET_SHARE of
 * it, and BUCKET_SHARE_AT_ONCE_NS at a time. *free_at (0: now) is when the work done is paid for.
 */
#define BUCKET_SHARE 20u
#define BUCKET_SHARE_AT_ONCE_NS 10000000u
static inline bool bucket_share_has(uint64_t free_at, uint64_t now_ns)
{
    return free_at < now_ns + BUCKET_SHARE_AT_ONCE_NS * BUCKET_SHARE;
}
static inline void bucket_share_pay(uint64_t *free_at, uint64_t now_ns, uint64_t cost_ns)
{
    *free_at = (*free_at > now_ns ? *free_at : now_ns) + cost_ns * BUCKET_SHARE;
}

/* bucket_take for a bucket that other threads take from at this moment. */
static inline bool bucket_take_shared(const struct bucket_rate *r, uint64_t now_ns,
                                      _Atomic uint64_t *full_at)
{
    uint64_t old = atomic_load_explicit(full_at, memory_order_relaxed), next;
    do {
        next = old;
        if (!bucket_take(r, now_ns, &next))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(full_at, &old, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}
