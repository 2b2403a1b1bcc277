/* conf_load.c - YAML events -> paths -> conf_set, then the checks across keys.
 *
 * The document is walked as events, with the path so far ("listeners[0]") as the only state, so a
 * message has the mark of the very token that is wrong. After a mistake the node is skipped and the
 * walk goes on. Aliases, tags and further documents are refused: a configuration is plain data. */
#include "ctl/conf/conf_load.h"
#include "ctl/conf/conf_rules.h"
#include "lib/base/assert.h"
#include "lib/iface/ip_limits.h"
#include "lib/iface/net_addr.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define FILE_MAX (4u << 20)
#define DEPTH_MAX 16
#define PATH_MAX_LEN 512
#define ERRORS_MAX 100

struct conf_seen {
    char *path;
    uint32_t line, col; /* 0: --set */
    bool is_wrong;      /* its value was refused: the field still has the default */
};

/* ---- messages ---- */

__attribute__((format(printf, 4, 5))) static void report(struct conf_load *l, uint32_t line,
                                                         uint32_t col, const char *fmt, ...)
{
    char text[2048], where[1200] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (++l->error_cnt > ERRORS_MAX + 1)
        return;
    if (l->error_cnt == ERRORS_MAX + 1) {
        line = col = 0;
        snprintf(text, sizeof(text), "further errors are not shown");
    }
    if (l->file != NULL && line > 0)
        snprintf(where, sizeof(where), "%s:%u:%u: ", l->file, line, col);
    else if (l->file != NULL && line == 0 && col == 1)
        snprintf(where, sizeof(where), "%s: ", l->file);
    size_t need = strlen(where) + strlen(text) + 2;
    if (l->errors_len + need > l->errors_cap) {
        size_t cap = (l->errors_len + need) * 2;
        char *p = realloc(l->errors, cap);
        ASSERT(p != NULL); /* start-up of the control plane: nothing sensible to do without */
        l->errors = p;
        l->errors_cap = cap;
    }
    l->errors_len += (size_t)snprintf(l->errors + l->errors_len, l->errors_cap - l->errors_len,
                                      "%s%s\n", where, text);
}
static struct conf_seen *seen_find(struct conf_load *l, const char *path)
{
    for (uint32_t i = l->seen_cnt; i-- > 0;) /* the last one wins */
        if (strcmp(l->seen[i].path, path) == 0)
            return &l->seen[i];
    return NULL;
}
static void seen_add(struct conf_load *l, const char *path, uint32_t line, uint32_t col)
{
    if (l->seen_cnt == l->seen_cap) {
        l->seen_cap = l->seen_cap == 0 ? 64 : l->seen_cap * 2;
        l->seen = realloc(l->seen, l->seen_cap * sizeof(*l->seen));
        ASSERT(l->seen != NULL);
    }
    char *copy = strdup(path);
    ASSERT(copy != NULL);
    l->seen[l->seen_cnt++] = (struct conf_seen){.path = copy, .line = line, .col = col};
}
/* True when the value of `path` was refused: that was said, and checks of what stands there instead
 * would only confuse. */
static bool is_wrong(struct conf_load *l, const char *path)
{
    const struct conf_seen *s = seen_find(l, path);
    return s != NULL && s->is_wrong;
}
/* Reports about a key, with the place where it (or the nearest thing above it) was given. */
__attribute__((format(printf, 3, 4))) static void report_at(struct conf_load *l, const char *path,
                                                            const char *fmt, ...)
{
    char text[1024], up[PATH_MAX_LEN];
    va_list ap;
    if (is_wrong(l, path))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(up, sizeof(up), "%s", path);
    struct conf_seen *s = seen_find(l, up);
    while (s == NULL) {
        char *dot = strrchr(up, '.'), *bracket = strrchr(up, '[');
        char *cut = dot > bracket ? dot : bracket;
        if (cut == NULL)
            break;
        *cut = '\0';
        s = seen_find(l, up);
    }
    if (s == NULL)
        report(l, 0, 1, "%s: %s", path, text);
    else if (s->line == 0)
        report(l, 0, 0, "--set %s: %s", path, text);
    else
        report(l, s->line, s->col, "%s: %s", path, text);
}

/* ---- YAML ---- */

