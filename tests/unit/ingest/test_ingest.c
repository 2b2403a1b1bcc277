/* test_ingest.c - datagrams and streams into a fake log: the ledgers balance after every step, and
 * what the log says durable is what was sent.
 *
 * The log, the rings and the metadata image are replaced here: appends queue up and are answered
 * when the test says so, with success or refusal; MSG_SEALED goes to a second shard the same way.
 */
#include "dataplane/counters.h"
#include "dataplane/ingest/auto.h"
#include "dataplane/ingest/ingest_int.h"
#include "dataplane/ingest/sealer.h"
#include "dataplane/shard/owner_map.h"
#include "dataplane/store/plog.h"
#include "accel/accel.h"
#include "lib/batch/check.h"
#include "lib/iface/stats_shm.h"
#include "lib/meta/config_keys.h"
#include "tests/support/test.h"

/* ---- the fake log */
enum { APPENDS_MAX = 1024, PARTITIONS_MAX = 8, SEEN_MAX = 40000 };
struct plog {
    struct uuid topic_id;
    int32_t partition;
};
static struct plog plogs[2][16]; /* by shard: 0 and 1 */
static uint32_t plog_cnt[2];
static struct plog_append *queued[APPENDS_MAX];
static uint32_t queued_cnt;
static bool log_copies; /* the fake log takes a copy inside plog_append, as the real one does */
static struct msg *sent[APPENDS_MAX], *replied[APPENDS_MAX];
static uint32_t sent_cnt, replied_cnt;
static struct msg *asked[SEAL_ELSEWHERE_MAX]; /* to seal a batch; the other shard has not yet */
static uint32_t asked_cnt;

static uint8_t scratch[4 << 20];
static uint32_t durable_cnt, dead_cnt; /* records in successful appends */
static uint32_t seen_cnt;
static struct {
    int32_t partition;
    char source[48];
    uint64_t seq;
} seen[SEEN_MAX];
static struct uuid main_id = {{1}}, dead_id = {{2}};

struct plog *plog_set_find(struct plog_set *set, const struct uuid *id, int32_t partition)
{
    uint32_t s = (uint32_t)(uintptr_t)set - 1;
    for (uint32_t i = 0; i < plog_cnt[s]; i++)
        if (uuid_eq(&plogs[s][i].topic_id, id) && plogs[s][i].partition == partition)
            return &plogs[s][i];
    return NULL;
}
void plog_append(struct plog *p, struct plog_append *a)
{
    assert_int_equal(p->partition, a->partition);
    assert_true(queued_cnt < APPENDS_MAX);
    queued[queued_cnt++] = a;
    a->is_copied = log_copies;
    if (log_copies) {
        uint8_t *copy = malloc(a->batch.len);
        assert_non_null(copy);
        memcpy(copy, a->batch.p, a->batch.len);
        a->batch.p = copy;
    }
}
void mbox_send(struct mbox *mb, uint16_t to, struct msg *m)
{
    (void)mb;
    assert_int_equal(to, 1);
    if (m->type == MSG_SEAL) {
        assert_true(asked_cnt < SEAL_ELSEWHERE_MAX);
        asked[asked_cnt++] = m;
        return;
    }
    assert_int_equal(m->type, MSG_SEALED);
    assert_true(sent_cnt < APPENDS_MAX);
    sent[sent_cnt++] = m;
}
void msg_reply(struct mbox *mb, struct msg *m, int rc)
{
    (void)mb;
    m->rc = rc;
    replied[replied_cnt++] = m;
}

/* ---- the fake image */
static struct meta_topic topics[2];
static bool has_topic[2];
static const char *compression;
const struct meta_topic *image_topic_by_name(const struct meta_image *img, struct span name)
{
    (void)img;
    for (int i = 0; i < 2; i++)
        if (has_topic[i] && span_eq_str(name, topics[i].name))
            return &topics[i];
    return NULL;
}
const char *meta_topic_config(const struct meta_topic *t, const char *key)
{
    (void)t;
    return strcmp(key, "compression.type") == 0 ? compression : NULL;
}
const char *config_of_topic(const struct meta_image *img, const struct meta_topic *t,
                            const char *key, enum config_source *ret)
{
    (void)img, (void)ret;
    return meta_topic_config(t, key);
}

/* ---- the shard under test */
static struct conf conf;
static struct shard shard[2];
static struct counters *counters;
static struct meta_image images[2];
static struct owner_map *owners;
static struct ingest *in;
static struct codec_ctx *codecs;
static uint64_t sent_records; /* what the test gave to ingest */

