/* id_table.h - an intrusive hash table of things that have a text for a name: groups, transactional
 * ids. Chained; it grows, and never shrinks. The name's bytes are the owner's and stay while the
 * node is in the table.
 * Runs on: the shard's thread. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/base/span.h"
#include <stdint.h>

struct id_node {
    struct list bucket;
    struct span id;
    uint64_t hash;
};
struct id_table {
    struct list *buckets;
    uint32_t bucket_cnt; /* a power of two */
    uint32_t cnt;
};
/* 0 or -ENOMEM. */
NODISCARD int id_table_init(struct id_table *t);
void id_table_fini(struct id_table *t); /* one that failed to init is fine */
/* NULL: there is none. */
struct id_node *id_table_find(const struct id_table *t, struct span id);
/* The table has none of that name. Without memory to grow, chains get longer. */
void id_table_add(struct id_table *t, struct id_node *n, struct span id);
void id_table_del(struct id_table *t, struct id_node *n);
