#!/usr/bin/env python3
"""A definition that makes no sense is refused with file, line and reason.

usage: check_gen.py GEN_PY
"""
import os
import subprocess
import sys
import tempfile

HEAD = "message m\nkind data\nversions 0-2\nflexible 1\nfields\n"
CASES = [  # definition, what the message must contain
    (HEAD + "  x int32\n", "6: a field needs: name type versions"),
    (HEAD + "  X int32 0+\n", "6: bad field name 'X'"),
    (HEAD + "  x int32 a+\n", "6: bad versions 'a+'"),
    (HEAD + "  x int32 3+\n", "6: field x is in no version of the message"),
    (HEAD + "  x int32 0+\n  x int8 0+\n", "7: field x twice"),
    (HEAD + "  x []int32 0+\n", "6: field x needs a max"),
    (HEAD + "  x bytes 0+\n", "6: field x needs a max"),
    (HEAD + "  x []bool 0+ max 3\n", "6: no arrays of bool"),
    (HEAD + "  x int32 0+ max 3\n", "6: field x: max is for"),
    (HEAD + "  x int32 0+ nullable 0+\n", "6: field x: int32 cannot be null"),
    (HEAD + "  x string 0+ default null\n", "6: field x: default null but not nullable"),
    (HEAD + "  x int32 0+ tag 0\n", "6: tagged field x is in a version that is not flexible"),
    (HEAD + "  x int32 0+ color red\n", "6: unknown word 'color'"),
    (HEAD + "  x int32 0+ default\n", "6: 'default' needs a value"),
    (HEAD + "  s s 0+ nullable 0+\n    x int8 0+\n", "6: nullable struct s needs default null"),
    (HEAD + "  x int32 0+\n    y int32 0+\n", "7: bad indentation"),
    (HEAD + "  s s 0+\n", "struct s has no fields"),
    (HEAD + "  s s 0+\n    t []s 0+ max 1\n", "struct s contains itself"),
    (HEAD + "  l []e 0+ max 9\n    x int8 1+\n", "elements of l are empty in version 0"),
    ("message m\nkind data\nfields\n", "3: kind, versions and flexible come before fields"),
    ("kind data\n", "1: expected 'message NAME'"),
    (HEAD + HEAD, "message m twice"),
    (HEAD.replace("data", "request\nkey 1").replace(" m\n", " m_request\n"), "no response with the same versions"),
]


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "case.msg")
        out = [os.path.join(folder, name) for name in ("out.h", "out.c")]
        for text, want in CASES:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            run = subprocess.run([sys.executable, sys.argv[1], "--header", out[0], "--source", out[1], path],
                                 capture_output=True, text=True, check=False)
            if run.returncode == 0 or want not in run.stderr or "Traceback" in run.stderr:
                print(f"expected '{want}' for:\n{text}got: {run.stderr}")
                failed += 1
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
