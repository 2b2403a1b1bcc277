/* catalog.c - see catalog.h. Text formats are Kafka's (ondisk.md 7). */
#include "dataplane/store/catalog.h"
#include "dataplane/store/format.h"
#include "dataplane/store/store_file.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ------------------------------------------------------------------------------ offset checkpoints
 */

struct checkpoint {
    uint32_t cnt;
    struct checkpoint_line {
        char topic[250];
        int32_t partition;
        int64_t offset;
    } line[];
};

static int line_cmp(const void *a, const void *b)
{
    const struct checkpoint_line *x = a, *y = b;
    int c = strcmp(x->topic, y->topic);
    return c ? c : (x->partition > y->partition) - (x->partition < y->partition);
}

int checkpoint_load(struct file_io *io, const char *dir, const char *name, struct checkpoint **ret)
{
    char path[STORE_PATH_MAX];
    uint8_t *text;
    uint64_t len;
    int rc = path_join(path, dir, name);
    if (rc == 0)
        rc = store_file_read(io, path, UINT64_C(1) << 30, &text, &len);
    if (rc < 0)
        return rc;
    char *at = (char *)text, *end;
    struct checkpoint *c = NULL;
    bool ok = strtol(at, &end, 10) == 0 && *end == '\n';
    unsigned long cnt = ok ? strtoul(end + 1, &end, 10) : 0;
    ok = ok && *end == '\n' && cnt <= len / 6;
    if (ok)
        c = calloc(1, sizeof(*c) + cnt * sizeof(c->line[0]));
    ok = ok && c != NULL;
    at = end + 1;
    for (unsigned long i = 0; ok && i < cnt; i++) {
        struct checkpoint_line *l = &c->line[i];
        int used = 0;
        ok = sscanf(at, "%249s %" SCNd32 " %" SCNd64 "%n", l->topic, &l->partition, &l->offset,
                    &used) == 3 &&
             at[used] == '\n';
        at += used + 1;
    }
    ok = ok && (uint64_t)(at - (char *)text) == len;
    free(text);
    if (!ok) {
        free(c);
        return -E_MALFORMED;
    }
    c->cnt = (uint32_t)cnt;
    qsort(c->line, c->cnt, sizeof(c->line[0]), line_cmp);
    *ret = c;
    return 0;
}

void checkpoint_free(struct checkpoint *c)
{
    free(c);
}

static bool is_empty(struct file_io *io, const char *dir, const char *name)
{
    char path[STORE_PATH_MAX];
    struct file_stat st;
    return path_join(path, dir, name) == 0 && io->ops->stat(io, path, &st) == 0 && st.size == 0;
}

/* NULL for a missing or damaged file: Kafka starts from 0 then, and so do we. Kafka's cleaner
 * leaves an empty file until it has cleaned something. */
static struct checkpoint *checkpoint_read(struct file_io *io, const char *dir, const char *name)
{
    struct checkpoint *c = NULL;
    if (strcmp(name, FN_CLEANER) == 0 && is_empty(io, dir, name))
        return NULL;
    if (checkpoint_load(io, dir, name, &c) == -E_MALFORMED)
        LOG_WARN("%s/%s is damaged and is not used: every partition is read from its start", dir,
                 name);
    return c;
}

int64_t checkpoint_find(const struct checkpoint *c, const char *topic, int32_t partition)
{
    struct checkpoint_line key = {.partition = partition};
    if (c == NULL || strlen(topic) >= sizeof(key.topic))
        return -1;
    strcpy(key.topic, topic);
    const struct checkpoint_line *l = bsearch(&key, c->line, c->cnt, sizeof(c->line[0]), line_cmp);
    return l ? l->offset : -1;
}

