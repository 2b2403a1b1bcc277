/* mbox.h - one single-producer single-consumer ring per ordered pair of endpoints.
 *
 * mbox_send never fails and never blocks: what does not fit in the ring waits in the sender's
 * overflow queue (intrusive, so bounded by the pools the messages come from) and goes out in
 * order on a later turn. A sleeping receiver is woken through its eventfd.
 * Order: messages from one endpoint to another arrive in the order sent.
 * Runs on: each call only on the endpoint's own thread. */
#pragma once
#include "dataplane/shard/msg.h"
#include "lib/base/err.h"

struct mbox_net; /* all rings of the process */
struct mbox;     /* one endpoint's view of it */

NODISCARD int mbox_net_create(uint16_t endpoint_cnt, uint32_t ring_cap, struct mbox_net **ret);
void mbox_net_destroy(struct mbox_net *n);
struct mbox *mbox_of(struct mbox_net *n, uint16_t endpoint);

/* Send m (m->type and the payload set by the caller) to endpoint `to`. m is the receiver's until
 * its reply handler runs here. Sending to oneself is allowed: the handler runs on a later poll. */
void mbox_send(struct mbox *mb, uint16_t to, struct msg *m);
/* Give m back to its origin with m->rc set. */
void msg_reply(struct mbox *mb, struct msg *m, int rc);
/* Deliver at most `budget` messages to the handlers; flushes overflow queues. Count delivered. */
uint32_t mbox_poll(struct mbox *mb, struct shard *s, uint32_t budget);

/* Sleep protocol. mbox_sleep_prepare announces the intention and answers false when something
 * already waits (do not sleep then); mbox_wake_fd is the eventfd that a sender writes. */
bool mbox_sleep_prepare(struct mbox *mb);
void mbox_sleep_done(struct mbox *mb);
int mbox_wake_fd(struct mbox *mb);
