/* topics.c - the topics of a data directory, from its metadata log: their ids and configuration. */
#include "accel/codec.h"
#include "dataplane/logtool/logtool.h"
#include "dataplane/store/seg_audit.h"
#include "lib/batch/layout.h"
#include "lib/meta/records.h"
#include <stdlib.h>
#include <string.h>

struct load {
    struct file_io *io;
    const char *part; /* path of __cluster_metadata-0 */
    struct meta_image *img;
    struct codec_ctx *codecs;
    struct meta_batch open; /* a snapshot, or a change that its log tells in several batches */
    int64_t from;           /* the first offset that no snapshot has told */
    bool is_snapshot;
    bool is_over; /* what follows cannot be understood without what is damaged */
};

static int frames_apply(struct load *l, int64_t last_offset)
{
    struct meta_image *next;
    int rc = l->open.rc;
    if (rc == 0 && l->open.cnt > 0)
        rc = image_apply(l->img, l->open.v, l->open.cnt, last_offset, &next);
    if (rc == 0 && l->open.cnt > 0) {
        image_put(l->img);
        l->img = next;
    }
    if (rc != -EAGAIN)
        meta_batch_reset(&l->open);
    return rc;
}

static int records_add(struct load *l, const uint8_t *bytes, const struct batch_info *b)
{
    struct record_iter it;
    struct record_view v;
    int rc = record_iter_init(&it, l->codecs, span_of(bytes, b->total_len), NULL, 0);
    while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1)
        if (v.value.p != NULL)
            meta_put_frame(&l->open, v.value);
    return rc < 0 ? rc : l->open.rc;
}

static int on_batch(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes)
{
    struct load *l = arg;
    int64_t last = b->base_offset + b->last_offset_delta;
    (void)pos;
    if (l->is_over || (b->attributes & BATCH_ATTR_CONTROL) || (!l->is_snapshot && last < l->from))
        return 0;
    int rc = records_add(l, bytes, b);
    if (rc == 0 && !l->is_snapshot)
        rc = frames_apply(l, last);
    l->is_over = rc < 0 && rc != -EAGAIN;
    return 0;
}

static int on_damage(void *arg, const struct seg_damage *d)
{
    struct load *l = arg;
    l->is_over = l->is_over || damage_is_lost(d->kind);
    return 0;
}

static int file_walk(struct load *l, const char *name, int64_t base)
{
    char path[STORE_PATH_MAX];
    struct seg_audit a = {0};
    struct seg_audit_opts o = {.io = l->io,
                               .path = path,
                               .base = base,
                               .end = -1,
                               .on_batch = on_batch,
                               .on_damage = on_damage,
                               .arg = l};
    int rc = path_join(path, l->part, name);
    if (rc < 0)
        return rc;
    rc = seg_audit_init(&a, &o);
    if (rc == 0)
        rc = seg_audit_step(&a, UINT64_MAX);
    seg_audit_fini(&a);
    return rc;
}

/* Names of the directory that begin with a number of 20 digits; the list keeps them sorted, which
 * for such names is by number. */
struct names {
    char (*v)[STORE_NAME_MAX];
    uint32_t cnt, cap;
};
static int name_add(void *arg, const char *name)
{
    struct names *x = arg;
    if (strspn(name, "0123456789") != 20 || strlen(name) >= STORE_NAME_MAX)
        return 0;
    if (x->cnt == x->cap) {
        uint32_t cap = x->cap == 0 ? 16 : x->cap * 2;
        void *v = realloc(x->v, cap * sizeof(*x->v));
        if (v == NULL)
            return -ENOMEM;
        x->v = v;
        x->cap = cap;
    }
    strcpy(x->v[x->cnt++], name);
    return 0;
}
static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}
static bool name_ends(const char *name, const char *suffix)
{
    size_t len = strlen(name), n = strlen(suffix);
    return len > n && strcmp(name + len - n, suffix) == 0;
}

/* The newest snapshot that is whole stands for what came before it. */
static int snapshot_load(struct load *l, const struct names *names)
{
    l->is_snapshot = true;
    for (uint32_t i = names->cnt; i-- > 0;) {
        const char *name = names->v[i];
        if (!name_ends(name, ".checkpoint"))
            continue;
        meta_batch_reset(&l->open);
        l->is_over = false;
        int64_t end = strtoll(name, NULL, 10);
        int rc = file_walk(l, name, 0);
        if (rc == 0 && !l->is_over)
            rc = frames_apply(l, end - 1);
        if (rc == -ENOMEM)
            return rc;
        if (rc == 0 && !l->is_over) {
            l->from = end;
            break;
        }
    }
    meta_batch_reset(&l->open);
    l->is_snapshot = l->is_over = false;
    return 0;
}

static int segments_load(struct load *l, const struct names *names)
{
    int64_t base = -1;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < names->cnt; i++) {
        if (!name_ends(names->v[i], SFX_LOG))
            continue;
        bool is_first = base < 0;
        base = strtoll(names->v[i], NULL, 10);
        l->is_over = l->is_over || (is_first && base > l->from);
        rc = file_walk(l, names->v[i], base);
    }
    return rc == 0 && base < 0 ? -ENOENT : rc;
}

struct meta_image *topics_load(struct file_io *io, const char *dir)
{
    char part[STORE_PATH_MAX];
    struct load l = {.io = io, .part = part};
    struct names names = {0};
    meta_batch_init(&l.open);
    int rc = path_join(part, dir, FN_CLUSTER_METADATA);
    if (rc == 0)
        rc = io->ops->list(io, part, name_add, &names);
    if (rc == 0)
        rc = image_create_empty(&l.img);
    if (rc == 0)
        rc = codec_ctx_create(&l.codecs);
    if (names.cnt > 0)
        qsort(names.v, names.cnt, sizeof(*names.v), by_name);
    if (rc == 0)
        rc = snapshot_load(&l, &names);
    if (rc == 0)
        rc = segments_load(&l, &names);
    free(names.v);
    codec_ctx_destroy(l.codecs);
    meta_batch_fini(&l.open);
    if (rc < 0) {
        image_put(l.img);
        return NULL;
    }
    return l.img;
}
