/* fake_file.c - see fake_file.h.
 *
 * An inode has two contents: what readers see and what is flushed; a bit per 512-byte sector says
 * where they may differ. The name space has two versions in the same way, per directory. */
#include "tests/support/fake_file.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define IN_FLIGHT_MAX 8192u

struct inode {
    struct list link;
    uint32_t refs; /* open files */
    bool is_dir;
    uint8_t *cur, *dur;
    uint8_t *dirty; /* per sector */
    uint64_t cap, len, dur_len;
    uint32_t locks;
};
struct entry {
    struct list link;
    char path[512];
    struct inode *inode;
};
struct file {
    struct fake_disk *d;
    struct file_io *io;
    struct inode *n;
    bool direct, is_lock, is_unreadable;
};
enum op_kind { OP_READ, OP_WRITE, OP_FLUSH, OP_RESERVE };
struct pending {
    enum op_kind kind;
    struct file *f;
    struct file_op *op;
    void *buf;
    uint64_t len, pos;
    uint8_t *covered; /* FLUSH: dirty sectors when it was submitted */
    uint64_t covered_cnt, covered_len;
};
struct fake_disk {
    uint64_t rng, ops, die_at, fail_at;
    int fail_rc;
    bool dead, full, strict, no_reserve, no_sync_all;
    uint64_t size, full_at;
    struct list inodes, cur, dur; /* entries */
    struct pending q[IN_FLIGHT_MAX];
    uint32_t q_cnt;
    struct fake_costs costs;
    const char *unreadable; /* part of a path; NULL: none */
};

static uint64_t rnd(struct fake_disk *d)
{
    d->rng ^= d->rng << 13;
    d->rng ^= d->rng >> 7;
    d->rng ^= d->rng << 17;
    return d->rng;
}

static struct fake_disk *disk_of(struct file_io *io)
{
    return io->arg;
}

struct fake_disk *fake_disk_new(uint64_t seed)
{
    struct fake_disk *d = calloc(1, sizeof(*d));
    ASSERT(d != NULL);
    d->rng = seed * 2654435761u + 88172645463325252u;
    d->die_at = d->fail_at = d->full_at = UINT64_MAX;
    list_init(&d->inodes);
    list_init(&d->cur);
    list_init(&d->dur);
    return d;
}

static void entries_free(struct list *l)
{
    for (struct list *n = list_pop_head(l); n; n = list_pop_head(l))
        free(container_of(n, struct entry, link));
}

static void inode_free(struct inode *n)
{
    free(n->cur);
    free(n->dur);
    free(n->dirty);
    free(n);
}

void fake_disk_free(struct fake_disk *d)
{
    entries_free(&d->cur);
    entries_free(&d->dur);
    for (uint32_t i = 0; i < d->q_cnt; i++)
        free(d->q[i].covered);
    for (struct list *n = list_pop_head(&d->inodes); n; n = list_pop_head(&d->inodes))
        inode_free(container_of(n, struct inode, link));
    free(d);
}

/* One operation that changes the disk. 0, or why it fails. */
static int op_count(struct fake_disk *d)
{
    uint64_t n = d->ops++;
    if (n >= d->die_at)
        d->dead = true;
    if (d->dead)
        return -EIO;
    if (n >= d->full_at)
        d->full = true;
    if (n == d->fail_at)
        return d->fail_rc;
    return 0;
}