static int checkpoint_write(struct data_dir *d, const char *name,
                            int64_t (*value)(const struct part_mark *m))
{
    size_t cnt = 0, cap = 64;
    list_for_each(it, &d->marks)
    {
        const struct part_mark *m = container_of(it, struct part_mark, link);
        if (value(m) >= 0) {
            cnt++;
            cap += strlen(m->topic) + 36;
        }
    }
    char *text = malloc(cap);
    if (text == NULL)
        return -ENOMEM;
    /* A value may turn up or vanish between the two walks: the second one decides. */
    size_t head = 24, at = head, lines = 0;
    list_for_each(it, &d->marks)
    {
        const struct part_mark *m = container_of(it, struct part_mark, link);
        int64_t v = value(m);
        if (v < 0 || lines == cnt)
            continue;
        at += (size_t)snprintf(text + at, cap - at, "%s %" PRId32 " %" PRId64 "\n", m->topic,
                               m->partition, v);
        lines++;
    }
    char top[24];
    size_t top_len = (size_t)snprintf(top, sizeof(top), "0\n%zu\n", lines);
    memcpy(text + head - top_len, top, top_len);
    int rc = store_file_replace(d->io, d->path, name, text + head - top_len, at - head + top_len);
    free(text);
    return rc;
}

static int64_t mark_recovery(const struct part_mark *m)
{
    return atomic_load(&m->recovery_point);
}
static int64_t mark_high_watermark(const struct part_mark *m)
{
    return atomic_load(&m->high_watermark);
}
/* Only when the log starts inside its first segment, as in Kafka. */
static int64_t mark_log_start(const struct part_mark *m)
{
    int64_t start = atomic_load(&m->log_start);
    return start > atomic_load(&m->first_base) ? start : -1;
}

static int64_t mark_cleaned(const struct part_mark *m)
{
    return atomic_load(&m->cleaned);
}

static int marks_write(struct data_dir *d)
{
    bool cleaner = atomic_exchange(&d->cleaner_dirty, false);
    int rc = checkpoint_write(d, FN_RECOVERY_POINT, mark_recovery);
    if (rc == 0)
        rc = checkpoint_write(d, FN_LOG_START, mark_log_start);
    if (rc == 0)
        rc = checkpoint_write(d, FN_HIGH_WATERMARK, mark_high_watermark);
    if (rc == 0 && cleaner)
        rc = checkpoint_write(d, FN_CLEANER, mark_cleaned);
    if (rc < 0 && cleaner)
        atomic_store(&d->cleaner_dirty, true);
    return rc;
}

int catalog_checkpoint(struct data_dir *d)
{
    int rc = 0;
    /* Looked at under the mutex: another thread that took the flag may still be writing. */
    pthread_mutex_lock(&d->mutex);
    if (atomic_exchange(&d->dirty, false))
        rc = marks_write(d);
    if (rc < 0)
        atomic_store(&d->dirty, true);
    pthread_mutex_unlock(&d->mutex);
    return rc;
}

struct part_mark *part_mark_create(struct data_dir *d, const char *topic, int32_t partition)
{
    struct part_mark *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return NULL;
    (void)snprintf(m->topic, sizeof(m->topic), "%s", topic); /* at most 249 by part_name_parse */
    m->partition = partition;
    m->cleaned = -1;
    pthread_mutex_lock(&d->mutex);
    list_add_tail(&d->marks, &m->link);
    pthread_mutex_unlock(&d->mutex);
    atomic_store(&d->dirty, true);
    return m;
}

void part_mark_destroy(struct data_dir *d, struct part_mark *m)
{
    if (m == NULL)
        return;
    pthread_mutex_lock(&d->mutex);
    list_del(&m->link);
    pthread_mutex_unlock(&d->mutex);
    if (atomic_load(&m->cleaned) >= 0)
        atomic_store(&d->cleaner_dirty, true);
    atomic_store(&d->dirty, true);
    free(m);
}

/* --------------------------------------------------------------------------------- meta.properties
 */

struct meta_props {
    int version; /* -1: absent */
    long node_id;
    struct uuid cluster_id, directory_id;
    bool has_cluster, has_directory;
};

