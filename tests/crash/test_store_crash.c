/* test_store_crash.c - append, cut the power at any operation, recover, compare with the model.
 *
 * The model remembers every batch ever offered. After each cut: every acknowledged batch that
 * retention and DeleteRecords left is there, at its offset, unaltered; offsets are dense; nothing
 * is there twice, nothing that was not offered. Half of the batches come from idempotent producers,
 * which offer again, in order, what failed or was not answered, until all of it is acknowledged.
 * The first of them writes in transactions, which are ended by markers now and then: the last
 * stable offset and the aborted transactions must be what the log itself says. The last partitions
 * are compacted meanwhile: what is missing there has a later record of its key, and offsets only
 * rise. test_store_crash [seeds [first seed]] */
#include "dataplane/store/txn_index.h"
#include "dataplane/upkeep/compaction.h"
#include "lib/batch/control.h"
#include "tests/support/keyed_batch.h"
#include "tests/support/store_env.h"
#include "tests/support/test.h"

#define PARTS 6u
#define OFFERED_MAX 4096u
#define PRODUCERS 3u
#define LANE_MAX PRODUCER_BATCHES /* not acknowledged, of one producer in one partition */
#define TXN_PRODUCER 0            /* this one writes in transactions */
#define TXNS_MAX 1024u
#define KEYED_FROM 4u /* partitions from here on are compacted; a batch is one record there */
#define KEYS 12u

struct lane;
struct offer {
    struct plog_append a;
    struct lane *lane; /* NULL: of nobody who would offer it again */
    uint8_t *bytes;
    uint32_t part, len;
    int32_t cnt;
    uint64_t tag;
    uint32_t key;
    int32_t sequence;
    bool in_flight, acked;
    bool found;    /* the last look at the log has found it */
    int64_t base;  /* -1: not known */
    int64_t start; /* the log start when it was offered */
};
struct lane {                  /* one idempotent producer in one partition */
    struct offer *o[LANE_MAX]; /* not acknowledged, oldest first */
    uint32_t cnt, in_flight;
    int32_t sequence, seen_to; /* seen_to: of compacted partitions, what the log has had */
    bool again;                /* something failed: when nothing is in flight, all of it */
    bool look;                 /* ... and before that, whether its oldest batch stands in the log */
    bool looked;               /* it did not */
};
struct model {
    struct env e;
    struct compaction *compaction;
    struct offer *o; /* OFFERED_MAX */
    uint32_t cnt;
    struct lane lanes[PRODUCERS][PARTS];
    int64_t start_max[PARTS]; /* where retention and DeleteRecords may have moved the log start */
};

static void offer_done(struct plog_append *a);

static void offer_submit(struct model *m, struct offer *o)
{
    o->a = (struct plog_append){.origin = PLOG_CLIENT,
                                .wait_durable = o->a.wait_durable,
                                .txn_verified = true,
                                .batch = span_of(o->bytes, o->len),
                                .max_timestamp_ms = o->a.max_timestamp_ms,
                                .done = offer_done};
    o->in_flight = true;
    if (o->lane != NULL)
        o->lane->in_flight++;
    plog_append(m->e.parts[o->part], &o->a);
}

static void lane_answered(struct lane *l, struct offer *o)
{
    l->in_flight--;
    if (!o->acked && o->found && o->a.rc == -E_OUT_OF_ORDER_SEQUENCE) {
        /* It is there, but its answer was lost and it is not the producer's last batch below a
         * snapshot: Kafka's snapshots know that one only. */
        o->acked = true;
    }
    if (!o->acked) {
        /* Everything before it is acknowledged, or was offered before it. Only if a failure hid
         * its answer and a snapshot was taken since, it can be out of order: it is there, then. */
        if (l->o[0] == o && !l->again && o->a.rc == -E_OUT_OF_ORDER_SEQUENCE) {
            assert_false(l->looked);
            l->look = true;
        }
        l->again = true;
        return;
    }
    l->looked = false;
    uint32_t i = 0;
    while (l->o[i] != o)
        i++;
    memmove(&l->o[i], &l->o[i + 1], (--l->cnt - i) * sizeof(l->o[0]));
}

