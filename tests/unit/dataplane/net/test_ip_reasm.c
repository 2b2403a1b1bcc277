/* test_ip_reasm.c - reassembly against a simple truth: what was cut comes back, or is counted. */
#include "dataplane/net/ip_reasm.c"
#include "tests/support/test.h"

static uint8_t ip_header[40] = {0x45};

static struct pkt fragment(uint32_t id, uint32_t pos, const uint8_t *bytes, uint32_t len, bool more)
{
    struct pkt p = {.kind = PKT_FRAGMENT,
                    .proto = 17,
                    .frag_more = more,
                    .frag_pos = (uint16_t)pos,
                    .frag_id = id,
                    .ip = ip_header,
                    .l4 = span_of(bytes, len)};
    p.src.ip[15] = 9;
    return p;
}

static void whatever_the_order_the_datagram_comes_back(void **state)
{
    struct test_rng r = {test_seed(11)};
    static uint8_t data[REASM_LEN_MAX];
    struct ip_reasm *re = NULL;
    assert_ok(ip_reasm_create(&re));
    rng_fill(&r, data, sizeof(data));
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t len = round == 0 ? REASM_LEN_MAX : 9 + (uint32_t)rng_below(&r, 9000), cnt = 0;
        struct pkt p[REASM_LEN_MAX / 8 + 1];
        uint32_t step_max = round == 0 ? 1480 : 8 + 8 * (uint32_t)rng_below(&r, 180);
        for (uint32_t pos = 0; pos < len;) {
            uint32_t step = 8 + 8 * (uint32_t)rng_below(&r, step_max / 8);
            if (step > len - pos)
                step = len - pos;
            p[cnt++] = fragment(round, pos, data + pos, step, pos + step < len);
            pos += step;
        }
        for (uint32_t i = cnt; i > 1; i--) { /* shuffle */
            uint32_t j = (uint32_t)rng_below(&r, i);
            struct pkt t = p[i - 1];
            p[i - 1] = p[j];
            p[j] = t;
        }
        for (uint32_t i = 0; i < cnt; i++) {
            struct ip_reasm_result res = ip_reasm_add(re, &p[i], 0);
            assert_int_equal(res.dropped_cnt, 0);
            assert_int_equal(res.is_whole, i == cnt - 1);
            if (i < cnt - 1) {
                assert_int_equal(ip_reasm_held(re), i + 1);
                if (i % 3 == 0) { /* a repetition is one dropped frame, no more */
                    res = ip_reasm_add(re, &p[i], 0);
                    if (p[i].l4.len % 8 == 0 || !p[i].frag_more)
                        assert_int_equal(res.dropped_cnt, 1);
                    assert_int_equal(ip_reasm_held(re), i + 1);
                }
                continue;
            }
            assert_int_equal(res.frame_cnt, cnt);
            assert_int_equal(res.l4.len, len);
            assert_memory_equal(res.l4.p, data, len);
        }
        assert_int_equal(ip_reasm_held(re), 0);
        ip_reasm_turn_end(re);
        assert_int_equal(re->busy, 0);
    }
    ip_reasm_destroy(re);
}

static void contradictions_end_the_datagram_with_all_its_frames(void **state)
{
    static uint8_t data[REASM_LEN_MAX];
    struct ip_reasm *re = NULL;
    assert_ok(ip_reasm_create(&re));
    struct pkt first = fragment(1, 0, data, 64, true);
    const struct pkt bad[] = {
        fragment(1, 56, data, 16, true),    /* overlap */
        fragment(1, 64, data, 13, true),    /* 13 bytes, and more to come */
        fragment(1, 64, data, 0, true),     /* nothing */
        fragment(1, 8, data, 8, false),     /* ends before what is here */
        fragment(1, 65528, data, 16, true), /* past 65535 */
    };
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(ip_reasm_add(re, &first, 0).dropped_cnt, 0);
        assert_int_equal(ip_reasm_add(re, &bad[i], 0).dropped_cnt, 2);
        assert_int_equal(ip_reasm_held(re), 0);
        assert_int_equal(re->busy, 0);
    }
    struct pkt last = fragment(1, 128, data, 5, false), past = fragment(1, 136, data, 8, true);
    (void)ip_reasm_add(re, &last, 0);
    assert_int_equal(ip_reasm_add(re, &past, 0).dropped_cnt, 2);
    ip_reasm_destroy(re);
}

