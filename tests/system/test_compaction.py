"""Compaction of topics with real clients: what consumers see, how small the log gets, and that
neither kill -9 nor a restart loses a key. One appliance for all tests."""
import contextlib
import glob
import os
import random
import shutil
import socket
import threading
import time

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import kafka_tools
from appliance import Appliance, wait_for

KEYS = 100
MIB = 1 << 20
CONFIG = {"cleanup.policy": "compact", "segment.bytes": str(MIB),
          "min.cleanable.dirty.ratio": "0.3"}


def free_address():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("compaction"),
                   sets=["compaction.interval=100ms",
                         f"kafka.listeners[0].bind={free_address()}"]) as a:
        yield a


def create(a, topic, partitions=1):
    admin = AdminClient({"bootstrap.servers": a.kafka})
    admin.create_topics([NewTopic(topic, partitions, 1, config=CONFIG)])[topic].result(30)


def log_bytes(a, topic, partition=0):
    size = 0
    for f in glob.glob(os.path.join(a.dir, "log", f"{topic}-{partition}", "*.log")):
        with contextlib.suppress(FileNotFoundError):  # it is being compacted
            size += os.path.getsize(f)
    return size


def stat(a, name):
    return a.metrics_sum(f"sluice_{name}")


class Keyed(threading.Thread):
    """Writes KEYS keys again and again; last: what was acknowledged of each, sent: newest tried."""

    def __init__(self, a, topic, size=1000):
        super().__init__(daemon=True)
        self.topic, self.size = topic, size
        self.last, self.sent, self.count, self.failed = {}, {}, 0, []
        self.stopping = threading.Event()
        self.producer = confluent_kafka.Producer(
            {"bootstrap.servers": a.kafka, "enable.idempotence": True, "linger.ms": 2,
             "queue.buffering.max.messages": 1000, "message.timeout.ms": 120000, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50})

    def run(self):
        while not self.stopping.is_set():
            key, n = random.randrange(KEYS), self.count

            def done(err, msg, key=key, n=n):
                if err is None:
                    self.last[key] = max(n, self.last.get(key, -1))
                else:
                    self.failed.append(str(err))
            value = f"{n} ".encode() + os.urandom(self.size)
            try:
                self.producer.produce(self.topic, value, str(key), partition=0, on_delivery=done)
                self.sent[key] = n
                self.count += 1
            except BufferError:
                self.producer.poll(0.05)
                continue
            self.producer.poll(0)

    def finish(self):
        self.stopping.set()
        self.join(60)
        assert self.producer.flush(60) == 0
        assert not self.failed, self.failed[:3]


def consumer(a, topic, **more):
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "check",
                                  "enable.auto.commit": False, "check.crcs": True,
                                  "enable.partition.eof": True, **more})
    c.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)])
    return c


def last_values(a, topic, seconds=60, **more):
    """{key: value} at the end of the partition; tombstones take their key away."""
    c = consumer(a, topic, **more)
    try:
        found, before, deadline = {}, -1, time.monotonic() + seconds
        while True:
            assert time.monotonic() < deadline, f"no end after {seconds} s"
            m = c.poll(1.0)
            if m is None:
                continue
            if m.error() is not None:
                assert m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, m.error()
                return found
            assert m.offset() > before
            before = m.offset()
            if m.value() is None:
                found.pop(m.key(), None)
            else:
                found[m.key()] = m.value()
    finally:
        c.close()


def numbers(values):
    return {int(k): int(v.split(b" ", 1)[0]) for k, v in values.items()}


def test_a_rewritten_topic_stays_small_and_a_reader_sees_every_last_value(appliance):
    a = appliance
    create(a, "k")
    load = Keyed(a, "k")
    load.start()
    c = consumer(a, "k")
    seen, position = {}, -1
    try:
        deadline = time.monotonic() + 60
        while load.count < 30000 and time.monotonic() < deadline:
            for m in c.consume(500, timeout=0.2):
                if m.error() is None:
                    seen[int(m.key())] = int(m.value().split(b" ", 1)[0])
                    position = m.offset()
        load.finish()
        assert load.count >= 30000
        wait_for("the log is small", lambda: log_bytes(a, "k") < 4 * MIB, 60)
        end = c.get_watermark_offsets(confluent_kafka.TopicPartition("k", 0), timeout=30)[1]
        deadline = time.monotonic() + 60
        while position < end - 1 and time.monotonic() < deadline:
            for m in c.consume(500, timeout=0.2):
                if m.error() is None:
                    seen[int(m.key())] = int(m.value().split(b" ", 1)[0])
                    position = m.offset()
        assert seen == load.last
    finally:
        c.close()
    print(f"{load.count} records of 1 kB written, {log_bytes(a, 'k')} bytes stay")
    assert numbers(last_values(a, "k")) == load.last


