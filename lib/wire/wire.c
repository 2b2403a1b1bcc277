/* wire.c - primitives of Kafka's encoding, and the two headers. See wire.h. */
#include "lib/wire/wire.h"
#include "lib/base/varint.h"

/* ---- reader ---- */

uint32_t wire_get_uvarint(struct wire_reader *r)
{
    uint32_t v;
    int n = uvarint_get(r->p, r->end, &v);
    if (n < 0) {
        wire_fail(r, n);
        return 0;
    }
    r->p += n;
    return v;
}

/* A length or count before its bytes: -1 for null. What is not allowed fails the reader and
 * returns -1 too. Negative plain lengths below -1 read as null, as Kafka's own readers do. */
static int64_t get_length(struct wire_reader *r, struct wire_var var, bool is_string)
{
    int64_t n;
    if (var.flexible)
        n = (int64_t)wire_get_uvarint(r) - 1;
    else if (is_string)
        n = wire_get_i16(r);
    else
        n = wire_get_i32(r);
    if (r->err != 0)
        return -1;
    if (n < 0) {
        if (!var.nullable)
            wire_fail(r, -E_MALFORMED);
        return -1;
    }
    return n;
}

static struct span get_span(struct wire_reader *r, struct wire_var var, bool is_string)
{
    int64_t n = get_length(r, var, is_string);
    if (n < 0)
        return SPAN_NULL;
    if (is_string && n > WIRE_STRING_MAX) {
        wire_fail(r, -E_MALFORMED);
        return SPAN_NULL;
    }
    if ((uint64_t)n > wire_left(r)) {
        wire_fail(r, -E_TRUNCATED);
        return SPAN_NULL;
    }
    if (n > var.max) {
        wire_fail(r, -E_LIMIT);
        return SPAN_NULL;
    }
    return span_of(wire_take(r, (size_t)n), (uint32_t)n);
}

struct span wire_get_string(struct wire_reader *r, struct wire_var var)
{
    return get_span(r, var, true);
}

struct span wire_get_bytes(struct wire_reader *r, struct wire_var var)
{
    return get_span(r, var, false);
}

uint32_t wire_get_count(struct wire_reader *r, struct wire_var var, uint32_t elem_min,
                        bool *ret_null)
{
    int64_t n = get_length(r, var, false);
    *ret_null = n < 0;
    if (n <= 0)
        return 0;
    if ((uint64_t)n > wire_left(r) / elem_min) {
        wire_fail(r, -E_TRUNCATED);
        return 0;
    }
    if (n > var.max) {
        wire_fail(r, -E_LIMIT);
        return 0;
    }
    return (uint32_t)n;
}

void *wire_alloc(struct wire_reader *r, struct arena *a, uint32_t cnt, size_t size)
{
    if (cnt == 0)
        return NULL;
    void *p = arena_array(a, cnt, size);
    if (p == NULL)
        wire_fail(r, -E_LIMIT);
    return p;
}

void wire_get_i8s(struct wire_reader *r, struct wire_var var, struct arena *a, struct wire_i8s *ret)
{
    uint32_t cnt = wire_get_count(r, var, 1, &ret->null);
    ret->v = wire_alloc(r, a, cnt, sizeof(*ret->v));
    ret->cnt = ret->v == NULL ? 0 : cnt;
    for (uint32_t i = 0; i < ret->cnt; i++)
        ret->v[i] = wire_get_i8(r);
}

void wire_get_i32s(struct wire_reader *r, struct wire_var var, struct arena *a,
                   struct wire_i32s *ret)
{
    uint32_t cnt = wire_get_count(r, var, 4, &ret->null);
    ret->v = wire_alloc(r, a, cnt, sizeof(*ret->v));
    ret->cnt = ret->v == NULL ? 0 : cnt;
    for (uint32_t i = 0; i < ret->cnt; i++)
        ret->v[i] = wire_get_i32(r);
}

void wire_get_i64s(struct wire_reader *r, struct wire_var var, struct arena *a,
                   struct wire_i64s *ret)
{
    uint32_t cnt = wire_get_count(r, var, 8, &ret->null);
    ret->v = wire_alloc(r, a, cnt, sizeof(*ret->v));
    ret->cnt = ret->v == NULL ? 0 : cnt;
    for (uint32_t i = 0; i < ret->cnt; i++)
        ret->v[i] = wire_get_i64(r);
}

