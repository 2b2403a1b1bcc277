/* fuzz_kafka_request.c - bytes of a Kafka client through the whole request path: frames, headers,
 * bodies, handlers, owners (fake logs) and responses, over the simulated transport. The first byte
 * says how the bytes are cut up. After every input the connection is closed and nothing may be
 * left: no request, no memory. Making the shards costs a hundred times what most inputs do, so they
 * serve until an input changed something that lasts (a record, a topic), or REUSE_MAX inputs. */
#include "lib/base/log.h"
#include "tests/support/any_request.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REUSE_MAX 200 /* a world has room for 512 clients */

static struct world *shards_make(bool chunky)
{
    struct world_opts opts = {.shards = 2,
                              .request_bytes = 8u << 20,
                              .connections_max = 8,
                              .chunk_max = chunky ? 7 : 0,
                              .seed = 1};
    struct world *w = world_create(&opts);
    world_topic(w, ANY_TOPIC, NULL);
    struct span b = make_batch(2, 20, NULL);
    fake_plog_put(world_plog(w, ANY_TOPIC, 0), b);
    free((void *)(uintptr_t)b.p);
    return w;
}

static void check_nothing_left(struct world *w)
{
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        struct kafka_stats st;
        kafka_stats_get(w->shard[i].kafka, &st);
        if (st.connections + st.requests_inflight != 0 ||
            st.request_bytes_used + st.response_bytes_used != 0)
            abort();
    }
}

/* Would the next input find what this one did? */
static bool is_changed(struct world *w)
{
    uint32_t batches = 0;
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        for (uint32_t p = 0; p < w->shard[i].plogs->cnt; p++)
            batches += w->shard[i].plogs->p[p]->batch_cnt;
    return batches != 1 || w->topics_made != 1 || w->client_cnt >= REUSE_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world *worlds[2];
    log_set_level(LOG_LEVEL_NONE);
    if (len < 2)
        return 0;
    bool chunky = data[0] % 8 == 0;
    if (worlds[chunky] == NULL)
        worlds[chunky] = shards_make(chunky);
    struct world *w = worlds[chunky];
    world_use(w);
    w->creates = data[0] & 16;
    struct client *c = client_open(w);
    client_send(c, data + 1, len - 1);
    world_run(w, 4);
    client_close(c);
    world_run(w, 4);
    check_nothing_left(w);
    if (is_changed(w)) {
        world_destroy(w);
        worlds[chunky] = NULL;
    }
    return 0;
}

/* One request of every version of every API. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    const struct api *api;
    for (uint32_t a = 0; (api = api_at(a)) != NULL; a++) {
        unsigned n = (unsigned)(api->max - api->min + 1);
        if (i >= n) {
            i -= n;
            continue;
        }
        struct span b = make_batch(2, 20, NULL);
        struct arena arena;
        arena_init(&arena, 1 << 20);
        size_t len;
        uint8_t *p = any_request(api, (int16_t)(api->min + (int)i), &arena, b, &len);
        if (len + 1 > cap)
            abort();
        buf[0] = (uint8_t)i;
        memcpy(buf + 1, p, len);
        free(p);
        arena_fini(&arena);
        free((void *)(uintptr_t)b.p);
        return len + 1;
    }
    return 0;
}
