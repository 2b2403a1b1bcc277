/* test_json_scan.c - the bounded scanner against a table of texts, and cut at every byte. */
#include "dataplane/ingest/json_scan.c"
#include "tests/support/test.h"

static void whole_values_pass_and_others_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        int rc;
    } t[] = {
        {"{}", 0},
        {" {\"a\":1,\"b\":[true,false,null,{\"c\":\"}\"}]} \n", 0},
        {"[]", 0},
        {"-0.5e+10", 0},
        {"0", 0},
        {"\"\\\"\"", 0},
        {"\"\x01\xff\"", 0}, /* control characters and no UTF-8: kept as they are */
        {"", JSON_CUT},
        {"  ", JSON_CUT},
        {"{\"a\"", JSON_CUT},
        {"{\"a\":", JSON_CUT},
        {"{\"a\":1", JSON_CUT},
        {"{\"a\":1,", JSON_CUT},
        {"[1,", JSON_CUT},
        {"\"abc", JSON_CUT},
        {"\"abc\\", JSON_CUT},
        {"tru", JSON_CUT},
        {"-", JSON_CUT},
        {"1.", JSON_CUT},
        {"1e", JSON_CUT},
        {"{\"a\":1}}", JSON_BAD},
        {"{\"a\":1,}", JSON_BAD},
        {"{a:1}", JSON_BAD},
        {"{\"a\" 1}", JSON_BAD},
        {"{\"a\":1]", JSON_BAD},
        {"[1 2]", JSON_BAD},
        {"[1,]", JSON_BAD},
        {"01", JSON_BAD},
        {"1.x", JSON_BAD},
        {"trux", JSON_BAD},
        {"'a'", JSON_BAD},
        {"hello", JSON_BAD},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        if (json_check(span_str(t[i].text)) != t[i].rc)
            fail_msg("'%s': %d, not %d", t[i].text, json_check(span_str(t[i].text)), t[i].rc);
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 8];
    for (uint32_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth - 1);
        text[depth - 1] = '1';
        memset(text + depth, ']', depth - 1);
        assert_int_equal(json_check(span_of((uint8_t *)text, 2 * depth - 1)), 0);
    }
    memset(text, '[', JSON_DEPTH_MAX + 1);
    text[JSON_DEPTH_MAX + 1] = '1';
    assert_int_equal(json_check(span_of((uint8_t *)text, JSON_DEPTH_MAX + 2)), JSON_BAD);
}

static void a_text_cut_anywhere_is_cut_not_bad(void **state)
{
    (void)state;
    static const char text[] = "{\"host\":\"h\\\"x\",\"n\":-1.5e3,\"l\":[{\"a\":null},true,\"\"]}";
    for (uint32_t n = 0; n < sizeof(text) - 1; n++) {
        uint8_t *exact = malloc(n > 0 ? n : 1); /* a byte too many is seen by the sanitizer */
        memcpy(exact, text, n);
        if (json_check(span_of(exact, n)) != JSON_CUT)
            fail_msg("%u bytes", n);
        free(exact);
    }
    assert_int_equal(json_check(span_str(text)), 0);
}

static void members_come_in_order_with_their_types(void **state)
{
    (void)state;
    struct json_scan s;
    struct json_value k, v;
    assert_int_equal(
        json_object_begin(&s, span_str(" { \"a\" : 12 , \"b\\u0062\":\"t\\n\",\"c\":[1,{}] } ")),
        0);
    assert_int_equal(json_object_next(&s, &k, &v), 1);
    assert_true(span_eq_str(k.text, "a") && span_eq_str(v.text, "12") && v.type == JSON_NUMBER);
    assert_int_equal(json_object_next(&s, &k, &v), 1);
    assert_true(k.escaped && v.escaped && span_eq_str(v.text, "t\\n") && v.type == JSON_STRING);
    assert_int_equal(json_object_next(&s, &k, &v), 1);
    assert_true(span_eq_str(v.text, "[1,{}]") && v.type == JSON_ARRAY);
    assert_int_equal(json_object_next(&s, &k, &v), 0);
    assert_int_equal(json_object_begin(&s, span_str("[1]")), JSON_BAD);
}

static void numbers_become_thousandths(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t milli;
    } t[] = {
        {"1385053862.3072", true, 1385053862307},
        {"1385053862", true, 1385053862000},
        {"0", true, 0},
        {"-1.5", true, -1500},
        {"1.3850538623072e9", true, 1385053862307},
        {"13850538623072E-4", true, 1385053862307},
        {"1385053862.307200000000000000000001", true, 1385053862307},
        {"0.0004", true, 0},
        {"1e99999999999999999999", false, 0},
        {"1e-99999999999999999999", true, 0},
        {"99999999999999999999999999", false, 0},
        {"", false, 0},
        {"1x", false, 0},
        {" 1", false, 0},
        {"NaN", false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        int64_t v = -7;
        bool ok = json_number_milli(span_str(t[i].text), &v);
        if (ok != t[i].ok || (ok && v != t[i].milli))
            fail_msg("'%s': %d %ld", t[i].text, ok, (long)v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_values_pass_and_others_are_told_apart),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_text_cut_anywhere_is_cut_not_bad),
        cmocka_unit_test(members_come_in_order_with_their_types),
        cmocka_unit_test(numbers_become_thousandths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
