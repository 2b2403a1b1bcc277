"""Everything at once, by producers that outlive the appliance: an idempotent one (acks=all), one
whose topic is kept small by retention, one whose topic is kept small by DeleteRecords, one whose topic
is compacted, and a transactional one; and what must be true of their topics after any number of crashes. Segments are of 1 MiB, so that logs
roll, lose their oldest segments and are rewritten all the time."""
import random
import struct
import threading
import time

import confluent_kafka
from appliance import wait_for
from confluent_kafka.admin import AdminClient, NewTopic
from load import Load
from wire import Wire, string

MIB = 1 << 20
KEYS = 100
SETS = ["compaction.interval=50ms", "compaction.rate=32MiB"]
TOPICS = {
    "plain": {},
    "bounded": {"retention.bytes": str(2 * MIB)},
    "trimmed": {},
    "compact": {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"},
    "txn": {},
}


class Keyed(threading.Thread):
    """Writes KEYS keys again and again, each value with a higher number than the one before.
    last: {key: highest number acknowledged}; sent: {key: highest number tried}."""

    def __init__(self, bootstrap, topic, size, rate):
        super().__init__(daemon=True)
        self.topic, self.size, self.rate = topic, size, rate
        self.last, self.sent, self.count, self.acked_cnt, self.failed = {}, {}, 0, 0, []
        self.stopping = threading.Event()
        self.producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all",
             "linger.ms": 2, "message.timeout.ms": 120000, "reconnect.backoff.max.ms": 200,
             "retry.backoff.ms": 50})

    def run(self):
        started, padding = time.monotonic(), b"x" * self.size
        while not self.stopping.is_set():
            key, n = random.randrange(KEYS), self.count

            def done(err, msg, key=key, n=n):
                if err is None:
                    self.last[key] = max(n, self.last.get(key, -1))
                    self.acked_cnt += 1
                else:
                    self.failed.append((key, n, str(err)))
            self.sent[key] = n
            try:
                self.producer.produce(self.topic, b"%d " % n + padding, str(key), partition=0,
                                      on_delivery=done)
            except BufferError:
                self.producer.poll(0.05)
                continue
            except confluent_kafka.KafkaException as e:  # fatal: handed to the test by finish()
                self.failed.append((key, n, str(e)))
                return
            self.count += 1
            self.producer.poll(max(0, self.count / self.rate - (time.monotonic() - started)))

    def finish(self, timeout=120):
        self.stopping.set()
        self.join(timeout)
        assert self.producer.flush(timeout) == 0, "records are still unanswered"
        assert not self.failed, self.failed[:3]


class Transactions(threading.Thread):
    """Small transactions, one in four aborted. Each ends with an answer, however often it takes to
    ask. committed, aborted: their numbers."""

    def __init__(self, bootstrap, topic):
        super().__init__(daemon=True)
        self.topic, self.failure = topic, None
        self.committed, self.aborted = [], []
        self.stopping = threading.Event()
        self.producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": topic, "linger.ms": 0,
             "message.timeout.ms": 110000, "transaction.timeout.ms": 120000,
             "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50})

    def ask(self, what, *args):
        """True: done. False: the transaction must be aborted."""
        end = time.monotonic() + 120
        while True:
            try:
                what(*args)
                return True
            except confluent_kafka.KafkaException as e:
                if e.args[0].txn_requires_abort():
                    return False
                if not e.args[0].retriable() or time.monotonic() > end:
                    raise

    def one(self, n):
        """The records are answered before the end: librdkafka, told to abort while its
        AddPartitionsToTxn goes down with the connection, ends a transaction that the coordinator has
        never heard of, and the error that Kafka answers then (INVALID_TXN_STATE) is fatal to it."""
        p = self.producer
        p.begin_transaction()
        for i in range(3):
            p.produce(self.topic, b"%d-%d" % (n, i), partition=0)
        assert p.flush(120) == 0, f"the records of transaction {n} are unanswered"
        if n % 4 != 3 and self.ask(p.commit_transaction, 10):
            self.committed.append(n)
        elif self.ask(p.abort_transaction, 10):
            self.aborted.append(n)
        else:
            raise AssertionError(f"transaction {n} ends neither way")

    def run(self):
        try:
            self.ask(self.producer.init_transactions, 10)
            n = 0
            while not self.stopping.is_set():
                self.one(n)
                n += 1
        except Exception as e:  # handed to the test by finish()
            self.failure = e

    def finish(self, timeout=150):
        self.stopping.set()
        self.join(timeout)
        if self.failure:
            raise self.failure
        assert not self.is_alive(), "a transaction does not end"


