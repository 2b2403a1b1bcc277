/* Configuration + plan -> EAL's arguments. */
#include "dataplane/eal_args.c"
#include "tests/support/test.h"

static struct conf c;
static struct plan p;
static struct eal_args a;
static char err[256];

static int setup(void **state)
{
    memset(&c, 0, sizeof(c));
    memset(&p, 0, sizeof(p));
    p.shard_cnt = 2;
    p.shards[0].cpu = p.shards[1].cpu = 1;
    p.other_cnt = 2;
    p.other_cpus[1] = 3;
    c.mbufs = 8192;
    return 0;
}
static void make(void)
{
    eal_args_free(&a);
    int n = eal_args_make(&c, &p, &a, err, sizeof(err));
    assert_true(n > 0);
    assert_int_equal(n, a.cnt);
    assert_null(a.v[n]);
}
static bool has(const char *arg)
{
    for (int i = 0; i < a.cnt; i++)
        if (strcmp(a.v[i], arg) == 0)
            return true;
    return false;
}
static const char *after(const char *arg)
{
    for (int i = 0; i + 1 < a.cnt; i++)
        if (strcmp(a.v[i], arg) == 0)
            return a.v[i + 1];
    return "";
}

static void an_ordinary_user_needs_no_huge_pages_and_no_devices(void **state)
{
    make();
    assert_true(has("--no-huge") && has("--no-shconf") && has("--no-pci") && has("--no-telemetry"));
    assert_false(has("--in-memory")); /* DPDK 22.11 refuses it with --no-huge */
    assert_string_equal(after("-m"), "64");
    assert_string_equal(after("--lcores"), "0@(0,3),1@1,2@1");
    assert_string_equal(after("--main-lcore"), "0");
}

static void huge_pages_leave_no_files(void **state)
{
    c.hugepages = true;
    make();
    assert_true(has("--in-memory"));
    assert_false(has("--no-huge"));
}

static void devices_are_named_and_nothing_else_is_probed(void **state)
{
    c.port_cnt = 2;
    strcpy(c.ports[0].device, "net_af_packet0,iface=v0,qpairs=2");
    strcpy(c.ports[1].device, "0000:3b:00.0");
    make();
    assert_true(has("--vdev=net_af_packet0,iface=v0,qpairs=2"));
    assert_string_equal(after("-a"), "0000:3b:00.0");
    assert_false(has("--no-pci"));
    assert_string_equal(after("-m"), "104"); /* 64 + 2 shards x 8192 x 2560 bytes */
    strcpy(c.ports[1].device, "net_memif0,role=client");
    make();
    assert_true(has("--no-pci"));
    assert_false(has("--single-file-segments"));
    c.hugepages = true;
    make();
    assert_true(has("--single-file-segments"));
}

static void extra_arguments_are_split_and_bounded(void **state)
{
    strcpy(c.eal_extra, "  --iova-mode=va \t--log-level=8 ");
    make();
    assert_true(has("--iova-mode=va") && has("--log-level=8"));
    for (int i = 0; i < 200; i++)
        strcpy(c.eal_extra + 2 * i, "x ");
    eal_args_free(&a);
    assert_rc(eal_args_make(&c, &p, &a, err, sizeof(err)), -E_CONFIG);
    assert_non_null(strstr(err, "more than 96"));
    assert_int_equal(a.cnt, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_ordinary_user_needs_no_huge_pages_and_no_devices, setup),
        cmocka_unit_test_setup(huge_pages_leave_no_files, setup),
        cmocka_unit_test_setup(devices_are_named_and_nothing_else_is_probed, setup),
        cmocka_unit_test_setup(extra_arguments_are_split_and_bounded, setup),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    eal_args_free(&a);
    return failed;
}
