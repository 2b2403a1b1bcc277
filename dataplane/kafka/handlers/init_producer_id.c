/* init_producer_id.c - InitProducerId. Without a transactional id: the next id of the shard's block
 * (the current id and epoch that a client sends only mean that it wants another one, KIP-360). With
 * one: a question to its coordinator. */
#include "dataplane/kafka/handlers/txn_call.h"

enum { FENCED_FROM = 4 };

struct init_op {
    struct txn_call call;
    struct init_producer_id_request in;
};

static void respond(struct kreq *req, int16_t error, int64_t producer_id, int16_t epoch)
{
    struct init_producer_id_response resp;
    init_producer_id_response_init(&resp);
    resp.error_code = txn_error_of(error, kreq_version(req), FENCED_FROM, 0);
    resp.producer_id = error == 0 ? producer_id : -1;
    resp.producer_epoch = error == 0 ? epoch : -1;
    KREQ_RESPOND(req, init_producer_id_response, &resp);
}

static void on_answer(struct txn_call *call)
{
    if (call->req->conn != NULL)
        respond(call->req, call->error, call->ret_producer_id, call->ret_epoch);
    arena_fini(&call->arena);
}

static int16_t check(const struct kreq *req, const struct init_producer_id_request *in)
{
    if (in->transactional_id.len == 0)
        return TE_INVALID_REQUEST;
    if (in->transaction_timeout_ms <= 0 ||
        (uint32_t)in->transaction_timeout_ms > req->k->s->conf->transaction_max_timeout_ms)
        return TE_INVALID_TIMEOUT;
    bool half = (in->producer_id < 0) != (in->producer_epoch < 0);
    return half ? TE_INVALID_REQUEST : 0;
}

int init_producer_id_start(struct kreq *req, struct wire_reader *r)
{
    struct init_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = init_producer_id_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    if (span_is_null(op->in.transactional_id)) {
        int64_t id = -1;
        rc = kafka_take_producer_id(req->k, &id);
        respond(req, (int16_t)err_kafka_code(rc), id, 0);
        return 0;
    }
    int16_t error = check(req, &op->in);
    op->call.op = TXN_INIT;
    op->call.producer_id = op->in.producer_id;
    op->call.epoch = op->in.producer_epoch;
    op->call.timeout_ms = op->in.transaction_timeout_ms;
    op->call.done = on_answer;
    if (error == 0)
        error = txn_call_send(&op->call, req, op->in.transactional_id);
    if (error != 0)
        respond(req, error, -1, -1);
    return 0;
}
