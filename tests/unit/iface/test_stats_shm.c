/* test_stats_shm.c - publishing, reading and carrying counters. */
#include "lib/iface/stats_shm.h"
#include "tests/support/test.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64], shm_path[96], ledger_path[96];
static struct conf conf;

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/sluice-stats-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(shm_path, sizeof(shm_path), "%s/stats.shm", dir);
    snprintf(ledger_path, sizeof(ledger_path), "%s/ledger", dir);
    memset(&conf, 0, sizeof(conf));
    conf.port_cnt = 1;
    strcpy(conf.ports[0].name, "uplink");
    conf.listener_cnt = 2;
    strcpy(conf.listeners[0].name, "syslog");
    strcpy(conf.listeners[1].name, "other");
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    unlink(shm_path);
    unlink(ledger_path);
    rmdir(dir);
    return 0;
}

static struct stats_shm *create(uint16_t shards, const struct counters *carried,
                                const struct ledger_gap *gap)
{
    static const char *const stages[] = {"mbox", "conn"};
    struct stats_create_opts o = {.conf = &conf,
                                  .shard_cnt = shards,
                                  .stage_cnt = 2,
                                  .stage_names = stages,
                                  .tsc_hz = 1000,
                                  .start_wall_ms = 5000,
                                  .carried = carried};
    if (gap != NULL)
        o.gap = *gap;
    struct stats_shm *shm;
    assert_int_equal(stats_create(shm_path, &o, &shm), 0);
    return shm;
}

/* Balanced counters that grow with n. */
static void fill(struct counters *c, uint64_t n)
{
    c->shard.turns = n;
    c->shard.turn_max_cycles = n;
    c->shard.connections = 3;
    c->port[0].seen = 3 * n;
    c->port[0].to_udp = 2 * n;
    c->port[0].drop[PDROP_udp_port] = n;
    c->listener[1].received = 2 * n;
    c->listener[1].parsed = 2 * n;
    c->events[1].produced = 2 * n;
    c->events[1].durable = n;
    c->events[1].in_flight = n > 4 ? 4 : n;
    c->events[1].drop[EDROP_no_buffer] = n - c->events[1].in_flight;
}

static void totals_are_sums_over_shards_and_earlier_runs(void **state)
{
    (void)state;
    struct counters *c = calloc(2, sizeof(*c)), *carried = c + 1, got;
    fill(carried, 100);
    carried->shard.connections = 0;
    struct stats_shm *shm = create(2, carried, NULL);
    struct stats_reader *r;
    assert_int_equal(stats_open(shm_path, &r), 0);
    assert_string_equal(stats_header(r)->listener_name[1], "other");
    assert_string_equal(stats_header(r)->stage_name[1], "conn");
    assert_int_equal(stats_read(r, 0, &got), 0);
    assert_int_equal(got.shard.turns, 0);
    fill(c, 10);
    stats_publish(stats_block(shm, 0), c, 1, 6000, true);
    fill(c, 30);
    stats_publish(stats_block(shm, 1), c, 1, 7000, true);
    assert_int_equal(stats_read(r, 1, &got), 0);
    assert_int_equal(got.shard.turns, 30);
    assert_int_equal(got.events[1].in_flight, 4);
    assert_int_equal(stats_read_total(r, &got), 0);
    assert_int_equal(got.shard.turns, 140);
    assert_int_equal(got.shard.turn_max_cycles, 100);
    assert_int_equal(got.shard.connections, 6);
    assert_int_equal(got.listener[1].received, 280);
    assert_int_equal(stats_last_ms(r), 7000);
    char err[128];
    assert_int_equal(stats_check(&got, 1, 2, err, sizeof(err)), 0);
    got.events[1].durable++;
    assert_int_equal(stats_check(&got, 1, 2, err, sizeof(err)), -E_MALFORMED);
    assert_non_null(strstr(err, "listener 1"));
    stats_close(r);
    stats_destroy(shm);
    free(c);
}

static void an_idle_shard_publishes_only_now_and_then(void **state)
{
    (void)state;
    struct counters *c = calloc(1, sizeof(*c)), got;
    struct stats_shm *shm = create(1, NULL, NULL);
    struct stats_reader *r;
    assert_int_equal(stats_open(shm_path, &r), 0);
    struct stats_block *b = stats_block(shm, 0);
    stats_publish(b, c, STATS_PUBLISH_IDLE_NS, 0, true);
    c->shard.turns = 1;
    stats_publish(b, c, STATS_PUBLISH_IDLE_NS + 5, 0, false);
    assert_int_equal(stats_read(r, 0, &got), 0);
    assert_int_equal(got.shard.turns, 0);
    stats_publish(b, c, 2 * STATS_PUBLISH_IDLE_NS, 0, false);
    assert_int_equal(stats_read(r, 0, &got), 0);
    assert_int_equal(got.shard.turns, 1);
    stats_close(r);
    stats_destroy(shm);
    free(c);
}

