/* fuzz_kafka_request.c - bytes of a Kafka client through the whole request path: frames, headers,
 * bodies, handlers, owners (fake logs) and responses, over the simulated transport. The first byte
 * says how the bytes are cut up; the world must be clean again afterwards (world_destroy checks).
 */
#include "lib/base/log.h"
#include "tests/support/kafka_world.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    log_set_level(LOG_LEVEL_NONE);
    if (len < 2)
        return 0;
    struct world_opts opts = {.shards = 2,
                              .request_bytes = 8u << 20,
                              .connections_max = 8,
                              .chunk_max = data[0] % 8 == 0 ? 7 : 0,
                              .seed = data[0]};
    struct world *w = world_create(&opts);
    w->creates = data[0] & 16;
    world_topic(w, "t", NULL);
    struct span b = make_batch(2, 20, NULL);
    fake_plog_put(world_plog(w, "t", 0), b);
    free((void *)(uintptr_t)b.p);
    struct client *c = client_open(w);
    client_send(c, data + 1, len - 1);
    world_run(w, 4);
    client_close(c);
    world_destroy(w);
    return 0;
}

static size_t seed_of(int16_t key, int16_t version, uint8_t *buf, size_t cap)
{
    size_t n = 0;
    uint8_t *p = NULL;
    struct span b = make_batch(2, 20, NULL);
    struct span name = span_str("t");
    switch (key) {
    case 0: {
        struct produce_request m;
        struct produce_request_topic t;
        struct produce_request_partition part;
        produce_request_init(&m);
        produce_request_topic_init(&t);
        produce_request_partition_init(&part);
        m.acks = -1;
        m.timeout_ms = 100;
        m.topic_data.v = &t;
        m.topic_data.cnt = 1;
        t.name = name;
        t.topic_id = world_topic_id(1);
        t.partition_data.v = &part;
        t.partition_data.cnt = 1;
        part.records = b;
        p = request_bytes(key, version, 1, (write_fn *)(void *)produce_request_write, &m, &n);
        break;
    }
    case 1: {
        struct fetch_request m;
        struct fetch_request_topic t;
        struct fetch_request_partition part[2];
        fetch_request_init(&m);
        fetch_request_topic_init(&t);
        m.max_wait_ms = 2;
        m.min_bytes = 1;
        m.max_bytes = 1 << 20;
        m.topics.v = &t;
        m.topics.cnt = 1;
        t.topic = name;
        t.topic_id = world_topic_id(1);
        t.partitions.v = part;
        t.partitions.cnt = 2;
        for (int i = 0; i < 2; i++) {
            fetch_request_partition_init(&part[i]);
            part[i].partition = i;
            part[i].partition_max_bytes = 1 << 20;
        }
        p = request_bytes(key, version, 1, (write_fn *)(void *)fetch_request_write, &m, &n);
        break;
    }
    case 2: {
        struct list_offsets_request m;
        struct list_offsets_request_topic t;
        struct list_offsets_request_partition part;
        list_offsets_request_init(&m);
        list_offsets_request_topic_init(&t);
        list_offsets_request_partition_init(&part);
        m.topics.v = &t;
        m.topics.cnt = 1;
        t.name = name;
        t.partitions.v = &part;
        t.partitions.cnt = 1;
        part.timestamp = -1;
        p = request_bytes(key, version, 1, (write_fn *)(void *)list_offsets_request_write, &m, &n);
        break;
    }
    case 3: {
        struct metadata_request m;
        struct metadata_request_topic t[2];
        metadata_request_init(&m);
        m.topics.v = t;
        m.topics.cnt = 2;
        for (int i = 0; i < 2; i++) {
            metadata_request_topic_init(&t[i]);
            t[i].name = i == 0 ? name : span_str("new");
        }
        p = request_bytes(key, version, 1, (write_fn *)(void *)metadata_request_write, &m, &n);
        break;
    }
    case 18: {
        struct api_versions_request m;
        api_versions_request_init(&m);
        m.client_software_name = m.client_software_version = name;
        p = request_bytes(key, version, 1, (write_fn *)(void *)api_versions_request_write, &m, &n);
        break;
    }
    case 19: {
        struct create_topics_request m;
        struct create_topics_request_topic t;
        create_topics_request_init(&m);
        create_topics_request_topic_init(&t);
        m.topics.v = &t;
        m.topics.cnt = 1;
        t.name = span_str("made");
        p = request_bytes(key, version, 1, (write_fn *)(void *)create_topics_request_write, &m, &n);
        break;
    }
    case 22: {
        struct init_producer_id_request m;
        init_producer_id_request_init(&m);
        m.transactional_id = SPAN_NULL;
        p = request_bytes(key, version, 1, (write_fn *)(void *)init_producer_id_request_write, &m,
                          &n);
        break;
    }
    case 32: {
        struct describe_configs_request m;
        struct describe_configs_request_resource r;
        describe_configs_request_init(&m);
        describe_configs_request_resource_init(&r);
        m.resources.v = &r;
        m.resources.cnt = 1;
        r.resource_type = 2;
        r.resource_name = name;
        r.configuration_keys.null = true;
        p = request_bytes(key, version, 1, (write_fn *)(void *)describe_configs_request_write, &m,
                          &n);
        break;
    }
    case 60: {
        struct describe_cluster_request m;
        describe_cluster_request_init(&m);
        p = request_bytes(key, version, 1, (write_fn *)(void *)describe_cluster_request_write, &m,
                          &n);
        break;
    }
    case 75: {
        struct describe_topic_partitions_request m;
        describe_topic_partitions_request_init(&m);
        p = request_bytes(key, version, 1,
                          (write_fn *)(void *)describe_topic_partitions_request_write, &m, &n);
        break;
    }
    default:
        break;
    }
    size_t out = 0;
    if (p != NULL && n + 1 <= cap) {
        buf[0] = (uint8_t)version;
        memcpy(buf + 1, p, n);
        out = n + 1;
    }
    free(p);
    free((void *)(uintptr_t)b.p);
    return out;
}

/* Every version of every API that takes a small request. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const struct {
        int16_t key, lo, hi;
    } apis[] = {{0, 3, 13}, {1, 4, 18}, {2, 1, 11}, {3, 0, 13}, {18, 0, 4},
                {19, 2, 7}, {22, 0, 5}, {32, 1, 4}, {60, 0, 2}, {75, 0, 0}};
    for (size_t a = 0; a < sizeof(apis) / sizeof(apis[0]); a++) {
        unsigned n = (unsigned)(apis[a].hi - apis[a].lo + 1);
        if (i < n)
            return seed_of(apis[a].key, (int16_t)(apis[a].lo + (int)i), buf, cap);
        i -= n;
    }
    return 0;
}
