/* syslog.c - "<PRI>" and which of the two RFCs follows. Anything starting with a valid PRI parses,
 * loosely if need be; anything else is a dead letter. */
#include "dataplane/ingest/syslog.h"
#include "dataplane/ingest/utf8.h"
#include "lib/base/assert.h"
#include <emmintrin.h>

#define PRI_MAX 191 /* facility 23, severity 7 */

#define S(text)                                                                                    \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }
const struct span syslog_facility_name[REC_FACILITY_NONE] = {
#define SYSLOG_FACILITY(name) S(name),
#include "lib/iface/syslog_names.def"
};
const struct span syslog_severity_name[REC_SEVERITY_NONE] = {
#define SYSLOG_SEVERITY(name) S(name),
#include "lib/iface/syslog_names.def"
};
#undef S

struct byte_map byte_map_64_scalar(const uint8_t *p, uint64_t avail)
{
    struct byte_map m = {0, 0};
    for (uint32_t i = 0; i < 64 && i < avail; i++) {
        m.spaces |= (uint64_t)(p[i] == ' ') << i;
        m.high |= (uint64_t)(p[i] >> 7) << i;
    }
    return m;
}

struct byte_map byte_map_64(const uint8_t *p, uint64_t avail)
{
    uint8_t buf[64] = {0};
    struct byte_map m = {0, 0};
    if (avail < 64) {
        memcpy(buf, p, avail);
        p = buf;
    }
    const __m128i space = _mm_set1_epi8(' ');
    for (uint32_t i = 0; i < 4; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        m.spaces |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, space)) << (16 * i);
        m.high |= (uint64_t)(uint32_t)_mm_movemask_epi8(v) << (16 * i);
    }
    return m;
}

__attribute__((noinline, cold)) void syslog_headers_check_text(struct rec *r)
{
    for (int h = RH_HOST; h <= RH_MSGID; h++)
        if (r->header[h].p != NULL && !utf8_is_valid(r->header[h].p, r->header[h].len))
            r->header[h] = SPAN_NULL;
}

/* "<34>" -> bytes used; 0: no PRI (*ret_why says it in words). Leading zeros are let through. */
static inline uint32_t pri_read(struct span v, uint32_t *ret_pri, const char **ret_why)
{
    uint32_t pri = 0, i = 1;
    if (v.len == 0) {
        *ret_why = "empty";
        return 0;
    }
    while (i < 4 && i < v.len && (uint8_t)(v.p[i] - '0') <= 9)
        pri = pri * 10 + (uint32_t)(v.p[i++] - '0');
    if (v.p[0] != '<' || i == 1 || i >= v.len || v.p[i] != '>') {
        *ret_why = "no PRI";
        return 0;
    }
    if (pri > PRI_MAX) {
        *ret_why = "PRI out of range";
        return 0;
    }
    *ret_pri = pri;
    return i + 1;
}

/* A dead letter has headers source, listener and reason only (and truncated, when it was cut). */
static inline void event_parse(const struct parse_conf *pc, int64_t arrival_ms, struct rec *r)
{
    uint32_t pri = 0;
    const char *why;
    uint32_t n = pri_read(r->value, &pri, &why);
    if (unlikely(n == 0)) {
        r->header[RH_REASON] = span_str(why);
        return;
    }
    r->facility = (uint8_t)(pri >> 3);
    r->severity = (uint8_t)(pri & 7);
    r->header[RH_FACILITY] = syslog_facility_name[pri >> 3];
    r->header[RH_SEVERITY] = syslog_severity_name[pri & 7];
    const uint8_t *at = r->value.p + n, *end = r->value.p + r->value.len;
    if (!syslog5424_parse(at, end, arrival_ms, r))
        syslog3164_parse(pc, at, end, arrival_ms, r);
}

/* @hot */
void syslog_burst(const struct parse_conf *pc, const struct dgram *dg, const uint32_t *full_len,
                  uint32_t n, struct parse_mem *mem, struct rec *out)
{
    DASSERT(n <= INGEST_BURST_MAX);
    for (uint32_t i = 0; i < n; i++) { /* start every cache miss: PRI, and the end for the LF */
        __builtin_prefetch(dg[i].bytes.p);
        __builtin_prefetch(dg[i].bytes.p + 64);
        __builtin_prefetch(dg[i].bytes.p + dg[i].bytes.len);
    }
    for (uint32_t i = 0; i < n; i++)
        rec_start(pc, &dg[i], full_len != NULL ? full_len[i] : 0, mem->full_len[i], &out[i]);
    for (uint32_t i = 0; i < n; i++)
        event_parse(pc, dg[i].arrival_ms, &out[i]);
}
