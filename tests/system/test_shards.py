"""Several shards: every connection reaches every partition, whichever shard owns either."""
import collections
import subprocess
import time

import confluent_kafka
import pytest
from appliance import Appliance, wait_for

PARTITIONS = 8


@pytest.fixture(scope="module", params=[2, 4])
def appliance(request, tmp_path_factory):
    base = tmp_path_factory.mktemp("shards")
    with Appliance(base, sets=[f"shards={request.param}"]) as a:
        a.shards = request.param
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        yield a


def owners(a, topic):
    return {p["partition"]: p["shard"] for p in a.admin("GET", f"/v1/topics/{topic}")[1]["partitions"]}


def by_partition(a, topic):
    """{partition: values in order}, read by one connection."""
    found = collections.defaultdict(list)
    for line in a.consume(topic, "-f", "%p %s\n"):
        p, _, value = line.partition(" ")
        found[int(p)].append(value)
    return found


def test_partitions_are_spread_over_all_shards(appliance):
    assert set(owners(appliance, "t").values()) == set(range(appliance.shards))


@pytest.mark.parametrize("acks", ["all", "1", "0"])
def test_every_connection_writes_and_reads_every_partition(appliance, acks):
    topic = f"cross-{acks}"
    appliance.ctl("topic", "create", topic, "--partitions", str(PARTITIONS))
    want = collections.defaultdict(list)
    ends = confluent_kafka.Consumer({"bootstrap.servers": appliance.kafka, "group.id": "ends"})

    def is_complete(p):
        return ends.get_watermark_offsets(confluent_kafka.TopicPartition(topic, p), 30)[1] == len(want[p])
    for connection in range(appliance.shards + 1):  # each lands on the shard the kernel chooses
        producer = confluent_kafka.Producer({"bootstrap.servers": appliance.kafka, "acks": acks})
        for p in range(PARTITIONS):
            for line in (f"{connection}-{p}-{i}" for i in range(20)):
                want[p].append(line)
                producer.produce(topic, line, partition=p)
        assert producer.flush(60) == 0
        for p in range(PARTITIONS):  # with acks=0 nobody said that they have come
            wait_for(f"partition {p} is complete", lambda p=p: is_complete(p))
    ends.close()
    for _ in range(appliance.shards + 1):
        assert by_partition(appliance, topic) == want


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_big_batches_cross_shards_whole(appliance, codec):
    topic = f"big-{codec}"
    appliance.ctl("topic", "create", topic, "--partitions", str(appliance.shards))
    lines = [b"%07d " % i + b"x" * (i % 1000) for i in range(5000)]
    for p in range(appliance.shards):
        appliance.kcat("-P", "-t", topic, "-p", str(p), "-z", codec, "-X", "enable.idempotence=true",
                       input=b"\n".join(lines) + b"\n")
    for p in range(appliance.shards):
        got = appliance.kcat("-C", "-t", topic, "-p", str(p), "-o", "beginning", "-e", "-q",
                             "-X", "check.crcs=true", binary=True)
        assert got == b"\n".join(lines) + b"\n"


def test_a_parked_consumer_of_all_partitions_is_woken_by_any_shard(appliance):
    topic = "parked"
    appliance.ctl("topic", "create", topic, "--partitions", str(PARTITIONS))
    c = subprocess.Popen(["kcat", "-b", appliance.kafka, "-C", "-t", topic, "-o", "beginning",
                          "-c", str(PARTITIONS), "-u", "-q", "-X", "fetch.wait.max.ms=20000"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        time.sleep(0.5)  # parked by now; a shorter wait only makes the test weaker
        started = time.monotonic()
        for p in range(PARTITIONS):
            appliance.kcat("-P", "-t", topic, "-p", str(p), input=b"%d\n" % p)
        out, _ = c.communicate(timeout=30)
    finally:
        c.kill()
    assert sorted(out.split()) == [b"%d" % p for p in range(PARTITIONS)]
    assert time.monotonic() - started < 15, "woken by the time-out, not by the record"


def test_everything_is_there_after_a_restart_with_another_number_of_shards(tmp_path):
    want = [str(i) for i in range(200)]
    a = Appliance(tmp_path, sets=["shards=4"])
    with a:
        a.ctl("topic", "create", "t", "--partitions", str(PARTITIONS))
        for p in range(PARTITIONS):
            a.kcat("-P", "-t", "t", "-p", str(p), input="\n".join(want[p::PARTITIONS]).encode())
        for shards in (1, 2, 4):
            assert a.stop() == 0
            a.sets = [f"shards={shards}"]
            a.start()
            assert set(owners(a, "t").values()) <= set(range(shards))
            assert by_partition(a, "t") == {p: want[p::PARTITIONS] for p in range(PARTITIONS)}
