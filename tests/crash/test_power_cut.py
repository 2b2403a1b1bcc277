"""Power cuts: the same binaries on a file system that forgets what was not fsynced, directory
entries included (tests/fs/forgetfs.c). Every acknowledged record must be there afterwards."""
import os
import time

import confluent_kafka
import pytest
from appliance import Appliance, wait_for
from forgetfs import ForgetFS
from load import Load, assert_kept, read_all

CUTS = 200 if os.environ.get("SLUICE_TEST_LONG") else 10


@pytest.fixture
def forgetful(tmp_path):
    fs = ForgetFS(tmp_path)
    yield fs
    fs.stop()


def assert_all_kept(a, loads):
    for topic in {load.topic for load in loads}:
        records = read_all(a.kafka, topic)
        for load in loads:
            if load.topic == topic:
                assert_kept(load, records)


def test_power_cuts_lose_nothing_acknowledged(tmp_path, forgetful):
    a = Appliance(tmp_path, name="m/d", start=False,
                  sets=["journal.file_bytes=4MiB", "topic_defaults.segment_bytes=1MiB",
                        "topic_defaults.message_max_bytes=1000000"])
    a.log_path = str(tmp_path / "sluice.log")
    loads = []
    try:
        for cut in range(CUTS):
            a.start()
            if cut > 0:
                # the log of events, its dead letters, the gaps, 50 of committed offsets, and ours
                unclean = 53 + len({x.topic for x in loads})
                assert f"raised the leader epoch of {unclean} " in a.output()
            assert_all_kept(a, loads)
            topics = [f"small-{cut}", "big"] if cut % 2 else ["small", f"big-{cut}"]
            now = []
            for topic in topics:
                size = 20000 if topic.startswith("big") else 100
                load = Load(a.kafka, topic, size=size, tag=f"cut{cut:04d}",
                            extra={"linger.ms": 0 if size == 100 else 5})
                load.start()
                now.append(load)
            wait_for("acknowledgements in both topics",
                     lambda: all(len(load.acked) > 300 for load in now))
            forgetful.cut(a)
            for load in now:
                load.stopping.set()
                load.join(30)
                load.producer.purge()
                load.producer.flush(5)
            loads += now
            forgetful.start()
        a.start()
        assert_all_kept(a, loads)
        total = sum(len(load.acked) for load in loads)
        print(f"{total} acknowledged records survived {CUTS} power cuts")
        assert a.stop() == 0
    finally:
        if a.process is not None or a.dataplane_pid():
            print(a.output()[-6000:])
            a.kill_all()


def test_no_acknowledgement_comes_before_its_flush_has_completed(tmp_path):
    fs = ForgetFS(tmp_path, delay_ms=30)
    try:
        a = Appliance(tmp_path, name="m/d", start=False, sets=["journal.file_bytes=4MiB"])
        a.log_path = str(tmp_path / "sluice.log")
        a.start()
        p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "acks": "all", "linger.ms": 0})
        p.produce("t", b"warm up")
        assert p.flush(60) == 0
        spans = []
        for i in range(30):
            sent = time.monotonic_ns()
            acked = []
            p.produce("t", b"%d" % i, on_delivery=lambda e, m: acked.append(time.monotonic_ns()))
            assert p.flush(60) == 0
            spans.append((sent, acked[0]))
        flushes = [(int(s), int(e)) for s, e, *_ in
                   (line.split() for line in open(fs.trace))]
        for sent, acked in spans:
            assert any(sent < start and end < acked for start, end in flushes), \
                "acknowledged with no flush begun and ended since it was sent"
        a.stop()
    finally:
        fs.stop()


def test_flushes_reach_the_block_device(tmp_path):
    st = os.stat(tmp_path)
    stat = f"/sys/dev/block/{os.major(st.st_dev)}:{os.minor(st.st_dev)}/stat"
    if not os.path.exists(stat) or len(open(stat).read().split()) < 16:
        pytest.skip(f"device flushes are not proven: {stat} has no flush counter")
    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "t", input=b"warm up\n")
        flushes = int(open(stat).read().split()[15])
        commits = a.metrics_sum("sluice_group_commits_total")
        p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "acks": "all", "linger.ms": 0})
        for i in range(50):
            p.produce("t", b"%d" % i)
            assert p.flush(30) == 0
        wait_for("commit groups are counted",
                 lambda: a.metrics_sum("sluice_group_commits_total") >= commits + 50)
        assert int(open(stat).read().split()[15]) >= flushes + 50
