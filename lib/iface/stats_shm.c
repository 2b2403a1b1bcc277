/* stats_shm.c - the counters file: create, publish, read, sum, check. The ledger checkpoint is in
 * ledger.c.
 *
 * A block: seq counts publications; copy[seq & 1] is the published one.
 *   writer (stats_publish)            reader (block_read)
 *   W1 release fence                  R1 seq, acquire
 *   words of copy[(seq+1) & 1]        words of copy[seq & 1]
 *   W2 seq+1, release                 R2 acquire fence; seq again: unchanged, or retry
 * W2 pairs with R1: who sees the number sees the words. W1 pairs with R2: who saw a word of the
 * next-but-one publication also sees that seq moved on. */
#include "lib/iface/stats_shm.h"
#include "lib/base/build_id.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert(COUNTERS_PORTS_MAX == CONF_PORTS_MAX, "one limit in two places");
static_assert(COUNTERS_LISTENERS_MAX == CONF_LISTENERS_MAX, "one limit in two places");
static_assert(STATS_STAGES_MAX == sizeof(((struct shard_stats *)0)->stage_cycles) / 8,
              "every stage has its cycles");

static_assert(CONF_RULES_MAX == sizeof(((struct shard_stats *)0)->rule_events) / 8,
              "every rule has its events");

#define WORDS(type) (sizeof(type) / sizeof(uint64_t))
#define READ_TRIES 1000

struct stats_block {
    _Atomic uint64_t seq;
    uint64_t published_ns; /* the writer's own memory of when */
    uint16_t port_cnt, listener_cnt;
    _Alignas(64) _Atomic int64_t wall_ms;
    _Alignas(64) _Atomic uint64_t copy[2][WORDS(struct counters)];
    /* The same game once more: talkers_seq counts publications. Words: how many, then they. */
    _Atomic uint64_t talkers_seq;
    _Atomic uint64_t talkers[2][1 + STATS_TALKERS_MAX * WORDS(struct stats_talker)];
};

struct stats_shm {
    struct stats_header *header;
    struct stats_block *blocks;
    size_t len;
};
struct stats_reader {
    const struct stats_header *header;
    const struct stats_block *blocks;
    size_t len;
};

/* ---- descriptions */
#define KIND_COUNTER STATS_COUNTER
#define KIND_GAUGE STATS_GAUGE
#define KIND_MAX STATS_MAX
#define DESC(type, name, cnt, kind, help)                                                          \
    {#name, help, KIND_##kind, offsetof(struct type, name) / 8, cnt, false},
#define DESC_DROP(type, prefix, name, help)                                                        \
    {#name, help, STATS_COUNTER, offsetof(struct type, drop) / 8 + prefix##_##name, 1, true},

const struct stats_desc stats_shard_desc[] = {
#define SHARD_STAT(name, kind, help) DESC(shard_stats, name, 1, kind, help)
#define SHARD_HIST(name, cnt, kind, help) DESC(shard_stats, name, cnt, kind, help)
#include "dataplane/counters.def"
};
const struct stats_desc stats_port_desc[] = {
#define PORT_STAT(name, kind, help) DESC(port_stats, name, 1, kind, help)
#include "dataplane/counters.def"
#define DROP_PORT(name, help) DESC_DROP(port_stats, PDROP, name, help)
#include "dataplane/drop.def"
};
const struct stats_desc stats_listener_desc[] = {
#define LISTENER_STAT(name, kind, help) DESC(listener_stats, name, 1, kind, help)
#include "dataplane/counters.def"
#define DROP_DGRAM(name, help) DESC_DROP(listener_stats, DDROP, name, help)
#include "dataplane/drop.def"
};
const struct stats_desc stats_event_desc[] = {
#define EVENT_STAT(name, kind, help) DESC(event_stats, name, 1, kind, help)
#include "dataplane/counters.def"
#define DROP_EVENT(name, help) DESC_DROP(event_stats, EDROP, name, help)
#include "dataplane/drop.def"
};
#define CNT(a) (sizeof(a) / sizeof((a)[0]))
const uint32_t stats_shard_desc_cnt = CNT(stats_shard_desc);
const uint32_t stats_port_desc_cnt = CNT(stats_port_desc);
const uint32_t stats_listener_desc_cnt = CNT(stats_listener_desc);
const uint32_t stats_event_desc_cnt = CNT(stats_event_desc);

static uint64_t layout_mix(uint64_t h, const struct stats_desc *d, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++) {
        for (const char *c = d[i].name; *c != '\0'; c++)
            h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
        h = (h ^ d[i].word ^ ((uint64_t)d[i].cnt << 16) ^ ((uint64_t)d[i].kind << 32)) *
            UINT64_C(0x100000001b3);
    }
    return h;
}

static uint64_t layout_hash(void)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ sizeof(struct stats_header) ^
                 sizeof(struct stats_block) << 32;
    h = layout_mix(h, stats_shard_desc, stats_shard_desc_cnt);
    h = layout_mix(h, stats_port_desc, stats_port_desc_cnt);
    h = layout_mix(h, stats_listener_desc, stats_listener_desc_cnt);
    return layout_mix(h, stats_event_desc, stats_event_desc_cnt);
}

