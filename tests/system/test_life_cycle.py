"""The life of the two processes, sentence by sentence as docs/ARCHITECTURE.md has it."""
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import threading
import time

import confluent_kafka
import pytest
from appliance import Appliance, program, wait_for
from confluent_kafka.admin import AdminClient, NewTopic
from load import read_all


def kill_sluiced(a):
    a.process.send_signal(signal.SIGKILL)
    a.process.wait(30)


@pytest.fixture(scope="module", autouse=True)
def left_alone(tmp_path_factory):
    """An appliance whose sluiced died before the first test of this file, and when: the last test looks
    what became of it, half a minute that is not spent waiting."""
    with Appliance(tmp_path_factory.mktemp("left-alone")) as a:
        a.kcat("-P", "-t", "t", input=b"x\n")
        kill_sluiced(a)
        killed = time.monotonic()
        clean = os.path.join(a.dir, "log", ".kafka_cleanshutdown")
        ended = []

        def watch():
            while not ended and time.monotonic() < killed + 120:
                if a.dataplane_pid() is None:
                    ended.append(time.monotonic() - killed)
                time.sleep(0.2)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        yield a, thread, ended, clean


@pytest.fixture
def orphan(tmp_path):
    """An appliance whose sluiced is dead; its Kafka address."""
    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "t", input=b"before\n")
        kafka, dataplane = a.kafka, a.dataplane_pid()
        kill_sluiced(a)
        yield a, kafka, dataplane
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(a.dataplane_pid(), signal.SIGKILL)


def test_without_sluiced_ingest_produce_and_fetch_go_on(orphan):
    a, kafka, dataplane = orphan
    host, port = kafka.split(":")
    subprocess.run(["kcat", "-b", kafka, "-P", "-t", "t"], input=b"after\n", check=True, timeout=30)
    _, uhost, uport = a.ports()["syslog-udp"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"<13>1 - h app - - - still here", (uhost, uport))
    assert [v for _, v in read_all(kafka, "t")] == [b"before", b"after"]
    wait_for("the event", lambda: len(read_all(kafka, "syslog")) == 1)
    assert a.dataplane_pid() == dataplane


def test_without_sluiced_admin_requests_time_out_with_kafkas_error(orphan):
    _, kafka, _ = orphan
    admin = AdminClient({"bootstrap.servers": kafka})
    started = time.monotonic()
    f = admin.create_topics([NewTopic("x", 1, 1)], operation_timeout=3, request_timeout=20)["x"]
    with pytest.raises(confluent_kafka.KafkaException) as e:
        f.result(30)
    assert e.value.args[0].code() == confluent_kafka.KafkaError.REQUEST_TIMED_OUT
    assert 1 < time.monotonic() - started < 20


def test_without_sluiced_auto_creation_answers_leader_not_available(orphan):
    _, kafka, _ = orphan
    c = confluent_kafka.Consumer({"bootstrap.servers": kafka, "group.id": "x",
                                  "allow.auto.create.topics": True})
    md = c.list_topics("not-there-yet", timeout=15)
    assert md.topics["not-there-yet"].error.code() == \
        confluent_kafka.KafkaError.LEADER_NOT_AVAILABLE
    c.close()


def test_without_sluiced_new_idempotent_producers_still_get_ids(orphan):
    _, kafka, _ = orphan
    for i in range(5):
        p = confluent_kafka.Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
        errors = []
        p.produce("t", b"%d" % i, on_delivery=lambda e, m: errors.append(e))
        assert p.flush(30) == 0 and errors == [None]
    assert len(read_all(kafka, "t")) == 6


def test_a_returning_sluiced_reattaches_and_serves_admin_again(orphan):
    a, kafka, dataplane = orphan
    a.start()
    assert a.dataplane_pid() == dataplane
    assert a.kafka == kafka
    a.ctl("topic", "create", "new", "--partitions", "2")
    a.kcat("-P", "-t", "new", input=b"x\n")


def test_a_dataplane_that_dies_is_restarted_and_leader_epochs_rise(tmp_path):
    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "t", input=b"x\n")

        def epoch():
            return a.admin("GET", "/v1/topics/t")[1]["partitions"][0]["leader_epoch"]
        before = epoch()
        a.kill_dataplane()
        wait_for("a higher leader epoch", lambda: epoch() > before)
        a.kcat("-P", "-t", "t", input=b"y\n")
        assert a.consume("t") == ["x", "y"]
        again = epoch()
        assert a.stop() == 0
        a.start()
        assert epoch() == again, "a clean stop raises nothing"


def test_a_stop_right_after_the_start_is_no_failure(tmp_path):
    a = Appliance(tmp_path, start=False)
    try:
        for _ in range(4):
            a.start(wait=False)
            wait_for("the dataplane is started", lambda: "started the dataplane" in a.output(), every=0.001)
            assert a.stop() == 0, a.output()
    finally:
        a.kill_all()


