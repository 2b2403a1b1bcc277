/* write_txn_markers.c - WriteTxnMarkers: markers that an administrator (`kafka-transactions abort`)
 * or another broker wants in partitions, whatever the coordinator knows. */
#include "dataplane/kafka/handlers/txn_call.h"

struct part {
    struct marker_msg mm;
    struct markers_op *op;
    struct write_txn_markers_response_partition *out;
};
struct markers_op {
    struct kreq *req;
    struct write_txn_markers_request in;
    struct write_txn_markers_response resp;
    struct part *parts;
    uint8_t *batches; /* MARKER_BATCH_MAX bytes per marker */
    uint32_t pending;
};

static void finish(struct markers_op *op)
{
    if (op->req->conn != NULL)
        KREQ_RESPOND(op->req, write_txn_markers_response, &op->resp);
}

static void on_done(struct shard *s, struct marker_msg *mm)
{
    (void)s;
    struct part *p = container_of(mm, struct part, mm);
    struct markers_op *op = p->op;
    struct kreq *req = op->req;
    p->out->error_code = (int16_t)err_kafka_code(mm->m.a.msg.rc);
    if (--op->pending == 0)
        finish(op);
    kreq_put(req);
}

static int markers_alloc(struct markers_op *op)
{
    struct kreq *req = op->req;
    uint64_t parts = 0, topics = 0;
    uint32_t markers = op->in.markers.cnt;
    for (uint32_t i = 0; i < markers; i++) {
        topics += op->in.markers.v[i].topics.cnt;
        for (uint32_t k = 0; k < op->in.markers.v[i].topics.cnt; k++)
            parts += op->in.markers.v[i].topics.v[k].partition_indexes.cnt;
    }
    kreq_arena_allow(req, parts * (sizeof(struct part) + 64) + topics * 256u +
                              markers * (uint64_t)(MARKER_BATCH_MAX + 256) + 65536);
    op->parts = arena_array(&req->arena, parts, sizeof(*op->parts));
    op->batches = arena_array(&req->arena, markers, MARKER_BATCH_MAX);
    op->resp.markers.v = arena_array(&req->arena, markers, sizeof(*op->resp.markers.v));
    if (op->parts == NULL || op->batches == NULL || op->resp.markers.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < markers; i++) {
        const struct write_txn_markers_request_marker *m = &op->in.markers.v[i];
        struct write_txn_markers_response_marker *o = &op->resp.markers.v[op->resp.markers.cnt++];
        write_txn_markers_response_marker_init(o);
        o->producer_id = m->producer_id;
        o->topics.v = arena_array(&req->arena, m->topics.cnt, sizeof(*o->topics.v));
        if (o->topics.v == NULL)
            return -E_LIMIT;
        for (uint32_t k = 0; k < m->topics.cnt; k++) {
            struct write_txn_markers_response_topic *t = &o->topics.v[o->topics.cnt++];
            uint32_t cnt = m->topics.v[k].partition_indexes.cnt;
            write_txn_markers_response_topic_init(t);
            t->name = m->topics.v[k].name;
            t->partitions.cnt = cnt;
            t->partitions.v = arena_array(&req->arena, cnt, sizeof(*t->partitions.v));
            if (t->partitions.v == NULL)
                return -E_LIMIT;
        }
    }
    return 0;
}

static void marker_ask(struct markers_op *op, uint32_t idx, struct part **next)
{
    struct shard *s = op->req->k->s;
    const struct write_txn_markers_request_marker *m = &op->in.markers.v[idx];
    struct batch_marker marker = {.commit = m->transaction_result,
                                  .coordinator_epoch = m->coordinator_epoch,
                                  .producer_id = m->producer_id,
                                  .producer_epoch = m->producer_epoch,
                                  .timestamp_ms = s->wall_ms};
    uint8_t *to = op->batches + (size_t)idx * MARKER_BATCH_MAX;
    struct span batch = span_of(to, marker_write(&marker, to));
    for (uint32_t i = 0; i < m->topics.cnt; i++) {
        const struct write_txn_markers_request_topic *in = &m->topics.v[i];
        const struct meta_topic *t =
            s->image != NULL ? image_topic_by_name(s->image, in->name) : NULL;
        for (uint32_t k = 0; k < in->partition_indexes.cnt; k++) {
            struct part *p = (*next)++;
            p->op = op;
            p->out = &op->resp.markers.v[idx].topics.v[i].partitions.v[k];
            p->mm.done = on_done;
            write_txn_markers_response_partition_init(p->out);
            p->out->partition_index = in->partition_indexes.v[k];
            bool sane = m->producer_id >= 0 && m->producer_epoch >= 0;
            kreq_hold(op->req);
            p->out->error_code = sane ? marker_send(s, &p->mm, t, p->out->partition_index, &marker,
                                                    batch, m->transaction_version >= 2)
                                      : TE_INVALID_REQUEST;
            if (p->out->error_code == 0)
                op->pending++;
            else
                kreq_put(op->req);
        }
    }
}

int write_txn_markers_start(struct kreq *req, struct wire_reader *r)
{
    struct markers_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    op->req = req;
    int rc = write_txn_markers_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    write_txn_markers_response_init(&op->resp);
    rc = markers_alloc(op);
    if (rc < 0)
        return rc;
    struct part *next = op->parts;
    op->pending = 1; /* ours, until all are sent */
    for (uint32_t i = 0; i < op->in.markers.cnt; i++)
        marker_ask(op, i, &next);
    if (--op->pending == 0)
        finish(op);
    return 0;
}
