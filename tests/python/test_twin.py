"""python -m libdetect beside the tool detect: the same options, output, drawings and exit codes.

Environment: DETECT_CLI, the tool. Needs the built library.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
from pathlib import Path
from typing import Any, List

import numpy as np
from test_binding import MISSING, model_file

from libdetect import font, picture_files

TOOL = os.environ.get("DETECT_CLI", "")
ROOT = Path(__file__).resolve().parents[2]


def ppm(seed: int, width: int, height: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


@unittest.skipIf(MISSING or not TOOL, MISSING or "DETECT_CLI is not set")
class Twin(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="test_twin."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "model").write_bytes(model_file(input=[96, 64]))
        (cls.folder / "a.ppm").write_bytes(ppm(1, 160, 120))
        (cls.folder / "below").mkdir()
        (cls.folder / "below" / 'o"d, \u00e9.ppm').write_bytes(ppm(2, 300, 200))
        (cls.folder / "below" / "c.pgm").write_bytes(b"P5\n# 7 levels\n64 32 6\n" + bytes(range(7)) * 300)

    def both(self, *arguments: str) -> List[Any]:
        environment = {**os.environ, "LIBDETECT_MODEL": "model", "PYTHONPATH": str(ROOT / "bindings" / "python")}
        return [
            subprocess.run([*command, *arguments], cwd=self.folder, env=environment, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=300)
            for command in ([TOOL], [sys.executable, "-m", "libdetect"])
        ]  # fmt: skip

    def same(self, *arguments: str, code: int = 0, strip: str = r', "time_ms".*|  [0-9.]+ ms$') -> str:
        tool, ours = self.both(*arguments)
        self.assertEqual((tool.returncode, ours.returncode), (code, code), tool.stderr + ours.stderr)
        texts = [re.sub(strip, "", done.stdout.decode(), flags=re.M) for done in (tool, ours)]
        self.assertEqual(*texts)
        return texts[0]

    def test_results(self) -> None:
        for form in ("--json", "--csv", "--table"):
            text = self.same(form, "--threads", "1", "--size", "160x128", "--score", "0.3", "a.ppm", "below")
            self.assertGreater(len(text.splitlines()), 2)
        self.same("--batch", "2", "--json", "--max-objects", "3", "--iou", "0.2", "a.ppm", "below", "--agnostic")
        self.same("--json", "--classes", "face", "--multi-label", "a.ppm")

    def test_times(self) -> None:
        tool, ours = self.both("--json", "a.ppm")
        keys = [list(json.loads(done.stdout)["time_ms"]) for done in (tool, ours)]
        self.assertEqual(*keys)
        self.assertTrue(all(ms >= 0 for ms in json.loads(ours.stdout)["time_ms"].values()))

    def test_drawings(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python")}
        arguments = ["--model", "model", "--score", "0.3", "a.ppm", "a.ppm", "below", "--draw"]
        subprocess.run([TOOL, *arguments, "theirs"], cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, "-m", "libdetect", *arguments, "ours"], cwd=self.folder, check=True,
                       env=environment, stdout=subprocess.DEVNULL)  # fmt: skip
        names = sorted(path.name for path in (self.folder / "theirs").iterdir())
        self.assertEqual(names, sorted(path.name for path in (self.folder / "ours").iterdir()))
        self.assertIn("a-2.png", names)
        try:
            from PIL import Image
        except ImportError:
            self.skipTest("Pillow, which reads the drawings back, is not installed")
        for name in names:
            theirs, ours = (np.asarray(Image.open(self.folder / side / name)) for side in ("theirs", "ours"))
            np.testing.assert_array_equal(ours, theirs, name)

    def test_drawings_of_the_other(self) -> None:
        """Each replaces what the other has drawn, and no other file."""
        out = self.folder / "shared"
        out.mkdir()
        (out / "a.png").write_bytes(b"\x89PNG of someone else")
        for _ in range(2):
            self.both("--score", "0.3", "a.ppm", "--draw", "shared")
            self.assertEqual(sorted(path.name for path in out.iterdir()), ["a-2.png", "a.png"])
        self.assertEqual((out / "a.png").read_bytes(), b"\x89PNG of someone else")

    def test_info(self) -> None:
        text = self.same("info", "--json", "--threads", "1", "--size", "64x64")
        self.assertEqual(json.loads(text)["family"], "damofd")
        tool, ours = self.both("info", "--layers", "--json", "--threads", "1", "--size", "64x64")
        described = [json.loads(done.stdout) for done in (tool, ours)]
        for one in described:
            one.pop("time_ms")
            for layer in one["layers"]:
                layer.pop("ms")
        self.assertEqual(*described)
        self.assertIn("milliseconds", self.both("info", "--layers", "--size", "64x64")[1].stdout.decode())

    def test_failures(self) -> None:
        self.same("missing.ppm", "--json", code=1)
        self.same("--json", "missing.ppm", "a.ppm", code=1)
        self.same("--model", "a.ppm", "a.ppm", code=3)
        self.same("--model", "missing", "a.ppm", code=3)
        self.same("--max-side", "100", "a.ppm", code=1)
        self.same("--max-bytes", "1k", "a.ppm", code=1)
        for wrong in (["--score", "2", "a.ppm"], ["--size", "33x32", "a.ppm"], ["--classes", "cat", "a.ppm"], [],
                      ["--json", "--csv", "a.ppm"], ["--device", "gpu", "a.ppm"], ["--max-bytes", "2g", "a.ppm"],
                      ["--threads", "0", "a.ppm"], ["info", "--model", "model", "model"],
                      ["--draw", "-", "a.ppm"], ["--draw", "", "a.ppm"]):  # fmt: skip
            self.same(*wrong, code=2)

    def test_messages(self) -> None:
        """The same lines on standard error, but for the names in front."""
        (self.folder / "empty").mkdir(exist_ok=True)
        for arguments in (["missing.ppm"], ["--model", "missing", "a.ppm"], ["--classes", "cat", "a.ppm"], ["empty"],
                          ["--max-side", "100", "a.ppm"], ["--max-bytes", "1k", "a.ppm"], ["model"],
                          ["--draw", "a.ppm/x", "a.ppm"], ["--verbose", "--max-objects", "1", "--csv", "a.ppm"],
                          ["--size", "8192x8192", "--batch", "256", "a.ppm"],
                          ["--device", "cpu", "--precision", "fp16", "a.ppm"]):  # fmt: skip
            with self.subTest(arguments):
                said = [re.sub("^(lib)?detect: ", "", done.stderr.decode(), flags=re.M) for done in self.both(*arguments)]
                self.assertEqual(*said)
                self.assertTrue(said[0])
        self.assertTrue(said[0].startswith("the CPU computes in fp32 alone"), said[0])  # it is not the model's fault
        for done in self.both("--score", "2", "a.ppm"):
            self.assertRegex(done.stderr.decode(), r"^(lib)?detect: .*'2': give 0 to 1\n.*: see '.* --help'\n$")

    def test_options(self) -> None:
        tool, ours = self.both("--help")
        info = self.both("info", "--help")[1]
        video = {"--video", "--drop", "--max-latency"}  # raw frames are the C tool's; in Python they are arrays
        options = [set(re.findall(r"--[a-z][a-z-]+", text.decode()))
                   for text in (tool.stdout, ours.stdout + info.stdout)]  # fmt: skip
        self.assertEqual(options[0] - video, options[1])
        self.assertTrue(self.both("--version")[1].stdout.decode().startswith("libdetect "))
        self.assertIn(b"yolov8n", self.both("models")[1].stdout)

    def test_font(self) -> None:
        source = (ROOT / "examples" / "detect" / "font.c").read_text()
        self.assertEqual(re.findall(r'^    "([.#]+)",$', source, re.M), list(font.ROWS))


class Files(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="test_twin."))
        self.addCleanup(shutil.rmtree, self.folder)

    def read(self, data: bytes, max_side: int = 100, max_bytes: int = 100000) -> Any:
        path = self.folder / "picture"
        path.write_bytes(data)
        return picture_files.read(str(path), max_side, max_bytes)

    def test_png_round_trip(self) -> None:
        try:
            import PIL  # noqa: F401
        except ImportError:
            self.skipTest("Pillow is not installed")
        picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
        picture_files.write_png(str(self.folder / "x.png"), picture)
        data = (self.folder / "x.png").read_bytes()
        np.testing.assert_array_equal(self.read(data), picture)
        for damaged in (data[:40], data[:20] + b"\xff" * 20 + data[40:]):
            with self.assertRaises(picture_files.PictureError):
                self.read(damaged)

    def test_memory_grows_with_need(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.read(ppm(1, 100, 100), max_bytes=256 << 20)
        self.assertLess(tracemalloc.get_traced_memory()[1], 4 << 20)

    def test_limits_and_damage(self) -> None:
        self.assertEqual(self.read(b"P6 2 1 255\n" + bytes(6)).shape, (1, 2, 3))
        self.assertEqual(self.read(b"P5 1 1 3\n\x01")[0, 0, 0], 85)
        self.assertEqual(self.read(b"P5 1 1 3\n\x09")[0, 0, 0], 255)
        for data in (b"", b"GIF89a", b"P6 2 1 255\n" + bytes(5), b"P6 0 1 255\n", b"P6 101 1 255\n" + bytes(303),
                     b"P6 2 1 256\n" + bytes(12), b"P6 2", b"P5 9999999999 9999999999 255\n"):  # fmt: skip
            with self.assertRaises(picture_files.PictureError, msg=data):
                self.read(data)
        with self.assertRaisesRegex(picture_files.PictureError, "17 bytes, the limit is 10"):
            self.read(b"P6 2 1 255\n" + bytes(6), max_bytes=10)
        with self.assertRaises(picture_files.PictureError):
            picture_files.find(str(self.folder))


if __name__ == "__main__":
    unittest.main()
