/* test_produce.c - Produce: its checks, acknowledgements, timeouts and order. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum { PRODUCE = 0, INIT_PRODUCER_ID = 22 };

static void drop(struct span b)
{
    free((void *)(uintptr_t)b.p);
}

static struct produce_response_partition produce(struct client *c, int16_t version,
                                                 const char *topic, int32_t partition,
                                                 struct span b, int16_t acks)
{
    struct produce1 p;
    REQUEST(c, PRODUCE, version, produce, produce1(&p, topic, partition, b, acks));
    world_run(w, 5);
    return take_produce(c, version);
}

static void every_version_appends_and_tells_the_offset(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(3, 10, NULL);
    for (int16_t v = 3; v <= 13; v++) {
        struct produce_response_partition r = produce(c, v, "t", v % 4, b, v % 2 ? -1 : 1);
        assert_int_equal(r.error_code, 0);
        assert_int_equal(r.log_append_time_ms, -1);
        assert_int_equal(r.base_offset, 3 * ((v - 3) / 4));
    }
    drop(b);
    client_close(c);
    close_world();
}

static void acks_all_waits_for_the_flush_and_acks_1_does_not(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct produce1 p;
    world_plog(w, "t", 0)->hold_flush = true;
    assert_int_equal(produce(c, 9, "t", 0, b, 1).error_code, 0);
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, -1));
    world_run(w, 100);
    assert_true(no_response(c));
    fake_plog_flush(world_plog(w, "t", 0));
    world_run(w, 5);
    assert_int_equal(take_produce(c, 9).base_offset, 1);
    drop(b);
    client_close(c);
    close_world();
}

static void a_timeout_is_answered_and_the_data_stays(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct produce1 p;
    struct plog *log = world_plog(w, "t", 0);
    log->hold_flush = true;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, -1));
    world_run(w, 900);
    assert_true(no_response(c));
    world_run(w, 200);
    assert_int_equal(take_produce(c, 9).error_code, 7);
    assert_int_equal(log->next, 1);
    log->hold_flush = false;
    assert_int_equal(produce(c, 9, "t", 0, b, -1).base_offset, 1);
    drop(b);
    client_close(c);
    close_world();
}

static void acks_0_is_silent_and_closes_on_an_error(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct produce1 p;
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", 0, b, 0));
    world_run(w, 10);
    assert_true(no_response(c));
    assert_int_equal(world_plog(w, "t", 0)->next, 1);
    assert_int_equal(produce(c, 9, "t", 0, b, 1).base_offset, 1); /* the connection lives */
    REQUEST(c, PRODUCE, 9, produce, produce1(&p, "absent", 0, b, 0));
    world_run(w, 10);
    assert_true(c->eof || c->closed);
    assert_true(no_response(c));
    drop(b);
    client_close(c);
    close_world();
}

static void what_is_wrong_with_a_partition_is_told_for_that_partition(void **state)
{
    (void)state;
    open_world(NULL);
    world_topic(w, "t", NULL);
    world_topic(w, "compacted", "cleanup.policy=compact");
    world_topic(w, "small", "max.message.bytes=100");
    world_topic(w, "__consumer_offsets", NULL);
    world_topic(w, "_sluice.gaps", NULL);
    struct client *c = client_open(w);
    struct span good = make_batch(2, 10, NULL);
    struct span large = make_batch(1, 200, NULL);
    uint8_t *bad = malloc(good.len);
    struct span bad_span = span_of(bad, good.len);

    assert_int_equal(produce(c, 9, "absent", 0, good, 1).error_code, 3);
    assert_int_equal(produce(c, 13, "absent", 0, good, 1).error_code, 100);
    assert_int_equal(produce(c, 9, "t", 4, good, 1).error_code, 3);
    assert_int_equal(produce(c, 9, "t", -1, good, 1).error_code, 3);
    assert_int_equal(produce(c, 9, "__consumer_offsets", 0, good, 1).error_code, 17);
    assert_int_equal(produce(c, 9, "_sluice.gaps", 0, good, 1).error_code, 17);
    assert_int_equal(produce(c, 9, "t", 0, good, 2).error_code, 21);
    assert_int_equal(produce(c, 9, "t", 0, good, -2).error_code, 21);
    assert_int_equal(produce(c, 9, "t", 0, SPAN_NULL, 1).error_code, 87);
    assert_int_equal(produce(c, 9, "t", 0, WIRE_EMPTY, 1).error_code, 87);
    assert_int_equal(produce(c, 9, "small", 0, large, 1).error_code, 10);
    struct produce_response_partition r = produce(c, 9, "compacted", 0, good, 1);
    assert_int_equal(r.error_code, 87); /* no key */
    assert_int_equal(r.record_errors.cnt, 1);
    assert_int_equal(r.record_errors.v[0].batch_index, 0);
    assert_int_equal(r.base_offset, -1);
    assert_true(r.error_message.len > 0);

    memcpy(bad, good.p, good.len);
    bad[good.len - 1] ^= 1; /* CRC */
    assert_int_equal(produce(c, 9, "t", 0, bad_span, 1).error_code, 2);
    memcpy(bad, good.p, good.len);
    store_be64(bad, 5); /* base offset */
    assert_int_equal(produce(c, 9, "t", 0, bad_span, 1).error_code, 87);
    memcpy(bad, good.p, good.len);
    bad[BATCH_MAGIC] = 1;
    assert_int_equal(produce(c, 9, "t", 0, bad_span, 1).error_code, 87);
    struct seal_opts txn = {.producer_id = 1,
                            .producer_epoch = 0,
                            .base_sequence = 0,
                            .attributes = BATCH_ATTR_TRANSACTIONAL};
    struct span t = make_batch(1, 10, &txn);
    assert_int_equal(produce(c, 9, "t", 0, t, 1).error_code, 53); /* no transactional id */
    world_plog(w, "t", 0)->append_rc = -E_OUT_OF_ORDER_SEQUENCE;
    assert_int_equal(produce(c, 9, "t", 0, good, 1).error_code, 45);
    world_plog(w, "t", 0)->append_rc = -E_READ_ONLY;
    r = produce(c, 9, "t", 0, good, 1);
    assert_int_equal(r.error_code, 56);
    assert_int_equal(r.base_offset, -1);
    world_plog(w, "t", 0)->append_rc = 0;
    assert_int_equal(world_plog(w, "t", 0)->next, 0);
    assert_int_equal(produce(c, 9, "t", 0, good, 1).error_code, 0);
    drop(t);
    drop(large);
    drop(good);
    free(bad);
    client_close(c);
    close_world();
}

