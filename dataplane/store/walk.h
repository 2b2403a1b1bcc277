/* walk.h - a window that slides over a segment file, and the batches seen through it.
 *
 * Reads are whole blocks into an aligned buffer, so that a file may be opened FILE_DIRECT and the
 * page cache left alone. Blocking; any thread, one at a time per walk. */
#pragma once
#include "dataplane/io/file.h"
#include "lib/base/err.h"
#include "lib/batch/check.h"
#include <stdint.h>

#define WALK_WINDOW (UINT64_C(512) << 10) /* stays in a core's own cache: read, then checked */

struct walk {
    struct file_io *io;
    struct file *f;
    uint64_t size;
    uint8_t *buf;
    uint64_t cap, at, len; /* buf holds [at, at + len) of the file */
    uint64_t bytes_read;
};
/* flags: FILE_RDONLY, perhaps with FILE_DIRECT. 0 or -errno; walk_close in any case. */
NODISCARD int walk_open(struct walk *w, struct file_io *io, const char *path, int flags);
void walk_close(struct walk *w);
/* Bytes [pos, pos + len), which must lie within the file; valid until the next call. 0 or -errno.
 */
NODISCARD int walk_get(struct walk *w, uint64_t pos, uint64_t len, const uint8_t **ret);
/* Is everything from pos on zero? */
NODISCARD int walk_is_zero(struct walk *w, uint64_t pos, bool *ret);
/* The batch at pos, header and CRC. 1: good, *ret_bytes valid until the next call; 0: not a good
 * batch; -errno. */
NODISCARD int walk_batch(struct walk *w, uint64_t pos, struct batch_info *ret,
                         const uint8_t **ret_bytes);
/* The first good batch behind pos with base offset >= from and an offset below `to`, byte by byte:
 * where the log goes on behind damage. 1: found, 0: none, -errno. */
NODISCARD int walk_resync(struct walk *w, uint64_t pos, int64_t from, int64_t to, uint64_t *ret_pos,
                          struct batch_info *ret);
