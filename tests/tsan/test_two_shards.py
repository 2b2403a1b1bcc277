"""The installed programs, built with the thread sanitizer, through everything that crosses threads:
shards, the control thread, housekeeping, start and stop. Run by suite tsan (tests/run.py) with
SLUICE_PREFIX at such a build; skipped by name with another."""
import glob
import os
import socket
import subprocess

import pytest
from appliance import Appliance, program, wait_for


def is_sanitized():
    with open(program("sluice-dataplane"), "rb") as f:
        return b"__tsan_init" in f.read()


@pytest.mark.skipif(not is_sanitized(), reason="not a build with -Db_sanitize=thread")
def test_no_race_in_a_life_of_two_shards(tmp_path):
    reports = str(tmp_path / "race")
    options = f"log_path={reports} exitcode=0 history_size=4"
    with Appliance(tmp_path, sets=["shards=2", "storage.linger=1ms"],
                   env={"TSAN_OPTIONS": options}) as a:
        for run in range(2):  # the second start recovers nothing, and finds everything
            # events over UDP from several sources (hand-over between shards) and TCP
            _, host, port = a.ports()["syslog-udp"]
            for source in range(8):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    s.bind((f"127.0.0.{source + 2}", 0))
                    for i in range(100):
                        s.sendto(b"<13>1 2026-01-01T00:00:00Z h app - - - %d" % i, (host, port))
            _, host, port = a.ports()["syslog-tcp"]
            with socket.create_connection((host, port)) as s:
                s.sendall(b"<13>1 2026-01-01T00:00:00Z h app - - - stream\n" * 500)
            # topics over the admin socket, records through both shards, long polls and a group
            a.ctl("topic", "create", f"t{run}", "--partitions", "6")
            lines = b"".join(b"%d\n" % i for i in range(20000))
            for codec in ("none", "gzip"):
                a.kcat("-P", "-t", f"t{run}", "-z", codec, "-X", "batch.size=16384", input=lines)
            assert len(a.consume(f"t{run}")) == 40000
            group = subprocess.run(["kcat", "-b", a.kafka, "-G", f"g{run}", "-X",
                                    "auto.offset.reset=earliest", "-c", "40000", f"t{run}"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            assert len(group.stdout.splitlines()) == 40000, group.stderr
            for i in range(10):
                a.ctl("topic", "create", f"gone{i}", "--partitions", "4")
                a.kcat("-P", "-t", f"gone{i}", input=b"x\n")
            for i in range(10):
                a.ctl("topic", "delete", f"gone{i}")
            assert a.metrics()
            wait_for("all events are there",
                     lambda: len(a.consume("syslog")) == (run + 1) * 1300)
            assert a.stop() == 0, a.output()
            if run == 0:
                a.start()
    found = "".join(open(f, errors="replace").read() for f in glob.glob(reports + ".*"))
    assert found == "", found[:20000]
