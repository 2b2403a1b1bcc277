/* daemon.h - sluiced itself: the main loop that joins controller, control socket, supervision and
 * HTTP.
 *
 *     STARTING --dataplane applied all metadata--> READY --dataplane ended--> STARTING
 *     any --SIGTERM--> STOPPING --dataplane ended--> daemon_run returns
 *
 * Runs on: sluiced's main thread; libmicrohttpd runs inside its poll loop, so nothing here locks.
 */
#pragma once
#include "ctl/controller/controller.h"
#include "ctl/link/link.h"
#include "ctl/supervise/supervise.h"
#include "lib/iface/conf.h"
#include "lib/iface/stats_shm.h"
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define DAEMON_LISTENERS_MAX (CONF_LISTENERS_MAX + CONF_KAFKA_MAX)
#define DAEMON_MISSING_MAX 4

enum daemon_phase { DAEMON_STARTING, DAEMON_READY, DAEMON_STOPPING };

struct daemon_listener { /* what the dataplane has bound */
    char name[CONF_NAME_MAX];
    int8_t kind; /* enum ctl_listener_kind */
    char host[256];
    uint16_t port;
};
struct http;

/* Read by ctl/http; changed by daemon.c only. */
struct daemon {
    const struct conf *conf;
    struct identity identity;
    struct controller *controller;
    struct link *link;
    struct supervise *supervise;
    struct http *http;
    enum daemon_phase phase;
    int64_t start_wall_ms;

    /* dataplane */
    bool greeted;         /* HELLO_REPLY sent: batches may follow */
    uint64_t connection;  /* counts greetings; answers of an older one are dropped */
    int64_t ready_offset; /* READY when this is applied */
    int32_t shard_cnt;
    uint32_t listener_cnt;
    struct daemon_listener listeners[DAEMON_LISTENERS_MAX];
    uint32_t restarts;   /* times the dataplane ended unasked */
    char last_exit[512]; /* how it ended last */
    bool answers;        /* it answered the last ping */
    /* partitions that could not be made on disk: how many, and the first of them */
    uint32_t missing_cnt, missing_named;
    char missing[DAEMON_MISSING_MAX][256];
    double busy_percent[STATS_SHARDS_MAX]; /* by shard, of the last second */
    uint64_t busy_cycles[STATS_SHARDS_MAX], all_cycles[STATS_SHARDS_MAX]; /* at the last sample */
    uint64_t sample_ns;

    /* supervision */
    bool print_hints; /* of daemon_opts */
    bool ever_ready, drain_sent, restart_wanted, forced, gave_up;
    bool was_ready;         /* the dataplane that runs, or ran last, has served */
    uint32_t failed_starts; /* in a row, without having served */
    uint32_t quick_ends;    /* in a row, soon after the start, having served */
    uint64_t start_ns, connect_ns, kill_ns, ping_ns; /* not before; 0: never or now */
    uint64_t told_ns;                                /* when it was told to stop */
    uint64_t wait_lock_ns; /* since when another process holds DIR/run/lock */
    int signal_fd;
    int exit_code;
    bool ended_in_order; /* the dataplane, after we told it to stop */
};

struct daemon_opts {
    const struct conf *conf; /* borrowed */
    const char *dataplane;   /* program */
    bool print_hints;        /* the "try this" text when ready */
};
/* Takes the lock, opens the metadata log, starts HTTP, serves until told to stop. The process's
 * exit code; messages are on stderr. */
int daemon_run(const struct daemon_opts *opts);

/* The mapping of DIR/run/stats.shm, opened again when the dataplane made a new one. The caller
 * closes it with stats_close. 0 or what stats_open says. */
NODISCARD int daemon_stats_open(const struct daemon *d, struct stats_reader **ret);
/* DIR/run/NAME. */
void daemon_path(const struct daemon *d, char out[PATH_MAX], const char *name);
/* ready.c: DIR/run/ports, and the text that --dev prints once. */
void ready_write_ports(const struct daemon *d);
void ready_print_hints(const struct daemon *d);
/* health.c: why the appliance is not all right, as a list of sentences; count. */
#define DAEMON_REASONS_MAX 8
uint32_t daemon_health(const struct daemon *d, char reasons[DAEMON_REASONS_MAX][256]);
