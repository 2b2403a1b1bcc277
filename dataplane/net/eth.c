/* eth.c - Ethernet: the start of every parse, and of every answer; who we are on a port. */
#include "dataplane/net/pkt_int.h"
#include "lib/iface/net_addr.h"
#include <stdio.h>

static const uint8_t mac_broadcast[ETH_ADDR_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t mac_all_nodes[ETH_ADDR_LEN] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t ip6_all_nodes[16] = {0xff, 0x02, [15] = 1};

bool host_has_ip4(const struct pkt_host *h, const uint8_t ip[4])
{
    for (uint32_t i = 0; i < h->addr_cnt; i++)
        if (memcmp(h->addrs[i].ip + 12, ip, 4) == 0 && net_addr_is_v4(&h->addrs[i]))
            return true;
    return false;
}

bool host_has_ip6(const struct pkt_host *h, const uint8_t ip[16])
{
    for (uint32_t i = 0; i < h->addr_cnt; i++)
        if (memcmp(h->addrs[i].ip, ip, 16) == 0 && !net_addr_is_v4(&h->addrs[i]))
            return true;
    return false;
}

bool host_has_group6(const struct pkt_host *h, const uint8_t ip[16])
{
    static const uint8_t solicited[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};
    if (memcmp(ip, ip6_all_nodes, 16) == 0)
        return true;
    if (memcmp(ip, solicited, sizeof(solicited)) != 0)
        return false;
    for (uint32_t i = 0; i < h->addr_cnt; i++)
        if (memcmp(h->addrs[i].ip + 13, ip + 13, 3) == 0 && !net_addr_is_v4(&h->addrs[i]))
            return true;
    return false;
}

/* Frames for us: our address, broadcast, and the IPv6 groups (which ip6_input looks at closer). */
static bool mac_is_ours(const struct pkt_host *h, const uint8_t *mac)
{
    if (likely(mac_eq(mac, h->mac)))
        return true;
    if (!mac_is_group(mac))
        return false;
    return mac_eq(mac, mac_broadcast) || (mac[0] == 0x33 && mac[1] == 0x33);
}

void pkt_parse(const struct pkt_host *h, const uint8_t *frame, uint32_t len, uint32_t flags,
               uint16_t vlan_tci, struct pkt *p)
{
    p->eth = frame;
    p->ip = NULL;
    p->frag_more = false;
    p->frag_pos = 0;
    if (unlikely(len < ETH_LEN)) {
        pkt_drop(p, PDROP_short_frame);
        return;
    }
    if (unlikely(!mac_is_group(frame + ETH_DST) && !mac_eq(frame + ETH_DST, h->mac))) {
        pkt_drop(p, PDROP_not_for_us);
        return;
    }
    uint32_t head = ETH_LEN;
    uint16_t type = load_be16(frame + ETH_TYPE);
    uint16_t vlan = flags & PKT_VLAN_STRIPPED ? vlan_tci & 0xfff : 0;
    if (type == ETHERTYPE_VLAN && !(flags & PKT_VLAN_STRIPPED)) {
        if (unlikely(len < ETH_LEN + ETH_VLAN_LEN)) {
            pkt_drop(p, PDROP_short_frame);
            return;
        }
        vlan = load_be16(frame + ETH_LEN) & 0xfff; /* 0: a priority tag, as good as none */
        type = load_be16(frame + ETH_TYPE + ETH_VLAN_LEN);
        head += ETH_VLAN_LEN;
    }
    if (unlikely(vlan != h->vlan)) {
        pkt_drop(p, PDROP_vlan);
        return;
    }
    if (unlikely(!mac_is_ours(h, frame + ETH_DST))) {
        pkt_drop(p, PDROP_not_for_us); /* a group */
        return;
    }
    struct span bytes = span_of(frame + head, len - head);
    p->ip = bytes.p;
    if (likely(type == ETHERTYPE_IP4))
        ip4_input(h, bytes, flags, p);
    else if (type == ETHERTYPE_IP6)
        ip6_input(h, bytes, flags, p);
    else if (type == ETHERTYPE_ARP)
        arp_input(h, bytes, p);
    else
        pkt_drop(p, PDROP_ethertype);
}

bool pkt_is_for_host(const struct pkt_host *h, const struct pkt *p)
{
    switch ((enum pkt_kind)p->kind) {
    case PKT_HANDLED:
        return true;
    case PKT_FRAGMENT:
        return p->proto != PROTO_UDP && p->proto != PROTO_ICMP && p->proto != PROTO_ICMP6;
    case PKT_DROP:
        break;
    case PKT_UDP:
    case PKT_REPLY:
        return false;
    }
    switch ((enum port_drop)p->why) {
    case PDROP_ethertype:
    case PDROP_ip_proto:
    case PDROP_udp_port:
        return true;
    case PDROP_not_for_us: /* broadcasts and groups that the kernel may want, but for ARP's */
        if (!mac_is_group(p->eth + ETH_DST) && !mac_eq(p->eth + ETH_DST, h->mac))
            return false;
        return p->ip == NULL || load_be16(p->ip - 2) != ETHERTYPE_ARP;
    default:
        return false;
    }
}

void pkt_parse_whole(const struct pkt_host *h, struct pkt *p, struct span l4)
{
    p->l4 = l4;
    p->frag_more = false;
    p->frag_pos = 0;
    l4_input(h, 0, p);
}

uint32_t eth_output(const struct pkt_host *h, uint8_t *out, const uint8_t dst[6], uint16_t type)
{
    memcpy(out + ETH_DST, dst, ETH_ADDR_LEN);
    memcpy(out + ETH_SRC, h->mac, ETH_ADDR_LEN);
    if (h->vlan == 0) {
        store_be16(out + ETH_TYPE, type);
        return ETH_LEN;
    }
    store_be16(out + ETH_TYPE, ETHERTYPE_VLAN);
    store_be16(out + ETH_LEN, h->vlan);
    store_be16(out + ETH_TYPE + ETH_VLAN_LEN, type);
    return ETH_LEN + ETH_VLAN_LEN;
}

/* An answer goes back to the station that asked, which is the router for those beyond it. */
uint32_t pkt_reply(const struct pkt_host *h, const struct pkt *p, uint8_t *out, uint32_t cap)
{
    const uint8_t *to = p->eth + ETH_SRC;
    if (p->kind != PKT_REPLY || mac_is_group(to) || cap < PKT_FRAME_OVERHEAD + ARP_LEN)
        return 0;
    cap -= PKT_FRAME_OVERHEAD;
    if (cap > h->mtu)
        cap = h->mtu;
    uint32_t n, head;
    switch ((enum pkt_reply_kind)p->reply) {
    case PKT_REPLY_ARP:
        head = eth_output(h, out, to, ETHERTYPE_ARP);
        return head + arp_output(out + head, ARP_REPLY, h->mac, p->ip + ARP_TPA, p->ip + ARP_SHA,
                                 p->ip + ARP_SPA);
    case PKT_REPLY_ECHO4:
        head = eth_output(h, out, to, ETHERTYPE_IP4);
        n = icmp4_echo_reply(p, out + head, cap);
        return n > 0 ? head + n : 0;
    case PKT_REPLY_ECHO6:
        head = eth_output(h, out, to, ETHERTYPE_IP6);
        n = icmp6_echo_reply(p, out + head, cap);
        return n > 0 ? head + n : 0;
    case PKT_REPLY_ND: {
        /* Asked from the unspecified address: somebody tests whether the address is free. */
        static const uint8_t unspecified[16];
        const uint8_t *src = p->ip + IP6_SRC;
        bool is_probe = memcmp(src, unspecified, 16) == 0;
        head = eth_output(h, out, is_probe ? mac_all_nodes : to, ETHERTYPE_IP6);
        n = nd_advertise(h, out + head, cap, p->l4.p + ND_TARGET, is_probe ? ip6_all_nodes : src,
                         is_probe ? ND_OVERRIDE : ND_SOLICITED | ND_OVERRIDE);
        return n > 0 ? head + n : 0;
    }
    }
    UNREACHABLE();
}

uint32_t pkt_announce(const struct pkt_host *h, uint32_t i, uint8_t *out, uint32_t cap)
{
    static const uint8_t nobody[ETH_ADDR_LEN];
    const uint8_t *ip = h->addrs[i].ip;
    if (cap < PKT_FRAME_OVERHEAD + ARP_LEN)
        return 0;
    if (net_addr_is_v4(&h->addrs[i])) {
        uint32_t head = eth_output(h, out, mac_broadcast, ETHERTYPE_ARP);
        return head + arp_output(out + head, ARP_REQUEST, h->mac, ip + 12, nobody, ip + 12);
    }
    uint32_t head = eth_output(h, out, mac_all_nodes, ETHERTYPE_IP6);
    uint32_t n =
        nd_advertise(h, out + head, cap - PKT_FRAME_OVERHEAD, ip, ip6_all_nodes, ND_OVERRIDE);
    return n > 0 ? head + n : 0;
}

uint32_t pkt_host_groups(const struct pkt_host *h, uint8_t out[PKT_GROUPS_MAX][6])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->addr_cnt; i++) {
        const uint8_t *ip = h->addrs[i].ip;
        if (net_addr_is_v4(&h->addrs[i]))
            continue;
        if (n == 0)
            memcpy(out[n++], mac_all_nodes, ETH_ADDR_LEN);
        const uint8_t group[ETH_ADDR_LEN] = {0x33, 0x33, 0xff, ip[13], ip[14], ip[15]};
        uint32_t k = 1;
        while (k < n && !mac_eq(out[k], group)) /* addresses may share one */
            k++;
        if (k == n)
            memcpy(out[n++], group, ETH_ADDR_LEN);
    }
    return n;
}

