/* apply.c - see apply.h. Everything here runs on a shard. */
#include "dataplane/control/apply.h"
#include "accel/codec.h"
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

/* Kafka's keys, and which codec sealed plain batches get: sluice.compression=auto leaves them plain
 * when the shard has no cycles to spare, and compression.type may have been set after they came. */
static void compaction_conf_of_topic(const struct meta_image *img, const struct meta_topic *t,
                                     struct plog_conf *ret)
{
    const char *ratio = config_of_topic(img, t, "min.cleanable.dirty.ratio", NULL);
    const char *type = config_of_topic(img, t, "compression.type", NULL);
    const char *ours = config_of_topic(img, t, "sluice.compression", NULL);
    ret->min_dirty_ratio = ratio != NULL ? strtod(ratio, NULL) : 0.5;
    ret->min_compaction_lag_ms = topic_i64(img, t, "min.compaction.lag.ms", 0);
    ret->max_compaction_lag_ms = topic_i64(img, t, "max.compaction.lag.ms", INT64_MAX);
    ret->delete_retention_ms = topic_i64(img, t, "delete.retention.ms", 86400000);
    /* As in Kafka: a segment that is not closed cannot be compacted. */
    if (ret->compact && ret->max_compaction_lag_ms < ret->segment_ms)
        ret->segment_ms = ret->max_compaction_lag_ms;
    int codec = type != NULL ? codec_by_name(type) : -1; /* "producer", "uncompressed": none */
    if (codec > CODEC_NONE) {
        char key[40];
        (void)snprintf(key, sizeof(key), "compression.%s.level", type);
        ret->recode_level = (int16_t)topic_i64(img, t, key, 0);
    } else if (ours != NULL && strcmp(ours, "auto") == 0) {
        codec = CODEC_GZIP;
    }
    ret->recode = codec > CODEC_NONE;
    ret->recode_codec = ret->recode ? (uint8_t)codec : CODEC_NONE;
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
    compaction_conf_of_topic(img, t, ret);
    ret->delete_ = policy == NULL || strstr(policy, "delete") != NULL;
}
