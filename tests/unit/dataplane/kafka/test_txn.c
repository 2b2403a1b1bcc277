/* Transactions: the coordinator's moves (gotchas 12), its markers, offsets of a transaction. */
#include "dataplane/kafka/txn/txn.h"
#include "lib/batch/control.h"
#include "tests/unit/dataplane/kafka/group_test.h"

static struct client *c;

static void open_txns_with(uint32_t shards)
{
    struct world_opts opts = {.shards = shards};
    open_groups(&opts, 0);
    world_topic(w, TXN_TOPIC, "cleanup.policy=compact");
    world_run(w, 3);
    c = client_open(w);
}
static void open_txns(void)
{
    open_txns_with(2);
}

/* A new world whose logs hold what was durable in the old one. */
static void restart_all(void)
{
    static const char *const topics[] = {"t", OFFSETS_TOPIC, TXN_TOPIC};
    struct span kept[3][WORLD_TOPIC_PARTITIONS][FAKE_BATCHES_MAX];
    uint32_t cnt[3][WORLD_TOPIC_PARTITIONS] = {{0}}, shards = w->shard_cnt;
    for (uint32_t t = 0; t < 3; t++)
        for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++) {
            struct plog *p = world_plog(w, topics[t], i);
            for (uint32_t k = 0; k < p->batch_cnt && p->batch[k].last < p->durable; k++) {
                uint8_t *copy = malloc(p->batch[k].len);
                assert_non_null(copy);
                memcpy(copy, p->batch[k].bytes, p->batch[k].len);
                kept[t][i][cnt[t][i]++] = span_of(copy, p->batch[k].len);
            }
        }
    close_world();
    struct world_opts opts = {.shards = shards};
    open_world(&opts);
    w->conf->group_initial_rebalance_delay_ms = 0;
    for (uint32_t t = 0; t < 3; t++) {
        world_topic(w, topics[t], NULL);
        for (int32_t i = 0; i < WORLD_TOPIC_PARTITIONS; i++)
            for (uint32_t k = 0; k < cnt[t][i]; k++) {
                fake_plog_put(world_plog(w, topics[t], i), kept[t][i][k]);
                free((void *)(uintptr_t)kept[t][i][k].p);
            }
    }
    world_run(w, 5);
    c = client_open(w);
}

static struct init_producer_id_response init_v(int16_t v, const char *id, int64_t pid,
                                               int16_t epoch)
{
    struct init_producer_id_request in;
    struct init_producer_id_response out;
    init_producer_id_request_init(&in);
    in.transactional_id = text(id);
    in.transaction_timeout_ms = 10000;
    in.producer_id = pid;
    in.producer_epoch = epoch;
    REQUEST(c, 22, v, init_producer_id, &in);
    world_run(w, 3);
    RESPONSE(c, 22, v, init_producer_id, &out);
    return out;
}
static struct init_producer_id_response init(void)
{
    struct init_producer_id_response r = init_v(5, "x", -1, -1);
    assert_int_equal(r.error_code, 0);
    return r;
}

static void send_add(struct init_producer_id_response p, int32_t partition)
{
    struct add_partitions_to_txn_request in;
    struct add_partitions_to_txn_request_topic t;
    add_partitions_to_txn_request_init(&in);
    add_partitions_to_txn_request_topic_init(&t);
    in.v3_and_below_transactional_id = text("x");
    in.v3_and_below_producer_id = p.producer_id;
    in.v3_and_below_producer_epoch = p.producer_epoch;
    in.v3_and_below_topics.v = &t;
    in.v3_and_below_topics.cnt = 1;
    t.name = text("t");
    t.partitions = (struct wire_i32s){.v = &partition, .cnt = 1};
    REQUEST(c, 24, 3, add_partitions_to_txn, &in);
}
static int16_t take_add(void)
{
    struct add_partitions_to_txn_response out;
    RESPONSE(c, 24, 3, add_partitions_to_txn, &out);
    return out.results_by_topic_v3_and_below.v[0].results_by_partition.v[0].partition_error_code;
}

static int16_t add(struct init_producer_id_response p, int32_t partition)
{
    send_add(p, partition);
    world_run(w, 3);
    return take_add();
}

static struct end_txn_response end_v(int16_t v, struct init_producer_id_response p, bool commit)
{
    struct end_txn_request in;
    struct end_txn_response out;
    end_txn_request_init(&in);
    in.transactional_id = text("x");
    in.producer_id = p.producer_id;
    in.producer_epoch = p.producer_epoch;
    in.committed = commit;
    REQUEST(c, 26, v, end_txn, &in);
    world_run(w, 3);
    RESPONSE(c, 26, v, end_txn, &out);
    return out;
}

static struct txn *the_txn(void)
{
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        struct txn *t = txn_find(w->shard[i].kafka->txns, text("x"));
        if (t != NULL)
            return t;
    }
    fail_msg("nobody knows the id");
    return NULL;
}
static struct plog *txn_log_of(void)
{
    return world_plog(w, TXN_TOPIC, clog_partition(text("x"), WORLD_TOPIC_PARTITIONS));
}

