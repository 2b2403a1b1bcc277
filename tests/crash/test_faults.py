"""Disks that fail, on real processes: two data directories, the second on a file system that fails on
command. What is on the first never notices; what is on the second gets a clear error, loses nothing
acknowledged, and is served again without a restart when the disk is well again."""
import errno
import json
import os
import shutil

import confluent_kafka
import pytest
from appliance import Appliance, wait_for
from forgetfs import ForgetFS
from load import read_all

PARTITIONS = 4
LONG = "SLUICE_TEST_LONG" in os.environ


def produce(kafka, partition, values, **conf):
    """{value: offset} of what was acknowledged, and the names of the errors of the rest."""
    acked, errors = {}, []
    p = confluent_kafka.Producer({"bootstrap.servers": kafka, "acks": "all", "linger.ms": 0,
                                  "message.timeout.ms": 20000, "retry.backoff.ms": 50, **conf})

    def done(err, msg):
        if err is None:
            acked[msg.value()] = msg.offset()
        else:
            errors.append(err.name())
    for v in values:
        p.produce("t", v, partition=partition, on_delivery=done)
        assert p.flush(40) == 0
    return acked, errors


ONCE = {"retries": 0, "enable.idempotence": False}  # the first answer is the one that is told


class Disks:
    """An appliance with topic t on two disks, of which the second can fail."""

    def __init__(self, base):
        self.fs = ForgetFS(base)
        self.second = os.path.join(self.fs.mount, "disk", "log")
        self.a = Appliance(base, sets=[f"data.log_dirs[0]={self.second}", "journal.file_bytes=1MiB",
                                       "journal.files=3"])
        self.a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        self.acked = {p: {} for p in range(PARTITIONS)}
        self.sent = 0
        self.well, self.ill = [], []  # partitions of the first, of the second disk
        for p in range(PARTITIONS):
            (self.ill if os.path.isdir(self.of(p)) else self.well).append(p)
        assert self.well and self.ill

    def of(self, p):
        return os.path.join(self.second, f"t-{p}")

    def send(self, partitions, cnt=5, size=100, **conf):
        """All of it is acknowledged."""
        for p in partitions:
            values = [b"%08d" % (self.sent + i) + bytes(size) for i in range(cnt)]
            self.sent += cnt
            acked, errors = produce(self.a.kafka, p, values, **conf)
            assert errors == [] and len(acked) == cnt, (p, errors)
            self.acked[p].update(acked)

    def refused(self, p, size=0):
        """One record that is sent once: its error, or None when it was taken."""
        self.sent += 1
        acked, errors = produce(self.a.kafka, p, [b"%08d" % self.sent + bytes(size)], **ONCE)
        self.acked[p].update(acked)
        return errors[0] if errors else None

    def check(self, partitions=range(PARTITIONS)):
        for p in partitions:
            there = {v: o for o, v in read_all(self.a.kafka, "t", p)}
            for value, offset in self.acked[p].items():
                assert there.get(value) == offset, f"partition {p}, acknowledged at {offset}"

    def health(self):
        h = json.loads(self.a.get("/health")[1])
        return h["status"], " ".join(h["reasons"])

    def end(self):
        self.fs.fail()
        if self.a.process is not None or self.a.dataplane_pid():
            self.a.kill_all()
        self.fs.stop()


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    d = Disks(tmp_path_factory.mktemp("disks"))
    yield d
    d.end()


@pytest.mark.parametrize("op,err,size", [("write", errno.EIO, 300000), ("fsync", errno.EIO, 300000),
                                         ("fsync", errno.EIO, 100), ("change", errno.EROFS, 300000)])
def test_a_disk_that_fails_writes_is_fenced_alone_and_comes_back_by_itself(disks, op, err, size):
    d, a = disks, disks.a
    d.send(range(PARTITIONS), size=size)
    # small records go to the journal, large ones to their segments
    d.fs.fail((op, err, "/disk/journal" if size < 1000 else f"/t-{d.ill[0]}/"))
    wait_for("producers hear of it", lambda: d.refused(d.ill[0], size) == "KAFKA_STORAGE_ERROR")
    d.send(d.well, size=size)
    d.check(d.well)
    wait_for("/health says so", lambda: "closed after a disk error" in d.health()[1])
    d.fs.fail()
    wait_for("it is writable again by itself", lambda: d.refused(d.ill[0]) is None)
    d.send(range(PARTITIONS), size=size)
    d.check()
    wait_for("/health is ok", lambda: d.health()[0] == "ok")
    assert a.starts == 1


