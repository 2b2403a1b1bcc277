/* Transactions in one partition: the last stable offset, what read_committed reads, and that a
 * restart knows the same. One claim per test. */
#include "dataplane/store/format.h"
#include "dataplane/store/plog_int.h"
#include "dataplane/store/txn_index.h"
#include "lib/batch/control.h"
#include "tests/unit/store/steps.h"

#define PRODUCERS 4
#define IDS_FROM 100

struct model_txn {
    int64_t id, first, last, stable;
};
struct model { /* of one partition */
    int16_t epoch[PRODUCERS];
    int32_t seq[PRODUCERS];
    int64_t first[PRODUCERS]; /* -1: none open */
    struct model_txn aborted[4096];
    uint32_t aborted_cnt;
};

static void model_init(struct model *m)
{
    memset(m, 0, sizeof(*m));
    for (uint32_t i = 0; i < PRODUCERS; i++)
        m->first[i] = -1;
}

/* One batch of one record. */
static int append(struct env *e, struct span batch, bool client, bool verified, bool v2,
                  int64_t *ret_offset)
{
    struct env_append x = {.a = {.wait_durable = true,
                                 .batch = batch,
                                 .origin = client ? PLOG_CLIENT : PLOG_COORDINATOR,
                                 .txn_verified = verified,
                                 .txn_v2 = v2,
                                 .max_timestamp_ms = e->shard.wall_ms,
                                 .done = env_append_done}};
    plog_append(e->parts[0], &x.a);
    for (int i = 0; i < 10000 && !x.done; i++)
        env_step(e, 1000, 1000000);
    assert_true(x.done);
    if (ret_offset != NULL)
        *ret_offset = x.a.base_offset;
    return x.a.rc;
}

struct data { /* a transactional batch unless `plain` */
    int64_t id;
    int16_t epoch;
    int32_t seq;
    uint32_t len; /* 200 */
    bool plain, unverified, v2;
};
static int put_data(struct env *e, struct data d, int64_t *ret_offset)
{
    struct env_batch b = {.tag = 1,
                          .len = d.len > 0 ? d.len : 200,
                          .cnt = 1,
                          .ts = e->shard.wall_ms,
                          .producer_id = d.id,
                          .producer_epoch = d.epoch,
                          .base_seq = d.seq};
    uint8_t *p = env_batch_build(&b);
    if (!d.plain)
        store_be16(p + BATCH_ATTRIBUTES, BATCH_ATTR_TRANSACTIONAL);
    store_be32(p + BATCH_CRC, crc32c(0, p + BATCH_CRC_START, b.len - BATCH_CRC_START));
    int rc = append(e, span_of(p, b.len), true, !d.unverified, d.v2, ret_offset);
    free(p);
    return rc;
}

static int put_marker(struct env *e, int64_t id, int16_t epoch, int32_t coordinator, bool commit,
                      bool v2, int64_t *ret_offset)
{
    uint8_t p[MARKER_BATCH_MAX];
    struct batch_marker m = {.commit = commit,
                             .coordinator_epoch = coordinator,
                             .producer_id = id,
                             .producer_epoch = epoch,
                             .timestamp_ms = e->shard.wall_ms};
    return append(e, span_of(p, marker_write(&m, p)), false, false, v2, ret_offset);
}

static struct plog_offsets offsets(struct env *e)
{
    struct plog_offsets off;
    plog_offsets_get(e->parts[0], &off);
    return off;
}

/* A read_committed read from `offset`; the aborted transactions are the caller's to free. */
static struct env_read read_committed(struct env *e, int64_t offset, uint32_t cap)
{
    struct env_read x = {.r = env_read_make(offset, buf, sizeof(buf))};
    x.r.max_bytes = cap;
    x.r.isolation = PLOG_READ_COMMITTED;
    assert_ok(env_read_run(e, 0, &x));
    return x;
}

static void the_oldest_open_transaction_holds_the_last_stable_offset_back(void **state)
{
    struct env *e = start(1, NULL);
    (void)put(e, 0, 1, 200);
    assert_int_equal(offsets(e).stable, 1);
    assert_ok(put_data(e, (struct data){.id = 7}, NULL));
    assert_ok(put_data(e, (struct data){.id = 8}, NULL));
    (void)put(e, 0, 2, 200);
    assert_int_equal(offsets(e).stable, 1);
    assert_int_equal(offsets(e).durable, 4);
    assert_ok(put_marker(e, 7, 0, 0, true, false, NULL));
    assert_int_equal(offsets(e).stable, 2); /* 8 is open since then */
    assert_ok(put_marker(e, 8, 0, 0, false, false, NULL));
    assert_int_equal(offsets(e).stable, 6);
    struct plog_list_offsets q = {.timestamp = -1, .isolation = PLOG_READ_COMMITTED};
    q.current_leader_epoch = -1;
    assert_ok(put_data(e, (struct data){.id = 7, .seq = 1}, NULL));
    plog_list_offsets(e->parts[0], &q);
    assert_int_equal(q.offset, 6);
    struct list *n = list_pop_head(&e->set->ready_lists);
    assert_ptr_equal(n, &q.link);
    stop(e);
}

