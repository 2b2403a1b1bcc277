/* producer.c - see producer.h. Sequences count records and wrap from 2^31-1 to 0. */
#include "dataplane/store/producer.h"
#include "accel/crc32c.h"
#include "dataplane/store/format.h"
#include "dataplane/store/plog.h"
#include "lib/base/span.h"
#include "lib/batch/layout.h"
#include <stdlib.h>
#include <string.h>

struct producer_batch {
    int32_t base_seq, last_seq;
    int64_t last_offset;
    int32_t offset_delta;
    int64_t timestamp_ms;
};
struct producer {
    int64_t id;
    int16_t epoch;
    uint8_t batch_cnt, batch_first; /* ring */
    int32_t coordinator_epoch;
    int64_t txn_first_offset; /* -1: none open */
    int64_t last_ms;
    struct producer_batch batch[PRODUCER_BATCHES];
};

static int32_t seq_add(int32_t seq, int32_t n)
{
    return (int32_t)(((int64_t)seq + n) & INT32_MAX);
}

static uint32_t slot_of(const struct producers *t, int64_t id)
{
    uint64_t x = (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(x >> 32) & (t->cap - 1);
}

static struct producer **slot_find(const struct producers *t, int64_t id)
{
    if (t->cap == 0)
        return NULL;
    uint32_t i = slot_of(t, id);
    while (t->slots[i] != NULL && t->slots[i]->id != id)
        i = (i + 1) & (t->cap - 1);
    return &t->slots[i];
}

static struct producer *producer_find(const struct producers *t, int64_t id)
{
    struct producer **s = slot_find(t, id);
    return s ? *s : NULL;
}

void producers_fini(struct producers *t)
{
    for (uint32_t i = 0; i < t->cap; i++)
        free(t->slots[i]);
    free(t->slots);
    free(t->open);
    free(t->ended);
    *t = (struct producers){0};
}

/* ------------------------------------------------------------- transactions */

static int room(void **v, uint32_t cnt, uint32_t *cap, size_t size)
{
    if (cnt < *cap)
        return 0;
    uint32_t more = *cap == 0 ? 4 : *cap * 2;
    void *a = realloc(*v, more * size);
    if (a == NULL)
        return -ENOMEM;
    *v = a;
    *cap = more;
    return 0;
}

static int txn_room(struct producers *t)
{
    void *open = t->open, *ended = t->ended;
    int rc = room(&open, t->open_cnt, &t->open_cap, sizeof(*t->open));
    t->open = open;
    if (rc == 0)
        rc = room(&ended, t->ended_cnt, &t->ended_cap, sizeof(*t->ended));
    t->ended = ended;
    return rc;
}

/* Also out of order, as a snapshot has them. Room was made. */
static void txn_open(struct producers *t, int64_t producer_id, int64_t first_offset)
{
    uint32_t i = t->open_cnt++;
    for (; i > 0 && t->open[i - 1].first_offset > first_offset; i--)
        t->open[i] = t->open[i - 1];
    t->open[i] = (struct open_txn){producer_id, first_offset};
}

static void txn_end(struct producers *t, int64_t first_offset, int64_t marker_offset)
{
    uint32_t i = 0;
    while (t->open[i].first_offset != first_offset)
        i++;
    t->open_cnt--;
    memmove(&t->open[i], &t->open[i + 1], (t->open_cnt - i) * sizeof(*t->open));
    t->ended[t->ended_cnt++] = (struct ended_txn){first_offset, marker_offset};
}

int64_t producers_stable(struct producers *t, int64_t durable)
{
    uint32_t n = 0;
    while (n < t->ended_cnt && t->ended[n].marker_offset < durable)
        n++;
    if (n > 0) {
        t->ended_cnt -= n;
        memmove(t->ended, t->ended + n, t->ended_cnt * sizeof(*t->ended));
    }
    int64_t stable = durable;
    if (t->open_cnt > 0 && t->open[0].first_offset < stable)
        stable = t->open[0].first_offset;
    for (uint32_t i = 0; i < t->ended_cnt; i++)
        if (t->ended[i].first_offset < stable)
            stable = t->ended[i].first_offset;
    return stable;
}

static int table_grow(struct producers *t)
{
    uint32_t cap = t->cap ? t->cap * 2 : 8;
    struct producer **slots = calloc(cap, sizeof(struct producer *));
    if (slots == NULL)
        return -ENOMEM;
    struct producers next = {.slots = slots, .cap = cap};
    for (uint32_t i = 0; i < t->cap; i++)
        if (t->slots[i] != NULL)
            *slot_find(&next, t->slots[i]->id) = t->slots[i];
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return 0;
}

/* Empty one slot and close the gap in its probe run. */
static void slot_remove(struct producers *t, uint32_t i)
{
    free(t->slots[i]);
    t->slots[i] = NULL;
    t->cnt--;
    for (uint32_t j = (i + 1) & (t->cap - 1); t->slots[j] != NULL; j = (j + 1) & (t->cap - 1)) {
        struct producer *p = t->slots[j];
        t->slots[j] = NULL;
        *slot_find(t, p->id) = p;
    }
}

static bool evict_oldest(struct producers *t)
{
    uint32_t victim = UINT32_MAX;
    for (uint32_t i = 0; i < t->cap; i++) {
        if (t->slots[i] == NULL || t->slots[i]->txn_first_offset >= 0)
            continue;
        if (victim == UINT32_MAX || t->slots[i]->last_ms < t->slots[victim]->last_ms)
            victim = i;
    }
    if (victim != UINT32_MAX)
        slot_remove(t, victim);
    return victim != UINT32_MAX;
}

int producers_reserve(struct producers *t, int64_t producer_id)
{
    if (producer_id < 0)
        return 0;
    int rc = txn_room(t);
    if (rc < 0 || producer_find(t, producer_id) != NULL)
        return rc;
    if (t->cnt >= PRODUCERS_MAX && !evict_oldest(t))
        return -E_LIMIT;
    if ((t->cnt + 1) * 4 > t->cap * 3) {
        rc = table_grow(t);
        if (rc < 0)
            return rc;
    }
    struct producer *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    *p = (struct producer){
        .id = producer_id, .epoch = -1, .coordinator_epoch = -1, .txn_first_offset = -1};
    *slot_find(t, producer_id) = p;
    t->cnt++;
    return 0;
}

static const struct producer_batch *batch_at(const struct producer *p, uint32_t i)
{
    return &p->batch[(p->batch_first + i) % PRODUCER_BATCHES];
}

int producers_check(const struct producers *t, const struct batch_info *b, bool txn_v2,
                    struct producer_dup *ret)
{
    if (b->producer_id < 0)
        return 0;
    const struct producer *p = producer_find(t, b->producer_id);
    if (p == NULL || p->epoch < 0) /* unknown: any sequence (its state expired) */
        return txn_v2 && b->base_sequence > 0 ? -E_OUT_OF_ORDER_SEQUENCE : 0;
    if (b->base_sequence < 0)
        return b->producer_epoch < p->epoch ? -E_INVALID_PRODUCER_EPOCH : 0;
    int32_t last_seq = seq_add(b->base_sequence, b->last_offset_delta);
    if (b->producer_epoch == p->epoch) {
        for (uint32_t i = 0; i < p->batch_cnt; i++) {
            const struct producer_batch *k = batch_at(p, i);
            if (k->base_seq == b->base_sequence && k->last_seq == last_seq) {
                *ret = (struct producer_dup){k->last_offset - k->offset_delta, k->last_offset,
                                             k->timestamp_ms};
                return 1;
            }
        }
    }
    if (b->producer_epoch < p->epoch)
        return -E_INVALID_PRODUCER_EPOCH;
    if (b->producer_epoch > p->epoch)
        return b->base_sequence == 0 ? 0 : -E_OUT_OF_ORDER_SEQUENCE;
    int32_t next = p->batch_cnt > 0 ? seq_add(batch_at(p, p->batch_cnt - 1u)->last_seq, 1) : 0;
    if (b->base_sequence != next)
        return -E_OUT_OF_ORDER_SEQUENCE;
    bool amid = p->txn_first_offset >= 0 && (b->attributes & BATCH_ATTR_TRANSACTIONAL) == 0;
    return amid ? -E_INVALID_TXN_STATE : 0;
}

int producers_check_marker(const struct producers *t, const struct batch_marker *m, bool txn_v2)
{
    const struct producer *p = producer_find(t, m->producer_id);
    if (p == NULL)
        return 0;
    bool same = txn_v2 && m->producer_epoch == p->epoch && p->txn_first_offset >= 0;
    if (m->producer_epoch < p->epoch || same)
        return -E_INVALID_PRODUCER_EPOCH;
    return m->coordinator_epoch < p->coordinator_epoch ? -E_COORDINATOR_FENCED : 0;
}

int producers_update(struct producers *t, const struct batch_info *b,
                     const struct batch_marker *marker, int64_t timestamp_ms,
                     struct aborted_txn *ret)
{
    bool control = (b->attributes & BATCH_ATTR_CONTROL) != 0;
    if (b->producer_id < 0 || (control && marker == NULL))
        return 0;
    int rc = producers_reserve(t, b->producer_id);
    if (rc < 0)
        return rc;
    struct producer *p = producer_find(t, b->producer_id);
    int64_t last_offset = b->base_offset + b->last_offset_delta;
    p->last_ms = timestamp_ms;
    if (b->producer_epoch != p->epoch) {
        p->epoch = b->producer_epoch;
        p->batch_cnt = 0;
    }
    if (control) { /* a marker ends the transaction, has no sequence */
        int64_t first = p->txn_first_offset;
        p->coordinator_epoch = marker->coordinator_epoch;
        p->txn_first_offset = -1;
        if (first < 0)
            return 0;
        txn_end(t, first, b->base_offset);
        *ret = (struct aborted_txn){.producer_id = p->id,
                                    .first_offset = first,
                                    .last_offset = b->base_offset,
                                    .stable_offset = t->open_cnt > 0 ? t->open[0].first_offset
                                                                     : b->base_offset + 1};
        return 1;
    }
    if ((b->attributes & BATCH_ATTR_TRANSACTIONAL) && p->txn_first_offset < 0) {
        p->txn_first_offset = b->base_offset;
        txn_open(t, p->id, b->base_offset);
    }
    if (b->base_sequence < 0)
        return 0;
    if (p->batch_cnt == PRODUCER_BATCHES) {
        p->batch_first = (uint8_t)((p->batch_first + 1u) % PRODUCER_BATCHES);
        p->batch_cnt--;
    }
    p->batch[(p->batch_first + p->batch_cnt) % PRODUCER_BATCHES] = (struct producer_batch){
        .base_seq = b->base_sequence,
        .last_seq = seq_add(b->base_sequence, b->last_offset_delta),
        .last_offset = last_offset,
        .offset_delta = b->last_offset_delta,
        .timestamp_ms = timestamp_ms,
    };
    p->batch_cnt++;
    return 0;
}

uint32_t producers_expire(struct producers *t, int64_t now_ms)
{
    uint32_t dropped = 0;
    for (uint32_t i = 0; i < t->cap;) {
        struct producer *p = t->slots[i];
        bool expired =
            p != NULL && p->txn_first_offset < 0 && p->last_ms < now_ms - PRODUCER_EXPIRE_MS;
        if (expired) {
            slot_remove(t, i); /* the gap closes with another entry: look at i again */
            dropped++;
        } else {
            i++;
        }
    }
    return dropped;
}

uint32_t producers_list(const struct producers *t, struct producer_view *v, uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->cap; i++) {
        const struct producer *p = t->slots[i];
        if (p == NULL)
            continue;
        if (n < cap)
            v[n] = (struct producer_view){
                .producer_id = p->id,
                .producer_epoch = p->epoch,
                .last_sequence = p->batch_cnt > 0 ? batch_at(p, p->batch_cnt - 1u)->last_seq : -1,
                .last_timestamp_ms = p->last_ms,
                .coordinator_epoch = p->coordinator_epoch,
                .txn_first_offset = p->txn_first_offset};
        n++;
    }
    return n;
}

