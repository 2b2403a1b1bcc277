/* assignor.h - who gets which partitions: the server-side assignors of consumer groups (KIP-848).
 *
 *   uniform  every member about the same number of partitions, and what a member has it keeps where
 *            that does not unbalance the group: no partition is with a member that has two or more
 *            above another one that could take it.
 *   range    per topic, runs of neighbouring partitions in the order of the members; topics with
 *            equally many partitions and the same members are partitioned alike, for joins.
 *
 * Both give every partition of a subscribed topic to exactly one of its subscribers, and the same
 * answer to the same question. Pure functions, any thread. Cost of uniform: partitions times
 * subscribers of the topic, in the worst case. */
#pragma once
#include "dataplane/kafka/group/tpset.h"
#include "lib/base/err.h"
#include "lib/base/span.h"

struct assign_topic {
    struct uuid id;
    uint32_t partition_cnt;
};
struct assign_member {
    struct span order_id;   /* instance id, else member id: the order of range */
    const uint32_t *topics; /* indexes of assign.topics, ascending */
    uint32_t topic_cnt;
    struct tpset current; /* the last target */
    struct tpset target;  /* the answer, in the arena */
};
struct assign {
    const struct assign_topic *topics; /* ascending by id, no two the same */
    uint32_t topic_cnt;
    struct assign_member *members;
    uint32_t member_cnt;
};
/* 0, or -E_LIMIT: the arena is full. */
typedef int assign_fn(struct arena *a, struct assign *as);
NODISCARD int assign_uniform(struct arena *a, struct assign *as);
NODISCARD int assign_range(struct arena *a, struct assign *as);

/* By the name in requests and records: NULL for another one. The first is the default. */
#define ASSIGNOR_DEFAULT "uniform"
assign_fn *assignor_find(struct span name);