/* ---- places */
static size_t header_len(void)
{
    return (sizeof(struct stats_header) + 4095) & ~(size_t)4095;
}
static size_t file_len(uint32_t shard_cnt)
{
    return header_len() + ((size_t)shard_cnt + 1) * sizeof(struct stats_block);
}

/* An unknown boot id is empty and never equals another one. */
void stats_boot_id(char *buf, size_t cap)
{
    buf[0] = '\0';
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, buf, cap - 1);
    (void)close(fd);
    buf[n > 0 ? n : 0] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
}

static void copy_name(char *to, size_t cap, const char *from)
{
    size_t n = strnlen(from, cap - 1);
    memcpy(to, from, n);
    to[n] = '\0';
}

/* ---- publishing */
static void words_store(_Atomic uint64_t *to, const void *from, size_t at, size_t cnt)
{
    const uint64_t *w = (const uint64_t *)from + at;
    for (size_t i = 0; i < cnt; i++)
        atomic_store_explicit(&to[at + i], w[i], memory_order_relaxed);
}

static void block_write(struct stats_block *b, const struct counters *c, int64_t wall_ms)
{
    uint64_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);
    _Atomic uint64_t *to = b->copy[(seq + 1) & 1];
    atomic_thread_fence(memory_order_release); /* W1 */
    words_store(to, c, 0, WORDS(struct shard_stats));
    words_store(to, c, offsetof(struct counters, port) / 8, b->port_cnt * WORDS(struct port_stats));
    words_store(to, c, offsetof(struct counters, listener) / 8,
                b->listener_cnt * WORDS(struct listener_stats));
    words_store(to, c, offsetof(struct counters, events) / 8,
                b->listener_cnt * WORDS(struct event_stats));
    atomic_store_explicit(&b->wall_ms, wall_ms, memory_order_relaxed);
    atomic_store_explicit(&b->seq, seq + 1, memory_order_release); /* W2 */
}

bool stats_publish_is_due(const struct stats_block *b, uint64_t now_ns, bool busy)
{
    return busy || now_ns - b->published_ns >= STATS_PUBLISH_IDLE_NS;
}

void stats_publish(struct stats_block *b, const struct counters *c, uint64_t now_ns,
                   int64_t wall_ms, bool busy)
{
    if (!stats_publish_is_due(b, now_ns, busy))
        return;
    b->published_ns = now_ns;
    block_write(b, c, wall_ms);
}

