"""kafka-python, 2 and 3."""
import os
import time

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from members import Member

TIMEOUT = 30
NEW = not kafka.__version__.startswith(("0.", "1.", "2."))


def text(b):
    return None if b is None else b.decode()


def as_record(m):
    return {"p": m.partition, "o": m.offset, "k": text(m.key), "v": text(m.value),
            "h": [[n, text(v)] for n, v in m.headers], "t": m.timestamp}


class Listener(kafka.ConsumerRebalanceListener):
    def __init__(self, member):
        self.member = member

    def on_partitions_revoked(self, revoked):
        self.member.owned([])

    def on_partitions_assigned(self, assigned):
        self.member.owned(p.partition for p in assigned)


class GroupMember(Member):
    def run(self):
        r = self.request
        conf = {"group_instance_id": r["instance"]} if r.get("instance") else {}
        c = self.consumer = KafkaConsumer(
            bootstrap_servers=self.client.bootstrap, group_id=r["group"],
            enable_auto_commit=False, auto_offset_reset="earliest",
            session_timeout_ms=r["session_ms"], heartbeat_interval_ms=300,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            **conf)
        c.subscribe([r["topic"]], listener=Listener(self))
        while not self.stopping.is_set():
            for records in c.poll(timeout_ms=50).values():
                self.values([text(m.value) for m in records])
            self.do_tasks()
        c.close()

    def commit(self):
        self.call(lambda: self.consumer.commit())


class Client:
    version = kafka.__version__

    def __init__(self, bootstrap, say):
        self.bootstrap, self.say = bootstrap, say
        self.members = {}
        self.admin_client = None

    # --- produce and read ---

    def op_produce(self, r):
        conf = {"enable_idempotence": bool(r.get("idempotent"))} if NEW else {}
        p = KafkaProducer(bootstrap_servers=self.bootstrap, acks={-1: "all"}.get(r["acks"], r["acks"]),
                          compression_type=None if r["codec"] == "none" else r["codec"], linger_ms=20,
                          max_block_ms=TIMEOUT * 1000, **conf)
        waiting = []
        for rec in r["records"]:
            waiting.append(p.send(
                r["topic"], key=None if rec["k"] is None else rec["k"].encode(),
                value=None if rec["v"] is None else rec["v"].encode(), partition=rec["p"],
                headers=[(n, v.encode()) for n, v in rec["h"]], timestamp_ms=rec.get("t")))
        p.flush(TIMEOUT)
        for f in waiting:
            f.get(TIMEOUT)
        p.close()

    def op_read(self, r):
        conf = {"isolation_level": "read_committed"} if r.get("committed") else {}
        c = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, **conf)
        try:
            parts = [TopicPartition(r["topic"], p) for p in r["partitions"]]
            c.assign(parts)
            if r["from"] == "beginning":
                c.seek_to_beginning(*parts)
            elif r["from"] == "end":
                c.seek_to_end(*parts)
            else:
                times = c.offsets_for_times({tp: r["from"]["time"] for tp in parts})
                for tp, at in times.items():
                    c.seek(tp, at.offset)
            for tp in parts:
                c.position(tp)  # "end" is now
            self.say(event="positioned", id=r["id"])
            found, end = [], time.monotonic() + TIMEOUT
            while len(found) < r["count"]:
                for records in c.poll(timeout_ms=200).values():
                    found += [as_record(m) for m in records]
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(found)} of {r['count']} records")
            return {"records": found}
        finally:
            c.close()

    def op_transact(self, r):
        p = KafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=r["transactional_id"])
        p.init_transactions()
        for one in r["rounds"]:
            p.begin_transaction()
            for v in one["values"]:
                p.send(r["topic"], v.encode(), partition=r["partition"])
            p.flush(TIMEOUT)  # what is aborted was really written
            p.commit_transaction() if one["commit"] else p.abort_transaction()
        p.close()

    def op_stream(self, r):
        p = KafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, linger_ms=1,
                          reconnect_backoff_max_ms=500)
        waiting, acked, failed = [], [], []
        while len(waiting) < r["count"] and not os.path.exists(r["until"]):
            waiting.append(p.send(r["topic"], b"s-%06d" % len(waiting), partition=r["partition"]))
            time.sleep(r["interval_ms"] / 1000)
        for i, f in enumerate(waiting):
            try:
                acked.append([i, f.get(60).offset])
            except Exception as e:
                failed.append(str(e))
        p.close()
        return {"sent": len(waiting), "acked": acked, "failed": failed}

    # --- groups ---

    def op_join(self, r):
        self.members[r["member"]] = GroupMember(self, r)

    def op_commit(self, r):
        self.members[r["member"]].commit()

    def op_leave(self, r):
        self.members.pop(r["member"]).leave()

    # --- administration ---

    @property
    def admin(self):
        if self.admin_client is None:
            self.admin_client = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.admin_client

    def op_create(self, r):
        self.admin.create_topics([NewTopic(r["topic"], r["partitions"], 1, topic_configs=r["config"])])

    def op_add_partitions(self, r):
        self.admin.create_partitions({r["topic"]: NewPartitions(r["count"])})

    def op_alter(self, r):
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, r["topic"], r["config"])])

    def op_describe(self, r):
        res = ConfigResource(ConfigResourceType.TOPIC, r["topic"])
        if NEW:
            rows = self.admin.describe_configs([res], config_filter="all")
            config = {k: row["value"] for k, row in rows["topic"][r["topic"]].items()}
        else:
            config = {row[0]: row[1] for a in self.admin.describe_configs([res])
                      for found in a.resources for row in found[4]}
        topic = [t for t in self.admin.describe_topics([r["topic"]])
                 if (t.get("topic") or t.get("name")) == r["topic"]][0]
        return {"partitions": len(topic["partitions"]), "config": config}

    def op_topics(self, r):
        return {"topics": list(self.admin.list_topics())}

    def op_delete(self, r):
        self.admin.delete_topics([r["topic"]])
