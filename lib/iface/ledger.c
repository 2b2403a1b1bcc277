/* ledger.c - totals that continue across restarts: DIR/state/ledger, and what a dead run left in
 * stats.shm.
 *
 * The checkpoint is text, one word per line, only words that are not 0:
 *     sluice-ledger 1
 *     time_ms 1760000000000
 *     clean 1
 *     shard turns 123            (element i of an array: name.i)
 *     port uplink seen 123       (drop reasons: drop.name)
 *     listener syslog received 123
 *     events syslog produced 123
 *     end
 * Unknown names (another build, a listener that is gone) are skipped; a file without "end" was not
 * written by us. Gauges are kept as well: what was in flight must be accounted for at load. */
#include "lib/base/assert.h"
#include "lib/base/text_file.h"
#include "lib/iface/stats_shm.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINE_MAX_LEN 256

int ledger_gap_json(const struct ledger_gap *g, char *buf, size_t cap)
{
    int n = snprintf(buf, cap,
                     "{\"reason\":\"%s\",\"from\":%" PRId64 ",\"to\":%" PRId64 ",\"clean\":%s,"
                     "\"in_flight_lost_max\":%" PRId64 ",\"nic_unobserved\":%s,"
                     "\"shards_before\":%u,\"shards\":%u}",
                     g->clean ? "stop" : "crash", g->from_ms, g->to_ms, g->clean ? "true" : "false",
                     g->in_flight_lost_max, g->nic_unobserved ? "true" : "false", g->shards_before,
                     g->shards);
    return n < 0 || (size_t)n >= cap ? -E_LIMIT : n;
}

/* ---- writing */
static void words_print(FILE *f, const char *section, const char *name, const void *words,
                        const struct stats_desc *d, uint32_t cnt)
{
    const uint64_t *w = words;
    for (uint32_t i = 0; i < cnt; i++) {
        if (d[i].kind == STATS_MAX)
            continue;
        for (uint32_t k = 0; k < d[i].cnt; k++) {
            uint64_t v = w[d[i].word + k];
            if (v == 0)
                continue;
            fprintf(f, "%s%s%s %s%s", section, name[0] ? " " : "", name,
                    d[i].is_drop ? "drop." : "", d[i].name);
            if (d[i].cnt > 1)
                fprintf(f, ".%" PRIu32, k);
            fprintf(f, " %" PRIu64 "\n", v);
        }
    }
}

int ledger_save(const char *path, const struct conf *conf, const struct counters *t,
                int64_t wall_ms, bool clean)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (f == NULL)
        return -errno;
    fprintf(f, "sluice-ledger 1\ntime_ms %" PRId64 "\nclean %d\n", wall_ms, clean);
    words_print(f, "shard", "", &t->shard, stats_shard_desc, stats_shard_desc_cnt);
    for (uint32_t i = 0; i < conf->port_cnt; i++)
        words_print(f, "port", conf->ports[i].name, &t->port[i], stats_port_desc,
                    stats_port_desc_cnt);
    for (uint32_t i = 0; i < conf->listener_cnt; i++) {
        words_print(f, "listener", conf->listeners[i].name, &t->listener[i], stats_listener_desc,
                    stats_listener_desc_cnt);
        words_print(f, "events", conf->listeners[i].name, &t->events[i], stats_event_desc,
                    stats_event_desc_cnt);
    }
    fputs("end\n", f);
    bool whole = !ferror(f);
    int rc = fclose(f) == 0 && whole ? text_file_replace(path, text, len) : -ENOMEM;
    free(text);
    return rc;
}

/* ---- reading */
static void word_set(void *words, const struct stats_desc *d, uint32_t cnt, const char *name,
                     uint64_t v)
{
    uint64_t *w = words;
    bool is_drop = strncmp(name, "drop.", 5) == 0;
    if (is_drop)
        name += 5;
    for (uint32_t i = 0; i < cnt; i++) {
        size_t n = strlen(d[i].name);
        if (d[i].is_drop != is_drop || strncmp(name, d[i].name, n) != 0)
            continue;
        uint32_t k = 0;
        if (d[i].cnt == 1 && name[n] != '\0')
            continue;
        if (d[i].cnt > 1) {
            char *end;
            if (name[n] != '.')
                continue;
            unsigned long at = strtoul(name + n + 1, &end, 10);
            if (*end != '\0' || at >= d[i].cnt)
                continue;
            k = (uint32_t)at;
        }
        w[d[i].word + k] = v;
        return;
    }
}

