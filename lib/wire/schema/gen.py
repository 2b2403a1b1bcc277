#!/usr/bin/env python3
"""gen.py - message definitions (*.msg) to C readers and writers.

usage: gen.py --header OUT.h --source OUT.c FILE.msg...     the library
       gen.py --desc OUT.h FILE.msg...                      field tables for tests

A definition file holds one or more messages:

    message produce_request      C name: struct produce_request, produce_request_read, ...
    kind request                 request | response | record | control | data
    key 0                        API key, metadata record id, control record or frame type
    versions 3-13                what we read and write
    flexible 9                   first flexible version, or never
    advertise 0                  requests only, optional: lowest version told to clients
    fields
      name type versions [nullable VERSIONS] [tag N] [default VALUE] [max N]

Types: bool int8 int16 uint16 int32 int64 float64 uuid string bytes records, a struct name, or []type. The
fields of a struct follow its first use, two columns further right; the struct's C name is
<message>_<name>. VERSIONS is N, N-M or N+. `max` bounds reading (characters, bytes or elements) and
must be given for arrays, bytes and records; for []bytes a second number bounds each element.
A nullable struct begins with int8 -1 or 1; in a tagged field, with uvarint 0 or 1, as Kafka does it.
`default empty`: a nullable tagged struct that is not there reads as an empty one, and null is written.
Everything after '#' is a comment.
"""
import argparse
import os
import re
import sys

SCALARS = {  # type: (C type, reader/writer suffix, bytes)
    "bool": ("bool", "bool", 1),
    "int8": ("int8_t", "i8", 1),
    "int16": ("int16_t", "i16", 2),
    "uint16": ("uint16_t", "u16", 2),
    "int32": ("int32_t", "i32", 4),
    "int64": ("int64_t", "i64", 8),
    "float64": ("double", "f64", 8),
    "uuid": ("struct uuid", "uuid", 16),
}
VARIABLE = {"string", "bytes", "records"}
ARRAYS = {  # element type: (C type, reader/writer suffix)
    "int8": ("struct wire_i8s", "i8s"),
    "int32": ("struct wire_i32s", "i32s"),
    "int64": ("struct wire_i64s", "i64s"),
    "uuid": ("struct wire_uuids", "uuids"),
    "string": ("struct wire_spans", "strings"),
    "bytes": ("struct wire_spans", "bytes_array"),
}
KINDS = ("request", "response", "record", "control", "data")
STRING_MAX = 32767
NEVER = 32767


class SchemaError(Exception):
    pass


def parse_versions(text, top):
    """'3+', '3-5', '7' -> (lo, hi)"""
    m = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
    if not m:
        raise SchemaError(f"bad versions '{text}'")
    lo = int(m.group(1))
    if m.group(2) == "+":
        return lo, top
    return lo, int(m.group(3)) if m.group(3) else lo


class Struct:
    def __init__(self, name, cname):
        self.name, self.cname, self.fields = name, cname, []


class Field:
    """One field; `lo`..`hi` are clipped to the message's versions."""

    def __init__(self):
        self.name = self.type = self.struct = None
        self.array = False
        self.lo = self.hi = 0
        self.nullable = None  # (lo, hi) or None
        self.tag = None
        self.default = None  # text, or None: not given
        self.max = self.elem_max = None


class Message:
    def __init__(self, name, where):
        self.name, self.where = name, where
        self.kind = self.key = self.flexible = self.versions = self.advertise = None
        self.structs = {}  # name -> Struct, in order of definition; "" is the message itself

    @property
    def lo(self):
        return self.versions[0]

    @property
    def hi(self):
        return self.versions[1]


