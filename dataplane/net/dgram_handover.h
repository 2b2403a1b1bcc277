/* dgram_handover.h - which shard a datagram belongs to, and taking it there.
 *
 * Events of one source keep their order because all of them pass through one shard: source_shard().
 * The kernel's reuseport filter (sock_open.c) and the NIC's RSS bring most datagrams to the right
 * shard by themselves; the check here makes it certain. Foreign datagrams are copied into pooled
 * messages (MSG_DGRAMS), one per burst, listener and target, and delivered there.
 *
 * Memory: msg_cnt messages of msg_bytes, at creation. With none free a datagram is dropped and
 * counted: waiting would hold up the shard's own traffic.
 * Runs on: the owning shard. */
#pragma once
#include "dataplane/flow.h"
#include "dataplane/shard/mbox.h"
#include "lib/base/err.h"

/* The hash behind source_shard: 32-bit arithmetic only, so that the kernel's classic BPF can do the
 * same (sock_open.c holds that twin). It is not source_hash(): partitions are chosen by that one,
 * and two independent hashes keep a shard from using only some of its partitions. */
#define SOURCE_SHARD_M1 0x9E3779B1u
#define SOURCE_SHARD_M2 0x85EBCA77u
static inline uint32_t source_shard_hash(const struct net_addr *a)
{
    uint32_t h =
        load_be32(a->ip) ^ load_be32(a->ip + 4) ^ load_be32(a->ip + 8) ^ load_be32(a->ip + 12);
    h *= SOURCE_SHARD_M1;
    h ^= h >> 16;
    h *= SOURCE_SHARD_M2;
    return h >> 16;
}
static inline uint16_t source_shard(const struct net_addr *a, uint16_t shard_cnt)
{
    return shard_cnt <= 1 ? 0 : (uint16_t)(source_shard_hash(a) % shard_cnt);
}

/* What receives datagrams: ingest. They are borrowed until the end of the turn. Returns how many
 * were taken in; what it refuses it has counted. */
typedef uint32_t dgram_deliver_fn(void *arg, uint16_t listener, const struct dgram *dg, uint32_t n);

/* `n` datagrams of a listener found no message; they are gone. */
typedef void dgram_dropped_fn(void *arg, uint16_t listener, uint32_t n);

struct dgram_handover;
struct dgram_handover_cfg {
    struct mbox *mbox;
    uint16_t shard, shard_cnt;
    uint32_t msg_cnt; /* messages (0: 64) */
    uint32_t
        msg_bytes; /* datagram bytes in one; also the largest that can be handed over (0: 64 KiB) */
    dgram_deliver_fn *deliver; /* for datagrams that others hand to this shard */
    dgram_dropped_fn *dropped; /* may be NULL */
    void *arg;
};
struct dgram_handover_stats {
    uint64_t sent, received; /* datagrams */
    uint64_t dropped;        /* no free message, or larger than one */
    uint64_t dropped_bytes;
};
NODISCARD int dgram_handover_create(const struct dgram_handover_cfg *cfg,
                                    struct dgram_handover **ret);
/* All messages must be home again (stop senders, poll mboxes first). Accepts NULL. */
void dgram_handover_destroy(struct dgram_handover *h);

/* Keep this shard's datagrams at the front of dg[], in order, and send away the others. Returns how
 * many stay. */
uint32_t dgram_handover_split(struct dgram_handover *h, uint16_t listener, struct dgram *dg,
                              uint32_t n);
/* Bodies of the MSG_DGRAMS handlers: pipeline.c binds them. A request is delivered at once and
 * given back by turn_end, because parsers borrow the bytes until then. */
void dgram_handover_on_request(struct dgram_handover *h, struct msg *m);
void dgram_handover_on_reply(struct dgram_handover *h, struct msg *m);
/* Last in the turn (before the mbox flushes, or the next turn flushes). */
void dgram_handover_turn_end(struct dgram_handover *h);
/* Messages at home: a source that can wait (a device queue) takes nothing while there are few. */
uint32_t dgram_handover_free_cnt(const struct dgram_handover *h);
/* Messages not at home: 0 before destroy. */
uint32_t dgram_handover_in_flight(const struct dgram_handover *h);
const struct dgram_handover_stats *dgram_handover_stats(const struct dgram_handover *h);
