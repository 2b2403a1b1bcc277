/* bench_store.c - the partition log alone, on the real file system and without anything in front of
 * it: what bench/disk.py sets beside fio.
 *
 *     bench_store --dir FOLDER [--mb 512] [--reserve BYTES] [--rounds 40] [--keep]      or --small
 *
 * Prints `name value` lines:
 *   append_mb_s          one partition, batches of 256 KiB, acks=all, 8 MiB on their way
 *   append_cpu_s_per_gb  CPU of that
 *   append_flush_kb      written per flush meanwhile: the rhythm for fio to follow
 *   append_turn_max_us   longest turn of the loop meanwhile, rolls included
 *   commits_ms           1,000 partitions with 4 KiB each until all are durable; median of the
 *                        first 8 rounds, which need no drain
 *   commits_cpu_ms       CPU of each of those
 *   commits_sustained_ms the same with drains to 1,000 files: mean of the last half of the rounds
 *   replay_mb_s          reading it all back from the disk, 1 MiB a read, checksums verified
 *   recovery_s_per_gb    opening after a crash, per GB written since the last checkpoint */
#include "accel/accel.h"
#include "accel/crc32c.h"
#include "bench/micro/bench.h"
#include "dataplane/io/uring.h"
#include "dataplane/shard/shard.h"
#include "dataplane/store/catalog.h"
#include "dataplane/store/plog.h"
#include "dataplane/store/recover.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL_PARTS 1000
#define BATCH_BYTES (256u << 10)
#define OUTSTANDING 32
#define COMMITS_FIRST 8 /* rounds that fit into the memory and the journal below */

struct store {
    struct shard s;
    struct file_io io;
    struct catalog *cat;
    struct plog_set *set;
    struct plog *parts[SMALL_PARTS + 1]; /* the last one is the large one */
    char dir[512];
    uint64_t reserve, turn_max_ns;
    uint32_t acked;
    bool closed;
    bool large; /* only the large one; else only the small ones */
    uint32_t small_cnt;
};
#define LARGE SMALL_PARTS

static void ok(int64_t rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_store: %s: %s\n", what, err_text((int)rc));
    exit(1);
}

static void turn(struct store *b)
{
    b->s.now_ns = clock_mono_ns();
    b->s.wall_ms = clock_wall_ms();
    uint32_t n = uring_reap(b->s.uring, 256);
    n += plog_set_poll(b->set, 64);
    n += uring_submit(b->s.uring);
    uint64_t took = clock_mono_ns() - b->s.now_ns;
    b->turn_max_ns = took > b->turn_max_ns ? took : b->turn_max_ns;
    if (n == 0)
        uring_wait(b->s.uring, 100000);
}

