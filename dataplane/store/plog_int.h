/* plog_int.h - the inside of a partition, shared by plog*.c only.
 *
 * Positions. Bytes appended to a partition are numbered by `lsn` (log sequence: bytes since attach,
 * across segments); a struct mark is an lsn at a batch boundary with its offset:
 *     flushed <= durable <= end
 *   flushed  in the segment files and flushed (Kafka's recovery point)
 *   durable  flushed, or in a flushed journal entry (the high watermark)
 *   end      appended (LEO)
 *
 * One commit per partition at a time takes [durable, end): through the journal when it is small,
 * else straight to the segment. One flush round at a time covers the segments.
 *
 *     C_NONE --commit_form--> C_JOURNAL --journal_done-->  C_NONE
 *     C_NONE --commit_form--> C_DIRECT --flush_round_done--> C_NONE
 *
 *     PL_OPEN --plog_fail--> PL_FENCED --fence_done--> PL_OPEN
 *     PL_OPEN --plog_set_close--> PL_CLOSING --close_done--> PL_CLOSED
 *     any --plog_detach--> PL_DETACHING --detach_done--> gone */
#pragma once
#include "dataplane/shard/shard.h"
#include "dataplane/store/catalog.h"
#include "dataplane/store/dirwork.h"
#include "dataplane/store/format.h"
#include "dataplane/store/journal.h"
#include "dataplane/store/plog.h"
#include "dataplane/store/recover.h"
#include "dataplane/store/seg_index.h"
#include "dataplane/store/staging.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"

#define READ_IO_BYTES                                                                              \
    (128u << 10)              /* a buffer of the pool of cold reads, and a read of the disk        \
                               */
#define READ_SHARE 4u         /* one reader has at most this part of the pool */
#define BLOCKED_CNT_MAX 4096u /* appends that wait for memory */
#define DRAINS_MAX 64u        /* partitions drained at a time, per directory */
#define DRAIN_LARGE (4 * CHUNK_LARGE) /* journalled bytes of one that are worth a drain */
#define TICK_NS UINT64_C(1000000000)
#define TICK_PLOGS 128u /* partitions looked at per poll during a tick */

struct mark {
    uint64_t lsn;
    int64_t offset;
};

struct seg {
    struct plog *plog;
    int64_t base;
    uint64_t len;     /* appended */
    uint64_t written; /* in the file, without gaps */
    uint64_t end_lsn; /* set when the next segment is started */
    int64_t first_ts; /* of the first batch; -1: none */
    int64_t created_ms;
    struct file *file; /* NULL: not open */
    bool is_placed;    /* exists under its final name, */
    bool is_named;     /* ... and the directory is flushed */
    bool is_rolled;    /* takes no more appends */
    bool is_sealed;    /* cut, indexed, flushed: immutable */
    bool is_dirty;     /* written since the last flush was submitted */
    bool has_index;    /* ix holds all entries */
    bool index_changed;
    bool for_space;      /* it is dropped for */
    bool is_unfinished;  /* appended to since attach: a zero tail and the last index entries are due
                          */
    bool job;            /* a job is about this segment */
    bool is_retired;     /* another stands in its place: goes with its last read */
    bool is_recoded;     /* no plain batch is left in it that could be compressed */
    bool is_suspect;     /* a read met damage: the scrubber should look */
    uint64_t scrub_pass; /* the scrubber's last one here */
    int open_rc;         /* of the last failed open */
    uint32_t io;         /* operations in flight on `file` */
    uint64_t used_ns;
    struct seg_index ix; /* max_ts and max_ts_offset are always valid */
    uint8_t *snapshot;   /* producers as of the next segment's base, until sealed */
    size_t snapshot_len;
    uint8_t *txn_index; /* its .txnindex, until sealed; NULL: none */
    size_t txn_index_len;
    struct list waiters; /* read_io that wait for the open */
    struct file_op flush_op;
    uint64_t reserved, reserve_to; /* length of the file by plog_write.c's reservations; 0: none */
    struct file_op reserve_op;     /* in flight while reserve_to > reserved */
};

enum plog_state { PL_OPEN, PL_FENCED, PL_CLOSING, PL_CLOSED, PL_DETACHING };
enum commit_way { C_NONE, C_JOURNAL, C_DIRECT };

