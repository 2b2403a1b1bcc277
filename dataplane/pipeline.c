/* pipeline.c - the turn of a shard, and the modules it is made of, each as one table.
 *
 * A stage is a row of `turn`; a module is a row of `modules`: created from top to bottom, drained
 * and destroyed from bottom to top. To add a stage, add its row and say why it stands where it
 * stands.
 *
 * Stop protocol: MSG_STOP -> every module's `drain` is called once, from the bottom of the table ->
 * the shard runs on until every module `is_idle` -> it replies -> it still runs on, because others
 * may need its answers, until all shards have replied. */
#include "dataplane/pipeline.h"
#include "dataplane/counters.h"
#include "dataplane/io/uring.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/counter.h"
#include "lib/base/log.h"
#include "lib/iface/stats_shm.h"
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RING_ENTRIES 1024u
#define SPIN_TURNS 2000u /* about half a millisecond of empty turns */
#define SLEEP_MAX_NS UINT64_C(1000000000)
#define SLEEP_PORT_NS UINT64_C(1000000) /* a port without interrupts is looked at this often, */
#define SLEEP_PORT_QUIET_NS UINT64_C(10000000) /* and this often after a quiet second */
#define STOP_POLL_NS UINT64_C(1000000)
#define QUIESCE_NS UINT64_C(5000000000)

struct pipeline {
    struct pipeline_opts o;
    _Atomic uint32_t closed_cnt; /* shards whose MSG_STOP has been replied */
};
struct pshard {
    struct shard s; /* first: stages cast */
    struct pipeline *p;
    struct stats_block *block;
    struct uring_op wake_op; /* watches the mailbox's eventfd */
    bool wake_armed;
    bool closed;
    uint32_t module_cnt; /* created so far */
};

static struct pshard *pshard_of(struct shard *s)
{
    return (struct pshard *)s;
}

/* -------------------------------------------------------------------------------------- the turn
 */

static uint32_t st_mbox(struct shard *s, uint32_t budget)
{
    return mbox_poll(s->mbox, s, budget);
}
static uint32_t st_uring_reap(struct shard *s, uint32_t budget)
{
    return uring_reap(s->uring, budget);
}
static uint32_t st_timer(struct shard *s, uint32_t budget)
{
    return timer_poll(s->timers, s->now_ns, budget);
}
static uint32_t st_stop(struct shard *s, uint32_t budget);
static uint64_t st_stop_next(struct shard *s);
static uint32_t st_uring_submit(struct shard *s, uint32_t budget)
{
    return uring_submit(s->uring);
}

/* One turn of a shard, top to bottom. The order is the design: each row says why it stands here. */
static const struct stage turn[] = {
    {"mbox", st_mbox, 32, NULL},                /* remote work first: another core is waiting */
    {"uring_reap", st_uring_reap, 64, NULL},    /* completions free buffers the rest will want */
    {"timer", st_timer, 64, NULL},              /* sessions, heartbeats, retries */
    {"stop", st_stop, 1, st_stop_next},         /* sees what the stages above have finished */
    {"uring_submit", st_uring_submit, 0, NULL}, /* last: one system call carries the whole turn */
};
#define TURN_CNT (sizeof(turn) / sizeof(turn[0]))
static_assert(TURN_CNT <= STAGE_MAX, "shard.h holds the accounting of every stage");
static_assert(STAGE_MAX <= STATS_STAGES_MAX, "and so does stats.shm");

uint32_t pipeline_stage_cnt(void)
{
    return TURN_CNT;
}

const char *const *pipeline_stage_names(void)
{
    static const char *names[TURN_CNT];
    for (size_t i = 0; i < TURN_CNT; i++)
        names[i] = turn[i].name;
    return names;
}

/* ----------------------------------------------------------------------------------- the modules
 */

/* Time and counters: nothing to drain. */
static int timers_create(struct pshard *ps)
{
    return timer_wheel_create(clock_mono_ns(), &ps->s.timers);
}
static void timers_destroy(struct pshard *ps)
{
    timer_wheel_destroy(ps->s.timers);
}
static int counters_create(struct pshard *ps)
{
    ps->s.counters = calloc(1, sizeof(*ps->s.counters));
    if (ps->p->o.stats != NULL)
        ps->block = stats_block(ps->p->o.stats, ps->s.id);
    return ps->s.counters != NULL ? 0 : -ENOMEM;
}
static void counters_destroy(struct pshard *ps)
{
    free(ps->s.counters);
}

