/* admin.c - /v1: what docs/admin-api.md promises. Topics change by the same requests that Kafka
 * clients send (CreateTopics 7, DeleteTopics 6), so that there is one set of rules. */
#include "ctl/controller/topic_rules.h"
#include "ctl/daemon.h"
#include "ctl/http/http_int.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/iface/ctl_proto.h"
#include "lib/iface/net_addr.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATS_TIMEOUT_MS 5000
#define CREATE_VERSION 7
#define DELETE_VERSION 6
#define ADMIN_TIMEOUT_MS 30000

const char *kafka_error_name(int16_t code)
{
    static const struct {
        int16_t code;
        const char *name;
    } names[] = {
        {KERR_UNKNOWN_TOPIC, "UNKNOWN_TOPIC_OR_PARTITION"},
        {KERR_TIMED_OUT, "REQUEST_TIMED_OUT"},
        {KERR_INVALID_TOPIC, "INVALID_TOPIC_EXCEPTION"},
        {KERR_UNSUPPORTED_VERSION, "UNSUPPORTED_VERSION"},
        {KERR_TOPIC_EXISTS, "TOPIC_ALREADY_EXISTS"},
        {KERR_INVALID_PARTITIONS, "INVALID_PARTITIONS"},
        {KERR_INVALID_RF, "INVALID_REPLICATION_FACTOR"},
        {KERR_INVALID_ASSIGNMENT, "INVALID_REPLICA_ASSIGNMENT"},
        {KERR_INVALID_CONFIG, "INVALID_CONFIG"},
        {KERR_INVALID_REQUEST, "INVALID_REQUEST"},
        {KERR_POLICY_VIOLATION, "POLICY_VIOLATION"},
        {KERR_STORAGE, "KAFKA_STORAGE_ERROR"},
        {KERR_UNKNOWN_TOPIC_ID, "UNKNOWN_TOPIC_ID"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].code == code)
            return names[i].name;
    return "UNKNOWN_SERVER_ERROR";
}
static int status_of(int16_t code)
{
    switch (code) {
    case KERR_TOPIC_EXISTS:
        return 409;
    case KERR_UNKNOWN_TOPIC:
    case KERR_UNKNOWN_TOPIC_ID:
        return 404;
    case KERR_TIMED_OUT:
        return 504;
    case KERR_STORAGE:
    case -1:
        return 500;
    default:
        return 400;
    }
}

/* ---- status ---- */

