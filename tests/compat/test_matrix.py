"""Every client of matrix.py against one appliance, several rows at a time; then all idempotent
producers through one restart; then members of every library in one group. What was seen is written to
build/clients.json, from which docs/clients.md is made (compat/report.py).

SLUICE_TEST_CLIENTS=franz-go,sarama limits the rows (checkers run as needed); the rows from registries
need scripts/test --all, which sets SLUICE_TEST_ALL."""
import concurrent.futures
import json
import os
import time

import clients
import matrix
import pytest
import report
from appliance import ROOT, Appliance, need, wait_for
from ports import free_port

AT_ONCE = 3
ONLY = [n for n in os.environ.get("SLUICE_TEST_CLIENTS", "").split(",") if n]
ROWS = [c for c in matrix.CLIENTS if not ONLY or c.name in ONLY]


class Seen:
    """Runs everything once; cells[client][capability] is None (proven) or what went wrong."""

    def __init__(self, appliance):
        self.appliance = appliance
        self.drivers, self.unavailable, self.cells, self.times = {}, {}, {}, {}
        for c in matrix.CLIENTS:
            if c in ROWS or c.name in matrix.CHECKERS:
                self.open(c)
        rows = [c for c in ROWS if c.name in self.drivers]
        self.settings = {}
        for c in rows:
            checker = self.checker(c)
            self.settings[c.name] = matrix.Setting(appliance, c, self.drivers[c.name], checker,
                                                   self.drivers[checker.name])
        self.cells = {c.name: {} for c in rows}
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for f in [pool.submit(self.row, s) for s in self.settings.values()]:
                f.result()
        self.restart([s for s in self.settings.values() if "restart" not in s.client.never])
        self.mixed_libraries = {}
        self.mixed_outcome = {protocol: matrix.outcome(lambda: self.mixed(protocol))
                              for protocol in ("classic", "consumer")}

    def open(self, c):
        if c.source and not os.environ.get("SLUICE_TEST_ALL"):
            self.unavailable[c.name] = f"it comes from {c.comes_from}: only with --all"
            return
        try:
            if c.source:
                clients.require(c.source)
            self.drivers[c.name] = clients.Driver(c.name, c.source, c.driver, self.appliance.kafka)
        except (clients.Unavailable, AssertionError) as e:
            self.unavailable[c.name] = str(e)

    def checker(self, row):
        by_name = {c.name: c for c in matrix.CLIENTS}
        for name in matrix.CHECKERS:
            if name in self.drivers and by_name[name].library != row.library:
                return by_name[name]
        raise AssertionError(f"nobody can check {row.name}")

    def row(self, s):
        started = time.monotonic()
        stopped = matrix.outcome(lambda: self.run_cells(s))
        if stopped:
            for capability in matrix.CAPABILITIES:
                if capability != "restart":
                    self.cells[s.client.name].setdefault(capability, stopped)
        self.times[s.client.name] = time.monotonic() - started

    def run_cells(self, s):
        broken = None
        for capability, work in matrix.cells(s):
            if capability in ("joins", "resume") and broken:  # they go on from there
                self.cells[s.client.name][capability] = broken
                continue
            self.cells[s.client.name][capability] = why = matrix.outcome(work)
            broken = why if capability in ("killed", "joins") else broken

    def restart(self, settings):
        until = os.path.join(self.appliance.base, "streams-end")
        streams = [matrix.Stream(s, until) for s in settings]
        why = {stream: matrix.outcome(stream.goes_on) for stream in streams}
        try:
            self.appliance.kill_dataplane()
            for stream in streams:
                why[stream] = why[stream] or matrix.outcome(stream.goes_on)
        finally:
            open(until, "w").close()
        for stream in streams:
            self.cells[stream.s.client.name]["restart"] = why[stream] or matrix.outcome(stream.check)

    def mixed(self, protocol):
        """One member of every library that speaks it in one group; each gets its share, all records once."""
        s = next(iter(self.settings.values()))
        group = f"mixed-{protocol}"
        topic = s.topic(group, matrix.PARTITIONS * 2)
        members = []
        libraries = {}
        for c in reversed(matrix.CLIENTS):  # the newest of each
            if c.name in self.drivers and protocol not in c.never:
                libraries.setdefault(c.library, c.name)
        self.mixed_libraries[protocol] = sorted(libraries.values())
        if len(libraries) < 2:
            raise matrix.NotProven(f"a mixed group of the {protocol} protocol needs two libraries that speak it: "
                                   "only with --all")
        try:
            for name in libraries.values():
                members.append(self.drivers[name].join(group, topic, group, session_ms=10000,
                                                       protocol=protocol))

            def shared():
                for m in members:
                    assert m.error is None, f"{m.driver.name}: {m.error}"
                owned = sorted(p for m in members for p in m.owned)
                return owned == list(range(matrix.PARTITIONS * 2)) and all(m.owned for m in members)

            def settled():
                """Shared, and a second later still by the same assignments."""
                before = [m.assignments for m in members]
                if not shared():
                    return False
                time.sleep(1)
                return shared() and before == [m.assignments for m in members]
            try:
                wait_for("members of all libraries share", settled)
            except AssertionError as e:
                raise AssertionError(f"{e}: " + ", ".join(f"{m.driver.name} {m.owned}" for m in members))
            values = [f"value {i}" for i in range(120)]
            s.checker.call("produce", topic=topic, codec="none", acks=-1, idempotent=False, records=[
                {"p": i % (matrix.PARTITIONS * 2), "k": None, "v": v, "h": []}
                for i, v in enumerate(values)])
            wait_for("all is read", lambda: matrix.has_read(members, values))
            matrix.once(members, values, matrix.PARTITIONS * 2)
        finally:
            for m in members:
                m.leave()

    def result(self):
        rows = []
        for c in ROWS:
            cells = {}
            for capability in matrix.CAPABILITIES:
                if capability in c.never:
                    cells[capability] = f"n/a: {c.never[capability]}"
                elif c.name in self.unavailable:
                    cells[capability] = f"not proven: {self.unavailable[c.name]}"
                else:
                    why = self.cells[c.name].get(capability, "it was not reached")
                    cells[capability] = "yes" if why is None else \
                        why if why.startswith("not proven") else f"FAILED: {why}"
            rows.append({"client": c.name, "comes_from": c.comes_from, "cells": cells,
                         "version": self.drivers[c.name].version if c.name in self.drivers else None})
        return {"rows": rows, "mixed": {protocol: names for protocol, names in self.mixed_libraries.items()
                                        if self.mixed_outcome[protocol] is None},
                "capabilities": matrix.CAPABILITIES}

    def write(self):
        with open(os.path.join(ROOT, "build", "clients.json"), "w") as f:
            json.dump(self.result(), f, indent=1)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    need("kcat")
    sets = ["kafka.group_initial_rebalance_delay=100ms", "kafka.group_min_session_timeout=1s",
            "kafka.group_consumer_session_timeout=3s", "kafka.group_consumer_heartbeat_interval=300ms",
            f"kafka.listeners[0].bind=127.0.0.1:{free_port()}"]  # clients find it again at the same port
    with Appliance(tmp_path_factory.mktemp("matrix"), sets=sets) as a:
        found = None
        try:
            found = Seen(a)
            found.write()
            yield found
        finally:
            for d in found.drivers.values() if found else []:
                d.close()


