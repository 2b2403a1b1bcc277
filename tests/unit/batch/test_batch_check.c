/* Every refusal of batch_check_produce, one by one; headers, verification, damage at every byte. */
#include "lib/batch/check.c"
#include "accel/accel.h"
#include "lib/batch/seal.h"
#include "tests/support/test.h"

static struct codec_ctx *codecs;
static uint8_t buf[8192], scratch[65536], raw[8192];
static const struct batch_check_opts any = {.max_bytes = 1048588,
                                            .allow_zstd = true,
                                            .timestamp_min = INT64_MIN,
                                            .timestamp_max = INT64_MAX};

/* A good batch of n records in buf. */
static struct span good(int n)
{
    struct batch_builder b;
    struct span out;
    struct seal_opts so = {.producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    batch_builder_init(&b, buf, sizeof(buf));
    for (int i = 0; i < n; i++) {
        struct rec r = {.key = span_str("k"),
                        .value = span_str("value"),
                        .timestamp_ms = 1000 + i,
                        .header = {[RH_SOURCE] = span_str("h")}};
        assert_ok(batch_builder_add(&b, &r));
    }
    assert_ok(batch_seal(&b, codecs, &so, NULL, 0, &out));
    return out;
}
/* A batch in buf around record bytes written by hand. */
static struct span around(const void *records, uint32_t len, int32_t cnt, uint16_t attributes)
{
    (void)good(1);
    memcpy(buf + BATCH_HEADER_LEN, records, len);
    store_be32(buf + BATCH_LENGTH, BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD + len);
    store_be32(buf + BATCH_RECORD_COUNT, (uint32_t)cnt);
    store_be32(buf + BATCH_LAST_OFFSET_DELTA, (uint32_t)(cnt - 1));
    store_be16(buf + BATCH_ATTRIBUTES, attributes);
    batch_recrc(buf);
    return span_of(buf, BATCH_HEADER_LEN + len);
}

static void check_is(struct span s, const struct batch_check_opts *o, int want, int32_t bad_record,
                     const char *why)
{
    struct batch_check_result res;
    uint8_t *copy = malloc(s.len > 0 ? s.len : 1); /* exact, for the sanitizer */
    if (s.len > 0)
        memcpy(copy, s.p, s.len);
    struct span exact = span_of(s.p != NULL ? copy : NULL, s.len);
    int rc = batch_check_produce(codecs, exact, o, scratch, sizeof(scratch), &res);
    if (rc != want || res.bad_record != bad_record || strstr(res.why, why) == NULL)
        fail_msg("got %s record %d \"%s\", expected %s record %d \"%s\"", err_name(rc),
                 res.bad_record, res.why, err_name(want), bad_record, why);
    free(copy);
}
static void refused(struct span s, int want, const char *why)
{
    check_is(s, &any, want, -1, why);
}

static void a_good_batch_passes(void **state)
{
    (void)state;
    check_is(good(3), &any, 0, -1, "");
    for (int cnt = 1; cnt < 100; cnt += 13)
        check_is(good(cnt), &any, 0, -1, "");
}

static void nothing_or_half_a_batch_is_refused(void **state)
{
    (void)state;
    refused(SPAN_NULL, -E_INVALID_RECORD, "no record batch");
    refused(span_of(buf, 0), -E_INVALID_RECORD, "no record batch");
    struct span s = good(2);
    for (uint32_t len = 1; len < s.len; len++)
        refused(span_of(s.p, len), -E_INVALID_RECORD,
                len <= BATCH_MAGIC ? "shorter than its header" : "cut short");
}

static void bad_lengths_are_corrupt(void **state)
{
    (void)state;
    const uint32_t bad_len[] = {0, 1, 48, UINT32_MAX, UINT32_C(1) << 31};
    for (size_t i = 0; i < 5; i++) {
        struct span s = good(1);
        store_be32(buf + BATCH_LENGTH, bad_len[i]);
        refused(s, -E_CORRUPT_BATCH, "batch length");
    }
}

static void the_magic_must_be_2(void **state)
{
    (void)state;
    for (int magic = 0; magic < 256; magic++) {
        struct span s = good(1);
        buf[BATCH_MAGIC] = (uint8_t)magic;
        if (magic != 2)
            refused(s, -E_INVALID_RECORD, "magic");
    }
}

static void two_batches_or_trailing_bytes_are_refused(void **state)
{
    (void)state;
    struct span s = good(1);
    memcpy(buf + s.len, buf, s.len);
    refused(span_of(buf, s.len * 2), -E_INVALID_RECORD, "more than one");
    refused(span_of(buf, s.len + 1), -E_INVALID_RECORD, "more than one");
}

static void the_base_offset_must_be_0(void **state)
{
    (void)state;
    const int64_t bad_base[] = {1, -1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < 4; i++) {
        struct span s = good(1);
        store_be64(buf + BATCH_BASE_OFFSET, (uint64_t)bad_base[i]);
        refused(s, -E_INVALID_RECORD, "base offset");
    }
}

static void size_is_limited_header_included(void **state)
{
    (void)state;
    struct batch_check_opts o = any;
    struct span s = good(5);
    o.max_bytes = s.len;
    check_is(s, &o, 0, -1, "");
    o.max_bytes = s.len - 1;
    check_is(s, &o, -E_BATCH_TOO_LARGE, -1, "max.message.bytes");
    buf[s.len - 1] ^= 1; /* size is judged before the checksum */
    check_is(s, &o, -E_BATCH_TOO_LARGE, -1, "max.message.bytes");
}

static void any_changed_byte_under_the_crc_is_corrupt(void **state)
{
    (void)state;
    struct span s = good(2);
    for (uint32_t i = BATCH_CRC; i < s.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            buf[i] ^= (uint8_t)(1 << bit);
            struct batch_check_result res;
            struct batch_info info;
            assert_rc(batch_check_produce(codecs, s, &any, scratch, sizeof(scratch), &res),
                      -E_CORRUPT_BATCH);
            assert_rc(batch_verify(s.p, s.len, &info), -E_CORRUPT_BATCH);
            buf[i] ^= (uint8_t)(1 << bit);
        }
}

static void counts_must_agree_and_be_positive(void **state)
{
    (void)state;
    const struct {
        int32_t cnt, last_delta;
        const char *why;
    } rows[] = {{0, -1, "not positive"},
                {0, 0, "not positive"},
                {-1, -2, "not positive"},
                {INT32_MIN, INT32_MAX, "not positive"},
                {2, 2, "last offset delta"},
                {2, 0, "last offset delta"},
                {2, -1, "last offset delta"},
                {1, 1, "last offset delta"},
                {INT32_MAX, 5, "last offset delta"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span s = good(2);
        store_be32(buf + BATCH_RECORD_COUNT, (uint32_t)rows[i].cnt);
        store_be32(buf + BATCH_LAST_OFFSET_DELTA, (uint32_t)rows[i].last_delta);
        batch_recrc(buf);
        refused(s, -E_INVALID_RECORD, rows[i].why);
    }
    struct span s = good(2); /* consistent, but not what is inside */
    store_be32(buf + BATCH_RECORD_COUNT, INT32_MAX);
    store_be32(buf + BATCH_LAST_OFFSET_DELTA, INT32_MAX - 1);
    batch_recrc(buf);
    check_is(s, &any, -E_INVALID_RECORD, 2, "end inside a record");
    store_be32(buf + BATCH_RECORD_COUNT, 1);
    store_be32(buf + BATCH_LAST_OFFSET_DELTA, 0);
    batch_recrc(buf);
    refused(s, -E_INVALID_RECORD, "bytes follow");
}

static void attribute_bits_of_the_broker_are_refused(void **state)
{
    (void)state;
    const struct {
        uint16_t bits;
        int rc;
        const char *why;
    } rows[] = {{BATCH_ATTR_CONTROL, -E_INVALID_RECORD, "control"},
                {BATCH_ATTR_DELETE_HORIZON, -E_INVALID_RECORD, "delete horizon"},
                {BATCH_ATTR_LOG_APPEND_TIME, -E_INVALID_TIMESTAMP, "LogAppendTime"},
                {BATCH_ATTR_TRANSACTIONAL, -E_INVALID_RECORD, "without a producer id"},
                {5, -E_UNSUPPORTED_CODEC, "unknown"},
                {6, -E_UNSUPPORTED_CODEC, "unknown"},
                {7, -E_UNSUPPORTED_CODEC, "unknown"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span s = good(1);
        store_be16(buf + BATCH_ATTRIBUTES, rows[i].bits);
        batch_recrc(buf);
        refused(s, rows[i].rc, rows[i].why);
    }
}

static void zstd_needs_a_newer_request(void **state)
{
    (void)state;
    struct batch_check_opts o = any;
    struct span s = good(1);
    buf[BATCH_ATTRIBUTES + 1] = CODEC_ZSTD;
    batch_recrc(buf);
    o.allow_zstd = false;
    check_is(s, &o, -E_UNSUPPORTED_CODEC, -1, "zstd needs");
}

static void producer_ids_need_sequence_and_epoch(void **state)
{
    (void)state;
    struct span s = good(1);
    store_be64(buf + BATCH_PRODUCER_ID, 0);
    batch_recrc(buf);
    refused(s, -E_INVALID_RECORD, "sequence");
    store_be32(buf + BATCH_BASE_SEQUENCE, 0);
    batch_recrc(buf);
    refused(s, -E_INVALID_RECORD, "producer epoch");
    store_be16(buf + BATCH_PRODUCER_EPOCH, 0);
    store_be16(buf + BATCH_ATTRIBUTES, BATCH_ATTR_TRANSACTIONAL);
    batch_recrc(buf);
    check_is(s, &any, 0, -1, "");
}

static void malformed_records_are_named(void **state)
{
    (void)state;
    /* Zig-zag: 0 -> 0, -1 -> 1, -2 -> 3, 1 -> 2, 6 -> 12, 7 -> 14. A good empty record:
     * {12, attributes 0, ts 0, offset 0, key null, value null, 0 headers}. */
    const struct {
        uint8_t b[24];
        uint32_t len;
        const char *why;
    } rows[] = {
        {{0}, 0, "end inside a record"},
        {{0x80}, 1, "end inside a record"},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 6, "record length is malformed"},
        {{14, 0, 0, 0, 1, 1, 0}, 7, "outside the batch"},
        {{1, 0, 0, 0, 1, 1, 0}, 7, "outside the batch"},
        {{0}, 1, "too short"},
        {{10, 0, 0, 0, 1, 1}, 6, "too short"},
        {{12, 0, 0x80, 0x80, 0x80, 0x80, 0x80}, 7, "timestamp is malformed"},
        {{12, 0, 0, 0x80, 0x80, 0x80, 0x80}, 7, "offset is malformed"},
        {{12, 0, 0, 0, 3, 1, 0}, 7, "key is malformed"},
        {{12, 0, 0, 0, 12, 1, 0}, 7, "key is malformed"},
        {{12, 0, 0, 0, 0x80, 0x80, 0x80}, 7, "key is malformed"},
        {{12, 0, 0, 0, 1, 3, 0}, 7, "value is malformed"},
        {{12, 0, 0, 0, 1, 4, 0}, 7, "value is malformed"},
        {{12, 0, 0, 0, 1, 2, 0}, 7, "header count is malformed"},
        {{12, 0, 0, 0, 1, 1, 1}, 7, "header count is malformed"},
        {{12, 0, 0, 0, 1, 1, 2}, 7, "header count is larger"},
        {{14, 0, 0, 0, 1, 1, 0, 0}, 8, "headers are malformed"},
        {{16, 0, 0, 0, 1, 1, 2, 1, 1}, 9, "headers are malformed"},
        {{16, 0, 0, 0, 1, 1, 2, 0, 3}, 9, "headers are malformed"},
        {{16, 0, 0, 0, 1, 1, 2, 0, 2}, 9, "headers are malformed"},
        {{16, 0, 0, 0, 1, 1, 2, 4, 1}, 9, "headers are malformed"},
        {{18, 0, 0, 0, 1, 1, 2, 0, 1, 0}, 10, "headers are malformed"},
        {{12, 0, 0, 2, 1, 1, 0}, 7, "do not count up"},
        {{12, 0, 0, 1, 1, 1, 0}, 7, "do not count up"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_is(around(rows[i].b, rows[i].len, 1, 0), &any, -E_INVALID_RECORD, 0, rows[i].why);

    const uint8_t ok[] = {12, 0, 0, 0, 1, 1, 0}, second[] = {12, 0, 0, 2, 1, 1, 0};
    check_is(around(ok, 7, 1, 0), &any, 0, -1, "");
    memcpy(raw, ok, 7);
    memcpy(raw + 7, second, 7);
    check_is(around(raw, 14, 2, 0), &any, 0, -1, "");
    memcpy(raw + 7, ok, 7); /* offset 0 twice */
    check_is(around(raw, 14, 2, 0), &any, -E_INVALID_RECORD, 1, "do not count up");
    refused(around(raw, 14, 1, 0), -E_INVALID_RECORD, "bytes follow");
}

static void compacted_topics_need_keys(void **state)
{
    (void)state;
    struct batch_check_opts o = any;
    o.key_required = true;
    const uint8_t keyless[] = {12, 0, 0, 0, 1, 1, 0}, empty_key[] = {12, 0, 0, 0, 0, 1, 0};
    check_is(around(keyless, 7, 1, 0), &o, -E_INVALID_RECORD, 0, "without key");
    check_is(around(empty_key, 7, 1, 0), &o, 0, -1, "");
    check_is(good(4), &o, 0, -1, "");
}

static void timestamps_have_inclusive_bounds(void **state)
{
    (void)state;
    struct batch_check_opts o = any; /* records have 1000, 1001, 1002 */
    o.timestamp_min = 1000;
    o.timestamp_max = 1002;
    check_is(good(3), &o, 0, -1, "");
    o.timestamp_max = 1001;
    check_is(good(3), &o, -E_INVALID_TIMESTAMP, 2, "outside");
    o.timestamp_min = 1001;
    check_is(good(3), &o, -E_INVALID_TIMESTAMP, 0, "outside");
    struct span s = good(1); /* -1 means: no timestamp */
    store_be64(buf + BATCH_BASE_TIMESTAMP, (uint64_t)-1);
    batch_recrc(buf);
    check_is(s, &o, 0, -1, "");
}

static void the_header_maximum_is_not_believed(void **state)
{
    (void)state;
    struct batch_check_result res;
    struct span s = good(3);
    store_be64(buf + BATCH_MAX_TIMESTAMP, 999999);
    batch_recrc(buf);
    assert_ok(batch_check_produce(codecs, s, &any, scratch, sizeof(scratch), &res));
    assert_int_equal(res.max_timestamp, 1002);
    assert_int_equal(res.info.max_timestamp, 999999);
}

static void compressed_records_are_checked_inside(void **state)
{
    (void)state;
    for (int id = CODEC_GZIP; id < CODEC_CNT; id++) {
        uint8_t packed[512];
        const uint8_t ok[] = {12, 0, 0, 0, 1, 1, 0}, wrong[] = {12, 0, 0, 2, 1, 1, 0};
        int64_t n = codec_compress(codecs, (enum codec_id)id, 0, ok, 7, packed, sizeof(packed));
        assert_true(n > 0);
        check_is(around(packed, (uint32_t)n, 1, (uint16_t)id), &any, 0, -1, "");
        check_is(around(packed, (uint32_t)n, 2, (uint16_t)id), &any, -E_INVALID_RECORD, 1,
                 "end inside");
        refused(around(packed, (uint32_t)n - 1, 1, (uint16_t)id), -E_INVALID_RECORD, "decompress");
        refused(around(packed, 0, 1, (uint16_t)id), -E_INVALID_RECORD, "decompress");
        n = codec_compress(codecs, (enum codec_id)id, 0, wrong, 7, packed, sizeof(packed));
        check_is(around(packed, (uint32_t)n, 1, (uint16_t)id), &any, -E_INVALID_RECORD, 0,
                 "count up");
        /* A bomb: more than scratch holds. */
        static uint8_t zeros[sizeof(scratch) + 1], bomb[2 * sizeof(scratch)];
        n = codec_compress(codecs, (enum codec_id)id, 0, zeros, sizeof(zeros), bomb, sizeof(bomb));
        assert_in_range(n, 1, 6000);
        refused(around(bomb, (uint32_t)n, 1, (uint16_t)id), -E_LIMIT, "larger than the limit");
    }
}

static void a_torn_tail_differs_from_damage(void **state)
{
    (void)state;
    struct batch_info info;
    struct span s = good(3);
    for (uint32_t len = 0; len < s.len; len++) {
        assert_rc(batch_header_read(s.p, len, &info), -E_TRUNCATED);
        assert_rc(batch_verify(s.p, len, &info), -E_TRUNCATED);
    }
    assert_ok(batch_header_read(s.p, s.len + 100, &info)); /* more may follow */
    assert_int_equal(info.total_len, s.len);
    const uint8_t zeros[100] = {0};
    assert_rc(batch_header_read(zeros, sizeof(zeros), &info), -E_CORRUPT_BATCH);
    buf[BATCH_MAGIC] = 1;
    assert_rc(batch_header_read(s.p, s.len, &info), -E_CORRUPT_BATCH);
    assert_rc(batch_header_read(s.p, BATCH_MAGIC + 1, &info), -E_CORRUPT_BATCH);
}

static void verify_refuses_offsets_that_overflow(void **state)
{
    (void)state;
    struct batch_info info;
    struct span s = good(3);
    store_be64(buf, (uint64_t)(INT64_MAX - 2));
    assert_rc(batch_verify(s.p, s.len, &info), -E_CORRUPT_BATCH);
    store_be64(buf, (uint64_t)(INT64_MAX - 3));
    assert_ok(batch_verify(s.p, s.len, &info));
    store_be64(buf, (uint64_t)-1);
    assert_rc(batch_verify(s.p, s.len, &info), -E_CORRUPT_BATCH);
    store_be64(buf, 0);
    store_be32(buf + BATCH_LAST_OFFSET_DELTA, 1); /* fewer offsets than records */
    batch_recrc(buf);
    assert_rc(batch_verify(s.p, s.len, &info), -E_CORRUPT_BATCH);
    store_be32(buf + BATCH_LAST_OFFSET_DELTA, 50); /* compacted: more offsets than records */
    batch_recrc(buf);
    assert_ok(batch_verify(s.p, s.len, &info));
}

static void the_iterator_stops_at_damage(void **state)
{
    (void)state;
    struct record_iter it;
    struct record_view v;
    struct span s = good(3);
    store_be32(buf + BATCH_RECORD_COUNT, 4);
    assert_ok(record_iter_init(&it, codecs, s, NULL, 0));
    for (int i = 0; i < 3; i++)
        assert_rc(record_iter_next(&it, &v), 1);
    assert_rc(record_iter_next(&it, &v), -E_INVALID_RECORD);
    store_be32(buf + BATCH_RECORD_COUNT, 2);
    assert_ok(record_iter_init(&it, codecs, s, NULL, 0));
    assert_rc(record_iter_next(&it, &v), 1);
    assert_rc(record_iter_next(&it, &v), 1);
    assert_rc(record_iter_next(&it, &v), -E_INVALID_RECORD);
    /* Emptied by compaction. */
    s = around("", 0, 0, CODEC_GZIP);
    assert_ok(record_iter_init(&it, codecs, s, NULL, 0));
    assert_rc(record_iter_next(&it, &v), 0);
    assert_rc(record_iter_init(&it, codecs, span_of(s.p, 20), NULL, 0), -E_TRUNCATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_batch_passes),
        TEST(nothing_or_half_a_batch_is_refused),
        TEST(bad_lengths_are_corrupt),
        TEST(the_magic_must_be_2),
        TEST(two_batches_or_trailing_bytes_are_refused),
        TEST(the_base_offset_must_be_0),
        TEST(size_is_limited_header_included),
        TEST(any_changed_byte_under_the_crc_is_corrupt),
        TEST(counts_must_agree_and_be_positive),
        TEST(attribute_bits_of_the_broker_are_refused),
        TEST(zstd_needs_a_newer_request),
        TEST(producer_ids_need_sequence_and_epoch),
        TEST(malformed_records_are_named),
        TEST(compacted_topics_need_keys),
        TEST(timestamps_have_inclusive_bounds),
        TEST(the_header_maximum_is_not_believed),
        TEST(compressed_records_are_checked_inside),
        TEST(a_torn_tail_differs_from_damage),
        TEST(verify_refuses_offsets_that_overflow),
        TEST(the_iterator_stops_at_damage),
    };
    accel_init(false);
    if (codec_ctx_create(&codecs) < 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    codec_ctx_destroy(codecs);
    return rc;
}
