#!/usr/bin/env python3
"""Writes the generated documents under docs/ from the .def files: `gen_docs.py` writes,
`gen_docs.py --check` says which are out of date and exits 1. A document is one row of DOCS."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def rows(path):
    """The macro calls of a .def file: [(macro, [argument, ...])]. String literals become their
    text (neighbours joined), everything else stays as written."""
    with open(os.path.join(ROOT, path)) as f:
        text = f.read()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"^\s*#.*(?:\\\n.*)*$", "", text, flags=re.M)
    token = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[(),]|[^\s"(),]+)')
    out, pos, depth, name, args, cur, string = [], 0, 0, None, [], "", False
    while True:
        m = token.match(text, pos)
        if m is None:
            break
        pos, t = m.end(), m.group(1)
        if depth == 0:
            if t == "(":
                depth, args, cur, string = 1, [], "", False
            else:
                name = t
            continue
        if t[0] == '"':
            body = t[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
            cur, string = (cur + body if string else body), True
            continue
        if t == "," and depth == 1:
            args.append(cur)
            cur, string = "", False
            continue
        depth += {"(": 1, ")": -1}.get(t, 0)
        if depth == 0:
            args.append(cur)
            out.append((name, args))
        else:
            cur += t
    if text[pos:].strip():
        raise SystemExit(f"{path}: cannot read: {text[pos:pos + 60]!r}")
    return out


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


# --- docs/config.md ---

KINDS = {"INT": "number", "SIZE": "size", "DURATION": "duration", "BOOL": "true or false",
         "TEXT": "text", "PATH": "path", "NAME": "name", "TOPIC": "topic name", "CPUS": "list of cores",
         "ADDR": "address:port", "IP": "address", "CIDR": "address/prefix", "UUID": "id",
         "HEADERS": "list of headers", "ZONE": "zone", "ENUM_IDLE": "adaptive, poll",
         "ENUM_COMPRESSION": "auto, producer, none, gzip, snappy, lz4, zstd",
         "ENUM_REPLICAS": "refuse, clamp",
         "ENUM_TRANSPORT": "udp, tcp", "ENUM_PROTO": "syslog, raw, gelf, json, netflow",
         "FACILITIES": "list of facilities", "SEVERITIES": "list of severities",
         "ENUM_KEY": "none, source, host",
         "ENUM_RULE_COMPRESSION": "topic, auto, none, gzip, snappy, lz4, zstd"}


def bound(kind, v):
    v = int(v)
    if v == 2**63 - 1:
        return ""
    if v == -1 and kind in ("SIZE", "DURATION"):
        return "unlimited"
    units = {"SIZE": [("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1)],
             "DURATION": [("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1)]}
    for name, factor in units.get(kind, []):
        if (v and v % factor == 0 and factor > 1) or factor == 1:
            return f"{v // factor}{'' if name == 'B' else name}"
    return str(v)


def config():
    lists = {}  # element scope -> path of the list
    for macro, a in rows("lib/iface/conf.def"):
        if macro == "CONF_LIST":
            lists[a[2]] = (lists[a[0]] + "." if a[0] in lists else "") + a[1] + "[]"
    out = ["# Configuration", "",
           "Generated from `lib/iface/conf.def` by `scripts/gen_docs.py`; do not edit.", "",
           "The file is YAML. Every key has a default, an unknown key or a value out of range is "
           "refused with file, line and column (`sluiced --check FILE` only checks). Any key can be "
           "set on the command line too: `--set listeners[0].bind=127.0.0.1:514`. Sizes are numbers "
           "with B, KiB, MiB, GiB or TiB; durations numbers with ms, s, m, h or d. Changes take "
           "effect when `sluiced` is restarted."]
    head = ["", "| key | type | default | range | |", "|---|---|---|---|---|"]
    open_table = False
    for macro, a in rows("lib/iface/conf.def"):
        if macro == "CONF_GROUP":
            out += ["", f"## {a[0]}", "", a[1]]
            open_table = False
            continue
        if not open_table:
            out += head
            open_table = True
        prefix = lists[a[0]] + "." if a[0] in lists else ""
        if macro == "CONF_LIST":
            out.append(f"| `{prefix}{a[1]}` | list | | | {cell(a[6])} |")
        elif macro == "CONF_VALUES":
            out.append(f"| `{prefix}{a[1]}` | list of {KINDS[a[2]]} | | | {cell(a[6])} |")
        elif macro == "CONF_KEY" and a[7] != "INTERNAL":
            kind, default, lo, hi = a[2], a[4], a[5], a[6]
            span = ""
            if kind in ("INT", "SIZE", "DURATION"):
                span = f"{bound(kind, lo)} .. {bound(kind, hi)}".rstrip()
            shown = f"`{default}`" if default else ""
            out.append(f"| `{prefix}{a[1]}` | {KINDS[kind]} | {shown} | {span} | {cell(a[8])} |")
    return "\n".join(out) + "\n"


# --- docs/metrics.md ---

def metrics():
    out = ["# Metrics", "",
           "Generated from `dataplane/counters.def` and `dataplane/drop.def` by `scripts/gen_docs.py`; "
           "do not edit. Served on `http://127.0.0.1:9644/metrics`; counters end in `_total` and go on "
           "across restarts."]
    kinds = [("SHARD_", "## Per shard: `sluice_<name>{shard}`"),
             ("PORT_", "## Frames: `sluice_port_<name>{port}`\n\nseen = to_udp + to_host + handled + "
                       "in_reassembly + dropped, in every snapshot"),
             ("LISTENER_", "## Datagrams: `sluice_listener_<name>{listener}`\n\nreceived = parsed + "
                           "in_reassembly + dropped"),
             ("EVENT_", "## Events: `sluice_events_<name>{listener}`\n\nproduced = durable + "
                        "dead_lettered_durable + in_flight + dropped")]
    drops = {"PORT_": "DROP_PORT", "LISTENER_": "DROP_DGRAM", "EVENT_": "DROP_EVENT"}
    counters, reasons = rows("dataplane/counters.def"), rows("dataplane/drop.def")
    for prefix, title in kinds:
        out += ["", title, "", "| name | kind | |", "|---|---|---|"]
        for macro, a in counters:
            if macro.startswith(prefix):
                out.append(f"| `{a[0]}` | {a[-2].lower()} | {cell(a[-1])} |")
        if prefix in drops:
            out += ["", "Reasons of `dropped`:", "", "| reason | |", "|---|---|"]
            out += [f"| `{a[0]}` | {cell(a[1])} |" for macro, a in reasons if macro == drops[prefix]]
    return "\n".join(out) + "\n"


# --- docs/errors.md, docs/kafka.md ---

def errors():
    out = ["# Errors", "", "Generated from `lib/base/err.def` by `scripts/gen_docs.py`; do not edit.",
           "", "| name | number | Kafka code | retriable | |", "|---|---|---|---|---|"]
    for _, a in rows("lib/base/err.def"):
        out.append(f"| `{a[0]}` | {a[1]} | {a[2]} | {'yes' if a[3] == '1' else 'no'} | {cell(a[4])} |")
    return "\n".join(out) + "\n"


def kafka():
    out = ["# The Kafka protocol", "",
           "Generated from `dataplane/kafka/api.def` by `scripts/gen_docs.py`; do not edit. What is not "
           "listed is not served. ApiVersions says 0 as the lowest version of Produce, as Kafka does, for "
           "old clients' sake.", "", "| key | API | versions |", "|---|---|---|"]
    for _, a in rows("dataplane/kafka/api.def"):
        out.append(f"| {a[1]} | {a[2]} | {a[3]}-{a[4]} |")
    out += ["", "## Configuration of topics", "",
            "From `lib/meta/topic_config.def`. Every key is validated, described with its source and "
            "synonyms, and altered live; the broker's key (also altered live) gives the default.", "",
            "| key | default | broker's key | |", "|---|---|---|---|"]
    for _, a in rows("lib/meta/topic_config.def"):
        note = a[7] + (f" **Here:** {a[8]}." if a[8] else "")
        out.append(f"| `{a[0]}` | {a[2]} | {f'`{a[6]}`' if a[6] else ''} | {cell(note)} |")
    out += ["", "## Configuration of the broker", "",
            "From `lib/meta/broker_config.def`, beside the keys above. Those not altered live come from "
            "the configuration file (docs/config.md names them).", "",
            "| key | default | altered live | |", "|---|---|---|---|"]
    for _, a in rows("lib/meta/broker_config.def"):
        default = "null" if a[2] == "NULL" else a[2]
        out.append(f"| `{a[0]}` | {default} | {'yes' if a[5] == '1' else 'no'} | {cell(a[6])} |")
    out += ["", "## Configuration of groups", "",
            "From `lib/meta/group_config.def`: resource type GROUP (`kafka-configs --group`), for members of "
            "the protocol of KIP-848, altered live; the broker's key gives the default. Kafka's other keys "
            "of groups are refused as unknown: assignments are made at once, and there are no share or "
            "streams groups.", "",
            "| key | default | from | to | broker's key | |", "|---|---|---|---|---|---|"]
    for _, a in rows("lib/meta/group_config.def"):
        out.append(f"| `{a[0]}` | {a[2]} | {a[3]} | {a[4]} | `{a[5]}` | {cell(a[6])} |")
    out += ["", "## Loggers", "",
            "BROKER_LOGGER has one logger, `root`, of the fixed level INFO; setting another is refused."]
    out += ["", "## Topics that cannot be deleted", "",
            "DeleteTopics is answered with POLICY_VIOLATION for a topic that this node itself writes, as "
            "it would only come back: `__consumer_offsets`, `__transaction_state`, `_sluice.gaps`, and "
            "the topic of a listener with its `.dlq` until the listener is removed from the "
            "configuration file."]
    out += ["", "## Quotas", "",
            "`producer_byte_rate` and `consumer_byte_rate` of users, client ids, and both, measured over "
            "all shards with one second of burst (docs/adr/0006). Nobody is authenticated, so every "
            "client is the user `ANONYMOUS`. `request_percentage`, `controller_mutation_rate` and "
            "`connection_creation_rate` are refused with INVALID_REQUEST and the reason: nothing enforces "
            "them. Filters for addresses find no quota, and no user has SCRAM credentials."]
    return "\n".join(out) + "\n"


DOCS = {"docs/config.md": config, "docs/metrics.md": metrics, "docs/errors.md": errors,
        "docs/kafka.md": kafka}


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit("usage: gen_docs.py [--check]")
    stale = []
    for path, make in DOCS.items():
        full, text = os.path.join(ROOT, path), make()
        old = open(full).read() if os.path.exists(full) else None
        if text == old:
            continue
        stale.append(path)
        if not sys.argv[1:]:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w") as f:
                f.write(text)
    for path in stale:
        print(f"{path}: {'out of date: run scripts/gen_docs.py' if sys.argv[1:] else 'written'}")
    return 1 if stale and sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
