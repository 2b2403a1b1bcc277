/* The partition log on the fake disk, one claim per test. */
#include "dataplane/store/format.h"
#include "dataplane/store/plog_int.h"
#include "dataplane/upkeep/retain.h"
#include "dataplane/upkeep/upkeep.h"
#include "lib/batch/build.h"
#include "lib/batch/seal.h"
#include "lib/iface/conf.h"
#include "tests/unit/store/steps.h"

/* ------------------------------------------------------------------------------------- group
 * commit */

static void tune_large(struct env *e)
{
    e->sc.staging_bytes = 64u << 20;
    e->sc.journal_file_bytes = 16u << 20;
    e->sc.journal_threshold_bytes = 128u << 10;
}

static void a_thousand_partitions_with_4_kib_each_are_durable_after_2_operations(void **state)
{
    struct env *e = start(1000, tune_large);
    struct bulk *b = calloc(1000, sizeof(*b));
    struct env_batch eb = plain(1, 4096);
    uint8_t *bytes = env_batch_build(&eb);
    env_settle(e);
    uint64_t before = e->io.stats.writes + e->io.stats.flushes;
    for (uint32_t i = 0; i < 1000; i++) {
        b[i].a = (struct plog_append){.wait_durable = true,
                                      .batch = span_of(bytes, 4096),
                                      .max_timestamp_ms = eb.ts,
                                      .done = bulk_done};
        plog_append(e->parts[i], &b[i].a);
    }
    uint32_t left = 1000;
    for (int turn = 0; turn < 100 && left > 0; turn++) {
        env_step(e, 8, 100000);
        left = 0;
        for (uint32_t i = 0; i < 1000; i++)
            left += !b[i].done;
    }
    assert_int_equal(left, 0);
    uint64_t used = e->io.stats.writes + e->io.stats.flushes - before;
    print_message("%" PRIu64 " write and flush operations\n", used);
    assert_true(used <= 8);
    for (uint32_t i = 0; i < 1000; i++)
        assert_ok(b[i].a.rc);
    free(bytes);
    free(b);
    stop(e);
}

static void tune_large_4_files(struct env *e)
{
    tune_large(e);
    e->sc.journal_file_cnt = 4;
}

/* Five times 4 KiB is more than a small chunk: the second one is small too. */
static void a_thousand_partitions_with_20_kib_each_wait_for_no_memory_and_no_drain(void **state)
{
    struct env *e = start(1000, tune_large_4_files);
    struct bulk *b = calloc(1000, sizeof(*b));
    struct env_batch eb = plain(1, 4096);
    uint8_t *bytes = env_batch_build(&eb);
    struct plog_set_stats st;
    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 1000; i++) {
            b[i] = (struct bulk){.a = {.wait_durable = true,
                                       .batch = span_of(bytes, 4096),
                                       .max_timestamp_ms = eb.ts,
                                       .done = bulk_done}};
            plog_append(e->parts[i], &b[i].a);
        }
        for (int turn = 0; turn < 100 && !b[999].done; turn++)
            env_step(e, 8, 100000);
        for (uint32_t i = 0; i < 1000; i++)
            assert_true(b[i].done);
    }
    plog_set_stats_get(e->set, &st);
    assert_int_equal(st.append_blocked, 0);
    assert_int_equal(st.drains, 0);
    free(bytes);
    free(b);
    stop(e);
}

static void no_append_is_acknowledged_before_its_flush(void **state)
{
    struct env *e = start(1, NULL);
    struct env_batch eb = plain(1, 500);
    uint8_t *bytes = env_batch_build(&eb);
    struct bulk b = {.a = {.wait_durable = true,
                           .batch = span_of(bytes, 500),
                           .max_timestamp_ms = eb.ts,
                           .done = bulk_done}};
    plog_append(e->parts[0], &b.a);
    for (int i = 0; i < 100; i++) { /* nothing completes: nothing is answered, whatever the time */
        env_step(e, 0, 1000000);
        assert_false(b.done);
    }
    struct plog_offsets off;
    plog_offsets_get(e->parts[0], &off);
    assert_int_equal(off.durable, 0);
    assert_int_equal(off.next, 1);
    env_step(e, 1, 0); /* the write */
    assert_false(b.done);
    env_step(e, 1, 0); /* the flush */
    assert_true(b.done);
    assert_int_equal(e->io.stats.flushes, 1);
    free(bytes);
    stop(e);
}

static void acks_1_is_answered_at_once_and_flushed_within_20_ms(void **state)
{
    struct env *e = start(1, NULL);
    struct env_batch eb = plain(1, 500);
    uint8_t *bytes = env_batch_build(&eb);
    struct bulk b = {
        .a = {.batch = span_of(bytes, 500), .max_timestamp_ms = eb.ts, .done = bulk_done}};
    plog_append(e->parts[0], &b.a);
    assert_false(b.done); /* never inside plog_append */
    env_step(e, 0, 0);
    assert_true(b.done);
    free(bytes);
    struct plog_offsets off;
    for (int ms = 0; ms < 20; ms++)
        env_step(e, 1, 1000000);
    plog_offsets_get(e->parts[0], &off);
    assert_int_equal(off.durable, 1);
    stop(e);
}

static void a_large_batch_goes_straight_to_its_segment(void **state)
{
    struct env *e = start(1, NULL);
    (void)put(e, 0, 1, 100000);
    struct plog_set_stats st;
    plog_set_stats_get(e->set, &st);
    assert_int_equal(st.direct_commits, 1);
    assert_int_equal(st.journal_commits, 0);
    assert_int_equal(count_all(e, 0), 1);
    stop(e);
}

static void tune_large_segment(struct env *e)
{
    tune_large(e);
    e->pc.segment_bytes = 64u << 20;
}

static void full_chunks_are_written_before_their_commit_and_count_for_nothing_until_it(void **state)
{
    struct env *e = start(1, tune_large_segment);
    (void)put(e, 0, 1, 200000); /* the file is open */
    struct plog_offsets before, off;
    plog_offsets_get(e->parts[0], &before);
    struct plog_set_stats st;
    plog_set_stats_get(e->set, &st);
    uint64_t commits = st.group_commits, writes = e->io.stats.writes, flushes = e->io.stats.flushes;
    struct bulk b[4] = {0};
    uint8_t *bytes[4];
    for (uint32_t i = 0; i < 4; i++) {
        struct env_batch eb = plain(2 + i, 100000);
        bytes[i] = env_batch_build(&eb);
        b[i].a = (struct plog_append){.origin = PLOG_INGEST,
                                      .wait_durable = true,
                                      .batch = span_of(bytes[i], 100000),
                                      .max_timestamp_ms = eb.ts,
                                      .done = bulk_done};
        plog_append(e->parts[0], &b[i].a);
        assert_true(b[i].a.is_copied);
        free(bytes[i]);
    }
    assert_true(e->io.stats.writes > writes);
    for (int i = 0; i < 20; i++)
        env_step(e, 1, 0); /* the writes complete: nobody is told */
    plog_set_stats_get(e->set, &st);
    plog_offsets_get(e->parts[0], &off);
    assert_int_equal(st.group_commits, commits);
    assert_int_equal(e->io.stats.flushes, flushes);
    assert_int_equal(off.durable, before.durable);
    for (int ms = 0; ms < 20; ms++)
        env_step(e, 4, 1000000);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(b[i].done);
    plog_set_stats_get(e->set, &st);
    assert_int_equal(st.journal_commits, 0);
    assert_int_equal(count_all(e, 0), 5);
    stop(e);
}

static void the_journal_wraps_many_times_and_never_loses_its_tail(void **state)
{
    struct env *e = start(3, NULL);
    for (uint32_t i = 0; i < 900; i++)
        (void)put(e, i % 3, i + 1, 3000); /* 2.7 MB through 768 KiB */
    struct plog_set_stats st;
    plog_set_stats_get(e->set, &st);
    assert_true(st.journal_commits >= 900 / 3);
    assert_true(st.journal_free_files <= 3);
    env_settle(e);
    plog_set_destroy(e->set); /* no clean stop: what was drained and what was not must add up */
    e->set = NULL;
    assert_ok(catalog_close(e->cat, false));
    memset(e->parts, 0, sizeof(e->parts));
    assert_ok(env_open(e));
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(count_all(e, i), 300);
    assert_int_equal(e->rep.cnt[RC_JOURNAL_GAP], 0);
    stop(e);
}