int pkt_host_init(struct pkt_host *h, const struct conf *c, uint32_t port, const uint8_t mac[6],
                  char *err, size_t err_cap)
{
    const struct conf_port *cp = &c->ports[port];
    memset(h, 0, sizeof(*h));
    memcpy(h->mac, mac, ETH_ADDR_LEN);
    h->vlan = cp->vlan;
    h->mtu = cp->mtu;
    for (h->addr_cnt = 0; h->addr_cnt < cp->addr_cnt; h->addr_cnt++)
        h->addrs[h->addr_cnt] = cp->addrs[h->addr_cnt].ip;
    /* Two passes, the wildcards first: each is put in front of its chain. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < c->listener_cnt; i++) {
            const struct conf_listener *l = &c->listeners[i];
            bool is_any = net_addr_is_any(&l->bind);
            if (strcmp(l->port_name, cp->name) != 0 || is_any != (pass == 0))
                continue;
            if (l->transport != CONF_UDP) {
                snprintf(err, err_cap,
                         "listener %s: port %s serves UDP only; TCP needs a kernel socket (leave "
                         "the listener's port empty)",
                         l->name, cp->name);
                return -E_CONFIG;
            }
            if (l->bind.port == 0) {
                snprintf(err, err_cap, "listener %s: on port %s the UDP port must be given",
                         l->name, cp->name);
                return -E_CONFIG;
            }
            if (!is_any && !host_has_ip6(h, l->bind.ip) &&
                !(net_addr_is_v4(&l->bind) && host_has_ip4(h, l->bind.ip + 12))) {
                char text[NET_ADDR_TEXT_MAX];
                net_addr_format_ip(&l->bind, text);
                snprintf(err, err_cap, "listener %s: %s is not an address of port %s", l->name,
                         text, cp->name);
                return -E_CONFIG;
            }
            struct pkt_listener *pl = &h->listeners[h->listener_cnt++];
            *pl = (struct pkt_listener){(uint16_t)i, h->first[l->bind.port], l->bind};
            h->first[l->bind.port] = (uint8_t)h->listener_cnt;
        }
    }
    return 0;
}
