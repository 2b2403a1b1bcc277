"""Topics come and go while everything else runs."""
import json
import os
import socket
import threading
import time

from appliance import Appliance, wait_for
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic


def drops(a):
    return {k: v for k, v in a.metrics().items()
            if "drop" in k.split("{")[0] and not k.startswith("#")}


def test_a_thousand_partitions_come_and_go_without_one_drop_while_ingest_runs(tmp_path):
    with Appliance(tmp_path, sets=["listeners[0].rcvbuf=8MiB"]) as a:
        _, host, port = a.ports()["syslog-udp"]
        stop, sent = threading.Event(), [0]

        def sender():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            while not stop.is_set():
                for _ in range(20):
                    s.sendto(b"<13>1 2026-01-01T00:00:00Z h app - - - line %d" % sent[0],
                             (host, port))
                    sent[0] += 1
                time.sleep(0.01)

        t = threading.Thread(target=sender)
        t.start()
        try:
            # Not by reading to the end: while events keep coming, a reader never finds one.
            wait_for("ingest runs", lambda: a.end_offset("syslog") > 100)
            before = drops(a)
            turns = [a.metrics_sum("sluice_turn_max_cycles")]
            admin = AdminClient({"bootstrap.servers": a.kafka})
            names = [f"many-{i}" for i in range(100)]
            for f in admin.create_topics([NewTopic(n, 10, 1) for n in names],
                                         operation_timeout=60).values():
                f.result(60)
            turns.append(a.metrics_sum("sluice_turn_max_cycles"))
            assert sum(1 for n in admin.list_topics(timeout=30).topics if n.startswith("many-")) == 100
            for f in admin.delete_topics(names, operation_timeout=60).values():
                f.result(60)
            assert not any(n.startswith("many-") for n in admin.list_topics(timeout=30).topics)
            after = drops(a)
        finally:
            stop.set()
            t.join()
        grown = {k: after[k] - before.get(k, 0) for k in after if after[k] > before.get(k, 0)}
        assert not grown, grown
        wait_for("all events are there", lambda: len(a.consume("syslog")) == sent[0])
        turns.append(a.metrics_sum("sluice_turn_max_cycles"))
        # A shard asserts that it is given few partitions at a time; time itself depends on who else
        # runs here.
        print(f"{sent[0]} events; longest shard turn in Mcycles before, with 1,000 partitions more, "
              f"and without them again: {[round(t / 1e6, 2) for t in turns]}")
        assert turns[-1] > 0


def test_what_a_stop_left_of_deleted_partitions_is_removed_after_the_next_start(tmp_path):
    with Appliance(tmp_path) as a:
        log = os.path.join(a.dir, "log")

        def left():
            return [n for n in os.listdir(log) if n.endswith("-delete")]
        a.ctl("topic", "create", "gone", "--partitions", "200")
        a.ctl("topic", "delete", "gone")
        assert a.stop() == 0
        for i in range(3):  # a fast disk may have left none
            d = os.path.join(log, f"gone-{i}.{i:032x}-delete")
            os.mkdir(d)
            open(os.path.join(d, "0" * 20 + ".log"), "wb").close()
        waiting = len(left())
        a.start()
        assert f"removing {waiting} directories" in a.output()
        a.kcat("-P", "-t", "t", input=b"x\n")
        wait_for("their files are gone", lambda: not left())
        assert a.consume("t") == ["x"]


def test_the_first_produce_after_create_succeeds_and_delete_means_gone(tmp_path):
    with Appliance(tmp_path) as a:
        for i in range(20):
            a.ctl("topic", "create", f"t{i}", "--partitions", "2")
            a.kcat("-P", "-t", f"t{i}", "-X", "message.timeout.ms=5000", input=b"x\n")
            a.ctl("topic", "delete", f"t{i}")
            assert f"t{i}" not in a.ctl("topic", "list").stdout.split()


def test_describe_shows_partitions_and_their_owners(tmp_path):
    with Appliance(tmp_path, sets=["shards=2"]) as a:
        a.ctl("topic", "create", "t", "--partitions", "4", "--config", "retention.ms=3600000")
        d = a.admin("GET", "/v1/topics/t")[1]
        assert len(d["partitions"]) == 4
        assert {p["shard"] for p in d["partitions"]} == {0, 1}
        assert "retention.ms" in a.ctl("topic", "describe", "t").stdout
        p = a.ctl("topic", "create", "t", check=False)
        assert p.returncode != 0 and "exists" in p.stderr
        p = a.ctl("topic", "create", "bad/name", check=False)
        assert p.returncode != 0 and "name" in p.stderr
        p = a.ctl("topic", "create", "v", "--config", "retention.sm=1", check=False)
        assert p.returncode != 0 and "retention.sm" in p.stderr


def test_more_partitions_of_a_listeners_topic_are_an_order_boundary_on_record(tmp_path):
    with Appliance(tmp_path) as a:
        admin = AdminClient({"bootstrap.servers": a.kafka})
        a.ctl("topic", "create", "other")
        for topic in ("other", "syslog"):
            admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
        [line] = wait_for("the record", lambda: a.consume("_sluice.gaps"))
        gap = json.loads(line)
        assert (gap["reason"], gap["topic"]) == ("partitions", "syslog")
        assert (gap["partitions_before"], gap["partitions"]) == (1, 3)
        assert 0 < gap["from"] == gap["to"] <= time.time() * 1000
        assert "a change of shards or partitions" in a.output()
