/* txn_record.c - see txn_record.h. */
#include "dataplane/kafka/txn/txn_record.h"
#include "lib/wire/wire_gen.h"
#include <stdlib.h>
#include <string.h>

#define KEY_TYPE 0
#define VALUE_VERSION 1 /* flexible: transaction.version 1 and above */
#define VALUE_VERSION_MAX 1
#define NAME_MAX_LEN 249

const char *const txn_state_text[TXN_STATE_CNT] = {
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"};

/* --------------------------------------------------------------- partitions */

static void topic_fini(struct txn_topic *t)
{
    free((void *)(uintptr_t)t->name.p);
    free(t->v);
}

void txn_parts_fini(struct txn_parts *t)
{
    for (uint32_t i = 0; i < t->cnt; i++)
        topic_fini(&t->v[i]);
    free(t->v);
    *t = (struct txn_parts){0};
}

static int span_order(struct span a, struct span b)
{
    uint32_t n = a.len < b.len ? a.len : b.len;
    int d = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return d != 0 ? d : a.len < b.len ? -1 : a.len > b.len;
}

/* Index of the topic's row, or of where it belongs. */
static uint32_t topic_pos(const struct txn_parts *t, struct span topic, bool *found)
{
    uint32_t lo = 0, hi = t->cnt;
    *found = false;
    while (lo < hi && !*found) {
        uint32_t mid = lo + (hi - lo) / 2;
        int d = span_order(t->v[mid].name, topic);
        *found = d == 0;
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return hi;
}

static uint32_t part_pos(const struct txn_topic *t, int32_t partition, bool *found)
{
    uint32_t lo = 0, hi = t->cnt;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->v[mid] < partition)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = lo < t->cnt && t->v[lo] == partition;
    return lo;
}

bool txn_parts_has(const struct txn_parts *t, struct span topic, int32_t partition)
{
    bool found;
    uint32_t i = topic_pos(t, topic, &found);
    if (found)
        (void)part_pos(&t->v[i], partition, &found);
    return found;
}

/* Room for one more element of `size` bytes. */
static bool room(void **v, uint32_t cnt, uint32_t *cap, size_t size)
{
    if (cnt < *cap)
        return true;
    uint32_t more = *cap == 0 ? 4 : *cap * 2;
    void *p = realloc(*v, more * size);
    if (p == NULL)
        return false;
    *v = p;
    *cap = more;
    return true;
}

static struct txn_topic *topic_add(struct txn_parts *t, uint32_t at, struct span topic)
{
    void *rows = t->v;
    uint8_t *name = malloc(topic.len + 1u);
    bool ok = name != NULL && room(&rows, t->cnt, &t->cap, sizeof(*t->v));
    t->v = rows;
    if (!ok) {
        free(name);
        return NULL;
    }
    if (topic.len > 0)
        memcpy(name, topic.p, topic.len);
    memmove(&t->v[at + 1], &t->v[at], (t->cnt - at) * sizeof(*t->v));
    t->v[at] = (struct txn_topic){.name = span_of(name, topic.len)};
    t->cnt++;
    return &t->v[at];
}

static void topic_remove(struct txn_parts *t, uint32_t at)
{
    topic_fini(&t->v[at]);
    t->cnt--;
    memmove(&t->v[at], &t->v[at + 1], (t->cnt - at) * sizeof(*t->v));
}

int txn_parts_add(struct txn_parts *t, struct span topic, int32_t partition)
{
    bool known, found = false;
    uint32_t at = topic_pos(t, topic, &known);
    uint32_t pos = known ? part_pos(&t->v[at], partition, &found) : 0;
    if (found)
        return 0;
    if (t->part_cnt >= TXN_PARTS_MAX)
        return -E_LIMIT;
    struct txn_topic *row = known ? &t->v[at] : topic_add(t, at, topic);
    if (row == NULL)
        return -ENOMEM;
    void *v = row->v;
    bool ok = room(&v, row->cnt, &row->cap, sizeof(*row->v));
    row->v = v;
    if (!ok) {
        if (!known)
            topic_remove(t, at);
        return -ENOMEM;
    }
    memmove(&row->v[pos + 1], &row->v[pos], (row->cnt - pos) * sizeof(*row->v));
    row->v[pos] = partition;
    row->cnt++;
    t->part_cnt++;
    return 0;
}

void txn_parts_remove(struct txn_parts *t, struct span topic, int32_t partition)
{
    bool found;
    uint32_t at = topic_pos(t, topic, &found);
    uint32_t pos = found ? part_pos(&t->v[at], partition, &found) : 0;
    if (!found)
        return;
    struct txn_topic *row = &t->v[at];
    t->part_cnt--;
    row->cnt--;
    memmove(&row->v[pos], &row->v[pos + 1], (row->cnt - pos) * sizeof(*row->v));
    if (row->cnt == 0)
        topic_remove(t, at);
}

int txn_parts_copy(struct txn_parts *to, const struct txn_parts *from)
{
    for (uint32_t i = 0; i < from->cnt; i++)
        for (uint32_t k = 0; k < from->v[i].cnt; k++) {
            int rc = txn_parts_add(to, from->v[i].name, from->v[i].v[k]);
            if (rc < 0) {
                txn_parts_fini(to);
                return rc;
            }
        }
    return 0;
}

void txn_value_fini(struct txn_value *v)
{
    txn_parts_fini(&v->parts);
}

/* ------------------------------------------------------------------ records */

struct span txn_record_key(struct arena *a, struct span id)
{
    struct transaction_log_key key = {.transactional_id = id};
    size_t len = 2 + transaction_log_key_size(&key, 0);
    uint8_t *p = arena_alloc(a, len);
    if (p == NULL)
        return SPAN_NULL;
    struct wire_writer w;
    wire_writer_init(&w, p, len);
    wire_put_i16(&w, KEY_TYPE);
    transaction_log_key_write(&w, 0, &key);
    return span_of(p, (uint32_t)len);
}

struct span txn_record_value(struct arena *a, const struct txn_value *v)
{
    struct transaction_log_value m;
    transaction_log_value_init(&m);
    m.producer_id = v->producer_id;
    m.previous_producer_id = v->prev_producer_id;
    m.next_producer_id = v->next_producer_id;
    m.producer_epoch = v->epoch;
    m.transaction_timeout_ms = v->timeout_ms;
    m.transaction_status = (int8_t)v->state;
    m.transaction_last_update_timestamp_ms = v->update_ms;
    m.transaction_start_timestamp_ms = v->start_ms;
    m.client_transaction_version = v->client_version;
    if (v->state == TXN_EMPTY) { /* as Kafka: none, rather than an empty list */
        m.transaction_partitions.null = true;
    } else {
        m.transaction_partitions.v =
            arena_array(a, v->parts.cnt, sizeof(*m.transaction_partitions.v));
        if (m.transaction_partitions.v == NULL)
            return SPAN_NULL;
        m.transaction_partitions.cnt = v->parts.cnt;
        for (uint32_t i = 0; i < v->parts.cnt; i++) {
            const struct txn_topic *t = &v->parts.v[i];
            struct transaction_log_value_partitions *o = &m.transaction_partitions.v[i];
            transaction_log_value_partitions_init(o);
            o->topic = t->name;
            o->partition_ids = (struct wire_i32s){.v = t->v, .cnt = t->cnt};
        }
    }
    size_t len = 2 + transaction_log_value_size(&m, VALUE_VERSION);
    uint8_t *p = arena_alloc(a, len);
    if (p == NULL)
        return SPAN_NULL;
    struct wire_writer w;
    wire_writer_init(&w, p, len);
    wire_put_i16(&w, VALUE_VERSION);
    transaction_log_value_write(&w, VALUE_VERSION, &m);
    return span_of(p, (uint32_t)len);
}

static int parts_read(const struct transaction_log_value *m, struct txn_parts *to)
{
    for (uint32_t i = 0; i < m->transaction_partitions.cnt; i++) {
        const struct transaction_log_value_partitions *t = &m->transaction_partitions.v[i];
        if (t->topic.len == 0 || t->topic.len > NAME_MAX_LEN)
            return -E_MALFORMED;
        for (uint32_t k = 0; k < t->partition_ids.cnt; k++) {
            if (t->partition_ids.v[k] < 0)
                return -E_MALFORMED;
            int rc = txn_parts_add(to, t->topic, t->partition_ids.v[k]);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

int txn_record_read(const struct record_view *rec, struct arena *a, struct span *ret_id,
                    bool *ret_deleted, struct txn_value *ret_v)
{
    struct wire_reader r;
    struct transaction_log_key key;
    struct transaction_log_value m;
    wire_reader_init(&r, rec->key);
    int16_t type = wire_get_i16(&r);
    if (r.err != 0)
        return r.err;
    if (type != KEY_TYPE)
        return 0;
    int rc = transaction_log_key_read(&r, 0, a, &key);
    if (rc < 0)
        return rc;
    *ret_id = key.transactional_id;
    *ret_deleted = span_is_null(rec->value);
    if (*ret_deleted)
        return 1;
    wire_reader_init(&r, rec->value);
    int16_t version = wire_get_i16(&r);
    if (r.err != 0)
        return r.err;
    if (version < 0 || version > VALUE_VERSION_MAX)
        return -E_UNSUPPORTED_VERSION;
    rc = transaction_log_value_read(&r, version, a, &m);
    if (rc < 0)
        return rc;
    if (m.transaction_status < 0 || m.transaction_status >= TXN_STATE_CNT || m.producer_id < 0 ||
        m.producer_epoch < 0)
        return -E_MALFORMED;
    *ret_v = (struct txn_value){.state = (enum txn_state)m.transaction_status,
                                .producer_id = m.producer_id,
                                .prev_producer_id = m.previous_producer_id,
                                .next_producer_id = m.next_producer_id,
                                .epoch = m.producer_epoch,
                                .last_epoch = -1,
                                .client_version = m.client_transaction_version,
                                .timeout_ms = m.transaction_timeout_ms,
                                .start_ms = m.transaction_start_timestamp_ms,
                                .update_ms = m.transaction_last_update_timestamp_ms};
    rc = parts_read(&m, &ret_v->parts);
    if (rc < 0)
        txn_value_fini(ret_v);
    return rc < 0 ? rc : 1;
}
