/* group_many.c - the APIs about several groups: DescribeGroups, ConsumerGroupDescribe, ListGroups,
 * DeleteGroups, OffsetFetch. One call per group (ListGroups: per shard), answered when all are
 * home. */
#include "dataplane/kafka/handlers/group_call.h"
#include "dataplane/kafka/handlers/many.h"

struct many_op {
    struct many m;
    struct group_call *calls; /* m.cnt */
    union {
        struct describe_groups_request describe;
        struct consumer_group_describe_request consumer_describe;
        struct list_groups_request list;
        struct delete_groups_request delete;
        struct offset_fetch_request fetch;
    } in;
    struct offset_fetch_request_group one; /* OffsetFetch up to version 7 */
};

static struct many_op *op_of(struct many *m)
{
    return container_of(m, struct many_op, m);
}

static void release(struct many *m)
{
    for (uint32_t i = 0; i < m->cnt; i++)
        arena_fini(&op_of(m)->calls[i].arena);
}

static void on_answer(struct group_call *call)
{
    struct many_op *op = call->req->op;
    many_home(&op->m, call->arena.total);
}

static struct many_op *op_new(struct kreq *req, void (*respond)(struct many *m))
{
    struct many_op *op = arena_alloc(&req->arena, sizeof(*op));
    req->op = op;
    if (op != NULL)
        op->m = (struct many){.respond = respond, .release = release};
    return op;
}

/* Room for `cnt` calls, and they are made. */
static int start(struct kreq *req, struct many_op *op, uint32_t cnt, size_t each,
                 bool (*ask)(struct many *m, uint32_t i, bool no_room))
{
    kreq_arena_allow(req, cnt * (sizeof(*op->calls) + each) + 65536);
    op->calls = arena_array(&req->arena, cnt, sizeof(*op->calls));
    if (op->calls == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt; i++)
        op->calls[i].done = on_answer;
    op->m.ask = ask;
    many_start(&op->m, req, cnt);
    return 0;
}

static bool ask(struct many *m, uint32_t i, bool no_room, struct span group, const void *in)
{
    struct group_call *call = &op_of(m)->calls[i];
    call->error = no_room ? KE_UNKNOWN : group_call_send(call, m->req, group, in);
    return call->error == 0;
}

/* ------------------------------------------------------------------- DescribeGroups */

static void describe_respond(struct many *m)
{
    const struct many_op *op = op_of(m);
    MANY_RESPOND(op, describe_groups_response, groups, describe_groups_response_group, describe,
                 group_id, op->in.describe.groups.v[i]);
}

static bool describe_ask(struct many *m, uint32_t i, bool no_room)
{
    struct many_op *op = op_of(m);
    op->calls[i].read_all = op->in.describe.include_authorized_operations;
    return ask(m, i, no_room, op->in.describe.groups.v[i], NULL);
}

int describe_groups_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, describe_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = describe_groups_request_read(r, kreq_version(req), &req->arena, &op->in.describe);
    return rc < 0 ? rc
                  : start(req, op, op->in.describe.groups.cnt,
                          sizeof(struct describe_groups_response_group), describe_ask);
}

/* ------------------------------------------------------------------- ConsumerGroupDescribe */

static void consumer_describe_respond(struct many *m)
{
    const struct many_op *op = op_of(m);
    MANY_RESPOND(op, consumer_group_describe_response, groups,
                 consumer_group_describe_response_group, consumer_describe, group_id,
                 op->in.consumer_describe.group_ids.v[i]);
}

static bool consumer_describe_ask(struct many *m, uint32_t i, bool no_room)
{
    struct many_op *op = op_of(m);
    op->calls[i].read_all = op->in.consumer_describe.include_authorized_operations;
    return ask(m, i, no_room, op->in.consumer_describe.group_ids.v[i], NULL);
}

int consumer_group_describe_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, consumer_describe_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = consumer_group_describe_request_read(r, kreq_version(req), &req->arena,
                                                  &op->in.consumer_describe);
    return rc < 0 ? rc
                  : start(req, op, op->in.consumer_describe.group_ids.cnt,
                          sizeof(struct consumer_group_describe_response_group),
                          consumer_describe_ask);
}

