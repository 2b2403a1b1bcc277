/* rewrite.c - see rewrite.h. */
#include "dataplane/store/rewrite.h"
#include "lib/base/varint.h"
#include "lib/batch/control.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include "lib/batch/seal.h"
#include <stdlib.h>
#include <string.h>

#define PLAIN_MIN (1u << 20)
#define RECORD_GROWTH (VARINT_MAX + VARLONG_MAX) /* of a record whose timestamp is stored anew */

/* -------------------------------------------------------------------------------- transactions */

static int by_first_offset(const void *a, const void *b)
{
    int64_t x = ((const struct aborted_txn *)a)->first_offset;
    int64_t y = ((const struct aborted_txn *)b)->first_offset;
    return (x > y) - (x < y);
}

int txn_filter_init(struct txn_filter *f, const struct aborted_txns *txns)
{
    *f = (struct txn_filter){0};
    if (txns == NULL || txns->cnt == 0)
        return 0;
    f->todo = malloc(txns->cnt * sizeof(*f->todo));
    if (f->todo == NULL)
        return -ENOMEM;
    memcpy(f->todo, txns->v, txns->cnt * sizeof(*f->todo));
    f->todo_cnt = txns->cnt;
    qsort(f->todo, f->todo_cnt, sizeof(*f->todo), by_first_offset);
    return 0;
}

void txn_filter_fini(struct txn_filter *f)
{
    free(f->todo);
    free(f->aborted);
    free(f->committed);
    aborted_fini(&f->kept);
    *f = (struct txn_filter){0};
}

static int room(void **v, uint32_t cnt, uint32_t *cap, size_t size)
{
    if (cnt < *cap)
        return 0;
    uint32_t more = *cap == 0 ? 16 : *cap * 2;
    void *a = realloc(*v, more * size);
    if (a == NULL)
        return -ENOMEM;
    *v = a;
    *cap = more;
    return 0;
}

static struct txn_going *aborted_of(struct txn_filter *f, int64_t producer_id)
{
    for (uint32_t i = 0; i < f->aborted_cnt; i++)
        if (f->aborted[i].t.producer_id == producer_id)
            return &f->aborted[i];
    return NULL;
}

/* Transactions whose marker should have come before `offset`, and did not: it was lost. */
static int end_below(struct txn_filter *f, int64_t offset)
{
    for (;;) {
        struct txn_going *first = NULL; /* `kept` is in the order of the markers */
        for (uint32_t i = 0; i < f->aborted_cnt; i++)
            if (f->aborted[i].t.last_offset < offset &&
                (first == NULL || f->aborted[i].t.last_offset < first->t.last_offset))
                first = &f->aborted[i];
        if (first == NULL)
            return 0;
        struct txn_going g = *first;
        *first = f->aborted[--f->aborted_cnt];
        int rc = g.seen ? aborted_add(&f->kept, &g.t) : 0;
        if (rc < 0)
            return rc;
    }
}

static int begin_up_to(struct txn_filter *f, int64_t offset)
{
    for (; f->todo_at < f->todo_cnt && f->todo[f->todo_at].first_offset <= offset; f->todo_at++) {
        const struct aborted_txn *t = &f->todo[f->todo_at];
        if (aborted_of(f, t->producer_id) != NULL)
            continue;
        void *a = f->aborted;
        int rc = room(&a, f->aborted_cnt, &f->aborted_cap, sizeof(*f->aborted));
        f->aborted = a;
        if (rc < 0)
            return rc;
        f->aborted[f->aborted_cnt++] = (struct txn_going){.t = *t};
    }
    return 0;
}

static uint32_t committed_idx(const struct txn_filter *f, int64_t producer_id)
{
    uint32_t i = 0;
    while (i < f->committed_cnt && f->committed[i] != producer_id)
        i++;
    return i;
}

static int on_data(struct txn_filter *f, const struct batch_info *b)
{
    if ((b->attributes & BATCH_ATTR_TRANSACTIONAL) == 0)
        return 0;
    struct txn_going *g = aborted_of(f, b->producer_id);
    if (g != NULL) {
        g->seen = true;
        return 1;
    }
    if (committed_idx(f, b->producer_id) < f->committed_cnt)
        return 0;
    void *c = f->committed;
    int rc = room(&c, f->committed_cnt, &f->committed_cap, sizeof(*f->committed));
    f->committed = c;
    if (rc == 0)
        f->committed[f->committed_cnt++] = b->producer_id;
    return rc;
}

