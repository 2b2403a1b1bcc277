/* The rewrite engine on hand-made logs: which records and batches stay, in what form. A log is
 * written down as batches per segment, compacted in place on the fake disk, and read back. */
#include "accel/accel.h"
#include "dataplane/store/compact.h"
#include "dataplane/store/seg_out.h"
#include "dataplane/store/walk.h"
#include "lib/batch/lost.h"
#include "tests/support/fake_file.h"
#include "tests/support/keyed_batch.h"
#include "tests/support/test.h"

#define DIR_NAME "/p-0"
#define DAY INT64_C(86400000)
#define NOW INT64_C(1700000000000)
#define TXN BATCH_ATTR_TRANSACTIONAL

struct log {
    struct fake_disk *disk;
    struct file_io io;
    struct compact_src segs[64];
    uint32_t seg_cnt;
    uint8_t *bytes; /* of the segment being written */
    size_t len;
    int64_t next;
    struct aborted_txns aborted;
    struct last_record producers[8];
    uint32_t producer_cnt;
    int64_t first_dirty, now_ms;
    uint64_t map_bytes, segment_bytes;
    struct rewrite_stats st; /* of the last round */
    uint32_t groups;
};

static struct log *log_new(void)
{
    struct log *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    accel_init(false);
    l->disk = fake_disk_new(7);
    l->io = (struct file_io){.ops = &fake_file_ops, .arg = l->disk};
    assert_ok(fake_file_ops.mkdir(&l->io, DIR_NAME));
    l->now_ms = NOW;
    l->map_bytes = 1u << 20;
    l->segment_bytes = 1u << 20;
    return l;
}

static void log_free(struct log *l)
{
    aborted_fini(&l->aborted);
    fake_disk_free(l->disk);
    free(l->bytes);
    free(l);
}

static void add_bytes(struct log *l, const uint8_t *p, uint32_t len, int32_t offsets)
{
    l->bytes = realloc(l->bytes, l->len + len);
    assert_non_null(l->bytes);
    memcpy(l->bytes + l->len, p, len);
    l->len += len;
    l->next += offsets;
}

struct how {
    enum codec_id codec;
    uint16_t attributes;
    int64_t pid; /* 0: none */
    int16_t epoch;
    int32_t seq;
};
static void add(struct log *l, struct how h, const struct kb_rec *recs, int32_t cnt)
{
    uint32_t len;
    struct kb_batch b = {.base = l->next,
                         .recs = recs,
                         .cnt = cnt,
                         .codec = h.codec,
                         .attributes = h.attributes,
                         .producer_id = h.pid > 0 ? h.pid : -1,
                         .producer_epoch = h.pid > 0 ? h.epoch : -1,
                         .base_seq = h.pid > 0 ? h.seq : -1};
    uint8_t *p = kb_build(&b, &len);
    add_bytes(l, p, len, cnt);
    free(p);
}
/* One record of time NOW. */
static void put(struct log *l, const char *key, const char *value)
{
    add(l, (struct how){0}, &(struct kb_rec){key, value, NOW}, 1);
}

static void put_txn(struct log *l, int64_t pid, const char *key, const char *value)
{
    add(l, (struct how){.pid = pid, .attributes = TXN}, &(struct kb_rec){key, value, NOW}, 1);
}

/* `first`: of the transaction, for an abort. */
static void put_marker(struct log *l, int64_t pid, bool commit, int64_t first)
{
    uint8_t b[MARKER_BATCH_MAX];
    struct batch_marker m = {.commit = commit, .producer_id = pid, .timestamp_ms = NOW};
    uint32_t len = marker_write(&m, b);
    store_be64(b, (uint64_t)l->next);
    if (!commit)
        assert_ok(aborted_add(&l->aborted, &(struct aborted_txn){.producer_id = pid,
                                                                 .first_offset = first,
                                                                 .last_offset = l->next,
                                                                 .stable_offset = l->next + 1}));
    add_bytes(l, b, len, 1);
}

