"""Administration by real clients: configurations altered live and honoured, records deleted, log
directories, elections, producers; librdkafka (confluent-kafka), kafka-python, Kafka's own tools."""
import json
import os
import re
import struct
import subprocess
import time

import pytest
from appliance import ROOT, Appliance, need, wait_for
from ports import free_port

import kafka_tools

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic  # noqa: E402

CODECS = {0: "uncompressed", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("admin")) as a:
        yield a


ADMINS = {}  # by address: a client that is collected takes its answers with it


def admin(a):
    if a.kafka not in ADMINS:
        ADMINS[a.kafka] = AdminClient({"bootstrap.servers": a.kafka})
    return ADMINS[a.kafka]


def create(a, name, partitions=1, config=None):
    f = admin(a).create_topics([NewTopic(name, partitions, 1, config=config or {})])
    f[name].result(30)
    return name


def describe(a, name, kind=ConfigResource.Type.TOPIC):
    res = ConfigResource(kind, name)
    return admin(a).describe_configs([res])[res].result(30)


def alter(a, name, config, **kw):
    res = ConfigResource(ConfigResource.Type.TOPIC, name, set_config=config)
    return admin(a).alter_configs([res], **kw)[res].result(30)


def alter_error(a, name, config):
    with pytest.raises(confluent_kafka.KafkaException) as e:
        alter(a, name, config)
    return e.value.args[0]


def produce(a, topic, value, **kw):
    """(error, message) of one record."""
    got = []
    p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "acks": "all", "linger.ms": 0,
                                  **kw.pop("conf", {})})
    p.produce(topic, value, on_delivery=lambda e, m: got.append((e, m)), **kw)
    assert p.flush(30) == 0
    return got[0]


def consume(a, topic, count, partition=0):
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "x",
                                  "enable.auto.commit": False})
    try:
        c.assign([confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)])
        found, end = [], time.monotonic() + 60
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} of {count} records"
            found += [m for m in c.consume(count, timeout=1.0) if m.error() is None]
        return found
    finally:
        c.close()


def watermarks(a, topic, partition=0):
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "x"})
    try:
        return c.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), timeout=30)
    finally:
        c.close()


def batches(a, topic, partition=0):
    """[(records, codec)] of the partition's segment files."""
    folder = os.path.join(a.dir, "log", f"{topic}-{partition}")
    found = []
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".log")):
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
        at = 0
        while at + 61 <= len(data):
            length, = struct.unpack_from(">i", data, at + 8)
            if length <= 0 or data[at + 16] != 2:
                break
            attributes, = struct.unpack_from(">h", data, at + 21)
            records, = struct.unpack_from(">i", data, at + 57)
            found.append((records, CODECS[attributes & 7]))
            at += 12 + length
    return found


# --- configurations ---