def parse_field(msg, words):
    f = Field()
    if len(words) < 3:
        raise SchemaError("a field needs: name type versions")
    f.name, ftype = words[0], words[1]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", f.name):
        raise SchemaError(f"bad field name '{f.name}'")
    f.array = ftype.startswith("[]")
    f.type = ftype[2:] if f.array else ftype
    lo, hi = parse_versions(words[2], msg.hi)
    f.lo, f.hi = max(lo, msg.lo), min(hi, msg.hi)
    if f.lo > f.hi:
        raise SchemaError(f"field {f.name} is in no version of the message")
    i = 3
    while i < len(words):
        word = words[i]
        if i + 1 >= len(words):
            raise SchemaError(f"'{word}' needs a value")
        value = words[i + 1]
        if word == "nullable":
            lo, hi = parse_versions(value, msg.hi)
            f.nullable = (max(lo, f.lo), min(hi, f.hi))
        elif word == "tag":
            f.tag = int(value)
        elif word == "default":
            f.default = value
        elif word == "max":
            f.max = int(value.replace("_", ""))
            if f.array and f.type == "bytes":
                f.elem_max = int(words[i + 2].replace("_", ""))
                i += 1
        else:
            raise SchemaError(f"unknown word '{word}'")
        i += 2
    is_struct = f.type not in SCALARS and f.type not in VARIABLE
    if f.array and not is_struct and f.type not in ARRAYS:
        raise SchemaError(f"no arrays of {f.type}")
    if f.max is None:
        if f.array or f.type in ("bytes", "records"):
            raise SchemaError(f"field {f.name} needs a max")
        if f.type == "string":
            f.max = STRING_MAX
    elif not f.array and f.type not in VARIABLE:
        raise SchemaError(f"field {f.name}: max is for arrays, strings, bytes and records")
    if f.tag is not None and f.lo < msg.flexible:
        raise SchemaError(f"tagged field {f.name} is in a version that is not flexible")
    if f.nullable and not (f.array or is_struct or f.type in VARIABLE):
        raise SchemaError(f"field {f.name}: {f.type} cannot be null")
    if f.nullable and is_struct and not f.array and f.default != "null" and not (
            f.default == "empty" and f.tag is not None):
        raise SchemaError(f"nullable struct {f.name} needs default null")
    if f.default == "null" and not f.nullable:
        raise SchemaError(f"field {f.name}: default null but not nullable")
    return f, is_struct


def parse_file(path):
    messages, msg = [], None
    stack = []  # (indent of the fields, Struct)
    last = None  # (indent, Struct) of a field whose sub-fields may follow
    in_fields = False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.split("#", 1)[0].rstrip()
            if not line:
                continue
            indent, words = len(line) - len(line.lstrip()), line.split()
            try:
                if indent == 0:
                    in_fields = False
                    if words[0] == "message":
                        msg = Message(words[1], f"{os.path.basename(path)}:{number}")
                        messages.append(msg)
                        msg.structs[""] = Struct("", msg.name)
                    elif msg is None:
                        raise SchemaError("expected 'message NAME'")
                    elif words[0] == "kind" and words[1] in KINDS:
                        msg.kind = words[1]
                    elif words[0] == "key":
                        msg.key = int(words[1])
                    elif words[0] == "versions":
                        msg.versions = parse_versions(words[1], None)
                    elif words[0] == "flexible":
                        msg.flexible = NEVER if words[1] == "never" else int(words[1])
                    elif words[0] == "advertise":
                        msg.advertise = int(words[1])
                    elif words[0] == "fields":
                        if None in (msg.kind, msg.flexible, msg.versions):
                            raise SchemaError("kind, versions and flexible come before fields")
                        in_fields, stack, last = True, [(2, msg.structs[""])], None
                    else:
                        raise SchemaError(f"unknown line '{line}'")
                    continue
                if not in_fields:
                    raise SchemaError("field outside 'fields'")
                if last is not None and indent == last[0] + 2:
                    stack.append((indent, last[1]))
                while stack and stack[-1][0] > indent:
                    stack.pop()
                if not stack or stack[-1][0] != indent:
                    raise SchemaError("bad indentation")
                field, is_struct = parse_field(msg, words)
                owner = stack[-1][1]
                if any(o.name == field.name for o in owner.fields):
                    raise SchemaError(f"field {field.name} twice")
                last = None
                if is_struct:
                    if field.type not in msg.structs:
                        msg.structs[field.type] = Struct(field.type, f"{msg.name}_{field.type}")
                        last = (indent, msg.structs[field.type])
                    field.struct = msg.structs[field.type]
                owner.fields.append(field)
            except (SchemaError, ValueError, IndexError) as err:
                raise SystemExit(f"{path}:{number}: {err}")
    for m in messages:
        for s in m.structs.values():
            if not s.fields and s.name:
                raise SystemExit(f"{path}: struct {s.name} has no fields")
    return messages


def load(paths):
    messages = []
    for path in paths:
        messages += parse_file(path)
    seen = {}
    for m in messages:
        if m.name in seen:
            raise SystemExit(f"{m.where}: message {m.name} twice, first at {seen[m.name]}")
        seen[m.name] = m.where
    return messages


