/* lcore.c - launching shards on DPDK worker lcores. */
#include "dataplane/shard/lcore.h"
#include <rte_launch.h>
#include <rte_lcore.h>
#include <stdatomic.h>

/* What a function did on an lcore is seen by whoever waited for it: W1 (its end) pairs with W2
 * (lcore_wait). DPDK orders the same inside the library, where a thread sanitizer does not see it.
 * Launching is ordered by DPDK's pipe. */
struct job {
    lcore_fn *fn;
    void *arg;
    _Atomic uint32_t ended;
};
static struct job jobs[RTE_MAX_LCORE];

static int job_run(void *arg)
{
    struct job *j = arg;
    int rc = j->fn(j->arg);
    atomic_fetch_add_explicit(&j->ended, 1, memory_order_release); /* W1 */
    return rc;
}

int lcore_launch(unsigned lcore, lcore_fn *fn, void *arg)
{
    if (lcore >= RTE_MAX_LCORE || !rte_lcore_is_enabled(lcore) || lcore == rte_get_main_lcore())
        return -EINVAL;
    if (rte_eal_get_lcore_state(lcore) != WAIT)
        return -EBUSY; /* its job is in use */
    jobs[lcore].fn = fn;
    jobs[lcore].arg = arg;
    return rte_eal_remote_launch(job_run, &jobs[lcore], lcore);
}

int lcore_wait(unsigned lcore)
{
    int rc = rte_eal_wait_lcore(lcore);
    if (lcore < RTE_MAX_LCORE)
        (void)atomic_load_explicit(&jobs[lcore].ended, memory_order_acquire); /* W2 */
    return rc;
}
