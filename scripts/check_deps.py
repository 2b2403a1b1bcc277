#!/usr/bin/env python3
"""Checks the include direction of scripts/deps.map, that every header compiles alone is left to
the build; here: who includes whom, headers outside the map, and foreign libraries staying behind
the few files that may know them. Prints one line per violation; exit 1 if any."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLOW = {"dataplane/flow.h", "dataplane/counters.h", "dataplane/counters.def", "dataplane/drop.def"}
# foreign header prefix -> files or folders (regular expressions) that may include it
FOREIGN = {
    r"rte_": r"dataplane/(main|eal)\.[ch]|dataplane/shard/lcore\.[ch]|dataplane/net/|accel/offload_compressdev",
    r"hwloc|numa": r"dataplane/topo/topo_(scan|mem)\.c",
    r"liburing": r"dataplane/io/uring\.c",
    r"isa-l|zstd|lz4|snappy": r"accel/",
    r"curl/|librdkafka/": r"ctl/cli/|bench/",
    r"microhttpd|yaml|cyaml": r"ctl/",
    r"jansson": r"ctl/|bench/",
}


def load_map():
    rows = []
    for line in open(os.path.join(ROOT, "scripts/deps.map")):
        line = line.split("#")[0].strip()
        if line:
            name, _, deps = line.partition(":")
            rows.append((name.strip(), deps.split()))
    return rows


def folder_of(path, names):
    if path in FLOW:
        return "flow"
    best = None
    for n in names:
        if n != "flow" and path.startswith(n + "/") and (best is None or len(n) > len(best)):
            best = n
    return best


def main():
    rows = load_map()
    names = [n for n, _ in rows]
    allowed = {n: set(d) for n, d in rows}
    bad = []
    seen = set()
    for n, deps in rows:
        for d in deps:
            if d != "*" and d not in seen:
                bad.append(f"scripts/deps.map: {n} names {d}, which is not above it")
        seen.add(n)
    for top in ("lib", "accel", "dataplane", "ctl"):
        for base, _, files in os.walk(os.path.join(ROOT, top)):
            for f in sorted(files):
                if not f.endswith((".c", ".h", ".def")):
                    continue
                path = os.path.relpath(os.path.join(base, f), ROOT)
                me = folder_of(path, names)
                if me is None:
                    bad.append(f"{path}: its folder has no row in scripts/deps.map")
                    continue
                for no, line in enumerate(open(os.path.join(ROOT, path), errors="replace"), 1):
                    m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
                    if not m:
                        continue
                    inc = m.group(2)
                    if m.group(1) == "<":
                        for prefix, where in FOREIGN.items():
                            if re.match(prefix, inc) and not re.match(where, path):
                                bad.append(f"{path}:{no}: may not know <{inc}>")
                        continue
                    to = folder_of(inc, names)
                    if to is None or to == me or "*" in allowed[me]:
                        continue
                    if to not in allowed[me]:
                        bad.append(f"{path}:{no}: {me} may not include {inc} ({to})")
    for b in bad:
        print(b)
    print(f"check_deps: {len(bad)} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
