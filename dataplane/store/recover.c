/* recover.c - see recover.h; recover_cases.def lists every decision. */
#include "dataplane/store/recover_int.h"
#include "dataplane/store/store_file.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
    bool warn;
} cases[RC_CNT] = {
#define RCASE(name, warn, text) [RC_##name] = {#name, text, warn},
#include "dataplane/store/recover_cases.def"
#undef RCASE
};

const char *recover_case_text(enum recover_case c)
{
    return cases[c].text;
}

void recover_opts_default(struct recover_opts *o)
{
    *o = (struct recover_opts){.index_interval_bytes = 4096,
                               .index_bytes_max = 10u << 20,
                               .segment_bytes = UINT64_C(1) << 30};
}

void recover_note(struct recover_report *rep, enum recover_case c, const char *fmt, ...)
{
    rep->cnt[c]++;
    if (rep->say == NULL || !(cases[c].warn || rep->verbose))
        return;
    char text[STORE_PATH_MAX + 512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof(text))
        (void)snprintf(text + n, sizeof(text) - (size_t)n, " [%s: %s]", cases[c].name,
                       cases[c].text);
    rep->say(rep->arg, text);
}

int recover_derived(const struct recover_opts *o, struct recover_report *rep, const char *dir,
                    int rc)
{
    if (!o->spare_derived || (rc != -ENOSPC && rc != -EDQUOT))
        return rc;
    recover_note(rep, RC_NO_ROOM, "%s", dir);
    return 0;
}

int recover_grow(void **arr, uint32_t cnt, uint32_t *cap, size_t size)
{
    if (cnt < *cap)
        return 0;
    uint32_t next = *cap ? *cap * 2 : 16;
    void *p = realloc(*arr, next * size);
    if (p == NULL)
        return -ENOMEM;
    *arr = p;
    *cap = next;
    return 0;
}

int recover_names_add(void *arg, const char *name)
{
    struct names *x = arg;
    if (strlen(name) >= STORE_NAME_MAX)
        return 0; /* longer than any name of Kafka's or ours */
    void *a = x->name;
    int rc = recover_grow(&a, x->cnt, &x->cap, sizeof(*x->name));
    if (rc < 0)
        return rc;
    x->name = a;
    strcpy(x->name[x->cnt++], name);
    return 0;
}

/* ------------------------------------------------------------------------------ whole directories
 */

struct unfinished {
    struct file_io *io;
    const char *dir;
};
/* 1: a file that the creation of a partition does not make, or one with data; ends the list. */
static int is_more_than_creation(void *arg, const char *name)
{
    struct unfinished *u = arg;
    char path[STORE_PATH_MAX], first[32];
    struct file_stat st;
    (void)snprintf(first, sizeof(first), SEG_NAME_FMT, 0LL, SFX_LOG);
    if (strncmp(name, FN_PARTITION_META, sizeof(FN_PARTITION_META) - 1) == 0 ||
        strncmp(name, FN_EPOCHS, sizeof(FN_EPOCHS) - 1) == 0 || /* or .tmp, with Kafka */
        ends_with(name, SFX_INDEX) || ends_with(name, SFX_TIMEINDEX))
        return 0;
    if (strcmp(name, first) != 0)
        return 1;
    int rc = path_join(path, u->dir, name);
    if (rc == 0)
        rc = u->io->ops->stat(u->io, path, &st);
    return rc < 0 ? rc : st.size > 0;
}

/* Is this what a creation that was cut off leaves? Then nobody ever appended here: partitions are
 * attached only when partition.metadata is flushed, and their checkpoint has a line for them. */
static int is_unfinished(const struct part *p, const char *dir)
{
    struct data_dir *d = p->dir;
    struct unfinished u = {d->io, dir};
    struct uuid id;
    int rc = part_meta_read(d->io, dir, &id);
    if (rc != -ENOENT && rc != -E_MALFORMED)
        return rc;
    if (checkpoint_find(d->found_recovery, p->topic, p->partition) >= 0)
        return 0;
    rc = d->io->ops->list(d->io, dir, is_more_than_creation, &u);
    return rc < 0 ? rc : rc == 0;
}

/* A partition that is left out keeps its lines in the checkpoints until it is restored. */
static void mark_keep(struct part *p, const struct recover_part_opts *po)
{
    if (po->recovery_point < 0)
        return;
    atomic_store(&p->mark->recovery_point, po->recovery_point);
    atomic_store(&p->mark->high_watermark, po->recovery_point);
    atomic_store(&p->mark->log_start, po->log_start);
    p->mark = NULL; /* the catalog frees it */
}