/* What was added since the last one becomes a segment. */
static void seg_end(struct log *l)
{
    char path[STORE_PATH_MAX];
    struct compact_src *s = &l->segs[l->seg_cnt];
    int64_t base = l->seg_cnt == 0 ? 0 : s[-1].end;
    *s = (struct compact_src){.base = base, .end = l->next, .len = l->len};
    assert_ok(path_seg(path, DIR_NAME, base, SFX_LOG));
    fake_disk_put(l->disk, path, l->bytes, l->len);
    l->seg_cnt++;
    l->len = 0;
}

static struct compact_opts opts_of(struct log *l)
{
    return (struct compact_opts){.io = &l->io,
                                 .dir = DIR_NAME,
                                 .segs = l->segs,
                                 .seg_cnt = l->seg_cnt,
                                 .first_dirty = l->first_dirty,
                                 .aborted = &l->aborted,
                                 .producers = l->producers,
                                 .producer_cnt = l->producer_cnt,
                                 .now_ms = l->now_ms,
                                 .delete_retention_ms = DAY,
                                 .segment_bytes = l->segment_bytes,
                                 .map_bytes = l->map_bytes,
                                 .index_interval_bytes = 4096,
                                 .index_bytes_max = 1u << 20};
}

/* Put a group in place: files, segments, aborted transactions. */
static void group_adopt(struct log *l, const struct compact_group *g, uint32_t at)
{
    int64_t bases[64];
    for (uint32_t i = 0; i < g->cnt; i++)
        bases[i] = l->segs[at + i].base;
    assert_int_equal(g->seg.base, bases[0]);
    assert_ok(seg_swap(&l->io, DIR_NAME, bases, g->cnt));
    struct compact_src *s = &l->segs[at];
    int64_t from = s->base, end = s[g->cnt - 1].end;
    s->end = end;
    s->len = g->seg.len;
    memmove(s + 1, s + g->cnt, (l->seg_cnt - at - g->cnt) * sizeof(*s));
    l->seg_cnt -= g->cnt - 1;
    struct aborted_txns all = {0};
    for (uint32_t i = 0; i < l->aborted.cnt; i++)
        if (l->aborted.v[i].last_offset < from)
            assert_ok(aborted_add(&all, &l->aborted.v[i]));
    for (uint32_t i = 0; i < g->aborted.cnt; i++)
        assert_ok(aborted_add(&all, &g->aborted.v[i]));
    for (uint32_t i = 0; i < l->aborted.cnt; i++)
        if (l->aborted.v[i].last_offset >= end)
            assert_ok(aborted_add(&all, &l->aborted.v[i]));
    aborted_fini(&l->aborted);
    l->aborted = all;
}

/* One round, all groups put in place. */
static void round_run(struct log *l, const struct compact_opts *given)
{
    struct compact_src segs[64];
    struct compact_opts o = *given;
    struct compact c;
    struct compact_group g;
    memcpy(segs, l->segs, sizeof(segs)); /* the job's own, as the shard hands it over */
    o.segs = segs;
    assert_ok(compact_init(&c, &o));
    if (!o.recode)
        assert_ok(compact_map(&c));
    l->groups = 0;
    uint32_t gone = 0;
    int rc;
    while ((rc = compact_next(&c, &g)) == 1) {
        group_adopt(l, &g, g.first - gone);
        gone += g.cnt - 1;
        l->groups++;
    }
    assert_ok(rc);
    l->st = c.rw.st;
    if (!o.recode)
        l->first_dirty = c.end;
    compact_fini(&c);
}

static void compact(struct log *l)
{
    struct compact_opts o = opts_of(l);
    round_run(l, &o);
}

/* "key=value@offset" of all records, "[last:attributes]" of batches without any, in order. Checks
 * that every batch is sound and in its segment, and that the segment's index is right. */