static int meta_line(struct meta_props *m, char *line)
{
    char *eq = strchr(line, '=');
    if (eq == NULL)
        return -E_MALFORMED;
    *eq = 0;
    const char *v = eq + 1;
    char *end;
    if (strcmp(line, "version") == 0) {
        m->version = (int)strtol(v, &end, 10);
        return *v && *end == 0 ? 0 : -E_MALFORMED;
    }
    if (strcmp(line, "node.id") == 0) {
        m->node_id = strtol(v, &end, 10);
        return *v && *end == 0 ? 0 : -E_MALFORMED;
    }
    if (strcmp(line, "cluster.id") == 0) {
        m->has_cluster = true;
        return uuid_parse(v, (uint32_t)strlen(v), &m->cluster_id);
    }
    if (strcmp(line, "directory.id") == 0) {
        m->has_directory = true;
        return uuid_parse(v, (uint32_t)strlen(v), &m->directory_id);
    }
    return 0; /* Kafka keeps unknown properties too */
}

static int meta_parse(struct meta_props *m, char *text)
{
    *m = (struct meta_props){.version = -1, .node_id = -1};
    char *save = NULL;
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        if (line[0] == '#' || line[0] == '!')
            continue;
        int rc = meta_line(m, line);
        if (rc < 0)
            return rc;
    }
    return m->version == 1 && m->node_id >= 0 && m->has_cluster && m->has_directory ? 0
                                                                                    : -E_MALFORMED;
}

static int meta_write(struct catalog *c, struct data_dir *d)
{
    char cluster[UUID_TEXT_LEN + 1], dir[UUID_TEXT_LEN + 1], when[64], text[512];
    uuid_format(&c->cluster_id, cluster);
    uuid_format(&d->id, dir);
    time_t now = time(NULL);
    struct tm tm;
    (void)strftime(when, sizeof(when), "%a %b %d %H:%M:%S UTC %Y", gmtime_r(&now, &tm));
    int n = snprintf(text, sizeof(text),
                     "#\n#%s\ncluster.id=%s\ndirectory.id=%s\nnode.id=%" PRId32 "\nversion=1\n",
                     when, cluster, dir, c->node_id);
    return store_file_replace(d->io, d->path, FN_META, text, (uint64_t)n);
}

static int count_name(void *arg, const char *name)
{
    /* What an empty file system or an interrupted start of ours may hold. */
    if (strcmp(name, "lost+found") != 0 && strcmp(name, FN_LOCK) != 0 &&
        strcmp(name, FN_META ".tmp") != 0)
        ++*(uint32_t *)arg;
    return 0;
}

int meta_file_check(struct file_io *io, const char *dir, struct uuid *ret_id)
{
    char path[STORE_PATH_MAX];
    uint8_t *text;
    uint64_t len;
    struct meta_props m;
    int rc = path_join(path, dir, FN_META);
    if (rc == 0)
        rc = store_file_read(io, path, 65536, &text, &len);
    if (rc < 0)
        return rc;
    rc = meta_parse(&m, (char *)text);
    free(text);
    if (rc == 0)
        *ret_id = m.directory_id;
    return rc;
}

