"""Many of everything: members of a group, topics, connections. Nothing may be dropped; the figures are
shown, never asserted."""
import asyncio
import os
import resource
import struct
import sys
import time

import clients
import pytest
from appliance import ROOT, Appliance, wait_for
from figures import figure

sys.path.insert(0, os.path.join(ROOT, "tests", "unit", "batch"))
from golden_batch import crc32c  # noqa: E402

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

MEMBERS, GROUP_PARTITIONS = 50, 200
TOPICS, TOPIC_PARTITIONS = 1000, 10
IDLE, BUSY, REQUESTS = 2000, 200, 50


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- requests by hand ---

def text(s):
    return struct.pack(">h", len(s)) + s.encode()


def request(key, version, correlation, body, flexible):
    head = struct.pack(">hhi", key, version, correlation) + text("scale") + (b"\0" if flexible else b"")
    return struct.pack(">i", len(head) + len(body)) + head + body


def api_versions(correlation):
    return request(18, 0, correlation, b"", False)


def metadata_of_all(correlation):
    """Version 12: a null array asks for every topic."""
    return request(3, 12, correlation, b"\0" + b"\0" + b"\0" + b"\0", True)


def batch(value):
    """One record of up to 50 bytes, so that its length is one byte too."""
    record = b"\0\0\0\1" + bytes([len(value) * 2]) + value + b"\0"  # lengths are zigzag varints
    record = bytes([len(record) * 2]) + record
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    return struct.pack(">qiibI", 0, 9 + len(tail), -1, 2, crc32c(tail)) + tail


def produce(correlation, topic, partition, records):
    body = struct.pack(">hhii", -1, -1, 30000, 1) + text(topic) + \
        struct.pack(">iii", 1, partition, len(records)) + records
    return request(0, 3, correlation, body, False)


async def answer(reader, correlation):
    size, = struct.unpack(">i", await reader.readexactly(4))
    body = await reader.readexactly(size)
    assert struct.unpack_from(">i", body)[0] == correlation
    return body


# --- a group of 50 ---

def test_a_group_of_50_members_shares_200_partitions(tmp_path):
    """librdkafka's members, in one process, with heartbeats every 300 ms; the first assignment waits
    group_initial_rebalance_delay, 100 ms here."""
    with Appliance(tmp_path, sets=["kafka.group_initial_rebalance_delay=100ms"]) as a:
        a.ctl("topic", "create", "wide", "--partitions", str(GROUP_PARTITIONS))
        d = clients.Driver("librdkafka", None, "confluent", a.kafka)
        try:
            def shared(count):
                for m in members:
                    assert m.error is None, m.error
                owned = sorted(p for m in members for p in m.owned)
                return len(members) == count and owned == list(range(GROUP_PARTITIONS)) \
                    and min(len(m.owned) for m in members) >= GROUP_PARTITIONS // count
            started = time.monotonic()
            members = [d.join(f"m{i}", "wide", "wide", session_ms=30000) for i in range(MEMBERS)]
            wait_for("50 members share", lambda: shared(MEMBERS), 120)
            figure(f"group of {MEMBERS} over {GROUP_PARTITIONS} partitions: first assignment "
                   f"{time.monotonic() - started:.2f} s after the first join")
            values = [f"value {i}" for i in range(2000)]
            d.call("produce", topic="wide", codec="none", acks=-1, idempotent=False, records=[
                {"p": i % GROUP_PARTITIONS, "k": None, "v": v, "h": []} for i, v in enumerate(values)])
            wait_for("all is read", lambda: sum(len(m.values) for m in members) >= len(values))
            assert sorted(v for m in members for v in m.values) == sorted(values)
            started = time.monotonic()
            members.append(d.join("late", "wide", "wide", session_ms=30000))
            wait_for("51 members share", lambda: shared(MEMBERS + 1), 120)
            figure(f"one more joins: all {MEMBERS + 1} are assigned {time.monotonic() - started:.2f} s later")
            started = time.monotonic()
            members.pop(0).leave()
            wait_for("50 members share again", lambda: shared(MEMBERS), 120)
            figure(f"one leaves: all {MEMBERS} are assigned {time.monotonic() - started:.2f} s later")
        finally:
            d.kill()


# --- 1,000 topics ---