static void log_text(struct log *l, char *out, size_t cap)
{
    struct codec_ctx *codecs;
    static uint8_t scratch[1u << 20];
    size_t at = 0;
    out[0] = 0;
    assert_ok(codec_ctx_create(&codecs));
    for (uint32_t i = 0; i < l->seg_cnt; i++) {
        char path[STORE_PATH_MAX];
        uint64_t len;
        int64_t next = l->segs[i].base;
        assert_ok(path_seg(path, DIR_NAME, next, SFX_LOG));
        const uint8_t *p = fake_disk_content(l->disk, path, &len);
        assert_non_null(p);
        assert_int_equal(len, l->segs[i].len);
        for (uint64_t pos = 0; pos < len;) {
            struct batch_info b;
            struct record_iter it;
            struct record_view v;
            assert_ok(batch_verify(p + pos, len - pos, &b));
            assert_true(b.base_offset >= next);
            next = b.base_offset + b.last_offset_delta + 1;
            assert_true(next <= l->segs[i].end);
            assert_ok(record_iter_init(&it, codecs, span_of(p + pos, b.total_len), scratch,
                                       sizeof(scratch)));
            int rc;
            while ((rc = record_iter_next(&it, &v)) == 1) {
                if (b.attributes & BATCH_ATTR_CONTROL)
                    at += (size_t)snprintf(out + at, cap - at, "marker@%lld ", (long long)v.offset);
                else
                    at += (size_t)snprintf(out + at, cap - at, "%.*s=%.*s@%lld ", (int)v.key.len,
                                           (const char *)v.key.p, v.value.p ? (int)v.value.len : 1,
                                           v.value.p ? (const char *)v.value.p : "-",
                                           (long long)v.offset);
            }
            assert_ok(rc);
            if (b.record_cnt == 0)
                at += (size_t)snprintf(out + at, cap - at, "[%lld:%x] ", (long long)next - 1,
                                       (unsigned)b.attributes);
            pos += b.total_len;
        }
    }
    codec_ctx_destroy(codecs);
}

static void assert_log_at(struct log *l, const char *want, int line)
{
    char is[4096];
    log_text(l, is, sizeof(is));
    if (strcmp(is, want) != 0)
        fail_msg("line %d: \"%s\", expected \"%s\"", line, is, want);
}
#define assert_log(l, want) assert_log_at(l, want, __LINE__)

static const uint8_t *first_batch(struct log *l, struct batch_info *b)
{
    char path[STORE_PATH_MAX];
    uint64_t len;
    assert_ok(path_seg(path, DIR_NAME, l->segs[0].base, SFX_LOG));
    const uint8_t *p = fake_disk_content(l->disk, path, &len);
    assert_ok(batch_verify(p, len, b));
    return p;
}

/* ------------------------------------------------------------------------------------- records */

static void the_last_value_of_each_key_stays_at_its_offset(void **state)
{
    struct log *l = log_new();
    put(l, "a", "1");
    put(l, "b", "1");
    put(l, "a", "2");
    seg_end(l);
    put(l, "c", "1");
    put(l, "a", "3");
    put(l, "c", "2");
    seg_end(l);
    compact(l);
    assert_log(l, "b=1@1 a=3@4 c=2@5 ");
    assert_int_equal(l->first_dirty, 6);
    assert_int_equal(l->seg_cnt, 1); /* both fit into one */
    assert_int_equal(l->st.records_in, 6);
    assert_int_equal(l->st.records_out, 3);
    log_free(l);
}

static void records_of_one_batch_are_filtered_and_the_batch_keeps_its_range(void **state)
{
    enum codec_id codecs[] = {CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD};
    for (uint32_t i = 0; i < 5; i++) {
        struct log *l = log_new();
        struct kb_rec recs[] = {{"a", "1", NOW + 5},
                                {"b", "1", NOW + 9},
                                {"a", "2", NOW + 7},
                                {"c", "1", NOW + 3},
                                {"b", "2", NOW + 1}};
        struct batch_info b, was;
        add(l, (struct how){.codec = codecs[i], .pid = 7, .epoch = 3, .seq = 40}, recs, 5);
        assert_ok(batch_verify(l->bytes, l->len, &was));
        seg_end(l);
        put(l, "c", "2");
        seg_end(l);
        compact(l);
        assert_log(l, "a=2@2 b=2@4 c=2@5 ");
        (void)first_batch(l, &b);
        assert_int_equal(b.base_offset, 0);
        assert_int_equal(b.last_offset_delta, 4);
        assert_int_equal(b.record_cnt, 2);
        assert_int_equal(b.attributes & BATCH_ATTR_CODEC, codecs[i]);
        assert_int_equal(b.producer_id, 7);
        assert_int_equal(b.producer_epoch, 3);
        assert_int_equal(b.base_sequence, 40);
        assert_int_equal(b.max_timestamp, NOW + 7); /* of what is left */
        assert_int_equal(b.leader_epoch, was.leader_epoch);
        log_free(l);
    }
}