# ---- C ----

def in_versions(msg, span, var="v"):
    """C condition for var in span, given that it is one of the message's; None: always."""
    lo, hi = span
    parts = []
    if lo > msg.lo:
        parts.append(f"{var} >= {lo}")
    if hi < msg.hi:
        parts.append(f"{var} <= {hi}")
    return " && ".join(parts) if parts else None


def flexible_expr(msg):
    if msg.flexible <= msg.lo:
        return "true"
    if msg.flexible > msg.hi:
        return "false"
    return f"v >= {msg.flexible}"


def has_flexible(msg):
    return msg.flexible <= msg.hi


def nullable_expr(msg, f):
    if not f.nullable:
        return "false"
    # where the field itself is present is already known
    lo, hi = f.nullable
    return in_versions(msg, (lo if lo > f.lo else msg.lo, hi if hi < f.hi else msg.hi)) or "true"


def c_type(f):
    if f.array:
        return ARRAYS[f.type][0] if f.struct is None else f"struct {f.struct.cname}_arr"
    if f.struct is not None:
        return f"struct {f.struct.cname}"
    return SCALARS[f.type][0] if f.type in SCALARS else "struct span"


def number(text):
    if text in ("true", "false"):
        return text
    value = int(text, 0)
    if value == -(1 << 31):
        return "INT32_MIN"
    if value in ((1 << 63) - 1, (1 << 31) - 1):
        return "INT64_MAX" if value >> 31 else "INT32_MAX"
    return str(value)


def init_code(f):
    """C statement that sets the default; the struct is zeroed before. None: zero is right."""
    if f.array:
        return f"m->{f.name}.null = true;" if f.default == "null" else None
    if f.struct is not None and f.default == "empty":
        if any(init_code(g) for g in f.struct.fields):
            raise SystemExit(f"struct {f.struct.cname}: its empty value is not all zero")
        return f"m->{f.name} = (struct {f.struct.cname} *)(uintptr_t)&{f.struct.cname}_empty;"
    if f.struct is not None:
        return None if f.nullable else f"{f.struct.cname}_init(&m->{f.name});"
    if f.type in VARIABLE:
        return None if f.default == "null" else f"m->{f.name} = WIRE_EMPTY;"
    if f.default is None or number(f.default) in ("0", "false"):
        return None
    return f"m->{f.name} = {number(f.default)};"


def differs_expr(f, base="m->"):
    """C condition: the field does not have its default value."""
    x = f"{base}{f.name}"
    if f.array:
        if f.default == "null":
            return f"!{x}.null"
        return f"{x}.cnt != 0 || {x}.null" if f.nullable else f"{x}.cnt != 0"
    if f.struct is not None and f.default == "empty":
        return f"{x} == NULL || !{f.struct.cname}_is_default({x})"
    if f.struct is not None:
        return f"{x} != NULL" if f.nullable else f"!{f.struct.cname}_is_default(&{x})"
    if f.type in VARIABLE:
        if f.default == "null":
            return f"{x}.p != NULL"
        return f"{x}.len != 0 || {x}.p == NULL" if f.nullable else f"{x}.len != 0"
    if f.type == "uuid":
        return f"!uuid_is_zero(&{x})"
    return f"{x} != {number(f.default or '0')}" if f.type != "bool" else (
        f"!{x}" if f.default == "true" else x)


def min_size(msg, f, v):
    flexible = v >= msg.flexible
    if f.array:
        return 1 if flexible else 4
    if f.struct is not None:
        return 1 if f.nullable and f.nullable[0] <= v <= f.nullable[1] else struct_min(msg, f.struct, v)
    if f.type in SCALARS:
        return SCALARS[f.type][2]
    return 1 if flexible else (2 if f.type == "string" else 4)


def struct_min(msg, s, v):
    total = sum(min_size(msg, f, v) for f in s.fields if f.tag is None and f.lo <= v <= f.hi)
    return total + (1 if v >= msg.flexible else 0)


def var_expr(msg, f):
    return (f"(struct wire_var){{.flexible = flex, .nullable = {nullable_expr(msg, f)}, "
            f".max = {f.max}}}")


