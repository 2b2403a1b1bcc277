/* seg_index.h - offset index and time index of one segment, in Kafka's bytes.
 *
 * While a segment is written both live in memory, exactly as they will lie in the files; they are
 * written when the segment is sealed, closed or idle. Both are sparse: losing an entry (no memory)
 * costs a longer scan, never correctness.
 * Runs on: whoever owns the segment; pure over memory except load and store, which block. */
#pragma once
#include "dataplane/io/file.h"
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct seg_index {
    int64_t base;
    uint8_t *off, *ts; /* entries, big-endian as on disk */
    uint32_t off_cnt, off_cap, off_max;
    uint32_t ts_cnt, ts_cap, ts_max;
    uint32_t bytes_since;  /* appended since the last offset index entry */
    int64_t max_ts;        /* -1: none yet */
    int64_t max_ts_offset; /* last offset of the batch that holds max_ts */
};
/* bytes_max: segment.index.bytes */
void seg_index_init(struct seg_index *ix, int64_t base, uint32_t bytes_max);
void seg_index_fini(struct seg_index *ix);
/* One batch at byte `pos`, before its bytes are counted: Kafka's LogSegment.append. */
struct seg_index_batch {
    uint32_t pos, len;
    int64_t last_offset, max_ts;
};
void seg_index_add(struct seg_index *ix, const struct seg_index_batch *b, uint32_t interval_bytes);
/* The entry that Kafka adds to the time index at roll and close. Idempotent. */
void seg_index_finish(struct seg_index *ix);
bool seg_index_is_full(const struct seg_index *ix);
/* Position from which a scan for `offset` may start. */
uint32_t seg_index_pos(const struct seg_index *ix, int64_t offset);
/* The same, with the last offset of the batch that should be there; -1: there is no entry. */
uint32_t seg_index_seek(const struct seg_index *ix, int64_t offset, int64_t *ret_last);
/* Offset from which a scan for the first record with timestamp >= ts may start. */
int64_t seg_index_ts_offset(const struct seg_index *ix, int64_t ts);
/* Blocking. load: 0 or -errno, -E_MALFORMED when a file is not a sane index (rebuild it then).
 * store: writes both files, trimmed to their entries; sync flushes them. */
NODISCARD int seg_index_load(struct seg_index *ix, struct file_io *io, const char *dir);
NODISCARD int seg_index_store(const struct seg_index *ix, struct file_io *io, const char *dir,
                              bool sync);
