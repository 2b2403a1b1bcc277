/* topo_plan.h - facts + configuration -> who runs where. A pure function: no system call, no clock,
 * so that rules about two-socket servers are tested on any machine.
 *
 * Rules, in order:
 *   1. conf.cpus decides where shards run; else shards go to the nodes of the NIC ports, in turns;
 *      without ports to the nodes of the disks; else to all nodes. Nodes left over come after.
 *   2. One shard per physical core first, then on the second hyperthreads, then CPUs are shared (a
 *      warning: latency suffers, nothing breaks).
 *   3. conf.shard_cnt 0: as many as conf.cpus has CPUs; else as many as there are physical cores on
 * the nodes of rule 1, less one for everything else, at least one.
 *   4. Queues of a port go to shards of its node first. 0 queues: one per shard.
 *   5. A shard's memory is on the node of its CPU. The partitions of a data directory belong to the
 *      shards of its disk's node; to all shards when the node is not known, or has none (a
 * warning).
 */
#pragma once
#include "dataplane/topo/topo.h"

#define PLAN_SHARDS_MAX 64
#define PLAN_WARNINGS_MAX 8
#define PLAN_QUEUE_NONE (-1)

struct plan_shard {
    int cpu, node;
    int16_t queue[CONF_PORTS_MAX]; /* of conf.ports[i], or PLAN_QUEUE_NONE */
    bool shares_cpu;               /* with another shard */
};
struct plan {
    uint32_t shard_cnt;
    struct plan_shard shards[PLAN_SHARDS_MAX];
    uint16_t port_queues[CONF_PORTS_MAX];
    uint64_t
        dir_shards[CONF_DIRS_MAX]; /* of conf.data_dirs[i]: bit s: shard s may own partitions */
    bool idle_poll; /* conf.idle_poll, off when shards share CPUs: they would starve each other */
    uint32_t other_cnt;
    int other_cpus[TOPO_CPUS_MAX]; /* for every other thread: CPUs without a shard, else all usable
                                    */
    uint32_t warning_cnt;
    char warnings[PLAN_WARNINGS_MAX][256];
};
/* 0, or -E_CONFIG with a sentence in err[]. */
NODISCARD int topo_plan(const struct topo *t, const struct conf *c, struct plan *ret, char *err,
                        size_t err_cap);