static void owners_set(uint32_t partitions, uint16_t first_owner)
{
    uint8_t of[PARTITIONS_MAX];
    owner_map_destroy(owners);
    assert_ok(owner_map_create(2, &owners));
    plog_cnt[0] = plog_cnt[1] = 0;
    for (uint32_t i = 0; i < partitions; i++) {
        of[i] = (uint8_t)(first_owner == 0 && i % 3 == 2 ? 1 : first_owner);
        plogs[of[i]][plog_cnt[of[i]]++] = (struct plog){main_id, (int32_t)i};
    }
    assert_ok(owner_map_add(owners, &main_id, of, partitions));
    assert_ok(owner_map_add(owners, &dead_id, of, 1));
    plogs[of[0]][plog_cnt[of[0]]++] = (struct plog){dead_id, 0};
    topics[0].id = main_id;
    strcpy(topics[0].name, "events");
    topics[0].partition_cnt = partitions;
    topics[1].id = dead_id;
    strcpy(topics[1].name, "events.dlq");
    topics[1].partition_cnt = 1;
    shard[0].owners = owners;
    shard[0].image = shard[0].image == &images[0] ? &images[1] : &images[0];
}

static int setup(void **state)
{
    (void)state;
    memset(&conf, 0, sizeof(conf));
    memset(shard, 0, sizeof(shard));
    conf.listener_cnt = 2;
    for (int i = 0; i < 2; i++) {
        struct conf_listener *l = &conf.listeners[i];
        snprintf(l->name, sizeof(l->name), "l%d", i);
        strcpy(l->topic, "events");
        l->transport = i == 0 ? CONF_UDP : CONF_TCP;
        l->event_bytes_max = 1000;
        l->header_mask = ~0u;
        l->connections_max = 4;
    }
    conf.batch_bytes = 8192;
    conf.linger_ms = 5;
    conf.listener_compression = CONF_COMP_AUTO;
    compression = NULL;
    has_topic[0] = has_topic[1] = true;
    log_copies = false;
    queued_cnt = sent_cnt = replied_cnt = durable_cnt = dead_cnt = seen_cnt = 0;
    sent_records = 0;
    accel_init(false);
    assert_ok(codec_ctx_create(&codecs));
    counters = calloc(1, sizeof(*counters));
    for (uint16_t i = 0; i < 2; i++) {
        shard[i].id = i;
        shard[i].cnt = 2;
        shard[i].conf = &conf;
        shard[i].codecs = codecs;
        shard[i].plogs = (struct plog_set *)(uintptr_t)(i + 1);
        shard[i].wall_ms = 1760000000000;
        shard[i].now_ns = 1;
    }
    shard[0].counters = counters;
    owners_set(4, 0);
    shard[0].cnt = 1; /* nobody helps with sealing */
    assert_ok(ingest_create(&shard[0], &conf, &in));
    shard[0].ingest = in;
    asked_cnt = 0;
    return 0;
}

/* Reads one answered batch like a consumer. */
static void consume(const struct plog_append *a)
{
    struct record_iter it;
    struct record_view v;
    struct batch_info info;
    assert_ok(batch_verify(a->batch.p, a->batch.len, &info));
    assert_ok(record_iter_init(&it, codecs, a->batch, scratch, sizeof(scratch)));
    int rc;
    while ((rc = record_iter_next(&it, &v)) == 1) {
        struct span h = v.headers, key, val, source = SPAN_NULL, reason = SPAN_NULL;
        while (record_header_next(&h, &key, &val) == 1) {
            if (span_eq_str(key, "source"))
                source = val;
            if (span_eq_str(key, "reason"))
                reason = val;
        }
        assert_non_null(source.p);
        if (uuid_eq(&a->topic_id, &dead_id)) {
            assert_non_null(reason.p);
            dead_cnt++;
            continue;
        }
        durable_cnt++;
        const char *seq = memmem(v.value.p, v.value.len, "seq=", 4);
        assert_non_null(seq);
        assert_true(seen_cnt < SEEN_MAX);
        seen[seen_cnt].partition = a->partition;
        memcpy(seen[seen_cnt].source, source.p, source.len);
        seen[seen_cnt].source[source.len] = '\0';
        seen[seen_cnt++].seq = strtoull(seq + 4, NULL, 10);
    }
    assert_int_equal(rc, 0);
}

/* The rings deliver everything, the log answers `cnt` of what is queued. */
static void answer(uint32_t cnt, int rc)
{
    for (uint32_t i = 0; i < sent_cnt; i++)
        ingest_on_sealed(&shard[1], sent[i]);
    sent_cnt = 0;
    cnt = cnt < queued_cnt ? cnt : queued_cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        queued[i]->rc = rc;
        if (rc == 0)
            consume(queued[i]);
        if (queued[i]->is_copied)
            free((void *)(uintptr_t)queued[i]->batch.p);
        queued[i]->done(queued[i]);
    }
    memmove(queued, queued + cnt, (queued_cnt - cnt) * sizeof(queued[0]));
    queued_cnt -= cnt;
    for (uint32_t i = 0; i < replied_cnt; i++)
        ingest_on_sealed_reply(&shard[0], replied[i]);
    replied_cnt = 0;
}

static void check_ledger(void)
{
    char err[128] = "";
    if (stats_check(counters, 0, 2, err, sizeof(err)) != 0)
        fail_msg("%s", err);
    assert_int_equal(counters->listener[0].received + counters->listener[1].received, sent_records);
}
static uint64_t events(size_t word)
{
    return ((uint64_t *)&counters->events[0])[word] + ((uint64_t *)&counters->events[1])[word];
}
#define EVENTS(field) events(offsetof(struct event_stats, field) / 8)

