/* frames.h - hand-made frames for tests of the packet parser and the ports, with right checksums
 * unless a test spoils them. */
#pragma once
#include "dataplane/net/ip.h"
#include "dataplane/net/pkt.h"
#include "lib/iface/net_addr.h"

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t our_ip4[4] = {192, 0, 2, 10};
static const uint8_t our_ip6[16] = {0x20, 0x01, 0x0d, 0xb8, [13] = 0xaa, 0xbb, 0xcc};
static const uint8_t peer_ip6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x99};

struct frame {
    uint8_t b[2048];
    uint32_t len;
};

__attribute__((unused)) static struct frame frame_eth(uint16_t type)
{
    struct frame f = {.len = ETH_LEN};
    memcpy(f.b, our_mac, 6);
    memcpy(f.b + 6, peer_mac, 6);
    store_be16(f.b + ETH_TYPE, type);
    return f;
}

static void frame_put(struct frame *f, const void *p, uint32_t len)
{
    memcpy(f->b + f->len, p, len);
    f->len += len;
}

/* Header checksum of the IPv4 header behind an untagged Ethernet header. */
static void frame_ip4_fix(struct frame *f)
{
    uint8_t *ip = f->b + ETH_LEN;
    uint32_t head = (ip[0] & 15u) * 4;
    memset(ip + IP4_CHECKSUM, 0, 2);
    uint16_t sum = ip_checksum(ip_sum(ip, head));
    memcpy(ip + IP4_CHECKSUM, &sum, 2);
}

/* From 198.51.100.<host> to us. */
__attribute__((unused)) static struct frame frame_ip4(uint8_t host, uint8_t proto, const void *l4,
                                                      uint32_t len)
{
    struct frame f = frame_eth(ETHERTYPE_IP4);
    uint8_t ip[IP4_LEN] = {0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0, 198, 51, 100, host};
    memcpy(ip + IP4_DST, our_ip4, 4);
    store_be16(ip + IP4_TOTAL_LEN, (uint16_t)(IP4_LEN + len));
    frame_put(&f, ip, IP4_LEN);
    frame_put(&f, l4, len);
    frame_ip4_fix(&f);
    return f;
}

__attribute__((unused)) static struct frame frame_ip6(uint8_t proto, const void *l4, uint32_t len)
{
    struct frame f = frame_eth(ETHERTYPE_IP6);
    uint8_t ip[IP6_LEN] = {0x60, [IP6_NEXT] = proto, [IP6_HOP_LIMIT] = 255};
    store_be16(ip + IP6_PAYLOAD_LEN, (uint16_t)len);
    memcpy(ip + IP6_SRC, peer_ip6, 16);
    memcpy(ip + IP6_DST, our_ip6, 16);
    frame_put(&f, ip, IP6_LEN);
    frame_put(&f, l4, len);
    return f;
}

/* A UDP segment with its checksum over the given addresses (4 or 16 bytes each, source first). */
static uint32_t udp_put(uint8_t *out, const uint8_t *addrs, uint32_t addrs_len, uint16_t sport,
                        uint16_t dport, const void *data, uint32_t len)
{
    store_be16(out + UDP_SRC_PORT, sport);
    store_be16(out + UDP_DST_PORT, dport);
    store_be16(out + UDP_LENGTH, (uint16_t)(UDP_LEN + len));
    store_be16(out + UDP_CHECKSUM, 0);
    memcpy(out + UDP_LEN, data, len);
    uint16_t sum = ip_checksum(ip_pseudo_sum(addrs, addrs_len, PROTO_UDP, UDP_LEN + len) +
                               ip_sum(out, UDP_LEN + len));
    sum = sum == 0 ? 0xffff : sum;
    memcpy(out + UDP_CHECKSUM, &sum, 2);
    return UDP_LEN + len;
}

__attribute__((unused)) static struct frame frame_udp4(uint8_t host, uint16_t sport, uint16_t dport,
                                                       const void *data, uint32_t len)
{
    uint8_t addrs[8] = {198, 51, 100, host}, l4[1800];
    memcpy(addrs + 4, our_ip4, 4);
    return frame_ip4(host, PROTO_UDP, l4, udp_put(l4, addrs, 8, sport, dport, data, len));
}

__attribute__((unused)) static struct frame frame_udp6(uint16_t sport, uint16_t dport,
                                                       const void *data, uint32_t len)
{
    uint8_t addrs[32], l4[1800];
    memcpy(addrs, peer_ip6, 16);
    memcpy(addrs + 16, our_ip6, 16);
    return frame_ip6(PROTO_UDP, l4, udp_put(l4, addrs, 32, sport, dport, data, len));
}

__attribute__((unused)) static struct frame frame_arp(uint16_t op, const uint8_t target[4])
{
    struct frame f = frame_eth(ETHERTYPE_ARP);
    uint8_t arp[ARP_LEN] = {0, 1, 8, 0, 6, 4};
    store_be16(arp + ARP_OP, op);
    memcpy(arp + ARP_SHA, peer_mac, 6);
    memcpy(arp + ARP_SPA, (uint8_t[]){198, 51, 100, 7}, 4);
    memcpy(arp + ARP_TPA, target, 4);
    memset(f.b, 0xff, 6);
    frame_put(&f, arp, ARP_LEN);
    return f;
}

