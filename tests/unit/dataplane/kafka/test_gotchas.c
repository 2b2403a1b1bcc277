/* test_gotchas.c - answers of Kafka's that are easily got wrong, each as a test of its name;
 * tests/system/test_gotchas.py has the list of all of them. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum {
    PRODUCE = 0,
    FETCH = 1,
    METADATA = 3,
    SASL_HANDSHAKE = 17,
    API_VERSIONS = 18,
    INIT_PRODUCER_ID = 22,
    SASL_AUTHENTICATE = 36,
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50,
    DESCRIBE_QUORUM = 55,
};

static void sasl_on_a_plaintext_listener_is_an_illegal_state_and_nothing_closes(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 1; v++) {
        struct sasl_handshake_request m = {.mechanism = span_str("PLAIN")};
        struct sasl_handshake_response resp;
        REQUEST(c, SASL_HANDSHAKE, v, sasl_handshake, &m);
        world_run(w, 2);
        RESPONSE(c, SASL_HANDSHAKE, v, sasl_handshake, &resp);
        assert_int_equal(resp.error_code, 34);
        assert_int_equal(resp.mechanisms.cnt, 0);
    }
    for (int16_t v = 0; v <= 2; v++) {
        struct sasl_authenticate_request m = {.auth_bytes = span_str("\0user\0secret")};
        struct sasl_authenticate_response resp;
        REQUEST(c, SASL_AUTHENTICATE, v, sasl_authenticate, &m);
        world_run(w, 2);
        RESPONSE(c, SASL_AUTHENTICATE, v, sasl_authenticate, &resp);
        assert_int_equal(resp.error_code, 34);
        assert_true(resp.error_message.len > 0);
        assert_int_equal(resp.auth_bytes.len, 0);
    }
    assert_false(c->eof || c->closed);
    client_close(c);
    close_world();
}

static void nobody_has_scram_credentials(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    static uint8_t longest[WIRE_STRING_MAX];
    memset(longest, 'z', sizeof(longest));
    struct describe_user_scram_credentials_request_user users[] = {
        {span_str("a")}, {span_of(longest, sizeof(longest))}, {span_str("b")}, {span_str("a")}};
    struct describe_user_scram_credentials_request m;
    struct describe_user_scram_credentials_response resp;
    describe_user_scram_credentials_request_init(&m);
    m.users.null = true;
    REQUEST(c, DESCRIBE_USER_SCRAM_CREDENTIALS, 0, describe_user_scram_credentials, &m);
    m.users.null = false;
    m.users.v = users;
    m.users.cnt = 4;
    REQUEST(c, DESCRIBE_USER_SCRAM_CREDENTIALS, 0, describe_user_scram_credentials, &m);
    world_run(w, 3);
    RESPONSE(c, DESCRIBE_USER_SCRAM_CREDENTIALS, 0, describe_user_scram_credentials, &resp);
    assert_int_equal(resp.error_code, 0);
    assert_int_equal(resp.results.cnt, 0);
    RESPONSE(c, DESCRIBE_USER_SCRAM_CREDENTIALS, 0, describe_user_scram_credentials, &resp);
    assert_int_equal(resp.error_code, 0);
    assert_int_equal(resp.results.cnt, 3);
    assert_int_equal(resp.results.v[2].user.len, sizeof(longest)); /* its message is shorter */
    assert_true(span_eq_str(resp.results.v[0].user, "a"));
    assert_int_equal(resp.results.v[0].error_code, 92);
    assert_int_equal(resp.results.v[1].error_code, 91);
    assert_true(span_eq_str(resp.results.v[1].error_message,
                            "Attempt to describe a user credential that does not exist: b"));
    client_close(c);
    close_world();
}

