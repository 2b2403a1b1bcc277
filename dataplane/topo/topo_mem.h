/* topo_mem.h - memory on a NUMA node, for a shard's pools; taken at start, given back at the end.
 * Any thread. */
#pragma once
#include <stddef.h>

/* Zeroed, aligned to 2 MiB, bound to the node (TOPO_NODE_ANY or a machine with one node: wherever),
 * in transparent huge pages where the kernel has them, touched: later page faults cannot happen.
 * NULL: no memory. */
void *topo_mem_alloc(size_t len, int node);
/* len as given to topo_mem_alloc; NULL is fine. */
void topo_mem_free(void *mem, size_t len);
