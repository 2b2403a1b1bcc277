/* topo_plan.c - the placement rules of topo_plan.h, each a small function. */
#include "dataplane/topo/topo_plan.h"
#include "lib/base/assert.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct planner {
    const struct topo *t;
    const struct conf *c;
    struct plan *p;
    uint32_t cand_cnt; /* CPUs in the order in which shards take them */
    const struct topo_cpu *cand[TOPO_CPUS_MAX];
    uint32_t preferred_cores; /* physical cores on the nodes of rule 1 */
    char *err;
    size_t err_cap;
};

__attribute__((format(printf, 2, 3))) static int fail(struct planner *x, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->err, x->err_cap, fmt, ap);
    va_end(ap);
    return -E_CONFIG;
}

__attribute__((format(printf, 2, 3))) static void warn(struct planner *x, const char *fmt, ...)
{
    struct plan *p = x->p;
    if (p->warning_cnt == PLAN_WARNINGS_MAX)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->warnings[p->warning_cnt++], sizeof(p->warnings[0]), fmt, ap);
    va_end(ap);
}

static const struct topo_cpu *find_cpu(const struct topo *t, long cpu)
{
    for (uint32_t i = 0; i < t->cpu_cnt; i++)
        if (t->cpus[i].cpu == cpu)
            return &t->cpus[i];
    return NULL;
}

/* --------------------------------------------------------------------- rule 1, given by the list
 */

static int take_listed_cpu(struct planner *x, long cpu)
{
    const struct topo_cpu *c = find_cpu(x->t, cpu);
    if (c == NULL)
        return fail(x, "cpus: \"%s\": this machine has no CPU %ld", x->c->cpus, cpu);
    if (!c->usable)
        return fail(x,
                    "cpus: \"%s\": CPU %ld is outside the set that this process may use (taskset, "
                    "cgroup cpuset)",
                    x->c->cpus, cpu);
    for (uint32_t i = 0; i < x->cand_cnt; i++)
        if (x->cand[i] == c)
            return fail(x, "cpus: \"%s\": CPU %ld is listed twice", x->c->cpus, cpu);
    x->cand[x->cand_cnt++] = c;
    return 0;
}

static int take_listed_cpus(struct planner *x)
{
    const char *list = x->c->cpus;
    uint32_t first, last;
    char why[320];
    int rc;
    while ((rc = conf_cpus_next(&list, &first, &last, why, sizeof(why))) > 0) {
        for (uint32_t cpu = first; cpu <= last; cpu++) {
            rc = take_listed_cpu(x, (long)cpu);
            if (rc < 0)
                return rc;
        }
    }
    return rc < 0 ? fail(x, "cpus: \"%s\": %s", x->c->cpus, why) : 0;
}

/* --------------------------------------------------------------------- rules 1 and 2, by the facts
 */

static bool contains(const int *nodes, uint32_t cnt, int node)
{
    for (uint32_t i = 0; i < cnt; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

static bool node_has_cpus(const struct topo *t, int node)
{
    for (uint32_t i = 0; i < t->cpu_cnt; i++)
        if (t->cpus[i].node == node && t->cpus[i].usable)
            return true;
    return false;
}

/* Distinct nodes of devices; those that are unknown or have no usable CPU do not count. */
static uint32_t nodes_of(const struct topo *t, const int *device_node, uint32_t cnt, int *ret)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < cnt; i++)
        if (device_node[i] != TOPO_NODE_ANY && !contains(ret, n, device_node[i]) &&
            node_has_cpus(t, device_node[i]))
            ret[n++] = device_node[i];
    return n;
}

/* The hyperthread number of a CPU within its core, among usable CPUs. */
static uint32_t thread_of(const struct topo *t, const struct topo_cpu *c)
{
    uint32_t n = 0;
    for (const struct topo_cpu *o = t->cpus; o < c; o++)
        n += o->core == c->core && o->usable;
    return n;
}

