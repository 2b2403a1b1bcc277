#!/usr/bin/env python3
"""The life of sluiced with a dataplane that has no data (tests/support/fake_dataplane.c).
usage: test_sluiced.py SLUICED FAKE_DATAPLANE"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

SLUICED, FAKE = sys.argv[1:3]
DEADLINE = 20
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
with open(os.path.join(ROOT, "lib/meta/features.def")) as def_file:
    # the first broker epoch is the offset of the first registration, which follows the features
    FIRST = sum(line.startswith("FEATURE(") for line in def_file)


def wait_for(what, condition):
    end = time.monotonic() + DEADLINE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE} s: {what}")
        time.sleep(0.01)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Life(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="sluiced-")
        self.dir = os.path.join(self.base, "d")
        os.mkdir(self.dir)
        self.out = open(os.path.join(self.base, "out"), "ab")
        self.p = None

    def tearDown(self):
        if self.p is not None and self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        for pid in self.starts():
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    if "fake_dataplane" in f.read():
                        os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass
        self.out.close()
        shutil.rmtree(self.base)

    # --- helpers ---

    def argv(self, *more):
        return [SLUICED, "--dev", "--data", self.dir, "--dataplane", FAKE,
                "--set", "http.bind=127.0.0.1:0", *more]

    def start(self, *more, fake="", ready=True):
        with open(os.path.join(self.dir, "fake"), "w") as f:
            f.write(fake)
        self.p = subprocess.Popen(self.argv(*more), stdout=self.out, stderr=self.out,
                                  stdin=subprocess.DEVNULL)
        if ready:
            wait_for("ready", self.healthy)

    def run_to_end(self, *more, fake=""):
        with open(os.path.join(self.dir, "fake"), "w") as f:
            f.write(fake)
        return subprocess.run(self.argv(*more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=DEADLINE)

    def output(self):
        with open(os.path.join(self.base, "out")) as f:
            return f.read()

    def log(self):
        try:
            with open(os.path.join(self.dir, "fake.log")) as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def starts(self):
        return [int(line.split()[1]) for line in self.log() if line.startswith("start ")]

    def ports(self):
        with open(os.path.join(self.dir, "run", "ports")) as f:
            return {line.split()[0]: line.split()[1:] for line in f}

    def get(self, path, **headers):
        host, _, port = self.ports()["http"][1].rpartition(":")
        c = http.client.HTTPConnection(host, int(port), timeout=DEADLINE)
        c.request(headers.pop("method", "GET"), path, headers=headers)
        r = c.getresponse()
        answer = r.status, r.read().decode()
        c.close()
        return answer

    def admin(self, method, path, body=None):
        c = UnixHTTP(os.path.join(self.dir, "run", "admin.sock"))
        c.request(method, path, body=None if body is None else
                  body if isinstance(body, str) else json.dumps(body))
        r = c.getresponse()
        answer = r.status, json.loads(r.read())
        c.close()
        return answer

    def healthy(self):
        if self.p.poll() is not None:
            raise AssertionError(f"sluiced ended with {self.p.returncode}:\n{self.output()}")
        try:
            return self.get("/health")[0] == 200
        except (OSError, http.client.HTTPException, KeyError):
            return False

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        return self.p.wait(DEADLINE)

    # --- claims ---

    def test_a_start_registers_and_makes_the_listeners_topics(self):
        self.start("--set", "listeners[0].partitions=4", "--set", "listeners[1].partitions=4")
        names = {t["name"]: t["partitions"] for t in self.admin("GET", "/v1/topics")[1]["topics"]}
        self.assertEqual(names, {"syslog": 4, "syslog.dlq": 1, "_sluice.gaps": 1,
                                 "__consumer_offsets": 50})
        self.assertEqual(self.ports()["kafka"], ["tcp", "127.0.0.1:19092"])
        self.assertIn(f"hello_reply 0 epoch {FIRST}", self.log())
        self.assertIn("kcat -b 127.0.0.1:19092", self.output())
        self.assertIn("hugepages", self.output())
        self.assertEqual(self.stop(), 0)
        self.assertEqual(self.log()[-1], "drain")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "run", "ports")))

    def test_a_dataplane_that_is_killed_is_restarted_at_once(self):
        self.start()
        os.kill(self.starts()[0], signal.SIGKILL)
        wait_for("another one", lambda: len(self.starts()) == 2)
        wait_for("healthy again", self.healthy)
        self.assertIn("signal 9", self.output())
        status = self.admin("GET", "/v1/status")[1]
        self.assertEqual(status["dataplane"]["starts"], 2)
        self.assertEqual(status["dataplane"]["pid"], self.starts()[1])
        epochs = [line for line in self.log() if line.startswith("hello_reply")]
        self.assertNotEqual(epochs[0], epochs[1], "every start registers again")

    def test_one_that_serves_and_dies_again_and_again_is_not_kept_waiting(self):
        self.start()
        for i in range(8):
            os.kill(self.starts()[-1], signal.SIGKILL)
            killed = time.monotonic()
            wait_for("another one", lambda: len(self.starts()) == 2 + i)
            wait_for("healthy again", self.healthy)
            self.assertLess(time.monotonic() - killed, 5)

    def test_sluiced_killed_comes_back_and_reattaches(self):
        self.start()
        self.admin("POST", "/v1/topics", {"name": "t"})
        self.p.kill()
        self.p.wait()
        wait_for("the dataplane noticed", lambda: self.log()[-1] == "disconnected")
        self.start()
        self.assertEqual(len(self.starts()), 1)
        replies = [line for line in self.log() if line.startswith("hello_reply")]
        self.assertEqual(replies, [f"hello_reply 0 epoch {FIRST}"] * 2)
        self.assertEqual(self.admin("GET", "/v1/topics/t")[0], 200)
        self.assertEqual(self.admin("POST", "/v1/topics", {"name": "u"})[0], 201)
        self.assertEqual(self.stop(), 0)
        self.assertEqual(self.log()[-1], "drain")

    def test_another_build_is_drained_and_restarted(self):
        self.start(fake="build=9.9.9\n")
        self.assertEqual(len(self.starts()), 2)
        self.assertIn("hello_reply 2 epoch -1", self.log())
        self.assertIn("drain", self.log())
        self.assertIn("build 9.9.9", self.output())

    def test_a_changed_configuration_restarts_the_dataplane(self):
        self.start()
        self.p.kill()
        self.p.wait()
        self.start("--set", "storage.linger=7ms")
        self.assertEqual(len(self.starts()), 2)

    def test_a_create_is_answered_only_after_it_was_applied(self):
        self.start(fake="hold=1\n")
        os.kill(self.starts()[0], signal.SIGUSR1)
        wait_for("the timeout's answer", lambda: "admin_response topic_error 7" in self.log())
        self.assertTrue(any(line.startswith("topic from-kafka partitions 3") for line in self.log()),
                        "it was sent down all the same")
        self.assertIn("producer_ids 0 1000", self.log())
        self.stop()
        self.start()
        os.kill(self.starts()[-1], signal.SIGUSR1)
        wait_for("exists", lambda: "admin_response topic_error 36" in self.log())
        self.assertIn("producer_ids 1000 1000", self.log())

    def test_unclean_partitions_get_a_higher_leader_epoch(self):
        self.start()
        with open(os.path.join(self.dir, "fake"), "w") as f:
            f.write("unclean=1\n")
        os.kill(self.starts()[0], signal.SIGKILL)
        wait_for("second", lambda: len(self.starts()) >= 2)
        wait_for("epoch", lambda: "topic syslog partitions 1 leader_epoch 1" in self.log())

    def test_a_torn_tail_of_the_metadata_log_is_cut_with_a_message(self):
        self.start()
        self.admin("POST", "/v1/topics", {"name": "t"})
        self.stop()
        path = os.path.join(self.dir, "log", "__cluster_metadata-0", "0" * 20 + ".log")
        size = os.path.getsize(path)
        with open(path, "r+b") as f:
            f.seek(size)
            f.write(b"\0\0\0\0torn")
        self.start()
        self.assertIn("torn last append", self.output())
        self.assertEqual(self.admin("GET", "/v1/topics/t")[0], 200)

    def test_a_dataplane_that_cannot_start_ends_sluiced_with_its_words(self):
        p = self.run_to_end(fake="exit=3\nstderr=no such port here\n")
        self.assertEqual(p.returncode, 1)
        self.assertIn("no such port here", p.stdout)
        self.assertIn("exit status 3", p.stdout)

    def test_a_missing_program_is_named(self):
        p = self.run_to_end("--dataplane", "/nonexistent/x")
        self.assertEqual(p.returncode, 1)
        self.assertIn("No such file", p.stdout)

    def test_a_second_sluiced_is_refused_with_the_holder(self):
        self.start()
        p = self.run_to_end()
        self.assertEqual(p.returncode, 1)
        self.assertIn(f"process {self.p.pid}", p.stdout)
        self.assertTrue(self.healthy())

    def test_a_second_signal_ends_by_force(self):
        self.start(fake="no_drain=1\n")
        self.p.send_signal(signal.SIGTERM)
        wait_for("drain asked", lambda: "drain" in self.log())
        self.p.send_signal(signal.SIGTERM)  # timeout(1) signals the child, then its group
        time.sleep(1.2)
        self.assertIsNone(self.p.poll(), "a twin of the first signal")
        self.p.send_signal(signal.SIGTERM)
        self.assertEqual(self.p.wait(DEADLINE), 1)
        self.assertIn("by force", self.output())

    def test_the_tcp_door_only_reads(self):
        self.start()
        for path in ("/v1/topics", "/metrics", "/health"):
            for method in ("POST", "DELETE", "PUT", "PATCH"):
                self.assertEqual(self.get(path, method=method)[0], 405, (method, path))
        self.assertEqual(self.get("/nosuch")[0], 404)
        self.assertEqual(self.get("/metrics", Host="evil.example")[0], 403)
        self.assertEqual(self.get("/metrics", Host="localhost:1")[0], 200)
        self.assertEqual(self.get("/v1/topics")[0], 200)
        self.assertIn("sluice_up 1", self.get("/metrics")[1])
        self.assertIn("Sluice", self.get("/")[1])
        self.assertEqual(os.stat(os.path.join(self.dir, "run", "admin.sock")).st_mode & 0o777, 0o660)

    def test_topics_over_the_admin_socket(self):
        self.start()
        status, t = self.admin("POST", "/v1/topics", {"name": "t", "partitions": 3,
                                                      "configs": {"retention.ms": "1000"}})
        self.assertEqual((status, t["partitions"]), (201, 3))
        t = self.admin("GET", "/v1/topics/t")[1]
        self.assertEqual([p["shard"] for p in t["partitions"]], [0, 1, 0])
        self.assertEqual([p["next"] for p in t["partitions"]], [100, 101, 102])
        self.assertIn({"name": "retention.ms", "value": "1000", "source": "topic"}, t["configs"])
        for body, status, code in [
                ({"name": "t"}, 409, "TOPIC_ALREADY_EXISTS"),
                ({"name": "a b"}, 400, "INVALID_TOPIC_EXCEPTION"),
                ({"name": "x", "partitions": 0}, 400, "INVALID_PARTITIONS"),
                ({"name": "x", "configs": {"retention.sm": "1"}}, 400, "INVALID_CONFIG"),
                ({"name": "x", "configs": {"retention.ms": 1}}, 400, "INVALID_REQUEST"),
                ({"partitions": 1}, 400, "INVALID_REQUEST"), ({"nmae": "x"}, 400, "INVALID_REQUEST"),
                ("{", 400, "INVALID_REQUEST"), ("[]", 400, "INVALID_REQUEST")]:
            got = self.admin("POST", "/v1/topics", body)
            self.assertEqual((got[0], got[1]["error"]), (status, code), body)
            self.assertTrue(got[1]["message"])
        self.assertEqual(self.admin("DELETE", "/v1/topics/t"), (200, {}))
        self.assertEqual(self.admin("DELETE", "/v1/topics/t")[0], 404)
        self.assertEqual(self.admin("DELETE", "/v1/topics/syslog")[1]["error"], "POLICY_VIOLATION")
        self.assertEqual(self.admin("GET", "/v1/topics/t")[0], 404)

    def test_usage_and_configuration_mistakes(self):
        def run(*args):
            p = subprocess.run([SLUICED, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, timeout=DEADLINE)
            return p.returncode, p.stdout
        for args, word in [(["--nonsense"], "unknown option --nonsense"), ([], "say --dev"),
                           (["--dev", "--data"], "missing after --data"),
                           (["--dev", "x"], "unexpected argument x"),
                           (["--dev", "--set", "shards=many"], "shards=many"),
                           (["--dev", "--config", "f"], "exclude each other"),
                           (["--dev", "--set", "nosuch.key=1"], "nosuch.key")]:
            code, out = run(*args)
            self.assertEqual(code, 2, out)
            self.assertIn(word, out)
        path = os.path.join(self.base, "c.yaml")
        with open(path, "w") as f:
            f.write("shards: 2\nlisteners:\n- name: a\n  tpoic: b\n  topic: t\n")
        code, out = run("--check", path)
        self.assertEqual(code, 1)
        self.assertEqual(out, f"{path}:4:3: unknown key 'tpoic' in listeners[0]; did you mean 'topic'?\n")
        with open(path, "w") as f:
            f.write("shards: 2\n")
        self.assertEqual(run("--check", path), (0, f"{path}: ok\n"))
        self.assertIn("listeners[].event_max_bytes", run("--config-help")[1])
        self.assertEqual(run("--version")[0], 0)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
