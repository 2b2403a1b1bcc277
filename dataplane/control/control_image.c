/* control_image.c - a batch of metadata becomes the next image: partitions are made, shards told,
 * directories of deleted topics removed, and sluiced gets its METADATA_APPLIED. */
#include "dataplane/control/control_int.h"
#include "dataplane/store/format.h"
#include "dataplane/store/part_many.h"
#include "lib/meta/config_keys.h"
#include <inttypes.h>
#include <stdio.h>

#define RETRY_MISSING_NS UINT64_C(5000000000)
#define MISSING_TOLD_MAX 100 /* named to sluiced; the rest is a number */

/* ---- metadata ---- */

int control_part_cmp(const void *a, const void *b)
{
    const struct part *x = *(struct part *const *)a, *y = *(struct part *const *)b;
    int d = memcmp(x->topic_id.b, y->topic_id.b, 16);
    return d != 0 ? d : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Take a found partition out; NULL when recovery found none. */
static struct part *found_take(struct control *c, const struct uuid *id, int32_t partition)
{
    uint32_t lo = 0, hi = c->found_cnt;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct part *p = c->found[mid];
        int d = memcmp(p->topic_id.b, id->b, 16);
        if (d < 0 || (d == 0 && p->partition < partition))
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == c->found_cnt || !uuid_eq(&c->found[lo]->topic_id, id) ||
        c->found[lo]->partition != partition)
        return NULL;
    struct part *p = c->found[lo];
    memmove(&c->found[lo], &c->found[lo + 1], (c->found_cnt - lo - 1) * sizeof(*c->found));
    c->found_cnt--;
    return p;
}

struct changes {
    uint32_t cnt, cap;
    struct apply_change *v;
};
struct apply { /* one batch on its way to the shards */
    struct control *c;
    struct changes before[SHARD_MAX], after[SHARD_MAX]; /* by shard: of the image */
    struct apply_msg msgs[SHARD_MAX];
    struct image_msg images[SHARD_MAX];
    struct plog_conf *confs; /* one per topic of the new image that changed */
    uint32_t conf_cnt;
    struct part_make *makes; /* partitions to be made on disk, and below what they are for */
    struct make_for {
        const struct meta_topic *topic;
        const struct plog_conf *conf;
        uint8_t owner;
    } * make_for;
    uint32_t make_cnt, make_cap;
    struct ctl_metadata_applied reply;
    struct arena arena; /* of the reply's topics */
    uint32_t error_cap;
};

static struct apply *apply_create(struct control *c)
{
    struct apply *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return NULL;
    a->c = c;
    arena_init(&a->arena, 64u << 20);
    ctl_metadata_applied_init(&a->reply);
    a->error_cap = 1000;
    a->reply.topics.v = arena_array(&a->arena, a->error_cap, sizeof(*a->reply.topics.v));
    if (a->reply.topics.v == NULL)
        a->error_cap = 0;
    return a;
}

static void apply_destroy(struct apply *a)
{
    for (uint16_t i = 0; i < a->c->opts.shard_cnt; i++) {
        free(a->before[i].v);
        free(a->after[i].v);
    }
    free(a->confs);
    free(a->makes);
    free(a->make_for);
    arena_fini(&a->arena);
    free(a);
}

