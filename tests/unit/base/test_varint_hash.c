/* varint.h, hash.h, bits.h, align.h, span.h. */
#include "lib/base/varint.h"
#include "lib/base/hash.h"
#include "lib/base/bits.h"
#include "lib/base/align.h"
#include "tests/support/test.h"

/* Edges of every length, then random values. */
static uint64_t sample(struct test_rng *rng, int i)
{
    if (i < 64 * 3)
        return (UINT64_C(1) << (i / 3)) + (uint64_t)(i % 3) - 1;
    return rng_u64(rng) >> rng_below(rng, 64);
}

static void every_value_round_trips_at_its_length_and_truncates(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(11)};
    for (int i = 0; i < 20000; i++) {
        uint64_t v = sample(&rng, i), u;
        uint8_t b[VARLONG_MAX];
        int n = uvarlong_put(b, v);
        assert_int_equal(n, uvarlong_len(v));
        assert_int_equal(uvarlong_get(b, b + n, &u), n);
        assert_true(u == v);
        for (int cut = 0; cut < n; cut++)
            assert_rc(uvarlong_get(b, b + cut, &u), -E_TRUNCATED);

        int64_t sv = (int64_t)v, s;
        n = varlong_put(b, sv);
        assert_int_equal(n, varlong_len(sv));
        assert_int_equal(varlong_get(b, b + n, &s), n);
        assert_true(s == sv);

        uint32_t v32 = (uint32_t)v, u32;
        n = uvarint_put(b, v32);
        assert_int_equal(n, uvarint_len(v32));
        assert_int_equal(uvarint_get(b, b + n, &u32), n);
        assert_int_equal(u32, v32);
        for (int cut = 0; cut < n; cut++)
            assert_rc(uvarint_get(b, b + cut, &u32), -E_TRUNCATED);

        int32_t s32;
        n = varint_put(b, (int32_t)v32);
        assert_int_equal(n, varint_len((int32_t)v32));
        assert_int_equal(varint_get(b, b + n, &s32), n);
        assert_int_equal(s32, (int32_t)v32);
    }
}

static void known_bytes_are_kafkas(void **state)
{
    (void)state;
    /* From Kafka's ByteUtilsTest. */
    static const struct {
        int32_t v;
        uint8_t b[5];
        int n;
    } rows[] = {
        {0, {0x00}, 1},
        {-1, {0x01}, 1},
        {1, {0x02}, 1},
        {63, {0x7e}, 1},
        {-64, {0x7f}, 1},
        {64, {0x80, 0x01}, 2},
        {-65, {0x81, 0x01}, 2},
        {8191, {0xfe, 0x7f}, 2},
        {-8192, {0xff, 0x7f}, 2},
        {INT32_MAX, {0xfe, 0xff, 0xff, 0xff, 0x0f}, 5},
        {INT32_MIN, {0xff, 0xff, 0xff, 0xff, 0x0f}, 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t b[5];
        assert_int_equal(varint_put(b, rows[i].v), rows[i].n);
        assert_memory_equal(b, rows[i].b, rows[i].n);
    }
}

static void too_long_numbers_are_malformed(void **state)
{
    (void)state;
    uint8_t b[16];
    uint32_t u32;
    uint64_t u64;
    memset(b, 0x80, sizeof(b));
    assert_rc(uvarint_get(b, b + 16, &u32), -E_MALFORMED);
    assert_rc(uvarlong_get(b, b + 16, &u64), -E_MALFORMED);
    b[4] = 0x10; /* bit 32 */
    assert_rc(uvarint_get(b, b + 16, &u32), -E_MALFORMED);
    b[4] = 0x0f;
    assert_rc(uvarint_get(b, b + 16, &u32), 5);
    b[4] = 0x80;
    b[9] = 0x02; /* bit 64 */
    assert_rc(uvarlong_get(b, b + 16, &u64), -E_MALFORMED);
    b[9] = 0x01;
    assert_rc(uvarlong_get(b, b + 16, &u64), 10);
    assert_true(u64 == UINT64_C(1) << 63);
}

static void murmur2_is_kafkas(void **state)
{
    (void)state;
    /* From Kafka's UtilsTest.testMurmur2. */
    static const struct {
        const char *s;
        int32_t h;
    } rows[] = {{"21", -973932308},
                {"foobar", -790332482},
                {"a-little-bit-long-string", -985981536},
                {"a-little-bit-longer-string", -1486304829},
                {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
                {"abc", 479470107}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(hash_murmur2(rows[i].s, (uint32_t)strlen(rows[i].s)), rows[i].h);
    assert_true(hash_kafka_partition(span_str("21"), 7) == (-973932308 & INT32_MAX) % 7);
}

static void hashes_spread_and_see_every_byte(void **state)
{
    (void)state;
    uint32_t hit[64] = {0};
    for (uint64_t i = 0; i < 6400; i++)
        hit[hash_mix64(i) % 64]++;
    for (int i = 0; i < 64; i++)
        assert_in_range(hit[i], 50, 150);
    uint8_t b[40] = {0};
    for (size_t len = 1; len < sizeof(b); len++) {
        uint64_t h = hash_bytes(b, len);
        assert_true(h != hash_bytes(b, len - 1));
        for (size_t i = 0; i < len * 8; i++) {
            b[i / 8] ^= (uint8_t)(1 << i % 8);
            assert_true(h != hash_bytes(b, len));
            b[i / 8] ^= (uint8_t)(1 << i % 8);
        }
    }
}

static void bit_arithmetic(void **state)
{
    (void)state;
    assert_int_equal(pow2_ceil(0), 1);
    assert_int_equal(pow2_ceil(1), 1);
    for (uint32_t e = 1; e < 63; e++) {
        uint64_t v = UINT64_C(1) << e;
        assert_true(pow2_ceil(v) == v);
        assert_true(pow2_ceil(v + 1) == v * 2);
        assert_int_equal(log2_floor(v), e);
        assert_true(is_pow2(v));
        assert_false(is_pow2(v + 1) && v > 0);
    }
    assert_int_equal(align_up(4097, 4096), 8192);
    assert_int_equal(align_up(4096, 4096), 4096);
    assert_int_equal(align_down(4097, 4096), 4096);
    assert_true(is_aligned(8192, 4096));
    assert_int_equal(div_ceil(9, 4), 3);
    uint64_t set[2] = {0};
    bit_set(set, 70);
    assert_true(bit_is_set(set, 70));
    assert_false(bit_is_set(set, 6));
    bit_clear(set, 70);
    assert_true(set[1] == 0);
    uint8_t b[9];
    store_be64(b + 1, UINT64_C(0x0102030405060708));
    assert_int_equal(b[1], 1);
    assert_int_equal(load_be16(b + 1), 0x0102);
    assert_int_equal(load_be32(b + 5), 0x05060708);
    assert_true(load_be64(b + 1) == UINT64_C(0x0102030405060708));
}

TEST_MAIN(TEST(every_value_round_trips_at_its_length_and_truncates), TEST(known_bytes_are_kafkas),
          TEST(too_long_numbers_are_malformed), TEST(murmur2_is_kafkas),
          TEST(hashes_spread_and_see_every_byte), TEST(bit_arithmetic))
