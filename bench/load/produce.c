/* produce.c - librdkafka producers at full speed, one per connection and partition. */
#include "bench/load/produce.h"
#include "bench/load/gen.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAYLOADS 64
#define QUEUE_MAX                                                                                  \
    "20000" /* records waiting in a client: what is above is a queue's, not the log's, latency */
#define FLUSH_MS 60000

/* ---- target */
int target_open(struct target *t, const char *bootstrap, const char *name, uint32_t partitions,
                uint64_t shards)
{
    char yaml[512];
    memset(t, 0, sizeof(*t));
    (void)snprintf(t->topic, sizeof(t->topic), "sluice-bench-%s-%d", name, (int)getpid());
    t->bootstrap = bootstrap;
    if (bootstrap == NULL) {
        int code = appliance_create(&t->a);
        if (code != EXIT_OK)
            return code;
        if (appliance_disk_free(&t->a) < APPLIANCE_DISK_MIN + (UINT64_C(4) << 30))
            return bench_fail(
                "%s: less than 6 GiB free; set TMPDIR to a directory on a larger disk", t->a.base);
        (void)snprintf(yaml, sizeof(yaml), APPLIANCE_YAML "shards: %" PRIu64 "\nlisteners: []\n",
                       shards);
        code = appliance_start(&t->a, yaml);
        if (code != EXIT_OK)
            return code;
        t->bootstrap = t->a.bootstrap;
    }
    static const struct client_opt none[] = {{NULL, NULL}};
    rd_kafka_t *rk = client_new(RD_KAFKA_PRODUCER, t->bootstrap, none, NULL, NULL);
    if (rk == NULL)
        return EXIT_FAILED;
    int code = client_topic_create(rk, t->topic, partitions);
    rd_kafka_destroy(rk);
    return code;
}

int target_close(struct target *t, int code)
{
    if (t->a.base[0] != '\0') {
        if (t->a.pid > 0 && appliance_stop(&t->a) != EXIT_OK)
            code = EXIT_FAILED;
        appliance_remove(&t->a);
        return code;
    }
    static const struct client_opt none[] = {{NULL, NULL}};
    rd_kafka_t *rk = t->bootstrap != NULL && code == EXIT_OK
                         ? client_new(RD_KAFKA_PRODUCER, t->bootstrap, none, NULL, NULL)
                         : NULL;
    if (rk != NULL) {
        if (client_topic_delete(rk, t->topic) != EXIT_OK)
            code = EXIT_FAILED;
        rd_kafka_destroy(rk);
    }
    return code;
}

/* ---- producing */
void payload_fill(char *p, uint32_t size, uint32_t seed)
{
    char event[GEN_EVENT_MAX];
    for (uint32_t at = 0, k = 0; at < size; at += GEN_EVENT_MAX, k++) {
        gen_event(event, GEN_EVENT_MAX, seed * 977 + k, 1700000000);
        memcpy(p + at, event, size - at < GEN_EVENT_MAX ? size - at : GEN_EVENT_MAX);
    }
}

struct producer { /* one thread */
    const struct produce_opts *o;
    uint32_t partition;
    pthread_t thread;
    char *payload; /* PAYLOADS of them */
    uint64_t records, failed;
    uint64_t first_ns, last_ns;
    struct latency latency;
    char error[256];
    int code;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct producer *p = opaque;
    uint64_t now = clock_mono_ns();
    if (m->err != 0) {
        if (p->failed++ == 0)
            (void)snprintf(p->error, sizeof(p->error), "%s", rd_kafka_message_errstr(m));
        return;
    }
    p->records++;
    p->last_ns = now;
    latency_add(&p->latency, now - (uint64_t)(uintptr_t)m->_private);
}

static void *producer_main(void *arg)
{
    struct producer *p = arg;
    const struct produce_opts *o = p->o;
    const struct client_opt opts[] = {{"acks", o->acks},
                                      {"compression.codec", o->compression},
                                      {"linger.ms", "1"},
                                      {"batch.num.messages", "10000"},
                                      {"batch.size", "1000000"},
                                      {"queue.buffering.max.messages", QUEUE_MAX},
                                      {"queue.buffering.max.kbytes", "65536"},
                                      {"message.max.bytes", "10000000"},
                                      {"message.timeout.ms", "60000"},
                                      {NULL, NULL}};
    p->code = EXIT_FAILED;
    rd_kafka_t *rk = client_new(RD_KAFKA_PRODUCER, o->bootstrap, opts, on_delivery, p);
    if (rk == NULL)
        return NULL;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, o->topic, NULL);
    uint64_t sent = 0, bytes = 0;
    p->first_ns = p->last_ns = clock_mono_ns();
    uint64_t end_ns = p->first_ns + o->seconds * UINT64_C(1000000000);
    while (!bench_interrupted()) {
        uint64_t now = clock_mono_ns();
        if (now >= end_ns || (o->bytes_max > 0 && bytes >= o->bytes_max) || p->failed > 0)
            break;
        if (rd_kafka_produce(topic, (int32_t)p->partition, 0,
                             p->payload + (sent % PAYLOADS) * o->size, o->size, NULL, 0,
                             (void *)(uintptr_t)now) == 0) {
            sent++;
            bytes += o->size;
            if (sent % 64 == 0)
                (void)rd_kafka_poll(rk, 0);
        } else if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            (void)rd_kafka_poll(rk, 1);
        } else {
            (void)snprintf(p->error, sizeof(p->error), "%s",
                           rd_kafka_err2str(rd_kafka_last_error()));
            p->failed++;
        }
    }
    rd_kafka_resp_err_t e = rd_kafka_flush(rk, FLUSH_MS);
    if (e != 0 && p->error[0] == '\0')
        (void)snprintf(p->error, sizeof(p->error), "waiting for acknowledgements: %s",
                       rd_kafka_err2str(e));
    if (e == 0 && p->failed == 0 && p->records == sent)
        p->code = EXIT_OK;
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return NULL;
}

