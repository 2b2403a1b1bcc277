/* lib/batch against bytes encoded by an independent script from Kafka's documented layout. */
#include "accel/accel.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include "golden_batch.h"
#include "tests/support/test.h"

#define T0 INT64_C(1700000000000)
static const struct batch_check_opts any = {.max_bytes = 1 << 20,
                                            .allow_zstd = true,
                                            .timestamp_min = INT64_MIN,
                                            .timestamp_max = INT64_MAX};
static struct codec_ctx *codecs;
static uint8_t buf[65536], dst[65536];

static void build_three(struct batch_builder *b)
{
    batch_builder_init(b, buf, sizeof(buf));
    struct rec r = {.value = span_str("<34>1 hello"),
                    .timestamp_ms = T0,
                    .header = {[RH_SOURCE] = span_str("192.0.2.1"),
                               [RH_FACILITY] = span_str("4"),
                               [RH_SEVERITY] = span_str("2"),
                               [RH_HOST] = span_str("mymachine"),
                               [RH_APP] = span_str("su"),
                               [RH_PROCID] = span_str("77"),
                               [RH_MSGID] = span_str("ID47"),
                               [RH_LISTENER] = span_str("udp")}};
    assert_ok(batch_builder_add(b, &r));
    r = (struct rec){.key = span_str("key"),
                     .value = span_str(""),
                     .timestamp_ms = T0 - 1500,
                     .header = {[RH_EVENT_TIME] = span_str("2003-10-11T22:14:15.003Z"),
                                [RH_TRUNCATED] = span_str(""),
                                [RH_REASON] = span_str("no PRI")}};
    assert_ok(batch_builder_add(b, &r));
    r = (struct rec){.key = span_str(""), .timestamp_ms = T0 + 70000};
    assert_ok(batch_builder_add(b, &r));
}

static void the_builder_writes_the_documented_bytes(void **state)
{
    (void)state;
    struct batch_builder b;
    struct span out;
    struct seal_opts opts = {.producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    build_three(&b);
    assert_ok(batch_seal(&b, NULL, &opts, NULL, 0, &out));
    assert_int_equal(out.len, sizeof(golden_plain));
    assert_memory_equal(out.p, golden_plain, out.len);

    opts = (struct seal_opts){.producer_id = 4711,
                              .producer_epoch = 3,
                              .base_sequence = INT32_MAX - 1,
                              .attributes = BATCH_ATTR_TRANSACTIONAL};
    build_three(&b);
    assert_ok(batch_seal(&b, NULL, &opts, NULL, 0, &out));
    assert_int_equal(out.len, sizeof(golden_txn));
    assert_memory_equal(out.p, golden_txn, out.len);

    static uint8_t value[20000], key[100];
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)(i * 7);
    memset(key, 'k', sizeof(key));
    struct rec r = {.key = span_of(key, 100), .value = span_of(value, 20000), .timestamp_ms = -1};
    opts = (struct seal_opts){.producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    batch_builder_init(&b, buf, sizeof(buf));
    assert_ok(batch_builder_add(&b, &r));
    assert_ok(batch_seal(&b, NULL, &opts, NULL, 0, &out));
    assert_int_equal(out.len, sizeof(golden_long));
    assert_memory_equal(out.p, golden_long, out.len);
}

static void the_checker_accepts_them(void **state)
{
    (void)state;
    const struct span all[] = {span_of(golden_plain, sizeof(golden_plain)),
                               span_of(golden_txn, sizeof(golden_txn)),
                               span_of(golden_gzip, sizeof(golden_gzip))};
    for (size_t i = 0; i < 3; i++) {
        struct batch_check_result res;
        assert_ok(batch_check_produce(codecs, all[i], &any, dst, sizeof(dst), &res));
        assert_int_equal(res.info.record_cnt, 3);
        assert_int_equal(res.info.total_len, all[i].len);
        assert_true(res.max_timestamp == T0 + 70000);
        assert_int_equal(res.bad_record, -1);
        assert_int_equal(res.info.producer_id, i == 1 ? 4711 : -1);
        assert_int_equal(res.info.producer_epoch, i == 1 ? 3 : -1);
        assert_int_equal(res.info.base_sequence, i == 1 ? INT32_MAX - 1 : -1);
        struct record_iter it;
        struct record_view v;
        assert_ok(record_iter_init(&it, codecs, all[i], dst, sizeof(dst)));
        assert_rc(record_iter_next(&it, &v), 1);
        assert_true(span_is_null(v.key) && span_eq_str(v.value, "<34>1 hello"));
        assert_int_equal(v.header_cnt, 8);
        struct span hs = v.headers, k, val;
        for (int h = 0; h < 8; h++) {
            assert_rc(record_header_next(&hs, &k, &val), 1);
            assert_true(span_eq(k, rec_header_name[h]));
        }
        assert_rc(record_header_next(&hs, &k, &val), 0);
        assert_rc(record_iter_next(&it, &v), 1);
        assert_true(v.timestamp == T0 - 1500 && v.offset == 1 && span_eq_str(v.key, "key"));
        assert_true(!span_is_null(v.value) && v.value.len == 0);
        assert_rc(record_iter_next(&it, &v), 1);
        assert_true(!span_is_null(v.key) && v.key.len == 0 && span_is_null(v.value));
        assert_rc(record_iter_next(&it, &v), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(the_builder_writes_the_documented_bytes),
                                       TEST(the_checker_accepts_them)};
    accel_init(false);
    if (codec_ctx_create(&codecs) < 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    codec_ctx_destroy(codecs);
    return rc;
}
