#!/usr/bin/env python3
"""What it costs that a partition lies on another shard than the connection that produces to it: an
appliance of two shards (build/install, or SLUICE_PREFIX) and a connection to each, both with several
requests of acks=1 under way; each produces to a partition of its own shard and to one of the other, by
turns. Both shards are at work either way.

    bench/clients/cross_shard.py [--batch-bytes B] [--batches N] [--rounds R] [--dir FOLDER]"""
import argparse
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
from appliance import Appliance, program, wait_for  # noqa: E402
from kafka_perf import cpu_seconds  # noqa: E402
from wire import Wire, batch, string  # noqa: E402

UNDER_WAY = 8


def connections(a):
    """By shard."""
    found = a.metrics()
    return {shard: found[f'sluice_connections{{shard="{shard}"}}'] for shard in (0, 1)}


def connection_on(a, shard):
    """A connection that the kernel gave to that shard."""
    others = []
    try:
        for _ in range(64):
            before = connections(a)
            wire = Wire(a.kafka)
            wait_for("the connection is counted", lambda b=before: connections(a) != b)
            if connections(a)[shard] > before[shard]:
                return wire
            others.append(wire)
    finally:
        for wire in others:
            wire.sock.close()
    raise SystemExit(f"no connection came to shard {shard}")


def produce(pairs, records, count):
    """count batches from every connection to its partition, UNDER_WAY requests ahead of the answers."""
    bodies = [(wire, struct.pack(">hhi", -1, 1, 30000) + struct.pack(">i", 1) + string("t")
               + struct.pack(">iii", 1, partition, len(records)) + records) for wire, partition in pairs]
    for i in range(count + UNDER_WAY):
        for wire, body in bodies:
            if i < count:
                wire.send(0, 7, body)
            if i >= UNDER_WAY:
                error, = struct.unpack_from(">h", wire.answer(), 4 + 2 + 1 + 4 + 4)
                assert error == 0, f"produce error {error}"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--batch-bytes", type=int, default=16384)
    ap.add_argument("--batches", type=int, default=4000)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--dir", help="where the data goes (default: a temporary folder)")
    args = ap.parse_args()
    base = tempfile.mkdtemp(prefix="sluice-perf-", dir=args.dir)
    records = batch([b"x" * args.batch_bytes], int(time.time() * 1000))
    version = subprocess.run([program("sluiced"), "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    print(f"{version}: {args.rounds} rounds of 2 x {args.batches} batches of {len(records)} bytes, acks=1, "
          f"load {os.getloadavg()[0]:.1f}")
    try:
        with Appliance(base, sets=["shards=2"]) as a:
            a.ctl("topic", "create", "t", "--partitions", "4")
            found = a.admin("GET", "/v1/topics/t")[1]["partitions"]
            target = {p["shard"]: p["partition"] for p in found}
            wires, pid = [connection_on(a, 0), connection_on(a, 1)], a.dataplane_pid()
            spent, cpu = {False: [], True: []}, {False: [], True: []}
            for r in range(args.rounds + 1):  # the first one warms up
                for cross in (False, True) if r % 2 else (True, False):
                    c, started = cpu_seconds(pid), time.monotonic()
                    produce([(w, target[shard ^ cross]) for shard, w in enumerate(wires)], records, args.batches)
                    if r > 0:
                        spent[cross].append((time.monotonic() - started) / args.batches / 2 * 1e6)
                        cpu[cross].append((cpu_seconds(pid) - c) / args.batches / 2 * 1e6)
            for what, got in (("time", spent), ("CPU of the dataplane", cpu)):
                same, other = statistics.median(got[False]), statistics.median(got[True])
                costs = sorted((o / s - 1) * 100 for s, o in zip(got[False], got[True]))
                print(f"{what} per batch, median: same shard {same:.1f} us, other shard {other:.1f} us; by round "
                      f"{statistics.median(costs):+.0f} % ({costs[0]:+.0f} to {costs[-1]:+.0f})")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
