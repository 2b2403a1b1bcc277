/* test_fetch.c - Fetch and ListOffsets: limits, long poll, errors, memory. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum { FETCH = 1, LIST_OFFSETS = 2 };

static struct span batch; /* 2 records, 500 bytes each */

static void put(int32_t partition, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fake_plog_put(world_plog(w, "t", partition), batch);
}

static void open_fetch(uint32_t shards)
{
    open_world(&(struct world_opts){.shards = shards});
    world_topic(w, "t", NULL);
    if (batch.p == NULL)
        batch = make_batch(2, 500, NULL);
}

static struct fetch_response_partition *part(struct fetch_response *r, uint32_t i)
{
    assert_true(r->responses.cnt == 1 && r->responses.v[0].partitions.cnt > i);
    return &r->responses.v[0].partitions.v[i];
}

static void every_version_returns_the_bytes_of_the_log(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    for (int32_t p = 0; p < 4; p++)
        put(p, (uint32_t)p + 1);
    for (int16_t v = 4; v <= 18; v++) {
        struct fetch_n f;
        struct fetch_response resp;
        REQUEST(c, FETCH, v, fetch, fetch_n(&f, "t", 4, 100, 1));
        world_run(w, 5);
        RESPONSE(c, FETCH, v, fetch, &resp);
        assert_int_equal(resp.error_code, 0);
        assert_int_equal(resp.session_id, 0);
        for (uint32_t i = 0; i < 4; i++) {
            struct fetch_response_partition *p = part(&resp, i);
            assert_int_equal(p->error_code, 0);
            assert_int_equal(p->high_watermark, 2 * (i + 1));
            assert_int_equal(p->last_stable_offset, 2 * (i + 1));
            assert_int_equal(p->records.len, batch.len * (i + 1));
            assert_true(p->aborted_transactions.null);
            struct plog *log = world_plog(w, "t", (int32_t)i);
            for (uint32_t b = 0; b <= i; b++)
                assert_memory_equal(p->records.p + b * batch.len, log->batch[b].bytes, batch.len);
        }
    }
    client_close(c);
    close_world();
}

static void large_answers_are_sent_by_reference_and_whole(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct span big = make_batch(1, 700000, NULL);
    struct fetch_n f;
    struct fetch_response resp;
    for (int32_t p = 0; p < 4; p++)
        fake_plog_put(world_plog(w, "t", p), big);
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 4, 100, 1));
    world_run(w, 30);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(part(&resp, i)->records.len, big.len);
        assert_memory_equal(part(&resp, i)->records.p,
                            world_plog(w, "t", (int32_t)i)->batch[0].bytes, big.len);
    }
    free((void *)(uintptr_t)big.p);
    client_close(c);
    close_world();
}

static void a_reader_that_does_not_read_holds_one_answer_and_is_closed(void **state)
{
    (void)state;
    open_fetch(1);
    struct span big = make_batch(1, 900000, NULL);
    for (int i = 0; i < 20; i++)
        fake_plog_put(world_plog(w, "t", 0), big);
    struct client *deaf = client_open(w);
    deaf->deaf = true;
    for (int i = 0; i < 20; i++) {
        struct fetch_n f;
        fetch_n(&f, "t", 1, 100, 1);
        f.part[0].partition_max_bytes = 8 << 20;
        REQUEST(deaf, FETCH, 12, fetch, &f.req);
    }
    world_run(w, 200);
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    /* one answer waits, at most what the peer's window and the transport hold lies elsewhere */
    assert_true(st.response_bytes_used < 20u << 20);
    world_run(w, 70000);
    assert_true(deaf->closed);
    free((void *)(uintptr_t)big.p);
    close_world();
}

static void nothing_there_is_empty_never_null(void **state)
{
    (void)state;
    open_fetch(1);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    REQUEST(c, FETCH, 11, fetch, fetch_n(&f, "t", 1, 0, 1));
    world_run(w, 5);
    RESPONSE(c, FETCH, 11, fetch, &resp);
    assert_non_null(part(&resp, 0)->records.p);
    assert_int_equal(part(&resp, 0)->records.len, 0);
    assert_int_equal(part(&resp, 0)->high_watermark, 0);
    fetch_n(&f, "t", 1, 0, 1);
    f.req.isolation_level = 1;
    REQUEST(c, FETCH, 11, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 11, fetch, &resp);
    assert_false(part(&resp, 0)->aborted_transactions.null);
    assert_int_equal(part(&resp, 0)->aborted_transactions.cnt, 0);
    client_close(c);
    close_world();
}

