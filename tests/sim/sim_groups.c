/* sim_groups.c - a simulated client as a member of a group: joins, syncs, commits, and comes back
 * after its connection was closed in the middle of any of it. An assignment must be the one that
 * the generation's leader made for this member; a committed offset must be read back, unless it is
 * one whose answer was lost. */
#include "tests/sim/sim_client_int.h"

#define GROUPS 3
#define SESSION_MS 400
#define REBALANCE_MS 600
#define TOPIC "groups" /* what offsets are committed for: partition by client */
enum {
    G_LOADING = 14,
    G_NOT_AVAILABLE = 15,
    G_NOT_COORDINATOR = 16,
    G_ILLEGAL_GENERATION = 22,
    G_UNKNOWN_MEMBER = 25,
    G_REBALANCE = 27,
    G_MEMBER_ID_REQUIRED = 79,
};

static struct span group_of(const struct client *c)
{
    static const char *const names[GROUPS] = {"g0", "g1", "g2"};
    return span_str(names[c->idx % GROUPS]);
}

static int32_t partition_of(const struct client *c)
{
    return (int32_t)(c->idx / GROUPS % SIM_PARTS_MAX);
}

/* What the leader of a generation gives a member: nobody else gives the same. */
static struct span assignment(char buf[128], int32_t generation, struct span member)
{
    int n = snprintf(buf, 128, "%d:%.*s", generation, (int)member.len, (const char *)member.p);
    return span_of(buf, (uint32_t)n);
}

static void join(struct client *c)
{
    struct join_group_request req;
    struct join_group_request_protocol protocol = {span_str("range"), span_str("metadata")};
    struct call *call = call_new(c, API_KEY_JOIN_GROUP, version_of(API_KEY_JOIN_GROUP), true);
    join_group_request_init(&req);
    req.group_id = group_of(c);
    req.session_timeout_ms = SESSION_MS;
    req.rebalance_timeout_ms = REBALANCE_MS;
    req.member_id = span_str(c->member_id);
    req.protocol_type = span_str("consumer");
    req.protocols.v = &protocol;
    req.protocols.cnt = 1;
    /* Members that went without a word are waited for, those of version 0 for their session. */
    call->wait_ns = (2 * REBALANCE_MS + SESSION_MS) * SIM_MS;
    call_send(c, call, (write_fn *)(void *)join_group_request_write, &req);
}

static void sync_with(struct client *c, const struct join_group_response *joined)
{
    struct sync_group_request req;
    struct sync_group_request_assignment given[CLIENTS_MAX];
    char text[CLIENTS_MAX][128];
    struct call *call = call_new(c, API_KEY_SYNC_GROUP, version_of(API_KEY_SYNC_GROUP), true);
    sync_group_request_init(&req);
    req.group_id = group_of(c);
    req.generation_id = c->generation;
    req.member_id = span_str(c->member_id);
    req.protocol_type = span_str("consumer");
    req.protocol_name = span_str("range");
    req.assignments.v = given;
    for (uint32_t i = 0; c->leads && i < joined->members.cnt && i < CLIENTS_MAX; i++) {
        struct span member = joined->members.v[i].member_id;
        given[req.assignments.cnt++] = (struct sync_group_request_assignment){
            member, assignment(text[i], c->generation, member)};
    }
    call->wait_ns = (2 * REBALANCE_MS + SESSION_MS) * SIM_MS;
    call_send(c, call, (write_fn *)(void *)sync_group_request_write, &req);
}

static void heartbeat(struct client *c)
{
    struct heartbeat_request req;
    struct call *call = call_new(c, API_KEY_HEARTBEAT, version_of(API_KEY_HEARTBEAT), true);
    heartbeat_request_init(&req);
    req.group_id = group_of(c);
    req.generation_id = c->generation;
    req.member_id = span_str(c->member_id);
    call_send(c, call, (write_fn *)(void *)heartbeat_request_write, &req);
}

