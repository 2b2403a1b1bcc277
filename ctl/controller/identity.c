/* identity.c - see identity.h */
#include "ctl/controller/identity.h"
#include "lib/base/log.h"
#include "lib/base/text_file.h"
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_BYTES_MAX 65536
#define REMEMBERED "state/log_dirs"

__attribute__((format(printf, 4, 5))) static int fail(int rc, char *err, size_t cap,
                                                      const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, cap, fmt, ap);
    va_end(ap);
    return rc;
}
static int value_set(struct identity_file *f, const char *key, const char *value, uint32_t *seen,
                     char *err, size_t cap)
{
    char *end;
    uint32_t len = (uint32_t)strlen(value);
    if (strcmp(key, "version") == 0) {
        if (strcmp(value, "1") != 0)
            return fail(-E_MALFORMED, err, cap, "version=%s, expected 1", value);
        *seen |= 1;
    } else if (strcmp(key, "cluster.id") == 0) {
        if (uuid_parse(value, len, &f->cluster_id) < 0)
            return fail(-E_MALFORMED, err, cap, "cluster.id=%s is not an id", value);
        *seen |= 2;
    } else if (strcmp(key, "directory.id") == 0) {
        if (uuid_parse(value, len, &f->dir_id) < 0)
            return fail(-E_MALFORMED, err, cap, "directory.id=%s is not an id", value);
        *seen |= 4;
    } else if (strcmp(key, "node.id") == 0) {
        errno = 0;
        long v = strtol(value, &end, 10);
        if (errno != 0 || end == value || *end != '\0' || v < 0 || v > INT32_MAX)
            return fail(-E_MALFORMED, err, cap, "node.id=%s is not a node id", value);
        f->node_id = (int32_t)v;
        *seen |= 8;
    }
    return 0; /* other keys are Kafka's business */
}
int identity_parse(const char *text, size_t len, struct identity_file *ret, char *err,
                   size_t err_cap)
{
    struct identity_file f = {.node_id = -1};
    uint32_t seen = 0;
    char line[512];
    for (size_t at = 0; at < len;) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl == NULL ? len - at : (size_t)(nl - (text + at));
        if (n >= sizeof(line) || memchr(text + at, 0, n) != NULL)
            return fail(-E_MALFORMED, err, err_cap, "a line is too long or holds a NUL");
        memcpy(line, text + at, n);
        line[n] = '\0';
        at += n + 1;
        while (n > 0 && isspace((unsigned char)line[n - 1]))
            line[--n] = '\0';
        char *key = line;
        while (isspace((unsigned char)*key))
            key++;
        if (*key == '\0' || *key == '#' || *key == '!')
            continue;
        char *eq = key + strcspn(key, "=:");
        if (*eq == '\0')
            return fail(-E_MALFORMED, err, err_cap, "'%.60s' is not key=value", key);
        *eq = '\0';
        char *value = eq + 1;
        while (isspace((unsigned char)*value))
            value++;
        for (char *p = eq; p > key && isspace((unsigned char)p[-1]); p--)
            p[-1] = '\0';
        int rc = value_set(&f, key, value, &seen, err, err_cap);
        if (rc < 0)
            return rc;
    }
    static const char *const names[] = {"version", "cluster.id", "directory.id", "node.id"};
    for (uint32_t i = 0; i < 4; i++)
        if ((seen & (1u << i)) == 0)
            return fail(-E_MALFORMED, err, err_cap, "%s is missing", names[i]);
    *ret = f;
    return 0;
}
static int file_write(const char *dir, const struct identity_file *f)
{
    char path[PATH_MAX], text[512], cluster[UUID_TEXT_LEN + 1], id[UUID_TEXT_LEN + 1], when[64];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(when, sizeof(when), "%a %b %d %H:%M:%S UTC %Y", &tm);
    uuid_format(&f->cluster_id, cluster);
    uuid_format(&f->dir_id, id);
    int n = snprintf(text, sizeof(text),
                     "#\n#%s\ncluster.id=%s\ndirectory.id=%s\nnode.id=%d\nversion=1\n", when,
                     cluster, id, f->node_id);
    snprintf(path, sizeof(path), "%s/meta.properties", dir);
    return text_file_replace(path, text, (size_t)n);
}
/* Partition folders without meta.properties: somebody's log, not a new directory. */
static bool holds_partitions(const char *dir, char *name, size_t cap)
{
    DIR *d = opendir(dir);
    bool found = false;
    if (d == NULL)
        return false;
    for (struct dirent *e = readdir(d); e != NULL && !found; e = readdir(d)) {
        size_t len = strlen(e->d_name);
        if (e->d_name[0] != '.' && len > 2 && strrchr(e->d_name, '-') != NULL &&
            isdigit((unsigned char)e->d_name[len - 1])) {
            snprintf(name, cap, "%s", e->d_name);
            found = true;
        }
    }
    closedir(d);
    return found;
}
struct dir_state {
    bool have, missing;
    struct identity_file f;
};
/* What an earlier start knew of `dir`. */
static bool remembered(const char *text, const char *dir, struct uuid *ret_id)
{
    size_t n = strlen(dir);
    for (const char *at = text; at != NULL && *at != '\0';) {
        const char *end = strchr(at, '\n');
        size_t len = end == NULL ? strlen(at) : (size_t)(end - at);
        if (len == UUID_TEXT_LEN + 1 + n && at[UUID_TEXT_LEN] == ' ' &&
            memcmp(at + UUID_TEXT_LEN + 1, dir, n) == 0 &&
            uuid_parse(at, UUID_TEXT_LEN, ret_id) == 0)
            return true;
        at = end == NULL ? NULL : end + 1;
    }
    return false;
}
static int remember(const struct conf *c, const struct identity *id, const char *old)
{
    char path[PATH_MAX], *text = calloc(id->dir_cnt, UUID_TEXT_LEN + CONF_PATH_MAX + 3);
    size_t at = 0;
    if (text == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < id->dir_cnt; i++) {
        uuid_format(&id->dir_id[i], text + at);
        at += UUID_TEXT_LEN;
        at += (size_t)sprintf(text + at, " %s\n", c->data_dirs[i]);
    }
    bool same = strcmp(text, old) == 0 || (id->dir_cnt == 1 && old[0] == '\0');
    snprintf(path, sizeof(path), "%s/state", c->dir);
    int rc = same ? 0 : text_file_mkdirs(path);
    snprintf(path, sizeof(path), "%s/" REMEMBERED, c->dir);
    if (rc == 0 && !same)
        rc = text_file_replace(path, text, at);
    free(text);
    return rc;
}
static int dir_read(const char *dir, struct dir_state *st, char *err, size_t cap)
{
    char path[PATH_MAX], why[256], name[256], *text;
    size_t len;
    int rc = text_file_mkdirs(dir);
    if (rc < 0)
        return fail(rc, err, cap, "%s: cannot create: %s", dir, err_text(rc));
    snprintf(path, sizeof(path), "%s/meta.properties", dir);
    rc = text_file_read(path, FILE_BYTES_MAX, &text, &len);
    if (rc == -ENOENT) {
        if (holds_partitions(dir, name, sizeof(name)))
            return fail(-E_FOREIGN_DIR, err, cap,
                        "%s holds partitions (%s) but no meta.properties: it belongs to somebody "
                        "else, or the file was lost; nothing was changed",
                        dir, name);
        st->have = false;
        return 0;
    }
    if (rc < 0)
        return fail(rc, err, cap, "%s: %s", path, err_text(rc));
    rc = identity_parse(text, len, &st->f, why, sizeof(why));
    free(text);
    if (rc < 0)
        return fail(rc, err, cap, "%s: %s", path, why);
    st->have = true;
    return 0;
}
/* All but the first may be missing, when an earlier start has seen them. */
static int dir_read_or_miss(const struct conf *c, uint32_t i, const char *old, struct dir_state *st,
                            char *err, size_t cap)
{
    struct uuid id;
    bool known = i > 0 && remembered(old, c->data_dirs[i], &id);
    char path[PATH_MAX];
    struct stat sb;
    snprintf(path, sizeof(path), "%s/meta.properties", c->data_dirs[i]);
    int rc = 0;
    if (known && stat(path, &sb) < 0)
        rc = -errno;
    else
        rc = dir_read(c->data_dirs[i], st, err, cap);
    if (rc == 0 || !known || rc == -E_FOREIGN_DIR || rc == -E_MALFORMED)
        return rc;
    LOG_ERROR(
        "data directory %s is missing: %s: %s; its partitions are not served, the others are. "
        "Mount its disk and restart",
        c->data_dirs[i], path, err_text(rc));
    *st = (struct dir_state){.missing = true, .f.dir_id = id};
    return 0;
}
static int cluster_agree(const struct conf *c, const struct dir_state *st, struct uuid *id,
                         char *err, size_t cap)
{
    char a[UUID_TEXT_LEN + 1], b[UUID_TEXT_LEN + 1];
    *id = c->cluster_id;
    const char *from = "the configuration (node.cluster_id)";
    for (uint32_t i = 0; i < c->data_dir_cnt; i++) {
        if (!st[i].have)
            continue;
        const struct identity_file *f = &st[i].f;
        if (f->node_id != c->node_id)
            return fail(-E_FOREIGN_DIR, err, cap,
                        "%s/meta.properties belongs to node %d, this node is %d (node.id)",
                        c->data_dirs[i], f->node_id, c->node_id);
        if (uuid_is_zero(id)) {
            *id = f->cluster_id;
            from = c->data_dirs[i];
        } else if (!uuid_eq(id, &f->cluster_id)) {
            uuid_format(&f->cluster_id, a);
            uuid_format(id, b);
            return fail(-E_FOREIGN_DIR, err, cap,
                        "%s/meta.properties belongs to cluster %s, but %s says %s", c->data_dirs[i],
                        a, from, b);
        }
        for (uint32_t j = 0; j < i; j++)
            if (st[j].have && uuid_eq(&st[j].f.dir_id, &f->dir_id))
                return fail(-E_FOREIGN_DIR, err, cap,
                            "%s and %s have the same directory.id: one is a copy of the other",
                            c->data_dirs[j], c->data_dirs[i]);
    }
    return 0;
}
int identity_load(const struct conf *c, struct identity *ret, char *err, size_t err_cap)
{
    struct dir_state *st = calloc(CONF_DIRS_MAX, sizeof(*st));
    if (st == NULL)
        return fail(-ENOMEM, err, err_cap, "out of memory");
    struct identity id = {.node_id = c->node_id, .dir_cnt = c->data_dir_cnt};
    char path[PATH_MAX], *old = NULL;
    size_t len;
    snprintf(path, sizeof(path), "%s/" REMEMBERED, c->dir);
    int rc = text_file_read(path, FILE_BYTES_MAX, &old, &len);
    if (rc < 0) /* the first start; or lost: then an empty mount point is taken for a new directory,
                   and still no partition of the missing one is made anew */
        old = strdup("");
    if (old == NULL) {
        free(st);
        return fail(-ENOMEM, err, err_cap, "out of memory");
    }
    rc = 0;
    for (uint32_t i = 0; i < c->data_dir_cnt && rc == 0; i++)
        rc = dir_read_or_miss(c, i, old, &st[i], err, err_cap);
    if (rc == 0)
        rc = cluster_agree(c, st, &id.cluster_id, err, err_cap);
    if (rc == 0 && uuid_is_zero(&id.cluster_id))
        uuid_random(&id.cluster_id);
    for (uint32_t i = 0; i < c->data_dir_cnt && rc == 0; i++) {
        if (!st[i].have && !st[i].missing) {
            st[i].f = (struct identity_file){.cluster_id = id.cluster_id, .node_id = c->node_id};
            uuid_random(&st[i].f.dir_id);
            rc = file_write(c->data_dirs[i], &st[i].f);
            if (rc < 0)
                fail(rc, err, err_cap, "%s/meta.properties: %s", c->data_dirs[i], err_text(rc));
        }
        id.dir_id[i] = st[i].f.dir_id;
        id.dir_missing[i] = st[i].missing;
    }
    if (rc == 0 && remember(c, &id, old) < 0)
        LOG_WARN("%s cannot be written: a data directory that is missing at the next start may be "
                 "taken for a new one",
                 path);
    free(old);
    free(st);
    if (rc == 0)
        *ret = id;
    return rc;
}
