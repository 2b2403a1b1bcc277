/* Groups of the consumer protocol (KIP-848) over the simulated transport, with a virtual clock:
 * epochs, reconciliation, fencing, static members, patterns, timers, restart, and the borders to
 * the classic protocol. */
#include "tests/unit/dataplane/kafka/group_test.h"
#include "dataplane/kafka/group/consumer.h"

#define SESSION_MS 45000

struct beat {
    int16_t version; /* 1; -1: 0 */
    const char *group, *member, *instance, *assignor, *regex;
    int32_t epoch;
    const char *topics;   /* "t u"; NULL: as before */
    const char *owned;    /* "t0 t1"; NULL: not said */
    int32_t rebalance_ms; /* 0: as before */
};

static struct uuid id_of(const char *topic)
{
    const struct meta_topic *t = image_topic_by_name(w->image, span_str(topic));
    return t != NULL ? t->id : world_topic_id(99);
}

static void beat_send(struct client *c, struct beat o)
{
    struct consumer_group_heartbeat_request in;
    struct consumer_group_heartbeat_request_topic_partitions own[16];
    int32_t parts[16];
    struct span names[16];
    char text_[256], *save = NULL;
    consumer_group_heartbeat_request_init(&in);
    in.group_id = text(o.group != NULL ? o.group : "g");
    in.member_id = text(o.member != NULL ? o.member : "");
    in.member_epoch = o.epoch;
    in.instance_id = text(o.instance);
    in.server_assignor = text(o.assignor);
    in.subscribed_topic_regex = text(o.regex);
    in.rebalance_timeout_ms = o.rebalance_ms != 0 ? o.rebalance_ms : -1;
    if (o.topics != NULL) {
        in.subscribed_topic_names = (struct wire_spans){.v = names};
        snprintf(text_, sizeof(text_), "%s", o.topics);
        for (char *t = strtok_r(text_, " ", &save); t != NULL; t = strtok_r(NULL, " ", &save))
            names[in.subscribed_topic_names.cnt++] = span_str(str(span_str(t)));
    }
    if (o.owned != NULL) {
        in.topic_partitions.null = false;
        in.topic_partitions.v = own;
        snprintf(text_, sizeof(text_), "%s", o.owned);
        for (char *t = strtok_r(text_, " ", &save); t != NULL; t = strtok_r(NULL, " ", &save)) {
            uint32_t i = in.topic_partitions.cnt++;
            char name[2] = {t[0], '\0'};
            parts[i] = t[1] - '0';
            own[i].topic_id = id_of(name);
            own[i].partitions = (struct wire_i32s){.v = &parts[i], .cnt = 1};
        }
    }
    int16_t v = o.version < 0 ? 0 : 1;
    REQUEST(c, 68, v, consumer_group_heartbeat, &in);
    world_run(w, 2);
}

static struct consumer_group_heartbeat_response beat_take(struct client *c, struct beat o)
{
    struct consumer_group_heartbeat_response out;
    int16_t v = o.version < 0 ? 0 : 1;
    RESPONSE(c, 68, v, consumer_group_heartbeat, &out);
    return out;
}

static struct consumer_group_heartbeat_response beat(struct client *c, struct beat o)
{
    beat_send(c, o);
    return beat_take(c, o);
}

static int16_t beat_error(struct client *c, struct beat o)
{
    struct consumer_group_heartbeat_response r = beat(c, o);
    assert_int_equal(r.error_code != 0, !span_is_null(r.error_message));
    return r.error_code;
}

/* What it has now, "t0 t1"; "-" when the answer says nothing about it. */
static const char *has(const struct consumer_group_heartbeat_response *r)
{
    if (r->assignment == NULL)
        return "-";
    char *p = arena_alloc(&arena, 256);
    for (uint32_t i = 0; i < r->assignment->topic_partitions.cnt; i++) {
        const struct consumer_group_heartbeat_response_topic_partitions *t =
            &r->assignment->topic_partitions.v[i];
        const struct meta_topic *mt = image_topic_by_id(w->image, &t->topic_id);
        for (uint32_t k = 0; k < t->partitions.cnt; k++)
            sprintf(p + strlen(p), "%s%c%d", p[0] != '\0' ? " " : "",
                    mt != NULL ? mt->name[0] : '?', t->partitions.v[k]);
    }
    return p;
}

/* The answer has no error, this epoch, and these partitions. */
static void expect(struct client *c, struct beat o, int32_t epoch, const char *parts)
{
    struct consumer_group_heartbeat_response r = beat(c, o);
    if (r.error_code != 0 || r.member_epoch != epoch || strcmp(has(&r), parts) != 0)
        fail_msg("member %s, epoch %d: error %d (%s), epoch %d, has %s; not %d, %s", o.member,
                 o.epoch, r.error_code, str(r.error_message), r.member_epoch, has(&r), epoch,
                 parts);
}
#define JOIN(name) .member = name, .topics = "t", .owned = "", .rebalance_ms = 60000

