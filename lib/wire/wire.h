/* wire.h - Kafka's encoding: a bounded reader, a bounded writer, request and response headers.
 *
 * The messages themselves are generated from the definitions in schema/ into wire_gen.h
 * (structs, x_init, x_read, x_size, x_write) and the API table wire_apis. For a message `x` with
 * versions min..max:
 *
 *   void   x_init(struct x *m)                       every field gets the schema's default
 *   int    x_read(r, version, arena, struct x *out)  init, then decode; 0 or
 *            -E_TRUNCATED            the bytes end early, or a count promises more than is there
 *            -E_MALFORMED            null where it may not be, a bad varint, a tag of wrong size
 *            -E_LIMIT                a schema maximum or the arena's bytes_max would be passed
 *            -E_UNSUPPORTED_VERSION  version outside min..max
 *          all of them mean: this connection cannot be understood any further. *out is then only
 *          partly filled. Bytes after the message are left in the reader, unread.
 *   size_t x_size(const struct x *m, version)        exact encoded bytes
 *   void   x_write(w, version, const struct x *m)    ASSERTs the version; errors stick in w->err
 *
 * Rules of encoding (KIP-482): a field absent in a version is not written, whatever its value, and
 * reads as its default. A tagged field equal to its default is not written. Unknown tags are
 * skipped, tag order and repeats are not checked (the last one wins), a null nullable struct is
 * int8 -1 (in a tagged field: uvarint 0). Writing a null span or array into a field that may not be
 * null writes it empty.
 *
 * Lifetime: decoding copies no payload. Strings, bytes and records point into the reader's bytes,
 * arrays and nested structs into the arena; both must outlive the message.
 * Runs on: any thread; no locks, no allocation but from the caller's arena. */
#pragma once
#include "lib/base/arena.h"
#include "lib/base/assert.h"
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/base/uuid.h"

#define WIRE_STRING_MAX 32767 /* Kafka: also for compact strings */
#define WIRE_NEVER INT16_MAX  /* wire_api.flexible_from of an API that has no flexible version */

/* ---- arrays of plain values; cnt is 0 when null ---- */
struct wire_i8s {
    int8_t *v;
    uint32_t cnt;
    bool null;
};
struct wire_i32s {
    int32_t *v;
    uint32_t cnt;
    bool null;
};
struct wire_i64s {
    int64_t *v;
    uint32_t cnt;
    bool null;
};
struct wire_uuids {
    struct uuid *v;
    uint32_t cnt;
    bool null;
};
struct wire_spans { /* strings or bytes */
    struct span *v;
    uint32_t cnt;
    bool null;
};
/* The empty, not null, span. */
#define WIRE_EMPTY ((struct span){(const uint8_t *)"", 0})

/* ---- reader: after the first error every read returns zero and reads nothing ---- */
struct wire_reader {
    const uint8_t *p, *end;
    int err; /* 0 or the first -E_* */
};
static inline void wire_reader_init(struct wire_reader *r, struct span bytes)
{
    r->p = bytes.p == NULL ? (const uint8_t *)"" : bytes.p;
    r->end = r->p + bytes.len;
    r->err = 0;
}
static inline size_t wire_left(const struct wire_reader *r)
{
    return (size_t)(r->end - r->p);
}
static inline void wire_fail(struct wire_reader *r, int rc)
{
    if (r->err == 0)
        r->err = rc;
    r->p = r->end;
}
/* The next n bytes, or NULL and -E_TRUNCATED. */
static inline const uint8_t *wire_take(struct wire_reader *r, size_t n)
{
    const uint8_t *p = r->p;
    if (unlikely(wire_left(r) < n)) {
        wire_fail(r, -E_TRUNCATED);
        return NULL;
    }
    r->p += n;
    return p;
}
static inline int8_t wire_get_i8(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 1);
    return p == NULL ? 0 : (int8_t)*p;
}
static inline bool wire_get_bool(struct wire_reader *r)
{
    return wire_get_i8(r) != 0;
}
static inline int16_t wire_get_i16(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 2);
    return p == NULL ? 0 : (int16_t)load_be16(p);
}
static inline uint16_t wire_get_u16(struct wire_reader *r)
{
    return (uint16_t)wire_get_i16(r);
}
static inline int32_t wire_get_i32(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 4);
    return p == NULL ? 0 : (int32_t)load_be32(p);
}
static inline int64_t wire_get_i64(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 8);
    return p == NULL ? 0 : (int64_t)load_be64(p);
}
static inline double wire_get_f64(struct wire_reader *r)
{
    int64_t bits = wire_get_i64(r);
    double d;
    memcpy(&d, &bits, sizeof(d));
    return d;
}
static inline struct uuid wire_get_uuid(struct wire_reader *r)
{
    struct uuid u = {{0}};
    const uint8_t *p = wire_take(r, 16);
    if (p != NULL)
        memcpy(u.b, p, 16);
    return u;
}
/* At most 5 bytes and 32 bits, else -E_MALFORMED. */
uint32_t wire_get_uvarint(struct wire_reader *r);

