/* forgetfs.c - a file system that forgets: a power cut for tests.
 *
 *     forgetfs BACKING MOUNTPOINT        (foreground, one thread)
 *
 * What programs see lives in memory. Only fsync/fdatasync of a file carries its data and size to
 * BACKING, and only fsync of a directory carries its entries there: names made, renamed or removed
 * since then are forgotten, as POSIX allows. SIGKILL is the power cut; the next forgetfs on the
 * same BACKING starts from what was made durable.
 *
 * And one that fails: FORGETFS_FAULTS names a file of lines "<operation> <errno> <part of a path>",
 * read again whenever it changes. Operations are read, write, fsync, and change: all that a
 * read-only file system refuses. "delay <milliseconds> <part of a path>" makes the fsync of such a
 * file take that long, and everything else wait for it, as a slow disk does. As on Linux, what a failed fsync should have carried is not carried
 * by the next one either.
 *
 * BACKING/node.N holds the bytes of inode N, BACKING/dir.N the entries of directory N, one
 * "name\tinode\ttype\tmode" line each, replaced by rename. Inode 1 is the root. Numbers are never used again,
 * so that a stale durable entry can only lead to old content, never to another file's. */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u

struct node {
    uint64_t ino;
    mode_t mode;
    uint32_t links;  /* entries naming it, plus open handles */
    uint8_t *data;   /* regular file */
    uint64_t size, cap;
    uint8_t *dirty;  /* one byte per block */
    bool size_dirty;
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    struct entry *entries; /* directory */
    uint32_t entry_cnt, entry_cap;
};
struct entry {
    char *name;
    struct node *node;
};

static char backing[4096];
static struct node *root;
static uint64_t next_ino = 2;
static FILE *trace; /* one "start end path" line a flush, CLOCK_MONOTONIC ns; FORGETFS_TRACE */

#define FAULTS_MAX 16
static struct fault {
    char op[8], part[256];
    int err;
} faults[FAULTS_MAX];
static unsigned fault_cnt;
static struct stat faults_read;

static void faults_load(const char *path)
{
    struct stat st;
    /* Every change is another file; two of them may be in one tick of the clock. */
    if (stat(path, &st) < 0 || (st.st_mtim.tv_sec == faults_read.st_mtim.tv_sec &&
                                st.st_mtim.tv_nsec == faults_read.st_mtim.tv_nsec &&
                                st.st_ino == faults_read.st_ino))
        return;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return;
    faults_read = st;
    fault_cnt = 0;
    while (fault_cnt < FAULTS_MAX &&
           fscanf(f, "%7s %d %255s", faults[fault_cnt].op, &faults[fault_cnt].err,
                  faults[fault_cnt].part) == 3)
        fault_cnt++;
    fclose(f);
}

/* -errno that the operation is to fail with, or 0. */
static int fault_of(const char *op, const char *path)
{
    static const char *file;
    if (file == NULL && (file = getenv("FORGETFS_FAULTS")) == NULL)
        return 0;
    faults_load(file);
    for (unsigned i = 0; i < fault_cnt; i++)
        if (strcmp(faults[i].op, op) == 0 && strstr(path, faults[i].part) != NULL)
            return -faults[i].err;
    return 0;
}

static void backing_path(char *out, size_t cap, const char *kind, uint64_t ino)
{
    snprintf(out, cap, "%s/%s.%llu", backing, kind, (unsigned long long)ino);
}

static struct node *node_create(mode_t mode)
{
    struct node *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return NULL;
    n->ino = next_ino++;
    n->mode = mode;
    struct fuse_context *c = fuse_get_context();
    n->uid = c != NULL ? c->uid : 0;
    n->gid = c != NULL ? c->gid : 0;
    clock_gettime(CLOCK_REALTIME, &n->mtime);
    return n;
}

static void node_put(struct node *n)
{
    if (--n->links > 0)
        return;
    free(n->data);
    free(n->dirty);
    free(n->entries);
    free(n);
}

