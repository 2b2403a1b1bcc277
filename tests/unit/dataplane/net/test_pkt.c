/* test_pkt.c - the packet parser: every drop reason, every answer, hand-made frames. */
#include "tests/support/test.h"
#include "tests/unit/dataplane/net/frames.h"

static struct pkt_host *host;

/* Parse a heap copy of the exact length, so that a sanitizer sees any read past the end. */
static struct pkt parse_flags(const struct frame *f, uint32_t flags, uint16_t tci)
{
    static uint8_t *copy;
    struct pkt p;
    memset(&p, 0x5a, sizeof(p));
    free(copy);
    copy = malloc(f->len > 0 ? f->len : 1);
    memcpy(copy, f->b, f->len);
    pkt_parse(host, copy, f->len, flags, tci, &p);
    return p;
}
static struct pkt parse(struct frame f)
{
    return parse_flags(&f, 0, 0);
}
#define assert_drop(frame, reason)                                                                 \
    do {                                                                                           \
        struct pkt p_ = parse(frame);                                                              \
        assert_int_equal(p_.kind, PKT_DROP);                                                       \
        assert_int_equal(p_.why, reason);                                                          \
    } while (0)

static void a_datagram_reaches_the_most_specific_listener(void **state)
{
    struct pkt p = parse(frame_udp4(7, 4000, 514, "<13>hi", 6));
    assert_int_equal(p.kind, PKT_UDP);
    assert_int_equal(p.listener, 0);
    assert_true(span_eq_str(p.payload, "<13>hi"));
    assert_int_equal(p.src.port, 4000);
    assert_memory_equal(p.src.ip + 12, ((uint8_t[]){198, 51, 100, 7}), 4);
    assert_true(net_addr_is_v4(&p.src));
    p = parse(frame_udp6(4001, 514, "six", 3));
    assert_int_equal(p.kind, PKT_UDP);
    assert_int_equal(p.listener, 1);
    assert_true(span_eq_str(p.payload, "six"));
    assert_memory_equal(p.src.ip, peer_ip6, 16);
    assert_int_equal(parse(frame_udp4(7, 1, 515, "x", 1)).listener, 2);
    assert_int_equal(parse(frame_udp6(1, 516, "x", 1)).listener, 3);
    p = parse(frame_udp4(7, 1, 514, "", 0));
    assert_int_equal(p.kind, PKT_UDP);
    assert_int_equal(p.payload.len, 0);
}

static void nobody_listens_elsewhere(void **state)
{
    assert_drop(frame_udp4(7, 1, 513, "x", 1), PDROP_udp_port);
    assert_drop(frame_udp6(1, 515, "x", 1), PDROP_udp_port); /* 0.0.0.0 is IPv4 only */
    assert_drop(frame_udp4(7, 1, 516, "x", 1), PDROP_udp_port);
    assert_drop(frame_udp4(7, 1, 517, "x", 1), PDROP_udp_port); /* the kernel's */
}

static void short_frames_are_dropped_wherever_they_end(void **state)
{
    struct frame f = frame_udp4(7, 1, 514, "hello", 5);
    for (uint32_t len = 0; len < f.len; len++) {
        struct frame cut = f;
        cut.len = len;
        assert_drop(cut, len < ETH_LEN + IP4_LEN ? PDROP_short_frame : PDROP_ip_header);
    }
    f = frame_udp6(1, 514, "hello", 5);
    for (uint32_t len = 0; len < f.len; len++) {
        struct frame cut = f;
        cut.len = len;
        assert_drop(cut, len < ETH_LEN + IP6_LEN ? PDROP_short_frame : PDROP_ip_header);
    }
    f = frame_arp(ARP_REQUEST, our_ip4);
    f.len--;
    assert_drop(f, PDROP_short_frame);
}

