/* fake_plog.c - see fake_plog.h. */
#include "tests/support/fake_plog.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

enum kind { K_APPEND, K_READ, K_WAIT, K_LIST };
struct fake_answer {
    struct list link;
    enum kind kind;
    void *what;
    struct plog *flush; /* not before this log's durable passes `upto` */
    int64_t upto;
};

/* All queues there are, so that a cancelled wait can be found in one. */
static struct list *queues[FAKE_PLOGS_MAX];
static uint32_t queue_cnt;

struct plog_set *fake_plogs_create(void)
{
    struct plog_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        abort();
    list_init(&set->queue);
    if (queue_cnt == FAKE_PLOGS_MAX)
        abort();
    queues[queue_cnt++] = &set->queue;
    return set;
}

void fake_plogs_destroy(struct plog_set *set)
{
    struct list *n;
    for (uint32_t i = 0; i < queue_cnt; i++)
        if (queues[i] == &set->queue)
            queues[i--] = queues[--queue_cnt];
    while ((n = list_pop_head(&set->queue)) != NULL)
        free(container_of(n, struct fake_answer, link));
    for (uint32_t i = 0; i < set->cnt; i++) {
        for (uint32_t j = 0; j < set->p[i]->batch_cnt; j++)
            free(set->p[i]->batch[j].bytes);
        free(set->p[i]);
    }
    free(set);
}

struct plog *fake_plog_add(struct plog_set *set, const struct uuid *topic_id, int32_t partition)
{
    struct plog *p = calloc(1, sizeof(*p));
    if (p == NULL || set->cnt == FAKE_PLOGS_MAX)
        abort();
    p->set = set;
    p->topic_id = *topic_id;
    p->partition = partition;
    list_init(&p->waits);
    set->p[set->cnt++] = p;
    return p;
}

int plog_set_absent_rc(const struct plog_set *set)
{
    (void)set;
    return -E_UNKNOWN_TOPIC;
}

struct plog *plog_set_find(struct plog_set *set, const struct uuid *topic_id, int32_t partition)
{
    for (uint32_t i = 0; i < set->cnt; i++)
        if (set->p[i]->partition == partition && uuid_eq(&set->p[i]->topic_id, topic_id))
            return set->p[i];
    return NULL;
}

static void later(struct plog *p, enum kind kind, void *what, struct plog *flush, int64_t upto)
{
    struct fake_answer *a = calloc(1, sizeof(*a));
    if (a == NULL)
        abort();
    *a = (struct fake_answer){.kind = kind, .what = what, .flush = flush, .upto = upto};
    if (p->set->reverse)
        list_add_head(&p->set->queue, &a->link);
    else
        list_add_tail(&p->set->queue, &a->link);
}

static uint64_t bytes_from(const struct plog *p, int64_t offset)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->batch_cnt; i++)
        if (p->batch[i].last >= offset && p->batch[i].last < p->durable)
            n += p->batch[i].len;
    return n;
}

static void waits_fire(struct plog *p)
{
    list_for_each_safe(n, tmp, &p->waits)
    {
        struct plog_wait *w = container_of(n, struct plog_wait, link);
        uint64_t have = bytes_from(p, w->offset);
        if (have > 0 && have >= w->min_bytes && w->min_bytes != PLOG_WAIT_GONE) {
            list_del(n);
            later(p, K_WAIT, w, NULL, 0);
        }
    }
}

static int64_t store_batch(struct plog *p, struct span bytes)
{
    if (p->batch_cnt == FAKE_BATCHES_MAX)
        abort();
    struct fake_batch *b = &p->batch[p->batch_cnt++];
    b->bytes = malloc(bytes.len);
    if (b->bytes == NULL)
        abort();
    memcpy(b->bytes, bytes.p, bytes.len);
    b->len = bytes.len;
    b->base = p->next;
    b->last = b->base + batch_last_offset_delta(b->bytes);
    store_be64(b->bytes + BATCH_BASE_OFFSET, (uint64_t)b->base);
    store_be32(b->bytes + BATCH_LEADER_EPOCH, (uint32_t)p->leader_epoch);
    p->next = b->last + 1;
    return b->base;
}

void fake_plog_put(struct plog *p, struct span batch)
{
    (void)store_batch(p, batch);
    fake_plog_flush(p);
}

void fake_plog_flush(struct plog *p)
{
    p->durable = p->next;
    waits_fire(p);
}

void plog_append(struct plog *p, struct plog_append *a)
{
    p->appends++;
    a->rc = p->append_rc;
    a->base_offset = a->log_append_time_ms = a->log_start_offset = -1;
    if (a->rc == 0) {
        a->base_offset = store_batch(p, a->batch);
        a->log_start_offset = p->log_start;
        if (!p->hold_flush)
            fake_plog_flush(p);
    }
    bool wait = a->rc == 0 && a->wait_durable;
    later(p, K_APPEND, a, wait ? p : NULL, p->next);
}

void plog_read(struct plog *p, struct plog_read *r)
{
    p->reads++;
    r->rc = p->read_rc;
    r->len = r->need = 0;
    r->high_watermark = r->last_stable_offset = p->durable;
    r->log_start_offset = p->log_start;
    r->diverging_epoch = -1;
    if (r->rc == 0 && r->current_leader_epoch >= 0 && r->current_leader_epoch != p->leader_epoch)
        r->rc = r->current_leader_epoch < p->leader_epoch ? -E_FENCED_LEADER_EPOCH
                                                          : -E_UNKNOWN_LEADER_EPOCH;
    if (r->rc == 0 && (r->offset < p->log_start || r->offset > p->next))
        r->rc = -E_OFFSET_OUT_OF_RANGE;
    for (uint32_t i = 0; r->rc == 0 && i < p->batch_cnt; i++) {
        const struct fake_batch *b = &p->batch[i];
        if (b->last < r->offset || b->last >= p->durable)
            continue;
        bool first = r->len == 0;
        if (r->len + b->len > r->max_bytes && !(first && r->min_one_batch))
            break;
        if (r->len + b->len > r->dst_cap) {
            if (first) {
                r->rc = -E_DST_SMALL;
                r->need = b->len;
            }
            break;
        }
        memcpy(r->dst + r->len, b->bytes, b->len);
        r->len += b->len;
    }
    later(p, K_READ, r, NULL, 0);
}

