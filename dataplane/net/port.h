/* port.h - DPDK ports: devices, their queues, and the two stages of a turn that serve them.
 *
 *     ports_open -> port_set_create per shard -> ports_start -> shards run -> ports_stop
 *                -> port_set_destroy per shard -> ports_close
 *
 * Queues: as many as the plan gives to shards, or as the device has. Queue q is polled by the shard
 * that was planned for queue q modulo the planned number, so a device with fewer queues is polled
 * by fewer shards, and one with more (af_packet, whose kernel side feeds all of its queues) by some
 * shards twice.
 * Order unit: a device that hashes on the source address alone keeps each source on one shard by
 * itself; from any other device every datagram goes to source_shard(peer) (dgram_handover.h).
 *
 * Ledger (counters.h): seen = to_udp + to_host + handled + in_reassembly + drop[] whenever a
 * function here returns. A datagram handed to another shard counts as to_udp here and as received
 * by the listener there; one for which no message was free is to_udp, too, and a drop of the
 * listener (handoff_full), which the hand-over reports.
 * Fragments are put together on the shard that receives them: devices and the kernel spread
 * fragments by addresses only. */
#pragma once
#include "dataplane/net/dgram_handover.h"
#include "dataplane/shard/shard.h"
#include "lib/base/err.h"
#include "lib/iface/conf.h"

struct ports;    /* all ports of the process */
struct port_set; /* what one shard polls */

/* ---- Main thread, after rte_eal_init. Errors: a negative rc and in err[] one sentence that names
 * the port and what to do. */

struct ports_cfg {
    const struct conf *conf; /* ports, listeners, mbufs; outlives the ports */
    uint16_t shard_cnt;
    const int *shard_node; /* NUMA node of each shard (negative: any), or NULL */
    /* Planned queue of each shard at each port (negative: none), or NULL: queue i for shard i. Read
     * by ports_open only. */
    const int16_t (*shard_queue)[CONF_PORTS_MAX];
};
/* What can be found wrong with conf.ports without DPDK: interfaces, files and devices that are not
 * there, missing permission. For before rte_eal_init, whose drivers explain less. 0 or negative. */
NODISCARD int ports_check(const struct conf *c, char *err, size_t err_cap);

/* Find or create every device of conf.ports, configure queues and offloads, make one packet pool
 * per shard. A device that the EAL did not probe is attached now. */
NODISCARD int ports_open(const struct ports_cfg *cfg, struct ports **ret, char *err,
                         size_t err_cap);
/* Receive from now on. Datagrams wait in the device until the shards run. */
NODISCARD int ports_start(struct ports *p, char *err, size_t err_cap);
/* After the shards have ended. */
void ports_stop(struct ports *p);
/* After the port sets are gone. Accepts NULL. */
void ports_close(struct ports *p);
/* Does conf have any? Then a shard's sleep is bounded: these devices do not wake it. */
bool ports_any(const struct ports *p);

struct port_set_cfg {
    struct shard *shard; /* id, conf, counters, timers are set; becomes s->ports' owner */
    struct dgram_handover *handover; /* NULL with one shard */
    dgram_deliver_fn *deliver;
    bool (*has_room)(void *arg, uint32_t n); /* for n datagrams now? NULL: always */
    void *arg;
};
/* 0 or -ENOMEM. */
NODISCARD int port_set_create(struct ports *p, const struct port_set_cfg *cfg,
                              struct port_set **ret);
void port_set_destroy(struct port_set *ps); /* after ports_stop; accepts NULL */

/* ---- The shard's thread. */

/* The stage "port_rx". @hot. Takes at most `budget` frames (rounded up to a burst per queue) and
 * delivers their datagrams, which live until port_tx_flush. s->ports == NULL: nothing to do. */
uint32_t port_rx_poll(struct shard *s, uint32_t budget);
/* The stage "port_tx". @hot. Sends what this turn queued, and ends the turn: receive buffers go
 * back to their pool. What the device does not take is dropped and counted. */
uint32_t port_tx_flush(struct shard *s, uint32_t budget);
/* Stop: what the queues hold is still taken by port_rx_poll in the next turns, at most as many
 * frames as they have descriptors; then nothing any more (take_rest false: at once). What is held
 * in reassembly at that point becomes a drop (restart). */
void port_set_drain(struct port_set *ps, bool take_rest);
bool port_set_is_drained(const struct port_set *ps);
/* Bring the device's own counters up to date now instead of at the next second. */
void port_set_sync(struct port_set *ps);