def test_what_a_failed_flush_left_behind_is_not_taken_for_flushed(disks):
    """After a failed fsync the next one says nothing of the same bytes: a power cut shows who
    believed it."""
    d = disks
    where = f"/t-{d.ill[0]}/"
    d.fs.fail(("fsync", errno.EIO, where))
    assert d.refused(d.ill[0], 300000) == "KAFKA_STORAGE_ERROR"
    d.fs.fail()
    wait_for("it is writable again", lambda: d.refused(d.ill[0]) is None)
    d.send(d.ill, size=300000)
    d.fs.cut(d.a)
    d.fs.start()
    d.a.start()
    d.check()


def test_a_sector_that_cannot_be_read_fails_its_reader_only(disks):
    d = disks
    where = f"/t-{d.ill[0]}/"
    d.a.stop()  # nothing of it is in memory any more
    d.a.start()
    d.fs.fail(("read", errno.EIO, where + f"{0:020d}.log"))
    c = confluent_kafka.Consumer({"bootstrap.servers": d.a.kafka, "group.id": "x",
                                  "auto.offset.reset": "error"})
    c.assign([confluent_kafka.TopicPartition("t", d.ill[0], 0)])
    m = c.poll(3)
    assert m is None or m.error()
    d.check([p for p in range(PARTITIONS) if p != d.ill[0]])
    d.fs.fail()
    got = wait_for("it can be read when the disk is well again", lambda: c.poll(1))
    assert got.error() is None and got.offset() == 0
    c.close()
    d.check()
    d.send(range(PARTITIONS))


def test_a_partition_that_cannot_be_read_at_the_start_is_left_out_alone(disks):
    d, a = disks, disks.a
    d.send(range(PARTITIONS), size=100000)  # in its segment ...
    d.send(range(PARTITIONS))               # ... and some that only the journal may hold
    ill = d.ill[0]
    rest = [p for p in range(PARTITIONS) if p != ill]
    a.kill_all()
    d.fs.fail(("read", errno.EIO, f"/t-{ill}/"))
    for _ in range(2):  # a clean stop between does not make it whole
        a.start()
        d.check(rest)
        d.send(rest)
        assert d.refused(ill) == "KAFKA_STORAGE_ERROR"
        status, reasons = d.health()
        assert status == "degraded" and "data directory" not in reasons
        assert f"is not served: it cannot be read: {d.of(ill)}/" in a.ctl("status", check=False).stdout
        assert a.stop() == 0
    d.fs.fail()
    a.start()
    d.check()
    d.send(range(PARTITIONS))


@pytest.mark.parametrize("how", (["gone"] if LONG else []) + ["empty"])
def test_a_disk_that_is_missing_at_the_start_leaves_the_others_served(disks, how):
    d, a = disks, disks.a
    d.send(range(PARTITIONS))
    a.kill_all()
    home, aside = os.path.join(d.fs.mount, "disk"), os.path.join(d.fs.mount, "aside")
    os.rename(home, aside)
    if how == "empty":
        os.makedirs(d.second)
    a.start()
    d.check(d.well)
    d.send(d.well)
    assert d.refused(d.ill[0]) == "KAFKA_STORAGE_ERROR"
    status, reasons = d.health()
    assert status == "degraded" and f"data directory {d.second} is missing or failed" in reasons
    assert "is not served: its data directory is missing" in a.ctl("status", check=False).stdout
    a.ctl("topic", "create", f"n-{how}", "--partitions", "2")  # goes where there is a disk
    for i in range(2):
        a.kcat("-P", "-t", f"n-{how}", "-p", str(i), input=b"x\n")
    if how == "empty":
        assert os.listdir(d.second) == [], "an empty mount point is not made a data directory"
    a.kill_all()
    d.fs.fail()
    shutil.rmtree(home, ignore_errors=True)
    os.rename(aside, home)
    a.start()
    d.check()
    d.send(range(PARTITIONS))
