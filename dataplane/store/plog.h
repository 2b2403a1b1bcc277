/* plog.h - a partition log: segments, offsets, group commit.
 *
 *     plog_append -> staging -> group commit (journal, or the segment itself) -> durable
 *                                    `-> drained to the segment later
 *
 * Runs on: the shard owning the partition; nothing here blocks (directory work goes to a
 * housekeeping thread). Opening is done by recovery at start or by the control thread at creation;
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
#include "dataplane/store/format.h"
#include "dataplane/store/txn_index.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/batch/check.h"

struct plog;
struct plog_set;
struct shard;

/* What the topic's configuration says about its log; copied, may be replaced live. */
struct plog_conf {
    uint64_t segment_bytes;                /* segment.bytes */
    int64_t segment_ms;                    /* segment.ms */
    int64_t segment_jitter_ms;             /* segment.jitter.ms */
    uint32_t index_interval_bytes;         /* index.interval.bytes */
    uint32_t index_bytes_max;              /* segment.index.bytes */
    int64_t retention_ms, retention_bytes; /* -1: none */
    uint32_t max_message_bytes;
    bool log_append_time;
    bool compact, delete_;
    double min_dirty_ratio;        /* min.cleanable.dirty.ratio */
    int64_t min_compaction_lag_ms; /* min.compaction.lag.ms */
    int64_t max_compaction_lag_ms; /* max.compaction.lag.ms */
    int64_t delete_retention_ms;   /* delete.retention.ms */
    bool recode;                   /* sealed plain batches are compressed later ... */
    uint8_t recode_codec;          /* ... with this (enum codec_id) */
    int16_t recode_level;          /* 0: the codec's default */
};

/* Who appends (kraft-join 10.6): clients are checked against producer state; our own ingest and
 * coordinators are trusted with the batch but get offsets the same way. */
enum plog_origin { PLOG_CLIENT, PLOG_INGEST, PLOG_COORDINATOR };

/* One append. The struct and `batch`'s bytes are the caller's and stay unchanged until done() (or
 * the reply): with memory short the append waits in a bounded queue before it is copied. Starts
 * with struct msg: it travels to the owning shard as MSG_PRODUCE / MSG_SEALED. */
struct plog_append {
    struct msg msg;
    struct uuid topic_id;
    int32_t partition;
    enum plog_origin origin;
    bool wait_durable; /* acks=all: done after the flush; else after the append */
    bool
        txn_verified; /* a client's transactional batch: the coordinator has this partition in it */
    bool txn_v2;      /* records or marker of a client that speaks KIP-890 (producer.h) */
    struct span batch;        /* exactly one RecordBatch v2, checked by its origin */
    int64_t max_timestamp_ms; /* recomputed by the check */
    /* Set inside plog_append or, for an append that had to wait for memory, before done: the log
     * holds a copy, the memory of `batch` is its owner's again. */
    bool is_copied;
    /* results, valid in done() */
    int rc;                     /* 0 or -E_* */
    int64_t base_offset;        /* the original one for a duplicate */
    int64_t log_append_time_ms; /* -1 unless LogAppendTime */
    int64_t log_start_offset;
    int32_t leader_epoch;
    int64_t last_offset;                 /* of the batch, or of the original */
    struct list link;                    /* the plog's, while it waits */
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
    int32_t current_leader_epoch; /* -1: not checked */
    int32_t last_fetched_epoch;   /* -1: not checked */
    uint32_t max_bytes;
    bool min_one_batch; /* first batch whole even if larger than max_bytes */
    enum plog_isolation isolation;
    uint8_t *dst; /* any alignment */
    uint32_t dst_cap;
    /* results */
    int rc; /* 0, -E_OFFSET_OUT_OF_RANGE, -E_DST_SMALL (need says how much), -E_CORRUPT_BATCH, ...
             */
    /* With -E_CORRUPT_BATCH: the records from `offset` up to here are lost, and it may be read on
     * from here; -1: not known yet, the damage is being looked at. */
    int64_t damaged_to;
    uint32_t len, need;
    int64_t high_watermark, last_stable_offset, log_start_offset;
    int32_t diverging_epoch; /* -1: none */
    int64_t diverging_end_offset;
    /* READ_COMMITTED: aborted transactions with records among the bytes; malloc'd, whoever gets the
     * answer frees it. NULL: none. */
    struct aborted_txn *aborted;
    uint32_t aborted_cnt;
    struct list link;
    struct plog_read_io *io; /* the plog's */
    void (*done)(struct plog_read *r);
};
void plog_read(struct plog *p, struct plog_read *r);

/* A parked fetch at the owner: fires once when `durable` (or `stable`) passes `offset` by at least
 * min_bytes, or the partition goes away, or it is cancelled. With PLOG_WAIT_GONE only the last two.
 */
