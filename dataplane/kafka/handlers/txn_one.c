/* txn_one.c - the APIs about one transaction: AddPartitionsToTxn, AddOffsetsToTxn, EndTxn. Decoded
 * here, answered by the shard of the transactional id. */
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/handlers/txn_call.h"

enum { END_V2 = 5, FENCED_FROM = 2, ABORTABLE_FROM = 4 };

/* ----------------------------------------------------------- AddPartitionsToTxn */

struct add_op {
    struct txn_call call;
    struct add_partitions_to_txn_request in;
    bool refused; /* a partition does not exist: nothing is added */
};

static int16_t partition_error(const struct shard *s, struct span topic, int32_t partition)
{
    const struct meta_topic *t = s->image != NULL ? image_topic_by_name(s->image, topic) : NULL;
    bool known = t != NULL && partition >= 0 && (uint32_t)partition < t->partition_cnt;
    return known ? 0 : TE_UNKNOWN_TOPIC;
}

static void add_respond(struct add_op *op, struct kreq *req, int16_t error)
{
    struct add_partitions_to_txn_response out;
    uint32_t topics = op->in.v3_and_below_topics.cnt;
    add_partitions_to_txn_response_init(&out);
    out.results_by_topic_v3_and_below.v =
        arena_array(&req->arena, topics, sizeof(*out.results_by_topic_v3_and_below.v));
    if (out.results_by_topic_v3_and_below.v == NULL) {
        kreq_fail(req);
        return;
    }
    out.results_by_topic_v3_and_below.cnt = topics;
    for (uint32_t i = 0; i < topics; i++) {
        const struct add_partitions_to_txn_request_topic *t = &op->in.v3_and_below_topics.v[i];
        struct add_partitions_to_txn_response_topic *o = &out.results_by_topic_v3_and_below.v[i];
        add_partitions_to_txn_response_topic_init(o);
        o->name = t->name;
        o->results_by_partition.cnt = t->partitions.cnt;
        o->results_by_partition.v =
            arena_array(&req->arena, t->partitions.cnt, sizeof(*o->results_by_partition.v));
        if (o->results_by_partition.v == NULL) {
            kreq_fail(req);
            return;
        }
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            struct add_partitions_to_txn_response_partition *p = &o->results_by_partition.v[k];
            add_partitions_to_txn_response_partition_init(p);
            p->partition_index = t->partitions.v[k];
            p->partition_error_code = error;
            int16_t own = partition_error(req->k->s, t->name, t->partitions.v[k]);
            if (op->refused)
                p->partition_error_code = own != 0 ? own : TE_NOT_ATTEMPTED;
        }
    }
    KREQ_RESPOND(req, add_partitions_to_txn_response, &out);
}

static void on_add_answer(struct txn_call *call)
{
    struct add_op *op = container_of(call, struct add_op, call);
    struct kreq *req = call->req;
    if (req->conn != NULL)
        add_respond(op, req, txn_error_of(call->error, kreq_version(req), FENCED_FROM, 0));
    arena_fini(&call->arena);
}

int add_partitions_to_txn_start(struct kreq *req, struct wire_reader *r)
{
    struct add_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = add_partitions_to_txn_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    uint64_t parts = 0;
    uint32_t topics = op->in.v3_and_below_topics.cnt;
    for (uint32_t i = 0; i < topics; i++)
        parts += op->in.v3_and_below_topics.v[i].partitions.cnt;
    kreq_arena_allow(req, parts * 16 + topics * 256u + 65536);
    struct txn_parts *asked = &op->call.asked;
    asked->v = arena_array(&req->arena, topics, sizeof(*asked->v));
    if (asked->v == NULL)
        return -E_LIMIT;
    asked->cnt = topics;
    asked->part_cnt = (uint32_t)parts;
    for (uint32_t i = 0; i < topics; i++) {
        const struct add_partitions_to_txn_request_topic *t = &op->in.v3_and_below_topics.v[i];
        asked->v[i] = (struct txn_topic){
            .name = t->name, .v = (int32_t *)(uintptr_t)t->partitions.v, .cnt = t->partitions.cnt};
        for (uint32_t k = 0; k < t->partitions.cnt; k++)
            op->refused |= partition_error(req->k->s, t->name, t->partitions.v[k]) != 0;
    }
    op->call.op = TXN_ADD;
    op->call.waits = true; /* clients would come back in 20 ms: markers take less */
    op->call.producer_id = op->in.v3_and_below_producer_id;
    op->call.epoch = op->in.v3_and_below_producer_epoch;
    op->call.done = on_add_answer;
    int16_t error = op->refused
                        ? TE_NOT_ATTEMPTED
                        : txn_call_send(&op->call, req, op->in.v3_and_below_transactional_id);
    if (error != 0)
        add_respond(op, req, error);
    return 0;
}

