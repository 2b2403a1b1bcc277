"""confluent-kafka (librdkafka)."""
import os
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from members import Member

TIMEOUT = 30


def text(b):
    return None if b is None else b.decode()


def as_record(m):
    return {"p": m.partition(), "o": m.offset(), "k": text(m.key()), "v": text(m.value()),
            "h": [[n, text(v)] for n, v in m.headers() or []], "t": m.timestamp()[1]}


class GroupMember(Member):
    def run(self):
        r = self.request
        conf = {"bootstrap.servers": self.client.bootstrap, "group.id": r["group"],
                "enable.auto.commit": False, "auto.offset.reset": "earliest",
                "reconnect.backoff.max.ms": 500}
        if r.get("protocol") == "consumer":
            conf["group.protocol"] = "consumer"
        else:
            conf.update({"session.timeout.ms": r["session_ms"], "heartbeat.interval.ms": 300,
                         "partition.assignment.strategy": "roundrobin"})
        if r.get("instance"):
            conf["group.instance.id"] = r["instance"]
        c = ck.Consumer(conf)
        own = set()  # the new protocol tells only what changes

        def assigned(_, partitions):
            own.update(p.partition for p in partitions)
            self.owned(own)

        def revoked(_, partitions):
            own.difference_update(p.partition for p in partitions)
            self.owned(own)
        c.subscribe([r["topic"]], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        self.consumer = c
        while not self.stopping.is_set():
            self.values([text(m.value()) for m in c.consume(500, timeout=0.05) if not m.error()])
            self.do_tasks()
        c.close()

    def commit(self):
        self.call(lambda: self.consumer.commit(asynchronous=False))


class Client:
    version = f"{ck.version() if isinstance(ck.version(), str) else ck.version()[0]}" \
              f" (librdkafka {ck.libversion()[0]})"

    def __init__(self, bootstrap, say):
        self.bootstrap, self.say = bootstrap, say
        self.members = {}
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    # --- produce and read ---

    def op_produce(self, r):
        conf = {"bootstrap.servers": self.bootstrap, "acks": r["acks"], "linger.ms": 20,
                "compression.type": r["codec"]}
        if r.get("idempotent"):
            conf["enable.idempotence"] = True
        p = ck.Producer(conf)
        failed = []
        for rec in r["records"]:
            stamp = {"timestamp": rec["t"]} if "t" in rec else {}
            p.produce(r["topic"], rec["v"], rec["k"], partition=rec["p"],
                      headers=[tuple(h) for h in rec["h"]], **stamp,
                      on_delivery=lambda e, m: failed.append(str(e)) if e else None)
        if p.flush(TIMEOUT):
            raise TimeoutError("records are not acknowledged")
        if failed:
            raise RuntimeError(failed[0])

    def op_read(self, r):
        c = ck.Consumer({"bootstrap.servers": self.bootstrap, "group.id": "readers",
                         "enable.auto.commit": False, "check.crcs": True,
                         "auto.offset.reset": "error",
                         "isolation.level": "read_committed" if r.get("committed") else "read_uncommitted"})
        try:
            parts = [ck.TopicPartition(r["topic"], p) for p in r["partitions"]]
            for tp in parts:
                if r["from"] == "beginning":
                    tp.offset = ck.OFFSET_BEGINNING
                elif r["from"] == "end":
                    tp.offset = c.get_watermark_offsets(tp, timeout=TIMEOUT)[1]
                else:
                    tp.offset = r["from"]["time"]
            if isinstance(r["from"], dict):
                parts = c.offsets_for_times(parts, timeout=TIMEOUT)
            c.assign(parts)
            self.say(event="positioned", id=r["id"])
            found, end = [], time.monotonic() + TIMEOUT
            while len(found) < r["count"]:
                for m in c.consume(1000, timeout=0.2):
                    if m.error():
                        raise ck.KafkaException(m.error())
                    found.append(as_record(m))
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(found)} of {r['count']} records")
            return {"records": found}
        finally:
            c.close()

    def op_transact(self, r):
        p = ck.Producer({"bootstrap.servers": self.bootstrap, "transactional.id": r["transactional_id"]})
        p.init_transactions(TIMEOUT)
        for one in r["rounds"]:
            p.begin_transaction()
            for v in one["values"]:
                p.produce(r["topic"], v, partition=r["partition"])
            p.flush(TIMEOUT)  # what is aborted was really written
            p.commit_transaction(TIMEOUT) if one["commit"] else p.abort_transaction(TIMEOUT)

    def op_stream(self, r):
        p = ck.Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True,
                         "linger.ms": 1, "reconnect.backoff.max.ms": 500})
        acked, failed = [], []

        def done(i):
            return lambda e, m: failed.append(str(e)) if e else acked.append([i, m.offset()])
        sent = 0
        while sent < r["count"] and not os.path.exists(r["until"]):
            p.produce(r["topic"], "s-%06d" % sent, partition=r["partition"], on_delivery=done(sent))
            p.poll(0)
            time.sleep(r["interval_ms"] / 1000)
            sent += 1
        if p.flush(60):
            raise TimeoutError("records are not acknowledged")
        return {"sent": sent, "acked": acked, "failed": failed}

    # --- groups ---

    def op_join(self, r):
        self.members[r["member"]] = GroupMember(self, r)

    def op_commit(self, r):
        self.members[r["member"]].commit()

    def op_leave(self, r):
        self.members.pop(r["member"]).leave()

    # --- administration ---

    def result(self, futures):
        for f in futures.values():
            f.result(TIMEOUT)

    def op_create(self, r):
        self.result(self.admin.create_topics([NewTopic(r["topic"], r["partitions"], 1,
                                                       config=r["config"])]))

    def op_add_partitions(self, r):
        self.result(self.admin.create_partitions([NewPartitions(r["topic"], r["count"])]))

    def op_alter(self, r):
        self.result(self.admin.alter_configs(
            [ConfigResource(ConfigResource.Type.TOPIC, r["topic"], set_config=r["config"])]))

    def op_describe(self, r):
        res = ConfigResource(ConfigResource.Type.TOPIC, r["topic"])
        config = self.admin.describe_configs([res])[res].result(TIMEOUT)
        topic = self.admin.list_topics(r["topic"], timeout=TIMEOUT).topics[r["topic"]]
        return {"partitions": len(topic.partitions), "config": {k: e.value for k, e in config.items()}}

    def op_topics(self, r):
        return {"topics": list(self.admin.list_topics(timeout=TIMEOUT).topics)}

    def op_delete(self, r):
        self.result(self.admin.delete_topics([r["topic"]]))