static int meta_check(struct catalog *c, struct data_dir *d, const struct catalog_opts *opts,
                      char *err)
{
    char path[STORE_PATH_MAX], a[UUID_TEXT_LEN + 1], b[UUID_TEXT_LEN + 1];
    uint8_t *text;
    uint64_t len;
    int rc = path_join(path, d->path, FN_META);
    if (rc == 0)
        rc = store_file_read(d->io, path, 65536, &text, &len);
    if (rc == -ENOENT) {
        uint32_t cnt = 0;
        rc = d->io->ops->list(d->io, d->path, count_name, &cnt);
        if (rc == 0 && (cnt > 0 || !opts->format)) {
            (void)snprintf(err, CATALOG_ERR_MAX, "%s is not a log directory: it has no %s%s",
                           d->path, FN_META, cnt > 0 ? " but is not empty" : "");
            return -E_FOREIGN_DIR;
        }
        if (rc == 0) {
            uuid_random(&d->id);
            rc = meta_write(c, d);
        }
        if (rc < 0)
            (void)snprintf(err, CATALOG_ERR_MAX, "cannot set up %s: %s", d->path, err_text(rc));
        return rc;
    }
    if (rc < 0) {
        (void)snprintf(err, CATALOG_ERR_MAX, "cannot read %s: %s", path, err_text(rc));
        return rc;
    }
    struct meta_props m;
    rc = meta_parse(&m, (char *)text);
    free(text);
    if (rc < 0) {
        (void)snprintf(err, CATALOG_ERR_MAX,
                       "%s is damaged or of an unknown version: it must hold version=1, node.id, "
                       "cluster.id and directory.id",
                       path);
        return rc;
    }
    d->id = m.directory_id;
    if (opts->cluster_id == NULL && d == c->dirs) {
        c->cluster_id = m.cluster_id;
        c->node_id = (int32_t)m.node_id;
        return 0;
    }
    if (!uuid_eq(&m.cluster_id, &c->cluster_id)) {
        uuid_format(&m.cluster_id, a);
        uuid_format(&c->cluster_id, b);
        (void)snprintf(err, CATALOG_ERR_MAX, "%s belongs to cluster %s, this is cluster %s",
                       d->path, a, b);
        return -E_FOREIGN_DIR;
    }
    if (m.node_id != c->node_id) {
        (void)snprintf(err, CATALOG_ERR_MAX, "%s belongs to node %ld, this is node %" PRId32,
                       d->path, m.node_id, c->node_id);
        return -E_FOREIGN_DIR;
    }
    for (struct data_dir *o = c->dirs; o < d; o++) {
        if (uuid_eq(&o->id, &d->id)) {
            (void)snprintf(err, CATALOG_ERR_MAX,
                           "%s and %s have the same directory.id: one is a copy of the other",
                           o->path, d->path);
            return -E_FOREIGN_DIR;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------------------------- open and close
 */

static int journal_dir_path(struct data_dir *d)
{
    const char *slash = strrchr(d->path, '/');
    int n = slash ? snprintf(d->journal_path, sizeof(d->journal_path), "%.*s/journal",
                             (int)(slash - d->path), d->path)
                  : snprintf(d->journal_path, sizeof(d->journal_path), "journal");
    return n < 0 || (size_t)n >= sizeof(d->journal_path) ? -ENAMETOOLONG : 0;
}

/* Make a directory and flush its name. */
static int mkdir_if_missing(struct file_io *io, const char *path)
{
    char parent[STORE_PATH_MAX];
    int rc = io->ops->mkdir(io, path);
    if (rc < 0)
        return rc == -EEXIST ? 0 : rc;
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    (void)snprintf(parent, sizeof(parent), "%.*s", n, slash == NULL ? "." : path);
    return io->ops->dir_sync(io, parent);
}

static int clean_mark_take(struct data_dir *d)
{
    char path[STORE_PATH_MAX];
    struct file_stat st;
    int rc = path_join(path, d->path, FN_CLEAN);
    if (rc == 0)
        rc = d->io->ops->stat(d->io, path, &st);
    d->was_clean = rc == 0;
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = d->io->ops->unlink(d->io, path);
    if (rc == 0)
        rc = d->io->ops->dir_sync(d->io, d->path);
    return rc;
}

static int meta_stat(const struct data_dir *d)
{
    char path[STORE_PATH_MAX];
    struct file_stat st;
    int rc = path_join(path, d->path, FN_META);
    return rc < 0 ? rc : d->io->ops->stat(d->io, path, &st);
}

static int data_dir_open(struct catalog *c, struct data_dir *d, const struct catalog_opts *opts,
                         const char *path, char *err)
{
    char lock[STORE_PATH_MAX];
    *d = (struct data_dir){.io = &c->io};
    list_init(&d->marks);
    pthread_mutex_init(&d->mutex, NULL);
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0 || len >= sizeof(d->path)) {
        (void)snprintf(err, CATALOG_ERR_MAX, "data directory path is empty or too long");
        return -ENAMETOOLONG;
    }
    memcpy(d->path, path, len);
    int rc = journal_dir_path(d);
    bool may_miss = opts->may_miss && d != c->dirs;
    if (rc == 0 && may_miss && meta_stat(d) < 0) { /* before anything is written there */
        (void)snprintf(err, CATALOG_ERR_MAX, "%s has no %s: its disk is not mounted?", d->path,
                       FN_META);
        return -ENODEV;
    }
    if (rc == 0 && opts->format && !may_miss)
        rc = mkdir_if_missing(d->io, d->path);
    if (rc == 0)
        rc = path_join(lock, d->path, FN_LOCK);
    if (rc == 0)
        rc = d->io->ops->lock(d->io, lock, &d->lock);
    if (rc < 0) {
        if (rc == -E_LOCKED)
            (void)snprintf(err, CATALOG_ERR_MAX, "%s is in use by another process (it holds %s)",
                           d->path, lock);
        else
            (void)snprintf(err, CATALOG_ERR_MAX, "cannot open data directory %s: %s", d->path,
                           err_text(rc));
        return rc;
    }
    rc = meta_check(c, d, opts, err);
    if (rc < 0)
        return rc;
    d->sync_each = !d->io->ops->can_sync_all(d->io, d->path);
    if (opts->format)
        rc = mkdir_if_missing(d->io, d->journal_path);
    if (rc == 0)
        rc = clean_mark_take(d);
    if (rc < 0) {
        (void)snprintf(err, CATALOG_ERR_MAX, "cannot write in %s: %s", d->path, err_text(rc));
        return rc;
    }
    d->found_recovery = checkpoint_read(d->io, d->path, FN_RECOVERY_POINT);
    d->found_start = checkpoint_read(d->io, d->path, FN_LOG_START);
    d->found_cleaner = checkpoint_read(d->io, d->path, FN_CLEANER);
    return 0;
}

void catalog_found_drop(struct catalog *c)
{
    for (uint32_t i = 0; i < c->dir_cnt; i++) {
        checkpoint_free(c->dirs[i].found_recovery);
        checkpoint_free(c->dirs[i].found_start);
        checkpoint_free(c->dirs[i].found_cleaner);
        c->dirs[i].found_recovery = c->dirs[i].found_start = c->dirs[i].found_cleaner = NULL;
    }
}

static void data_dir_close(struct data_dir *d)
{
    if (d->lock != NULL)
        d->io->ops->close(d->lock);
    list_for_each_safe(it, tmp, &d->marks)
    {
        list_del(it);
        free(container_of(it, struct part_mark, link));
    }
    free(d->found_recovery);
    free(d->found_start);
    free(d->found_cleaner);
    pthread_mutex_destroy(&d->mutex);
}

/* What a disk says, or nothing there: not our own errors, and not a lack that other directories
 * would meet too. */
static bool is_of_disk(int rc)
{
    return rc < 0 && rc > -5000 && rc != -ENOMEM && rc != -EMFILE && rc != -ENFILE;
}

static bool leave_out(struct catalog *c, struct data_dir *d, int rc, const char *why)
{
    if (!c->may_miss || d == c->dirs || !is_of_disk(rc))
        return false;
    memcpy(c->offline[c->offline_cnt].path, d->path, sizeof(d->path));
    (void)snprintf(c->offline[c->offline_cnt].why, CATALOG_WHY_MAX, "%s", why);
    c->offline_cnt++;
    data_dir_close(d);
    return true;
}

bool catalog_dir_leave_out(struct catalog *c, uint32_t idx, int rc, const char *why)
{
    if (!leave_out(c, &c->dirs[idx], rc, why))
        return false;
    c->dir_cnt--;
    for (uint32_t i = idx; i < c->dir_cnt; i++) {
        pthread_mutex_destroy(&c->dirs[i + 1].mutex);
        c->dirs[i] = c->dirs[i + 1];
        list_init(&c->dirs[i].marks); /* nothing was found there yet */
        pthread_mutex_init(&c->dirs[i].mutex, NULL);
    }
    return true;
}

int catalog_part_leave_out(struct catalog *c, struct data_dir *d, const char *topic,
                           int32_t partition, const char *why)
{
    if (c->offline_part_cnt == c->offline_part_cap) {
        uint32_t cap = c->offline_part_cap ? c->offline_part_cap * 2 : 4;
        struct offline_part *v = realloc(c->offline_part, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        c->offline_part = v;
        c->offline_part_cap = cap;
    }
    struct offline_part *o = &c->offline_part[c->offline_part_cnt++];
    *o = (struct offline_part){.dir = d->id, .partition = partition};
    (void)snprintf(o->topic, sizeof(o->topic), "%s", topic);
    (void)snprintf(o->why, sizeof(o->why), "%s", why);
    d->left_out++;
    return 0;
}

void catalog_parts_served(struct catalog *c, const struct data_dir *d)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->offline_part_cnt; i++)
        if (!uuid_eq(&c->offline_part[i].dir, &d->id))
            c->offline_part[kept++] = c->offline_part[i];
    c->offline_part_cnt = kept;
}

const char *catalog_part_why_offline(const struct catalog *c, const char *topic, int32_t partition)
{
    for (uint32_t i = 0; i < c->offline_part_cnt; i++)
        if (c->offline_part[i].partition == partition &&
            strcmp(c->offline_part[i].topic, topic) == 0)
            return c->offline_part[i].why;
    return NULL;
}

int catalog_open(const struct catalog_opts *opts, struct catalog **ret, char err[CATALOG_ERR_MAX])
{
    ASSERT(opts->dir_cnt >= 1);
    ASSERT(opts->dir_cnt <= CATALOG_DIRS_MAX);
    struct catalog *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        (void)snprintf(err, CATALOG_ERR_MAX, "out of memory");
        return -ENOMEM;
    }
    c->io = (struct file_io){.ops = opts->ops, .arg = opts->ops_arg};
    c->node_id = opts->node_id;
    c->broker_epoch = -1;
    if (opts->cluster_id != NULL)
        c->cluster_id = *opts->cluster_id;
    c->may_miss = opts->may_miss;
    for (uint32_t i = 0; i < opts->dir_cnt; i++) {
        struct data_dir *d = &c->dirs[c->dir_cnt++];
        int rc = data_dir_open(c, d, opts, opts->dirs[i], err);
        d->conf_idx = i;
        if (leave_out(c, d, rc, err)) {
            c->dir_cnt--;
        } else if (rc < 0) {
            for (uint32_t k = 0; k < c->dir_cnt; k++)
                data_dir_close(&c->dirs[k]);
            free(c);
            return rc;
        }
    }
    *ret = c;
    return 0;
}

