"""Average precision against figures worked out by hand, textbook loops and pycocotools; labels; the evaluator."""

import contextlib
import io
import json
import os
import tempfile
import unittest
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple
from unittest import mock

import numpy as np
import support
from libdetect import convert, datasets, evaluate
from libdetect.average_precision import CocoScores, Detections, Labels, Objects, coco, wider
from libdetect.datasets import EvaluateError, optional
from libdetect.evaluate import Settings

IMAGES = Path(os.environ.get("DET_IMAGES", support.ROOT.parent / "shared" / "images"))

BOX = (10.0, 10.0, 30.0, 30.0)
FAR = (300.0, 300.0, 340.0, 340.0)
THIRD = (500.0, 10.0, 540.0, 50.0)
Box = Tuple[float, float, float, float]


def labelled(*rows: Tuple[int, int, Box], crowd: Sequence[int] = (), areas: Sequence[float] = ()) -> Labels:
    """Labels from (picture, class, box); `crowd` are the indices of crowds."""
    boxes = np.array([row[2] for row in rows], float).reshape(-1, 4)
    return Labels(
        pictures=np.array([row[0] for row in rows], int),
        classes=np.array([row[1] for row in rows], int),
        boxes=boxes,
        areas=np.array(areas or (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), float),
        crowd=np.isin(np.arange(len(rows)), crowd),
    )


def detected(*rows: Tuple[int, int, Box, float]) -> Detections:
    """Detections from (picture, class, box, score)."""
    return Detections(
        pictures=np.array([row[0] for row in rows], int),
        classes=np.array([row[1] for row in rows], int),
        boxes=np.array([row[2] for row in rows], float).reshape(-1, 4),
        scores=np.array([row[3] for row in rows], float),
    )


def random_scene(seed: int, n_pictures: int, n_labels: int, n_found: int) -> Tuple[Labels, Detections]:
    """Labels of many sizes in five classes, some of them crowds; detections near them, some elsewhere, with ties."""
    random = np.random.default_rng(seed)
    sides = np.exp(random.uniform(1.5, 5.5, (n_labels, 2)))
    corners = random.uniform(0, 400, (n_labels, 2))
    labels = Labels(
        pictures=random.integers(0, n_pictures, n_labels),
        classes=random.integers(0, 5, n_labels),
        boxes=np.hstack([corners, corners + sides]),
        areas=sides.prod(axis=1) * random.uniform(0.5, 1, n_labels),
        crowd=random.random(n_labels) < 0.08,
    )
    source = random.integers(0, n_labels, n_found)
    boxes = labels.boxes[source] + random.normal(0, 0.12, (n_found, 4)) * np.tile(sides[source], 2)
    elsewhere = random.random(n_found) < 0.2
    return labels, Detections(
        pictures=np.where(elsewhere, random.integers(0, n_pictures + 2, n_found), labels.pictures[source]),
        classes=np.where(random.random(n_found) < 0.1, random.integers(0, 6, n_found), labels.classes[source]),
        boxes=np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])]),
        scores=np.round(random.random(n_found), 2),
    )


# ------------------------------------------------------------------------------------------------------------- COCO


