/* group_one.c - the APIs about one group: JoinGroup, SyncGroup, Heartbeat, LeaveGroup,
 * OffsetCommit, OffsetDelete, ConsumerGroupHeartbeat. Decoded here, answered by the shard of the
 * group. */
#include "dataplane/kafka/handlers/commit_error.h"
#include "dataplane/kafka/handlers/group_call.h"

struct one_op {
    struct group_call call;
    struct group_cancel_msg cancel;
    union {
        struct join_group_request join;
        struct sync_group_request sync;
        struct heartbeat_request heartbeat;
        struct leave_group_request leave;
        struct offset_commit_request commit;
        struct offset_delete_request offset_delete;
        struct consumer_group_heartbeat_request consumer_group_heartbeat;
    } in;
};

static void join_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    struct join_group_response *out = &op->call.out.join;
    if (error != 0) {
        join_group_response_init(out);
        out->error_code = error;
        out->member_id = op->in.join.member_id;
    }
    KREQ_RESPOND(req, join_group_response, out);
}

static void sync_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    struct sync_group_response *out = &op->call.out.sync;
    if (error != 0) {
        sync_group_response_init(out);
        out->error_code = error;
    }
    KREQ_RESPOND(req, sync_group_response, out);
}

static void heartbeat_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    (void)op;
    struct heartbeat_response out;
    heartbeat_response_init(&out);
    out.error_code = error;
    KREQ_RESPOND(req, heartbeat_response, &out);
}

static void leave_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    struct leave_group_response *out = &op->call.out.leave;
    if (error != 0) {
        leave_group_response_init(out);
        out->error_code = error;
    }
    KREQ_RESPOND(req, leave_group_response, out);
}

#define COPY_TOPIC(to, from) ((to)->name = (from)->name, (to)->topic_id = (from)->topic_id)
COMMIT_ERROR(commit_error, offset_commit, COPY_TOPIC)

static void commit_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    struct offset_commit_response *out = &op->call.out.commit;
    if (error != 0 && !commit_error(req, &op->in.commit, error, out))
        kreq_fail(req);
    else
        KREQ_RESPOND(req, offset_commit_response, out);
}

static void offset_delete_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    struct offset_delete_response *out = &op->call.out.offset_delete;
    if (error != 0) {
        offset_delete_response_init(out);
        out->error_code = error;
    }
    KREQ_RESPOND(req, offset_delete_response, out);
}

static void consumer_heartbeat_respond(struct kreq *req, struct one_op *op, int16_t error)
{
    struct consumer_group_heartbeat_response *out = &op->call.out.consumer_heartbeat;
    if (error != 0) {
        consumer_group_heartbeat_response_init(out);
        out->error_code = error;
    }
    KREQ_RESPOND(req, consumer_group_heartbeat_response, out);
}

static void respond(struct one_op *op, struct kreq *req, int16_t error)
{
    switch (req->api->key) {
    case API_KEY_JOIN_GROUP:
        join_respond(req, op, error);
        break;
    case API_KEY_SYNC_GROUP:
        sync_respond(req, op, error);
        break;
    case API_KEY_HEARTBEAT:
        heartbeat_respond(req, op, error);
        break;
    case API_KEY_LEAVE_GROUP:
        leave_respond(req, op, error);
        break;
    case API_KEY_OFFSET_COMMIT:
        commit_respond(req, op, error);
        break;
    case API_KEY_CONSUMER_GROUP_HEARTBEAT:
        consumer_heartbeat_respond(req, op, error);
        break;
    default:
        offset_delete_respond(req, op, error);
        break;
    }
}

static void on_answer(struct group_call *call)
{
    struct one_op *op = container_of(call, struct one_op, call);
    if (call->req->conn != NULL)
        respond(op, call->req, call->error);
    arena_fini(&call->arena);
}

static int start(struct kreq *req, struct one_op *op, struct span group)
{
    req->op = op;
    op->call.done = on_answer;
    int16_t error = group_call_send(&op->call, req, group, &op->in);
    if (error != 0)
        respond(op, req, error);
    return 0;
}

void group_one_cancel(struct kreq *req)
{
    struct one_op *op = req->op;
    op->cancel.call = &op->call;
    kreq_send(req, op->call.owner, &op->cancel.msg, MSG_GROUP_CANCEL);
}

void kafka_on_group_cancel_reply(struct shard *s, struct msg *m)
{
    (void)s;
    kreq_put(container_of(m, struct group_cancel_msg, msg)->call->req);
}

#define ONE_START(name, field)                                                                     \
    int name##_start(struct kreq *req, struct wire_reader *r)                                      \
    {                                                                                              \
        struct one_op *op = arena_alloc(&req->arena, sizeof(*op));                                 \
        if (op == NULL)                                                                            \
            return -E_LIMIT;                                                                       \
        int rc = name##_request_read(r, kreq_version(req), &req->arena, &op->in.field);            \
        return rc < 0 ? rc : start(req, op, op->in.field.group_id);                                \
    }
ONE_START(join_group, join)
ONE_START(sync_group, sync)
ONE_START(heartbeat, heartbeat)
ONE_START(leave_group, leave)
ONE_START(offset_commit, commit)
ONE_START(offset_delete, offset_delete)
ONE_START(consumer_group_heartbeat, consumer_group_heartbeat)