static void the_first_batch_is_returned_whole_although_it_is_too_large(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    put(1, 3);
    put(2, 3);
    fetch_n(&f, "t", 4, 1000, 1); /* partition 0 is empty: 1 is the first with data */
    for (int i = 0; i < 4; i++)
        f.part[i].partition_max_bytes = 10;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->records.len, 0);
    assert_int_equal(part(&resp, 1)->records.len, batch.len);
    assert_int_equal(part(&resp, 2)->records.len, 0);
    assert_int_equal(part(&resp, 2)->error_code, 0);
    assert_int_equal(part(&resp, 2)->high_watermark, 6);
    client_close(c);
    close_world();
}

static void max_bytes_bounds_the_answer_in_request_order(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    for (int32_t p = 0; p < 4; p++)
        put(p, 4);
    fetch_n(&f, "t", 4, 1000, 1);
    f.req.max_bytes = (int32_t)batch.len * 6 + 5;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->records.len, batch.len * 4);
    assert_int_equal(part(&resp, 1)->records.len, batch.len * 2);
    assert_int_equal(part(&resp, 2)->records.len, 0);
    assert_int_equal(part(&resp, 3)->records.len, 0);
    assert_int_equal(part(&resp, 3)->high_watermark, 8);
    client_close(c);
    close_world();
}

static void a_parked_fetch_wakes_when_bytes_are_durable(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 4, 10000, 1));
    world_run(w, 50);
    assert_true(no_response(c));
    assert_int_equal(fake_plog_waits(world_plog(w, "t", 3)), 1);
    put(3, 1);
    world_run(w, 3);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 3)->records.len, batch.len);
    world_run(w, 3);
    for (int32_t i = 0; i < 4; i++) /* the other registrations were cancelled */
        assert_int_equal(fake_plog_waits(world_plog(w, "t", i)), 0);
    client_close(c);
    close_world();
}

static void a_parked_fetch_waits_for_min_bytes_of_all_partitions_together(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    int32_t min = (int32_t)batch.len * 5;
    put(0, 1);
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 4, 10000, min));
    world_run(w, 10);
    for (int32_t p = 0; p < 3; p++) { /* 1 + 3 batches: not yet */
        put(p, 1);
        world_run(w, 10);
        assert_true(no_response(c));
    }
    put(3, 1);
    world_run(w, 10);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->records.len, batch.len * 2);
    assert_int_equal(part(&resp, 3)->records.len, batch.len);
    client_close(c);
    close_world();
}

/* Found by the shard simulator (seed 333): what was registered when more was missing waited on. */
static void a_parked_fetch_wakes_when_what_came_since_the_last_look_adds_up(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 2, 10000, (int32_t)batch.len * 10));
    world_run(w, 10); /* each waits for 5 batches */
    put(0, 5);
    world_run(w, 10); /* looked at: 5 are missing, half of them each */
    put(1, 4);
    world_run(w, 10);
    assert_true(no_response(c));
    put(0, 1);
    world_run(w, 10);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->records.len, batch.len * 6);
    assert_int_equal(part(&resp, 1)->records.len, batch.len * 4);
    client_close(c);
    close_world();
}

static void a_parked_fetch_answers_at_max_wait_with_what_there_is(void **state)
{
    (void)state;
    open_fetch(1);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 2, 500, 1000000));
    world_run(w, 100);
    put(1, 1);
    world_run(w, 300);
    assert_true(no_response(c));
    uint32_t reads = world_plog(w, "t", 0)->reads;
    world_run(w, 110);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 1)->records.len, batch.len);
    assert_true(reads < 10); /* it did not spin */
    client_close(c);
    close_world();
}

static void a_partition_at_its_own_limit_does_not_make_a_parked_fetch_spin(void **state)
{
    (void)state;
    open_fetch(1);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    put(0, 50);
    fetch_n(&f, "t", 2, 500, 1 << 20);
    put(1, 1);
    f.part[0].partition_max_bytes = (int32_t)batch.len * 2;
    f.part[1].partition_max_bytes = 0;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 300);
    put(0, 10);
    world_run(w, 300);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->records.len, batch.len * 2);
    assert_int_equal(part(&resp, 1)->records.len, 0);
    assert_true(world_plog(w, "t", 0)->reads < 6);
    assert_true(world_plog(w, "t", 1)->reads < 6);
    client_close(c);
    close_world();
}

