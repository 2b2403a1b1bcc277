/* conf_rules.c - see conf_rules.h. */
#include "ctl/conf/conf_rules.h"
#include "lib/iface/net_addr.h"
#include <stdarg.h>
#include <string.h>

struct check {
    const struct conf *c;
    const struct conf_rule *r;
    uint32_t i; /* its number */
    conf_rules_report_fn *report;
    void *arg;
};

__attribute__((format(printf, 3, 4))) static void fault(const struct check *k, const char *key,
                                                        const char *fmt, ...)
{
    char path[64], text[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(path, sizeof(path), "rules[%u].%s", k->i, key);
    k->report(k->arg, path, text);
}

static void check_topic(const struct check *k)
{
    const struct conf *c = k->c;
    const char *t = k->r->topic;
    if (t[0] == '\0')
        fault(k, "topic", "must be given");
    else if (strncmp(t, "__", 2) == 0 || strcmp(t, "_sluice.gaps") == 0)
        fault(k, "topic", "'%s' is a topic of the appliance itself", t);
    if (k->r->topic_partitions == 0)
        fault(k, "partitions", "must be -1 (one per shard) or at least 1");
    for (uint32_t j = 0; t[0] != '\0' && j < c->listener_cnt; j++) {
        if (conf_is_dlq_of(t, c->listeners[j].topic))
            fault(k, "topic", "'%s' is the dead-letter topic of listeners[%u]", t, j);
        if (strcmp(t, c->listeners[j].topic) != 0)
            continue;
        if (k->r->topic_partitions != c->listeners[j].topic_partitions)
            fault(k, "partitions", "%d differs from listeners[%u], which has the same topic",
                  k->r->topic_partitions, j);
        if (k->r->compression != CONF_RULE_COMP_TOPIC)
            fault(k, "compression",
                  "cannot be chosen for '%s', which is also the topic of listeners[%u]: events of "
                  "one source share batches",
                  t, j);
    }
    for (uint32_t j = 0; t[0] != '\0' && j < k->i; j++) {
        if (strcmp(t, c->rules[j].topic) != 0)
            continue;
        if (k->r->topic_partitions != c->rules[j].topic_partitions)
            fault(k, "partitions", "%d differs from rules[%u], which has the same topic",
                  k->r->topic_partitions, j);
        if (k->r->compression != c->rules[j].compression)
            fault(k, "compression", "differs from rules[%u], which has the same topic", j);
        return; /* the others were compared with that one */
    }
}

/* What the events of a protocol never have. NULL: they may have everything the rule asks for. */
static const char *never_has(const struct conf_rule *r, enum conf_proto p)
{
    if (p == CONF_SYSLOG)
        return NULL;
    if (r->app[0] != '\0')
        return "app";
    if (p == CONF_GELF)
        return NULL;
    return r->facilities != 0        ? "facility"
           : r->severities != 0      ? "severity"
           : r->host[0] != '\0'      ? "host"
           : r->key == CONF_KEY_HOST ? "key"
                                     : NULL;
}

static void check_listener(const struct check *k)
{
    const struct conf *c = k->c;
    if (k->r->listener[0] == '\0')
        return;
    for (uint32_t j = 0; j < c->listener_cnt; j++) {
        const struct conf_listener *l = &c->listeners[j];
        if (strcmp(l->name, k->r->listener) != 0)
            continue;
        const char *what = never_has(k->r, l->proto);
        if (what != NULL)
            fault(k, what, "events of listener '%s' (%s) have no %s", l->name,
                  conf_proto_name(l->proto), strcmp(what, "key") == 0 ? "host" : what);
        return;
    }
    fault(k, "listener", "there is no listener named '%s' in listeners", k->r->listener);
}

static void check_pattern(const struct check *k, const char *key, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 1; i + 1 < n; i++) {
        if (text[i] == '*') {
            fault(k, key, "'%s': a * may stand at the beginning and at the end only", text);
            return;
        }
    }
}

static void check_source(const struct check *k)
{
    const struct conf_addr *s = &k->r->source;
    struct conf_addr net = *s;
    for (uint32_t b = conf_addr_bits(s); b < 128; b++)
        net.ip.ip[b / 8] &= (uint8_t) ~(0x80u >> b % 8);
    if (memcmp(net.ip.ip, s->ip.ip, 16) == 0)
        return;
    char is[NET_ADDR_TEXT_MAX], want[NET_ADDR_TEXT_MAX];
    (void)net_addr_format_ip(&s->ip, is); /* the lengths are not needed */
    (void)net_addr_format_ip(&net.ip, want);
    fault(k, "source", "%s has bits behind its prefix: write %s/%u", is, want, s->prefix_len);
}

/* ---- can the rule be reached? */

static bool text_covers(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n == 0 || strcmp(a, b) == 0)
        return true;
    if (m == 0)
        return false;
    /* "fw*" takes all that "fw-1" and "fw-*" take; other pairs of patterns are not compared */
    return a[n - 1] == '*' && a[0] != '*' && b[0] != '*' && m >= n - 1 && strncmp(a, b, n - 1) == 0;
}
static bool set_covers(uint32_t a, uint32_t b)
{
    return a == 0 || (b != 0 && (b & ~a) == 0);
}
static bool net_covers(const struct conf_addr *a, const struct conf_addr *b)
{
    return conf_addr_bits(a) <= conf_addr_bits(b) && conf_addr_contains(a, &b->ip);
}
static bool rule_covers(const struct conf_rule *a, const struct conf_rule *b)
{
    bool listener = a->listener[0] == '\0' || strcmp(a->listener, b->listener) == 0;
    return listener && net_covers(&a->source, &b->source) &&
           set_covers(a->facilities, b->facilities) && set_covers(a->severities, b->severities) &&
           text_covers(a->host, b->host) && text_covers(a->app, b->app);
}
static void check_reached(const struct check *k)
{
    for (uint32_t j = 0; j < k->i; j++) {
        if (rule_covers(&k->c->rules[j], k->r)) {
            fault(k, "topic", "no event can get here: rules[%u] takes all that this rule matches",
                  j);
            return;
        }
    }
}

void conf_rules_check(const struct conf *c, conf_rules_report_fn *report, void *arg)
{
    for (uint32_t i = 0; i < c->rule_cnt; i++) {
        struct check k = {.c = c, .r = &c->rules[i], .i = i, .report = report, .arg = arg};
        check_topic(&k);
        check_listener(&k);
        check_pattern(&k, "host", k.r->host);
        check_pattern(&k, "app", k.r->app);
        check_source(&k);
        check_reached(&k);
    }
}
