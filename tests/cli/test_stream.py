"""examples/stream.c: the same objects as the command-line tool finds, in the pictures' order."""

import json
import os
import subprocess
import unittest
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "image"
MODEL = os.environ["DET_TEST_MODEL"]


def call(*arguments):
    return subprocess.run([os.environ["STREAM_EXAMPLE"], *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=300)


class Stream(unittest.TestCase):
    def test_agrees_with_the_tool(self):
        pictures = sorted(CORPUS.iterdir())
        lines = subprocess.run([os.environ["DETECT_CLI"], "--json", "--model", MODEL, *pictures], check=True,
                               stdout=subprocess.PIPE).stdout.splitlines()
        counts = [(found["path"], min(100, len(found["objects"]))) for found in map(json.loads, lines)]
        expected = [f"{path}: {n} object{'' if n == 1 else 's'}" for path, n in counts]
        self.assertGreater(sum(len(json.loads(line)["objects"]) for line in lines), 0)
        for n in (1, 2, 3, len(pictures)):
            done = call(MODEL, *pictures[:n])
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.decode().splitlines(), expected[:n])

    def test_failures(self):
        picture = next(CORPUS.iterdir())
        for arguments in ([], [MODEL], ["missing", picture], [MODEL, "missing"], [MODEL, picture, picture, "missing"]):
            done = call(*arguments)
            self.assertEqual(done.returncode, 1)
            self.assertTrue(done.stderr.startswith(b"stream: "), done.stderr)


if __name__ == "__main__":
    unittest.main()