int produce_run(const struct produce_opts *o, struct produce_result *ret)
{
    struct producer *p = calloc(o->connections, sizeof(*p));
    char *payload = malloc((size_t)PAYLOADS * o->size);
    uint64_t first = UINT64_MAX, last = 0;
    int code = EXIT_OK;
    ASSERT(p != NULL);
    ASSERT(payload != NULL);
    for (uint32_t i = 0; i < PAYLOADS; i++)
        payload_fill(payload + (size_t)i * o->size, o->size, i);
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < o->connections; i++) {
        p[i].o = o;
        p[i].partition = i;
        p[i].payload = payload;
        int rc = pthread_create(&p[i].thread, NULL, producer_main, &p[i]);
        ASSERT(rc == 0);
    }
    for (uint32_t i = 0; i < o->connections; i++) {
        (void)pthread_join(p[i].thread, NULL);
        ret->records += p[i].records;
        ret->failed += p[i].failed;
        latency_merge(&ret->latency, &p[i].latency);
        first = p[i].first_ns < first ? p[i].first_ns : first;
        last = p[i].last_ns > last ? p[i].last_ns : last;
        if (p[i].code != EXIT_OK && code == EXIT_OK)
            code = bench_fail("producing to %s partition %u: %s", o->topic, i,
                              p[i].error[0] ? p[i].error : "not everything was acknowledged");
    }
    ret->seconds = last > first ? (double)(last - first) / 1e9 : 0;
    free(payload);
    free(p);
    return code;
}

int cmd_produce(int argc, char **argv)
{
    const char *bootstrap = NULL, *acks = "all", *compression = "none";
    uint64_t size = 1024, seconds = 5, connections = 1, shards = 1;
    bool json = false;
    const struct arg_opt opts[] = {
        {"--bootstrap", NULL, ARG_TEXT, &bootstrap, 0, 0, NULL},
        {"--size", NULL, ARG_NUM, &size, 1, 1000000, NULL},
        {"--acks", NULL, ARG_TEXT, &acks, 0, 0, "all|1|0"},
        {"--seconds", NULL, ARG_NUM, &seconds, 1, BENCH_SECONDS_MAX, NULL},
        {"--compression", NULL, ARG_TEXT, &compression, 0, 0, "none|gzip|snappy|lz4|zstd"},
        {"--connections", NULL, ARG_NUM, &connections, 1, 64, NULL},
        {"--shards", NULL, ARG_NUM, &shards, 1, 16, NULL},
        BENCH_OPT_JSON(&json),
    };
    if (args_parse("sluice-bench produce", argc, argv, opts, sizeof(opts) / sizeof(opts[0]), NULL,
                   0) < 0)
        return bench_usage("produce");
    struct target t;
    struct produce_result *r = calloc(1, sizeof(*r));
    ASSERT(r != NULL);
    int code = target_open(&t, bootstrap, "produce", (uint32_t)connections, shards);
    const struct produce_opts o = {.bootstrap = t.bootstrap,
                                   .topic = t.topic,
                                   .acks = acks,
                                   .compression = compression,
                                   .size = (uint32_t)size,
                                   .connections = (uint32_t)connections,
                                   .seconds = seconds};
    if (code == EXIT_OK)
        code = produce_run(&o, r);
    double per_s = r->seconds > 0 ? (double)r->records / r->seconds : 0;
    if (code == EXIT_OK && json) {
        json_t *j = json_pack(
            "{s:s,s:f,s:f,s:I,s:f,s:o,s:{s:I,s:s,s:s,s:I,s:I},s:o}", "benchmark", "produce",
            "records_per_second", per_s, "bytes_per_second", per_s * (double)size, "records",
            (json_int_t)r->records, "measured_seconds", r->seconds, "latency_us",
            latency_json(&r->latency), "options", "size", (json_int_t)size, "acks", acks,
            "compression", compression, "connections", (json_int_t)connections, "seconds",
            (json_int_t)seconds, "machine", machine_json());
        (void)json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(j);
    } else if (code == EXIT_OK) {
        machine_print();
        printf("produce: %" PRIu64 " bytes per record, acks=%s, compression %s, %" PRIu64
               " connection%s, %.1f s\n\n",
               size, acks, compression, connections, connections == 1 ? "" : "s", r->seconds);
        printf("  records                %.0f per second\n  their values           %.1f MB/s\n",
               per_s, per_s * (double)size / 1e6);
        latency_print("produce to answer", &r->latency);
    }
    free(r);
    return target_close(&t, code);
}