static void replaying_the_journal_twice_changes_nothing(void **state)
{
    struct env *e = start(1, NULL);
    for (uint32_t i = 0; i < 20; i++)
        (void)put(e, 0, i + 1, 2000);
    plog_set_destroy(e->set);
    e->set = NULL;
    (void)catalog_close(e->cat, false);
    memset(e->parts, 0, sizeof(e->parts));
    char path[128], name[64];
    uint64_t len;
    /* keep the journal as it is now, put it back after the first recovery */
    struct uuid id;
    const uint8_t *meta = fake_disk_content(e->disk, ENV_DIR "/meta.properties", &len);
    const char *d = strstr((const char *)meta, "directory.id=") + 13;
    assert_ok(uuid_parse(d, UUID_TEXT_LEN, &id));
    journal_file_name(name, &id, 0, 1); /* use 1 */
    snprintf(path, sizeof(path), "/data/journal/%s", name);
    const uint8_t *j = fake_disk_content(e->disk, path, &len);
    assert_non_null(j);
    uint8_t *copy = malloc(len);
    memcpy(copy, j, len);
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_JOURNAL_APPLIED], 20);
    plog_set_destroy(e->set);
    e->set = NULL;
    (void)catalog_close(e->cat, false);
    memset(e->parts, 0, sizeof(e->parts));
    fake_disk_put(e->disk, path, copy, len);
    free(copy);
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_JOURNAL_APPLIED], 0);
    assert_int_equal(e->rep.cnt[RC_JOURNAL_KNOWN], 20);
    assert_int_equal(count_all(e, 0), 20);
    stop(e);
}

/* --------------------------------------------------------------------------------------------
 * limits */

static void batches_that_are_too_large_are_refused_with_their_own_errors(void **state)
{
    struct env *e = start(1, NULL);
    struct env_append x;
    e->pc.max_message_bytes = 1000;
    plog_set_conf(e->parts[0], &e->pc);
    struct env_batch b = plain(1, 1001);
    assert_rc(env_append_batch(e, 0, &b, &x), -E_BATCH_TOO_LARGE);
    assert_int_equal(x.a.base_offset, -1);
    b.len = 1000;
    assert_ok(env_append_batch(e, 0, &b, &x));
    e->pc.max_message_bytes = 1u << 20;
    e->pc.segment_bytes = 50000;
    plog_set_conf(e->parts[0], &e->pc);
    b.len = 50001;
    assert_rc(env_append_batch(e, 0, &b, &x), -E_RECORD_LIST_TOO_LARGE);
    b.len = 50000;
    assert_ok(env_append_batch(e, 0, &b, &x));
    stop(e);
}

static void with_memory_full_appends_wait_in_a_bounded_queue_then_are_told_busy(void **state)
{
    struct env *e = start(2, NULL);
    enum { N = 400 };
    struct bulk *b = calloc(N, sizeof(*b));
    struct env_batch eb = plain(1, 50000);
    uint8_t *bytes = env_batch_build(&eb);
    for (int i = 0; i < N; i++) { /* 20 MB into 4 MiB, nothing completes */
        b[i].a = (struct plog_append){.wait_durable = true,
                                      .batch = span_of(bytes, 50000),
                                      .max_timestamp_ms = eb.ts,
                                      .done = bulk_done};
        plog_append(e->parts[i % 2], &b[i].a);
    }
    for (int i = 0; i < 10; i++)
        env_step(e, 0, 1000000);
    struct plog_set_stats st;
    plog_set_stats_get(e->set, &st);
    assert_true(st.append_blocked > 0);
    assert_true(st.append_busy > 0);
    env_settle(e);
    uint32_t ok = 0, busy = 0;
    int64_t next[2] = {0, 0};
    for (int i = 0; i < N; i++) {
        assert_true(b[i].done);
        if (b[i].a.rc == 0) { /* in the order offered, without gaps */
            assert_int_equal(b[i].a.base_offset, next[i % 2]++);
            ok++;
        } else {
            assert_rc(b[i].a.rc, -E_BUSY);
            busy++;
        }
    }
    assert_int_equal(ok + busy, N);
    assert_int_equal(busy, st.append_busy);
    assert_int_equal(count_all(e, 0) + count_all(e, 1), ok);
    free(bytes);
    free(b);
    stop(e);
}

static void an_idle_partition_has_no_open_file_and_no_chunk_after_reuse(void **state)
{
    struct env *e = start(20, NULL);
    uint32_t base = fake_disk_open_files(e->disk); /* lock and journal */
    for (uint32_t i = 0; i < 20; i++)
        (void)put(e, i, i + 1, 30000);
    for (int i = 0; i < 6; i++)
        env_step(e, 1000, 1000000000);
    assert_int_equal(fake_disk_open_files(e->disk), base);
    for (uint32_t i = 0; i < 20; i++) { /* and it wakes up where it was */
        (void)put(e, i, 100 + i, 5000);
        assert_int_equal(count_all(e, i), 2);
    }
    stop(e);
}

/* --------------------------------------------------------------------------------------- failing
 * disk */

static void tune_reserve(struct env *e)
{
    e->sc.journal_threshold_bytes = 16u << 10;
    e->sc.reserve_bytes = 64u << 10;
    e->pc.segment_bytes = 1u << 20;
}

static uint64_t log_len(struct env *e, const char *name)
{
    char path[128];
    uint64_t len = 0;
    snprintf(path, sizeof(path), ENV_DIR "/t-0/%020d.log", atoi(name));
    assert_non_null(fake_disk_content(e->disk, path, &len));
    return len;
}

static void room_reserved_ahead_of_a_segment_is_cut_when_it_is_idle_sealed_or_closed(void **state)
{
    struct env *e = start(1, tune_reserve);
    put(e, 0, 1, 32u << 10);
    put(e, 0, 2, 32u << 10);
    env_settle(e);
    assert_true(log_len(e, "0") > 64u << 10);
    assert_true(log_len(e, "0") <= 3 * (64u << 10));
    for (int i = 0; i < 4; i++)
        env_step(e, 100, 1000000000);                       /* idle_close_ms */
    assert_int_equal(fake_disk_open_files(e->disk), 1 + 3); /* the lock and the journal */
    assert_int_equal(log_len(e, "0"), 64u << 10);
    for (uint64_t tag = 3; tag <= 33; tag++) /* 30 fill the segment, one begins the next */
        put(e, 0, tag, 32u << 10);
    put(e, 0, 34, 32u << 10);
    env_settle(e);
    assert_int_equal(log_len(e, "0"), 1u << 20);
    assert_true(log_len(e, "32") > 64u << 10);
    assert_ok(env_close(e));
    assert_int_equal(log_len(e, "32"), 64u << 10);

    assert_ok(env_open(e)); /* a crash leaves the zeros; recovery cuts them off */
    put(e, 0, 35, 32u << 10);
    env_settle(e);
    env_abandon(e);
    fake_disk_revive(e->disk);
    assert_true(log_len(e, "32") > 96u << 10);
    assert_ok(env_open(e));
    assert_true(e->rep.cnt[RC_ZERO_TAIL] > 0);
    assert_int_equal(e->rep.cnt[RC_TORN_TAIL] + e->rep.cnt[RC_DAMAGED_TAIL], 0);
    assert_int_equal(count_all(e, 0), 35);
    stop(e);
}

static void a_file_system_that_reserves_nothing_is_written_as_before(void **state)
{
    struct env *e = start(1, tune_reserve);
    put(e, 0, 1, 32u << 10);
    fake_disk_refuse_reserve(e->disk);
    for (uint64_t tag = 2; tag <= 40; tag++)
        put(e, 0, tag, 32u << 10);
    env_settle(e);
    assert_int_equal(log_len(e, "0"), 1u << 20);
    assert_int_equal(count_all(e, 0), 40);
    stop(e);
}

static void tune_no_roll(struct env *e)
{
    e->pc.segment_bytes = 64u << 20; /* nothing but the append touches the disk */
}

