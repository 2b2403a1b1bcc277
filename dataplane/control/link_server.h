/* link_server.h - the dataplane's end of the control socket DIR/run/dataplane.sock: one sluiced at
 * a time, frames of lib/iface/ctl_proto.h.
 *
 * One connection at a time; a further one is closed at once while the first lives.
 * Peers of another user than root or ourselves are refused (SO_PEERCRED).
 * Runs on: the control thread. Never blocks: reads what is there, keeps what could not be written.
 * Limits: a frame's body is at most CTL_BODY_MAX; unsent bytes at most LINK_UNSENT_MAX, then the
 * connection is closed. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define LINK_UNSENT_MAX (256u << 20)

struct link_server;
struct link_ops {
    void (*on_connect)(void *arg);
    /* One whole frame; body is valid during the call. Negative: protocol error, close. */
    int (*on_frame)(void *arg, uint16_t type, uint64_t id, struct span body);
    void (*on_disconnect)(void *arg);
};
/* Replaces a leftover socket file. 0 or -errno. */
NODISCARD int link_server_create(const char *path, const struct link_ops *ops, void *arg,
                                 struct link_server **ret);
void link_server_destroy(struct link_server *l);
bool link_server_is_connected(const struct link_server *l);
/* Queue one frame; dropped when nobody is connected. */
void link_server_send(struct link_server *l, uint16_t type, uint64_t id, struct span body);
/* For poll(2): fills at most 2 entries, returns how many; then hand them back. */
int link_server_pollfds(const struct link_server *l, struct pollfd *fds);
void link_server_run(struct link_server *l, const struct pollfd *fds, int cnt);
