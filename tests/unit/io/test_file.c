/* The real file table on a real temporary directory. */
#include "dataplane/io/file.c"
#include "tests/support/test.h"
#include <stdio.h>
#include <sys/wait.h>

struct fixture {
    char dir[64];
    struct file_io io;
};
static struct fixture fx;

static const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", fx.dir, name);
    return path[turn];
}

static int setup(void **state)
{
    fx = (struct fixture){.dir = "file-test-XXXXXX", .io = {.ops = &file_io_real}};
    return mkdtemp(fx.dir) == NULL || uring_create(32, &fx.io.uring) != 0;
}

static int forget(void *arg, const char *name)
{
    const char *path = path_of(name);
    return unlink(path) == 0 || rmdir(path) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    uring_destroy(fx.io.uring);
    return real_list(&fx.io, fx.dir, forget, NULL) != 0 || rmdir(fx.dir) != 0;
}

struct waited {
    struct file_op op;
    int res, runs;
};
static void waited_done(struct file_op *op, int res)
{
    struct waited *w = (struct waited *)op;
    w->res = res;
    w->runs++;
}
static int wait_for(struct waited *w)
{
    while (w->runs == 0) {
        uring_submit(fx.io.uring);
        if (uring_reap(fx.io.uring, 8) == 0)
            uring_wait(fx.io.uring, 100000000);
    }
    return w->res;
}
#define WAITED ((struct waited){.op = {.done = waited_done}})

static struct file *file_new(const char *name, int flags)
{
    struct file *f = NULL;
    assert_int_equal(real_open(&fx.io, path_of(name), flags | FILE_CREATE, &f), 0);
    return f;
}

static void what_was_written_directly_is_read_back(void **state)
{
    struct file *f = file_new("a", FILE_DIRECT | FILE_EXCL);
    uint8_t *buf = aligned_alloc(FILE_BLOCK, 4 * FILE_BLOCK);
    uint8_t *back = aligned_alloc(FILE_BLOCK, 8 * FILE_BLOCK);
    memset(buf, 'x', 4 * FILE_BLOCK);
    struct waited w = WAITED, r = WAITED, s = WAITED, e = WAITED;
    real_write(f, &w.op, buf, 4 * FILE_BLOCK, 0);
    assert_int_equal(wait_for(&w), 4 * FILE_BLOCK);
    real_flush(f, &s.op);
    assert_int_equal(wait_for(&s), 0);
    real_read(f, &r.op, back, 8 * FILE_BLOCK, 0); /* past the end: short, not an error */
    assert_int_equal(wait_for(&r), 4 * FILE_BLOCK);
    assert_memory_equal(buf, back, 4 * FILE_BLOCK);
    real_read(f, &e.op, back, FILE_BLOCK, 4 * FILE_BLOCK);
    assert_int_equal(wait_for(&e), 0);
    assert_int_equal(fx.io.stats.writes, 1);
    assert_int_equal(fx.io.stats.write_bytes, 4 * FILE_BLOCK);
    assert_int_equal(fx.io.stats.reads, 2);
    assert_int_equal(fx.io.stats.read_bytes, 4 * FILE_BLOCK);
    assert_int_equal(fx.io.stats.flushes, 1);
    assert_int_equal(fx.io.stats.flush_errors, 0);
    real_close(f);
    free(buf);
    free(back);
}

static void a_direct_read_of_a_file_that_ends_inside_a_block_is_short(void **state)
{
    struct file *f = file_new("a", FILE_DIRECT);
    assert_int_equal(real_pwrite(f, "abcde", 5, 0), 5); /* unaligned: through the page cache */
    uint8_t *back = aligned_alloc(FILE_BLOCK, 2 * FILE_BLOCK);
    struct waited r = WAITED;
    real_read(f, &r.op, back, 2 * FILE_BLOCK, 0);
    assert_int_equal(wait_for(&r), 5);
    assert_memory_equal(back, "abcde", 5);
    assert_int_equal(real_pread(f, back, 2 * FILE_BLOCK, 0), 5);
    assert_int_equal(real_pread(f, back, 3, 1), 3);
    assert_memory_equal(back, "bcd", 3);
    real_close(f);
    free(back);
}

static void a_refused_direct_transfer_turns_the_file_into_a_buffered_one(void **state)
{
    /* The kernel refuses the alignment, as a file system without direct I/O refuses any transfer.
     */
    struct file *f = file_new("a", FILE_DIRECT);
    if (!file_is_direct(f)) {
        real_close(f);
        skip();
    }
    uint8_t *buf = aligned_alloc(FILE_BLOCK, 2 * FILE_BLOCK);
    memset(buf, 'y', 2 * FILE_BLOCK);
    struct waited w = WAITED;
    w.op = (struct file_op){.uop = {op_done},
                            .done = waited_done,
                            .file = f,
                            .kind = FILE_OP_WRITE,
                            .buf = buf + 1,
                            .len = 1000,
                            .pos = 3};
    f->in_flight++;
    op_queue(&w.op);
    assert_int_equal(wait_for(&w), 1000);
    assert_false(file_is_direct(f));
    assert_int_equal(real_pread(f, buf, 5, 1), 5);
    assert_memory_equal(buf, "\0\0yyy", 5);
    real_close(f);
    free(buf);
}

