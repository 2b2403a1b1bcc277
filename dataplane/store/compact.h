/* compact.h - rewriting the sealed segments of one partition: which keys are dirty, which segments
 * become one, and the new segments, as .cleaned files (seg_out.h). Putting them in place is the
 * partition's (plog_swap).
 *
 *     compact_init -> compact_map (compaction only) -> compact_next, until there is none -> fini
 *
 * Kafka's rules (ondisk.md 10). Blocking; any thread, one at a time. Changes no file of the log. */
#pragma once
#include "dataplane/store/catalog.h"
#include "dataplane/store/rewrite.h"
#include "lib/base/err.h"

struct compact_src {   /* one sealed segment; they follow one another from the log's first on */
    int64_t base, end; /* end: base of the next one */
    uint64_t len;
};
struct compact_opts {
    struct file_io *io;
    const char *dir; /* of the partition; copied */
    const struct compact_src *segs;
    uint32_t seg_cnt; /* the last one ends at or below what may not be touched */
    int64_t first_dirty;
    const struct aborted_txns *aborted;
    const struct last_record *producers; /* by producer_id; the caller's until fini */
    uint32_t producer_cnt;
    int64_t now_ms, delete_retention_ms;
    uint64_t segment_bytes, map_bytes;
    uint32_t index_interval_bytes, index_bytes_max;
    bool recode; /* identity: plain batches get `codec`, nothing else changes */
    enum codec_id codec;
    int level;
    /* Called every so many bytes read or written; may sleep. Negative ends the work with it. */
    int (*pace)(void *arg, uint64_t bytes);
    void *arg;
};
/* What compact_next made: in place of opts.segs[first, first + cnt). */
struct compact_group {
    uint32_t first, cnt;
    struct part_seg seg;
    int64_t first_ts;
    struct aborted_txns aborted; /* with markers in it: points into the job until the next call */
};
struct compact {
    struct compact_opts o;
    char dir[STORE_PATH_MAX];
    struct key_map map;
    struct rewrite rw;
    int64_t end;   /* cleaned up to here when all groups are in place */
    uint32_t at;   /* next segment to group */
    uint32_t kept; /* of rw.txns.kept: given out */
    uint64_t owed; /* bytes not told to pace yet */
    uint64_t keys;
    int64_t bad_base; /* after -E_CORRUPT_BATCH, -E_INVALID_RECORD: where */
    uint64_t bad_pos;
};
/* 0 or -ENOMEM; fini in any case. */
NODISCARD int compact_init(struct compact *c, const struct compact_opts *o);
void compact_fini(struct compact *c);
/* 0; -E_CORRUPT_BATCH, -E_INVALID_RECORD, -E_LIMIT: a batch that cannot be read, the partition
 * cannot be cleaned; -errno; or what pace said. */
NODISCARD int compact_map(struct compact *c);
/* The next group, finished and flushed. 1: in *ret; 0: no more; negative as above, nothing is left
 * behind. Groups that would not change are passed over. */
NODISCARD int compact_next(struct compact *c, struct compact_group *ret);
