#!/usr/bin/env python3
"""Builds what the tests need, runs the suites one after another, prints a table of times against
their budgets and closes with "N passed, N failed, N skipped". Called by scripts/test.

Suites: static (include direction, hot path, tidiness, clang), unit (cmocka, suite fast), asan (unit, 200 crash seeds, kill -9
and a system pass under ASan+UBSan), tsan (what has threads, and a life of two shards, under the thread
sanitizer), net (real packets through namespaces), crash (crash and simulation), fuzz, system (the
installed programs from outside), clients (real Kafka clients), bench (smoke). A test that cannot run
says so by name and counts as skipped."""
import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Seconds on two cores. Together with setup they are CI's 42 minutes; an overrun is a defect.
BUDGET = {"setup": 360, "build": 480, "static": 0, "unit": 120, "net": 240, "crash": 360,
          "fuzz": 180, "clients": 720, "bench": 60}
SUITES = ["static", "unit", "asan", "tsan", "net", "crash", "fuzz", "system", "clients", "bench"]
# What takes longer than this is stuck. It is ended, and the run goes on to its summary.
SUITE_LIMIT, RUN_LIMIT, TEST_LIMIT = 1500, 4800, 400
LONG = 18  # times as long with --long
CHARGED_TO = {"static": "build", "asan": "crash", "tsan": "crash", "system": "clients"}  # whose budget a suite's time counts against

# What Kafka itself says, where it is at hand beside the checkout; a variable that is set names another place.
# What is not there is not compared, and the run's last lines say so.
KAFKA_FACTS = os.path.join(os.path.dirname(ROOT), "shared", "kafka")
COMPARED = {"SLUICE_KAFKA_SCHEMAS": ("schemas", "unit", "our message definitions with Kafka's schemas"),
            "SLUICE_KAFKA_API_TABLE": ("api-table.md", "system", "the versions we advertise with the table of APIs")}


def find_kafka_facts():
    """Sets the variables; yields (suite, text) of what cannot be compared."""
    for variable, (name, suite, what) in COMPARED.items():
        path = os.environ.setdefault(variable, os.path.join(KAFKA_FACTS, name))
        if not os.path.exists(path):
            del os.environ[variable]
            yield suite, f"{what}: there is no {path} (variable {variable})"


def end_orphans():
    """Ends what a suite left running: every process that has our mark in its environment."""
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{entry.name}/environ", "rb") as f:
                if f"SLUICE_TEST_RUN={os.getpid()}".encode() in f.read().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


def matrix_summary(seen):
    """The lines that say which cells of the clients' matrix this run has proven (all: docs/clients.md)."""
    yield "\nclient                         proven  failed  not proven"
    for row in seen["rows"]:
        cells = {k: v for k, v in row["cells"].items() if not v.startswith("n/a")}
        failed = [k for k, v in cells.items() if v.startswith("FAILED")]
        open_ = [k for k, v in cells.items() if v.startswith("not proven")]
        line = f"{row['client']:<30} {len(cells) - len(failed) - len(open_):6d} {len(failed):7d} {len(open_):11d}"
        if failed:
            line += "   FAILED: " + ", ".join(failed)
        if open_:
            line += "   not proven: " + (", ".join(open_) if len(open_) < len(cells) else
                                          cells[open_[0]].removeprefix("not proven: "))
        yield line


