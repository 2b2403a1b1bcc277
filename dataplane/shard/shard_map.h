/* shard_map.h - which shard owns a partition: pure functions of their arguments, the same answer on
 * every machine and in every version (owners.h stores the answers).
 *
 * `among` has bit i set for every shard i that may own the partition: those of the NUMA node of its
 * disk (struct plan.dir_shards); at least one. At creation: partitions of a topic are spread over
 * these shards, so that none has more than one partition of the topic above another, and the least
 * loaded go first. When the number of shards changes, every partition is mapped anew by rendezvous
 * hash: from n to n + 1 shards only about 1 / (n + 1) of them move. */
#pragma once
#include "lib/base/uuid.h"
#include <stdint.h>

/* Shards 0 .. shard_cnt - 1. */
static inline uint64_t shard_map_all(uint16_t shard_cnt)
{
    return shard_cnt >= 64 ? UINT64_MAX : (UINT64_C(1) << shard_cnt) - 1;
}
/* Owner of a new partition: the shard with the fewest partitions of its topic (of_topic[shard]); of
 * several the one with the fewest of all (load[shard]); of several the lowest. */
uint16_t shard_map_choose(uint64_t among, const uint32_t *of_topic, const uint32_t *load);
/* Owner after a change of the number of shards. */
uint16_t shard_map_rendezvous(const struct uuid *topic_id, int32_t partition, uint64_t among);