struct doc { /* one walk over one document */
    struct conf_load *l;
    yaml_parser_t parser;
    yaml_event_t ev;
    bool have, broken; /* broken: the parser gave up, stop */
};
static uint32_t ev_line(const yaml_event_t *e)
{
    return (uint32_t)e->start_mark.line + 1;
}
static uint32_t ev_col(const yaml_event_t *e)
{
    return (uint32_t)e->start_mark.column + 1;
}
/* The next event in d->ev; false at a syntax error (reported) or after one. */
static bool next(struct doc *d)
{
    if (d->have)
        yaml_event_delete(&d->ev);
    d->have = false;
    if (d->broken)
        return false;
    if (!yaml_parser_parse(&d->parser, &d->ev)) {
        const yaml_parser_t *p = &d->parser;
        yaml_mark_t m = p->problem_mark;
        report(d->l, (uint32_t)m.line + 1, (uint32_t)m.column + 1, "%s%s%s",
               p->problem != NULL ? p->problem : "not YAML", p->context != NULL ? ", " : "",
               p->context != NULL ? p->context : "");
        d->broken = true;
        return false;
    }
    d->have = true;
    return true;
}
/* Passes over the node whose first event is current. */
static void skip_node(struct doc *d)
{
    int depth = 0;
    do {
        switch (d->ev.type) {
        case YAML_MAPPING_START_EVENT:
        case YAML_SEQUENCE_START_EVENT:
            depth++;
            break;
        case YAML_MAPPING_END_EVENT:
        case YAML_SEQUENCE_END_EVENT:
            depth--;
            break;
        default:
            break;
        }
    } while (depth > 0 && next(d));
}
static const char *scalar(const yaml_event_t *e)
{
    return (const char *)e->data.scalar.value;
}
static bool scalar_is_null(const yaml_event_t *e)
{
    const char *s = scalar(e);
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (s[0] == '\0' || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
}
static void set_value(struct doc *d, const char *path, const char *value, uint32_t line,
                      uint32_t col)
{
    char err[2048];
    if (conf_set(&d->l->conf, path, value, false, err, sizeof(err)) == 0)
        return;
    report(d->l, line, col, "%s", err);
    struct conf_seen *s = seen_find(d->l, path);
    if (s != NULL)
        s->is_wrong = true;
}
static void read_scalar(struct doc *d, const char *path)
{
    uint32_t line = ev_line(&d->ev), col = ev_col(&d->ev);
    if (strlen(scalar(&d->ev)) != d->ev.data.scalar.length)
        report(d->l, line, col, "%s: contains a NUL", path);
    else if (scalar_is_null(&d->ev))
        report(d->l, line, col, "%s has no value: write \"\" for an empty text, or remove the key",
               path);
    else
        set_value(d, path, scalar(&d->ev), line, col);
}
/* headers: [source, host] */
static void read_set(struct doc *d, const char *path)
{
    uint32_t line = ev_line(&d->ev), col = ev_col(&d->ev);
    char words[512] = "none";
    size_t len = 0;
    while (next(d) && d->ev.type != YAML_SEQUENCE_END_EVENT) {
        if (d->ev.type != YAML_SCALAR_EVENT) {
            report(d->l, ev_line(&d->ev), ev_col(&d->ev), "%s: expected a name", path);
            skip_node(d);
            continue;
        }
        int n =
            snprintf(words + len, sizeof(words) - len, "%s%s", len == 0 ? "" : " ", scalar(&d->ev));
        if (n < 0 || (size_t)n >= sizeof(words) - len) {
            report(d->l, line, col, "%s: too many names", path);
            return;
        }
        len += (size_t)n;
    }
    set_value(d, path, words, line, col);
}
static void read_mapping(struct doc *d, const char *path, int depth);

static void read_list(struct doc *d, const char *path, bool values, int depth)
{
    int rc = conf_list_clear(&d->l->conf, path);
    ASSERT(rc == 0); /* the caller asked what the path is, and its parents exist */
    uint32_t at = 0;
    while (next(d) && d->ev.type != YAML_SEQUENCE_END_EVENT) {
        char elem[PATH_MAX_LEN + 16];
        snprintf(elem, sizeof(elem), "%s[%u]", path, at);
        seen_add(d->l, elem, ev_line(&d->ev), ev_col(&d->ev));
        enum yaml_event_type_e want = values ? YAML_SCALAR_EVENT : YAML_MAPPING_START_EVENT;
        if (d->ev.type != want) {
            report(d->l, ev_line(&d->ev), ev_col(&d->ev), "%s: expected %s", elem,
                   values ? "one value" : "a mapping of keys (key: value)");
            skip_node(d);
            continue;
        }
        if (values) {
            uint32_t before = d->l->error_cnt;
            read_scalar(d, elem);
            at += d->l->error_cnt == before;
            continue;
        }
        char err[256];
        if (conf_list_append(&d->l->conf, path, err, sizeof(err)) < 0) {
            report(d->l, ev_line(&d->ev), ev_col(&d->ev), "%s", err);
            skip_node(d);
            continue;
        }
        read_mapping(d, elem, depth + 1);
        at++;
    }
}
static void read_node(struct doc *d, const char *path, int depth)
{
    enum conf_node kind = conf_node_kind(path);
    uint32_t line = ev_line(&d->ev), col = ev_col(&d->ev);
    if (d->ev.type == YAML_ALIAS_EVENT) {
        report(d->l, line, col, "%s: aliases (*name) are not supported: write the value out", path);
        return;
    }
    switch (kind) {
    case CONF_NODE_KEY:
        if (d->ev.type == YAML_SCALAR_EVENT)
            read_scalar(d, path);
        else if (d->ev.type == YAML_SEQUENCE_START_EVENT && conf_node_is_set(path))
            read_set(d, path);
        else {
            report(d->l, line, col, "%s: expected one value", path);
            skip_node(d);
        }
        break;
    case CONF_NODE_LIST:
    case CONF_NODE_VALUES:
        if (d->ev.type == YAML_SEQUENCE_START_EVENT) {
            read_list(d, path, kind == CONF_NODE_VALUES, depth);
        } else {
            report(d->l, line, col, "%s: expected a list (lines starting with '- ')", path);
            skip_node(d);
        }
        break;
    case CONF_NODE_GROUP:
        if (d->ev.type == YAML_MAPPING_START_EVENT) {
            read_mapping(d, path, depth + 1);
        } else if (!(d->ev.type == YAML_SCALAR_EVENT && scalar_is_null(&d->ev))) {
            report(d->l, line, col, "%s: expected a mapping of keys (key: value)", path);
            skip_node(d);
        }
        break;
    default:
        UNREACHABLE(); /* read_mapping asked before */
    }
}
static void unknown_key(struct doc *d, const char *parent, const char *key)
{
    const char *near = conf_suggest(parent, key);
    char in[PATH_MAX_LEN + 8] = "", hint[128] = "";
    if (parent[0] != '\0')
        snprintf(in, sizeof(in), " in %s", parent);
    if (near != NULL)
        snprintf(hint, sizeof(hint), "; did you mean '%s'?", near);
    report(d->l, ev_line(&d->ev), ev_col(&d->ev), "unknown key '%s'%s%s", key, in, hint);
}
static bool key_known(const char *parent, const char *key, char *path, size_t cap)
{
    if (strpbrk(key, ".[]") != NULL)
        return false;
    int n = snprintf(path, cap, "%s%s%s", parent, parent[0] == '\0' ? "" : ".", key);
    if (n < 0 || (size_t)n >= cap || key[0] == '\0')
        return false;
    return conf_node_kind(path) != CONF_NODE_UNKNOWN && !conf_node_is_internal(path);
}
/* The event is MAPPING_START; ends on MAPPING_END. */
static void read_mapping(struct doc *d, const char *parent, int depth)
{
    if (depth > DEPTH_MAX) {
        report(d->l, ev_line(&d->ev), ev_col(&d->ev), "nested too deeply");
        skip_node(d);
        return;
    }
    while (next(d) && d->ev.type != YAML_MAPPING_END_EVENT) {
        char path[PATH_MAX_LEN];
        bool known = false;
        if (d->ev.type != YAML_SCALAR_EVENT) {
            report(d->l, ev_line(&d->ev), ev_col(&d->ev), "expected a key");
            skip_node(d);
        } else {
            known = key_known(parent, scalar(&d->ev), path, sizeof(path));
            if (!known)
                unknown_key(d, parent, scalar(&d->ev));
        }
        if (known) {
            const struct conf_seen *s = seen_find(d->l, path);
            if (s != NULL) {
                report(d->l, ev_line(&d->ev), ev_col(&d->ev),
                       "%s is given twice (first on line %u)", path, s->line);
                known = false;
            } else {
                seen_add(d->l, path, ev_line(&d->ev), ev_col(&d->ev));
            }
        }
        if (!next(d))
            return;
        if (known)
            read_node(d, path, depth);
        else
            skip_node(d);
    }
}
static void read_document(struct doc *d)
{
    if (!next(d) || !next(d)) /* STREAM_START, then DOCUMENT_START or STREAM_END */
        return;
    if (d->ev.type == YAML_STREAM_END_EVENT)
        return; /* empty: all defaults */
    if (!next(d))
        return;
    if (d->ev.type == YAML_MAPPING_START_EVENT) {
        read_mapping(d, "", 0);
    } else if (!(d->ev.type == YAML_SCALAR_EVENT && scalar_is_null(&d->ev))) {
        report(d->l, ev_line(&d->ev), ev_col(&d->ev), "expected keys (key: value) at the top");
        return;
    }
    if (!next(d) || !next(d)) /* DOCUMENT_END, then STREAM_END */
        return;
    if (d->ev.type != YAML_STREAM_END_EVENT)
        report(d->l, ev_line(&d->ev), ev_col(&d->ev),
               "a second document: one file is one document");
}
void conf_load_text(struct conf_load *l, const char *name, const char *text, size_t len)
{
    struct doc d = {.l = l};
    l->file = name;
    if (!yaml_parser_initialize(&d.parser)) {
        report(l, 0, 1, "out of memory");
        return;
    }
    yaml_parser_set_input_string(&d.parser, (const unsigned char *)text, len);
    read_document(&d);
    if (d.have)
        yaml_event_delete(&d.ev);
    yaml_parser_delete(&d.parser);
}
void conf_load_file(struct conf_load *l, const char *path)
{
    l->file = path;
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        report(l, 0, 1, "cannot open: %s", strerror(errno));
        return;
    }
    char *buf = malloc(FILE_MAX + 1);
    ASSERT(buf != NULL);
    size_t len = fread(buf, 1, FILE_MAX + 1, f);
    if (ferror(f))
        report(l, 0, 1, "cannot read: %s", strerror(errno));
    else if (len > FILE_MAX)
        report(l, 0, 1, "is larger than %u bytes", FILE_MAX);
    else
        conf_load_text(l, path, buf, len);
    free(buf);
    fclose(f);
}
void conf_load_set(struct conf_load *l, const char *assignment)
{
    char path[PATH_MAX_LEN], err[2048];
    const char *eq = strchr(assignment, '=');
    if (eq == NULL || eq == assignment || (size_t)(eq - assignment) >= sizeof(path)) {
        report(l, 0, 0, "--set %s: expected key=value", assignment);
        return;
    }
    snprintf(path, sizeof(path), "%.*s", (int)(eq - assignment), assignment);
    if (conf_set(&l->conf, path, eq + 1, false, err, sizeof(err)) < 0)
        report(l, 0, 0, "--set %s: %s", assignment, err);
    else
        seen_add(l, path, 0, 0);
}
void conf_load_init(struct conf_load *l, bool dev)
{
    memset(l, 0, sizeof(*l));
    l->errors = strdup("");
    ASSERT(l->errors != NULL);
    conf_init(&l->conf);
    if (dev)
        conf_dev(&l->conf);
}
void conf_load_fini(struct conf_load *l)
{
    for (uint32_t i = 0; i < l->seen_cnt; i++)
        free(l->seen[i].path);
    free(l->seen);
    free(l->errors);
    memset(l, 0, sizeof(*l));
}

