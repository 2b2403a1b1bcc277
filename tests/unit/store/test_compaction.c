/* Compaction in a running store on the fake disk: what readers see while segments are exchanged,
 * what a restart finds, and what power cuts at any moment leave. */
#include "dataplane/upkeep/compaction.h"
#include "dataplane/store/format.h"
#include "dataplane/store/plog_int.h"
#include "dataplane/upkeep/scrub.h"
#include "tests/support/keyed_batch.h"
#include "tests/unit/store/steps.h"

#define KEYS 20
#define PAD 400 /* bytes of a value */

struct keyed {
    struct env *e;
    struct compaction *c;
    uint64_t acked[KEYS], sent[KEYS]; /* number of the last value; 0: none */
    uint64_t next;
};

static void tune(struct env *e)
{
    e->pc.segment_bytes = 16u << 10;
    e->pc.compact = true;
    e->pc.min_dirty_ratio = 0.3;
    e->pc.max_compaction_lag_ms = INT64_MAX;
    e->pc.delete_retention_ms = 86400000;
}

static void compaction_start(struct keyed *k)
{
    struct compaction_conf cc = {.set = k->e->set,
                                 .io = &k->e->io,
                                 .map_bytes = 1u << 16,
                                 .rate_bytes = 1u << 30,
                                 .interval_ns = 1000000000,
                                 .wake_fd = -1};
    assert_ok(compaction_create(&cc, &k->c));
}

static struct keyed *keyed_start(uint64_t seed, void (*more)(struct env *e))
{
    struct keyed *k = calloc(1, sizeof(*k));
    assert_non_null(k);
    k->e = calloc(1, sizeof(*k->e));
    assert_non_null(k->e);
    env_init(k->e, seed);
    tune(k->e);
    if (more != NULL)
        more(k->e);
    assert_ok(env_open(k->e));
    assert_ok(env_create_parts(k->e, 1));
    compaction_start(k);
    return k;
}

static void keyed_stop(struct keyed *k)
{
    compaction_destroy(k->c);
    stop(k->e);
    free(k);
}

static void turn(struct keyed *k, uint64_t ns)
{
    env_step(k->e, 1000, ns);
    (void)compaction_poll(k->c, k->e->shard.now_ns, k->e->shard.wall_ms);
}

/* Until nothing is due any more. */
static struct compaction_stats compact_all(struct keyed *k)
{
    struct compaction_stats st;
    env_settle(k->e);
    for (int i = 0; i < 200; i++)
        turn(k, 100000000);
    for (int i = 0; i < 1000 && !compaction_is_idle(k->c); i++)
        turn(k, 1000000);
    assert_true(compaction_is_idle(k->c));
    compaction_stats_get(k->c, &st);
    return st;
}

/* The next value of a key: "<number>" and padding. A negative number of the disk is returned. */
static int put_key(struct keyed *k, uint32_t key, bool tombstone)
{
    char name[16], value[PAD + 1];
    struct kb_rec rec = {.key = name, .ts = k->e->shard.wall_ms};
    uint32_t len;
    uint64_t n = ++k->next;
    (void)snprintf(name, sizeof(name), "key%u", key);
    memset(value, '.', PAD);
    value[PAD] = 0;
    value[snprintf(value, PAD, "%llu", (unsigned long long)n)] = ' ';
    rec.value = tombstone ? NULL : value;
    struct kb_batch b = {
        .recs = &rec, .cnt = 1, .producer_id = -1, .producer_epoch = -1, .base_seq = -1};
    uint8_t *p = kb_build(&b, &len);
    struct env_append x = {.a = {.wait_durable = true,
                                 .batch = span_of(p, len),
                                 .max_timestamp_ms = rec.ts,
                                 .done = env_append_done}};
    k->sent[key] = n;
    plog_append(k->e->parts[0], &x.a);
    for (int i = 0; i < 10000 && !x.done; i++)
        env_step(k->e, 1000, 1000000);
    assert_true(x.done);
    free(p);
    if (x.a.rc == 0)
        k->acked[key] = tombstone ? 0 : n;
    return x.a.rc;
}