static int by_producer_id(const void *a, const void *b)
{
    int64_t x = ((const struct last_record *)a)->producer_id;
    int64_t y = ((const struct last_record *)b)->producer_id;
    return (x > y) - (x < y);
}

int producers_last(const struct producers *t, int64_t durable, struct last_record *v)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->cap; i++) {
        const struct producer *p = t->slots[i];
        if (p == NULL || p->epoch < 0)
            continue;
        uint32_t k = p->batch_cnt;
        while (k > 0 && batch_at(p, k - 1)->last_offset >= durable)
            k--;
        if (k == 0 && p->batch_cnt == PRODUCER_BATCHES)
            return -E_BUSY;
        v[n++] = (struct last_record){.producer_id = p->id,
                                      .data_offset = k > 0 ? batch_at(p, k - 1)->last_offset : -1,
                                      .epoch = p->epoch};
    }
    if (n > 0)
        qsort(v, n, sizeof(*v), by_producer_id);
    return (int)n;
}

int producers_encode(const struct producers *t, uint8_t **ret, size_t *ret_len)
{
    uint8_t *p = malloc(SNAP_HEADER_LEN + (size_t)t->cnt * SNAP_ENTRY_LEN);
    if (p == NULL)
        return -ENOMEM;
    uint8_t *e = p + SNAP_HEADER_LEN;
    uint32_t cnt = 0;
    for (uint32_t i = 0; i < t->cap; i++) {
        const struct producer *s = t->slots[i];
        if (s == NULL || s->epoch < 0)
            continue;
        struct producer_batch last = {-1, -1, -1, 0, s->last_ms};
        if (s->batch_cnt > 0)
            last = *batch_at(s, s->batch_cnt - 1u);
        store_be64(e, (uint64_t)s->id);
        store_be16(e + 8, (uint16_t)s->epoch);
        store_be32(e + 10, (uint32_t)last.last_seq);
        store_be64(e + 14, (uint64_t)last.last_offset);
        store_be32(e + 22, (uint32_t)last.offset_delta);
        store_be64(e + 26, (uint64_t)s->last_ms);
        store_be32(e + 34, (uint32_t)s->coordinator_epoch);
        store_be64(e + 38, (uint64_t)s->txn_first_offset);
        e += SNAP_ENTRY_LEN;
        cnt++;
    }
    store_be16(p, SNAP_VERSION);
    store_be32(p + SNAP_COUNT_POS, cnt);
    *ret_len = (size_t)(e - p);
    store_be32(p + SNAP_CRC_POS, crc32c(0, p + SNAP_CRC_FROM, *ret_len - SNAP_CRC_FROM));
    *ret = p;
    return 0;
}

