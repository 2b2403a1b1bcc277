/* Damage to a segment: whatever bit flips, at most one batch is lost, all others stay readable at
 * their offsets, and the audit says what it was. */
#include "accel/accel.h"
#include "dataplane/store/seg_heal.h"
#include "lib/batch/build.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include "lib/batch/seal.h"
#include "tests/support/fake_file.h"
#include "tests/support/test.h"

#define DIR "/d"
#define BASE 1000
#define BATCHES_MAX 32

struct log { /* a segment as it was written */
    struct fake_disk *disk;
    struct file_io io;
    char path[STORE_PATH_MAX];
    uint8_t *b;
    uint32_t len, cnt;
    uint32_t pos[BATCHES_MAX + 1];
    int64_t base[BATCHES_MAX + 1];
    struct epochs epochs;
};

static void batch_add(struct log *g, struct test_rng *rng, int64_t base, uint32_t records,
                      uint32_t value_max, int32_t epoch)
{
    uint8_t value[4096];
    struct batch_builder bb;
    struct span s;
    batch_builder_init(&bb, g->b + g->len, 1u << 20);
    for (uint32_t i = 0; i < records; i++) {
        uint32_t n = (uint32_t)rng_below(rng, value_max + 1);
        rng_fill(rng, value, n);
        struct rec r = {.value = span_of(value, n), .timestamp_ms = 1000 + base + i};
        assert_ok(batch_builder_add(&bb, &r));
    }
    struct seal_opts so = {.producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    assert_ok(batch_seal(&bb, NULL, &so, NULL, 0, &s));
    store_be64(g->b + g->len, (uint64_t)base);
    store_be32(g->b + g->len + BATCH_LEADER_EPOCH, (uint32_t)epoch);
    g->pos[g->cnt] = g->len;
    g->base[g->cnt++] = base;
    g->len += s.len;
    g->pos[g->cnt] = g->len;
    g->base[g->cnt] = base + records;
}

static void log_put(struct log *g)
{
    fake_disk_put(g->disk, g->path, g->b, g->len);
}

static void log_init(struct log *g, uint64_t seed)
{
    accel_init(false);
    *g = (struct log){.disk = fake_disk_new(seed)};
    g->io = (struct file_io){.ops = &fake_file_ops, .arg = g->disk};
    assert_ok(g->io.ops->mkdir(&g->io, DIR));
    assert_ok(path_seg(g->path, DIR, BASE, SFX_LOG));
    g->b = malloc(4u << 20);
}

/* gaps: some offsets are missing between batches, as after a compaction. */
static void log_fill(struct log *g, struct test_rng *rng, uint32_t cnt, uint32_t value_max,
                     bool gaps)
{
    int64_t at = BASE;
    for (uint32_t i = 0; i < cnt; i++) {
        uint32_t n = 1 + (uint32_t)rng_below(rng, 4);
        int32_t epoch = i < cnt / 2 ? 3 : 5;
        assert_true(epochs_assign(&g->epochs, epoch, at) >= 0);
        batch_add(g, rng, at, n, value_max, epoch);
        at += n + (gaps ? (int64_t)rng_below(rng, 3) : 0);
    }
    g->base[g->cnt] = at; /* where the next segment begins */
    log_put(g);
}

static void log_fini(struct log *g)
{
    epochs_fini(&g->epochs);
    fake_disk_free(g->disk);
    free(g->b);
}

struct found {
    struct seg_damage d[BATCHES_MAX];
    uint32_t cnt;
    struct {
        int64_t from, to;
        bool lost;
    } batch[BATCHES_MAX * 2];
    uint32_t batch_cnt;
    int64_t next;
};
static int on_damage(void *arg, const struct seg_damage *d)
{
    struct found *f = arg;
    assert_true(f->cnt < BATCHES_MAX);
    f->d[f->cnt++] = *d;
    return 0;
}
static int on_batch(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes)
{
    struct found *f = arg;
    f->batch[f->batch_cnt].from = b->base_offset;
    f->batch[f->batch_cnt].to = b->base_offset + b->last_offset_delta + 1;
    f->batch[f->batch_cnt++].lost = batch_is_lost(bytes);
    return 0;
}

static void audit(struct log *g, bool gaps, bool knows_end, struct found *f)
{
    struct seg_audit a;
    *f = (struct found){0};
    struct seg_audit_opts o = {.io = &g->io,
                               .path = g->path,
                               .base = BASE,
                               .end = knows_end ? g->base[g->cnt] : -1,
                               .has_gaps = gaps,
                               .is_closed = true,
                               .epochs = &g->epochs,
                               .on_batch = on_batch,
                               .on_damage = on_damage,
                               .arg = f};
    assert_ok(seg_audit_init(&a, &o));
    int rc;
    while ((rc = seg_audit_step(&a, 100)) == 1) { /* in many steps */
    }
    assert_rc(rc, 0);
    f->next = a.next;
    seg_audit_fini(&a);
}

/* Batch i lies in the file exactly as it was written. */
static bool is_intact(struct log *g, uint32_t i)
{
    uint64_t len;
    const uint8_t *b = fake_disk_content(g->disk, g->path, &len);
    return len >= g->pos[i + 1] &&
           memcmp(b + g->pos[i], g->b + g->pos[i], g->pos[i + 1] - g->pos[i]) == 0;
}

static void look_for_quarantine(void *arg, const char *path)
{
    if (strstr(path, SFX_QUARANTINE) != NULL)
        (void)snprintf(arg, STORE_PATH_MAX, "%s", path);
}
/* Forget what was kept of the damage before this one. */
static bool quarantine_remove(struct log *g)
{
    char path[STORE_PATH_MAX] = "";
    fake_disk_each(g->disk, look_for_quarantine, path);
    if (path[0] != 0)
        assert_ok(g->io.ops->unlink(&g->io, path));
    return path[0] != 0;
}

/* After damage of batch `hit`: audit, heal all, audit again. */
static void heals(struct log *g, uint32_t hit, bool gaps, bool knows_end, const char *what)
{
    struct found f, again;
    struct seg_healed h;
    audit(g, gaps, knows_end, &f);
    if (f.cnt != 1)
        fail_msg("%s: %u damages", what, f.cnt);
    assert_true(f.d[0].pos >= g->pos[hit]);
    if (f.d[0].to < 0) /* nothing says how much was there: only recovery at the log's end */
        return;
    assert_ok(seg_heal(&g->io, DIR, BASE, &f.d[0], &h));
    audit(g, gaps, knows_end, &again);
    if (again.cnt != 0)
        fail_msg("%s: still %s at %llu", what, damage_name(again.d[0].kind),
                 (unsigned long long)again.d[0].pos);
    uint32_t lost = 0;
    for (uint32_t i = 0; i < g->cnt; i++)
        lost += !is_intact(g, i);
    if (lost > damage_is_lost(f.d[0].kind))
        fail_msg("%s: %u batches lost to %s", what, lost, damage_name(f.d[0].kind));
    if (!is_intact(g, hit)) { /* its offsets are covered by what stands for it */
        assert_true(damage_is_lost(f.d[0].kind));
        bool covered = false;
        for (uint32_t i = 0; i < again.batch_cnt; i++)
            covered = covered || (again.batch[i].lost && again.batch[i].from <= g->base[hit] &&
                                  again.batch[i].to > g->base[hit]);
        assert_true(covered);
        assert_true(quarantine_remove(g));
    }
}

static void every_flipped_bit(bool gaps, bool knows_end)
{
    struct test_rng rng = {test_seed(7)};
    struct log g;
    struct found f;
    char what[64];
    log_init(&g, 1);
    log_fill(&g, &rng, 7, 12, gaps);
    audit(&g, gaps, knows_end, &f);
    assert_int_equal(f.cnt, 0);
    assert_int_equal(f.batch_cnt, 7);
    for (uint32_t hit = 0; hit < g.cnt; hit++) {
        for (uint32_t bit = g.pos[hit] * 8; bit < g.pos[hit + 1] * 8; bit++) {
            (void)snprintf(what, sizeof(what), "bit %u of byte %u of batch %u", bit % 8,
                           bit / 8 - g.pos[hit], hit);
            uint8_t *b = malloc(g.len);
            memcpy(b, g.b, g.len);
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
            fake_disk_put(g.disk, g.path, b, g.len);
            free(b);
            heals(&g, hit, gaps, knows_end, what);
        }
    }
    log_fini(&g);
}

static void a_flipped_bit_anywhere_loses_at_most_one_batch(void **state)
{
    every_flipped_bit(false, true);
}
static void also_where_nothing_says_where_the_log_ends(void **state)
{
    every_flipped_bit(false, false);
}

/* A compacted log says less of its offsets: what is not certain is reported and left as it is. */
static void in_a_compacted_log_too(void **state)
{
    struct test_rng rng = {test_seed(11)};
    struct log g;
    struct found f;
    struct seg_healed h;
    log_init(&g, 1);
    log_fill(&g, &rng, 8, 20, true);
    audit(&g, true, true, &f);
    assert_int_equal(f.cnt, 0);
    for (uint32_t bit = 0; bit < g.len * 8; bit++) {
        uint8_t *b = malloc(g.len);
        memcpy(b, g.b, g.len);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        fake_disk_put(g.disk, g.path, b, g.len);
        audit(&g, true, true, &f);
        for (uint32_t i = 0; i < f.cnt; i++)
            if (damage_is_repairable(f.d[i].kind))
                assert_ok(seg_heal(&g.io, DIR, BASE, &f.d[i], &h));
        for (uint32_t i = 0; i < g.cnt; i++)
            if (!is_intact(&g, i) &&
                memcmp(b + g.pos[i], g.b + g.pos[i], g.pos[i + 1] - g.pos[i]) == 0)
                fail_msg("bit %u: %s cost batch %u", bit, damage_name(f.d[0].kind), i);
        (void)quarantine_remove(&g);
        free(b);
    }
    log_fini(&g);
}

static void overwritten_blocks_lose_only_the_batches_they_touch(void **state)
{
    struct test_rng rng = {test_seed(3)};
    for (int round = 0; round < 60; round++) {
        struct log g;
        struct found f;
        struct seg_healed h;
        log_init(&g, (uint64_t)round + 1);
        log_fill(&g, &rng, 24, 900, false);
        uint32_t at = (uint32_t)rng_below(&rng, g.len), n = 1 + (uint32_t)rng_below(&rng, 3000);
        n = n < g.len - at ? n : g.len - at;
        uint8_t *b = malloc(g.len);
        memcpy(b, g.b, g.len);
        if (round % 2)
            rng_fill(&rng, b + at, n);
        else
            memset(b + at, 0, n);
        fake_disk_put(g.disk, g.path, b, g.len);
        audit(&g, false, true, &f);
        for (uint32_t i = 0; i < f.cnt; i++)
            assert_ok(seg_heal(&g.io, DIR, BASE, &f.d[i], &h));
        uint32_t cnt = f.cnt;
        audit(&g, false, true, &f);
        assert_int_equal(f.cnt, 0);
        assert_true(f.next == g.base[g.cnt]);
        uint32_t lost = 0;
        for (uint32_t i = 0; i < g.cnt; i++) {
            bool touched = memcmp(b + g.pos[i], g.b + g.pos[i], g.pos[i + 1] - g.pos[i]) != 0;
            assert_true(is_intact(&g, i) || touched);
            lost += !is_intact(&g, i);
        }
        assert_true(lost == 0 || cnt > 0);
        free(b);
        log_fini(&g);
    }
}

static void what_was_damaged_twice_is_kept_twice(void **state)
{
    struct test_rng rng = {test_seed(5)};
    struct log g;
    struct found f;
    struct seg_healed h;
    uint64_t len;
    log_init(&g, 1);
    log_fill(&g, &rng, 3, 100, false);
    char path[STORE_PATH_MAX], name[64];
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *b = malloc(g.len);
        memcpy(b, g.b, g.len);
        b[g.pos[1] + BATCH_BASE_TIMESTAMP + i] ^= 0xff;
        fake_disk_put(g.disk, g.path, b, g.len);
        audit(&g, false, true, &f);
        assert_int_equal(f.cnt, 1);
        assert_int_equal(f.d[0].kind, DAMAGE_BATCH);
        assert_int_equal(f.d[0].from, g.base[1]);
        assert_int_equal(f.d[0].to, g.base[2]);
        assert_ok(seg_heal(&g.io, DIR, BASE, &f.d[0], &h));
        (void)snprintf(name, sizeof(name), SEG_NAME_FMT ".%u%s" SFX_QUARANTINE, (long long)BASE,
                       SFX_LOG, g.pos[1], i ? ".1" : "");
        assert_ok(path_join(path, DIR, name));
        const uint8_t *kept = fake_disk_content(g.disk, path, &len);
        assert_non_null(kept);
        assert_int_equal(len, g.pos[2] - g.pos[1]);
        assert_memory_equal(kept, b + g.pos[1], len);
        free(b);
    }
    log_fini(&g);
}