static void a_failed_write_or_flush_fences_the_partition_until_it_is_recovered(void **state)
{
    for (uint64_t nth = 0; nth < 4;
         nth++) { /* segment write, its flush, journal write, its flush */
        struct env *e = start(2, tune_no_roll);
        struct env_append x;
        struct env_batch b = plain(1, nth < 2 ? 100000 : 1000);
        for (uint64_t i = 0; i < 3; i++)
            (void)put(e, 0, i + 1, 100000);
        env_settle(e);
        (void)put(e, 0, 4, 3000); /* journalled, not drained when the failure comes */
        fake_disk_fail_at(e->disk, fake_disk_ops(e->disk) + nth % 2, -EIO);
        assert_rc(env_append_batch(e, 0, &b, &x), -E_STORAGE);
        (void)put(e, 1, 9, 1000); /* others are not concerned */
        for (int i = 0; i < 5; i++)
            env_step(e, 1000, 1000000000);
        assert_true(plog_is_writable(e->parts[0]));
        struct env_append y = put(e, 0, 5, 2000);
        assert_int_equal(y.a.base_offset, 4);
        assert_int_equal(count_all(e, 0), 5);
        env_abandon(e); /* a failed entry must not come back from the journal */
        fake_disk_power_cut(e->disk);
        assert_ok(env_open(e));
        assert_int_equal(count_all(e, 0), 5);
        stop(e);
    }
}

static void an_entry_in_flight_when_its_partition_is_fenced_still_counts(void **state)
{
    struct env *e = start(1, tune_no_roll);
    (void)put(e, 0, 1, 3000);
    struct env_batch eb = plain(2, 1000);
    uint8_t *bytes = env_batch_build(&eb);
    struct bulk b[2];
    for (int i = 0; i < 2; i++) { /* one in the entry, one behind it */
        b[i] = (struct bulk){.a = {.wait_durable = true,
                                   .batch = span_of(bytes, 1000),
                                   .max_timestamp_ms = eb.ts,
                                   .done = bulk_done}};
        plog_append(e->parts[0], &b[i].a);
        env_step(e, 0, 0);
    }
    plog_fail(e->parts[0], -EIO, "a drain");
    env_settle(e);
    assert_true(b[0].done && b[1].done);
    assert_ok(b[0].a.rc);
    assert_rc(b[1].a.rc, -E_STORAGE);
    struct env_append x = put(e, 0, 3, 1000);
    assert_int_equal(x.a.base_offset, 2);
    env_abandon(e);
    fake_disk_power_cut(e->disk);
    assert_ok(env_open(e));
    assert_int_equal(count_all(e, 0), 3);
    free(bytes);
    stop(e);
}

/* --------------------------------------------------------------------------------------------
 * reading */

static void reads_give_whole_batches_within_their_bounds(void **state)
{
    struct env *e = start(1, NULL);
    for (uint64_t i = 0; i < 30; i++)
        (void)put(e, 0, i + 1, 20000); /* rolls at 256 KiB: three segments */
    struct env_read x;
    for (int pass = 0; pass < 2; pass++) { /* from memory, then from disk */
        assert_ok(env_read(e, 0, 7, buf, 100, &x) == -E_DST_SMALL ? 0 : -1);
        assert_int_equal(x.r.need, 20000);
        assert_ok(env_read(e, 0, 7, buf, 59999, &x));
        assert_int_equal(x.r.len, 40000);
        assert_int_equal(batch_base_offset(buf), 7);
        assert_int_equal(x.r.high_watermark, 30);
        assert_ok(env_read(e, 0, 30, buf, 1000, &x));
        assert_int_equal(x.r.len, 0);
        assert_rc(env_read(e, 0, 31, buf, 1000, &x), -E_OFFSET_OUT_OF_RANGE);
        assert_rc(env_read(e, 0, -1, buf, 1000, &x), -E_OFFSET_OUT_OF_RANGE);
        assert_int_equal(count_all(e, 0), 30);
        env_settle(e);
        assert_ok(env_close(e));
        assert_ok(env_open(e));
    }
    struct plog_set_stats st;
    plog_set_stats_get(e->set, &st);
    /* without min_one_batch a small limit gives nothing */
    struct env_read y = {.r = {.offset = 3,
                               .current_leader_epoch = -1,
                               .last_fetched_epoch = -1,
                               .max_bytes = 100,
                               .dst = buf,
                               .dst_cap = sizeof(buf),
                               .done = env_read_done}};
    plog_read(e->parts[0], &y.r);
    while (!y.done)
        env_step(e, 100, 0);
    assert_ok(y.r.rc);
    assert_int_equal(y.r.len, 0);
    stop(e);
}

static void tune_cold(struct env *e)
{
    e->pc.segment_bytes = 8u << 20;
    e->sc.cold_read_bytes = 2u << 20; /* 16 buffers, 4 for one reader */
}

/* 40 batches of partition 0 that are on disk only, with a store just opened. */
static struct env *start_cold(uint32_t parts)
{
    struct env *e = start(parts, tune_cold);
    for (uint64_t i = 0; i < 40; i++)
        (void)put(e, 0, i + 1, 50000);
    env_settle(e);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    return e;
}

/* Reads them all in one; the most operations of the disk that were under way at a time. */
static uint32_t read_cold(struct env *e)
{
    struct env_read x = {.r = env_read_make(0, buf, sizeof(buf))};
    uint32_t most = 0;
    plog_read(e->parts[0], &x.r);
    for (int i = 0; i < 1000 && !x.done; i++) {
        uint32_t n = fake_disk_in_flight(e->disk);
        most = n > most ? n : most;
        env_step(e, 1, 1000);
    }
    assert_true(x.done);
    assert_ok(x.r.rc);
    assert_int_equal(x.r.len, 40 * 50000);
    for (uint32_t i = 0; i < 40; i++) {
        struct batch_info b;
        assert_ok(batch_verify(buf + (size_t)i * 50000, 50000, &b));
        assert_int_equal(b.base_offset, i);
    }
    return most;
}

static void a_cold_read_has_several_reads_of_the_disk_at_a_time_but_only_its_share(void **state)
{
    struct env *e = start_cold(1);
    assert_int_equal(read_cold(e), 4);
    stop(e);
}

static void beside_writes_to_its_disk_a_cold_read_has_two_reads_at_a_time(void **state)
{
    struct env *e = start_cold(2);
    (void)put(e, 1, 1, 1000);
    env_settle(e);
    assert_int_equal(read_cold(e), 2);
    env_step(e, 1000, 2000000000); /* two seconds later it is in its segment, and flushed, */
    env_settle(e);
    env_step(e, 1000, 2000000000); /* and two more after that */
    assert_int_equal(read_cold(e), 4);
    stop(e);
}

/* Readers that go through the log at their own pace, in steps of any size, some starting again
 * elsewhere, while it grows, rolls and loses its oldest segments: each gets what it asked for. */
#define READERS 6
struct reader {
    struct env_read x;
    int64_t next;
    bool busy;
    uint8_t dst[200000];
};

static void tune_readers(struct env *e)
{
    e->pc.segment_bytes = 1u << 20;
    e->sc.cold_read_bytes = 12 * READ_IO_BYTES;
    e->sc.staging_bytes = 2u << 20;
}

static void reader_step(struct env *e, struct reader *d, struct test_rng *g)
{
    struct plog_offsets off;
    plog_offsets_get(e->parts[0], &off);
    if (d->busy && !d->x.done)
        return;
    if (d->busy && d->x.r.rc == -E_OFFSET_OUT_OF_RANGE) { /* it was too slow */
        d->busy = false;
        d->next = off.log_start;
        return;
    }
    if (d->busy) {
        assert_ok(d->x.r.rc);
        for (uint32_t at = 0; at < d->x.r.len;) {
            struct batch_info b;
            assert_ok(batch_verify(d->dst + at, d->x.r.len - at, &b));
            assert_int_equal(b.base_offset, d->next);
            d->next = b.base_offset + b.last_offset_delta + 1;
            at += b.total_len;
        }
        d->busy = false;
    }
    if (rng_below(g, 20) == 0 || d->next >= off.durable)
        d->next = off.log_start + (int64_t)rng_below(g, (uint64_t)(off.durable - off.log_start));
    if (rng_below(g, 3) == 0)
        return;
    d->x = (struct env_read){.r = env_read_make(0, d->dst, sizeof(d->dst))};
    d->x.r.offset = d->next;
    d->x.r.max_bytes = 1000 + (uint32_t)rng_below(g, sizeof(d->dst) - 1000);
    d->busy = true;
    plog_read(e->parts[0], &d->x.r);
}

