/* test_fetch_session.c - fetch sessions: the rules of KIP-227, their limits, and random histories
 * against a model that remembers everything. */
#include "dataplane/kafka/fetch_session.c"
#include "tests/support/test.h"

#define VERSION 12 /* topics by name */
#define TOPICS 3
#define PARTS 4

static struct arena arena;
static struct fetch_sessions *fs;
static uint64_t now_ns;

static int setup(void **state)
{
    arena_init(&arena, 1 << 30);
    now_ns = UINT64_C(1000000000000);
    fs = fetch_sessions_create(5, 1);
    return fs == NULL;
}

static int teardown(void **state)
{
    fetch_sessions_destroy(fs);
    arena_fini(&arena);
    return 0;
}

static struct fetch_session_stats stats(void)
{
    struct fetch_session_stats st;
    fetch_sessions_stats(fs, &st);
    return st;
}

struct ask { /* a request of partitions [0, parts) of `topics` topics */
    struct fetch_request req;
    struct fetch_response resp;
    struct fetch_session_use use;
};

static void name_topic(struct span *name, struct uuid *id, uint32_t i)
{
    char *text = arena_alloc(&arena, 16);
    snprintf(text, 16, "topic-%u", i);
    *name = span_str(text);
    memset(id->b, (int)i + 1, sizeof(id->b));
}

static void ask_init(struct ask *a, int32_t id, int32_t epoch)
{
    memset(a, 0, sizeof(*a));
    fetch_request_init(&a->req);
    fetch_response_init(&a->resp);
    a->req.session_id = id;
    a->req.session_epoch = epoch;
}

static void ask_all(struct ask *a, uint32_t topics, uint32_t parts)
{
    a->req.topics.v = arena_array(&arena, topics, sizeof(*a->req.topics.v));
    a->req.topics.cnt = topics;
    for (uint32_t i = 0; i < topics; i++) {
        struct fetch_request_topic *t = &a->req.topics.v[i];
        fetch_request_topic_init(t);
        name_topic(&t->topic, &t->topic_id, i);
        t->partitions.v = arena_array(&arena, parts, sizeof(*t->partitions.v));
        t->partitions.cnt = parts;
        for (uint32_t j = 0; j < parts; j++) {
            fetch_request_partition_init(&t->partitions.v[j]);
            t->partitions.v[j].partition = (int32_t)j;
            t->partitions.v[j].partition_max_bytes = 1000;
        }
    }
}

static void forget(struct ask *a, uint32_t topic, int32_t partition)
{
    struct fetch_request_forgotten_topic *t = arena_alloc(&arena, sizeof(*t));
    struct uuid id;
    fetch_request_forgotten_topic_init(t);
    name_topic(&t->topic, &id, topic);
    t->topic_id = id;
    t->partitions.v = arena_alloc(&arena, sizeof(int32_t));
    t->partitions.v[0] = partition;
    t->partitions.cnt = 1;
    a->req.forgotten_topics_data.v = t;
    a->req.forgotten_topics_data.cnt = 1;
}

static int begin(struct ask *a, int16_t version)
{
    return fetch_session_begin(fs, now_ns, version, &a->req, &arena, &a->use);
}

/* An answer as the handler builds it: the same topics and partitions, high watermark 10. */
static void answer(struct ask *a)
{
    struct fetch_response *r = &a->resp;
    r->responses.cnt = a->req.topics.cnt;
    r->responses.v = arena_array(&arena, r->responses.cnt + 1, sizeof(*r->responses.v));
    for (uint32_t i = 0; i < r->responses.cnt; i++) {
        const struct fetch_request_topic *in = &a->req.topics.v[i];
        struct fetch_response_topic *t = &r->responses.v[i];
        fetch_response_topic_init(t);
        t->topic = in->topic;
        t->topic_id = in->topic_id;
        t->partitions.cnt = in->partitions.cnt;
        t->partitions.v = arena_array(&arena, in->partitions.cnt + 1, sizeof(*t->partitions.v));
        for (uint32_t j = 0; j < in->partitions.cnt; j++) {
            fetch_response_partition_init(&t->partitions.v[j]);
            t->partitions.v[j].partition_index = in->partitions.v[j].partition;
            t->partitions.v[j].high_watermark = 10;
            t->partitions.v[j].log_start_offset = 0;
        }
    }
}

static struct fetch_response_partition *out(struct ask *a, uint32_t topic, int32_t partition)
{
    struct span name;
    struct uuid id;
    name_topic(&name, &id, topic);
    for (uint32_t i = 0; i < a->resp.responses.cnt; i++)
        if (span_eq(a->resp.responses.v[i].topic, name))
            for (uint32_t j = 0; j < a->resp.responses.v[i].partitions.cnt; j++)
                if (a->resp.responses.v[i].partitions.v[j].partition_index == partition)
                    return &a->resp.responses.v[i].partitions.v[j];
    return NULL;
}

