/* meta_log.h - __cluster_metadata-0: the log of metadata records, a Kafka partition directory in
 * Kafka's own format, so that Kafka's tools read it, and Kafka itself goes on with it.
 *
 * One append is one RecordBatch is one atomic change. It is on the device when meta_log_append
 * returns. Nobody else writes the directory while sluiced holds its lock.
 *
 *     OPEN --a write or flush fails--> FAILED      further appends are refused with -E_STORAGE
 * until the log is opened again (what a failed flush left on the device is unknown).
 *
 * What Kafka left is read too: several segments, and the newest whole snapshot, which stands for
 * all that came before it. Sluice appends to the last segment and makes no snapshots. Every opening
 * that appends leads an epoch of its own, as a controller does.
 *
 * Opening walks the CRCs. A tail that is not a whole batch and has no whole batch behind it is a
 * torn last append, never acknowledged: it is cut off, and a line says so. Damage with batches
 * behind it is not a torn append: opening is refused, nothing is cut. Runs on: sluiced's main
 * thread. Blocks: all of it. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/base/uuid.h"
#include <stdint.h>

#define META_LOG_DIR "__cluster_metadata-0"
#define META_BATCH_MAX (64u << 20) /* bytes of records in one append */

struct meta_log;

/* One batch read back, or a whole snapshot: records as frames (uvarint 1, key, version, body). The
 * spans live during the call. A negative rc stops the walk and is returned by it. */
typedef int meta_batch_fn(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset);

struct meta_log_opts {
    const char *dir;       /* .../log/__cluster_metadata-0; created when missing */
    int32_t node_id;       /* for quorum-state */
    struct uuid directory; /* of the log directory, for quorum-state */
};
/* Opens or creates, replays snapshot and batches through `fn`. 0, -errno, -E_CORRUPT_BATCH (damaged
 * in the middle, or a part is missing; err[] says where), or what fn returned. */
NODISCARD int meta_log_open(const struct meta_log_opts *opts, meta_batch_fn *fn, void *arg,
                            struct meta_log **ret_log, char *err, size_t err_cap);
void meta_log_close(struct meta_log *log);

/* Appends one batch; on return it is durable and *ret_last_offset is its last record's offset.
 * 0, -E_LIMIT (more than META_BATCH_MAX bytes; nothing written), -errno of the failed operation
 * (the file is as before, or the log is FAILED), -E_STORAGE (FAILED). */
NODISCARD int meta_log_append(struct meta_log *log, const struct span *records, uint32_t cnt,
                              int64_t timestamp_ms, int64_t *ret_last_offset);
/* Offset the next record gets. */
int64_t meta_log_next_offset(const struct meta_log *log);
/* Who has written the log so far, as it says itself. */
struct meta_log_writer {
    int32_t leader_id;  /* of its last epoch; -1: not known */
    uint32_t voter_cnt; /* as the last of Kafka's records or quorum-state tell, whichever is more;
                           0: neither does */
};
struct meta_log_writer meta_log_writer(const struct meta_log *log);
/* Bytes in the last segment, for status. */
uint64_t meta_log_size(const struct meta_log *log);
