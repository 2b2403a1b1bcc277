/* What is read back from a file of the journal when bytes of it are not those written. */
#include "accel/crc32c.h"
#include "dataplane/store/journal.h"
#include "tests/support/store_env.h"
#include "tests/support/test.h"

#define FILE_BYTES (256u << 10)
#define ENTRIES_MAX 64
#define RUNS 3    /* of an entry, one of each partition; fewer where a file ends */
#define BATCHES 3 /* of a run */

struct entry {
    uint64_t pos, len; /* in its file; len without the padding */
    uint64_t use;
    uint32_t runs;
};
struct book { /* a journal of two files, the first used twice: entries of the old use lie behind */
    struct fake_disk *disk;
    struct file_io io;
    struct journal *j;
    struct test_rng rng;
    uint8_t *b; /* the file as it is read, of len bytes */
    uint64_t len;
    struct entry e[ENTRIES_MAX];
    uint32_t cnt, first; /* first: of the last use */
    int64_t next[RUNS];
    uint64_t tag;
};

static const struct uuid dir_id = {{7}};

static void on_committed(void *arg, int rc)
{
    *(int *)arg = rc;
}

/* One entry; its batches are each of one record and of any length. */
static void entry_write(struct book *k)
{
    struct entry *e = &k->e[k->cnt];
    int rc = 1;
    assert_true(k->cnt < ENTRIES_MAX);
    assert_true(journal_begin(k->j));
    e->len = sizeof(struct journal_head);
    for (int r = 0; r < RUNS; r++) {
        uint8_t run[8192];
        uint32_t len = 0;
        for (int i = 0; i < BATCHES; i++) {
            uint32_t n = 80 + (uint32_t)rng_below(&k->rng, 2500);
            uint8_t *p = env_batch_build(&(struct env_batch){.tag = ++k->tag,
                                                             .len = n,
                                                             .cnt = 1,
                                                             .ts = 1000,
                                                             .producer_id = -1,
                                                             .base_seq = -1});
            store_be64(p + BATCH_BASE_OFFSET, (uint64_t)(k->next[r] + i));
            memcpy(run + len, p, n);
            len += n;
            free(p);
        }
        const struct journal_run row = {
            .topic_id = {{9}}, .partition = r, .base_offset = k->next[r], .len = len};
        uint8_t *to = journal_add(k->j, &row);
        if (to == NULL)
            break;
        memcpy(to, run, len);
        k->next[r] += BATCHES;
        e->len += len + sizeof(struct journal_run);
        e->runs++;
    }
    journal_commit(k->j, on_committed, &rc);
    for (int i = 0; i < 100 && rc == 1; i++)
        (void)fake_disk_poll(k->disk, 100);
    assert_ok(rc);
    e->use = journal_use(k->j);
    bool is_new = k->cnt == 0 || k->e[k->cnt - 1].use != e->use;
    e->pos = is_new ? 0
                    : k->e[k->cnt - 1].pos +
                          ((k->e[k->cnt - 1].len + FILE_BLOCK - 1) & ~(uint64_t)(FILE_BLOCK - 1));
    if (is_new)
        k->first = k->cnt;
    k->cnt++;
}

/* `cnt` entries in the second use of file 1. */
static void book_write(struct book *k, uint64_t seed, uint32_t cnt)
{
    const struct journal_conf jc = {.dir = "/data/journal",
                                    .directory_id = dir_id,
                                    .file_cnt = 2,
                                    .file_bytes = FILE_BYTES,
                                    .entry_bytes_max = FILE_BYTES};
    char name[64], path[128];
    accel_init(false);
    *k = (struct book){.disk = fake_disk_new(seed), .rng = {test_seed(seed)}};
    k->io = (struct file_io){.ops = &fake_file_ops, .arg = k->disk};
    assert_ok(fake_file_ops.mkdir(&k->io, "/data"));
    assert_ok(fake_file_ops.mkdir(&k->io, "/data/journal"));
    assert_ok(journal_create(&k->io, &jc, &k->j));
    while (k->cnt == 0 || k->e[k->cnt - 1].use < 3)
        entry_write(k);
    for (uint32_t i = 1; i < cnt; i++)
        entry_write(k);
    journal_destroy(k->j);
    journal_file_name(name, &dir_id, 0, 1);
    snprintf(path, sizeof(path), "/data/journal/%s", name);
    const uint8_t *p = fake_disk_content(k->disk, path, &k->len);
    assert_int_equal(k->len, FILE_BYTES);
    k->b = malloc(k->len);
    memcpy(k->b, p, k->len);
}

