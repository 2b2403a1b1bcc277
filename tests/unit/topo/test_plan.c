/* Placement on machines that are not here: two sockets, hyperthreads, NICs and disks on either. */
#include "dataplane/topo/topo_plan.c"
#include "tests/support/test.h"

static struct topo t;
static struct conf c;
static struct plan p;
static char err[256];

static void machine(const char *description)
{
    assert_ok(topo_scan_synthetic(description, &t));
    memset(&c, 0, sizeof(c));
    c.data_dir_cnt = 1;
    strcpy(c.data_dirs[0], "/data/0");
    err[0] = '\0';
}
#define TWO_SOCKETS "pack:2 [numa(memory=64GiB)] core:8 pu:2"
#define TWO_CPUS "pack:1 [numa(memory=4GiB)] core:2 pu:1"

static int plan_it(void)
{
    return topo_plan(&t, &c, &p, err, sizeof(err));
}
static void refused(const char *part)
{
    assert_rc(plan_it(), -E_CONFIG);
    if (strstr(err, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err, part);
}
static void warned(const char *part)
{
    for (uint32_t i = 0; i < p.warning_cnt; i++)
        if (strstr(p.warnings[i], part) != NULL)
            return;
    fail_msg("no warning says \"%s\"", part);
}

static void the_facts_of_two_sockets_are_read(void **state)
{
    machine(TWO_SOCKETS);
    assert_int_equal(t.cpu_cnt, 32);
    assert_int_equal(t.node_cnt, 2);
    int nodes[2] = {0}, cores[16] = {0};
    for (uint32_t i = 0; i < 32; i++) {
        assert_in_range(t.cpus[i].node, 0, 1);
        assert_int_equal(t.cpus[i].package, t.cpus[i].node);
        assert_in_range(t.cpus[i].core, 0, 15);
        nodes[t.cpus[i].node]++;
        cores[t.cpus[i].core]++;
    }
    assert_int_equal(nodes[0], 16);
    for (int i = 0; i < 16; i++)
        assert_int_equal(cores[i], 2);
    assert_int_equal(t.nodes[1].mem_bytes, (uint64_t)64 << 30);
}

static void nic_disk_cores_and_memory_of_one_node_go_together(void **state)
{
    machine(TWO_SOCKETS);
    c.port_cnt = 1;
    c.data_dir_cnt = 2;
    t.port_node[0] = 1;
    t.dir_node[0] = 0;
    t.dir_node[1] = 1;
    c.shard_cnt = 7;
    c.data_dir_cnt = 1;
    assert_ok(plan_it());
    warned("no shard runs on node 0, where /data/0 is");
    assert_true(p.dir_shards[0] == 0x7f); /* somebody must */
    t.dir_node[0] = 1;
    c.data_dir_cnt = 2;
    assert_ok(plan_it());
    assert_true(p.dir_shards[0] == 0x7f);
    assert_true(p.dir_shards[1] == 0x7f);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(p.shards[i].node, 1);
        assert_int_equal(p.shards[i].queue[0], (int)i);
        for (uint32_t k = 0; k < i; k++) /* one shard per physical core */
            assert_int_not_equal(find_cpu(&t, p.shards[i].cpu)->core,
                                 find_cpu(&t, p.shards[k].cpu)->core);
    }
    assert_int_equal(p.warning_cnt, 0);
    assert_int_equal(p.port_queues[0], 7);
    assert_int_equal(p.other_cnt, 25);
}

static void two_nics_split_the_shards_and_each_gets_local_queues(void **state)
{
    machine(TWO_SOCKETS);
    c.port_cnt = 2;
    c.ports[0].queues = c.ports[1].queues = 3;
    t.port_node[0] = 0;
    t.port_node[1] = 1;
    c.shard_cnt = 6;
    assert_ok(plan_it());
    for (uint32_t i = 0; i < 6; i++) {
        int node = p.shards[i].node;
        assert_true(p.shards[i].queue[node] >= 0);
        assert_int_equal(p.shards[i].queue[1 - node], PLAN_QUEUE_NONE);
    }
    assert_int_equal(p.warning_cnt, 0);
}

