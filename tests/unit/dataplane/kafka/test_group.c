/* Classic groups: every rule of joining, syncing, leaving and dying, over the simulated transport.
 */
#include "tests/unit/dataplane/kafka/group_test.h"

static void a_group_id_hashes_as_java_does(void **state)
{
    assert_int_equal(clog_partition(span_str("hello"), 50), 99162322 % 50);
    assert_int_equal(clog_partition(span_str(""), 50), 0);
    assert_int_equal(clog_partition(span_str("\xF0\x9D\x84\x9E"), 50), 1772394 % 50);
    assert_int_equal(clog_partition(span_str("\xC3\xA9"), 50), 0xE9 % 50);
    assert_int_equal(clog_partition(span_str("polygenelubricants"), 50), 0); /* MIN_VALUE */
    for (uint32_t i = 0; i < 256; i++) { /* no UTF-8 is read past its end */
        uint8_t b[1] = {(uint8_t)i};
        assert_in_range(clog_partition(span_of(b, 1), 7), 0, 6);
    }
}

static void find_coordinator_names_this_broker_once_there_is_a_topic(void **state)
{
    struct find_coordinator_request in;
    struct find_coordinator_response out;
    open_world(NULL);
    struct client *c = client_open(w);
    for (int round = 0; round < 2; round++) {
        find_coordinator_request_init(&in);
        in.key = text("g");
        REQUEST(c, 10, 3, find_coordinator, &in);
        world_run(w, 2);
        RESPONSE(c, 10, 3, find_coordinator, &out);
        assert_int_equal(out.error_code, round == 0 ? KE_NOT_AVAILABLE : 0);
        assert_int_equal(out.node_id, round == 0 ? -1 : w->conf->node_id);
        assert_int_equal(out.port, round == 0 ? -1 : 9092);
        if (round == 0)
            world_topic(w, OFFSETS_TOPIC, NULL);
        world_run(w, 2);
    }
    struct span keys[2] = {text("a"), text("b")};
    find_coordinator_request_init(&in);
    in.coordinator_keys = (struct wire_spans){.v = keys, .cnt = 2};
    REQUEST(c, 10, 6, find_coordinator, &in);
    world_run(w, 2);
    RESPONSE(c, 10, 6, find_coordinator, &out);
    assert_int_equal(out.coordinators.cnt, 2);
    assert_string_equal(str(out.coordinators.v[1].key), "b");
    assert_int_equal(out.coordinators.v[1].error_code, 0);
    in.key_type = 2; /* share groups */
    REQUEST(c, 10, 6, find_coordinator, &in);
    world_run(w, 2);
    RESPONSE(c, 10, 6, find_coordinator, &out);
    assert_int_equal(out.coordinators.v[0].error_code, KE_INVALID_REQUEST);
    close_world();
}

static int16_t join_error(struct client *c, struct join_opts o)
{
    send_join(c, o);
    return take_join(c, o.version < 0 ? 0 : o.version > 0 ? o.version : 9).error_code;
}

static void a_join_is_checked_before_anything_else(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    assert_int_equal(join_error(c, (struct join_opts){.group = ""}), KE_INVALID_GROUP_ID);
    assert_int_equal(join_error(c, (struct join_opts){.session_ms = 5999}),
                     KE_INVALID_SESSION_TIMEOUT);
    assert_int_equal(join_error(c, (struct join_opts){.session_ms = 1800001}),
                     KE_INVALID_SESSION_TIMEOUT);
    assert_int_equal(join_error(c, (struct join_opts){.type = ""}), KE_INCONSISTENT_PROTOCOL);
    assert_int_equal(join_error(c, (struct join_opts){.member = "nobody"}), KE_UNKNOWN_MEMBER);
    assert_int_equal(join_error(c, (struct join_opts){.group = "none", .member = "x"}),
                     KE_UNKNOWN_MEMBER);
    close_world();
}

static void a_new_member_is_told_its_id_first_from_version_4_on(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w), *old = client_open(w);
    send_join(c, (struct join_opts){0});
    struct join_group_response r = take_join(c, 9);
    assert_int_equal(r.error_code, KE_MEMBER_ID_REQUIRED);
    assert_memory_equal(r.member_id.p, "test-", 5); /* the client id */
    assert_int_equal(r.member_id.len, 5 + 36);
    send_join(old, (struct join_opts){.version = 3, .group = "old"});
    world_run(w, 5);
    r = take_join(old, 3);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.generation_id, 1);
    send_join(old, (struct join_opts){.version = -1, .group = "oldest"}); /* version 0 */
    world_run(w, 5);
    assert_int_equal(take_join(old, 0).error_code, 0);
    close_world();
}

