/* fuzz_netflow.c - export packets and what is taken for them: sets, templates, records. The input
 * is a row of packets, each behind a length of two bytes, of one exporter. */
#include "dataplane/ingest/netflow.h"
#include "dataplane/ingest/netflow_seq.h"
#include "dataplane/ingest/proto.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void packet_check(struct netflow_seq *q, struct span bytes)
{
    static struct parse_mem mem;
    struct net_addr peer = {.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}};
    struct parse_conf pc = {.listener = span_str("f"), .event_bytes_max = 65536, .keep_end = true};
    struct dgram dg = {.bytes = bytes, .arrival_ms = INT64_C(1760000000000)};
    struct netflow_header h;
    struct rec r;
    netflow_burst(&pc, &dg, NULL, 1, &mem, &r);
    const char *why = netflow_header_read(bytes, &h);
    require((why != NULL) == (r.header[RH_REASON].p != NULL) && r.value.len == bytes.len);
    struct netflow_seen seen = netflow_seq_note(q, 0, &peer, bytes);
    require(seen.gaps + seen.restarts <= (why == NULL));
    require((seen.lost > 0) == (seen.gaps > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct netflow_seq *q; /* megabytes: what other inputs left there may stay */
    if (q == NULL && netflow_seq_create(&q) < 0)
        abort();
    for (size_t at = 0; at + 2 <= len;) {
        size_t n = (size_t)data[at] << 8 | data[at + 1];
        at += 2;
        n = n < len - at ? n : len - at;
        uint8_t *exact = malloc(n > 0 ? n : 1); /* a byte too many is seen by the sanitizer */
        memcpy(exact, data + at, n);
        packet_check(q, span_of(exact, (uint32_t)n));
        free(exact);
        at += n;
    }
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const uint8_t ipfix[] = {
        0, 60, 0, 10, 0, 60, 1, 2, 3, 4,   0,   0, 0,    1, 0,   0,   0, 9, /* header */
        0, 2,  0, 24, 1, 0,  0, 3, 0, 8,   0,   4, 0x80, 1, 255, 255, 0, 0, 0, 99,
        0, 12, 0, 4, /* template 256 */
        1, 0,  0, 20, 1, 1,  1, 1, 2, 'a', 'b', 2, 2,    2, 2,   3,   0, 0, 0, 0};
    static const uint8_t v9[] = {0, 28, 0, 9, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 0,
                                 0, 0,  7, 0, 0, 0, 1, 1, 0, 0, 8, 1, 2, 3, 4};
    static const uint8_t v5[2 + 72] = {0, 72, 0, 5, 0, 1, [21] = 9};
    const struct {
        const uint8_t *p;
        size_t len;
    } seeds[] = {{ipfix, sizeof(ipfix)}, {v9, sizeof(v9)}, {v5, sizeof(v5)}};
    if (i >= sizeof(seeds) / sizeof(seeds[0]) || seeds[i].len > cap)
        return 0;
    memcpy(buf, seeds[i].p, seeds[i].len);
    return seeds[i].len;
}
