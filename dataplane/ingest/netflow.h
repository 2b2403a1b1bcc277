/* netflow.h - the headers of export packets, as far as ingest looks at them (multi-byte fields in
 * network order):
 *   v5     version 5, count, SysUptime, unix_secs, unix_nsecs, flow_sequence, engine_type,
 *          engine_id, sampling: 24 bytes, then count records of 48
 *   v9     version 9, count, SysUptime, unix_secs, package_sequence, source_id: 20 bytes (RFC 3954)
 *   IPFIX  version 10, length, export time, sequence, observation domain: 16 bytes (RFC 7011)
 * behind the latter two, sets: id, length (with these 4 bytes), content. Pure functions. */
#pragma once
#include "lib/base/span.h"
#include <stdbool.h>

struct netflow_header {
    uint16_t version;  /* 5, 9 or 10 */
    uint16_t count;    /* v5: records */
    uint32_t unix_s;   /* when the packet was sent */
    uint32_t unix_ns;  /* v5 */
    uint32_t sequence; /* v5: of the first flow; v9: of the packet; IPFIX: of the first record */
    uint32_t domain;   /* v5: engine; v9: source id; IPFIX: observation domain */
    struct span sets;  /* v9 and IPFIX */
};
struct netflow_set {
    uint16_t id;
    struct span content;
};

/* NULL, or why the packet is none of these, in words; then *ret is not written. Checked are the
 * version and that all lengths fit. */
const char *netflow_header_read(struct span packet, struct netflow_header *ret);
/* The next set; false at the end. *sets is what is left, from netflow_header.sets. */
bool netflow_set_next(struct span *sets, struct netflow_set *ret);
