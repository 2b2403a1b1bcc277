/* Patterns of topic names: what RE2/J takes and refuses, whole names only, bounded work. */
#include "dataplane/kafka/group/topic_regex.c"
#include "tests/support/test.h"

static int compile(const char *p)
{
    struct topic_regex *re = NULL;
    char why[160] = "";
    int rc = topic_regex_compile(span_str(p), &re, why, sizeof(why));
    assert_int_equal(rc == 0, re != NULL);
    assert_int_equal(rc == 0, why[0] == '\0');
    topic_regex_free(re);
    return rc;
}

static int match(const char *p, const char *name)
{
    struct topic_regex *re = NULL;
    char why[160];
    assert_int_equal(topic_regex_compile(span_str(p), &re, why, sizeof(why)), 0);
    int rc = topic_regex_match(re, span_str(name));
    topic_regex_free(re);
    return rc;
}

static void whole_names_match(void **state)
{
    (void)state;
    static const struct {
        const char *p, *name;
        int matches;
    } rows[] = {
        {"foo", "foo", 1},
        {"foo", "foobar", 0},
        {"foo", "xfoo", 0},
        {"foo.*", "foobar", 1},
        {"foo|bar", "bar", 1},
        {"foo|bar", "foob", 0},
        {"fo+?", "foo", 1},
        {"(?i)FOO", "foo", 1},
        {"(?i:F)oo", "foo", 1},
        {"[a-f]+\\.\\d{2}", "abc.12", 1},
        {"[^.]+", "a.b", 0},
        {"[[:alpha:]]+", "abc", 1},
        {"\\Qa.b\\E", "a.b", 1},
        {"\\Qa.b\\E", "axb", 0},
        {"(?P<n>a)b", "ab", 1},
        {"(?<n>a)b", "ab", 1},
        {"^a$", "a", 1},
        {"", "a", 0},
        {".*", "__consumer_offsets", 1},
        {"\\w+", "a_b", 1},
        {"a{2,3}", "aaaa", 0},
        {"a{,3}", "a{,3}", 1},
        {"[]a]+", "a]", 1},
        {"\\pL+", "abc", 1},
    };
    for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (match(rows[i].p, rows[i].name) != rows[i].matches)
            fail_msg("%s against %s", rows[i].p, rows[i].name);
}

static void what_re2j_has_not_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "(",       "a)",      "[a",         "a**",    "a++",     "a*+",   "a??+",   "a{2}{3}",
        "a{1001}", "(?=a)",   "(?!a)",      "(?<=a)", "(?<!a)",  "(?>a)", "(a)\\1", "\\k<n>",
        "(?|a|b)", "(?(1)a)", "(*ACCEPT)a", "\\G",    "\\K",     "a\\",   "\\R",    "(?x)a b",
        "(?R)",    "*",       "\\C",        "(?P=n)", "\\u0041", "[b-a]", "(?P>n)", "\\Z",
    };
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (compile(bad[i]) != -E_MALFORMED)
            fail_msg("%s is taken", bad[i]);
    struct topic_regex *re;
    char why[160];
    assert_int_equal(topic_regex_compile(span_of("a\0b", 3), &re, why, sizeof(why)), -E_MALFORMED);
}

static void size_and_work_are_bounded(void **state)
{
    (void)state;
    char big[TOPIC_REGEX_LEN_MAX + 2];
    memset(big, 'a', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(compile(big), -E_LIMIT);
    big[sizeof(big) - 2] = '\0';
    assert_int_equal(compile(big), 0);
    assert_int_equal(compile("((((a{100}){100}){100}){100})"), -E_MALFORMED); /* too large */
    static const char name[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    assert_int_equal(match("(a|aa)*[bc]", name), -E_LIMIT);
    assert_int_equal(match("(a*)*[bc]", name), -E_LIMIT);
}

/* No byte string makes the scanner read past its end (sanitizers watch), and whatever it takes the
 * machine takes too or refuses in words. */
static void any_bytes_are_survived(void **state)
{
    (void)state;
    static const char alphabet[] = "a(?)[]{}1,\\*+|^$.:<>=!QEPdk-#i";
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        struct test_rng rng = {.s = seed};
        uint32_t len = (uint32_t)rng_below(&rng, 14);
        char *p = malloc(len + 1);
        for (uint32_t i = 0; i < len; i++)
            p[i] = alphabet[rng_below(&rng, sizeof(alphabet) - 1)];
        struct topic_regex *re = NULL;
        char why[160];
        char *exact = malloc(len > 0 ? len : 1); /* no byte behind it */
        memcpy(exact, p, len);
        int rc = topic_regex_compile(span_of(exact, len), &re, why, sizeof(why));
        if (rc == 0)
            (void)!topic_regex_match(re, span_str("aa1.a"));
        else
            assert_true(rc == -E_MALFORMED || rc == -E_LIMIT);
        topic_regex_free(re);
        free(exact);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_names_match),
        cmocka_unit_test(what_re2j_has_not_is_refused),
        cmocka_unit_test(size_and_work_are_bounded),
        cmocka_unit_test(any_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
