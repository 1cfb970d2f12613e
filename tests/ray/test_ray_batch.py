"""examples/ray_batch.py with a Ray of its own on this machine: all pictures once, restarts, damage.

SKIP without ray and Pillow. Environment: LIBDETECT_LIBRARY, DETECT_CLI, DET_TEST_MODEL.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "ray_batch.py"
MODEL = os.environ.get("DET_TEST_MODEL", "")
N_PICTURES, SHARD = 36, 5


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python"), "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "300", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


def stat_of(process):
    """(state, parent) of a process, ("X", 0) when it is gone."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "X", 0
    return state, int(parent)


def kill_tree(root):
    """Ends a process and all below it, as a machine's end would: Ray's workers outlive their driver by seconds."""
    parents = {int(path.name): stat_of(path.name)[1] for path in Path("/proc").iterdir() if path.name.isdigit()}
    tree = [root]
    for process in tree:
        tree += [child for child, parent in parents.items() if parent == process]
    for process in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    while any(stat_of(process)[0] not in "XZ" for process in tree):
        time.sleep(0.01)


class RayBatch(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test_ray."))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.pictures, self.output = self.folder / "pictures", self.folder / "output"
        self.paths = []
        import numpy as np
        from PIL import Image

        random = np.random.default_rng(1)
        for i in range(N_PICTURES):
            path = self.pictures / f"{'ab'[i % 2]}" / f"{i:03d}.{('png', 'jpg')[i % 3 == 0]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40 + i, 70, 3), np.uint8)).save(path)
            self.paths.append(os.path.relpath(path, self.pictures))
        (self.pictures / "a" / "broken.jpg").write_bytes(b"no picture")
        (self.pictures / "note.txt").write_text("not one either")
        self.paths = sorted([*self.paths, "a/broken.jpg"])
        self.n_shards = -(-len(self.paths) // SHARD)

    def command(self, *more):
        return [sys.executable, str(SCRIPT), "--model", MODEL, "--output", str(self.output), "--workers", "2",
                "--shard-size", str(SHARD), "--score", "0.6", *more, str(self.pictures)]

    def run_job(self, *more):
        done = subprocess.run(self.command(*more), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=500)
        self.assertEqual(done.returncode, 0, done.stderr.decode()[-3000:])
        return json.loads(done.stdout.splitlines()[-1])

    def parts(self):
        return sorted(self.output.glob("part-*.jsonl"))

    def unfinished(self):
        return sorted(self.output.glob("*.tmp"))

    def check_complete(self):
        """Every picture once, in order, and as the command-line tool sees it."""
        rows = [json.loads(line) for part in self.parts() for line in part.read_text().splitlines()]
        self.assertEqual([row["path"] for row in rows], self.paths)
        lines = subprocess.run([os.environ["DETECT_CLI"], "--json", "--model", MODEL, "--score", "0.6", self.pictures],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.splitlines()
        wanted = {os.path.relpath(row["path"], self.pictures): row["objects"] for row in map(json.loads, lines)}
        n_objects = 0
        for row in rows:
            if row["path"] == "a/broken.jpg":
                self.assertEqual(list(row), ["path", "error"])
            elif row["path"].endswith(".png"):  # two decoders need not agree on a JPEG's last bits
                self.assertEqual([found["box"] for found in row["objects"]],
                                 [found["box"] for found in wanted[row["path"]]])
                n_objects += len(row["objects"])
        self.assertGreater(n_objects, 0)
        self.assertLessEqual(set(self.unfinished()), set(self.left))

    def test_killed_and_started_again(self):
        """Ray takes long to start: one job is killed, a second finishes, a third finds nothing to do."""
        process = subprocess.Popen(self.command("--workers", "1"), env=environment(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        end = time.monotonic() + 400
        while not self.parts() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        kill_tree(process.pid)
        process.wait()
        self.assertGreater(len(self.parts()), 0)
        for part in self.parts()[2:]:  # should it have been quick
            part.unlink()
        finished = {part: part.stat().st_mtime_ns for part in self.parts()}
        (self.output / "part-000033.jsonl.left.1.tmp").write_text("half a li")
        self.left = self.unfinished()  # by this one, and by what was killed while it wrote; jobs that end leave none
        (self.pictures / "a" / "0000.png").write_bytes(b"came later: not on the list")

        done = self.run_job("--shard-size", "1000")
        self.assertEqual((done["shards"], done["skipped"]), (self.n_shards - len(finished), len(finished)))
        self.assertEqual(done["errors"], 0 if self.broken_shard() in finished else 1)
        self.check_complete()
        for part, changed in finished.items():
            self.assertEqual(part.stat().st_mtime_ns, changed)
        done = self.run_job()
        self.assertEqual((done["shards"], done["skipped"]), (0, self.n_shards))

    def broken_shard(self):
        return self.output / f"part-{self.paths.index('a/broken.jpg') // SHARD:06d}.jsonl"

    def test_usage(self):
        done = subprocess.run([sys.executable, str(SCRIPT), "--model", "m", "--output", "o", "nowhere"],
                              stderr=subprocess.PIPE, env=environment())
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"nowhere is no directory", done.stderr)


if __name__ == "__main__":
    if any(importlib.util.find_spec(name) is None for name in ("ray", "PIL", "numpy")) or not MODEL:
        print("SKIP: ray, Pillow or the library is not there (scripts/setup-extra)")
        sys.exit(77)
    unittest.main()
