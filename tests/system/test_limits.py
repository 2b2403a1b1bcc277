"""Quotas and connection limits on an appliance of two shards, with ordinary clients; Kafka's own
kafka-configs sets them where it can be had."""
import struct
import subprocess
import time

import kafka_tools
import pytest
from appliance import Appliance, wait_for
from wire import Wire, batch, string


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("limits"), sets=["shards=2"]) as a:
        yield a


def alter_quota(a, entity, key, value):
    """AlterClientQuotas 0; entity: a client id, or [(type, name; None: the default)]; value None removes."""
    entity = [("client-id", entity)] if isinstance(entity, str) else entity
    body = struct.pack(">ii", 1, len(entity))
    for kind, name in entity:
        body += string(kind) + (struct.pack(">h", -1) if name is None else string(name))
    body += struct.pack(">i", 1) + string(key) + struct.pack(">d?", value or 0, value is None) + b"\0"
    with Wire(a.kafka, "admin") as c:
        answer = c.ask(49, 0, body)
    assert struct.unpack(">iih", answer[:10]) == (0, 1, 0), answer


def describe_quotas(a, components, strict=False):
    """DescribeClientQuotas 0, of components [(type, match: 0 by name, 1 the default, 2 any, name)]:
    {((type, name), ...): {key: value}}."""
    body = struct.pack(">i", len(components))
    for kind, match, name in components:
        body += string(kind) + struct.pack(">b", match) + (struct.pack(">h", -1) if name is None else string(name))
    with Wire(a.kafka, "admin") as c:
        answer = c.ask(48, 0, body + struct.pack(">?", strict))
    at = 0

    def take(form):
        nonlocal at
        value, = struct.unpack_from(form, answer, at)
        at += struct.calcsize(form)
        return value

    def text():
        nonlocal at
        size = take(">h")
        at += max(size, 0)
        return None if size < 0 else answer[at - size:at].decode()
    assert (take(">i"), take(">h"), text()) == (0, 0, None)
    found = {}
    for _ in range(take(">i")):
        entity = tuple((text(), text()) for _ in range(take(">i")))
        found[entity] = {text(): take(">d") for _ in range(take(">i"))}
    assert at == len(answer)
    return found


def told_to_wait(a, client):
    """Milliseconds that a client is told after 20 kB produced (version 7), and after fetching them (version 4)."""
    with Wire(a.kafka, client) as c:
        body = batch([b"x" * 20000], int(time.time() * 1000))
        body = struct.pack(">hhii", -1, -1, 30000, 1) + string("told") + struct.pack(">iii", 1, 0, len(body)) + body
        answer = c.ask(0, 7, body)
        produced, = struct.unpack(">i", answer[-4:])
    with Wire(a.kafka, client) as c:
        answer = c.ask(1, 4, c.fetch_body("told", 0, 0))
        fetched, = struct.unpack_from(">i", answer)
        assert fetched > 0 or len(answer) > 20000
        return produced, fetched


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


ME = "ANONYMOUS"  # who is not authenticated


def test_quotas_of_every_kind_of_entity_are_in_force_in_kafkas_order_also_after_a_restart(tmp_path):
    """From the least to the most specific: each that is added is the one in force; so are those below it again
    when they are removed one by one, the upper half after a restart of everything, the lower half after kill -9 of
    the dataplane. What is in force is seen by whether a client is told to wait: every other one allows any rate."""
    order = [[("client-id", None)], [("client-id", "app")], [("user", None)], [("user", None), ("client-id", None)],
             [("user", None), ("client-id", "app")], [("user", ME)], [("user", ME), ("client-id", None)],
             [("user", ME), ("client-id", "app")]]
    slow, quick = 1000, 10 ** 12

    def check(level, what):
        produced, fetched = told_to_wait(a, "app")
        assert (produced > 1000, fetched > 1000) == (level % 2 == 0, level % 2 == 0), (what, level, produced, fetched)

    with Appliance(tmp_path, sets=["shards=2"]) as a:
        a.ctl("topic", "create", "told")
        assert told_to_wait(a, "app") == (0, 0)
        for level, entity in enumerate(order):
            for key in ("producer_byte_rate", "consumer_byte_rate"):
                alter_quota(a, entity, key, slow if level % 2 == 0 else quick)
            check(level, "added")
        want = {tuple(e): {k: (slow, quick)[i % 2] for k in ("producer_byte_rate", "consumer_byte_rate")}
                for i, e in enumerate(order)}
        assert describe_quotas(a, []) == want
        for components, strict, levels in [
                ([("client-id", 1, None)], True, [0]), ([("client-id", 0, "app")], True, [1]),
                ([("client-id", 2, None)], True, [0, 1]), ([("user", 2, None)], True, [2, 5]),
                ([("client-id", 0, "app")], False, [1, 4, 7]), ([("user", 1, None)], False, [2, 3, 4]),
                ([("user", 0, ME), ("client-id", 2, None)], True, [6, 7]), ([("user", 0, "you")], False, [])]:
            assert describe_quotas(a, components, strict) == {tuple(order[i]): want[tuple(order[i])] for i in levels}
        a.stop()
        a.start()
        wait_for("the topic is served", lambda: a.end_offset("told") > 0)
        assert describe_quotas(a, []) == want
        for level in range(len(order) - 1, -1, -1):
            if level == 3:
                a.kill_dataplane()
                wait_for("the topic is served again", lambda: a.end_offset("told") > 0)
                assert describe_quotas(a, []) == {tuple(e): want[tuple(e)] for e in order[:4]}
            check(level, "after the restart" if level > 3 else "after kill -9")
            for key in ("producer_byte_rate", "consumer_byte_rate"):
                alter_quota(a, order[level], key, None)
        assert told_to_wait(a, "app") == (0, 0) and describe_quotas(a, []) == {}


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
