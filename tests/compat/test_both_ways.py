"""docs/kafka-both-ways.md, done: Apache Kafka 4.3 starts on a copy of a Sluice log directory, nothing
formatted and nothing edited, and Sluice goes on with what Kafka leaves; clients stay alive meanwhile. Then
directories that Kafka made itself. Runs with scripts/test --all, which sets SLUICE_TEST_ALL: a JVM takes
seconds to start."""
import concurrent.futures
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time

import kafka_tools
import pytest
from appliance import ROOT, Appliance, need
from kafka_broker import JAVA, KafkaBroker, free_port
from wire import Wire, batch

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
pytestmark = pytest.mark.skipif(not os.environ.get("SLUICE_TEST_ALL"),
                                reason="a real Kafka is started: only with --all")


class Clients:
    """compat/java/BothWays.java."""

    def __init__(self, bootstrap):
        self.process = subprocess.Popen(
            JAVA + ["-cp", os.path.join(kafka_tools.jars(), "*"),
                    os.path.join(ROOT, "tests/compat/java/BothWays.java"), bootstrap], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.lines = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        assert self.answer("start") == "ready"

    def listen(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put("the clients have ended")

    def answer(self, what):
        try:
            return self.lines.get(timeout=100)
        except queue.Empty:
            raise AssertionError(f"no answer to {what}") from None

    def __call__(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.answer(command)
        assert line.startswith("ok "), f"{command}: {line}"
        return line[3:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(30)


def read(bootstrap, topic, isolation="read_uncommitted"):
    """Every record of a topic: [(partition, offset, timestamp, key, value, headers)], sorted."""
    p = subprocess.run(["kcat", "-b", bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J",
                        "-X", f"isolation.level={isolation}", "-X", "check.crcs=true", "-X", "fetch.wait.max.ms=10"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr[-2000:]
    rows = [json.loads(line) for line in p.stdout.splitlines()]
    return sorted(((r["partition"], r["offset"], r["tstype"], r["ts"], r.get("key"), r.get("payload"),
                    tuple(r.get("headers") or ())) for r in rows), key=lambda r: r[:2])


def contents(bootstrap, topics):
    # what is open shows only without isolation; what is aborted, only without it too
    what = [(t, "read_uncommitted") for t in topics] + [("txn", "read_committed")]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(what, pool.map(lambda w: read(bootstrap, *w), what)))


class Sequence:
    """A producer id whose batches are sent by hand, so that one can be sent twice."""

    def __init__(self, bootstrap):
        with Wire(bootstrap) as w:
            self.producer, self.epoch = w.producer_id()
        self.next, self.acked, self.started = 0, {}, int(time.time() * 1000)

    def send(self, bootstrap, sequence=None):
        """(error, offset) of a new batch, or of one that was sent before."""
        at = self.next if sequence is None else sequence
        records = batch([b"s%d" % at], self.started, (self.producer, self.epoch, at))
        with Wire(bootstrap) as w:
            error, offset = w.produce("seq", 0, records)[:2]
        if sequence is None:
            assert error == 0, error
            self.acked[at] = offset
            self.next += 1
        return error, offset

    def check(self, bootstrap):
        """The last batch is known (a snapshot has no more of them); one too far ahead is out of order (45)."""
        assert self.send(bootstrap, self.next - 1) == (0, self.acked[self.next - 1])
        assert self.send(bootstrap, self.next + 1)[0] == 45


def take_all(clients, taken, total):
    """Each group's member goes on until the group has at least `total` values: a poll brings up to five, so it
    may have some more already."""
    for group, values in taken.items():
        values += clients(f"take {group} {total - len(values)}").split(",")


def sluice(base, address, *sets):
    return Appliance(base, sets=[f"kafka.listeners[0].bind={address}", "kafka.offsets_partitions=5",
                                 "kafka.transactions_partitions=5", *sets], start=False)


def kcat_keyed(address, topic):
    subprocess.run(["kcat", "-b", address, "-P", "-t", topic, "-K:"], input=b"a:1", check=True, timeout=30)


def remove_second_batch(path):
    """As if compaction had; the number of batches there were."""
    with open(path, "rb") as f:
        data = f.read()
    ends = [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + 12 + int.from_bytes(data[ends[-1] + 8:ends[-1] + 12], "big"))
    with open(path, "wb") as f:
        f.write(data[:ends[1]] + data[ends[2]:])
    return len(ends) - 1


def swap(source, target):
    """The log directory of one becomes that of the other; the copy is what a user would make."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


def test_out_to_kafka_and_back_with_living_clients(tmp_path):
    need("kcat")
    need("java")
    kafka_tools.jars()
    port = free_port()
    address = f"127.0.0.1:{port}"
    kafka_dir, topics = str(tmp_path / "kafka"), ["data", "trimmed", "stamped", "idem", "seq", "txn", "group"]
    a = sluice(tmp_path, address)
    log_dir = os.path.join(a.dir, "log")
    a.start()
    with a, KafkaBroker(tmp_path, [kafka_dir], port) as kafka, Clients(address) as java:
        java("create data 3 retention.ms=-1 segment.bytes=1048576 max.message.bytes=2000000")
        java("create trimmed 2 retention.ms=-1")
        java("create stamped 1 message.timestamp.type=LogAppendTime cleanup.policy=compact,delete")
        for topic in topics[3:]:
            java(f"create {topic} {2 if topic == 'group' else 1}")
        for codec in CODECS:
            java(f"fill data {codec} 60")
        java("fill trimmed lz4 50")
        java("trim trimmed 0 11")
        java("trim trimmed 1 25")
        a.kcat("-P", "-t", "stamped", "-K:", input=b"a:1\nb:2\n")
        java("quota")
        values = [f"g{i}" for i in range(40)]
        a.kcat("-P", "-t", "group", input="\n".join(values).encode())
        taken = {"old": [], "new": []}
        java("join old classic")
        java("join new consumer")
        take_all(java, taken, 10)
        java("send 20")
        java("begin")
        java("more 3")
        java("commit")
        java("begin")
        java("more 3")
        java("abort")
        java("begin")
        java("more 4")  # stays open while the broker changes
        sequence = Sequence(address)
        for _ in range(7):
            sequence.send(address)
        before, cluster = contents(address, topics), java("cluster")
        assert a.stop() == 0

        # --- the way out ---
        swap(log_dir, kafka_dir)
        kafka.start()
        assert contents(address, topics) == before
        assert java("cluster") == cluster
        sequence.check(address)
        sequence.send(address)
        assert java("send 5") == str(24)
        java("more 2")
        java("commit")
        assert [r[5] for r in read(address, "txn", "read_committed")][-6:] == \
            [r[5] for r in before["txn", "read_uncommitted"] if r[5]][-4:] + ["t35", "t36"]
        java("begin")
        java("more 2")
        take_all(java, taken, 20)
        java("create made-by-kafka 3 retention.ms=86400000")
        java("fill made-by-kafka zstd 30")
        java("fill data gzip 30")
        topics.append("made-by-kafka")
        before, cluster = contents(address, topics), java("cluster")
        kafka.stop()

        # --- the way back ---
        swap(kafka_dir, log_dir)
        a.start()
        assert contents(address, topics) == before
        assert java("cluster") == cluster
        sequence.check(address)
        sequence.send(address)
        assert java("send 5") == str(29)
        java("more 1")
        java("abort")
        java("fresh")
        take_all(java, taken, 30)
        java("fill made-by-kafka none 6")
        before = contents(address, topics)
        assert a.stop() == 0
        assert a.ctl("log", "verify", a.dir).returncode == 0

        # --- out once more, and back from a Kafka that was killed ---
        swap(log_dir, kafka_dir)
        kafka.start()
        assert contents(address, topics) == before
        sequence.check(address)
        sequence.send(address)
        assert java("send 5") == str(34)
        java("begin")
        java("more 2")
        java("commit")
        take_all(java, taken, 40)
        java("fill data lz4 30")
        before, cluster = contents(address, topics), java("cluster")
        kafka.stop(signal.SIGKILL)
        swap(kafka_dir, log_dir)
        a.start()
        assert contents(address, topics) == before
        assert java("cluster") == cluster
        sequence.check(address)
        assert java("send 1") == str(35)
        for group, got in taken.items():
            assert sorted(got) == sorted(values), f"{group}: every record once: {got}"
        assert a.stop() == 0
    assert a.ctl("log", "verify", a.dir).returncode == 0
    kafka_tools.assert_dump_is_clean(log_dir)


def test_a_directory_that_kafka_made_and_its_snapshots(tmp_path):
    """Formatted by kafka-storage with a dynamic quorum, two log.dirs, metadata.version of 4.3: Sluice takes it
    in place, gives it back in place, and takes it again after kill -9, when snapshots have replaced the
    metadata log's beginning."""
    need("kcat")
    need("java")
    kafka_tools.jars()
    port = free_port()
    address = f"127.0.0.1:{port}"
    a = sluice(tmp_path, address, f"data.log_dirs[0]={tmp_path}/second/log")
    first, second = os.path.join(a.dir, "log"), f"{tmp_path}/second/log"
    metadata = os.path.join(first, "__cluster_metadata-0")
    topics = ["k", "idem", "txn", "group"]
    with KafkaBroker(tmp_path, [first, second], port, voters=False,
                     **{"offsets.topic.num.partitions": 5, "transaction.state.log.num.partitions": 5,
                        "metadata.log.max.record.bytes.between.snapshots": 4000,
                        "internal.metadata.log.segment.bytes": 4000}) as kafka:
        kafka.format("--standalone")
        kafka.start()
        with Clients(address) as java, a:
            java("create k 6 retention.ms=-1 segment.bytes=1048576")
            for topic in topics[1:]:
                java(f"create {topic} 1")
            for codec in CODECS:
                java(f"fill k {codec} 60")
            java("quota")
            subprocess.run(["kcat", "-b", address, "-P", "-t", "group"], check=True, timeout=30,
                           input="\n".join(f"g{i}" for i in range(30)).encode())
            taken = {"old": [], "new": []}
            java("join old classic")
            java("join new consumer")
            take_all(java, taken, 10)
            java("send 3")
            java("begin")
            java("more 2")
            before, cluster = contents(address, topics), java("cluster")
            kafka.stop()
            assert all(any(os.path.exists(f"{d}/k-{p}") for p in range(6)) for d in (first, second))

            a.start()
            assert contents(address, topics) == before
            assert java("cluster") == cluster
            java("commit")
            assert java("send 2") == str(4)
            take_all(java, taken, 20)
            java("create made-by-sluice 2")
            java("fill made-by-sluice lz4 20")
            topics.append("made-by-sluice")
            before, cluster = contents(address, topics), java("cluster")
            assert a.stop() == 0

            kafka.start()
            assert contents(address, topics) == before
            assert java("cluster") == cluster
            assert java("send 2") == str(6)
            take_all(java, taken, 30)
            java("create last 1 cleanup.policy=compact")
            for _ in range(3):
                kcat_keyed(address, "last")
            topics.append("last")
            before, cluster = contents(address, topics), java("cluster")
            kafka.stop(signal.SIGKILL)

            snapshots = sorted(f for f in os.listdir(metadata) if f.endswith(".checkpoint"))
            segments = sorted(f for f in os.listdir(metadata) if f.endswith(".log"))
            end = int(snapshots[-1].split("-")[0])
            gone = [f for f, after in zip(segments, segments[1:]) if int(after.split(".")[0]) <= end]
            assert gone, f"{snapshots} {segments}"
            for f in gone:  # what Kafka does when metadata.max.retention.ms has passed
                os.unlink(os.path.join(metadata, f))
            a.start()
            assert contents(address, topics) == before
            assert java("cluster") == cluster
            assert java("send 1") == str(7)
            for group, got in taken.items():
                assert sorted(got) == sorted(f"g{i}" for i in range(30)), f"{group}: {got}"
            assert a.stop() == 0
    # The offline tools know from the snapshot that "last" is compacted: a gap in it is no damage.
    path = next(p for d in (first, second) if os.path.exists(p := f"{d}/last-0/{0:020d}.log"))
    assert remove_second_batch(path) == 3
    verified = a.ctl("log", "verify", a.dir, check=False)
    assert verified.returncode == 0, verified.stdout