static void the_first_join_waits_for_others_and_longer_while_they_come(void **state)
{
    open_groups(NULL, DELAY_MS);
    struct client *c[3];
    for (uint32_t i = 0; i < 3; i++)
        c[i] = client_open(w);
    (void)enter(c[0], (struct join_opts){.rebalance_ms = 8000});
    world_run(w, DELAY_MS - 500);
    assert_true(no_response(c[0]));
    (void)enter(c[1], (struct join_opts){.rebalance_ms = 8000}); /* 3 s more */
    world_run(w, DELAY_MS - 500);
    assert_true(no_response(c[0]));
    (void)enter(c[2], (struct join_opts){.rebalance_ms = 8000}); /* and up to 8 s in all */
    world_run(w, 2500);
    assert_true(no_response(c[0]));
    world_run(w, 600);
    for (uint32_t i = 0; i < 3; i++) {
        struct join_group_response r = take_join(c[i], 9);
        assert_int_equal(r.error_code, 0);
        assert_int_equal(r.generation_id, 1);
        assert_int_equal(r.members.cnt, i == 0 ? 3 : 0); /* the leader alone gets the list */
        assert_string_equal(str(r.protocol_name), "range");
        assert_string_equal(str(r.protocol_type), "consumer");
    }
    close_world();
}

static void members_vote_for_a_protocol_that_all_support(void **state)
{
    open_groups(NULL, 100);
    struct client *c[3];
    for (uint32_t i = 0; i < 3; i++)
        c[i] = client_open(w);
    (void)enter(c[0], (struct join_opts){.protos = {"range", "r0", "rr", "x0"}});
    (void)enter(c[1], (struct join_opts){.protos = {"rr", "x1", "range", "r1"}});
    (void)enter(c[2], (struct join_opts){.protos = {"rr", "x2", "range", "r2"}});
    world_run(w, 400);
    struct join_group_response r = take_join(c[0], 9);
    assert_string_equal(str(r.protocol_name), "rr");
    assert_string_equal(str(r.members.v[0].metadata), "x0");
    assert_string_equal(str(r.members.v[2].metadata), "x2");
    struct client *d = client_open(w);
    assert_int_equal(join_error(d, (struct join_opts){.protos = {"sticky", "s"}}),
                     KE_INCONSISTENT_PROTOCOL);
    assert_int_equal(join_error(d, (struct join_opts){.type = "connect"}),
                     KE_INCONSISTENT_PROTOCOL);
    close_world();
}

static void assignments_are_handed_out_when_they_are_durable(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w), *d = client_open(w);
    const char *id = enter(c, (struct join_opts){0});
    world_run(w, 5);
    assert_int_equal(take_join(c, 9).error_code, 0);
    const char *id2 = enter(d, (struct join_opts){0});
    send_join(c, (struct join_opts){.member = id});
    int32_t gen = take_join(c, 9).generation_id;
    assert_int_equal(take_join(d, 9).generation_id, gen);
    for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++)
        world_plog(w, OFFSETS_TOPIC, i)->hold_flush = true;
    const char *as[] = {id, "mine"};
    send_sync(d, id2, gen, NULL, 0);
    send_sync(c, id, gen, as, 1);
    world_run(w, 20);
    assert_true(no_response(c));
    assert_true(no_response(d));
    for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++)
        fake_plog_flush(world_plog(w, OFFSETS_TOPIC, i));
    world_run(w, 5);
    struct sync_group_response r = take_sync(c);
    assert_int_equal(r.error_code, 0);
    assert_string_equal(str(r.assignment), "mine");
    assert_string_equal(str(r.protocol_name), "range");
    r = take_sync(d); /* not named by the leader */
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.assignment.len, 0);
    send_sync(d, id2, gen, NULL, 0); /* again, stable: the same */
    assert_int_equal(take_sync(d).error_code, 0);
    close_world();
}

static void a_failed_append_fails_the_sync_and_the_group_rebalances(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    const char *id = enter(c, (struct join_opts){0});
    world_run(w, 5);
    int32_t gen = take_join(c, 9).generation_id;
    for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++)
        world_plog(w, OFFSETS_TOPIC, i)->append_rc = -E_READ_ONLY;
    const char *as[] = {id, "mine"};
    send_sync(c, id, gen, as, 1);
    assert_int_equal(take_sync(c).error_code, KE_NOT_COORDINATOR);
    assert_int_equal(heartbeat(c, id, NULL, gen), KE_REBALANCE);
    for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++)
        world_plog(w, OFFSETS_TOPIC, i)->append_rc = 0;
    send_join(c, (struct join_opts){.member = id});
    gen = take_join(c, 9).generation_id;
    send_sync(c, id, gen, as, 1);
    assert_string_equal(str(take_sync(c).assignment), "mine");
    close_world();
}