static void fill(struct keyed *k, int rounds)
{
    for (int i = 0; i < rounds * KEYS; i++)
        assert_ok(put_key(k, (uint32_t)i % KEYS, false));
}

struct seen {
    uint64_t last[KEYS];
    uint32_t records;
    uint64_t bytes;
};
static void records_see(const struct batch_info *b, const uint8_t *p, struct seen *ret)
{
    struct record_iter it;
    struct record_view v;
    assert_ok(record_iter_init(&it, NULL, span_of(p, b->total_len), NULL, 0));
    while (record_iter_next(&it, &v) == 1) {
        char text[32] = {0};
        memcpy(text, v.key.p, v.key.len < 31 ? v.key.len : 31);
        uint32_t key = (uint32_t)strtoul(text + 3, NULL, 10);
        assert_true(key < KEYS);
        uint64_t n = 0;
        if (v.value.p != NULL) {
            memset(text, 0, sizeof(text));
            memcpy(text, v.value.p, 20);
            n = strtoull(text, NULL, 10);
            assert_true(n > ret->last[key]);
        }
        ret->last[key] = n;
        ret->records++;
    }
}

/* Reads from `*next` to the durable end, or one answer of it. */
static void read_on(struct env *e, int64_t *next, uint32_t cap, bool once, struct seen *ret)
{
    struct plog_offsets off;
    plog_offsets_get(e->parts[0], &off);
    while (*next < off.durable) {
        struct env_read x;
        assert_ok(env_read(e, 0, *next, buf, cap, &x));
        assert_true(x.r.len > 0);
        for (uint32_t at = 0; at < x.r.len;) {
            struct batch_info b;
            assert_ok(batch_verify(buf + at, x.r.len - at, &b));
            assert_true(b.base_offset + b.last_offset_delta >= *next);
            *next = b.base_offset + b.last_offset_delta + 1;
            records_see(&b, buf + at, ret);
            at += b.total_len;
        }
        ret->bytes += x.r.len;
        if (once)
            return;
    }
}

static struct seen read_all(struct env *e)
{
    struct seen s = {0};
    int64_t next = 0;
    read_on(e, &next, sizeof(buf), false, &s);
    return s;
}

static void assert_model(struct keyed *k)
{
    struct seen s = read_all(k->e);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(s.last[i], k->acked[i]);
}

static void count_odd(void *arg, const char *path)
{
    size_t n = strlen(path);
    bool odd = (n > 8 && strcmp(path + n - 8, SFX_CLEANED) == 0) ||
               (n > 5 && strcmp(path + n - 5, SFX_SWAP) == 0);
    *(uint32_t *)arg += odd;
}
static uint32_t files_left(struct env *e)
{
    uint32_t n = 0;
    fake_disk_each(e->disk, count_odd, &n);
    return n;
}

/* --------------------------------------------------------------------------------------- tests */

static void bytes_converge_to_the_keys(void **state)
{
    struct keyed *k = keyed_start(1, NULL);
    struct plog_offsets off;
    uint64_t first = 0;
    for (int i = 0; i < 6; i++) {
        fill(k, 30);
        struct compaction_stats st = compact_all(k);
        assert_true(st.rounds > 0);
        assert_int_equal(st.errors, 0);
        assert_int_equal(st.thrown_away, 0);
        assert_model(k);
        plog_offsets_get(k->e->parts[0], &off);
        first = i == 0 ? off.size_bytes : first;
        assert_true(off.size_bytes <= first + 2 * k->e->pc.segment_bytes);
    }
    assert_int_equal(off.next, 6 * 30 * KEYS);
    assert_int_equal(off.log_start, 0);
    assert_int_equal(files_left(k->e), 0);
    struct compaction_stats before = compact_all(k), after = compact_all(k);
    assert_int_equal(before.rounds, after.rounds); /* nothing is dirty enough any more */
    keyed_stop(k);
}

