/* file.h - files as the store sees them: a table of operations, so that tests put a disk that
 * fails, tears and forgets in its place (tests/support/fake_file.c).
 *
 * Asynchronous operations (read, write, sync) run on the shard and complete on a later turn through
 * file_op.done. Blocking ones (open, create, rename, unlink, truncate, dir_sync, list, ...) are
 * called only where blocking is allowed: at start, or on a housekeeping thread through
 * MSG_DIR_WORK. Every data write and flush goes through this table, where it is counted
 * (file_io.stats). */
#pragma once
#include "dataplane/io/uring.h"
#include "lib/base/err.h"

#define FILE_BLOCK 4096u /* alignment of buffers, positions and lengths of direct I/O */

struct file;
struct file_op;
typedef void file_done_fn(struct file_op *op, int res);
enum file_op_kind { FILE_OP_READ, FILE_OP_WRITE, FILE_OP_FLUSH, FILE_OP_RESERVE };
struct file_op { /* the caller's memory until done; the caller sets only `done` */
    struct uring_op uop;
    file_done_fn *done;
    struct file *file;
    uint64_t len; /* asked for */
    /* the implementation's */
    void *buf;
    uint64_t pos;
    uint32_t finished; /* bytes of a write that came back short and was continued */
    uint8_t kind;      /* enum file_op_kind */
};

struct file_stats {
    uint64_t writes, write_bytes, reads, read_bytes, flushes, flush_errors, write_errors;
};

struct file_io {
    const struct file_io_ops *ops;
    struct uring *uring; /* the shard's; NULL for blocking-only users (recovery) */
    /* Counted atomically: a housekeeping thread may run blocking calls on a shard's file_io. While
     * one may, read them by file_stats_get. */
    struct file_stats stats;
    void *arg;
};
/* Any thread. Each number is exact; they are not of one moment. */
static inline void file_stats_get(const struct file_io *io, struct file_stats *ret)
{
    const struct file_stats *s = &io->stats;
    ret->writes = __atomic_load_n(&s->writes, __ATOMIC_RELAXED);
    ret->write_bytes = __atomic_load_n(&s->write_bytes, __ATOMIC_RELAXED);
    ret->reads = __atomic_load_n(&s->reads, __ATOMIC_RELAXED);
    ret->read_bytes = __atomic_load_n(&s->read_bytes, __ATOMIC_RELAXED);
    ret->flushes = __atomic_load_n(&s->flushes, __ATOMIC_RELAXED);
    ret->flush_errors = __atomic_load_n(&s->flush_errors, __ATOMIC_RELAXED);
    ret->write_errors = __atomic_load_n(&s->write_errors, __ATOMIC_RELAXED);
}
struct file_stat {
    uint64_t size;
    int64_t mtime_ms;
    bool is_dir;
};
typedef int file_list_fn(void *arg, const char *name); /* non-zero stops and is returned */
enum { FILE_RDONLY = 1, FILE_CREATE = 2, FILE_DIRECT = 4, FILE_EXCL = 8 };
struct file_io_ops {
    /* blocking; 0 or -errno. open: -ENOENT, -EEXIST (FILE_EXCL), ...; FILE_DIRECT is a wish, see
     * file_is_direct. pread and pwrite do all of len (a read stops early only at the end of file)
     * and return the bytes done; on a direct file unaligned ones go through the page cache. */
    int (*open)(struct file_io *io, const char *path, int flags, struct file **ret);
    void (*close)(struct file *f);
    int (*size)(struct file *f, uint64_t *ret);
    int (*truncate)(struct file *f, uint64_t size);
    int64_t (*pread)(struct file *f, void *buf, size_t len, uint64_t pos);
    int64_t (*pwrite)(struct file *f, const void *buf, size_t len, uint64_t pos);
    int (*fsync)(struct file *f);
    int (*rename)(struct file_io *io, const char *from, const char *to);
    int (*unlink)(struct file_io *io, const char *path);
    int (*mkdir)(struct file_io *io, const char *path);
    /* fsync of the directory `path`: makes creations, renames and removals in it durable */
    int (*dir_sync)(struct file_io *io, const char *path);
    /* One flush for everything that was written on the file system of `path` before the call, by
     * whatever name; what a device keeps in a volatile cache is there with the next fsync.
     * -EOPNOTSUPP: it is not known to do that (FUSE does not): flush file by file. */
    int (*sync_all)(struct file_io *io, const char *path);
    /* Would sync_all do it? */
    bool (*can_sync_all)(struct file_io *io, const char *path);
    /* Names in a directory except "." and "..", in no particular order. */
    int (*list)(struct file_io *io, const char *path, file_list_fn *fn, void *arg);
    int (*rmdir)(struct file_io *io, const char *path);
    int (*stat)(struct file_io *io, const char *path, struct file_stat *ret);
    /* Open (create) `path` and take the exclusive lock that Java's FileChannel.tryLock takes (POSIX
     * record lock over the whole file). -E_LOCKED when another process has it; released by close.
     */
    int (*lock)(struct file_io *io, const char *path, struct file **ret);
    /* Bytes an unprivileged writer can still allocate on the file system of `path`, and its size.
     */
    int (*space)(struct file_io *io, const char *path, uint64_t *ret_free, uint64_t *ret_total);
    /* asynchronous, on the shard; res of done: bytes done or -errno. A write is all of len or an
     * error, a read is short only at the end of file. On a direct file buffer, length and position
     * are multiples of FILE_BLOCK (asserted). Order between operations is the caller's: a flush
     * covers the writes whose done() has run. */
    void (*read)(struct file *f, struct file_op *op, void *buf, uint32_t len, uint64_t pos);
    void (*write)(struct file *f, struct file_op *op, const void *buf, uint32_t len, uint64_t pos);
    void (*flush)(struct file *f, struct file_op *op); /* fdatasync */
    /* Make the file at least pos + len long, with room on the disk for it; what is new reads as
     * zeros. res 0, or -EOPNOTSUPP, -ENOSPC, ... */
    void (*reserve)(struct file *f, struct file_op *op, uint64_t pos, uint64_t len);
};
/* The real table: O_DIRECT where FILE_DIRECT is asked for and the file system takes it
 * (file_is_direct says), through io_uring for the asynchronous part. */
extern const struct file_io_ops file_io_real;
/* False where the file system refuses O_DIRECT, at open or at the first write (remembered). */
bool file_is_direct(const struct file *f);
