/* timer.c - hierarchical timer wheel: 8 levels of 64 slots, one tick = 1 ms.
 *
 * The tick of a deadline is a number of 8 base-64 digits (48 bits: all of 64-bit nanoseconds). A
 * timer stands at the level of the highest digit in which its tick differs from the wheel's, in the
 * slot named by that digit. So:
 *   - every occupied slot of a level lies above the wheel's own digit there (its tick is to come);
 *   - everything at a lower level is due before anything at a higher one;
 *   - the next work is the lowest occupied slot of the lowest occupied level: one ctz, and a long
 *     sleep costs nothing to catch up with.
 * When the wheel reaches the first tick of a slot at level > 0, its timers move down. */
#include "lib/base/timer.h"
#include "lib/base/assert.h"

enum { LEVELS = 8, SLOT_BITS = 6, SLOTS = 1 << SLOT_BITS, SLOT_MASK = SLOTS - 1 };
#define TICK_NS UINT64_C(1000000)
#define TICK_NONE UINT64_MAX

struct timer_wheel {
    uint64_t tick;             /* reached by the last poll */
    uint64_t occupied[LEVELS]; /* bit s: slot[level][s] is not empty */
    struct list due;           /* tick reached, not fired yet (budget), in order */
    struct list slot[LEVELS][SLOTS];
};

int timer_wheel_create(uint64_t now_ns, struct timer_wheel **ret)
{
    struct timer_wheel *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    w->tick = now_ns / TICK_NS;
    list_init(&w->due);
    for (int l = 0; l < LEVELS; l++)
        for (int s = 0; s < SLOTS; s++)
            list_init(&w->slot[l][s]);
    *ret = w;
    return 0;
}

void timer_wheel_destroy(struct timer_wheel *w)
{
    free(w);
}

/* Round up: a timer never fires before its deadline. */
static uint64_t tick_of(uint64_t deadline_ns)
{
    return deadline_ns / TICK_NS + (deadline_ns % TICK_NS != 0);
}

static void wheel_insert(struct timer_wheel *w, struct timer *t)
{
    uint64_t tick = tick_of(t->deadline_ns);
    if (tick <= w->tick) {
        list_add_tail(&w->due, &t->link);
        return;
    }
    int level = (63 - __builtin_clzll(tick ^ w->tick)) / SLOT_BITS;
    uint32_t s = (uint32_t)(tick >> (level * SLOT_BITS)) & SLOT_MASK;
    DASSERT(level < LEVELS);
    list_add_tail(&w->slot[level][s], &t->link);
    w->occupied[level] |= UINT64_C(1) << s;
}

void timer_cancel(struct timer_wheel *w, struct timer *t)
{
    if (!timer_is_armed(t))
        return;
    struct list *head = t->link.next == t->link.prev ? t->link.next : NULL; /* alone in its list */
    list_del(&t->link);
    if (head >= &w->slot[0][0] && head <= &w->slot[LEVELS - 1][SLOT_MASK]) {
        size_t at = (size_t)(head - &w->slot[0][0]);
        w->occupied[at / SLOTS] &= ~(UINT64_C(1) << at % SLOTS);
    }
}

void timer_arm(struct timer_wheel *w, struct timer *t, uint64_t deadline_ns, timer_fn *fn)
{
    timer_cancel(w, t);
    t->deadline_ns = deadline_ns;
    t->fn = fn;
    wheel_insert(w, t);
}

/* First tick of the next occupied slot, and where it is. */
static uint64_t next_slot(const struct timer_wheel *w, int *ret_level, uint32_t *ret_slot)
{
    for (int l = 0; l < LEVELS; l++) {
        if (w->occupied[l] == 0)
            continue;
        uint32_t s = (uint32_t)__builtin_ctzll(w->occupied[l]);
        uint64_t above = w->tick >> ((l + 1) * SLOT_BITS) << ((l + 1) * SLOT_BITS);
        *ret_level = l;
        *ret_slot = s;
        return above | (uint64_t)s << (l * SLOT_BITS);
    }
    return TICK_NONE;
}

/* Move time on to `tick`; what was reached goes to the due list in tick order. */
static void wheel_advance(struct timer_wheel *w, uint64_t tick)
{
    for (;;) {
        int level = 0;
        uint32_t s = 0;
        uint64_t next = next_slot(w, &level, &s);
        if (next > tick)
            break;
        DASSERT(next > w->tick);
        w->tick = next;
        w->occupied[level] &= ~(UINT64_C(1) << s);
        struct list moving;
        list_init(&moving);
        list_splice_tail(&moving, &w->slot[level][s]);
        for (struct list *n; (n = list_pop_head(&moving)) != NULL;)
            wheel_insert(w, container_of(n, struct timer, link));
    }
    if (tick > w->tick)
        w->tick = tick;
}

uint32_t timer_poll(struct timer_wheel *w, uint64_t now_ns, uint32_t budget)
{
    uint32_t fired = 0;
    wheel_advance(w, now_ns / TICK_NS);
    if (list_is_empty(&w->due))
        return 0;
    /* Fire from a list of our own: a timer that rearms itself for now waits for the next poll. */
    struct list firing;
    list_init(&firing);
    list_splice_tail(&firing, &w->due);
    while (fired < budget) {
        struct list *n = list_pop_head(&firing);
        if (n == NULL)
            break;
        struct timer *t = container_of(n, struct timer, link);
        fired++;
        t->fn(t, now_ns); /* t may be gone now */
    }
    list_splice_tail(&firing, &w->due);
    list_splice_tail(&w->due, &firing);
    return fired;
}

uint64_t timer_next(const struct timer_wheel *w)
{
    int level;
    uint32_t s;
    if (!list_is_empty(&w->due))
        return w->tick * TICK_NS;
    uint64_t tick = next_slot(w, &level, &s);
    return tick == TICK_NONE || tick > UINT64_MAX / TICK_NS ? UINT64_MAX : tick * TICK_NS;
}
