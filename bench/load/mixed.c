/* mixed.c - what a reader that replays the log from its beginning does to producers and to readers
 * at its end: both are measured with and without it, by turns. */
#include "bench/load/produce.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/span.h"
#include "lib/batch/layout.h"
#include <inttypes.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PAIRS_MAX 32
#define FETCH_BYTES (1u << 20) /* what a Java consumer asks of a partition */
#define REPLAYED 0             /* the partition that is filled and replayed */
#define PACED 1                /* the one that is produced to and read at its end */

struct replay {
    const char *bootstrap, *topic;
    pthread_t thread;
    _Atomic bool stop;
    uint64_t bytes;
    double seconds;
    int code;
};

/* Fetch requests by hand, version 4: a client library would take more of the cores that all share
 * than the appliance does, and what is to be seen is what the appliance does. */
static int fetch_connect(const char *bootstrap)
{
    char host[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *ai = NULL;
    const char *colon = strrchr(bootstrap, ':');
    if (colon == NULL || (size_t)(colon - bootstrap) >= sizeof(host))
        return -1;
    memcpy(host, bootstrap, (size_t)(colon - bootstrap));
    host[colon - bootstrap] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &ai) != 0)
        return -1;
    struct timeval patience = {.tv_sec = 30};
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool open = fd >= 0 &&
                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
                connect(fd, ai->ai_addr, ai->ai_addrlen) == 0;
    freeaddrinfo(ai);
    if (!open && fd >= 0)
        (void)close(fd);
    return open ? fd : -1;
}

static bool recv_all(int fd, uint8_t *p, uint32_t len)
{
    while (len > 0) {
        ssize_t n = recv(fd, p, len, 0);
        if (n <= 0)
            return false;
        p += n;
        len -= (uint32_t)n;
    }
    return true;
}

static bool fetch_send(int fd, const char *topic, int64_t offset)
{
    uint8_t b[256] = {0};
    uint32_t n = (uint32_t)strlen(topic), at = 4;
    store_be16(b + at, 1); /* Fetch */
    store_be16(b + at + 2, 4);
    store_be16(b + at + 8, UINT16_MAX);  /* no client id */
    store_be32(b + at + 10, UINT32_MAX); /* replica -1 */
    store_be32(b + at + 14, 500);
    store_be32(b + at + 18, 1);
    store_be32(b + at + 22, FETCH_BYTES);
    store_be32(b + at + 27, 1);
    store_be16(b + at + 31, (uint16_t)n);
    memcpy(b + at + 33, topic, n); /* target.topic is shorter than 64 */
    at += 33 + n;
    store_be32(b + at, 1);
    store_be32(b + at + 4, REPLAYED);
    store_be64(b + at + 8, (uint64_t)offset);
    store_be32(b + at + 16, FETCH_BYTES);
    at += 20;
    store_be32(b, at - 4);
    return send(fd, b, at, MSG_NOSIGNAL) == (ssize_t)at;
}

/* The bytes of whole batches in the answer, *offset behind them; negative: an error, or not an
 * answer. */
static int64_t fetch_answer(const uint8_t *b, uint32_t len, uint32_t topic_len, int64_t *offset)
{
    uint64_t at = 4 + 4 + 4 + 2 + topic_len + 4 + 4; /* the partition's error */
    if (len < at + 2 + 16 + 4 + 4 || load_be16(b + at) != 0)
        return -1;
    int32_t aborted = (int32_t)load_be32(b + at + 18);
    at += 22 + (aborted > 0 ? 16 * (uint64_t)aborted : 0);
    if (len < at + 4)
        return -1;
    uint64_t end = at + 4 + load_be32(b + at), from = at + 4;
    end = end < len ? end : len;
    for (at = from; at + BATCH_HEADER_LEN <= end && at + batch_total_len(b + at) <= end;
         at += batch_total_len(b + at))
        *offset = batch_last_offset(b + at) + 1;
    return (int64_t)(at - from);
}

/* From the start to the end of the partition, again and again, until told to stop. */
static void *replay_main(void *arg)
{
    struct replay *p = arg;
    uint8_t *b = malloc(FETCH_BYTES + 65536);
    int fd = fetch_connect(p->bootstrap);
    int64_t next = 0;
    ASSERT(b != NULL);
    p->code = fd < 0 ? bench_fail("replaying: cannot connect to %s", p->bootstrap) : EXIT_OK;
    uint64_t start = clock_mono_ns();
    while (p->code == EXIT_OK && !p->stop) {
        bool got = fetch_send(fd, p->topic, next) && recv_all(fd, b, 4);
        uint32_t len = got ? load_be32(b) : 0;
        got = got && len >= 30 && len <= FETCH_BYTES + 65536 && recv_all(fd, b, len);
        int64_t n = got ? fetch_answer(b, len, (uint32_t)strlen(p->topic), &next) : -1;
        if (n < 0)
            p->code = bench_fail("replaying %s: no answer, or an error, at offset %" PRId64,
                                 p->topic, next);
        else if (n == 0)
            next = 0; /* at the end */
        else
            p->bytes += (uint64_t)n;
    }
    p->seconds = (double)(clock_mono_ns() - start) / 1e9;
    if (fd >= 0)
        (void)close(fd);
    free(b);
    return NULL;
}

