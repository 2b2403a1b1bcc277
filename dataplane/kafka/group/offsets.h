/* offsets.h - committed offsets of a group, sorted by topic name and partition.
 * Runs on: the shard of the group's partition. */
#pragma once
#include "dataplane/kafka/group/group.h"

struct ctopic { /* a topic that somebody committed to, shared by the groups of the shard */
    struct list link;
    uint32_t refs;
    struct span name;
    struct uuid id; /* zero: never seen in the image */
};
struct goffset {
    int32_t partition, leader_epoch;
    int64_t offset, commit_ms, expire_ms; /* expire_ms -1: after the retention */
    struct span metadata;
};
struct goffsets {
    struct ctopic *topic;
    struct goffset *v;
    uint32_t cnt, cap;
};

void offsets_on_commit(struct cpart *p, struct group_call *call);
void offsets_on_fetch(struct cpart *p, struct group_call *call);
void offsets_on_delete(struct cpart *p, struct group_call *call);

/* Loading: v == NULL: deleted. 0 or -E_*. */
NODISCARD int offsets_replay(struct cpart *p, const struct offset_commit_key *k,
                             const struct offset_commit_value *v);
void offsets_clear(struct group *g);
/* Tombstones of all offsets of the group. */
void offsets_write_deleted(struct group *g, struct coord_write *w, struct arena *a);
/* Topics that are gone lose their offsets; called when the image has changed. */
void offsets_on_image(struct coord *c);
/* Offsets past their retention, and groups that have nothing left. */
void offsets_expire(struct coord *c);
