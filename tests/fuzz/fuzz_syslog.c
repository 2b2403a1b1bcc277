/* fuzz_syslog.c - both syslog parsers: any bytes give exactly one record, whose views lie inside
 * them and whose headers are text. Byte 0 chooses zone and arrival, the rest is the datagram. */
#include "dataplane/ingest/proto.h"
#include "dataplane/ingest/utf8.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct parse_mem mem;
    if (len == 0)
        return 0;
    struct parse_conf pc = {.listener = span_str("fuzz"),
                            .zone_offset_s = (data[0] % 29 - 14) * 3600,
                            .event_bytes_max = 512};
    int64_t arrival = INT64_C(1760000000000) + (int64_t)data[0] * INT64_C(7776000000);
    uint32_t n = (uint32_t)(len - 1);
    uint8_t *exact = malloc(n > 0 ? n : 1); /* a byte too many is seen by the sanitizer */
    memcpy(exact, data + 1, n);
    struct dgram dg = {.bytes = span_of(exact, n), .arrival_ms = arrival};
    struct rec r;
    syslog_burst(&pc, &dg, NULL, 1, &mem, &r);
    require(r.value.p != NULL);
    require(r.value.len <= n && r.value.len <= pc.event_bytes_max);
    require(r.value.len == 0 || r.value.p == exact);
    require((r.header[RH_FACILITY].p == NULL) == (r.header[RH_REASON].p != NULL));
    require((r.header[RH_FACILITY].p == NULL) == (r.header[RH_SEVERITY].p == NULL));
    require(r.timestamp_ms >= arrival - EVENT_TIME_PAST_MS &&
            r.timestamp_ms <= arrival + EVENT_TIME_FUTURE_MS);
    static const enum rec_header inside[] = {RH_HOST, RH_APP, RH_PROCID, RH_MSGID, RH_EVENT_TIME};
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        struct span h = r.header[inside[i]];
        if (h.p == NULL)
            continue;
        require(h.p >= exact && h.p + h.len <= exact + n);
        require(h.len > 0 && utf8_is_valid_scalar(h.p, h.len));
        require(inside[i] == RH_EVENT_TIME || h.len <= HEADER_VALUE_MAX);
    }
    free(exact);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {
        "0<34>1 2025-10-09T08:53:21.003Z host su 77 ID47 [a@1 b=\"c\"] text",
        "0<34>Oct  9 08:53:21 mymachine su[12]: 'su root' failed",
        "0<189>29: rtr1: *Oct  9 08:53:21.123 UTC: %SYS-5-CONFIG_I: Configured",
        "0<166>Oct 09 2025 08:53:21 fw1 : %ASA-6-302013: Built",
        "0<189>: 2025 Oct  9 08:53:21 UTC: %ETHPORT-5-IF_UP: up",
        "0<30>Oct  9 08:53:21.123 2025 mx1 mgd[4163]: UI_COMMIT: x",
        "0<189>date=2025-10-09 time=08:53:21 devname=\"FG 1\" tz=\"+0200\" msg=\"a b\"",
        "0<30>2025-10-09T10:53:21.000000+02:00 box systemd[1]: Started\n",
    };
    if (i >= sizeof(seeds) / sizeof(seeds[0]) || strlen(seeds[i]) > cap)
        return 0;
    memcpy(buf, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
