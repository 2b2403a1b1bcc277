/* CRC-32C: known vectors, the twins against each other, combination, choice by CPU. */
#include "accel/crc32c.h"
#include "accel/accel.h"
#include "accel/accel_int.h"
#include "tests/support/test.h"

static crc32c_fn *const twins[] = {crc32c_soft, crc32c_isal, crc32c};

static void known_vectors(void **state)
{
    (void)state;
    uint8_t up[32], down[32], zeros[32] = {0}, ones[32];
    memset(ones, 0xff, sizeof(ones));
    for (int i = 0; i < 32; i++) {
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    for (size_t t = 0; t < 3; t++) { /* RFC 3720 B.4 */
        assert_int_equal(twins[t](0, "123456789", 9), 0xE3069283);
        assert_int_equal(twins[t](0, zeros, 32), 0x8A9136AA);
        assert_int_equal(twins[t](0, ones, 32), 0x62A8AB43);
        assert_int_equal(twins[t](0, up, 32), 0x46DD794E);
        assert_int_equal(twins[t](0, down, 32), 0x113FDB5C);
        assert_int_equal(twins[t](0, "", 0), 0);
        assert_int_equal(twins[t](0x1234, "", 0), 0x1234);
    }
}

static void twins_agree_at_every_length_and_alignment(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(1)};
    static uint8_t buf[70000];
    rng_fill(&rng, buf, sizeof(buf));
    for (size_t len = 0; len < 600; len++)
        for (size_t at = 0; at < 16; at++) {
            uint32_t start = (uint32_t)rng_u64(&rng);
            assert_int_equal(crc32c_soft(start, buf + at, len), crc32c_isal(start, buf + at, len));
        }
    for (int i = 0; i < 300; i++) {
        size_t len = rng_below(&rng, 65000), at = rng_below(&rng, 4096);
        assert_int_equal(crc32c_soft(0, buf + at, len), crc32c_isal(0, buf + at, len));
    }
}

static void pieces_continue_and_combine(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(2)};
    static uint8_t buf[20000];
    rng_fill(&rng, buf, sizeof(buf));
    for (int i = 0; i < 500; i++) {
        size_t len = rng_below(&rng, sizeof(buf)), cut = rng_below(&rng, len + 1);
        uint32_t whole = crc32c(0, buf, len);
        for (size_t t = 0; t < 3; t++)
            assert_int_equal(twins[t](twins[t](0, buf, cut), buf + cut, len - cut), whole);
        assert_int_equal(
            crc32c_combine(crc32c(0, buf, cut), crc32c(0, buf + cut, len - cut), len - cut), whole);
    }
    /* Far apart: A, then 2^k zeros, built by doubling. */
    uint32_t zeros = crc32c(0, "\0", 1);
    uint64_t zeros_len = 1;
    for (; zeros_len < UINT64_C(1) << 22; zeros_len *= 2)
        zeros = crc32c_combine(zeros, zeros, zeros_len);
    uint8_t *plain = calloc(1, zeros_len);
    assert_int_equal(zeros, crc32c(0, plain, zeros_len));
    free(plain);
}

static void a_wrong_bit_is_found_and_two_are_not_taken_for_one(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(3)};
    static uint8_t buf[70000];
    rng_fill(&rng, buf, sizeof(buf));
    for (int i = 0; i < 300; i++) {
        size_t len = 1 + rng_below(&rng, i % 2 ? 100 : sizeof(buf));
        uint64_t bit = rng_below(&rng, len * 8), other = rng_below(&rng, len * 8);
        uint32_t want = crc32c(0, buf, len);
        assert_int_equal(crc32c_wrong_bit(want, want, len), -1);
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(crc32c_wrong_bit(crc32c(0, buf, len), want, len), bit);
        buf[other / 8] ^= (uint8_t)(1u << other % 8);
        assert_int_equal(crc32c_wrong_bit(crc32c(0, buf, len), want, len), -1);
    }
}

static void an_unfit_cpu_gets_the_scalar_twin_and_is_told(void **state)
{
    (void)state;
    assert_ptr_equal(accel_choose(true, true, false).crc32c, crc32c_isal);
    assert_ptr_equal(accel_choose(true, true, true).crc32c, crc32c_soft);
    assert_ptr_equal(accel_choose(false, true, false).crc32c, crc32c_soft);
    assert_ptr_equal(accel_choose(true, false, false).crc32c, crc32c_soft);
    assert_non_null(strstr(accel_choose(false, true, false).crc32c_text, "sse4.2"));
    assert_non_null(strstr(accel_choose(true, false, false).crc32c_text, "pclmul"));
    assert_non_null(strstr(accel_choose(true, false, false).gzip_text, "pclmul"));

    char text[512];
    accel_init(true);
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    size_t len = accel_describe(text, sizeof(text));
    assert_int_equal(len, strlen(text));
    assert_true(len < sizeof(text) - 1);
    assert_non_null(strstr(text, "crc32c: scalar"));
    assert_non_null(strstr(text, "\nzstd: "));
    accel_init(false);
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(accel_describe(text, 8), 7);
    assert_string_equal(text, "crc32c:");
    assert_int_equal(accel_describe(text, 0), 0);
}

TEST_MAIN(TEST(known_vectors), TEST(twins_agree_at_every_length_and_alignment),
          TEST(pieces_continue_and_combine),
          TEST(a_wrong_bit_is_found_and_two_are_not_taken_for_one),
          TEST(an_unfit_cpu_gets_the_scalar_twin_and_is_told))
