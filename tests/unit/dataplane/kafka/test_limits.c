/* test_limits.c - byte rates of clients (KIP-219: answered at once, then muted) and limits on
 * connections, counted over all shards. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum { PRODUCE = 0, FETCH = 1, DESCRIBE_CLIENT_QUOTAS = 48, ALTER_CLIENT_QUOTAS = 49 };
#define CLIENT "test"    /* what client_request says it is */
#define USER "ANONYMOUS" /* what everybody is */

/* Sends batches of 10 kB for `ms` and returns how many bytes of requests were answered. */
static uint64_t produce_for(struct client **c, uint32_t cnt, uint32_t ms, uint64_t *ret_told_ms)
{
    struct span b = make_batch(10, 1000, NULL);
    uint64_t bytes = 0;
    bool waits[8] = {false};
    *ret_told_ms = 0;
    for (uint32_t t = 0; t < ms; t++) {
        for (uint32_t i = 0; i < cnt; i++) {
            struct produce1 p;
            struct produce_response resp;
            if (waits[i] && c[i]->in_len > 0) {
                RESPONSE(c[i], PRODUCE, 9, produce, &resp);
                assert_int_equal(resp.responses.v[0].partition_responses.v[0].error_code, 0);
                *ret_told_ms += (uint64_t)resp.throttle_time_ms;
                bytes += b.len;
                waits[i] = false;
                arena_reset(&arena);
            }
            if (!waits[i]) {
                REQUEST(c[i], PRODUCE, 9, produce, produce1(&p, "t", (int32_t)i % 4, b, 1));
                waits[i] = true;
            }
        }
        world_run(w, 1);
    }
    for (uint32_t i = 0; i < cnt; i++) /* answered or not, nobody waits for it */
        client_close(c[i]);
    free((void *)(uintptr_t)b.p);
    return bytes;
}

static void a_producer_keeps_to_its_rate_over_all_shards_and_connections(void **state)
{
    (void)state;
    for (uint32_t conns = 1; conns <= 8; conns *= 2) {
        struct client *c[8];
        uint64_t told;
        open_world(&(struct world_opts){.shards = 4});
        world_topic(w, "t", NULL);
        world_quota(w, NULL, CLIENT, QUOTA_PRODUCE, 100000);
        for (uint32_t i = 0; i < conns; i++)
            c[i] = client_open(w);
        uint64_t bytes = produce_for(c, conns, 10000, &told);
        /* 10 s, 1 s of burst, and a request per connection that began before the debt did */
        print_message("%u connections: %lu bytes in 10 s\n", conns, (unsigned long)bytes);
        assert_true(bytes <= 100000 * 11 + conns * 11000);
        assert_true(bytes >= 100000 * 10);
        assert_true(told > 0);
        close_world();
    }
}

/* Whose rate it may be: of the user, of the client id, of both, or a default ("") of either. */
static const struct {
    const char *user, *client;
} whose[] = {{USER, NULL}, {"", NULL}, {USER, CLIENT}, {USER, ""}, {"", CLIENT}, {NULL, ""}};
#define WHOSE_CNT (sizeof(whose) / sizeof(whose[0]))

static void a_producer_keeps_to_the_rate_of_its_user(void **state)
{
    (void)state;
    for (size_t k = 0; k < WHOSE_CNT; k++) {
        struct client *c[2];
        uint64_t told;
        open_world(&(struct world_opts){.shards = 2});
        world_topic(w, "t", NULL);
        world_quota(w, "somebody else", NULL, QUOTA_PRODUCE, 1000);
        world_quota(w, whose[k].user, whose[k].client, QUOTA_PRODUCE, 100000);
        for (uint32_t i = 0; i < 2; i++)
            c[i] = client_open(w);
        uint64_t bytes = produce_for(c, 2, 3000, &told);
        print_message("case %zu: %lu bytes in 3 s\n", k, (unsigned long)bytes);
        assert_true(bytes <= 100000 * 4 + 2 * 11000);
        assert_true(bytes >= 100000 * 3);
        assert_true(told > 0);
        close_world();
    }
}

/* The user's goes before the client id's, and both together before either. */
static void the_rate_of_user_and_client_goes_first(void **state)
{
    (void)state;
    struct client *c[1];
    uint64_t told;
    open_world(NULL);
    world_topic(w, "t", NULL);
    world_quota(w, NULL, CLIENT, QUOTA_PRODUCE, 1000);
    world_quota(w, USER, NULL, QUOTA_PRODUCE, 1e9);
    c[0] = client_open(w);
    assert_true(produce_for(c, 1, 100, &told) > 200000);
    assert_int_equal(told, 0);
    world_quota(w, USER, CLIENT, QUOTA_PRODUCE, 1000);
    c[0] = client_open(w);
    assert_true(produce_for(c, 1, 100, &told) < 20000);
    assert_true(told > 0);
    close_world();
}

