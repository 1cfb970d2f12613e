#!/usr/bin/env python3
"""Writes down the layout of the public structs, as $CC (cc) lays them out, and the values of constants,
tests/abi/layout.def: with each release, and before the first with each change of the header."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[1] / "include"
HEAD = """/* STRUCT(name, size, alignment) and FIELD(struct, name, offset, size) where pointers have eight bytes, as released. Fields
 * are only ever added, at the end of those structs that tests/abi/may_grow.txt names. CONSTANT(name, value) of all that are
 * compiled into programs: they never change. Made by make_layout.py. */
"""


def fields(body):
    """The names of a struct's fields, in order."""
    for declaration in filter(None, map(str.strip, body.split(";"))):
        function = re.search(r"\(\*(\w+)\)", declaration)
        if function:
            yield function[1]
        else:
            for part in declaration.split(","):
                yield re.search(r"(\w+)(?:\[\w+\])*$", part.strip())[1]


def program():
    header = re.sub(r"/\*.*?\*/", "", (INCLUDE / "libdetect" / "detect.h").read_text(), flags=re.S)
    lines = []
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", header, re.S):
        lines.append(f'printf("STRUCT({name}, %zu, %zu)\\n", sizeof({name}), _Alignof({name}));')
        for field in fields(body):
            lines.append(f'printf("FIELD({name}, {field}, %zu, %zu)\\n", offsetof({name}, {field}),'
                         f" sizeof((({name} *)0)->{field}));")
    for body in re.findall(r"^enum \{(.*?)\};", header, re.S | re.M):
        for name in re.findall(r"(\w+) =", body):
            lines.append(f'printf("CONSTANT({name}, %d)\\n", (int){name});')
    return "#include <stdio.h>\n#include <libdetect/detect.h>\nint main(void) {\n" + "\n".join(lines) + "\n}\n"


with tempfile.TemporaryDirectory() as folder:
    source = Path(folder, "layout.c")
    source.write_text(program())
    subprocess.run([os.environ.get("CC", "cc"), "-I", INCLUDE, source, "-o", source.with_suffix("")], check=True)
    text = subprocess.run([source.with_suffix("")], check=True, stdout=subprocess.PIPE, text=True).stdout
text = text.replace("STRUCT", "\nSTRUCT").replace("CONSTANT", "\nCONSTANT", 1)
(HERE / "layout.def").write_text(HEAD + text)
