"""Kafka's own command line tools of both lines of versions against an appliance, each line in one JVM; what they
write, kcat reads, and the other way round. The figures of the perf tests are printed, never asserted
(bench/clients has more)."""
import json
import os
import re

import clients
import pytest
import report
from appliance import ROOT, Appliance, need, wait_for
from figures import figure

TOOLS = "org.apache.kafka.tools."
MAIN = {
    "kafka-topics": TOOLS + "TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups": TOOLS + "consumer.group.ConsumerGroupCommand",
    "kafka-groups": TOOLS + "GroupsCommand",
    "kafka-console-producer": TOOLS + "ConsoleProducer",
    "kafka-console-consumer": TOOLS + "consumer.ConsoleConsumer",
    "kafka-get-offsets": TOOLS + "GetOffsetShell",
    "kafka-log-dirs": TOOLS + "LogDirsCommand",
    "kafka-delete-records": TOOLS + "DeleteRecordsCommand",
    "kafka-leader-election": TOOLS + "LeaderElectionCommand",
    "kafka-reassign-partitions": TOOLS + "reassign.ReassignPartitionsCommand",
    "kafka-broker-api-versions": TOOLS + "BrokerApiVersionsCommand",
    "kafka-cluster": TOOLS + "ClusterTool",
    "kafka-transactions": TOOLS + "TransactionsCommand",
    "kafka-producer-perf-test": TOOLS + "ProducerPerformance",
    "kafka-consumer-perf-test": TOOLS + "ConsumerPerformance",
    "kafka-verifiable-producer": TOOLS + "VerifiableProducer",
    "kafka-verifiable-consumer": TOOLS + "VerifiableConsumer",
}

# What 3.9 has elsewhere, calls otherwise, or does not have. (None: there is no such tool; its test says so.)
MAIN_3 = {**MAIN,
          "kafka-console-producer": "kafka.tools.ConsoleProducer",
          "kafka-broker-api-versions": "kafka.admin.BrokerApiVersionsCommand",
          "kafka-groups": None}  # came with 4.0 (KIP-1043); kafka-consumer-groups lists what 3.9 knows of
OPTIONS_3 = {"--reader-property": "--property", "--formatter-property": "--property",  # the new names: KIP-1147
             "--num-records of the consumer": "--messages"}  # KIP-1147, too
VERSIONS = {"java_4": ("4.3.1", MAIN, {}), "java_3": ("3.9.2", MAIN_3, OPTIONS_3)}


class Kafka:
    def __init__(self, appliance, source, driver):
        self.appliance, self.driver = appliance, driver
        version, self.main, self.options = VERSIONS[source]
        assert driver.version == version
        self.worked = set()

    def has(self, tool):
        return self.main[tool] is not None

    def run(self, tool, *args, input="", fails=False, bootstrap=True):
        """What the tool printed; its exit code must be 0, or another where it `fails`."""
        where = ["--bootstrap-server", self.appliance.kafka] if bootstrap else []
        done = self.driver.call("tool", main=self.main[tool], args=[*where, *map(str, args)], input=input)
        assert (done["code"] != 0) == fails, f"{tool} {args}: exit {done['code']}: {done['out'][-2000:]}"
        if not fails:
            self.worked.add(tool)
        return done["out"]

    def option(self, name):
        """What this version calls an option."""
        return self.options.get(name, name.split()[0])

    def result(self):
        return {"version": self.driver.version, "names": sorted(self.worked)}

    def topic(self, name, partitions=1, *config):
        self.run("kafka-topics", "--create", "--topic", name, "--partitions", partitions,
                 *[x for c in config for x in ("--config", c)])
        return name