static void book_fini(struct book *k)
{
    fake_disk_free(k->disk);
    free(k->b);
}

struct seen {
    const struct book *k;
    uint32_t batches, mended, lost, unknown;
    bool has[ENTRIES_MAX * BATCHES][RUNS]; /* by offset of partition */
};

static int on_run(void *arg, const struct journal_found *f)
{
    struct seen *s = arg;
    int64_t next = f->run.base_offset;
    assert_in_range(f->run.partition, 0, RUNS - 1);
    for (uint32_t at = 0; at < f->run.len; next++) {
        struct batch_info b;
        assert_ok(batch_verify(f->bytes + at, f->run.len - at, &b));
        assert_int_equal(b.base_offset, next);
        assert_true(next < s->k->next[f->run.partition]);
        assert_false(s->has[next][f->run.partition]);
        s->has[next][f->run.partition] = true;
        s->batches++;
        at += b.total_len;
    }
    return 0;
}

static int on_damage(void *arg, const struct journal_damage *d)
{
    struct seen *s = arg;
    assert_true(d->len > 0 && d->pos + d->len <= s->k->len);
    s->mended += d->is_mended;
    s->unknown += !d->is_mended && d->run == NULL;
    s->lost += d->run != NULL;
    return 0;
}

static int64_t look(const struct book *k, const uint8_t *bytes, struct seen *s)
{
    uint8_t *p = malloc(k->len);
    const struct journal_reader r = {on_run, on_damage, s};
    *s = (struct seen){.k = k};
    memcpy(p, bytes, k->len);
    int64_t cnt = journal_walk(p, k->len, &r);
    free(p);
    return cnt;
}

static uint32_t all_of(const struct book *k)
{
    uint32_t n = 0;
    for (uint32_t i = k->first; i < k->cnt; i++)
        n += k->e[i].runs * BATCHES;
    return n;
}

static void flip_and_look(struct book *k, uint64_t bit)
{
    struct seen s;
    uint64_t at = bit / 8;
    bool inside = false;
    for (uint32_t i = k->first; i < k->cnt; i++)
        inside = inside || (at >= k->e[i].pos && at < k->e[i].pos + k->e[i].len);
    k->b[at] ^= (uint8_t)(1u << bit % 8);
    (void)look(k, k->b, &s);
    k->b[at] ^= (uint8_t)(1u << bit % 8);
    if (s.batches != all_of(k) || s.lost + s.unknown > 0 || s.mended != inside)
        fail_msg("bit %" PRIu64 ": %u of %u batches, %u mended, %u + %u lost", bit, s.batches,
                 all_of(k), s.mended, s.lost, s.unknown);
}

static void a_flipped_bit_anywhere_loses_nothing_and_is_reported(void **state)
{
    struct book k;
    struct seen s;
    (void)state;
    book_write(&k, 1, 6);
    assert_int_equal(look(&k, k.b, &s), 6);
    assert_int_equal(s.batches, all_of(&k));
    assert_int_equal(s.mended + s.lost + s.unknown, 0);
    for (uint32_t i = k.first; i < k.cnt; i++) { /* every bit of heads and tables */
        uint64_t table = k.e[i].pos + k.e[i].len - RUNS * sizeof(struct journal_run);
        for (uint64_t bit = 0; bit < 8 * sizeof(struct journal_head); bit++)
            flip_and_look(&k, k.e[i].pos * 8 + bit);
        for (uint64_t bit = 0; bit < 8 * RUNS * sizeof(struct journal_run); bit += 7)
            flip_and_look(&k, table * 8 + bit);
    }
    for (int i = 0; i < 1500; i++) /* and others, also behind the last entry */
        flip_and_look(&k, rng_below(&k.rng, k.len * 8));
    book_fini(&k);
}

