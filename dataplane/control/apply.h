/* apply.h - what changes on a shard with a new metadata image (MSG_IMAGE), and its partitions'
 * state for sluiced (MSG_PARTITION_STATS).
 *
 * The control thread builds one apply_msg per shard; the shard's handler replaces image and owner
 * map, takes over new partitions, updates changed ones, and closes removed ones; it replies when
 * all of that is done. */
#pragma once
#include "dataplane/shard/owner_map.h"
#include "dataplane/store/catalog.h"
#include "dataplane/store/plog.h"
#include "lib/iface/conf.h"

enum apply_kind { APPLY_ADD, APPLY_UPDATE, APPLY_REMOVE };
struct apply_change {
    enum apply_kind kind;
    struct uuid topic_id;
    int32_t partition;
    int32_t leader_epoch;
    struct part *part;            /* APPLY_ADD: taken over by the set when rc is 0 */
    const struct plog_conf *conf; /* ADD, UPDATE: valid until the reply */
    int rc;
};
struct apply_msg {
    struct image_msg image;
    uint32_t change_cnt, change_cap;
    struct apply_change *changes;
    uint32_t closing; /* the shard's: removed partitions that are still closing */
};
struct part_stats {
    struct uuid topic_id;
    int32_t partition;
    int rc; /* 0, or why it has no offsets now */
    struct plog_offsets offsets;
};
struct stats_msg {
    struct msg msg;
    uint32_t cnt, cap;
    struct part_stats *stats; /* the control thread's memory, filled by the shard */
};
struct gap_msg { /* MSG_GAP: one batch, appended like any other */
    struct plog_append a;
    struct shard *owner; /* set by the receiver */
    uint8_t buf[2048];
};
/* Request handlers, on the shard. */
void apply_on_image(struct shard *s, struct msg *m);
void apply_on_partition_stats(struct shard *s, struct msg *m);
void apply_on_gap(struct shard *s, struct msg *m);

/* What a topic's configuration (overrides over the node's defaults) means for its logs. */
void plog_conf_of_topic(const struct conf *conf, const struct meta_topic *t, struct plog_conf *ret);
