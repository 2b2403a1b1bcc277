"""The port as a host among others: a real kernel on the other end of the cable resolves it, pings
it, and sends it datagrams by both IP versions, in jumbo frames, whole and in fragments. In a VLAN
frames are made by hand: not every kernel has VLAN interfaces."""
import json
import os
import subprocess
import sys

from appliance import Appliance, wait_for
from test_loss import PORT_IP
from test_port import config, ledgers, read_records, veth

assert veth  # a fixture
MTU = 9000


def test_a_port_is_a_host_of_both_ip_versions_with_jumbo_frames(veth, tmp_path):
    near4 = [veth.port_ip, f"{veth.net}.3"]
    near6 = ["fd5c:1::1", "fd5c:1::ab:1"]
    for where, dev in (((), veth.near), (("netns", veth.ns), veth.far)):
        run = veth.ns_run if where else lambda *cmd: subprocess.run(cmd, check=True, timeout=30)
        run("ip", "link", "set", dev, "mtu", str(MTU))
    veth.ns_run("sysctl", "-qw", f"net.ipv6.conf.{veth.far}.disable_ipv6=0")
    veth.ns_run("ip", "addr", "add", "fd5c:1::2/64", "dev", veth.far, "nodad")
    device = (f"net_af_packet0,iface={veth.near},qpairs=2,blocksz=36864,framesz=9216,framecnt=2048")
    addresses = ", ".join([f"{ip}/24" for ip in near4] + [f"'{ip}/64'" for ip in near6])
    text = f"""
shards: 2
memory: {{mbufs: 8192}}
kafka: {{listeners: [{{name: kafka, bind: '127.0.0.1:0'}}]}}
http: {{bind: '127.0.0.1:0'}}
ports:
  - {{name: p0, device: '{device}', addresses: [{addresses}], mtu: {MTU}}}
listeners:
  - {{name: all, port: p0, bind: '*:514', topic: all, partitions: 2, event_max_bytes: 64KiB}}
"""
    with Appliance(tmp_path, config=text) as a:
        for ip in near4 + near6:
            out = veth.ns_run("ping", "-c", "2", "-i", "0.1", "-W", "5", "-s", "8000", ip)
            assert " 0% packet loss" in out, out
        # one jumbo frame, or three, or (small ones) a hundred
        script = ("import socket\n"
                  f"for ip in {near4 + near6!r}:\n"
                  "    f = socket.AF_INET6 if ':' in ip else socket.AF_INET\n"
                  "    s = socket.socket(f, socket.SOCK_DGRAM)\n"
                  "    for n in [8900, 20000] + [200] * 100:\n"
                  "        d = b'<14>1 - h a - - - to=%s ' % ip.encode()\n"
                  "        s.sendto(d + b'y' * (n - len(d)), (ip, 514))\n")
        veth.ns_run("python3", "-c", script)
        sent = 4 * 102

        def all_there():
            found = ledgers(a)
            return found["listeners"][0]["received"] == sent and \
                found["events"][0]["in_flight"] == 0 and found
        try:
            found = wait_for("every datagram has come", all_there, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        port = found["ports"][0]
        assert port["to_udp"] == 4 * (101 + 3)
        assert port["handled"] >= 8 + 2 + 2  # echo requests, ARP, neighbour solicitations
        assert port["nic_imissed"] == 0
        values = [v for _, _, v in read_records(a, "all")]
        for ip in near4 + near6:
            mine = [v for v in values if f"to={ip} " in v]
            assert sorted(len(v) for v in mine) == [200] * 100 + [8900, 20000], ip
        # the cable is pulled and put back: counted, and every address announced again
        assert port["link_up"] == 1
        changes = port["link_changes"]
        sniffer = ("import socket, struct, sys\n"
                   "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n"
                   f"s.bind(('{veth.far}', 0))\n"
                   f"want = {{socket.inet_aton(x) for x in {near4!r}}} | "
                   f"{{socket.inet_pton(socket.AF_INET6, x) for x in {near6!r}}}\n"
                   "s.settimeout(20)\n"
                   "print('ready', flush=True)\n"
                   "while want:\n"
                   "    f = s.recv(2048)\n"
                   "    t = f[12:14]\n"
                   "    if t == b'\\x08\\x06' and f[28:32] == f[38:42]: want.discard(f[28:32])\n"
                   "    if t == b'\\x86\\xdd' and f[54] == 136: want.discard(f[62:78])\n")
        p = subprocess.Popen(["ip", "netns", "exec", veth.ns, "python3", "-c", sniffer],
                             stdout=subprocess.PIPE)
        try:
            assert p.stdout.readline() == b"ready\n"
            subprocess.run(["ip", "link", "set", veth.near, "down"], check=True, timeout=30)
            wait_for("link down is seen", lambda: ledgers(a)["ports"][0]["link_up"] == 0, 30, 0.1)
            subprocess.run(["ip", "link", "set", veth.near, "up"], check=True, timeout=30)
            wait_for("link up is seen", lambda: ledgers(a)["ports"][0]["link_up"] == 1, 30, 0.1)
            assert p.wait(30) == 0
        finally:
            p.kill()
            p.wait(10)
        assert ledgers(a)["ports"][0]["link_changes"] == changes + 2
        status = a.ctl("status").stdout
        assert any(line.split()[0] == "p0" and line.split()[-2:] == ["up", str(changes + 2)]
                   for line in status.splitlines() if line.strip()), status
        for ip in (near4[0], near6[0]):
            assert " 0% packet loss" in veth.ns_run("ping", "-c", "1", "-W", "5", ip)


# Sends tagged and untagged frames by a raw socket and waits for answers that carry the tag.
VLAN_PEER = """
import socket, struct, sys
from test_loss import arp, icmp, good
far, vlan, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 16
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
s.bind((far, 0))
s.settimeout(20)
tag = lambda f, v: f[:12] + struct.pack('!HH', 0x8100, v) + f[12:]
for v in [vlan, vlan + 1, 0]:
    for i in range(count):
        s.send(tag(good(i), v))
for f in (arp(1), icmp()):
    s.send(tag(f, 0xe000 | vlan))  # with a priority
want = {b'\\x08\\x06', b'\\x08\\0'}
while want:
    f, anc, _, _ = s.recvmsg(2048, 256)
    for _, _, d in anc:
        status, length, snaplen, mac, net, tci, tpid = struct.unpack('IIIHHHH', d)
        if status & TP_STATUS_VLAN_VALID and tci == vlan and f[:6] == b'\\2\\0\\0\\0\\0\\2':
            want.discard(f[12:14])
"""


def test_a_port_in_a_vlan_serves_that_vlan(veth, tmp_path):
    device = f"net_af_packet0,iface={veth.near},qpairs=1,blocksz=65536,framesz=2048,framecnt=512"
    text = config(1, device, PORT_IP).replace("  - name: p0", "  - name: p0\n    vlan: 7")
    with Appliance(tmp_path, config=text) as a:
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        veth.ns_run(sys.executable, "-c", VLAN_PEER, veth.far, "7", "9", env=env)

        def counted():
            port = ledgers(a)["ports"][0]
            return port["to_udp"] == 9 and port["dropped"].get("vlan") == 18 and port
        try:
            port = wait_for("tagged frames are taken, others counted", counted, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        assert port["handled"] == 2
