/* owner_map.h - which shard owns a partition: a plain table, published together with the image.
 *
 * The control thread builds one map per published image (owner_map_create, owner_map_add for every
 * topic) and hands both to each shard in one struct image_msg (MSG_IMAGE). The shard's handler
 * replaces s->image and s->owners together, so that both always describe the same topics. A map is
 * never changed after it was published.
 * Lifetime: the control thread destroys a map after every shard has replied to a later MSG_IMAGE.
 * Runs on: building, the control thread; look-ups, any shard. Nothing here blocks. */
#pragma once
#include "dataplane/shard/msg.h"
#include "dataplane/shard/shard.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define OWNER_NONE UINT16_MAX

struct owner_map_slot {
    struct uuid topic_id; /* zero: free slot */
    uint32_t partition_cnt;
    uint8_t *owners; /* shard id of each partition; owned by the map */
};
struct owner_map {
    uint32_t cap; /* a power of two, at least twice the topics */
    uint32_t cnt;
    struct owner_map_slot *slots; /* open addressing, linear probing */
};

/* MSG_IMAGE: control thread -> shard. Both pointers stay valid until the reply to a later one. */
struct image_msg {
    struct msg msg;
    const struct meta_image *image;
    const struct owner_map *owners;
};

static inline uint32_t owner_map_hash(const struct uuid *id)
{
    uint64_t lo, hi;
    memcpy(&lo, id->b, 8);
    memcpy(&hi, id->b + 8, 8);
    uint64_t x = (lo ^ hi) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(x >> 32);
}

/* Room for topic_cnt topics. 0 or -ENOMEM. */
NODISCARD static inline int owner_map_create(uint32_t topic_cnt, struct owner_map **ret_map)
{
    uint32_t cap = 8;
    while (cap < 2 * (uint64_t)topic_cnt)
        cap *= 2;
    struct owner_map *m = (struct owner_map *)calloc(1, sizeof(*m));
    if (m == NULL)
        return -ENOMEM;
    m->slots = (struct owner_map_slot *)calloc(cap, sizeof(*m->slots));
    if (m->slots == NULL) {
        free(m);
        return -ENOMEM;
    }
    m->cap = cap;
    *ret_map = m;
    return 0;
}

/* NULL and half-built maps are fine. */
static inline void owner_map_destroy(struct owner_map *m)
{
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->cap; i++)
        free(m->slots[i].owners);
    free(m->slots);
    free(m);
}

/* Add a topic whose partitions belong to owners[0 .. partition_cnt); copies. 0, -ENOMEM, or
 * -E_LIMIT when the map already holds as many topics as it was created for. */
NODISCARD static inline int owner_map_add(struct owner_map *m, const struct uuid *topic_id,
                                          const uint8_t *owners, uint32_t partition_cnt)
{
    if (2 * (m->cnt + 1) > m->cap)
        return -E_LIMIT;
    uint32_t i = owner_map_hash(topic_id) & (m->cap - 1);
    while (!uuid_is_zero(&m->slots[i].topic_id))
        i = (i + 1) & (m->cap - 1);
    uint8_t *copy = (uint8_t *)malloc(partition_cnt > 0 ? partition_cnt : 1);
    if (copy == NULL)
        return -ENOMEM;
    if (partition_cnt > 0)
        memcpy(copy, owners, partition_cnt);
    m->slots[i] = (struct owner_map_slot){*topic_id, partition_cnt, copy};
    m->cnt++;
    return 0;
}

/* The shard that owns partition p of the topic, or OWNER_NONE. */
static inline uint16_t owner_map_find(const struct owner_map *m, const struct uuid *topic_id,
                                      int32_t p)
{
    if (m == NULL || uuid_is_zero(topic_id))
        return OWNER_NONE;
    uint32_t i = owner_map_hash(topic_id) & (m->cap - 1);
    while (!uuid_is_zero(&m->slots[i].topic_id)) {
        if (uuid_eq(&m->slots[i].topic_id, topic_id))
            return p >= 0 && (uint32_t)p < m->slots[i].partition_cnt ? m->slots[i].owners[p]
                                                                     : OWNER_NONE;
        i = (i + 1) & (m->cap - 1);
    }
    return OWNER_NONE;
}

static inline uint16_t partition_owner(const struct shard *s, const struct meta_topic *t, int32_t p)
{
    return owner_map_find(s->owners, &t->id, p);
}
