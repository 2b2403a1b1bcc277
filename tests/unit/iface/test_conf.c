/* test_conf.c - configuration keys as text, and the internal file. */
#include "lib/base/build_id.h"
#include "lib/iface/conf.c"
#include "tests/support/test.h"

static void defaults_are_those_of_dev(void **state)
{
    struct conf *c = malloc(sizeof(*c));
    conf_defaults(c);
    assert_true(c->dev);
    assert_int_equal(c->shard_cnt, 1);
    assert_string_equal(c->dir, "./sluice-data");
    assert_int_equal(c->data_dir_cnt, 1);
    assert_string_equal(c->data_dirs[0], "./sluice-data/log");
    assert_int_equal(c->kafka_cnt, 1);
    assert_int_equal(c->kafka[0].bind.port, 9092);
    assert_int_equal(c->listener_cnt, 2);
    assert_int_equal(c->listeners[0].transport, CONF_UDP);
    assert_int_equal(c->listeners[1].transport, CONF_TCP);
    assert_string_equal(c->listeners[1].topic, "syslog");
    assert_int_equal(c->listeners[1].topic_partitions, -1);
    assert_int_equal(c->listeners[0].header_mask, (1 << RH_CNT) - 1);
    assert_int_equal(c->log_retention_bytes, -1);
    assert_int_equal(c->log_retention_ms, 7 * 86400000ll);
    assert_int_equal(c->message_max_bytes, 1048588);
    assert_int_equal(c->http_bind.port, 9644);
    free(c);
}

static void set_ok(struct conf *c, const char *path, const char *value)
{
    char err[512] = "";
    if (conf_set(c, path, value, false, err, sizeof(err)) < 0)
        fail_msg("%s=%s: %s", path, value, err);
}
static void each_kind_of_value_is_read(void **state)
{
    struct conf *c = malloc(sizeof(*c));
    conf_init(c);
    set_ok(c, "memory.staging", "32 MiB");
    assert_int_equal(c->staging_bytes, 32 << 20);
    set_ok(c, "topic_defaults.message_max_bytes", "4096");
    assert_int_equal(c->message_max_bytes, 4096);
    set_ok(c, "storage.flush_max", "2s");
    assert_int_equal(c->flush_max_ms, 2000);
    set_ok(c, "topic_defaults.retention", "-1");
    assert_int_equal(c->log_retention_ms, -1);
    set_ok(c, "topic_defaults.retention", "3h");
    assert_int_equal(c->log_retention_ms, 3 * 3600000);
    set_ok(c, "idle", "poll");
    assert_true(c->idle_poll);
    set_ok(c, "listeners[0].zone", "-03:30");
    assert_int_equal(c->listeners[0].zone_offset_s, -12600);
    set_ok(c, "listeners[0].headers", "host, app");
    assert_int_equal(c->listeners[0].header_mask, 1 << RH_HOST | 1 << RH_APP);
    set_ok(c, "kafka.listeners[0].bind", "[::1]:1");
    assert_int_equal(c->kafka[0].bind.ip[15], 1);
    set_ok(c, "ports[0].addresses[0]", "192.0.2.1/24");
    set_ok(c, "ports[0].addresses[1]", "2001:db8::1/64");
    set_ok(c, "ports[0].routes[0].via", "192.0.2.254");
    assert_int_equal(c->port_cnt, 1);
    assert_int_equal(c->ports[0].mtu, 1500);
    assert_int_equal(c->ports[0].addr_cnt, 2);
    assert_int_equal(c->ports[0].addrs[1].prefix_len, 64);
    assert_int_equal(c->ports[0].route_cnt, 1);
    set_ok(c, "data.log_dirs[0]", "/mnt/a");
    conf_finish(c);
    assert_int_equal(c->data_dir_cnt, 2);
    assert_string_equal(c->data_dirs[0], "/var/lib/sluice/log");
    assert_string_equal(c->data_dirs[1], "/mnt/a");
    free(c);
}

