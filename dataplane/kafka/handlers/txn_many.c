/* txn_many.c - DescribeTransactions (one call per id) and ListTransactions (one per shard),
 * answered when all are home. */
#include "dataplane/kafka/handlers/many.h"
#include "dataplane/kafka/handlers/txn_call.h"

struct many_op {
    struct many m;
    struct txn_call *calls; /* m.cnt */
    union {
        struct describe_transactions_request describe;
        struct list_transactions_request list;
    } in;
};

static struct many_op *op_of(struct many *m)
{
    return container_of(m, struct many_op, m);
}

static void release(struct many *m)
{
    for (uint32_t i = 0; i < m->cnt; i++)
        arena_fini(&op_of(m)->calls[i].arena);
}

static void on_answer(struct txn_call *call)
{
    struct many_op *op = call->req->op;
    many_home(&op->m, call->arena.total);
}

static struct many_op *op_new(struct kreq *req, void (*respond)(struct many *m))
{
    struct many_op *op = arena_alloc(&req->arena, sizeof(*op));
    req->op = op;
    if (op != NULL)
        op->m = (struct many){.respond = respond, .release = release};
    return op;
}

/* Room for `cnt` calls, and they are made. */
static int start(struct kreq *req, struct many_op *op, uint32_t cnt, enum txn_op what,
                 bool (*ask)(struct many *m, uint32_t i, bool no_room))
{
    kreq_arena_allow(req, cnt * (sizeof(*op->calls) + 256) + 65536);
    op->calls = arena_array(&req->arena, cnt, sizeof(*op->calls));
    if (op->calls == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt; i++) {
        op->calls[i].done = on_answer;
        op->calls[i].op = what;
    }
    op->m.ask = ask;
    many_start(&op->m, req, cnt);
    return 0;
}

/* ----------------------------------------------------- DescribeTransactions */

static void describe_respond(struct many *m)
{
    const struct many_op *op = op_of(m);
    MANY_RESPOND(op, describe_transactions_response, transaction_states,
                 describe_transactions_response_state, describe, transactional_id,
                 op->in.describe.transactional_ids.v[i]);
}

static bool describe_ask(struct many *m, uint32_t i, bool no_room)
{
    struct many_op *op = op_of(m);
    struct span id = op->in.describe.transactional_ids.v[i];
    op->calls[i].error = no_room ? TE_UNKNOWN : txn_call_send(&op->calls[i], m->req, id);
    return op->calls[i].error == 0;
}

int describe_transactions_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, describe_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc =
        describe_transactions_request_read(r, kreq_version(req), &req->arena, &op->in.describe);
    return rc < 0
               ? rc
               : start(req, op, op->in.describe.transactional_ids.cnt, TXN_DESCRIBE, describe_ask);
}

/* --------------------------------------------------------- ListTransactions */

static bool state_is_known(struct span name)
{
    for (uint32_t i = 0; i < TXN_STATE_CNT; i++)
        if (span_eq_str(name, txn_state_text[i]))
            return true;
    return false;
}

static void list_respond(struct many *m)
{
    struct many_op *op = op_of(m);
    struct kreq *req = op->m.req;
    struct list_transactions_response out;
    struct wire_spans filters = op->in.list.state_filters;
    uint32_t cnt = 0;
    list_transactions_response_init(&out);
    for (uint32_t i = 0; i < op->m.cnt; i++) {
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
    for (uint32_t i = 0; i < op->m.cnt && out.error_code == 0; i++) {
        const struct list_transactions_response *part = &op->calls[i].out.list;
        if (part->transaction_states.cnt > 0)
            memcpy(out.transaction_states.v + out.transaction_states.cnt,
                   part->transaction_states.v,
                   part->transaction_states.cnt * sizeof(*out.transaction_states.v));
        out.transaction_states.cnt += part->transaction_states.cnt;
    }
    KREQ_RESPOND(req, list_transactions_response, &out);
}

/* Of each shard, what it may hold at most: all of it is answered. */
static bool list_ask(struct many *m, uint32_t i, bool no_room)
{
    struct many_op *op = op_of(m);
    (void)no_room;
    op->calls[i].list = &op->in.list;
    txn_call_send_all(&op->calls[i], m->req, (uint16_t)i);
    return true;
}

int list_transactions_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, list_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = list_transactions_request_read(r, kreq_version(req), &req->arena, &op->in.list);
    return rc < 0 ? rc : start(req, op, req->k->s->cnt, TXN_LIST, list_ask);
}
