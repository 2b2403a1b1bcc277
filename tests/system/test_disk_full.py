"""A full disk, on an ext4 of its own: the oldest sealed segments of `delete` topics go first, and each
is recorded; when none is left producers get an error, reads go on, nothing acknowledged is lost, and
when there is room again writing goes on by itself."""
import contextlib
import json
import os
import subprocess
import time

import confluent_kafka
import pytest
from appliance import Appliance, wait_for
from confluent_kafka.admin import AdminClient, NewTopic

MIB = 1 << 20
DISK = 320 * MIB
MIN_FREE = 48 * MIB
RECORD = 256 << 10


@pytest.fixture
def small_disk(tmp_path):
    image, path = tmp_path / "image", tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    with open(image, "wb") as f:
        f.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(path)], capture_output=True).returncode:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


SETS = [f"storage.min_free={MIN_FREE}", "memory.staging=32MiB", "journal.file_bytes=4MiB", "journal.files=3"]


def free(path):
    st = os.statvfs(path)
    return st.f_bavail * st.f_frsize


def fill(path, leave):
    """Another program's file, which leaves `leave` bytes."""
    with open(path, "wb") as f:
        while free(path.parent) > leave:
            try:
                f.write(bytes(min(MIB, max(4096, free(path.parent) - leave))))
                f.flush()
            except OSError:
                break
    return path


def create(kafka, name, **config):
    config = {"segment.bytes": str(4 * MIB), **{k.replace("_", "."): v for k, v in config.items()}}
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(30)


def delete(kafka, name):
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([name])[name].result(30)


class Sender:
    """Sends as fast as it can; keys of what was acknowledged, by offset, and the errors of the rest."""

    def __init__(self, kafka, topic, **conf):
        self.topic, self.acked, self.errors, self.sent = topic, {}, [], 0
        self.p = confluent_kafka.Producer({
            "bootstrap.servers": kafka, "compression.type": "none", "acks": "all",
            "queue.buffering.max.kbytes": 16384, "queue.buffering.max.ms": 5, **conf})
        self.body = os.urandom(RECORD)

    def send(self, cnt):
        for _ in range(cnt):
            key = b"%08d" % self.sent
            self.sent += 1

            def report(err, msg, key=key):
                if err is None:
                    self.acked[msg.offset()] = key
                else:
                    self.errors.append(err)
            while True:
                try:
                    self.p.produce(self.topic, self.body, key=key, on_delivery=report)
                    break
                except BufferError:
                    self.p.poll(0.05)
            self.p.poll(0)
        assert self.p.flush(60) == 0
        return self


def consumer(kafka):
    return contextlib.closing(confluent_kafka.Consumer({
        "bootstrap.servers": kafka, "group.id": "r", "enable.auto.commit": False,
        "auto.offset.reset": "error"}))


def watermarks(kafka, topic):
    with consumer(kafka) as c:
        return c.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=30)


def read(kafka, topic):
    """Low watermark and the keys by offset; nobody may be moving the log."""
    low, high = watermarks(kafka, topic)
    with consumer(kafka) as c:
        c.assign([confluent_kafka.TopicPartition(topic, 0, low)])
        keys, end = {}, time.monotonic() + 60
        while len(keys) < high - low and time.monotonic() < end:
            m = c.poll(1.0)
            if m is None:
                continue
            assert m.error() is None, m.error()
            keys[m.offset()] = m.key()
        assert sorted(keys) == list(range(low, high))
        return low, keys


def assert_all_there(kafka, sender):
    low, keys = read(kafka, sender.topic)
    for offset, key in sender.acked.items():
        assert offset < low or keys[offset] == key
    return low, keys


def metric(a, name):
    found = [v for k, v in a.metrics().items() if k.split("{")[0] == f"sluice_{name}_total"]
    assert found, name
    return sum(found)


