"""sluice-bench runs, and what it says about itself adds up. Speed is printed, never asserted."""
import json
import os
import shutil
import subprocess
import tempfile

import pytest
from appliance import program


@pytest.fixture
def tmp(monkeypatch):
    """TMPDIR on the machine's disk; short, for unix sockets have short names."""
    path = tempfile.mkdtemp(prefix="sb-", dir="/var/tmp")
    monkeypatch.setenv("TMPDIR", path)
    yield path
    shutil.rmtree(path)


def bench(*args, deadline=50):
    return subprocess.run([program("sluice-bench"), *args], text=True, timeout=deadline,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def measured(*args):
    p = bench(*args, "--json")
    assert p.returncode == 0, p.stdout + p.stderr
    return json.loads(p.stdout)


def test_ingest_balances_and_everything_is_read_back_as_it_was_sent(tmp):
    r = measured("ingest", "--seconds", "2", "--verify")
    ledger, verify = r["ledger"], r["verify"]
    print(f"{r['events_per_second']:,.0f} events/s, dropped {ledger['dropped']}")
    assert r["events_per_second"] > 0 and r["bytes_per_second"] == pytest.approx(
        256 * r["events_per_second"], rel=1e-3)
    assert ledger["balances"] and ledger["in_flight"] == 0
    assert ledger["produced"] == (ledger["durable"] + ledger["dead_lettered"] +
                                  sum(ledger["dropped"].values()))
    assert ledger["dead_lettered"] > 0
    assert verify["ok"], verify
    assert verify["stored"] == ledger["durable"]
    assert verify["stored_dead_letters"] == ledger["dead_lettered"]
    assert 0 < verify["records"] <= verify["stored"]
    assert {"mbox", "port_rx", "uring_submit"} <= set(r["cycles_per_event"])
    assert r["machine"]["cores"] == os.cpu_count() and r["machine"]["version"]
    assert os.listdir(tmp) == [], "the temporary directory is removed"


def test_ingest_with_gzip_stores_less_than_came(tmp):
    r = measured("ingest", "--seconds", "1", "--compression", "gzip", "--event-size", "512", "--verify")
    print(f"{r['events_per_second']:,.0f} events/s, {r['compression_ratio']:.2f} : 1")
    assert r["compression_ratio"] > 1.5
    assert r["verify"]["ok"], r["verify"]


def test_produce_and_consume_print_rates_and_latencies(tmp):
    for command, latency in (("produce", "latency_us"), ("consume", "end_to_end_us")):
        r = measured(command, "--seconds", "2", "--connections", "2", "--compression", "lz4")
        print(f"{command}: {r['bytes_per_second'] / 1e6:.0f} MB/s, {r[latency]}")
        assert r["records_per_second"] > 0 and r["records"] > 0
        q = r[latency]
        assert q["count"] > 0 and 0 < q["p50"] <= q["p99"] <= q["p999"] <= q["max"]
    assert os.listdir(tmp) == []


def test_mixed_measures_with_and_without_a_replay(tmp):
    r = measured("mixed", "--seconds", "1", "--pairs", "1", "--megabytes", "100", "--rate", "500")
    pair, = r["pairs"]
    print(f"replay {pair['replay_bytes_per_second'] / 1e6:.0f} MB/s, {pair}")
    assert pair["replay_bytes_per_second"] > 0
    for side in ("alone", "beside_replay"):
        for what in ("produce_us", "tail_us"):
            q = pair[side][what]
            assert q["count"] > 0 and 0 < q["p50"] <= q["p99"] <= q["max"]
    assert os.listdir(tmp) == []


def test_the_table_is_for_humans(tmp):
    p = bench("produce", "--seconds", "1", "--acks", "1")
    assert p.returncode == 0, p.stderr
    assert "MB/s" in p.stdout and "p99.9" in p.stdout


@pytest.mark.parametrize("args, word", [
    ([], "usage"), (["nonsense"], "nonsense"), (["ingest", "--frob"], "--frob"),
    (["ingest", "--compression", "zstd"], "none|gzip"), (["ingest", "--event-size", "9000"], "9000"),
    (["ingest", "--seconds", "0"], "--seconds"), (["produce", "--acks", "2"], "all|1|0"),
    (["consume", "extra"], "extra")])
def test_wrong_calls_exit_2(args, word):
    p = bench(*args)
    assert (p.returncode, p.stdout) == (2, "")
    assert word in p.stderr


def test_a_temporary_directory_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    p = bench("ingest")
    assert p.returncode == 1 and str(tmp_path / "none") in p.stderr