static void run_dry(void)
{
    for (int i = 0; i < 20; i++) {
        shard[0].now_ns += 10000000;
        (void)ingest_poll(in, 1000);
        answer(APPENDS_MAX, 0);
        check_ledger();
    }
}

static int teardown(void **state)
{
    (void)state;
    ingest_stop(in);
    answer(APPENDS_MAX, 0);
    answer(APPENDS_MAX, 0);
    assert_true(ingest_is_idle(in));
    assert_int_equal(EVENTS(in_flight), 0);
    check_ledger();
    ingest_destroy(in);
    owner_map_destroy(owners);
    owners = NULL;
    codec_ctx_destroy(codecs);
    free(counters);
    return 0;
}

static struct net_addr peer(uint32_t i)
{
    return net_addr_v4((const uint8_t[]){10, 0, (uint8_t)(i >> 8), (uint8_t)i}, 1234);
}

static void send_one(uint32_t source, const char *text)
{
    struct dgram d = {span_str(text), peer(source), shard[0].wall_ms, false};
    assert_int_equal(ingest_dgrams(in, 0, &d, 1), 1);
    sent_records++;
    check_ledger();
}

static void linger_and_size_close_a_batch(void **state)
{
    (void)state;
    send_one(1, "<13>1 2025-10-09T08:53:21Z h a p m - seq=1");
    assert_int_equal(ingest_poll(in, 16), 0);
    shard[0].now_ns += 4999999;
    assert_int_equal(ingest_poll(in, 16), 0);
    assert_int_equal(queued_cnt + sent_cnt, 0);
    shard[0].now_ns += 1;
    assert_int_equal(ingest_poll(in, 16), 1);
    assert_int_equal(queued_cnt, 1);
    assert_int_equal(EVENTS(in_flight), 1);
    answer(1, 0);
    check_ledger();
    assert_int_equal(EVENTS(durable), 1);
    assert_int_equal(EVENTS(in_flight), 0);
    for (int i = 0; queued_cnt == 0; i++) {
        char text[200];
        snprintf(text, sizeof(text), "<13>1 - h a p m - %0100d seq=1", i);
        send_one(1, text);
        assert_true(i < 100);
    }
}

static void what_has_no_pri_goes_to_the_dead_letter_topic(void **state)
{
    (void)state;
    send_one(1, "no pri seq=1");
    run_dry();
    assert_int_equal(dead_cnt, 1);
    assert_int_equal(EVENTS(dead_lettered_durable), 1);
    assert_int_equal(EVENTS(durable), 0);
}

static void a_missing_topic_is_a_named_drop_and_control_can_see_it(void **state)
{
    (void)state;
    has_topic[1] = false;
    shard[0].image = &images[1];
    send_one(1, "no pri");
    assert_true(ingest_missing(in) == UINT64_C(3) << 32);
    assert_int_equal(EVENTS(drop[EDROP_no_dlq_topic]), 1);
    has_topic[0] = false;
    shard[0].image = &images[0];
    send_one(1, "<13>seq=1");
    assert_int_equal(EVENTS(drop[EDROP_no_topic]), 1);
    assert_true(ingest_missing(in) == (UINT64_C(3) << 32 | 3));
    has_topic[0] = has_topic[1] = true;
    shard[0].image = &images[1];
    (void)ingest_poll(in, 1);
    assert_true(ingest_missing(in) == 0);
}

static void a_topic_that_changes_closes_its_batches_first(void **state)
{
    (void)state;
    send_one(1, "<13>seq=1");
    assert_int_equal(queued_cnt, 0);
    shard[0].image = shard[0].image == &images[0] ? &images[1] : &images[0];
    send_one(1, "<13>seq=2"); /* another image, the same topic: the batch stays open */
    assert_int_equal(queued_cnt, 0);
    owners_set(8, 0);
    (void)ingest_poll(in, 1);
    assert_int_equal(queued_cnt, 1);
    answer(1, 0);
    assert_int_equal(durable_cnt, 2);
}

/* Each reason so many times, found so many times, and no other. */
static void what_cannot_be_stored_is_counted_by_its_reason(void **state)
{
    (void)state;
    static char big[20000];
    uint64_t want[EDROP_CNT] = {[EDROP_no_topic] = 3,
                                [EDROP_no_dlq_topic] = 4,
                                [EDROP_too_large] = 5,
                                [EDROP_seal_failed] = 6};
    memset(big, 'x', sizeof(big) - 1);
    memcpy(big, "<13>seq=7 ", 10);
    in->listener[0].parse.event_bytes_max = sizeof(big); /* more than its batches were made for */
    for (uint64_t i = 0; i < want[EDROP_too_large]; i++)
        send_one(1, big);
    run_dry();
    for (uint32_t i = 0; i < in->listener[0].route[0].cnt; i++)
        in->listener[0].route[0].target[i].codec = CODEC_CNT; /* a codec that there is not */
    for (uint64_t i = 0; i < want[EDROP_seal_failed]; i++)
        send_one(1, "<13>seq=1");
    run_dry();
    has_topic[0] = has_topic[1] = false;
    shard[0].image = shard[0].image == &images[0] ? &images[1] : &images[0];
    for (uint64_t i = 0; i < want[EDROP_no_topic]; i++)
        send_one(1, "<13>seq=1");
    for (uint64_t i = 0; i < want[EDROP_no_dlq_topic]; i++)
        send_one(1, "no priority");
    run_dry();
    for (uint32_t why = 0; why < EDROP_CNT; why++)
        assert_int_equal(counters->events[0].drop[why], want[why]);
    assert_int_equal(EVENTS(durable), 0);
}

