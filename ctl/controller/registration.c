/* registration.c - see controller.h: what the hello of a dataplane changes in the metadata. */
#include "ctl/controller/controller_int.h"
#include "lib/base/log.h"
#include "lib/iface/ctl_proto.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void propose_registration(struct controller *c, struct change *ch,
                                 const struct ctl_hello *hello, int64_t *ret_epoch)
{
    struct register_broker_record r;
    struct register_broker_record_feature features[8];
    register_broker_record_init(&r);
    ASSERT(meta_feature_cnt <= sizeof(features) / sizeof(features[0]));
    for (uint32_t i = 0; i < meta_feature_cnt; i++) {
        const struct meta_feature_range *f = &meta_features[i];
        register_broker_record_feature_init(&features[i]);
        features[i].name = span_str(f->name);
        features[i].min_supported_version = f->min;
        features[i].max_supported_version = f->max;
        if (image_feature(c->img, f->name) == 0) /* new here, or new in this build */
            meta_put_feature(&ch->b, f->name, f->level);
    }
    *ret_epoch = meta_log_next_offset(c->log) + ch->b.cnt;
    r.broker_id = c->id.node_id;
    r.incarnation_id = hello->incarnation;
    r.broker_epoch = *ret_epoch;
    r.fenced = false; /* the one broker there is: nothing would unfence it */
    r.features.v = features;
    r.features.cnt = meta_feature_cnt;
    struct uuid open_dirs[CONF_DIRS_MAX];
    r.log_dirs.v = open_dirs;
    for (uint32_t i = 0; i < c->id.dir_cnt; i++)
        if (c->dir_is_open[i])
            open_dirs[r.log_dirs.cnt++] = c->id.dir_id[i];
    struct register_broker_record_end_point ends[CONF_KAFKA_MAX];
    r.end_points.v = ends;
    for (uint32_t i = 0; i < hello->listeners.cnt; i++) {
        const struct ctl_hello_listener *l = &hello->listeners.v[i];
        if (l->kind != CTL_LISTENER_KAFKA || r.end_points.cnt == CONF_KAFKA_MAX)
            continue;
        struct register_broker_record_end_point *e = &r.end_points.v[r.end_points.cnt++];
        register_broker_record_end_point_init(e);
        e->name = l->name;
        e->host = l->advertised_host.len > 0 ? l->advertised_host : l->host;
        e->port = l->advertised_port != 0 ? l->advertised_port : l->port;
        e->security_protocol = 0;
    }
    meta_put_register_broker_record(&ch->b, &r);
}
/* The leader set again raises the leader epoch. */
static uint32_t propose_epochs(struct controller *c, struct change *ch,
                               const struct ctl_hello *hello)
{
    uint32_t raised = 0;
    for (uint32_t i = 0; i < hello->unclean.cnt; i++) {
        const struct ctl_hello_unclean_topic *u = &hello->unclean.v[i];
        const struct meta_topic *t = image_topic_by_id(c->img, &u->topic_id);
        for (uint32_t k = 0; t != NULL && k < u->partitions.cnt; k++) {
            int32_t id = u->partitions.v[k];
            if (id < 0 || (uint32_t)id >= t->partition_cnt)
                continue;
            meta_put_leader(&ch->b, &u->topic_id, id, c->id.node_id);
            raised++;
        }
    }
    return raised;
}
/* The directory that a partition is in, by its index: the one its record names, or, where Kafka had
 * not told its controller yet, the one that has it. */
static uint32_t dir_find(const struct controller *c, const struct meta_topic *t, uint32_t partition)
{
    char path[CONF_PATH_MAX + TOPIC_NAME_MAX + 32];
    for (uint32_t i = 0; i < c->id.dir_cnt; i++)
        if (uuid_eq(&c->id.dir_id[i], &t->partitions[partition].directory))
            return i;
    for (uint32_t i = 1; i < c->id.dir_cnt; i++) {
        snprintf(path, sizeof(path), "%s/%s-%u", c->conf->data_dirs[i], t->name, partition);
        if (access(path, F_OK) == 0)
            return i;
    }
    return 0;
}
/* After Apache Kafka had the directory: a broker that stops gives its partitions away, and nobody
 * took them. */
