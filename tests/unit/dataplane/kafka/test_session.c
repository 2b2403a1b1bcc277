/* test_session.c - frames, order, limits, memory and the end of connections. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum { API_VERSIONS = 18, METADATA = 3, PRODUCE = 0, FETCH = 1 };

static void raw_frame(struct client *c, const void *body, uint32_t len)
{
    uint8_t head[4];
    store_be32(head, len);
    client_send(c, head, 4);
    client_send(c, body, len);
}

static void ask_api_versions(struct client *c, int16_t version)
{
    struct api_versions_request m;
    api_versions_request_init(&m);
    m.client_software_name = span_str("test-client");
    m.client_software_version = span_str("1.0");
    REQUEST(c, API_VERSIONS, version, api_versions, &m);
}

static void api_versions_lists_exactly_what_is_served(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 4; v++) {
        struct api_versions_response resp;
        ask_api_versions(c, v);
        world_run(w, 2);
        RESPONSE(c, API_VERSIONS, v, api_versions, &resp);
        assert_int_equal(resp.error_code, 0);
        uint32_t n = 0;
        while (api_at(n) != NULL)
            n++;
        assert_int_equal(resp.api_keys.cnt, n);
        for (uint32_t i = 0; i < n; i++) {
            const struct wire_api *a = wire_api_find(resp.api_keys.v[i].api_key);
            assert_non_null(a);
            assert_true(api_at(i)->min >= a->min && api_at(i)->max <= a->max);
            assert_int_equal(resp.api_keys.v[i].max_version, api_at(i)->max);
            if (i > 0) /* not Produce */
                assert_int_equal(resp.api_keys.v[i].min_version, api_at(i)->min);
        }
        assert_int_equal(resp.api_keys.v[0].min_version, 0); /* Produce, for old librdkafka */
        if (v >= 3) {
            assert_int_equal(resp.finalized_features.cnt, 1);
            assert_true(resp.finalized_features_epoch >= 0);
        }
    }
    client_close(c);
    close_world();
}

static void api_versions_of_an_unknown_version_is_answered_in_version_0(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    static const uint8_t req[] = {0, 18, 0, 9, 0, 0, 0, 7, 0, 1, 'x', 0, 1, 2, 3};
    static const uint8_t want[] = {0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4};
    struct span f;
    raw_frame(c, req, sizeof(req));
    world_run(w, 2);
    assert_true(client_take(c, &f));
    assert_int_equal(f.len, sizeof(want));
    assert_memory_equal(f.p, want, sizeof(want));
    struct api_versions_response resp;
    ask_api_versions(c, 3); /* and the connection lives on */
    world_run(w, 2);
    RESPONSE(c, API_VERSIONS, 3, api_versions, &resp);
    client_close(c);
    close_world();
}

static void a_bad_software_name_is_an_invalid_request(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    struct api_versions_request m;
    struct api_versions_response resp;
    api_versions_request_init(&m);
    m.client_software_name = span_str("-bad");
    m.client_software_version = span_str("1.0");
    REQUEST(c, API_VERSIONS, 3, api_versions, &m);
    world_run(w, 2);
    RESPONSE(c, API_VERSIONS, 3, api_versions, &resp);
    assert_int_equal(resp.error_code, 42);
    client_close(c);
    close_world();
}

static void what_cannot_be_understood_closes_the_connection(void **state)
{
    (void)state;
    static const uint8_t unknown_api[] = {0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff};
    static const uint8_t old_produce[] = {0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 0};
    static const uint8_t future_fetch[] = {0, 1, 0, 19, 0, 0, 0, 1, 0xff, 0xff, 0};
    static const uint8_t short_body[] = {0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0};
    static const uint8_t huge_array[] = {0, 3,    0,    1,    0,    0,    0,
                                         1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff};
    static const uint8_t bad_client_id[] = {0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff};
    const struct {
        const uint8_t *p;
        uint32_t len;
    } cases[] = {
        {unknown_api, sizeof(unknown_api)},   {old_produce, sizeof(old_produce)},
        {future_fetch, sizeof(future_fetch)}, {short_body, sizeof(short_body)},
        {huge_array, sizeof(huge_array)},     {bad_client_id, sizeof(bad_client_id)},
    };
    open_world(NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client *c = client_open(w);
        raw_frame(c, cases[i].p, cases[i].len);
        world_run(w, 4);
        assert_true(c->eof || c->closed);
        client_close(c);
    }
    close_world();
}

