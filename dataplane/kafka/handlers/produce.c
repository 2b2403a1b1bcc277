/* produce.c - Produce: check every batch here, append it at its owner, answer when all are home.
 *
 *     decode -> check (this shard) -> MSG_PRODUCE per partition -> replies -> answer
 *                                                `-- timeout_ms --> answer, REQUEST_TIMED_OUT for
 *                                                                   what is still under way
 *
 * After a timeout the data stays appended and the request's memory stays until the last reply, as
 * the owner may still read the batch. Appends of one connection to one partition keep their order:
 * requests start in order and messages to an owner stay in order.
 * A topic whose compression.type is not `producer` gets its batches in that codec: compressed anew
 * here, on the shard of the connection, into memory of the response budget that is held until the
 * owner has answered; without such memory the partition fails with a retriable error.
 * Transactional batches go through the coordinator first: what speaks KIP-890 (version 12) makes
 * their partitions join the transaction, for others they must have joined. Requests of one
 * transactional id leave the coordinator in the order they came to it.
 * Checks, in Kafka's order (gotchas 4.1): topic id or name, internal topic, the batch itself, acks.
 */
#include "dataplane/kafka/handlers/txn_call.h"
#include "dataplane/kafka/owner.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include <stdio.h>

enum {
    ERR_UNKNOWN_TOPIC = 3,
    ERR_NOT_LEADER = 6,
    ERR_REQUEST_TIMED_OUT = 7,
    ERR_INVALID_TOPIC = 17,
    ERR_INVALID_REQUIRED_ACKS = 21,
    ERR_INVALID_RECORD = 87,
    ERR_UNKNOWN_TOPIC_ID = 100,
};
enum { VERSION_ABORTABLE = 11, VERSION_TXN_V2 = 12 };
#define CODEC_AS_PRODUCED (-1)
#define TIMESTAMP_AFTER_MAX_MS 3600000 /* Kafka's default of message.timestamp.after.max.ms */

struct produce_part {
    struct produce_msg m;
    struct produce_op *op;
    struct produce_response_partition *out;
    struct kbuf *recoded; /* the batch in the topic's codec; NULL: as it came */
    uint16_t owner;
    bool pending;       /* will be answered: on its way, or waits for the coordinator */
    bool transactional; /* to be sent when the coordinator agrees */
    struct span topic;  /* transactional: its name */
    int64_t producer_id;
    int16_t producer_epoch;
};
struct produce_op {
    struct kreq *req;
    struct produce_request in;
    struct produce_response resp;
    struct produce_part *parts;
    uint32_t part_cnt, pending;
    bool answered;
    struct timer timer;
    struct txn_call txn;
};

/* What a topic asks of a batch; read once per topic of a request. */
struct topic_rules {
    const struct meta_topic *topic; /* NULL: code says why not */
    int16_t code;
    struct batch_check_opts check;
    int codec;       /* enum codec_id that batches are kept in, or CODEC_AS_PRODUCED */
    int level;       /* 0: the codec's default */
    bool flush_each; /* whatever the acks, the answer waits for the flush */
};

static void fail_partition(struct produce_response_partition *out, int16_t code, const char *why)
{
    out->error_code = code;
    out->base_offset = -1;
    out->log_append_time_ms = -1;
    if (why != NULL)
        out->error_message = span_str(why);
}

static void produce_answer(struct produce_op *op)
{
    struct kreq *req = op->req;
    struct kafka *k = req->k;
    timer_cancel(k->s->timers, &op->timer);
    op->answered = true;
    bool failed = false;
    for (uint32_t i = 0; i < op->resp.responses.cnt; i++) {
        const struct produce_response_topic *t = &op->resp.responses.v[i];
        for (uint32_t j = 0; j < t->partition_responses.cnt; j++)
            failed |= t->partition_responses.v[j].error_code != 0;
    }
    if (op->in.acks == 0) /* no answer; closing is the only way to tell of an error */
        kreq_done_silent(req, failed);
    else
        KREQ_RESPOND(req, produce_response, &op->resp);
}

static void on_timeout(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct produce_op *op = container_of(t, struct produce_op, timer);
    for (uint32_t i = 0; i < op->part_cnt; i++)
        if (op->parts[i].pending)
            fail_partition(op->parts[i].out, ERR_REQUEST_TIMED_OUT,
                           "not durable within the request's timeout; it may still become so");
    produce_answer(op);
}