static void cold_readers_get_what_they_asked_for_while_the_log_moves(void **state)
{
    static struct reader readers[READERS];
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct test_rng g = {seed};
        struct env *e = start_seed(seed, 1, tune_readers);
        memset(readers, 0, sizeof(readers));
        for (uint64_t i = 0; i < 100; i++)
            (void)put(e, 0, i + 1, 300 + (uint32_t)rng_below(&g, 60000));
        for (uint32_t i = 0; i < 4000; i++) {
            if (rng_below(&g, 100) == 0)
                (void)put(e, 0, i + 1000, 300 + (uint32_t)rng_below(&g, 60000));
            if (rng_below(&g, 500) == 0)
                (void)plog_drop_segments(e->parts[0], 1, false);
            reader_step(e, &readers[rng_below(&g, READERS)], &g);
            env_step(e, (uint32_t)rng_below(&g, 3), rng_below(&g, 3) * 1000000);
        }
        for (int i = 0; i < 10000; i++) {
            uint32_t busy = 0;
            for (uint32_t k = 0; k < READERS; k++)
                busy += readers[k].busy && !readers[k].x.done;
            if (busy == 0)
                break;
            assert_true(i < 9999);
            env_step(e, 1, 1000000);
        }
        stop(e);
    }
}

static void tune_cold_least(struct env *e)
{
    e->sc.cold_read_bytes = READ_IO_BYTES; /* one buffer */
}

static void with_the_pool_used_up_cold_readers_wait_and_writers_do_not(void **state)
{
    static struct env_read reads[8];
    static uint8_t dst[8][100000];
    struct env *e = start(9, tune_cold_least);
    for (uint32_t i = 0; i < 8; i++)
        (void)put(e, i, i + 1, 100000);
    env_settle(e);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    struct plog_set_stats before, after;
    plog_set_stats_get(e->set, &before);
    for (uint32_t i = 0; i < 8; i++) {
        reads[i] = (struct env_read){.r = env_read_make(0, dst[i], sizeof(dst[i]))};
        plog_read(e->parts[i], &reads[i].r);
    }
    plog_set_stats_get(e->set, &after);
    assert_int_equal(after.read_waits - before.read_waits, 7);
    assert_int_equal(after.staging_free_bytes, before.staging_free_bytes);
    (void)put(e, 8, 1, 3000); /* is durable whatever they do */
    uint32_t left = 8;
    for (int i = 0; i < 1000 && left > 0; i++) {
        env_step(e, 1, 1000);
        left = 0;
        for (uint32_t k = 0; k < 8; k++)
            left += !reads[k].done;
    }
    assert_int_equal(left, 0);
    for (uint32_t i = 0; i < 8; i++) {
        assert_ok(reads[i].r.rc);
        assert_int_equal(reads[i].r.len, 100000);
    }
    stop(e);
}

/* A reader that asks again as soon as it has its answer does not pass who waits. */
static void cold_readers_have_their_turn_in_the_order_they_came(void **state)
{
    static struct env_read reads[4], again;
    static uint8_t dst[4][100000];
    struct env *e = start(4, tune_cold_least);
    for (uint32_t i = 0; i < 4; i++)
        (void)put(e, i, i + 1, 100000);
    env_settle(e);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    for (uint32_t i = 0; i < 4; i++) {
        reads[i] = (struct env_read){.r = env_read_make(0, dst[i], sizeof(dst[i]))};
        plog_read(e->parts[i], &reads[i].r);
    }
    for (int i = 0; i < 1000 && !reads[0].done; i++)
        env_step(e, 1, 1000);
    assert_true(reads[0].done);
    again = (struct env_read){.r = env_read_make(0, dst[0], sizeof(dst[0]))};
    plog_read(e->parts[0], &again.r);
    for (int i = 0; i < 4000 && !again.done; i++) {
        for (uint32_t k = 1; k + 1 < 4; k++)
            assert_true(reads[k].done || !reads[k + 1].done);
        env_step(e, 1, 1000);
    }
    assert_true(again.done);
    for (uint32_t k = 1; k < 4; k++)
        assert_true(reads[k].done);
    stop(e);
}

