/* A CPU without what the build needs is told so, by feature. */
#include "tests/support/test.h"
#include "lib/base/cpu_check.h"

static int has_all(const char *f)
{
    (void)f;
    return 1;
}
static int has_none(const char *f)
{
    (void)f;
    return 0;
}
static int lacks_popcnt_and_ssse3(const char *f)
{
    return strcmp(f, "popcnt") != 0 && strcmp(f, "ssse3") != 0;
}

static void missing_features_are_named(void **state)
{
    char buf[64], small[12];
    (void)state;
    cpu_missing(has_all, buf, sizeof(buf));
    assert_string_equal(buf, "");
    cpu_missing(has_none, buf, sizeof(buf));
    assert_string_equal(buf, "sse3 ssse3 sse4.1 sse4.2 popcnt");
    cpu_missing(lacks_popcnt_and_ssse3, buf, sizeof(buf));
    assert_string_equal(buf, "ssse3 popcnt");
    cpu_missing(has_none, small, sizeof(small));
    assert_string_equal(small, "sse3 ssse3");
}

TEST_MAIN(TEST(missing_features_are_named))