static void leave(struct client *c)
{
    struct leave_group_request req;
    struct leave_group_request_member member;
    struct call *call = call_new(c, API_KEY_LEAVE_GROUP, version_of(API_KEY_LEAVE_GROUP), true);
    leave_group_request_init(&req);
    leave_group_request_member_init(&member);
    req.group_id = group_of(c);
    req.member_id = member.member_id = span_str(c->member_id);
    req.members.v = &member;
    req.members.cnt = 1;
    call_send(c, call, (write_fn *)(void *)leave_group_request_write, &req);
    c->stage = GR_OUT;
}

static void commit(struct client *c)
{
    struct offset_commit_request req;
    struct offset_commit_request_topic topic;
    struct offset_commit_request_partition part;
    int16_t version = (int16_t)(2 + sim_rnd(8)); /* by name */
    struct call *call = call_new(c, API_KEY_OFFSET_COMMIT, version, true);
    offset_commit_request_init(&req);
    offset_commit_request_topic_init(&topic);
    offset_commit_request_partition_init(&part);
    req.group_id = group_of(c);
    req.generation_id_or_member_epoch = c->generation;
    req.member_id = span_str(c->member_id);
    req.topics.v = &topic;
    req.topics.cnt = 1;
    topic.name = span_str(TOPIC);
    topic.partitions.v = &part;
    topic.partitions.cnt = 1;
    part.partition_index = partition_of(c);
    part.committed_offset = call->offset = (int64_t)sim_rnd(1000000);
    call_send(c, call, (write_fn *)(void *)offset_commit_request_write, &req);
}

static void read_back(struct client *c)
{
    struct offset_fetch_request req;
    struct offset_fetch_request_group group;
    struct offset_fetch_request_group_topic topic;
    int32_t partition = partition_of(c);
    struct call *call = call_new(c, API_KEY_OFFSET_FETCH, 8, true);
    offset_fetch_request_init(&req);
    offset_fetch_request_group_init(&group);
    offset_fetch_request_group_topic_init(&topic);
    req.groups.v = &group;
    req.groups.cnt = 1;
    group.group_id = group_of(c);
    group.topics.v = &topic;
    group.topics.cnt = 1;
    topic.name = span_str(TOPIC);
    topic.partition_indexes.v = &partition;
    topic.partition_indexes.cnt = 1;
    call_send(c, call, (write_fn *)(void *)offset_fetch_request_write, &req);
}

void group_some(struct client *c)
{
    if (c->call_cnt > 0)
        return;
    uint64_t what = sim_rnd(100);
    if (c->stage != GR_STABLE)
        join(c);
    else if (what < 40)
        heartbeat(c);
    else if (what < 75)
        commit(c);
    else if (what < 95)
        read_back(c);
    else
        leave(c);
}

void group_closed(struct client *c)
{
    list_for_each(l, &c->calls)
    {
        const struct call *call = container_of(l, struct call, link);
        if (call->key != API_KEY_OFFSET_COMMIT)
            continue;
        SIM_CHECK(c->maybe_cnt < MAYBE_MAX, "client %u: too many commits are lost", c->idx);
        c->maybe[c->maybe_cnt++] = call->offset;
    }
    if (c->stage == GR_JOINED || sim_chance(30))
        c->stage = GR_OUT; /* with its member id */
    if (sim_chance(30)) {
        c->stage = GR_OUT; /* a new process */
        c->member_id[0] = 0;
    }
}

/* ------------------------------------------------------------------ answers */

/* What sends a member back to joining. True: go on with the answer. */
static bool is_ok(struct client *c, const struct call *call, int16_t error)
{
    switch (error) {
    case 0:
        return true;
    case G_UNKNOWN_MEMBER:
        c->member_id[0] = 0;
        break;
    case G_LOADING:
    case G_NOT_AVAILABLE:
    case G_NOT_COORDINATOR:
    case G_ILLEGAL_GENERATION:
    case G_REBALANCE:
        break;
    default:
        SIM_CHECK(sim->stopping || sim->traits.little_staging,
                  "client %u, call %d (api %d): error %d", c->idx, call->correlation, call->key,
                  error);
    }
    c->stage = GR_OUT;
    return false;
}

static void member_id_set(struct client *c, struct span id)
{
    SIM_CHECK(id.len < sizeof(c->member_id), "client %u: a member id of %u bytes", c->idx, id.len);
    memcpy(c->member_id, id.p, id.len);
    c->member_id[id.len] = 0;
}