/* Sectors of the last entry are those that lay there before: it was never acknowledged. */
static void a_torn_last_entry_is_the_end_and_no_damage(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct book k;
        struct seen s;
        book_write(&k, seed, 5);
        const struct entry *e = &k.e[k.cnt - 1];
        uint8_t *was = malloc(k.len), *old = malloc(k.len);
        memcpy(was, k.b, k.len);
        rng_fill(&k.rng, old, k.len);
        if (seed % 2)
            memset(old, 0, k.len);
        for (int i = 0; i < 100; i++) {
            uint64_t torn = 0;
            memcpy(k.b, was, k.len);
            for (uint64_t at = e->pos; at < e->pos + e->len; at += 512)
                if (rng_below(&k.rng, 3) == 0 && memcmp(k.b + at, old + at, 512) != 0) {
                    memcpy(k.b + at, old + at, 512);
                    torn += at < e->pos + e->len - 512; /* the last one may be padding */
                }
            if (torn == 0)
                continue;
            assert_int_equal(look(&k, k.b, &s), 4);
            assert_int_equal(s.batches, all_of(&k) - RUNS * BATCHES);
            assert_int_equal(s.mended + s.lost + s.unknown, 0);
        }
        free(was);
        free(old);
        book_fini(&k);
    }
}

/* The first entry of a use is torn: nothing of it is taken; of the former use, whose entries lie
 * behind it, at most what it really held. on_run checks both. */
static void a_torn_first_entry_makes_up_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct book now, before;
        struct seen s;
        book_write(&now, seed, 1);
        book_write(&before, seed, 1); /* the same, but for the last entry: */
        for (uint32_t i = 0; i < 100; i++) {
            memcpy(before.b, now.b, now.len);
            for (uint64_t at = 0; at < now.e[now.first].len; at += 512)
                if (rng_below(&now.rng, 2))
                    memset(before.b + at, at == 0 ? 0 : 0x77, 512);
            if (memcmp(before.b, now.b, now.e[now.first].len) == 0)
                continue;
            (void)look(&now, before.b, &s);
            for (int r = 0; r < RUNS; r++)
                assert_false(s.has[now.next[r] - BATCHES][r]);
        }
        book_fini(&before);
        book_fini(&now);
    }
}

/* The same with what the former use left there: its first entries, which the torn one covers in
 * part, are not taken for damaged ones whose batches can still be had. */
static void a_torn_reuse_takes_no_batch_of_another_entry(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct book now, before;
        struct seen s;
        book_write(&before, seed, 6);
        book_write(&now, seed + 100, 1);
        for (uint32_t i = 0; i < 200; i++) {
            uint8_t *mix = malloc(now.len);
            memcpy(mix, before.b, now.len);
            for (uint64_t at = 0; at < now.e[now.first].len; at += 512)
                if (rng_below(&now.rng, 2) && (at > 0 || i % 2)) /* its head, or not */
                    memcpy(mix + at, now.b + at, 512);
            if (memcmp(mix, now.b, now.e[now.first].len) != 0) {
                (void)look(&before, mix, &s); /* on_run: whole entries of it, each batch once */
                assert_int_equal(s.mended, 0);
                for (uint64_t o = 0; o < sizeof(s.has) / sizeof(s.has[0]); o++)
                    for (int r = 0; r < RUNS; r++)
                        assert_false(s.has[o][r] && o % BATCHES == 0 && !s.has[o + 1][r]);
            }
            free(mix);
        }
        book_fini(&before);
        book_fini(&now);
    }
}

/* An entry that failed has its first block made zeros: it is the last of its use. */
static void an_entry_that_was_taken_back_is_the_end(void **state)
{
    struct book k;
    struct seen s;
    (void)state;
    book_write(&k, 5, 4);
    memset(k.b + k.e[k.cnt - 1].pos, 0, FILE_BLOCK);
    assert_int_equal(look(&k, k.b, &s), 3);
    assert_int_equal(s.mended + s.lost + s.unknown, 0);
    memset(k.b, 0, FILE_BLOCK); /* and a file that was reset holds nothing */
    assert_int_equal(look(&k, k.b, &s), 0);
    k.b[99] ^= 4;
    assert_int_equal(look(&k, k.b, &s), 0);
    assert_int_equal(s.mended + s.lost + s.unknown, 0);
    book_fini(&k);
}