struct probe {
    struct file_io *io;
    const char *dir;
    char *bad;
    int rc;
    uint8_t *buf;
};
enum { PROBE_BYTES = 1 << 20 };
static int probe_one(void *arg, const char *name)
{
    struct probe *b = arg;
    struct file *f;
    int rc = path_join(b->bad, b->dir, name);
    if (rc == 0)
        rc = b->io->ops->open(b->io, b->bad, FILE_RDONLY, &f);
    if (rc == 0) {
        int64_t n = 1;
        for (uint64_t at = 0; n > 0; at += (uint64_t)n)
            n = b->io->ops->pread(f, b->buf, PROBE_BYTES, at);
        b->io->ops->close(f);
        rc = (int)n;
    }
    b->rc = rc;
    return rc < 0; /* ends the list */
}

/* Which file of a partition that could not be opened is it that cannot be read? 1: `bad` is its
 * path and *rc its error, 0: all can (it was a write that failed, or memory), -ENOMEM. */
static int unreadable_find(struct file_io *io, const char *dir, char bad[STORE_PATH_MAX], int *rc)
{
    struct probe b = {.io = io, .dir = dir, .bad = bad, .buf = malloc(PROBE_BYTES)};
    if (b.buf == NULL)
        return -ENOMEM;
    int found = io->ops->list(io, dir, probe_one, &b);
    free(b.buf);
    if (found < 0)
        strcpy(bad, dir); /* one of path_join: not even its names can be read */
    *rc = found < 0 ? found : b.rc;
    return found == 0 || *rc == -EMFILE || *rc == -ENFILE || *rc == -ENOMEM ? 0 : 1;
}

/* A partition one of whose files cannot be read is left out alone. `rc` of the opening otherwise.
 */
static int part_leave_out(struct catalog *c, struct part *p, const struct recover_part_opts *po,
                          struct recover_report *rep, const char *dir, int rc)
{
    char bad[STORE_PATH_MAX], why[CATALOG_WHY_MAX];
    int why_rc;
    int found = unreadable_find(p->dir->io, dir, bad, &why_rc);
    if (found <= 0)
        return found < 0 ? found : rc;
    (void)snprintf(why, sizeof(why), "%.400s: %s", bad, err_text(why_rc));
    int full = catalog_part_leave_out(c, p->dir, p->topic, p->partition, why);
    if (full < 0)
        return full;
    recover_note(rep, RC_UNREADABLE, "topic %s partition %" PRId32 ": %s", p->topic, p->partition,
                 why);
    mark_keep(p, po);
    return 0;
}

static int dir_one(struct catalog *c, struct data_dir *d, const char *name,
                   const struct recover_opts *o, struct recover_report *rep, struct list *parts)
{
    char path[STORE_PATH_MAX];
    struct file_stat st;
    int rc = path_join(path, d->path, name);
    if (rc == 0)
        rc = d->io->ops->stat(d->io, path, &st);
    if (rc == 0 && !st.is_dir)
        return 0;
    if (ends_with(name, SFX_DIR_DELETE) && o->leave_deleted)
        return 0;
    if (ends_with(name, SFX_DIR_DELETE)) {
        recover_note(rep, RC_DELETE_DIR, "%s", path);
        return dir_remove(d->io, path);
    }
    struct part *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    if (strcmp(name, FN_CLUSTER_METADATA) == 0 || recover_part_init(p, d, name) < 0) {
        if (strcmp(name, FN_CLUSTER_METADATA) != 0)
            recover_note(rep, RC_FOREIGN_NAME, "%s", path);
        free(p);
        return 0;
    }
    if (rc == 0)
        rc = is_unfinished(p, path);
    if (rc > 0) {
        recover_note(rep, RC_UNFINISHED_DIR, "%s", path);
        rc = dir_remove(d->io, path);
        free(p);
        return rc;
    }
    p->mark = part_mark_create(d, p->topic, p->partition);
    struct recover_part_opts po = {
        .recovery_point = checkpoint_find(d->found_recovery, p->topic, p->partition),
        .log_start = checkpoint_find(d->found_start, p->topic, p->partition),
        .limit = -1,
        .clean = d->was_clean,
    };
    if (p->mark != NULL)
        atomic_store(&p->mark->cleaned, checkpoint_find(d->found_cleaner, p->topic, p->partition));
    if (rc == 0)
        rc = p->mark == NULL ? -ENOMEM : recover_part(p, &po, o, rep);
    if (rc == -E_MALFORMED) { /* reported as RC_NO_META: its topic id is not known */
        char why[CATALOG_WHY_MAX];
        (void)snprintf(why, sizeof(why), "%.400s/" FN_PARTITION_META ": missing or damaged", path);
        rc = catalog_part_leave_out(c, d, p->topic, p->partition, why);
        mark_keep(p, &po);
        part_destroy(p);
        return rc;
    }
    uint32_t left_out = d->left_out;
    if (rc < 0 && p->mark != NULL)
        rc = part_leave_out(c, p, &po, rep, path, rc);
    if (d->left_out > left_out) {
        part_destroy(p);
        return 0;
    }
    if (rc < 0) {
        if (rep->say != NULL) {
            char text[STORE_PATH_MAX + 200];
            (void)snprintf(text, sizeof(text), "cannot read partition %s: %s", path, err_text(rc));
            rep->say(rep->arg, text);
        }
        part_destroy(p);
        return rc;
    }
    rep->partitions++;
    list_add_tail(parts, &p->link);
    return 0;
}

