/* test.h - what every unit test includes: cmocka, a seeded random generator, scratch folders.
 *
 * Random tests take their seed from test_seed(): SLUICE_TEST_SEED in the environment or the given
 * default, printed so that a failure can be repeated. Include it after the unit under test. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define TEST(fn) cmocka_unit_test(fn)
#define TEST_MAIN(...)                                                                             \
    int main(void)                                                                                 \
    {                                                                                              \
        const struct CMUnitTest tests_[] = {__VA_ARGS__};                                          \
        return cmocka_run_group_tests(tests_, NULL, NULL);                                         \
    }
/* assert_int_equal that shows both names of the error on failure. */
#define assert_rc(call, want)                                                                      \
    do {                                                                                           \
        long long rc_ = (call), want_ = (want);                                                    \
        if (rc_ != want_)                                                                          \
            fail_msg("%s: %lld, expected %lld", #call, rc_, want_);                                \
    } while (0)
#define assert_ok(call) assert_rc(call, 0)

/* splitmix64: one 64-bit state, good enough and reproducible everywhere. */
struct test_rng {
    uint64_t s;
};
__attribute__((unused)) static uint64_t rng_u64(struct test_rng *r)
{
    uint64_t z = r->s += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}
/* 0 .. below-1; below > 0. */
__attribute__((unused)) static uint64_t rng_below(struct test_rng *r, uint64_t below)
{
    return rng_u64(r) % below;
}
__attribute__((unused)) static void rng_fill(struct test_rng *r, void *p, size_t len)
{
    for (uint8_t *b = p; len > 0; len--)
        *b++ = (uint8_t)rng_u64(r);
}
__attribute__((unused)) static uint64_t test_seed(uint64_t fallback)
{
    const char *env = getenv("SLUICE_TEST_SEED");
    uint64_t seed = env != NULL ? strtoull(env, NULL, 0) : fallback;
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

/* A fresh folder under TMPDIR (or /tmp); the path is malloc'ed. test_tmpdir_remove deletes it with
 * everything in it and frees the path. */
__attribute__((unused)) static char *test_tmpdir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/sluice-test-XXXXXX", base != NULL ? base : "/tmp") < 0)
        abort();
    if (mkdtemp(path) == NULL) {
        perror(path);
        abort();
    }
    return path;
}
__attribute__((unused)) static void test_tmpdir_remove(char *path)
{
    char *cmd = NULL;
    if (asprintf(&cmd, "rm -rf -- '%s'", path) < 0)
        abort();
    if (system(cmd) != 0)
        fprintf(stderr, "cannot remove %s\n", path);
    free(cmd);
    free(path);
}
