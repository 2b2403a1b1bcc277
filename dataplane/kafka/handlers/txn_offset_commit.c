/* txn_offset_commit.c - TxnOffsetCommit: first the transaction's coordinator (from version 5 on the
 * offsets' partition joins the transaction, before it must have joined), then the group's. */
#include "dataplane/kafka/handlers/commit_error.h"
#include "dataplane/kafka/handlers/group_call.h"
#include "dataplane/kafka/handlers/txn_call.h"

enum { VERSION_TXN_V2 = 5, ABORTABLE_FROM = 4 };

struct commit_op {
    struct txn_call txn;
    struct group_call group;
    struct txn_offset_commit_request in;
    struct txn_topic topic;
    int32_t partition;
};

#define COPY_TOPIC(to, from) ((to)->name = (from)->name)
COMMIT_ERROR(all_failed, txn_offset_commit, COPY_TOPIC)

static void respond_error(struct kreq *req, const struct commit_op *op, int16_t error)
{
    struct txn_offset_commit_response out;
    int16_t version = kreq_version(req);
    int16_t code = txn_error_of(error, version, 0, ABORTABLE_FROM);
    if (code == TE_PRODUCER_FENCED)
        code = TE_INVALID_PRODUCER_EPOCH;
    if (all_failed(req, &op->in, code, &out))
        KREQ_RESPOND(req, txn_offset_commit_response, &out);
    else
        kreq_fail(req);
}

static void on_group_answer(struct group_call *call)
{
    struct commit_op *op = container_of(call, struct commit_op, group);
    struct kreq *req = call->req;
    if (req->conn != NULL && call->error != 0)
        respond_error(req, op, call->error);
    else if (req->conn != NULL)
        KREQ_RESPOND(req, txn_offset_commit_response, &call->out.txn_commit);
    arena_fini(&call->arena);
}

static void on_txn_answer(struct txn_call *call)
{
    struct commit_op *op = container_of(call, struct commit_op, txn);
    struct kreq *req = call->req;
    int16_t error = call->error;
    arena_fini(&call->arena);
    if (req->conn == NULL)
        return;
    op->group.done = on_group_answer;
    if (error == 0)
        error = group_call_send(&op->group, req, op->in.group_id, &op->in);
    if (error != 0)
        respond_error(req, op, error);
}

int txn_offset_commit_start(struct kreq *req, struct wire_reader *r)
{
    struct commit_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = txn_offset_commit_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    int16_t error;
    (void)group_owner(req->k->s, op->in.group_id, &op->partition, &error);
    op->topic = (struct txn_topic){.name = span_str(OFFSETS_TOPIC), .v = &op->partition, .cnt = 1};
    op->txn.asked = (struct txn_parts){.v = &op->topic, .cnt = 1, .part_cnt = 1};
    op->txn.v2 = kreq_version(req) >= VERSION_TXN_V2;
    op->txn.op = op->txn.v2 ? TXN_ADD : TXN_VERIFY;
    op->txn.waits = true;
    op->txn.producer_id = op->in.producer_id;
    op->txn.epoch = op->in.producer_epoch;
    op->txn.done = on_txn_answer;
    if (error == 0)
        error = txn_call_send(&op->txn, req, op->in.transactional_id);
    if (error != 0)
        respond_error(req, op, error);
    return 0;
}
