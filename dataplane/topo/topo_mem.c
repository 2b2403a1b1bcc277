/* topo_mem.c - anonymous memory bound to a node by libnuma. */
#include "dataplane/topo/topo_mem.h"
#include <errno.h>
#include <numa.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HUGE_PAGE ((size_t)2 << 20)

static size_t round_up(size_t len)
{
    return (len + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

void *topo_mem_alloc(size_t len, int node)
{
    size_t want = round_up(len > 0 ? len : 1);
    uint8_t *raw = mmap(NULL, want + HUGE_PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    /* Keep the aligned middle. */
    uint8_t *mem = (uint8_t *)round_up((size_t)(uintptr_t)raw);
    size_t before = (size_t)(mem - raw), after = HUGE_PAGE - before;
    if (before > 0)
        munmap(raw, before);
    if (after > 0)
        munmap(mem + want, after);
    (void)madvise(mem, want, MADV_HUGEPAGE); /* a wish */
    if (node >= 0 && numa_available() >= 0 && numa_max_node() > 0 && node <= numa_max_node())
        numa_tonode_memory(mem, want, node);
    if (madvise(mem, want, MADV_POPULATE_WRITE) == 0)
        return mem;
    if (errno != EINVAL) {
        munmap(mem, want);
        return NULL;
    }
    memset(mem, 0, want); /* a kernel before 5.14 */
    return mem;
}

void topo_mem_free(void *mem, size_t len)
{
    if (mem != NULL)
        munmap(mem, round_up(len > 0 ? len : 1));
}
