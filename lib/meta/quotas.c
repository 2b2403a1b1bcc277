/* quotas.c - see quotas.h. A set is one allocation for the entities and one per name. */
#include "lib/meta/quotas.h"
#include <stdlib.h>
#include <string.h>

static const char *const keys[QUOTA_TYPE_CNT] = {
    [QUOTA_PRODUCE] = "producer_byte_rate", [QUOTA_FETCH] = "consumer_byte_rate"};

const char *quota_key(enum quota_type type)
{
    return keys[type];
}

bool quota_type_of(struct span key, enum quota_type *ret)
{
    for (int i = 0; i < QUOTA_TYPE_CNT; i++) {
        if (!span_eq_str(key, keys[i]))
            continue;
        *ret = (enum quota_type)i;
        return true;
    }
    return false;
}

struct meta_quotas *quotas_get(struct meta_quotas *q)
{
    if (q != NULL)
        __atomic_fetch_add(&q->refs, 1, __ATOMIC_RELAXED); /* the caller already has one */
    return q;
}

static void name_free(struct quota_name *n)
{
    if (n->kind == QUOTA_NAMED)
        free((void *)(uintptr_t)n->name.p);
}

void quotas_put(struct meta_quotas *q)
{
    if (q == NULL || __atomic_sub_fetch(&q->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (uint32_t i = 0; i < q->cnt; i++) {
        name_free(&q->v[i].entity.user);
        name_free(&q->v[i].entity.client);
    }
    free(q->v);
    free(q);
}

/* ---- order and look-up ---- */

static int name_cmp(const struct quota_name *a, const struct quota_name *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->kind != QUOTA_NAMED)
        return 0;
    uint32_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
    int c = n == 0 ? 0 : memcmp(a->name.p, b->name.p, n);
    return c != 0 ? c : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static int entity_cmp(const struct quota_entity *a, const struct quota_entity *b)
{
    int c = name_cmp(&a->user, &b->user);
    return c != 0 ? c : name_cmp(&a->client, &b->client);
}

/* Where the entity is, or where it belongs. */
static uint32_t entity_pos(const struct meta_quotas *q, const struct quota_entity *entity,
                           bool *ret_found)
{
    uint32_t lo = 0, hi = q != NULL ? q->cnt : 0;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = entity_cmp(entity, &q->v[mid].entity);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    *ret_found = false;
    return lo;
}

const struct meta_quota *quotas_find(const struct meta_quotas *q, const struct quota_entity *entity)
{
    bool found;
    uint32_t i = entity_pos(q, entity, &found);
    return found ? &q->v[i] : NULL;
}

bool quotas_in_force(const struct meta_quotas *q, struct span user, struct span client,
                     enum quota_type type, struct quota_in_force *ret)
{
    static const struct {
        enum quota_name_kind user, client;
    } order[] = {
        {QUOTA_NAMED, QUOTA_NAMED},   {QUOTA_NAMED, QUOTA_DEFAULT},   {QUOTA_NAMED, QUOTA_ABSENT},
        {QUOTA_DEFAULT, QUOTA_NAMED}, {QUOTA_DEFAULT, QUOTA_DEFAULT}, {QUOTA_DEFAULT, QUOTA_ABSENT},
        {QUOTA_ABSENT, QUOTA_NAMED},  {QUOTA_ABSENT, QUOTA_DEFAULT},
    };
    if (q == NULL)
        return false;
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        struct quota_entity e = {{order[i].user, user}, {order[i].client, client}};
        if (e.client.kind == QUOTA_NAMED && client.len == 0)
            continue; /* nobody can name the empty client id; defaults hold for it */
        const struct meta_quota *m = quotas_find(q, &e);
        if (m == NULL || m->rate[type] <= 0)
            continue;
        ret->rate = m->rate[type];
        ret->user = e.user.kind == QUOTA_ABSENT ? SPAN_NULL : user;
        ret->client = e.client.kind == QUOTA_ABSENT ? SPAN_NULL : client;
        return true;
    }
    return false;
}

/* ---- the next version ---- */

static int name_dup(const struct quota_name *from, struct quota_name *to)
{
    *to = (struct quota_name){.kind = from->kind};
    if (from->kind != QUOTA_NAMED)
        return 0;
    uint8_t *copy = malloc(from->name.len + 1);
    if (copy == NULL) {
        to->kind = QUOTA_ABSENT;
        return -ENOMEM;
    }
    memcpy(copy, from->name.p, from->name.len);
    to->name = span_of(copy, from->name.len);
    return 0;
}

static int put(struct meta_quotas *q, const struct meta_quota *from)
{
    struct meta_quota *to = &q->v[q->cnt++]; /* zeroed: absent, absent */
    memcpy(to->rate, from->rate, sizeof(to->rate));
    int rc = name_dup(&from->entity.user, &to->entity.user);
    return rc < 0 ? rc : name_dup(&from->entity.client, &to->entity.client);
}

static bool has_rate(const struct meta_quota *m)
{
    for (int i = 0; i < QUOTA_TYPE_CNT; i++)
        if (m->rate[i] > 0)
            return true;
    return false;
}

int quotas_set(const struct meta_quotas *old, const struct quota_entity *entity,
               enum quota_type type, double rate, struct meta_quotas **ret)
{
    bool found;
    uint32_t pos = entity_pos(old, entity, &found), cnt = old != NULL ? old->cnt : 0;
    struct meta_quota changed = {.entity = *entity};
    if (found)
        memcpy(changed.rate, old->v[pos].rate, sizeof(changed.rate));
    else if (cnt == META_QUOTAS_MAX)
        return -E_LIMIT;
    changed.rate[type] = rate;
    struct meta_quotas *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return -ENOMEM;
    q->refs = 1;
    q->v = calloc((size_t)cnt + 1, sizeof(*q->v));
    int rc = q->v == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < pos && rc == 0; i++)
        rc = put(q, &old->v[i]);
    if (rc == 0 && has_rate(&changed))
        rc = put(q, &changed);
    for (uint32_t i = pos + found; i < cnt && rc == 0; i++)
        rc = put(q, &old->v[i]);
    if (rc < 0 || q->cnt == 0) {
        quotas_put(q);
        if (rc < 0)
            return rc;
        q = NULL;
    }
    *ret = q;
    return 0;
}
