/* topo_mem.h - memory on a NUMA node. A shard prefers its node before it takes anything, so that
 * its pools, staging and connections lie beside its core. */
#pragma once
#include "lib/base/err.h"

/* What the calling thread touches first from now on comes from `node`, and from another node only
 * when that one is full: an appliance must not be ended for want of memory that another node has.
 * TOPO_NODE_ANY, or a kernel without NUMA: nothing to do. 0, or -EINVAL: there is no such node. */
NODISCARD int topo_mem_prefer(int node);