@pytest.fixture(scope="module", params=VERSIONS)
def kafka(request, tmp_path_factory):
    need("kcat")
    try:
        clients.require(request.param)
    except clients.Unavailable as e:
        pytest.skip(f"Kafka's own command line tools {VERSIONS[request.param][0]}: not proven: {e}")
    with Appliance(tmp_path_factory.mktemp("tools"),
                   sets=["kafka.group_initial_rebalance_delay=100ms"]) as a:
        k = Kafka(a, request.param, clients.Driver("kafka-tools", request.param, "java", a.kafka))
        try:
            yield k
        finally:
            k.driver.close()
            with open(os.path.join(ROOT, "build", f"clients-tools-{request.param}.json"), "w") as f:
                json.dump(k.result(), f)


def test_kafka_topics_creates_alters_lists_describes_and_deletes(kafka):
    kafka.topic("made", 3, "retention.ms=7200000", "max.message.bytes=54321")
    assert "already exists" in kafka.run("kafka-topics", "--create", "--topic", "made", fails=True)
    kafka.run("kafka-topics", "--create", "--if-not-exists", "--topic", "made")
    out = kafka.run("kafka-topics", "--describe", "--topic", "made")
    assert "PartitionCount: 3" in out and "ReplicationFactor: 1" in out
    assert "retention.ms=7200000" in out and "max.message.bytes=54321" in out
    assert len(re.findall(r"Partition: \d+\s+Leader: (\d+)\s+Replicas: \1\s+Isr: \1\b", out)) == 3
    kafka.run("kafka-topics", "--alter", "--topic", "made", "--partitions", 5)
    assert 'topic "made" with 5 partitions' in kafka.appliance.kcat("-L", "-t", "made")
    assert "made" in kafka.run("kafka-topics", "--list").split()
    for what in ("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"):
        assert "made" not in kafka.run("kafka-topics", "--describe", what)
    kafka.run("kafka-topics", "--delete", "--topic", "made")
    assert "made" not in kafka.run("kafka-topics", "--list").split()
    assert "does not exist" in kafka.run("kafka-topics", "--describe", "--topic", "made", fails=True)


def test_kafka_configs_alters_and_describes_topics_and_brokers(kafka):
    t = kafka.topic("configured")
    entity = ("--entity-type", "topics", "--entity-name", t)
    kafka.run("kafka-configs", "--alter", *entity, "--add-config",
              "retention.ms=4321,cleanup.policy=[compact,delete]")
    out = kafka.run("kafka-configs", "--describe", *entity)
    assert "retention.ms=4321" in out and "cleanup.policy=compact,delete" in out
    kafka.run("kafka-configs", "--alter", *entity, "--delete-config", "retention.ms")
    out = kafka.run("kafka-configs", "--describe", *entity)
    assert "retention.ms" not in out and "cleanup.policy=compact,delete" in out
    out = kafka.run("kafka-configs", "--describe", "--all", *entity)
    assert "segment.bytes=" in out and "DEFAULT_CONFIG" in out
    assert "no.such" in kafka.run("kafka-configs", "--alter", *entity, "--add-config", "no.such=1",
                                  fails=True)
    broker = kafka.run("kafka-topics", "--describe", "--topic", t)
    node = re.search(r"Leader: (\d+)", broker).group(1)
    out = kafka.run("kafka-configs", "--describe", "--all", "--entity-type", "brokers", "--entity-name", node)
    assert "log.retention.ms=" in out or "log.retention.hours=" in out


CLIENT, USER = ("--entity-type", "clients"), ("--entity-type", "users")
NAMED, DEFAULT = ("--entity-name", "app"), ("--entity-default",)
QUOTA_ENTITIES = {
    "client-id 'app'": CLIENT + NAMED, "the default client-id": CLIENT + DEFAULT,
    "user-principal 'app'": USER + NAMED, "the default user-principal": USER + DEFAULT,
    "user-principal 'app', client-id 'app'": USER + NAMED + CLIENT + NAMED,
    "user-principal 'app', the default client-id": USER + NAMED + CLIENT + DEFAULT,
    "the default user-principal, client-id 'app'": USER + DEFAULT + CLIENT + NAMED,
    "the default user-principal, the default client-id": USER + DEFAULT + CLIENT + DEFAULT}


