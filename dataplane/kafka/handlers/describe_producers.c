/* describe_producers.c - DescribeProducers: what each partition knows of its idempotent producers.
 * A partition is asked with room for PRODUCERS_FIRST and asked again when it has more. */
#include "dataplane/kafka/handlers.h"

#define PRODUCERS_FIRST 16
#define PRODUCERS_MOST 100000 /* of one partition; more are left out */

struct describe_op;
struct describe_part {
    struct ask_op ask;
    struct describe_op *op;
    struct describe_producers_response_partition *out;
};
struct describe_op {
    struct kreq *req;
    struct describe_producers_request in;
    struct describe_producers_response resp;
    struct describe_part *parts;
    uint32_t pending;
};

static void respond(struct describe_op *op)
{
    KREQ_RESPOND(op->req, describe_producers_response, &op->resp);
}

static int room(struct describe_part *p, uint32_t cap)
{
    struct kreq *req = p->op->req;
    kreq_arena_allow(req, (uint64_t)cap * sizeof(struct producer_view) + 64);
    p->ask.m.producers.v = arena_array(&req->arena, cap, sizeof(struct producer_view));
    p->ask.m.producers.cap = p->ask.m.producers.v != NULL ? cap : 0;
    return p->ask.m.producers.v != NULL ? 0 : -E_LIMIT;
}

static int fill(struct describe_part *p)
{
    struct kreq *req = p->op->req;
    uint32_t cnt = p->ask.m.producers.cnt;
    if (cnt > p->ask.m.producers.cap)
        cnt = p->ask.m.producers.cap;
    kreq_arena_allow(req, (uint64_t)cnt * sizeof(*p->out->active_producers.v) + 64);
    p->out->active_producers.v = arena_array(&req->arena, cnt, sizeof(*p->out->active_producers.v));
    if (p->out->active_producers.v == NULL)
        return -E_LIMIT;
    p->out->active_producers.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        const struct producer_view *v = &p->ask.m.producers.v[i];
        struct describe_producers_response_producer *o = &p->out->active_producers.v[i];
        describe_producers_response_producer_init(o);
        o->producer_id = v->producer_id;
        o->producer_epoch = v->producer_epoch;
        o->last_sequence = v->last_sequence;
        o->last_timestamp = v->last_timestamp_ms;
        o->coordinator_epoch = v->coordinator_epoch;
        o->current_txn_start_offset = v->txn_first_offset;
    }
    return 0;
}

static void on_answer(struct ask_op *ask)
{
    struct describe_part *p = container_of(ask, struct describe_part, ask);
    struct describe_op *op = p->op;
    struct kreq *req = op->req;
    int rc = ask->m.msg.rc;
    if (req->conn == NULL) {
        op->pending--;
        return;
    }
    uint32_t cnt = ask->m.producers.cnt;
    if (rc == 0 && cnt > ask->m.producers.cap && ask->m.producers.cap < PRODUCERS_MOST) {
        uint64_t want = (uint64_t)cnt + cnt / 4; /* it may have more by then */
        uint16_t owner = ask->m.producers.cap > 0 && req->k->s->owners != NULL
                             ? owner_map_find(req->k->s->owners, &ask->m.topic_id, ask->m.partition)
                             : OWNER_NONE;
        if (owner != OWNER_NONE &&
            room(p, want < PRODUCERS_MOST ? (uint32_t)want : PRODUCERS_MOST) == 0) {
            kreq_send(req, owner, &ask->m.msg, MSG_PARTITION_ASK);
            return;
        }
        rc = owner == OWNER_NONE ? -E_NOT_OWNER : -E_LIMIT;
    }
    if (rc == 0)
        rc = fill(p);
    p->out->error_code = (int16_t)err_kafka_code(rc);
    if (--op->pending == 0)
        respond(op);
}

static int describe_alloc(struct describe_op *op)
{
    struct kreq *req = op->req;
    uint32_t topics = op->in.topics.cnt;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < topics; i++)
        parts += op->in.topics.v[i].partition_indexes.cnt;
    kreq_arena_allow(req,
                     parts * (sizeof(*op->parts) + sizeof(*op->parts->out) + 64) + topics * 128u);
    op->parts = arena_array(&req->arena, parts + 1, sizeof(*op->parts));
    op->resp.topics.v = arena_array(&req->arena, topics, sizeof(*op->resp.topics.v));
    if (op->parts == NULL || op->resp.topics.v == NULL)
        return -E_LIMIT;
    op->resp.topics.cnt = topics;
    struct describe_part *p = op->parts;
    for (uint32_t i = 0; i < topics; i++) {
        struct describe_producers_response_topic *t = &op->resp.topics.v[i];
        uint32_t cnt = op->in.topics.v[i].partition_indexes.cnt;
        describe_producers_response_topic_init(t);
        t->name = op->in.topics.v[i].name;
        t->partitions.cnt = cnt;
        t->partitions.v = arena_array(&req->arena, cnt, sizeof(*t->partitions.v));
        if (t->partitions.v == NULL)
            return -E_LIMIT;
        for (uint32_t j = 0; j < cnt; j++, p++) {
            p->op = op;
            p->out = &t->partitions.v[j];
            describe_producers_response_partition_init(p->out);
            p->out->partition_index = op->in.topics.v[i].partition_indexes.v[j];
            p->ask.req = req;
            p->ask.done = on_answer;
            p->ask.m.kind = ASK_PRODUCERS;
            if (room(p, PRODUCERS_FIRST) < 0)
                return -E_LIMIT;
        }
    }
    return 0;
}

int describe_producers_start(struct kreq *req, struct wire_reader *r)
{
    struct describe_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    op->req = req;
    int rc = describe_producers_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    describe_producers_response_init(&op->resp);
    rc = describe_alloc(op);
    if (rc < 0)
        return rc;
    op->pending = 1; /* ours, until all are asked */
    struct describe_part *p = op->parts;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++) {
        const struct describe_producers_request_topic *in = &op->in.topics.v[i];
        const struct meta_image *img = req->k->s->image;
        const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->name) : NULL;
        for (uint32_t j = 0; j < in->partition_indexes.cnt; j++, p++) {
            p->out->error_code = ask_send(&p->ask, t, p->out->partition_index);
            op->pending += p->out->error_code == 0;
        }
    }
    if (--op->pending == 0)
        respond(op);
    return 0;
}