static void errors_are_answered_at_once_per_partition(void **state)
{
    (void)state;
    open_fetch(2);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    put(0, 1);
    world_plog(w, "t", 2)->read_rc = -E_STORAGE;
    world_plog(w, "t", 3)->leader_epoch = 5;
    fetch_n(&f, "t", 4, 10000, 1 << 20);
    f.part[1].fetch_offset = 99;
    f.part[3].current_leader_epoch = 4;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->error_code, 0);
    assert_int_equal(part(&resp, 0)->records.len, batch.len);
    assert_int_equal(part(&resp, 1)->error_code, 1);
    assert_int_equal(part(&resp, 1)->high_watermark, -1);
    assert_int_equal(part(&resp, 1)->log_start_offset, -1);
    assert_int_equal(part(&resp, 2)->error_code, 56);
    assert_int_equal(part(&resp, 3)->error_code, 74);
    f.part[3].current_leader_epoch = 6;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 3)->error_code, 75);
    fetch_n(&f, "absent", 1, 10000, 1);
    REQUEST(c, FETCH, 12, fetch, &f.req);
    REQUEST(c, FETCH, 13, fetch, &f.req);
    fetch_n(&f, "t", 1, 10000, 1);
    f.part[0].partition = 77;
    REQUEST(c, FETCH, 4, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->error_code, 3);
    RESPONSE(c, FETCH, 13, fetch, &resp);
    assert_int_equal(part(&resp, 0)->error_code, 100);
    RESPONSE(c, FETCH, 4, fetch, &resp);
    assert_int_equal(part(&resp, 0)->error_code, 3);
    client_close(c);
    close_world();
}