void plog_wait(struct plog *p, struct plog_wait *w)
{
    list_add_tail(&p->waits, &w->link);
    waits_fire(p);
}

static bool is_wait(const struct fake_answer *a, const struct plog_wait *w)
{
    return a->kind == K_WAIT && a->what == w;
}

/* As the store does it: the registration is gone, done() does not run any more. */
void plog_wait_cancel(struct plog_wait *w)
{
    if (list_is_linked(&w->link)) {
        list_del(&w->link);
        return;
    }
    for (uint32_t i = 0; i < queue_cnt; i++)
        list_for_each_safe(n, tmp, queues[i])
        {
            struct fake_answer *a = container_of(n, struct fake_answer, link);
            if (is_wait(a, w)) {
                list_del(n);
                free(a);
            }
        }
}

void plog_list_offsets(struct plog *p, struct plog_list_offsets *q)
{
    q->rc = 0;
    q->leader_epoch = p->leader_epoch;
    q->ret_timestamp = -1;
    q->offset = q->timestamp == -1 ? p->durable : q->timestamp == -2 ? p->log_start : -1;
    if (q->timestamp == -3 || q->timestamp >= 0) {
        for (uint32_t i = 0; i < p->batch_cnt && q->offset < 0; i++) {
            int64_t ts = batch_max_timestamp(p->batch[i].bytes);
            if (q->timestamp == -3 || ts >= q->timestamp) {
                q->offset = p->batch[i].base;
                q->ret_timestamp = ts;
            }
        }
    }
    later(p, K_LIST, q, NULL, 0);
}

static void give(struct fake_answer *a)
{
    switch (a->kind) {
    case K_APPEND: {
        struct plog_append *x = a->what;
        x->done(x);
        break;
    }
    case K_READ: {
        struct plog_read *x = a->what;
        x->done(x);
        break;
    }
    case K_WAIT: {
        struct plog_wait *x = a->what;
        x->done(x);
        break;
    }
    case K_LIST: {
        struct plog_list_offsets *x = a->what;
        x->done(x);
        break;
    }
    }
}

uint32_t fake_plog_run(struct plog_set *set)
{
    uint32_t n = 0;
    struct list due;
    if (set->hold)
        return 0;
    list_init(&due);
    list_splice_tail(&due, &set->queue);
    list_for_each_safe(l, tmp, &due)
    {
        struct fake_answer *a = container_of(l, struct fake_answer, link);
        list_del(l);
        if (a->flush != NULL && a->flush->durable < a->upto) {
            list_add_tail(&set->queue, &a->link);
            continue;
        }
        give(a);
        free(a);
        n++;
    }
    return n;
}

void plog_offsets_get(const struct plog *p, struct plog_offsets *ret)
{
    *ret = (struct plog_offsets){.log_start = p->log_start,
                                 .durable = p->durable,
                                 .stable = p->durable,
                                 .next = p->next,
                                 .size_bytes = bytes_from(p, 0),
                                 .leader_epoch = p->leader_epoch};
}

uint32_t plog_set_poll(struct plog_set *set, uint32_t budget)
{
    (void)budget;
    return fake_plog_run(set);
}

uint32_t fake_plog_waits(const struct plog *p)
{
    uint32_t n = 0;
    list_for_each(l, &p->waits) n++;
    return n;
}

void plog_epoch_end_offset(const struct plog *p, int32_t epoch, int32_t *ret_epoch,
                           int64_t *ret_end_offset)
{
    *ret_epoch = epoch == p->leader_epoch ? epoch : -1;
    *ret_end_offset = epoch == p->leader_epoch ? p->durable : -1;
}

int plog_set_log_start(struct plog *p, int64_t offset)
{
    if (offset > p->durable || offset < 0)
        return -E_OFFSET_OUT_OF_RANGE;
    if (offset > p->log_start)
        p->log_start = offset;
    return 0;
}

bool plog_is_writable(const struct plog *p)
{
    return !p->read_only;
}

/* The n-th producer has id 1000 + n. */
uint32_t plog_producers(const struct plog *p, struct producer_view *v, uint32_t cap)
{
    for (uint32_t i = 0; i < p->producer_cnt && i < cap; i++)
        v[i] = (struct producer_view){.producer_id = 1000 + i,
                                      .producer_epoch = 3,
                                      .last_sequence = 41,
                                      .last_timestamp_ms = 77,
                                      .coordinator_epoch = -1,
                                      .txn_first_offset = -1};
    return p->producer_cnt;
}

uint32_t plog_set_dir_cnt(const struct plog_set *set)
{
    (void)set;
    return 2;
}

struct plog_dir plog_set_dir(const struct plog_set *set, uint32_t idx)
{
    (void)set;
    return (struct plog_dir){.path = idx == 0 ? "/a" : "/b", .total_bytes = 1000, .free_bytes = 10};
}

uint32_t plog_dir_idx(const struct plog *p)
{
    return (uint32_t)p->partition % 2;
}
