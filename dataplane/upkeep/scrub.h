/* scrub.h - reads the closed segments of one shard again, slowly, and looks for damage before
 * somebody needs what is damaged.
 *
 *     a pass: every closed segment once, rate bytes a second; the next one begins `interval` later
 *     first of all, and at full speed, segments in which a read met damage (plog_segment.suspect)
 *
 * What is damaged is judged and healed as at start (store/seg_audit.h, store/seg_heal.h): bytes are
 * kept aside, readers get CORRUPT_MESSAGE for just the lost offsets and can go on behind them.
 * Before anything is written the place is read again: what was wrong only on its way here is left
 * alone.
 *
 * The shard decides once a second what is next; a housekeeping thread of its own reads, past the
 * page cache where the file system can. No segment is held: one that is dropped meanwhile is gone.
 * Runs on: the shard. Blocks: never; create and destroy do. */
#pragma once
#include "dataplane/store/plog.h"
#include "lib/base/err.h"
#include <stdint.h>

struct file_io;
struct scrub;
struct scrub_conf {
    struct plog_set *set;
    struct file_io *io;  /* only its blocking calls are used */
    uint64_t rate_bytes; /* a second; 0: only what reads have met */
    uint64_t interval_ns;
    bool threaded;
    const int *cpus; /* used by create only */
    uint32_t cpu_cnt;
};
struct scrub_stats {
    uint64_t bytes, segments, passes;
    uint64_t pass_bytes;  /* of the pass under way */
    uint64_t found;       /* damages */
    uint64_t repaired;    /* put right, nothing lost */
    uint64_t quarantined; /* kept aside; their records are lost */
    uint64_t transient;   /* read well the second time */
    uint64_t errors;      /* segments that could not be read, or not healed */
};
/* 0, -ENOMEM, -errno. */
NODISCARD int scrub_create(const struct scrub_conf *c, struct scrub **ret);
/* Waits for what the thread is at: at most a second's worth of reading. */
void scrub_destroy(struct scrub *s);
/* Timer body, once a second. */
void scrub_poll(struct scrub *s, uint64_t now_ns);
void scrub_stats_get(const struct scrub *s, struct scrub_stats *ret);
