/* jsonl.c - one JSON value per datagram or line. It is checked to be one, and looked into only for
 * the member that the listener names as the event's time. */
#include "dataplane/ingest/json_scan.h"
#include "dataplane/ingest/proto.h"
#include "dataplane/ingest/tstamp.h"
#include "lib/base/assert.h"

#define MILLIS_FROM INT64_C(100000000000) /* as seconds: the year 5138 */

/* An RFC 3339 string; a number of seconds, or of milliseconds when it is that large. */
static bool time_read(const struct json_value *v, int64_t *ret_ms)
{
    if (v->type == JSON_STRING)
        return v->text.len > 0 && tstamp_rfc3339(v->text.p, v->text.len, ret_ms) == v->text.len;
    int64_t milli;
    if (v->type != JSON_NUMBER || !json_number_milli(v->text, &milli))
        return false;
    *ret_ms = milli / 1000 >= MILLIS_FROM ? milli / 1000 : milli;
    return true;
}

/* As json_check, and the time on the way; a value that is no object has none. */
static int members_read(struct span field, int64_t arrival_ms, struct rec *r)
{
    struct json_scan s;
    struct json_value key, value, time = {.text = SPAN_NULL};
    int64_t ms;
    int rc = json_object_begin(&s, r->value);
    if (rc == JSON_BAD)
        return json_check(r->value);
    while (rc == 0 && (rc = json_object_next(&s, &key, &value)) == 1) {
        if (span_eq(key.text, field))
            time = value;
        rc = 0;
    }
    if (rc != JSON_BAD && time.text.p != NULL && time_read(&time, &ms))
        rec_event_time(r, arrival_ms, ms, time.text);
    return rc;
}

static void event_parse(const struct parse_conf *pc, int64_t arrival_ms, struct rec *r)
{
    if (r->value.len == 0) {
        r->header[RH_REASON] = span_str("empty");
        return;
    }
    int rc =
        pc->time_field.len > 0 ? members_read(pc->time_field, arrival_ms, r) : json_check(r->value);
    if (rc == 0 || (rc == JSON_CUT && r->header[RH_TRUNCATED].p != NULL))
        return;
    r->timestamp_ms = arrival_ms; /* a dead letter has no time of its own */
    r->header[RH_EVENT_TIME] = SPAN_NULL;
    r->header[RH_REASON] = span_str("not JSON");
}

void json_burst(const struct parse_conf *pc, const struct dgram *dg, const uint32_t *full_len,
                uint32_t n, struct parse_mem *mem, struct rec *out)
{
    DASSERT(n <= INGEST_BURST_MAX);
    for (uint32_t i = 0; i < n; i++) {
        rec_start(pc, &dg[i], full_len != NULL ? full_len[i] : 0, mem->full_len[i], &out[i]);
        event_parse(pc, dg[i].arrival_ms, &out[i]);
    }
}