static void without_a_quota_nobody_is_told_to_wait(void **state)
{
    (void)state;
    struct client *c[1];
    uint64_t told;
    open_world(NULL);
    world_topic(w, "t", NULL);
    world_quota(w, NULL, "somebody else", QUOTA_PRODUCE, 1000);
    world_quota(w, "somebody else", NULL, QUOTA_PRODUCE, 1000);
    world_quota(w, NULL, CLIENT, QUOTA_FETCH, 1000);
    c[0] = client_open(w);
    assert_true(produce_for(c, 1, 100, &told) > 200000);
    assert_int_equal(told, 0);
    close_world();
}

static void a_muted_connection_is_answered_first_and_read_later(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    world_quota(w, NULL, CLIENT, QUOTA_PRODUCE, 10000);
    struct client *c = client_open(w), *other = client_open(w);
    struct span b = make_batch(3, 10000, NULL); /* 30 kB: 1 s is burst, 2 s are debt */
    struct produce1 p;
    struct produce_response resp;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 3);
    RESPONSE(c, PRODUCE, 9, produce, &resp);
    assert_in_range(resp.throttle_time_ms, 1900, 2300);
    struct api_versions_request av;
    api_versions_request_init(&av);
    REQUEST(c, 18, 0, api_versions, &av); /* not read: muted */
    REQUEST(other, 18, 0, api_versions, &av);
    world_run(w, 1800);
    assert_true(no_response(c));
    assert_false(no_response(other));
    world_run(w, 600);
    assert_false(no_response(c));
    /* a debt is not idleness, and a connection that closes in it leaves nothing */
    w->conf->connections_max_idle_ms = 1000;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 2500);
    assert_false(c->eof || c->closed);
    free((void *)(uintptr_t)b.p);
    close_world();
}

static void acks_0_is_muted_without_an_answer(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    world_quota(w, NULL, CLIENT, QUOTA_PRODUCE, 10000);
    struct client *c = client_open(w);
    struct span b = make_batch(3, 10000, NULL);
    struct produce1 p;
    struct api_versions_request av;
    api_versions_request_init(&av);
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 0));
    REQUEST(c, 18, 0, api_versions, &av);
    world_run(w, 1000);
    assert_true(no_response(c));
    world_run(w, 1500);
    assert_false(no_response(c));
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

static void consume_at(const char *user, const char *client)
{
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct span b = make_batch(10, 1000, NULL);
    for (int i = 0; i < 200; i++)
        fake_plog_put(world_plog(w, "t", 0), b);
    uint32_t batch_len = b.len;
    free((void *)(uintptr_t)b.p);
    world_quota(w, user, client, QUOTA_FETCH, 100000);
    struct client *c = client_open(w);
    uint64_t bytes = 0, told = 0;
    int64_t offset = 0;
    bool waits = false;
    for (uint32_t t = 0; t < 10000; t++) {
        struct fetch_n f;
        struct fetch_response resp;
        if (waits && c->in_len > 0) {
            RESPONSE(c, FETCH, 11, fetch, &resp);
            const struct fetch_response_partition *p = resp.responses.v[0].partitions.v;
            bytes += p->records.len;
            offset += p->records.len / batch_len * 10;
            told += (uint64_t)resp.throttle_time_ms;
            waits = false;
            arena_reset(&arena);
        }
        if (!waits) {
            fetch_n(&f, "t", 1, 0, 1);
            f.part[0].fetch_offset = offset;
            REQUEST(c, FETCH, 11, fetch, &f.req);
            waits = true;
        }
        world_run(w, 1);
    }
    print_message("%lu bytes in 10 s\n", (unsigned long)bytes);
    assert_true(told > 0);
    assert_true(bytes <= 100000 * 12);
    assert_true(bytes >= 100000 * 9);
    client_close(c);
    close_world();
}

static void a_consumer_keeps_to_its_rate(void **state)
{
    (void)state;
    for (size_t k = 0; k < WHOSE_CNT; k++)
        consume_at(whose[k].user, whose[k].client);
}

