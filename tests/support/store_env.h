/* store_env.h - a shard's store on the fake disk, driven step by step, and a model of what it must
 * hold. Header only: each test builds its own copy. */
#pragma once
#include "accel/accel.h"
#include "accel/crc32c.h"
#include "dataplane/shard/shard.h"
#include "dataplane/store/catalog.h"
#include "dataplane/store/plog.h"
#include "dataplane/store/recover.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include "tests/support/fake_file.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ENV_PARTS_MAX 1024
#define ENV_DIR "/data/log"

struct env {
    struct fake_disk *disk;
    uint64_t rng;
    struct file_io io;
    struct shard shard;
    struct catalog *cat;
    struct plog_set *set;
    struct plog_set_conf sc;
    struct plog_conf pc;
    uint32_t part_cnt;
    uint32_t keyed_from; /* partitions from here on are compacted; 0: none */
    struct plog *parts[ENV_PARTS_MAX];
    struct recover_report rep;
    void (*say)(void *arg, const char *text); /* what recovery says; NULL: nobody listens */
    bool spare_derived; /* recover_opts */
    bool closed;
    int close_rc;
};

static inline uint64_t env_rnd(struct env *e, uint64_t n)
{
    e->rng ^= e->rng << 13;
    e->rng ^= e->rng >> 7;
    e->rng ^= e->rng << 17;
    return n ? e->rng % n : 0;
}

