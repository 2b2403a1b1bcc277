/* bench_syslog.c - syslog in: parse alone, and parse + source + headers + record into a batch.
 * 8,192 distinct events from 64 sources, 1 % malformed, as the bench workload of the appliance. */
#include "bench/micro/bench.h"
#include "dataplane/ingest/framing.h"
#include "dataplane/ingest/proto.h"
#include "lib/batch/build.h"
#include "lib/iface/net_addr.h"

enum { EVENTS = 8192, BATCH = 256 * 1024 };
#define ARRIVAL INT64_C(1760000000000)

struct work {
    struct parse_conf conf;
    struct dgram dg[EVENTS];
    struct parse_mem mem;
    struct rec rec[INGEST_BURST_MAX];
    uint32_t n;
    uint8_t *batch;
    uint8_t *bytes, *stream;
    uint32_t stream_len;
};

static uint64_t parse_pass(void *arg)
{
    struct work *w = arg;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i += 32) {
        syslog_burst(&w->conf, &w->dg[i], NULL, 32, &w->mem, w->rec);
        for (uint32_t k = 0; k < 32; k++)
            sum += (uint64_t)w->rec[k].timestamp_ms + w->rec[k].header[RH_APP].len;
    }
    return sum;
}

static uint64_t record_pass(void *arg)
{
    struct work *w = arg;
    struct batch_builder b;
    uint64_t sum = 0;
    batch_builder_init(&b, w->batch, BATCH);
    for (uint32_t i = 0; i < w->n; i += 32) {
        syslog_burst(&w->conf, &w->dg[i], NULL, 32, &w->mem, w->rec);
        for (uint32_t k = 0; k < 32; k++) {
            struct rec *r = &w->rec[k];
            r->source_hash = source_hash(&w->dg[i + k].peer);
            r->header[RH_SOURCE] = span_str("198.51.100.200");
            if (batch_builder_add(&b, r) < 0) {
                sum += b.len;
                batch_builder_init(&b, w->batch, BATCH);
                if (batch_builder_add(&b, r) < 0)
                    abort();
            }
            sum += r->source_hash;
        }
    }
    return sum + b.len;
}

static uint64_t framing_pass(void *arg)
{
    struct work *w = arg;
    struct framing f;
    struct frame out[64];
    uint8_t buf[2048];
    uint64_t sum = 0;
    framing_init(&f, FRAMING_SYSLOG, buf, sizeof(buf));
    for (uint32_t at = 0; at < w->stream_len;) {
        uint32_t piece = w->stream_len - at < 16384 ? w->stream_len - at : 16384, cnt;
        for (uint32_t used = 0; used < piece; sum += cnt)
            used += framing_feed(&f, span_of(w->stream + at + used, piece - used), out, 64, &cnt);
        at += piece;
    }
    return sum;
}

/* Lines of exactly 256 bytes. */
static void fill(struct work *w, bool rfc3164)
{
    w->stream_len = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        char *p = (char *)w->bytes + (size_t)i * 256;
        int len;
        if (i % 100 == 99)
            len = snprintf(p, 256, "malformed %u", i);
        else if (rfc3164)
            len =
                snprintf(p, 256, "<%u>Oct  9 08:53:%02u host-%u.example.com app-%u[%u]: ", i % 192,
                         i % 60, i % 64, i % 7, 1000 + i);
        else
            len = snprintf(
                p, 256, "<%u>1 2025-10-09T08:53:%02u.%03uZ host-%u.example.com app-%u %u ID%u - ",
                i % 192, i % 60, i % 1000, i % 64, i % 7, 1000 + i, i % 50);
        for (uint32_t k = (uint32_t)len; k < 256; k++)
            p[k] = (char)('a' + (i + k) % 26);
        uint8_t ip[4] = {10, 0, 0, (uint8_t)(i % 64)};
        w->dg[i] = (struct dgram){span_of(p, 256), net_addr_v4(ip, 514), ARRIVAL, false};
        memcpy(w->stream + w->stream_len, p, 256);
        w->stream_len += 256;
        w->stream[w->stream_len++] = '\n';
    }
}

int main(int argc, char **argv)
{
    struct bench b = bench_init(argc, argv);
    struct work *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return 1;
    w->n = b.small ? 256 : EVENTS;
    w->conf = (struct parse_conf){.listener = span_str("syslog"), .event_bytes_max = 65536};
    w->batch = malloc(BATCH);
    w->bytes = malloc((size_t)EVENTS * 256);
    w->stream = malloc((size_t)EVENTS * 257);
    if (w->batch == NULL || w->bytes == NULL || w->stream == NULL)
        return 1;
    fill(w, true);
    bench_run(&b, "rfc3164 parse", parse_pass, w, w->n, 4);
    fill(w, false);
    bench_run(&b, "rfc5424 parse", parse_pass, w, w->n, 4);
    bench_run(&b, "rfc5424 parse+headers+record", record_pass, w, w->n, 4);
    bench_run(&b, "framing, lines", framing_pass, w, w->n, 4);
    free(w->batch);
    free(w->bytes);
    free(w->stream);
    free(w);
    return 0;
}