uint64_t fake_disk_ops(const struct fake_disk *d)
{
    return d->ops;
}
uint32_t fake_disk_in_flight(const struct fake_disk *d)
{
    return d->q_cnt;
}
bool fake_disk_is_dead(const struct fake_disk *d)
{
    return d->dead;
}
void fake_disk_die_at(struct fake_disk *d, uint64_t op)
{
    d->die_at = op;
}
void fake_disk_set_size(struct fake_disk *d, uint64_t bytes)
{
    d->size = bytes;
    d->strict = false;
}
void fake_disk_set_limit(struct fake_disk *d, uint64_t bytes)
{
    d->size = bytes;
    d->strict = true;
}
void fake_disk_set_full(struct fake_disk *d, bool full)
{
    d->full = full;
    if (!full)
        d->full_at = UINT64_MAX;
}
void fake_disk_full_at(struct fake_disk *d, uint64_t op)
{
    d->full_at = op;
}
void fake_disk_refuse_reserve(struct fake_disk *d)
{
    d->no_reserve = true;
}
void fake_disk_refuse_sync_all(struct fake_disk *d)
{
    d->no_sync_all = true;
}
void fake_disk_unreadable(struct fake_disk *d, const char *part)
{
    d->unreadable = part;
}
uint64_t fake_disk_used(const struct fake_disk *d)
{
    uint64_t used = 0;
    list_for_each(it, &d->cur) used += container_of(it, struct entry, link)->inode->len;
    return used;
}
void fake_disk_fail_at(struct fake_disk *d, uint64_t op, int rc)
{
    d->fail_at = op;
    d->fail_rc = rc;
}

/* -------------------------------------------------------------------------------------------
 * content */

static void inode_room(struct inode *n, uint64_t len)
{
    if (len <= n->cap)
        return;
    uint64_t cap = (len + 65535) & ~UINT64_C(65535);
    n->cur = realloc(n->cur, cap);
    n->dur = realloc(n->dur, cap);
    n->dirty = realloc(n->dirty, cap / SECTOR);
    ASSERT(n->cur != NULL && n->dur != NULL && n->dirty != NULL);
    memset(n->cur + n->cap, 0, cap - n->cap);
    memset(n->dur + n->cap, 0, cap - n->cap);
    memset(n->dirty + n->cap / SECTOR, 0, (cap - n->cap) / SECTOR);
    n->cap = cap;
}

static int put(struct fake_disk *d, struct inode *n, const void *buf, uint64_t len, uint64_t pos)
{
    uint64_t more = pos + len > n->len ? pos + len - n->len : 0;
    if (more > 0 && (d->full || (d->strict && fake_disk_used(d) + more > d->size)))
        return -ENOSPC;
    inode_room(n, pos + len);
    for (uint64_t s = pos / SECTOR; len > 0 && s <= (pos + len - 1) / SECTOR; s++) {
        /* Of several versions since the flush any may be the one that a power cut leaves. */
        if (n->dirty[s] && (rnd(d) & 3) == 0)
            memcpy(n->dur + s * SECTOR, n->cur + s * SECTOR, SECTOR);
        n->dirty[s] = 1;
    }
    memcpy(n->cur + pos, buf, len);
    if (pos + len > n->len)
        n->len = pos + len;
    return 0;
}

static void flush_all(struct inode *n)
{
    if (n->cap > 0) {
        memcpy(n->dur, n->cur, n->cap);
        memset(n->dirty, 0, n->cap / SECTOR);
    }
    n->dur_len = n->len;
}

/* --------------------------------------------------------------------------------------------
 * names */

static struct entry *find(struct list *l, const char *path)
{
    list_for_each(it, l)
    {
        struct entry *e = container_of(it, struct entry, link);
        if (strcmp(e->path, path) == 0)
            return e;
    }
    return NULL;
}

static struct entry *entry_add(struct list *l, const char *path, struct inode *n)
{
    struct entry *e = calloc(1, sizeof(*e));
    ASSERT(e != NULL);
    ASSERT(strlen(path) < sizeof(e->path));
    strcpy(e->path, path);
    e->inode = n;
    list_add_tail(l, &e->link);
    return e;
}

static void entry_del(struct entry *e)
{
    list_del(&e->link);
    free(e);
}

static struct inode *inode_new(struct fake_disk *d, bool is_dir)
{
    struct inode *n = calloc(1, sizeof(*n));
    ASSERT(n != NULL);
    n->is_dir = is_dir;
    list_add_tail(&d->inodes, &n->link);
    return n;
}