struct set_dir {
    struct data_dir *d;
    struct journal *journal;
    struct plog_set *set;
    struct list group; /* plog.group_link: in the journal entry in flight */
    uint64_t group_ns;
    bool checkpoint_job, space_job, space_again; /* again: something was removed meanwhile */
    uint32_t draining_cnt;
    struct list drain; /* plog.drain_link: plog_drain_update; due first, then by age */
    struct list drain_use[JOURNAL_FILES_MAX]; /* the same by hold_use: plog.drain_use_link */
    uint64_t staged_bytes;                    /* appended and not yet flushed to the segments */
    uint32_t reserved_cnt;                    /* segments with a reservation */
    bool no_reserve;                          /* the file system does not know how */
    uint32_t cold_reads;                      /* reads of the disk under way, */
    struct list cold_wait; /* and read_buf.link that wait for their turn, see plog_cold.c */
};

struct plog {
    struct list all_link, hash_link;
    struct plog_set *set;
    struct set_dir *sd;
    struct part *part; /* identity and mark; its epochs and producers are the live ones */
    char *dir;         /* its path */
    struct plog_conf conf;
    enum plog_state state;
    int64_t log_start;
    struct mark end, durable, flushed;
    int64_t stable; /* the last stable offset */
    int32_t leader_epoch;

    struct seg **segs; /* oldest first, the last one is active */
    uint32_t seg_cnt, seg_cap;
    uint64_t size_bytes;

    struct list chunks;   /* oldest first, without gaps up to `end` */
    struct chunk *wchunk; /* first that is not fully written; NULL: none */
    uint64_t stall_ns;    /* the disk was full: nothing is written before then; 0: it was not */
    uint64_t unwritten;   /* bytes appended that space.written does not hold yet */
    struct chunk *keep;   /* first that is not in the set's cache list; NULL: none */
    uint8_t *tail; /* the last, partial block when no chunk holds it and its file is open; NULL:
                      not in memory */

    enum commit_way commit;
    struct mark commit_to;
    uint64_t commit_ns;
    struct list dirty_link; /* set->dirty: bytes beyond durable, no commit in flight */
    uint64_t dirty_ns;      /* since when */
    bool urgent;            /* somebody waits */
    struct list group_link;

    uint64_t write_to;     /* lsn wanted in the files */
    struct mark flush_to;  /* wanted flushed */
    uint64_t flush_to_use; /* journal use when flush_to was set */
    struct mark flush_at;  /* the round in flight covers */
    uint32_t flush_pending;
    int flush_rc;

    uint64_t hold_use, hold_next;           /* journal files needed until drained */
    uint64_t bad_use;                       /* holds a failed entry with bytes of ours; 0: none */
    uint64_t journal_lsn;                   /* end of the last bytes that went to the journal */
    struct list drain_link, drain_use_link; /* sd->drain, sd->drain_use[] */
    uint64_t drain_ns;                      /* since when it waits; 0: it has DRAIN_LARGE */
    bool draining;

    bool lease; /* a rewrite is under way */
    struct plog_rewrite_failures rewrite_failures;
    uint32_t scrubbing; /* segments that the scrubber has picked */

    struct plog_gap gap;      /* segments 0: none */
    struct list blocked;      /* plog_append.link: wait for memory, in their order */
    struct list blocked_link; /* set->blocked */
    struct list appends;      /* plog_append.link by last_offset: wait for durable */
    struct list waits;

    uint32_t io; /* operations in flight, membership in a journal entry included */
    uint32_t jobs;
    uint64_t used_ns, retry_ns;
    struct file *spare; /* prepared next segment */
    bool spare_asked, epochs_job, epochs_changed;
    bool fence_job;
    uint32_t fence_tries;   /* that failed */
    uint64_t full_retry_ns; /* while the disk is full: fewer tries */
    plog_detached_fn *detached;
    void *detached_arg;
};

/* A buffer of the pool of cold reads. In flight: bytes [from, to) of the file are wanted of what is
 * read from `at` on. */
