/* timer.h - timer wheel driven by the caller's clock; deterministic, no allocation after creation.
 * Runs on: the owning thread. A timer is the caller's memory and must be cancelled before it goes.
 */
#pragma once
#include "lib/base/err.h"
#include "lib/base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct timer_wheel;
struct timer;
typedef void timer_fn(struct timer *t, uint64_t now_ns);
struct timer {
    struct list link;
    uint64_t deadline_ns;
    timer_fn *fn;
};
NODISCARD int timer_wheel_create(uint64_t now_ns, struct timer_wheel **ret);
void timer_wheel_destroy(struct timer_wheel *w);
static inline bool timer_is_armed(const struct timer *t)
{
    return t->link.next != NULL;
}
/* (Re)arm: fires once, at the first poll with now >= deadline (resolution about 1 ms). */
void timer_arm(struct timer_wheel *w, struct timer *t, uint64_t deadline_ns, timer_fn *fn);
void timer_cancel(struct timer_wheel *w, struct timer *t);
/* Fire what is due, at most budget; count fired. fn may arm and cancel timers. */
uint32_t timer_poll(struct timer_wheel *w, uint64_t now_ns, uint32_t budget);
/* Earliest time at which poll may have work; UINT64_MAX: none. Never later than the true one. */
uint64_t timer_next(const struct timer_wheel *w);
