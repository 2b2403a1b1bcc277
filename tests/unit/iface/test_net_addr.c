/* test_net_addr.c - addresses as text and back. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "lib/iface/net_addr.h"
#include <netinet/in.h>

static void every_good_text_reads_back_to_the_same_value(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"127.0.0.1:9092", "127.0.0.1:9092"},
        {"0.0.0.0:0", "0.0.0.0:0"},
        {"[::1]:5514", "[::1]:5514"},
        {"*:9092", "[::]:9092"},
        {"[::]:9092", "[::]:9092"},
        {"[::ffff:10.1.2.3]:65535", "10.1.2.3:65535"},
        {"[2001:db8::a]:1", "[2001:db8::a]:1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct net_addr a, b;
        char text[NET_ADDR_TEXT_MAX];
        assert_int_equal(net_addr_parse(rows[i].in, (uint32_t)strlen(rows[i].in), &a), 0);
        assert_int_equal(net_addr_format(&a, text), strlen(rows[i].out));
        assert_string_equal(text, rows[i].out);
        assert_int_equal(net_addr_parse(text, (uint32_t)strlen(text), &b), 0);
        assert_true(net_addr_eq(&a, &b));
    }
}

static void bad_text_is_refused_and_nothing_is_written(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        "9092",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:-1",
        "127.0.0.1:65536",
        "127.0.0.1:000080",
        "256.0.0.1:1",
        "::1:80",
        "[::1]80",
        "[127.0.0.1]:80",
        "localhost:80",
        " 1.2.3.4:5",
        "[]:1",
        ":80",
        "**:1",
        "[::1:80",
        "1.2.3:4",
        "[fe80::1%eth0]:1",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:1",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct net_addr a = {.port = 7};
        if (net_addr_parse(rows[i], (uint32_t)strlen(rows[i]), &a) != -E_CONFIG)
            fail_msg("accepted \"%s\"", rows[i]);
        assert_int_equal(a.port, 7);
    }
}

static void socket_addresses_convert_both_ways(void **state)
{
    static const char *const rows[] = {"10.0.0.1:514", "[2001:db8::1]:6514", "[::]:1"};
    static const int family[] = {AF_INET, AF_INET6, AF_INET6};
    for (size_t i = 0; i < 3; i++) {
        struct net_addr a, b;
        struct sockaddr_storage ss;
        assert_int_equal(net_addr_parse(rows[i], (uint32_t)strlen(rows[i]), &a), 0);
        socklen_t len = net_addr_to_sockaddr(&a, &ss);
        assert_int_equal(ss.ss_family, family[i]);
        assert_int_equal(net_addr_from_sockaddr((struct sockaddr *)&ss, len, &b), 0);
        assert_true(net_addr_eq(&a, &b));
        assert_int_equal(net_addr_from_sockaddr((struct sockaddr *)&ss, 4, &b), -EAFNOSUPPORT);
    }
}

static void kinds_of_addresses_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        bool v4, any, loopback;
    } rows[] = {{"127.3.2.1", true, false, true}, {"::1", false, false, true},
                {"*", false, true, false},        {"0.0.0.0", true, true, false},
                {"10.0.0.1", true, false, false}, {"[2001:db8::1]", false, false, false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct net_addr a;
        char text[NET_ADDR_TEXT_MAX];
        assert_int_equal(net_addr_parse_ip(rows[i].text, (uint32_t)strlen(rows[i].text), &a), 0);
        assert_int_equal(net_addr_is_v4(&a), rows[i].v4);
        assert_int_equal(net_addr_is_any(&a), rows[i].any);
        assert_int_equal(net_addr_is_loopback(&a), rows[i].loopback);
        assert_true(net_addr_format_ip(&a, text) > 0);
    }
}

static void every_ip4_address_reads_as_the_library_writes_it(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 70000; i++) {
        uint32_t v = i < 65536 ? i << 16 | (65535 - i) : i * 2654435761u;
        struct net_addr a = {.ip = {[10] = 0xff, [11] = 0xff}};
        char text[NET_ADDR_TEXT_MAX], want[INET_ADDRSTRLEN];
        memcpy(a.ip + 12, &v, 4);
        assert_true(net_addr_is_v4(&a));
        assert_non_null(inet_ntop(AF_INET, &v, want, sizeof(want)));
        assert_int_equal(net_addr_format_ip(&a, text), strlen(want));
        assert_string_equal(text, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_good_text_reads_back_to_the_same_value),
        cmocka_unit_test(bad_text_is_refused_and_nothing_is_written),
        cmocka_unit_test(socket_addresses_convert_both_ways),
        cmocka_unit_test(kinds_of_addresses_are_told_apart),
        cmocka_unit_test(every_ip4_address_reads_as_the_library_writes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
