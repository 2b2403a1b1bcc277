/* counters.h - the counters of one shard as structs made from counters.def and drop.def.
 *
 * A shard owns one struct counters and adds to it with plain additions, anywhere in a turn; at the
 * end of a turn it publishes the whole (stats_publish in lib/iface/stats_shm.h). Three ledgers, one
 * unit each, must balance at that moment:
 *   port      frames      seen = to_udp + to_host + handled + in_reassembly + drop[]
 *   listener  datagrams   received = parsed + in_reassembly + drop[]
 *   events    events      produced = durable + dead_lettered_durable + in_flight + drop[]
 * Every field is a uint64_t, so that a struct is also an array of words.
 * Runs on: the owning shard (the structs themselves: any thread, on copies). */
#pragma once
#include "lib/base/counter.h"
#include <assert.h>
#include <stdint.h>

#define COUNTERS_PORTS_MAX 8      /* = CONF_PORTS_MAX, asserted in stats_shm.c */
#define COUNTERS_LISTENERS_MAX 32 /* = CONF_LISTENERS_MAX */

/* Why a frame, datagram or event was dropped: PDROP_x, DDROP_x, EDROP_x. */
enum port_drop {
#define DROP_PORT(name, help) PDROP_##name,
#include "dataplane/drop.def"
    PDROP_CNT
};
enum dgram_drop {
#define DROP_DGRAM(name, help) DDROP_##name,
#include "dataplane/drop.def"
    DDROP_CNT
};
enum event_drop {
#define DROP_EVENT(name, help) EDROP_##name,
#include "dataplane/drop.def"
    EDROP_CNT
};

struct shard_stats {
#define SHARD_STAT(name, kind, help) uint64_t name;
#define SHARD_HIST(name, cnt, kind, help) uint64_t name[cnt];
#include "dataplane/counters.def"
};
struct port_stats {
#define PORT_STAT(name, kind, help) uint64_t name;
#include "dataplane/counters.def"
    uint64_t drop[PDROP_CNT];
};
struct listener_stats {
#define LISTENER_STAT(name, kind, help) uint64_t name;
#include "dataplane/counters.def"
    uint64_t drop[DDROP_CNT];
};
struct event_stats {
#define EVENT_STAT(name, kind, help) uint64_t name;
#include "dataplane/counters.def"
    uint64_t drop[EDROP_CNT];
};

struct counters {
    struct shard_stats shard;
    struct port_stats port[COUNTERS_PORTS_MAX];             /* by index in conf.ports */
    struct listener_stats listener[COUNTERS_LISTENERS_MAX]; /* by index in conf.listeners */
    struct event_stats events[COUNTERS_LISTENERS_MAX];
};
static_assert(sizeof(struct counters) % sizeof(uint64_t) == 0, "counters are words");
