/* produce.h - a bounded run of producers, used by `produce` and, to have something to read, by
 * `consume`. */
#pragma once
#include "bench/load/bench_load.h"

struct produce_opts {
    const char *bootstrap, *topic, *acks, *compression;
    uint32_t size, connections;
    uint64_t seconds;   /* stop after this, or */
    uint64_t bytes_max; /* after so many bytes of values per connection; 0: no limit */
};
struct produce_result {
    uint64_t records, failed;
    double seconds;         /* from the first record to the last acknowledgement */
    struct latency latency; /* produce() to delivery report, nanoseconds */
};
/* Producer p writes partition p of an existing topic. EXIT_OK, or EXIT_FAILED after a message. */
NODISCARD int produce_run(const struct produce_opts *o, struct produce_result *ret);
/* Text like a log's, `size` bytes, distinct by `seed`: compresses about as well as events do. */
void payload_fill(char *p, uint32_t size, uint32_t seed);
/* Where a producing or consuming command works: --bootstrap, or an appliance of its own. */
struct target {
    struct appliance a;
    const char *bootstrap;
    char topic[64];
};
NODISCARD int target_open(struct target *t, const char *bootstrap, const char *name,
                          uint32_t partitions, uint64_t shards);
/* Deletes the topic where it is not the appliance of our own; stops that one. */
NODISCARD int target_close(struct target *t, int code);