static void offer_done(struct plog_append *a)
{
    struct offer *o = container_of(a, struct offer, a);
    o->in_flight = false;
    o->acked = a->rc == 0 && a->wait_durable;
    if (o->acked)
        o->base = a->base_offset;
    if (o->lane != NULL)
        lane_answered(o->lane, o);
    if (o->lane == NULL || o->acked) {
        free(o->bytes);
        o->bytes = NULL;
    }
}

static uint64_t swaps; /* segments put in place by compaction, of all seeds */

static void model_open(struct model *m)
{
    assert_int_equal(env_open(&m->e), 0);
    const struct compaction_conf c = {.set = m->e.set,
                                      .io = &m->e.io,
                                      .map_bytes = 1u << 16,
                                      .rate_bytes = 1u << 30,
                                      .interval_ns = 10000000,
                                      .wake_fd = -1};
    assert_ok(compaction_create(&c, &m->compaction));
}

static void model_step(struct model *m, uint32_t completions, uint64_t ns)
{
    env_step(&m->e, completions, ns);
    (void)compaction_poll(m->compaction, m->e.shard.now_ns, m->e.shard.wall_ms);
}

static void compaction_end(struct model *m)
{
    struct compaction_stats st;
    compaction_stats_get(m->compaction, &st);
    swaps += st.segments_out;
    compaction_destroy(m->compaction);
    m->compaction = NULL;
}

/* Whose batch is it? NULL: a marker, or one that compaction left empty. */
static struct offer *offer_of(struct model *m, uint32_t part, const uint8_t *b,
                              const struct batch_info *info)
{
    struct record_iter it;
    struct record_view v;
    char number[24] = {0};
    if ((info->attributes & BATCH_ATTR_CONTROL) != 0)
        return NULL;
    uint64_t tag = load_be64(b + BATCH_HEADER_LEN);
    if (part >= KEYED_FROM) {
        if (info->producer_id >= 1000) {
            struct lane *l = &m->lanes[info->producer_id - 1000][part];
            int32_t end = info->base_sequence + info->last_offset_delta + 1;
            l->seen_to = end > l->seen_to ? end : l->seen_to;
        }
        assert_ok(record_iter_init(&it, NULL, span_of(b, info->total_len), NULL, 0));
        if (record_iter_next(&it, &v) != 1)
            return NULL;
        memcpy(number, v.value.p, v.value.len < 20 ? v.value.len : 20);
        tag = strtoull(number, NULL, 10);
    }
    assert_in_range(tag, 1, m->cnt);
    struct offer *o = &m->o[tag - 1];
    assert_int_equal(o->part, part);
    assert_int_equal(o->len, info->total_len);
    assert_int_equal(o->cnt, info->record_cnt);
    return o;
}

/* What later batches of its producer say, though it may be compacted away. */
static void found_by_sequence(struct model *m, uint32_t part)
{
    for (uint32_t p = 0; part >= KEYED_FROM && p < PRODUCERS; p++) {
        struct lane *l = &m->lanes[p][part];
        for (uint32_t i = 0; i < l->cnt; i++)
            l->o[i]->found = l->o[i]->found || l->o[i]->sequence + l->o[i]->cnt <= l->seen_to;
    }
}

/* Sets `found` of what stands in the partition's log; false: it cannot be read now. */
static bool look_at(struct model *m, uint32_t part)
{
    static uint8_t buf[1u << 20];
    struct plog_offsets off;
    plog_offsets_get(m->e.parts[part], &off);
    for (int64_t next = off.log_start; next < off.durable;) {
        struct env_read x;
        if (env_read(&m->e, part, next, buf, sizeof(buf), &x) != 0 || x.r.len == 0)
            return false;
        for (uint32_t at = 0; at < x.r.len; at += batch_total_len(buf + at)) {
            const uint8_t *b = buf + at;
            struct batch_info info;
            assert_ok(batch_header_read(b, x.r.len - at, &info));
            next = batch_last_offset(b) + 1;
            struct offer *o = offer_of(m, part, b, &info);
            if (o == NULL)
                continue;
            o->found = true;
            o->base = info.base_offset;
        }
    }
    found_by_sequence(m, part);
    return true;
}

