/* ip_limits.h - max.connections.per.ip.overrides: "10.0.0.1:100,::1:5,[2001:db8::1]:7", the most
 * connections of single addresses. Names are not resolved (Kafka would). Any thread. */
#pragma once
#include "lib/base/err.h"
#include "lib/iface/net_addr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0, or -E_CONFIG with a sentence in err[]. An empty text has no limits. */
NODISCARD int ip_limits_check(const char *text, char *err, size_t cap);
/* The limit of this address, in *ret_max; false: it has none. The last of two counts, as in Kafka.
 * What does not pass ip_limits_check is skipped. */
bool ip_limits_find(const char *text, const struct net_addr *addr, uint32_t *ret_max);