static struct consumer_group_describe_response_group describe_new(struct client *c,
                                                                  const char *group)
{
    struct consumer_group_describe_request in;
    struct consumer_group_describe_response out;
    struct span name = text(group);
    consumer_group_describe_request_init(&in);
    in.group_ids = (struct wire_spans){.v = &name, .cnt = 1};
    REQUEST(c, 69, 1, consumer_group_describe, &in);
    world_run(w, 2);
    RESPONSE(c, 69, 1, consumer_group_describe, &out);
    assert_int_equal(out.groups.cnt, 1);
    return out.groups.v[0];
}

static void assert_group(struct client *c, const char *state, int32_t epoch, int32_t target,
                         uint32_t members)
{
    struct consumer_group_describe_response_group g = describe_new(c, "g");
    assert_int_equal(g.error_code, 0);
    assert_string_equal(str(g.group_state), state);
    assert_int_equal(g.group_epoch, epoch);
    assert_int_equal(g.assignment_epoch, target);
    assert_int_equal(g.members.cnt, members);
}

/* Members "a" and "b" of two partitions each, epoch 2, nothing left to do. */
static struct client *two_members(void)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    expect(c, (struct beat){JOIN("a")}, 1, "t0 t1 t2 t3");
    expect(c, (struct beat){JOIN("b")}, 2, "");
    expect(c, (struct beat){.member = "a", .epoch = 1}, 1, "t0 t1");
    expect(c, (struct beat){.member = "a", .epoch = 1, .owned = "t0 t1"}, 2, "-");
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "t2 t3");
    return c;
}

/* ---- reconciliation ---- */

static void a_partition_is_given_up_before_another_member_gets_it(void **state)
{
    struct client *c;
    open_groups(NULL, 0);
    c = client_open(w);
    expect(c, (struct beat){JOIN("a")}, 1, "t0 t1 t2 t3");
    assert_group(c, "Stable", 1, 1, 1);
    expect(c, (struct beat){JOIN("b")}, 2, ""); /* UNRELEASED: they are still with a */
    assert_group(c, "Reconciling", 2, 2, 2);
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "-");
    expect(c, (struct beat){.member = "a", .epoch = 1}, 1, "t0 t1"); /* UNREVOKED: epoch stays */
    expect(c, (struct beat){.member = "a", .epoch = 1}, 1, "-");     /* does not say what it has */
    expect(c, (struct beat){.member = "a", .epoch = 1, .owned = "t0 t1 t2"}, 1, "-");
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "-");
    expect(c, (struct beat){.member = "a", .epoch = 1, .owned = "t0 t1"}, 2, "-");
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "t2 t3");
    assert_group(c, "Stable", 2, 2, 2);
    close_world();
}

static void who_leaves_frees_its_partitions_at_once(void **state)
{
    struct client *c = two_members();
    /* what else a leaving member says is not looked at, not even a time that no other may say */
    struct beat leaves = {
        .member = "b", .epoch = -1, .topics = "", .owned = "", .rebalance_ms = -5};
    expect(c, leaves, -1, "-");
    assert_group(c, "Assigning", 3, 2, 1);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 3, "t0 t1 t2 t3");
    assert_group(c, "Stable", 3, 3, 1);
    assert_int_equal(beat_error(c, (struct beat){.member = "b", .epoch = 2}), KE_UNKNOWN_MEMBER);
    expect(c, (struct beat){.member = "a", .epoch = -1}, -1, "-");
    assert_group(c, "Empty", 4, 3, 0);
    close_world();
}

static void a_full_request_is_answered_with_the_assignment(void **state)
{
    struct client *c = two_members();
    expect(c, (struct beat){.member = "a", .epoch = 2}, 2, "-");
    expect(c,
           (struct beat){
               .member = "a", .epoch = 2, .topics = "t", .owned = "t0 t1", .rebalance_ms = 60000},
           2, "t0 t1");
    close_world();
}