static _Atomic bool writer_stop;
static void *writer_run(void *arg)
{
    struct counters *c = calloc(1, sizeof(*c));
    for (uint64_t n = 1; !atomic_load(&writer_stop); n++) {
        fill(c, n);
        stats_publish(arg, c, n, (int64_t)n, true);
    }
    free(c);
    return NULL;
}

static void every_snapshot_balances_while_a_shard_publishes(void **state)
{
    (void)state;
    struct stats_shm *shm = create(1, NULL, NULL);
    struct stats_reader *r;
    assert_int_equal(stats_open(shm_path, &r), 0);
    pthread_t t;
    atomic_store(&writer_stop, false);
    assert_int_equal(pthread_create(&t, NULL, writer_run, stats_block(shm, 0)), 0);
    uint64_t last = 0;
    uint32_t got_cnt = 0;
    for (int i = 0; i < 20000; i++) {
        struct counters got;
        char err[128];
        if (stats_read(r, 0, &got) < 0)
            continue; /* the writer here never pauses as a shard does */
        got_cnt++;
        assert_int_equal(stats_check(&got, 1, 2, err, sizeof(err)), 0);
        assert_true(got.shard.turns >= last);
        assert_int_equal(got.listener[1].received, 2 * got.shard.turns);
        last = got.shard.turns;
    }
    atomic_store(&writer_stop, true);
    pthread_join(t, NULL);
    assert_true(got_cnt > 0);
    stats_close(r);
    stats_destroy(shm);
}

static void the_loudest_sources_are_those_of_the_last_second(void **state)
{
    struct stats_shm *shm = create(2, NULL, NULL);
    struct stats_reader *r;
    struct stats_talker t[STATS_TALKERS_MAX], got[STATS_TALKERS_MAX];
    assert_int_equal(stats_open(shm_path, &r), 0);
    assert_int_equal(stats_read_talkers(r, 0, got), 0);
    for (uint32_t n = 0; n <= STATS_TALKERS_MAX; n += 4) {
        for (uint32_t i = 0; i < n; i++)
            t[i] = (struct stats_talker){{(uint8_t)i, (uint8_t)n}, n + i, n - i};
        stats_publish_talkers(stats_block(shm, 1), t, n);
        assert_int_equal(stats_read_talkers(r, 1, got), n);
        assert_memory_equal(got, t, n * sizeof(t[0]));
    }
    assert_int_equal(stats_read_talkers(r, 0, got), 0);
    assert_int_equal(stats_read_talkers(r, 2, got), -EINVAL);
    stats_close(r);
    stats_destroy(shm);
}

static void a_killed_run_continues_exactly_and_its_flight_is_named(void **state)
{
    (void)state;
    struct counters *c = calloc(2, sizeof(*c)), *carried = c + 1;
    struct ledger_gap gap;
    char err[128], json[256];
    assert_int_equal(
        ledger_recover(shm_path, ledger_path, &conf, 1, carried, &gap, err, sizeof(err)), 0);
    assert_false(gap.had_previous);
    struct stats_shm *shm = create(1, NULL, NULL);
    fill(c, 50);
    stats_publish(stats_block(shm, 0), c, 1, 9000, true);
    stats_destroy(shm); /* as a kill would: no checkpoint */
    /* the next configuration has the listeners in another order */
    strcpy(conf.listeners[0].name, "other");
    strcpy(conf.listeners[1].name, "syslog");
    assert_int_equal(
        ledger_recover(shm_path, ledger_path, &conf, 9500, carried, &gap, err, sizeof(err)), 0);
    assert_true(gap.had_previous);
    assert_false(gap.clean);
    assert_int_equal(gap.from_ms, 9000);
    assert_int_equal(gap.to_ms, 9500);
    assert_int_equal(gap.in_flight_lost_max, 4);
    assert_int_equal(carried->events[0].produced, 100);
    assert_int_equal(carried->events[0].drop[EDROP_restart], 4);
    assert_int_equal(carried->events[0].in_flight, 0);
    assert_int_equal(carried->shard.connections, 0);
    assert_int_equal(stats_check(carried, 1, 2, err, sizeof(err)), 0);
    assert_true(ledger_gap_json(&gap, json, sizeof(json)) > 0);
    assert_string_equal(json, "{\"reason\":\"crash\",\"from\":9000,\"to\":9500,\"clean\":false,"
                              "\"in_flight_lost_max\":4,\"nic_unobserved\":true,"
                              "\"shards_before\":0,\"shards\":0}");
    assert_int_equal(ledger_gap_json(&gap, json, 10), -E_LIMIT);
    free(c);
}

