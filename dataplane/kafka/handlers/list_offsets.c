/* list_offsets.c - ListOffsets: one message per partition to its owner, answered when all are home.
 * Special timestamps a version does not know yet are UNSUPPORTED_VERSION for that partition: the
 * Java client falls back on that. */
#include "dataplane/kafka/handlers.h"
#include "dataplane/kafka/owner.h"

enum {
    TS_LATEST = -1,
    TS_EARLIEST = -2,
    TS_MAX_TIMESTAMP = -3,
    TS_EARLIEST_LOCAL = -4,
    TS_LATEST_TIERED = -5,
    TS_EARLIEST_PENDING_UPLOAD = -6,
};
enum {
    ERR_UNKNOWN_TOPIC = 3,
    ERR_NOT_LEADER = 6,
    ERR_UNSUPPORTED_VERSION = 35,
    ERR_INVALID_REQUEST = 42
};

struct list_part {
    struct list_offsets_msg m;
    struct list_op *op;
    struct list_offsets_response_partition *out;
};
struct list_op {
    struct kreq *req;
    struct list_offsets_request in;
    struct list_offsets_response resp;
    uint32_t pending;
};

static bool timestamp_is_served(int64_t ts, int16_t version)
{
    switch (ts) {
    case TS_LATEST:
    case TS_EARLIEST:
        return true;
    case TS_MAX_TIMESTAMP:
        return version >= 7;
    case TS_EARLIEST_LOCAL:
        return version >= 8;
    case TS_LATEST_TIERED:
        return version >= 9;
    case TS_EARLIEST_PENDING_UPLOAD:
        return version >= 11;
    default:
        return ts >= 0;
    }
}

/* One bit per partition of a topic: partitions asked twice are refused, as Kafka does. */
static bool test_and_set(uint8_t *bits, int32_t p)
{
    bool was = (bits[p / 8] >> (p % 8)) & 1;
    bits[p / 8] |= (uint8_t)(1u << (p % 8));
    return was;
}

static void respond(struct list_op *op)
{
    KREQ_RESPOND(op->req, list_offsets_response, &op->resp);
}

void kafka_on_list_offsets_reply(struct shard *s, struct msg *msg)
{
    (void)s;
    struct list_part *p = container_of(msg, struct list_part, m.q.msg);
    struct list_op *op = p->op;
    struct kreq *req = op->req;
    p->out->error_code = (int16_t)err_kafka_code(msg->rc);
    if (msg->rc == 0) {
        p->out->offset = p->m.q.offset;
        p->out->timestamp = p->m.q.ret_timestamp;
        p->out->leader_epoch = p->m.q.leader_epoch;
    }
    if (--op->pending == 0 && req->conn != NULL)
        respond(op);
    kreq_put(req);
}

static int ask_partition(struct list_op *op, const struct meta_topic *t,
                         const struct list_offsets_request_partition *in,
                         struct list_offsets_response_partition *out)
{
    struct kreq *req = op->req;
    if (t == NULL || in->partition_index < 0 || (uint32_t)in->partition_index >= t->partition_cnt) {
        out->error_code = ERR_UNKNOWN_TOPIC;
        return 0;
    }
    if (!timestamp_is_served(in->timestamp, kreq_version(req))) {
        out->error_code = ERR_UNSUPPORTED_VERSION;
        return 0;
    }
    if (in->timestamp == TS_LATEST_TIERED || in->timestamp == TS_EARLIEST_PENDING_UPLOAD)
        return 0; /* nothing is tiered: offset -1, timestamp -1 */
    uint16_t owner = partition_owner(req->k->s, t, in->partition_index);
    if (owner == OWNER_NONE) {
        out->error_code = ERR_NOT_LEADER;
        return 0;
    }
    struct list_part *p = arena_alloc(&req->arena, sizeof(*p));
    if (p == NULL)
        return -E_LIMIT;
    p->op = op;
    p->out = out;
    p->m.q.topic_id = t->id;
    p->m.q.partition = in->partition_index;
    /* without tiered storage what is local is all there is */
    p->m.q.timestamp = in->timestamp == TS_EARLIEST_LOCAL ? TS_EARLIEST : in->timestamp;
    p->m.q.isolation = op->in.isolation_level == 1 ? PLOG_READ_COMMITTED : PLOG_READ_UNCOMMITTED;
    p->m.q.current_leader_epoch = in->current_leader_epoch;
    op->pending++;
    kreq_send(req, owner, &p->m.q.msg, MSG_LIST_OFFSETS);
    return 0;
}

int list_offsets_start(struct kreq *req, struct wire_reader *r)
{
    struct list_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    op->req = req;
    int rc = list_offsets_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    list_offsets_response_init(&op->resp);
    uint32_t topics = op->in.topics.cnt;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < topics; i++)
        parts += op->in.topics.v[i].partitions.cnt;
    kreq_arena_allow(req, parts * (sizeof(struct list_part) + 64) + topics * 128u);
    op->resp.topics.v = arena_array(&req->arena, topics, sizeof(*op->resp.topics.v));
    if (op->resp.topics.v == NULL)
        return -E_LIMIT;
    op->resp.topics.cnt = topics;
    /* All memory first: once a message is out, the request must not fail. */
    for (uint32_t i = 0; i < topics; i++) {
        struct list_offsets_response_topic *t = &op->resp.topics.v[i];
        list_offsets_response_topic_init(t);
        t->name = op->in.topics.v[i].name;
        t->partitions.cnt = op->in.topics.v[i].partitions.cnt;
        t->partitions.v = arena_array(&req->arena, t->partitions.cnt, sizeof(*t->partitions.v));
        if (t->partitions.v == NULL)
            return -E_LIMIT;
    }
    op->pending = 1; /* ours, until all are asked */
    for (uint32_t i = 0; i < topics; i++) {
        const struct list_offsets_request_topic *in = &op->in.topics.v[i];
        const struct meta_topic *t =
            req->k->s->image != NULL ? image_topic_by_name(req->k->s->image, in->name) : NULL;
        uint32_t known = t != NULL ? t->partition_cnt : 0;
        kreq_arena_allow(req, known / 8 + 64);
        uint8_t *seen = arena_alloc(&req->arena, known / 8 + 1);
        for (uint32_t j = 0; j < in->partitions.cnt; j++) {
            struct list_offsets_response_partition *out = &op->resp.topics.v[i].partitions.v[j];
            list_offsets_response_partition_init(out);
            out->partition_index = in->partitions.v[j].partition_index;
            bool exists = out->partition_index >= 0 && (uint32_t)out->partition_index < known;
            if (seen == NULL)
                out->error_code = -1;
            else if (exists && test_and_set(seen, out->partition_index))
                out->error_code = ERR_INVALID_REQUEST;
            else if (ask_partition(op, t, &in->partitions.v[j], out) < 0)
                out->error_code = -1;
        }
    }
    if (--op->pending == 0)
        respond(op);
    return 0;
}