static void changed_subscriptions_and_topics_raise_the_epoch(void **state)
{
    struct client *c = two_members();
    world_topic(w, "u", NULL);
    world_run(w, 2);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 2, "-"); /* not subscribed to it */
    /* b can only have t: a is to have all of u, and gives up its part of t first */
    expect(c, (struct beat){.member = "a", .epoch = 2, .topics = "u t"}, 2, "");
    expect(c, (struct beat){.member = "a", .epoch = 2, .owned = ""}, 3, "u0 u1 u2 u3");
    expect(c, (struct beat){.member = "b", .epoch = 2}, 3, "t0 t1 t2 t3");
    assert_group(c, "Stable", 3, 3, 2);
    world_topic_delete(w, "u");
    world_run(w, 2);
    expect(c, (struct beat){.member = "b", .epoch = 3}, 3, "t0 t1"); /* the other way round */
    assert_group(c, "Reconciling", 4, 4, 2);
    expect(c, (struct beat){.member = "b", .epoch = 3, .owned = "t0 t1"}, 4, "-");
    expect(c, (struct beat){.member = "a", .epoch = 3}, 3, ""); /* what is gone is given up too */
    expect(c, (struct beat){.member = "a", .epoch = 3, .owned = ""}, 4, "t2 t3");
    world_topic(w, "u", NULL); /* another topic of that name */
    world_run(w, 2);
    expect(c, (struct beat){.member = "b", .epoch = 4}, 5, "-");
    assert_group(c, "Reconciling", 5, 5, 2);
    close_world();
}

static void range_is_used_when_members_ask_for_it(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    expect(c, (struct beat){JOIN("b"), .assignor = "range"}, 1, "t0 t1 t2 t3");
    expect(c, (struct beat){JOIN("a"), .assignor = "range"}, 2, "");
    assert_string_equal(str(describe_new(c, "g").assignor_name), "range");
    expect(c, (struct beat){.member = "b", .epoch = 1}, 1, "t2 t3"); /* a comes before b */
    assert_int_equal(beat_error(c, (struct beat){JOIN("x"), .assignor = "sticky"}),
                     KE_UNSUPPORTED_ASSIGNOR);
    close_world();
}

/* ---- fencing ---- */

static void requests_are_checked_before_anything_else(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    const struct beat bad[] = {
        {JOIN("a"), .group = ""},
        {JOIN("")},
        {JOIN("a"), .instance = ""},
        {JOIN("a"), .epoch = -3},
        {.member = "a", .epoch = -2},
        {.member = "a", .topics = "t", .owned = ""},
        {.member = "a", .topics = "t", .rebalance_ms = 1},
        {.member = "a", .topics = "t", .owned = "t0", .rebalance_ms = 1},
        {.member = "a", .owned = "", .rebalance_ms = 1},
    };
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(beat_error(c, bad[i]), KE_INVALID_REQUEST);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .epoch = 1}), KE_GROUP_NOT_FOUND);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .epoch = -1}), KE_GROUP_NOT_FOUND);
    assert_int_equal(describe_new(c, "g").error_code, KE_GROUP_NOT_FOUND); /* none was made */
    struct consumer_group_heartbeat_response r = beat(c, (struct beat){JOIN(""), .version = -1});
    assert_int_equal(r.error_code, 0); /* version 0: the coordinator names the member */
    assert_int_equal(r.member_id.len, UUID_TEXT_LEN);
    assert_int_equal(r.heartbeat_interval_ms, 5000);
    close_world();
}

static void epochs_that_do_not_fit_are_fenced(void **state)
{
    struct client *c = two_members();
    assert_int_equal(beat_error(c, (struct beat){.member = "x", .epoch = 2}), KE_UNKNOWN_MEMBER);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .epoch = 3}),
                     KE_FENCED_MEMBER_EPOCH);
    /* the answer that raised it to 2 may have been lost: 1 is all right with no more than its own
     */
    expect(c, (struct beat){.member = "a", .epoch = 1, .owned = "t0 t1"}, 2, "-");
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .epoch = 1, .owned = "t0 t2"}),
                     KE_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .epoch = 1}),
                     KE_FENCED_MEMBER_EPOCH);
    /* who was fenced gives up everything and joins again under its id */
    expect(c, (struct beat){JOIN("a")}, 2, "t0 t1");
    assert_group(c, "Stable", 2, 2, 2);
    close_world();
}

static void a_silent_member_is_removed_after_its_session(void **state)
{
    struct client *c = two_members();
    world_run(w, SESSION_MS - 2000);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 2, "-");
    world_run(w, 3000);
    assert_group(c, "Assigning", 3, 2, 1);
    assert_int_equal(STAT(groups_assigning), 1);
    assert_int_equal(beat_error(c, (struct beat){.member = "b", .epoch = 2}), KE_UNKNOWN_MEMBER);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 3, "t0 t1 t2 t3");
    assert_int_equal(STAT(groups_stable), 1);
    assert_int_equal(STAT(group_rebalances), 3);
    assert_int_equal(STAT(group_members_expired), 1);
    close_world();
}

