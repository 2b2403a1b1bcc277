"""A DPDK port fed by the kernel's own stack: a veth pair whose far end is in a network namespace,
the driver net_af_packet on the near end. And a port fed from a pcap file, which needs no root."""
import collections
import json
import os
import re
import secrets
import socket
import struct
import subprocess
import threading
import time

import pytest
from appliance import ROOT, Appliance, need, wait_for

BUILD = os.environ.get("SLUICE_BUILD", os.path.join(ROOT, "build"))
UDPFLOOD = os.path.join(BUILD, "tests", "net", "udpflood")
EVENT_MAX = 1024
LONG = 1300  # bytes: longer than EVENT_MAX, shorter than a frame


def run(*cmd, **kw):
    p = subprocess.run(cmd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                       **kw)
    assert p.returncode == 0, f"{cmd}: exit {p.returncode}\n{p.stdout}{p.stderr}"
    return p.stdout


class Veth:
    """near: an interface without addresses, for the port. far: in a namespace, 66 addresses.

    The sender's offloads are off: on a veth nobody else fills in a checksum or cuts a super packet.
    """

    def __init__(self):
        tag = secrets.token_hex(3)
        self.ns, self.near, self.far = f"sluice-{tag}", f"sln{tag}", f"slf{tag}"
        net = f"198.18.{secrets.randbelow(256)}"  # RFC 2544: for tests between devices
        self.port_ip, self.sender_ip, self.first_source = f"{net}.1", f"{net}.2", f"{net}.100"
        self.net = net
        run("ip", "netns", "add", self.ns)
        try:
            self.setup()
        except BaseException:
            self.close()
            raise

    def setup(self, queues=None):
        many = ["numrxqueues", str(queues), "numtxqueues", str(queues)] if queues else []
        run("ip", "link", "add", self.near, *many, "type", "veth", "peer", "name", self.far, *many)
        run("ip", "link", "set", self.far, "netns", self.ns)
        for where, dev in (((), self.near), (("ip", "netns", "exec", self.ns), self.far)):
            for key in (f"net.ipv6.conf.{dev}.disable_ipv6=1", f"net.ipv4.conf.{dev}.forwarding=0"):
                run(*where, "sysctl", "-qw", key)
            run(*where, "ip", "link", "set", dev, "up")
        self.ns_run("ethtool", "-K", self.far, "tx", "off", "gso", "off", "tso", "off",
                    "tx-udp-segmentation", "off")
        self.ns_run("ip", "link", "set", "lo", "up")
        commands = [f"addr add {self.net}.{i}/24 dev {self.far}" for i in [2, *range(100, 164)]]
        self.ns_run("ip", "-batch", "-", input="\n".join(commands))

    def ns_run(self, *cmd, **kw):
        return run("ip", "netns", "exec", self.ns, *cmd, **kw)

    def again(self, queues):
        """The same cable with that many queues at each end."""
        run("ip", "link", "del", self.near)
        self.setup(queues)

    def close(self):
        for cmd in (["ip", "link", "del", self.near], ["ip", "netns", "del", self.ns]):
            subprocess.run(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)


@pytest.fixture
def veth():
    if os.getuid() != 0:
        pytest.skip("network namespaces and AF_PACKET need root")
    for tool in ("ip", "ethtool", "ping", "logger", "rsyslogd", "kcat"):
        need(tool)
    if not os.path.exists(UDPFLOOD):
        pytest.skip(f"{UDPFLOOD} is not built")
    v = Veth()
    yield v
    v.close()


def config(shards, device, address, partitions=4):
    return f"""
shards: {shards}
memory:
  mbufs: 8192
kafka:
  listeners:
    - name: kafka
      bind: 127.0.0.1:0
http:
  bind: 127.0.0.1:0
ports:
  - name: p0
    device: {device}
    addresses: [{address}/24]
listeners:
  - name: port-syslog
    port: p0
    bind: {address}:514
    topic: syslog
    partitions: {partitions}
    event_max_bytes: {EVENT_MAX}
"""


def ledgers(a):
    """One snapshot; asserts that it balances."""
    status, body = a.admin("GET", "/v1/status")
    assert status == 200
    found = body["ledgers"]
    for kind in ("ports", "listeners", "events"):
        for ledger in found[kind]:
            assert ledger["balance"] == 0, f"{kind} do not balance: {json.dumps(ledger)}"
    return found


