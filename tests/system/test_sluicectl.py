"""sluicectl by itself: against a small server of ours on DIR/run/admin.sock, and without any."""
import http.server
import json
import os
import socketserver
import subprocess
import threading

import pytest
from appliance import Appliance, program

NOBODY = 65534

STATUS = {
    "version": "0.1.0", "cluster_id": "c", "node_id": 7, "data_dir": "/d",
    "sluiced": {"pid": 1, "uptime_s": 12},
    "dataplane": {"state": "running", "pid": 2, "uptime_s": 200000, "starts": 3,
                  "reasons": ["it restarted"]},
    "shards": [{"shard": 0, "cpu": 2, "busy_percent": 3.14, "turn_max_us": 1800, "partitions": 4,
                "connections": 2, "unflushed_bytes": 4096, "overflow_ms": 2500}],
    "acceleration": {"crc32c": "isa-l (sse4.2, pclmulqdq)"},
    "ports": [{"name": "lan", "device": "net_null0"}],
    "listeners": [{"name": "syslog-udp", "transport": "udp", "address": "127.0.0.1:5514",
                   "topic": "syslog"}],
    "topics": 1, "partitions": 4,
    "ledgers": {
        "ports": [{"name": "lan", "seen": 12, "to_udp": 9, "to_host": 0, "handled": 1,
                   "in_reassembly": 0, "dropped": {"vlan": 2}, "nic": {"imissed": 5}}],
        "listeners": [{"name": "syslog-udp", "received": 9, "parsed": 9, "in_reassembly": 0,
                       "dropped": {}}],
        "events": [{"name": "syslog-udp", "produced": 1234567, "durable": 1234560,
                    "dead_lettered_durable": 1, "in_flight": 2, "dropped": {"no_buffer": 4}}]}}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def fake(tmp_path):
    """A data directory with a server behind its admin.sock; answers[(method, path)] = (code, body)."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def address_string(self):
            return "unix"

        def answer(self):
            n = int(self.headers.get("Content-Length", 0))
            asked.append((self.command, self.path, json.loads(self.rfile.read(n)) if n else None))
            code, body = answers.get((self.command, self.path),
                                     (404, {"error": "X", "message": "nothing here"}))
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *args):
            pass

    # Deeper than the 108 bytes of a socket's name.
    d = tmp_path / ("deep-" * 20) / "data"
    os.makedirs(d / "run")
    here = os.getcwd()
    os.chdir(d / "run")
    server = Server("admin.sock", Handler)
    os.chdir(here)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield str(d), answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


def ctl(*args, **kw):
    env = dict(os.environ)
    env.pop("SLUICE_DATA", None)
    env.update(kw.pop("env", {}))
    return subprocess.run([program("sluicectl"), *map(str, args)], text=True, timeout=30, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def test_create_sends_what_was_given_and_nothing_else(fake):
    d, answers, asked = fake
    answers["POST", "/v1/topics"] = 201, {"name": "t", "id": "i", "partitions": 3}
    p = ctl("--data", d, "topic", "create", "t", "--partitions", "3", "--config", "a=1",
            "--config", "b=x=y")
    assert (p.returncode, p.stderr) == (0, "")
    assert asked == [("POST", "/v1/topics",
                      {"name": "t", "partitions": 3, "configs": {"a": "1", "b": "x=y"}})]
    assert "t" in p.stdout and "3" in p.stdout
    p = ctl("topic", "create", "t", "--data", d, "--json")
    assert json.loads(p.stdout)["id"] == "i"
    assert asked[1][2] == {"name": "t", "configs": {}}


def test_the_servers_reason_is_passed_on_to_stderr(fake):
    d, answers, _ = fake
    answers["POST", "/v1/topics"] = 409, {"error": "TOPIC_ALREADY_EXISTS",
                                          "message": "topic 't' already exists"}
    p = ctl("--data", d, "topic", "create", "t")
    assert (p.returncode, p.stdout) == (1, "")
    assert p.stderr == "sluicectl: topic 't' already exists\n"
    p = ctl("--data", d, "topic", "create", "t", "--json")
    assert json.loads(p.stderr)["error"]["code"] == "TOPIC_ALREADY_EXISTS"
    assert p.returncode == 1


def test_list_describe_and_delete(fake):
    d, answers, asked = fake
    answers["GET", "/v1/topics"] = 200, {"topics": [{"name": "one", "id": "x", "partitions": 4},
                                                    {"name": "two", "id": "y", "partitions": 1}]}
    answers["GET", "/v1/topics/a%2Fb%20c"] = 200, {
        "name": "a/b c", "id": "x", "configs": [{"name": "retention.ms", "value": "5",
                                                 "source": "topic"}],
        "partitions": [{"partition": 0, "shard": 1, "log_start": 0, "durable": 120, "next": 121,
                        "size_bytes": 2048, "segments": 1, "leader_epoch": 2, "error": None},
                       {"partition": 1, "shard": -1}]}
    answers["DELETE", "/v1/topics/one"] = 200, {}
    out = ctl("--data", d, "topic", "list").stdout
    assert {"one", "two"} <= set(out.split())
    out = ctl("--data", d, "topic", "describe", "a/b c").stdout
    assert "retention.ms" in out and "120" in out and "2.0 KiB" in out and "no dataplane" in out
    assert ctl("--data", d, "topic", "delete", "one").returncode == 0
    assert asked[-1][:2] == ("DELETE", "/v1/topics/one")


def test_status_prints_the_three_ledgers_with_their_sums(fake):
    d, answers, _ = fake
    answers["GET", "/v1/status"] = 200, STATUS
    p = ctl("--data", d, "status")
    assert (p.returncode, p.stderr) == (0, "")
    assert "seen = to_udp + to_host + handled + in_reassembly + dropped" in p.stdout
    assert "12 = 9 + 0 + 1 + 0 + 2   balances" in p.stdout
    assert "9 = 9 + 0 + 0   balances" in p.stdout
    assert "1,234,567 = 1,234,560 + 1 + 2 + 4   balances" in p.stdout
    assert "vlan 2" in p.stdout and "imissed 5" in p.stdout and "no_buffer 4" in p.stdout
    assert "it restarted" in p.stdout and "3.1 %" in p.stdout and "1800 us" in p.stdout
    assert json.loads(ctl("--json", "--data", d, "status").stdout) == STATUS


def test_status_fails_when_a_ledger_does_not_balance(fake):
    d, answers, _ = fake
    bad = json.loads(json.dumps(STATUS))
    bad["ledgers"]["events"][0]["durable"] -= 1
    answers["GET", "/v1/status"] = 200, bad
    p = ctl("--data", d, "status")
    assert p.returncode == 1
    assert "DOES NOT BALANCE, off by 1" in p.stdout
    assert "does not balance" in p.stderr


def test_answers_that_are_no_json_are_errors_not_crashes(fake):
    d, answers, _ = fake
    for code, body in [(200, b"<html>"), (200, b"[]"), (500, b""), (500, b'"x"'), (200, b"\xff\x00"),
                       (200, b'{"topics": 5, "ledgers": [1], "shards": {"a": 1}}')]:
        answers["GET", "/v1/topics"] = answers["GET", "/v1/status"] = code, body
        for command in (["status"], ["topic", "list"]):
            p = ctl("--data", d, *command)
            assert p.returncode in (0, 1), p
            assert p.returncode == 0 or p.stderr.startswith("sluicectl: "), p


def test_control_characters_of_others_do_not_reach_the_terminal(fake):
    d, answers, _ = fake
    answers["GET", "/v1/topics"] = 200, {"topics": [{"name": "a\x1b[31mb", "partitions": 1}]}
    p = ctl("--data", d, "topic", "list")
    assert "\x1b" not in p.stdout and "\\x1b" in p.stdout
    answers["GET", "/v1/topics"] = 500, {"error": "E", "message": "a\x1b[31mb"}
    assert "\x1b" not in ctl("--data", d, "topic", "list").stderr


def test_without_an_appliance_the_directory_is_named_and_what_to_do(tmp_path):
    p = ctl("--data", tmp_path / "none", "status")
    assert p.returncode == 1
    assert str(tmp_path / "none") in p.stderr and "--data" in p.stderr
    (tmp_path / "d" / "run").mkdir(parents=True)
    for command in (["status"], ["topic", "list"], ["tail", "t"]):
        p = ctl(*command, env={"SLUICE_DATA": str(tmp_path / "d")})
        assert p.returncode == 1
        assert "no appliance is running at" in p.stderr and "sluiced --dev --data" in p.stderr
        assert str(tmp_path / "d") in p.stderr and "SLUICE_DATA" in p.stderr
    p = ctl("topic", "list", cwd=tmp_path)
    assert "/var/lib/sluice (the default)" in p.stderr or p.returncode == 0
    (tmp_path / "sluice-data").mkdir()
    assert "./sluice-data (found here)" in ctl("topic", "list", cwd=tmp_path).stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_a_socket_of_somebody_else_is_named_with_its_mode(fake):
    d, _, _ = fake
    os.chmod(os.path.join(d, "run", "admin.sock"), 0o660)
    parent = d
    while len(parent) > 1:
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
        parent = os.path.dirname(parent)
    p = ctl("--data", d, "topic", "list", user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    assert p.returncode == 1
    assert "no permission on" in p.stderr and "0660" in p.stderr and "root" in p.stderr


@pytest.mark.parametrize("args, word", [
    ([], "usage"), (["nonsense"], "nonsense"), (["topic"], "second word"), (["topic", "frob"], "frob"),
    (["status", "--frob"], "--frob"), (["status", "extra"], "extra"), (["topic", "create"], "usage"),
    (["topic", "create", "t", "--partitions", "0"], "--partitions"),
    (["topic", "create", "t", "--partitions", "many"], "many"),
    (["topic", "create", "t", "--partitions"], "needs a value"),
    (["topic", "create", "t", "--config", "novalue"], "novalue"),
    (["topic", "create", "t", "--config", "a=1", "--config", "a=2"], "twice"),
    (["tail", "t", "--from", "middle"], "beginning|end"), (["tail", "t", "-n", "-1"], "-1"),
    (["--data"], "--data"), (["--data", "", "status"], "--data"), (["log", "recover"], "usage"),
    (["doctor", "--json=1"], "--json"), (["help", "nonsense"], "nonsense")])
def test_wrong_calls_exit_2_and_name_the_word(tmp_path, args, word):
    p = ctl(*args, cwd=tmp_path)
    assert (p.returncode, p.stdout) == (2, ""), p
    assert word in p.stderr


def test_help_and_version():
    p = ctl("help")
    assert p.returncode == 0
    for command in ("topic create", "status", "tail", "log recover", "doctor"):
        assert command in p.stdout
        assert ctl("help", *command.split()).returncode == 0
        assert command in ctl(*command.split(), "--help").stdout
    assert "topic delete" in ctl("help", "topic").stdout
    assert ctl("--help").stdout == p.stdout
    assert json.loads(ctl("version", "--json").stdout)["version"] in ctl("--version").stdout


def test_log_recover_refuses_what_is_no_data_directory(tmp_path):
    p = ctl("log", "recover", tmp_path / "none")
    assert p.returncode == 1 and "No such file" in p.stderr
    p = ctl("log", "recover", tmp_path)
    assert p.returncode == 1 and "no data directory" in p.stderr


def test_log_recover_refuses_a_directory_in_use_and_names_the_process(tmp_path):
    import fcntl
    (tmp_path / "run").mkdir()
    (tmp_path / "log").mkdir()
    with open(tmp_path / "run" / "lock", "w") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        p = ctl("log", "recover", tmp_path)
        assert p.returncode == 1
        assert f"in use by process {os.getpid()}" in p.stderr


# --- doctor ---

def tree(root, files):
    for path, text in files.items():
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)


def nic(root, name, pci, driver, node=0, bus="pci"):
    device = root / "sys" / "devices" / pci
    (root / "sys" / "bus" / bus / "drivers" / driver).mkdir(parents=True, exist_ok=True)
    tree(root, {f"sys/devices/{pci}/numa_node": f"{node}\n"})
    os.symlink(root / "sys" / "bus" / bus, device / "subsystem")
    os.symlink(root / "sys" / "bus" / bus / "drivers" / driver, device / "driver")
    (root / "sys" / "class" / "net" / name).mkdir(parents=True)
    os.symlink(device, root / "sys" / "class" / "net" / name / "device")


@pytest.fixture
def server_tree(tmp_path):
    """A two-node server: the default route over a VLAN on a bond of two NICs, and a spare one."""
    root = tmp_path / "root"
    tree(root, {
        "proc/cpuinfo": "vendor_id\t: GenuineIntel\nmodel name\t: Big One\nflags\t\t: ssse3 sse4_2 popcnt "
                        "cx16 pclmulqdq avx2 constant_tsc nonstop_tsc\n",
        "proc/meminfo": "HugePages_Total:       3\nHugePages_Free:        0\nHugepagesize:       2048 kB\n",
        "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "proc/sys/kernel/io_uring_disabled": "2\n",
        "proc/sys/kernel/numa_balancing": "1\n",
        "proc/sys/net/core/rmem_max": "212992\n",
        "proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n"
                          "bond0.7\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\n"
                          "eno2\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n",
        "sys/devices/system/cpu/online": "0-31\n", "sys/devices/system/cpu/isolated": "\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/node/online": "0-1\n",
        "sys/devices/system/node/node0/cpulist": "0-15\n",
        "sys/devices/system/node/node1/cpulist": "16-31\n",
    })
    nic(root, "eno1", "0000:01:00.0", "ixgbe")
    nic(root, "eno2", "0000:01:00.1", "ixgbe")
    nic(root, "ens3", "0000:81:00.0", "ice", node=1)
    nic(root, "mlx", "0000:82:00.0", "mlx5_core", node=1)
    (root / "sys/class/net/bond0.7/lower_bond0").mkdir(parents=True)
    (root / "sys/class/net/bond0/lower_eno1").mkdir(parents=True)
    return root


def doctor(root):
    p = ctl("doctor", "--root", root, "--json")
    j = json.loads(p.stdout)
    return p.returncode, j["findings"]


def test_doctor_never_suggests_touching_the_default_routes_nic(server_tree):
    _, found = doctor(server_tree)
    for f in found:
        assert "0000:01:00.0" not in " ".join(f["do"] + f["undo"]), f
    text = [f["text"] for f in found if f["text"].startswith("eno1")]
    assert len(text) == 1 and "carries the default route" in text[0]
    spare = next(f for f in found if f["text"].startswith("ens3"))
    assert "NUMA node 1" in spare["text"]
    assert any("dpdk-devbind.py --bind=vfio-pci 0000:81:00.0" in s for s in spare["do"])
    assert any("--bind=ice 0000:81:00.0" in s for s in spare["undo"])
    used = next(f for f in found if f["text"].startswith("eno2"))
    assert "ADDRESSES" in used["text"]
    shared = next(f for f in found if f["text"].startswith("mlx"))
    assert shared["do"] == []


def test_doctor_says_what_to_do_and_how_to_undo_it(server_tree):
    code, found = doctor(server_tree)
    by = {f["check"]: f for f in found}
    assert code == 1 and by["io_uring"]["result"] == "problem"
    assert by["io_uring"]["undo"] == ["sysctl -w kernel.io_uring_disabled=2"]
    assert any("node1/hugepages/hugepages-2048kB" in s for s in by["hugepages"]["do"])
    assert "sysctl -w kernel.numa_balancing=1" in by["numa balancing"]["undo"]
    assert any("isolcpus=managed_irq,domain,2-31" in s for s in by["isolated cores"]["do"])
    assert any("powersave" in s for s in by["cpu frequency"]["undo"])
    assert "sysctl -w net.core.rmem_max=212992" in by["socket buffers"]["undo"]
    assert any("intel_iommu=on" in s for s in by["iommu"]["do"])
    for f in found:
        assert bool(f["do"]) == bool(f["undo"]), f


def test_doctor_names_missing_cpu_features_and_old_kernels(server_tree):
    tree(server_tree, {"proc/cpuinfo": "flags\t\t: sse4_2 sse4_1\n",
                       "proc/sys/kernel/osrelease": "5.10.0\n"})
    code, found = doctor(server_tree)
    by = {f["check"]: f for f in found}
    assert code == 1
    assert "pclmulqdq" in by["cpu features"]["text"] and "sse4_2" not in by["cpu features"]["text"]
    assert by["kernel"]["result"] == "problem" and "5.10" in by["kernel"]["text"]


def test_doctor_runs_on_this_machine_and_on_an_empty_one(tmp_path):
    assert ctl("doctor").returncode in (0, 1)
    (tmp_path / "empty").mkdir()
    p = ctl("doctor", "--root", tmp_path / "empty")
    assert p.returncode in (0, 1) and "Nothing was changed" in p.stdout


# --- with an appliance ---

def test_tail_shows_headers_and_values_from_either_end(tmp_path):
    with Appliance(tmp_path) as a:
        a.ctl("topic", "create", "t", "--partitions", "2")
        for i in range(12):
            a.kcat("-P", "-t", "t", "-p", str(i % 2), "-H", f"n={i}", "-k", "k", input=b"value %d\n" % i)
        assert [line.split(" | ")[1] for line in a.ctl("tail", "t", "-n", "3").stdout.splitlines()] == [
            "value 9", "value 10", "value 11"]
        everything = a.ctl("tail", "t", "--from", "beginning").stdout.splitlines()
        assert len(everything) == 12 and all(" n=" in x and " key=k " in x for x in everything)
        assert len(a.ctl("tail", "t").stdout.splitlines()) == 10
        assert len(a.ctl("tail", "t", "--from", "beginning", "-n", "4").stdout.splitlines()) == 4
        rows = [json.loads(x) for x in a.ctl("tail", "t", "-n", "1", "--json").stdout.splitlines()]
        assert rows[0]["value"] == "value 11" and rows[0]["headers"] == [{"name": "n", "value": "11"}]
        a.kcat("-P", "-t", "t", "-p", "0", input=b"\xff\x1b[31m\n")
        assert "value_base64" in a.ctl("tail", "t", "-n", "1", "--json").stdout
        assert "\x1b" not in subprocess.run([program("sluicectl"), "--data", a.dir, "tail", "t"],
                                            stdout=subprocess.PIPE).stdout.decode(errors="replace")
        p = a.ctl("tail", "nosuch", check=False)
        assert p.returncode == 1 and "no topic 'nosuch'" in p.stderr
        assert "nosuch" not in a.ctl("topic", "list").stdout, "asking does not make it"
        assert a.ctl("tail", "syslog").stdout == ""


def test_tail_follows_until_it_is_interrupted(tmp_path):
    import signal
    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "t", input=b"before\n")
        p = subprocess.Popen([program("sluicectl"), "--data", a.dir, "tail", "t", "--follow"], text=True,
                             stdout=subprocess.PIPE)
        assert p.stdout.readline().endswith("| before\n")
        a.kcat("-P", "-t", "t", input=b"after\n")
        assert p.stdout.readline().endswith("| after\n")
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 0


def test_status_of_an_appliance_balances_and_names_its_doors(tmp_path):
    with Appliance(tmp_path) as a:
        p = a.ctl("status")
        assert "syslog-udp" in p.stdout and a.kafka in p.stdout
        assert "DOES NOT" not in p.stdout
        shards = json.loads(a.ctl("--json", "status").stdout)["shards"]
        assert [s["shard"] for s in shards] == [0]
        tasks = f"/proc/{a.dataplane_pid()}/task"
        worker = [int(t) for t in os.listdir(tasks)
                  if open(f"{tasks}/{t}/comm").read().strip() == "rte-worker-1"]
        assert {shards[0]["cpu"]} == os.sched_getaffinity(worker[0])
        for state in ("busy", "idle"):
            assert a.metrics()[f'sluice_{state}_cycles_total{{shard="0"}}'] > 0
        p = a.ctl("topic", "create", "t", "--config", "retention.sm=1", check=False)
        assert p.returncode == 1 and "retention.ms" in p.stderr, "the nearest key is named"
        p = a.ctl("log", "recover", a.dir, check=False)
        assert p.returncode == 1 and f"in use by process {a.dataplane_pid()}" in p.stderr
        assert a.stop() == 0
        p = a.ctl("log", "recover", a.dir)
        assert "partitions" in p.stdout
        a.start()
