/* txn_call.c - see txn_call.h. */
#include "dataplane/kafka/handlers/txn_call.h"

static uint16_t txn_owner(const struct shard *s, struct span id, int32_t *ret_partition)
{
    const struct meta_topic *t =
        s->image != NULL ? image_topic_by_name(s->image, span_str(TXN_TOPIC)) : NULL;
    if (t == NULL || t->partition_cnt == 0)
        return OWNER_NONE;
    *ret_partition = clog_partition(id, t->partition_cnt);
    return partition_owner(s, t, *ret_partition);
}

int16_t txn_coordinator_error(const struct shard *s, struct span id)
{
    int32_t partition;
    return txn_owner(s, id, &partition) == OWNER_NONE ? TE_NOT_AVAILABLE : 0;
}

static void call_send(struct txn_call *call, struct kreq *req, uint16_t to)
{
    call->req = req;
    call->error = 0;
    arena_init(&call->arena, TXN_CALL_BYTES_MAX);
    kreq_send(req, to, &call->msg, MSG_TXN);
}

int16_t txn_call_send(struct txn_call *call, struct kreq *req, struct span id)
{
    uint16_t owner = txn_owner(req->k->s, id, &call->partition);
    if (owner == OWNER_NONE)
        return TE_NOT_AVAILABLE;
    call->id = id;
    call_send(call, req, owner);
    return 0;
}

void txn_call_send_all(struct txn_call *call, struct kreq *req, uint16_t to)
{
    call->partition = -1;
    call_send(call, req, to);
}

void kafka_on_txn_reply(struct shard *s, struct msg *m)
{
    (void)s;
    struct txn_call *call = container_of(m, struct txn_call, msg);
    struct kreq *req = call->req;
    call->done(call);
    kreq_put(req);
}

int16_t txn_error_of(int16_t error, int16_t version, int16_t fenced_from, int16_t abortable_from)
{
    if (error == TE_PRODUCER_FENCED && version < fenced_from)
        return TE_INVALID_PRODUCER_EPOCH;
    if (error == TE_ABORTABLE && version < abortable_from)
        return TE_INVALID_TXN_STATE;
    return error;
}