class Watcher(threading.Thread):
    """Polls the ledgers until stopped; keeps the first failure."""

    def __init__(self, a):
        super().__init__(daemon=True)
        self.a, self.snapshots, self.failure = a, 0, None
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(0.02):
            try:
                ledgers(self.a)
                self.snapshots += 1
            except Exception as e:  # handed to the test by finish()
                self.failure = e
                return

    def finish(self):
        self.stopping.set()
        self.join(30)
        if self.failure:
            raise self.failure
        return self.snapshots


def settled(a, datagrams):
    """The ledgers once that many datagrams have been taken in or dropped by the device, and all
    events are durable."""
    def done():
        found = ledgers(a)
        port, listener, events = (found[k][0] for k in ("ports", "listeners", "events"))
        arrived = port["to_udp"] + port["nic"]["imissed"]
        # what one shard has taken may be on its way to the shard that owns its source
        return arrived >= datagrams and listener["received"] == port["to_udp"] and \
            events["in_flight"] == 0 and found
    try:
        return wait_for(f"{datagrams} datagrams are durable", done, 60, 0.1)
    except AssertionError as e:
        raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None


def all_counted(a, datagrams, malformed, long_ones):
    """Few datagrams, all since the first start: each is there and counted for what it is. The
    device's rings hold more than are sent at once, so nothing may be missed."""
    found = settled(a, datagrams)
    port, listener, events = (found[k][0] for k in ("ports", "listeners", "events"))
    print(json.dumps(found))
    assert port["nic"]["imissed"] == 0
    assert port["to_udp"] == listener["received"] == events["produced"] == datagrams
    assert listener["dropped"] == {}
    assert listener["truncated"] == long_ones
    assert events["dead_lettered_durable"] + events["dropped"].get("no_dlq_topic", 0) == malformed
    assert events["durable"] == datagrams - malformed
    return found


NUMBERED = re.compile(r"tag=(\S+) source=(\d+) no=(\d+) ")


def read_records(a, topic):
    """[(partition, offset, value)]"""
    found = []
    for line in a.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %s\n",
                       timeout=120).splitlines():
        partition, offset, value = line.split(" ", 2)
        found.append((int(partition), int(offset), value))
    return found


def assert_sources_in_order(records, tag, sources):
    """Each source's records lie in one partition and their numbers strictly increase."""
    partition_of, last = {}, collections.defaultdict(lambda: -1)
    for partition, offset, value in sorted(records):
        m = NUMBERED.search(value)
        if not m or m.group(1) != tag:
            continue
        source, no = int(m.group(2)), int(m.group(3))
        assert partition_of.setdefault(source, partition) == partition, \
            f"source {source} is in partitions {partition_of[source]} and {partition}"
        assert no > last[source], \
            f"source {source}: number {no} at offset {offset} follows {last[source]}"
        last[source] = no
    assert len(partition_of) == sources
    return set(partition_of.values())


def flood(v, tag, count, rate, malformed_every=100, long_every=507, ports=16):
    out = v.ns_run(UDPFLOOD, f"{v.port_ip}:514", v.first_source, "64", str(ports), str(count),
                   str(rate), tag, str(malformed_every), str(long_every), str(LONG))
    return json.loads(out)


def send_by_logger(v, tmp_path, count):
    lines = tmp_path / "logger.txt"
    lines.write_text("".join(f"line {i} of logger\n" for i in range(count)))
    v.ns_run("logger", "-n", v.port_ip, "-P", "514", "-d", "-t", "by-logger", "-f", str(lines))