static void damage_on_disk_is_found_when_it_is_read(void **state)
{
    struct env *e = start(1, NULL);
    for (uint64_t i = 0; i < 5; i++)
        (void)put(e, 0, i + 1, 1000);
    assert_ok(env_close(e));
    uint64_t len;
    const uint8_t *p = fake_disk_content(e->disk, ENV_DIR "/t-0/00000000000000000000.log", &len);
    assert_int_equal(len, 5000);
    uint8_t *copy = malloc(len);
    memcpy(copy, p, len);
    copy[2500] ^= 1;
    fake_disk_put(e->disk, ENV_DIR "/t-0/00000000000000000000.log", copy, len);
    free(copy);
    assert_ok(env_open(e));
    struct env_read x;
    assert_ok(env_read(e, 0, 0, buf, sizeof(buf), &x));
    assert_int_equal(x.r.len, 2000);
    assert_rc(env_read(e, 0, 2, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
    assert_ok(env_read(e, 0, 3, buf, sizeof(buf), &x)); /* nothing behind it is lost */
    assert_int_equal(x.r.len, 2000);
    stop(e);
}

static bool fired;
static void on_wait(struct plog_wait *w)
{
    fired = true;
}

static void a_parked_fetch_wakes_when_enough_is_durable_not_when_it_is_appended(void **state)
{
    struct env *e = start(1, NULL);
    (void)put(e, 0, 1, 500);
    struct plog_wait w = {.offset = 1, .min_bytes = 800, .done = on_wait};
    fired = false;
    plog_wait(e->parts[0], &w);
    (void)put(e, 0, 2, 500);
    env_settle(e);
    assert_false(fired); /* 500 of 800 bytes */
    struct env_batch eb = plain(3, 500);
    uint8_t *bytes = env_batch_build(&eb);
    struct bulk b = {
        .a = {.batch = span_of(bytes, 500), .max_timestamp_ms = eb.ts, .done = bulk_done}};
    plog_append(e->parts[0], &b.a);
    env_step(e, 0, 6000000);
    assert_true(b.done);
    assert_false(fired);
    env_settle(e);
    for (int i = 0; i < 50; i++)
        env_step(e, 10, 1000000);
    assert_true(fired);
    free(bytes);
    fired = false;
    struct plog_wait c = {.offset = 3, .min_bytes = 1, .done = on_wait};
    plog_wait(e->parts[0], &c);
    plog_wait_cancel(&c);
    (void)put(e, 0, 4, 500);
    env_settle(e);
    assert_false(fired);
    stop(e);
}

static void on_list(struct plog_list_offsets *q)
{
    q->msg.rc = 1;
}
static struct plog_list_offsets list_at(struct env *e, int64_t ts)
{
    struct plog_list_offsets q = {.timestamp = ts, .current_leader_epoch = -1, .done = on_list};
    plog_list_offsets(e->parts[0], &q);
    for (int i = 0; i < 1000 && q.msg.rc == 0; i++)
        env_step(e, 100, 100000);
    assert_int_equal(q.msg.rc, 1);
    assert_ok(q.rc);
    return q;
}

static void list_offsets_finds_the_record_not_the_batch(void **state)
{
    struct env *e = start(1, NULL);
    assert_ok(codec_ctx_create(&e->shard.codecs));
    for (int64_t i = 0; i < 40; i++) { /* ten records each, a second apart, 500 ms inside */
        struct batch_builder b;
        uint8_t mem[8192], dst[8192];
        batch_builder_init(&b, mem, sizeof(mem));
        for (int64_t k = 0; k < 10; k++) {
            struct rec r = {.value = span_of("0123456789012345678901234567890123456789", 40),
                            .timestamp_ms = 1000000 + i * 10000 + k * 500};
            assert_ok(batch_builder_add(&b, &r));
        }
        struct span s;
        struct seal_opts o = {.codec = i % 2 ? CODEC_GZIP : CODEC_NONE,
                              .producer_id = -1,
                              .producer_epoch = -1,
                              .base_sequence = -1};
        assert_ok(batch_seal(&b, e->shard.codecs, &o, dst, sizeof(dst), &s));
        struct env_append x = {.a = {.wait_durable = true,
                                     .batch = s,
                                     .max_timestamp_ms = b.max_timestamp,
                                     .done = env_append_done}};
        plog_append(e->parts[0], &x.a);
        while (!x.done)
            env_step(e, 100, 100000);
        assert_ok(x.a.rc);
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < 40; i++) {
            struct plog_list_offsets q = list_at(e, 1000000 + i * 10000 + 1001);
            assert_int_equal(q.offset, i * 10 + 3);
            assert_int_equal(q.ret_timestamp, 1000000 + i * 10000 + 1500);
        }
        struct plog_list_offsets q = list_at(e, -3);
        assert_int_equal(q.offset, 399);
        assert_int_equal(list_at(e, -1).offset, 400);
        assert_int_equal(list_at(e, -2).offset, 0);
        assert_int_equal(list_at(e, 99000000).offset, -1);
        assert_int_equal(list_at(e, 0).offset, 0);
        struct plog_list_offsets many[200];
        for (int i = 0; i < 200; i++) {
            many[i] = (struct plog_list_offsets){.timestamp = 1000000 + i % 40 * 10000 + 1001,
                                                 .current_leader_epoch = -1,
                                                 .done = on_list};
            plog_list_offsets(e->parts[0], &many[i]);
            assert_true(e->set->lookup_cnt <= LOOKUPS_MAX); /* the rest holds no memory */
        }
        assert_false(plog_set_is_idle(e->set));
        for (int i = 0; i < 200; i++) {
            for (int n = 0; n < 1000 && many[i].msg.rc == 0; n++)
                env_step(e, 100, 100000);
            assert_int_equal(many[i].msg.rc, 1);
            assert_ok(many[i].rc);
            assert_int_equal(many[i].offset, i % 40 * 10 + 3);
        }
        assert_int_equal(e->set->lookup_cnt, 0);
        env_settle(e);
        assert_ok(env_close(e));
        assert_ok(env_open(e));
    }
    codec_ctx_destroy(e->shard.codecs);
    stop(e);
}

static void leader_epochs_fence_and_answer_as_kafka_does(void **state)
{
    struct env *e = start(1, NULL);
    (void)put(e, 0, 1, 500);
    plog_set_leader_epoch(e->parts[0], 5);
    (void)put(e, 0, 2, 500);
    plog_set_leader_epoch(e->parts[0], 7);
    (void)put(e, 0, 3, 500);
    int32_t ep;
    int64_t end;
    plog_epoch_end_offset(e->parts[0], 0, &ep, &end);
    assert_int_equal(ep, 0);
    assert_int_equal(end, 1);
    plog_epoch_end_offset(e->parts[0], 6, &ep, &end);
    assert_int_equal(ep, 5);
    assert_int_equal(end, 2);
    plog_epoch_end_offset(e->parts[0], 7, &ep, &end);
    assert_int_equal(end, 3);
    plog_epoch_end_offset(e->parts[0], 8, &ep, &end);
    assert_int_equal(ep, -1);
    struct env_read x = {.r = {.current_leader_epoch = 6,
                               .last_fetched_epoch = -1,
                               .max_bytes = 1000,
                               .dst = buf,
                               .dst_cap = 1000,
                               .done = env_read_done}};
    plog_read(e->parts[0], &x.r);
    env_step(e, 1, 0);
    assert_rc(x.r.rc, -E_FENCED_LEADER_EPOCH);
    x.r.current_leader_epoch = 8;
    plog_read(e->parts[0], &x.r);
    env_step(e, 1, 0);
    assert_rc(x.r.rc, -E_UNKNOWN_LEADER_EPOCH);
    x.r.current_leader_epoch = -1;
    x.r.offset = 3;
    x.r.last_fetched_epoch = 5; /* ended at 2: the reader has something else at 2 */
    plog_read(e->parts[0], &x.r);
    env_step(e, 1, 0);
    assert_ok(x.r.rc);
    assert_int_equal(x.r.diverging_epoch, 5);
    assert_int_equal(x.r.diverging_end_offset, 2);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    plog_epoch_end_offset(e->parts[0], 6, &ep, &end);
    assert_int_equal(end, 2);
    stop(e);
}

/* ------------------------------------------------------------------------------------------
 * producers */

static void a_duplicate_is_known_after_a_restart_and_after_a_crash(void **state)
{
    for (int crash = 0; crash < 2; crash++) {
        struct env *e = start(1, NULL);
        struct env_append x;
        struct env_batch b = plain(1, 30000);
        b.producer_id = 77;
        b.producer_epoch = 0;
        b.cnt = 3;
        for (int i = 0; i < 12; i++) { /* passes a roll */
            b.base_seq = i * 3;
            assert_ok(env_append_batch(e, 0, &b, &x));
            assert_int_equal(x.a.base_offset, i * 3);
        }
        env_settle(e);
        if (crash) {
            env_abandon(e);
            fake_disk_power_cut(e->disk);
        } else {
            assert_ok(env_close(e));
        }
        assert_ok(env_open(e));
        assert_ok(env_append_batch(e, 0, &b, &x));
        assert_int_equal(x.a.base_offset, 33);
        b.base_seq = 39;
        assert_rc(env_append_batch(e, 0, &b, &x), -E_OUT_OF_ORDER_SEQUENCE);
        b.base_seq = 36;
        assert_ok(env_append_batch(e, 0, &b, &x));
        assert_int_equal(x.a.base_offset, 36);
        stop(e);
    }
}

static void log_append_time_is_stamped_under_a_new_crc(void **state)
{
    struct env *e = start(1, NULL);
    e->pc.log_append_time = true;
    plog_set_conf(e->parts[0], &e->pc);
    struct env_append x = put(e, 0, 1, 700);
    assert_true(x.a.log_append_time_ms >= 1700000000000);
    struct env_read r;
    struct batch_info b;
    assert_ok(env_read(e, 0, 0, buf, sizeof(buf), &r));
    assert_ok(batch_verify(buf, r.r.len, &b));
    assert_int_equal(b.max_timestamp, x.a.log_append_time_ms);
    assert_true(b.attributes & BATCH_ATTR_LOG_APPEND_TIME);
    stop(e);
}

/* --------------------------------------------------------------------- what lies on disk after a
 * stop */

/* An index checker of its own, from Kafka's documents: what DumpLogSegments looks at. */
/* Entries that were added when the segment was closed, before more was appended (as in Kafka). */
static uint64_t skip_closed(const uint8_t *ti, uint64_t len, uint64_t at, int64_t max_ts,
                            int64_t *last)
{
    for (; at < len && (int64_t)load_be64(ti + at) < max_ts; at += 12) {
        assert_true((int64_t)load_be64(ti + at) > *last);
        *last = (int64_t)load_be64(ti + at);
    }
    return at;
}

static void check_segment(struct env *e, const char *path)
{
    char ix_path[256];
    uint64_t len, ix_len, ts_len;
    const char *name = strrchr(path, '/') + 1;
    int64_t base = strtoll(name, NULL, 10);
    const uint8_t *log = fake_disk_content(e->disk, path, &len);
    assert_non_null(log);
    size_t stem = strlen(path) - strlen(SFX_LOG);
    snprintf(ix_path, sizeof(ix_path), "%.200s", path);
    strcpy(ix_path + stem, SFX_INDEX);
    const uint8_t *ix = fake_disk_content(e->disk, ix_path, &ix_len);
    strcpy(ix_path + stem, SFX_TIMEINDEX);
    const uint8_t *ti = fake_disk_content(e->disk, ix_path, &ts_len);
    if (len == 0 && ix == NULL)
        return; /* never written to */
    assert_non_null(ix);
    assert_non_null(ti);
    assert_int_equal(ix_len % 8, 0);
    assert_int_equal(ts_len % 12, 0);
    uint64_t pos = 0, at_ix = 0, at_ti = 0, since = 0;
    int64_t next = base, max_ts = -1, max_off = -1, last_entry_ts = -1;
    while (pos < len) {
        struct batch_info b;
        assert_ok(batch_verify(log + pos, len - pos, &b));
        assert_true(b.base_offset >= next);
        int64_t last = b.base_offset + b.last_offset_delta;
        if (b.max_timestamp > max_ts) {
            max_ts = b.max_timestamp;
            max_off = last;
        }
        bool has = at_ix < ix_len && load_be32(ix + at_ix + 4) == pos;
        if (has) {
            assert_int_equal(base + (int32_t)load_be32(ix + at_ix), last);
            assert_true(since > 4096);
            at_ix += 8;
            since = 0;
            at_ti = skip_closed(ti, ts_len, at_ti, max_ts, &last_entry_ts);
            if (max_ts > last_entry_ts) {
                assert_true(at_ti < ts_len);
                assert_int_equal(load_be64(ti + at_ti), max_ts);
                assert_int_equal(base + (int32_t)load_be32(ti + at_ti + 8), max_off);
                last_entry_ts = max_ts;
                at_ti += 12;
            }
        }
        since += b.total_len;
        next = last + 1;
        pos += b.total_len;
    }
    assert_int_equal(pos, len); /* no zero tail, nothing behind the last batch */
    assert_int_equal(at_ix, ix_len);
    at_ti = skip_closed(ti, ts_len, at_ti, max_ts, &last_entry_ts);
    if (max_ts > last_entry_ts) { /* the entry added at roll or close */
        assert_int_equal(at_ti + 12, ts_len);
        assert_int_equal(load_be64(ti + at_ti), max_ts);
        assert_int_equal(base + (int32_t)load_be32(ti + at_ti + 8), max_off);
    } else {
        assert_int_equal(at_ti, ts_len);
    }
}

static uint32_t segments_seen;
static void check_file(void *arg, const char *path)
{
    size_t n = strlen(path);
    if (n > 4 && strcmp(path + n - 4, ".log") == 0) {
        check_segment(arg, path);
        segments_seen++;
    }
    assert_null(strstr(path, FN_NEXT));
}

static void files_after_stops(uint64_t seed)
{
    struct env *e = start_seed(seed, 4, NULL);
    for (int life = 0; life < 4; life++) {
        for (uint32_t i = 0; i < 300; i++) {
            (void)put(e, (uint32_t)env_rnd(e, 4), env_rnd(e, 100000) + 1,
                      80 + (uint32_t)env_rnd(e, 9000));
            if (env_rnd(e, 40) == 0)
                for (int k = 0; k < 3; k++)
                    env_step(e, 1000, 1000000000); /* idle close and back */
        }
        env_settle(e);
        if (life == 2) {
            env_abandon(e);
            fake_disk_power_cut(e->disk);
        } else {
            e->cat->broker_epoch = 4711;
            assert_ok(env_close(e));
            segments_seen = 0;
            fake_disk_each(e->disk, check_file, e);
            assert_true(segments_seen > 4);
            uint64_t len;
            const uint8_t *p = fake_disk_content(e->disk, ENV_DIR "/.kafka_cleanshutdown", &len);
            assert_non_null(p);
            static const char mark[] = "{\"version\":0,\"brokerEpoch\":4711}";
            assert_int_equal(len, sizeof(mark) - 1);
            assert_memory_equal(p, mark, len);
            p = fake_disk_content(e->disk, ENV_DIR "/recovery-point-offset-checkpoint", &len);
            assert_memory_equal(p, "0\n4\nt 0 ", 8);
        }
        assert_ok(env_open(e));
        assert_int_equal(e->rep.cnt[RC_SCANNED], life == 2 ? 4 : 0);
    }
    stop(e);
}

static void after_a_stop_every_file_is_as_kafka_would_have_left_it(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        print_message("seed %" PRIu64 "\n", seed);
        files_after_stops(seed);
    }
}