static void unknown_sessions_are_refused_and_whole_requests_need_none(void **state)
{
    (void)state;
    open_fetch(1);
    struct client *c = client_open(w);
    static const struct {
        int32_t id, epoch;
        int16_t error;
        bool session;
    } cases[] = {{0, -1, 0, false}, {0, 0, 0, true},   {7, -1, 0, false},
                 {7, 0, 0, true},   {7, 3, 70, false}, {0, 3, 70, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fetch_n f;
        struct fetch_response resp;
        fetch_n(&f, "t", 1, 0, 1);
        f.req.session_id = cases[i].id;
        f.req.session_epoch = cases[i].epoch;
        REQUEST(c, FETCH, 12, fetch, &f.req);
        world_run(w, 5);
        RESPONSE(c, FETCH, 12, fetch, &resp);
        assert_int_equal(resp.error_code, cases[i].error);
        assert_int_equal(resp.session_id != 0, cases[i].session);
        assert_int_equal(resp.responses.cnt, cases[i].error == 0 ? 1 : 0);
    }
    client_close(c);
    close_world();
}

static void a_session_is_told_only_what_is_new(void **state)
{
    (void)state;
    for (int16_t v = 7; v <= 18; v++) {
        open_world(&(struct world_opts){.shards = 3});
        world_topic(w, "t", NULL);
        struct client *c = client_open(w);
        struct span b = make_batch(2, 100, NULL);
        struct fetch_n f;
        struct fetch_response resp;
        fetch_n(&f, "t", 4, 0, 1);
        f.req.session_epoch = 0;
        REQUEST(c, FETCH, v, fetch, &f.req);
        world_run(w, 5);
        RESPONSE(c, FETCH, v, fetch, &resp);
        int32_t id = resp.session_id;
        assert_true(id > 0);
        assert_int_equal(resp.responses.v[0].partitions.cnt, 4);

        /* a step that names nothing waits for all partitions */
        f.req.topics.cnt = 0;
        f.req.session_id = id;
        f.req.session_epoch = 1;
        f.req.max_wait_ms = 500;
        REQUEST(c, FETCH, v, fetch, &f.req);
        world_run(w, 20);
        assert_true(no_response(c));
        fake_plog_put(world_plog(w, "t", 2), b);
        world_run(w, 20);
        RESPONSE(c, FETCH, v, fetch, &resp);
        assert_int_equal(resp.session_id, id);
        assert_int_equal(resp.responses.cnt, 1);
        assert_int_equal(resp.responses.v[0].partitions.cnt, 1);
        assert_int_equal(resp.responses.v[0].partitions.v[0].partition_index, 2);
        assert_int_equal(resp.responses.v[0].partitions.v[0].high_watermark, 2);
        assert_int_equal(resp.responses.v[0].partitions.v[0].records.len, b.len);

        /* the next one moves that partition on, and nothing is new */
        fetch_n(&f, "t", 1, 30, 1);
        f.req.session_id = id;
        f.req.session_epoch = 2;
        f.part[0].partition = 2;
        f.part[0].fetch_offset = 2;
        REQUEST(c, FETCH, v, fetch, &f.req);
        world_run(w, 60);
        RESPONSE(c, FETCH, v, fetch, &resp);
        assert_int_equal(resp.error_code, 0);
        assert_int_equal(resp.session_id, id);
        assert_int_equal(resp.responses.cnt, 0);

        /* several with data: each answer's bytes belong to its partitions */
        for (int32_t p = 0; p < 4; p++)
            if (p != 1)
                fake_plog_put(world_plog(w, "t", p), b);
        f.req.topics.cnt = 0;
        f.req.session_epoch = 3;
        REQUEST(c, FETCH, v, fetch, &f.req);
        world_run(w, 20);
        RESPONSE(c, FETCH, v, fetch, &resp);
        uint32_t seen = 0;
        for (uint32_t i = 0; i < resp.responses.cnt; i++)
            for (uint32_t j = 0; j < resp.responses.v[i].partitions.cnt; j++) {
                const struct fetch_response_partition *p = &resp.responses.v[i].partitions.v[j];
                assert_int_not_equal(p->partition_index, 1);
                assert_int_equal(p->records.len, b.len);
                assert_int_equal(batch_base_offset(p->records.p), p->partition_index == 2 ? 2 : 0);
                seen++;
            }
        assert_int_equal(seen, 3);

        /* the wrong step: refused, and the connection goes on */
        f.req.session_epoch = 3;
        REQUEST(c, FETCH, v, fetch, &f.req);
        world_run(w, 5);
        RESPONSE(c, FETCH, v, fetch, &resp);
        assert_int_equal(resp.error_code, 71);
        assert_int_equal(resp.session_id, 0);
        free((void *)(uintptr_t)b.p);
        client_close(c);
        close_world();
    }
}

static void a_connection_that_closes_in_a_session_leaves_nothing_parked(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    fetch_n(&f, "t", 4, 0, 1);
    f.req.session_epoch = 0;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    f.req.topics.cnt = 0;
    f.req.session_id = resp.session_id;
    f.req.session_epoch = 1;
    f.req.max_wait_ms = 10000;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 5);
    assert_int_equal(fake_plog_waits(world_plog(w, "t", 3)), 1);
    client_close(c);
    world_run(w, 10);
    for (int32_t p = 0; p < 4; p++)
        assert_int_equal(fake_plog_waits(world_plog(w, "t", p)), 0);
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        assert_int_equal(w->shard[i].kafka->req_cnt, 0);
    close_world();
}

static void fetches_wait_for_memory_in_line_and_all_are_answered(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 1, .request_bytes = 8u << 20});
    world_topic(w, "t", NULL);
    struct span big = make_batch(1, 900000, NULL);
    struct client *c[12];
    fake_plog_put(world_plog(w, "t", 0), big);
    w->shard[0].plogs->hold = true; /* all reserve before the first is answered */
    for (int i = 0; i < 12; i++) {
        struct fetch_n f;
        c[i] = client_open(w);
        REQUEST(c[i], FETCH, 12, fetch, fetch_n(&f, "t", 1, 10000, 1));
    }
    world_run(w, 10);
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_true(st.budget_waits >= 7);
    assert_true(st.response_bytes_used <= (4u << 20) + 12 * 300000); /* arenas are charged too */
    client_close(c[11]); /* one gives up while it waits */
    w->shard[0].plogs->hold = false;
    world_run(w, 60);
    for (int i = 0; i < 11; i++) {
        struct fetch_response resp;
        RESPONSE(c[i], FETCH, 12, fetch, &resp);
        assert_int_equal(part(&resp, 0)->records.len, big.len);
        client_close(c[i]);
    }
    free((void *)(uintptr_t)big.p);
    close_world();
}

