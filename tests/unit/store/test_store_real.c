/* The same store on a real file system: O_DIRECT where it is taken, io_uring, and the housekeeping
 * thread. Shows that what the fake disk proves also runs on Linux; prints the rate (no claim). */
#include "dataplane/io/uring.h"
#include "dataplane/store/plog_int.h"
#include "lib/base/clock.h"
#include "tests/support/store_env.h"
#include "tests/support/test.h"

#define PARTS 8
#define INFLIGHT 64
#define BATCHES 800

struct real {
    struct shard s;
    const struct file_io_ops *ops;
    struct file_io io;
    struct catalog *cat;
    struct plog_set *set;
    struct plog *parts[PARTS];
    char log_dir[256];
    struct recover_report rep;
    bool closed;
    int close_rc;
};
struct slot {
    struct plog_append a;
    bool busy;
    uint32_t *acked;
};

static void turn(struct real *r)
{
    r->s.now_ns = clock_mono_ns();
    r->s.wall_ms = clock_wall_ms();
    uring_reap(r->s.uring, 256);
    plog_set_poll(r->set, 64);
    uring_submit(r->s.uring);
}

static void open_all(struct real *r)
{
    static const struct uuid cluster = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    char err[CATALOG_ERR_MAX];
    struct catalog_opts co = {.ops = r->ops,
                              .dir_cnt = 1,
                              .dirs = {r->log_dir},
                              .cluster_id = &cluster,
                              .node_id = 1,
                              .format = true};
    struct recover_opts ro;
    struct list found;
    struct plog_set_conf sc = {.staging_bytes = 32u << 20,
                               .cold_read_bytes = 4u << 20,
                               .submit_max_ms = 5,
                               .flush_max_ms = 20,
                               .journal_file_bytes = 4u << 20,
                               .journal_file_cnt = 3,
                               .journal_threshold_bytes = 128u << 10,
                               .drain_age_ms = 50,
                               .idle_close_ms = 10000,
                               .reserve_bytes = 512u << 10,
                               .checkpoint_ms = 100,
                               .threaded = true};
    struct plog_conf pc = {.segment_bytes = 2u << 20,
                           .segment_ms = INT64_MAX,
                           .index_interval_bytes = 4096,
                           .index_bytes_max = 10u << 20,
                           .retention_ms = -1,
                           .retention_bytes = -1,
                           .max_message_bytes = 1u << 20};
    list_init(&found);
    recover_opts_default(&ro);
    r->rep = (struct recover_report){0};
    if (catalog_open(&co, &r->cat, err) < 0)
        fail_msg("%s", err);
    assert_ok(recover_data_dirs(r->cat, &ro, &r->rep, &found));
    assert_ok(uring_create(256, &r->s.uring));
    r->s.now_ns = clock_mono_ns();
    r->io = (struct file_io){.ops = r->ops, .uring = r->s.uring};
    assert_ok(plog_set_create(&r->s, &r->io, r->cat, &sc, &r->set));
    memset(r->parts, 0, sizeof(r->parts));
    for (struct list *n = list_pop_head(&found); n; n = list_pop_head(&found)) {
        struct part *p = container_of(n, struct part, link);
        int32_t i = p->partition;
        assert_ok(plog_attach(r->set, p, &pc, &r->parts[i]));
    }
    for (int i = 0; i < PARTS; i++) {
        struct part *p;
        if (r->parts[i] != NULL)
            continue;
        struct part_create_opts po = {
            .topic = "t", .topic_id = env_topic_id(), .partition = i, .sync_parent = true};
        assert_ok(catalog_part_create(r->cat, &po, &p));
        assert_ok(plog_attach(r->set, p, &pc, &r->parts[i]));
    }
}

static void on_closed(void *arg, int rc)
{
    struct real *r = arg;
    r->closed = true;
    r->close_rc = rc;
}

static void close_all(struct real *r, bool clean)
{
    r->closed = false;
    if (clean) {
        plog_set_close(r->set, on_closed, r);
        while (!r->closed)
            turn(r);
        assert_ok(r->close_rc);
    }
    while (uring_in_flight(r->s.uring) >
           0) { /* a crash of the process: the kernel ends its writes */
        uring_submit(r->s.uring);
        uring_reap(r->s.uring, 64);
    }
    plog_set_destroy(r->set);
    uring_destroy(r->s.uring);
    assert_ok(catalog_close(r->cat, clean));
}

static void on_acked(struct plog_append *a)
{
    struct slot *s = container_of(a, struct slot, a);
    assert_ok(a->rc);
    s->busy = false;
    ++*s->acked;
}

