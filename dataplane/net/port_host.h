/* port_host.h - the exception path: frames of a port that the dataplane does not serve go to an
 * interface of the kernel (tap.h), and what the kernel sends there leaves by the port.
 *
 *     shard: port_host_pass --ring--> thread: write --> TAP --> kernel (SSH, LLDP, monitoring)
 *     shard: port_host_take <--ring-- thread: read  <-- TAP <--'
 *
 * One thread serves all ports of the process; it is no shard and may block. Frames are copied into
 * buffers of their own, so that a slow kernel holds no receive buffer, and what has no room or is
 * above host_rate is a counted drop. Shards give these frames at most 5 % of their time (bucket.h):
 * above that, those for the host are dropped and counted, and those of the host wait here. So the
 * path never slows a shard, and no counter of ingest moves because of it. A tag of the port's VLAN
 * is taken off on the way in and put on on the way out. virtio_user with vhost-net was the
 * alternative: faster, and one more device that must be there.
 */
#pragma once
#include "dataplane/net/pkt.h"
#include <rte_mbuf.h>

#define PORT_HOST_RING 512u /* frames on their way, in each direction */
/* Packet buffers: both rings, a burst each, a turn's frames to send, and what the send queue holds.
 */
#define PORT_HOST_BUFS(tx_desc) (2 * PORT_HOST_RING + 128u + (tx_desc))

struct port_hosts; /* of all ports */
struct port_host;  /* of one port */

/* ---- Main thread. */

/* Without DPDK, before anything is made: can conf's port have one? 0, or negative and in why[] what
 * to do about it. iface: of the driver net_af_packet, else NULL. */
NODISCARD int port_host_check(const struct conf_port *c, const char *iface, char *why, size_t cap);
NODISCARD int port_hosts_create(struct port_hosts **ret); /* 0, -ENOMEM, -errno */
/* Makes the interface. len_max: longest frame of the port. Errors as port_host_check. */
NODISCARD int port_host_add(struct port_hosts *hs, const struct conf_port *c,
                            const struct pkt_host *h, uint32_t len_max, struct port_host **ret,
                            char *why, size_t cap);
/* wake_fd: an eventfd that wakes the shard which calls port_host_take. */
void port_host_set_waker(struct port_host *h, int wake_fd);
NODISCARD int port_hosts_start(struct port_hosts *hs); /* its thread; 0 or -errno */
void port_hosts_stop(struct port_hosts *hs);           /* accepts NULL, and one not started */
/* After port_hosts_stop; buffers that are in use come back first. Accepts NULL. */
void port_hosts_destroy(struct port_hosts *hs);

/* ---- Shards. */

/* Any shard. Copy the frame of *p (m's, or joined) for the kernel: -1, or the drop's reason. */
int port_host_pass(struct port_host *h, const struct rte_mbuf *m, const struct pkt *p,
                   bool is_tagged, uint64_t now_ns);
/* Any shard, once after its port_host_pass calls of a burst. */
void port_host_kick(struct port_host *h);
/* The shard of queue 0. Frames the kernel sends; how many, at most cap. They are the caller's. */
uint32_t port_host_take(struct port_host *h, struct rte_mbuf **m, uint32_t cap);
/* Frames the interface did not take, since creation. Any thread. */
uint64_t port_host_refused(const struct port_host *h);