static void records_keep_their_times(void **state)
{
    struct log *l = log_new();
    struct codec_ctx *codecs;
    struct record_iter it;
    struct record_view v;
    struct batch_info b;
    struct kb_rec recs[] = {{"a", "1", NOW + 5}, {"b", NULL, NOW - 9}, {"a", "2", NOW + 70000}};
    add(l, (struct how){0}, recs, 3);
    seg_end(l);
    compact(l); /* the tombstone gives it a horizon: times are stored anew */
    assert_log(l, "b=-@1 a=2@2 ");
    const uint8_t *p = first_batch(l, &b);
    assert_true(b.attributes & BATCH_ATTR_DELETE_HORIZON);
    assert_int_equal(b.base_timestamp, NOW + DAY);
    assert_int_equal(b.max_timestamp, NOW + 70000);
    assert_ok(codec_ctx_create(&codecs));
    assert_ok(record_iter_init(&it, codecs, span_of(p, b.total_len), NULL, 0));
    assert_rc(record_iter_next(&it, &v), 1);
    assert_int_equal(v.timestamp, NOW - 9);
    assert_rc(record_iter_next(&it, &v), 1);
    assert_int_equal(v.timestamp, NOW + 70000);
    codec_ctx_destroy(codecs);
    log_free(l);
}

static void append_time_stays_append_time(void **state)
{
    struct log *l = log_new();
    struct batch_info b;
    struct kb_rec recs[] = {{"a", "1", NOW}, {"b", "1", NOW + 10}, {"a", NULL, NOW}};
    add(l, (struct how){.attributes = BATCH_ATTR_LOG_APPEND_TIME}, recs, 3);
    put(l, "b", "2");
    seg_end(l);
    compact(l);
    assert_log(l, "a=-@2 b=2@3 ");
    (void)first_batch(l, &b);
    assert_true(b.attributes & BATCH_ATTR_LOG_APPEND_TIME);
    assert_int_equal(b.max_timestamp, NOW + 10); /* the time of all its records */
    log_free(l);
}

static void records_without_a_key_go(void **state)
{
    struct log *l = log_new();
    put(l, NULL, "x");
    put(l, "a", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "a=1@1 ");
    assert_int_equal(l->st.keyless, 1);
    log_free(l);
}

static void what_is_above_the_round_is_not_touched(void **state)
{
    struct log *l = log_new();
    put(l, "a", "1");
    put(l, "b", "1");
    seg_end(l);
    put(l, "a", "2"); /* not sealed, not stable: not handed to the round */
    compact(l);
    assert_log(l, "a=1@0 b=1@1 ");
    assert_int_equal(l->groups, 0); /* nothing would change: nothing was swapped */
    log_free(l);
}

static void a_key_of_the_clean_part_goes_when_the_dirty_part_has_it(void **state)
{
    struct log *l = log_new();
    put(l, "a", "1");
    put(l, "b", "1");
    seg_end(l);
    compact(l);
    assert_int_equal(l->first_dirty, 2);
    put(l, "b", "2");
    put(l, "c", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "a=1@0 b=2@2 c=1@3 ");
    log_free(l);
}

static void keys_that_do_not_fit_take_several_rounds(void **state)
{
    struct log *l = log_new();
    char key[16], want[4096] = "";
    l->map_bytes = 16 * KEY_MAP_SLOT_LEN; /* 14 keys at 0.9 */
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i % 50);
        put(l, key, i < 50 ? "old" : "new");
        if (i % 10 == 9)
            seg_end(l);
    }
    int rounds = 0;
    for (; l->first_dirty < 100 && rounds < 20; rounds++) {
        int64_t before = l->first_dirty;
        compact(l);
        assert_true(l->first_dirty > before);
    }
    assert_true(rounds > 3);
    for (int i = 50; i < 100; i++)
        (void)snprintf(want + strlen(want), sizeof(want) - strlen(want), "k%d=new@%d ", i - 50, i);
    assert_log(l, want);
    log_free(l);
}

