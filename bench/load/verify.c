#include "bench/load/verify.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BURST 2048
#define PARTITIONS_MAX 4096 /* ours have 16 */
#define QUIET_MS 30000
#define HEADERS_EVERY 64 /* headers of every so many records: taking them apart is what costs */

struct checker {
    const struct verify_opts *o;
    struct verify_result *v;
    char *event; /* GEN_FRAMES * event_size: what was sent */
    bool dlq;
    int64_t *next;                /* by partition: lowest offset that may come */
    int32_t part_of[GEN_SOURCES]; /* -1: not seen yet */
    uint32_t n_next[GEN_SOURCES]; /* number expected next; GEN_CYCLE: any */
};

__attribute__((format(printf, 3, 4))) static void wrong(struct checker *k, uint64_t *cnt,
                                                        const char *fmt, ...)
{
    va_list ap;
    (*cnt)++;
    if (k->v->first[0] != '\0')
        return;
    va_start(ap, fmt);
    (void)vsnprintf(k->v->first, sizeof(k->v->first), fmt, ap);
    va_end(ap);
}

/* The number that follows n among this source's well-formed (or, for dead letters, malformed)
 * frames. */
static uint32_t next_number(const struct checker *k, uint32_t source, uint32_t n)
{
    for (uint32_t i = 1; i <= GEN_CYCLE; i++) {
        uint32_t m = (n + i) % GEN_CYCLE;
        if (gen_is_malformed(m * GEN_SOURCES + source) == k->dlq)
            return m;
    }
    return n;
}

static bool header_is(const rd_kafka_headers_t *h, const char *name, const char *want)
{
    const void *v;
    size_t len;
    return rd_kafka_header_get_last(h, name, &v, &len) == 0 && v != NULL && len == strlen(want) &&
           memcmp(v, want, len) == 0;
}
static void check_headers(struct checker *k, const rd_kafka_message_t *m, uint32_t source)
{
    char want[16];
    rd_kafka_headers_t *h = NULL;
    gen_source_text(source, want);
    if (rd_kafka_message_headers(m, &h) != 0 || h == NULL || !header_is(h, "source", want) ||
        !header_is(h, "listener", k->o->listener))
        wrong(k, &k->v->wrong_header,
              "partition %d offset %" PRId64 ": header source is not %s, or listener not %s",
              m->partition, m->offset, want, k->o->listener);
}

static void missing(struct checker *k, uint32_t source, uint32_t n, const rd_kafka_message_t *m)
{
    if (k->o->some_dropped)
        k->v->missing++;
    else
        wrong(k, &k->v->missing,
              "source %u: event %u is missing before partition %d offset %" PRId64, source, n,
              m->partition, m->offset);
}

static void check_record(struct checker *k, const rd_kafka_message_t *m)
{
    struct verify_result *v = k->v;
    int64_t *next = &k->next[m->partition];
    uint64_t total = k->dlq ? ++v->dead_letters : ++v->records;
    if (m->offset < *next)
        wrong(k, &v->backwards, "partition %d: offset %" PRId64 " after %" PRId64, m->partition,
              m->offset, *next - 1);
    else if (m->offset > *next)
        wrong(k, &v->holes, "partition %d: offset %" PRId64 " where %" PRId64 " should be",
              m->partition, m->offset, *next);
    *next = m->offset + 1;

    uint32_t i = m->payload == NULL ? GEN_FRAMES : gen_index_of(m->payload, (uint32_t)m->len);
    if (i == GEN_FRAMES || m->len != k->o->event_size || gen_is_malformed(i) != k->dlq ||
        memcmp(m->payload, k->event + (size_t)i * k->o->event_size, m->len) != 0) {
        wrong(k, &v->foreign,
              "partition %d offset %" PRId64 ": %zu bytes that are not what was sent", m->partition,
              m->offset, m->len);
        return;
    }
    uint32_t source = i % GEN_SOURCES, n = i / GEN_SOURCES;
    if (k->part_of[source] < 0)
        k->part_of[source] = m->partition;
    else if (k->part_of[source] != m->partition)
        wrong(k, &v->wrong_partition, "source %u is in partitions %d and %d", source,
              k->part_of[source], m->partition);
    if (k->n_next[source] != GEN_CYCLE)
        for (uint32_t at = k->n_next[source]; at != n; at = next_number(k, source, at))
            missing(k, source, at, m);
    k->n_next[source] = next_number(k, source, n);
    if (total % HEADERS_EVERY == 0)
        check_headers(k, m, source);
}