static void without_ports_the_disks_decide(void **state)
{
    machine(TWO_SOCKETS);
    t.dir_node[0] = 1;
    assert_ok(plan_it());
    assert_int_equal(p.shard_cnt, 7); /* eight cores, one for the rest */
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(p.shards[i].node, 1);
}

static void more_shards_than_near_cores_spill_and_say_so(void **state)
{
    machine(TWO_SOCKETS);
    c.port_cnt = 1;
    strcpy(c.ports[0].name, "p0");
    t.port_node[0] = 0;
    t.dir_node[0] = 0;
    c.shard_cnt = 10;
    assert_ok(plan_it());
    uint32_t near = 0;
    for (uint32_t i = 0; i < 10; i++)
        near += p.shards[i].node == 0;
    assert_int_equal(near, 8);
    warned("port p0 on node 0 is polled by shard");
    for (uint32_t i = 0; i < 10; i++) /* the two that spilled own nothing there */
        assert_int_equal(p.dir_shards[0] >> i & 1, p.shards[i].node == 0);
}

static void partitions_of_a_disk_belong_to_the_shards_of_its_node(void **state)
{
    machine(TWO_SOCKETS);
    c.data_dir_cnt = 3;
    t.dir_node[0] = 0;
    t.dir_node[1] = 1;
    t.dir_node[2] = TOPO_NODE_ANY; /* a RAM disk, say */
    strcpy(c.cpus, "16,18,20,22,0");
    assert_ok(plan_it());
    assert_int_equal(p.shard_cnt, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(p.dir_shards[0] >> i & 1, p.shards[i].node == 0);
        assert_int_equal(p.dir_shards[1] >> i & 1, p.shards[i].node == 1);
    }
    assert_true(p.dir_shards[0] == 0x10);
    assert_true(p.dir_shards[2] == 0x1f);
    assert_int_equal(p.warning_cnt, 0);
}

static void listed_cpus_are_taken_as_listed(void **state)
{
    machine(TWO_SOCKETS);
    strcpy(c.cpus, "30,2-4");
    assert_ok(plan_it());
    assert_int_equal(p.shard_cnt, 4);
    assert_int_equal(p.shards[0].cpu, 30);
    assert_int_equal(p.shards[0].node, 1);
    assert_int_equal(p.shards[1].cpu, 2);
    assert_int_equal(p.shards[3].cpu, 4);
    c.shard_cnt = 2;
    assert_ok(plan_it());
    warned("the last 2 stay unused");
}

static void a_small_machine_runs_one_two_and_four_shards(void **state)
{
    machine(TWO_CPUS);
    for (uint32_t n = 0; n <= 4; n++) {
        c.shard_cnt = n;
        c.idle_poll = true;
        assert_ok(plan_it());
        assert_int_equal(p.shard_cnt, n == 0 ? 1 : n);
        assert_int_equal(p.shards[0].cpu, 1); /* CPU 0 has the kernel's work */
        for (uint32_t i = 0; i < p.shard_cnt; i++)
            assert_int_equal(p.shards[i].shares_cpu, n == 4 || (n == 3 && i != 1));
        assert_int_equal(p.idle_poll, n <= 2);
        assert_true(p.other_cnt == (n < 2 ? 1 : 2));
    }
    warned("4 shards share 2 CPUs");
    warned("idle: poll is not possible");
}

static void cpus_that_may_not_be_used_are_not_used(void **state)
{
    machine("pack:1 core:4 pu:1");
    t.cpus[0].usable = t.cpus[3].usable = false;
    c.shard_cnt = 2;
    assert_ok(plan_it());
    assert_int_equal(p.shards[0].cpu + p.shards[1].cpu, 3);
    strcpy(c.cpus, "3");
    refused("CPU 3 is outside the set that this process may use");
    for (int i = 0; i < 4; i++)
        t.cpus[i].usable = false;
    c.cpus[0] = '\0';
    refused("no CPU is usable");
}

