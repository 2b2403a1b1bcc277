/* find_coordinator.c - FindCoordinator: this broker, for groups and transactional ids once their
 * partition has a shard. The first question about a transactional id makes __transaction_state. */
#include "dataplane/kafka/handlers/group_call.h"
#include "dataplane/kafka/handlers/txn_call.h"

enum { KEY_GROUP = 0, KEY_TRANSACTION = 1, CREATE_TOPICS_VERSION = 7 };

struct find_op {
    struct admin_op admin;
    struct find_coordinator_request in;
};

static int16_t find(const struct kreq *req, int8_t type, struct span key)
{
    int32_t partition;
    int16_t error;
    if (type == KEY_TRANSACTION)
        return txn_coordinator_error(req->k->s, key);
    if (type != KEY_GROUP)
        return KE_INVALID_REQUEST;
    (void)group_owner(req->k->s, key, &partition, &error); /* only whether there is one */
    return error;
}

static int answer(struct kreq *req, const struct find_coordinator_request *in)
{
    struct find_coordinator_response out;
    struct span host;
    int32_t port, node = req->k->s->conf->node_id;
    find_coordinator_response_init(&out);
    kreq_advertised(req, &host, &port);
    if (kreq_version(req) < 4) {
        out.error_code = find(req, in->key_type, in->key);
        bool ok = out.error_code == 0;
        out.node_id = ok ? node : -1;
        out.host = ok ? host : WIRE_EMPTY;
        out.port = ok ? port : -1;
        KREQ_RESPOND(req, find_coordinator_response, &out);
        return 0;
    }
    kreq_arena_allow(req, in->coordinator_keys.cnt * (sizeof(*out.coordinators.v) + 16));
    out.coordinators.v =
        arena_array(&req->arena, in->coordinator_keys.cnt, sizeof(*out.coordinators.v));
    if (out.coordinators.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < in->coordinator_keys.cnt; i++) {
        struct find_coordinator_response_coordinator *o =
            &out.coordinators.v[out.coordinators.cnt++];
        find_coordinator_response_coordinator_init(o);
        o->key = in->coordinator_keys.v[i];
        o->error_code = find(req, in->key_type, o->key);
        bool ok = o->error_code == 0;
        o->node_id = ok ? node : -1;
        o->host = ok ? host : WIRE_EMPTY;
        o->port = ok ? port : -1;
    }
    KREQ_RESPOND(req, find_coordinator_response, &out);
    return 0;
}

static void on_created(struct admin_op *admin)
{
    struct find_op *op = container_of(admin, struct find_op, admin);
    if (admin->req->conn != NULL && answer(admin->req, &op->in) < 0) /* the image says it all */
        kreq_fail(admin->req);
}

/* As Kafka makes it. 0, or -E_LIMIT. */
static int create_topic(struct kreq *req, struct find_op *op)
{
    struct create_topics_request in;
    struct create_topics_request_topic t;
    struct create_topics_request_config configs[] = {
        {span_str("cleanup.policy"), span_str("compact")},
        {span_str("compression.type"), span_str("uncompressed")},
        {span_str("segment.bytes"), span_str("104857600")}};
    create_topics_request_init(&in);
    create_topics_request_topic_init(&t);
    in.timeout_ms = 30000;
    in.topics.v = &t;
    in.topics.cnt = 1;
    t.name = span_str(TXN_TOPIC);
    t.num_partitions = (int32_t)req->k->s->conf->transactions_partitions;
    t.replication_factor = -1;
    t.configs.v = configs;
    t.configs.cnt = sizeof(configs) / sizeof(configs[0]);
    size_t len = create_topics_request_size(&in, CREATE_TOPICS_VERSION);
    uint8_t *body = arena_alloc(&req->arena, len);
    if (body == NULL)
        return -E_LIMIT;
    struct wire_writer w;
    wire_writer_init(&w, body, len);
    create_topics_request_write(&w, CREATE_TOPICS_VERSION, &in);
    op->admin = (struct admin_op){.req = req, .done = on_created};
    op->admin.m.api_key = API_KEY_CREATE_TOPICS;
    op->admin.m.api_version = CREATE_TOPICS_VERSION;
    op->admin.m.listener_idx = req->conn->listener_idx;
    op->admin.m.fail_fast = true;
    op->admin.m.client_id = req->hdr.client_id;
    op->admin.m.body = span_of(body, (uint32_t)len);
    op->admin.m.timeout_ms = (uint32_t)in.timeout_ms;
    admin_send(&op->admin);
    return 0;
}

int find_coordinator_start(struct kreq *req, struct wire_reader *r)
{
    struct find_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = find_coordinator_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    const struct meta_image *img = req->k->s->image;
    bool missing = op->in.key_type == KEY_TRANSACTION && img != NULL &&
                   image_topic_by_name(img, span_str(TXN_TOPIC)) == NULL;
    return missing ? create_topic(req, op) : answer(req, &op->in);
}