/* Reads the topic from its start to its present end. */
static int read_topic(struct checker *k, const char *topic, int64_t *ret_end)
{
    static const struct client_opt opts[] = {{"fetch.message.max.bytes", "2097152"},
                                             {"queued.max.messages.kbytes", "131072"},
                                             {"fetch.wait.max.ms", "50"},
                                             {NULL, NULL}};
    rd_kafka_message_t **burst = calloc(BURST, sizeof(*burst));
    struct client_range *r = calloc(PARTITIONS_MAX, sizeof(*r));
    uint32_t parts = 0;
    k->next = calloc(PARTITIONS_MAX, sizeof(*k->next));
    ASSERT(r != NULL && burst != NULL && k->next != NULL);
    for (uint32_t s = 0; s < GEN_SOURCES; s++) {
        k->part_of[s] = -1;
        k->n_next[s] = GEN_CYCLE;
    }
    rd_kafka_t *rk = client_new(RD_KAFKA_CONSUMER, k->o->bootstrap, opts, NULL, NULL);
    rd_kafka_queue_t *q = NULL;
    int code = rk == NULL ? EXIT_FAILED : client_partitions(rk, topic, &parts);
    ASSERT(parts <= PARTITIONS_MAX);
    if (code == EXIT_OK)
        code = client_ranges(rk, topic, parts, r);
    int64_t want = 0;
    uint64_t got = 0;
    for (uint32_t p = 0; p < parts; p++) {
        k->next[p] = r[p].low;
        want += r[p].high - r[p].low;
        *ret_end += r[p].high;
    }
    if (code == EXIT_OK && want > 0)
        code = client_assign(rk, topic, 0, parts, r, false);
    if (code == EXIT_OK)
        q = rd_kafka_queue_get_consumer(rk);
    uint64_t last_ns = clock_mono_ns();
    while (code == EXIT_OK && (int64_t)got < want) {
        ssize_t n = rd_kafka_consume_batch_queue(q, 200, burst, BURST);
        for (ssize_t i = 0; i < n; i++) {
            if (burst[i]->err != 0 && code == EXIT_OK)
                code = bench_fail("reading %s: %s", topic, rd_kafka_message_errstr(burst[i]));
            else if (burst[i]->err == 0 && burst[i]->offset < r[burst[i]->partition].high) {
                check_record(k, burst[i]);
                got++;
            }
            rd_kafka_message_destroy(burst[i]);
        }
        if (n > 0)
            last_ns = clock_mono_ns();
        else if (clock_mono_ns() - last_ns > QUIET_MS * UINT64_C(1000000))
            code = bench_fail("reading %s: nothing more after %" PRIu64 " of %" PRId64 " records",
                              topic, got, want);
        if (bench_interrupted())
            code = bench_fail("interrupted");
    }
    if (q != NULL)
        rd_kafka_queue_destroy(q);
    if (rk != NULL) {
        (void)rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
    }
    free(k->next);
    free(burst);
    free(r);
    return code;
}

int verify_run(const struct verify_opts *o, struct verify_result *ret)
{
    struct checker k = {.o = o, .v = ret};
    uint64_t from = clock_mono_ns();
    memset(ret, 0, sizeof(*ret));
    k.event = malloc((size_t)GEN_FRAMES * o->event_size);
    ASSERT(k.event != NULL);
    for (uint32_t i = 0; i < GEN_FRAMES; i++)
        gen_event(k.event + (size_t)i * o->event_size, o->event_size, i, o->wall_s);
    int code = read_topic(&k, o->topic, &ret->end);
    k.dlq = true;
    if (code == EXIT_OK)
        code = read_topic(&k, o->dlq, &ret->dlq_end);
    free(k.event);
    ret->seconds = (double)(clock_mono_ns() - from) / 1e9;
    return code;
}

json_t *verify_json(const struct verify_result *v, bool ok)
{
    return json_pack("{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:s}", "ok", ok, "records",
                     (json_int_t)v->records, "dead_letters", (json_int_t)v->dead_letters, "stored",
                     (json_int_t)v->end, "stored_dead_letters", (json_int_t)v->dlq_end, "foreign",
                     (json_int_t)v->foreign, "wrong_partition", (json_int_t)v->wrong_partition,
                     "wrong_header", (json_int_t)v->wrong_header, "holes", (json_int_t)v->holes,
                     "backwards", (json_int_t)v->backwards, "missing", (json_int_t)v->missing,
                     "seconds", v->seconds, "first_error", v->first);
}