/* Is `path` directly in directory `dir`? Its name, or NULL. */
static const char *name_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    if (strncmp(path, dir, n) != 0 || path[n] != '/' || strchr(path + n + 1, '/') != NULL)
        return NULL;
    return path + n + 1;
}

static bool parent_exists(struct fake_disk *d, const char *path)
{
    char dir[512];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return true;
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = 0;
    struct entry *e = find(&d->cur, dir);
    return e != NULL && e->inode->is_dir;
}

/* The children of `dir` in `to` become those of `from`. */
static void names_copy(struct list *to, struct list *from, const char *dir)
{
    list_for_each_safe(it, tmp, to)
    {
        struct entry *e = container_of(it, struct entry, link);
        if (name_in(e->path, dir) != NULL)
            entry_del(e);
    }
    list_for_each(it, from)
    {
        struct entry *e = container_of(it, struct entry, link);
        if (name_in(e->path, dir) != NULL)
            entry_add(to, e->path, e->inode);
    }
}

/* -----------------------------------------------------------------------------------------
 * blocking */

static int f_open(struct file_io *io, const char *path, int flags, struct file **ret)
{
    struct fake_disk *d = disk_of(io);
    d->costs.opens++;
    if (d->dead)
        return -EIO;
    struct entry *e = find(&d->cur, path);
    if (e == NULL) {
        if (!(flags & FILE_CREATE))
            return -ENOENT;
        if (!parent_exists(d, path))
            return -ENOENT;
        int rc = op_count(d);
        if (rc < 0)
            return rc;
        e = entry_add(&d->cur, path, inode_new(d, false));
    } else if (flags & FILE_EXCL) {
        return -EEXIST;
    }
    struct file *f = calloc(1, sizeof(*f));
    ASSERT(f != NULL);
    *f = (struct file){.d = d, .io = io, .n = e->inode, .direct = flags & FILE_DIRECT};
    f->is_unreadable = d->unreadable != NULL && strstr(path, d->unreadable) != NULL;
    f->n->refs++;
    *ret = f;
    return 0;
}

static void f_close(struct file *f)
{
    if (f == NULL)
        return;
    for (uint32_t i = 0; i < f->d->q_cnt; i++)
        ASSERT(f->d->q[i].f != f);
    if (f->is_lock)
        f->n->locks--;
    f->n->refs--;
    free(f);
}

static int f_size(struct file *f, uint64_t *ret)
{
    *ret = f->n->len;
    return f->d->dead ? -EIO : 0;
}

static int f_truncate(struct file *f, uint64_t size)
{
    int rc = op_count(f->d);
    if (rc < 0)
        return rc;
    inode_room(f->n, size);
    if (size < f->n->len) {
        memset(f->n->cur + size, 0, f->n->cap - size);
        for (uint64_t s = size / SECTOR; s < f->n->cap / SECTOR; s++)
            f->n->dirty[s] = 1;
    }
    f->n->len = size;
    return 0;
}

static void check_aligned(const struct file *f, const void *buf, uint64_t len, uint64_t pos)
{
    if (!f->direct)
        return;
    ASSERT((uintptr_t)buf % FILE_BLOCK == 0);
    ASSERT(len % FILE_BLOCK == 0);
    ASSERT(pos % FILE_BLOCK == 0);
}

static int64_t get(const struct file *f, void *buf, uint64_t len, uint64_t pos)
{
    if (f->d->dead || f->is_unreadable)
        return -EIO;
    if (pos >= f->n->len)
        return 0;
    if (len > f->n->len - pos)
        len = f->n->len - pos;
    memcpy(buf, f->n->cur + pos, len);
    f->d->costs.reads++;
    f->d->costs.read_bytes += len;
    return (int64_t)len;
}

static int64_t f_pread(struct file *f, void *buf, size_t len, uint64_t pos)
{
    check_aligned(f, buf, len, pos);
    return get(f, buf, len, pos);
}

