/* Committed offsets: who may commit what, what is fetched back, what a restart keeps, what expires.
 */
#include "tests/unit/dataplane/kafka/group_test.h"

static void commits_are_checked_as_kafka_does(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    struct client *c = client_open(w);
    int32_t gen = p.generation;
    /* the group is missing */
    assert_int_equal(commit(c, (struct commit1){.group = "none", .generation = 1, .member = "x"}),
                     KE_GROUP_NOT_FOUND);
    assert_int_equal(
        commit(c, (struct commit1){.version = 8, .group = "none", .generation = 1, .member = "x"}),
        KE_ILLEGAL_GENERATION);
    assert_int_equal(commit(c, (struct commit1){.group = "none", .offset = 7}), 0);
    assert_int_equal(committed(c, "none"), 7);
    assert_int_equal(commit(c, (struct commit1){.group = "", .offset = 8}), 0); /* history */
    assert_int_equal(committed(c, ""), 8);
    /* it has members */
    assert_int_equal(commit(c, (struct commit1){.offset = 1}), KE_UNKNOWN_MEMBER);
    assert_int_equal(commit(c, (struct commit1){.generation = gen, .member = "x"}),
                     KE_UNKNOWN_MEMBER);
    assert_int_equal(commit(c, (struct commit1){.generation = gen + 1, .member = p.id[0]}),
                     KE_ILLEGAL_GENERATION);
    assert_int_equal(
        commit(c, (struct commit1){.generation = gen, .member = p.id[0], .offset = 42}), 0);
    assert_int_equal(committed(c, "g"), 42);
    /* a rebalance: commits are good while joining, not while syncing */
    send_join(p.c[0], (struct join_opts){.member = p.id[0]});
    assert_int_equal(
        commit(c, (struct commit1){.generation = gen, .member = p.id[1], .offset = 43}), 0);
    send_join(p.c[1], (struct join_opts){.member = p.id[1]});
    gen = take_join(p.c[0], 9).generation_id;
    assert_int_equal(
        commit(c, (struct commit1){.generation = gen, .member = p.id[0], .offset = 44}),
        KE_REBALANCE);
    assert_int_equal(committed(c, "g"), 43);
    close_world();
}

static void partitions_are_refused_one_by_one(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    static char big[COMMIT_METADATA_MAX + 2];
    memset(big, 'x', sizeof(big) - 1);
    assert_int_equal(commit(c, (struct commit1){.metadata = big}), KE_METADATA_TOO_LARGE);
    assert_int_equal(commit(c, (struct commit1){.topic = "none"}), KE_UNKNOWN_TOPIC);
    assert_int_equal(commit(c, (struct commit1){.partition = 9}), KE_UNKNOWN_TOPIC);
    assert_int_equal(commit(c, (struct commit1){.partition = -1}), KE_UNKNOWN_TOPIC);
    assert_int_equal(commit(c, (struct commit1){.topic = "none", .version = 10}),
                     KE_UNKNOWN_TOPIC_ID);
    big[COMMIT_METADATA_MAX] = '\0';
    assert_int_equal(commit(c, (struct commit1){.metadata = big, .version = 10, .offset = 3}), 0);
    struct offset_fetch_response_group g = fetch_group(c, 10, "g", false);
    assert_int_equal(g.topics.v[0].partitions.v[0].committed_offset, 3);
    assert_int_equal(g.topics.v[0].partitions.v[0].metadata.len, COMMIT_METADATA_MAX);
    close_world();
}

static void a_commit_is_acknowledged_and_seen_when_it_is_durable(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w), *d = client_open(w);
    struct plog *log = world_plog(w, OFFSETS_TOPIC, clog_partition(text("g"), 4));
    log->hold_flush = true;
    send_commit(c, (struct commit1){.offset = 9});
    world_run(w, 20);
    assert_true(no_response(c));
    assert_int_equal(committed(d, "g"), -1);
    fake_plog_flush(log);
    world_run(w, 3);
    assert_int_equal(take_commit(c, 9), 0);
    assert_int_equal(committed(d, "g"), 9);
    close_world();
}

