/* steps.h - what the tests of the store have in common: a store on the fake disk (store_env.h), and
 * steps that must succeed. Header only: each test builds its own copy. */
#pragma once
#include "dataplane/upkeep/upkeep.h"
#include "tests/support/store_env.h"
#include "tests/support/test.h"

static uint8_t buf[4u << 20];

static inline struct env *start_seed(uint64_t seed, uint32_t parts, void (*tune)(struct env *e))
{
    struct env *e = calloc(1, sizeof(*e));
    assert_non_null(e);
    env_init(e, seed);
    if (tune != NULL)
        tune(e);
    assert_ok(env_open(e));
    assert_ok(env_create_parts(e, parts));
    return e;
}

static inline struct env *start(uint32_t parts, void (*tune)(struct env *e))
{
    return start_seed(42, parts, tune);
}

static inline void stop(struct env *e)
{
    assert_ok(env_close(e));
    env_fini(e);
    free(e);
}

static inline struct env_batch plain(uint64_t tag, uint32_t len)
{
    return (struct env_batch){.tag = tag,
                              .len = len,
                              .cnt = 1,
                              .ts = 1700000000000 + (int64_t)tag,
                              .producer_id = -1,
                              .producer_epoch = -1,
                              .base_seq = -1};
}

static inline struct env_append put(struct env *e, uint32_t part, uint64_t tag, uint32_t len)
{
    struct env_append x;
    struct env_batch b = plain(tag, len);
    assert_ok(env_append_batch(e, part, &b, &x));
    return x;
}

/* Count of sound batches that Fetch gives from offset 0 (or the log start) to the end. */
static inline uint32_t count_all(struct env *e, uint32_t part)
{
    struct plog_offsets off;
    uint32_t cnt = 0;
    plog_offsets_get(e->parts[part], &off);
    for (int64_t next = off.log_start; next < off.durable;) {
        struct env_read x;
        assert_ok(env_read(e, part, next, buf, sizeof(buf), &x));
        assert_true(x.r.len > 0);
        for (uint32_t at = 0; at < x.r.len; cnt++) {
            struct batch_info b;
            assert_ok(batch_verify(buf + at, x.r.len - at, &b));
            assert_int_equal(b.base_offset, next);
            next = b.base_offset + b.last_offset_delta + 1;
            at += b.total_len;
        }
    }
    return cnt;
}

struct bulk {
    struct plog_append a;
    bool done;
};
static inline void bulk_done(struct plog_append *a)
{
    container_of(a, struct bulk, a)->done = true;
}

static inline void upkeep_seconds(struct env *e, struct upkeep *u, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        env_step(e, 1000, 1000000000);
        (void)upkeep_poll(u, &e->shard);
        env_step(e, 1000, 1000000);
    }
}
