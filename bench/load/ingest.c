/* ingest.c - events per second of the whole ingest path, durable.
 *
 * A pcap of GEN_FRAMES frames is replayed without end (net_pcap, infinite_rx) into a DPDK port of
 * an installed appliance; after a warm-up the counters are read at two instants. Everything counted
 * is what the appliance counts about itself in run/stats.shm; --verify checks that against what can
 * be read back by a Kafka client after a restart. */
#include "bench/load/bench_load.h"
#include "bench/load/gen.h"
#include "bench/load/verify.h"
#include "dataplane/flow.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/iface/net_addr.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTITIONS 16
#define LISTENER "bench"
#define TOPIC "bench"
/* 16 partitions x (128 MiB kept + 32 MiB active + 32 MiB prepared) = 3 GiB, dead letters on top. */
#define SEGMENT "32MiB"
#define RETENTION "128MiB"

struct ingest_opts {
    uint64_t event_size, shards, seconds;
    const char *compression;
    bool verify, json, hugepages;
};

struct snap { /* counters of all shards at one instant */
    struct counters c;
    uint64_t ns;
};

struct ingest_run {
    struct ingest_opts o;
    struct appliance a;
    int64_t wall_s;
    struct snap from, to;  /* the measured interval */
    struct counters final; /* after a clean stop */
    char stage_name[STATS_STAGES_MAX][STATS_STAGE_NAME_MAX];
    uint32_t stage_cnt, shard_cnt;
    uint64_t tsc_hz;
    bool disk_short;
    struct verify_result v;
    bool v_ok;
};

/* ---- set up */
static int pcaps_write(struct ingest_run *r)
{
    struct gen_pcap_opts g = {.event_size = (uint32_t)r->o.event_size,
                              .wall_s = r->wall_s,
                              .mac = {0x02, 0x70, 0x63, 0x61, 0x70, 0x00}}; /* of a pcap device */
    char path[700];
    /* A queue gets the sources that its shard owns, as a NIC hashing on the source does. */
    for (uint32_t s = 0; s < GEN_SOURCES; s++) {
        char text[16];
        struct net_addr addr;
        gen_source_text(s, text);
        int rc = net_addr_parse_ip(text, (uint32_t)strlen(text), &addr);
        ASSERT(rc == 0);
        g.queue_of_source[s] = (uint32_t)(source_hash(&addr) % r->o.shards);
    }
    for (uint32_t q = 0; q < r->o.shards; q++) {
        (void)snprintf(path, sizeof(path), "%s/frames-%u.pcap", r->a.base, q);
        g.path = path;
        g.queue = q;
        int rc = gen_pcap(&g);
        if (rc < 0)
            return bench_fail("%s: %s", path, err_text(rc));
    }
    return EXIT_OK;
}

static void yaml_make(const struct ingest_run *r, bool with_port, char *buf, size_t cap)
{
    int n = snprintf(buf, cap,
                     APPLIANCE_YAML "shards: %" PRIu64 "\nhugepages: %s\n"
                                    "topic_defaults:\n  segment_bytes: " SEGMENT
                                    "\n  retention_bytes: %s\n  listener_compression: %s\n",
                     r->o.shards, r->o.hugepages ? "true" : "false",
                     with_port ? RETENTION : "-1", /* what is being verified must not go away */
                     r->o.compression);
    if (!with_port) {
        (void)snprintf(buf + n, cap - (size_t)n, "listeners: []\n");
        return;
    }
    n += snprintf(buf + n, cap - (size_t)n,
                  /* infinite_rx keeps every frame of the file in memory of its own */
                  "memory:\n  mbufs: 32768\n"
                  "ports:\n  - name: pcap\n    queues: %" PRIu64 "\n    addresses: [" GEN_ADDRESS
                  "]\n"
                  "    device: \"net_pcap0",
                  r->o.shards);
    for (uint32_t q = 0; q < r->o.shards; q++)
        n += snprintf(buf + n, cap - (size_t)n, ",rx_pcap=%s/frames-%u.pcap", r->a.base, q);
    (void)snprintf(
        buf + n, cap - (size_t)n,
        ",infinite_rx=1\"\n"
        "listeners:\n  - name: " LISTENER
        "\n    transport: udp\n    protocol: syslog\n    port: pcap\n    bind: " GEN_LISTEN
        "\n    topic: " TOPIC "\n    partitions: %d\n",
        PARTITIONS);
}

