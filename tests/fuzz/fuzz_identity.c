/* fuzz_identity.c - from anywhere, byte 0 says which: meta.properties; quorum-state;
 * leader-epoch-checkpoint; a snapshot and a segment of __cluster_metadata-0, checksums put right.
 */
#include "ctl/controller/identity.h"
#include "ctl/controller/meta_dir.h"
#include "ctl/controller/meta_log.h"
#include "accel/accel.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/base/text_file.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include "tests/support/test.h"
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

enum { PROPERTIES, QUORUM, EPOCHS, LOG, KIND_CNT };
#define SEGMENT "00000000000000000000.log"
#define SNAPSHOT "00000000000000000001-0000000001.checkpoint"

static void properties(const char *text, size_t len)
{
    struct identity_file f;
    char err[256] = "";
    int rc = identity_parse(text, len, &f, err, sizeof(err));
    ASSERT((rc == 0) == (err[0] == '\0'));
}
static void quorum(const char *text, size_t len)
{
    struct meta_quorum q;
    int rc = meta_quorum_parse(text, len, &q);
    ASSERT(rc == 0 || (q.leader_id == -1 && q.epoch == 0));
    ASSERT(q.leader_id >= -1 && q.epoch >= 0);
}
/* Whatever it was: what is written is read back whole, and ends with the new epoch. */
static void epochs(const char *text, size_t len)
{
    struct meta_lead l = {.node_id = 1, .epoch = 1000, .start = 1000000};
    char *next, *again;
    if (meta_epochs_next(text, len, &l, &next) < 0)
        return;
    l.epoch++;
    l.start++;
    int rc = meta_epochs_next(next, strlen(next), &l, &again);
    ASSERT(rc == 0);
    const char *line = strstr(again, "1000 1000000\n1001 1000001\n");
    ASSERT(line != NULL);
    ASSERT(strlen(line) == strlen("1000 1000000\n1001 1000001\n"));
    free(next);
    free(again);
}

/* ---- the log ---- */

static char *dir;

static void dir_gone(void)
{
    test_tmpdir_remove(dir);
}
/* In memory where that can be had: opening a log flushes its directory. */
static void dir_new(void)
{
    static char memory[] = "/dev/shm/fuzz_identity-XXXXXX";
    dir = mkdtemp(memory);
    dir = dir != NULL ? strdup(dir) : test_tmpdir();
    ASSERT(dir != NULL);
    int rc = atexit(dir_gone);
    ASSERT(rc == 0);
}

static void file_put(const char *name, const uint8_t *p, size_t len)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    ASSERT(f != NULL);
    size_t n = fwrite(p, 1, len, f);
    ASSERT(n == len);
    int rc = fclose(f);
    ASSERT(rc == 0);
}
static void checksums(uint8_t *p, size_t len)
{
    while (len >= BATCH_HEADER_LEN) {
        uint64_t total = BATCH_LOG_OVERHEAD + (uint64_t)load_be32(p + BATCH_LENGTH);
        if (total < BATCH_HEADER_LEN || total > len)
            return;
        batch_recrc(p);
        p += total;
        len -= total;
    }
}
static int one_batch(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    int64_t *last = arg;
    ASSERT(cnt > 0 && records != NULL);
    ASSERT(last_offset > *last);
    *last = last_offset;
    return 0;
}
/* Bytes 0 and 1: the length of the snapshot; what is left is the segment. */
static void metadata_log(uint8_t *p, size_t len)
{
    struct meta_log *log = NULL;
    char err[2048];
    int64_t last = -1;
    if (len < 2)
        return;
    size_t n = load_be16(p);
    p += 2;
    len -= 2;
    n = n < len ? n : len;
    checksums(p, n);
    checksums(p + n, len - n);
    file_put(SNAPSHOT, p, n);
    file_put(SEGMENT, p + n, len - n);
    struct meta_log_opts o = {.dir = dir, .node_id = 1};
    int rc = meta_log_open(&o, one_batch, &last, &log, err, sizeof(err));
    ASSERT((rc == 0) == (log != NULL));
    ASSERT(rc == 0 || err[0] != '\0');
    if (rc == 0)
        ASSERT(meta_log_next_offset(log) > last);
    meta_log_close(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (dir == NULL) {
        accel_init(false);
        log_set_level(LOG_LEVEL_ERROR);
        dir_new();
    }
    if (len == 0)
        return 0;
    uint8_t *copy = malloc(len); /* its last byte is a NUL behind the input */
    ASSERT(copy != NULL);
    memcpy(copy, data + 1, len - 1);
    copy[len - 1] = 0;
    const char *text = (const char *)copy;
    switch (data[0] % KIND_CNT) {
    case PROPERTIES:
        properties(text, len - 1);
        break;
    case QUORUM:
        quorum(text, len - 1);
        break;
    case EPOCHS:
        epochs(text, len - 1);
        break;
    default:
        metadata_log(copy, len - 1);
    }
    free(copy);
    return 0;
}

/* A batch of one record at `offset`; a control record has its type as key. */
static size_t batch_put(uint8_t *buf, size_t cap, int64_t offset, int control, const void *value,
                        uint32_t len)
{
    uint8_t key[4] = {0, 0, 0, (uint8_t)control};
    struct batch_builder b;
    struct span batch;
    struct rec r = {.value = span_of(value, len), .timestamp_ms = 1};
    struct seal_opts o = {.codec = CODEC_NONE,
                          .producer_id = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .attributes = control >= 0 ? BATCH_ATTR_CONTROL : 0};
    if (control >= 0)
        r.key = span_of(key, sizeof(key));
    batch_builder_init(&b, buf, (uint32_t)cap);
    int rc = batch_builder_add(&b, &r);
    if (rc == 0)
        rc = batch_seal(&b, NULL, &o, NULL, 0, &batch);
    ASSERT(rc == 0);
    store_be64(buf + BATCH_BASE_OFFSET, (uint64_t)offset);
    store_be32(buf + BATCH_LEADER_EPOCH, 1);
    return batch.len;
}
static size_t log_seed(uint8_t *buf, size_t cap)
{
    static const uint8_t leader[] = {0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 1, 0};
    size_t len = 2;
    len += batch_put(buf + len, cap - len, 0, 3, "\0\0\0\0\0\0\0\0\0\0", 11);
    len += batch_put(buf + len, cap - len, 1, -1, "state", 5);
    len += batch_put(buf + len, cap - len, 2, 4, "\0\0", 3);
    store_be16(buf, (uint16_t)(len - 2));
    len += batch_put(buf + len, cap - len, 0, 2, leader, sizeof(leader));
    len += batch_put(buf + len, cap - len, 1, -1, "record", 6);
    return len;
}
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const char *const texts[LOG] = {
        "#\ncluster.id=4L6g3nShT-eMCtK--X86sw\ndirectory.id=1hrvXw5sQOm2WqRbuHWkNw\nnode.id=1\n"
        "version=1\n",
        "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":2,\"votedId\":-1,\"appliedOffset\":0,"
        "\"currentVoters\":[{\"voterId\":1}],\"data_version\":0}",
        "0\n3\n1 0\n4 3\n5 6\n"};
    if (i >= KIND_CNT || cap < 1024)
        return 0;
    buf[0] = (uint8_t)i;
    if (i == LOG)
        return 1 + log_seed(buf + 1, cap - 1);
    memcpy(buf + 1, texts[i], strlen(texts[i]));
    return 1 + strlen(texts[i]);
}