def test_a_crash_is_followed_by_a_gap_record_with_its_bound(tmp_path):
    import json
    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "t", input=b"x\n")
        a.kill_dataplane()
        line = wait_for("a gap record", lambda: a.consume("_sluice.gaps"))[0]
        gap = json.loads(line)
        assert gap["to"] >= gap["from"]
        assert a.stop() == 0
        a.start()
        assert len(wait_for("one more after a stop", lambda: (
            lambda r: r if len(r) == 2 else None)(a.consume("_sluice.gaps")))) == 2


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    with Appliance(tmp_path) as a:
        a.stop()
        path = os.path.join(a.dir, "log", "meta.properties")
        text = open(path).read()
        other = text.replace("node.id=1", "node.id=7")
        assert other != text
        open(path, "w").write(other)
        p = subprocess.run(a.argv(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=60)
        assert p.returncode != 0
        assert "7" in p.stdout and "meta.properties" in p.stdout
        assert open(path).read() == other
        open(path, "w").write(text)
        a.start()


def test_an_unreadable_directory_and_a_full_disk_are_named(tmp_path):
    if os.getuid() != 0:
        pytest.skip("a small file system needs root to be mounted")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(small)], check=True)
    try:
        p = subprocess.run([program("sluiced"), "--dev", "--data", str(small / "d"),
                            "--set", "kafka.listeners[0].bind=127.0.0.1:0",
                            "--set", "listeners[0].bind=127.0.0.1:0",
                            "--set", "listeners[1].bind=127.0.0.1:0",
                            "--set", "http.bind=127.0.0.1:0"],
                           text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90)
        assert p.returncode != 0
        assert "space" in p.stdout.lower()
        assert str(small) in p.stdout
    finally:
        subprocess.run(["umount", str(small)], check=True)
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    p = subprocess.run([program("sluiced"), "--dev", "--data", str(blocked)], text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    assert p.returncode != 0 and str(blocked) in p.stdout


@pytest.mark.parametrize("ending", ["stop", "kill_all"])
def test_a_start_on_a_full_disk_without_a_reserve_says_so(tmp_path, ending):
    if os.getuid() != 0:
        pytest.skip("a small file system needs root to be mounted")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320M", "tmpfs", str(small)], check=True)
    try:
        a = Appliance(small, start=False, sets=["storage.min_free=48MiB", "memory.staging=32MiB",
                                                "journal.file_bytes=4MiB", "journal.files=3"])
        a.log_path = str(tmp_path / "sluice.log")
        a.start()
        a.kcat("-P", "-t", "t", input=b"x\n")
        reserve = os.path.join(a.dir, "journal", "reserve")
        wait_for("the reserve is kept", lambda: os.path.exists(reserve))
        getattr(a, ending)()
        os.unlink(reserve)  # with it the start would succeed: see test_disk_full.py
        ballast = small / "ballast"
        with open(ballast, "wb", buffering=0) as f, contextlib.suppress(OSError):
            while f.write(bytes(os.statvfs(small).f_bavail * 4096 or 4096)):
                pass
        p = subprocess.run(a.argv(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=60)
        assert p.returncode == 1, p.stdout
        assert f"{a.dir}/" in p.stdout and os.strerror(errno.ENOSPC) in p.stdout, p.stdout
        os.unlink(ballast)
        a.start()
        assert a.consume("t") == ["x"]
        assert a.stop() == 0
    finally:
        a.kill_all()
        subprocess.run(["umount", str(small)], check=True)


def test_a_partition_that_cannot_be_made_is_named_until_it_is_there(tmp_path):
    with Appliance(tmp_path) as a:
        in_the_way = os.path.join(a.dir, "log", "t-1")
        with open(in_the_way, "w"):
            pass
        p = a.ctl("topic", "create", "t", "--partitions", "3", check=False)
        assert p.returncode == 1
        status, body = wait_for("/health names it", lambda: (
            lambda h: h if "partition t-1" in h[1] else None)(a.get("/health")))
        assert status == 200 and json.loads(body)["status"] == "degraded"
        assert "cannot be made" in body and os.strerror(errno.EEXIST) in body
        assert "partition t-0" not in body and "partition t-2" not in body
        assert "partition t-1 is not served: it cannot be made" in a.ctl("status", check=False).stdout
        a.kcat("-P", "-t", "t", "-p", "2", input=b"x\n")
        os.unlink(in_the_way)
        wait_for("it is made", lambda: "partition t-1" not in a.get("/health")[1])
        a.kcat("-P", "-t", "t", "-p", "1", input=b"x\n")
        assert "partition t-1" not in a.ctl("status").stdout


def test_in_dev_the_dataplane_ends_half_a_minute_after_losing_sluiced(left_alone):
    a, thread, ended, clean = left_alone
    thread.join(120)
    assert ended, "it did not end"
    assert ended[0] > 25
    assert os.path.exists(clean), "and cleanly"
    a.process = None
    a.start()
    assert a.consume("t") == ["x"]
