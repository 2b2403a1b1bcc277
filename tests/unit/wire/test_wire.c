/* Every message at every version: what is written is read back, damage is refused, and memory stays
 * bounded; golden bytes worked out by hand from the protocol's description. */
#include "lib/wire/wire.c"
#include "tests/support/test.h"
#include "tests/unit/wire/desc.h"
#include "lib/iface/ctl_proto.h"

enum { CAP = 1 << 20 };
static uint8_t buf[CAP], buf2[CAP];
static union {
    max_align_t align;
    uint8_t bytes[4096];
} one, two;

static struct span write_msg(const struct desc_msg *msg, int v, const void *m, uint8_t *dst)
{
    struct wire_writer w;
    wire_writer_init(&w, dst, CAP);
    msg->write(&w, (int16_t)v, m);
    assert_ok(w.err);
    assert_int_equal(w.len, msg->size(m, (int16_t)v));
    return span_of(dst, (uint32_t)w.len);
}

static void random_message(const struct desc_msg *msg, int v, struct test_rng *rng, struct arena *a)
{
    assert_true(msg->desc->size <= sizeof(one));
    msg->init(&one);
    desc_fill(msg->desc, v, rng, a, &one);
}

static void what_is_written_is_read_back(void **state)
{
    struct test_rng rng = {test_seed(1)};
    struct arena a, b;
    arena_init(&a, 64 << 20);
    arena_init(&b, 64 << 20);
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        const struct desc_msg *msg = &desc_msgs[i];
        for (int v = msg->lo; v <= msg->hi; v++) {
            for (int round = 0; round < 40; round++) {
                random_message(msg, v, &rng, &a);
                struct span bytes = write_msg(msg, v, &one, buf);
                struct wire_reader r;
                wire_reader_init(&r, bytes);
                int rc = msg->read(&r, (int16_t)v, &b, &two);
                if (rc != 0 || wire_left(&r) != 0)
                    fail_msg("%s v%d: rc %d, %zu bytes left", msg->name, v, rc, wire_left(&r));
                if (!desc_equal(msg->desc, &one, &two))
                    fail_msg("%s v%d round %d: differs", msg->name, v, round);
                struct span again = write_msg(msg, v, &two, buf2);
                assert_true(span_eq(bytes, again));
                arena_reset(&a);
                arena_reset(&b);
            }
        }
    }
    arena_fini(&a);
    arena_fini(&b);
}

/* An untouched message survives too: defaults are written and read as defaults. */
static void defaults_are_read_back_as_defaults(void **state)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        const struct desc_msg *msg = &desc_msgs[i];
        for (int v = msg->lo; v <= msg->hi; v++) {
            msg->init(&one);
            struct wire_reader r;
            wire_reader_init(&r, write_msg(msg, v, &one, buf));
            assert_ok(msg->read(&r, (int16_t)v, &a, &two));
            /* null is written empty where the version does not allow it */
            struct span again = write_msg(msg, v, &two, buf2);
            assert_true(span_eq(span_of(buf, again.len), again));
        }
    }
    arena_fini(&a);
}

static void every_truncation_is_refused_and_costs_no_memory(void **state)
{
    struct test_rng rng = {test_seed(2)};
    struct arena a, b;
    arena_init(&a, 64 << 20);
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        const struct desc_msg *msg = &desc_msgs[i];
        for (int v = msg->lo; v <= msg->hi; v++) {
            random_message(msg, v, &rng, &a);
            struct span bytes = write_msg(msg, v, &one, buf);
            for (uint32_t len = 0; len < bytes.len; len++) {
                uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees one byte too far */
                memcpy(exact + 1, bytes.p, len);
                arena_init(&b, 1 << 20);
                struct wire_reader r;
                wire_reader_init(&r, span_of(exact + 1, len));
                int rc = msg->read(&r, (int16_t)v, &b, &two);
                if (rc != -E_TRUNCATED)
                    fail_msg("%s v%d cut at %u of %u: rc %d", msg->name, v, len, bytes.len, rc);
                assert_true(b.total <= 4096 + 64 * (size_t)bytes.len);
                arena_fini(&b);
                free(exact);
            }
            arena_reset(&a);
        }
    }
    arena_fini(&a);
}