static void what_a_group_configures_holds_from_the_next_heartbeat(void **state)
{
    struct client *c = two_members();
    world_group_config(w, "g", "consumer.session.timeout.ms", "60000");
    world_group_config(w, "g", "consumer.heartbeat.interval.ms", "15000");
    world_group_config(w, "other", "consumer.heartbeat.interval.ms", "9000");
    struct consumer_group_heartbeat_response r = beat(c, (struct beat){.member = "a", .epoch = 2});
    assert_int_equal(r.heartbeat_interval_ms, 15000);
    world_run(w, SESSION_MS + 5000); /* b is still held to what it was told */
    assert_group(c, "Assigning", 3, 2, 1);
    world_group_config(w, "g", "consumer.heartbeat.interval.ms", NULL);
    r = beat(c, (struct beat){.member = "a", .epoch = 2});
    assert_int_equal(r.error_code, 0);
    assert_int_equal(r.heartbeat_interval_ms, 5000);
    world_group_config(w, "g", "consumer.session.timeout.ms", NULL);
    expect(c, (struct beat){.member = "a", .epoch = 3}, 3, "-");
    world_run(w, SESSION_MS + 5000);
    assert_group(c, "Empty", 4, 3, 0);
    close_world();
}

static void who_does_not_give_up_in_time_is_removed(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    expect(c, (struct beat){.member = "a", .topics = "t", .owned = "", .rebalance_ms = 10000}, 1,
           "t0 t1 t2 t3");
    expect(c, (struct beat){JOIN("b")}, 2, "");
    expect(c, (struct beat){.member = "a", .epoch = 1}, 1, "t0 t1");
    world_run(w, 8000);
    expect(c, (struct beat){.member = "a", .epoch = 1, .owned = "t0 t1 t2 t3"}, 1, "-");
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "-");
    world_run(w, 3000);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .epoch = 1}), KE_UNKNOWN_MEMBER);
    expect(c, (struct beat){.member = "b", .epoch = 2}, 3, "t0 t1 t2 t3");
    close_world();
}

static void a_full_group_takes_nobody(void **state)
{
    open_groups(NULL, 0);
    w->conf->group_consumer_max_size = 2;
    struct client *c = client_open(w);
    expect(c, (struct beat){JOIN("a")}, 1, "t0 t1 t2 t3");
    expect(c, (struct beat){JOIN("b")}, 2, "");
    assert_int_equal(beat_error(c, (struct beat){JOIN("c")}), KE_GROUP_FULL);
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "-"); /* who is in stays */
    close_world();
}

static void who_joins_again_has_given_up_what_it_must(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    expect(c, (struct beat){JOIN("a")}, 1, "t0 t1 t2 t3");
    expect(c, (struct beat){JOIN("b")}, 2, "");
    expect(c, (struct beat){.member = "a", .epoch = 1}, 1, "t0 t1"); /* told to give up two */
    expect(c, (struct beat){JOIN("a")}, 2, "t0 t1");
    expect(c, (struct beat){.member = "b", .epoch = 2}, 2, "t2 t3");
    expect(c, (struct beat){.member = "b", .topics = "u", .owned = "", .rebalance_ms = 1000}, 3,
           ""); /* and may subscribe to others */
    expect(c, (struct beat){.member = "a", .epoch = 2}, 3, "t0 t1 t2 t3");
    assert_group(c, "Stable", 3, 3, 2);
    close_world();
}

/* ---- static members ---- */

static void a_static_member_bounces_without_a_rebalance(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    expect(c, (struct beat){JOIN("a"), .instance = "i"}, 1, "t0 t1 t2 t3");
    assert_int_equal(beat_error(c, (struct beat){JOIN("b"), .instance = "i"}),
                     KE_UNRELEASED_INSTANCE);
    expect(c, (struct beat){.member = "a", .instance = "i", .epoch = -2}, -2, "-");
    assert_group(c, "Reconciling", 1, 1, 1);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .instance = "i", .epoch = 1}),
                     KE_FENCED_MEMBER_EPOCH);
    expect(c, (struct beat){JOIN("b"), .instance = "i"}, 1, "t0 t1 t2 t3");
    assert_group(c, "Stable", 1, 1, 1); /* the epoch is what it was */
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .instance = "i", .epoch = 1}),
                     KE_FENCED_INSTANCE);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .instance = "i", .epoch = -1}),
                     KE_FENCED_INSTANCE);
    assert_int_equal(beat_error(c, (struct beat){.member = "a", .instance = "x", .epoch = 1}),
                     KE_UNKNOWN_MEMBER);
    expect(c, (struct beat){.member = "b", .instance = "i", .epoch = -2}, -2, "-");
    expect(c, (struct beat){JOIN("b"), .instance = "i"}, 1, "t0 t1 t2 t3"); /* the same id */
    assert_group(c, "Stable", 1, 1, 1);
    expect(c, (struct beat){.member = "b", .instance = "i", .epoch = -2}, -2, "-");
    world_run(w, SESSION_MS + 1000); /* it does not come back */
    assert_group(c, "Empty", 2, 1, 0);
    close_world();
}

