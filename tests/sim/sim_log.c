/* sim_log.c - see sim_log.h. */
#include "tests/sim/sim_log.h"
#include "lib/batch/layout.h"
#include <stdlib.h>

#define LOGS_MAX (SIM_TOPICS_MAX * SIM_PARTS_MAX)
#define APPENDS_MAX 4096

struct append { /* under way */
    struct plog_append *a;
    void (*done)(struct plog_append *a);
    struct sim_log *log;
    struct sim_batch b;
};
static struct sim_log logs[LOGS_MAX];
static uint32_t log_cnt;
static struct append appends[APPENDS_MAX];
static uint32_t append_cnt;

void sim_log_reset(void)
{
    for (uint32_t i = 0; i < log_cnt; i++)
        free(logs[i].v);
    SIM_CHECK(append_cnt == 0, "%u appends were never answered", append_cnt);
    memset(logs, 0, log_cnt * sizeof(logs[0]));
    log_cnt = 0;
}

struct sim_log *sim_log_of(const struct uuid *topic_id, int32_t partition)
{
    for (uint32_t i = 0; i < log_cnt; i++)
        if (logs[i].partition == partition && uuid_eq(&logs[i].topic_id, topic_id))
            return &logs[i];
    SIM_CHECK(log_cnt < LOGS_MAX, "too many partitions");
    logs[log_cnt] = (struct sim_log){.topic_id = *topic_id, .partition = partition};
    return &logs[log_cnt++];
}

