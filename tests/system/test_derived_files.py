"""Everything but .log can be rebuilt from .log: files that are gone or damaged cost time, not data."""
import glob
import os

import confluent_kafka
import pytest
from appliance import Appliance
from load import Load, assert_kept, read_all

LONG = "SLUICE_TEST_LONG" in os.environ
ENDINGS = [".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint"]
HOWS = ["gone", "empty", "zeros", "noise", "half"]
CHOSEN = [(".index", "empty"), (".index", "zeros"), (".timeindex", "empty"), (".timeindex", "zeros"), (".snapshot", "half")]
SETS = ["topic_defaults.segment_bytes=1MiB", "topic_defaults.message_max_bytes=1000000"]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """An appliance, stopped, with several segments in t-0, and the load it acknowledged."""
    a = Appliance(tmp_path_factory.mktemp("d"), sets=SETS)
    load = Load(a.kafka, "t", size=1000, rate=5000)
    load.start()
    try:
        while len(load.acked) < 4000:
            load.join(0.05)
        load.finish()
        a.producer = load.producer
        assert a.stop() == 0
        yield a, load
    finally:
        if a.process is not None or a.dataplane_pid():
            a.kill_all()


@pytest.fixture
def filled(full):
    """That one, stopped: a test that failed has not harmed the next."""
    a, load = full
    if a.process is not None:
        a.kill_all()
        a.start()
        assert a.stop() == 0
    return full


def files(a, ending):
    found = sorted(glob.glob(os.path.join(a.dir, "log", "t-0", "*" + ending)))
    assert found, ending
    return found


def epochs(text):
    """[(epoch, first offset)] of a leader-epoch-checkpoint."""
    return [tuple(map(int, line.split())) for line in text.splitlines()[2:]]


def whole(path):
    with open(path, "rb") as f:
        return f.read()


def offset_at(a, ms):
    c = confluent_kafka.Consumer({"bootstrap.servers": a.kafka, "group.id": "x"})
    try:
        return c.offsets_for_times([confluent_kafka.TopicPartition("t", 0, ms)], timeout=30)[0].offset
    finally:
        c.close()


def timestamps(a):
    out = a.kcat("-C", "-t", "t", "-o", "beginning", "-e", "-q", "-f", "%T %o\\n")
    return [tuple(map(int, line.split())) for line in out.splitlines()]


def check(a, load):
    """The appliance runs: every record is there, and times lead to the right offsets."""
    records = read_all(a.kafka, "t")
    assert_kept(load, records)
    stamps = timestamps(a)
    assert len(stamps) == len(records)
    for ms, _ in (stamps[0], stamps[len(stamps) // 2], stamps[-1]):
        assert offset_at(a, ms) == next(o for t, o in stamps if t >= ms)


def damage(path, how):
    text = whole(path)
    if how == "gone":
        os.unlink(path)
        return
    with open(path, "wb") as f:
        f.write({"empty": b"", "zeros": bytes(len(text)), "half": text[:len(text) // 2],
                 "noise": bytes((i * 151 + 89) & 255 for i in range(len(text) or 300))}[how])


@pytest.mark.parametrize("ending,how", [(e, h) for e in ENDINGS for h in HOWS
                                        if LONG or h in ("gone", "noise") or (e, h) in CHOSEN])
def test_a_derived_file_that_is_lost_or_damaged_is_rebuilt(filled, ending, how):
    a, load = filled
    before = {p: whole(p) for p in files(a, ending)}
    for p in before:
        damage(p, how)
    a.start()
    check(a, load)
    assert a.stop() == 0
    for p, text in before.items():
        if ending in (".index", ".timeindex"):
            assert whole(p) == text, f"{p} is as it was"
        elif ending == "leader-epoch-checkpoint":  # the start raised the epoch: no record has it
            assert epochs(whole(p))[0] == epochs(text)[0]
            assert epochs(whole(p))[-1][0] > epochs(text)[-1][0]
    newest = files(a, ".snapshot")[-1]
    assert int(os.path.basename(newest).split(".")[0]) == 1 + max(load.acked.values())


@pytest.mark.parametrize("how", ["gone", "empty", "noise"])
def test_checkpoints_of_the_directory_that_are_lost_or_damaged_are_rebuilt(filled, how):
    a, load = filled
    for name in ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint",
                 "replication-offset-checkpoint", ".kafka_cleanshutdown"):
        damage(os.path.join(a.dir, "log", name), how)
    a.start()
    check(a, load)
    assert a.stop() == 0
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        assert f"t 0 {1 + max(load.acked.values())}\n".encode() in \
            whole(os.path.join(a.dir, "log", name))


def test_all_derived_files_at_once_and_after_a_kill(filled):
    a, load = filled
    for kill in (False, True):
        for p in glob.glob(os.path.join(a.dir, "log", "t-0", "*")):
            if not p.endswith((".log", "partition.metadata")):
                os.unlink(p)
        a.start()
        check(a, load)
        if kill:
            a.kill_all()
            a.start()
            check(a, load)
        assert a.stop() == 0


def journal_files(a):
    found = sorted(glob.glob(os.path.join(a.dir, "journal", "*.journal")))
    assert found
    return found


@pytest.mark.parametrize("how", ["gone", "noise", "half"])
def test_after_a_clean_stop_the_journal_holds_nothing_that_is_needed(filled, how):
    a, load = filled
    for p in journal_files(a):
        size = os.path.getsize(p)
        if how == "gone":
            os.unlink(p)
        elif how in ("empty", "half"):
            os.truncate(p, 0 if how == "empty" else size // 2 + 77)
        else:
            with open(p, "r+b") as f:
                f.write(bytes(size) if how == "zeros" else
                        bytes((i * 151 + 89) & 255 for i in range(65536)) * (size // 65536))
    a.start()
    check(a, load)
    assert a.stop() == 0


@pytest.mark.parametrize("how", HOWS if LONG else ["half", "zeros"])
def test_a_damaged_journal_after_a_kill_costs_only_what_stood_in_it(tmp_path, how):
    """Each record of the journal that is lost is the end of its partition: what remains is a dense
    prefix, nothing of it altered, and the appliance starts and takes more."""
    with Appliance(tmp_path, sets=SETS) as a:
        load = Load(a.kafka, "t", size=200, rate=2000)
        load.start()
        while len(load.acked) < 3000:
            load.join(0.05)
        a.kill_all()
        load.stopping.set()
        load.join(30)
        load.producer.purge()
        load.producer.flush(5)
        for p in journal_files(a):
            size = os.path.getsize(p)
            if how == "gone":
                os.unlink(p)
            elif how in ("half", "empty"):
                os.truncate(p, 0 if how == "empty" else 4096 + 1000)
            else:
                with open(p, "r+b") as f:
                    f.seek(8192)
                    f.write(bytes(size - 8192) if how == "zeros" else
                            bytes((i * 151 + 89) & 255 for i in range(size - 8192)))
        a.start()
        records = read_all(a.kafka, "t")
        assert [o for o, _ in records] == list(range(len(records)))
        by_offset = {o: load.value(i) for i, o in load.acked.items()}
        assert len(records) > 0
        for o, v in records:
            assert by_offset.get(o, v) == v
        a.kcat("-P", "-t", "t", input=b"more\n")
        assert a.consume("t")[-1] == "more"
