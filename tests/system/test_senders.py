"""Real syslog senders over UDP and over TCP in both framings: every line arrives once, with the
sender's tag and whole text."""
import os
import socket
import subprocess

import pytest

from tests.support.appliance import ROOT, Appliance, need, wait_for

LINES = 150
SYSLOG_NG = os.path.join(ROOT, ".cache", "syslog-ng")


@pytest.fixture(scope="module")
def a(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("senders")) as appliance:
        yield appliance


def lines_of(tag):
    return [f"line {i} of {tag} \tend" for i in range(LINES)]


def arrived(a, *tags):
    """Waits until each tag's lines are there, each once; returns the records as (headers, value)."""
    def found():
        got = {tag: [] for tag in tags}
        for row in a.consume("syslog", "-f", "%h|%s\n"):
            for tag in tags:
                if f"app={tag}," in row or f"app={tag}|" in row:
                    got[tag].append(row)
        return got if all(len(rows) >= LINES for rows in got.values()) else None
    got = wait_for(f"{LINES} lines of each of {tags}", found, every=0.1)
    for tag, rows in got.items():
        assert len(rows) == LINES
        for row, text in zip(sorted(rows, key=lambda r: int(r.split(" of ")[0].split()[-1])), lines_of(tag)):
            assert row.endswith(text), row
            assert f"host={socket.gethostname()}" in row
    return got


def run_until(process, done):
    try:
        return done()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def test_logger(a, tmp_path):
    need("logger")
    for tag, args in (("lg-udp", ["-d", "-P", str(a.port("syslog-udp"))]),
                      ("lg-tcp", ["-T", "-P", str(a.port("syslog-tcp"))]),
                      ("lg-count", ["-T", "--octet-count", "-P", str(a.port("syslog-tcp"))]),
                      ("lg-bsd", ["-d", "--rfc3164", "-P", str(a.port("syslog-udp"))])):
        path = tmp_path / tag
        path.write_text("".join(line + "\n" for line in lines_of(tag)))
        subprocess.run(["logger", "-n", "127.0.0.1", "-t", tag, "-p", "local3.warning", "-f",
                        str(path), *args], check=True, timeout=60)
    got = arrived(a, "lg-udp", "lg-tcp", "lg-count", "lg-bsd")
    assert all("facility=local3,severity=warning" in r for rows in got.values() for r in rows)


def test_rsyslog(a, tmp_path):
    need("rsyslogd")
    udp, tcp = a.port("syslog-udp"), a.port("syslog-tcp")
    ways = {"rs-udp": f'port="{udp}" protocol="udp"',
            "rs-lf": f'port="{tcp}" protocol="tcp"',
            "rs-count": f'port="{tcp}" protocol="tcp" TCP_Framing="octet-counted"',
            "rs-bsd": f'port="{udp}" protocol="udp"'}
    conf = [f'global(workDirectory="{tmp_path}")', 'module(load="imfile" mode="polling" pollingInterval="1")']
    for tag, way in ways.items():
        (tmp_path / f"{tag}.txt").write_text("".join(line + "\n" for line in lines_of(tag)))
        form = "RSYSLOG_TraditionalForwardFormat" if tag == "rs-bsd" else "RSYSLOG_SyslogProtocol23Format"
        conf += [f'ruleset(name="{tag}") {{ action(type="omfwd" target="127.0.0.1" {way} template="{form}") }}',
                 f'input(type="imfile" file="{tmp_path}/{tag}.txt" tag="{tag}:" ruleset="{tag}" '
                 f'facility="local1" severity="notice")']
    (tmp_path / "rsyslog.conf").write_text("\n".join(conf) + "\n")
    p = subprocess.Popen(["rsyslogd", "-n", "-f", str(tmp_path / "rsyslog.conf"), "-i",
                          str(tmp_path / "pid")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run_until(p, lambda: arrived(a, *ways))


@pytest.mark.skipif(not os.path.exists(os.path.join(SYSLOG_NG, "usr", "sbin", "syslog-ng")),
                    reason="syslog-ng is not unpacked: scripts/setup --tests")
def test_syslog_ng(a, tmp_path):
    udp, tcp = a.port("syslog-udp"), a.port("syslog-tcp")
    ways = {"ng-udp": f'syslog("127.0.0.1" transport("udp") port({udp}) persist-name("{{}}"))',
            "ng-lf": f'network("127.0.0.1" transport("tcp") port({tcp}) persist-name("{{}}"))',
            "ng-count": f'syslog("127.0.0.1" transport("tcp") port({tcp}) persist-name("{{}}"))',
            "ng-bsd": f'network("127.0.0.1" transport("udp") port({udp}) persist-name("{{}}"))'}
    conf = ["@version: 3.38", "options { keep-hostname(yes); };"]
    for i, (tag, way) in enumerate(ways.items()):
        (tmp_path / f"{tag}.txt").write_text("".join(line + "\n" for line in lines_of(tag)))
        conf.append(f'log {{ source {{ file("{tmp_path}/{tag}.txt" flags(no-parse) program-override("{tag}") '
                    f'follow-freq(0.2)); }}; destination {{ {way.format(tag)}; }}; }};')
    (tmp_path / "ng.conf").write_text("\n".join(conf) + "\n")
    lib = os.path.join(SYSLOG_NG, "usr", "lib", "syslog-ng")
    modules = next(os.path.join(lib, d) for d in os.listdir(lib) if os.path.isdir(os.path.join(lib, d)))
    log = open(tmp_path / "ng.log", "wb")
    p = subprocess.Popen([os.path.join(SYSLOG_NG, "usr", "sbin", "syslog-ng"), "-F", "--no-caps", "-f",
                          str(tmp_path / "ng.conf"), "--module-path", modules, "--persist-file",
                          str(tmp_path / "persist"), "--pidfile", str(tmp_path / "pid"), "--control",
                          str(tmp_path / "ctl")], stdout=log, stderr=log,
                         env=dict(os.environ, LD_LIBRARY_PATH=lib))
    try:
        run_until(p, lambda: arrived(a, *ways))
    except AssertionError as e:
        raise AssertionError(f"{e}\n{(tmp_path / 'ng.log').read_text()[-3000:]}") from None
    finally:
        log.close()