def send_by_rsyslog(v, tmp_path, count):
    """A real rsyslogd reads a file and forwards its lines; returns when it has ended."""
    work = tmp_path / "rsyslog"
    work.mkdir()
    lines = tmp_path / "rsyslog.txt"
    lines.write_text("".join(f"line {i} of rsyslog\n" for i in range(count)))
    conf = work / "rsyslog.conf"
    done = work / "done.txt"
    conf.write_text(f"""
global(workDirectory="{work}")
module(load="imfile" mode="polling" pollingInterval="1")
input(type="imfile" file="{lines}" tag="by-rsyslog" facility="local1" severity="notice")
action(type="omfwd" target="{v.port_ip}" port="514" protocol="udp"
       template="RSYSLOG_SyslogProtocol23Format")
action(type="omfile" file="{done}")
""")
    p = subprocess.Popen(["ip", "netns", "exec", v.ns, "rsyslogd", "-n", "-f", str(conf), "-i",
                          str(work / "pid")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("rsyslog has read its file",
                 lambda: done.exists() and len(done.read_text().splitlines()) >= count, 30, 0.1)
    finally:
        p.terminate()
        p.wait(30)


def test_200000_datagrams_through_two_queues_are_all_accounted_for(veth, tmp_path):
    device = (f"net_af_packet0,iface={veth.near},qpairs=2,blocksz=65536,framesz=2048,"
              f"framecnt=8192")
    a = Appliance(tmp_path, config=config(1, device, veth.port_ip), start=False)
    try:
        # one shard polls both queues
        with a.start():
            out = veth.ns_run("ping", "-c", "3", "-i", "0.2", "-W", "5", veth.port_ip)
            assert " 0% packet loss" in out, out
            before = flood(veth, "one", 2000, 4000, malformed_every=50, long_every=101)
            assert before["malformed"] == 40 and before["long"] >= 19, before
            first = all_counted(a, 2000, before["malformed"], before["long"])
        sent = 2000
        # two shards, one queue each
        a.config = config(2, device, veth.port_ip)
        with a.start():
            watcher = Watcher(a)
            watcher.start()
            out = veth.ns_run("ping", "-c", "3", "-i", "0.2", "-W", "5", veth.port_ip)
            assert " 0% packet loss" in out, out
            send_by_logger(veth, tmp_path, 500)
            send_by_rsyslog(veth, tmp_path, 500)
            all_counted(a, sent + 1000, before["malformed"], before["long"])
            told = flood(veth, "two", 199000, 30000)
            sent += 1000 + 199000
            found = settled(a, sent)
            snapshots = watcher.finish()
            assert snapshots > 20
            port, listener, events = (found[k][0] for k in ("ports", "listeners", "events"))
            print(f"{told} {snapshots} snapshots {json.dumps(port)} {json.dumps(listener)} "
                  f"{json.dumps(events)}")
            # what was sent was seen, or the device says that it dropped it
            assert port["to_udp"] + port["nic"]["imissed"] == sent
            assert port["dropped"].get("udp_checksum", 0) == 0
            assert port["handled"] >= 6 + 1  # echo requests and an ARP
            assert listener["received"] == port["to_udp"]
            assert events["produced"] == listener["parsed"]
            if port["nic"]["imissed"] == 0 and not listener["dropped"]:
                assert events["produced"] == sent
                assert listener["truncated"] == told["long"] + before["long"]
                assert events["dead_lettered_durable"] + events["dropped"].get("no_dlq_topic", 0) \
                    == told["malformed"] + before["malformed"]
            shards = a.admin("GET", "/v1/status")[1]["shards"]
            assert len(shards) == 2
            # the 64 sources are spread over both queues; each shard polls one
            metrics = a.metrics()
            taken = [metrics[f'sluice_stage_items_total{{shard="{s}",stage="port_rx"}}']
                     for s in range(2)]
            print(f"frames by queue: {taken}")
            assert min(taken) > 2000
            assert sum(taken) >= port["to_udp"] - first["ports"][0]["to_udp"]
            records = read_records(a, "syslog")
            assert len(records) == events["durable"]
            assert len(read_records(a, "syslog.dlq")) == events["dead_lettered_durable"]
            assert_sources_in_order(records, "one", 64)
            used = assert_sources_in_order(records, "two", 64)
            assert len(used) > 1, "all sources are in one partition"
            long_ones = [v for _, _, v in records if len(v) == EVENT_MAX]
            assert len(long_ones) == listener["truncated"]
            assert max(len(v) for _, _, v in records) == EVENT_MAX
            text = "\n".join(v for _, _, v in records)
            for who in ("by-logger", "by-rsyslog"):
                assert text.count(f" of {who[3:]}") == 500, who
        # and one again: everything stays readable, and goes on
        a.config = config(1, device, veth.port_ip)
        with a.start():
            again = read_records(a, "syslog")
            assert sorted(again) == sorted(records)
            flood(veth, "three", 2000, 20000)
            found = settled(a, sent + 2000)
            assert len(read_records(a, "syslog")) == found["events"][0]["durable"]
            assert found["ports"][0]["seen"] > first["ports"][0]["seen"]
    finally:
        if a.process is not None or a.dataplane_pid():
            a.kill_all()


def test_fragments_are_put_together(veth, tmp_path):
    """Datagrams longer than a frame: the sender's kernel cuts them, the port puts them together."""
    device = (f"net_af_packet0,iface={veth.near},qpairs=2,blocksz=65536,framesz=2048,"
              f"framecnt=8192")
    text = config(2, device, veth.port_ip).replace(f"{EVENT_MAX}", "64KiB")
    with Appliance(tmp_path, config=text) as a:
        script = ("import socket, time\n"
                  "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                  f"s.bind(('{veth.sender_ip}', 0))\n"
                  "for i in range(50):\n"
                  "    d = b'<14>1 - h a - - - n=%d ' % i\n"
                  f"    s.sendto(d + b'y' * (1000 * (i + 1) - len(d)), ('{veth.port_ip}', 514))\n"
                  "    time.sleep(0.005)\n")
        veth.ns_run("python3", "-c", script)

        def whole():
            found = ledgers(a)
            return found["listeners"][0]["received"] == 50 and \
                found["events"][0]["in_flight"] == 0 and found
        try:
            found = wait_for("50 datagrams have come", whole, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        port = found["ports"][0]
        assert port["to_udp"] > 50 * 15  # their frames
        assert port["in_reassembly"] == 0
        assert sorted(len(v) for _, _, v in read_records(a, "syslog")) == \
            [1000 * (i + 1) for i in range(50)]


def test_a_port_without_permission_says_so(tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody without permission")
    a = Appliance(tmp_path, config=config(1, "net_af_packet0,iface=lo", "198.18.0.1"), user=65534,
                  start=False)
    a.start(wait=False)
    try:
        wait_for("sluiced says why", lambda: "port p0 (net_af_packet0,iface=lo): no permission for "
                 "raw sockets: it needs CAP_NET_RAW and CAP_NET_ADMIN" in a.output(), 30)
    finally:
        a.kill_all()


# --- a port that reads a file: no root, no interface ---

def checksum(b):
    if len(b) % 2:
        b += b"\0"
    s = sum(struct.unpack(f"!{len(b) // 2}H", b))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def udp_frame(source, dport, data, dst="198.18.0.1"):
    src, dst = socket.inet_aton(source), socket.inet_aton(dst)
    length = 8 + len(data)
    pseudo = src + dst + struct.pack("!BBH", 0, 17, length)
    udp = struct.pack("!HHHH", 4000, dport, length, 0)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp + data) or 0xffff)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, src, dst)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    # broadcast: nobody knows the vdev's own address beforehand
    return b"\xff" * 6 + b"\2\0\0\0\0\2" + b"\x08\0" + ip + udp + data


def write_pcap(path, frames):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            f.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def test_frames_of_a_file_become_records_without_root(tmp_path):
    need("kcat")
    user = 65534 if os.getuid() == 0 else None
    frames = []
    for i in range(3000):
        source = f"198.51.100.{1 + i % 64}"
        text = f"<13>1 - h a - - - tag=file source={i % 64} no={i // 64} ".encode()
        frames.append(udp_frame(source, 514, text))
    frames.append(udp_frame("198.51.100.1", 515, b"nobody listens"))
    bad = bytearray(udp_frame("198.51.100.1", 514, b"damaged"))
    bad[-1] ^= 1
    frames.append(bytes(bad))
    pcap = tmp_path / "frames.pcap"
    write_pcap(pcap, frames)
    os.chmod(pcap, 0o644)
    with Appliance(tmp_path, user=user,
                   config=config(2, f"net_pcap0,rx_pcap={pcap}", "198.18.0.1")) as a:
        found = settled(a, 3000)
        port = found["ports"][0]
        assert port["seen"] == 3002
        assert port["to_udp"] == 3000
        assert port["dropped"] == {"udp_port": 1, "udp_checksum": 1}
        events = found["events"][0]
        assert events["durable"] == 3000
        assert found["listeners"][0]["dropped"] == {}
        records = read_records(a, "syslog")
        assert len(records) == 3000
        assert_sources_in_order(records, "file", 64)