static int64_t f_pwrite(struct file *f, const void *buf, size_t len, uint64_t pos)
{
    check_aligned(f, buf, len, pos);
    int rc = op_count(f->d);
    if (rc == 0)
        rc = put(f->d, f->n, buf, len, pos);
    return rc < 0 ? rc : (int64_t)len;
}

static int f_fsync(struct file *f)
{
    int rc = op_count(f->d);
    f->d->costs.flushes++;
    if (rc == 0)
        flush_all(f->n);
    return rc;
}

static bool has_children(struct fake_disk *d, const char *path)
{
    list_for_each(it, &d->cur) if (name_in(container_of(it, struct entry, link)->path, path) !=
                                   NULL) return true;
    return false;
}

static int f_rename(struct file_io *io, const char *from, const char *to)
{
    struct fake_disk *d = disk_of(io);
    int rc = op_count(d);
    if (rc < 0)
        return rc;
    struct entry *e = find(&d->cur, from), *old = find(&d->cur, to);
    if (e == NULL || !parent_exists(d, to))
        return -ENOENT;
    if (old != NULL && old->inode->is_dir && has_children(d, to))
        return -ENOTEMPTY;
    if (old != NULL)
        entry_del(old);
    size_t n = strlen(from);
    if (e->inode->is_dir) { /* children come along, in both versions: their entries are by inode */
        struct list *both[] = {&d->cur, &d->dur};
        for (int i = 0; i < 2; i++) {
            list_for_each(it, both[i])
            {
                struct entry *c = container_of(it, struct entry, link);
                char rest[512];
                if (strncmp(c->path, from, n) != 0 || c->path[n] != '/')
                    continue;
                strcpy(rest, c->path + n);
                ASSERT(strlen(to) + strlen(rest) < sizeof(c->path));
                strcpy(c->path, to);
                strcat(c->path, rest);
            }
        }
    }
    ASSERT(strlen(to) < sizeof(e->path));
    strcpy(e->path, to);
    return 0;
}

static int f_unlink(struct file_io *io, const char *path)
{
    struct fake_disk *d = disk_of(io);
    int rc = op_count(d);
    struct entry *e = find(&d->cur, path);
    if (rc == 0 && e == NULL)
        rc = -ENOENT;
    if (rc == 0 && e->inode->is_dir)
        rc = -EISDIR;
    if (rc == 0)
        entry_del(e);
    return rc;
}

static int f_mkdir(struct file_io *io, const char *path)
{
    struct fake_disk *d = disk_of(io);
    int rc = op_count(d);
    if (rc < 0)
        return rc;
    if (find(&d->cur, path) != NULL)
        return -EEXIST;
    if (!parent_exists(d, path))
        return -ENOENT;
    entry_add(&d->cur, path, inode_new(d, true));
    return 0;
}

static int f_dir_sync(struct file_io *io, const char *path)
{
    struct fake_disk *d = disk_of(io);
    int rc = op_count(d);
    d->costs.flushes++;
    if (rc == 0)
        names_copy(&d->dur, &d->cur, path);
    return rc;
}

const struct fake_costs *fake_disk_costs(const struct fake_disk *d)
{
    return &d->costs;
}

static bool f_can_sync_all(struct file_io *io, const char *path)
{
    (void)path;
    return !disk_of(io)->no_sync_all;
}

static int f_sync_all(struct file_io *io, const char *path)
{
    struct fake_disk *d = disk_of(io);
    if (!f_can_sync_all(io, path))
        return -EOPNOTSUPP;
    int rc = op_count(d);
    d->costs.flushes++;
    if (rc < 0)
        return rc;
    list_for_each(it, &d->inodes) flush_all(container_of(it, struct inode, link));
    entries_free(&d->dur);
    list_for_each(it, &d->cur)
    {
        struct entry *e = container_of(it, struct entry, link);
        entry_add(&d->dur, e->path, e->inode);
    }
    return 0;
}

