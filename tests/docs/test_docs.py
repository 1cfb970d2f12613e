"""The documentation: every code block works or says why it is not run, links lead somewhere, the API reference is that of
the header, and mkdocs, where it is installed, has nothing to complain about.

Environment: DET_BUILD, the build folder; DET_TEST_MODEL, a model file; CC and CXX.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from blocks import LONG_RUNNING, ROOT, SHOWN, TRIED, blocks, commands, run, try_c, try_cmake, try_command, try_python

BUILD = Path(os.environ["DET_BUILD"])
MODEL = Path(os.environ["DET_TEST_MODEL"])
PAGES = [page for pattern in ("*.md", "docs/*.md", "examples/*/README.md", "training/README.md", "models/README.md", "bindings/python/README.md")
         for page in sorted(ROOT.glob(pattern))]
PICTURES = ("photo.jpg", "photo.ppm", "party.jpg", "holiday/a.ppm", "photos/b.ppm")


class Blocks(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test_docs."))
        self.addCleanup(shutil.rmtree, self.folder)
        os.environ["LIBDETECT_LIBRARY"] = str(BUILD / "libdetect.so")
        os.environ["LIBDETECT_MODEL"] = str(MODEL)
        self.tools = {name: BUILD / name for name in ("detect", "minimal", *LONG_RUNNING) if (BUILD / name).exists()}
        self.tools["python"] = Path(sys.executable)

    def prepare(self, text):
        """The files that a block names."""
        for name in re.findall(r"[\w./-]+\.safetensors", text):
            if not name.startswith("/") and not (self.folder / name).exists():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(MODEL, self.folder / name)
        pixels = bytes((x * y >> 3) % 256 for y in range(60) for x in range(80 * 3))
        for name in PICTURES:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(b"P6 80 60 255\n" + pixels)

    def attempt(self, block):
        self.prepare(block.text)
        if block.language == "c":
            try_c(block, self.folder, BUILD / "libdetect.so", os.environ["CC"])
        elif block.language == "cpp":
            try_c(block, self.folder, BUILD / "libdetect.so", os.environ["CXX"], cxx=True)
        elif block.language == "python":
            try_python(block, self.folder, sys.executable)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "sh":
            for words in commands(block.text):
                try_command(words, self.folder, self.tools)
        elif block.language == "cmake":
            try_cmake(block, self.folder, BUILD)

    def test_every_block(self):
        n_tried = 0
        for page in PAGES:
            for block in blocks(page):
                with self.subTest(str(block)):
                    self.assertIn(block.language, TRIED + SHOWN, "name the language behind the fence")
                    if not block.excuse:
                        self.attempt(block)
                        n_tried += block.language in TRIED
        self.assertGreater(n_tried, 15)

    def test_the_test_can_fail(self):
        page = self.folder / "page.md"
        wrong = {
            "c": "det_run(context);", "cpp": "det_model *m = det_open();", "python": "import libdetect\nlibdetect.nothing",
            "sh": "scripts/nothing", "json": "{,}", "cmake": "target_link_libraries(mine PRIVATE libdetect::nothing)",
        }
        for language, text in wrong.items():
            page.write_text(f"```{language}\n{text}\n```\n")
            (block,) = blocks(page)
            with self.subTest(language), self.assertRaises((AssertionError, ValueError)):
                self.attempt(block)
        for text in ("detect --nothing photo.jpg", "cmake -DDET_NOTHING=ON", "python3 -m libdetect.convert --nothing",
                     "python3 training/train.py --nothing",
                     "nothing at all"):
            with self.subTest(text), self.assertRaises(AssertionError):
                for words in commands(text):
                    try_command(words, self.folder, self.tools)


class Pages(unittest.TestCase):
    def test_links(self):
        for page in PAGES:
            text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if "://" in link:
                    continue
                path, _, anchor = link.partition("#")
                target = page.parent / path if path else page
                with self.subTest(page=page.name, link=link):
                    self.assertTrue(target.exists(), f"{page}: {link}")
                    if page.parent == ROOT / "docs":
                        self.assertIn(page.parent, target.resolve().parents, "mkdocs has docs/ alone: name the file")
                    if anchor:
                        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
                        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
                        self.assertIn(anchor, anchors)

    def test_api_reference_is_of_the_header(self):
        run([sys.executable, ROOT / "scripts" / "api-docs", "--check"], ROOT)
        text = (ROOT / "docs" / "api.md").read_text()
        for name in re.findall(r"^ +(det_\w+);$", (ROOT / "include/libdetect/libdetect.map").read_text(), re.M):
            self.assertIn(f"### {name}\n", text)

    def test_mkdocs(self):
        done = subprocess.run([sys.executable, "-m", "mkdocs", "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        version = re.search(r"version (\d+)\.(\d+)", done.stdout)
        if not version or tuple(map(int, version.groups())) < (1, 6):
            self.skipTest("mkdocs 1.6 is not installed (scripts/setup-extra)")
        with tempfile.TemporaryDirectory() as folder:
            run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder], ROOT)
            made = (Path(folder) / "api.html").read_text()
            self.assertTrue((Path(folder) / "index.html").exists())
        self.assertNotIn("```", made)
        written = re.findall("^##+ ", (ROOT / "docs" / "api.md").read_text(), re.M)
        self.assertEqual(len(re.findall("<h[23] ", made)), len(written))


if __name__ == "__main__":
    unittest.main()
