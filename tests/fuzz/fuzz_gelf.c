/* fuzz_gelf.c - what strangers send to a GELF or JSON listener: chunks, compressed data, JSON. The
 * input is a row of datagrams, each behind a length of two bytes; byte 0 chooses the longest event.
 * Whatever comes, counts of chunks balance, memory comes back, inflating stays within its bound,
 * and parsers give one record whose views lie inside the message. */
#include "accel/inflate.h"
#include "dataplane/ingest/gelf.h"
#include "dataplane/ingest/gelf_chunk.h"
#include "dataplane/ingest/json_scan.h"
#include "dataplane/ingest/proto.h"
#include "dataplane/ingest/utf8.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

enum { EVENT_MAX = 4096 };
static struct inflater *inflater;
static uint64_t gone_cnt;

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void gone(void *arg, uint16_t listener, uint32_t cnt, enum dgram_drop why)
{
    require(arg == NULL && listener == 1 && cnt > 0 && why < DDROP_CNT);
    gone_cnt += cnt;
}

static void record_check(parse_burst_fn *burst, struct span bytes, uint32_t max, bool cut)
{
    static struct parse_mem mem;
    struct parse_conf pc = {
        .listener = span_str("fuzz"), .event_bytes_max = max, .time_field = span_str("ts")};
    struct dgram dg = {.bytes = bytes, .arrival_ms = INT64_C(1760000000000)};
    uint32_t full_len = cut ? FULL_LEN_UNKNOWN : 0;
    struct rec r;
    burst(&pc, &dg, &full_len, 1, &mem, &r);
    require(r.value.p != NULL && r.value.len <= bytes.len && r.value.len <= max);
    require(r.facility <= REC_FACILITY_NONE && r.severity <= REC_SEVERITY_NONE);
    require(r.timestamp_ms >= dg.arrival_ms - EVENT_TIME_PAST_MS &&
            r.timestamp_ms <= dg.arrival_ms + EVENT_TIME_FUTURE_MS);
    static const enum rec_header inside[] = {RH_HOST, RH_FACILITY, RH_EVENT_TIME};
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        struct span h = r.header[inside[i]];
        if (h.p == NULL)
            continue;
        require(r.header[RH_REASON].p == NULL);
        require(h.p >= bytes.p && h.p + h.len <= bytes.p + bytes.len && h.len > 0);
        require(inside[i] == RH_EVENT_TIME || utf8_is_valid_scalar(h.p, h.len));
    }
}

static void message_check(struct span bytes, uint32_t max)
{
    static uint8_t out[EVENT_MAX];
    enum gelf_compression how = gelf_compression(bytes);
    bool cut = false;
    record_check(gelf_burst, bytes, max, false);
    record_check(json_burst, bytes, max, false);
    if (how == GELF_PLAIN)
        return;
    int64_t n = inflate_prefix(inflater, how == GELF_GZIP ? INFLATE_GZIP : INFLATE_ZLIB, bytes.p,
                               bytes.len, out, max, &cut);
    require(n <= (int64_t)max && (!cut || n == (int64_t)max));
    if (n >= 0)
        record_check(gelf_burst, span_of(out, (uint32_t)n), max, cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct gelf_chunks *g;
    struct net_addr peer = {.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}};
    uint64_t held = 0, now_ns = 1;
    uint32_t max = len > 0 ? 16 + data[0] * 15u : 16;
    gone_cnt = 0;
    if (inflater == NULL && inflater_create(&inflater) < 0)
        abort();
    if (gelf_chunks_create(65536, gone, NULL, &g) < 0)
        abort();
    for (size_t at = 1; at + 2 <= len;) {
        size_t n = (size_t)data[at] << 8 | data[at + 1];
        at += 2;
        n = n < len - at ? n : len - at;
        uint8_t *exact = malloc(n > 0 ? n : 1); /* a byte too many is seen by the sanitizer */
        memcpy(exact, data + at, n);
        struct span bytes = span_of(exact, (uint32_t)n), whole;
        enum dgram_drop why;
        uint32_t cnt;
        at += n;
        peer.ip[15] = (uint8_t)(1 + n % 3);
        now_ns += n * 10000000;
        if (!gelf_is_chunk(bytes)) {
            message_check(bytes, max);
        } else {
            switch (gelf_chunk_add(g, 1, &peer, bytes, now_ns, &whole, &cnt, &why)) {
            case GELF_HELD:
                held++;
                break;
            case GELF_WHOLE:
                require(cnt >= 1 && held - gone_cnt >= cnt - 1);
                held -= cnt - 1;
                message_check(whole, max);
                break;
            case GELF_DROPPED:
                require(why < DDROP_CNT);
            }
        }
        (void)gelf_chunks_expire(g, now_ns);
        free(exact);
    }
    gelf_chunks_drop_all(g, DDROP_stopping);
    require(gone_cnt == held && gelf_chunks_bytes(g) == 0);
    gelf_chunks_destroy(g);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
#define ID "12345678"
#define S(text)                                                                                    \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
    static const struct {
        const char *p;
        size_t len;
    } seeds[] = {
        S("\xff\x00\x69{\"version\":\"1.1\",\"host\":\"h\",\"short_message\":\"a\\\"b\",\"level\":"
          "\"3\",\"timestamp\":1759999999.25e0,\"facility\":\"local0\",\"_x\":[1,{}]}"),
        S("\xff\x00\x17{\"ts\":\"2025-10-09T08:53:20Z\"}"),
        S("\x40\x00\x0e\x1e\x0f" ID "\x00\x03{\"\x00\x0e\x1e\x0f" ID "\x02\x03"
          "1}\x00\x10\x1e\x0f" ID "\x01\x03host"),
        S("\x40\x00\x0e\x1e\x0f" ID "\x00\x02\x1f\x8b\x00\x0c\x1e\x0f" ID "\x01\x02"),
        S("\xff\x00\x0d\x78\x9c\xab\x56\x72\x53\xb2\x52\x50\x32\x54\xaa\x05\x00"),
        S("\xff\x00\x17\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3"
          "\x02\x00\x00\x00"),
    };
    if (i >= sizeof(seeds) / sizeof(seeds[0]) || seeds[i].len > cap)
        return 0;
    memcpy(buf, seeds[i].p, seeds[i].len);
    return seeds[i].len;
#undef S
}