/* ------------------------------------------------------------------- DeleteGroups */

static void delete_respond(struct many *m)
{
    struct many_op *op = op_of(m);
    struct delete_groups_response out;
    delete_groups_response_init(&out);
    out.results.v = arena_array(&op->m.req->arena, op->m.cnt, sizeof(*out.results.v));
    if (out.results.v == NULL) {
        kreq_fail(op->m.req);
        return;
    }
    out.results.cnt = op->m.cnt;
    for (uint32_t i = 0; i < op->m.cnt; i++) {
        delete_groups_response_result_init(&out.results.v[i]);
        out.results.v[i].group_id = op->in.delete.groups_names.v[i];
        out.results.v[i].error_code = op->calls[i].error;
    }
    KREQ_RESPOND(op->m.req, delete_groups_response, &out);
}

static bool delete_ask(struct many *m, uint32_t i, bool no_room)
{
    return ask(m, i, no_room, op_of(m)->in.delete.groups_names.v[i], NULL);
}

int delete_groups_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, delete_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = delete_groups_request_read(r, kreq_version(req), &req->arena, &op->in.delete);
    return rc < 0 ? rc
                  : start(req, op, op->in.delete.groups_names.cnt,
                          sizeof(struct delete_groups_response_result), delete_ask);
}

/* ------------------------------------------------------------------- ListGroups */

static void list_respond(struct many *m)
{
    struct many_op *op = op_of(m);
    struct list_groups_response out;
    uint32_t cnt = 0;
    list_groups_response_init(&out);
    for (uint32_t i = 0; i < op->m.cnt; i++) {
        if (op->calls[i].error != 0)
            out.error_code = op->calls[i].error;
        else
            cnt += op->calls[i].out.list.groups.cnt;
    }
    if (out.error_code == 0) {
        kreq_arena_allow(op->m.req, cnt * sizeof(*out.groups.v) + 65536);
        out.groups.v = arena_array(&op->m.req->arena, cnt, sizeof(*out.groups.v));
        if (out.groups.v == NULL) {
            kreq_fail(op->m.req);
            return;
        }
        for (uint32_t i = 0; i < op->m.cnt; i++) {
            const struct list_groups_response *part = &op->calls[i].out.list;
            if (part->groups.cnt > 0)
                memcpy(out.groups.v + out.groups.cnt, part->groups.v,
                       part->groups.cnt * sizeof(*out.groups.v));
            out.groups.cnt += part->groups.cnt;
        }
    }
    KREQ_RESPOND(op->m.req, list_groups_response, &out);
}

/* Of each shard, what it may hold at most: all of it is answered. */
static bool list_ask(struct many *m, uint32_t i, bool no_room)
{
    struct many_op *op = op_of(m);
    (void)no_room;
    group_call_send_all(&op->calls[i], m->req, (uint16_t)i, &op->in.list);
    return true;
}

int list_groups_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, list_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = list_groups_request_read(r, kreq_version(req), &req->arena, &op->in.list);
    return rc < 0 ? rc : start(req, op, req->k->s->cnt, 0, list_ask);
}

/* ------------------------------------------------------------------- OffsetFetch */

