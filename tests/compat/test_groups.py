"""Consumer groups with the clients that people have: kcat (librdkafka), confluent-kafka and
kafka-python, alone and mixed; members die, come, bounce; the dataplane dies under them."""
import collections
import contextlib
import glob
import os
import queue
import re
import signal
import subprocess
import threading
import time
import uuid

import kafka_tools
import pytest
from appliance import Appliance, need, wait_for
from ports import free_port

confluent_kafka = pytest.importorskip("confluent_kafka")
pytest.importorskip("confluent_kafka.admin")
kafka = pytest.importorskip("kafka")

PARTITIONS = 6
SESSION_MS = 2000
SETS = ["kafka.group_initial_rebalance_delay=100ms", "kafka.group_min_session_timeout=1s",
        "topic_defaults.partitions=%d" % PARTITIONS]


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    need("kcat")
    with Appliance(tmp_path_factory.mktemp("groups"), sets=SETS) as a:
        yield a


@pytest.fixture
def topic(appliance):
    name = "t-" + uuid.uuid4().hex[:8]
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


class Member:
    """A consumer in a thread of its own: what it owns now, what it has read."""

    def __init__(self, appliance, topic, group, instance=None, **conf):
        self.bootstrap, self.topic, self.group = appliance.kafka, topic, group
        self.instance, self.conf = instance, conf
        self.owned, self.values, self.rebalances = set(), [], 0
        self.error = None
        self.stopping = threading.Event()
        self.tasks = queue.Queue()
        self.thread = threading.Thread(target=self.main, daemon=True)
        self.thread.start()

    def main(self):
        try:
            self.run()
        except Exception as e:  # shown by the test that waits for something
            self.error = e

    def commit(self):
        """Synchronously, in the member's thread."""
        done = threading.Event()
        self.tasks.put(done)
        assert done.wait(30), f"no commit: {self.error}"

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error


class Confluent(Member):
    def run(self):
        conf = {"bootstrap.servers": self.bootstrap, "group.id": self.group,
                "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 300,
                "auto.offset.reset": "earliest", "enable.auto.commit": False,
                "partition.assignment.strategy": "range", **self.conf}
        if self.instance:
            conf["group.instance.id"] = self.instance
        c = confluent_kafka.Consumer(conf)

        def assigned(_, parts):
            self.owned = {p.partition for p in parts}
            self.rebalances += 1

        def revoked(_, parts):
            self.owned = set()

        c.subscribe([self.topic], on_assign=assigned, on_revoke=revoked)
        while not self.stopping.is_set():
            m = c.poll(0.05)
            if m is not None and not m.error():
                self.values.append(m.value().decode())
            with contextlib.suppress(queue.Empty):
                done = self.tasks.get_nowait()
                c.commit(asynchronous=False)
                done.set()
        c.close()


class KafkaPython(Member):
    def run(self):
        member = self

        class Listener(kafka.ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                member.owned = set()

            def on_partitions_assigned(self, assigned):
                member.owned = {p.partition for p in assigned}
                member.rebalances += 1

        c = kafka.KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.group, session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=300, auto_offset_reset="earliest", enable_auto_commit=False,
            request_timeout_ms=11000, max_poll_interval_ms=10000,
            partition_assignment_strategy=[
                kafka.coordinator.assignors.range.RangePartitionAssignor], **self.conf)
        c.subscribe([self.topic], listener=Listener())
        while not self.stopping.is_set():
            for records in c.poll(timeout_ms=50).values():
                self.values.extend(r.value.decode() for r in records)
            with contextlib.suppress(queue.Empty):
                done = self.tasks.get_nowait()
                c.commit()
                done.set()
        c.close()


