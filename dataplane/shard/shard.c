/* shard.c - the turn loop: time, stages with budgets, cycle accounting, idling.
 *
 *     RUN --empty turn--> SPIN --spin_turns empty--> SLEEP --woken--> one turn --moved?--> RUN
 *      ^------moved something------'                   ^------------------'nothing moved: no spin
 *
 * How long to spin is learned from the sleeps, like the kernel's halt polling: a sleep so short
 * that spinning would have caught its end doubles the turns, up to spin_turns; a longer one halves
 * them, because the spinning before it was for nothing, and on a machine that is not ours alone
 * somebody else could have used the core. */
#include "dataplane/shard/shard.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <immintrin.h>

static void read_time(struct shard *s)
{
    s->now_tsc = clock_tsc();
    s->now_ns = clock_mono_ns();
    s->wall_ms = clock_wall_ms();
}

/* One turn, top to bottom; items moved. @hot */
static uint32_t turn_run(struct shard *s, const struct shard_run_opts *o)
{
    uint32_t moved = 0;
    read_time(s);
    uint64_t tsc = s->now_tsc;
    for (uint32_t i = 0; i < o->stage_cnt; i++) {
        uint32_t n = o->turn[i].run(s, o->turn[i].budget);
        uint64_t after = clock_tsc();
        s->stage_cycles[i] += after - tsc;
        s->stage_items[i] += n;
        tsc = after;
        moved += n;
    }
    uint64_t cycles = tsc - s->now_tsc;
    s->turn_cycles = cycles;
    s->turns++;
    if (moved > 0)
        s->busy_cycles += cycles;
    else
        s->idle_cycles += cycles;
    if (cycles > s->turn_max_cycles)
        s->turn_max_cycles = cycles;
    return moved;
}

/* How long nothing can happen that does not wake us. */
static uint64_t sleep_ns(struct shard *s, const struct shard_run_opts *o, uint64_t busy_ns)
{
    bool is_quiet = s->now_ns - busy_ns >= SHARD_QUIET_NS;
    uint64_t max = is_quiet && o->sleep_quiet_max_ns > 0 ? o->sleep_quiet_max_ns : o->sleep_max_ns;
    uint64_t next = s->timers != NULL ? timer_next(s->timers) : UINT64_MAX;
    for (uint32_t i = 0; i < o->stage_cnt; i++) {
        if (o->turn[i].next_ns == NULL)
            continue;
        uint64_t t = o->turn[i].next_ns(s);
        next = t < next ? t : next;
    }
    uint64_t now = clock_mono_ns();
    if (next <= now)
        return 0;
    return next - now < max ? next - now : max;
}

#define SPIN_WORTH_NS UINT64_C(100000)

/* True when the shard slept. *spin becomes the turns to spin before the next sleep. */
static bool sleep_once(struct shard *s, const struct shard_run_opts *o, uint64_t busy_ns,
                       uint32_t *spin)
{
    uint64_t ns = sleep_ns(s, o, busy_ns);
    if (ns == 0 || !mbox_sleep_prepare(s->mbox))
        return false;
    uint64_t before = clock_tsc(), before_ns = clock_mono_ns();
    s->sleeps++;
    o->wait(s, ns);
    mbox_sleep_done(s->mbox);
    uint64_t cycles = clock_tsc() - before;
    s->sleep_cycles += cycles;
    s->idle_cycles += cycles;
    uint32_t more = *spin < o->spin_turns / 2 ? *spin * 2 + 1 : o->spin_turns;
    *spin = clock_mono_ns() - before_ns < SPIN_WORTH_NS ? more : *spin / 2;
    return true;
}

void shard_run(struct shard *s, const struct shard_run_opts *o)
{
    ASSERT(o->stage_cnt > 0 && o->stage_cnt <= STAGE_MAX);
    ASSERT(o->idle == IDLE_POLL || o->wait != NULL);
    uint32_t empty_turns = 0, spin = o->spin_turns;
    read_time(s);
    uint64_t busy_ns = s->now_ns; /* when something last moved */
    for (;;) {
        bool moved = turn_run(s, o) > 0;
        if (o->turn_end != NULL)
            o->turn_end(s, moved);
        /* Not only after an empty turn: a failed disk is tried again and again until the end. */
        if (s->stopping && mbox_overflow_cnt(s->mbox) == 0 &&
            (o->may_end != NULL ? o->may_end(s) : !moved))
            return;
        if (moved) {
            busy_ns = s->now_ns;
            empty_turns = 0;
            continue;
        }
        if (o->idle == IDLE_ADAPTIVE && empty_turns >= spin) {
            if (sleep_once(s, o, busy_ns, &spin)) {
                empty_turns = spin; /* one more empty turn sleeps again */
                continue;
            }
        }
        empty_turns += empty_turns < spin;
        _mm_pause();
    }
}