void wire_get_uuids(struct wire_reader *r, struct wire_var var, struct arena *a,
                    struct wire_uuids *ret)
{
    uint32_t cnt = wire_get_count(r, var, 16, &ret->null);
    ret->v = wire_alloc(r, a, cnt, sizeof(*ret->v));
    ret->cnt = ret->v == NULL ? 0 : cnt;
    for (uint32_t i = 0; i < ret->cnt; i++)
        ret->v[i] = wire_get_uuid(r);
}

static void get_spans(struct wire_reader *r, struct wire_var var, uint32_t elem_max, bool is_string,
                      struct arena *a, struct wire_spans *ret)
{
    uint32_t elem_min = var.flexible ? 1 : is_string ? 2 : 4;
    uint32_t cnt = wire_get_count(r, var, elem_min, &ret->null);
    ret->v = wire_alloc(r, a, cnt, sizeof(*ret->v));
    ret->cnt = ret->v == NULL ? 0 : cnt;
    struct wire_var elem = {.flexible = var.flexible, .nullable = false, .max = elem_max};
    for (uint32_t i = 0; i < ret->cnt; i++)
        ret->v[i] = get_span(r, elem, is_string);
}

void wire_get_strings(struct wire_reader *r, struct wire_var var, struct arena *a,
                      struct wire_spans *ret)
{
    get_spans(r, var, WIRE_STRING_MAX, true, a, ret);
}

void wire_get_bytes_array(struct wire_reader *r, struct wire_var var, uint32_t bytes_max,
                          struct arena *a, struct wire_spans *ret)
{
    get_spans(r, var, bytes_max, false, a, ret);
}

uint32_t wire_get_tag(struct wire_reader *r, struct wire_reader *ret_body)
{
    uint32_t tag = wire_get_uvarint(r);
    uint32_t len = wire_get_uvarint(r);
    const uint8_t *p = wire_take(r, len);
    wire_reader_init(ret_body, p == NULL ? WIRE_EMPTY : span_of(p, len));
    ret_body->err = r->err;
    return tag;
}

void wire_end_tag(struct wire_reader *r, const struct wire_reader *body)
{
    if (body->err != 0)
        wire_fail(r, body->err);
    else if (wire_left(body) != 0)
        wire_fail(r, -E_MALFORMED);
}

void wire_skip_tags(struct wire_reader *r)
{
    struct wire_reader body;
    /* every tag takes at least two bytes or fails, so this ends */
    for (uint32_t n = wire_get_uvarint(r); n > 0 && r->err == 0; n--)
        (void)wire_get_tag(r, &body); /* its number does not matter */
}

/* ---- writer ---- */

void wire_put_uvarint(struct wire_writer *w, uint32_t v)
{
    uint8_t bytes[VARINT_MAX];
    wire_put_raw(w, span_of(bytes, (uint32_t)uvarint_put(bytes, v)));
}

void wire_put_raw(struct wire_writer *w, struct span s)
{
    if (s.len == 0)
        return;
    uint8_t *p = wire_room(w, s.len);
    if (p != NULL)
        memcpy(p, s.p, s.len);
}

/* n < 0: null. */
static void put_length(struct wire_writer *w, bool flexible, bool is_string, int64_t n)
{
    if (flexible)
        wire_put_uvarint(w, (uint32_t)(n + 1));
    else if (is_string)
        wire_put_i16(w, (int16_t)n);
    else
        wire_put_i32(w, (int32_t)n);
}

static int64_t span_length(struct span s, bool nullable)
{
    if (s.p == NULL)
        return nullable ? -1 : 0;
    return s.len;
}

void wire_put_string(struct wire_writer *w, bool flexible, bool nullable, struct span s)
{
    int64_t n = span_length(s, nullable);
    if (n > WIRE_STRING_MAX) {
        if (w->err == 0)
            w->err = -E_LIMIT;
        return;
    }
    put_length(w, flexible, true, n);
    if (n > 0)
        wire_put_raw(w, s);
}

void wire_put_bytes(struct wire_writer *w, bool flexible, bool nullable, struct span s)
{
    int64_t n = span_length(s, nullable);
    if (n > INT32_MAX) {
        if (w->err == 0)
            w->err = -E_LIMIT;
        return;
    }
    put_length(w, flexible, false, n);
    if (n > 0)
        wire_put_raw(w, s);
}

void wire_put_records(struct wire_writer *w, bool flexible, bool nullable, struct span s)
{
    int64_t n = span_length(s, nullable);
    if (w->refs == NULL || n <= 0) {
        wire_put_bytes(w, flexible, nullable, s);
        return;
    }
    put_length(w, flexible, false, n);
    if (w->err != 0)
        return;
    if (w->ref_cnt == w->ref_cap) {
        w->err = -E_DST_SMALL;
        return;
    }
    w->refs[w->ref_cnt++] = (struct wire_ref){.at = w->len, .bytes = s};
    w->ref_bytes += s.len;
}

