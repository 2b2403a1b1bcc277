/* netflow_seq.c - see netflow_seq.h. */
#include "dataplane/ingest/netflow_seq.h"
#include "dataplane/ingest/netflow.h"
#include <stdlib.h>

enum {
    SETS = NETFLOW_DOMAINS_MAX / NETFLOW_WAYS,
    IPFIX_TEMPLATE = 2,
    IPFIX_OPTIONS_TEMPLATE = 3,
    DATA_SET_MIN = 256,
    ENTERPRISE = 0x8000,
    VARIABLE_LENGTH = 65535,
};

/* Lengths of an IPFIX data record: fixed[0] bytes, a field of variable length, fixed[1] bytes, ...
 * variable_cnt such fields in all. */
struct ipfix_template {
    uint16_t id;  /* 0: free */
    bool unknown; /* too many fields of variable length */
    uint8_t variable_cnt;
    uint32_t fixed[NETFLOW_VARIABLE_MAX + 1];
};
struct domain {
    bool used, expects; /* expects: `next` is known */
    uint8_t ip[16];
    uint16_t listener, version;
    uint32_t id;
    uint32_t next;
    uint64_t heard; /* count of the table's notes: the smallest is the oldest */
    uint32_t template_cnt;
    struct ipfix_template template[NETFLOW_TEMPLATES_MAX];
};
struct netflow_seq {
    uint64_t notes;
    struct domain domain[NETFLOW_DOMAINS_MAX]; /* SETS of NETFLOW_WAYS */
};

int netflow_seq_create(struct netflow_seq **ret)
{
    struct netflow_seq *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return -ENOMEM;
    *ret = q;
    return 0;
}

void netflow_seq_destroy(struct netflow_seq *q)
{
    free(q);
}

static struct domain *domain_get(struct netflow_seq *q, uint16_t listener,
                                 const struct net_addr *exporter, const struct netflow_header *h)
{
    uint32_t hash = source_hash(exporter) ^ (h->domain * UINT32_C(0x9E3779B1)) ^ listener;
    struct domain *set = &q->domain[(hash ^ hash >> 16) % SETS * NETFLOW_WAYS], *oldest = set;
    for (uint32_t i = 0; i < NETFLOW_WAYS; i++) {
        struct domain *d = &set[i];
        if (d->used && d->listener == listener && d->version == h->version && d->id == h->domain &&
            memcmp(d->ip, exporter->ip, sizeof(d->ip)) == 0)
            return d;
        if (d->heard < oldest->heard)
            oldest = d;
    }
    memset(oldest, 0, offsetof(struct domain, template));
    oldest->used = true;
    oldest->listener = listener;
    oldest->version = h->version;
    oldest->id = h->domain;
    memcpy(oldest->ip, exporter->ip, sizeof(oldest->ip));
    return oldest;
}

/* ---- IPFIX: how many data records */
static struct ipfix_template *template_find(struct domain *d, uint16_t id)
{
    for (uint32_t i = 0; i < d->template_cnt; i++)
        if (d->template[i].id == id)
            return &d->template[i];
    return NULL;
}

/* One template record at the beginning of *s; moves behind it. false: it does not fit. */
static bool template_read(struct span *s, bool options, struct ipfix_template *ret)
{
    uint32_t at = options ? 6 : 4;
    if (s->len < 4)
        return false;
    uint16_t id = load_be16(s->p), fields = load_be16(s->p + 2);
    *ret = (struct ipfix_template){.id = id};
    if (fields == 0)
        at = 4; /* withdrawn */
    if (at > s->len)
        return false;
    for (uint32_t i = 0; i < fields; i++) {
        if (s->len - at < 4)
            return false;
        uint16_t element = load_be16(s->p + at), len = load_be16(s->p + at + 2);
        at += 4;
        if ((element & ENTERPRISE) != 0) {
            if (s->len - at < 4)
                return false;
            at += 4;
        }
        if (len != VARIABLE_LENGTH)
            ret->fixed[ret->variable_cnt] += len;
        else if (ret->variable_cnt == NETFLOW_VARIABLE_MAX)
            ret->unknown = true;
        else
            ret->variable_cnt++;
    }
    *s = span_of(s->p + at, s->len - at);
    return true;
}

static void templates_learn(struct domain *d, struct span s, bool options)
{
    struct ipfix_template t;
    while (s.len >= 4 && load_be16(s.p) >= DATA_SET_MIN && template_read(&s, options, &t)) {
        struct ipfix_template *to = template_find(d, t.id);
        if (to == NULL && d->template_cnt < NETFLOW_TEMPLATES_MAX)
            to = &d->template[d->template_cnt++];
        if (to != NULL)
            *to = t;
    }
}

/* Length of the record at the beginning of s; 0: it does not fit (padding), or has no bytes. */
static uint32_t record_len(const struct ipfix_template *t, struct span s)
{
    uint64_t at = t->fixed[0];
    for (uint32_t i = 1; i <= t->variable_cnt; i++) {
        if (at >= s.len)
            return 0;
        uint32_t len = s.p[at++];
        if (len == 255) {
            if (s.len - at < 2)
                return 0;
            len = load_be16(s.p + at);
            at += 2;
        }
        at += len + t->fixed[i];
    }
    return at <= s.len ? (uint32_t)at : 0;
}

/* false: not known, for want of a template. */
static bool records_count(struct domain *d, struct span sets, uint32_t *ret)
{
    struct netflow_set set;
    uint32_t cnt = 0;
    bool known = true;
    while (netflow_set_next(&sets, &set)) {
        if (set.id == IPFIX_TEMPLATE || set.id == IPFIX_OPTIONS_TEMPLATE)
            templates_learn(d, set.content, set.id == IPFIX_OPTIONS_TEMPLATE);
        if (set.id < DATA_SET_MIN)
            continue;
        const struct ipfix_template *t = template_find(d, set.id);
        if (t == NULL || t->unknown) {
            known = false;
            continue;
        }
        struct span left = set.content;
        for (uint32_t n; (n = record_len(t, left)) > 0; cnt++)
            left = span_of(left.p + n, left.len - n);
    }
    *ret = cnt;
    return known;
}

/* ---- the sequence */
struct netflow_seen netflow_seq_note(struct netflow_seq *q, uint16_t listener,
                                     const struct net_addr *exporter, struct span packet)
{
    struct netflow_seen seen = {0};
    struct netflow_header h;
    if (netflow_header_read(packet, &h) != NULL)
        return seen;
    struct domain *d = domain_get(q, listener, exporter, &h);
    uint32_t step = h.version == 5 ? h.count : 1;
    bool known = h.version != 10 || records_count(d, h.sets, &step);
    uint32_t ahead = h.sequence - d->next, behind = d->next - h.sequence;
    d->heard = ++q->notes;
    if (d->expects && ahead != 0 && behind < NETFLOW_LATE_MAX)
        return seen; /* late, or twice: what comes next is unchanged */
    if (d->expects && ahead != 0) {
        if (ahead > NETFLOW_GAP_MAX) {
            seen.restarts = 1;
        } else {
            seen.gaps = 1;
            seen.lost = ahead;
        }
    }
    d->expects = known;
    d->next = h.sequence + step;
    return seen;
}
