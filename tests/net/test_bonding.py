"""Two cables as one port: net_bonding in active-backup mode over two net_af_packet devices."""
import json
import re

from appliance import Appliance, wait_for
from test_port import ledgers, read_records, run, veth

assert veth  # a fixture


def test_a_bond_of_two_cables_is_a_port(veth, tmp_path):
    other, other_far = veth.near.replace("sln", "slm"), veth.far.replace("slf", "slg")
    run("ip", "link", "add", other, "type", "veth", "peer", "name", other_far)
    try:
        run("ip", "link", "set", other_far, "netns", veth.ns)
        run("ip", "link", "set", other, "up")
        veth.ns_run("ip", "link", "set", other_far, "up")
        rings = "blocksz=65536,framesz=2048,framecnt=2048"
        text = f"""
shards: 1
memory: {{mbufs: 8192}}
eal_args: '--vdev=net_af_packet0,iface={veth.near},{rings} --vdev=net_af_packet1,iface={other},{rings}'
kafka: {{listeners: [{{name: kafka, bind: '127.0.0.1:0'}}]}}
http: {{bind: '127.0.0.1:0'}}
ports:
  - name: p0
    device: net_bonding0,mode=1,slave=net_af_packet0,slave=net_af_packet1,primary=net_af_packet0
    addresses: [{veth.port_ip}/24]
listeners:
  - {{name: in, port: p0, bind: '*:514', topic: syslog}}
"""
        with Appliance(tmp_path, config=text) as a:
            assert " 0% packet loss" in veth.ns_run("ping", "-c", "3", "-i", "0.2", "-W", "5", veth.port_ip)
            veth.ns_run("python3", "-c", "import socket\n"
                        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                        "for i in range(200):\n"
                        f"    s.sendto(b'<14>1 - h a - - - n=%d ' % i, ('{veth.port_ip}', 514))\n")

            def all_there():
                found = ledgers(a)
                return found["listeners"][0]["received"] == 200 and found["events"][0]["in_flight"] == 0 and \
                    found["ports"][0]["link_up"] == 1 and found
            try:
                port = wait_for("every datagram has come, the link is up", all_there, 30, 0.1)["ports"][0]
            except AssertionError as e:
                raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
            assert port["to_udp"] == 200 and port["nic_imissed"] == 0
            got = [int(re.search(r"n=(\d+) ", value).group(1)) for _, _, value in sorted(read_records(a, "syslog"))]
            assert got == list(range(200))
    finally:
        run("ip", "link", "del", other)
