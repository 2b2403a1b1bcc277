/* control.h - the dataplane's control thread: what shards must not do because it blocks.
 *
 *     sluiced --metadata--> image --partitions made and removed--> shards --applied--> sluiced
 *     shards --admin requests, producer ids--> sluiced --answers--> shards
 *
 * It owns the control socket, the metadata image and the owner map, creates and deletes partition
 * directories, hands partitions to their shards, checkpoints offsets and ledgers, watches disk
 * space, writes the `_sluice.gaps` record, and runs the stop protocol.
 * Runs on: the process's main thread. Blocks: yes; shards never wait for it but through messages.
 *
 * When sluiced is away everything goes on from the last image; admin requests wait for their
 * timeout; producer ids come from two prefetched blocks. With conf.dev the process stops
 * CONTROL_DEV_ORPHAN_MS after losing sluiced. */
#pragma once
#include "dataplane/shard/shard.h"
#include "dataplane/store/catalog.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/iface/conf.h"
#include "lib/iface/ctl_proto.h"
#include "lib/iface/stats_shm.h"

#define CONTROL_DEV_ORPHAN_MS 30000
#define CONTROL_STOP_MS 30000
#define CONTROL_LISTENERS_MAX (CONF_KAFKA_MAX + CONF_LISTENERS_MAX)
#define CONTROL_ADMIN_MAX 1024 /* admin requests waiting; one more is answered -E_BUSY */

struct control_listener { /* what is bound, for sluiced */
    char name[CONF_NAME_MAX];
    enum ctl_listener_kind kind;
    struct net_addr addr; /* real port */
    char advertised_host[256];
    uint16_t advertised_port;
};
struct control_opts {
    const struct conf *conf;
    uint16_t shard_cnt;
    struct mbox *mbox;       /* of endpoint shard_cnt */
    struct catalog *catalog; /* open; recovery has run */
    /* By data directory of the catalog: bit s: shard s may own its partitions; none: all may. */
    uint64_t dir_shards[CATALOG_DIRS_MAX];
    struct list *found; /* struct part.link of what recovery found; taken over */
    struct stats_shm *stats;
    const char *stats_path;
    struct ledger_gap gap;
    uint32_t listener_cnt;
    struct control_listener listeners[CONTROL_LISTENERS_MAX];
    int stop_fd; /* when readable, told_to_stop is asked */
    bool (*told_to_stop)(void);
};
struct control;
NODISCARD int control_create(const struct control_opts *opts, struct control **ret);
/* Serve until told to stop; returns when every shard has closed (0: everything was closed cleanly)
 * or the stop took longer than CONTROL_STOP_MS (-E_TIMED_OUT: leave without the clean mark). */
int control_run(struct control *c);
/* After control_run: every partition was closed in order. */
bool control_closed_cleanly(const struct control *c);
/* Write DIR/state/ledger; `clean` after everything was closed. 0 or -errno. */
int control_save_ledger(struct control *c, bool clean);
void control_destroy(struct control *c);

/* Rows of msg_handlers: requests of shards, replies of shards. */
void control_bind_handlers(struct msg_handlers *handlers);
