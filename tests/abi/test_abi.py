"""The library keeps the ABI that is written down, and the check that says so can tell a change from another.

Environment: DET_LIBRARY, the built library with debug information; CC.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = HERE.parents[1] / "include" / "libdetect" / "detect.h"
DUMP = HERE / f"libdetect-{platform.machine()}.abi"
LIBRARY = os.environ["DET_LIBRARY"]
CC = os.environ.get("CC", "cc")


def may_grow():
    return {line for line in (HERE / "may_grow.txt").read_text().splitlines() if line and line[0] != "#"}


def refused(report):
    """The lines of abidiff's report by types that are not a struct of may_grow.txt grown at its end."""
    lines, size = [], None  # size: of the struct at hand, where it may grow
    for line in report.splitlines():
        begin = re.match(r"'(?:struct )?(\w+) at .*' changed:$", line)
        if begin:
            size, pending = (0, line) if begin[1] in may_grow() else (None, line)
        resized = re.match(r"  type size changed from (\d+) to \d+ ", line)
        if resized and size is not None:
            size = int(resized[1])
        inserted = re.match(r"    '.*', at offset (\d+) \(in bits\)", line)
        harmless = re.match(r"  \d+ data member insertions?:|Leaf changes|Changed leaf|Removed/Changed/Added|$", line)
        allowed = begin or resized or harmless or (inserted and int(inserted[1]) >= size) if size is not None else harmless
        if not allowed:
            lines += [line] if size is None else [pending, line]
    return "\n".join(lines)


def differences(old, new):
    """What is not accepted; "" for nothing."""
    command = ["abidiff", "--leaf-changes-only", "--no-added-syms", "--headers-dir2", HEADER.parents[1],
               "--drop-private-types", "--exported-interfaces-only", old, new]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    error, usage = 1, 2
    assert not done.returncode & (error | usage), done.stdout
    return refused(done.stdout) if done.returncode else ""


class Abi(unittest.TestCase):
    def test_library_keeps_it(self):
        self.assertEqual(differences(DUMP, LIBRARY), "", "if this is meant, read docs/abi.md")

    def test_dump_is_of_all(self):
        """An old dump must not hide that a function has no protection yet."""
        dumped = set(re.findall(r"<elf-symbol name='(det_\w+)'", DUMP.read_text()))
        mapped = set(re.findall(r"^ +(det_\w+);$", HEADER.with_name("libdetect.map").read_text(), re.M))
        self.assertEqual(mapped - dumped, set(), "run tests/abi/dump.sh")

    def test_layout_is_of_all(self):
        header = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
        named = set(re.findall(r"\b(DET_\w+) =", header)) | set(re.findall(r"^typedef struct (\w+) \{", header, re.M))
        listed = re.findall(r"^(?:CONSTANT|STRUCT)\((\w+),", (HERE / "layout.def").read_text(), re.M)
        self.assertEqual(named, set(listed), "run tests/abi/make_layout.py")


class Check(unittest.TestCase):
    """abidiff's verdict on libraries whose header was changed on purpose."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_abi."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.base = cls.library("base", lambda text: text)

    @classmethod
    def library(cls, name, change, drop=()):
        """A library of empty functions, of a changed header."""
        text = HEADER.read_text()
        changed = change(text)
        folder = cls.folder / name
        (folder / "libdetect").mkdir(parents=True)
        (folder / "libdetect" / "detect.h").write_text(changed)
        source = '#include "libdetect/detect.h"\n#pragma GCC diagnostic ignored "-Wreturn-type"\n'
        for prototype in re.findall(r"^DET_API ([^;]+?\));", re.sub(r"/\*.*?\*/", "", changed, flags=re.S), re.M):
            if not any(word in prototype for word in drop):
                source += prototype + " { __builtin_trap(); }\n"
        (folder / "all.c").write_text(source)
        subprocess.run([CC, "-g", "-shared", "-fPIC", "-w", "-I", folder, "-o", folder / "lib.so", folder / "all.c"], check=True)
        return folder / "lib.so"

    def verdict(self, name, change=lambda text: text, **options):
        return differences(self.base, self.library(name, change, **options))

    @staticmethod
    def grown(struct, at_end=True):
        def change(text):
            pattern = rf"(typedef struct {struct} {{\n)(.*?)(\n}} {struct};)"
            assert re.search(pattern, text, re.S), struct
            place = r"\1\2\n    int64_t added;\3" if at_end else r"\1    int64_t added;\n\2\3"
            return re.sub(pattern, place, text, count=1, flags=re.S)
        return change

    def test_allowed(self):
        for struct in sorted(may_grow()):
            with self.subTest(struct):
                self.assertEqual(self.verdict(f"grown {struct}", self.grown(struct)), "")
        added = lambda text: text.replace("DET_API const char *det_version", "DET_API int det_new(void);\n\nDET_API const char *det_version")
        self.assertEqual(self.verdict("function added", added), "")

    def test_refused(self):
        for struct in ("det_object", "det_image", "det_layer_time", "det_pool_device"):
            with self.subTest(struct):
                self.assertIn("size changed", self.verdict(f"grown {struct}", self.grown(struct)))
        inside = self.grown("det_context_info", at_end=False)
        self.assertIn("added", self.verdict("inserted", inside))
        self.assertIn("det_run_async", self.verdict("function removed", drop=["det_run_async"]))
        narrowed = lambda text: text.replace("const det_image *images, int32_t n,", "const det_image *images, int64_t n,")
        self.assertIn("parameter", self.verdict("parameter changed", narrowed))


if __name__ == "__main__":
    if not shutil.which("abidiff"):
        print("SKIP: abidiff (abigail-tools) is not installed")
        sys.exit(77)
    unittest.main()