static void appends_of_one_connection_keep_their_order_per_partition(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 3, .chunk_max = 200, .seed = 7});
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b[8];
    struct produce1 p;
    for (uint32_t i = 0; i < 3; i++)
        w->shard[i].plogs->reverse = true;
    for (uint32_t i = 0; i < 8; i++)
        b[i] = make_batch(i + 1, 10, NULL);
    for (uint32_t n = 0; n < 32; n++)
        REQUEST(c, PRODUCE, 9, produce, produce1(&p, "t", (int32_t)(n % 4), b[n / 4], -1));
    world_run(w, 200);
    for (uint32_t n = 0; n < 32; n++) {
        struct produce_response_partition r = take_produce(c, 9);
        uint32_t i = n / 4;
        assert_int_equal(r.error_code, 0);
        assert_int_equal(r.index, n % 4);
        assert_int_equal(r.base_offset, i * (i + 1) / 2); /* after 1 + 2 + ... + i records */
    }
    for (uint32_t i = 0; i < 8; i++)
        drop(b[i]);
    client_close(c);
    close_world();
}

static void producer_ids_are_unique_and_survive_the_control_planes_absence(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    struct client *c = client_open(w);
    struct init_producer_id_request m;
    struct init_producer_id_response resp;
    init_producer_id_request_init(&m);
    m.transactional_id = SPAN_NULL;
    w->ids_away = true;
    int64_t last = -1;
    for (int i = 0; i < 2000; i++) { /* two blocks were fetched in advance */
        REQUEST(c, INIT_PRODUCER_ID, 4, init_producer_id, &m);
        world_run(w, 1);
        RESPONSE(c, INIT_PRODUCER_ID, 4, init_producer_id, &resp);
        assert_int_equal(resp.error_code, 0);
        assert_int_equal(resp.producer_epoch, 0);
        assert_true(resp.producer_id > last);
        last = resp.producer_id;
    }
    REQUEST(c, INIT_PRODUCER_ID, 0, init_producer_id, &m);
    world_run(w, 1);
    RESPONSE(c, INIT_PRODUCER_ID, 0, init_producer_id, &resp);
    assert_int_equal(resp.error_code, 14);
    assert_int_equal(resp.producer_id, -1);
    w->ids_away = false;
    world_run(w, 1100); /* asked again after a second */
    REQUEST(c, INIT_PRODUCER_ID, 5, init_producer_id, &m);
    world_run(w, 2);
    RESPONSE(c, INIT_PRODUCER_ID, 5, init_producer_id, &resp);
    assert_int_equal(resp.error_code, 0);
    assert_true(resp.producer_id > last);
    m.transactional_id = span_str("tx");
    REQUEST(c, INIT_PRODUCER_ID, 4, init_producer_id, &m);
    world_run(w, 2);
    RESPONSE(c, INIT_PRODUCER_ID, 4, init_producer_id, &resp);
    assert_int_equal(resp.error_code, 50); /* no timeout */
    m.transaction_timeout_ms = 1000;
    REQUEST(c, INIT_PRODUCER_ID, 4, init_producer_id, &m);
    world_run(w, 2);
    RESPONSE(c, INIT_PRODUCER_ID, 4, init_producer_id, &resp);
    assert_int_equal(resp.error_code, 15); /* no __transaction_state */
    client_close(c);
    close_world();
}

