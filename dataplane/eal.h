/* eal.h - starting DPDK's environment layer from our own configuration, never from a command line.
 *
 *   conf.hugepages   --in-memory: huge pages without files left behind
 *   else             --no-huge --no-shconf -m N: an ordinary user, no huge pages (22.11 refuses
 *                    --no-huge together with --in-memory)
 *   PCI devices only those named in conf.ports (-a); none named: --no-pci
 *   vdevs            conf.ports[i].device as it stands (--vdev)
 *                    conf.compression_device likewise
 *   lcores           lcore 0 (the main thread) on the plan's other CPUs, lcore i + 1 = shard i;
 * several lcores may share a CPU What EAL logs goes to our log. Runs on: the main thread, once per
 * process. */
#pragma once
#include "dataplane/topo/topo_plan.h"
#include "lib/base/err.h"
#include "lib/iface/conf.h"

#define EAL_ARGS_MAX 96
/* The argument vector for a plan (strings are malloc'ed; eal_args_free). Count, or -E_CONFIG with a
 * sentence in err[]. Pure: tested without DPDK. */
struct eal_args {
    int cnt;
    char *v[EAL_ARGS_MAX + 1];
};
NODISCARD int eal_args_make(const struct conf *c, const struct plan *p, struct eal_args *ret,
                            char *err, size_t err_cap);
void eal_args_free(struct eal_args *a);

/* 0, or -E_CONFIG with a sentence in err[] that quotes EAL's own last complaint. Every device of
 * conf.ports exists afterwards (a failed vdev alone does not make EAL fail: it is checked here). */
NODISCARD int eal_start(const struct conf *c, const struct plan *p, char *err, size_t err_cap);
void eal_stop(void);
