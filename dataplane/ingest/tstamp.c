/* tstamp.c - see tstamp.h. Digits are read without branches: `bad` gathers what was no digit. */
#include "dataplane/ingest/tstamp.h"
#include <stdbool.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

int64_t days_from_civil(int32_t year, uint32_t month, uint32_t day)
{
    /* years start in March, so that the leap day is the last one; 400-year eras of 146097 days */
    int32_t y = month <= 2 ? year - 1 : year;
    int32_t era = (y >= 0 ? y : y - 399) / 400;
    uint32_t yoe = (uint32_t)(y - era * 400);
    uint32_t doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    uint32_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return (int64_t)era * 146097 + (int64_t)doe - 719468;
}

static bool is_leap(int32_t y)
{
    return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

static uint32_t month_days(int32_t y, uint32_t m)
{
    static const uint8_t days[13] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return m == 2 && is_leap(y) ? 29u : days[m];
}

static inline uint32_t digits2(const uint8_t *p, uint32_t *bad)
{
    uint32_t a = (uint32_t)p[0] - '0', b = (uint32_t)p[1] - '0';
    *bad |= (uint32_t)(a > 9) | (uint32_t)(b > 9);
    return a * 10 + b;
}
static bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') <= 9;
}

/* "2003-10-11" -> days; false: no such date. p has 10 bytes. */
static inline bool date_read(const uint8_t *p, int64_t *ret_days)
{
    uint32_t bad = 0;
    uint32_t y = digits2(p, &bad) * 100 + digits2(p + 2, &bad);
    uint32_t m = digits2(p + 5, &bad), d = digits2(p + 8, &bad);
    bad |= (uint32_t)(p[4] != '-') | (uint32_t)(p[7] != '-');
    if (bad || m - 1 > 11 || d - 1 > 27) { /* days 29..31: look closer */
        if (bad || m - 1 > 11 || d == 0 || d > month_days((int32_t)y, m))
            return false;
    }
    *ret_days = days_from_civil((int32_t)y, m, d);
    return true;
}

/* "22:14:15" -> ms of the day; false: no such time. p has 8 bytes. */
static inline bool time_read(const uint8_t *p, int64_t *ret_ms)
{
    uint32_t bad = 0;
    uint32_t h = digits2(p, &bad), m = digits2(p + 3, &bad), s = digits2(p + 6, &bad);
    bad |= (uint32_t)(p[2] != ':') | (uint32_t)(p[5] != ':') | (uint32_t)(h > 23) |
           (uint32_t)(m > 59) | (uint32_t)(s > 60);
    *ret_ms = (int64_t)(h * 3600 + m * 60 + s) * 1000;
    return bad == 0;
}

/* ".003" -> 3; the bytes used, 0 when there is no fraction. */
static inline uint32_t fraction_read(const uint8_t *p, uint32_t len, int64_t *ret_ms)
{
    *ret_ms = 0;
    if (len < 2 || p[0] != '.' || !is_digit(p[1]))
        return 0;
    uint32_t n = 1, scale = 100, ms = 0;
    for (; n < len && is_digit(p[n]); n++) {
        ms += (uint32_t)(p[n] - '0') * scale;
        scale /= 10;
    }
    *ret_ms = ms;
    return n;
}

uint32_t tstamp_rfc3339(const uint8_t *p, uint32_t len, int64_t *ret_ms)
{
    int64_t days, ms, frac;
    if (len < 20 || p[10] != 'T' || !date_read(p, &days) || !time_read(p + 11, &ms))
        return 0;
    uint32_t n = 19 + fraction_read(p + 19, len - 19, &frac);
    int64_t at = days * DAY_MS + ms + frac;
    if (n < len && p[n] == 'Z') {
        *ret_ms = at;
        return n + 1;
    }
    if (len - n < 6 || (p[n] != '+' && p[n] != '-') || p[n + 3] != ':')
        return 0;
    uint32_t bad = 0;
    uint32_t h = digits2(p + n + 1, &bad), m = digits2(p + n + 4, &bad);
    if (bad || h > 23 || m > 59)
        return 0;
    int64_t offset = (int64_t)(h * 60 + m) * 60000;
    *ret_ms = p[n] == '+' ? at - offset : at + offset;
    return n + 6;
}

/* 1..12, or 0. Three letters as RFC 3164 spells them. */
static uint32_t month_read(const uint8_t *p)
{
#define M(a, b, c) ((uint32_t)(a) << 16 | (uint32_t)(b) << 8 | (uint32_t)(c))
    switch (M(p[0], p[1], p[2])) {
    case M('J', 'a', 'n'):
        return 1;
    case M('F', 'e', 'b'):
        return 2;
    case M('M', 'a', 'r'):
        return 3;
    case M('A', 'p', 'r'):
        return 4;
    case M('M', 'a', 'y'):
        return 5;
    case M('J', 'u', 'n'):
        return 6;
    case M('J', 'u', 'l'):
        return 7;
    case M('A', 'u', 'g'):
        return 8;
    case M('S', 'e', 'p'):
        return 9;
    case M('O', 'c', 't'):
        return 10;
    case M('N', 'o', 'v'):
        return 11;
    case M('D', 'e', 'c'):
        return 12;
    }
#undef M
    return 0;
}

