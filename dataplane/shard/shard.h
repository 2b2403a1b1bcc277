/* shard.h - one pinned core and everything it owns. Shared nothing: no other thread touches a
 * struct shard; it is reached by messages (mbox.h) and watched through counters (stats_shm.h).
 *
 * Runs on: its own lcore, in shard_run, which executes the turn table until told to stop. */
#pragma once
#include "dataplane/shard/mbox.h"
#include "lib/base/err.h"
#include "lib/base/timer.h"
#include <stdbool.h>
#include <stdint.h>

struct uring;
struct net;          /* transport.h: TCP connections of this shard */
struct sock_dgrams;  /* net/sock_dgram.c: kernel UDP sockets of this shard */
struct port_set;     /* net/port.h: DPDK queues of this shard */
struct ingest;       /* ingest/ingest.h */
struct plog_set;     /* store/plog.h: partitions of this shard */
struct kafka;        /* kafka/api.h */
struct kafka_shared; /* kafka/shared.h: what all shards count together */
struct codec_ctx;
struct offload_queue; /* accel/offload.h */
struct counters;   /* dataplane/counters.h */
struct meta_image; /* lib/meta/image.h */
struct owner_map;  /* shard/owner_map.h: which shard owns a partition */
struct conf;       /* lib/iface/conf.h: immutable configuration snapshot */

#define SHARD_MAX 64
#define STAGE_MAX 16

/* MSG_STOP. The reply's rc is negative when some partition could not be closed in order. */
struct stop_msg {
    struct msg msg;
    uint32_t unclosed_cnt; /* of the reply: how many could not */
};
struct shard {
    uint16_t id, cnt;
    int numa_node, cpu;
    bool stopping;
    /* Time of the current turn, read once at its start. */
    uint64_t now_tsc, now_ns;
    int64_t wall_ms;

    const struct conf *conf;
    struct mbox *mbox;
    struct uring *uring;
    struct timer_wheel *timers;
    struct counters *counters;
    struct codec_ctx *codecs;
    struct offload_queue *offload; /* compression device; NULL: none */
    const struct meta_image *image; /* replaced only by MSG_IMAGE; valid until that is replied */
    const struct owner_map *owners; /* replaced together with image */

    struct net *net;
    struct sock_dgrams *dgrams;
    struct port_set *ports;
    struct ingest *ingest;
    struct plog_set *plogs;
    struct kafka *kafka;
    struct kafka_shared *kafka_shared; /* NULL: the shard counts for itself */

    /* Cycle accounting of the turn loop: cycles of turns that moved something, and of the rest,
     * and per stage (indexed like the turn table). */
    uint64_t busy_cycles, idle_cycles, turns, turn_max_cycles;
    uint64_t turn_cycles; /* of the last turn */
    uint64_t stage_cycles[STAGE_MAX], stage_items[STAGE_MAX];
    uint64_t sleeps, sleep_cycles;
    struct stop_msg *stop_msg; /* between its arrival and its reply */
};

/* One stage of a turn: does at most `budget` items, returns how many it did. Never blocks.
 * next_ns (may be NULL): the earliest time (s->now_ns scale) at which the stage has work even if
 * nothing arrives; UINT64_MAX: none; a time that has passed: now, do not sleep. */
typedef uint32_t stage_fn(struct shard *s, uint32_t budget);
typedef uint64_t stage_next_fn(struct shard *s);
struct stage {
    const char *name;
    stage_fn *run;
    uint32_t budget;
    stage_next_fn *next_ns;
};

enum idle_policy { IDLE_ADAPTIVE, IDLE_POLL };

/* Run the turn table until opts->may_end says so at the end of a turn.
 *
 * poll:     never sleeps.
 * adaptive: after some empty turns in a row (at most spin_turns; fewer while sleeps turn out to be
 *           long) sleep by opts->wait until a completion, a wake-up by another shard, or the next
 *           timer or stage deadline. One sleep is at most sleep_max_ns
 *           (1 ms where a port cannot interrupt, far more elsewhere), and sleep_quiet_max_ns once
 *           nothing has moved for SHARD_QUIET_NS. A sleep after which nothing was to be done is
 *           followed by one turn, not by spinning again: idling costs a wake-up per sleep_max_ns.
 *
 * Every turn: time is read once; every stage runs with its budget; cycles are accounted. */
#define SHARD_QUIET_NS UINT64_C(1000000000)
struct shard_run_opts {
    const struct stage *turn;
    uint32_t stage_cnt;
    enum idle_policy idle;
    uint32_t spin_turns;
    uint64_t sleep_max_ns, sleep_quiet_max_ns;
    /* Submit what is prepared and sleep at most timeout_ns; wakes for mbox_wake_fd (uring_wait). */
    void (*wait)(struct shard *s, uint64_t timeout_ns);
    /* End of a turn (publishing counters); busy: the turn moved something. May be NULL. */
    void (*turn_end)(struct shard *s, bool busy);
    /* Asked after a turn while s->stopping: has the stop protocol finished? NULL: after the first
     * empty turn. */
    bool (*may_end)(struct shard *s);
};
void shard_run(struct shard *s, const struct shard_run_opts *opts);
