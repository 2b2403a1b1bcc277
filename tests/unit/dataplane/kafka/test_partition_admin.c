/* test_partition_admin.c - APIs that ask the owners of partitions (OffsetForLeaderEpoch,
 * DeleteRecords, DescribeLogDirs, DescribeProducers), those that one broker can answer from what it
 * is, and the forwarding of configuration changes. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum {
    DELETE_RECORDS = 21,
    OFFSET_FOR_LEADER_EPOCH = 23,
    ALTER_CONFIGS = 33,
    DESCRIBE_LOG_DIRS = 35,
    ELECT_LEADERS = 43,
    INCREMENTAL_ALTER_CONFIGS = 44,
    LIST_PARTITION_REASSIGNMENTS = 46,
    DESCRIBE_PRODUCERS = 61,
    LIST_CONFIG_RESOURCES = 74,
};

static void fill_log(const char *topic, int32_t partition, uint32_t records)
{
    struct span b = make_batch(records, 10, NULL);
    fake_plog_put(world_plog(w, topic, partition), b);
    free((void *)(uintptr_t)b.p);
}

static void offset_for_leader_epoch_asks_every_owner_and_checks_epochs(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 3});
    world_topic(w, "t", NULL);
    for (int32_t p = 0; p < WORLD_TOPIC_PARTITIONS; p++) {
        fill_log("t", p, (uint32_t)p + 1);
        world_plog(w, "t", p)->leader_epoch = 5;
    }
    static const struct {
        int32_t partition, current, epoch;
        int16_t error;
        int32_t ret_epoch;
        int64_t end;
    } rows[] = {
        {0, -1, 5, 0, 5, 1},    {1, 5, 5, 0, 5, 2},     {2, -1, 6, 0, -1, -1},
        {3, 4, 5, 74, -1, -1},  {3, 6, 5, 75, -1, -1},  {3, -1, -1, 0, -1, -1},
        {99, -1, 5, 3, -1, -1}, {-1, -1, 5, 3, -1, -1},
    };
    enum { N = sizeof(rows) / sizeof(rows[0]) };
    struct client *c = client_open(w);
    for (int16_t v = 2; v <= 4; v++) {
        struct offset_for_leader_epoch_request m;
        struct offset_for_leader_epoch_request_topic t[2];
        struct offset_for_leader_epoch_request_partition p[N];
        struct offset_for_leader_epoch_response resp;
        offset_for_leader_epoch_request_init(&m);
        for (int i = 0; i < 2; i++) {
            offset_for_leader_epoch_request_topic_init(&t[i]);
            t[i].topic = span_str(i == 0 ? "t" : "absent");
            t[i].partitions.v = p;
            t[i].partitions.cnt = i == 0 ? N : 1;
        }
        for (int i = 0; i < N; i++) {
            offset_for_leader_epoch_request_partition_init(&p[i]);
            p[i].partition = rows[i].partition;
            p[i].current_leader_epoch = rows[i].current;
            p[i].leader_epoch = rows[i].epoch;
        }
        m.topics.v = t;
        m.topics.cnt = 2;
        REQUEST(c, OFFSET_FOR_LEADER_EPOCH, v, offset_for_leader_epoch, &m);
        world_run(w, 4);
        RESPONSE(c, OFFSET_FOR_LEADER_EPOCH, v, offset_for_leader_epoch, &resp);
        assert_int_equal(resp.topics.cnt, 2);
        assert_int_equal(resp.topics.v[1].partitions.v[0].error_code, 3);
        for (int i = 0; i < N; i++) {
            const struct offset_for_leader_epoch_response_partition *o =
                &resp.topics.v[0].partitions.v[i];
            assert_int_equal(o->partition, rows[i].partition);
            assert_int_equal(o->error_code, rows[i].error);
            assert_int_equal(o->leader_epoch, rows[i].ret_epoch);
            assert_int_equal(o->end_offset, rows[i].end);
        }
    }
    client_close(c);
    close_world();
}

static void delete_records_moves_the_log_start_and_says_where_it_is(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    world_topic(w, "compacted", "cleanup.policy=compact");
    world_topic(w, "both", "cleanup.policy=compact,delete");
    for (int32_t p = 0; p < WORLD_TOPIC_PARTITIONS; p++)
        fill_log("t", p, 10);
    world_plog(w, "t", 3)->read_only = true;
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 2; v++) {
        struct delete_records_request m;
        struct delete_records_request_topic t[3];
        struct delete_records_request_partition p[6];
        struct delete_records_response resp;
        static const struct {
            int32_t partition;
            int64_t offset;
            int16_t error;
            int64_t low;
        } rows[6] = {{0, 4, 0, 4},   {1, -1, 0, 10}, {2, 11, 1, -1},
                     {2, -2, 1, -1}, {3, 4, 56, -1}, {9, 0, 3, -1}};
        delete_records_request_init(&m);
        for (int i = 0; i < 3; i++) {
            delete_records_request_topic_init(&t[i]);
            t[i].name = span_str(i == 0 ? "t" : i == 1 ? "compacted" : "both");
            t[i].partitions.v = p;
            t[i].partitions.cnt = i == 0 ? 6 : 1;
        }
        for (int i = 0; i < 6; i++) {
            delete_records_request_partition_init(&p[i]);
            p[i].partition_index = rows[i].partition;
            p[i].offset = rows[i].offset;
        }
        m.topics.v = t;
        m.topics.cnt = 3;
        REQUEST(c, DELETE_RECORDS, v, delete_records, &m);
        world_run(w, 4);
        RESPONSE(c, DELETE_RECORDS, v, delete_records, &resp);
        assert_int_equal(resp.topics.cnt, 3);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(resp.topics.v[0].partitions.v[i].partition_index, rows[i].partition);
            assert_int_equal(resp.topics.v[0].partitions.v[i].error_code, rows[i].error);
            assert_int_equal(resp.topics.v[0].partitions.v[i].low_watermark, rows[i].low);
        }
        assert_int_equal(resp.topics.v[1].partitions.v[0].error_code, 44);
        assert_int_equal(resp.topics.v[2].partitions.v[0].error_code, 1); /* allowed; it is empty */
    }
    assert_int_equal(world_plog(w, "t", 0)->log_start, 4);
    client_close(c);
    close_world();
}

