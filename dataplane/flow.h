/* flow.h - the types that travel between stages of the dataplane:
 *
 *     dgram -> rec -> open batch -> sealed -> extent -> slice
 *
 * Each is a view: who owns the bytes is said beside each type. Plain data, no functions beyond
 * trivial ones, so that parsers, the log and the protocol can be tested without each other. */
#pragma once
#include "lib/base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* An IP endpoint. IPv4 is stored v4-mapped (::ffff:a.b.c.d) so that one compare and one hash serve
 * both families. port in host order. */
struct net_addr {
    uint8_t ip[16];
    uint16_t port;
};

/* One datagram, or one frame cut from a byte stream, on its way to a parser. `bytes` live in a
 * receive buffer until the end of the turn; a parser that keeps them copies them. */
struct dgram {
    struct span bytes;
    struct net_addr peer;
    int64_t arrival_ms; /* wall clock of the turn */
    bool truncated;     /* longer than the receive buffer: `bytes` are its beginning */
};

/* Headers of an ingested record, in the order in which they are written. Absent when p == NULL. */
enum rec_header {
    RH_SOURCE,
    RH_FACILITY,
    RH_SEVERITY,
    RH_HOST,
    RH_APP,
    RH_PROCID,
    RH_MSGID,
    RH_LISTENER,
    RH_EVENT_TIME, /* the event's own time when it was outside the bounds */
    RH_TRUNCATED,
    RH_REASON, /* dead letters only */
    RH_CNT
};

/* One event between parser and batch. All views; they borrow the dgram (or static text) until the
 * end of the turn. */
struct rec {
    struct span key; /* p == NULL: null key */
    struct span value;
    int64_t timestamp_ms;
    uint32_t source_hash; /* hash of the source address: the order unit */
    uint8_t facility;     /* numbers of RFC 5424, for routing; 24 and 8: none */
    uint8_t severity;
    struct span header[RH_CNT];
};
/* "source", "facility", ... by enum rec_header; defined in lib/batch/build.c. */
extern const struct span rec_header_name[RH_CNT];

/* One finished RecordBatch v2 with base offset 0. The owner is whoever holds the struct; see the
 * function that hands it over. */
struct sealed {
    uint8_t *bytes;
    uint32_t len;
    uint32_t record_cnt;
    int64_t max_timestamp_ms;
};

/* Where a batch came to rest. */
struct extent {
    int64_t base_offset, last_offset;
    int64_t segment_base;
    uint32_t pos, len; /* in the segment file */
};

/* FNV-1a-free, stable hash of a source address (64-bit mix of the 16 bytes, port excluded). Stable
 * across restarts and versions: partition choice depends on it. */
static inline uint32_t source_hash(const struct net_addr *a)
{
    uint64_t hi, lo;
    memcpy(&hi, a->ip, 8);
    memcpy(&lo, a->ip + 8, 8);
    uint64_t x = hi * UINT64_C(0x9E3779B97F4A7C15) ^ lo;
    x ^= x >> 32;
    x *= UINT64_C(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    x *= UINT64_C(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    return (uint32_t)x;
}
