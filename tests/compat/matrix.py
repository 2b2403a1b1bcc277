"""The compatibility matrix: its rows (client x version), its columns (capabilities), and how a cell is
proven. What a client writes is read back by a client of another library, and the other way round."""
import collections
import dataclasses
import os
import struct
import time
import traceback

import clients
from appliance import wait_for

PARTITIONS = 6
RECORDS = 20
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
STREAM = 100_000  # records of an idempotent producer through a restart, if nobody ends it
STEP = 30  # of them are seen before the restart, and again after it


@dataclasses.dataclass
class Client:
    name: str
    comes_from: str
    source: str  # of clients.SOURCES; None: Debian's packages
    driver: str
    library: str  # two rows of one library do not check each other
    never: dict = dataclasses.field(default_factory=dict)  # capability: what the client lacks


OLD_PROTOCOL = "this version speaks the classic group protocol only"
CLIENTS = [
    Client("kcat", "Debian", None, "kcat", "librdkafka",
           {"admin": "kcat administers nothing", "consumer": OLD_PROTOCOL, "transactions": "kcat has no transactions",
            "restart": "kcat ends itself when its only broker is away"}),
    Client("librdkafka (confluent-kafka)", "Debian", None, "confluent", "librdkafka",
           {"consumer": OLD_PROTOCOL}),
    Client("kafka-python 2", "Debian", None, "kafka-python", "kafka-python",
           {"static": "kafka-python 2 has no static members", "consumer": OLD_PROTOCOL,
            "transactions": "kafka-python 2 has no transactions",
            "restart": "kafka-python 2 has no idempotent producer"}),
    Client("confluent-kafka", "PyPI", "venv", "confluent", "librdkafka"),
    Client("kafka-python", "PyPI", "venv", "kafka-python", "kafka-python", {"consumer": OLD_PROTOCOL}),
    Client("kafkajs", "npm", "node", "kafkajs", "kafkajs",
           {"static": "kafkajs has no static members", "consumer": OLD_PROTOCOL}),
    Client("@platformatic/kafka", "npm", "node", "platformatic", "platformatic"),
    Client("franz-go", "Go", "go", "franz-go", "franz-go"),
    Client("sarama", "Go", "go", "sarama", "sarama", {"consumer": OLD_PROTOCOL}),
    Client("kafka-clients 3", "Maven", "java_3", "java", "java"),
    Client("kafka-clients 4", "Maven", "java_4", "java", "java"),
]
# The first of another library, and not of the same kind of weakness, checks a row.
CHECKERS = ["kafka-clients 4", "franz-go", "librdkafka (confluent-kafka)", "kafka-python 2"]

CAPABILITIES = {
    **{codec: f"produce {codec}" for codec in CODECS},
    "beginning": "consume from the beginning", "end": "from the end", "time": "from a timestamp",
    "killed": "group: a member is killed", "joins": "group: a member joins",
    "resume": "commit and resume", "static": "static member bounce",
    "consumer": "group of the new protocol (KIP-848)", "transactions": "transactions",
    "admin": "create, alter, describe, delete", "restart": "idempotent through a restart",
}


class Setting:
    """What a cell works with: the appliance, the row's own driver, the checker's driver."""

    def __init__(self, appliance, client, me, checker_row, checker):
        self.appliance, self.client, self.me = appliance, client, me
        self.checker_row, self.checker = checker_row, checker
        self.tag = "".join(c if c.isalnum() else "-" for c in client.name).strip("-")

    def topic(self, what, partitions):
        name = f"{self.tag}-{what}"
        self.appliance.ctl("topic", "create", name, "--partitions", str(partitions))
        return name

    def another(self):
        """A second process of the row's client."""
        return clients.Driver(self.client.name, self.client.source, self.client.driver,
                              self.appliance.kafka)


def by_partition(records, fields):
    """What came from each partition, in the order seen."""
    found = collections.defaultdict(list)
    for r in records:
        found[r["p"]].append({f: r[f] for f in fields})
    return dict(found)


