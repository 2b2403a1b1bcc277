/* Codecs: round trips, exchange with the reference libraries, damage, bombs, bounds. */
#include "accel/codec.h"
#include "accel/accel_int.h"
#include "lib/base/span.h"
#include "tests/support/test.h"
#include <lz4frame.h>
#include <lz4hc.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

enum { PLAIN_MAX = 300000 };
static struct codec_ctx *ctx;
static uint8_t plain[PLAIN_MAX], packed[PLAIN_MAX * 2], back[PLAIN_MAX];
static const enum codec_id ids[] = {CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD};

/* Text like logs, random bytes, runs, or a mix: compressibility from none to extreme. */
static void plain_fill(struct test_rng *rng, size_t len)
{
    static const char *const words[] = {"error ", "connection ", "from ", "10.0.0.", "user=",
                                        "ok\n",   "<34>1 ",      "app ",  "started", "\0\0\0"};
    size_t at = 0;
    uint64_t kind = rng_below(rng, 4);
    while (at < len) {
        size_t n = 1 + rng_below(rng, 40);
        if (n > len - at)
            n = len - at;
        uint64_t k = kind == 3 ? rng_below(rng, 3) : kind;
        if (k == 0) {
            rng_fill(rng, plain + at, n);
        } else if (k == 1) {
            const char *w = words[rng_below(rng, 10)];
            for (size_t i = 0; i < n; i++)
                plain[at + i] = (uint8_t)w[i % 3];
        } else {
            memset(plain + at, 'x', n);
        }
        at += n;
    }
}

static void assert_unpacks(enum codec_id id, size_t packed_len, size_t len)
{
    /* An exact copy on the heap: a sanitizer sees reads past the end. */
    uint8_t *copy = malloc(packed_len);
    memcpy(copy, packed, packed_len);
    memset(back, 0xaa, len);
    assert_rc(codec_decompress(ctx, id, copy, packed_len, back, len), len);
    assert_memory_equal(back, plain, len);
    if (len > 0) { /* one byte less room is a limit, never an overrun */
        back[len - 1] = 0x5a;
        assert_rc(codec_decompress(ctx, id, copy, packed_len, back, len - 1), -E_LIMIT);
        assert_int_equal(back[len - 1], 0x5a);
    }
    free(copy);
}

static void every_codec_round_trips_within_its_bound(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(1)};
    for (int i = 0; i < 150; i++) {
        size_t len = i < 20 ? (size_t)i : rng_below(&rng, i % 10 == 0 ? PLAIN_MAX : 20000);
        plain_fill(&rng, len);
        for (size_t c = 0; c < 4; c++) {
            size_t bound = codec_bound(ids[c], len);
            int level = (int)rng_below(&rng, 4);
            assert_true(bound <= sizeof(packed));
            int64_t n = codec_compress(ctx, ids[c], level, plain, len, packed, bound);
            if (n <= 0)
                fail_msg("%s level %d of %zu bytes: %lld", codec_name(ids[c]), level, len,
                         (long long)n);
            assert_unpacks(ids[c], (size_t)n, len);
        }
    }
}

static void all_levels_work(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(2)};
    const int levels[] = {-100, -1, 0, 1, 2, 3, 4, 6, 9, 12, 17, 100};
    plain_fill(&rng, 9000);
    for (size_t c = 0; c < 4; c++)
        for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
            int64_t n = codec_compress(ctx, ids[c], levels[l], plain, 9000, packed,
                                       codec_bound(ids[c], 9000));
            assert_true(n > 0);
            assert_unpacks(ids[c], (size_t)n, 9000);
        }
}

static void too_little_room_is_a_limit_and_state_survives(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(3)};
    rng_fill(&rng, plain, 5000);
    for (size_t c = 0; c < 4; c++)
        for (size_t cap = 0; cap < 5000; cap += 613) {
            uint8_t *exact = malloc(cap > 0 ? cap : 1);
            assert_rc(codec_compress(ctx, ids[c], 0, plain, 5000, exact, cap), -E_LIMIT);
            free(exact);
            int64_t n = codec_compress(ctx, ids[c], 0, plain, 5000, packed, sizeof(packed));
            assert_true(n > 0);
            assert_unpacks(ids[c], (size_t)n, 5000);
        }
}

