"""The consumer protocol (KIP-848) with Kafka's own Java client and tools (test_matrix.py has the
others, and a group of several libraries): members come, die, bounce; patterns; the dataplane dies under them; Kafka's decoder reads the
records."""
import collections
import contextlib
import glob
import os
import re
import subprocess
import threading
import uuid

import kafka_tools
import pytest
from appliance import ROOT, Appliance, wait_for
from ports import free_port

confluent_kafka = pytest.importorskip("confluent_kafka")

PARTITIONS = 6
SESSION_MS = 3000
SETS = [f"kafka.group_consumer_session_timeout={SESSION_MS}ms",
        "kafka.group_consumer_heartbeat_interval=200ms",
        f"topic_defaults.partitions={PARTITIONS}"]


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    kafka_tools.jars()
    with Appliance(tmp_path_factory.mktemp("consumer"), sets=SETS) as a:
        yield a


@pytest.fixture
def topic(appliance):
    name = "t" + uuid.uuid4().hex[:8]
    appliance.ctl("topic", "create", name, "--partitions", str(PARTITIONS))
    return name


def produce(appliance, topic, values):
    """Value i goes to partition i % PARTITIONS."""
    p = confluent_kafka.Producer({"bootstrap.servers": appliance.kafka, "acks": "all"})
    failed = []
    for i, v in enumerate(values):
        p.produce(topic, v.encode(), partition=i % PARTITIONS,
                  on_delivery=lambda e, m: failed.append(e) if e else None)
    assert p.flush(30) == 0 and not failed


class Java:
    """A Java consumer in a process of its own: what it owns now, what it has read."""

    def __init__(self, appliance, group, what, **conf):
        self.owned, self.values, self.lines, self.rebalances = set(), [], [], 0
        self.committed = 0
        self.process = subprocess.Popen(
            ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
             "-cp", os.path.join(kafka_tools.jars(), "*"),
             os.path.join(ROOT, "tests/compat/java/GroupMember.java"), appliance.kafka, group, what,
             *[f"{k.replace('_', '.')}={v}" for k, v in conf.items()]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            parts = {p for p in rest.split(",") if p}
            if word == "value":
                self.values.append(rest)
                continue
            self.lines.append(line.rstrip("\n"))
            if word == "assigned":
                self.owned = self.owned | parts
                self.rebalances += 1
            elif word in ("revoked", "lost"):
                self.owned = self.owned - parts
            elif word == "committed":
                self.committed += 1

    @property
    def failure(self):
        return next((line for line in self.lines if line.startswith(("failed", "Exception"))), None)

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def commit(self):
        before = self.committed
        self.tell("commit")
        wait_for("the commit", lambda: self.committed > before)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(10)
        self.owned = set()

    def stop(self):
        if self.process.poll() is None:
            self.tell("stop")
            assert self.process.wait(30) == 0
        self.thread.join(10)


def shared(members, topic):
    """Every partition has exactly one owner and every member something to do."""
    for m in members:
        assert m.failure is None, m.failure
    owned = [p for m in members for p in m.owned]
    return sorted(owned) == [f"{topic}-{i}" for i in range(PARTITIONS)] and \
        all(m.owned for m in members)


def read_all(members, values):
    for m in members:
        assert m.failure is None, m.failure
    return {v for m in members for v in m.values} >= set(values)


@contextlib.contextmanager
def stopped_after(members):
    try:
        yield members
    finally:
        for m in members:
            if m.process.poll() is None:
                m.kill()


def groups_command(appliance, *args):
    p = kafka_tools.run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
                        "--bootstrap-server", appliance.kafka, *args)
    return p.stdout


def test_three_members_one_is_killed_one_joins(appliance, topic):
    group = "g-" + topic
    with stopped_after([Java(appliance, group, topic) for _ in range(3)]) as members:
        wait_for("three members share", lambda: shared(members, topic))
        first = [f"a{i}" for i in range(60)]
        produce(appliance, topic, first)
        wait_for("all is read", lambda: read_all(members, first))
        assert max(collections.Counter(v for m in members for v in m.values).values()) == 1
        for m in members:
            m.commit()
        out = groups_command(appliance, "--describe", "--group", group, "--members", "--verbose")
        rows = [line.split() for line in out.splitlines() if line.startswith(group)]
        assert len(rows) == 3 and all(r[4] == "2" for r in rows), out
        assert {r[5] for r in rows} == {r[7] for r in rows}, out  # all have the target's epoch
        out = groups_command(appliance, "--describe", "--group", group)
        lags = [line.split()[2:6] for line in out.splitlines() if line.startswith(group)]
        assert sorted(lags) == [[str(i), "10", "10", "0"] for i in range(PARTITIONS)], out
        out = groups_command(appliance, "--describe", "--group", group, "--state")
        assert re.search(rf"{group}\s+\S+ \(0\)\s+uniform\s+Stable\s+\d+\s+\d+\s+3", out) or \
            ("uniform" in out and "Stable" in out), out
        members[0].kill()
        left = members[1:]
        wait_for("two members share", lambda: shared(left, topic))
        members.append(Java(appliance, group, topic))
        left = members[1:]
        wait_for("three again", lambda: shared(left, topic))
        second = [f"b{i}" for i in range(60)]
        produce(appliance, topic, second)
        wait_for("the rest is read", lambda: read_all(left, second))
        assert not [v for m in left for v in m.values[len(first):] if v in first]
        for m in left:
            m.stop()
    out = groups_command(appliance, "--list", "--type", "consumer", "--state")
    assert [group, "Consumer", "Empty"] in [line.split() for line in out.splitlines()] or \
        re.search(rf"{group}\s+.*Empty", out), out
    out = groups_command(appliance, "--delete", "--group", group)
    assert "successful" in out, out
    assert group not in groups_command(appliance, "--list")