static void put_n(int32_t partition, struct span b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fake_plog_put(world_plog(w, "t", partition), b);
}

/* Kafka clients leave at any time; what their fetches held must not stay. */
static void assert_memory_is_free(void)
{
    struct kafka_stats st;
    world_run(w, 20);
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_int_equal(st.response_bytes_used, 0);
    assert_int_equal(st.requests_inflight, 0);
}

static void fetches_of_many_waves_never_wait_for_each_other(void **state)
{
    (void)state;
    enum { CLIENTS = 10, ROUNDS = 3 };
    open_world(&(struct world_opts){.shards = 1, .request_bytes = 64u << 20});
    world_topic(w, "t", NULL);
    struct span big = make_batch(1, 900000, NULL);
    for (int32_t p = 0; p < 4; p++)
        put_n(p, big, 9);
    struct client *c[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        c[i] = client_open(w);
    for (int round = 0; round < ROUNDS;
         round++) { /* together they ask for far more than there is */
        for (int i = 0; i < CLIENTS; i++) {
            struct fetch_n f;
            fetch_n(&f, "t", 4, 60000, 1);
            for (int p = 0; p < 4; p++)
                f.part[p].partition_max_bytes = 8 << 20;
            REQUEST(c[i], FETCH, 12, fetch, &f.req);
        }
        world_run(w, 300);
        for (int i = 0; i < CLIENTS; i++) {
            struct fetch_response resp;
            RESPONSE(c[i], FETCH, 12, fetch, &resp);
            assert_true(part(&resp, 0)->records.len >= big.len);
            for (uint32_t p = 0; p < 4; p++) {
                assert_int_equal(part(&resp, p)->records.len % big.len, 0);
                assert_int_equal(part(&resp, p)->high_watermark, 9);
            }
        }
    }
    assert_memory_is_free();
    struct kafka_stats st;
    kafka_stats_get(w->shard[0].kafka, &st);
    assert_true(st.budget_waits > 0);
    for (int i = 0; i < CLIENTS; i++)
        client_close(c[i]);
    free((void *)(uintptr_t)big.p);
    close_world();
}

static void a_large_first_batch_gets_its_memory_although_others_were_read(void **state)
{
    (void)state;
    enum { CLIENTS = 8 };
    open_world(&(struct world_opts){.shards = 1, .request_bytes = 8u << 20});
    world_topic(w, "t", NULL);
    struct span large = make_batch(1, 3000000, NULL), mid = make_batch(1, 300000, NULL);
    put_n(0, large, 1);
    for (int32_t p = 1; p < 4; p++)
        put_n(p, mid, 3);
    struct client *c[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        struct fetch_n f;
        c[i] = client_open(w);
        fetch_n(&f, "t", 4, 60000, 1);
        f.part[0].partition_max_bytes = 100000;
        f.part[1].partition_max_bytes = f.part[2].partition_max_bytes = 350000;
        REQUEST(c[i], FETCH, 12, fetch, &f.req);
    }
    world_run(w, 300);
    for (int i = 0; i < CLIENTS; i++) {
        struct fetch_response resp;
        RESPONSE(c[i], FETCH, 12, fetch, &resp);
        assert_int_equal(part(&resp, 0)->records.len, large.len);
        for (uint32_t p = 1; p < 4; p++) /* asked for, whether or not there was memory for it */
            assert_int_equal(part(&resp, p)->high_watermark, 3);
    }
    assert_memory_is_free();
    for (int i = 0; i < CLIENTS; i++)
        client_close(c[i]);
    free((void *)(uintptr_t)large.p);
    free((void *)(uintptr_t)mid.p);
    close_world();
}

/* Found by the shard simulator (seed 8): what had come home was taken for still under way. */
static void a_connection_that_closes_between_two_replies_gives_all_memory_back(void **state)
{
    (void)state;
    open_fetch(2);
    put(0, 1);
    put(1, 1);
    struct client *c = client_open(w);
    struct fetch_n f;
    w->shard[1].plogs->hold = true;
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 2, 0, 1));
    world_run(w, 5); /* partition 0 is read, partition 1 is not */
    client_close(c);
    world_run(w, 5);
    w->shard[1].plogs->hold = false;
    world_run(w, 5);
    assert_memory_is_free();
    close_world();
}