static void bytes_after_a_whole_request_are_not_looked_at(void **state)
{
    (void)state;
    static const uint8_t req[] = {0, 18, 0, 0, 0, 0, 0, 7, 0, 1, 'x', 0xff, 1, 2, 3};
    open_world(NULL);
    struct client *c = client_open(w);
    struct span f;
    for (int i = 0; i < 2; i++) { /* and the next request begins behind them */
        raw_frame(c, req, sizeof(req));
        world_run(w, 2);
        assert_true(client_take(c, &f));
        assert_int_equal(load_be32(f.p), 7);
        assert_int_equal(load_be16(f.p + 4), 0);
    }
    assert_false(c->eof || c->closed);
    client_close(c);
    close_world();
}

static void a_frame_size_outside_the_limits_closes_the_connection(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 9, 0x80000000u, 0xffffffffu, 104857601u};
    open_world(NULL);
    for (size_t i = 0; i < 5; i++) {
        uint8_t head[4];
        struct client *c = client_open(w);
        store_be32(head, sizes[i]);
        client_send(c, head, 4);
        world_run(w, 4);
        assert_true(c->eof || c->closed);
        client_close(c);
    }
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.oversized, 5);
    close_world();
}

static void requests_may_arrive_byte_by_byte_and_many_at_once(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.chunk_max = 3, .seed = 5});
    struct client *c = client_open(w);
    for (int i = 0; i < 20; i++)
        ask_api_versions(c, (int16_t)(i % 5));
    world_run(w, 600);
    for (int i = 0; i < 20; i++) {
        struct api_versions_response resp;
        RESPONSE(c, API_VERSIONS, (int16_t)(i % 5), api_versions, &resp);
    }
    client_close(c);
    close_world();
}

static void responses_leave_in_request_order_although_owners_answer_otherwise(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct plog *slow = world_plog(w, "t", 0), *quick = world_plog(w, "t", 1);
    struct produce1 p;
    slow->hold_flush = true;
    REQUEST(c, PRODUCE, 7, produce, produce1(&p, "t", 0, b, -1));
    REQUEST(c, PRODUCE, 8, produce, produce1(&p, "t", 1, b, -1));
    ask_api_versions(c, 2);
    world_run(w, 10);
    assert_int_equal(quick->appends, 1); /* it did not wait for the first */
    assert_true(no_response(c));
    fake_plog_flush(slow);
    world_run(w, 5);
    assert_int_equal(take_produce(c, 7).index, 0);
    assert_int_equal(take_produce(c, 8).index, 1);
    struct api_versions_response resp;
    RESPONSE(c, API_VERSIONS, 2, api_versions, &resp);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void at_most_inflight_max_requests_of_a_connection_are_read(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct plog *log = world_plog(w, "t", 0);
    struct produce1 p;
    log->hold_flush = true;
    for (int i = 0; i < KAFKA_INFLIGHT_MAX + 20; i++)
        REQUEST(c, PRODUCE, 7, produce, produce1(&p, "t", 0, b, -1));
    world_run(w, 20);
    assert_int_equal(log->appends, KAFKA_INFLIGHT_MAX);
    log->hold_flush = false;
    fake_plog_flush(log);
    world_run(w, 20);
    assert_int_equal(log->appends, KAFKA_INFLIGHT_MAX + 20);
    for (int64_t i = 0; i < KAFKA_INFLIGHT_MAX + 20; i++)
        assert_int_equal(take_produce(c, 7).base_offset, i); /* in order */
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void declared_sizes_alone_cost_others_nothing(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.request_bytes = 64u << 20});
    world_topic(w, "t", NULL);
    struct client *liar[200];
    uint8_t head[5] = {0};
    store_be32(head, w->shard[0].kafka->frame_max);
    for (int i = 0; i < 200; i++) {
        liar[i] = client_open(w);
        client_send(liar[i], head, 5);
    }
    world_run(w, 5);
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.request_bytes_used, 0);
    struct client *c = client_open(w);
    struct span b = make_batch(100, 9000, NULL); /* 900 KB */
    struct produce1 p;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 20);
    assert_int_equal(take_produce(c, 9).error_code, 0);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void large_requests_wait_for_each_other_and_slow_ones_are_closed(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.request_bytes = 64u << 20});
    world_topic(w, "t", NULL);
    uint32_t max = w->shard[0].kafka->frame_max; /* one fills the budget of large frames */
    uint8_t *part = calloc(1, 200000);
    store_be32(part, max);
    struct client *slow = client_open(w);
    client_send(slow, part, 200000); /* enough to get its reservation, then nothing */
    world_run(w, 10);
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_true(st.request_bytes_used >= max);
    struct client *next = client_open(w);
    client_send(next, part, 200000);
    world_run(w, 10);
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.budget_waits, 1);
    struct client *c = client_open(w); /* small ones go on */
    struct span b = make_batch(1, 1000000, NULL);
    struct produce1 p;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 20);
    assert_int_equal(take_produce(c, 9).error_code, 0);
    world_run(w, 23000);
    assert_true(slow->closed); /* and the waiting one got its turn, and stalls in its turn */
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.slow_frames, 1);
    assert_false(next->closed);
    world_run(w, 23000);
    assert_true(next->closed);
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.request_bytes_used, 0);
    free(part);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void idle_connections_close_but_parked_ones_do_not(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    w->conf->connections_max_idle_ms = 3000;
    struct client *idle = client_open(w), *parked = client_open(w);
    struct fetch_n f;
    REQUEST(parked, FETCH, 12, fetch, fetch_n(&f, "t", 1, 8000, 1));
    world_run(w, 5200);
    assert_true(idle->eof || idle->closed);
    assert_false(parked->eof || parked->closed);
    world_run(w, 3500);
    struct fetch_response resp;
    RESPONSE(parked, FETCH, 12, fetch, &resp);
    client_close(parked);
    client_close(idle);
    close_world();
}

