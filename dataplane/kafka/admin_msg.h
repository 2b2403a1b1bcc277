/* admin_msg.h - what a shard's Kafka side asks of the control thread: admin requests for sluiced,
 * and blocks of producer ids.
 *
 * Both messages live in the sending shard's memory until the reply handler has run; the control
 * thread must answer every one, also when sluiced is away or the process stops. */
#pragma once
#include "dataplane/shard/msg.h"
#include "lib/base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* MSG_ADMIN: one request of a Kafka admin API, forwarded as it came. CreateTopics, DeleteTopics and
 * CreatePartitions are answered when this shard has applied the change. */
struct kafka_admin_msg {
    struct msg msg;
    /* request; `client_id` and `body` stay valid and unchanged until the reply */
    int16_t api_key, api_version;
    uint16_t listener_idx; /* of conf.kafka[] */
    /* true: when sluiced is not connected, answer -E_TIMED_OUT at once (auto-creation);
     * false: wait for it until timeout_ms have passed, then answer -E_TIMED_OUT */
    bool fail_fast;
    uint32_t timeout_ms;
    struct span client_id; /* p == NULL: null */
    struct span body;      /* the request after its header */
    /* reply, valid with msg.rc == 0: the response after its header, in api_version's layout.
     * malloc'ed by the control thread, freed by the origin with free(). The control thread leaves
     * both 0 with a negative rc: -E_TIMED_OUT, or -E_* for what could not be forwarded. */
    uint8_t *reply;
    uint32_t reply_len;
};

/* MSG_PRODUCER_IDS: a block of producer ids, never handed out before in the life of the cluster.
 * The control thread answers when it has one (waiting for sluiced if it is away). rc < 0: ask again
 * later. */
struct producer_ids_msg {
    struct msg msg;
    int64_t first; /* set by the reply */
    int32_t cnt;   /* set by the reply: 1000 */
};
