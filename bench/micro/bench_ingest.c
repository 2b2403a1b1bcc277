/* bench_ingest.c - the work of `sluice-bench ingest` with nothing around it: the same frames,
 * parse, headers, batches and flush rhythm on one core in one loop, without shards, ledger,
 * configuration, journal or any other protocol. What it reaches bounds what the appliance can
 * reach; bench/ingest.py sets the two side by side.
 *
 *     bench_ingest [--stage rx|parse|batch|append] [--gzip] [--seconds N] [--hugepages] [--dir DIR]
 * [--small]
 *
 *   rx      frames from net_pcap, replayed without end
 *   parse   + Ethernet, IPv4, UDP with both checksums, and the fields of RFC 5424 (1 % has none)
 *   batch   + records with the default headers in batches of 256 KiB for 16 partitions and their
 * dead letters, each with its CRC-32C (--gzip: compressed, level 1) append  + direct writes to a
 * file per partition, its room allocated ahead, and a flush of all at least every 20 ms; an event
 * counts when its flush is over. Then every file is read back: offsets dense, checksums right,
 * every value one of the frames.
 *
 * Prints events/s and TSC cycles per event, in all and by stage. Source of the idea and of the
 * io_uring flags: docs/perf/README.md. One thread. */
#include "accel/accel.h"
#include "accel/codec.h"
#include "accel/crc32c.h"
#include "bench/load/gen.h"
#include "lib/base/assert.h"
#include "lib/base/bits.h"
#include "lib/base/varint.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include <emmintrin.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <liburing.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENT_BYTES = 256,
    PARTITIONS = 16,
    LOGS = PARTITIONS + 1, /* and the dead letters */
    BURST = 64,
    BATCH = 256 << 10,
    HALF = 2 << 20, /* a log's memory is two of these: one is filled while the other is written */
    WRITE = 256 << 10,
    BLOCK = 4096,
    AHEAD = 64 << 20,
    FLUSH_MS = 20,
    RING = 512,
};
enum stage { RX, PARSE, FRAME, APPEND, STAGES };
static const char *const stage_name[STAGES] = {"rx", "parse", "batch", "append"};

/* One partition: its open batch, and what of its file is in memory. */
struct log {
    uint8_t *open; /* the batch being filled: in `half`, or apart when it will be compressed */
    uint32_t len, cnt;
    int64_t base_ms, max_ms;
    int64_t next_offset;
    uint8_t *mem;     /* two halves */
    uint32_t half;    /* 0 or 1: the one being filled */
    uint32_t at;      /* in the half: end of the finished batches */
    uint32_t written; /* in the half: what was handed to the kernel, whole blocks */
    uint64_t file_at; /* where in the file the half begins */
    uint64_t allocated;
    uint32_t busy[2]; /* writes under way, by half */
    bool tail_busy; /* the block that is filled further is being written: no second write to it yet
                     */
    uint64_t finished; /* events in finished batches */
    int fd;
};

static struct {
    enum stage stage;
    bool gzip, hugepages, small;
    uint32_t seconds;
    const char *dir;
} opt = {APPEND, false, false, false, 3, NULL};
static char dir[256];
static struct log logs[LOGS];
static struct io_uring ring;
static struct codec_ctx *codecs;
static uint64_t durable, finished, bad_frames, sink;
static uint64_t cycles[STAGES];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    exit(1);
}

/* ---- append: writes of whole blocks, and rounds of flushes */
enum op { OP_WRITE, OP_TAIL, OP_FLUSH };
static struct {
    uint32_t round;          /* writes carry its lowest bit */
    uint32_t outstanding[2]; /* writes under way, by that bit */
    uint32_t flushes;        /* under way */
    bool waiting;            /* a round has begun: for the writes before it, then for its flushes */
    uint64_t events;         /* durable when it is over */
    uint64_t due;            /* TSC: when the next one begins */
} rounds;

static struct io_uring_sqe *sqe_get(void)
{
    struct io_uring_sqe *s = io_uring_get_sqe(&ring);
    if (s == NULL) {
        (void)io_uring_submit(&ring);
        s = io_uring_get_sqe(&ring);
    }
    ASSERT(s != NULL);
    return s;
}