static int64_t log_start_of(const struct model *m, uint32_t part)
{
    struct plog_offsets off;
    plog_offsets_get(m->e.parts[part], &off);
    return off.log_start;
}

static void lanes_again(struct model *m)
{
    for (uint32_t i = 0; i < PRODUCERS * PARTS; i++) {
        struct lane *l = &m->lanes[i / PARTS][i % PARTS];
        if (!l->again || l->in_flight > 0)
            continue;
        if (l->look) {
            if (!look_at(m, i % PARTS))
                continue;
            if (log_start_of(m, i % PARTS) > l->o[0]->start)
                l->o[0]->found = true; /* it was, perhaps, and is below that now */
            l->looked = !l->o[0]->found;
            l->look = false;
        }
        l->again = false;
        for (uint32_t k = 0; k < l->cnt; k++) /* answers come later, l->o stays */
            offer_submit(m, l->o[k]);
    }
}

static uint8_t *keyed_build(struct offer *o, const struct env_batch *b, uint16_t attributes)
{
    char key[16], *value = malloc(b->len);
    assert_non_null(value);
    memset(value, '.', b->len);
    value[b->len - 1] = 0;
    value[snprintf(value, 32, "%" PRIu64, b->tag)] = ' ';
    (void)snprintf(key, sizeof(key), "key%u", o->key);
    const struct kb_rec rec = {.key = key, .value = value, .ts = b->ts};
    uint8_t *p = kb_build(&(struct kb_batch){.recs = &rec,
                                             .cnt = 1,
                                             .attributes = attributes,
                                             .producer_id = b->producer_id,
                                             .producer_epoch = b->producer_epoch,
                                             .base_seq = b->base_seq},
                          &o->len);
    free(value);
    return p;
}

static void offer_one(struct model *m)
{
    struct env *e = &m->e;
    if (m->cnt == OFFERED_MAX)
        return;
    struct offer *o = &m->o[m->cnt];
    uint64_t kind = env_rnd(e, 20);
    uint32_t len = kind < 14   ? 80 + (uint32_t)env_rnd(e, 4000)
                   : kind < 19 ? 80 + (uint32_t)env_rnd(e, 40000)
                               : 80 + (uint32_t)env_rnd(e, 150000);
    *o = (struct offer){.part = (uint32_t)env_rnd(e, PARTS),
                        .len = len,
                        .cnt = 1 + (int32_t)env_rnd(e, 5),
                        .tag = m->cnt + 1,
                        .base = -1};
    o->start = log_start_of(m, o->part);
    bool keyed = o->part >= KEYED_FROM;
    if (keyed) {
        o->cnt = 1;
        o->key = (uint32_t)env_rnd(e, KEYS);
        len = len < 4096 ? len : 4096;
    }
    uint32_t producer = (uint32_t)env_rnd(e, 2 * PRODUCERS);
    struct lane *l = producer < PRODUCERS ? &m->lanes[producer][o->part] : NULL;
    if (l != NULL && (l->again || l->cnt == LANE_MAX))
        return;
    struct env_batch b = {.tag = o->tag,
                          .len = len,
                          .cnt = o->cnt,
                          .ts = 1700000000000 + (int64_t)env_rnd(e, 100000),
                          .producer_id = l != NULL ? 1000 + (int64_t)producer : -1,
                          .producer_epoch = l != NULL ? 0 : -1,
                          .base_seq = l != NULL ? l->sequence : -1};
    if (l != NULL) {
        o->sequence = l->sequence;
        l->sequence += o->cnt;
        l->o[l->cnt++] = o;
    }
    o->lane = l;
    bool in_txn = l != NULL && producer == TXN_PRODUCER;
    o->bytes =
        keyed ? keyed_build(o, &b, in_txn ? BATCH_ATTR_TRANSACTIONAL : 0) : env_batch_build(&b);
    if (in_txn && !keyed) {
        store_be16(o->bytes + BATCH_ATTRIBUTES, BATCH_ATTR_TRANSACTIONAL);
        store_be32(o->bytes + BATCH_CRC,
                   crc32c(0, o->bytes + BATCH_CRC_START, len - BATCH_CRC_START));
    }
    o->a.wait_durable = l != NULL || env_rnd(e, 5) != 0;
    o->a.max_timestamp_ms = b.ts;
    m->cnt++;
    offer_submit(m, o);
}