void stats_publish_talkers(struct stats_block *b, const struct stats_talker *t, uint32_t n)
{
    uint64_t seq = atomic_load_explicit(&b->talkers_seq, memory_order_relaxed);
    _Atomic uint64_t *to = b->talkers[(seq + 1) & 1];
    ASSERT(n <= STATS_TALKERS_MAX);
    atomic_thread_fence(memory_order_release); /* W1 */
    atomic_store_explicit(&to[0], n, memory_order_relaxed);
    words_store(to + 1, t, 0, n * WORDS(struct stats_talker));
    atomic_store_explicit(&b->talkers_seq, seq + 1, memory_order_release); /* W2 */
}

/* ---- creating */
static void header_fill(struct stats_header *h, const struct stats_create_opts *o)
{
    const struct conf *conf = o->conf;
    h->layout = layout_hash();
    copy_name(h->build, sizeof(h->build), build_id());
    stats_boot_id(h->boot_id, sizeof(h->boot_id));
    h->shard_cnt = o->shard_cnt;
    h->port_cnt = conf->port_cnt;
    h->listener_cnt = conf->listener_cnt;
    h->rule_cnt = conf->rule_cnt;
    h->stage_cnt = o->stage_cnt;
    h->pid = getpid();
    h->tsc_hz = o->tsc_hz;
    h->start_wall_ms = o->start_wall_ms;
    h->gap = o->gap;
    copy_name(h->accel, sizeof(h->accel), o->accel != NULL ? o->accel : "");
    for (uint32_t i = 0; i < o->shard_cnt; i++)
        h->shard_cpu[i] = o->shard_cpu != NULL ? o->shard_cpu[i] : -1;
    for (uint32_t i = 0; i < o->stage_cnt; i++)
        copy_name(h->stage_name[i], STATS_STAGE_NAME_MAX, o->stage_names[i]);
    for (uint32_t i = 0; i < conf->port_cnt; i++)
        copy_name(h->port_name[i], CONF_NAME_MAX, conf->ports[i].name);
    for (uint32_t i = 0; i < conf->listener_cnt; i++)
        copy_name(h->listener_name[i], CONF_NAME_MAX, conf->listeners[i].name);
}

int stats_create(const char *path, const struct stats_create_opts *o, struct stats_shm **ret)
{
    if (o->shard_cnt > STATS_SHARDS_MAX || o->stage_cnt > STATS_STAGES_MAX ||
        o->conf->port_cnt > CONF_PORTS_MAX || o->conf->listener_cnt > CONF_LISTENERS_MAX)
        return -E_LIMIT;
    char tmp[CONF_PATH_MAX + 8];
    if ((size_t)snprintf(tmp, sizeof(tmp), "%s.new", path) >= sizeof(tmp))
        return -ENAMETOOLONG;
    struct stats_shm *shm = calloc(1, sizeof(*shm));
    if (shm == NULL)
        return -ENOMEM;
    int rc;
    int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) {
        rc = -errno;
        goto undo_alloc;
    }
    shm->len = file_len(o->shard_cnt);
    /* really allocated: a full disk must say so now, not as SIGBUS in a shard */
    rc = -posix_fallocate(fd, 0, (off_t)shm->len);
    if (rc < 0)
        goto undo_file;
    void *p = mmap(NULL, shm->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        rc = -errno;
        goto undo_file;
    }
    shm->header = p;
    shm->blocks = (struct stats_block *)((char *)p + header_len());
    header_fill(shm->header, o);
    for (uint32_t i = 0; i <= o->shard_cnt; i++) {
        shm->blocks[i].port_cnt = (uint16_t)o->conf->port_cnt;
        shm->blocks[i].listener_cnt = (uint16_t)o->conf->listener_cnt;
        atomic_store_explicit(&shm->blocks[i].wall_ms, o->start_wall_ms, memory_order_relaxed);
    }
    if (o->carried != NULL)
        block_write(&shm->blocks[o->shard_cnt], o->carried, o->start_wall_ms);
    atomic_store_explicit(&shm->header->magic, STATS_MAGIC, memory_order_release);
    if (rename(tmp, path) < 0) {
        rc = -errno;
        goto undo_map;
    }
    (void)close(fd); /* the mapping keeps the file */
    *ret = shm;
    return 0;
