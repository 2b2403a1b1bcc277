/* ctl_proto.h - the control socket between sluiced and the dataplane: frames, types, who says what.
 *
 * Socket: AF_UNIX stream, DIR/run/dataplane.sock. The dataplane listens, sluiced connects; one
 * connection at a time, a further one is closed at once while the first lives. Either side closes
 * on a frame it cannot read; sluiced connects again and starts over with the greeting.
 *
 * Frame, all integers big-endian:
 *     uint32 length   bytes after this field: 12 + body
 *     uint16 type     enum ctl_type
 *     uint16 flags    0; bits nobody knows are ignored
 *     uint64 id       a request's own number; an answer carries its request's. 0: no answer wanted
 *     body            message ctl_* of lib/wire/schema (wire_gen.h), version CTL_MESSAGE_VERSION
 * Ids are chosen by the side that asks and are unique among its unanswered requests. Answers may
 * come in any order; metadata batches are applied, and acknowledged, in the order they were sent.
 * A type nobody knows is skipped (it cannot be a request of the same protocol version).
 *
 *   from        type                    answered by, and when
 *   dataplane   HELLO                   HELLO_REPLY; always the first frame of a connection
 *   either      PING                    PONG
 *   sluiced     METADATA_BATCH          METADATA_APPLIED, when every shard serves the new image and
 *                                       the directories of its topics exist (or are gone)
 *   dataplane   ADMIN_REQUEST           ADMIN_RESPONSE. For CreateTopics, DeleteTopics and
 *                                       CreatePartitions sluiced answers after METADATA_APPLIED of
 *                                       the batch that carried the change
 *   dataplane   PRODUCER_IDS_REQUEST    PRODUCER_IDS_RESPONSE, the block's record is durable
 *   sluiced     PARTITION_STATS_REQUEST PARTITION_STATS_RESPONSE, one or more, last has more=false
 *   dataplane   PARTITIONS_MISSING      nothing: partitions whose directory cannot be made, now
 *   dataplane   GAP                     nothing
 *   sluiced     DRAIN_REQUEST           DRAIN_RESPONSE, everything flushed and closed
 *
 * Greeting. sluiced compares protocol version, build, cluster id and node id and answers with enum
 * ctl_hello_error. After CTL_HELLO_OK it appends to __cluster_metadata-0 what the registration
 * changes (RegisterBroker; one PartitionChange with the leader set per partition of hello.unclean,
 * which raises the leader epoch) and sends METADATA_BATCH: everything after hello.metadata_offset,
 * or a snapshot. The dataplane serves an unclean partition only after it applied that. After
 * CTL_HELLO_OTHER_BUILD or CTL_HELLO_OTHER_PROTOCOL sluiced sends DRAIN_REQUEST, waits for the
 * process to end and starts its own build.
 *
 * Large batches. A METADATA_BATCH with more=true is continued by the next METADATA_BATCH frame with
 * the same last_offset and is_snapshot; the dataplane collects the records and applies them all at
 * the last one, whose id is the one that is acknowledged.
 *
 * Any thread; the functions here are pure. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"

#define CTL_PROTOCOL_VERSION 1
#define CTL_MESSAGE_VERSION 0 /* version argument of ctl_*_read and ctl_*_write */
#define CTL_FRAME_HEAD 16
#define CTL_BODY_MAX (16u << 20)         /* a longer frame is -E_LIMIT: close */
#define CTL_RECORDS_BYTES_MAX (8u << 20) /* split METADATA_BATCH beyond this */

/* Equal to the `key` lines of lib/wire/schema/ctl_*.msg (a test compares them). */
enum ctl_type {
    CTL_HELLO = 1,
    CTL_HELLO_REPLY = 2,
    CTL_PING = 3,
    CTL_PONG = 4,
    CTL_DRAIN_REQUEST = 5,
    CTL_DRAIN_RESPONSE = 6,
    CTL_METADATA_BATCH = 16,
    CTL_METADATA_APPLIED = 17,
    CTL_ADMIN_REQUEST = 18,
    CTL_ADMIN_RESPONSE = 19,
    CTL_PRODUCER_IDS_REQUEST = 20,
    CTL_PRODUCER_IDS_RESPONSE = 21,
    CTL_PARTITION_STATS_REQUEST = 32,
    CTL_PARTITION_STATS_RESPONSE = 33,
    CTL_PARTITIONS_MISSING = 34,
    CTL_GAP = 36,
};

/* hello_reply.error_code */
enum ctl_hello_error {
    CTL_HELLO_OK = 0,
    CTL_HELLO_OTHER_PROTOCOL = 1, /* it will be drained and restarted */
    CTL_HELLO_OTHER_BUILD = 2,    /* likewise */
    CTL_HELLO_OTHER_CLUSTER = 3,  /* cluster or node id differ: sluiced reports and gives up */
};
/* hello.listeners[].kind */
enum ctl_listener_kind {
    CTL_LISTENER_KAFKA = 1,
    CTL_LISTENER_INGEST_UDP = 2,
    CTL_LISTENER_INGEST_TCP = 3,
    CTL_LISTENER_DPDK = 4, /* an ingest listener on a DPDK port */
};
/* gap.kind */
enum ctl_gap_kind {
    CTL_GAP_STOP = 1,      /* a clean stop */
    CTL_GAP_CRASH = 2,     /* the process died */
    CTL_GAP_RESHARD = 3,   /* shard or partition count changed: order boundary */
    CTL_GAP_DISK_FULL = 4, /* segments were dropped before their retention time */
};

struct ctl_frame {
    uint16_t type, flags;
    uint64_t id;
    struct span body; /* borrows the receive buffer */
};

/* Writes the CTL_FRAME_HEAD bytes that stand before a body of body_len bytes. */
static inline void ctl_frame_head(uint8_t p[CTL_FRAME_HEAD], uint16_t type, uint64_t id,
                                  uint32_t body_len)
{
    store_be32(p, body_len + CTL_FRAME_HEAD - 4);
    store_be16(p + 4, type);
    store_be16(p + 6, 0);
    store_be64(p + 8, id);
}

/* The frame at the start of `bytes`: its whole length (remove that many bytes when done with it),
 * or -EAGAIN       not all there yet: read more (at most CTL_FRAME_HEAD + CTL_BODY_MAX)
 *   -E_MALFORMED  shorter than its head: close
 *   -E_LIMIT      longer than CTL_BODY_MAX: close */
NODISCARD static inline int ctl_frame_parse(struct span bytes, struct ctl_frame *ret)
{
    if (bytes.len < 4)
        return -EAGAIN;
    uint32_t len = load_be32(bytes.p);
    if (len < CTL_FRAME_HEAD - 4)
        return -E_MALFORMED;
    if (len > CTL_FRAME_HEAD - 4 + CTL_BODY_MAX)
        return -E_LIMIT;
    if (bytes.len - 4 < len)
        return -EAGAIN;
    ret->type = load_be16(bytes.p + 4);
    ret->flags = load_be16(bytes.p + 6);
    ret->id = load_be64(bytes.p + 8);
    ret->body = span_of(bytes.p + CTL_FRAME_HEAD, len - (CTL_FRAME_HEAD - 4));
    return (int)len + 4;
}