def read_to_end(bootstrap, topic, first=confluent_kafka.OFFSET_BEGINNING, seconds=300):
    """[(offset, key, value)] of partition 0, what is committed, up to the end that it has now. Its
    beginning may move meanwhile."""
    c = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "check",
                                  "enable.auto.commit": False, "check.crcs": True,
                                  "auto.offset.reset": "earliest", "enable.partition.eof": True,
                                  "isolation.level": "read_committed"})
    try:
        tp = confluent_kafka.TopicPartition(topic, 0)
        end = c.get_watermark_offsets(tp, timeout=30)[1] - 1
        c.assign([confluent_kafka.TopicPartition(topic, 0, first)])
        found, deadline, at_end = [], time.monotonic() + seconds, False
        while not at_end:
            assert time.monotonic() < deadline, f"no end of {topic} after {seconds} s"
            for m in c.consume(1000, timeout=0.1):
                if m.error() is not None:
                    assert m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, m.error()
                    at_end = True
                else:
                    found.append((m.offset(), m.key(), m.value()))
                    at_end = at_end or m.offset() >= end
        return found
    finally:
        c.close()


def delete_records(bootstrap, topic, offset):
    """Moves the log start of partition 0 there; the log start that is answered."""
    with Wire(bootstrap) as c:
        a = c.ask(21, 1, struct.pack(">i", 1) + string(topic) + struct.pack(">iiqi", 1, 0, offset, 30000))
    start, error = struct.unpack(">qh", a[-10:])
    assert error == 0, f"DeleteRecords of {topic} up to {offset}: error {error}"
    return start


def log_start(bootstrap, topic):
    c = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "check"})
    try:
        return c.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=30)[0]
    finally:
        c.close()


