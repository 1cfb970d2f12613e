"""scripts/skipped finds what was left out, and what it cannot tell it does not pass over."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = """cmake_minimum_required(VERSION 3.18)
project(x NONE)
enable_testing()
add_test(NAME tried COMMAND ${PYTHON} -c "print(4000 * 'x'); print('%s')")
set_tests_properties(tried PROPERTIES SKIP_RETURN_CODE 77)
"""


class Skipped(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "scripts").mkdir()
        self.script = self.root / "scripts" / "skipped"
        self.script.write_bytes((ROOT / "scripts" / "skipped").read_bytes())
        (self.root / ".ci").mkdir()

    def run_ctest(self, last_line="OK (skipped=2)", options=("--test-output-size-passed", "100000")):
        """A test with more to say than ctest keeps by itself, and that last line."""
        (self.root / "CMakeLists.txt").write_text(PROJECT % last_line)
        for command in (["cmake", "-S", self.root, "-B", self.root / "build", f"-DPYTHON={sys.executable}"],
                        ["ctest", "--test-dir", self.root / "build", "--output-junit", "results.xml", *options]):  # fmt: skip
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def verdict(self, may_skip):
        (self.root / ".ci" / "may-skip").write_text(may_skip)
        command = [sys.executable, self.script, self.root / "build" / "results.xml"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, int(done.stderr != ""))
        return done.stderr

    def test_nothing(self):
        self.run_ctest("OK")
        self.assertEqual(self.verdict(""), "")

    def test_in_part(self):
        self.run_ctest()
        self.assertIn("  tried: OK (skipped=2)", self.verdict(""))
        for line in ("tried", "tried partly", "tr*  partly  # why", "tried without nothing"):
            self.assertEqual(self.verdict(line), "", line)
        self.assertIn("  tried: ", self.verdict("tried without scripts"))
        for line in ("tried without", "tried whole", "tried without a b"):
            self.assertIn(f"not understood: {line}", self.verdict(line))

    def test_whole(self):
        self.run_ctest("SKIP: no time'); raise SystemExit(77) #")
        self.assertIn("  tried: SKIP: no time", self.verdict("tried partly"))
        self.assertEqual(self.verdict("tried"), "")

    def test_output_that_is_cut(self):
        self.run_ctest(options=())
        self.assertIn("tried: its output is cut", self.verdict(""))
        self.assertIn("--test-output-size-passed", (ROOT / "scripts" / "test").read_text())


if __name__ == "__main__":
    unittest.main()