static int on_marker(struct txn_filter *f, const uint8_t *bytes, const struct batch_info *b)
{
    struct batch_marker m;
    if (batch_is_lost(bytes))
        return 0; /* says what was lost, for as long as the log has the place */
    if (b->record_cnt == 0)
        return 1; /* was emptied before */
    if (marker_read(bytes, b->total_len, &m) < 0)
        return 0; /* of a kind that is not ours to judge */
    if (m.commit) {
        uint32_t i = committed_idx(f, b->producer_id);
        if (i == f->committed_cnt)
            return 1;
        f->committed[i] = f->committed[--f->committed_cnt];
        return 0;
    }
    struct txn_going *g = aborted_of(f, b->producer_id);
    if (g == NULL)
        return 1;
    struct txn_going ended = *g;
    *g = f->aborted[--f->aborted_cnt];
    if (!ended.seen)
        return 1;
    return aborted_add(&f->kept, &ended.t);
}

int txn_filter_next(struct txn_filter *f, const uint8_t *bytes, const struct batch_info *b)
{
    int rc = end_below(f, b->base_offset);
    if (rc == 0)
        rc = begin_up_to(f, b->base_offset + b->last_offset_delta);
    if (rc < 0)
        return rc;
    return b->attributes & BATCH_ATTR_CONTROL ? on_marker(f, bytes, b) : on_data(f, b);
}

/* -------------------------------------------------------------------------------------- memory */

int rewrite_init(struct rewrite *w, const struct rewrite_rules *r, const struct aborted_txns *txns)
{
    *w = (struct rewrite){.rules = *r};
    int rc = txn_filter_init(&w->txns, txns);
    return rc < 0 ? rc : codec_ctx_create(&w->codecs);
}

void rewrite_fini(struct rewrite *w)
{
    txn_filter_fini(&w->txns);
    codec_ctx_destroy(w->codecs);
    free(w->plain);
    free(w->out);
    free(w->packed);
    *w = (struct rewrite){0};
}

static int grow(uint8_t **p, size_t *cap, size_t want)
{
    if (want <= *cap)
        return 0;
    uint8_t *b = malloc(want); /* its content need not live on */
    if (b == NULL)
        return -ENOMEM;
    free(*p);
    *p = b;
    *cap = want;
    return 0;
}

/* Inflates with as much memory as it takes, up to REWRITE_PLAIN_MAX. */
static int records_open(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                        struct record_iter *it)
{
    for (size_t want = w->plain_cap > PLAIN_MIN ? w->plain_cap : PLAIN_MIN;; want *= 2) {
        int rc = 0;
        if (b->attributes & BATCH_ATTR_CODEC)
            rc = grow(&w->plain, &w->plain_cap, want);
        if (rc == 0)
            rc = record_iter_init(it, w->codecs, span_of(bytes, b->total_len), w->plain,
                                  w->plain_cap);
        if (rc != -E_LIMIT || want >= REWRITE_PLAIN_MAX)
            return rc;
    }
}

/* --------------------------------------------------------------------------------------- rules */

/* True: the last thing that is known of a producer. */
static bool is_last_of_producer(const struct rewrite_rules *r, const struct batch_info *b)
{
    uint32_t lo = 0, hi = r->producer_cnt;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (r->producers[mid].producer_id < b->producer_id)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (b->producer_id < 0 || lo == r->producer_cnt ||
        r->producers[lo].producer_id != b->producer_id)
        return false;
    const struct last_record *l = &r->producers[lo];
    if (l->data_offset >= 0)
        return b->base_offset + b->last_offset_delta == l->data_offset;
    return (b->attributes & BATCH_ATTR_CONTROL) != 0 && b->producer_epoch == l->epoch;
}

static bool is_past_horizon(const struct rewrite_rules *r, const struct batch_info *b)
{
    return (b->attributes & BATCH_ATTR_DELETE_HORIZON) != 0 && b->base_timestamp <= r->now_ms;
}

static bool is_record_kept(struct rewrite *w, const struct batch_info *b,
                           const struct record_view *v)
{
    const struct rewrite_rules *r = &w->rules;
    if (v->offset > r->keys->latest)
        return true;
    if (v->key.p == NULL) {
        w->st.keyless++;
        return false;
    }
    if (v->offset < key_map_get(r->keys, v->key))
        return false;
    return v->value.p != NULL || !is_past_horizon(r, b);
}

/* ---------------------------------------------------------------------------------- building */

/* What one pass over a batch's records collected, in w->out behind the header's place. */
struct kept {
    uint32_t len; /* of w->out, header included */
    int32_t cnt;
    int64_t max_ts;
    bool tombstones, all;
};

