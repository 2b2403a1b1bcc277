/* The machine at hand, and memory on it. */
#include "dataplane/topo/topo.h"
#include "tests/support/test.h"
#include <sched.h>

static void this_machine_is_read(void **state)
{
    static struct topo t;
    static struct conf c;
    c.data_dir_cnt = 2;
    strcpy(c.data_dirs[0], "/");
    strcpy(c.data_dirs[1], "/no/such/directory/yet");
    c.port_cnt = 3;
    strcpy(c.ports[0].device, "0000:ff:1f.7");
    strcpy(c.ports[1].device, "net_af_packet0,iface=lo");
    strcpy(c.ports[2].device, "net_null0");
    assert_ok(topo_scan(&c, &t));
    assert_int_equal(t.cpu_cnt, sysconf(_SC_NPROCESSORS_ONLN));
    cpu_set_t mask;
    CPU_ZERO(&mask);
    assert_int_equal(sched_getaffinity(0, sizeof(mask), &mask), 0);
    int usable = 0;
    for (uint32_t i = 0; i < t.cpu_cnt; i++)
        usable += t.cpus[i].usable;
    assert_int_equal(usable, CPU_COUNT(&mask));
    assert_true(t.node_cnt >= 1);
    assert_true(t.nodes[0].mem_bytes > 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(t.port_node[i], TOPO_NODE_ANY);
}

static void a_synthetic_machine_that_is_none_is_refused(void **state)
{
    static struct topo t;
    assert_rc(topo_scan_synthetic("pack:two", &t), -EINVAL);
}

TEST_MAIN(TEST(this_machine_is_read), TEST(a_synthetic_machine_that_is_none_is_refused))