static void a_checkpoint_keeps_every_word(void **state)
{
    (void)state;
    struct counters *c = calloc(2, sizeof(*c)), *carried = c + 1;
    struct ledger_gap gap;
    char err[128];
    fill(c, 50);
    c->shard.turn_max_cycles = 0; /* not carried */
    c->shard.connections = 0;
    c->shard.api_requests[95] = 7;
    c->shard.stage_items[15] = 8;
    c->port[0].drop[PDROP_CNT - 1] = 0;
    c->events[1].drop[EDROP_no_buffer] += c->events[1].in_flight;
    c->events[1].in_flight = 0;
    assert_int_equal(ledger_save(ledger_path, &conf, c, 1234, true), 0);
    assert_int_equal(
        ledger_recover(shm_path, ledger_path, &conf, 2000, carried, &gap, err, sizeof(err)), 0);
    assert_memory_equal(c, carried, sizeof(*c));
    assert_true(gap.clean);
    assert_int_equal(gap.from_ms, 1234);
    assert_int_equal(gap.in_flight_lost_max, 0);
    /* the machine went down: a periodic checkpoint cannot know what came after it */
    assert_int_equal(ledger_save(ledger_path, &conf, c, 1234, false), 0);
    assert_int_equal(
        ledger_recover(shm_path, ledger_path, &conf, 2000, carried, &gap, err, sizeof(err)), 0);
    assert_int_equal(gap.in_flight_lost_max, -1);
    free(c);
}

static void a_damaged_checkpoint_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "nonsense\n",
        "sluice-ledger 1\ntime_ms x\n",
        "sluice-ledger 1\ntime_ms 1\nclean 1\n",
        "sluice-ledger 1\ntime_ms 1\nclean 1\nshard turns\nend\n",
        "sluice-ledger 1\ntime_ms 1\nclean 1\nshard turns 1x\nend\n",
        "sluice-ledger 1\ntime_ms 1\nclean 1\nevents a b c d 1\nend\n",
    };
    struct counters *c = calloc(1, sizeof(*c));
    struct ledger_gap gap;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char err[200] = "";
        FILE *f = fopen(ledger_path, "w");
        fputs(bad[i], f);
        fclose(f);
        assert_int_equal(ledger_recover(shm_path, ledger_path, &conf, 1, c, &gap, err, sizeof(err)),
                         -E_MALFORMED);
        assert_non_null(strstr(err, "line"));
    }
    FILE *f = fopen(ledger_path, "w"); /* unknown names are another build's, not damage */
    fputs("sluice-ledger 1\ntime_ms 1\nclean 1\nshard no_such 4\nport gone seen 5\nend\n", f);
    fclose(f);
    char err[200];
    assert_int_equal(ledger_recover(shm_path, ledger_path, &conf, 1, c, &gap, err, sizeof(err)), 0);
    free(c);
}

static void foreign_and_short_files_are_refused(void **state)
{
    (void)state;
    struct stats_reader *r;
    assert_int_equal(stats_open(shm_path, &r), -ENOENT);
    FILE *f = fopen(shm_path, "w");
    fputs("hello", f);
    fclose(f);
    assert_int_equal(stats_open(shm_path, &r), -E_MALFORMED);
    stats_destroy(create(2, NULL, NULL));
    assert_int_equal(stats_open(shm_path, &r), 0);
    stats_close(r);
    f = fopen(shm_path, "r+");
    fseek(f, offsetof(struct stats_header, layout), SEEK_SET);
    fputc(1, f);
    fputc(2, f);
    fclose(f);
    assert_int_equal(stats_open(shm_path, &r), -E_UNSUPPORTED_VERSION);
    assert_int_equal(truncate(shm_path, 100000), 0);
    assert_int_equal(stats_open(shm_path, &r), -E_UNSUPPORTED_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(totals_are_sums_over_shards_and_earlier_runs),
        T(an_idle_shard_publishes_only_now_and_then),
        T(every_snapshot_balances_while_a_shard_publishes),
        T(the_loudest_sources_are_those_of_the_last_second),
        T(a_killed_run_continues_exactly_and_its_flight_is_named),
        T(a_checkpoint_keeps_every_word),
        T(a_damaged_checkpoint_is_refused_with_its_line),
        T(foreign_and_short_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