static void connections_above_the_maximum_are_refused(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.connections_max = 2});
    struct client *a = client_open(w), *b = client_open(w), *c = client_open(w);
    world_run(w, 3);
    assert_true(c->closed);
    assert_false(a->closed || b->closed);
    client_close(a);
    world_run(w, 3);
    struct client *d = client_open(w); /* there is room again */
    struct api_versions_response resp;
    ask_api_versions(d, 0);
    world_run(w, 3);
    RESPONSE(d, API_VERSIONS, 0, api_versions, &resp);
    client_close(b);
    client_close(d);
    close_world();
}

static void idle_connections_cost_memory_only_as_they_come(void **state)
{
    (void)state;
    enum { CNT = 300 };
    static struct client *c[CNT];
    open_world(&(struct world_opts){.connections_max = 1000});
    const struct kafka *k = w->shard[0].kafka;
    assert_int_equal(k->conns_fresh, 0);
    for (int i = 0; i < CNT; i++)
        c[i] = client_open(w);
    world_run(w, 3);
    for (int i = 0; i < CNT; i++)
        assert_false(c[i]->closed);
    assert_int_equal(k->conn_cnt, CNT);
    assert_int_equal(k->conns_fresh, CNT);
    for (int i = 0; i < CNT; i++)
        client_close(c[i]);
    world_run(w, 3);
    c[0] = client_open(w); /* takes the place of one before it */
    world_run(w, 3);
    assert_int_equal(k->conn_cnt, 1);
    assert_int_equal(k->conns_fresh, CNT);
    client_close(c[0]);
    close_world();
}

static void a_connection_that_closes_in_mid_flight_leaves_nothing_behind(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct span b = make_batch(2, 100, NULL);
    struct produce1 p;
    struct fetch_n f;
    struct client *producer = client_open(w), *reader = client_open(w), *waiter = client_open(w);
    struct list_offsets_request lo;
    list_offsets_request_init(&lo);
    w->shard[0].plogs->hold = w->shard[1].plogs->hold = true;
    REQUEST(producer, PRODUCE, 9, produce, produce1(&p, "t", 0, b, -1));
    REQUEST(producer, PRODUCE, 9, produce, produce1(&p, "t", 1, b, -1));
    REQUEST(reader, FETCH, 12, fetch, fetch_n(&f, "t", 4, 1000, 1));
    world_run(w, 3);
    client_close(producer);
    client_close(reader);
    world_run(w, 3);
    w->shard[0].plogs->hold = w->shard[1].plogs->hold = false;
    REQUEST(waiter, FETCH, 12, fetch, fetch_n(&f, "t", 4, 1000000, 100000000));
    world_run(w, 10);
    assert_int_equal(fake_plog_waits(world_plog(w, "t", 1)), 1);
    client_close(waiter);
    world_run(w, 10);
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(fake_plog_waits(world_plog(w, "t", i)), 0);
    free((void *)(uintptr_t)b.p);
    close_world(); /* checks that no request and no byte is left */
}

