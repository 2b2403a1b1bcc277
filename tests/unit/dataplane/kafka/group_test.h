/* group_test.h - short forms for tests of the group APIs. Everything is sent to the world of
 * kafka_test.h; answers that do not come fail the test. */
#pragma once
#include "tests/unit/dataplane/kafka/kafka_test.h"
#include "dataplane/kafka/group/group.h"
#include "dataplane/kafka/group/offsets.h"

#define DELAY_MS 3000

/* A world with the topics "t" and __consumer_offsets; delay: of the initial rebalance. */
__attribute__((unused)) static void open_groups(const struct world_opts *opts, uint32_t delay_ms)
{
    open_world(opts);
    w->conf->group_initial_rebalance_delay_ms = delay_ms;
    world_topic(w, "t", NULL);
    world_topic(w, OFFSETS_TOPIC, "cleanup.policy=compact");
    world_run(w, 3);
}

static struct span text(const char *s)
{
    return s != NULL ? span_str(s) : SPAN_NULL;
}

struct join_opts {
    int16_t version; /* 9 */
    const char *group, *member, *instance, *type;
    const char *protos[4]; /* name, metadata, name, metadata */
    int32_t session_ms, rebalance_ms;
};
__attribute__((unused)) static void send_join(struct client *c, struct join_opts o)
{
    struct join_group_request in;
    struct join_group_request_protocol protos[2];
    join_group_request_init(&in);
    in.group_id = text(o.group != NULL ? o.group : "g");
    in.member_id = text(o.member != NULL ? o.member : "");
    in.group_instance_id = text(o.instance);
    in.protocol_type = text(o.type != NULL ? o.type : "consumer");
    in.session_timeout_ms = o.session_ms != 0 ? o.session_ms : 10000;
    in.rebalance_timeout_ms = o.rebalance_ms != 0 ? o.rebalance_ms : 20000;
    in.protocols.v = protos;
    if (o.protos[0] == NULL) {
        o.protos[0] = "range";
        o.protos[1] = "meta";
    }
    for (uint32_t i = 0; i < 2 && o.protos[2 * i] != NULL; i++) {
        join_group_request_protocol_init(&protos[i]);
        protos[i].name = text(o.protos[2 * i]);
        protos[i].metadata = text(o.protos[2 * i + 1]);
        in.protocols.cnt = i + 1;
    }
    int16_t v = o.version > 0 ? o.version : o.version < 0 ? 0 : 9;
    REQUEST(c, 11, v, join_group, &in);
    world_run(w, 2);
}
__attribute__((unused)) static struct join_group_response take_join(struct client *c, int16_t v)
{
    struct join_group_response out;
    RESPONSE(c, 11, v, join_group, &out);
    return out;
}
__attribute__((unused)) static const char *str(struct span s)
{
    char *p = arena_alloc(&arena, s.len + 1);
    if (s.len > 0)
        memcpy(p, s.p, s.len);
    return p;
}

/* A dynamic member's first two joins; the second one is left waiting. Its id. */
__attribute__((unused)) static const char *enter(struct client *c, struct join_opts o)
{
    send_join(c, o);
    struct join_group_response r = take_join(c, 9);
    assert_int_equal(r.error_code, KE_MEMBER_ID_REQUIRED);
    const char *id = str(r.member_id);
    o.member = id;
    send_join(c, o);
    return id;
}

__attribute__((unused)) static void send_sync_v(struct client *c, int16_t v, const char *group,
                                                const char *member, const char *instance,
                                                int32_t generation, const char *const *assigned,
                                                uint32_t cnt)
{
    struct sync_group_request in;
    struct sync_group_request_assignment as[8];
    sync_group_request_init(&in);
    in.group_id = text(group);
    in.member_id = text(member);
    in.group_instance_id = text(instance);
    in.generation_id = generation;
    in.assignments.v = as;
    in.assignments.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        as[i].member_id = text(assigned[2 * i]);
        as[i].assignment = text(assigned[2 * i + 1]);
    }
    REQUEST(c, 14, v, sync_group, &in);
    world_run(w, 2);
}
#define send_sync(c, member, generation, assigned, cnt)                                            \
    send_sync_v(c, 5, "g", member, NULL, generation, assigned, cnt)
