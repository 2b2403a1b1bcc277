/* file.c - the real file_io table: Linux files, O_DIRECT where the file system takes it.
 *
 * Direct I/O is asked for after open, by fcntl: so a refusal never leaves a half-opened or
 * half-created file behind. Three answers are possible: statx says that the file cannot (or only
 * with a larger block than ours); fcntl says -EINVAL; or, on a few file systems, the first read or
 * write says -EINVAL. Each of them turns the file into a buffered one for the rest of its life. */
#include "dataplane/io/file.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Newer than the C library's headers (Linux 6.1). */
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000u
#endif
#define STATX_DIO_MEM_ALIGN_POS 0x98 /* offsets in struct statx, fixed ABI */
#define STATX_DIO_OFFSET_ALIGN_POS 0x9c
static_assert(sizeof(struct statx) == 256, "struct statx is ABI");

struct file {
    struct file_io *io;
    int fd;
    bool is_direct;
    uint32_t in_flight;
};

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

bool file_is_direct(const struct file *f)
{
    return f->is_direct;
}

/* ------------------------------------------------------------------------------------- direct I/O
 */

static bool statx_allows_direct(int fd)
{
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) != 0 ||
        (st.stx_mask & STATX_DIOALIGN) == 0)
        return true; /* not known: try */
    uint32_t mem_align, offset_align;
    memcpy(&mem_align, (const char *)&st + STATX_DIO_MEM_ALIGN_POS, sizeof(mem_align));
    memcpy(&offset_align, (const char *)&st + STATX_DIO_OFFSET_ALIGN_POS, sizeof(offset_align));
    return mem_align != 0 && mem_align <= FILE_BLOCK && offset_align != 0 &&
           offset_align <= FILE_BLOCK;
}

static bool set_direct(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* The file system refused an aligned transfer: buffered from now on. */
static bool fall_back_to_buffered(struct file *f)
{
    if (!f->is_direct)
        return false;
    f->is_direct = false;
    return set_direct(f->fd, false);
}

static bool is_aligned(const void *buf, uint64_t len, uint64_t pos)
{
    return (((uintptr_t)buf | len | pos) & (FILE_BLOCK - 1)) == 0;
}

/* --------------------------------------------------------------------------------------- blocking
 */

static int real_open(struct file_io *io, const char *path, int flags, struct file **ret)
{
    int oflags = O_CLOEXEC | (flags & FILE_RDONLY ? O_RDONLY : O_RDWR) |
                 (flags & FILE_CREATE ? O_CREAT : 0) | (flags & FILE_EXCL ? O_EXCL : 0);
    int fd = open(path, oflags, 0640);
    if (fd < 0)
        return -errno;
    struct file *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        close(fd);
        return -ENOMEM;
    }
    f->io = io;
    f->fd = fd;
    f->is_direct = (flags & FILE_DIRECT) && statx_allows_direct(fd) && set_direct(fd, true);
    *ret = f;
    return 0;
}

static void real_close(struct file *f)
{
    if (f == NULL)
        return;
    ASSERT(f->in_flight == 0);
    close(f->fd);
    free(f);
}

static int real_size(struct file *f, uint64_t *ret)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return -errno;
    *ret = (uint64_t)st.st_size;
    return 0;
}

static int real_truncate(struct file *f, uint64_t size)
{
    return ftruncate(f->fd, (off_t)size) == 0 ? 0 : -errno;
}

/* Bytes done: all of len, or fewer at the end of the file; or -errno. */
static int64_t transfer(struct file *f, uint8_t *buf, size_t len, uint64_t pos, bool is_write)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = is_write ? pwrite(f->fd, buf + done, len - done, (off_t)(pos + done))
                             : pread(f->fd, buf + done, len - done, (off_t)(pos + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && fall_back_to_buffered(f))
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 && is_write)
            return -EIO;
        if (n == 0)
            break;
        done += (size_t)n;
        /* A direct transfer that ends inside a block has met the end of the file. */
        if (f->is_direct && done < len && (done & (FILE_BLOCK - 1)) != 0 && !is_write)
            break;
    }
    return (int64_t)done;
}

/* An unaligned transfer on a direct file goes through the page cache: these calls are for start,
 * recovery and housekeeping, where simplicity counts and nothing else is using the file. */