/* The k-th usable CPU on a node that is hyperthread `thread` of its core; NULL: no more. */
static const struct topo_cpu *nth_cpu(const struct topo *t, int node, uint32_t thread, uint32_t k)
{
    for (uint32_t i = 0; i < t->cpu_cnt; i++) {
        const struct topo_cpu *c = &t->cpus[i];
        if (c->node == node && c->usable && thread_of(t, c) == thread && k-- == 0)
            return c;
    }
    return NULL;
}

/* One CPU of each node in turns, until none is left. */
static void take_in_turns(struct planner *x, const int *nodes, uint32_t cnt, uint32_t thread)
{
    for (uint32_t k = 0, taken = 1; taken > 0; k++) {
        taken = 0;
        for (uint32_t i = 0; i < cnt; i++) {
            const struct topo_cpu *c = nth_cpu(x->t, nodes[i], thread, k);
            if (c != NULL) {
                x->cand[x->cand_cnt++] = c;
                taken++;
            }
        }
    }
}

/* On each node the lowest core, where the kernel's own work gathers, is taken last: it stays free
 * for it whenever there are fewer shards than cores. */
static void lowest_core_last(struct planner *x, uint32_t from, const int *nodes, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++) {
        for (uint32_t k = from; k < x->cand_cnt; k++) {
            const struct topo_cpu *c = x->cand[k];
            if (c->node != nodes[i])
                continue;
            memmove(&x->cand[k], &x->cand[k + 1], (x->cand_cnt - k - 1) * sizeof(x->cand[0]));
            x->cand[x->cand_cnt - 1] = c;
            break;
        }
    }
}

static void take_by_facts(struct planner *x)
{
    const struct topo *t = x->t;
    int near[TOPO_NODES_MAX], far[TOPO_NODES_MAX];
    uint32_t far_cnt = 0;
    uint32_t near_cnt = nodes_of(t, t->port_node, x->c->port_cnt, near);
    if (near_cnt == 0)
        near_cnt = nodes_of(t, t->dir_node, x->c->data_dir_cnt, near);
    for (uint32_t i = 0; i < t->cpu_cnt; i++) {
        int node = t->cpus[i].node;
        if (t->cpus[i].usable && !contains(near, near_cnt, node) && !contains(far, far_cnt, node))
            far[far_cnt++] = node;
    }
    if (near_cnt == 0) {
        memcpy(near, far, sizeof(far));
        near_cnt = far_cnt;
        far_cnt = 0;
    }
    for (uint32_t thread = 0; x->cand_cnt < t->cpu_cnt; thread++) {
        uint32_t before = x->cand_cnt;
        take_in_turns(x, near, near_cnt, thread);
        lowest_core_last(x, before, near, near_cnt);
        if (thread == 0)
            x->preferred_cores = x->cand_cnt;
        uint32_t mid = x->cand_cnt;
        take_in_turns(x, far, far_cnt, thread);
        lowest_core_last(x, mid, far, far_cnt);
        if (x->cand_cnt == before)
            break; /* the rest is not usable */
    }
}

/* ------------------------------------------------------------------------------------------ rule 3
 */

static int choose_shard_cnt(struct planner *x)
{
    uint32_t n = x->c->shard_cnt;
    if (n == 0 && x->c->cpus[0] != '\0')
        n = x->cand_cnt;
    else if (n == 0)
        n = x->preferred_cores > 1 ? x->preferred_cores - 1 : 1;
    if (x->c->shard_cnt == 0 && n > PLAN_SHARDS_MAX)
        n = PLAN_SHARDS_MAX;
    if (n > PLAN_SHARDS_MAX)
        return fail(x, "shards: %u: at most %u are possible", n, PLAN_SHARDS_MAX);
    if (x->c->cpus[0] != '\0' && x->cand_cnt > n)
        warn(x, "cpus lists %u CPUs for %u shards: the last %u stay unused", x->cand_cnt, n,
             x->cand_cnt - n);
    x->p->shard_cnt = n;
    return 0;
}

