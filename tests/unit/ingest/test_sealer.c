/* test_sealer.c - where batches are sealed: here, in a device, on another shard; what the table in
 * sealer.h says, and what happens when the others say no, fail, or say nothing. Rings and device
 * are the test's own. */
#include "accel/offload.h"
#include "dataplane/counters.h"
#include "dataplane/ingest/auto.h"
#include "dataplane/ingest/sealer.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "tests/support/test.h"

enum { BUF = 8192, JOBS = 32, SHARDS = 3 };
static struct shard shard[SHARDS];
static struct counters counters[SHARDS];
static struct sealer *z[SHARDS];
static struct seal_job job[JOBS];
static struct batch_builder builder[JOBS];
static uint8_t memory[JOBS][BUF];
static uint32_t done_cnt;
static struct seal_job *done[JOBS];
static uint8_t scratch[1 << 16];

/* ---- rings */
static struct msg *sent[JOBS];
static uint16_t sent_to[JOBS];
static uint32_t sent_cnt;
static int reply_rc = 1; /* 1: none yet */
void mbox_send(struct mbox *mb, uint16_t to, struct msg *m)
{
    assert_int_equal(m->type, MSG_SEAL);
    sent[sent_cnt] = m;
    sent_to[sent_cnt++] = to;
}
void msg_reply(struct mbox *mb, struct msg *m, int rc)
{
    m->rc = reply_rc = rc;
}

/* ---- the device: takes `slots`, answers when told to */
static struct offload_result answers[JOBS];
static uint32_t slots, taken, answer_cnt;
static bool given_up;
static int dev_submit(struct offload_queue *q, int level, const uint8_t *src, uint32_t len,
                      uint8_t *dst, uint32_t dst_cap, void *user)
{
    assert_int_equal(dst_cap, len - 1);
    if (given_up)
        return -ENODEV;
    if (taken == slots)
        return -EAGAIN;
    taken++;
    return 0;
}
static uint32_t dev_poll(struct offload_queue *q, struct offload_result *ret, uint32_t max)
{
    uint32_t n = answer_cnt < max ? answer_cnt : max;
    memcpy(ret, answers, n * sizeof(*ret));
    answer_cnt = 0;
    return n;
}
static void dev_give_up(struct offload_queue *q)
{
    given_up = true;
}
static const struct offload_ops dev_ops = {dev_submit, dev_poll, dev_give_up};
static struct offload_queue dev = {&dev_ops};

static void on_done(void *arg, struct seal_job *j)
{
    assert_ptr_equal(arg, &done);
    done[done_cnt++] = j;
}

static int setup(void **state)
{
    memset(shard, 0, sizeof(shard));
    memset(counters, 0, sizeof(counters));
    done_cnt = sent_cnt = taken = answer_cnt = 0;
    slots = 2;
    given_up = false;
    reply_rc = 1;
    for (uint16_t i = 0; i < SHARDS; i++) {
        shard[i].id = i;
        shard[i].cnt = SHARDS;
        shard[i].counters = &counters[i];
        shard[i].turns = 10;
        shard[i].now_ns = 1000;
        assert_ok(codec_ctx_create(&shard[i].codecs));
        assert_ok(sealer_create(&shard[i], BUF, on_done, &done, &z[i]));
    }
    return 0;
}

static int teardown(void **state)
{
    for (int i = 0; i < SHARDS; i++) {
        sealer_destroy(z[i]);
        codec_ctx_destroy(shard[i].codecs);
    }
    return 0;
}

static struct seal_job *fill(int i, enum codec_id codec, bool is_auto)
{
    static const char text[] = "the same words again and again and again and again and again";
    job[i] = (struct seal_job){
        .b = &builder[i],
        .buf = memory[i],
        .opts = {.codec = codec, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1},
        .is_auto = is_auto};
    batch_builder_init(&builder[i], memory[i], 4000);
    for (int k = 0; k < 20; k++) {
        struct rec r = {.value = span_of(text, sizeof(text) - 1), .timestamp_ms = 1700000000000};
        assert_ok(batch_builder_add(&builder[i], &r));
    }
    return &job[i];
}

