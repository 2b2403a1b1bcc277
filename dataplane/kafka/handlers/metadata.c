/* metadata.c - Metadata: one broker (us), its topics, and creation of topics by asking for them.
 *
 *     decode --nothing to create--> answer
 *         `--MSG_ADMIN CreateTopics--> on_created --> answer, by then the image has the topics
 *
 * Auto-creation asks only for names (never "all", never ids) and only when broker and request allow
 * it; when the control plane is away or the topic is still not there: LEADER_NOT_AVAILABLE.
 *
 * What is asked for twice is answered once, as in Kafka: an answer is never larger than all topics
 * and what the request itself holds. */
#include "dataplane/kafka/handlers.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"

#define AUTO_CREATE_MAX 1000 /* topics per request; the rest is answered as unknown */
#define WANTED_SLOTS 2048    /* a power of two */
static_assert(WANTED_SLOTS >= 2 * AUTO_CREATE_MAX, "searches end at a free slot");
#define AUTO_CREATE_TIMEOUT_MS 10000
#define CREATE_TOPICS_VERSION 7
#define TOPIC_OPERATIONS 0x0DF8   /* without an authorizer: all that a topic knows */
#define CLUSTER_OPERATIONS 0x1FA0 /* and a cluster */

enum {
    ERR_UNKNOWN_TOPIC = 3,
    ERR_LEADER_NOT_AVAILABLE = 5,
    ERR_REQUEST_TIMED_OUT = 7,
    ERR_INVALID_TOPIC = 17,
    ERR_TOPIC_EXISTS = 36,
    ERR_INVALID_REQUEST = 42,
    ERR_UNKNOWN_TOPIC_ID = 100,
};

struct wanted {                      /* the topics of a CreateTopics, found by name */
    uint16_t slots[WANTED_SLOTS];    /* 0: free; else the index in create.topics + 1 */
    int16_t errors[AUTO_CREATE_MAX]; /* why it cannot be made; 0: it is, or nobody knows yet */
};
struct metadata_op {
    struct admin_op admin;
    struct kreq *req;
    struct metadata_request in;
    bool all;
    struct wire_i32s self, none; /* [node id], [] */
    /* auto-creation */
    struct create_topics_request create;
    struct wanted *wanted; /* NULL: none was asked for */
};

static bool is_all(const struct metadata_op *op)
{
    return kreq_version(op->req) == 0 ? op->in.topics.cnt == 0 : op->in.topics.null;
}

static int fill_topic(struct metadata_op *op, const struct meta_topic *t,
                      struct metadata_response_topic *out)
{
    int32_t node = op->req->k->s->conf->node_id;
    out->error_code = 0;
    out->name = span_str(t->name);
    out->topic_id = t->id;
    out->is_internal = topic_is_internal(t);
    if (op->in.include_topic_authorized_operations)
        out->topic_authorized_operations = TOPIC_OPERATIONS;
    out->partitions.v = arena_array(&op->req->arena, t->partition_cnt, sizeof(*out->partitions.v));
    if (out->partitions.v == NULL)
        return -E_LIMIT;
    out->partitions.cnt = t->partition_cnt;
    for (uint32_t i = 0; i < t->partition_cnt; i++) {
        struct metadata_response_partition *p = &out->partitions.v[i];
        metadata_response_partition_init(p);
        bool here = t->partitions[i].leader == node;
        p->error_code = here ? 0 : ERR_LEADER_NOT_AVAILABLE;
        p->partition_index = (int32_t)i;
        p->leader_id = here ? node : -1;
        p->leader_epoch = t->partitions[i].leader_epoch;
        p->replica_nodes = op->self;
        p->isr_nodes = here ? op->self : op->none;
        p->offline_replicas = here ? op->none : op->self;
    }
    return 0;
}

/* Where a topic to create is, or belongs. */
static uint16_t *wanted_slot(const struct metadata_op *op, struct span name)
{
    uint32_t i = (uint32_t)hash_span(name) & (WANTED_SLOTS - 1);
    uint16_t *slots = op->wanted->slots;
    while (slots[i] != 0 && !span_eq(op->create.topics.v[slots[i] - 1].name, name))
        i = (i + 1) & (WANTED_SLOTS - 1);
    return &slots[i];
}

/* What a missing topic is answered with. */
static int16_t missing_code(const struct metadata_op *op, struct span name)
{
    uint16_t at = op->wanted != NULL ? *wanted_slot(op, name) : 0;
    if (at == 0)
        return ERR_UNKNOWN_TOPIC;
    int16_t error = op->wanted->errors[at - 1];
    return error != 0 ? error : ERR_LEADER_NOT_AVAILABLE;
}

