/* verify.c - sluice-log verify and repair: every file of data directories against every other.
 *
 * Partitions are shared out to threads one by one; each has its own codecs and scratch. */
#include "accel/codec.h"
#include "dataplane/logtool/logtool.h"
#include "dataplane/store/part_audit.h"
#include "lib/base/clock.h"
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SCRATCH_BYTES (UINT64_C(256) << 20) /* pages are touched only as far as needed */
#define JOBS_MAX 64

struct target {
    char dir[STORE_PATH_MAX], name[STORE_NAME_MAX], topic[250];
    int32_t partition;
    struct data_root *root;
};
struct data_root {
    const char *path;
    struct checkpoint *recovery, *high, *start;
    struct meta_image *img;
    bool was_clean;
    struct uuid id; /* of meta.properties */
    struct file *lock;
};
struct verify {
    struct file_io io;
    bool repair, dry_run, deep, json;
    const char *topic; /* NULL: all */
    int32_t partition; /* -1: all */
    struct target *t;
    uint32_t cnt, cap, next;
    pthread_mutex_t lock; /* next, total, failed, stdout */
    struct part_audit_report total;
    uint64_t lost;
    int failed;
};

/* ----------------------------------------------------------------------------------------- output
 */

static void finding_json(const char *path, const char *topic, int32_t partition,
                         const struct part_finding *f)
{
    printf("{\"finding\": \"%s\", \"path\": ", f->kind);
    out_json_text(stdout, span_str(path));
    if (topic != NULL) {
        printf(", \"topic\": ");
        out_json_text(stdout, span_str(topic));
        printf(", \"partition\": %" PRId32, partition);
    }
    if (f->damage != NULL)
        printf(", \"position\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"first_offset\": %" PRId64
               ", \"last_offset\": %" PRId64,
               f->damage->pos, f->damage->len, f->damage->from,
               f->damage->to < 0 ? -1 : f->damage->to - 1);
    printf(", \"lost\": %s, \"repairable\": %s, \"repaired\": %s, \"text\": ",
           f->lost ? "true" : "false", f->repairable ? "true" : "false",
           f->repaired ? "true" : "false");
    out_json_text(stdout, span_str(f->text));
    printf("}\n");
}

/* What repair would do, in the words of docs/format/damage.md. */
static void would_print(const struct part_finding *f)
{
    const struct seg_damage *d = f->damage;
    if (!f->repairable)
        printf(" -> would be left as it is");
    else if (d == NULL)
        printf(" -> would be put aside and made anew");
    else if (d->kind == DAMAGE_ZERO_TAIL)
        printf(" -> would be cut off");
    else if (damage_is_lost(d->kind))
        printf(" -> would be kept in %s.%" PRIu64
               ".quarantine; readers get CORRUPT_MESSAGE for these offsets, and what lies behind "
               "them",
               f->file, d->pos);
    else
        printf(" -> would be put right: %" PRId64 " instead of %" PRId64, d->want, d->is);
}

static void finding_text(const struct verify *v, const char *path, const char *topic,
                         int32_t partition, const struct part_finding *f)
{
    if (topic != NULL)
        printf("%s-%" PRId32 ": ", topic, partition);
    printf("%s: %s: %s", f->kind, path, f->text);
    if (f->damage != NULL && f->damage->to > f->damage->from)
        printf("; offsets %" PRId64 " to %" PRId64, f->damage->from, f->damage->to - 1);
    else if (f->damage != NULL)
        printf("; offsets from %" PRId64 " on", f->damage->from);
    if (f->damage != NULL)
        printf(", %" PRIu64 " bytes at position %" PRIu64, f->damage->len, f->damage->pos);
    if (v->dry_run)
        would_print(f);
    else if (!v->repair)
        printf(" (%s)", f->repairable ? "repair can put it right" : "repair leaves it");
    else if (!f->repaired)
        printf(" (left as it is)");
    printf("\n");
}

static void finding(struct verify *v, const char *path, const char *topic, int32_t partition,
                    const struct part_finding *f)
{
    pthread_mutex_lock(&v->lock);
    v->lost += f->lost;
    if (v->json)
        finding_json(path, topic, partition, f);
    else
        finding_text(v, path, topic, partition, f);
    pthread_mutex_unlock(&v->lock);
}

/* -------------------------------------------------------------------------------- one partition */

