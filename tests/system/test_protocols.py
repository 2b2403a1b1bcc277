"""Every ingest protocol from real sockets, every reason for a dead letter or a dropped datagram
provoked n times and found n times, and routing rules. One appliance serves all tests: each looks at
what it added."""
import gzip
import json
import random
import socket
import struct
import time
import zlib

import confluent_kafka
import pytest

from tests.support.appliance import Appliance, wait_for

LISTENERS = [("gelf-udp", "gelf", "udp", "gelf"), ("gelf-tcp", "gelf", "tcp", "gelf"),
             ("json-udp", "json", "udp", "json"), ("json-tcp", "json", "tcp", "json"),
             ("raw-udp", "raw", "udp", "raw"), ("raw-tcp", "raw", "tcp", "raw"),
             ("flows", "netflow", "udp", "flows"),
             ("log-udp", "syslog", "udp", "log"), ("log-tcp", "syslog", "tcp", "log")]
CONFIG = """
shards: 1
kafka: {listeners: [{name: kafka, bind: "127.0.0.1:0"}]}
http: {bind: "127.0.0.1:0"}
memory: {gelf_chunks: 1MiB}
storage: {min_free: 0}
listeners:
""" + "".join(
    f'- {{name: {n}, protocol: {p}, transport: {t}, bind: "127.0.0.1:0", topic: {topic}, '
    f'event_max_bytes: 2000{", time_field: ts" if p == "json" else ""}}}\n'
    for n, p, t, topic in LISTENERS) + """
rules:
- {listener: log-udp, facility: [auth, authpriv], severity: [emerg, alert, crit, err], topic: security, key: host, compression: zstd}
- {facility: local5, source: 192.0.2.0/24, topic: elsewhere}
- {app: "db*", topic: databases, key: source, partitions: 2}
- {listener: gelf-tcp, host: "*.lab", topic: databases, partitions: 2, key: host}
"""


@pytest.fixture(scope="module")
def a(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("protocols"), config=CONFIG) as appliance:
        yield appliance


def ledger(a):
    """{(listener, name): value} of the datagram and event ledgers, drop reasons as drop.x."""
    found = {}
    for kind in ("listeners", "events"):
        for row in a.admin("GET", "/v1/status")[1]["ledgers"][kind]:
            for key, value in row.items():
                if isinstance(value, dict):
                    for reason, n in value.items():
                        found[row["name"], f"{kind}.drop.{reason}"] = n
                elif isinstance(value, int):
                    found[row["name"], f"{kind}.{key}"] = value
    return found


class Added:
    """What the ledgers of one listener gained since this was made."""

    def __init__(self, a, listener):
        self.a, self.listener, self.before = a, listener, ledger(a)

    def __call__(self, key):
        now = ledger(self.a)
        return now[self.listener, key] - self.before[self.listener, key]

    def drops(self, kind):
        now = ledger(self.a)
        gained = {key[1].rpartition(".")[2]: n - self.before.get(key, 0) for key, n in now.items()
                  if key[0] == self.listener and key[1].startswith(f"{kind}.drop.")}
        return {k: v for k, v in gained.items() if v}


class Topic:
    """Reads what a topic gets after this was made."""

    def __init__(self, a, topic, partitions=1):
        self.consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": a.kafka, "group.id": "none", "enable.auto.commit": False,
             "fetch.wait.max.ms": 50})
        at = []
        for p in range(partitions):
            part = confluent_kafka.TopicPartition(topic, p)
            part.offset = self.consumer.get_watermark_offsets(part, timeout=30)[1]
            at.append(part)
        self.consumer.assign(at)
        self.found = []

    def read(self, count):
        def more():
            for m in self.consumer.consume(1000, timeout=0.1):
                assert m.error() is None, m.error()
                headers = {k: v.decode() for k, v in m.headers() or []}
                self.found.append((m.value(), headers, m.key(), m.timestamp()[1]))
            return len(self.found) >= count
        wait_for(f"{count} records, have {len(self.found)}", more)
        assert len(self.found) == count
        return self.found

    def close(self):
        self.consumer.close()


@pytest.fixture
def topics(a):
    made = []

    def make(name, partitions=1):
        made.append(Topic(a, name, partitions))
        return made[-1]
    yield make
    for t in made:
        t.close()


def udp(a, name, *datagrams):
    _, host, port = a.ports()[name]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for d in datagrams:
            s.sendto(d, (host, port))


def tcp(a, name, data):
    _, host, port = a.ports()[name]
    with socket.create_connection((host, port), timeout=30) as s:
        s.sendall(data)


def gelf(i, **fields):
    return json.dumps({"version": "1.1", "host": "h", "short_message": f"m{i}", **fields}).encode()


def chunks(message, size, ident=None):
    parts = [message[i:i + size] for i in range(0, len(message), size)]
    ident = ident or random.randbytes(8)
    return [b"\x1e\x0f" + ident + bytes([i, len(parts)]) + p for i, p in enumerate(parts)]


