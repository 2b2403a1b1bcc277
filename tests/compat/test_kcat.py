"""kcat (librdkafka) against a running appliance: big files through every codec, in order."""
import hashlib
import os
import random
import subprocess

import pytest
from appliance import Appliance, need

MEGABYTES = int(os.environ.get("SLUICE_TEST_MEGABYTES", "100"))


@pytest.fixture(scope="module")
def lines_file(tmp_path_factory):
    """A file of distinct, compressible lines, and its SHA-256."""
    path = tmp_path_factory.mktemp("lines") / "lines"
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 10)))
             for _ in range(500)]
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        n = 0
        while f.tell() < MEGABYTES << 20:
            chunk = b"".join(b"%09d %s\n" % (n + i, b" ".join(rng.choices(words, k=25)))
                             for i in range(1000))
            n += 1000
            f.write(chunk)
            digest.update(chunk)
    return str(path), digest.hexdigest()


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    need("kcat")
    with Appliance(tmp_path_factory.mktemp("kcat")) as a:
        yield a


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_big_file_comes_back_line_by_line_in_order(appliance, lines_file, codec):
    path, want = lines_file
    topic = f"lines-{codec}"
    p = subprocess.run(["kcat", "-b", appliance.kafka, "-P", "-t", topic, "-p", "0", "-z", codec,
                        "-X", "acks=all", "-X", "enable.idempotence=true", "-l", path],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=300)
    assert p.returncode == 0, p.stderr.decode()[-2000:]
    c = subprocess.Popen(["kcat", "-b", appliance.kafka, "-C", "-t", topic, "-p", "0",
                          "-o", "beginning", "-e", "-q", "-X", "check.crcs=true"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    digest = hashlib.sha256()
    for chunk in iter(lambda: c.stdout.read(1 << 20), b""):
        digest.update(chunk)
    assert c.wait(300) == 0
    assert digest.hexdigest() == want


def test_list_shows_one_broker_and_its_topics(appliance):
    appliance.kcat("-P", "-t", "listed", input=b"x\n")
    out = appliance.kcat("-L")
    assert " 1 brokers:" in out
    assert 'topic "listed" with 1 partitions' in out
    assert appliance.kafka in out


def test_offsets_by_timestamp_find_the_record(appliance):
    for i in range(5):
        appliance.kcat("-P", "-t", "times", input=b"%d\n" % i)
    stamps = [int(x) for x in appliance.consume("times", "-f", "%T\n")]
    out = appliance.kcat("-Q", "-t", f"times:0:{stamps[2]}")
    offset = int(out.split("offset")[-1].strip(" :\n"))
    assert offset <= 2 and stamps[offset] == stamps[2]


def test_keys_headers_and_null_values_come_back(appliance):
    appliance.kcat("-P", "-t", "kv", "-K", ":", "-Z", "-H", "a=1", "-H", "b=", input=b"k1:v1\nk2:\n")
    got = appliance.consume("kv", "-f", "%k|%S|%s|%h\n")
    assert got == ["k1|2|v1|a=1,b=", "k2|-1||a=1,b="]


def test_a_consumer_that_waits_sees_a_record_soon(appliance):
    appliance.kcat("-P", "-t", "tail", input=b"first\n")
    c = subprocess.Popen(["kcat", "-b", appliance.kafka, "-C", "-t", "tail", "-o", "end", "-c", "1",
                          "-u", "-q", "-X", "fetch.wait.max.ms=30000"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    import time
    time.sleep(1)  # the consumer has to be parked; a shorter wait only makes the test weaker
    appliance.kcat("-P", "-t", "tail", input=b"second\n")
    out, _ = c.communicate(timeout=20)
    assert out == b"second\n"
