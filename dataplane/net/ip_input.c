/* ip_input.c - IPv4 and IPv6 headers of packets for us, down to UDP, ICMP or reassembly.
 *
 * Bytes after the IP packet (Ethernet's padding) are ignored; a packet that claims more bytes than
 * the frame has is dropped. IPv4 options and IPv6 extension headers are skipped, except that a
 * routing header with hops left is for somebody else. */
#include "dataplane/net/pkt_int.h"
#include "lib/iface/net_addr.h"

#define IP6_EXTENSIONS_MAX 8

void l4_input(const struct pkt_host *h, uint32_t flags, struct pkt *p)
{
    if (likely(p->proto == PROTO_UDP))
        udp_input(h, flags, p);
    else if (p->proto == PROTO_ICMP && !p->is_v6)
        icmp4_input(h, p);
    else if (p->proto == PROTO_ICMP6 && p->is_v6)
        icmp6_input(h, p);
    else
        pkt_drop(p, PDROP_ip_proto);
}

void ip4_input(const struct pkt_host *h, struct span bytes, uint32_t flags, struct pkt *p)
{
    const uint8_t *ip = bytes.p;
    if (unlikely(bytes.len < IP4_LEN)) {
        pkt_drop(p, PDROP_short_frame);
        return;
    }
    uint32_t head = (ip[0] & 0xfu) * 4, total = load_be16(ip + IP4_TOTAL_LEN);
    if (unlikely(ip[0] >> 4 != 4 || head < IP4_LEN || total < head || total > bytes.len)) {
        pkt_drop(p, PDROP_ip_header);
        return;
    }
    if (!(flags & PKT_IP_CHECKSUM_OK) && ip_fold(ip_sum(ip, head)) != 0xffff) {
        pkt_drop(p, PDROP_ip_checksum);
        return;
    }
    if (unlikely(!host_has_ip4(h, ip + IP4_DST))) {
        pkt_drop(p, PDROP_not_for_us);
        return;
    }
    p->is_v6 = false;
    p->proto = ip[IP4_PROTO];
    p->l4 = span_of(ip + head, total - head);
    memset(p->src.ip, 0, 10);
    p->src.ip[10] = p->src.ip[11] = 0xff;
    memcpy(p->src.ip + 12, ip + IP4_SRC, 4);
    uint16_t frag = load_be16(ip + IP4_FRAG);
    if (unlikely((frag & (IP4_MORE_FRAGMENTS | IP4_FRAG_POS_MASK)) != 0)) {
        p->kind = PKT_FRAGMENT;
        p->frag_more = (frag & IP4_MORE_FRAGMENTS) != 0;
        p->frag_pos = (uint16_t)((frag & IP4_FRAG_POS_MASK) * 8);
        p->frag_id = load_be16(ip + IP4_ID);
        return;
    }
    l4_input(h, flags, p);
}

/* Walks the extension headers; p->l4 is what follows them. False: p->kind is set (an error, or a
 * fragment). */
static bool ip6_extensions(struct pkt *p)
{
    for (int i = 0; i < IP6_EXTENSIONS_MAX; i++) {
        uint32_t head;
        switch (p->proto) {
        case PROTO_HOP_BY_HOP:
        case PROTO_ROUTING:
        case PROTO_DST_OPTS:
            if (p->l4.len < 8)
                goto bad;
            head = 8 + p->l4.p[1] * 8u;
            if (p->l4.len < head || (p->proto == PROTO_ROUTING && p->l4.p[3] != 0))
                goto bad;
            break;
        case PROTO_FRAGMENT: {
            if (p->l4.len < IP6_FRAG_LEN)
                goto bad;
            uint16_t frag = load_be16(p->l4.p + 2);
            head = IP6_FRAG_LEN;
            if ((frag & 0xfff9) == 0)
                break; /* whole after all: an atomic fragment, RFC 6946 */
            p->kind = PKT_FRAGMENT;
            p->frag_more = (frag & 1) != 0;
            p->frag_pos = frag & 0xfff8;
            p->frag_id = load_be32(p->l4.p + 4);
            p->proto = p->l4.p[0];
            p->l4 = span_of(p->l4.p + head, p->l4.len - head);
            return false;
        }
        default:
            return true;
        }
        p->proto = p->l4.p[0];
        p->l4 = span_of(p->l4.p + head, p->l4.len - head);
    }
bad:
    pkt_drop(p, PDROP_ip_header);
    return false;
}

void ip6_input(const struct pkt_host *h, struct span bytes, uint32_t flags, struct pkt *p)
{
    const uint8_t *ip = bytes.p;
    if (unlikely(bytes.len < IP6_LEN)) {
        pkt_drop(p, PDROP_short_frame);
        return;
    }
    uint32_t len = load_be16(ip + IP6_PAYLOAD_LEN);
    if (unlikely(ip[0] >> 4 != 6 || len > bytes.len - IP6_LEN || ip[IP6_SRC] == 0xff)) {
        pkt_drop(p, PDROP_ip_header);
        return;
    }
    bool is_unicast = host_has_ip6(h, ip + IP6_DST);
    if (unlikely(!is_unicast && !host_has_group6(h, ip + IP6_DST))) {
        pkt_drop(p, PDROP_not_for_us);
        return;
    }
    p->kind = PKT_HANDLED; /* until something below knows better */
    p->is_v6 = true;
    p->proto = ip[IP6_NEXT];
    p->l4 = span_of(ip + IP6_LEN, len);
    memcpy(p->src.ip, ip + IP6_SRC, 16);
    if (unlikely(net_addr_is_v4(&p->src))) { /* ::ffff:a.b.c.d would pose as an IPv4 source */
        pkt_drop(p, PDROP_ip_header);
        return;
    }
    bool is_whole = ip6_extensions(p);
    if (p->kind == PKT_DROP)
        return;
    if (!is_unicast && (!is_whole || p->proto != PROTO_ICMP6))
        pkt_drop(p, PDROP_not_for_us);
    else if (is_whole)
        l4_input(h, flags, p);
}