static void append_errors_become_errors_of_the_coordinator(void **state)
{
    static const struct {
        int rc;
        int16_t want;
    } cases[] = {{-E_UNKNOWN_TOPIC, KE_NOT_AVAILABLE}, {-E_TIMED_OUT, KE_NOT_AVAILABLE},
                 {-E_NOT_OWNER, KE_NOT_COORDINATOR},   {-E_READ_ONLY, KE_NOT_COORDINATOR},
                 {-E_BATCH_TOO_LARGE, KE_COMMIT_SIZE}, {-ENOMEM, KE_UNKNOWN}};
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    struct plog *log = world_plog(w, OFFSETS_TOPIC, clog_partition(text("g"), 4));
    assert_int_equal(commit(c, (struct commit1){.offset = 1}), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        log->append_rc = cases[i].rc;
        assert_int_equal(commit(c, (struct commit1){.offset = 2}), cases[i].want);
        assert_int_equal(committed(c, "g"), 1);
    }
    log->append_rc = 0;
    assert_int_equal(commit(c, (struct commit1){.offset = 3}), 0);
    assert_int_equal(committed(c, "g"), 3);
    close_world();
}

static void what_was_never_committed_is_minus_one_and_no_error(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    struct offset_fetch_response_group g = fetch_group(c, 9, "none", false);
    assert_int_equal(g.error_code, 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(g.topics.v[0].partitions.v[i].committed_offset, -1);
        assert_int_equal(g.topics.v[0].partitions.v[i].error_code, 0);
        assert_non_null(g.topics.v[0].partitions.v[i].metadata.p);
        assert_int_equal(g.topics.v[0].partitions.v[i].metadata.len, 0);
    }
    assert_int_equal(fetch_group(c, 9, "none", true).topics.cnt, 0);
    close_world();
}

static void every_version_of_offset_fetch_says_the_same(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    assert_int_equal(commit(c, (struct commit1){.offset = 11, .metadata = "m"}), 0);
    assert_int_equal(commit(c, (struct commit1){.offset = 12, .partition = 1}), 0);
    for (int16_t v = 1; v <= 7; v++) {
        for (int all = 0; all <= (v >= 2); all++) {
            struct offset_fetch_request in;
            struct offset_fetch_request_topic t;
            struct offset_fetch_response out;
            int32_t parts[] = {1, 0};
            offset_fetch_request_init(&in);
            offset_fetch_request_topic_init(&t);
            in.group_id = text("g");
            in.topics.v = &t;
            in.topics.cnt = !all;
            in.topics.null = all;
            t.name = text("t");
            t.partition_indexes = (struct wire_i32s){.v = parts, .cnt = 2};
            REQUEST(c, 9, v, offset_fetch, &in);
            world_run(w, 2);
            RESPONSE(c, 9, v, offset_fetch, &out);
            assert_int_equal(out.error_code, 0);
            assert_int_equal(out.topics.cnt, 1);
            assert_int_equal(out.topics.v[0].partitions.cnt, 2);
            struct offset_fetch_response_partition p = out.topics.v[0].partitions.v[all ? 0 : 1];
            assert_int_equal(p.partition_index, 0);
            assert_int_equal(p.committed_offset, 11);
            assert_string_equal(str(p.metadata), "m");
            assert_int_equal(p.committed_leader_epoch, v >= 5 ? 3 : -1);
        }
    }
    for (int16_t v = 8; v <= 10; v++) {
        struct offset_fetch_response_group g = fetch_group(c, v, "g", true);
        assert_int_equal(g.topics.cnt, 1);
        assert_int_equal(g.topics.v[0].partitions.cnt, 2);
        assert_int_equal(g.topics.v[0].partitions.v[1].committed_offset, 12);
    }
    close_world();
}