static uint32_t out_cnt(const struct ask *a)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->resp.responses.cnt; i++)
        n += a->resp.responses.v[i].partitions.cnt;
    return n;
}

static void end(struct ask *a)
{
    fetch_session_end(fs, now_ns, &a->use, &a->req, &a->resp);
}

static int32_t session_new(uint32_t topics, uint32_t parts)
{
    struct ask a;
    ask_init(&a, 0, 0);
    ask_all(&a, topics, parts);
    assert_ok(begin(&a, VERSION));
    answer(&a);
    end(&a);
    if (a.resp.session_id != 0)
        assert_int_equal(out_cnt(&a), topics * parts);
    return a.resp.session_id;
}

static void ids_and_epochs_follow_the_table(void **state)
{
    struct ask a;
    ask_init(&a, 0, -1); /* no session wanted */
    ask_all(&a, 1, 1);
    assert_ok(begin(&a, VERSION));
    answer(&a);
    end(&a);
    assert_int_equal(a.resp.session_id, 0);
    assert_int_equal(stats().sessions, 0);

    int32_t id = session_new(TOPICS, PARTS);
    assert_true(id > 0);
    assert_int_equal(id & 63, 5);
    for (int32_t epoch = 1; epoch <= 3; epoch++) { /* nothing new: nothing sent */
        ask_init(&a, id, epoch);
        assert_ok(begin(&a, VERSION));
        uint32_t read = 0;
        for (uint32_t i = 0; i < a.req.topics.cnt; i++)
            read += a.req.topics.v[i].partitions.cnt;
        assert_int_equal(read, TOPICS * PARTS);
        answer(&a);
        end(&a);
        assert_int_equal(a.resp.session_id, id);
        assert_int_equal(out_cnt(&a), 0);
    }
    ask_init(&a, id, 3);
    assert_int_equal(begin(&a, VERSION), ERR_INVALID_FETCH_SESSION_EPOCH);
    ask_init(&a, id, 5);
    assert_int_equal(begin(&a, VERSION), ERR_INVALID_FETCH_SESSION_EPOCH);
    ask_init(&a, id, 4);
    assert_int_equal(begin(&a, 13), ERR_FETCH_SESSION_TOPIC_ID);
    ask_init(&a, id + 64, 1);
    assert_int_equal(begin(&a, VERSION), ERR_FETCH_SESSION_ID_NOT_FOUND);
    ask_init(&a, 0, 4);
    assert_int_equal(begin(&a, VERSION), ERR_FETCH_SESSION_ID_NOT_FOUND);
    ask_init(&a, id, 4); /* none of that has hurt it */
    assert_ok(begin(&a, VERSION));

    ask_init(&a, id, 0); /* replaced */
    ask_all(&a, 1, 1);
    assert_ok(begin(&a, VERSION));
    answer(&a);
    end(&a);
    int32_t second = a.resp.session_id;
    assert_true(second > 0 && second != id);
    assert_int_equal(stats().sessions, 1);
    ask_init(&a, second, -1); /* closed */
    assert_ok(begin(&a, VERSION));
    assert_int_equal(stats().sessions, 0);
    assert_int_equal(stats().parts, 0);
    ask_init(&a, second, 1);
    assert_int_equal(begin(&a, VERSION), ERR_FETCH_SESSION_ID_NOT_FOUND);
}

static void the_epoch_after_the_last_is_one(void **state)
{
    struct ask a;
    int32_t id = session_new(1, 1);
    session_find(fs, id)->epoch = INT32_MAX;
    ask_init(&a, id, INT32_MAX);
    assert_ok(begin(&a, VERSION));
    ask_init(&a, id, 1);
    assert_ok(begin(&a, VERSION));
}

