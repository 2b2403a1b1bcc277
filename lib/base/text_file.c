/* text_file.c - see text_file.h */
#include "lib/base/text_file.h"
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int text_file_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}
static int sync_parent(const char *path)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return -ENAMETOOLONG;
    return text_file_sync_dir(dirname(copy));
}
static int replace(const char *path, const char *text, size_t len, bool flush)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof(tmp), "%s.tmp", path) >= (int)sizeof(tmp))
        return -ENAMETOOLONG;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    int rc = 0;
    while (len > 0 && rc == 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno != EINTR)
            rc = -errno;
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    if (rc == 0 && flush && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(tmp, path) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)unlink(tmp); /* rc is the error that matters */
        return rc;
    }
    return flush ? sync_parent(path) : 0;
}
int text_file_replace(const char *path, const char *text, size_t len)
{
    return replace(path, text, len, true);
}
int text_file_replace_volatile(const char *path, const char *text, size_t len)
{
    return replace(path, text, len, false);
}
int text_file_read(const char *path, size_t max, char **ret_text, size_t *ret_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char *buf = malloc(max + 2);
    int rc = buf == NULL ? -ENOMEM : 0;
    size_t len = 0;
    while (rc == 0 && len <= max) {
        ssize_t n = read(fd, buf + len, max + 1 - len);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            rc = -errno;
        if (n > 0)
            len += (size_t)n;
    }
    close(fd);
    if (rc == 0 && len > max)
        rc = -EFBIG;
    if (rc < 0) {
        free(buf);
        return rc;
    }
    buf[len] = '\0';
    *ret_text = buf;
    *ret_len = len;
    return 0;
}
int text_file_mkdirs(const char *path)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
        return -ENAMETOOLONG;
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (mkdir(part, 0750) == 0) {
            int rc = sync_parent(part);
            if (rc < 0)
                return rc;
        } else if (errno != EEXIST) {
            return -errno;
        }
        if (end == '\0')
            return 0;
        *p = end;
    }
}