class Coco(unittest.TestCase):
    def check(self, labels: Labels, found: Detections, ap50: float) -> CocoScores:
        scores = coco(labels, found)
        self.assertAlmostEqual(scores.ap50, ap50, places=12)
        return scores

    def test_perfect(self) -> None:
        labels = labelled((0, 0, BOX), (0, 1, BOX), (1, 0, FAR))
        scores = coco(labels, detected((0, 0, BOX, 0.3), (0, 1, BOX, 0.2), (1, 0, FAR, 0.1)))
        self.assertEqual((scores.ap, scores.ap50, scores.ap75), (1, 1, 1))
        self.assertEqual({index: each.n_labels for index, each in scores.classes.items()}, {0: 2, 1: 1})

    def test_nothing_found(self) -> None:
        labels = labelled((0, 0, BOX))
        self.check(labels, detected(), 0)
        self.check(labels, detected((0, 1, BOX, 0.9)), 0)  # another class
        self.check(labels, detected((1, 0, BOX, 0.9)), 0)  # another picture

    def test_nothing_labelled(self) -> None:
        for labels in (labelled(), labelled((0, 0, BOX), crowd=[0])):
            scores = coco(labels, detected((0, 0, BOX, 0.9)))
            self.assertTrue(np.isnan([scores.ap, scores.ap50, scores.ap75, scores.small]).all())
            self.assertEqual(scores.classes, {})

    def test_a_false_one_above(self) -> None:
        labels = labelled((0, 0, BOX))
        self.check(labels, detected((0, 0, FAR, 0.9), (0, 0, BOX, 0.8)), 1 / 2)
        self.check(labels, detected((0, 0, FAR, 0.8), (0, 0, BOX, 0.9)), 1)

    def test_duplicates_are_false(self) -> None:
        labels = labelled((0, 0, BOX), (0, 0, FAR))
        found = detected((0, 0, BOX, 0.9), (0, 0, BOX, 0.8), (0, 0, FAR, 0.7))
        self.check(labels, found, (51 * 1 + 50 * 2 / 3) / 101)  # recall 1/2 at precision 1, recall 1 at 2/3

    def test_101_points(self) -> None:
        """Right, wrong, right, wrong, of three: recall 1/3 at precision 1 and 2/3 at precision 2/3."""
        labels = labelled((0, 0, BOX), (0, 0, FAR), (0, 0, THIRD))
        found = detected(
            (0, 0, BOX, 0.9), (0, 0, (0, 400, 9, 409), 0.8), (0, 0, FAR, 0.7), (0, 0, (50, 400, 59, 409), 0.6)
        )
        self.check(labels, found, (34 * 1 + 33 * 2 / 3) / 101)  # 0 to 0.33, 0.34 to 0.66

    def test_precision_never_rises_again(self) -> None:
        """Wrong, right, right: precision 1/2 then 2/3; the better one holds for the lower recall too."""
        labels = labelled((0, 0, BOX), (0, 0, FAR))
        self.check(labels, detected((0, 0, THIRD, 0.9), (0, 0, BOX, 0.8), (0, 0, FAR, 0.7)), 2 / 3)

    def test_ties_go_by_picture(self) -> None:
        self.check(labelled((1, 0, BOX)), detected((1, 0, BOX, 0.5), (0, 0, BOX, 0.5)), 1 / 2)
        self.check(labelled((0, 0, BOX)), detected((1, 0, BOX, 0.5), (0, 0, BOX, 0.5)), 1)

    def test_iou_thresholds(self) -> None:
        """An IoU of 0.62 suffices for three of the ten thresholds."""
        scores = self.check(labelled((0, 0, (0, 0, 10, 10))), detected((0, 0, (0, 0, 10, 6.2), 0.9)), 1)
        self.assertAlmostEqual(scores.ap, 0.3)
        self.assertEqual(scores.ap75, 0)
        scores = self.check(labelled((0, 0, (0, 0, 10, 10))), detected((0, 0, (0, 0, 10, 5), 0.9)), 1)
        self.assertAlmostEqual(scores.ap, 0.1)  # exactly 0.5 is enough

    def test_the_label_that_it_overlaps_most(self) -> None:
        """The first detection fits both labels, the second only the one that the first leaves."""
        labels = labelled((0, 0, (0, 0, 10, 8)), (0, 0, (0, 0, 10, 10)))
        found = detected((0, 0, (0, 0, 10, 10), 0.9), (0, 0, (0, 0, 10, 5), 0.8))
        self.check(labels, found, 1)

    def test_a_free_label_is_enough(self) -> None:
        labels = labelled((0, 0, (0, 0, 10, 10)), (0, 0, (0, 0, 10, 8)))
        self.check(labels, detected((0, 0, (0, 0, 10, 10), 0.9), (0, 0, (0, 0, 10, 10), 0.8)), 1)

    def test_crowds(self) -> None:
        """Detections inside a crowd do not count, however many and however small; those half outside do."""
        labels = labelled((0, 0, BOX), (0, 0, (200, 200, 400, 400)), crowd=[1])
        inside = [(0, 0, (x, 210.0, x + 20, 230.0), 0.9) for x in (210.0, 240.0, 240.0)]
        self.check(labels, detected(*inside, (0, 0, BOX, 0.8)), 1)
        self.check(labels, detected((0, 0, (150, 210, 248, 230), 0.9), (0, 0, BOX, 0.8)), 1 / 2)

    def test_a_label_before_its_crowd(self) -> None:
        """Inside a crowd lies a label, which is found although the crowd is overlapped more."""
        labels = labelled((0, 0, (0, 0, 400, 400)), (0, 0, BOX), crowd=[0])
        self.check(labels, detected((0, 0, (10, 10, 30, 28), 0.9)), 1)

    def test_two_classes(self) -> None:
        labels = labelled((0, 3, BOX), (0, 7, FAR))
        found = detected((0, 3, BOX, 0.1), (0, 3, FAR, 0.05), (0, 5, BOX, 0.9))
        scores = self.check(labels, found, 1 / 2)
        self.assertEqual({index: each.ap for index, each in scores.classes.items()}, {3: 1, 7: 0})

    def test_sizes(self) -> None:
        """The small one is found, the large one is not, and a false large one does not hurt the small."""
        labels = labelled((0, 0, BOX), (0, 0, (100, 100, 300, 300)))
        scores = self.check(labels, detected((0, 0, (400, 400, 600, 600), 0.9), (0, 0, BOX, 0.8)), 51 / 2 / 101)
        self.assertEqual((scores.small, scores.large), (1, 0))
        self.assertTrue(np.isnan(scores.medium))

    def test_sizes_are_the_outlines(self) -> None:
        scores = coco(labelled((0, 0, (0, 0, 40, 40)), areas=[32 * 32]), detected((0, 0, (0, 0, 40, 40), 0.9)))
        self.assertEqual((scores.small, scores.medium), (1, 1))  # both ends of a range belong to it
        self.assertTrue(np.isnan(scores.large))

    def test_a_hundred_per_class_and_picture(self) -> None:
        labels = labelled((0, 0, BOX))
        above = [(0, 0, FAR, 0.9)] * 99
        self.check(labels, detected(*above, (0, 1, FAR, 0.9), (0, 0, BOX, 0.8)), 1 / 100)
        self.check(labels, detected(*above, (0, 0, FAR, 0.9), (0, 0, BOX, 0.8)), 0)

    def test_boxes_without_area(self) -> None:
        point = (5.0, 5.0, 5.0, 5.0)
        with np.errstate(all="raise"):
            self.check(labelled((0, 0, point), (0, 0, BOX)), detected((0, 0, point, 0.9)), 0)

    @unittest.skipUnless(optional("pycocotools"), "pycocotools is not installed")
    def test_random_scenes_as_pycocotools(self) -> None:
        for seed, n_found in enumerate((0, 60, 600, 6000)):
            labels, found = random_scene(seed, 20, 200, n_found)
            ours = coco(labels, found)
            summary, by_class = pycocotools_scores(labels, found)
            actual = [ours.ap, ours.ap50, ours.ap75, ours.small, ours.medium, ours.large]
            np.testing.assert_allclose(actual, summary, rtol=0, atol=1e-12)
            np.testing.assert_allclose([each.ap for each in ours.classes.values()], by_class, rtol=0, atol=1e-12)


