/* net_addr.h - text <-> struct net_addr (dataplane/flow.h) <-> the system's socket addresses.
 *
 *     "127.0.0.1:9092"   IPv4, kept v4-mapped
 *     "[::1]:5514"       IPv6 in brackets
 *     "*:9092"           any address of both families; the same as "[::]:9092"
 *     "0.0.0.0:9092"     any IPv4 address only
 * Runs on: any thread; no state. Names are not resolved. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include <sys/socket.h>

/* "[" 45 "]:" 5 and a NUL. */
#define NET_ADDR_TEXT_MAX 56

/* Parse ADDRESS:PORT of len bytes. 0, or -E_CONFIG when it is not one of the forms above (ports
 * are decimal, 0 to 65535, without sign or spaces). *ret_addr is written only on success. */
NODISCARD int net_addr_parse(const char *text, uint32_t len, struct net_addr *ret_addr);
/* The same for an address without a port ("10.0.0.1", "::1", "[::1]", "*"); port becomes 0. */
NODISCARD int net_addr_parse_ip(const char *text, uint32_t len, struct net_addr *ret_addr);
/* Writes the text and a NUL; returns its length. net_addr_parse reads it back to the same value. */
uint32_t net_addr_format(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX]);
/* Without brackets and port: the form of the `source` header. */
uint32_t net_addr_format_ip(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX]);

/* ::ffff:a.b.c.d */
bool net_addr_is_v4(const struct net_addr *a);
/* 0.0.0.0 or :: */
bool net_addr_is_any(const struct net_addr *a);
/* 127.0.0.0/8 or ::1 */
bool net_addr_is_loopback(const struct net_addr *a);
bool net_addr_eq(const struct net_addr *a, const struct net_addr *b);
/* From four bytes in network order. */
struct net_addr net_addr_v4(const uint8_t ip[4], uint16_t port);

/* IPv4 becomes AF_INET, all else AF_INET6. Returns the length to pass to bind or connect. */
socklen_t net_addr_to_sockaddr(const struct net_addr *a, struct sockaddr_storage *ret_ss);
/* 0, or -EAFNOSUPPORT for other families or a short len. */
NODISCARD int net_addr_from_sockaddr(const struct sockaddr *sa, socklen_t len,
                                     struct net_addr *ret_addr);
