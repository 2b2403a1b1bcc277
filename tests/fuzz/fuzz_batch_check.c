/* fuzz_batch_check.c - the batch checker, verifier and iterator on foreign bytes.
 *
 * Each input is tried as it is and with its CRC made right, since random bytes never pass that. */
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include "lib/base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

static struct codec_ctx *codecs(void)
{
    static struct codec_ctx *ctx;
    if (ctx == NULL && codec_ctx_create(&ctx) < 0)
        abort();
    return ctx;
}

static void walk(struct span batch, bool must_succeed)
{
    static uint8_t scratch[1 << 16];
    struct record_iter it;
    struct record_view v;
    int rc = record_iter_init(&it, codecs(), batch, scratch, sizeof(scratch));
    ASSERT(rc == 0 || !must_succeed);
    if (rc < 0)
        return;
    while ((rc = record_iter_next(&it, &v)) == 1) {
        struct span rest = v.headers, key, val;
        int hrc;
        uint32_t cnt = 0;
        while ((hrc = record_header_next(&rest, &key, &val)) == 1)
            cnt++;
        if (must_succeed) {
            ASSERT(hrc == 0);
            ASSERT(cnt == v.header_cnt);
        }
    }
    ASSERT(rc == 0 || !must_succeed);
}

static void try_all(struct span bytes)
{
    static uint8_t scratch[1 << 16];
    struct batch_info info;
    struct batch_check_result res;
    struct batch_check_opts opts = {.max_bytes = 1 << 20,
                                    .allow_zstd = true,
                                    .timestamp_min = INT64_MIN,
                                    .timestamp_max = INT64_MAX};
    (void)!batch_header_read(bytes.p, bytes.len, &info);
    (void)!batch_verify(bytes.p, bytes.len, &info);
    int rc = batch_check_produce(codecs(), bytes, &opts, scratch, sizeof(scratch), &res);
    ASSERT(res.why != NULL);
    if (rc == 0) /* what the check lets in, the verifier and every reader must take */
        ASSERT(batch_verify(bytes.p, bytes.len, &info) == 0);
    walk(bytes, rc == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t *copy;
    if (len > UINT16_MAX)
        return 0;
    try_all(span_of(data, (uint32_t)len));
    if (len < BATCH_HEADER_LEN)
        return 0;
    copy = malloc(len);
    if (copy == NULL)
        abort();
    memcpy(copy, data, len);
    store_be64(copy, 0);
    store_be32(copy + BATCH_LENGTH, (uint32_t)len - BATCH_LOG_OVERHEAD);
    copy[BATCH_MAGIC] = 2;
    batch_recrc(copy);
    try_all(span_of(copy, (uint32_t)len));
    free(copy);
    return 0;
}

/* One batch per codec, some transactional. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static uint8_t plain[8192], dst[16384];
    struct batch_builder b;
    struct span out;
    if (i >= 2 * CODEC_CNT)
        return 0;
    batch_builder_init(&b, plain, sizeof(plain));
    for (unsigned n = 0; n < 1 + 5 * i; n++) {
        struct rec r = {
            .key = n % 2 ? span_str("key") : SPAN_NULL,
            .value = span_str("the value of a record, a value of a record"),
            .timestamp_ms = 1700000000000 + n,
            .header = {[RH_SOURCE] = span_str("192.0.2.1"), [RH_TRUNCATED] = span_str("")}};
        if (batch_builder_add(&b, &r) < 0)
            break;
    }
    struct seal_opts so = {.codec = (enum codec_id)(i % CODEC_CNT),
                           .producer_id = i < CODEC_CNT ? -1 : 5,
                           .attributes = i < CODEC_CNT ? 0 : BATCH_ATTR_TRANSACTIONAL};
    if (batch_seal(&b, codecs(), &so, dst, sizeof(dst), &out) < 0 || out.len > cap)
        return 0;
    memcpy(buf, out.p, out.len);
    return out.len;
}
