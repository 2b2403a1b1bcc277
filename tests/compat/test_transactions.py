"""Transactions with the clients that people have: librdkafka (confluent-kafka), which adds partitions
by itself, and Java, which speaks KIP-890; zombies, timeouts, a dataplane that is killed amid one."""
import glob
import os
import re
import subprocess
import uuid

import kafka_tools
import pytest
from appliance import ROOT, Appliance, need, wait_for
from ports import free_port

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import KafkaException, TopicPartition  # noqa: E402

SETS = ["kafka.group_initial_rebalance_delay=100ms", "topic_defaults.partitions=2", "shards=2"]


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    need("kcat")
    with Appliance(tmp_path_factory.mktemp("transactions"), sets=SETS) as a:
        yield a


def new_topic(appliance, partitions=2):
    name = "t-" + uuid.uuid4().hex[:8]
    appliance.ctl("topic", "create", name, "--partitions", str(partitions))
    return name


@pytest.fixture
def topic(appliance):
    return new_topic(appliance)


def producer(appliance, name=None, **conf):
    p = confluent_kafka.Producer({"bootstrap.servers": appliance.kafka,
                                  "transactional.id": name or uuid.uuid4().hex, **conf})
    p.init_transactions(30)
    return p


def consumer(appliance, group=None, isolation="read_committed", **conf):
    return confluent_kafka.Consumer({
        "bootstrap.servers": appliance.kafka, "group.id": group or uuid.uuid4().hex,
        "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "isolation.level": isolation, "session.timeout.ms": 6000,
        "enable.partition.eof": True, **conf})


def read(appliance, topic, isolation="read_committed", partitions=2):
    """Everything up to the end that this isolation sees, by partition."""
    c, got, at_end = consumer(appliance, isolation=isolation), {}, set()
    c.assign([TopicPartition(topic, i, 0) for i in range(partitions)])

    def more():
        m = c.poll(0.2)
        if m is None:
            return False
        if m.error() is None:
            got.setdefault(m.partition(), []).append(m.value().decode())
        else:
            assert m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, m.error()
            at_end.add(m.partition())
        return len(at_end) == partitions
    wait_for("the end of every partition", more, every=0)
    c.close()
    return got


def send(p, topic, values, partition=0):
    failed = []
    for v in values:
        p.produce(topic, v.encode(), partition=partition,
                  on_delivery=lambda e, m: failed.append(e) if e else None)
    assert p.flush(30) == 0 and not failed, failed


def test_read_committed_sees_only_what_was_committed(appliance, topic):
    p = producer(appliance)
    for i, keep in enumerate([True, False, True, False, False, True]):
        p.begin_transaction()
        for part in (0, 1):
            send(p, topic, [f"{i}.{k}" for k in range(3)], part)
        (p.commit_transaction if keep else p.abort_transaction)(30)
    kept = [f"{i}.{k}" for i in (0, 2, 5) for k in range(3)]
    every = [f"{i}.{k}" for i in range(6) for k in range(3)]
    wait_for("the last marker", lambda: read(appliance, topic) == {0: kept, 1: kept})
    assert read(appliance, topic, "read_uncommitted") == {0: every, 1: every}


def test_an_open_transaction_holds_back_what_comes_after_it(appliance, topic):
    p, plain = producer(appliance), confluent_kafka.Producer({"bootstrap.servers": appliance.kafka})
    send(plain, topic, ["before"])
    p.begin_transaction()
    send(p, topic, ["amid"])
    send(plain, topic, ["after"])
    assert read(appliance, topic) == {0: ["before"]}
    assert read(appliance, topic, "read_uncommitted") == {0: ["before", "amid", "after"]}
    # one who waits for more is woken by the marker, not by its own time-out
    c = consumer(appliance, **{"fetch.wait.max.ms": 50000, "enable.partition.eof": False})
    c.assign([TopicPartition(topic, 0, 1)])
    assert c.consume(1, 0.5) == []
    p.commit_transaction(30)
    got = []
    wait_for("the rest", lambda: got.extend(m.value() for m in c.consume(2, 0.2) if not m.error())
             or len(got) == 2, deadline=20, every=0)
    assert got == [b"amid", b"after"]
    c.close()


