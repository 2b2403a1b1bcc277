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
         "TEXT": "text", "PATH": "path", "NAME": "name", "TOPIC": "topic name",
         "ADDR": "address:port", "IP": "address", "CIDR": "address/prefix", "UUID": "id",
         "HEADERS": "list of headers", "ZONE": "zone", "ENUM_IDLE": "adaptive, poll",
         "ENUM_COMPRESSION": "auto, producer, none, gzip, snappy, lz4, zstd",
         "ENUM_TRANSPORT": "udp, tcp", "ENUM_PROTO": "syslog, raw"}


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


DOCS = {"docs/config.md": config}


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
