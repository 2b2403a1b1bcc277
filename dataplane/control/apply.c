/* apply.c - see apply.h. Everything here runs on a shard. */
#include "dataplane/control/apply.h"
#include "lib/base/assert.h"
#include "lib/meta/config_keys.h"
#include <stdlib.h>
#include <string.h>

static void reply_when_done(struct shard *s, struct apply_msg *m)
{
    if (m->closing == 0)
        msg_reply(s->mbox, &m->msg, 0);
}

struct closing { /* one removed partition on its way out */
    struct shard *s;
    struct apply_msg *m;
};
static void on_detached(void *arg)
{
    struct closing *cl = arg;
    struct shard *s = cl->s;
    struct apply_msg *m = cl->m;
    free(cl);
    ASSERT(m->closing > 0);
    m->closing--;
    reply_when_done(s, m);
}

static int change_apply(struct shard *s, struct apply_msg *m, struct apply_change *ch)
{
    struct plog *p = NULL;
    if (ch->kind == APPLY_ADD) {
        int rc = plog_attach(s->plogs, ch->part, ch->conf, &p);
        if (rc < 0)
            return rc;
        plog_set_leader_epoch(p, ch->leader_epoch);
        return 0;
    }
    p = plog_set_find(s->plogs, &ch->topic_id, ch->partition);
    if (p == NULL)
        return ch->kind == APPLY_REMOVE ? 0
                                        : -E_UNKNOWN_TOPIC; /* its directory could not be made */
    if (ch->kind == APPLY_UPDATE) {
        plog_set_conf(p, ch->conf);
        plog_set_leader_epoch(p, ch->leader_epoch);
        return 0;
    }
    struct closing *cl = malloc(sizeof(*cl)); /* rare: a partition is deleted */
    if (cl == NULL)
        return -ENOMEM;
    *cl = (struct closing){s, m};
    m->closing++;
    plog_detach(p, on_detached, cl);
    return 0;
}

void apply_on_image(struct shard *s, struct msg *msg)
{
    const struct image_msg *m = container_of(msg, struct image_msg, msg);
    s->image = m->image;
    s->owners = m->owners;
    msg_reply(s->mbox, msg, 0);
}

void apply_on_partitions(struct shard *s, struct msg *msg)
{
    struct apply_msg *m = container_of(msg, struct apply_msg, msg);
    ASSERT(m->change_cnt <= APPLY_TURN_MAX);
    m->closing = 1; /* ours, so that no partition's end replies before the last change */
    for (uint32_t i = 0; i < m->change_cnt; i++)
        m->changes[i].rc = change_apply(s, m, &m->changes[i]);
    m->closing--;
    reply_when_done(s, m);
}

static bool collect(void *arg, struct plog *p)
{
    struct stats_msg *m = arg;
    if (m->cnt == m->cap)
        return false;
    struct part_stats *st = &m->stats[m->cnt++];
    st->topic_id = *plog_topic_id(p);
    st->partition = plog_partition(p);
    st->rc = plog_is_writable(p) ? 0 : -E_STORAGE;
    plog_offsets_get(p, &st->offsets);
    return true;
}

void apply_on_partition_stats(struct shard *s, struct msg *msg)
{
    struct stats_msg *m = container_of(msg, struct stats_msg, msg);
    m->cnt = 0;
    plog_set_each(s->plogs, collect, m);
    msg_reply(s->mbox, msg, 0);
}

static void on_gap_appended(struct plog_append *a)
{
    struct gap_msg *g = container_of(a, struct gap_msg, a);
    msg_reply(g->owner->mbox, &a->msg, a->rc);
}

void apply_on_gap(struct shard *s, struct msg *msg)
{
    struct gap_msg *g = container_of(msg, struct gap_msg, a.msg);
    struct plog *p = plog_set_find(s->plogs, &g->a.topic_id, g->a.partition);
    g->owner = s;
    if (p == NULL) {
        msg_reply(s->mbox, msg, -E_NOT_OWNER);
        return;
    }
    g->a.done = on_gap_appended;
    plog_append(p, &g->a);
}

static int64_t topic_i64(const struct meta_image *img, const struct meta_topic *t, const char *key,
                         int64_t otherwise)
{
    const char *v = config_of_topic(img, t, key, NULL);
    return v != NULL ? strtoll(v, NULL, 10) : otherwise; /* sluiced has validated it */
}

void plog_conf_of_topic(const struct conf *conf, const struct meta_image *img,
                        const struct meta_topic *t, struct plog_conf *ret)
{
    const char *policy = config_of_topic(img, t, "cleanup.policy", NULL);
    const char *stamp = config_of_topic(img, t, "message.timestamp.type", NULL);
    memset(ret, 0, sizeof(*ret));
    ret->segment_bytes =
        (uint64_t)topic_i64(img, t, "segment.bytes", (int64_t)conf->log_segment_bytes);
    ret->segment_ms = topic_i64(img, t, "segment.ms", conf->log_segment_ms);
    ret->segment_jitter_ms = topic_i64(img, t, "segment.jitter.ms", 0);
    ret->index_interval_bytes =
        (uint32_t)topic_i64(img, t, "index.interval.bytes", conf->log_index_interval_bytes);
    ret->index_bytes_max =
        (uint32_t)topic_i64(img, t, "segment.index.bytes", conf->log_index_size_max_bytes);
    ret->retention_ms = topic_i64(img, t, "retention.ms", conf->log_retention_ms);
    ret->retention_bytes = topic_i64(img, t, "retention.bytes", conf->log_retention_bytes);
    ret->max_message_bytes =
        (uint32_t)topic_i64(img, t, "max.message.bytes", conf->message_max_bytes);
    ret->log_append_time = stamp != NULL && strcmp(stamp, "LogAppendTime") == 0;
    ret->compact = policy != NULL && strstr(policy, "compact") != NULL;
    ret->delete_ = policy == NULL || strstr(policy, "delete") != NULL;
}
