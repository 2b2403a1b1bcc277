/* format.h - every on-disk structure and file name of the store in one place.
 *
 *     <data dir>/                      a Kafka log.dir, nothing of ours in it but plain files
 *       meta.properties .lock .kafka_cleanshutdown
 *       recovery-point-offset-checkpoint log-start-offset-checkpoint replication-offset-checkpoint
 *       cleaner-offset-checkpoint
 *       <topic>-<partition>/
 *         %020d.log .index .timeindex  segment, offset index, time index (base offset as name)
 *         %020d.snapshot               producer state before that offset
 *         leader-epoch-checkpoint partition.metadata
 *         next.sluice                  prepared next segment; a name Kafka ignores
 *     <data dir>/../journal/
 *       <directory id>-<shard>-<n>.journal
 *       <directory id>-<shard>-<n>.journal.<start>.kept   with entries of a partition left out
 *
 * Integers of Kafka's files are big-endian, those of the journal little-endian. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include <stdint.h>
#include <stdio.h>

#define STORE_PATH_MAX 1600 /* data dir (1,024) + partition directory (255) + file name */
#define STORE_NAME_MAX 256  /* a partition directory's name with NUL */

#define FN_META "meta.properties"
#define FN_LOCK ".lock"
#define FN_CLEAN ".kafka_cleanshutdown"
#define FN_RECOVERY_POINT "recovery-point-offset-checkpoint"
#define FN_LOG_START "log-start-offset-checkpoint"
#define FN_HIGH_WATERMARK "replication-offset-checkpoint"
#define FN_CLEANER "cleaner-offset-checkpoint"
#define FN_EPOCHS "leader-epoch-checkpoint"
#define FN_PARTITION_META "partition.metadata"
#define FN_NEXT "next.sluice"
#define FN_CLUSTER_METADATA "__cluster_metadata-0"

#define SFX_LOG ".log"
#define SFX_INDEX ".index"
#define SFX_TIMEINDEX ".timeindex"
#define SFX_TXNINDEX ".txnindex"
#define SFX_SNAPSHOT ".snapshot"
#define SFX_DELETED ".deleted"
#define SFX_CLEANED ".cleaned" /* behind one of the above: of a rewrite under way ... */
#define SFX_SWAP ".swap"       /* ... and of one that is complete (seg_out.h) */
#define SFX_JOURNAL ".journal"
#define SFX_KEPT ".kept" /* behind .journal.<number>: entries of partitions left out (recovery) */
#define SFX_DIR_DELETE "-delete"

/* "<dir>/%020d<suffix>" */
#define SEG_NAME_FMT "%020lld%s"

/* Offset index entry: int32 lastOffset(batch) - base, int32 start position of that batch. */
#define INDEX_ENTRY_LEN 8u
/* Time index entry: int64 largest timestamp so far, int32 offset of its batch's last record - base
 */
#define TIMEINDEX_ENTRY_LEN 12u

/* Producer snapshot, version 1 (ondisk.md 6). */
enum {
    SNAP_VERSION = 1,
    SNAP_CRC_POS = 2, /* uint32: CRC-32C of [6, end) */
    SNAP_CRC_FROM = 6,
    SNAP_COUNT_POS = 6, /* int32 */
    SNAP_HEADER_LEN = 10,
    SNAP_ENTRY_LEN = 46,
};

/* One journal entry: one group commit. Starts at a block, padded with zeros to a block.
 *     struct journal_head, the runs' bytes back to back, run_cnt x struct journal_run
 * A run is one or more whole record batches of one partition, offsets dense.
 * The next entry is written when this one is flushed (journal_walk.c: what that says of damage). */
#define JOURNAL_MAGIC UINT32_C(0x4a4c5331) /* "1SLJ" */
#define JOURNAL_VERSION 1u
struct journal_head {
    uint32_t magic;
    uint32_t version;
    uint64_t generation; /* one per use of a file: entries of its former use end the walk */
    uint64_t seq;        /* +1 per entry over all files of the journal, never reused */
    uint32_t len;        /* head + bytes + table, without padding */
    uint32_t run_cnt;
    uint32_t crc; /* CRC-32C of the entry with this field zero */
    uint32_t zero;
};
struct journal_run {
    struct uuid topic_id;
    int32_t partition;
    uint32_t zero;
    int64_t base_offset;
    uint32_t len;
    uint32_t crc; /* CRC-32C of the row with this field zero, begun with the low half of generation:
                     in an entry that was damaged, is it this row that can be trusted? */
};
_Static_assert(sizeof(struct journal_head) == 40, "journal head layout");
_Static_assert(sizeof(struct journal_run) == 40, "journal run layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the journal is little-endian");

/* Joins into `out` (STORE_PATH_MAX). 0 or -ENAMETOOLONG. */
static inline int path_join(char out[STORE_PATH_MAX], const char *dir, const char *name)
{
    int n = snprintf(out, STORE_PATH_MAX, "%s/%s", dir, name);
    return n < 0 || n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}
static inline int path_seg(char out[STORE_PATH_MAX], const char *dir, int64_t base,
                           const char *suffix)
{
    int n = snprintf(out, STORE_PATH_MAX, "%s/" SEG_NAME_FMT, dir, (long long)base, suffix);
    return n < 0 || n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}
