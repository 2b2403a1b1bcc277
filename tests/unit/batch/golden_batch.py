"""Prints a C header with record batches encoded from Kafka's documented layout, independently of
lib/batch: own varints, own bitwise CRC-32C, gzip by Python's zlib."""
import struct
import zlib


def uvarint(v):
    out = b""
    while v >= 0x80:
        out += bytes([v & 0x7F | 0x80])
        v >>= 7
    return out + bytes([v])


def varint(v):
    return uvarint(((v << 1) ^ (v >> 63)) & 0xFFFFFFFFFFFFFFFF)


def nullable(b):
    return varint(-1) if b is None else varint(len(b)) + b


def record(ts_delta, offset_delta, key, value, headers):
    body = b"\0" + varint(ts_delta) + varint(offset_delta) + nullable(key) + nullable(value)
    body += varint(len(headers))
    for k, v in headers:
        body += varint(len(k)) + k + nullable(v)
    return varint(len(body)) + body


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def batch(records, attributes, base_ts, max_ts, pid=-1, epoch=-1, seq=-1, count=None, blob=None):
    count = len(records) if count is None else count
    data = b"".join(records) if blob is None else blob
    tail = struct.pack(">hiqqqhii", attributes, count - 1, base_ts, max_ts, pid, epoch, seq, count)
    tail += data
    return struct.pack(">qiibI", 0, 9 + len(tail), -1, 2, crc32c(tail)) + tail


def emit(name, data):
    print("static const unsigned char %s[] = {" % name)
    for i in range(0, len(data), 16):
        print("    " + ", ".join("0x%02x" % b for b in data[i:i + 16]) + ",")
    print("};")


T = 1700000000000
three = [
    record(0, 0, None, b"<34>1 hello", [(b"source", b"192.0.2.1"), (b"facility", b"4"),
                                       (b"severity", b"2"), (b"host", b"mymachine"),
                                       (b"app", b"su"), (b"procid", b"77"), (b"msgid", b"ID47"),
                                       (b"listener", b"udp")]),
    record(-1500, 1, b"key", b"", [(b"event_time", b"2003-10-11T22:14:15.003Z"),
                                   (b"truncated", b""), (b"reason", b"no PRI")]),
    record(70000, 2, b"", None, []),
]
emit("golden_plain", batch(three, 0, T, T + 70000))
emit("golden_txn", batch(three, 0x10, T, T + 70000, pid=4711, epoch=3, seq=2147483646))
gz = zlib.compressobj(6, zlib.DEFLATED, 31)
emit("golden_gzip", batch(three, 1, T, T + 70000, blob=gz.compress(b"".join(three)) + gz.flush()))
long_value = bytes(i * 7 & 0xFF for i in range(20000))
emit("golden_long", batch([record(0, 0, b"k" * 100, long_value, [])], 0, -1, -1))