/* ---- checks across keys ---- */

static void check_names(struct conf_load *l)
{
    struct conf *c = &l->conf;
    char path[64];
    for (uint32_t i = 0; i < c->kafka_cnt; i++) {
        snprintf(path, sizeof(path), "kafka.listeners[%u].name", i);
        if (c->kafka[i].name[0] == '\0')
            report_at(l, path, "must be given");
        for (uint32_t j = 0; j < i; j++)
            if (c->kafka[i].name[0] != '\0' && strcmp(c->kafka[i].name, c->kafka[j].name) == 0)
                report_at(l, path, "'%s' is also the name of kafka.listeners[%u]", c->kafka[i].name,
                          j);
    }
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        snprintf(path, sizeof(path), "ports[%u].name", i);
        if (c->ports[i].name[0] == '\0')
            report_at(l, path, "must be given");
        for (uint32_t j = 0; j < i; j++)
            if (c->ports[i].name[0] != '\0' && strcmp(c->ports[i].name, c->ports[j].name) == 0)
                report_at(l, path, "'%s' is also the name of ports[%u]", c->ports[i].name, j);
    }
    for (uint32_t i = 0; i < c->listener_cnt; i++) {
        const char *name = c->listeners[i].name;
        snprintf(path, sizeof(path), "listeners[%u].name", i);
        if (name[0] == '\0')
            report_at(l, path, "must be given");
        if (strcmp(name, "http") == 0)
            report_at(l, path, "'http' is taken by the HTTP server in run/ports");
        for (uint32_t j = 0; j < i; j++)
            if (name[0] != '\0' && strcmp(name, c->listeners[j].name) == 0)
                report_at(l, path, "'%s' is also the name of listeners[%u]", name, j);
        for (uint32_t j = 0; j < c->kafka_cnt; j++)
            if (name[0] != '\0' && strcmp(name, c->kafka[j].name) == 0)
                report_at(l, path, "'%s' is also the name of kafka.listeners[%u]", name, j);
    }
}
struct bound { /* one kernel socket */
    char path[48];
    bool tcp;
    struct net_addr a;
};
/* The same port of the same protocol on overlapping addresses. */
static bool bound_clash(const struct bound *a, const struct bound *b)
{
    if (a->tcp != b->tcp || a->a.port != b->a.port || a->a.port == 0)
        return false;
    if (memcmp(a->a.ip, b->a.ip, 16) == 0)
        return true;
    const struct net_addr *any = net_addr_is_any(&a->a) ? &a->a : &b->a;
    const struct net_addr *other = any == &a->a ? &b->a : &a->a;
    if (!net_addr_is_any(any))
        return false;
    return !net_addr_is_v4(any) || net_addr_is_v4(other); /* [::] takes IPv4 too */
}
static void check_binds(struct conf_load *l)
{
    struct conf *c = &l->conf;
    struct bound b[CONF_LISTENERS_MAX + CONF_KAFKA_MAX + 1];
    char text[NET_ADDR_TEXT_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->kafka_cnt; i++, n++) {
        b[n] = (struct bound){.tcp = true, .a = c->kafka[i].bind};
        snprintf(b[n].path, sizeof(b[n].path), "kafka.listeners[%u].bind", i);
    }
    b[n] = (struct bound){.tcp = true, .a = c->http_bind, .path = "http.bind"};
    n++;
    for (uint32_t i = 0; i < c->listener_cnt; i++) {
        if (c->listeners[i].port_name[0] != '\0')
            continue;
        b[n] =
            (struct bound){.tcp = c->listeners[i].transport == CONF_TCP, .a = c->listeners[i].bind};
        snprintf(b[n].path, sizeof(b[n].path), "listeners[%u].bind", i);
        n++;
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (!bound_clash(&b[i], &b[j]) || is_wrong(l, b[j].path))
                continue;
            net_addr_format(&b[i].a, text);
            report_at(l, b[i].path, "%s %s is already taken by %s", b[i].tcp ? "TCP" : "UDP", text,
                      b[j].path);
        }
    }
}
static void check_kafka(struct conf_load *l)
{
    struct conf *c = &l->conf;
    char path[64], text[NET_ADDR_TEXT_MAX];
    if (c->kafka_cnt == 0)
        report_at(l, "kafka.listeners", "is empty: Kafka clients would have nowhere to connect");
    for (uint32_t i = 0; i < c->kafka_cnt; i++) {
        const struct conf_kafka_listener *k = &c->kafka[i];
        net_addr_format(&k->bind, text);
        snprintf(path, sizeof(path), "kafka.listeners[%u].bind", i);
        if (!net_addr_is_loopback(&k->bind) && !k->allow_plaintext)
            report_at(l, path,
                      "%s is not a loopback address and the listener is not encrypted; to accept "
                      "that anyone who reaches it can read and write everything, add "
                      "allow_plaintext: true",
                      text);
        if (net_addr_is_any(&k->bind) && k->advertised_host[0] == '\0')
            report_at(l, path, "%s is not an address clients can connect to: add advertised_host",
                      text);
    }
    char why[160];
    if (ip_limits_check(c->kafka_connections_max_per_ip_overrides, why, sizeof(why)) < 0)
        report_at(l, "kafka.connections_max_per_ip_overrides", "%s", why);
    if (c->fetch_max_bytes < c->message_max_bytes)
        report_at(l, "kafka.fetch_max_bytes", "is smaller than topic_defaults.message_max_bytes");
    if (c->request_bytes / 4 < c->socket_request_max_bytes)
        report_at(l, "memory.requests",
                  "is smaller than four times kafka.request_max_bytes (%u bytes): the largest "
                  "request could never be read",
                  c->socket_request_max_bytes);
}
static void check_port_listener(struct conf_load *l, uint32_t i)
{
    struct conf *c = &l->conf;
    const struct conf_listener *in = &c->listeners[i];
    char path[64], text[NET_ADDR_TEXT_MAX];
    const struct conf_port *port = NULL;
    for (uint32_t j = 0; j < c->port_cnt; j++)
        if (strcmp(c->ports[j].name, in->port_name) == 0)
            port = &c->ports[j];
    if (port == NULL) {
        snprintf(path, sizeof(path), "listeners[%u].port", i);
        report_at(l, path, "there is no port named '%s' in ports", in->port_name);
        return;
    }
    if (in->transport == CONF_TCP) {
        snprintf(path, sizeof(path), "listeners[%u].transport", i);
        report_at(l, path, "tcp is served on kernel sockets only: remove 'port'");
        return;
    }
    snprintf(path, sizeof(path), "listeners[%u].bind", i);
    if (in->bind.port == 0)
        report_at(l, path, "port 0 (any free one) exists on kernel sockets only");
    bool own = net_addr_is_any(&in->bind);
    for (uint32_t j = 0; j < port->addr_cnt; j++)
        own = own || memcmp(port->addrs[j].ip.ip, in->bind.ip, 16) == 0;
    net_addr_format_ip(&in->bind, text);
    if (!own)
        report_at(l, path, "%s is not an address of port '%s'", text, port->name);
    for (uint32_t j = 0; j < i; j++) {
        const struct conf_listener *o = &c->listeners[j];
        bool overlap = memcmp(o->bind.ip, in->bind.ip, 16) == 0 || net_addr_is_any(&o->bind) ||
                       net_addr_is_any(&in->bind);
        if (strcmp(o->port_name, in->port_name) == 0 && o->bind.port == in->bind.port && overlap)
            report_at(l, path, "UDP port %u of port '%s' is already taken by listeners[%u]",
                      in->bind.port, port->name, j);
    }
}
static void check_listeners(struct conf_load *l)
{
    struct conf *c = &l->conf;
    char path[64];
    for (uint32_t i = 0; i < c->listener_cnt; i++) {
        const struct conf_listener *in = &c->listeners[i];
        snprintf(path, sizeof(path), "listeners[%u].topic", i);
        if (in->topic[0] == '\0')
            report_at(l, path, "must be given");
        else if (strncmp(in->topic, "__", 2) == 0 || strcmp(in->topic, "_sluice.gaps") == 0)
            report_at(l, path, "'%s' is a topic of the appliance itself", in->topic);
        else if (strlen(in->topic) + 4 > 249)
            report_at(l, path, "is too long for its dead-letter topic <topic>.dlq");
        for (uint32_t j = 0; j < c->listener_cnt; j++)
            if (in->topic[0] != '\0' && conf_is_dlq_of(in->topic, c->listeners[j].topic))
                report_at(l, path, "'%s' is the dead-letter topic of listeners[%u]", in->topic, j);
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(in->topic, c->listeners[j].topic) == 0 &&
                in->topic_partitions != c->listeners[j].topic_partitions) {
                snprintf(path, sizeof(path), "listeners[%u].partitions", i);
                report_at(l, path, "%d differs from listeners[%u], which has the same topic",
                          in->topic_partitions, j);
            }
        }
        snprintf(path, sizeof(path), "listeners[%u].partitions", i);
        if (in->topic_partitions == 0)
            report_at(l, path, "must be -1 (one per shard) or at least 1");
        snprintf(path, sizeof(path), "listeners[%u].event_max_bytes", i);
        if ((uint64_t)in->event_bytes_max + 4096 > c->batch_bytes)
            report_at(l, path,
                      "%u bytes and their headers do not fit in a batch (storage.batch_bytes %u)",
                      in->event_bytes_max, c->batch_bytes);
        if (in->port_name[0] != '\0')
            check_port_listener(l, i);
        snprintf(path, sizeof(path), "listeners[%u].transport", i);
        if (in->proto == CONF_NETFLOW && in->transport == CONF_TCP)
            report_at(l, path, "netflow is served over UDP only");
        snprintf(path, sizeof(path), "listeners[%u].time_field", i);
        if (in->time_field[0] != '\0' && in->proto != CONF_JSON)
            report_at(l, path, "has a meaning for protocol json only");
    }
}
static bool addr_is_multicast(const struct net_addr *a)
{
    return net_addr_is_v4(a) ? (a->ip[12] & 0xf0) == 0xe0 : a->ip[0] == 0xff;
}
/* Address k of port i: one that a station can have, and had by nobody else. */
static void check_port_address(struct conf_load *l, uint32_t i, uint32_t k)
{
    struct conf *c = &l->conf;
    const struct net_addr *a = &c->ports[i].addrs[k].ip;
    char path[64], text[NET_ADDR_TEXT_MAX];
    snprintf(path, sizeof(path), "ports[%u].addresses[%u]", i, k);
    net_addr_format_ip(a, text);
    if (net_addr_is_any(a) || net_addr_is_loopback(a) || addr_is_multicast(a))
        report_at(l, path, "%s is not an address that a port can have", text);
    for (uint32_t j = 0; j <= i; j++)
        for (uint32_t o = 0; o < (j == i ? k : c->ports[j].addr_cnt); o++)
            if (memcmp(c->ports[j].addrs[o].ip.ip, a->ip, 16) == 0)
                report_at(l, path, "%s is also ports[%u].addresses[%u]", text, j, o);
}
/* Does the address have bits beyond its prefix? */
static bool has_host_bits(const struct conf_addr *a)
{
    for (uint32_t i = conf_addr_bits(a); i < 128; i++)
        if (a->ip.ip[i / 8] >> (7 - i % 8) & 1)
            return true;
    return false;
}
static bool prefix_has(const struct conf_addr *a, const struct net_addr *ip)
{
    return conf_addr_contains(a, ip) && net_addr_is_v4(&a->ip) == net_addr_is_v4(ip);
}
static void check_port_route(struct conf_load *l, uint32_t i, uint32_t k)
{
    const struct conf_port *p = &l->conf.ports[i];
    const struct conf_route *r = &p->routes[k];
    char path[64], text[NET_ADDR_TEXT_MAX];
    bool is_near = false;
    snprintf(path, sizeof(path), "ports[%u].routes[%u].to", i, k);
    net_addr_format_ip(&r->dst.ip, text);
    if (has_host_bits(&r->dst))
        report_at(l, path, "%s/%u has bits set beyond its prefix", text, r->dst.prefix_len);
    snprintf(path, sizeof(path), "ports[%u].routes[%u].via", i, k);
    net_addr_format_ip(&r->via, text);
    for (uint32_t j = 0; j < p->addr_cnt; j++)
        is_near |= prefix_has(&p->addrs[j], &r->via);
    if (net_addr_is_v4(&r->via) != net_addr_is_v4(&r->dst.ip))
        report_at(l, path, "%s is of another IP version than the route's destination", text);
    else if (!is_near)
        report_at(l, path, "%s is in no network of the port's addresses", text);
}
static void check_host_interface(struct conf_load *l, uint32_t i)
{
    const struct conf_port *p = &l->conf.ports[i];
    char path[64];
    snprintf(path, sizeof(path), "ports[%u].host_interface", i);
    for (const char *s = p->host_interface; *s != '\0'; s++)
        if (*s <= ' ' || *s > '~' || strchr("/:%\"'", *s) != NULL) {
            report_at(l, path, "'%s' is not a name for an interface", p->host_interface);
            return;
        }
    for (uint32_t j = 0; j < i && p->host_interface[0] != '\0'; j++)
        if (strcmp(p->host_interface, l->conf.ports[j].host_interface) == 0)
            report_at(l, path, "'%s' is also that of ports[%u]", p->host_interface, j);
}
static void check_ports(struct conf_load *l)
{
    struct conf *c = &l->conf;
    char path[64];
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        const struct conf_port *p = &c->ports[i];
        snprintf(path, sizeof(path), "ports[%u].device", i);
        if (p->device[0] == '\0')
            report_at(l, path, "must be given");
        for (uint32_t j = 0; j < i; j++)
            if (p->device[0] != '\0' && strcmp(p->device, c->ports[j].device) == 0)
                report_at(l, path, "'%s' is also the device of ports[%u]", p->device, j);
        snprintf(path, sizeof(path), "ports[%u].addresses", i);
        if (p->addr_cnt == 0)
            report_at(l, path, "must have at least one address");
        for (uint32_t k = 0; k < p->addr_cnt; k++)
            check_port_address(l, i, k);
        snprintf(path, sizeof(path), "ports[%u].routes", i);
        if (p->route_cnt > 0 && p->host_interface[0] == '\0') /* they would do nothing */
            report_at(l, path,
                      "needs host_interface: a port itself sends nothing but answers, each to the "
                      "station that asked (a router, for those beyond it)");
        else
            for (uint32_t k = 0; k < p->route_cnt; k++)
                check_port_route(l, i, k);
        check_host_interface(l, i);
    }
}
static void check_policing(struct conf_load *l)
{
    const struct conf *c = &l->conf;
    char path[64], text[NET_ADDR_TEXT_MAX];
    for (uint32_t i = 0; i < c->police_rule_cnt; i++) {
        const struct conf_police_rule *r = &c->police_rules[i];
        snprintf(path, sizeof(path), "policing.rules[%u].rate", i);
        if (r->rate == 0)
            report_at(l, path, "must be given, in datagrams a second");
        snprintf(path, sizeof(path), "policing.rules[%u].from", i);
        net_addr_format_ip(&r->from.ip, text);
        if (has_host_bits(&r->from))
            report_at(l, path, "%s/%u has bits set beyond its prefix", text, r->from.prefix_len);
        for (uint32_t j = 0; j < i; j++)
            if (c->police_rules[j].from.prefix_len == r->from.prefix_len &&
                memcmp(c->police_rules[j].from.ip.ip, r->from.ip.ip, 16) == 0)
                report_at(l, path, "%s/%u is also policing.rules[%u]", text, r->from.prefix_len, j);
    }
}
static void check_sizes(struct conf_load *l)
{
    struct conf *c = &l->conf;
    if (c->message_max_bytes > c->log_segment_bytes)
        report_at(l, "topic_defaults.message_max_bytes",
                  "is larger than topic_defaults.segment_bytes");
    if (c->batch_bytes > c->message_max_bytes)
        report_at(l, "storage.batch_bytes",
                  "is larger than topic_defaults.message_max_bytes (%u bytes)",
                  c->message_max_bytes);
    if (c->journal_threshold_bytes > c->journal_file_bytes / 2)
        report_at(l, "journal.threshold_bytes", "is more than half of journal.file_bytes");
    if (c->staging_bytes < 4ull * c->batch_bytes)
        report_at(l, "memory.staging", "is less than four times storage.batch_bytes");
    if (c->staging_bytes < 2ull * c->message_max_bytes)
        report_at(l, "memory.staging", "is less than twice topic_defaults.message_max_bytes");
    if (c->log_retention_ms == 0 || c->log_retention_bytes == 0)
        report_at(l,
                  c->log_retention_ms == 0 ? "topic_defaults.retention"
                                           : "topic_defaults.retention_bytes",
                  "0 would delete everything at once; write unlimited to keep everything");
    if ((uint32_t)c->num_partitions > c->partitions_max)
        report_at(l, "topic_defaults.partitions", "is more than topic_defaults.partitions_max (%u)",
                  c->partitions_max);
}
static void path_absolute(char *path, const char *cwd)
{
    char full[CONF_PATH_MAX * 2];
    const char *rest = path;
    if (path[0] == '/')
        return;
    while (strncmp(rest, "./", 2) == 0)
        rest += 2;
    snprintf(full, sizeof(full), "%s%s%s", cwd, strcmp(rest, ".") == 0 ? "" : "/",
             strcmp(rest, ".") == 0 ? "" : rest);
    snprintf(path, CONF_PATH_MAX, "%.*s", CONF_PATH_MAX - 1, full);
}
/* DIR itself, or what the appliance keeps there: a log directory holds topics and nothing else. */
static bool is_own_place(const char *dir, const char *path)
{
    static const char *const names[] = {"log", "journal", "run", "state"};
    size_t n = strlen(dir);
    if (strncmp(path, dir, n) != 0)
        return false;
    const char *rest = path + n + (path[n] == '/');
    if (*rest == '\0')
        return true;
    for (size_t i = 0; path[n] == '/' && i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(rest, names[i], strlen(names[i])) == 0 &&
            strchr("/", rest[strlen(names[i])]) != NULL) /* its NUL, too: the name itself */
            return true;
    return false;
}
static void check_paths(struct conf_load *l, const char *cwd)
{
    struct conf *c = &l->conf;
    char path[64];
    path_absolute(c->dir, cwd);
    for (size_t len = strlen(c->dir); len > 1 && c->dir[len - 1] == '/'; len--)
        c->dir[len - 1] = '\0';
    if (strlen(c->dir) > 512) {
        report_at(l, "data.dir", "is longer than 512 characters");
        return;
    }
    /* Unix socket addresses hold 107 characters; the longest here is run/dataplane.sock. */
    if (strlen(c->dir) + strlen("/run/dataplane.sock") > 107)
        report_at(l, "data.dir",
                  "'%s' is too long: DIR/run/dataplane.sock must fit in a unix socket address "
                  "(107 characters)",
                  c->dir);
    for (uint32_t i = 0; i < c->data_dir_cnt; i++) {
        path_absolute(c->data_dirs[i], cwd);
        snprintf(path, sizeof(path), "data.log_dirs[%u]", i);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(c->data_dirs[i], c->data_dirs[j]) == 0)
                report_at(l, path, "'%s' is listed twice", c->data_dirs[i]);
        if (is_own_place(c->dir, c->data_dirs[i]))
            report_at(l, path, "'%s' is the appliance's own place in data.dir", c->data_dirs[i]);
    }
    if (c->data_dir_cnt == CONF_DIRS_MAX)
        report_at(l, "data.log_dirs", "may have at most %d entries beside DIR/log",
                  CONF_DIRS_MAX - 1);
}
static void report_rule(void *arg, const char *path, const char *text)
{
    report_at(arg, path, "%s", text);
}
int conf_load_finish(struct conf_load *l, const char *cwd)
{
    struct conf *c = &l->conf;
    check_paths(l, cwd);
    check_names(l);
    check_binds(l);
    check_kafka(l);
    check_ports(l);
    check_policing(l);
    check_listeners(l);
    conf_rules_check(c, report_rule, l);
    check_sizes(l);
    if (l->error_cnt > 0)
        return -E_CONFIG;
    conf_finish(&l->conf);
    return 0;
}