/* Another connection of the client has spent the rate. */
static void a_throttled_fetch_is_empty_and_keeps_its_session(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct span b = make_batch(30, 1000, NULL);
    fake_plog_put(world_plog(w, "t", 0), b);
    free((void *)(uintptr_t)b.p);
    struct client *c = client_open(w), *other = client_open(w);
    struct fetch_n f;
    struct fetch_response resp;
    fetch_n(&f, "t", 1, 0, 1);
    f.part[0].fetch_offset = 30;
    f.req.session_epoch = 0;
    REQUEST(c, FETCH, 11, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(c, FETCH, 11, fetch, &resp);
    int32_t session = resp.session_id;
    assert_int_not_equal(session, 0);
    world_quota(w, NULL, CLIENT, QUOTA_FETCH, 10000);
    f.req.session_epoch = -1;
    f.part[0].fetch_offset = 0;
    REQUEST(other, FETCH, 11, fetch, &f.req);
    world_run(w, 5);
    RESPONSE(other, FETCH, 11, fetch, &resp);
    assert_true(resp.responses.v[0].partitions.v[0].records.len > 30000); /* whole first batch */
    assert_true(resp.throttle_time_ms > 1000);
    for (int epoch = 1; epoch <= 2; epoch++) {
        f.req.session_id = session;
        f.req.session_epoch = epoch;
        f.req.topics.cnt = 0;
        REQUEST(c, FETCH, 11, fetch, &f.req);
        world_run(w, 5);
        RESPONSE(c, FETCH, 11, fetch, &resp);
        assert_int_equal(resp.error_code, 0);
        assert_int_equal(resp.session_id, session);
        if (epoch == 1) { /* throttled: empty, and the step counts */
            assert_int_equal(resp.responses.cnt, 0);
            assert_true(resp.throttle_time_ms > 1000);
            world_run(w, 4000);
        } else {
            assert_int_equal(resp.throttle_time_ms, 0);
        }
    }
    client_close(c);
    client_close(other);
    close_world();
}

static void an_altered_quota_counts_anew_at_once(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    world_quota(w, NULL, CLIENT, QUOTA_PRODUCE, 1);
    struct client *c = client_open(w), *next = client_open(w);
    struct span b = make_batch(3, 10000, NULL);
    struct produce1 p;
    struct produce_response resp;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 3);
    RESPONSE(c, PRODUCE, 9, produce, &resp);
    assert_int_equal(resp.throttle_time_ms, THROTTLE_MAX_MS); /* hours, told as one */
    world_quota(w, NULL, CLIENT, QUOTA_PRODUCE, 1e9);
    REQUEST(next, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 1));
    world_run(w, 3);
    RESPONSE(next, PRODUCE, 9, produce, &resp);
    assert_int_equal(resp.throttle_time_ms, 0);
    free((void *)(uintptr_t)b.p);
    client_close(c);
    client_close(next);
    close_world();
}

static struct describe_client_quotas_response describe(struct client *c, const char *type,
                                                       int8_t match, const char *name, bool strict)
{
    struct describe_client_quotas_request m;
    struct describe_client_quotas_request_component comp = {
        span_str(type), match, name != NULL ? span_str(name) : SPAN_NULL};
    struct describe_client_quotas_response resp;
    describe_client_quotas_request_init(&m);
    m.components.v = &comp;
    m.components.cnt = type[0] != 0 ? 1 : 0;
    m.strict = strict;
    REQUEST(c, DESCRIBE_CLIENT_QUOTAS, 1, describe_client_quotas, &m);
    world_run(w, 3);
    RESPONSE(c, DESCRIBE_CLIENT_QUOTAS, 1, describe_client_quotas, &resp);
    return resp;
}