/* Reference packers: the libraries' own one-shot calls. */
static size_t zlib_pack(const uint8_t *src, size_t len, uint8_t *dst, size_t cap, int window_bits,
                        gz_header *head)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    if (head != NULL)
        assert_int_equal(deflateSetHeader(&z, head), Z_OK);
    z.next_in = (uint8_t *)(uintptr_t)src;
    z.avail_in = (uInt)len;
    z.next_out = dst;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = z.total_out;
    deflateEnd(&z);
    return n;
}
static size_t zlib_unpack(const uint8_t *src, size_t len, uint8_t *dst, size_t cap)
{
    z_stream z = {0};
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    z.next_in = (uint8_t *)(uintptr_t)src;
    z.avail_in = (uInt)len;
    z.next_out = dst;
    z.avail_out = (uInt)cap;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    size_t n = z.total_out;
    inflateEnd(&z);
    return n;
}

static void gzip_agrees_with_zlib_both_ways(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(4)};
    for (int i = 0; i < 100; i++) {
        size_t len = rng_below(&rng, i % 10 == 0 ? 200000 : 5000);
        plain_fill(&rng, len);
        int64_t n = codec_compress(ctx, CODEC_GZIP, 1 + i % 3, plain, len, packed, sizeof(packed));
        assert_int_equal(zlib_unpack(packed, (size_t)n, back, PLAIN_MAX), len);
        assert_memory_equal(back, plain, len);
        gz_header head = {.name = (Bytef *)"file.txt",
                          .comment = (Bytef *)"why",
                          .hcrc = 1,
                          .extra = (Bytef *)"EXTRA",
                          .extra_len = 5};
        n = (int64_t)zlib_pack(plain, len, packed, sizeof(packed), 15 + 16, i % 2 ? &head : NULL);
        assert_unpacks(CODEC_GZIP, (size_t)n, len);
    }
}

static void gzip_reads_members_and_refuses_garbage(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(5)};
    for (int i = 0; i < 100; i++) {
        size_t len = 0, n = 0;
        size_t total = 1 + rng_below(&rng, 9000);
        plain_fill(&rng, total);
        while (len < total) { /* members of any size, ours and zlib's, some empty */
            size_t part = rng_below(&rng, total - len + 1);
            if (rng_below(&rng, 2) == 0)
                n += zlib_pack(plain + len, part, packed + n, sizeof(packed) - n, 15 + 16, NULL);
            else
                n += (size_t)codec_compress(ctx, CODEC_GZIP, 1, plain + len, part, packed + n,
                                            sizeof(packed) - n);
            len += part;
        }
        assert_unpacks(CODEC_GZIP, n, total);
        for (size_t junk = 1; junk < 12; junk++) {
            memset(packed + n, junk % 2 ? 0 : (int)rng_below(&rng, 256), junk);
            assert_rc(codec_decompress(ctx, CODEC_GZIP, packed, n + junk, back, PLAIN_MAX),
                      -E_CORRUPT_BATCH);
        }
    }
    /* zlib and raw deflate are not gzip. */
    size_t n = zlib_pack(plain, 1000, packed, sizeof(packed), 15, NULL);
    assert_rc(codec_decompress(ctx, CODEC_GZIP, packed, n, back, PLAIN_MAX), -E_CORRUPT_BATCH);
    n = zlib_pack(plain, 1000, packed, sizeof(packed), -15, NULL);
    assert_rc(codec_decompress(ctx, CODEC_GZIP, packed, n, back, PLAIN_MAX), -E_CORRUPT_BATCH);
}

static void zstd_agrees_with_its_library_both_ways(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(6)};
    for (int i = 0; i < 60; i++) {
        size_t len = 1 + rng_below(&rng, i % 10 == 0 ? 200000 : 5000);
        plain_fill(&rng, len);
        int64_t n = codec_compress(ctx, CODEC_ZSTD, 0, plain, len, packed, sizeof(packed));
        assert_int_equal(ZSTD_decompress(back, PLAIN_MAX, packed, (size_t)n), len);
        assert_memory_equal(back, plain, len);

        ZSTD_CCtx *c = ZSTD_createCCtx(); /* without content size, with checksum */
        ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
        ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, i & 1);
        n = (int64_t)ZSTD_compress2(c, packed, sizeof(packed), plain, len);
        assert_true(ZSTD_getFrameContentSize(packed, (size_t)n) == ZSTD_CONTENTSIZE_UNKNOWN);
        ZSTD_freeCCtx(c);
        assert_unpacks(CODEC_ZSTD, (size_t)n, len);
        packed[n] = 0;
        assert_rc(codec_decompress(ctx, CODEC_ZSTD, packed, (size_t)n + 1, back, PLAIN_MAX),
                  -E_CORRUPT_BATCH);
    }
}

