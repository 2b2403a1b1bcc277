/* icmp.c - ICMP and ICMPv6: echo and neighbour solicitation are answered, the rest is consumed. */
#include "dataplane/net/pkt_int.h"

static bool is_unicast4(const uint8_t *ip)
{
    return ip[0] != 0 && ip[0] < 224;
}

void icmp4_input(const struct pkt_host *h, struct pkt *p)
{
    if (p->l4.len < ICMP_LEN || ip_fold(ip_sum(p->l4.p, p->l4.len)) != 0xffff) {
        pkt_drop(p, PDROP_icmp);
        return;
    }
    bool is_echo = p->l4.p[0] == ICMP_ECHO && is_unicast4(p->ip + IP4_SRC);
    p->kind = is_echo ? PKT_REPLY : PKT_HANDLED;
    p->reply = PKT_REPLY_ECHO4;
}

void icmp6_input(const struct pkt_host *h, struct pkt *p)
{
    uint64_t pseudo = ip_pseudo_sum(p->ip + IP6_SRC, 32, PROTO_ICMP6, p->l4.len);
    if (p->l4.len < ICMP_LEN || ip_fold(pseudo + ip_sum(p->l4.p, p->l4.len)) != 0xffff) {
        pkt_drop(p, PDROP_icmp);
        return;
    }
    p->kind = PKT_HANDLED;
    switch (p->l4.p[0]) {
    case ICMP6_ECHO:
        if (host_has_ip6(h, p->ip + IP6_DST)) {
            p->kind = PKT_REPLY;
            p->reply = PKT_REPLY_ECHO6;
        }
        break;
    case ICMP6_NEIGHBOUR_SOLICITATION:
        /* Hop limit 255 proves that no router passed it on (RFC 4861, 7.1.1). */
        if (p->l4.len < ND_LEN || p->l4.p[1] != 0 || p->ip[IP6_HOP_LIMIT] != ND_HOP_LIMIT)
            pkt_drop(p, PDROP_icmp);
        else if (host_has_ip6(h, p->l4.p + ND_TARGET)) {
            p->kind = PKT_REPLY;
            p->reply = PKT_REPLY_ND;
        }
        break;
    default:
        break;
    }
}

/* The request's own bytes with another type. */
static void echo_copy(uint8_t *out, struct span request, uint8_t type)
{
    memcpy(out, request.p, request.len);
    out[0] = type;
    memset(out + ICMP_CHECKSUM, 0, 2);
}

uint32_t icmp4_echo_reply(const struct pkt *p, uint8_t *out, uint32_t cap)
{
    if (p->l4.len > cap || cap - p->l4.len < IP4_LEN)
        return 0;
    uint32_t n = ip4_output(out, p->ip + IP4_DST, p->ip + IP4_SRC, PROTO_ICMP, p->l4.len);
    echo_copy(out + n, p->l4, ICMP_ECHO_REPLY);
    uint16_t sum = ip_checksum(ip_sum(out + n, p->l4.len));
    memcpy(out + n + ICMP_CHECKSUM, &sum, 2);
    return n + p->l4.len;
}

uint32_t icmp6_echo_reply(const struct pkt *p, uint8_t *out, uint32_t cap)
{
    if (p->l4.len > cap || cap - p->l4.len < IP6_LEN)
        return 0;
    uint32_t n = ip6_output(out, p->ip + IP6_DST, p->ip + IP6_SRC, PROTO_ICMP6, 64, p->l4.len);
    echo_copy(out + n, p->l4, ICMP6_ECHO_REPLY);
    uint16_t sum = ip_checksum(ip_pseudo_sum(out + IP6_SRC, 32, PROTO_ICMP6, p->l4.len) +
                               ip_sum(out + n, p->l4.len));
    memcpy(out + n + ICMP_CHECKSUM, &sum, 2);
    return n + p->l4.len;
}

uint32_t nd_advertise(const struct pkt_host *h, uint8_t *out, uint32_t cap,
                      const uint8_t target[16], const uint8_t dst[16], uint8_t flags)
{
    uint32_t len = ND_LEN + 8; /* and one option: our MAC */
    if (cap < IP6_LEN + len)
        return 0;
    uint32_t n = ip6_output(out, target, dst, PROTO_ICMP6, ND_HOP_LIMIT, len);
    uint8_t *na = out + n;
    memset(na, 0, len);
    na[0] = ICMP6_NEIGHBOUR_ADVERTISEMENT;
    na[4] = flags;
    memcpy(na + ND_TARGET, target, 16);
    na[ND_LEN] = ND_OPT_TARGET_MAC;
    na[ND_LEN + 1] = 1; /* times 8 bytes */
    memcpy(na + ND_LEN + 2, h->mac, ETH_ADDR_LEN);
    uint16_t sum =
        ip_checksum(ip_pseudo_sum(out + IP6_SRC, 32, PROTO_ICMP6, len) + ip_sum(na, len));
    memcpy(na + ICMP_CHECKSUM, &sum, 2);
    return n + len;
}