static int clean_mark_put(struct data_dir *d, int64_t broker_epoch)
{
    char text[64];
    int n =
        snprintf(text, sizeof(text), "{\"version\":0,\"brokerEpoch\":%" PRId64 "}", broker_epoch);
    return store_file_replace(d->io, d->path, FN_CLEAN, text, (uint64_t)n);
}

int catalog_close(struct catalog *c, bool clean)
{
    int first = 0;
    if (c == NULL)
        return 0;
    for (uint32_t i = 0; i < c->dir_cnt; i++) {
        struct data_dir *d = &c->dirs[i];
        int rc = catalog_checkpoint(d);
        if (rc == 0 && clean && d->left_out == 0)
            rc = clean_mark_put(d, c->broker_epoch);
        if (rc < 0 && first == 0)
            first = rc;
        data_dir_close(d);
    }
    free(c->offline_part);
    free(c);
    return first;
}

int catalog_dir_by_id(const struct catalog *c, const struct uuid *id)
{
    for (uint32_t i = 0; i < c->dir_cnt; i++)
        if (uuid_eq(&c->dirs[i].id, id))
            return (int)i;
    return -1;
}

/* ------------------------------------------------------------------------- partition directories
 */

int part_name_parse(const char *name, char topic[250], int32_t *ret_partition)
{
    const char *dash = strrchr(name, '-');
    if (dash == NULL || dash == name || dash - name > 249)
        return -E_MALFORMED;
    char *end;
    if (dash[1] < '0' || dash[1] > '9')
        return -E_MALFORMED;
    long p = strtol(dash + 1, &end, 10);
    if (*end != 0 || p > INT32_MAX || (dash[1] == '0' && dash[2] != 0))
        return -E_MALFORMED;
    for (const char *c = name; c < dash; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                  (*c >= '0' && *c <= '9') || *c == '.' || *c == '_' || *c == '-';
        if (!ok)
            return -E_MALFORMED;
    }
    memcpy(topic, name, (size_t)(dash - name));
    topic[dash - name] = 0;
    *ret_partition = (int32_t)p;
    return 0;
}

