/* police.c - see police.h. */
#include "dataplane/net/police.h"
#include "dataplane/net/bucket.h"
#include "lib/base/assert.h"
#include <stdlib.h>

struct rule {
    uint8_t from[16], mask[16];
    struct bucket_rate rate;
    _Atomic uint64_t *shared; /* the bucket of all its sources; NULL: each has its own */
};
struct source { /* rule NULL: a free place, full since ever */
    uint8_t ip[16];
    uint64_t full_at, passed, refused;
    const struct rule *rule;
};
struct police {
    uint32_t rule_cnt;
    struct rule rules[CONF_POLICE_MAX]; /* longest prefix first */
    uint32_t set_mask;
    uint64_t refused;
    struct source *sources;
};
struct police_shared {
    struct {
        _Alignas(64) _Atomic uint64_t full_at; /* shards write it: a cache line each */
    } bucket[CONF_POLICE_MAX];
};

int police_shared_create(struct police_shared **ret)
{
    struct police_shared *sh = aligned_alloc(64, sizeof(*sh));
    if (sh == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < CONF_POLICE_MAX; i++)
        atomic_init(&sh->bucket[i].full_at, 0);
    *ret = sh;
    return 0;
}

void police_shared_destroy(struct police_shared *sh)
{
    free(sh);
}

static void rule_init(struct rule *r, const struct conf_police_rule *c, _Atomic uint64_t *shared)
{
    uint32_t bits = conf_addr_bits(&c->from);
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t left = bits > i * 8 ? bits - i * 8 : 0;
        r->mask[i] = left >= 8 ? 0xff : (uint8_t)(0xff00 >> left);
        r->from[i] = c->from.ip.ip[i] & r->mask[i];
    }
    r->rate = bucket_rate(c->rate, c->burst > 0 ? c->burst : c->rate);
    r->shared = c->shared ? shared : NULL;
}

int police_create(const struct conf *conf, struct police_shared *sh, struct police **ret)
{
    *ret = NULL;
    if (conf->police_rule_cnt == 0)
        return 0;
    struct police *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    uint32_t sets = 1;
    while (sets * POLICE_WAYS < conf->police_sources_max)
        sets *= 2;
    p->set_mask = sets - 1;
    p->sources = calloc((size_t)sets * POLICE_WAYS, sizeof(*p->sources));
    if (p->sources == NULL) {
        free(p);
        return -ENOMEM;
    }
    for (uint32_t bits = 129; bits-- > 0;)
        for (uint32_t i = 0; i < conf->police_rule_cnt; i++)
            if (conf_addr_bits(&conf->police_rules[i].from) == bits)
                rule_init(&p->rules[p->rule_cnt++], &conf->police_rules[i], &sh->bucket[i].full_at);
    ASSERT(p->rule_cnt == conf->police_rule_cnt);
    *ret = p;
    return 0;
}

void police_destroy(struct police *p)
{
    if (p == NULL)
        return;
    free(p->sources);
    free(p);
}

static const struct rule *rule_of(const struct police *p, const uint8_t ip[16])
{
    for (uint32_t i = 0; i < p->rule_cnt; i++) {
        const struct rule *r = &p->rules[i];
        uint64_t a[2], m[2], f[2];
        memcpy(a, ip, 16);
        memcpy(m, r->mask, 16);
        memcpy(f, r->from, 16);
        if ((a[0] & m[0]) == f[0] && (a[1] & m[1]) == f[1])
            return r;
    }
    return NULL;
}

/* The source's entry; NULL: no rule is for it. */
static struct source *source_of(struct police *p, const struct net_addr *peer)
{
    struct source *set = &p->sources[(size_t)(source_hash(peer) & p->set_mask) * POLICE_WAYS];
    struct source *place = set;
    for (uint32_t i = 0; i < POLICE_WAYS; i++) {
        struct source *s = &set[i];
        if (s->rule != NULL && memcmp(s->ip, peer->ip, 16) == 0)
            return s;
        if (s->full_at < place->full_at)
            place = s;
    }
    const struct rule *rule = rule_of(p, peer->ip);
    if (rule == NULL)
        return NULL;
    *place = (struct source){.rule = rule};
    memcpy(place->ip, peer->ip, 16);
    return place;
}

uint32_t police_burst(struct police *p, uint64_t now_ns, struct dgram *dg, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct source *s = source_of(p, &dg[i].peer);
        if (s != NULL) {
            const struct rule *r = s->rule;
            bool may_pass;
            if (r->shared != NULL) {
                s->full_at = now_ns * BUCKET_TICKS_PER_NS; /* says only when it was last heard of */
                may_pass = bucket_take_shared(&r->rate, now_ns, r->shared);
            } else {
                may_pass = bucket_take(&r->rate, now_ns, &s->full_at);
            }
            s->passed += may_pass;
            s->refused += !may_pass;
            if (!may_pass)
                continue;
        }
        if (kept != i)
            dg[kept] = dg[i];
        kept++;
    }
    p->refused += n - kept;
    return kept;
}

uint64_t police_refused_cnt(const struct police *p)
{
    return p->refused;
}

static bool is_before(const struct source *s, const struct stats_talker *t)
{
    return s->refused != t->refused ? s->refused > t->refused : s->passed > t->passed;
}

uint32_t police_top(const struct police *p, struct stats_talker out[STATS_TALKERS_MAX])
{
    uint32_t n = 0;
    for (size_t i = 0; i < (size_t)(p->set_mask + 1) * POLICE_WAYS; i++) {
        const struct source *s = &p->sources[i];
        if (s->rule == NULL || (n == STATS_TALKERS_MAX && !is_before(s, &out[n - 1])))
            continue;
        uint32_t at = n < STATS_TALKERS_MAX ? n++ : n - 1;
        for (; at > 0 && is_before(s, &out[at - 1]); at--)
            out[at] = out[at - 1];
        out[at] = (struct stats_talker){.passed = s->passed, .refused = s->refused};
        memcpy(out[at].ip, s->ip, 16);
    }
    return n;
}
