/* test_inflate.c - what zlib made comes back; a bomb costs what was allowed; damage is found. */
#include "accel/inflate.h"
#include "tests/support/test.h"
#include <zlib.h>

static struct inflater *z;
static uint8_t src[1 << 20], packed[1 << 20], out[1 << 20];

static uint32_t pack(enum inflate_format f, uint32_t len)
{
    z_stream s = {0};
    assert_int_equal(deflateInit2(&s, 6, Z_DEFLATED, f == INFLATE_GZIP ? 31 : 15, 8, 0), Z_OK);
    s.next_in = src;
    s.avail_in = len;
    s.next_out = packed;
    s.avail_out = sizeof(packed);
    assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
    uint32_t n = (uint32_t)s.total_out;
    deflateEnd(&s);
    return n;
}

static void every_length_comes_back_and_every_bound_cuts(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(41)};
    for (uint32_t i = 0; i < sizeof(src); i++)
        src[i] = (uint8_t) "abcdefgh"[rng_below(&rng, 8)];
    for (int round = 0; round < 400; round++) {
        enum inflate_format f = round % 2 ? INFLATE_GZIP : INFLATE_ZLIB;
        uint32_t len = (uint32_t)rng_below(&rng, round < 300 ? 3000 : 200000);
        uint32_t n = pack(f, len);
        uint32_t cap = (uint32_t)rng_below(&rng, 2 * len + 2);
        bool cut;
        int64_t got = inflate_prefix(z, f, packed, n, out, cap, &cut);
        assert_int_equal(got, len < cap ? len : cap);
        assert_int_equal(cut, len > cap);
        assert_memory_equal(out, src, (size_t)got);
    }
}

static void a_bomb_makes_no_more_than_allowed(void **state)
{
    (void)state;
    memset(src, 0, sizeof(src));
    uint32_t n = pack(INFLATE_GZIP, sizeof(src));
    assert_in_range(n, 1, 2000);
    bool cut;
    memset(out, 7, sizeof(out));
    assert_int_equal(inflate_prefix(z, INFLATE_GZIP, packed, n, out, 1000, &cut), 1000);
    assert_true(cut);
    assert_int_equal(out[999], 0);
    assert_int_equal(out[1000], 7);
}

static void damage_is_found(void **state)
{
    (void)state;
    memcpy(src, "{\"host\":\"a\",\"short_message\":\"text text text\"}", 46);
    for (int f = INFLATE_GZIP; f <= INFLATE_ZLIB; f++) {
        uint32_t n = pack((enum inflate_format)f, 46);
        bool cut;
        for (uint32_t len = 0; len < n; len++) /* ends early */
            assert_rc(inflate_prefix(z, (enum inflate_format)f, packed, len, out, 1000, &cut),
                      -E_MALFORMED);
        packed[n] = 'x'; /* something behind the end */
        assert_rc(inflate_prefix(z, (enum inflate_format)f, packed, n + 1, out, 1000, &cut),
                  -E_MALFORMED);
        packed[n - 6] ^= 1; /* checksum (gzip: length follows) */
        assert_rc(inflate_prefix(z, (enum inflate_format)f, packed, n, out, 1000, &cut),
                  -E_MALFORMED);
    }
}

static int setup(void **state)
{
    (void)state;
    return inflater_create(&z);
}
static int teardown(void **state)
{
    (void)state;
    inflater_destroy(z);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_comes_back_and_every_bound_cuts),
        cmocka_unit_test(a_bomb_makes_no_more_than_allowed),
        cmocka_unit_test(damage_is_found),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