/* The markers in a partition: how many, and the last one. */
static uint32_t markers(const char *topic, int32_t partition, struct batch_marker *ret)
{
    struct plog *p = world_plog(w, topic, partition);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->batch_cnt; i++)
        n += marker_read(p->batch[i].bytes, p->batch[i].len, ret) == 0;
    return n;
}

static int16_t produce_txn(int16_t v, struct init_producer_id_response p, int32_t partition,
                           int32_t seq)
{
    struct produce1 pr;
    struct seal_opts opts = {.producer_id = p.producer_id,
                             .producer_epoch = p.producer_epoch,
                             .base_sequence = seq,
                             .attributes = BATCH_ATTR_TRANSACTIONAL};
    struct span b = make_batch(1, 10, &opts);
    struct produce_request *in = produce1(&pr, "t", partition, b, -1);
    in->transactional_id = text("x");
    REQUEST(c, 0, v, produce, in);
    world_run(w, 3);
    free((void *)(uintptr_t)b.p);
    return take_produce(c, v).error_code;
}

/* ------------------------------------------------------------ coordinator */

static void the_first_question_about_an_id_makes_the_topic(void **state)
{
    struct find_coordinator_request in;
    struct find_coordinator_response out;
    struct span id = text("x");
    open_groups(NULL, 0);
    w->creates = true;
    c = client_open(w);
    find_coordinator_request_init(&in);
    in.key_type = 1;
    in.coordinator_keys = (struct wire_spans){.v = &id, .cnt = 1};
    assert_null(image_topic_by_name(w->image, span_str(TXN_TOPIC)));
    REQUEST(c, 10, 6, find_coordinator, &in);
    world_run(w, 5);
    RESPONSE(c, 10, 6, find_coordinator, &out);
    assert_int_equal(out.coordinators.v[0].error_code, 0);
    assert_non_null(image_topic_by_name(w->image, span_str(TXN_TOPIC)));
    uint32_t asked = w->admin.cnt;
    REQUEST(c, 10, 6, find_coordinator, &in);
    world_run(w, 3);
    RESPONSE(c, 10, 6, find_coordinator, &out);
    assert_int_equal(w->admin.cnt, asked);
    (void)init();
    close_world();
}

static void a_producer_that_begins_anew_raises_the_epoch_and_fences_the_one_before(void **state)
{
    open_txns();
    struct init_producer_id_response a = init(), b = init();
    assert_int_equal(a.producer_epoch, 0);
    assert_int_equal(b.producer_id, a.producer_id);
    assert_int_equal(b.producer_epoch, 1);
    assert_int_equal(add(a, 0), TE_PRODUCER_FENCED);
    assert_int_equal(end_v(4, a, true).error_code, TE_PRODUCER_FENCED);
    assert_int_equal(end_v(1, a, true).error_code, TE_INVALID_PRODUCER_EPOCH);
    /* KIP-360: who names its epoch gets the next; the retry of that gets the same */
    struct init_producer_id_response r = init_v(5, "x", b.producer_id, 1);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.producer_epoch, 2);
    r = init_v(5, "x", b.producer_id, 1);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.producer_epoch, 2);
    assert_int_equal(init_v(5, "x", b.producer_id, 0).error_code, TE_PRODUCER_FENCED);
    assert_int_equal(init_v(3, "x", b.producer_id, 0).error_code, TE_INVALID_PRODUCER_EPOCH);
    assert_int_equal(init_v(5, "x", b.producer_id + 7, 2).error_code, TE_PRODUCER_FENCED);
    assert_int_equal(init_v(5, "", -1, -1).error_code, TE_INVALID_REQUEST);
    assert_int_equal(init_v(5, "x", 5, -1).error_code, TE_INVALID_REQUEST);
    b.producer_id += 7;
    assert_int_equal(add(b, 0), TE_INVALID_PID_MAPPING);
    /* the epochs end: another producer id */
    the_txn()->v.epoch = TXN_EPOCH_EXHAUSTED;
    r = init();
    assert_int_not_equal(r.producer_id, a.producer_id);
    assert_int_equal(r.producer_epoch, 0);
    close_world();
}

static void the_outcome_reaches_every_partition_once(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(end_v(4, p, true).error_code, TE_INVALID_TXN_STATE); /* nothing is open */
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(add(p, i), 0);
    assert_int_equal(add(p, 99), TE_UNKNOWN_TOPIC);
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    assert_int_equal(end_v(4, p, true).error_code, 0);
    world_run(w, 5);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_COMMIT);
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(markers("t", i, &m), i < 3);
    assert_int_equal(markers("t", 1, &m), 1);
    assert_true(m.commit);
    assert_int_equal(m.producer_id, p.producer_id);
    assert_int_equal(m.producer_epoch, p.producer_epoch); /* not KIP-890: its own epoch */
    assert_int_equal(end_v(4, p, true).error_code, 0);    /* a retry */
    assert_int_equal(end_v(4, p, false).error_code, TE_INVALID_TXN_STATE);
    assert_int_equal(markers("t", 1, &m), 1);
    assert_int_equal(add(p, 1), 0); /* the next one */
    assert_int_equal(end_v(4, p, false).error_code, 0);
    world_run(w, 5);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_ABORT);
    assert_int_equal(markers("t", 1, &m), 2);
    assert_false(m.commit);
    assert_int_equal(STAT(txns_committed), 1);
    assert_int_equal(STAT(txns_aborted), 1);
    assert_int_equal(STAT(txns_timed_out), 0);
    assert_int_equal(STAT(txn_markers), 4);
    assert_int_equal(STAT(txns_complete_abort), 1);
    assert_int_equal(STAT(txns_ongoing), 0);
    close_world();
}