#define PLOG_WAIT_GONE UINT32_MAX
struct plog_wait {
    struct msg msg;
    uint64_t start_bytes; /* the plog's */
    struct uuid topic_id;
    int32_t partition;
    int64_t offset;
    uint32_t min_bytes;
    enum plog_isolation isolation;
    int rc; /* 0: look again; -E_NOT_OWNER: the partition went away */
    struct list link;
    void (*done)(struct plog_wait *w);
};
void plog_wait(struct plog *p, struct plog_wait *w);
void plog_wait_cancel(struct plog_wait *w);

/* ListOffsets special timestamps are the protocol's (-1 latest, -2 earliest, -3 max timestamp,
 * ...). */
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
    struct plog_read_io *io; /* the plog's */
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

/* OffsetForLeaderEpoch (gotchas 9): (-1, -1) when unknown. */
void plog_epoch_end_offset(const struct plog *p, int32_t epoch, int32_t *ret_epoch,
                           int64_t *ret_end_offset);
/* The leader epoch that the metadata image says; ours only ever grows. Cheap when unchanged. */
void plog_set_leader_epoch(struct plog *p, int32_t epoch);
void plog_set_conf(struct plog *p, const struct plog_conf *conf);
const struct plog_conf *plog_get_conf(const struct plog *p);
/* False while the partition is fenced, or its disk is full. */
bool plog_is_writable(const struct plog *p);

/* One segment, oldest first, for upkeep/. The last one is the active segment. */
struct plog_segment {
    int64_t base_offset, next_offset;
    uint64_t len;
    int64_t first_timestamp_ms; /* of the first batch; -1: not known */
    int64_t max_timestamp_ms;   /* -1: none */
    int64_t mtime_ms;
    bool recoded;  /* looked at for plain batches */
    bool sealed;   /* closed and flushed: may be dropped */
    bool suspect;  /* a read met damage in it */
    bool can_drop; /* and nobody is at it just now: reads, housekeeping, a fenced partition */
};
bool plog_segment_get(const struct plog *p, uint32_t idx, struct plog_segment *ret);
/* For the scrubber. Claim: the segment is looked at in this pass from now on; false: it was
 * already. A suspect is cleared when it was looked at; a read that meets damage makes it one again.
 */
bool plog_scrub_claim(struct plog *p, uint32_t idx, uint64_t pass);
bool plog_scrub_is_due(const struct plog *p, uint32_t idx, uint64_t pass); /* would it be new? */
void plog_suspect_clear(struct plog *p, int64_t base);
/* A rewrite met damage in it: the scrubber should look. */
void plog_suspect_set(struct plog *p, int64_t base);
/* Suspect segments of the set. */
uint32_t plog_set_suspects(const struct plog_set *set);
/* Drop the `cnt` oldest segments, all sealed: log start moves at once, files are removed by
 * housekeeping. Count dropped (fewer when one is being read by housekeeping). for_space: not what
 * the topic's retention asks for, so that a reader may miss them: plog_gap_take tells. */
uint32_t plog_drop_segments(struct plog *p, uint32_t cnt, bool for_space);
/* Rewrites of sealed segments (compaction, recompression): upkeep/compaction.c decides and works,
 * the partition keeps order. Lease: at most one rewrite, and none while the scrubber is at a
 * segment of the partition, nor the other way round. A partition that is not open gives none, and
 * one that was fenced meanwhile has lost it (plog_lease_has), whoever had it still puts it. */
bool plog_lease_is_free(const struct plog *p); /* plog_lease_take would give it */
bool plog_lease_take(struct plog *p);
void plog_lease_put(struct plog *p);
bool plog_lease_has(const struct plog *p);
bool plog_scrub_begin(struct plog *p); /* false: a rewrite is under way */
void plog_scrub_end(struct plog *p);
/* Segments of so many bytes in all may be rewritten: one at a time is there twice, and the room for
 * it must not be had by dropping what is old (space.h). */
bool plog_rewrite_has_room(const struct plog *p, uint64_t bytes);
/* Compacted up to here (Kafka's first dirty offset), within the log. */
int64_t plog_cleaned(const struct plog *p);
/* Offsets may be missing between its batches. */
bool plog_has_gaps(const struct plog *p);
void plog_cleaned_set(struct plog *p, int64_t offset);
/* A rewrite met damage (counted), or an error of the disk; not to be tried again before retry_ns.
 * No damage and 0: it went well. */
