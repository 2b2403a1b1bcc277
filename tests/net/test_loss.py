"""The loss ledgers to the last frame: every reason is provoked a known number of times, all at once,
and `sluicectl loss` finds exactly that number. Reasons that need no device have unit tests
(test_ingest.c, test_sock_dgram.c)."""
import json
import os
import signal
import socket
import struct

from appliance import Appliance, need, wait_for
from test_port import checksum, config, ledgers, udp_frame, veth, write_pcap

assert veth  # a fixture
PORT_IP = "198.18.0.1"
BROADCAST, PEER = b"\xff" * 6, b"\2\0\0\0\0\2"


def ip_frame(payload, proto=17, src="198.51.100.9", dst=PORT_IP, flags=0, ident=7):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, flags, 64, proto, 0,
                     socket.inet_aton(src), socket.inet_aton(dst))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return BROADCAST + PEER + b"\x08\0" + ip + payload


def good(i=0):
    return udp_frame("198.51.100.9", 514, f"<13>1 - h a - - - frame {i} ".encode())


def changed(frame, at, value):
    return frame[:at] + value + frame[at + len(value):]


def arp(op, hardware=1):
    """A request or reply for our address."""
    return BROADCAST + PEER + b"\x08\x06" + struct.pack(
        "!HHBBH6s4s6s4s", hardware, 0x800, 6, 4, op, PEER, socket.inet_aton("198.18.0.9"), b"\0" * 6,
        socket.inet_aton(PORT_IP))


def icmp(broken=False):
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"ping"
    return ip_frame(changed(echo, 2, struct.pack("!H", checksum(echo) ^ broken)), proto=1)