static struct uuid topic_id(void)
{
    return (struct uuid){{0x42, 0x22, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
}

static void store_open(struct store *b)
{
    static const struct uuid cluster = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    char err[CATALOG_ERR_MAX] = "";
    struct catalog_opts co = {.ops = &file_io_real,
                              .dir_cnt = 1,
                              .dirs = {b->dir},
                              .cluster_id = &cluster,
                              .node_id = 1,
                              .format = true};
    struct plog_set_conf sc = {.staging_bytes = 64u << 20,
                               .cold_read_bytes = 4u << 20,
                               .submit_max_ms = 5,
                               .flush_max_ms = 20,
                               .journal_file_bytes = 16u << 20,
                               .journal_file_cnt = 4,
                               .journal_threshold_bytes = 128u << 10,
                               .reserve_bytes = b->reserve,
                               .drain_age_ms = 1000,
                               .idle_close_ms = 10000,
                               .checkpoint_ms = 3600000,
                               .threaded = true};
    struct plog_conf pc = {.segment_bytes = 64u << 20,
                           .segment_ms = INT64_MAX,
                           .index_interval_bytes = 4096,
                           .index_bytes_max = 10u << 20,
                           .retention_ms = -1,
                           .retention_bytes = -1,
                           .max_message_bytes = 1u << 20};
    struct recover_opts ro;
    struct recover_report rep = {0};
    struct list found;
    list_init(&found);
    recover_opts_default(&ro);
    int rc = catalog_open(&co, &b->cat, err);
    if (rc < 0)
        fprintf(stderr, "%s\n", err);
    ok(rc, "opening");
    ok(recover_data_dirs(b->cat, &ro, &rep, &found), "recovering");
    ok(uring_create(1024, &b->s.uring), "io_uring");
    b->s.cnt = 1;
    b->s.now_ns = clock_mono_ns();
    b->io = (struct file_io){.ops = &file_io_real, .uring = b->s.uring};
    ok(plog_set_create(&b->s, &b->io, b->cat, &sc, &b->set), "making the store");
    memset(b->parts, 0, sizeof(b->parts));
    for (struct list *n = list_pop_head(&found); n; n = list_pop_head(&found)) {
        struct part *p = container_of(n, struct part, link);
        int32_t i = p->partition;
        ok(plog_attach(b->set, p, &pc, &b->parts[i]), "attaching");
    }
    for (uint32_t i = b->large ? LARGE : 0; i < (b->large ? LARGE + 1 : b->small_cnt); i++) {
        struct part *p;
        if (b->parts[i] != NULL)
            continue;
        ok(catalog_part_create(b->cat,
                               &(struct part_create_opts){
                                   .topic = "t", .topic_id = topic_id(), .partition = (int32_t)i},
                               &p),
           "making a partition");
        ok(plog_attach(b->set, p, &pc, &b->parts[i]), "attaching");
    }
}

static void on_closed(void *arg, int rc)
{
    ok(rc, "closing");
    ((struct store *)arg)->closed = true;
}

static void store_close(struct store *b, bool clean)
{
    b->closed = false;
    if (clean) {
        plog_set_close(b->set, on_closed, b);
        while (!b->closed)
            turn(b);
    }
    while (uring_in_flight(b->s.uring) > 0) { /* else a crash: the kernel ends its writes */
        (void)uring_submit(b->s.uring);
        (void)uring_reap(b->s.uring, 64);
    }
    plog_set_destroy(b->set);
    uring_destroy(b->s.uring);
    ok(catalog_close(b->cat, clean), "closing the catalog");
}

struct slot {
    struct plog_append a;
    struct store *b;
    bool busy;
};
static void on_acked(struct plog_append *a)
{
    struct slot *s = container_of(a, struct slot, a);
    ok(a->rc, "appending");
    s->busy = false;
    s->b->acked++;
}

static void slot_append(struct store *b, struct slot *s, int part, const uint8_t *batch,
                        uint32_t len)
{
    *s = (struct slot){.a = {.wait_durable = true,
                             .batch = span_of(batch, len),
                             .max_timestamp_ms = 1700000000000,
                             .done = on_acked},
                       .b = b,
                       .busy = true};
    plog_append(b->parts[part], &s->a);
}

static uint8_t *batch_build(uint32_t len)
{
    uint8_t *p = calloc(1, len);
    ASSERT(p != NULL);
    store_be32(p + BATCH_LENGTH, len - BATCH_LOG_OVERHEAD);
    p[BATCH_MAGIC] = 2;
    store_be64(p + BATCH_BASE_TIMESTAMP, 1700000000000);
    store_be64(p + BATCH_MAX_TIMESTAMP, 1700000000000);
    store_be64(p + BATCH_PRODUCER_ID, UINT64_MAX);
    store_be16(p + BATCH_PRODUCER_EPOCH, UINT16_MAX);
    store_be32(p + BATCH_BASE_SEQUENCE, UINT32_MAX);
    store_be32(p + BATCH_RECORD_COUNT, 1);
    for (uint64_t i = BATCH_HEADER_LEN, x = 1; i < len; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        p[i] = (uint8_t)(x >> 56);
    }
    store_be32(p + BATCH_CRC, crc32c(0, p + BATCH_CRC_START, len - BATCH_CRC_START));
    return p;
}

/* Of the process, kernel threads of its io_uring included: what a busy machine does not change
 * much. */
static double cpu_s(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void bench_append(struct store *b, uint64_t bytes)
{
    static struct slot slots[OUTSTANDING];
    uint8_t *batch = batch_build(BATCH_BYTES);
    uint32_t total = (uint32_t)(bytes / BATCH_BYTES), offered = 0;
    struct file_stats before, after;
    file_stats_get(&b->io, &before);
    b->acked = 0;
    b->turn_max_ns = 0;
    double cpu = cpu_s();
    uint64_t t0 = bench_ns();
    while (b->acked < total) {
        for (int i = 0; i < OUTSTANDING && offered < total; i++) {
            if (slots[i].busy)
                continue;
            slot_append(b, &slots[i], LARGE, batch, BATCH_BYTES);
            offered++;
        }
        turn(b);
    }
    double s = (double)(bench_ns() - t0) / 1e9;
    file_stats_get(&b->io, &after);
    printf("append_cpu_s_per_gb %.2f\n", (cpu_s() - cpu) / ((double)bytes / 1e9));
    printf("append_mb_s %.0f\nappend_flush_kb %.0f\nappend_turn_max_us %.0f\n",
           (double)bytes / s / 1e6,
           (double)(after.write_bytes - before.write_bytes) / 1024 /
               (double)(after.flushes - before.flushes),
           (double)b->turn_max_ns / 1e3);
    free(batch);
}

static void bench_commits(struct store *b, uint32_t rounds)
{
    static double ms[BENCH_ROUNDS_MAX];
    struct slot *slots = calloc(SMALL_PARTS, sizeof(*slots));
    uint8_t *batch = batch_build(4096);
    ASSERT(slots != NULL);
    rounds = rounds < BENCH_ROUNDS_MAX ? rounds : BENCH_ROUNDS_MAX;
    double cpu = cpu_s(), cpu_first = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        b->acked = 0;
        uint64_t t0 = bench_ns();
        for (uint32_t i = 0; i < b->small_cnt; i++)
            slot_append(b, &slots[i], (int)i, batch, 4096);
        while (b->acked < b->small_cnt)
            turn(b);
        ms[r] = (double)(bench_ns() - t0) / 1e6;
        if (r + 1 == COMMITS_FIRST || r + 1 == rounds)
            cpu_first = cpu_first == 0 ? (cpu_s() - cpu) / (r + 1) : cpu_first;
    }
    double all = 0; /* what is not in the first rounds: drains, for memory and journal are full */
    for (uint32_t r = rounds / 2; r < rounds; r++)
        all += ms[r];
    printf("commits_sustained_ms %.2f\n", all / (double)(rounds - rounds / 2));
    uint32_t first = rounds < COMMITS_FIRST ? rounds : COMMITS_FIRST;
    qsort(ms, first, sizeof(ms[0]), bench_cmp);
    printf("commits_ms %.2f\ncommits_cpu_ms %.2f\n", ms[first / 2], cpu_first * 1e3);
    free(batch);
    free(slots);
}

static void on_read(struct plog_read *r)
{
    r->msg.rc = 1;
}

static void bench_replay(struct store *b)
{
    static uint8_t buf[1u << 20];
    struct plog_offsets off;
    uint64_t bytes = 0, t0 = bench_ns();
    plog_offsets_get(b->parts[LARGE], &off);
    for (int64_t next = 0; next < off.durable;) {
        struct plog_read q = {.offset = next,
                              .current_leader_epoch = -1,
                              .last_fetched_epoch = -1,
                              .max_bytes = sizeof(buf),
                              .min_one_batch = true,
                              .dst = buf,
                              .dst_cap = sizeof(buf),
                              .done = on_read};
        plog_read(b->parts[LARGE], &q);
        while (q.msg.rc == 0)
            turn(b);
        ok(q.rc, "reading");
        ASSERT(q.len > 0);
        bytes += q.len;
        for (uint32_t at = 0; at < q.len; at += batch_total_len(buf + at))
            next = batch_last_offset(buf + at) + 1;
    }
    printf("replay_mb_s %.0f\n", (double)bytes / ((double)(bench_ns() - t0) / 1e9) / 1e6);
}

static void tree_remove(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char sub[1024];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (size_t)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) >= sizeof(sub) ||
            lstat(sub, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            tree_remove(sub);
        else
            (void)unlink(sub);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(path);
}

int main(int argc, char **argv)
{
    static struct store b; /* large */
    char base[256];
    const char *tmp = getenv("TMPDIR");
    uint64_t mb = 512, rounds = 40;
    bool keep = false;
    b.reserve = 16u << 20;
    b.small_cnt = SMALL_PARTS;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0) {
            mb = 16;
            rounds = 2;
            b.small_cnt = 20; /* directories are slow to make on a busy disk */
        } else if (strcmp(argv[i], "--keep") == 0) {
            keep = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--dir") == 0) {
            tmp = argv[++i];
        } else if (i + 1 < argc && strcmp(argv[i], "--mb") == 0) {
            mb = strtoull(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0) {
            rounds = strtoull(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--reserve") == 0) {
            b.reserve = strtoull(argv[++i], NULL, 10) & ~(uint64_t)(FILE_BLOCK - 1);
        } else {
            fprintf(stderr, "usage: bench_store [--dir FOLDER] [--mb N] [--rounds N] "
                            "[--reserve BYTES] [--keep] [--small]\n");
            return 2;
        }
    }
    snprintf(base, sizeof(base), "%s/bench-store-XXXXXX", tmp != NULL ? tmp : "/var/tmp");
    if (mb < 1 || rounds < 1 || mkdtemp(base) == NULL) {
        fprintf(stderr, "bench_store: %s\n", err_text(-errno));
        return 1;
    }
    accel_init(false);
    log_set_level(LOG_LEVEL_WARN);
    snprintf(b.dir, sizeof(b.dir), "%s/small", base);
    store_open(&b);
    bench_commits(&b, (uint32_t)rounds);
    store_close(&b, true);
    b.large = true;
    snprintf(b.dir, sizeof(b.dir), "%s/large", base);
    store_open(&b);
    bench_append(&b, mb << 20);
    store_close(&b, false);
    uint64_t t0 = bench_ns();
    store_open(&b);
    printf("recovery_s_per_gb %.3f\n",
           (double)(bench_ns() - t0) / 1e9 / ((double)(mb << 20) / 1e9));
    bench_replay(&b);
    store_close(&b, true);
    if (keep)
        printf("kept %s\n", b.dir);
    else
        tree_remove(base);
    return 0;
}