/* The end of a transaction; nobody waits for it, and it may be lost. */
struct end {
    struct plog_append a;
    uint8_t batch[MARKER_BATCH_MAX];
};
static void end_done(struct plog_append *a)
{
    free(container_of(a, struct end, a));
}

static void end_one(struct model *m)
{
    struct env *e = &m->e;
    uint32_t part = (uint32_t)env_rnd(e, PARTS);
    const struct lane *l = &m->lanes[TXN_PRODUCER][part];
    if (l->cnt > 0) /* what is offered again must not find itself in the next transaction */
        return;
    struct batch_marker marker = {.commit = env_rnd(e, 2) == 0,
                                  .producer_id = 1000 + TXN_PRODUCER,
                                  .timestamp_ms = 1700000000000};
    struct end *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    uint32_t len = marker_write(&marker, x->batch);
    x->a = (struct plog_append){.origin = PLOG_COORDINATOR,
                                .wait_durable = true,
                                .batch = span_of(x->batch, len),
                                .max_timestamp_ms = marker.timestamp_ms,
                                .done = end_done};
    plog_append(e->parts[part], &x->a);
}

/* What the batches of the log say of transactions; of one that may have begun below the log start
 * it only says that it did not begin later. */
struct seen_txn {
    int64_t first, last;
    bool sure;
};
struct txns {
    bool sure;            /* the transaction before has ended */
    struct seen_txn open; /* first -1: none */
    struct seen_txn aborted[TXNS_MAX];
    uint32_t cnt;
};
static void txns_look(struct txns *t, const uint8_t *b, const struct batch_info *info)
{
    struct batch_marker marker;
    if ((info->attributes & BATCH_ATTR_CONTROL) == 0) {
        if ((info->attributes & BATCH_ATTR_TRANSACTIONAL) != 0 && t->open.first < 0)
            t->open = (struct seen_txn){.first = info->base_offset, .sure = t->sure};
        return;
    }
    assert_int_equal(marker_read(b, info->total_len, &marker), 0);
    t->open.last = info->base_offset;
    if (t->open.first >= 0 && !marker.commit && t->cnt < TXNS_MAX)
        t->aborted[t->cnt++] = t->open;
    t->open.first = -1;
    t->sure = true;
}

static void txn_compare(const struct seen_txn *seen, int64_t first)
{
    if (seen->sure)
        assert_int_equal(first, seen->first);
    else
        assert_true(first <= seen->first);
}

static uint64_t aborted_told; /* of all seeds */

