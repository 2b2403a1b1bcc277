/* assignor.c - see assignor.h. The answer is built as the owner of each partition, by index. */
#include "dataplane/kafka/group/assignor.h"
#include "lib/base/assert.h"
#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX

struct plan {
    struct assign *as;
    struct {
        uint32_t base;        /* of its partitions in `owner` */
        const uint32_t *subs; /* its subscribers: indexes of members */
        uint32_t sub_cnt;
    } * topics;
    uint32_t *owner; /* of each partition: index of a member */
    uint32_t *load;  /* of each member */
};

static int plan_init(struct arena *a, struct assign *as, struct plan *p)
{
    uint32_t total = 0, subs = 0;
    p->as = as;
    p->topics = arena_array(a, as->topic_cnt, sizeof(*p->topics));
    p->load = arena_array(a, as->member_cnt, sizeof(*p->load));
    for (uint32_t m = 0; m < as->member_cnt; m++)
        subs += as->members[m].topic_cnt;
    uint32_t *all = arena_array(a, subs, sizeof(*all));
    if (p->topics == NULL || p->load == NULL || all == NULL)
        return -E_LIMIT;
    for (uint32_t m = 0; m < as->member_cnt; m++)
        for (uint32_t i = 0; i < as->members[m].topic_cnt; i++)
            p->topics[as->members[m].topics[i]].sub_cnt++;
    for (uint32_t t = 0; t < as->topic_cnt; t++) {
        p->topics[t].base = total;
        p->topics[t].subs = all;
        all += p->topics[t].sub_cnt;
        p->topics[t].sub_cnt = 0;
        total += as->topics[t].partition_cnt;
    }
    for (uint32_t m = 0; m < as->member_cnt; m++)
        for (uint32_t i = 0; i < as->members[m].topic_cnt; i++) {
            uint32_t t = as->members[m].topics[i];
            ((uint32_t *)(uintptr_t)p->topics[t].subs)[p->topics[t].sub_cnt++] = m;
        }
    p->owner = arena_array(a, total, sizeof(*p->owner));
    if (p->owner == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < total; i++)
        p->owner[i] = NOBODY;
    return 0;
}

/* Owners by partition to partitions by owner. Topics ascend, so the sets come out sorted. */
static int plan_finish(struct arena *a, struct plan *p)
{
    const struct assign *as = p->as;
    for (uint32_t m = 0; m < as->member_cnt; m++) {
        struct tpset *t = &as->members[m].target;
        *t = (struct tpset){arena_array(a, p->load[m], sizeof(*t->v)), 0};
        if (t->v == NULL)
            return -E_LIMIT;
    }
    uint32_t i = 0; /* bases ascend with the topics' indexes */
    for (uint32_t t = 0; t < as->topic_cnt; t++)
        for (uint32_t k = 0; k < as->topics[t].partition_cnt; k++, i++) {
            if (p->owner[i] == NOBODY)
                continue;
            struct tpset *to = &as->members[p->owner[i]].target;
            ASSERT(to->cnt < p->load[p->owner[i]]);
            to->v[to->cnt++] = (struct tp){.topic = as->topics[t].id, .partition = (int32_t)k};
        }
    return 0;
}

/* ------------------------------------------------------------------- uniform */

static int topic_order(const void *a, const void *b)
{
    return memcmp(((const struct assign_topic *)a)->id.b, ((const struct assign_topic *)b)->id.b,
                  sizeof(((const struct assign_topic *)a)->id.b));
}

static int index_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void keep_current(struct plan *p)
{
    const struct assign *as = p->as;
    for (uint32_t m = 0; m < as->member_cnt; m++) {
        const struct assign_member *me = &as->members[m];
        for (uint32_t i = 0; i < me->current.cnt; i++) {
            const struct tp *tp = &me->current.v[i];
            struct assign_topic key = {.id = tp->topic};
            const struct assign_topic *t =
                as->topic_cnt == 0
                    ? NULL
                    : bsearch(&key, as->topics, as->topic_cnt, sizeof(key), topic_order);
            if (t == NULL || tp->partition < 0 || (uint32_t)tp->partition >= t->partition_cnt)
                continue;
            uint32_t idx = (uint32_t)(t - as->topics);
            if (me->topic_cnt == 0 ||
                bsearch(&idx, me->topics, me->topic_cnt, sizeof(idx), index_order) == NULL)
                continue;
            uint32_t *owner = &p->owner[p->topics[idx].base + (uint32_t)tp->partition];
            if (*owner != NOBODY)
                continue;
            *owner = m;
            p->load[m]++;
        }
    }
}

/* Topics that fewest members want first: theirs is the least choice. */
static int by_choice(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b; /* pairs: subscribers, index */
    return x[0] != y[0] ? (x[0] > y[0]) - (x[0] < y[0]) : (x[1] > y[1]) - (x[1] < y[1]);
}