struct read_buf {
    struct list link; /* free, or in set_dir.cold_wait */
    struct plog_read_io *k;
    uint8_t *mem;
    uint32_t len; /* read, or to be read */
    uint64_t at, from, to;
    struct file_op op;
};
struct plog_read_io {
    struct list link;
    struct plog_set *set;
    struct plog_read *r;
    struct plog *p;
    struct seg *s;
    bool copying;          /* the first batch was found */
    int64_t expect;        /* no batch from `pos` on is below; -1: not known yet */
    int64_t ix_last;       /* last offset of the batch at pos, by the index; -1: not from there */
    uint64_t pos;          /* next byte wanted of the file */
    uint64_t read_at;      /* SEEK: file position of seek->mem, */
    uint32_t read_len;     /* and the bytes there */
    struct read_buf *seek; /* its first buffer */
    uint32_t want;         /* COPY: bytes from first_pos on go to dst, */
    uint64_t first_pos;
    uint64_t next_pos; /* up to here they have been asked for, */
    uint32_t got;      /* and so many are there */
    uint32_t buf_cnt;  /* buffers it has */
    int rc;            /* of the first read that failed; told when all are back */
    uint32_t checked;  /* CHECK: bytes of dst that are whole batches without damage, */
    uint32_t before;   /* where the last of them begins, */
    bool was_gap;      /* and whether offsets are missing before it */
};

struct plog_set {
    struct shard *shard;
    uint32_t suspect_cnt; /* segments with is_suspect */
    struct file_io *io;
    struct catalog *cat;
    struct plog_set_conf conf;
    struct staging *staging;
    struct dirwork *dirwork;   /* what reads and writes wait for: short jobs only */
    struct dirwork *slow_work; /* what may take seconds: recovery, sealing, removal, checkpoints */
    uint32_t dir_cnt;
    struct set_dir dirs[CATALOG_DIRS_MAX];

    uint32_t plog_cnt;
    struct list all;
    struct list *hash; /* power of two */
    uint32_t hash_mask;

    struct list dirty, cache;
    struct list blocked; /* plog.blocked_link, in the order they began to wait for memory */
    uint32_t blocked_cnt;
    uint64_t blocked_bytes;
    struct list ready_appends, ready_reads, ready_waits, ready_lists, ready_detached;
    uint32_t draining_cnt;
    uint64_t unflushed_bytes;
    uint32_t gap_cnt; /* partitions whose gap is not taken */

    struct plog_read_io *read_io;
    struct read_buf *read_bufs;
    uint32_t read_buf_cnt; /* and as many read_io: each has a buffer at least */
    uint8_t *read_mem;
    struct list read_free, buf_free, read_wait; /* read_wait: plog_read.link */
    struct list read_check; /* plog_read_io.link: all bytes are there, to be checked */
    uint32_t reads_in_flight;
    struct list lookup_wait; /* plog_list_offsets.link: by time, stand in line (plog_lookup.c) */
    uint32_t lookup_cnt;     /* under way, at most LOOKUPS_MAX */
    uint8_t *lookup_scratch; /* LOOKUP_SCRATCH_MAX bytes, from the first look-up that inflates on */

    uint64_t tick_ns;
    struct list *tick_at; /* next partition of the pass, NULL: between passes */
    uint64_t checkpoint_ns;
    struct timer timer;

    bool closing;
    bool is_synced; /* all are closed, and their directories flushed or being so */
    bool ending;    /* being destroyed: no operation is submitted any more */
    int close_rc;
    plog_set_closed_fn *closed;
    void *closed_arg;
    struct plog_set_stats st;
};

/* Blocking work about one partition (plog_job.c); see job_is_slow for who does it. */
enum job_kind {
    JOB_OPEN,    /* name, open, load the index, read the tail block: whatever is missing */
    JOB_PREPARE, /* create the next segment under FN_NEXT */
    JOB_SEAL,    /* cut, write indexes and snapshot, flush */
    JOB_IDLE,    /* write the index of an idle segment, close its file */
    JOB_DROP,    /* remove a segment's files */
    JOB_EPOCHS,  /* write the leader epoch checkpoint */
    JOB_FENCE,   /* recover the partition again */
    JOB_CLOSE,   /* clean close of everything */
    JOB_DETACH,  /* close files, nothing else */
};
bool job_submit(struct plog *p, enum job_kind kind, struct seg *s); /* false: no memory, retry */
void job_submit_checkpoint(struct set_dir *sd);
bool job_submit_sync(struct set_dir *sd); /* false: no memory; its error is the close's */
void job_submit_space(struct set_dir *sd, bool is_tick);

#define LOOKUPS_MAX 4 /* look-ups by time at once; each reads into a buffer of its own */

/* plog.c: one partition */
static inline struct seg *plog_active(const struct plog *p)
{
    return p->segs[p->seg_cnt - 1];
}
static inline uint64_t now_ns(const struct plog_set *set)
{
    return set->shard->now_ns;
}
static inline void dir_wrote(struct set_dir *sd) /* or flushed; told to all shards, once a ms */
{
    uint64_t now = now_ns(sd->set);
    if (now - atomic_load_explicit(&sd->d->wrote_ns, memory_order_relaxed) > UINT64_C(1000000))
        atomic_store_explicit(&sd->d->wrote_ns, now, memory_order_relaxed);
}
void plog_fail(struct plog *p, int rc, const char *what);
/* The disk is full, which is no damage: what is appended stays, and is written when there is room.
 */
