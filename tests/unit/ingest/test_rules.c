/* test_rules.c - routing rules: the first that matches, checked against a plain reading of the
 * configuration for many random events and rules. */
#include "dataplane/ingest/rules.h"
#include "lib/iface/net_addr.h"
#include "tests/support/test.h"

static struct conf conf;
static struct rules rules;

static void set(const char *path, const char *value)
{
    char err[256];
    if (conf_set(&conf, path, value, false, err, sizeof(err)) < 0)
        fail_msg("%s", err);
}
static struct net_addr addr(const char *text)
{
    struct net_addr a;
    assert_ok(net_addr_parse_ip(text, (uint32_t)strlen(text), &a));
    return a;
}
static int pick(const char *listener, const char *source, int facility, int severity,
                const char *host, const char *app)
{
    struct net_addr a = addr(source);
    struct rec r = {.facility = (uint8_t)(facility < 0 ? REC_FACILITY_NONE : facility),
                    .severity = (uint8_t)(severity < 0 ? REC_SEVERITY_NONE : severity)};
    if (host != NULL)
        r.header[RH_HOST] = span_str(host);
    if (app != NULL)
        r.header[RH_APP] = span_str(app);
    uint64_t c = rules_of_listener(&rules, listener) & rules_of_source(&rules, &a);
    return rules_pick(&rules, c, &r);
}

static void each_condition_decides_and_the_first_match_wins(void **state)
{
    (void)state;
    conf_init(&conf);
    set("rules[0].source", "10.1.0.0/16");
    set("rules[0].severity", "emerg, alert crit");
    set("rules[1].facility", "auth authpriv");
    set("rules[1].listener", "syslog-udp");
    set("rules[2].host", "fw*");
    set("rules[3].app", "*d");
    set("rules[4].host", "*core*");
    set("rules[5].source", "2001:db8::/33");
    set("rules[6].source", "0.0.0.0/0");
    set("rules[6].listener", "syslog-tcp");
    rules_compile(&rules, &conf);
    assert_int_equal(pick("syslog-udp", "10.1.2.3", 4, 2, "fw1", "sshd"), 0);
    assert_int_equal(pick("syslog-udp", "10.2.2.3", 4, 2, "fw1", "sshd"), 1);
    assert_int_equal(pick("syslog-udp", "10.1.2.3", 10, 3, "fw1", "sshd"), 1);
    assert_int_equal(pick("syslog-tcp", "10.1.2.3", 4, 3, "fw1", "sshd"), 2);
    assert_int_equal(pick("syslog-tcp", "10.1.2.3", 4, 3, "xfw1", "sshd"), 3);
    assert_int_equal(pick("syslog-tcp", "10.1.2.3", -1, -1, "sw-core-1", "x"), 4);
    assert_int_equal(pick("syslog-udp", "2001:db8:7fff::1", -1, -1, NULL, NULL), 5);
    assert_int_equal(pick("syslog-udp", "2001:db8:8000::1", -1, -1, NULL, NULL), -1);
    assert_int_equal(pick("syslog-tcp", "192.0.2.1", -1, -1, NULL, NULL), 6);
    assert_int_equal(pick("syslog-tcp", "2001:db9::1", -1, -1, NULL, NULL), -1);
    assert_int_equal(pick("syslog-udp", "192.0.2.1", -1, -1, NULL, NULL), -1);
}

/* The same decision, read off the configuration. */
static bool text_holds(const char *want, const char *is)
{
    size_t n = strlen(want), m = is != NULL ? strlen(is) : 0;
    if (n == 0)
        return true;
    if (is == NULL)
        return false;
    if (n > 1 && want[n - 1] == '*')
        return strncmp(want, is, n - 1) == 0;
    if (want[0] == '*')
        return m >= n - 1 && strcmp(is + m - (n - 1), want + 1) == 0;
    return strcmp(want, is) == 0;
}
static int plain_pick(const char *listener, uint8_t last_byte, int facility, int severity,
                      const char *host)
{
    for (uint32_t i = 0; i < conf.rule_cnt; i++) {
        const struct conf_rule *r = &conf.rules[i];
        bool hit = r->listener[0] == '\0' || strcmp(r->listener, listener) == 0;
        uint32_t keep = r->source.prefix_len == 0 ? 0 : 0xffu << (32 - r->source.prefix_len);
        if (net_addr_is_v4(&r->source.ip))
            hit &= ((r->source.ip.ip[15] ^ last_byte) & keep & 0xff) == 0;
        hit &= r->facilities == 0 || (facility >= 0 && (r->facilities >> facility & 1));
        hit &= r->severities == 0 || (severity >= 0 && (r->severities >> severity & 1));
        if (hit && text_holds(r->host, host))
            return (int)i;
    }
    return -1;
}

static void sets_agree_with_a_plain_reading(void **state)
{
    (void)state;
    static const char *const hosts[] = {"", "a*", "ab", "*b", "b"};
    static const char *const is[] = {NULL, "a", "ab", "b", "abb"};
    srand(7);
    for (int round = 0; round < 200; round++) {
        memset(&conf, 0, sizeof(conf));
        conf.rule_cnt = 1 + (uint32_t)rand() % CONF_RULES_MAX;
        for (uint32_t i = 0; i < conf.rule_cnt; i++) {
            struct conf_rule *r = &conf.rules[i];
            if (rand() % 2)
                snprintf(r->listener, sizeof(r->listener), "l%d", rand() % 2);
            if (rand() % 2)
                r->source = (struct conf_addr){addr("10.0.0.0"), (uint8_t)(24 + rand() % 9)};
            if (r->source.prefix_len > 24)
                r->source.ip.ip[15] =
                    (uint8_t)(rand() & (0xff << (32 - r->source.prefix_len)) & 0xff);
            r->facilities = rand() % 2 ? (uint32_t)rand() & 0xffffff : 0;
            r->severities = rand() % 2 ? (uint32_t)rand() & 0xff : 0;
            snprintf(r->host, sizeof(r->host), "%s", hosts[rand() % 5]);
        }
        rules_compile(&rules, &conf);
        for (int e = 0; e < 50; e++) {
            char listener[8], source[32];
            uint8_t last = (uint8_t)rand();
            int facility = rand() % 25 - 1, severity = rand() % 9 - 1;
            const char *host = is[rand() % 5];
            snprintf(listener, sizeof(listener), "l%d", rand() % 2);
            snprintf(source, sizeof(source), "10.0.0.%u", last);
            assert_int_equal(pick(listener, source, facility, severity, host, NULL),
                             plain_pick(listener, last, facility, severity, host));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_condition_decides_and_the_first_match_wins),
        cmocka_unit_test(sets_agree_with_a_plain_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
