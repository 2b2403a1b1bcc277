/* txn_call.h - sending a request about a transactional id to the shard that has it. Runs on: the
 * shard of the connection. */
#pragma once
#include "dataplane/kafka/handlers.h"
#include "dataplane/kafka/txn/txn.h"

/* Sends; call->done runs with the reply, also when the connection is gone (req->conn == NULL). call
 * is in the request's arena, its request part filled. 0, or Kafka's error code and nothing was
 * sent. */
int16_t txn_call_send(struct txn_call *call, struct kreq *req, struct span id);
/* The same to shard `to` for all its ids. */
void txn_call_send_all(struct txn_call *call, struct kreq *req, uint16_t to);
/* 0, or why the id has no coordinator now: COORDINATOR_NOT_AVAILABLE. */
int16_t txn_coordinator_error(const struct shard *s, struct span id);
/* Before PRODUCER_FENCED there was INVALID_PRODUCER_EPOCH: versions below `fenced_from`. Before
 * TRANSACTION_ABORTABLE, INVALID_TXN_STATE: versions below `abortable_from`. */
int16_t txn_error_of(int16_t error, int16_t version, int16_t fenced_from, int16_t abortable_from);