/* The log answers nothing: every event above what the buffers hold is a drop, and no other. */
static void what_finds_no_buffer_is_counted_to_the_event(void **state)
{
    (void)state;
    uint32_t taken = 0;
    owners_set(1, 0);
    while (EVENTS(drop[EDROP_no_buffer]) == 0 && taken < 100) {
        send_one(1, "<13>seq=1");
        shard[0].now_ns += 2000000000; /* each closes the one before */
        (void)ingest_poll(in, 16);
        taken++;
    }
    assert_int_equal(taken, ACCUM_BATCHES_MIN + 1);
    for (int i = 0; i < 12; i++)
        send_one(1, "<13>seq=1");
    assert_int_equal(EVENTS(drop[EDROP_no_buffer]), 13);
    run_dry();
    assert_int_equal(EVENTS(durable), ACCUM_BATCHES_MIN);
    assert_int_equal(EVENTS(drop[EDROP_no_buffer]), 13);
    /* those that the receiving side lost and knows of */
    ingest_dgrams_lost(in, 0, DDROP_policed, 21);
    ingest_dgrams_lost(in, 0, DDROP_handoff_full, 5);
    sent_records += 26;
    check_ledger();
    assert_int_equal(counters->listener[0].drop[DDROP_policed], 21);
    assert_int_equal(counters->listener[0].drop[DDROP_handoff_full], 5);
}

static void refusals_and_lost_partitions_are_named_drops(void **state)
{
    (void)state;
    send_one(1, "<13>seq=1");
    shard[0].now_ns += 10000000;
    (void)ingest_poll(in, 16);
    answer(1, -E_STORAGE);
    check_ledger();
    assert_int_equal(EVENTS(drop[EDROP_store_refused]), 1);
    send_one(1, "<13>seq=2");
    plog_cnt[0] = 0;
    shard[0].now_ns += 10000000;
    (void)ingest_poll(in, 16);
    check_ledger();
    assert_int_equal(EVENTS(drop[EDROP_no_partition]), 1);
}

static void without_own_partitions_batches_go_to_their_owner(void **state)
{
    (void)state;
    owners_set(4, 1);
    for (uint32_t i = 0; i < 40; i++) {
        char text[64];
        snprintf(text, sizeof(text), "<13>seq=%u", i);
        send_one(i, text);
    }
    shard[0].now_ns += 10000000;
    (void)ingest_poll(in, 16);
    assert_int_equal(queued_cnt, 0);
    assert_int_equal(sent_cnt, 4);
    answer(APPENDS_MAX, 0);
    check_ledger();
    assert_int_equal(durable_cnt, 40);
    for (uint32_t i = 0; i < seen_cnt; i++) {
        struct net_addr p = peer((uint32_t)seen[i].seq);
        assert_int_equal(seen[i].partition, source_hash(&p) % 4);
    }
    assert_int_equal(counters->shard.ingest_remote, 4);
    send_one(1, "<13>seq=1");
    plog_cnt[1] = 0; /* the owner has closed it meanwhile */
    shard[0].now_ns += 10000000;
    (void)ingest_poll(in, 16);
    answer(APPENDS_MAX, 0);
    check_ledger();
    assert_int_equal(EVENTS(drop[EDROP_no_partition]), 1);
}

static void an_event_larger_than_the_pool_allows_is_cut_not_lost(void **state)
{
    (void)state;
    static char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    memcpy(big, "<13>seq=7 ", 10);
    send_one(1, big);
    run_dry();
    assert_int_equal(durable_cnt, 1);
    assert_int_equal(counters->listener[0].truncated, 1);
}

static void listeners_choose_fewer_headers_but_dead_letters_keep_theirs(void **state)
{
    (void)state;
    in->listener[0].header_mask = 1u << RH_HOST;
    struct dgram d[2] = {{span_str("<13>1 - h a p m - x"), peer(1), 0, false},
                         {span_str("x"), peer(1), 0, false}};
    assert_int_equal(ingest_burst(in, 0, d, NULL, 2, false), 2);
    sent_records += 2;
    assert_non_null(in->rec[0].header[RH_HOST].p);
    assert_null(in->rec[0].header[RH_SOURCE].p);
    assert_null(in->rec[0].header[RH_FACILITY].p);
    assert_true(span_eq_str(in->rec[1].header[RH_SOURCE], "10.0.0.1"));
    assert_non_null(in->rec[1].header[RH_REASON].p);
    assert_non_null(in->rec[1].header[RH_LISTENER].p);
    for (uint32_t i = 0; i < 1; i++) { /* not consumable: the records have no source */
        shard[0].now_ns += 10000000;
        (void)ingest_poll(in, 16);
        for (uint32_t k = 0; k < queued_cnt; k++)
            queued[k]->done(queued[k]);
        queued_cnt = 0;
    }
}

