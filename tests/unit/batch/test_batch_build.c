/* builder -> seal -> check -> iterate against a model, over many seeds. */
#ifndef SLUICE_DEBUG
#define SLUICE_DEBUG
#endif
#include "lib/batch/build.c"
#include "accel/accel.h"
#include "lib/batch/check.h"
#include "lib/batch/seal.h"
#include "lib/base/clock.h"
#include "tests/support/test.h"

enum { CAP = 100000, RECS_MAX = 400 };
static struct codec_ctx *codecs;
static uint8_t buf[CAP], dst[CAP * 2], scratch[CAP], pool[4096];

static struct span span_random(struct test_rng *rng, bool nullable)
{
    uint64_t kind = rng_below(rng, 8);
    if (nullable && kind < 2)
        return SPAN_NULL;
    uint32_t len = (uint32_t)rng_below(rng, kind == 7 ? 2000 : kind == 6 ? 200 : 20);
    return span_of(pool + rng_below(rng, sizeof(pool) - len), len);
}

static void records_come_back_as_they_went_in(void **state)
{
    (void)state;
    uint64_t seed = test_seed(1);
    static struct rec recs[RECS_MAX];
    for (uint64_t round = 0; round < 400; round++) {
        struct test_rng rng = {seed * 10000 + round};
        for (size_t i = 0; i < sizeof(pool); i++)
            pool[i] = (uint8_t)(round & 1 ? rng_u64(&rng) : 'a' + i % 5);
        struct batch_builder b;
        uint32_t cap = BATCH_HEADER_LEN + (uint32_t)rng_below(&rng, CAP - BATCH_HEADER_LEN + 1);
        uint32_t want = (uint32_t)(1 + rng_below(&rng, RECS_MAX)), n = 0;
        int64_t max = INT64_MIN, start = (int64_t)(rng_u64(&rng) >> rng_below(&rng, 63));
        uint8_t *exact = malloc(cap); /* the builder must stay within cap */
        batch_builder_init(&b, exact, cap);
        while (n < want) {
            struct rec *r = &recs[n];
            *r = (struct rec){.key = span_random(&rng, true),
                              .value = span_random(&rng, true),
                              .timestamp_ms = start + (int64_t)rng_below(&rng, 100000) - 50000};
            if (rng_below(&rng, 50) == 0)
                r->timestamp_ms = (int64_t)rng_u64(&rng);
            for (int h = 0; h < RH_CNT; h++)
                r->header[h] = span_random(&rng, true);
            uint32_t size = batch_record_size(&b, r), before = b.len;
            struct batch_builder old = b;
            int rc = batch_builder_add(&b, r);
            if (rc < 0) {
                assert_rc(rc, -E_LIMIT);
                assert_true(size > cap - before);
                assert_memory_equal(&old, &b, sizeof(b));
                break;
            }
            assert_int_equal(b.len - before, size);
            max = r->timestamp_ms > max ? r->timestamp_ms : max;
            n++;
        }
        if (n == 0) {
            free(exact);
            continue;
        }
        struct span out;
        struct seal_opts so = {.codec = (enum codec_id)(round % CODEC_CNT),
                               .producer_id = -1,
                               .producer_epoch = -1,
                               .base_sequence = -1};
        uint32_t plain_len = b.len;
        assert_ok(batch_seal(&b, codecs, &so, dst, sizeof(dst), &out));
        assert_true(out.len <= plain_len);
        struct batch_info info;
        assert_ok(batch_verify(out.p, out.len, &info));
        assert_int_equal(info.total_len, out.len);
        assert_int_equal(info.record_cnt, n);
        assert_true(info.max_timestamp == max);
        if (out.p == b.buf)
            assert_int_equal(info.attributes, 0);
        else
            assert_int_equal(info.attributes, so.codec);
        struct batch_check_opts co = {.max_bytes = out.len,
                                      .allow_zstd = true,
                                      .timestamp_min = INT64_MIN,
                                      .timestamp_max = INT64_MAX};
        struct batch_check_result res;
        int rc = batch_check_produce(codecs, out, &co, scratch, sizeof(scratch), &res);
        if (rc < 0)
            fail_msg("round %d: %s: %s", (int)round, err_name(rc), res.why);
        assert_true(res.max_timestamp == (max > -1 ? max : -1));
        struct record_iter it;
        struct record_view v;
        assert_ok(record_iter_init(&it, codecs, out, scratch, sizeof(scratch)));
        for (uint32_t i = 0; i < n; i++) {
            assert_rc(record_iter_next(&it, &v), 1);
            assert_true(v.offset == i && v.timestamp == recs[i].timestamp_ms);
            assert_true(span_is_null(v.key) == span_is_null(recs[i].key));
            assert_true(span_eq(v.key, recs[i].key));
            assert_true(span_is_null(v.value) == span_is_null(recs[i].value));
            assert_true(span_eq(v.value, recs[i].value));
            struct span k, val, rest = v.headers;
            uint32_t cnt = 0;
            for (int h = 0; h < RH_CNT; h++) {
                if (span_is_null(recs[i].header[h]))
                    continue;
                cnt++;
                assert_rc(record_header_next(&rest, &k, &val), 1);
                assert_true(span_eq(k, rec_header_name[h]));
                assert_true(span_eq(val, recs[i].header[h]));
            }
            assert_int_equal(cnt, v.header_cnt);
            assert_rc(record_header_next(&rest, &k, &val), 0);
        }
        assert_rc(record_iter_next(&it, &v), 0);
        free(exact);
    }
}