static int node_reserve(struct node *n, uint64_t size)
{
    if (size <= n->cap)
        return 0;
    uint64_t cap = n->cap ? n->cap : BLOCK;
    while (cap < size)
        cap *= 2;
    uint8_t *data = realloc(n->data, cap);
    if (data == NULL)
        return -ENOMEM;
    n->data = data;
    memset(data + n->cap, 0, cap - n->cap);
    uint8_t *dirty = realloc(n->dirty, cap / BLOCK);
    if (dirty == NULL)
        return -ENOMEM;
    n->dirty = dirty;
    memset(dirty + n->cap / BLOCK, 0, (cap - n->cap) / BLOCK);
    n->cap = cap;
    return 0;
}

static struct entry *entry_find(struct node *dir, const char *name, size_t len)
{
    for (uint32_t i = 0; i < dir->entry_cnt; i++)
        if (strlen(dir->entries[i].name) == len && memcmp(dir->entries[i].name, name, len) == 0)
            return &dir->entries[i];
    return NULL;
}

static int entry_add(struct node *dir, const char *name, struct node *n)
{
    if (dir->entry_cnt == dir->entry_cap) {
        uint32_t cap = dir->entry_cap ? dir->entry_cap * 2 : 8;
        struct entry *e = realloc(dir->entries, cap * sizeof(*e));
        if (e == NULL)
            return -ENOMEM;
        dir->entries = e;
        dir->entry_cap = cap;
    }
    dir->entries[dir->entry_cnt++] = (struct entry){strdup(name), n};
    n->links++;
    return 0;
}

static void entry_remove(struct node *dir, struct entry *e)
{
    struct node *n = e->node;
    free(e->name);
    *e = dir->entries[--dir->entry_cnt];
    node_put(n);
}

/* The node of a path; *ret_dir and *ret_name say where it is or would be. */
static struct node *walk(const char *path, struct node **ret_dir, const char **ret_name)
{
    struct node *n = root, *dir = NULL;
    const char *name = "";
    while (*path == '/')
        path++;
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        dir = n;
        name = path;
        if (dir == NULL || !S_ISDIR(dir->mode)) {
            dir = NULL;
            n = NULL;
            break;
        }
        struct entry *e = entry_find(dir, path, len);
        n = e != NULL ? e->node : NULL;
        path += len;
        while (*path == '/')
            path++;
    }
    if (ret_dir != NULL)
        *ret_dir = dir;
    if (ret_name != NULL)
        *ret_name = name;
    return n;
}

static struct node *node_of(const char *path, struct fuse_file_info *fi)
{
    return fi != NULL && fi->fh != 0 ? (struct node *)(uintptr_t)fi->fh : walk(path, NULL, NULL);
}

static int op_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    memset(st, 0, sizeof(*st));
    st->st_ino = n->ino;
    st->st_mode = n->mode;
    st->st_nlink = 1;
    st->st_size = (off_t)n->size;
    st->st_blocks = (blkcnt_t)((n->size + 511) / 512);
    st->st_blksize = BLOCK;
    st->st_uid = n->uid;
    st->st_gid = n->gid;
    st->st_mtim = st->st_ctim = st->st_atim = n->mtime;
    return 0;
}

static int make(const char *path, mode_t mode, struct node **ret)
{
    struct node *dir;
    const char *name;
    if (walk(path, &dir, &name) != NULL)
        return -EEXIST;
    int refused = fault_of("change", path);
    if (dir == NULL || strchr(name, '/') != NULL || refused < 0)
        return refused < 0 ? refused : -ENOENT;
    struct node *n = node_create(mode);
    if (n == NULL)
        return -ENOMEM;
    int rc = entry_add(dir, name, n);
    if (rc == 0 && ret != NULL)
        *ret = n;
    return rc;
}