int part_meta_read(struct file_io *io, const char *dir, struct uuid *ret_id)
{
    static const char head[] = "version: 0\ntopic_id: ";
    char path[STORE_PATH_MAX];
    uint8_t *text;
    uint64_t len;
    int rc = path_join(path, dir, FN_PARTITION_META);
    if (rc == 0)
        rc = store_file_read(io, path, 4096, &text, &len);
    if (rc < 0)
        return rc;
    while (len > 0 && text[len - 1] == '\n')
        len--;
    if (len != sizeof(head) - 1 + UUID_TEXT_LEN || memcmp(text, head, sizeof(head) - 1) != 0)
        rc = -E_MALFORMED;
    else
        rc = uuid_parse((char *)text + sizeof(head) - 1, UUID_TEXT_LEN, ret_id);
    free(text);
    return rc;
}

int part_meta_write(struct file_io *io, const char *dir, const struct uuid *id)
{
    char path[STORE_PATH_MAX], text[64], idt[UUID_TEXT_LEN + 1];
    uuid_format(id, idt);
    int n = snprintf(text, sizeof(text), "version: 0\ntopic_id: %s", idt);
    int rc = path_join(path, dir, FN_PARTITION_META);
    return rc < 0 ? rc : store_file_write(io, path, text, (uint64_t)n, true);
}