/* The ring, and on it the watch over the mailbox: a sleeping shard wakes for messages. */
static void wake_done(struct uring_op *op, int res, int buf_id, bool more)
{
    struct pshard *ps = container_of(op, struct pshard, wake_op);
    ps->wake_armed = more;
    if (!more && res != -ECANCELED) { /* the kernel may end a multishot at any time */
        uring_poll_multishot(ps->s.uring, op, mbox_wake_fd(ps->s.mbox), POLLIN);
        ps->wake_armed = true;
    }
}
static int io_create(struct pshard *ps)
{
    int rc = uring_create(RING_ENTRIES, &ps->s.uring);
    if (rc < 0)
        return rc;
    ps->wake_op.done = wake_done;
    uring_poll_multishot(ps->s.uring, &ps->wake_op, mbox_wake_fd(ps->s.mbox), POLLIN);
    ps->wake_armed = true;
    return 0;
}
/* Everything but the watch has come back. */
static bool io_is_idle(struct pshard *ps)
{
    return uring_in_flight(ps->s.uring) == (ps->wake_armed ? 1 : 0);
}
static void io_destroy(struct pshard *ps)
{
    uint32_t left = uring_quiesce(ps->s.uring, QUIESCE_NS);
    if (left > 0)
        LOG_ERROR("shard %u: %u operations did not end", ps->s.id, left);
    uring_destroy(ps->s.uring);
}

/* Top to bottom: created; bottom to top: drained and destroyed. */
static const struct module {
    const char *name;
    int (*create)(struct pshard *ps);
    void (*drain)(struct pshard *ps);   /* take nothing new, finish what is under way */
    bool (*is_idle)(struct pshard *ps); /* nothing under way */
    void (*destroy)(struct pshard *ps);
} modules[] = {
    {"timers", timers_create, NULL, NULL, timers_destroy},
    {"counters", counters_create, NULL, NULL, counters_destroy},
    {"io_uring", io_create, NULL, io_is_idle, io_destroy},
};
#define MODULE_CNT (sizeof(modules) / sizeof(modules[0]))

/* ------------------------------------------------------------------------------- the stop protocol
 */

static void on_stop(struct shard *s, struct msg *m)
{
    struct pshard *ps = pshard_of(s);
    if (s->stopping) {
        msg_reply(s->mbox, m, -EALREADY);
        return;
    }
    s->stopping = true;
    s->stop_msg = m;
    for (size_t i = MODULE_CNT; i-- > 0;)
        if (modules[i].drain != NULL)
            modules[i].drain(ps);
}

static uint32_t st_stop(struct shard *s, uint32_t budget)
{
    struct pshard *ps = pshard_of(s);
    if (likely(s->stop_msg == NULL))
        return 0;
    for (size_t i = 0; i < MODULE_CNT; i++)
        if (modules[i].is_idle != NULL && !modules[i].is_idle(ps))
            return 0;
    msg_reply(s->mbox, s->stop_msg, 0);
    s->stop_msg = NULL;
    ps->closed = true;
    atomic_fetch_add(&ps->p->closed_cnt, 1);
    return 1;
}

/* What the others do does not wake us: look again soon. */
static uint64_t st_stop_next(struct shard *s)
{
    return s->stopping ? s->now_ns + STOP_POLL_NS : UINT64_MAX;
}

static bool may_end(struct shard *s)
{
    struct pshard *ps = pshard_of(s);
    return ps->closed && atomic_load(&ps->p->closed_cnt) == s->cnt;
}

/* ------------------------------------------------------------------------------- counters, sleep
 */

