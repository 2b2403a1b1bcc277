/* mbox.h - one single-producer single-consumer ring per ordered pair of endpoints.
 *
 *     sender:   ring[from][to] <- message;   receiver asleep? -> write its eventfd
 *     receiver: mbox_poll -> handlers[type].request, or .reply for what comes home
 *
 * mbox_send never fails and never blocks: what does not fit in the ring waits in the sender's
 * overflow queue (intrusive, so bounded by the pools the messages come from) and goes out in
 * order on a later turn. A sleeping receiver is woken through its eventfd.
 * Order: messages from one endpoint to another arrive in the order sent.
 * Runs on: each call only on the endpoint's own thread. */
#pragma once
#include "dataplane/shard/msg.h"
#include "lib/base/err.h"

#define MBOX_ENDPOINTS_MAX 80 /* SHARD_MAX, the control thread, a few housekeeping threads */

struct mbox_net; /* all rings of the process */
struct mbox;     /* one endpoint's view of it */

/* ring_cap: messages per ring, a power of two. 0, -ENOMEM, or -errno of eventfd. */
NODISCARD int mbox_net_create(uint16_t endpoint_cnt, uint32_t ring_cap, struct mbox_net **ret);
void mbox_net_destroy(struct mbox_net *n); /* no endpoint may be running; accepts NULL */
struct mbox *mbox_of(struct mbox_net *n, uint16_t endpoint);

/* Send m (m->type and the payload set by the caller) to endpoint `to`. m is the receiver's until
 * its reply handler runs here. Sending to oneself is allowed: the handler runs on a later poll. */
void mbox_send(struct mbox *mb, uint16_t to, struct msg *m);
/* Give m back to its origin with m->rc set. */
void msg_reply(struct mbox *mb, struct msg *m, int rc);
/* Deliver at most `budget` messages to the handlers; flushes overflow queues. Count delivered. `s`
 * is handed to the handlers (NULL on endpoints that are no shard). Senders take turns at being
 * first. */
uint32_t mbox_poll(struct mbox *mb, struct shard *s, uint32_t budget);

/* Sleep protocol. mbox_sleep_prepare announces the intention and answers false when something
 * already waits (do not sleep then); mbox_wake_fd is the eventfd that a sender writes. */
bool mbox_sleep_prepare(struct mbox *mb);
void mbox_sleep_done(struct mbox *mb);
int mbox_wake_fd(struct mbox *mb);
/* Messages sent and still waiting for room in a ring: they go out only by polling again. */
uint32_t mbox_overflow_cnt(const struct mbox *mb);
/* Messages handled since start. */
uint64_t mbox_handled(const struct mbox *mb);
