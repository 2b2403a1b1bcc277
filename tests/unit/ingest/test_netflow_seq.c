/* test_netflow_seq.c - what exporters sent and never came, counted per exporter and domain. */
#include "dataplane/ingest/netflow_seq.h"
#include "lib/iface/net_addr.h"
#include "tests/support/test.h"

static struct netflow_seq *q;
static uint32_t gaps, lost, restarts;

static int setup(void **state)
{
    (void)state;
    gaps = lost = restarts = 0;
    assert_ok(netflow_seq_create(&q));
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    netflow_seq_destroy(q);
    return 0;
}

static void note(uint32_t source, const uint8_t *p, uint32_t len)
{
    struct net_addr a = net_addr_v4(
        (const uint8_t[]){10, (uint8_t)(source >> 16), (uint8_t)(source >> 8), (uint8_t)source}, 9);
    uint8_t *exact = malloc(len); /* a byte too many is seen by the sanitizer */
    memcpy(exact, p, len);
    struct netflow_seen s = netflow_seq_note(q, 1, &a, span_of(exact, len));
    free(exact);
    gaps += s.gaps;
    lost += s.lost;
    restarts += s.restarts;
}
static void expect(uint32_t want_gaps, uint32_t want_lost, uint32_t want_restarts)
{
    assert_int_equal(gaps, want_gaps);
    assert_int_equal(lost, want_lost);
    assert_int_equal(restarts, want_restarts);
}
static void v5(uint32_t source, uint32_t seq, uint16_t flows, uint16_t engine)
{
    uint8_t p[24 + 30 * 48] = {0, 5};
    store_be16(p + 2, flows);
    store_be32(p + 16, seq);
    store_be16(p + 20, engine);
    note(source, p, 24u + flows * 48u);
}
static void v9(uint32_t source, uint32_t seq, uint32_t domain)
{
    uint8_t p[20] = {0, 9};
    store_be32(p + 12, seq);
    store_be32(p + 16, domain);
    note(source, p, sizeof(p));
}

static void v5_counts_flows_and_v9_packets(void **state)
{
    (void)state;
    v5(1, 1000, 30, 0);
    v5(1, 1030, 2, 0);
    v5(1, 1032, 1, 0);
    expect(0, 0, 0);
    v5(1, 1043, 5, 0); /* ten flows never came */
    v5(1, 1048, 5, 0);
    expect(1, 10, 0);
    v5(1, 77, 5, 1); /* another engine, another exporter, another version: on their own */
    v5(2, 88, 5, 0);
    v9(1, 99, 0);
    v9(1, 100, 0);
    expect(1, 10, 0);
    v9(1, 104, 0);
    expect(2, 13, 0);
}

static void wrap_lateness_and_restart_are_told_apart(void **state)
{
    (void)state;
    v9(1, UINT32_MAX - 1, 0);
    v9(1, UINT32_MAX, 0);
    v9(1, 0, 0);
    v9(1, 1, 0);
    expect(0, 0, 0);
    v9(1, 3, 0); /* 2 comes late */
    v9(1, 2, 0);
    v9(1, 4, 0);
    v9(1, 4, 0); /* twice */
    v9(1, 5, 0);
    expect(1, 1, 0);
    v9(1, 500000, 0);
    expect(2, 1 + 500000 - 6, 0);
    v9(1, 1, 0);
    v9(1, 2, 0);
    expect(2, 1 + 500000 - 6, 1);
    v9(1, UINT32_C(3000000000), 0); /* nobody loses that many: it counts anew */
    v9(1, 1, 0);
    v9(1, 2, 0);
    expect(2, 1 + 500000 - 6, 3);
}

