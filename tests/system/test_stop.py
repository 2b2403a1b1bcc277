"""A clean stop: what was received is kept, what came later is counted, nothing else is lost."""
import signal
import socket

import pytest
from appliance import Appliance, wait_for

LINE = b"<13>1 2026-01-01T00:00:00Z h app - - - line %d"


def counted(a, name, **labels):
    want = [f'{k}="{v}"' for k, v in labels.items()]
    return sum(v for k, v in a.metrics().items()
               if k.split("{")[0] == name and all(w in k for w in want))


@pytest.mark.parametrize("shards", [1, 2])
def test_datagrams_that_the_kernel_has_at_sigterm_are_durable(tmp_path, shards):
    sent = 20000
    with Appliance(tmp_path, sets=[f"shards={shards}", "listeners[0].rcvbuf=8MiB"]) as a:
        _, host, port = a.ports()["syslog-udp"]
        sources = []
        for i in range(4):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((f"127.0.0.{i + 2}", 0))
            s.connect((host, port))
            sources.append(s)
        for i in range(sent):
            sources[i % 4].send(LINE % i)
        a.process.send_signal(signal.SIGTERM)  # most of them are still on their way
        for s in sources:
            s.close()
        assert a.process.wait(60) == 0, a.output()
        assert "0 left unclean" in a.output()
        a.process = None
        a.start()
        durable = len(a.consume("syslog"))
        kernel = counted(a, "sluice_listener_kernel_drops_total", listener="syslog-udp")
        print(f"{shards} shards: {sent} sent = {durable} durable + {kernel:.0f} left to the kernel")
        assert durable + kernel == sent
        assert durable > 0
        dropped = {k: v for k, v in a.metrics().items() if v and "dropped_total" in k}
        assert not dropped, dropped
        assert counted(a, "sluice_events_in_flight") == 0


def test_bytes_of_streams_on_their_way_at_sigterm_are_durable(tmp_path):
    sent = 20000
    with Appliance(tmp_path) as a:
        _, host, port = a.ports()["syslog-tcp"]
        with socket.create_connection((host, port)) as s:
            s.sendall(b"".join(LINE % i + b"\n" for i in range(sent)))
            a.process.send_signal(signal.SIGTERM)
            assert a.process.wait(60) == 0, a.output()
        a.process = None
        a.start()
        assert len(a.consume("syslog")) == sent
        wait_for("nothing in flight", lambda: counted(a, "sluice_events_in_flight") == 0)
