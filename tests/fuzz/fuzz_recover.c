/* Segment recovery from arbitrary bytes: the input becomes a partition's log, indexes, snapshot and
 * checkpoints; recovery must end, what it keeps must be sound, and a second one must change
 * nothing. */
#include "tests/support/store_env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

/* Valid logs of one to four batches under every combination of what else is replaced. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    if (i >= 64)
        return 0;
    accel_init(false);
    size_t len = 1;
    buf[0] = (uint8_t)(i * 37);
    int64_t offset = buf[0] & 1 ? 2 : 0;
    for (unsigned k = 0; k <= i % 4; k++) {
        struct env_batch b = {.tag = k,
                              .len = 100 + 400 * (i % 3),
                              .cnt = 1,
                              .ts = 5,
                              .producer_id = -1,
                              .base_seq = -1};
        uint8_t *p = env_batch_build(&b);
        store_be64(p, (uint64_t)offset++);
        if (len + b.len <= cap)
            memcpy(buf + len, p, b.len);
        len += len + b.len <= cap ? b.len : 0;
        free(p);
    }
    return len;
}

#define PART ENV_DIR "/t-0/"

static int64_t open_once(struct env *e, uint64_t *ret_size)
{
    struct plog_offsets off;
    int rc = env_open(e);
    ASSERT(rc == 0);
    ASSERT(e->parts[0] != NULL);
    plog_offsets_get(e->parts[0], &off);
    plog_set_check(e->set);
    *ret_size = off.size_bytes;
    static uint8_t buf[1u << 20];
    for (int64_t next = off.log_start; next < off.durable;) { /* everything kept can be read */
        struct env_read x;
        if (env_read(e, 0, next, buf, sizeof(buf), &x) < 0 || x.r.len == 0)
            break; /* damaged below the recovery point: kept, and refused */
        for (uint32_t at = 0; at < x.r.len;) {
            struct batch_info b;
            rc = batch_verify(buf + at, x.r.len - at, &b);
            ASSERT(rc == 0);
            ASSERT(b.base_offset + b.last_offset_delta >= next);
            next = b.base_offset + b.last_offset_delta + 1;
            at += b.total_len;
        }
    }
    return off.durable;
}

static void drop(struct env *e)
{
    plog_set_destroy(e->set);
    e->set = NULL;
    memset(e->parts, 0, sizeof(e->parts));
    (void)catalog_close(e->cat, false); /* only to free */
    e->cat = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct env e;
    if (size < 4 || size > 1u << 20)
        return 0;
    env_init(&e, 1);
    e.sc.journal_file_bytes = 64u << 10;
    e.sc.staging_bytes = 2u << 20;
    int rc = env_open(&e);
    ASSERT(rc == 0);
    rc = env_create_parts(&e, 1);
    ASSERT(rc == 0);
    drop(&e);
    /* A sound batch first, if the input says so; then the input's bytes where its first byte says.
     */
    uint8_t where = data[0];
    struct env_batch b = {.tag = 1, .len = 200, .cnt = 2, .producer_id = 5, .base_seq = 0};
    uint8_t *log = env_batch_build(&b);
    log = realloc(log, 200 + size);
    ASSERT(log != NULL);
    if (where & 1) {
        memcpy(log + 200, data + 1, size - 1);
        fake_disk_put(e.disk, PART "00000000000000000000.log", log, 200 + size - 1);
    } else {
        fake_disk_put(e.disk, PART "00000000000000000000.log", data + 1, size - 1);
    }
    free(log);
    if (where & 2)
        fake_disk_put(e.disk, PART "00000000000000000000.index", data + 1, size - 1);
    if (where & 4)
        fake_disk_put(e.disk, PART "00000000000000000000.timeindex", data + 1, size - 1);
    if (where & 8)
        fake_disk_put(e.disk, PART "00000000000000000002.snapshot", data + 1, size - 1);
    if (where & 16)
        fake_disk_put(e.disk, PART "leader-epoch-checkpoint", data + 1, size - 1);
    if (where & 32)
        fake_disk_put(e.disk, ENV_DIR "/.kafka_cleanshutdown", "{}", 2);
    if (where & 64)
        fake_disk_put(e.disk, ENV_DIR "/recovery-point-offset-checkpoint", data + 1, size - 1);
    if (where & 128)
        fake_disk_put(e.disk, PART "00000000000000000007.log", data + 1, size - 1);
    uint64_t bytes, bytes2;
    int64_t end = open_once(&e, &bytes);
    drop(&e);
    int64_t end2 = open_once(&e, &bytes2);
    ASSERT(end2 == end);
    ASSERT(bytes2 == bytes);
    drop(&e);
    env_fini(&e);
    return 0;
}
