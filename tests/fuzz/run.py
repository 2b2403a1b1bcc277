#!/usr/bin/env python3
"""Runs every libFuzzer target of a build folder for a bounded time: run.py BUILD SECONDS.
The input that broke a target is kept beside it and named; exit 1 if any did."""
import glob
import os
import subprocess
import sys
import tempfile

build, seconds = sys.argv[1], int(sys.argv[2])
targets = sorted(glob.glob(os.path.join(build, "tests", "fuzz", "*.libfuzzer")))
if not targets:
    sys.exit(f"fuzz: no targets in {build}: configure it with clang and -Dfuzz=true")
bad = []
for t in targets:
    name = os.path.basename(t).removesuffix(".libfuzzer")
    with tempfile.TemporaryDirectory() as corpus:
        subprocess.run([t.removesuffix(".libfuzzer"), "-w", corpus], stdin=subprocess.DEVNULL,
                       check=True)
        p = subprocess.run([t, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
                            "-print_final_stats=1", "-verbosity=0",
                            f"-artifact_prefix={os.path.join(build, name)}-", corpus],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace")
    runs = [line.split()[-1] for line in p.stdout.splitlines() if "number_of_executed_units" in line]
    print(f"fuzz: {name}: {runs[0] if runs else '?'} executions, exit {p.returncode}", flush=True)
    if p.returncode != 0:
        bad.append(name)
        print(p.stdout[-4000:])
sys.exit(f"fuzz: broken: {' '.join(bad)}" if bad else 0)
