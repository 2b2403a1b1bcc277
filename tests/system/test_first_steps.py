"""What a newcomer does first: start without root, send a line, read it back, stop, start again."""
import os
import re
import resource
import signal
import socket
import subprocess
import time

import pytest
from appliance import Appliance, program, wait_for

NOBODY = 65534


@pytest.fixture
def ordinary_user():
    return NOBODY if os.getuid() == 0 else None


def send_udp(a, line):
    _, host, port = a.ports()["syslog-udp"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(line, (host, port))


def test_logger_line_is_read_by_kcat_with_its_fields_as_headers(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        port = a.port("syslog-udp")
        subprocess.run(["logger", "-n", "127.0.0.1", "-P", str(port), "-d", "-t", "greeter",
                        "-p", "local3.warning", "hello"], check=True)
        lines = wait_for("the line is in the topic", lambda: a.consume("syslog", "-f", "%h|%s\n"))
        assert len(lines) == 1
        assert lines[0].endswith("hello")
        assert "source=127.0.0.1" in lines[0]
        assert "facility=local3" in lines[0]
        assert "severity=warning" in lines[0]
        assert "app=greeter" in lines[0]
        assert f"host={socket.gethostname()}" in lines[0]


def test_kcat_produces_and_reads_back_with_every_acks(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        for acks in ("all", "1", "0"):
            a.kcat("-P", "-t", f"acks-{acks}", "-X", f"acks={acks}", "-k", "key",
                   input=b"one\ntwo\nthree\n")
            got = wait_for("three records", lambda: (
                lambda r: r if len(r) == 3 else None)(a.consume(f"acks-{acks}", "-f", "%k=%s\n")))
            assert got == ["key=one", "key=two", "key=three"]


def test_records_survive_a_clean_restart_and_offsets_go_on(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        a.kcat("-P", "-t", "t", input=b"one\n")
        assert a.stop() == 0
        a.start()
        a.kcat("-P", "-t", "t", input=b"two\n")
        assert a.consume("t", "-f", "%o %s\n") == ["0 one", "1 two"]


def test_stop_leaves_a_clean_kafka_directory(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        a.kcat("-P", "-t", "t", input=b"one\n")
        assert a.stop() == 0
        log = os.path.join(a.dir, "log")
        assert os.path.exists(os.path.join(log, ".kafka_cleanshutdown"))
        size = os.path.getsize(os.path.join(log, "t-0", "0" * 20 + ".log"))
        raw = open(os.path.join(log, "t-0", "0" * 20 + ".log"), "rb").read()
        assert 12 + int.from_bytes(raw[8:12], "big") == size, "one batch, no zero tail"


def test_start_says_what_it_gave_up_and_what_to_try(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        text = wait_for("the try-this text", lambda: (
            lambda t: t if "kcat" in t else None)(a.output()))
        assert str(a.port("syslog-udp")) in text
        assert a.kafka.split(":")[1] in text
        assert re.search("hugepages", text)
        assert " ERROR " not in text and "EAL" not in text
        # Two users on one machine: nothing of DPDK lies in a place they would share.
        assert os.path.isdir(os.path.join(a.dir, "run", "dpdk"))


def test_syslog_over_tcp_in_both_framings(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        _, host, port = a.ports()["syslog-tcp"]
        messages = [b"<13>1 2026-01-01T00:00:00Z h app 1 - - counted %d" % i for i in range(50)]
        with socket.create_connection((host, port)) as s:
            for m in messages:
                s.sendall(b"%d %s" % (len(m), m))
        lines = [b"<13>1 2026-01-01T00:00:00Z h app 1 - - line %d" % i for i in range(50)]
        with socket.create_connection((host, port)) as s:
            s.sendall(b"\n".join(lines) + b"\n")
        want = sorted(m.decode() for m in messages + lines)
        wait_for("100 events", lambda: len(a.consume("syslog")) >= 100)
        assert sorted(a.consume("syslog")) == want


def test_what_is_not_syslog_goes_to_the_dead_letter_topic_with_its_reason(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        send_udp(a, b"\x00\x01 no priority here")
        got = wait_for("the dead letter", lambda: a.consume("syslog.dlq", "-f", "%h|%s\n"))
        assert "reason=" in got[0]
        assert "source=127.0.0.1" in got[0]
        assert "no priority here" in got[0]


def test_usage_errors_name_the_word_and_exit_2(tmp_path):
    for args, word in [(["--nonsense"], "nonsense"), (["--dev", "--set", "nosuch.key=1"], "nosuch"),
                       (["--dev", "--set", "shards=many"], "many")]:
        p = subprocess.run([program("sluiced"), *args, "--data", str(tmp_path / "d")], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        assert p.returncode == 2, p.stdout
        assert word in p.stdout


def test_a_second_sluiced_on_the_same_directory_is_refused_with_the_holder(tmp_path):
    with Appliance(tmp_path) as a:
        p = subprocess.run(a.argv(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=30)
        assert p.returncode != 0
        assert str(a.process.pid) in p.stdout
        assert "--data" in p.stdout, "and what to do"
        assert a.consume("syslog") == []


@pytest.mark.parametrize("key,kind", [("kafka.listeners[0]", socket.SOCK_STREAM),
                                      ("listeners[0]", socket.SOCK_DGRAM),
                                      ("listeners[1]", socket.SOCK_STREAM),
                                      ("http", socket.SOCK_STREAM)])
def test_a_port_in_use_is_named(tmp_path, key, kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            s.listen()
        port = s.getsockname()[1]
        a = Appliance(tmp_path, sets=[f"{key}.bind=127.0.0.1:{port}"], start=False)
        p = subprocess.run(a.argv(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=60)
        assert p.returncode == 1, p.stdout
        assert str(port) in p.stdout
        assert "in use by another process" in p.stdout


def refused(a, **kw):
    p = subprocess.run(a.argv(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=60, **kw)
    assert p.returncode == 1, p.stdout
    return p.stdout


def test_a_data_directory_that_cannot_be_written_is_named_and_what_to_do(tmp_path, ordinary_user):
    a = Appliance(tmp_path, user=ordinary_user, start=False)
    os.mkdir(a.dir, 0o555)
    who = {"user": ordinary_user, "group": ordinary_user} if ordinary_user else {}
    said = refused(a, **who)
    assert a.dir in said and "Permission denied" in said and "--data DIR" in said


def test_files_that_cannot_be_read_are_named(tmp_path, ordinary_user):
    with Appliance(tmp_path, user=ordinary_user) as a:
        a.kcat("-P", "-t", "t", input=b"x\n")
        assert a.stop() == 0
        who = {"user": ordinary_user, "group": ordinary_user} if ordinary_user else {}
        journals = os.path.join(a.dir, "journal")
        # a partition is left out alone, and named
        path = os.path.join(a.dir, "log", "t-0")
        mode = os.stat(path).st_mode
        os.chmod(path, 0)
        a.start()
        wait_for("the partition's directory is named",
                 lambda: any(path in line and "Permission denied" in line for line in a.output().splitlines()))
        os.chmod(path, mode)
        assert a.stop() == 0
        for path in (journals,
                     os.path.join(journals, next(f for f in os.listdir(journals) if f.endswith(".journal"))),
                     os.path.join(a.dir, "log", "__cluster_metadata-0")):
            mode = os.stat(path).st_mode
            os.chmod(path, 0)
            said = refused(a, **who)
            assert path in said and "Permission denied" in said
            os.chmod(path, mode)
        a.start()
        assert a.consume("t") == ["x"]


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_read_only_file_system_is_named_and_memory_is_not_taken_for_a_disk(tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900M", "tmpfs", str(mount)], check=True)
    try:
        with Appliance(mount) as a:
            wait_for("the warning", lambda: f"{a.dir} is in memory (tmpfs)" in a.output())
            a.kcat("-P", "-t", "t", input=b"x\n")
            assert a.consume("t") == ["x"]
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        said = refused(a)
        assert a.dir in said and "Read-only file system" in said and "--data DIR" in said
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_too_few_open_files_are_refused_with_the_number(tmp_path):
    a = Appliance(tmp_path, start=False)
    said = refused(a, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)))
    assert "at most 32 open files" in said and "ulimit" in said


def test_an_idle_stop_is_quick_and_a_twin_signal_is_one(tmp_path):
    for signals in (1, 2):  # timeout(1) signals the process, then its group
        with Appliance(tmp_path) as a:
            started = time.monotonic()
            for _ in range(signals):
                a.process.send_signal(signal.SIGTERM)
                time.sleep(0.005)  # apart, or the kernel makes one of them
            assert a.process.wait(30) == 0, a.output()
            took = time.monotonic() - started
            assert "0 left unclean" in a.output() and "by force" not in a.output()
            assert took < 5, f"{took:.2f} s (idle machine: 0.2 s)"
            a.process = None
