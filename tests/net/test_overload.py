"""Overload: far more is offered than a slow disk takes. The datagrams that do not fit are dropped and
counted, streams wait and lose nothing, memory stays what it was set to, order holds, every snapshot of
the ledgers balances, and when the disk is well again so is the service. And kill -9 in the middle."""
import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import pytest
from appliance import Appliance, need, wait_for
from forgetfs import ForgetFS
from test_port import BUILD, UDPFLOOD, assert_sources_in_order, ledgers, read_records, veth  # noqa: F401

SNAPSHOTS = os.path.join(BUILD, "tests", "net", "snapshots")
SECONDS = 30 if os.environ.get("SLUICE_TEST_LONG") else 5
RATE, SIZE, SOURCES = 30000, 1000, 16  # 30 MB/s
DELAY_MS = 100  # of every flush
STAGING_MB, SHARDS = 8, 2
COMMON = f"""
shards: {SHARDS}
memory: {{staging: {STAGING_MB}MiB, mbufs: 4096}}
journal: {{file_bytes: 4MiB, files: 2}}
kafka: {{listeners: [{{name: kafka, bind: '127.0.0.1:0'}}]}}
http: {{bind: '127.0.0.1:0'}}
topic_defaults: {{listener_compression: none}}
"""
CONFIG = COMMON + """
listeners:
  - {name: datagrams, bind: '127.0.0.1:0', topic: datagrams, partitions: 4, rcvbuf: 1MiB}
  - {name: streams, bind: '127.0.0.1:0', transport: tcp, topic: streams, partitions: 4}
"""


class Stream(threading.Thread):
    """A client of the stream listener that sends numbered lines as fast as it may."""

    def __init__(self, address, no):
        super().__init__(daemon=True)
        self.stopping, self.sent, self.failure = threading.Event(), 0, None
        self.sock = socket.create_connection(address, timeout=60, source_address=(f"127.0.0.{20 + no}", 0))
        self.no = no

    def run(self):
        try:
            while not self.stopping.is_set():
                lines = [f"<13>1 - h a - - - tag=stream source={self.no} no={self.sent + i} " + "x" * SIZE
                         for i in range(50)]
                self.sock.sendall("".join(line + "\n" for line in lines).encode())
                self.sent += len(lines)
            self.sock.close()
        except OSError as e:
            self.failure = e


