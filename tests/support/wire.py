"""A small client of the Kafka protocol for tests that must see the bytes: old, fixed versions only, so
that nothing here depends on what is under test. One request at a time per connection."""
import socket
import struct


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(n):
    n = n << 1 ^ n >> 63
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def batch(values, timestamp, producer=(-1, -1, -1)):
    """One RecordBatch v2 without compression; producer: id, epoch, first sequence."""
    records = b""
    for i, value in enumerate(values):
        body = b"\0" + varint(0) + varint(i) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    body = struct.pack(">hiqqqhii", 0, len(values) - 1, timestamp, timestamp, *producer, len(values))
    body += records
    head = struct.pack(">ibI", -1, 2, crc32c(body))
    return struct.pack(">qi", 0, len(head + body)) + head + body


class Wire:
    def __init__(self, address, client="wire", timeout=60):
        host, port = address.split(":")
        self.sock = socket.create_connection((host, int(port)), timeout=timeout)
        self.client = client

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def take(self, count):
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def send(self, key, version, body):
        head = struct.pack(">hhi", key, version, 7) + string(self.client)
        self.sock.sendall(struct.pack(">i", len(head) + len(body)) + head + body)

    def answer(self):
        return self.take(struct.unpack(">i", self.take(4))[0])[4:]

    def ask(self, key, version, body):
        self.send(key, version, body)
        return self.answer()

    def produce(self, topic, partition, records, acks=-1):
        """Produce 7: error, base offset, log append time, log start."""
        body = struct.pack(">hhi", -1, acks, 30000) + struct.pack(">i", 1) + string(topic)
        body += struct.pack(">iii", 1, partition, len(records)) + records
        a = self.ask(0, 7, body)
        at = 4 + 2 + len(topic) + 4 + 4
        return struct.unpack_from(">hqqq", a, at)

    def fetch_body(self, topic, partition, offset, wait_ms=0, min_bytes=1, max_bytes=1 << 20):
        body = struct.pack(">iiiib", -1, wait_ms, min_bytes, 50 << 20, 0) + struct.pack(">i", 1)
        return body + string(topic) + struct.pack(">iiqi", 1, partition, offset, max_bytes)

    def fetched(self, topic, a):
        at = 4 + 4 + 2 + len(topic) + 4 + 4
        error, high, stable, aborted = struct.unpack_from(">hqqi", a, at)
        at += 22 + 16 * max(aborted, 0)
        size, = struct.unpack_from(">i", a, at)
        return error, high, stable, a[at + 4:at + 4 + size]

    def fetch(self, topic, partition, offset, **kw):
        """Fetch 4: error, high watermark, last stable offset, records."""
        return self.fetched(topic, self.ask(1, 4, self.fetch_body(topic, partition, offset, **kw)))

    def brokers(self):
        """Metadata 1, no topics: [(id, host, port)]."""
        a = self.ask(3, 1, struct.pack(">i", 0))
        count, at, found = struct.unpack_from(">i", a)[0], 4, []
        for _ in range(count):
            node, size = struct.unpack_from(">ih", a, at)
            host = a[at + 6:at + 6 + size].decode()
            port, rack = struct.unpack_from(">ih", a, at + 6 + size)
            at += 6 + size + 6 + max(rack, 0)
            found.append((node, host, port))
        return found

    def producer_id(self):
        """InitProducerId 0: id, epoch."""
        error, producer, epoch = struct.unpack_from(">hqh", self.ask(22, 0, struct.pack(">hi", -1, 1)), 4)
        assert error == 0
        return producer, epoch
