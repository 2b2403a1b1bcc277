"""A real Apache Kafka, one node in combined mode, on a log directory that somebody else may have made."""
import contextlib
import glob
import os
import signal
import subprocess

import kafka_tools
from appliance import wait_for
from ports import free_port

LOGGER = "/usr/share/java/slf4j-simple.jar"  # of Debian's Maven: why a Kafka does not start
JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def classpath():
    jars = glob.glob(os.path.join(kafka_tools.jars(), "*.jar"))
    if os.path.exists(LOGGER):
        jars = [LOGGER] + [j for j in jars if "slf4j-nop" not in j]
    return ":".join(jars)


class KafkaBroker:
    """dirs: the log.dirs. voters: the quorum is written into server.properties, as docs/kafka-both-ways.md
    says; otherwise it stands in the directory (kafka-storage format --standalone)."""

    def __init__(self, base, dirs, port, node=1, voters=True, **properties):
        self.base, self.dirs, self.port = str(base), dirs, port
        self.process = None
        self.starts = 0
        controller = free_port()
        quorum = {"controller.quorum.voters": f"{node}@127.0.0.1:{controller}"} if voters else \
            {"controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}"}
        self.conf = os.path.join(self.base, "server.properties")
        with open(self.conf, "w") as f:
            for key, value in {
                    "process.roles": "broker,controller", "node.id": node, **quorum,
                    "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                    "controller.listener.names": "CONTROLLER",
                    "log.dirs": ",".join(dirs),
                    "offsets.topic.replication.factor": 1,
                    "transaction.state.log.replication.factor": 1,
                    "transaction.state.log.min.isr": 1,
                    "group.initial.rebalance.delay.ms": 0, **properties}.items():
                f.write(f"{key}={value}\n")

    def format(self, *more):
        p = subprocess.run(JAVA + ["-cp", classpath(), "kafka.tools.StorageTool", "format", "-c", self.conf,
                                   "-t", "4L6g3nShT-eMCtK--X86sw", *more], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert p.returncode == 0, p.stdout[-3000:]

    def output(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def start(self):
        self.starts += 1
        self.log_path = os.path.join(self.base, f"kafka-{self.starts}.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                JAVA + ["-cp", classpath(), "kafka.Kafka", self.conf], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)

        def serves():
            assert self.process.poll() is None, \
                f"Kafka ended with {self.process.returncode}:\n{self.output()[-6000:]}"
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                p = subprocess.run(["kcat", "-b", f"127.0.0.1:{self.port}", "-L", "-m", "5"],
                                   stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
                return p.returncode == 0 and b"1 brokers" in p.stdout
            return False
        try:
            wait_for("Kafka serves", serves, 90, every=0.3)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.output()[-6000:]}") from None
        return self

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Kafka does not stop:\n{self.output()[-6000:]}") from None
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