def test_a_fast_producer_moves_the_log_along_and_every_gap_is_recorded(small_disk):
    with Appliance(small_disk, sets=SETS) as a:
        create(a.kafka, "logs")
        began = time.monotonic()
        s = Sender(a.kafka, "logs").send(3 * DISK // RECORD)
        print(f"{s.sent * RECORD / MIB / (time.monotonic() - began):.0f} MiB/s over a full disk")
        assert s.errors == [] and len(s.acked) == s.sent
        assert metric(a, "space_stalls") == 0, "no write of ours has met a full disk"
        assert "read-only" not in a.output() and "fenced" not in a.output()
        low, keys = assert_all_there(a.kafka, s)
        assert low > 0 and len(keys) * RECORD > DISK / 3

        def gaps():
            found = [json.loads(line) for line in a.consume("_sluice.gaps")]
            found = [g for g in found if g["reason"] == "space"]
            return found if found and found[-1]["to_offset"] == low else None
        found = wait_for("the gaps are recorded", gaps)
        at = 0
        for g in found:
            assert (g["topic"], g["partition"], g["from_offset"]) == ("logs", 0, at)
            assert 0 < g["from"] <= g["to"] and g["segments"] > 0
            at = g["to_offset"]
        assert at == low
        assert sum(g["bytes"] for g in found) == metric(a, "space_deleted_bytes")
        assert "gap recorded: a full disk" in a.output()
        assert "deleted before their time" in a.ctl("status").stdout


def test_with_nothing_to_drop_producers_hear_it_and_it_heals_when_a_topic_or_a_file_goes(small_disk):
    with Appliance(small_disk, sets=SETS) as a:
        create(a.kafka, "spare", cleanup_policy="compact")
        create(a.kafka, "kept", cleanup_policy="compact")
        assert Sender(a.kafka, "spare").send(100 * MIB // RECORD).errors == []
        once = {"retries": 0, "enable.idempotence": False}
        s = Sender(a.kafka, "kept", **once)
        while not s.errors:
            s.send(40)
        assert {e.name() for e in s.errors} == {"KAFKA_STORAGE_ERROR"}
        assert free(small_disk) > MIN_FREE / 4, "half of storage.min_free is not ours"
        assert metric(a, "space_stalls") == 0
        low, _ = assert_all_there(a.kafka, s)
        assert low == 0

        delete(a.kafka, "spare")
        wait_for("writable again", lambda: "the log is writable" in a.output())
        known = len(s.acked)
        s.send(20)
        assert len(s.acked) == known + 20
        assert_all_there(a.kafka, s)

        # Somebody else takes all there is, while a producer is at work: our own writes meet it.
        steady = Sender(a.kafka, "kept", **{"message.timeout.ms": 60000})
        ballast = fill(small_disk / "ballast", 0)
        wait_for("read-only", lambda: s.send(1).errors and "read-only until" in a.output() or
                 metric(a, "space_stalls") > 0, 60, 0.2)
        assert_all_there(a.kafka, s)
        os.unlink(ballast)
        wait_for("writable again", lambda: a.output().count("the log is writable") >= 2)
        steady.send(20)
        assert steady.errors == [] and len(steady.acked) == 20
        assert_all_there(a.kafka, steady)
        assert_all_there(a.kafka, s)
        pid = a.dataplane_pid()
        assert a.starts == 1 and pid is not None
        a.kill_dataplane()
        wait_for("another one", lambda: a.dataplane_pid() not in (None, pid))
        a.wait_ready()
        assert_all_there(a.kafka, s)
        assert_all_there(a.kafka, steady)


@pytest.mark.parametrize("how", ["a stop", "a crash"])
def test_a_start_on_a_disk_that_others_filled_serves_reads(small_disk, how):
    """Its reserve is given up for the start; producers are refused until there is room."""
    with Appliance(small_disk, sets=SETS) as a:
        create(a.kafka, "kept", cleanup_policy="compact")
        s = Sender(a.kafka, "kept").send(40)
        assert s.errors == []
        reserve = os.path.join(a.dir, "journal", "reserve")
        wait_for("the reserve is kept", lambda: os.path.exists(reserve))
        if how == "a stop":
            assert a.stop() == 0
        else:
            a.kill_all()
        ballast = fill(small_disk / "ballast", 0)
        assert free(small_disk) < MIB
        a.start()
        assert "its reserve of 16 MiB is given up" in a.output()
        assert_all_there(a.kafka, s)
        refused = Sender(a.kafka, "kept", retries=0, **{"enable.idempotence": False}).send(1)
        assert [e.name() for e in refused.errors] == ["KAFKA_STORAGE_ERROR"]
        wait_for("/health says why", lambda: "read-only" in a.get("/health")[1])
        os.unlink(ballast)
        wait_for("writable again", lambda: "the log is writable" in a.output())
        more = Sender(a.kafka, "kept").send(10)
        assert more.errors == []
        assert_all_there(a.kafka, more)
        assert_all_there(a.kafka, s)
        wait_for("the reserve is kept again", lambda: os.path.exists(reserve))


def test_retention_by_size_and_by_time_removes_files(tmp_path):
    with Appliance(tmp_path) as a:
        create(a.kafka, "size", segment_bytes=str(MIB), retention_bytes=str(4 * MIB))
        create(a.kafka, "time", segment_bytes=str(MIB), retention_ms="3000")
        create(a.kafka, "kept", segment_bytes=str(MIB))
        for topic in ("size", "time", "kept"):
            assert Sender(a.kafka, topic).send(64).errors == []

        def bytes_of(topic):
            d = os.path.join(a.dir, "log", f"{topic}-0")
            return sum(os.path.getsize(os.path.join(d, f)) for f in os.listdir(d) if f.endswith(".log"))

        wait_for("retention.bytes holds", lambda: bytes_of("size") <= 5 * MIB, 30)
        assert bytes_of("size") >= 3 * MIB
        low, keys = read(a.kafka, "size")
        assert low > 0 and low + len(keys) == 64
        assert read(a.kafka, "kept")[0] == 0 and bytes_of("kept") > 16 * MIB
        wait_for("retention.ms holds, for the active segment too",
                 lambda: watermarks(a.kafka, "time") == (64, 64) and bytes_of("time") == 0)
