/* A full disk: who waits, who is refused, what goes, and that it ends by itself. */
#include "dataplane/store/plog_int.h"
#include "tests/unit/store/steps.h"

static void a_full_disk_makes_the_log_read_only_and_it_recovers_by_itself(void **state)
{
    struct env *e = start(1, NULL);
    struct env_append x;
    struct env_batch b = plain(1, 200000);
    (void)put(e, 0, 1, 100000);
    fake_disk_set_full(e->disk, true);
    assert_rc(env_append_batch(e, 0, &b, &x), -E_READ_ONLY); /* who meets it first */
    for (int i = 0; i < 3; i++)
        env_step(e, 1000, 1000000000);
    assert_rc(env_append_batch(e, 0, &b, &x), -E_READ_ONLY);
    assert_int_equal(count_all(e, 0), 1);
    fake_disk_set_full(e->disk, false);
    for (int i = 0; i < 5; i++)
        env_step(e, 1000, 1000000000);
    assert_ok(env_append_batch(e, 0, &b, &x));
    assert_int_equal(count_all(e, 0), 3); /* the first one had stayed in memory, in its place */
    stop(e);
}

static void tune_room(struct env *e)
{
    e->sc.storage_min_free_bytes = 1u << 20;
    e->sc.idle_close_ms = 1000000;
}

static uint64_t disk_used(struct env *e)
{
    uint64_t space, total;
    fake_disk_set_size(e->disk, UINT64_C(1) << 40);
    assert_ok(fake_file_ops.space(&e->io, ENV_DIR, &space, &total));
    return total - space;
}

static void
on_a_full_disk_old_segments_of_delete_topics_go_before_the_log_is_read_only(void **state)
{
    struct env *e = start(3, tune_room);
    struct upkeep u;
    struct plog_offsets off[3];
    struct plog_conf pc = e->pc;
    struct env_append x;
    upkeep_init(&u, e->set, 1000);
    pc.delete_ = true; /* 0 and 1; 2 is compacted: nothing of it may go */
    plog_set_conf(e->parts[0], &pc);
    plog_set_conf(e->parts[1], &pc);
    for (uint64_t i = 0; i < 20; i++) { /* 0 is older than 1 */
        (void)put(e, 0, i + 1, 100000);
        (void)put(e, 1, i + 1001, 100000);
        (void)put(e, 2, i + 1, 100000);
    }
    env_settle(e);
    upkeep_seconds(e, &u, 2);
    assert_int_equal(u.segments_dropped, 0);
    /* 500 kB are missing: two segments of 200 kB and a third one go, all of partition 0. */
    fake_disk_set_size(e->disk, disk_used(e) + (1u << 20) - 500000);
    upkeep_seconds(e, &u, 5);
    assert_int_equal(u.segments_dropped_for_space, 3);
    for (uint32_t i = 0; i < 3; i++)
        plog_offsets_get(e->parts[i], &off[i]);
    assert_int_equal(off[0].log_start, 6);
    assert_int_equal(off[1].log_start, 0);
    assert_true(plog_is_writable(e->parts[0]));
    /* Still more is missing than may go: everything sealed goes, and only then producers hear it.
     */
    for (int i = 0; i < 30 && plog_is_writable(e->parts[0]); i++) {
        fake_disk_set_size(e->disk, disk_used(e) + (1u << 20) * 3 / 4); /* somebody else's files */
        upkeep_seconds(e, &u, 1);
    }
    for (uint32_t i = 0; i < 3; i++)
        plog_offsets_get(e->parts[i], &off[i]);
    assert_int_equal(off[0].segment_cnt, 1);
    assert_int_equal(off[1].segment_cnt, 1);
    assert_true(off[2].segment_cnt > 5);
    assert_int_equal(off[2].log_start, 0);
    struct env_batch b = plain(9999, 1000);
    assert_rc(env_append_batch(e, 1, &b, &x), -E_READ_ONLY);
    assert_int_equal(count_all(e, 2), 20);
    fake_disk_set_size(e->disk, 0);
    upkeep_seconds(e, &u, 2);
    assert_ok(env_append_batch(e, 1, &b, &x));
    stop(e);
}