static uint32_t lower_bound(const struct sim_log *log, int64_t offset)
{
    uint32_t lo = 0, hi = log->cnt;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (log->v[mid].last < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct sim_batch *sim_log_at(const struct sim_log *log, int64_t offset)
{
    uint32_t i = lower_bound(log, offset);
    return i < log->cnt ? &log->v[i] : NULL;
}

static void accepted(struct sim_log *log, const struct sim_batch *b)
{
    uint32_t i = lower_bound(log, b->base);
    if (i < log->cnt && log->v[i].base <= b->last) { /* only a repetition may meet one */
        const struct sim_batch *o = &log->v[i];
        SIM_CHECK(o->base == b->base && o->last == b->last && o->crc == b->crc,
                  "two batches at offset %" PRId64, b->base);
        return;
    }
    for (uint32_t k = 0; k < log->cnt; k++)
        SIM_CHECK(log->v[k].crc != b->crc || log->v[k].len != b->len,
                  "one batch at offsets %" PRId64 " and %" PRId64, log->v[k].base, b->base);
    if (log->cnt == log->cap) {
        log->cap = log->cap > 0 ? 2 * log->cap : 16;
        log->v = realloc(log->v, log->cap * sizeof(*log->v));
        if (log->v == NULL)
            abort();
    }
    memmove(&log->v[i + 1], &log->v[i], (log->cnt - i) * sizeof(*log->v));
    log->v[i] = *b;
    log->cnt++;
}

int64_t sim_log_start_max(const struct sim_topic *t, int32_t partition)
{
    int64_t max = 0;
    for (uint32_t i = 0; i < sim->topic_cnt; i++) {
        const struct sim_topic *x = &sim->topics[i];
        if (strcmp(x->name, t->name) != 0)
            continue;
        int64_t start = sim_log_of(&x->id, partition)->start_max;
        max = start > max ? start : max;
    }
    return max;
}

static void on_append_done(struct plog_append *a)
{
    uint32_t i = 0;
    while (i < append_cnt && appends[i].a != a)
        i++;
    SIM_CHECK(i < append_cnt, "an append was answered twice");
    struct append x = appends[i];
    appends[i] = appends[--append_cnt];
    x.log->under_way--;
    a->done = x.done;
    if (a->rc == 0) {
        x.b.last += a->base_offset; /* held the delta */
        x.b.base = a->base_offset;
        accepted(x.log, &x.b);
    }
    x.done(a);
}

void __real_plog_append(struct plog *p, struct plog_append *a);
void __wrap_plog_append(struct plog *p, struct plog_append *a);
void __wrap_plog_append(struct plog *p, struct plog_append *a)
{
    SIM_CHECK(append_cnt < APPENDS_MAX, "too many appends under way");
    struct append *x = &appends[append_cnt++];
    *x = (struct append){.a = a, .done = a->done};
    x->log = sim_log_of(plog_topic_id(p), plog_partition(p));
    x->log->under_way++;
    x->b.len = a->batch.len;
    x->b.crc = load_be32(a->batch.p + BATCH_CRC);
    x->b.last = batch_last_offset_delta(a->batch.p);
    a->done = on_append_done;
    __real_plog_append(p, a);
}

int64_t sim_log_compare(const struct sim_log *log, int64_t offset, struct span bytes,
                        const char *what)
{
    for (uint32_t at = 0; at < bytes.len;) {
        struct batch_info info;
        const struct sim_batch *b = sim_log_at(log, offset);
        int rc = batch_verify(bytes.p + at, bytes.len - at, &info);
        SIM_CHECK(rc == 0, "%s: no whole batch at byte %u of %u: %s", what, at, bytes.len,
                  err_text(rc));
        SIM_CHECK(b != NULL, "%s: offset %" PRId64 " was never accepted", what, offset);
        SIM_CHECK(info.base_offset == b->base && info.total_len == b->len &&
                      load_be32(bytes.p + at + BATCH_CRC) == b->crc,
                  "%s: at offset %" PRId64 " another batch: %" PRId64 ", %u bytes; accepted was "
                  "%" PRId64 ", %u bytes",
                  what, offset, info.base_offset, info.total_len, b->base, b->len);
        SIM_CHECK(at == 0 || b->base == offset, "%s: offsets up to %" PRId64 " are left out", what,
                  b->base);
        offset = b->last + 1;
        at += info.total_len;
    }
    return offset;
}

uint32_t sim_log_bytes(const struct sim_log *log, int64_t offset, int64_t durable,
                       uint32_t max_bytes, bool whole_one)
{
    uint32_t got = 0;
    for (uint32_t i = lower_bound(log, offset); i < log->cnt && log->v[i].last < durable; i++) {
        if (got + log->v[i].len > max_bytes && !(got == 0 && whole_one))
            break;
        got += log->v[i].len;
    }
    return got;
}

/* ------------------------------------------------------------------- verify */

struct verify_read {
    struct plog_read r;
    bool done;
};

static void on_read_done(struct plog_read *r)
{
    container_of(r, struct verify_read, r)->done = true;
}

static void verify_part(const struct sim_topic *t, int32_t partition)
{
    static uint8_t buf[2u << 20];
    struct plog *p = sim_plog(t, partition);
    const struct sim_log *log = sim_log_of(&t->id, partition);
    SIM_CHECK(p != NULL, "%s-%d is gone", t->name, partition);
    struct plog_offsets o;
    plog_offsets_get(p, &o);
    int64_t next = log->cnt > 0 ? log->v[log->cnt - 1].last + 1 : 0;
    SIM_CHECK(o.durable == next && o.next == next,
              "%s-%d: ends at %" PRId64 ", durable %" PRId64 "; accepted up to %" PRId64, t->name,
              partition, o.next, o.durable, next);
    SIM_CHECK(o.log_start <= sim_log_start_max(t, partition), "%s-%d: starts at %" PRId64, t->name,
              partition, o.log_start);
    for (uint32_t i = 1; i < log->cnt; i++)
        SIM_CHECK(log->v[i].base == log->v[i - 1].last + 1, "%s-%d: a gap at %" PRId64, t->name,
                  partition, log->v[i].base);
    for (int64_t at = o.log_start; at < next;) {
        struct verify_read v = {.r = {.offset = at,
                                      .current_leader_epoch = -1,
                                      .last_fetched_epoch = -1,
                                      .max_bytes = sizeof(buf),
                                      .min_one_batch = true,
                                      .dst = buf,
                                      .dst_cap = sizeof(buf),
                                      .done = on_read_done}};
        plog_read(p, &v.r);
        sim_owner(t, partition)->at_ns = sim->now_ns; /* as a message would wake it */
        while (!v.done)
            (void)sim_step(SIM_NEVER);
        SIM_CHECK(v.r.rc == 0 && v.r.len > 0, "%s-%d: offset %" PRId64 ": %s, %u bytes", t->name,
                  partition, at, err_text(v.r.rc), v.r.len);
        at = sim_log_compare(log, at, span_of(buf, v.r.len), t->name);
    }
}

void sim_log_verify_all(void)
{
    for (uint32_t i = 0; i < sim->topic_cnt; i++)
        for (uint32_t p = 0; !sim->topics[i].deleted && p < sim->topics[i].partition_cnt; p++)
            verify_part(&sim->topics[i], (int32_t)p);
}