static int f_list(struct file_io *io, const char *path, file_list_fn *fn, void *arg)
{
    struct fake_disk *d = disk_of(io);
    d->costs.lists++;
    if (d->dead)
        return -EIO;
    if (find(&d->cur, path) == NULL)
        return -ENOENT;
    list_for_each_safe(it, tmp, &d->cur)
    {
        const char *name = name_in(container_of(it, struct entry, link)->path, path);
        int rc = name ? fn(arg, name) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int f_rmdir(struct file_io *io, const char *path)
{
    struct fake_disk *d = disk_of(io);
    int rc = op_count(d);
    struct entry *e = find(&d->cur, path);
    if (rc == 0 && e == NULL)
        rc = -ENOENT;
    if (rc < 0)
        return rc;
    if (has_children(d, path))
        return -ENOTEMPTY;
    entry_del(e);
    return 0;
}

static int f_stat(struct file_io *io, const char *path, struct file_stat *ret)
{
    struct fake_disk *d = disk_of(io);
    struct entry *e = find(&d->cur, path);
    d->costs.stats++;
    if (d->dead)
        return -EIO;
    if (e == NULL)
        return -ENOENT;
    *ret = (struct file_stat){.size = e->inode->len, .is_dir = e->inode->is_dir};
    return 0;
}

static int f_lock(struct file_io *io, const char *path, struct file **ret)
{
    int rc = f_open(io, path, FILE_CREATE, ret);
    if (rc < 0)
        return rc;
    if ((*ret)->n->locks > 0) {
        f_close(*ret);
        *ret = NULL;
        return -E_LOCKED;
    }
    (*ret)->is_lock = true;
    (*ret)->n->locks++;
    return 0;
}

static int f_space(struct file_io *io, const char *path, uint64_t *ret_free, uint64_t *ret_total)
{
    (void)path;
    struct fake_disk *d = disk_of(io);
    uint64_t used = fake_disk_used(d);
    *ret_free = d->full          ? 0
                : d->size == 0   ? UINT64_C(1) << 40
                : d->size > used ? d->size - used
                                 : 0;
    *ret_total = d->size == 0 ? UINT64_C(1) << 41 : d->size;
    return 0;
}

/* --------------------------------------------------------------------------------------
 * asynchronous */

static struct pending *enqueue(struct file *f, enum op_kind kind, struct file_op *op)
{
    struct fake_disk *d = f->d;
    ASSERT(d->q_cnt < IN_FLIGHT_MAX);
    struct pending *p = &d->q[d->q_cnt++];
    *p = (struct pending){.kind = kind, .f = f, .op = op};
    return p;
}

static void f_read(struct file *f, struct file_op *op, void *buf, uint32_t len, uint64_t pos)
{
    check_aligned(f, buf, len, pos);
    struct pending *p = enqueue(f, OP_READ, op);
    p->buf = buf;
    p->len = len;
    p->pos = pos;
    f->io->stats.reads++;
}

static void f_write(struct file *f, struct file_op *op, const void *buf, uint32_t len, uint64_t pos)
{
    check_aligned(f, buf, len, pos);
    for (uint32_t i = 0; i < f->d->q_cnt; i++) { /* at most one write in flight per block */
        const struct pending *o = &f->d->q[i];
        if (o->kind == OP_WRITE && o->f->n == f->n)
            ASSERT(pos + len <= o->pos || o->pos + o->len <= pos);
    }
    struct pending *p = enqueue(f, OP_WRITE, op);
    p->buf = (void *)(uintptr_t)buf;
    p->len = len;
    p->pos = pos;
    f->io->stats.writes++;
    f->io->stats.write_bytes += len;
}

static void f_flush(struct file *f, struct file_op *op)
{
    struct pending *p = enqueue(f, OP_FLUSH, op);
    f->d->costs.flushes++;
    p->covered_cnt = f->n->cap / SECTOR;
    p->covered_len = f->n->len;
    p->covered = malloc(p->covered_cnt + 1);
    ASSERT(p->covered != NULL);
    if (p->covered_cnt > 0)
        memcpy(p->covered, f->n->dirty, p->covered_cnt);
    f->io->stats.flushes++;
}

static void f_reserve(struct file *f, struct file_op *op, uint64_t pos, uint64_t len)
{
    struct pending *p = enqueue(f, OP_RESERVE, op);
    p->len = len;
    p->pos = pos;
}

static int reserve(struct fake_disk *d, struct inode *n, uint64_t to)
{
    if (d->no_reserve)
        return -EOPNOTSUPP;
    if (to <= n->len)
        return 0;
    if (d->full || (d->strict && fake_disk_used(d) + to - n->len > d->size))
        return -ENOSPC;
    inode_room(n, to); /* zeros: what is cut off is cleared */
    n->len = to;
    return 0;
}

/* The power went while this write was under way: any of its sectors may be there. */
static void write_partly(struct fake_disk *d, struct pending *p)
{
    for (uint64_t at = 0; at < p->len; at += SECTOR)
        if (rnd(d) & 1)
            (void)put(d, p->f->n, (uint8_t *)p->buf + at, SECTOR, p->pos + at); /* dying anyway */
}

static int64_t complete(struct fake_disk *d, struct pending *p)
{
    if (p->kind == OP_READ)
        return get(p->f, p->buf, p->len, p->pos);
    bool was_dead = d->dead;
    int rc = op_count(d);
    if (p->kind == OP_WRITE) {
        if (rc == 0)
            rc = put(d, p->f->n, p->buf, p->len, p->pos);
        else if (!was_dead || (rnd(d) & 1))
            write_partly(d, p);
        return rc < 0 ? rc : (int64_t)p->len;
    }
    if (rc < 0)
        return rc;
    struct inode *n = p->f->n;
    if (p->kind == OP_RESERVE)
        return reserve(d, n, p->pos + p->len);
    for (uint64_t s = 0; s < p->covered_cnt; s++) {
        if (p->covered[s]) {
            memcpy(n->dur + s * SECTOR, n->cur + s * SECTOR, SECTOR);
            n->dirty[s] = 0;
        }
    }
    if (p->covered_len > n->dur_len)
        n->dur_len = p->covered_len;
    return 0;
}

static void complete_at(struct fake_disk *d, uint32_t i)
{
    struct pending p = d->q[i];
    d->q[i] = d->q[--d->q_cnt];
    int64_t res = complete(d, &p);
    free(p.covered);
    p.op->done(p.op, (int)res);
}

uint32_t fake_disk_poll(struct fake_disk *d, uint32_t n)
{
    uint32_t did = 0;
    for (; did < n && d->q_cnt > 0; did++)
        complete_at(d, (uint32_t)(rnd(d) % d->q_cnt));
    return did;
}

uint32_t fake_disk_in_flight_of(const struct fake_disk *d, const struct file_io *io)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->q_cnt; i++)
        n += d->q[i].f->io == io;
    return n;
}