static void quotas_are_described_by_filter(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    assert_int_equal(describe(c, "", 0, NULL, false).entries.cnt, 0);
    world_quota(w, NULL, "a", QUOTA_PRODUCE, 1000);
    world_quota(w, NULL, "a", QUOTA_FETCH, 2000);
    world_quota(w, NULL, "", QUOTA_FETCH, 3000);
    world_quota(w, "u", "a", QUOTA_FETCH, 4000);
    assert_int_equal(describe(c, "", 0, NULL, false).entries.cnt, 3);
    assert_int_equal(describe(c, "client-id", 2, NULL, false).entries.cnt, 3);
    assert_int_equal(describe(c, "client-id", 2, NULL, true).entries.cnt, 2);
    assert_int_equal(describe(c, "client-id", 0, "a", false).entries.cnt, 2);
    assert_int_equal(describe(c, "user", 0, "a", false).entries.cnt, 0);
    assert_int_equal(describe(c, "ip", 1, NULL, false).entries.cnt, 0);
    struct describe_client_quotas_response r = describe(c, "client-id", 1, NULL, true);
    assert_int_equal(r.entries.cnt, 1);
    assert_true(span_is_null(r.entries.v[0].entity.v[0].entity_name));
    r = describe(c, "client-id", 0, "a", true);
    assert_int_equal(r.entries.cnt, 1);
    assert_int_equal(r.entries.v[0].values.cnt, 2);
    assert_true(span_eq_str(r.entries.v[0].values.v[0].key, "producer_byte_rate"));
    assert_true(r.entries.v[0].values.v[1].value == 2000);
    r = describe(c, "nobody", 0, "a", true);
    assert_int_equal(r.error_code, 42);
    assert_true(r.entries.null);
    r = describe(c, "user", 3, NULL, true);
    assert_int_equal(r.error_code, 42);
    client_close(c);
    close_world();
}

static void max_connections_counts_all_shards_and_can_be_altered(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 4});
    world_broker_config(w, "max.connections", "5");
    struct client *c[12];
    uint32_t open = 0;
    for (int i = 0; i < 8; i++) {
        c[i] = client_open(w);
        world_run(w, 3);
        open += !(c[i]->eof || c[i]->closed);
    }
    assert_int_equal(open, 5);
    world_broker_config(w, "max.connections", "6");
    c[8] = client_open(w);
    world_run(w, 3);
    assert_false(c[8]->eof || c[8]->closed);
    client_close(c[8]);
    world_run(w, 3);
    c[9] = client_open(w); /* its place */
    world_run(w, 3);
    assert_false(c[9]->eof || c[9]->closed);
    world_broker_config(w, "max.connections", NULL);
    close_world();
}

static void max_connections_per_ip_counts_an_address_over_all_shards(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 4});
    world_broker_config(w, "max.connections.per.ip", "3");
    uint32_t open = 0;
    for (int i = 0; i < 8; i++) {
        struct client *c = client_open(w);
        world_run(w, 3);
        open += !(c->eof || c->closed);
    }
    assert_int_equal(open, 3);
    assert_int_equal(conn_total(w->kafka_shared), 3);
    close_world();
}

static uint32_t open_clients(uint32_t n)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct client *c = client_open(w);
        world_run(w, 3);
        open += !(c->eof || c->closed);
    }
    return open;
}

static void an_address_may_have_a_limit_of_its_own(void **state)
{
    (void)state;
    static const char key[] = "max.connections.per.ip.overrides";
    open_world(&(struct world_opts){.shards = 2});
    struct client *first = client_open(w);
    struct conn_info info;
    char ip[NET_ADDR_TEXT_MAX], text[NET_ADDR_TEXT_MAX + 40];
    world_run(w, 3);
    const struct kconn *c = container_of(w->shard[0].kafka->conns.next, struct kconn, link);
    assert_ok(w->shard[0].net->ops->info(w->shard[0].net, c->id, &info));
    (void)net_addr_format_ip(&info.peer, ip);
    client_close(first);
    world_run(w, 3);
    world_broker_config(w, "max.connections.per.ip", "3");
    snprintf(text, sizeof(text), "10.99.99.99:100,%s:5", ip);
    world_broker_config(w, key, text);
    assert_int_equal(open_clients(8), 5);
    snprintf(text, sizeof(text), "%s:7", ip);
    world_broker_config(w, key, text); /* live */
    assert_int_equal(open_clients(8), 2);
    world_broker_config(w, key, "10.99.99.99:100"); /* of another */
    assert_int_equal(open_clients(1), 0);
    close_world();
}

TEST_MAIN(TEST(a_producer_keeps_to_its_rate_over_all_shards_and_connections),
          TEST(a_producer_keeps_to_the_rate_of_its_user),
          TEST(the_rate_of_user_and_client_goes_first),
          TEST(without_a_quota_nobody_is_told_to_wait),
          TEST(a_muted_connection_is_answered_first_and_read_later),
          TEST(acks_0_is_muted_without_an_answer), TEST(a_consumer_keeps_to_its_rate),
          TEST(a_throttled_fetch_is_empty_and_keeps_its_session),
          TEST(an_altered_quota_counts_anew_at_once), TEST(quotas_are_described_by_filter),
          TEST(max_connections_counts_all_shards_and_can_be_altered),
          TEST(max_connections_per_ip_counts_an_address_over_all_shards),
          TEST(an_address_may_have_a_limit_of_its_own))