static void a_restart_finds_the_same(void **state)
{
    struct keyed *k = keyed_start(2, NULL);
    fill(k, 30);
    (void)compact_all(k);
    struct seen before = read_all(k->e);
    int64_t cleaned = plog_cleaned(k->e->parts[0]);
    assert_true(cleaned > 0);
    compaction_destroy(k->c);
    assert_ok(env_close(k->e));
    assert_ok(env_open(k->e));
    assert_int_equal(k->e->rep.cnt[RC_SCANNED], 0);
    compaction_start(k);
    assert_int_equal(plog_cleaned(k->e->parts[0]), cleaned);
    struct seen after = read_all(k->e);
    assert_memory_equal(&before, &after, sizeof(before));
    fill(k, 10);
    (void)compact_all(k);
    assert_model(k);
    keyed_stop(k);
}

static void a_scan_takes_no_gap_for_damage(void **state)
{
    struct keyed *k = keyed_start(3, NULL);
    fill(k, 30);
    (void)compact_all(k);
    struct seen before = read_all(k->e);
    compaction_destroy(k->c);
    fake_disk_die_at(k->e->disk, fake_disk_ops(k->e->disk));
    env_abandon(k->e);
    fake_disk_power_cut(k->e->disk);
    /* No index, no checkpoint of epochs: every segment is scanned, below the recovery point. */
    fake_disk_put(k->e->disk, ENV_DIR "/t-0/" FN_EPOCHS, "", 0);
    assert_ok(env_open(k->e));
    assert_int_equal(k->e->rep.cnt[RC_DAMAGED_FIELD], 0);
    assert_int_equal(k->e->rep.cnt[RC_DAMAGED_BATCH], 0);
    assert_int_equal(k->e->rep.cnt[RC_LATER_SEGMENT], 0);
    struct seen after = read_all(k->e);
    assert_memory_equal(&before, &after, sizeof(before));
    compaction_start(k);
    keyed_stop(k);
}

static void a_lost_recovery_point_makes_no_gap_damage(void **state)
{
    struct keyed *k = keyed_start(13, NULL);
    fill(k, 30);
    (void)compact_all(k);
    assert_ok(catalog_checkpoint(k->e->parts[0]->sd->d));
    struct seen before = read_all(k->e);
    compaction_destroy(k->c);
    fake_disk_die_at(k->e->disk, fake_disk_ops(k->e->disk));
    env_abandon(k->e);
    fake_disk_power_cut(k->e->disk);
    fake_disk_put(k->e->disk, ENV_DIR "/" FN_RECOVERY_POINT, "", 0);
    assert_ok(env_open(k->e));
    assert_int_equal(k->e->rep.cnt[RC_LATER_SEGMENT], 0);
    struct seen after = read_all(k->e);
    assert_memory_equal(&before, &after, sizeof(before));
    compaction_start(k);
    keyed_stop(k);
}

static void a_reader_throughout_sees_every_last_value(void **state)
{
    struct keyed *k = keyed_start(4, NULL);
    struct seen s = {0};
    int64_t next = 0;
    for (int i = 0; i < 3000; i++) {
        assert_ok(put_key(k, (uint32_t)env_rnd(k->e, KEYS), false));
        if (i % 7 == 0)
            turn(k, 300000000);
        if (i % 2 == 0)
            read_on(k->e, &next, 2000, true, &s);
    }
    struct compaction_stats st = compact_all(k);
    assert_true(st.segments_out > 3);
    read_on(k->e, &next, 2000, false, &s);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(s.last[i], k->acked[i]);
    keyed_stop(k);
}

