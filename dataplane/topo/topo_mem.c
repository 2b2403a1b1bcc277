/* topo_mem.c - memory policy of a thread, by libnuma. */
#include "dataplane/topo/topo_mem.h"
#include <numa.h>

int topo_mem_prefer(int node)
{
    if (node < 0 || numa_available() < 0)
        return 0;
    if (node > numa_max_node() || !numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)node))
        return -EINVAL;
    numa_set_preferred(node);
    return 0;
}