/* Its partitions, then its journals, which speak of no others. */
static int data_dir_recover(struct catalog *c, struct data_dir *d, const struct recover_opts *o,
                            struct recover_report *rep, struct list *parts)
{
    struct names names = {0};
    int rc = d->io->ops->list(d->io, d->path, recover_names_add, &names);
    for (uint32_t k = 0; rc == 0 && k < names.cnt; k++)
        rc = dir_one(c, d, names.name[k], o, rep, parts);
    free(names.name);
    if (rc == 0)
        rc = recover_journals(d, o, rep, parts);
    /* An old checkpoint is only less: recovery begins earlier. */
    return rc == 0 ? recover_derived(o, rep, d->path, catalog_checkpoint(d)) : rc;
}

static void parts_forget(struct data_dir *d, struct recover_report *rep, struct list *parts)
{
    list_for_each_safe(it, tmp, parts)
    {
        struct part *p = container_of(it, struct part, link);
        if (p->dir != d)
            continue;
        list_del(it);
        part_destroy(p);
        rep->partitions--;
    }
}

int recover_data_dirs(struct catalog *c, const struct recover_opts *o, struct recover_report *rep,
                      struct list *parts)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < c->dir_cnt;) {
        char why[CATALOG_WHY_MAX];
        struct data_dir *d = &c->dirs[i];
        rc = data_dir_recover(c, d, o, rep, parts);
        if (rc == 0) {
            i++;
            continue;
        }
        (void)snprintf(why, sizeof(why), "%.400s cannot be recovered: %s", d->path, err_text(rc));
        parts_forget(d, rep, parts);
        catalog_parts_served(c, d);
        if (catalog_dir_leave_out(c, i, rc, why))
            rc = 0;
    }
    catalog_found_drop(c);
    c->found_damage.batches = rep->cnt[RC_DAMAGED_BATCH] + rep->cnt[RC_JOURNAL_LOST];
    c->found_damage.tails = rep->cnt[RC_DAMAGED_TAIL];
    c->found_damage.segments = rep->cnt[RC_LATER_SEGMENT];
    return rc;
}

int store_log_recover(const char *const *dirs, uint32_t dir_cnt, struct recover_report *rep,
                      char err[CATALOG_ERR_MAX])
{
    struct catalog_opts co = {.ops = &file_io_real, .dir_cnt = dir_cnt};
    struct catalog *c;
    struct recover_opts o;
    struct list parts;
    if (dir_cnt == 0 || dir_cnt > CATALOG_DIRS_MAX) {
        (void)snprintf(err, CATALOG_ERR_MAX, "between 1 and %d directories", CATALOG_DIRS_MAX);
        return -E_LIMIT;
    }
    for (uint32_t i = 0; i < dir_cnt; i++)
        co.dirs[i] = dirs[i];
    int rc = catalog_open(&co, &c, err);
    if (rc < 0)
        return rc;
    list_init(&parts);
    recover_opts_default(&o);
    rc = recover_data_dirs(c, &o, rep, &parts);
    if (rc < 0)
        (void)snprintf(err, CATALOG_ERR_MAX, "recovery stopped: %s", err_text(rc));
    /* Marks hold what the checkpoints say: they go with the catalog, after its last checkpoint. */
    for (struct list *n = list_pop_head(&parts); n != NULL; n = list_pop_head(&parts)) {
        struct part *p = container_of(n, struct part, link);
        p->mark = NULL;
        part_destroy(p);
    }
    int rc2 = catalog_close(c, rc == 0);
    if (rc == 0 && rc2 < 0) {
        (void)snprintf(err, CATALOG_ERR_MAX, "cannot write the checkpoints: %s", err_text(rc2));
        rc = rc2;
    }
    return rc;
}
