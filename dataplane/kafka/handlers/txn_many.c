/* txn_many.c - DescribeTransactions (one call per id) and ListTransactions (one per shard),
 * answered when all are home. */
#include "dataplane/kafka/handlers/txn_call.h"

struct many_op {
    struct kreq *req;
    struct txn_call *calls;
    uint32_t cnt, pending;
    void (*respond)(struct many_op *op); /* calls[i].error and .out are filled */
    union {
        struct describe_transactions_request describe;
        struct list_transactions_request list;
    } in;
};

static void finish(struct many_op *op)
{
    if (op->req->conn != NULL)
        op->respond(op);
    for (uint32_t i = 0; i < op->cnt; i++)
        arena_fini(&op->calls[i].arena);
}

static void on_answer(struct txn_call *call)
{
    struct many_op *op = call->req->op;
    if (--op->pending == 0)
        finish(op);
}

static struct many_op *op_new(struct kreq *req, void (*respond)(struct many_op *op))
{
    struct many_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op != NULL) {
        op->req = req;
        op->respond = respond;
        req->op = op;
    }
    return op;
}

static int calls_room(struct many_op *op, uint32_t cnt, enum txn_op what)
{
    kreq_arena_allow(op->req, cnt * (sizeof(*op->calls) + 256) + 65536);
    op->calls = arena_array(&op->req->arena, cnt, sizeof(*op->calls));
    if (op->calls == NULL)
        return -E_LIMIT;
    op->cnt = cnt;
    op->pending = 1; /* ours, until all are sent */
    for (uint32_t i = 0; i < cnt; i++) {
        op->calls[i].done = on_answer;
        op->calls[i].op = what;
    }
    return 0;
}

static void all_asked(struct many_op *op)
{
    if (--op->pending == 0)
        finish(op);
}

/* ----------------------------------------------------- DescribeTransactions */

static void describe_respond(struct many_op *op)
{
    struct describe_transactions_response out;
    describe_transactions_response_init(&out);
    out.transaction_states.v =
        arena_array(&op->req->arena, op->cnt, sizeof(*out.transaction_states.v));
    if (out.transaction_states.v == NULL) {
        kreq_fail(op->req);
        return;
    }
    out.transaction_states.cnt = op->cnt;
    for (uint32_t i = 0; i < op->cnt; i++) {
        struct describe_transactions_response_state *o = &out.transaction_states.v[i];
        if (op->calls[i].error == 0) {
            *o = op->calls[i].out.describe;
            continue;
        }
        describe_transactions_response_state_init(o);
        o->transactional_id = op->in.describe.transactional_ids.v[i];
        o->error_code = op->calls[i].error;
    }
    KREQ_RESPOND(op->req, describe_transactions_response, &out);
}

int describe_transactions_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, describe_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc =
        describe_transactions_request_read(r, kreq_version(req), &req->arena, &op->in.describe);
    if (rc == 0)
        rc = calls_room(op, op->in.describe.transactional_ids.cnt, TXN_DESCRIBE);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < op->cnt; i++) {
        op->pending++;
        op->calls[i].error =
            txn_call_send(&op->calls[i], req, op->in.describe.transactional_ids.v[i]);
        if (op->calls[i].error != 0)
            op->pending--;
    }
    all_asked(op);
    return 0;
}

/* --------------------------------------------------------- ListTransactions */

static bool state_is_known(struct span name)
{
    for (uint32_t i = 0; i < TXN_STATE_CNT; i++)
        if (span_eq_str(name, txn_state_text[i]))
            return true;
    return false;
}

static void list_respond(struct many_op *op)
{
    struct kreq *req = op->req;
    struct list_transactions_response out;
    struct wire_spans filters = op->in.list.state_filters;
    uint32_t cnt = 0;
    list_transactions_response_init(&out);
    for (uint32_t i = 0; i < op->cnt; i++) {
        if (op->calls[i].error != 0)
            out.error_code = op->calls[i].error;
        else
            cnt += op->calls[i].out.list.transaction_states.cnt;
    }
    kreq_arena_allow(req, cnt * sizeof(*out.transaction_states.v) +
                              filters.cnt * sizeof(struct span) + 65536);
    out.transaction_states.v = arena_array(&req->arena, cnt, sizeof(*out.transaction_states.v));
    struct span *unknown = arena_array(&req->arena, filters.cnt, sizeof(*unknown));
    if (out.transaction_states.v == NULL || unknown == NULL) {
        kreq_fail(req);
        return;
    }
    out.unknown_state_filters.v = unknown;
    for (uint32_t i = 0; i < filters.cnt; i++)
        if (!state_is_known(filters.v[i]))
            unknown[out.unknown_state_filters.cnt++] = filters.v[i];
    for (uint32_t i = 0; i < op->cnt && out.error_code == 0; i++) {
        const struct list_transactions_response *part = &op->calls[i].out.list;
        if (part->transaction_states.cnt > 0)
            memcpy(out.transaction_states.v + out.transaction_states.cnt,
                   part->transaction_states.v,
                   part->transaction_states.cnt * sizeof(*out.transaction_states.v));
        out.transaction_states.cnt += part->transaction_states.cnt;
    }
    KREQ_RESPOND(req, list_transactions_response, &out);
}

int list_transactions_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, list_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = list_transactions_request_read(r, kreq_version(req), &req->arena, &op->in.list);
    if (rc == 0)
        rc = calls_room(op, req->k->s->cnt, TXN_LIST);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < op->cnt; i++) {
        op->pending++;
        op->calls[i].list = &op->in.list;
        txn_call_send_all(&op->calls[i], req, (uint16_t)i);
    }
    all_asked(op);
    return 0;
}