static int16_t sync_error(struct client *c, const char *member, int32_t generation)
{
    send_sync(c, member, generation, NULL, 0);
    return take_sync(c).error_code;
}

static void syncs_and_heartbeats_are_checked(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    assert_int_equal(sync_error(p.c[0], "nobody", p.generation), KE_UNKNOWN_MEMBER);
    assert_int_equal(sync_error(p.c[0], p.id[0], p.generation + 1), KE_ILLEGAL_GENERATION);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), 0);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation - 1), KE_ILLEGAL_GENERATION);
    assert_int_equal(heartbeat(p.c[0], "nobody", NULL, p.generation), KE_UNKNOWN_MEMBER);
    struct client *c = client_open(w);
    (void)enter(c, (struct join_opts){0});
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), KE_REBALANCE);
    assert_int_equal(sync_error(p.c[0], p.id[0], p.generation), KE_REBALANCE);
    struct sync_group_request in;
    sync_group_request_init(&in);
    in.group_id = text("g");
    in.member_id = text(p.id[0]);
    in.generation_id = p.generation;
    in.protocol_type = text("connect");
    REQUEST(p.c[0], 14, 5, sync_group, &in);
    world_run(w, 2);
    assert_int_equal(take_sync(p.c[0]).error_code, KE_INCONSISTENT_PROTOCOL);
    close_world();
}

static void who_is_not_heard_of_is_removed_and_the_rest_rebalances(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    for (int i = 0; i < 4; i++) { /* the other one's session is 10 s */
        world_run(w, 3000);
        int16_t error = heartbeat(p.c[0], p.id[0], NULL, p.generation);
        assert_int_equal(error, i < 3 ? 0 : KE_REBALANCE);
    }
    send_join(p.c[0], (struct join_opts){.member = p.id[0]});
    struct join_group_response r = take_join(p.c[0], 9);
    assert_int_equal(r.generation_id, p.generation + 1);
    assert_int_equal(r.members.cnt, 1);
    assert_int_equal(heartbeat(p.c[1], p.id[1], NULL, p.generation), KE_UNKNOWN_MEMBER);
    world_run(w, 11000);
    assert_state(p.c[0], "Empty"); /* and then it is alone no more */
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation + 1), KE_UNKNOWN_MEMBER);
    close_world();
}

static void who_does_not_rejoin_in_time_is_left_behind(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    send_join(p.c[0], (struct join_opts){.member = p.id[0]}); /* the leader wants a rebalance */
    assert_true(no_response(p.c[0]));
    assert_state(p.c[1], "PreparingRebalance");
    for (int i = 0; i < 6; i++) { /* alive, but not joining: rebalance timeout 20 s */
        world_run(w, 3000);
        assert_int_equal(heartbeat(p.c[1], p.id[1], NULL, p.generation), KE_REBALANCE);
    }
    world_run(w, 2500);
    struct join_group_response r = take_join(p.c[0], 9);
    assert_int_equal(r.members.cnt, 1);
    assert_int_equal(heartbeat(p.c[1], p.id[1], NULL, p.generation), KE_UNKNOWN_MEMBER);
    close_world();
}

static void who_never_syncs_is_removed_after_the_rebalance_timeout(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    send_join(p.c[0], (struct join_opts){.member = p.id[0]});
    send_join(p.c[1], (struct join_opts){.member = p.id[1]});
    int32_t gen = take_join(p.c[0], 9).generation_id;
    assert_int_equal(take_join(p.c[1], 9).generation_id, gen);
    send_sync(p.c[1], p.id[1], gen, NULL, 0); /* the leader never does */
    for (int i = 0; i < 6; i++) {
        world_run(w, 3000);
        assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, gen), 0);
    }
    world_run(w, 2500);
    assert_int_equal(take_sync(p.c[1]).error_code, KE_REBALANCE);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, gen), KE_UNKNOWN_MEMBER);
    send_join(p.c[1], (struct join_opts){.member = p.id[1]});
    assert_int_equal(take_join(p.c[1], 9).members.cnt, 1); /* now it leads */
    close_world();
}