static void padding_behind_the_packet_is_ignored(void **state)
{
    struct frame f = frame_udp4(7, 1, 514, "x", 1);
    memset(f.b + f.len, 0xee, 17);
    f.len = 60;
    struct pkt p = parse(f);
    assert_int_equal(p.kind, PKT_UDP);
    assert_int_equal(p.payload.len, 1);
}

static void frames_for_others_are_not_for_us(void **state)
{
    struct frame f = frame_udp4(7, 1, 514, "x", 1);
    f.b[5] ^= 4;
    assert_drop(f, PDROP_not_for_us);
    f = frame_udp4(7, 1, 514, "x", 1);
    memcpy(f.b, (uint8_t[]){1, 0, 0x5e, 0, 0, 1}, 6); /* an IPv4 group */
    assert_drop(f, PDROP_not_for_us);
    f = frame_udp4(7, 1, 514, "x", 1);
    f.b[ETH_LEN + IP4_DST + 3]++;
    frame_ip4_fix(&f);
    assert_drop(f, PDROP_not_for_us);
    f = frame_udp6(1, 514, "x", 1);
    f.b[ETH_LEN + IP6_DST + 15]++;
    assert_drop(f, PDROP_not_for_us);
    /* UDP to the all-nodes group */
    f = frame_udp6(1, 514, "x", 1);
    memset(f.b + ETH_LEN + IP6_DST, 0, 16);
    memcpy(f.b + ETH_LEN + IP6_DST, (uint8_t[]){0xff, 2}, 2);
    f.b[ETH_LEN + IP6_DST + 15] = 1;
    assert_drop(f, PDROP_not_for_us);
    assert_drop(frame_arp(ARP_REQUEST, (uint8_t[]){192, 0, 2, 11}), PDROP_not_for_us);
}

static struct frame tagged(struct frame f, uint16_t tci)
{
    memmove(f.b + ETH_LEN + 2, f.b + ETH_TYPE, f.len - ETH_TYPE);
    store_be16(f.b + ETH_TYPE, ETHERTYPE_VLAN);
    store_be16(f.b + ETH_LEN, tci);
    f.len += ETH_VLAN_LEN;
    return f;
}

static void only_the_ports_own_vlan_is_taken(void **state)
{
    struct frame f = frame_udp4(7, 1, 514, "x", 1);
    assert_int_equal(parse(tagged(f, 0xe000)).kind, PKT_UDP); /* priority only */
    assert_drop(tagged(f, 5), PDROP_vlan);
    assert_int_equal(parse_flags(&f, PKT_VLAN_STRIPPED, 5).why, PDROP_vlan);
    host->vlan = 5;
    assert_drop(f, PDROP_vlan);
    assert_int_equal(parse(tagged(f, 0xe005)).kind, PKT_UDP);
    assert_int_equal(parse_flags(&f, PKT_VLAN_STRIPPED, 0x2005).kind, PKT_UDP);
    struct frame cut = tagged(f, 5);
    cut.len = ETH_LEN + 3;
    assert_drop(cut, PDROP_short_frame);
    host->vlan = 0;
}

static void unknown_ethertypes_and_protocols_are_dropped(void **state)
{
    struct frame f = frame_eth(0x88cc);
    f.len = 60;
    assert_drop(f, PDROP_ethertype);
    assert_drop(tagged(tagged(frame_udp4(7, 1, 514, "x", 1), 0), 0), PDROP_ethertype);
    assert_drop(frame_ip4(7, 6, "tcp.................", 20), PDROP_ip_proto);
    assert_drop(frame_ip4(7, PROTO_ICMP6, "12345678", 8), PDROP_ip_proto);
    assert_drop(frame_ip6(PROTO_ICMP, "12345678", 8), PDROP_ip_proto);
    assert_drop(frame_ip6(59, "", 0), PDROP_ip_proto);
}

