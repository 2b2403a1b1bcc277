/* A thread's memory policy: its node first, and a node that does not exist is refused. */
#include "tests/support/test.h"
#include "dataplane/topo/topo_mem.h"
#include <numa.h>
#include <numaif.h>

static void a_thread_prefers_the_node_it_was_given(void **state)
{
    int policy = -1;
    unsigned long nodes[16] = {0};
    (void)state;
    if (numa_available() < 0)
        skip();
    assert_int_equal(topo_mem_prefer(-1), 0);
    assert_int_equal(get_mempolicy(&policy, NULL, 0, NULL, 0), 0);
    assert_int_equal(policy, MPOL_DEFAULT);
    assert_int_equal(topo_mem_prefer(0), 0);
    assert_int_equal(get_mempolicy(&policy, nodes, sizeof(nodes) * 8, NULL, 0), 0);
    assert_int_equal(policy, MPOL_PREFERRED);
    assert_int_equal(nodes[0], 1);
}

static void a_node_that_is_not_there_is_refused(void **state)
{
    (void)state;
    if (numa_available() < 0)
        skip();
    assert_int_equal(topo_mem_prefer(1000), -EINVAL);
}

TEST_MAIN(TEST(a_thread_prefers_the_node_it_was_given), TEST(a_node_that_is_not_there_is_refused))