static void zeros_behind_a_closed_segment_are_cut_off(void **state)
{
    struct test_rng rng = {test_seed(6)};
    struct log g;
    struct found f;
    struct seg_healed h;
    uint64_t len;
    log_init(&g, 1);
    log_fill(&g, &rng, 3, 100, false);
    memset(g.b + g.len, 0, 5000);
    fake_disk_put(g.disk, g.path, g.b, g.len + 5000);
    audit(&g, false, true, &f);
    assert_int_equal(f.cnt, 1);
    assert_int_equal(f.d[0].kind, DAMAGE_ZERO_TAIL);
    assert_ok(seg_heal(&g.io, DIR, BASE, &f.d[0], &h));
    (void)fake_disk_content(g.disk, g.path, &len);
    assert_int_equal(len, g.len);
    log_fini(&g);
}

static void a_segment_that_ends_too_early_is_reported(void **state)
{
    struct test_rng rng = {test_seed(6)};
    struct log g;
    struct found f;
    log_init(&g, 1);
    log_fill(&g, &rng, 4, 100, false);
    fake_disk_put(g.disk, g.path, g.b, g.pos[3]);
    audit(&g, false, true, &f);
    assert_int_equal(f.cnt, 1);
    assert_int_equal(f.d[0].kind, DAMAGE_GAP);
    assert_int_equal(f.d[0].from, g.base[3]);
    assert_int_equal(f.d[0].to, g.base[4]);
    log_fini(&g);
}