def pycocotools_scores(labels: Labels, found: Detections) -> Tuple[np.ndarray, np.ndarray]:
    """Its AP, AP50, AP75, small, medium and large; and the AP of each class."""

    def entries(places: Any, **columns: np.ndarray) -> List[Dict[str, Any]]:
        sides = np.hstack([places.boxes[:, :2], places.boxes[:, 2:] - places.boxes[:, :2]])
        columns = {"image_id": places.pictures, "category_id": places.classes, "bbox": sides, **columns}
        return [dict(zip(columns, row)) for row in zip(*(column.tolist() for column in columns.values()))]

    truth = optional("pycocotools.coco").COCO()
    annotations = entries(labels, area=labels.areas, iscrowd=labels.crowd.astype(int))
    truth.dataset = {
        "images": [{"id": index} for index in range(100)],
        "categories": [{"id": index} for index in range(6)],
        "annotations": [{"id": index, **entry} for index, entry in enumerate(annotations, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = entries(found, score=found.scores) or [
            {"image_id": 0, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 0}  # it takes no empty list
        ]
        evaluation = optional("pycocotools.cocoeval").COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :5, 0, -1]
    return evaluation.stats[:6], precision.mean(axis=(0, 1))


# ------------------------------------------------------------------------------------------------------- WIDER FACE


def wider_by_loops(labels: Labels, wanted: np.ndarray, found: Detections) -> float:
    """WIDER FACE's protocol read aloud: picture by picture, detection by detection, threshold by threshold."""
    low, high = found.scores.min(), found.scores.max()
    curve = np.zeros((1000, 2))
    for picture in np.unique(labels.pictures):
        faces = labels.boxes[labels.pictures == picture]
        to_find = wanted[labels.pictures == picture]
        mine = np.flatnonzero(found.pictures == picture)
        mine = mine[np.argsort(-found.scores[mine], kind="stable")]
        scores = (found.scores[mine] - low) / (high - low)
        seen, counts, n_seen = np.zeros(len(faces), bool), np.ones(len(mine), bool), []
        for row, box in enumerate(found.boxes[mine]):
            sides = np.minimum(faces[:, 2:], box[2:]) - np.maximum(faces[:, :2], box[:2]) + 1
            shared = np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0)
            areas = (faces[:, 2:] - faces[:, :2] + 1).prod(axis=1)
            iou = shared / (areas + (box[2:] - box[:2] + 1).prod() - shared)
            best = iou.argmax()
            if iou[best] >= 0.5 and to_find[best]:
                seen[best] = True
            elif iou[best] >= 0.5:
                counts[row] = False
            n_seen.append(seen.sum())
        for index in range(1000):
            shown = np.flatnonzero(scores >= 1 - (index + 1) / 1000)
            if len(shown):
                curve[index] += counts[: shown[-1] + 1].sum(), n_seen[shown[-1]]
    recall = np.concatenate([[0], curve[:, 1] / wanted.sum(), [1]])
    precision = np.concatenate([[0], curve[:, 1] / np.maximum(curve[:, 0], 1), [0]])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(((recall[1:] - recall[:-1]) * best[1:]).sum())


class Wider(unittest.TestCase):
    def check(self, labels: Labels, found: Detections, expected: float, wanted: Any = None) -> None:
        flags = np.ones(len(labels.classes), bool) if wanted is None else np.array(wanted, bool)
        self.assertAlmostEqual(wider(labels, {"them": flags}, found)["them"], expected, places=12)

    def test_perfect_and_none(self) -> None:
        labels = labelled((0, 0, BOX), (1, 0, FAR))
        self.check(labels, detected((0, 0, BOX, 0.9), (1, 0, FAR, 0.1)), 1)
        self.check(labels, detected((0, 0, BOX, 0.5)), 1 / 2)  # a single score
        self.check(labels, detected((0, 0, FAR, 0.5)), 0)
        self.check(labels, detected(), 0)
        self.assertTrue(np.isnan(wider(labels, {"none": np.zeros(2, bool)}, detected((0, 0, BOX, 1)))["none"]))

    def test_a_false_one_above(self) -> None:
        self.check(labelled((0, 0, BOX)), detected((0, 0, FAR, 0.9), (0, 0, BOX, 0.8)), 1 / 2)

    def test_thresholds_are_a_thousandth_apart(self) -> None:
        """The two lower scores, 0.0005 and 0 of the set's range, pass the last threshold together."""
        labels = labelled((0, 0, BOX), (0, 0, FAR))
        found = detected((0, 0, BOX, 0.5), (0, 0, THIRD, 0.10002), (0, 0, FAR, 0.1))
        self.check(labels, found, (1 + 2 / 3) / 2)
        apart = detected((0, 0, BOX, 0.5), (0, 0, FAR, 0.101), (0, 0, THIRD, 0.1))
        self.check(labels, apart, 1)

    def test_scores_are_spread_over_the_set(self) -> None:
        """Two scores lie between different thresholds, until another picture's detection widens the range."""
        labels = labelled((0, 0, BOX), (0, 0, FAR), (1, 0, BOX))
        found = [(0, 0, BOX, 0.5), (0, 0, FAR, 0.10145), (0, 0, THIRD, 0.10105)]
        self.check(labels, detected(*found), 2 / 3)
        self.check(labels, detected(*found, (1, 0, FAR, 0.0)), (1 + 2 / 3) / 3)

    def test_ignored_faces(self) -> None:
        labels = labelled((0, 0, BOX), (0, 0, FAR))
        found = detected((0, 0, FAR, 0.9), (0, 0, FAR, 0.8), (0, 0, BOX, 0.7))
        self.check(labels, found, 1, wanted=[1, 0])
        self.check(labels, found, 1 / 2 * (1 + 2 / 3), wanted=[1, 1])

    def test_a_duplicate_does_not_take_the_next_face(self) -> None:
        """The second detection overlaps the found face most and the other one enough: it counts as wrong."""
        labels = labelled((0, 0, (0, 0, 99, 99)), (0, 0, (0, 0, 99, 79)))
        self.check(labels, detected((0, 0, (0, 0, 99, 99), 0.9), (0, 0, (0, 0, 99, 98), 0.8)), 1 / 2)

    def test_pictures_without_faces_do_not_count(self) -> None:
        self.check(labelled((1, 0, BOX)), detected((0, 0, BOX, 0.9), (1, 0, BOX, 0.8)), 1)

    def test_corners_are_pixels(self) -> None:
        """Two of four pixels, although x2 - x1 times y2 - y1 is nothing."""
        self.check(labelled((0, 0, (0, 0, 1, 1))), detected((0, 0, (0, 0, 1, 0), 0.9)), 1)

    def test_random_scenes_as_by_loops(self) -> None:
        for seed in range(3):
            labels, found = random_scene(seed, 10, 120, 400)
            wanted = np.random.default_rng(seed).random(120) < 0.6
            self.check(labels, found, wider_by_loops(labels, wanted, found), wanted)


# ----------------------------------------------------------------------------------------------------------- labels


class Folder(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name)

    def write(self, name: str, text: str = "") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def refuses(self, message: str, read: Any, *arguments: Any) -> None:
        with self.assertRaisesRegex(EvaluateError, message):
            read(*arguments)


class Yolo(Folder):
    def read(self, n_classes: int = 3) -> datasets.Dataset:
        return datasets.read_yolo(self.path / "images", self.path / "labels", n_classes)

    def test_boxes(self) -> None:
        for name in ("b.jpg", "a/c.PNG", "notes.md", "d.jpeg"):
            self.write(f"images/{name}")
        self.write("labels/a/c.txt", "2 0.5 0.5 0.5 0.25\n\n0 0.25 0.5 0.5 1\n")
        self.write("labels/d.txt", "1 0.5 0.5 1 1")
        dataset = self.read()
        self.assertEqual([path.name for path in dataset.pictures], ["c.PNG", "b.jpg", "d.jpeg"])
        labels = dataset.in_pixels(np.array([[400, 200], [10, 10], [100, 60]]))
        self.assertEqual(labels.pictures.tolist(), [0, 0, 2])
        self.assertEqual(labels.classes.tolist(), [2, 0, 1])
        self.assertEqual(labels.boxes.tolist(), [[100, 75, 300, 125], [0, 0, 200, 200], [0, 0, 100, 60]])
        self.assertEqual(labels.areas.tolist(), [10000, 40000, 6000])
        self.assertFalse(labels.crowd.any())

    def test_refused(self) -> None:
        self.refuses("no pictures", self.read)
        self.write("images/a.jpg")
        self.refuses("no labels", self.read)
        for line, message in {
            "0 0.5 0.5 0.1": "not `class x y width height`",
            "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1 0.9": "not `class x y width height`",
            "0 a 0.5 0.1 0.1": "not `class x y width height`",
            "0 50 0.5 0.1 0.1": "fractions",
            "0 0.5 0.5 -0.1 0.1": "fractions",
            "0 nan 0.5 0.1 0.1": "fractions",
            "3 0.5 0.5 0.1 0.1": "class 3, but the model's are 0 to 2",
        }.items():
            self.write("labels/a.txt", line)
            with self.subTest(line):
                self.refuses(message, self.read)


class CocoFile(Folder):
    def read(self, content: Any, class_names: Sequence[str]) -> datasets.Dataset:
        self.write("labels.json", content if isinstance(content, str) else json.dumps(content))
        return datasets.read_coco(self.path, self.path / "labels.json", class_names)

    def content(self) -> Dict[str, Any]:
        box = {"image_id": 9, "category_id": 90, "bbox": [10, 20, 30, 40], "area": 600.5, "iscrowd": 0}
        return {
            "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}],
            "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "sign"}],
            "annotations": [
                box,
                {**box, "image_id": 2, "category_id": 1, "iscrowd": 1},
                {"image_id": 2, "category_id": 13, "bbox": [0, 0, 2, 3]},
                {**box, "image_id": 77},
            ],
        }

    def test_labels(self) -> None:
        self.write("a.jpg")
        self.write("b.jpg")
        dataset = self.read(self.content(), ["p", "s", "t"])  # other names: in the order of the ids
        self.assertEqual([path.name for path in dataset.pictures], ["a.jpg", "b.jpg"])
        labels = dataset.in_pixels(np.zeros((2, 2)))
        self.assertEqual(labels.pictures.tolist(), [1, 0, 0])
        self.assertEqual(labels.classes.tolist(), [2, 0, 1])
        self.assertEqual(labels.boxes.tolist(), [[10, 20, 40, 60], [10, 20, 40, 60], [0, 0, 2, 3]])
        self.assertEqual(labels.areas.tolist(), [600.5, 600.5, 6])
        self.assertEqual(labels.crowd.tolist(), [False, True, False])
        dataset = self.read(self.content(), ["sign", "dog", "toothbrush", "person"])  # the same names
        self.assertEqual(dataset.labels.classes.tolist(), [2, 3, 0])

    def test_ids_with_gaps(self) -> None:
        """COCO leaves out 11 of its 91 ids; a detector's classes leave out none."""
        gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
        ids = [index for index in range(1, 91) if index not in gaps]
        self.assertEqual(len(ids), 80)
        content = self.content()
        content["categories"] = [{"id": index, "name": f"category {index}"} for index in reversed(ids)]
        self.write("a.jpg")
        self.write("b.jpg")
        classes = self.read(content, [f"class{index}" for index in range(80)]).labels.classes
        self.assertEqual(classes.tolist(), [79, 0, 11])

    def test_refused(self) -> None:
        self.refuses("2 of 2 labelled pictures are missing", self.read, self.content(), ["a", "b", "c"])
        self.refuses("3 categories, the model 2 other classes", self.read, self.content(), ["a", "b"])
        self.refuses("cannot be read", datasets.read_coco, self.path, self.path / "none.json", ["a"])
        for content in ("", "{", "[]", {}, {**self.content(), "annotations": [{"image_id": 2}]}):
            self.refuses("not a COCO instances file", self.read, content, ["a", "b", "c"])
        for key, value in (("bbox", [1, 2]), ("bbox", "wide"), ("category_id", 4)):
            damaged = self.content()
            damaged["annotations"][0][key] = value
            self.refuses("not a COCO instances file", self.read, damaged, ["a", "b", "c"])
        self.refuses("lists no pictures", self.read, {**self.content(), "images": []}, ["a", "b", "c"])


class WiderFiles(Folder):
    def setUp(self) -> None:
        super().setUp()
        for name in ("images/0--Parade/a.jpg", "images/0--Parade/b.jpg", "images/1--Handshaking/c.jpg"):
            self.write(name)

    def read(self, text: str) -> datasets.Dataset:
        self.write(f"labels/{datasets.WIDER_LIST}", text)
        return datasets.read_wider(self.path / "images", self.path / "labels")

    def text(self) -> str:
        return (
            "0--Parade/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0 \n1 2 20 9 2 0 0 0 2 0\n"
            "0--Parade/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n"
            "1--Handshaking/c.jpg\n1\n5 5 20 20 0 0 0 1 0 0\n"
        )

    def test_text(self) -> None:
        dataset = self.read(self.text())
        self.assertEqual([path.name for path in dataset.pictures], ["a.jpg", "b.jpg", "c.jpg"])
        self.assertEqual(dataset.labels.pictures.tolist(), [0, 0, 2])
        self.assertEqual(dataset.labels.boxes.tolist(), [[10, 20, 40, 60], [1, 2, 21, 11], [5, 5, 25, 25]])
        self.assertEqual(dataset.subsets["all"].tolist(), [True, False, False])  # the others: too low, invalid

    def test_refused(self) -> None:
        self.refuses("cannot be read", datasets.read_wider, self.path, self.path / "none.txt")
        for text in (
            "0--Parade/a.jpg",
            "0--Parade/a.jpg\nmany",
            "0--Parade/a.jpg\n1\n1 2 3",
            "0--Parade/a.jpg\n2\n1 2 3 4",
        ):
            self.refuses("at line 1 no picture", self.read, text)
        self.refuses("at line 4 no picture", self.read, "0--Parade/a.jpg\n1\n" + "1 " * 10 + "\n0--Parade/b.jpg\n")
        self.refuses("pictures are missing", self.read, self.text().replace("c.jpg", "d.jpg"))
        self.refuses("lists no pictures", self.read, "")

    @unittest.skipUnless(optional("scipy.io"), "scipy is not installed")
    def test_mat_files(self) -> None:
        def cells(*values: Any) -> np.ndarray:
            array = np.empty((len(values), 1), object)
            array[:, 0] = values
            return array

        def numbers(*values: int) -> np.ndarray:
            return np.array(values, np.uint8).reshape(-1, 1)

        def save(name: str, **content: np.ndarray) -> None:
            optional("scipy.io").savemat(self.path / "labels" / name, content)

        self.write(f"labels/{datasets.WIDER_LIST}", self.text())
        first = np.array([[10, 20, 30, 40], [1, 2, 20, 9]])
        boxes = cells(cells(first, np.zeros((0, 4))), cells(np.array([[5, 5, 20, 20]])))
        save(
            datasets.WIDER_BOXES,
            event_list=cells("0--Parade", "1--Handshaking"),
            file_list=cells(cells("a", "b"), cells("c")),
            face_bbx_list=boxes,
        )
        for split, third in (("easy", numbers()), ("medium", numbers(1)), ("hard", numbers(1))):
            listed = numbers(1, 2) if split == "hard" else numbers(2)
            save(f"wider_{split}_val.mat", gt_list=cells(cells(listed, numbers()), cells(third)))
        dataset = datasets.read_wider(self.path / "images", self.path / "labels")
        self.assertEqual([path.name for path in dataset.pictures], ["a.jpg", "b.jpg", "c.jpg"])
        self.assertEqual(dataset.labels.boxes.tolist(), [[10, 20, 40, 60], [1, 2, 21, 11], [5, 5, 25, 25]])
        self.assertEqual(
            {name: flags.tolist() for name, flags in dataset.subsets.items()},
            {"easy": [False, True, False], "medium": [False, True, True], "hard": [True, True, True]},
        )
        save("wider_easy_val.mat", gt_list=cells(cells(numbers(9), numbers()), cells(numbers())))
        self.refuses("not WIDER FACE's .mat files", datasets.read_wider, self.path / "images", self.path / "labels")
        self.write("labels/wider_hard_val.mat", "text")
        self.refuses(
            "wider_hard_val.mat cannot be read|not WIDER", datasets.read_wider, self.path, self.path / "labels"
        )


# -------------------------------------------------------------------------------------------------- post-processing


class Exported(unittest.TestCase):
    settings = Settings(score=0.25, iou=0.5, max_objects=300, multi_label=False)

    def test_letterbox(self) -> None:
        self.assertEqual(evaluate.letterbox_place(640, 480, (640, 640)), (1, (640, 480), 0, 80))
        self.assertEqual(evaluate.letterbox_place(1001, 500, (640, 640)), (640 / 1001, (640, 320), 0, 160))
        self.assertEqual(evaluate.letterbox_place(100, 99, (64, 64)), (0.64, (64, 63), 0, 0))  # the odd row goes below
        self.assertEqual(evaluate.letterbox_place(10, 20, (64, 32)), (1.6, (16, 32), 24, 0))

    def test_outputs(self) -> None:
        """64 x 32 pixels have 42 cells of strides 8, 16 and 32, and YOLOv5 has three anchors for each."""
        random = np.random.default_rng(0)
        place = np.array([20, 10, 8, 4], np.float32)
        scores = random.random((126, 2)).astype(np.float32)
        flat = np.concatenate([np.tile(place, (126, 1)), np.full((126, 1), 0.5, np.float32), scores], axis=1)
        boxes, found = evaluate.decode(flat[None], (64, 32))
        np.testing.assert_array_equal(boxes, np.tile([16, 8, 24, 12], (126, 1)))
        np.testing.assert_array_equal(found, scores / 2)
        tall = np.concatenate([np.tile(place, (42, 1)), scores[:42]], axis=1).T
        boxes, found = evaluate.decode(tall[None], (64, 32))
        np.testing.assert_array_equal(boxes, np.tile([16, 8, 24, 12], (42, 1)))
        np.testing.assert_array_equal(found, scores[:42])
        for shape in ((1, 300, 6), (1, 42, 6), (42, 6)):
            with self.assertRaisesRegex(EvaluateError, "not YOLOv5's"):
                evaluate.decode(np.zeros(shape, np.float32), (64, 32))

    def test_candidates(self) -> None:
        boxes = np.arange(12.0).reshape(3, 4)
        scores = np.array([[0.3, 0.4], [0.25, 0.1], [0.9, 0.2]])
        best = evaluate.candidates(boxes, scores, self.settings)
        self.assertEqual((best.scores.tolist(), best.classes.tolist()), ([0.9, 0.4], [0, 1]))
        self.assertEqual(best.boxes.tolist(), boxes[[2, 0]].tolist())
        every = evaluate.candidates(boxes, scores, Settings(0.25, 0.5, 300, True))
        self.assertEqual((every.scores.tolist(), every.classes.tolist()), ([0.9, 0.4, 0.3], [0, 1, 0]))

    def test_suppression(self) -> None:
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5], [0, 0, 10, 10], [50, 0, 60, 10]], float)
        found = Objects(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 0, 0, 1, 0]))
        kept = evaluate.suppress(found, self.settings)  # an IoU of exactly 0.5 stays
        self.assertEqual(kept.scores.tolist(), [0.9, 0.7, 0.6, 0.5])
        self.assertEqual(kept.classes.tolist(), [0, 0, 1, 0])
        few = evaluate.suppress(found, Settings(0.25, 0.49, 2, False))
        self.assertEqual(few.scores.tolist(), [0.9, 0.6])
        nothing = evaluate.suppress(Objects(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)), self.settings)
        self.assertEqual(nothing.boxes.shape, (0, 4))

    def test_names(self) -> None:
        self.assertEqual(evaluate.exported_names({"names": "{0: 'cat', 1: 'dog'}"}, 2), ["cat", "dog"])
        for text in ("{0: 'cat'}", "cat, dog", "__import__('os')", "[1, 2]"):
            self.assertEqual(evaluate.exported_names({"names": text}, 2), ["class0", "class1"])
        self.assertEqual(evaluate.exported_names({}, 80)[79], "toothbrush")

    @unittest.skipUnless(
        optional("onnxruntime") and optional("onnx") and optional("cv2"), "no ONNX Runtime, onnx or OpenCV"
    )
    def test_a_network(self) -> None:
        """One that always finds a box across the middle of its 64 x 32 pixels."""
        output = np.zeros((1, 6, 42), np.float32)
        output[0, :, 5] = 32, 16, 64, 16, 0.25, 0.75
        with tempfile.TemporaryDirectory() as folder:
            for height, width, size in ((32, 64, None), ("height", "width", (64, 32))):
                path = os.path.join(folder, "network.onnx")
                constant_network(path, output, height, width)
                detector = evaluate.OnnxDetector(path, Settings(0.1, None, 300, None), size, threads=1)
                self.assertEqual(detector.class_names, ["class0", "class1"])
                self.assertEqual(detector.settings, Settings(0.1, 0.7, 300, False))
                (found,) = detector.detect([np.zeros((64, 64, 3), np.uint8)])
                self.assertEqual(found.boxes.tolist(), [[0, 16, 64, 48]])  # cut at the picture's sides
                self.assertEqual((found.scores.tolist(), found.classes.tolist()), ([0.75], [1]))
            constant_network(path, output, 32, 64)
            with self.assertRaisesRegex(EvaluateError, "is 64x32, not 32x32"):
                evaluate.OnnxDetector(path, self.settings, (32, 32))
            with self.assertRaisesRegex(EvaluateError, "none.onnx"):
                evaluate.OnnxDetector(os.path.join(folder, "none.onnx"), self.settings)