static void the_client_is_answered_when_the_outcome_is_durable_and_markers_follow(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(add(p, 1), 0);
    world_plog(w, "t", 1)->hold_flush = true; /* its marker does not become durable */
    assert_int_equal(end_v(4, p, true).error_code, 0);
    assert_int_equal(the_txn()->v.state, TXN_PREPARE_COMMIT);
    send_add(p, 2); /* waits for the markers, but not for ever */
    world_run(w, 3);
    assert_true(no_response(c));
    world_run(w, TXN_WAIT_MS);
    assert_int_equal(take_add(), TE_CONCURRENT);
    assert_int_equal(init_v(5, "x", -1, -1).error_code, TE_CONCURRENT);
    assert_int_equal(end_v(4, p, true).error_code, TE_CONCURRENT);
    assert_int_equal(end_v(4, p, false).error_code, TE_INVALID_TXN_STATE);
    send_add(p, 2);
    world_run(w, 3);
    world_plog(w, "t", 1)->hold_flush = false;
    fake_plog_flush(world_plog(w, "t", 1));
    world_run(w, 5);
    assert_int_equal(take_add(), 0);
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    assert_int_equal(markers("t", 1, &m), 1);
    close_world();
}

static void a_marker_that_fails_is_sent_again_and_one_of_a_deleted_topic_is_not_missed(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(add(p, 0), 0);
    assert_int_equal(add(p, 1), 0);
    world_plog(w, "t", 1)->append_rc = -E_STORAGE;
    assert_int_equal(end_v(4, p, true).error_code, 0);
    world_run(w, 20);
    assert_int_equal(the_txn()->v.state, TXN_PREPARE_COMMIT);
    world_plog(w, "t", 1)->append_rc = 0;
    world_run(w, TXN_MARKER_RETRY_MS + 10);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_COMMIT);
    assert_int_equal(markers("t", 0, &m), 1);
    assert_int_equal(markers("t", 1, &m), 1);
    assert_int_equal(add(p, 0), 0);
    world_plog(w, "t", 0)->append_rc = -E_STORAGE;
    assert_int_equal(end_v(4, p, false).error_code, 0);
    world_topic_delete(w, "t");
    world_run(w, TXN_MARKER_RETRY_MS + 10);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_ABORT);
    close_world();
}

static void with_kip_890_every_end_raises_the_epoch_and_a_retry_is_told_the_same(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init(), old = p;
    assert_int_equal(end_v(5, p, true).error_code, TE_INVALID_TXN_STATE);
    assert_int_equal(produce_txn(12, p, 0, 0), 0); /* joins by itself */
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    struct end_txn_response r = end_v(5, p, true);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.producer_id, p.producer_id);
    assert_int_equal(r.producer_epoch, p.producer_epoch + 1);
    world_run(w, 5);
    assert_int_equal(markers("t", 0, &m), 1);
    assert_int_equal(m.producer_epoch, p.producer_epoch + 1);
    r = end_v(5, old, true);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.producer_epoch, p.producer_epoch + 1);
    assert_int_equal(end_v(5, old, false).error_code, TE_INVALID_TXN_STATE);
    p.producer_epoch++;
    assert_int_equal(produce_txn(12, old, 0, 1), TE_INVALID_PRODUCER_EPOCH);
    /* an abort of nothing is a raised epoch, so that nothing late can join */
    r = end_v(5, p, false);
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.producer_epoch, p.producer_epoch + 1);
    world_run(w, 5);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_ABORT);
    assert_int_equal(markers("t", 0, &m), 1);
    p.producer_epoch = (int16_t)(p.producer_epoch + 5);
    assert_int_equal(end_v(5, p, false).error_code, TE_PRODUCER_FENCED);
    /* the last epoch: the next transaction has another producer id */
    the_txn()->v.epoch = p.producer_epoch = TXN_EPOCH_EXHAUSTED;
    assert_int_equal(produce_txn(12, p, 0, 0), 0);
    r = end_v(5, p, true);
    assert_int_equal(r.error_code, 0);
    assert_int_not_equal(r.producer_id, p.producer_id);
    assert_int_equal(r.producer_epoch, 0);
    world_run(w, 5);
    struct end_txn_response again = end_v(5, p, true);
    assert_int_equal(again.error_code, 0);
    assert_int_equal(again.producer_id, r.producer_id);
    assert_int_equal(again.producer_epoch, 0);
    close_world();
}