/* Behind another: the record's bytes as they are, or with its time counted from `horizon`. */
static uint32_t record_put(uint8_t *dst, struct span raw, int64_t horizon, int64_t ts)
{
    int32_t len;
    uint64_t old;
    const uint8_t *end = raw.p + raw.len, *at = raw.p;
    at += varint_get(at, end, &len); /* parsed before: all of it is there */
    uint8_t attributes = *at++;
    at += uvarlong_get(at, end, &old);
    int64_t delta = (int64_t)((uint64_t)ts - (uint64_t)horizon);
    uint32_t rest = (uint32_t)(end - at);
    int n = varint_put(dst, (int32_t)(1 + (uint32_t)varlong_len(delta) + rest));
    dst[n++] = attributes;
    n += varlong_put(dst + n, delta);
    memcpy(dst + n, at, rest);
    return (uint32_t)n + rest;
}

/* horizon INT64_MIN: times stay as they are stored. `all`: every record stays. */
static int records_collect(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                           bool all, int64_t horizon, struct kept *ret)
{
    struct record_iter it;
    struct record_view v;
    struct kept k = {.len = BATCH_HEADER_LEN, .max_ts = -1, .all = true};
    int rc = records_open(w, bytes, b, &it);
    if (rc == 0)
        rc = grow(&w->out, &w->out_cap,
                  BATCH_HEADER_LEN + it.rest.len + (size_t)b->record_cnt * RECORD_GROWTH);
    const uint8_t *at = it.rest.p;
    while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1) {
        struct span raw = span_of(at, (uint32_t)(it.rest.p - at));
        at = it.rest.p;
        if (!all && !is_record_kept(w, b, &v)) {
            k.all = false;
            continue;
        }
        k.tombstones = k.tombstones || v.value.p == NULL;
        k.max_ts = v.timestamp > k.max_ts ? v.timestamp : k.max_ts;
        k.cnt++;
        if (horizon == INT64_MIN) {
            memcpy(w->out + k.len, raw.p, raw.len);
            k.len += raw.len;
        } else {
            k.len += record_put(w->out + k.len, raw, horizon, v.timestamp);
        }
    }
    if (rc == 0)
        *ret = k;
    return rc;
}

static void header_put(uint8_t *h, const uint8_t *from, const struct batch_info *b,
                       const struct kept *k, int64_t horizon)
{
    memcpy(h, from, BATCH_HEADER_LEN);
    store_be32(h + BATCH_RECORD_COUNT, (uint32_t)k->cnt);
    if ((b->attributes & BATCH_ATTR_LOG_APPEND_TIME) == 0)
        store_be64(h + BATCH_MAX_TIMESTAMP, (uint64_t)k->max_ts);
    if (horizon != INT64_MIN) {
        store_be16(h + BATCH_ATTRIBUTES, b->attributes | BATCH_ATTR_DELETE_HORIZON);
        store_be64(h + BATCH_BASE_TIMESTAMP, (uint64_t)horizon);
    }
}

/* The records in w->out become a batch with the header `h` in the given codec. */
static int batch_finish(struct rewrite *w, const uint8_t *h, const struct kept *k,
                        enum codec_id codec, int level, struct span *ret)
{
    uint32_t plain_len = k->len - BATCH_HEADER_LEN;
    if (codec == CODEC_NONE) {
        memcpy(w->out, h, BATCH_HEADER_LEN);
        store_be16(w->out + BATCH_ATTRIBUTES, batch_attributes(h) & (uint16_t)~BATCH_ATTR_CODEC);
        store_be32(w->out + BATCH_LENGTH, k->len - BATCH_LOG_OVERHEAD);
        batch_recrc(w->out);
        *ret = span_of(w->out, k->len);
        return 1;
    }
    int rc = grow(&w->packed, &w->packed_cap, batch_recode_bound(codec, plain_len));
    if (rc < 0)
        return rc;
    int64_t n = batch_recode(w->codecs, h, span_of(w->out + BATCH_HEADER_LEN, plain_len), codec,
                             level, w->packed, w->packed_cap);
    if (n < 0)
        return (int)n;
    *ret = span_of(w->packed, (uint32_t)n);
    return 1;
}

/* Kafka's writeEmptyHeader: who it was and where it ended is all that stays. */
static int batch_empty(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                       struct span *ret)
{
    const uint16_t stay =
        BATCH_ATTR_LOG_APPEND_TIME | BATCH_ATTR_TRANSACTIONAL | BATCH_ATTR_CONTROL;
    if (b->record_cnt == 0 && b->total_len == BATCH_HEADER_LEN) {
        *ret = span_of(bytes, b->total_len);
        return 1;
    }
    int rc = grow(&w->out, &w->out_cap, BATCH_HEADER_LEN);
    if (rc < 0)
        return rc;
    memcpy(w->out, bytes, BATCH_HEADER_LEN);
    store_be32(w->out + BATCH_LENGTH, BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD);
    store_be16(w->out + BATCH_ATTRIBUTES, b->attributes & stay);
    store_be64(w->out + BATCH_BASE_TIMESTAMP, UINT64_MAX);
    store_be32(w->out + BATCH_RECORD_COUNT, 0);
    batch_recrc(w->out);
    *ret = span_of(w->out, BATCH_HEADER_LEN);
    return 1;
}

