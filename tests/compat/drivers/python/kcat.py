"""kcat: every request is a process of its own."""
import json
import re
import signal
import subprocess
import threading

TIMEOUT = 30


class GroupMember:
    def __init__(self, client, r):
        self.client, self.name = client, r["member"]
        self.process = subprocess.Popen(
            ["kcat", "-b", client.bootstrap, "-G", r["group"], "-u", "-f", "%s\\n",
             "-X", f"session.timeout.ms={r['session_ms']}", "-X", "heartbeat.interval.ms=300",
             "-X", "auto.offset.reset=earliest", "-X", "partition.assignment.strategy=roundrobin",
             *(["-X", f"group.instance.id={r['instance']}"] if r.get("instance") else []), r["topic"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        for target in (self.read_values, self.read_moves):
            threading.Thread(target=target, daemon=True).start()

    def read_values(self):
        for line in self.process.stdout:
            self.client.say(event="values", member=self.name, values=[line.rstrip("\n")])

    def read_moves(self):
        for line in self.process.stderr:
            if "assigned:" in line:
                got = [int(p) for p in re.findall(r"\[(\d+)\]", line.split("assigned:")[1])]
                self.client.say(event="owned", member=self.name, partitions=sorted(got))
            elif "revoked:" in line:
                self.client.say(event="owned", member=self.name, partitions=[])

    def leave(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(TIMEOUT)


class Client:
    def __init__(self, bootstrap, say):
        self.bootstrap, self.say = bootstrap, say
        self.members = {}
        out = subprocess.run(["kcat", "-V"], stdout=subprocess.PIPE, text=True).stdout
        self.version = "%s (librdkafka %s)" % re.search(r"Version ([\d.]+).*librdkafka ([\d.]+)",
                                                        out, re.S).groups()

    def run(self, *args, text=None):
        p = subprocess.run(["kcat", "-b", self.bootstrap, *args], input=text, text=True,
                           stdin=subprocess.DEVNULL if text is None else None,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)
        if p.returncode != 0:
            raise RuntimeError(f"kcat: exit {p.returncode}: {p.stderr[-400:]}")
        return p.stdout

    def op_produce(self, r):
        """kcat gives the headers of the command line to every record of a run."""
        groups = {}
        for rec in r["records"]:
            groups.setdefault((rec["p"], json.dumps(rec["h"])), []).append(rec)
        for (partition, headers), records in groups.items():
            args = ["-P", "-t", r["topic"], "-p", str(partition), "-K", "\t", "-X", f"acks={r['acks']}",
                    "-z", r["codec"], "-X", "linger.ms=20"]
            for name, value in json.loads(headers):
                args += ["-H", f"{name}={value}"]
            if r.get("idempotent"):
                args += ["-X", "enable.idempotence=true"]
            self.run(*args, text="".join(f"{rec['k']}\t{rec['v']}\n" for rec in records))

    def op_read(self, r):
        where = {"beginning": "beginning", "end": "end"}.get(
            r["from"] if isinstance(r["from"], str) else "", None)
        if where is None:
            where = f"s@{r['from']['time']}"
        argv = ["kcat", "-b", self.bootstrap, "-C", "-t", r["topic"], "-o", where, "-J", "-u",
                "-X", "check.crcs=true", "-c", str(r["count"])]
        if len(r["partitions"]) == 1:
            argv += ["-p", str(r["partitions"][0])]
        if where == "end":  # it reports the end of a partition when it has found it
            argv += ["-X", "enable.partition.eof=true"]
        p = subprocess.Popen(argv, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        killer = threading.Timer(TIMEOUT, p.kill)
        killer.start()
        try:
            if where == "end":
                ends = 0
                for line in p.stderr:
                    ends += "Reached end of topic" in line
                    if ends == len(r["partitions"]):
                        break
            self.say(event="positioned", id=r["id"])
            out, err = p.communicate()
            if p.returncode != 0:
                raise RuntimeError(f"kcat: exit {p.returncode}: {err[-400:]}")
        finally:
            killer.cancel()
        found = []
        for line in out.splitlines():
            m = json.loads(line)
            h = m.get("headers") or []
            found.append({"p": m["partition"], "o": m["offset"], "k": m["key"], "v": m["payload"],
                          "h": [list(pair) for pair in zip(h[::2], h[1::2])], "t": m["ts"]})
        return {"records": found}

    def op_join(self, r):
        self.members[r["member"]] = GroupMember(self, r)

    def op_commit(self, r):
        """kcat commits when it leaves."""

    def op_leave(self, r):
        self.members.pop(r["member"]).leave()