/* ---- measuring */
static int snap_take(const struct stats_reader *s, struct snap *ret)
{
    for (int i = 0; i < 100; i++) {
        if (stats_read_total(s, &ret->c) == 0) {
            ret->ns = clock_mono_ns();
            return EXIT_OK;
        }
        (void)bench_interrupted();
    }
    return bench_fail("the counters change too fast to be read");
}

static int stats_open_soon(struct ingest_run *r, struct stats_reader **ret)
{
    char path[700];
    (void)snprintf(path, sizeof(path), "%s/run/stats.shm", r->a.dir);
    int rc = stats_open(path, ret);
    if (rc < 0)
        return bench_fail("%s: %s (are sluice-bench and sluiced of the same build?)", path,
                          err_text(rc));
    return EXIT_OK;
}

static int measure(struct ingest_run *r)
{
    struct stats_reader *s = NULL;
    int code = stats_open_soon(r, &s);
    if (code != EXIT_OK)
        return code;
    const struct stats_header *h = stats_header(s);
    memcpy(r->stage_name, h->stage_name, sizeof(r->stage_name));
    r->stage_cnt = h->stage_cnt;
    r->shard_cnt = h->shard_cnt;
    r->tsc_hz = h->tsc_hz;
    uint32_t warm_ms = r->o.seconds > 4 ? 1000 : (uint32_t)r->o.seconds * 250;
    uint64_t end_ns = clock_mono_ns() + r->o.seconds * UINT64_C(1000000000);
    bench_sleep_ms(warm_ms);
    code = snap_take(s, &r->from);
    while (code == EXIT_OK && clock_mono_ns() < end_ns && !bench_interrupted()) {
        uint64_t left_ms = (end_ns - clock_mono_ns()) / 1000000;
        bench_sleep_ms(left_ms < 200 ? (uint32_t)left_ms + 1 : 200);
        if (!appliance_is_alive(&r->a))
            code = bench_fail("the appliance ended while it was measured");
        if (appliance_disk_free(&r->a) < APPLIANCE_DISK_MIN) {
            r->disk_short = true;
            break;
        }
    }
    if (code == EXIT_OK)
        code = snap_take(s, &r->to);
    stats_close(s);
    return code;
}

static int final_read(struct ingest_run *r)
{
    struct stats_reader *s = NULL;
    struct snap *last = malloc(sizeof(*last));
    ASSERT(last != NULL);
    int code = stats_open_soon(r, &s);
    if (code == EXIT_OK)
        code = snap_take(s, last);
    if (code == EXIT_OK)
        r->final = last->c;
    stats_close(s);
    free(last);
    return code;
}

/* ---- judging */
static uint64_t dropped(const struct counters *c)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < PDROP_CNT; i++)
        n += c->port[0].drop[i];
    for (uint32_t i = 0; i < DDROP_CNT; i++)
        n += c->listener[0].drop[i];
    for (uint32_t i = 0; i < EDROP_CNT; i++)
        n += c->events[0].drop[i];
    return n;
}