/* Versions 1 to 7: one group, in the older structs. */
static void fetch_respond_one(struct many_op *op)
{
    struct kreq *req = op->m.req;
    struct group_call *call = &op->calls[0];
    struct offset_fetch_response out;
    struct offset_fetch_response_group got = call->out.fetch;
    offset_fetch_response_init(&out);
    out.error_code = call->error;
    bool in_parts = call->error != 0 && kreq_version(req) < 2; /* no field for the whole */
    if (call->error != 0) {
        offset_fetch_response_group_init(&got);
        got.topics.cnt = in_parts ? op->one.topics.cnt : 0;
    }
    uint64_t parts = 0;
    for (uint32_t i = 0; i < got.topics.cnt; i++)
        parts +=
            in_parts ? op->one.topics.v[i].partition_indexes.cnt : got.topics.v[i].partitions.cnt;
    kreq_arena_allow(req, parts * sizeof(struct offset_fetch_response_partition) +
                              got.topics.cnt * 256u + 65536);
    out.topics.v = arena_array(&req->arena, got.topics.cnt, sizeof(*out.topics.v));
    if (out.topics.v == NULL) {
        kreq_fail(req);
        return;
    }
    for (uint32_t i = 0; i < got.topics.cnt; i++) {
        struct offset_fetch_response_topic *o = &out.topics.v[out.topics.cnt++];
        offset_fetch_response_topic_init(o);
        o->name = in_parts ? op->one.topics.v[i].name : got.topics.v[i].name;
        uint32_t cnt =
            in_parts ? op->one.topics.v[i].partition_indexes.cnt : got.topics.v[i].partitions.cnt;
        o->partitions.v = arena_array(&req->arena, cnt, sizeof(*o->partitions.v));
        if (o->partitions.v == NULL) {
            kreq_fail(req);
            return;
        }
        for (uint32_t k = 0; k < cnt; k++) {
            struct offset_fetch_response_partition *p = &o->partitions.v[o->partitions.cnt++];
            offset_fetch_response_partition_init(p);
            if (in_parts) {
                p->partition_index = op->one.topics.v[i].partition_indexes.v[k];
                p->committed_offset = -1;
                p->error_code = call->error;
                continue;
            }
            const struct offset_fetch_response_group_partition *g =
                &got.topics.v[i].partitions.v[k];
            p->partition_index = g->partition_index;
            p->committed_offset = g->committed_offset;
            p->committed_leader_epoch = g->committed_leader_epoch;
            p->metadata = g->metadata;
            p->error_code = g->error_code;
        }
    }
    KREQ_RESPOND(req, offset_fetch_response, &out);
}

static void fetch_respond(struct many *m)
{
    struct many_op *op = op_of(m);
    if (kreq_version(m->req) < 8)
        fetch_respond_one(op);
    else
        MANY_RESPOND(op, offset_fetch_response, groups, offset_fetch_response_group, fetch,
                     group_id, op->in.fetch.groups.v[i].group_id);
}

static int one_from_old(struct kreq *req, struct many_op *op)
{
    const struct offset_fetch_request *in = &op->in.fetch;
    offset_fetch_request_group_init(&op->one);
    op->one.group_id = in->group_id;
    op->one.topics.null = in->topics.null;
    op->one.topics.v = arena_array(&req->arena, in->topics.cnt, sizeof(*op->one.topics.v));
    if (op->one.topics.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        struct offset_fetch_request_group_topic *t = &op->one.topics.v[op->one.topics.cnt++];
        offset_fetch_request_group_topic_init(t);
        t->name = in->topics.v[i].name;
        t->partition_indexes = in->topics.v[i].partition_indexes;
    }
    return 0;
}

static bool fetch_ask(struct many *m, uint32_t i, bool no_room)
{
    struct many_op *op = op_of(m);
    const struct offset_fetch_request_group *g =
        kreq_version(m->req) < 8 ? &op->one : &op->in.fetch.groups.v[i];
    op->calls[i].require_stable = op->in.fetch.require_stable;
    return ask(m, i, no_room, g->group_id, g);
}

int offset_fetch_start(struct kreq *req, struct wire_reader *r)
{
    struct many_op *op = op_new(req, fetch_respond);
    if (op == NULL)
        return -E_LIMIT;
    int rc = offset_fetch_request_read(r, kreq_version(req), &req->arena, &op->in.fetch);
    bool old = kreq_version(req) < 8;
    if (rc == 0 && old)
        rc = one_from_old(req, op);
    return rc < 0 ? rc
                  : start(req, op, old ? 1 : op->in.fetch.groups.cnt,
                          sizeof(struct offset_fetch_response_group), fetch_ask);
}
