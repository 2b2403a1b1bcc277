"""The wall clock jumps under a running appliance, by libfaketime; the monotonic clock goes on. What docs/faults.md
says of it: timers do not notice, retention judges by the new time, nothing goes early when it is set back."""
import os
import subprocess
import time

import pytest
from appliance import Appliance, wait_for
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

DAYS_30 = 30 * 86400
VALUE = b"v" * 1000
SEGMENT = 1 << 20


def library():
    """libfaketime where the packages of this machine put it."""
    out = subprocess.run(["dpkg", "-L", "libfaketime"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                         check=False).stdout
    return next((p for p in out.split() if p.endswith("/libfaketimeMT.so.1")), None)


class Clock:
    """The wall clock of the programs that are given `env`."""

    def __init__(self, path):
        self.path = str(path)
        self.set(0)
        self.env = {"LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}

    def set(self, ahead_s):
        with open(self.path + ".new", "w") as f:
            f.write(f"{ahead_s:+d}\n")
        os.replace(self.path + ".new", self.path)


def produced(a, topic, n, **config):
    """n records, all acknowledged; their offsets."""
    offsets, p = [], Producer({"bootstrap.servers": a.kafka, **config})

    def over(err, m):
        assert err is None, err
        offsets.append(m.offset())
    for i in range(n):
        p.produce(topic, b"%06d" % i + VALUE, partition=0, on_delivery=over)
        p.poll(0)
    assert p.flush(60) == 0
    return offsets


def low(a, topic):
    c = Consumer({"bootstrap.servers": a.kafka, "group.id": "low"})
    first, _ = c.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
    c.close()
    return first


def all_offsets(a, topic, end):
    c = Consumer({"bootstrap.servers": a.kafka, "group.id": "all", "enable.auto.commit": False})
    c.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    got, deadline = [], time.monotonic() + 60
    while (not got or got[-1] < end - 1) and time.monotonic() < deadline:
        m = c.poll(1)
        if m is not None:
            assert m.error() is None, m.error()
            got.append(m.offset())
    c.close()
    return got


class Member:
    """One group member that counts how often it was given partitions."""

    def __init__(self, a):
        self.assigned = self.seen = 0
        self.c = Consumer({"bootstrap.servers": a.kafka, "group.id": "g", "session.timeout.ms": 6000,
                           "heartbeat.interval.ms": 500, "auto.offset.reset": "earliest", "enable.auto.commit": False})
        self.c.subscribe(["kept"], on_assign=lambda c, p: setattr(self, "assigned", self.assigned + 1))

    def read_to(self, n):
        def more():
            m = self.c.poll(0.2)
            if m is not None and m.error() is None:
                self.seen += 1
            return self.seen >= n
        wait_for(f"the member has read {n}", more, every=0)
        self.c.commit(asynchronous=False)


def test_a_clock_that_jumps_moves_no_timer_and_removes_only_what_is_too_old(tmp_path):
    if library() is None:
        pytest.skip("libfaketime is not installed (scripts/setup --tests)")
    clock = Clock(tmp_path / "clock")
    with Appliance(tmp_path, env=clock.env) as a:
        admin = AdminClient({"bootstrap.servers": a.kafka})
        small = {"segment.bytes": str(SEGMENT)}
        for f in admin.create_topics([NewTopic("kept", 1, 1, config={**small, "retention.ms": "-1"}),
                                      NewTopic("aged", 1, 1, config={**small, "retention.ms": "3600000"})]).values():
            f.result(30)
        assert produced(a, "aged", 3000)[-1] == 2999
        assert produced(a, "kept", 3000, **{"enable.idempotence": True})[-1] == 2999
        member = Member(a)
        member.read_to(3000)
        txn = Producer({"bootstrap.servers": a.kafka, "transactional.id": "t", "transaction.timeout.ms": 60000})
        txn.init_transactions(30)
        txn.begin_transaction()
        txn.produce("kept", b"in a transaction", partition=0)
        assert txn.flush(30) == 0

        clock.set(DAYS_30)
        wait_for("retention judges by the new time", lambda: low(a, "aged") == 3000)
        txn.commit_transaction(30)  # open for 30 days of the wall clock, for seconds by its timer
        assert produced(a, "kept", 100)[-1] == 3101  # the record of the transaction and its marker
        member.read_to(3101)
        assert member.assigned == 1, "a session ended with the jump"

        clock.set(0)  # back by 30 days
        assert produced(a, "kept", 100)[-1] == 3201
        assert produced(a, "aged", 100)[-1] == 3099
        member.read_to(3201)
        assert member.assigned == 1, "a session ended when the clock was set back"
        member.c.close()
        assert low(a, "aged") == 3000 and low(a, "kept") == 0
        a.stop()

        a.start()
        assert low(a, "kept") == 0
        got = all_offsets(a, "kept", 3202)
        assert got == [i for i in range(3202) if i != 3001], "all but the marker"
        assert a.crashes() == []