static void an_administrator_removes_members(void **state)
{
    struct client *c = two_members();
    assert_int_equal(leave(c, "nobody", NULL), KE_UNKNOWN_MEMBER);
    assert_int_equal(leave(c, "", "i"), KE_UNKNOWN_MEMBER);
    assert_int_equal(leave(c, "b", NULL), 0);
    expect(c, (struct beat){JOIN("d"), .instance = "i"}, 4, "t2 t3");
    assert_int_equal(leave(c, "b", "i"), KE_FENCED_INSTANCE);
    assert_int_equal(leave(c, "", "i"), 0);
    assert_group(c, "Assigning", 5, 4, 1);
    close_world();
}

/* ---- patterns ---- */

static void patterns_follow_the_topics(void **state)
{
    open_groups(NULL, 0);
    struct client *c = client_open(w);
    const struct beat join = {.member = "a", .regex = "[t-v]", .owned = "", .rebalance_ms = 60000};
    expect(c, join, 1, "t0 t1 t2 t3");
    struct consumer_group_describe_response_group g = describe_new(c, "g");
    assert_string_equal(str(g.members.v[0].subscribed_topic_regex), "[t-v]");
    world_run(w, CONSUMER_REGEX_REFRESH_MS);
    world_topic(w, "u", NULL);
    world_run(w, 2);
    expect(c, (struct beat){.member = "a", .epoch = 1}, 2, "t0 t1 t2 t3 u0 u1 u2 u3");
    world_topic(w, "x", NULL);
    world_run(w, CONSUMER_REGEX_REFRESH_MS);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 2, "-");
    world_topic_delete(w, "t");
    world_run(w, CONSUMER_REGEX_REFRESH_MS);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 2, "u0 u1 u2 u3"); /* t is to be given up */
    expect(c, (struct beat){.member = "a", .epoch = 2, .owned = "u0 u1 u2 u3"}, 3, "-");
    /* from a pattern to names, and the pattern is forgotten */
    expect(c,
           (struct beat){
               .member = "a", .epoch = 3, .topics = "x", .regex = "", .owned = "u0 u1 u2 u3"},
           3, "");
    g = describe_new(c, "g");
    assert_int_equal(g.group_epoch, 4);
    assert_true(span_is_null(g.members.v[0].subscribed_topic_regex));
    const struct beat bad = {.member = "b", .regex = "(?=x)", .owned = "", .rebalance_ms = 1};
    assert_int_equal(beat_error(c, bad), KE_INVALID_REGEX);
    assert_group(c, "Reconciling", 4, 4, 1);
    close_world();
}

/* ---- offsets ---- */

static int16_t commit_as(struct client *c, const char *member, int32_t epoch, int32_t partition)
{
    return commit(c,
                  (struct commit1){
                      .member = member, .generation = epoch, .partition = partition, .offset = 7});
}

static void commits_are_checked_against_the_epoch(void **state)
{
    struct client *c = two_members();
    assert_int_equal(commit_as(c, "a", 2, 0), 0);
    assert_int_equal(commit_as(c, "x", 2, 0), KE_UNKNOWN_MEMBER);
    assert_int_equal(commit_as(c, "", -1, 0), KE_UNKNOWN_MEMBER); /* an administrator, too early */
    assert_int_equal(commit_as(c, "a", 3, 0), KE_STALE_MEMBER_EPOCH);
    assert_int_equal(commit(c, (struct commit1){.version = 8, .member = "a", .generation = 2}),
                     KE_UNSUPPORTED_VERSION);
    /* KIP-1251: a has had t0 since epoch 1 and has not had t2 since then */
    assert_int_equal(commit_as(c, "a", 1, 0), 0);
    assert_int_equal(commit_as(c, "a", 1, 2), KE_STALE_MEMBER_EPOCH);
    assert_int_equal(commit_as(c, "b", 1, 2), KE_STALE_MEMBER_EPOCH); /* since 2 */
    assert_int_equal(committed(c, "g"), 7);
    /* who joins again where it is known keeps what it has, and since when */
    expect(c, (struct beat){JOIN("a")}, 2, "t0 t1");
    assert_int_equal(commit_as(c, "a", 1, 0), 0);
    assert_int_equal(commit_as(c, "a", 1, 2), KE_STALE_MEMBER_EPOCH);
    expect(c, (struct beat){.member = "a", .epoch = -1}, -1, "-");
    expect(c, (struct beat){.member = "b", .epoch = -1}, -1, "-");
    assert_int_equal(commit(c, (struct commit1){.offset = 9}), 0);
    assert_int_equal(committed(c, "g"), 9);
    close_world();
}