static void the_quorum_of_the_metadata_log_is_this_node(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 2; v++) {
        struct describe_quorum_request m;
        struct describe_quorum_request_topic t[2];
        struct describe_quorum_request_partition p = {0};
        struct describe_quorum_response resp;
        describe_quorum_request_init(&m);
        for (int i = 0; i < 2; i++) {
            describe_quorum_request_topic_init(&t[i]);
            t[i].topic_name = span_str(i == 0 ? "__cluster_metadata" : "other");
            t[i].partitions.v = &p;
            t[i].partitions.cnt = 1;
        }
        m.topics.v = t;
        m.topics.cnt = 2;
        REQUEST(c, DESCRIBE_QUORUM, v, describe_quorum, &m);
        world_run(w, 2);
        RESPONSE(c, DESCRIBE_QUORUM, v, describe_quorum, &resp);
        assert_int_equal(resp.error_code, 0);
        const struct describe_quorum_response_partition *q = resp.topics.v[0].partitions.v;
        assert_int_equal(q->error_code, 0);
        assert_int_equal(q->leader_id, w->conf->node_id);
        assert_int_equal(q->high_watermark, w->image->offset + 1);
        assert_int_equal(q->current_voters.cnt, 1);
        assert_int_equal(q->current_voters.v[0].replica_id, w->conf->node_id);
        assert_int_equal(q->observers.cnt, 0);
        assert_int_equal(resp.topics.v[1].partitions.v[0].error_code, 3);
        assert_int_equal(resp.nodes.cnt, v >= 2 ? 1 : 0);
    }
    client_close(c);
    close_world();
}