def test_kafka_configs_sets_and_removes_client_quotas(kafka):
    """Of every kind of entity; Kafka's other quotas are refused with the reason. (What the rates do:
    system/test_limits.py.)"""
    for n, entity in enumerate(QUOTA_ENTITIES.values()):
        kafka.run("kafka-configs", "--alter", *entity, "--add-config",
                  f"producer_byte_rate={n + 1048576},consumer_byte_rate={n + 1}")
    for n, (name, entity) in enumerate(QUOTA_ENTITIES.items()):
        out = kafka.run("kafka-configs", "--describe", *entity)
        line = next(x for x in out.splitlines() if x.startswith(f"Quota configs for {name} are "))
        assert f"producer_byte_rate={n + 1048576}.0" in line and f"consumer_byte_rate={n + 1}.0" in line, out
        kafka.run("kafka-configs", "--alter", *entity, "--delete-config", "producer_byte_rate,consumer_byte_rate")
        assert "byte_rate" not in kafka.run("kafka-configs", "--describe", *entity)
    for entity, key in ((CLIENT, "request_percentage"), (USER, "controller_mutation_rate")):
        out = kafka.run("kafka-configs", "--alter", *entity, *NAMED, "--add-config", f"{key}=50", fails=True)
        assert f"Quota {key} is not enforced here, so it cannot be set" in out, out
    out = kafka.run("kafka-configs", "--alter", "--entity-type", "ips", "--entity-name", "127.0.0.1", "--add-config",
                    "connection_creation_rate=50", fails=True)
    assert "InvalidRequestException" in out and "quotas of addresses" in out, out


def test_kafka_transactions_lists_and_describes(kafka):
    t = kafka.topic("transacted")
    kafka.driver.call("transact", topic=t, partition=0, transactional_id="tx-1",
                      rounds=[{"values": ["a", "b"], "commit": True}, {"values": ["c"], "commit": False}])
    out = kafka.run("kafka-transactions", "list")
    assert re.search(r"^tx-1\s+\d+\s+\d+\s+CompleteAbort", out, re.M), out
    out = kafka.run("kafka-transactions", "describe", "--transactional-id", "tx-1")
    assert "CompleteAbort" in out
    out = kafka.run("kafka-transactions", "describe-producers", "--topic", t, "--partition", 0)
    assert re.search(r"^\d+\s+\d+\s+", out, re.M), out
    assert kafka.appliance.consume(t, "-X", "isolation.level=read_committed") == ["a", "b"]


def test_console_producer_and_consumer_exchange_with_kcat(kafka):
    t = kafka.topic("console")
    reader, formatter = kafka.option("--reader-property"), kafka.option("--formatter-property")
    kafka.run("kafka-console-producer", "--topic", t, reader, "parse.key=true",
              reader, "key.separator=:", reader, "parse.headers=true",
              "--compression-codec", "zstd", input="".join(f"n:{i}\tk{i}:line {i}\n" for i in range(50)))
    assert kafka.appliance.consume(t, "-f", "%h|%k|%s\n") == [f"n={i}|k{i}|line {i}" for i in range(50)]
    kafka.appliance.kcat("-P", "-t", t, "-K", ":", "-z", "lz4",
                         input=b"".join(b"k%d:from kcat %d\n" % (i, i) for i in range(50)))
    out = kafka.run("kafka-console-consumer", "--topic", t, "--from-beginning", "--max-messages", 100,
                    "--timeout-ms", 30000, formatter, "print.key=true", formatter, "print.offset=true")
    lines = [x for x in out.splitlines() if x.startswith("Offset:")]
    assert lines == [f"Offset:{i}\tk{i}\tline {i}" for i in range(50)] + \
        [f"Offset:{i + 50}\tk{i}\tfrom kcat {i}" for i in range(50)]
    out = kafka.run("kafka-console-consumer", "--topic", t, "--partition", 0, "--offset", 98,
                    "--max-messages", 2, "--timeout-ms", 30000)
    assert out.splitlines()[:2] == ["from kcat 48", "from kcat 49"]