static void the_last_batch_of_a_round_stays_if_only_empty(void **state)
{
    struct log *l = log_new();
    put(l, "a", "1");
    put(l, NULL, "keyless"); /* the last offset of the round */
    seg_end(l);
    compact(l);
    assert_log(l, "a=1@0 [1:0] ");
    put(l, "b", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "a=1@0 b=1@2 "); /* it is not the last any more */
    log_free(l);
}

static void small_segments_become_one_up_to_their_size(void **state)
{
    struct log *l = log_new();
    char key[16];
    for (int i = 0; i < 12; i++) {
        (void)snprintf(key, sizeof(key), "k%02d", i);
        put(l, key, "0123456789");
        seg_end(l);
    }
    l->segment_bytes = l->segs[0].len * 4;
    compact(l);
    assert_int_equal(l->seg_cnt, 3);
    assert_int_equal(l->segs[1].base, 4);
    assert_int_equal(l->segs[2].base, 8);
    compact(l);
    assert_int_equal(l->groups, 0);
    log_free(l);
}

/* ---------------------------------------------------------------------------------- tombstones */

static void a_tombstone_stays_until_its_horizon(void **state)
{
    struct log *l = log_new();
    struct batch_info b;
    put(l, "a", "1");
    put(l, "a", NULL);
    put(l, "b", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "a=-@1 b=1@2 ");
    (void)first_batch(l, &b);
    assert_true(b.attributes & BATCH_ATTR_DELETE_HORIZON);
    assert_int_equal(b.base_timestamp, NOW + DAY);
    l->now_ms = NOW + DAY - 1;
    compact(l);
    assert_log(l, "a=-@1 b=1@2 ");
    (void)first_batch(l, &b);
    assert_int_equal(b.base_timestamp, NOW + DAY); /* given once */
    l->now_ms = NOW + DAY;
    compact(l);
    assert_log(l, "b=1@2 ");
    log_free(l);
}

static void a_tombstone_with_values_beside_it_goes_alone(void **state)
{
    struct log *l = log_new();
    struct kb_rec recs[] = {{"a", NULL, NOW}, {"b", "1", NOW + 4}};
    add(l, (struct how){.codec = CODEC_GZIP}, recs, 2);
    put(l, "c", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "a=-@0 b=1@1 c=1@2 ");
    l->now_ms = NOW + DAY;
    compact(l);
    assert_log(l, "b=1@1 c=1@2 ");
    log_free(l);
}

/* -------------------------------------------------------------------------------- transactions */

static void records_of_aborted_transactions_go_and_hide_nothing(void **state)
{
    struct log *l = log_new();
    put(l, "a", "committed");
    put_txn(l, 5, "a", "aborted");
    put_txn(l, 5, "b", "aborted");
    put_marker(l, 5, false, 1);
    put(l, "c", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "a=committed@0 marker@3 c=1@4 ");
    assert_int_equal(l->aborted.cnt, 1); /* batches of it were here in this round */
    log_free(l);
}

static void a_lost_marker_ends_its_transaction_all_the_same(void **state)
{
    struct log *l = log_new();
    uint8_t lost[BATCH_HEADER_LEN + 40];
    struct batch_lost at = {.from = 2, .to = 3, .text = "an ABORT marker"};
    put_txn(l, 5, "a", "aborted");
    put_txn(l, 6, "d", "aborted");
    assert_ok(batch_lost_build(lost, sizeof(lost), &at));
    add_bytes(l, lost, sizeof(lost), 1);
    assert_ok(aborted_add(&l->aborted, &(struct aborted_txn){.producer_id = 5,
                                                             .first_offset = 0,
                                                             .last_offset = 2,
                                                             .stable_offset = 1}));
    put_marker(l, 6, false, 1);
    put_txn(l, 5, "b", "committed");
    put_marker(l, 5, true, 0);
    put_txn(l, 5, "c", "of another");
    put_marker(l, 5, true, 0);
    put(l, "e", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "marker@2 marker@3 b=committed@4 marker@5 c=of another@6 marker@7 e=1@8 ");
    assert_int_equal(l->aborted.cnt, 2);
    assert_int_equal(l->aborted.v[0].last_offset, 2);
    log_free(l);
}