struct ctx {
    struct verify *v;
    struct target *t;
};
static void on_finding(void *arg, const struct part_finding *f)
{
    struct ctx *c = arg;
    char path[STORE_PATH_MAX * 2];
    (void)snprintf(path, sizeof(path), f->file[0] ? "%s/%s" : "%s", c->t->dir, f->file);
    finding(c->v, path, c->t->topic, c->t->partition, f);
}

static void topic_opts(const struct target *t, struct part_audit_opts *o)
{
    const struct meta_topic *m =
        t->root->img ? image_topic_by_name(t->root->img, span_str(t->topic)) : NULL;
    const char *policy = m ? meta_topic_config(m, "cleanup.policy") : NULL;
    const char *interval = m ? meta_topic_config(m, "index.interval.bytes") : NULL;
    const char *bytes = m ? meta_topic_config(m, "segment.index.bytes") : NULL;
    o->topic_id = m ? &m->id : NULL;
    o->has_gaps = (policy != NULL && strstr(policy, "compact") != NULL) ||
                  strcmp(t->topic, "__consumer_offsets") == 0 ||
                  strcmp(t->topic, "__transaction_state") == 0;
    o->index_interval_bytes = interval ? (uint32_t)strtoul(interval, NULL, 10) : 4096;
    o->index_bytes_max = bytes ? (uint32_t)strtoul(bytes, NULL, 10) : 10u << 20;
}

static int target_do(struct verify *v, struct target *t, struct codec_ctx *codecs, uint8_t *scratch)
{
    static const struct uuid metadata_id = {{[15] = 1}};
    struct part_audit_report rep = {0};
    struct ctx c = {v, t};
    struct part_audit_opts o = {
        .io = &v->io,
        .dir = t->dir,
        .is_metadata = strcmp(t->name, FN_CLUSTER_METADATA) == 0,
        .deep = v->deep,
        .codecs = codecs,
        .scratch = scratch,
        .scratch_cap = v->deep ? SCRATCH_BYTES : 0,
        .recovery_point = checkpoint_find(t->root->recovery, t->topic, t->partition),
        .high_watermark = checkpoint_find(t->root->high, t->topic, t->partition),
        .log_start = checkpoint_find(t->root->start, t->topic, t->partition),
        .was_clean = t->root->was_clean,
        .repair = v->repair,
        .on_finding = on_finding,
        .arg = &c};
    topic_opts(t, &o);
    if (o.is_metadata) {
        o.topic_id = &metadata_id;
        o.was_clean = false; /* its end is in no checkpoint */
    }
    int rc = part_audit(&o, &rep);
    pthread_mutex_lock(&v->lock);
    v->total.segments += rep.segments;
    v->total.files += rep.files;
    v->total.batches += rep.batches;
    v->total.records += rep.records;
    v->total.bytes += rep.bytes;
    v->total.findings += rep.findings;
    v->total.lost_batches += rep.lost_batches;
    v->total.repaired += rep.repaired;
    if (rc < 0) {
        fprintf(stderr, "sluicectl: %s: %s\n", t->dir, err_text(rc));
        v->failed = rc;
    }
    pthread_mutex_unlock(&v->lock);
    return rc;
}

static void *worker(void *arg)
{
    struct verify *v = arg;
    struct codec_ctx *codecs = NULL;
    uint8_t *scratch = v->deep ? malloc(SCRATCH_BYTES) : NULL;
    int rc = codec_ctx_create(&codecs);
    if (rc == 0 && v->deep && scratch == NULL)
        rc = -ENOMEM;
    for (;;) {
        pthread_mutex_lock(&v->lock);
        if (rc < 0)
            v->failed = rc;
        uint32_t i = rc < 0 ? v->cnt : v->next++;
        pthread_mutex_unlock(&v->lock);
        if (i >= v->cnt)
            break;
        rc = target_do(v, &v->t[i], codecs, scratch);
        rc = rc == -ENOMEM ? rc : 0; /* the other partitions are looked at too */
    }
    codec_ctx_destroy(codecs);
    free(scratch);
    return NULL;
}

/* ----------------------------------------------------------------------------- data directories */

struct listing {
    struct verify *v;
    struct data_root *root;
};
static int on_name(void *arg, const char *name)
{
    struct listing *l = arg;
    struct verify *v = l->v;
    struct target t = {.root = l->root};
    if (strlen(name) >= sizeof(t.name) || part_name_parse(name, t.topic, &t.partition) < 0)
        return 0;
    if (v->topic != NULL &&
        (strcmp(v->topic, t.topic) != 0 || (v->partition >= 0 && v->partition != t.partition)))
        return 0;
    int rc = path_join(t.dir, l->root->path, name);
    if (rc < 0)
        return rc;
    strcpy(t.name, name);
    if (v->cnt == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 64;
        struct target *p = realloc(v->t, v->cap * sizeof(*p));
        if (p == NULL)
            return -ENOMEM;
        v->t = p;
    }
    v->t[v->cnt++] = t;
    return 0;
}