static void a_drain_answers_what_was_asked_and_closes(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *parked = client_open(w), *idle = client_open(w);
    struct fetch_n f;
    REQUEST(parked, FETCH, 12, fetch, fetch_n(&f, "t", 1, 100000, 1));
    world_run(w, 5);
    kafka_drain(w->shard[0].kafka);
    world_run(w, 10);
    struct fetch_response resp;
    RESPONSE(parked, FETCH, 12, fetch, &resp);
    assert_true(parked->eof || parked->closed);
    assert_true(idle->eof || idle->closed);
    client_close(parked);
    client_close(idle);
    world_run(w, 10);
    assert_true(kafka_is_idle(w->shard[0].kafka));
    close_world();
}

static void a_half_closed_connection_still_gets_its_answers(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    ask_api_versions(c, 1);
    (void)w->client_net->ops->shutdown_tx(w->client_net, c->id);
    world_run(w, 5);
    struct api_versions_response resp;
    RESPONSE(c, API_VERSIONS, 1, api_versions, &resp);
    assert_true(c->eof || c->closed);
    client_close(c);
    close_world();
}

static void ask_metadata(struct client *c)
{
    struct metadata_request m;
    metadata_request_init(&m);
    m.topics.null = true;
    REQUEST(c, METADATA, 9, metadata, &m);
}

static void parked_requests_of_some_leave_room_for_the_requests_of_others(void **state)
{
    (void)state;
    enum { CLIENTS = 70 };
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct fetch_n f;
    struct metadata_response resp;
    struct kafka_stats st;
    fetch_n(&f, "t", 1, INT32_MAX, 1);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = client_open(w);
        for (int j = 0; j < KAFKA_INFLIGHT_MAX; j++)
            REQUEST(c, FETCH, 12, fetch, &f.req);
    }
    world_run(w, 20);
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.fetch_parked, CLIENTS);
    assert_true(st.requests_inflight <= 2 * CLIENTS); /* one parks, one is read ahead */
    struct client *c = client_open(w);
    ask_metadata(c);
    world_run(w, 3);
    RESPONSE(c, METADATA, 9, metadata, &resp);
    close_world();
}

static void every_connection_has_requests_of_its_own(void **state)
{
    (void)state;
    enum { CLIENTS = 70 };
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct span b = make_batch(1, 10, NULL);
    struct plog *log = world_plog(w, "t", 0);
    struct client *many[CLIENTS];
    struct produce1 p;
    struct metadata_response resp;
    struct kafka_stats st;
    log->append_rc = -E_STORAGE;
    w->shard[0].plogs->hold = true; /* a disk that takes its time */
    for (int i = 0; i < CLIENTS; i++) {
        many[i] = client_open(w);
        for (int j = 0; j < KAFKA_INFLIGHT_MAX; j++)
            REQUEST(many[i], PRODUCE, 7, produce, produce1(&p, "t", 0, b, -1));
    }
    world_run(w, 30);
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_true(st.requests_inflight >= KAFKA_REQS_SHARED);
    assert_true(st.requests_inflight <= KAFKA_REQS_SHARED + CLIENTS * KAFKA_REQS_OWN);
    for (int i = 0; i < 20; i++) { /* Metadata is not API_NO_MEMORY_GATE: memory is there too */
        struct client *c = client_open(w);
        ask_metadata(c);
        world_run(w, 3);
        RESPONSE(c, METADATA, 9, metadata, &resp);
        client_close(c);
    }
    w->shard[0].plogs->hold = false;
    world_run(w, 100);
    for (int i = 0; i < CLIENTS; i++) /* and those who stood in line were all served */
        for (int j = 0; j < KAFKA_INFLIGHT_MAX; j++)
            assert_int_equal(take_produce(many[i], 7).error_code, 56);
    free((void *)(uintptr_t)b.p);
    close_world();
}

