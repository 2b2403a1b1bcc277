/* journal.h - small batches of many partitions: one write, one flush; drained to segments later.
 *
 *     FREE --first entry--> CURRENT --does not fit--> FULL --all drained--> FREE
 *                         journal_commit             journal_release moves the tail
 *
 * A fixed set of pre-written files per shard and data directory, used in turn. One entry (format.h)
 * is one group commit; at most one is in flight. A file may be used again when no partition has
 * undrained bytes in it or in an older one.
 * Runs on: the owning shard; create, destroy and replay block (start, stop, housekeeping). */
#pragma once
#include "dataplane/io/file.h"
#include "dataplane/store/format.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include <stdbool.h>
#include <stdint.h>

#define JOURNAL_FILES_MAX 64
#define JOURNAL_USE_NONE UINT64_MAX

struct journal_conf {
    const char *dir; /* the journal directory */
    struct uuid directory_id;
    uint16_t shard;
    uint32_t file_cnt;   /* 2 .. JOURNAL_FILES_MAX */
    uint64_t file_bytes; /* whole blocks */
    uint32_t entry_bytes_max;
};
struct journal;
/* rc 0: the entry is flushed. Negative: it may or may not be on disk (journal_scrub); the file
 * takes no more. */
typedef void journal_done_fn(void *arg, int rc);

/* Opens the files, writing those that are missing or of another size. Blocking. */
NODISCARD int journal_create(struct file_io *io, const struct journal_conf *conf,
                             struct journal **ret);
/* Nothing may be in flight. */
void journal_destroy(struct journal *j);

/* Build one entry: begin, add runs, commit. begin: false when an entry is in flight or no file is
 * free (drain: journal_tail_use says what). */
bool journal_begin(struct journal *j);
/* Where `len` bytes of the next run go, or NULL when they do not fit in this entry any more. */
uint8_t *journal_add(struct journal *j, const struct journal_run *run);
uint32_t journal_run_cnt(const struct journal *j);
/* Write and flush what was added (at least one run). done runs on a later turn. */
void journal_commit(struct journal *j, journal_done_fn *done, void *arg);
bool journal_is_busy(const struct journal *j);

/* The use number of the file that the entry just built, or last built, went to. */
uint64_t journal_use(const struct journal *j);
/* A partition holds (releases) undrained bytes in file use `use`. */
void journal_hold(struct journal *j, uint64_t use);
void journal_release(struct journal *j, uint64_t use);
/* Make the failed entry of `use` unreadable (0 when there is none). Blocking, on a housekeeping
 * thread: the caller holds that use, so the file is not taken into use again meanwhile. */
NODISCARD int journal_scrub(struct journal *j, uint64_t use);
/* Oldest use with a holder, JOURNAL_USE_NONE: none. */
uint64_t journal_tail_use(const struct journal *j);
/* Files that could be taken into use right now. */
uint32_t journal_free_cnt(const struct journal *j);

/* Reading entries back (journal_walk.c). */
struct journal_found { /* a run that can be used */
    uint64_t seq, generation;
    struct journal_run run;
    const uint8_t *bytes;
};
struct journal_damage {
    bool is_mended;        /* it was one bit, which is put right: nothing is lost */
    uint64_t pos, len;     /* bytes of the file that are damaged, or that entry's */
    uint64_t seq, seq_cnt; /* the entries; seq 0: not known which */
    /* This run is lost, from its base offset on. NULL: nothing is lost (is_mended), or nobody knows
     * what stood there. */
    const struct journal_run *run;
};
struct journal_reader { /* a negative answer ends the walk with it */
    int (*on_run)(void *arg, const struct journal_found *f);
    int (*on_damage)(void *arg, const struct journal_damage *d); /* in order with the runs */
    void *arg;
};
/* `buf` holds one whole file; the runs' bytes point into it, and a wrong bit is put right in it.
 * Calls on_run for what can be read of the file's last use, in order. Returns the entries that were
 * whole or mended, or what a callback returned when negative. Pure. */
int64_t journal_walk(uint8_t *buf, uint64_t len, const struct journal_reader *r);
/* journal_run.crc of a row in an entry of this generation. */
uint32_t journal_run_crc(const struct journal_run *run, uint64_t generation);
/* Name of file n: "<directory id>-<shard>-<n>.journal". */
void journal_file_name(char out[64], const struct uuid *directory_id, uint16_t shard, uint32_t n);
/* Parse such a name. 0 or -E_MALFORMED. */
NODISCARD int journal_file_parse(const char *name, struct uuid *ret_id, uint32_t *ret_shard,
                                 uint32_t *ret_n);
