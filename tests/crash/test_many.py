"""10,000 partitions on one shard: what they cost while nobody uses them, and that all of them can be
used at once."""
import os
import time

import confluent_kafka
from appliance import Appliance, wait_for

TOPICS, EACH = 10, 1000
MIB = 1 << 20


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        f = f.read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


def files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))  # open now


def test_10000_partitions_cost_little_when_idle_and_all_take_records(tmp_path):
    with Appliance(tmp_path, sets=["topic_defaults.partitions_max=20000"]) as a:
        began = time.monotonic()
        for i in range(TOPICS):
            a.ctl("topic", "create", f"m{i}", "--partitions", str(EACH))
        made = time.monotonic() - began
        assert a.stop() == 0
        began = time.monotonic()
        a.start()
        opened = time.monotonic() - began
        pid = a.dataplane_pid()
        print(f"made in {made:.1f} s, opened in {opened:.1f} s, {rss(pid) / MIB:.0f} MiB, {files(pid)} files")
        assert rss(pid) <= 100 * MIB, "idle, in all"
        assert files(pid) < 100

        errors = []

        def report(err, _):
            if err is not None:
                errors.append(err)
        p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "acks": "all", "linger.ms": 5,
                                      "queue.buffering.max.messages": 100000})
        began = time.monotonic()
        for round_ in range(2):
            for i in range(TOPICS):
                for k in range(EACH):
                    p.produce(f"m{i}", b"%d" % round_ + bytes(200), partition=k, on_delivery=report)
                    p.poll(0)
        assert p.flush(60) == 0 and errors == []
        staged = a.metrics_sum("sluice_staging_used_bytes")
        print(f"all took two records in {time.monotonic() - began:.1f} s, {rss(pid) / MIB:.0f} MiB, "
              f"{staged / MIB:.0f} MiB of it staging, {files(pid)} files")
        cpu, began = cpu_seconds(pid), time.monotonic()
        wait_for("the files of idle partitions are closed", lambda: files(pid) < 100, 60, 0.2)
        print(f"closed after {time.monotonic() - began:.1f} s and {cpu_seconds(pid) - cpu:.1f} s of CPU")
        for i in (0, TOPICS - 1):
            assert a.end_offset(f"m{i}", EACH - 1) == 2
        for i in range(TOPICS):
            for k in range(EACH):
                p.produce(f"m{i}", bytes(200), partition=k, on_delivery=report)
                p.poll(0)
        assert p.flush(60) == 0 and errors == []
        del p
        began = time.monotonic()
        assert a.stop(deadline=120) == 0
        stopped, began = time.monotonic() - began, time.monotonic()
        a.start()
        print(f"stopped cleanly just after all were written in {stopped:.1f} s, "
              f"opened in {time.monotonic() - began:.1f} s: " +
              next(line for line in reversed(a.output().splitlines()) if "partitions opened" in line))
        for i in (0, TOPICS - 1):
            assert a.end_offset(f"m{i}", EACH - 1) == 3
        a.kill_all()
