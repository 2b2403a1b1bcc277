/* topics.c - the topics of a data directory, from its metadata log: their ids and configuration. */
#include "accel/codec.h"
#include "dataplane/logtool/logtool.h"
#include "dataplane/store/seg_audit.h"
#include "lib/batch/layout.h"
#include <stdlib.h>

struct load {
    struct meta_image *img;
    struct codec_ctx *codecs;
    bool is_over; /* what follows cannot be understood without what is damaged */
};

static int records_apply(struct load *l, const uint8_t *bytes, const struct batch_info *b)
{
    struct record_iter it;
    struct record_view v;
    struct meta_image *next;
    if (b->record_cnt <= 0)
        return 0;
    struct span *spans = calloc((size_t)b->record_cnt, sizeof(*spans));
    if (spans == NULL)
        return -ENOMEM;
    uint32_t cnt = 0;
    int rc = record_iter_init(&it, l->codecs, span_of(bytes, b->total_len), NULL, 0);
    while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1)
        if (cnt < (uint32_t)b->record_cnt)
            spans[cnt++] = v.value;
    if (rc == 0 && cnt > 0)
        rc = image_apply(l->img, spans, cnt, b->base_offset + b->last_offset_delta, &next);
    if (rc == 0 && cnt > 0) {
        image_put(l->img);
        l->img = next;
    }
    free(spans);
    return rc;
}

static int on_batch(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes)
{
    struct load *l = arg;
    (void)pos;
    if (!l->is_over && !(b->attributes & BATCH_ATTR_CONTROL))
        l->is_over = records_apply(l, bytes, b) < 0;
    return 0;
}

static int on_damage(void *arg, const struct seg_damage *d)
{
    struct load *l = arg;
    l->is_over = l->is_over || damage_is_lost(d->kind);
    return 0;
}

struct meta_image *topics_load(struct file_io *io, const char *dir)
{
    char part[STORE_PATH_MAX], path[STORE_PATH_MAX];
    struct load l = {0};
    struct seg_audit a = {0};
    int rc = path_join(part, dir, FN_CLUSTER_METADATA);
    if (rc == 0)
        rc = path_seg(path, part, 0, SFX_LOG);
    if (rc == 0)
        rc = image_create_empty(&l.img);
    if (rc == 0)
        rc = codec_ctx_create(&l.codecs);
    struct seg_audit_opts o = {
        .io = io, .path = path, .end = -1, .on_batch = on_batch, .on_damage = on_damage, .arg = &l};
    if (rc == 0) {
        rc = seg_audit_init(&a, &o);
        if (rc == 0)
            rc = seg_audit_step(&a, UINT64_MAX);
        seg_audit_fini(&a);
    }
    codec_ctx_destroy(l.codecs);
    if (rc < 0) {
        image_put(l.img);
        return NULL;
    }
    return l.img;
}