/* A read that is under way in the old file while the new one takes its place. */
static void reads_in_flight_end_in_the_old_files(void **state)
{
    struct keyed *k = keyed_start(5, NULL);
    struct env_read x[8];
    static uint8_t dst[8][4096];
    fill(k, 30);
    compaction_destroy(k->c);
    assert_ok(env_close(k->e)); /* nothing of it in memory */
    assert_ok(env_open(k->e));
    compaction_start(k);
    struct compaction_stats st = {0};
    for (int i = 0; st.segments_out == 0 && i < 500; i++) {
        for (uint32_t n = 0; n < 8; n++) {
            x[n] = (struct env_read){
                .r = {.offset = (int64_t)env_rnd(k->e, 500),
                      .current_leader_epoch = -1,
                      .last_fetched_epoch = -1,
                      .max_bytes = 4096,
                      .min_one_batch = true,
                      .isolation = n % 2 == 0 ? PLOG_READ_COMMITTED : PLOG_READ_UNCOMMITTED,
                      .dst = dst[n],
                      .dst_cap = 4096,
                      .done = env_read_done}};
            plog_read(k->e->parts[0], &x[n].r);
        }
        for (uint32_t done = 0, t = 0; done < 8; t++) {
            assert_true(t < 100000);
            k->e->shard.now_ns += 50000000;
            fake_disk_poll(k->e->disk, (uint32_t)env_rnd(k->e, 2));
            plog_set_poll(k->e->set, 64);
            plog_set_check(k->e->set);
            (void)compaction_poll(k->c, k->e->shard.now_ns, k->e->shard.wall_ms);
            done = 0;
            for (uint32_t n = 0; n < 8; n++)
                done += x[n].done;
        }
        for (uint32_t n = 0; n < 8; n++) {
            struct batch_info b;
            assert_ok(x[n].r.rc);
            assert_true(x[n].r.len > 0);
            assert_ok(batch_verify(dst[n], x[n].r.len, &b));
            assert_true(b.base_offset + b.last_offset_delta >= x[n].r.offset);
        }
        compaction_stats_get(k->c, &st);
    }
    assert_true(st.segments_out > 0);
    (void)compact_all(k);
    assert_model(k);
    uint32_t open = fake_disk_open_files(k->e->disk);
    for (int i = 0; i < 20; i++)
        turn(k, 1000000000);
    assert_true(fake_disk_open_files(k->e->disk) <= open); /* old files are closed */
    keyed_stop(k);
}

static void tombstones_go_after_their_time(void **state)
{
    struct keyed *k = keyed_start(6, NULL);
    fill(k, 20);
    for (uint32_t i = 0; i < KEYS / 2; i++)
        assert_ok(put_key(k, i, true));
    for (int i = 0; i < 200; i++) /* others follow, so that theirs is closed */
        assert_ok(put_key(k, KEYS / 2 + (uint32_t)i % (KEYS / 2), false));
    (void)compact_all(k);
    assert_model(k);
    k->e->shard.now_ns += UINT64_C(90000) * 1000000000;
    for (int i = 0; i < 300; i++)
        assert_ok(put_key(k, KEYS / 2 + (uint32_t)i % (KEYS / 2), false));
    (void)compact_all(k);
    struct seen s = read_all(k->e);
    for (uint32_t i = 0; i < KEYS / 2; i++)
        assert_int_equal(s.last[i], 0);
    assert_model(k);
    keyed_stop(k);
}

static void lag(struct env *e)
{
    e->pc.min_compaction_lag_ms = 3600000;
}
static void young_records_are_left_alone(void **state)
{
    struct keyed *k = keyed_start(7, lag);
    fill(k, 20);
    assert_int_equal(compact_all(k).segments_out, 0);
    k->e->shard.now_ns += UINT64_C(3700) * 1000000000;
    assert_true(compact_all(k).segments_out > 0);
    assert_model(k);
    keyed_stop(k);
}