static void lz4_reads_frames_of_every_kind(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(7)};
    const LZ4F_blockSizeID_t sizes[] = {LZ4F_max64KB, LZ4F_max256KB, LZ4F_max1MB, LZ4F_max4MB};
    for (int i = 0; i < 96; i++) {
        size_t len = 1 + rng_below(&rng, i % 5 == 0 ? 290000 : 8000);
        plain_fill(&rng, len);
        LZ4F_preferences_t p = {
            .frameInfo = {.blockSizeID = sizes[i & 3],
                          .blockMode = i & 4 ? LZ4F_blockLinked : LZ4F_blockIndependent,
                          .contentChecksumFlag = i & 8 ? 1 : 0,
                          .blockChecksumFlag = i & 16 ? 1 : 0,
                          .contentSize = i & 32 ? len : 0},
            .compressionLevel = i % 12};
        size_t n = LZ4F_compressFrame(packed, sizeof(packed), plain, len, &p);
        assert_false(LZ4F_isError(n));
        assert_unpacks(CODEC_LZ4, n, len);
        packed[n] = 0;
        assert_rc(codec_decompress(ctx, CODEC_LZ4, packed, n + 1, back, PLAIN_MAX),
                  -E_CORRUPT_BATCH);
    }
    const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};
    assert_rc(codec_decompress(ctx, CODEC_LZ4, skippable, 8, back, PLAIN_MAX), -E_CORRUPT_BATCH);
}

static void lz4_is_written_as_java_reads_it(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(8)};
    plain_fill(&rng, 200000);
    int64_t n = codec_compress(ctx, CODEC_LZ4, 0, plain, 200000, packed, sizeof(packed));
    const uint8_t magic[] = {0x04, 0x22, 0x4d, 0x18};
    assert_memory_equal(packed, magic, 4);
    assert_int_equal(packed[4], 0x60); /* version 01, independent blocks, no checksums, no size */
    assert_int_equal(packed[5], 0x40); /* 64 KiB blocks */
    size_t at = 7, blocks = 0;
    for (;; blocks++) { /* walk the frame by hand */
        uint32_t word;
        memcpy(&word, packed + at, 4);
        at += 4;
        if (word == 0)
            break;
        at += word & INT32_MAX;
        assert_true(at < (size_t)n);
    }
    assert_int_equal(at, n);
    assert_int_equal(blocks, (200000 + 65535) / 65536);
}

static void snappy_reads_both_framings_and_writes_javas(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(9)};
    const uint8_t head[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    for (int i = 0; i < 60; i++) {
        size_t len = 1 + rng_below(&rng, i % 10 == 0 ? 250000 : 9000), n = sizeof(packed);
        plain_fill(&rng, len);
        assert_int_equal(snappy_compress((char *)plain, len, (char *)packed, &n), SNAPPY_OK);
        assert_unpacks(CODEC_SNAPPY, n, len); /* librdkafka's raw block */

        n = (size_t)codec_compress(ctx, CODEC_SNAPPY, 0, plain, len, packed, sizeof(packed));
        assert_memory_equal(packed, head, 16);
        size_t at = 16, out = 0;
        while (at < n) { /* walk Java's framing by hand */
            uint32_t block = load_be32(packed + at);
            size_t got = PLAIN_MAX - out;
            assert_int_equal(
                snappy_uncompress((char *)packed + at + 4, block, (char *)back + out, &got),
                SNAPPY_OK);
            assert_true(got <= 32768);
            out += got;
            at += 4 + block;
        }
        assert_int_equal(at, n);
        assert_int_equal(out, len);
        assert_memory_equal(back, plain, len);
    }
}

static void snappy_streams_may_follow_each_other(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(10)};
    plain_fill(&rng, 6000);
    int64_t a = codec_compress(ctx, CODEC_SNAPPY, 0, plain, 2500, packed, sizeof(packed));
    int64_t b = codec_compress(ctx, CODEC_SNAPPY, 0, plain + 2500, 3500, packed + a, 100000);
    assert_unpacks(CODEC_SNAPPY, (size_t)(a + b), 6000);
    packed[a + 15] = 2; /* a stream only a newer reader understands */
    assert_rc(codec_decompress(ctx, CODEC_SNAPPY, packed, (size_t)(a + b), back, PLAIN_MAX),
              -E_CORRUPT_BATCH);
}

static void every_truncation_is_damage(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(11)};
    const size_t len = 3000;
    for (int round = 0; round < 4; round++) {
        plain_fill(&rng, len);
        for (size_t c = 0; c < 4; c++) {
            int64_t n = codec_compress(ctx, ids[c], 0, plain, len, packed, sizeof(packed));
            for (int64_t cut = 0; cut < n; cut++) {
                uint8_t *copy = malloc(cut > 0 ? (size_t)cut : 1);
                memcpy(copy, packed, (size_t)cut);
                int64_t rc = codec_decompress(ctx, ids[c], copy, (size_t)cut, back, PLAIN_MAX);
                /* xerial has no end mark: cut between blocks it is a shorter stream. */
                if (!(ids[c] == CODEC_SNAPPY && cut == 16 && rc == 0))
                    assert_rc(rc, -E_CORRUPT_BATCH);
                free(copy);
            }
        }
    }
}

