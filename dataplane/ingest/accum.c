/* accum.c - see accum.h.
 *
 * An open batch has a buffer large enough for the sealed form of a full one, and keeps it until the
 * log has a copy: mostly inside plog_append. So a few buffers serve all batches in turn and stay in
 * the processor's cache, while many batches wait for the disk. One spare buffer is kept besides:
 * sealing with a codec writes into the spare and swaps, the open buffer becomes the next spare.
 * Open batches are listed in the order of their first record, so with one linger for all the head
 * is always the next to expire. */
#include "dataplane/ingest/accum.h"
#include "dataplane/counters.h"
#include "dataplane/ingest/auto.h"
#include "dataplane/store/plog.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/batch/build.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include <sys/mman.h>

#define BEHIND_LINGER_NS UINT64_C(1000000000)

struct ibatch {
    struct plog_append append; /* first: begins with struct msg */
    struct accum *accum;
    struct shard *receiver; /* remote append: set by the partition's owner */
    struct list link;       /* accum.free or accum.open */
    struct target *target;  /* while OPEN */
    struct batch_builder b;
    uint8_t *buf;      /* NULL: given back, the log has a copy */
    uint64_t first_ns; /* time of the first record */
    uint32_t record_cnt;
    uint16_t listener;
    bool dead, stream;
};
static_assert(offsetof(struct ibatch, append) == 0, "a plog_append is its ibatch");
static_assert(offsetof(struct plog_append, msg) == 0, "a message is its plog_append");

struct accum {
    struct shard *s;
    struct list free, open;
    uint32_t batch_cnt, free_cnt;
    uint32_t buf_cnt, buf_free_cnt, open_cnt;
    uint32_t stream_max, stream_cnt;         /* batches of streams */
    uint32_t stream_buf_max, stream_buf_cnt; /* buffers of those: datagrams want half free */
    uint8_t **buf_free;                      /* a stack: the last one used is the warmest */
    uint32_t batch_bytes, builder_cap, buf_bytes;
    uint64_t linger_ns;
    struct auto_share auto_share;
    uint8_t *spare;
    struct timer timer; /* wakes the shard for the linger; accum_expire does the work */
    struct ibatch *batches;
    void *mem;
    size_t mem_len;
};

/* ---- the pool */
static void buf_put(struct accum *a, struct ibatch *ib)
{
    if (ib->buf == NULL)
        return;
    a->buf_free[a->buf_free_cnt++] = ib->buf;
    ib->buf = NULL;
    a->stream_buf_cnt -= ib->stream;
    a->s->counters->shard.ingest_buffers_used = a->buf_cnt - a->buf_free_cnt;
}

static void batch_put(struct accum *a, struct ibatch *ib)
{
    buf_put(a, ib);
    a->stream_cnt -= ib->stream;
    ib->stream = false;
    ib->target = NULL;
    list_add_head(&a->free, &ib->link);
    a->free_cnt++;
}

static struct ibatch *batch_get(struct accum *a, bool stream)
{
    if (stream && !accum_stream_has_room(a))
        return NULL;
    struct list *n = a->buf_free_cnt > 0 ? list_pop_head(&a->free) : NULL;
    if (n == NULL)
        return NULL;
    struct ibatch *ib = container_of(n, struct ibatch, link);
    a->free_cnt--;
    ib->buf = a->buf_free[--a->buf_free_cnt];
    ib->stream = stream;
    a->stream_cnt += stream;
    a->stream_buf_cnt += stream;
    a->s->counters->shard.ingest_buffers_used = a->buf_cnt - a->buf_free_cnt;
    return ib;
}