/* What a variable-length field allows. */
struct wire_var {
    bool flexible; /* compact length (N+1 as uvarint) instead of int16 / int32 */
    bool nullable;
    uint32_t max; /* bytes or elements; more is -E_LIMIT */
};
struct span wire_get_string(struct wire_reader *r, struct wire_var var);
struct span wire_get_bytes(struct wire_reader *r, struct wire_var var); /* bytes and records */
/* An array's element count, trusted only once count * elem_min bytes are there. */
uint32_t wire_get_count(struct wire_reader *r, struct wire_var var, uint32_t elem_min,
                        bool *ret_null);
void wire_get_i8s(struct wire_reader *r, struct wire_var var, struct arena *a,
                  struct wire_i8s *ret);
void wire_get_i32s(struct wire_reader *r, struct wire_var var, struct arena *a,
                   struct wire_i32s *ret);
void wire_get_i64s(struct wire_reader *r, struct wire_var var, struct arena *a,
                   struct wire_i64s *ret);
void wire_get_uuids(struct wire_reader *r, struct wire_var var, struct arena *a,
                    struct wire_uuids *ret);
void wire_get_strings(struct wire_reader *r, struct wire_var var, struct arena *a,
                      struct wire_spans *ret);
/* Elements of at most bytes_max each, never null. */
void wire_get_bytes_array(struct wire_reader *r, struct wire_var var, uint32_t bytes_max,
                          struct arena *a, struct wire_spans *ret);
/* Array storage, or NULL and -E_LIMIT. */
void *wire_alloc(struct wire_reader *r, struct arena *a, uint32_t cnt, size_t size);
/* One tagged field: its number, and *ret_body bounded to its declared size. */
uint32_t wire_get_tag(struct wire_reader *r, struct wire_reader *ret_body);
/* A known tag was read from `body`: passes its error on; bytes left in it are -E_MALFORMED. */
void wire_end_tag(struct wire_reader *r, const struct wire_reader *body);
/* A tag buffer of which no tag is known. */
void wire_skip_tags(struct wire_reader *r);

/* ---- writer ----
 * Writes into p[0..cap) and remembers the first error; nothing is written after it.
 * Counting: with p == NULL only `len` grows. References: with refs set, `records` fields are not
 * copied but listed; the message is then len copied bytes with refs[i].bytes inserted before copied
 * byte refs[i].at, in order, and wire_total() says how long it is. */
