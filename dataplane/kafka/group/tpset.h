/* tpset.h - sets of topic partitions, as arrays sorted by topic id and partition.
 *
 * Each element carries an epoch for whoever needs one; it takes no part in comparisons, and where
 * two sets meet the first one's is kept. Results are in the arena given and live as long as it
 * does; false: the arena is full, and *ret is not written. Any thread. */
#pragma once
#include "lib/base/arena.h"
#include "lib/base/uuid.h"
#include <stdbool.h>

struct tp {
    struct uuid topic;
    int32_t partition, epoch;
};
struct tpset {
    struct tp *v;
    uint32_t cnt;
};

int tp_order(const struct tp *a, const struct tp *b);
/* Order what is not yet a set, and drop what is there twice. */
void tpset_sort(struct tpset *s);
bool tpset_and(struct arena *a, const struct tpset *x, const struct tpset *y, struct tpset *ret);
bool tpset_minus(struct arena *a, const struct tpset *x, const struct tpset *y, struct tpset *ret);
bool tpset_or(struct arena *a, const struct tpset *x, const struct tpset *y, struct tpset *ret);
bool tpset_meets(const struct tpset *x, const struct tpset *y);
bool tpset_is_subset(const struct tpset *x, const struct tpset *of);
bool tpset_eq(const struct tpset *x, const struct tpset *y);
/* The element, or NULL. */
const struct tp *tpset_find(const struct tpset *s, const struct uuid *topic, int32_t partition);
/* How many elements from `at` on are of the same topic. */
uint32_t tpset_run(const struct tpset *s, uint32_t at);
