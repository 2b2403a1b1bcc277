"""Power cuts: the same binaries on a file system that forgets what was not fsynced, directory
entries included (tests/fs/forgetfs.c). Every acknowledged record must be there afterwards."""
import os
import time

import confluent_kafka
import pytest
from appliance import Appliance, wait_for
from forgetfs import ForgetFS
from load import Load, assert_kept, read_all
from mixed_load import SETS, TOPICS, MixedLoad
from ports import free_port

CUTS = int(os.environ.get("SLUICE_TEST_ROUNDS",
                          200 if os.environ.get("SLUICE_TEST_LONG") else 10))


@pytest.fixture
def forgetful(tmp_path):
    fs = ForgetFS(tmp_path)
    yield fs
    fs.stop()


def test_power_cuts_under_mixed_load_lose_and_double_nothing(tmp_path, forgetful):
    a = Appliance(tmp_path, name="m/d", start=False,
                  sets=SETS + ["journal.file_bytes=4MiB", "topic_defaults.segment_bytes=1MiB",
                               "topic_defaults.message_max_bytes=1000000",
                               f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"])
    a.log_path = str(tmp_path / "sluice.log")
    created = []  # one topic that is new at each cut
    try:
        a.start()
        load = MixedLoad(a)
        for cut in range(CUTS):
            new = Load(a.kafka, f"new-{cut}", size=20000 if cut % 2 else 100, tag="new", rate=500)
            new.start()
            wait_for("acknowledgements in a new topic", lambda: len(new.acked) > 50)
            load.before_crash(a)
            forgetful.cut(a)
            new.stopping.set()
            new.join(30)
            new.producer.purge()
            new.producer.flush(5)
            created.append(new)
            forgetful.start()
            a.start()
            # the log of events, its dead letters, the gaps, 50 of committed offsets and 50 of
            # transactions, those of the load, and the new ones
            unclean = 103 + len(TOPICS) + len(created)
            assert f"raised the leader epoch of {unclean} " in a.output()
            assert_kept(new, read_all(a.kafka, new.topic))
            if cut % 2:
                load.check()
        for new in created:
            assert_kept(new, read_all(a.kafka, new.topic))
        load.finish()
        print(f"{sum(len(new.acked) for new in created)} records acknowledged in new topics")
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