static int op_mkdir(const char *path, mode_t mode)
{
    return make(path, S_IFDIR | mode, NULL);
}
static int op_mknod(const char *path, mode_t mode, dev_t dev)
{
    (void)dev;
    return make(path, mode, NULL);
}
static int op_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    struct node *n = NULL;
    int rc = make(path, S_IFREG | mode, &n);
    if (rc == 0) {
        n->links++;
        fi->fh = (uintptr_t)n;
    }
    return rc;
}
static int op_open(const char *path, struct fuse_file_info *fi)
{
    struct node *n = walk(path, NULL, NULL);
    int rc = (fi->flags & O_ACCMODE) != O_RDONLY ? fault_of("change", path) : 0;
    if (n == NULL)
        return -ENOENT;
    if (rc < 0)
        return rc;
    if (fi->flags & O_TRUNC) {
        n->size = 0;
        n->size_dirty = true;
    }
    n->links++;
    fi->fh = (uintptr_t)n;
    return 0;
}
static int op_release(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    node_put((struct node *)(uintptr_t)fi->fh);
    return 0;
}

static int op_read(const char *path, char *buf, size_t len, off_t pos, struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    int rc = fault_of("read", path);
    if (rc < 0)
        return rc;
    if ((uint64_t)pos >= n->size)
        return 0;
    if (len > n->size - (uint64_t)pos)
        len = n->size - (uint64_t)pos;
    memcpy(buf, n->data + pos, len);
    return (int)len;
}

static int op_write(const char *path, const char *buf, size_t len, off_t pos,
                    struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    uint64_t end = (uint64_t)pos + len;
    int rc = fault_of("write", path);
    if (rc == 0)
        rc = fault_of("change", path);
    if (rc == 0)
        rc = node_reserve(n, end);
    if (rc < 0)
        return rc;
    memcpy(n->data + pos, buf, len);
    for (uint64_t b = (uint64_t)pos / BLOCK; b * BLOCK < end; b++)
        n->dirty[b] = 1;
    if (end > n->size) {
        n->size = end;
        n->size_dirty = true;
    }
    clock_gettime(CLOCK_REALTIME, &n->mtime);
    return (int)len;
}

static int op_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    int rc = fault_of("change", path);
    if (rc == 0)
        rc = node_reserve(n, (uint64_t)size);
    if (rc < 0)
        return rc;
    uint64_t from = (uint64_t)size < n->size ? (uint64_t)size : n->size;
    uint64_t to = (uint64_t)size < n->size ? n->size : (uint64_t)size;
    if (to > from) {
        memset(n->data + from, 0, to - from);
        for (uint64_t b = from / BLOCK; b * BLOCK < to; b++)
            n->dirty[b] = 1;
    }
    n->size = (uint64_t)size;
    n->size_dirty = true;
    return 0;
}

static int op_fallocate(const char *path, int mode, off_t pos, off_t len, struct fuse_file_info *fi)
{
    if (mode != 0)
        return -EOPNOTSUPP;
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    return (uint64_t)(pos + len) > n->size ? op_truncate(path, pos + len, fi) : 0;
}

static int write_all(int fd, const void *buf, size_t len, off_t pos)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, buf, len, pos);
        if (n < 0)
            return -errno;
        buf = (const char *)buf + n;
        len -= (size_t)n;
        pos += n;
    }
    return 0;
}

static uint64_t mono_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int flush_node(struct node *n);

static int op_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    (void)datasync; /* the size is needed to reach the data: fdatasync carries it too */
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    uint64_t start = mono_ns();
    int rc = fault_of("fsync", path);
    if (rc < 0 && n->dirty != NULL)
        memset(n->dirty, 0, (n->size + BLOCK - 1) / BLOCK);
    if (rc < 0)
        return rc;
    rc = flush_node(n);
    const char *delay = getenv("FORGETFS_FSYNC_DELAY_MS");
    int delay_ms = -fault_of("delay", path);
    if (delay_ms == 0 && delay != NULL)
        delay_ms = atoi(delay);
    if (delay_ms > 0)
        usleep((useconds_t)delay_ms * 1000);
    if (trace != NULL && rc == 0) {
        fprintf(trace, "%llu %llu %s\n", (unsigned long long)start, (unsigned long long)mono_ns(),
                path);
        fflush(trace);
    }
    return rc;
}