/* Random damage: any answer but a crash, and never more memory than the arena's bound. */
static void damage_is_survived(void **state)
{
    struct test_rng rng = {test_seed(3)};
    struct arena a, b;
    arena_init(&a, 64 << 20);
    arena_init(&b, 256 << 10);
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        const struct desc_msg *msg = &desc_msgs[i];
        for (int v = msg->lo; v <= msg->hi; v++) {
            random_message(msg, v, &rng, &a);
            struct span bytes = write_msg(msg, v, &one, buf);
            for (int round = 0; bytes.len > 0 && round < 100; round++) {
                memcpy(buf2, bytes.p, bytes.len);
                for (int n = 0; n < 3; n++) {
                    uint8_t to[] = {0, 1, 0x7f, 0x80, 0xff, (uint8_t)rng_u64(&rng)};
                    buf2[rng_below(&rng, bytes.len)] = to[rng_below(&rng, sizeof(to))];
                }
                struct wire_reader r;
                wire_reader_init(&r, span_of(buf2, bytes.len));
                int rc = msg->read(&r, (int16_t)v, &b, &two);
                assert_true(rc == 0 || rc == -E_TRUNCATED || rc == -E_MALFORMED || rc == -E_LIMIT);
                assert_true(b.total <= 256 << 10);
                if (rc == 0) { /* then it can be written again */
                    struct wire_writer w;
                    wire_writer_init(&w, buf, CAP);
                    msg->write(&w, (int16_t)v, &two);
                    assert_ok(w.err);
                    bytes = write_msg(msg, v, &two, buf);
                }
                arena_reset(&b);
                if (bytes.len == 0)
                    break;
            }
            arena_reset(&a);
        }
    }
    arena_fini(&a);
    arena_fini(&b);
}

static int read_hex(const char *hex,
                    int (*read)(struct wire_reader *, int16_t, struct arena *, void *), int v,
                    struct arena *a, void *out)
{
    uint32_t len = 0;
    for (; *hex != 0; hex++) {
        unsigned byte;
        if (*hex == ' ')
            continue;
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        buf2[len++] = (uint8_t)byte;
        hex++;
    }
    struct wire_reader r;
    wire_reader_init(&r, span_of(buf2, len));
    return read(&r, (int16_t)v, a, out);
}

static void huge_counts_are_refused_before_any_allocation(void **state)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    struct metadata_request m;
    /* v1: count 2^31 - 1, nothing behind it */
    assert_rc(read_hex("7fffffff", call_read_metadata_request, 1, &a, &m), -E_TRUNCATED);
    /* v9: the same as uvarint of N + 1 = 2^31; then 2^32 - 1 */
    assert_rc(read_hex("8080808008", call_read_metadata_request, 9, &a, &m), -E_TRUNCATED);
    assert_rc(read_hex("ffffffff0f", call_read_metadata_request, 9, &a, &m), -E_TRUNCATED);
    /* a uvarint of more than 32 bits, and one of six bytes */
    assert_rc(read_hex("ffffffff1f", call_read_metadata_request, 9, &a, &m), -E_MALFORMED);
    assert_rc(read_hex("808080808001", call_read_metadata_request, 9, &a, &m), -E_MALFORMED);
    /* records of 2^31 - 1 bytes */
    struct produce_request p;
    assert_rc(read_hex("ffff 0001 00000001 00000001 000174 00000001 00000000 7fffffff 00",
                       call_read_produce_request, 3, &a, &p),
              -E_TRUNCATED);
    assert_true(a.total <= 4096);
    arena_fini(&a);
}

static void null_is_refused_where_the_schema_forbids_it(void **state)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    struct metadata_request m;
    assert_ok(read_hex("ffffffff", call_read_metadata_request, 1, &a, &m));
    assert_true(m.topics.null);
    assert_rc(read_hex("ffffffff", call_read_metadata_request, 0, &a, &m), -E_MALFORMED);
    struct find_coordinator_request f;
    assert_rc(read_hex("ffff", call_read_find_coordinator_request, 0, &a, &f), -E_MALFORMED);
    assert_rc(read_hex("00 00 00", call_read_find_coordinator_request, 3, &a, &f), -E_MALFORMED);
    arena_fini(&a);
}