static int64_t transfer_any(struct file *f, uint8_t *buf, size_t len, uint64_t pos, bool is_write)
{
    if (!f->is_direct || is_aligned(buf, len, pos))
        return transfer(f, buf, len, pos, is_write);
    if (!set_direct(f->fd, false))
        return -errno;
    f->is_direct = false;
    int64_t n = transfer(f, buf, len, pos, is_write);
    f->is_direct = set_direct(f->fd, true);
    return n;
}

static int64_t real_pread(struct file *f, void *buf, size_t len, uint64_t pos)
{
    int64_t n = transfer_any(f, buf, len, pos, false);
    count(&f->io->stats.reads, 1);
    if (n > 0)
        count(&f->io->stats.read_bytes, (uint64_t)n);
    return n;
}

static int64_t real_pwrite(struct file *f, const void *buf, size_t len, uint64_t pos)
{
    int64_t n = transfer_any(f, (uint8_t *)(uintptr_t)buf, len, pos, true);
    count(&f->io->stats.writes, 1);
    if (n < 0)
        count(&f->io->stats.write_errors, 1);
    else
        count(&f->io->stats.write_bytes, (uint64_t)n);
    return n;
}

static int real_fsync(struct file *f)
{
    count(&f->io->stats.flushes, 1);
    if (fsync(f->fd) == 0)
        return 0;
    int rc = -errno;
    count(&f->io->stats.flush_errors, 1);
    return rc;
}

static int real_rename(struct file_io *io, const char *from, const char *to)
{
    return rename(from, to) == 0 ? 0 : -errno;
}

static int real_unlink(struct file_io *io, const char *path)
{
    return unlink(path) == 0 ? 0 : -errno;
}

static int real_mkdir(struct file_io *io, const char *path)
{
    return mkdir(path, 0750) == 0 ? 0 : -errno;
}

/* One flush through a directory: of its names, or with syncfs of its whole file system. */
static int dir_flush(struct file_io *io, const char *path, int (*flush)(int fd))
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    count(&io->stats.flushes, 1);
    int rc = flush(fd) == 0 ? 0 : -errno;
    if (rc < 0)
        count(&io->stats.flush_errors, 1);
    close(fd);
    return rc;
}

static int real_dir_sync(struct file_io *io, const char *path)
{
    return dir_flush(io, path, fsync);
}

/* Those whose syncfs writes data and names, tells errors of either, and is not left to somebody
 * else, as by FUSE. */
static bool real_can_sync_all(struct file_io *io, const char *path)
{
    (void)io;
    struct statfs st;
    if (statfs(path, &st) != 0)
        return false;
    switch ((uint32_t)st.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        return true;
    default:
        return false;
    }
}

static int real_sync_all(struct file_io *io, const char *path)
{
    return real_can_sync_all(io, path) ? dir_flush(io, path, syncfs) : -EOPNOTSUPP;
}

static int real_list(struct file_io *io, const char *path, file_list_fn *fn, void *arg)
{
    DIR *d = opendir(path);
    if (d == NULL)
        return -errno;
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (e == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = fn(arg, e->d_name);
    }
    closedir(d);
    return rc;
}

static int real_rmdir(struct file_io *io, const char *path)
{
    return rmdir(path) == 0 ? 0 : -errno;
}

static int real_stat(struct file_io *io, const char *path, struct file_stat *ret)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return -errno;
    *ret = (struct file_stat){
        .size = (uint64_t)st.st_size,
        .mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
        .is_dir = S_ISDIR(st.st_mode),
    };
    return 0;
}

static int real_lock(struct file_io *io, const char *path, struct file **ret)
{
    struct file *f = NULL;
    int rc = real_open(io, path, FILE_CREATE, &f);
    if (rc < 0)
        return rc;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}; /* l_len 0: to the end */
    if (fcntl(f->fd, F_SETLK, &lock) != 0) {
        rc = errno == EACCES || errno == EAGAIN ? -E_LOCKED : -errno;
        real_close(f);
        return rc;
    }
    *ret = f;
    return 0;
}

static int real_space(struct file_io *io, const char *path, uint64_t *ret_free, uint64_t *ret_total)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return -errno;
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    return 0;
}

/* ----------------------------------------------------------------------------------- asynchronous
 */

