/* test_conf_load.c - what a configuration file may say, and what each mistake is answered. */
#include "ctl/conf/conf_load.c"
#include "tests/support/test.h"

static const char *load(struct conf_load *l, const char *yaml)
{
    conf_load_init(l, false);
    conf_load_text(l, "f.yaml", yaml, strlen(yaml));
    int rc = conf_load_finish(l, "/home/me");
    assert_int_equal(rc, l->error_cnt == 0 ? 0 : -E_CONFIG);
    return l->errors;
}

static void a_whole_file_is_understood(void **state)
{
    static const char yaml[] = "node: {id: 7}\n"
                               "data:\n"
                               "  dir: /srv/sluice\n"
                               "  log_dirs: [/mnt/b]\n"
                               "shards: 4\n"
                               "idle: poll\n"
                               "kafka:\n"
                               "  listeners:\n"
                               "    - name: inside\n"
                               "      bind: 10.0.0.1:9092\n"
                               "      allow_plaintext: true\n"
                               "    - {name: local, bind: '127.0.0.1:9093'}\n"
                               "ports:\n"
                               "  - name: eth\n"
                               "    device: 0000:3b:00.0\n"
                               "    addresses: [192.0.2.10/24, 2001:db8::10/64]\n"
                               "listeners:\n"
                               "  - name: lan\n"
                               "    port: eth\n"
                               "    bind: 192.0.2.10:514\n"
                               "    topic: net\n"
                               "    headers: [source, host]\n";
    struct conf_load l;
    assert_string_equal(load(&l, yaml), "");
    const struct conf *c = &l.conf;
    assert_false(c->dev);
    assert_int_equal(c->node_id, 7);
    assert_int_equal(c->data_dir_cnt, 2);
    assert_string_equal(c->data_dirs[0], "/srv/sluice/log");
    assert_string_equal(c->data_dirs[1], "/mnt/b");
    assert_int_equal(c->kafka_cnt, 2);
    assert_string_equal(c->kafka[1].name, "local");
    assert_int_equal(c->listener_cnt, 1);
    assert_int_equal(c->listeners[0].header_mask, 1 << RH_SOURCE | 1 << RH_HOST);
    assert_int_equal(c->ports[0].addr_cnt, 2);
    conf_load_fini(&l);
}
static void an_empty_file_means_the_defaults(void **state)
{
    static const char *const texts[] = {"", "# nothing\n", "---\n", "kafka:\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct conf_load l;
        assert_string_equal(load(&l, texts[i]), "");
        assert_string_equal(l.conf.dir, "/var/lib/sluice");
        assert_int_equal(l.conf.shard_cnt, 0);
        assert_int_equal(l.conf.listener_cnt, 2);
        conf_load_fini(&l);
    }
}
static void every_mistake_says_where_and_what(void **state)
{
#define L1 "listeners:\n- {name: a, topic: t, bind: '127.0.0.1:1'"
    static const struct {
        const char *yaml, *err;
    } rows[] = {
        {"listeners:\n- name: a\n  tpoic: b\n  topic: t\n",
         "f.yaml:3:3: unknown key 'tpoic' in listeners[0]; did you mean 'topic'?\n"},
        {"kafak: {}\n", "f.yaml:1:1: unknown key 'kafak'; did you mean 'kafka'?\n"},
        {"kafka: {listener: []}\n",
         "f.yaml:1:9: unknown key 'listener' in kafka; did you mean 'listeners'?\n"},
        {"node:\n  dev: true\n", "f.yaml:2:3: unknown key 'dev' in node\n"},
        {"kafka.fetch_max_bytes: 1MiB\n", "f.yaml:1:1: unknown key 'kafka.fetch_max_bytes'\n"},
        {"shards: 1\nshards: 2\n", "f.yaml:2:1: shards is given twice (first on line 1)\n"},
        {"shards: many\n", "f.yaml:1:9: shards: 'many' is not a whole number\n"},
        {"shards: [1]\n", "f.yaml:1:9: shards: expected one value\n"},
        {"shards:\n",
         "f.yaml:1:8: shards has no value: write \"\" for an empty text, or remove the key\n"},
        {"storage: 5\n", "f.yaml:1:10: storage: expected a mapping of keys (key: value)\n"},
        {"listeners: 5\n", "f.yaml:1:12: listeners: expected a list (lines starting with '- ')\n"},
        {"listeners: [5]\n",
         "f.yaml:1:13: listeners[0]: expected a mapping of keys (key: value)\n"},
        {"data: {log_dirs: [[x]]}\n", "f.yaml:1:19: data.log_dirs[0]: expected one value\n"},
        {"? [a]\n: b\n", "f.yaml:1:3: expected a key\n"},
        {"- a\n", "f.yaml:1:1: expected keys (key: value) at the top\n"},
        {"shards: &x 1\ncpus: *x\n",
         "f.yaml:2:7: cpus: aliases (*name) are not supported: write the value out\n"},
        {"shards: 1\n---\nshards: 2\n",
         "f.yaml:2:1: a second document: one file is one document\n"},
        {"kafka: {\n",
         "f.yaml:2:1: did not find expected node content, while parsing a flow node\n"},
        {"\tshards: 1\n", "f.yaml:1:1: found character that cannot start any token, while scanning "
                          "for the next token\n"},
        {"shards: \"a\\0b\"\n", "f.yaml:1:9: shards: contains a NUL\n"},
        {L1 ", headers: [{a: b}]}\n", "f.yaml:2:54: listeners[0].headers: expected a name\n"},
        {"cpus: 9-2\n",
         "f.yaml:1:7: cpus: \"9-2\": a number from 9 to 65535 was expected at \"2\"\n"},
        {"cpus: '1,'\n", "f.yaml:1:7: cpus: \"1,\": unexpected \",\"\n"},
        {"cpus: '1;2'\n", "f.yaml:1:7: cpus: \"1;2\": unexpected \";2\"\n"},
        /* what was refused is not judged again by what stands there instead */
        {"listeners:\n- {name: a, topic: 'a b'}\n",
         "f.yaml:2:20: listeners[0].topic: 'a b' is not a topic name: 1 to 249 of letters, digits, "
         "'.', '_', '-'\n"},
        {"ports:\n- {name: p, device: d, addresses: [192.0.2.10]}\n",
         "f.yaml:2:36: ports[0].addresses[0]: '192.0.2.10' is not an address with prefix length, "
         "such as 192.0.2.10/24\n"},
        {"kafka: {listeners: [{name: a, bind: x}, {name: b}]}\n",
         "f.yaml:1:37: kafka.listeners[0].bind: 'x' is not an address and port: write "
         "127.0.0.1:9092 "
         "or [::1]:9092\n"},
        /* across keys */
        {"kafka: {listeners: []}\n", "f.yaml:1:9: kafka.listeners: is empty: Kafka clients would "
                                     "have nowhere to connect\n"},
        {"kafka: {listeners: [{name: k, bind: '10.0.0.1:9092'}]}\n",
         "f.yaml:1:31: kafka.listeners[0].bind: 10.0.0.1:9092 is not a loopback address and the "
         "listener is not encrypted; to accept that anyone who reaches it can read and write "
         "everything, add allow_plaintext: true\n"},
        {"kafka: {listeners: [{name: k, bind: '0.0.0.0:9092', allow_plaintext: true}]}\n",
         "f.yaml:1:31: kafka.listeners[0].bind: 0.0.0.0:9092 is not an address clients can connect "
         "to: add advertised_host\n"},
        {"kafka: {listeners: [{bind: '127.0.0.1:9092'}]}\n",
         "f.yaml:1:21: kafka.listeners[0].name: must be given\n"},
        {"kafka: {listeners: [{name: k}, {name: k, bind: '127.0.0.1:1'}]}\n",
         "f.yaml:1:33: kafka.listeners[1].name: 'k' is also the name of kafka.listeners[0]\n"},
        {L1 "}\n- {name: a, topic: u, bind: '127.0.0.1:2'}\n",
         "f.yaml:3:4: listeners[1].name: 'a' is also the name of listeners[0]\n"},
        {L1 "}\n- {name: kafka, topic: u, bind: '127.0.0.1:2'}\n",
         "f.yaml:3:4: listeners[1].name: 'kafka' is also the name of kafka.listeners[0]\n"},
        {"listeners:\n- {name: http, topic: t}\n",
         "f.yaml:2:4: listeners[0].name: 'http' is taken by the HTTP server in run/ports\n"},
        {L1 "}\n- {name: b, topic: u, bind: '0.0.0.0:1'}\n",
         "f.yaml:3:23: listeners[1].bind: UDP 0.0.0.0:1 is already taken by listeners[0].bind\n"},
        {L1 ", transport: tcp}\n- {name: b, topic: u, transport: tcp, bind: '*:1'}\n",
         "f.yaml:3:39: listeners[1].bind: TCP [::]:1 is already taken by listeners[0].bind\n"},
        {"http: {bind: '127.0.0.1:9092'}\n",
         "f.yaml:1:8: http.bind: TCP 127.0.0.1:9092 is already taken by kafka.listeners[0].bind\n"},
        {L1 ", port: p1}\n",
         "f.yaml:2:44: listeners[0].port: there is no port named 'p1' in ports\n"},
        {"listeners:\n- {name: a}\n", "f.yaml:2:3: listeners[0].topic: must be given\n"},
        {"listeners:\n- {name: a, topic: __x}\n",
         "f.yaml:2:13: listeners[0].topic: '__x' is a topic of the appliance itself\n"},
        {L1 "}\n- {name: b, topic: t, bind: '127.0.0.1:2', partitions: 3}\n",
         "f.yaml:3:44: listeners[1].partitions: 3 differs from listeners[0], which has the same "
         "topic\n"},
        {L1 ", partitions: 0}\n",
         "f.yaml:2:44: listeners[0].partitions: must be -1 (one per shard) or at least 1\n"},
        {L1 ", event_max_bytes: 300KiB}\n",
         "f.yaml:2:44: listeners[0].event_max_bytes: 307200 bytes and their headers do not fit in "
         "a batch (storage.batch_bytes 262144)\n"},
        {"ports:\n- {name: p, addresses: [10.0.0.1/24]}\n",
         "f.yaml:2:3: ports[0].device: must be given\n"},
        {"ports:\n- {name: p, device: d}\n",
         "f.yaml:2:3: ports[0].addresses: must have at least one address\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24], routes: [{to: '::/0', via: "
         "10.0.0.2}]}\n",
         "f.yaml:2:50: ports[0].routes: needs host_interface: a port itself sends nothing but "
         "answers, each to the station that asked (a router, for those beyond it)\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24], host_interface: h0, routes: "
         "[{to: "
         "10.0.0.1/8, via: 10.0.0.2}, {to: '::/0', via: 10.0.0.2}, {to: 0.0.0.0/0, via: "
         "10.1.0.2}]}\n",
         "f.yaml:2:80: ports[0].routes[0].to: 10.0.0.1/8 has bits set beyond its prefix\n"
         "f.yaml:2:125: ports[0].routes[1].via: 10.0.0.2 is of another IP version than the route's "
         "destination\n"
         "f.yaml:2:157: ports[0].routes[2].via: 10.1.0.2 is in no network of the port's "
         "addresses\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24], host_interface: 'a/b'}\n",
         "f.yaml:2:50: ports[0].host_interface: 'a/b' is not a name for an interface\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24], host_interface: h}\n"
         "- {name: q, device: e, addresses: [10.0.1.1/24], host_interface: h}\n",
         "f.yaml:3:50: ports[1].host_interface: 'h' is also that of ports[0]\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24]}\nlisteners:\n"
         "- {name: a, topic: t, port: p, bind: '10.0.0.1:0'}\n",
         "f.yaml:4:32: listeners[0].bind: port 0 (any free one) exists on kernel sockets only\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24]}\nlisteners:\n"
         "- {name: a, topic: t, port: p, bind: '10.0.0.9:1'}\n",
         "f.yaml:4:32: listeners[0].bind: 10.0.0.9 is not an address of port 'p'\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24]}\nlisteners:\n"
         "- {name: a, topic: t, port: p, bind: '10.0.0.1:1', transport: tcp}\n",
         "f.yaml:4:52: listeners[0].transport: tcp is served on kernel sockets only: remove "
         "'port'\n"},
        {"policing:\n  rules:\n  - {from: 10.0.0.0/8}\n",
         "f.yaml:3:5: policing.rules[0].rate: must be given, in datagrams a second\n"},
        {"policing:\n  rules:\n  - {from: 10.0.0.1/8, rate: 5}\n",
         "f.yaml:3:6: policing.rules[0].from: 10.0.0.1/8 has bits set beyond its prefix\n"},
        {"policing:\n  rules:\n  - {from: 'fd00::/8', rate: 5}\n  - {from: 'fd00::/8', rate: 6}\n",
         "f.yaml:4:6: policing.rules[1].from: fd00::/8 is also policing.rules[0]\n"},
        {"policing:\n  rules:\n  - {from: 10.0.0.0/33, rate: 5}\n",
         "f.yaml:3:12: policing.rules[0].from: '10.0.0.0/33' is not an address with prefix length, "
         "such as 192.0.2.10/24\n"},
        {"topic_defaults: {message_max_bytes: 2MiB, segment_bytes: 1MiB}\n",
         "f.yaml:1:18: topic_defaults.message_max_bytes: is larger than "
         "topic_defaults.segment_bytes\n"},
        {"storage: {batch_bytes: 2MiB}\n",
         "f.yaml:1:11: storage.batch_bytes: is larger than topic_defaults.message_max_bytes "
         "(1048588 bytes)\n"},
        {"memory: {requests: 64MiB}\n", "f.yaml:1:10: memory.requests: is smaller than four times "
                                        "kafka.request_max_bytes (104857600 bytes): "
                                        "the largest request could never be read\n"},
        {"journal: {file_bytes: 1MiB, threshold_bytes: 1MiB}\n",
         "f.yaml:1:29: journal.threshold_bytes: is more than half of journal.file_bytes\n"},
        {"topic_defaults: {retention: 0ms}\n", "f.yaml:1:18: topic_defaults.retention: 0 would "
                                               "delete everything at once; write unlimited "
                                               "to keep everything\n"},
        {"data: {dir: /a, log_dirs: [/b, /b]}\n",
         "f.yaml:1:32: data.log_dirs[1]: '/b' is listed twice\n"},
        {"data: {dir: /a, log_dirs: [/a/more, /ab, /a/logs, /a/log]}\n",
         "f.yaml:1:51: data.log_dirs[3]: '/a/log' is the appliance's own place in data.dir\n"},
        {"data: {dir: /a/, log_dirs: [/a]}\n",
         "f.yaml:1:29: data.log_dirs[0]: '/a' is the appliance's own place in data.dir\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24, 10.0.0.1/8]}\n",
         "f.yaml:2:49: ports[0].addresses[1]: 10.0.0.1 is also ports[0].addresses[0]\n"},
        {"ports:\n- {name: p, device: d, addresses: [10.0.0.1/24]}\n"
         "- {name: q, device: e, addresses: [2001:db8::1/64, 10.0.0.1/24]}\n",
         "f.yaml:3:52: ports[1].addresses[1]: 10.0.0.1 is also ports[0].addresses[0]\n"},
        {"ports:\n- {name: p, device: d, addresses: [224.0.0.1/24]}\n",
         "f.yaml:2:36: ports[0].addresses[0]: 224.0.0.1 is not an address that a port can have\n"},
        {"listeners:\n- {name: a, topic: t, bind: '127.0.0.1:1'}\n"
         "- {name: b, topic: t.dlq, bind: '127.0.0.1:2'}\n",
         "f.yaml:3:13: listeners[1].topic: 't.dlq' is the dead-letter topic of listeners[0]\n"},
        {L1 ", protocol: netflow, transport: tcp}\n",
         "f.yaml:2:63: listeners[0].transport: netflow is served over UDP only\n"},
        {L1 ", time_field: ts}\n",
         "f.yaml:2:44: listeners[0].time_field: has a meaning for protocol json only\n"},
        {"rules:\n- {source: 10.0.0.0/8}\n", "f.yaml:2:3: rules[0].topic: must be given\n"},
        {"rules:\n- {topic: __x}\n",
         "f.yaml:2:4: rules[0].topic: '__x' is a topic of the appliance itself\n"},
        {"rules:\n- {topic: syslog.dlq}\n",
         "f.yaml:2:4: rules[0].topic: 'syslog.dlq' is the dead-letter topic of listeners[0]\n"
         "f.yaml:2:4: rules[0].topic: 'syslog.dlq' is the dead-letter topic of listeners[1]\n"},
        {"rules:\n- {topic: x, listener: syslog}\n",
         "f.yaml:2:14: rules[0].listener: there is no listener named 'syslog' in listeners\n"},
        {"rules:\n- {topic: x, source: 10.1.2.3/8}\n",
         "f.yaml:2:14: rules[0].source: 10.1.2.3 has bits behind its prefix: write 10.0.0.0/8\n"},
        {"rules:\n- {topic: x, source: 10.1.2.3}\n",
         "f.yaml:2:22: rules[0].source: '10.1.2.3' is not an address with prefix length, such as "
         "192.0.2.10/24\n"},
        {"rules:\n- {topic: x, facility: [auth, autpriv]}\n",
         "f.yaml:2:24: rules[0].facility: 'autpriv' is not a facility\n"},
        {"rules:\n- {topic: x, severity: none}\n",
         "f.yaml:2:24: rules[0].severity: 'none' is not a severity\n"},
        {"rules:\n- {topic: x, host: a*b}\n",
         "f.yaml:2:14: rules[0].host: 'a*b': a * may stand at the beginning and at the end only\n"},
        {"rules:\n- {topic: x, host: fw*}\n- {topic: y, host: fw-1, severity: err}\n",
         "f.yaml:3:4: rules[1].topic: no event can get here: rules[0] takes all that this rule "
         "matches\n"},
        {"rules:\n- {topic: x, source: 10.0.0.0/8}\n- {topic: x, partitions: 2, compression: "
         "gzip}\n",
         "f.yaml:3:14: rules[1].partitions: 2 differs from rules[0], which has the same topic\n"
         "f.yaml:3:29: rules[1].compression: differs from rules[0], which has the same topic\n"},
        {"rules:\n- {topic: syslog, host: a, compression: gzip}\n",
         "f.yaml:2:28: rules[0].compression: cannot be chosen for 'syslog', which is also the "
         "topic of listeners[0]: events of one source share batches\n"
         "f.yaml:2:28: rules[0].compression: cannot be chosen for 'syslog', which is also the "
         "topic of listeners[1]: events of one source share batches\n"},
        {L1 ", protocol: json}\nrules:\n- {listener: a, topic: x, key: host}\n",
         "f.yaml:4:27: rules[0].key: events of listener 'a' (json) have no host\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf_load l;
        const char *got = load(&l, rows[i].yaml);
        if (strcmp(got, rows[i].err) != 0)
            fail_msg("row %zu\n%sgot:      %swanted: %s", i, rows[i].yaml, got, rows[i].err);
        conf_load_fini(&l);
    }
}
static void all_mistakes_are_reported_not_only_the_first(void **state)
{
    struct conf_load l;
    load(&l, "shards: x\nidle: y\nnosuch: 1\nstorage: {linger: 7}\n");
    assert_int_equal(l.error_cnt, 4);
    assert_non_null(strstr(l.errors, "f.yaml:1:9:"));
    assert_non_null(strstr(l.errors, "f.yaml:4:19: storage.linger: '7' has no unit"));
    conf_load_fini(&l);
}
static void set_overrides_and_its_mistakes_are_named(void **state)
{
    struct conf_load l;
    conf_load_init(&l, true);
    conf_load_set(&l, "kafka.listeners[0].bind=127.0.0.1:0");
    conf_load_set(&l, "listeners[2].name=x");
    conf_load_set(&l, "listeners[2].topic=y");
    conf_load_set(&l, "listeners[2].bind=127.0.0.1:7");
    assert_ok(conf_load_finish(&l, "/home/me"));
    assert_int_equal(l.conf.kafka[0].bind.port, 0);
    assert_int_equal(l.conf.listener_cnt, 3);
    assert_string_equal(l.conf.dir, "/home/me/sluice-data");
    assert_string_equal(l.conf.data_dirs[0], "/home/me/sluice-data/log");
    conf_load_fini(&l);

    conf_load_init(&l, true);
    conf_load_set(&l, "shards=many");
    conf_load_set(&l, "shards");
    conf_load_set(&l, "http.bind=127.0.0.1:9092");
    assert_rc(conf_load_finish(&l, "/"), -E_CONFIG);
    assert_string_equal(l.errors, "--set shards=many: shards: 'many' is not a whole number\n"
                                  "--set shards: expected key=value\n"
                                  "--set http.bind: TCP 127.0.0.1:9092 is already taken by "
                                  "kafka.listeners[0].bind\n");
    conf_load_fini(&l);
}
static void a_missing_file_is_named(void **state)
{
    struct conf_load l;
    conf_load_init(&l, false);
    conf_load_file(&l, "/nonexistent/sluice.yaml");
    assert_string_equal(l.errors,
                        "/nonexistent/sluice.yaml: cannot open: No such file or directory\n");
    conf_load_fini(&l);
}
/* Bytes flipped, removed or doubled: always an answer, never a crash. */
static void damaged_files_are_answered(void **state)
{
    static const char seed[] = "listeners:\n- {name: a, topic: t, headers: [host], bind: "
                               "'127.0.0.1:1'}\nports: [{name: p, device: d, addresses: "
                               "[10.0.0.1/8]}]\nstorage: {linger: 5ms}\n";
    struct test_rng r = {test_seed(1)};
    for (int i = 0; i < 3000; i++) {
        char text[sizeof(seed)];
        memcpy(text, seed, sizeof(seed));
        for (uint64_t n = 1 + rng_below(&r, 4); n > 0; n--)
            text[rng_below(&r, sizeof(seed) - 1)] = (char)rng_u64(&r);
        struct conf_load l;
        conf_load_init(&l, false);
        conf_load_text(&l, "f", text, rng_below(&r, sizeof(seed)));
        int rc = conf_load_finish(&l, "/");
        assert_true(rc == 0 || rc == -E_CONFIG);
        conf_load_fini(&l);
    }
}

TEST_MAIN(TEST(a_whole_file_is_understood), TEST(an_empty_file_means_the_defaults),
          TEST(every_mistake_says_where_and_what),
          TEST(all_mistakes_are_reported_not_only_the_first),
          TEST(set_overrides_and_its_mistakes_are_named), TEST(a_missing_file_is_named),
          TEST(damaged_files_are_answered))
