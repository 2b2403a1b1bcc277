#!/usr/bin/env python3
"""Ingest beside its bound: `sluice-bench ingest` and the bare loop that does the same work with nothing around it
(bench/micro/bench_ingest.c), by turns in one run, and the appliance's share of it. The machine may be shared, so
only pairs count; the median of them is given.

    bench/ingest.py [--pairs N] [--seconds N] [--hugepages] [--dir FOLDER] [--build BUILD]

  parse    frames to parsed events: the bare loop alone
  batch    + headers, records, batches, CRC-32C: cycles per event of the appliance's stages port_rx and accum
           against all of the bare loop that stops there
  append   + direct writes and flushes: durable events per second, and busy cycles per event
  gzip     the same, compressed"""
import argparse
import json
import os
import statistics
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(args, folder):
    p = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300,
                       env=dict(os.environ, TMPDIR=folder), check=False)
    if p.returncode != 0:
        raise SystemExit(f"{' '.join(args)}: exit {p.returncode}\n{p.stdout}")
    return p.stdout


def bare(o, *args):
    out = run([os.path.join(o.build, "bench/micro/bench_ingest"), "--seconds", str(o.seconds), "--dir", o.dir,
               *(["--hugepages"] if o.hugepages else []), *args], o.dir)
    return {k: float(v) for k, v in (line.split() for line in out.splitlines())}


def product(o, *args):
    out = json.loads(run([os.path.join(o.build, "install/bin/sluice-bench"), "ingest", "--seconds", str(o.seconds),
                          "--json", *(["--hugepages"] if o.hugepages else []), *args], o.dir))
    return out["events_per_second"], out["busy_cycles_per_event"], out["cycles_per_event"]


def pair(o):
    parse, batch = bare(o, "--stage", "parse"), bare(o, "--stage", "batch")
    rate, busy, stage = product(o)
    append = bare(o)
    zip_rate, zip_busy, _ = product(o, "--compression", "gzip")
    zipped = bare(o, "--gzip")
    return {"parse": (parse["events_per_second"], parse["cycles"]),
            "batch": (stage["port_rx"] + stage["accum"], batch["cycles"]),
            "append": (rate, append["events_per_second"]), "append_cycles": (busy, append["cycles"]),
            "gzip": (zip_rate, zipped["events_per_second"]), "gzip_cycles": (zip_busy, zipped["cycles"])}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--pairs", type=int, default=3)
    ap.add_argument("--seconds", type=int, default=2)
    ap.add_argument("--hugepages", action="store_true")
    ap.add_argument("--dir", default="/var/tmp", help="where the data goes")
    ap.add_argument("--build", default=os.path.join(ROOT, "build"))
    o = ap.parse_args()
    rows = []
    for i in range(o.pairs):
        r = pair(o)
        rows.append(r)
        print(f"pair {i + 1} (load {os.getloadavg()[0]:.1f}): batch {r['batch'][0]:.0f} cycles, bare "
              f"{r['batch'][1]:.0f}; append {r['append'][0] / 1e6:.2f} M/s, bare {r['append'][1] / 1e6:.2f}; "
              f"gzip {r['gzip'][0] / 1e6:.2f} M/s, bare {r['gzip'][1] / 1e6:.2f}", flush=True)

    def median(name, k):
        return statistics.median(r[name][k] for r in rows)

    def ratio(name, over):
        return statistics.median(r[name][over] / r[name][1 - over] for r in rows)
    print(f"parse      bare loop {median('parse', 0) / 1e6:.1f} M events/s, {median('parse', 1):.0f} cycles each")
    print(f"batch      {median('batch', 0):.0f} cycles per event, bare {median('batch', 1):.0f}: "
          f"{ratio('batch', 1):.2f} of the bare loop's rate")
    for name in ("append", "gzip"):
        print(f"{name:10} {median(name, 0) / 1e6:.2f} M durable events/s, bare {median(name, 1) / 1e6:.2f}: "
              f"{ratio(name, 0):.2f}; {median(name + '_cycles', 0):.0f} busy cycles per event, bare "
              f"{median(name + '_cycles', 1):.0f} with waits")


if __name__ == "__main__":
    main()
