/* fuzz_group_records.c - records of __consumer_offsets from anywhere, read as at a start: groups of
 * both protocols, members, assignments, offsets, tombstones, in any order. Then the groups found
 * are listed, described, joined and left, the clock runs past every session, and what was written
 * is read once more. The world must be clean again afterwards (world_destroy checks).
 *
 * Input: per record u8 flags (1: no value, 2: a batch ends here), u8 key length, u16 value length,
 * key, value. */
#include "dataplane/kafka/group/consumer.h"
#include "lib/base/log.h"
#include "lib/batch/check.h"
#include "tests/support/kafka_world.h"
#include <stdlib.h>

enum { NO_VALUE = 1, ENDS = 2, BATCHES_MAX = 64 };

static struct world *open_world(void)
{
    struct world_opts opts = {.shards = 1, .request_bytes = 8u << 20, .connections_max = 4};
    struct world *w = world_create(&opts);
    w->conf->group_initial_rebalance_delay_ms = 0;
    world_topic(w, "t", NULL);
    world_topic(w, OFFSETS_TOPIC, "cleanup.policy=compact");
    return w;
}

static void put_batch(struct world *w, struct batch_builder *b)
{
    static const struct seal_opts plain = {
        .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    struct span batch;
    if (b->record_cnt == 0)
        return;
    if (batch_seal(b, NULL, &plain, NULL, 0, &batch) < 0)
        abort();
    fake_plog_put(world_plog(w, OFFSETS_TOPIC, 0), batch);
    batch_builder_init(b, b->buf, b->cap);
}

static void put_records(struct world *w, const uint8_t *p, size_t len)
{
    uint32_t cap = (uint32_t)len * 2 + 65536, batches = 0;
    uint8_t *buf = malloc(cap);
    struct batch_builder b;
    batch_builder_init(&b, buf, cap);
    while (len >= 4 && batches < BATCHES_MAX) {
        uint32_t klen = p[1], vlen = load_be16(p + 2);
        uint8_t flags = p[0];
        p += 4;
        len -= 4;
        klen = klen > len ? (uint32_t)len : klen;
        struct rec r = {.key = span_of(p, klen), .timestamp_ms = 1};
        p += klen;
        len -= klen;
        vlen = vlen > len ? (uint32_t)len : vlen;
        r.value = (flags & NO_VALUE) != 0 ? SPAN_NULL : span_of(p, vlen);
        p += vlen;
        len -= vlen;
        if (batch_builder_add(&b, &r) < 0)
            break;
        if ((flags & ENDS) != 0) {
            put_batch(w, &b);
            batches++;
        }
    }
    put_batch(w, &b);
    free(buf);
}

static void drain(struct client *c)
{
    struct span f;
    world_run(c->w, 5);
    while (client_take(c, &f))
        ;
}

static void beat(struct client *c, const char *member, int32_t epoch, const char *regex)
{
    struct consumer_group_heartbeat_request m;
    struct span name = span_str("t");
    consumer_group_heartbeat_request_init(&m);
    m.group_id = span_str("g");
    m.member_id = span_str(member);
    m.member_epoch = epoch;
    if (epoch == CONSUMER_EPOCH_JOIN) {
        m.rebalance_timeout_ms = 20000;
        m.topic_partitions.null = false;
        m.subscribed_topic_names = (struct wire_spans){.v = &name, .cnt = 1};
        if (regex != NULL)
            m.subscribed_topic_regex = span_str(regex);
    }
    client_request(c, 68, 1, 1, (write_fn *)(void *)consumer_group_heartbeat_request_write, &m);
    drain(c);
}

static void join(struct client *c)
{
    struct join_group_request m;
    struct join_group_request_protocol proto;
    join_group_request_init(&m);
    join_group_request_protocol_init(&proto);
    m.group_id = span_str("c");
    m.protocol_type = span_str("consumer");
    m.session_timeout_ms = 6000;
    m.rebalance_timeout_ms = 6000;
    m.protocols.v = &proto;
    m.protocols.cnt = 1;
    proto.name = span_str("range");
    client_request(c, 11, 3, 1, (write_fn *)(void *)join_group_request_write, &m);
    drain(c);
}

static void ask(struct client *c)
{
    struct list_groups_request list;
    struct consumer_group_describe_request describe;
    struct describe_groups_request classic;
    struct span names[2] = {span_str("g"), span_str("c")};
    list_groups_request_init(&list);
    consumer_group_describe_request_init(&describe);
    describe_groups_request_init(&classic);
    describe.group_ids = classic.groups = (struct wire_spans){.v = names, .cnt = 2};
    client_request(c, 16, 5, 1, (write_fn *)(void *)list_groups_request_write, &list);
    client_request(c, 69, 1, 1, (write_fn *)(void *)consumer_group_describe_request_write,
                   &describe);
    client_request(c, 15, 6, 1, (write_fn *)(void *)describe_groups_request_write, &classic);
    drain(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    log_set_level(LOG_LEVEL_NONE);
    struct world *w = open_world();
    put_records(w, data, len);
    world_run(w, 5);
    struct client *c = client_open(w);
    ask(c);
    beat(c, "a", CONSUMER_EPOCH_JOIN, NULL);
    beat(c, "a", 1, NULL);
    beat(c, "b", CONSUMER_EPOCH_JOIN, "t.*");
    join(c);
    ask(c);
    beat(c, "a", CONSUMER_EPOCH_LEAVE, NULL);
    world_run(w, 200); /* far timers are fired by moving the clock, not by its every step */
    for (uint32_t i = 0; i < 3; i++) {
        w->now_ns += UINT64_C(60000000000);
        world_run(w, 3);
    }
    coord_reload(coord_part(w->shard[0].kafka->coord, 0));
    world_run(w, 5);
    ask(c);
    client_close(c);
    world_destroy(w);
    return 0;
}

/* What a world with a group of each protocol has written. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    if (i > 1)
        return 0;
    log_set_level(LOG_LEVEL_NONE);
    struct world *w = open_world();
    world_run(w, 5);
    struct client *c = client_open(w);
    beat(c, "a", CONSUMER_EPOCH_JOIN, NULL);
    beat(c, "b", CONSUMER_EPOCH_JOIN, i == 1 ? "t|u" : NULL);
    beat(c, "a", 1, NULL);
    if (i == 1)
        beat(c, "b", CONSUMER_EPOCH_LEAVE, NULL);
    join(c);
    size_t at = 0;
    struct codec_ctx *codecs = w->shard[0].codecs;
    for (int32_t part = 0; part < WORLD_TOPIC_PARTITIONS; part++) {
        const struct plog *log = world_plog(w, OFFSETS_TOPIC, part);
        for (uint32_t k = 0; k < log->batch_cnt; k++) {
            struct record_iter it;
            struct record_view r;
            struct span b = span_of(log->batch[k].bytes, log->batch[k].len);
            if (record_iter_init(&it, codecs, b, w->shard[0].kafka->scratch, KAFKA_INFLATE_MAX) < 0)
                abort();
            while (record_iter_next(&it, &r) == 1) {
                if (at + 4 + r.key.len + r.value.len > cap || r.key.len > 255)
                    abort();
                buf[at] = span_is_null(r.value) ? NO_VALUE : 0;
                buf[at + 1] = (uint8_t)r.key.len;
                store_be16(buf + at + 2, (uint16_t)r.value.len);
                memcpy(buf + at + 4, r.key.p, r.key.len);
                if (r.value.len > 0)
                    memcpy(buf + at + 4 + r.key.len, r.value.p, r.value.len);
                at += 4 + r.key.len + r.value.len;
            }
        }
    }
    client_close(c);
    world_destroy(w);
    return at;
}