def test_a_thousand_topics_of_ten_partitions_are_created_and_listed(tmp_path):
    with Appliance(tmp_path) as a:
        admin = AdminClient({"bootstrap.servers": a.kafka})
        started = time.monotonic()
        futures = admin.create_topics([NewTopic(f"topic-{i:04d}", TOPIC_PARTITIONS, 1)
                                       for i in range(TOPICS)], operation_timeout=120, request_timeout=120)
        for f in futures.values():
            f.result(150)
        created = time.monotonic() - started
        found = admin.list_topics(timeout=60).topics
        mine = [t for name, t in found.items() if name.startswith("topic-")]
        assert len(mine) == TOPICS
        assert all(len(t.partitions) == TOPIC_PARTITIONS and all(p.leader >= 0 for p in t.partitions.values())
                   for t in mine)

        async def ask():
            host, _, port = a.kafka.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 26)
            times, size, cpu = [], 0, cpu_seconds(a.dataplane_pid())
            for i in range(10):
                started = time.monotonic()
                writer.write(metadata_of_all(i))
                size = len(await answer(reader, i))
                times.append(time.monotonic() - started)
            writer.close()
            return sorted(times)[5], size, (cpu_seconds(a.dataplane_pid()) - cpu) / 10
        median, size, cpu = asyncio.run(ask())
        assert size > TOPICS * TOPIC_PARTITIONS * 20
        figure(f"{TOPICS} topics x {TOPIC_PARTITIONS} partitions: created in {created:.2f} s; Metadata of all: "
               f"{median * 1000:.1f} ms, {size:,} bytes, {cpu * 1000:.0f} ms of the dataplane")
        last = f"topic-{TOPICS - 1:04d}"
        a.kcat("-P", "-t", last, "-p", str(TOPIC_PARTITIONS - 1), input=b"x\n")
        assert a.consume(last) == ["x"]
        started = time.monotonic()
        a.stop()
        stopped = time.monotonic()
        a.start()
        figure(f"stopped in {stopped - started:.2f} s, started again in {time.monotonic() - stopped:.2f} s")
        wait_for("the record is there", lambda: a.consume(last) == ["x"])


# --- 2,200 connections ---

def test_2000_idle_and_200_busy_connections_lose_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * (IDLE + BUSY):
        pytest.skip(f"{IDLE + BUSY} connections: not proven: only {hard} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * (IDLE + BUSY)), hard))
    with Appliance(tmp_path) as a:
        a.ctl("topic", "create", "busy", "--partitions", "50")
        host, _, port = a.kafka.rpartition(":")
        asyncio.run(crowd(a, host, int(port)))
        ends = [a.end_offset("busy", p) for p in range(50)]
        assert sum(ends) == BUSY * REQUESTS, "an acknowledged record is missing"
        assert len(a.consume("busy")) == BUSY * REQUESTS
        assert a.metrics_sum("sluice_conn_refused_total") == 0


async def crowd(a, host, port):
    pid = a.dataplane_pid()
    with open(f"/proc/{pid}/status") as f:
        before = next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))
    idle = []
    for i in range(IDLE):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(api_versions(i))
        idle.append((reader, writer))
    for i, (reader, _) in enumerate(idle):
        await answer(reader, i)
    with open(f"/proc/{pid}/status") as f:
        after = next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))
    times = []
    records = batch(b"x" * 50)

    async def work(n):
        reader, writer = await asyncio.open_connection(host, port)
        for i in range(REQUESTS):
            started = time.monotonic()
            writer.write(produce(i, "busy", n % 50, records))
            body = await answer(reader, i)
            times.append(time.monotonic() - started)
            # topics[1]: name, partitions[1]: index, error code
            error, = struct.unpack_from(">h", body, 4 + 4 + 2 + len("busy") + 4 + 4)
            assert error == 0, f"produce error {error}"
        writer.close()

    started, cpu = time.monotonic(), cpu_seconds(pid)
    await asyncio.gather(*[work(n) for n in range(BUSY)])
    spent, cpu = time.monotonic() - started, cpu_seconds(pid) - cpu
    assert a.metrics_sum("sluice_connections") >= IDLE
    for i, (_, writer) in enumerate(idle):  # nobody was closed to make room
        writer.write(api_versions(i))
    for i, (reader, writer) in enumerate(idle):
        await answer(reader, i)
        writer.close()
    times.sort()
    figure(f"{IDLE} idle connections (+{(after - before) / IDLE:.1f} KiB each), {BUSY} busy: "
           f"{BUSY * REQUESTS / spent:,.0f} acks=all requests/s, p50 {times[len(times) // 2] * 1000:.1f} ms, "
           f"p99 {times[len(times) * 99 // 100] * 1000:.1f} ms, dataplane {cpu:.2f} s of {spent:.2f} s")
