/* consumer_target.c - who subscribes to which topics, the target assignment, and the steps of
 * members towards it; after Kafka's CurrentAssignmentBuilder. */
#include "dataplane/kafka/group/consumer_priv.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)

/* ------------------------------------------------------------------- patterns */

/* The names of the topics it matches, sorted, in the arena. */
static int resolve(const struct meta_image *img, struct topic_regex *re, struct arena *a,
                   struct wire_spans *ret)
{
    uint32_t cnt = 0;
    struct span *v = arena_array(a, img->topic_cnt, sizeof(*v));
    if (v == NULL)
        return -E_LIMIT;
    uint64_t until = clock_mono_ns() + CONSUMER_REGEX_BUDGET_MS * MS_NS;
    for (uint32_t i = 0; i < img->topic_cnt; i++) {
        struct span name = span_str(img->by_name[i]->name);
        int rc = topic_regex_match(re, name);
        if (rc < 0 || (i % 64 == 63 && clock_mono_ns() > until))
            return -E_LIMIT;
        if (rc > 0)
            v[cnt++] = name;
    }
    *ret = (struct wire_spans){.v = v, .cnt = cnt};
    return 0;
}

int cregex_look(struct coord *c, struct cregex *re, struct arena *a)
{
    struct wire_spans topics;
    char why[128];
    int rc =
        re->compiled != NULL ? 0 : topic_regex_compile(re->text, &re->compiled, why, sizeof(why));
    if (rc == 0)
        rc = resolve(c->s->image, re->compiled, a, &topics);
    if (rc < 0)
        return rc;
    if (re->version >= 0 && names_eq(&re->topics, &topics))
        return 0;
    if (!consumer_set_names(c, &re->topics, &topics))
        return -ENOMEM;
    re->version = c->s->image->offset;
    re->ms = c->s->wall_ms;
    return 1;
}

/* Looks at every pattern again. True: some match other topics than before. */
static bool regexes_refresh(struct cchange *ch)
{
    struct group *g = ch->g;
    struct cgroup *cg = g->consumer;
    bool changed = false;
    list_for_each(n, &cg->regexes)
    {
        struct cregex *re = container_of(n, struct cregex, link);
        int rc = cregex_look(g->c, re, ch->a);
        if (rc < 0) /* it was all right when it came: the topics of then stay */
            LOG_WARN("group %.*s: pattern %.*s: %s", (int)g->id.len, (const char *)g->id.p,
                     (int)re->text.len, (const char *)re->text.p, err_text(rc));
        if (rc <= 0)
            continue;
        changed = true;
        consumer_put_regex(ch, re);
    }
    cg->regex_offset = g->c->s->image->offset;
    cg->regex_ns = g->c->s->now_ns;
    return changed;
}

/* ------------------------------------------------------------------- subscriptions */

static int by_id(const void *a, const void *b)
{
    const struct meta_topic *x = *(const struct meta_topic *const *)a,
                            *y = *(const struct meta_topic *const *)b;
    return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

struct topics { /* sorted by id, each once */
    const struct meta_topic **v;
    uint32_t cnt;
};

static void topics_sort(struct topics *t)
{
    uint32_t kept = 0;
    if (t->cnt > 1)
        qsort(t->v, t->cnt, sizeof(*t->v), by_id);
    for (uint32_t i = 0; i < t->cnt; i++)
        if (kept == 0 || t->v[kept - 1] != t->v[i])
            t->v[kept++] = t->v[i];
    t->cnt = kept;
}

static void topics_add(struct topics *t, const struct meta_image *img,
                       const struct wire_spans *names)
{
    for (uint32_t i = 0; i < names->cnt; i++) {
        const struct meta_topic *mt = image_topic_by_name(img, names->v[i]);
        if (mt != NULL)
            t->v[t->cnt++] = mt;
    }
}

/* The existing topics that m subscribes to. */
static bool member_topics(const struct cmember *m, struct arena *a, struct topics *ret)
{
    const struct meta_image *img = m->g->c->s->image;
    const struct cregex *re = span_is_null(m->regex) ? NULL : cregex_find(m->g->consumer, m->regex);
    uint32_t max = m->names.cnt + (re != NULL ? re->topics.cnt : 0);
    *ret = (struct topics){arena_array(a, max, sizeof(*ret->v)), 0};
    if (ret->v == NULL)
        return false;
    topics_add(ret, img, &m->names);
    if (re != NULL)
        topics_add(ret, img, &re->topics);
    topics_sort(ret);
    return true;
}

/* The same of all members; each[i] of the i-th. */
static bool group_topics(const struct group *g, struct arena *a, struct topics *each,
                         struct topics *all)
{
    const struct cgroup *cg = g->consumer;
    uint32_t i = 0, max = 0;
    list_for_each(n, &cg->members)
    {
        if (!member_topics(container_of(n, struct cmember, link), a, &each[i]))
            return false;
        max += each[i++].cnt;
    }
    *all = (struct topics){arena_array(a, max, sizeof(*all->v)), 0};
    if (all->v == NULL)
        return false;
    for (i = 0; i < cg->member_cnt; i++) {
        if (each[i].cnt > 0)
            memcpy(all->v + all->cnt, each[i].v, each[i].cnt * sizeof(*all->v));
        all->cnt += each[i].cnt;
    }
    topics_sort(all);
    return true;
}

/* FNV-1a: it is stored, so it must not change. */
static uint64_t hash_more(uint64_t h, const void *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const uint8_t *)p)[i]) * UINT64_C(0x100000001B3);
    return h;
}