void produce_cancel(struct kreq *req)
{
    struct produce_op *op = req->op;
    if (op == NULL)
        return;
    timer_cancel(req->k->s->timers, &op->timer);
    op->answered = true;
}

void kafka_on_produce_reply(struct shard *s, struct msg *msg)
{
    struct produce_part *p = container_of(msg, struct produce_part, m.a.msg);
    struct produce_op *op = p->op;
    struct kreq *req = op->req;
    p->pending = false;
    kbuf_put(p->recoded);
    p->recoded = NULL;
    if (msg->rc < 0)
        s->kafka->st.produce_errors++;
    if (!op->answered) {
        if (msg->rc < 0) {
            fail_partition(p->out, (int16_t)err_kafka_code(msg->rc), err_text(msg->rc));
        } else {
            p->out->base_offset = p->m.a.base_offset;
            p->out->log_append_time_ms = p->m.a.log_append_time_ms;
            p->out->log_start_offset = p->m.a.log_start_offset;
        }
        if (--op->pending == 0)
            produce_answer(op);
    }
    kreq_put(req);
}

/* compression.type, as sluiced has validated it. */
static void codec_read(const struct meta_image *img, const struct meta_topic *t,
                       struct topic_rules *rules)
{
    const char *type = config_of_topic(img, t, "compression.type", NULL);
    char key[40];
    rules->codec = CODEC_AS_PRODUCED;
    if (type == NULL || strcmp(type, "producer") == 0)
        return;
    if (strcmp(type, "uncompressed") == 0) {
        rules->codec = CODEC_NONE;
        return;
    }
    int codec = codec_by_name(type);
    if (codec < 0)
        return;
    rules->codec = codec;
    snprintf(key, sizeof(key), "compression.%s.level", type);
    rules->level = (int)topic_config_int(img, t, key, 0);
}

static void rules_read(struct kreq *req, const struct produce_request_topic *in,
                       struct topic_rules *rules)
{
    const struct shard *s = req->k->s;
    bool by_id = kreq_version(req) >= 13;
    *rules = (struct topic_rules){.code = by_id ? ERR_UNKNOWN_TOPIC_ID : ERR_UNKNOWN_TOPIC};
    if (s->image == NULL)
        return;
    const struct meta_topic *t = by_id ? image_topic_by_id(s->image, &in->topic_id)
                                       : image_topic_by_name(s->image, in->name);
    if (t == NULL)
        return;
    if (topic_is_internal(t)) {
        /* Kafka lets its own admin client write its internal topics; ours are nobody's. */
        bool admin = span_eq_str(req->hdr.client_id, "__admin_client");
        if (!admin || strncmp(t->name, "__", 2) != 0) {
            rules->code = ERR_INVALID_TOPIC;
            return;
        }
    }
    const struct meta_image *img = s->image;
    const char *cleanup = config_of_topic(img, t, "cleanup.policy", NULL);
    int64_t max_bytes = topic_config_int(img, t, "max.message.bytes", s->conf->message_max_bytes);
    int64_t before = topic_config_int(img, t, "message.timestamp.before.max.ms", INT64_MAX);
    int64_t after =
        topic_config_int(img, t, "message.timestamp.after.max.ms", TIMESTAMP_AFTER_MAX_MS);
    bool append_time = topic_config_is(img, t, "message.timestamp.type", "LogAppendTime", false);
    struct batch_check_opts *c = &rules->check;
    c->max_bytes = (uint32_t)max_bytes;
    c->key_required = cleanup != NULL && strstr(cleanup, "compact") != NULL;
    c->allow_zstd = kreq_version(req) >= 7;
    c->timestamp_min = append_time || before >= s->wall_ms ? INT64_MIN : s->wall_ms - before;
    c->timestamp_max =
        append_time || after > INT64_MAX - s->wall_ms ? INT64_MAX : s->wall_ms + after;
    /* Whoever asks for a flush more often than we flush anyway gets one before every answer. */
    rules->flush_each = topic_config_int(img, t, "flush.messages", INT64_MAX) != INT64_MAX ||
                        topic_config_int(img, t, "flush.ms", INT64_MAX) < s->conf->flush_max_ms;
    codec_read(img, t, rules);
    rules->topic = t;
    rules->code = 0;
}