__attribute__((unused)) static struct sync_group_response take_sync(struct client *c)
{
    struct sync_group_response out;
    RESPONSE(c, 14, 5, sync_group, &out);
    return out;
}

__attribute__((unused)) static int16_t heartbeat(struct client *c, const char *member,
                                                 const char *instance, int32_t generation)
{
    struct heartbeat_request in;
    struct heartbeat_response out;
    heartbeat_request_init(&in);
    in.group_id = text("g");
    in.member_id = text(member);
    in.group_instance_id = text(instance);
    in.generation_id = generation;
    REQUEST(c, 12, 4, heartbeat, &in);
    world_run(w, 2);
    RESPONSE(c, 12, 4, heartbeat, &out);
    return out.error_code;
}

__attribute__((unused)) static int16_t leave(struct client *c, const char *member,
                                             const char *instance)
{
    struct leave_group_request in;
    struct leave_group_request_member one;
    struct leave_group_response out;
    leave_group_request_init(&in);
    leave_group_request_member_init(&one);
    in.group_id = text("g");
    in.members.v = &one;
    in.members.cnt = 1;
    one.member_id = text(member);
    one.group_instance_id = text(instance);
    REQUEST(c, 13, 5, leave_group, &in);
    world_run(w, 2);
    RESPONSE(c, 13, 5, leave_group, &out);
    assert_int_equal(out.error_code, 0);
    assert_int_equal(out.members.cnt, 1);
    return out.members.v[0].error_code;
}

__attribute__((unused)) static struct describe_groups_response_group
describe(struct client *c, int16_t v, const char *group)
{
    struct describe_groups_request in;
    struct describe_groups_response out;
    struct span name = text(group);
    describe_groups_request_init(&in);
    in.groups = (struct wire_spans){.v = &name, .cnt = 1};
    REQUEST(c, 15, v, describe_groups, &in);
    world_run(w, 2);
    RESPONSE(c, 15, v, describe_groups, &out);
    assert_int_equal(out.groups.cnt, 1);
    return out.groups.v[0];
}
__attribute__((unused)) static void assert_state(struct client *c, const char *state)
{
    assert_string_equal(str(describe(c, 5, "g").group_state), state);
}

/* A group of two, stable; c[0] leads. Generation 1 with no initial delay. */
struct pair {
    struct client *c[2];
    const char *id[2];
    int32_t generation;
};
__attribute__((unused)) static struct pair open_pair(void)
{
    struct pair p;
    for (uint32_t i = 0; i < 2; i++)
        p.c[i] = client_open(w);
    p.id[0] = enter(p.c[0], (struct join_opts){0});
    world_run(w, w->conf->group_initial_rebalance_delay_ms + 5);
    struct join_group_response r = take_join(p.c[0], 9);
    assert_int_equal(r.error_code, 0);
    p.id[1] = enter(p.c[1], (struct join_opts){0});
    send_join(p.c[0], (struct join_opts){.member = p.id[0]});
    r = take_join(p.c[0], 9);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(take_join(p.c[1], 9).error_code, 0);
    p.generation = r.generation_id;
    const char *as[] = {p.id[0], "one", p.id[1], "two"};
    send_sync(p.c[1], p.id[1], p.generation, NULL, 0);
    send_sync(p.c[0], p.id[0], p.generation, as, 2);
    assert_string_equal(str(take_sync(p.c[0]).assignment), "one");
    assert_string_equal(str(take_sync(p.c[1]).assignment), "two");
    return p;
}

/* What a restart finds: a new world whose __consumer_offsets holds the batches of the old one. */
__attribute__((unused)) static void restart(void)
{
    struct span kept[WORLD_TOPIC_PARTITIONS][FAKE_BATCHES_MAX];
    uint32_t cnt[WORLD_TOPIC_PARTITIONS];
    for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++) {
        struct plog *p = world_plog(w, OFFSETS_TOPIC, i);
        cnt[i] = 0;
        for (uint32_t k = 0; k < p->batch_cnt && p->batch[k].last < p->durable; k++) {
            uint8_t *copy = malloc(p->batch[k].len);
            memcpy(copy, p->batch[k].bytes, p->batch[k].len);
            kept[i][cnt[i]++] = span_of(copy, p->batch[k].len);
        }
    }
    struct world_opts opts = {.shards = w->shard_cnt};
    close_world();
    open_world(&opts);
    w->conf->group_initial_rebalance_delay_ms = 0;
    world_topic(w, "t", NULL);
    world_topic(w, OFFSETS_TOPIC, "cleanup.policy=compact");
    for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++)
        for (uint32_t k = 0; k < cnt[i]; k++) {
            fake_plog_put(world_plog(w, OFFSETS_TOPIC, i), kept[i][k]);
            free((void *)(uintptr_t)kept[i][k].p);
        }
    world_run(w, 5);
}

