/* syslog5424.c - RFC 5424:  <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG
 * Only the header is read; structured data and message stay in the value. */
#include "dataplane/ingest/syslog.h"
#include "dataplane/ingest/tstamp.h"
#include "lib/base/assert.h"

enum { FIELD_CNT = 4 };
static const enum rec_header field[FIELD_CNT] = {RH_HOST, RH_APP, RH_PROCID, RH_MSGID};

/* Fields longer than the map can see, one by one. `from` is the start of field k. */
__attribute__((noinline)) static void fields_slow(const uint8_t *from, const uint8_t *end,
                                                  uint32_t k, struct rec *r)
{
    for (; k < FIELD_CNT && from < end; k++) {
        const uint8_t *sp = memchr(from, ' ', (size_t)(end - from));
        const uint8_t *to = sp != NULL ? sp : end;
        syslog_header(r, field[k], from, (uint32_t)(to - from));
        from = to + 1;
    }
    syslog_headers_check_text(r);
}

/* HOSTNAME to MSGID, separated by single spaces. The 64 bytes behind the timestamp nearly always
 * hold all four, so their spaces are found at once. */
static inline void fields_read(const uint8_t *p, const uint8_t *end, struct rec *r)
{
    struct byte_map m = byte_map_64(p, (uint64_t)(end - p));
    const uint8_t *from = p;
    for (uint32_t k = 0; k < FIELD_CNT; k++) {
        if (unlikely(m.spaces == 0)) {
            fields_slow(from, end, k, r);
            return;
        }
        const uint8_t *to = p + __builtin_ctzll(m.spaces);
        m.spaces &= m.spaces - 1;
        syslog_header(r, field[k], from, (uint32_t)(to - from));
        from = to + 1;
    }
    if (unlikely(m.high != 0))
        syslog_headers_check_text(r);
}

/* "2003-": four digits and a dash, what every RFC 3339 time starts with. */
static inline bool looks_like_date(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 5 || p[4] != '-')
        return false;
    uint32_t bad = 0;
    for (int i = 0; i < 4; i++)
        bad |= (uint8_t)(p[i] - '0') > 9;
    return bad == 0;
}

bool syslog5424_parse(const uint8_t *at, const uint8_t *end, int64_t arrival_ms, struct rec *r)
{
    if (end - at < 3 || at[0] != '1' || at[1] != ' ')
        return false;
    const uint8_t *p = at + 2;
    if (*p == '-' && (p + 1 == end || p[1] == ' ')) {
        p++;
    } else {
        int64_t ms;
        uint32_t n = tstamp_rfc3339(p, (uint32_t)(end - p), &ms);
        if (likely(n != 0 && (p + n == end || p[n] == ' '))) {
            rec_event_time(r, arrival_ms, ms, span_of(p, n));
            p += n;
        } else if (looks_like_date(p, end)) {
            const uint8_t *sp = memchr(p, ' ', (size_t)(end - p)); /* unknown time, go on */
            p = sp != NULL ? sp : end;
        } else {
            return false;
        }
    }
    if (p < end)
        fields_read(p + 1, end, r);
    return true;
}