static void propose_takeover(struct controller *c, struct change *ch)
{
    struct partition_change_record m;
    int32_t isr[] = {c->id.node_id};
    for (uint32_t i = 0; i < c->img->topic_cnt; i++) {
        const struct meta_topic *t = c->img->by_name[i];
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            uint32_t d = dir_find(c, t, p);
            bool moved = !uuid_eq(&c->id.dir_id[d], &t->partitions[p].directory);
            if (t->partitions[p].leader == c->id.node_id && !moved)
                continue;
            partition_change_record_init(&m);
            m.partition_id = (int32_t)p;
            m.topic_id = t->id;
            if (t->partitions[p].leader != c->id.node_id) {
                m.leader = c->id.node_id;
                m.isr = (struct wire_i32s){.v = isr, .cnt = 1};
            }
            if (moved)
                m.directories = (struct wire_uuids){.v = &c->id.dir_id[d], .cnt = 1};
            meta_put_partition_change_record(&ch->b, &m);
        }
    }
}
/* Topics the appliance itself needs, as far as they are missing. */
struct own_topics {
    uint32_t cnt;
    char name[CONF_LISTENERS_MAX * 2 + CONF_RULES_MAX + 2]
             [TOPIC_NAME_MAX + 8]; /* what this change creates */
};
static void propose_own(struct controller *c, struct change *ch, struct own_topics *own,
                        const char *name, uint32_t partitions,
                        const struct create_topics_request_config *configs, uint32_t config_cnt)
{
    if (image_topic_by_name(c->img, span_str(name)) != NULL)
        return;
    for (uint32_t i = 0; i < own->cnt; i++)
        if (strcmp(own->name[i], name) == 0)
            return;
    if (!change_room_for(c, ch, partitions)) {
        LOG_ERROR("topic '%s' cannot be created: %u partitions would pass the limit of %u", name,
                  partitions, c->conf->partitions_max);
        return;
    }
    snprintf(own->name[own->cnt], sizeof(own->name[0]), "%s", name);
    struct proposed_topic t = {.name = span_str(own->name[own->cnt]),
                               .partitions = partitions,
                               .configs = configs,
                               .config_cnt = config_cnt};
    own->cnt++;
    (void)change_add_topic(c, ch, &t); /* nobody asks for the id */
}
static struct create_topics_request_config compression_config(enum conf_compression how)
{
    return (struct create_topics_request_config){
        span_str(how == CONF_COMP_AUTO ? "sluice.compression" : "compression.type"),
        span_str(how == CONF_COMP_NONE ? "uncompressed" : conf_compression_name(how))};
}
static int propose_own_topics(struct controller *c, struct change *ch, int32_t shard_cnt)
{
    struct own_topics *own = calloc(1, sizeof(*own));
    enum conf_compression how = c->conf->listener_compression;
    struct create_topics_request_config compression = compression_config(how);
    struct create_topics_request_config forever = {span_str("retention.ms"), span_str("-1")};
    const struct create_topics_request_config offsets[] = {
        /* as Kafka creates it */
        {span_str("cleanup.policy"), span_str("compact")},
        {span_str("compression.type"), span_str("producer")},
        {span_str("segment.bytes"), span_str("104857600")}};
    if (own == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->conf->listener_cnt; i++) {
        const struct conf_listener *l = &c->conf->listeners[i];
        char dlq[TOPIC_NAME_MAX + 8];
        int32_t n = l->topic_partitions > 0 ? l->topic_partitions : shard_cnt;
        propose_own(c, ch, own, l->topic, n > 0 ? (uint32_t)n : 1, &compression, 1);
        snprintf(dlq, sizeof(dlq), "%s.dlq", l->topic);
        propose_own(c, ch, own, dlq, 1, &compression, 1);
    }
    for (uint32_t i = 0; i < c->conf->rule_cnt; i++) {
        const struct conf_rule *r = &c->conf->rules[i];
        struct create_topics_request_config chosen = compression_config(
            r->compression == CONF_RULE_COMP_TOPIC ? how : conf_compression_of(r->compression));
        int32_t n = r->topic_partitions > 0 ? r->topic_partitions : shard_cnt;
        propose_own(c, ch, own, r->topic, n > 0 ? (uint32_t)n : 1, &chosen, 1);
    }
    propose_own(c, ch, own, "_sluice.gaps", 1, &forever, 1);
    propose_own(c, ch, own, "__consumer_offsets", c->conf->offsets_partitions, offsets,
                sizeof(offsets) / sizeof(offsets[0]));
    free(own);
    return 0;
}
int controller_register(struct controller *c, const struct ctl_hello *hello,
                        int64_t *ret_broker_epoch)
{
    struct change ch;
    uint32_t raised = 0;
    int64_t epoch = c->broker_epoch, offset;
    for (uint32_t i = 0; i < c->id.dir_cnt; i++) {
        c->dir_is_open[i] = i == 0;
        for (uint32_t k = 0; k < hello->log_dirs.cnt; k++)
            c->dir_is_open[i] |= uuid_eq(&c->id.dir_id[i], &hello->log_dirs.v[k]);
    }
    change_init(&ch, c);
    /* The same process again (sluiced came back): its registration and the epochs raised with it
     * are one batch, so they are all in force already. */
    if (c->broker_epoch < 0 || !uuid_eq(&c->incarnation, &hello->incarnation)) {
        propose_registration(c, &ch, hello, &epoch);
        propose_takeover(c, &ch);
        raised = propose_epochs(c, &ch, hello);
    }
    int rc = propose_own_topics(c, &ch, hello->shard_cnt);
    if (rc == 0 && (ch.b.cnt > 0 || ch.b.rc != 0))
        rc = controller_commit(c, &ch, &offset);
    change_fini(&ch);
    if (rc < 0)
        return rc;
    if (raised > 0)
        LOG_INFO("raised the leader epoch of %u partitions that were not closed cleanly", raised);
    c->incarnation = hello->incarnation;
    c->broker_epoch = epoch;
    c->applied = -1;
    *ret_broker_epoch = epoch;
    return 0;
}
void controller_fence(struct controller *c)
{
    struct broker_registration_change_record m;
    struct change ch;
    int64_t offset;
    if (c->broker_epoch < 0 || c->img->broker == NULL || c->img->broker->fenced)
        return;
    broker_registration_change_record_init(&m);
    m.broker_id = c->id.node_id;
    m.broker_epoch = c->broker_epoch;
    m.fenced = 1;
    change_init(&ch, c);
    meta_put_broker_registration_change_record(&ch.b, &m);
    int rc = controller_commit(c, &ch, &offset);
    change_fini(&ch);
    if (rc < 0)
        LOG_WARN(
            "the end of this broker could not be recorded: %s; Apache Kafka, started on a copy, "
            "would wait some seconds for it",
            err_text(rc));
}
