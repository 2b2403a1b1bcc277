/* accum.c - see accum.h.
 *
 * An open batch has a buffer large enough for the sealed form of a full one, and keeps it until the
 * log has a copy: mostly inside plog_append. So a few buffers serve all batches in turn and stay in
 * the processor's cache, while many batches wait for the disk. A closed batch is sealed by
 * sealer.c, at once or later; those of one partition go to the log in the order in which they were
 * closed, so a sealed batch waits in its lane behind one that is not. Lanes are chosen by
 * partition. Open batches are listed in the order of their first record, so with one linger for all
 * the head is always the next to expire. */
#include "dataplane/ingest/accum.h"
#include "dataplane/counters.h"
#include "dataplane/ingest/sealer.h"
#include "dataplane/store/plog.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/batch/build.h"
#include "lib/batch/layout.h"
#include <sys/mman.h>

#define BEHIND_LINGER_NS UINT64_C(1000000000)
#define LANES 64u

struct ibatch {
    struct plog_append append; /* first: begins with struct msg */
    struct accum *accum;
    struct shard *receiver; /* remote append: set by the partition's owner */
    struct list link;       /* accum.free, accum.open or a lane */
    struct target *target;  /* while OPEN */
    struct batch_builder b;
    struct seal_job seal; /* seal.buf NULL: given back, the log has a copy */
    uint64_t first_ns;    /* time of the first record */
    uint32_t record_cnt;
    uint16_t listener;
    uint16_t owner; /* of the partition, when the batch was closed */
    bool dead, stream, sealed;
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
    struct sealer *sealer;
    struct list lane[LANES];
    struct timer timer; /* wakes the shard for the linger; accum_expire does the work */
    struct ibatch *batches;
    void *mem;
    size_t mem_len;
};

/* ---- the pool */
static void buf_put(struct accum *a, struct ibatch *ib)
{
    if (ib->seal.buf == NULL)
        return;
    a->buf_free[a->buf_free_cnt++] = ib->seal.buf;
    ib->seal.buf = NULL;
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
    ib->seal.buf = a->buf_free[--a->buf_free_cnt];
    ib->stream = stream;
    a->stream_cnt += stream;
    a->stream_buf_cnt += stream;
    a->s->counters->shard.ingest_buffers_used = a->buf_cnt - a->buf_free_cnt;
    return ib;
}

static void seal_done(void *arg, struct seal_job *j);
int accum_create(struct shard *s, const struct accum_opts *o, struct accum **ret)
{
    struct accum *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return -ENOMEM;
    int rc = -ENOMEM;
    a->s = s;
    a->batch_bytes = o->batch_bytes;
    a->linger_ns = o->linger_ns;
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
    a->mem_len = (size_t)a->buf_bytes * a->buf_cnt;
    a->mem = mmap(NULL, a->mem_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (a->mem == MAP_FAILED) {
        rc = -errno;
        goto undo_batches;
    }
    rc = sealer_create(s, a->buf_bytes, seal_done, a, &a->sealer);
    if (rc < 0)
        goto undo_mem;
    list_init(&a->free);
    list_init(&a->open);
    for (uint32_t i = 0; i < LANES; i++)
        list_init(&a->lane[i]);
    for (uint32_t i = a->buf_cnt; i > 0; i--)
        a->buf_free[a->buf_free_cnt++] = (uint8_t *)a->mem + (size_t)(i - 1) * a->buf_bytes;
    for (uint32_t i = a->batch_cnt; i > 0; i--) {
        a->batches[i - 1].accum = a;
        batch_put(a, &a->batches[i - 1]);
    }
    *ret = a;
    return 0;
undo_mem:
    (void)munmap(a->mem, a->mem_len);
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
    sealer_destroy(a->sealer);
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
static void batch_submit(struct accum *a, struct ibatch *ib)
{
    struct plog_append *ap = &ib->append;
    ap->origin = PLOG_INGEST;
    ap->wait_durable = true;
    ap->max_timestamp_ms = ib->b.max_timestamp;
    ap->rc = 0;
    ap->is_copied = false;
    if (ib->owner != a->s->id) {
        ap->msg.type = MSG_SEALED;
        ap->done = NULL; /* set by the receiver */
        a->s->counters->shard.ingest_remote++;
        mbox_send(a->s->mbox, ib->owner, &ap->msg);
        return;
    }
    struct plog *p = plog_set_find(a->s->plogs, &ap->topic_id, ap->partition);
    if (p == NULL) {
        batch_drop(ib, EDROP_no_partition);
        return;
    }
    ap->done = local_done; /* on a later turn: ib is ours until then */
    plog_append(p, ap);
    if (ap->is_copied)
        buf_put(a, ib);
}

/* Sealed, and first in its lane. */
static void batch_sealed(struct accum *a, struct ibatch *ib)
{
    struct shard_stats *st = &a->s->counters->shard;
    struct event_stats *e = &a->s->counters->events[ib->listener];
    e->compress_ns += ib->seal.ns;
    if (ib->seal.starved)
        e->auto_plain_bytes += ib->b.len;
    if (ib->seal.rc < 0) {
        batch_drop(ib, EDROP_seal_failed);
        return;
    }
    st->ingest_seals++;
    st->ingest_sealed_bytes += ib->seal.out.len;
    e->sealed_bytes += ib->seal.out.len;
    ib->append.batch = ib->seal.out;
    batch_submit(a, ib);
}

static struct list *lane_of(struct accum *a, const struct ibatch *ib)
{
    const uint8_t *id = ib->append.topic_id.b;
    return &a->lane[(id[0] + id[15] + (uint32_t)ib->append.partition) % LANES];
}

/* On a later turn: what waited behind this batch goes with it. */
static void seal_done(void *arg, struct seal_job *j)
{
    struct accum *a = arg;
    struct ibatch *ib = container_of(j, struct ibatch, seal);
    struct list *lane = lane_of(a, ib);
    ib->sealed = true;
    while (!list_is_empty(lane)) {
        struct ibatch *head = container_of(lane->next, struct ibatch, link);
        if (!head->sealed)
            break;
        list_del(&head->link);
        batch_sealed(a, head);
    }
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
    ib->append.topic_id = t->topic_id;
    ib->append.partition = t->partition;
    ib->owner = t->owner;
    ib->seal.opts = (struct seal_opts){.codec = t->codec,
                                       .level = t->level,
                                       .producer_id = -1,
                                       .producer_epoch = -1,
                                       .base_sequence = -1};
    ib->seal.is_auto = t->is_auto;
    a->s->counters->shard.ingest_raw_bytes += ib->b.len;
    a->s->counters->events[ib->listener].raw_bytes += ib->b.len;
    struct list *lane = lane_of(a, ib);
    ib->sealed = sealer_seal(a->sealer, &ib->seal);
    if (likely(ib->sealed && list_is_empty(lane)))
        batch_sealed(a, ib);
    else
        list_add_tail(lane, &ib->link);
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
    uint32_t n = sealer_poll(a->sealer);
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
    ib->seal.b = &ib->b;
    batch_builder_init(&ib->b, ib->seal.buf, a->builder_cap);
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
    sealer_events(a->sealer, n);
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
    return a->free_cnt == a->batch_cnt && sealer_is_idle(a->sealer);
}

bool accum_has_work(const struct accum *a)
{
    return sealer_has_work(a->sealer);
}

void accum_on_seal(struct accum *a, struct msg *m)
{
    sealer_on_seal(a->sealer, m);
}

void accum_on_seal_reply(struct accum *a, struct msg *m)
{
    sealer_on_seal_reply(a->sealer, m);
}