static void every_mistake_has_its_own_sentence(void **state)
{
    static const struct {
        const char *path, *value, *err;
    } rows[] = {
        {"storage.flush_mex", "1s",
         "unknown key 'storage.flush_mex'; did you mean 'storage.flush_max'?"},
        {"listeners[0].tpoic", "x",
         "unknown key 'listeners[0].tpoic'; did you mean 'listeners[0].topic'?"},
        {"nonsense", "1", "unknown key 'nonsense'"},
        {"node.dev", "true", "unknown key 'node.dev'"},
        {"storage", "1", "storage is a group of keys, not one value"},
        {"listeners", "1", "listeners is a list, not one value"},
        {"listeners[0]", "1", "listeners[0] is a group of keys, not one value"},
        {"listeners[7].topic", "x", "listeners has 2 entries, the next index is 2"},
        {"listeners[x].topic", "x", "unknown key 'listeners[x].topic'"},
        {"shards", "many", "shards: 'many' is not a whole number"},
        {"shards", "65", "shards: 65 is above the maximum 64"},
        {"shards", "-1", "shards: -1 is below the minimum 0"},
        {"shards", "99999999999999999999", "shards: '99999999999999999999' is not a whole number"},
        {"memory.staging", "1KiB", "memory.staging: 1KiB is below the minimum 4MiB"},
        {"memory.staging", "10MB",
         "memory.staging: '10MB' has an unknown unit 'MB': write one of B, KiB, MiB, GiB, TiB"},
        {"memory.staging", "much",
         "memory.staging: 'much' is not a size: write a number and a unit (B, KiB, MiB, GiB, TiB)"},
        {"memory.staging", "9999999999TiB", "memory.staging: '9999999999TiB' is too large"},
        {"storage.flush_max", "20",
         "storage.flush_max: '20' has no unit: write one of ms, s, m, h, d"},
        {"storage.flush_max", "0ms", "storage.flush_max: 0ms is below the minimum 1ms"},
        {"storage.flush_max", "1d", "storage.flush_max: 1d is above the maximum 10s"},
        {"hugepages", "yes", "hugepages: 'yes' is not true or false"},
        {"idle", "busy", "idle: 'busy' is not one of adaptive, poll"},
        {"kafka.listeners[0].bind", "localhost:1",
         "kafka.listeners[0].bind: 'localhost:1' is not an address and port: write 127.0.0.1:9092 "
         "or [::1]:9092"},
        {"listeners[0].name", "a b",
         "listeners[0].name: 'a b' is not a name: use letters, digits, '.', '_' and '-'"},
        {"listeners[0].name", "", "listeners[0].name: must not be empty"},
        {"listeners[0].topic", "a/b",
         "listeners[0].topic: 'a/b' is not a topic name: 1 to 249 of letters, digits, '.', '_', "
         "'-'"},
        {"listeners[0].zone", "CET",
         "listeners[0].zone: 'CET' is not a zone: write UTC or an offset such as +02:00"},
        {"listeners[0].zone", "+15:00", "listeners[0].zone: '+15:00' is outside -14:00 .. +14:00"},
        {"listeners[0].headers", "host colour", "listeners[0].headers: 'colour' is not a header"},
        {"ports[0].addresses[0]", "10.0.0.1",
         "ports[0].addresses[0]: '10.0.0.1' is not an address with prefix length, such as "
         "192.0.2.10/24"},
        {"ports[0].addresses[0]", "10.0.0.1/33",
         "ports[0].addresses[0]: '10.0.0.1/33' is not an address with prefix length, such as "
         "192.0.2.10/24"},
        {"ports[0].routes[0].via", "gw", "ports[0].routes[0].via: 'gw' is not an IP address"},
        {"node.cluster_id", "short",
         "node.cluster_id: 'short' is not an id of 22 base64url characters"},
        {"cpus", "1\n2", "cpus: contains a control character (0x0a)"},
    };
    struct conf *c = malloc(sizeof(*c));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char err[512] = "";
        conf_init(c);
        assert_rc(conf_set(c, rows[i].path, rows[i].value, false, err, sizeof(err)), -E_CONFIG);
        assert_string_equal(err, rows[i].err);
    }
    free(c);
}