/* A whole batch of 20 records, in this codec, in the job's own buffer. */
static void check(const struct seal_job *j, enum codec_id codec)
{
    struct batch_info info;
    struct record_iter it;
    struct record_view v;
    uint32_t n = 0;
    assert_int_equal(j->rc, 0);
    assert_ptr_equal(j->out.p, j->buf);
    assert_ok(batch_verify(j->out.p, j->out.len, &info));
    assert_int_equal(info.attributes & BATCH_ATTR_CODEC, codec);
    assert_ok(record_iter_init(&it, shard[0].codecs, j->out, scratch, sizeof(scratch)));
    while (record_iter_next(&it, &v) == 1)
        n++;
    assert_int_equal(n, 20);
}

static void busy(int i)
{
    sealer_events(z[i], AUTO_BACKLOG);
}

static void with_cycles_all_is_done_here(void **state)
{
    for (int i = 0; i < 20; i++) {
        enum codec_id c = (enum codec_id)(i % CODEC_CNT);
        assert_true(sealer_seal(z[0], fill(i, c, i % 2 == 1)));
        check(&job[i], c);
        assert_false(job[i].starved);
    }
    assert_int_equal(sent_cnt, 0);
    assert_true(sealer_is_idle(z[0]));
}

static void without_cycles_another_shard_is_asked(void **state)
{
    busy(0);
    assert_false(sealer_seal(z[0], fill(0, CODEC_ZSTD, false)));
    assert_false(sealer_seal(z[0], fill(1, CODEC_GZIP, true)));
    assert_true(sealer_seal(z[0], fill(2, CODEC_NONE, false))); /* nothing to compress */
    assert_int_equal(sent_cnt, 2);
    assert_int_equal(sent_to[0], 1);
    assert_int_equal(sent_to[1], 2); /* in turn */
    assert_false(sealer_is_idle(z[0]));
    for (int i = 0; i < 2; i++) {
        struct sealer *h = z[sent_to[i]];
        sealer_on_seal(h, sent[i]);
        assert_int_equal(reply_rc, 1); /* not in the mailbox's turn */
        assert_true(sealer_has_work(h));
        assert_int_equal(sealer_poll(h), 1);
        assert_int_equal(reply_rc, 0);
        reply_rc = 1;
        sealer_on_seal_reply(z[0], sent[i]);
        assert_int_equal(done_cnt, i + 1);
        assert_ptr_equal(done[i], &job[i]);
        assert_int_equal(counters[sent_to[i]].shard.seals_for_others, 1);
    }
    check(&job[0], CODEC_ZSTD);
    check(&job[1], CODEC_GZIP);
    assert_true(job[0].ns > 0);
    assert_int_equal(counters[0].shard.seals_elsewhere, 2);
}

static void a_shard_without_cycles_says_no_and_is_left_in_peace(void **state)
{
    busy(0);
    busy(1);
    assert_false(sealer_seal(z[0], fill(0, CODEC_ZSTD, false)));
    assert_int_equal(sent_to[0], 1);
    sealer_on_seal(z[1], sent[0]);
    assert_int_equal(reply_rc, -EBUSY);
    sealer_on_seal_reply(z[0], sent[0]);
    check(&job[0], CODEC_ZSTD); /* compressed here after all */
    assert_int_equal(counters[1].shard.seals_for_others_refused, 1);
    for (int i = 1; i < 5; i++) /* only shard 2 is asked now */
        assert_false(sealer_seal(z[0], fill(i, CODEC_GZIP, true)));
    for (int i = 1; i < 5; i++)
        assert_int_equal(sent_to[i], 2);
    assert_true(sealer_seal(z[0], fill(5, CODEC_GZIP, true))); /* it has its most */
    check(&job[5], CODEC_NONE);
    assert_true(job[5].starved);
    assert_true(sealer_seal(z[0], fill(6, CODEC_GZIP, false)));
    check(&job[6], CODEC_GZIP); /* the topic's codec is kept whatever it takes */
    shard[0].now_ns += SEAL_BACKOFF_NS;
    shard[0].turns++;
    busy(0);
    assert_false(sealer_seal(z[0], fill(7, CODEC_GZIP, true)));
    assert_int_equal(sent_to[5], 1);
    shard[2].stopping = true;
    for (uint32_t i = 1; i < sent_cnt; i++) {
        sealer_on_seal(z[sent_to[i]], sent[i]);
        while (sealer_poll(z[sent_to[i]]) > 0)
            ;
        sealer_on_seal_reply(z[0], sent[i]);
    }
    for (int i = 1; i < 5; i++) {
        check(&job[i], CODEC_NONE); /* a shard that stops takes nothing */
        assert_true(job[i].starved);
    }
    assert_true(sealer_is_idle(z[0]));
}