def test_a_changed_configuration_is_described_with_its_source_and_synonyms(appliance):
    t = create(appliance, "cfg", config={"segment.bytes": "2000000"})
    before = describe(appliance, t)
    assert before["retention.ms"].source == ConfigSource.DEFAULT_CONFIG.value
    alter(appliance, t, {"retention.ms": "123456", "cleanup.policy": "compact,delete"})
    after = describe(appliance, t)
    assert after["retention.ms"].value == "123456"
    assert after["retention.ms"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    # Kafka's log.retention.ms has no default: the override stands alone
    names = [(s.name, s.value) for s in after["retention.ms"].synonyms.values()]
    assert names == [("retention.ms", "123456")]
    names = [(s.name, s.value) for s in after["cleanup.policy"].synonyms.values()]
    assert names == [("cleanup.policy", "compact,delete"), ("log.cleanup.policy", "delete")]
    assert after["cleanup.policy"].value == "compact,delete"
    # AlterConfigs replaces all: what was not named is back at its default
    assert before["segment.bytes"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert after["segment.bytes"].source != ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    alter(appliance, t, {"retention.ms": "9"}, validate_only=True)
    assert describe(appliance, t)["retention.ms"].value == "123456"


def test_bad_configurations_are_refused_as_kafka_refuses_them(appliance):
    t = create(appliance, "cfg-bad")
    E = confluent_kafka.KafkaError
    assert alter_error(appliance, t, {"no.such.key": "1"}).code() == E.INVALID_CONFIG
    assert "no.such.key" in alter_error(appliance, t, {"no.such.key": "1"}).str()
    assert alter_error(appliance, t, {"retention.ms": "soon"}).code() == E.INVALID_CONFIG
    assert alter_error(appliance, t, {"cleanup.policy": "shred"}).code() == E.INVALID_CONFIG
    assert alter_error(appliance, "absent", {"retention.ms": "1"}).code() == \
        E.UNKNOWN_TOPIC_OR_PART
    assert describe(appliance, t)["retention.ms"].source == ConfigSource.DEFAULT_CONFIG.value


def test_kafka_python_alters_and_describes(appliance):
    kafka = pytest.importorskip("kafka")
    from kafka.admin import ConfigResource as KResource
    from kafka.admin import ConfigResourceType, KafkaAdminClient
    t = create(appliance, "cfg-py")
    c = KafkaAdminClient(bootstrap_servers=appliance.kafka, api_version_auto_timeout_ms=20000)
    try:
        c.alter_configs([KResource(ConfigResourceType.TOPIC, t, configs={"retention.ms": "777"})])
        answers = c.describe_configs([KResource(ConfigResourceType.TOPIC, t)])
        rows = {row[0]: row[1] for a in answers for res in a.resources for row in res[4]}
        assert rows["retention.ms"] == "777"
        assert kafka is not None
    finally:
        c.close()
    assert describe(appliance, t)["retention.ms"].value == "777"


def test_max_message_bytes_is_honoured_live(appliance):
    t = create(appliance, "cfg-max")
    big = os.urandom(5000)
    assert produce(appliance, t, big)[0] is None
    alter(appliance, t, {"max.message.bytes": "1000"})
    err, _ = produce(appliance, t, big)
    assert err is not None and err.code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE
    assert produce(appliance, t, b"small")[0] is None
    alter(appliance, t, {})
    assert produce(appliance, t, big)[0] is None


def test_log_append_time_and_timestamp_bounds_are_honoured_live(appliance):
    keep = {"retention.ms": "-1"}  # a record of 2017 is too old for the default
    t = create(appliance, "cfg-time", config=keep)
    old = 1_500_000_000_000
    assert produce(appliance, t, b"a", timestamp=old)[0] is None
    alter(appliance, t, {**keep, "message.timestamp.type": "LogAppendTime"})
    now = time.time() * 1000
    assert produce(appliance, t, b"b", timestamp=old)[0] is None
    alter(appliance, t, {**keep, "message.timestamp.before.max.ms": "60000"})
    err, _ = produce(appliance, t, b"c", timestamp=old)
    assert err is not None and err.code() == confluent_kafka.KafkaError.INVALID_TIMESTAMP
    assert produce(appliance, t, b"d")[0] is None
    got = {m.value(): m.timestamp() for m in consume(appliance, t, 3)}
    assert got[b"a"] == (confluent_kafka.TIMESTAMP_CREATE_TIME, old)
    kind, stamp = got[b"b"]
    assert kind == confluent_kafka.TIMESTAMP_LOG_APPEND_TIME and stamp >= now - 60000
    assert got[b"d"][0] == confluent_kafka.TIMESTAMP_CREATE_TIME


def test_a_compacted_topic_needs_keys(appliance):
    t = create(appliance, "cfg-compact")
    assert produce(appliance, t, b"no key")[0] is None
    alter(appliance, t, {"cleanup.policy": "compact"})
    err, _ = produce(appliance, t, b"no key")
    assert err is not None and err.code() == confluent_kafka.KafkaError.INVALID_RECORD
    assert produce(appliance, t, b"with", key=b"key")[0] is None


@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_batches_are_kept_in_the_codec_of_their_topic(appliance, codec):
    t = create(appliance, f"codec-{codec}", config={"compression.type": codec})
    values = []
    for sent in ("none", "gzip", "zstd"):
        p = confluent_kafka.Producer({"bootstrap.servers": appliance.kafka, "linger.ms": 50,
                                      "compression.codec": sent, "enable.idempotence": True})
        for i in range(50):
            values.append(b"%s %d " % (sent.encode(), i) + b"x" * 300)
            p.produce(t, values[-1])
        assert p.flush(30) == 0
    assert [m.value() for m in consume(appliance, t, len(values))] == values
    wait_for("all batches are in the segment",
             lambda: sum(n for n, _ in batches(appliance, t)) >= len(values))
    assert {c for _, c in batches(appliance, t)} == {codec}


def test_retention_bytes_is_honoured_live(appliance):
    t = create(appliance, "retained", config={"segment.bytes": "1048576"})
    p = confluent_kafka.Producer({"bootstrap.servers": appliance.kafka, "linger.ms": 5})
    for _ in range(60):
        p.produce(t, os.urandom(100_000))
        p.poll(0)
    assert p.flush(60) == 0
    low, high = watermarks(appliance, t)
    assert (low, high) == (0, 60)
    alter(appliance, t, {"segment.bytes": "1048576", "retention.bytes": "2097152"})
    wait_for("old segments are gone", lambda: watermarks(appliance, t)[0] >= 30)
    low, high = watermarks(appliance, t)
    assert high == 60 and low <= 45
    assert consume(appliance, t, 60 - low)[0].offset() == low


def test_altered_configurations_survive_a_restart(tmp_path):
    with Appliance(tmp_path) as a:
        t = create(a, "kept")
        alter(a, t, {"max.message.bytes": "1000", "retention.ms": "-1"})
        a.kill_all()
        a.start()
        wait_for("the topic is served", lambda: produce(a, t, b"x")[0] is None)
        assert describe(a, t)["retention.ms"].value == "-1"
        err, _ = produce(a, t, os.urandom(5000))
        assert err.code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE


# --- Kafka's own tools ---

def tool(a, main_class, *args, fails=False):
    p = kafka_tools.run(main_class, "--bootstrap-server", a.kafka, *args)
    assert fails or p.returncode == 0, p.stdout[-3000:]
    return p.stdout


def test_kafka_configs_adds_appends_and_deletes(appliance):
    kafka_tools.jars()
    t = create(appliance, "tool-cfg")
    main = "kafka.admin.ConfigCommand"
    res = ("--entity-type", "topics", "--entity-name", t)
    tool(appliance, main, "--alter", *res, "--add-config",
         "retention.ms=4321,cleanup.policy=[compact,delete]")
    assert describe(appliance, t)["cleanup.policy"].value == "compact,delete"
    out = tool(appliance, main, "--describe", *res)
    assert "retention.ms=4321" in out and "DYNAMIC_TOPIC_CONFIG:retention.ms=4321" in out
    tool(appliance, main, "--alter", *res, "--delete-config", "retention.ms")
    got = describe(appliance, t)
    assert got["retention.ms"].source == ConfigSource.DEFAULT_CONFIG.value
    assert got["cleanup.policy"].value == "compact,delete"
    out = tool(appliance, main, "--alter", *res, "--add-config", "no.such=1", fails=True)
    assert "InvalidConfigurationException" in out and "no.such" in out


def test_kafka_configs_alters_the_broker_live(appliance):
    """A dynamic default of the broker holds for topics without a value of their own, at once."""
    kafka_tools.jars()
    main = "kafka.admin.ConfigCommand"
    t = create(appliance, "tool-broker")
    own = create(appliance, "tool-broker-own", config={"max.message.bytes": "100000"})
    big = os.urandom(5000)
    broker = ("--entity-type", "brokers", "--entity-name", "1")
    everyone = ("--entity-type", "brokers", "--entity-default")
    try:
        tool(appliance, main, "--alter", *everyone, "--add-config", "message.max.bytes=1000")
        err, _ = produce(appliance, t, big)
        assert err is not None and err.code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE
        assert produce(appliance, own, big)[0] is None
        assert describe(appliance, t)["max.message.bytes"].value == "1000"
        assert describe(appliance, t)["max.message.bytes"].source == \
            ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value
        tool(appliance, main, "--alter", *broker, "--add-config", "message.max.bytes=9000")
        assert produce(appliance, t, big)[0] is None
        assert describe(appliance, t)["max.message.bytes"].source == \
            ConfigSource.DYNAMIC_BROKER_CONFIG.value
        out = tool(appliance, main, "--describe", *broker)
        assert "message.max.bytes=9000" in out and "DYNAMIC_DEFAULT_BROKER_CONFIG" in out, out
        out = tool(appliance, main, "--alter", *broker, "--add-config", "num.partitions=7", fails=True)
        assert "Cannot update these configs dynamically" in out, out
        out = tool(appliance, main, "--alter", *broker, "--add-config", "no.such.key=7", fails=True)
        assert "Unknown broker config name" in out, out
    finally:
        tool(appliance, main, "--alter", *broker, "--delete-config", "message.max.bytes")
        tool(appliance, main, "--alter", *everyone, "--delete-config", "message.max.bytes")
    assert describe(appliance, t)["max.message.bytes"].source == ConfigSource.DEFAULT_CONFIG.value


def test_kafka_configs_alters_and_describes_groups(appliance):
    kafka_tools.jars()
    main = "kafka.admin.ConfigCommand"
    tool(appliance, main, "--alter", "--group", "tool-group", "--add-config", "consumer.session.timeout.ms=50000")
    out = tool(appliance, main, "--describe", "--entity-type", "groups")
    assert "tool-group" in out and "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000" in out, out


def test_a_replication_factor_above_one_is_refused_or_clamped(tmp_path):
    kafka_tools.jars()
    args = ("--create", "--topic", "three", "--partitions", "1", "--replication-factor", "3")
    with Appliance(tmp_path) as a:
        assert "replication factor 1 or -1" in tool(a, "org.apache.kafka.tools.TopicCommand", *args,
                                                    fails=True)
        a.stop()
        a.sets.append("topic_defaults.replicas_above_one=clamp")
        a.start()
        tool(a, "org.apache.kafka.tools.TopicCommand", *args)
        out = tool(a, "org.apache.kafka.tools.TopicCommand", "--describe", "--topic", "three")
        assert "ReplicationFactor: 1" in out, out


def test_kafka_metadata_quorum_describes_this_node(appliance):
    kafka_tools.jars()
    out = kafka_tools.run("org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server",
                          appliance.kafka, "describe", "--status").stdout
    assert re.search(r"LeaderId:\s+1\b", out) and re.search(r"HighWatermark:\s+\d+", out), out


def test_kafka_delete_records_moves_the_start_for_good(tmp_path):
    kafka_tools.jars()
    with Appliance(tmp_path) as a:
        t = create(a, "cut", partitions=2)
        p = confluent_kafka.Producer({"bootstrap.servers": a.kafka})
        for i in range(40):
            p.produce(t, b"%d" % i, partition=i % 2)
        assert p.flush(30) == 0
        path = tmp_path / "offsets.json"
        path.write_text(json.dumps({"version": 1, "partitions": [
            {"topic": t, "partition": 0, "offset": 7}, {"topic": t, "partition": 1, "offset": -1}]}))
        out = tool(a, "org.apache.kafka.tools.DeleteRecordsCommand",
                   "--offset-json-file", str(path))
        assert "low_watermark: 7" in out and "low_watermark: 20" in out, out
        assert watermarks(a, t) == (7, 20)
        assert watermarks(a, t, 1) == (20, 20)
        assert [m.offset() for m in consume(a, t, 13)] == list(range(7, 20))
        path.write_text(json.dumps({"version": 1, "partitions": [
            {"topic": t, "partition": 0, "offset": 21}]}))
        out = tool(a, "org.apache.kafka.tools.DeleteRecordsCommand",
                   "--offset-json-file", str(path), fails=True)
        assert "OffsetOutOfRange" in out or "range" in out, out
        a.stop()
        a.start()
        assert watermarks(a, t) == (7, 20)
        assert watermarks(a, t, 1) == (20, 20)


def test_the_other_admin_tools_are_answered(appliance):
    kafka_tools.jars()
    t = create(appliance, "tools", partitions=3)
    assert produce(appliance, t, b"x" * 5000, partition=2,
                   conf={"enable.idempotence": True})[0] is None

    out = tool(appliance, "org.apache.kafka.tools.LogDirsCommand", "--describe",
               "--topic-list", t)
    doc = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    dirs = doc["brokers"][0]["logDirs"]
    assert len(dirs) == 1 and dirs[0]["logDir"].startswith(appliance.dir)
    sizes = {p["partition"]: p["size"] for p in dirs[0]["partitions"]}
    assert sizes[f"{t}-2"] > 5000 and sizes[f"{t}-0"] == 0

    out = tool(appliance, "org.apache.kafka.tools.LeaderElectionCommand",
               "--election-type", "preferred", "--topic", t, "--partition", "0")
    assert "Valid replica already elected for partitions" in out, out
    tool(appliance, "org.apache.kafka.tools.LeaderElectionCommand",
         "--election-type", "preferred", "--all-topic-partitions")

    out = tool(appliance, "org.apache.kafka.tools.TransactionsCommand", "describe-producers",
               "--topic", t, "--partition", "2")
    rows = [line.split() for line in out.splitlines() if line.strip()]
    assert rows[0][:2] == ["ProducerId", "ProducerEpoch"] and len(rows) == 2, out
    assert int(rows[1][0]) >= 0 and rows[1][3] == "0", out

    out = tool(appliance, "org.apache.kafka.tools.TopicCommand", "--describe", "--topic", t)
    assert out.count("Leader:") == 3 and "Replicas:" in out, out
    tool(appliance, "org.apache.kafka.tools.ClientMetricsCommand", "--list")


@pytest.mark.skipif(not os.environ.get("SLUICE_TEST_ALL"), reason="Kafka's jars are needed: only with --all")
def test_the_topic_keys_are_those_of_kafka(appliance):
    need("javac")
    p = subprocess.run(["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                        "-cp", os.path.join(kafka_tools.jars(), "*"),
                        os.path.join(ROOT, "tests/compat/java/TopicKeys.java")], text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert p.returncode == 0, p.stderr[-2000:]
    ours = [k for k in describe(appliance, create(appliance, "all-keys")) if not k.startswith("sluice.")]
    assert sorted(ours) == sorted(p.stdout.split())


def test_a_java_consumer_keeps_its_fetch_session_through_everything(tmp_path):
    """200 partitions, of which five have something new each round; the dataplane is killed between
    two rounds, so that the session is unknown and must be made anew."""
    need("javac")
    jars = kafka_tools.jars()
    with Appliance(tmp_path, sets=[f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"]) as a:
        t = create(a, "sessions", partitions=200)
        p = subprocess.Popen(["java", "-Xmx256m", "-cp", os.path.join(jars, "*"),
                              os.path.join(ROOT, "tests/compat/java/FetchSessions.java"),
                              a.kafka, t, "200", "12"], text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            for i in range(12):
                seen = ""
                for line in p.stdout:
                    seen += line
                    if line.startswith("round "):
                        break
                assert seen.endswith(f"round {i}\n"), seen
                if i == 5:
                    wait_for("the session is counted", lambda: a.metrics_sum("sluice_fetch_sessions") == 1)
                    assert a.metrics_sum("sluice_fetch_session_steps_total") >= 5
                    a.kill_dataplane()
                p.stdin.write("\n")
                p.stdin.flush()
            out, _ = p.communicate(timeout=60)
            assert p.returncode == 0 and "whole" in out, out
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