static int verify(struct ingest_run *r)
{
    char yaml[4096];
    yaml_make(r, false, yaml, sizeof(yaml));
    int code = appliance_start(&r->a, yaml);
    if (code != EXIT_OK)
        return code;
    const struct verify_opts o = {.bootstrap = r->a.bootstrap,
                                  .topic = TOPIC,
                                  .dlq = TOPIC ".dlq",
                                  .event_size = (uint32_t)r->o.event_size,
                                  .wall_s = r->wall_s,
                                  .listener = LISTENER,
                                  .some_dropped = dropped(&r->final) > 0};
    code = verify_run(&o, &r->v);
    if (code != EXIT_OK)
        return code;
    code = appliance_stop(&r->a);
    const struct verify_result *v = &r->v;
    const struct event_stats *e = &r->final.events[0];
    /* What was counted as durable is what the log holds. Events that were dropped, and counted so,
     * are the only ones that may be missing. */
    r->v_ok = v->foreign + v->wrong_partition + v->wrong_header + v->holes + v->backwards == 0 &&
              (v->missing == 0 || dropped(&r->final) > 0) && (uint64_t)v->end == e->durable &&
              (uint64_t)v->dlq_end == e->dead_lettered_durable;
    if (!r->v_ok && r->v.first[0] == '\0')
        (void)snprintf(r->v.first, sizeof(r->v.first),
                       "the ledger says %" PRIu64 " durable and %" PRIu64
                       " dead-lettered, the log ends at %" PRId64 " and %" PRId64,
                       e->durable, e->dead_lettered_durable, v->end, v->dlq_end);
    return code;
}

/* ---- results */
static uint64_t durable_in(const struct ingest_run *r)
{
    const struct event_stats *a = &r->from.c.events[0], *b = &r->to.c.events[0];
    return b->durable + b->dead_lettered_durable - a->durable - a->dead_lettered_durable;
}
static uint64_t lost_in(const struct ingest_run *r)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < EDROP_CNT; i++)
        n += r->to.c.events[0].drop[i] - r->from.c.events[0].drop[i];
    return n;
}
static double seconds_of(const struct ingest_run *r)
{
    return (double)(r->to.ns - r->from.ns) / 1e9;
}
static double cycles_per_event(const struct ingest_run *r, uint64_t cycles)
{
    return durable_in(r) > 0 ? (double)cycles / (double)durable_in(r) : 0;
}

static void drops_add(json_t *o, const struct stats_desc *d, uint32_t cnt, const void *words,
                      const char *prefix)
{
    const uint64_t *w = words;
    for (uint32_t i = 0; i < cnt; i++) {
        char name[96];
        if (!d[i].is_drop || w[d[i].word] == 0)
            continue;
        (void)snprintf(name, sizeof(name), "%s%s", prefix, d[i].name);
        json_object_set_new(o, name, json_integer((json_int_t)w[d[i].word]));
    }
}

static json_t *ledger_json(const struct ingest_run *r)
{
    const struct counters *c = &r->final;
    const struct event_stats *e = &c->events[0];
    char why[160] = "";
    json_t *reasons = json_object();
    drops_add(reasons, stats_event_desc, stats_event_desc_cnt, e, "");
    json_t *upstream = json_object();
    drops_add(upstream, stats_port_desc, stats_port_desc_cnt, &c->port[0], "port.");
    drops_add(upstream, stats_listener_desc, stats_listener_desc_cnt, &c->listener[0], "listener.");
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:o,s:o,s:b,s:I,s:I,s:I}", "produced", (json_int_t)e->produced, "durable",
        (json_int_t)e->durable, "dead_lettered", (json_int_t)e->dead_lettered_durable, "in_flight",
        (json_int_t)e->in_flight, "dropped", reasons, "dropped_before", upstream, "balances",
        stats_check(c, 1, 1, why, sizeof(why)) == 0, "frames_seen", (json_int_t)c->port[0].seen,
        "datagrams_received", (json_int_t)c->listener[0].received, "nic_imissed",
        (json_int_t)c->port[0].nic_imissed);
}

static json_t *stages_json(const struct ingest_run *r)
{
    json_t *o = json_object();
    for (uint32_t i = 0; i < r->stage_cnt; i++)
        json_object_set_new(o, r->stage_name[i],
                            json_real(cycles_per_event(r, r->to.c.shard.stage_cycles[i] -
                                                              r->from.c.shard.stage_cycles[i])));
    return o;
}

