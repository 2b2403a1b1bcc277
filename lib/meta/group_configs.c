/* group_configs.c - see group_configs.h. */
#include "lib/meta/group_configs.h"
#include "lib/meta/config_list.h"
#include <stdlib.h>

struct meta_groups *groups_get(struct meta_groups *g)
{
    if (g != NULL)
        __atomic_fetch_add(&g->refs, 1, __ATOMIC_RELAXED); /* the caller already has one */
    return g;
}

void groups_put(struct meta_groups *g)
{
    if (g == NULL || __atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (uint32_t i = 0; i < g->cnt; i++) {
        free(g->v[i].name);
        config_list_free(g->v[i].v, g->v[i].cnt);
    }
    free(g->v);
    free(g);
}

/* Where the group is, or where it belongs. */
static uint32_t group_pos(const struct meta_groups *g, struct span name, bool *ret_found)
{
    uint32_t lo = 0, hi = g != NULL ? g->cnt : 0;
    *ret_found = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = config_name_cmp(name, g->v[mid].name);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

const struct meta_group *groups_find(const struct meta_groups *g, struct span name)
{
    bool found;
    uint32_t i = group_pos(g, name, &found);
    return found ? &g->v[i] : NULL;
}

/* Appends a copy of `from`, or of an empty one. */
static int put(struct meta_groups *g, struct span name, const struct meta_group *from)
{
    struct meta_group *to = &g->v[g->cnt++]; /* zeroed */
    to->name = config_copy(name);
    if (to->name == NULL)
        return -ENOMEM;
    if (from == NULL)
        return 0;
    int rc = config_list_dup(from->v, from->cnt, &to->v);
    to->cnt = rc == 0 ? from->cnt : 0;
    return rc;
}

/* The changed group, or nothing when no key is left. */
static int put_changed(struct meta_groups *g, struct span name, const struct meta_group *from,
                       struct span key, struct span value)
{
    int rc = put(g, name, from);
    struct meta_group *to = &g->v[g->cnt - 1];
    if (rc == 0)
        rc = config_list_set(&to->v, &to->cnt, key, value);
    if (rc < 0 || to->cnt > 0)
        return rc;
    free(to->name);
    free(to->v);
    g->cnt--;
    *to = (struct meta_group){0};
    return 0;
}

int groups_set(const struct meta_groups *old, struct span name, struct span key, struct span value,
               struct meta_groups **ret)
{
    bool found;
    uint32_t pos = group_pos(old, name, &found), cnt = old != NULL ? old->cnt : 0;
    if (!found && cnt == META_GROUPS_MAX)
        return -E_LIMIT;
    struct meta_groups *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return -ENOMEM;
    g->refs = 1;
    g->v = calloc((size_t)cnt + 1, sizeof(*g->v));
    int rc = g->v == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < pos && rc == 0; i++)
        rc = put(g, span_str(old->v[i].name), &old->v[i]);
    if (rc == 0)
        rc = put_changed(g, name, found ? &old->v[pos] : NULL, key, value);
    for (uint32_t i = pos + found; i < cnt && rc == 0; i++)
        rc = put(g, span_str(old->v[i].name), &old->v[i]);
    if (rc < 0 || g->cnt == 0) {
        groups_put(g);
        if (rc < 0)
            return rc;
        g = NULL;
    }
    *ret = g;
    return 0;
}
