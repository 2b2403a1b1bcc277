/* upkeep.h - background work on the partitions of one shard: retention, and making room when the
 * disk is nearly full.
 *
 * Decides only; files are removed by the store's housekeeping thread. One pass over all partitions
 * per interval.
 * Runs on: the shard. Blocks: never. */
#pragma once
#include "dataplane/store/plog.h"
#include <stdint.h>

#define UPKEEP_GAPS_MAX 8 /* on their way at a time; more stay with their partitions */

struct shard;
struct upkeep {
    struct plog_set *set;
    uint64_t interval_ns, next_ns;
    struct upkeep_gap {
        struct plog_gap_msg m;
        struct upkeep *u;
        bool busy;
    } gaps[UPKEEP_GAPS_MAX];
    uint32_t gaps_busy;
    uint64_t room_next_ns; /* nothing to drop was found: look again then */
    uint64_t segments_dropped, segments_dropped_for_space, rolled;
};
/* interval_ms: Kafka's log.retention.check.interval.ms, 300,000. */
void upkeep_init(struct upkeep *u, struct plog_set *set, uint32_t interval_ms);
/* In every turn, for a fast producer fills a disk in less than a second: while a data directory has
 * less than storage.min_free, the oldest sealed segments of the `delete` partitions in it go, as
 * many as it takes, at most 64 per call. Count of segments dropped. */
uint32_t upkeep_make_room(struct upkeep *u, const struct shard *s);
/* Timer body, once a second: retention, the same, and what was dropped for space goes to the
 * control thread, which records it; what cannot be recorded now is tried again. */
uint32_t upkeep_poll(struct upkeep *u, const struct shard *s);
/* Reply handler of MSG_SPACE_GAP. */
void upkeep_on_gap_reply(struct shard *s, struct msg *m);
/* No message under way. */
bool upkeep_is_idle(const struct upkeep *u);