static json_t *result_json(const struct ingest_run *r)
{
    const struct shard_stats *a = &r->from.c.shard, *b = &r->to.c.shard;
    double s = seconds_of(r), rate = (double)durable_in(r) / s;
    uint64_t busy = b->busy_cycles - a->busy_cycles, idle = b->idle_cycles - a->idle_cycles;
    uint64_t raw = b->ingest_raw_bytes - a->ingest_raw_bytes,
             sealed = b->ingest_sealed_bytes - a->ingest_sealed_bytes;
    json_t *j = json_pack(
        "{s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:o,s:o,s:f,s:I,s:I,s:I,s:I,s:b,s:o}", "benchmark",
        "ingest", "events_per_second", rate, "bytes_per_second", rate * (double)r->o.event_size,
        "dropped_per_second", (double)lost_in(r) / s, "log_bytes_per_second",
        (double)(b->log_write_bytes - a->log_write_bytes) / s, "compression_ratio",
        sealed > 0 ? (double)raw / (double)sealed : 0.0, "busy_percent",
        busy + idle > 0 ? 100.0 * (double)busy / (double)(busy + idle) : 0.0,
        "busy_cycles_per_event", cycles_per_event(r, busy), "cycles_per_event", stages_json(r),
        "ledger", ledger_json(r), "measured_seconds", s, "group_commits",
        (json_int_t)(b->group_commits - a->group_commits), "flushes",
        (json_int_t)(b->flushes - a->flushes), "longest_turn_us",
        (json_int_t)(r->tsc_hz > 0 ? (double)b->turn_max_cycles * 1e6 / (double)r->tsc_hz : 0),
        "start_ms", (json_int_t)r->a.start_ms, "disk_short", r->disk_short, "machine",
        machine_json());
    json_object_set_new(j, "options",
                        json_pack("{s:I,s:s,s:I,s:I,s:b}", "event_size",
                                  (json_int_t)r->o.event_size, "compression", r->o.compression,
                                  "shards", (json_int_t)r->shard_cnt, "seconds",
                                  (json_int_t)r->o.seconds, "hugepages", r->o.hugepages));
    if (r->o.verify)
        json_object_set_new(j, "verify", verify_json(&r->v, r->v_ok));
    return j;
}