static void a_fetch_that_finds_no_memory_is_answered_empty_in_time(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 1, .request_bytes = 8u << 20});
    world_topic(w, "t", NULL);
    put_n(0, batch, 3);
    struct client *hog[3], *c = client_open(w), *gone = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    fetch_n(&f, "t", 1, 60000, 1);
    w->shard[0].plogs->hold = true; /* reads that take long */
    for (int i = 0; i < 3; i++) {
        hog[i] = client_open(w);
        REQUEST(hog[i], FETCH, 12, fetch, &f.req);
    }
    world_run(w, 5);
    struct budget *b = &w->shard[0].kafka->responses;
    uint64_t rest = b->cap - b->used - 500000; /* less than a fetch wants */
    budget_charge(b, rest);
    REQUEST(gone, FETCH, 12, fetch, &f.req);
    f.req.max_wait_ms = 10;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    world_run(w, 500);
    assert_true(no_response(c));
    (void)w->client_net->ops->shutdown_tx(w->client_net, gone->id); /* it stands before c */
    world_run(w, 5);
    w->shard[0].plogs->hold = false; /* the offsets are read without memory */
    world_run(w, 600);
    assert_true(gone->eof || gone->closed);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    assert_int_equal(part(&resp, 0)->error_code, 0);
    assert_int_equal(part(&resp, 0)->high_watermark, 6);
    budget_release(b, rest);
    for (int i = 0; i < 3; i++) {
        RESPONSE(hog[i], FETCH, 12, fetch, &resp);
        assert_int_equal(part(&resp, 0)->records.len, 3 * batch.len);
    }
    assert_memory_is_free();
    close_world();
}

/* Each takes a little every second, so none of them ever stalls. */
static void slow_readers_are_closed_when_others_need_their_memory(void **state)
{
    (void)state;
    enum { SLOW = 6 };
    open_world(&(struct world_opts){.shards = 1, .request_bytes = 32u << 20});
    world_topic(w, "t", NULL);
    struct span big = make_batch(1, 900000, NULL);
    put_n(0, big, 30);
    struct client *slow[SLOW];
    struct fetch_n f;
    fetch_n(&f, "t", 1, 500, 1);
    f.part[0].partition_max_bytes = 4 << 20;
    for (int i = 0; i < SLOW; i++) {
        slow[i] = client_open(w);
        slow[i]->deaf = true;
        for (int j = 0; j < 8; j++)
            REQUEST(slow[i], FETCH, 12, fetch, &f.req);
    }
    struct client *c = client_open(w);
    bool served = false;
    REQUEST(c, FETCH, 12, fetch, &f.req);
    for (int s = 0; s < 40 && !served; s++) {
        for (int i = 0; i < SLOW; i++) {
            struct bytes_ref seg;
            if (slow[i]->closed ||
                w->client_net->ops->rx_peek(w->client_net, slow[i]->id, &seg, 1) <= 0)
                continue;
            uint32_t n = seg.len < 20000 ? seg.len : 20000;
            (void)w->client_net->ops->rx_take(w->client_net, slow[i]->id, n, NULL, 0);
            w->client_net->ops->rx_credit(w->client_net, slow[i]->id, n);
        }
        world_run(w, 1000);
        while (!no_response(c)) {
            served = w->shard[0].kafka->st.slow_readers > 0;
            if (!served)
                REQUEST(c, FETCH, 12, fetch, &f.req);
        }
    }
    assert_true(served);
    free((void *)(uintptr_t)big.p);
    close_world();
}

static void max_wait_is_bounded(void **state)
{
    (void)state;
    open_fetch(1);
    struct client *c = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    REQUEST(c, FETCH, 12, fetch, fetch_n(&f, "t", 1, INT32_MAX, 1));
    world_run(w, 5);
    w->now_ns += (FETCH_WAIT_MAX_MS - 1000) * UINT64_C(1000000);
    world_run(w, 500);
    assert_true(no_response(c));
    world_run(w, 600);
    RESPONSE(c, FETCH, 12, fetch, &resp);
    client_close(c);
    close_world();
}