static void a_full_arena_is_a_limit(void **state)
{
    struct arena a;
    arena_init(&a, 256);
    struct metadata_request m;
    memset(buf, 0, 4 + 2 * 1000);
    store_be32(buf, 1000);
    struct wire_reader r;
    wire_reader_init(&r, span_of(buf, 4 + 2 * 1000));
    assert_rc(metadata_request_read(&r, 0, &a, &m), -E_LIMIT);
    arena_fini(&a);
}

static void more_elements_than_the_schema_allows_are_a_limit(void **state)
{
    struct arena a;
    arena_init(&a, 64 << 20);
    struct api_versions_response m;
    memset(buf, 0, 6 + 6 * 1001);
    store_be32(buf + 2, 1001); /* api_keys: max 1,000 */
    struct wire_reader r;
    wire_reader_init(&r, span_of(buf, 6 + 6 * 1001));
    assert_rc(api_versions_response_read(&r, 0, &a, &m), -E_LIMIT);
    arena_fini(&a);
}

static void a_version_outside_the_range_is_refused(void **state)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    struct produce_request m;
    struct wire_reader r;
    wire_reader_init(&r, span_of(buf, 100));
    assert_rc(produce_request_read(&r, 2, &a, &m), -E_UNSUPPORTED_VERSION);
    assert_rc(produce_request_read(&r, 14, &a, &m), -E_UNSUPPORTED_VERSION);
    assert_int_equal(wire_left(&r), 100);
}

static void unknown_tags_are_skipped(void **state)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    struct api_versions_request m;
    /* "a", "b", then tags 9 (3 bytes), 7 (empty), 9 again: order and repeats do not matter */
    assert_ok(
        read_hex("0261 0262 03 0903010203 0700 090155", call_read_api_versions_request, 3, &a, &m));
    assert_true(span_eq_str(m.client_software_name, "a"));
    assert_true(span_eq_str(m.client_software_version, "b"));
    /* a tag that says more bytes than there are; more tags than bytes */
    assert_rc(read_hex("0261 0262 01 09ff01", call_read_api_versions_request, 3, &a, &m),
              -E_TRUNCATED);
    assert_rc(read_hex("0261 0262 ffffffff0f", call_read_api_versions_request, 3, &a, &m),
              -E_TRUNCATED);
    arena_fini(&a);
}

static void a_known_tag_of_the_wrong_size_is_malformed(void **state)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    struct api_versions_response m;
    /* finalized_features_epoch (tag 1) is an int64 */
    assert_ok(read_hex("0000 01 00000000 01 01 08 0000000000000007",
                       call_read_api_versions_response, 3, &a, &m));
    assert_int_equal(m.finalized_features_epoch, 7);
    assert_rc(read_hex("0000 01 00000000 01 01 09 000000000000000700",
                       call_read_api_versions_response, 3, &a, &m),
              -E_MALFORMED);
    assert_rc(read_hex("0000 01 00000000 01 01 07 00000000000007", call_read_api_versions_response,
                       3, &a, &m),
              -E_TRUNCATED);
    arena_fini(&a);
}

static void assert_hex(struct span got, const char *hex)
{
    char text[4096];
    for (uint32_t i = 0; i < got.len; i++)
        snprintf(text + 2 * i, 3, "%02x", got.p[i]);
    text[2 * got.len] = 0;
    char want[4096];
    size_t n = 0;
    for (; *hex != 0; hex++) {
        if (*hex != ' ')
            want[n++] = *hex;
    }
    want[n] = 0;
    assert_string_equal(text, want);
}

