/* lcore.c - launching shards on DPDK worker lcores. */
#include "dataplane/shard/lcore.h"
#include <rte_launch.h>
#include <rte_lcore.h>

int lcore_launch(unsigned lcore, lcore_fn *fn, void *arg)
{
    if (lcore >= RTE_MAX_LCORE || !rte_lcore_is_enabled(lcore) || lcore == rte_get_main_lcore())
        return -EINVAL;
    return rte_eal_remote_launch(fn, arg, lcore);
}

int lcore_wait(unsigned lcore)
{
    return rte_eal_wait_lcore(lcore);
}
