/* ip.h - numbers and byte offsets of Ethernet, ARP, IPv4, IPv6, ICMP and UDP, and the checksum of
 * RFC 1071. Headers are read and written by offset (lib/base/span.h), so alignment never matters.
 * Runs on: any thread. */
#pragma once
#include "lib/base/span.h"

enum { /* Ethernet, IEEE 802.3 and 802.1Q */
       ETH_DST = 0,
       ETH_SRC = 6,
       ETH_TYPE = 12,
       ETH_LEN = 14,
       ETH_VLAN_LEN = 4,
       ETH_ADDR_LEN = 6,
       ETHERTYPE_IP4 = 0x0800,
       ETHERTYPE_ARP = 0x0806,
       ETHERTYPE_VLAN = 0x8100,
       ETHERTYPE_IP6 = 0x86dd,
};
enum { /* ARP for IPv4 over Ethernet, RFC 826 */
       ARP_OP = 6,
       ARP_SHA = 8,
       ARP_SPA = 14,
       ARP_THA = 18,
       ARP_TPA = 24,
       ARP_LEN = 28,
       ARP_REQUEST = 1,
       ARP_REPLY = 2,
};
enum { /* IPv4, RFC 791 */
       IP4_TOTAL_LEN = 2,
       IP4_ID = 4,
       IP4_FRAG = 6,
       IP4_TTL = 8,
       IP4_PROTO = 9,
       IP4_CHECKSUM = 10,
       IP4_SRC = 12,
       IP4_DST = 16,
       IP4_LEN = 20, /* without options */
       IP4_MORE_FRAGMENTS = 0x2000,
       IP4_DONT_FRAGMENT = 0x4000,
       IP4_FRAG_POS_MASK = 0x1fff,
};
enum { /* IPv6, RFC 8200 */
       IP6_PAYLOAD_LEN = 4,
       IP6_NEXT = 6,
       IP6_HOP_LIMIT = 7,
       IP6_SRC = 8,
       IP6_DST = 24,
       IP6_LEN = 40,
       IP6_FRAG_LEN = 8,
};
enum {
    PROTO_HOP_BY_HOP = 0,
    PROTO_ICMP = 1,
    PROTO_UDP = 17,
    PROTO_ROUTING = 43,
    PROTO_FRAGMENT = 44,
    PROTO_ICMP6 = 58,
    PROTO_DST_OPTS = 60,
};
enum { UDP_SRC_PORT = 0, UDP_DST_PORT = 2, UDP_LENGTH = 4, UDP_CHECKSUM = 6, UDP_LEN = 8 };
enum { /* ICMP, RFC 792; ICMPv6, RFC 4443; neighbour discovery, RFC 4861 */
       ICMP_CHECKSUM = 2,
       ICMP_LEN = 8,
       ICMP_ECHO_REPLY = 0,
       ICMP_ECHO = 8,
       ICMP6_ECHO = 128,
       ICMP6_ECHO_REPLY = 129,
       ICMP6_NEIGHBOUR_SOLICITATION = 135,
       ICMP6_NEIGHBOUR_ADVERTISEMENT = 136,
       ND_TARGET = 8,
       ND_LEN = 24,
       ND_OPT_TARGET_MAC = 2,
       ND_SOLICITED = 0x40,
       ND_OVERRIDE = 0x20,
       ND_HOP_LIMIT = 255,
};

/* Sum of the bytes as 16-bit words in the machine's own order, an odd last byte padded with zero.
 * Sums of parts add up when every part but the last has an even length. */
static inline uint64_t ip_sum(const uint8_t *p, uint32_t len)
{
    uint64_t sum = 0, v;
    for (; len >= 8; p += 8, len -= 8) {
        memcpy(&v, p, 8);
        sum += (v & UINT32_MAX) + (v >> 32);
    }
    if (len > 0) {
        v = 0;
        memcpy(&v, p, len);
        sum += (v & UINT32_MAX) + (v >> 32);
    }
    return sum;
}
/* 16 bits of a sum: 0xffff for bytes that contain their right checksum. */
static inline uint16_t ip_fold(uint64_t sum)
{
    sum = (sum & UINT32_MAX) + (sum >> 32);
    sum = (sum & UINT32_MAX) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
/* The checksum for bytes with that sum, to be stored by memcpy. */
static inline uint16_t ip_checksum(uint64_t sum)
{
    return (uint16_t)~ip_fold(sum);
}
/* The pseudo header of UDP and ICMPv6: addresses (4 or 16 bytes each, adjacent), protocol, length.
 */
static inline uint64_t ip_pseudo_sum(const uint8_t *addrs, uint32_t addrs_len, uint8_t proto,
                                     uint32_t len)
{
    return ip_sum(addrs, addrs_len) + htobe32(len) + htobe16(proto);
}