/* Of what an assignment depends on: which topics, and how many partitions each. 0: no topics. */
static int64_t topics_hash(const struct topics *all)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (uint32_t i = 0; i < all->cnt; i++) {
        uint8_t cnt[4];
        store_be32(cnt, all->v[i]->partition_cnt);
        h = hash_more(h, all->v[i]->id.b, sizeof(all->v[i]->id.b));
        h = hash_more(h, all->v[i]->name, strlen(all->v[i]->name) + 1);
        h = hash_more(h, cnt, sizeof(cnt));
    }
    return all->cnt == 0 ? 0 : (int64_t)h;
}

struct span consumer_assignor(const struct group *g)
{
    struct span best = span_str(ASSIGNOR_DEFAULT);
    uint32_t most = 0;
    list_for_each(n, &g->consumer->members)
    {
        struct span name = container_of(n, struct cmember, link)->assignor;
        uint32_t votes = 0;
        if (span_is_null(name) ||
            assignor_find(name) == NULL) /* of a later version, from the log */
            continue;
        list_for_each(k, &g->consumer->members)
        {
            struct span other = container_of(k, struct cmember, link)->assignor;
            votes += !span_is_null(other) && span_eq(other, name);
        }
        if (votes > most) {
            most = votes;
            best = name;
        }
    }
    return best;
}

/* ------------------------------------------------------------------- target */

static int by_member_id(const void *a, const void *b)
{
    const struct cmember *x = *(struct cmember *const *)a, *y = *(struct cmember *const *)b;
    uint32_t n = x->id.len < y->id.len ? x->id.len : y->id.len;
    int d = n == 0 ? 0 : memcmp(x->id.p, y->id.p, n);
    return d != 0 ? d : (x->id.len > y->id.len) - (x->id.len < y->id.len);
}

struct ordered { /* a member and its place in the group's list */
    struct cmember *m;
    uint32_t place;
};

static bool assign_fill(struct assign *as, struct arena *a, const struct ordered *order,
                        const struct topics *each, const struct topics *all)
{
    struct assign_topic *t = arena_array(a, all->cnt, sizeof(*t));
    as->members = arena_array(a, as->member_cnt, sizeof(*as->members));
    if (t == NULL || as->members == NULL)
        return false;
    for (uint32_t i = 0; i < all->cnt; i++)
        t[i] = (struct assign_topic){all->v[i]->id, all->v[i]->partition_cnt};
    as->topics = t;
    as->topic_cnt = all->cnt;
    for (uint32_t i = 0; i < as->member_cnt; i++) {
        const struct cmember *m = order[i].m;
        const struct topics *mine = &each[order[i].place];
        uint32_t *idx = arena_array(a, mine->cnt, sizeof(*idx)), at = 0;
        if (idx == NULL)
            return false;
        for (uint32_t k = 0; k < mine->cnt; k++) { /* both are sorted by id */
            while (all->v[at] != mine->v[k])
                at++;
            idx[k] = at;
        }
        as->members[i] = (struct assign_member){
            .order_id = span_is_null(m->instance_id) ? m->id : m->instance_id,
            .topics = idx,
            .topic_cnt = mine->cnt,
            .current = m->target};
    }
    return true;
}

static void target_update(struct cchange *ch, const struct topics *each, const struct topics *all)
{
    struct group *g = ch->g;
    struct cgroup *cg = g->consumer;
    struct assign as = {.member_cnt = cg->member_cnt};
    struct ordered *order = arena_array(ch->a, cg->member_cnt, sizeof(*order));
    uint32_t i = 0;
    ch->rc = -E_LIMIT;
    if (order == NULL)
        return;
    list_for_each(n, &cg->members)
    {
        order[i] = (struct ordered){container_of(n, struct cmember, link), i};
        i++;
    }
    /* By id: the answer must not depend on who was read first. `m` is the first field. */
    if (cg->member_cnt > 1)
        qsort(order, cg->member_cnt, sizeof(*order), by_member_id);
    if (!assign_fill(&as, ch->a, order, each, all))
        return;
    ch->rc = assignor_find(consumer_assignor(g))(ch->a, &as);
    for (i = 0; ch->rc == 0 && i < as.member_cnt; i++) {
        struct cmember *m = order[i].m;
        if (tpset_eq(&m->target, &as.members[i].target))
            continue;
        if (!consumer_set_tpset(g->c, &m->target, &as.members[i].target)) {
            ch->rc = -ENOMEM;
            return;
        }
        consumer_put_target(ch, m);
    }
    if (ch->rc < 0)
        return;
    cg->target_epoch = cg->epoch;
    consumer_put_target_epoch(ch);
}

