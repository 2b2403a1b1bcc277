/* upkeep.h - background work on the partitions of one shard: retention, and making room when the
 * disk is nearly full.
 *
 * Decides only; files are removed by the store's housekeeping thread. One pass over all partitions
 * per interval, a bounded number of partitions per poll.
 * Runs on: the shard. Blocks: never. */
#pragma once
#include "dataplane/store/plog.h"
#include <stdint.h>

struct shard;
struct upkeep {
    struct plog_set *set;
    uint64_t interval_ns, next_ns;
    uint64_t segments_dropped, segments_dropped_for_space, rolled;
};
/* interval_ms: Kafka's log.retention.check.interval.ms, 300,000. */
void upkeep_init(struct upkeep *u, struct plog_set *set, uint32_t interval_ms);
/* Stage or timer body. When a data directory is read-only for lack of space, the oldest sealed
 * segment of all `delete` partitions goes, one per poll. Count of segments dropped. */
uint32_t upkeep_poll(struct upkeep *u, const struct shard *s);