static void keys_of_topic_and_broker_are_honoured_by_the_next_produce(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 5000, NULL);
    struct produce1 p;
    static const struct {
        const char *broker_value;
        int16_t error;
    } steps[] = {{NULL, 0}, {"1000", 10}, {"9000", 0}, {NULL, 0}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        world_broker_config(w, "message.max.bytes", steps[i].broker_value);
        REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
        world_run(w, 3);
        assert_int_equal(take_produce(c, 9).error_code, steps[i].error);
    }
    world_topic(w, "own", "max.message.bytes=100000"); /* a topic's own value wins */
    world_broker_config(w, "message.max.bytes", "1000");
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "own", 0, b, 1));
    world_run(w, 3);
    assert_int_equal(take_produce(c, 9).error_code, 0);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void flush_messages_and_flush_ms_make_every_answer_wait_for_the_flush(void **state)
{
    (void)state;
    static const char *const configs[] = {"flush.messages=1", "flush.messages=1000", "flush.ms=0",
                                          "flush.ms=5"};
    open_world(NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct produce1 p;
    for (int i = 0; i < 6; i++) {
        char name[8];
        snprintf(name, sizeof(name), "t%d", i);
        world_topic(w, name, i < 4 ? configs[i] : i == 4 ? "flush.ms=60000" : NULL);
        world_plog(w, name, 0)->hold_flush = true;
        REQUEST(c, PRODUCE, 9, produce, produce1(&p, name, 0, b, 1));
        world_run(w, 5);
        assert_int_equal(c->in_len == 0, i < 4);
        fake_plog_flush(world_plog(w, name, 0));
        world_run(w, 5);
        assert_int_equal(take_produce(c, 9).error_code, 0);
    }
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void operations_nobody_asked_for_are_int32_min(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    for (int16_t v = 8; v <= 13; v++)
        for (int asked = 0; asked < 2; asked++) {
            struct metadata_request m;
            struct metadata_response resp;
            metadata_request_init(&m);
            m.topics.null = true;
            m.include_topic_authorized_operations = asked;
            m.include_cluster_authorized_operations = asked && v <= 10;
            REQUEST(c, METADATA, v, metadata, &m);
            world_run(w, 2);
            RESPONSE(c, METADATA, v, metadata, &resp);
            assert_int_equal(resp.topics.v[0].topic_authorized_operations == INT32_MIN, !asked);
            if (v <= 10)
                assert_int_equal(resp.cluster_authorized_operations == INT32_MIN, !asked);
        }
    client_close(c);
    close_world();
}

static void a_topic_created_again_is_unknown_by_its_old_id(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct produce1 p;
    struct fetch_n f;
    struct fetch_response resp;
    struct uuid old = image_topic_by_name(w->image, span_str("t"))->id;
    REQUEST(c, PRODUCE, 13, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 3);
    assert_int_equal(take_produce(c, 13).error_code, 0);
    world_topic_delete(w, "t");
    world_topic(w, "t", NULL);
    struct uuid id = image_topic_by_name(w->image, span_str("t"))->id;
    assert_false(uuid_eq(&old, &id));
    produce1(&p, "t", 0, b, 1)->topic_data.v->topic_id = old;
    REQUEST(c, PRODUCE, 13, produce, &p.req);
    world_run(w, 3);
    assert_int_equal(take_produce(c, 13).error_code, 100);
    fetch_n(&f, "t", 1, 0, 1);
    f.topic.topic_id = old;
    REQUEST(c, FETCH, 13, fetch, &f.req);
    world_run(w, 3);
    RESPONSE(c, FETCH, 13, fetch, &resp);
    assert_int_equal(resp.responses.v[0].partitions.v[0].error_code, 100);
    REQUEST(c, FETCH, 13, fetch, fetch_n(&f, "t", 1, 0, 1)); /* the new one is empty */
    world_run(w, 3);
    RESPONSE(c, FETCH, 13, fetch, &resp);
    assert_int_equal(resp.responses.v[0].partitions.v[0].error_code, 0);
    assert_int_equal(resp.responses.v[0].partitions.v[0].high_watermark, 0);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void an_offset_out_of_range_says_minus_one_everywhere(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    static const int64_t offsets[] = {-1, 1, INT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct fetch_n f;
        struct fetch_response resp;
        fetch_n(&f, "t", 1, 60000, 1);
        f.part[0].fetch_offset = offsets[i];
        REQUEST(c, FETCH, 12, fetch, &f.req);
        world_run(w, 3); /* at once, whatever max_wait says */
        RESPONSE(c, FETCH, 12, fetch, &resp);
        const struct fetch_response_partition *p = resp.responses.v[0].partitions.v;
        assert_int_equal(p->error_code, 1);
        assert_int_equal(p->high_watermark, -1);
        assert_int_equal(p->last_stable_offset, -1);
        assert_int_equal(p->log_start_offset, -1);
        assert_non_null(p->records.p);
        assert_int_equal(p->records.len, 0);
    }
    client_close(c);
    close_world();
}

/* Null for read_uncommitted, a list for read_committed; and without transactions both see as far as
 * the high watermark. */
static void isolation_decides_whether_aborted_transactions_are_listed(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct span b = make_batch(3, 10, NULL);
    fake_plog_put(world_plog(w, "t", 0), b);
    free((void *)(uintptr_t)b.p);
    struct client *c = client_open(w);
    for (int16_t v = 4; v <= 18; v++)
        for (int8_t isolation = 0; isolation < 2; isolation++) {
            struct fetch_n f;
            struct fetch_response resp;
            fetch_n(&f, "t", 1, 0, 1);
            f.req.isolation_level = isolation;
            REQUEST(c, FETCH, v, fetch, &f.req);
            world_run(w, 3);
            RESPONSE(c, FETCH, v, fetch, &resp);
            const struct fetch_response_partition *p = resp.responses.v[0].partitions.v;
            assert_int_equal(p->aborted_transactions.null, isolation == 0);
            assert_int_equal(p->aborted_transactions.cnt, 0);
            assert_int_equal(p->high_watermark, 3);
            assert_int_equal(p->last_stable_offset, 3);
        }
    client_close(c);
    close_world();
}

/* The partition that answers one Fetch; every answer has room for one batch. */
static int32_t served(struct client *c, struct fetch_n *f)
{
    struct fetch_response resp;
    int32_t who = -1;
    REQUEST(c, FETCH, 12, fetch, &f->req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    f->req.session_id = resp.session_id;
    for (uint32_t i = 0; resp.responses.cnt > 0 && i < resp.responses.v[0].partitions.cnt; i++) {
        const struct fetch_response_partition *p = &resp.responses.v[0].partitions.v[i];
        if (p->records.len == 0)
            continue;
        assert_int_equal(who, -1); /* one at a time */
        who = p->partition_index;
    }
    return who;
}

/* Without a session the order is the client's, who rotates it; a session rotates by itself. */
static void no_partition_starves_when_every_answer_has_room_for_one_batch(void **state)
{
    enum { PARTS = WORLD_TOPIC_PARTITIONS };
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct span b = make_batch(3, 100, NULL);
    for (int32_t i = 0; i < PARTS; i++)
        fake_plog_put(world_plog(w, "t", i), b);
    struct client *c = client_open(w);
    struct fetch_n f;
    for (int32_t turn = 0; turn < PARTS; turn++) {
        fetch_n(&f, "t", PARTS, 1000, 1);
        f.req.max_bytes = (int32_t)b.len;
        f.req.session_epoch = -1;
        for (int32_t i = 0; i < PARTS; i++)
            f.part[i].partition = (turn + i) % PARTS;
        assert_int_equal(served(c, &f), turn);
    }
    bool had[PARTS] = {false};
    fetch_n(&f, "t", PARTS, 1000, 1);
    f.req.max_bytes = (int32_t)b.len;
    f.req.session_epoch = 0;
    assert_int_equal(served(c, &f), 0); /* makes the session, in the order of the request */
    f.req.topics.cnt = 0;               /* nothing new is asked */
    for (int32_t turn = 0; turn < PARTS; turn++) {
        f.req.session_epoch++;
        int32_t who = served(c, &f);
        assert_in_range(who, 0, PARTS - 1);
        assert_false(had[who]);
        had[who] = true;
    }
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

/* A Produce as a client of this name sends it. */
static int16_t produce_as(struct client *c, const char *name, const char *topic, struct span b)
{
    enum { HEAD = 4 + 2 + 2 + 4 }; /* size, key, version, correlation; then the client id */
    struct produce1 p;
    size_t len, n = strlen(name), old = 2 + strlen("test");
    uint8_t *was = request_bytes(PRODUCE, 9, 1009, (write_fn *)(void *)produce_request_write,
                                 produce1(&p, topic, 0, b, 1), &len);
    uint8_t *now = malloc(len + n);
    assert_memory_equal(was + HEAD + 2, "test", 4);
    memcpy(now, was, HEAD);
    store_be16(now + HEAD, (uint16_t)n);
    memcpy(now + HEAD + 2, name, n);
    memcpy(now + HEAD + 2 + n, was + HEAD + old, len - HEAD - old);
    len += 2 + n - old;
    store_be32(now, (uint32_t)len - 4);
    client_send(c, now, len);
    free(was);
    free(now);
    world_run(w, 5);
    return take_produce(c, 9).error_code;
}

static void internal_topics_take_records_of_kafkas_admin_client_alone(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "__consumer_offsets", NULL);
    world_topic(w, "_sluice.gaps", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    assert_int_equal(produce_as(c, "__admin", "__consumer_offsets", b), 17);
    assert_int_equal(world_plog(w, "__consumer_offsets", 0)->next, 0);
    assert_int_equal(produce_as(c, "__admin_client", "__consumer_offsets", b), 0);
    assert_int_equal(world_plog(w, "__consumer_offsets", 0)->next, 1);
    assert_int_equal(produce_as(c, "__admin_client", "_sluice.gaps", b), 17);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

/* KIP-360: such a producer raises its epoch by itself; the broker has a new id for who asks. */
static void an_idempotent_producer_that_asks_again_gets_another_id(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    struct init_producer_id_request m;
    struct init_producer_id_response first, again;
    init_producer_id_request_init(&m);
    m.transactional_id = SPAN_NULL;
    world_run(w, 5);
    for (int16_t v = 3; v <= 5; v++) {
        m.producer_id = -1;
        m.producer_epoch = -1;
        REQUEST(c, INIT_PRODUCER_ID, v, init_producer_id, &m);
        world_run(w, 2);
        RESPONSE(c, INIT_PRODUCER_ID, v, init_producer_id, &first);
        assert_int_equal(first.error_code, 0);
        m.producer_id = first.producer_id;
        m.producer_epoch = first.producer_epoch;
        REQUEST(c, INIT_PRODUCER_ID, v, init_producer_id, &m);
        world_run(w, 2);
        RESPONSE(c, INIT_PRODUCER_ID, v, init_producer_id, &again);
        assert_int_equal(again.error_code, 0);
        assert_true(again.producer_id > first.producer_id);
        assert_int_equal(again.producer_epoch, 0);
    }
    client_close(c);
    close_world();
}

TEST_MAIN(TEST(internal_topics_take_records_of_kafkas_admin_client_alone),
          TEST(an_idempotent_producer_that_asks_again_gets_another_id),
          TEST(no_partition_starves_when_every_answer_has_room_for_one_batch),
          TEST(operations_nobody_asked_for_are_int32_min),
          TEST(a_topic_created_again_is_unknown_by_its_old_id),
          TEST(an_offset_out_of_range_says_minus_one_everywhere),
          TEST(isolation_decides_whether_aborted_transactions_are_listed),
          TEST(keys_of_topic_and_broker_are_honoured_by_the_next_produce),
          TEST(flush_messages_and_flush_ms_make_every_answer_wait_for_the_flush),
          TEST(sasl_on_a_plaintext_listener_is_an_illegal_state_and_nothing_closes),
          TEST(nobody_has_scram_credentials), TEST(the_quorum_of_the_metadata_log_is_this_node))
