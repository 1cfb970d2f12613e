"""clang has nothing to say of what the build compiles: the library, kernels for the emulator, tools, examples and tests,
warnings being errors. It only reads them: no objects are made.

Environment: DET_BUILD, the build folder; CLANG, clang's name. Says SKIP where it is missing.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["DET_BUILD"])
CLANG = os.environ.get("CLANG", "clang")
COMPILERS = {".c": [CLANG], ".cc": [f"{CLANG}++"], ".cu": [f"{CLANG}++"]}


def commands():
    """One for each file and its flags, for a few are compiled for several programs alike."""
    found = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        if "nvcc" not in Path(words[0]).name:
            flags = words[1 : words.index("-o")]
            command = [*COMPILERS[Path(entry["file"]).suffix], *flags, "-Werror", "-fsyntax-only", entry["file"]]
            found[tuple(command)] = entry["directory"]
    return found


def complaints(command, folder):
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout if done.returncode else ""


class Clang(unittest.TestCase):
    def test_what_the_build_compiles(self):
        found = commands()
        files = {os.path.relpath(command[-1], ROOT) for command in found}
        for folder, least in (("lib", 40), ("kernels", 5), ("examples", 50), ("tests", 50)):
            self.assertGreater(sum(file.startswith(f"{folder}/") for file in files), least, folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            said = list(pool.map(complaints, found, found.values()))
        self.assertEqual("".join(said), "")

    def test_the_test_can_fail(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a.c").write_text("int main(void) { int unused; return 0; }\n")
            self.assertIn("unused", complaints([CLANG, "-Wall", "-Werror", "-fsyntax-only", "a.c"], folder))


if __name__ == "__main__":
    if not shutil.which(CLANG):
        print(f"SKIP: {CLANG} is not installed")
        sys.exit(77)
    unittest.main()