static void only_news_is_sent_and_an_error_makes_the_next_answer_news(void **state)
{
    struct ask a;
    int32_t id = session_new(TOPICS, PARTS), epoch = 1;
    static const uint8_t data[10];
    for (int round = 0; round < 4; round++) {
        ask_init(&a, id, epoch++);
        assert_ok(begin(&a, VERSION));
        answer(&a);
        switch (round) {
        case 0:
            out(&a, 0, 1)->high_watermark = 11;
            out(&a, 1, 2)->log_start_offset = 3;
            out(&a, 2, 3)->records = span_of(data, sizeof(data));
            out(&a, 1, 0)->error_code = 3;
            out(&a, 1, 0)->high_watermark = -1;
            out(&a, 1, 0)->log_start_offset = -1;
            out(&a, 0, 3)->diverging_epoch.epoch = 1;
            end(&a);
            assert_int_equal(out_cnt(&a), 5);
            assert_non_null(out(&a, 0, 1));
            assert_non_null(out(&a, 1, 2));
            assert_non_null(out(&a, 2, 3));
            assert_non_null(out(&a, 1, 0));
            assert_non_null(out(&a, 0, 3));
            /* what returned data is read last */
            ask_init(&a, id, epoch++);
            assert_ok(begin(&a, VERSION));
            const struct fetch_request_topic *t = &a.req.topics.v[a.req.topics.cnt - 1];
            assert_true(span_eq_str(t->topic, "topic-2"));
            assert_int_equal(t->partitions.v[t->partitions.cnt - 1].partition, 3);
            break;
        case 1: /* back to the first values: three of them are news again */
            end(&a);
            assert_int_equal(out_cnt(&a), 3);
            assert_non_null(out(&a, 0, 1));
            assert_non_null(out(&a, 1, 2));
            assert_non_null(out(&a, 1, 0));
            break;
        default:
            end(&a);
            assert_int_equal(out_cnt(&a), 0);
        }
    }
}

static void partitions_are_added_changed_and_forgotten(void **state)
{
    struct ask a;
    int32_t id = session_new(1, 2);
    ask_init(&a, id, 1);
    ask_all(&a, 2, 1); /* topic-0/0 again with another offset, topic-1/0 new */
    a.req.topics.v[0].partitions.v[0].fetch_offset = 77;
    a.req.topics.v[0].partitions.v[0].current_leader_epoch = 4;
    forget(&a, 0, 1);
    assert_ok(begin(&a, VERSION));
    assert_int_equal(a.req.topics.cnt, 2);
    assert_int_equal(a.req.topics.v[0].partitions.cnt, 1);
    assert_int_equal(a.req.topics.v[0].partitions.v[0].fetch_offset, 77);
    assert_int_equal(a.req.topics.v[0].partitions.v[0].current_leader_epoch, 4);
    assert_int_equal(a.req.topics.v[0].partitions.v[0].partition_max_bytes, 1000);
    answer(&a);
    end(&a);
    assert_int_equal(out_cnt(&a), 1); /* the new one */
    assert_non_null(out(&a, 1, 0));
    ask_init(&a, id, 2);
    forget(&a, 0, 0);
    assert_ok(begin(&a, VERSION));
    ask_init(&a, id, 3);
    forget(&a, 0, 5); /* never there */
    assert_ok(begin(&a, VERSION));
    ask_init(&a, id, 4);
    forget(&a, 1, 0); /* the last one: the session ends */
    assert_ok(begin(&a, VERSION));
    assert_int_equal(a.use.kind, SESSION_NONE);
    assert_int_equal(a.req.topics.cnt, 0);
    answer(&a);
    end(&a);
    assert_int_equal(a.resp.session_id, 0);
    assert_int_equal(stats().sessions, 0);
}

static void a_session_that_goes_during_a_request_keeps_the_answer_whole(void **state)
{
    struct ask a, b;
    int32_t id = session_new(1, 2);
    ask_init(&a, id, 1);
    assert_ok(begin(&a, VERSION));
    answer(&a);
    ask_init(&b, id, -1);
    assert_ok(begin(&b, VERSION));
    end(&a);
    assert_int_equal(a.resp.session_id, id);
    assert_int_equal(out_cnt(&a), 2);
}

static void sessions_are_limited_and_old_ones_make_room(void **state)
{
    int32_t first = session_new(1, 1);
    for (int i = 1; i < FETCH_SESSIONS_MAX; i++)
        assert_true(session_new(1, i == 500 ? 3 : 2) > 0);
    assert_int_equal(stats().sessions, FETCH_SESSIONS_MAX);
    assert_int_equal(session_new(1, 4), 0); /* all are young: none to be had */
    now_ns += IDLE_NS - 1;
    assert_int_equal(session_new(1, 4), 0);
    struct ask a;
    now_ns += 1;
    for (struct list *n = fs->sessions.next; n != &fs->sessions; n = n->next) /* all in use */
        container_of(n, struct session, link)->used_ns = now_ns;
    assert_int_equal(session_new(1, 1), 0); /* not larger than anybody */
    assert_true(session_new(1, 2) > 0);     /* takes the place of the smallest */
    ask_init(&a, first, 1);
    assert_int_equal(begin(&a, VERSION), ERR_FETCH_SESSION_ID_NOT_FOUND);
    assert_int_equal(stats().sessions, FETCH_SESSIONS_MAX);
    now_ns += IDLE_NS;
    assert_true(session_new(1, 1) > 0); /* the longest unused one goes, whatever its size */
    assert_int_equal(stats().sessions, FETCH_SESSIONS_MAX);
    assert_int_equal(stats().evictions, 2);
}

