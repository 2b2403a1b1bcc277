/* pipeline.h - one shard put together: its modules, its turn, its end. pipeline.c is the only file
 * that knows every stage.
 *
 *     pipeline_create -> pshard_create (each shard, on its own lcore) -> pshard_run -> MSG_STOP
 *         -> every module drains -> reply -> (all shards have replied) -> pshard_destroy
 *
 * Memory of a shard is taken by the shard's own thread, so it lies on the shard's NUMA node. */
#pragma once
#include "dataplane/shard/shard.h"
#include "dataplane/topo/topo_plan.h"
#include "lib/iface/conf.h"

struct stats_shm;
struct ports;    /* net/port.h */
struct offload;  /* accel/offload.h */
struct pipeline; /* what shards have in common: read-only but for the count of closed shards */
struct pshard;   /* a shard with everything it owns */

/* A kernel socket that was bound at start, one descriptor per shard (net/sock_open.h). The shard
 * listens on it from its first metadata image on; until then the kernel queues. */
enum door_kind { DOOR_KAFKA, DOOR_EVENTS_TCP, DOOR_EVENTS_UDP };
struct door {
    enum door_kind kind;
    uint16_t idx; /* in conf.kafka or conf.listeners */
    struct net_addr bound;
    int fd[SHARD_MAX]; /* -1: its shard has taken it */
};
#define DOORS_MAX (CONF_KAFKA_MAX + CONF_LISTENERS_MAX)

struct pipeline_opts {
    const struct conf *conf;
    const struct plan *plan;
    struct mbox_net *mboxes; /* endpoints: the shards, then the control thread */
    struct stats_shm *stats; /* NULL: counters are not published */
    struct catalog *catalog; /* open, recovered */
    struct ports *ports;     /* open; NULL: none are configured */
    struct offload *offload; /* open; NULL: none is configured */
    uint32_t door_cnt;
    struct door *doors; /* the caller's; shards take their descriptors */
};
NODISCARD int pipeline_create(const struct pipeline_opts *opts, struct pipeline **ret);
void pipeline_destroy(struct pipeline *p);
/* Binds msg_handlers of everything that shards serve; the control thread binds its own rows. */
void pipeline_bind_handlers(void);

/* The turn, for stats.shm and documentation. */
uint32_t pipeline_stage_cnt(void);
const char *const *pipeline_stage_names(void);

/* On the shard's own lcore. pshard_create: 0 or negative with a sentence in err[]. */
NODISCARD int pshard_create(struct pipeline *p, uint16_t id, struct pshard **ret, char *err,
                            size_t err_cap);
/* Returns when the stop protocol is over. */
void pshard_run(struct pshard *ps);
/* Accepts NULL. */
void pshard_destroy(struct pshard *ps);