static void fail_batch(struct kreq *req, struct produce_response_partition *out, int rc,
                       const struct batch_check_result *check)
{
    fail_partition(out, (int16_t)err_kafka_code(rc),
                   check->why != NULL ? check->why : err_text(rc));
    if (check->bad_record < 0)
        return;
    struct produce_response_record_error *e = arena_alloc(&req->arena, sizeof(*e));
    if (e == NULL) /* the code and the message still say it */
        return;
    produce_response_record_error_init(e);
    e->batch_index = check->bad_record;
    e->batch_index_error_message = out->error_message;
    out->record_errors.v = e;
    out->record_errors.cnt = 1;
}

/* The batch in the codec of its topic: 0, or why that cannot be had. p->m.a.batch is what is to be
 * appended. */
static int batch_to_topic_codec(struct kafka *k, const struct topic_rules *rules,
                                const struct batch_check_result *check, struct produce_part *p)
{
    int codec = check->info.attributes & BATCH_ATTR_CODEC;
    if (rules->codec == CODEC_AS_PRODUCED || rules->codec == codec)
        return 0;
    size_t cap = batch_recode_bound((enum codec_id)rules->codec, check->records.len);
    if (rules->codec == CODEC_NONE && cap > rules->check.max_bytes)
        return -E_BATCH_TOO_LARGE;
    if (cap > INT32_MAX || !budget_try(&k->responses, cap))
        return -E_BUSY;
    struct kbuf *kb = kbuf_create(k->s->id, &k->responses, (uint32_t)cap, cap);
    if (kb == NULL) {
        budget_release(&k->responses, cap);
        return -E_BUSY;
    }
    int64_t len = batch_recode(k->s->codecs, p->m.a.batch.p, check->records,
                               (enum codec_id)rules->codec, rules->level, kb->data, cap);
    if (len < 0 || len > rules->check.max_bytes) {
        kbuf_put(kb);
        return len < 0 ? (int)len : -E_BATCH_TOO_LARGE;
    }
    p->recoded = kbuf_shrink(kb, (uint32_t)len);
    p->m.a.batch = span_of(p->recoded->data, (uint32_t)len);
    return 0;
}

/* The topic's name for as long as the request lives; the image may be another one by then. */
static struct span name_keep(struct kreq *req, const struct meta_topic *t)
{
    uint32_t len = (uint32_t)strlen(t->name);
    kreq_arena_allow(req, len + 16u);
    uint8_t *p = arena_alloc(&req->arena, len);
    if (p == NULL)
        return SPAN_NULL;
    memcpy(p, t->name, len);
    return span_of(p, len);
}

/* Check one partition's records and fill its message. True: to be sent. */
static bool check_partition(struct produce_op *op, const struct topic_rules *rules,
                            const struct produce_request_partition *in, struct produce_part *p)
{
    struct kreq *req = op->req;
    struct kafka *k = req->k;
    struct produce_response_partition *out = p->out;
    if (rules->topic == NULL) {
        fail_partition(out, rules->code, NULL);
        return false;
    }
    if (in->index < 0 || (uint32_t)in->index >= rules->topic->partition_cnt) {
        fail_partition(out, ERR_UNKNOWN_TOPIC, NULL);
        return false;
    }
    if (in->records.p == NULL || in->records.len == 0) {
        fail_partition(out, ERR_INVALID_RECORD, "a partition must carry exactly one record batch");
        return false;
    }
    struct batch_check_result check = {.bad_record = -1};
    int rc = batch_check_produce(k->s->codecs, in->records, &rules->check, k->scratch,
                                 KAFKA_INFLATE_MAX, &check);
    if (rc == -E_LIMIT) { /* clients split a batch that is too large */
        rc = -E_BATCH_TOO_LARGE;
        check.why = "the batch decompresses to more than the broker takes";
    }
    if (rc < 0) {
        k->st.produce_errors++;
        fail_batch(req, out, rc, &check);
        return false;
    }
    if (op->in.acks < -1 || op->in.acks > 1) {
        fail_partition(out, ERR_INVALID_REQUIRED_ACKS, NULL);
        return false;
    }
    p->m.a.topic_id = rules->topic->id;
    p->m.a.partition = in->index;
    p->m.a.origin = PLOG_CLIENT;
    p->m.a.wait_durable = op->in.acks == -1 || rules->flush_each;
    p->m.a.batch = in->records;
    rc = batch_to_topic_codec(k, rules, &check, p);
    if (rc < 0) {
        k->st.produce_errors++;
        fail_batch(req, out, rc, &(struct batch_check_result){.bad_record = -1});
        return false;
    }
    p->m.a.max_timestamp_ms = check.max_timestamp;
    p->transactional = (check.info.attributes & BATCH_ATTR_TRANSACTIONAL) != 0;
    if (p->transactional)
        p->topic = name_keep(req, rules->topic);
    p->producer_id = check.info.producer_id;
    p->producer_epoch = check.info.producer_epoch;
    k->st.produce_batches++;
    k->st.produce_bytes += in->records.len;
    return true;
}