static void golden_api_versions_response(void **state)
{
    struct api_versions_response m;
    struct api_versions_response_api apis[] = {{18, 0, 4}};
    api_versions_response_init(&m);
    m.error_code = 35;
    m.api_keys.v = apis;
    m.api_keys.cnt = 1;
    const struct desc_msg *msg = NULL;
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        if (strcmp(desc_msgs[i].name, "api_versions_response") == 0)
            msg = &desc_msgs[i];
    }
    /* v0: error, array; v1 adds the throttle time; v3 is compact with tags */
    assert_hex(write_msg(msg, 0, &m, buf), "0023 00000001 0012 0000 0004");
    assert_hex(write_msg(msg, 1, &m, buf), "0023 00000001 0012 0000 0004 00000000");
    assert_hex(write_msg(msg, 3, &m, buf), "0023 02 0012 0000 0004 00 00000000 00");
    m.finalized_features_epoch = 0; /* tag 1; -1, its default, is left out */
    struct api_versions_response_finalized_feature features[] = {
        {.name = span_str("transaction.version"), .max_version_level = 2, .min_version_level = 2}};
    m.finalized_features.v = features;
    m.finalized_features.cnt = 1;
    assert_hex(write_msg(msg, 4, &m, buf),
               "0023 02 0012 0000 0004 00 00000000 02"
               "01 08 0000000000000000"
               "02 1a 02 14 7472616e73616374696f6e2e76657273696f6e 0002 0002 00");
}

static void golden_describe_topic_partitions_cursor(void **state)
{
    struct describe_topic_partitions_request m;
    describe_topic_partitions_request_init(&m);
    assert_int_equal(m.response_partition_limit, 2000);
    struct wire_writer w;
    wire_writer_init(&w, buf, CAP);
    describe_topic_partitions_request_write(&w, 0, &m);
    assert_hex(span_of(buf, (uint32_t)w.len), "01 000007d0 ff 00");
    struct describe_topic_partitions_request_cursor cursor = {span_str("t"), 5};
    m.cursor = &cursor;
    wire_writer_init(&w, buf, CAP);
    describe_topic_partitions_request_write(&w, 0, &m);
    assert_hex(span_of(buf, (uint32_t)w.len), "01 000007d0 01 0274 00000005 00 00");
}

static void fields_absent_in_a_version_are_not_written(void **state)
{
    struct metadata_response m;
    metadata_response_init(&m);
    assert_int_equal(m.cluster_authorized_operations, INT32_MIN);
    assert_int_equal(m.controller_id, -1);
    assert_true(span_is_null(m.cluster_id));
    size_t before = metadata_response_size(&m, 0);
    m.cluster_id = span_str("id");
    m.throttle_time_ms = 9;
    m.controller_id = 3;
    assert_int_equal(metadata_response_size(&m, 0), before);
    assert_int_equal(metadata_response_size(&m, 2), metadata_response_size(&m, 1) + 4);
}

static void a_small_buffer_is_reported_and_never_passed(void **state)
{
    struct test_rng rng = {test_seed(4)};
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < DESC_MSG_CNT; i++) {
        const struct desc_msg *msg = &desc_msgs[i];
        random_message(msg, msg->hi, &rng, &a);
        size_t size = msg->size(&one, (int16_t)msg->hi);
        for (size_t cap = 0; cap < size && cap < 200; cap++) {
            struct wire_writer w;
            memset(buf, 0xaa, cap + 16);
            wire_writer_init(&w, buf, cap);
            msg->write(&w, (int16_t)msg->hi, &one);
            assert_rc(w.err, -E_DST_SMALL);
            assert_true(w.len <= cap);
            for (size_t j = cap; j < cap + 16; j++)
                assert_int_equal(buf[j], 0xaa);
        }
        arena_reset(&a);
    }
    arena_fini(&a);
}

static void records_can_be_referenced_instead_of_copied(void **state)
{
    struct fetch_response_partition parts[3];
    struct fetch_response_topic topic;
    struct fetch_response m;
    fetch_response_init(&m);
    fetch_response_topic_init(&topic);
    for (int i = 0; i < 3; i++)
        fetch_response_partition_init(&parts[i]);
    parts[0].records = span_str("first");
    parts[2].records = span_str("third one");
    topic.partitions.v = parts;
    topic.partitions.cnt = 3;
    m.responses.v = &topic;
    m.responses.cnt = 1;
    for (int16_t v = FETCH_RESPONSE_MIN; v <= FETCH_RESPONSE_MAX; v++) {
        struct wire_writer plain, w;
        wire_writer_init(&plain, buf, CAP);
        fetch_response_write(&plain, v, &m);
        struct wire_ref refs[2];
        wire_writer_init(&w, buf2, CAP);
        w.refs = refs;
        w.ref_cap = 2;
        fetch_response_write(&w, v, &m);
        assert_ok(w.err);
        assert_int_equal(w.ref_cnt, 2);
        assert_int_equal(wire_total(&w), plain.len);
        uint8_t joined[1024];
        size_t at = 0, from = 0;
        for (uint32_t i = 0; i < w.ref_cnt; i++) {
            memcpy(joined + at, buf2 + from, refs[i].at - from);
            at += refs[i].at - from;
            from = refs[i].at;
            memcpy(joined + at, refs[i].bytes.p, refs[i].bytes.len);
            at += refs[i].bytes.len;
        }
        memcpy(joined + at, buf2 + from, w.len - from);
        assert_memory_equal(joined, buf, plain.len);
        wire_writer_init(&w, buf2, CAP);
        w.refs = refs;
        w.ref_cap = 1;
        fetch_response_write(&w, v, &m);
        assert_rc(w.err, -E_DST_SMALL);
    }
}