def test_kill_during_compaction_loses_no_key(appliance):
    a = appliance
    create(a, "killed")
    load = Keyed(a, "killed")
    load.start()
    for _ in range(2):
        before = load.count
        wait_for("records are written", lambda: load.count > before + 3000)
        time.sleep(random.random() * 0.2)  # the moment of the kill is the variable of this test
        a.kill_dataplane()
    before = len(load.last)
    load.finish()
    assert numbers(last_values(a, "killed")) == load.last
    names = os.listdir(os.path.join(a.dir, "log", "killed-0"))
    wait_for("nothing is being rewritten", lambda: stat(a, "compaction_active") == 0)
    assert before == KEYS and names


def test_transactions_in_a_compacted_topic(appliance):
    a = appliance
    create(a, "txn")
    p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "transactional.id": "compacted"})
    p.init_transactions(30)
    last = {}
    for i in range(400):
        p.begin_transaction()
        mine = {str(random.randrange(20)): f"{i} " for _ in range(10)}
        for key, value in mine.items():
            p.produce("txn", value.encode() + os.urandom(1500), key, partition=0)
        if i % 3 == 2:
            p.abort_transaction(30)
        else:
            p.commit_transaction(30)
            last.update(mine)
    wait_for("the log is small", lambda: log_bytes(a, "txn") < 2.5 * MIB, 60)
    found = last_values(a, "txn", **{"isolation.level": "read_committed"})
    assert {k.decode(): v.split(b" ", 1)[0].decode() + " " for k, v in found.items()} == last


def test_committed_offsets_and_transactional_ids_survive_compaction_and_a_restart(appliance):
    a = appliance
    admin = AdminClient({"bootstrap.servers": a.kafka})
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "committer",
                                  "enable.auto.commit": False})
    p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "transactional.id": "often"})
    try:
        p.init_transactions(30)
        create(a, "many", 200)
        c.commit(offsets=[confluent_kafka.TopicPartition("many", 0, 1)], asynchronous=False)
        for topic in ("__consumer_offsets", "__transaction_state"):
            r = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config=CONFIG)
            list(admin.alter_configs([r]).values())[0].result(30)
        rounds = stat(a, "compaction_rounds_total")
        for i in range(120):
            c.commit(offsets=[confluent_kafka.TopicPartition("many", n, i * 1000 + n)
                              for n in range(200)], asynchronous=False)
        wait_for("__consumer_offsets is compacted",
                 lambda: stat(a, "compaction_rounds_total") > rounds and
                 log_bytes(a, "__consumer_offsets", "*") < 2 * MIB, 60)
    finally:
        c.close()
    a.stop()
    a.start()
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "committer"})
    try:
        found = c.committed([confluent_kafka.TopicPartition("many", n) for n in range(200)],
                            timeout=30)
        assert [t.offset for t in found] == [119000 + n for n in range(200)]
    finally:
        c.close()
    again = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "transactional.id": "often"})
    again.init_transactions(30)
    again.begin_transaction()
    again.produce("txn", b"last", "last")
    again.commit_transaction(30)


def test_kafkas_dump_tool_is_content_with_what_is_left(appliance, tmp_path):
    a = appliance
    kafka_tools.jars()
    assert a.stop() == 0
    log = os.path.join(a.dir, "log")
    some = tmp_path / "some"  # the tool takes a second for every few files
    for d in os.listdir(log):
        if glob.glob(os.path.join(log, d, "*.log")) and log_bytes(a, *d.rsplit("-", 1)) > 0:
            shutil.copytree(os.path.join(log, d), some / d)
    assert {"k-0", "txn-0"} <= set(os.listdir(some))
    kafka_tools.assert_dump_is_clean(some, compacted=True)
    assert not [f for _, _, files in os.walk(log) for f in files
                if f.endswith((".cleaned", ".swap", ".deleted"))]
    with open(os.path.join(log, "cleaner-offset-checkpoint")) as f:
        lines = f.read().splitlines()
    assert lines[0] == "0" and int(lines[1]) == len(lines) - 2
    cleaned = {line.split()[0]: int(line.split()[2]) for line in lines[2:]}
    assert cleaned["k"] > 0 and cleaned["txn"] > 0
