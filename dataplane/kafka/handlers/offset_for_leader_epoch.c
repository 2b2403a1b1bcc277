/* offset_for_leader_epoch.c - OffsetForLeaderEpoch: one question per partition to its owner,
 * answered when all are home. Consumers detect with it that the log was cut behind their back. */
#include "dataplane/kafka/handlers.h"

struct epoch_part {
    struct ask_op ask;
    struct offset_for_leader_epoch_response_partition *out;
};
struct epoch_op {
    struct asks asks;
    struct offset_for_leader_epoch_request in;
    struct offset_for_leader_epoch_response resp;
    struct epoch_part *parts;
};

static void respond(struct asks *a)
{
    struct epoch_op *op = container_of(a, struct epoch_op, asks);
    KREQ_RESPOND(a->req, offset_for_leader_epoch_response, &op->resp);
}

static void on_answer(struct ask_op *ask)
{
    struct epoch_part *p = container_of(ask, struct epoch_part, ask);
    p->out->error_code = (int16_t)err_kafka_code(ask->m.msg.rc);
    if (ask->m.msg.rc == 0) {
        p->out->leader_epoch = ask->m.epoch.ret_epoch;
        p->out->end_offset = ask->m.epoch.ret_end_offset;
    }
}

static int epoch_alloc(struct epoch_op *op, struct kreq *req)
{
    uint32_t topics = op->in.topics.cnt;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < topics; i++)
        parts += op->in.topics.v[i].partitions.cnt;
    kreq_arena_allow(req, parts * (sizeof(*op->parts) + 64) + topics * 128u);
    op->parts = arena_array(&req->arena, parts + 1, sizeof(*op->parts));
    op->resp.topics.v = arena_array(&req->arena, topics, sizeof(*op->resp.topics.v));
    if (op->parts == NULL || op->resp.topics.v == NULL)
        return -E_LIMIT;
    op->resp.topics.cnt = topics;
    for (uint32_t i = 0; i < topics; i++) {
        struct offset_for_leader_epoch_response_topic *t = &op->resp.topics.v[i];
        offset_for_leader_epoch_response_topic_init(t);
        t->topic = op->in.topics.v[i].topic;
        t->partitions.cnt = op->in.topics.v[i].partitions.cnt;
        t->partitions.v = arena_array(&req->arena, t->partitions.cnt, sizeof(*t->partitions.v));
        if (t->partitions.v == NULL)
            return -E_LIMIT;
    }
    return 0;
}

int offset_for_leader_epoch_start(struct kreq *req, struct wire_reader *r)
{
    struct epoch_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = offset_for_leader_epoch_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    offset_for_leader_epoch_response_init(&op->resp);
    rc = epoch_alloc(op, req);
    if (rc < 0)
        return rc;
    asks_begin(&op->asks, req, respond);
    struct epoch_part *p = op->parts;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++) {
        const struct offset_for_leader_epoch_request_topic *in = &op->in.topics.v[i];
        const struct meta_image *img = req->k->s->image;
        const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->topic) : NULL;
        for (uint32_t j = 0; j < in->partitions.cnt; j++, p++) {
            p->out = &op->resp.topics.v[i].partitions.v[j];
            offset_for_leader_epoch_response_partition_init(p->out);
            p->out->partition = in->partitions.v[j].partition;
            p->ask.done = on_answer;
            p->ask.m.kind = ASK_EPOCH_END;
            p->ask.m.epoch.current_leader_epoch = in->partitions.v[j].current_leader_epoch;
            p->ask.m.epoch.epoch = in->partitions.v[j].leader_epoch;
            p->out->error_code = ask_send(&op->asks, &p->ask, t, p->out->partition);
        }
    }
    asks_sent(&op->asks);
    return 0;
}