static void a_device_takes_gzip_until_its_slots_are_full(void **state)
{
    shard[0].offload = &dev;
    assert_true(sealer_seal(z[0], fill(0, CODEC_ZSTD, false))); /* not its codec */
    check(&job[0], CODEC_ZSTD);
    assert_false(sealer_seal(z[0], fill(1, CODEC_GZIP, false)));
    assert_false(sealer_seal(z[0], fill(2, CODEC_GZIP, true)));
    assert_true(sealer_has_work(z[0]));
    assert_true(sealer_seal(z[0], fill(3, CODEC_GZIP, true))); /* full: here, there are cycles */
    check(&job[3], CODEC_GZIP);
    uint8_t *records = builder[2].buf + BATCH_HEADER_LEN;
    int64_t len = codec_compress(shard[0].codecs, CODEC_GZIP, 1, records,
                                 builder[2].len - BATCH_HEADER_LEN, scratch, sizeof(scratch));
    assert_true(len > 0);
    memcpy(records, scratch, (size_t)len);
    answers[answer_cnt++] = (struct offload_result){&job[2], len};
    answers[answer_cnt++] = (struct offload_result){&job[1], -E_LIMIT};
    assert_int_equal(sealer_poll(z[0]), 2);
    assert_ptr_equal(done[0], &job[2]);
    check(&job[2], CODEC_GZIP);
    check(&job[1], CODEC_NONE); /* does not get smaller */
    assert_int_equal(counters[0].shard.seals_device, 1);
    assert_int_equal(counters[0].shard.seals_device_failed, 0);
    assert_true(sealer_is_idle(z[0]));
}

static void what_a_device_fails_at_is_compressed_here(void **state)
{
    shard[0].offload = &dev;
    assert_false(sealer_seal(z[0], fill(0, CODEC_GZIP, false)));
    answers[answer_cnt++] = (struct offload_result){&job[0], -EIO};
    assert_int_equal(sealer_poll(z[0]), 1);
    check(&job[0], CODEC_GZIP);
    assert_int_equal(counters[0].shard.seals_device_failed, 1);
}

static void a_device_that_does_not_answer_is_given_up(void **state)
{
    shard[0].offload = &dev;
    shard[0].now_ns = 0;
    assert_false(sealer_seal(z[0], fill(0, CODEC_GZIP, false)));
    assert_false(sealer_seal(z[0], fill(1, CODEC_GZIP, false)));
    shard[0].now_ns = job[0].since_ns + SEAL_DEVICE_NS - 1;
    assert_int_equal(sealer_poll(z[0]), 0);
    assert_false(given_up);
    shard[0].now_ns++;
    (void)sealer_poll(z[0]);
    assert_true(given_up);
    assert_int_equal(done_cnt, 2);
    check(&job[0], CODEC_GZIP);
    check(&job[1], CODEC_GZIP);
    assert_true(sealer_seal(z[0], fill(2, CODEC_GZIP, false))); /* and not asked again */
    check(&job[2], CODEC_GZIP);
    assert_true(sealer_is_idle(z[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(with_cycles_all_is_done_here, setup, teardown),
        cmocka_unit_test_setup_teardown(without_cycles_another_shard_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_shard_without_cycles_says_no_and_is_left_in_peace, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_device_takes_gzip_until_its_slots_are_full, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_device_fails_at_is_compressed_here, setup, teardown),
        cmocka_unit_test_setup_teardown(a_device_that_does_not_answer_is_given_up, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