static void a_list_holds_no_more_than_its_maximum(void **state)
{
    struct conf *c = malloc(sizeof(*c));
    char path[64], err[256];
    conf_init(c);
    for (int i = 2; i < CONF_LISTENERS_MAX; i++) {
        snprintf(path, sizeof(path), "listeners[%d].topic", i);
        set_ok(c, path, "t");
    }
    assert_rc(conf_set(c, "listeners[32].topic", "t", false, err, sizeof(err)), -E_CONFIG);
    assert_string_equal(err, "listeners may have at most 32 entries");
    free(c);
}

static void what_is_written_reads_back_the_same(void **state)
{
    struct conf *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
    char *dir = test_tmpdir(), path[256], err[512] = "";
    snprintf(path, sizeof(path), "%s/dataplane.conf", dir);
    memset(b, 0xab, sizeof(*b));
    conf_defaults(a);
    set_ok(a, "listeners[2].name", "third");
    set_ok(a, "listeners[2].topic", "t");
    set_ok(a, "listeners[2].headers", "none");
    set_ok(a, "listeners[2].zone", "-01:00");
    set_ok(a, "ports[0].name", "p0");
    set_ok(a, "ports[0].device", "net_af_packet0,iface=v0,qpairs=2");
    set_ok(a, "ports[0].addresses[0]", "2001:db8::1/64");
    set_ok(a, "ports[0].routes[0].to", "::/0");
    set_ok(a, "node.cluster_id", "AbCdEfGhIjKlMnOpQrStUg");
    set_ok(a, "topic_defaults.retention", "1234ms");
    set_ok(a, "eal_args", "--log-level=lib.eal:debug  -m 64=x");
    set_ok(a, "http.hosts[0]", "box.example");
    assert_ok(conf_write(a, path));
    if (conf_read(b, path, err, sizeof(err)) < 0)
        fail_msg("%s", err);
    assert_memory_equal(a, b, sizeof(*a));
    test_tmpdir_remove(dir);
    free(a);
    free(b);
}

