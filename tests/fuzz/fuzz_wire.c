/* fuzz_wire.c - every message reader, and the request path of a connection.
 *
 * Byte 0 chooses a message (255: a whole request, header first), byte 1 a version; the rest is the
 * message. What could be read must be written again, and read back equal. */
#include "tests/support/test.h"
#include "tests/unit/wire/desc.h"

enum { ARENA_MAX = 1 << 20, WHOLE_REQUEST = 255 };

static union {
    max_align_t align;
    uint8_t bytes[4096];
} one, two;

/* Decode, encode, decode again. */
static void round_trip(const struct desc_msg *msg, int16_t v, struct wire_reader *r)
{
    struct arena a, b;
    arena_init(&a, ARENA_MAX);
    arena_init(&b, 16 * ARENA_MAX);
    int rc = msg->read(r, v, &a, &one);
    ASSERT(a.total <= ARENA_MAX);
    if (rc == 0) {
        size_t len = msg->size(&one, v);
        uint8_t *p = malloc(len + 1);
        ASSERT(p != NULL);
        struct wire_writer w;
        wire_writer_init(&w, p, len);
        msg->write(&w, v, &one);
        ASSERT(w.err == 0);
        ASSERT(w.len == len);
        struct wire_reader again;
        wire_reader_init(&again, span_of(p, (uint32_t)len));
        rc = msg->read(&again, v, &b, &two);
        ASSERT(rc == 0);
        ASSERT(wire_left(&again) == 0);
        ASSERT(desc_equal(msg->desc, &one, &two));
        free(p);
    } else {
        ASSERT(rc == -E_TRUNCATED || rc == -E_MALFORMED || rc == -E_LIMIT ||
               rc == -E_UNSUPPORTED_VERSION);
    }
    arena_fini(&a);
    arena_fini(&b);
}

static const struct desc_msg *request_of(int16_t key)
{
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        if (strcmp(desc_msgs[i].kind, "request") == 0 && desc_msgs[i].key == key)
            return &desc_msgs[i];
    }
    return NULL;
}

static void whole_request(struct span bytes)
{
    struct wire_request_header h;
    struct wire_reader r;
    wire_reader_init(&r, bytes);
    if (wire_request_header_read(&r, &h) < 0)
        return;
    ASSERT(h.api != NULL);
    ASSERT(h.api_version >= h.api->min && h.api_version <= h.api->max);
    round_trip(request_of(h.api_key), h.api_version, &r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2 || len > 1 << 20)
        return 0;
    struct span rest = span_of(data + 2, (uint32_t)len - 2);
    if (data[0] == WHOLE_REQUEST) {
        whole_request(rest);
        return 0;
    }
    const struct desc_msg *msg = &desc_msgs[data[0] % DESC_MSG_CNT];
    struct wire_reader r;
    wire_reader_init(&r, rest);
    round_trip(msg, (int16_t)(data[1] % (msg->hi + 2)), &r);
    return 0;
}

/* Valid inputs: every message at its newest version, then every request behind its header. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    if (i >= 2 * DESC_MSG_CNT)
        return 0;
    const struct desc_msg *msg = &desc_msgs[i % DESC_MSG_CNT];
    bool whole = i >= DESC_MSG_CNT && strcmp(msg->kind, "request") == 0;
    int16_t v = (int16_t)(i < DESC_MSG_CNT ? msg->hi : msg->lo);
    struct test_rng rng = {i};
    struct arena a;
    struct wire_writer w;
    arena_init(&a, ARENA_MAX);
    msg->init(&one);
    desc_fill(msg->desc, v, &rng, &a, &one);
    wire_writer_init(&w, buf, cap);
    wire_put_i8(&w, (int8_t)(whole ? WHOLE_REQUEST : i % DESC_MSG_CNT));
    wire_put_i8(&w, (int8_t)v);
    if (whole) {
        struct wire_request_header h = {(int16_t)msg->key, v, 1, span_str("fuzz"),
                                        wire_api_find((int16_t)msg->key)};
        wire_request_header_write(&w, &h);
    }
    msg->write(&w, v, &one);
    arena_fini(&a);
    return w.err == 0 ? w.len : 2;
}