static void on_joined(struct client *c, const struct call *call, struct wire_reader *r)
{
    struct join_group_response resp;
    int rc = join_group_response_read(r, call->version, &client_arena, &resp);
    SIM_CHECK(rc == 0, "client %u, call %d: %s", c->idx, call->correlation, err_text(rc));
    if (resp.error_code == G_MEMBER_ID_REQUIRED) {
        member_id_set(c, resp.member_id);
        return;
    }
    if (!is_ok(c, call, resp.error_code))
        return;
    member_id_set(c, resp.member_id);
    c->generation = resp.generation_id;
    c->leads = span_eq_str(resp.leader, c->member_id);
    SIM_CHECK(c->leads == (resp.members.cnt > 0), "client %u, call %d: %u members for a %s", c->idx,
              call->correlation, resp.members.cnt, c->leads ? "leader" : "follower");
    c->stage = GR_JOINED;
    sync_with(c, &resp);
}

static void on_synced(struct client *c, const struct call *call, struct wire_reader *r)
{
    struct sync_group_response resp;
    char text[128];
    int rc = sync_group_response_read(r, call->version, &client_arena, &resp);
    SIM_CHECK(rc == 0, "client %u, call %d: %s", c->idx, call->correlation, err_text(rc));
    if (!is_ok(c, call, resp.error_code))
        return;
    SIM_CHECK(span_eq(resp.assignment, assignment(text, c->generation, span_str(c->member_id))),
              "client %u, call %d: the assignment is %.*s", c->idx, call->correlation,
              (int)resp.assignment.len, (const char *)resp.assignment.p);
    c->stage = GR_STABLE;
}

static void on_committed(struct client *c, const struct call *call, struct wire_reader *r)
{
    struct offset_commit_response resp;
    int rc = offset_commit_response_read(r, call->version, &client_arena, &resp);
    SIM_CHECK(rc == 0 && resp.topics.cnt == 1 && resp.topics.v[0].partitions.cnt == 1,
              "client %u, call %d: %s", c->idx, call->correlation, err_text(rc));
    if (is_ok(c, call, resp.topics.v[0].partitions.v[0].error_code))
        c->committed = call->offset;
    else if (c->maybe_cnt < MAYBE_MAX)
        c->maybe[c->maybe_cnt++] = call->offset;
}

static void on_read_back(struct client *c, const struct call *call, struct wire_reader *r)
{
    struct offset_fetch_response resp;
    int rc = offset_fetch_response_read(r, call->version, &client_arena, &resp);
    SIM_CHECK(rc == 0 && resp.groups.cnt == 1, "client %u, call %d: %s", c->idx, call->correlation,
              err_text(rc));
    if (!is_ok(c, call, resp.groups.v[0].error_code))
        return;
    int64_t offset = resp.groups.v[0].topics.v[0].partitions.v[0].committed_offset;
    bool known = offset == c->committed;
    for (uint32_t i = 0; i < c->maybe_cnt; i++)
        known |= offset == c->maybe[i];
    SIM_CHECK(known, "client %u, call %d: offset %" PRId64 ", committed was %" PRId64, c->idx,
              call->correlation, offset, c->committed);
}

void on_group_answer(struct client *c, struct call *call, struct wire_reader *r)
{
    struct heartbeat_response beat;
    switch (call->key) {
    case API_KEY_JOIN_GROUP:
        on_joined(c, call, r);
        return;
    case API_KEY_SYNC_GROUP:
        on_synced(c, call, r);
        return;
    case API_KEY_HEARTBEAT: {
        int rc = heartbeat_response_read(r, call->version, &client_arena, &beat);
        SIM_CHECK(rc == 0, "client %u, call %d: %s", c->idx, call->correlation, err_text(rc));
        (void)is_ok(c, call, beat.error_code);
        return;
    }
    case API_KEY_OFFSET_COMMIT:
        on_committed(c, call, r);
        return;
    case API_KEY_OFFSET_FETCH:
        on_read_back(c, call, r);
        return;
    default: /* LeaveGroup: it is out, whatever it says */
        return;
    }
}