static int change_add(struct apply *a, uint16_t shard, const struct apply_change *ch)
{
    struct changes *list = ch->kind == APPLY_ADD ? &a->before[shard] : &a->after[shard];
    if (list->cnt == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 16;
        struct apply_change *v = realloc(list->v, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        list->v = v;
        list->cap = cap;
    }
    list->v[list->cnt++] = *ch;
    return 0;
}

/* Remember that a topic's directory work failed; sluiced tells whoever asked. */
static void topic_failed(struct apply *a, const struct meta_topic *t, int rc, const char *what)
{
    LOG_ERROR("topic %s: %s: %s", t->name, what, err_text(rc));
    if (a->reply.topics.cnt == a->error_cap)
        return;
    struct ctl_metadata_applied_topic_error *e = &a->reply.topics.v[a->reply.topics.cnt++];
    ctl_metadata_applied_topic_error_init(e);
    e->topic_id = t->id;
    e->error_code = (int16_t)err_kafka_code(rc);
    e->error_message = span_str(err_text(rc));
}

/* Ids below 100 name no directory (Kafka: unassigned, lost, migrating). */
static bool is_assigned(const struct uuid *dir)
{
    static const uint8_t zero[15];
    return memcmp(dir->b, zero, sizeof(zero)) != 0 || dir->b[15] >= 100;
}

/* Where a partition is or is to be made; -1: its directory is missing, and it with it. */
static int dir_of(const struct control *c, const struct meta_partition *p)
{
    return is_assigned(&p->directory) ? catalog_dir_by_id(c->opts.catalog, &p->directory) : 0;
}

/* Shards that may own it: those of its disk's node, any while that is missing. */
static uint64_t shards_of(const struct control *c, const struct meta_partition *p)
{
    int dir = dir_of(c, p);
    uint64_t all = 0;
    for (uint32_t i = 0; i < c->opts.catalog->dir_cnt; i++)
        all |= c->opts.dir_shards[i];
    return dir >= 0 ? c->opts.dir_shards[dir] : all;
}

static int part_add(struct apply *a, uint16_t owner, const struct meta_topic *t, struct part *part,
                    int32_t partition, const struct plog_conf *conf)
{
    struct apply_change ch = {.kind = APPLY_ADD,
                              .topic_id = t->id,
                              .partition = partition,
                              .leader_epoch = t->partitions[partition].leader_epoch,
                              .part = part,
                              .conf = conf};
    int rc = change_add(a, owner, &ch);
    if (rc < 0)
        part_destroy(part);
    return rc;
}

static int make_add(struct apply *a, const struct part_create_opts *o, const struct make_for *f)
{
    if (a->make_cnt == a->make_cap) {
        uint32_t cap = a->make_cap ? a->make_cap * 2 : 16;
        struct part_make *m = realloc(a->makes, cap * sizeof(*m));
        if (m == NULL)
            return -ENOMEM;
        a->makes = m;
        struct make_for *mf = realloc(a->make_for, cap * sizeof(*mf));
        if (mf == NULL)
            return -ENOMEM;
        a->make_for = mf;
        a->make_cap = cap;
    }
    a->makes[a->make_cnt] = (struct part_make){.o = *o};
    a->make_for[a->make_cnt++] = *f;
    return 0;
}

static void missing_add(struct control *c, const struct missing_part *m)
{
    if (c->missing_cnt == c->missing_cap) {
        uint32_t cap = c->missing_cap ? c->missing_cap * 2 : 16;
        struct missing_part *v = realloc(c->missing, cap * sizeof(*v));
        if (v == NULL)
            return; /* a restart tries it again */
        c->missing = v;
        c->missing_cap = cap;
    }
    c->missing[c->missing_cnt++] = *m;
    c->missing_ns = clock_mono_ns() + RETRY_MISSING_NS;
}

/* Partitions [from, cnt) of a topic: found on disk, or to be made. */
static int topic_add(struct apply *a, const struct meta_topic *t, uint32_t from,
                     const uint8_t *owners, const struct plog_conf *conf)
{
    struct control *c = a->c;
    int rc = 0;
    for (uint32_t p = from; rc == 0 && p < t->partition_cnt; p++) {
        struct part *part = found_take(c, &t->id, (int32_t)p);
        if (part != NULL) {
            rc = part_add(a, owners[p], t, part, (int32_t)p, conf);
            continue;
        }
        int dir = dir_of(c, &t->partitions[p]);
        if (dir < 0) {
            missing_add(c, &(struct missing_part){t->id, (int32_t)p, -1, -ENODEV, NULL});
            continue;
        }
        const char *why = catalog_part_why_offline(c->opts.catalog, t->name, (int32_t)p);
        if (why != NULL) {
            missing_add(c, &(struct missing_part){t->id, (int32_t)p, -1, -E_STORAGE, why});
            continue;
        }
        struct part_create_opts o = {.dir_idx = (uint32_t)dir,
                                     .topic = t->name,
                                     .topic_id = t->id,
                                     .partition = (int32_t)p,
                                     .leader_epoch = t->partitions[p].leader_epoch};
        rc = make_add(a, &o, &(struct make_for){t, conf, owners[p]});
    }
    return rc;
}

/* Make what is missing on disk, all of it at once. */
static int make_parts(struct apply *a)
{
    int rc = 0;
    part_make_many(a->c->opts.catalog, a->makes, a->make_cnt);
    for (uint32_t i = 0; i < a->make_cnt; i++) {
        const struct make_for *f = &a->make_for[i];
        struct part_make *m = &a->makes[i];
        if (m->rc < 0) {
            topic_failed(a, f->topic, m->rc, "cannot create a partition directory");
            missing_add(a->c, &(struct missing_part){f->topic->id, m->o.partition,
                                                     (int)m->o.dir_idx, m->rc, NULL});
        } else if (rc == 0)
            rc = part_add(a, f->owner, f->topic, m->part, m->o.partition, f->conf);
        else
            part_destroy(m->part);
    }
    return rc;
}

/* Partitions that both images have: new configuration, new leader epochs. */
static int topic_update(struct apply *a, const struct meta_topic *t, uint32_t cnt,
                        const uint8_t *owners, const struct plog_conf *conf)
{
    for (uint32_t p = 0; p < cnt; p++) {
        struct apply_change ch = {.kind = APPLY_UPDATE,
                                  .topic_id = t->id,
                                  .partition = (int32_t)p,
                                  .leader_epoch = t->partitions[p].leader_epoch,
                                  .conf = conf};
        int rc = change_add(a, owners[p], &ch);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Build the owner map of `next` and the changes against the present image. */
static int apply_plan(struct apply *a, const struct meta_image *next, struct owner_map *map)
{
    struct control *c = a->c;
    uint8_t *owners = malloc(next->partition_cnt + 1);
    uint64_t *among = calloc(next->partition_cnt + 1, sizeof(*among));
    int rc = owners == NULL || among == NULL ? -ENOMEM : 0;
    bool defaults_changed = c->image != NULL && config_broker_changed(c->image, next);
    for (uint32_t i = 0; i < next->topic_cnt && rc == 0; i++) {
        const struct meta_topic *t = next->by_name[i];
        const struct meta_topic *old =
            c->image != NULL ? image_topic_by_id(c->image, &t->id) : NULL;
        for (uint32_t p = 0; p < t->partition_cnt; p++)
            among[p] = shards_of(c, &t->partitions[p]);
        rc = owners_of_topic(c->owners, &t->id, t->partition_cnt, among, owners);
        if (rc == 0)
            rc = owner_map_add(map, &t->id, owners, t->partition_cnt);
        if (rc < 0 || (t == old && !defaults_changed))
            continue; /* failed, or shared with the old image: unchanged */
        struct plog_conf *conf = &a->confs[a->conf_cnt++];
        plog_conf_of_topic(c->opts.conf, next, t, conf);
        uint32_t have = old != NULL ? old->partition_cnt : 0;
        rc = topic_update(a, t, have, owners, conf);
        if (rc == 0)
            rc = topic_add(a, t, have, owners, conf);
    }
    for (uint32_t i = 0; c->image != NULL && i < c->image->topic_cnt && rc == 0; i++) {
        const struct meta_topic *t = c->image->by_name[i];
        if (image_topic_by_id(next, &t->id) != NULL)
            continue;
        for (uint32_t p = 0; p < t->partition_cnt && rc == 0; p++) {
            uint16_t owner = owner_map_find(c->owner_map, &t->id, (int32_t)p);
            struct apply_change ch = {
                .kind = APPLY_REMOVE, .topic_id = t->id, .partition = (int32_t)p};
            if (owner != OWNER_NONE)
                rc = change_add(a, owner, &ch);
        }
    }
    free(among);
    free(owners);
    return rc < 0 ? rc : make_parts(a);
}

static int doomed_add(struct control *c, struct file_io *io, const char *path)
{
    if (c->doomed_cnt == c->doomed_cap) {
        uint32_t cap = c->doomed_cap ? c->doomed_cap * 2 : 64;
        struct doomed_dir *v = realloc(c->doomed, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        c->doomed = v;
        c->doomed_cap = cap;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    c->doomed[c->doomed_cnt++] = (struct doomed_dir){io, copy};
    return 0;
}

struct doomed_scan {
    struct control *c;
    struct data_dir *d;
};
static int doomed_name(void *arg, const char *name)
{
    struct doomed_scan *x = arg;
    char path[STORE_PATH_MAX];
    size_t n = strlen(name), k = strlen(SFX_DIR_DELETE);
    if (n < k || strcmp(name + n - k, SFX_DIR_DELETE) != 0)
        return 0;
    int rc = path_join(path, x->d->path, name);
    return rc < 0 ? rc : doomed_add(x->c, x->d->io, path);
}

void control_doomed_find(struct control *c)
{
    for (uint32_t i = 0; i < c->opts.catalog->dir_cnt; i++) {
        struct data_dir *d = &c->opts.catalog->dirs[i];
        int rc = d->io->ops->list(d->io, d->path, doomed_name, &(struct doomed_scan){c, d});
        if (rc < 0)
            LOG_WARN("%s: directories of deleted partitions stay: %s", d->path, err_text(rc));
    }
    if (c->doomed_cnt > 0)
        LOG_INFO("removing %u directories of deleted partitions", c->doomed_cnt);
}

void control_doomed_remove(struct control *c, uint32_t budget)
{
    for (; budget > 0 && c->doomed_cnt > 0; budget--) {
        struct doomed_dir *d = &c->doomed[--c->doomed_cnt];
        int rc = dir_remove(d->io, d->path);
        if (rc < 0)
            LOG_WARN("%s: the directory of a deleted partition cannot be removed: %s; the next "
                     "start tries again",
                     d->path, err_text(rc));
        free(d->path);
    }
}

/* The directories of topics that `next` no longer has: renamed and flushed before sluiced is told,
 * so that no crash brings them back; their files go later. */
static void remove_dirs(struct apply *a, const struct meta_image *next)
{
    struct control *c = a->c;
    bool touched[CATALOG_DIRS_MAX] = {false};
    for (uint32_t i = 0; c->image != NULL && i < c->image->topic_cnt; i++) {
        const struct meta_topic *t = c->image->by_name[i];
        if (image_topic_by_id(next, &t->id) != NULL)
            continue;
        owners_forget_topic(c->owners, &t->id);
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            char name[STORE_NAME_MAX + 16], path[STORE_PATH_MAX];
            int idx = dir_of(c, &t->partitions[p]);
            if (idx < 0) /* when its disk is back nobody knows it: it is set aside as a stray */
                continue;
            struct data_dir *d = &c->opts.catalog->dirs[idx];
            snprintf(name, sizeof(name), "%s-%u", t->name, p);
            int rc = catalog_part_retire(d, name, path);
            if (rc == 0) {
                touched[idx] = true;
                (void)doomed_add(c, d->io, path); /* forgotten, it goes at the next start */
            } else if (rc != -ENOENT) {
                topic_failed(a, t, rc, "cannot delete a partition directory");
            }
        }
    }
    for (uint32_t i = 0; i < c->opts.catalog->dir_cnt; i++) {
        int rc = touched[i] ? catalog_dir_sync(&c->opts.catalog->dirs[i]) : 0;
        if (rc < 0)
            LOG_ERROR("%s: %s", c->opts.catalog->dirs[i].path, err_text(rc));
    }
}

static int rename_stray(const struct part *p)
{
    char from[STORE_PATH_MAX], to[STORE_PATH_MAX], name[STORE_NAME_MAX + 40];
    char id[UUID_TEXT_LEN + 1];
    struct uuid u;
    uuid_random(&u);
    uuid_format(&u, id);
    /* Kafka's form: the topic is cut so that the name stays within 255 bytes. */
    snprintf(name, sizeof(name), "%.*s-%d.%s-stray", 255 - 40, p->topic, p->partition, id);
    int rc = path_join(from, p->dir->path, p->name);
    if (rc == 0)
        rc = path_join(to, p->dir->path, name);
    if (rc == 0)
        rc = p->dir->io->ops->rename(p->dir->io, from, to);
    return rc < 0 ? rc : catalog_dir_sync(p->dir);
}

/* Directories on disk that no topic names: kept, set aside, reported. */
static void set_strays_aside(struct control *c)
{
    for (uint32_t i = 0; i < c->found_cnt; i++) {
        struct part *p = c->found[i];
        int rc = rename_stray(p);
        LOG_WARN("%s/%s belongs to no topic of the metadata; %s", p->dir->path, p->name,
                 rc < 0 ? err_text(rc)
                        : "renamed to *-stray, delete it by hand when it is not needed");
        part_destroy(p);
    }
    c->found_cnt = 0;
}

/* Changes of every shard, some at a time: each round takes one turn of each. */
static void changes_send(struct apply *a, struct changes lists[SHARD_MAX])
{
    struct control *c = a->c;
    for (uint32_t from = 0;; from += APPLY_TURN_MAX) {
        for (uint16_t i = 0; i < c->opts.shard_cnt; i++) {
            if (lists[i].cnt <= from)
                continue;
            uint32_t left = lists[i].cnt - from;
            struct apply_msg *m = &a->msgs[i];
            *m = (struct apply_msg){.msg = {.type = MSG_PARTITIONS}, .changes = lists[i].v + from};
            m->change_cnt = left < APPLY_TURN_MAX ? left : APPLY_TURN_MAX;
            c->replies_due++;
            mbox_send(c->opts.mbox, i, &m->msg);
        }
        if (c->replies_due == 0)
            return;
        control_await_replies(c);
    }
}

static void changes_report(struct apply *a, const struct meta_image *next,
                           const struct changes lists[SHARD_MAX])
{
    for (uint16_t i = 0; i < a->c->opts.shard_cnt; i++)
        for (uint32_t k = 0; k < lists[i].cnt; k++) {
            const struct apply_change *ch = &lists[i].v[k];
            if (ch->rc == 0)
                continue;
            const struct meta_topic *t = image_topic_by_id(next, &ch->topic_id);
            if (t != NULL)
                topic_failed(a, t, ch->rc, "cannot open a partition");
            if (ch->kind == APPLY_ADD)
                part_destroy(ch->part);
        }
}

/* Give every shard its new partitions, then image and owners, then what changes and goes; they
 * serve it all when this returns. */
static void publish(struct apply *a, const struct meta_image *next, const struct owner_map *map)
{
    struct control *c = a->c;
    changes_send(a, a->before);
    for (uint16_t i = 0; i < c->opts.shard_cnt; i++) {
        a->images[i] = (struct image_msg){.msg = {.type = MSG_IMAGE}, .image = next, .owners = map};
        mbox_send(c->opts.mbox, i, &a->images[i].msg);
    }
    c->replies_due = c->opts.shard_cnt;
    control_await_replies(c);
    changes_send(a, a->after);
    changes_report(a, next, a->before);
    changes_report(a, next, a->after);
}

/* Those of topics that are gone. */
static void missing_forget(struct control *c)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->missing_cnt; i++)
        if (image_topic_by_id(c->image, &c->missing[i].topic_id) != NULL)
            c->missing[kept++] = c->missing[i];
    c->missing_cnt = kept;
}

void control_missing_tell(struct control *c)
{
    struct ctl_partitions_missing m;
    struct ctl_partitions_missing_partition rows[MISSING_TOLD_MAX];
    static char reason[MISSING_TOLD_MAX][CONF_PATH_MAX + 128]; /* one control thread */
    if (!c->greeted || (c->missing_cnt == 0 && !c->missing_told))
        return;
    ctl_partitions_missing_init(&m);
    m.total = (int32_t)c->missing_cnt;
    m.partitions.v = rows;
    for (uint32_t i = 0; i < c->missing_cnt && i < MISSING_TOLD_MAX; i++) {
        const struct missing_part *p = &c->missing[i];
        ctl_partitions_missing_partition_init(&rows[i]);
        rows[i].topic_id = p->topic_id;
        rows[i].partition = p->partition;
        if (p->why != NULL)
            snprintf(reason[i], sizeof(reason[i]), "it cannot be read: %s", p->why);
        else if (p->dir_idx < 0)
            snprintf(reason[i], sizeof(reason[i]), "its data directory is missing");
        else
            snprintf(reason[i], sizeof(reason[i]),
                     "it cannot be made (tried again every few seconds): %s, in %s",
                     err_text(p->rc), c->opts.catalog->dirs[p->dir_idx].path);
        rows[i].reason = span_str(reason[i]);
        m.partitions.cnt++;
    }
    SEND(c, CTL_PARTITIONS_MISSING, 0, ctl_partitions_missing, &m);
    c->missing_told = c->missing_cnt > 0;
}

/* Publish `next` (taken over). */
static int apply_image(struct control *c, struct meta_image *next, struct apply *a)
{
    struct owner_map *map = NULL;
    bool first = c->image == NULL;
    int rc = owner_map_create(next->topic_cnt, &map);
    a->confs = calloc(next->topic_cnt + 1, sizeof(*a->confs));
    if (rc == 0 && a->confs == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = apply_plan(a, next, map);
    if (rc < 0) {
        owner_map_destroy(map);
        image_put(next);
        return rc;
    }
    rc = owners_save(c->owners);
    if (rc < 0)
        LOG_ERROR("cannot save the owners of partitions: %s", err_text(rc));
    publish(a, next, map);
    remove_dirs(a, next);
    if (first)
        set_strays_aside(c);
    if (c->image != NULL) {
        control_note_boundaries(c, c->image, next);
        image_put(c->image);
    }
    owner_map_destroy(c->owner_map);
    c->image = next;
    c->owner_map = map;
    missing_forget(c);
    control_missing_tell(c);
    control_gaps_run(c);
    return 0;
}

void control_records_clear(struct control *c)
{
    for (uint32_t i = 0; i < c->record_cnt; i++)
        free((void *)(uintptr_t)c->records[i].p);
    c->record_cnt = 0;
    c->record_bytes = 0;
}

static int records_add(struct control *c, struct span r)
{
    if (c->record_cnt == c->record_cap) {
        uint32_t cap = c->record_cap ? c->record_cap * 2 : 256;
        struct span *v = realloc(c->records, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        c->records = v;
        c->record_cap = cap;
    }
    uint8_t *copy = malloc(r.len + 1);
    if (copy == NULL)
        return -ENOMEM;
    if (r.len > 0)
        memcpy(copy, r.p, r.len);
    c->records[c->record_cnt++] = span_of(copy, r.len);
    c->record_bytes += r.len;
    return 0;
}

int control_on_metadata_batch(struct control *c, uint64_t id, struct span body)
{
    struct arena arena;
    struct wire_reader r;
    struct ctl_metadata_batch b;
    arena_init(&arena, 64u << 20);
    wire_reader_init(&r, body);
    int rc = ctl_metadata_batch_read(&r, CTL_MESSAGE_VERSION, &arena, &b);
    for (uint32_t i = 0; rc == 0 && i < b.records.cnt; i++)
        rc = records_add(c, b.records.v[i]);
    arena_fini(&arena);
    if (rc < 0)
        return rc;
    if (b.more)
        return 0;

    struct apply *a = apply_create(c);
    struct meta_image *base = NULL, *next = NULL;
    if (a == NULL)
        return -ENOMEM;
    a->reply.offset = b.last_offset;
    if (b.is_snapshot || c->image == NULL) {
        rc = image_create_empty(&base);
        if (rc == 0) {
            base->cluster_id = c->opts.conf->cluster_id; /* no record carries it */
            base->node_id = c->opts.conf->node_id;
        }
    } else {
        base = image_get(c->image);
    }
    if (rc == 0)
        rc = image_apply(base, c->records, c->record_cnt, b.last_offset, &next);
    if (base != NULL)
        image_put(base);
    if (rc == 0)
        rc = apply_image(c, next, a);
    if (rc == 0)
        c->opts.catalog->broker_epoch = c->image->broker_epoch;
    if (rc < 0) {
        LOG_ERROR("metadata up to offset %" PRId64 " cannot be applied: %s", b.last_offset,
                  err_text(rc));
        a->reply.error_code = (int16_t)err_kafka_code(rc);
        a->reply.error_message = span_str(err_text(rc));
        a->reply.offset = c->image != NULL ? c->image->offset : -1;
    }
    SEND(c, CTL_METADATA_APPLIED, id, ctl_metadata_applied, &a->reply);
    int failed = rc; /* ends the connection: the next one starts from what we have */
    apply_destroy(a);
    control_records_clear(c);
    return failed;
}

/* A full disk has been emptied, or whatever was in the way has gone: make what could not be made.
 */
void control_retry_missing(struct control *c, uint64_t now_ns)
{
    if (c->missing_cnt == 0 || now_ns < c->missing_ns || c->image == NULL)
        return;
    uint32_t cnt = c->missing_cnt, kept = 0;
    c->missing_ns = now_ns + RETRY_MISSING_NS;
    for (uint32_t i = 0; i < cnt; i++) /* to the front: what only a restart may find */
        if (c->missing[i].dir_idx < 0) {
            struct missing_part m = c->missing[i];
            c->missing[i] = c->missing[kept];
            c->missing[kept++] = m;
        }
    struct apply *a = kept < cnt ? apply_create(c) : NULL;
    if (a == NULL)
        return;
    a->confs = calloc(cnt, sizeof(*a->confs));
    int rc = a->confs == NULL ? -ENOMEM : 0;
    for (uint32_t i = kept; rc == 0 && i < cnt; i++) {
        const struct missing_part *m = &c->missing[i];
        const struct meta_topic *t = image_topic_by_id(c->image, &m->topic_id);
        uint16_t owner = owner_map_find(c->owner_map, &m->topic_id, m->partition);
        if (t == NULL || owner == OWNER_NONE)
            continue; /* deleted meanwhile */
        struct plog_conf *conf = &a->confs[a->conf_cnt++];
        plog_conf_of_topic(c->opts.conf, c->image, t, conf);
        struct part_create_opts o = {.dir_idx = (uint32_t)m->dir_idx,
                                     .topic = t->name,
                                     .topic_id = t->id,
                                     .partition = m->partition,
                                     .leader_epoch = t->partitions[m->partition].leader_epoch};
        rc = make_add(a, &o, &(struct make_for){t, conf, (uint8_t)owner});
    }
    if (rc == 0) {
        c->missing_cnt = kept; /* those that fail again come back */
        rc = make_parts(a);
        publish(a, c->image, c->owner_map);
        LOG_INFO("%u of %u missing partitions have been made", cnt - c->missing_cnt, cnt - kept);
        control_missing_tell(c);
    }
    if (rc < 0)
        LOG_ERROR("missing partitions: %s", err_text(rc));
    apply_destroy(a);
}
