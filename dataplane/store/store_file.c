/* store_file.c - see store_file.h. */
#include "dataplane/store/store_file.h"
#include "dataplane/store/format.h"
#include <stdlib.h>
#include <string.h>

static int read_all(struct file *f, const struct file_io_ops *ops, uint8_t *p, uint64_t len)
{
    for (uint64_t at = 0; at < len;) {
        int64_t n = ops->pread(f, p + at, len - at, at);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO; /* shorter than its size said */
        at += (uint64_t)n;
    }
    return 0;
}

int store_file_read(struct file_io *io, const char *path, uint64_t len_max, uint8_t **ret,
                    uint64_t *ret_len)
{
    struct file *f;
    int rc = io->ops->open(io, path, FILE_RDONLY, &f);
    if (rc < 0)
        return rc;
    uint64_t len;
    uint8_t *p = NULL;
    rc = io->ops->size(f, &len);
    if (rc == 0 && len > len_max)
        rc = -E_LIMIT;
    if (rc == 0 && (p = malloc(len + 1)) == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = read_all(f, io->ops, p, len);
    io->ops->close(f);
    if (rc < 0) {
        free(p);
        return rc;
    }
    p[len] = 0;
    *ret = p;
    *ret_len = len;
    return 0;
}

int store_file_write(struct file_io *io, const char *path, const void *p, uint64_t len, bool sync)
{
    struct file *f;
    int rc = io->ops->open(io, path, FILE_CREATE, &f);
    if (rc < 0)
        return rc;
    rc = io->ops->truncate(f, len);
    for (uint64_t at = 0; rc == 0 && at < len;) {
        int64_t n = io->ops->pwrite(f, (const uint8_t *)p + at, len - at, at);
        if (n <= 0)
            rc = n < 0 ? (int)n : -EIO;
        else
            at += (uint64_t)n;
    }
    if (rc == 0 && sync)
        rc = io->ops->fsync(f);
    io->ops->close(f);
    return rc;
}

int store_file_update(struct file_io *io, const char *path, const void *p, uint64_t len, bool sync)
{
    struct file_stat st;
    uint8_t *old;
    uint64_t old_len;
    int rc = io->ops->stat(io, path, &st);
    if (rc == 0 && st.size == len) {
        rc = store_file_read(io, path, len, &old, &old_len);
        bool same = rc == 0 && old_len == len && (len == 0 || memcmp(old, p, len) == 0);
        if (rc == 0)
            free(old);
        if (same)
            return 0;
    }
    return store_file_write(io, path, p, len, sync); /* whatever was the matter with it */
}

int store_file_replace(struct file_io *io, const char *dir, const char *name, const void *p,
                       uint64_t len)
{
    char path[STORE_PATH_MAX], tmp[STORE_PATH_MAX + 4];
    int rc = path_join(path, dir, name);
    if (rc < 0)
        return rc;
    (void)snprintf(tmp, sizeof(tmp), "%s.tmp", path); /* sized for it */
    rc = store_file_write(io, tmp, p, len, true);
    if (rc == 0)
        rc = io->ops->rename(io, tmp, path);
    if (rc == 0)
        rc = io->ops->dir_sync(io, dir);
    return rc;
}