static inline struct uuid env_topic_id(void)
{
    struct uuid u = {{0x11, 0x22, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    return u;
}

static inline void env_init(struct env *e, uint64_t seed)
{
    accel_init(false);
    log_set_level(LOG_LEVEL_NONE);
    *e = (struct env){.disk = fake_disk_new(seed), .rng = seed * 7919 + 12345};
    e->io = (struct file_io){.ops = &fake_file_ops, .arg = e->disk};
    e->shard = (struct shard){.cnt = 1, .now_ns = 1000000000, .wall_ms = 1700000000000};
    e->sc = (struct plog_set_conf){.staging_bytes = 4u << 20,
                                   .cold_read_bytes = 1u << 20,
                                   .submit_max_ms = 5,
                                   .flush_max_ms = 20,
                                   .journal_file_bytes = 256u << 10,
                                   .journal_file_cnt = 3,
                                   .journal_threshold_bytes = 64u << 10,
                                   .drain_age_ms = 100,
                                   .idle_close_ms = 500,
                                   .checkpoint_ms = 200};
    e->pc = (struct plog_conf){.segment_bytes = 256u << 10,
                               .segment_ms = INT64_MAX,
                               .index_interval_bytes = 4096,
                               .index_bytes_max = 1u << 20,
                               .retention_ms = -1,
                               .retention_bytes = -1,
                               .max_message_bytes = 1u << 20};
    int rc = fake_file_ops.mkdir(&e->io, "/data");
    ASSERT(rc == 0);
    rc = fake_file_ops.dir_sync(&e->io, "");
    ASSERT(rc == 0);
}

static inline struct plog_conf env_conf_of(const struct env *e, uint32_t part)
{
    struct plog_conf c = e->pc;
    if (e->keyed_from == 0 || part < e->keyed_from)
        return c;
    c.segment_bytes = 32u << 10;
    c.compact = true;
    c.min_dirty_ratio = 0.1;
    c.max_compaction_lag_ms = INT64_MAX;
    c.delete_retention_ms = 1000;
    return c;
}

/* Open what is on the disk, attach everything. */
static inline int env_open(struct env *e)
{
    static const struct uuid cluster = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    char err[CATALOG_ERR_MAX];
    struct catalog_opts co = {.ops = &fake_file_ops,
                              .ops_arg = e->disk,
                              .dir_cnt = 1,
                              .dirs = {ENV_DIR},
                              .cluster_id = &cluster,
                              .node_id = 1,
                              .format = true};
    struct recover_opts ro;
    struct list parts;
    recover_opts_default(&ro);
    ro.index_interval_bytes = e->pc.index_interval_bytes;
    ro.segment_bytes = e->pc.segment_bytes;
    ro.spare_derived = e->spare_derived;
    list_init(&parts);
    e->rep = (struct recover_report){.say = e->say, .verbose = e->say != NULL};
    int rc = catalog_open(&co, &e->cat, err);
    if (rc < 0)
        return rc;
    rc = recover_data_dirs(e->cat, &ro, &e->rep, &parts);
    if (rc == 0)
        rc = plog_set_create(&e->shard, &e->io, e->cat, &e->sc, &e->set);
    for (struct list *n = list_pop_head(&parts); n; n = list_pop_head(&parts)) {
        struct part *p = container_of(n, struct part, link);
        int32_t i = p->partition;
        if (rc < 0) {
            part_destroy(p);
            continue;
        }
        ASSERT(i < ENV_PARTS_MAX);
        const struct plog_conf pc = env_conf_of(e, (uint32_t)i);
        rc = plog_attach(e->set, p, &pc, &e->parts[i]);
    }
    if (rc < 0) {
        plog_set_destroy(e->set);
        e->set = NULL;
        (void)catalog_close(e->cat, false); /* the first error is the one to tell */
        e->cat = NULL;
    }
    e->closed = false;
    return rc;
}

static inline int env_create_parts(struct env *e, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++) {
        struct part *p;
        if (e->parts[i] != NULL)
            continue;
        int rc = catalog_part_create(e->cat,
                                     &(struct part_create_opts){.topic = "t",
                                                                .topic_id = env_topic_id(),
                                                                .partition = (int32_t)i,
                                                                .leader_epoch = 0,
                                                                .sync_parent = true},
                                     &p);
        if (rc < 0)
            return rc;
        const struct plog_conf pc = env_conf_of(e, i);
        rc = plog_attach(e->set, p, &pc, &e->parts[i]);
        if (rc < 0)
            return rc;
    }
    e->part_cnt = cnt;
    return 0;
}

/* One turn: some completions, some time, one poll of the set. */
static inline void env_step(struct env *e, uint32_t completions, uint64_t ns)
{
    fake_disk_poll(e->disk, completions);
    e->shard.now_ns += ns;
    e->shard.wall_ms = 1700000000000 + (int64_t)(e->shard.now_ns / 1000000);
    plog_set_poll(e->set, 64);
    plog_set_check(e->set);
}

static inline void env_settle(struct env *e)
{
    for (int i = 0; i < 100000; i++) {
        env_step(e, 1000, 1000000);
        if (plog_set_is_idle(e->set) && fake_disk_in_flight(e->disk) == 0)
            return;
    }
    struct plog_set_stats st;
    plog_set_stats_get(e->set, &st);
    printf("in flight %u, unflushed %" PRIu64 ", free staging %" PRIu64 ", free journal files %u\n",
           fake_disk_in_flight(e->disk), st.unflushed_bytes, st.staging_free_bytes,
           st.journal_free_files);
    fflush(stdout);
    ASSERT(!"the store does not come to rest");
}

static inline void env_on_closed(void *arg, int rc)
{
    struct env *e = arg;
    e->closed = true;
    e->close_rc = rc;
}

static inline int env_close(struct env *e)
{
    plog_set_close(e->set, env_on_closed, e);
    for (int i = 0; i < 100000 && !e->closed; i++)
        env_step(e, 1000, 1000000);
    ASSERT(e->closed);
    plog_set_destroy(e->set);
    e->set = NULL;
    memset(e->parts, 0, sizeof(e->parts));
    int rc = catalog_close(e->cat, e->close_rc == 0);
    e->cat = NULL;
    return e->close_rc < 0 ? e->close_rc : rc;
}

/* The process is gone, what it had in memory too. */
static inline void env_abandon(struct env *e)
{
    for (int i = 0; i < 8 || fake_disk_in_flight(e->disk) > 0; i++)
        env_step(e, 1000, 0); /* what was under way fails; jobs hand their files back */
    plog_set_destroy(e->set);
    e->set = NULL;
    memset(e->parts, 0, sizeof(e->parts));
    (void)catalog_close(e->cat, false); /* the disk is dead: fails, and only frees */
    e->cat = NULL;
}

static inline void env_fini(struct env *e)
{
    fake_disk_free(e->disk);
}

/* A sound batch of `len` bytes (>= 80), `cnt` records by its header, `tag` in its body. */
struct env_batch {
    uint64_t tag;
    uint32_t len;
    int32_t cnt;
    int64_t ts;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_seq;
};
static inline uint8_t *env_batch_build(const struct env_batch *b)
{
    uint8_t *p = calloc(1, b->len);
    ASSERT(p != NULL);
    ASSERT(b->len >= 80);
    store_be32(p + BATCH_LENGTH, b->len - BATCH_LOG_OVERHEAD);
    store_be32(p + BATCH_LEADER_EPOCH, UINT32_MAX);
    p[BATCH_MAGIC] = 2;
    store_be32(p + BATCH_LAST_OFFSET_DELTA, (uint32_t)b->cnt - 1);
    store_be64(p + BATCH_BASE_TIMESTAMP, (uint64_t)b->ts);
    store_be64(p + BATCH_MAX_TIMESTAMP, (uint64_t)b->ts);
    store_be64(p + BATCH_PRODUCER_ID, (uint64_t)b->producer_id);
    store_be16(p + BATCH_PRODUCER_EPOCH, (uint16_t)b->producer_epoch);
    store_be32(p + BATCH_BASE_SEQUENCE, (uint32_t)b->base_seq);
    store_be32(p + BATCH_RECORD_COUNT, (uint32_t)b->cnt);
    store_be64(p + BATCH_HEADER_LEN, b->tag);
    uint64_t x = b->tag * UINT64_C(0x9E3779B97F4A7C15) | 1;
    for (uint32_t i = BATCH_HEADER_LEN + 8; i < b->len; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        p[i] = (uint8_t)(x >> 56);
    }
    store_be32(p + BATCH_CRC, crc32c(0, p + BATCH_CRC_START, b->len - BATCH_CRC_START));
    return p;
}

/* Synchronous helpers for tests that want an answer now. */
struct env_append {
    struct plog_append a;
    bool done;
};
static inline void env_append_done(struct plog_append *a)
{
    container_of(a, struct env_append, a)->done = true;
}
static inline int env_append_batch(struct env *e, uint32_t part, const struct env_batch *b,
                                   struct env_append *x)
{
    uint8_t *p = env_batch_build(b);
    *x = (struct env_append){.a = {.wait_durable = true,
                                   .batch = span_of(p, b->len),
                                   .max_timestamp_ms = b->ts,
                                   .done = env_append_done}};
    plog_append(e->parts[part], &x->a);
    for (int i = 0; i < 10000 && !x->done; i++)
        env_step(e, 1000, 1000000);
    ASSERT(x->done);
    free(p);
    return x->a.rc;
}

struct env_read {
    struct plog_read r;
    bool done;
};
static inline void env_read_done(struct plog_read *r)
{
    container_of(r, struct env_read, r)->done = true;
}
/* A read of what comes at and behind `offset`, to be given to plog_read. */
static inline struct plog_read env_read_make(int64_t offset, uint8_t *dst, uint32_t cap)
{
    return (struct plog_read){.offset = offset,
                              .current_leader_epoch = -1,
                              .last_fetched_epoch = -1,
                              .max_bytes = cap,
                              .min_one_batch = true,
                              .dst = dst,
                              .dst_cap = cap,
                              .done = env_read_done};
}
static inline int env_read_run(struct env *e, uint32_t part, struct env_read *x)
{
    plog_read(e->parts[part], &x->r);
    for (int i = 0; i < 10000 && !x->done; i++)
        env_step(e, 1000, 100000);
    ASSERT(x->done);
    return x->r.rc;
}
static inline int env_read(struct env *e, uint32_t part, int64_t offset, uint8_t *dst, uint32_t cap,
                           struct env_read *x)
{
    *x = (struct env_read){.r = env_read_make(offset, dst, cap)};
    return env_read_run(e, part, x);
}
