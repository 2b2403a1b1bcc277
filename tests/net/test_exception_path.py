"""One network port for everything: what the dataplane does not serve reaches the kernel through the
host interface and comes back, while ingest runs and loses nothing by it."""
import json
import os
import socket
import subprocess
import threading
import time

import pytest
from appliance import Appliance, wait_for
from test_port import flood, ledgers, run, veth

assert veth  # a fixture
ETHERTYPE_LLDP = "88cc"


def leave_ip_to_us(v):
    """The kernel stops taking IP packets on the near end: what net_af_packet and a host interface
    ask for. rp_filter of "all" must not be more."""
    run("sysctl", "-qw", f"net.ipv4.conf.{v.near}.rp_filter=1",
        f"net.ipv4.conf.{v.near}.arp_ignore=8")


def free_port(host):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def config(v, tap, kafka_port, rate=50000):
    return f"""
shards: 2
memory: {{mbufs: 8192}}
kafka:
  listeners:
    - {{name: kafka, bind: '*:{kafka_port}', allow_plaintext: true, advertised_host: {v.port_ip}}}
http: {{bind: '127.0.0.1:0'}}
ports:
  - name: p0
    device: net_af_packet0,iface={v.near},qpairs=2,blocksz=65536,framesz=2048,framecnt=8192
    addresses: [{v.port_ip}/24]
    host_interface: {tap}
    host_rate: {rate}
    routes: [{{to: 198.19.77.0/24, via: {v.sender_ip}}}]
listeners:
  - {{name: in, port: p0, bind: '{v.port_ip}:514', topic: syslog, partitions: 2, event_max_bytes: 1KiB}}
"""


class Echo(threading.Thread):
    """A TCP service of this machine, as sshd is: answers each line in capitals."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.server = socket.create_server((host, 0))
        self.server.settimeout(60)
        self.port = self.server.getsockname()[1]
        self.start()

    def stop(self):
        """Not by closing what the thread waits for: another file could get its number."""
        self.server.shutdown(socket.SHUT_RDWR)
        self.join(70)
        self.server.close()

    def run(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            with c:
                c.settimeout(30)
                for line in c.makefile("rb"):
                    c.sendall(line.upper())


def talk(v, port, kib):
    """A client beyond the cable sends so much and reads it back in capitals."""
    script = ("import socket, threading\n"
              f"s = socket.create_connection(('{v.port_ip}', {port}), timeout=20)\n"
              "line = b'x' * 1023 + b'\\n'\n"
              f"t = threading.Thread(target=lambda: s.sendall(line * {kib}))\n"
              "t.start()\n"
              "got, f = 0, s.makefile('rb')\n"
              f"for i in range({kib}):\n"
              "    assert f.readline() == line.upper()\n"
              "t.join()\n")
    v.ns_run("python3", "-c", script)


def test_a_server_with_one_port_stays_reachable_while_it_ingests(veth, tmp_path):
    tap = veth.near.replace("sln", "slt")
    leave_ip_to_us(veth)
    with Appliance(tmp_path, config=config(veth, tap, free_port("127.0.0.1"))) as a:
        where = f"{veth.port_ip}:{a.port('kafka')}"
        # the interface is there, with the port's address and route
        assert f" {veth.port_ip}/24 " in run("ip", "-4", "addr", "show", "dev", tap)
        assert f"198.19.77.0/24 via {veth.sender_ip}" in run("ip", "route", "show", "dev", tap)
        echo = Echo(veth.port_ip)
        # the port answers pings itself; the kernel's own pings come back to it
        assert " 0% packet loss" in veth.ns_run("ping", "-c", "2", "-i", "0.2", "-W", "5", veth.port_ip)
        assert " 0% packet loss" in run("ping", "-c", "2", "-i", "0.2", "-W", "5", veth.sender_ip)
        talk(veth, echo.port, 1)
        before, before_s = ledgers(a)["ports"][0], time.monotonic()
        assert before["to_host"] > 0 and before["from_host"] > 0
        # ingest at a steady rate, and the services at the same time
        sent = 60000
        told = []
        flooding = threading.Thread(target=lambda: told.append(flood(veth, "busy", sent, 15000)))
        flooding.start()
        lines = "".join(f"line {i}\n" for i in range(2000))
        kcat = ["kcat", "-b", where, "-X", "socket.timeout.ms=20000"]
        veth.ns_run(*kcat, "-P", "-t", "through", input=lines)
        talk(veth, echo.port, 200)
        assert veth.ns_run(*kcat, "-C", "-t", "through", "-o", "beginning", "-e", "-q") == lines
        flooding.join(60)
        assert told

        def settled():
            found = ledgers(a)
            port, events = found["ports"][0], found["events"][0]
            return port["to_udp"] + port["nic_imissed"] >= sent and events["in_flight"] == 0 and found
        try:
            found = wait_for("what was sent is durable", settled, 60, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        port, listener, events = (found[k][0] for k in ("ports", "listeners", "events"))
        print(json.dumps(port))
        # a shard that stands still for a second, on a busy machine, cannot empty its ring in time
        assert port["to_udp"] + port["nic_imissed"] == sent and port["nic_imissed"] < sent / 2
        assert listener["received"] == port["to_udp"] and listener["dropped"] == {}
        assert set(events["dropped"]) <= {"no_dlq_topic"}
        if port["nic_imissed"] == 0:
            assert events["durable"] == sent - told[0]["malformed"]
        assert port["host_refused"] == 0 and "host_limit" not in port["dropped"]
        assert "host_full" not in port["dropped"]
        # its share of the two shards' time: 5 %, and what may be done at once
        spent_ns = port["host_ns"] - before["host_ns"]
        bound_ns = 2 * (0.05 * (time.monotonic() - before_s) * 1e9 + 11e6)
        frames = port["to_host"] + port["from_host"] - before["to_host"] - before["from_host"]
        print(f"{frames} frames of the host in {spent_ns} ns, at most {bound_ns:.0f}")
        assert 0 < spent_ns <= bound_ns
        # other protocols: a frame of LLDP arrives at the interface, as it was
        p = subprocess.Popen(["python3", "-c", f"""
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x{ETHERTYPE_LLDP}))
s.bind(('{tap}', 0))
s.settimeout(20)
print('ready', flush=True)
assert s.recv(2000) == bytes.fromhex('0180c200000e020000000002{ETHERTYPE_LLDP}') + b'hello' * 20
"""], stdout=subprocess.PIPE)
        try:
            assert p.stdout.readline() == b"ready\n"
            veth.ns_run("python3", "-c", f"""
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('{veth.far}', 0))
s.send(bytes.fromhex('0180c200000e020000000002{ETHERTYPE_LLDP}') + b'hello' * 20)
""")
            assert p.wait(30) == 0
        finally:
            p.kill()
            p.wait(10)
        echo.stop()
    assert not os.path.exists(f"/sys/class/net/{tap}")


# Counts on the cable the frames that carry the tag; on the host interface there are none.
TAGGED_PEER = """
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA
s.bind(('{far}', 0))
s.settimeout(20)
for i in range({sent}):
    s.send(bytes.fromhex('0180c200000e020000000002' '81000007' '{lldp}') + b'hello' * 20)