def read_code(msg, f, reader, uses):
    """C lines that read one present field from `reader` into out->name."""
    x = f"out->{f.name}"
    if f.array:
        uses.add("flex")
        uses.add("a")
        if f.struct is None:
            extra = f"{f.elem_max}, " if f.type == "bytes" else ""
            return [f"wire_get_{ARRAYS[f.type][1]}({reader}, {var_expr(msg, f)}, {extra}a, &{x});"]
        s = f.struct
        sizes = [max(1, struct_min(msg, s, v)) for v in range(f.lo, f.hi + 1)]
        for v in range(f.lo, f.hi + 1):
            if struct_min(msg, s, v) == 0:
                raise SystemExit(f"{msg.where}: elements of {f.name} are empty in version {v}")
        elem = str(sizes[0]) if len(set(sizes)) == 1 else f"{s.cname}_min[v - {msg.lo}]"
        return [f"uint32_t cnt = wire_get_count({reader}, {var_expr(msg, f)}, {elem}, &{x}.null);",
                f"{x}.v = wire_alloc({reader}, a, cnt, sizeof(*{x}.v));",
                f"{x}.cnt = {x}.v == NULL ? 0 : cnt;",
                f"for (uint32_t i = 0; i < {x}.cnt && {reader.lstrip('&')}{'.' if reader[0] == '&' else '->'}err == 0; i++) {{",
                f"    {s.cname}_init(&{x}.v[i]);",
                f"    read_{s.cname}({reader}, v, a, &{x}.v[i]);",
                "}"]
    if f.struct is not None:
        uses.add("a")
        s = f.struct
        if not f.nullable:
            return [f"read_{s.cname}({reader}, v, a, &{x});"]
        null = f"wire_get_i8({reader}) < 0" if f.tag is None else f"wire_get_uvarint({reader}) == 0"
        return [f"if ({null}) {{",
                f"    {x} = NULL;",
                f"}} else if (({x} = wire_alloc({reader}, a, 1, sizeof(*{x}))) != NULL) {{",
                f"    {s.cname}_init({x});",
                f"    read_{s.cname}({reader}, v, a, {x});",
                "}"]
    if f.type in SCALARS:
        return [f"{x} = wire_get_{SCALARS[f.type][1]}({reader});"]
    uses.add("flex")
    name = "string" if f.type == "string" else "bytes"
    return [f"{x} = wire_get_{name}({reader}, {var_expr(msg, f)});"]


def write_code(msg, f, writer, uses):
    x = f"m->{f.name}"
    null = nullable_expr(msg, f)
    if f.array:
        uses.add("flex")
        if f.struct is None:
            return [f"wire_put_{ARRAYS[f.type][1]}({writer}, flex, {null}, {x});"]
        return [f"wire_put_count({writer}, flex, {null}, {x}.null, {x}.cnt);",
                f"for (uint32_t i = 0; i < {x}.cnt && !{x}.null; i++)",
                f"    write_{f.struct.cname}({writer}, v, &{x}.v[i]);"]
    if f.struct is not None:
        s = f.struct
        if not f.nullable:
            return [f"write_{s.cname}({writer}, v, &{x});"]
        return [f"wire_put_i8({writer}, {x} == NULL ? -1 : 1);" if f.tag is None else
                f"wire_put_uvarint({writer}, {x} == NULL ? 0 : 1);",
                f"if ({x} != NULL)",
                f"    write_{s.cname}({writer}, v, {x});"]
    if f.type in SCALARS:
        return [f"wire_put_{SCALARS[f.type][1]}({writer}, {x});"]
    uses.add("flex")
    return [f"wire_put_{f.type}({writer}, flex, {null}, {x});"]


def guard(lines, cond, indent):
    pad = " " * indent
    declares = lines[0].startswith("uint32_t ")
    if cond is None and not declares:
        return [pad + line for line in lines]
    if len(lines) == 1 and not declares:
        return [f"{pad}if ({cond})", pad + "    " + lines[0]]
    head = "{" if cond is None else f"if ({cond}) {{"
    return [pad + head] + [pad + "    " + line for line in lines] + [pad + "}"]


def emit_init(s):
    out = [f"void {s.cname}_init(struct {s.cname} *m)", "{", "    memset(m, 0, sizeof(*m));"]
    out += ["    " + c for c in (init_code(f) for f in s.fields) if c]
    return out + ["}", ""]


def emit_is_default(s):
    parts = [differs_expr(f) for f in s.fields]
    cond = " || ".join(f"({p})" if "||" in p else p for p in parts)
    return [f"static bool {s.cname}_is_default(const struct {s.cname} *m)", "{",
            f"    return !({cond});", "}", ""]


