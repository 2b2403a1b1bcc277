"""Ports for programs that are to be found again at the same one after a restart."""
import contextlib
import random
import socket


def free_port():
    """A port that no connection gets by itself while nobody listens on it: not one of the kernel's own
    range, where a client that tries again and again even meets itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low = int(f.read().split()[0])
    for _ in range(100):
        port = random.randrange(10240, max(low, 10241))
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
