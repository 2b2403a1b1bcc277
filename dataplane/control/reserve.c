/* reserve.c - see reserve.h */
#include "dataplane/control/reserve.h"
#include "lib/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The file of data directory `i`; false: no such path. */
static bool path_of(const struct conf *c, uint32_t i, char path[CONF_PATH_MAX + 32])
{
    const char *dir = c->data_dirs[i], *slash = strrchr(dir, '/');
    if (slash == NULL)
        return false;
    snprintf(path, CONF_PATH_MAX + 32, "%.*s/journal/reserve", (int)(slash - dir), dir);
    return true;
}

static uint64_t room_at(const char *dir)
{
    struct statvfs st;
    return statvfs(dir, &st) < 0 ? 0 : (uint64_t)st.f_bavail * st.f_frsize;
}

void reserve_release(const struct conf *c)
{
    char path[CONF_PATH_MAX + 32];
    for (uint32_t i = 0; i < c->data_dir_cnt; i++) {
        struct stat st;
        if (!path_of(c, i, path) || stat(path, &st) < 0 ||
            room_at(c->data_dirs[i]) >= RESERVE_BYTES)
            continue;
        if (unlink(path) == 0)
            LOG_WARN("%s: the disk is full: its reserve of %u MiB is given up for this start",
                     c->data_dirs[i], RESERVE_BYTES >> 20);
    }
}

void reserve_keep(const struct conf *c)
{
    char path[CONF_PATH_MAX + 32];
    for (uint32_t i = 0; i < c->data_dir_cnt; i++) {
        struct stat st;
        if (!path_of(c, i, path) || stat(path, &st) == 0 || errno != ENOENT ||
            room_at(c->data_dirs[i]) < RESERVE_ROOM_BYTES)
            continue;
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        if (fd < 0)
            continue; /* no journal folder: the directory was left out */
        int rc = fallocate(fd, 0, 0, RESERVE_BYTES);
        close(fd);
        if (rc < 0)
            (void)unlink(path); /* a file that holds no room is of no use */
    }
}
