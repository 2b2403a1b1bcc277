/* sim_log.h - what the logs of the simulation must hold: every batch that the store has accepted,
 * by offset. Learned by standing between everybody who appends and plog_append (the linker's
 * --wrap), so that it knows nothing of how the store works. One thread. */
#pragma once
#include "tests/sim/sim_shards.h"

struct sim_batch {
    int64_t base, last;
    uint32_t len, crc;
};
struct sim_log {
    struct uuid topic_id;
    int32_t partition;
    struct sim_batch *v; /* by base offset */
    uint32_t cnt, cap;
    int64_t acked;      /* one past the last offset that a client with acks=all was told of */
    int64_t start_max;  /* DeleteRecords was asked to move the log start up to here */
    uint32_t under_way; /* appends */
};
/* Makes it when it is not there yet. */
struct sim_log *sim_log_of(const struct uuid *topic_id, int32_t partition);
/* Where the log may start at most: requests name topics, and a topic may have been made again. */
int64_t sim_log_start_max(const struct sim_topic *t, int32_t partition);
/* The batch that holds `offset`, or the first one behind it; NULL: none. */
const struct sim_batch *sim_log_at(const struct sim_log *log, int64_t offset);
/* Bytes of one or more batches as the log must give them from `offset` on: whole batches, each as
 * it was accepted. `what` says whose. Returns the offset behind them. */
int64_t sim_log_compare(const struct sim_log *log, int64_t offset, struct span bytes,
                        const char *what);
/* How much a Fetch of one partition gets that asks for at most max_bytes (whole_one: but one batch
 * in any case), as far as it is durable now. */
uint32_t sim_log_bytes(const struct sim_log *log, int64_t offset, int64_t durable,
                       uint32_t max_bytes, bool whole_one);
/* Reads every partition of every topic there is from its owner, and compares. */
void sim_log_verify_all(void);
void sim_log_reset(void);
