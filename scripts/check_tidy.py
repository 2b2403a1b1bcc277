#!/usr/bin/env python3
"""Checks that nothing is left lying about: words that put work off (in code and scripts), source files
that no build names, headers that nobody includes, and headers that do not compile alone (with the
flags of build/compile_commands.json). Prints one line per finding; exit 1 if any.

  scripts/check_tidy.py                      what is said above
  scripts/check_tidy.py --clang-tidy [REF]   clang-tidy over the C files changed since REF (main)"""
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
LATER = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def files():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [f for f in out.stdout.splitlines() if os.path.exists(os.path.join(ROOT, f))]


def read(path):
    with open(os.path.join(ROOT, path), errors="replace") as f:
        return f.read()


def put_off(sources):
    for path in sources:
        for n, line in enumerate(read(path).splitlines(), 1):
            if LATER.search(line):
                yield f"{path}:{n}: {line.strip()[:80]}"


def unused(all_files, sources):
    """C files that no meson.build names and no other C file includes; headers nobody includes."""
    builds = "".join(read(f) for f in all_files if os.path.basename(f) == "meson.build")
    named = set(re.findall(r"[\w./-]+", builds))
    names = {os.path.basename(n) for n in named}
    included = {i for f in sources if f.endswith((".c", ".h", ".def", ".in", ".py"))
                for i in INCLUDE.findall(read(f))}
    included |= {os.path.basename(i) for i in included if "/" not in i}
    for path in sources:
        base = os.path.basename(path)
        if path.endswith((".h", ".def")) and path not in included and base not in included:
            yield f"{path}: no file includes it"
        elif path.endswith(".c") and path not in included and base not in names \
                and base[:-2] not in names and re.sub(r"^[a-z]+_", "", base[:-2]) not in names:
            yield f"{path}: no meson.build names it"


def flags():
    """Include paths and macros that any of our files is compiled with."""
    found = []
    for entry in json.load(open(os.path.join(BUILD, "compile_commands.json"))):
        words = shlex.split(entry["command"])
        for i, w in enumerate(words):
            if w.startswith(("-I", "-D", "-isystem", "-m", "-std")):
                found.append(w if w != "-isystem" else w + words[i + 1])
    return list(dict.fromkeys(f for f in found if not f.startswith("-D") or f == "-D_GNU_SOURCE"))


def alone(headers):
    """Each header as a translation unit of its own."""
    common = ["cc", "-fsyntax-only", "-x", "c", "-include", "/dev/null", *flags()]

    def one(path):
        p = subprocess.run([*common, os.path.join(ROOT, path)], cwd=BUILD, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        lines = [line for line in p.stderr.splitlines() if "error:" in line]
        return f"{path}: does not compile alone: {lines[0] if lines else p.stderr[:200]}" \
            if p.returncode != 0 else None
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [r for r in pool.map(one, headers) if r]


def clang_tidy(ref):
    out = subprocess.run(["git", "diff", "--name-only", "--diff-filter=d", ref, "--", "*.c"], cwd=ROOT,
                         stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    if not out:
        print("check_tidy: no C file changed")
        return 0
    return subprocess.run(["clang-tidy", "-p", BUILD, "--quiet", *out], cwd=ROOT).returncode


def main():
    if sys.argv[1:2] == ["--clang-tidy"]:
        return clang_tidy(sys.argv[2] if len(sys.argv) > 2 else "main")
    all_files = files()
    sources = [f for f in all_files if re.search(r"\.(c|h|def|py|msg|in)$|meson\.build$", f)
               or f.startswith("scripts/")]
    bad = list(put_off(sources)) + list(unused(all_files, [f for f in sources]))
    headers = [f for f in sources if f.endswith(".h") and f.split("/")[0] in ("accel", "ctl", "dataplane", "lib")]
    if os.path.exists(os.path.join(BUILD, "compile_commands.json")):
        bad += alone(headers)
    else:
        print("check_tidy: no build/compile_commands.json: whether headers compile alone was not seen")
    for line in bad:
        print(line)
    print(f"check_tidy: {len(sources)} files, {len(headers)} headers, {len(bad)} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
