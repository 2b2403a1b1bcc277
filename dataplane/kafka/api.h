/* api.h - the Kafka protocol on one shard: what pipeline.c and main.c bind to.
 *
 *     net events --kafka_on_event--> connections with work --kafka_poll--> frames -> handlers
 *                                                            replies of owners -> responses -> net
 *
 * Event and reply handlers only note what happened; all work is done by kafka_poll, so nothing
 * here re-enters. A connection's responses leave in the order of its requests.
 * Runs on: the shard's own thread. Blocks: never.
 * Limits: connections (conf.connections_max), requests in flight per connection and per shard,
 * bytes of requests and of responses (conf.request_bytes, half each); session.h says what happens
 * at each. */
#pragma once
#include "dataplane/net/transport.h"
#include "dataplane/shard/msg.h"
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct shard;
struct kafka;

/* One per shard. Reads s->conf, s->timers, s->mbox, s->net, s->codecs, s->image and s->owners when
 * needed, so these are set before the first event. 0 or -ENOMEM, or -E_CONFIG when
 * conf.request_bytes is too small for a single request. */
NODISCARD int kafka_create(struct shard *s, struct kafka **ret_kafka);
/* Frees everything; s->net must be destroyed before (it may hold references to response buffers),
 * and no message of this shard may be under way. */
void kafka_destroy(struct kafka *k);

/* A connection was accepted on listener conf.kafka[listener_idx]. 0, or negative: the connection
 * was refused and has been told to close. */
int kafka_conn_open(struct kafka *k, uint16_t listener_idx, conn_id id);
/* An event of a connection opened here (every event but NET_EV_ACCEPT). ev->user is the pointer
 * that kafka_conn_open set with set_user. */
void kafka_on_event(struct kafka *k, const struct net_ev *ev);
/* The port a listener was bound to, for conf.kafka[idx].bind.port == 0 and for what Metadata
 * advertises. Call for every listener before the first connection. */
void kafka_set_bound_port(struct kafka *k, uint16_t listener_idx, uint16_t port);
/* Stage: run connections with work, at most `budget` of them. Count done. */
uint32_t kafka_poll(struct shard *s, uint32_t budget);
/* True when kafka_poll has something to do now: do not sleep. */
bool kafka_has_work(const struct kafka *k);
/* Stop reading new requests; answer what was read; then close every connection. kafka_is_idle says
 * when all are gone. Parked fetches are answered at once. */
void kafka_drain(struct kafka *k);
bool kafka_is_idle(const struct kafka *k);

/* Rows of msg_handlers for the messages that the Kafka side sends and serves:
 * request handlers run on the owner of the partition (owner.c), reply handlers on the origin. */
void owner_on_produce(struct shard *s, struct msg *m);
void owner_on_fetch(struct shard *s, struct msg *m);
void owner_on_fetch_wait(struct shard *s, struct msg *m);
void owner_on_fetch_cancel(struct shard *s, struct msg *m);
void owner_on_list_offsets(struct shard *s, struct msg *m);
void owner_on_ask(struct shard *s, struct msg *m);
void kafka_on_produce_reply(struct shard *s, struct msg *m);
void kafka_on_fetch_reply(struct shard *s, struct msg *m);
void kafka_on_fetch_wait_reply(struct shard *s, struct msg *m);
void kafka_on_fetch_cancel_reply(struct shard *s, struct msg *m);
void kafka_on_list_offsets_reply(struct shard *s, struct msg *m);
void kafka_on_ask_reply(struct shard *s, struct msg *m);
void kafka_on_admin_reply(struct shard *s, struct msg *m);
void kafka_on_producer_ids_reply(struct shard *s, struct msg *m);
void kafka_on_txn_reply(struct shard *s, struct msg *m);
void kafka_on_group_reply(struct shard *s, struct msg *m);
void kafka_on_group_cancel_reply(struct shard *s, struct msg *m);
/* Sets all of the above in `handlers`. */
void kafka_bind_handlers(struct msg_handlers *handlers);

/* Counters of one shard, read by the owner of the shard's statistics page. */
struct kafka_stats {
    uint64_t connections_opened, connections_closed, connections_refused, connections_over_limit;
    uint64_t requests, responses, malformed, unsupported, oversized, slow_frames, idle_closed;
    uint64_t budget_waits, produce_batches, produce_bytes, produce_errors;
    uint64_t fetch_parts, fetch_bytes, fetch_parked, fetch_woken, parked_hurried, slow_readers;
    uint64_t throttled, throttled_ms;
    uint64_t fetch_session_steps, fetch_session_evictions;
    uint32_t fetch_sessions;
    uint32_t groups_empty, groups_preparing, groups_completing, groups_stable, groups_assigning,
        groups_reconciling;
    uint64_t group_rebalances, group_members_expired, offset_commits, offsets_expired;
    uint32_t txns_empty, txns_ongoing, txns_prepare_commit, txns_prepare_abort,
        txns_complete_commit, txns_complete_abort;
    uint64_t txns_committed, txns_aborted, txns_timed_out, txn_markers, txn_ids_expired;
    uint32_t connections, requests_inflight;
    uint64_t request_bytes_used, response_bytes_used;
};
void kafka_stats_get(const struct kafka *k, struct kafka_stats *ret_stats);