/* The writes before the round are over: flush every file. */
static void round_flush(void)
{
    for (uint32_t i = 0; i < LOGS; i++) {
        struct io_uring_sqe *s = sqe_get();
        io_uring_prep_fsync(s, logs[i].fd, IORING_FSYNC_DATASYNC);
        io_uring_sqe_set_data64(s, OP_FLUSH);
    }
    rounds.flushes = LOGS;
    (void)io_uring_submit(&ring);
}

/* The tag of an operation: length << 32 | log << 8 | round << 3 | half << 2 | op. */
static void op_over(int res, uint64_t tag)
{
    if (res < 0)
        die("%s: %s", (tag & 3) == OP_FLUSH ? "flush" : "write", strerror(-res));
    if ((tag & 3) == OP_FLUSH) {
        if (--rounds.flushes == 0) {
            durable = rounds.events;
            rounds.waiting = false;
        }
        return;
    }
    struct log *l = &logs[tag >> 8 & 0xff];
    if ((uint32_t)res != tag >> 32)
        die("a short write of %d bytes", res);
    l->busy[tag >> 2 & 1]--;
    if ((tag & 3) == OP_TAIL)
        l->tail_busy = false;
    uint32_t bit = tag >> 3 & 1;
    rounds.outstanding[bit]--;
    if (rounds.waiting && bit != (rounds.round & 1) && rounds.outstanding[bit] == 0)
        round_flush();
}

static void ring_reap(bool wait)
{
    struct io_uring_cqe *c;
    if (wait)
        (void)io_uring_submit_and_wait(&ring, 1);
    while (io_uring_peek_cqe(&ring, &c) == 0) {
        int res = c->res;
        uint64_t tag = io_uring_cqe_get_data64(c);
        io_uring_cqe_seen(&ring, c);
        op_over(res, tag);
    }
}

/* Writes [written, to) of the half, whole blocks. */
static void log_write(struct log *l, uint32_t to, enum op op)
{
    uint32_t len = to - l->written, bit = rounds.round & 1;
    uint64_t off = l->file_at + l->written;
    while (l->allocated < off + len) {
        if (fallocate(l->fd, FALLOC_FL_KEEP_SIZE, (off_t)l->allocated, AHEAD) != 0)
            die("%s: no room: %s", dir, strerror(errno));
        l->allocated += AHEAD;
    }
    struct io_uring_sqe *s = sqe_get();
    io_uring_prep_write(s, l->fd, l->mem + (size_t)l->half * HALF + l->written, len, off);
    io_uring_sqe_set_data64(s, (uint64_t)len << 32 | (uint64_t)(l - logs) << 8 | bit << 3 |
                                   (uint64_t)l->half << 2 | op);
    rounds.outstanding[bit]++;
    l->busy[l->half]++;
    l->tail_busy = op == OP_TAIL;
    l->written = l->at & ~(uint32_t)(BLOCK - 1);
}

/* Whole blocks as they fill; a block that is being written as a tail is waited for, not written
 * twice. */
static void log_write_full(struct log *l)
{
    uint32_t whole = l->at & ~(uint32_t)(BLOCK - 1);
    if (whole - l->written >= WRITE && !l->tail_busy)
        log_write(l, whole, OP_WRITE);
}

/* Goes on in the other half: what does not fill a block goes along. */
static void half_turn(struct log *l)
{
    while (l->tail_busy)
        ring_reap(true);
    uint32_t whole = l->at & ~(uint32_t)(BLOCK - 1), rest = l->at - whole;
    if (whole > l->written)
        log_write(l, whole, OP_WRITE);
    while (l->busy[l->half ^ 1] > 0)
        ring_reap(true);
    memcpy(l->mem + (size_t)(l->half ^ 1) * HALF, l->mem + (size_t)l->half * HALF + whole, rest);
    l->file_at += whole;
    l->half ^= 1;
    l->at = rest;
    l->written = 0;
}

/* ---- batches */
static uint8_t *log_end(struct log *l)
{
    return l->mem + (size_t)l->half * HALF + l->at;
}