static json_t *counts_json(const struct stats_desc *desc, uint32_t cnt, const uint64_t *words,
                           bool drops)
{
    json_t *o = json_object();
    for (uint32_t i = 0; i < cnt; i++)
        if (desc[i].is_drop == drops && (!drops || words[desc[i].word] != 0))
            json_object_set_new(o, desc[i].name, json_integer((json_int_t)words[desc[i].word]));
    return o;
}
static uint64_t drops_sum(const struct stats_desc *desc, uint32_t cnt, const uint64_t *words)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < cnt; i++)
        sum += desc[i].is_drop ? words[desc[i].word] : 0;
    return sum;
}
static json_t *port_ledger(const char *name, const struct port_stats *p)
{
    const uint64_t *w = (const uint64_t *)p;
    uint64_t right = p->to_udp + p->to_host + p->handled + p->in_reassembly +
                     drops_sum(stats_port_desc, stats_port_desc_cnt, w);
    json_t *o = counts_json(stats_port_desc, stats_port_desc_cnt, w, false);
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "dropped", counts_json(stats_port_desc, stats_port_desc_cnt, w, true));
    json_object_set_new(o, "balance", json_integer((json_int_t)(p->seen - right)));
    json_object_set_new(o, "nic",
                        json_pack("{s:I, s:I, s:I}", "imissed", (json_int_t)p->nic_imissed,
                                  "ierrors", (json_int_t)p->nic_ierrors, "nombuf",
                                  (json_int_t)p->nic_nombuf));
    return o;
}
static json_t *listener_ledger(const char *name, const struct listener_stats *l)
{
    const uint64_t *w = (const uint64_t *)l;
    uint64_t right =
        l->parsed + l->in_reassembly + drops_sum(stats_listener_desc, stats_listener_desc_cnt, w);
    json_t *o = counts_json(stats_listener_desc, stats_listener_desc_cnt, w, false);
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "dropped",
                        counts_json(stats_listener_desc, stats_listener_desc_cnt, w, true));
    json_object_set_new(o, "balance", json_integer((json_int_t)(l->received - right)));
    return o;
}
static json_t *event_ledger(const char *name, const struct event_stats *e)
{
    const uint64_t *w = (const uint64_t *)e;
    uint64_t right = e->durable + e->dead_lettered_durable + e->in_flight +
                     drops_sum(stats_event_desc, stats_event_desc_cnt, w);
    json_t *o = counts_json(stats_event_desc, stats_event_desc_cnt, w, false);
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "dropped", counts_json(stats_event_desc, stats_event_desc_cnt, w, true));
    json_object_set_new(o, "balance", json_integer((json_int_t)(e->produced - right)));
    return o;
}
/* What each shard counted since the dataplane's start, that is, each queue of a port. */
static void queues_add(json_t *ports, const struct stats_reader *r)
{
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    for (uint16_t s = 0; s < stats_header(r)->shard_cnt; s++) {
        if (stats_read(r, s, c) < 0)
            continue; /* it is writing all the time: the next look will find it */
        for (uint32_t i = 0; i < stats_header(r)->port_cnt; i++) {
            const struct port_stats *p = &c->port[i];
            uint64_t dropped = drops_sum(stats_port_desc, stats_port_desc_cnt, (const uint64_t *)p);
            json_array_append_new(
                json_object_get(json_array_get(ports, i), "queues"),
                json_pack("{s:i, s:I, s:I, s:I, s:I, s:I}", "shard", (int)s, "seen",
                          (json_int_t)p->seen, "dropped", (json_int_t)dropped, "imissed",
                          (json_int_t)p->nic_imissed, "ierrors", (json_int_t)p->nic_ierrors,
                          "nombuf", (json_int_t)p->nic_nombuf));
        }
    }
    free(c);
}
/* Sources that policing rules are for, of all shards, those with most refused first. */
static int talker_order(const void *a, const void *b)
{
    const struct stats_talker *x = a, *y = b;
    if (x->refused != y->refused)
        return x->refused < y->refused ? 1 : -1;
    return (x->passed < y->passed) - (x->passed > y->passed);
}
static json_t *policed_json(const struct stats_reader *r)
{
    json_t *a = json_array();
    uint32_t n = 0, shards = r != NULL ? stats_header(r)->shard_cnt : 0;
    struct stats_talker *t = calloc((size_t)shards * STATS_TALKERS_MAX + 1, sizeof(*t));
    ASSERT(t != NULL);
    for (uint16_t s = 0; s < shards; s++) {
        int cnt = stats_read_talkers(r, s, t + n);
        n += cnt > 0 ? (uint32_t)cnt : 0;
    }
    qsort(t, n, sizeof(*t), talker_order);
    for (uint32_t i = 0; i < n && i < STATS_TALKERS_MAX; i++) {
        struct net_addr addr = {.port = 0};
        char text[NET_ADDR_TEXT_MAX];
        memcpy(addr.ip, t[i].ip, 16);
        net_addr_format_ip(&addr, text);
        json_array_append_new(a, json_pack("{s:s, s:I, s:I}", "source", text, "refused",
                                           (json_int_t)t[i].refused, "passed",
                                           (json_int_t)t[i].passed));
    }
    free(t);
    return a;
}
static json_t *ledgers_json(const struct stats_reader *r)
{
    json_t *ports = json_array(), *listeners = json_array(), *events = json_array();
    int64_t taken = 0;
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    if (r != NULL && stats_read_total(r, c) == 0) {
        const struct stats_header *h = stats_header(r);
        taken = stats_last_ms(r);
        for (uint32_t i = 0; i < h->port_cnt; i++) {
            json_t *p = port_ledger(h->port_name[i], &c->port[i]);
            json_object_set_new(p, "queues", json_array());
            json_array_append_new(ports, p);
        }
        queues_add(ports, r);
        for (uint32_t i = 0; i < h->listener_cnt; i++) {
            json_array_append_new(listeners, listener_ledger(h->listener_name[i], &c->listener[i]));
            json_array_append_new(events, event_ledger(h->listener_name[i], &c->events[i]));
        }
    }
    free(c);
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "taken_ms", (json_int_t)taken, "ports", ports,
                     "listeners", listeners, "events", events, "policed", policed_json(r));
}
static json_t *shards_json(const struct daemon *d, const struct stats_reader *r)
{
    json_t *a = json_array();
    if (r == NULL)
        return a;
    const struct stats_header *h = stats_header(r);
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    for (uint32_t i = 0; i < h->shard_cnt; i++) {
        if (stats_read(r, (uint16_t)i, c) < 0)
            continue;
        double us = h->tsc_hz == 0 ? 0 : (double)c->shard.turn_max_cycles * 1e6 / (double)h->tsc_hz;
        json_array_append_new(
            a, json_pack("{s:i, s:i, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "shard", (int)i, "cpu",
                         (int)h->shard_cpu[i], "busy_percent", d->busy_percent[i], "turn_max_us",
                         (json_int_t)us, "partitions", (json_int_t)c->shard.partitions,
                         "connections", (json_int_t)c->shard.connections, "unflushed_bytes",
                         (json_int_t)c->shard.unflushed_bytes, "overflow_ms",
                         (json_int_t)c->shard.ingest_overflow_ms, "auto_compression_percent",
                         (json_int_t)c->shard.auto_compression_percent));
    }
    free(c);
    return a;
}
/* {"crc32c": "isa-l (...)", ...}: the lines of accel_describe. */
static json_t *acceleration_json(const struct stats_reader *r)
{
    char text[STATS_ACCEL_MAX] = "";
    json_t *o = json_object();
    if (r != NULL)
        memcpy(text, stats_header(r)->accel, sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *what = strstr(line, ": ");
        if (what == NULL)
            continue;
        *what = '\0';
        json_object_set_new(o, line, json_string(what + 2));
    }
    return o;
}
static const char *kind_transport(int8_t kind)
{
    return kind == CTL_LISTENER_KAFKA || kind == CTL_LISTENER_INGEST_TCP ? "tcp" : "udp";
}
static json_t *listeners_json(const struct daemon *d)
{
    json_t *a = json_array();
    for (uint32_t i = 0; i < d->listener_cnt; i++) {
        const struct daemon_listener *l = &d->listeners[i];
        char addr[320];
        snprintf(addr, sizeof(addr), strchr(l->host, ':') != NULL ? "[%s]:%u" : "%s:%u", l->host,
                 l->port);
        json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "name", l->name, "transport",
                              kind_transport(l->kind), "address", addr, "protocol",
                              l->kind == CTL_LISTENER_KAFKA ? "kafka" : "ingest");
        for (uint32_t k = 0; k < d->conf->listener_cnt; k++)
            if (strcmp(d->conf->listeners[k].name, l->name) == 0) {
                json_object_set_new(o, "topic", json_string(d->conf->listeners[k].topic));
                json_object_set_new(o, "protocol",
                                    json_string(conf_proto_name(d->conf->listeners[k].proto)));
            }
        json_array_append_new(a, o);
    }
    return a;
}
static void rule_events(const struct stats_reader *r, uint64_t ret[CONF_RULES_MAX])
{
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    memset(ret, 0, CONF_RULES_MAX * sizeof(*ret));
    for (uint16_t i = 0; r != NULL && i < stats_header(r)->shard_cnt; i++)
        for (uint32_t k = 0, n = stats_read(r, i, c) == 0 ? CONF_RULES_MAX : 0; k < n; k++)
            ret[k] += c->shard.rule_events[k];
    free(c);
}
/* Event routing rules, in order: the conditions that a rule has, then where its events go, and how
 * many went there since the dataplane's start. */
