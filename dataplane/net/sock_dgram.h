/* sock_dgram.h - kernel UDP sockets of one shard, on its io_uring.
 *
 * Datagrams arrive by multishot receive into provided buffers, wait in arrival order until poll,
 * and are delivered in bursts of at most DGRAM_BURST_MAX of one listener. Their bytes stay valid
 * until turn_end (or the next poll), which gives the buffers back.
 *
 * Order unit: with several shards each datagram is delivered on source_shard(peer), whatever socket
 * it came from: the kernel's filter steers (sock_open.c), and the hand-over moves what it missed
 * (dgram_handover.h; datagrams that came while the group was being bound, or with the filter
 * refused).
 *
 * Pressure: while the receiver has no room, datagrams stay in the receive buffers; with all of
 * those taken the sockets are not armed, and the kernel's socket buffers fill.
 *
 * Losses are counted: what the kernel dropped because the socket buffer was full (SO_RXQ_OVFL with
 * each datagram; exactly by sock_dgrams_sync), and datagrams that could not be read at all.
 * Runs on: the owning shard. Memory is taken at creation. */
#pragma once
#include "dataplane/io/uring.h"
#include "dataplane/net/dgram_handover.h"

#define DGRAM_BURST_MAX 64u
#define DGRAM_SOCKS_MAX 64u

struct sock_dgrams_cfg {
    struct uring *uring;  /* must outlive it */
    uint16_t buf_group;   /* a group id of that ring nobody else uses */
    uint32_t buf_cnt;     /* datagrams held at once, rounded up to a power of two (0: 1024) */
    uint32_t payload_max; /* longer datagrams are cut and marked truncated (0: 8192) */
    struct dgram_handover *handover; /* NULL with one shard */
    dgram_deliver_fn *deliver;
    /* How many of n datagrams may be delivered now; the others wait, at last in the kernel's socket
     * buffer. NULL: all. */
    uint32_t (*room)(void *arg, uint32_t n);
    void *arg;
};
struct sock_dgram_stats {     /* of one listener */
    uint64_t received, bytes; /* taken from the kernel, before hand-over */
    uint64_t truncated;       /* of these, longer than payload_max */
    uint64_t kernel_drops; /* not received: the socket's buffer was full, or the checksum wrong */
    uint64_t malformed;    /* received, but not a datagram from an IP address: not delivered */
    uint64_t nobuf;        /* times receiving paused because no buffer was free */
    uint64_t errors;       /* receive failed otherwise; it is started again */
};

struct sock_dgrams;
NODISCARD int sock_dgrams_create(const struct sock_dgrams_cfg *cfg, struct sock_dgrams **ret);
/* Closes the sockets; waits for the kernel. Accepts NULL. */
void sock_dgrams_destroy(struct sock_dgrams *sd);
/* Receive on fd (from sock_open_listeners) for listener number `listener`. sd owns fd from now on,
 * also after an error. 0, or -ENOSPC past DGRAM_SOCKS_MAX. */
NODISCARD int sock_dgrams_add(struct sock_dgrams *sd, uint16_t listener, int fd);
/* Deliver at most `budget` datagrams; returns how many. wall_ms becomes their arrival time. */
uint32_t sock_dgrams_poll(struct sock_dgrams *sd, int64_t wall_ms, uint32_t budget);
/* Give back the buffers of what poll delivered, and receive again where that had stopped. Last in
 * the turn, before uring_submit. */
void sock_dgrams_turn_end(struct sock_dgrams *sd);
/* Datagrams wait for poll: the shard must not sleep. */
bool sock_dgrams_pending(const struct sock_dgrams *sd);
/* Ask the kernel for its drop counters: one system call per socket. For once a second and for
 * snapshots that must balance. */
void sock_dgrams_sync(struct sock_dgrams *sd);
/* Stop: from now on the kernel refuses what arrives (counted in kernel_drops); what it has queued
 * is still received and delivered by poll and turn_end of the next turns. Then the sockets close.
 */
void sock_dgrams_drain(struct sock_dgrams *sd);
/* After drain: every socket is closed, and all it received delivered. */
bool sock_dgrams_is_drained(const struct sock_dgrams *sd);
/* Of the socket added as `listener`; NULL when there is none. */
const struct sock_dgram_stats *sock_dgrams_stats(const struct sock_dgrams *sd, uint16_t listener);
