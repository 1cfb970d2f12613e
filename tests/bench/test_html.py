"""The benchmark's page in a real browser: Chromium, without a network. Says SKIP where there is none.

Environment: DETECT_BENCH, BENCH_MODEL; KEEP, a folder for the screenshots.
"""
import html.parser
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHARTS = ("latency", "throughput", "load", "callers", "pareto", "stages")
WIDTH, HEIGHT = 900, 800


class Page(html.parser.HTMLParser):
    """What of a page the test is about."""

    def __init__(self, text):
        super().__init__()
        self.figures, self.tables, self.texts, self.sizes, self.open = {}, 0, "", [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "figure":
            self.open = self.figures.setdefault(attributes["id"], {"shapes": 0, "text": "", "label": ""})
        elif tag == "table":
            self.tables += 1
        elif self.open is not None and tag in ("path", "circle", "rect"):
            self.open["shapes"] += 1
            assert "nan" not in str(attributes).lower() and "inf" not in str(attributes).lower(), attributes
        elif self.open is not None and tag == "svg":
            self.open["label"] = attributes["aria-label"]

    def handle_endtag(self, tag):
        if tag == "figure":
            self.open = None

    def handle_data(self, data):
        self.texts += data
        if self.open is not None:
            self.open["text"] += data + "\n"


def pixels(path):
    """Width, height and rows of an 8-bit RGB or RGBA PNG."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        length, kind = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
            step = {2: 3, 6: 4}[body[9]]
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    raw, stride, above, rows = zlib.decompress(packed), step * width, bytes(step * width), []
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride if kind else 0):
            left, up, corner = (line[i - step] if i >= step else 0), above[i], (above[i - step] if i >= step else 0)
            nearest = min((abs(up - corner), 0, left), (abs(left - corner), 1, up),
                          (abs(left + up - 2 * corner), 2, corner))[2]
            line[i] = (line[i] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
        above = bytes(line)
        rows.append([tuple(line[x * step:x * step + 3]) for x in range(width)])
    return width, height, rows


class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_html."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.page = cls.folder / "page.html"
        subprocess.run([os.environ["DETECT_BENCH"], os.environ["BENCH_MODEL"], "--scenario", "all", "--repeats", "2",
                        "--seconds", "40ms", "--warm-up", "5ms", "--duration", "300ms", "--batches", "1,2,4,8", "--callers",
                        "1,2,8,32", "--need", "2x5fps", "--picture-size", "96x64", "--quiet", "--html", cls.page],
                       check=False, stderr=subprocess.PIPE, timeout=300)

    def browse(self, *arguments):
        """Chromium's standard output. Its profile is new, and it can reach no one."""
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
                   f"--user-data-dir={self.folder / 'profile'}", *arguments, self.page.as_uri()]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240, check=False,
                              env={**os.environ, "HOME": str(self.folder)})
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace")[-2000:])
        return done.stdout.decode()

    def test_document(self):
        page = Page(self.browse("--dump-dom"))
        self.assertEqual(set(page.figures), set(CHARTS))
        for name, figure in page.figures.items():
            self.assertGreater(figure["shapes"], 0, name)
            self.assertTrue(figure["label"], name)
        for name, words in (("latency", ("milliseconds", "requests, %", "P50", "P99")),
                            ("throughput", ("batch, pictures", "pictures a second", "knee")),
                            ("load", ("requests offered a second", "P99")), ("callers", ("callers", "P99")),
                            ("pareto", ("milliseconds of a batch", "pictures a second")),
                            ("stages", ("preprocess", "nms", "alone", "in the pipeline"))):
            for word in words:
                self.assertIn(word, page.figures[name]["text"], name)
        self.assertGreaterEqual(page.tables, 9)
        self.assertEqual(page.figures["throughput"]["shapes"], 1 + 4)

    def look(self, name, *arguments):
        """A screenshot: its most frequent colour, and how many others there are."""
        shot = Path(os.environ.get("KEEP", self.folder)) / f"{name}.png"
        self.browse(f"--screenshot={shot}", f"--window-size={WIDTH},{HEIGHT}", *arguments)
        width, height, rows = pixels(shot)
        self.assertEqual((width, height), (WIDTH, HEIGHT))
        counts = {}
        for row in rows:
            for colour in row:
                counts[colour] = counts.get(colour, 0) + 1
        return max(counts, key=counts.get), counts

    def test_light_and_dark(self):
        for name, arguments, page, card, line in (
                ("light", (), (255, 255, 255), (246, 247, 249), (37, 99, 235)),
                ("dark", ("--blink-settings=preferredColorScheme=0",), (18, 22, 29), (27, 33, 43), (96, 165, 250))):
            common, counts = self.look(name, *arguments)
            self.assertIn(common, (card, page))
            # Whatever was measured, the curve goes up and down most of the chart's 335 rows, more than a pixel wide.
            self.assertGreater(counts.get(line, 0), 400, "the first line's colour")
            self.assertGreater(len(counts), 100)


if __name__ == "__main__":
    if CHROMIUM is None:
        print("SKIP: chromium is not installed")
        sys.exit(77)
    unittest.main()