uint32_t fake_disk_poll_of(struct fake_disk *d, const struct file_io *io, uint32_t n)
{
    uint32_t did = 0, left;
    for (; did < n && (left = fake_disk_in_flight_of(d, io)) > 0; did++) {
        uint32_t nth = (uint32_t)(rnd(d) % left), i = 0;
        while (d->q[i].f->io != io || nth-- > 0)
            i++;
        complete_at(d, i);
    }
    return did;
}

/* -------------------------------------------------------------------------------------- the power
 * cut */

static void inode_cut(struct fake_disk *d, struct inode *n)
{
    for (uint64_t s = 0; s < n->cap / SECTOR; s++)
        if (n->dirty[s] && (rnd(d) & 1))
            memcpy(n->dur + s * SECTOR, n->cur + s * SECTOR, SECTOR);
    uint64_t len = rnd(d) & 1 ? n->len : n->dur_len;
    if (n->cap > len)
        memset(n->dur + len, 0, n->cap - len);
    n->len = n->dur_len = len;
    if (n->cap > 0) {
        memcpy(n->cur, n->dur, n->cap);
        memset(n->dirty, 0, n->cap / SECTOR);
    }
}

void fake_disk_power_cut(struct fake_disk *d)
{
    ASSERT(d->q_cnt == 0);
    list_for_each(it, &d->cur)
    {
        const struct entry *e = container_of(it, struct entry, link);
        if (e->inode->refs > 0)
            fprintf(stderr, "still open: %s\n", e->path);
    }
    list_for_each(it, &d->inodes)
    {
        struct inode *n = container_of(it, struct inode, link);
        ASSERT(n->refs == 0);
        if (!n->is_dir)
            inode_cut(d, n);
    }
    /* Each directory shows its old or its new names. */
    list_for_each(it, &d->cur)
    {
        struct entry *e = container_of(it, struct entry, link);
        if (e->inode->is_dir && (rnd(d) & 1))
            names_copy(&d->dur, &d->cur, e->path);
    }
    entries_free(&d->cur);
    list_for_each(it, &d->dur)
    {
        struct entry *e = container_of(it, struct entry, link);
        entry_add(&d->cur, e->path, e->inode);
    }
    list_for_each_safe(it, tmp, &d->cur)
    {
        struct entry *e = container_of(it, struct entry, link);
        if (!parent_exists(d, e->path))
            entry_del(e);
    }
    d->dead = false;
    d->die_at = d->fail_at = UINT64_MAX;
}