/* Appends as fast as the disk takes them, the next as soon as one is answered: far more than it
 * holds, and no second ever passes between two measurements without many of them. */
struct flood {
    struct env *e;
    struct upkeep u;
    struct bulk b[8];
    uint8_t *bytes[8];
    uint64_t tag, acked, refused, full_max;
    int rc; /* the last error */
};

static void flood_begin(struct flood *f, struct env *e)
{
    *f = (struct flood){.e = e, .tag = 1};
    upkeep_init(&f->u, e->set, 1000);
}

static void flood_one(struct flood *f, uint32_t i)
{
    struct env_batch b = plain(f->tag++, 50000);
    f->bytes[i] = env_batch_build(&b);
    f->b[i] = (struct bulk){.a = {.wait_durable = true,
                                  .batch = span_of(f->bytes[i], b.len),
                                  .max_timestamp_ms = b.ts,
                                  .done = bulk_done}};
    plog_append(f->e->parts[0], &f->b[i].a);
}

/* One millisecond. */
static void flood_step(struct flood *f, bool more)
{
    env_step(f->e, 4, 1000000);
    (void)upkeep_make_room(&f->u, &f->e->shard);
    if ((f->e->shard.now_ns / 1000000) % 1000 == 0)
        (void)upkeep_poll(&f->u, &f->e->shard);
    uint64_t used = fake_disk_used(f->e->disk);
    f->full_max = used > f->full_max ? used : f->full_max;
    for (uint32_t i = 0; i < 8; i++) {
        if (f->bytes[i] != NULL && !f->b[i].done)
            continue;
        if (f->bytes[i] != NULL) {
            f->acked += f->b[i].a.rc == 0;
            f->refused += f->b[i].a.rc != 0;
            f->rc = f->b[i].a.rc != 0 ? f->b[i].a.rc : f->rc;
            free(f->bytes[i]);
            f->bytes[i] = NULL;
        }
        if (more)
            flood_one(f, i);
    }
}

static void flood_end(struct flood *f)
{
    for (int n = 0; n < 20000; n++) {
        bool busy = false;
        for (uint32_t i = 0; i < 8; i++)
            busy = busy || f->bytes[i] != NULL;
        if (!busy)
            return;
        flood_step(f, false);
    }
    fail_msg("an append is never answered");
}

#define FLOOD_DISK (8u << 20)

static void a_producer_that_outruns_the_space_check_never_meets_a_full_disk(void **state)
{
    struct env *e = start(1, tune_room);
    struct plog_conf pc = e->pc;
    struct plog_set_stats st;
    struct plog_offsets off;
    struct plog_gap g;
    struct flood f;
    pc.delete_ = true;
    plog_set_conf(e->parts[0], &pc);
    fake_disk_set_limit(e->disk, FLOOD_DISK);
    flood_begin(&f, e);
    for (int i = 0; i < 20000 && f.acked < 2000; i++) /* 100 MB in a few seconds */
        flood_step(&f, true);
    flood_end(&f);
    plog_set_stats_get(e->set, &st);
    plog_offsets_get(e->parts[0], &off);
    assert_true(f.acked >= 2000);
    assert_int_equal(f.refused, 0);
    assert_int_equal(st.fenced, 0);
    assert_false(st.read_only);
    assert_true(f.full_max <= FLOOD_DISK - e->sc.storage_min_free_bytes / 2 + 65536);
    assert_true(off.durable - off.log_start > 20); /* no more went than had to */
    env_settle(e);
    assert_true(plog_gap_take(e->parts[0], &g));
    assert_int_equal(g.from_offset, 0);
    assert_int_equal(g.to_offset, off.log_start);
    assert_int_equal(g.segments, st.space_segments);
    assert_int_equal(g.bytes, st.space_bytes);
    assert_int_equal(g.from_ms, 1700000000001);
    assert_int_equal(g.to_ms, 1700000000000 + off.log_start);
    assert_false(plog_gap_take(e->parts[0], &g));
    assert_int_equal(plog_set_gap_cnt(e->set), 0);
    /* It could not be recorded: what comes meanwhile is added to it. */
    struct plog_gap more = {.from_offset = g.to_offset,
                            .to_offset = g.to_offset + 4,
                            .bytes = 7,
                            .segments = 1,
                            .from_ms = g.to_ms + 1,
                            .to_ms = g.to_ms + 4};
    struct plog_gap all;
    plog_gap_add(e->parts[0], &more);
    plog_gap_put_back(e->parts[0], &g);
    assert_int_equal(plog_set_gap_cnt(e->set), 1);
    assert_true(plog_gap_take(e->parts[0], &all));
    assert_int_equal(all.from_offset, 0);
    assert_int_equal(all.to_offset, g.to_offset + 4);
    assert_int_equal(all.bytes, g.bytes + 7);
    assert_int_equal(all.segments, g.segments + 1);
    assert_int_equal(all.from_ms, g.from_ms);
    assert_int_equal(all.to_ms, g.to_ms + 4);
    assert_int_equal(count_all(e, 0), off.durable - off.log_start);
    stop(e);
}