static void stopping_drops_datagrams_by_name_and_ends_idle(void **state)
{
    (void)state;
    send_one(1, "<13>seq=1");
    ingest_stop(in);
    send_one(1, "<13>seq=2");
    assert_int_equal(counters->listener[0].drop[DDROP_stopping], 1);
    assert_false(ingest_is_idle(in));
    struct net_addr p = peer(1);
    assert_null(ingest_stream_open(in, 1, &p));
    answer(APPENDS_MAX, 0);
    assert_true(ingest_is_idle(in));
}

/* Per source: strictly increasing, one partition. */
static void check_order(void)
{
    static struct {
        char source[48];
        int32_t partition;
        uint64_t seq;
    } last[64];
    uint32_t n = 0;
    for (uint32_t i = 0; i < seen_cnt; i++) {
        uint32_t k = 0;
        while (k < n && strcmp(last[k].source, seen[i].source) != 0)
            k++;
        if (k == n) {
            assert_true(n < 64);
            strcpy(last[n++].source, seen[i].source);
        } else {
            assert_int_equal(last[k].partition, seen[i].partition);
            assert_true(last[k].seq < seen[i].seq);
        }
        last[k].partition = seen[i].partition;
        last[k].seq = seen[i].seq;
    }
}

static uint32_t event_text(struct test_rng *r, uint64_t seq, char *buf)
{
    switch (rng_below(r, 20)) {
    case 0:
        return (uint32_t)sprintf(buf, "malformed seq=%lu", (unsigned long)seq);
    case 1: {
        int n = sprintf(buf, "<13>1 - h a p m - seq=%lu ", (unsigned long)seq);
        memset(buf + n, 'y', 1200);
        return (uint32_t)n + 1200;
    }
    default:
        return (uint32_t)sprintf(buf,
                                 "<%u>1 2025-10-09T08:53:21.%03uZ host app %u m - seq=%lu %0*d",
                                 (unsigned)rng_below(r, 192), (unsigned)rng_below(r, 1000), 7,
                                 (unsigned long)seq, 1 + (int)rng_below(r, 200), 0);
    }
}

/* Random traffic, answers, refusals and an exhausted pool: the equations hold after every step. */
static void ledgers_balance_after_every_step(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(21)};
    static char text[64][1500];
    uint64_t seq = 0;
    for (int step = 0; step < 4000; step++) {
        struct dgram d[64];
        uint32_t n = (uint32_t)rng_below(&r, 65);
        switch (rng_below(&r, 6)) {
        case 0:
        case 1:
        case 2:
            for (uint32_t i = 0; i < n; i++)
                d[i] = (struct dgram){span_of(text[i], event_text(&r, ++seq, text[i])),
                                      peer((uint32_t)rng_below(&r, 32)), shard[0].wall_ms, false};
            assert_int_equal(ingest_dgrams(in, 0, d, n), n);
            sent_records += n;
            break;
        case 3:
            shard[0].now_ns += rng_below(&r, 8000000);
            (void)ingest_poll(in, 16);
            break;
        case 4:
            answer((uint32_t)rng_below(&r, 4), rng_below(&r, 10) == 0 ? -E_READ_ONLY : 0);
            break;
        default:
            ingest_dgrams_lost(in, 0, DDROP_handoff_full, n);
            sent_records += n;
        }
        check_ledger();
        assert_int_equal(durable_cnt, EVENTS(durable));
        assert_int_equal(dead_cnt, EVENTS(dead_lettered_durable));
    }
    run_dry();
    assert_int_equal(EVENTS(in_flight), 0);
    assert_true(EVENTS(drop[EDROP_no_buffer]) > 0);
    assert_true(EVENTS(drop[EDROP_store_refused]) > 0);
    assert_true(EVENTS(durable) > 1000);
    assert_true(counters->listener[0].truncated > 0);
    check_order();
}

static void dgrams_put(struct test_rng *r, uint64_t *seq, uint32_t n)
{
    static char text[64][1500];
    struct dgram d[64];
    for (uint32_t i = 0; i < n; i++)
        d[i] = (struct dgram){span_of(text[i], event_text(r, ++*seq, text[i])),
                              peer((uint32_t)rng_below(r, 32)), shard[0].wall_ms, false};
    assert_int_equal(ingest_dgrams(in, 0, d, n), n);
    sent_records += n;
}

/* Buffers come back with the log's copy, not with the disk's answer; the ledger goes on counting
 * the events as in flight until then. */
static void batches_that_wait_for_the_disk_hold_no_buffer(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(23)};
    uint64_t seq = 0;
    owners_set(1, 0);
    log_copies = true;
    uint32_t buffers = accum_free_cnt(in->accum);
    while (queued_cnt < 2 * buffers && queued_cnt < APPENDS_MAX - 64) {
        assert_true(ingest_has_room(in, 1));
        dgrams_put(&r, &seq, 8);
    }
    assert_int_equal(EVENTS(drop[EDROP_no_buffer]), 0);
    assert_true(EVENTS(in_flight) > 0);
    assert_int_equal(EVENTS(durable), 0);
    check_ledger();
    run_dry();
    assert_int_equal(EVENTS(in_flight), 0);
    assert_int_equal(EVENTS(durable) + EVENTS(dead_lettered_durable), seq);
    check_order();
}

