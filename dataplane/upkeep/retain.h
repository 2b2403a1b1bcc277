/* retain.h - which segments of a partition may go: Kafka's rules (ondisk.md 9), pure.
 *
 * Segments go oldest first, only sealed ones (flushed; their end is below the high watermark). */
#pragma once
#include "dataplane/store/plog.h"
#include <stdbool.h>
#include <stdint.h>

struct retain_policy {
    int64_t retention_ms, retention_bytes; /* -1: none */
    bool delete_;                          /* cleanup.policy holds delete */
    int64_t log_start;                     /* segments wholly below it go whatever the policy */
    int64_t now_ms;
};
struct retain_verdict {
    uint32_t drop;    /* this many of the oldest */
    bool roll_active; /* the active segment holds data that is too old: close it, then it may go */
};
/* Segments oldest first, the last one is active.
 *     time: now - largest record timestamp > retention.ms (file time when no record has one)
 *     size: total - retention.bytes >= size of the oldest
 *     log start: the next segment begins at or below it */
struct retain_verdict retain_judge(const struct retain_policy *rp, const struct plog_segment *segs,
                                   uint32_t cnt);
