"""Policing: a flooding source is held to its rule and counted to the datagram, the others are not
touched; sluicectl names it. Over kernel sockets, and over a port fed by a file."""
import json
import socket
import time

from appliance import Appliance, need, wait_for
from test_loss import losses
from test_port import ledgers, read_records, udp_frame, write_pcap

# A bucket gets one more datagram a second: `since` bounds how many that can have been.
RULES = """
policing:
  rules:
    - {from: 198.51.100.0/24, rate: 1, burst: 40}
    - {from: 198.51.100.7/32, rate: 1, burst: 100}
    - {from: 203.0.113.0/24, rate: 1, burst: 30, shared: true}
"""


def test_a_flooding_source_of_a_port_is_held_to_its_rule(tmp_path):
    need("kcat")
    sent = {"198.51.100.1": 35, "198.51.100.2": 300, "198.51.100.7": 300, "192.0.2.1": 500,
            "203.0.113.1": 200, "203.0.113.2": 200}
    frames = []
    for i in range(max(sent.values())):
        frames += [udp_frame(source, 514, f"<13>1 - h a - - - from={source} no={i} ".encode())
                   for source, count in sent.items() if i < count]
    path = tmp_path / "frames.pcap"
    write_pcap(path, frames)
    config = f"""
shards: 2
memory: {{mbufs: 8192}}
kafka: {{listeners: [{{name: kafka, bind: '127.0.0.1:0'}}]}}
http: {{bind: '127.0.0.1:0'}}
ports: [{{name: p0, device: 'net_pcap0,rx_pcap={path}', addresses: [198.18.0.1/24]}}]
listeners: [{{name: in, port: p0, bind: '198.18.0.1:514', topic: syslog, partitions: 2}}]
""" + RULES
    since = time.monotonic()
    with Appliance(tmp_path, config=config) as a:
        def done():
            found = ledgers(a)
            row = found["listeners"][0]
            return row["received"] == len(frames) and found["events"][0]["in_flight"] == 0 and row
        try:
            row = wait_for("every datagram is counted", done, 30, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(ledgers(a))}") from None
        passed = {"198.51.100.1": 35, "198.51.100.2": 40, "198.51.100.7": 100, "192.0.2.1": 500}
        policed = 260 + 200 + 400 - 30
        more = int(time.monotonic() - since) + 1
        assert policed - 4 * more <= row["dropped"]["policed"] <= policed
        count = dict.fromkeys(sent, 0)
        for _, _, value in read_records(a, "syslog"):
            count[value.split("from=")[1].split()[0]] += 1
        print(count, row)
        for source, n in passed.items():
            assert n <= count[source] <= n + (more if n != sent[source] else 0), (source, count)
        assert 30 <= count["203.0.113.1"] + count["203.0.113.2"] <= 30 + more
        assert sum(sent.values()) - sum(count.values()) == row["dropped"]["policed"]
        assert losses(a)[("listeners", "in")] == {"policed": row["dropped"]["policed"]}

        def listed():
            found = ledgers(a)["policed"]
            return sum(s["refused"] for s in found) == row["dropped"]["policed"] and found
        found = wait_for("the sources are listed", listed, 10, 0.1)
        assert {s["source"]: (s["passed"], s["refused"]) for s in found} == \
            {source: (count[source], sent[source] - count[source])
             for source in sent if source != "192.0.2.1"}
        assert [s["refused"] for s in found] == sorted((s["refused"] for s in found), reverse=True)
        text = a.ctl("loss").stdout
        line = next(x for x in text.splitlines() if x.split()[:1] == [found[0]["source"]])
        assert line.split() == [found[0]["source"], str(found[0]["refused"]), str(found[0]["passed"])]


def test_a_stream_loses_nothing_to_a_rule_for_its_source(tmp_path):
    """Streams are held back by their window while the log has no room, never policed: every line is kept."""
    need("kcat")
    sets = ["policing.rules[0].from=127.0.0.0/8", "policing.rules[0].rate=1", "policing.rules[0].burst=20"]
    lines = 5000
    with Appliance(tmp_path, sets=sets) as a:
        name, (_, host, port) = next((n, p) for n, p in a.ports().items() if p[0] == "tcp" and n != "kafka")
        with socket.create_connection((host, port), timeout=60) as s:
            s.sendall(b"".join(b"<13>1 - h a - - - no=%d \n" % i for i in range(lines)))

        def durable():
            found = ledgers(a)
            row = next(x for x in found["events"] if x["name"] == name)
            return row["durable"] == lines and found
        found = wait_for("every line is durable", durable, 30, 0.1)
        row = next(x for x in found["listeners"] if x["name"] == name)
        assert row["received"] == row["parsed"] == lines and row["dropped"] == {}
        assert found["policed"] == []


def test_kernel_sockets_are_policed_too(tmp_path):
    sets = ["policing.rules[0].from=127.0.0.0/8", "policing.rules[0].rate=1",
            "policing.rules[0].burst=20"]
    since = time.monotonic()
    with Appliance(tmp_path, sets=sets) as a:
        host, port = next((h, p) for t, h, p in a.ports().values() if t == "udp")
        for source in ("127.0.0.1", "127.0.0.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind((source, 0))
                for i in range(100):
                    s.sendto(f"<13>1 - h a - - - no={i} ".encode(), (host, port))

        def counted():
            row = ledgers(a)["listeners"][0]
            return row["received"] == 200 and row
        row = wait_for("every datagram is counted", counted, 30, 0.1)
        more = int(time.monotonic() - since) + 1
        assert 160 - 2 * more <= row["dropped"]["policed"] <= 160