static void read_committed_ends_at_the_last_stable_offset_and_names_what_was_aborted(void **state)
{
    struct env *e = start(1, NULL);
    assert_ok(put_data(e, (struct data){.id = 7}, NULL));
    assert_ok(put_marker(e, 7, 0, 0, false, false, NULL));
    assert_ok(put_data(e, (struct data){.id = 8}, NULL));
    struct env_read x = read_committed(e, 0, sizeof(buf));
    assert_int_equal(x.r.last_stable_offset, 2);
    assert_int_equal(x.r.high_watermark, 3);
    assert_int_equal(x.r.len, 200 + batch_total_len(buf + 200));
    assert_int_equal(x.r.aborted_cnt, 1);
    assert_int_equal(x.r.aborted[0].producer_id, 7);
    assert_int_equal(x.r.aborted[0].first_offset, 0);
    free(x.r.aborted);
    x = read_committed(e, 2, sizeof(buf)); /* nothing yet */
    assert_int_equal(x.r.len, 0);
    assert_null(x.r.aborted);
    stop(e);
}

static void woken(struct plog_wait *w)
{
    w->rc = 1;
}

static void who_waits_for_a_transaction_is_woken_by_its_marker_only(void **state)
{
    struct env *e = start(1, NULL);
    assert_ok(put_data(e, (struct data){.id = 7}, NULL));
    struct plog_wait w = {
        .offset = 0, .min_bytes = 1, .isolation = PLOG_READ_COMMITTED, .done = woken};
    plog_wait(e->parts[0], &w);
    assert_ok(put_data(e, (struct data){.id = 7, .seq = 1}, NULL));
    (void)put(e, 0, 1, 200);
    env_settle(e);
    assert_int_equal(w.rc, 0);
    assert_ok(put_marker(e, 7, 0, 0, true, false, NULL));
    env_settle(e);
    assert_int_equal(w.rc, 1);
    stop(e);
}

static void what_does_not_belong_to_a_transaction_is_refused(void **state)
{
    struct env *e = start(1, NULL);
    struct data first = {.id = 7, .epoch = 3, .v2 = true};
    struct data unverified = {.id = 7, .epoch = 3, .unverified = true};
    assert_int_equal(put_data(e, unverified, NULL), -E_INVALID_TXN_STATE);
    first.seq = 5; /* of a producer that nobody knows; KIP-890 is strict here */
    assert_int_equal(put_data(e, first, NULL), -E_OUT_OF_ORDER_SEQUENCE);
    first.seq = 0;
    assert_ok(put_data(e, first, NULL));
    struct data plain_amid = {.id = 7, .epoch = 3, .seq = 1, .plain = true};
    assert_int_equal(put_data(e, plain_amid, NULL), -E_INVALID_TXN_STATE);
    /* markers: an old epoch; with KIP-890 not the transaction's own epoch either */
    assert_int_equal(put_marker(e, 7, 2, 5, true, false, NULL), -E_INVALID_PRODUCER_EPOCH);
    assert_int_equal(put_marker(e, 7, 3, 5, true, true, NULL), -E_INVALID_PRODUCER_EPOCH);
    assert_ok(put_marker(e, 7, 4, 5, true, true, NULL));
    assert_ok(put_marker(e, 7, 4, 5, true, true, NULL)); /* once more, as after a lost answer */
    assert_int_equal(put_marker(e, 7, 4, 4, true, false, NULL), -E_COORDINATOR_FENCED);
    /* what comes late is fenced by the raised epoch */
    struct data late = {.id = 7, .epoch = 3, .seq = 1};
    assert_int_equal(put_data(e, late, NULL), -E_INVALID_PRODUCER_EPOCH);
    assert_int_equal(offsets(e).stable, offsets(e).durable);
    stop(e);
}

/* ------------------------------------------------------------------ restarts */

static void tune_small_segments(struct env *e)
{
    e->pc.segment_bytes = 16u << 10;
    e->sc.checkpoint_ms = 50;
}

