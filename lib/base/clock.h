/* clock.h - time sources. The hot path never calls these per item: a shard reads them once a turn
 * into shard->now_ns and shard->wall_ms. Tests own time by setting clock_source.
 * Runs on: any thread. */
#pragma once
#include <stdint.h>

/* Monotonic nanoseconds; only differences mean anything. */
uint64_t clock_mono_ns(void);
/* Wall clock, milliseconds since 1970 UTC: Kafka's timestamps. */
int64_t clock_wall_ms(void);
/* CPU time stamp counter and its rate, for cycle accounting only. */
uint64_t clock_tsc(void);
/* Measured on the first call, which sleeps 20 ms: call it once at start. */
uint64_t clock_tsc_hz(void);

/* Replaceable in tests; NULL members mean the system's clock. Not thread-safe: set before use. */
struct clock_source {
    uint64_t (*mono_ns)(void *arg);
    int64_t (*wall_ms)(void *arg);
    void *arg;
};
/* NULL restores the system clock. */
void clock_set_source(const struct clock_source *src);