struct plog_rewrite_failures {
    uint32_t cnt;
    uint64_t retry_ns;
};
void plog_rewrite_failed(struct plog *p, bool damage, uint64_t retry_ns);
struct plog_rewrite_failures plog_rewrite_failures(const struct plog *p);
/* Looked at, and nothing in it is to be compressed. */
void plog_recoded_set(struct plog *p, int64_t base);
/* What a rewrite is told of a partition besides its segments; the caller's until fini. */
struct plog_rewrite_src {
    char dir[STORE_PATH_MAX];
    struct aborted_txns aborted;
    struct last_record *producers; /* by producer_id */
    uint32_t producer_cnt;
};
/* 0, -ENOMEM, -E_BUSY: not now (producers_last). */
NODISCARD int plog_rewrite_src(const struct plog *p, struct plog_rewrite_src *ret);
void plog_rewrite_src_fini(struct plog_rewrite_src *s);
/* Put one rewritten segment (.cleaned files, flushed) in the place of `cnt` old ones. The caller's
 * until done(). Reads go on: those under way end in the old files, later ones see the new. */
struct plog_swap {
    int64_t base, end; /* of the old ones: base of the first, of the one behind the last */
    uint32_t cnt;
    uint64_t src_bytes; /* of the old ones together, as they were read */
    uint64_t len;       /* of the new one, and its timestamps; -1: none */
    int64_t max_ts, max_ts_offset, first_ts;
    bool recoded;                /* identity: no offset is missing that was there */
    struct aborted_txns aborted; /* with markers in [base, end) */
    int rc; /* 0; else the old ones stand, or, if files were touched, the partition is fenced */
    void (*done)(struct plog_swap *w);
};
/* 0: under way; -E_BUSY, -ENOMEM: not now, ask again; -ESTALE: the partition has changed, the work
 * is to be thrown away. */
NODISCARD int plog_swap(struct plog *p, struct plog_swap *w);
/* What was dropped for space since the last take and is gone from the disk. Several drops in a row
 * are one gap. False: nothing. */
struct plog_gap {
    int64_t from_offset, to_offset; /* to: one past the last */
    uint64_t bytes;
    uint32_t segments;
    int64_t from_ms, to_ms; /* record timestamps, first batch and largest; -1: not known */
};
bool plog_gap_take(struct plog *p, struct plog_gap *ret);
void plog_gap_put_back(struct plog *p, const struct plog_gap *g); /* could not be recorded yet */
/* One on its way to the record (MSG_SPACE_GAP); the shard's memory. rc of the reply: 0 when it is
 * durable, else it is to be put back and sent again. */
struct plog_gap_msg {
    struct msg msg;
    struct uuid topic_id;
    char topic[250];
    int32_t partition;
    struct plog_gap gap;
};
uint32_t plog_set_gap_cnt(const struct plog_set *set); /* partitions with something to take */
/* Move the log start (DeleteRecords). 0 or -E_OFFSET_OUT_OF_RANGE (above durable). */
NODISCARD int plog_set_log_start(struct plog *p, int64_t offset);
/* Close the active segment now if it holds anything (retention of an idle partition). */
void plog_roll_now(struct plog *p);

/* The partitions of one shard. */
struct catalog;
struct part;
struct conf;
struct plog_set_conf {
    uint64_t staging_bytes; /* staging and cache of recent chunks */
    uint64_t
        cold_read_bytes; /* buffers for reads from the disk: when they are used up readers wait */
    uint32_t submit_max_ms; /* bytes that nobody waits for: submitted within, 5 */
    uint32_t flush_max_ms;  /* ... and flushed within, 20 */
    uint64_t journal_file_bytes;
    uint32_t journal_file_cnt;
    uint32_t journal_threshold_bytes; /* partitions with less queued go to the journal, 128 KiB */
    uint64_t storage_min_free_bytes;
    uint64_t reserve_bytes; /* taken ahead of a segment's end (plog_write.c), 16 MiB; 0: none */
    uint32_t drain_age_ms;  /* journalled bytes reach their segments within, 1000 */
    uint32_t idle_close_ms; /* files of idle partitions are closed after, 10000 */
    uint32_t checkpoint_ms; /* checkpoint files at most this old, 5000 */
    bool threaded;          /* directory work on its own threads; false: inside the poll */
    const int *work_cpus;   /* where those may run, used by plog_set_create only */
    uint32_t work_cpu_cnt;  /* 0: where plog_set_create is called */
};
void plog_set_conf_from(struct plog_set_conf *sc, const struct conf *c);
/* Creates the set and its journals in every directory of the catalog. Blocking: at start, before
 * the shard runs (uses s->id, s->mbox, s->timers; reads s->now_ns and s->wall_ms in every call
 * after). `io` is the shard's table with its uring; it stays the caller's. 0, -ENOMEM, -E_CONFIG,
 * -errno. */