static uint32_t least_loaded(const struct plan *p, uint32_t t)
{
    uint32_t best = p->topics[t].subs[0];
    for (uint32_t i = 1; i < p->topics[t].sub_cnt; i++)
        if (p->load[p->topics[t].subs[i]] < p->load[best])
            best = p->topics[t].subs[i];
    return best;
}

static int hand_out(struct arena *a, struct plan *p)
{
    const struct assign *as = p->as;
    uint32_t(*order)[2] = arena_array(a, as->topic_cnt, sizeof(*order));
    if (order == NULL)
        return -E_LIMIT;
    for (uint32_t t = 0; t < as->topic_cnt; t++) {
        order[t][0] = p->topics[t].sub_cnt;
        order[t][1] = t;
    }
    if (as->topic_cnt > 1)
        qsort(order, as->topic_cnt, sizeof(*order), by_choice);
    for (uint32_t i = 0; i < as->topic_cnt; i++) {
        uint32_t t = order[i][1];
        for (uint32_t k = 0; k < as->topics[t].partition_cnt && p->topics[t].sub_cnt > 0; k++) {
            uint32_t *owner = &p->owner[p->topics[t].base + k];
            if (*owner != NOBODY)
                continue;
            *owner = least_loaded(p, t);
            p->load[*owner]++;
        }
    }
    return 0;
}

/* One partition of m goes to whoever of its topics' subscribers has least, if that is two or more
 * below. The last one of a topic goes, so that who stays keeps its first ones. */
static bool relieve(struct plan *p, uint32_t m, uint32_t least)
{
    const struct assign_member *me = &p->as->members[m];
    uint32_t best = NOBODY, *from = NULL;
    for (uint32_t i = 0; i < me->topic_cnt; i++) {
        uint32_t t = me->topics[i], *owner = &p->owner[p->topics[t].base];
        uint32_t k = p->as->topics[t].partition_cnt;
        while (k > 0 && owner[k - 1] != m)
            k--;
        if (k == 0)
            continue;
        uint32_t to = least_loaded(p, t);
        if (best == NOBODY || p->load[to] < p->load[best]) {
            best = to;
            from = &owner[k - 1];
        }
        if (p->load[best] == least)
            break;
    }
    if (best == NOBODY || p->load[m] < p->load[best] + 2)
        return false;
    *from = best;
    p->load[m]--;
    p->load[best]++;
    return true;
}

/* One move, from the fullest member that can give, so that nothing moves twice. Every move makes
 * the sum of squared loads smaller, so this ends. */
static bool balance(struct plan *p)
{
    uint32_t most = 0, least = UINT32_MAX;
    for (uint32_t m = 0; m < p->as->member_cnt; m++) {
        most = p->load[m] > most ? p->load[m] : most;
        least = p->load[m] < least ? p->load[m] : least;
    }
    for (uint32_t load = most; load > least + 1; load--)
        for (uint32_t m = 0; m < p->as->member_cnt; m++)
            if (p->load[m] == load && relieve(p, m, least))
                return true;
    return false;
}

int assign_uniform(struct arena *a, struct assign *as)
{
    struct plan p;
    int rc = plan_init(a, as, &p);
    if (rc < 0)
        return rc;
    keep_current(&p);
    rc = hand_out(a, &p);
    if (rc < 0)
        return rc;
    if (as->member_cnt > 1)
        while (balance(&p))
            ;
    return plan_finish(a, &p);
}

/* ------------------------------------------------------------------- range */

static int member_order(const void *a, const void *b, void *arg)
{
    const struct assign *as = arg;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    struct span x = as->members[i].order_id, y = as->members[k].order_id;
    uint32_t n = x.len < y.len ? x.len : y.len;
    int d = n == 0 ? 0 : memcmp(x.p, y.p, n);
    if (d == 0)
        d = (x.len > y.len) - (x.len < y.len);
    return d != 0 ? d : (i > k) - (i < k);
}

int assign_range(struct arena *a, struct assign *as)
{
    struct plan p;
    int rc = plan_init(a, as, &p);
    if (rc < 0)
        return rc;
    for (uint32_t t = 0; t < as->topic_cnt; t++) {
        uint32_t *subs = (uint32_t *)(uintptr_t)p.topics[t].subs, n = p.topics[t].sub_cnt;
        if (n == 0)
            continue;
        qsort_r(subs, n, sizeof(*subs), member_order, as);
        uint32_t cnt = as->topics[t].partition_cnt, at = 0;
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < cnt / n + (i < cnt % n); k++) {
                p.owner[p.topics[t].base + at++] = subs[i];
                p.load[subs[i]]++;
            }
    }
    return plan_finish(a, &p);
}

assign_fn *assignor_find(struct span name)
{
    if (span_eq_str(name, ASSIGNOR_DEFAULT))
        return assign_uniform;
    return span_eq_str(name, "range") ? assign_range : NULL;
}