static void a_follower_that_says_the_same_again_causes_no_rebalance(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    send_join(p.c[1], (struct join_opts){.member = p.id[1]});
    struct join_group_response r = take_join(p.c[1], 9);
    assert_int_equal(r.generation_id, p.generation);
    assert_string_equal(str(r.leader), p.id[0]);
    assert_int_equal(r.members.cnt, 0);
    assert_state(p.c[0], "Stable");
    send_join(p.c[1], (struct join_opts){.member = p.id[1], .protos = {"range", "other"}});
    assert_true(no_response(p.c[1]));
    assert_state(p.c[0], "PreparingRebalance");
    send_join(p.c[0], (struct join_opts){.member = p.id[0]});
    assert_int_equal(take_join(p.c[1], 9).generation_id, p.generation + 1);
    assert_int_equal(take_join(p.c[0], 9).members.cnt, 2);
    /* between join and sync: the first answer may have been lost */
    send_join(p.c[0], (struct join_opts){.member = p.id[0]});
    r = take_join(p.c[0], 9);
    assert_int_equal(r.generation_id, p.generation + 1);
    assert_int_equal(r.members.cnt, 2);
    close_world();
}

static void leaving_rebalances_and_each_member_gets_its_own_answer(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    assert_int_equal(leave(p.c[0], "nobody", NULL), KE_UNKNOWN_MEMBER);
    assert_state(p.c[0], "Stable");
    assert_int_equal(leave(p.c[1], p.id[1], NULL), 0);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), KE_REBALANCE);
    struct leave_group_request in; /* up to version 2: one member, top-level error */
    struct leave_group_response out;
    leave_group_request_init(&in);
    in.group_id = text("g");
    in.member_id = text(p.id[0]);
    REQUEST(p.c[0], 13, 2, leave_group, &in);
    world_run(w, 2);
    RESPONSE(p.c[0], 13, 2, leave_group, &out);
    assert_int_equal(out.error_code, 0);
    assert_state(p.c[0], "Empty");
    REQUEST(p.c[0], 13, 2, leave_group, &in);
    world_run(w, 2);
    RESPONSE(p.c[0], 13, 2, leave_group, &out);
    assert_int_equal(out.error_code, KE_UNKNOWN_MEMBER);
    close_world();
}

static void a_pending_member_holds_the_rebalance_until_it_leaves_or_is_late(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    struct client *c = client_open(w);
    for (int round = 0; round < 2; round++) {
        send_join(c, (struct join_opts){.session_ms = 6000});
        const char *id = str(take_join(c, 9).member_id);
        send_join(p.c[0], (struct join_opts){.member = p.id[0]});
        send_join(p.c[1], (struct join_opts){.member = p.id[1]});
        assert_true(no_response(p.c[0]));
        if (round == 0)
            assert_int_equal(leave(c, id, NULL), 0);
        else
            world_run(w, 6100);
        struct join_group_response r = take_join(p.c[0], 9);
        assert_int_equal(r.members.cnt, 2);
        assert_int_equal(take_join(p.c[1], 9).error_code, 0);
        const char *as[] = {p.id[0], "one"};
        send_sync(p.c[0], p.id[0], r.generation_id, as, 1);
        send_sync(p.c[1], p.id[1], r.generation_id, NULL, 0);
        assert_int_equal(take_sync(p.c[0]).error_code, 0);
        assert_int_equal(take_sync(p.c[1]).error_code, 0);
    }
    close_world();
}

static void a_group_takes_no_more_members_than_it_may(void **state)
{
    open_groups(NULL, 0);
    w->conf->group_max_size = 2;
    struct pair p = open_pair();
    struct client *c = client_open(w);
    assert_int_equal(join_error(c, (struct join_opts){0}), KE_GROUP_FULL);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), 0);
    close_world();
}

/* Two static members "a" (leads) and "b". */
static struct pair open_static_pair(void)
{
    struct pair p;
    static const char *const name[] = {"a", "b"};
    for (uint32_t i = 0; i < 2; i++)
        p.c[i] = client_open(w);
    send_join(p.c[0], (struct join_opts){.instance = name[0]}); /* no MEMBER_ID_REQUIRED */
    world_run(w, 5);
    struct join_group_response r = take_join(p.c[0], 9);
    assert_int_equal(r.error_code, 0);
    p.id[0] = str(r.member_id);
    assert_memory_equal(p.id[0], "a-", 2);
    send_join(p.c[1], (struct join_opts){.instance = name[1]});
    send_join(p.c[0], (struct join_opts){.instance = name[0], .member = p.id[0]});
    r = take_join(p.c[0], 9);
    p.generation = r.generation_id;
    assert_string_equal(str(r.members.v[0].group_instance_id), "a");
    p.id[1] = str(take_join(p.c[1], 9).member_id);
    const char *as[] = {p.id[0], "one", p.id[1], "two"};
    send_sync_v(p.c[0], 5, "g", p.id[0], "a", p.generation, as, 2);
    send_sync_v(p.c[1], 5, "g", p.id[1], "b", p.generation, NULL, 0);
    assert_string_equal(str(take_sync(p.c[0]).assignment), "one");
    assert_string_equal(str(take_sync(p.c[1]).assignment), "two");
    return p;
}

