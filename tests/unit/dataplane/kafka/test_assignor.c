/* The assignors against what they promise, over many groups: every partition of a subscribed topic
 * with exactly one subscriber, balanced, sticky; and sets of partitions against a bitmap. */
#include "dataplane/kafka/group/assignor.c"
#include "dataplane/kafka/group/tpset.c"
#include "tests/support/test.h"

enum { TOPICS_MAX = 6, PARTS_MAX = 12, MEMBERS_MAX = 8, GROUPS = 3000 };

static struct uuid topic_id(uint32_t i)
{
    return (struct uuid){{0, 0, (uint8_t)(i * 7 + 1)}};
}

struct world { /* a group, and who has what */
    struct assign_topic topics[TOPICS_MAX];
    uint32_t topic_cnt, member_cnt;
    bool subscribes[MEMBERS_MAX][TOPICS_MAX], is_there[MEMBERS_MAX];
    struct tp parts[MEMBERS_MAX][TOPICS_MAX * PARTS_MAX];
    struct tpset has[MEMBERS_MAX];
};

static struct arena arena;

/* Runs the assignor over the members that are there; their sets are the answer afterwards. Count of
 * partitions that changed hands from one present member to another. */
static uint32_t run(struct world *w, assign_fn *fn)
{
    struct assign_member members[MEMBERS_MAX];
    uint32_t idx[MEMBERS_MAX][TOPICS_MAX], who[MEMBERS_MAX], moved = 0;
    char ids[MEMBERS_MAX][4];
    struct assign as = {.topics = w->topics, .topic_cnt = w->topic_cnt, .members = members};
    for (uint32_t m = 0; m < w->member_cnt; m++) {
        if (!w->is_there[m]) {
            w->has[m].cnt = 0;
            continue;
        }
        struct assign_member *am = &members[as.member_cnt];
        snprintf(ids[m], sizeof(ids[m]), "m%u", m);
        *am = (struct assign_member){.order_id = span_str(ids[m]), .current = w->has[m]};
        am->topics = idx[m];
        for (uint32_t t = 0; t < w->topic_cnt; t++)
            if (w->subscribes[m][t])
                idx[m][am->topic_cnt++] = t;
        who[as.member_cnt++] = m;
    }
    assert_int_equal(fn(&arena, &as), 0);
    for (uint32_t i = 0; i < as.member_cnt; i++)
        for (uint32_t k = 0; k < members[i].target.cnt; k++)
            for (uint32_t o = 0; o < as.member_cnt; o++)
                if (o != i && tpset_find(&members[o].current, &members[i].target.v[k].topic,
                                         members[i].target.v[k].partition) != NULL)
                    moved++;
    for (uint32_t i = 0; i < as.member_cnt; i++) {
        struct tpset *to = &w->has[who[i]];
        to->v = w->parts[who[i]];
        to->cnt = members[i].target.cnt;
        memcpy(to->v, members[i].target.v, to->cnt * sizeof(*to->v));
    }
    return moved;
}

static uint32_t holder(const struct world *w, uint32_t t, int32_t p, uint32_t *ret_cnt)
{
    uint32_t found = MEMBERS_MAX;
    *ret_cnt = 0;
    for (uint32_t m = 0; m < w->member_cnt; m++)
        if (tpset_find(&w->has[m], &w->topics[t].id, p) != NULL) {
            found = m;
            ++*ret_cnt;
        }
    return found;
}

static bool has_subscriber(const struct world *w, uint32_t t)
{
    for (uint32_t m = 0; m < w->member_cnt; m++)
        if (w->is_there[m] && w->subscribes[m][t])
            return true;
    return false;
}