/* "2003" -> year; false when p does not hold four digits and then `after` (0: a space, the end, or
 * a colon that ends a word, so that the host 2001:db8::7 is not taken for a year). */
static bool year_read(const uint8_t *p, uint32_t len, uint8_t after, int32_t *ret_year)
{
    uint32_t bad = 0;
    if (len < 4)
        return false;
    uint32_t y = digits2(p, &bad) * 100 + digits2(p + 2, &bad);
    if (bad || y < 1970)
        return false;
    bool word_ends = len == 4 || p[4] == ' ' || (p[4] == ':' && (len == 5 || p[5] == ' '));
    if (after != 0 ? len < 5 || p[4] != after : !word_ends)
        return false;
    *ret_year = (int32_t)y;
    return true;
}

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

static int32_t year_of(int64_t ms)
{
    int64_t days = ms / DAY_MS - (ms % DAY_MS < 0);
    int32_t y = (int32_t)(1970 + days / 366); /* never too late before 2700 or so; then step up */
    while (days_from_civil(y + 1, 1, 1) <= days)
        y++;
    while (days_from_civil(y, 1, 1) > days)
        y--;
    return y;
}

/* Of last, this and next year the one that brings month/day/time nearest to `local`. */
static bool nearest_year(uint32_t month, uint32_t day, int64_t day_ms, int64_t local,
                         int64_t *ret_ms)
{
    int32_t now = year_of(local);
    bool found = false;
    for (int32_t y = now - 1; y <= now + 1; y++) {
        if (day > month_days(y, month)) /* 29 February */
            continue;
        int64_t ms = days_from_civil(y, month, day) * DAY_MS + day_ms;
        if (!found || distance(ms, local) < distance(*ret_ms, local))
            *ret_ms = ms;
        found = true;
    }
    return found;
}

/* " UTC:" of Cisco: bytes used (the colon excluded), 0 when p is not a zone name before a colon. */
static uint32_t zone_name_read(const uint8_t *p, uint32_t len, bool *ret_is_utc)
{
    uint32_t n = 1;
    if (len < 4 || p[0] != ' ')
        return 0;
    while (n < len && n < 7 && p[n] >= 'A' && p[n] <= 'Z')
        n++;
    if (n < 4 || n >= len || p[n] != ':')
        return 0;
    *ret_is_utc = n == 4 && (memcmp(p + 1, "UTC", 3) == 0 || memcmp(p + 1, "GMT", 3) == 0);
    return n;
}

uint32_t tstamp_rfc3164(const uint8_t *p, uint32_t len, int32_t zone_offset_s, int64_t arrival_ms,
                        int64_t *ret_ms)
{
    int32_t year = 0;
    uint32_t n = 0;
    if (year_read(p, len, ' ', &year)) /* NX-OS */
        n = 5;
    if (len - n < 15)
        return 0;
    uint32_t month = month_read(p + n);
    if (month == 0 || p[n + 3] != ' ')
        return 0;
    n += 4;
    /* day: "11", " 1", "01" or (seen in the wild) "1" */
    uint32_t day = 0;
    if (p[n] == ' ')
        n++;
    for (uint32_t i = 0; i < 2 && is_digit(p[n]); i++)
        day = day * 10 + (uint32_t)(p[n++] - '0');
    if (day == 0 || day > 31 || p[n] != ' ')
        return 0;
    n++;
    if (year == 0 && year_read(p + n, len - n, ' ', &year)) /* ASA */
        n += 5;
    int64_t day_ms, frac, local, at = 0;
    if (len - n < 8 || !time_read(p + n, &day_ms))
        return 0;
    n += 8;
    n += fraction_read(p + n, len - n, &frac);
    if (year == 0 && n < len && p[n] == ' ' && year_read(p + n + 1, len - n - 1, 0, &year))
        n += 5; /* Juniper */
    bool is_utc = false;
    n += zone_name_read(p + n, len - n, &is_utc);
    int64_t offset = is_utc ? 0 : (int64_t)zone_offset_s * 1000;
    day_ms += frac;
    local = arrival_ms + offset;
    if (year == 0) {
        if (!nearest_year(month, day, day_ms, local, &at))
            return 0;
    } else {
        if (day > month_days(year, month))
            return 0;
        at = days_from_civil(year, month, day) * DAY_MS + day_ms;
    }
    *ret_ms = at - offset;
    return n;
}

int tstamp_date_time(const uint8_t *date, uint32_t date_len, const uint8_t *time, uint32_t time_len,
                     int32_t zone_offset_s, int64_t *ret_ms)
{
    int64_t days, ms;
    if (date_len != 10 || time_len < 8 || !date_read(date, &days) || !time_read(time, &ms))
        return -1;
    *ret_ms = days * DAY_MS + ms - (int64_t)zone_offset_s * 1000;
    return 0;
}
