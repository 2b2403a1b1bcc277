/* arp.c - ARP for IPv4 over Ethernet (RFC 826): requests for our addresses are answered. */
#include "dataplane/net/pkt_int.h"

static const uint8_t arp_fixed[6] = {0, 1, 0x08, 0, 6, 4}; /* Ethernet, IPv4, address lengths */

void arp_input(const struct pkt_host *h, struct span bytes, struct pkt *p)
{
    if (bytes.len < ARP_LEN) {
        pkt_drop(p, PDROP_short_frame);
        return;
    }
    uint16_t op = load_be16(bytes.p + ARP_OP);
    if (memcmp(bytes.p, arp_fixed, sizeof(arp_fixed)) != 0 ||
        (op != ARP_REQUEST && op != ARP_REPLY) || mac_is_group(bytes.p + ARP_SHA)) {
        pkt_drop(p, PDROP_arp);
        return;
    }
    if (!host_has_ip4(h, bytes.p + ARP_TPA)) {
        pkt_drop(p, PDROP_not_for_us);
        return;
    }
    /* Our own announcement, looped back by a hub or a mirror port, needs no answer. */
    p->kind = op == ARP_REQUEST && !mac_eq(bytes.p + ARP_SHA, h->mac) ? PKT_REPLY : PKT_HANDLED;
    p->reply = PKT_REPLY_ARP;
}

uint32_t arp_output(uint8_t *out, uint16_t op, const uint8_t sha[6], const uint8_t spa[4],
                    const uint8_t tha[6], const uint8_t tpa[4])
{
    memcpy(out, arp_fixed, sizeof(arp_fixed));
    store_be16(out + ARP_OP, op);
    memcpy(out + ARP_SHA, sha, 6);
    memcpy(out + ARP_SPA, spa, 4);
    memcpy(out + ARP_THA, tha, 6);
    memcpy(out + ARP_TPA, tpa, 4);
    return ARP_LEN;
}