static void partitions_of_all_sessions_are_limited(void **state)
{
    struct ask a;
    uint32_t half = FETCH_SESSION_PARTS_MAX / 2;
    int32_t id = session_new(1, half);
    assert_true(id > 0);
    assert_int_equal(session_new(1, half + 1), 0);
    assert_int_equal(stats().parts, half);
    assert_true(session_new(1, half) > 0);
    ask_init(&a, id, 1);
    ask_all(&a, 2, 1); /* one more than there may be: the session ends, the client starts anew */
    assert_int_equal(begin(&a, VERSION), ERR_FETCH_SESSION_ID_NOT_FOUND);
    assert_int_equal(stats().parts, half);
}

/* The model: what a client has been told of each partition, and what there is to tell. */
struct model {
    bool asked, told;
    int64_t offset, hw, told_hw;
};

static void random_histories_agree_with_a_model(void **state)
{
    uint64_t seed = test_seed(1);
    for (uint64_t s = seed; s < seed + 300; s++) {
        struct test_rng rng = {s};
        struct model m[TOPICS][PARTS] = {{{0}}};
        int16_t version = rng_below(&rng, 2) ? 13 : 12;
        int32_t id = 0, epoch = 0;
        for (int step = 0; step < 40; step++) {
            struct ask a;
            ask_init(&a, id, epoch);
            bool whole = epoch == 0;
            ask_all(&a, TOPICS, PARTS);
            for (uint32_t i = 0; i < TOPICS; i++) {
                struct fetch_request_topic *t = &a.req.topics.v[i];
                uint32_t n = 0;
                for (uint32_t j = 0; j < PARTS; j++) {
                    if (whole)
                        m[i][j].asked = m[i][j].told = false;
                    if (rng_below(&rng, whole ? 2 : 5) != 0)
                        continue;
                    m[i][j].asked = true;
                    m[i][j].offset = (int64_t)rng_below(&rng, 1000);
                    t->partitions.v[n] = t->partitions.v[j];
                    t->partitions.v[n].partition = (int32_t)j;
                    t->partitions.v[n++].fetch_offset = m[i][j].offset;
                }
                t->partitions.cnt = n;
            }
            if (!whole && rng_below(&rng, 2) == 0) {
                uint32_t i = (uint32_t)rng_below(&rng, TOPICS),
                         j = (uint32_t)rng_below(&rng, PARTS);
                forget(&a, i, (int32_t)j);
                m[i][j] = (struct model){.hw = m[i][j].hw};
            }
            uint32_t asked = 0, read = 0;
            for (uint32_t i = 0; i < TOPICS * PARTS; i++)
                asked += m[i / PARTS][i % PARTS].asked;
            assert_ok(begin(&a, version));
            for (uint32_t i = 0; i < a.req.topics.cnt; i++)
                read += a.req.topics.v[i].partitions.cnt;
            if (read != asked)
                fail_msg("seed %llu step %d: reads %u, model %u", (unsigned long long)s, step, read,
                         asked);
            answer(&a);
            for (uint32_t i = 0; i < a.resp.responses.cnt; i++) {
                const struct fetch_request_topic *t = &a.req.topics.v[i];
                uint32_t topic = version >= 13 ? t->topic_id.b[0] - 1u : t->topic.p[6] - 48u;
                for (uint32_t j = 0; j < t->partitions.cnt; j++) {
                    struct model *p = &m[topic][t->partitions.v[j].partition];
                    assert_true(p->asked);
                    assert_int_equal(t->partitions.v[j].fetch_offset, p->offset);
                    p->hw += rng_below(&rng, 3) == 0;
                    a.resp.responses.v[i].partitions.v[j].high_watermark = p->hw;
                }
            }
            end(&a);
            uint32_t news = 0;
            for (uint32_t i = 0; i < TOPICS * PARTS; i++) {
                struct model *p = &m[i / PARTS][i % PARTS];
                news += p->asked && (!p->told || p->told_hw != p->hw);
                p->told = p->asked;
                p->told_hw = p->hw;
            }
            if (out_cnt(&a) != news)
                fail_msg("seed %llu step %d: %u sent, model %u", (unsigned long long)s, step,
                         out_cnt(&a), news);
            bool lost = a.resp.session_id == 0;
            id = a.resp.session_id;
            epoch = lost || rng_below(&rng, 15) == 0 ? 0 : epoch + 1;
        }
        arena_reset(&arena);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ids_and_epochs_follow_the_table),
        T(the_epoch_after_the_last_is_one),
        T(only_news_is_sent_and_an_error_makes_the_next_answer_news),
        T(partitions_are_added_changed_and_forgotten),
        T(a_session_that_goes_during_a_request_keeps_the_answer_whole),
        T(sessions_are_limited_and_old_ones_make_room),
        T(partitions_of_all_sessions_are_limited),
        T(random_histories_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
