/* udp_input.c - UDP (RFC 768): length, checksum, and which listener the datagram is for. */
#include "dataplane/net/pkt_int.h"
#include "lib/iface/net_addr.h"

/* The destination in the form of the listener table. */
static bool listener_serves(const struct pkt_listener *l, const struct pkt *p)
{
    bool is_v4_bind = net_addr_is_v4(&l->bind);
    if (net_addr_is_any(&l->bind)) /* "*" and [::] serve both families, 0.0.0.0 only IPv4 */
        return !(is_v4_bind && p->is_v6);
    if (p->is_v6)
        return !is_v4_bind && memcmp(l->bind.ip, p->ip + IP6_DST, 16) == 0;
    return is_v4_bind && memcmp(l->bind.ip + 12, p->ip + IP4_DST, 4) == 0;
}

static const struct pkt_listener *listener_find(const struct pkt_host *h, uint16_t port,
                                                const struct pkt *p)
{
    for (uint32_t i = h->first[port]; i != 0; i = h->listeners[i - 1].next)
        if (likely(listener_serves(&h->listeners[i - 1], p)))
            return &h->listeners[i - 1];
    return NULL;
}

/* A zero checksum means "none" in IPv4 and is an error in IPv6 (RFC 8200, 8.1). */
static bool checksum_ok(const struct pkt *p, uint32_t len)
{
    if (p->l4.p[UDP_CHECKSUM] == 0 && p->l4.p[UDP_CHECKSUM + 1] == 0)
        return !p->is_v6;
    uint64_t sum = p->is_v6 ? ip_pseudo_sum(p->ip + IP6_SRC, 32, PROTO_UDP, len)
                            : ip_pseudo_sum(p->ip + IP4_SRC, 8, PROTO_UDP, len);
    return ip_fold(sum + ip_sum(p->l4.p, len)) == 0xffff;
}

void udp_input(const struct pkt_host *h, uint32_t flags, struct pkt *p)
{
    if (unlikely(p->l4.len < UDP_LEN)) {
        pkt_drop(p, PDROP_udp_header);
        return;
    }
    uint32_t len = load_be16(p->l4.p + UDP_LENGTH);
    if (unlikely(len < UDP_LEN || len > p->l4.len)) {
        pkt_drop(p, PDROP_udp_header);
        return;
    }
    if (!(flags & PKT_L4_CHECKSUM_OK) && !checksum_ok(p, len)) {
        pkt_drop(p, PDROP_udp_checksum);
        return;
    }
    const struct pkt_listener *l = listener_find(h, load_be16(p->l4.p + UDP_DST_PORT), p);
    if (unlikely(l == NULL)) {
        pkt_drop(p, PDROP_udp_port);
        return;
    }
    p->kind = PKT_UDP;
    p->listener = l->id;
    p->src.port = load_be16(p->l4.p + UDP_SRC_PORT);
    p->payload = span_of(p->l4.p + UDP_LEN, len - UDP_LEN);
}
