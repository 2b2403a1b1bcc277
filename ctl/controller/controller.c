/* controller.c - see controller.h.
 *
 * A change is prepared in memory first (records, then the next image from them), appended second
 * and installed third, so that a refused or failed append leaves everything as it was. Invariant:
 * image->offset < meta_log_next_offset; what lies between are Kafka's control records. */
#include "ctl/controller/controller_int.h"
#include "ctl/controller/meta_dir.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int controller_commit(struct controller *c, struct change *ch, int64_t *ret_offset)
{
    struct meta_image *next;
    int64_t last;
    if (ch->b.rc != 0)
        return ch->b.rc;
    ASSERT(ch->b.cnt > 0);
    int64_t expect = meta_log_next_offset(c->log) + ch->b.cnt - 1;
    int rc = image_apply(c->img, ch->b.v, ch->b.cnt, expect, &next);
    if (rc < 0) {
        LOG_ERROR("proposed metadata does not apply: %s", err_text(rc));
        return rc;
    }
    rc = meta_log_append(c->log, ch->b.v, ch->b.cnt, clock_wall_ms(), &last);
    if (rc < 0) {
        image_put(next);
        return rc;
    }
    ASSERT(last == expect);
    image_put(c->img);
    c->img = next;
    *ret_offset = last;
    c->publish(c->publish_arg, ch->b.v, ch->b.cnt, last);
    return 0;
}

int controller_producer_ids(struct controller *c, int64_t *ret_first, int32_t *ret_cnt)
{
    struct change ch;
    int64_t offset, first = c->img->next_producer_id < 0 ? 0 : c->img->next_producer_id;
    change_init(&ch, c);
    meta_put_producer_ids(&ch.b, c->id.node_id, c->broker_epoch, first + PRODUCER_ID_BLOCK);
    int rc = controller_commit(c, &ch, &offset);
    change_fini(&ch);
    if (rc < 0)
        return rc;
    *ret_first = first;
    *ret_cnt = PRODUCER_ID_BLOCK;
    return 0;
}

void controller_lost(struct controller *c)
{
    c->applied = -1;
}

/* ---- life ---- */

/* The registration in force, so that a dataplane that outlived sluiced keeps its broker epoch. */
static void note_registration(struct controller *c, struct span frame)
{
    struct meta_record rec;
    struct wire_reader r;
    struct arena a;
    struct register_broker_record m;
    if (meta_record_parse(frame, &rec) < 0 || rec.type != META_REGISTER_BROKER)
        return;
    wire_reader_init(&r, rec.body);
    arena_init(&a, 1 << 20);
    if (register_broker_record_read(&r, rec.version, &a, &m) == 0) {
        c->incarnation = m.incarnation_id;
        c->broker_epoch = m.broker_epoch;
    }
    arena_fini(&a);
}
/* A replay under way. A change that Kafka made in several batches, between BeginTransaction and
 * EndTransaction, waits in `open` until all of it is there. */