void consumer_follow(struct cchange *ch, bool bump, bool assign)
{
    struct group *g = ch->g;
    struct cgroup *cg = g->consumer;
    const struct shard *s = g->c->s;
    struct topics all, *each;
    if (ch->rc < 0)
        return;
    if (!list_is_empty(&cg->regexes) && cg->regex_offset != s->image->offset &&
        (cg->regex_offset < 0 || s->now_ns - cg->regex_ns >= CONSUMER_REGEX_REFRESH_MS * MS_NS) &&
        regexes_refresh(ch))
        bump = true;
    if (ch->rc < 0 ||
        (!bump && cg->image_offset == s->image->offset && cg->epoch == cg->target_epoch))
        return;
    each = arena_array(ch->a, cg->member_cnt, sizeof(*each));
    if (each == NULL || !group_topics(g, ch->a, each, &all)) {
        ch->rc = -E_LIMIT;
        return;
    }
    int64_t hash = topics_hash(&all);
    cg->image_offset = s->image->offset;
    if (bump || hash != cg->metadata_hash) {
        cg->metadata_hash = hash;
        cg->epoch++;
        g->c->k->st.group_rebalances++;
        consumer_put_group(ch);
    }
    if (assign && cg->epoch > cg->target_epoch)
        target_update(ch, each, &all);
}

/* ------------------------------------------------------------------- reconciliation */

static bool owns_some(const struct tpset *owned, const struct tpset *revoking)
{
    return owned == NULL || tpset_meets(owned, revoking);
}

/* From m's assigned partitions to its target: give up first, take what is free, wait for the rest.
 */
static void next_assignment(struct cchange *ch, struct cmember *m, const struct tpset *owned)
{
    struct cgroup *cg = m->g->consumer;
    struct tpset assigned, revoking, wanted, free_now, none = {0}, used, others;
    ch->rc = -E_LIMIT;
    if (!tpset_and(ch->a, &m->assigned, &m->target, &assigned) ||
        !tpset_minus(ch->a, &m->assigned, &assigned, &revoking) ||
        !tpset_minus(ch->a, &m->target, &assigned, &wanted) ||
        /* what it is giving up itself and shall have again is its own to take */
        !tpset_minus(ch->a, &cg->owned, &m->revoking, &others) ||
        !tpset_minus(ch->a, &wanted, &others, &free_now) ||
        !tpset_and(ch->a, &wanted, &others, &used))
        return;
    ch->rc = 0;
    m->previous_epoch = m->epoch;
    if (revoking.cnt > 0 && owns_some(owned, &revoking)) {
        m->state = CMEMBER_UNREVOKED;
    } else {
        m->epoch = cg->target_epoch;
        m->state = used.cnt > 0 ? CMEMBER_UNRELEASED : CMEMBER_STABLE;
        revoking = none;
        for (uint32_t i = 0; i < free_now.cnt; i++)
            free_now.v[i].epoch = m->epoch;
        if (!tpset_or(ch->a, &assigned, &free_now, &assigned))
            ch->rc = -E_LIMIT;
    }
    if (ch->rc == 0 && !cmember_own(m, &assigned, &revoking))
        ch->rc = -ENOMEM;
}

void consumer_reconcile(struct cchange *ch, struct cmember *m, const struct tpset *owned)
{
    struct cgroup *cg = m->g->consumer;
    if (ch->rc < 0)
        return;
    switch (m->state) {
    case CMEMBER_STABLE:
        if (m->epoch == cg->target_epoch)
            return;
        break;
    case CMEMBER_UNREVOKED:
        if (owns_some(owned, &m->revoking))
            return; /* ended by a heartbeat without them, or by its rebalance timer */
        break;
    case CMEMBER_UNRELEASED:
        break;
    }
    struct cmember before = *m;
    struct tpset was_assigned, was_revoking, none = {0};
    if (!tpset_or(ch->a, &m->assigned, &none, &was_assigned) ||
        !tpset_or(ch->a, &m->revoking, &none, &was_revoking)) {
        ch->rc = -E_LIMIT;
        return;
    }
    next_assignment(ch, m, owned);
    if (ch->rc < 0)
        return;
    if (m->state == before.state && m->epoch == before.epoch &&
        tpset_eq(&m->assigned, &was_assigned) && tpset_eq(&m->revoking, &was_revoking)) {
        m->previous_epoch = before.previous_epoch; /* it waits on */
        return;
    }
    consumer_put_current(ch, m);
    if (m->state == CMEMBER_UNREVOKED)
        consumer_arm_rebalance(m);
    else
        timer_cancel(m->g->c->s->timers, &m->rebalance);
}