class MixedLoad:
    def __init__(self, a):
        """The appliance is found at the same port after every restart."""
        self.bootstrap = a.kafka
        admin = AdminClient({"bootstrap.servers": a.kafka})
        made = admin.create_topics(
            [NewTopic(t, 1, 1, config={"segment.bytes": str(MIB), **c}) for t, c in TOPICS.items()])
        for f in made.values():
            f.result(60)
        self.plain = Load(a.kafka, "plain", size=300, rate=1500, tag="plain", extra={"linger.ms": 0})
        self.bounded = Load(a.kafka, "bounded", size=5000, rate=200, tag="bounded")
        self.trimmed = Load(a.kafka, "trimmed", size=5000, rate=200, tag="trimmed")
        self.trimmed_to = 0
        self.compact = Keyed(a.kafka, "compact", size=5000, rate=200)
        self.txn = Transactions(a.kafka, "txn")
        self.loads = [self.plain, self.bounded, self.trimmed, self.compact, self.txn]
        self.checked = 0  # of plain: all below was found
        self.compacting = self.crashes = 0
        self.in_flight = []  # at each crash
        for load in self.loads:
            load.start()

    def done(self):
        return [len(self.plain.acked), len(self.bounded.acked), len(self.trimmed.acked),
                self.compact.acked_cnt, len(self.txn.committed)]

    def waiting(self):
        return self.plain.sent - len(self.plain.acked)

    def before_crash(self, a):
        """Returns at a moment when each of the loads has got on since the last time, appends are in
        flight and, in every second round if it can be had, a segment is being rewritten."""
        before = self.done()
        wait_for("every load gets on", lambda: not self.failures() and all(
            now >= was + n for was, now, n in zip(before, self.done(), (200, 50, 50, 50, 3))))
        self.trim()
        time.sleep(random.random() * 0.2)  # the moment of the crash is the variable
        end = time.monotonic() + (5 if self.crashes % 2 == 0 else 0)
        compacting = a.metrics_sum("sluice_compaction_active") > 0
        while not compacting and time.monotonic() < end:
            compacting = a.metrics_sum("sluice_compaction_active") > 0
        self.compacting += compacting
        self.in_flight.append(wait_for("appends are in flight", lambda: self.waiting() or self.failures(),
                                       every=0.0005))
        self.crashes += 1

    def trim(self):
        """DeleteRecords, all but the last few hundred; a crash may undo it."""
        to = max(0, max(self.trimmed.acked.values()) - random.randrange(300))
        if to > self.trimmed_to:
            assert delete_records(self.bootstrap, "trimmed", to) == to
            self.trimmed_to = to

    def failures(self):
        found = self.plain.failed + self.bounded.failed + self.trimmed.failed + self.compact.failed + \
            ([self.txn.failure] if self.txn.failure else [])
        assert not found, found[:3]
        return found

    def check(self):
        """What was acknowledged until now is there; the loads may go on meanwhile."""
        self.check_plain()
        self.check_shortened(self.bounded)
        assert self.check_shortened(self.trimmed) <= self.trimmed_to
        self.check_compact()

    def check_plain(self):
        acked = {o: i for i, o in list(self.plain.acked.items()) if o >= self.checked}
        records = {o: v for o, _, v in read_to_end(self.bootstrap, "plain", self.checked)}
        self.assert_dense(sorted(records), self.checked)
        for offset, i in acked.items():
            assert records.get(offset) == self.plain.value(i), f"record {i} at offset {offset}"
        self.checked = max(acked, default=self.checked - 1) + 1
        return records

    def check_shortened(self, load):
        acked = {o: i for i, o in list(load.acked.items())}
        records = {o: v for o, _, v in read_to_end(self.bootstrap, load.topic)}
        start = log_start(self.bootstrap, load.topic)
        self.assert_dense(sorted(o for o in records if o >= start), start)
        for offset, i in acked.items():
            if offset >= start:
                assert records.get(offset) == load.value(i), f"{load.topic}: record {i} at {offset}"
        return start

    def check_compact(self):
        last = dict(self.compact.last)
        records = read_to_end(self.bootstrap, "compact")
        offsets = [o for o, _, _ in records]
        assert offsets == sorted(set(offsets))
        found = {}
        for _, k, v in records:
            key, n = int(k), int(v.split(b" ", 1)[0])
            assert n > found.get(key, -1), f"an older value of key {key} after a newer one"
            assert n <= self.compact.sent[key]
            found[key] = n
        for key, n in last.items():
            assert found.get(key, -1) >= n, \
                f"key {key} has value {found.get(key)}, {n} was acknowledged"
        return found, len(records)

    @staticmethod
    def assert_dense(offsets, first):
        assert offsets == list(range(first, first + len(offsets))), "offsets are not dense"

    def finish(self):
        """Ends the loads and compares all that is left with all that was acknowledged."""
        for load in self.loads:
            load.finish()
        self.checked = 0
        values = list(self.check_plain().values())
        assert values == [self.plain.value(i) for i in range(self.plain.sent)], \
            "a record is missing, there twice or out of order"
        start = self.check_shortened(self.bounded)
        assert start > 0, "retention has removed nothing"
        self.trim()
        trimmed = self.check_shortened(self.trimmed)
        assert trimmed == self.trimmed_to > 0
        found, records = self.check_compact()
        assert found == self.compact.last
        assert records < self.compact.acked_cnt, "compaction has removed nothing"
        txn = [v.decode() for _, _, v in read_to_end(self.bootstrap, "txn")]
        assert txn == [f"{n}-{i}" for n in self.txn.committed for i in range(3)]
        assert self.txn.aborted
        assert min(self.in_flight) > 0
        assert self.compacting > 0, "no crash came while a segment was being rewritten"
        print(f"{self.crashes} crashes, {self.compacting} of them during a rewrite, "
              f"{min(self.in_flight)} to {max(self.in_flight)} appends in flight at each; "
              f"acknowledged: {len(self.plain.acked)} plain, {len(self.bounded.acked)} in a topic that "
              f"begins at {start} now, {len(self.trimmed.acked)} in one that DeleteRecords let begin at "
              f"{trimmed}, {self.compact.acked_cnt} of {KEYS} keys, {records} left, "
              f"{len(self.txn.committed)} transactions of 3 and {len(self.txn.aborted)} aborted")