struct replay {
    struct controller *c;
    struct meta_batch open;
    uint32_t kept[META_TYPE_CNT]; /* records that stay in the log and have no effect */
};
static int replay_records(struct replay *r, const struct span *records, uint32_t cnt,
                          int64_t last_offset)
{
    struct controller *c = r->c;
    struct meta_image *next;
    struct meta_record rec;
    int rc = image_apply(c->img, records, cnt, last_offset, &next);
    if (rc < 0)
        return rc;
    image_put(c->img);
    c->img = next;
    for (uint32_t i = 0; i < cnt; i++) {
        note_registration(c, records[i]);
        if (meta_record_parse(records[i], &rec) == 0 && meta_type_is_kept(rec.type))
            r->kept[rec.type]++;
    }
    return 0;
}
static int replay_batch(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    struct replay *r = arg;
    int rc = -EAGAIN;
    if (r->open.cnt == 0)
        rc = replay_records(r, records, cnt, last_offset);
    if (rc != -EAGAIN)
        return rc;
    bool was_open = r->open.cnt > 0;
    for (uint32_t i = 0; i < cnt; i++)
        meta_put_frame(&r->open, records[i]);
    if (r->open.rc < 0 || !was_open)
        return r->open.rc;
    rc = replay_records(r, r->open.v, r->open.cnt, last_offset);
    if (rc == -EAGAIN)
        return 0;
    meta_batch_reset(&r->open);
    return rc;
}
/* What the log begins and never ends did not happen: a controller that takes over says so. */
static int open_end(struct controller *c, const struct replay *r)
{
    struct abort_transaction_record m;
    struct meta_batch b;
    int64_t last;
    if (r->open.cnt == 0)
        return 0;
    abort_transaction_record_init(&m);
    m.reason = span_str("the controller ended before the transaction did");
    meta_batch_init(&b);
    meta_put_abort_transaction_record(&b, &m);
    int rc = b.rc < 0 ? b.rc : meta_log_append(c->log, b.v, b.cnt, clock_wall_ms(), &last);
    meta_batch_fini(&b);
    return rc;
}
static void kept_tell(const struct replay *r)
{
    static const struct {
        enum meta_type type;
        const char *what;
    } kinds[] = {{META_ACCESS_CONTROL_ENTRY, "access control entries"},
                 {META_USER_SCRAM_CREDENTIAL, "SCRAM credentials"},
                 {META_DELEGATION_TOKEN, "delegation tokens"}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (r->kept[kinds[i].type] > 0)
            LOG_WARN("the metadata log has %u %s of Apache Kafka: they are kept, and not enforced "
                     "here",
                     r->kept[kinds[i].type], kinds[i].what);
}
/* Is what the log describes a cluster of this node alone, at a level that we write? */
static int alone_check(const struct controller *c, char *err, size_t err_cap)
{
    struct meta_log_writer w = meta_log_writer(c->log);
    if (w.voter_cnt > 1 || (w.leader_id >= 0 && w.leader_id != c->id.node_id)) {
        snprintf(err, err_cap,
                 "the metadata of %s was led by controller %d of %u: this is node %d, and only the "
                 "directory of a node that was the one broker and the one controller can be used; "
                 "no record was changed",
                 c->conf->data_dirs[0], w.leader_id, w.voter_cnt, c->id.node_id);
        return -E_FOREIGN_DIR;
    }
    int16_t level = image_feature(c->img, "metadata.version");
    if (level != 0 && (level < META_VERSION_MIN || level > META_VERSION_MAX)) {
        snprintf(err, err_cap,
                 "metadata.version is at level %d: this build goes on with %d (4.0-IV3) to %d "
                 "(4.3-IV0)%s; no record was changed",
                 level, META_VERSION_MIN, META_VERSION_MAX,
                 level < META_VERSION_MIN ? ": raise it with Kafka's kafka-features first" : "");
        return -E_FOREIGN_DIR;
    }
    for (uint32_t i = 0; i < c->img->topic_cnt; i++) {
        const struct meta_topic *t = c->img->by_name[i];
        const char *remote = meta_topic_config(t, "remote.storage.enable");
        if (remote != NULL && strcasecmp(remote, "true") == 0) {
            snprintf(err, err_cap,
                     "topic %s has remote.storage.enable=true: what Kafka moved to remote storage "
                     "cannot be served from here; no record was changed",
                     t->name);
            return -E_FOREIGN_DIR;
        }
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            if (!t->partitions[p].is_elsewhere)
                continue;
            snprintf(err, err_cap,
                     "partition %s-%u has replicas on other nodes than %d: move them with Kafka's "
                     "kafka-reassign-partitions first, each partition to this node alone; no "
                     "record was changed",
                     t->name, p, c->id.node_id);
            return -E_FOREIGN_DIR;
        }
    }
    return 0;
}
/* The first directory is the one whose metadata log counts. */
static int place_check(const struct controller *c, char *err, size_t err_cap)
{
    char path[CONF_PATH_MAX + 32];
    for (uint32_t i = 1; i < c->conf->data_dir_cnt; i++) {
        snprintf(path, sizeof(path), "%s/" META_LOG_DIR, c->conf->data_dirs[i]);
        if (access(path, F_OK) < 0)
            continue;
        snprintf(err, err_cap,
                 "%s is there, but the metadata log belongs in the first directory, %s: swap the "
                 "two, or move it there; no record was changed",
                 path, c->conf->data_dirs[0]);
        return -E_FOREIGN_DIR;
    }
    return 0;
}
/* Formatted by kafka-storage and never started: what was asked for there waits in a file. */
static int bootstrap_check(const struct controller *c, const char *dir, char *err, size_t err_cap)
{
    char path[CONF_PATH_MAX + 32];
    struct meta_dir d;
    snprintf(path, sizeof(path), "%s/bootstrap.checkpoint", c->conf->data_dirs[0]);
    if (access(path, F_OK) < 0)
        return 0;
    int rc = meta_dir_scan(dir, &d);
    bool ran = rc == 0 && d.segment_cnt > 0;
    meta_dir_fini(&d);
    if (ran)
        return 0;
    snprintf(
        err, err_cap,
        "%s: this directory was formatted for Apache Kafka, which never ran on it: start Kafka "
        "once, or begin with an empty directory; no record was changed",
        path);
    return -E_FOREIGN_DIR;
}
int controller_open(const struct controller_opts *opts, struct controller **ret_c, char *err,
                    size_t err_cap)
{
    char dir[CONF_PATH_MAX + 32];
    struct controller *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    c->conf = opts->conf;
    c->id = *opts->identity;
    c->publish = opts->publish;
    c->publish_arg = opts->publish_arg;
    c->applied = -1;
    c->broker_epoch = -1;
    int rc = image_create_empty(&c->img);
    if (rc < 0) {
        snprintf(err, err_cap, "out of memory");
        goto undo;
    }
    c->img->cluster_id = c->id.cluster_id;
    c->img->node_id = c->id.node_id;
    snprintf(dir, sizeof(dir), "%s/" META_LOG_DIR, opts->conf->data_dirs[0]);
    struct meta_log_opts lo = {.dir = dir, .node_id = c->id.node_id, .directory = c->id.dir_id[0]};
    struct replay replay = {.c = c};
    meta_batch_init(&replay.open);
    rc = place_check(c, err, err_cap);
    if (rc == 0)
        rc = bootstrap_check(c, dir, err, err_cap);
    if (rc == 0)
        rc = meta_log_open(&lo, replay_batch, &replay, &c->log, err, err_cap);
    if (rc == 0)
        rc = alone_check(c, err, err_cap);
    if (rc == 0 && (rc = open_end(c, &replay)) < 0)
        snprintf(err, err_cap, "%s: %s", dir, err_text(rc));
    kept_tell(&replay);
    meta_batch_fini(&replay.open);
    if (rc < 0)
        goto undo;
    *ret_c = c;
    return 0;
undo:
    controller_close(c);
    return rc;
}
void controller_close(struct controller *c)
{
    if (c == NULL)
        return;
    admin_requests_end(c, "sluiced is stopping");
    meta_log_close(c->log);
    image_put(c->img);
    free(c);
}
int64_t controller_applied(const struct controller *c)
{
    return c->applied;
}
struct meta_image *controller_image(struct controller *c)
{
    return c->img;
}
int64_t controller_last_offset(const struct controller *c)
{
    return meta_log_next_offset(c->log) - 1;
}
uint64_t controller_log_bytes(const struct controller *c)
{
    return meta_log_size(c->log);
}
uint32_t controller_pending(const struct controller *c)
{
    return c->waiting_cnt;
}
bool controller_dir_is_open(const struct controller *c, uint32_t i)
{
    return c->dir_is_open[i];
}
