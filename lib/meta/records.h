/* records.h - KRaft metadata records: one record's frame, and batches of them being built.
 *
 * A record is the value of one Kafka record in __cluster_metadata-0 (its key is null):
 *     uvarint 1 (frame version), uvarint type, uvarint version, body (flexible encoding)
 * The bodies are messages of lib/wire/schema/metadata_records.msg; records.def lists the types.
 *
 * Runs on: any thread, one at a time per batch. Nothing here blocks. */
#pragma once
#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/base/uuid.h"
#include "lib/meta/image.h"
#include "lib/wire/wire_gen.h"

#define META_FRAME_VERSION 1
#define META_VERSION_LEVEL 27             /* feature metadata.version: 4.1-IV1 */
#define META_VERSION_MIN 25               /* 4.0-IV3: whose records are those we write */
#define META_VERSION_MAX 30               /* 4.3-IV0: of records we read, written by Kafka */
#define META_BATCH_BYTES_MAX (256u << 20) /* of one struct meta_batch */

enum meta_type {
#define META_RECORD(name, message, version) META_##name,
#define META_KEPT(name, key, max) META_##name,
#include "lib/meta/records.def"
#undef META_RECORD
#undef META_KEPT
    META_TYPE_CNT
};

/* A record taken apart as far as its body; borrows the bytes. */
struct meta_record {
    enum meta_type type;
    int16_t version;
    struct span body;
};
/* 0, or
 *   -E_UNSUPPORTED_VERSION  frame version, type or record version that we do not know
 *   -E_TRUNCATED, -E_MALFORMED  damaged frame
 * Fatal for whoever must apply it (kraft-join: an unknown record may not be skipped). */
NODISCARD int meta_record_parse(struct span bytes, struct meta_record *ret);
/* "topic_record"; static. */
const char *meta_type_name(enum meta_type type);
/* Stays in the log without a meaning here: image_apply passes over it. */
bool meta_type_is_kept(enum meta_type type);

/* Records in the making: append, then hand `v`, `cnt` to image_apply, the log and the control
 * socket. The first error sticks in rc (-E_LIMIT: META_BATCH_BYTES_MAX passed or a string too long,
 * -ENOMEM) and later calls do nothing, so that it is checked once, at the end. The bytes live until
 * meta_batch_fini or meta_batch_reset. */
struct meta_batch {
    struct span *v;
    uint32_t cnt, cap;
    int rc;
    struct arena arena;
};
void meta_batch_init(struct meta_batch *b);
void meta_batch_reset(struct meta_batch *b);
void meta_batch_fini(struct meta_batch *b);

/* One typed function per row of records.def, for instance
 *     void meta_put_topic_record(struct meta_batch *b, const struct topic_record *m); */
#define META_RECORD(name, message, version)                                                        \
    void meta_put_##message(struct meta_batch *b, const struct message *m);
#define META_KEPT(name, key, max)
#include "lib/meta/records.def"
#undef META_RECORD
#undef META_KEPT

/* A record as it is. */
void meta_put_frame(struct meta_batch *b, struct span frame);

/* What a controller of one node writes. A new topic is: meta_put_topic, its meta_put_config, then
 * meta_put_partition for 0, 1, 2, ... */
void meta_put_topic(struct meta_batch *b, const struct uuid *id, struct span name);
/* A new partition with its one replica on node_id in `directory`; leader epoch and partition epoch
 * start at 0. */
void meta_put_partition(struct meta_batch *b, const struct uuid *topic_id, int32_t partition,
                        int32_t node_id, const struct uuid *directory);
/* The partition is led by node_id again: raises leader epoch and partition epoch by one. */
void meta_put_leader(struct meta_batch *b, const struct uuid *topic_id, int32_t partition,
                     int32_t node_id);
void meta_put_remove_topic(struct meta_batch *b, const struct uuid *id);
#define META_RESOURCE_TOPIC 2
#define META_RESOURCE_BROKER 4 /* resource name: the node id in decimal, or "" for the default */
#define META_RESOURCE_GROUP 32
/* value NULL span: back to the default. */
void meta_put_config(struct meta_batch *b, int8_t resource_type, struct span resource,
                     struct span key, struct span value);
/* rate 0 removes it. */
void meta_put_quota(struct meta_batch *b, const struct quota_entity *entity, enum quota_type type,
                    double rate);
/* Level 0 removes the feature. */
void meta_put_feature(struct meta_batch *b, const char *name, int16_t level);
/* Ids below `next` have been handed out. */
void meta_put_producer_ids(struct meta_batch *b, int32_t node_id, int64_t broker_epoch,
                           int64_t next);

/* The image as records that rebuild it when applied to an image_create_empty one: the content of a
 * snapshot, without its header and footer control records. Check b->rc. */
void meta_put_image(struct meta_batch *b, const struct meta_image *img);
