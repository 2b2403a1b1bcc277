"""Quotas and connection limits on an appliance of two shards, with ordinary clients; Kafka's own
kafka-configs sets them where it can be had."""
import struct
import subprocess
import time

import kafka_tools
import pytest
from appliance import Appliance, wait_for
from wire import Wire, string


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("limits"), sets=["shards=2"]) as a:
        yield a


def alter_quota(a, client, key, value):
    """AlterClientQuotas 0; value None removes."""
    body = struct.pack(">i", 1) + struct.pack(">i", 1) + string("client-id") + string(client)
    body += struct.pack(">i", 1) + string(key) + struct.pack(">d?", value or 0, value is None) + b"\0"
    with Wire(a.kafka, "admin") as c:
        answer = c.ask(49, 0, body)
    assert struct.unpack(">iih", answer[:10]) == (0, 1, 0), answer


def produce(a, client, seconds, value_len=20000):
    """Bytes that kcat's library gets acknowledged in `seconds`."""
    line = "x" * value_len + "\n"
    p = subprocess.Popen(["kcat", "-b", a.kafka, "-P", "-t", "limited", "-X", f"client.id={client}",
                          "-X", "queue.buffering.max.kbytes=1024", "-X", "batch.size=60000"],
                         stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    end, sent = time.monotonic() + seconds, a.end_offset("limited")
    try:
        while time.monotonic() < end:
            p.stdin.write(line.encode())
    finally:
        p.kill()
        p.wait()
    return (a.end_offset("limited") - sent) * value_len


def test_a_producers_rate_holds_and_another_clients_is_its_own(appliance):
    a = appliance
    a.ctl("topic", "create", "limited")
    alter_quota(a, "slow", "producer_byte_rate", 1000000)
    seconds = 4
    slow = produce(a, "slow", seconds)
    print(f"quota 1000000 B/s: {slow / seconds:.0f} B/s over {seconds} s")
    # what the rate and one second of burst allow, and requests that were under way
    assert slow <= 1000000 * (seconds + 2) + 2000000
    assert slow >= 1000000 * (seconds - 3)
    throttled = a.metrics_sum("sluice_throttled_total")
    assert throttled > 0
    assert produce(a, "quick", 1) > 0
    alter_quota(a, "slow", "producer_byte_rate", None)
    assert produce(a, "slow", 1) > 0
    assert a.metrics_sum("sluice_throttled_total") == throttled, "neither of these has a quota"


def test_a_consumers_rate_holds(appliance):
    a = appliance
    if a.end_offset("limited") * 20000 < 8000000:
        produce(a, "quick", 2)
    alter_quota(a, "reader", "consumer_byte_rate", 1000000)
    begin = time.monotonic()
    p = subprocess.run(["kcat", "-b", a.kafka, "-C", "-t", "limited", "-o", "0", "-c", "300", "-q",
                        "-X", "client.id=reader"], stdout=subprocess.PIPE, timeout=60)
    took = time.monotonic() - begin
    print(f"quota 1000000 B/s: {len(p.stdout) / took:.0f} B/s over {took:.1f} s")
    assert len(p.stdout) == 300 * 20001
    assert took >= len(p.stdout) / 1000000 - 2.5  # a burst, and the last answer's debt


def test_kafka_configs_sets_describes_and_removes_quotas(appliance):
    a = appliance
    tool = "kafka.admin.ConfigCommand"
    try:
        who = ["--bootstrap-server", a.kafka, "--entity-type", "clients", "--entity-name", "tool"]
        p = kafka_tools.run(tool, *who, "--alter", "--add-config",
                            "producer_byte_rate=1024,consumer_byte_rate=2048")
        assert p.returncode == 0 and "Completed updating config" in p.stdout, p.stdout
        p = kafka_tools.run(tool, *who, "--describe")
        assert "producer_byte_rate=1024.0" in p.stdout, p.stdout
        assert "consumer_byte_rate=2048.0" in p.stdout, p.stdout
        p = kafka_tools.run(tool, *who, "--alter", "--delete-config", "producer_byte_rate")
        assert p.returncode == 0, p.stdout
        p = kafka_tools.run(tool, *who, "--describe")
        assert "producer_byte_rate" not in p.stdout and "consumer_byte_rate=2048.0" in p.stdout
        p = kafka_tools.run(tool, *who, "--alter", "--add-config", "request_percentage=50")
        assert p.returncode != 0 and "not enforced here" in p.stdout, p.stdout
    finally:
        alter_quota(a, "tool", "consumer_byte_rate", None)


def test_connections_above_the_limit_of_an_address_are_closed_and_counted(tmp_path):
    sets = ["shards=2", "kafka.connections_max_per_ip=20"]
    with Appliance(tmp_path, sets=sets) as a:
        open_, closed = [], 0
        for _ in range(30):
            try:
                c = Wire(a.kafka)
                try:
                    c.ask(18, 0, b"")
                    open_.append(c)
                except OSError:
                    closed += 1
                    c.sock.close()
            except ConnectionResetError:
                closed += 1  # before connect() had returned
        assert (len(open_), closed) == (20, 10)
        assert a.metrics_sum("sluice_conn_refused_total") == 10
        for c in open_:
            c.sock.close()

        def again():
            try:
                with Wire(a.kafka) as c:
                    return len(c.ask(18, 0, b"")) > 4
            except (ConnectionError, OSError):
                return False
        wait_for("room for a new connection", again)


def test_idle_connections_are_closed(tmp_path):
    with Appliance(tmp_path, sets=["kafka.idle_max=1s"]) as a:
        with Wire(a.kafka) as c:
            begin = time.monotonic()
            assert c.sock.recv(1) == b""
            assert time.monotonic() - begin >= 0.9
