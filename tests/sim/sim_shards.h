/* sim_shards.h - several whole shards in one process and one thread, under a virtual clock.
 *
 * Real: the turn loop with its idling (shard.c), mailboxes, Kafka sessions, handlers and group
 * coordinator, the store, image changes (control/apply.c). In place of the world: net_sim for TCP,
 * a fake disk (fake_file.h), a control thread that is an actor of the simulation.
 *
 * Each shard is a coroutine that runs shard_run and gives way after every turn and in every sleep.
 * An actor runs when the virtual clock says so: a shard that is awake after a random delay, one
 * that sleeps when its sleep is over, a message wakes it, or its disk or its network has something.
 * A shard sleeps without a limit, so what should have woken it and did not shows as an answer that
 * comes far too late, or never. Everything is drawn from the seed.
 *
 * One thread; one simulation at a time (`sim`). */
#pragma once
#include "dataplane/control/apply.h"
#include "dataplane/kafka/session.h"
#include "dataplane/net/net_sim.h"
#include "dataplane/shard/shard.h"
#include "lib/meta/records.h"
#include "tests/support/fake_file.h"
#include <inttypes.h>
#include <ucontext.h>

#define SIM_SHARDS 4
#define SIM_TOPICS_MAX 64 /* ever made in one run */
#define SIM_PARTS_MAX 8   /* of one topic */
#define SIM_MS UINT64_C(1000000)
#define SIM_NEVER UINT64_MAX
#define SIM_ADMIN_REPLY_LEN 32u

struct sim_shard {
    struct shard s; /* first */
    ucontext_t ctx;
    bool asleep, ended;
    uint64_t at_ns;  /* awake: the next turn; asleep: the end of the sleep */
    uint64_t io_ns;  /* when some of its operations on the disk complete; SIM_NEVER: none */
    uint64_t job_ns; /* when housekeeping is through; SIM_NEVER: nothing to do */
    struct file_io io;
    struct stop_msg stop;
    bool quiet, closing, store_closed;
    int store_rc;
};
/* What the simulated world is like in this run; drawn from the seed. */
struct sim_traits {
    uint64_t turn_max_ns;  /* between two turns of a shard that is awake */
    uint32_t stall_ppm;    /* chance per turn that it takes up to stall_max_ns */
    uint64_t stall_max_ns; /* another process on that core */
    uint64_t io_max_ns;
    uint64_t wire_max_ns; /* of a piece of a connection's bytes */
    uint32_t ring_cap;    /* of mailboxes */
    bool little_memory;   /* the least request budget there may be */
    bool quotas;          /* on what clients produce and fetch */
    bool little_staging;  /* appends wait for memory */
    uint32_t connections_max;
};
struct sim_topic {
    char name[32];
    struct uuid id;
    uint32_t partition_cnt;
    uint32_t ready_cnt;  /* so many of them every shard knows */
    bool deleted;        /* or about to be */
    uint64_t deleted_ns; /* every shard knows */
};
struct sim_apply;
struct sim {
    uint64_t seed, rng, now_ns;
    struct sim_traits traits;
    struct conf *conf;
    struct sim_shard sh[SIM_SHARDS];
    ucontext_t loop;
    struct mbox_net *mboxes;
    struct mbox *ctl;
    uint64_t ctl_ns;
    struct sim_world *wire;
    struct net *clients;
    struct fake_disk *disk;
    struct catalog *catalog;
    struct kafka_shared *kafka_shared;
    struct meta_image *image;
    struct owner_map *owners;
    struct sim_apply *apply; /* an image on its way to the shards */
    struct sim_topic topics[SIM_TOPICS_MAX];
    uint32_t topic_cnt;
    int64_t next_producer_id;
    struct list held; /* struct msg.link: what the control thread has not answered yet */
    bool stopping;
    uint32_t stop_due; /* shards that have not replied to MSG_STOP; may_end while 0 */
    bool trace;
};
extern struct sim *sim;

/* Say where and why, and abort. */
#define SIM_CHECK(cond, ...)                                                                       \
    do {                                                                                           \
        if (!(cond))                                                                               \
            sim_fail(#cond, __FILE__, __LINE__, __VA_ARGS__);                                      \
    } while (0)
_Noreturn void sim_fail(const char *cond, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define SIM_TRACE(...)                                                                             \
    do {                                                                                           \
        if (sim->trace)                                                                            \
            sim_trace(__VA_ARGS__);                                                                \
    } while (0)
void sim_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t sim_rnd(uint64_t below); /* below 0: any 64 bits */
static inline bool sim_chance(uint32_t percent)
{
    return sim_rnd(100) < percent;
}

/* A fresh world with running shards and no topics. */
void sim_create(uint64_t seed);
/* Everything must have ended (sim_stop). */
void sim_destroy(void);
/* Run whoever is due first: a shard, the control thread, or, when `actor_ns` comes before them,
 * nobody. False then: the clock stands at actor_ns. */
bool sim_step(uint64_t actor_ns);
/* MSG_STOP to all shards. They have ended when sim_has_ended. */
void sim_stop(void);
bool sim_has_ended(void);
/* Aborts when a shard keeps anything back: memory, requests, registrations, reads, messages. For
 * when all connections are closed and the shards had a few seconds. */
void sim_check_nothing_left(void);

/* Topics: the change is on its way when these return. False: another change is still under way. */
bool sim_topic_create(const char *name, uint32_t partitions, const char *key, const char *value);
bool sim_topic_delete(struct sim_topic *t);
bool sim_topic_grow(struct sim_topic *t, uint32_t partitions);
/* The newest of that name; NULL when it is deleted or never was. */
struct sim_topic *sim_topic_find(const char *name);
struct sim_shard *sim_owner(const struct sim_topic *t, int32_t partition);
struct plog *sim_plog(const struct sim_topic *t, int32_t partition); /* NULL: not (any more) */
