/* paced.c - records at a steady rate, acks=all, and a reader at the end of the log: how long until
 * each is acknowledged, and how long until it is read (durable then). */
#include "bench/load/produce.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_NS UINT64_C(1000000)
#define WARM_NS UINT64_C(200000000) /* the first connects and asks for metadata */
#define QUIET_NS UINT64_C(30000000000)
#define FLUSH_MS 30000

struct pacer {
    const struct paced_opts *o;
    uint32_t size;
    pthread_t thread;
    uint64_t start_ns;
    _Atomic bool stop;
    _Atomic uint64_t sent;
    struct latency *acked;
    int code;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct pacer *p = opaque;
    uint64_t sent_ns = (uint64_t)(uintptr_t)m->_private;
    if (m->err != 0)
        p->code = bench_fail("producing to %s: %s", p->o->topic, rd_kafka_message_errstr(m));
    else if (sent_ns - p->start_ns > WARM_NS)
        latency_add(p->acked, clock_mono_ns() - sent_ns);
}

static void produce_one(struct pacer *p, rd_kafka_topic_t *topic, char *value)
{
    uint64_t now = clock_mono_ns();
    memcpy(value, &now, sizeof(now)); /* the consumer is in this process: one clock */
    if (rd_kafka_produce(topic, (int32_t)p->o->partition, RD_KAFKA_MSG_F_COPY, value, p->size, NULL,
                         0, (void *)(uintptr_t)now) == 0)
        p->sent++;
    else
        p->code =
            bench_fail("producing to %s: %s", p->o->topic, rd_kafka_err2str(rd_kafka_last_error()));
}

static void *pacer_main(void *arg)
{
    static const struct client_opt opts[] = {{"acks", "all"},
                                             {"linger.ms", "0"},
                                             {"queue.buffering.max.messages", "1000000"},
                                             {NULL, NULL}};
    struct pacer *p = arg;
    char *value = malloc(p->size);
    ASSERT(value != NULL);
    payload_fill(value, p->size, 1);
    rd_kafka_t *rk = client_new(RD_KAFKA_PRODUCER, p->o->bootstrap, opts, on_delivery, p);
    p->code = rk == NULL ? EXIT_FAILED : EXIT_OK;
    rd_kafka_topic_t *topic = rk != NULL ? rd_kafka_topic_new(rk, p->o->topic, NULL) : NULL;
    uint64_t next = clock_mono_ns(), due = 0;
    while (p->code == EXIT_OK && !p->stop) {
        uint64_t now = clock_mono_ns();
        if (now < next) {
            struct timespec ts = {.tv_nsec = (long)(next - now)};
            (void)nanosleep(&ts, NULL);
            continue;
        }
        next += TICK_NS;
        for (due += p->o->rate; due >= 1000 && p->code == EXIT_OK; due -= 1000)
            produce_one(p, topic, value);
        (void)rd_kafka_poll(rk, 0);
    }
    if (rk != NULL) {
        if (rd_kafka_flush(rk, FLUSH_MS) != 0 && p->code == EXIT_OK)
            p->code = bench_fail("producing to %s: not everything was acknowledged", p->o->topic);
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(rk);
    }
    free(value);
    return NULL;
}

/* Reads what the pacer sends until all of it came. */
static int tail_read(rd_kafka_t *rk, struct pacer *p, struct latency *ret)
{
    uint64_t heard = p->start_ns, got = 0;
    while (!bench_interrupted()) {
        uint64_t now = clock_mono_ns();
        if (now - p->start_ns > p->o->ns || p->code != EXIT_OK)
            p->stop = true;
        if (p->stop && (got >= p->sent || p->code != EXIT_OK))
            break;
        if (now - heard > QUIET_NS)
            return bench_fail("reading %s: %" PRIu64 " of %" PRIu64 " records came", p->o->topic,
                              got, (uint64_t)p->sent);
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 50);
        if (m == NULL)
            continue;
        now = heard = clock_mono_ns();
        uint64_t sent_ns = 0;
        int code = m->err != 0
                       ? bench_fail("reading %s: %s", p->o->topic, rd_kafka_message_errstr(m))
                       : EXIT_OK;
        if (m->err == 0 && m->len >= sizeof(sent_ns)) {
            memcpy(&sent_ns, m->payload, sizeof(sent_ns));
            got++;
            if (sent_ns - p->start_ns > WARM_NS)
                latency_add(ret, now - sent_ns);
        }
        rd_kafka_message_destroy(m);
        if (code != EXIT_OK)
            return code;
    }
    return EXIT_OK;
}

int paced_run(const struct paced_opts *o, struct paced_result *ret)
{
    static const struct client_opt opts[] = {
        {"fetch.wait.max.ms", "500"}, {"fetch.min.bytes", "1"}, {NULL, NULL}};
    struct pacer p = {.o = o,
                      .size = o->size < 8 ? 8 : o->size,
                      .start_ns = clock_mono_ns(),
                      .acked = &ret->acked};
    struct client_range *ranges = calloc(o->partition + 1, sizeof(*ranges));
    ASSERT(ranges != NULL);
    rd_kafka_t *rk = client_new(RD_KAFKA_CONSUMER, o->bootstrap, opts, NULL, NULL);
    int code = rk == NULL ? EXIT_FAILED : client_ranges(rk, o->topic, o->partition + 1, ranges);
    if (code == EXIT_OK)
        code = client_assign(rk, o->topic, o->partition, o->partition + 1, ranges, true);
    if (code == EXIT_OK) {
        p.start_ns = clock_mono_ns();
        int rc = pthread_create(&p.thread, NULL, pacer_main, &p);
        ASSERT(rc == 0);
        code = tail_read(rk, &p, &ret->end_to_end);
        p.stop = true;
        (void)pthread_join(p.thread, NULL);
    }
    if (rk != NULL) {
        (void)rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
    }
    free(ranges);
    return code != EXIT_OK ? code : p.code;
}