/* Bytes overwritten in the middle: the entry is lost, everything behind it is read. */
static void overwritten_bytes_cost_one_entry(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct book k;
        struct seen s;
        book_write(&k, seed, 6);
        uint8_t *was = malloc(k.len);
        memcpy(was, k.b, k.len);
        for (int i = 0; i < 300; i++) {
            const struct entry *e = &k.e[k.first + rng_below(&k.rng, 5)]; /* one follows */
            uint64_t n = 2 + rng_below(&k.rng, 400), at = e->pos + rng_below(&k.rng, e->len);
            n = at + n > e->pos + e->len ? e->pos + e->len - at : n;
            memcpy(k.b, was, k.len);
            for (uint64_t x = at; x < at + n; x++)
                k.b[x] ^= (uint8_t)(1 + rng_below(&k.rng, 255));
            (void)look(&k, k.b, &s);
            uint32_t lost = all_of(&k) - s.batches;
            if (s.mended + s.lost + s.unknown == 0)
                fail_msg("seed %" PRIu64 ": %" PRIu64 " bytes at %" PRIu64 ": not told", seed, n,
                         at);
            if (lost > e->runs * BATCHES)
                fail_msg("seed %" PRIu64 ": %" PRIu64 " bytes at %" PRIu64 " cost %u batches", seed,
                         n, at, lost);
        }
        free(was);
        book_fini(&k);
    }
}

/* Its checksum would be right again, a batch of it would not: nothing of it is taken or changed. */
static void a_rejected_mend_leaves_the_bytes_as_they_were(void **state)
{
    struct book k;
    struct seen s;
    (void)state;
    book_write(&k, 3, 5);
    const struct entry *e = &k.e[k.first + 1];
    struct journal_head h;
    uint8_t *p = malloc(k.len);
    const struct journal_reader r = {on_run, on_damage, &s};
    k.b[e->pos + sizeof(h) + 70] ^= 0xff; /* in the first batch; then the entry's checksum fits */
    memcpy(&h, k.b + e->pos, sizeof(h));
    h.crc = 0;
    memcpy(k.b + e->pos, &h, sizeof(h));
    h.crc = crc32c(0, k.b + e->pos, e->len);
    memcpy(k.b + e->pos, &h, sizeof(h));
    for (uint64_t bit = 0; bit < 8 * e->len; bit += 37) {
        k.b[e->pos + bit / 8] ^= (uint8_t)(1u << bit % 8);
        memcpy(p, k.b, k.len);
        s = (struct seen){.k = &k};
        assert_int_equal(journal_walk(p, k.len, &r), 4);
        assert_int_equal(s.mended, 0);
        assert_true(s.lost + s.unknown > 0);
        assert_memory_equal(p, k.b, k.len);
        k.b[e->pos + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(p);
    book_fini(&k);
}

/* The first entry says another use or number than it has: what follows is read all the same, and of
 * the entry itself is told what it held. */
static void a_first_entry_that_lies_about_its_use_costs_no_other(void **state)
{
    struct book k;
    struct seen s;
    (void)state;
    book_write(&k, 6, 5);
    const uint64_t at = k.e[k.first].pos, own = (uint64_t)k.e[k.first].runs * BATCHES;
    uint8_t *was = malloc(k.len);
    memcpy(was, k.b, k.len);
    for (int i = 0; i < 400; i++) {
        memcpy(k.b, was, k.len);
        uint64_t from = at + offsetof(struct journal_head, generation);
        for (uint64_t n = 2 + rng_below(&k.rng, 14); n > 0; n--)
            k.b[from + rng_below(&k.rng, 16)] ^= (uint8_t)(1 + rng_below(&k.rng, 255));
        if (memcmp(k.b, was, k.len) == 0)
            continue;
        (void)look(&k, k.b, &s);
        assert_true(s.batches >= all_of(&k) - own);
        assert_true(s.mended + s.lost > 0);
        assert_int_equal(s.unknown, 0);
    }
    free(was);
    book_fini(&k);
}

TEST_MAIN(TEST(a_first_entry_that_lies_about_its_use_costs_no_other),
          TEST(a_rejected_mend_leaves_the_bytes_as_they_were),
          TEST(a_flipped_bit_anywhere_loses_nothing_and_is_reported),
          TEST(a_torn_last_entry_is_the_end_and_no_damage),
          TEST(a_torn_first_entry_makes_up_nothing),
          TEST(a_torn_reuse_takes_no_batch_of_another_entry),
          TEST(an_entry_that_was_taken_back_is_the_end), TEST(overwritten_bytes_cost_one_entry))