void fake_disk_revive(struct fake_disk *d)
{
    ASSERT(d->q_cnt == 0);
    d->dead = false;
    d->die_at = d->fail_at = UINT64_MAX;
}

const uint8_t *fake_disk_content(struct fake_disk *d, const char *path, uint64_t *ret_len)
{
    struct entry *e = find(&d->cur, path);
    if (e == NULL || e->inode->is_dir)
        return NULL;
    *ret_len = e->inode->len;
    return e->inode->len > 0 ? e->inode->cur : (const uint8_t *)"";
}

void fake_disk_each(struct fake_disk *d, void (*fn)(void *arg, const char *path), void *arg)
{
    list_for_each(it, &d->cur)
    {
        struct entry *e = container_of(it, struct entry, link);
        if (!e->inode->is_dir)
            fn(arg, e->path);
    }
}

uint32_t fake_disk_open_files(const struct fake_disk *d)
{
    uint32_t n = 0;
    list_for_each(it, &d->inodes) n += container_of(it, struct inode, link)->refs;
    return n;
}

void fake_disk_put(struct fake_disk *d, const char *path, const void *p, uint64_t len)
{
    struct entry *e = find(&d->cur, path);
    if (e == NULL) {
        e = entry_add(&d->cur, path, inode_new(d, false));
        entry_add(&d->dur, path, e->inode);
    }
    struct inode *n = e->inode;
    inode_room(n, len > 0 ? len : 1);
    memset(n->cur, 0, n->cap);
    if (len > 0)
        memcpy(n->cur, p, len);
    n->len = len;
    flush_all(n);
}

const struct file_io_ops fake_file_ops = {
    .open = f_open,
    .close = f_close,
    .size = f_size,
    .truncate = f_truncate,
    .pread = f_pread,
    .pwrite = f_pwrite,
    .fsync = f_fsync,
    .rename = f_rename,
    .unlink = f_unlink,
    .mkdir = f_mkdir,
    .dir_sync = f_dir_sync,
    .sync_all = f_sync_all,
    .can_sync_all = f_can_sync_all,
    .list = f_list,
    .rmdir = f_rmdir,
    .stat = f_stat,
    .lock = f_lock,
    .space = f_space,
    .read = f_read,
    .write = f_write,
    .flush = f_flush,
    .reserve = f_reserve,
};
