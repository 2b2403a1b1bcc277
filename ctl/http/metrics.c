/* metrics.c - /metrics, /health and the index page. Names are made from dataplane/counters.def and
 * drop.def: sluice_<name>, sluice_port_<name>, sluice_listener_<name>, sluice_events_<name>;
 * counters end in _total. Port, listener and event numbers are totals of all runs, in which the
 * ledgers balance; shard numbers begin with the dataplane's start. */
#include "ctl/daemon.h"
#include "ctl/http/http_int.h"
#include "lib/base/build_id.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/wire/wire_gen.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void head(FILE *f, const char *name, const char *kind, const char *help)
{
    fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}
static void metric_name(char out[128], const char *prefix, const struct stats_desc *s)
{
    snprintf(out, 128, "sluice_%s%s%s", prefix, s->name, s->kind == STATS_COUNTER ? "_total" : "");
}
static const char *api_name(uint32_t key)
{
    const struct wire_api *api = wire_api_find((int16_t)key);
    return api == NULL ? NULL : api->name;
}
/* Label of one word of an array: by stage, API or rule, else by number. false: leave it out. */
static bool word_label(const struct stats_header *h, const struct stats_desc *s, uint32_t i,
                       char out[64])
{
    if (strncmp(s->name, "stage_", 6) == 0) {
        if (i >= h->stage_cnt)
            return false;
        snprintf(out, 64, ",stage=\"%s\"", h->stage_name[i]);
    } else if (strcmp(s->name, "api_requests") == 0) {
        const char *name = api_name(i);
        if (name == NULL)
            return false;
        snprintf(out, 64, ",api=\"%s\"", name);
    } else if (strcmp(s->name, "rule_events") == 0) {
        if (i >= h->rule_cnt)
            return false;
        snprintf(out, 64, ",rule=\"%u\"", i);
    } else {
        snprintf(out, 64, ",bucket=\"%u\"", i);
    }
    return true;
}
static void shard_metrics(FILE *f, const struct stats_reader *r)
{
    const struct stats_header *h = stats_header(r);
    struct counters *c = calloc(h->shard_cnt, sizeof(*c));
    ASSERT(c != NULL);
    uint32_t n = 0;
    for (uint32_t s = 0; s < h->shard_cnt; s++)
        n += stats_read(r, (uint16_t)s, &c[s]) == 0;
    for (uint32_t k = 0; k < stats_shard_desc_cnt && n == h->shard_cnt; k++) {
        const struct stats_desc *d = &stats_shard_desc[k];
        char name[128], label[64] = "";
        metric_name(name, "", d);
        head(f, name, d->kind == STATS_COUNTER ? "counter" : "gauge", d->help);
        for (uint32_t s = 0; s < h->shard_cnt; s++) {
            const uint64_t *w = (const uint64_t *)&c[s].shard + d->word;
            for (uint32_t i = 0; i < d->cnt; i++)
                if (d->cnt == 1 || word_label(h, d, i, label))
                    fprintf(f, "%s{shard=\"%u\"%s} %" PRIu64 "\n", name, s, label, w[i]);
        }
    }
    free(c);
}
/* One family of totals: rows of one kind of struct, one per port or listener. */
struct family {
    const char *prefix, *label;
    const struct stats_desc *desc;
    uint32_t desc_cnt, cnt;
    const char (*names)[CONF_NAME_MAX];
    const uint64_t *words; /* of element 0 */
    size_t stride;         /* words to the next element */
};
static void family_metrics(FILE *f, const struct family *m)
{
    char name[128], dropped[128];
    snprintf(dropped, sizeof(dropped), "sluice_%sdropped_total", m->prefix);
    for (uint32_t k = 0; k < m->desc_cnt && m->cnt > 0; k++) {
        const struct stats_desc *d = &m->desc[k];
        if (d->is_drop)
            continue;
        metric_name(name, m->prefix, d);
        head(f, name, d->kind == STATS_COUNTER ? "counter" : "gauge", d->help);
        for (uint32_t i = 0; i < m->cnt; i++)
            fprintf(f, "%s{%s=\"%s\"} %" PRIu64 "\n", name, m->label, m->names[i],
                    m->words[i * m->stride + d->word]);
    }
    if (m->cnt > 0)
        head(f, dropped, "counter", "dropped, by reason");
    for (uint32_t k = 0; k < m->desc_cnt; k++)
        for (uint32_t i = 0; i < m->cnt && m->desc[k].is_drop; i++)
            fprintf(f, "%s{%s=\"%s\",reason=\"%s\"} %" PRIu64 "\n", dropped, m->label, m->names[i],
                    m->desc[k].name, m->words[i * m->stride + m->desc[k].word]);
}
static void ledger_metrics(FILE *f, const struct stats_reader *r)
{
    const struct stats_header *h = stats_header(r);
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    if (stats_read_total(r, c) == 0) {
        const struct family all[] = {
            {"port_", "port", stats_port_desc, stats_port_desc_cnt, h->port_cnt, h->port_name,
             (const uint64_t *)c->port, sizeof(c->port[0]) / 8},
            {"listener_", "listener", stats_listener_desc, stats_listener_desc_cnt, h->listener_cnt,
             h->listener_name, (const uint64_t *)c->listener, sizeof(c->listener[0]) / 8},
            {"events_", "listener", stats_event_desc, stats_event_desc_cnt, h->listener_cnt,
             h->listener_name, (const uint64_t *)c->events, sizeof(c->events[0]) / 8},
        };
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            family_metrics(f, &all[i]);
        char err[256];
        head(f, "sluice_ledgers_balance", "gauge", "1 when all three loss ledgers balance");
        fprintf(f, "sluice_ledgers_balance %d\n",
                stats_check(c, h->port_cnt, h->listener_cnt, err, sizeof(err)) == 0);
    }
    free(c);
}
static void gauge(FILE *f, const char *name, const char *help, double v)
{
    head(f, name, "gauge", help);
    fprintf(f, "%s %.17g\n", name, v);
}
static void own_metrics(FILE *f, const struct daemon *d)
{
    const struct meta_image *img = controller_image(d->controller);
    head(f, "sluice_build_info", "gauge", "always 1; the labels say what runs");
    fprintf(f, "sluice_build_info{version=\"%s\",build=\"%s\"} 1\n", SLUICE_VERSION, build_id());
    gauge(f, "sluice_up", "1 when the dataplane serves", d->phase == DAEMON_READY);
    head(f, "sluice_dataplane_restarts_total", "counter", "times the dataplane ended unasked");
    fprintf(f, "sluice_dataplane_restarts_total %u\n", d->restarts);
    gauge(f, "sluice_topics", "topics", img->topic_cnt);
    gauge(f, "sluice_metadata_partitions", "partitions of all topics", img->partition_cnt);
    gauge(f, "sluice_metadata_offset", "last offset of __cluster_metadata-0",
          (double)controller_last_offset(d->controller));
    gauge(f, "sluice_metadata_applied_offset", "last metadata offset the dataplane applied",
          (double)controller_applied(d->controller));
    gauge(f, "sluice_metadata_log_bytes", "size of __cluster_metadata-0",
          (double)controller_log_bytes(d->controller));
    gauge(f, "sluice_admin_requests_waiting", "admin requests waiting for the dataplane",
          controller_pending(d->controller));
}
void metrics_get(struct http_call *c)
{
    char *text = NULL;
    size_t len = 0;
    struct stats_reader *r;
    FILE *f = open_memstream(&text, &len);
    ASSERT(f != NULL);
    own_metrics(f, c->d);
    if (daemon_stats_open(c->d, &r) == 0) { /* none yet: the dataplane has not started */
        shard_metrics(f, r);
        ledger_metrics(f, r);
        gauge(f, "sluice_stats_age_seconds", "since the dataplane last published its counters",
              (double)(clock_wall_ms() - stats_last_ms(r)) / 1000);
        stats_close(r);
    }
    fclose(f);
    http_answer(c, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}
void health_get(struct http_call *c)
{
    char reasons[DAEMON_REASONS_MAX][256];
    uint32_t cnt = daemon_health(c->d, reasons);
    json_t *list = json_array();
    for (uint32_t i = 0; i < cnt; i++)
        json_array_append_new(list, json_string(reasons[i]));
    bool down = c->d->phase != DAEMON_READY;
    http_answer_json(
        c, down ? 503 : 200,
        json_pack("{s:s, s:o}", "status", cnt == 0 ? "ok" : "degraded", "reasons", list));
}
void index_get(struct http_call *c)
{
    static const char page[] =
        "<!doctype html><meta charset=utf-8><title>Sluice</title>"
        "<h1>Sluice " SLUICE_VERSION "</h1><ul>"
        "<li><a href=/health>health</a><li><a href=/metrics>metrics</a>"
        "<li><a href=/v1/status>status</a><li><a href=/v1/topics>topics</a></ul>"
        "<p>Changes are made with <code>sluicectl</code>, over the unix socket.</p>\n";
    char *text = strdup(page);
    ASSERT(text != NULL);
    http_answer(c, 200, "text/html; charset=utf-8", text, sizeof(page) - 1);
}
