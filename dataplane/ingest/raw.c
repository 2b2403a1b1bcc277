/* raw.c - what every parser does with an event's bytes, and the parser that does no more. */
#include "dataplane/ingest/proto.h"
#include "lib/base/assert.h"
#include <stdio.h>

/* Out of line: rare. */
__attribute__((noinline, cold)) static void mark_truncated(uint32_t full_len, uint8_t mem[12],
                                                           struct rec *r)
{
    if (full_len == FULL_LEN_UNKNOWN) {
        r->header[RH_TRUNCATED] = span_str("unknown");
        return;
    }
    int n = snprintf((char *)mem, 12, "%u", full_len);
    r->header[RH_TRUNCATED] = span_of(mem, (uint32_t)n);
}

void rec_start(const struct parse_conf *pc, const struct dgram *dg, uint32_t full_len,
               uint8_t mem[12], struct rec *r)
{
    struct span v = dg->bytes;
    memset(r, 0, sizeof(*r));
    if (v.p == NULL) /* an empty datagram is an empty value, not a null one */
        v.p = (const uint8_t *)"";
    if (unlikely(dg->truncated) && full_len == 0) /* by the receive buffer */
        full_len = FULL_LEN_UNKNOWN;
    if (full_len == 0 && !pc->keep_end && v.len > 0 &&
        (v.p[v.len - 1] == '\n' || v.p[v.len - 1] == '\0'))
        v.len--;
    if (unlikely(v.len > pc->event_bytes_max)) {
        full_len = full_len == 0 ? v.len : full_len;
        v.len = pc->event_bytes_max;
    }
    r->value = v;
    r->timestamp_ms = dg->arrival_ms;
    r->facility = REC_FACILITY_NONE;
    r->severity = REC_SEVERITY_NONE;
    r->header[RH_LISTENER] = pc->listener;
    if (unlikely(full_len != 0))
        mark_truncated(full_len, mem, r);
}

void raw_burst(const struct parse_conf *pc, const struct dgram *dg, const uint32_t *full_len,
               uint32_t n, struct parse_mem *mem, struct rec *out)
{
    DASSERT(n <= INGEST_BURST_MAX);
    for (uint32_t i = 0; i < n; i++)
        rec_start(pc, &dg[i], full_len != NULL ? full_len[i] : 0, mem->full_len[i], &out[i]);
}
