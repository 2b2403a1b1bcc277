/* bench_gelf.c - GELF in: parse alone, inflate and parse, and messages of eight chunks put
 * together; JSON checked. 4,096 distinct messages of about 500 bytes. */
#include "accel/accel.h"
#include "accel/codec.h"
#include "accel/inflate.h"
#include "bench/micro/bench.h"
#include "dataplane/ingest/gelf_chunk.h"
#include "dataplane/ingest/proto.h"
#include "lib/iface/net_addr.h"

enum { EVENTS = 4096, SLOT = 1024, CHUNKS = 8, PAYLOAD = 64 };
#define ARRIVAL INT64_C(1760000000000)

struct work {
    struct parse_conf conf;
    struct dgram dg[EVENTS], packed[EVENTS];
    struct parse_mem mem;
    struct rec rec[INGEST_BURST_MAX];
    uint32_t n;
    uint8_t *bytes, *gzip;
    struct codec_ctx *codecs;
    struct inflater *inflater;
    struct gelf_chunks *chunks;
    uint64_t now_ns;
};

static uint64_t pass(struct work *w, parse_burst_fn *burst)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i += 32) {
        burst(&w->conf, &w->dg[i], NULL, 32, &w->mem, w->rec);
        for (uint32_t k = 0; k < 32; k++)
            sum += (uint64_t)w->rec[k].timestamp_ms + w->rec[k].header[RH_HOST].len;
    }
    return sum;
}
static uint64_t gelf_pass(void *arg)
{
    return pass(arg, gelf_burst);
}
static uint64_t json_pass(void *arg)
{
    return pass(arg, json_burst);
}

static uint64_t inflate_pass(void *arg)
{
    struct work *w = arg;
    static uint8_t out[SLOT];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        bool cut;
        struct dgram dg = w->packed[i];
        int64_t len = inflate_prefix(w->inflater, INFLATE_GZIP, dg.bytes.p, dg.bytes.len, out,
                                     sizeof(out), &cut);
        if (len < 0)
            abort();
        dg.bytes = span_of(out, (uint32_t)len);
        gelf_burst(&w->conf, &dg, NULL, 1, &w->mem, w->rec);
        sum += (uint64_t)w->rec[0].timestamp_ms + (uint64_t)len;
    }
    return sum;
}

static uint64_t chunk_pass(void *arg)
{
    struct work *w = arg;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        uint8_t c[12 + PAYLOAD] = {0x1e, 0x0f};
        uint64_t id = i;
        memcpy(c + 2, &id, sizeof(id));
        c[11] = CHUNKS;
        for (uint8_t k = 0; k < CHUNKS; k++) {
            struct span whole;
            uint32_t cnt;
            enum dgram_drop why;
            c[10] = k;
            memcpy(c + 12, w->dg[i].bytes.p + k * PAYLOAD, PAYLOAD);
            if (gelf_chunk_add(w->chunks, 0, &w->dg[i].peer, span_of(c, sizeof(c)), w->now_ns++,
                               &whole, &cnt, &why) == GELF_WHOLE)
                sum += whole.len + whole.p[PAYLOAD];
        }
    }
    return sum;
}

static void fill(struct work *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        char *p = (char *)w->bytes + (size_t)i * SLOT;
        int len = snprintf(
            p, SLOT,
            "{\"version\":\"1.1\",\"host\":\"host-%u.example.com\",\"short_message\":\"request %u "
            "took %u ms\",\"timestamp\":%u.%03u,\"level\":%u,\"_app\":\"app-%u\",\"_request\":{"
            "\"id\":%u,\"path\":\"/a/b/%u\",\"tags\":[\"x\",\"y\"]},\"full_message\":\"",
            i % 64, i, i % 977, 1759999000 + i % 900, i % 1000, i % 8, i % 7, i, i * 31);
        for (; len < CHUNKS * PAYLOAD - 2; len++)
            p[len] = (char)('a' + (i + (uint32_t)len) % 26);
        p[len++] = '"';
        p[len++] = '}';
        uint8_t ip[4] = {10, 0, 0, (uint8_t)(i % 64)};
        w->dg[i] = (struct dgram){span_of((uint8_t *)p, (uint32_t)len), net_addr_v4(ip, 514),
                                  ARRIVAL, false};
        uint8_t *z = w->gzip + (size_t)i * 2 * SLOT;
        int64_t n = codec_compress(w->codecs, CODEC_GZIP, 1, p, (size_t)len, z, 2 * SLOT);
        if (n < 0)
            abort();
        w->packed[i] = w->dg[i];
        w->packed[i].bytes = span_of(z, (uint32_t)n);
    }
}

static void gone(void *arg, uint16_t listener, uint32_t cnt, enum dgram_drop why)
{
    (void)arg, (void)listener, (void)cnt, (void)why;
    abort(); /* every message is completed */
}

int main(int argc, char **argv)
{
    struct bench b = bench_init(argc, argv);
    struct work *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return 1;
    accel_init(false);
    w->n = b.small ? 256 : EVENTS;
    w->conf = (struct parse_conf){.listener = span_str("gelf"), .event_bytes_max = 65536};
    w->bytes = malloc((size_t)EVENTS * SLOT);
    w->gzip = malloc((size_t)EVENTS * 2 * SLOT);
    if (w->bytes == NULL || w->gzip == NULL || codec_ctx_create(&w->codecs) < 0 ||
        inflater_create(&w->inflater) < 0 ||
        gelf_chunks_create(1 << 20, gone, NULL, &w->chunks) < 0)
        return 1;
    fill(w);
    bench_run(&b, "gelf parse, 512 bytes", gelf_pass, w, w->n, 4);
    bench_run(&b, "gelf gzip, inflate and parse", inflate_pass, w, w->n, 4);
    bench_run(&b, "gelf 8 chunks put together", chunk_pass, w, w->n, 4);
    bench_run(&b, "json check, 512 bytes", json_pass, w, w->n, 4);
    gelf_chunks_destroy(w->chunks);
    inflater_destroy(w->inflater);
    codec_ctx_destroy(w->codecs);
    free(w->gzip);
    free(w->bytes);
    free(w);
    return 0;
}
