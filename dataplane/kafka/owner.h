/* owner.h - messages between the shard of a connection and the shard that owns a partition.
 *
 * Each wraps one request of plog.h. `owner` belongs to the receiving shard while it holds the
 * message; everything else follows plog.h. The memory is the sender's until the reply handler ran.
 * Request handlers (owner.c) run on the owner and answer -E_UNKNOWN_TOPIC when it does not have the
 * partition. */
#pragma once
#include "dataplane/shard/shard.h"
#include "dataplane/store/plog.h"

struct produce_msg { /* MSG_PRODUCE */
    struct plog_append a;
    struct shard *owner;
};
struct fetch_msg { /* MSG_FETCH */
    struct plog_read r;
    struct shard *owner;
};
struct fetch_wait_msg { /* MSG_FETCH_WAIT: rc 0 is the wake-up, also when cancelled */
    struct plog_wait w;
    struct shard *owner;
    bool waiting; /* the owner's: registered, done() has not run. Only the owner touches it */
};
/* MSG_FETCH_CANCEL: `wait` was sent to the same owner before, and its memory stays until this is
 * replied. Crossing a wake-up is fine: the registration is then already gone. */
struct fetch_cancel_msg {
    struct msg msg;
    struct fetch_wait_msg *wait;
};
struct list_offsets_msg { /* MSG_LIST_OFFSETS */
    struct plog_list_offsets q;
    struct shard *owner;
};