static int entry_decode(struct producers *t, const uint8_t *e)
{
    int64_t id = (int64_t)load_be64(e);
    int16_t epoch = (int16_t)load_be16(e + 8);
    if (id < 0 || epoch < 0 || producer_find(t, id) != NULL)
        return -E_MALFORMED;
    int rc = producers_reserve(t, id);
    if (rc < 0)
        return rc;
    struct producer *p = producer_find(t, id);
    p->epoch = epoch;
    p->last_ms = (int64_t)load_be64(e + 26);
    p->coordinator_epoch = (int32_t)load_be32(e + 34);
    p->txn_first_offset = (int64_t)load_be64(e + 38);
    struct producer_batch b = {.last_seq = (int32_t)load_be32(e + 10),
                               .last_offset = (int64_t)load_be64(e + 14),
                               .offset_delta = (int32_t)load_be32(e + 22),
                               .timestamp_ms = p->last_ms};
    if (p->txn_first_offset >= 0)
        txn_open(t, id, p->txn_first_offset);
    if (b.last_seq < 0)
        return 0; /* only markers seen */
    if (b.offset_delta < 0 || b.last_offset < b.offset_delta)
        return -E_MALFORMED;
    b.base_seq = (int32_t)(((int64_t)b.last_seq - b.offset_delta) & INT32_MAX);
    p->batch[0] = b;
    p->batch_cnt = 1;
    return 0;
}

int producers_decode(struct producers *t, const uint8_t *p, size_t len)
{
    producers_fini(t);
    if (len < SNAP_HEADER_LEN || load_be16(p) != SNAP_VERSION)
        return -E_MALFORMED;
    uint32_t cnt = load_be32(p + SNAP_COUNT_POS);
    if (cnt > PRODUCERS_MAX || len != SNAP_HEADER_LEN + (size_t)cnt * SNAP_ENTRY_LEN)
        return -E_MALFORMED;
    if (load_be32(p + SNAP_CRC_POS) != crc32c(0, p + SNAP_CRC_FROM, len - SNAP_CRC_FROM))
        return -E_CORRUPT_BATCH;
    for (uint32_t i = 0; i < cnt; i++) {
        int rc = entry_decode(t, p + SNAP_HEADER_LEN + (size_t)i * SNAP_ENTRY_LEN);
        if (rc < 0) {
            producers_fini(t);
            return rc;
        }
    }
    return 0;
}