static void impossible_wishes_are_named(void **state)
{
    machine(TWO_CPUS);
    strcpy(c.cpus, "0,7");
    refused("this machine has no CPU 7");
    strcpy(c.cpus, "0,0");
    refused("CPU 0 is listed twice");
    strcpy(c.cpus, "0,x");
    refused("a number from 0 to 65535 was expected at \"x\"");
    strcpy(c.cpus, "1-0");
    refused("a number from 1 to 65535 was expected at \"0\"");
    strcpy(c.cpus, "0;1");
    refused("unexpected \";1\"");
    strcpy(c.cpus, "");
    c.shard_cnt = 65;
    refused("at most 64");
    c.shard_cnt = 2;
    c.port_cnt = 1;
    strcpy(c.ports[0].name, "uplink");
    c.ports[0].queues = 4;
    refused("port uplink: 4 queues, but only 2 shards");
}

static void any_machine_gives_a_consistent_plan(void **state)
{
    struct test_rng r = {test_seed(7)};
    for (int round = 0; round < 300; round++) {
        char d[64];
        uint32_t packs = 1 + (uint32_t)rng_below(&r, 4), cores = 1 + (uint32_t)rng_below(&r, 12);
        snprintf(d, sizeof(d), "pack:%u [numa] core:%u pu:%u", packs, cores,
                 1 + (uint32_t)rng_below(&r, 2));
        machine(d);
        c.shard_cnt = (uint32_t)rng_below(&r, 65);
        c.port_cnt = (uint32_t)rng_below(&r, 4);
        c.data_dir_cnt = 1 + (uint32_t)rng_below(&r, 4);
        for (uint32_t i = 0; i < 4; i++) {
            t.port_node[i] = (int)rng_below(&r, packs + 1) - 1;
            t.dir_node[i] = (int)rng_below(&r, packs + 1) - 1;
        }
        assert_ok(plan_it());
        assert_in_range(p.shard_cnt, 1, 64);
        assert_true(p.other_cnt > 0);
        uint32_t load[TOPO_CPUS_MAX] = {0}, lo = UINT32_MAX, hi = 0;
        for (uint32_t i = 0; i < p.shard_cnt; i++) {
            const struct topo_cpu *cpu = find_cpu(&t, p.shards[i].cpu);
            assert_non_null(cpu);
            assert_int_equal(cpu->node, p.shards[i].node);
            load[cpu->cpu]++;
        }
        for (uint32_t i = 0; i < t.cpu_cnt; i++) {
            lo = load[i] < lo ? load[i] : lo;
            hi = load[i] > hi ? load[i] : hi;
        }
        assert_true(hi - lo <= 1);
        for (uint32_t i = 0; i < c.data_dir_cnt; i++) {
            assert_true(p.dir_shards[i] != 0);
            assert_true(p.shard_cnt == 64 || p.dir_shards[i] >> p.shard_cnt == 0);
        }
        for (uint32_t q = 0; q < c.port_cnt; q++) { /* each queue exactly once */
            uint64_t seen = 0;
            for (uint32_t i = 0; i < p.shard_cnt; i++)
                seen |= UINT64_C(1) << p.shards[i].queue[q];
            assert_true(seen ==
                        (p.shard_cnt == 64 ? UINT64_MAX : (UINT64_C(1) << p.shard_cnt) - 1));
        }
    }
}

TEST_MAIN(TEST(the_facts_of_two_sockets_are_read),
          TEST(nic_disk_cores_and_memory_of_one_node_go_together),
          TEST(two_nics_split_the_shards_and_each_gets_local_queues),
          TEST(without_ports_the_disks_decide), TEST(more_shards_than_near_cores_spill_and_say_so),
          TEST(partitions_of_a_disk_belong_to_the_shards_of_its_node),
          TEST(listed_cpus_are_taken_as_listed), TEST(a_small_machine_runs_one_two_and_four_shards),
          TEST(cpus_that_may_not_be_used_are_not_used), TEST(impossible_wishes_are_named),
          TEST(any_machine_gives_a_consistent_plan))