static json_t *rules_json(const struct conf *conf, const struct stats_reader *r)
{
    static const char *const keys[] = {"listener", "source", "facility", "severity",   "host",
                                       "app",      "topic",  "key",      "compression"};
    json_t *a = json_array();
    uint64_t events[CONF_RULES_MAX];
    rule_events(r, events);
    for (uint32_t i = 0; i < conf->rule_cnt; i++) {
        json_t *o = json_object();
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
            char path[64], value[512];
            snprintf(path, sizeof(path), "rules[%u].%s", i, keys[k]);
            if (conf_get(conf, path, value, sizeof(value)) == 0 && value[0] != '\0' &&
                strcmp(value, "::/0") != 0)
                json_object_set_new(o, keys[k], json_string(value));
        }
        json_object_set_new(o, "events", json_integer((json_int_t)events[i]));
        json_array_append_new(a, o);
    }
    return a;
}
/* What does not keep the appliance from serving, but somebody should know. */
static json_t *notes_json(const struct stats_reader *r)
{
    json_t *a = json_array();
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    if (r != NULL && stats_read_total(r, c) == 0) {
        const struct shard_stats *s = &c->shard;
        if (s->found_damaged_batches + s->found_damaged_tails + s->found_quarantined > 0)
            json_array_append_new(
                a,
                json_sprintf("the last start found damage: %llu batches, %llu ends of segments, "
                             "%llu segments behind them; nothing was deleted, the log names topic, "
                             "partition, offsets and file (lines with \"recovery:\")",
                             (unsigned long long)s->found_damaged_batches,
                             (unsigned long long)s->found_damaged_tails,
                             (unsigned long long)s->found_quarantined));
        if (s->scrub_found > 0)
            json_array_append_new(
                a, json_sprintf("reading closed segments again found %llu damages: %llu put right, "
                                "%llu kept aside with their records lost; the log names topic, "
                                "partition, offsets and file position (lines with \"damage\")",
                                (unsigned long long)s->scrub_found,
                                (unsigned long long)s->scrub_repaired,
                                (unsigned long long)s->scrub_quarantined));
        if (s->scrub_transient > 0)
            json_array_append_new(
                a, json_sprintf("%llu places of the log were read wrong once and right the second "
                                "time: memory, cable or controller may be failing",
                                (unsigned long long)s->scrub_transient));
        if (s->compaction_uncleanable > 0)
            json_array_append_new(
                a,
                json_sprintf("%llu partitions cannot be compacted or recompressed: a batch cannot "
                             "be read; the log names segment and position (lines with \"cannot "
                             "be\")",
                             (unsigned long long)s->compaction_uncleanable));
        if (s->space_deleted_segments > 0)
            json_array_append_new(
                a, json_sprintf("%llu segments (%llu bytes) were deleted before their time because "
                                "a disk was nearly full; _sluice.gaps says which",
                                (unsigned long long)s->space_deleted_segments,
                                (unsigned long long)s->space_deleted_bytes));
    }
    free(c);
    return a;
}
void status_get(struct http_call *c)
{
    const struct daemon *d = c->d;
    static const char *const phases[] = {"starting", "running", "stopping"};
    char cluster[UUID_TEXT_LEN + 1], reasons[DAEMON_REASONS_MAX][256];
    struct stats_reader *r = NULL;
    const struct meta_image *img = controller_image(d->controller);
    if (daemon_stats_open(d, &r) < 0)
        r = NULL; /* no dataplane yet: the lists stay empty */
    int64_t now = clock_wall_ms();
    int64_t since =
        r != NULL && supervise_is_running(d->supervise) ? stats_header(r)->start_wall_ms : now;
    uuid_format(&d->identity.cluster_id, cluster);
    json_t *ports = json_array(), *why = json_array();
    for (uint32_t i = 0; i < d->conf->port_cnt; i++)
        json_array_append_new(ports, json_pack("{s:s, s:s}", "name", d->conf->ports[i].name,
                                               "device", d->conf->ports[i].device));
    uint32_t n = daemon_health(d, reasons);
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(why, json_string(reasons[i]));
    json_t *o = json_pack(
        "{s:s, s:s, s:i, s:s, s:{s:i, s:I}, s:{s:s, s:i, s:I, s:i, s:o}, s:o, s:o, s:o, s:o, s:i, "
        "s:i, s:o, s:o, s:o}",
        "version", SLUICE_VERSION, "cluster_id", cluster, "node_id", d->identity.node_id,
        "data_dir", d->conf->dir, "sluiced", "pid", (int)getpid(), "uptime_s",
        (json_int_t)((now - d->start_wall_ms) / 1000), "dataplane", "state", phases[d->phase],
        "pid", (int)supervise_pid(d->supervise), "uptime_s", (json_int_t)((now - since) / 1000),
        "starts", (int)d->restarts + 1, "reasons", why, "shards", shards_json(d, r), "ports", ports,
        "listeners", listeners_json(d), "rules", rules_json(d->conf, r), "topics",
        (int)img->topic_cnt, "partitions", (int)img->partition_cnt, "ledgers", ledgers_json(r),
        "notes", notes_json(r), "acceleration", acceleration_json(r));
    stats_close(r);
    http_answer_json(c, 200, o);
}