static void a_restart_keeps_every_committed_offset(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    for (int64_t i = 0; i < 40; i++)
        assert_int_equal(commit(c, (struct commit1){.offset = i, .metadata = "meta"}), 0);
    assert_int_equal(commit(c, (struct commit1){.group = "other", .offset = 77}), 0);
    restart();
    c = client_open(w);
    assert_int_equal(committed(c, "g"), 39);
    assert_int_equal(committed(c, "other"), 77);
    struct offset_fetch_response_group g = fetch_group(c, 9, "g", true);
    assert_string_equal(str(g.topics.v[0].partitions.v[0].metadata), "meta");
    assert_int_equal(g.topics.v[0].partitions.v[0].committed_leader_epoch, 3);
    assert_string_equal(str(describe(c, 5, "g").group_state), "Empty");
    assert_int_equal(commit(c, (struct commit1){.offset = 100}), 0);
    assert_int_equal(committed(c, "g"), 100);
    close_world();
}

static void damaged_records_cost_themselves_only(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    assert_int_equal(commit(c, (struct commit1){.offset = 5}), 0);
    struct plog *log = world_plog(w, OFFSETS_TOPIC, clog_partition(text("g"), 4));
    struct span junk = make_batch(3, 40, NULL); /* records without a key */
    fake_plog_put(log, junk);
    free((void *)(uintptr_t)junk.p);
    assert_int_equal(commit(c, (struct commit1){.offset = 6}), 0);
    restart();
    assert_int_equal(committed(client_open(w), "g"), 6);
    close_world();
}

static struct offset_delete_response delete_offsets(struct client *c, const char *group)
{
    struct offset_delete_request in;
    struct offset_delete_request_topic t;
    struct offset_delete_request_partition p[2];
    struct offset_delete_response out;
    offset_delete_request_init(&in);
    offset_delete_request_topic_init(&t);
    for (int32_t i = 0; i < 2; i++) {
        offset_delete_request_partition_init(&p[i]);
        p[i].partition_index = i * 9;
    }
    in.group_id = text(group);
    in.topics.v = &t;
    in.topics.cnt = 1;
    t.name = text("t");
    t.partitions.v = p;
    t.partitions.cnt = 2;
    REQUEST(c, 47, 0, offset_delete, &in);
    world_run(w, 3);
    RESPONSE(c, 47, 0, offset_delete, &out);
    return out;
}

static void offsets_are_deleted_unless_somebody_subscribes(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    assert_int_equal(delete_offsets(c, "g").error_code, KE_GROUP_NOT_FOUND);
    assert_int_equal(commit(c, (struct commit1){.offset = 5}), 0);
    assert_int_equal(commit(c, (struct commit1){.offset = 6, .partition = 1}), 0);
    struct offset_delete_response r = delete_offsets(c, "g");
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.topics.v[0].partitions.v[0].error_code, 0);
    assert_int_equal(r.topics.v[0].partitions.v[1].error_code, KE_UNKNOWN_TOPIC); /* no t-9 */
    assert_int_equal(committed(c, "g"), -1);
    struct pair p = open_pair(); /* its metadata cannot be read: it may subscribe to anything */
    r = delete_offsets(c, "g");
    assert_int_equal(r.topics.v[0].partitions.v[0].error_code, KE_SUBSCRIBED);
    assert_int_equal(leave(p.c[0], p.id[0], NULL), 0);
    assert_int_equal(leave(p.c[1], p.id[1], NULL), 0);
    restart();
    c = client_open(w);
    struct offset_fetch_response_group g = fetch_group(c, 9, "g", true);
    assert_int_equal(g.topics.v[0].partitions.cnt, 1);
    assert_int_equal(g.topics.v[0].partitions.v[0].committed_offset, 6);
    close_world();
}

