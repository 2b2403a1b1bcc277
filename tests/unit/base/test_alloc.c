/* Arena and slab. */
#ifndef SLUICE_DEBUG
#define SLUICE_DEBUG
#endif
#include "lib/base/arena.c"
#include "lib/base/slab.c"
#include "tests/support/test.h"
#include <signal.h>
#include <sys/wait.h>

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

static void slab_gives_each_object_once(void **state)
{
    (void)state;
    struct slab s;
    const size_t lens[] = {1, 16, 40, 64, 65, 1000};
    for (size_t k = 0; k < 6; k++) {
        enum { CNT = 130 };
        void *p[CNT];
        assert_ok(slab_init(&s, lens[k], CNT));
        for (uint32_t i = 0; i < CNT; i++) {
            p[i] = slab_get(&s);
            assert_non_null(p[i]);
            assert_int_equal(slab_idx(&s, p[i]), i);
            assert_ptr_equal(slab_at(&s, i), p[i]);
            assert_int_equal((uintptr_t)p[i] % (lens[k] >= 64 ? 64 : 16), 0);
            memset(p[i], (int)i, lens[k]);
        }
        assert_null(slab_get(&s));
        assert_int_equal(slab_used_cnt(&s), CNT);
        for (uint32_t i = 0; i < CNT; i++) {
            assert_int_equal(((uint8_t *)p[i])[lens[k] - 1], (uint8_t)i);
            slab_put(&s, p[i]);
            assert_false(slab_is_used(&s, i));
        }
        assert_int_equal(slab_free_cnt(&s), CNT);
        assert_ptr_equal(slab_get(&s), p[CNT - 1]); /* last in, first out */
        slab_put(&s, NULL);
        slab_fini(&s);
    }
    assert_rc(slab_init(&s, 0, 1), -EINVAL);
    assert_rc(slab_init(&s, 1, 0), -EINVAL);
    slab_fini(&s);
    slab_fini(NULL);
}

/* Whether fn dies by abort. */
static bool aborts(void (*fn)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
static void put_twice(void)
{
    struct slab s;
    if (slab_init(&s, 32, 4) < 0)
        return;
    void *p = slab_get(&s), *q = slab_get(&s);
    slab_put(&s, p);
    slab_put(&s, q);
    slab_put(&s, p);
}
static void put_foreign(void)
{
    struct slab s;
    if (slab_init(&s, 32, 4) < 0)
        return;
    uint8_t *p = slab_get(&s);
    slab_put(&s, p + 1);
}

static void a_double_or_foreign_put_is_caught(void **state)
{
    (void)state;
    assert_true(aborts(put_twice));
    assert_true(aborts(put_foreign));
}

TEST_MAIN(TEST(arena_memory_is_zeroed_aligned_and_disjoint), TEST(arena_stops_at_its_bound),
          TEST(slab_gives_each_object_once), TEST(a_double_or_foreign_put_is_caught))
