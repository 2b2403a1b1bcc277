/* ip_output.c - IP headers of the packets we send. */
#include "dataplane/net/pkt_int.h"

#define TTL_DEFAULT 64

/* Id 0 with "don't fragment": such packets need no unique id (RFC 6864). */
uint32_t ip4_output(uint8_t *out, const uint8_t src[4], const uint8_t dst[4], uint8_t proto,
                    uint32_t payload_len)
{
    memset(out, 0, IP4_LEN);
    out[0] = 0x45;
    store_be16(out + IP4_TOTAL_LEN, (uint16_t)(IP4_LEN + payload_len));
    store_be16(out + IP4_FRAG, IP4_DONT_FRAGMENT);
    out[IP4_TTL] = TTL_DEFAULT;
    out[IP4_PROTO] = proto;
    memcpy(out + IP4_SRC, src, 4);
    memcpy(out + IP4_DST, dst, 4);
    uint16_t sum = ip_checksum(ip_sum(out, IP4_LEN));
    memcpy(out + IP4_CHECKSUM, &sum, 2);
    return IP4_LEN;
}

uint32_t ip6_output(uint8_t *out, const uint8_t src[16], const uint8_t dst[16], uint8_t proto,
                    uint8_t hop_limit, uint32_t payload_len)
{
    memset(out, 0, IP6_LEN);
    out[0] = 0x60;
    store_be16(out + IP6_PAYLOAD_LEN, (uint16_t)payload_len);
    out[IP6_NEXT] = proto;
    out[IP6_HOP_LIMIT] = hop_limit;
    memcpy(out + IP6_SRC, src, 16);
    memcpy(out + IP6_DST, dst, 16);
    return IP6_LEN;
}
