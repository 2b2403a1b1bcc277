/* seg_out.h - a segment that a rewrite makes, under names that end in .cleaned: log, offset index,
 * time index and, if a transaction was aborted there, its index. Nothing reads such files; recovery
 * removes them (recover_swap.c), and so does Kafka.
 *
 * Blocking; one thread at a time. Written past the page cache where the file system can. */
#pragma once
#include "dataplane/store/catalog.h"
#include "dataplane/store/format.h"
#include "dataplane/store/seg_index.h"
#include "lib/base/err.h"
#include "lib/base/span.h"

struct seg_out {
    struct file_io *io;
    char dir[STORE_PATH_MAX];
    int64_t base;
    uint32_t interval_bytes;
    struct file *f;
    uint8_t *buf;
    uint32_t used; /* of buf, not written yet */
    uint64_t pos;  /* written */
    int64_t next;  /* one past the last offset added; base before */
    int64_t first_ts;
    struct seg_index ix;
};
struct seg_out_opts {
    struct file_io *io;
    const char *dir;
    int64_t base;
    uint32_t index_interval_bytes, index_bytes_max;
};
/* 0, -ENOMEM, -errno; abandon in any case of failure, here and below. */
NODISCARD int seg_out_open(struct seg_out *o, const struct seg_out_opts *opts);
/* One batch, in offset order. 0 or -errno; -E_LIMIT: the segment would pass 2^31 - 1 bytes. */
NODISCARD int seg_out_add(struct seg_out *o, struct span batch);
/* Writes the indexes, flushes all files and their names, closes. `aborted`: transactions whose
 * marker lies in it. */
NODISCARD int seg_out_finish(struct seg_out *o, const struct aborted_txns *aborted,
                             struct part_seg *ret);
/* Close and remove what there is of it. */
void seg_out_abandon(struct seg_out *o);
/* Remove what seg_out_finish made and nobody wants. */
void seg_out_remove(struct file_io *io, const char *dir, int64_t base);

/* The steps of putting it in the place of the segments with these bases (the first one is its own);
 * each is done, flushed, before the next begins, so that a power cut leaves one of three states:
 *     some .cleaned        the old segments stand, recovery removes the files
 *     .swap, no .cleaned   the new one stands: recovery removes the old ones, renames the rest
 *     neither              done
 * 0 or -errno: which state it is only recovery can tell. */
NODISCARD int seg_swap(struct file_io *io, const char *dir, const int64_t *bases, uint32_t cnt);