static void batch_open(struct log *l)
{
    if (opt.stage < APPEND)
        l->at = 0;
    else if (l->at + BATCH + BLOCK >
             HALF) /* gzip makes what cannot be compressed a little longer */
        half_turn(l);
    if (!opt.gzip)
        l->open = log_end(l);
    l->len = BATCH_HEADER_LEN;
    l->cnt = 0;
}

static void batch_close(struct log *l)
{
    if (l->cnt == 0)
        return;
    uint8_t *b = l->open;
    uint32_t len = l->len;
    if (opt.gzip) {
        b = log_end(l);
        int64_t n = codec_compress(codecs, CODEC_GZIP, 1, l->open + BATCH_HEADER_LEN,
                                   len - BATCH_HEADER_LEN, b + BATCH_HEADER_LEN,
                                   BATCH + BLOCK - BATCH_HEADER_LEN);
        if (n < 0)
            die("gzip: %s", err_text((int)n));
        len = BATCH_HEADER_LEN + (uint32_t)n;
    }
    store_be64(b + BATCH_BASE_OFFSET, (uint64_t)l->next_offset);
    store_be32(b + BATCH_LENGTH, len - BATCH_LOG_OVERHEAD);
    store_be32(b + BATCH_LEADER_EPOCH, 0);
    b[BATCH_MAGIC] = 2;
    store_be16(b + BATCH_ATTRIBUTES, opt.gzip ? CODEC_GZIP : 0);
    store_be32(b + BATCH_LAST_OFFSET_DELTA, l->cnt - 1);
    store_be64(b + BATCH_BASE_TIMESTAMP, (uint64_t)l->base_ms);
    store_be64(b + BATCH_MAX_TIMESTAMP, (uint64_t)l->max_ms);
    memset(b + BATCH_PRODUCER_ID, 0xff, 8 + 2 + 4);
    store_be32(b + BATCH_RECORD_COUNT, l->cnt);
    store_be32(b + BATCH_CRC, crc32c(0, b + BATCH_CRC_START, len - BATCH_CRC_START));
    l->next_offset += l->cnt;
    finished += l->cnt;
    l->at += len;
    if (opt.stage == APPEND)
        log_write_full(l);
    batch_open(l);
}

/* Every FLUSH_MS, when the last round is over: all open batches are closed and written to their
 * last byte. */
static void round_begin(void)
{
    for (uint32_t i = 0; i < LOGS; i++) {
        struct log *l = &logs[i];
        batch_close(l);
        while (l->tail_busy) /* of the round before: over already */
            ring_reap(true);
        if (l->at > l->written)
            log_write(l, (l->at + BLOCK - 1) & ~(uint32_t)(BLOCK - 1),
                      l->at % BLOCK != 0 ? OP_TAIL : OP_WRITE);
    }
    rounds.events = finished;
    rounds.waiting = true;
    uint32_t bit = rounds.round++ & 1;
    (void)io_uring_submit(&ring);
    if (rounds.outstanding[bit] == 0)
        round_flush();
}

/* ---- parse */
struct event {
    const uint8_t *p;
    uint32_t len, source; /* source: last byte of the address, which tells the generator's apart */
    uint8_t pri;
    bool is_bad;
    int64_t ms;
    const uint8_t *field[4];
    uint32_t field_len[4]; /* host, app, procid, msgid */
};
static int64_t arrival_ms;

static bool frame_read(struct rte_mbuf *m, struct event *e)
{
    const uint8_t *f = rte_pktmbuf_mtod(m, const uint8_t *);
    const struct rte_ipv4_hdr *ip = (const void *)(f + 14);
    const struct rte_udp_hdr *udp = (const void *)(ip + 1);
    if (m->data_len < 42 || load_be16(f + 12) != 0x0800 || ip->version_ihl != 0x45 ||
        ip->next_proto_id != 17)
        return false;
    uint32_t total = load_be16((const uint8_t *)&ip->total_length),
             len = load_be16((const uint8_t *)&udp->dgram_len);
    if (total + 14 > m->data_len || len + 20 > total || len < 8 ||
        (ip->fragment_offset & 0xff3f) != 0 || load_be16((const uint8_t *)&udp->dst_port) != 514)
        return false;
    if (rte_raw_cksum(ip, sizeof(*ip)) != 0xffff || rte_ipv4_udptcp_cksum(ip, udp) != 0xffff)
        return false;
    e->p = (const uint8_t *)(udp + 1);
    e->len = len - 8;
    e->source = f[29];
    return true;
}