static void a_static_member_comes_back_without_a_rebalance(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_static_pair();
    struct client *c = client_open(w);
    send_join(c, (struct join_opts){.instance = "b"});
    struct join_group_response r = take_join(c, 9);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.generation_id, p.generation);
    assert_string_not_equal(str(r.member_id), p.id[1]);
    assert_false(r.skip_assignment);
    const char *id = str(r.member_id);
    assert_state(c, "Stable");
    send_sync_v(c, 5, "g", id, "b", p.generation, NULL, 0);
    assert_string_equal(str(take_sync(c).assignment), "two");
    /* who still uses the old id is fenced, whatever it asks */
    assert_int_equal(heartbeat(p.c[1], p.id[1], "b", p.generation), KE_FENCED_INSTANCE);
    send_sync_v(p.c[1], 5, "g", p.id[1], "b", p.generation, NULL, 0);
    assert_int_equal(take_sync(p.c[1]).error_code, KE_FENCED_INSTANCE);
    send_join(p.c[1], (struct join_opts){.instance = "b", .member = p.id[1]});
    assert_int_equal(take_join(p.c[1], 9).error_code, KE_FENCED_INSTANCE);
    assert_int_equal(leave(p.c[1], p.id[1], "b"), KE_FENCED_INSTANCE);
    assert_int_equal(commit(p.c[1], (struct commit1){.member = p.id[1],
                                                     .instance = "b",
                                                     .generation = p.generation,
                                                     .offset = 1}),
                     KE_FENCED_INSTANCE);
    assert_int_equal(heartbeat(c, "x", "nobody", p.generation), KE_UNKNOWN_MEMBER);
    /* the leader: from version 9 on it is told to skip the assignment, before it must not lead */
    send_join(p.c[0], (struct join_opts){.instance = "a"});
    r = take_join(p.c[0], 9);
    assert_true(r.skip_assignment);
    assert_string_equal(str(r.leader), str(r.member_id));
    assert_int_equal(r.members.cnt, 2);
    send_join(p.c[0], (struct join_opts){.instance = "a", .version = 7});
    r = take_join(p.c[0], 7);
    assert_int_equal(r.error_code, 0);
    assert_string_not_equal(str(r.leader), str(r.member_id));
    assert_int_equal(r.members.cnt, 0);
    assert_state(c, "Stable");
    close_world();
}

static void a_static_member_that_says_something_else_rebalances(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_static_pair();
    struct client *c = client_open(w);
    send_join(c, (struct join_opts){.instance = "b", .protos = {"range", "other"}});
    assert_true(no_response(c));
    assert_int_equal(heartbeat(p.c[0], p.id[0], "a", p.generation), KE_REBALANCE);
    close_world();
}

/* One group of 128 KiB, named 1,000 times: as many answers as MANY_BYTES_MAX has room for, and those
 * that were out. */
static void a_large_group_is_described_as_often_as_memory_allows(void **state)
{
    enum { NAMES = 1000, META = 128 << 10 };
    open_groups(&(struct world_opts){.request_bytes = 400u << 20}, 0);
    struct client *a = client_open(w), *b = client_open(w);
    char *meta = malloc(META + 1);
    assert_non_null(meta);
    memset(meta, 'm', META);
    meta[META] = '\0';
    const char *id = enter(a, (struct join_opts){.protos = {"range", meta}});
    world_run(w, 5);
    struct join_group_response joined = take_join(a, 9);
    assert_int_equal(joined.error_code, 0);
    const char *const as[] = {id, "x"};
    send_sync(a, id, joined.generation_id, as, 1);
    assert_int_equal(take_sync(a).error_code, 0);
    free(meta);
    struct describe_groups_request in;
    struct describe_groups_response out;
    struct span names[NAMES];
    describe_groups_request_init(&in);
    for (int i = 0; i < NAMES; i++)
        names[i] = span_str("g");
    in.groups = (struct wire_spans){.v = names, .cnt = NAMES};
    REQUEST(b, 15, 5, describe_groups, &in);
    world_run(w, 2000);
    RESPONSE(b, 15, 5, describe_groups, &out);
    assert_int_equal(out.groups.cnt, NAMES);
    uint32_t good = 0;
    for (int i = 0; i < NAMES; i++) {
        const struct describe_groups_response_group *g = &out.groups.v[i];
        assert_true(span_eq_str(g->group_id, "g"));
        assert_true(g->error_code == 0 || g->error_code == KE_UNKNOWN);
        good += g->error_code == 0;
        assert_int_equal(g->members.cnt, g->error_code == 0);
    }
    assert_in_range(good, 64, 600); /* its arena grows in larger steps */
    close_world();
}