struct wire_ref {
    size_t at;
    struct span bytes;
};
struct wire_writer {
    uint8_t *p;
    size_t len, cap;
    int err; /* 0, -E_DST_SMALL: cap or ref_cap is too small, -E_LIMIT: a string is too long */
    struct wire_ref *refs;
    uint32_t ref_cnt, ref_cap;
    size_t ref_bytes;
};
static inline void wire_writer_init(struct wire_writer *w, void *p, size_t cap)
{
    *w = (struct wire_writer){.p = (uint8_t *)p, .cap = cap};
}
static inline void wire_writer_init_count(struct wire_writer *w)
{
    *w = (struct wire_writer){.p = NULL, .cap = SIZE_MAX};
}
static inline size_t wire_total(const struct wire_writer *w)
{
    return w->len + w->ref_bytes;
}
/* Room for n bytes, or NULL: counting, or w->err is set. */
static inline uint8_t *wire_room(struct wire_writer *w, size_t n)
{
    if (unlikely(w->err != 0))
        return NULL;
    if (unlikely(w->cap - w->len < n)) {
        w->err = -E_DST_SMALL;
        return NULL;
    }
    size_t at = w->len;
    w->len += n;
    return w->p == NULL ? NULL : w->p + at;
}
static inline void wire_put_i8(struct wire_writer *w, int8_t v)
{
    uint8_t *p = wire_room(w, 1);
    if (p != NULL)
        *p = (uint8_t)v;
}
static inline void wire_put_bool(struct wire_writer *w, bool v)
{
    wire_put_i8(w, v ? 1 : 0);
}
static inline void wire_put_u16(struct wire_writer *w, uint16_t v)
{
    uint8_t *p = wire_room(w, 2);
    if (p != NULL)
        store_be16(p, v);
}
static inline void wire_put_i16(struct wire_writer *w, int16_t v)
{
    wire_put_u16(w, (uint16_t)v);
}
static inline void wire_put_i32(struct wire_writer *w, int32_t v)
{
    uint8_t *p = wire_room(w, 4);
    if (p != NULL)
        store_be32(p, (uint32_t)v);
}
static inline void wire_put_i64(struct wire_writer *w, int64_t v)
{
    uint8_t *p = wire_room(w, 8);
    if (p != NULL)
        store_be64(p, (uint64_t)v);
}
static inline void wire_put_f64(struct wire_writer *w, double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    wire_put_i64(w, bits);
}
static inline void wire_put_uuid(struct wire_writer *w, struct uuid v)
{
    uint8_t *p = wire_room(w, 16);
    if (p != NULL)
        memcpy(p, v.b, 16);
}
void wire_put_uvarint(struct wire_writer *w, uint32_t v);
void wire_put_raw(struct wire_writer *w, struct span s);
void wire_put_string(struct wire_writer *w, bool flexible, bool nullable, struct span s);
void wire_put_bytes(struct wire_writer *w, bool flexible, bool nullable, struct span s);
void wire_put_records(struct wire_writer *w, bool flexible, bool nullable, struct span s);
void wire_put_count(struct wire_writer *w, bool flexible, bool nullable, bool null, uint32_t cnt);
void wire_put_i8s(struct wire_writer *w, bool flexible, bool nullable, struct wire_i8s a);
void wire_put_i32s(struct wire_writer *w, bool flexible, bool nullable, struct wire_i32s a);
void wire_put_i64s(struct wire_writer *w, bool flexible, bool nullable, struct wire_i64s a);
void wire_put_uuids(struct wire_writer *w, bool flexible, bool nullable, struct wire_uuids a);
void wire_put_strings(struct wire_writer *w, bool flexible, bool nullable, struct wire_spans a);
void wire_put_bytes_array(struct wire_writer *w, bool flexible, bool nullable, struct wire_spans a);

/* ---- the APIs we have schemas for ---- */
struct wire_api {
    int16_t key;
    const char *name;       /* "produce" */
    int16_t min, max;       /* versions we read and write */
    int16_t advertised_min; /* what ApiVersions says; lower than min for old clients' sake */
    int16_t flexible_from;  /* first flexible version, or WIRE_NEVER */
};
extern const struct wire_api wire_apis[]; /* by ascending key; from the schema files */
extern const uint32_t wire_api_cnt;
/* NULL when there is no schema for this key. */
const struct wire_api *wire_api_find(int16_t key);

/* ---- headers ---- */
struct wire_request_header {
    int16_t api_key, api_version;
    int32_t correlation_id;
    struct span client_id;      /* null when the client sent null */
    const struct wire_api *api; /* NULL: unknown key */
};
/* Reads header v1, or v2 from the API's first flexible version on; the reader then stands at the
 * body. 0, or
 *   -E_UNSUPPORTED_VERSION  key unknown or version not served; key, version, correlation id and
 *                           client id are filled. ApiVersions (key 18) is then answered in version
 *                           0 with error 35 (the body is not read), anything else closes the
 *                           connection
 *   -E_TRUNCATED, -E_MALFORMED  close the connection */
NODISCARD int wire_request_header_read(struct wire_reader *r, struct wire_request_header *ret);
void wire_request_header_write(struct wire_writer *w, const struct wire_request_header *h);
/* Header of a response to api at version: v1 (with a tag buffer) where flexible, except that
 * ApiVersions always has v0, as its client does not know our versions yet. */
void wire_response_header_write(struct wire_writer *w, const struct wire_api *api, int16_t version,
                                int32_t correlation_id);
/* Clients: the correlation id; the reader then stands at the body. 0 or the reader's error. */
NODISCARD int wire_response_header_read(struct wire_reader *r, const struct wire_api *api,
                                        int16_t version, int32_t *ret_correlation_id);