void wire_put_count(struct wire_writer *w, bool flexible, bool nullable, bool null, uint32_t cnt)
{
    put_length(w, flexible, false, null && nullable ? -1 : null ? 0 : (int64_t)cnt);
}

void wire_put_i8s(struct wire_writer *w, bool flexible, bool nullable, struct wire_i8s a)
{
    wire_put_count(w, flexible, nullable, a.null, a.cnt);
    for (uint32_t i = 0; i < a.cnt && !a.null; i++)
        wire_put_i8(w, a.v[i]);
}

void wire_put_i32s(struct wire_writer *w, bool flexible, bool nullable, struct wire_i32s a)
{
    wire_put_count(w, flexible, nullable, a.null, a.cnt);
    for (uint32_t i = 0; i < a.cnt && !a.null; i++)
        wire_put_i32(w, a.v[i]);
}

void wire_put_i64s(struct wire_writer *w, bool flexible, bool nullable, struct wire_i64s a)
{
    wire_put_count(w, flexible, nullable, a.null, a.cnt);
    for (uint32_t i = 0; i < a.cnt && !a.null; i++)
        wire_put_i64(w, a.v[i]);
}

void wire_put_uuids(struct wire_writer *w, bool flexible, bool nullable, struct wire_uuids a)
{
    wire_put_count(w, flexible, nullable, a.null, a.cnt);
    for (uint32_t i = 0; i < a.cnt && !a.null; i++)
        wire_put_uuid(w, a.v[i]);
}

void wire_put_strings(struct wire_writer *w, bool flexible, bool nullable, struct wire_spans a)
{
    wire_put_count(w, flexible, nullable, a.null, a.cnt);
    for (uint32_t i = 0; i < a.cnt && !a.null; i++)
        wire_put_string(w, flexible, false, a.v[i]);
}

void wire_put_bytes_array(struct wire_writer *w, bool flexible, bool nullable, struct wire_spans a)
{
    wire_put_count(w, flexible, nullable, a.null, a.cnt);
    for (uint32_t i = 0; i < a.cnt && !a.null; i++)
        wire_put_bytes(w, flexible, false, a.v[i]);
}

/* ---- headers ---- */

#define KEY_API_VERSIONS 18

const struct wire_api *wire_api_find(int16_t key)
{
    for (uint32_t i = 0; i < wire_api_cnt; i++) {
        if (wire_apis[i].key == key)
            return &wire_apis[i];
    }
    return NULL;
}

int wire_request_header_read(struct wire_reader *r, struct wire_request_header *ret)
{
    ret->api_key = wire_get_i16(r);
    ret->api_version = wire_get_i16(r);
    ret->correlation_id = wire_get_i32(r);
    ret->api = wire_api_find(ret->api_key);
    /* not compact, even in header v2 */
    struct wire_var var = {.flexible = false, .nullable = true, .max = WIRE_STRING_MAX};
    ret->client_id = wire_get_string(r, var);
    if (r->err != 0)
        return r->err;
    const struct wire_api *api = ret->api;
    if (api == NULL || ret->api_version < api->min || ret->api_version > api->max)
        return -E_UNSUPPORTED_VERSION;
    if (ret->api_version >= api->flexible_from)
        wire_skip_tags(r);
    return r->err;
}

void wire_request_header_write(struct wire_writer *w, const struct wire_request_header *h)
{
    wire_put_i16(w, h->api_key);
    wire_put_i16(w, h->api_version);
    wire_put_i32(w, h->correlation_id);
    wire_put_string(w, false, true, h->client_id);
    if (h->api != NULL && h->api_version >= h->api->flexible_from)
        wire_put_uvarint(w, 0);
}

static bool response_header_has_tags(const struct wire_api *api, int16_t version)
{
    return version >= api->flexible_from && api->key != KEY_API_VERSIONS;
}

void wire_response_header_write(struct wire_writer *w, const struct wire_api *api, int16_t version,
                                int32_t correlation_id)
{
    wire_put_i32(w, correlation_id);
    if (response_header_has_tags(api, version))
        wire_put_uvarint(w, 0);
}

int wire_response_header_read(struct wire_reader *r, const struct wire_api *api, int16_t version,
                              int32_t *ret_correlation_id)
{
    int32_t id = wire_get_i32(r);
    if (response_header_has_tags(api, version))
        wire_skip_tags(r);
    if (r->err == 0)
        *ret_correlation_id = id;
    return r->err;
}