static inline uint32_t two(const uint8_t *p)
{
    return (uint32_t)(p[0] - '0') * 10 + (uint32_t)(p[1] - '0');
}

/* Midnight of "2026-11-23"; the last one is remembered. */
static int64_t day_ms(const uint8_t *p)
{
    static uint8_t last[10];
    static int64_t ms;
    if (memcmp(p, last, sizeof(last)) != 0) {
        struct tm tm = {.tm_year = (int)(two(p) * 100 + two(p + 2)) - 1900,
                        .tm_mon = (int)two(p + 5) - 1,
                        .tm_mday = (int)two(p + 8)};
        ms = (int64_t)timegm(&tm) * 1000;
        memcpy(last, p, sizeof(last));
    }
    return ms;
}

/* "<PRI>1 TIME HOST APP PROCID MSGID ": what the generator writes, and what has no PRI. */
static void event_read(struct event *e)
{
    const uint8_t *p = e->p, *end = p + e->len;
    uint32_t pri = 0, i = 1;
    e->is_bad = p[0] != '<';
    e->ms = arrival_ms;
    if (e->is_bad)
        return;
    while (i < 4 && (uint8_t)(p[i] - '0') <= 9)
        pri = pri * 10 + (uint32_t)(p[i++] - '0');
    e->is_bad = p[i] != '>' || pri > 191 || p[i + 1] != '1' || p[i + 2] != ' ';
    if (e->is_bad)
        return;
    e->pri = (uint8_t)pri;
    p += i + 3;
    uint32_t ms = (two(p + 11) * 3600 + two(p + 14) * 60 + two(p + 17)) * 1000, n = 19;
    if (p[n] == '.') {
        uint32_t scale = 100;
        for (n++; (uint8_t)(p[n] - '0') <= 9; n++, scale /= 10)
            ms += (uint32_t)(p[n] - '0') * scale;
    }
    e->ms = day_ms(p) + ms;
    p += n + 2; /* "Z " */
    const __m128i space = _mm_set1_epi8(' ');
    uint64_t map = 0;
    for (uint32_t k = 0; k < 4; k++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * k));
        map |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, space)) << (16 * k);
    }
    const uint8_t *from = p;
    for (uint32_t k = 0; k < 4; k++) {
        const uint8_t *to = map != 0 ? p + __builtin_ctzll(map) : end;
        map &= map - 1;
        e->field[k] = from;
        e->field_len[k] = (uint32_t)(to - from);
        from = to + 1;
    }
    e->is_bad = from > end;
}

/* ---- records */
struct text {
    uint8_t bytes[64];
    uint32_t len;
};
static struct text of_source[256], of_pri[192], listener, reason;
static const char field_name[4][8] = {"\10host", "\6app", "\14procid", "\12msgid"};
static const uint32_t field_name_len[4] = {5, 4, 7, 6};

/* A header in wire form: zig-zag lengths of one byte. */
static void header_add(struct text *t, const char *name, const char *value)
{
    t->len += (uint32_t)snprintf((char *)t->bytes + t->len, sizeof(t->bytes) - t->len, "%c%s%c%s",
                                 (char)(strlen(name) * 2), name, (char)(strlen(value) * 2), value);
}

static void texts_make(void)
{
    static const char *const facility[] = {
#define SYSLOG_FACILITY(name) name,
#include "lib/iface/syslog_names.def"
    };
    static const char *const severity[] = {
#define SYSLOG_SEVERITY(name) name,
#include "lib/iface/syslog_names.def"
    };
    for (uint32_t i = 0; i < GEN_SOURCES; i++) {
        char text[16];
        gen_source_text(i, text);
        header_add(&of_source[i + 2], "source", text);
    }
    for (uint32_t i = 0; i < 192; i++) {
        header_add(&of_pri[i], "facility", facility[i >> 3]);
        header_add(&of_pri[i], "severity", severity[i & 7]);
    }
    header_add(&listener, "listener", "bench");
    header_add(&reason, "reason", "no PRI");
}