/* Who asks before every burst, and waits when told to, loses nothing however slow the log is. */
static void who_waits_for_room_loses_nothing(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(24)};
    uint64_t seq = 0;
    uint32_t waited = 0;
    owners_set(1, 0); /* two targets: a burst opens few batches */
    for (int i = 0; i < 2000; i++) {
        if (ingest_has_room(in, 4)) {
            dgrams_put(&r, &seq, 4);
            continue;
        }
        waited++;
        answer(1, 0);
        check_ledger();
    }
    assert_true(waited > 0);
    assert_int_equal(EVENTS(drop[EDROP_no_buffer]), 0);
    run_dry();
    assert_int_equal(EVENTS(durable) + EVENTS(dead_lettered_durable), seq);
}

/* Streams lose nothing, whatever the pool does. */
static void streams_are_lossless_when_the_pool_runs_out(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(22)};
    static char stream[3][200000];
    uint32_t len[3], at[3] = {0, 0, 0};
    struct ingest_stream *st[3];
    uint64_t want = 0, seq = 0;
    for (int i = 0; i < 3; i++) {
        struct net_addr p = peer((uint32_t)i);
        st[i] = ingest_stream_open(in, 1, &p);
        assert_non_null(st[i]);
        for (len[i] = 0; len[i] < 190000; want++) {
            char text[1500];
            uint32_t n;
            do
                n = event_text(&r, seq + 1, text);
            while (text[0] != '<');
            seq++;
            if (rng_below(&r, 2)) {
                len[i] += (uint32_t)sprintf(stream[i] + len[i], "%u ", n);
                memcpy(stream[i] + len[i], text, n);
                len[i] += n;
            } else {
                memcpy(stream[i] + len[i], text, n);
                len[i] += n;
                stream[i][len[i]++] = '\n';
            }
        }
    }
    struct net_addr p = peer(9);
    struct ingest_stream *fourth = ingest_stream_open(in, 1, &p);
    assert_null(ingest_stream_open(in, 1, &p)); /* connections_max is 4 */
    assert_int_equal(counters->listener[1].conn_refused, 1);
    ingest_stream_close(fourth);
    for (int step = 0; at[0] < len[0] || at[1] < len[1] || at[2] < len[2]; step++) {
        uint32_t i = (uint32_t)rng_below(&r, 3);
        uint32_t chunk = (uint32_t)rng_below(&r, 20000);
        chunk = chunk < len[i] - at[i] ? chunk : len[i] - at[i];
        at[i] += ingest_stream_bytes(st[i], span_of(stream[i] + at[i], chunk));
        sent_records = counters->listener[1].received;
        check_ledger();
        if (rng_below(&r, 3) == 0) {
            shard[0].now_ns += 6000000;
            (void)ingest_poll(in, 16);
            answer((uint32_t)rng_below(&r, 3), 0);
        }
        assert_true(step < 100000);
    }
    run_dry();
    for (int i = 0; i < 3; i++) {
        assert_true(ingest_stream_finish(st[i]));
        ingest_stream_close(st[i]);
    }
    run_dry();
    assert_int_equal(durable_cnt, want);
    assert_true(counters->listener[1].stream_waits > 0);
    assert_int_equal(counters->listener[1].connections, 0);
    assert_int_equal(EVENTS(drop[EDROP_no_buffer]), 0);
    check_order();
}

/* The buffers that are free, at the rate of the last second, or of the last one that sealed
 * anything while the log is behind. */
static void time_to_overflow_is_what_is_free_by_the_last_rate(void **state)
{
    (void)state;
    const uint64_t *gauge = &counters->shard.ingest_overflow_ms;
    owners_set(1, 0);
    ingest_rate(in);
    assert_int_equal(*gauge, INGEST_OVERFLOW_MS_MAX); /* nothing comes */
    for (uint32_t taken = 1; taken <= ACCUM_BATCHES_MIN; taken++) {
        uint64_t before = counters->shard.ingest_raw_bytes;
        send_one(1, "<13>1 - h a p m - the log takes none of it seq=1");
        shard[0].now_ns += 1000000000;
        (void)ingest_poll(in, 16);
        shard[0].now_ns += 1000000000;
        (void)ingest_poll(in, 16);
        uint64_t bytes = counters->shard.ingest_raw_bytes - before;
        assert_true(bytes > 50);
        ingest_rate(in);
        uint64_t free_bytes = (uint64_t)(ACCUM_BATCHES_MIN - taken) * conf.batch_bytes;
        assert_int_equal(*gauge, free_bytes * 2000 / bytes);
    }
    assert_int_equal(*gauge, 0);
    shard[0].now_ns += 1000000000;
    ingest_rate(in);
    assert_int_equal(*gauge, 0); /* nothing is sealed because nothing can be */
    run_dry();
    shard[0].now_ns += 1000000000;
    ingest_rate(in);
    assert_int_equal(*gauge, INGEST_OVERFLOW_MS_MAX);
}