static int flush_node(struct node *n)
{
    char name[4200];
    backing_path(name, sizeof(name), "node", n->ino);
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    if (fd < 0)
        return -errno;
    int rc = 0;
    for (uint64_t b = 0; b * BLOCK < n->size && rc == 0; b++) {
        if (!n->dirty[b])
            continue;
        uint64_t first = b;
        while ((b + 1) * BLOCK < n->size && n->dirty[b + 1])
            b++;
        uint64_t end = (b + 1) * BLOCK < n->size ? (b + 1) * BLOCK : n->size;
        rc = write_all(fd, n->data + first * BLOCK, end - first * BLOCK, (off_t)(first * BLOCK));
        memset(n->dirty + first, 0, b - first + 1);
    }
    if (rc == 0 && ftruncate(fd, (off_t)n->size) < 0)
        rc = -errno;
    n->size_dirty = false;
    close(fd);
    return rc;
}

static int op_fsyncdir(const char *path, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    struct node *dir = walk(path, NULL, NULL);
    char name[4200], tmp[4300];
    if (dir == NULL)
        return -ENOENT;
    backing_path(name, sizeof(name), "dir", dir->ino);
    snprintf(tmp, sizeof(tmp), "%s.tmp", name);
    FILE *f = fopen(tmp, "w");
    if (f == NULL)
        return -errno;
    for (uint32_t i = 0; i < dir->entry_cnt; i++) {
        struct node *n = dir->entries[i].node;
        fprintf(f, "%s\t%llu\t%o\t%u\t%u\n", dir->entries[i].name, (unsigned long long)n->ino,
                n->mode, n->uid, n->gid);
    }
    if (fclose(f) != 0 || rename(tmp, name) < 0)
        return -errno;
    return 0;
}

static int op_unlink(const char *path)
{
    struct node *dir;
    const char *name;
    int rc = fault_of("change", path);
    if (rc < 0)
        return rc;
    struct node *n = walk(path, &dir, &name);
    if (n == NULL || dir == NULL)
        return -ENOENT;
    entry_remove(dir, entry_find(dir, name, strlen(name)));
    return 0;
}
static int op_rmdir(const char *path)
{
    struct node *n = walk(path, NULL, NULL);
    if (n == NULL)
        return -ENOENT;
    if (n->entry_cnt > 0)
        return -ENOTEMPTY;
    return op_unlink(path);
}

static int op_rename(const char *from, const char *to, unsigned flags)
{
    struct node *from_dir, *to_dir;
    const char *from_name, *to_name;
    int refused = fault_of("change", from);
    if (flags != 0 || refused < 0)
        return refused < 0 ? refused : -EINVAL;
    struct node *n = walk(from, &from_dir, &from_name);
    if (n == NULL)
        return -ENOENT;
    struct node *old = walk(to, &to_dir, &to_name);
    if (to_dir == NULL)
        return -ENOENT;
    if (old == n)
        return 0;
    if (old != NULL)
        entry_remove(to_dir, entry_find(to_dir, to_name, strlen(to_name)));
    int rc = entry_add(to_dir, to_name, n);
    if (rc == 0)
        entry_remove(from_dir, entry_find(from_dir, from_name, strlen(from_name)));
    return rc;
}

static int op_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t pos,
                      struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    (void)pos;
    (void)fi;
    (void)flags;
    struct node *dir = walk(path, NULL, NULL);
    if (dir == NULL)
        return -ENOENT;
    fill(buf, ".", NULL, 0, 0);
    fill(buf, "..", NULL, 0, 0);
    for (uint32_t i = 0; i < dir->entry_cnt; i++)
        fill(buf, dir->entries[i].name, NULL, 0, 0);
    return 0;
}

static int op_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    n->mode = (n->mode & S_IFMT) | (mode & 07777);
    return 0;
}
static int op_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    if (uid != (uid_t)-1)
        n->uid = uid;
    if (gid != (gid_t)-1)
        n->gid = gid;
    return 0;
}
static int op_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi)
{
    struct node *n = node_of(path, fi);
    if (n == NULL)
        return -ENOENT;
    n->mtime = tv[1];
    return 0;
}
static int op_statfs(const char *path, struct statvfs *st)
{
    (void)path;
    memset(st, 0, sizeof(*st));
    st->f_bsize = st->f_frsize = BLOCK;
    st->f_blocks = st->f_bfree = st->f_bavail = 16u << 20; /* 64 GiB */
    st->f_namemax = 255;
    return 0;
}

