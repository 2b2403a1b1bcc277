/* proto.h - what a parser provides: one burst function, dgram[] -> rec[], one record per datagram.
 *
 * No datagram is dropped here: what a parser cannot read becomes a dead letter, a record whose
 * header RH_REASON is set; it goes to <topic>.dlq. A record's views borrow the datagram, the
 * parse_conf, the parse_mem of the burst, or static text. Pure functions, any thread. */
#pragma once
#include "dataplane/flow.h"
#include <stdint.h>

#define INGEST_BURST_MAX 64
#define FULL_LEN_UNKNOWN UINT32_MAX
/* rec.facility and rec.severity when an event has none, or one without a number. */
#define REC_FACILITY_NONE 24
#define REC_SEVERITY_NONE 8
/* A header value longer than this is left out (RFC 5424's longest field is 255). */
#define HEADER_VALUE_MAX 255
/* An event's own time is used within arrival - 7 days .. arrival + 5 minutes. */
#define EVENT_TIME_PAST_MS INT64_C(604800000)
#define EVENT_TIME_FUTURE_MS INT64_C(300000)

/* What a listener tells its parser. */
struct parse_conf {
    struct span listener; /* name, for the header */
    int32_t zone_offset_s;
    uint32_t event_bytes_max;
    bool keep_end;          /* the last byte of an event is data, be it LF or NUL */
    struct span time_field; /* json_burst: member with the event's time; NULL: none */
};

/* Text made for the records of one burst; lives as long as they do. */
struct parse_mem {
    uint8_t full_len[INGEST_BURST_MAX][12];
    uint8_t time[INGEST_BURST_MAX][12];
};

/* @hot. n <= INGEST_BURST_MAX datagrams -> n records in out[], same order. full_len[i] is the
 * event's length before a stream framing cut it (0: not cut, FULL_LEN_UNKNOWN); NULL: none was.
 * Sets key, value, timestamp and every header but RH_SOURCE; source_hash is the caller's too. */
typedef void parse_burst_fn(const struct parse_conf *pc, const struct dgram *dg,
                            const uint32_t *full_len, uint32_t n, struct parse_mem *mem,
                            struct rec *out);

parse_burst_fn syslog_burst;  /* syslog.c: RFC 5424 and RFC 3164, told apart per event */
parse_burst_fn raw_burst;     /* raw.c: bytes as they come */
parse_burst_fn gelf_burst;    /* gelf.c: GELF 1.1, whole and inflated (gelf_input.h does that) */
parse_burst_fn json_burst;    /* jsonl.c: one JSON value */
parse_burst_fn netflow_burst; /* netflow.c: NetFlow v5, v9, IPFIX: one packet, kept as it is */

/* @hot. Value and truncation rules, the same for every parser: one trailing LF or NUL goes, at most
 * event_bytes_max bytes stay. Clears the rest of the record; timestamp = arrival. */
void rec_start(const struct parse_conf *pc, const struct dgram *dg, uint32_t full_len,
               uint8_t mem[12], struct rec *r);

/* Timestamp rule: own time within the bounds, else arrival and header event_time = text as sent. */
static inline void rec_event_time(struct rec *r, int64_t arrival_ms, int64_t ms, struct span text)
{
    if (ms >= arrival_ms - EVENT_TIME_PAST_MS && ms <= arrival_ms + EVENT_TIME_FUTURE_MS)
        r->timestamp_ms = ms;
    else
        r->header[RH_EVENT_TIME] = text;
}