static int fill_asked(struct metadata_op *op, const struct metadata_request_topic *in,
                      struct metadata_response_topic *out)
{
    int16_t version = kreq_version(op->req);
    const struct meta_image *img = op->req->k->s->image;
    const struct meta_topic *t = NULL;
    bool by_id = !uuid_is_zero(&in->topic_id);
    out->name = in->name;
    if (version < 12 && (by_id || span_is_null(in->name))) {
        out->error_code = ERR_INVALID_REQUEST; /* ids may be asked for from version 12 on */
        if (span_is_null(in->name))
            out->name = WIRE_EMPTY;
        out->topic_id = in->topic_id;
        return 0;
    }
    if (by_id) {
        t = img != NULL ? image_topic_by_id(img, &in->topic_id) : NULL;
        if (t == NULL) {
            out->error_code = ERR_UNKNOWN_TOPIC_ID;
            out->name = SPAN_NULL;
            out->topic_id = in->topic_id;
            return 0;
        }
        return fill_topic(op, t, out);
    }
    if (!topic_name_is_valid(in->name)) {
        out->error_code = ERR_INVALID_TOPIC;
        return 0;
    }
    t = img != NULL ? image_topic_by_name(img, in->name) : NULL;
    if (t == NULL) {
        out->error_code = missing_code(op, in->name);
        out->is_internal = topic_name_is_internal(in->name);
        return 0;
    }
    return fill_topic(op, t, out);
}

static int answer(struct metadata_op *op)
{
    struct kreq *req = op->req;
    const struct shard *s = req->k->s;
    const struct meta_image *img = s->image;
    struct metadata_response resp;
    metadata_response_init(&resp);

    struct metadata_response_broker broker;
    metadata_response_broker_init(&broker);
    broker.node_id = s->conf->node_id;
    kreq_advertised(req, &broker.host, &broker.port);
    resp.brokers.v = &broker;
    resp.brokers.cnt = 1;
    char cluster[UUID_TEXT_LEN + 1];
    uuid_format(img != NULL && !uuid_is_zero(&img->cluster_id) ? &img->cluster_id
                                                               : &s->conf->cluster_id,
                cluster);
    resp.cluster_id = span_str(cluster);
    resp.controller_id = s->conf->node_id;
    if (op->in.include_cluster_authorized_operations)
        resp.cluster_authorized_operations = CLUSTER_OPERATIONS;

    uint32_t cnt = !op->all ? op->in.topics.cnt : img != NULL ? img->topic_cnt : 0;
    uint64_t partitions = 0; /* of what is listed, for the arena's bound */
    for (uint32_t i = 0; op->all && i < cnt; i++)
        partitions += img->by_name[i]->partition_cnt;
    for (uint32_t i = 0; !op->all && img != NULL && i < cnt; i++) {
        const struct metadata_request_topic *in = &op->in.topics.v[i];
        const struct meta_topic *t = span_is_null(in->name) ? image_topic_by_id(img, &in->topic_id)
                                                            : image_topic_by_name(img, in->name);
        partitions += t != NULL ? t->partition_cnt : 0;
    }
    kreq_arena_allow(req, partitions * (sizeof(struct metadata_response_partition) + 16) +
                              cnt * (sizeof(struct metadata_response_topic) + 64) + 65536);
    resp.topics.v = arena_array(&req->arena, cnt, sizeof(*resp.topics.v));
    if (resp.topics.v == NULL)
        return -E_LIMIT;
    resp.topics.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        metadata_response_topic_init(&resp.topics.v[i]);
        int rc = op->all ? fill_topic(op, img->by_name[i], &resp.topics.v[i])
                         : fill_asked(op, &op->in.topics.v[i], &resp.topics.v[i]);
        if (rc < 0)
            return rc;
    }
    KREQ_RESPOND(req, metadata_response, &resp);
    return 0;
}

/* What keeps topics from being made, out of the answer of CreateTopics. */
static void take_errors(struct metadata_op *op, struct span body)
{
    struct wire_reader r;
    struct create_topics_response created;
    wire_reader_init(&r, body);
    if (create_topics_response_read(&r, CREATE_TOPICS_VERSION, &op->req->arena, &created) < 0)
        return;
    for (uint32_t i = 0; i < created.topics.cnt; i++) {
        const struct create_topics_response_topic *t = &created.topics.v[i];
        uint16_t at = *wanted_slot(op, t->name);
        if (at != 0 && t->error_code != ERR_TOPIC_EXISTS && t->error_code != ERR_REQUEST_TIMED_OUT)
            op->wanted->errors[at - 1] = t->error_code;
    }
}

static void on_created(struct admin_op *admin)
{
    struct metadata_op *op = container_of(admin, struct metadata_op, admin);
    struct kreq *req = op->req;
    if (req->conn == NULL)
        return;
    if (admin->m.msg.rc == 0)
        take_errors(op, span_of(admin->m.reply, admin->m.reply_len));
    if (answer(op) < 0)
        kreq_fail(req);
}