/* The age at which each of 64 partitions rolls its first segment, in steps of 10 ms of message
 * time. */
static void roll_ages(int64_t jitter_ms, int64_t ages[64])
{
    struct env e;
    env_init(&e, 11);
    e.pc.segment_ms = 1000;
    e.pc.segment_jitter_ms = jitter_ms;
    assert_ok(env_open(&e));
    assert_ok(env_create_parts(&e, 64));
    for (uint32_t p = 0; p < 64; p++)
        ages[p] = -1;
    uint64_t tag = 1;
    for (int64_t age = 0; age <= 1200; age += 10)
        for (uint32_t p = 0; p < 64; p++) {
            struct plog_offsets o;
            struct env_append x;
            if (ages[p] >= 0)
                continue;
            struct env_batch b = {.tag = tag++,
                                  .len = 100,
                                  .cnt = 1,
                                  .ts = 1000000 + age,
                                  .producer_id = -1,
                                  .producer_epoch = -1,
                                  .base_seq = -1};
            assert_ok(env_append_batch(&e, p, &b, &x));
            plog_offsets_get(e.parts[p], &o);
            if (o.segment_cnt > 1)
                ages[p] = age;
        }
    assert_ok(env_close(&e));
    env_fini(&e);
}

static void segments_roll_at_segment_ms_and_earlier_by_their_jitter(void **state)
{
    int64_t ages[64];
    roll_ages(0, ages);
    for (int p = 0; p < 64; p++)
        assert_int_equal(ages[p], 1010); /* the first message that is older by more than 1000 */
    roll_ages(500, ages);
    uint64_t seen = 0;
    for (int p = 0; p < 64; p++) {
        assert_in_range(ages[p], 510, 1010);
        seen |= UINT64_C(1) << (ages[p] - 510) / 10;
    }
    assert_true(__builtin_popcountll(seen) > 20); /* of 51 steps */
    roll_ages(5000, ages);                        /* more than segment.ms: as far as that */
    for (int p = 0; p < 64; p++)
        assert_in_range(ages[p], 10, 1010);
}

static void retention_drops_sealed_segments_and_the_log_start_survives_a_restart(void **state)
{
    struct env *e = start(1, NULL);
    for (uint64_t i = 0; i < 40; i++)
        (void)put(e, 0, i + 1, 30000); /* 1.2 MB in 256 KiB segments */
    env_settle(e);
    for (int i = 0; i < 3; i++)
        env_step(e, 1000, 1000000000);
    struct plog_conf pc = e->pc;
    pc.delete_ = true;
    pc.retention_bytes = 600000;
    plog_set_conf(e->parts[0], &pc);
    struct upkeep u;
    upkeep_init(&u, e->set, 1000);
    assert_true(upkeep_poll(&u, &e->shard) > 0);
    struct plog_offsets off;
    plog_offsets_get(e->parts[0], &off);
    assert_true(off.size_bytes <= 600000 + (256u << 10));
    assert_true(off.size_bytes >= 600000 - 30000);
    assert_int_equal(off.log_start % 8, 0);
    assert_true(off.log_start > 0);
    struct env_read x;
    assert_rc(env_read(e, 0, 0, buf, sizeof(buf), &x), -E_OFFSET_OUT_OF_RANGE);
    assert_ok(plog_set_log_start(e->parts[0], off.log_start + 2)); /* DeleteRecords */
    assert_rc(plog_set_log_start(e->parts[0], 41), -E_OFFSET_OUT_OF_RANGE);
    env_settle(e);
    assert_ok(env_close(e));
    assert_ok(env_open(e));
    struct plog_offsets again;
    plog_offsets_get(e->parts[0], &again);
    assert_int_equal(again.log_start, off.log_start + 2);
    assert_int_equal(again.durable, 40);
    stop(e);
}

static void retention_is_judged_as_kafka_does(void **state)
{
    struct plog_segment s[4] = {
        {.base_offset = 0, .next_offset = 10, .len = 100, .max_timestamp_ms = 1000, .sealed = true},
        {.base_offset = 10,
         .next_offset = 20,
         .len = 100,
         .max_timestamp_ms = 2000,
         .sealed = true},
        {.base_offset = 20,
         .next_offset = 30,
         .len = 100,
         .max_timestamp_ms = 3000,
         .sealed = true},
        {.base_offset = 30, .next_offset = 40, .len = 50, .max_timestamp_ms = 4000},
    };
    struct retain_policy rp = {.retention_ms = -1,
                               .retention_bytes = -1,
                               .delete_ = true,
                               .now_ms = 5000,
                               .total_bytes = 350,
                               .segment_cnt = 4};
    assert_int_equal(retain_judge(&rp, s, 4).drop, 0);
    rp.retention_bytes = 250; /* 350 - 250 = 100: exactly one */
    assert_int_equal(retain_judge(&rp, s, 4).drop, 1);
    rp.retention_bytes = 251;
    assert_int_equal(retain_judge(&rp, s, 4).drop, 0);
    rp.retention_bytes = 0;
    assert_int_equal(retain_judge(&rp, s, 4).drop, 3);
    rp.retention_bytes = -1;
    rp.retention_ms = 2500;
    assert_int_equal(retain_judge(&rp, s, 4).drop, 2);
    rp.retention_ms = 500;
    struct retain_verdict v = retain_judge(&rp, s, 4);
    assert_int_equal(v.drop, 3);
    assert_true(v.roll_active);
    s[0].sealed = false; /* still being flushed */
    assert_int_equal(retain_judge(&rp, s, 4).drop, 0);
    s[0].sealed = true;
    rp.delete_ = false;
    assert_int_equal(retain_judge(&rp, s, 4).drop, 0);
    rp.log_start = 20;
    assert_int_equal(retain_judge(&rp, s, 4).drop, 2);
    /* Only the oldest are shown: the last one shown is not the active one. */
    rp = (struct retain_policy){.retention_ms = 500,
                                .retention_bytes = -1,
                                .delete_ = true,
                                .now_ms = 5000,
                                .total_bytes = 100000,
                                .segment_cnt = 1000};
    v = retain_judge(&rp, s, 3);
    assert_int_equal(v.drop, 3);
    assert_false(v.roll_active);
    rp.retention_ms = -1;
    rp.retention_bytes = 99800;
    assert_int_equal(retain_judge(&rp, s, 3).drop, 2);
}