/* ------------------------------------------------------------- AddOffsetsToTxn */

struct offsets_op {
    struct txn_call call;
    struct add_offsets_to_txn_request in;
    struct txn_topic topic;
    int32_t partition;
};

static void offsets_respond(struct kreq *req, int16_t error)
{
    struct add_offsets_to_txn_response out;
    add_offsets_to_txn_response_init(&out);
    out.error_code = txn_error_of(error, kreq_version(req), FENCED_FROM, ABORTABLE_FROM);
    KREQ_RESPOND(req, add_offsets_to_txn_response, &out);
}

static void on_offsets_answer(struct txn_call *call)
{
    if (call->req->conn != NULL)
        offsets_respond(call->req, call->error);
    arena_fini(&call->arena);
}

int add_offsets_to_txn_start(struct kreq *req, struct wire_reader *r)
{
    const struct meta_image *img = req->k->s->image;
    struct offsets_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = add_offsets_to_txn_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    const struct meta_topic *t =
        img != NULL ? image_topic_by_name(img, span_str(OFFSETS_TOPIC)) : NULL;
    if (t == NULL) {
        offsets_respond(req, TE_NOT_AVAILABLE);
        return 0;
    }
    op->partition = clog_partition(op->in.group_id, t->partition_cnt);
    op->topic = (struct txn_topic){.name = span_str(OFFSETS_TOPIC), .v = &op->partition, .cnt = 1};
    op->call.asked = (struct txn_parts){.v = &op->topic, .cnt = 1, .part_cnt = 1};
    op->call.op = TXN_ADD;
    op->call.waits = true;
    op->call.producer_id = op->in.producer_id;
    op->call.epoch = op->in.producer_epoch;
    op->call.done = on_offsets_answer;
    int16_t error = txn_call_send(&op->call, req, op->in.transactional_id);
    if (error != 0)
        offsets_respond(req, error);
    return 0;
}

/* ---------------------------------------------------------------------- EndTxn */

struct end_op {
    struct txn_call call;
    struct end_txn_request in;
};

static void end_respond(struct end_op *op, struct kreq *req, int16_t error)
{
    struct end_txn_response out;
    end_txn_response_init(&out);
    out.error_code = txn_error_of(error, kreq_version(req), FENCED_FROM, ABORTABLE_FROM);
    if (error == 0) {
        out.producer_id = op->call.ret_producer_id;
        out.producer_epoch = op->call.ret_epoch;
    }
    KREQ_RESPOND(req, end_txn_response, &out);
}

static void on_end_answer(struct txn_call *call)
{
    if (call->req->conn != NULL)
        end_respond(container_of(call, struct end_op, call), call->req, call->error);
    arena_fini(&call->arena);
}

int end_txn_start(struct kreq *req, struct wire_reader *r)
{
    struct end_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = end_txn_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    op->call.op = TXN_END;
    op->call.producer_id = op->in.producer_id;
    op->call.epoch = op->in.producer_epoch;
    op->call.commit = op->in.committed;
    op->call.v2 = kreq_version(req) >= END_V2;
    op->call.done = on_end_answer;
    int16_t error = txn_call_send(&op->call, req, op->in.transactional_id);
    if (error != 0)
        end_respond(op, req, error);
    return 0;
}
