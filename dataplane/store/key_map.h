/* key_map.h - key -> last offset of a partition's dirty part: what compaction decides by (Kafka's
 * SkimpyOffsetMap).
 *
 * Keys are kept as 128-bit SipHash under a random secret per map: two keys with one hash would cost
 * the older one its record, and nobody who chooses keys can find such a pair. 24 bytes a key, of a
 * fixed budget; a full map covers the log up to `latest` and the next round goes on from there.
 * One thread at a time; memory is taken in init. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <stdbool.h>

#define KEY_MAP_SLOT_LEN 24u

struct key_map {
    struct key_slot *slots;
    uint32_t cap, cnt, cnt_max; /* cnt_max: 0.9 of cap */
    int64_t latest;             /* everything up to here is in the map; -1: nothing */
    uint64_t secret[2];
};
/* `bytes`: the budget, at least some slots are made. 0 or -ENOMEM. */
NODISCARD int key_map_init(struct key_map *m, uint64_t bytes);
void key_map_fini(struct key_map *m);
/* False: full, nothing changed. */
bool key_map_put(struct key_map *m, struct span key, int64_t offset);
/* -1: unknown. */
int64_t key_map_get(const struct key_map *m, struct span key);