static char *slurp(const char *path, size_t *len)
{
    char *buf = malloc(1 << 20);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    *len = fread(buf, 1, (1 << 20) - 1, f);
    buf[*len] = '\0';
    fclose(f);
    return buf;
}
static void spill(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}
static void spill_signed(const char *path, const char *body)
{
    char text[4096];
    snprintf(text, sizeof(text), "%send %016" PRIx64 "\n", body, fnv1a(body, strlen(body)));
    spill(path, text, strlen(text));
}
static void a_cut_or_changed_file_is_refused(void **state)
{
    struct conf *c = malloc(sizeof(*c));
    char *dir = test_tmpdir(), path[256], err[512];
    size_t len;
    snprintf(path, sizeof(path), "%s/dataplane.conf", dir);
    conf_defaults(c);
    assert_ok(conf_write(c, path));
    char *text = slurp(path, &len);
    for (size_t cut = 0; cut < len; cut += 7) {
        spill(path, text, cut);
        assert_rc(conf_read(c, path, err, sizeof(err)), -E_CONFIG);
    }
    char *copy = malloc(len);
    for (size_t at = 20; at < len; at += 13) {
        memcpy(copy, text, len);
        copy[at] ^= 1;
        spill(path, copy, len);
        assert_rc(conf_read(c, path, err, sizeof(err)), -E_CONFIG);
    }
    assert_rc(conf_read(c, "/nonexistent/x", err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, "/nonexistent/x"));
    test_tmpdir_remove(dir);
    free(copy);
    free(text);
    free(c);
}
static void a_file_of_another_build_or_with_bad_fields_says_what_and_where(void **state)
{
    struct conf *c = malloc(sizeof(*c));
    char *dir = test_tmpdir(), path[256], err[512], body[1024];
    snprintf(path, sizeof(path), "%s/f", dir);
    spill_signed(path, "sluice-conf 1 0.0.0-other\n");
    assert_rc(conf_read(c, path, err, sizeof(err)), -E_CONFIG);
    assert_non_null(strstr(err, "written by another build ('sluice-conf 1 0.0.0-other')"));
    snprintf(body, sizeof(body), "sluice-conf 1 %s\nshards=2\ncolour=red\n", build_id());
    spill_signed(path, body);
    assert_rc(conf_read(c, path, err, sizeof(err)), -E_CONFIG);
    assert_non_null(strstr(err, ":3: unknown key 'colour'"));
    snprintf(body, sizeof(body), "sluice-conf 1 %s\nlisteners=2\nlisteners[0].topic=x\n",
             build_id());
    spill_signed(path, body);
    assert_rc(conf_read(c, path, err, sizeof(err)), -E_CONFIG);
    assert_non_null(strstr(err, "listeners has 1 elements, its line says 2"));
    test_tmpdir_remove(dir);
    free(c);
}
/* A running dataplane was drained for ever because bytes behind a string's end differed. */
static void a_written_file_matches_its_configuration_whatever_lies_behind_its_strings(void **state)
{
    struct conf *c = malloc(sizeof(*c));
    char *dir = test_tmpdir(), path[256];
    snprintf(path, sizeof(path), "%s/f", dir);
    memset(c, 0, sizeof(*c));
    conf_defaults(c);
    assert_false(conf_file_matches(c, path));
    memset(c->listeners[0].topic, 'x', sizeof(c->listeners[0].topic));
    snprintf(c->listeners[0].topic, sizeof(c->listeners[0].topic), "t");
    assert_rc(conf_write(c, path), 0);
    assert_true(conf_file_matches(c, path));
    c->listeners[0].topic[200] = 'y';
    c->ports[CONF_PORTS_MAX - 1].mtu = 9000; /* of no port in use */
    assert_true(conf_file_matches(c, path));
    c->linger_ms++;
    assert_false(conf_file_matches(c, path));
    test_tmpdir_remove(dir);
    free(c);
}
static void the_reference_names_every_key(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    conf_print_reference(f);
    fclose(f);
    for (uint32_t i = 0; i < KEY_CNT; i++)
        if (keys[i].change != CH_INTERNAL)
            assert_non_null(strstr(text, keys[i].name));
    assert_null(strstr(text, "(null)")); /* every kind has its words */
    free(text);
}

static void a_list_that_a_file_replaces_leaves_nothing_behind(void **state)
{
    struct conf *c = malloc(sizeof(*c)), *back = malloc(sizeof(*back));
    char err[256], path[512], *dir = test_tmpdir();
    snprintf(path, sizeof(path), "%s/c", dir);
    conf_init(c);
    assert_ok(conf_list_clear(c, "listeners")); /* two by default, one now */
    assert_ok(conf_set(c, "listeners[0].name", "one", false, err, sizeof(err)));
    assert_ok(conf_set(c, "listeners[0].topic", "t", false, err, sizeof(err)));
    conf_finish(c);
    assert_ok(conf_write(c, path));
    assert_ok(conf_read(back, path, err, sizeof(err)));
    assert_memory_equal(back, c, sizeof(*c));
    test_tmpdir_remove(dir);
    free(back);
    free(c);
}

TEST_MAIN(TEST(defaults_are_those_of_dev), TEST(a_list_that_a_file_replaces_leaves_nothing_behind),
          TEST(each_kind_of_value_is_read), TEST(every_mistake_has_its_own_sentence),
          TEST(a_list_holds_no_more_than_its_maximum), TEST(what_is_written_reads_back_the_same),
          TEST(a_cut_or_changed_file_is_refused),
          TEST(a_file_of_another_build_or_with_bad_fields_says_what_and_where),
          TEST(a_written_file_matches_its_configuration_whatever_lies_behind_its_strings),
          TEST(the_reference_names_every_key))