static void verify_txns(struct env *e, uint32_t part, const struct txns *t)
{
    static uint8_t bytes[1u << 20];
    struct plog_offsets off;
    plog_offsets_get(e->parts[part], &off);
    if (t->open.first >= 0)
        txn_compare(&t->open, off.stable);
    else
        assert_true(off.stable == off.durable || off.stable < off.log_start);
    uint32_t told = 0; /* of t->aborted */
    for (int64_t next = off.log_start; next < off.stable;) {
        struct env_read x = {.r = env_read_make(next, bytes, sizeof(bytes))};
        x.r.isolation = PLOG_READ_COMMITTED;
        assert_int_equal(env_read_run(e, part, &x), 0);
        assert_true(x.r.len > 0);
        for (uint32_t at = 0; at < x.r.len; at += batch_total_len(bytes + at))
            next = batch_last_offset(bytes + at) + 1;
        for (uint32_t k = 0; k < x.r.aborted_cnt; k++) {
            const struct aborted_txn *a = &x.r.aborted[k];
            if (told > 0 && t->aborted[told - 1].last == a->last_offset)
                continue; /* the read before told of it */
            if (told < t->cnt && t->aborted[told].last == a->last_offset)
                txn_compare(&t->aborted[told++], a->first_offset);
            else
                assert_true(a->first_offset < off.log_start); /* all of it is gone */
        }
        free(x.r.aborted);
    }
    if (off.stable == off.durable)
        assert_int_equal(told, t->cnt);
    aborted_told += told;
}

/* What takes away from the beginning of a log, and what ends its segments. */
static void shorten_one(struct model *m)
{
    struct env *e = &m->e;
    uint32_t part = (uint32_t)env_rnd(e, PARTS);
    struct plog *p = e->parts[part];
    struct plog_segment seg;
    struct plog_offsets off;
    int64_t start = 0;
    switch (env_rnd(e, 3)) {
    case 0:
        plog_roll_now(p);
        break;
    case 1: /* retention */
        if (!plog_segment_get(p, 0, &seg) || !seg.can_drop)
            break;
        start = seg.next_offset;
        if (plog_drop_segments(p, 1, env_rnd(e, 2) == 0) == 0)
            start = 0;
        break;
    default: /* DeleteRecords, into the middle of a batch too */
        plog_offsets_get(p, &off);
        start = (int64_t)env_rnd(e, (uint64_t)off.durable + 1);
        if (env_rnd(e, 3) != 0)
            start = start < off.log_start + 20 ? start : off.log_start;
        assert_int_equal(plog_set_log_start(p, start), 0);
    }
    if (start > m->start_max[part])
        m->start_max[part] = start;
}

/* What is acknowledged and missing has a later record of its key, or is below the log start. A
 * transaction's may be aborted: nothing is asked of them. */
static void verify_keyed(struct model *m, uint32_t part, uint8_t *seen)
{
    static uint8_t buf[1u << 20];
    struct plog_offsets off;
    int64_t last[KEYS];
    plog_offsets_get(m->e.parts[part], &off);
    assert_in_range(off.log_start, 0, m->start_max[part]);
    for (uint32_t i = 0; i < KEYS; i++)
        last[i] = -1;
    for (int64_t next = off.log_start; next < off.durable;) {
        struct env_read x;
        assert_int_equal(env_read(&m->e, part, next, buf, sizeof(buf), &x), 0);
        assert_true(x.r.len > 0);
        for (uint32_t at = 0; at < x.r.len;) {
            struct batch_info info;
            assert_int_equal(batch_verify(buf + at, x.r.len - at, &info), 0);
            assert_true(info.base_offset >= next || next == off.log_start);
            next = info.base_offset + info.last_offset_delta + 1;
            struct offer *o = offer_of(m, part, buf + at, &info);
            at += info.total_len;
            if (o == NULL)
                continue;
            assert_false(seen[o->tag]);
            seen[o->tag] = 1;
            if (o->acked && o->base >= 0)
                assert_int_equal(o->base, info.base_offset);
            o->found = true;
            o->base = info.base_offset;
            last[o->key] = info.base_offset;
        }
    }
    found_by_sequence(m, part);
    for (uint32_t i = 0; i < m->cnt; i++) {
        const struct offer *o = &m->o[i];
        bool in_txn = o->lane == &m->lanes[TXN_PRODUCER][part];
        if (o->part != part || !o->acked || seen[o->tag] || in_txn || o->base < off.log_start ||
            last[o->key] > o->base)
            continue;
        fail_msg("batch %" PRIu64 " (partition %" PRIu32 ", offset %" PRId64
                 ", key %u) was acknowledged and is gone",
                 o->tag, part, o->base, o->key);
    }
}