static struct list_offsets_response_partition list(struct client *c, int16_t version,
                                                   const char *topic, int64_t ts)
{
    struct list_offsets_request m;
    struct list_offsets_request_topic t;
    struct list_offsets_request_partition p;
    struct list_offsets_response resp;
    list_offsets_request_init(&m);
    list_offsets_request_topic_init(&t);
    list_offsets_request_partition_init(&p);
    m.replica_id = -1;
    m.topics.v = &t;
    m.topics.cnt = 1;
    t.name = span_str(topic);
    t.partitions.v = &p;
    t.partitions.cnt = 1;
    p.timestamp = ts;
    REQUEST(c, LIST_OFFSETS, version, list_offsets, &m);
    world_run(w, 3);
    RESPONSE(c, LIST_OFFSETS, version, list_offsets, &resp);
    return resp.topics.v[0].partitions.v[0];
}

static void list_offsets_knows_the_special_timestamps_of_each_version(void **state)
{
    (void)state;
    static const int16_t since[] = {[1] = 1, [2] = 1, [3] = 7, [4] = 8, [5] = 9, [6] = 11};
    open_fetch(1);
    struct client *c = client_open(w);
    put(0, 2);
    for (int16_t v = 1; v <= 11; v++)
        for (int ts = 1; ts <= 7; ts++) {
            bool served = ts <= 6 && v >= since[ts];
            struct list_offsets_response_partition r = list(c, v, "t", -ts);
            assert_int_equal(r.error_code, served ? 0 : 35);
            if (served && ts == 1)
                assert_int_equal(r.offset, 4);
            if (served && (ts == 2 || ts == 4))
                assert_int_equal(r.offset, 0);
            if (served && ts >= 5)
                assert_int_equal(r.offset, -1);
        }
    assert_int_equal(list(c, 5, "absent", -1).error_code, 3);
    assert_int_equal(list(c, 5, "t", INT64_C(1800000000000)).offset, -1);
    struct list_offsets_request m;
    struct list_offsets_request_topic t;
    struct list_offsets_request_partition p[2];
    struct list_offsets_response resp;
    list_offsets_request_init(&m);
    list_offsets_request_topic_init(&t);
    list_offsets_request_partition_init(&p[0]);
    p[0].timestamp = -1;
    p[1] = p[0];
    m.topics.v = &t;
    m.topics.cnt = 1;
    t.name = span_str("t");
    t.partitions.v = p;
    t.partitions.cnt = 2;
    REQUEST(c, LIST_OFFSETS, 5, list_offsets, &m);
    world_run(w, 3);
    RESPONSE(c, LIST_OFFSETS, 5, list_offsets, &resp);
    assert_int_equal(resp.topics.v[0].partitions.v[0].error_code, 0);
    assert_int_equal(resp.topics.v[0].partitions.v[1].error_code, 42); /* asked twice */
    client_close(c);
    close_world();
}

TEST_MAIN(TEST(every_version_returns_the_bytes_of_the_log),
          TEST(large_answers_are_sent_by_reference_and_whole),
          TEST(a_reader_that_does_not_read_holds_one_answer_and_is_closed),
          TEST(nothing_there_is_empty_never_null),
          TEST(the_first_batch_is_returned_whole_although_it_is_too_large),
          TEST(max_bytes_bounds_the_answer_in_request_order),
          TEST(a_parked_fetch_wakes_when_bytes_are_durable),
          TEST(a_parked_fetch_waits_for_min_bytes_of_all_partitions_together),
          TEST(a_parked_fetch_wakes_when_what_came_since_the_last_look_adds_up),
          TEST(a_parked_fetch_answers_at_max_wait_with_what_there_is),
          TEST(a_partition_at_its_own_limit_does_not_make_a_parked_fetch_spin),
          TEST(errors_are_answered_at_once_per_partition),
          TEST(unknown_sessions_are_refused_and_whole_requests_need_none),
          TEST(a_session_is_told_only_what_is_new),
          TEST(a_connection_that_closes_in_a_session_leaves_nothing_parked),
          TEST(fetches_wait_for_memory_in_line_and_all_are_answered),
          TEST(fetches_of_many_waves_never_wait_for_each_other),
          TEST(a_large_first_batch_gets_its_memory_although_others_were_read),
          TEST(a_connection_that_closes_between_two_replies_gives_all_memory_back),
          TEST(a_fetch_that_finds_no_memory_is_answered_empty_in_time), TEST(max_wait_is_bounded),
          TEST(slow_readers_are_closed_when_others_need_their_memory),
          TEST(list_offsets_knows_the_special_timestamps_of_each_version))