static void assert_complete(const struct world *w)
{
    uint32_t all = 0, with = 0, cnt;
    for (uint32_t t = 0; t < w->topic_cnt; t++)
        for (uint32_t p = 0; p < w->topics[t].partition_cnt; p++) {
            uint32_t m = holder(w, t, (int32_t)p, &cnt);
            assert_int_equal(cnt, has_subscriber(w, t) ? 1 : 0);
            all += cnt;
            if (cnt > 0)
                assert_true(w->subscribes[m][t] && w->is_there[m]);
        }
    for (uint32_t m = 0; m < w->member_cnt; m++) {
        with += w->has[m].cnt;
        for (uint32_t i = 1; i < w->has[m].cnt; i++)
            assert_true(tp_order(&w->has[m].v[i - 1], &w->has[m].v[i]) < 0);
    }
    assert_int_equal(all, with); /* nothing that does not exist */
}

/* Nobody has two more than somebody who could take one of his. */
static void assert_balanced(const struct world *w)
{
    uint32_t cnt;
    for (uint32_t t = 0; t < w->topic_cnt; t++)
        for (uint32_t p = 0; p < w->topics[t].partition_cnt; p++) {
            uint32_t m = holder(w, t, (int32_t)p, &cnt);
            for (uint32_t o = 0; cnt > 0 && o < w->member_cnt; o++)
                if (w->is_there[o] && w->subscribes[o][t])
                    assert_true(w->has[m].cnt < w->has[o].cnt + 2);
        }
}

static void random_world(struct world *w, struct test_rng *rng, bool same)
{
    memset(w, 0, sizeof(*w));
    w->topic_cnt = 1 + (uint32_t)rng_below(rng, TOPICS_MAX);
    w->member_cnt = 1 + (uint32_t)rng_below(rng, MEMBERS_MAX);
    for (uint32_t t = 0; t < w->topic_cnt; t++)
        w->topics[t] = (struct assign_topic){topic_id(t), (uint32_t)rng_below(rng, PARTS_MAX + 1)};
    for (uint32_t m = 0; m < w->member_cnt; m++) {
        w->is_there[m] = true;
        for (uint32_t t = 0; t < w->topic_cnt; t++)
            w->subscribes[m][t] = same || rng_below(rng, 2) == 0;
    }
}

static void every_partition_has_one_owner_and_loads_are_even(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= GROUPS; seed++) {
        struct test_rng rng = {.s = seed};
        struct world w;
        random_world(&w, &rng, seed % 2 == 0);
        arena_init(&arena, 1 << 20);
        for (uint32_t round = 0; round < 4; round++) { /* members, topics, subscriptions change */
            run(&w, assign_uniform);
            assert_complete(&w);
            assert_balanced(&w);
            w.is_there[rng_below(&rng, w.member_cnt)] ^= true;
            uint32_t t = (uint32_t)rng_below(&rng, w.topic_cnt);
            w.topics[t].partition_cnt = (uint32_t)rng_below(&rng, PARTS_MAX + 1);
            if (seed % 2 == 1)
                w.subscribes[rng_below(&rng, w.member_cnt)][t] ^= true;
        }
        arena_fini(&arena);
    }
}

static void what_need_not_move_does_not(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= GROUPS; seed++) {
        struct test_rng rng = {.s = seed};
        struct world w;
        random_world(&w, &rng, true);
        arena_init(&arena, 1 << 20);
        run(&w, assign_uniform);
        assert_int_equal(run(&w, assign_uniform), 0); /* the same question */
        uint32_t gone = (uint32_t)rng_below(&rng, w.member_cnt), left = w.member_cnt - 1;
        uint32_t total = 0;
        for (uint32_t m = 0; m < w.member_cnt; m++)
            total += w.has[m].cnt;
        w.is_there[gone] = false;
        if (left > 0)
            assert_int_equal(run(&w, assign_uniform), 0); /* who stays keeps all it has */
        w.is_there[gone] = true;
        /* who comes gets its share and nothing else moves */
        uint32_t moved = run(&w, assign_uniform);
        assert_int_equal(moved, left == 0 ? 0 : w.has[gone].cnt);
        assert_in_range(w.has[gone].cnt, total / w.member_cnt, total / w.member_cnt + 1);
        arena_fini(&arena);
    }
}