static void a_marker_goes_after_its_records_and_its_horizon(void **state)
{
    struct log *l = log_new();
    put_txn(l, 5, "b", "aborted");
    put_marker(l, 5, false, 0);
    put_txn(l, 6, "a", "1");
    put_marker(l, 6, true, 0);
    put(l, "a", "2");
    seg_end(l);
    compact(l);
    assert_log(l, "marker@1 marker@3 a=2@4 ");
    compact(l); /* no record is left of either: the horizon begins */
    assert_log(l, "marker@1 marker@3 a=2@4 ");
    assert_int_equal(l->aborted.cnt, 0);
    l->now_ms = NOW + DAY - 1;
    compact(l);
    assert_log(l, "marker@1 marker@3 a=2@4 ");
    l->now_ms = NOW + DAY;
    compact(l);
    assert_log(l, "a=2@4 ");
    log_free(l);
}

static void a_commit_marker_stays_while_a_record_of_it_does(void **state)
{
    struct log *l = log_new();
    put_txn(l, 6, "a", "1");
    put_marker(l, 6, true, 0);
    put(l, "b", "1");
    seg_end(l);
    for (int i = 0; i < 4; i++) {
        compact(l);
        l->now_ms += 2 * DAY;
    }
    assert_log(l, "a=1@0 marker@1 b=1@2 ");
    log_free(l);
}

static void a_transaction_may_span_segments_and_groups(void **state)
{
    struct log *l = log_new();
    put_txn(l, 5, "a", "aborted");
    put_txn(l, 6, "b", "1");
    seg_end(l);
    put_txn(l, 5, "c", "aborted");
    put_marker(l, 5, false, 0);
    seg_end(l);
    put_marker(l, 6, true, 0);
    put(l, "d", "1");
    seg_end(l);
    l->segment_bytes = 1; /* every segment a group of its own */
    compact(l);
    assert_log(l, "b=1@1 marker@3 marker@4 d=1@5 ");
    assert_int_equal(l->aborted.cnt, 1);
    assert_int_equal(l->aborted.v[0].last_offset, 3);
    log_free(l);
}

static void the_same_producer_commits_after_an_abort(void **state)
{
    struct log *l = log_new();
    put_txn(l, 5, "a", "aborted");
    put_marker(l, 5, false, 0);
    seg_end(l);
    compact(l);
    put_txn(l, 5, "a", "good");
    put_marker(l, 5, true, 0);
    put(l, "z", "1");
    seg_end(l);
    compact(l);
    assert_log(l, "marker@1 a=good@2 marker@3 z=1@4 ");
    log_free(l);
}

/* ----------------------------------------------------------------------------------- producers */

static void the_last_batch_of_a_producer_stays_if_only_empty(void **state)
{
    struct log *l = log_new();
    struct batch_info b;
    add(l, (struct how){.pid = 9, .epoch = 2, .seq = 30},
        (struct kb_rec[]){{"a", "1", NOW}, {"b", "1", NOW}}, 2);
    put(l, "a", "2");
    put(l, "b", "2");
    seg_end(l);
    l->producers[0] = (struct last_record){.producer_id = 9, .data_offset = 1, .epoch = 2};
    l->producer_cnt = 1;
    compact(l);
    assert_log(l, "[1:0] a=2@2 b=2@3 ");
    (void)first_batch(l, &b);
    assert_int_equal(b.producer_id, 9);
    assert_int_equal(b.producer_epoch, 2);
    assert_int_equal(b.base_sequence, 30);
    assert_int_equal(b.last_offset_delta, 1);
    assert_int_equal(b.max_timestamp, NOW);
    compact(l);
    assert_int_equal(l->groups, 0);
    l->producer_cnt = 0; /* it expired */
    compact(l);
    assert_log(l, "a=2@2 b=2@3 ");
    log_free(l);
}

static void the_marker_of_a_fenced_producer_stays(void **state)
{
    struct log *l = log_new();
    put_txn(l, 5, "a", "aborted");
    put_marker(l, 5, false, 0);
    put(l, "b", "1");
    seg_end(l);
    l->producers[0] = (struct last_record){.producer_id = 5, .data_offset = -1, .epoch = 0};
    l->producer_cnt = 1;
    for (int i = 0; i < 4; i++) {
        compact(l);
        l->now_ms += 2 * DAY;
    }
    assert_log(l, "[1:30] b=1@2 "); /* transactional, control, without record */
    log_free(l);
}

