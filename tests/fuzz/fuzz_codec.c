/* fuzz_codec.c - decompression of foreign bytes. Input: a byte for the codec, one for the room,
 * then the compressed bytes. Whatever they are, no codec may write past its room, and what it does
 * unpack must survive being packed and unpacked again. */
#include "accel/codec.h"
#include "lib/base/assert.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

static struct codec_ctx *codecs(void)
{
    static struct codec_ctx *ctx;
    if (ctx == NULL && codec_ctx_create(&ctx) < 0)
        abort();
    return ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    enum codec_id id = (enum codec_id)(data[0] % (CODEC_CNT + 1));
    size_t room = (size_t)data[1] * 64;
    uint8_t *out = malloc(room + 1);
    if (out == NULL)
        abort();
    out[room] = 0x5a;
    int64_t n = codec_decompress(codecs(), id, data + 2, len - 2, out, room);
    ASSERT(out[room] == 0x5a);
    ASSERT(n <= (int64_t)room);
    if (n >= 0) {
        size_t cap = codec_bound(id, (size_t)n);
        uint8_t *packed = malloc(cap), *back = malloc((size_t)n + 1);
        if (packed == NULL || back == NULL)
            abort();
        int64_t packed_len = codec_compress(codecs(), id, 0, out, (size_t)n, packed, cap);
        ASSERT(packed_len > 0);
        ASSERT(codec_decompress(codecs(), id, packed, (size_t)packed_len, back, (size_t)n) == n);
        ASSERT(memcmp(out, back, (size_t)n) == 0);
        free(packed);
        free(back);
    } else {
        ASSERT(n == -E_LIMIT || n == -E_CORRUPT_BATCH || n == -E_UNSUPPORTED_CODEC);
    }
    free(out);
    return 0;
}

/* Each codec over plain texts of several lengths; the room is enough, or a little short. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static uint8_t plain[9000];
    static const size_t lens[] = {1, 60, 3000, 9000};
    if (i >= 4 * (CODEC_CNT - 1))
        return 0;
    for (size_t k = 0; k < sizeof(plain); k++)
        plain[k] = (uint8_t)(k * k / 7 % (5 + i));
    buf[0] = (uint8_t)(1 + i % (CODEC_CNT - 1));
    buf[1] = 150;
    int64_t n =
        codec_compress(codecs(), (enum codec_id)buf[0], 0, plain, lens[i / 4], buf + 2, cap - 2);
    return n < 0 ? 0 : (size_t)n + 2;
}
