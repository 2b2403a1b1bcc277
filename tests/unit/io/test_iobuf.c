#include "dataplane/io/file.h"
#include "dataplane/io/iobuf.c"
#include "tests/support/test.h"

static void every_buffer_is_aligned_distinct_and_comes_back(void **state)
{
    struct iobuf_pool *p = NULL;
    uint8_t *mem = aligned_alloc(FILE_BLOCK, 10 * FILE_BLOCK);
    assert_int_equal(iobuf_pool_create(mem, 10 * FILE_BLOCK, 2 * FILE_BLOCK, &p), 0);
    assert_int_equal(iobuf_cnt(p), 5);
    assert_int_equal(iobuf_size(p), 2 * FILE_BLOCK);
    void *b[5];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) {
            b[i] = iobuf_get(p);
            assert_non_null(b[i]);
            assert_int_equal((uintptr_t)b[i] % FILE_BLOCK, 0);
            memset(b[i], i, 2 * FILE_BLOCK);
            for (int j = 0; j < i; j++)
                assert_int_equal(*(uint8_t *)b[j], j);
        }
        assert_null(iobuf_get(p)); /* empty is an answer */
        for (int i = 0; i < 5; i++)
            iobuf_put(p, b[i]);
        assert_int_equal(iobuf_free_cnt(p), 5);
    }
    void *last = iobuf_get(p);
    assert_ptr_equal(last, b[4]); /* the warm one first */
    iobuf_put(p, last);
    iobuf_pool_destroy(p);
    free(mem);
}

static void impossible_pools_are_refused(void **state)
{
    struct iobuf_pool *p = NULL;
    uint8_t *mem = aligned_alloc(FILE_BLOCK, 2 * FILE_BLOCK);
    assert_int_equal(iobuf_pool_create(mem, 2 * FILE_BLOCK, 1000, &p), -EINVAL);
    assert_int_equal(iobuf_pool_create(mem, 2 * FILE_BLOCK, 0, &p), -EINVAL);
    assert_int_equal(iobuf_pool_create(mem, 2 * FILE_BLOCK, 4 * FILE_BLOCK, &p), -EINVAL);
    assert_int_equal(iobuf_pool_create(mem + 8, FILE_BLOCK, FILE_BLOCK, &p), -EINVAL);
    free(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_buffer_is_aligned_distinct_and_comes_back),
        cmocka_unit_test(impossible_pools_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