/* ------------------------------------------------------------------------------------- identity */

static void recode(struct log *l, enum codec_id codec)
{
    struct compact_opts o = opts_of(l);
    o.recode = true;
    o.codec = codec;
    round_run(l, &o);
}

static void recompression_changes_nothing_but_the_codec(void **state)
{
    struct log *l = log_new();
    char big[3000], before[4096 * 4], after[4096 * 4];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    put(l, "a", big);
    put(l, NULL, big); /* keys do not matter here */
    add(l, (struct how){.pid = 4}, &(struct kb_rec){"p", "of a producer, stays plain", NOW}, 1);
    put(l, "t", NULL);
    seg_end(l);
    log_text(l, before, sizeof(before));
    uint64_t len = l->segs[0].len;
    recode(l, CODEC_GZIP);
    assert_true(l->segs[0].len < len / 4);
    log_text(l, after, sizeof(after));
    assert_string_equal(before, after);
    recode(l, CODEC_GZIP);
    log_text(l, after, sizeof(after));
    assert_string_equal(before, after);
    log_free(l);
}

/* --------------------------------------------------------------------------------------- damage */

static void a_damaged_batch_ends_the_work_and_leaves_everything(void **state)
{
    struct log *l = log_new();
    put(l, "a", "1");
    put(l, "a", "2");
    l->bytes[l->len - 3] ^= 1;
    put(l, "b", "1");
    seg_end(l);
    struct compact_opts o = opts_of(l);
    struct compact c;
    assert_ok(compact_init(&c, &o));
    assert_rc(compact_map(&c), -E_CORRUPT_BATCH);
    assert_int_equal(c.bad_base, 0);
    assert_true(c.bad_pos > 0);
    compact_fini(&c);
    uint64_t len;
    assert_null(fake_disk_content(l->disk, DIR_NAME "/00000000000000000000.log.cleaned", &len));
    log_free(l);
}

static void the_map_of_keys_is_bounded_and_exact(void **state)
{
    struct key_map m;
    char key[24];
    assert_ok(key_map_init(&m, 1000 * KEY_MAP_SLOT_LEN));
    uint32_t n = 0;
    for (;; n++) {
        (void)snprintf(key, sizeof(key), "key %u", n);
        if (!key_map_put(&m, span_of(key, (uint32_t)strlen(key)), n))
            break;
    }
    assert_int_equal(n, 900);
    assert_true(key_map_put(&m, span_of("key 5", 5), 5000));
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(key, sizeof(key), "key %u", i);
        assert_int_equal(key_map_get(&m, span_of(key, (uint32_t)strlen(key))), i == 5 ? 5000 : i);
    }
    assert_int_equal(key_map_get(&m, span_of("other", 5)), -1);
    key_map_fini(&m);
}

/* Random logs of few keys, some of them of transactions, compacted after every few segments: what a
 * read_committed reader ends with is what the model holds, and another round changes nothing. */
