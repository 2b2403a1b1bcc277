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
    uint64_t total_bytes; /* of the whole partition */
    uint32_t segment_cnt; /* the same; its last one is active */
};
struct retain_verdict {
    uint32_t drop;    /* this many of the oldest */
    bool roll_active; /* the active segment holds data that is too old: close it, then it may go */
};
/* The oldest segments first, not necessarily all: what may go behind them is for the next pass.
 *     time: now - largest record timestamp > retention.ms (file time when no record has one)
 *     size: total - retention.bytes >= size of the oldest
 *     log start: the next segment begins at or below it */
struct retain_verdict retain_judge(const struct retain_policy *rp, const struct plog_segment *segs,
                                   uint32_t cnt);