def test_kafka_get_offsets_knows_every_kind(kafka):
    t = kafka.topic("offsets", 2)
    for p, n in ((0, 3), (1, 5)):
        kafka.appliance.kcat("-P", "-t", t, "-p", str(p), input=b"x\n" * n)
    for when, want in (("-1", {"3", "5"}), ("-2", {"0"}), ("latest", {"3", "5"}), ("earliest", {"0"}),
                       ("max-timestamp", None), ("1", {"0"}), ("-5", None)):
        out = kafka.run("kafka-get-offsets", "--topic", t, "--time", when)
        rows = [x.split(":") for x in out.splitlines() if x.startswith(t + ":")]
        if when == "-5":  # latest-tiered: no segment is remote
            assert not rows or all(r[2] in ("", "-1", "0") for r in rows), out
            continue
        assert sorted(r[1] for r in rows) == ["0", "1"], out
        assert want is None or {r[2] for r in rows} == want, out
    out = kafka.run("kafka-get-offsets", "--topic-partitions", f"{t}:1")
    assert f"{t}:1:5" in out


def test_kafka_log_dirs_shows_the_sizes(kafka):
    t = kafka.topic("sized", 2)
    kafka.appliance.kcat("-P", "-t", t, "-p", "1", input=os.urandom(3000).hex().encode() + b"\n")

    def sizes():
        out = kafka.run("kafka-log-dirs", "--describe", "--topic-list", t)
        found = json.loads(next(x for x in out.splitlines() if x.startswith("{")))
        (one,) = found["brokers"][0]["logDirs"]
        assert one["error"] is None
        return {p["partition"]: p["size"] for p in one["partitions"]}
    got = wait_for("the record is counted", lambda: sizes() if sizes()[f"{t}-1"] > 3000 else None)
    assert got[f"{t}-0"] == 0


def test_kafka_consumer_groups_describes_resets_and_deletes(kafka):
    t = kafka.topic("grouped", 2)
    kafka.appliance.kcat("-P", "-t", t, "-p", "0", input=b"x\n" * 20)
    out = kafka.run("kafka-console-consumer", "--topic", t, "--group", "g", "--from-beginning",
                    "--max-messages", 20, "--timeout-ms", 30000)
    assert out.count("x\n") == 20

    def row(out):
        return next(x.split() for x in out.splitlines() if re.match(r"g\s+grouped\s+0\s", x))
    out = kafka.run("kafka-consumer-groups", "--describe", "--group", "g")
    assert row(out)[3:6] == ["20", "20", "0"]
    out = kafka.run("kafka-consumer-groups", "--reset-offsets", "--group", "g", "--topic", t,
                    "--shift-by", "-5", "--execute")
    assert re.search(r"g\s+grouped\s+0\s+15", out), out
    assert row(kafka.run("kafka-consumer-groups", "--describe", "--group", "g"))[3:6] == ["15", "20", "5"]
    assert re.search(r"^g\s.*Empty", kafka.run("kafka-consumer-groups", "--describe", "--group", "g",
                                               "--state"), re.M)
    assert "g" in kafka.run("kafka-consumer-groups", "--list").split()
    if kafka.has("kafka-groups"):
        assert re.search(r"^g\s+Classic\s+consumer", kafka.run("kafka-groups", "--list"), re.M)
    out = kafka.run("kafka-consumer-groups", "--delete-offsets", "--group", "g", "--topic", t)
    assert "Successful" in out
    kafka.run("kafka-consumer-groups", "--delete", "--group", "g")
    assert "g" not in kafka.run("kafka-consumer-groups", "--list").split()


