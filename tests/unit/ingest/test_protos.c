/* test_protos.c - GELF, JSON and NetFlow: one datagram to one record, by table. */
#include "dataplane/ingest/netflow.h"
#include "dataplane/ingest/proto.h"
#include "tests/support/test.h"

#define ARRIVAL INT64_C(1760000000000)

static struct parse_mem mem;
static struct rec r;

static void parse_bytes(parse_burst_fn *burst, struct parse_conf pc, struct span bytes,
                        uint32_t full_len)
{
    struct dgram dg = {.bytes = bytes, .arrival_ms = ARRIVAL};
    pc.listener = span_str("in");
    pc.event_bytes_max = pc.event_bytes_max > 0 ? pc.event_bytes_max : 1000;
    burst(&pc, &dg, &full_len, 1, &mem, &r);
}
static void parse(parse_burst_fn *burst, const char *text)
{
    parse_bytes(burst, (struct parse_conf){0}, span_str(text), 0);
}
#define HEADER(h, text) assert_true(span_eq_str(r.header[h], text))
#define NO_HEADER(h) assert_null(r.header[h].p)

static void gelf_fields_become_headers_and_time(void **state)
{
    (void)state;
    parse(gelf_burst, "{\"version\":\"1.1\",\"host\":\"example.org\",\"short_message\":\"A short "
                      "message\",\"timestamp\":1759999999.3072,\"level\":1,\"facility\":\"local3\","
                      "\"_user_id\":9001,\"nested\":{\"host\":\"not this\"}}");
    NO_HEADER(RH_REASON);
    HEADER(RH_HOST, "example.org");
    HEADER(RH_SEVERITY, "alert");
    HEADER(RH_FACILITY, "local3");
    HEADER(RH_LISTENER, "in");
    assert_int_equal(r.severity, 1);
    assert_int_equal(r.facility, 19);
    assert_int_equal(r.timestamp_ms, INT64_C(1759999999307));
    NO_HEADER(RH_EVENT_TIME);
}

static void gelf_is_read_loosely_where_senders_are_loose(void **state)
{
    (void)state;
    /* the last of two counts; level in a string; a time of long ago; a facility of one's own */
    parse(gelf_burst, "{\"host\":\"a\",\"host\":\"b\",\"short_message\":\"m\",\"level\":\"3\","
                      "\"timestamp\":\"1000.5\",\"facility\":\"GELF\"}\n");
    HEADER(RH_HOST, "b");
    HEADER(RH_SEVERITY, "err");
    HEADER(RH_FACILITY, "GELF");
    assert_int_equal(r.facility, REC_FACILITY_NONE);
    HEADER(RH_EVENT_TIME, "1000.5");
    assert_int_equal(r.timestamp_ms, ARRIVAL);
    assert_int_equal(r.value.p[r.value.len - 1], '}');
    parse(gelf_burst, "{\"host\":\"a\\u0062\",\"short_message\":\"m\",\"level\":9,\"timestamp\":"
                      "true,\"facility\":\"\xff\"}");
    NO_HEADER(RH_REASON);
    NO_HEADER(RH_HOST); /* what it means is not what is written */
    NO_HEADER(RH_SEVERITY);
    NO_HEADER(RH_FACILITY);
    assert_int_equal(r.timestamp_ms, ARRIVAL);
}

static void gelf_dead_letters_say_why(void **state)
{
    static const struct {
        const char *text, *why;
    } t[] = {
        {"", "empty"},
        {"\n", "empty"},
        {"hello", "not a JSON object"},
        {"[1]", "not a JSON object"},
        {"{\"host\":\"a\",\"short_message\":\"m\"", "not a JSON object"},
        {"{\"host\":\"a\",\"short_message\":\"m\"} x", "not a JSON object"},
        {"{\"short_message\":\"m\"}", "no host"},
        {"{\"host\":\"\",\"short_message\":\"m\"}", "no host"},
        {"{\"host\":5,\"short_message\":\"m\"}", "no host"},
        {"{\"host\":\"a\"}", "no short_message"},
        {"{\"host\":\"a\",\"short_message\":null}", "no short_message"},
        {"\x1f\x8b\x08nonsense", "damaged compression"},
        {"\x78\x9cnonsense", "damaged compression"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        parse(gelf_burst, t[i].text);
        if (!span_eq_str(r.header[RH_REASON], t[i].why))
            fail_msg("'%s' is not '%s'", t[i].text, t[i].why);
        NO_HEADER(RH_HOST);
    }
}

static void gelf_that_was_cut_by_us_is_an_event(void **state)
{
    (void)state;
    struct parse_conf pc = {.event_bytes_max = 30};
    parse_bytes(gelf_burst, pc, span_str("{\"host\":\"a\",\"level\":4,\"short_message\":\"long\"}"),
                0);
    NO_HEADER(RH_REASON);
    HEADER(RH_TRUNCATED, "45");
    HEADER(RH_HOST, "a");
    HEADER(RH_SEVERITY, "warning");
    assert_int_equal(r.value.len, 30);
}

static void json_is_checked_and_has_a_time_only_if_told(void **state)
{
    static const struct {
        const char *text, *why;
        int64_t ms; /* with time_field "ts"; 0: arrival */
    } t[] = {
        {"{\"ts\":\"2025-10-09T08:53:20.5Z\"}", NULL, INT64_C(1760000000500)},
        {"{\"ts\":\"2025-10-09T10:53:20+02:00\"}", NULL, ARRIVAL},
        {"{\"ts\":1759999999.25}", NULL, INT64_C(1759999999250)},
        {"{\"ts\":1759999999250}", NULL, INT64_C(1759999999250)},
        {"{\"ts\":\"yesterday\"}", NULL, 0},
        {"{\"x\":{\"ts\":1759999999}}", NULL, 0},
        {"[1,2]", NULL, 0},
        {"\"text\"", NULL, 0},
        {"", "empty", 0},
        {"plain text", "not JSON", 0},
        {"{\"ts\":1759999999", "not JSON", 0},
    };
    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        struct parse_conf pc = {.time_field = span_str(timed ? "ts" : "")};
        for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
            int64_t want = timed && t[i].ms != 0 ? t[i].ms : ARRIVAL;
            parse_bytes(json_burst, pc, span_str(t[i].text), 0);
            bool reason = t[i].why == NULL ? r.header[RH_REASON].p == NULL
                                           : span_eq_str(r.header[RH_REASON], t[i].why);
            if (!reason || r.timestamp_ms != want)
                fail_msg("'%s' timed %d: %ld", t[i].text, timed, (long)r.timestamp_ms);
        }
    }
}