static void describe_log_dirs_groups_sizes_by_directory_and_topic(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 3});
    world_topic(w, "a", NULL);
    world_topic(w, "b", NULL);
    fill_log("a", 3, 10);
    struct client *c = client_open(w);
    for (int16_t v = 1; v <= 5; v++) {
        struct describe_log_dirs_request m;
        struct describe_log_dirs_request_topic t[2];
        int32_t ids[3] = {1, 3, 77};
        struct describe_log_dirs_response resp;
        describe_log_dirs_request_init(&m);
        m.topics.null = true;
        REQUEST(c, DESCRIBE_LOG_DIRS, v, describe_log_dirs, &m);
        world_run(w, 4);
        RESPONSE(c, DESCRIBE_LOG_DIRS, v, describe_log_dirs, &resp);
        assert_int_equal(resp.results.cnt, 2);
        for (int d = 0; d < 2; d++) {
            assert_true(span_eq_str(resp.results.v[d].log_dir, d == 0 ? "/a" : "/b"));
            assert_int_equal(resp.results.v[d].topics.cnt, 2);
            assert_true(span_eq_str(resp.results.v[d].topics.v[1].name, "b"));
            for (int i = 0; i < 2; i++) {
                const struct describe_log_dirs_response_topic *o = &resp.results.v[d].topics.v[i];
                assert_int_equal(o->partitions.cnt, 2);
                assert_int_equal(o->partitions.v[1].partition_index, 2 + d);
            }
            if (v >= 4) {
                assert_int_equal(resp.results.v[d].total_bytes, 1000);
                assert_int_equal(resp.results.v[d].usable_bytes, 10);
            }
        }
        assert_true(resp.results.v[1].topics.v[0].partitions.v[1].partition_size > 100);
        assert_int_equal(resp.results.v[1].topics.v[0].partitions.v[0].partition_size, 0);
        m.topics.null = false;
        m.topics.v = t;
        m.topics.cnt = 2;
        for (int i = 0; i < 2; i++) {
            describe_log_dirs_request_topic_init(&t[i]);
            t[i].topic = span_str(i == 0 ? "a" : "absent");
            t[i].partitions.v = ids;
            t[i].partitions.cnt = 3;
        }
        REQUEST(c, DESCRIBE_LOG_DIRS, v, describe_log_dirs, &m);
        world_run(w, 4);
        RESPONSE(c, DESCRIBE_LOG_DIRS, v, describe_log_dirs, &resp);
        assert_int_equal(resp.results.v[0].topics.cnt, 0);
        assert_int_equal(resp.results.v[1].topics.cnt, 1);
        assert_int_equal(resp.results.v[1].topics.v[0].partitions.cnt, 2);
    }
    client_close(c);
    close_world();
}

