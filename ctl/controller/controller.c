/* controller.c - see controller.h.
 *
 * A change is prepared in memory first (records, then the next image from them), appended second
 * and installed third, so that a refused or failed append leaves everything as it was. Invariant:
 * image->offset + 1 == meta_log_next_offset, except before the first record. */
#include "ctl/controller/controller_int.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include <stdio.h>
#include <stdlib.h>

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
static int replay_batch(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    struct controller *c = arg;
    struct meta_image *next;
    int rc = image_apply(c->img, records, cnt, last_offset, &next);
    if (rc < 0)
        return rc;
    image_put(c->img);
    c->img = next;
    for (uint32_t i = 0; i < cnt; i++)
        note_registration(c, records[i]);
    return 0;
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
    rc = meta_log_open(&lo, replay_batch, c, &c->log, err, err_cap);
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
const struct identity *controller_identity(const struct controller *c)
{
    return &c->id;
}
int64_t controller_broker_epoch(const struct controller *c)
{
    return c->broker_epoch;
}
