/* build.c - encodes records (layout.h) behind the place of the header.
 *
 * Two passes over a record: the lengths first, because a record starts with its own length as a
 * varint; then the bytes, without checks. Header names are written from a constant table, already
 * in wire form (one length byte, the name) and padded so that a name is one 16-byte store. */
#include "lib/batch/build.h"
#include "lib/base/assert.h"
#include "lib/base/varint.h"
#include "lib/batch/layout.h"

enum { NAME_PAD = 16 }; /* bytes a name's store may touch */

/* enum rec_header, name, twice its length in octal: the one list. */
#define REC_HEADERS(H)                                                                             \
    H(RH_SOURCE, "source", "\14")                                                                  \
    H(RH_FACILITY, "facility", "\20")                                                              \
    H(RH_SEVERITY, "severity", "\20")                                                              \
    H(RH_HOST, "host", "\10")                                                                      \
    H(RH_APP, "app", "\6")                                                                         \
    H(RH_PROCID, "procid", "\14")                                                                  \
    H(RH_MSGID, "msgid", "\12")                                                                    \
    H(RH_LISTENER, "listener", "\20")                                                              \
    H(RH_EVENT_TIME, "event_time", "\24")                                                          \
    H(RH_TRUNCATED, "truncated", "\22")                                                            \
    H(RH_REASON, "reason", "\14")

const struct span rec_header_name[RH_CNT] = {
#define H(id, name, len) [id] = {(const uint8_t *)(name), sizeof(name) - 1},
    REC_HEADERS(H)
#undef H
};

/* The name in wire form: its length as a zig-zag varint of one byte, then its bytes. */
static const char wire_name[RH_CNT][NAME_PAD] = {
#define H(id, name, len) [id] = len name,
    REC_HEADERS(H)
#undef H
};

#define H(id, name, len) static_assert(sizeof(len name) <= NAME_PAD, "a name is one store");
REC_HEADERS(H)
#undef H

static inline uint32_t wire_name_len(uint32_t h)
{
    return rec_header_name[h].len + 1;
}

void batch_builder_init(struct batch_builder *b, uint8_t *buf, uint32_t cap)
{
    ASSERT(cap >= BATCH_HEADER_LEN);
    *b = (struct batch_builder){.buf = buf, .cap = cap, .len = BATCH_HEADER_LEN};
}

/* What the first pass finds out about a record. */
struct rec_shape {
    uint64_t body_len; /* everything behind the length varint */
    uint64_t ts_delta; /* zig-zag */
    uint32_t header_cnt;
};

static inline uint32_t bytes_len(struct span s)
{
    return s.p == NULL ? 1 : (uint32_t)uvarlong_len((uint64_t)s.len << 1);
}

static inline struct rec_shape shape_of(const struct batch_builder *b, const struct rec *r)
{
    struct rec_shape s = {0};
    int64_t base = b->record_cnt == 0 ? r->timestamp_ms : b->base_timestamp;
    s.ts_delta = zigzag64((int64_t)((uint64_t)r->timestamp_ms - (uint64_t)base));
    s.body_len = 2 /* attributes, header count: fewer than 64 */
                 + (uint64_t)uvarlong_len(s.ts_delta) + (uint64_t)varint_len(b->record_cnt) +
                 bytes_len(r->key) + (r->key.p != NULL ? r->key.len : 0) + bytes_len(r->value) +
                 (r->value.p != NULL ? r->value.len : 0);
    for (uint32_t h = 0; h < RH_CNT; h++) {
        if (r->header[h].p == NULL)
            continue;
        s.header_cnt++;
        s.body_len += wire_name_len(h) + bytes_len(r->header[h]) + (uint64_t)r->header[h].len;
    }
    return s;
}
static_assert(RH_CNT < 64, "the header count is a varint of one byte");

uint32_t batch_record_size(const struct batch_builder *b, const struct rec *r)
{
    struct rec_shape s = shape_of(b, r);
    return s.body_len > INT32_MAX
               ? UINT32_MAX
               : (uint32_t)(s.body_len + (uint64_t)varint_len((int32_t)s.body_len));
}

/* memcpy without the call for short texts, which most headers are: two overlapping moves. Reads and
 * writes exactly [0, len). */
static inline uint8_t *put_bytes(uint8_t *to, const uint8_t *from, uint32_t len)
{
    if (len > 16) {
        memcpy(to, from, len);
    } else if (len >= 8) {
        uint64_t head, tail;
        memcpy(&head, from, 8);
        memcpy(&tail, from + len - 8, 8);
        memcpy(to, &head, 8);
        memcpy(to + len - 8, &tail, 8);
    } else if (len >= 4) {
        uint32_t head, tail;
        memcpy(&head, from, 4);
        memcpy(&tail, from + len - 4, 4);
        memcpy(to, &head, 4);
        memcpy(to + len - 4, &tail, 4);
    } else if (len > 0) {
        to[0] = from[0];
        to[len / 2] = from[len / 2];
        to[len - 1] = from[len - 1];
    }
    return to + len;
}

/* Nullable bytes: varint length, or -1, and the bytes. */
static inline uint8_t *put_span(uint8_t *to, struct span s)
{
    if (s.p == NULL) {
        *to = 1; /* zig-zag of -1 */
        return to + 1;
    }
    to += uvarint_put(to, s.len << 1);
    return put_bytes(to, s.p, s.len);
}

/* @hot */
int batch_builder_add(struct batch_builder *b, const struct rec *r)
{
    struct rec_shape s = shape_of(b, r);
    if (s.body_len > INT32_MAX || b->record_cnt == INT32_MAX)
        return -E_LIMIT;
    uint64_t total = s.body_len + (uint64_t)varint_len((int32_t)s.body_len);
    if (total > b->cap - b->len)
        return -E_LIMIT;

    uint8_t *p = b->buf + b->len;
    const uint8_t *cap_end = b->buf + b->cap;
    if (b->record_cnt == 0)
        b->base_timestamp = b->max_timestamp = r->timestamp_ms;
    else if (r->timestamp_ms > b->max_timestamp)
        b->max_timestamp = r->timestamp_ms;

    p += varint_put(p, (int32_t)s.body_len);
    *p++ = 0; /* attributes */
    p += uvarlong_put(p, s.ts_delta);
    p += varint_put(p, b->record_cnt);
    p = put_span(p, r->key);
    p = put_span(p, r->value);
    *p++ = (uint8_t)(s.header_cnt << 1);
    for (uint32_t h = 0; h < RH_CNT; h++) {
        if (r->header[h].p == NULL)
            continue;
        /* One store for any name; what it writes past the name is overwritten or unused. */
        if (likely(cap_end - p >= NAME_PAD))
            memcpy(p, wire_name[h], NAME_PAD);
        else
            memcpy(p, wire_name[h], wire_name_len(h));
        p += wire_name_len(h);
        p = put_span(p, r->header[h]);
    }
    DASSERT(p == b->buf + b->len + total);
    b->len += (uint32_t)total;
    b->record_cnt++;
    return 0;
}