static int64_t port_by_name(const struct conf *c, const char *name)
{
    for (uint32_t i = 0; i < c->port_cnt; i++)
        if (strcmp(c->ports[i].name, name) == 0)
            return i;
    return -1;
}
static int64_t listener_by_name(const struct conf *c, const char *name)
{
    for (uint32_t i = 0; i < c->listener_cnt; i++)
        if (strcmp(c->listeners[i].name, name) == 0)
            return i;
    return -1;
}

/* One line into *t. false: not a line of ours. Names hold no blanks (conf checks that). */
static bool line_load(char *line, const struct conf *conf, struct counters *t)
{
    char *save = NULL, *part[4] = {NULL};
    uint32_t n = 0;
    for (char *tok = strtok_r(line, " \n", &save); tok != NULL && n < 4;
         tok = strtok_r(NULL, " \n", &save))
        part[n++] = tok;
    if (n < 3 || save[0] != '\0')
        return false;
    char *end;
    errno = 0;
    uint64_t v = strtoull(part[n - 1], &end, 10);
    if (*end != '\0' || errno != 0)
        return false;
    if (n == 3 && strcmp(part[0], "shard") == 0) {
        word_set(&t->shard, stats_shard_desc, stats_shard_desc_cnt, part[1], v);
        return true;
    }
    if (n != 4)
        return false;
    if (strcmp(part[0], "port") == 0) {
        int64_t i = port_by_name(conf, part[1]);
        if (i >= 0)
            word_set(&t->port[i], stats_port_desc, stats_port_desc_cnt, part[2], v);
        return true;
    }
    int64_t i = listener_by_name(conf, part[1]);
    if (strcmp(part[0], "listener") == 0) {
        if (i >= 0)
            word_set(&t->listener[i], stats_listener_desc, stats_listener_desc_cnt, part[2], v);
        return true;
    }
    if (strcmp(part[0], "events") != 0)
        return false;
    if (i >= 0)
        word_set(&t->events[i], stats_event_desc, stats_event_desc_cnt, part[2], v);
    return true;
}

/* 1 loaded, 0 no such file, negative on error. */
static int checkpoint_load(const char *path, const struct conf *conf, struct counters *t,
                           int64_t *ret_time_ms, bool *ret_clean, char *err, size_t err_cap)
{
    FILE *f = fopen(path, "re");
    if (f == NULL && errno == ENOENT)
        return 0;
    if (f == NULL) {
        int rc = -errno;
        (void)snprintf(err, err_cap, "%s: %s", path, err_text(rc));
        return rc;
    }
    char line[LINE_MAX_LEN];
    uint32_t no = 0;
    bool end = false, ok = true;
    while (ok && !end && fgets(line, sizeof(line), f) != NULL) {
        int clean;
        no++;
        if (no == 1)
            ok = strcmp(line, "sluice-ledger 1\n") == 0;
        else if (no == 2)
            ok = sscanf(line, "time_ms %" SCNd64 "\n", ret_time_ms) == 1;
        else if (no == 3) {
            ok = sscanf(line, "clean %d\n", &clean) == 1;
            *ret_clean = ok && clean == 1;
        } else if (strcmp(line, "end\n") == 0)
            end = true;
        else
            ok = line_load(line, conf, t);
    }
    (void)fclose(f);
    if (!ok || !end) {
        (void)snprintf(err, err_cap, "%s line %" PRIu32 ": not a ledger checkpoint%s", path, no,
                       ok ? " (it ends early)" : "");
        return -E_MALFORMED;
    }
    return 1;
}

/* Totals and last instant of a run that died on this boot. Its ports and listeners are matched by
 * name with the present ones. 1 or 0 (nothing usable: the checkpoint decides). */