static void range_gives_runs_in_the_order_of_members(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= GROUPS; seed++) {
        struct test_rng rng = {.s = seed};
        struct world w;
        random_world(&w, &rng, seed % 2 == 0);
        arena_init(&arena, 1 << 20);
        run(&w, assign_range);
        assert_complete(&w);
        for (uint32_t t = 0; t < w.topic_cnt; t++) {
            uint32_t last = 0, cnt, per[MEMBERS_MAX] = {0}, subs = 0;
            for (uint32_t p = 0; p < w.topics[t].partition_cnt && has_subscriber(&w, t); p++) {
                uint32_t m = holder(&w, t, (int32_t)p, &cnt);
                assert_true(m >= last);
                last = m;
                per[m]++;
            }
            for (uint32_t m = 0; m < w.member_cnt; m++)
                subs += w.subscribes[m][t];
            for (uint32_t m = 0; m < w.member_cnt; m++)
                if (w.subscribes[m][t])
                    assert_in_range(per[m], w.topics[t].partition_cnt / subs,
                                    w.topics[t].partition_cnt / subs + 1);
        }
        arena_fini(&arena);
    }
}

static void assignors_are_found_by_name(void **state)
{
    (void)state;
    assert_true(assignor_find(span_str("uniform")) == assign_uniform);
    assert_true(assignor_find(span_str("range")) == assign_range);
    assert_null(assignor_find(span_str("Uniform")));
    assert_null(assignor_find(span_str("")));
}

/* ---- sets ---- */

static struct tpset random_set(struct test_rng *rng, struct tp *room, bool *has)
{
    struct tpset s = {.v = room};
    uint32_t n = (uint32_t)rng_below(rng, 20);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = (uint32_t)rng_below(rng, 16);
        s.v[s.cnt++] = (struct tp){topic_id(k / 4), (int32_t)(k % 4), (int32_t)i};
        has[k] = true;
    }
    tpset_sort(&s);
    return s;
}

static void sets_do_what_bitmaps_do(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= GROUPS; seed++) {
        struct test_rng rng = {.s = seed};
        struct tp room[2][20];
        bool a[16] = {0}, b[16] = {0}, meets = false, subset = true, same = true;
        struct tpset x = random_set(&rng, room[0], a), y = random_set(&rng, room[1], b);
        struct tpset both, minus, or ;
        arena_init(&arena, 1 << 16);
        assert_true(tpset_and(&arena, &x, &y, &both));
        assert_true(tpset_minus(&arena, &x, &y, &minus));
        assert_true(tpset_or(&arena, &x, &y, & or));
        for (uint32_t k = 0; k < 16; k++) {
            struct uuid t = topic_id(k / 4);
            int32_t p = (int32_t)(k % 4);
            assert_int_equal(tpset_find(&x, &t, p) != NULL, a[k]);
            assert_int_equal(tpset_find(&both, &t, p) != NULL, a[k] && b[k]);
            assert_int_equal(tpset_find(&minus, &t, p) != NULL, a[k] && !b[k]);
            assert_int_equal(tpset_find(& or, &t, p) != NULL, a[k] || b[k]);
            if (a[k])
                assert_int_equal(tpset_find(& or, &t, p)->epoch, tpset_find(&x, &t, p)->epoch);
            meets |= a[k] && b[k];
            subset &= !a[k] || b[k];
            same &= a[k] == b[k];
        }
        assert_int_equal(tpset_meets(&x, &y), meets);
        assert_int_equal(tpset_is_subset(&x, &y), subset);
        assert_int_equal(tpset_eq(&x, &y), same);
        for (uint32_t i = 0, run; i < x.cnt; i += run) {
            run = tpset_run(&x, i);
            assert_true(uuid_eq(&x.v[i].topic, &x.v[i + run - 1].topic));
            assert_true(i + run == x.cnt || !uuid_eq(&x.v[i].topic, &x.v[i + run].topic));
        }
        arena_fini(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_partition_has_one_owner_and_loads_are_even),
        cmocka_unit_test(what_need_not_move_does_not),
        cmocka_unit_test(range_gives_runs_in_the_order_of_members),
        cmocka_unit_test(assignors_are_found_by_name),
        cmocka_unit_test(sets_do_what_bitmaps_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
