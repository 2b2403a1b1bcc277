#!/usr/bin/env python3
"""Checks that each reason for which something is lost has a test that provokes exactly n of it: every row
of dataplane/drop.def, and every counter of ports and listeners in dataplane/counters.def that counts a
loss, is in tests/ledger.map, whose tests exist, are run, and look at that reason. Prints one line per
finding; exit 1 if any."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEDGERS = {"PORT": "port", "DGRAM": "listener", "LISTENER": "listener", "EVENT": "event"}
PREFIX = {"port": "PDROP_", "listener": "DDROP_", "event": "EDROP_"}
LOSS = re.compile(r"nic_\w+|\w+_(dropped|drops|refused|lost)")


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def reasons():
    """{ledger.reason: what a C test calls it}"""
    found = {}
    for ledger, name in re.findall(r"^DROP_(\w+)\((\w+),", read("dataplane/drop.def"), re.M):
        found[f"{LEDGERS[ledger]}.{name}"] = PREFIX[LEDGERS[ledger]] + name
    for ledger, name in re.findall(r"^(PORT|LISTENER|EVENT)_STAT\((\w+),", read("dataplane/counters.def"), re.M):
        if LOSS.fullmatch(name):
            found[f"{LEDGERS[ledger]}.{name}"] = name
    return found


def finding(path, test, word):
    """What is wrong with this test of a reason that C calls `word`; None: nothing."""
    if not os.path.exists(os.path.join(ROOT, path)):
        return f"there is no {path}"
    text = read(path)
    if path.endswith(".c"):
        is_run = re.search(rf"^(?!static).*\b{test}\b", text, re.M) is not None
        body = re.search(rf"^static void {test}\(.*?^}}", text, re.M | re.S)
    else:
        word = re.sub(r"^[PDE]DROP_", "", word)
        is_run = test.startswith("test_")
        body = re.search(rf"^def {test}\(.*?(?=^(?:def|class|@)|\Z)", text, re.M | re.S)
    if body is None or not is_run:
        return f"{path} runs no {test}"
    tables = [t for t in re.findall(r"^([A-Z_]{3,}) = {.*?^}", text, re.M | re.S) if t in body.group()]
    looked = body.group() + "".join(re.search(rf"^{t} = {{.*?^}}", text, re.M | re.S).group() for t in tables)
    return None if re.search(rf"\b{word}\b", looked) else f"{test} does not look at {word}"


def main():
    bad, rows, want = [], {}, reasons()
    for no, line in enumerate(read("tests/ledger.map").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        reason, path, test = line.split()
        if reason not in want:
            bad.append(f"tests/ledger.map:{no}: nothing is lost by the name of {reason}")
            continue
        rows[reason] = no
        why = finding(path, test, want[reason])
        if why:
            bad.append(f"tests/ledger.map:{no}: {reason}: {why}")
    bad += [f"tests/ledger.map: {reason} has no test" for reason in want if reason not in rows]
    for line in bad:
        print(line)
    print(f"check_ledger: {len(want)} reasons, {len(bad)} findings")
    return 1 if bad or not want else 0


if __name__ == "__main__":
    sys.exit(main())