static int header_of(const char *hex, struct wire_request_header *h, struct wire_reader *r)
{
    uint32_t len = 0;
    for (; *hex != 0; hex++) {
        unsigned byte;
        if (*hex == ' ')
            continue;
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        buf[len++] = (uint8_t)byte;
        hex++;
    }
    wire_reader_init(r, span_of(buf, len));
    return wire_request_header_read(r, h);
}

static void request_headers_follow_the_flexible_version(void **state)
{
    struct wire_request_header h;
    struct wire_reader r;
    /* Metadata v8: header v1; client id "me" */
    assert_ok(header_of("0003 0008 00000007 0002 6d65 ee", &h, &r));
    assert_int_equal(h.correlation_id, 7);
    assert_true(span_eq_str(h.client_id, "me"));
    assert_int_equal(wire_left(&r), 1);
    /* Metadata v9: header v2 has tags, the client id stays a plain string; an unknown tag */
    assert_ok(header_of("0003 0009 00000007 ffff 01 0501aa ee", &h, &r));
    assert_true(span_is_null(h.client_id));
    assert_int_equal(wire_left(&r), 1);
    /* ApiVersions of the future: recognised, its body is not read */
    assert_rc(header_of("0012 0063 00000009 0001 61 00 ff", &h, &r), -E_UNSUPPORTED_VERSION);
    assert_int_equal(h.api_key, 18);
    assert_int_equal(h.api_version, 0x63);
    assert_int_equal(h.correlation_id, 9);
    assert_non_null(h.api);
    assert_rc(header_of("7fff 0000 00000009 0001 61", &h, &r), -E_UNSUPPORTED_VERSION);
    assert_null(h.api);
    assert_rc(header_of("0000 0002 00000009 0001 61", &h, &r), -E_UNSUPPORTED_VERSION);
    assert_rc(header_of("0003 ffff 00000009 0001 61", &h, &r), -E_UNSUPPORTED_VERSION);
    assert_rc(header_of("0003 0009 00000009 0005 61", &h, &r), -E_TRUNCATED);
    assert_rc(header_of("0003 00", &h, &r), -E_TRUNCATED);
}

static void response_headers_follow_the_flexible_version(void **state)
{
    struct wire_writer w;
    const struct wire_api *metadata = wire_api_find(3), *versions = wire_api_find(18);
    const struct {
        const struct wire_api *api;
        int16_t v;
        const char *hex;
    } cases[] = {
        {metadata, 8, "00000007"}, {metadata, 9, "00000007 00"}, {versions, 4, "00000007"}};
    for (size_t i = 0; i < 3; i++) {
        wire_writer_init(&w, buf, CAP);
        wire_response_header_write(&w, cases[i].api, cases[i].v, 7);
        assert_hex(span_of(buf, (uint32_t)w.len), cases[i].hex);
        struct wire_reader r;
        wire_reader_init(&r, span_of(buf, (uint32_t)w.len));
        int32_t id = 0;
        assert_ok(wire_response_header_read(&r, cases[i].api, cases[i].v, &id));
        assert_int_equal(id, 7);
        assert_int_equal(wire_left(&r), 0);
    }
}

