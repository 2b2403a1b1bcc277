"""kill -9 of either process under load: nothing acknowledged is lost, altered or doubled."""
import os
import random
import signal
import time

import kafka_tools
from appliance import Appliance, program, wait_for
from load import Load, Reader, assert_kept, read_all
from mixed_load import SETS, MixedLoad
from ports import free_port
import subprocess

ROUNDS = int(os.environ.get("SLUICE_TEST_ROUNDS",
                            200 if os.environ.get("SLUICE_TEST_LONG") else 10))


def test_kill_of_the_dataplane_under_mixed_load_loses_and_doubles_nothing(tmp_path):
    seed = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(1 << 30)))
    print(f"seed {seed}")
    random.seed(seed)
    # the port must stay the same across restarts, as it would with a configured listener
    with Appliance(tmp_path,
                   sets=SETS + [f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"]) as a:
        load = MixedLoad(a)
        for i in range(ROUNDS):
            load.before_crash(a)
            a.kill_dataplane()
            if i % 5 == 4:
                load.check()
        load.finish()


def test_produce_and_fetch_go_on_while_sluiced_is_dead_and_metadata_survives(tmp_path):
    with Appliance(tmp_path) as a:
        a.ctl("topic", "create", "t", "--partitions", "1")
        load = Load(a.kafka, "t", rate=2000)
        load.start()
        reader = Reader(a.kafka, "t")
        reader.start()
        wait_for("acknowledgements", lambda: len(load.acked) > 100)
        wait_for("records are read", lambda: len(reader.records) > 100)
        dataplane = a.dataplane_pid()
        kafka = a.kafka
        a.process.send_signal(signal.SIGKILL)
        a.process.wait(30)
        before, read_before = len(load.acked), len(reader.records)
        wait_for("acknowledgements without sluiced", lambda: len(load.acked) > before + 1000)
        wait_for("fetch without sluiced", lambda: len(reader.records) > read_before + 1000)
        assert len(read_all(kafka, "t")) > before, "a client that comes now can fetch"
        assert a.dataplane_pid() == dataplane
        a.start()
        assert a.dataplane_pid() == dataplane, "a returning sluiced reattaches"
        before, read_before = len(load.acked), len(reader.records)
        wait_for("acknowledgements with the new sluiced",
                 lambda: len(load.acked) > before + 1000)
        wait_for("fetch with the new sluiced", lambda: len(reader.records) > read_before + 1000)
        load.finish()
        reader.finish(until=max(load.acked.values()))
        assert_kept(load, reader.records)
        for what, times in (("acknowledgements", load.ack_times), ("fetches", reader.times)):
            longest = max(b - a for a, b in zip(times, times[1:]))
            print(f"longest pause between {what} {longest:.3f} s")
            assert longest < 10, what
        assert "t" in a.ctl("topic", "list").stdout.split()
        a.ctl("topic", "create", "u", "--partitions", "3")
        assert_kept(load, read_all(a.kafka, "t"))


def test_dump_log_is_clean_after_a_stop_and_after_kill_and_recover(tmp_path):
    kafka_tools.jars()
    sets = ["topic_defaults.segment_bytes=1MiB", "topic_defaults.message_max_bytes=1000000"]
    with Appliance(tmp_path, sets=sets) as a:
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            load = Load(a.kafka, f"t-{codec}", size=300, tag=codec,
                        extra={"compression.codec": codec})
            load.start()
            wait_for("enough for several segments", lambda: len(load.acked) > 20000)
            load.finish()
        assert a.stop() == 0
        kafka_tools.assert_dump_is_clean(os.path.join(a.dir, "log"))
        a.start()
        load = Load(a.kafka, "t-none", tag="more")
        load.start()
        wait_for("acknowledgements", lambda: len(load.acked) > 5000)
        a.kill_all()
        load.stopping.set()
        p = subprocess.run([program("sluicectl"), "log", "recover", a.dir], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert p.returncode == 0, p.stdout
        assert "partition not closed cleanly" in p.stdout
        out = kafka_tools.assert_dump_is_clean(os.path.join(a.dir, "log"))
        assert "more" not in out  # no data printed, only headers
        a.start()
        assert a.admin("GET", "/v1/topics/t-none")[1]["partitions"][0]["leader_epoch"] == 1
        by_offset = dict(read_all(a.kafka, "t-none"))
        for i, offset in list(load.acked.items()):
            assert by_offset[offset] == load.value(i)
