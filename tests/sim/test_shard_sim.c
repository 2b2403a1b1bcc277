/* test_shard_sim.c - four shards, clients that come and go, topics that come and go: nothing
 * parked, pinned, referenced or reserved is left behind, and every answer is what the log says.
 *
 *     test_shard_sim [seeds [first seed]]       SLUICE_TEST_LOG=1: what happens, to stdout */
#include "tests/sim/sim_clients.h"
#include "tests/support/test.h"

#define RUN_MAX_NS (600000 * SIM_MS) /* of virtual time, for all that was asked to be answered */
#define REST_NS (6000 * SIM_MS)      /* drained, checkpointed, idle files closed */

static void topics_disturb(void)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    const char *name = names[sim_rnd(4)];
    struct sim_topic *t = sim_topic_find(name);
    if (t == NULL)
        (void)sim_topic_create(name, 1 + (uint32_t)sim_rnd(6), NULL, NULL);
    else if (sim_chance(50))
        (void)sim_topic_delete(t);
    else
        (void)sim_topic_grow(t, t->partition_cnt + 1);
}

/* Until `until`, or all clients have their answers. */
static void run(uint64_t until, bool topics, bool until_done)
{
    uint64_t topics_ns = topics ? sim->now_ns : SIM_NEVER;
    while (sim->now_ns < until && !(until_done && sim_clients_are_done())) {
        uint64_t at = sim_clients_next();
        at = topics_ns < at ? topics_ns : at;
        at = until < at ? until : at;
        if (sim_step(at))
            continue;
        if (sim->now_ns >= topics_ns) {
            topics_disturb();
            topics_ns = sim->now_ns + sim_rnd(150 * SIM_MS);
        }
        sim_clients_run();
    }
}

static void one_seed(uint64_t seed)
{
    sim_create(seed);
    run(sim->now_ns + 50 * SIM_MS, false, false); /* the first image */
    static const char *const names[] = {"__consumer_offsets", "groups", "a", "b", "c"};
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t partitions = i == 1 ? SIM_PARTS_MAX : 1 + (uint32_t)sim_rnd(6);
        SIM_CHECK(sim_topic_create(names[i], partitions, NULL, NULL), "busy");
        while (sim->apply != NULL)
            (void)sim_step(SIM_NEVER);
    }
    sim_clients_create(3 + (uint32_t)sim_rnd(10));
    run(sim->now_ns + (100 + sim_rnd(500)) * SIM_MS, sim_chance(60), false);
    bool in_the_middle = sim_chance(30); /* of everything the shards are stopped */
    if (!in_the_middle) {
        sim_clients_finish();
        run(sim->now_ns + RUN_MAX_NS, false, true);
        SIM_CHECK(sim_clients_are_done(), "calls that are never answered");
        sim_clients_close();
        run(sim->now_ns + REST_NS, false, false);
        sim_check_nothing_left();
        sim_log_verify_all();
    }
    sim_stop();
    sim_clients_finish();
    uint64_t until = sim->now_ns + RUN_MAX_NS;
    while (!sim_has_ended() && sim->now_ns < until) {
        uint64_t at = sim_clients_next();
        if (!sim_step(at < until ? at : until))
            sim_clients_run();
    }
    SIM_CHECK(sim_has_ended(), "the shards do not stop");
    sim_clients_destroy();
    sim_log_reset();
    sim_destroy();
}

static uint64_t seeds = 100, first_seed = 1;

static void nothing_is_left_behind_and_every_answer_is_what_the_log_says(void **state)
{
    (void)state;
    for (uint64_t s = first_seed; s < first_seed + seeds; s++)
        one_seed(s);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seeds = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left_behind_and_every_answer_is_what_the_log_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