class Memory(threading.Thread):
    """The largest resident size of a process, looked at until told to stop."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.stopping = pid, threading.Event()
        self.first = self.most = self.now()

    def now(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024

    def run(self):
        while not self.stopping.wait(0.05):
            self.most = max(self.most, self.now())


@contextlib.contextmanager
def slow_disk(tmp_path, config):
    """An appliance whose log and journal lie on a disk that can be slow."""
    for tool in (UDPFLOOD, SNAPSHOTS):
        if not os.path.exists(tool):
            pytest.skip(f"{tool} is not built")
    need("kcat")
    fs = ForgetFS(tmp_path)
    try:
        os.mkdir(tmp_path / "data")
        for part in ("log", "journal"):
            os.mkdir(os.path.join(fs.mount, part))
            os.symlink(os.path.join(fs.mount, part), tmp_path / "data" / part)
        with Appliance(tmp_path, config=config) as a:
            try:
                yield fs, a
            finally:
                fs.slow(0)
    finally:
        fs.stop()


@pytest.fixture
def slow(tmp_path):
    with slow_disk(tmp_path, CONFIG) as found:
        yield found


def flood_from(first_source, to, tag, count, rate, wrapper=()):
    return subprocess.Popen([*wrapper, UDPFLOOD, to, first_source, str(SOURCES), "4", str(count), str(rate),
                             tag, "0", "1", str(SIZE)], stdout=subprocess.PIPE, text=True)


def flood(a, tag, count, rate):
    _, host, port = a.ports()["datagrams"]
    return flood_from("127.0.0.100", f"{host}:{port}", tag, count, rate)


def snapshots(a):
    return subprocess.Popen([SNAPSHOTS, os.path.join(a.dir, "run", "stats.shm"), "10000", str(SECONDS)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(sender, watch):
    """What both have told. Neither outlives this."""
    try:
        told = json.loads(sender.communicate(timeout=SECONDS + 60)[0])
        seen, why = watch.communicate(timeout=60)
    finally:
        for p in (sender, watch):
            if p.poll() is None:
                p.kill()
                p.wait()
    assert watch.returncode == 0, why
    seen = json.loads(seen)
    assert seen["differ"] > 20, "the snapshots were not taken while events came"
    return told, seen


def of(found, kind, name):
    return next(row for row in found[kind] if row["name"] == name)


def all_durable(a, deadline=60):
    return wait_for("nothing is in flight", lambda: (lambda found: all(
        row["in_flight"] == 0 for row in found["events"]) and found)(ledgers(a)), deadline, 0.05)


def test_overload_is_dropped_and_counted_and_over_when_it_is_over(slow):
    fs, a = slow
    streams = [Stream(("127.0.0.1", a.port("streams")), no) for no in range(2)]
    memory = Memory(a.dataplane_pid())
    fs.slow(DELAY_MS)
    count = RATE * SECONDS
    began = time.monotonic()
    sender = flood(a, "over", count, RATE)
    watch = snapshots(a)
    for t in (memory, *streams):
        t.start()
    told, seen = finished(sender, watch)
    waits = of(ledgers(a), "listeners", "streams")["stream_waits"]
    pressed = [s["overflow_ms"] for s in a.admin("GET", "/v1/status")[1]["shards"]]
    fs.slow(0)
    well = time.monotonic()
    for s in streams:
        s.stopping.set()
    # at once: what was taken is durable, and what comes now is not dropped
    for s in streams:
        s.join(60)
        assert not s.is_alive() and s.failure is None, s.failure

    def counted():
        found = ledgers(a)
        row = of(found, "listeners", "datagrams")
        lines = of(found, "listeners", "streams")["received"]
        return row["received"] + row["kernel_drops"] == count and lines == sum(s.sent for s in streams)
    try:
        wait_for("all that was sent is counted", counted, 30, 0.05)
    except AssertionError as e:
        raise AssertionError(f"{e}: sent {count} and {[s.sent for s in streams]}: {json.dumps(ledgers(a))}") from None
    found = all_durable(a, 30)
    recovered = time.monotonic() - well
    memory.stopping.set()
    memory.join(10)
    row, events = of(found, "listeners", "datagrams"), of(found, "events", "datagrams")
    print(f"{told} in {well - began:.1f} s, {seen}, stream waits {waits}, recovered in {recovered:.2f} s, "
          f"RSS {memory.first:.0f} -> {memory.most:.0f} MiB, {json.dumps(found)}")
    assert told["sent"] == count
    lost = row["kernel_drops"] + sum(events["dropped"].values())
    assert lost > count // 10, "this was no overload"
    assert events["durable"] + lost == count
    assert set(events["dropped"]) <= {"no_buffer"}
    assert waits > 0
    assert min(pressed) < 10000, "time to overflow"
    assert events["durable"] * SIZE > 2 << 20, "the streams have crowded out the datagrams"
    assert memory.most < memory.first + SHARDS * STAGING_MB + 32

    again = flood(a, "after", 1600, 2000)
    try:
        assert again.wait(30) == 0
    finally:
        if again.poll() is None:
            again.kill()
            again.wait()
    wait_for("what came after it is counted",
             lambda: of(ledgers(a), "listeners", "datagrams")["received"] == row["received"] + 1600, 20, 0.05)
    after = all_durable(a, 20)
    assert of(after, "listeners", "datagrams")["kernel_drops"] == row["kernel_drops"]
    assert of(after, "events", "datagrams")["durable"] == events["durable"] + 1600

    records = read_records(a, "datagrams")
    assert len(records) == events["durable"] + 1600
    assert_sources_in_order(records, "over", SOURCES)
    assert_sources_in_order(records, "after", SOURCES)
    lines = read_records(a, "streams")
    assert_sources_in_order(lines, "stream", len(streams))
    assert len(lines) == sum(s.sent for s in streams), "a stream has lost something"


def test_overload_of_a_port_is_missed_by_the_device_and_counted(veth, tmp_path):  # noqa: F811
    """The same over a DPDK port: what the log has no room for waits in the device, which counts what it loses."""
    # nobody asks for the port's address in the middle: that frame could be missed, too
    with open(f"/sys/class/net/{veth.near}/address") as f:
        veth.ns_run("ip", "neigh", "replace", veth.port_ip, "lladdr", f.read().strip(), "dev", veth.far, "nud",
                    "permanent")
    config = COMMON + f"""