static void a_produce_to_a_partition_that_did_not_join_is_refused_before_kip_890(void **state)
{
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(produce_txn(9, p, 1, 0), TE_INVALID_TXN_STATE);
    assert_int_equal(produce_txn(11, p, 1, 0), TE_ABORTABLE);
    assert_int_equal(add(p, 1), 0);
    assert_int_equal(produce_txn(9, p, 2, 0), TE_INVALID_TXN_STATE);
    assert_int_equal(produce_txn(9, p, 1, 0), 0);
    p.producer_id++;
    assert_int_equal(produce_txn(9, p, 1, 1), TE_INVALID_PID_MAPPING);
    assert_int_equal(world_plog(w, "t", 1)->batch_cnt, 1);
    assert_int_equal(world_plog(w, "t", 2)->batch_cnt, 0);
    close_world();
}

static void a_produce_waits_for_the_markers_of_the_transaction_before(void **state)
{
    open_txns();
    struct init_producer_id_response p = init();
    struct seal_opts opts = {.producer_id = p.producer_id, .attributes = BATCH_ATTR_TRANSACTIONAL};
    assert_int_equal(produce_txn(12, p, 1, 0), 0);
    world_plog(w, "t", 1)->hold_flush = true;
    struct end_txn_response r = end_v(5, p, true);
    for (int32_t i = 0; i < 3; i++) { /* pipelined; in order in the end */
        struct produce1 pr;
        opts.producer_epoch = r.producer_epoch;
        opts.base_sequence = i;
        struct span b = make_batch(1, 10, &opts);
        struct produce_request *in = produce1(&pr, "t", 2, b, -1);
        in->transactional_id = text("x");
        REQUEST(c, 0, 12, produce, in);
        free((void *)(uintptr_t)b.p);
    }
    world_run(w, 5);
    assert_true(no_response(c));
    fake_plog_flush(world_plog(w, "t", 1));
    world_run(w, 5);
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(take_produce(c, 12).error_code, 0);
    struct plog *log = world_plog(w, "t", 2);
    assert_int_equal(log->batch_cnt, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(load_be32(log->batch[i].bytes + BATCH_BASE_SEQUENCE), i);
    /* but not for ever */
    p.producer_epoch = r.producer_epoch;
    world_plog(w, "t", 2)->append_rc = -E_STORAGE;
    r = end_v(5, p, true);
    p.producer_epoch = r.producer_epoch;
    uint64_t before = w->now_ns;
    struct produce1 pr;
    opts.producer_epoch = p.producer_epoch;
    opts.base_sequence = 0;
    struct span b = make_batch(1, 10, &opts);
    struct produce_request *in = produce1(&pr, "t", 3, b, -1);
    in->transactional_id = text("x");
    REQUEST(c, 0, 12, produce, in);
    world_run(w, TXN_WAIT_MS + 10);
    free((void *)(uintptr_t)b.p);
    assert_int_equal(take_produce(c, 12).error_code, TE_CONCURRENT);
    assert_true(w->now_ns - before < UINT64_C(1000000000));
    world_plog(w, "t", 2)->append_rc = 0;
    world_run(w, TXN_MARKER_RETRY_MS + 10);
    close_world();
}

static void a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(produce_txn(12, p, 0, 0), 0);
    world_run(w, 9000);
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    world_run(w, 1100);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_ABORT);
    assert_int_equal(markers("t", 0, &m), 1);
    assert_false(m.commit);
    assert_true(m.producer_epoch > p.producer_epoch);
    assert_int_equal(end_v(5, p, true).error_code, TE_PRODUCER_FENCED);
    assert_int_equal(end_v(5, p, false).error_code, TE_PRODUCER_FENCED);
    assert_int_equal(produce_txn(12, p, 0, 1), TE_INVALID_PRODUCER_EPOCH);
    assert_int_equal(STAT(txns_timed_out), 1);
    assert_int_equal(STAT(txns_aborted), 1);
    close_world();
}

static void a_new_producer_ends_the_transaction_of_the_one_before(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(add(p, 0), 0);
    assert_int_equal(init_v(5, "x", -1, -1).error_code, TE_CONCURRENT);
    world_run(w, 5);
    assert_int_equal(markers("t", 0, &m), 1);
    assert_false(m.commit);
    struct init_producer_id_response q = init();
    assert_int_equal(q.producer_id, p.producer_id);
    assert_true(q.producer_epoch > p.producer_epoch);
    assert_int_equal(end_v(4, p, true).error_code, TE_PRODUCER_FENCED);
    close_world();
}

static void a_restart_goes_on_where_the_log_ends(void **state)
{
    struct batch_marker m;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(produce_txn(12, p, 0, 0), 0);
    assert_int_equal(produce_txn(12, p, 1, 0), 0);
    restart_all(); /* amid the transaction */
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    assert_int_equal(the_txn()->v.parts.part_cnt, 2);
    assert_int_equal(produce_txn(12, p, 1, 1), 0);
    world_plog(w, "t", 1)->append_rc = -E_STORAGE;
    struct end_txn_response r = end_v(5, p, true);
    assert_int_equal(r.error_code, 0);
    world_run(w, 5);
    assert_int_equal(the_txn()->v.state, TXN_PREPARE_COMMIT);
    restart_all(); /* one marker is there, one is not */
    world_run(w, 5);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_COMMIT);
    assert_int_equal(markers("t", 1, &m), 1);
    assert_true(m.commit);
    assert_true(markers("t", 0, &m) >= 1); /* once more does no harm */
    struct end_txn_response again = end_v(5, p, true);
    assert_int_equal(again.error_code, 0);
    assert_int_equal(again.producer_epoch, r.producer_epoch);
    restart_all();
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_COMMIT);
    p.producer_epoch = r.producer_epoch;
    assert_int_equal(produce_txn(12, p, 3, 0), 0);
    close_world();
}

