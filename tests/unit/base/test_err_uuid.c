/* Errors, ids, clocks. */
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/base/clock.h"
#include "tests/support/test.h"

static void every_own_error_has_its_name_text_and_code(void **state)
{
    (void)state;
#define ERR(name, num, kafka, retriable, text)                                                     \
    assert_string_equal(err_name(-(num)), #name);                                                  \
    assert_string_equal(err_text(-(num)), text);                                                   \
    assert_int_equal(err_kafka_code(-(num)), kafka);                                               \
    assert_int_equal(err_is_retriable(-(num)), retriable);
#include "lib/base/err.def"
#undef ERR
}

static void foreign_codes_have_text_too(void **state)
{
    (void)state;
    assert_string_equal(err_name(-ENOSPC), "ENOSPC");
    assert_string_equal(err_text(-ENOSPC), "No space left on device");
    assert_int_equal(err_kafka_code(-ENOSPC), -1);
    assert_int_equal(err_kafka_code(0), 0);
    assert_string_equal(err_text(0), "success");
    const int strange[] = {-4999, -5999, -100000, INT32_MIN, INT32_MIN + 1};
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        assert_string_equal(err_name(strange[i]), "E_UNKNOWN");
        assert_string_equal(err_text(strange[i]), "unknown error");
        assert_int_equal(err_kafka_code(strange[i]), -1);
    }
}

static void uuid_text_is_kafkas(void **state)
{
    (void)state;
    /* org.apache.kafka.common.Uuid: METADATA_TOPIC_ID = new Uuid(0, 1) */
    struct uuid u = {{0}};
    char text[UUID_TEXT_LEN + 1];
    uuid_format(&u, text);
    assert_string_equal(text, "AAAAAAAAAAAAAAAAAAAAAA");
    u.b[15] = 1;
    uuid_format(&u, text);
    assert_string_equal(text, "AAAAAAAAAAAAAAAAAAAAAQ");
    /* python: base64.urlsafe_b64encode(bytes(range(0xf0, 0x100))) */
    for (int i = 0; i < 16; i++)
        u.b[i] = (uint8_t)(0xf0 + i);
    uuid_format(&u, text);
    assert_string_equal(text, "8PHy8_T19vf4-fr7_P3-_w");
    struct uuid back;
    assert_ok(uuid_parse(text, UUID_TEXT_LEN, &back));
    assert_true(uuid_eq(&u, &back));
}

static void random_uuids_round_trip_and_are_never_reserved(void **state)
{
    (void)state;
    struct uuid before = {{0}};
    for (int i = 0; i < 5000; i++) {
        struct uuid u, back;
        char text[UUID_TEXT_LEN + 1];
        uuid_random(&u);
        assert_false(uuid_eq(&u, &before));
        uuid_format(&u, text);
        assert_int_equal(strlen(text), UUID_TEXT_LEN);
        assert_true(text[0] != '-');
        assert_int_equal(u.b[6] >> 4, 4);
        assert_int_equal(u.b[8] >> 6, 2);
        assert_ok(uuid_parse(text, UUID_TEXT_LEN, &back));
        assert_true(uuid_eq(&u, &back));
        before = u;
    }
}

static void bad_uuid_text_is_refused(void **state)
{
    (void)state;
    struct uuid u;
    const char *ok = "8PHy8_T19vf4-fr7_P3-_w";
    for (uint32_t len = 0; len < UUID_TEXT_LEN; len++)
        assert_rc(uuid_parse(ok, len, &u), -E_MALFORMED);
    assert_rc(uuid_parse("8PHy8_T19vf4-fr7_P3-_w=", 23, &u), -E_MALFORMED);
    for (int c = 1; c < 256; c++) {
        char text[UUID_TEXT_LEN + 1];
        strcpy(text, ok);
        text[7] = (char)c;
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_';
        assert_rc(uuid_parse(text, UUID_TEXT_LEN, &u), good ? 0 : -E_MALFORMED);
    }
}

static uint64_t fake_mono(void *arg)
{
    return *(uint64_t *)arg;
}
static int64_t fake_wall(void *arg)
{
    return (int64_t) * (uint64_t *)arg + 1;
}

static void clocks_run_and_can_be_replaced(void **state)
{
    (void)state;
    uint64_t a = clock_mono_ns(), tsc = clock_tsc(), hz = clock_tsc_hz();
    assert_true(clock_mono_ns() > a);
    assert_true(clock_tsc() > tsc);
    assert_true(hz > 100000000);
    assert_int_equal(clock_tsc_hz(), hz);
    assert_true(clock_wall_ms() > INT64_C(1577836800000));
    uint64_t t = 42;
    clock_set_source(&(struct clock_source){.mono_ns = fake_mono, .wall_ms = fake_wall, .arg = &t});
    assert_int_equal(clock_mono_ns(), 42);
    assert_int_equal(clock_wall_ms(), 43);
    clock_set_source(NULL);
    assert_true(clock_mono_ns() > a);
}

TEST_MAIN(TEST(every_own_error_has_its_name_text_and_code), TEST(foreign_codes_have_text_too),
          TEST(uuid_text_is_kafkas), TEST(random_uuids_round_trip_and_are_never_reserved),
          TEST(bad_uuid_text_is_refused), TEST(clocks_run_and_can_be_replaced))