static void header_names_have_their_wire_form(void **state)
{
    (void)state;
    for (int h = 0; h < RH_CNT; h++) {
        assert_non_null(rec_header_name[h].p);
        assert_int_equal(wire_name[h][0], rec_header_name[h].len * 2);
        assert_memory_equal(wire_name[h] + 1, rec_header_name[h].p, rec_header_name[h].len);
    }
    assert_true(span_eq_str(rec_header_name[RH_SOURCE], "source"));
    assert_true(span_eq_str(rec_header_name[RH_REASON], "reason"));
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    struct batch_builder b;
    struct rec r = {.value = span_of(pool, UINT32_MAX)}; /* never read */
    batch_builder_init(&b, buf, sizeof(buf));
    assert_rc(batch_builder_add(&b, &r), -E_LIMIT);
    assert_int_equal(batch_record_size(&b, &r), UINT32_MAX);
    r.key = r.value;
    assert_rc(batch_builder_add(&b, &r), -E_LIMIT);
    batch_builder_init(&b, buf, BATCH_HEADER_LEN);
    r = (struct rec){0};
    assert_rc(batch_builder_add(&b, &r), -E_LIMIT);
    batch_builder_init(&b, buf, BATCH_HEADER_LEN + RECORD_LEN_MIN);
    assert_ok(batch_builder_add(&b, &r));
    assert_int_equal(b.len, b.cap);
}

static void a_seal_that_cannot_compress_stays_plain(void **state)
{
    (void)state;
    struct test_rng rng = {5};
    struct batch_builder b;
    struct span out;
    rng_fill(&rng, pool, sizeof(pool));
    struct rec r = {.value = span_of(pool, sizeof(pool))};
    for (int id = CODEC_GZIP; id < CODEC_CNT; id++)
        for (size_t cap = 0; cap < 3; cap++) {
            struct seal_opts so = {.codec = (enum codec_id)id};
            const size_t caps[] = {sizeof(dst), BATCH_HEADER_LEN + 100, 10};
            batch_builder_init(&b, buf, sizeof(buf));
            assert_ok(batch_builder_add(&b, &r));
            assert_ok(batch_seal(&b, codecs, &so, dst, caps[cap], &out));
            assert_ptr_equal(out.p, buf);
            assert_int_equal(batch_attributes(out.p) & BATCH_ATTR_CODEC, 0);
        }
    struct seal_opts so = {.codec = (enum codec_id)6};
    batch_builder_init(&b, buf, sizeof(buf));
    assert_ok(batch_builder_add(&b, &r));
    assert_rc(batch_seal(&b, codecs, &so, dst, sizeof(dst), &out), -E_UNSUPPORTED_CODEC);
}