class Run:
    def __init__(self, args):
        self.args = args
        self.started = time.time() - float(args.setup_seconds)
        self.passed = self.failed = self.skipped = 0
        self.failures, self.skips = [], []
        self.times = {"setup": float(args.setup_seconds)}

    def count(self, name, result, why=""):
        if result == "pass":
            self.passed += 1
        elif result == "skip":
            self.skipped += 1
            self.skips.append(f"{name}: {why}")
        else:
            self.failed += 1
            self.failures.append(name)

    def bounded(self, name, argv, capture=True, env=None):
        """(exit code, output) of a command, which is ended when it takes as long as nothing should."""
        times = LONG if self.args.long else 1
        limit = max(10, min(SUITE_LIMIT * times, self.started + RUN_LIMIT * times - time.time()))
        p = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, env=env,
                             stdout=subprocess.PIPE if capture else None,
                             stderr=subprocess.STDOUT if capture else None, text=True,
                             errors="replace", start_new_session=True)
        try:
            out = p.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
            end_orphans()
            out = p.communicate()[0]
            print(f"{name}: ended after {limit:.0f} s: {' '.join(argv)}", flush=True)
            self.count(f"{name}: not done within {limit:.0f} s", "fail")
        return p.returncode, out or ""

    def command(self, name, argv):
        """One command that is one test: its exit code decides, its output is shown on failure."""
        code, out = self.bounded(name, argv)
        if code != 0:
            print(out[-8000:])
            print(f"FAILED {name}: exit {code}: {' '.join(argv)}")
        self.count(name, "pass" if code == 0 else "fail")
        return code == 0

    def build(self, folder, options):
        """Configure and build; a failed build fails the run at once. Bounded by the compiler alone."""
        started = time.time()
        ok = subprocess.run(["scripts/build", folder] + options, cwd=ROOT,
                            stdin=subprocess.DEVNULL).returncode == 0
        self.times["build"] = self.times.get("build", 0) + time.time() - started
        if not ok:
            self.count(f"build of {folder}", "fail")
        return ok

    def meson(self, folder, suite, label, env=None):
        log = os.path.join(ROOT, folder, "meson-logs", f"testlog-{label}.json")
        if os.path.exists(log):
            os.unlink(log)
        full = dict(os.environ)
        full.update(env or {})
        if self.args.long:
            full["SLUICE_TEST_LONG"] = "1"
        code, out = self.bounded(label, ["meson", "test", "-C", folder, "--no-rebuild", "--suite", suite,
                                         "--print-errorlogs", "--logbase", f"testlog-{label}",
                                         "-t", "20" if self.args.long else "1"], env=full)
        if not os.path.exists(log):
            if "No tests defined" in out or "No suitable tests" in out:
                return
            print(out[-4000:])
            self.count(f"{label}: meson test", "fail")
            return
        bad = False
        for line in open(log):
            t = json.loads(line)
            if t["result"] in ("OK", "EXPECTEDFAIL"):
                self.count(t["name"], "pass")
            elif t["result"] == "SKIP":
                self.count(t["name"], "skip", (t.get("stdout") or "").strip()[-200:])
            else:
                bad = True
                self.count(f"{label}: {t['name']} ({t['result']})", "fail")
        if bad or code != 0:
            print(out[-12000:])

    def pytest(self, label, paths, env=None):
        xml = os.path.join(ROOT, "build", f"pytest-{label}.xml")
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **(env or {}))
        if self.args.all:
            env["SLUICE_TEST_ALL"] = "1"
        if self.args.long:
            env["SLUICE_TEST_LONG"] = "1"
        argv = ["/usr/bin/python3", "-m", "pytest", "-q", "-x" if self.args.fail_fast else "-q",
                "-p", "no:cacheprovider", f"--junitxml={xml}", *paths]
        limit = TEST_LIMIT * (LONG if self.args.long else 1)  # what hangs shows every thread's stack, then fails
        argv += ["--timeout", str(limit), "-o", f"faulthandler_timeout={limit - 10}"]
        code, _ = self.bounded(label, argv, capture=False, env=env)
        if not os.path.exists(xml):
            self.count(f"{label}: pytest", "fail")
            return
        for case in ET.parse(xml).getroot().iter("testcase"):
            name = f"{label}: {case.get('classname')}.{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                self.count(name, "fail")
            elif case.find("skipped") is not None:
                self.count(name, "skip", case.find("skipped").get("message", ""))
            else:
                self.count(name, "pass")
        if code not in (0, 1, 5):
            self.count(f"{label}: pytest exit {code}", "fail")
        os.unlink(xml)

    # --- suites ---

    def static(self):
        self.command("include direction (scripts/check_deps.py)", ["python3", "scripts/check_deps.py"])
        self.command("nothing slow on the hot path (scripts/check_hot.py)",
                     ["python3", "scripts/check_hot.py"])
        self.command("nothing left lying about (scripts/check_tidy.py)",
                     ["python3", "scripts/check_tidy.py"])
        self.command("every loss has a test that counts it (scripts/check_ledger.py)",
                     ["python3", "scripts/check_ledger.py"])
        self.command("generated documents are current", ["python3", "scripts/gen_docs.py", "--check"])
        started = time.time()
        ok = self.command("clang compiles everything without warnings", ["sh", "-c",
                          "[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz -Dwerror=true "
                          "-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false >/dev/null; ninja -C build-fuzz"])
        return ok and time.time() - started

    def unit(self):
        self.meson("build", "fast", "unit")

    def asan(self):
        if self.build("build-asan", ["-Db_sanitize=address,undefined", "-Db_lundef=false",
                                     "-Ddebug_asserts=true", "-Dbuildtype=debugoptimized"]):
            env = {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1", "UBSAN_OPTIONS":
                   "halt_on_error=1:print_stacktrace=1"}
            self.meson("build-asan", "fast", "unit-asan", env)
            env["SLUICE_PREFIX"] = os.path.join(ROOT, "build-asan", "install")
            self.pytest("system-asan", ["tests/system/test_first_steps.py", "tests/crash/test_kill.py"], env=env)

    def tsan(self):
        if self.build("build-tsan", ["-Db_sanitize=thread", "-Db_lundef=false",
                                     "-Ddebug_asserts=true", "-Dbuildtype=debugoptimized"]):
            self.meson("build-tsan", "threads", "unit-tsan")
            self.pytest("system-tsan", ["tests/tsan"],
                        env={"SLUICE_PREFIX": os.path.join(ROOT, "build-tsan", "install")})

    def net(self):
        self.pytest("net", ["tests/net"])

    def crash(self):
        self.meson("build", "crash", "crash")
        self.meson("build", "sim", "sim")
        self.pytest("crash", ["tests/crash"])

    def fuzz(self):
        self.meson("build", "fuzz", "fuzz")
        seconds = 600 if self.args.long else 6
        self.command("coverage-guided fuzzing of every parser",
                     ["python3", "tests/fuzz/run.py", "build-fuzz", str(seconds)])

    def system(self):
        self.pytest("system", ["tests/system"])

    def clients(self):
        seen, figures = (os.path.join(ROOT, "build", name) for name in ("clients.json", "figures.txt"))
        for path in (seen, figures):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.pytest("clients", ["tests/compat"])
        with contextlib.suppress(FileNotFoundError), open(seen, encoding="utf-8") as f:
            print("\n".join(matrix_summary(json.load(f))), flush=True)
        with contextlib.suppress(FileNotFoundError), open(figures, encoding="utf-8") as f:
            print("\nfigures:\n" + f.read(), flush=True)

    def bench(self):
        self.pytest("bench", ["tests/bench"])