static void describe_producers_asks_again_when_there_are_many(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    world_plog(w, "t", 0)->producer_cnt = 3;
    world_plog(w, "t", 1)->producer_cnt = 1000;
    struct client *c = client_open(w);
    struct describe_producers_request m;
    struct describe_producers_request_topic t[2];
    int32_t ids[4] = {0, 1, 2, 50};
    struct describe_producers_response resp;
    describe_producers_request_init(&m);
    for (int i = 0; i < 2; i++) {
        describe_producers_request_topic_init(&t[i]);
        t[i].name = span_str(i == 0 ? "t" : "absent");
        t[i].partition_indexes.v = ids;
        t[i].partition_indexes.cnt = i == 0 ? 4 : 1;
    }
    m.topics.v = t;
    m.topics.cnt = 2;
    REQUEST(c, DESCRIBE_PRODUCERS, 0, describe_producers, &m);
    world_run(w, 8);
    RESPONSE(c, DESCRIBE_PRODUCERS, 0, describe_producers, &resp);
    const struct describe_producers_response_partition *p = resp.topics.v[0].partitions.v;
    assert_int_equal(p[0].active_producers.cnt, 3);
    assert_int_equal(p[0].active_producers.v[2].producer_id, 1002);
    assert_int_equal(p[0].active_producers.v[2].producer_epoch, 3);
    assert_int_equal(p[0].active_producers.v[2].last_sequence, 41);
    assert_int_equal(p[0].active_producers.v[2].current_txn_start_offset, -1);
    assert_int_equal(p[1].active_producers.cnt, 1000);
    assert_int_equal(p[1].active_producers.v[999].producer_id, 1999);
    assert_int_equal(p[2].active_producers.cnt, 0);
    assert_int_equal(p[2].error_code, 0);
    assert_int_equal(p[3].error_code, 3);
    assert_int_equal(resp.topics.v[1].partitions.v[0].error_code, 3);
    client_close(c);
    close_world();
}

static void one_broker_elects_nothing_and_moves_nothing(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 2; v++) {
        struct elect_leaders_request m;
        struct elect_leaders_request_topic t;
        int32_t ids[2] = {0, 99};
        struct elect_leaders_response resp;
        elect_leaders_request_init(&m);
        elect_leaders_request_topic_init(&t);
        t.topic = span_str("t");
        t.partitions.v = ids;
        t.partitions.cnt = 2;
        m.topic_partitions.v = &t;
        m.topic_partitions.cnt = 1;
        REQUEST(c, ELECT_LEADERS, v, elect_leaders, &m);
        m.topic_partitions.null = true;
        m.topic_partitions.cnt = 0;
        REQUEST(c, ELECT_LEADERS, v, elect_leaders, &m);
        m.election_type = 9;
        REQUEST(c, ELECT_LEADERS, v, elect_leaders, &m);
        world_run(w, 3);
        RESPONSE(c, ELECT_LEADERS, v, elect_leaders, &resp);
        assert_int_equal(resp.replica_election_results.v[0].partition_result.v[0].error_code, 84);
        assert_int_equal(resp.replica_election_results.v[0].partition_result.v[1].error_code, 3);
        RESPONSE(c, ELECT_LEADERS, v, elect_leaders, &resp);
        assert_int_equal(resp.replica_election_results.cnt, 0);
        RESPONSE(c, ELECT_LEADERS, v, elect_leaders, &resp);
        assert_int_equal(resp.error_code, v >= 1 ? 42 : 0);
    }
    struct list_partition_reassignments_request m;
    struct list_partition_reassignments_response resp;
    list_partition_reassignments_request_init(&m);
    REQUEST(c, LIST_PARTITION_REASSIGNMENTS, 0, list_partition_reassignments, &m);
    world_run(w, 3);
    RESPONSE(c, LIST_PARTITION_REASSIGNMENTS, 0, list_partition_reassignments, &resp);
    assert_int_equal(resp.error_code, 0);
    assert_int_equal(resp.topics.cnt, 0);
    client_close(c);
    close_world();
}

static void config_resources_are_what_describe_configs_describes(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "a", NULL);
    world_topic(w, "b", NULL);
    world_group_config(w, "g", "consumer.session.timeout.ms", "50000");
    struct client *c = client_open(w);
    struct list_config_resources_request m;
    struct list_config_resources_response resp;
    static const struct {
        int16_t version;
        int8_t type; /* 0: none named */
        int16_t error;
        uint32_t cnt;
    } rows[] = {{0, 0, 0, 0}, {1, 0, 0, 5},  {1, 2, 0, 2},  {1, 4, 0, 1},
                {1, 8, 0, 1}, {1, 16, 0, 0}, {1, 32, 0, 1}, {1, 7, 35, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int8_t type = rows[i].type;
        list_config_resources_request_init(&m);
        m.resource_types.v = &type;
        m.resource_types.cnt = type != 0;
        REQUEST(c, LIST_CONFIG_RESOURCES, rows[i].version, list_config_resources, &m);
        world_run(w, 3);
        RESPONSE(c, LIST_CONFIG_RESOURCES, rows[i].version, list_config_resources, &resp);
        assert_int_equal(resp.error_code, rows[i].error);
        assert_int_equal(resp.config_resources.cnt, rows[i].cnt);
    }
    client_close(c);
    close_world();
}