static void max_lag(struct env *e)
{
    e->pc.min_dirty_ratio = 1;
    e->pc.max_compaction_lag_ms = 3600000;
}
static void old_records_are_compacted_however_few_they_are(void **state)
{
    struct keyed *k = keyed_start(8, max_lag);
    fill(k, 20);
    assert_int_equal(compact_all(k).segments_out, 0);
    k->e->shard.now_ns += UINT64_C(3700) * 1000000000;
    assert_true(compact_all(k).segments_out > 0);
    assert_model(k);
    keyed_stop(k);
}

static void the_scrubber_and_a_rewrite_take_turns(void **state)
{
    struct keyed *k = keyed_start(9, NULL);
    struct plog *p = k->e->parts[0];
    fill(k, 20);
    env_settle(k->e);
    assert_true(plog_lease_take(p));
    assert_false(plog_lease_take(p));
    assert_false(plog_scrub_begin(p));
    plog_lease_put(p);
    assert_true(plog_scrub_begin(p));
    assert_false(plog_lease_take(p));
    assert_int_equal(compact_all(k).segments_out, 0);
    plog_scrub_end(p);
    assert_true(compact_all(k).segments_out > 0);
    struct scrub *s;
    struct scrub_conf sc = {
        .set = k->e->set, .io = &k->e->io, .rate_bytes = 4096, .interval_ns = 1000000000};
    struct scrub_stats st;
    assert_ok(scrub_create(&sc, &s));
    for (int i = 0; i < 600; i++) {
        if (i < 300)
            assert_ok(put_key(k, (uint32_t)i % KEYS, false));
        turn(k, 1000000000);
        scrub_poll(s, k->e->shard.now_ns);
    }
    scrub_stats_get(s, &st);
    assert_true(st.segments > 0);
    assert_int_equal(st.found, 0);
    scrub_destroy(s);
    keyed_stop(k);
}

static void a_partition_that_is_taken_keeps_no_other_waiting(void **state)
{
    for (uint32_t taken = 0; taken < 2; taken++) {
        struct keyed *k = keyed_start(15, NULL);
        struct plog *first = k->e->parts[0];
        assert_ok(env_create_parts(k->e, 2));
        fill(k, 20);
        k->e->parts[0] = k->e->parts[1]; /* put_key writes there */
        fill(k, 20);
        k->e->parts[0] = first;
        assert_true(plog_scrub_begin(k->e->parts[taken]));
        assert_true(compact_all(k).segments_out > 0);
        assert_true(plog_cleaned(k->e->parts[1 - taken]) > 0);
        assert_int_equal(plog_cleaned(k->e->parts[taken]), 0);
        plog_scrub_end(k->e->parts[taken]);
        (void)compact_all(k);
        assert_true(plog_cleaned(k->e->parts[taken]) > 0);
        keyed_stop(k);
    }
}

static void a_damaged_batch_makes_only_its_partition_uncleanable(void **state)
{
    struct keyed *k = keyed_start(10, NULL);
    char path[256];
    uint64_t len;
    fill(k, 20);
    env_settle(k->e);
    (void)snprintf(path, sizeof(path), ENV_DIR "/t-0/" SEG_NAME_FMT, 0LL, SFX_LOG);
    const uint8_t *p = fake_disk_content(k->e->disk, path, &len);
    uint8_t *b = malloc(len);
    memcpy(b, p, len);
    b[batch_total_len(b) + 200] ^= 8; /* in the records of the second one */
    fake_disk_put(k->e->disk, path, b, len);
    free(b);
    struct compaction_stats st = compact_all(k);
    assert_int_equal(st.errors, 1);
    assert_int_equal(st.uncleanable, 1);
    assert_int_equal(st.segments_out, 0);
    assert_int_equal(plog_set_suspects(k->e->set), 1);
    assert_int_equal(files_left(k->e), 0);
    struct scrub *s;
    struct scrub_conf sc = {.set = k->e->set, .io = &k->e->io};
    assert_ok(scrub_create(&sc, &s));
    for (int i = 0; i < 3; i++) { /* what is damaged is kept aside ... */
        turn(k, 1000000000);
        scrub_poll(s, k->e->shard.now_ns);
    }
    assert_int_equal(plog_set_suspects(k->e->set), 0);
    k->e->shard.now_ns += UINT64_C(61) * 1000000000;
    st = compact_all(k); /* ... and the rest is compacted */
    assert_true(st.segments_out > 0);
    assert_int_equal(st.uncleanable, 0);
    scrub_destroy(s);
    keyed_stop(k);
}