static void a_batch_for_lost_records_fits_every_length(void **state)
{
    uint8_t b[400];
    struct batch_info info;
    struct record_iter it;
    struct record_view v;
    struct batch_lost l = {.from = 77, .to = 99, .leader_epoch = 4, .text = "lost: a test"};
    accel_init(false);
    for (uint32_t len = BATCH_HEADER_LEN; len <= sizeof(b); len++) {
        assert_ok(batch_lost_build(b, len, &l));
        assert_ok(batch_verify(b, len, &info));
        assert_true(batch_is_lost(b));
        assert_int_equal(info.total_len, len);
        assert_int_equal(info.base_offset, 77);
        assert_int_equal(info.last_offset_delta, 21);
        assert_int_equal(info.leader_epoch, 4);
        if (info.record_cnt == 0)
            continue;
        assert_ok(record_iter_init(&it, NULL, span_of(b, len), NULL, 0));
        assert_rc(record_iter_next(&it, &v), 1);
        assert_int_equal(v.key.len, 4);
        assert_rc(record_iter_next(&it, &v), 0);
    }
    assert_rc(batch_lost_build(b, BATCH_HEADER_LEN - 1, &l), -E_LIMIT);
    l.to = l.from;
    assert_rc(batch_lost_build(b, 100, &l), -E_LIMIT);
}

TEST_MAIN(TEST(a_flipped_bit_anywhere_loses_at_most_one_batch),
          TEST(also_where_nothing_says_where_the_log_ends), TEST(in_a_compacted_log_too),
          TEST(overwritten_blocks_lose_only_the_batches_they_touch),
          TEST(what_was_damaged_twice_is_kept_twice),
          TEST(zeros_behind_a_closed_segment_are_cut_off),
          TEST(a_segment_that_ends_too_early_is_reported),
          TEST(a_batch_for_lost_records_fits_every_length))