CELLS = [(c.name, k) for c in ROWS for k in matrix.CAPABILITIES if k not in c.never]


@pytest.mark.parametrize("client,capability", CELLS, ids=[f"{c}-{k}" for c, k in CELLS])
def test_cell(seen, client, capability):
    if client in seen.unavailable:
        pytest.skip(f"{client}, {matrix.CAPABILITIES[capability]}: not proven: {seen.unavailable[client]}")
    why = seen.cells[client].get(capability, "it was not reached")
    if why and why.startswith("not proven"):
        pytest.skip(f"{client}, {matrix.CAPABILITIES[capability]}: {why}")
    assert why is None, why


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_of_every_library_share_one_group(seen, protocol):
    why = seen.mixed_outcome[protocol]
    if why and why.startswith("not proven"):
        pytest.skip(why)
    assert why is None, why
    print(f"one group ({protocol}) of", ", ".join(seen.mixed_libraries[protocol]))


def test_the_document_is_what_was_seen(seen):
    """docs/clients.md, written by report.py, is what this run would write, but for versions: Debian's are those
    of the machine. (test_tools.py compares the tools.)"""
    if ONLY or seen.unavailable:
        pytest.skip("docs/clients.md: not compared: not every row was run")
    found = report.differences(report.in_document()[0], report.document(seen.result()))
    assert not found, "tests/compat/report.py has to write it anew:\n" + found


def test_the_comparison_of_documents_is_about_cells_not_versions():
    row = "| kcat | 1.7.1 | Debian | yes | n/a (1) |"
    assert report.comparable(row) == report.comparable(row.replace("1.7.1", "1.7.2"))
    assert report.comparable(row) != report.comparable(row.replace("yes", "FAILED"))
    assert report.comparable(row) != report.comparable(row.replace("n/a (1)", "not proven"))
    assert report.differences(row, row) == ""
    assert report.differences(row, row + "\n" + row) and report.differences(row + "\n" + row, row)
    tools = report.tools({"version": "4.3.1", "names": ["kafka-topics"]})
    assert report.comparable(tools) == report.comparable(tools.replace("4.3.1", "4.4.0"))
    assert report.comparable(tools) != report.comparable(tools.replace("4.3.1", "3.9.2"))
    assert report.comparable(tools) != report.comparable(tools.replace("topics", "groups"))


def test_times_of_the_rows(seen):
    for name, seconds in seen.times.items():
        print(f"{name}: {seconds:.0f} s")
