/* test_hostile.c - hostile requests at every API in every version, made from the schemas: cut at
 * every byte, counts and lengths of 2^31-1 and below zero wherever one may stand, tags nobody
 * knows, headers of the wrong version. Each must end in an answer that follows the schema or in a
 * closed connection; nothing may be left behind (world_destroy checks), and decoding may hold no
 * more than the request's own bytes pay for. */
#include "lib/base/log.h"
#include "tests/support/any_request.h" /* before the file that has a `w` of its own */

#include "tests/unit/dataplane/kafka/kafka_test.h"

#define CASES_PER_WORLD 400
#define MAY_HOLD(len) (65536 + 24 * (uint64_t)(len))

enum outcome { ANSWERED, CLOSED, SILENT };
static struct client *conn;
static uint32_t cases, answered, closed;

static void world_begin(void)
{
    open_world(&(struct world_opts){.shards = 2, .request_bytes = 8u << 20});
    world_topic(w, ANY_TOPIC, NULL);
    struct span b = make_batch(2, 20, NULL);
    fake_plog_put(world_plog(w, ANY_TOPIC, 0), b);
    free((void *)(uintptr_t)b.p);
    conn = NULL;
}

/* An answer must be what the schema of its version says (those of the control plane are the fake's
 * word for it). */
static void check_answer(const struct api *api, int16_t version, struct span frame)
{
    struct wire_reader r;
    int32_t correlation;
    wire_reader_init(&r, frame);
    if (wire_response_header_read(&r, wire_api_find(api->key), version, &correlation) < 0)
        fail_msg("%s %d: bad response header", api->name, version);
    if (wire_left(&r) == 5 && memcmp(r.p, "reply", 5) == 0)
        return;
    const struct desc_msg *msg = any_message(api->key, "response");
    void *m = arena_alloc(&arena, msg->desc->size);
    if (msg->read(&r, version, &arena, m) < 0 || wire_left(&r) != 0)
        fail_msg("%s %d: the answer does not follow the schema", api->name, version);
}

/* Send a frame of `len` body bytes and see how it ends. */
static enum outcome attempt(const struct api *api, int16_t version, const uint8_t *body,
                            uint32_t len)
{
    uint8_t head[4];
    struct span frame;
    if (w->client_cnt >= CASES_PER_WORLD) {
        close_world();
        world_begin();
    }
    if (conn == NULL)
        conn = client_open(w);
    store_be32(head, len);
    client_send(conn, head, 4);
    client_send(conn, body, len);
    cases++;
    for (int ms = 0; ms < 20; ms++) {
        world_run(w, 1);
        if (client_take(conn, &frame)) {
            check_answer(api, version, frame);
            arena_reset(&arena);
            answered++;
            return ANSWERED;
        }
        if (conn->eof || conn->closed) {
            client_close(conn);
            conn = NULL;
            closed++;
            return CLOSED;
        }
    }
    client_close(conn); /* it waits for something: whoever closes lets go of it */
    conn = NULL;
    return SILENT;
}

/* APIs whose answer may take its time: long polls, rebalances, and what a mutation may make of
 * acks and timeouts. */
static bool may_wait(const struct api *api)
{
    return (api->flags & API_PARKS) != 0 || api->key == API_KEY_PRODUCE ||
           api->key == API_KEY_JOIN_GROUP || api->key == API_KEY_SYNC_GROUP;
}

static void each_request(void (*fn)(const struct api *api, int16_t v, const uint8_t *body,
                                    uint32_t len))
{
    struct span b = make_batch(1, 10, NULL);
    struct arena a;
    arena_init(&a, 1 << 20);
    log_set_level(LOG_LEVEL_NONE);
    cases = answered = closed = 0;
    world_begin();
    const struct api *api;
    for (uint32_t i = 0; (api = api_at(i)) != NULL; i++)
        for (int16_t v = api->min; v <= api->max; v++) {
            size_t len;
            uint8_t *p = any_request(api, v, &a, b, &len);
            fn(api, v, p + 4, (uint32_t)len - 4);
            free(p);
            arena_reset(&a);
        }
    close_world();
    arena_fini(&a);
    free((void *)(uintptr_t)b.p);
    print_message("%u requests: %u answered, %u closed\n", cases, answered, closed);
}