static int16_t fetch_as(struct client *c, const char *member, int32_t epoch)
{
    struct offset_fetch_request in;
    struct offset_fetch_request_group g;
    struct offset_fetch_response out;
    offset_fetch_request_init(&in);
    offset_fetch_request_group_init(&g);
    in.groups.v = &g;
    in.groups.cnt = 1;
    g.group_id = text("g");
    g.member_id = text(member);
    g.member_epoch = epoch;
    g.topics.null = true;
    REQUEST(c, 9, 9, offset_fetch, &in);
    world_run(w, 2);
    RESPONSE(c, 9, 9, offset_fetch, &out);
    assert_int_equal(out.groups.cnt, 1);
    return out.groups.v[0].error_code;
}

static void fetches_are_checked_against_the_epoch(void **state)
{
    struct client *c = two_members();
    assert_int_equal(fetch_as(c, NULL, -1), 0);
    assert_int_equal(fetch_as(c, "a", 2), 0);
    assert_int_equal(fetch_as(c, "a", 1), KE_STALE_MEMBER_EPOCH);
    assert_int_equal(fetch_as(c, "x", 1), KE_UNKNOWN_MEMBER);
    close_world();
}

static void offsets_of_subscribed_topics_are_kept_and_the_others_expire(void **state)
{
    struct client *c = two_members();
    world_topic(w, "u", NULL);
    world_run(w, 2);
    assert_int_equal(commit(c, (struct commit1){.member = "a", .generation = 2, .offset = 7}), 0);
    assert_int_equal(
        commit(c, (struct commit1){.member = "a", .generation = 2, .topic = "u", .offset = 8}), 0);
    w->shard[0].wall_ms += (int64_t)w->conf->offsets_retention_ms;
    offsets_expire(w->shard[0].kafka->coord);
    world_run(w, 5);
    struct offset_fetch_response_group g = fetch_group(c, 9, "g", true);
    assert_int_equal(g.topics.cnt, 1);
    assert_string_equal(str(g.topics.v[0].name), "t");
    close_world();
}

/* ---- restart ---- */

static void nothing_is_lost_by_a_restart(void **state)
{
    struct client *c = two_members();
    expect(c,
           (struct beat){
               .member = "r", .regex = "t.*", .owned = "", .rebalance_ms = 9000, .instance = "i"},
           3, "");
    assert_int_equal(commit_as(c, "a", 2, 0), 0);
    struct consumer_group_describe_response_group before = describe_new(c, "g");
    struct span kept[3];
    for (uint32_t i = 0; i < 3; i++) {
        kept[i].p = malloc(before.members.v[i].member_id.len);
        kept[i].len = before.members.v[i].member_id.len;
        memcpy((void *)(uintptr_t)kept[i].p, before.members.v[i].member_id.p, kept[i].len);
    }
    restart();
    c = client_open(w);
    struct consumer_group_describe_response_group after = describe_new(c, "g");
    assert_string_equal(str(after.group_state), "Reconciling");
    assert_int_equal(after.group_epoch, 3);
    assert_int_equal(after.assignment_epoch, 3);
    assert_int_equal(after.members.cnt, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(span_eq(after.members.v[i].member_id, kept[i]));
        free((void *)(uintptr_t)kept[i].p);
    }
    assert_string_equal(str(after.members.v[2].subscribed_topic_regex), "t.*");
    assert_string_equal(str(after.members.v[2].instance_id), "i");
    assert_int_equal(committed(c, "g"), 7);
    /* they go on where they were */
    struct consumer_group_heartbeat_response a =
        beat(c, (struct beat){.member = "a", .epoch = 2, .owned = "t0 t1"});
    assert_int_equal(a.error_code, 0);
    expect(c, (struct beat){.member = "r", .instance = "i", .epoch = 3}, 3, "-");
    world_run(w, SESSION_MS + 1000); /* sessions began anew, and end */
    assert_group(c, "Empty", 6, 3, 0);
    close_world();
}