static void a_static_member_is_removed_by_its_instance_or_its_session(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_static_pair();
    assert_int_equal(leave(p.c[0], "", "nobody"), KE_UNKNOWN_MEMBER);
    assert_int_equal(leave(p.c[0], "", "b"), 0);
    assert_int_equal(heartbeat(p.c[0], p.id[0], "a", p.generation), KE_REBALANCE);
    world_run(w, 21000); /* its session ends while the group waits for it */
    assert_state(p.c[0], "Empty");
    assert_int_equal(STAT(group_members_expired), 1);
    assert_int_equal(STAT(groups_empty) + STAT(groups_stable) + STAT(groups_preparing), 1);
    close_world();
}

static void a_restart_finds_the_group_and_waits_a_session_for_its_members(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    int32_t gen = p.generation;
    char id[2][64];
    for (uint32_t i = 0; i < 2; i++)
        snprintf(id[i], sizeof(id[i]), "%s", p.id[i]);
    restart();
    struct client *c = client_open(w);
    struct describe_groups_response_group g = describe(c, 5, "g");
    assert_string_equal(str(g.group_state), "Stable");
    assert_string_equal(str(g.protocol_type), "consumer");
    assert_string_equal(str(g.protocol_data), "range");
    assert_int_equal(g.members.cnt, 2);
    assert_string_equal(str(g.members.v[1].member_id), id[1]);
    assert_string_equal(str(g.members.v[1].member_assignment), "two");
    assert_string_equal(str(g.members.v[1].member_metadata), "meta");
    assert_string_equal(str(g.members.v[1].client_id), "test");
    assert_int_equal(g.members.v[1].client_host.p[0], '/');
    world_run(w, 9000);
    assert_int_equal(heartbeat(c, id[0], NULL, gen), 0);
    send_sync(c, id[1], gen, NULL, 0);
    assert_string_equal(str(take_sync(c).assignment), "two");
    world_run(w, 9000);
    assert_int_equal(heartbeat(c, id[0], NULL, gen), 0);
    world_run(w, 2000);
    assert_int_equal(heartbeat(c, id[0], NULL, gen), KE_REBALANCE); /* the other one is gone */
    close_world();
}

static void an_empty_group_survives_with_its_generation(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    assert_int_equal(leave(p.c[0], p.id[0], NULL), 0);
    assert_int_equal(leave(p.c[1], p.id[1], NULL), 0);
    int32_t gen = p.generation;
    restart();
    struct client *c = client_open(w);
    assert_state(c, "Empty");
    (void)enter(c, (struct join_opts){0});
    world_run(w, 5);
    assert_true(take_join(c, 9).generation_id > gen);
    close_world();
}

static void requests_while_the_partition_is_read_are_told_so(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    assert_int_equal(commit(c, (struct commit1){.offset = 5}), 0);
    w->shard[0].plogs->hold = true; /* its reads are not answered */
    coord_reload(coord_part(w->shard[0].kafka->coord, (uint32_t)clog_partition(text("g"), 4)));
    world_run(w, 5);
    assert_int_equal(heartbeat(c, "x", NULL, 1), KE_LOADING);
    assert_int_equal(commit(c, (struct commit1){.offset = 6}), KE_LOADING);
    assert_int_equal(join_error(c, (struct join_opts){0}), KE_LOADING);
    assert_int_equal(fetch_group(c, 9, "g", true).error_code, KE_LOADING);
    assert_int_equal(describe(c, 5, "g").error_code, KE_LOADING);
    w->shard[0].plogs->hold = false;
    world_run(w, 5);
    assert_int_equal(committed(c, "g"), 5);
    close_world();
}

static void a_read_that_fails_is_tried_again(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    assert_int_equal(commit(c, (struct commit1){.offset = 5}), 0);
    int32_t part = clog_partition(text("g"), 4);
    world_plog(w, OFFSETS_TOPIC, part)->read_rc = -E_STORAGE;
    coord_reload(coord_part(w->shard[0].kafka->coord, (uint32_t)part));
    world_run(w, 10);
    assert_int_equal(heartbeat(c, "x", NULL, 1), KE_LOADING);
    world_plog(w, OFFSETS_TOPIC, part)->read_rc = 0;
    world_run(w, CLOG_RETRY_MS + 10);
    assert_int_equal(committed(c, "g"), 5);
    close_world();
}

