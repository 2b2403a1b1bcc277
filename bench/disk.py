#!/usr/bin/env python3
"""What the log makes of the disk it lies on: its figures beside fio's on the same file system, by turns in
one run, and their ratios. The machine may be shared, so only pairs count; the median of them is given.

    bench/disk.py [--pairs N] [--megabytes M] [--dir FOLDER] [--build BUILD]

  append      acks=all into one partition; fio: direct writes of 256 KiB at depth 8 into a file whose
              room is allocated before, one fdatasync per as many bytes as the log wrote per flush
  commits     1,000 partitions with 4 KiB each, until all are durable; fio: one write of 4 MiB into a file
              written before, and fdatasync: the journal without anything around it. Sustained: with the
              drains to 1,000 files that a burst of 8 does without
  replay      reading it back from the disk, checksums verified; fio: direct reads of 128 KiB at depth 8
  recovery    opening after a crash, per GB written since the last checkpoint
  verify      sluicectl log verify of what is in the page cache, GB per CPU-second
  half load   produce to acknowledgement at half the rate that 'sluice-bench produce' reaches (1 KiB)

Needs fio, the build folder (build, or --build), and three times --megabytes of free space."""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(*args, **kw):
    p = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=600, **kw)
    if p.returncode != 0:
        raise SystemExit(f"{args[0]}: exit {p.returncode}\n{p.stdout}")
    return p.stdout


def fio(base, *args):
    """(write bytes a second, read bytes a second, mean microseconds of a flush, of a write)"""
    out = run("fio", "--name=disk", f"--filename={base}/fio.dat", "--ioengine=io_uring", "--direct=1",
              "--output-format=json", *args)
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return (job["write"]["bw_bytes"], job["read"]["bw_bytes"], job["sync"]["lat_ns"].get("mean", 0) / 1e3,
            job["write"]["clat_ns"].get("mean", 0) / 1e3)


def store(build, base, megabytes, *args):
    out = run(os.path.join(build, "bench/micro/bench_store"), "--dir", base, "--mb", str(megabytes), *args)
    rows = [line.split(" ", 1) for line in out.splitlines()]
    return {k: v if k == "kept" else float(v) for k, v in rows}


def one_pair(build, base, megabytes):
    r = store(build, base, megabytes)
    file = os.path.join(base, "fio.dat")
    size = f"--size={megabytes}M"
    every = max(1, round(r["append_flush_kb"] / 256))
    r["fio_append"] = fio(base, size, "--bs=256k", "--iodepth=8", "--rw=write",
                          f"--fdatasync={every}")[0] / 1e6
    r["fio_replay"] = fio(base, size, "--bs=128k", "--iodepth=8", "--rw=read")[1] / 1e6
    os.unlink(file)
    _, _, flush, write = fio(base, "--size=256M", "--bs=4M", "--iodepth=1", "--rw=write", "--overwrite=1",
                             "--fdatasync=1")
    r["fio_commit"] = (flush + write) / 1e3
    os.unlink(file)
    return r


def verify_rate(build, base, megabytes):
    kept = store(build, base, megabytes, "--rounds", "1", "--keep")["kept"]
    best = 0.0
    try:
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run(os.path.join(build, "install/bin/sluicectl"), "log", "verify", kept)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best = max(best, megabytes * 1.048576e-3 / cpu)
    finally:
        shutil.rmtree(os.path.dirname(kept))
    return best


def half_load(build, base):
    bench = os.path.join(build, "install/bin/sluice-bench")
    env = dict(os.environ, TMPDIR=base)
    full = json.loads(run(bench, "produce", "--seconds", "3", "--json", env=env))["records_per_second"]
    rate = max(1000, int(full / 2))
    alone = json.loads(run(bench, "mixed", "--rate", str(rate), "--pairs", "1", "--megabytes", "16", "--seconds",
                           "3", "--json", env=env))["pairs"][0]["alone"]["produce_us"]
    return rate, alone


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--pairs", type=int, default=3)
    ap.add_argument("--megabytes", type=int, default=512)
    ap.add_argument("--dir", default="/var/tmp", help="where the data goes")
    ap.add_argument("--build", default=os.path.join(ROOT, "build"))
    args = ap.parse_args()
    if shutil.which("fio") is None:
        raise SystemExit("disk.py: fio is missing (scripts/setup --tests)")
    base = tempfile.mkdtemp(prefix="sluice-disk-", dir=args.dir)
    started = time.monotonic()
    try:
        pairs = []
        for i in range(args.pairs):
            r = one_pair(args.build, base, args.megabytes)
            pairs.append(r)
            print(f"pair {i + 1} (load {os.getloadavg()[0]:.1f}): append {r['append_mb_s']:.0f} MB/s, fio "
                  f"{r['fio_append']:.0f} ({r['append_flush_kb']:.0f} KiB per flush, longest turn "
                  f"{r['append_turn_max_us']:.0f} us); commits {r['commits_ms']:.2f} ms, sustained "
                  f"{r['commits_sustained_ms']:.1f}, fio {r['fio_commit']:.2f}; "
                  f"replay {r['replay_mb_s']:.0f} MB/s, fio {r['fio_replay']:.0f}; recovery "
                  f"{r['recovery_s_per_gb']:.2f} s/GB", flush=True)

        def median(f):
            return statistics.median(f(r) for r in pairs)
        print(f"append     {median(lambda r: r['append_mb_s'] / r['fio_append']):.2f} of fio's rate")
        print(f"commits    {median(lambda r: r['commits_ms'] / r['fio_commit']):.2f} times the time of the bare journal")
        print(f"replay     {median(lambda r: r['replay_mb_s'] / r['fio_replay']):.2f} of fio's rate")
        print(f"recovery   {median(lambda r: r['recovery_s_per_gb']):.2f} s per GB")
        print(f"verify     {verify_rate(args.build, base, args.megabytes):.1f} GB per CPU-second")
        rate, q = half_load(args.build, base)
        print(f"half load  {rate} records/s: p50 {q['p50']:.0f} us, p99 {q['p99']:.0f} us")
        print(f"({time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f})")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