static void result_print(const struct ingest_run *r)
{
    const struct event_stats *e = &r->final.events[0];
    const struct shard_stats *a = &r->from.c.shard, *b = &r->to.c.shard;
    double s = seconds_of(r), rate = (double)durable_in(r) / s;
    uint64_t busy = b->busy_cycles - a->busy_cycles, idle = b->idle_cycles - a->idle_cycles;
    uint64_t lost = 0;
    for (uint32_t i = 0; i < EDROP_CNT; i++)
        lost += e->drop[i];
    machine_print();
    printf("ingest: %" PRIu64 " bytes per event, compression %s, %u shard%s, %.1f s measured\n\n",
           r->o.event_size, r->o.compression, r->shard_cnt, r->shard_cnt == 1 ? "" : "s", s);
    printf("  events, durable        %.0f per second\n", rate);
    if (lost_in(r) > 0)
        printf(
            "  dropped                %.0f per second: offered faster than the disk takes them\n",
            (double)lost_in(r) / s);
    printf("  their bytes            %.1f MB/s\n", rate * (double)r->o.event_size / 1e6);
    printf("  written to the disk    %.1f MB/s\n",
           (double)(b->log_write_bytes - a->log_write_bytes) / s / 1e6);
    if (b->ingest_sealed_bytes > a->ingest_sealed_bytes)
        printf("  compression            %.2f : 1\n",
               (double)(b->ingest_raw_bytes - a->ingest_raw_bytes) /
                   (double)(b->ingest_sealed_bytes - a->ingest_sealed_bytes));
    printf("  shards busy            %.1f %%\n\n  cycles per event\n",
           busy + idle > 0 ? 100.0 * (double)busy / (double)(busy + idle) : 0.0);
    for (uint32_t i = 0; i < r->stage_cnt; i++)
        printf("    %-20s %8.1f\n", r->stage_name[i],
               cycles_per_event(r, b->stage_cycles[i] - a->stage_cycles[i]));
    printf("    %-20s %8.1f\n\n", "all, with the loop", cycles_per_event(r, busy));
    printf("  ledger after a clean stop: produced = durable + dead_lettered + in_flight + dropped\n"
           "    %" PRIu64 " = %" PRIu64 " + %" PRIu64 " + %" PRIu64 " + %" PRIu64 "\n",
           e->produced, e->durable, e->dead_lettered_durable, e->in_flight, lost);
    json_t *ledger = ledger_json(r), *n;
    const char *name;
    json_object_foreach(json_object_get(ledger, "dropped"), name, n)
        printf("    dropped: %s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(n));
    json_object_foreach(json_object_get(ledger, "dropped_before"), name, n)
        printf("    dropped before: %s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(n));
    json_decref(ledger);
    if (r->disk_short)
        printf("  ended early: the disk ran out of space\n");
    if (r->o.verify)
        printf("\n  verify: %s; %" PRIu64 " events and %" PRIu64
               " dead letters read back in %.1f s%s%s\n",
               r->v_ok ? "ok" : "FAILED", r->v.records, r->v.dead_letters, r->v.seconds,
               r->v.first[0] ? "; first: " : "", r->v.first);
}

static int run(struct ingest_run *r)
{
    char yaml[65536], why[160] = "";
    if (appliance_disk_free(&r->a) < APPLIANCE_DISK_MIN + (UINT64_C(4) << 30))
        return bench_fail("%s: less than 6 GiB free; set TMPDIR to a directory on a larger disk",
                          r->a.base);
    int code = pcaps_write(r);
    yaml_make(r, true, yaml, sizeof(yaml));
    if (code == EXIT_OK)
        code = appliance_start(&r->a, yaml);
    if (code == EXIT_OK)
        code = measure(r);
    if (code == EXIT_OK)
        code = appliance_stop(&r->a);
    if (code == EXIT_OK)
        code = final_read(r);
    if (code == EXIT_OK && durable_in(r) == 0)
        code = bench_fail("no event became durable (frames seen %" PRIu64
                          ", datagrams received %" PRIu64 ")",
                          r->to.c.port[0].seen, r->to.c.listener[0].received);
    uint64_t start_ms = r->a.start_ms;
    if (code == EXIT_OK && r->o.verify)
        code = verify(r);
    r->a.start_ms = start_ms;
    if (code != EXIT_OK)
        return code;
    if (r->o.json) {
        json_t *j = result_json(r);
        (void)json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(j);
    } else {
        result_print(r);
    }
    if (stats_check(&r->final, 1, 1, why, sizeof(why)) < 0)
        return bench_fail("the ledger does not balance: %s", why);
    if (r->o.verify && !r->v_ok)
        return bench_fail("verification failed: %s", r->v.first);
    return EXIT_OK;
}

int cmd_ingest(int argc, char **argv)
{
    struct ingest_run *r = calloc(1, sizeof(*r));
    ASSERT(r != NULL);
    r->o =
        (struct ingest_opts){.event_size = 256, .shards = 1, .seconds = 5, .compression = "none"};
    const struct arg_opt opts[] = {
        {"--event-size", NULL, ARG_NUM, &r->o.event_size, GEN_EVENT_MIN, GEN_EVENT_MAX, NULL},
        {"--compression", NULL, ARG_TEXT, &r->o.compression, 0, 0, "none|gzip"},
        {"--shards", NULL, ARG_NUM, &r->o.shards, 1, 16, NULL},
        {"--seconds", NULL, ARG_NUM, &r->o.seconds, 1, BENCH_SECONDS_MAX, NULL},
        {"--verify", NULL, ARG_FLAG, &r->o.verify, 0, 0, NULL},
        {"--hugepages", NULL, ARG_FLAG, &r->o.hugepages, 0, 0, NULL},
        BENCH_OPT_JSON(&r->o.json),
    };
    if (args_parse("sluice-bench ingest", argc, argv, opts, sizeof(opts) / sizeof(opts[0]), NULL,
                   0) < 0) {
        free(r);
        return bench_usage("ingest");
    }
    r->wall_s = clock_wall_ms() / 1000;
    int code = appliance_create(&r->a);
    if (code == EXIT_OK)
        code = run(r);
    appliance_remove(&r->a);
    free(r);
    return code;
}