static void whole(const struct api *api, int16_t v, const uint8_t *body, uint32_t len)
{
    enum outcome end = attempt(api, v, body, len);
    if (end == CLOSED || (end == SILENT && !may_wait(api)))
        fail_msg("%s %d: a good request is not answered", api->name, v);
}
static void a_good_request_of_every_version_is_answered(void **state)
{
    (void)state;
    each_request(whole);
}

static void cut(const struct api *api, int16_t v, const uint8_t *body, uint32_t len)
{
    for (uint32_t n = 0; n < len; n++)
        if (attempt(api, v, body, n) != CLOSED)
            fail_msg("%s %d cut at %u of %u: not closed", api->name, v, n, len);
}
static void a_request_cut_at_every_byte_is_closed(void **state)
{
    (void)state;
    each_request(cut);
}

/* What decoding holds, at the worst place for it: straight into the generated reader. Is it a
 * request of the schema? */
static bool decode(const struct api *api, int16_t v, const uint8_t *body, uint32_t len)
{
    const struct desc_msg *msg = any_message(api->key, "request");
    struct wire_request_header hdr;
    struct wire_reader r;
    struct arena a;
    uint8_t *exact = malloc(len); /* for the sanitizer's sake */
    memcpy(exact, body, len);
    wire_reader_init(&r, span_of(exact, len));
    bool parses = false;
    if (wire_request_header_read(&r, &hdr) == 0) {
        arena_init(&a, 64u << 20);
        void *m = arena_alloc(&a, msg->desc->size);
        msg->init(m);
        parses = msg->read(&r, v, &a, m) == 0;
        if (a.total > MAY_HOLD(len))
            fail_msg("%s %d: %u bytes made decoding hold %zu", api->name, v, len, a.total);
        arena_fini(&a);
    }
    free(exact);
    return parses;
}

/* Kafka closes the connection of what does not parse and answers what does. */
static void attempt_as_kafka(const struct api *api, int16_t v, const uint8_t *body, uint32_t len,
                             bool parses)
{
    enum outcome end = attempt(api, v, body, len);
    if (end != (parses ? ANSWERED : CLOSED) && !(parses && end == SILENT && may_wait(api)))
        fail_msg("%s %d: outcome %d, parses: %d", api->name, v, end, parses);
}

/* At every position of the body: the count or length that may stand there becomes monstrous. */
static void monstrous(const struct api *api, int16_t v, const uint8_t *body, uint32_t len)
{
    static const uint8_t fixed[][4] = {{0x7f, 0xff, 0xff, 0xff},
                                       {0xff, 0xff, 0xff, 0xff},
                                       {0x80, 0, 0, 0},
                                       {0xff, 0xff, 0xff, 0xfe}};
    static const uint8_t varints[][5] = {{0xff, 0xff, 0xff, 0xff, 0x07},
                                         {0xff, 0xff, 0xff, 0xff, 0x0f},
                                         {0x80, 0x80, 0x80, 0x80, 0x80}};
    const struct wire_api *wapi = wire_api_find(api->key);
    bool flexible = v >= wapi->flexible_from;
    uint8_t *m = malloc((size_t)len + 4);
    for (uint32_t at = 8; at < len; at++) {
        if (!flexible || at < 14) {
            for (size_t k = 0; k < 4 && at + 4 <= len; k++) {
                memcpy(m, body, len);
                memcpy(m + at, fixed[k], 4);
                bool parses = decode(api, v, m, len);
                if (k < 2)
                    attempt_as_kafka(api, v, m, len, parses);
            }
            if (at + 2 <= len) { /* lengths of two bytes */
                memcpy(m, body, len);
                m[at] = 0x7f;
                m[at + 1] = 0xff;
                (void)decode(api, v, m, len);
            }
            continue;
        }
        for (size_t k = 0; k < 3; k++) { /* one byte becomes five */
            memcpy(m, body, at);
            memcpy(m + at, varints[k], 5);
            memcpy(m + at + 5, body + at + 1, len - at - 1);
            bool parses = decode(api, v, m, len + 4);
            if (k == 0)
                attempt_as_kafka(api, v, m, len + 4, parses);
        }
    }
    free(m);
}
static void counts_and_lengths_of_2_gib_hold_no_more_than_the_request_pays_for(void **state)
{
    (void)state;
    each_request(monstrous);
}

