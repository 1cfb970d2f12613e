"""Drives the command-line tool as a user does: real files, real exit codes.

Environment: DETECT_CLI, the tool; DET_TEST_MODEL, any small model file (without it, what needs one is skipped);
DET_MODELS_FOLDER, where the tool looks for an installed model last.
"""
import csv
import io
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
import zlib
from pathlib import Path

CLI = os.environ.get("DETECT_CLI", "detect")
MODEL = os.environ.get("DET_TEST_MODEL", "")
INSTALLED = os.environ.get("DET_MODELS_FOLDER", "")      # where an installed model is looked for last
DEFAULT = "damofd-2.5g-kps.safetensors"
CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "image"

DONE, PICTURES, USAGE, NO_MODEL = 0, 1, 2, 3
RESULT_KEYS = ["path", "width", "height", "objects", "time_ms"]
TIME_KEYS = ["decode", "preprocess", "network", "decode_boxes", "nms", "total"]


def pattern(width, height):
    """RGB rows of a picture with some structure."""
    return [bytes(v for x in range(width) for v in ((x * 5) % 256, (y * 3) % 256, (x * y // 7) % 256))
            for y in range(height)]


def ppm(width, height):
    return b"P6 %d %d 255\n" % (width, height) + b"".join(pattern(width, height))


def png(width, height, claimed=None):
    """A PNG; its header may claim another size, with a right checksum."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", *(claimed or (width, height)), 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row for row in pattern(width, height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def read_png(path):
    """Width, height and rows of an 8-bit RGB PNG, as the tool writes them."""
    data = Path(path).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 2), path
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    raw, stride, rows = zlib.decompress(packed), 3 * width, []
    above = bytes(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left, up, corner = (line[i - 3] if i >= 3 else 0), above[i], (above[i - 3] if i >= 3 else 0)
            nearest = min((abs(up - corner), 0, left), (abs(left - corner), 1, up),
                          (abs(left + up - 2 * corner), 2, corner))[2]
            line[i] = (line[i] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
        above = bytes(line)
        rows.append(above)
    return width, height, rows


def call(*arguments, model=MODEL, tool=CLI, **keywords):
    """Runs the tool on one CPU thread's worth of work; returns the finished process with its text."""
    environment = {k: v for k, v in os.environ.items() if k != "LIBDETECT_MODEL"}
    if model:
        environment["LIBDETECT_MODEL"] = model
    environment["LD_LIBRARY_PATH"] = str(Path(CLI).parent)  # for a tool that was copied elsewhere
    environment.update(keywords.pop("env", {}))
    keywords.setdefault("stdout", subprocess.PIPE)
    keywords.setdefault("stderr", subprocess.PIPE)
    binary = keywords.pop("binary", False)  # standard output stays bytes
    done = subprocess.run([tool, *map(os.fspath, arguments)], env=environment, timeout=300, **keywords)
    if done.stdout is not None and not binary:
        done.stdout = done.stdout.decode("utf-8", "surrogateescape")
    if done.stderr is not None:
        done.stderr = done.stderr.decode("utf-8", "surrogateescape")
    return done


class CliTest(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="test_cli."))
        self.addCleanup(shutil.rmtree, self.directory)

    def write(self, name, data):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def expect(self, done, code, message=None, lines=None):
        """The exit code, and on standard error a message or a number of lines."""
        self.assertEqual(done.returncode, code, done.stderr)
        if message is not None:
            self.assertIn(message, done.stderr)
        if lines is not None:
            self.assertEqual(len(done.stderr.splitlines()), lines, done.stderr)
        for line in done.stderr.splitlines():
            self.assertTrue(line.startswith("detect: "), line)


class WithoutModel(CliTest):
    def test_help_and_version(self):
        for arguments in (["--help"], ["-h"], ["info", "--help"], ["models", "--help"], ["x.png", "--help"]):
            done = call(*arguments)
            self.expect(done, DONE, lines=0)
            self.assertTrue(done.stdout.startswith("usage: detect "))
            self.assertTrue(all(len(line) <= 110 for line in done.stdout.splitlines()))
        self.assertRegex(call("--version").stdout, r"^detect (\d+\.\d+\.\d+)\nlibdetect \1 \(.+\), .+, oneDNN \d.+, .*CUDA.*\n$")

    def test_help_names_every_option(self):
        text = call("--help").stdout
        for option in ("model device precision size score iou classes multi-label agnostic max-objects json csv table "
                       "draw video drop max-latency threads batch max-side max-bytes layers verbose help version").split():
            self.assertIn("--" + option, text)

    def test_models(self):
        done = call("models")
        self.expect(done, DONE, lines=0)
        for text in ("damofd", "scrfd", "34g-kps", "come with libdetect", "--model damofd-0.5g-kps", "-m libdetect.convert"):
            self.assertIn(text, done.stdout)

    def test_wrong_usage(self):
        for arguments in ([], ["--nonsense", "x"], ["-q", "x"], ["--score", "1.5", "x"], ["--score", "-0.1", "x"],
                          ["--score", "nan", "x"], ["--score", "0,5", "x"], ["--score", "", "x"], ["--score"],
                          ["--iou", "x", "x"], ["--size", "640", "x"], ["--size", "641x640", "x"],
                          ["--size", "0x0", "x"], ["--size", "640x", "x"], ["--size", "x640", "x"],
                          ["--size", "640x640x3", "x"], ["--size", "99999999999x32", "x"], ["--threads", "0", "x"],
                          ["--threads", "257", "x"], ["--threads", "2.5", "x"], ["--batch", "0", "x"],
                          ["--max-objects", "65537", "x"], ["--max-side", "16385", "x"], ["--max-bytes", "0", "x"],
                          ["--max-bytes", "2g", "x"], ["--max-bytes", "m", "x"], ["--device", "gpu", "x"],
                          ["--device", "cuda:", "x"], ["--device", "cuda:-1", "x"], ["--device", "cudaX", "x"],
                          ["--precision", "int8", "x"], ["--json", "--csv", "x"], ["--json=1", "x"], ["--draw", "", "x"],
                          ["--draw", "-", "x"], ["--video", "40x30", "--max-side", "40", "-"],
                          ["--video", "40x30", "--max-bytes", "1", "-"],
                          ["--layers", "x"], ["info", "a", "b"], ["info", "--model", "a", "b"], ["info", "--score", "1"],
                          ["--video", "40", "-"], ["--video", "0x3", "-"], ["--video", "40x30:rgb", "-"],
                          ["--video", "40x30@0", "-"], ["--video", "40x30:", "-"], ["--video", "40x30x", "-"],
                          ["--video", "16385x3", "-"], ["--video", "40x30:nv12@25fps", "-"], ["--video", "40x30"],
                          ["--video", "40x30", "a", "b"], ["--video", "40x30", "--batch", "2", "-"], ["--drop", "x"],
                          ["--max-latency", "5", "x"], ["--video", "40x30", "--max-latency", "0", "-"],
                          ["models", "x"], ["models", "--json"]):
            with self.subTest(arguments=arguments):
                done = call(*arguments, model="missing.safetensors")
                self.expect(done, USAGE, "see 'detect --help'", lines=2)
                self.assertEqual(done.stdout, "")

    def test_no_model(self):
        picture = self.write("a.ppm", ppm(32, 32))
        for model in (str(self.directory / "none.safetensors"), str(picture), str(self.directory)):
            for command in ([picture], ["info"]):
                with self.subTest(model=model, command=command):
                    done = call(*command, model=model)
                    self.expect(done, NO_MODEL, lines=1)
                    self.assertEqual(done.stdout, "")

    def test_default_model(self):
        """Found without a word beside the program, then in its prefix; LIBDETECT_MODEL and --model come first."""
        tool = shutil.copy(CLI, self.write("prefix/bin/none", b"").with_name("detect"))
        picture = self.write("a.ppm", ppm(32, 32))
        if not (Path(INSTALLED) / DEFAULT).exists():
            self.expect(call(picture, model="", tool=tool), NO_MODEL, "LIBDETECT_MODEL", lines=1)
        damaged = b"no model"                     # an error that names the file tells which one was opened
        for folder in ("prefix/share/libdetect/models", "prefix/bin/models"):
            path = self.write(f"{folder}/{DEFAULT}", damaged)
            for command in ([picture], ["info"]):
                done = call(*command, model="", tool=tool)
                self.expect(done, NO_MODEL, folder.replace("prefix/share", "share"), lines=1)
                self.assertIn(path.name, done.stderr)
        self.expect(call(picture, model="named.safetensors", tool=tool), NO_MODEL, "named.safetensors", lines=1)
        self.expect(call("--model", "said", picture, model="named", tool=tool), NO_MODEL, "said", lines=1)
        self.expect(call("info", "said", model="named", tool=tool), NO_MODEL, "said", lines=1)
        other = self.write("prefix/bin/models/other-kps.safetensors", damaged)
        for model, arguments, tried in (("other-kps", [picture], other), ("", ["--model", "other-kps", picture], other),
                                        ("", ["info", "other-kps"], other), ("", ["info", "./other-kps"], "./other-kps")):
            self.expect(call(*arguments, model=model, tool=tool), NO_MODEL, str(tried), lines=1)

    def test_unwritable_output(self):
        for arguments in (["--help"], ["--version"], ["models"]):
            with open("/dev/full", "wb") as full:
                self.expect(call(*arguments, stdout=full), PICTURES, "standard output: No space left", lines=1)


@unittest.skipUnless(MODEL, "DET_TEST_MODEL is not set")
class WithModel(CliTest):
    def results(self, *arguments):
        done = call("--json", *arguments)
        self.expect(done, DONE, lines=0)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def check_all_fail(self, files):
        """Each of the files fails, each with one line that names it, and a good picture among them does not."""
        for i, data in enumerate(files):
            self.write(f"bad/{i:05}.png", data)
        self.write("bad/99999.png", ppm(16, 16))
        done = call("--json", self.directory / "bad")
        self.expect(done, PICTURES, lines=len(files))
        for i, line in enumerate(done.stderr.splitlines()):
            self.assertIn(f"{i:05}.png: ", line)
        self.assertEqual([json.loads(line)["width"] for line in done.stdout.splitlines()], [16])

    def test_json(self):
        info = json.loads(call("info", "--json").stdout)
        picture = self.write("a.png", png(320, 200))
        result, = self.results("--score", "0", "--max-objects", "3", picture)
        self.assertEqual(list(result), RESULT_KEYS)
        self.assertEqual((result["path"], result["width"], result["height"]), (str(picture), 320, 200))
        self.assertEqual(list(result["time_ms"]), TIME_KEYS)
        self.assertGreater(result["time_ms"]["total"], 0)
        self.assertEqual(len(result["objects"]), 3)
        for found in result["objects"]:
            keys = ["class_id", "label", "score", "box"] + (["landmarks"] if info["landmarks"] else [])
            self.assertEqual(list(found), keys)
            self.assertEqual(found["label"], info["classes"][found["class_id"]])
            self.assertEqual(len(found["box"]), 4)
            self.assertTrue(0 < found["score"] <= 1)
            if info["landmarks"]:
                self.assertEqual([len(point) for point in found["landmarks"]], [2] * info["landmarks"])

    def test_formats_agree(self):
        self.write("a.ppm", ppm(64, 48))
        self.write("b.png", png(64, 48))
        results = self.results("--score", "0", "--max-objects", "4", self.directory)
        self.assertEqual([Path(result["path"]).name for result in results], ["a.ppm", "b.png"])
        self.assertEqual(results[0]["objects"], results[1]["objects"])
        objects = [found for result in results for found in result["objects"]]

        done = call("--csv", "--score", "0", "--max-objects", "4", self.directory)
        self.expect(done, DONE, lines=0)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        self.assertEqual(list(rows[0])[:10],
                         ["path", "width", "height", "class_id", "label", "score", "x1", "y1", "x2", "y2"])
        self.assertEqual([float(row["score"]) for row in rows], [found["score"] for found in objects])
        self.assertEqual([[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows],
                         [found["box"] for found in objects])

        for arguments in ([], ["--table"]):
            lines = call(*arguments, "--score", "0", "--max-objects", "4", self.directory).stdout.splitlines()
            self.assertEqual(len(lines), 2 + len(objects))
            self.assertRegex(lines[0], r"a\.ppm  64x48  \d+ objects?  [\d.]+ ms$")

    def test_thresholds(self):
        picture = self.write("a.ppm", ppm(96, 96))
        self.assertEqual(self.results("--score", "1", picture)[0]["objects"], [])
        everything = self.results("--score", "0", "--iou", "1", "--max-objects", "9999", picture)[0]["objects"]
        scores = [found["score"] for found in everything]
        self.assertEqual(scores, sorted(scores, reverse=True))
        fewer = self.results("--score", "0", "--iou", "0", "--max-objects", "9999", picture)[0]["objects"]
        self.assertLess(len(fewer), len(everything))
        middle = scores[len(scores) // 2]
        for found in self.results("--score", f"{middle:.5f}", picture)[0]["objects"]:
            self.assertGreaterEqual(found["score"], middle)
        call("--multi-label", "--agnostic", picture)

    def test_classes(self):
        picture = self.write("a.ppm", ppm(32, 32))
        names = json.loads(call("info", "--json").stdout)["classes"]
        for words in ("0", names[0], f"{names[0]},0", names[-1]):
            wanted = {0 if word == "0" else names.index(word) for word in words.split(",")}
            found = self.results("--classes", words, "--score", "0", "--max-objects", "9", picture)[0]["objects"]
            self.assertLessEqual({each["class_id"] for each in found}, wanted)
        for words in ("unicorn", str(len(names)), "", "0,", ",", "99999999999999999999", "-1"):
            with self.subTest(words=words):
                self.expect(call("--classes", words, picture), USAGE, "the model has no class", lines=1)

    def test_device(self):
        picture = self.write("a.ppm", ppm(32, 32))
        self.expect(call("--device", "cuda:99", picture), NO_MODEL, lines=1)
        self.expect(call("--device", "cpu", "--precision", "fp32", "--threads", "1", "--size", "64x32", picture), DONE)

    def test_batches_change_nothing(self):
        for i in range(5):
            self.write(f"{i}.ppm", ppm(32 + 7 * i, 64))
        self.write("2.ppm", b"broken")
        outputs = []
        for batch in ("1", "2", "9"):
            done = call("--json", "--score", "0", "--max-objects", "3", "--batch", batch, self.directory)
            self.expect(done, PICTURES, "2.ppm: not a PNG", lines=1)
            outputs.append([json.loads(line) for line in done.stdout.splitlines()])
        for output in outputs:
            self.assertEqual([Path(result["path"]).name for result in output], ["0.ppm", "1.ppm", "3.ppm", "4.ppm"])
            for result, first in zip(output, outputs[0]):
                for found, expected in zip(result["objects"], first["objects"]):
                    self.assertAlmostEqual(found["score"], expected["score"], delta=1e-3)

    def test_failures_are_named(self):
        good = self.write("good.ppm", ppm(24, 24))
        done = call("--json", "none.png", good, self.write("empty.png", b""), self.write("text.jpg", b"Hello"),
                    self.directory / "no" / "dir", good)
        self.expect(done, PICTURES, lines=4)
        for text in ("none.png: cannot open: No such file", "empty.png: empty file", "text.jpg: not a PNG", "no/dir: "):
            self.assertIn(text, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 2)

    def test_a_picture_on_standard_input(self):
        good = self.write("good.ppm", ppm(24, 24))
        expected = json.loads(call("--json", "--score", "0", "--max-objects", "3", good).stdout)
        drawings = self.directory / "drawn"
        with open(good, "rb") as stream:
            done = call("--json", "--score", "0", "--max-objects", "3", "--draw", drawings, "-", stdin=stream)
        self.expect(done, 0)
        result = json.loads(done.stdout)
        self.assertEqual((result["path"], result["objects"]), ("-", expected["objects"]))
        self.assertEqual([path.name for path in drawings.iterdir()], ["stdin.png"])
        done = call("-", "", "-", input=b"Hello")  # the second time its end
        self.expect(done, PICTURES, lines=3)
        for text in ("-: not a PNG", "the file's name is empty", "-: empty file"):
            self.assertIn(text, done.stderr)

    def test_truncated(self):
        files = []
        for whole in (ppm(20, 20), png(20, 20), *(path.read_bytes() for path in sorted(CORPUS.glob("*.jpg")))):
            files += [whole[:length] for length in range(0, len(whole), len(whole) // 20 + 1)] + [whole[:-1]]
        self.check_all_fail(files)

    def test_corrupt(self):
        whole = png(20, 20)
        files = [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:] for at in range(0, len(whole), 9)]
        self.check_all_fail(files)

    def test_lying_sizes(self):
        self.check_all_fail([png(20, 20, (20, 21)), png(20, 20, (21, 20)), png(20, 20, (16384, 16384)),
                             png(20, 20, (2**31 - 1, 2**31 - 1)), png(20, 20, (8000, 8000)), png(20, 20, (0, 20)),
                             b"P6 8000 8000 255 abc", b"P5 18446744073709551617 1 255 abc", b"P6 0 0 255 "])

    def test_limits(self):
        picture = self.write("a.png", png(40, 30))
        self.expect(call("--max-side", "39", picture), PICTURES, "a.png: 40x30 pixels, the limit is 39 a side", 1)
        self.expect(call("--max-side", "40", "--max-bytes", "4k", picture), DONE)
        self.expect(call("--max-bytes", "3599", picture), PICTURES, "take 3600 bytes, the limit is 3599", 1)
        self.expect(call("--max-bytes", "50", picture), PICTURES, "bytes, the limit is 50", 1)

    def test_every_seed_decodes(self):
        seeds = sorted(CORPUS.iterdir())
        sizes = {Path(r["path"]).name: (r["width"], r["height"]) for r in self.results(*seeds)}
        self.assertEqual(len(sizes), len(seeds))
        self.assertEqual(sizes["ycbcr-exif6.jpg"], (12, 16))

    def test_directory(self):
        for name in ("b.ppm", "a.PNG", "sub/c.jpg", "sub/deeper/d.pgm", "z.txt", ".hidden.ppm", ".git/e.ppm"):
            self.write(name, (CORPUS / "p5-15.pgm").read_bytes())
        (self.directory / "sub" / "loop").symlink_to(self.directory)
        (self.directory / "link.ppm").symlink_to("b.ppm")
        (self.directory / "dangling.ppm").symlink_to("nowhere")
        names = [os.path.relpath(result["path"], self.directory) for result in self.results(self.directory)]
        self.assertEqual(names, ["a.PNG", "b.ppm", "link.ppm", "sub/c.jpg", "sub/deeper/d.pgm"])
        (self.directory / "empty").mkdir()
        self.expect(call(self.directory / "empty"), PICTURES, "empty: no pictures in this directory", 1)

    def test_strange_names(self):
        names = [b'quote".ppm', b"comma,line\nbreak.ppm", b"escape\x1b[31m.ppm", b"bad\xff\xfe.ppm", "grün.ppm".encode()]
        for name in names:
            Path(os.fsdecode(os.fsencode(self.directory) + b"/" + name)).write_bytes(ppm(16, 16))
        found = {Path(result["path"]).name for result in self.results(self.directory)}
        self.assertEqual(found, {name.decode("utf-8", "replace") for name in names})
        done = call("--csv", "--score", "0", "--max-objects", "1", self.directory)
        found = {os.path.basename(row["path"]) for row in csv.DictReader(io.StringIO(done.stdout, newline=""))}
        self.assertEqual(found, {name.decode("utf-8", "surrogateescape") for name in names})
        self.assertNotIn("\x1b", call(self.directory).stdout)
        done = call(os.fsdecode(b"none\x1b[31m\n\xff.png"))
        self.expect(done, PICTURES, "none?[31m??.png", lines=1)

    def test_draw(self):
        picture = self.write("in/a.ppm", ppm(200, 150))
        out = self.directory / "out"
        result, = self.results("--score", "0", "--max-objects", "2", "--iou", "0", "--draw", out, picture)
        width, height, rows = read_png(out / "a.png")
        self.assertEqual((width, height), (200, 150))
        before = pattern(200, 150)

        def near(x, y):
            for found in result["objects"]:
                # A model of random weights gives boxes turned over and outside the picture: they are drawn at its edge.
                x1, x2 = (min(max(value, 0), 200) for value in sorted(found["box"][0::2]))
                y1, y2 = (min(max(value, 0), 150) for value in sorted(found["box"][1::2]))
                if x1 - 4 <= x <= x2 + 4 and y1 - 4 <= y <= y2 + 4:
                    return True
                # Labels are above the box or in its top, moved into the picture: 6x9 characters and a border.
                left, top = max(0, min(x1 - 3, 200)), max(0, min(y1, 150) - 15)
                label_width = 6 * len(found["label"] + " 0.00") + 6
                if min(left, 200 - label_width) - 1 <= x <= left + label_width and top <= y <= top + 30:
                    return True
                if any(abs(x - px) <= 5 and abs(y - py) <= 5 for px, py in found.get("landmarks", [])):
                    return True
            return False
        changed = [(x, y) for y in range(150) for x in range(200)
                   if rows[y][3 * x:3 * x + 3] != before[y][3 * x:3 * x + 3]]
        self.assertTrue(changed)
        self.assertEqual([at for at in changed if not near(*at)], [])
        self.results("--score", "1", "--draw", out, picture)
        self.assertEqual(read_png(out / "a.png")[2], before)

    def test_draw_replaces_no_input(self):
        self.write("a/x.ppm", ppm(16, 16))
        self.write("b/x.png", png(17, 17))
        out = self.write("out/x.png", png(18, 18)).parent
        kept = (out / "x.png").read_bytes()
        for _ in range(2):
            self.results("--draw", out, self.directory / "a", self.directory / "b", out / "x.png")
            self.assertEqual(sorted(os.listdir(out)), ["x-2.png", "x-3.png", "x-4.png", "x.png"])
            self.assertEqual([read_png(out / f"x-{i}.png")[0] for i in (2, 3, 4)], [16, 17, 18])
            self.assertEqual((out / "x.png").read_bytes(), kept)

    def test_draw_replaces_only_drawings(self):
        picture = self.write("in/x.ppm", ppm(16, 16))
        for name, data in (("foreign.png", png(18, 18)), ("short", b"\x89PNG"), ("empty", b"")):
            with self.subTest(name):
                out = self.directory / ("out-" + name)
                kept = self.write(f"{out.name}/x.png", data)
                for _ in range(2):
                    self.results("--draw", out, picture)
                    self.assertEqual(sorted(os.listdir(out)), ["x-2.png", "x.png"])
                    self.assertEqual(kept.read_bytes(), data)
                shutil.copy(out / "x-2.png", kept)  # its mark is in the file, not in the name
                self.results("--score", "1", "--draw", out, self.write("y/x.ppm", ppm(17, 17)))
                self.assertEqual(read_png(kept)[0], 17)

    def test_draw_long_name(self):
        name = 251 * "n"
        self.results("--draw", self.directory / "out", self.write(f"{name}.ppm", ppm(16, 16)))
        self.assertEqual(os.listdir(self.directory / "out"), [f"{name}.png"])

    def test_draw_interrupted(self):
        """Ended while it writes, it leaves whole drawings and nothing else."""
        out = self.directory / "out"
        for name in "ab":
            self.write(f"in/{name}.ppm", b"P6 2500 2500 255\n" + os.urandom(3 * 2500 * 2500))
        for number in (signal.SIGINT, signal.SIGTERM):
            for delay in (0.05, 0.3):  # after the first drawing: in the midst of the second
                with self.subTest(number=number, delay=delay):
                    shutil.rmtree(out, ignore_errors=True)
                    running = subprocess.Popen([CLI, "--model", MODEL, "--draw", out, self.directory / "in"],
                                               stdout=subprocess.DEVNULL)
                    while not (out / "a.png").exists():
                        self.assertIsNone(running.poll())
                        time.sleep(0.01)
                    time.sleep(delay)
                    running.send_signal(number)
                    self.assertIn(running.wait(60), (0, -number))
                    self.assertEqual([name for name in os.listdir(out) if name not in ("a.png", "b.png")], [])

    def test_draw_fails(self):
        picture = self.write("a.ppm", ppm(16, 16))
        self.expect(call("--draw", picture, picture), PICTURES, "a.ppm: not a directory", 1)
        self.expect(call("--draw", self.directory / "no" / "dir", picture), PICTURES, "cannot create directory", 1)

    def test_unwritable_output(self):
        picture = self.write("a.ppm", ppm(16, 16))
        for arguments in ([picture, picture], ["--json", picture], ["--csv", picture], ["info"], ["info", "--json"]):
            with self.subTest(arguments=arguments):
                with open("/dev/full", "wb") as full:
                    self.expect(call(*arguments, stdout=full), PICTURES, "standard output: No space left", 1)
                reader, writer = os.pipe()
                os.close(reader)
                self.expect(call(*arguments, stdout=writer), PICTURES, "standard output: Broken pipe", 1)
                os.close(writer)
                self.expect(call(*arguments, stdout=None, preexec_fn=lambda: os.close(1)), PICTURES,
                            "standard output: Bad file descriptor", 1)

    def test_closed_error_output(self):
        picture = self.write("a.ppm", ppm(16, 16))
        before = picture.read_bytes()
        done = call("none.png", picture, stderr=None, preexec_fn=lambda: (os.close(0), os.close(2)))
        self.assertEqual(done.returncode, PICTURES)
        self.assertEqual(picture.read_bytes(), before)

    def test_locale(self):
        picture = self.write("a.ppm", ppm(16, 16))
        for arguments in (["--json"], ["--csv"], []):
            arguments = [*arguments, "--score", "0.01", "--max-objects", "1", picture]
            plain, german = call(*arguments), call(*arguments, env={"LC_ALL": "de_DE.UTF-8"})
            self.expect(german, DONE, lines=0)
            self.assertEqual(plain.stdout.count(","), german.stdout.count(","))

    def test_progress(self):
        for i in range(9):
            self.write(f"{i}.ppm", ppm(16, 16))
        self.expect(call(self.directory), DONE, lines=0)
        master, slave = pty.openpty()
        done = call(self.directory, stderr=slave, env={"TERM": "xterm"})
        os.close(slave)
        shown = os.read(master, 65536).decode()
        os.close(master)
        self.assertEqual(done.returncode, DONE)
        self.assertIn("] 9/9, 0 s left", shown)
        self.assertTrue(shown.endswith("\r\x1b[K"))

    FORMATS = {"rgb24": 3, "bgr24": 3, "rgba": 4, "gray": 1, "nv12": 1.5}

    def frames(self, n, width=40, height=30, frame_format="rgb24"):
        """Raw frames, each different: rows of the pattern from another place."""
        source = b"".join(pattern(4 * width, height + n))
        size = int(width * height * self.FORMATS[frame_format])
        return [source[97 * i:97 * i + size] for i in range(n)]

    def video(self, layout, data, *arguments, **keywords):
        return call("--video", layout, *arguments, "-", input=data, **keywords)

    def test_video(self):
        frames = self.frames(6)
        done = self.video("40x30@25", b"".join(frames), "--json", "--score", "0", "--max-objects", "3")
        self.expect(done, DONE, lines=0)
        results = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([result["frame"] for result in results], list(range(6)))
        self.assertEqual([result["seconds"] for result in results], [0, 0.04, 0.08, 0.12, 0.16, 0.2])
        for result, frame in zip(results, frames):
            self.assertEqual(list(result), ["frame", "seconds", "dropped", "latency_ms"] + RESULT_KEYS[1:])
            self.assertEqual((result["dropped"], result["width"], result["height"]), (0, 40, 30))
            self.assertGreaterEqual(result["latency_ms"], 0)
            picture = self.write("a.ppm", b"P6 40 30 255\n" + frame)
            alone, = self.results("--score", "0", "--max-objects", "3", picture)
            self.assertEqual(result["objects"], alone["objects"])

    def test_video_formats(self):
        """Grey has the same pixels in all; the others are held to the picture that they draw."""
        grey = self.frames(1, frame_format="gray")[0]
        chroma = bytes([128]) * 600
        found = {}
        for name, frame in (("gray", grey), ("rgb24", bytes(v for g in grey for v in (g, g, g))),
                            ("bgr24", bytes(v for g in grey for v in (g, g, g))),
                            ("rgba", bytes(v for g in grey for v in (g, g, g, 7)))):
            out = self.directory / name
            done = self.video(f"40x30:{name}", frame, "--json", "--score", "0", "--max-objects", "2", "--draw", out)
            self.expect(done, DONE, lines=0)
            found[name] = json.loads(done.stdout)["objects"], read_png(out / "frame-000000.png")
        for name in found:
            self.assertEqual(found[name], found["gray"], name)
        for name, frame, pixel in (("rgb24", bytes([9, 8, 7]), (9, 8, 7)), ("bgr24", bytes([9, 8, 7]), (7, 8, 9)),
                                   ("rgba", bytes([9, 8, 7, 6]), (9, 8, 7)), ("nv12", bytes([16]), (0, 0, 0))):
            data = frame * 1200 + (chroma if name == "nv12" else b"")
            done = self.video(f"40x30:{name}", data, "--score", "1", "--draw", "-", binary=True)
            self.assertEqual(done.stdout, bytes(pixel) * 1200, name)
        # BT.601 of video range: 81, 90, 240 is red; odd sides round the chroma up.
        done = self.video("3x1:nv12", bytes([81, 81, 81, 90, 240, 90, 240]), "--score", "1", "--draw", "-", binary=True)
        for got, expected in zip(done.stdout, (255, 0, 0) * 3):
            self.assertLessEqual(abs(got - expected), 2)

    def test_video_outputs(self):
        data = b"".join(self.frames(3))
        rows = list(csv.DictReader(io.StringIO(self.video("40x30", data, "--csv", "--score", "0", "--max-objects", "2").stdout)))
        self.assertEqual([row["frame"] for row in rows], ["0", "0", "1", "1", "2", "2"])
        self.assertRegex(self.video("40x30", data).stdout, r"^frame 0  40x30  ")
        out = self.directory / "drawn"
        self.expect(self.video("40x30", data, "--draw", out), DONE, lines=0)
        self.assertEqual(sorted(os.listdir(out)), [f"frame-{i:06d}.png" for i in range(3)])
        drawn = self.video("40x30", data, "--score", "0", "--max-objects", "1", "--draw", "-", binary=True).stdout
        self.assertEqual(len(drawn), len(data))
        self.assertNotEqual(drawn, data)
        path = self.write("video.raw", data)
        self.assertEqual(len(call("--video", "40x30", "--json", path).stdout.splitlines()), 3)
        self.expect(self.video("40x30", b""), PICTURES, "-: not one frame came", lines=1)

    def test_video_drops(self):
        """A writer that is faster than the network: the newest frame is always answered, and the numbers add up."""
        n = 400
        data = b"".join(self.frames(n))
        for options, newest in ((["--drop"], True), (["--max-latency", "1"], False), (["--drop", "--max-latency", "60000"], True)):
            done = self.video("40x30", data, "--json", "--size", "640x640", *options)
            self.assertEqual(done.returncode, DONE, done.stderr)
            results = [json.loads(line) for line in done.stdout.splitlines()]
            numbers = [result["frame"] for result in results]
            self.assertEqual(numbers, sorted(set(numbers)))
            self.assertLess(len(numbers), n)
            self.assertEqual(done.stderr, f"detect: {n - len(numbers)} of {n} frames dropped\n")
            if newest:
                self.assertEqual(numbers[-1], n - 1)
            for result, position in zip(results, range(n)):
                self.assertGreaterEqual(result["frame"], position)
                self.assertGreaterEqual(result["dropped"], result["frame"] - position)
        done = self.video("40x30", data, "--json", "--max-latency", "3600000", "--size", "32x32")
        self.assertIn(f"of {n} frames dropped", done.stderr)

    def test_video_is_live(self):
        """A frame's result comes before the next frame is written."""
        environment = {**os.environ, "LIBDETECT_MODEL": MODEL}
        process = subprocess.Popen([CLI, "--video", "40x30", "--json", "--drop", "-"], env=environment,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number, frame in enumerate(self.frames(3)):
            process.stdin.write(frame)
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline())["frame"], number)
        _, errors = process.communicate(timeout=300)
        self.assertEqual(errors, b"detect: 0 of 3 frames dropped\n")

    def test_video_failures(self):
        frame = self.frames(1)[0]
        done = self.video("40x30", frame + frame[:100], "--json")
        self.expect(done, PICTURES, "-: ends inside frame 1, after 100 of 3600 bytes", 1)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.expect(call("--video", "40x30", self.directory / "none"), PICTURES, "none: cannot open: No such file", 1)
        self.expect(call("--video", "40x30", self.directory), PICTURES, "cannot read: Is a directory", 1)
        with open("/dev/full", "wb") as full:
            self.expect(self.video("40x30", 3 * frame, "--draw", "-", stdout=full), PICTURES, "standard output: No space", 1)

    def test_info(self):
        info = json.loads(call("info", MODEL, "--json", "--size", "64x96", "--batch", "2", model="").stdout)
        self.assertEqual((info["size"], info["batch"]), ([64, 96], 2))
        for key in ("family", "variant", "licence", "source", "source_sha256", "input", "resize", "pad", "mean", "scale",
                    "score", "iou", "multi_label", "max_objects", "landmarks", "classes", "device", "device_name",
                    "precision", "threads"):
            self.assertIn(key, info)
        for key in ("parameters", "macs", "weights_bytes", "arena_bytes", "workspace_bytes", "n_layers"):
            self.assertGreater(info[key], 0, key)
        self.assertNotIn("layers", info)
        text = call("info", "--model", MODEL, model="").stdout
        for word in (info["family"], info["variant"], "GMAC", info["classes"][0]):
            self.assertIn(word, text)

    def test_info_layers(self):
        info = json.loads(call("info", "--layers", "--json").stdout)
        self.assertEqual(len(info["layers"]), info["n_layers"])
        self.assertEqual(list(info["layers"][0]), ["name", "op", "impl", "shape", "macs", "ms"])
        self.assertEqual(sum(layer["macs"] for layer in info["layers"]), info["macs"])
        self.assertGreater(sum(layer["ms"] for layer in info["layers"]), 0)
        text = call("info", "--layers").stdout
        for layer in info["layers"]:
            self.assertIn(layer["name"], text)

    def test_verbose(self):
        picture = self.write("a.ppm", ppm(32, 32))
        done = call("--verbose", "--score", "0", "--max-objects", "1", picture)
        self.expect(done, DONE, "a.ppm: only the best 1 of more objects are kept")


class DemoTest(unittest.TestCase):
    """scripts/demo in a checkout that builds nothing: its detect prints where it runs, and on what."""

    def test_pictures_are_the_callers(self):
        root = Path(tempfile.mkdtemp(prefix="test demo."))
        self.addCleanup(shutil.rmtree, root)
        demo = Path(__file__).resolve().parents[2] / "scripts" / "demo"
        programs = {"scripts/demo": demo.read_text(), "scripts/setup": "#!/bin/sh\n", "bin/cmake": "#!/bin/sh\n",
                    "build/build.ninja": "", "build/detect": "#!/bin/sh\npwd\nprintf '%s\\n' \"$@\"\n"}
        for name, text in programs.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
            (root / name).chmod(0o755)
        (root / "examples" / "images").mkdir(parents=True)
        (root / "examples" / "images" / "one.jpg").touch()
        (root / "elsewhere").mkdir()
        environment = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"}
        for given, passed in (([], [f"{root}/examples/images/one.jpg"]), (["a b.jpg", "/c.jpg"], ["a b.jpg", "/c.jpg"])):
            done = subprocess.run(["../scripts/demo", *given], cwd=root / "elsewhere", env=environment, check=True,
                                  stdout=subprocess.PIPE, text=True)
            self.assertEqual(done.stdout.splitlines(),
                             [f"{root}/elsewhere", "--draw", f"{root}/build/demo", *passed])


if __name__ == "__main__":
    unittest.main()
