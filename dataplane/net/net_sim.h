/* net_sim.h - transport.h in memory, under a virtual clock: several nets on one thread, joined by a
 * world. What happens depends on the seed and the calls made, on nothing else.
 *
 * Time is what poll() is told; bytes sent at t arrive at the first poll of the receiving net with
 * now >= t + delay. TX_DONE means: delivered to the peer's queue. Received buffers are heap memory
 * and may outlive the net. */
#pragma once
#include "dataplane/net/transport.h"

struct sim_world;

/* Zero means: none, or what is said in parentheses. */
struct sim_cfg {
    uint64_t seed;
    uint64_t delay_min_ns, delay_max_ns; /* each piece; order within a direction is kept */
    uint32_t chunk_max; /* pieces of 1..chunk_max bytes, drawn from the seed (64 KiB, not drawn) */
    uint32_t wire_max;  /* bytes on the way in one direction (no limit but the window) */
    uint32_t reset_ppm; /* chance per piece that the connection is reset instead */
    uint32_t conn_max;  /* per net (1024) */
    uint32_t tx_segs_max; /* views queued for sending, per net (8192) */
};

NODISCARD int sim_world_create(const struct sim_cfg *cfg, struct sim_world **ret_world);
/* After all its nets. */
void sim_world_destroy(struct sim_world *w);
/* Listeners of all nets of a world share one address space; several nets may listen on the same
 * address and share its connections, as with SO_REUSEPORT; one net twice is -EADDRINUSE. */
NODISCARD int net_sim_create(struct sim_world *w, uint16_t shard, uint16_t nshards,
                             struct net **ret_net);