def test_offsets_of_a_transaction_count_when_it_commits(appliance, topic):
    group, out = uuid.uuid4().hex, new_topic(appliance)
    send(confluent_kafka.Producer({"bootstrap.servers": appliance.kafka}), topic,
         [str(i) for i in range(10)])
    c, p = consumer(appliance, group), producer(appliance)
    c.subscribe([topic])
    first = []
    wait_for("the first record", lambda: first.extend(
        m for m in c.consume(1, 0.2) if not m.error()) or first, every=0)
    where = TopicPartition(topic, 0)

    def committed():
        return c.committed([where], timeout=10)[0].offset

    def step(offset, end):
        p.begin_transaction()
        send(p, out, [f"up to {offset}"])
        p.send_offsets_to_transaction([TopicPartition(topic, 0, offset)],
                                      c.consumer_group_metadata(), 30)
        end(30)
    step(4, p.abort_transaction)
    assert committed() == confluent_kafka.OFFSET_INVALID
    step(5, p.commit_transaction)
    wait_for("offset 5", lambda: committed() == 5)
    step(9, p.abort_transaction)
    assert committed() == 5
    c.close()
    assert read(appliance, out) == {0: ["up to 5"]}


def test_a_zombie_is_fenced(appliance, topic):
    name = uuid.uuid4().hex
    zombie = producer(appliance, name)
    zombie.begin_transaction()
    send(zombie, topic, ["of the zombie"])
    heir = producer(appliance, name)
    heir.begin_transaction()
    send(heir, topic, ["of the heir"])
    heir.commit_transaction(30)
    with pytest.raises(KafkaException) as e:
        zombie.commit_transaction(30)
    assert e.value.args[0].fatal()
    wait_for("the marker", lambda: read(appliance, topic) == {0: ["of the heir"]})


def test_a_transaction_longer_than_the_broker_allows_is_refused(appliance):
    with pytest.raises(KafkaException) as e:
        producer(appliance, **{"transaction.timeout.ms": 900001})
    assert e.value.args[0].code() == confluent_kafka.KafkaError.INVALID_TRANSACTION_TIMEOUT


