/* bench_load.h - what the commands of sluice-bench share.
 *
 * A command drives the installed programs through the doors that everybody has (a pcap port, Kafka
 * clients, the counters' file) and measures from outside; no part of the pipeline is linked in.
 * Results go to stdout (a table, or JSON with --json), messages to stderr.
 * Runs on: the main thread unless a function says otherwise. */
#pragma once
#include "ctl/cli/args.h"
#include "lib/base/err.h"
#include "lib/iface/stats_shm.h"
#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef int bench_cmd_fn(int argc, char **argv);
#define CMD(name, fn, args, help) bench_cmd_fn fn;
#include "bench/load/cmd.def"
#undef CMD

/* One sentence on stderr; returns EXIT_FAILED. */
__attribute__((format(printf, 1, 2))) int bench_fail(const char *fmt, ...);
/* SIGINT or SIGTERM came: end early, clean up, report what was measured. */
bool bench_interrupted(void);
void bench_sleep_ms(uint32_t ms); /* returns at once when interrupted */
/* How the command is called, on stderr; returns EXIT_USAGE. */
int bench_usage(const char *cmd);
#define BENCH_OPT_JSON(to)                                                                         \
    {                                                                                              \
        "--json", NULL, ARG_FLAG, (to), 0, 0, NULL                                                 \
    }
#define BENCH_SECONDS_MAX 3600

/* ---- latency.c: latencies in log buckets: 32 per power of two, so within 3 % (as HdrHistogram).
 */
#define LATENCY_SUB 32
#define LATENCY_LEN (64 * LATENCY_SUB)
struct latency {
    uint64_t cnt, max, sum;
    uint64_t bucket[LATENCY_LEN];
};
void latency_add(struct latency *h, uint64_t v);
void latency_merge(struct latency *to, const struct latency *from);
/* Smallest bucket end below which the share `q` (0..1) of the values lies; 0 without values. */
uint64_t latency_quantile(const struct latency *h, double q);
/* {"count", "mean", "p50", "p99", "p999", "max"} of nanoseconds, as microseconds. */
json_t *latency_json(const struct latency *h);
void latency_print(const char *label, const struct latency *h);

/* ---- machine.c: {"cpu", "cores", "kernel", "version", "build"}; build is version and commit */
json_t *machine_json(void);
void machine_print(void);

/* ---- appliance.c: an installed sluiced of our own on a temporary directory. */
struct appliance {
    char base[512];      /* temporary directory, removed by appliance_remove */
    char dir[600];       /* base/data */
    char bootstrap[128]; /* of its Kafka listener, once started */
    pid_t pid;
    uint64_t start_ms; /* how long the last start took, to the first answer */
};
/* Makes the temporary directory in $TMPDIR or /var/tmp. EXIT_OK or EXIT_FAILED after a message. */
NODISCARD int appliance_create(struct appliance *a);
/* Starts with this YAML (data.dir excepted) and waits until it serves. As above. */
NODISCARD int appliance_start(struct appliance *a, const char *yaml);
/* SIGTERM, then waits. EXIT_FAILED when it did not end, or not with 0. */
NODISCARD int appliance_stop(struct appliance *a);
/* Ends it if it still runs, removes the directory. */
void appliance_remove(struct appliance *a);
bool appliance_is_alive(struct appliance *a);
/* Bytes free on its file system. */
uint64_t appliance_disk_free(const struct appliance *a);
/* Configuration that every benchmark's appliance has: free ports, no syslog listeners. */
#define APPLIANCE_YAML                                                                             \
    "http:\n  bind: 127.0.0.1:0\n"                                                                 \
    "kafka:\n  listeners:\n    - name: kafka\n      bind: 127.0.0.1:0\n"
#define APPLIANCE_DISK_MIN (UINT64_C(2) << 30) /* less free space than this ends a run */

/* ---- kafka_client.c: librdkafka */
struct client_opt {
    const char *name, *value;
};
/* NULL after a message. `opts` end with name == NULL. */
rd_kafka_t *client_new(rd_kafka_type_t type, const char *bootstrap, const struct client_opt *opts,
                       void (*dr)(rd_kafka_t *, const rd_kafka_message_t *, void *), void *opaque);
/* Makes a topic. EXIT_OK, or EXIT_FAILED after a message. */
NODISCARD int client_topic_create(rd_kafka_t *rk, const char *topic, uint32_t partitions);
NODISCARD int client_topic_delete(rd_kafka_t *rk, const char *topic);
/* How many partitions it has. As above. */
NODISCARD int client_partitions(rd_kafka_t *rk, const char *topic, uint32_t *ret);
/* Start and end of every partition. As above. */
struct client_range {
    int64_t low, high;
};
NODISCARD int client_ranges(rd_kafka_t *rk, const char *topic, uint32_t partitions,
                            struct client_range *ret);
/* Assigns partitions from..to-1 of the topic at `ranges[p].low` (or at the end). */
NODISCARD int client_assign(rd_kafka_t *rk, const char *topic, uint32_t from, uint32_t to,
                            const struct client_range *ranges, bool at_end);