static void a_clock_that_was_set_back_keeps_no_transaction_open(void **state)
{
    open_txns();
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        w->shard[i].wall_ms += 3600000;
    struct init_producer_id_response p = init();
    assert_int_equal(produce_txn(12, p, 0, 0), 0);
    restart_all(); /* an hour earlier */
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    world_skip(w, 9000);
    assert_int_equal(the_txn()->v.state, TXN_ONGOING);
    world_skip(w, 2000); /* the timeout is 10 s */
    world_run(w, 5);
    assert_int_equal(the_txn()->v.state, TXN_COMPLETE_ABORT);
    close_world();
}

static void a_failed_append_takes_the_move_back(void **state)
{
    open_txns();
    struct init_producer_id_response p = init();
    txn_log_of()->append_rc = -E_STORAGE;
    assert_int_equal(add(p, 0), TE_NOT_COORDINATOR);
    txn_log_of()->append_rc = 0;
    world_run(w, 10);
    assert_int_equal(the_txn()->v.state, TXN_EMPTY);
    assert_int_equal(add(p, 0), 0);
    close_world();
}

static void an_idle_id_is_forgotten(void **state)
{
    open_txns();
    (void)init();
    w->conf->transactional_id_expiration_ms = 1;
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        w->shard[i].wall_ms += 10;
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        txn_expire(w->shard[i].kafka->txns);
    world_run(w, 5);
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        assert_null(txn_find(w->shard[i].kafka->txns, text("x")));
    restart_all(); /* the record says so */
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        assert_null(txn_find(w->shard[i].kafka->txns, text("x")));
    close_world();
}

/* By the coordinator's own timers; the default is a week. */
static void an_id_is_forgotten_a_week_after_its_last_transaction(void **state)
{
    const int64_t hour = 3600000;
    open_txns();
    struct init_producer_id_response p = init();
    world_skip(w, 6 * 24 * hour); /* idle connections are closed meanwhile */
    client_close(c);
    c = client_open(w);
    assert_int_equal(produce_txn(12, p, 0, 0), 0);
    assert_int_equal(end_v(5, p, true).error_code, 0); /* counts from here */
    world_run(w, 5);
    world_skip(w, 7 * 24 * hour - 2 * hour);
    assert_int_equal(STAT(txns_complete_commit), 1);
    assert_int_equal(STAT(txn_ids_expired), 0);
    world_skip(w, 3 * hour); /* it looks once an hour */
    world_run(w, 5);
    assert_int_equal(STAT(txns_complete_commit), 0);
    assert_int_equal(STAT(txn_ids_expired), 1);
    restart_all(); /* the record says so */
    assert_int_equal(STAT(txns_complete_commit), 0);
    struct init_producer_id_response again = init();
    assert_int_equal(again.producer_epoch, 0); /* as new */
    close_world();
}

/* -------------------------------------------------------------- administration */

static void transactions_are_described_and_listed(void **state)
{
    struct describe_transactions_request in;
    struct describe_transactions_response out;
    struct list_transactions_request lin;
    struct list_transactions_response lout;
    struct span ids[] = {text("x"), text("nobody")};
    open_txns();
    struct init_producer_id_response p = init();
    (void)init_v(5, "other", -1, -1);
    assert_int_equal(add(p, 2), 0);
    describe_transactions_request_init(&in);
    in.transactional_ids = (struct wire_spans){.v = ids, .cnt = 2};
    REQUEST(c, 65, 0, describe_transactions, &in);
    world_run(w, 3);
    RESPONSE(c, 65, 0, describe_transactions, &out);
    assert_int_equal(out.transaction_states.cnt, 2);
    assert_string_equal(str(out.transaction_states.v[0].transaction_state), "Ongoing");
    assert_int_equal(out.transaction_states.v[0].topics.v[0].partitions.v[0], 2);
    assert_int_equal(out.transaction_states.v[1].error_code, TE_ID_NOT_FOUND);

    struct span filters[] = {text("Ongoing"), text("Nonsense")};
    list_transactions_request_init(&lin);
    REQUEST(c, 66, 2, list_transactions, &lin);
    world_run(w, 3);
    RESPONSE(c, 66, 2, list_transactions, &lout);
    assert_int_equal(lout.transaction_states.cnt, 2);
    lin.state_filters = (struct wire_spans){.v = filters, .cnt = 2};
    REQUEST(c, 66, 2, list_transactions, &lin);
    world_run(w, 3);
    RESPONSE(c, 66, 2, list_transactions, &lout);
    assert_int_equal(lout.transaction_states.cnt, 1);
    assert_string_equal(str(lout.transaction_states.v[0].transactional_id), "x");
    assert_int_equal(lout.unknown_state_filters.cnt, 1);
    list_transactions_request_init(&lin);
    lin.transactional_id_pattern = text("o.*r");
    REQUEST(c, 66, 2, list_transactions, &lin);
    world_run(w, 3);
    RESPONSE(c, 66, 2, list_transactions, &lout);
    assert_int_equal(lout.transaction_states.cnt, 1);
    assert_string_equal(str(lout.transaction_states.v[0].transactional_id), "other");
    lin.transactional_id_pattern = text("(");
    REQUEST(c, 66, 2, list_transactions, &lin);
    world_run(w, 3);
    RESPONSE(c, 66, 2, list_transactions, &lout);
    assert_int_equal(lout.error_code, TE_INVALID_REGEX);
    close_world();
}