def test_a_pattern_finds_topics_that_come_later(appliance):
    stem = "p" + uuid.uuid4().hex[:6]
    for i in range(2):
        appliance.ctl("topic", "create", f"{stem}.{i}", "--partitions", "2")
    appliance.ctl("topic", "create", f"x{stem}.0", "--partitions", "2")
    with stopped_after([Java(appliance, "g" + stem, f"re:{stem}\\.[0-9]+")]) as members:
        m = members[0]
        wait_for("both topics", lambda: len(m.owned) == 4)
        assert m.owned == {f"{stem}.{i}-{p}" for i in range(2) for p in range(2)}
        appliance.ctl("topic", "create", f"{stem}.22", "--partitions", "2")
        wait_for("the new topic", lambda: len(m.owned) == 6)
        produce_one(appliance, f"{stem}.22", "found")
        wait_for("its record", lambda: "found" in m.values)
        appliance.ctl("topic", "delete", f"{stem}.0")
        wait_for("the topic is gone", lambda: len(m.owned) == 4)
    bad = Java(appliance, "g2" + stem, "re:(")
    with stopped_after([bad]):
        wait_for("it is refused", lambda: bad.failure)
        assert "InvalidRegularExpression" in bad.failure


def produce_one(appliance, topic, value):
    p = confluent_kafka.Producer({"bootstrap.servers": appliance.kafka, "acks": "all"})
    p.produce(topic, value.encode(), partition=0)
    assert p.flush(30) == 0


def test_a_static_member_bounces_without_a_rebalance(appliance, topic):
    group = "g-" + topic
    members = [Java(appliance, group, topic, group_instance_id=i) for i in ("a", "b")]
    with stopped_after(members):
        wait_for("two members share", lambda: shared(members, topic))
        before, owned = members[0].rebalances, set(members[1].owned)
        members[1].stop()
        members[1] = Java(appliance, group, topic, group_instance_id="b")
        wait_for("it has its partitions again", lambda: members[1].owned == owned)
        values = [f"v{i}" for i in range(60)]
        produce(appliance, topic, values)
        wait_for("all is read", lambda: read_all(members, values))
        assert members[0].rebalances == before
        assert max(collections.Counter(v for m in members for v in m.values).values()) == 1


def test_kill_9_keeps_group_epochs_and_offsets(tmp_path):
    kafka_tools.jars()
    sets = [*SETS[1:], "kafka.group_consumer_session_timeout=30s",
            f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"]
    with Appliance(tmp_path, sets=sets) as a:
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        with stopped_after([Java(a, "g", "t") for _ in range(2)]) as members:
            wait_for("two members share", lambda: shared(members, "t"))
            first = [f"a{i}" for i in range(60)]
            produce(a, "t", first)
            wait_for("all is read", lambda: read_all(members, first))
            for m in members:
                m.commit()
            owned = [set(m.owned) for m in members]
            epochs = group_epochs(a)
            a.kill_dataplane()
            second = [f"b{i}" for i in range(60)]
            produce(a, "t", second)
            wait_for("the rest is read", lambda: read_all(members, second))
            assert [m.owned for m in members] == owned, "a rebalance was not needed"
            assert group_epochs(a) == epochs
            assert max(collections.Counter(v for m in members for v in m.values).values()) == 1
            for m in members:
                m.commit()
        out = groups_command(a, "--describe", "--group", "g", "--offsets")
        assert [line.split()[2:6] for line in out.splitlines() if line.startswith("g ")].count(
            ["0", "20", "20", "0"]) == 1, out
        a.stop()
        logs = [f for f in glob.glob(os.path.join(a.dir, "log", "__consumer_offsets-*", "*.log"))
                if os.path.getsize(f)]
        p = kafka_tools.run("org.apache.kafka.tools.DumpLogSegments", "--offsets-decoder", "--files",
                            ",".join(logs))
        assert p.returncode == 0, p.stdout
        # the metadata, member, target and current assignment records, as Kafka's decoder names them
        keys = [line.split(" key: ", 1)[1] for line in p.stdout.splitlines()
                if " key: " in line and '"type":"1"' not in line]
        for kind in ("3", "5", "6", "7", "8"):
            assert any(k.startswith(f'{{"type":"{kind}","data":{{"groupId":"g"') for k in keys), keys
        assert '"assignedPartitions":[{"topicId":' in p.stdout
        assert '"subscribedTopicNames":["t"]' in p.stdout
        assert "isvalid: false" not in p.stdout


def group_epochs(a):
    """Every member's epoch and the target's."""
    out = groups_command(a, "--describe", "--group", "g", "--members", "--verbose")
    return sorted(line.split()[5:8:2] for line in out.splitlines() if line.startswith("g "))