static void tmpfs_works_buffered_or_not(void **state)
{
    char path[] = "/dev/shm/file-test-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        skip();
    close(fd);
    struct file *f = NULL;
    assert_int_equal(real_open(&fx.io, path, FILE_DIRECT, &f), 0);
    uint8_t *buf = aligned_alloc(FILE_BLOCK, FILE_BLOCK);
    memset(buf, 'z', FILE_BLOCK);
    struct waited w = WAITED;
    real_write(f, &w.op, buf, FILE_BLOCK, 0);
    assert_int_equal(wait_for(&w), FILE_BLOCK);
    real_close(f);
    unlink(path);
    free(buf);
}

static void a_full_device_is_an_error_of_the_write(void **state)
{
    struct file *f = NULL;
    if (real_open(&fx.io, "/dev/full", 0, &f) < 0)
        skip();
    static uint8_t page[FILE_BLOCK];
    struct waited w = WAITED;
    real_write(f, &w.op, page, sizeof(page), 0);
    assert_int_equal(wait_for(&w), -ENOSPC);
    assert_int_equal(fx.io.stats.write_errors, 1);
    assert_int_equal(real_pwrite(f, page, sizeof(page), 0), -ENOSPC);
    assert_int_equal(fx.io.stats.write_errors, 2);
    real_close(f);
}

static void a_failed_flush_is_reported_once_and_counted(void **state)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    struct file f = {.io = &fx.io, .fd = fd[0]}; /* a pipe cannot be flushed */
    struct waited s = WAITED;
    real_flush(&f, &s.op);
    assert_int_equal(wait_for(&s), -EINVAL);
    assert_int_equal(s.runs, 1);
    assert_int_equal(fx.io.stats.flush_errors, 1);
    close(fd[0]);
    close(fd[1]);
}

struct names {
    int cnt;
    bool has_b, has_d;
};
static int collect(void *arg, const char *name)
{
    struct names *n = arg;
    n->cnt++;
    n->has_b |= strcmp(name, "b") == 0;
    n->has_d |= strcmp(name, "d") == 0;
    return 0;
}
static int stop_at_once(void *arg, const char *name)
{
    return 77;
}

static void directory_calls_do_what_they_say(void **state)
{
    struct file *f = file_new("a", 0), *dup;
    assert_int_equal(real_open(&fx.io, path_of("a"), FILE_CREATE | FILE_EXCL, &dup), -EEXIST);
    assert_int_equal(real_open(&fx.io, path_of("none"), 0, &dup), -ENOENT);
    assert_int_equal(real_truncate(f, 12345), 0);
    uint64_t size;
    assert_int_equal(real_size(f, &size), 0);
    assert_int_equal(size, 12345);
    assert_int_equal(real_fsync(f), 0);
    real_close(f);
    assert_int_equal(real_rename(&fx.io, path_of("a"), path_of("b")), 0);
    assert_int_equal(real_mkdir(&fx.io, path_of("d")), 0);
    assert_int_equal(real_mkdir(&fx.io, path_of("d")), -EEXIST);
    assert_int_equal(real_dir_sync(&fx.io, fx.dir), 0);
    assert_int_equal(real_dir_sync(&fx.io, path_of("none")), -ENOENT);
    assert_int_equal(fx.io.stats.flushes, 2);
    struct names n = {0};
    assert_int_equal(real_list(&fx.io, fx.dir, collect, &n), 0);
    assert_int_equal(n.cnt, 2);
    assert_true(n.has_b);
    assert_true(n.has_d);
    assert_int_equal(real_list(&fx.io, fx.dir, stop_at_once, NULL), 77);
    assert_int_equal(real_list(&fx.io, path_of("none"), collect, &n), -ENOENT);
    struct file_stat st;
    assert_int_equal(real_stat(&fx.io, path_of("b"), &st), 0);
    assert_int_equal(st.size, 12345);
    assert_false(st.is_dir);
    assert_true(st.mtime_ms > 1000000000000);
    assert_int_equal(real_stat(&fx.io, path_of("d"), &st), 0);
    assert_true(st.is_dir);
    assert_int_equal(real_stat(&fx.io, path_of("none"), &st), -ENOENT);
    assert_int_equal(real_rmdir(&fx.io, path_of("d")), 0);
    assert_int_equal(real_unlink(&fx.io, path_of("b")), 0);
    assert_int_equal(real_unlink(&fx.io, path_of("b")), -ENOENT);
    uint64_t bytes;
    uint64_t total;
    assert_int_equal(real_space(&fx.io, fx.dir, &bytes, &total), 0);
    assert_true(total >= bytes);
    assert_true(bytes > 0);
}

static void a_lock_keeps_other_processes_out_until_it_is_closed(void **state)
{
    struct file *f, *g;
    assert_int_equal(real_lock(&fx.io, path_of(".lock"), &f), 0);
    for (int held = 1; held >= 0; held--) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(real_lock(&fx.io, path_of(".lock"), &g) == (held ? -E_LOCKED : 0) ? 0 : 1);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        if (held)
            real_close(f);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_was_written_directly_is_read_back),
        T(a_direct_read_of_a_file_that_ends_inside_a_block_is_short),
        T(a_refused_direct_transfer_turns_the_file_into_a_buffered_one),
        T(tmpfs_works_buffered_or_not),
        T(a_full_device_is_an_error_of_the_write),
        T(a_failed_flush_is_reported_once_and_counted),
        T(directory_calls_do_what_they_say),
        T(a_lock_keeps_other_processes_out_until_it_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