static void log_append_time_needs_a_new_crc_and_hides_deltas(void **state)
{
    (void)state;
    struct batch_builder b;
    struct span out;
    struct batch_info info;
    struct rec r = {.value = span_str("x"), .timestamp_ms = 1000};
    struct seal_opts so = {.producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    batch_builder_init(&b, buf, sizeof(buf));
    assert_ok(batch_builder_add(&b, &r));
    r.timestamp_ms = 2000;
    assert_ok(batch_builder_add(&b, &r));
    assert_ok(batch_seal(&b, NULL, &so, NULL, 0, &out));
    /* Offset and leader epoch are free to change. */
    store_be64(buf + BATCH_BASE_OFFSET, 12345);
    store_be32(buf + BATCH_LEADER_EPOCH, 7);
    assert_ok(batch_verify(out.p, out.len, &info));
    store_be16(buf + BATCH_ATTRIBUTES, BATCH_ATTR_LOG_APPEND_TIME);
    store_be64(buf + BATCH_MAX_TIMESTAMP, 5555);
    assert_rc(batch_verify(out.p, out.len, &info), -E_CORRUPT_BATCH);
    batch_recrc(buf);
    assert_ok(batch_verify(out.p, out.len, &info));
    struct record_iter it;
    struct record_view v;
    assert_ok(record_iter_init(&it, NULL, out, NULL, 0));
    for (int i = 0; i < 2; i++) {
        assert_rc(record_iter_next(&it, &v), 1);
        assert_int_equal(v.timestamp, 5555);
        assert_int_equal(v.offset, 12345 + i);
    }
}

/* Not a claim about time, which other load would break: prints what a record costs. */
static void record_cost_is_printed(void **state)
{
    (void)state;
    static uint8_t big[1 << 20];
    struct rec r = {.value = span_of(pool, 256),
                    .timestamp_ms = 1700000000000,
                    .header = {[RH_SOURCE] = span_str("192.0.2.123"),
                               [RH_FACILITY] = span_str("4"),
                               [RH_SEVERITY] = span_str("2"),
                               [RH_HOST] = span_str("mymachine.lan"),
                               [RH_APP] = span_str("nginx"),
                               [RH_PROCID] = span_str("12345"),
                               [RH_MSGID] = span_str("ID47"),
                               [RH_LISTENER] = span_str("udp")}};
    uint64_t best = UINT64_MAX, cnt = 0;
    for (int round = 0; round < 30; round++) {
        struct batch_builder b;
        batch_builder_init(&b, big, sizeof(big));
        uint64_t t0 = clock_mono_ns();
        while (batch_builder_add(&b, &r) == 0)
            r.timestamp_ms++;
        uint64_t ns = (clock_mono_ns() - t0) * 100 / (uint64_t)b.record_cnt;
        best = ns < best ? ns : best;
        cnt += (uint64_t)b.record_cnt;
    }
    printf("%llu records, best round %llu.%02llu ns per record\n", (unsigned long long)cnt,
           (unsigned long long)best / 100, (unsigned long long)best % 100);
    assert_true(cnt > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_come_back_as_they_went_in),
        TEST(header_names_have_their_wire_form),
        TEST(impossible_sizes_are_refused),
        TEST(a_seal_that_cannot_compress_stays_plain),
        TEST(log_append_time_needs_a_new_crc_and_hides_deltas),
        TEST(record_cost_is_printed),
    };
    accel_init(false);
    if (codec_ctx_create(&codecs) < 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    codec_ctx_destroy(codecs);
    return rc;
}