def java(appliance, *args, program="Transactions.java", jars=kafka_tools.jars):
    return subprocess.Popen(["java", "-Xmx512m", "-cp", os.path.join(jars(), "*"),
                             os.path.join(ROOT, "tests/compat/java", program),
                             appliance.kafka, *args], text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def fixed_port():
    """Settings for an appliance whose clients must find it again after a kill."""
    return [*SETS, f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"]


def java_ok(appliance, *args):
    p = java(appliance, *args)
    out, _ = p.communicate(timeout=180)
    assert p.returncode == 0 and re.search(rf"^ok {args[0]}", out, re.M), out[-3000:]
    return out


def test_java_raises_the_epoch_with_every_transaction(appliance, topic):
    java_ok(appliance, "epochs", topic)


def test_java_consume_transform_produce_is_exactly_once(appliance, topic):
    out = java_ok(appliance, "pipeline", topic, new_topic(appliance), uuid.uuid4().hex, "100")
    assert not re.search(r"aborted 0$", out, re.M), out


def test_java_zombie_is_fenced(appliance, topic):
    java_ok(appliance, "fence", topic)


def test_java_transaction_times_out(appliance, topic):
    out = java_ok(appliance, "timeout", topic)
    assert re.search(r"told: (ProducerFenced|InvalidProducerEpoch|InvalidTxnState)Exception", out), out


def test_the_dataplane_dies_amid_transactions(tmp_path):
    kafka_tools.jars()
    with Appliance(tmp_path, sets=fixed_port()) as a:
        topic, n = new_topic(a, 1), 6
        p = java(a, "crash", topic, str(n))
        try:
            for i in range(n):
                line = p.stdout.readline()
                while line and not line.startswith("open"):
                    line = p.stdout.readline()
                assert line == f"open {i}\n", line + p.stdout.read()
                if i % 3 != 2:
                    a.kill_dataplane()
                p.stdin.write("\n")
                p.stdin.flush()
            out, _ = p.communicate(timeout=120)
            assert p.returncode == 0 and f"ok crash {n}" in out, out[-3000:]
        finally:
            p.kill()
            p.wait()


def test_kafka_streams_counts_exactly_once_while_the_dataplane_dies(tmp_path):
    kafka_tools.streams_jars()
    with Appliance(tmp_path, sets=fixed_port()) as a:
        p = java(a, new_topic(a), new_topic(a), "50", "3", program="streams/WordCount.java",
                 jars=kafka_tools.streams_jars)
        try:
            out = ""
            for line in p.stdout:
                out += line
                if line.startswith("amid"):
                    a.kill_dataplane()
                    p.stdin.write("\n")
                    p.stdin.flush()
            assert p.wait(60) == 0 and "ok words 750" in out, out[-3000:]
        finally:
            p.kill()
            p.wait()


def test_kafkas_tools_see_transactions_and_read_their_records(tmp_path):
    kafka_tools.jars()
    with Appliance(tmp_path, sets=SETS) as a:
        topic, name = new_topic(a, 1), "tools"
        p = producer(a, name)
        for keep in (True, False):
            p.begin_transaction()
            send(p, topic, [str(keep)])
            (p.commit_transaction if keep else p.abort_transaction)(30)
        p.begin_transaction()
        send(p, topic, ["open"])

        def tool(*args):
            out = kafka_tools.run("org.apache.kafka.tools.TransactionsCommand",
                                  "--bootstrap-server", a.kafka, *args)
            assert out.returncode == 0, out.stdout
            return out.stdout
        listed = tool("list")
        assert re.search(rf"^{name}\s+\d+\s+\d+\s+Ongoing", listed, re.M), listed
        described = tool("describe", "--transactional-id", name)
        assert re.search(rf"\s{name}\s.*Ongoing.*{topic}-0", described), described
        producers = tool("describe-producers", "--topic", topic, "--partition", "0")
        start = re.search(r"^\d+\s+\d+\s+\d+\s+\d+\s+\d+\s+(\d+)", producers, re.M)
        assert start and int(start.group(1)) == 4, producers  # two records, two markers before it
        tool("abort", "--topic", topic, "--partition", "0", "--start-offset", "4")
        wait_for("the open one to be gone", lambda: read(a, topic, partitions=1) == {0: ["True"]})
        assert read(a, topic, "read_uncommitted", 1) == {0: ["True", "False", "open"]}
        a.stop()
        logs = os.path.join(a.dir, "log")
        kafka_tools.assert_dump_is_clean(logs)
        index = glob.glob(os.path.join(logs, f"{topic}-0", "*.txnindex"))
        assert [os.path.getsize(f) for f in index] == [2 * 34]
        dump = kafka_tools.run("org.apache.kafka.tools.DumpLogSegments", "--files", index[0])
        assert dump.returncode == 0 and "producerId" in dump.stdout, dump.stdout
        states = [f for f in glob.glob(os.path.join(logs, "__transaction_state-*", "*.log"))
                  if os.path.getsize(f) > 0]
        dump = kafka_tools.run("org.apache.kafka.tools.DumpLogSegments", "--transaction-log-decoder",
                               "--files", ",".join(states))
        assert dump.returncode == 0, dump.stdout
        lines = [x for x in dump.stdout.splitlines() if f'"transactionalId":"{name}"' in x]
        status = [int(re.search(r'"transactionStatus":(\d)', x).group(1)) for x in lines]
        empty, ongoing, prepare_commit, prepare_abort, complete_commit, complete_abort = range(6)
        assert status == [empty, ongoing, prepare_commit, complete_commit,
                          ongoing, prepare_abort, complete_abort, ongoing], dump.stdout[-3000:]