/* Rebuild a directory from what was durable. An entry whose file was never flushed is an empty
 * file, as after a real power cut. */
static int load_dir(struct node *dir)
{
    char name[4200], line[4600];
    backing_path(name, sizeof(name), "dir", dir->ino);
    FILE *f = fopen(name, "r");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        char entry[4096];
        unsigned long long ino;
        unsigned mode, uid, gid;
        if (sscanf(line, "%4095[^\t]\t%llu\t%o\t%u\t%u", entry, &ino, &mode, &uid, &gid) != 5)
            continue;
        struct node *n = node_create(mode);
        if (n == NULL)
            return -ENOMEM;
        n->ino = ino;
        n->uid = uid;
        n->gid = gid;
        if (ino >= next_ino)
            next_ino = ino + 1;
        if (entry_add(dir, entry, n) < 0)
            return -ENOMEM;
        if (S_ISDIR(n->mode)) {
            if (load_dir(n) < 0)
                return -ENOMEM;
            continue;
        }
        backing_path(name, sizeof(name), "node", ino);
        int fd = open(name, O_RDONLY);
        struct stat st;
        if (fd < 0)
            continue;
        if (fstat(fd, &st) < 0 || node_reserve(n, (uint64_t)st.st_size) < 0 ||
            pread(fd, n->data, (size_t)st.st_size, 0) != st.st_size) {
            close(fd);
            return -EIO;
        }
        n->size = (uint64_t)st.st_size;
        close(fd);
    }
    fclose(f);
    return 0;
}

static void *op_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
    (void)conn;
    cfg->kernel_cache = 0;
    cfg->use_ino = 1;
    cfg->nullpath_ok = 0;
    cfg->hard_remove = 1;
    return NULL;
}

static const struct fuse_operations ops = {
    .init = op_init,         .getattr = op_getattr,   .mkdir = op_mkdir,   .mknod = op_mknod,
    .create = op_create,     .open = op_open,         .release = op_release, .read = op_read,
    .write = op_write,       .truncate = op_truncate, .fallocate = op_fallocate,
    .fsync = op_fsync,       .fsyncdir = op_fsyncdir, .unlink = op_unlink, .rmdir = op_rmdir,
    .rename = op_rename,     .readdir = op_readdir,   .chmod = op_chmod,   .chown = op_chown,
    .utimens = op_utimens,   .statfs = op_statfs,
};

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: forgetfs BACKING MOUNTPOINT\n");
        return 2;
    }
    snprintf(backing, sizeof(backing), "%s", argv[1]);
    struct stat st;
    if (stat(backing, &st) < 0 || !S_ISDIR(st.st_mode)) {
        fprintf(stderr, "forgetfs: %s is not a directory\n", backing);
        return 2;
    }
    root = calloc(1, sizeof(*root));
    if (root == NULL)
        return 1;
    root->ino = 1;
    root->mode = S_IFDIR | 0777;
    root->links = 1;
    /* Numbers go on above every file there is, named or not. */
    char name[4200];
    snprintf(name, sizeof(name), "%s/next", backing);
    FILE *f = fopen(name, "r");
    unsigned long long start = 2;
    if (f != NULL) {
        if (fscanf(f, "%llu", &start) != 1)
            start = 2;
        fclose(f);
    }
    next_ino = start + 1000000;
    f = fopen(name, "w");
    if (f == NULL || fprintf(f, "%llu\n", (unsigned long long)next_ino) < 0 || fclose(f) != 0) {
        fprintf(stderr, "forgetfs: cannot write %s\n", name);
        return 1;
    }
    if (load_dir(root) < 0) {
        fprintf(stderr, "forgetfs: cannot read %s\n", backing);
        return 1;
    }
    if (getenv("FORGETFS_TRACE") != NULL)
        trace = fopen(getenv("FORGETFS_TRACE"), "a");
    char opts[] = "allow_other,default_permissions";
    char *args[] = {argv[0], argv[2], "-f", "-s", "-o", opts, NULL};
    return fuse_main(6, args, &ops, NULL);
}
