/* test_gelf_chunk.c - chunked messages: any order gives the message; what is wrong, late or too
 * much is named and counted to the chunk; memory comes back. */
#include "dataplane/ingest/gelf_chunk.h"
#include "lib/iface/net_addr.h"
#include "tests/support/test.h"

static struct gelf_chunks *g;
static uint32_t gone[DDROP_CNT];

static void on_gone(void *arg, uint16_t listener, uint32_t cnt, enum dgram_drop why)
{
    (void)arg;
    assert_int_equal(listener, 3);
    gone[why] += cnt;
}
static int setup(void **state)
{
    (void)state;
    memset(gone, 0, sizeof(gone));
    assert_ok(gelf_chunks_create(1 << 20, on_gone, NULL, &g));
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    gelf_chunks_drop_all(g, DDROP_stopping);
    assert_int_equal(gelf_chunks_bytes(g), 0);
    assert_true(gelf_chunks_deadline(g) == UINT64_MAX);
    gelf_chunks_destroy(g);
    return 0;
}

static struct net_addr peer(uint32_t i)
{
    return net_addr_v4((const uint8_t[]){10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, 1);
}
static struct span message;
static uint32_t message_cnt;
static enum dgram_drop why;

static enum gelf_took add_len(uint32_t source, uint64_t id, uint32_t no, uint32_t cnt,
                              const void *p, uint32_t len, uint64_t now_ns)
{
    static uint8_t buf[70000];
    struct net_addr a = peer(source);
    memcpy(buf, "\x1e\x0f", 2);
    memcpy(buf + 2, &id, 8);
    buf[10] = (uint8_t)no;
    buf[11] = (uint8_t)cnt;
    memcpy(buf + 12, p, len);
    enum gelf_took t =
        gelf_chunk_add(g, 3, &a, span_of(buf, 12 + len), now_ns, &message, &message_cnt, &why);
    return t;
}
static enum gelf_took add(uint32_t source, uint64_t id, uint32_t no, uint32_t cnt, const char *text)
{
    return add_len(source, id, no, cnt, text, (uint32_t)strlen(text), 1000);
}

static void chunks_in_any_order_make_the_message(void **state)
{
    (void)state;
    struct test_rng rng = {test_seed(21)};
    static uint8_t text[128 * 1500];
    for (uint32_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)rng_below(&rng, 256);
    for (int round = 0; round < 300; round++) {
        uint32_t cnt = 2 + (uint32_t)rng_below(&rng, 127), order[128];
        uint32_t size = 1 + (uint32_t)rng_below(&rng, 1000);
        for (uint32_t i = 0; i < cnt; i++) {
            uint32_t k = (uint32_t)rng_below(&rng, i + 1);
            order[i] = order[k];
            order[k] = i;
        }
        for (uint32_t i = 0; i < cnt; i++) {
            const uint8_t *p = text + order[i] * size;
            enum gelf_took t = add_len(1, (uint64_t)round, order[i], cnt, p, size, 5);
            assert_int_equal(t, i + 1 < cnt ? GELF_HELD : GELF_WHOLE);
        }
        assert_int_equal(message_cnt, cnt);
        assert_int_equal(message.len, cnt * size);
        assert_memory_equal(message.p, text, message.len);
        assert_int_equal(gelf_chunks_bytes(g), 0);
    }
}

static void messages_of_several_sources_and_ids_do_not_mix(void **state)
{
    (void)state;
    assert_int_equal(add(1, 7, 0, 2, "a1"), GELF_HELD);
    assert_int_equal(add(2, 7, 0, 2, "b1"), GELF_HELD);
    assert_int_equal(add(1, 8, 1, 2, "c2"), GELF_HELD);
    assert_int_equal(add(2, 7, 1, 2, "b2"), GELF_WHOLE);
    assert_memory_equal(message.p, "b1b2", 4);
    assert_int_equal(add(1, 8, 0, 2, "c1"), GELF_WHOLE);
    assert_memory_equal(message.p, "c1c2", 4);
    assert_int_equal(add(1, 7, 1, 2, ""), GELF_WHOLE); /* an empty payload is one */
    assert_int_equal(message.len, 2);
    assert_int_equal(add(1, 9, 0, 1, "alone"), GELF_WHOLE);
    assert_int_equal(message_cnt, 1);
}

static void what_is_wrong_is_named_and_the_message_lives_on(void **state)
{
    (void)state;
    struct net_addr a = peer(1);
    static const uint8_t short_one[11] = {0x1e, 0x0f};
    assert_int_equal(gelf_chunk_add(g, 3, &a, span_of(short_one, sizeof(short_one)), 1, &message,
                                    &message_cnt, &why),
                     GELF_DROPPED);
    assert_int_equal(why, DDROP_chunk_malformed);
    static const uint32_t bad[][2] = {{0, 0}, {0, 129}, {2, 2}, {255, 128}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(add(1, 1, bad[i][0], bad[i][1], "x"), GELF_DROPPED);
        assert_int_equal(why, DDROP_chunk_malformed);
    }
    assert_int_equal(add(1, 1, 0, 3, "a"), GELF_HELD);
    assert_int_equal(add(1, 1, 0, 3, "z"), GELF_DROPPED);
    assert_int_equal(why, DDROP_chunk_duplicate);
    assert_int_equal(add(1, 1, 1, 2, "z"), GELF_DROPPED);
    assert_int_equal(why, DDROP_chunk_malformed);
    assert_int_equal(add(1, 1, 2, 3, "c"), GELF_HELD);
    assert_int_equal(add(1, 1, 1, 3, "b"), GELF_WHOLE);
    assert_memory_equal(message.p, "abc", 3);
}

static void after_five_seconds_a_message_is_gone(void **state)
{
    (void)state;
    assert_int_equal(add_len(1, 1, 0, 3, "a", 1, 1000), GELF_HELD);
    assert_int_equal(add_len(1, 2, 0, 3, "a", 1, 2000), GELF_HELD);
    assert_int_equal(add_len(1, 1, 1, 3, "b", 1, 3000), GELF_HELD);
    assert_true(gelf_chunks_deadline(g) == 1000 + GELF_TIMEOUT_NS);
    assert_int_equal(gelf_chunks_expire(g, 999 + GELF_TIMEOUT_NS), 0);
    assert_int_equal(gelf_chunks_expire(g, 1000 + GELF_TIMEOUT_NS), 1);
    assert_int_equal(gone[DDROP_reassembly_timeout], 2);
    assert_true(gelf_chunks_deadline(g) == 2000 + GELF_TIMEOUT_NS);
    assert_int_equal(gelf_chunks_expire(g, 2000 + GELF_TIMEOUT_NS), 1);
    assert_int_equal(gone[DDROP_reassembly_timeout], 3);
    assert_int_equal(gelf_chunks_bytes(g), 0);
}

static void a_source_at_its_share_loses_its_own_oldest(void **state)
{
    (void)state;
    static uint8_t p[1024];
    assert_int_equal(add(2, 1, 0, 2, "other"), GELF_HELD);
    for (uint32_t i = 0; i < GELF_MESSAGES_MAX / 8; i++)
        assert_int_equal(add(1, i, 0, 2, "x"), GELF_HELD);
    assert_int_equal(add(1, 9999, 0, 2, "x"), GELF_HELD);
    assert_int_equal(gone[DDROP_reassembly_limit], 1);
    assert_int_equal(add(1, 1, 1, 2, "y"), GELF_WHOLE); /* 0 went, not 1 */
    assert_int_equal(add(1, 0, 1, 2, "y"), GELF_HELD);
    gelf_chunks_drop_all(g, DDROP_stopping);
    memset(gone, 0, sizeof(gone));
    assert_int_equal(add(2, 1, 0, 2, "other"), GELF_HELD);
    for (uint32_t i = 0; i < 1000; i++) /* 1 MiB: a share is 128 KiB */
        assert_int_equal(add_len(1, i, 0, 2, p, sizeof(p), 5), GELF_HELD);
    assert_int_equal(gelf_chunks_bytes(g), 128 * 1024 + 512);
    assert_int_equal(gone[DDROP_reassembly_limit], 1000 - 128);
    assert_int_equal(add(2, 1, 1, 2, "!"), GELF_WHOLE);
    assert_memory_equal(message.p, "other!", 6);
}

static void full_memory_refuses_and_a_message_too_long_goes(void **state)
{
    (void)state;
    static uint8_t p[65000];
    uint32_t held = 0, dropped = 0;
    for (uint32_t s = 1; s <= 40; s++) {
        if (add_len(s, 1, 0, 3, p, sizeof(p), 5) == GELF_HELD)
            held++;
        else
            dropped++;
    }
    assert_int_equal(held, (1 << 20) / 512 / 127);
    assert_int_equal(dropped, 40 - held);
    assert_int_equal(why, DDROP_reassembly_limit);
    assert_int_equal(gone[DDROP_reassembly_limit], 0); /* a source never costs another one's */
    gelf_chunks_drop_all(g, DDROP_stopping);
    assert_int_equal(add_len(1, 1, 0, 9, p, sizeof(p), 5), GELF_HELD);
    assert_int_equal(add_len(1, 1, 1, 9, p, sizeof(p), 5), GELF_HELD);
    assert_int_equal(add_len(1, 1, 2, 9, p, sizeof(p), 5), GELF_DROPPED); /* beyond the share */
    assert_int_equal(why, DDROP_reassembly_limit);
    assert_int_equal(gone[DDROP_reassembly_limit], 2);
    assert_int_equal(gelf_chunks_bytes(g), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(chunks_in_any_order_make_the_message),
        T(messages_of_several_sources_and_ids_do_not_mix),
        T(what_is_wrong_is_named_and_the_message_lives_on),
        T(after_five_seconds_a_message_is_gone),
        T(a_source_at_its_share_loses_its_own_oldest),
        T(full_memory_refuses_and_a_message_too_long_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