def emit_read(msg, s):
    uses, body = set(), []
    for f in s.fields:
        if f.tag is None:
            body += guard(read_code(msg, f, "r", uses), in_versions(msg, (f.lo, f.hi)), 4)
    tags = [f for f in s.fields if f.tag is not None]
    if has_flexible(msg):
        tail = []
        if tags:
            tail += ["for (uint32_t n = wire_get_uvarint(r); n > 0 && r->err == 0; n--) {",
                     "    struct wire_reader body;",
                     "    switch (wire_get_tag(r, &body)) {"]
            for f in sorted(tags, key=lambda t: t.tag):
                tail.append(f"    case {f.tag}:")
                lines = read_code(msg, f, "&body", uses) + ["wire_end_tag(r, &body);"]
                tail += guard(lines, in_versions(msg, (f.lo, f.hi)), 8)
                tail.append("        break;")
            tail += ["    default:", "        break;", "    }", "}"]
        else:
            tail.append("wire_skip_tags(r);")
        cond = None if msg.flexible <= msg.lo else "flex"
        if cond:
            uses.add("flex")
        body += guard(tail, cond, 4)
    if "flex" in uses:
        body.insert(0, f"    const bool flex = {flexible_expr(msg)};")
    return ([f"static void read_{s.cname}(struct wire_reader *r, int16_t v, struct arena *a,",
             f"    struct {s.cname} *out)", "{", "    (void)v, (void)a, (void)out;"] + body + ["}", ""])


def emit_write(msg, s):
    uses, body = set(), []
    for f in s.fields:
        if f.tag is None:
            body += guard(write_code(msg, f, "w", uses), in_versions(msg, (f.lo, f.hi)), 4)
    tags = sorted((f for f in s.fields if f.tag is not None), key=lambda t: t.tag)
    if has_flexible(msg):
        tail = []
        for f in tags:
            cond = in_versions(msg, (f.lo, f.hi))
            differs = differs_expr(f)
            if cond:
                differs = f"{cond} && ({differs})" if "||" in differs else f"{cond} && {differs}"
            tail.append(f"const bool has_{f.name} = {differs};")
        tail.append("wire_put_uvarint(w, %s);" % (" + ".join(f"has_{f.name}" for f in tags) or "0"))
        for f in tags:
            tail.append(f"if (has_{f.name}) {{")
            if not f.array and f.struct is None and f.type in SCALARS:
                tail += [f"    wire_put_uvarint(w, {f.tag});",
                         f"    wire_put_uvarint(w, {SCALARS[f.type][2]});"]
            else:
                tail += ["    struct wire_writer size;", "    wire_writer_init_count(&size);"]
                tail += ["    " + c for c in write_code(msg, f, "&size", uses)]
                tail += [f"    wire_put_uvarint(w, {f.tag});",
                         "    wire_put_uvarint(w, (uint32_t)size.len);"]
            tail += ["    " + c for c in write_code(msg, f, "w", uses)]
            tail.append("}")
        cond = None if msg.flexible <= msg.lo else "flex"
        if cond:
            uses.add("flex")
        body += guard(tail, cond, 4)
    if "flex" in uses:
        body.insert(0, f"    const bool flex = {flexible_expr(msg)};")
    return ([f"static void write_{s.cname}(struct wire_writer *w, int16_t v, const struct {s.cname} *m)",
             "{", "    (void)w, (void)v, (void)m;"] + body + ["}", ""])


def default_structs(msg):
    """Structs whose default value must be recognised: tagged ones, and what they contain."""
    found = []

    def add(s):
        if s in found:
            return
        for f in s.fields:
            if f.struct is not None and not f.array and not f.nullable:
                add(f.struct)
        found.append(s)

    for s in msg.structs.values():
        for f in s.fields:
            if f.tag is not None and f.struct is not None and not f.array and (
                    not f.nullable or f.default == "empty"):
                add(f.struct)
    return found


def inner_first(msg):
    """Structs so that each comes after those it contains (messages are not recursive)."""
    done = []

    def visit(s, path):
        if s in path:
            raise SystemExit(f"{msg.where}: struct {s.name} contains itself")
        if s in done:
            return
        for f in s.fields:
            if f.struct is not None:
                visit(f.struct, path + [s])
        done.append(s)

    visit(msg.structs[""], [])
    return done