/* Queue what is left of a transfer, or the flush. */
static void op_queue(struct file_op *op)
{
    struct file *f = op->file;
    uint8_t *buf = (uint8_t *)op->buf + op->finished;
    uint32_t left = (uint32_t)(op->len - op->finished);
    switch ((enum file_op_kind)op->kind) {
    case FILE_OP_READ:
        uring_read(f->io->uring, &op->uop, f->fd, buf, left, op->pos + op->finished);
        break;
    case FILE_OP_WRITE:
        uring_write(f->io->uring, &op->uop, f->fd, buf, left, op->pos + op->finished);
        break;
    case FILE_OP_FLUSH:
        uring_fdatasync(f->io->uring, &op->uop, f->fd);
        break;
    case FILE_OP_RESERVE:
        uring_fallocate(f->io->uring, &op->uop, f->fd, op->pos, op->len);
        break;
    }
}

/* Is there a reason to ask again? A failed flush is never retried: the kernel may already have
 * forgotten the pages, and a second fsync would then lie. */
static bool op_goes_on(struct file_op *op, int res)
{
    if (op->kind == FILE_OP_FLUSH || op->kind == FILE_OP_RESERVE)
        return false;
    if (res == -EINTR || res == -EAGAIN)
        return true;
    if (res == -EINVAL)
        return fall_back_to_buffered(op->file);
    if (res <= 0)
        return false;
    op->finished += (uint32_t)res;
    if (op->finished >= op->len)
        return false;
    /* Short. A direct read that ends inside a block has met the end of the file. */
    return op->kind == FILE_OP_WRITE || !op->file->is_direct ||
           (op->finished & (FILE_BLOCK - 1)) == 0;
}

static void op_done(struct uring_op *uop, int res, int buf_id, bool more)
{
    struct file_op *op = container_of(uop, struct file_op, uop);
    struct file *f = op->file;
    struct file_stats *st = &f->io->stats;
    if (op_goes_on(op, res)) {
        op_queue(op);
        return;
    }
    if (op->kind == FILE_OP_WRITE && res == 0 && op->finished < op->len)
        res = -EIO; /* no progress and no reason */
    if (res >= 0)
        res = (int)op->finished;
    switch ((enum file_op_kind)op->kind) {
    case FILE_OP_READ:
        count(&st->read_bytes, op->finished);
        break;
    case FILE_OP_WRITE:
        count(&st->write_bytes, op->finished);
        count(&st->write_errors, res < 0);
        break;
    case FILE_OP_FLUSH:
        count(&st->flush_errors, res < 0);
        break;
    case FILE_OP_RESERVE:
        break;
    }
    f->in_flight--;
    op->done(op, res);
}

static void op_start(struct file *f, struct file_op *op, enum file_op_kind kind, void *buf,
                     uint64_t len, uint64_t pos)
{
    ASSERT(f->io->uring != NULL);
    ASSERT(!f->is_direct || is_aligned(buf, len, pos));
    op->uop.done = op_done;
    op->file = f;
    op->kind = (uint8_t)kind;
    op->buf = buf;
    op->len = len;
    op->pos = pos;
    op->finished = 0;
    f->in_flight++;
    op_queue(op);
}

static void real_read(struct file *f, struct file_op *op, void *buf, uint32_t len, uint64_t pos)
{
    count(&f->io->stats.reads, 1);
    op_start(f, op, FILE_OP_READ, buf, len, pos);
}

static void real_write(struct file *f, struct file_op *op, const void *buf, uint32_t len,
                       uint64_t pos)
{
    count(&f->io->stats.writes, 1);
    op_start(f, op, FILE_OP_WRITE, (void *)(uintptr_t)buf, len, pos);
}

static void real_flush(struct file *f, struct file_op *op)
{
    count(&f->io->stats.flushes, 1);
    op_start(f, op, FILE_OP_FLUSH, NULL, 0, 0);
}

static void real_reserve(struct file *f, struct file_op *op, uint64_t pos, uint64_t len)
{
    op_start(f, op, FILE_OP_RESERVE, NULL, len, pos);
}

const struct file_io_ops file_io_real = {
    .open = real_open,
    .close = real_close,
    .size = real_size,
    .truncate = real_truncate,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .fsync = real_fsync,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .dir_sync = real_dir_sync,
    .sync_all = real_sync_all,
    .can_sync_all = real_can_sync_all,
    .list = real_list,
    .rmdir = real_rmdir,
    .stat = real_stat,
    .lock = real_lock,
    .space = real_space,
    .read = real_read,
    .write = real_write,
    .flush = real_flush,
    .reserve = real_reserve,
};
