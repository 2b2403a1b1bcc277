"""Where events are compressed: by a shard with nothing else to do, and by a compression device. What
is in the log is the same: every line once, in order, in the codec that was asked for."""
import socket
import threading

import pytest
from appliance import Appliance, wait_for

CONFIG = """
shards: {shards}
compression_device: "{device}"
kafka: {{listeners: [{{name: kafka, bind: "127.0.0.1:0"}}]}}
http: {{bind: "127.0.0.1:0"}}
storage: {{min_free: 0}}
topic_defaults: {{listener_compression: {codec}}}
listeners:
- {{name: lines, protocol: raw, transport: tcp, bind: "127.0.0.1:0", topic: lines, partitions: 1}}
"""
BURST = 20_000
TEXT = b"an event as they come by the thousand, with a number at its end "


def stream(a, burst, first, connections=1):
    """A burst over each connection, all at a time; a connection's lines are all in one shard."""
    socks = [socket.create_connection(("127.0.0.1", a.port("lines"))) for _ in range(connections)]
    threads = [threading.Thread(target=s.sendall, args=(b"".join(
        b"%d %s%d\n" % (c, TEXT, n) for n in range(first, first + burst)),)) for c, s in enumerate(socks)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for s in socks:
        s.close()
    return first + burst


def check_log(a, sent, codec, connections=1):
    wait_for("all lines are durable", lambda: a.end_offset("lines") == sent * connections)
    got = a.consume("lines")
    for c in range(connections):
        mine = [line.split(" ", 1)[1] for line in got if line.startswith(f"{c} ")]
        assert mine == [f"{TEXT.decode()}{n}" for n in range(sent)]
    dump = a.ctl("log", "dump", "--topic", "lines:0", f"{a.dir}/log").stdout
    assert codec in dump


def test_a_shard_with_cycles_to_spare_compresses_for_another(tmp_path):
    with Appliance(tmp_path, config=CONFIG.format(shards=2, device="", codec="zstd")) as a:
        sent = 0

        def helped():
            nonlocal sent
            sent = stream(a, BURST, sent, 3)  # two of them on one shard: more than it can compress
            wait_for("they are durable", lambda: a.end_offset("lines") == sent * 3)
            return a.metrics_sum("sluice_seals_elsewhere_total") > 0
        wait_for("a batch was compressed elsewhere", helped, 20)
        assert (a.metrics_sum("sluice_seals_for_others_total") ==
                a.metrics_sum("sluice_seals_elsewhere_total"))
        check_log(a, sent, "zstd", 3)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_device_compresses_gzip(tmp_path, shards):
    config = CONFIG.format(shards=shards, device="compress_isal", codec="gzip")
    with Appliance(tmp_path, config=config) as a:
        sent = stream(a, BURST, 0)
        check_log(a, sent, "gzip")
        assert a.metrics_sum("sluice_seals_device_total") > 0
        assert a.metrics_sum("sluice_seals_device_failed_total") == 0
        assert "compress_isal" in a.output()
        status = a.admin("GET", "/v1/status")[1]
        assert "compress_isal" in status["acceleration"]["offload"]
        a.stop()
        a.start()
        check_log(a, sent, "gzip")


def test_a_device_that_is_not_there_is_named(tmp_path):
    a = Appliance(tmp_path, config=CONFIG.format(shards=1, device="compress_nothing", codec="gzip"), start=False)
    try:
        a.start(wait=False)
        wait_for("it has given up", lambda: not a.alive())
        assert "compress_nothing" in a.output()
    finally:
        a.kill_all()
