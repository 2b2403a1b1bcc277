/* syslog3164.c - RFC 3164, "the BSD syslog protocol", in the shapes that devices send it:
 *   Oct 11 22:14:15 host su[123]: text              RFC 3164; rsyslog, Juniper
 *   Oct 11 22:14:15 su[123]: text                   logger, local daemons: no host
 *   2003-10-11T22:14:15.003+02:00 host su: text     rsyslog's own forward format
 *   Oct 11 22:14:15.123 2003 host mgd[1]: text      Juniper with milliseconds and year
 *   29: 3w2d: %SYS-5-X: text        Cisco IOS without a clock: uptime
 *   29: host: *Oct 11 22:14:15.123 UTC: %SYS-5-X: text   Cisco IOS: counter, host, clock state
 *   Oct 11 2003 22:14:15 host : %ASA-6-302013: text      Cisco ASA
 *   : 2003 Oct 11 22:14:15 UTC: %VPC-5-X: text           Cisco NX-OS
 *   date=2003-10-11 time=22:14:15 devname="fw" ...       Fortinet, key=value
 *   su[123]: text                                   no header at all
 * The readers below each take what they know from `at` and move it on. */
#include "dataplane/ingest/syslog.h"
#include "dataplane/ingest/tstamp.h"

#define TAG_MAX 64           /* RFC 3164 says 32; systemd units are longer */
#define FORTINET_KEYS_MAX 24 /* how far into the key=value list we look */

static bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') <= 9;
}
static uint32_t left(const uint8_t *at, const uint8_t *end)
{
    return (uint32_t)(end - at);
}

/* ---- Fortinet */
struct pair {
    struct span key, value;
};

/* Next key=value or key="value"; false at the end or at what is no pair. */
static bool pair_next(const uint8_t **at, const uint8_t *end, struct pair *ret)
{
    const uint8_t *p = *at;
    while (p < end && *p == ' ')
        p++;
    const uint8_t *eq = memchr(p, '=', (size_t)(end - p));
    if (eq == NULL || memchr(p, ' ', (size_t)(eq - p)) != NULL)
        return false;
    const uint8_t *v = eq + 1;
    uint8_t until = ' ';
    if (v < end && *v == '"') {
        until = '"';
        v++;
    }
    const uint8_t *stop = memchr(v, until, (size_t)(end - v));
    if (stop == NULL)
        stop = end;
    ret->key = span_of(p, (uint32_t)(eq - p));
    ret->value = span_of(v, (uint32_t)(stop - v));
    *at = until == '"' && stop < end ? stop + 1 : stop;
    return true;
}

/* "+0200" or "+02:00" -> seconds east; what is none of these leaves *ret_s alone. */
static void zone_read(struct span s, int32_t *ret_s)
{
    uint32_t d[4], n = 0;
    if (s.len < 5 || (s.p[0] != '+' && s.p[0] != '-'))
        return;
    for (uint32_t i = 1; i < s.len && n < 4; i++)
        if (is_digit(s.p[i]))
            d[n++] = (uint32_t)(s.p[i] - '0');
    if (n != 4)
        return;
    int32_t v = (int32_t)((d[0] * 10 + d[1]) * 3600 + (d[2] * 10 + d[3]) * 60);
    *ret_s = s.p[0] == '-' ? -v : v;
}

static void fortinet_parse(const struct parse_conf *pc, const uint8_t *at, const uint8_t *end,
                           int64_t arrival_ms, struct rec *r)
{
    struct span date = SPAN_NULL, time = SPAN_NULL;
    int32_t zone_s = pc->zone_offset_s;
    struct pair kv;
    for (uint32_t i = 0; i < FORTINET_KEYS_MAX && pair_next(&at, end, &kv); i++) {
        if (span_eq_str(kv.key, "date"))
            date = kv.value;
        else if (span_eq_str(kv.key, "time"))
            time = kv.value;
        else if (span_eq_str(kv.key, "tz"))
            zone_read(kv.value, &zone_s);
        else if (span_eq_str(kv.key, "devname"))
            syslog_header(r, RH_HOST, kv.value.p, kv.value.len);
    }
    int64_t ms;
    if (date.p == NULL || time.p <= date.p ||
        tstamp_date_time(date.p, date.len, time.p, time.len, zone_s, &ms) != 0)
        return;
    /* as sent: "2003-10-11 time=22:14:15"; with other keys in between, the day alone */
    bool adjacent = time.p - (date.p + date.len) <= 8;
    rec_event_time(r, arrival_ms, ms,
                   adjacent ? span_of(date.p, (uint32_t)(time.p + 8 - date.p)) : date);
}

/* ---- the header of everybody else */

/* "29: " or ": " before the time: Cisco's message counter. */
static const uint8_t *skip_counter(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = at;
    while (p < end && is_digit(*p))
        p++;
    if (p == end || *p != ':')
        return at;
    p++;
    return p < end && *p == ' ' ? p + 1 : p;
}