print('sent', flush=True)
while True:
    f, anc, _, _ = s.recvmsg(2048, 256)
    tags = [struct.unpack('IIIHHHH', d)[5] for _, _, d in anc]
    if f[12:14] == b'\\x08\\x06' and f[38:42] == socket.inet_aton('{asked}') and tags == [7]:
        break
"""


def test_the_host_has_the_vlan_of_the_port_and_its_rate(veth, tmp_path):
    tap = veth.near.replace("sln", "slt")
    leave_ip_to_us(veth)
    text = config(veth, tap, free_port("127.0.0.1"), rate=10).replace("  - name: p0", "  - name: p0\n    vlan: 7")
    sent, asked = 500, f"{veth.net}.200"
    with Appliance(tmp_path, config=text) as a, \
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88cc)) as lldp:
        lldp.bind((tap, 0))
        lldp.settimeout(20)
        before = ledgers(a)["ports"][0]
        p = subprocess.Popen(["ip", "netns", "exec", veth.ns, "python3", "-c", TAGGED_PEER.format(
            far=veth.far, sent=sent, lldp=ETHERTYPE_LLDP, asked=asked)], stdout=subprocess.PIPE)
        try:
            assert p.stdout.readline() == b"sent\n"

            def counted():
                port = ledgers(a)["ports"][0]
                return port["to_host"] + port["dropped"].get("host_limit", 0) >= sent and port
            port = wait_for("every frame is counted", counted, 30, 0.1)
            assert before["to_host"] + 2 <= port["to_host"] < sent / 2
            assert "ethertype" not in port["dropped"] and "vlan" not in port["dropped"]
            want = bytes.fromhex("0180c200000e020000000002" + ETHERTYPE_LLDP) + b"hello" * 20
            assert lldp.recv(2000) == want  # without the tag
            # the kernel asks for a neighbour: with the tag
            subprocess.run(["ping", "-c", "1", "-W", "1", asked], timeout=30, check=False,
                           stdout=subprocess.DEVNULL)
            assert p.wait(30) == 0
        finally:
            p.kill()
            p.wait(10)


@pytest.mark.parametrize("prepare, text", [
    ([], "the kernel still takes IP packets on {near}, so that everything would come twice: sysctl -w "
         "net.ipv4.conf.{near}.rp_filter=1"),
    (["ip addr add 198.19.1.1/24 dev {near}"],
     "the kernel has addresses on {near} and serves them itself"),
    (["ip tuntap add {tap} mode tap"], "there is already an interface {tap}"),
])
def test_where_it_cannot_work_it_says_why(veth, tmp_path, prepare, text):
    names = {"near": veth.near, "tap": veth.near.replace("sln", "slt")}
    try:
        for command in prepare:
            run(*command.format(**names).split())
        a = Appliance(tmp_path, config=config(veth, names["tap"], free_port("127.0.0.1")), start=False)
        a.start(wait=False)
        try:
            want = f"port p0 (net_af_packet0,iface={veth.near},"
            wait_for("sluiced says why", lambda: want in a.output() and
                     f"host_interface: {text.format(**names)}" in a.output(), 30)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{a.output()}") from None
        finally:
            a.kill_all()
    finally:
        subprocess.run(["ip", "link", "del", names["tap"]], timeout=30, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