static void an_answer_waits_until_what_it_saw_is_durable(void **state)
{
    open_groups(NULL, 0);
    struct client *c[2] = {client_open(w), client_open(w)};
    struct plog *log = world_plog(w, OFFSETS_TOPIC, clog_partition(text("g"), 4));
    expect(c[0], (struct beat){JOIN("a")}, 1, "t0 t1 t2 t3");
    log->hold_flush = true;
    beat_send(c[0], (struct beat){JOIN("b")});
    beat_send(c[1], (struct beat){.member = "a", .epoch = 1, .owned = "t0 t1 t2 t3"});
    assert_true(no_response(c[0]));
    assert_true(no_response(c[1]));
    struct client *asks = client_open(w);
    struct consumer_group_describe_request in;
    struct span name = text("g");
    consumer_group_describe_request_init(&in);
    in.group_ids = (struct wire_spans){.v = &name, .cnt = 1};
    REQUEST(asks, 69, 1, consumer_group_describe, &in);
    world_run(w, 5);
    assert_true(no_response(asks));
    log->hold_flush = false;
    fake_plog_flush(log);
    world_run(w, 5);
    assert_int_equal(beat_take(c[0], (struct beat){0}).member_epoch, 2);
    struct consumer_group_heartbeat_response r = beat_take(c[1], (struct beat){0});
    assert_string_equal(has(&r), "t0 t1");
    close_world();
}

static void a_failed_append_takes_everything_back(void **state)
{
    struct client *c = two_members();
    struct plog *log = world_plog(w, OFFSETS_TOPIC, clog_partition(text("g"), 4));
    log->append_rc = -E_STORAGE;
    beat_send(c, (struct beat){JOIN("c")});
    world_run(w, 5);
    assert_int_equal(beat_take(c, (struct beat){0}).error_code, KE_NOT_COORDINATOR);
    log->append_rc = 0;
    world_run(w, CLOG_RETRY_MS + 10);
    assert_group(c, "Stable", 2, 2, 2);
    expect(c, (struct beat){.member = "a", .epoch = 2}, 2, "-");
    close_world();
}

/* ---- two protocols ---- */

static void the_protocols_do_not_mix_in_a_group_with_members(void **state)
{
    struct client *c = two_members();
    send_join(c, (struct join_opts){0});
    assert_int_equal(take_join(c, 9).error_code, KE_INCONSISTENT_PROTOCOL);
    assert_int_equal(heartbeat(c, "a", NULL, 2), KE_UNKNOWN_MEMBER);
    send_sync(c, "a", 2, NULL, 0);
    assert_int_equal(take_sync(c).error_code, KE_UNKNOWN_MEMBER);
    struct describe_groups_response_group d = describe(c, 6, "g");
    assert_int_equal(d.error_code, KE_GROUP_NOT_FOUND);
    assert_string_equal(str(d.error_message), "Group g is not a classic group.");
    assert_string_equal(str(describe(c, 5, "g").group_state), "Dead");
    close_world();
    open_groups(NULL, 0);
    struct pair p = open_pair();
    assert_int_equal(beat_error(p.c[0], (struct beat){JOIN("x")}), KE_GROUP_NOT_FOUND);
    assert_int_equal(describe_new(p.c[0], "g").error_code, KE_GROUP_NOT_FOUND);
    assert_int_equal(heartbeat(p.c[0], p.id[0], NULL, p.generation), 0);
    close_world();
}

static void a_group_without_members_changes_its_protocol(void **state)
{
    open_groups(NULL, 0);
    struct pair p = open_pair();
    struct client *c = p.c[0];
    assert_int_equal(
        commit(c, (struct commit1){.member = p.id[0], .generation = p.generation, .offset = 5}), 0);
    assert_int_equal(leave(c, p.id[0], NULL), 0);
    assert_int_equal(leave(c, p.id[1], NULL), 0);
    expect(c, (struct beat){JOIN("a")}, 1, "t0 t1 t2 t3");
    assert_int_equal(committed(c, "g"), 5);
    restart();
    c = client_open(w);
    assert_group(c, "Stable", 1, 1, 1);
    assert_int_equal(committed(c, "g"), 5);
    expect(c, (struct beat){.member = "a", .epoch = -1}, -1, "-");
    const char *id = enter(c, (struct join_opts){0});
    world_run(w, 5);
    assert_int_equal(take_join(c, 9).error_code, 0);
    const char *as[] = {id, "all"};
    send_sync(c, id, 1, as, 1);
    assert_string_equal(str(take_sync(c).assignment), "all");
    restart();
    c = client_open(w);
    assert_state(c, "Stable");
    assert_int_equal(describe_new(c, "g").error_code, KE_GROUP_NOT_FOUND);
    assert_int_equal(committed(c, "g"), 5);
    close_world();
}