def emit_header(messages):
    out = ["/* Generated by lib/wire/schema/gen.py from lib/wire/schema/ - do not edit.",
           " * What the functions promise is said in lib/wire/wire.h. */", "#pragma once",
           '#include "lib/wire/wire.h"', ""]
    for msg in messages:
        what = f"{msg.kind} {msg.key}" if msg.key is not None else msg.kind
        flexible = "never" if msg.flexible == NEVER else f"from {msg.flexible}"
        out.append(f"/* ---- {msg.name}: {what}, versions {msg.lo}-{msg.hi}, flexible {flexible} ---- */")
        upper = msg.name.upper()
        if msg.key is not None:
            out.append(f"#define {upper}_KEY {msg.key}")
        out += [f"#define {upper}_MIN {msg.lo}", f"#define {upper}_MAX {msg.hi}"]
        arrays = {f.struct.cname for s in msg.structs.values() for f in s.fields if f.array and f.struct}
        for s in inner_first(msg):
            out.append(f"struct {s.cname} {{")
            for f in s.fields:
                notes = []
                if (f.lo, f.hi) != (msg.lo, msg.hi):
                    notes.append(f"v{f.lo}+" if f.hi == msg.hi else f"v{f.lo}-{f.hi}")
                if f.nullable:
                    notes.append("nullable" if f.nullable == (f.lo, f.hi) else f"nullable v{f.nullable[0]}-{f.nullable[1]}")
                if f.tag is not None:
                    notes.append(f"tag {f.tag}")
                if f.default is not None:
                    notes.append(f"default {f.default}")
                star = "*" if f.struct is not None and not f.array and f.nullable else ""
                note = f" /* {', '.join(notes)} */" if notes else ""
                out.append(f"    {c_type(f)} {star}{f.name};{note}")
            if not s.fields:
                out.append("    char nothing; /* the message has no fields */")
            out.append("};")
            if s.cname in arrays:
                out += [f"struct {s.cname}_arr {{", f"    struct {s.cname} *v;", "    uint32_t cnt;",
                        "    bool null;", "};"]
            out.append(f"void {s.cname}_init(struct {s.cname} *m);")
        n = msg.name
        out += [f"NODISCARD int {n}_read(struct wire_reader *r, int16_t version, struct arena *a,",
                f"    struct {n} *out);",
                f"size_t {n}_size(const struct {n} *m, int16_t version);",
                f"void {n}_write(struct wire_writer *w, int16_t version, const struct {n} *m);", ""]
    return out


def emit_source(messages, header):
    out = ["/* Generated by lib/wire/schema/gen.py from lib/wire/schema/ - do not edit. */",
           f'#include "{header}"', ""]
    for msg in messages:
        structs = inner_first(msg)
        out += [f"static const struct {f.struct.cname} {f.struct.cname}_empty;"
                for s in structs for f in s.fields if f.struct is not None and f.default == "empty"]
        for s in structs:
            out += emit_init(s)
        for s in default_structs(msg):
            out += emit_is_default(s)
        arrays = [f for s in structs for f in s.fields if f.array and f.struct]
        done = set()
        for f in arrays:
            sizes = [max(1, struct_min(msg, f.struct, v)) for v in range(msg.lo, msg.hi + 1)]
            used = {max(1, struct_min(msg, f.struct, v)) for v in range(f.lo, f.hi + 1)}
            if f.struct in done or len(used) == 1:
                continue
            done.add(f.struct)
            out += ["/* fewest bytes of one element, by version */",
                    f"static const uint16_t {f.struct.cname}_min[] = {{{', '.join(map(str, sizes))}}};", ""]
        for s in structs:
            out += emit_read(msg, s)
            out += emit_write(msg, s)
        n = msg.name
        versions = f"version < {msg.lo} || version > {msg.hi}"
        out += [f"int {n}_read(struct wire_reader *r, int16_t version, struct arena *a, struct {n} *out)",
                "{", f"    {n}_init(out);", f"    if ({versions})", "        return -E_UNSUPPORTED_VERSION;",
                f"    read_{n}(r, version, a, out);", "    return r->err;", "}", "",
                f"void {n}_write(struct wire_writer *w, int16_t version, const struct {n} *m)", "{",
                f"    ASSERT(!({versions}));", f"    write_{n}(w, version, m);", "}", "",
                f"size_t {n}_size(const struct {n} *m, int16_t version)", "{",
                "    struct wire_writer w;", "    wire_writer_init_count(&w);",
                f"    {n}_write(&w, version, m);", "    return w.len;", "}", ""]
    requests = sorted((m for m in messages if m.kind == "request"), key=lambda m: m.key)
    responses = {m.key: m for m in messages if m.kind == "response"}
    out.append("const struct wire_api wire_apis[] = {")
    for m in requests:
        reply = responses.get(m.key)
        if reply is None or (reply.versions, reply.flexible) != (m.versions, m.flexible):
            raise SystemExit(f"{m.where}: no response with the same versions")
        name = m.name[:-len("_request")]
        advertise = m.lo if m.advertise is None else m.advertise
        flexible = "WIRE_NEVER" if m.flexible == NEVER else str(m.flexible)
        out.append(f'    {{{m.key}, "{name}", {m.lo}, {m.hi}, {advertise}, {flexible}}},')
    out += ["};", "const uint32_t wire_api_cnt = sizeof(wire_apis) / sizeof(wire_apis[0]);"]
    return out