NODISCARD int plog_set_create(struct shard *s, struct file_io *io, struct catalog *c,
                              const struct plog_set_conf *conf, struct plog_set **ret);
/* After `done`: partitions that could not be closed cleanly. */
uint32_t plog_set_unclosed_cnt(const struct plog_set *set);
/* All partitions closed or never attached, and plog_set_is_idle. */
void plog_set_destroy(struct plog_set *set);

/* Take over a partition that recovery found or catalog_part_create made. Takes `part` (freed by the
 * set; not on error). Before the shard runs, or on the shard. 0, -ENOMEM, -EEXIST. */
NODISCARD int plog_attach(struct plog_set *set, struct part *part, const struct plog_conf *conf,
                          struct plog **ret);
/* Give a partition up for deletion: whatever waits is answered with -E_UNKNOWN_TOPIC, unwritten
 * bytes are dropped, files closed. done runs on a later turn; then p is gone and its directory may
 * go (catalog_part_retire on a thread that may block). */
typedef void plog_detached_fn(void *arg);
void plog_detach(struct plog *p, plog_detached_fn *done, void *arg);
/* Clean stop: appends are refused, everything queued is flushed and drained, files are cut and
 * closed, indexes and snapshots written. done(arg, 0) when all is on disk; negative when some
 * partition could not be closed cleanly (then catalog_close must not write the clean mark). */
typedef void plog_set_closed_fn(void *arg, int rc);
void plog_set_close(struct plog_set *set, plog_set_closed_fn *done, void *arg);
/* What to answer about a partition that the set does not have: it does not exist (any more, or not
 * yet), or it was left out at the start (catalog.offline, catalog.offline_part): -E_UNKNOWN_TOPIC
 * or -E_STORAGE. */
int plog_set_absent_rc(const struct plog_set *set);
/* Nothing in flight, nothing queued. */
bool plog_set_is_idle(const struct plog_set *set);

struct plog_set_stats {
    uint64_t appends, append_bytes, append_errors, append_blocked, append_busy;
    uint64_t group_commits, journal_commits, journal_bytes, direct_commits, drains;
    uint64_t flush_ns_sum, flush_cnt, flush_ns_max; /* commit formed -> durable */
    uint64_t reads_memory, reads_disk, read_bytes;
    uint64_t read_waits; /* reads from the disk that waited for a buffer */
    uint64_t space_segments, space_bytes, space_waits; /* dropped for space; appends that waited */
    uint64_t found_batches, found_tails, found_segments; /* damaged, by this start; of shard 0 */
    uint64_t stalls;                                     /* writes that met a full disk */
    uint64_t swaps;                                      /* rewritten segments put in place */
    uint64_t rolls, segments_dropped, fenced, recovered, duplicates, damaged_reads;
    uint64_t unflushed_bytes, staging_free_bytes, oldest_unflushed_ns;
    uint32_t partitions, journal_free_files;
    bool read_only;
};
void plog_set_stats_get(const struct plog_set *set, struct plog_set_stats *ret);
/* Every partition of the set: call fn until it returns false. */
void plog_set_each(struct plog_set *set, bool (*fn)(void *arg, struct plog *p), void *arg);
/* What the partition knows of one idempotent producer. */
struct producer_view {
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t last_sequence;     /* -1: none */
    int64_t last_timestamp_ms; /* -1: none */
    int32_t coordinator_epoch; /* -1: no transaction ever */
    int64_t txn_first_offset;  /* -1: none open */
};
/* Fills v with up to `cap` producers, in no order; how many there are. */
uint32_t plog_producers(const struct plog *p, struct producer_view *v, uint32_t cap);
/* The data directories, in the order of the configuration; the strings live as long as the set.
 * Sizes are of its file system, as last measured; total 0: not yet. */
struct plog_dir {
    const char *path;
    uint64_t total_bytes, free_bytes;
    int64_t missing_bytes; /* above 0: so much should be dropped to have storage.min_free again */
    bool read_only;
};
uint32_t plog_set_dir_cnt(const struct plog_set *set);
struct plog_dir plog_set_dir(const struct plog_set *set, uint32_t idx);
uint32_t plog_dir_idx(const struct plog *p);
const struct uuid *plog_topic_id(const struct plog *p);
const char *plog_topic(const struct plog *p);
int32_t plog_partition(const struct plog *p);
/* Internal consistency of a partition, of all: tests call it after every step. */
void plog_check(const struct plog *p);
void plog_set_check(const struct plog_set *set);

/* plog_set_find is O(1); NULL when the shard does not own it. */
struct plog *plog_set_find(struct plog_set *set, const struct uuid *topic_id, int32_t partition);
/* Stage bodies: form commit groups, submit, drain, timers. */
uint32_t plog_set_poll(struct plog_set *set, uint32_t budget);
