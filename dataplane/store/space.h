/* space.h - how much room the file system of a data directory has, between measurements too.
 *
 * A measurement (space_check) is a second old when it is used, and a fast producer fills a disk in
 * less. So everybody who appends, writes, drops and removes says so here, and the estimate is
 * always on the safe side: bytes count from the append on, room comes back when a measurement has
 * seen it.
 *
 *     free at the last check + written before it - appended until now = space_left
 *     ... + dropped until now - removed before it                     = what is left when the files
 *                                                                       of dropped segments are
 * gone
 *
 *     space_left >= min_free   nothing to do
 *            below             space_missing says how much upkeep should drop
 *            below a half      appends wait: what is left is for indexes, checkpoints, other
 * programs free   < min_free for SPACE_LOW_CHECKS checks in which nobody dropped anything
 *                              read-only, until min_free is there again
 *
 * Runs on: any thread (atomics); space_check on one that may block. */
#pragma once
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SPACE_LOW_CHECKS 3

struct space {
    /* of the file system, as last measured; total 0: not yet */
    _Atomic uint64_t total_bytes, free_bytes;
    /* since open; they only grow. Written: appended bytes that are in their file or were given up;
     * dropped: segments that are not in the log any more; removed: and whose files are gone. */
    _Atomic uint64_t appended, written, dropped, removed;
    _Atomic int64_t left_mark, coming_mark; /* space_left + appended, as of the last check */
    _Atomic uint32_t low_checks;
    atomic_bool read_only; /* the disk is full: set by space_check, or by who met ENOSPC */
};

struct data_dir;
/* Measure. Without a limit of its own (make_room false) only the end of read_only is found: the try
 * again after an ENOSPC. is_tick: one of the regular checks that SPACE_LOW_CHECKS counts. Count of
 * directories whose read_only changed: 0 or 1; -errno. */
struct space_check {
    uint64_t min_free_bytes;
    bool make_room, is_tick;
};
int space_check(struct data_dir *d, const struct space_check *c);

static inline void space_count(_Atomic uint64_t *what, uint64_t bytes)
{
    atomic_fetch_add_explicit(what, bytes, memory_order_relaxed);
}

/* Bytes that may still be appended before the disk is full; INT64_MAX: not known yet. */
static inline int64_t space_left(const struct space *s)
{
    if (atomic_load_explicit(&s->total_bytes, memory_order_acquire) == 0)
        return INT64_MAX;
    return atomic_load_explicit(&s->left_mark, memory_order_relaxed) -
           (int64_t)atomic_load_explicit(&s->appended, memory_order_relaxed);
}

/* Bytes that should be dropped for min_free to be there, files that are being removed taken as
 * gone; 0 or less: none. */
static inline int64_t space_missing(const struct space *s, uint64_t min_free_bytes)
{
    if (atomic_load_explicit(&s->total_bytes, memory_order_acquire) == 0)
        return 0;
    return (int64_t)min_free_bytes - atomic_load_explicit(&s->coming_mark, memory_order_relaxed) -
           (int64_t)atomic_load_explicit(&s->dropped, memory_order_relaxed) +
           (int64_t)atomic_load_explicit(&s->appended, memory_order_relaxed);
}