static void model_check(struct env *e, const struct model *m)
{
    int64_t stable = offsets(e).durable;
    for (uint32_t i = 0; i < PRODUCERS; i++)
        if (m->first[i] >= 0 && m->first[i] < stable)
            stable = m->first[i];
    assert_int_equal(offsets(e).stable, stable);
    uint32_t seen = 0;
    for (int64_t next = offsets(e).log_start; next < stable;) {
        struct env_read x = read_committed(e, next, 20000);
        assert_true(x.r.len > 0);
        int64_t end = next;
        for (uint32_t at = 0; at < x.r.len; at += batch_total_len(buf + at))
            end = batch_last_offset(buf + at) + 1;
        uint32_t want = 0, got = 0;
        for (uint32_t i = 0; i < m->aborted_cnt; i++) {
            const struct model_txn *t = &m->aborted[i];
            if (t->last < next || t->first >= end)
                continue;
            want++;
            assert_true(got < x.r.aborted_cnt);
            assert_int_equal(x.r.aborted[got].producer_id, t->id);
            assert_int_equal(x.r.aborted[got].first_offset, t->first);
            assert_int_equal(x.r.aborted[got].last_offset, t->last);
            assert_int_equal(x.r.aborted[got].stable_offset, t->stable);
            got++;
        }
        assert_int_equal(x.r.aborted_cnt, want);
        seen += want;
        free(x.r.aborted);
        next = end;
    }
    assert_true(seen > 0 || m->aborted_cnt == 0 || stable < 10);
}

static void model_step(struct env *e, struct model *m)
{
    uint32_t i = (uint32_t)env_rnd(e, PRODUCERS);
    int64_t id = IDS_FROM + i, at;
    if (m->first[i] < 0 || env_rnd(e, 3) > 0) {
        struct data d = {.id = id,
                         .epoch = m->epoch[i],
                         .seq = m->seq[i]++,
                         .len = 100 + (uint32_t)env_rnd(e, 3000)};
        assert_ok(put_data(e, d, &at));
        if (m->first[i] < 0)
            m->first[i] = at;
        return;
    }
    bool commit = env_rnd(e, 2) == 0, v2 = env_rnd(e, 2) == 0;
    if (v2) {
        m->epoch[i]++;
        m->seq[i] = 0;
    }
    assert_ok(put_marker(e, id, m->epoch[i], 0, commit, v2, &at));
    int64_t first = m->first[i];
    m->first[i] = -1;
    if (commit)
        return;
    int64_t stable = at + 1;
    for (uint32_t k = 0; k < PRODUCERS; k++)
        if (m->first[k] >= 0 && m->first[k] < stable)
            stable = m->first[k];
    m->aborted[m->aborted_cnt++] =
        (struct model_txn){.id = id, .first = first, .last = at, .stable = stable};
}

static void crash(struct env *e)
{
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    fake_disk_revive(e->disk);
}

static void power_cut(struct env *e)
{
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    fake_disk_power_cut(e->disk);
}

static void every_restart_knows_what_was_aborted_and_what_is_open(void **state)
{
    struct model *m = malloc(sizeof(*m));
    assert_non_null(m);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct env *e = start_seed(seed, 1, tune_small_segments);
        model_init(m);
        for (int life = 0; life < 5; life++) {
            int steps = 20 + (int)env_rnd(e, 60);
            for (int i = 0; i < steps; i++)
                model_step(e, m);
            model_check(e, m);
            switch (env_rnd(e, 3)) {
            case 0:
                assert_ok(env_close(e));
                break;
            case 1:
                crash(e);
                break;
            default:
                power_cut(e);
                break;
            }
            assert_ok(env_open(e));
            model_check(e, m);
        }
        stop(e);
    }
    free(m);
}

/* ---------------------------------------------------------------- .txnindex */

static const uint8_t *index_file(struct env *e, int64_t base, uint64_t *ret_len)
{
    char path[256];
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%020lld.txnindex", (long long)base);
    return fake_disk_content(e->disk, path, ret_len);
}

