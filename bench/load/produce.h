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
/* paced.c: records at a steady rate, acks=all, and a reader at the end of the same partition. */
struct paced_opts {
    const char *bootstrap, *topic;
    uint32_t partition, size; /* size: at least 8 */
    uint64_t rate, ns;        /* records a second, in bursts of a millisecond; for so long */
};
struct paced_result {
    struct latency acked, end_to_end; /* produce() to acknowledgement, to consumer; nanoseconds */
};
NODISCARD int paced_run(const struct paced_opts *o, struct paced_result *ret);
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