__attribute__((unused)) static struct frame frame_echo4(const void *data, uint32_t len)
{
    uint8_t l4[1600] = {ICMP_ECHO, 0, 0, 0, 0x12, 0x34, 0, 1};
    memcpy(l4 + ICMP_LEN, data, len);
    uint16_t sum = ip_checksum(ip_sum(l4, ICMP_LEN + len));
    memcpy(l4 + ICMP_CHECKSUM, &sum, 2);
    return frame_ip4(7, PROTO_ICMP, l4, ICMP_LEN + len);
}

/* Fix an ICMPv6 checksum behind an untagged IPv6 header without extensions. */
__attribute__((unused)) static void frame_icmp6_fix(struct frame *f)
{
    uint8_t *ip = f->b + ETH_LEN, *l4 = ip + IP6_LEN;
    uint32_t len = load_be16(ip + IP6_PAYLOAD_LEN);
    memset(l4 + ICMP_CHECKSUM, 0, 2);
    uint16_t sum = ip_checksum(ip_pseudo_sum(ip + IP6_SRC, 32, PROTO_ICMP6, len) + ip_sum(l4, len));
    memcpy(l4 + ICMP_CHECKSUM, &sum, 2);
}

__attribute__((unused)) static struct frame frame_ns(const uint8_t target[16])
{
    uint8_t l4[ND_LEN + 8] = {ICMP6_NEIGHBOUR_SOLICITATION};
    memcpy(l4 + ND_TARGET, target, 16);
    l4[ND_LEN] = 1;
    l4[ND_LEN + 1] = 1;
    memcpy(l4 + ND_LEN + 2, peer_mac, 6);
    struct frame f = frame_ip6(PROTO_ICMP6, l4, sizeof(l4));
    static const uint8_t group[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};
    memcpy(f.b + ETH_LEN + IP6_DST, group, 13);
    memcpy(f.b + ETH_LEN + IP6_DST + 13, target + 13, 3);
    memcpy(f.b, (uint8_t[]){0x33, 0x33, 0xff}, 3);
    memcpy(f.b + 3, target + 13, 3);
    frame_icmp6_fix(&f);
    return f;
}

/* Cut an IPv4 frame into fragments of `step` bytes (a multiple of 8); their number. */
__attribute__((unused)) static uint32_t frame_split4(const struct frame *whole, uint16_t id,
                                                     uint32_t step, struct frame *out, uint32_t cap)
{
    uint32_t head = ETH_LEN + IP4_LEN, len = whole->len - head, n = 0;
    for (uint32_t pos = 0; pos < len && n < cap; pos += step, n++) {
        uint32_t part = len - pos < step ? len - pos : step;
        out[n].len = 0;
        frame_put(&out[n], whole->b, head);
        frame_put(&out[n], whole->b + head + pos, part);
        uint8_t *ip = out[n].b + ETH_LEN;
        store_be16(ip + IP4_TOTAL_LEN, (uint16_t)(IP4_LEN + part));
        store_be16(ip + IP4_ID, id);
        store_be16(ip + IP4_FRAG,
                   (uint16_t)(pos / 8 | (pos + part < len ? IP4_MORE_FRAGMENTS : 0)));
        frame_ip4_fix(&out[n]);
    }
    return n;
}

/* Port 0 with our addresses. Listeners: 0 on 192.0.2.10:514, 1 on *:514 (so: IPv6 only in effect),
 * 2 on 0.0.0.0:515, 3 on [2001:db8::aabbcc]:516, 4 a kernel socket on 517. */
__attribute__((unused)) static struct conf *frames_conf(void)
{
    struct conf *c = calloc(1, sizeof(*c));
    static const struct {
        const char *bind, *port;
    } ls[] = {{"192.0.2.10:514", "p"},
              {"*:514", "p"},
              {"0.0.0.0:515", "p"},
              {"[2001:db8::aa:bbcc]:516", "p"},
              {"127.0.0.1:517", ""}};
    if (c == NULL)
        abort();
    c->port_cnt = 1;
    strcpy(c->ports[0].name, "p");
    c->ports[0].mtu = 1500;
    c->ports[0].rx_desc = 64;
    c->ports[0].tx_desc = 64;
    c->ports[0].addr_cnt = 2;
    c->ports[0].addrs[0].ip = net_addr_v4(our_ip4, 0);
    memcpy(c->ports[0].addrs[1].ip.ip, our_ip6, 16);
    c->mbufs = 2048;
    c->listener_cnt = 5;
    for (int i = 0; i < 5; i++) {
        snprintf(c->listeners[i].name, sizeof(c->listeners[i].name), "l%d", i);
        strcpy(c->listeners[i].port_name, ls[i].port);
        if (net_addr_parse(ls[i].bind, (uint32_t)strlen(ls[i].bind), &c->listeners[i].bind) < 0)
            abort();
    }
    return c;
}