static void the_index_file_is_kafkas_and_there_is_none_without_aborted_transactions(void **state)
{
    struct env *e = start(1, NULL);
    uint64_t len;
    assert_ok(put_data(e, (struct data){.id = 7}, NULL));
    assert_ok(put_marker(e, 7, 0, 0, true, false, NULL));
    assert_ok(env_close(e));
    assert_null(index_file(e, 0, &len));
    assert_ok(env_open(e));
    assert_ok(put_data(e, (struct data){.id = 7, .seq = 1}, NULL));
    assert_ok(put_data(e, (struct data){.id = 8}, NULL));
    assert_ok(put_marker(e, 7, 0, 0, false, false, NULL));
    assert_ok(env_close(e));
    const uint8_t *p = index_file(e, 0, &len);
    assert_non_null(p);
    assert_int_equal(len, 34);
    assert_int_equal(load_be16(p), 0);
    assert_int_equal(load_be64(p + 2), 7);
    assert_int_equal(load_be64(p + 10), 2); /* its first record */
    assert_int_equal(load_be64(p + 18), 4); /* its marker */
    assert_int_equal(load_be64(p + 26), 3); /* 8 is open since then */
    assert_ok(env_open(e));
    stop(e);
}

static void a_damaged_index_file_is_rebuilt_from_the_log(void **state)
{
    struct model *m = malloc(sizeof(*m));
    struct env *e = start(1, tune_small_segments);
    uint64_t len = 0, bad = 0;
    assert_non_null(m);
    model_init(m);
    for (int i = 0; i < 200; i++)
        model_step(e, m);
    assert_ok(env_close(e));
    for (int64_t base = 0; base < 200 && bad == 0; base++) {
        const uint8_t *p = index_file(e, base, &len);
        char path[256];
        if (p == NULL)
            continue;
        (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/%020lld.txnindex", (long long)base);
        uint8_t cut[33] = {1};
        fake_disk_put(e->disk, path, cut, sizeof(cut));
        bad++;
    }
    assert_int_equal(bad, 1);
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_TXNINDEX_BAD], 1);
    model_check(e, m);
    stop(e);
    free(m);
}

static void dropped_segments_take_their_aborted_transactions_with_them(void **state)
{
    struct model *m = malloc(sizeof(*m));
    struct env *e = start(1, tune_small_segments);
    struct plog_segment s;
    uint64_t len;
    assert_non_null(m);
    model_init(m);
    for (int i = 0; i < 300; i++)
        model_step(e, m);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        if (m->first[i] >= 0)
            assert_ok(put_marker(e, IDS_FROM + i, m->epoch[i], 0, true, false, NULL));
    env_settle(e);
    int64_t first = 0;
    while (plog_segment_get(e->parts[0], 0, &s) && s.can_drop)
        assert_int_equal(plog_drop_segments(e->parts[0], 1, false), 1);
    env_settle(e);
    first = offsets(e).log_start;
    assert_true(first > 0);
    const struct aborted_txns *t = &e->parts[0]->part->aborted;
    assert_true(t->cnt < m->aborted_cnt);
    for (uint32_t i = 0; i < t->cnt; i++)
        assert_true(t->v[i].last_offset >= first);
    for (int64_t base = 0; base < first; base++)
        assert_null(index_file(e, base, &len));
    stop(e);
    free(m);
}

static void what_is_no_index_file_is_refused_whole(void **state)
{
    struct aborted_txns t = {0};
    uint8_t good[2 * TXNINDEX_ENTRY_LEN] = {0};
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *p = good + i * TXNINDEX_ENTRY_LEN;
        store_be64(p + 2, 7);
        store_be64(p + 10, 10 * i);
        store_be64(p + 18, 10 * i + 5);
        store_be64(p + 26, 10 * i + 6);
    }
    assert_ok(aborted_decode(&t, INT64_MAX, good, sizeof(good)));
    assert_int_equal(t.cnt, 2);
    aborted_fini(&t);
    assert_ok(aborted_decode(&t, 15, good, sizeof(good))); /* the second is above */
    assert_int_equal(t.cnt, 1);
    aborted_fini(&t);
    assert_int_equal(aborted_decode(&t, INT64_MAX, good, sizeof(good) - 1), -E_MALFORMED);
    good[1] = 1; /* version */
    assert_int_equal(aborted_decode(&t, INT64_MAX, good, sizeof(good)), -E_MALFORMED);
    good[1] = 0;
    store_be64(good + TXNINDEX_ENTRY_LEN + 18, 5); /* markers must ascend */
    assert_int_equal(aborted_decode(&t, INT64_MAX, good, sizeof(good)), -E_MALFORMED);
    store_be64(good + 18, 20); /* also behind one that is above the limit and left out */
    store_be64(good + TXNINDEX_ENTRY_LEN + 18, 15);
    assert_int_equal(aborted_decode(&t, 20, good, sizeof(good)), -E_MALFORMED);
    assert_int_equal(t.cnt, 0);
    aborted_fini(&t);
}