static void a_full_disk_only_puts_it_off(void **state)
{
    struct keyed *k = keyed_start(11, NULL);
    fill(k, 20);
    env_settle(k->e);
    fake_disk_set_full(k->e->disk, true);
    struct compaction_stats st = compact_all(k);
    assert_true(st.errors > 0); /* segments of which nothing is left need no room: those went */
    assert_int_equal(files_left(k->e), 0);
    assert_model(k);
    fake_disk_set_full(k->e->disk, false);
    k->e->shard.now_ns += UINT64_C(61) * 1000000000;
    assert_true(compact_all(k).segments_out > st.segments_out);
    assert_model(k);
    keyed_stop(k);
}

static void no_rewrite_where_there_is_no_room_for_it(void **state)
{
    struct keyed *k = keyed_start(16, NULL);
    uint64_t *min_free = &k->e->parts[0]->set->conf.storage_min_free_bytes;
    fill(k, 20);
    env_settle(k->e);
    uint64_t before = *min_free;
    *min_free = INT64_MAX; /* more than any disk has */
    struct compaction_stats st = compact_all(k);
    assert_int_equal(st.rounds, 0);
    assert_int_equal(st.errors, 0);
    *min_free = before;
    assert_true(compact_all(k).segments_out > 0);
    assert_model(k);
    keyed_stop(k);
}

/* The checkpoint before the segments are put in place fails: no file was touched yet. */
static void a_failed_swap_leaves_nothing_behind(void **state)
{
    struct keyed *k = keyed_start(14, NULL);
    struct plog_set_stats ps;
    struct compaction_stats st;
    fill(k, 20);
    env_settle(k->e);
    for (int i = 0; i < 1000 && files_left(k->e) == 0; i++)
        turn(k, 10000000);
    assert_true(files_left(k->e) > 0);
    fake_disk_fail_at(k->e->disk, fake_disk_ops(k->e->disk), -ENOSPC);
    for (int i = 0; i < 1000 && !compaction_is_idle(k->c); i++)
        turn(k, 1000000);
    compaction_stats_get(k->c, &st);
    assert_int_equal(st.errors, 1);
    assert_int_equal(st.segments_out, 0);
    assert_int_equal(files_left(k->e), 0);
    plog_set_stats_get(k->e->set, &ps);
    assert_int_equal(ps.fenced, 0);
    assert_int_equal(compact_all(k).segments_out, 0); /* not at once */
    k->e->shard.now_ns += UINT64_C(61) * 1000000000;
    assert_true(compact_all(k).segments_out > 0);
    assert_model(k);
    keyed_stop(k);
}

static void recode(struct env *e)
{
    e->pc.compact = false;
    e->pc.delete_ = true;
    e->pc.recode = true;
    e->pc.recode_codec = CODEC_GZIP;
}
static void plain_segments_are_compressed_and_nothing_is_missing(void **state)
{
    struct keyed *k = keyed_start(12, recode);
    struct plog_offsets before, after;
    fill(k, 20);
    env_settle(k->e);
    plog_offsets_get(k->e->parts[0], &before);
    struct compaction_stats st = compact_all(k);
    assert_true(st.recoded_segments > 3);
    plog_offsets_get(k->e->parts[0], &after);
    assert_int_equal(after.segment_cnt, before.segment_cnt);
    assert_true(after.size_bytes < before.size_bytes / 2);
    assert_false(plog_has_gaps(k->e->parts[0]));
    assert_int_equal(count_all(k->e, 0), 20 * KEYS); /* every offset follows the one before */
    assert_int_equal(compact_all(k).recoded_segments, st.recoded_segments); /* once */
    keyed_stop(k);
}

