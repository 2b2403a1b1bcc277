/* records.c - frames around metadata records, and batches of them. See records.h. */
#include "lib/meta/records.h"
#include <stdio.h>
#include <stdlib.h>

static const struct {
    int16_t key, min, max;
    bool is_kept;
    const char *name;
} types[META_TYPE_CNT] = {
#define META_RECORD(name, message, version)                                                        \
    [META_##name] = {name##_RECORD_KEY, name##_RECORD_MIN, name##_RECORD_MAX, false, #message},
#define META_KEPT(name, key, max) [META_##name] = {key, 0, max, true, #name},
#include "lib/meta/records.def"
#undef META_RECORD
#undef META_KEPT
};

const char *meta_type_name(enum meta_type type)
{
    return types[type].name;
}

bool meta_type_is_kept(enum meta_type type)
{
    return types[type].is_kept;
}

int meta_record_parse(struct span bytes, struct meta_record *ret)
{
    struct wire_reader r;
    wire_reader_init(&r, bytes);
    uint32_t frame = wire_get_uvarint(&r);
    uint32_t key = wire_get_uvarint(&r);
    uint32_t version = wire_get_uvarint(&r);
    if (r.err != 0)
        return r.err;
    if (frame != META_FRAME_VERSION)
        return -E_UNSUPPORTED_VERSION;
    for (int i = 0; i < META_TYPE_CNT; i++) {
        if (key != (uint32_t)types[i].key)
            continue;
        if (version < (uint32_t)types[i].min || version > (uint32_t)types[i].max)
            return -E_UNSUPPORTED_VERSION;
        ret->type = (enum meta_type)i;
        ret->version = (int16_t)version;
        ret->body = span_of(r.p, (uint32_t)wire_left(&r));
        return 0;
    }
    return -E_UNSUPPORTED_VERSION;
}

/* ---- batches ---- */

void meta_batch_init(struct meta_batch *b)
{
    *b = (struct meta_batch){0};
    arena_init(&b->arena, META_BATCH_BYTES_MAX);
}

void meta_batch_reset(struct meta_batch *b)
{
    arena_reset(&b->arena);
    b->cnt = 0;
    b->rc = 0;
}

void meta_batch_fini(struct meta_batch *b)
{
    arena_fini(&b->arena);
    free(b->v);
    *b = (struct meta_batch){0};
}

/* Room for one more record of frame and body; the writer stands at the body. NULL: b->rc is set. */
static uint8_t *record_begin(struct meta_batch *b, enum meta_type type, int16_t version,
                             size_t body_len, struct wire_writer *w)
{
    if (b->rc != 0)
        return NULL;
    if (b->cnt == b->cap) {
        uint32_t cap = b->cap == 0 ? 64 : b->cap * 2;
        struct span *v = realloc(b->v, cap * sizeof(*v));
        if (v == NULL) {
            b->rc = -ENOMEM;
            return NULL;
        }
        b->v = v;
        b->cap = cap;
    }
    size_t cap = 3 + body_len; /* frame, type and version are below 128 */
    uint8_t *p = cap <= META_BATCH_BYTES_MAX ? arena_alloc(&b->arena, cap) : NULL;
    if (p == NULL) {
        b->rc = -E_LIMIT;
        return NULL;
    }
    wire_writer_init(w, p, cap);
    wire_put_uvarint(w, META_FRAME_VERSION);
    wire_put_uvarint(w, (uint32_t)types[type].key);
    wire_put_uvarint(w, (uint32_t)version);
    return p;
}

static void record_end(struct meta_batch *b, const uint8_t *p, const struct wire_writer *w)
{
    if (w->err != 0)
        b->rc = -E_LIMIT;
    else
        b->v[b->cnt++] = span_of(p, (uint32_t)w->len);
}

#define META_RECORD(name, message, version)                                                        \
    static_assert(name##_RECORD_KEY < 128, "one byte");                                            \
    void meta_put_##message(struct meta_batch *b, const struct message *m)                         \
    {                                                                                              \
        struct wire_writer w;                                                                      \
        uint8_t *p = record_begin(b, META_##name, version, message##_size(m, version), &w);        \
        if (p == NULL)                                                                             \
            return;                                                                                \
        message##_write(&w, version, m);                                                           \
        record_end(b, p, &w);                                                                      \
    }
#define META_KEPT(name, key, max)
#include "lib/meta/records.def"
#undef META_RECORD
#undef META_KEPT

void meta_put_frame(struct meta_batch *b, struct span frame)
{
    struct wire_writer w;
    uint8_t *p = record_begin(b, META_NO_OP, 0, frame.len, &w);
    if (p == NULL)
        return;
    memcpy(p, frame.p, frame.len); /* in place of the head that record_begin wrote */
    b->v[b->cnt++] = span_of(p, frame.len);
}

void meta_put_topic(struct meta_batch *b, const struct uuid *id, struct span name)
{
    struct topic_record m;
    topic_record_init(&m);
    m.topic_id = *id;
    m.name = name;
    meta_put_topic_record(b, &m);
}

/* One partition's record, with the epochs it has. */
static void put_partition(struct meta_batch *b, const struct uuid *topic_id, int32_t partition,
                          int32_t node_id, const struct meta_partition *state)
{
    struct partition_record m;
    int32_t nodes[] = {node_id}, isr[] = {state->leader};
    struct uuid directories[] = {state->directory};
    partition_record_init(&m);
    m.partition_id = partition;
    m.topic_id = *topic_id;
    m.replicas.v = nodes;
    m.replicas.cnt = 1;
    m.isr.v = isr;
    m.isr.cnt = state->leader < 0 ? 0 : 1;
    m.leader = state->leader;
    m.leader_epoch = state->leader_epoch;
    m.partition_epoch = state->partition_epoch;
    m.directories.v = directories;
    m.directories.cnt = 1;
    meta_put_partition_record(b, &m);
}

void meta_put_partition(struct meta_batch *b, const struct uuid *topic_id, int32_t partition,
                        int32_t node_id, const struct uuid *directory)
{
    struct meta_partition state = {.leader = node_id, .directory = *directory};
    put_partition(b, topic_id, partition, node_id, &state);
}

void meta_put_leader(struct meta_batch *b, const struct uuid *topic_id, int32_t partition,
                     int32_t node_id)
{
    struct partition_change_record m;
    partition_change_record_init(&m);
    m.partition_id = partition;
    m.topic_id = *topic_id;
    m.leader = node_id;
    meta_put_partition_change_record(b, &m);
}

void meta_put_remove_topic(struct meta_batch *b, const struct uuid *id)
{
    struct remove_topic_record m = {.topic_id = *id};
    meta_put_remove_topic_record(b, &m);
}

void meta_put_config(struct meta_batch *b, int8_t resource_type, struct span resource,
                     struct span key, struct span value)
{
    struct config_record m = {
        .resource_type = resource_type, .resource_name = resource, .name = key, .value = value};
    meta_put_config_record(b, &m);
}

void meta_put_quota(struct meta_batch *b, const struct quota_entity *entity, enum quota_type type,
                    double rate)
{
    struct client_quota_record m;
    struct client_quota_record_entity parts[2];
    const struct quota_name *names[] = {&entity->user, &entity->client};
    client_quota_record_init(&m);
    m.entity.v = parts;
    for (int i = 0; i < 2; i++) {
        if (names[i]->kind == QUOTA_ABSENT)
            continue;
        parts[m.entity.cnt++] = (struct client_quota_record_entity){
            .entity_type = span_str(i == 0 ? "user" : "client-id"),
            .entity_name = names[i]->kind == QUOTA_NAMED ? names[i]->name : SPAN_NULL};
    }
    m.key = span_str(quota_key(type));
    m.value = rate;
    m.remove = rate <= 0;
    meta_put_client_quota_record(b, &m);
}

void meta_put_feature(struct meta_batch *b, const char *name, int16_t level)
{
    struct feature_level_record m = {.name = span_str(name), .feature_level = level};
    meta_put_feature_level_record(b, &m);
}

void meta_put_producer_ids(struct meta_batch *b, int32_t node_id, int64_t broker_epoch,
                           int64_t next)
{
    struct producer_ids_record m = {
        .broker_id = node_id, .broker_epoch = broker_epoch, .next_producer_id = next};
    meta_put_producer_ids_record(b, &m);
}

/* ---- snapshot ---- */

static void put_configs(struct meta_batch *b, int8_t type, const char *resource,
                        const struct meta_config *configs, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++)
        meta_put_config(b, type, span_str(resource), span_str(configs[i].key),
                        span_str(configs[i].value));
}

static void put_raw(struct meta_batch *b, struct span record)
{
    struct wire_writer w;
    struct meta_record rec;
    if (meta_record_parse(record, &rec) < 0) {
        UNREACHABLE(); /* image_apply read it before */
    }
    uint8_t *p = record_begin(b, rec.type, rec.version, rec.body.len, &w);
    if (p == NULL)
        return;
    wire_put_raw(&w, rec.body);
    record_end(b, p, &w);
}

void meta_put_image(struct meta_batch *b, const struct meta_image *img)
{
    for (uint32_t i = 0; i < img->feature_cnt; i++)
        meta_put_feature(b, img->features[i].name, img->features[i].level);
    if (img->broker != NULL)
        put_raw(b, span_of(img->broker->record, img->broker->record_len));
    char node[16];
    snprintf(node, sizeof(node), "%d", img->node_id);
    put_configs(b, META_RESOURCE_BROKER, "", img->default_configs, img->default_config_cnt);
    put_configs(b, META_RESOURCE_BROKER, node, img->broker_configs, img->broker_config_cnt);
    for (uint32_t i = 0; img->groups != NULL && i < img->groups->cnt; i++) {
        const struct meta_group *g = &img->groups->v[i];
        put_configs(b, META_RESOURCE_GROUP, g->name, g->v, g->cnt);
    }
    for (uint32_t i = 0; img->quotas != NULL && i < img->quotas->cnt; i++)
        for (int t = 0; t < QUOTA_TYPE_CNT; t++)
            if (img->quotas->v[i].rate[t] > 0)
                meta_put_quota(b, &img->quotas->v[i].entity, (enum quota_type)t,
                               img->quotas->v[i].rate[t]);
    if (img->next_producer_id != 0)
        meta_put_producer_ids(b, img->node_id, img->broker_epoch, img->next_producer_id);
    for (uint32_t i = 0; i < img->topic_cnt; i++) {
        const struct meta_topic *t = img->by_name[i];
        meta_put_topic(b, &t->id, span_str(t->name));
        put_configs(b, META_RESOURCE_TOPIC, t->name, t->configs, t->config_cnt);
        for (uint32_t p = 0; p < t->partition_cnt; p++)
            put_partition(b, &t->id, (int32_t)p, img->node_id, &t->partitions[p]);
    }
}