static void config_changes_are_forwarded_and_time_out_by_resource(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    struct incremental_alter_configs_request m;
    struct incremental_alter_configs_request_resource r[2];
    struct incremental_alter_configs_request_config k;
    struct incremental_alter_configs_response resp;
    struct span f;
    incremental_alter_configs_request_init(&m);
    incremental_alter_configs_request_config_init(&k);
    k.name = span_str("retention.ms");
    k.value = span_str("1");
    for (int i = 0; i < 2; i++) {
        incremental_alter_configs_request_resource_init(&r[i]);
        r[i].resource_type = i == 0 ? 2 : 4;
        r[i].resource_name = span_str(i == 0 ? "t" : "1");
        r[i].configs.v = &k;
        r[i].configs.cnt = 1;
    }
    m.resources.v = r;
    m.resources.cnt = 2;
    for (int16_t v = 0; v <= 1; v++) {
        w->admin_rc = 0;
        REQUEST(c, INCREMENTAL_ALTER_CONFIGS, v, incremental_alter_configs, &m);
        world_run(w, 3);
        assert_int_equal(w->admin.api_key, INCREMENTAL_ALTER_CONFIGS);
        assert_int_equal(w->admin.api_version, v);
        assert_true(client_take(c, &f));
        assert_memory_equal(f.p + f.len - 5, "reply", 5);
        w->admin_rc = -E_TIMED_OUT;
        REQUEST(c, INCREMENTAL_ALTER_CONFIGS, v, incremental_alter_configs, &m);
        world_run(w, 3);
        RESPONSE(c, INCREMENTAL_ALTER_CONFIGS, v, incremental_alter_configs, &resp);
        assert_int_equal(resp.responses.cnt, 2);
        assert_int_equal(resp.responses.v[1].error_code, 7);
        assert_int_equal(resp.responses.v[1].resource_type, 4);
        assert_true(span_eq_str(resp.responses.v[1].resource_name, "1"));
    }
    struct alter_configs_request a;
    struct alter_configs_request_resource ar;
    struct alter_configs_response aresp;
    alter_configs_request_init(&a);
    alter_configs_request_resource_init(&ar);
    ar.resource_type = 2;
    ar.resource_name = span_str("t");
    a.resources.v = &ar;
    a.resources.cnt = 1;
    for (int16_t v = 0; v <= 2; v++) {
        REQUEST(c, ALTER_CONFIGS, v, alter_configs, &a);
        world_run(w, 3);
        RESPONSE(c, ALTER_CONFIGS, v, alter_configs, &aresp);
        assert_int_equal(aresp.responses.v[0].error_code, 7);
    }
    client_close(c);
    close_world();
}

static void a_connection_that_closes_while_owners_are_asked_leaves_nothing(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 3});
    world_topic(w, "t", NULL);
    world_plog(w, "t", 1)->producer_cnt = 1000;
    for (int ms = 0; ms < 3; ms++) {
        struct client *c = client_open(w);
        struct describe_log_dirs_request m;
        struct describe_producers_request pm;
        struct describe_producers_request_topic t;
        int32_t id = 1;
        world_run(w, 2);
        describe_log_dirs_request_init(&m);
        m.topics.null = true;
        REQUEST(c, DESCRIBE_LOG_DIRS, 5, describe_log_dirs, &m);
        describe_producers_request_init(&pm);
        describe_producers_request_topic_init(&t);
        t.name = span_str("t");
        t.partition_indexes.v = &id;
        t.partition_indexes.cnt = 1;
        pm.topics.v = &t;
        pm.topics.cnt = 1;
        REQUEST(c, DESCRIBE_PRODUCERS, 0, describe_producers, &pm);
        world_run(w, (uint32_t)ms);
        client_close(c);
        world_run(w, 10);
    }
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        assert_int_equal(w->shard[i].kafka->req_cnt, 0);
    close_world();
}

TEST_MAIN(TEST(offset_for_leader_epoch_asks_every_owner_and_checks_epochs),
          TEST(delete_records_moves_the_log_start_and_says_where_it_is),
          TEST(describe_log_dirs_groups_sizes_by_directory_and_topic),
          TEST(describe_producers_asks_again_when_there_are_many),
          TEST(one_broker_elects_nothing_and_moves_nothing),
          TEST(config_resources_are_what_describe_configs_describes),
          TEST(config_changes_are_forwarded_and_time_out_by_resource),
          TEST(a_connection_that_closes_while_owners_are_asked_leaves_nothing))
