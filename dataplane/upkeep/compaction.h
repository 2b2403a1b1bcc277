/* compaction.h - keeps the partitions of one shard small by rewriting their sealed segments: the
 * last value of each key of compacted topics, and compression of what was written plain
 * (sluice.compression=auto, or a compression.type that was set later).
 *
 *     IDLE --a partition is due, lease taken--> AT_WORK --a group is written--> SWAP
 *       ^                                        |  ^                            | plog_swap
 *       `-- no more groups, damage, or thrown ---'  `---------- in place --------'
 *           away: lease given back
 *
 * Which partition: Kafka's LogCleanerManager (ondisk.md 10), the dirtiest first, one at a time. The
 * work is done by a housekeeping thread of its own, at `rate_bytes` read and written a second; keys
 * take map_bytes, in several rounds if they do not fit. A batch that cannot be read makes the
 * partition uncleanable: it is said once, the scrubber looks at the place, and it is tried again up
 * to COMPACTION_TRIES times; others go on.
 * Runs on: the shard. Blocks: never; create and destroy do. */
#pragma once
#include "dataplane/store/plog.h"
#include "lib/base/err.h"
#include <stdint.h>

#define COMPACTION_TRIES 3

struct file_io;
struct compaction;
struct compaction_conf {
    struct plog_set *set;
    struct file_io *io;   /* only its blocking calls are used */
    uint64_t map_bytes;   /* log.cleaner.dedupe.buffer.size */
    uint64_t rate_bytes;  /* log.cleaner.io.max.bytes.per.second; 0: nothing is rewritten */
    uint64_t interval_ns; /* log.cleaner.backoff.ms: between two looks when nothing is due */
    bool threaded;
    int wake_fd;     /* written when the thread has something; -1: none */
    const int *cpus; /* used by create only */
    uint32_t cpu_cnt;
};
struct compaction_stats {
    uint64_t rounds;                    /* finished */
    uint64_t segments_in, segments_out; /* put in place: out for in */
    uint64_t bytes_in, bytes_out;       /* of these */
    uint64_t read_bytes;                /* by all passes, also of what stayed as it was */
    uint64_t records_dropped, keyless;  /* keyless: records without a key in compacted topics */
    uint64_t recoded_segments;          /* of segments_out: compressed */
    uint64_t thrown_away;               /* groups: the partition had changed meanwhile */
    uint64_t errors;
    uint32_t uncleanable; /* partitions, at the last look */
    uint64_t dirty_bytes; /* sealed and not compacted yet, at the last look */
    bool active;
};
/* 0, -ENOMEM, -errno. */
NODISCARD int compaction_create(const struct compaction_conf *c, struct compaction **ret);
/* Take up nothing new and end what is under way soon. */
void compaction_stop(struct compaction *c);
bool compaction_is_idle(const struct compaction *c);
/* Waits for what the thread is at, some milliseconds after compaction_stop. */
void compaction_destroy(struct compaction *c);
/* In every turn. Count of steps taken. */
uint32_t compaction_poll(struct compaction *c, uint64_t now_ns, int64_t wall_ms);
void compaction_stats_get(const struct compaction *c, struct compaction_stats *ret);