static void a_deleted_topic_takes_its_offsets_along(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    world_topic(w, "u", NULL);
    world_run(w, 2);
    assert_int_equal(commit(c, (struct commit1){.offset = 5}), 0);
    assert_int_equal(commit(c, (struct commit1){.offset = 6, .topic = "u"}), 0);
    world_topic_delete(w, "u");
    world_run(w, 5);
    struct offset_fetch_response_group g = fetch_group(c, 9, "g", true);
    assert_int_equal(g.topics.cnt, 1);
    assert_string_equal(str(g.topics.v[0].name), "t");
    world_topic_delete(w, "t"); /* and the group with the last one */
    world_run(w, 5);
    assert_string_equal(str(describe(c, 5, "g").group_state), "Dead");
    close_world();
}

static void move_clock(int64_t ms)
{
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        w->shard[i].wall_ms += ms;
        offsets_expire(w->shard[i].kafka->coord);
    }
    world_run(w, 5);
}

static void offsets_expire_when_nobody_used_them_for_long(void **state)
{
    const int64_t day = 86400000;
    open_groups(NULL, 0);
    struct pair p = open_pair();
    struct client *c = client_open(w);
    assert_int_equal(
        commit(c, (struct commit1){.generation = p.generation, .member = p.id[0], .offset = 5}), 0);
    assert_int_equal(commit(c, (struct commit1){.group = "simple", .offset = 6}), 0);
    assert_int_equal(
        commit(c,
               (struct commit1){.group = "short", .version = 4, .offset = 7, .retention_ms = day}),
        0);
    move_clock(day);
    assert_int_equal(committed(c, "short"), -1); /* as its commit said */
    assert_int_equal(committed(c, "simple"), 6);
    move_clock(6 * day - 1000);
    assert_int_equal(committed(c, "simple"), 6);
    move_clock(1000);
    assert_int_equal(committed(c, "simple"), -1); /* 7 days after the commit */
    assert_int_equal(STAT(offset_commits), 3);
    assert_int_equal(STAT(offsets_expired), 2);
    assert_string_equal(str(describe(c, 5, "simple").group_state), "Dead");
    assert_int_equal(committed(c, "g"), 5); /* it lives */
    assert_int_equal(leave(p.c[0], p.id[0], NULL), 0);
    assert_int_equal(leave(p.c[1], p.id[1], NULL), 0);
    move_clock(7 * day - 1000);
    assert_int_equal(committed(c, "g"), 5);
    move_clock(1000);
    assert_int_equal(committed(c, "g"), -1); /* 7 days after it became empty */
    assert_state(c, "Dead");
    restart();
    c = client_open(w);
    assert_int_equal(committed(c, "g"), -1);
    assert_int_equal(committed(c, "short"), -1);
    assert_state(c, "Dead");
    close_world();
}

static void a_large_commit_is_cut_into_batches(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    struct offset_commit_request in;
    struct offset_commit_request_topic t;
    struct offset_commit_response out;
    enum { CNT = 600 };
    static struct offset_commit_request_partition p[CNT];
    static char meta[4001];
    memset(meta, 'm', sizeof(meta) - 1);
    offset_commit_request_init(&in);
    offset_commit_request_topic_init(&t);
    in.group_id = text("g");
    in.topics.v = &t;
    in.topics.cnt = 1;
    t.name = text("t");
    t.partitions.v = p;
    t.partitions.cnt = CNT;
    for (uint32_t i = 0; i < CNT; i++) {
        offset_commit_request_partition_init(&p[i]);
        p[i].partition_index = (int32_t)(i % 4);
        p[i].committed_offset = i;
        p[i].committed_metadata = text(meta);
    }
    REQUEST(c, 8, 9, offset_commit, &in);
    world_run(w, 10);
    RESPONSE(c, 8, 9, offset_commit, &out);
    assert_int_equal(out.topics.v[0].partitions.cnt, CNT);
    assert_int_equal(out.topics.v[0].partitions.v[CNT - 1].error_code, 0);
    struct plog *log = world_plog(w, OFFSETS_TOPIC, clog_partition(text("g"), 4));
    assert_true(log->batch_cnt >= 3);
    for (uint32_t i = 0; i < log->batch_cnt; i++)
        assert_true(log->batch[i].len <= CLOG_BATCH_MAX);
    restart();
    assert_int_equal(committed(client_open(w), "g"), CNT - 4);
    close_world();
}

