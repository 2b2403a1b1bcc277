"""A producer that remembers what was acknowledged, a consumer that reads along, and the check that
nothing acknowledged is missing."""
import threading
import time

import confluent_kafka


class Load(threading.Thread):
    """Produces numbered records from one idempotent acks=all producer until told to stop.
    acked: {number: offset} of what the appliance acknowledged."""

    def __init__(self, bootstrap, topic, partition=0, size=200, tag="r", rate=None, extra=None):
        super().__init__(daemon=True)
        self.topic, self.partition, self.size, self.tag, self.rate = topic, partition, size, tag, rate
        self.acked, self.failed, self.ack_times = {}, [], []
        self.sent = 0
        self.stopping = threading.Event()
        conf = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all",
                "linger.ms": 2, "message.timeout.ms": 120000, "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 50, "socket.timeout.ms": 30000}
        conf.update(extra or {})
        self.producer = confluent_kafka.Producer(conf)

    def value(self, i):
        text = f"{self.tag}-{i:010d}-"
        return (text + "x" * (self.size - len(text))).encode()

    def run(self):
        started = time.monotonic()
        while not self.stopping.is_set():
            i = self.sent

            def done(err, msg, i=i):
                if err is None:
                    self.acked[i] = msg.offset()
                    self.ack_times.append(time.monotonic())
                else:
                    self.failed.append((i, str(err)))
            try:
                self.producer.produce(self.topic, self.value(i), partition=self.partition,
                                      on_delivery=done)
                self.sent += 1
            except BufferError:
                self.producer.poll(0.05)
                continue
            except confluent_kafka.KafkaException as e:  # fatal: handed to the test by finish()
                self.failed.append((i, str(e)))
                return
            due = started + self.sent / self.rate if self.rate else 0
            self.producer.poll(max(0, due - time.monotonic()))  # below 0 it would wait for ever

    def finish(self, timeout=120):
        self.stopping.set()
        self.join(timeout)
        assert self.producer.flush(timeout) == 0, "records are still unanswered"
        assert not self.failed, self.failed[:3]


class Reader(threading.Thread):
    """Reads one partition from its beginning, as records come, until told to stop.
    records: [(offset, value)]. times: when each fetch brought some."""

    def __init__(self, bootstrap, topic, partition=0):
        super().__init__(daemon=True)
        self.records, self.times, self.failure = [], [], None
        self.stopping = threading.Event()
        self.consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False,
             "check.crcs": True, "fetch.wait.max.ms": 50})
        self.consumer.assign([confluent_kafka.TopicPartition(
            topic, partition, confluent_kafka.OFFSET_BEGINNING)])

    def run(self):
        try:
            while not self.stopping.is_set():
                found = self.consumer.consume(1000, timeout=0.05)
                for m in found:
                    assert m.error() is None, m.error()
                    self.records.append((m.offset(), m.value()))
                if found:
                    self.times.append(time.monotonic())
        except Exception as e:  # handed to the test by finish()
            self.failure = e
        finally:
            self.consumer.close()

    def finish(self, until, timeout=60):
        """Ends it when it has read the record at offset `until`."""
        end = time.monotonic() + timeout
        while self.is_alive() and (not self.records or self.records[-1][0] < until) and \
                time.monotonic() < end:
            time.sleep(0.02)
        self.stopping.set()
        self.join(30)
        if self.failure:
            raise self.failure
        assert self.records and self.records[-1][0] >= until, \
            f"read up to {self.records[-1:]}, not to offset {until}"


def read_all(bootstrap, topic, partition=0):
    """[(offset, value)] of one partition, from the beginning to its present end."""
    c = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "check",
                                  "enable.auto.commit": False, "check.crcs": True,
                                  "fetch.message.max.bytes": 4000000})
    try:
        tp = confluent_kafka.TopicPartition(topic, partition)
        low, high = c.get_watermark_offsets(tp, timeout=30)
        c.assign([confluent_kafka.TopicPartition(topic, partition, low)])
        found, deadline = [], time.monotonic() + 120
        while len(found) < high - low and (not found or found[-1][0] < high - 1):
            left = high - (found[-1][0] + 1 if found else low)
            for m in c.consume(min(left, 10000), timeout=1.0):
                assert m.error() is None, m.error()
                found.append((m.offset(), m.value()))
            assert time.monotonic() < deadline, f"read {len(found)} of {high - low}"
        return found
    finally:
        c.close()


def assert_kept(load, records):
    """Every acknowledged record is there once, whole, at the offset it was acknowledged with;
    offsets are dense and the records of the one producer are in order."""
    offsets = [o for o, _ in records]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets))) if offsets else True, \
        "offsets are not dense"
    by_offset = dict(records)
    for i, offset in load.acked.items():
        assert by_offset.get(offset) == load.value(i), \
            f"record {i}, acknowledged at offset {offset}, is {by_offset.get(offset)!r:.60}"
    mine = [v for _, v in records if v.startswith(load.tag.encode() + b"-")]
    assert len(mine) == len(set(mine)), "a record is there twice"
    assert mine == sorted(mine), "records of one producer are out of order"
