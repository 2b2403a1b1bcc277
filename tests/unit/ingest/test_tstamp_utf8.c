/* test_tstamp_utf8.c - times against the C library's calendar, UTF-8 against its twin. */
#include "dataplane/ingest/tstamp.c"
#include "dataplane/ingest/utf8.c"
#include "tests/support/test.h"
#include <time.h>

#define MS(s) ((int64_t)(s)*1000)

static uint32_t p3339(const char *s, int64_t *ms)
{
    return tstamp_rfc3339((const uint8_t *)s, (uint32_t)strlen(s), ms);
}
static uint32_t p3164(const char *s, int32_t zone, int64_t arrival, int64_t *ms)
{
    return tstamp_rfc3164((const uint8_t *)s, (uint32_t)strlen(s), zone, arrival, ms);
}

static void rfc3339_times_agree_with_timegm(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(1)};
    for (int i = 0; i < 20000; i++) {
        time_t t = (time_t)rng_below(&r, 8000000000); /* to the year 2223 */
        uint32_t frac = (uint32_t)rng_below(&r, 1000);
        int off = (int)rng_below(&r, 2 * 14 * 60) - 14 * 60;
        struct tm tm;
        time_t local = t + off * 60;
        if (local < 0)
            continue;
        gmtime_r(&local, &tm);
        char text[64];
        size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(text + n, sizeof(text) - n, ".%03u%c%02d:%02d rest", frac, off < 0 ? '-' : '+',
                 abs(off) / 60, abs(off) % 60);
        int64_t ms = -1;
        assert_int_equal(p3339(text, &ms), strlen(text) - 5);
        assert_int_equal(ms, MS(t) + frac);
    }
}

static void rfc3339_examples_and_refusals(void **state)
{
    (void)state;
    int64_t ms = 7;
    assert_int_equal(p3339("1985-04-12T23:20:50.52Z", &ms), 23);
    assert_int_equal(ms, INT64_C(482196050520));
    assert_int_equal(p3339("2003-08-24T05:14:15.000003-07:00", &ms), 32);
    assert_int_equal(ms, INT64_C(1061727255000));
    assert_int_equal(p3339("2003-10-11T22:14:15Z x", &ms), 20);
    assert_int_equal(p3339("2000-02-29T00:00:60Z", &ms), 20);
    ms = 7;
    static const char *const bad[] = {
        "",
        "2003-10-11T22:14:15",
        "2003-10-11T22:14:15+",
        "2003-10-11T22:14:15+0100",
        "2003-13-11T22:14:15Z",
        "2003-02-29T22:14:15Z",
        "2003-10-32T22:14:15Z",
        "2003-10-00T22:14:15Z",
        "2003-10-11T24:14:15Z",
        "2003-10-11T22:60:15Z",
        "2003-10-11T22:14:61Z",
        "2003-10-11 22:14:15Z",
        "2003-10-11T22:14:15.Z",
        "20a3-10-11T22:14:15Z",
        "2003-10-11T22:14:15-24:00",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(p3339(bad[i], &ms), 0);
    assert_int_equal(ms, 7);
}

static void rfc3164_takes_the_year_nearest_to_arrival(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(2)};
    for (int i = 0; i < 20000; i++) {
        time_t arrival = 1000000000 + (time_t)rng_below(&r, 3000000000);
        time_t t = arrival + (time_t)rng_below(&r, 300 * 86400) - 150 * 86400;
        struct tm tm;
        gmtime_r(&t, &tm);
        char text[64];
        strftime(text, sizeof(text), "%b %e %H:%M:%S host", &tm);
        int64_t ms = -1;
        assert_int_equal(p3164(text, 0, MS(arrival), &ms), 15);
        assert_int_equal(ms, MS(t));
    }
    int64_t ms, newyear = INT64_C(1735689600000); /* 2025-01-01 */
    assert_int_equal(p3164("Dec 31 23:59:59", 0, newyear, &ms), 15);
    assert_int_equal(ms, newyear - 1000);
    assert_int_equal(p3164("Jan  1 00:00:00", 0, newyear - 1, &ms), 15);
    assert_int_equal(ms, newyear);
    /* 29 February exists only in the leap year next to arrival, or not at all */
    assert_int_equal(p3164("Feb 29 12:00:00", 0, newyear, &ms), 15);
    assert_int_equal(ms, INT64_C(1709208000000)); /* 2024 */
    assert_int_equal(p3164("Feb 29 12:00:00", 0, newyear + MS(400 * 86400), &ms), 0);
}

