"""The manual and the shells' completions name exactly the options that --help names.

Environment: DETECT_CLI, the tool.
"""

import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
CLI = os.environ.get("DETECT_CLI", "detect")


def output(*command, **keywords):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **keywords).stdout


def options(text):
    return set(re.findall(r"--[a-z][a-z-]*", text))


class Options(unittest.TestCase):
    def setUp(self):
        self.help = output(CLI, "--help")
        self.wanted = options(self.help)
        self.assertGreater(len(self.wanted), 20)

    def test_manual(self):
        page = (PACKAGING / "man" / "detect.1").read_text().replace("\\-", "-")
        self.assertEqual(options(page), self.wanted)
        for heading in ("NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES"):
            self.assertIn(f".SH {heading}", page)

    def test_manuals_of_the_other_programs(self):
        for name in ("detect-bench", "detect-server"):
            program = Path(CLI).with_name(name)
            page = (PACKAGING / "man" / f"{name}.1").read_text().replace("\\-", "-")
            with self.subTest(name):
                if not program.exists():  # the server needs a library that may be absent
                    self.skipTest(f"{name} is not built")
                self.assertEqual(options(page), options(output(str(program), "--help")))

    def test_completions(self):
        for name in ("detect.bash", "_detect"):
            self.assertEqual(options((PACKAGING / "completion" / name).read_text()), self.wanted, name)
        fish = (PACKAGING / "completion" / "detect.fish").read_text()
        self.assertEqual({"--" + name for name in re.findall(r" -l ([a-z-]+)", fish)}, self.wanted)

    def test_bash_completes(self):
        script = f"source {PACKAGING}/completion/detect.bash; COMP_WORDS=(detect %s); COMP_CWORD=%d; _detect; echo ${{COMPREPLY[@]}}"
        for words, expected in (("--agn", "--agnostic"), ("info --lay", "--layers"), ("--device cu", "cuda"),
                                ("models --ver", "--version")):
            done = output("bash", "-c", script % (words, len(words.split())))
            self.assertEqual(done.strip(), expected, words)

    def test_shells_read_them(self):
        for shell, name in (("zsh", "_detect"), ("fish", "detect.fish")):
            if shutil.which(shell):
                output(shell, "-n", str(PACKAGING / "completion" / name))

    def test_manual_is_sound(self):
        if not shutil.which("man"):
            self.skipTest("man is not installed")
        for page in (PACKAGING / "man").iterdir():
            done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)], check=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
            self.assertEqual(done.stderr, "", page.name)


if __name__ == "__main__":
    unittest.main()