static void root_file(struct verify *v, struct data_root *r, const char *name, const char *kind,
                      int rc, bool may_miss)
{
    char path[STORE_PATH_MAX * 2];
    v->total.files++;
    if (rc == 0 || (rc == -ENOENT && may_miss))
        return;
    (void)snprintf(path, sizeof(path), "%s/%s", r->path, name);
    struct part_finding f = {.kind = kind, .file = name, .text = err_text(rc)};
    v->total.findings++;
    finding(v, path, NULL, -1, &f);
}

/* Do the partitions found here belong to the directory that meta.properties says this is? */
static void root_id_check(struct verify *v, const struct data_root *r, uint32_t first)
{
    char path[STORE_PATH_MAX * 2], is[UUID_TEXT_LEN + 1], want[UUID_TEXT_LEN + 1], text[200];
    uint32_t known = 0, of_other = 0;
    for (uint32_t i = first; i < v->cnt; i++) {
        const struct target *t = &v->t[i];
        const struct meta_topic *m =
            r->img ? image_topic_by_name(r->img, span_str(t->topic)) : NULL;
        if (m == NULL || (uint32_t)t->partition >= m->partition_cnt)
            continue;
        const struct uuid *dir = &m->partitions[t->partition].directory;
        known++;
        of_other += !uuid_eq(dir, &r->id);
        uuid_format(dir, want);
    }
    if (known == 0 || of_other < known)
        return;
    uuid_format(&r->id, is);
    (void)snprintf(text, sizeof(text),
                   "directory.id is %s, but all partitions here belong to directory %s", is, want);
    (void)snprintf(path, sizeof(path), "%s/%s", r->path, FN_META);
    struct part_finding f = {.kind = "PROPERTIES", .file = FN_META, .text = text};
    v->total.findings++;
    finding(v, path, NULL, -1, &f);
}

static int root_open(struct verify *v, struct data_root *r, const char *path)
{
    char clean[STORE_PATH_MAX];
    struct file_stat st;
    *r = (struct data_root){.path = path};
    int rc = path_join(clean, path, FN_CLEAN);
    if (rc < 0)
        return rc;
    if (v->repair) { /* nobody else may be at it */
        char lock[STORE_PATH_MAX];
        rc = path_join(lock, path, FN_LOCK);
        if (rc == 0)
            rc = v->io.ops->lock(&v->io, lock, &r->lock);
        if (rc < 0)
            return rc;
    }
    r->was_clean = v->io.ops->stat(&v->io, clean, &st) == 0;
    r->img = topics_load(&v->io, path);
    int meta_rc = meta_file_check(&v->io, path, &r->id);
    root_file(v, r, FN_META, "PROPERTIES", meta_rc, false);
    rc = checkpoint_load(&v->io, path, FN_RECOVERY_POINT, &r->recovery);
    root_file(v, r, FN_RECOVERY_POINT, "CHECKPOINT", rc, !r->was_clean);
    bool sound = rc == 0;
    rc = checkpoint_load(&v->io, path, FN_HIGH_WATERMARK, &r->high);
    root_file(v, r, FN_HIGH_WATERMARK, "CHECKPOINT", rc, !r->was_clean);
    sound = sound && rc == 0;
    rc = checkpoint_load(&v->io, path, FN_LOG_START, &r->start);
    root_file(v, r, FN_LOG_START, "CHECKPOINT", rc, !r->was_clean);
    r->was_clean = r->was_clean && sound; /* else there is nothing to hold the logs against */
    struct listing l = {v, r};
    uint32_t first = v->cnt;
    rc = v->io.ops->list(&v->io, path, on_name, &l);
    if (rc == 0 && meta_rc == 0)
        root_id_check(v, r, first);
    return rc;
}

static void root_close(struct data_root *r)
{
    checkpoint_free(r->recovery);
    checkpoint_free(r->high);
    checkpoint_free(r->start);
    image_put(r->img);
    if (r->lock != NULL)
        file_io_real.close(r->lock);
}

