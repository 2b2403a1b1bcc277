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
#include <stdbool.h>
#include <stdint.h>

#define TOPIC_NAME_MAX 249
#define META_PARTITIONS_MAX 1000000 /* whole image; the configured limit is lower */

struct meta_config { /* one key of a resource */
    char *key, *value;
};
struct meta_partition {
    int32_t leader, leader_epoch, partition_epoch;
    struct uuid directory; /* of the one replica */
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
struct meta_image {
    uint32_t refs;  /* atomic */
    int64_t offset; /* of the last record applied, -1: empty */
    struct uuid cluster_id;
    int32_t node_id;
    int64_t broker_epoch;
    int64_t next_producer_id;
    uint32_t topic_cnt;
    struct meta_topic **by_name; /* sorted by name */
    uint32_t *id_hash;           /* open addressing over by_name */
    uint32_t id_hash_cap;
    uint32_t partition_cnt;
    uint32_t broker_config_cnt;
    struct meta_config *broker_configs;
    uint32_t feature_cnt;
    struct meta_feature features[16];
};

NODISCARD int image_create_empty(struct meta_image **ret);
struct meta_image *image_get(struct meta_image *img);
void image_put(struct meta_image *img);
/* Apply one batch of records (each: uvarint frame 1, api key, version, body) in order, atomically:
 * *ret is the next image, or nothing on error (-E_MALFORMED, -E_UNSUPPORTED_VERSION: fatal to the
 * caller, as the records are our own). last_offset becomes ret->offset. */
NODISCARD int image_apply(const struct meta_image *img, const struct span *records, uint32_t cnt,
                          int64_t last_offset, struct meta_image **ret);

const struct meta_topic *image_topic_by_name(const struct meta_image *img, struct span name);
const struct meta_topic *image_topic_by_id(const struct meta_image *img, const struct uuid *id);
/* The override of a topic's config key, or NULL. */
const char *meta_topic_config(const struct meta_topic *t, const char *key);