static void rfc3164_variants_of_devices(void **state)
{
    (void)state;
    const int64_t at = INT64_C(1760000000000);   /* 2025-10-09T08:53:20Z */
    const int64_t want = INT64_C(1760000001000); /* 08:53:21 */
    static const struct {
        const char *text;
        uint32_t used;
        int32_t zone, frac;
    } ok[] = {
        {"Oct  9 08:53:21 h", 15, 0, 0},
        {"Oct 09 08:53:21", 15, 0, 0},
        {"Oct 9 08:53:21: %SYS", 14, 0, 0},
        {"Oct  9 10:53:21 h", 15, 7200, 0},
        {"Oct  9 08:53:21.123: %", 19, 0, 123},
        {"Oct  9 2025 08:53:21: %ASA", 20, 0, 0},
        {"Oct  9 08:53:21 2025 host", 20, 0, 0},
        {"Oct  9 08:53:21.5 2025 h", 22, 0, 500},
        {"2025 Oct  9 08:53:21 UTC: %VPC", 24, 3600, 0},
        {"Oct  9 10:53:21 CEST: %SYS", 20, 7200, 0},
        {"Oct  9 08:53:21 GMT: x", 19, 7200, 0},
    };
    for (size_t i = 0; i < sizeof(ok) / sizeof(ok[0]); i++) {
        int64_t ms = -1;
        assert_int_equal(p3164(ok[i].text, ok[i].zone, at, &ms), ok[i].used);
        assert_int_equal(ms, want + ok[i].frac);
    }
    static const char *const bad[] = {"",
                                      "Oct",
                                      "Oct 11 22:14:1",
                                      "Okt 11 22:14:15",
                                      "Oct 32 22:14:15",
                                      "Oct  0 22:14:15",
                                      "Feb 30 2024 22:14:15",
                                      "Oct 11 25:14:15",
                                      "Oct11 22:14:15 ab",
                                      "2003 10 22:14:15 abc"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ms = 7;
        assert_int_equal(p3164(bad[i], 0, at, &ms), 0);
        assert_int_equal(ms, 7);
    }
}

static void utf8_twins_agree_and_follow_rfc3629(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        bool ok;
    } cases[] = {
        {"", true},
        {"plain", true},
        {"gr\xc3\xbc\xc3\x9f"
         "e",
         true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x98\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\xc0\xaf", false},
        {"\xc1\xbf", false},
        {"\xe0\x80\x80", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x80\x80\x80", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\x80", false},
        {"abc\xc3", false},
        {"0123456789abcdef\xff", false},
        {"\xe2\x82", false},
        {"\xf0\x9f\x98", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(utf8_is_valid((const uint8_t *)cases[i].s, (uint32_t)strlen(cases[i].s)),
                         cases[i].ok);
    struct test_rng r = {test_seed(3)};
    for (int i = 0; i < 50000; i++) {
        uint8_t b[64];
        uint32_t n = (uint32_t)rng_below(&r, sizeof(b) + 1);
        for (uint32_t k = 0; k < n; k++)
            b[k] = rng_below(&r, 8) == 0 ? (uint8_t)rng_u64(&r) : 'a';
        assert_int_equal(utf8_is_valid(b, n), utf8_is_valid_scalar(b, n));
    }
}

TEST_MAIN(TEST(rfc3339_times_agree_with_timegm), TEST(rfc3339_examples_and_refusals),
          TEST(rfc3164_takes_the_year_nearest_to_arrival), TEST(rfc3164_variants_of_devices),
          TEST(utf8_twins_agree_and_follow_rfc3629))
