"""The manual and the shells' completions name exactly the options that --help names; the manual agrees with it on the
rest, too.

Environment: DETECT_CLI, the tool; the others are looked for beside it.
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
PROGRAMS = [name for name in ("detect", "detect-bench", "detect-server")  # the server needs a library that may be absent
            if Path(CLI).with_name(name).exists()]  # fmt: skip
HEADINGS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO")
DEFAULT_MODEL = "default: the environment's LIBDETECT_MODEL, else damofd-2.5g-kps, which finds faces"


def output(*command, **keywords):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **keywords).stdout


def options(text):
    return set(re.findall(r"--[a-z][a-z-]*", text))


def plain(page):
    """A page's words, without what sets them."""
    text = re.sub(r"\\f[BIR]|^\.[A-Z]+ ?", "", page.replace("\\-", "-"), flags=re.M)
    return re.sub(r" ,", ",", re.sub(r"\s+", " ", text))


class Manual(unittest.TestCase):
    def setUp(self):
        """Name, page and --help of every program."""
        self.pages = [(name, (PACKAGING / "man" / f"{name}.1").read_text(), output(Path(CLI).with_name(name), "--help"))
                      for name in PROGRAMS]  # fmt: skip

    def test_options(self):
        for name, page, shown in self.pages:
            self.assertGreater(len(options(shown)), 20, name)
            self.assertEqual(options(plain(page)), options(shown), name)

    def test_headings(self):
        for name, page, _ in self.pages:
            found = re.findall(r"^\.SH (.+)$", page, re.M)
            self.assertEqual([heading for heading in found if heading in HEADINGS], list(HEADINGS), name)
            others = {f"detect-{other}" for other in ("bench", "server")} | {"detect"}
            also = page[page.index(".SH SEE ALSO") :].replace("\\-", "-")
            self.assertEqual(set(re.findall(r"^\.BR (\S+) ", also, re.M)), others - {name}, name)

    def test_default_model(self):
        for name, page, shown in self.pages:
            for text in (plain(page), re.sub(r"\s+", " ", shown)):
                self.assertIn(DEFAULT_MODEL, text.replace("Default", "default"), name)

    def test_exit_status(self):
        for name, page, shown in self.pages:
            said = re.findall(r"(?:^  |status: |; )(\d) ", shown[shown.index("Exit status") :], re.M)
            self.assertIn("0", said, name)
            self.assertEqual(re.findall(r"^\.B (\d)$", page, re.M), said, name)

    def test_pages_are_sound(self):
        if not shutil.which("man"):
            self.skipTest("man is not installed")
        for page in (PACKAGING / "man").iterdir():
            done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)], check=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
            self.assertEqual(done.stderr, "", page.name)


class Completion(unittest.TestCase):
    def setUp(self):
        self.wanted = options(output(CLI, "--help"))

    def test_completions(self):
        for name in ("detect.bash", "_detect"):
            self.assertEqual(options((PACKAGING / "completion" / name).read_text()), self.wanted, name)
        fish = (PACKAGING / "completion" / "detect.fish").read_text()
        self.assertEqual({"--" + name for name in re.findall(r" -l ([a-z-]+)", fish)}, self.wanted)

    def test_completions_know_the_models(self):
        models = {path.stem for path in (ROOT / "models").glob("*.safetensors")}
        for name in ("detect.bash", "_detect", "detect.fish"):
            text = (PACKAGING / "completion" / name).read_text()
            self.assertEqual(set(re.findall(r"damofd-[a-z0-9.-]+", text)), models, name)

    def test_bash_completes(self):
        script = f"source {PACKAGING}/completion/detect.bash; COMP_WORDS=(detect %s); COMP_CWORD=%d; _detect; echo ${{COMPREPLY[@]}}"
        for words, expected in (("--agn", "--agnostic"), ("info --lay", "--layers"), ("--device cu", "cuda"),
                                ("models --ver", "--version"), ("--model damofd-2", "damofd-2.5g-kps")):
            done = output("bash", "-c", script % (words, len(words.split())))
            self.assertEqual(done.strip(), expected, words)

    def test_shells_read_them(self):
        for shell, name in (("zsh", "_detect"), ("fish", "detect.fish")):
            if shutil.which(shell):
                output(shell, "-n", str(PACKAGING / "completion" / name))


if __name__ == "__main__":
    unittest.main()
