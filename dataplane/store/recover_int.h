/* recover_int.h - the inside of recovery, shared by recover*.c only.
 *
 *     recover.c          the cases, whole data directories, the offline tool
 *     recover_part.c     one partition: names -> segments -> epochs, producers, log start
 *     recover_seg.c      one segment: CRC walk -> cut -> index; closed: its index tails
 *     recover_swap.c     a rewrite that the crash has cut off: undone or completed
 *     recover_journal.c  batches of the journals behind the ends of their partitions */
#pragma once
#include "dataplane/store/format.h"
#include "dataplane/store/recover.h"
#include "dataplane/store/seg_index.h"
#include "dataplane/store/walk.h"
#include "lib/batch/check.h"
#include <string.h>

/* recover.c */
__attribute__((format(printf, 3, 4))) void recover_note(struct recover_report *rep,
                                                        enum recover_case c, const char *fmt, ...);
/* rc of writing something that .log can make again (recover_opts.spare_derived). */
int recover_derived(const struct recover_opts *o, struct recover_report *rep, const char *dir,
                    int rc);
/* Room for one item more in an array of `cnt`; 0 or -ENOMEM. */
int recover_grow(void **arr, uint32_t cnt, uint32_t *cap, size_t size);
/* Names of a directory; `name` is freed by who listed. */
struct names {
    char (*name)[STORE_NAME_MAX];
    uint32_t cnt, cap;
};
int recover_names_add(void *arg, const char *name); /* arg: struct names */
static inline bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* recover_part.c */
int recover_path(char out[STORE_PATH_MAX], const struct part *p);
int recover_seg_create(struct part *p, const char *dir, int64_t base);
int recover_epochs_store(struct part *p, const char *dir, bool sync);
void recover_mark_set(struct part *p);
/* The .txnindex of the segments from `first` on, then the snapshot of producers at the end: who
 * finds that does not look for aborted transactions below it. `ends`: the last segment ends here
 * (also taken so when the one behind it is empty): its snapshot is flushed. */
int recover_state_store(struct part *p, const char *dir, uint32_t first, bool ends);

/* One pass over the segments of a partition. */
struct scan {
    struct part *p;
    const struct recover_part_opts *po;
    const struct recover_opts *o;
    struct recover_report *rep;
    char dir[STORE_PATH_MAX];
    int64_t next;          /* one past the last good batch */
    int64_t producer_from; /* batches below are in the loaded snapshot */
    uint32_t first;        /* segment of the scan */
    bool txn_index_bad;    /* and reported */
    bool cut;              /* this segment was cut: later ones are not used */
    uint32_t cut_seg;      /* the one that was cut */
    bool cut_zeros;        /* only zeros were cut */
    bool was_shortened;    /* bytes or segments were taken from the log, but for zeros */
    bool limit_hit;        /* ... because of recover_part_opts.limit */
    bool has_new_names;    /* files were made that must not be lost */
    bool has_gaps;         /* it was compacted: offsets may be missing */
};
/* What a batch that is in the log means for producers and transactions. */
int recover_txn(struct part *p, const struct batch_info *b, const uint8_t *bytes);
/* Walk one segment: damage below the recovery point healed, cut behind its last good batch, indexes
 * rebuilt; s->next and g are set. `end`: no offset of the segment reaches it; -1: unknown. */
int recover_seg(struct scan *s, struct part_seg *g, int64_t end);
/* Largest timestamp of a segment that is not scanned, from the last time index entry.
 * `end`: no offset of the segment reaches it; INT64_MAX: unknown. interval: index.interval.bytes.
 * 1: known, 0: an index is missing or odd (scan it), -errno. */
int recover_seg_tail(struct file_io *io, const char *dir, struct part_seg *g, int64_t end,
                     uint32_t interval);
/* What good batches at the start of a segment file hold; -1: none. */
struct seg_extent {
    int64_t first, last;
    bool is_zero; /* the file holds nothing but zeros, or nothing */
};
int recover_seg_extent(struct file_io *io, const char *path, struct seg_extent *ret);

/* recover_swap.c: .cleaned and .swap files of a partition's directory; afterwards there are none.
 */
int recover_swap(struct file_io *io, const char *dir, struct recover_report *rep);
/* "%020d<suffix>": the number, or -1. */
int64_t recover_name_base(const char *name, const char **ret_suffix);

/* recover_journal.c: every run of every journal of a directory, then its journals are reset. */
int recover_journals(struct data_dir *d, const struct recover_opts *o, struct recover_report *rep,
                     struct list *parts);
