#!/usr/bin/env python3
"""What Kafka's own kafka-producer-perf-test and kafka-consumer-perf-test measure against the installed
appliance (build/install, or SLUICE_PREFIX), and what the dataplane spends on it: MB/s as the tool says,
CPU-seconds of the dataplane per GB of record bytes. Each tool runs in a JVM of its own, on the same machine.

    bench/clients/kafka_perf.py [--gigabytes G] [--record-size B] [--partitions N] [--acks A]
                                [--compression CODEC] [--shards N] [--dir FOLDER]"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import clients  # noqa: E402
from appliance import Appliance, program  # noqa: E402

TOOLS = "org.apache.kafka.tools."


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tool(main, *args):
    p = subprocess.run(["java", "-Xmx1g", "-cp", os.path.join(clients.KAFKA_4, "*"), TOOLS + main, *args],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode != 0:
        raise SystemExit(f"{main}: exit {p.returncode}\n{p.stdout}")
    return p.stdout


def measured(appliance, what, gigabytes, work):
    """Runs work, which returns (MB/s, remark); prints them with the dataplane's part."""
    pid = appliance.dataplane_pid()
    cpu, started = cpu_seconds(pid), time.monotonic()
    rate, remark = work()
    cpu, spent = cpu_seconds(pid) - cpu, time.monotonic() - started
    print(f"{what}: {rate:.0f} MB/s, dataplane {cpu / gigabytes:.2f} CPU-seconds per GB "
          f"({cpu:.2f} s in {spent:.1f} s with the start of the JVM); {remark}", flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--gigabytes", type=float, default=1.0)
    ap.add_argument("--record-size", type=int, default=1000)
    ap.add_argument("--partitions", type=int, default=6)
    ap.add_argument("--acks", default="all")
    ap.add_argument("--compression", default="none")
    ap.add_argument("--shards", type=int, default=1)
    ap.add_argument("--dir", help="where the data goes (default: a temporary folder)")
    args = ap.parse_args()
    clients.require("java_4")
    records = int(args.gigabytes * 1e9 / args.record_size)
    gigabytes = records * args.record_size / 1e9
    base = tempfile.mkdtemp(prefix="sluice-perf-", dir=args.dir)
    print(subprocess.run([program("sluiced"), "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
          + f": {records} records of {args.record_size} bytes, {args.partitions} partitions, acks={args.acks}, "
          f"{args.compression}, {args.shards} shard(s), load {os.getloadavg()[0]:.1f}")
    try:
        with Appliance(base, sets=[f"shards={args.shards}"]) as a:
            a.ctl("topic", "create", "perf", "--partitions", str(args.partitions))

            def produce():
                out = tool("ProducerPerformance", "--topic", "perf", "--num-records", str(records),
                           "--record-size", str(args.record_size), "--throughput", "-1", "--producer-props",
                           f"bootstrap.servers={a.kafka}", f"acks={args.acks}",
                           f"compression.type={args.compression}")
                last = out.strip().splitlines()[-1]
                # the tool's MB are MiB
                return float(re.search(r"\(([\d.]+) MB/sec\)", last).group(1)) * 1.048576, last

            def consume():
                out = tool("ConsumerPerformance", "--bootstrap-server", a.kafka, "--topic", "perf",
                           "--num-records", str(records), "--hide-header")
                row = [x.strip() for x in next(x for x in out.splitlines() if x.count(",") >= 9).split(",")]
                assert int(row[4]) >= records, out
                return float(row[3]) * 1.048576, f"fetching alone {float(row[8]) * 1.048576:.0f} MB/s"
            measured(a, "kafka-producer-perf-test", gigabytes, produce)
            measured(a, "kafka-consumer-perf-test", gigabytes, consume)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