static void ip_headers_that_lie_are_dropped(void **state)
{
    struct frame good = frame_udp4(7, 1, 514, "hello", 5), f = good;
    f.b[ETH_LEN] = 0x55;
    frame_ip4_fix(&f);
    assert_drop(f, PDROP_ip_header);
    f = good;
    f.b[ETH_LEN] = 0x44;
    assert_drop(f, PDROP_ip_header);
    f = good;
    f.b[ETH_LEN] = 0x4f; /* 60 bytes of header in 33 of packet */
    assert_drop(f, PDROP_ip_header);
    f = good;
    store_be16(f.b + ETH_LEN + IP4_TOTAL_LEN, 19);
    assert_drop(f, PDROP_ip_header);
    f = good;
    store_be16(f.b + ETH_LEN + IP4_TOTAL_LEN, (uint16_t)(f.len - ETH_LEN + 1));
    assert_drop(f, PDROP_ip_header);
    f = good;
    f.b[ETH_LEN + IP4_CHECKSUM] ^= 1;
    assert_drop(f, PDROP_ip_checksum);
    assert_int_equal(parse_flags(&f, PKT_IP_CHECKSUM_OK, 0).kind, PKT_UDP);
    f = frame_udp6(1, 514, "hello", 5);
    f.b[ETH_LEN] = 0x40;
    assert_drop(f, PDROP_ip_header);
    f = frame_udp6(1, 514, "hello", 5);
    store_be16(f.b + ETH_LEN + IP6_PAYLOAD_LEN, 14);
    assert_drop(f, PDROP_ip_header);
    f = frame_udp6(1, 514, "hello", 5); /* ::ffff:1.2.3.4 must not pose as an IPv4 source */
    memset(f.b + ETH_LEN + IP6_SRC, 0, 10);
    memset(f.b + ETH_LEN + IP6_SRC + 10, 0xff, 2);
    assert_drop(f, PDROP_ip_header);
}

static void ip_options_and_extension_headers_are_skipped(void **state)
{
    struct frame f = frame_udp4(7, 1, 514, "opt", 3);
    memmove(f.b + ETH_LEN + 24, f.b + ETH_LEN + 20, f.len - ETH_LEN - 20);
    memset(f.b + ETH_LEN + 20, 1, 4); /* four NOPs */
    f.b[ETH_LEN] = 0x46;
    f.len += 4;
    store_be16(f.b + ETH_LEN + IP4_TOTAL_LEN, (uint16_t)(f.len - ETH_LEN));
    frame_ip4_fix(&f);
    struct pkt p = parse(f);
    assert_int_equal(p.kind, PKT_UDP);
    assert_true(span_eq_str(p.payload, "opt"));
    /* hop-by-hop, then destination options of 16 bytes, then UDP */
    struct frame u = frame_udp6(1, 514, "ext", 3);
    uint8_t l4[24 + 11] = {PROTO_DST_OPTS, 0, [8] = PROTO_UDP, 1};
    memcpy(l4 + 24, u.b + ETH_LEN + IP6_LEN, 11);
    p = parse(frame_ip6(PROTO_HOP_BY_HOP, l4, sizeof(l4)));
    assert_int_equal(p.kind, PKT_UDP);
    assert_true(span_eq_str(p.payload, "ext"));
    l4[9] = 3; /* reaches past the packet */
    assert_drop(frame_ip6(PROTO_HOP_BY_HOP, l4, sizeof(l4)), PDROP_ip_header);
    uint8_t route[8 + 11] = {PROTO_UDP, 0, 0, 1};
    assert_drop(frame_ip6(PROTO_ROUTING, route, sizeof(route)), PDROP_ip_header);
    uint8_t chain[8 * 12] = {0}; /* hop-by-hop without end */
    assert_drop(frame_ip6(PROTO_HOP_BY_HOP, chain, sizeof(chain)), PDROP_ip_header);
}