static void an_administrator_may_write_markers(void **state)
{
    struct write_txn_markers_request in;
    struct write_txn_markers_request_marker m;
    struct write_txn_markers_request_topic t;
    struct write_txn_markers_response out;
    struct batch_marker got;
    int32_t parts[] = {1, 2, 77};
    open_txns();
    write_txn_markers_request_init(&in);
    write_txn_markers_request_marker_init(&m);
    write_txn_markers_request_topic_init(&t);
    in.markers.v = &m;
    in.markers.cnt = 1;
    m.producer_id = 12;
    m.producer_epoch = 3;
    m.topics.v = &t;
    m.topics.cnt = 1;
    t.name = text("t");
    t.partition_indexes = (struct wire_i32s){.v = parts, .cnt = 3};
    REQUEST(c, 27, 2, write_txn_markers, &in);
    world_run(w, 3);
    RESPONSE(c, 27, 2, write_txn_markers, &out);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(out.markers.v[0].topics.v[0].partitions.v[i].error_code, i == 2 ? 3 : 0);
    assert_int_equal(markers("t", 2, &got), 1);
    assert_int_equal(got.producer_id, 12);
    assert_false(got.commit);
    m.producer_id = -1;
    REQUEST(c, 27, 1, write_txn_markers, &in);
    world_run(w, 3);
    RESPONSE(c, 27, 1, write_txn_markers, &out);
    assert_int_equal(out.markers.v[0].topics.v[0].partitions.v[0].error_code, TE_INVALID_REQUEST);
    close_world();
}

/* --------------------------------------------------------------------- offsets */

struct txn_commit {
    int16_t version; /* 5 */
    const char *member;
    int32_t generation; /* 0: -1 */
    int64_t offset;
};
static int16_t commit_in_txn(struct init_producer_id_response p, struct txn_commit o)
{
    struct txn_offset_commit_request in;
    struct txn_offset_commit_request_topic t;
    struct txn_offset_commit_request_partition part;
    struct txn_offset_commit_response out;
    int16_t v = o.version != 0 ? o.version : 5;
    txn_offset_commit_request_init(&in);
    txn_offset_commit_request_topic_init(&t);
    txn_offset_commit_request_partition_init(&part);
    in.transactional_id = text("x");
    in.group_id = text("g");
    in.producer_id = p.producer_id;
    in.producer_epoch = p.producer_epoch;
    in.generation_id = o.generation != 0 ? o.generation : -1;
    in.member_id = text(o.member != NULL ? o.member : "");
    in.topics.v = &t;
    in.topics.cnt = 1;
    t.name = text("t");
    t.partitions.v = &part;
    t.partitions.cnt = 1;
    part.committed_offset = o.offset;
    REQUEST(c, 28, v, txn_offset_commit, &in);
    world_run(w, 4);
    RESPONSE(c, 28, v, txn_offset_commit, &out);
    return out.topics.v[0].partitions.v[0].error_code;
}

static int16_t fetch_stable(int64_t *ret)
{
    struct offset_fetch_request in;
    struct offset_fetch_request_group g;
    struct offset_fetch_request_group_topic t;
    struct offset_fetch_response out;
    int32_t part = 0;
    offset_fetch_request_init(&in);
    offset_fetch_request_group_init(&g);
    offset_fetch_request_group_topic_init(&t);
    in.require_stable = true;
    in.groups.v = &g;
    in.groups.cnt = 1;
    g.group_id = text("g");
    g.topics.v = &t;
    g.topics.cnt = 1;
    t.name = text("t");
    t.partition_indexes = (struct wire_i32s){.v = &part, .cnt = 1};
    REQUEST(c, 9, 9, offset_fetch, &in);
    world_run(w, 2);
    RESPONSE(c, 9, 9, offset_fetch, &out);
    *ret = out.groups.v[0].topics.v[0].partitions.v[0].committed_offset;
    return out.groups.v[0].topics.v[0].partitions.v[0].error_code;
}

