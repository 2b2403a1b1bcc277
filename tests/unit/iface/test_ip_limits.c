/* test_ip_limits.c - limits of single addresses, as text. */
#include "lib/iface/ip_limits.h"
#include "tests/support/test.h"

static void texts_are_addresses_with_numbers(void **state)
{
    (void)state;
    static const char *const good[] = {"", "10.0.0.1:5", "10.0.0.1:0, ::1:5 ,[::1]:7",
                                       "10.0.0.1:2147483647", "10.0.0.1:5,"};
    static const char *const bad[] = {"10.0.0.1",
                                      "10.0.0.1:",
                                      "10.0.0.1:x",
                                      ":5",
                                      "host:5",
                                      "10.0.0.1:2147483648",
                                      "*:5",
                                      "10.0.0.1:99999999999",
                                      "10.0.0.1:5,,10.0.0.2:5",
                                      "10.0.0:5",
                                      "10.0.0.1:-1",
                                      ",",
                                      "5"};
    char err[200];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (ip_limits_check(good[i], err, sizeof(err)) != 0)
            fail_msg("'%s': %s", good[i], err);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (ip_limits_check(bad[i], err, sizeof(err)) != -E_CONFIG)
            fail_msg("'%s' is accepted", bad[i]);
}

static uint32_t limit_of(const char *text, const char *ip)
{
    struct net_addr a;
    uint32_t max = UINT32_MAX;
    assert_ok(net_addr_parse_ip(ip, (uint32_t)strlen(ip), &a));
    a.port = 12345; /* of the client's end */
    return ip_limits_find(text, &a, &max) ? max : UINT32_MAX;
}

static void an_address_is_found_in_any_of_its_forms(void **state)
{
    (void)state;
    static const char text[] = "10.0.0.1:5,[::1]:6, 10.0.0.2:7,10.0.0.1:8";
    assert_int_equal(limit_of(text, "10.0.0.1"), 8); /* the last counts */
    assert_int_equal(limit_of(text, "::ffff:10.0.0.2"), 7);
    assert_int_equal(limit_of(text, "0:0:0:0:0:0:0:1"), 6);
    assert_int_equal(limit_of(text, "10.0.0.3"), UINT32_MAX);
    assert_int_equal(limit_of("", "10.0.0.1"), UINT32_MAX);
}

TEST_MAIN(TEST(texts_are_addresses_with_numbers), TEST(an_address_is_found_in_any_of_its_forms))