struct commit1 {
    int16_t version; /* 9 */
    const char *group, *member, *instance, *topic, *metadata;
    int32_t generation; /* 0: -1 */
    int32_t partition;
    int64_t offset;
    int64_t retention_ms; /* 0: none */
};
__attribute__((unused)) static void send_commit(struct client *c, struct commit1 o)
{
    struct offset_commit_request in;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p;
    offset_commit_request_init(&in);
    offset_commit_request_topic_init(&t);
    offset_commit_request_partition_init(&p);
    in.group_id = text(o.group != NULL ? o.group : "g");
    in.member_id = text(o.member != NULL ? o.member : "");
    in.group_instance_id = text(o.instance);
    in.generation_id_or_member_epoch = o.generation != 0 ? o.generation : -1;
    if (o.retention_ms != 0)
        in.retention_time_ms = o.retention_ms;
    in.topics.v = &t;
    in.topics.cnt = 1;
    t.name = text(o.topic != NULL ? o.topic : "t");
    const struct meta_topic *mt = image_topic_by_name(w->image, t.name);
    if (mt != NULL)
        t.topic_id = mt->id;
    t.partitions.v = &p;
    t.partitions.cnt = 1;
    p.partition_index = o.partition;
    p.committed_offset = o.offset;
    p.committed_leader_epoch = 3;
    p.committed_metadata = text(o.metadata);
    REQUEST(c, 8, o.version != 0 ? o.version : 9, offset_commit, &in);
    world_run(w, 2);
}
__attribute__((unused)) static int16_t take_commit(struct client *c, int16_t version)
{
    struct offset_commit_response out;
    RESPONSE(c, 8, version != 0 ? version : 9, offset_commit, &out);
    assert_int_equal(out.topics.cnt, 1);
    assert_int_equal(out.topics.v[0].partitions.cnt, 1);
    return out.topics.v[0].partitions.v[0].error_code;
}
__attribute__((unused)) static int16_t commit(struct client *c, struct commit1 o)
{
    send_commit(c, o);
    return take_commit(c, o.version);
}
/* What the group has for t-partition by OffsetFetch v9 (no topics: everything). */
__attribute__((unused)) static struct offset_fetch_response_group
fetch_group(struct client *c, int16_t v, const char *group, bool all)
{
    struct offset_fetch_request in;
    struct offset_fetch_request_group g;
    struct offset_fetch_request_group_topic t;
    struct offset_fetch_response out;
    int32_t parts[] = {0, 1, 9};
    offset_fetch_request_init(&in);
    offset_fetch_request_group_init(&g);
    offset_fetch_request_group_topic_init(&t);
    in.groups.v = &g;
    in.groups.cnt = 1;
    g.group_id = text(group);
    g.topics.v = &t;
    g.topics.cnt = all ? 0 : 1;
    g.topics.null = all;
    t.name = text("t");
    const struct meta_topic *mt = image_topic_by_name(w->image, t.name);
    if (mt != NULL)
        t.topic_id = mt->id;
    t.partition_indexes = (struct wire_i32s){.v = parts, .cnt = 3};
    REQUEST(c, 9, v, offset_fetch, &in);
    world_run(w, 2);
    RESPONSE(c, 9, v, offset_fetch, &out);
    assert_int_equal(out.groups.cnt, 1);
    return out.groups.v[0];
}
__attribute__((unused)) static int64_t committed(struct client *c, const char *group)
{
    struct offset_fetch_response_group g = fetch_group(c, 9, group, false);
    assert_int_equal(g.error_code, 0);
    assert_int_equal(g.topics.cnt, 1);
    assert_int_equal(g.topics.v[0].partitions.cnt, 3);
    return g.topics.v[0].partitions.v[0].committed_offset;
}
