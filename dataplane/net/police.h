/* police.h - how many datagrams a source may send: token buckets by source prefix, asked before
 * anything is parsed, so that one device in a boot loop does not crowd out the others.
 *
 * A rule (conf.police_rules) names a prefix, a rate and a burst. The longest prefix that matches a
 * source decides. Either every source of the prefix has a bucket of its own, which is exact because
 * all datagrams of a source pass one shard (dgram_handover.h), or all of them share one, which the
 * shards take from together. Sources without a rule are not limited, nor are streams: those are
 * slowed by their window.
 *
 * A bucket is one number (bucket.h). DPDK's rte_meter was the alternative: two numbers and a colour
 * that nobody here needs, no atomic form for the shared bucket, and kernel sockets are policed,
 * too.
 *
 * Memory: police_sources_max entries per shard, at creation, in sets of POLICE_WAYS. In a full set
 * the source goes whose bucket is or will be full first: one that is full already loses nothing but
 * its counts.
 * Runs on: the owning shard; struct police_shared by all. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include "lib/iface/conf.h"
#include "lib/iface/stats_shm.h"

#define POLICE_WAYS 8u

struct police;
struct police_shared; /* the buckets that shards share: one per process */

NODISCARD int police_shared_create(struct police_shared **ret); /* 0 or -ENOMEM */
void police_shared_destroy(struct police_shared *sh);           /* accepts NULL */

/* NULL in *ret: conf has no rules. 0 or -ENOMEM. conf and sh outlive it. */
NODISCARD int police_create(const struct conf *conf, struct police_shared *sh, struct police **ret);
void police_destroy(struct police *p); /* accepts NULL */

/* @hot. Move the datagrams that may pass to the front of dg[], in order; how many those are. */
uint32_t police_burst(struct police *p, uint64_t now_ns, struct dgram *dg, uint32_t n);
/* Datagrams refused since creation. */
uint64_t police_refused_cnt(const struct police *p);
/* Sources that have rules and that this table knows, those with most refused first, then those with
 * most passed; how many were written. */
uint32_t police_top(const struct police *p, struct stats_talker out[STATS_TALKERS_MAX]);