static void summary(const struct verify *v, double seconds, int jobs)
{
    const struct part_audit_report *t = &v->total;
    double gb_s = seconds > 0 ? (double)t->bytes / seconds / 1e9 : 0;
    if (v->json)
        printf("{\"partitions\": %" PRIu32 ", \"segments\": %" PRIu64 ", \"batches\": %" PRIu64
               ", \"records\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"lost_batches\": %" PRIu64
               ", \"findings\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"repaired\": %" PRIu64
               ", \"seconds\": %.3f, \"gb_per_second\": %.3f, \"jobs\": %d}\n",
               v->cnt, t->segments, t->batches, t->records, t->bytes, t->lost_batches, t->findings,
               v->lost, t->repaired, seconds, gb_s, jobs);
    else
        printf("partitions %" PRIu32 ", segments %" PRIu64 ", batches %" PRIu64 ", records %" PRIu64
               "; %.3f GB in %.3f s, %.2f GB/s with %d job%s\n"
               "findings %" PRIu64 ", with records lost %" PRIu64 ", repaired %" PRIu64
               "; places of records lost before %" PRIu64 "\n",
               v->cnt, t->segments, t->batches, t->records, (double)t->bytes / 1e9, seconds, gb_s,
               jobs, jobs == 1 ? "" : "s", t->findings, v->lost, t->repaired, t->lost_batches);
}

static int target_parse(struct verify *v, char *text)
{
    char *colon = strrchr(text, ':'), *end;
    v->topic = text;
    v->partition = -1;
    if (colon == NULL)
        return 0;
    long n = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != 0 || n < 0 || n > INT32_MAX)
        return -EINVAL;
    *colon = 0;
    v->partition = (int32_t)n;
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: sluicectl log verify|repair [--dry-run] [--deep] [--json] [--jobs N] "
                    "[--topic T[:P]] DIR...\n");
    return LOGTOOL_USAGE;
}

int cmd_verify(int argc, char **argv)
{
    static const struct option opts[] = {
        {"deep", no_argument, NULL, 'd'},        {"json", no_argument, NULL, 'j'},
        {"dry-run", no_argument, NULL, 'r'},     {"jobs", required_argument, NULL, 'n'},
        {"topic", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    struct verify v = {.io = {.ops = &file_io_real},
                       .partition = -1,
                       .repair = strcmp(argv[0], "repair") == 0,
                       .lock = PTHREAD_MUTEX_INITIALIZER};
    struct data_root roots[CATALOG_DIRS_MAX];
    pthread_t threads[JOBS_MAX];
    int jobs = 1, opt;
    while ((opt = getopt_long(argc, argv, "", opts, NULL)) != -1) {
        if (opt == 'd')
            v.deep = true;
        else if (opt == 'j')
            v.json = true;
        else if (opt == 'r' && strcmp(argv[0], "repair") == 0) {
            v.repair = false;
            v.dry_run = true;
        } else if (opt == 'n')
            jobs = atoi(optarg);
        else if (opt != 't' || target_parse(&v, optarg) < 0)
            return usage();
    }
    int cnt = argc - optind;
    if (cnt < 1 || cnt > CATALOG_DIRS_MAX || jobs < 1 || jobs > JOBS_MAX)
        return usage();
    uint64_t from = clock_mono_ns();
    for (int i = 0; i < cnt; i++) {
        int rc = root_open(&v, &roots[i], argv[optind + i]);
        if (rc < 0) {
            fprintf(stderr, "sluicectl: %s: %s\n", argv[optind + i], err_text(rc));
            return LOGTOOL_FAILED; /* the process ends: nothing is freed */
        }
    }
    if (v.topic != NULL && v.cnt == 0) {
        fprintf(stderr, "sluicectl: no partition of %s here\n", v.topic);
        return LOGTOOL_FAILED;
    }
    int started = 0;
    while (started < jobs && (uint32_t)started < v.cnt &&
           pthread_create(&threads[started], NULL, worker, &v) == 0)
        started++;
    if (started == 0)
        (void)worker(&v);
    for (int i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL); /* our own: cannot fail */
    summary(&v, (double)(clock_mono_ns() - from) / 1e9, jobs);
    for (int i = 0; i < cnt; i++)
        root_close(&roots[i]);
    free(v.t);
    if (v.failed < 0)
        return LOGTOOL_FAILED;
    return v.total.findings > (v.repair ? v.total.repaired : 0) ? LOGTOOL_DAMAGE : LOGTOOL_OK;
}