/* The response's arrays and the parts, one of each per partition asked. */
static int produce_alloc(struct produce_op *op)
{
    struct kreq *req = op->req;
    uint32_t topics = op->in.topic_data.cnt;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < topics; i++)
        parts += op->in.topic_data.v[i].partition_data.cnt;
    kreq_arena_allow(req, parts * (sizeof(struct produce_part) +
                                   sizeof(struct produce_response_partition) + 64) +
                              topics * (sizeof(struct produce_response_topic) + 64));
    op->parts = arena_array(&req->arena, parts, sizeof(*op->parts));
    op->resp.responses.v = arena_array(&req->arena, topics, sizeof(*op->resp.responses.v));
    if (op->parts == NULL || op->resp.responses.v == NULL)
        return -E_LIMIT;
    op->resp.responses.cnt = topics;
    for (uint32_t i = 0; i < topics; i++) {
        const struct produce_request_topic *in = &op->in.topic_data.v[i];
        struct produce_response_topic *out = &op->resp.responses.v[i];
        produce_response_topic_init(out);
        out->name = in->name;
        out->topic_id = in->topic_id;
        uint32_t cnt = in->partition_data.cnt;
        out->partition_responses.cnt = cnt;
        out->partition_responses.v =
            arena_array(&req->arena, cnt, sizeof(*out->partition_responses.v));
        if (out->partition_responses.v == NULL)
            return -E_LIMIT;
        for (uint32_t j = 0; j < cnt; j++) {
            struct produce_part *p = &op->parts[op->part_cnt++];
            p->op = op;
            p->out = &out->partition_responses.v[j];
            produce_response_partition_init(p->out);
            p->out->index = in->partition_data.v[j].index;
        }
    }
    return 0;
}

/* A batch that is not sent. */
static void part_give_up(struct produce_part *p, int16_t code, const char *why)
{
    fail_partition(p->out, code, why);
    kbuf_put(p->recoded);
    p->recoded = NULL;
    p->pending = false;
}

/* The coordinator's word as clients of Produce know it (gotchas 12). */
static int16_t txn_produce_code(const struct kreq *req, int16_t error)
{
    switch (error) {
    case TE_LOADING:
    case TE_NOT_AVAILABLE:
    case TE_NOT_COORDINATOR:
        return TE_NOT_ENOUGH_REPLICAS;
    case TE_CONCURRENT:
        return kreq_version(req) >= VERSION_TXN_V2 ? error : TE_NOT_ENOUGH_REPLICAS;
    case TE_PRODUCER_FENCED:
        return TE_INVALID_PRODUCER_EPOCH;
    default:
        return txn_error_of(error, kreq_version(req), 0, VERSION_ABORTABLE);
    }
}

static const char *txn_error_text(int16_t code)
{
    switch (code) {
    case TE_NOT_ENOUGH_REPLICAS:
        return "the transaction coordinator is not available now";
    case TE_INVALID_PRODUCER_EPOCH:
        return "producer epoch is not that of the transactional id";
    case TE_INVALID_TXN_STATE:
    case TE_ABORTABLE:
        return "the partition is not in an open transaction of this producer";
    case TE_INVALID_PID_MAPPING:
        return "producer id is not that of the transactional id, or differs between batches";
    case TE_CONCURRENT:
        return "the transaction before is still being completed";
    case TE_AUTHORIZATION_FAILED:
        return "transactional batch in a request without transactional id";
    default:
        return NULL;
    }
}