static void a_closed_connection_leaves_nothing_parked(void **state)
{
    open_groups(NULL, DELAY_MS);
    struct client *c = client_open(w), *d = client_open(w);
    (void)enter(c, (struct join_opts){0});
    (void)enter(d, (struct join_opts){0});
    client_close(c);
    world_run(w, 10);
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.requests_inflight, 1); /* d's */
    world_run(w, 2 * DELAY_MS + 10);
    assert_int_equal(take_join(d, 9).error_code, 0);
    world_run(w, 11000); /* c's session: it is removed; d's too */
    assert_state(client_open(w), "Empty");
    close_world(); /* checks that no request is left */
}

static void groups_are_listed_by_state_and_type_and_deleted_when_empty(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    struct client *c = client_open(w);
    assert_int_equal(commit(c, (struct commit1){.group = "simple", .offset = 1}), 0);
    struct list_groups_request in;
    struct list_groups_response out;
    static const char *const states[] = {NULL, "stable", "EMPTY", "Dead"};
    static const uint32_t want[] = {2, 1, 1, 0};
    for (uint32_t i = 0; i < 4; i++) {
        struct span filter = text(states[i]);
        list_groups_request_init(&in);
        in.states_filter = (struct wire_spans){.v = &filter, .cnt = states[i] != NULL};
        REQUEST(c, 16, 5, list_groups, &in);
        world_run(w, 2);
        RESPONSE(c, 16, 5, list_groups, &out);
        assert_int_equal(out.error_code, 0);
        assert_int_equal(out.groups.cnt, want[i]);
        for (uint32_t k = 0; k < out.groups.cnt; k++)
            assert_string_equal(str(out.groups.v[k].group_type), "classic");
    }
    struct span types = text("consumer");
    list_groups_request_init(&in);
    in.types_filter = (struct wire_spans){.v = &types, .cnt = 1};
    REQUEST(c, 16, 5, list_groups, &in);
    world_run(w, 2);
    RESPONSE(c, 16, 5, list_groups, &out);
    assert_int_equal(out.groups.cnt, 0);

    struct delete_groups_request del;
    struct delete_groups_response gone;
    struct span names[] = {text("g"), text("simple"), text("none"), text("")};
    delete_groups_request_init(&del);
    del.groups_names = (struct wire_spans){.v = names, .cnt = 4};
    REQUEST(c, 42, 2, delete_groups, &del);
    world_run(w, 3);
    RESPONSE(c, 42, 2, delete_groups, &gone);
    assert_int_equal(gone.results.cnt, 4);
    assert_int_equal(gone.results.v[0].error_code, KE_NON_EMPTY_GROUP);
    assert_int_equal(gone.results.v[1].error_code, 0);
    assert_int_equal(gone.results.v[2].error_code, KE_GROUP_NOT_FOUND);
    assert_int_equal(gone.results.v[3].error_code, KE_GROUP_NOT_FOUND);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), 0);
    restart();
    c = client_open(w);
    assert_int_equal(committed(c, "simple"), -1);
    assert_string_equal(str(describe(c, 5, "simple").group_state), "Dead");
    assert_state(c, "Stable");
    close_world();
}

static void an_unknown_group_is_dead_or_not_found_from_version_6_on(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    struct describe_groups_response_group g = describe(c, 5, "none");
    assert_int_equal(g.error_code, 0);
    assert_string_equal(str(g.group_state), "Dead");
    g = describe(c, 6, "none");
    assert_int_equal(g.error_code, KE_GROUP_NOT_FOUND);
    assert_string_equal(str(g.error_message), "Group none not found.");
    close_world();
}

static void shards_send_requests_to_the_one_that_has_the_group(void **state)
{
    struct world_opts opts = {.shards = 4};
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    open_groups(&opts, 0);
    struct client *c[8];
    const char *id[8];
    for (uint32_t i = 0; i < 8; i++) {
        c[i] = client_open(w);
        id[i] = enter(c[i], (struct join_opts){.group = names[i]});
    }
    world_run(w, 10);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(take_join(c[i], 9).generation_id, 1);
        const char *as[] = {id[i], names[i]};
        send_sync_v(c[i], 5, names[i], id[i], NULL, 1, as, 1);
        assert_string_equal(str(take_sync(c[i]).assignment), names[i]);
        assert_int_equal(commit(c[i], (struct commit1){.group = names[i],
                                                       .member = id[i],
                                                       .generation = 1,
                                                       .offset = 100 + i}),
                         0);
    }
    struct list_groups_request in;
    struct list_groups_response out;
    list_groups_request_init(&in);
    REQUEST(c[0], 16, 5, list_groups, &in);
    world_run(w, 3);
    RESPONSE(c[0], 16, 5, list_groups, &out);
    assert_int_equal(out.groups.cnt, 8);
    uint32_t shards = 0;
    for (uint32_t i = 0; i < 4; i++)
        shards += w->shard[i].kafka->coord->groups.cnt > 0;
    assert_true(shards > 1);
    restart();
    struct client *d = client_open(w);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(committed(d, names[i]), 100 + i);
    close_world();
}

