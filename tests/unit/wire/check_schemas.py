#!/usr/bin/env python3
"""Compare our message definitions with Apache Kafka's published schemas, where those are at hand.

usage: SLUICE_KAFKA_SCHEMAS=FOLDER check_schemas.py GEN_PY ECHO FILE.msg...

FOLDER holds Kafka's JSON schemas in any subfolders; without it the test is skipped (exit 77).
1. Field by field, version by version: name, order, type, nullability, tag, default.
2. Bytes: random messages are encoded here straight from the JSON schemas; ECHO (our generated
   reader and writer) decodes and encodes them again and must return the same bytes.
"""
import importlib.util
import json
import os
import random
import struct
import subprocess
import sys

ROUNDS = 12


def load_json(path):
    """JSON with // comments outside of strings."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            quoted, i = False, 0
            while i < len(line):
                if line[i] == "\\" and quoted:
                    i += 1
                elif line[i] == '"':
                    quoted = not quoted
                elif not quoted and line.startswith("//", i):
                    line = line[:i] + "\n"
                i += 1
            lines.append(line)
    return json.loads("".join(lines))


def covers(spec, version):
    if spec is None or spec == "none":
        return False
    low, dash, high = spec.rstrip("+").partition("-")
    if int(low) > version:
        return False
    return spec.endswith("+") or version <= int(high if dash else low)


def plain(name):
    return name.replace("_", "").lower()


DEFAULTS = {"bool": False, "string": "", "uuid": "zero", "bytes": "", "records": None}


def normal_default(ftype, text, is_array, is_struct):
    """Both notations to one value."""
    if text is not None and str(text) == "null":
        return None
    if is_array:
        return []
    if is_struct:
        return "struct"
    if text is None:
        return DEFAULTS.get(ftype, 0)
    if ftype == "bool":
        return str(text).lower() == "true"
    if ftype in ("string", "bytes", "records"):
        return "" if str(text) in ("", '""') else str(text)
    if ftype == "uuid":
        return "zero"
    return int(str(text), 0)


class JsonField:
    """One field of a JSON schema at one version."""

    def __init__(self, raw, version, common):
        self.name = plain(raw["name"])
        self.array = raw["type"].startswith("[]")
        self.type = raw["type"].replace("[]", "")
        sub = raw.get("fields") or common.get(self.type)
        self.is_struct = sub is not None
        self.fields = json_fields(sub, version, common) if self.is_struct else None
        self.nullable = covers(raw.get("nullableVersions"), version)
        self.tag = raw["tag"] if covers(raw.get("taggedVersions"), version) else None
        self.default = normal_default(self.type, raw.get("default"), self.array, self.is_struct)
        self.plain_string = raw.get("flexibleVersions") == "none"


def json_fields(raw, version, common):
    return [JsonField(f, version, common) for f in raw if covers(f.get("versions", f.get("taggedVersions", "0+")), version)]


def compare(where, ours, theirs, version, errors):
    """ours: gen.Field list of one struct; theirs: JsonField list."""
    mine = [f for f in ours if f.lo <= version <= f.hi]
    if [plain(f.name) for f in mine] != [f.name for f in theirs]:
        errors.append(f"{where} v{version}: fields {[f.name for f in mine]}, Kafka has "
                      f"{[f.name for f in theirs]}")
        return
    for f, k in zip(mine, theirs):
        here = f"{where}.{f.name} v{version}"
        nullable = bool(f.nullable) and f.nullable[0] <= version <= f.nullable[1]
        default = normal_default(f.type, f.default, f.array, f.struct is not None)
        if k.type == "records" and f.default is None:
            default = k.default  # never on the wire: ours starts empty, theirs null
        for what, a, b in (("array", f.array, k.array), ("struct", f.struct is not None, k.is_struct),
                           ("nullable", nullable, k.nullable), ("tag", f.tag, k.tag),
                           ("default", default, k.default)):
            if a != b:
                errors.append(f"{here}: {what} is {a!r}, Kafka says {b!r}")
        if f.struct is not None and k.is_struct:
            compare(f"{where}.{f.name}", f.struct.fields, k.fields, version, errors)
        elif f.type != k.type:
            errors.append(f"{here}: type is {f.type}, Kafka says {k.type}")


# ---- an encoder of its own ----

INTS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "int64": ">q", "float64": ">d"}


def uvarint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def length(n, flexible, fmt):
    return uvarint(n + 1) if flexible else struct.pack(fmt, n)


def random_value(rng, f):
    """A value, or None for null; tagged fields are sometimes their default."""
    if f.nullable and rng.random() < 0.3:
        return None
    if f.tag is not None and rng.random() < 0.4:
        return f.default if not f.is_struct or f.array else {s.name: s.default for s in f.fields}
    if f.array:
        count = rng.choice([0, 0, 1, 2, 3])
        return [random_one(rng, f) for _ in range(count)]
    return random_one(rng, f)


def random_one(rng, f):
    if f.is_struct:
        return {s.name: random_value(rng, s) for s in f.fields}
    if f.type == "bool":
        return rng.random() < 0.5
    if f.type == "uuid":
        return rng.randbytes(16)
    if f.type == "string":
        return "".join(rng.choice("abc.-_9") for _ in range(rng.choice([0, 1, 5, 40])))
    if f.type in ("bytes", "records"):
        return rng.randbytes(rng.choice([0, 1, 127, 128, 300]))
    if f.type == "float64":
        return rng.uniform(-1e9, 1e9)
    size = struct.calcsize(INTS[f.type])
    return struct.unpack(INTS[f.type], rng.randbytes(size))[0]


def encode_one(f, v, flexible):
    if f.is_struct:
        return encode(f.fields, v, flexible)
    if f.type == "bool":
        return bytes([v])
    if f.type == "uuid":
        return bytes(16) if v == "zero" else v
    if f.type == "string":
        raw = v.encode()
        return length(len(raw), flexible and not f.plain_string, ">h") + raw
    if f.type in ("bytes", "records"):
        raw = v if isinstance(v, bytes) else v.encode()
        return length(len(raw), flexible, ">i") + raw
    return struct.pack(INTS[f.type], v)


def encode_value(f, v, flexible):
    if f.array:
        if v is None:
            return length(-1, flexible, ">i")
        return length(len(v), flexible, ">i") + b"".join(encode_one(f, e, flexible) for e in v)
    if f.is_struct and f.nullable:
        null = b"\xff" if f.tag is None else b"\x00"  # as Kafka's generated classes do it
        return null if v is None else b"\x01" + encode_one(f, v, flexible)
    if v is None:
        return length(-1, flexible, ">h" if f.type == "string" else ">i")
    return encode_one(f, v, flexible)


def is_default(f, v):
    if f.array or not f.is_struct:
        if f.type == "uuid" and not f.array:
            return v in ("zero", bytes(16))
        return v == f.default
    if v is None or f.default is None:
        return v is None and f.default is None
    return all(is_default(s, v[s.name]) for s in f.fields)


def encode(fields, values, flexible):
    out = b"".join(encode_value(f, values[f.name], flexible) for f in fields if f.tag is None)
    if flexible:
        tags = sorted((f for f in fields if f.tag is not None
                       and not is_default(f, values[f.name])), key=lambda f: f.tag)
        out += uvarint(len(tags))
        for f in tags:
            raw = encode_value(f, values[f.name], flexible)
            out += uvarint(f.tag) + uvarint(len(raw)) + raw
    return out


def main():
    folder = os.environ.get("SLUICE_KAFKA_SCHEMAS")
    if not folder:
        print("SLUICE_KAFKA_SCHEMAS is not set: skipped")
        return 77
    gen_py, echo, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    spec = importlib.util.spec_from_file_location("gen", gen_py)
    gen = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gen)
    schemas = {}
    for top, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".json"):
                schema = load_json(os.path.join(top, name))
                schemas[plain(schema["name"])] = schema
    errors, lines, compared = [], [], 0
    seed = int(os.environ.get("SLUICE_TEST_SEED", "1"), 0)
    rng = random.Random(seed)
    for msg in gen.load(files):
        if msg.kind == "control":
            continue  # ours alone
        schema = schemas.get(plain(msg.name))
        if schema is None:
            errors.append(f"{msg.name}: Kafka has no such schema")
            continue
        if msg.kind != "data" and schema.get("apiKey") != msg.key:
            errors.append(f"{msg.name}: key is {msg.key}, Kafka says {schema.get('apiKey')}")
        common = {c["name"]: c["fields"] for c in schema.get("commonStructs", [])}
        for version in range(msg.lo, msg.hi + 1):
            if not covers(schema["validVersions"], version):
                errors.append(f"{msg.name}: Kafka has no version {version}")
                continue
            flexible = covers(schema["flexibleVersions"], version)
            if flexible != (version >= msg.flexible):
                errors.append(f"{msg.name} v{version}: flexible is {not flexible}")
            theirs = json_fields(schema["fields"], version, common)
            compare(msg.name, msg.structs[""].fields, theirs, version, errors)
            compared += 1
            for _ in range(ROUNDS):
                values = {f.name: random_value(rng, f) for f in theirs}
                lines.append((msg.name, version, encode(theirs, values, flexible).hex()))
    text = "".join(f"{name} {version} {raw or '-'}\n" for name, version, raw in lines)
    answer = subprocess.run([echo], input=text, capture_output=True, text=True, check=True)
    replies = answer.stdout.splitlines()
    if len(replies) != len(lines):
        errors.append(f"{echo} answered {len(replies)} of {len(lines)} messages")
    for (name, version, raw), reply in zip(lines, replies):
        if reply != (raw or "-"):
            errors.append(f"{name} v{version}: bytes differ (seed {seed})\n  sent {raw}\n  got  {reply}")
    for error in errors[:50]:
        print(error)
    print(f"{compared} message versions compared, {len(lines)} messages encoded, {len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
