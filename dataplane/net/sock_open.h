/* sock_open.h - opening the kernel sockets that listen: one per shard on one and the same port.
 *
 * A port belongs to whoever bound it first: SO_REUSEPORT alone would silently share it with another
 * process of the same user, so the port is first bound exclusively and -EADDRINUSE reported.
 * Families: IPv4 addresses get AF_INET; "::" listens on both families (on IPv4 only where the
 * kernel has no IPv6); other IPv6 addresses are IPv6 only. Runs on: any thread, at start. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include <linux/filter.h>

enum sock_kind { SOCK_KIND_TCP, SOCK_KIND_UDP };
struct sock_open_opts {
    enum sock_kind kind;
    uint32_t cnt;          /* sockets, at least 1: number i is for shard i */
    uint32_t backlog;      /* TCP (0: the system's maximum) */
    uint32_t rcvbuf_bytes; /* UDP: SO_RCVBUFFORCE, or as far as SO_RCVBUF goes (0: leave) */
};
struct sock_opened {
    struct net_addr bound; /* with the real port */
    /* UDP with cnt > 1: the kernel sends every datagram to socket source_shard()
     * (dgram_handover.h). False: it was refused the filter and spreads by address and port; shards
     * must hand over. */
    bool steered;
    uint32_t rcvbuf_bytes; /* UDP: what was granted, in the kernel's accounting */
};
/* Fills ret_fd[0 .. cnt) with close-on-exec, blocking sockets (io_uring waits by itself) that the
 * caller owns; TCP ones listen. 0 or the system's -errno, then no socket stays open. */
NODISCARD int sock_open_listeners(const struct net_addr *addr, const struct sock_open_opts *opts,
                                  int *ret_fd, struct sock_opened *ret_opened);
/* The kernel's twin of source_shard(): a classic BPF program over IP packets that returns
 * source_shard_hash(source address) % cnt. For groups of sockets, and of packet sockets
 * (port_af_packet.c). */
#define SOCK_STEER_LEN 24
void sock_steer_program(uint32_t cnt, struct sock_filter out[SOCK_STEER_LEN]);
