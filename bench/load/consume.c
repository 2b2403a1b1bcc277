/* consume.c - two measurements with librdkafka consumers, one per connection:
 * reading back what was produced before, at full speed, from the start again and again; then, at
 * the end of the log, the time from produce() of a record to its consumer (1,000 records a second,
 * acks=all: they are durable when the consumer sees them). */
#include "bench/load/produce.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define BURST 2048
#define FILL_BYTES (UINT64_C(256) << 20) /* over all connections */
#define QUIET_MS 30000

struct consumer { /* one thread */
    const char *bootstrap, *topic;
    uint32_t partition;
    const struct client_range *ranges;
    uint64_t end_ns; /* do not begin another round after this */
    pthread_t thread;
    uint64_t records, bytes, rounds;
    uint64_t first_ns, last_ns;
    int code;
};

static rd_kafka_t *consumer_new(const char *bootstrap)
{
    static const struct client_opt opts[] = {{"fetch.message.max.bytes", "4194304"},
                                             {"queued.max.messages.kbytes", "65536"},
                                             {"fetch.wait.max.ms", "100"},
                                             {"queued.min.messages", "1000000"},
                                             {NULL, NULL}};
    return client_new(RD_KAFKA_CONSUMER, bootstrap, opts, NULL, NULL);
}

static void *consumer_main(void *arg)
{
    struct consumer *c = arg;
    rd_kafka_message_t **burst = calloc(BURST, sizeof(*burst));
    rd_kafka_t *rk = consumer_new(c->bootstrap);
    int64_t end = c->ranges[c->partition].high;
    ASSERT(burst != NULL);
    c->code = rk == NULL ? EXIT_FAILED : EXIT_OK;
    rd_kafka_queue_t *q = rk != NULL ? rd_kafka_queue_get_consumer(rk) : NULL;
    c->first_ns = c->last_ns = clock_mono_ns();
    uint64_t heard_ns = c->first_ns;
    while (c->code == EXIT_OK && !bench_interrupted()) {
        if (c->rounds > 0 && clock_mono_ns() >= c->end_ns)
            break;
        c->code = client_assign(rk, c->topic, c->partition, c->partition + 1, c->ranges, false);
        int64_t next = c->ranges[c->partition].low;
        while (c->code == EXIT_OK && next < end && !bench_interrupted()) {
            ssize_t n = rd_kafka_consume_batch_queue(q, 100, burst, BURST);
            for (ssize_t i = 0; i < n; i++) {
                const rd_kafka_message_t *m = burst[i];
                if (m->err != 0 && c->code == EXIT_OK)
                    c->code = bench_fail("reading %s partition %u: %s", c->topic, c->partition,
                                         rd_kafka_message_errstr(m));
                else if (m->err == 0 && m->offset != next && c->code == EXIT_OK)
                    c->code = bench_fail("reading %s partition %u: offset %" PRId64
                                         " where %" PRId64 " should be",
                                         c->topic, c->partition, m->offset, next);
                if (m->err == 0) {
                    next = m->offset + 1;
                    c->records++;
                    c->bytes += m->len;
                }
                rd_kafka_message_destroy(burst[i]);
            }
            uint64_t now = clock_mono_ns();
            if (n > 0)
                c->last_ns = heard_ns = now;
            else if (now - heard_ns > QUIET_MS * UINT64_C(1000000))
                c->code = bench_fail("reading %s partition %u: nothing more at offset %" PRId64,
                                     c->topic, c->partition, next);
            if (c->rounds > 0 && now >= c->end_ns)
                break;
        }
        c->rounds++;
    }
    if (q != NULL)
        rd_kafka_queue_destroy(q);
    if (rk != NULL) {
        (void)rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
    }
    free(burst);
    return NULL;
}

struct consume_result {
    uint64_t records, bytes;
    double seconds;
    struct paced_result paced;
};

static int read_back(const char *bootstrap, const char *topic, uint32_t connections, uint64_t ns,
                     struct consume_result *ret)
{
    struct client_range *ranges = calloc(connections, sizeof(*ranges));
    struct consumer *c = calloc(connections, sizeof(*c));
    uint64_t first = UINT64_MAX, last = 0;
    ASSERT(ranges != NULL);
    ASSERT(c != NULL);
    rd_kafka_t *rk = consumer_new(bootstrap);
    int code = rk == NULL ? EXIT_FAILED : client_ranges(rk, topic, connections, ranges);
    if (rk != NULL) {
        (void)rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
    }
    uint32_t started = 0;
    uint64_t end_ns = clock_mono_ns() + ns;
    for (; code == EXIT_OK && started < connections; started++) {
        c[started] = (struct consumer){.bootstrap = bootstrap,
                                       .topic = topic,
                                       .partition = started,
                                       .ranges = ranges,
                                       .end_ns = end_ns};
        int rc = pthread_create(&c[started].thread, NULL, consumer_main, &c[started]);
        ASSERT(rc == 0);
    }
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(c[i].thread, NULL);
        ret->records += c[i].records;
        ret->bytes += c[i].bytes;
        first = c[i].first_ns < first ? c[i].first_ns : first;
        last = c[i].last_ns > last ? c[i].last_ns : last;
        if (c[i].code != EXIT_OK)
            code = EXIT_FAILED;
    }
    ret->seconds = last > first ? (double)(last - first) / 1e9 : 0;
    free(c);
    free(ranges);
    return code;
}