static inline uint8_t *put(uint8_t *to, const void *from, uint32_t len)
{
    memcpy(to, from, len);
    return to + len;
}

/* Texts and names are padded: 64 and 8 bytes are stored whole, what is too much is written over. */
static inline uint8_t *put_text(uint8_t *to, const struct text *t)
{
    memcpy(to, t->bytes, sizeof(t->bytes));
    return to + t->len;
}

static void event_add(const struct event *e)
{
    struct log *l = &logs[e->is_bad ? PARTITIONS : e->source % PARTITIONS];
    uint32_t len = 2 /* attributes, null key */ + (uint32_t)uvarint_len(e->len << 1) + e->len +
                   1 /* header count */ + of_source[e->source].len + listener.len;
    if (e->is_bad) {
        len += reason.len;
    } else {
        len += of_pri[e->pri].len;
        for (uint32_t k = 0; k < 4; k++)
            len += field_name_len[k] + 1 + e->field_len[k];
    }
    if (l->len + len + 128 >
        BATCH) /* lengths and deltas, and what a padded store writes too much */
        batch_close(l);
    if (l->cnt == 0)
        l->base_ms = l->max_ms = e->ms;
    l->max_ms = e->ms > l->max_ms ? e->ms : l->max_ms;
    uint64_t delta = zigzag64(e->ms - l->base_ms);
    len += (uint32_t)uvarlong_len(delta) + (uint32_t)uvarint_len(l->cnt << 1);
    uint8_t *p = l->open + l->len;
    p += uvarint_put(p, len << 1);
    *p++ = 0;
    p += uvarlong_put(p, delta);
    p += uvarint_put(p, l->cnt << 1);
    *p++ = 1;
    p += uvarint_put(p, e->len << 1);
    p = put(p, e->p, e->len);
    *p++ = (e->is_bad ? 3 : 8) << 1;
    p = put_text(p, &of_source[e->source]);
    if (!e->is_bad) {
        p = put_text(p, &of_pri[e->pri]);
        for (uint32_t k = 0; k < 4; k++) {
            memcpy(p, field_name[k], 8);
            p += field_name_len[k];
            *p++ = (uint8_t)(e->field_len[k] << 1);
            memcpy(p, e->field[k],
                   16); /* the generator's are shorter; behind them comes the message */
            p += e->field_len[k];
        }
    }
    p = put_text(p, &listener);
    if (e->is_bad)
        p = put_text(p, &reason);
    l->len = (uint32_t)(p - l->open);
    l->cnt++;
}

/* ---- the loop */
static uint64_t burst_work(struct rte_mbuf **m, uint32_t n, uint64_t t)
{
    struct event e[BURST];
    for (uint32_t i = 0; i < n; i++) {
        if (!frame_read(m[i], &e[i]) || e[i].len != EVENT_BYTES)
            die("frame %u of a burst is none of ours", i);
        event_read(&e[i]);
        bad_frames += e[i].is_bad;
        sink += (uint64_t)e[i].ms + e[i].field_len[3];
    }
    uint64_t now = rte_rdtsc();
    cycles[PARSE] += now - t;
    if (opt.stage == PARSE)
        return now;
    t = now;
    for (uint32_t i = 0; i < n; i++)
        event_add(&e[i]);
    now = rte_rdtsc();
    cycles[FRAME] += now - t;
    return now;
}

/* Events until `end`. With append, what is written within batch_close is part of the batch's
 * cycles. */
static uint64_t loop(uint64_t end, uint64_t flush_tsc)
{
    struct rte_mbuf *m[BURST];
    uint64_t events = 0, t = rte_rdtsc();
    while (t < end) {
        uint32_t n = rte_eth_rx_burst(0, 0, m, BURST);
        events += n;
        uint64_t now = rte_rdtsc();
        cycles[RX] += now - t;
        t = opt.stage == RX ? now : burst_work(m, n, now);
        rte_pktmbuf_free_bulk(m, n);
        now = rte_rdtsc();
        cycles[RX] += now - t;
        t = now;
        if (opt.stage < APPEND)
            continue;
        ring_reap(false);
        if (!rounds.waiting && t >= rounds.due) {
            rounds.due = t + flush_tsc;
            round_begin();
        }
        now = rte_rdtsc();
        cycles[APPEND] += now - t;
        t = now;
    }
    return events;
}