static void publish(struct pshard *ps, bool busy)
{
    struct shard *s = &ps->s;
    if (ps->block == NULL)
        return;
    struct shard_stats *c = &s->counters->shard;
    c->turns = s->turns;
    c->busy_cycles = s->busy_cycles;
    c->idle_cycles = s->idle_cycles;
    c->turn_max_cycles = s->turn_max_cycles;
    c->sleeps = s->sleeps;
    c->msgs = mbox_handled(s->mbox);
    memcpy(c->stage_cycles, s->stage_cycles, sizeof(s->stage_cycles));
    memcpy(c->stage_items, s->stage_items, sizeof(s->stage_items));
    stats_publish(ps->block, s->counters, s->now_ns, s->wall_ms, busy);
}
static_assert(sizeof(((struct shard_stats *)0)->stage_cycles) ==
                  sizeof(((struct shard *)0)->stage_cycles),
              "one accounting");

static void turn_end(struct shard *s, bool busy)
{
    struct shard_stats *c = &s->counters->shard;
    hist_add(c->turn_cycles_log2, sizeof(c->turn_cycles_log2) / 8, s->turn_cycles);
    publish(pshard_of(s), busy);
}

static void shard_wait(struct shard *s, uint64_t timeout_ns)
{
    publish(pshard_of(s), true); /* what the last turns counted must not wait for us to wake */
    uring_wait(s->uring, timeout_ns);
}

/* ------------------------------------------------------------------------------------- assembly */

int pipeline_create(const struct pipeline_opts *opts, struct pipeline **ret)
{
    struct pipeline *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    p->o = *opts;
    *ret = p;
    return 0;
}

void pipeline_destroy(struct pipeline *p)
{
    free(p);
}

void pipeline_bind_handlers(void)
{
    msg_handlers[MSG_STOP].request = on_stop;
}

int pshard_create(struct pipeline *p, uint16_t id, struct pshard **ret, char *err, size_t err_cap)
{
    const struct plan_shard *plan = &p->o.plan->shards[id];
    struct pshard *ps = calloc(1, sizeof(*ps));
    if (ps == NULL) {
        snprintf(err, err_cap, "shard %u: out of memory", id);
        return -ENOMEM;
    }
    ps->p = p;
    ps->s.id = id;
    ps->s.cnt = (uint16_t)p->o.plan->shard_cnt;
    ps->s.cpu = plan->cpu;
    ps->s.numa_node = plan->node;
    ps->s.conf = p->o.conf;
    ps->s.mbox = mbox_of(p->o.mboxes, id);
    for (size_t i = 0; i < MODULE_CNT; i++) {
        int rc = modules[i].create(ps);
        if (rc < 0) {
            snprintf(err, err_cap, "shard %u: %s: %s", id, modules[i].name, err_text(rc));
            pshard_destroy(ps);
            return rc;
        }
        ps->module_cnt++;
    }
    *ret = ps;
    return 0;
}

void pshard_destroy(struct pshard *ps)
{
    if (ps == NULL)
        return;
    while (ps->module_cnt > 0)
        modules[--ps->module_cnt].destroy(ps);
    free(ps);
}

static bool polls_a_port(const struct pshard *ps)
{
    const struct plan_shard *plan = &ps->p->o.plan->shards[ps->s.id];
    for (uint32_t i = 0; i < ps->p->o.conf->port_cnt; i++)
        if (plan->queue[i] != PLAN_QUEUE_NONE)
            return true;
    return false;
}

void pshard_run(struct pshard *ps)
{
    const struct plan *plan = ps->p->o.plan;
    bool port = polls_a_port(ps);
    struct shard_run_opts o = {
        .turn = turn,
        .stage_cnt = TURN_CNT,
        .idle = plan->idle_poll ? IDLE_POLL : IDLE_ADAPTIVE,
        /* On a shared CPU an empty turn takes time from a shard that has work. */
        .spin_turns = plan->shards[ps->s.id].shares_cpu ? 0 : SPIN_TURNS,
        .sleep_max_ns = port ? SLEEP_PORT_NS : SLEEP_MAX_NS,
        .sleep_quiet_max_ns = port ? SLEEP_PORT_QUIET_NS : SLEEP_MAX_NS,
        .wait = shard_wait,
        .turn_end = turn_end,
        .may_end = may_end,
    };
    shard_run(&ps->s, &o);
    publish(ps, true);
}
