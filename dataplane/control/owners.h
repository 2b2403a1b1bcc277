/* owners.h - DIR/state/owners: which shard owns each partition, remembered across restarts.
 *
 * A partition's owner is chosen when it is created, among the shards of its disk's node
 * (shard_map), and stored. When the number of shards has changed since the file was written, every
 * partition is mapped anew by rendezvous hash: an order boundary that the caller reports. A stored
 * owner of another node than the disk's stays: data directories and cores were moved, and order
 * matters more. The file is text, replaced atomically: "sluice-owners 1 <shards>", then one
 * "<topic id> <partition> <shard>" line each. It can be deleted: owners are then chosen anew.
 * Runs on: the control thread. Blocks: load and save. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include <stdbool.h>
#include <stdint.h>

struct owners;
/* Reads the file of `dir` (DIR/state). A missing or damaged file gives an empty table (damage is
 * logged). *ret_changed says that owners may differ from before; owners_before tells of how many
 * shards the file was, 0 when it could not be read. */
NODISCARD int owners_load(const char *dir, uint16_t shard_cnt, struct owners **ret,
                          bool *ret_changed);
uint16_t owners_before(const struct owners *o);
void owners_destroy(struct owners *o);
/* Owners of partitions [0, cnt) of a topic into out[]; those without one get one. among[p] are the
 * shards that partition p's disk allows; those that do not exist are ignored, none: all. */
NODISCARD int owners_of_topic(struct owners *o, const struct uuid *topic_id, uint32_t cnt,
                              const uint64_t *among, uint8_t *out);
void owners_forget_topic(struct owners *o, const struct uuid *topic_id);
/* Writes the file when something changed since the last save. 0 or -errno. */
NODISCARD int owners_save(struct owners *o);