/* "3w2d: %" or "00:01:07: %": IOS without a clock sends its uptime, which says nothing. */
static const uint8_t *skip_uptime(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = at;
    if (p == end || !is_digit(*p))
        return at;
    while (p < end && (is_digit(*p) || *p == ':' || (*p >= 'a' && *p <= 'z')))
        p++;
    return end - p >= 2 && p[-1] == ':' && p[0] == ' ' && p[1] == '%' ? p + 1 : at;
}

/* The time, if `at` holds one; moves *at behind it. '*' and '.' are IOS's "clock not synchronised".
 */
static bool time_read(const struct parse_conf *pc, const uint8_t **at, const uint8_t *end,
                      int64_t arrival_ms, struct rec *r)
{
    const uint8_t *p = *at;
    int64_t ms;
    if (p < end && (*p == '*' || *p == '.'))
        p++;
    uint32_t n = tstamp_rfc3164(p, left(p, end), pc->zone_offset_s, arrival_ms, &ms);
    if (n == 0)
        n = tstamp_rfc3339(p, left(p, end), &ms);
    if (n == 0)
        return false;
    rec_event_time(r, arrival_ms, ms, span_of(p, n));
    *at = p + n;
    return true;
}

/* "su[123]:", "su:", "%SYS-5-CONFIG_I:" -> app and procid. A word without colon or bracket is text,
 * not a tag. */
static void tag_read(const uint8_t *at, const uint8_t *end, struct rec *r)
{
    const uint8_t *p = at, *max = end - at > TAG_MAX ? at + TAG_MAX : end;
    while (p < max && *p != ' ' && *p != ':' && *p != '[')
        p++;
    if (p == max || p == at || *p == ' ')
        return;
    const uint8_t *app_end = p;
    if (*p == '[') {
        const uint8_t *pid = p + 1;
        const uint8_t *close = memchr(pid, ']', (size_t)(end - pid));
        if (close == NULL || close - pid > TAG_MAX ||
            memchr(pid, ' ', (size_t)(close - pid)) != NULL)
            return;
        syslog_header(r, RH_PROCID, pid, (uint32_t)(close - pid));
    }
    syslog_header(r, RH_APP, at, (uint32_t)(app_end - at));
}

/* The word behind the time is the host, unless it is a tag already: ends in ':', holds a '['. */
static const uint8_t *host_read(const uint8_t *at, const uint8_t *end, struct rec *r)
{
    const uint8_t *sp = memchr(at, ' ', (size_t)(end - at));
    if (sp == NULL || sp == at)
        return at;
    if (sp[-1] == ':' || memchr(at, '[', (size_t)(sp - at)) != NULL)
        return at;
    syslog_header(r, RH_HOST, at, (uint32_t)(sp - at));
    at = sp + 1;
    if (end - at >= 2 && at[0] == ':' && at[1] == ' ') /* ASA: "host : %ASA" */
        at += 2;
    return at;
}

/* "host: *Oct 11": IOS with `logging origin-id hostname`, the host before the time. */
static bool host_before_time(const struct parse_conf *pc, const uint8_t **at, const uint8_t *end,
                             int64_t arrival_ms, struct rec *r)
{
    const uint8_t *sp = memchr(*at, ' ', (size_t)(end - *at));
    if (sp == NULL || sp - *at < 2 || sp[-1] != ':')
        return false;
    const uint8_t *host = *at, *p = sp + 1;
    if (!time_read(pc, &p, end, arrival_ms, r))
        return false;
    syslog_header(r, RH_HOST, host, (uint32_t)(sp - 1 - host));
    *at = p;
    return true;
}

static void header_parse(const struct parse_conf *pc, const uint8_t *at, const uint8_t *end,
                         int64_t arrival_ms, struct rec *r)
{
    const uint8_t *p = skip_counter(at, end);
    bool host_known = false;
    if (!time_read(pc, &p, end, arrival_ms, r)) {
        if (!host_before_time(pc, &p, end, arrival_ms, r)) {
            tag_read(skip_uptime(p, end), end, r); /* no time: at most a tag */
            return;
        }
        host_known = true;
    }
    bool colon = p < end && *p == ':'; /* Cisco: the time ends in a colon, no host follows */
    if (colon)
        p++;
    if (p < end && *p == ' ')
        p++;
    if (!colon && !host_known)
        p = host_read(p, end, r);
    tag_read(p, end, r);
}

void syslog3164_parse(const struct parse_conf *pc, const uint8_t *at, const uint8_t *end,
                      int64_t arrival_ms, struct rec *r)
{
    if (end - at > 5 && memcmp(at, "date=", 5) == 0)
        fortinet_parse(pc, at, end, arrival_ms, r);
    else
        header_parse(pc, at, end, arrival_ms, r);
    uint8_t high = 0; /* headers must be text; nearly always plain ASCII */
    for (int h = RH_HOST; h <= RH_MSGID; h++)
        for (uint32_t i = 0; i < r->header[h].len; i++)
            high |= r->header[h].p[i];
    if (high & 0x80)
        syslog_headers_check_text(r);
}
