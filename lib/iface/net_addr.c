/* net_addr.c - see net_addr.h. */
#include "lib/iface/net_addr.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const uint8_t zero_ip[16];

bool net_addr_is_v4(const struct net_addr *a)
{
    return memcmp(a->ip, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool net_addr_is_any(const struct net_addr *a)
{
    if (net_addr_is_v4(a))
        return memcmp(a->ip + 12, zero_ip, 4) == 0;
    return memcmp(a->ip, zero_ip, 16) == 0;
}

bool net_addr_is_loopback(const struct net_addr *a)
{
    if (net_addr_is_v4(a))
        return a->ip[12] == 127;
    return memcmp(a->ip, zero_ip, 15) == 0 && a->ip[15] == 1;
}

bool net_addr_eq(const struct net_addr *a, const struct net_addr *b)
{
    return a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

struct net_addr net_addr_v4(const uint8_t ip[4], uint16_t port)
{
    struct net_addr a = {.port = port};
    memcpy(a.ip, v4_prefix, sizeof(v4_prefix));
    memcpy(a.ip + 12, ip, 4);
    return a;
}

int net_addr_parse_ip(const char *text, uint32_t len, struct net_addr *ret_addr)
{
    char buf[INET6_ADDRSTRLEN];
    struct net_addr a = {.port = 0};
    if (len == 1 && text[0] == '*') {
        *ret_addr = a;
        return 0;
    }
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(buf) || memchr(text, 0, len) != NULL)
        return -E_CONFIG;
    memcpy(buf, text, len);
    buf[len] = 0;
    uint8_t ip4[4];
    if (!bracketed && inet_pton(AF_INET, buf, ip4) == 1)
        a = net_addr_v4(ip4, 0);
    else if (inet_pton(AF_INET6, buf, a.ip) != 1)
        return -E_CONFIG;
    *ret_addr = a;
    return 0;
}

int net_addr_parse(const char *text, uint32_t len, struct net_addr *ret_addr)
{
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL)
        return -E_CONFIG;
    uint32_t host_len = (uint32_t)(colon - text);
    uint32_t digits = len - host_len - 1;
    if (digits == 0 || digits > 5)
        return -E_CONFIG;
    uint32_t port = 0;
    for (uint32_t i = 0; i < digits; i++) {
        char c = colon[1 + i];
        if (c < '0' || c > '9')
            return -E_CONFIG;
        port = port * 10 + (uint32_t)(c - '0');
    }
    if (port > 65535)
        return -E_CONFIG;
    /* "::1:80" could be an address alone: IPv6 with a port needs its brackets. */
    if (text[0] != '[' && memchr(text, ':', host_len) != NULL)
        return -E_CONFIG;
    struct net_addr a;
    int rc = net_addr_parse_ip(text, host_len, &a);
    if (rc < 0)
        return rc;
    a.port = (uint16_t)port;
    *ret_addr = a;
    return 0;
}

/* inet_ntop goes through printf, which is felt where sources that share a slot of a cache
 * alternate.
 */
static uint32_t ip4_format(const uint8_t ip[4], char *out)
{
    char *to = out;
    for (int i = 0; i < 4; i++) {
        if (ip[i] >= 100)
            *to++ = (char)('0' + ip[i] / 100);
        if (ip[i] >= 10)
            *to++ = (char)('0' + ip[i] / 10 % 10);
        *to++ = (char)('0' + ip[i] % 10);
        *to++ = i < 3 ? '.' : '\0';
    }
    return (uint32_t)(to - out - 1);
}

uint32_t net_addr_format_ip(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX])
{
    if (net_addr_is_v4(a))
        return ip4_format(a->ip + 12, out);
    (void)inet_ntop(AF_INET6, a->ip, out, NET_ADDR_TEXT_MAX); /* cannot fail: it fits */
    return (uint32_t)strlen(out);
}

uint32_t net_addr_format(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX])
{
    char ip[NET_ADDR_TEXT_MAX];
    uint32_t len = net_addr_format_ip(a, ip);
    bool v4 = net_addr_is_v4(a);
    int n = snprintf(out, NET_ADDR_TEXT_MAX, v4 ? "%.*s:%u" : "[%.*s]:%u", (int)len, ip, a->port);
    return (uint32_t)n;
}

socklen_t net_addr_to_sockaddr(const struct net_addr *a, struct sockaddr_storage *ret_ss)
{
    memset(ret_ss, 0, sizeof(*ret_ss));
    if (net_addr_is_v4(a)) {
        struct sockaddr_in *sin = (struct sockaddr_in *)ret_ss;
        sin->sin_family = AF_INET;
        sin->sin_port = htons(a->port);
        memcpy(&sin->sin_addr, a->ip + 12, 4);
        return sizeof(*sin);
    }
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret_ss;
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(a->port);
    memcpy(&sin6->sin6_addr, a->ip, 16);
    return sizeof(*sin6);
}

int net_addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct net_addr *ret_addr)
{
    if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
        struct sockaddr_in sin;
        memcpy(&sin, sa, sizeof(sin));
        uint8_t ip[4];
        memcpy(ip, &sin.sin_addr, 4);
        *ret_addr = net_addr_v4(ip, ntohs(sin.sin_port));
        return 0;
    }
    if (len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
        struct sockaddr_in6 sin6;
        memcpy(&sin6, sa, sizeof(sin6));
        ret_addr->port = ntohs(sin6.sin6_port);
        memcpy(ret_addr->ip, &sin6.sin6_addr, 16);
        return 0;
    }
    return -EAFNOSUPPORT;
}
