"""An installed tree is whole: copied to any place, its programs find each other there."""
import os
import shutil
import subprocess

import pytest
from appliance import Appliance, prefix, program, wait_for


def files_of(pid):
    """The program of a process and the files that it has mapped."""
    with open(f"/proc/{pid}/maps") as f:
        mapped = {line.split(None, 5)[5].strip() for line in f if "/" in line}
    return os.readlink(f"/proc/{pid}/exe"), mapped


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """(where it was, where its copy is); the tests' programs are those of the copy."""
    was, now = os.path.realpath(prefix()), os.path.realpath(tmp_path / "some where" / "sluice")
    shutil.copytree(was, now)
    monkeypatch.setenv("SLUICE_PREFIX", now)
    return was, now


def test_a_copied_tree_serves_from_its_new_place(tmp_path, moved):
    was, now = moved
    with Appliance(tmp_path) as a:
        a.kcat("-P", "-t", "t", input=b"one\ntwo\n")
        assert a.consume("t") == ["one", "two"]
        assert a.ctl("topic", "list").stdout.split().count("t") == 1
        for name, pid in (("sluiced", a.process.pid), ("sluice-dataplane", a.dataplane_pid())):
            exe, mapped = files_of(pid)
            assert exe == program(name)
            assert not [m for m in mapped if m.startswith(was + "/")]
        # the successor of a dead dataplane comes from there too
        a.kill_dataplane()
        assert files_of(a.dataplane_pid())[0] == program("sluice-dataplane")
        assert wait_for("the records are served", lambda: a.consume("t")) == ["one", "two"]
        assert a.stop() == 0
        p = subprocess.run([program("sluicectl"), "log", "verify", a.dir], text=True, timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert p.returncode == 0, p.stdout


def test_a_tree_without_its_dataplane_says_where_it_looked(tmp_path, moved):
    _, now = moved
    os.unlink(program("sluice-dataplane"))
    a = Appliance(tmp_path, start=False)
    p = subprocess.run(a.argv(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=60)
    assert p.returncode != 0, p.stdout
    assert "sluice-dataplane was not found" in p.stdout
    assert os.path.join(now, "bin", "..", "libexec", "sluice", "sluice-dataplane") in p.stdout
