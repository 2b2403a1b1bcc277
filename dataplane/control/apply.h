/* apply.h - what changes on a shard with a new metadata image, and its partitions' state for
 * sluiced (MSG_PARTITION_STATS).
 *
 *     MSG_PARTITIONS: new ones -> MSG_IMAGE -> MSG_PARTITIONS: changed ones, removed ones
 *
 * A partition is there before any client can learn of it, and goes when nobody can any more. The
 * control thread sends at most APPLY_TURN_MAX changes and waits for all shards' replies before the
 * next: however many partitions come, a turn of a shard stays short. */
#pragma once
#include "dataplane/shard/owner_map.h"
#include "dataplane/store/catalog.h"
#include "dataplane/store/plog.h"
#include "lib/iface/conf.h"

#define APPLY_TURN_MAX 16

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
struct apply_msg { /* MSG_PARTITIONS; replied when all of it is done */
    struct msg msg;
    uint32_t change_cnt; /* at most APPLY_TURN_MAX */
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
void apply_on_partitions(struct shard *s, struct msg *m);
void apply_on_partition_stats(struct shard *s, struct msg *m);
void apply_on_gap(struct shard *s, struct msg *m);

/* What a topic's configuration (overrides over the node's defaults) means for its logs. */
void plog_conf_of_topic(const struct conf *conf, const struct meta_image *img,
                        const struct meta_topic *t, struct plog_conf *ret);
