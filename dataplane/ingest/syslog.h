/* syslog.h - the two syslog parsers, as syslog.c calls them; records and views as in proto.h.
 *
 * Both get the record with value and PRI headers set and `at`, the first byte behind the PRI.
 * Header values: facility and severity are keywords ("local0", "err"; the list is in syslog.c),
 * the others are the sender's bytes, left out when "-", empty, longer than HEADER_VALUE_MAX or not
 * UTF-8. Pure functions, any thread. */
#pragma once
#include "dataplane/ingest/proto.h"
#include <stdbool.h>

/* The keywords by number. */
extern const struct span syslog_facility_name[REC_FACILITY_NONE];
extern const struct span syslog_severity_name[REC_SEVERITY_NONE];

/* @hot. false: not RFC 5424 (nothing set). Loose: a bad timestamp or missing fields are unknown. */
bool syslog5424_parse(const uint8_t *at, const uint8_t *end, int64_t arrival_ms, struct rec *r);
/* @hot. RFC 3164 in the shapes that devices send; never fails, at worst nothing is known. */
void syslog3164_parse(const struct parse_conf *pc, const uint8_t *at, const uint8_t *end,
                      int64_t arrival_ms, struct rec *r);

/* Sets a header unless the value counts as unknown; does not look at UTF-8. */
static inline void syslog_header(struct rec *r, enum rec_header h, const uint8_t *p, uint32_t len)
{
    bool known = len != 0 && len <= HEADER_VALUE_MAX && !(len == 1 && *p == '-');
    r->header[h] = known ? span_of(p, len) : SPAN_NULL;
}
/* Removes host, app, procid and msgid that are not UTF-8. */
void syslog_headers_check_text(struct rec *r);

/* Where the spaces (bit i: p[i] == ' ') and the bytes above 127 are in the next 64 bytes; bytes at
 * `avail` and beyond are neither. */
struct byte_map {
    uint64_t spaces, high;
};
struct byte_map byte_map_64(const uint8_t *p, uint64_t avail);
struct byte_map byte_map_64_scalar(const uint8_t *p, uint64_t avail); /* the twin, for tests */
