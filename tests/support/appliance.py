"""A running Sluice for tests: its own data directory, every listener on port 0, ports read from
DIR/run/ports, ended by pid. Conditions are waited for with deadlines; nothing sleeps for luck.

    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "x", input=b"hello\\n")
"""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CRASH = re.compile(r"ended by signal (?!9 |15 )|ended with exit status [1-9]|ERROR: \w+Sanitizer|WARNING: ThreadSanitizer"
                   r"|runtime error:|assertion failed")
DEADLINE = 60.0  # seconds; generous: machines are shared, and sanitizers are slow


def prefix():
    return os.environ.get("SLUICE_PREFIX", os.path.join(ROOT, "build", "install"))


def program(name):
    where = "libexec/sluice" if name in ("sluice-dataplane", "sluice-log") else "bin"
    return os.path.join(prefix(), where, name)


def wait_for(what, condition, deadline=DEADLINE, every=0.02):
    """Calls condition until it is truthy and returns that; fails with `what` at the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:.0f} s: {what}")
        time.sleep(every)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Appliance:
    """sets: configuration overrides as `--set key=value`. user: run as this uid instead."""

    def __init__(self, base, sets=(), config=None, user=None, name="data", start=True, env=None,
                 netns=None, wrapper=()):
        self.base = str(base)
        self.dir = os.path.join(self.base, name)
        self.sets = list(sets)
        self.config = config
        self.user = user
        self.env = env or {}
        self.wrapper = list(wrapper)
        if netns:
            self.wrapper = ["ip", "netns", "exec", netns] + self.wrapper
        self.process = None
        self.starts = 0
        self.log_path = os.path.join(self.base, f"{name}.log")
        if user is not None:
            os.chmod(self.base, 0o777)
            parent = self.base
            while len(parent) > 1:  # pytest's folders are 0700
                parent = os.path.dirname(parent)
                with contextlib.suppress(PermissionError):
                    os.chmod(parent, os.stat(parent).st_mode | 0o011)
        if start:
            self.start()

    # --- life ---

    def argv(self):
        args = [program("sluiced")]
        if self.config:
            path = os.path.join(self.base, "sluice.yaml")
            with open(path, "w") as f:
                f.write(self.config)
            args += ["--config", path, "--data", self.dir]
        else:
            args += ["--dev", "--data", self.dir,
                     "--set", "kafka.listeners[0].bind=127.0.0.1:0",
                     "--set", "listeners[0].bind=127.0.0.1:0",
                     "--set", "listeners[1].bind=127.0.0.1:0",
                     "--set", "http.bind=127.0.0.1:0"]
        for s in self.sets:
            args += ["--set", s]
        return args

    def start(self, wait=True):
        self.starts += 1
        self.log = open(self.log_path, "ab")
        self.log_from = self.log.tell()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.dir, "run", "ports"))
        self.process = subprocess.Popen(self.wrapper + self.argv(), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, start_new_session=True,
                                        user=self.user, group=self.user,
                                        extra_groups=[] if self.user is not None else None,
                                        env=dict(os.environ, **self.env))
        if wait:
            self.wait_ready()
        return self

    def output(self, since_start=True):
        with open(self.log_path, "rb") as f:
            f.seek(self.log_from if since_start else 0)
            return f.read().decode(errors="replace")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait_ready(self, deadline=DEADLINE):
        def ready():
            if not self.alive():
                raise AssertionError(f"sluiced ended with {self.process.returncode}:\n{self.output()}")
            with contextlib.suppress(OSError, ConnectionError, http.client.HTTPException, KeyError):
                return self.get("/health")[0] == 200
            return False
        try:
            wait_for("the appliance answers /health with 200", ready, deadline)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.output()[-6000:]}") from None

    def dataplane_pid(self):
        try:
            with open(os.path.join(self.dir, "run", "lock")) as f:
                pid = int(re.search(r"\d+", f.read()).group())
            os.kill(pid, 0)
            return pid
        except (OSError, AttributeError):
            return None

    def stop(self, sig=signal.SIGTERM, deadline=DEADLINE):
        """Ends sluiced (and with it, on SIGTERM, the dataplane); its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"sluiced did not stop within {deadline} s:\n{self.output()[-4000:]}")
        self.process = None
        self.log.close()
        return code

    def kill_all(self):
        """SIGKILL for both processes, like a power cut for memory."""
        pid = self.dataplane_pid()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(DEADLINE)
            self.process = None
            self.log.close()
        wait_for("the dataplane is gone", lambda: self.dataplane_pid() is None)

    def kill_dataplane(self):
        """SIGKILL for the dataplane alone; returns when its successor serves."""
        pid = self.dataplane_pid()
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_for("another dataplane runs", lambda: self.dataplane_pid() not in (None, pid))
        self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        if kind is not None:
            print(self.output()[-8000:])
        failure = None
        if kind is None:
            try:
                # a test may have killed sluiced itself
                if self.stop() not in (0, None, -signal.SIGKILL):
                    failure = "sluiced did not end with 0"
            except AssertionError as e:
                failure = str(e)
        if self.process is not None or self.dataplane_pid():
            self.kill_all()
        if kind is None:
            found = self.crashes()
            assert not found, "\n".join(found[:20])
            assert failure is None, f"{failure}\n{self.output()[-4000:]}"

    def crashes(self):
        """Lines, of any start, that say that a program hurt itself: a signal that no test sends, or a
        sanitizer's report. A dataplane that dies is restarted, so nothing else may notice."""
        lines = self.output(since_start=False).splitlines()
        with contextlib.suppress(OSError):
            with open(os.path.join(self.dir, "run", "dataplane.err"), errors="replace") as f:
                lines += f.read().splitlines()
        return [line for line in lines if CRASH.search(line)]

    # --- doors ---

    def ports(self):
        """{listener name: (transport, host, port)} of DIR/run/ports."""
        found = {}
        with open(os.path.join(self.dir, "run", "ports")) as f:
            for line in f:
                name, transport, addr = line.split()[:3]
                host, _, port = addr.rpartition(":")
                found[name] = (transport, host.strip("[]"), int(port))
        return found

    def port(self, name):
        return self.ports()[name][2]

    @property
    def kafka(self):
        for name, (_, host, port) in self.ports().items():
            if name.lower() in ("kafka", "plaintext"):
                return f"{host}:{port}"
        raise KeyError("kafka")

    def get(self, path, headers=None):
        _, host, port = self.ports()["http"]
        c = http.client.HTTPConnection(host, port, timeout=DEADLINE)
        c.request("GET", path, headers=headers or {})
        r = c.getresponse()
        body = r.read().decode()
        c.close()
        return r.status, body

    def metrics(self):
        """{'name{labels}': value} of /metrics."""
        found = {}
        for line in self.get("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.rpartition(" ")
                found[key] = float(value)
        return found

    def metrics_sum(self, name):
        """Sum of a metric over its labels."""
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name)

    def admin(self, method, path, body=None):
        c = UnixHTTP(os.path.join(self.dir, "run", "admin.sock"))
        c.request(method, path, body=json.dumps(body) if body is not None else None)
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, json.loads(text) if text else None

    def ctl(self, *args, check=True, **kw):
        p = subprocess.run([program("sluicectl"), "--data", self.dir, *args], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE, **kw)
        if check and p.returncode != 0:
            raise AssertionError(f"sluicectl {args}: exit {p.returncode}\n{p.stdout}{p.stderr}")
        return p

    def kcat(self, *args, input=None, check=True, timeout=DEADLINE, binary=False):
        p = subprocess.run(["kcat", "-b", self.kafka, *args], input=input, timeout=timeout,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           stdin=subprocess.DEVNULL if input is None else None)
        if check and p.returncode != 0:
            raise AssertionError(f"kcat {args}: exit {p.returncode}: {p.stderr.decode()[-2000:]}")
        return p.stdout if binary else p.stdout.decode(errors="replace")

    def end_offset(self, topic, partition=0):
        """The offset that the next record of a partition gets."""
        out = self.kcat("-Q", "-t", f"{topic}:{partition}:-1")
        return int(re.search(r"offset (-?\d+)", out).group(1))

    def consume(self, topic, *args):
        """All records of a topic from the beginning to its end, one line each. For a topic that
        nobody writes to meanwhile: its end is where a fetch finds nothing."""
        return self.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", *args).splitlines()


def need(tool):
    """Skips the calling test, by name, when a tool is missing."""
    import pytest
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