static void delimiters_are_data_where_framing_has_cut(void **state)
{
    (void)state;
    struct parse_conf pc = {.keep_end = true};
    parse_bytes(raw_burst, pc, span_of((const uint8_t *)"a\0", 2), 0);
    assert_int_equal(r.value.len, 2);
    parse(raw_burst, "a\n");
    assert_int_equal(r.value.len, 1);
}

static uint32_t packet(uint8_t *p, uint16_t version, uint32_t len)
{
    memset(p, 0, len);
    store_be16(p, version);
    store_be16(p + 2, version == 5 ? (uint16_t)((len - 24) / 48) : (uint16_t)len);
    store_be32(p + (version == 10 ? 4 : 8), 1759999990);
    if (version != 5 && len >= 28) { /* one set for what is left */
        uint32_t at = version == 9 ? 20 : 16;
        store_be16(p + at, 256);
        store_be16(p + at + 2, (uint16_t)(len - at));
    }
    return len;
}

static void netflow_packets_are_kept_whole(void **state)
{
    static const struct {
        uint16_t version;
        uint32_t len;
    } t[] = {{5, 24 + 48}, {5, 24 + 30 * 48}, {9, 20}, {9, 64}, {10, 16}, {10, 80}};
    (void)state;
    uint8_t p[2000];
    struct parse_conf pc = {.keep_end = true, .event_bytes_max = 65536};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        uint32_t n = packet(p, t[i].version, t[i].len);
        parse_bytes(netflow_burst, pc, span_of(p, n), 0);
        NO_HEADER(RH_REASON);
        assert_int_equal(r.value.len, n); /* zeros at the end are data */
        assert_int_equal(r.timestamp_ms, INT64_C(1759999990000));
    }
    store_be32(p + 4, 1000);
    parse_bytes(netflow_burst, pc, span_of(p, 80), 0);
    HEADER(RH_EVENT_TIME, "1000");
}

static void what_is_no_netflow_says_why(void **state)
{
    (void)state;
    uint8_t p[200];
    struct netflow_header h;
    assert_string_equal(netflow_header_read(span_of(p, 0), &h), "empty");
    assert_string_equal(netflow_header_read(span_of((const uint8_t *)"\x05", 1), &h),
                        "NetFlow length");
    for (uint16_t v = 0; v < 20; v++) {
        uint32_t n = packet(p, v, v == 5 ? 72 : 64);
        const char *why = netflow_header_read(span_of(p, n), &h);
        if (v != 5 && v != 9 && v != 10) {
            assert_string_equal(why, "NetFlow version");
            continue;
        }
        assert_null(why);
        for (uint32_t cut = 2; cut < n; cut++) {
            why = netflow_header_read(span_of(p, cut), &h);
            if (v == 9 && cut == 20) /* a packet without sets */
                assert_null(why);
            else
                assert_string_equal(why, "NetFlow length");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelf_fields_become_headers_and_time),
        cmocka_unit_test(gelf_is_read_loosely_where_senders_are_loose),
        cmocka_unit_test(gelf_dead_letters_say_why),
        cmocka_unit_test(gelf_that_was_cut_by_us_is_an_event),
        cmocka_unit_test(json_is_checked_and_has_a_time_only_if_told),
        cmocka_unit_test(delimiters_are_data_where_framing_has_cut),
        cmocka_unit_test(netflow_packets_are_kept_whole),
        cmocka_unit_test(what_is_no_netflow_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