static void parked_requests_hold_a_share_and_the_oldest_are_answered_first(void **state)
{
    (void)state;
    enum { CLIENTS = 60, TOPICS = 20 };
    open_world(&(struct world_opts){.request_bytes = 8u << 20});
    world_topic(w, "t", NULL);
    struct kafka *k = w->shard[0].kafka;
    struct client *c[CLIENTS];
    struct fetch_n f;
    struct fetch_response resp;
    struct fetch_request_topic topics[TOPICS]; /* of many partitions: some 50 KB each */
    fetch_n(&f, "t", 4, 100000, 1);
    for (int i = 0; i < 4; i++)
        f.part[i].partition_max_bytes = 1000;
    for (int i = 0; i < TOPICS; i++)
        topics[i] = f.topic;
    f.req.topics.v = topics;
    f.req.topics.cnt = TOPICS;
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = client_open(w);
        REQUEST(c[i], FETCH, 12, fetch, &f.req);
        world_run(w, 2);
        assert_true(k->parked_bytes <= k->responses.cap / KAFKA_PARKED_SHARE);
    }
    world_run(w, 5);
    RESPONSE(c[0], FETCH, 12, fetch, &resp);
    RESPONSE(c[1], FETCH, 12, fetch, &resp);
    assert_true(no_response(c[CLIENTS - 1]));
    assert_true(no_response(c[CLIENTS - 5]));
    assert_true(k->st.parked_hurried > 0);
    close_world();
}

static void a_client_that_has_sent_its_last_byte_is_answered_at_once(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c[50];
    struct fetch_n f;
    for (int i = 0; i < 50; i++) {
        c[i] = client_open(w);
        for (int j = 0; j < 1 + i % 3; j++)
            REQUEST(c[i], FETCH, 12, fetch, fetch_n(&f, "t", 4, INT32_MAX, 1));
    }
    world_run(w, 20);
    for (int i = 0; i < 50; i++) {
        assert_true(no_response(c[i]));
        if (i % 2 == 0)
            (void)w->client_net->ops->shutdown_tx(w->client_net, c[i]->id);
        else
            client_close(c[i]);
    }
    world_run(w, 20);
    for (int i = 0; i < 50; i += 2) {
        struct fetch_response resp;
        for (int j = 0; j < 1 + i % 3; j++)
            RESPONSE(c[i], FETCH, 12, fetch, &resp);
        assert_true(c[i]->eof || c[i]->closed);
        client_close(c[i]);
    }
    world_run(w, 5);
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.connections, 0);
    assert_int_equal(st.requests_inflight, 0);
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(fake_plog_waits(world_plog(w, "t", i)), 0);
    close_world();
}

TEST_MAIN(TEST(api_versions_lists_exactly_what_is_served),
          TEST(api_versions_of_an_unknown_version_is_answered_in_version_0),
          TEST(a_bad_software_name_is_an_invalid_request),
          TEST(what_cannot_be_understood_closes_the_connection),
          TEST(bytes_after_a_whole_request_are_not_looked_at),
          TEST(a_frame_size_outside_the_limits_closes_the_connection),
          TEST(requests_may_arrive_byte_by_byte_and_many_at_once),
          TEST(responses_leave_in_request_order_although_owners_answer_otherwise),
          TEST(at_most_inflight_max_requests_of_a_connection_are_read),
          TEST(declared_sizes_alone_cost_others_nothing),
          TEST(large_requests_wait_for_each_other_and_slow_ones_are_closed),
          TEST(idle_connections_close_but_parked_ones_do_not),
          TEST(connections_above_the_maximum_are_refused),
          TEST(idle_connections_cost_memory_only_as_they_come),
          TEST(a_connection_that_closes_in_mid_flight_leaves_nothing_behind),
          TEST(a_drain_answers_what_was_asked_and_closes),
          TEST(a_half_closed_connection_still_gets_its_answers),
          TEST(parked_requests_of_some_leave_room_for_the_requests_of_others),
          TEST(every_connection_has_requests_of_its_own),
          TEST(parked_requests_hold_a_share_and_the_oldest_are_answered_first),
          TEST(a_client_that_has_sent_its_last_byte_is_answered_at_once))
