/* gelf.c - GELF 1.1, one whole message of plain JSON to a record:
 *     {"version":"1.1","host":"h","short_message":"text","timestamp":1385053862.3072,"level":1}
 * `host`, `level` (0 to 7) and the old `facility` become headers, `timestamp` the record's own. As
 * GELF asks, host and short_message must be there; the rest may be missing or wrong. Of members
 * that come twice the last one counts, as in most readers of JSON. */
#include "dataplane/ingest/gelf.h"
#include "dataplane/ingest/json_scan.h"
#include "dataplane/ingest/syslog.h"
#include "dataplane/ingest/utf8.h"
#include "lib/base/assert.h"

struct gelf_fields {
    struct json_value host, short_message, timestamp, level, facility;
};

static void field_note(struct gelf_fields *f, const struct json_value *key,
                       const struct json_value *value)
{
    if (span_eq_str(key->text, "host"))
        f->host = *value;
    else if (span_eq_str(key->text, "short_message"))
        f->short_message = *value;
    else if (span_eq_str(key->text, "timestamp"))
        f->timestamp = *value;
    else if (span_eq_str(key->text, "level"))
        f->level = *value;
    else if (span_eq_str(key->text, "facility"))
        f->facility = *value;
}

static bool is_text(const struct json_value *v)
{
    return v->text.p != NULL && v->type == JSON_STRING && v->text.len > 0;
}

/* A header is the sender's bytes: a string that was written with escapes is left out. */
static void header_set(struct rec *r, enum rec_header h, const struct json_value *v)
{
    if (!is_text(v) || v->escaped)
        return;
    syslog_header(r, h, v->text.p, v->text.len);
    if (r->header[h].p != NULL && !utf8_is_valid(v->text.p, v->text.len))
        r->header[h] = SPAN_NULL;
}

/* A number, or, as some senders have it, the same in a string. */
static void level_set(struct rec *r, const struct json_value *v)
{
    bool digit = v->text.p != NULL && (v->type == JSON_NUMBER || v->type == JSON_STRING) &&
                 v->text.len == 1 && (uint8_t)(v->text.p[0] - '0') < REC_SEVERITY_NONE;
    if (!digit)
        return;
    r->severity = (uint8_t)(v->text.p[0] - '0');
    r->header[RH_SEVERITY] = syslog_severity_name[r->severity];
}

static void facility_set(struct rec *r, const struct json_value *v)
{
    header_set(r, RH_FACILITY, v);
    for (uint8_t i = 0; r->header[RH_FACILITY].p != NULL && i < REC_FACILITY_NONE; i++)
        if (span_eq(r->header[RH_FACILITY], syslog_facility_name[i]))
            r->facility = i;
}

static void event_parse(int64_t arrival_ms, struct rec *r)
{
    struct gelf_fields f = {0};
    struct json_scan s;
    struct json_value key, value;
    int rc = json_object_begin(&s, r->value);
    while (rc == 0 && (rc = json_object_next(&s, &key, &value)) == 1) {
        field_note(&f, &key, &value);
        rc = 0;
    }
    bool cut = rc == JSON_CUT && r->header[RH_TRUNCATED].p != NULL; /* by us: what is left counts */
    const char *why = NULL;
    if (r->value.len == 0)
        why = "empty";
    else if (gelf_compression(r->value) != GELF_PLAIN)
        why = "damaged compression";
    else if (rc != 0 && !cut)
        why = "not a JSON object";
    else if (!is_text(&f.host) && !cut)
        why = "no host";
    else if (!is_text(&f.short_message) && !cut)
        why = "no short_message";
    if (why != NULL) {
        r->header[RH_REASON] = span_str(why);
        return;
    }
    int64_t ms;
    header_set(r, RH_HOST, &f.host);
    level_set(r, &f.level);
    facility_set(r, &f.facility);
    bool has_time = f.timestamp.text.p != NULL &&
                    (f.timestamp.type == JSON_NUMBER || f.timestamp.type == JSON_STRING);
    if (has_time && json_number_milli(f.timestamp.text, &ms))
        rec_event_time(r, arrival_ms, ms, f.timestamp.text);
}

void gelf_burst(const struct parse_conf *pc, const struct dgram *dg, const uint32_t *full_len,
                uint32_t n, struct parse_mem *mem, struct rec *out)
{
    struct parse_conf binary = *pc; /* of compressed data no byte is a delimiter */
    binary.keep_end = true;
    DASSERT(n <= INGEST_BURST_MAX);
    for (uint32_t i = 0; i < n; i++) {
        bool plain = gelf_compression(dg[i].bytes) == GELF_PLAIN;
        rec_start(plain ? pc : &binary, &dg[i], full_len != NULL ? full_len[i] : 0,
                  mem->full_len[i], &out[i]);
        event_parse(dg[i].arrival_ms, &out[i]);
    }
}
