#include "bench/load/gen.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAME_HEAD (14 + 20 + 8)

static uint32_t rnd(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

bool gen_is_malformed(uint32_t i)
{
    return i % 100 == 37;
}

/* Fills p[at..size) with text as services write it: words, numbers, hexadecimal ids. */
static void text_fill(char *p, uint32_t at, uint32_t size, uint32_t *s)
{
    static const char *const text[] = {"GET /api/v1/items/%u?session=%08x&page=%u HTTP/1.1\" 200 "
                                       "%u \"Mozilla/5.0 (X11; Linux x86_64)\" rid=%08x ",
                                       "Accepted publickey for deploy%u from 10.%08x.%u port %u "
                                       "ssh2: RSA SHA256:%08x session opened ",
                                       "duration: %u ms  statement: SELECT id,k%08x FROM t%u WHERE "
                                       "id=%u /* trace=%08x */ rows fetched ",
                                       "connection from client%u id=%08x backend=%u bytes=%u "
                                       "cookie=%08x level=info component=ingest "};
    char line[256];
    while (at < size) {
        uint32_t a = rnd(s) % 5000, b = rnd(s), c = rnd(s) % 100, d = rnd(s) % 65536, e = rnd(s);
        int n = snprintf(line, sizeof(line), text[rnd(s) & 3], a, b, c, d, e);
        uint32_t take = (uint32_t)n < size - at ? (uint32_t)n : size - at;
        memcpy(p + at, line, take);
        at += take;
    }
    if (p[size - 1] == ' ') /* no trailing blank: nothing a receiver could be tempted to strip */
        p[size - 1] = '.';
}

void gen_event(char *p, uint32_t size, uint32_t i, int64_t wall_s)
{
    static const char *const app[] = {"nginx",   "sshd",    "postgres", "kernel",
                                      "systemd", "haproxy", "cron",     "dockerd"};
    char head[256];
    struct tm tm;
    time_t t = (time_t)wall_s;
    uint32_t s = i * 2654435761u + 12345;
    (void)rnd(&s);
    (void)gmtime_r(&t, &tm);
    int n;
    if (gen_is_malformed(i))
        n = snprintf(head, sizeof(head),
                     "malformed: no priority in front " GEN_MARK "%06u\" s=\"%02u\"] ",
                     i / GEN_SOURCES, i % GEN_SOURCES);
    else
        n = snprintf(head, sizeof(head),
                     "<%u>1 %04d-%02d-%02dT%02d:%02d:%02d.%06uZ host-%03u %s %u ID%02u " GEN_MARK
                     "%06u\" s=\"%02u\"] ",
                     rnd(&s) % 192, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                     tm.tm_min, tm.tm_sec, rnd(&s) % 1000000, rnd(&s) % 200, app[rnd(&s) % 8],
                     100 + rnd(&s) % 32000, rnd(&s) % 100, i / GEN_SOURCES, i % GEN_SOURCES);
    memcpy(p, head, (size_t)n);
    text_fill(p, (uint32_t)n, size, &s);
}

uint32_t gen_index_of(const char *p, uint32_t len)
{
    static const size_t mark = sizeof(GEN_MARK) - 1;
    const char *at = memmem(p, len < GEN_EVENT_MIN ? len : GEN_EVENT_MIN, GEN_MARK, mark);
    if (at == NULL || (size_t)(p + len - at) < mark + 6 + 5 + 2)
        return GEN_FRAMES;
    uint32_t n = 0, s = 0;
    for (uint32_t k = 0; k < 6; k++) {
        uint32_t digit = (uint32_t)(at[mark + k] - '0');
        if (digit > 9)
            return GEN_FRAMES;
        n = n * 10 + digit;
    }
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t digit = (uint32_t)(at[mark + 6 + 5 + k] - '0');
        if (digit > 9)
            return GEN_FRAMES;
        s = s * 10 + digit;
    }
    return n < GEN_CYCLE && s < GEN_SOURCES ? n * GEN_SOURCES + s : GEN_FRAMES;
}

void gen_source_text(uint32_t source, char out[16])
{
    (void)snprintf(out, 16, "10.100.0.%u", (source + 2) & 0xff);
}

/* ---- frames */
static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static uint32_t sum16(const uint8_t *p, uint32_t len, uint32_t sum)
{
    for (uint32_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    if (len & 1)
        sum += (uint32_t)p[len - 1] << 8;
    return sum;
}
static uint32_t sum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

static uint32_t frame_make(const struct gen_pcap_opts *o, uint32_t i, uint8_t *f)
{
    static const uint8_t from[6] = {0x02, 0, 0, 0, 0, 2};
    uint32_t udp_len = 8 + o->event_size;
    uint8_t *ip = f + 14, *udp = ip + 20;
    memset(f, 0, FRAME_HEAD);
    memcpy(f, o->mac, 6);
    memcpy(f + 6, from, 6);
    put16(f + 12, 0x0800);
    ip[0] = 0x45;
    put16(ip + 2, 20 + udp_len);
    put16(ip + 4, i);
    ip[6] = 0x40; /* don't fragment */
    ip[8] = 64;
    ip[9] = 17;
    memcpy(ip + 12, (uint8_t[]){10, 100, 0, (uint8_t)(2 + i % GEN_SOURCES)}, 4);
    memcpy(ip + 16, (uint8_t[]){10, 100, 0, 1}, 4);
    put16(ip + 10, sum_fold(sum16(ip, 20, 0)));
    put16(udp, 20000 + i % 1000);
    put16(udp + 2, 514);
    put16(udp + 4, udp_len);
    gen_event((char *)udp + 8, o->event_size, i, o->wall_s);
    uint32_t sum = sum_fold(sum16(udp, udp_len, sum16(ip + 12, 8, 17 + udp_len)));
    put16(udp + 6, sum == 0 ? 0xffff : sum);
    return FRAME_HEAD + o->event_size;
}

int gen_pcap(const struct gen_pcap_opts *o)
{
    struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, sigfigs, snaplen, link;
    } head = {0xa1b2c3d4, 2, 4, 0, 0, 65535, 1};
    uint8_t frame[FRAME_HEAD + GEN_EVENT_MAX];
    FILE *f = fopen(o->path, "we");
    if (f == NULL)
        return -errno;
    bool ok = fwrite(&head, sizeof(head), 1, f) == 1;
    for (uint32_t i = 0; ok && i < GEN_FRAMES; i++) {
        if (o->queue_of_source[i % GEN_SOURCES] != o->queue)
            continue;
        uint32_t len = frame_make(o, i, frame);
        uint32_t rec[4] = {(uint32_t)o->wall_s, i, len, len};
        ok = fwrite(rec, sizeof(rec), 1, f) == 1 && fwrite(frame, len, 1, f) == 1;
    }
    int rc = ok ? 0 : errno != 0 ? -errno : -EIO;
    if (fclose(f) != 0 && rc == 0)
        rc = -errno;
    return rc;
}
