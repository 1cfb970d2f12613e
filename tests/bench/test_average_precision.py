"""The benchmark's average precision in C against libdetect.average_precision, on random boxes.

Environment: ACCURACY_TEST, the calculator.
"""
import os
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bindings" / "python"))

from libdetect import average_precision as reference  # noqa: E402


def calculate(labels, found):
    """AP and AP50 by the program. Rows: picture, class, box; and picture, class, score, box."""
    lines = [f"L {p} {c} " + " ".join(f"{v!r}" for v in box) for p, c, box in labels]
    lines += [f"D {p} {c} {s!r} " + " ".join(f"{v!r}" for v in box) for p, c, s, box in found]
    done = subprocess.run([os.environ["ACCURACY_TEST"], "ap"], input="\n".join(lines) + "\n", stdout=subprocess.PIPE,
                          check=True, encoding="ascii", timeout=60)
    return [float(word) for word in done.stdout.split()]


def scene(random, n_pictures, n_classes):
    """Labels, and detections that hit some of them, miss some, and are surplus, with equal scores among them."""
    labels, found = [], []
    for picture in range(n_pictures):
        for _ in range(random.integers(0, 8)):
            corner, sides = random.uniform(0, 400, 2), random.uniform(10, 150, 2)
            label = (picture, int(random.integers(n_classes)), [float(v) for v in (*corner, *(corner + sides))])
            labels.append(label)
            for _ in range(random.integers(0, 3)):
                moved = np.array(label[2]) + random.normal(0, 0.08, 4) * np.tile(sides, 2)
                found.append((picture, label[1], round(float(random.random()), 1), [float(v) for v in moved]))
        for _ in range(random.integers(0, 4)):
            corner, sides = random.uniform(0, 400, 2), random.uniform(10, 150, 2)
            found.append((picture, int(random.integers(n_classes + 1)), float(random.random()),
                          [float(v) for v in (*corner, *(corner + sides))]))
    return labels, found


class AveragePrecision(unittest.TestCase):
    def check(self, labels, found):
        boxes = np.array([box for _, _, box in labels])
        expected = reference.coco(
            reference.Labels(np.array([row[0] for row in labels]), np.array([row[1] for row in labels]), boxes,
                             reference.box_areas(boxes), np.zeros(len(labels), bool)),
            reference.Detections(np.array([row[0] for row in found]), np.array([row[1] for row in found]),
                                 np.array([row[3] for row in found]), np.array([row[2] for row in found])))
        ap, ap50 = calculate(labels, found)
        self.assertAlmostEqual(ap, expected.ap, places=9)
        self.assertAlmostEqual(ap50, expected.ap50, places=9)
        self.assertGreater(ap50, 0.05)

    def test_random_scenes(self):
        for seed in range(20):
            with self.subTest(seed=seed):
                self.check(*scene(np.random.default_rng(seed), 1 + 3 * seed, 1 + seed % 4))

    def test_more_than_a_hundred_in_a_picture(self):
        labels, found = scene(np.random.default_rng(5), 3, 1)
        rest = [(0, 0, 0.001 + i * 1e-6, [500.0, 500.0, 510.0 + i, 510.0]) for i in range(200)]
        self.check(labels, rest + found)


if __name__ == "__main__":
    unittest.main()