static void verify_part(struct model *m, uint32_t part, uint8_t *seen)
{
    struct env *e = &m->e;
    static uint8_t buf[1u << 20];
    struct plog_offsets off;
    plog_offsets_get(e->parts[part], &off);
    int64_t next = off.log_start;
    assert_in_range(next, 0, m->start_max[part]);
    struct txns txns = {.sure = next == 0, .open.first = -1};
    while (next < off.durable) {
        struct env_read x;
        assert_int_equal(env_read(e, part, next, buf, sizeof(buf), &x), 0);
        assert_true(x.r.len > 0);
        for (uint32_t at = 0; at < x.r.len;) {
            const uint8_t *b = buf + at;
            struct batch_info info;
            assert_int_equal(batch_verify(b, x.r.len - at, &info), 0);
            if (next == off.log_start && info.base_offset < next)
                next = info.base_offset; /* DeleteRecords into the middle of a batch */
            assert_int_equal(info.base_offset, next);
            if (info.base_offset >= off.log_start)
                txns_look(&txns, b, &info);
            struct offer *o = offer_of(m, part, b, &info);
            if (o == NULL) {
                next++;
                at += info.total_len;
                continue;
            }
            assert_false(seen[o->tag]);
            seen[o->tag] = 1;
            if (o->acked)
                assert_int_equal(o->base, next);
            o->found = true;
            o->base = next;
            next += info.last_offset_delta + 1;
            at += info.total_len;
        }
    }
    verify_txns(e, part, &txns);
}

static void verify(struct model *m)
{
    uint8_t *seen = calloc(1, OFFERED_MAX + 1);
    for (uint32_t i = 0; i < PARTS; i++)
        if (m->e.parts[i] != NULL)
            (i < KEYED_FROM ? verify_part : verify_keyed)(m, i, seen);
    for (uint32_t i = 0; i < m->cnt; i++) {
        struct plog_offsets off;
        if (m->o[i].part >= KEYED_FROM)
            continue;
        plog_offsets_get(m->e.parts[m->o[i].part], &off);
        if (m->o[i].acked && !seen[m->o[i].tag] && m->o[i].base + m->o[i].cnt > off.log_start)
            fail_msg("batch %" PRIu64 " (partition %" PRIu32 ", offset %" PRId64 ", %" PRIu32
                     " bytes) was acknowledged and is gone",
                     m->o[i].tag, m->o[i].part, m->o[i].base, m->o[i].len);
    }
    free(seen);
}

static void answer_lost(struct model *m)
{
    for (uint32_t i = 0; i < m->cnt; i++) { /* their connection is gone: nobody was answered */
        struct offer *o = &m->o[i];
        o->in_flight = false;
        if (o->lane != NULL)
            continue;
        free(o->bytes);
        o->bytes = NULL;
    }
    for (uint32_t i = 0; i < PRODUCERS * PARTS; i++) {
        struct lane *l = &m->lanes[i / PARTS][i % PARTS];
        l->in_flight = 0;
        l->again = l->cnt > 0;
        l->look = l->looked = false;
    }
}

static void run_until(struct model *m, uint32_t steps)
{
    struct env *e = &m->e;
    for (uint32_t i = 0; i < steps && !fake_disk_is_dead(e->disk); i++) {
        for (uint64_t n = env_rnd(e, 6); n > 0; n--)
            offer_one(m);
        if (env_rnd(e, 30) == 0)
            shorten_one(m);
        if (env_rnd(e, 20) == 0)
            end_one(m);
        lanes_again(m);
        model_step(m, (uint32_t)env_rnd(e, 8),
                   env_rnd(e, 10) == 0 ? 60000000 : env_rnd(e, 3000000));
        if (env_rnd(e, 60) == 0)
            model_step(m, 8, 1500000000); /* drain, idle close, checkpoints */
    }
}

