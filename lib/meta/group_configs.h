/* group_configs.h - what groups have configured (resource type GROUP): names and overrides of the
 * metadata image. A group need not exist to have a configuration, as in Kafka.
 *
 * A set is immutable and shared by images through its reference count. Functions: any thread. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <stdint.h>

#define META_GROUPS_MAX 1000 /* groups with a configuration */

struct meta_config;
struct meta_group {
    char *name;
    uint32_t cnt; /* never 0 */
    struct meta_config *v;
};
struct meta_groups {
    uint32_t refs; /* atomic */
    uint32_t cnt;
    struct meta_group *v; /* sorted by name */
};
struct meta_groups *groups_get(struct meta_groups *g);
void groups_put(struct meta_groups *g); /* NULL is fine */

/* A copy of `old` (NULL: empty) in which the group has `value` (null: none) for `key`; groups
 * without any are left out. *ret is NULL when nothing is left. 0, -ENOMEM, -E_LIMIT
 * (META_GROUPS_MAX). */
NODISCARD int groups_set(const struct meta_groups *old, struct span name, struct span key,
                         struct span value, struct meta_groups **ret);
/* NULL: the group has no configuration. `g` may be NULL. */
const struct meta_group *groups_find(const struct meta_groups *g, struct span name);
