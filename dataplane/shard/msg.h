/* msg.h - what crosses from shard to shard.
 *
 * A message is a struct that begins with struct msg and lives in the sender's memory. mbox_send
 * hands it over; the receiving endpoint runs the request handler of its type (msg.def) and later
 * calls msg_reply, which brings the very same memory back to its origin, where the reply handler
 * runs. Between send and reply only the receiver touches it. So there are no cross-shard
 * reference counts and no frees of foreign memory.
 *
 * Endpoints: shards 0 .. shard_cnt-1, then the control thread (ENDPOINT_CTL(n)). */
#pragma once
#include "lib/base/list.h"
#include <stdint.h>

enum msg_type {
#define MSG(name, comment) MSG_##name,
#include "dataplane/shard/msg.def"
#undef MSG
    MSG_CNT
};

struct msg {
    struct list link; /* sender's overflow queue; free for the receiver to use while it holds it */
    uint16_t type;    /* enum msg_type */
    uint16_t origin;  /* endpoint that owns the memory */
    uint8_t is_reply;
    int32_t rc; /* set by whoever replies */
};

#define ENDPOINT_CTL(shard_cnt) (shard_cnt)

struct shard;
typedef void msg_fn(struct shard *s, struct msg *m);
struct msg_handlers {
    msg_fn *request; /* runs on the receiver; must lead to exactly one msg_reply, now or later */
    msg_fn *reply;   /* runs on the origin */
};
/* Filled by pipeline.c, indexed by enum msg_type. */
extern struct msg_handlers msg_handlers[MSG_CNT];