class Kcat(Member):
    """A process of its own, which can be killed."""

    def run(self):
        self.process = subprocess.Popen(
            ["kcat", "-b", self.bootstrap, "-G", self.group, "-u", "-f", "%s\\n",
             "-X", f"session.timeout.ms={SESSION_MS}", "-X", "heartbeat.interval.ms=300",
             "-X", "auto.offset.reset=earliest", "-X", "partition.assignment.strategy=range",
             self.topic],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        err = threading.Thread(target=self.watch, daemon=True)
        err.start()
        for line in self.process.stdout:
            self.values.append(line.strip())
        err.join(10)
        self.process.wait(10)

    def watch(self):
        for line in self.process.stderr:
            if "assigned:" in line:
                self.owned = {int(p) for p in re.findall(r"\[(\d+)\]", line.split("assigned:")[1])}
                self.rebalances += 1
            elif "revoked:" in line:
                self.owned = set()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.thread.join(30)
        self.owned = set()

    def stop(self):
        wait_for("kcat runs", lambda: hasattr(self, "process"))
        self.process.send_signal(signal.SIGINT)
        super().stop()


KINDS = [Confluent, KafkaPython, Kcat]


def balanced(members):
    """Every partition has exactly one owner and every member something to do."""
    for m in members:
        if m.error:
            raise m.error
    owned = [p for m in members for p in m.owned]
    return sorted(owned) == list(range(PARTITIONS)) and all(m.owned for m in members)


def read_all(members, values):
    got = collections.Counter(v for m in members for v in m.values)
    return set(got) >= set(values)


@contextlib.contextmanager
def stopped_after(members):
    try:
        yield members
    finally:
        errors = []
        for m in members:
            try:
                if m.thread.is_alive():
                    m.stop()
            except Exception as e:
                errors.append(e)
        assert not errors, errors


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_three_members_one_leaves_one_joins(appliance, topic, kind):
    group = "g-" + topic
    with stopped_after([kind(appliance, topic, group) for _ in range(3)]) as members:
        wait_for("three members share", lambda: balanced(members))
        first = [f"a{i}" for i in range(60)]
        produce(appliance, topic, first)
        wait_for("all is read", lambda: read_all(members, first))
        got = collections.Counter(v for m in members for v in m.values)
        assert max(got.values()) == 1, "read twice without a rebalance"
        for m in members:
            if kind is not Kcat:
                m.commit()
        members[2].stop()
        left = members[:2]
        wait_for("two members share", lambda: balanced(left))
        members.append(kind(appliance, topic, group))
        wait_for("three again", lambda: balanced([*left, members[3]]))
        second = [f"b{i}" for i in range(60)]
        produce(appliance, topic, second)
        wait_for("the rest is read", lambda: read_all([*left, members[3]], second))


def test_a_killed_member_is_replaced(appliance, topic):
    group = "g-" + topic
    members = [Kcat(appliance, topic, group), Kcat(appliance, topic, group),
               Confluent(appliance, topic, group)]
    with stopped_after(members):
        wait_for("three members share", lambda: balanced(members))
        members[0].kill()
        start = time.monotonic()
        wait_for("the others take over", lambda: balanced(members[1:]))
        assert time.monotonic() - start < SESSION_MS / 1000 + 10
        values = [f"v{i}" for i in range(60)]
        produce(appliance, topic, values)
        wait_for("all is read", lambda: read_all(members[1:], values))


def test_members_of_three_libraries_share_one_group(appliance, topic):
    group = "g-" + topic
    with stopped_after([k(appliance, topic, group) for k in KINDS]) as members:
        wait_for("three libraries share", lambda: balanced(members))
        values = [f"v{i}" for i in range(120)]
        produce(appliance, topic, values)
        wait_for("all is read", lambda: read_all(members, values))
        got = collections.Counter(v for m in members for v in m.values)
        assert max(got.values()) == 1
        assert all(len(m.values) == 40 for m in members)


@pytest.mark.parametrize("kind", [Confluent, KafkaPython], ids=lambda k: k.__name__)
@pytest.mark.parametrize("other", [Confluent, KafkaPython], ids=lambda k: k.__name__)
def test_what_one_library_commits_another_resumes_after_kill_9(tmp_path, kind, other):
    with Appliance(tmp_path, sets=SETS) as a:
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        first = [f"a{i}" for i in range(60)]
        produce(a, "t", first)
        m = kind(a, "t", "g")
        wait_for("all is read", lambda: read_all([m], first))
        m.commit()
        m.stop()
        a.kill_dataplane()
        second = [f"b{i}" for i in range(60)]
        produce(a, "t", second)
        m = other(a, "t", "g")
        wait_for("the rest is read", lambda: read_all([m], second))
        m.stop()
        assert sorted(m.values) == sorted(second), "committed records were read again"


@pytest.mark.parametrize("kind", [Confluent, KafkaPython], ids=lambda k: k.__name__)
def test_a_group_lives_through_kill_9_of_the_dataplane(tmp_path, kind):
    """Its clients find it again at the same port: nobody starts them anew. (kcat ends itself when
    its only broker is away.)"""
    sets = [*SETS, f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"]
    with Appliance(tmp_path, sets=sets) as a:
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        with stopped_after([kind(a, "t", "g") for _ in range(2)]) as members:
            wait_for("two members share", lambda: balanced(members))
            first = [f"a{i}" for i in range(60)]
            produce(a, "t", first)
            wait_for("all is read", lambda: read_all(members, first))
            a.kill_dataplane()
            second = [f"b{i}" for i in range(60)]
            produce(a, "t", second)
            wait_for("the rest is read", lambda: read_all(members, second))
            wait_for("both still share", lambda: balanced(members))


def test_a_static_member_bounces_without_a_rebalance(appliance, topic):
    group = "g-" + topic
    conf = {"session.timeout.ms": 10000}
    members = [Confluent(appliance, topic, group, instance=i, **conf) for i in ("a", "b")]
    with stopped_after(members):
        wait_for("two members share", lambda: balanced(members))
        before = members[0].rebalances
        owned = set(members[1].owned)
        members[1].stop()  # a static member does not leave
        members[1] = Confluent(appliance, topic, group, instance="b", **conf)
        wait_for("it has its partitions again", lambda: members[1].owned == owned)
        values = [f"v{i}" for i in range(60)]
        produce(appliance, topic, values)
        wait_for("all is read", lambda: read_all(members, values))
        assert members[0].rebalances == before
        got = collections.Counter(v for m in members for v in m.values)
        assert max(got.values()) == 1


def test_groups_are_listed_described_and_deleted(appliance, topic):
    group = "g-" + topic
    admin = kafka.KafkaAdminClient(bootstrap_servers=appliance.kafka)
    with contextlib.closing(admin):
        m = KafkaPython(appliance, topic, group)
        with stopped_after([m]):
            wait_for("it owns all", lambda: balanced([m]))
            values = [f"v{i}" for i in range(12)]
            produce(appliance, topic, values)
            wait_for("all is read", lambda: read_all([m], values))
            m.commit()
            assert (group, "consumer") in admin.list_consumer_groups()
            d = admin.describe_consumer_groups([group])[0]
            assert (d.state, d.protocol, len(d.members)) == ("Stable", "range", 1)
            assert d.members[0].client_host == "/127.0.0.1"
            offsets = admin.list_consumer_group_offsets(group)
            assert {p.partition: o.offset for p, o in offsets.items()} == \
                {i: 2 for i in range(PARTITIONS)}
            code = admin.delete_consumer_groups([group])[0][1]
            assert code.__name__ == "NonEmptyGroupError"
        c = confluent_kafka.admin.AdminClient({"bootstrap.servers": appliance.kafka})
        listed = {g.id: g for g in c.list_groups(timeout=10)}
        assert listed[group].state == "Empty"

        def deleted():  # retriable while the member's last commit is on its way into the log
            error = admin.delete_consumer_groups([group])[0][1].__name__
            assert error in ("NoError", "GroupCoordinatorNotAvailableError")
            return error == "NoError"
        wait_for("it is deleted", deleted)
        assert (group, "consumer") not in admin.list_consumer_groups()
        assert group not in {g.id for g in c.list_groups(timeout=10)}


def test_two_shards_serve_groups_of_each_other(tmp_path):
    with Appliance(tmp_path, sets=[*SETS, "shards=2"]) as a:
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        values = [f"v{i}" for i in range(60)]
        produce(a, "t", values)
        groups = [f"group{i}" for i in range(6)]
        with stopped_after([Confluent(a, "t", g) for g in groups]) as members:
            for m in members:
                wait_for(f"{m.group} reads all", lambda: read_all([m], values))
                m.commit()
        a.kill_all()
        a.start()
        for g in groups:
            c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": g})
            got = c.committed([confluent_kafka.TopicPartition("t", p) for p in range(PARTITIONS)],
                              timeout=20)
            assert [p.offset for p in got] == [10] * PARTITIONS
            c.close()


def test_kafkas_own_tools_read_groups_and_their_records(tmp_path):
    kafka_tools.jars()
    command = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    with Appliance(tmp_path, sets=SETS) as a:
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        values = [f"v{i}" for i in range(12)]
        produce(a, "t", values)
        m = Confluent(a, "t", "g")
        with stopped_after([m]):
            wait_for("all is read", lambda: read_all([m], values))
            m.commit()
            p = kafka_tools.run(command, "--bootstrap-server", a.kafka, "--describe", "--group", "g")
            rows = [line.split() for line in p.stdout.splitlines() if line.startswith("g ")]
            assert sorted(r[2:6] for r in rows) == \
                [[str(i), "2", "2", "0"] for i in range(PARTITIONS)], p.stdout
        p = kafka_tools.run(command, "--bootstrap-server", a.kafka, "--list", "--state")
        assert ["g", "Empty"] in [line.split() for line in p.stdout.splitlines()], p.stdout
        a.stop()
        logs = [f for f in glob.glob(os.path.join(a.dir, "log", "__consumer_offsets-*", "*.log"))
                if os.path.getsize(f)]
        p = kafka_tools.run("org.apache.kafka.tools.DumpLogSegments", "--offsets-decoder", "--files",
                            ",".join(logs))
        assert p.returncode == 0, p.stdout
        assert '"protocolType":"consumer"' in p.stdout and '"assignedPartitions"' in p.stdout
        assert p.stdout.count('{"type":"1","data":{"group":"g","topic":"t"') == PARTITIONS, p.stdout
        assert "isvalid: false" not in p.stdout
