/* recover.h - from what a crash or a clean stop left on disk to opened partitions.
 *
 *     every partition: names -> segments -> CRC walk -> cut -> indexes, epochs, producers
 *     then the journals: every run of every entry, idempotent by (partition, base offset)
 *     then flush, and only then the journals are reset
 *
 * Blocking; no io_uring, no DPDK. Runs before shards do, in the offline tool, and (one partition)
 * on a housekeeping thread after a failed write. Everything but .log can be rebuilt from .log. */
#pragma once
#include "dataplane/store/catalog.h"
#include "lib/base/err.h"

enum recover_case {
#define RCASE(name, warn, text) RC_##name,
#include "dataplane/store/recover_cases.def"
#undef RCASE
    RC_CNT
};
struct recover_report {
    uint64_t cnt[RC_CNT];
    uint64_t partitions, bytes_scanned, batches, bytes_cut;
    /* Called for every row with warn set (and for all rows when verbose): one sentence. May be NULL
     */
    void (*say)(void *arg, const char *text);
    void *arg;
    bool verbose;
};
const char *recover_case_text(enum recover_case c);

struct recover_opts {
    uint32_t index_interval_bytes; /* for rebuilt indexes: 4096 */
    uint32_t index_bytes_max;      /* 10 MiB */
    uint64_t segment_bytes;        /* journal batches roll above it */
    uint16_t shard_cnt;            /* journal files of higher shards are removed; 0: keep all */
    bool leave_deleted;            /* directories of deleted partitions: the caller removes them */
    bool spare_derived; /* a full disk fails only what .log itself needs: indexes, epochs, snapshots
                           that find no room are left out (RC_NO_ROOM) */
};
void recover_opts_default(struct recover_opts *o);

/* Open everything in the catalog's directories, one after the other. Found partitions are appended
 * to `parts` (struct part.link), the caller's. 0, or the first error that makes starting unsafe
 * (the journals of that directory are then not reset); a partition with a file that cannot be read
 * is left out (catalog.offline_part), a directory whose disk fails too, when the catalog may do
 * without (catalog_opts.may_miss). */
NODISCARD int recover_data_dirs(struct catalog *c, const struct recover_opts *o,
                                struct recover_report *rep, struct list *parts);

/* One partition, again, after a failed write: everything at and above `limit` (an offset known to
 * be flushed) is cut, then `tail` (whole batches in order, may be empty) is appended and flushed.
 * `p` must be initialised by recover_part_init. 0 or the disk's error: try again later. */
struct recover_part_opts {
    int64_t recovery_point; /* of the checkpoint, -1: none */
    int64_t log_start;      /* of the checkpoint, -1: none */
    int64_t limit;          /* -1: none */
    bool clean;
};
NODISCARD int recover_part_init(struct part *p, struct data_dir *d, const char *name);
NODISCARD int recover_part(struct part *p, const struct recover_part_opts *po,
                           const struct recover_opts *o, struct recover_report *rep);
struct span;
NODISCARD int recover_part_append(struct part *p, const struct span *batches, uint32_t cnt,
                                  const struct recover_opts *o, struct recover_report *rep);

/* `sluicectl log recover DIR...`: recover_data_dirs without a running appliance; leaves the
 * directories as a clean stop would. `err` as catalog_open. */
NODISCARD int store_log_recover(const char *const *dirs, uint32_t dir_cnt,
                                struct recover_report *rep, char err[CATALOG_ERR_MAX]);
