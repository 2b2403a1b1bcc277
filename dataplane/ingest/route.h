/* route.h - from a listener and a source address to a partition.
 *
 *   order unit  (listener, source IP address): always the same partition while nothing changes
 *   partition   this shard owns some of the topic's: hash(source) over those, no rotation
 *               it owns none: hash(source) % partitions, sent to the owner as sealed batches
 * A route is looked up in the metadata image once per image, not per event. When a topic's id,
 * partition count or owners changed, its open batches are closed first: an order boundary.
 * Runs on: its shard. No allocation after create. */
#pragma once
#include "dataplane/ingest/accum.h"
#include "lib/iface/conf.h"

/* Partitions of one topic that one listener uses on one shard; of a larger topic the first ones. */
#define ROUTE_TARGETS_MAX 256u

struct route {
    const char *topic; /* name; borrowed from the configuration, or the route's owner */
    uint16_t listener;
    bool dead;
    enum conf_rule_compression compression; /* TOPIC: as the topic's configuration says */
    bool local;                             /* targets are this shard's own */
    bool present;                           /* the topic exists and its partitions have owners */
    struct uuid id;
    uint32_t cnt;
    struct target *target; /* ROUTE_TARGETS_MAX */
};

NODISCARD int route_init(struct route *r, const char *topic, uint16_t listener, bool dead,
                         enum conf_rule_compression compression);
void route_fini(struct route *r);
/* Look the topic up in s->image. Call when s->image is another one. */
void route_refresh(struct route *r, struct shard *s, struct accum *a);

/* @hot. The target of a source; only when present. Local targets are chosen by the hash's high
 * bits: its low bits may have chosen the shard already, and would then not spread. */
static inline struct target *route_pick(const struct route *r, uint32_t source_hash)
{
    uint32_t i =
        r->local ? (uint32_t)(((uint64_t)source_hash * r->cnt) >> 32) : source_hash % r->cnt;
    return &r->target[i];
}
