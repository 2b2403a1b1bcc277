/* fuzz_kafka_request.c - bytes of a Kafka client through the whole request path: frames, headers,
 * bodies, handlers, owners (fake logs) and responses, over the simulated transport. The first byte
 * says how the bytes are cut up; the world must be clean again afterwards (world_destroy checks).
 */
#include "lib/base/log.h"
#include "tests/support/any_request.h"
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