static void damage_never_writes_past_the_end(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(12)};
    for (int round = 0; round < 3000; round++) {
        size_t len = 1 + rng_below(&rng, 2000);
        enum codec_id id = ids[round & 3];
        plain_fill(&rng, len);
        int64_t n = codec_compress(ctx, id, 0, plain, len, packed, sizeof(packed));
        for (uint64_t k = 1 + rng_below(&rng, 4); k > 0; k--)
            packed[rng_below(&rng, (uint64_t)n)] ^= (uint8_t)(1 + rng_below(&rng, 255));
        size_t cap = rng_below(&rng, 2 * len);
        uint8_t *dst = malloc(cap + 1);
        dst[cap] = 0x5a;
        int64_t rc = codec_decompress(ctx, id, packed, (size_t)n, dst, cap);
        assert_int_equal(dst[cap], 0x5a);
        assert_true(rc <= (int64_t)cap);
        assert_true(rc >= 0 || rc == -E_LIMIT || rc == -E_CORRUPT_BATCH);
        free(dst);
    }
    /* The same contexts still work. */
    plain_fill(&rng, 5000);
    for (size_t c = 0; c < 4; c++) {
        int64_t n = codec_compress(ctx, ids[c], 0, plain, 5000, packed, sizeof(packed));
        assert_unpacks(ids[c], (size_t)n, 5000);
    }
}

static void bombs_stop_at_the_limit(void **state)
{
    (void)state;
    enum { BOMB = 64 << 20, ROOM = 1 << 20 };
    uint8_t *zeros = calloc(1, BOMB), *dst = malloc(ROOM), *bomb;
    for (size_t c = 0; c < 4; c++) {
        size_t cap = codec_bound(ids[c], BOMB);
        bomb = malloc(cap);
        int64_t n = codec_compress(ctx, ids[c], 0, zeros, BOMB, bomb, cap);
        assert_true(n > 0 && n < BOMB / 15);
        assert_rc(codec_decompress(ctx, ids[c], bomb, (size_t)n, dst, ROOM), -E_LIMIT);
        free(bomb);
    }
    /* A raw snappy block that only claims to be 4 GiB - 1. */
    const uint8_t claim[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'x'};
    assert_rc(codec_decompress(ctx, CODEC_SNAPPY, claim, sizeof(claim), dst, ROOM), -E_LIMIT);
    free(zeros);
    free(dst);
}

static void names_are_kafkas(void **state)
{
    (void)state;
    const char *names[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    for (int i = 0; i < CODEC_CNT; i++) {
        assert_string_equal(codec_name((enum codec_id)i), names[i]);
        assert_int_equal(codec_by_name(names[i]), i);
    }
    assert_null(codec_name((enum codec_id)5));
    assert_null(codec_name((enum codec_id) - 1));
    assert_rc(codec_by_name("brotli"), -E_UNSUPPORTED_CODEC);
    for (int id = 5; id < 8; id++) {
        assert_rc(codec_compress(ctx, (enum codec_id)id, 0, plain, 1, packed, 100),
                  -E_UNSUPPORTED_CODEC);
        assert_rc(codec_decompress(ctx, (enum codec_id)id, plain, 1, packed, 100),
                  -E_UNSUPPORTED_CODEC);
    }
    assert_rc(codec_compress(ctx, CODEC_NONE, 0, plain, 1, packed, 100), -E_UNSUPPORTED_CODEC);
    codec_ctx_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_codec_round_trips_within_its_bound),
        TEST(all_levels_work),
        TEST(too_little_room_is_a_limit_and_state_survives),
        TEST(gzip_agrees_with_zlib_both_ways),
        TEST(gzip_reads_members_and_refuses_garbage),
        TEST(zstd_agrees_with_its_library_both_ways),
        TEST(lz4_reads_frames_of_every_kind),
        TEST(lz4_is_written_as_java_reads_it),
        TEST(snappy_reads_both_framings_and_writes_javas),
        TEST(snappy_streams_may_follow_each_other),
        TEST(every_truncation_is_damage),
        TEST(damage_never_writes_past_the_end),
        TEST(bombs_stop_at_the_limit),
        TEST(names_are_kafkas),
    };
    if (codec_ctx_create(&ctx) < 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    codec_ctx_destroy(ctx);
    return rc;
}