static void a_marker_reads_back_and_nothing_else_is_one(void **state)
{
    uint8_t p[MARKER_BATCH_MAX];
    struct batch_marker m = {.commit = true,
                             .coordinator_epoch = 9,
                             .producer_id = 5,
                             .producer_epoch = 2},
                        got;
    uint32_t len = marker_write(&m, p);
    struct batch_info info;
    assert_ok(batch_verify(p, len, &info));
    assert_int_equal(info.attributes, BATCH_ATTR_TRANSACTIONAL | BATCH_ATTR_CONTROL);
    assert_int_equal(info.base_sequence, -1);
    assert_ok(marker_read(p, len, &got));
    assert_true(got.commit);
    assert_int_equal(got.coordinator_epoch, 9);
    assert_int_equal(got.producer_id, 5);
    assert_int_equal(got.producer_epoch, 2);
    for (uint32_t i = 0; i < len; i++) /* cut anywhere: an error, no read beyond */
        assert_true(marker_read(p, i, &got) < 0);
    store_be16(p + BATCH_ATTRIBUTES, BATCH_ATTR_TRANSACTIONAL);
    assert_int_equal(marker_read(p, len, &got), -E_INVALID_RECORD);
}

static void run_seconds(struct env *e, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        env_step(e, 1000, 1000000000);
}

/* By the partition's own clock, which looks every minute. */
static void a_producer_idle_for_a_day_is_forgotten_unless_its_transaction_is_open(void **state)
{
    (void)state;
    struct env *e = start(1, NULL);
    assert_ok(put_data(e, (struct data){.id = 7, .plain = true}, NULL));
    assert_ok(put_data(e, (struct data){.id = 8}, NULL));
    run_seconds(e, 23 * 3600);
    assert_rc(put_data(e, (struct data){.id = 7, .seq = 5, .plain = true}, NULL),
              -E_OUT_OF_ORDER_SEQUENCE);
    run_seconds(e, 2 * 3600);
    assert_rc(put_data(e, (struct data){.id = 8, .seq = 5}, NULL), -E_OUT_OF_ORDER_SEQUENCE);
    assert_ok(put_data(e, (struct data){.id = 7, .seq = 1000, .plain = true}, NULL));
    assert_rc(put_data(e, (struct data){.id = 7, .seq = 1000 + 2, .plain = true}, NULL),
              -E_OUT_OF_ORDER_SEQUENCE); /* known again */
    stop(e);
}

/* A flush that failed may have lost what can still be read: writing it again is no luxury. */
static void an_index_file_stored_is_there_after_a_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct fake_disk *disk = fake_disk_new(seed);
        struct file_io io = {.ops = &fake_file_ops, .arg = disk};
        const struct aborted_txn a = {5, 10, 20, 21};
        struct aborted_txns all = {0}, back = {0};
        uint8_t *b;
        size_t len;
        assert_ok(fake_file_ops.mkdir(&io, "/d"));
        assert_ok(fake_file_ops.dir_sync(&io, ""));
        assert_ok(aborted_reserve(&all));
        assert_ok(aborted_add(&all, &a));
        assert_ok(aborted_encode(&all, 0, 100, &b, &len));
        fake_disk_fail_at(disk, fake_disk_ops(disk) + 1 + seed % 6, -EIO);
        if (txn_index_store(&io, "/d", 0, b, len) < 0)
            assert_ok(txn_index_store(&io, "/d", 0, b, len));
        fake_disk_fail_at(disk, UINT64_MAX, 0);
        fake_disk_power_cut(disk);
        assert_ok(txn_index_load(&io, "/d", 0, 100, &back));
        assert_int_equal(back.cnt, 1);
        assert_int_equal(back.v[0].last_offset, 20);
        aborted_fini(&all);
        aborted_fini(&back);
        free(b);
        fake_disk_free(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_file_stored_is_there_after_a_power_cut),
        TEST(the_oldest_open_transaction_holds_the_last_stable_offset_back),
        TEST(read_committed_ends_at_the_last_stable_offset_and_names_what_was_aborted),
        TEST(who_waits_for_a_transaction_is_woken_by_its_marker_only),
        TEST(what_does_not_belong_to_a_transaction_is_refused),
        TEST(every_restart_knows_what_was_aborted_and_what_is_open),
        TEST(the_index_file_is_kafkas_and_there_is_none_without_aborted_transactions),
        TEST(a_damaged_index_file_is_rebuilt_from_the_log),
        TEST(dropped_segments_take_their_aborted_transactions_with_them),
        TEST(what_is_no_index_file_is_refused_whole),
        TEST(a_marker_reads_back_and_nothing_else_is_one),
        TEST(a_producer_idle_for_a_day_is_forgotten_unless_its_transaction_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
