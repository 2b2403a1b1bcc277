/* kafka_test.h - short forms for the tests of dataplane/kafka: send a generated request, take and
 * decode its response. One file per test executable includes it. */
#pragma once
#include "lib/batch/layout.h"
#include "tests/support/kafka_world.h"
#include "tests/support/test.h"

static struct arena arena; /* of decoded responses; reset by each test's world() */
static struct world *w;

#define REQUEST(c, key, version, x, m)                                                             \
    client_request(c, key, version, 1000 + (version), (write_fn *)(void *)x##_request_write, m)

/* Decode the next response into *out; fails the test when there is none. */
#define RESPONSE(c, key, version, x, out)                                                          \
    do {                                                                                           \
        struct span f_;                                                                            \
        struct wire_reader r_;                                                                     \
        int32_t correlation_;                                                                      \
        if (!client_take(c, &f_))                                                                  \
            fail_msg("no response to %s version %d", #x, version);                                 \
        uint8_t *copy_ = arena_alloc(&arena, f_.len);                                              \
        memcpy(copy_, f_.p, f_.len);                                                               \
        wire_reader_init(&r_, span_of(copy_, f_.len));                                             \
        assert_ok(wire_response_header_read(&r_, wire_api_find(key), version, &correlation_));     \
        assert_int_equal(correlation_, 1000 + (version));                                          \
        assert_ok(x##_response_read(&r_, version, &arena, out));                                   \
        assert_int_equal(wire_left(&r_), 0);                                                       \
    } while (0)

static void open_world(const struct world_opts *opts)
{
    static const struct world_opts none;
    arena_fini(&arena);
    arena_init(&arena, 256u << 20);
    w = world_create(opts != NULL ? opts : &none);
}

/* A counter or gauge of struct kafka_stats, of all shards. */
#define STAT(field)                                                                                \
    ({                                                                                             \
        uint64_t sum_ = 0;                                                                         \
        for (uint32_t i_ = 0; i_ < w->shard_cnt; i_++) {                                           \
            struct kafka_stats st_;                                                                \
            kafka_stats_get(w->shard[i_].kafka, &st_);                                             \
            sum_ += st_.field;                                                                     \
        }                                                                                          \
        sum_;                                                                                      \
    })

static void close_world(void)
{
    world_destroy(w);
    arena_fini(&arena);
    arena_init(&arena, 256u << 20);
}

__attribute__((unused)) static bool no_response(struct client *c)
{
    struct span f;
    return !client_take(c, &f);
}

struct produce1 { /* a Produce of one partition */
    struct produce_request req;
    struct produce_request_topic topic;
    struct produce_request_partition part;
};
__attribute__((unused)) static struct produce_request *produce1(struct produce1 *p,
                                                                const char *topic,
                                                                int32_t partition,
                                                                struct span records, int16_t acks)
{
    produce_request_init(&p->req);
    produce_request_topic_init(&p->topic);
    produce_request_partition_init(&p->part);
    p->req.acks = acks;
    p->req.timeout_ms = 1000;
    p->req.topic_data.v = &p->topic;
    p->req.topic_data.cnt = 1;
    p->topic.name = span_str(topic);
    const struct meta_topic *t = image_topic_by_name(w->image, span_str(topic));
    if (t != NULL)
        p->topic.topic_id = t->id;
    p->topic.partition_data.v = &p->part;
    p->topic.partition_data.cnt = 1;
    p->part.index = partition;
    p->part.records = records;
    return &p->req;
}

/* The one partition of a Produce answer. */
__attribute__((unused)) static struct produce_response_partition take_produce(struct client *c,
                                                                              int16_t version)
{
    struct produce_response resp;
    RESPONSE(c, 0, version, produce, &resp);
    assert_int_equal(resp.responses.cnt, 1);
    assert_int_equal(resp.responses.v[0].partition_responses.cnt, 1);
    return resp.responses.v[0].partition_responses.v[0];
}

struct fetch_n { /* a Fetch of up to 4 partitions of one topic */
    struct fetch_request req;
    struct fetch_request_topic topic;
    struct fetch_request_partition part[WORLD_TOPIC_PARTITIONS];
};
__attribute__((unused)) static struct fetch_request *
fetch_n(struct fetch_n *f, const char *topic, uint32_t parts, int32_t wait_ms, int32_t min_bytes)
{
    fetch_request_init(&f->req);
    fetch_request_topic_init(&f->topic);
    f->req.max_wait_ms = wait_ms;
    f->req.min_bytes = min_bytes;
    f->req.max_bytes = 50 << 20;
    f->req.topics.v = &f->topic;
    f->req.topics.cnt = 1;
    f->topic.topic = span_str(topic);
    const struct meta_topic *t = image_topic_by_name(w->image, span_str(topic));
    if (t != NULL)
        f->topic.topic_id = t->id;
    f->topic.partitions.v = f->part;
    f->topic.partitions.cnt = parts;
    for (uint32_t i = 0; i < parts; i++) {
        fetch_request_partition_init(&f->part[i]);
        f->part[i].partition = (int32_t)i;
        f->part[i].partition_max_bytes = 1 << 20;
    }
    return &f->req;
}