static void a_full_table_gives_up_the_oldest(void **state)
{
    static uint8_t data[8];
    struct ip_reasm *re = NULL;
    assert_ok(ip_reasm_create(&re));
    for (uint32_t i = 0; i < REASM_MAX; i++) {
        struct pkt p = fragment(i, 0, data, 8, true);
        assert_int_equal(ip_reasm_add(re, &p, 1000 + i).dropped_cnt, 0);
    }
    struct pkt more = fragment(REASM_MAX, 0, data, 8, true);
    assert_int_equal(ip_reasm_add(re, &more, 3000).dropped_cnt, 1);
    assert_int_equal(ip_reasm_held(re), REASM_MAX);
    struct pkt end0 = fragment(0, 8, data, 8, false), end1 = fragment(2, 8, data, 8, false);
    assert_false(ip_reasm_add(re, &end0, 3000).is_whole); /* its beginning was given up */
    assert_true(ip_reasm_add(re, &end1, 3000).is_whole);
    ip_reasm_turn_end(re);
    assert_int_equal(ip_reasm_clear(re), REASM_MAX - 1);
    assert_int_equal(ip_reasm_held(re), 0);
    /* every slot whole and read in this very turn: the next fragment is dropped */
    for (uint32_t i = 0; i < REASM_MAX; i++) {
        struct pkt a = fragment(i, 0, data, 8, true), b = fragment(i, 8, data, 8, false);
        (void)ip_reasm_add(re, &a, 0);
        assert_true(ip_reasm_add(re, &b, 0).is_whole);
    }
    assert_int_equal(ip_reasm_add(re, &more, 0).dropped_cnt, 1);
    ip_reasm_turn_end(re);
    assert_int_equal(ip_reasm_add(re, &more, 0).dropped_cnt, 0);
    ip_reasm_destroy(re);
}

static void others_do_not_come_in_time(void **state)
{
    static uint8_t data[8];
    struct ip_reasm *re = NULL;
    assert_ok(ip_reasm_create(&re));
    struct pkt a = fragment(1, 0, data, 8, true), b = fragment(2, 0, data, 8, true);
    (void)ip_reasm_add(re, &a, 0);
    (void)ip_reasm_add(re, &b, 1000);
    assert_int_equal(ip_reasm_expire(re, REASM_TIMEOUT_MS - 1), 0);
    assert_int_equal(ip_reasm_expire(re, REASM_TIMEOUT_MS), 1);
    assert_int_equal(ip_reasm_held(re), 1);
    assert_int_equal(ip_reasm_expire(re, REASM_TIMEOUT_MS + 1000), 1);
    assert_int_equal(ip_reasm_held(re), 0);
    ip_reasm_destroy(re);
}

static void datagrams_of_different_sources_do_not_mix(void **state)
{
    static uint8_t data[16];
    struct ip_reasm *re = NULL;
    assert_ok(ip_reasm_create(&re));
    struct pkt a = fragment(1, 0, data, 8, true), b = fragment(1, 8, data, 8, false);
    b.src.ip[15]++;
    (void)ip_reasm_add(re, &a, 0);
    assert_false(ip_reasm_add(re, &b, 0).is_whole);
    b = fragment(1, 8, data, 8, false);
    b.proto++;
    assert_false(ip_reasm_add(re, &b, 0).is_whole);
    b = fragment(1, 8, data, 8, false);
    assert_true(ip_reasm_add(re, &b, 0).is_whole);
    ip_reasm_destroy(re);
}

TEST_MAIN(TEST(whatever_the_order_the_datagram_comes_back),
          TEST(contradictions_end_the_datagram_with_all_its_frames),
          TEST(a_full_table_gives_up_the_oldest), TEST(others_do_not_come_in_time),
          TEST(datagrams_of_different_sources_do_not_mix))