/* ----------------------------------------------------------------------------------- one batch */

static int compact_batch(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                         struct span *ret)
{
    const struct rewrite_rules *r = &w->rules;
    struct kept k = {.len = BATCH_HEADER_LEN, .max_ts = -1};
    bool control = (b->attributes & BATCH_ATTR_CONTROL) != 0;
    int discard = txn_filter_next(&w->txns, bytes, b);
    if (discard < 0)
        return discard;
    if (control && batch_is_lost(bytes)) {
        *ret = span_of(bytes, b->total_len);
        return 1;
    }
    bool stays = is_last_of_producer(r, b) || b->base_offset + b->last_offset_delta + 1 == r->upper;
    /* A marker whose transaction is gone waits for its own horizon. */
    bool drop = discard == 1 && (!control || is_past_horizon(r, b) || b->record_cnt == 0);
    if (drop)
        return stays ? batch_empty(w, bytes, b, ret) : 0;
    int rc = records_collect(w, bytes, b, control, INT64_MIN, &k);
    if (rc < 0)
        return rc;
    if (k.cnt == 0)
        return stays ? batch_empty(w, bytes, b, ret) : 0;
    bool new_horizon = (k.tombstones || (control && discard == 1)) &&
                       (b->attributes & BATCH_ATTR_DELETE_HORIZON) == 0;
    if (k.all && !new_horizon) {
        *ret = span_of(bytes, b->total_len);
        w->st.records_out += (uint64_t)k.cnt;
        return 1;
    }
    int64_t horizon = INT64_MIN;
    if (new_horizon) {
        uint64_t keyless = w->st.keyless; /* the same records again */
        horizon = r->delete_retention_ms > INT64_MAX - r->now_ms
                      ? INT64_MAX
                      : r->now_ms + r->delete_retention_ms;
        rc = records_collect(w, bytes, b, control, horizon, &k);
        w->st.keyless = keyless;
        if (rc < 0)
            return rc;
    }
    uint8_t h[BATCH_HEADER_LEN];
    header_put(h, bytes, b, &k, horizon);
    w->st.records_out += (uint64_t)k.cnt;
    return batch_finish(w, h, &k, (enum codec_id)(b->attributes & BATCH_ATTR_CODEC), 0, ret);
}

/* Only batches that nobody looks up by producer id and sequence, and only when they get smaller. */
static int recode_batch(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                        struct span *ret)
{
    const struct rewrite_rules *r = &w->rules;
    bool plain = (b->attributes & (BATCH_ATTR_CODEC | BATCH_ATTR_CONTROL)) == 0;
    *ret = span_of(bytes, b->total_len);
    w->st.records_out += (uint64_t)b->record_cnt;
    if (!plain || r->codec == CODEC_NONE || b->producer_id >= 0 || b->record_cnt == 0)
        return 1;
    struct kept k;
    struct span packed;
    int rc = records_collect(w, bytes, b, true, INT64_MIN, &k);
    if (rc == 0)
        rc = batch_finish(w, bytes, &k, r->codec, r->level, &packed);
    if (rc < 0)
        return rc;
    if (packed.len < b->total_len)
        *ret = packed;
    return 1;
}

int rewrite_batch(struct rewrite *w, const uint8_t *bytes, const struct batch_info *b,
                  struct span *ret)
{
    w->st.batches_in++;
    w->st.bytes_in += b->total_len;
    w->st.records_in += (uint64_t)b->record_cnt;
    int rc =
        w->rules.keys != NULL ? compact_batch(w, bytes, b, ret) : recode_batch(w, bytes, b, ret);
    if (rc == 1) {
        w->st.batches_out++;
        w->st.bytes_out += ret->len;
    }
    return rc;
}

int rewrite_map(struct rewrite *w, struct key_map *m, int64_t from, const uint8_t *bytes,
                const struct batch_info *b)
{
    struct record_iter it;
    struct record_view v;
    int64_t last = b->base_offset + b->last_offset_delta;
    int rc = txn_filter_next(&w->txns, bytes, b);
    if (rc < 0)
        return rc;
    bool records = rc == 0 && (b->attributes & BATCH_ATTR_CONTROL) == 0 && last >= from;
    if (records) {
        rc = records_open(w, bytes, b, &it);
        while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1)
            if (v.key.p != NULL && v.offset >= from && !key_map_put(m, v.key, v.offset))
                return 0;
        if (rc < 0)
            return rc;
    }
    if (last >= from && last > m->latest)
        m->latest = last;
    return 1;
}
