/* admin_forward.c - CreateTopics, DeleteTopics, CreatePartitions, AlterConfigs,
 * IncrementalAlterConfigs, AlterClientQuotas: decoded here to refuse what
 * cannot be understood and to know the timeout, then forwarded to sluiced as they came. Its answer
 * is passed on byte for byte; when there is none, every resource of the request gets the error. */
#include "dataplane/kafka/handlers.h"

#define ADMIN_TIMEOUT_MIN_MS 0
#define ADMIN_TIMEOUT_MAX_MS 600000
#define ALTER_TIMEOUT_MS 30000 /* those requests carry none */

struct forward_op {
    struct admin_op admin;
    union {
        struct create_topics_request create;
        struct delete_topics_request del;
        struct create_partitions_request partitions;
        struct alter_configs_request alter;
        struct incremental_alter_configs_request incremental;
        struct alter_client_quotas_request quotas;
    } in;
    int (*respond_error)(struct forward_op *op, int rc); /* 0, or -E_LIMIT and nothing done */
};

static const char *admin_error_text(int rc)
{
    return rc == -E_TIMED_OUT ? "the control plane did not answer in time" : err_text(rc);
}

static int create_topics_error(struct forward_op *op, int rc)
{
    struct kreq *req = op->admin.req;
    struct create_topics_response resp;
    create_topics_response_init(&resp);
    uint32_t cnt = op->in.create.topics.cnt;
    resp.topics.v = arena_array(&req->arena, cnt, sizeof(*resp.topics.v));
    if (resp.topics.v == NULL)
        return -E_LIMIT;
    resp.topics.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        struct create_topics_response_topic *t = &resp.topics.v[i];
        create_topics_response_topic_init(t);
        t->name = op->in.create.topics.v[i].name;
        t->error_code = (int16_t)err_kafka_code(rc);
        t->error_message = span_str(admin_error_text(rc));
    }
    KREQ_RESPOND(req, create_topics_response, &resp);
    return 0;
}

static int delete_topics_error(struct forward_op *op, int rc)
{
    struct kreq *req = op->admin.req;
    struct delete_topics_response resp;
    delete_topics_response_init(&resp);
    bool by_state = kreq_version(req) >= 6;
    uint32_t cnt = by_state ? op->in.del.topics.cnt : op->in.del.topic_names.cnt;
    resp.responses.v = arena_array(&req->arena, cnt, sizeof(*resp.responses.v));
    if (resp.responses.v == NULL)
        return -E_LIMIT;
    resp.responses.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        struct delete_topics_response_topic *t = &resp.responses.v[i];
        delete_topics_response_topic_init(t);
        t->name = by_state ? op->in.del.topics.v[i].name : op->in.del.topic_names.v[i];
        if (by_state)
            t->topic_id = op->in.del.topics.v[i].topic_id;
        t->error_code = (int16_t)err_kafka_code(rc);
        t->error_message = span_str(admin_error_text(rc));
    }
    KREQ_RESPOND(req, delete_topics_response, &resp);
    return 0;
}

static int create_partitions_error(struct forward_op *op, int rc)
{
    struct kreq *req = op->admin.req;
    struct create_partitions_response resp;
    create_partitions_response_init(&resp);
    uint32_t cnt = op->in.partitions.topics.cnt;
    resp.results.v = arena_array(&req->arena, cnt, sizeof(*resp.results.v));
    if (resp.results.v == NULL)
        return -E_LIMIT;
    resp.results.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        struct create_partitions_response_result *t = &resp.results.v[i];
        create_partitions_response_result_init(t);
        t->name = op->in.partitions.topics.v[i].name;
        t->error_code = (int16_t)err_kafka_code(rc);
        t->error_message = span_str(admin_error_text(rc));
    }
    KREQ_RESPOND(req, create_partitions_response, &resp);
    return 0;
}

static void on_answer(struct admin_op *admin)
{
    struct forward_op *op = container_of(admin, struct forward_op, admin);
    struct kreq *req = admin->req;
    if (req->conn == NULL)
        return;
    if (admin->m.msg.rc < 0) {
        kreq_arena_allow(req, 1u << 20);
        if (op->respond_error(op, admin->m.msg.rc) < 0)
            kreq_fail(req);
        return;
    }
    struct wire_writer w;
    if (kreq_out_begin(req, admin->m.reply_len, 0, &w) == 0) {
        wire_put_raw(&w, span_of(admin->m.reply, admin->m.reply_len));
        kreq_out_end(req, &w, NULL, 0);
    }
}

static void forward(struct kreq *req, struct forward_op *op, int32_t timeout_ms)
{
    struct kafka_admin_msg *m = &op->admin.m;
    op->admin.req = req;
    op->admin.done = on_answer;
    m->api_key = req->api->key;
    m->api_version = kreq_version(req);
    m->listener_idx = req->conn->listener_idx;
    m->timeout_ms = timeout_ms < ADMIN_TIMEOUT_MIN_MS   ? ADMIN_TIMEOUT_MIN_MS
                    : timeout_ms > ADMIN_TIMEOUT_MAX_MS ? ADMIN_TIMEOUT_MAX_MS
                                                        : (uint32_t)timeout_ms;
    m->client_id = req->hdr.client_id;
    m->body = span_of(req->frame->data + req->body_pos, req->frame_len - req->body_pos);
    admin_send(&op->admin);
}