/* The tag buffer of header and body is empty in what we write; here each has two unknown tags. */
static void tagged(const struct api *api, int16_t v, const uint8_t *body, uint32_t len)
{
    static const uint8_t tags[] = {2, 0x63, 3, 'a', 'b', 'c', 0xff, 0x7f, 0};
    const struct wire_api *wapi = wire_api_find(api->key);
    if (v < wapi->flexible_from)
        return;
    uint32_t head = 8 + 2 + 4; /* key, version, correlation, client id "test" */
    assert_int_equal(body[head], 0);
    assert_int_equal(body[len - 1], 0);
    uint32_t n = (uint32_t)sizeof(tags);
    uint8_t *m = malloc((size_t)len + 2 * n);
    memcpy(m, body, head);
    memcpy(m + head, tags, n);
    memcpy(m + head + n, body + head + 1, len - head - 2);
    memcpy(m + len - 2 + n, tags, n);
    enum outcome end = attempt(api, v, m, len - 2 + 2 * n);
    if (end == CLOSED || (end == SILENT && !may_wait(api)))
        fail_msg("%s %d: unknown tags are not skipped", api->name, v);
    free(m);
}
static void tags_nobody_knows_are_skipped(void **state)
{
    (void)state;
    each_request(tagged);
}

static void wrong_header(const struct api *api, int16_t v, const uint8_t *body, uint32_t len)
{
    const struct wire_api *wapi = wire_api_find(api->key);
    uint32_t head = 8 + 2 + 4;
    uint8_t *m = malloc((size_t)len + 1);
    bool flexible = v >= wapi->flexible_from;
    memcpy(m, body, head);
    if (flexible) /* as if it were version 1 */
        memcpy(m + head, body + head + 1, len - head - 1);
    else { /* as if it were version 2 */
        m[head] = 0;
        memcpy(m + head + 1, body + head, len - head);
    }
    uint32_t n = flexible ? len - 1 : len + 1;
    if (attempt(api, v, m, n) == SILENT && !may_wait(api))
        fail_msg("%s %d: a header of the wrong version is neither answered nor closed", api->name,
                 v);
    /* versions outside the range close, ApiVersions is answered in version 0 */
    memcpy(m, body, len);
    static const int16_t outside[] = {-1, 99, INT16_MAX, INT16_MIN};
    for (size_t k = 0; v == api->min && k < 4; k++) {
        store_be16(m + 2, (uint16_t)outside[k]);
        enum outcome end = attempt(api, 0, m, len);
        if (end != (api->key == API_KEY_API_VERSIONS ? ANSWERED : CLOSED))
            fail_msg("%s version %d: outcome %d", api->name, outside[k], end);
    }
    free(m);
}
static void headers_of_the_wrong_version_end_in_kafkas_answer(void **state)
{
    (void)state;
    each_request(wrong_header);
}

TEST_MAIN(TEST(a_good_request_of_every_version_is_answered),
          TEST(a_request_cut_at_every_byte_is_closed),
          TEST(counts_and_lengths_of_2_gib_hold_no_more_than_the_request_pays_for),
          TEST(tags_nobody_knows_are_skipped),
          TEST(headers_of_the_wrong_version_end_in_kafkas_answer))