int accum_create(struct shard *s, const struct accum_opts *o, struct accum **ret)
{
    struct accum *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return -ENOMEM;
    int rc = -ENOMEM;
    a->s = s;
    a->batch_bytes = o->batch_bytes;
    a->linger_ns = o->linger_ns;
    auto_init(&a->auto_share);
    uint32_t one = BATCH_HEADER_LEN + o->record_bytes_max;
    a->builder_cap = o->batch_bytes > one ? o->batch_bytes : one;
    size_t bound = 0;
    for (int c = 0; c < CODEC_CNT; c++) {
        size_t b = codec_bound((enum codec_id)c, a->builder_cap);
        bound = b > bound ? b : bound;
    }
    a->buf_bytes = (uint32_t)((BATCH_HEADER_LEN + bound + 4095) & ~(size_t)4095);
    uint64_t cnt = o->pool_bytes / a->buf_bytes;
    cnt = cnt < ACCUM_BATCHES_MIN ? ACCUM_BATCHES_MIN : cnt;
    a->buf_cnt = (uint32_t)(cnt > ACCUM_BATCHES_MAX ? ACCUM_BATCHES_MAX : cnt);
    a->batch_cnt = a->buf_cnt * ACCUM_BATCHES_PER_BUFFER;
    a->stream_max = o->shared ? a->batch_cnt / 2 : a->batch_cnt;
    a->stream_buf_max = o->shared ? a->buf_cnt / 4 : a->buf_cnt;
    a->batches = calloc(a->batch_cnt, sizeof(*a->batches));
    a->buf_free = calloc(a->buf_cnt, sizeof(*a->buf_free));
    if (a->batches == NULL || a->buf_free == NULL)
        goto undo_batches;
    /* untouched pages cost nothing: an idle listener keeps only what it used at its busiest */
    a->mem_len = (size_t)a->buf_bytes * (a->buf_cnt + 1);
    a->mem = mmap(NULL, a->mem_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (a->mem == MAP_FAILED) {
        rc = -errno;
        goto undo_batches;
    }
    a->spare = a->mem;
    list_init(&a->free);
    list_init(&a->open);
    for (uint32_t i = a->buf_cnt; i > 0; i--)
        a->buf_free[a->buf_free_cnt++] = (uint8_t *)a->mem + (size_t)i * a->buf_bytes;
    for (uint32_t i = a->batch_cnt; i > 0; i--) {
        a->batches[i - 1].accum = a;
        batch_put(a, &a->batches[i - 1]);
    }
    *ret = a;
    return 0;
undo_batches:
    free(a->buf_free);
    free(a->batches);
    free(a);
    return rc;
}

void accum_destroy(struct accum *a)
{
    if (a == NULL)
        return;
    ASSERT(accum_is_idle(a));
    if (a->s->timers != NULL && timer_is_armed(&a->timer))
        timer_cancel(a->s->timers, &a->timer);
    (void)munmap(a->mem, a->mem_len);
    free(a->buf_free);
    free(a->batches);
    free(a);
}

/* ---- the end of a batch */
static enum event_drop drop_of(int rc)
{
    return rc == -E_UNKNOWN_TOPIC || rc == -E_NOT_OWNER ? EDROP_no_partition : EDROP_store_refused;
}

static void batch_drop(struct ibatch *ib, enum event_drop why)
{
    struct accum *a = ib->accum;
    struct event_stats *e = &a->s->counters->events[ib->listener];
    e->in_flight -= ib->record_cnt;
    e->drop[why] += ib->record_cnt;
    batch_put(a, ib);
}

static void batch_done(struct ibatch *ib, int rc)
{
    if (rc < 0) {
        batch_drop(ib, drop_of(rc));
        return;
    }
    struct accum *a = ib->accum;
    struct counters *c = a->s->counters;
    struct event_stats *e = &c->events[ib->listener];
    e->in_flight -= ib->record_cnt;
    if (ib->dead)
        e->dead_lettered_durable += ib->record_cnt;
    else
        e->durable += ib->record_cnt;
    hist_add(c->shard.ingest_durable_us_log2, 32, (a->s->now_ns - ib->first_ns) / 1000);
    batch_put(a, ib);
}

static void local_done(struct plog_append *ap)
{
    batch_done(container_of(ap, struct ibatch, append), ap->rc);
}

/* On the owner: the batch's memory is ours until the reply. */
static void remote_done(struct plog_append *ap)
{
    struct ibatch *ib = container_of(ap, struct ibatch, append);
    msg_reply(ib->receiver->mbox, &ap->msg, ap->rc);
}

void accum_on_sealed(struct shard *s, struct msg *m)
{
    struct ibatch *ib = container_of(m, struct ibatch, append.msg);
    struct plog *p = plog_set_find(s->plogs, &ib->append.topic_id, ib->append.partition);
    if (p == NULL) {
        msg_reply(s->mbox, m, -E_NOT_OWNER);
        return;
    }
    ib->receiver = s;
    ib->append.done = remote_done;
    plog_append(p, &ib->append);
}

void accum_on_sealed_reply(struct shard *s, struct msg *m)
{
    struct ibatch *ib = container_of(m, struct ibatch, append.msg);
    DASSERT(ib->accum->s == s);
    batch_done(ib, m->rc);
}

/* ---- closing */
static enum codec_id codec_now(struct accum *a, const struct ibatch *ib, const struct target *t)
{
    if (t->codec == CODEC_NONE || !t->is_auto || auto_take(&a->auto_share, a->s->turns))
        return t->codec;
    a->s->counters->events[ib->listener].auto_plain_bytes += ib->b.len;
    return CODEC_NONE;
}

static int batch_finish(struct accum *a, struct ibatch *ib, const struct target *t)
{
    struct seal_opts o = {.codec = codec_now(a, ib, t),
                          .level = t->level,
                          .producer_id = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1};
    struct shard_stats *st = &a->s->counters->shard;
    struct event_stats *e = &a->s->counters->events[ib->listener];
    struct span out;
    uint64_t began = o.codec != CODEC_NONE ? clock_mono_ns() : 0;
    st->ingest_raw_bytes += ib->b.len;
    e->raw_bytes += ib->b.len;
    int rc = batch_seal(&ib->b, a->s->codecs, &o, a->spare, a->buf_bytes, &out);
    if (o.codec != CODEC_NONE)
        e->compress_ns += clock_mono_ns() - began;
    if (rc < 0)
        return rc;
    e->sealed_bytes += out.len;
    if (out.p == a->spare) {
        uint8_t *was = ib->buf;
        ib->buf = a->spare;
        a->spare = was;
    }
    st->ingest_seals++;
    st->ingest_sealed_bytes += out.len;
    ib->append.batch = out;
    return 0;
}

static void batch_submit(struct accum *a, struct ibatch *ib, const struct target *t)
{
    struct plog_append *ap = &ib->append;
    ap->topic_id = t->topic_id;
    ap->partition = t->partition;
    ap->origin = PLOG_INGEST;
    ap->wait_durable = true;
    ap->max_timestamp_ms = ib->b.max_timestamp;
    ap->rc = 0;
    ap->is_copied = false;
    if (t->owner != a->s->id) {
        ap->msg.type = MSG_SEALED;
        ap->done = NULL; /* set by the receiver */
        a->s->counters->shard.ingest_remote++;
        mbox_send(a->s->mbox, t->owner, &ap->msg);
        return;
    }
    struct plog *p = plog_set_find(a->s->plogs, &t->topic_id, t->partition);
    if (p == NULL) {
        batch_drop(ib, EDROP_no_partition);
        return;
    }
    ap->done = local_done; /* on a later turn: ib is ours until then */
    plog_append(p, ap);
    if (ap->is_copied)
        buf_put(a, ib);
}

/* @hot ends: once per batch. */
void accum_close(struct accum *a, struct target *t)
{
    struct ibatch *ib = t->open;
    if (ib == NULL)
        return;
    DASSERT(ib->target == t);
    t->open = NULL;
    ib->target = NULL;
    list_del(&ib->link);
    a->open_cnt--;
    if (batch_finish(a, ib, t) < 0)
        batch_drop(ib, EDROP_seal_failed);
    else
        batch_submit(a, ib, t);
}

void accum_close_all(struct accum *a)
{
    while (!list_is_empty(&a->open))
        accum_close(a, container_of(a->open.next, struct ibatch, link)->target);
}

bool accum_is_behind(const struct accum *a)
{
    return a->batch_cnt - a->free_cnt - a->open_cnt > a->batch_cnt / 2 ||
           a->buf_cnt - a->buf_free_cnt - a->open_cnt > a->buf_cnt * 3 / 8;
}

/* A log that is behind gets full batches. But not for ever: one disk can be behind for long, and
 * the batches of another one, or of streams that wait for these very buffers, do not fill. */
static uint64_t linger_now(const struct accum *a)
{
    return accum_is_behind(a) && a->linger_ns < BEHIND_LINGER_NS ? BEHIND_LINGER_NS : a->linger_ns;
}

/* The timer only makes a turn happen: the poll stage of that turn closes the batch. */
static void linger_over(struct timer *t, uint64_t now_ns)
{
    (void)t;
    (void)now_ns;
}

static void linger_arm(struct accum *a)
{
    if (a->s->timers == NULL || list_is_empty(&a->open))
        return;
    struct ibatch *head = container_of(a->open.next, struct ibatch, link);
    uint64_t due = head->first_ns + linger_now(a);
    if (!timer_is_armed(&a->timer) || a->timer.deadline_ns > due)
        timer_arm(a->s->timers, &a->timer, due, linger_over);
}

uint32_t accum_expire(struct accum *a, uint64_t now_ns, uint32_t budget)
{
    uint32_t n = 0;
    auto_look(&a->auto_share, now_ns, a->s->busy_cycles, a->s->idle_cycles);
    a->s->counters->shard.auto_compression_percent = a->auto_share.share * 100 / AUTO_SHARE_ALL;
    for (; n < budget && !list_is_empty(&a->open); n++) {
        struct ibatch *ib = container_of(a->open.next, struct ibatch, link);
        if (now_ns - ib->first_ns < linger_now(a))
            break;
        accum_close(a, ib->target);
    }
    linger_arm(a);
    return n;
}

/* ---- filling */
static struct ibatch *batch_open(struct accum *a, struct target *t)
{
    struct ibatch *ib = batch_get(a, t->stream);
    if (ib == NULL)
        return NULL;
    ib->target = t;
    ib->listener = t->listener;
    ib->dead = t->dead;
    ib->record_cnt = 0;
    ib->first_ns = a->s->now_ns;
    batch_builder_init(&ib->b, ib->buf, a->builder_cap);
    t->open = ib;
    list_add_tail(&a->open, &ib->link);
    a->open_cnt++;
    linger_arm(a);
    return ib;
}

/* An empty batch that took nothing goes back. */
static void batch_unopen(struct accum *a, struct ibatch *ib)
{
    ib->target->open = NULL;
    list_del(&ib->link);
    a->open_cnt--;
    batch_put(a, ib);
}

/* No free batch: small open ones may be holding them all. Closing the oldest frees one soon. */
__attribute__((noinline, cold)) static int no_batch(struct accum *a)
{
    if (!list_is_empty(&a->open))
        accum_close(a, container_of(a->open.next, struct ibatch, link)->target);
    return -EAGAIN;
}

/* @hot */
int accum_add(struct accum *a, struct target *t, const struct rec *r)
{
    if (t->open != NULL) {
        struct ibatch *ib = t->open;
        if (likely(batch_builder_add(&ib->b, r) == 0)) {
            ib->record_cnt++;
            if (ib->b.len >= a->batch_bytes)
                accum_close(a, t);
            return 0;
        }
        accum_close(a, t); /* full: the record goes into the next one */
    }
    struct ibatch *ib = batch_open(a, t);
    if (unlikely(ib == NULL))
        return no_batch(a);
    if (unlikely(batch_builder_add(&ib->b, r) < 0)) {
        batch_unopen(a, ib);
        return -E_LIMIT;
    }
    ib->record_cnt = 1;
    if (unlikely(ib->b.len >= a->batch_bytes))
        accum_close(a, t);
    return 0;
}

uint32_t accum_free_cnt(const struct accum *a)
{
    return a->free_cnt < a->buf_free_cnt ? a->free_cnt : a->buf_free_cnt;
}

bool accum_has_room(struct accum *a, uint32_t cnt)
{
    cnt = cnt < a->buf_cnt / 2 ? cnt : a->buf_cnt / 2;
    if (likely(accum_free_cnt(a) >= cnt))
        return true;
    /* Many targets with little each hold the buffers: no disk has to be waited for. */
    if (a->open_cnt > a->buf_cnt / 2)
        accum_close(a, container_of(a->open.next, struct ibatch, link)->target);
    return accum_free_cnt(a) >= cnt;
}

void accum_events(struct accum *a, uint32_t n)
{
    auto_events(&a->auto_share, a->s->turns, n);
}

uint64_t accum_free_bytes(const struct accum *a)
{
    return (uint64_t)accum_free_cnt(a) * a->batch_bytes;
}

bool accum_stream_has_room(const struct accum *a)
{
    return accum_free_cnt(a) > 0 && a->stream_cnt < a->stream_max &&
           a->stream_buf_cnt < a->stream_buf_max;
}

bool accum_is_idle(const struct accum *a)
{
    return a->free_cnt == a->batch_cnt;
}