static void with_nothing_to_drop_appends_are_refused_before_the_disk_is_full(void **state)
{
    struct env *e = start(1, tune_room); /* compacted: nothing of it may go */
    struct plog_set_stats st;
    struct flood f;
    fake_disk_set_limit(e->disk, FLOOD_DISK);
    flood_begin(&f, e);
    for (int i = 0; i < 20000 && f.refused < 8; i++)
        flood_step(&f, true);
    flood_end(&f);
    plog_set_stats_get(e->set, &st);
    assert_int_equal(f.rc, -E_READ_ONLY);
    assert_int_equal(st.fenced, 0);
    assert_true(st.read_only);
    assert_true(f.full_max <= FLOOD_DISK - e->sc.storage_min_free_bytes / 2 + 65536);
    assert_int_equal(count_all(e, 0), f.acked);
    /* Somebody else's files go. */
    fake_disk_set_limit(e->disk, 2 * FLOOD_DISK);
    uint64_t before = f.acked;
    for (int i = 0; i < 5000 && f.acked < before + 20; i++)
        flood_step(&f, true);
    flood_end(&f);
    assert_true(f.acked >= before + 20);
    assert_int_equal(count_all(e, 0), f.acked);
    stop(e);
}

/* Somebody else fills the disk between two checks. */
static void a_full_disk_fences_nothing_and_reads_go_on(void **state)
{
    struct env *e = start(1, tune_room);
    struct plog_conf pc = e->pc;
    struct plog_set_stats st;
    struct flood f;
    for (uint64_t i = 0; i < 40; i++)
        (void)put(e, 0, i + 1, 50000);
    env_settle(e);
    fake_disk_set_limit(e->disk, fake_disk_used(e->disk));
    flood_begin(&f, e);
    for (int i = 0; i < 400 && f.refused == 0; i++)
        flood_step(&f, true);
    flood_end(&f);
    assert_int_equal(f.rc, -E_READ_ONLY);
    for (int i = 0; i < 5000; i++)
        flood_step(&f, false);
    plog_set_stats_get(e->set, &st);
    assert_int_equal(st.fenced, 0);
    assert_int_equal(count_all(e, 0), 40 + f.acked);
    assert_false(plog_is_writable(e->parts[0]));
    pc.delete_ = true; /* its own segments may go: that is room enough */
    plog_set_conf(e->parts[0], &pc);
    uint64_t before = f.acked;
    for (int i = 0; i < 20000 && f.acked < before + 100; i++)
        flood_step(&f, true);
    flood_end(&f);
    assert_true(f.acked >= before + 100);
    stop(e);
}