undo_map:
    (void)munmap(p, shm->len);
undo_file:
    (void)close(fd);
    (void)unlink(tmp);
undo_alloc:
    free(shm);
    return rc;
}

void stats_destroy(struct stats_shm *shm)
{
    if (shm == NULL)
        return;
    (void)munmap(shm->header, shm->len);
    free(shm);
}

struct stats_block *stats_block(struct stats_shm *shm, uint16_t shard)
{
    ASSERT(shard < shm->header->shard_cnt);
    return &shm->blocks[shard];
}

/* ---- reading */
static int header_check(const struct stats_header *h, size_t len)
{
    if (len < header_len() || atomic_load_explicit(&h->magic, memory_order_acquire) != STATS_MAGIC)
        return -E_MALFORMED;
    if (h->layout != layout_hash())
        return -E_UNSUPPORTED_VERSION;
    if (h->shard_cnt > STATS_SHARDS_MAX || h->port_cnt > CONF_PORTS_MAX ||
        h->listener_cnt > CONF_LISTENERS_MAX || h->stage_cnt > STATS_STAGES_MAX ||
        h->rule_cnt > CONF_RULES_MAX || len != file_len(h->shard_cnt))
        return -E_MALFORMED;
    return 0;
}

int stats_open(const char *path, struct stats_reader **ret)
{
    struct stats_reader *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    int rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = -errno;
        goto undo_alloc;
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
        rc = -errno;
        goto undo_file;
    }
    r->len = (size_t)st.st_size;
    if (r->len < header_len()) {
        rc = -E_MALFORMED;
        goto undo_file;
    }
    void *p = mmap(NULL, r->len, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        rc = -errno;
        goto undo_file;
    }
    r->header = p;
    r->blocks = (const struct stats_block *)((const char *)p + header_len());
    rc = header_check(r->header, r->len);
    if (rc < 0)
        goto undo_map;
    (void)close(fd);
    *ret = r;
    return 0;
undo_map:
    (void)munmap(p, r->len);
undo_file:
    (void)close(fd);
undo_alloc:
    free(r);
    return rc;
}

void stats_close(struct stats_reader *r)
{
    if (r == NULL)
        return;
    (void)munmap((void *)(uintptr_t)r->header, r->len);
    free(r);
}

const struct stats_header *stats_header(const struct stats_reader *r)
{
    return r->header;
}

static int block_read(const struct stats_block *b, struct counters *ret)
{
    uint64_t *to = (uint64_t *)ret;
    for (int tries = 0; tries < READ_TRIES; tries++) {
        uint64_t seq = atomic_load_explicit(&b->seq, memory_order_acquire); /* R1 */
        const _Atomic uint64_t *from = b->copy[seq & 1];
        for (size_t i = 0; i < WORDS(struct counters); i++)
            to[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire); /* R2 */
        if (atomic_load_explicit(&b->seq, memory_order_relaxed) == seq)
            return 0;
    }
    return -EAGAIN;
}

int stats_read(const struct stats_reader *r, uint16_t shard, struct counters *ret)
{
    if (shard >= r->header->shard_cnt)
        return -EINVAL;
    return block_read(&r->blocks[shard], ret);
}

int stats_read_talkers(const struct stats_reader *r, uint16_t shard,
                       struct stats_talker ret[STATS_TALKERS_MAX])
{
    if (shard >= r->header->shard_cnt)
        return -EINVAL;
    const struct stats_block *b = &r->blocks[shard];
    for (int tries = 0; tries < READ_TRIES; tries++) {
        uint64_t seq = atomic_load_explicit(&b->talkers_seq, memory_order_acquire); /* R1 */
        const _Atomic uint64_t *from = b->talkers[seq & 1];
        uint64_t n = atomic_load_explicit(&from[0], memory_order_relaxed);
        n = n < STATS_TALKERS_MAX ? n : STATS_TALKERS_MAX;
        uint64_t *to = (uint64_t *)ret;
        for (size_t i = 0; i < n * WORDS(struct stats_talker); i++)
            to[i] = atomic_load_explicit(&from[1 + i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire); /* R2 */
        if (atomic_load_explicit(&b->talkers_seq, memory_order_relaxed) == seq)
            return (int)n;
    }
    return -EAGAIN;
}

int stats_read_total(const struct stats_reader *r, struct counters *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i <= r->header->shard_cnt; i++) {
        struct counters one;
        int rc = block_read(&r->blocks[i], &one);
        if (rc < 0)
            return rc;
        stats_sum(ret, &one);
    }
    return 0;
}

