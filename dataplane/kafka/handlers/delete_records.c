/* delete_records.c - DeleteRecords: the owner moves the log start of each partition; segments below
 * it are dropped by upkeep. Offset -1 means the high watermark. Topics that are only compacted are
 * refused, as their records are not ours to count as old. */
#include "dataplane/kafka/handlers.h"

enum { ERR_POLICY_VIOLATION = 44 };

struct delete_part {
    struct ask_op ask;
    struct delete_records_response_partition *out;
};
struct delete_op {
    struct asks asks;
    struct delete_records_request in;
    struct delete_records_response resp;
    struct delete_part *parts;
};

static void respond(struct asks *a)
{
    struct delete_op *op = container_of(a, struct delete_op, asks);
    KREQ_RESPOND(a->req, delete_records_response, &op->resp);
}

static void on_answer(struct ask_op *ask)
{
    struct delete_part *p = container_of(ask, struct delete_part, ask);
    p->out->error_code = (int16_t)err_kafka_code(ask->m.msg.rc);
    if (ask->m.msg.rc == 0)
        p->out->low_watermark = ask->m.del.ret_low_watermark;
}

static int16_t topic_refused(const struct meta_image *img, const struct meta_topic *t)
{
    const char *policy = t != NULL ? config_of_topic(img, t, "cleanup.policy", NULL) : NULL;
    bool deletes = policy == NULL || strstr(policy, "delete") != NULL;
    return deletes ? 0 : ERR_POLICY_VIOLATION;
}

static int delete_alloc(struct delete_op *op, struct kreq *req)
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
        struct delete_records_response_topic *t = &op->resp.topics.v[i];
        delete_records_response_topic_init(t);
        t->name = op->in.topics.v[i].name;
        t->partitions.cnt = op->in.topics.v[i].partitions.cnt;
        t->partitions.v = arena_array(&req->arena, t->partitions.cnt, sizeof(*t->partitions.v));
        if (t->partitions.v == NULL)
            return -E_LIMIT;
    }
    return 0;
}

int delete_records_start(struct kreq *req, struct wire_reader *r)
{
    struct delete_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = delete_records_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    delete_records_response_init(&op->resp);
    rc = delete_alloc(op, req);
    if (rc < 0)
        return rc;
    asks_begin(&op->asks, req, respond);
    struct delete_part *p = op->parts;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++) {
        const struct delete_records_request_topic *in = &op->in.topics.v[i];
        const struct meta_image *img = req->k->s->image;
        const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->name) : NULL;
        int16_t refused = topic_refused(img, t);
        for (uint32_t j = 0; j < in->partitions.cnt; j++, p++) {
            p->out = &op->resp.topics.v[i].partitions.v[j];
            delete_records_response_partition_init(p->out);
            p->out->partition_index = in->partitions.v[j].partition_index;
            p->out->low_watermark = -1;
            p->ask.done = on_answer;
            p->ask.m.kind = ASK_DELETE_RECORDS;
            p->ask.m.del.offset = in->partitions.v[j].offset;
            p->out->error_code =
                refused != 0 ? refused : ask_send(&op->asks, &p->ask, t, p->out->partition_index);
        }
    }
    asks_sent(&op->asks);
    return 0;
}