def batch_codecs(appliance, topic, partition):
    """The codecs of a partition's batches in its segment files."""
    folder = os.path.join(appliance.dir, "log", f"{topic}-{partition}")
    found = set()
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".log")):
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
        at = 0
        while at + 61 <= len(data):
            length, = struct.unpack_from(">i", data, at + 8)
            if length <= 0 or data[at + 16] != 2:
                break
            found.add(CODECS[struct.unpack_from(">h", data, at + 21)[0] & 7])
            at += 12 + length
    return found


def produce(s, codec):
    """Every acks, each to a partition of its own, with keys and headers; then idempotent."""
    topic = s.topic(codec, 4)
    sent = []
    for p, (acks, idempotent) in enumerate([(0, False), (1, False), (-1, False), (-1, True)]):
        records = [{"p": p, "k": f"key-{i}", "v": f"{codec} {acks} {i} " + "x" * 200,
                    "h": [["codec", codec], ["acks", str(acks)]]} for i in range(RECORDS)]
        s.me.call("produce", topic=topic, codec=codec, acks=acks, idempotent=idempotent,
                  records=records)
        sent += records
    seen = s.checker.call("read", topic=topic, partitions=[0, 1, 2, 3], count=len(sent),
                          **{"from": "beginning"})["records"]
    assert by_partition(seen, "kvh") == by_partition(sent, "kvh")
    assert all(list(range(RECORDS)) == [r["o"] for r in seen if r["p"] == p] for p in range(4))
    for p in range(4):
        wait_for(f"{codec} is what the segment has",
                 lambda p=p: batch_codecs(s.appliance, topic, p) == {codec})


def written(s, topic, first, count, stamp):
    records = [{"p": i % 2, "k": f"key-{i}", "v": f"value {i}", "h": [["n", str(i)]],
                "t": stamp + i * 1000} for i in range(first, first + count)]
    s.checker.call("produce", topic=topic, codec="lz4", acks=-1, idempotent=False, records=records)
    return records


def consume(s):
    """One topic of the checker's records; yields (capability, what proves it)."""
    topic = s.topic("consume", 2)
    stamp = int(time.time()) * 1000 - 3600_000
    sent = written(s, topic, 0, 40, stamp)

    def read(where, expected):
        got = s.me.call("read", topic=topic, partitions=[0, 1], count=len(expected),
                        **{"from": where})["records"]
        assert by_partition(got, "kvht") == by_partition(expected, "kvht")

    def from_end():
        pending = s.me.start("read", topic=topic, partitions=[0, 1], count=10, **{"from": "end"})
        pending.wait_positioned()
        late = written(s, topic, 40, 10, stamp)
        got = pending.result()["records"]
        assert by_partition(got, "kvht") == by_partition(late, "kvht")

    yield "beginning", lambda: read("beginning", sent)
    yield "time", lambda: read({"time": stamp + 15_500}, sent[16:])
    yield "end", from_end