static void offsets_of_a_transaction_count_from_its_commit_on(void **state)
{
    int64_t at;
    open_txns();
    struct init_producer_id_response p = init();
    struct end_txn_response r;
    assert_int_equal(commit(c, (struct commit1){.offset = 3}), 0);
    assert_int_equal(commit_in_txn(p, (struct txn_commit){.offset = 10}), 0);
    assert_int_equal(committed(c, "g"), 3);
    assert_int_equal(fetch_stable(&at), 88);
    assert_int_equal(at, -1);
    r = end_v(5, p, false);
    world_run(w, 5);
    assert_int_equal(committed(c, "g"), 3);
    assert_int_equal(fetch_stable(&at), 0);
    assert_int_equal(at, 3);
    p.producer_epoch = r.producer_epoch;
    assert_int_equal(commit_in_txn(p, (struct txn_commit){.offset = 11}), 0);
    r = end_v(5, p, true);
    world_run(w, 5);
    assert_int_equal(committed(c, "g"), 11);
    /* what was committed outside meanwhile is newer */
    p.producer_epoch = r.producer_epoch;
    assert_int_equal(commit_in_txn(p, (struct txn_commit){.offset = 12}), 0);
    assert_int_equal(commit(c, (struct commit1){.offset = 20}), 0);
    (void)end_v(5, p, true);
    world_run(w, 5);
    assert_int_equal(committed(c, "g"), 20);
    restart_all();
    assert_int_equal(committed(c, "g"), 20);
    close_world();
}

static void offsets_of_an_open_transaction_survive_a_restart(void **state)
{
    int64_t at;
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(commit_in_txn(p, (struct txn_commit){.offset = 10}), 0);
    restart_all();
    assert_int_equal(committed(c, "g"), -1);
    assert_int_equal(fetch_stable(&at), 88);
    assert_int_equal(end_v(5, p, true).error_code, 0);
    world_run(w, 5);
    assert_int_equal(committed(c, "g"), 10);
    restart_all();
    assert_int_equal(committed(c, "g"), 10);
    close_world();
}

static int16_t consumer_beat(int32_t epoch)
{
    struct consumer_group_heartbeat_request in;
    struct consumer_group_heartbeat_response out;
    struct span name = text("t");
    consumer_group_heartbeat_request_init(&in);
    in.group_id = text("g");
    in.member_id = text("m");
    in.member_epoch = epoch;
    in.rebalance_timeout_ms = 10000;
    in.topic_partitions.null = false;
    in.subscribed_topic_names = (struct wire_spans){.v = &name, .cnt = 1};
    REQUEST(c, 68, 1, consumer_group_heartbeat, &in);
    world_run(w, 3);
    RESPONSE(c, 68, 1, consumer_group_heartbeat, &out);
    return out.error_code;
}

static void offsets_of_an_open_transaction_survive_a_change_of_protocol(void **state)
{
    open_txns();
    struct init_producer_id_response p = init();
    assert_int_equal(commit_in_txn(p, (struct txn_commit){.offset = 10}), 0);
    assert_int_equal(consumer_beat(0), 0);
    assert_int_equal(consumer_beat(-1), 0);
    (void)enter(c, (struct join_opts){0}); /* the consumer group's tombstone is in the log */
    (void)take_join(c, 9);
    restart_all();
    assert_int_equal(end_v(5, p, true).error_code, 0);
    world_run(w, 5);
    assert_int_equal(committed(c, "g"), 10);
    close_world();
}

static void offsets_of_a_zombie_member_or_outside_of_a_transaction_are_refused(void **state)
{
    open_txns();
    struct init_producer_id_response p = init();
    struct pair g = open_pair();
    struct txn_commit o = {.member = g.id[0], .generation = g.generation, .offset = 5};
    assert_int_equal(commit_in_txn(p, o), 0);
    o.generation++;
    assert_int_equal(commit_in_txn(p, o), KE_ILLEGAL_GENERATION);
    o.member = "nobody";
    assert_int_equal(commit_in_txn(p, o), KE_UNKNOWN_MEMBER);
    struct end_txn_response r = end_v(5, p, true);
    assert_int_equal(commit_in_txn(p, (struct txn_commit){.offset = 6}), TE_INVALID_PRODUCER_EPOCH);
    p.producer_epoch = r.producer_epoch;
    /* before KIP-890 the partition must have joined: AddOffsetsToTxn */
    struct txn_commit old = {.version = 3, .offset = 7};
    assert_int_equal(commit_in_txn(p, old), TE_INVALID_TXN_STATE);
    struct add_offsets_to_txn_request in;
    struct add_offsets_to_txn_response out;
    add_offsets_to_txn_request_init(&in);
    in.transactional_id = text("x");
    in.producer_id = p.producer_id;
    in.producer_epoch = p.producer_epoch;
    in.group_id = text("g");
    REQUEST(c, 25, 3, add_offsets_to_txn, &in);
    world_run(w, 3);
    RESPONSE(c, 25, 3, add_offsets_to_txn, &out);
    assert_int_equal(out.error_code, 0);
    assert_int_equal(commit_in_txn(p, old), 0);
    close_world();
}

/* --------------------------------------------------------------------- records */

