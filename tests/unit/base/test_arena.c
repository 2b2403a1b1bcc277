/* Arena. */
#ifndef SLUICE_DEBUG
#define SLUICE_DEBUG
#endif
#include "lib/base/arena.c"
#include "tests/support/test.h"

static void arena_memory_is_zeroed_aligned_and_disjoint(void **state)
{
    (void)state;
    struct arena a;
    struct test_rng rng = {test_seed(3)};
    arena_init(&a, 1 << 20);
    for (int round = 0; round < 20; round++) {
        uint8_t *p[100];
        size_t len[100];
        for (int i = 0; i < 100; i++) {
            len[i] = rng_below(&rng, i % 10 == 0 ? 20000 : 100);
            p[i] = arena_alloc(&a, len[i]);
            if (p[i] == NULL) {
                len[i] = 0;
                continue;
            }
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            for (size_t j = 0; j < len[i]; j++)
                assert_int_equal(p[i][j], 0);
            memset(p[i], i + 1, len[i]);
        }
        for (int i = 0; i < 100; i++)
            for (size_t j = 0; j < len[i]; j++)
                assert_int_equal(p[i][j], i + 1);
        assert_true(a.total <= a.bytes_max);
        arena_reset(&a);
        assert_true(a.total <= CHUNK_MAX);
    }
    arena_fini(&a);
    arena_fini(&a);
}

static void arena_stops_at_its_bound(void **state)
{
    (void)state;
    struct arena a;
    for (size_t max = 0; max < 20000; max += 611) {
        arena_init(&a, max);
        size_t got = 0;
        while (arena_alloc(&a, 64) != NULL)
            got += 64;
        assert_true(got <= max);
        assert_true(got + 64 * 8 > max); /* little is wasted */
        assert_null(arena_alloc(&a, SIZE_MAX));
        assert_null(arena_array(&a, SIZE_MAX / 2, 3));
        arena_fini(&a);
    }
    arena_init(&a, 4096);
    assert_non_null(arena_alloc(&a, 4096));
    assert_null(arena_alloc(&a, 1));
    arena_reset(&a);
    assert_non_null(arena_array(&a, 64, 64));
    arena_fini(&a);
}

TEST_MAIN(TEST(arena_memory_is_zeroed_aligned_and_disjoint), TEST(arena_stops_at_its_bound))
