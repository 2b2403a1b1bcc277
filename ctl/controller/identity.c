/* identity.c - see identity.h */
#include "ctl/controller/identity.h"
#include "lib/base/text_file.h"
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FILE_BYTES_MAX 65536

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
    bool have;
    struct identity_file f;
};
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
    int rc = 0;
    for (uint32_t i = 0; i < c->data_dir_cnt && rc == 0; i++)
        rc = dir_read(c->data_dirs[i], &st[i], err, err_cap);
    if (rc == 0)
        rc = cluster_agree(c, st, &id.cluster_id, err, err_cap);
    if (rc == 0 && uuid_is_zero(&id.cluster_id))
        uuid_random(&id.cluster_id);
    for (uint32_t i = 0; i < c->data_dir_cnt && rc == 0; i++) {
        if (!st[i].have) {
            st[i].f = (struct identity_file){.cluster_id = id.cluster_id, .node_id = c->node_id};
            uuid_random(&st[i].f.dir_id);
            rc = file_write(c->data_dirs[i], &st[i].f);
            if (rc < 0)
                fail(rc, err, err_cap, "%s/meta.properties: %s", c->data_dirs[i], err_text(rc));
        }
        id.dir_id[i] = st[i].f.dir_id;
    }
    free(st);
    if (rc == 0)
        *ret = id;
    return rc;
}
