/* shard_map.h - which shard owns a partition: pure functions of their arguments, the same answer on
 * every machine and in every version (owners.h stores the answers).
 *
 * At creation: partitions of a topic go round the shards, starting at the least loaded one, so that
 * neighbours lie on neighbouring shards and no shard has more than one partition of the topic above
 * another. When the number of shards changes, every partition is mapped anew by rendezvous hash:
 * from n to n + 1 shards only about 1 / (n + 1) of them move. */
#pragma once
#include "lib/base/uuid.h"
#include <stdint.h>

/* First shard of a new topic: the one with the fewest partitions, the lowest id of several. */
uint16_t shard_map_start(const uint32_t *load, uint16_t shard_cnt);
/* Owner of partition p of a topic that starts at `start`. */
static inline uint16_t shard_map_assign(uint16_t start, uint32_t p, uint16_t shard_cnt)
{
    return (uint16_t)((start + p) % shard_cnt);
}
/* Owner after a change of the number of shards. */
uint16_t shard_map_rendezvous(const struct uuid *topic_id, int32_t partition, uint16_t shard_cnt);
