/* consumer_member.c - members of consumer groups, and the patterns they subscribe to. */
#include "dataplane/kafka/group/consumer_priv.h"
#include <stdlib.h>

static int span_order(struct span a, struct span b)
{
    uint32_t n = a.len < b.len ? a.len : b.len;
    int d = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return d != 0 ? d : (a.len > b.len) - (a.len < b.len);
}

static int by_text(const void *a, const void *b)
{
    return span_order(*(const struct span *)a, *(const struct span *)b);
}

bool consumer_set_span(struct coord *c, struct span *to, struct span from)
{
    struct span copy;
    if (!coord_keep(c, from, &copy))
        return false;
    coord_drop(c, to);
    *to = copy;
    return true;
}

bool consumer_set_tpset(struct coord *c, struct tpset *to, const struct tpset *from)
{
    struct tp *v = NULL;
    if (from->cnt > 0) {
        v = coord_alloc(c, from->cnt * sizeof(*v));
        if (v == NULL)
            return false;
        memcpy(v, from->v, from->cnt * sizeof(*v));
    }
    coord_free(c, to->v, to->cnt * sizeof(*to->v));
    *to = (struct tpset){v, from->cnt};
    return true;
}

static void names_free(struct coord *c, struct wire_spans *s)
{
    for (uint32_t i = 0; i < s->cnt; i++)
        coord_drop(c, &s->v[i]);
    coord_free(c, s->v, s->cnt * sizeof(*s->v));
    *s = (struct wire_spans){0};
}

bool consumer_set_names(struct coord *c, struct wire_spans *to, const struct wire_spans *from)
{
    struct wire_spans copy = {0};
    struct span *sorted = from->cnt > 0 ? calloc(from->cnt, sizeof(*sorted)) : NULL;
    if (from->cnt > 0 && sorted == NULL)
        return false;
    uint32_t cnt = 0;
    if (from->cnt > 0) {
        memcpy(sorted, from->v, from->cnt * sizeof(*sorted));
        qsort(sorted, from->cnt, sizeof(*sorted), by_text);
    }
    for (uint32_t i = 0; i < from->cnt; i++)
        if (cnt == 0 || span_order(sorted[cnt - 1], sorted[i]) != 0)
            sorted[cnt++] = sorted[i];
    bool ok = true;
    if (cnt > 0) {
        copy.v = coord_alloc(c, cnt * sizeof(*copy.v));
        ok = copy.v != NULL;
        copy.cnt = ok ? cnt : 0;
    }
    for (uint32_t i = 0; ok && i < cnt; i++)
        ok = coord_keep(c, sorted[i], &copy.v[i]);
    free(sorted);
    if (!ok) {
        names_free(c, &copy);
        return false;
    }
    names_free(c, to);
    *to = copy;
    return true;
}

bool names_eq(const struct wire_spans *a, const struct wire_spans *b)
{
    bool same = a->cnt == b->cnt;
    for (uint32_t i = 0; same && i < a->cnt; i++)
        same = span_eq(a->v[i], b->v[i]);
    return same;
}

static bool names_have(const struct wire_spans *s, struct span name)
{
    return s->cnt > 0 && bsearch(&name, s->v, s->cnt, sizeof(*s->v), by_text) != NULL;
}

bool consumer_subscribes(const struct group *g, struct span topic)
{
    const struct cgroup *cg = g->consumer;
    list_for_each(n, &cg->members)
    {
        if (names_have(&container_of(n, struct cmember, link)->names, topic))
            return true;
    }
    list_for_each(n, &cg->regexes)
    {
        if (names_have(&container_of(n, struct cregex, link)->topics, topic))
            return true;
    }
    return false;
}

/* ------------------------------------------------------------------- life */

struct cgroup *consumer_make(struct group *g)
{
    static const struct span type = {(const uint8_t *)"consumer", 8};
    if (g->consumer != NULL)
        return g->consumer;
    struct cgroup *cg = coord_alloc(g->c, sizeof(*cg));
    if (cg == NULL || !consumer_set_span(g->c, &g->protocol_type, type)) {
        coord_free(g->c, cg, sizeof(*cg));
        return NULL;
    }
    coord_drop(g->c, &g->protocol_name);
    g->generation = 0;
    list_init(&cg->members);
    list_init(&cg->regexes);
    cg->image_offset = cg->regex_offset = -1;
    g->consumer = cg;
    return cg;
}

void consumer_free(struct group *g)
{
    struct cgroup *cg = g->consumer;
    if (cg == NULL)
        return;
    while (!list_is_empty(&cg->members))
        cmember_free(container_of(cg->members.next, struct cmember, link));
    while (!list_is_empty(&cg->regexes))
        cregex_free(g->c, container_of(cg->regexes.next, struct cregex, link));
    coord_free(g->c, cg->owned.v, cg->owned.cnt * sizeof(*cg->owned.v));
    coord_free(g->c, cg, sizeof(*cg));
    g->consumer = NULL;
}

