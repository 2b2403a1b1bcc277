/* group_call.h - sending a request about a group to the shard that has it. Runs on: the shard of
 * the connection. */
#pragma once
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/handlers.h"

/* Sends; call->done runs with the reply, also when the connection is gone (req->conn == NULL). call
 * is in the request's arena. 0, or Kafka's error code and nothing was sent. */
int16_t group_call_send(struct group_call *call, struct kreq *req, struct span group,
                        const void *in);
/* The same to shard `to` for all its groups. */
void group_call_send_all(struct group_call *call, struct kreq *req, uint16_t to, const void *in);
/* The shard of the group; OWNER_NONE: Kafka's code is in *ret_error. */
uint16_t group_owner(const struct shard *s, struct span group, int32_t *ret_partition,
                     int16_t *ret_error);