static void random_logs_agree_with_a_model(void **state)
{
    struct test_rng r = {test_seed(11)};
    for (int run = 0; run < 40; run++) {
        struct log *l = log_new();
        char last[8][16] = {{0}}, key[4], val[16];
        int64_t at[8] = {0}, txn_first = -1;
        char pending[8][16] = {{0}};
        int64_t pending_at[8] = {0};
        l->map_bytes = KEY_MAP_SLOT_LEN * (16 + rng_below(&r, 20));
        l->segment_bytes = 100 + rng_below(&r, 2000);
        for (int i = 0; i < 300; i++) {
            uint32_t k = (uint32_t)rng_below(&r, 8);
            (void)snprintf(key, sizeof(key), "%u", k);
            (void)snprintf(val, sizeof(val), "v%d", i);
            switch (rng_below(&r, 10)) {
            case 0:
            case 1:
            case 2:
                if (txn_first < 0)
                    txn_first = l->next;
                strcpy(pending[k], val);
                pending_at[k] = l->next;
                put_txn(l, 5, key, val);
                break;
            case 3:
            case 4:
                if (txn_first < 0)
                    break;
                bool commit = rng_below(&r, 2) == 0;
                put_marker(l, 5, commit, txn_first);
                for (uint32_t n = 0; n < 8; n++) {
                    if (commit && pending[n][0] != 0 && pending_at[n] > at[n]) {
                        strcpy(last[n], pending[n]);
                        at[n] = pending_at[n];
                    }
                    pending[n][0] = 0;
                }
                txn_first = -1;
                break;
            default:
                if (pending[k][0] != 0)
                    break; /* the order of a key is that of offsets, whoever commits when */
                strcpy(last[k], val);
                at[k] = l->next;
                add(l, (struct how){.codec = rng_below(&r, 2) ? CODEC_LZ4 : CODEC_NONE},
                    &(struct kb_rec){key, val, NOW + i}, 1);
            }
            /* Segments end where no transaction is open: above the stable offset nothing is done.
             */
            if (txn_first < 0 && l->len > 0 && rng_below(&r, 6) == 0 && l->seg_cnt < 60)
                seg_end(l);
            if (l->len == 0 && rng_below(&r, 5) == 0 && l->seg_cnt > 0)
                compact(l);
            if (rng_below(&r, 20) == 0)
                l->now_ms += DAY;
        }
        if (txn_first >= 0) {
            put_marker(l, 5, false, txn_first);
        }
        seg_end(l);
        for (int i = 0; i < 40 && (i < 3 || l->first_dirty < l->next); i++) {
            compact(l);
            l->now_ms += 2 * DAY;
        }
        char is[4096], want[4096] = "";
        uint64_t bytes = 0, again = 0;
        log_text(l, is, sizeof(is));
        for (uint32_t n = 0; n < 8; n++) {
            char one[160];
            if (last[n][0] == 0)
                continue;
            (void)snprintf(one, sizeof(one), "%u=%s@%lld ", n, last[n], (long long)at[n]);
            if (strstr(is, one) == NULL)
                fail_msg("run %d: \"%s\" is not in \"%s\"", run, one, is);
            strcat(want, one);
        }
        uint32_t records = 0, wanted = 0;
        for (const char *c = is; *c; c++)
            records += *c == '=';
        for (const char *c = want; *c; c++)
            wanted += *c == '=';
        assert_int_equal(records, wanted);
        for (uint32_t i = 0; i < l->seg_cnt; i++)
            bytes += l->segs[i].len;
        compact(l);
        for (uint32_t i = 0; i < l->seg_cnt; i++)
            again += l->segs[i].len;
        assert_int_equal(bytes, again);
        log_free(l);
    }
}

TEST_MAIN(TEST(the_last_value_of_each_key_stays_at_its_offset),
          TEST(records_of_one_batch_are_filtered_and_the_batch_keeps_its_range),
          TEST(records_keep_their_times), TEST(append_time_stays_append_time),
          TEST(records_without_a_key_go), TEST(what_is_above_the_round_is_not_touched),
          TEST(a_key_of_the_clean_part_goes_when_the_dirty_part_has_it),
          TEST(keys_that_do_not_fit_take_several_rounds),
          TEST(the_last_batch_of_a_round_stays_if_only_empty),
          TEST(small_segments_become_one_up_to_their_size),
          TEST(a_tombstone_stays_until_its_horizon),
          TEST(a_tombstone_with_values_beside_it_goes_alone),
          TEST(records_of_aborted_transactions_go_and_hide_nothing),
          TEST(a_lost_marker_ends_its_transaction_all_the_same),
          TEST(a_marker_goes_after_its_records_and_its_horizon),
          TEST(a_commit_marker_stays_while_a_record_of_it_does),
          TEST(a_transaction_may_span_segments_and_groups),
          TEST(the_same_producer_commits_after_an_abort),
          TEST(the_last_batch_of_a_producer_stays_if_only_empty),
          TEST(the_marker_of_a_fenced_producer_stays),
          TEST(recompression_changes_nothing_but_the_codec),
          TEST(a_damaged_batch_ends_the_work_and_leaves_everything),
          TEST(the_map_of_keys_is_bounded_and_exact), TEST(random_logs_agree_with_a_model))
