/* pkt.h - the parsed view of one frame, and the frames that answer it: pure functions over bytes.
 *
 *     frame -> pkt_parse -> PKT_UDP      payload and listener, on its way to a parser
 *                           PKT_REPLY    ARP, ICMP echo, neighbour solicitation: pkt_reply answers
 *                           PKT_HANDLED  consumed: nothing to answer
 *                           PKT_FRAGMENT to reassembly (ip_reasm.h), then pkt_parse_whole
 *                           PKT_DROP     with the reason
 *
 * The files behind it are the layers: eth.c, arp.c, ip_input.c, icmp.c, udp_input.c, ip_output.c.
 * Everything that comes from the wire is checked: a view never points outside its frame.
 * Runs on: any thread; no state but struct pkt_host, which is read-only after start. No DPDK. */
#pragma once
#include "dataplane/counters.h"
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include "lib/iface/conf.h"

#define PKT_FRAME_OVERHEAD 18u /* Ethernet header and one VLAN tag */

/* Who we are on one port, and who listens there. */
struct pkt_host {
    uint8_t mac[6];
    uint16_t vlan; /* 0: untagged */
    uint16_t mtu;
    uint32_t addr_cnt;
    struct net_addr addrs[CONF_ADDRS_MAX];
    /* Listeners by UDP port: first[port] and next[] hold an index in listeners[] plus 1. Those
     * bound to one address come before those bound to any. */
    uint32_t listener_cnt;
    struct pkt_listener {
        uint16_t id; /* index in conf.listeners */
        uint8_t next;
        struct net_addr bind;
    } listeners[CONF_LISTENERS_MAX];
    uint8_t first[65536];
};
/* Fill *h from the configuration of port number `port`; mac as the device says. 0, or -E_CONFIG
 * with a sentence in err[] (a listener on an address that the port does not have, or TCP). */
NODISCARD int pkt_host_init(struct pkt_host *h, const struct conf *c, uint32_t port,
                            const uint8_t mac[6], char *err, size_t err_cap);

/* The multicast MAC addresses a device must let in for us: all nodes and the solicited-node group
 * of each IPv6 address. How many; 0: no IPv6 address. */
#define PKT_GROUPS_MAX (CONF_ADDRS_MAX + 1)
uint32_t pkt_host_groups(const struct pkt_host *h, uint8_t out[PKT_GROUPS_MAX][6]);

enum pkt_kind { PKT_UDP, PKT_REPLY, PKT_HANDLED, PKT_FRAGMENT, PKT_DROP };
enum pkt_reply_kind { PKT_REPLY_ARP, PKT_REPLY_ECHO4, PKT_REPLY_ECHO6, PKT_REPLY_ND };
struct pkt {
    uint8_t kind;  /* enum pkt_kind */
    uint8_t why;   /* PKT_DROP: enum port_drop */
    uint8_t reply; /* PKT_REPLY: enum pkt_reply_kind */
    bool is_v6;
    uint8_t proto; /* after the IP header and its extensions */
    /* PKT_FRAGMENT: l4 is the fragment's part of the datagram, frag_pos where it belongs. */
    bool frag_more;
    uint16_t frag_pos;
    uint32_t frag_id;
    uint16_t listener;   /* PKT_UDP */
    const uint8_t *eth;  /* the frame */
    const uint8_t *ip;   /* the IP header; ARP: the ARP packet */
    struct span l4;      /* what the IP packet carries */
    struct span payload; /* PKT_UDP: the datagram */
    struct net_addr src; /* port for PKT_UDP */
};

/* What a device has already found out about a frame. */
enum {
    PKT_IP_CHECKSUM_OK = 1,
    PKT_L4_CHECKSUM_OK = 2,
    PKT_VLAN_STRIPPED = 4, /* the tag is in `vlan_tci`, not in the frame */
};
/* @hot. The view borrows the frame. */
void pkt_parse(const struct pkt_host *h, const uint8_t *frame, uint32_t len, uint32_t flags,
               uint16_t vlan_tci, struct pkt *out);
/* May the frame be passed to the host's own stack, which serves what we do not: other EtherTypes,
 * IP protocols and UDP ports, groups, and what pkt_parse only consumed (answers to ARP, ICMP
 * errors)? *p is pkt_parse's view of it. */
bool pkt_is_for_host(const struct pkt_host *h, const struct pkt *p);
/* The same from the transport header on, for a datagram put together from fragments: *p is the view
 * of its last fragment, l4 the whole. */
void pkt_parse_whole(const struct pkt_host *h, struct pkt *p, struct span l4);

/* Write the frame that answers a PKT_REPLY. Its length, or 0: longer than the MTU or cap. */
uint32_t pkt_reply(const struct pkt_host *h, const struct pkt *p, uint8_t *out, uint32_t cap);
/* Write the unasked announcement of own address number i (gratuitous ARP, RFC 5227; unsolicited
 * neighbour advertisement), which makes neighbours forget another MAC. Its length; 0: cap. */
uint32_t pkt_announce(const struct pkt_host *h, uint32_t i, uint8_t *out, uint32_t cap);