/* ---- reading back */
static void log_verify(struct log *l, uint8_t *scratch, int64_t wall_s)
{
    char want[EVENT_BYTES];
    struct stat st;
    if (fstat(l->fd, &st) != 0)
        die("stat: %s", strerror(errno));
    uint8_t *f = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, l->fd, 0);
    if (f == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    int64_t offset = 0;
    for (uint64_t at = 0; offset < l->next_offset;) {
        struct batch_info b;
        struct record_iter it;
        struct record_view r;
        if (batch_verify(f + at, (size_t)st.st_size - at, &b) != 0 || b.base_offset != offset ||
            record_iter_init(&it, codecs, span_of(f + at, b.total_len), scratch, 8 * BATCH) != 0)
            die("log %u: damaged at byte %" PRIu64, (uint32_t)(l - logs), at);
        for (int32_t i = 0; i < b.record_cnt; i++) {
            int rc = record_iter_next(&it, &r);
            uint32_t k = rc == 1 ? gen_index_of((const char *)r.value.p, r.value.len) : GEN_FRAMES;
            if (k == GEN_FRAMES)
                die("log %u: the record at offset %" PRId64 " is none of ours",
                    (uint32_t)(l - logs), offset + i);
            gen_event(want, EVENT_BYTES, k, wall_s);
            if (r.value.len != EVENT_BYTES || memcmp(r.value.p, want, EVENT_BYTES) != 0)
                die("log %u: offset %" PRId64 " is not what was sent", (uint32_t)(l - logs),
                    offset + i);
        }
        offset += b.record_cnt;
        at += b.total_len;
    }
    (void)munmap(f, (size_t)st.st_size);
}

/* ---- set up */
static void options_read(int argc, char **argv)
{
    static const struct option longs[] = {{"stage", 1, NULL, 's'},   {"gzip", 0, NULL, 'g'},
                                          {"seconds", 1, NULL, 'n'}, {"hugepages", 0, NULL, 'H'},
                                          {"dir", 1, NULL, 'd'},     {"small", 0, NULL, 'S'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 's') {
            uint32_t i = 0;
            while (i < STAGES && strcmp(stage_name[i], optarg) != 0)
                i++;
            if (i == STAGES)
                die("--stage %s: one of rx, parse, batch, append", optarg);
            opt.stage = (enum stage)i;
        } else if (c == 'n' && (opt.seconds = (uint32_t)atoi(optarg)) == 0) {
            die("--seconds %s: a number from 1", optarg);
        } else if (c == '?') {
            exit(2);
        }
        opt.gzip |= c == 'g';
        opt.hugepages |= c == 'H';
        opt.small |= c == 'S';
        opt.dir = c == 'd' ? optarg : opt.dir;
    }
}

