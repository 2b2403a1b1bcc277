/* fuzz_packet.c - the packet parser, its answers and reassembly on foreign bytes.
 *
 * Each input is a frame. Since random bytes rarely carry right checksums, it is parsed as it is and
 * as from a device that vouches for them; fragments go on into reassembly. */
#include "dataplane/net/ip_reasm.h"
#include "lib/base/assert.h"
#include "tests/unit/dataplane/net/frames.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

static struct pkt_host *host_get(void)
{
    static struct pkt_host *h;
    if (h == NULL) {
        struct conf *c = frames_conf();
        char err[256];
        h = malloc(sizeof(*h));
        if (h == NULL || pkt_host_init(h, c, 0, our_mac, err, sizeof(err)) < 0)
            abort();
        free(c);
    }
    return h;
}

static volatile uint8_t sink;

static void read_all(struct span s)
{
    for (uint32_t i = 0; i < s.len; i++)
        sink = s.p[i];
}

/* Whatever the view points at is read, for the sanitizers, and lies inside `within`. */
static void view_check(const struct pkt *p, struct span within)
{
    if (p->kind == PKT_DROP) {
        ASSERT(p->why < PDROP_CNT);
        return;
    }
    ASSERT(p->kind < PKT_DROP);
    if (p->kind == PKT_UDP) {
        ASSERT(p->listener < 4);
        ASSERT(p->payload.p >= within.p);
        ASSERT(p->payload.p + p->payload.len <= within.p + within.len);
        read_all(p->payload);
    }
    if (p->kind == PKT_REPLY) {
        static uint8_t out[2048];
        uint32_t n = pkt_reply(host_get(), p, out, sizeof(out));
        ASSERT(n <= (uint32_t)ETH_LEN + host_get()->mtu);
        read_all(span_of(out, n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct ip_reasm *re;
    static int64_t now;
    static uint32_t held;
    if (len > 65600)
        return 0;
    if (re == NULL && ip_reasm_create(&re) < 0)
        abort();
    for (uint32_t flags = 0; flags <= (PKT_IP_CHECKSUM_OK | PKT_L4_CHECKSUM_OK); flags++) {
        struct pkt p;
        memset(&p, 0xa5, sizeof(p));
        pkt_parse(host_get(), data, (uint32_t)len, flags, 0, &p);
        view_check(&p, span_of(data, (uint32_t)len));
        /* what the kernel may have is never what a listener gets */
        ASSERT(!pkt_is_for_host(host_get(), &p) || (p.kind != PKT_UDP && p.kind != PKT_REPLY));
        if (p.kind != PKT_FRAGMENT)
            continue;
        struct ip_reasm_result res = ip_reasm_add(re, &p, now += 10);
        /* every frame is held, dropped or gone with its datagram */
        ASSERT(held + 1 == ip_reasm_held(re) + res.dropped_cnt + res.frame_cnt);
        held = ip_reasm_held(re);
        if (res.is_whole) {
            pkt_parse_whole(host_get(), &p, res.l4);
            view_check(&p, res.l4);
        }
        held -= ip_reasm_expire(re, now);
        ip_reasm_turn_end(re);
    }
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    struct frame f[4], whole;
    uint8_t data[200] = {'<', '1', '3', '>'};
    switch (i) {
    case 0:
        f[0] = frame_udp4(7, 4000, 514, data, 20);
        break;
    case 1:
        f[0] = frame_udp6(4000, 514, data, 20);
        break;
    case 2:
        f[0] = frame_arp(ARP_REQUEST, our_ip4);
        break;
    case 3:
        f[0] = frame_echo4(data, 56);
        break;
    case 4:
        f[0] = frame_ns(our_ip6);
        break;
    case 5:
    case 6:
    case 7:
        whole = frame_udp4(7, 4000, 514, data, 200);
        (void)frame_split4(&whole, 5, 80, f, 3);
        f[0] = f[i - 5];
        break;
    case 8: {
        uint8_t l4[8 + 16] = {PROTO_UDP, 0, 0, 1};
        f[0] = frame_ip6(PROTO_FRAGMENT, l4, sizeof(l4));
        break;
    }
    default:
        return 0;
    }
    if (f[0].len > cap)
        return 0;
    memcpy(buf, f[0].b, f[0].len);
    return f[0].len;
}
