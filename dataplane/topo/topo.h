/* topo.h - facts about the machine: which CPUs there are, on which NUMA node, and where the devices
 * of the configuration sit. Plain data: topo_scan.c fills it from a real machine, tests by hand.
 * Node numbers are the operating system's; TOPO_NODE_ANY: the machine does not say (one node, or a
 * virtual device). */
#pragma once
#include "lib/base/err.h"
#include "lib/iface/conf.h"
#include <stdbool.h>
#include <stdint.h>

#define TOPO_CPUS_MAX 1024
#define TOPO_NODES_MAX 64
#define TOPO_NODE_ANY (-1)

struct topo_cpu {
    int cpu; /* the operating system's number */
    int node, package;
    int core;    /* hyperthreads of one core have the same number, unique in the machine */
    bool usable; /* in this process's affinity mask and cpuset */
};
struct topo_node {
    int node;
    uint64_t mem_bytes;
};
struct topo {
    uint32_t cpu_cnt, node_cnt;
    struct topo_cpu cpus[TOPO_CPUS_MAX]; /* ascending by cpu */
    struct topo_node nodes[TOPO_NODES_MAX];
    int port_node[CONF_PORTS_MAX]; /* of conf.ports[i] */
    int dir_node[CONF_DIRS_MAX];   /* of the disk under conf.data_dirs[i] */
};

/* Facts of this machine, and of the devices that `c` names. Main thread, at start; reads /sys.
 * 0, -errno, or -E_LIMIT: more CPUs than TOPO_CPUS_MAX. A device that /sys does not know is
 * TOPO_NODE_ANY: that is not an error here, opening it will say more. */
NODISCARD int topo_scan(const struct conf *c, struct topo *ret);
/* CPUs and nodes of an hwloc synthetic description ("pack:2 [numa] core:8 pu:2"), all usable. */
NODISCARD int topo_scan_synthetic(const char *description, struct topo *ret);
