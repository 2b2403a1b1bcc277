/* test_syslog.c - what becomes of events of both RFCs, as their senders write them. */
#include "dataplane/ingest/syslog.c"
#include "tests/support/test.h"

#define ARRIVAL INT64_C(1760000000000) /* 2025-10-09T08:53:20Z */
#define IN_TIME INT64_C(1760000001000)

static const struct parse_conf conf = {.listener = {(const uint8_t *)"lan", 3},
                                       .event_bytes_max = 1000};
static struct parse_mem mem;

static struct rec parse_bytes(const void *p, uint32_t len, uint32_t full_len)
{
    struct dgram dg = {.bytes = span_of(p, len), .arrival_ms = ARRIVAL};
    struct rec r;
    syslog_burst(&conf, &dg, &full_len, 1, &mem, &r);
    return r;
}
static struct rec parse(const char *s)
{
    return parse_bytes(s, (uint32_t)strlen(s), 0);
}
static void check(const struct rec *r, enum rec_header h, const char *want)
{
    if (want == NULL) {
        if (r->header[h].p != NULL)
            fail_msg("header %d is '%.*s', expected none", h, (int)r->header[h].len,
                     r->header[h].p);
        return;
    }
    if (r->header[h].p == NULL || !span_eq_str(r->header[h], want))
        fail_msg("header %d is '%.*s', expected '%s'", h, (int)r->header[h].len, r->header[h].p,
                 want);
}

struct want {
    const char *text, *facility, *severity, *host, *app, *procid, *msgid;
    int64_t ms; /* 0: arrival */
};

