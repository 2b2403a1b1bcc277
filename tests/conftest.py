import atexit
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))

# A folder per run. In pytest's own, /tmp/pytest-of-USER, every new run sets the parent to 0700, and
# the appliances of a run beside it that serve as another user lose their data directory.
exit_status = [1]
if "PYTEST_DEBUG_TEMPROOT" not in os.environ:
    own_root = os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(prefix="sluice-")

    @atexit.register  # before pytest's own, so that it runs after it
    def remove_what_passed():
        if exit_status[0] == 0:  # otherwise the data is for looking at what failed
            shutil.rmtree(own_root, ignore_errors=True)


def pytest_sessionfinish(session, exitstatus):
    exit_status[0] = int(exitstatus)