static void port_start(int64_t wall_s)
{
    struct gen_pcap_opts g = {.event_size = EVENT_BYTES, .wall_s = wall_s};
    char path[300], vdev[400];
    (void)snprintf(path, sizeof(path), "%s/frames.pcap", dir);
    g.path = path;
    if (gen_pcap(&g) < 0)
        die("%s: cannot be written", path);
    (void)snprintf(vdev, sizeof(vdev), "--vdev=net_pcap0,rx_pcap=%s,infinite_rx=1", path);
    char *huge[] = {"bench",         "-l",          "0", "--no-pci", "--no-telemetry",
                    "--log-level=3", "--in-memory", vdev};
    char *small[] = {
        "bench",       "-l", "0",   "--no-pci", "--no-telemetry", "--log-level=3", "--no-huge",
        "--no-shconf", "-m", "256", vdev};
    if ((opt.hugepages ? rte_eal_init(8, huge) : rte_eal_init(11, small)) < 0)
        die("EAL: %s", rte_strerror(rte_errno));
    struct rte_mempool *mp =
        rte_pktmbuf_pool_create("frames", 32767, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    struct rte_eth_conf c = {0};
    if (mp == NULL || rte_eth_dev_configure(0, 1, 1, &c) != 0 ||
        rte_eth_rx_queue_setup(0, 0, 1024, 0, NULL, mp) != 0 ||
        rte_eth_tx_queue_setup(0, 0, 512, 0, NULL) != 0 || rte_eth_dev_start(0) != 0)
        die("net_pcap0 did not start");
}

static void logs_open(void)
{
    for (uint32_t i = 0; i < LOGS; i++) {
        char path[300];
        struct log *l = &logs[i];
        *l = (struct log){.fd = -1};
        l->mem = mmap(NULL, 2 * HALF, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        l->open = opt.gzip ? malloc(BATCH + 256) : NULL;
        if (l->mem == MAP_FAILED || (opt.gzip && l->open == NULL))
            die("out of memory");
        (void)snprintf(path, sizeof(path), "%s/%u.log", dir, i);
        if (opt.stage == APPEND &&
            (l->fd = open(path, O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600)) < 0)
            die("%s: %s", path, strerror(errno));
        batch_open(l);
    }
    int rc = io_uring_queue_init(RING, &ring,
                                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                     IORING_SETUP_TASKRUN_FLAG);
    if (rc < 0)
        die("io_uring: %s", strerror(-rc));
}

static void logs_close(int64_t wall_s)
{
    if (opt.stage < APPEND)
        return;
    while (rounds.waiting)
        ring_reap(true);
    round_begin();
    while (rounds.waiting)
        ring_reap(true);
    if (durable != finished)
        die("%" PRIu64 " events are durable of %" PRIu64, durable, finished);
    uint8_t *scratch = malloc(8 * BATCH);
    ASSERT(scratch != NULL);
    for (uint32_t i = 0; i < LOGS; i++)
        log_verify(&logs[i], scratch, wall_s);
    free(scratch);
    printf("verified %" PRIu64 "\n", durable);
}

static void dir_remove(void)
{
    char path[300];
    for (uint32_t i = 0; i < LOGS; i++) {
        (void)snprintf(path, sizeof(path), "%s/%u.log", dir, i);
        (void)unlink(path);
    }
    (void)snprintf(path, sizeof(path), "%s/frames.pcap", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

int main(int argc, char **argv)
{
    options_read(argc, argv);
    (void)snprintf(dir, sizeof(dir), "%s/bench-ingest-XXXXXX",
                   opt.dir != NULL ? opt.dir : "/var/tmp");
    if (mkdtemp(dir) == NULL)
        die("%s: %s", dir, strerror(errno));
    (void)atexit(dir_remove);
    int64_t wall_s = (int64_t)time(NULL);
    arrival_ms = wall_s * 1000;
    accel_init(false);
    if (codec_ctx_create(&codecs) < 0)
        die("out of memory");
    texts_make();
    port_start(wall_s);
    logs_open();
    uint64_t hz = rte_get_tsc_hz(), ms = hz / 1000;
    (void)loop(rte_rdtsc() + (opt.small ? 20 : 500) * ms, FLUSH_MS * ms); /* warm-up */
    memset(cycles, 0, sizeof(cycles));
    uint64_t before = durable, from = rte_rdtsc();
    uint64_t events = loop(from + (opt.small ? 50 : opt.seconds * 1000) * ms, FLUSH_MS * ms);
    uint64_t took = rte_rdtsc() - from;
    if (opt.stage == APPEND)
        events = durable - before;
    printf("events_per_second %.0f\n", (double)events * (double)hz / (double)took);
    for (uint32_t i = 0; i <= (uint32_t)opt.stage; i++)
        printf("cycles_%s %.1f\n", stage_name[i], (double)cycles[i] / (double)events);
    printf("cycles %.1f\n", (double)took / (double)events);
    logs_close(wall_s);
    (void)rte_eth_dev_stop(0);
    (void)rte_eth_dev_close(0);
    (void)rte_eal_cleanup();
    return sink == 1 && bad_frames == 0; /* never: the compiler may not leave the work out */
}
