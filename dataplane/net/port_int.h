/* port_int.h - what port_setup.c makes and port_rx.c, port_tx.c use. */
#pragma once
#include "dataplane/net/bucket.h"
#include "dataplane/net/ip_reasm.h"
#include "dataplane/net/pkt.h"
#include "dataplane/net/port.h"
#include "dataplane/net/port_host.h"
#include "lib/base/clock.h"
#include "lib/base/timer.h"
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define PORT_BURST 32u      /* frames of one rx_burst */
#define PORT_TURN_MAX 1024u /* frames a shard takes in one turn */
#define PORT_TX_MAX 64u     /* frames queued per port and turn */
#define PORT_JOINED_MAX 64u /* frames of several buffers in one turn */
#define PORT_SAMPLE_NS UINT64_C(1000000000)

struct port { /* one device */
    const struct conf_port *conf;
    uint16_t idx; /* in conf.ports and in the counters */
    uint16_t dev; /* DPDK's port id */
    uint16_t rxq_cnt, txq_cnt;
    bool is_steered; /* the device hashes on the source address alone, one queue per shard */
    bool is_started, is_open;
    bool is_scattered;          /* frames longer than a packet buffer come in several of them */
    unsigned af_packet_if;      /* net_af_packet: index of its interface, else 0 */
    uint16_t poller_cnt;        /* shards that were planned to poll it, */
    uint16_t poller[SHARD_MAX]; /* by their planned queue */
    struct pkt_host *host;
    struct port_host *kernel; /* the exception path; NULL: none */
};
struct ports {
    struct port_hosts *kernels;
    struct ports_cfg cfg;
    uint32_t cnt;
    struct port port[CONF_PORTS_MAX];
    struct rte_mempool *pool[SHARD_MAX];
};

struct port_if { /* one port as one shard sees it */
    const struct port *port;
    struct port_stats *stats;
    struct ip_reasm *reasm;
    uint16_t rxq_first, rxq_cnt, rxq_step; /* queues rxq_first + i * rxq_step */
    uint16_t rxq_next;                     /* which i is polled first: they take turns */
    uint32_t msgs_min; /* hand-over messages that must be free before a burst is taken */
    bool can_tx;       /* queue rxq_first sends, too */
    uint16_t tx_cnt;
    /* Frames for listeners that came while the log was behind, in order: a port with an exception
     * path is polled all the same, for the host's frames. They are not counted as seen yet: to the
     * ledger they are still in the device's queue. NULL: no exception path. */
    struct rte_mbuf **parked;
    uint32_t parked_first, parked_cnt, parked_cap, parked_bufs;
    struct rte_mbuf *tx[PORT_TX_MAX];
    /* Of the shard with queue 0: sampling the device. */
    bool was_up;
    uint64_t last_imissed, last_ierrors, last_nombuf, last_refused;
};
struct port_set {
    struct port_set_cfg cfg;
    struct ports *ports;
    struct rte_mempool *pool;
    bool is_draining, is_drained;
    uint32_t drain_left; /* frames that the queues may hold: more are not waited for */
    uint32_t if_cnt, if_next;
    struct port_if ifs[CONF_PORTS_MAX];
    uint32_t turn_cnt;
    struct rte_mbuf *turn[PORT_TURN_MAX]; /* received in this turn, still read */
    /* Frames of several buffers, copied together for the parsers until the turn ends; NULL when no
     * port has such frames. */
    uint8_t *joined;
    uint32_t joined_len_max, joined_cnt;
    struct timer sample;
    uint64_t host_free_at, tsc_per_us; /* time spent on the hosts' frames: bucket_share */
};

/* The host's frames have cost the cycles since tsc. Of cnt frames, so much each at most: a thread
 * that was not running has not worked. */
#define PORT_HOST_FRAME_NS_MAX 20000u
static inline void port_host_pay(struct port_set *ps, struct port_if *pi, uint64_t tsc,
                                 uint32_t cnt)
{
    uint64_t ns = (clock_tsc() - tsc) * 1000 / ps->tsc_per_us, max = cnt * PORT_HOST_FRAME_NS_MAX;
    ns = ns < max ? ns : max;
    pi->stats->host_ns += ns;
    bucket_share_pay(&ps->host_free_at, ps->cfg.shard->now_ns, ns);
}

/* Queue the answer to a PKT_REPLY, or an announcement of own address i. */
void port_tx_reply(struct port_set *ps, struct port_if *pi, const struct pkt *p);
void port_tx_announce(struct port_set *ps, struct port_if *pi, uint32_t i);
/* port_af_packet.c: sockets of the driver net_af_packet on an interface. Frames the kernel dropped
 * because the ring of this queue was full, since the last call. */
uint64_t port_af_packet_drops(unsigned ifindex, uint16_t queue);
/* Is the interface up, and its carrier there? */
bool port_af_packet_link_is_up(unsigned ifindex);
/* Do these sockets spread by source address (true) or, the kernel refusing it, by flow? */
bool port_af_packet_is_by_source(unsigned ifindex);

/* port_sample.c: once a second what the device counted, link changes, reassembly timeouts. */
void port_sample_start(struct port_set *ps);
void port_sample_stop(struct port_set *ps);
void port_drain_end(struct port_set *ps); /* nothing is received any more */
void port_unpark_all(struct port_if *pi); /* their buffers go back */