static void retention_of_more_segments_than_one_pass_sees_ends_at_the_limit(void **state)
{
    struct env *e = calloc(1, sizeof(*e));
    env_init(e, 42);
    e->pc.segment_bytes = 4096;
    e->pc.delete_ = true;
    e->pc.retention_bytes = 400000;
    assert_ok(env_open(e));
    assert_ok(env_create_parts(e, 1));
    for (uint64_t i = 0; i < 300; i++)
        (void)put(e, 0, i + 1, 4000); /* a segment each */
    env_settle(e);
    struct upkeep u;
    struct plog_offsets off;
    upkeep_init(&u, e->set, 1000);
    upkeep_seconds(e, &u, 10);
    plog_offsets_get(e->parts[0], &off);
    assert_int_equal(off.segment_cnt, 100);
    assert_int_equal(off.log_start, 200);
    assert_int_equal(u.rolled, 0);
    stop(e);
}

/* ---------------------------------------------------------------------------------- directories */

static bool gone;
static void on_detached(void *arg)
{
    gone = true;
}

static void a_deleted_partition_answers_everybody_and_leaves_nothing(void **state)
{
    struct env *e = start(2, NULL);
    struct env_batch eb = plain(1, 5000);
    uint8_t *bytes = env_batch_build(&eb);
    struct bulk b = {.a = {.wait_durable = true,
                           .batch = span_of(bytes, 5000),
                           .max_timestamp_ms = eb.ts,
                           .done = bulk_done}};
    (void)put(e, 0, 1, 100000);
    plog_append(e->parts[0], &b.a);
    env_step(e, 0, 10000000); /* its commit is in flight */
    struct plog_wait w = {.offset = 0, .min_bytes = PLOG_WAIT_GONE, .done = on_wait};
    fired = gone = false;
    plog_wait(e->parts[0], &w);
    env_step(e, 0, 0);
    assert_false(fired); /* although there is something at its offset */
    plog_detach(e->parts[0], on_detached, NULL);
    assert_null(plog_set_find(e->set, &(struct uuid){{0x11}}, 0));
    for (int i = 0; i < 100 && !gone; i++)
        env_step(e, 1, 1000000);
    assert_true(gone);
    assert_true(fired);
    assert_true(b.done);
    assert_rc(b.a.rc, -E_UNKNOWN_TOPIC);
    e->parts[0] = NULL;
    char doomed[STORE_PATH_MAX];
    assert_ok(catalog_part_retire(&e->cat->dirs[0], "t-0", doomed));
    assert_ok(dir_remove(&e->io, doomed));
    uint64_t len;
    assert_null(fake_disk_content(e->disk, ENV_DIR "/t-0/00000000000000000000.log", &len));
    (void)put(e, 1, 2, 1000);
    free(bytes);
    stop(e);
}

static int open_dirs(struct env *e, const char *dir, const struct uuid *cluster, int32_t node,
                     char *err)
{
    struct catalog *c;
    struct catalog_opts co = {.ops = &fake_file_ops,
                              .ops_arg = e->disk,
                              .dir_cnt = 1,
                              .dirs = {dir},
                              .cluster_id = cluster,
                              .node_id = node,
                              .format = true};
    int rc = catalog_open(&co, &c, err);
    return rc < 0 ? rc : catalog_close(c, false);
}

static void foreign_locked_and_damaged_directories_are_refused_by_name(void **state)
{
    static const struct uuid other = {{9, 9, 9}};
    struct env *e = start(1, NULL);
    char err[CATALOG_ERR_MAX];
    struct uuid mine = e->cat->cluster_id;
    assert_rc(open_dirs(e, ENV_DIR, &mine, 1, err), -E_LOCKED);
    assert_non_null(strstr(err, ENV_DIR " is in use by another process"));
    assert_ok(env_close(e));
    assert_rc(open_dirs(e, ENV_DIR, &other, 1, err), -E_FOREIGN_DIR);
    assert_non_null(strstr(err, "belongs to cluster"));
    assert_rc(open_dirs(e, ENV_DIR, &mine, 2, err), -E_FOREIGN_DIR);
    assert_non_null(strstr(err, "belongs to node 1, this is node 2"));
    assert_ok(fake_file_ops.mkdir(&e->io, "/data/photos"));
    fake_disk_put(e->disk, "/data/photos/cat.jpg", "x", 1);
    assert_rc(open_dirs(e, "/data/photos", &mine, 1, err), -E_FOREIGN_DIR);
    assert_non_null(strstr(err, "no meta.properties but is not empty"));
    assert_rc(open_dirs(e, "/nowhere/log", &mine, 1, err), -ENOENT);
    fake_disk_put(e->disk, ENV_DIR "/meta.properties", "version=2\n", 10);
    assert_rc(open_dirs(e, ENV_DIR, &mine, 1, err), -E_MALFORMED);
    env_fini(e);
    free(e);
}

/* Cut the creation of t-1 at operation `n`, by a power cut or by the death of the process; whether
 * it was still cut off. */
static bool create_cut_at(uint64_t n, bool power)
{
    struct env *e = start(1, NULL);
    env_settle(e);
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk) + n);
    bool cut = env_create_parts(e, 2) < 0;
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    if (power)
        fake_disk_power_cut(e->disk);
    else
        fake_disk_revive(e->disk);
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_NO_META], 0);
    assert_int_equal(e->rep.cnt[RC_UNFINISHED_DIR], 0);
    assert_ok(env_create_parts(e, 2)); /* what sluiced's metadata asks for */
    (void)put(e, 1, 1, 1000);
    assert_int_equal(count_all(e, 1), 1);
    stop(e);
    return cut;
}

static void a_creation_cut_off_anywhere_leaves_a_partition_or_nothing(void **state)
{
    for (int power = 0; power < 2; power++) {
        uint64_t n = 0;
        while (create_cut_at(n, power))
            n++;
        assert_in_range(n, 5, 30);
    }
}

static void a_directory_without_metadata_is_removed_only_if_it_never_held_data(void **state)
{
    struct env *e = start(2, NULL);
    (void)put(e, 1, 1, 1000);
    assert_ok(env_close(e));
    /* As former versions, and Kafka, leave it: t-2 only its name, t-3 all but the id. */
    assert_ok(fake_file_ops.mkdir(&e->io, ENV_DIR "/t-2"));
    assert_ok(fake_file_ops.mkdir(&e->io, ENV_DIR "/t-3"));
    fake_disk_put(e->disk, ENV_DIR "/t-3/partition.metadata", "", 0);
    fake_disk_put(e->disk, ENV_DIR "/t-3/leader-epoch-checkpoint", "0\n", 2);
    fake_disk_put(e->disk, ENV_DIR "/t-3/00000000000000000000.log", "", 0);
    /* t-0 is empty too, but it was served: its acknowledged data may be in the journal. */
    assert_ok(fake_file_ops.unlink(&e->io, ENV_DIR "/t-0/partition.metadata"));
    assert_ok(fake_file_ops.unlink(&e->io, ENV_DIR "/t-1/partition.metadata"));
    /* A foreign partition's data: no checkpoint knows it. */
    assert_ok(fake_file_ops.mkdir(&e->io, ENV_DIR "/t-4"));
    fake_disk_put(e->disk, ENV_DIR "/t-4/00000000000000000000.log", "data", 4);
    assert_ok(env_open(e));
    assert_int_equal(e->rep.cnt[RC_UNFINISHED_DIR], 2);
    assert_int_equal(e->rep.cnt[RC_NO_META], 3);
    assert_ok(env_close(e));
    assert_ok(env_open(e)); /* its checkpoint is still known */
    assert_int_equal(e->rep.cnt[RC_UNFINISHED_DIR], 0);
    assert_int_equal(e->rep.cnt[RC_NO_META], 3);
    uint64_t len;
    assert_null(fake_disk_content(e->disk, ENV_DIR "/t-3/00000000000000000000.log", &len));
    assert_non_null(fake_disk_content(e->disk, ENV_DIR "/t-1/00000000000000000000.log", &len));
    assert_true(len >= 1000);
    assert_non_null(fake_disk_content(e->disk, ENV_DIR "/t-4/00000000000000000000.log", &len));
    assert_rc(env_create_parts(e, 2), -EEXIST);
    stop(e);
}

