/* rules.c - see rules.h. */
#include "dataplane/ingest/rules.h"

static struct rule_pattern pattern_compile(const char *text)
{
    struct rule_pattern p = {.text = span_str(text), .any = text[0] == '\0'};
    p.open_begin = p.text.len > 0 && p.text.p[0] == '*';
    if (p.open_begin)
        p.text = span_of(p.text.p + 1, p.text.len - 1);
    p.open_end = p.text.len > 0 && p.text.p[p.text.len - 1] == '*';
    p.text.len -= p.open_end;
    return p;
}

static bool pattern_matches(const struct rule_pattern *p, struct span v)
{
    uint32_t n = p->text.len;
    if (p->any)
        return true;
    if (v.p == NULL || v.len < n)
        return false;
    if (n == 0)
        return p->open_begin || p->open_end;
    if (p->open_begin && p->open_end)
        return memmem(v.p, v.len, p->text.p, n) != NULL;
    if (p->open_begin)
        return memcmp(v.p + v.len - n, p->text.p, n) == 0;
    return (p->open_end || v.len == n) && memcmp(v.p, p->text.p, n) == 0;
}

bool rule_text_matches(const struct rules *r, uint32_t i, const struct rec *rec)
{
    return pattern_matches(&r->host[i], rec->header[RH_HOST]) &&
           pattern_matches(&r->app[i], rec->header[RH_APP]);
}

/* Bit f of a rule's mask: it takes number f. No mask: any number, and none, too. */
static void set_compile(uint64_t *set, uint32_t cnt, uint32_t mask, uint32_t rule)
{
    for (uint32_t f = 0; f <= cnt; f++)
        if (mask == 0 || (f < cnt && (mask >> f & 1) != 0))
            set[f] |= UINT64_C(1) << rule;
}

void rules_compile(struct rules *r, const struct conf *conf)
{
    *r = (struct rules){.conf = conf};
    for (uint32_t i = 0; i < conf->rule_cnt; i++) {
        const struct conf_rule *c = &conf->rules[i];
        set_compile(r->facility, REC_FACILITY_NONE, c->facilities, i);
        set_compile(r->severity, REC_SEVERITY_NONE, c->severities, i);
        r->host[i] = pattern_compile(c->host);
        r->app[i] = pattern_compile(c->app);
        if (!r->host[i].any || !r->app[i].any)
            r->text |= UINT64_C(1) << i;
    }
}

uint64_t rules_of_listener(const struct rules *r, const char *name)
{
    uint64_t set = 0;
    for (uint32_t i = 0; i < r->conf->rule_cnt; i++) {
        const char *want = r->conf->rules[i].listener;
        if (want[0] == '\0' || strcmp(want, name) == 0)
            set |= UINT64_C(1) << i;
    }
    return set;
}

uint64_t rules_of_source(const struct rules *r, const struct net_addr *a)
{
    uint64_t set = 0;
    for (uint32_t i = 0; i < r->conf->rule_cnt; i++)
        if (conf_addr_contains(&r->conf->rules[i].source, a))
            set |= UINT64_C(1) << i;
    return set;
}
