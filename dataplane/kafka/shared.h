/* shared.h - the little that all shards count together: bytes of clients with a quota, and
 * connections. One per process; every shard's struct shard points to it.
 *
 * Everything is an atomic word that any shard may change at any time; nothing is locked, nobody
 * waits. Why not messages: a byte rate or a limit of connections is only exact when it is counted
 * in one place, and a request would have to wait for another core's answer (docs/adr/0006).
 *
 * Byte rates. Per bucket one word holds the time until which the client has used its rate: taking n
 * bytes moves it by n / rate. Behind "now" by up to QUOTA_BURST_NS it is credit (what a client that
 * paused may send at once), ahead of now it is debt (for how long it should be silent). Over any
 * time t a client so gets through at most rate * (t + burst), plus what it had in flight when the
 * debt began. A bucket belongs to names and a rate: with another rate counting starts anew.
 * Limit: QUOTA_BUCKETS at once; an unused bucket is taken over, and when QUOTA_PROBES neighbours
 * are all in use, two clients share one (both are slowed, none is let through).
 *
 * Connections. Counted over all listeners, and per address, in words of 40 bits of the address's
 * hash and 24 of count. Two shards that meet the first two connections of an address at the same
 * time may count them apart until those close. Who finds no word is not counted by address. */
#pragma once
#include "lib/base/err.h"
#include "lib/iface/net_addr.h"
#include <stdbool.h>
#include <stdint.h>

#define QUOTA_BURST_NS UINT64_C(1000000000)
#define QUOTA_BUCKETS 8192 /* a power of two */
#define QUOTA_PROBES 8
#define CONN_SLOT_NONE UINT32_MAX

struct kafka_shared;
/* conns_max: of all shards together, sizes the table. 0 or -ENOMEM. */
NODISCARD int kafka_shared_create(uint32_t conns_max, struct kafka_shared **ret);
void kafka_shared_destroy(struct kafka_shared *ks); /* NULL is fine */

/* Count `bytes` at `rate` bytes a second in bucket `key` (a hash of whom; not the rate). Returns
 * the debt: for how many ns the client should be silent, 0 within its rate. bytes 0 only asks. */
uint64_t quota_take(struct kafka_shared *ks, uint64_t key, double rate, uint64_t bytes,
                    uint64_t now_ns);

enum conn_verdict { CONN_COUNTED, CONN_TOO_MANY, CONN_TOO_MANY_OF_ADDRESS };
/* Count one connection unless a limit is reached. *ret_slot goes to conn_uncount. */
enum conn_verdict conn_count(struct kafka_shared *ks, const struct net_addr *peer, uint32_t max,
                             uint32_t max_per_ip, uint32_t *ret_slot);
void conn_uncount(struct kafka_shared *ks, uint32_t slot);
/* Now, for metrics and tests. */
uint32_t conn_total(const struct kafka_shared *ks);