static bool creates(const struct metadata_op *op, const struct metadata_request_topic *t)
{
    const struct meta_image *img = op->req->k->s->image;
    if (span_is_null(t->name) || !uuid_is_zero(&t->topic_id) || !topic_name_is_valid(t->name) ||
        topic_name_is_internal(t->name))
        return false;
    return img == NULL || image_topic_by_name(img, t->name) == NULL;
}

/* 1: an admin request is on its way; 0: nothing to create. */
static int auto_create(struct metadata_op *op)
{
    struct kreq *req = op->req;
    struct create_topics_request *c = &op->create;
    if (op->all || !req->k->s->conf->auto_create_topics || !op->in.allow_auto_topic_creation)
        return 0;
    uint32_t cnt = op->in.topics.cnt < AUTO_CREATE_MAX ? op->in.topics.cnt : AUTO_CREATE_MAX;
    create_topics_request_init(c);
    for (uint32_t i = 0; i < op->in.topics.cnt && c->topics.cnt < cnt; i++) {
        const struct metadata_request_topic *t = &op->in.topics.v[i];
        if (!creates(op, t))
            continue;
        if (op->wanted == NULL) {
            op->wanted = arena_alloc(&req->arena, sizeof(*op->wanted));
            c->topics.v = arena_array(&req->arena, cnt, sizeof(*c->topics.v));
            if (op->wanted == NULL || c->topics.v == NULL)
                return -E_LIMIT;
        }
        *wanted_slot(op, t->name) = (uint16_t)(c->topics.cnt + 1);
        struct create_topics_request_topic *n = &c->topics.v[c->topics.cnt++];
        create_topics_request_topic_init(n);
        n->name = t->name;
        n->num_partitions = -1;
        n->replication_factor = -1;
    }
    if (c->topics.cnt == 0)
        return 0;
    c->timeout_ms = AUTO_CREATE_TIMEOUT_MS;
    size_t len = create_topics_request_size(c, CREATE_TOPICS_VERSION);
    uint8_t *body = arena_alloc(&req->arena, len);
    if (body == NULL)
        return -E_LIMIT;
    struct wire_writer w;
    wire_writer_init(&w, body, len);
    create_topics_request_write(&w, CREATE_TOPICS_VERSION, c);
    op->admin.req = req;
    op->admin.done = on_created;
    op->admin.m.api_key = API_KEY_CREATE_TOPICS;
    op->admin.m.api_version = CREATE_TOPICS_VERSION;
    op->admin.m.listener_idx = req->conn->listener_idx;
    op->admin.m.fail_fast = true;
    op->admin.m.timeout_ms = AUTO_CREATE_TIMEOUT_MS;
    op->admin.m.client_id = req->hdr.client_id;
    op->admin.m.body = span_of(body, (uint32_t)len);
    admin_send(&op->admin);
    return 1;
}

static bool is_same(const struct metadata_request_topic *a, const struct metadata_request_topic *b)
{
    return uuid_eq(&a->topic_id, &b->topic_id) && span_is_null(a->name) == span_is_null(b->name) &&
           span_eq(a->name, b->name);
}

/* Leaves each topic once, in the order of the request. */
static int drop_repeats(struct metadata_op *op)
{
    struct kreq *req = op->req;
    uint32_t cnt = op->in.topics.cnt, cap = 4, kept = 0;
    struct metadata_request_topic *v = op->in.topics.v;
    if (cnt < 2)
        return 0;
    while (cap < 2 * cnt)
        cap *= 2;
    kreq_arena_allow(req, (uint64_t)cap * sizeof(uint32_t));
    uint32_t *slots = arena_array(&req->arena, cap, sizeof(*slots)); /* zeroed: free */
    if (slots == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt; i++) {
        uint64_t h =
            hash_mix64(hash_span(v[i].name) ^ hash_bytes(&v[i].topic_id, sizeof(v[i].topic_id)));
        uint32_t at = (uint32_t)h & (cap - 1);
        while (slots[at] != 0 && !is_same(&v[slots[at] - 1], &v[i]))
            at = (at + 1) & (cap - 1);
        if (slots[at] != 0)
            continue;
        v[kept] = v[i];
        slots[at] = ++kept;
    }
    op->in.topics.cnt = kept;
    return 0;
}

int metadata_start(struct kreq *req, struct wire_reader *r)
{
    struct metadata_op *op = arena_alloc(&req->arena, sizeof(*op));
    int32_t *self = arena_alloc(&req->arena, sizeof(*self));
    if (op == NULL || self == NULL)
        return -E_LIMIT;
    *self = req->k->s->conf->node_id;
    op->self = (struct wire_i32s){.v = self, .cnt = 1};
    op->none = (struct wire_i32s){.v = self, .cnt = 0};
    op->req = req;
    int rc = metadata_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    op->all = is_all(op);
    rc = drop_repeats(op);
    if (rc == 0)
        rc = auto_create(op);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return answer(op);
}
