/* Owners of partitions: balanced at creation, remembered, mapped anew on another shard count. */
#include "tests/support/test.h"
#include "dataplane/control/owners.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/sluice-owners-XXXXXX";

static void fresh_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/sluice-owners-XXXXXX");
    assert_non_null(mkdtemp(dir));
}
static void remove_dir(void)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/owners", dir);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}
static void write_file(const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/owners", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const uint64_t everywhere[64]; /* no disk says otherwise */

static void partitions_are_spread_over_all_shards(void **state)
{
    (void)state;
    struct owners *o;
    bool changed;
    uint32_t load[4] = {0};
    fresh_dir();
    assert_int_equal(owners_load(dir, 4, &o, &changed), 0);
    assert_false(changed);
    for (int t = 0; t < 100; t++) {
        struct uuid id;
        uint8_t own[6];
        uuid_random(&id);
        assert_int_equal(owners_of_topic(o, &id, 6, everywhere, own), 0);
        for (int p = 0; p < 6; p++)
            load[own[p]]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(load[i], 149, 151);
    owners_destroy(o);
    remove_dir();
}

static void owners_survive_a_restart_and_growth(void **state)
{
    (void)state;
    struct owners *o;
    bool changed;
    struct uuid id[50];
    uint8_t before[50][3], after[8];
    fresh_dir();
    assert_int_equal(owners_load(dir, 3, &o, &changed), 0);
    for (int t = 0; t < 50; t++) {
        uuid_random(&id[t]);
        assert_int_equal(owners_of_topic(o, &id[t], 3, everywhere, before[t]), 0);
    }
    owners_forget_topic(o, &id[7]);
    assert_int_equal(owners_save(o), 0);
    owners_destroy(o);
    assert_int_equal(owners_load(dir, 3, &o, &changed), 0);
    assert_false(changed);
    for (int t = 0; t < 50; t++) {
        if (t == 7)
            continue;
        assert_int_equal(owners_of_topic(o, &id[t], 8, everywhere, after), 0);
        assert_memory_equal(after, before[t], 3);
    }
    owners_destroy(o);
    remove_dir();
}

static void another_shard_count_maps_everything_anew_and_says_so(void **state)
{
    (void)state;
    struct owners *o;
    bool changed;
    struct uuid id;
    uint8_t own[64];
    fresh_dir();
    uuid_random(&id);
    assert_int_equal(owners_load(dir, 4, &o, &changed), 0);
    assert_int_equal(owners_of_topic(o, &id, 64, everywhere, own), 0);
    assert_int_equal(owners_save(o), 0);
    owners_destroy(o);
    assert_int_equal(owners_load(dir, 2, &o, &changed), 0);
    assert_true(changed);
    assert_int_equal(owners_of_topic(o, &id, 64, everywhere, own), 0);
    for (int p = 0; p < 64; p++)
        assert_in_range(own[p], 0, 1);
    owners_destroy(o);
    remove_dir();
}

/* Two sockets: the disks of partitions alternate, shards 0-1 are near the first, 2-3 the second. */
static void a_partition_belongs_to_a_shard_of_its_disks_node_also_after_a_remap(void **state)
{
    (void)state;
    struct owners *o;
    bool changed;
    struct uuid id[20];
    uint8_t own[6];
    const uint64_t two[6] = {0x3, 0xc, 0x3, 0xc, 0x3, 0xc},
                   more[6] = {0x7, 0xf8, 0x7, 0xf8, 0x7, 0xf8};
    fresh_dir();
    assert_int_equal(owners_load(dir, 4, &o, &changed), 0);
    for (int t = 0; t < 20; t++) {
        uint32_t of_topic[4] = {0};
        uuid_random(&id[t]);
        assert_int_equal(owners_of_topic(o, &id[t], 4, two, own), 0);
        for (int p = 0; p < 4; p++) {
            assert_true(two[p] >> own[p] & 1);
            of_topic[own[p]]++;
        }
        for (int s = 0; s < 4; s++)
            assert_int_equal(of_topic[s], 1);
    }
    assert_int_equal(owners_save(o), 0);
    owners_destroy(o);
    assert_int_equal(owners_load(dir, 8, &o, &changed), 0);
    assert_true(changed);
    for (int t = 0; t < 20; t++) {
        assert_int_equal(owners_of_topic(o, &id[t], 6, more, own), 0);
        for (int p = 0; p < 6; p++)
            assert_true(more[p] >> own[p] & 1);
    }
    assert_int_equal(owners_save(o), 0);
    owners_destroy(o);
    /* The disk moved to another node: what is stored stays. */
    assert_int_equal(owners_load(dir, 8, &o, &changed), 0);
    assert_false(changed);
    uint8_t again[6];
    const uint64_t moved[6] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    assert_int_equal(owners_of_topic(o, &id[19], 6, moved, again), 0);
    assert_memory_equal(again, own, 6);
    owners_destroy(o);
    remove_dir();
}

static void a_damaged_file_is_reported_and_starts_anew(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "sluice-owners 2 4\n",
        "sluice-owners 1 4\nnot an id 0 0\n",
        "sluice-owners 1 4\nAAAAAAAAAAAAAAAAAAAAAA 0 0\n",
        "sluice-owners 1 4\nAAAAAAAAAAAAAAAAAAAAZA 0 9\n",
        "sluice-owners 1 4\nAAAAAAAAAAAAAAAAAAAAZA 0 1\nAAAAAAAAAAAAAAAAAAAAZA 0 1\n",
        "sluice-owners 1 4\nAAAAAAAAAAAAAAAAAAAAZA 4000000000 1\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct owners *o;
        bool changed;
        struct uuid id;
        uint8_t own[4];
        fresh_dir();
        write_file(bad[i]);
        assert_int_equal(owners_load(dir, 4, &o, &changed), 0);
        assert_true(changed);
        uuid_random(&id);
        assert_int_equal(owners_of_topic(o, &id, 4, everywhere, own), 0);
        assert_int_equal(owners_save(o), 0);
        owners_destroy(o);
        remove_dir();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partitions_are_spread_over_all_shards),
        cmocka_unit_test(owners_survive_a_restart_and_growth),
        cmocka_unit_test(another_shard_count_maps_everything_anew_and_says_so),
        cmocka_unit_test(a_partition_belongs_to_a_shard_of_its_disks_node_also_after_a_remap),
        cmocka_unit_test(a_damaged_file_is_reported_and_starts_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