static void load(struct real *r, const uint8_t *batch, uint32_t len)
{
    struct slot slots[INFLIGHT] = {0};
    uint32_t offered = 0, acked = 0;
    uint64_t t0 = clock_mono_ns();
    while (acked < BATCHES) {
        for (int i = 0; i < INFLIGHT && offered < BATCHES; i++) {
            if (slots[i].busy)
                continue;
            slots[i] = (struct slot){.a = {.wait_durable = true,
                                           .batch = span_of(batch, len),
                                           .max_timestamp_ms = 1700000000000,
                                           .done = on_acked},
                                     .busy = true,
                                     .acked = &acked};
            plog_append(r->parts[offered % PARTS], &slots[i].a);
            offered++;
        }
        turn(r);
    }
    double s = (double)(clock_mono_ns() - t0) / 1e9;
    struct plog_set_stats st;
    plog_set_stats_get(r->set, &st);
    print_message("%u batches of %u bytes, acks=all, %d at a time: %.0f/s, %.1f MB/s, %" PRIu64
                  " group commits\n",
                  BATCHES, len, INFLIGHT, BATCHES / s, BATCHES * (double)len / s / 1e6,
                  st.group_commits);
}

static void on_read_done(struct plog_read *r)
{
    r->msg.rc = 1;
}

static uint32_t count(struct real *r, int part)
{
    static uint8_t buf[1u << 20];
    struct plog_offsets off;
    uint32_t cnt = 0;
    plog_offsets_get(r->parts[part], &off);
    for (int64_t next = 0; next < off.durable;) {
        struct plog_read q = {.offset = next,
                              .current_leader_epoch = -1,
                              .last_fetched_epoch = -1,
                              .max_bytes = sizeof(buf),
                              .min_one_batch = true,
                              .dst = buf,
                              .dst_cap = sizeof(buf),
                              .done = on_read_done};
        plog_read(r->parts[part], &q);
        while (q.msg.rc == 0)
            turn(r);
        assert_ok(q.rc);
        assert_true(q.len > 0);
        for (uint32_t at = 0; at < q.len; cnt++) {
            struct batch_info b;
            assert_ok(batch_verify(buf + at, q.len - at, &b));
            assert_int_equal(b.base_offset, next++);
            at += b.total_len;
        }
    }
    return cnt;
}

static void store_runs(const struct file_io_ops *ops)
{
    static struct real r;
    accel_init(false);
    log_set_level(LOG_LEVEL_WARN);
    char *dir = test_tmpdir();
    r.ops = ops;
    snprintf(r.log_dir, sizeof(r.log_dir), "%s/log", dir);
    struct env_batch eb = {.tag = 7,
                           .len = 4096,
                           .cnt = 1,
                           .ts = 1700000000000,
                           .producer_id = -1,
                           .producer_epoch = -1,
                           .base_seq = -1};
    uint8_t *batch = env_batch_build(&eb);
    open_all(&r);
    load(&r, batch, eb.len);
    close_all(&r, false); /* the process dies: journal and segments must add up */
    open_all(&r);
    assert_int_equal(r.rep.cnt[RC_JOURNAL_GAP], 0);
    for (int i = 0; i < PARTS; i++)
        assert_int_equal(count(&r, i), BATCHES / PARTS);
    free(batch);
    eb.len = 60000;
    batch = env_batch_build(&eb);
    load(&r, batch, eb.len);
    close_all(&r, true);
    open_all(&r);
    assert_int_equal(r.rep.cnt[RC_CLEAN], PARTS);
    for (int i = 0; i < PARTS; i++)
        assert_int_equal(count(&r, i), 2 * BATCHES / PARTS);
    close_all(&r, true);
    free(batch);
    test_tmpdir_remove(dir);
}

static void the_store_runs_on_a_real_file_system(void **state)
{
    store_runs(&file_io_real);
}

static int open_buffered(struct file_io *io, const char *path, int flags, struct file **ret)
{
    int rc = file_io_real.open(io, path, flags & ~FILE_DIRECT, ret);
    if (rc == 0)
        assert_false(file_is_direct(*ret));
    return rc;
}

/* As on a file system that refuses it at open (which one does depends on the kernel). */
static void the_store_runs_where_direct_io_is_refused(void **state)
{
    struct file_io_ops ops = file_io_real;
    ops.open = open_buffered;
    store_runs(&ops);
}

TEST_MAIN(TEST(the_store_runs_on_a_real_file_system),
          TEST(the_store_runs_where_direct_io_is_refused))
