"""A flipped bit in any file of a stopped appliance is reported and costs at most one batch: by
`sluicectl log verify` and `repair`, and by an appliance that starts on it as it is."""
import json
import os
import random
import re
import shutil
import subprocess

import confluent_kafka
import kafka_tools
import pytest
from appliance import Appliance, program, wait_for

SEED = int(os.environ.get("SLUICE_TEST_SEED", "1"), 0)
LONG = "SLUICE_TEST_LONG" in os.environ
SETS = ["topic_defaults.segment_bytes=1MiB", "topic_defaults.message_max_bytes=1000000",
        "scrub.rate=64MiB"]
RECORDS = 6000
KINDS = [".log", ".index", ".timeindex", ".snapshot", ".txnindex", "leader-epoch-checkpoint",
         "partition.metadata", "recovery-point-offset-checkpoint", "replication-offset-checkpoint",
         "log-start-offset-checkpoint", "meta.properties"]


def value(i):
    return f"record-{i:08d}-".encode() + bytes((i * 31 + k) % 251 for k in range(400))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A stopped appliance: t (segments, idempotent), z (compressed), x (transactions)."""
    a = Appliance(tmp_path_factory.mktemp("integrity"), sets=SETS)
    try:
        conf = {"bootstrap.servers": a.kafka, "linger.ms": 5, "batch.size": 30000}
        p = confluent_kafka.Producer(dict(conf, **{"enable.idempotence": True}))
        for i in range(RECORDS):
            p.produce("t", value(i), partition=0)
            p.poll(0)
        assert p.flush(60) == 0
        p = confluent_kafka.Producer(dict(conf, **{"compression.type": "lz4"}))
        for i in range(1000):
            p.produce("z", f"line {i} of many that are much alike".encode(), key=str(i), partition=0)
            if i % 250 == 249:  # at least four batches: one to damage, and some behind it
                assert p.flush(60) == 0
        p = confluent_kafka.Producer(dict(conf, **{"transactional.id": "tx"}))
        p.init_transactions(60)
        for n in range(6):
            p.begin_transaction()
            for i in range(20):
                p.produce("x", value(i), partition=0)
            assert p.flush(60) == 0
            if n % 2:
                p.abort_transaction(60)
            else:
                p.commit_transaction(60)
        # waits for the last marker, and for the coordinator to have noted it
        confluent_kafka.Producer(dict(conf, **{"transactional.id": "tx"})).init_transactions(60)
        assert a.stop() == 0
        yield a
    finally:
        if a.process is not None or a.dataplane_pid():
            a.kill_all()


def log_tool(*args):
    return subprocess.run([program("sluice-log"), *args], text=True, capture_output=True, timeout=60)


def verify(log, *more):
    """(exit code, findings, summary)"""
    p = log_tool("verify", "--json", *more, log)
    assert p.returncode in (0, 1), p.stderr
    lines = [json.loads(line) for line in p.stdout.splitlines()]
    return p.returncode, lines[:-1], lines[-1]


def batches(log, topic):
    """[(first offset, last offset, position, size)] of partition 0, as it lies on disk."""
    p = log_tool("dump", "--json", "--topic", f"{topic}:0", log)
    assert p.returncode == 0, p.stderr
    found = [json.loads(line)["batch"] for line in p.stdout.splitlines() if '{"batch"' in line]
    return [(b["base_offset"], b["last_offset"], b["position"], b["size"]) for b in found]


def with_data(log, kind):
    """The files of a kind whose every bit says something: not those of partitions without records."""
    where = [log] + [os.path.join(log, d) for d in ("t-0", "z-0", "x-0")]
    if kind in (".log", "partition.metadata"):
        where.append(os.path.join(log, "__cluster_metadata-0"))
    return sorted(os.path.join(d, n) for d in where for n in os.listdir(d)
                  if n.endswith(kind) and os.path.getsize(os.path.join(d, n)) > 0)


def says_nothing(path, at, was):
    """Bytes that nothing else says, or whose change leaves what is said true: in a time index the
    offset, which may name any record of that time; in meta.properties the comment with the date and
    the ids of cluster and node, which sluiced holds against its own at the start."""
    if path.endswith(".timeindex"):
        return at % 12 >= 10
    if path.endswith("meta.properties"):
        line = was[:at].rfind(b"\n") + 1
        return was[line:line + 1] == b"#" or was[line:at].startswith((b"cluster.id=", b"node.id="))
    return False


def flip(rng, path):
    """Flips a random bit; (byte, bit)."""
    with open(path, "rb") as f:
        was = f.read()
    at, bit = rng.choice([i for i in range(len(was)) if not says_nothing(path, i, was)]), rng.randrange(8)
    with open(path, "r+b") as f:
        f.seek(at)
        b = f.read(1)[0]
        f.seek(at)
        f.write(bytes([b ^ 1 << bit]))
    return at, bit


def test_a_sound_directory_has_no_findings_and_dump_prints_what_is_in_it(stopped):
    log = os.path.join(stopped.dir, "log")
    code, findings, summary = verify(log, "--deep", "--jobs", "2")
    assert code == 0, findings
    assert summary["findings"] == 0 and summary["records"] > RECORDS + 1000
    p = stopped.ctl("log", "dump", "--topic", "z:0", "--offset", "998", "--keys", "--values",
                    "--json", stopped.dir)
    found = [json.loads(line)["record"] for line in p.stdout.splitlines() if '{"record"' in line]
    assert [(r["offset"], r["key"]) for r in found] == [(998, "998"), (999, "999")]
    assert found[0]["value"] == "line 998 of many that are much alike"
    p = stopped.ctl("log", "dump", "--topic", "__cluster_metadata:0", stopped.dir)
    assert '"type": "topic_record"' in p.stdout and '"name": "z"' in p.stdout
    p = stopped.ctl("log", "dump", "--topic", "x:0", stopped.dir)
    assert p.stdout.count('"control": "ABORT"') == 3 and p.stdout.count('"control": "COMMIT"') == 3
    p = stopped.ctl("log", "verify", "--json", stopped.dir)
    assert json.loads(p.stdout.splitlines()[-1])["findings"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_reported_whatever_the_file(stopped, kind):
    log = os.path.join(stopped.dir, "log")
    rng = random.Random(f"{SEED} {kind}")
    paths = with_data(log, kind)
    if not paths:
        assert kind == "log-start-offset-checkpoint" or kind == ".txnindex"
        pytest.skip(f"no {kind} file with something in it")
    for _ in range(60 if LONG else 12):
        path = rng.choice(paths)
        with open(path, "rb") as f:
            was = f.read()
        at, bit = flip(rng, path)
        try:
            code, findings, _ = verify(log)
        finally:
            with open(path, "wb") as f:
                f.write(was)
        assert code == 1, f"seed {SEED}: {path}: bit {bit} of byte {at}"
        assert sum(f["lost"] for f in findings) <= 1, findings
    assert verify(log)[0] == 0


@pytest.mark.parametrize("round_", range(20 if LONG else 4))
def test_repair_costs_at_most_the_batch_that_was_hit(stopped, tmp_path, round_):
    rng = random.Random(f"{SEED} repair {round_}")
    log = os.path.join(tmp_path, "log")
    shutil.copytree(os.path.join(stopped.dir, "log"), log)
    topic = rng.choice("tzx")
    before = batches(log, topic)
    path = rng.choice([f for f in with_data(log, ".log") if f"/{topic}-0/" in f])
    at, bit = flip(rng, path)
    dry = log_tool("repair", "--dry-run", log)
    assert dry.returncode == 1 and "would be" in dry.stdout, dry.stdout
    p = log_tool("repair", log)
    assert p.returncode == 0, f"seed {SEED} {path} {at} {bit}: {p.stdout}{p.stderr}"
    code, findings, summary = verify(log, "--deep")
    assert code == 0, findings
    assert summary["lost_batches"] <= 1
    after = batches(log, topic)
    assert after == before, "every batch, or what stands for it, is at its place"
    kept = [n for n in os.listdir(os.path.dirname(path)) if n.endswith(".quarantine")]
    assert len(kept) == summary["lost_batches"]


def test_kafkas_tools_read_on_behind_what_repair_kept_aside(stopped, tmp_path):
    log = os.path.join(tmp_path, "log")
    shutil.copytree(os.path.join(stopped.dir, "log"), log)
    first, last, pos, size = batches(log, "z")[1]
    path = os.path.join(log, "z-0", f"{0:020d}.log")
    with open(path, "r+b") as f:
        f.seek(pos + size // 2)
        f.write(b"damage")
    assert log_tool("repair", log).returncode == 0
    files = [path, path[:-4] + ".index", path[:-4] + ".timeindex"]
    p = kafka_tools.run("org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files",
                        ",".join(files))
    assert p.returncode == 0 and "isvalid: false" not in p.stdout, p.stdout[-2000:]
    assert "mismatch" not in p.stdout.lower() and "Exception" not in p.stdout, p.stdout[-2000:]
    assert f"baseOffset: {first} lastOffset: {last} count: 1" in p.stdout
    assert p.stdout.count("controlType: UNKNOWN") == 1
    assert "| offset: 999 " in p.stdout, "what lies behind it is read"


def read_past_damage(a, topic, end):
    """{offset: value} of what can be read, and [(first, last)] that is lost, as the log says."""
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "check",
                                  "enable.auto.commit": False, "check.crcs": True,
                                  "auto.offset.reset": "error", "fetch.error.backoff.ms": 50})
    got, lost, at = {}, [], 0
    c.assign([confluent_kafka.TopicPartition(topic, 0, 0)])

    def step():
        nonlocal at
        m = c.poll(0.1)
        if m is not None and m.error() is None:
            assert m.offset() == at, "nothing is passed over in silence"
            got[at] = m.value()
            at += 1
        elif m is not None:
            ranges = re.findall(r"(?:BATCH|TAIL)[^\n]*offsets (\d+) to (\d+)", a.output())
            for first, last in ((int(x), int(y)) for x, y in ranges):
                if first <= at <= last:
                    assert at == first, "everything before the damage was read"
                    lost.append((first, last))
                    at = last + 1
                    if at < end:
                        c.seek(confluent_kafka.TopicPartition(topic, 0, at))
        return at >= end
    wait_for(f"{topic} is read to {end}", step, every=0)
    c.close()
    return got, lost


@pytest.mark.parametrize("round_", range(8 if LONG else 2))
def test_an_appliance_serves_all_but_the_batch_that_was_hit(stopped, tmp_path, round_):
    rng = random.Random(f"{SEED} serve {round_}")
    home = os.path.join(tmp_path, "data")
    shutil.copytree(stopped.dir, home)
    log = os.path.join(home, "log")
    path = rng.choice([f for f in with_data(log, ".log") if "/t-0/" in f])
    hit = batches(log, "t")
    at, bit = flip(rng, path)
    with Appliance(tmp_path, sets=SETS) as a:
        got, lost = read_past_damage(a, "t", RECORDS)
        assert all(v == value(i) for i, v in got.items())
        assert len(lost) <= 1, f"seed {SEED}: {path}: bit {bit} of byte {at}"
        if lost:
            assert lost[0] in [(b[0], b[1]) for b in hit], "exactly one batch"
            assert json.loads(a.get("/health")[1])["status"] == "degraded"
        assert len(got) + sum(y - x + 1 for x, y in lost) == RECORDS
        a.kcat("-P", "-t", "t", "-p", "0", input=b"goes on\n")
        assert a.end_offset("t") == RECORDS + 1


def tool(a, *args):
    p = kafka_tools.run("org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", a.kafka,
                        *args, timeout=60)
    assert p.returncode == 0, p.stdout
    return p.stdout


def committed(a, topic, lost):
    """Offsets that a read_committed consumer gets, which passes over the lost one, and the last
    stable offset."""
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "rc",
                                  "isolation.level": "read_committed", "auto.offset.reset": "error",
                                  "enable.partition.eof": True})
    tp = confluent_kafka.TopicPartition(topic, 0, 0)
    stable = c.get_watermark_offsets(tp, timeout=30)[1]
    c.assign([tp])
    got = []
    for _ in range(10000):
        m = c.poll(10)
        assert m is not None, "no answer"
        if m.error() is None:
            got.append(m.offset())
        elif m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
            break
        else:
            assert m.offset() == lost, (m.error(), m.offset(), stable)
            c.seek(confluent_kafka.TopicPartition(topic, 0, lost + 1))
    c.close()
    return got, stable


def test_a_transaction_whose_marker_is_lost_hangs_until_kafkas_tool_ends_it(stopped, tmp_path):
    """The coordinator has it ended, the partition has it open: kafka-transactions find-hanging and
    abort, as on Kafka."""
    kafka_tools.jars()
    home = os.path.join(tmp_path, "data")
    shutil.copytree(stopped.dir, home)
    log = os.path.join(home, "log")
    all_of_x = batches(log, "x")
    marker = all_of_x[-1]  # ABORT of the last transaction
    assert marker[0] == marker[1], "a marker is one record"
    start = all_of_x[-2][0]
    while start > 0 and any(b[1] == start - 1 and b[0] != b[1] for b in all_of_x):
        start = next(b[0] for b in all_of_x if b[1] == start - 1)
    with open(os.path.join(log, "x-0", f"{0:020d}.log"), "r+b") as f:
        f.seek(marker[2] + 61)
        f.write(b"damage")
    os.unlink(os.path.join(log, ".kafka_cleanshutdown"))  # it is found by a start after a crash,
    for n in os.listdir(os.path.join(log, "x-0")):        # which must ask the log
        if n.endswith((".snapshot", ".txnindex")):
            os.unlink(os.path.join(log, "x-0", n))
    with Appliance(tmp_path, sets=SETS) as a:
        assert "DAMAGED_BATCH" in a.output()
        before, stable = committed(a, "x", marker[0])
        assert stable == start and before and before[-1] < start
        found = tool(a, "find-hanging", "--topic", "x", "--partition", "0",
                     "--max-transaction-timeout", "0")
        assert re.search(rf"^x\s+0\s+\d+\s+\d+\s+-?\d+\s+{start}\s", found, re.M), found
        tool(a, "abort", "--topic", "x", "--partition", "0", "--start-offset", str(start))
        after, stable = committed(a, "x", marker[0])
        assert stable > marker[0] and after == before, "it was aborted, and is again"
        p = confluent_kafka.Producer({"bootstrap.servers": a.kafka, "transactional.id": "tx"})
        p.init_transactions(60)
        p.begin_transaction()
        p.produce("x", b"goes on", partition=0)
        p.commit_transaction(60)
        assert len(committed(a, "x", marker[0])[0]) == len(before) + 1