struct cmember *cmember_new(struct group *g, struct span id)
{
    struct cmember *m = coord_alloc(g->c, sizeof(*m));
    if (m == NULL)
        return NULL;
    if (!coord_keep(g->c, id, &m->id)) {
        coord_free(g->c, m, sizeof(*m));
        return NULL;
    }
    m->g = g;
    list_add_tail(&g->consumer->members, &m->link);
    g->consumer->member_cnt++;
    return m;
}

void cmember_free(struct cmember *m)
{
    struct group *g = m->g;
    struct coord *c = g->c;
    timer_cancel(c->s->timers, &m->session);
    timer_cancel(c->s->timers, &m->rebalance);
    list_del(&m->link);
    g->consumer->member_cnt--;
    struct span *texts[] = {&m->id,      &m->client_id, &m->client_host, &m->instance_id,
                            &m->rack_id, &m->regex,     &m->assignor};
    for (uint32_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        coord_drop(c, texts[i]);
    names_free(c, &m->names);
    struct tpset *sets[] = {&m->assigned, &m->revoking, &m->target};
    for (uint32_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        coord_free(c, sets[i]->v, sets[i]->cnt * sizeof(*sets[i]->v));
    coord_free(c, m, sizeof(*m));
}

struct cmember *cmember_find(const struct group *g, struct span id)
{
    list_for_each(n, &g->consumer->members)
    {
        struct cmember *m = container_of(n, struct cmember, link);
        if (span_eq(m->id, id))
            return m;
    }
    return NULL;
}

struct cmember *cmember_find_static(const struct group *g, struct span instance_id)
{
    list_for_each(n, &g->consumer->members)
    {
        struct cmember *m = container_of(n, struct cmember, link);
        if (!span_is_null(m->instance_id) && span_eq(m->instance_id, instance_id))
            return m;
    }
    return NULL;
}

struct cregex *cregex_find(const struct cgroup *cg, struct span text)
{
    list_for_each(n, &cg->regexes)
    {
        struct cregex *re = container_of(n, struct cregex, link);
        if (span_eq(re->text, text))
            return re;
    }
    return NULL;
}

struct cregex *cregex_new(struct coord *c, struct span text)
{
    struct cregex *re = coord_alloc(c, sizeof(*re));
    if (re == NULL)
        return NULL;
    if (!coord_keep(c, text, &re->text)) {
        coord_free(c, re, sizeof(*re));
        return NULL;
    }
    re->version = -1;
    return re;
}

void cregex_link(struct group *g, struct cregex *re)
{
    list_add_tail(&g->consumer->regexes, &re->link);
}

void cregex_free(struct coord *c, struct cregex *re)
{
    if (list_is_linked(&re->link))
        list_del(&re->link);
    coord_drop(c, &re->text);
    names_free(c, &re->topics);
    topic_regex_free(re->compiled);
    coord_free(c, re, sizeof(*re));
}

uint32_t cregex_users(const struct cgroup *cg, struct span text)
{
    uint32_t cnt = 0;
    list_for_each(n, &cg->members)
    {
        const struct cmember *m = container_of(n, struct cmember, link);
        cnt += !span_is_null(m->regex) && span_eq(m->regex, text);
    }
    return cnt;
}

/* ------------------------------------------------------------------- state */

static enum group_state state_of(const struct cgroup *cg)
{
    if (cg->member_cnt == 0)
        return GROUP_EMPTY;
    if (cg->epoch > cg->target_epoch)
        return GROUP_ASSIGNING;
    list_for_each(n, &cg->members)
    {
        const struct cmember *m = container_of(n, struct cmember, link);
        if (m->state != CMEMBER_STABLE || m->epoch != cg->target_epoch)
            return GROUP_RECONCILING;
    }
    return GROUP_STABLE;
}

void consumer_state_update(struct group *g)
{
    enum group_state state = state_of(g->consumer);
    if (state != g->state)
        group_set_state(g, state);
}

bool cmember_own(struct cmember *m, const struct tpset *assigned, const struct tpset *revoking)
{
    struct group *g = m->g;
    struct cgroup *cg = g->consumer;
    struct arena a;
    struct tpset had, has, others, all;
    arena_init(&a, COORD_CALL_BYTES_MAX);
    bool ok = tpset_or(&a, &m->assigned, &m->revoking, &had) &&
              tpset_or(&a, assigned, revoking, &has) && tpset_minus(&a, &cg->owned, &had, &others);
    for (uint32_t i = 0; ok && i < has.cnt; i++)
        has.v[i].epoch = m->epoch;
    ok = ok && tpset_or(&a, &has, &others, &all) &&
         consumer_set_tpset(g->c, &m->assigned, assigned) &&
         consumer_set_tpset(g->c, &m->revoking, revoking) &&
         consumer_set_tpset(g->c, &cg->owned, &all);
    arena_fini(&a);
    return ok;
}