static uint32_t listed(struct client *c, const char *type, const char *state)
{
    struct list_groups_request in;
    struct list_groups_response out;
    struct span t = text(type), s = text(state);
    list_groups_request_init(&in);
    in.types_filter = (struct wire_spans){.v = &t, .cnt = type != NULL};
    in.states_filter = (struct wire_spans){.v = &s, .cnt = state != NULL};
    REQUEST(c, 16, 5, list_groups, &in);
    world_run(w, 2);
    RESPONSE(c, 16, 5, list_groups, &out);
    assert_int_equal(out.error_code, 0);
    for (uint32_t i = 0; i < out.groups.cnt; i++)
        assert_string_equal(str(out.groups.v[i].protocol_type), "consumer");
    return out.groups.cnt;
}

static int16_t delete_group(struct client *c)
{
    struct delete_groups_request in;
    struct delete_groups_response out;
    struct span name = text("g");
    delete_groups_request_init(&in);
    in.groups_names = (struct wire_spans){.v = &name, .cnt = 1};
    REQUEST(c, 42, 2, delete_groups, &in);
    world_run(w, 3);
    RESPONSE(c, 42, 2, delete_groups, &out);
    return out.results.v[0].error_code;
}

static int16_t delete_offset(struct client *c, const char *topic)
{
    struct offset_delete_request in;
    struct offset_delete_request_topic t;
    struct offset_delete_request_partition p;
    struct offset_delete_response out;
    offset_delete_request_init(&in);
    offset_delete_request_topic_init(&t);
    offset_delete_request_partition_init(&p);
    in.group_id = text("g");
    in.topics.v = &t;
    in.topics.cnt = 1;
    t.name = text(topic);
    t.partitions.v = &p;
    t.partitions.cnt = 1;
    REQUEST(c, 47, 0, offset_delete, &in);
    world_run(w, 3);
    RESPONSE(c, 47, 0, offset_delete, &out);
    assert_int_equal(out.error_code, 0);
    return out.topics.v[0].partitions.v[0].error_code;
}

static void groups_are_listed_and_deleted(void **state)
{
    struct client *c = two_members();
    world_topic(w, "u", NULL);
    world_run(w, 2);
    assert_int_equal(listed(c, NULL, NULL), 1);
    assert_int_equal(listed(c, "Consumer", "stable"), 1);
    assert_int_equal(listed(c, "classic", NULL), 0);
    assert_int_equal(listed(c, "consumer", "Empty"), 0);
    assert_int_equal(commit_as(c, "a", 2, 0), 0);
    assert_int_equal(delete_offset(c, "t"), KE_SUBSCRIBED);
    assert_int_equal(delete_offset(c, "u"), 0);
    assert_int_equal(delete_group(c), KE_NON_EMPTY_GROUP);
    expect(c, (struct beat){.member = "a", .epoch = -1}, -1, "-");
    expect(c, (struct beat){.member = "b", .epoch = -1}, -1, "-");
    assert_int_equal(delete_group(c), 0);
    assert_int_equal(listed(c, NULL, NULL), 0);
    restart();
    c = client_open(w);
    assert_int_equal(listed(c, NULL, NULL), 0);
    assert_int_equal(committed(c, "g"), -1);
    close_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_partition_is_given_up_before_another_member_gets_it),
        cmocka_unit_test(who_leaves_frees_its_partitions_at_once),
        cmocka_unit_test(a_full_request_is_answered_with_the_assignment),
        cmocka_unit_test(changed_subscriptions_and_topics_raise_the_epoch),
        cmocka_unit_test(range_is_used_when_members_ask_for_it),
        cmocka_unit_test(requests_are_checked_before_anything_else),
        cmocka_unit_test(epochs_that_do_not_fit_are_fenced),
        cmocka_unit_test(a_silent_member_is_removed_after_its_session),
        cmocka_unit_test(who_does_not_give_up_in_time_is_removed),
        cmocka_unit_test(what_a_group_configures_holds_from_the_next_heartbeat),
        cmocka_unit_test(a_full_group_takes_nobody),
        cmocka_unit_test(who_joins_again_has_given_up_what_it_must),
        cmocka_unit_test(a_static_member_bounces_without_a_rebalance),
        cmocka_unit_test(an_administrator_removes_members),
        cmocka_unit_test(patterns_follow_the_topics),
        cmocka_unit_test(commits_are_checked_against_the_epoch),
        cmocka_unit_test(fetches_are_checked_against_the_epoch),
        cmocka_unit_test(offsets_of_subscribed_topics_are_kept_and_the_others_expire),
        cmocka_unit_test(nothing_is_lost_by_a_restart),
        cmocka_unit_test(an_answer_waits_until_what_it_saw_is_durable),
        cmocka_unit_test(a_failed_append_takes_everything_back),
        cmocka_unit_test(the_protocols_do_not_mix_in_a_group_with_members),
        cmocka_unit_test(a_group_without_members_changes_its_protocol),
        cmocka_unit_test(groups_are_listed_and_deleted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