int create_topics_start(struct kreq *req, struct wire_reader *r)
{
    struct forward_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = create_topics_request_read(r, kreq_version(req), &req->arena, &op->in.create);
    if (rc < 0)
        return rc;
    op->respond_error = create_topics_error;
    forward(req, op, op->in.create.timeout_ms);
    return 0;
}

int delete_topics_start(struct kreq *req, struct wire_reader *r)
{
    struct forward_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = delete_topics_request_read(r, kreq_version(req), &req->arena, &op->in.del);
    if (rc < 0)
        return rc;
    op->respond_error = delete_topics_error;
    forward(req, op, op->in.del.timeout_ms);
    return 0;
}

int create_partitions_start(struct kreq *req, struct wire_reader *r)
{
    struct forward_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = create_partitions_request_read(r, kreq_version(req), &req->arena, &op->in.partitions);
    if (rc < 0)
        return rc;
    op->respond_error = create_partitions_error;
    forward(req, op, op->in.partitions.timeout_ms);
    return 0;
}

/* Both alter requests have resources, and rows of the same shape for them. */
#define ALTER_CONFIGS(api, member)                                                                 \
    static int api##_error(struct forward_op *op, int rc)                                          \
    {                                                                                              \
        struct kreq *req = op->admin.req;                                                          \
        struct api##_response resp;                                                                \
        api##_response_init(&resp);                                                                \
        uint32_t cnt = op->in.member.resources.cnt;                                                \
        resp.responses.v = arena_array(&req->arena, cnt, sizeof(*resp.responses.v));               \
        if (resp.responses.v == NULL)                                                              \
            return -E_LIMIT;                                                                       \
        resp.responses.cnt = cnt;                                                                  \
        for (uint32_t i = 0; i < cnt; i++) {                                                       \
            struct api##_response_resource *t = &resp.responses.v[i];                              \
            api##_response_resource_init(t);                                                       \
            t->resource_type = op->in.member.resources.v[i].resource_type;                         \
            t->resource_name = op->in.member.resources.v[i].resource_name;                         \
            t->error_code = (int16_t)err_kafka_code(rc);                                           \
            t->error_message = span_str(admin_error_text(rc));                                     \
        }                                                                                          \
        KREQ_RESPOND(req, api##_response, &resp);                                                  \
        return 0;                                                                                  \
    }                                                                                              \
    int api##_start(struct kreq *req, struct wire_reader *r)                                       \
    {                                                                                              \
        struct forward_op *op = arena_alloc(&req->arena, sizeof(*op));                             \
        if (op == NULL)                                                                            \
            return -E_LIMIT;                                                                       \
        int rc = api##_request_read(r, kreq_version(req), &req->arena, &op->in.member);            \
        if (rc < 0)                                                                                \
            return rc;                                                                             \
        op->respond_error = api##_error;                                                           \
        forward(req, op, ALTER_TIMEOUT_MS);                                                        \
        return 0;                                                                                  \
    }
ALTER_CONFIGS(alter_configs, alter)
ALTER_CONFIGS(incremental_alter_configs, incremental)

static int alter_client_quotas_error(struct forward_op *op, int rc)
{
    struct kreq *req = op->admin.req;
    struct alter_client_quotas_response resp;
    alter_client_quotas_response_init(&resp);
    uint32_t cnt = op->in.quotas.entries.cnt;
    resp.entries.v = arena_array(&req->arena, cnt, sizeof(*resp.entries.v));
    if (resp.entries.v == NULL)
        return -E_LIMIT;
    resp.entries.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        const struct alter_client_quotas_request_entry *in = &op->in.quotas.entries.v[i];
        struct alter_client_quotas_response_entry *t = &resp.entries.v[i];
        alter_client_quotas_response_entry_init(t);
        t->error_code = (int16_t)err_kafka_code(rc);
        t->error_message = span_str(admin_error_text(rc));
        t->entity.v = arena_array(&req->arena, in->entity.cnt, sizeof(*t->entity.v));
        if (t->entity.v == NULL)
            return -E_LIMIT;
        t->entity.cnt = in->entity.cnt;
        for (uint32_t k = 0; k < in->entity.cnt; k++) {
            t->entity.v[k].entity_type = in->entity.v[k].entity_type;
            t->entity.v[k].entity_name = in->entity.v[k].entity_name;
        }
    }
    KREQ_RESPOND(req, alter_client_quotas_response, &resp);
    return 0;
}

int alter_client_quotas_start(struct kreq *req, struct wire_reader *r)
{
    struct forward_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = alter_client_quotas_request_read(r, kreq_version(req), &req->arena, &op->in.quotas);
    if (rc < 0)
        return rc;
    op->respond_error = alter_client_quotas_error;
    forward(req, op, ALTER_TIMEOUT_MS);
    return 0;
}
