/* Rewriting a segment of arbitrary bytes: checksums are put right first, so that what follows them
 * is looked at. Compaction and recompression end, and what they made walks clean: every batch
 * sound, offsets ascending within the segment, no more records than before; and so again from that.
 */
#include "accel/accel.h"
#include "dataplane/store/compact.h"
#include "tests/support/fake_file.h"
#include "tests/support/keyed_batch.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

#define DIR_NAME "/p-0"
#define SEG DIR_NAME "/00000000000000000000.log"
#define END 1000000

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const uint16_t attributes[] = {0, BATCH_ATTR_LOG_APPEND_TIME, BATCH_ATTR_TRANSACTIONAL,
                                          BATCH_ATTR_DELETE_HORIZON};
    struct kb_rec recs[] = {{"a", "1", 5}, {"b", NULL, 6}, {"a", "2", 7}, {NULL, "x", 1}};
    size_t len = 1;
    if (i >= 60)
        return 0;
    accel_init(false);
    buf[0] = (uint8_t)(i * 29);
    for (int64_t k = 0; k < 3; k++) {
        uint32_t n;
        struct kb_batch b = {.base = k * 4,
                             .recs = recs,
                             .cnt = 1 + (int32_t)((i + k) % 4),
                             .codec = (enum codec_id)((i + k) % CODEC_CNT),
                             .attributes = attributes[i / 5 % 4],
                             .producer_id = i % 3 ? 7 : -1,
                             .base_seq = 0};
        uint8_t *p = kb_build(&b, &n);
        if (len + n <= cap) {
            memcpy(buf + len, p, n);
            len += n;
        }
        free(p);
    }
    if (i % 2 && len + MARKER_BATCH_MAX <= cap) {
        struct batch_marker m = {.commit = i % 4 == 1, .producer_id = 7};
        uint32_t n = marker_write(&m, buf + len);
        store_be64(buf + len, 12);
        len += n;
    }
    return len;
}

/* Whole batches at the start of the bytes get a right checksum. */
static void mend(uint8_t *p, size_t len)
{
    while (len >= BATCH_HEADER_LEN) {
        uint64_t n = (uint64_t)load_be32(p + BATCH_LENGTH) + BATCH_LOG_OVERHEAD;
        if (n < BATCH_HEADER_LEN || n > len)
            return;
        p[BATCH_MAGIC] = 2;
        batch_recrc(p);
        p += n;
        len -= n;
    }
}

static uint64_t walk_clean(const uint8_t *p, uint64_t len)
{
    int64_t next = 0;
    uint64_t records = 0;
    for (uint64_t at = 0; at < len;) {
        struct batch_info b;
        int rc = batch_verify(p + at, len - at, &b);
        ASSERT(rc == 0);
        ASSERT(b.base_offset >= next);
        next = b.base_offset + b.last_offset_delta + 1;
        ASSERT(next <= END);
        records += (uint64_t)b.record_cnt;
        at += b.total_len;
    }
    return records;
}

/* Length of what was made, malloc'd in *ret; 0 with NULL: nothing was. */
static uint64_t rewrite_once(struct fake_disk *d, struct file_io *io, const uint8_t *p,
                             uint64_t len, uint8_t how, uint8_t **ret)
{
    struct aborted_txn t = {.producer_id = 7, .last_offset = 12, .stable_offset = 13};
    struct aborted_txns aborted = {.v = &t, .cnt = how >> 3 & 1};
    struct last_record producer = {.producer_id = 7, .data_offset = 9};
    struct compact_src src = {.end = END, .len = len};
    struct compact_opts o = {.io = io,
                             .dir = DIR_NAME,
                             .segs = &src,
                             .seg_cnt = 1,
                             .aborted = &aborted,
                             .producers = &producer,
                             .producer_cnt = how >> 1 & 1,
                             .now_ms = 1700000000000,
                             .delete_retention_ms = how >> 2 & 1 ? INT64_MAX : 1000,
                             .segment_bytes = 1u << 30,
                             .map_bytes = how >> 4 & 1 ? 1 : 4096,
                             .index_interval_bytes = 100,
                             .index_bytes_max = 1u << 20,
                             .recode = how & 1,
                             .codec = (enum codec_id)(1 + (how >> 5) % 4)};
    struct compact c;
    struct compact_group g;
    *ret = NULL;
    fake_disk_put(d, SEG, p, len);
    int rc = compact_init(&c, &o);
    if (rc == 0 && !o.recode)
        rc = compact_map(&c);
    if (rc == 0)
        rc = compact_next(&c, &g);
    uint64_t out_len = 0;
    if (rc == 1) {
        const uint8_t *out = fake_disk_content(d, SEG ".cleaned", &out_len);
        ASSERT(out != NULL);
        ASSERT(out_len == g.seg.len);
        *ret = malloc(out_len + 1);
        ASSERT(*ret != NULL);
        memcpy(*ret, out, out_len);
        ASSERT(walk_clean(*ret, out_len) <= walk_clean(p, len));
        ASSERT(c.end <= END);
    }
    compact_fini(&c);
    return out_len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 1u << 16)
        return 0;
    accel_init(false);
    uint8_t *p = malloc(size), *once, *twice, *thrice;
    ASSERT(p != NULL);
    memcpy(p, data + 1, size - 1);
    mend(p, size - 1);
    struct fake_disk *d = fake_disk_new(1);
    struct file_io io = {.ops = &fake_file_ops, .arg = d};
    int rc = fake_file_ops.mkdir(&io, DIR_NAME);
    ASSERT(rc == 0);
    uint64_t len = rewrite_once(d, &io, p, size - 1, data[0], &once);
    if (once != NULL) {
        uint64_t len2 = rewrite_once(d, &io, once, len, data[0], &twice);
        if (twice != NULL)
            (void)rewrite_once(d, &io, twice, len2, data[0], &thrice);
        if (twice != NULL)
            free(thrice);
        free(twice);
    }
    free(once);
    free(p);
    fake_disk_free(d);
    return 0;
}