int cmd_consume(int argc, char **argv)
{
    const char *bootstrap = NULL, *compression = "none";
    uint64_t size = 1024, seconds = 5, connections = 1, shards = 1;
    bool json = false;
    const struct arg_opt opts[] = {
        {"--bootstrap", NULL, ARG_TEXT, &bootstrap, 0, 0, NULL},
        {"--size", NULL, ARG_NUM, &size, 1, 1000000, NULL},
        {"--seconds", NULL, ARG_NUM, &seconds, 1, BENCH_SECONDS_MAX, NULL},
        {"--compression", NULL, ARG_TEXT, &compression, 0, 0, "none|gzip|snappy|lz4|zstd"},
        {"--connections", NULL, ARG_NUM, &connections, 1, 64, NULL},
        {"--shards", NULL, ARG_NUM, &shards, 1, 16, NULL},
        BENCH_OPT_JSON(&json),
    };
    if (args_parse("sluice-bench consume", argc, argv, opts, sizeof(opts) / sizeof(opts[0]), NULL,
                   0) < 0)
        return bench_usage("consume");
    struct target t;
    struct consume_result *r = calloc(1, sizeof(*r));
    struct produce_result *fill = calloc(1, sizeof(*fill));
    ASSERT(r != NULL);
    ASSERT(fill != NULL);
    int code = target_open(&t, bootstrap, "consume", (uint32_t)connections, shards);
    const struct produce_opts o = {.bootstrap = t.bootstrap,
                                   .topic = t.topic,
                                   .acks = "1",
                                   .compression = compression,
                                   .size = (uint32_t)size,
                                   .connections = (uint32_t)connections,
                                   .seconds = seconds,
                                   .bytes_max = FILL_BYTES / connections};
    uint64_t tail_ns = seconds * UINT64_C(1000000000) * 3 / 10;
    if (code == EXIT_OK)
        code = produce_run(&o, fill);
    if (code == EXIT_OK)
        code = read_back(t.bootstrap, t.topic, (uint32_t)connections,
                         seconds * UINT64_C(1000000000) - tail_ns, r);
    const struct paced_opts po = {.bootstrap = t.bootstrap,
                                  .topic = t.topic,
                                  .size = (uint32_t)size,
                                  .rate = 1000,
                                  .ns = tail_ns};
    if (code == EXIT_OK)
        code = paced_run(&po, &r->paced);
    double per_s = r->seconds > 0 ? (double)r->records / r->seconds : 0;
    double bytes_per_s = r->seconds > 0 ? (double)r->bytes / r->seconds : 0;
    if (code == EXIT_OK && json) {
        json_t *j = json_pack(
            "{s:s,s:f,s:f,s:I,s:I,s:f,s:o,s:{s:I,s:s,s:I,s:I},s:o}", "benchmark", "consume",
            "records_per_second", per_s, "bytes_per_second", bytes_per_s, "records",
            (json_int_t)r->records, "distinct_records", (json_int_t)fill->records,
            "measured_seconds", r->seconds, "end_to_end_us", latency_json(&r->paced.end_to_end),
            "options", "size", (json_int_t)size, "compression", compression, "connections",
            (json_int_t)connections, "seconds", (json_int_t)seconds, "machine", machine_json());
        (void)json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(j);
    } else if (code == EXIT_OK) {
        machine_print();
        printf("consume: %" PRIu64 " bytes per record, compression %s, %" PRIu64
               " connection%s, %.1f s\n\n",
               size, compression, connections, connections == 1 ? "" : "s", r->seconds);
        printf("  records                %.0f per second\n  their values           %.1f MB/s\n",
               per_s, bytes_per_s / 1e6);
        latency_print("produce to consumer", &r->paced.end_to_end);
        printf("  (the latter at 1,000 records a second, acks=all)\n");
    }
    free(r);
    free(fill);
    return target_close(&t, code);
}