/* IPFIX: template 256 of two fields of 4 and one of variable length, then data. */
static uint8_t msg[2000];
static uint32_t msg_len;
static void ipfix_begin(uint32_t seq, uint32_t domain)
{
    memset(msg, 0, sizeof(msg));
    store_be16(msg, 10);
    store_be32(msg + 8, seq);
    store_be32(msg + 12, domain);
    msg_len = 16;
}
static void ipfix_set(uint16_t id, const void *p, uint32_t len)
{
    store_be16(msg + msg_len, id);
    store_be16(msg + msg_len + 2, (uint16_t)(4 + len));
    memcpy(msg + msg_len + 4, p, len);
    msg_len += 4 + len;
}
static void ipfix_send(uint32_t source)
{
    store_be16(msg + 2, (uint16_t)msg_len);
    note(source, msg, msg_len);
}
static const uint8_t template_256[] = {1,    0,  0,   3,                /* id, fields */
                                       0,    8,  0,   4,                /* 4 bytes */
                                       0x80, 1,  255, 255, 0, 0, 0, 99, /* variable, enterprise */
                                       0,    12, 0,   4};
static const uint8_t records_3[] = {1, 1, 1, 1, 2,   'a', 'b', 2,   2, 2, 2,    /* length 2 */
                                    3, 3, 3, 3, 0,   4,   4,   4,   4,          /* length 0 */
                                    5, 5, 5, 5, 255, 0,   1,   'x', 6, 6, 6, 6, /* long form */
                                    0, 0, 0};                                   /* padding */

static void ipfix_counts_records_by_their_templates(void **state)
{
    (void)state;
    ipfix_begin(10, 1); /* no template yet: nothing is known about what follows */
    ipfix_set(256, records_3, sizeof(records_3));
    ipfix_send(1);
    ipfix_begin(500, 1);
    ipfix_set(2, template_256, sizeof(template_256));
    ipfix_set(256, records_3, sizeof(records_3));
    ipfix_send(1);
    expect(0, 0, 0);
    ipfix_begin(503, 1);
    ipfix_set(256, records_3, sizeof(records_3));
    ipfix_set(256, records_3, sizeof(records_3));
    ipfix_send(1);
    ipfix_begin(509, 1);
    ipfix_send(1); /* nothing but a header: no records */
    expect(0, 0, 0);
    ipfix_begin(512, 1);
    ipfix_set(256, records_3, sizeof(records_3));
    ipfix_send(1);
    expect(1, 3, 0);
    ipfix_begin(515, 1);
    ipfix_set(300, records_3, sizeof(records_3)); /* another template that never came */
    ipfix_send(1);
    ipfix_begin(900, 1);
    ipfix_send(1);
    expect(1, 3, 0);
}

static void broken_templates_and_sets_change_nothing_else(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(31)};
    for (int i = 0; i < 20000; i++) {
        uint8_t t[64];
        uint32_t n = (uint32_t)rng_below(&rng, sizeof(t));
        for (uint32_t k = 0; k < n; k++)
            t[k] = (uint8_t)(rng_below(&rng, 3) ? rng_below(&rng, 4) : rng_below(&rng, 256));
        ipfix_begin((uint32_t)i, 5);
        ipfix_set((uint16_t)(2 + rng_below(&rng, 2)), t, n);
        ipfix_set((uint16_t)(256 + rng_below(&rng, 4)), t, n);
        ipfix_send(1);
    }
    v9(1, 1, 0);
    v9(1, 3, 0);
    assert_true(lost > 0);
}

static void the_table_is_bounded_and_who_is_heard_stays(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 20 * NETFLOW_DOMAINS_MAX; i++) {
        v9(1, i, 7);
        v9(2 + i, 1, 0);
    }
    expect(0, 0, 0);
    v9(1, 20 * NETFLOW_DOMAINS_MAX + 5, 7);
    expect(1, 5, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(v5_counts_flows_and_v9_packets),
        T(wrap_lateness_and_restart_are_told_apart),
        T(ipfix_counts_records_by_their_templates),
        T(broken_templates_and_sets_change_nothing_else),
        T(the_table_is_bounded_and_who_is_heard_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
