/* quotas.h - client quotas of the metadata image: how many bytes a second a user, a client id, or
 * both together may produce and consume.
 *
 * An entity names a user, a client id, or both; each by name or as the default of all that have no
 * quota of their own. The one in force for a request is the first of Kafka's order that has the
 * rate asked for:
 *     user and client | user and default client | user | default user and client |
 *     default user and default client | default user | client | default client
 * and the bytes are counted together with those of all requests for which the same entity is in
 * force under the same names: a quota of a user counts all its clients, a default counts each name
 * for itself.
 *
 * A set is immutable and shared by images through its reference count. Functions: any thread. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <stdbool.h>
#include <stdint.h>

#define META_QUOTAS_MAX 10000 /* entities */

enum quota_type { QUOTA_PRODUCE, QUOTA_FETCH, QUOTA_TYPE_CNT };
/* "producer_byte_rate", "consumer_byte_rate"; static. */
const char *quota_key(enum quota_type type);
/* False: not a key that is kept here. */
bool quota_type_of(struct span key, enum quota_type *ret);

/* One half of an entity; also what a request is looked up with (always named then). */
enum quota_name_kind { QUOTA_ABSENT, QUOTA_DEFAULT, QUOTA_NAMED };
struct quota_name {
    enum quota_name_kind kind;
    struct span name; /* QUOTA_NAMED: not empty */
};
struct quota_entity {
    struct quota_name user, client;
};

struct meta_quota {
    struct quota_entity entity;  /* the set's memory */
    double rate[QUOTA_TYPE_CNT]; /* bytes a second; 0: not set */
};
struct meta_quotas {
    uint32_t refs; /* atomic */
    uint32_t cnt;
    struct meta_quota *v; /* ordered */
};
struct meta_quotas *quotas_get(struct meta_quotas *q);
void quotas_put(struct meta_quotas *q); /* NULL is fine */

/* A copy of `old` (NULL: empty) in which `entity` has `rate` (0: none) for `type`; entities without
 * any rate are left out. *ret is NULL when nothing is left. 0, -ENOMEM, -E_LIMIT
 * (META_QUOTAS_MAX). */
NODISCARD int quotas_set(const struct meta_quotas *old, const struct quota_entity *entity,
                         enum quota_type type, double rate, struct meta_quotas **ret);
/* The entity itself, or NULL. */
const struct meta_quota *quotas_find(const struct meta_quotas *q,
                                     const struct quota_entity *entity);

struct quota_in_force {
    double rate;
    /* Whose bytes are counted together: the names that count, or null ones. */
    struct span user, client;
};
/* False: this user with this client id has no quota of `type`. q may be NULL. The spans in *ret are
 * the arguments' own. */
bool quotas_in_force(const struct meta_quotas *q, struct span user, struct span client,
                     enum quota_type type, struct quota_in_force *ret);