def balanced(members):
    """Every partition has one owner, and every member has the same number."""
    for m in members:
        assert m.error is None, f"{m.driver.name}: member {m.name}: {m.error}"
    owned = sorted(p for m in members for p in m.owned)
    return owned == list(range(PARTITIONS)) and {len(m.owned) for m in members} == \
        {PARTITIONS // len(members)}


def to_group(s, topic, values):
    s.checker.call("produce", topic=topic, codec="none", acks=-1, idempotent=False,
                   records=[{"p": i % PARTITIONS, "k": None, "v": v, "h": []}
                            for i, v in enumerate(values)])


def has_read(members, values):
    seen = {v for m in members for v in m.values}
    return seen >= set(values)


def once(members, values, partitions=PARTITIONS):
    """No record is read twice where nobody has died; a partition's records are read in order."""
    count = collections.Counter(v for m in members for v in m.values)
    assert all(count[v] == 1 for v in values), "a record is read twice without a rebalance"
    at = {v: i for i, v in enumerate(values)}
    for m in members:
        read = [at[v] for v in m.values if v in at]
        for p in range(partitions):
            mine = [i for i in read if i % partitions == p]
            assert mine == sorted(mine), f"{m.driver.name}: partition {p} is read out of order: {mine}"


def read_by_another(s, topic, rounds):
    """What the group has read is what the checker finds in the topic, and in that order."""
    want = [{"p": i % PARTITIONS, "v": v} for values in rounds for i, v in enumerate(values)]
    seen = s.checker.call("read", topic=topic, partitions=list(range(PARTITIONS)), count=len(want),
                          **{"from": "beginning"})["records"]
    assert by_partition(seen, "v") == by_partition(want, "v")


def group(s, protocol):
    """Three members; the one in a process of its own is killed; another joins; all commit; a member
    of another library (with the classic protocol), then a new one of this, resume where the commit was."""
    topic, name = s.topic(protocol, PARTITIONS), f"{s.tag}-{protocol}"
    other = s.another()
    members = [d.join(f"{protocol}-{n}", topic, name, protocol=protocol)
               for n, d in enumerate([s.me, s.me, other])]
    values = {}

    def killed():
        wait_for("three members share", lambda: balanced(members))
        values[0] = [f"first {i}" for i in range(60)]
        to_group(s, topic, values[0])
        wait_for("the first are read", lambda: has_read(members, values[0]))
        once(members, values[0])
        other.kill()
        del members[2]
        wait_for("two members share", lambda: balanced(members))
        values[1] = [f"second {i}" for i in range(60)]
        to_group(s, topic, values[1])
        wait_for("the second are read", lambda: has_read(members, values[1]))

    def joins():
        members.append(s.me.join(f"{protocol}-3", topic, name, protocol=protocol))
        wait_for("three members share again", lambda: balanced(members))
        values[2] = [f"third {i}" for i in range(60)]
        to_group(s, topic, values[2])
        wait_for("the third are read", lambda: has_read(members, values[2]))

    def resume():
        for m in members:
            m.commit()
        for m in members:
            m.leave()
        values[3] = [f"fourth {i}" for i in range(60)]
        to_group(s, topic, values[3])
        for driver, speaks in ((s.checker, "classic"), (s.me, protocol)):
            m = driver.join(f"{s.tag}-{protocol}-resumes", topic, name, protocol=speaks)
            wait_for(f"{driver.name} resumes", lambda: has_read([m], values[3]))
            assert m.error is None, m.error
            assert sorted(m.values) == sorted(values[3]), "committed records are read again"
            once([m], values[3])
            m.leave()
        read_by_another(s, topic, values.values())

    yield "killed", killed
    yield "joins", joins
    yield "resume", resume


def static(s):
    """Two static members; one dies with its process and comes back: nobody else notices."""
    topic, name = s.topic("static", PARTITIONS), f"{s.tag}-static"
    other = s.another()
    again = None
    try:
        a = s.me.join("a", topic, name, instance="a", session_ms=20000)
        b = other.join("b", topic, name, instance="b", session_ms=20000)
        wait_for("two members share", lambda: balanced([a, b]))
        before, owned = a.assignments, b.owned
        other.kill()
        again = s.another()
        b = again.join("b", topic, name, instance="b", session_ms=20000)
        wait_for("it has its partitions again", lambda: b.owned == owned)
        values = [f"value {i}" for i in range(60)]
        to_group(s, topic, values)
        wait_for("all is read", lambda: has_read([a, b], values))
        once([a, b], values)
        assert a.assignments == before, "the other member was rebalanced"
        read_by_another(s, topic, [values])
        a.leave()
    finally:
        other.kill()
        if again:
            again.kill()


def transactions(s):
    """Committed, aborted, committed; by this client, read by the checker, and the other way round."""
    if "transactions" in s.checker_row.never:
        raise NotProven(f"{s.checker_row.name}, which would check it, has no transactions")
    rounds = [{"values": [f"{name} {i}" for i in range(10)], "commit": name != "aborted"}
              for name in ("first", "aborted", "second")]
    want = [v for r in rounds if r["commit"] for v in r["values"]]
    for writer, reader in ((s.me, s.checker), (s.checker, s.me)):
        topic = s.topic("txn-of-" + ("me" if writer is s.me else "checker"), 1)
        writer.call("transact", topic=topic, partition=0, transactional_id=topic, rounds=rounds)
        assert s.appliance.end_offset(topic) == 30 + 3, "records or their markers are missing"
        seen = reader.call("read", topic=topic, partitions=[0], count=len(want), committed=True,
                           **{"from": "beginning"})["records"]
        assert [r["v"] for r in seen] == want


def admin(s):
    topic = f"{s.tag}-admin"

    def both():
        """What the client itself and the checker describe."""
        for driver in (s.me, s.checker):
            yield driver.call("describe", topic=topic)

    s.me.call("create", topic=topic, partitions=3, config={"retention.ms": "7200000"})
    for seen in both():
        assert (seen["partitions"], seen["config"]["retention.ms"]) == (3, "7200000")
    s.me.call("alter", topic=topic, config={"retention.ms": "3600000", "max.message.bytes": "12345"})
    for seen in both():
        assert seen["config"]["retention.ms"] == "3600000"
        assert seen["config"]["max.message.bytes"] == "12345"
    s.me.call("add_partitions", topic=topic, count=5)
    for driver in (s.me, s.checker):
        wait_for("five partitions are described",
                 lambda d=driver: d.call("describe", topic=topic)["partitions"] == 5)
        assert topic in driver.call("topics")["topics"]
    s.me.call("delete", topic=topic)
    for driver in (s.me, s.checker):
        wait_for("it is gone", lambda d=driver: topic not in d.call("topics")["topics"])


class Stream:
    """An idempotent producer that is under way while the dataplane is restarted: it produces until the
    file `until` exists, so that the restart is in its midst however fast it or the machine is."""

    def __init__(self, s, until):
        self.s = s
        self.topic = s.topic("restart", 1)
        self.pending = s.me.start("stream", topic=self.topic, partition=0, count=STREAM, interval_ms=10,
                                  until=until)

    def goes_on(self):
        """Returns when it has produced some records more."""
        first = self.s.appliance.end_offset(self.topic)

        def produced():
            assert not self.pending.done.is_set(), f"the stream has ended: {str(self.pending.answer)[:300]}"
            return self.s.appliance.end_offset(self.topic) >= first + STEP
        wait_for(f"{self.s.client.name} produces", produced, 60, every=0.1)

    def check(self):
        done = self.pending.result(120)
        assert not done["failed"], done["failed"][:3]
        sent = done["sent"]
        want = ["s-%06d" % i for i in range(sent)]
        seen = self.s.checker.call("read", topic=self.topic, partitions=[0], count=sent,
                                   **{"from": "beginning"})["records"]
        assert [r["v"] for r in seen] == want, "not every record once and in order"
        assert self.s.appliance.end_offset(self.topic) == sent
        told = {i: o for i, o in done["acked"] if o >= 0}
        assert all(i == o for i, o in told.items()), "an acknowledged offset is another record's"


def cells(s):
    """Every cell of a row that needs no restart: (capability, what proves it)."""
    for codec in CODECS:
        yield codec, lambda codec=codec: produce(s, codec)
    yield from consume(s)
    yield from group(s, "classic")
    if "consumer" not in s.client.never:
        yield "consumer", lambda: [work() for _, work in group(s, "consumer")]
    if "transactions" not in s.client.never:
        yield "transactions", lambda: transactions(s)
    if "static" not in s.client.never:
        yield "static", lambda: static(s)
    if "admin" not in s.client.never:
        yield "admin", lambda: admin(s)


class NotProven(Exception):
    """A cell that cannot be shown where this run is."""


def outcome(work):
    """None when work proves its cell, else what went wrong."""
    try:
        work()
        return None
    except NotProven as e:
        return f"not proven: {e}"
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        if not str(e):
            where = [f for f in traceback.extract_tb(e.__traceback__) if "/tests/" in f.filename][-1]
        return f"{e or type(e).__name__} ({os.path.basename(where.filename)}:{where.lineno})"