/* Whoever offers again until it is acknowledged gets through in the end. */
static void run_until_acked(struct model *m)
{
    bool open = true;
    for (int i = 0; open && i < 20000; i++) {
        open = false;
        lanes_again(m);
        model_step(m, 1000, 1000000);
        for (uint32_t k = 0; k < PRODUCERS * PARTS; k++)
            open |= m->lanes[k / PARTS][k % PARTS].cnt > 0;
    }
    assert_false(open);
}

static bool verbose; /* SLUICE_TEST_LOG: print what recovery says */

static void say(void *arg, const char *text)
{
    (void)arg;
    printf("  %s\n", text);
}

static void one_seed(uint64_t seed)
{
    static struct model m; /* large */
    m = (struct model){0};
    struct env *e = &m.e;
    m.o = calloc(OFFERED_MAX, sizeof(*m.o));
    env_init(e, seed);
    if (verbose) {
        log_set_level(LOG_LEVEL_INFO);
        e->say = say;
    }
    e->sc.staging_bytes = (2u + (uint32_t)env_rnd(e, 4)) << 20;
    e->sc.journal_threshold_bytes = env_rnd(e, 2) ? 64u << 10 : 16u << 10;
    e->sc.reserve_bytes = env_rnd(e, 3) ? 64u << 10 : 0;
    e->keyed_from = KEYED_FROM;
    model_open(&m);
    assert_int_equal(env_create_parts(e, PARTS), 0);
    for (int life = 0; life < 4; life++) {
        uint64_t at = fake_disk_ops(e->disk) + 1 + env_rnd(e, 400);
        bool clean = env_rnd(e, 4) == 0;
        if (verbose)
            printf("life %d, %s, ends at operation %" PRIu64 "\n", life, clean ? "clean" : "cut",
                   at);
        if (!clean)
            fake_disk_die_at(e->disk, at);
        if (clean ? env_rnd(e, 2) == 0 : env_rnd(e, 3) == 0) /* before that one failure */
            fake_disk_fail_at(e->disk, at - env_rnd(e, at - fake_disk_ops(e->disk)),
                              env_rnd(e, 2) ? -EIO : -ENOSPC);
        run_until(&m, clean ? 60 : 4000);
        compaction_end(&m);
        if (clean && !fake_disk_is_dead(e->disk)) {
            env_settle(e);
            int rc = env_close(e);
            assert_true(rc <= 0);
            answer_lost(&m);
        } else {
            env_abandon(e);
            answer_lost(&m);
            fake_disk_power_cut(e->disk);
        }
        fake_disk_fail_at(e->disk, UINT64_MAX, 0); /* if it was not reached */
        if (env_rnd(e, 5) == 0) {                  /* power fails again during recovery */
            fake_disk_die_at(e->disk, fake_disk_ops(e->disk) + env_rnd(e, 60));
            if (env_open(e) == 0)
                env_abandon(e);
            fake_disk_power_cut(e->disk);
        }
        model_open(&m);
        verify(&m);
    }
    run_until_acked(&m);
    compaction_end(&m);
    env_settle(e);
    assert_int_equal(env_close(e), 0);
    model_open(&m);
    assert_int_equal(e->rep.cnt[RC_SCANNED], 0);
    verify(&m);
    compaction_end(&m);
    assert_int_equal(env_close(e), 0);
    answer_lost(&m);
    env_fini(e);
    free(m.o);
}

static uint64_t seeds = 200, first_seed = 1;

static void every_acknowledged_batch_survives_a_power_cut_at_any_operation(void **state)
{
    (void)state;
    if (getenv("SLUICE_TEST_LOG") != NULL)
        verbose = true;
    for (uint64_t s = first_seed; s < first_seed + seeds; s++) {
        print_message("seed %" PRIu64 "\n", s);
        one_seed(s);
    }
    print_message("%" PRIu64 " aborted transactions compared, %" PRIu64 " segments compacted\n",
                  aborted_told, swaps);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seeds = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_acknowledged_batch_survives_a_power_cut_at_any_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