def main():
    ap = argparse.ArgumentParser(prog="scripts/test")
    ap.add_argument("--setup-seconds", default="0", help=argparse.SUPPRESS)
    ap.add_argument("--all", action="store_true")
    ap.add_argument("--long", action="store_true")
    ap.add_argument("--fail-fast", action="store_true")
    ap.add_argument("suite", nargs="*", choices=SUITES + [[]])
    run = Run(ap.parse_args())
    os.environ["SLUICE_TEST_RUN"] = str(os.getpid())  # see end_orphans
    wanted = [s for s in SUITES if not run.args.suite or s in run.args.suite]
    missing = [text for suite, text in find_kafka_facts() if suite in wanted]
    if run.build("build", ["-Dwerror=true"]):
        for suite in wanted:
            print(f"--- {suite}", flush=True)
            before = run.times.get("build", 0)
            started = time.time()
            getattr(run, suite)()
            spent = time.time() - started - (run.times.get("build", 0) - before)
            to = CHARGED_TO.get(suite, suite)
            run.times[to] = run.times.get(to, 0) + spent

    print("\nphase        seconds   budget")
    total = 0.0
    for name in ["setup", "build", "unit", "net", "crash", "fuzz", "clients", "bench"]:
        if name in run.times:
            over = "   OVER BUDGET" if run.times[name] > BUDGET[name] and not run.args.long else ""
            print(f"{name:<10} {run.times[name]:9.0f} {BUDGET[name]:8d}{over}")
            total += run.times[name]
    print(f"{'total':<10} {total:9.0f} {sum(BUDGET.values()):8d}\n")
    for s in run.skips:
        print(f"SKIPPED {s}")
    for f in run.failures:
        print(f"FAILED  {f}")
    for text in missing:
        print(f"NOT COMPARED  {text}")
    print(f"{run.passed} passed, {run.failed} failed, {run.skipped} skipped")
    return 1 if run.failed or not run.passed else 0


if __name__ == "__main__":
    sys.exit(main())