static void tune_tiny_segments(struct env *e)
{
    e->pc.segment_bytes = 16u << 10;
}

/* One operation fails, whichever it is, and segments follow each other fast: the renaming of a
 * prepared one among them. */
static void one_failure_anywhere_loses_nothing(void **state)
{
    enum { CNT = 150, LEN = 1500 };
    static struct bulk b[CNT];
    (void)state;
    for (uint64_t k = 0; k < 100; k++) {
        struct env *e = start_seed(k, 1, tune_tiny_segments);
        uint8_t *bytes[CNT];
        fake_disk_fail_at(e->disk, fake_disk_ops(e->disk) + 1 + k % 100, -EIO);
        for (uint64_t tag = 0; tag < CNT; tag++) {
            struct env_batch one = plain(tag, LEN);
            bytes[tag] = env_batch_build(&one);
            b[tag] = (struct bulk){.a = {.wait_durable = true,
                                         .batch = span_of(bytes[tag], LEN),
                                         .max_timestamp_ms = one.ts,
                                         .done = bulk_done}};
            plog_append(e->parts[0], &b[tag].a);
            env_step(e, (uint32_t)env_rnd(e, 8), env_rnd(e, 6000000));
        }
        env_settle(e);
        uint32_t acked = 0;
        for (uint64_t tag = 0; tag < CNT; tag++) {
            struct env_read x;
            assert_true(b[tag].done);
            free(bytes[tag]);
            if (b[tag].a.rc != 0)
                continue;
            assert_ok(env_read(e, 0, b[tag].a.base_offset, buf, 4096, &x));
            assert_true(x.r.len >= LEN);
            assert_int_equal(load_be64(buf + BATCH_BASE_OFFSET), b[tag].a.base_offset);
            assert_int_equal(load_be64(buf + BATCH_HEADER_LEN), tag);
            acked++;
        }
        assert_true(acked > 0);
        (void)env_close(e);
        assert_ok(env_open(e));
        assert_true(count_all(e, 0) >= acked);
        stop(e);
    }
}

/* storage.flush_max: nobody waits for what acks=0 and acks=1 wrote, and it is flushed in time all
 * the same; who asks for acks=all is answered when it is. */
static void every_byte_is_flushed_in_its_time(void **state)
{
    static const uint32_t max_ms[] = {1, 2, 4, 20, 1000};
    (void)state;
    for (size_t m = 0; m < sizeof(max_ms) / sizeof(max_ms[0]); m++) {
        static struct conf conf;
        struct plog_set_conf sc;
        struct plog_offsets off;
        struct env *e = calloc(1, sizeof(*e));
        assert_non_null(e);
        env_init(e, max_ms[m]);
        conf_defaults(&conf);
        conf.flush_max_ms = max_ms[m];
        plog_set_conf_from(&sc, &conf);
        e->sc.submit_max_ms = sc.submit_max_ms;
        e->sc.flush_max_ms = sc.flush_max_ms;
        assert_ok(env_open(e));
        assert_ok(env_create_parts(e, 1));
        env_settle(e);
        for (uint64_t tag = 0; tag < 60; tag++) {
            bool all = tag % 3 == 2;
            struct env_batch one = plain(tag, 100 + (uint32_t)env_rnd(e, 5000));
            uint8_t *bytes = env_batch_build(&one);
            struct bulk b = {.a = {.wait_durable = all,
                                   .batch = span_of(bytes, one.len),
                                   .max_timestamp_ms = one.ts,
                                   .done = bulk_done}};
            uint64_t flushes = fake_disk_costs(e->disk)->flushes, began = e->shard.now_ns;
            plog_append(e->parts[0], &b.a);
            env_step(e, 0, 0);
            assert_true(b.done == !all);
            assert_int_equal(fake_disk_costs(e->disk)->flushes, flushes);
            do {
                env_step(e, 1000, 100000);
                plog_offsets_get(e->parts[0], &off);
                assert_true(!b.done || !all || off.durable > b.a.base_offset);
            } while (!b.done || off.durable < off.next);
            assert_ok(b.a.rc);
            assert_int_equal(off.next, (int64_t)tag + 1);
            assert_true(e->shard.now_ns - began <= max_ms[m] * UINT64_C(1000000));
            free(bytes);
        }
        stop(e);
    }
}

TEST_MAIN(TEST(every_byte_is_flushed_in_its_time), TEST(one_failure_anywhere_loses_nothing),
          TEST(a_thousand_partitions_with_4_kib_each_are_durable_after_2_operations),
          TEST(a_thousand_partitions_with_20_kib_each_wait_for_no_memory_and_no_drain),
          TEST(no_append_is_acknowledged_before_its_flush),
          TEST(acks_1_is_answered_at_once_and_flushed_within_20_ms),
          TEST(a_large_batch_goes_straight_to_its_segment),
          TEST(full_chunks_are_written_before_their_commit_and_count_for_nothing_until_it),
          TEST(the_journal_wraps_many_times_and_never_loses_its_tail),
          TEST(replaying_the_journal_twice_changes_nothing),
          TEST(batches_that_are_too_large_are_refused_with_their_own_errors),
          TEST(with_memory_full_appends_wait_in_a_bounded_queue_then_are_told_busy),
          TEST(an_idle_partition_has_no_open_file_and_no_chunk_after_reuse),
          TEST(room_reserved_ahead_of_a_segment_is_cut_when_it_is_idle_sealed_or_closed),
          TEST(a_file_system_that_reserves_nothing_is_written_as_before),
          TEST(a_failed_write_or_flush_fences_the_partition_until_it_is_recovered),
          TEST(an_entry_in_flight_when_its_partition_is_fenced_still_counts),
          TEST(reads_give_whole_batches_within_their_bounds),
          TEST(a_cold_read_has_several_reads_of_the_disk_at_a_time_but_only_its_share),
          TEST(beside_writes_to_its_disk_a_cold_read_has_two_reads_at_a_time),
          TEST(cold_readers_have_their_turn_in_the_order_they_came),
          TEST(cold_readers_get_what_they_asked_for_while_the_log_moves),
          TEST(with_the_pool_used_up_cold_readers_wait_and_writers_do_not),
          TEST(damage_on_disk_is_found_when_it_is_read),
          TEST(a_parked_fetch_wakes_when_enough_is_durable_not_when_it_is_appended),
          TEST(list_offsets_finds_the_record_not_the_batch),
          TEST(leader_epochs_fence_and_answer_as_kafka_does),
          TEST(a_duplicate_is_known_after_a_restart_and_after_a_crash),
          TEST(log_append_time_is_stamped_under_a_new_crc),
          TEST(after_a_stop_every_file_is_as_kafka_would_have_left_it),
          TEST(retention_drops_sealed_segments_and_the_log_start_survives_a_restart),
          TEST(segments_roll_at_segment_ms_and_earlier_by_their_jitter),
          TEST(retention_is_judged_as_kafka_does),
          TEST(retention_of_more_segments_than_one_pass_sees_ends_at_the_limit),
          TEST(a_deleted_partition_answers_everybody_and_leaves_nothing),
          TEST(a_creation_cut_off_anywhere_leaves_a_partition_or_nothing),
          TEST(a_directory_without_metadata_is_removed_only_if_it_never_held_data),
          TEST(foreign_locked_and_damaged_directories_are_refused_by_name))