def emit_desc(messages):
    """Tables of fields: tests fill, compare and drive every message through them."""
    out = ["/* Generated by lib/wire/schema/gen.py --desc from lib/wire/schema/ - do not edit. */"]
    for msg in messages:
        for s in inner_first(msg):
            out.append(f"static const struct desc_field fields_{s.cname}[] = {{")
            for f in s.fields:
                kind = f.type if f.struct is None else "struct"
                nullable = f.nullable or (1, 0)
                elem = f"&desc_{f.struct.cname}" if f.struct is not None else "NULL"
                pointer = f.struct is not None and not f.array and bool(f.nullable)
                out.append(f'    {{"{f.name}", DESC_{kind.upper()}, {int(f.array)}, {int(pointer)}, '
                           f"offsetof(struct {s.cname}, {f.name}), {f.lo}, {f.hi}, {nullable[0]}, "
                           f"{nullable[1]}, {-1 if f.tag is None else f.tag}, {f.max or 0}, {elem}}},")
            if not s.fields:
                out.append("    {0}")
            out += ["};", f"static const struct desc desc_{s.cname} = {{",
                    f"    sizeof(struct {s.cname}), {len(s.fields)}, fields_{s.cname}}};"]
        n = msg.name
        out += [f"static int call_read_{n}(struct wire_reader *r, int16_t v, struct arena *a, void *m)",
                "{", f"    return {n}_read(r, v, a, m);", "}",
                f"static void call_write_{n}(struct wire_writer *w, int16_t v, const void *m)",
                "{", f"    {n}_write(w, v, m);", "}",
                f"static size_t call_size_{n}(const void *m, int16_t v)",
                "{", f"    return {n}_size(m, v);", "}"]
        for s in inner_first(msg):
            out += [f"static void call_init_{s.cname}(void *m)", "{", f"    {s.cname}_init(m);", "}"]
    out.append("static const struct desc_msg desc_msgs[] = {")
    for msg in messages:
        n = msg.name
        flexible = "WIRE_NEVER" if msg.flexible == NEVER else str(msg.flexible)
        out.append(f'    {{"{n}", "{msg.kind}", {-1 if msg.key is None else msg.key}, {msg.lo}, {msg.hi}, '
                   f"{flexible}, &desc_{n}, call_init_{n}, call_read_{n}, call_write_{n}, call_size_{n}}},")
    out.append("};")
    out.append("static const struct {\n    const struct desc *desc;\n    void (*init)(void *m);\n} desc_inits[] = {")
    for msg in messages:
        for s in inner_first(msg):
            out.append(f"    {{&desc_{s.cname}, call_init_{s.cname}}},")
    out.append("};")
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--header")
    parser.add_argument("--source")
    parser.add_argument("--desc")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    messages = load(args.files)
    if args.header:
        with open(args.header, "w", encoding="utf-8") as file:
            file.write("\n".join(emit_header(messages)) + "\n")
    if args.source:
        with open(args.source, "w", encoding="utf-8") as file:
            file.write("\n".join(emit_source(messages, "lib/wire/" + os.path.basename(args.header))) + "\n")
    if args.desc:
        with open(args.desc, "w", encoding="utf-8") as file:
            file.write("\n".join(emit_desc(messages)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
