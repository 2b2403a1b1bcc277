"""The order unit, (listener, source address): 64 sources, each from 100 source ports, 5 % of the
datagrams in fragments, numbered, into 4 shards: each source's numbers strictly increase in one
partition, whatever brought them."""
import json
import os
import subprocess
import sysconfig
import tempfile
import time

import pytest
from appliance import Appliance, need, wait_for
from test_port import UDPFLOOD, assert_sources_in_order, ledgers, read_records, run, veth

assert veth  # a fixture
SHARDS, SOURCES, PORTS, EVERY, LONG = 4, 64, 100, 20, 2500
COUNT = SOURCES * PORTS * 8  # a burst of 8 from each port of each source
RATE = 25000


def by_port(v, device):
    return f"""
ports: [{{name: p0, device: '{device}', addresses: [{v.port_ip}/24]}}]
listeners:
  - {{name: in, port: p0, bind: '{v.port_ip}:514', topic: syslog, partitions: 4, event_max_bytes: 4KiB}}
"""


def af_packet(v):
    return by_port(v, f"net_af_packet0,iface={v.near},qpairs={SHARDS},blocksz=65536,framesz=2048,"
                      "framecnt=8192")


def af_xdp(v):
    """One queue: a veth spreads by flow, not by source. The shard that polls it hands over."""
    run("ethtool", "-K", v.near, "gro", "off")
    return by_port(v, f"net_af_xdp0,iface={v.near},start_queue=0,queue_count=1,busy_budget=0,force_copy=1")


# What a card does that hashes on the source address: the sender's queue, which is the receiver's on a
# veth, by the last byte of the source address (as in udpflood, whole or fragment).
BY_SOURCE = """
#include <linux/bpf.h>
__attribute__((section("classifier"), used)) int by_source(struct __sk_buff *skb)
{
    static long (*load)(const struct __sk_buff *, __u32, void *, __u32) = (void *)26;
    __u8 source[4];
    if (load(skb, 14 + 12, source, 4) == 0)
        skb->queue_mapping = 1 + (source[3] & 3);
    return 0;
}
char gpl[] __attribute__((section("license"), used)) = "GPL";
"""


def af_xdp_queues(v):
    """Four queues, as `ethtool -N eth1 rx-flow-hash udp4 s` would feed them. Each shard polls one."""
    need("clang")
    need("tc")
    v.again(SHARDS)
    run("ethtool", "-K", v.near, "gro", "off")
    with tempfile.TemporaryDirectory() as d:
        program = os.path.join(d, "by_source.o")
        run("clang", "-O2", "-target", "bpf", f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}",
            "-c", "-x", "c", "-", "-o", program, input=BY_SOURCE)
        v.ns_run("tc", "qdisc", "add", "dev", v.far, "clsact")
        v.ns_run("tc", "filter", "add", "dev", v.far, "egress", "bpf", "da", "obj", program, "sec", "classifier")
    return by_port(v, f"net_af_xdp0,iface={v.near},start_queue=0,queue_count={SHARDS},busy_budget=0,force_copy=1")


def kernel_sockets(v):
    run("ip", "addr", "add", f"{v.port_ip}/24", "dev", v.near)
    return f"""
listeners:
  - {{name: in, bind: '{v.port_ip}:514', topic: syslog, partitions: 4, event_max_bytes: 4KiB, rcvbuf: 64MiB}}
"""


@pytest.mark.parametrize("source", [af_packet, af_xdp, af_xdp_queues, kernel_sockets])
def test_sources_keep_their_order(veth, tmp_path, source):
    text = f"""
shards: {SHARDS}
memory: {{mbufs: 8192}}
kafka: {{listeners: [{{name: kafka, bind: '127.0.0.1:0'}}]}}
http: {{bind: '127.0.0.1:0'}}
""" + source(veth)
    try:
        with Appliance(tmp_path, config=text) as a:
            # resolved once, so that no datagram waits for it
            assert " 0% packet loss" in veth.ns_run("ping", "-c", "2", "-i", "0.2", "-W", "5", veth.port_ip)
            told = json.loads(veth.ns_run(UDPFLOOD, f"{veth.port_ip}:514", veth.first_source, str(SOURCES),
                                          str(PORTS), str(COUNT), str(RATE), "order", "0", str(EVERY),
                                          str(LONG)))
            assert told["sent"] == COUNT and told["long"] == COUNT // EVERY

            # All of it arrives, or, on a busy machine, what the rings hold (other tests count what is
            # lost to the last one, but a veth and AF_XDP do not): until nothing comes any more.
            last = [0, time.monotonic()]

            def settled():
                found = ledgers(a)
                row = found["listeners"][0]
                if row["received"] != last[0]:
                    last[:] = [row["received"], time.monotonic()]
                return (row["received"] == COUNT or time.monotonic() > last[1] + 5) and \
                    found["events"][0]["in_flight"] == 0 and found
            try:
                found = wait_for("what was sent is durable", settled, 60, 0.1)
            except AssertionError as e:
                raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
            print(told, json.dumps(found))
            assert COUNT / 2 < found["listeners"][0]["received"] <= COUNT
            if source is af_xdp_queues:
                metrics = a.metrics()
                taken = [metrics[f'sluice_stage_items_total{{shard="{s}",stage="port_rx"}}'] for s in range(SHARDS)]
                print(f"frames by queue: {taken}")
                assert min(taken) > sum(taken) / SHARDS / 4, "a queue was not used"
            records = read_records(a, "syslog")
            assert len(records) == found["events"][0]["durable"]
            used = assert_sources_in_order(records, "order", SOURCES)
            assert len(used) == 4, "the sources are not spread over the partitions"
            assert sum(len(value) == LONG for _, _, value in records) > len(records) // EVERY // 2
    finally:
        subprocess.run(["ip", "link", "set", "dev", veth.near, "xdp", "off"], timeout=30, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