def test_kafka_delete_records_moves_the_log_start(kafka, tmp_path):
    t = kafka.topic("cut")
    kafka.appliance.kcat("-P", "-t", t, input=b"x\n" * 10)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": t, "partition": 0, "offset": 4}]}))
    assert "low_watermark: 4" in kafka.run("kafka-delete-records", "--offset-json-file", plan)
    assert kafka.appliance.consume(t, "-f", "%o\n") == [str(i) for i in range(4, 10)]


def test_tools_that_look_at_the_cluster(kafka):
    t = kafka.topic("looked-at")
    out = kafka.run("kafka-broker-api-versions")
    assert kafka.appliance.kafka in out and "Produce(0)" in out and "UNKNOWN(" not in out
    out = kafka.run("kafka-cluster", "cluster-id", "--bootstrap-server", kafka.appliance.kafka, bootstrap=False)
    assert re.search(r"Cluster ID: \S{22}", out)
    out = kafka.run("kafka-leader-election", "--election-type", "preferred", "--topic", t, "--partition", 0)
    assert "Valid replica already elected" in out or "Successfully completed" in out, out
    assert "No partition reassignments found" in kafka.run("kafka-reassign-partitions", "--list")


def test_verifiable_producer_and_consumer_agree(kafka):
    t = kafka.topic("verified")
    out = kafka.run("kafka-verifiable-producer", "--topic", t, "--max-messages", 500, "--acks", "-1",
                    "--value-prefix", "7")
    said = [json.loads(x) for x in out.splitlines() if x.startswith("{")]
    acked = [x for x in said if x["name"] == "producer_send_success"]
    assert len(acked) == 500 and sorted(x["offset"] for x in acked) == list(range(500))
    assert kafka.appliance.consume(t) == [f"7.{i}" for i in range(500)]
    out = kafka.run("kafka-verifiable-consumer", "--topic", t, "--group-id", "verifiable", "--max-messages",
                    500, "--reset-policy", "earliest", "--verbose")
    said = [json.loads(x) for x in out.splitlines() if x.startswith("{")]
    assert [x["value"] for x in said if x["name"] == "record_data"] == [f"7.{i}" for i in range(500)]
    assert [x for x in said if x["name"] == "offsets_committed"][-1]["offsets"][0]["offset"] == 500


def test_perf_tools_measure(kafka):
    t = kafka.topic("measured")
    out = kafka.run("kafka-producer-perf-test", "--topic", t, "--num-records", 50000, "--record-size", 1000,
                    "--throughput", -1, "--producer-props", f"bootstrap.servers={kafka.appliance.kafka}",
                    "acks=all", bootstrap=False)
    figure(f"kafka-producer-perf-test {kafka.driver.version}: " + out.strip().splitlines()[-1])
    assert "50000 records sent" in out
    assert kafka.appliance.end_offset(t) == 50000
    out = kafka.run("kafka-consumer-perf-test", "--topic", t,
                    kafka.option("--num-records of the consumer"), 50000)
    figure(f"kafka-consumer-perf-test {kafka.driver.version}:\n" + "\n".join(out.strip().splitlines()[-2:]))
    row = [x.strip() for x in out.strip().splitlines()[-1].split(",")]
    assert int(row[4]) >= 50000


def test_the_document_names_the_tools_that_worked(kafka, request):
    ran = {item.originalname for item in request.session.items if item.fspath == request.fspath}
    if ran != {name for name in globals() if name.startswith("test_")}:
        pytest.skip("docs/clients.md: its tools are not compared: not all of them were run")
    assert kafka.worked == {tool for tool in kafka.main if kafka.has(tool)}
    want, = report.comparable(report.tools(kafka.result()).strip())
    assert want in report.comparable(report.in_document()[1]), \
        "tests/compat/report.py has to write docs/clients.md anew: " + want