void plog_stall(struct plog *p, int rc, const char *what);
static inline bool is_no_space(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT;
}
void plog_settle(struct plog *p); /* nothing in flight any more? then the next step of its state */
void plog_publish(struct plog *p);
void plog_written(struct plog *p, uint64_t bytes); /* in their file now, or given up */
void plog_cache_update(struct plog *p);            /* flushed chunks may be reused */
void plog_chunks_drop(struct plog *p);
void plog_chunk_evict(struct plog_set *set, struct chunk *c);
struct chunk *plog_chunk_next(const struct plog *p, struct chunk *c);
static inline uint64_t chunk_end(const struct chunk *c)
{
    return c->lsn + (c->used - c->from);
}
struct chunk *plog_tail_chunk(const struct plog *p);
/* The chunk whose valid bytes hold `lsn` (first <= lsn < end of chunk); NULL: not in memory. */
struct chunk *plog_chunk_at(const struct plog *p, uint64_t lsn);
void plog_bytes_copy(const struct plog *p, uint64_t lsn, uint8_t *dst, uint64_t len);
bool staging_take(struct plog_set *set, bool large, struct chunk **ret); /* evicts if need be */
uint64_t plog_written_lsn(const struct plog *p);

/* plog_write.c */
void plog_pump(struct plog *p);         /* write and flush what is wanted, then settle a close */
void plog_write_wanted(struct plog *p); /* without the second half */
void plog_flush_want(struct plog *p, struct mark m);
void plog_hold_release(struct plog *p);
void plog_drain_end(struct plog *p);
void plog_drain_update(struct plog *p); /* after its state, hold, durable or flushed changed */
void plog_drain_some(struct plog_set *set);
uint64_t plog_drain_due_ns(const struct set_dir *sd); /* of the next; UINT64_MAX: none waits */
void seg_reserve_end(struct seg *s);                  /* its file has been cut, or is given up */

/* plog_seg.c */
int plog_segs_from_part(struct plog *p);
void plog_segs_free(struct plog *p);
void plog_seg_free(struct seg *s);
/* The segment that a rewrite made, sealed; `last` is the newest of those it stands for. */
struct seg *plog_seg_rewritten(struct plog *p, const struct plog_swap *w, const struct seg *last);
void plog_seal_rolled(struct plog *p);
bool plog_roll(struct plog *p);
void plog_gap_add(struct plog *p, const struct plog_gap *g);
void seg_want_open(struct seg *s);

/* plog_rewrite.c */
void plog_seg_retire(struct seg *s); /* takes it; also again when its last read has ended */

/* plog_set.c */
void plog_unlink(struct plog *p);

/* plog_append.c */
void commit_form_all(struct plog_set *set);
void appends_retry_blocked(struct plog_set *set);
/* Answer clients that wait for an offset, theirs stay in the log; ours (ingest, coordinators), who
 * take an error for "not in the log", wait on. */
void appends_fail_clients(struct plog *p, int rc);
/* Answer those that wait for an offset at or above `offset`, and those that wait for memory. */
void appends_fail_from(struct plog *p, int64_t offset, int rc);
void commit_direct_done(struct plog *p);
void plog_dirty(struct plog *p);
void plog_durable_moved(struct plog *p);

/* plog_read.c */
int plog_state_rc(const struct plog *p);
int plog_epoch_check(const struct plog *p, int32_t current);
int64_t read_limit(const struct plog *p, const struct plog_read *r);
bool read_at_once(struct plog *p, struct plog_read *r); /* false: it is on disk */
void read_finish(struct plog_set *set, struct plog_read *r, int rc);
void read_finish_data(const struct plog *p, struct plog_read *r, int rc);
void waits_fire(struct plog *p);
void waits_fail_all(struct plog *p, int rc);

/* plog_cold.c */
void read_disk(struct plog *p, struct plog_read *r);
void reads_opened(struct seg *s, int rc);
void reads_restart(struct list *waiters); /* their segment is another one now */
void reads_retry(struct plog_set *set);
uint32_t reads_check(struct plog_set *set); /* a turn's part of it; so many are done or go on */
void reads_fail_waiting(struct plog *p, int rc);