def fragment(pos, more, length, ident):
    return ip_frame(b"x" * length, flags=(0x2000 if more else 0) | pos // 8, ident=ident)


# reason -> (how often, frame number i). The numbers differ, so that none can pass for another.
PORT_REASONS = {
    "short_frame": (2, lambda i: good()[:14 + 12 + i]),
    "not_for_us": (3, lambda i: [changed(good(), 0, b"\4"), udp_frame("198.51.100.9", 514, b"x",
                                                                     dst="198.18.0.77")][i % 2]),
    "vlan": (4, lambda i: good()[:12] + struct.pack("!HH", 0x8100, 5 + i) + good()[12:]),
    "ethertype": (5, lambda i: changed(good(), 12, b"\x88\xcc")),
    "ip_header": (6, lambda i: changed(good(), 14, b"\x44") if i % 2 else changed(good(), 16, b"\xff")),
    "ip_checksum": (7, lambda i: changed(good(), 24, b"\0\1")),
    "ip_proto": (8, lambda i: ip_frame(b"tcp?" * 5, proto=6)),
    "udp_header": (9, lambda i: ip_frame(struct.pack("!HHHH", 1, 514, 7 if i % 2 else 99, 0))),
    "udp_checksum": (10, lambda i: good()[:-1] + b"?"),
    "udp_port": (11, lambda i: udp_frame("198.51.100.9", 515 + i, b"nobody listens")),
    # empty, not a multiple of 8, longer than a datagram can be, the same twice
    "frag_limit": (12, lambda i: [fragment(0, True, 0, 100 + i), fragment(0, True, 12, 100 + i),
                                  fragment(0x1fff * 8, False, 64, 100 + i)][i % 3]),
    "frag_timeout": (13, lambda i: fragment(0, True, 800, 200 + i)),
    "arp": (14, lambda i: [arp(3), arp(1, hardware=6)][i % 2]),
    "icmp": (15, lambda i: icmp(broken=True)),
    "too_long": (16, lambda i: ip_frame(b"x" * 4000)),
}


def pcap_config(tmp_path, frames):
    path = tmp_path / "frames.pcap"
    write_pcap(path, frames)
    return config(1, f"net_pcap0,rx_pcap={path}", PORT_IP)


def losses(a):
    """{name: {reason: count}} of `sluicectl loss --json`, device and kernel included."""
    found = json.loads(a.ctl("--json", "loss").stdout)
    return {(kind, row["name"]): {
        **{k: n for k, n in {**row.get("nic", {}), **row["dropped"]}.items() if n},
        **({"kernel_drops": row["kernel_drops"]} if row.get("kernel_drops") else {})}
        for kind in ("ports", "listeners", "events") for row in found[kind]}


def test_every_reason_of_a_port_is_counted_to_the_frame(tmp_path):
    frames = [good(i) for i in range(20)]
    for count, make in PORT_REASONS.values():
        frames += [make(i) for i in range(count)]
    frames += [arp(1), arp(2), icmp()] + [good(i) for i in range(20)]
    want = {reason: count for reason, (count, _) in PORT_REASONS.items()}
    a = Appliance(tmp_path, config=pcap_config(tmp_path, frames), start=False)
    with a.start():
        def counted():
            port = ledgers(a)["ports"][0]
            return port["seen"] == len(frames) and port["in_reassembly"] == 0 and port
        try:  # fragments wait five seconds for the others
            port = wait_for("every frame is counted", counted, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {ledgers(a)}") from None
        assert port["dropped"] == want
        assert port["to_udp"] == 40
        assert port["handled"] == 3
        assert port["link_up"] == 1 and port["link_changes"] == 1
        wait_for("its events are durable", lambda: ledgers(a)["events"][0]["in_flight"] == 0)
        assert losses(a)[("ports", "p0")] == want
        text = a.ctl("loss", "--watch", "--interval", "1", "--count", "2").stdout
        assert text.count(f"lost {sum(want.values())}") == 2, text
        assert "since the last look 0" in text, text
        assert "the ledgers balance" in text, text
        for reason, count in want.items():
            line = next(x for x in text.splitlines() if f" {reason} " in x)
            assert line.split()[:4] == ["p0", "frames", reason, str(count)], line
    # held in reassembly when the dataplane stops: a drop that the next start knows of
    a.config = pcap_config(tmp_path, [fragment(0, True, 800, 300 + i) for i in range(17)])
    with a.start():
        wait_for("fragments are held", lambda: ledgers(a)["ports"][0]["in_reassembly"] == 17)
    a.config = pcap_config(tmp_path, [good()])
    with a.start():
        assert ledgers(a)["ports"][0]["dropped"] == {**want, "restart": 17}


def test_what_the_device_missed_is_counted_on_its_queue(veth, tmp_path):
    """The dataplane stands still, its rings run over: sent = seen + missed, on each queue."""
    rings = f"net_af_packet0,iface={veth.near},qpairs=2,blocksz=65536,framesz=2048,framecnt=64"
    # as many descriptors as the rings have: the driver takes what is smaller
    with Appliance(tmp_path, config=config(2, rings, veth.port_ip)) as a:
        veth.ns_run("ping", "-c", "1", "-W", "5", veth.port_ip)
        before = ledgers(a)["ports"][0]
        assert before["nic_imissed"] == 0
        pid = a.dataplane_pid()
        sent = 1000
        try:
            stop_still(pid)
            script = ("import socket\n"
                      f"for i in range({sent}):\n"
                      "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                      f"    s.bind(('{veth.net}.%d' % (100 + i % 64), 0))\n"
                      f"    s.sendto(b'<13>1 - h a - - - n=%d ' % i, ('{veth.port_ip}', 514))\n"
                      "    s.close()\n")
            veth.ns_run("python3", "-c", script)
        finally:
            os.kill(pid, signal.SIGCONT)

        def counted():
            port = ledgers(a)["ports"][0]
            return port["to_udp"] - before["to_udp"] + port["nic_imissed"] >= sent and port
        try:
            port = wait_for("what was sent is counted", counted, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        assert port["to_udp"] - before["to_udp"] + port["nic_imissed"] == sent
        missed = [q["imissed"] for q in port["queues"]]
        print(f"missed by queue: {missed}")
        assert len(missed) == 2 and min(missed) > 0
        assert sum(missed) == port["nic_imissed"]
        assert losses(a)[("ports", "p0")]["imissed"] == port["nic_imissed"]


def stop_still(pid):
    """SIGSTOP; returns when every thread stands still."""
    os.kill(pid, signal.SIGSTOP)

    def still():
        states = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat") as f:
                states.append(f.read().rpartition(")")[2].split()[0])
        return set(states) == {"T"}
    wait_for("the dataplane stands still", still, 10)


def udp_drops_of_kernel(port):
    """What the kernel counted for the sockets on this port: the last column of /proc/net/udp."""
    with open("/proc/net/udp") as f:
        return sum(int(line.split()[-1]) for line in list(f)[1:]
                   if int(line.split()[1].rpartition(":")[2], 16) == port)


def test_what_the_kernel_dropped_is_counted_to_the_datagram(tmp_path):
    need("kcat")
    with Appliance(tmp_path, sets=["listeners[0].rcvbuf=8KiB"]) as a:
        name, (_, host, port) = next((n, p) for n, p in a.ports().items() if "udp" in n)
        pid = a.dataplane_pid()
        sent = 300
        try:
            stop_still(pid)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                for i in range(sent):
                    s.sendto(b"<13>1 - h a - - - n=%d " % i + b"x" * 500, (host, port))
            dropped = udp_drops_of_kernel(port)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert 0 < dropped < sent

        def counted():
            row = ledgers(a)["listeners"][0]
            return row["received"] + row["kernel_drops"] == sent and row
        row = wait_for("what was sent is counted", counted, 30, 0.05)
        assert row["kernel_drops"] == dropped
        assert losses(a)[("listeners", name)]["kernel_drops"] == dropped


def test_chunks_held_when_the_dataplane_dies_are_counted(tmp_path):
    """Of messages that lack a chunk each: what is held at kill -9 is a drop that the next start knows of."""
    held = {"one": 7, "other": 12}
    listeners = [x for i, name in enumerate(held) for x in (
        f"listeners[{i}].name={name}", f"listeners[{i}].protocol=gelf", f"listeners[{i}].bind=127.0.0.1:0",
        f"listeners[{i}].transport=udp", f"listeners[{i}].topic={name}")]
    with Appliance(tmp_path, sets=listeners) as a:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for name, count in held.items():
                for i in range(count):
                    s.sendto(b"\x1e\x0fmessage%c%c%cchunk" % (i // 3, i % 3, 4), a.ports()[name][1:])

        def all_held():
            return {row["name"]: row["in_reassembly"] for row in ledgers(a)["listeners"]} == held
        try:
            wait_for("all chunks are held", all_held, 4, 0.005)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        a.kill_dataplane()

        def told():
            return {row["name"]: row["dropped"] for row in ledgers(a)["listeners"]} \
                == {name: {"restart": count} for name, count in held.items()}
        try:
            wait_for("they are counted as lost", told, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        assert all(row["received"] == held[row["name"]] and row["in_reassembly"] == 0
                   for row in ledgers(a)["listeners"])