/* An event that waits for a buffer is routed again, and counted once. */
static void a_rule_counts_each_of_its_events_once(void **state)
{
    (void)state;
    struct net_addr p = peer(1);
    uint32_t rounds = 0;
    ingest_destroy(in);
    conf.rule_cnt = 2;
    conf.rules[0].severities = 1u << 3;
    for (int i = 0; i < 2; i++)
        strcpy(conf.rules[i].topic, "events");
    assert_ok(ingest_create(&shard[0], &conf, &in));
    owners_set(1, 0);
    struct ingest_stream *st = ingest_stream_open(in, 1, &p);
    assert_non_null(st);
    for (uint32_t i = 0; i < 2000; i++) {
        char line[200];
        int n = sprintf(line, "<%d>1 - h a p m - seq=%u %0100d\n", i % 4 == 0 ? 11 : 13, i, 0);
        while (ingest_stream_bytes(st, span_of(line, (uint32_t)n)) < (uint32_t)n) {
            (void)ingest_poll(in, 16);
            answer(1, 0);
            assert_true(rounds++ < 10000);
        }
    }
    sent_records = counters->listener[1].received;
    assert_true(counters->listener[1].stream_waits > 10);
    assert_int_equal(counters->shard.rule_events[0], 500);
    assert_int_equal(counters->shard.rule_events[1], 1500);
    ingest_stream_close(st);
    send_one(1, "no priority: a dead letter, whatever the rules say");
    assert_int_equal(counters->shard.rule_events[1], 1500);
    run_dry();
    assert_int_equal(EVENTS(durable), 2000);
}

/* However much a stream sends while the log stands still, datagrams find room. */
static void streams_leave_room_for_datagrams(void **state)
{
    (void)state;
    struct test_rng r = {test_seed(25)};
    struct net_addr p = peer(1);
    char line[200];
    uint64_t seq = 0, lines = 0;
    owners_set(1, 0);
    struct ingest_stream *st = ingest_stream_open(in, 1, &p);
    assert_non_null(st);
    for (bool took = true; took; lines += took) {
        int n = snprintf(line, sizeof(line), "<13>1 - h a p m - seq=%lu %0100d\n",
                         (unsigned long)++seq, 0);
        took = ingest_stream_bytes(st, span_of(line, (uint32_t)n)) == (uint32_t)n;
        assert_true(lines < 100000);
    }
    sent_records = counters->listener[1].received;
    assert_true(ingest_has_room(in, 4));
    while (ingest_has_room(in, 4))
        dgrams_put(&r, &seq, 4);
    assert_true(counters->listener[0].received > 20);
    assert_int_equal(EVENTS(drop[EDROP_no_buffer]), 0);
    check_ledger();
    run_dry();
    assert_int_equal(EVENTS(in_flight), 0);
    assert_int_equal(durable_cnt + dead_cnt, sent_records);
    ingest_stream_close(st);
}

/* A log that is behind is given full batches only; once it is not, linger counts again. */
static void a_log_that_is_behind_gets_full_batches(void **state)
{
    (void)state;
    owners_set(1, 0);
    log_copies = true;
    for (uint32_t i = 0; i < 40; i++) {
        send_one(1, "<13>seq=1");
        shard[0].now_ns += 10000000;
        (void)ingest_poll(in, 16);
    }
    uint32_t half = ACCUM_BATCHES_MIN * ACCUM_BATCHES_PER_BUFFER / 2;
    assert_int_equal(queued_cnt, half + 1);
    answer(1, 0);
    assert_int_equal(ingest_poll(in, 16), 1);
    assert_int_equal(queued_cnt, half + 1);
    run_dry();
    assert_int_equal(EVENTS(durable), 40);
}

static void the_topic_says_how_batches_are_compressed(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        uint16_t attr;
    } cases[] = {{NULL, 1},     {"uncompressed", 0}, {"producer", 0}, {"gzip", 1},
                 {"snappy", 2}, {"lz4", 3},          {"zstd", 4}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        compression = cases[c].type;
        shard[0].image = shard[0].image == &images[0] ? &images[1] : &images[0];
        for (int i = 0; i < 20; i++)
            send_one(1, "<13>1 - host app pid msgid - the same text again and again seq=1");
        shard[0].now_ns += 10000000;
        (void)ingest_poll(in, 16);
        assert_int_equal(queued_cnt, 1);
        struct batch_info info;
        assert_ok(batch_verify(queued[0]->batch.p, queued[0]->batch.len, &info));
        assert_int_equal(info.attributes & 7, cases[c].attr);
        assert_int_equal(info.record_cnt, 20);
        answer(1, 0);
        bool plain = cases[c].attr == 0;
        assert_true(EVENTS(raw_bytes) > 0);
        assert_true(plain ? EVENTS(sealed_bytes) == EVENTS(raw_bytes)
                          : EVENTS(sealed_bytes) < EVENTS(raw_bytes) / 2);
        assert_true(plain == (EVENTS(compress_ns) == 0));
        counters->events[0].raw_bytes = counters->events[0].sealed_bytes = 0;
        counters->events[0].compress_ns = 0;
    }
}