int64_t stats_last_ms(const struct stats_reader *r)
{
    int64_t last = r->header->start_wall_ms;
    for (uint32_t i = 0; i < r->header->shard_cnt; i++) {
        int64_t ms = atomic_load_explicit(&r->blocks[i].wall_ms, memory_order_relaxed);
        last = ms > last ? ms : last;
    }
    return last;
}

static void sum_words(void *to_v, const void *from_v, const struct stats_desc *d, uint32_t cnt)
{
    uint64_t *to = to_v;
    const uint64_t *from = from_v;
    for (uint32_t i = 0; i < cnt; i++) {
        for (uint32_t w = d[i].word; w < (uint32_t)d[i].word + d[i].cnt; w++) {
            if (d[i].kind == STATS_MAX)
                to[w] = from[w] > to[w] ? from[w] : to[w];
            else
                to[w] += from[w];
        }
    }
}

void stats_sum(struct counters *to, const struct counters *c)
{
    sum_words(&to->shard, &c->shard, stats_shard_desc, stats_shard_desc_cnt);
    for (uint32_t i = 0; i < COUNTERS_PORTS_MAX; i++)
        sum_words(&to->port[i], &c->port[i], stats_port_desc, stats_port_desc_cnt);
    for (uint32_t i = 0; i < COUNTERS_LISTENERS_MAX; i++) {
        sum_words(&to->listener[i], &c->listener[i], stats_listener_desc, stats_listener_desc_cnt);
        sum_words(&to->events[i], &c->events[i], stats_event_desc, stats_event_desc_cnt);
    }
}

/* ---- the equations */
static uint64_t sum_of(const uint64_t *v, uint32_t cnt)
{
    uint64_t s = 0;
    for (uint32_t i = 0; i < cnt; i++)
        s += v[i];
    return s;
}

int stats_check(const struct counters *c, uint32_t port_cnt, uint32_t listener_cnt, char *err,
                size_t err_cap)
{
    for (uint32_t i = 0; i < port_cnt; i++) {
        const struct port_stats *p = &c->port[i];
        uint64_t out =
            p->to_udp + p->to_host + p->handled + p->in_reassembly + sum_of(p->drop, PDROP_CNT);
        if (p->seen != out) {
            (void)snprintf(err, err_cap, "port %u: %lu frames seen, %lu accounted for", i,
                           (unsigned long)p->seen, (unsigned long)out);
            return -E_MALFORMED;
        }
    }
    for (uint32_t i = 0; i < listener_cnt; i++) {
        const struct listener_stats *l = &c->listener[i];
        uint64_t out = l->parsed + l->in_reassembly + sum_of(l->drop, DDROP_CNT);
        if (l->received != out) {
            (void)snprintf(err, err_cap, "listener %u: %lu datagrams received, %lu accounted for",
                           i, (unsigned long)l->received, (unsigned long)out);
            return -E_MALFORMED;
        }
        const struct event_stats *e = &c->events[i];
        out = e->durable + e->dead_lettered_durable + e->in_flight + sum_of(e->drop, EDROP_CNT);
        if (e->produced != out) {
            (void)snprintf(err, err_cap, "listener %u: %lu events produced, %lu accounted for", i,
                           (unsigned long)e->produced, (unsigned long)out);
            return -E_MALFORMED;
        }
    }
    return 0;
}
