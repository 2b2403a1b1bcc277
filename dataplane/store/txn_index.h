/* txn_index.h - the aborted transactions of a partition: what a read_committed consumer must skip,
 * and Kafka's .txnindex file of each segment (ondisk.md 5): one entry per ABORT marker that lies in
 * the segment, 34 bytes: int16 version 0, int64 producer id, first offset, offset of the marker,
 * last stable offset once the marker is durable. No file: none was aborted there.
 *
 * All of them are in memory, oldest marker first, at most ABORTED_MAX of a partition: with so many,
 * no transaction may begin there until old segments went.
 * Runs on: the partition's owner (recovery before it); files: threads that may block. */
#pragma once
#include "dataplane/io/file.h"
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ABORTED_MAX (1u << 20)
#define TXNINDEX_ENTRY_LEN 34u

struct aborted_txn {
    int64_t producer_id, first_offset, last_offset; /* last: of the marker */
    int64_t stable_offset;
};
struct aborted_txns {
    struct aborted_txn *v;
    uint32_t cnt, cap;
};
void aborted_fini(struct aborted_txns *t);
/* Room for one more, so that the next add cannot fail. 0, -ENOMEM, -E_LIMIT (ABORTED_MAX). */
NODISCARD int aborted_reserve(struct aborted_txns *t);
/* Its marker is behind all others. 0 or as above. */
NODISCARD int aborted_add(struct aborted_txns *t, const struct aborted_txn *a);
/* Forget those whose marker is below `offset`. */
void aborted_truncate_start(struct aborted_txns *t, int64_t offset);
/* Those that may have records in [from, to): a range of t->v. */
struct aborted_txns aborted_find(const struct aborted_txns *t, int64_t from, int64_t to);
/* The file of a segment: entries with markers in [from, to), malloc'd; NULL: no entry, no file. */
NODISCARD int aborted_encode(const struct aborted_txns *t, int64_t from, int64_t to, uint8_t **ret,
                             size_t *ret_len);
/* Adds the file's entries with markers below `to`. 0, -ENOMEM, -E_LIMIT, -E_MALFORMED: nothing was
 * added. */
NODISCARD int aborted_decode(struct aborted_txns *t, int64_t to, const uint8_t *p, size_t len);
/* Blocking: writes (flushed, the name too: a snapshot that is found later says that this file was
 * read) or, for NULL, removes the file of the segment at `base`. */
NODISCARD int txn_index_store(struct file_io *io, const char *dir, int64_t base, const uint8_t *p,
                              size_t len);
/* Blocking: aborted_decode of the segment's file; no file is no entry. */
NODISCARD int txn_index_load(struct file_io *io, const char *dir, int64_t base, int64_t to,
                             struct aborted_txns *t);
