/* net_uring.h - transport.h on kernel TCP sockets, through the shard's io_uring.
 *
 * Who enters the kernel: operations and poll() only prepare io_uring requests and dispatch what
 * completions left behind; the shard's uring_submit and uring_reap stages move them. poll() itself
 * makes no data-path system call. (Per connection, not per byte: accept reads both addresses and
 * sets options; abort sets SO_LINGER; info() asks TCP_INFO.)
 *
 * Where this backend is weaker or stronger than the contract:
 *  - TX_DONE: the kernel holds the bytes (a peer that dies later may not have read them).
 *  - rx_window: reading stops by cancelling the receive, so a connection may go past its window by
 *    what had already arrived, at most all buffers. The kernel's own socket buffer comes on top.
 *  - A peer's reset is noticed only while reading is not stopped by the window.
 *  - When no buffer is free for several polls because unread bytes hold them, unread bytes are
 *    copied to the heap (bounded by copy_bytes_max), so half-received messages cannot stop the
 * shard.
 *  - Out of descriptors or memory in accept: counted, tried again every 100 ms; the connection
 * waits in the kernel. conn_max reached: the connection is reset and counted. */
#pragma once
#include "dataplane/io/uring.h"
#include "dataplane/net/transport.h"

/* Zero means what is said in parentheses. All memory is taken at creation. */
struct net_uring_cfg {
    struct uring *uring; /* must outlive the net */
    uint16_t shard, nshards;
    uint16_t buf_group;      /* a group id of that ring nobody else uses */
    uint32_t conn_max;       /* (1024) */
    uint32_t buf_cnt;        /* receive buffers, rounded up to a power of two (512) */
    uint32_t buf_size;       /* bytes of each (32 KiB) */
    uint32_t tx_segs_max;    /* views queued for sending, all connections together (16384) */
    uint64_t copy_bytes_max; /* see above (32 MiB) */
    uint64_t now_ns;         /* clock_mono_ns() of the creation */
};
NODISCARD int net_uring_create(const struct net_uring_cfg *cfg, struct net **ret_net);

/* Accept from a listening socket opened elsewhere: sock_open_listeners (sock_open.h) gives each
 * shard its own on one common port; unix sockets work too. The net owns fd from now on, also after
 * an error. Returns as net_ops.listen. */
int net_uring_listen_fd(struct net *n, int fd, const struct conn_opts *opts);
