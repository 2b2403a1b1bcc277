"""A file system that forgets what was not flushed when it is killed, and fails on command
(tests/fs/forgetfs.c)."""
import contextlib
import os
import signal
import subprocess

import pytest
from appliance import ROOT, wait_for


class ForgetFS:
    def __init__(self, base, delay_ms=0):
        if not os.path.exists("/dev/fuse"):
            pytest.skip("not proven: there is no /dev/fuse")
        if os.getuid() != 0:
            pytest.skip("not proven: mounting needs root")
        self.backing, self.mount = str(base / "backing"), str(base / "m")
        os.makedirs(self.backing)
        os.makedirs(self.mount)
        self.trace = os.path.join(self.backing, "trace")
        self.faults = os.path.join(self.backing, "faults")
        self.delay_ms = delay_ms
        self.process = None
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        self.process = subprocess.Popen(
            [os.path.join(ROOT, "build", "tests", "fs", "forgetfs"), self.backing, self.mount],
            stdin=subprocess.DEVNULL, env=dict(os.environ, FORGETFS_TRACE=self.trace,
                                               FORGETFS_FAULTS=self.faults,
                                               FORGETFS_FSYNC_DELAY_MS=str(self.delay_ms)))
        wait_for("forgetfs is mounted", lambda: os.path.ismount(self.mount))

    def fail(self, *faults):
        """From now on these operations fail, and no others: (operation, errno, part of a path)."""
        with open(self.faults + ".tmp", "w") as f:
            for op, err, part in faults:
                f.write(f"{op} {err} {part}\n")
        os.rename(self.faults + ".tmp", self.faults)

    def slow(self, delay_ms):
        """From now on every fsync takes that long (0: as long as it takes)."""
        self.fail(*[("delay", delay_ms, "/")] if delay_ms else [])

    def cut(self, a):
        """The power fails: memory is gone, what was flushed stays. The lock file that names the
        dataplane is gone with the mount, so its pid is asked for before."""
        pid = a.dataplane_pid()
        assert pid
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        with contextlib.suppress(ProcessLookupError):  # who touches a mapped file now is ended by SIGBUS
            os.kill(pid, signal.SIGKILL)
        a.kill_all()
        wait_for("the dataplane is gone", lambda: not os.path.exists(f"/proc/{pid}"))
        self.unmount()

    def unmount(self):
        subprocess.run(["umount", "-l", self.mount], stderr=subprocess.DEVNULL)
        wait_for("unmounted", lambda: not os.path.ismount(self.mount))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.unmount()