ports:
  - name: p0
    device: net_af_packet0,iface={veth.near},qpairs={SHARDS},blocksz=65536,framesz=2048,framecnt=1024
    addresses: [{veth.port_ip}/24]
listeners: [{{name: in, port: p0, bind: '{veth.port_ip}:514', topic: events, partitions: 4}}]
"""

    def port_flood(tag, count, rate):
        return flood_from(veth.first_source, f"{veth.port_ip}:514", tag, count, rate, ("ip", "netns", "exec", veth.ns))

    def counted(count):
        port = of(ledgers(a), "ports", "p0")
        return port["to_udp"] + port["nic_imissed"] == count and port
    with slow_disk(tmp_path, config) as (fs, a):
        memory = Memory(a.dataplane_pid())
        memory.start()
        fs.slow(DELAY_MS)
        count = RATE * SECONDS
        told, seen = finished(port_flood("over", count, RATE), snapshots(a))
        pressed = [s["overflow_ms"] for s in a.admin("GET", "/v1/status")[1]["shards"]]
        fs.slow(0)
        well = time.monotonic()
        try:
            wait_for("all that was sent is counted", lambda: counted(count), 30, 0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}: sent {count}: {json.dumps(ledgers(a))}") from None
        found = all_durable(a, 30)
        recovered = time.monotonic() - well
        memory.stopping.set()
        memory.join(10)
        port, row, events = of(found, "ports", "p0"), of(found, "listeners", "in"), of(found, "events", "in")
        print(f"{told}, {seen}, recovered in {recovered:.2f} s, RSS {memory.first:.0f} -> {memory.most:.0f} MiB, "
              f"overflow in {pressed} ms, {json.dumps(found)}")
        assert told["sent"] == count
        assert port["nic_imissed"] > count // 10, "this was no overload"
        assert port["to_udp"] == row["received"] == events["produced"] and row["dropped"] == {}
        assert set(events["dropped"]) <= {"no_buffer"}
        assert min(pressed) < 10000, "time to overflow"
        assert memory.most < memory.first + SHARDS * STAGING_MB + 32

        assert port_flood("after", 1600, 2000).wait(30) == 0
        wait_for("what came after it is counted", lambda: counted(count + 1600), 20, 0.05)
        after = all_durable(a, 20)
        assert of(after, "ports", "p0")["nic_imissed"] == port["nic_imissed"]
        assert of(after, "events", "in")["durable"] == events["durable"] + 1600
        records = read_records(a, "events")
        assert len(records) == events["durable"] + 1600
        assert_sources_in_order(records, "over", SOURCES)
        assert_sources_in_order(records, "after", SOURCES)


def test_after_kill_9_in_mid_load_the_gap_record_bounds_what_was_lost(slow):
    fs, a = slow
    count = 1200
    assert flood(a, "before", 500, 5000).wait(30) == 0
    wait_for("the first are durable", lambda: of(ledgers(a), "events", "datagrams")["durable"] == 500, 30, 0.02)
    fs.slow(1500)
    assert flood(a, "mid", count, 30000).wait(30) == 0
    sent = count + 500

    def taken():
        row = of(ledgers(a), "listeners", "datagrams")
        return row["received"] + row["kernel_drops"] == sent
    try:
        wait_for("all of it is taken", taken, 10, 0.005)
    except AssertionError as e:
        raise AssertionError(f"{e}: sent {sent}: {json.dumps(ledgers(a))}") from None
    assert of(ledgers(a), "events", "datagrams")["in_flight"] > 0
    fs.slow(0)
    a.kill_dataplane()
    found = all_durable(a)
    gap = json.loads(wait_for("a gap record", lambda: a.consume("_sluice.gaps"))[-1])
    row, events = of(found, "listeners", "datagrams"), of(found, "events", "datagrams")
    there = len(read_records(a, "datagrams"))
    print(f"sent {sent}, found {there}, gap {gap}, {json.dumps(found)}")
    restart = events["dropped"].pop("restart")
    dropped = row["kernel_drops"] + sum(events["dropped"].values())
    assert gap["in_flight_lost_max"] == restart > 0
    assert sent == events["durable"] + dropped + restart
    assert events["durable"] <= there <= events["durable"] + restart
