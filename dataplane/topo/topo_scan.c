/* topo_scan.c - hwloc and /sys -> facts. */
#include "dataplane/topo/topo.h"
#include <hwloc.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* ------------------------------------------------------------------------------ CPUs and nodes */

static int node_of(hwloc_obj_t pu)
{
    int n = pu->nodeset != NULL ? hwloc_bitmap_first(pu->nodeset) : -1;
    return n < 0 ? 0 : n;
}

static int index_of_ancestor(hwloc_topology_t t, hwloc_obj_t pu, hwloc_obj_type_t type)
{
    hwloc_obj_t o = hwloc_get_ancestor_obj_by_type(t, type, pu);
    return o != NULL ? (int)o->logical_index : (int)pu->logical_index;
}

static int by_cpu(const void *a, const void *b)
{
    return ((const struct topo_cpu *)a)->cpu - ((const struct topo_cpu *)b)->cpu;
}

static int read_hwloc(hwloc_topology_t t, struct topo *ret)
{
    int pu_cnt = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU);
    int node_cnt = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
    if (pu_cnt > TOPO_CPUS_MAX || node_cnt > TOPO_NODES_MAX)
        return -E_LIMIT;
    for (int i = 0; i < pu_cnt; i++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(t, HWLOC_OBJ_PU, (unsigned)i);
        ret->cpus[ret->cpu_cnt++] = (struct topo_cpu){
            .cpu = (int)pu->os_index,
            .node = node_of(pu),
            .package = index_of_ancestor(t, pu, HWLOC_OBJ_PACKAGE),
            .core = index_of_ancestor(t, pu, HWLOC_OBJ_CORE),
            .usable = true,
        };
    }
    qsort(ret->cpus, ret->cpu_cnt, sizeof(ret->cpus[0]), by_cpu);
    for (int i = 0; i < node_cnt; i++) {
        hwloc_obj_t n = hwloc_get_obj_by_type(t, HWLOC_OBJ_NUMANODE, (unsigned)i);
        ret->nodes[ret->node_cnt++] =
            (struct topo_node){(int)n->os_index, n->attr->numanode.local_memory};
    }
    return ret->cpu_cnt > 0 ? 0 : -ENODEV;
}

static int scan(const char *synthetic, struct topo *ret)
{
    hwloc_topology_t t;
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < CONF_PORTS_MAX; i++)
        ret->port_node[i] = TOPO_NODE_ANY;
    for (uint32_t i = 0; i < CONF_DIRS_MAX; i++)
        ret->dir_node[i] = TOPO_NODE_ANY;
    if (hwloc_topology_init(&t) != 0)
        return -ENOMEM;
    int rc = 0;
    /* CPUs that this process may not use are wanted too, for messages that name them. */
    if (synthetic != NULL
            ? hwloc_topology_set_synthetic(t, synthetic) != 0
            : hwloc_topology_set_flags(t, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED) != 0)
        rc = -EINVAL;
    else if (hwloc_topology_load(t) != 0)
        rc = errno != 0 ? -errno : -EIO;
    else
        rc = read_hwloc(t, ret);
    hwloc_topology_destroy(t);
    return rc;
}

int topo_scan_synthetic(const char *description, struct topo *ret)
{
    return scan(description, ret);
}

/* ------------------------------------------------------------------------------------- devices */

/* First line of a /sys file as a number; TOPO_NODE_ANY for anything else (the kernel says -1). */
static int read_node(const char *path)
{
    int node = TOPO_NODE_ANY;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return TOPO_NODE_ANY;
    if (fscanf(f, "%d", &node) != 1 || node < 0)
        node = TOPO_NODE_ANY;
    fclose(f);
    return node;
}

/* "0000:3b:00.0[,...]", or a vdev on top of a network interface: "net_af_packet0,iface=eth0". */
static int node_of_port(const char *device)
{
    char path[PATH_MAX], name[128];
    const char *iface = strstr(device, "iface=");
    if (iface != NULL && sscanf(iface, "iface=%127[^,/]", name) == 1)
        snprintf(path, sizeof(path), "/sys/class/net/%s/device/numa_node", name);
    else if (sscanf(device, "%127[0-9a-fA-F:.]", name) == 1)
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", name);
    else
        return TOPO_NODE_ANY;
    return read_node(path);
}

/* The node of the block device under a path, which need not exist yet: then of what is above it. */
static int node_of_dir(const char *dir)
{
    char path[PATH_MAX], link[64], sys[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "%s", dir);
    while (stat(path, &st) != 0) {
        char *slash = strrchr(path, '/');
        if (slash == NULL || slash == path)
            return TOPO_NODE_ANY;
        *slash = '\0';
    }
    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    if (realpath(link, sys) == NULL)
        return TOPO_NODE_ANY;
    /* .../pci0000:3a/0000:3b:00.0/nvme/nvme0/nvme0n1: the nearest parent that names a node. */
    for (char *slash = sys + strlen(sys); slash != NULL && slash != sys;
         slash = strrchr(sys, '/')) {
        *slash = '\0';
        char file[PATH_MAX + 16];
        snprintf(file, sizeof(file), "%s/numa_node", sys);
        int node = read_node(file);
        if (node != TOPO_NODE_ANY)
            return node;
    }
    return TOPO_NODE_ANY;
}

int topo_scan(const struct conf *c, struct topo *ret)
{
    int rc = scan(NULL, ret);
    if (rc < 0)
        return rc;
    cpu_set_t *mask = CPU_ALLOC(TOPO_CPUS_MAX);
    if (mask == NULL)
        return -ENOMEM;
    size_t size = CPU_ALLOC_SIZE(TOPO_CPUS_MAX);
    CPU_ZERO_S(size, mask);
    if (sched_getaffinity(0, size, mask) == 0)
        for (uint32_t i = 0; i < ret->cpu_cnt; i++)
            ret->cpus[i].usable = CPU_ISSET_S((size_t)ret->cpus[i].cpu, size, mask);
    CPU_FREE(mask);
    for (uint32_t i = 0; i < c->port_cnt; i++)
        ret->port_node[i] = node_of_port(c->ports[i].device);
    for (uint32_t i = 0; i < c->data_dir_cnt; i++)
        ret->dir_node[i] = node_of_dir(c->data_dirs[i]);
    return 0;
}
