/* id_table.c - see id_table.h. */
#include "dataplane/kafka/id_table.h"
#include "lib/base/hash.h"
#include <stdlib.h>

#define BUCKETS_MIN 64

int id_table_init(struct id_table *t)
{
    *t = (struct id_table){.bucket_cnt = BUCKETS_MIN};
    t->buckets = (struct list *)malloc(BUCKETS_MIN * sizeof(*t->buckets));
    if (t->buckets == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < BUCKETS_MIN; i++)
        list_init(&t->buckets[i]);
    return 0;
}

void id_table_fini(struct id_table *t)
{
    free(t->buckets);
    t->buckets = NULL;
}

static struct list *bucket_of(const struct id_table *t, uint64_t hash)
{
    return &t->buckets[hash & (t->bucket_cnt - 1)];
}

struct id_node *id_table_find(const struct id_table *t, struct span id)
{
    uint64_t hash = hash_span(id);
    list_for_each(l, bucket_of(t, hash))
    {
        struct id_node *n = container_of(l, struct id_node, bucket);
        if (n->hash == hash && span_eq(n->id, id))
            return n;
    }
    return NULL;
}

static void grow(struct id_table *t)
{
    struct id_table more = {.bucket_cnt = t->bucket_cnt * 2, .cnt = t->cnt};
    more.buckets = (struct list *)malloc(more.bucket_cnt * sizeof(*more.buckets));
    if (more.buckets == NULL)
        return;
    for (uint32_t i = 0; i < more.bucket_cnt; i++)
        list_init(&more.buckets[i]);
    for (uint32_t i = 0; i < t->bucket_cnt; i++) {
        struct list *l;
        while ((l = list_pop_head(&t->buckets[i])) != NULL)
            list_add_tail(bucket_of(&more, container_of(l, struct id_node, bucket)->hash), l);
    }
    free(t->buckets);
    *t = more;
}

void id_table_add(struct id_table *t, struct id_node *n, struct span id)
{
    if (t->cnt >= 2 * t->bucket_cnt)
        grow(t);
    n->id = id;
    n->hash = hash_span(id);
    list_add_tail(bucket_of(t, n->hash), &n->bucket);
    t->cnt++;
}

void id_table_del(struct id_table *t, struct id_node *n)
{
    list_del(&n->bucket);
    t->cnt--;
}