static int dead_run_load(const char *shm_path, const struct conf *conf, struct counters *t,
                         int64_t *ret_time_ms)
{
    struct stats_reader *r;
    if (stats_open(shm_path, &r) < 0)
        return 0;
    int found = 0;
    struct counters *old = calloc(1, sizeof(*old));
    char boot_id[40], why[128];
    stats_boot_id(boot_id, sizeof(boot_id));
    const struct stats_header *h = stats_header(r);
    if (old == NULL || boot_id[0] == '\0' || strncmp(boot_id, h->boot_id, sizeof(boot_id)) != 0 ||
        stats_read_total(r, old) < 0 ||
        stats_check(old, h->port_cnt, h->listener_cnt, why, sizeof(why)) < 0)
        goto out;
    t->shard = old->shard;
    for (uint32_t i = 0; i < h->port_cnt; i++) {
        int64_t now = port_by_name(conf, h->port_name[i]);
        if (now >= 0)
            t->port[now] = old->port[i];
    }
    for (uint32_t i = 0; i < h->listener_cnt; i++) {
        int64_t now = listener_by_name(conf, h->listener_name[i]);
        if (now >= 0) {
            t->listener[now] = old->listener[i];
            t->events[now] = old->events[i];
        }
    }
    *ret_time_ms = stats_last_ms(r);
    found = 1;
out:
    free(old);
    stats_close(r);
    return found;
}

static void gauges_clear(void *words, const struct stats_desc *d, uint32_t cnt)
{
    uint64_t *w = words;
    for (uint32_t i = 0; i < cnt; i++)
        if (d[i].kind != STATS_COUNTER)
            memset(&w[d[i].word], 0, d[i].cnt * sizeof(uint64_t));
}

/* What hung in the air when the run ended becomes drop[restart]. Returns events in flight. */
static int64_t settle(struct counters *t)
{
    uint64_t in_flight = 0;
    gauges_clear(&t->shard, stats_shard_desc, stats_shard_desc_cnt);
    for (uint32_t i = 0; i < COUNTERS_PORTS_MAX; i++) {
        t->port[i].drop[PDROP_restart] += t->port[i].in_reassembly;
        gauges_clear(&t->port[i], stats_port_desc, stats_port_desc_cnt);
    }
    for (uint32_t i = 0; i < COUNTERS_LISTENERS_MAX; i++) {
        t->listener[i].drop[DDROP_restart] += t->listener[i].in_reassembly;
        gauges_clear(&t->listener[i], stats_listener_desc, stats_listener_desc_cnt);
        in_flight += t->events[i].in_flight;
        t->events[i].drop[EDROP_restart] += t->events[i].in_flight;
        gauges_clear(&t->events[i], stats_event_desc, stats_event_desc_cnt);
    }
    return (int64_t)in_flight;
}

int ledger_recover(const char *shm_path, const char *ledger_path, const struct conf *conf,
                   int64_t now_ms, struct counters *ret_carried, struct ledger_gap *ret_gap,
                   char *err, size_t err_cap)
{
    struct counters *shm = calloc(2, sizeof(*shm));
    if (shm == NULL)
        return -ENOMEM;
    struct counters *saved = shm + 1;
    struct ledger_gap gap = {.to_ms = now_ms};
    int64_t shm_ms = 0, saved_ms = 0;
    bool saved_clean = false;
    int rc = checkpoint_load(ledger_path, conf, saved, &saved_ms, &saved_clean, err, err_cap);
    if (rc < 0)
        goto out;
    /* A clean stop saves after the last publication; then the checkpoint is the later one. */
    bool from_shm = dead_run_load(shm_path, conf, shm, &shm_ms) == 1 &&
                    (rc == 0 || !saved_clean || shm_ms > saved_ms);
    struct counters *t = from_shm ? shm : saved;
    if (from_shm || rc == 1) {
        int64_t in_flight = settle(t);
        gap.had_previous = true;
        gap.nic_unobserved = conf->port_cnt + conf->listener_cnt > 0;
        gap.clean = !from_shm && saved_clean;
        gap.from_ms = from_shm ? shm_ms : saved_ms;
        gap.in_flight_lost_max = from_shm || saved_clean ? in_flight : -1;
    }
    *ret_carried = *t;
    *ret_gap = gap;
    rc = 0;
out:
    free(shm);
    return rc;
}