static void request_headers_are_written_as_they_are_read(void **state)
{
    for (uint32_t i = 0; i < wire_api_cnt; i++) {
        const struct wire_api *api = &wire_apis[i];
        for (int16_t v = api->min; v <= api->max; v++) {
            struct wire_request_header h = {api->key, v, 12345, span_str("client"), api}, g;
            struct wire_writer w;
            wire_writer_init(&w, buf, CAP);
            wire_request_header_write(&w, &h);
            assert_ok(w.err);
            struct wire_reader r;
            wire_reader_init(&r, span_of(buf, (uint32_t)w.len));
            assert_ok(wire_request_header_read(&r, &g));
            assert_int_equal(wire_left(&r), 0);
            assert_int_equal(g.api_version, v);
            assert_ptr_equal(g.api, api);
            assert_int_equal(g.correlation_id, 12345);
            assert_true(span_eq(g.client_id, h.client_id));
        }
    }
}

static void the_api_table_is_what_we_advertise(void **state)
{
    static const struct wire_api want[] = {
        {0, "produce", 3, 13, 0, 9},
        {1, "fetch", 4, 18, 4, 12},
        {2, "list_offsets", 1, 11, 1, 6},
        {3, "metadata", 0, 13, 0, 9},
        {8, "offset_commit", 2, 10, 2, 8},
        {9, "offset_fetch", 1, 10, 1, 6},
        {10, "find_coordinator", 0, 6, 0, 3},
        {11, "join_group", 0, 9, 0, 6},
        {12, "heartbeat", 0, 4, 0, 4},
        {13, "leave_group", 0, 5, 0, 4},
        {14, "sync_group", 0, 5, 0, 4},
        {15, "describe_groups", 0, 6, 0, 5},
        {16, "list_groups", 0, 5, 0, 3},
        {17, "sasl_handshake", 0, 1, 0, WIRE_NEVER},
        {18, "api_versions", 0, 4, 0, 3},
        {19, "create_topics", 2, 7, 2, 5},
        {20, "delete_topics", 1, 6, 1, 4},
        {21, "delete_records", 0, 2, 0, 2},
        {22, "init_producer_id", 0, 5, 0, 2},
        {23, "offset_for_leader_epoch", 2, 4, 2, 4},
        {24, "add_partitions_to_txn", 0, 3, 0, 3},
        {25, "add_offsets_to_txn", 0, 4, 0, 3},
        {26, "end_txn", 0, 5, 0, 3},
        {27, "write_txn_markers", 1, 2, 1, 1},
        {28, "txn_offset_commit", 0, 5, 0, 3},
        {32, "describe_configs", 1, 4, 1, 4},
        {33, "alter_configs", 0, 2, 0, 2},
        {35, "describe_log_dirs", 1, 5, 1, 2},
        {36, "sasl_authenticate", 0, 2, 0, 2},
        {37, "create_partitions", 0, 3, 0, 2},
        {42, "delete_groups", 0, 2, 0, 2},
        {43, "elect_leaders", 0, 2, 0, 2},
        {44, "incremental_alter_configs", 0, 1, 0, 1},
        {46, "list_partition_reassignments", 0, 0, 0, 0},
        {47, "offset_delete", 0, 0, 0, WIRE_NEVER},
        {48, "describe_client_quotas", 0, 1, 0, 1},
        {49, "alter_client_quotas", 0, 1, 0, 1},
        {50, "describe_user_scram_credentials", 0, 0, 0, 0},
        {55, "describe_quorum", 0, 2, 0, 0},
        {60, "describe_cluster", 0, 2, 0, 0},
        {61, "describe_producers", 0, 0, 0, 0},
        {65, "describe_transactions", 0, 0, 0, 0},
        {66, "list_transactions", 0, 2, 0, 0},
        {68, "consumer_group_heartbeat", 0, 1, 0, 0},
        {69, "consumer_group_describe", 0, 1, 0, 0},
        {74, "list_config_resources", 0, 1, 0, 0},
        {75, "describe_topic_partitions", 0, 0, 0, 0},
    };
    assert_int_equal(wire_api_cnt, sizeof(want) / sizeof(want[0]));
    for (uint32_t i = 0; i < wire_api_cnt; i++) {
        assert_int_equal(wire_apis[i].key, want[i].key);
        assert_string_equal(wire_apis[i].name, want[i].name);
        assert_int_equal(wire_apis[i].min, want[i].min);
        assert_int_equal(wire_apis[i].max, want[i].max);
        assert_int_equal(wire_apis[i].advertised_min, want[i].advertised_min);
        assert_int_equal(wire_apis[i].flexible_from, want[i].flexible_from);
    }
}