static void every_shape_gives_its_headers(void **state)
{
    (void)state;
    static const struct want cases[] = {
        /* RFC 5424 */
        {"<34>1 2025-10-09T08:53:21Z mymachine.example.com su 77 ID47 - BOM'su root' failed",
         "auth", "crit", "mymachine.example.com", "su", "77", "ID47", IN_TIME},
        {"<165>1 2025-10-09T10:53:21.000+02:00 192.0.2.1 myproc 8710 - - %% It's time", "local4",
         "notice", "192.0.2.1", "myproc", "8710", NULL, IN_TIME},
        {"<0>1 - - - - - -", "kern", "emerg", NULL, NULL, NULL, NULL, 0},
        {"<191>1 -", "local7", "debug", NULL, NULL, NULL, NULL, 0},
        {"<191>1 - host", "local7", "debug", "host", NULL, NULL, NULL, 0},
        {"<13>1 2025-10-09T08:53:21Z h a p", "user", "notice", "h", "a", "p", NULL, IN_TIME},
        {"<13>1 2025-10-99T08:53:21Z h a p m [x@1 y=\"z\"] t", "user", "notice", "h", "a", "p", "m",
         0},
        {"<13>1 2025-10-09T08:53:21Z h \xff\xfe p m - t", "user", "notice", "h", NULL, "p", "m",
         IN_TIME},
        {"<13>1 2025-10-09T08:53:21Z h gr\xc3\xbc n m - t", "user", "notice", "h", "gr\xc3\xbc",
         "n", "m", IN_TIME},
        {"<13>1 2025-10-09T08:53:21Z a-host-name-that-is-long.example.com an-application-name-long "
         "12345678901234567890 message-id - text",
         "user", "notice", "a-host-name-that-is-long.example.com", "an-application-name-long",
         "12345678901234567890", "message-id", IN_TIME},
        /* RFC 3164 */
        {"<34>Oct  9 08:53:21 mymachine su: 'su root' failed", "auth", "crit", "mymachine", "su",
         NULL, NULL, IN_TIME},
        {"<86>Oct  9 08:53:21 box sshd[123]: ok", "authpriv", "info", "box", "sshd", "123", NULL,
         IN_TIME},
        {"<86>Oct  9 08:53:21 sshd[123]: no host", "authpriv", "info", NULL, "sshd", "123", NULL,
         IN_TIME},
        {"<13>Oct  9 08:53:21 logger: no host", "user", "notice", NULL, "logger", NULL, NULL,
         IN_TIME},
        {"<13>Oct  9 08:53:21 box last message repeated 3 times", "user", "notice", "box", NULL,
         NULL, NULL, IN_TIME},
        {"<30>2025-10-09T10:53:21.000000+02:00 box systemd[1]: Started", "daemon", "info", "box",
         "systemd", "1", NULL, IN_TIME},
        {"<13>su[12]: no time", "user", "notice", NULL, "su", "12", NULL, 0},
        {"<13>just some text", "user", "notice", NULL, NULL, NULL, NULL, 0},
        {"<13>", "user", "notice", NULL, NULL, NULL, NULL, 0},
        {"<013>x", "user", "notice", NULL, NULL, NULL, NULL, 0},
        {"<13>1 2 3 4", "user", "notice", NULL, NULL, NULL, NULL, 0},
        /* Cisco IOS, ASA, NX-OS */
        {"<189>29: *Oct  9 08:53:21.000: %SYS-5-CONFIG_I: Configured", "local7", "notice", NULL,
         "%SYS-5-CONFIG_I", NULL, NULL, IN_TIME},
        {"<189>29: rtr1: Oct  9 08:53:21.000 UTC: %SYS-5-CONFIG_I: x", "local7", "notice", "rtr1",
         "%SYS-5-CONFIG_I", NULL, NULL, IN_TIME},
        {"<166>Oct 09 2025 08:53:21: %ASA-6-302013: Built", "local4", "info", NULL, "%ASA-6-302013",
         NULL, NULL, IN_TIME},
        {"<166>Oct 09 2025 08:53:21 fw1 : %ASA-6-302013: Built", "local4", "info", "fw1",
         "%ASA-6-302013", NULL, NULL, IN_TIME},
        {"<189>: 2025 Oct  9 08:53:21 UTC: %ETHPORT-5-IF_UP: up", "local7", "notice", NULL,
         "%ETHPORT-5-IF_UP", NULL, NULL, IN_TIME},
        /* Juniper */
        {"<30>Oct  9 08:53:21.000 2025 mx1 mgd[4163]: UI_COMMIT: x", "daemon", "info", "mx1", "mgd",
         "4163", NULL, IN_TIME},
        /* Fortinet */
        {"<189>date=2025-10-09 time=08:53:21 devname=\"FG 1\" devid=\"F\" tz=\"+0000\" msg=\"a b\"",
         "local7", "notice", "FG 1", NULL, NULL, NULL, IN_TIME},
        {"<189>date=2025-10-09 time=10:53:21 devname=FG1 tz=\"+0200\"", "local7", "notice", "FG1",
         NULL, NULL, NULL, IN_TIME},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct want *w = &cases[i];
        print_message("%s\n", w->text);
        struct rec r = parse(w->text);
        assert_true(span_eq_str(r.value, w->text));
        check(&r, RH_FACILITY, w->facility);
        check(&r, RH_SEVERITY, w->severity);
        check(&r, RH_HOST, w->host);
        check(&r, RH_APP, w->app);
        check(&r, RH_PROCID, w->procid);
        check(&r, RH_MSGID, w->msgid);
        check(&r, RH_LISTENER, "lan");
        check(&r, RH_REASON, NULL);
        check(&r, RH_EVENT_TIME, NULL);
        assert_int_equal(r.timestamp_ms, w->ms != 0 ? w->ms : ARRIVAL);
    }
}

static void what_has_no_pri_is_a_dead_letter(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "empty"},
        {"\n", "empty"},
        {"hello", "no PRI"},
        {"<", "no PRI"},
        {"<>x", "no PRI"},
        {"<1234>x", "no PRI"},
        {"<12", "no PRI"},
        {"<12x>", "no PRI"},
        {" <12>", "no PRI"},
        {"<192>x", "PRI out of range"},
        {"<999>x", "PRI out of range"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rec r = parse(cases[i][0]);
        check(&r, RH_REASON, cases[i][1]);
        check(&r, RH_LISTENER, "lan");
        check(&r, RH_FACILITY, NULL);
        assert_non_null(r.value.p);
        assert_int_equal(r.timestamp_ms, ARRIVAL);
    }
}