/* ---- topics: reading ---- */

void topics_get(struct http_call *c)
{
    const struct meta_image *img = controller_image(c->d->controller);
    json_t *a = json_array();
    for (uint32_t i = 0; i < img->topic_cnt; i++) {
        const struct meta_topic *t = img->by_name[i];
        char id[UUID_TEXT_LEN + 1];
        uuid_format(&t->id, id);
        json_array_append_new(a, json_pack("{s:s, s:s, s:i, s:b}", "name", t->name, "id", id,
                                           "partitions", (int)t->partition_cnt, "internal",
                                           (int)t->internal));
    }
    http_answer_json(c, 200, json_pack("{s:o}", "topics", a));
}
static json_t *configs_json(const struct conf *conf, const struct meta_image *img,
                            const struct meta_topic *t)
{
    json_t *a = json_array();
    for (uint32_t i = 0; i < config_topic_cnt(); i++) {
        const struct config_key *k = config_topic_at(i);
        const char *value = meta_topic_config(t, k->key), *source = "topic";
        char def[1024];
        if (value == NULL) {
            bool broker = topic_default(conf, img, k, def, sizeof(def)) != CONFIG_SOURCE_DEFAULT;
            value = def;
            source = broker ? "broker" : "default";
        }
        json_array_append_new(a, json_pack("{s:s, s:s%, s:s}", "name", k->key, "value", value,
                                           strlen(value), "source", source));
    }
    return a;
}
static json_t *partition_json(const struct meta_topic *t, uint32_t i,
                              const struct ctl_partition_stats_response_partition *p)
{
    struct ctl_partition_stats_response_partition none;
    ctl_partition_stats_response_partition_init(&none);
    none.leader_epoch = t->partitions[i].leader_epoch;
    if (p == NULL)
        p = &none;
    json_t *o =
        json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:n}", "partition", (int)i,
                  "shard", p->shard, "log_start", (json_int_t)p->log_start, "durable",
                  (json_int_t)p->durable, "stable", (json_int_t)p->stable, "next",
                  (json_int_t)p->next, "size_bytes", (json_int_t)p->size_bytes, "unflushed_bytes",
                  (json_int_t)p->unflushed_bytes, "segments", p->segment_cnt, "leader_epoch",
                  p->leader_epoch >= 0 ? p->leader_epoch : none.leader_epoch, "error");
    if (p->error_code != 0)
        json_object_set_new(o, "error", json_string(kafka_error_name(p->error_code)));
    return o;
}
/* What a GET of one topic collects while answers come. */
struct describe {
    struct meta_image *img; /* one reference */
    const struct meta_topic *t;
    json_t *partitions; /* an array, in order; filled where answers came */
};
static void describe_end(struct http_call *c)
{
    struct describe *ds = c->arg;
    char id[UUID_TEXT_LEN + 1];
    json_t *ordered = json_array();
    for (uint32_t i = 0; i < ds->t->partition_cnt; i++) {
        json_t *p = json_array_get(ds->partitions, i);
        json_array_append_new(ordered,
                              json_is_null(p) ? partition_json(ds->t, i, NULL) : json_incref(p));
    }
    uuid_format(&ds->t->id, id);
    json_t *o = json_pack("{s:s, s:s, s:b, s:o, s:o}", "name", ds->t->name, "id", id, "internal",
                          (int)ds->t->internal, "configs", configs_json(c->d->conf, ds->img, ds->t),
                          "partitions", ordered);
    json_decref(ds->partitions);
    image_put(ds->img);
    free(ds);
    http_answer_json(c, 200, o);
}
static bool on_partition_stats(void *arg, int rc, const struct ctl_frame *f)
{
    struct http_call *c = arg;
    struct describe *ds = c->arg;
    bool more = false;
    if (rc == 0) {
        struct ctl_partition_stats_response m;
        struct wire_reader r;
        struct arena a;
        wire_reader_init(&r, f->body);
        arena_init(&a, 64u << 20);
        if (ctl_partition_stats_response_read(&r, CTL_MESSAGE_VERSION, &a, &m) == 0) {
            more = m.more;
            for (uint32_t i = 0; i < m.partitions.cnt; i++) {
                const struct ctl_partition_stats_response_partition *p = &m.partitions.v[i];
                if (uuid_eq(&p->topic_id, &ds->t->id) && p->partition >= 0 &&
                    (uint32_t)p->partition < ds->t->partition_cnt)
                    json_array_set_new(ds->partitions, (size_t)p->partition,
                                       partition_json(ds->t, (uint32_t)p->partition, p));
            }
        }
        arena_fini(&a);
    }
    if (!more)
        describe_end(c);
    return more;
}
void topic_get(struct http_call *c)
{
    struct meta_image *img = controller_image(c->d->controller);
    const struct meta_topic *t = image_topic_by_name(img, span_str(c->name));
    if (t == NULL) {
        http_error(c, 404, "UNKNOWN_TOPIC_OR_PARTITION", "there is no topic '%s'", c->name);
        return;
    }
    struct describe *ds = malloc(sizeof(*ds));
    ASSERT(ds != NULL);
    *ds = (struct describe){image_get(img), t, json_array()};
    for (uint32_t i = 0; i < t->partition_cnt; i++)
        json_array_append_new(ds->partitions, json_null());
    c->arg = ds;
    struct ctl_partition_stats_request q;
    struct ctl_partition_stats_request_topic qt;
    ctl_partition_stats_request_init(&q);
    ctl_partition_stats_request_topic_init(&qt);
    qt.topic_id = t->id;
    qt.partitions.null = true;
    q.topics.v = &qt;
    q.topics.cnt = 1;
    q.topics.null = false;
    struct link_ask ask = {.type = CTL_PARTITION_STATS_REQUEST,
                           .answer_type = CTL_PARTITION_STATS_RESPONSE,
                           .done = on_partition_stats,
                           .arg = c,
                           .timeout_ms = STATS_TIMEOUT_MS};
    int rc = 0;
    http_wait(c);
    LINK_ENCODE(ctl_partition_stats_request, &q,
                (ask.body = span_, rc = link_ask(c->d->link, &ask)));
    if (rc < 0)
        describe_end(c);
}

