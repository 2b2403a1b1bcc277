/* lcore.h - threads pinned to cores, made by DPDK so that drivers and mempools know them.
 * Runs on: the main thread, after EAL is up. Shard i runs on lcore LCORE_OF_SHARD(i); lcore 0 is
 * the main thread. */
#pragma once
#include "lib/base/err.h"
#include <stdint.h>

#define LCORE_OF_SHARD(i) ((unsigned)(i) + 1)

/* arg is the function's; its result comes back from lcore_wait. */
typedef int lcore_fn(void *arg);
/* Start fn on a worker lcore. 0, -EBUSY: it is running something, -EINVAL: EAL has no such lcore.
 */
NODISCARD int lcore_launch(unsigned lcore, lcore_fn *fn, void *arg);
/* Wait until the lcore is free again; what fn returned. */
int lcore_wait(unsigned lcore);
