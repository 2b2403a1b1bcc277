/* pkt_int.h - the layers behind pkt.h, one function each, called downwards by the one before.
 * Runs on: any thread. */
#pragma once
#include "dataplane/net/ip.h"
#include "dataplane/net/pkt.h"
#include "lib/base/assert.h"

static inline void pkt_drop(struct pkt *p, enum port_drop why)
{
    p->kind = PKT_DROP;
    p->why = (uint8_t)why;
}
static inline bool mac_eq(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, ETH_ADDR_LEN) == 0;
}
/* The first bit sent: group address. */
static inline bool mac_is_group(const uint8_t *mac)
{
    return (mac[0] & 1) != 0;
}
bool host_has_ip4(const struct pkt_host *h, const uint8_t ip[4]);
bool host_has_ip6(const struct pkt_host *h, const uint8_t ip[16]);
/* The solicited-node group of one of our IPv6 addresses (ff02::1:ffxx:xxxx), or all nodes. */
bool host_has_group6(const struct pkt_host *h, const uint8_t ip[16]);

/* Each parses `bytes` and sets p->kind. */
void arp_input(const struct pkt_host *h, struct span bytes, struct pkt *p);
void ip4_input(const struct pkt_host *h, struct span bytes, uint32_t flags, struct pkt *p);
void ip6_input(const struct pkt_host *h, struct span bytes, uint32_t flags, struct pkt *p);
void l4_input(const struct pkt_host *h, uint32_t flags, struct pkt *p);
void icmp4_input(const struct pkt_host *h, struct pkt *p);
void icmp6_input(const struct pkt_host *h, struct pkt *p);
void udp_input(const struct pkt_host *h, uint32_t flags, struct pkt *p);

/* Headers. Each returns the number of bytes it wrote. */
uint32_t eth_output(const struct pkt_host *h, uint8_t *out, const uint8_t dst[6], uint16_t type);
uint32_t ip4_output(uint8_t *out, const uint8_t src[4], const uint8_t dst[4], uint8_t proto,
                    uint32_t payload_len);
uint32_t ip6_output(uint8_t *out, const uint8_t src[16], const uint8_t dst[16], uint8_t proto,
                    uint8_t hop_limit, uint32_t payload_len);
uint32_t arp_output(uint8_t *out, uint16_t op, const uint8_t sha[6], const uint8_t spa[4],
                    const uint8_t tha[6], const uint8_t tpa[4]);
/* The answers: from behind the Ethernet header on; bytes written, 0 when they pass cap. */
uint32_t icmp4_echo_reply(const struct pkt *p, uint8_t *out, uint32_t cap);
uint32_t icmp6_echo_reply(const struct pkt *p, uint8_t *out, uint32_t cap);
/* Neighbour advertisement for `target`, from it to `dst`. */
uint32_t nd_advertise(const struct pkt_host *h, uint8_t *out, uint32_t cap,
                      const uint8_t target[16], const uint8_t dst[16], uint8_t flags);