def constant_network(path: str, output: np.ndarray, height: Any, width: Any) -> None:
    """Writes an .onnx file whose output does not depend on its input."""
    onnx = optional("onnx")
    helper, numpy_helper, kind = optional("onnx.helper"), optional("onnx.numpy_helper"), onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["output"], value=numpy_helper.from_array(output))],
        "graph",
        [helper.make_tensor_value_info("images", kind, [1, 3, height, width])],
        [helper.make_tensor_value_info("output", kind, output.shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


# -------------------------------------------------------------------------------------------------------- evaluator


class Oracle:
    """A detector that knows: a box in the upper left quarter of each picture."""

    description = "oracle"
    settings = Settings(0.5, 0.5, 10, False)

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = class_names

    def detect(self, pictures: Sequence[np.ndarray]) -> List[Objects]:
        return [
            Objects(np.array([[0, 0, picture.shape[1] / 2, picture.shape[0] / 2]]), np.array([0.9]), np.array([1]))
            for picture in pictures
        ]


@unittest.skipUnless(optional("PIL.Image") or optional("cv2"), "neither Pillow nor OpenCV is installed")
class Evaluator(Folder):
    def setUp(self) -> None:
        super().setUp()
        for index in range(3):
            self.write(f"labels/{index}.txt", "1 0.25 0.25 0.5 0.5")
            self.picture(f"images/{index}.png", 40 + index, 30)

    def picture(self, name: str, width: int, height: int) -> None:
        """Writes a picture, red on its left."""
        path = self.write(name)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[:, : width // 2, 0] = 255
        if optional("PIL.Image"):
            optional("PIL.Image").fromarray(pixels).save(path)
        else:
            optional("cv2").imwrite(str(path), pixels[:, :, ::-1])

    def test_readers(self) -> None:
        readers = [datasets.picture_reader()]
        if pillow := optional("PIL.ImageOps"):
            readers.append(partial(datasets._read_with_pillow, pillow))
        for read in readers:
            picture = read(self.path / "images/2.png")
            self.assertEqual((picture.shape, picture.dtype), ((30, 42, 3), np.uint8))
            self.assertEqual((picture[0, 0].tolist(), picture[29, 41].tolist()), ([255, 0, 0], [0, 0, 0]))
            self.refuses("0.txt is not a picture", read, self.path / "labels/0.txt")
        with mock.patch.object(datasets, "optional", return_value=None):
            self.refuses("needs Pillow or OpenCV", datasets.picture_reader)

    def test_objects(self) -> None:
        dataset = datasets.read_yolo(self.path / "images", self.path / "labels", 2)
        figures = evaluate.evaluate(Oracle(["cat", "dog"]), dataset, batch=2)
        self.assertEqual((figures["pictures"], figures["labels"], figures["AP"], figures["AP50"]), (3, 3, 1, 1))
        self.assertEqual((figures["AP small"], figures["AP large"]), (1, None))
        self.assertEqual(figures["classes"], [{"name": "dog", "AP": 1, "AP50": 1, "labels": 3}])
        json.dumps(figures, allow_nan=False)
        text = evaluate.report(figures)
        self.assertRegex(text, r"AP50 +1\.0000\n")
        self.assertRegex(text, r"AP large +-")
        self.assertRegex(text, r"dog +1\.0000 +1\.0000 +3")
        nothing = evaluate.coco_figures(coco(labelled(), detected()), [])
        self.assertRegex(evaluate.report({**figures, **nothing}), r"AP +-")

    def test_faces(self) -> None:
        self.write("faces.txt", "0.png\n1\n0 0 20 15 0 0 0 0 0 0\n1.png\n1\n0 0 20 15 0 0 0 1 0 0\n")
        dataset = datasets.read_wider(self.path / "images", self.path / "faces.txt")
        figures = evaluate.evaluate(Oracle(["cat", "face"]), dataset)
        self.assertEqual(figures["subsets"], {"all": {"AP": 1, "labels": 1}})
        self.assertIn("not WIDER FACE's own split", evaluate.report(figures))
        self.refuses("none of the model's 2 classes is 'face'", evaluate.evaluate, Oracle(["a", "b"]), dataset)
        self.assertEqual(evaluate.evaluate(Oracle(["only"]), dataset)["subsets"]["all"]["AP"], 0)  # it says class 1

    def run_command(self, *arguments: Any) -> Tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        folders = ["--images", str(self.path / "images"), "--labels", str(self.path / "labels")]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = evaluate.main([*folders, *map(str, arguments)])
            except SystemExit as stop:
                status = int(str(stop.code))
        return status, out.getvalue(), err.getvalue()

    def test_wrong_usage(self) -> None:
        for arguments in (
            [],
            ["--model", "a", "--onnx", "b"],
            ["--model", "a", "--score", "2"],
            ["--model", "a", "--iou", "nan"],
            ["--model", "a", "--batch", "0"],
            ["--model", "a", "--size", "640"],
            ["--model", "a", "--size", "100x64"],
        ):
            status, out, err = self.run_command(*arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("usage:", err)

    def test_unusable(self) -> None:
        for option in ("--model", "--onnx"):
            status, out, err = self.run_command(option, self.path / "none")
            self.assertEqual((status, out, err.count("\n")), (3, "", 1))

    @support.needs_models
    @unittest.skipUnless(optional("libdetect._native"), "the library is not built")
    @unittest.skipUnless((IMAGES / "coco").is_dir(), f"no labelled pictures in {IMAGES} (set DET_IMAGES)")
    def test_published_checkpoints(self) -> None:
        """The figures of the authors' own pipelines on the 64 pictures."""
        folders = ["--images", IMAGES / "coco/images", "--labels", IMAGES / "coco/labels"]
        for name, iou, ap, ap50 in (("yolov8n.pt", 0.7, 0.455, 0.613), ("yolov5n_v7.0.pt", 0.6, 0.334, 0.528)):
            model = str(self.path / "model")
            convert.convert_file(str(support.MODELS / name), model)
            status, out, err = self.run_command("--model", model, *folders, "--iou", iou, "--threads", 1, "--json")
            self.assertEqual((status, err), (0, ""))
            self.assertAlmostEqual(json.loads(out)["AP"], ap, delta=0.003)
            self.assertAlmostEqual(json.loads(out)["AP50"], ap50, delta=0.003)


if __name__ == "__main__":
    unittest.main()
