/* describe_producers.c - DescribeProducers: what each partition knows of its idempotent producers.
 * A partition is asked with room for PRODUCERS_FIRST and asked again when it has more. */
#include "dataplane/kafka/handlers.h"

#define PRODUCERS_FIRST 16
#define PRODUCERS_MOST 100000 /* of one partition; more are left out */

struct describe_part {
    struct ask_op ask;
    struct describe_producers_response_partition *out;
};
struct describe_op {
    struct asks asks;
    struct describe_producers_request in;
    struct describe_producers_response resp;
    struct describe_part *parts;
};

static void respond(struct asks *a)
{
    struct describe_op *op = container_of(a, struct describe_op, asks);
    KREQ_RESPOND(a->req, describe_producers_response, &op->resp);
}

static int room(struct kreq *req, struct describe_part *p, uint32_t cap)
{
    kreq_arena_allow(req, (uint64_t)cap * sizeof(struct producer_view) + 64);
    p->ask.m.producers.v = arena_array(&req->arena, cap, sizeof(struct producer_view));
    p->ask.m.producers.cap = p->ask.m.producers.v != NULL ? cap : 0;
    return p->ask.m.producers.v != NULL ? 0 : -E_LIMIT;
}

static int fill(struct kreq *req, struct describe_part *p)
{
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
    struct kreq *req = ask->of->req;
    int rc = ask->m.msg.rc;
    uint32_t cnt = ask->m.producers.cnt;
    if (rc == 0 && cnt > ask->m.producers.cap && ask->m.producers.cap < PRODUCERS_MOST) {
        uint64_t want = (uint64_t)cnt + cnt / 4; /* it may have more by then */
        rc = room(req, p, want < PRODUCERS_MOST ? (uint32_t)want : PRODUCERS_MOST);
        if (rc == 0)
            rc = ask_again(ask);
        if (rc == 0)
            return;
    }
    if (rc == 0)
        rc = fill(req, p);
    p->out->error_code = (int16_t)err_kafka_code(rc);
}

static int describe_alloc(struct describe_op *op, struct kreq *req)
{
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
            p->out = &t->partitions.v[j];
            describe_producers_response_partition_init(p->out);
            p->out->partition_index = op->in.topics.v[i].partition_indexes.v[j];
            p->ask.done = on_answer;
            p->ask.m.kind = ASK_PRODUCERS;
            if (room(req, p, PRODUCERS_FIRST) < 0)
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
    int rc = describe_producers_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    describe_producers_response_init(&op->resp);
    rc = describe_alloc(op, req);
    if (rc < 0)
        return rc;
    asks_begin(&op->asks, req, respond);
    struct describe_part *p = op->parts;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++) {
        const struct describe_producers_request_topic *in = &op->in.topics.v[i];
        const struct meta_image *img = req->k->s->image;
        const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->name) : NULL;
        for (uint32_t j = 0; j < in->partition_indexes.cnt; j++, p++)
            p->out->error_code = ask_send(&op->asks, &p->ask, t, p->out->partition_index);
    }
    asks_sent(&op->asks);
    return 0;
}