/* Members that join, sync, leave, stall and vanish at random: whenever all is quiet the group is
 * stable or empty, one generation is agreed on, and nothing is left parked. */
static void random_members_always_settle(void **state)
{
    uint64_t seed = test_seed(1);
    for (uint64_t round = 0; round < 6; round++) {
        struct test_rng r = {seed + round};
        struct world_opts opts = {.shards = 1 + (uint32_t)rng_below(&r, 4)};
        open_groups(&opts, 50);
        struct client *c[5];
        const char *id[5] = {0};
        for (uint32_t i = 0; i < 5; i++)
            c[i] = client_open(w);
        for (uint32_t step = 0; step < 150; step++) {
            uint32_t i = (uint32_t)rng_below(&r, 5);
            switch (rng_below(&r, 8)) {
            case 0:
                client_close(c[i]);
                c[i] = client_open(w);
                id[i] = NULL;
                break;
            case 1:
                if (id[i] != NULL)
                    send_sync(c[i], id[i], 1 + (int32_t)rng_below(&r, 9), NULL, 0);
                break;
            case 2:
                world_run(w, (uint32_t)rng_below(&r, 4000));
                break;
            case 3:
                w->shard[0].plogs->reverse = !w->shard[0].plogs->reverse;
                break;
            default: {
                static const char *const metas[] = {"m1", "m2"};
                struct span f;
                while (client_take(c[i], &f)) {
                    struct wire_reader rd;
                    int32_t corr;
                    struct join_group_response out;
                    wire_reader_init(&rd, f);
                    if (wire_response_header_read(&rd, wire_api_find(11), 9, &corr) == 0 &&
                        corr == 1009 && join_group_response_read(&rd, 9, &arena, &out) == 0 &&
                        out.error_code == KE_MEMBER_ID_REQUIRED)
                        id[i] = str(out.member_id);
                }
                send_join(c[i],
                          (struct join_opts){.member = id[i],
                                             .protos = {"range", metas[rng_below(&r, 2)]},
                                             .instance = rng_below(&r, 6) == 0 ? "static" : NULL});
                break;
            }
            }
        }
        for (uint32_t i = 0; i < 5; i++)
            client_close(c[i]);
        world_run(w, 60000);
        assert_state(client_open(w), "Empty");
        close_world(); /* checks that no request or byte is left */
    }
}

TEST_MAIN(TEST(a_group_id_hashes_as_java_does),
          TEST(find_coordinator_names_this_broker_once_there_is_a_topic),
          TEST(a_join_is_checked_before_anything_else),
          TEST(a_new_member_is_told_its_id_first_from_version_4_on),
          TEST(the_first_join_waits_for_others_and_longer_while_they_come),
          TEST(members_vote_for_a_protocol_that_all_support),
          TEST(assignments_are_handed_out_when_they_are_durable),
          TEST(a_failed_append_fails_the_sync_and_the_group_rebalances),
          TEST(syncs_and_heartbeats_are_checked),
          TEST(who_is_not_heard_of_is_removed_and_the_rest_rebalances),
          TEST(who_does_not_rejoin_in_time_is_left_behind),
          TEST(who_never_syncs_is_removed_after_the_rebalance_timeout),
          TEST(a_follower_that_says_the_same_again_causes_no_rebalance),
          TEST(leaving_rebalances_and_each_member_gets_its_own_answer),
          TEST(a_pending_member_holds_the_rebalance_until_it_leaves_or_is_late),
          TEST(a_group_takes_no_more_members_than_it_may),
          TEST(a_static_member_comes_back_without_a_rebalance),
          TEST(a_static_member_that_says_something_else_rebalances),
          TEST(a_large_group_is_described_as_often_as_memory_allows),
          TEST(a_static_member_is_removed_by_its_instance_or_its_session),
          TEST(a_restart_finds_the_group_and_waits_a_session_for_its_members),
          TEST(an_empty_group_survives_with_its_generation),
          TEST(requests_while_the_partition_is_read_are_told_so),
          TEST(a_read_that_fails_is_tried_again), TEST(a_closed_connection_leaves_nothing_parked),
          TEST(groups_are_listed_by_state_and_type_and_deleted_when_empty),
          TEST(an_unknown_group_is_dead_or_not_found_from_version_6_on),
          TEST(shards_send_requests_to_the_one_that_has_the_group),
          TEST(random_members_always_settle))