static void times_out_of_bounds_go_to_a_header(void **state)
{
    (void)state;
    struct rec r = parse("<13>1 2025-10-02T08:53:20Z h a p m - exactly seven days");
    check(&r, RH_EVENT_TIME, NULL);
    assert_int_equal(r.timestamp_ms, ARRIVAL - EVENT_TIME_PAST_MS);
    r = parse("<13>1 2025-10-02T08:53:19.999Z h a p m - more");
    check(&r, RH_EVENT_TIME, "2025-10-02T08:53:19.999Z");
    assert_int_equal(r.timestamp_ms, ARRIVAL);
    r = parse("<13>1 2025-10-09T08:58:20Z h a p m - exactly five minutes");
    check(&r, RH_EVENT_TIME, NULL);
    r = parse("<13>1 2025-10-09T08:58:20.001Z h a p m - more");
    check(&r, RH_EVENT_TIME, "2025-10-09T08:58:20.001Z");
    r = parse("<13>Jan  2 03:04:05 h su: old");
    check(&r, RH_EVENT_TIME, "Jan  2 03:04:05");
    check(&r, RH_HOST, "h");
    r = parse("<13>date=2020-10-09 time=10:53:21 devname=FG1");
    check(&r, RH_EVENT_TIME, "2020-10-09 time=10:53:21");
    r = parse("<13>date=2020-10-09 time=10:53:21\xff devname=FG1"); /* found by fuzz_syslog */
    check(&r, RH_EVENT_TIME, "2020-10-09 time=10:53:21");
    r = parse("<13>date=2020-10-09 x=\xff time=10:53:21");
    check(&r, RH_EVENT_TIME, "2020-10-09");
}

static void one_trailing_lf_or_nul_goes_and_the_rest_stays(void **state)
{
    (void)state;
    assert_int_equal(parse_bytes("<13>a\n", 6, 0).value.len, 5);
    assert_int_equal(parse_bytes("<13>a\0", 6, 0).value.len, 5);
    assert_int_equal(parse_bytes("<13>a\n\n", 7, 0).value.len, 6);
    assert_int_equal(parse_bytes("<13>a\r\n", 7, 0).value.len, 6);
    assert_int_equal(parse_bytes("<13>a\n", 6, 9).value.len, 6); /* cut: that LF was inside */
}

static void long_events_are_cut_and_marked(void **state)
{
    (void)state;
    char big[1500];
    memset(big, 'x', sizeof(big));
    memcpy(big, "<13>", 4);
    struct rec r = parse_bytes(big, 1000, 0);
    check(&r, RH_TRUNCATED, NULL);
    big[1000] = '\n';
    r = parse_bytes(big, 1001, 0);
    check(&r, RH_TRUNCATED, NULL);
    assert_int_equal(r.value.len, 1000);
    r = parse_bytes(big, 1002, 0);
    check(&r, RH_TRUNCATED, "1002");
    assert_int_equal(r.value.len, 1000);
    r = parse_bytes(big, 1001, 70000);
    check(&r, RH_TRUNCATED, "70000");
    struct dgram dg = {.bytes = span_of(big, 900), .arrival_ms = ARRIVAL, .truncated = true};
    syslog_burst(&conf, &dg, NULL, 1, &mem, &r); /* the receive buffer was too small */
    check(&r, RH_TRUNCATED, "unknown");
    r = parse_bytes(big, 1001, FULL_LEN_UNKNOWN);
    check(&r, RH_TRUNCATED, "unknown");
    check(&r, RH_FACILITY, "user");
}

static void overlong_header_values_are_left_out(void **state)
{
    (void)state;
    char big[900];
    int n = snprintf(big, sizeof(big), "<13>1 - ");
    memset(big + n, 'h', 256);
    strcpy(big + n + 256, " app pid id - text");
    struct rec r = parse(big);
    check(&r, RH_HOST, NULL);
    check(&r, RH_APP, "app");
    check(&r, RH_MSGID, "id");
    memmove(big + n, big + n + 1, strlen(big + n)); /* 255 are fine */
    r = parse(big);
    assert_int_equal(r.header[RH_HOST].len, 255);
}

static void the_space_map_agrees_with_its_twin(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(5)};
    for (int i = 0; i < 20000; i++) {
        uint64_t n = rng_below(&rng, 100);
        uint8_t *p = malloc(n + 1); /* exactly as long, so that ASan sees a byte too many */
        for (uint64_t k = 0; k < n; k++)
            p[k] = rng_below(&rng, 4) == 0 ? ' ' : (uint8_t)rng_u64(&rng);
        struct byte_map a = byte_map_64(p, n), b = byte_map_64_scalar(p, n);
        assert_true(a.spaces == b.spaces);
        assert_true(a.high == b.high);
        free(p);
    }
}

TEST_MAIN(TEST(every_shape_gives_its_headers), TEST(what_has_no_pri_is_a_dead_letter),
          TEST(times_out_of_bounds_go_to_a_header),
          TEST(one_trailing_lf_or_nul_goes_and_the_rest_stays),
          TEST(long_events_are_cut_and_marked), TEST(overlong_header_values_are_left_out),
          TEST(the_space_map_agrees_with_its_twin))