/* What the log of a partition holds after one batch of `n` records was produced to `topic`. */
static struct span kept(struct client *c, const char *topic, struct span b)
{
    struct plog *p = world_plog(w, topic, 0);
    uint32_t before = p->batch_cnt;
    assert_int_equal(produce(c, 9, topic, 0, b, -1).error_code, 0);
    assert_int_equal(p->batch_cnt, before + 1);
    return span_of(p->batch[before].bytes, p->batch[before].len);
}

static uint32_t records_in(struct span batch)
{
    static uint8_t scratch[1 << 20];
    struct record_iter it;
    struct record_view v;
    struct batch_info info;
    uint32_t n = 0;
    assert_ok(batch_verify(batch.p, batch.len, &info));
    assert_ok(record_iter_init(&it, w->shard[0].codecs, batch, scratch, sizeof(scratch)));
    while (record_iter_next(&it, &v) == 1) {
        assert_int_equal(v.value.len, 500);
        assert_int_equal(v.value.p[499], 'x');
        assert_int_equal(v.timestamp, INT64_C(1700000000000));
        n++;
    }
    return n;
}

static void batches_are_kept_in_the_codec_of_their_topic(void **state)
{
    (void)state;
    open_world(NULL);
    static const char *const types[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    char config[64];
    for (int i = 0; i < 5; i++) {
        snprintf(config, sizeof(config), "compression.type=%s", types[i]);
        world_topic(w, types[i], config);
    }
    world_topic(w, "producer", "compression.type=producer");
    world_topic(w, "bounded", "compression.type=uncompressed");
    struct client *c = client_open(w);
    for (int from = 0; from < 5; from++) {
        struct seal_opts o = {.codec = (enum codec_id)from,
                              .producer_id = 4,
                              .producer_epoch = 2,
                              .base_sequence = from * 40};
        struct span plain = make_batch(40, 500, &o);
        static uint8_t buf[65536];
        struct span b = plain;
        if (from != CODEC_NONE) {
            int64_t len =
                batch_recode(w->shard[0].codecs, plain.p,
                             span_of(plain.p + BATCH_HEADER_LEN, plain.len - BATCH_HEADER_LEN),
                             o.codec, 0, buf, sizeof(buf));
            assert_true(len > 0);
            b = span_of(buf, (uint32_t)len);
        }
        for (int to = 0; to < 5; to++) {
            struct span k = kept(c, types[to], b);
            assert_int_equal(batch_attributes(k.p) & BATCH_ATTR_CODEC, to);
            assert_int_equal(records_in(k), 40);
            assert_int_equal((int64_t)load_be64(k.p + BATCH_PRODUCER_ID), 4);
            assert_int_equal((int32_t)load_be32(k.p + BATCH_BASE_SEQUENCE), from * 40);
            if (to == from) /* not touched, but for what the log stamps */
                assert_memory_equal(k.p + BATCH_CRC, b.p + BATCH_CRC, b.len - BATCH_CRC);
        }
        struct span k = kept(c, "producer", b);
        assert_int_equal(batch_attributes(k.p) & BATCH_ATTR_CODEC, from);
        w->conf->message_max_bytes = 10000; /* it fits as it came, and not as it would be kept */
        if (from != CODEC_NONE)
            assert_int_equal(produce(c, 9, "bounded", 0, b, -1).error_code, 10);
        w->conf->message_max_bytes = 1048588;
        drop(plain);
    }
    world_run(w, 10);
    assert_int_equal(w->shard[0].kafka->responses.used, 0); /* the copies are given back */
    client_close(c);
    close_world();
}

static void a_read_only_log_is_told_at_once_and_in_words(void **state)
{
    (void)state;
    open_world(&(struct world_opts){.shards = 2});
    world_topic(w, "t", NULL);
    struct client *c = client_open(w);
    struct span b = make_batch(1, 10, NULL);
    struct produce1 p;
    for (int32_t i = 0; i < 2; i++) { /* here and on another shard */
        world_plog(w, "t", i)->append_rc = -E_READ_ONLY;
        produce1(&p, "t", i, b, -1);
        p.req.timeout_ms = 30000;
        REQUEST(c, 0, 9, produce, &p.req);
        world_run(w, 3); /* not 30 s */
        struct produce_response_partition r = take_produce(c, 9);
        assert_int_equal(r.error_code, 56);
        assert_true(span_eq_str(r.error_message, err_text(-E_READ_ONLY)));
    }
    free((void *)(uintptr_t)b.p);
    client_close(c);
    close_world();
}

TEST_MAIN(TEST(a_read_only_log_is_told_at_once_and_in_words),
          TEST(every_version_appends_and_tells_the_offset),
          TEST(acks_all_waits_for_the_flush_and_acks_1_does_not),
          TEST(a_timeout_is_answered_and_the_data_stays),
          TEST(acks_0_is_silent_and_closes_on_an_error),
          TEST(what_is_wrong_with_a_partition_is_told_for_that_partition),
          TEST(appends_of_one_connection_keep_their_order_per_partition),
          TEST(producer_ids_are_unique_and_survive_the_control_planes_absence),
          TEST(batches_are_kept_in_the_codec_of_their_topic))