static void place_shards(struct planner *x)
{
    struct plan *p = x->p;
    for (uint32_t i = 0; i < p->shard_cnt; i++) {
        const struct topo_cpu *c = x->cand[i % x->cand_cnt];
        p->shards[i] = (struct plan_shard){
            .cpu = c->cpu,
            .node = c->node,
            /* as another one is i places before or after */
            .shares_cpu = i >= x->cand_cnt || i + x->cand_cnt < p->shard_cnt,
        };
    }
    if (p->shard_cnt > x->cand_cnt)
        warn(x, "%u shards share %u CPU%s: they take turns, so expect longer latencies",
             p->shard_cnt, x->cand_cnt, x->cand_cnt == 1 ? "" : "s");
    p->idle_poll = x->c->idle_poll && p->shard_cnt <= x->cand_cnt;
    if (x->c->idle_poll && !p->idle_poll)
        warn(x, "idle: poll is not possible while shards share CPUs; adaptive is used");
    for (int unused = 1; unused >= 0 && p->other_cnt == 0; unused--) {
        for (uint32_t i = 0; i < x->t->cpu_cnt; i++) {
            bool has_shard = false;
            for (uint32_t k = 0; k < p->shard_cnt; k++)
                has_shard |= p->shards[k].cpu == x->t->cpus[i].cpu;
            if (x->t->cpus[i].usable && !(unused && has_shard))
                p->other_cpus[p->other_cnt++] = x->t->cpus[i].cpu;
        }
    }
}

/* ------------------------------------------------------------------------------------------ rule 4
 */

static int place_queues(struct planner *x, uint32_t port)
{
    struct plan *p = x->p;
    const struct conf_port *cp = &x->c->ports[port];
    uint32_t want = cp->queues == 0 ? p->shard_cnt : cp->queues, given = 0;
    int node = x->t->port_node[port];
    if (want > p->shard_cnt)
        return fail(x, "port %s: %u queues, but only %u shard%s to poll them", cp->name, want,
                    p->shard_cnt, p->shard_cnt == 1 ? "" : "s");
    for (int local = 1; local >= 0; local--) {
        for (uint32_t i = 0; i < p->shard_cnt; i++) {
            bool is_local = node == TOPO_NODE_ANY || p->shards[i].node == node;
            if (is_local != (local == 1))
                continue;
            bool gets = given < want;
            p->shards[i].queue[port] = gets ? (int16_t)given++ : PLAN_QUEUE_NONE;
            if (gets && !is_local)
                warn(x, "port %s on node %d is polled by shard %u on node %d", cp->name, node, i,
                     p->shards[i].node);
        }
    }
    p->port_queues[port] = (uint16_t)want;
    return 0;
}

/* ------------------------------------------------------------------------------------------ rule 5
 */

static void place_dirs(struct planner *x)
{
    for (uint32_t d = 0; d < x->c->data_dir_cnt; d++) {
        int node = x->t->dir_node[d];
        uint64_t all = 0, local = 0;
        for (uint32_t i = 0; i < x->p->shard_cnt; i++) {
            all |= UINT64_C(1) << i;
            if (x->p->shards[i].node == node)
                local |= UINT64_C(1) << i;
        }
        x->p->dir_shards[d] = local != 0 ? local : all;
        if (node != TOPO_NODE_ANY && local == 0)
            warn(x, "no shard runs on node %d, where %s is: its partitions belong to all shards",
                 node, x->c->data_dirs[d]);
    }
}

int topo_plan(const struct topo *t, const struct conf *c, struct plan *ret, char *err,
              size_t err_cap)
{
    struct planner x = {.t = t, .c = c, .p = ret, .err = err, .err_cap = err_cap};
    memset(ret, 0, sizeof(*ret));
    if (c->cpus[0] != '\0') {
        int rc = take_listed_cpus(&x);
        if (rc < 0)
            return rc;
    } else {
        take_by_facts(&x);
    }
    if (x.cand_cnt == 0)
        return fail(&x, "no CPU is usable by this process");
    int rc = choose_shard_cnt(&x);
    if (rc < 0)
        return rc;
    place_shards(&x);
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        rc = place_queues(&x, i);
        if (rc < 0)
            return rc;
    }
    place_dirs(&x);
    return 0;
}