static void a_record_reads_back_and_a_cut_one_is_refused(void **state)
{
    struct arena a;
    struct txn_value v = {.state = TXN_PREPARE_COMMIT,
                          .producer_id = 5,
                          .prev_producer_id = 4,
                          .next_producer_id = 9,
                          .epoch = 7,
                          .client_version = 2,
                          .timeout_ms = 60000,
                          .start_ms = 100,
                          .update_ms = 200};
    arena_init(&a, 1 << 20);
    assert_ok(txn_parts_add(&v.parts, text("t"), 3));
    assert_ok(txn_parts_add(&v.parts, text("u"), 1));
    assert_ok(txn_parts_add(&v.parts, text("t"), 0));
    assert_ok(txn_parts_add(&v.parts, text("t"), 3));
    assert_int_equal(v.parts.part_cnt, 3);
    struct record_view rec = {.key = txn_record_key(&a, text("x")),
                              .value = txn_record_value(&a, &v)};
    struct txn_value got;
    struct span id;
    bool deleted;
    assert_int_equal(txn_record_read(&rec, &a, &id, &deleted, &got), 1);
    assert_false(deleted);
    assert_string_equal(str(id), "x");
    assert_int_equal(got.next_producer_id, 9);
    assert_int_equal(got.client_version, 2);
    assert_true(txn_parts_has(&got.parts, text("t"), 0));
    assert_false(txn_parts_has(&got.parts, text("u"), 0));
    txn_parts_remove(&got.parts, text("u"), 1);
    assert_int_equal(got.parts.cnt, 1);
    txn_value_fini(&got);
    for (uint32_t n = 0; n < rec.value.len; n++) {
        struct record_view cut = {.key = rec.key, .value = span_of(rec.value.p, n)};
        assert_true(txn_record_read(&cut, &a, &id, &deleted, &got) < 0);
    }
    struct record_view gone = {.key = rec.key, .value = SPAN_NULL};
    assert_int_equal(txn_record_read(&gone, &a, &id, &deleted, &got), 1);
    assert_true(deleted);
    txn_value_fini(&v);
    arena_fini(&a);
}

static void many_partitions_are_kept_sorted_and_bounded(void **state)
{
    struct txn_parts t = {0}, copy = {0};
    uint32_t x = 1;
    for (uint32_t i = 0; i < 3000; i++) { /* against a plain table */
        static bool have[4][200];
        x = x * 1664525u + 1013904223u;
        uint32_t topic = x >> 30, part = (x >> 16) % 200;
        char name[2] = {(char)('a' + topic), 0};
        assert_int_equal(txn_parts_has(&t, span_str(name), (int32_t)part), have[topic][part]);
        if (x >> 8 & 1) {
            assert_ok(txn_parts_add(&t, span_str(name), (int32_t)part));
            have[topic][part] = true;
        } else {
            txn_parts_remove(&t, span_str(name), (int32_t)part);
            have[topic][part] = false;
        }
        uint32_t cnt = 0;
        for (uint32_t k = 0; k < 4 * 200; k++)
            cnt += have[k / 200][k % 200];
        assert_int_equal(t.part_cnt, cnt);
    }
    assert_ok(txn_parts_copy(&copy, &t));
    assert_int_equal(copy.part_cnt, t.part_cnt);
    txn_parts_fini(&copy);
    txn_parts_fini(&t);
    for (int32_t i = TXN_PARTS_MAX; i-- > 0;) /* the worst order */
        assert_ok(txn_parts_add(&t, text("t"), i));
    assert_int_equal(txn_parts_add(&t, text("u"), 0), -E_LIMIT);
    assert_ok(txn_parts_add(&t, text("t"), 5));
    txn_parts_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_question_about_an_id_makes_the_topic),
        TEST(a_producer_that_begins_anew_raises_the_epoch_and_fences_the_one_before),
        TEST(the_outcome_reaches_every_partition_once),
        TEST(the_client_is_answered_when_the_outcome_is_durable_and_markers_follow),
        TEST(a_marker_that_fails_is_sent_again_and_one_of_a_deleted_topic_is_not_missed),
        TEST(with_kip_890_every_end_raises_the_epoch_and_a_retry_is_told_the_same),
        TEST(a_produce_to_a_partition_that_did_not_join_is_refused_before_kip_890),
        TEST(a_produce_waits_for_the_markers_of_the_transaction_before),
        TEST(a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced),
        TEST(a_new_producer_ends_the_transaction_of_the_one_before),
        TEST(a_restart_goes_on_where_the_log_ends),
        TEST(a_clock_that_was_set_back_keeps_no_transaction_open),
        TEST(a_failed_append_takes_the_move_back),
        TEST(an_idle_id_is_forgotten),
        TEST(an_id_is_forgotten_a_week_after_its_last_transaction),
        TEST(transactions_are_described_and_listed),
        TEST(an_administrator_may_write_markers),
        TEST(offsets_of_a_transaction_count_from_its_commit_on),
        TEST(offsets_of_an_open_transaction_survive_a_restart),
        TEST(offsets_of_an_open_transaction_survive_a_change_of_protocol),
        TEST(offsets_of_a_zombie_member_or_outside_of_a_transaction_are_refused),
        TEST(a_record_reads_back_and_a_cut_one_is_refused),
        TEST(many_partitions_are_kept_sorted_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