static void udp_lengths_and_checksums_are_checked(void **state)
{
    struct frame good = frame_udp4(7, 1, 514, "hello", 5), f;
    uint8_t *udp;
    for (uint32_t len = 0; len <= 14; len++) {
        f = good;
        udp = f.b + ETH_LEN + IP4_LEN;
        store_be16(udp + UDP_LENGTH, (uint16_t)len);
        store_be16(udp + UDP_CHECKSUM, 0); /* none */
        struct pkt p = parse(f);
        if (len < UDP_LEN || len > 13) {
            assert_int_equal(p.why, PDROP_udp_header);
        } else {
            assert_int_equal(p.kind, PKT_UDP);
            assert_int_equal(p.payload.len, len - UDP_LEN);
        }
    }
    assert_drop(frame_ip4(7, PROTO_UDP, "1234567", 7), PDROP_udp_header);
    for (uint32_t bit = 0; bit < 13 * 8; bit++) {
        f = good;
        udp = f.b + ETH_LEN + IP4_LEN;
        udp[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(parse(f).kind, PKT_DROP);
        if (bit / 8 >= UDP_CHECKSUM)
            assert_drop(f, PDROP_udp_checksum);
    }
    assert_int_equal(parse_flags(&f, PKT_L4_CHECKSUM_OK, 0).kind, PKT_UDP);
    /* IPv6 has no datagrams without checksum */
    f = frame_udp6(1, 514, "hello", 5);
    store_be16(f.b + ETH_LEN + IP6_LEN + UDP_CHECKSUM, 0);
    assert_drop(f, PDROP_udp_checksum);
}

static void checksums_of_all_lengths_agree_with_the_definition(void **state)
{
    struct test_rng r = {test_seed(7)};
    uint8_t b[200];
    for (uint32_t len = 0; len < sizeof(b); len++) {
        rng_fill(&r, b, sizeof(b));
        uint32_t sum = 0; /* RFC 1071, word by word */
        for (uint32_t i = 0; i < len; i++)
            sum += i % 2 ? b[i] : b[i] * 256u;
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        assert_int_equal(be16toh(ip_fold(ip_sum(b, len))), sum);
    }
}

static void arp_requests_for_us_are_answered(void **state)
{
    uint8_t out[256];
    struct frame f = frame_arp(ARP_REQUEST, our_ip4);
    struct pkt p = parse(f);
    assert_int_equal(p.kind, PKT_REPLY);
    assert_int_equal(pkt_reply(host, &p, out, sizeof(out)), ETH_LEN + ARP_LEN);
    assert_memory_equal(out, peer_mac, 6);
    assert_memory_equal(out + 6, our_mac, 6);
    const uint8_t *arp = out + ETH_LEN;
    assert_int_equal(load_be16(arp + ARP_OP), ARP_REPLY);
    assert_memory_equal(arp + ARP_SHA, our_mac, 6);
    assert_memory_equal(arp + ARP_SPA, our_ip4, 4);
    assert_memory_equal(arp + ARP_THA, peer_mac, 6);
    assert_memory_equal(arp + ARP_TPA, ((uint8_t[]){198, 51, 100, 7}), 4);
    assert_int_equal(parse(frame_arp(ARP_REPLY, our_ip4)).kind, PKT_HANDLED);
    assert_drop(frame_arp(9, our_ip4), PDROP_arp);
    f.b[ETH_LEN + 4] = 8;
    assert_drop(f, PDROP_arp);
    host->vlan = 9;
    p = parse(tagged(frame_arp(ARP_REQUEST, our_ip4), 9));
    assert_int_equal(pkt_reply(host, &p, out, sizeof(out)), ETH_LEN + ETH_VLAN_LEN + ARP_LEN);
    assert_int_equal(load_be16(out + ETH_TYPE), ETHERTYPE_VLAN);
    assert_int_equal(load_be16(out + ETH_LEN), 9);
    host->vlan = 0;
}

static void echo_requests_are_answered_within_the_mtu(void **state)
{
    static uint8_t out[4096], data[1472];
    memset(data, 0x61, sizeof(data));
    struct frame f = frame_echo4(data, 100);
    struct pkt p = parse(f);
    assert_int_equal(p.kind, PKT_REPLY);
    uint32_t n = pkt_reply(host, &p, out, sizeof(out));
    assert_int_equal(n, f.len);
    const uint8_t *ip = out + ETH_LEN;
    assert_int_equal(ip_fold(ip_sum(ip, IP4_LEN)), 0xffff);
    assert_memory_equal(ip + IP4_SRC, our_ip4, 4);
    assert_memory_equal(ip + IP4_DST, ((uint8_t[]){198, 51, 100, 7}), 4);
    assert_int_equal(ip[IP4_LEN], ICMP_ECHO_REPLY);
    assert_int_equal(ip_fold(ip_sum(ip + IP4_LEN, ICMP_LEN + 100)), 0xffff);
    assert_memory_equal(ip + IP4_LEN + 4, "\x12\x34\x00\x01", 4);
    p = parse(frame_echo4(data, 1472));
    assert_int_equal(pkt_reply(host, &p, out, sizeof(out)), ETH_LEN + 1500);
    assert_int_equal(pkt_reply(host, &p, out, 1500), 0);
    host->mtu = 1400;
    assert_int_equal(pkt_reply(host, &p, out, sizeof(out)), 0);
    host->mtu = 1500;
    f.b[f.len - 1] ^= 1;
    assert_drop(f, PDROP_icmp);
    assert_drop(frame_ip4(7, PROTO_ICMP, "short", 5), PDROP_icmp);
    f = frame_echo4(data, 8);
    f.b[ETH_LEN + IP4_LEN] = ICMP_ECHO_REPLY;
    uint16_t sum = 0;
    memcpy(f.b + ETH_LEN + IP4_LEN + 2, &sum, 2);
    sum = ip_checksum(ip_sum(f.b + ETH_LEN + IP4_LEN, 16));
    memcpy(f.b + ETH_LEN + IP4_LEN + 2, &sum, 2);
    assert_int_equal(parse(f).kind, PKT_HANDLED);
    f = frame_echo4(data, 8); /* from a group: nobody to answer */
    f.b[ETH_LEN + IP4_SRC] = 224;
    frame_ip4_fix(&f);
    assert_int_equal(parse(f).kind, PKT_HANDLED);
}

static void ipv6_neighbours_and_pings_are_answered(void **state)
{
    uint8_t out[512];
    struct pkt p = parse(frame_ns(our_ip6));
    assert_int_equal(p.kind, PKT_REPLY);
    assert_int_equal(pkt_reply(host, &p, out, sizeof(out)), ETH_LEN + IP6_LEN + ND_LEN + 8);
    assert_memory_equal(out, peer_mac, 6);
    const uint8_t *ip = out + ETH_LEN, *na = ip + IP6_LEN;
    assert_memory_equal(ip + IP6_SRC, our_ip6, 16);
    assert_memory_equal(ip + IP6_DST, peer_ip6, 16);
    assert_int_equal(ip[IP6_HOP_LIMIT], 255);
    assert_int_equal(na[0], ICMP6_NEIGHBOUR_ADVERTISEMENT);
    assert_int_equal(na[4], ND_SOLICITED | ND_OVERRIDE);
    assert_memory_equal(na + ND_TARGET, our_ip6, 16);
    assert_memory_equal(na + ND_LEN + 2, our_mac, 6);
    assert_int_equal(
        ip_fold(ip_pseudo_sum(ip + IP6_SRC, 32, PROTO_ICMP6, ND_LEN + 8) + ip_sum(na, ND_LEN + 8)),
        0xffff);
    struct frame f = frame_ns(our_ip6); /* duplicate address detection */
    memset(f.b + ETH_LEN + IP6_SRC, 0, 16);
    frame_icmp6_fix(&f);
    p = parse(f);
    assert_true(pkt_reply(host, &p, out, sizeof(out)) > 0);
    assert_memory_equal(out, ((uint8_t[]){0x33, 0x33, 0, 0, 0, 1}), 6);
    assert_int_equal(out[ETH_LEN + IP6_LEN + 4], ND_OVERRIDE);
    f = frame_ns(our_ip6);
    f.b[ETH_LEN + IP6_HOP_LIMIT] = 254;
    assert_drop(f, PDROP_icmp);
    f = frame_ns(our_ip6); /* the same group, another address */
    f.b[ETH_LEN + IP6_LEN + ND_TARGET + 1]++;
    frame_icmp6_fix(&f);
    assert_int_equal(parse(f).kind, PKT_HANDLED);
    uint8_t other[16];
    memcpy(other, our_ip6, 16);
    other[15]++;
    assert_drop(frame_ns(other), PDROP_not_for_us);
    uint8_t echo[40] = {ICMP6_ECHO, 0, 0, 0, 1, 2, 3, 4, 'd', 'a', 't', 'a'};
    f = frame_ip6(PROTO_ICMP6, echo, sizeof(echo));
    assert_drop(f, PDROP_icmp);
    frame_icmp6_fix(&f);
    p = parse(f);
    assert_int_equal(p.kind, PKT_REPLY);
    assert_int_equal(pkt_reply(host, &p, out, sizeof(out)), f.len);
    assert_int_equal(na[0], ICMP6_ECHO_REPLY);
    assert_memory_equal(na + 4, echo + 4, 36);
    assert_int_equal(ip_fold(ip_pseudo_sum(ip + IP6_SRC, 32, PROTO_ICMP6, 40) + ip_sum(na, 40)),
                     0xffff);
}

static void own_addresses_are_announced(void **state)
{
    uint8_t out[256];
    assert_int_equal(pkt_announce(host, 0, out, sizeof(out)), ETH_LEN + ARP_LEN);
    assert_memory_equal(out + ETH_LEN + ARP_SPA, our_ip4, 4);
    assert_memory_equal(out + ETH_LEN + ARP_TPA, our_ip4, 4);
    struct frame f = {.len = ETH_LEN + ARP_LEN};
    memcpy(f.b, out, f.len);
    assert_int_equal(parse(f).kind, PKT_HANDLED); /* looped back to us */
    assert_true(pkt_announce(host, 1, out, sizeof(out)) > 0);
    assert_memory_equal(out + ETH_LEN + IP6_SRC, our_ip6, 16);
    assert_int_equal(pkt_announce(host, 0, out, 40), 0);
}

/* What the kernel may have; never what we serve, what is malformed, or what is for others. */
static void what_is_not_ours_to_serve_is_for_the_host(void **state)
{
    uint8_t tcp[20] = {0};
    struct frame f;
    struct pkt p;
    p = parse(frame_ip4(9, 6, tcp, sizeof(tcp)));
    assert_int_equal(p.kind, PKT_DROP);
    assert_true(pkt_is_for_host(host, &p));
    p = parse(frame_udp4(1, 4000, 9, "x", 1)); /* no listener */
    assert_true(pkt_is_for_host(host, &p));
    p = parse(frame_udp4(1, 4000, 514, "x", 1));
    assert_false(pkt_is_for_host(host, &p));
    p = parse(frame_arp(ARP_REPLY, our_ip4));
    assert_int_equal(p.kind, PKT_HANDLED);
    assert_true(pkt_is_for_host(host, &p));
    p = parse(frame_arp(ARP_REQUEST, our_ip4));
    assert_int_equal(p.kind, PKT_REPLY);
    assert_false(pkt_is_for_host(host, &p));
    static const uint8_t other_ip[4] = {192, 0, 2, 77};
    p = parse(frame_arp(ARP_REQUEST, other_ip));
    assert_false(pkt_is_for_host(host, &p));
    /* LLDP's group; and another station's frame */
    f = frame_udp4(1, 4000, 514, "x", 1);
    memcpy(f.b, "\x01\x80\xc2\0\0\x0e", 6);
    p = parse(f);
    assert_int_equal(p.why, PDROP_not_for_us);
    assert_true(pkt_is_for_host(host, &p));
    f.b[0] = 2;
    p = parse(f);
    assert_int_equal(p.why, PDROP_not_for_us);
    assert_false(pkt_is_for_host(host, &p));
    f = frame_udp4(1, 4000, 514, "x", 1);
    f.b[f.len - 1] ^= 1;
    p = parse(f);
    assert_int_equal(p.why, PDROP_udp_checksum);
    assert_false(pkt_is_for_host(host, &p));
    f = frame_udp4(1, 4000, 514, "x", 1);
    f.len = 10;
    p = parse(f);
    assert_int_equal(p.why, PDROP_short_frame);
    assert_false(pkt_is_for_host(host, &p));
    /* fragments: ours are put together here, those of TCP in the kernel */
    f = frame_ip4(9, 6, tcp, sizeof(tcp));
    store_be16(f.b + ETH_LEN + IP4_FRAG, IP4_MORE_FRAGMENTS);
    memset(f.b + ETH_LEN + IP4_CHECKSUM, 0, 2);
    uint16_t sum = ip_checksum(ip_sum(f.b + ETH_LEN, IP4_LEN));
    memcpy(f.b + ETH_LEN + IP4_CHECKSUM, &sum, 2);
    p = parse(f);
    assert_int_equal(p.kind, PKT_FRAGMENT);
    assert_true(pkt_is_for_host(host, &p));
}

static void groups_of_our_ipv6_addresses_are_known(void **state)
{
    struct conf *c = frames_conf();
    struct pkt_host *h = malloc(sizeof(*h));
    char err[256];
    uint8_t groups[PKT_GROUPS_MAX][6];
    struct net_addr v6 = host->addrs[1], v4 = host->addrs[0];
    assert_false(net_addr_is_v4(&v6));
    c->ports[0].addr_cnt = 1;
    c->ports[0].addrs[0].ip = v4;
    c->listener_cnt = 0;
    assert_ok(pkt_host_init(h, c, 0, our_mac, err, sizeof(err)));
    assert_int_equal(pkt_host_groups(h, groups), 0);
    c->ports[0].addr_cnt = CONF_ADDRS_MAX;
    for (uint32_t i = 0; i < CONF_ADDRS_MAX; i++) {
        c->ports[0].addrs[i].ip = v6;
        c->ports[0].addrs[i].ip.ip[15] = (uint8_t)i;
    }
    memcpy(c->ports[0].addrs[1].ip.ip + 13, c->ports[0].addrs[0].ip.ip + 13, 3);
    c->ports[0].addrs[1].ip.ip[8] ^= 1; /* two of one group */
    assert_ok(pkt_host_init(h, c, 0, our_mac, err, sizeof(err)));
    assert_int_equal(pkt_host_groups(h, groups), CONF_ADDRS_MAX);
    assert_memory_equal(groups[0], "\x33\x33\0\0\0\1", 6);
    for (uint32_t i = 0, k = 1; i < CONF_ADDRS_MAX; i++) {
        assert_memory_equal(groups[k], "\x33\x33\xff", 3);
        assert_memory_equal(groups[k] + 3, c->ports[0].addrs[i].ip.ip + 13, 3);
        k += i != 0;
    }
    free(h);
    free(c);
}

static void fragments_are_recognised(void **state)
{
    uint8_t data[100] = {0};
    struct frame f[4], whole = frame_udp4(7, 1, 514, data, 100);
    assert_int_equal(frame_split4(&whole, 77, 40, f, 4), 3);
    struct pkt p = parse(f[1]);
    assert_int_equal(p.kind, PKT_FRAGMENT);
    assert_int_equal(p.frag_id, 77);
    assert_int_equal(p.frag_pos, 40);
    assert_true(p.frag_more);
    assert_int_equal(p.l4.len, 40);
    assert_false(parse(f[2]).frag_more);
    uint8_t l4[8 + 16] = {PROTO_UDP, 0, 0, 0x51, 0, 1, 2, 3}; /* pos 80, more */
    p = parse(frame_ip6(PROTO_FRAGMENT, l4, sizeof(l4)));
    assert_int_equal(p.kind, PKT_FRAGMENT);
    assert_int_equal(p.frag_pos, 80);
    assert_true(p.frag_more);
    assert_int_equal(p.frag_id, 0x10203);
    assert_int_equal(p.l4.len, 16);
    struct frame g = frame_ip6(PROTO_FRAGMENT, l4, sizeof(l4)); /* to a group */
    memset(g.b + ETH_LEN + IP6_DST, 0, 16);
    memcpy(g.b + ETH_LEN + IP6_DST, (uint8_t[]){0xff, 2}, 2);
    g.b[ETH_LEN + IP6_DST + 15] = 1;
    assert_drop(g, PDROP_not_for_us);
    /* an atomic fragment is a whole datagram */
    struct frame u = frame_udp6(1, 514, "atom", 4);
    uint8_t atom[8 + 12] = {PROTO_UDP};
    memcpy(atom + 8, u.b + ETH_LEN + IP6_LEN, 12);
    p = parse(frame_ip6(PROTO_FRAGMENT, atom, sizeof(atom)));
    assert_int_equal(p.kind, PKT_UDP);
    assert_true(span_eq_str(p.payload, "atom"));
}

static void listeners_that_cannot_work_are_refused_by_name(void **state)
{
    struct conf *c = frames_conf();
    struct pkt_host *h = malloc(sizeof(*h));
    char err[256];
    c->listeners[0].transport = CONF_TCP;
    assert_rc(pkt_host_init(h, c, 0, our_mac, err, sizeof(err)), -E_CONFIG);
    assert_non_null(strstr(err, "listener l0: port p serves UDP only"));
    c->listeners[0].transport = CONF_UDP;
    c->listeners[0].bind.ip[15]++;
    assert_rc(pkt_host_init(h, c, 0, our_mac, err, sizeof(err)), -E_CONFIG);
    assert_string_equal(err, "listener l0: 192.0.2.11 is not an address of port p");
    c->listeners[0].bind.port = 0;
    assert_rc(pkt_host_init(h, c, 0, our_mac, err, sizeof(err)), -E_CONFIG);
    free(h);
    free(c);
}

int main(void)
{
    struct conf *c = frames_conf();
    char err[256];
    host = malloc(sizeof(*host));
    if (host == NULL || pkt_host_init(host, c, 0, our_mac, err, sizeof(err)) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_datagram_reaches_the_most_specific_listener),
        TEST(nobody_listens_elsewhere),
        TEST(short_frames_are_dropped_wherever_they_end),
        TEST(padding_behind_the_packet_is_ignored),
        TEST(frames_for_others_are_not_for_us),
        TEST(only_the_ports_own_vlan_is_taken),
        TEST(unknown_ethertypes_and_protocols_are_dropped),
        TEST(ip_headers_that_lie_are_dropped),
        TEST(ip_options_and_extension_headers_are_skipped),
        TEST(udp_lengths_and_checksums_are_checked),
        TEST(checksums_of_all_lengths_agree_with_the_definition),
        TEST(arp_requests_for_us_are_answered),
        TEST(echo_requests_are_answered_within_the_mtu),
        TEST(ipv6_neighbours_and_pings_are_answered),
        TEST(own_addresses_are_announced),
        TEST(what_is_not_ours_to_serve_is_for_the_host),
        TEST(groups_of_our_ipv6_addresses_are_known),
        TEST(fragments_are_recognised),
        TEST(listeners_that_cannot_work_are_refused_by_name),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    struct frame none = {.len = 0};
    (void)parse(none); /* gives back the last copy */
    free(host);
    free(c);
    return rc;
}