/* ---- topics: changing ---- */

static void admin_refused(struct http_call *c, int16_t error, const char *message)
{
    http_error(c, status_of(error), kafka_error_name(error), "%s", message == NULL ? "" : message);
}
static void on_created(void *arg, int16_t error, const char *message, struct span body)
{
    struct http_call *c = arg;
    struct create_topics_response m;
    struct wire_reader r;
    struct arena a;
    char id[UUID_TEXT_LEN + 1];
    if (error != 0) {
        admin_refused(c, error, message);
        return;
    }
    wire_reader_init(&r, body);
    arena_init(&a, 16u << 20);
    int rc = create_topics_response_read(&r, CREATE_VERSION, &a, &m);
    ASSERT(rc == 0); /* our own answer */
    ASSERT(m.topics.cnt == 1);
    const struct create_topics_response_topic *t = &m.topics.v[0];
    if (t->error_code != 0) {
        http_error(c, status_of(t->error_code), kafka_error_name(t->error_code), "%.*s",
                   (int)t->error_message.len, (const char *)t->error_message.p);
    } else {
        uuid_format(&t->topic_id, id);
        http_answer_json(c, 201,
                         json_pack("{s:s, s:s, s:i}", "name", c->name, "id", id, "partitions",
                                   t->num_partitions));
    }
    arena_fini(&a);
}
/* The body of POST /v1/topics; false: an error was answered. The strings live in `json`. */
static bool post_read(struct http_call *c, json_t *json, struct create_topics_request_topic *t,
                      struct create_topics_request_config **ret_configs)
{
    const char *key;
    json_t *v;
    t->name = SPAN_NULL;
    t->num_partitions = -1;
    t->replication_factor = -1;
    if (!json_is_object(json)) {
        http_error(c, 400, "INVALID_REQUEST", "the body is not a JSON object");
        return false;
    }
    json_object_foreach(json, key, v)
    {
        if (strcmp(key, "name") == 0 && json_is_string(v)) {
            t->name = span_of(json_string_value(v), (uint32_t)json_string_length(v));
        } else if (strcmp(key, "partitions") == 0 && json_is_integer(v)) {
            json_int_t n = json_integer_value(v);
            t->num_partitions = n < 0 || n > INT32_MAX ? 0 : (int32_t)n; /* 0 is refused by rule */
        } else if (strcmp(key, "configs") == 0 && json_is_object(v)) {
            const char *ck;
            json_t *cv;
            *ret_configs = calloc(json_object_size(v) + 1, sizeof(**ret_configs));
            ASSERT(*ret_configs != NULL);
            json_object_foreach(v, ck, cv)
            {
                if (!json_is_string(cv)) {
                    http_error(c, 400, "INVALID_REQUEST", "configs.%s is not a text", ck);
                    return false;
                }
                (*ret_configs)[t->configs.cnt].name = span_str(ck);
                (*ret_configs)[t->configs.cnt++].value =
                    span_of(json_string_value(cv), (uint32_t)json_string_length(cv));
            }
            t->configs.v = *ret_configs;
        } else {
            http_error(c, 400, "INVALID_REQUEST", "'%s' is unknown here or of the wrong type", key);
            return false;
        }
    }
    if (span_is_null(t->name)) {
        http_error(c, 400, "INVALID_REQUEST", "'name' is missing");
        return false;
    }
    return true;
}
void topic_post(struct http_call *c)
{
    json_error_t je;
    struct create_topics_request q;
    struct create_topics_request_topic t;
    struct create_topics_request_config *configs = NULL;
    json_t *json =
        json_loadb(c->body == NULL ? "" : c->body, c->body_len, JSON_REJECT_DUPLICATES, &je);
    if (json == NULL) {
        http_error(c, 400, "INVALID_REQUEST", "the body is not JSON: line %d: %s", je.line,
                   je.text);
        return;
    }
    create_topics_request_init(&q);
    create_topics_request_topic_init(&t);
    if (post_read(c, json, &t, &configs)) {
        snprintf(c->name, sizeof(c->name), "%.*s", (int)t.name.len, (const char *)t.name.p);
        q.topics.v = &t;
        q.topics.cnt = 1;
        q.timeout_ms = ADMIN_TIMEOUT_MS;
        size_t len = create_topics_request_size(&q, CREATE_VERSION);
        uint8_t *buf = malloc(len + 1);
        ASSERT(buf != NULL);
        struct wire_writer w;
        wire_writer_init(&w, buf, len);
        create_topics_request_write(&w, CREATE_VERSION, &q);
        if (w.err != 0) {
            http_error(c, 400, "INVALID_REQUEST", "a text is longer than 32767 bytes");
        } else {
            struct admin_request req = {.api_key = CREATE_TOPICS_REQUEST_KEY,
                                        .api_version = CREATE_VERSION,
                                        .body = span_of(buf, (uint32_t)w.len),
                                        .done = on_created,
                                        .arg = c};
            http_wait(c);
            controller_admin(c->d->controller, &req);
        }
        free(buf);
    }
    free(configs);
    json_decref(json);
}
static void on_deleted(void *arg, int16_t error, const char *message, struct span body)
{
    struct http_call *c = arg;
    struct delete_topics_response m;
    struct wire_reader r;
    struct arena a;
    if (error != 0) {
        admin_refused(c, error, message);
        return;
    }
    wire_reader_init(&r, body);
    arena_init(&a, 1u << 20);
    int rc = delete_topics_response_read(&r, DELETE_VERSION, &a, &m);
    ASSERT(rc == 0); /* our own answer */
    ASSERT(m.responses.cnt == 1);
    const struct delete_topics_response_topic *t = &m.responses.v[0];
    if (t->error_code == KERR_UNKNOWN_TOPIC)
        http_error(c, 404, kafka_error_name(t->error_code), "there is no topic '%s'", c->name);
    else if (t->error_code != 0)
        http_error(c, status_of(t->error_code), kafka_error_name(t->error_code), "%.*s",
                   (int)t->error_message.len, (const char *)t->error_message.p);
    else
        http_answer_json(c, 200, json_object());
    arena_fini(&a);
}
void topic_delete(struct http_call *c)
{
    struct delete_topics_request q;
    struct delete_topics_request_topic t;
    uint8_t buf[1024];
    struct wire_writer w;
    delete_topics_request_init(&q);
    delete_topics_request_topic_init(&t);
    t.name = span_str(c->name);
    q.topics.v = &t;
    q.topics.cnt = 1;
    q.timeout_ms = ADMIN_TIMEOUT_MS;
    wire_writer_init(&w, buf, sizeof(buf));
    delete_topics_request_write(&w, DELETE_VERSION, &q);
    ASSERT(w.err == 0); /* a name is at most 255 bytes: path_match */
    struct admin_request req = {.api_key = DELETE_TOPICS_REQUEST_KEY,
                                .api_version = DELETE_VERSION,
                                .body = span_of(buf, (uint32_t)w.len),
                                .done = on_deleted,
                                .arg = c};
    http_wait(c);
    controller_admin(c->d->controller, &req);
}