static void when_the_offsets_topic_goes_its_groups_go(void **state)
{
    open_groups(NULL, DELAY_MS);
    struct client *c = client_open(w), *d = client_open(w);
    assert_int_equal(commit(c, (struct commit1){.group = "simple", .offset = 6}), 0);
    (void)enter(d, (struct join_opts){0});
    world_topic_delete(w, OFFSETS_TOPIC);
    world_run(w, 5);
    assert_int_equal(take_join(d, 9).error_code, KE_NOT_COORDINATOR);
    assert_int_equal(commit(c, (struct commit1){.group = "simple"}), KE_NOT_AVAILABLE);
    world_topic(w, OFFSETS_TOPIC, NULL);
    world_run(w, 5);
    assert_int_equal(committed(c, "simple"), -1);
    close_world();
}

static void a_commit_keeps_a_member_in_its_group_and_a_fetch_does_not(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    for (int i = 0; i < 4; i++) { /* sessions are 10 s */
        struct fetch_n f;
        struct fetch_response out;
        world_run(w, 3000);
        assert_int_equal(
            commit(p.c[0],
                   (struct commit1){.member = p.id[0], .generation = p.generation, .offset = i}),
            0);
        REQUEST(p.c[1], 1, 12, fetch, fetch_n(&f, "t", 1, 0, 1));
        world_run(w, 2);
        RESPONSE(p.c[1], 1, 12, fetch, &out);
    }
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), KE_REBALANCE);
    assert_int_equal(heartbeat(p.c[1], p.id[1], NULL, p.generation), KE_UNKNOWN_MEMBER);
    assert_int_equal(committed(p.c[0], "g"), 3);
    close_world();
}

/* Connect has a format of its own: what members say is handed on, and only of "consumer" read. */
static void what_members_say_of_themselves_is_opaque(void **state)
{
    static const char *const said = "\xff\x80\x01not a subscription";
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    struct join_opts o = {.type = "connect", .protos = {"sessioned", said}};
    o.member = enter(c, o);
    world_run(w, 5);
    struct join_group_response r = take_join(c, 9);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.members.cnt, 1);
    assert_string_equal(str(r.members.v[0].metadata), said);
    const char *as[] = {o.member, "\x80\xfenot an assignment"};
    send_sync_v(c, 4, "g", o.member, NULL, r.generation_id, as, 1);
    struct sync_group_response s;
    RESPONSE(c, 14, 4, sync_group, &s);
    assert_int_equal(s.error_code, 0);
    assert_string_equal(str(s.assignment), as[1]);
    struct describe_groups_response_group g = describe(c, 5, "g");
    assert_string_equal(str(g.group_state), "Stable");
    assert_string_equal(str(g.protocol_type), "connect");
    assert_string_equal(str(g.members.v[0].member_metadata), said);
    close_world();
}

TEST_MAIN(TEST(a_commit_keeps_a_member_in_its_group_and_a_fetch_does_not),
          TEST(what_members_say_of_themselves_is_opaque), TEST(commits_are_checked_as_kafka_does),
          TEST(partitions_are_refused_one_by_one),
          TEST(a_commit_is_acknowledged_and_seen_when_it_is_durable),
          TEST(append_errors_become_errors_of_the_coordinator),
          TEST(what_was_never_committed_is_minus_one_and_no_error),
          TEST(every_version_of_offset_fetch_says_the_same),
          TEST(a_restart_keeps_every_committed_offset), TEST(damaged_records_cost_themselves_only),
          TEST(offsets_are_deleted_unless_somebody_subscribes),
          TEST(a_deleted_topic_takes_its_offsets_along),
          TEST(offsets_expire_when_nobody_used_them_for_long),
          TEST(a_large_commit_is_cut_into_batches), TEST(when_the_offsets_topic_goes_its_groups_go))