def reasons(records):
    found = {}
    for _, headers, _, _ in records:
        found[headers["reason"]] = found.get(headers["reason"], 0) + 1
    return found


def test_gelf_over_udp_plain_compressed_and_chunked(a, topics):
    t, added, now = topics("gelf"), Added(a, "gelf-udp"), round(time.time(), 3)
    plain = gelf(1, level=3, timestamp=now, facility="local0", _raw="\x01")
    forms = [plain, gzip.compress(gelf(2)), zlib.compress(gelf(3)), zlib.compress(gelf(4), 0)]
    long = gelf(5, full_message="x" * 1500)
    packed = gzip.compress(gelf(6, full_message="".join(random.choices("abcdef", k=1500))))
    sent = forms + [c for m in (long, packed) for c in random.sample(chunks(m, 100), -(-len(m) // 100))]
    udp(a, "gelf-udp", *sent)
    values = {v: (h, ts) for v, h, _, ts in t.read(6)}
    assert set(values) == {plain, gelf(2), gelf(3), gelf(4), long, gzip.decompress(packed)}
    headers, ts = values[plain]
    assert headers == {"source": "127.0.0.1", "facility": "local0", "severity": "err", "host": "h",
                       "listener": "gelf-udp"}
    assert ts == int(now * 1000 + 0.5)
    wait_for("all are durable", lambda: added("events.durable") == 6)
    assert added("listeners.received") == added("listeners.parsed") == len(sent)
    assert added("listeners.received_bytes") == sum(map(len, sent))
    assert added("listeners.in_reassembly") == 0


def test_gelf_dead_letters_and_bombs_each_counted(a, topics):
    good, dead, added = topics("gelf"), topics("gelf.dlq"), Added(a, "gelf-udp")
    sent = ([b""] * 2 + [b"no json"] * 3 + [b'{"host":"h","short_message":"m"'] * 1 +
            [b'{"short_message":"m"}'] * 4 + [b'{"host":"h"}'] * 5 + [gzip.compress(gelf(1))[:-1]] * 6)
    bomb = gzip.compress(b'{"host":"h","x":"' + b"\0" * 1000000)
    assert len(bomb) < 2000
    udp(a, "gelf-udp", *sent, bomb)
    assert reasons(dead.read(len(sent))) == {
        "empty": 2, "not a JSON object": 4, "no host": 4, "no short_message": 5,
        "damaged compression": 6}
    assert sorted(v for v, *_ in dead.found) == sorted(sent), "dead letters are what came"
    value, headers, _, _ = good.read(1)[0]
    assert len(value) == 2000 and headers["truncated"] == "unknown" and headers["host"] == "h"
    wait_for("all are durable", lambda: added("events.dead_lettered_durable") == len(sent))


def test_each_way_to_lose_a_chunk_is_counted_exactly(a, topics):
    t, added = topics("gelf"), Added(a, "gelf-udp")
    whole = chunks(gelf(9), 40, b"whole---")
    udp(a, "gelf-udp", whole[0], *[whole[0]] * 7, *[whole[1][:11] + b"\x7f" + whole[1][12:]] * 2,
        *whole[1:])
    udp(a, "gelf-udp", *[b"\x1e\x0fshort"] * 3, *[b"\x1e\x0f12345678" + bytes([0, 0])] * 2,
        *[b"\x1e\x0f12345678" + bytes([0, 129])] * 2, *[b"\x1e\x0f12345678" + bytes([4, 4])] * 2)
    assert t.read(1)[0][0] == gelf(9)
    wait_for("the malformed ones", lambda: added.drops("listeners") ==
             {"chunk_duplicate": 7, "chunk_malformed": 11})
    # one source may keep 128 messages waiting: 72 of 200 go; the others' time runs out
    udp(a, "gelf-udp", *[chunks(gelf(1), 40, struct.pack(">Q", i))[0] for i in range(200)])
    wait_for("the limit", lambda: added.drops("listeners").get("reassembly_limit") == 72)
    wait_for("the timeout", lambda: added("listeners.in_reassembly") == 0)
    assert added.drops("listeners") == {"chunk_duplicate": 7, "chunk_malformed": 11,
                                        "reassembly_limit": 72, "reassembly_timeout": 128}
    assert added("listeners.received") == len(whole) + 7 + 2 + 9 + 200


def test_streams_of_gelf_json_and_raw_lines_keep_every_byte(a, topics):
    t = {name: topics(name) for name in ("gelf", "json", "raw")}
    pretty = json.dumps(json.loads(gelf(1)), indent=1).encode()
    tcp(a, "gelf-tcp", pretty + b"\0" + gelf(2) + b"\0\0" + gelf(3) + b"\0")
    assert [v for v, *_ in t["gelf"].read(3)] == [pretty, gelf(2), gelf(3)]
    lines = [b'{"a":"\x01\xff"}', b"12", b'{"ts":"1999-01-01T00:00:00Z"}', b'["\\u0000"]\r']
    tcp(a, "json-tcp", b"\n".join(lines) + b"\n")
    got = t["json"].read(4)
    assert [v for v, *_ in got] == lines
    assert got[2][1] == {"source": "127.0.0.1", "listener": "json-tcp",
                         "event_time": "1999-01-01T00:00:00Z"}
    raw = [b"58 not a count", b"a\0b\x1b[31m", b"\xff\xfe\r", b"x" * 2500, b"last"]
    tcp(a, "raw-tcp", b"\n\n".join(raw))
    got = t["raw"].read(5)
    assert [v for v, *_ in got] == raw[:3] + [b"x" * 2000, b"last"]
    assert got[3][1]["truncated"] == "unknown"


def test_json_and_raw_datagrams_and_what_is_no_json(a, topics):
    t, dead, raw = topics("json"), topics("json.dlq"), topics("raw")
    now = int(time.time())
    udp(a, "json-udp", json.dumps({"ts": now - 5.5}).encode() + b"\n", b"{", b"text", b"", b"[1]")
    got = t.read(2)
    assert got[0][0] == json.dumps({"ts": now - 5.5}).encode() and got[0][3] == now * 1000 - 5500
    assert reasons(dead.read(3)) == {"not JSON": 2, "empty": 1}
    udp(a, "raw-udp", b"\0\x01\n", b"", b"two\nlines")
    assert [v for v, *_ in raw.read(3)] == [b"\0\x01", b"", b"two\nlines"]


def test_netflow_is_kept_whole_and_its_gaps_are_counted(a, topics):
    t, dead, added = topics("flows"), topics("flows.dlq"), Added(a, "flows")
    now = int(time.time())

    def v5(seq, n):
        return struct.pack(">HHIIIIHH", 5, n, 1, now, 0, seq, 0, 0) + bytes(48 * n)

    def v9(seq):
        return struct.pack(">HHIIII", 9, 0, 1, now, seq, 4)
    sent = [v5(100, 10), v5(110, 5), v5(122, 5), v9(1), v9(2), v9(6)]
    bad = [b"\0\7xxxx"] * 2 + [v5(1, 3)[:-1]] * 3 + [b""]
    udp(a, "flows", *sent, *bad)
    got = t.read(len(sent))
    assert [v for v, *_ in got] == sent and {ts for *_, ts in got} == {now * 1000}
    assert reasons(dead.read(len(bad))) == {"NetFlow version": 2, "NetFlow length": 3, "empty": 1}
    assert (added("listeners.netflow_gaps"), added("listeners.netflow_lost")) == (2, 7 + 3)


def test_rules_choose_topic_key_and_compression(a, topics):
    def events_of_rules():
        return [rule["events"] for rule in a.admin("GET", "/v1/status")[1]["rules"]]
    t = {n: topics(n, 2 if n == "databases" else 1) for n in ("log", "security", "databases", "gelf")}
    before = events_of_rules()
    udp(a, "log-udp", b"<34>1 - web1 sshd 1 - - no", b"<86>1 - web1 sshd 1 - - info is for log",
        b"<83>1 - - dbwriter 1 - - security comes first", b"<14>1 - web2 dbread 1 - - data",
        b"<173>1 - x y 1 - - not of that network")
    tcp(a, "log-tcp", b"<34>1 - web1 sshd 1 - - another listener\n<14>1 - web3 db 1 - - data\n")
    tcp(a, "gelf-tcp", gelf(1, host="a.lab") + b"\0" + gelf(2, host="a.labs") + b"\0")

    got = {v: k for v, _, k, _ in t["security"].read(2)}
    assert got == {b"<34>1 - web1 sshd 1 - - no": b"web1",
                   b"<83>1 - - dbwriter 1 - - security comes first": None}
    got = {v: k for v, _, k, _ in t["databases"].read(3)}
    assert got == {b"<14>1 - web2 dbread 1 - - data": b"127.0.0.1",
                   b"<14>1 - web3 db 1 - - data": b"127.0.0.1", gelf(1, host="a.lab"): b"a.lab"}
    assert len(t["log"].read(3)) == 3 and len(t["gelf"].read(1)) == 1
    assert [n - was for n, was in zip(events_of_rules(), before)] == [2, 0, 2, 1]
    assert a.metrics()['sluice_rule_events_total{shard="0",rule="2"}'] == events_of_rules()[2]
    assert "zstd" in a.ctl("topic", "describe", "security").stdout
    status = a.ctl("status").stdout
    assert "listener=log-udp, facility=auth authpriv, severity=emerg alert crit err" in status
    assert "host=*.lab" in status
    p = a.ctl("topic", "delete", "security", check=False)
    assert p.returncode != 0 and "routing rule" in p.stdout + p.stderr