struct pair {
    struct paced_result alone, beside;
    double replay_bytes_per_s;
};

static int pair_run(const struct paced_opts *o, struct pair *ret)
{
    int code = paced_run(o, &ret->alone);
    if (code != EXIT_OK)
        return code;
    struct replay p = {.bootstrap = o->bootstrap, .topic = o->topic};
    int rc = pthread_create(&p.thread, NULL, replay_main, &p);
    ASSERT(rc == 0);
    code = paced_run(o, &ret->beside);
    p.stop = true;
    (void)pthread_join(p.thread, NULL);
    ret->replay_bytes_per_s = p.seconds > 0 ? (double)p.bytes / p.seconds : 0;
    return code != EXIT_OK ? code : p.code;
}

static double p99_us(const struct latency *h)
{
    return (double)latency_quantile(h, 0.99) / 1000;
}

static void pair_print(uint32_t i, const struct pair *p)
{
    printf(
        "  pair %u: producer p99 %.0f us alone, %.0f beside; tail reader p99 %.0f us alone, %.0f "
        "beside; replay %.1f MB/s\n",
        i + 1, p99_us(&p->alone.acked), p99_us(&p->beside.acked), p99_us(&p->alone.end_to_end),
        p99_us(&p->beside.end_to_end), p->replay_bytes_per_s / 1e6);
}

static json_t *pair_json(const struct pair *p)
{
    return json_pack("{s:{s:o,s:o},s:{s:o,s:o},s:f}", "alone", "produce_us",
                     latency_json(&p->alone.acked), "tail_us", latency_json(&p->alone.end_to_end),
                     "beside_replay", "produce_us", latency_json(&p->beside.acked), "tail_us",
                     latency_json(&p->beside.end_to_end), "replay_bytes_per_second",
                     p->replay_bytes_per_s);
}

int cmd_mixed(int argc, char **argv)
{
    const char *bootstrap = NULL;
    uint64_t size = 1024, seconds = 3, pairs = 3, megabytes = 2048, rate = 1000, shards = 1;
    bool json = false;
    const struct arg_opt opts[] = {
        {"--bootstrap", NULL, ARG_TEXT, &bootstrap, 0, 0, NULL},
        {"--size", NULL, ARG_NUM, &size, 8, 1000000, NULL},
        {"--rate", NULL, ARG_NUM, &rate, 1, 1000000, NULL},
        {"--megabytes", NULL, ARG_NUM, &megabytes, 16, 1000000, NULL},
        {"--pairs", NULL, ARG_NUM, &pairs, 1, PAIRS_MAX, NULL},
        {"--seconds", NULL, ARG_NUM, &seconds, 1, BENCH_SECONDS_MAX, NULL},
        {"--shards", NULL, ARG_NUM, &shards, 1, 16, NULL},
        BENCH_OPT_JSON(&json),
    };
    if (args_parse("sluice-bench mixed", argc, argv, opts, sizeof(opts) / sizeof(opts[0]), NULL,
                   0) < 0)
        return bench_usage("mixed");
    struct target t;
    struct produce_result *fill = calloc(1, sizeof(*fill));
    struct pair *p = calloc(pairs, sizeof(*p));
    ASSERT(fill != NULL);
    ASSERT(p != NULL);
    int code = target_open(&t, bootstrap, "mixed", 2, shards);
    const struct produce_opts fo = {.bootstrap = t.bootstrap,
                                    .topic = t.topic,
                                    .acks = "all",
                                    .compression = "none",
                                    .size = 1024,
                                    .connections = 1,
                                    .seconds = BENCH_SECONDS_MAX,
                                    .bytes_max = megabytes << 20};
    const struct paced_opts po = {.bootstrap = t.bootstrap,
                                  .topic = t.topic,
                                  .partition = PACED,
                                  .size = (uint32_t)size,
                                  .rate = rate,
                                  .ns = seconds * UINT64_C(1000000000)};
    if (code == EXIT_OK)
        code = produce_run(&fo, fill);
    json_t *list = json_array();
    if (code == EXIT_OK && !json) {
        machine_print();
        printf("mixed: %" PRIu64 " records of %" PRIu64 " bytes a second, acks=all, %" PRIu64
               " s each; %" PRIu64 " MiB to replay\n\n",
               rate, size, seconds, megabytes);
    }
    for (uint32_t i = 0; code == EXIT_OK && i < pairs; i++) {
        code = pair_run(&po, &p[i]);
        if (code == EXIT_OK && !json)
            pair_print(i, &p[i]);
        if (code == EXIT_OK && json)
            (void)json_array_append_new(list, pair_json(&p[i]));
    }
    if (code == EXIT_OK && json) {
        json_t *j = json_pack("{s:s,s:O,s:{s:I,s:I,s:I,s:I},s:o}", "benchmark", "mixed", "pairs",
                              list, "options", "size", (json_int_t)size, "rate", (json_int_t)rate,
                              "megabytes", (json_int_t)megabytes, "seconds", (json_int_t)seconds,
                              "machine", machine_json());
        (void)json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(j);
    }
    json_decref(list);
    free(p);
    free(fill);
    return target_close(&t, code);
}