static void control_frames_carry_what_was_written(void **state)
{
    assert_int_equal(CTL_HELLO, CTL_HELLO_KEY);
    assert_int_equal(CTL_HELLO_REPLY, CTL_HELLO_REPLY_KEY);
    assert_int_equal(CTL_PING, CTL_PING_KEY);
    assert_int_equal(CTL_PONG, CTL_PONG_KEY);
    assert_int_equal(CTL_DRAIN_REQUEST, CTL_DRAIN_REQUEST_KEY);
    assert_int_equal(CTL_DRAIN_RESPONSE, CTL_DRAIN_RESPONSE_KEY);
    assert_int_equal(CTL_METADATA_BATCH, CTL_METADATA_BATCH_KEY);
    assert_int_equal(CTL_METADATA_APPLIED, CTL_METADATA_APPLIED_KEY);
    assert_int_equal(CTL_ADMIN_REQUEST, CTL_ADMIN_REQUEST_KEY);
    assert_int_equal(CTL_ADMIN_RESPONSE, CTL_ADMIN_RESPONSE_KEY);
    assert_int_equal(CTL_PRODUCER_IDS_REQUEST, CTL_PRODUCER_IDS_REQUEST_KEY);
    assert_int_equal(CTL_PRODUCER_IDS_RESPONSE, CTL_PRODUCER_IDS_RESPONSE_KEY);
    assert_int_equal(CTL_PARTITION_STATS_REQUEST, CTL_PARTITION_STATS_REQUEST_KEY);
    assert_int_equal(CTL_PARTITION_STATS_RESPONSE, CTL_PARTITION_STATS_RESPONSE_KEY);
    assert_int_equal(CTL_PARTITIONS_MISSING, CTL_PARTITIONS_MISSING_KEY);
    assert_int_equal(CTL_GAP, CTL_GAP_KEY);

    struct ctl_frame f;
    ctl_frame_head(buf, CTL_PING, 77, 3);
    memcpy(buf + CTL_FRAME_HEAD, "abc", 3);
    for (uint32_t len = 0; len < CTL_FRAME_HEAD + 3; len++)
        assert_rc(ctl_frame_parse(span_of(buf, len), &f), -EAGAIN);
    assert_rc(ctl_frame_parse(span_of(buf, CTL_FRAME_HEAD + 10), &f), CTL_FRAME_HEAD + 3);
    assert_int_equal(f.type, CTL_PING);
    assert_int_equal(f.id, 77);
    assert_true(span_eq_str(f.body, "abc"));
    store_be32(buf, 11);
    assert_rc(ctl_frame_parse(span_of(buf, 100), &f), -E_MALFORMED);
    store_be32(buf, 13 + CTL_BODY_MAX);
    assert_rc(ctl_frame_parse(span_of(buf, 100), &f), -E_LIMIT);
}

TEST_MAIN(TEST(what_is_written_is_read_back), TEST(defaults_are_read_back_as_defaults),
          TEST(every_truncation_is_refused_and_costs_no_memory), TEST(damage_is_survived),
          TEST(huge_counts_are_refused_before_any_allocation),
          TEST(null_is_refused_where_the_schema_forbids_it), TEST(a_full_arena_is_a_limit),
          TEST(more_elements_than_the_schema_allows_are_a_limit),
          TEST(a_version_outside_the_range_is_refused), TEST(unknown_tags_are_skipped),
          TEST(a_known_tag_of_the_wrong_size_is_malformed), TEST(golden_api_versions_response),
          TEST(golden_describe_topic_partitions_cursor),
          TEST(fields_absent_in_a_version_are_not_written),
          TEST(a_small_buffer_is_reported_and_never_passed),
          TEST(records_can_be_referenced_instead_of_copied),
          TEST(request_headers_follow_the_flexible_version),
          TEST(response_headers_follow_the_flexible_version),
          TEST(request_headers_are_written_as_they_are_read),
          TEST(the_api_table_is_what_we_advertise), TEST(control_frames_carry_what_was_written))
