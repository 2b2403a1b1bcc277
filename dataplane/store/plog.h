/* plog.h - a partition log: segments, offsets, group commit.
 *
 *     plog_append -> staging -> group commit (journal, or the segment itself) -> durable
 *                                    `-> drained to the segment later
 *
 * Runs on: the shard owning the partition; nothing here blocks (directory work goes to a
 * housekeeping thread). Opening is done by recover.c at start or by the control thread at creation;
 * plog_attach hands the opened partition to its shard.
 *
 * Always: log_start <= recovery_point <= durable <= next (plog_check asserts it)
 *   next     log end offset (LEO): one past the last appended record
 *   durable  one past the last record that a power cut cannot take back = high watermark
 *   stable   last stable offset: durable, or the first offset of the oldest open transaction
 *   log_start, recovery_point as in Kafka */
#pragma once
#include "dataplane/flow.h"
#include "dataplane/io/file.h"
#include "dataplane/shard/msg.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/batch/check.h"

struct plog;
struct plog_set;
struct shard;

/* What the topic's configuration says about its log; copied, may be replaced live. */
struct plog_conf {
    uint64_t segment_bytes;        /* segment.bytes */
    int64_t segment_ms;            /* segment.ms */
    uint32_t index_interval_bytes; /* index.interval.bytes */
    uint32_t index_bytes_max;      /* segment.index.bytes */
    int64_t retention_ms, retention_bytes; /* -1: none */
    uint32_t max_message_bytes;
    bool log_append_time;
    bool compact, delete_;
};

/* Who appends (kraft-join 10.6): clients are checked against producer state; our own ingest and
 * coordinators are trusted with the batch but get offsets the same way. */
enum plog_origin { PLOG_CLIENT, PLOG_INGEST, PLOG_COORDINATOR };

/* One append. The caller's memory, and `batch`'s bytes, until done() (or the reply) - except that
 * the bytes are copied before plog_append returns when rc is already set or wait is APPENDED.
 * Starts with struct msg: it travels to the owning shard as MSG_PRODUCE / MSG_SEALED. */
struct plog_append {
    struct msg msg;
    struct uuid topic_id;
    int32_t partition;
    enum plog_origin origin;
    bool wait_durable;             /* acks=all: done after the flush; else after the append */
    struct span batch;             /* exactly one RecordBatch v2, checked by its origin */
    int64_t max_timestamp_ms;      /* recomputed by the check */
    /* results, valid in done() */
    int rc;                        /* 0 or -E_* */
    int64_t base_offset;           /* the original one for a duplicate */
    int64_t log_append_time_ms;    /* -1 unless LogAppendTime */
    int64_t log_start_offset;
    int32_t leader_epoch;
    struct list link;              /* the plog's, while it waits */
    void (*done)(struct plog_append *a); /* on the owner; never inside plog_append */
};
/* Queue one append. All checks that need partition state (producer sequence, duplicate, size, disk
 * full, fenced) happen here; the answer always comes through a->done, on a later turn or stage. */
void plog_append(struct plog *p, struct plog_append *a);

enum plog_isolation { PLOG_READ_UNCOMMITTED, PLOG_READ_COMMITTED };
/* One read of whole batches into the caller's buffer; the caller's memory until done(). */
struct plog_read {
    struct msg msg;
    struct uuid topic_id;
    int32_t partition;
    int64_t offset;
    int32_t current_leader_epoch;  /* -1: not checked */
    int32_t last_fetched_epoch;    /* -1: not checked */
    uint32_t max_bytes;
    bool min_one_batch;            /* first batch whole even if larger than max_bytes */
    enum plog_isolation isolation;
    uint8_t *dst;                  /* any alignment */
    uint32_t dst_cap;
    /* results */
    int rc;                        /* 0, -E_OFFSET_OUT_OF_RANGE, -E_DST_SMALL (need says how much), ... */
    uint32_t len, need;
    int64_t high_watermark, last_stable_offset, log_start_offset;
    int32_t diverging_epoch;       /* -1: none */
    int64_t diverging_end_offset;
    struct list link;
    void (*done)(struct plog_read *r);
};
void plog_read(struct plog *p, struct plog_read *r);

/* A parked fetch at the owner: fires once when `durable` (or `stable`) passes `offset` by at least
 * min_bytes, or the partition goes away, or it is cancelled. */
struct plog_wait {
    struct msg msg;
    struct uuid topic_id;
    int32_t partition;
    int64_t offset;
    uint32_t min_bytes;
    enum plog_isolation isolation;
    struct list link;
    void (*done)(struct plog_wait *w);
};
void plog_wait(struct plog *p, struct plog_wait *w);
void plog_wait_cancel(struct plog_wait *w);

/* ListOffsets special timestamps are the protocol's (-1 latest, -2 earliest, -3 max timestamp, ...). */
struct plog_list_offsets {
    struct msg msg;
    struct uuid topic_id;
    int32_t partition;
    int64_t timestamp;
    enum plog_isolation isolation;
    int32_t current_leader_epoch;
    /* results */
    int rc;
    int64_t offset, ret_timestamp;
    int32_t leader_epoch;
    struct list link;
    void (*done)(struct plog_list_offsets *q);
};
void plog_list_offsets(struct plog *p, struct plog_list_offsets *q);

struct plog_offsets {
    int64_t log_start, recovery_point, durable, stable, next;
    int32_t leader_epoch;
    uint64_t size_bytes;
    uint64_t unflushed_bytes;
    uint32_t segment_cnt;
};
void plog_offsets_get(const struct plog *p, struct plog_offsets *ret);

/* The partitions of one shard. plog_set_find is O(1); NULL when the shard does not own it. */
struct plog *plog_set_find(struct plog_set *set, const struct uuid *topic_id, int32_t partition);
/* Stage bodies: form commit groups, submit, drain, timers. */
uint32_t plog_set_poll(struct plog_set *set, uint32_t budget);
