/* image.h - the metadata image: what the KRaft records of __cluster_metadata-0 add up to.
 *
 * Immutable once published: image_apply builds the next version, sharing unchanged topics by
 * reference count (atomic, because shards on other cores hold older images). The control thread
 * builds, shards read; both processes use the same code.
 * Lifetime: everything reachable from an image lives until its last image_put. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/base/uuid.h"
#include "lib/meta/config_list.h"
#include "lib/meta/group_configs.h"
#include "lib/meta/quotas.h"
#include <stdbool.h>
#include <stdint.h>

#define TOPIC_NAME_MAX 249
#define META_PARTITIONS_MAX 1000000 /* whole image; the configured limit is lower */

struct meta_partition {
    int32_t leader, leader_epoch, partition_epoch;
    struct uuid directory; /* of the one replica */
    bool is_elsewhere;     /* has replicas that are not this node's */
};
struct meta_topic {
    uint32_t refs; /* atomic */
    struct uuid id;
    char name[TOPIC_NAME_MAX + 1];
    bool internal;
    uint32_t partition_cnt;
    struct meta_partition *partitions;
    uint32_t config_cnt;
    struct meta_config *configs; /* overrides only, sorted by key */
};
struct meta_feature {
    char name[64];
    int16_t level;
};
struct meta_feature_range { /* features.def */
    const char *name;
    int16_t min, max, level;
};
extern const struct meta_feature_range meta_features[];
extern const uint32_t meta_feature_cnt;

struct meta_broker { /* this node's registration */
    uint32_t refs;   /* atomic */
    struct uuid incarnation;
    bool fenced, in_controlled_shutdown;
    uint8_t *record; /* RegisterBroker record, frame included, with all later changes in it */
    uint32_t record_len;
};
struct meta_image {
    uint32_t refs;          /* atomic */
    int64_t offset;         /* of the last record applied, -1: empty */
    struct uuid cluster_id; /* not in the records: the owner sets it on the empty image */
    int32_t node_id;        /* -1 until set by the owner or by RegisterBroker */
    int64_t broker_epoch;   /* -1: never registered */
    int64_t next_producer_id;
    struct meta_broker *broker; /* NULL: not registered; others than this node are not kept */
    uint32_t topic_cnt;
    struct meta_topic **by_name; /* sorted by name */
    uint32_t *id_hash;           /* open addressing over by_name */
    uint32_t id_hash_cap;
    uint32_t partition_cnt;
    uint32_t broker_config_cnt; /* of this node */
    struct meta_config *broker_configs;
    uint32_t default_config_cnt; /* of all brokers: resource "" */
    struct meta_config *default_configs;
    struct meta_quotas *quotas; /* NULL: none are set */
    struct meta_groups *groups; /* NULL: no group has a configuration */
    uint32_t feature_cnt;
    struct meta_feature features[16];
};

NODISCARD int image_create_empty(struct meta_image **ret);
/* image_put accepts NULL. */
struct meta_image *image_get(struct meta_image *img);
void image_put(struct meta_image *img);
/* Apply one batch of records (each: uvarint frame 1, type, version, body; lib/meta/records.h) in
 * order, atomically: *ret is the next image with one reference, or nothing on error; img stays as
 * it is. last_offset becomes ret->offset. Records that say nothing about what this node does
 * (META_KEPT of records.def, other brokers, kinds of configuration and of quotas that only Apache
 * Kafka has) are passed over: the log keeps them. 0, or
 *   -E_UNSUPPORTED_VERSION     a record type or version that we do not know
 *   -E_MALFORMED, -E_TRUNCATED a record that cannot be read, or contradicts the image: a topic
 *                              twice, an unknown topic, a hole in the partitions
 *   -E_LIMIT                   META_PARTITIONS_MAX, META_GROUPS_MAX, or more features than fit
 *   -ENOMEM                    try again later
 *   -EAGAIN                    the records end inside a transaction (BeginTransaction without
 *                              EndTransaction): call again with these and those that follow
 * All but the last two are fatal to the caller: an image without such a record would be wrong. */
NODISCARD int image_apply(const struct meta_image *img, const struct span *records, uint32_t cnt,
                          int64_t last_offset, struct meta_image **ret);

/* NULL when there is none. The topic lives as long as the image. */
const struct meta_topic *image_topic_by_name(const struct meta_image *img, struct span name);
const struct meta_topic *image_topic_by_id(const struct meta_image *img, const struct uuid *id);
/* The override of a topic's config key, or NULL. */
const char *meta_topic_config(const struct meta_topic *t, const char *key);
/* What the group has for a key, or NULL. */
const char *image_group_config(const struct meta_image *img, struct span group, const char *key);
/* This node's broker config, else the default of all brokers, else NULL. */
const char *image_broker_config(const struct meta_image *img, const char *key);
/* The level of a finalized feature; 0: not finalized. */
int16_t image_feature(const struct meta_image *img, const char *name);

/* Kafka's rule: 1..249 of [a-zA-Z0-9._-], not "." or "..". Such a name is safe in a path. */
bool meta_topic_name_ok(struct span name);
/* Topics of Kafka's own machinery, which clients may not write: __consumer_offsets, ... */
bool meta_topic_name_internal(struct span name);
