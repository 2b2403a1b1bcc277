/* test_sock_open.c - the kernel's filter and source_shard() are one function: the filter is run
 * here over made-up IP headers of both families. (test_sock_dgram runs it in the kernel.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dataplane/net/sock_open.c"
#include <stdlib.h>

#define SHARD_CNT_TEST 16

/* Classic BPF, as far as the filter uses it; loads are relative to SKF_NET_OFF. */
static uint32_t bpf_run(const struct sock_filter *f, uint32_t len, const uint8_t *ip)
{
    uint32_t a = 0, x = 0;
    for (uint32_t pc = 0; pc < len; pc++) {
        uint32_t k = f[pc].k, at = k - (uint32_t)SKF_NET_OFF;
        switch (f[pc].code) {
        case BPF_LD | BPF_B | BPF_ABS:
            a = ip[at];
            break;
        case BPF_LD | BPF_W | BPF_ABS:
            a = load_be32(ip + at);
            break;
        case BPF_ALU | BPF_RSH | BPF_K:
            a >>= k;
            break;
        case BPF_ALU | BPF_XOR | BPF_K:
            a ^= k;
            break;
        case BPF_ALU | BPF_XOR | BPF_X:
            a ^= x;
            break;
        case BPF_ALU | BPF_MUL | BPF_K:
            a *= k;
            break;
        case BPF_ALU | BPF_MOD | BPF_K:
            a %= k;
            break;
        case BPF_MISC | BPF_TAX:
            x = a;
            break;
        case BPF_JMP | BPF_JA:
            pc += k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == k ? f[pc].jt : f[pc].jf;
            break;
        case BPF_RET | BPF_A:
            return a;
        default:
            fail_msg("instruction %u: %#x", pc, f[pc].code);
        }
    }
    fail_msg("fell off the end");
    return 0;
}

static void the_filter_agrees_with_source_shard(void **state)
{
    struct sock_filter f[SOCK_STEER_LEN];
    uint32_t used[SHARD_CNT_TEST] = {0};
    srand(1);
    for (uint16_t cnt = 2; cnt <= SHARD_CNT_TEST; cnt++) {
        sock_steer_program(cnt, f);
        for (int i = 0; i < 2000; i++) {
            uint8_t ip[40] = {0};
            struct net_addr a = {.port = (uint16_t)rand()};
            for (int k = 0; k < 16; k++)
                a.ip[k] = (uint8_t)(rand() >> 4);
            if (i % 2 == 0) {
                a = net_addr_v4(a.ip, a.port);
                ip[0] = 0x45;
                memcpy(ip + 12, a.ip + 12, 4);
            } else {
                ip[0] = 0x60;
                memcpy(ip + 8, a.ip, 16);
            }
            uint32_t got = bpf_run(f, SOCK_STEER_LEN, ip);
            assert_int_equal(got, source_shard(&a, cnt));
            used[got]++;
        }
    }
    for (uint32_t i = 0; i < SHARD_CNT_TEST; i++)
        assert_true(used[i] > 50); /* and it spreads */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_filter_agrees_with_source_shard)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