/* The power goes at some operation while keys are written and segments rewritten; what was
 * acknowledged of each key is there, or something newer, and no file of a rewrite is left. */
static void power_cuts_lose_no_key(void **state)
{
    uint64_t seed = test_seed(100), swaps = 0, undone = 0, done = 0;
    for (uint64_t run = 0; run < 60; run++) {
        struct keyed *k = keyed_start(seed + run, NULL);
        for (int life = 0; life < 4; life++) {
            struct compaction_stats st;
            uint64_t at = fake_disk_ops(k->e->disk) + 200 + env_rnd(k->e, 700);
            fake_disk_die_at(k->e->disk, at);
            for (int i = 0; i < 2000 && !fake_disk_is_dead(k->e->disk); i++) {
                (void)put_key(k, (uint32_t)env_rnd(k->e, KEYS), false);
                if (env_rnd(k->e, 3) == 0)
                    turn(k, 200000000);
            }
            fake_disk_die_at(k->e->disk, fake_disk_ops(k->e->disk));
            compaction_stats_get(k->c, &st);
            swaps += st.segments_out;
            compaction_destroy(k->c);
            env_abandon(k->e);
            if (env_rnd(k->e, 3) == 0)
                fake_disk_revive(k->e->disk); /* only the process died */
            else
                fake_disk_power_cut(k->e->disk);
            assert_ok(env_open(k->e));
            undone += k->e->rep.cnt[RC_REWRITE_UNDONE];
            done += k->e->rep.cnt[RC_REWRITE_DONE];
            assert_int_equal(files_left(k->e), 0);
            struct seen s = read_all(k->e);
            for (uint32_t i = 0; i < KEYS; i++) {
                if (s.last[i] < k->acked[i] || s.last[i] > k->sent[i])
                    fail_msg("seed %llu life %d key %u: %llu, acknowledged %llu",
                             (unsigned long long)(seed + run), life, i,
                             (unsigned long long)s.last[i], (unsigned long long)k->acked[i]);
                k->acked[i] = s.last[i];
            }
            compaction_start(k);
        }
        (void)compact_all(k);
        assert_model(k);
        keyed_stop(k);
    }
    printf("%llu segments put in place, %llu rewrites undone, %llu completed by recovery\n",
           (unsigned long long)swaps, (unsigned long long)undone, (unsigned long long)done);
    assert_true(swaps > 100);
    assert_true(undone > 0);
    assert_true(done > 0);
}

TEST_MAIN(TEST(bytes_converge_to_the_keys), TEST(a_restart_finds_the_same),
          TEST(a_scan_takes_no_gap_for_damage), TEST(a_lost_recovery_point_makes_no_gap_damage),
          TEST(a_reader_throughout_sees_every_last_value),
          TEST(reads_in_flight_end_in_the_old_files), TEST(tombstones_go_after_their_time),
          TEST(young_records_are_left_alone), TEST(old_records_are_compacted_however_few_they_are),
          TEST(the_scrubber_and_a_rewrite_take_turns),
          TEST(a_partition_that_is_taken_keeps_no_other_waiting),
          TEST(a_damaged_batch_makes_only_its_partition_uncleanable),
          TEST(a_full_disk_only_puts_it_off), TEST(no_rewrite_where_there_is_no_room_for_it),
          TEST(a_failed_swap_leaves_nothing_behind),
          TEST(plain_segments_are_compressed_and_nothing_is_missing), TEST(power_cuts_lose_no_key))