/* Send the transactional batches, or fail them. */
static void txn_go_on(struct produce_op *op, int16_t error)
{
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        struct produce_part *p = &op->parts[i];
        if (!p->transactional || !p->pending)
            continue;
        if (error == 0 && !op->answered) {
            p->m.a.txn_verified = true;
            p->m.a.txn_v2 = kreq_version(op->req) >= VERSION_TXN_V2;
            kreq_send(op->req, p->owner, &p->m.a.msg, MSG_PRODUCE);
            continue;
        }
        part_give_up(p, error, txn_error_text(error));
        op->pending--;
    }
}

static void on_txn_answer(struct txn_call *call)
{
    struct produce_op *op = container_of(call, struct produce_op, txn);
    arena_fini(&call->arena);
    txn_go_on(op, txn_produce_code(op->req, call->error));
    if (op->pending == 0 && !op->answered)
        produce_answer(op);
}

/* `cnt` batches wait for the coordinator; op->pending counts them already. */
static void txn_begin(struct produce_op *op, uint32_t cnt)
{
    struct kreq *req = op->req;
    struct txn_call *call = &op->txn;
    int16_t error = span_is_null(op->in.transactional_id) ? TE_AUTHORIZATION_FAILED : 0;
    const struct produce_part *first = NULL;
    kreq_arena_allow(req, cnt * (sizeof(*call->asked.v) + 16));
    call->asked.v = arena_array(&req->arena, cnt, sizeof(*call->asked.v));
    for (uint32_t i = 0; i < op->part_cnt && call->asked.v != NULL; i++) {
        struct produce_part *p = &op->parts[i];
        if (!p->transactional || !p->pending)
            continue;
        if (first == NULL)
            first = p;
        if (p->producer_id != first->producer_id && error == 0)
            error = TE_INVALID_PID_MAPPING;
        if (span_is_null(p->topic) && error == 0)
            error = TE_NOT_ENOUGH_REPLICAS;
        call->asked.v[call->asked.cnt++] =
            (struct txn_topic){.name = p->topic, .v = &p->m.a.partition, .cnt = 1};
        call->asked.part_cnt++;
    }
    if (call->asked.v == NULL)
        error = TE_NOT_ENOUGH_REPLICAS;
    if (error == 0) {
        call->op = kreq_version(req) >= VERSION_TXN_V2 ? TXN_ADD : TXN_VERIFY;
        call->v2 = kreq_version(req) >= VERSION_TXN_V2;
        call->waits = true;
        call->producer_id = first->producer_id;
        call->epoch = first->producer_epoch;
        call->done = on_txn_answer;
        error = txn_produce_code(req, txn_call_send(call, req, op->in.transactional_id));
    }
    if (error != 0)
        txn_go_on(op, error);
}

int produce_start(struct kreq *req, struct wire_reader *r)
{
    struct produce_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    op->req = req;
    produce_response_init(&op->resp);
    int rc = produce_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    rc = produce_alloc(op);
    if (rc < 0)
        return rc;
    req->op = op;
    op->resp.throttle_time_ms = (int32_t)kreq_throttle(req, QUOTA_PRODUCE, req->frame_len);
    op->pending = 1; /* ours, until all are sent */
    uint32_t idx = 0, transactional = 0;
    for (uint32_t i = 0; i < op->in.topic_data.cnt; i++) {
        const struct produce_request_topic *t = &op->in.topic_data.v[i];
        struct topic_rules rules;
        rules_read(req, t, &rules);
        for (uint32_t j = 0; j < t->partition_data.cnt; j++) {
            struct produce_part *p = &op->parts[idx++];
            if (!check_partition(op, &rules, &t->partition_data.v[j], p))
                continue;
            p->owner = partition_owner(req->k->s, rules.topic, p->m.a.partition);
            if (p->owner == OWNER_NONE) {
                part_give_up(p, ERR_NOT_LEADER, NULL);
                continue;
            }
            op->pending++;
            p->pending = true;
            if (p->transactional)
                transactional++;
            else
                kreq_send(req, p->owner, &p->m.a.msg, MSG_PRODUCE);
        }
    }
    if (transactional > 0)
        txn_begin(op, transactional);
    if (--op->pending == 0) {
        produce_answer(op);
    } else if (op->in.acks != 0) {
        uint64_t ms = op->in.timeout_ms > 0 ? (uint64_t)op->in.timeout_ms : 0;
        timer_arm(req->k->s->timers, &op->timer, req->k->s->now_ns + ms * UINT64_C(1000000),
                  on_timeout);
    }
    return 0;
}