/* A turn that takes a full budget says that more wait: gzip asked for stays, auto gives way. */
static void auto_gives_way_while_events_wait(void **state)
{
    (void)state;
    static const char *const types[] = {NULL, "gzip"};
    for (int c = 0; c < 2; c++) {
        compression = types[c];
        shard[0].image = shard[0].image == &images[0] ? &images[1] : &images[0];
        shard[0].turns += 10;
        for (uint32_t i = 0; i < 2 * AUTO_BACKLOG && queued_cnt == 0; i++)
            send_one(1, "<13>1 - h a p m - seq=1");
        while (queued_cnt > 0)
            answer(1, 0);
        for (uint32_t i = 0; i < AUTO_BACKLOG; i++)
            send_one(2, "<13>1 - h a p m - seq=1");
        shard[0].now_ns += 10000000;
        counters->events[0].auto_plain_bytes = 0;
        (void)ingest_poll(in, 16);
        assert_true(queued_cnt > 0);
        struct batch_info info;
        const struct plog_append *last = queued[queued_cnt - 1];
        assert_ok(batch_verify(last->batch.p, last->batch.len, &info));
        assert_int_equal(info.attributes & 7, c);
        assert_true((EVENTS(auto_plain_bytes) > 0) == (c == 0));
        answer(APPENDS_MAX, 0);
    }
}

/* Another shard seals one of the batches it was asked for, or says no. */
static void help_with(uint32_t i, bool no)
{
    struct msg *m = asked[i];
    struct seal_job *j = container_of(m, struct seal_job, msg);
    asked[i] = asked[--asked_cnt];
    m->rc = no ? -EBUSY : 0;
    if (!no)
        j->rc = batch_seal(j->b, codecs, &j->opts, j->dst, j->dst_cap, &j->out);
    ingest_on_seal_reply(&shard[0], m);
}

static void batches_sealed_elsewhere_stay_in_order(void **state)
{
    struct test_rng rng = {test_seed(31)};
    shard[0].cnt = 2;
    compression = "gzip";
    uint64_t elsewhere = 0, next[8] = {0};
    for (uint32_t i = 0; i < 20000; i++) {
        char text[64];
        uint32_t source = (uint32_t)rng_below(&rng, 8);
        snprintf(text, sizeof(text), "<13>1 - h a p m - seq=%llu",
                 (unsigned long long)++next[source]);
        shard[0].turns += i % 1000 == 0;
        send_one(source, text);
        if (asked_cnt > 0 && rng_below(&rng, 200) == 0) {
            bool no = rng_below(&rng, 4) == 0;
            elsewhere += !no;
            help_with((uint32_t)rng_below(&rng, asked_cnt), no);
            check_ledger();
            shard[0].now_ns += SEAL_BACKOFF_NS;
        }
        if (rng_below(&rng, 20) == 0)
            answer((uint32_t)rng_below(&rng, 8), 0);
    }
    assert_int_equal(counters->shard.seals_elsewhere, elsewhere);
    assert_true(elsewhere > 20);
    ingest_stop(in);
    assert_false(ingest_is_idle(in));
    while (asked_cnt > 0)
        help_with(0, false);
    run_dry();
    assert_true(durable_cnt >
                5000); /* the others found no free batch: counted, as the ledger says */
    assert_int_equal(durable_cnt + EVENTS(drop[EDROP_no_buffer]), 20000);
    uint64_t last[8] = {0};
    for (uint32_t i = 0; i < seen_cnt; i++) {
        uint32_t source = (uint32_t)strtoul(strrchr(seen[i].source, '.') + 1, NULL, 10);
        assert_true(seen[i].seq > last[source]);
        last[source] = seen[i].seq;
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(linger_and_size_close_a_batch),
        T(what_has_no_pri_goes_to_the_dead_letter_topic),
        T(a_missing_topic_is_a_named_drop_and_control_can_see_it),
        T(a_topic_that_changes_closes_its_batches_first),
        T(what_finds_no_buffer_is_counted_to_the_event),
        T(refusals_and_lost_partitions_are_named_drops),
        T(without_own_partitions_batches_go_to_their_owner),
        T(what_cannot_be_stored_is_counted_by_its_reason),
        T(an_event_larger_than_the_pool_allows_is_cut_not_lost),
        T(listeners_choose_fewer_headers_but_dead_letters_keep_theirs),
        T(stopping_drops_datagrams_by_name_and_ends_idle),
        T(the_topic_says_how_batches_are_compressed),
        T(auto_gives_way_while_events_wait),
        T(batches_sealed_elsewhere_stay_in_order),
        T(ledgers_balance_after_every_step),
        T(batches_that_wait_for_the_disk_hold_no_buffer),
        T(time_to_overflow_is_what_is_free_by_the_last_rate),
        T(a_rule_counts_each_of_its_events_once),
        T(streams_leave_room_for_datagrams),
        T(a_log_that_is_behind_gets_full_batches),
        T(who_waits_for_room_loses_nothing),
        T(streams_are_lossless_when_the_pool_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