/* What the journal holds beyond the segments needs room to be recovered. */
static void a_fenced_partition_on_a_full_disk_gives_its_own_segments_and_comes_back(void **state)
{
    struct env *e = start(1, tune_room);
    struct plog_conf pc = e->pc;
    struct plog_set_stats st;
    struct flood f;
    e->set->conf.drain_age_ms = 1000000;
    for (uint64_t i = 0; i < 40; i++)
        (void)put(e, 0, i + 1, 50000);
    assert_true(e->parts[0]->flushed.lsn < e->parts[0]->durable.lsn);
    fake_disk_set_limit(e->disk, fake_disk_used(e->disk));
    plog_fail(e->parts[0], -EIO, "test");
    flood_begin(&f, e);
    for (int i = 0; i < 10000; i++)
        flood_step(&f, false);
    plog_set_stats_get(e->set, &st);
    assert_int_equal(st.recovered, 0);
    pc.delete_ = true;
    plog_set_conf(e->parts[0], &pc);
    for (int i = 0; i < 40000 && st.recovered == 0; i++) {
        flood_step(&f, false);
        plog_set_stats_get(e->set, &st);
    }
    assert_int_equal(st.recovered, 1);
    assert_int_equal(e->parts[0]->durable.offset, 40);
    assert_int_equal(count_all(e, 0), 40 - e->parts[0]->log_start);
    stop(e);
}

/* The disk becomes full at every operation in turn (segment, journal, index, checkpoint, snapshot,
 * new file), for some seconds: what was acknowledged is there, and writing goes on by itself. */
static void a_disk_that_is_full_for_a_while_costs_nothing_acknowledged(void **state)
{
    uint64_t end = UINT64_MAX;
    for (uint64_t at = 0; at < end; at += 1 + at / 40) {
        struct env *e = start(3, NULL);
        struct env_append x;
        uint32_t acked[3] = {0};
        uint64_t tag = 1, first = fake_disk_ops(e->disk);
        fake_disk_full_at(e->disk, first + at);
        for (int round = 0; round < 60; round++) {
            uint32_t part = (uint32_t)round % 3;
            struct env_batch b = plain(tag++, part == 2 ? 90000 : 3000);
            acked[part] += env_append_batch(e, part, &b, &x) == 0;
            if (round % 20 == 19)
                for (int i = 0; i < 8; i++)
                    env_step(e, 1000, 300000000);
        }
        if (fake_disk_ops(e->disk) < first + at)
            end = at;
        for (uint32_t p = 0; p < 3; p++)
            assert_true(count_all(e, p) >= acked[p]);
        fake_disk_set_full(e->disk, false);
        for (int i = 0; i < 80; i++)
            env_step(e, 1000, 1000000000);
        for (uint32_t p = 0; p < 3; p++) {
            assert_true(plog_is_writable(e->parts[p]));
            (void)put(e, p, tag++, 3000);
            acked[p]++;
            assert_true(count_all(e, p) >= acked[p]);
        }
        assert_ok(env_close(e));
        assert_ok(env_open(e));
        for (uint32_t p = 0; p < 3; p++)
            assert_true(count_all(e, p) >= acked[p]);
        stop(e);
    }
}

static void an_error_of_one_write_deletes_nothing(void **state)
{
    struct env *e = start(1, tune_room);
    struct upkeep u;
    struct plog_conf pc = e->pc;
    upkeep_init(&u, e->set, 1000);
    pc.delete_ = true;
    plog_set_conf(e->parts[0], &pc);
    for (uint64_t i = 0; i < 20; i++)
        (void)put(e, 0, i + 1, 100000);
    env_settle(e);
    atomic_store(&e->cat->dirs[0].space.read_only, true); /* as plog_fail does on ENOSPC */
    upkeep_seconds(e, &u, 3);
    assert_int_equal(u.segments_dropped, 0);
    assert_true(plog_is_writable(e->parts[0]));
    stop(e);
}

TEST_MAIN(TEST(a_full_disk_makes_the_log_read_only_and_it_recovers_by_itself),
          TEST(on_a_full_disk_old_segments_of_delete_topics_go_before_the_log_is_read_only),
          TEST(a_producer_that_outruns_the_space_check_never_meets_a_full_disk),
          TEST(with_nothing_to_drop_appends_are_refused_before_the_disk_is_full),
          TEST(a_full_disk_fences_nothing_and_reads_go_on),
          TEST(a_fenced_partition_on_a_full_disk_gives_its_own_segments_and_comes_back),
          TEST(a_disk_that_is_full_for_a_while_costs_nothing_acknowledged),
          TEST(an_error_of_one_write_deletes_nothing))
