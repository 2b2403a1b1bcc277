/* netflow.c - see netflow.h. A packet is one event and stays as it is; its time is the export time,
 * which event_time repeats in seconds when it is out of bounds. */
#include "dataplane/ingest/netflow.h"
#include "dataplane/ingest/proto.h"
#include "lib/base/assert.h"
#include <stdio.h>

enum { V5_HEADER = 24, V5_RECORD = 48, V9_HEADER = 20, IPFIX_HEADER = 16, SET_HEADER = 4 };

static const char bad_length[] = "NetFlow length";

static const char *v5_read(struct span b, struct netflow_header *h)
{
    if (b.len < V5_HEADER)
        return bad_length;
    h->count = load_be16(b.p + 2);
    h->unix_s = load_be32(b.p + 8);
    h->unix_ns = load_be32(b.p + 12);
    h->sequence = load_be32(b.p + 16);
    h->domain = load_be16(b.p + 20);
    return h->count > 0 && b.len == V5_HEADER + (uint32_t)h->count * V5_RECORD ? NULL : bad_length;
}

static const char *v9_read(struct span b, struct netflow_header *h)
{
    if (b.len < V9_HEADER)
        return bad_length;
    h->unix_s = load_be32(b.p + 8);
    h->sequence = load_be32(b.p + 12);
    h->domain = load_be32(b.p + 16);
    h->sets = span_of(b.p + V9_HEADER, b.len - V9_HEADER);
    return NULL;
}

static const char *ipfix_read(struct span b, struct netflow_header *h)
{
    if (b.len < IPFIX_HEADER || load_be16(b.p + 2) != b.len)
        return bad_length;
    h->unix_s = load_be32(b.p + 4);
    h->sequence = load_be32(b.p + 8);
    h->domain = load_be32(b.p + 12);
    h->sets = span_of(b.p + IPFIX_HEADER, b.len - IPFIX_HEADER);
    return NULL;
}

bool netflow_set_next(struct span *sets, struct netflow_set *ret)
{
    if (sets->len < SET_HEADER)
        return false;
    uint32_t len = load_be16(sets->p + 2);
    if (len < SET_HEADER || len > sets->len)
        return false;
    ret->id = load_be16(sets->p);
    ret->content = span_of(sets->p + SET_HEADER, len - SET_HEADER);
    *sets = span_of(sets->p + len, sets->len - len);
    return true;
}

const char *netflow_header_read(struct span packet, struct netflow_header *ret)
{
    struct netflow_header h = {0};
    struct netflow_set set;
    const char *why;
    if (packet.len == 0)
        return "empty";
    if (packet.len < 2)
        return bad_length;
    h.version = load_be16(packet.p);
    switch (h.version) {
    case 5:
        why = v5_read(packet, &h);
        break;
    case 9:
        why = v9_read(packet, &h);
        break;
    case 10:
        why = ipfix_read(packet, &h);
        break;
    default:
        why = "NetFlow version";
    }
    if (why != NULL)
        return why;
    struct span left = h.sets;
    while (netflow_set_next(&left, &set))
        ;
    if (left.len > 0)
        return bad_length;
    *ret = h;
    return NULL;
}

static void event_parse(int64_t arrival_ms, uint8_t text[12], struct rec *r)
{
    struct netflow_header h;
    const char *why = netflow_header_read(r->value, &h);
    if (why != NULL) {
        r->header[RH_REASON] = span_str(why);
        return;
    }
    int n = snprintf((char *)text, 12, "%u", h.unix_s);
    rec_event_time(r, arrival_ms, (int64_t)h.unix_s * 1000 + h.unix_ns / 1000000,
                   span_of(text, (uint32_t)n));
}

void netflow_burst(const struct parse_conf *pc, const struct dgram *dg, const uint32_t *full_len,
                   uint32_t n, struct parse_mem *mem, struct rec *out)
{
    DASSERT(n <= INGEST_BURST_MAX);
    for (uint32_t i = 0; i < n; i++) {
        rec_start(pc, &dg[i], full_len != NULL ? full_len[i] : 0, mem->full_len[i], &out[i]);
        event_parse(dg[i].arrival_ms, mem->time[i], &out[i]);
    }
}