static int part_files_create(struct file_io *io, const char *dir, struct part *p)
{
    char path[STORE_PATH_MAX], *text;
    size_t len;
    int rc = part_meta_write(io, dir, &p->topic_id);
    if (rc == 0)
        rc = epochs_encode(&p->epochs, &text, &len);
    if (rc < 0)
        return rc;
    rc = path_join(path, dir, FN_EPOCHS);
    if (rc == 0)
        rc = store_file_write(io, path, text, len, true);
    free(text);
    if (rc == 0)
        rc = path_seg(path, dir, 0, SFX_LOG);
    if (rc == 0)
        rc = store_file_write(io, path, NULL, 0, false);
    if (rc == 0)
        rc = io->ops->dir_sync(io, dir);
    return rc;
}

/* A name in `d` that recovery, here and in Kafka, removes with all that is in it. Kafka cuts the
 * topic so that the name stays within 255; so do we. */
static int doomed_path(const struct data_dir *d, const char *name, char to[STORE_PATH_MAX])
{
    struct uuid u;
    uuid_random(&u);
    char hex[33];
    for (int i = 0; i < 16; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", u.b[i]);
    int over = (int)strlen(name) + 1 + 32 + 7 - 255;
    const char *dash = strrchr(name, '-');
    if (dash == NULL)
        return -E_MALFORMED;
    int topic_len = (int)(dash - name) - (over > 0 ? over : 0);
    int n = snprintf(to, STORE_PATH_MAX, "%s/%.*s%s.%s" SFX_DIR_DELETE, d->path, topic_len, name,
                     dash, hex);
    return n < 0 || n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* The directory is built under a name that recovery removes and takes its own when it is whole and
 * flushed: a crash at any point leaves all of it or nothing. */
static int part_dir_create(struct data_dir *d, struct part *p, bool sync_parent)
{
    struct file_io *io = d->io;
    char tmp[STORE_PATH_MAX], dir[STORE_PATH_MAX], *at = tmp;
    struct file_stat st;
    int rc = path_join(dir, d->path, p->name);
    if (rc == 0)
        rc = doomed_path(d, p->name, tmp);
    if (rc < 0)
        return rc;
    rc = io->ops->stat(io, dir, &st); /* rename would take the place of an empty directory */
    if (rc != -ENOENT)
        return rc < 0 ? rc : -EEXIST;
    rc = io->ops->mkdir(io, tmp);
    if (rc < 0)
        return rc;
    rc = part_files_create(io, tmp, p);
    if (rc == 0)
        rc = io->ops->rename(io, tmp, dir);
    if (rc == 0) {
        at = dir;
        rc = sync_parent ? catalog_dir_sync(d) : 0;
    }
    if (rc < 0)
        (void)dir_remove(io, at); /* the first error is the one to tell */
    return rc;
}

int catalog_part_create(struct catalog *c, const struct part_create_opts *o, struct part **ret)
{
    struct data_dir *d = &c->dirs[o->dir_idx];
    ASSERT(o->dir_idx < c->dir_cnt);
    struct part *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    *p = (struct part){
        .dir = d, .topic_id = o->topic_id, .partition = o->partition, .was_clean = true};
    int n = snprintf(p->name, sizeof(p->name), "%s-%" PRId32, o->topic, o->partition);
    int32_t check;
    int rc = n < 0 || n >= (int)sizeof(p->name) ? -ENAMETOOLONG
                                                : part_name_parse(p->name, p->topic, &check);
    p->segs = calloc(1, sizeof(*p->segs));
    if (rc == 0 && p->segs == NULL)
        rc = -ENOMEM;
    if (rc == 0 && o->leader_epoch >= 0) {
        rc = epochs_assign(&p->epochs, o->leader_epoch, 0);
        rc = rc < 0 ? rc : 0;
    }
    if (rc == 0)
        rc = part_dir_create(d, p, o->sync_parent);
    if (rc < 0)
        goto undo;
    p->seg_cnt = p->seg_cap = 1;
    p->segs[0] = (struct part_seg){.max_ts = -1, .max_ts_offset = -1};
    p->mark = part_mark_create(d, p->topic, p->partition);
    if (p->mark == NULL) {
        rc = -ENOMEM;
        goto undo;
    }
    *ret = p;
    return 0;
undo:
    part_destroy(p);
    return rc;
}

int catalog_dir_sync(struct data_dir *d)
{
    return d->io->ops->dir_sync(d->io, d->path);
}

struct remove_ctx {
    struct file_io *io;
    const char *dir;
};
static int remove_one(void *arg, const char *name)
{
    struct remove_ctx *x = arg;
    char path[STORE_PATH_MAX];
    int rc = path_join(path, x->dir, name);
    return rc < 0 ? rc : x->io->ops->unlink(x->io, path);
}

int dir_remove(struct file_io *io, const char *path)
{
    struct remove_ctx x = {io, path};
    int rc = io->ops->list(io, path, remove_one, &x);
    if (rc == 0)
        rc = io->ops->rmdir(io, path);
    return rc == -ENOENT ? 0 : rc;
}

int catalog_part_retire(struct data_dir *d, const char *name, char to[STORE_PATH_MAX])
{
    char from[STORE_PATH_MAX];
    int rc = path_join(from, d->path, name);
    if (rc == 0)
        rc = doomed_path(d, name, to);
    return rc < 0 ? rc : d->io->ops->rename(d->io, from, to);
}

void part_destroy(struct part *p)
{
    if (p == NULL)
        return;
    part_mark_destroy(p->dir, p->mark);
    epochs_fini(&p->epochs);
    producers_fini(&p->producers);
    aborted_fini(&p->aborted);
    free(p->segs);
    free(p);
}
