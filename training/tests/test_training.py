#!/usr/bin/env python3
"""Tests of the training code: python3 -m unittest training/tests/test_training.py (or run this file).

They skip themselves where PyTorch or OpenCV is missing (exit status 77).  The comparison with the authors' reference outputs
needs their folder, DET_GOLDEN or ../shared/golden.
"""
import gzip
import importlib.util
import json
import math
import os
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
try:
    import cv2
    import numpy as np
    import torch
except ImportError as error:
    if __name__ == "__main__":
        print("SKIP: training needs PyTorch, numpy and OpenCV: %s" % error)
        sys.exit(77)
    raise unittest.SkipTest("training needs PyTorch, numpy and OpenCV: %s" % error)

import assign
import augment
import clutter
import data
import evaluate
import heads
import losses
import network
import portraits
import scenes
import team
import things
import train

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.environ.get("DET_GOLDEN") or os.path.join(ROOT, "..", "shared", "golden")


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = f.read()
    header.pop("__metadata__", None)
    return {k: torch.from_numpy(np.frombuffer(body[v["data_offsets"][0]:v["data_offsets"][1]], np.float32).reshape(v["shape"]).copy())
            for k, v in header.items()}


@unittest.skipUnless(os.path.isdir(GOLDEN), "no folder of reference outputs (DET_GOLDEN)")
class Parity(unittest.TestCase):
    def test_every_variant_matches_the_authors_outputs(self):
        spec = importlib.util.spec_from_file_location("synth", os.path.join(GOLDEN, "synth.py"))
        synth = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(synth)
        for variant in [v + suffix for v in network.VARIANTS for suffix in ("", "-kps")]:
            folder = os.path.join(GOLDEN, "damofd-" + variant)
            if not os.path.isdir(folder):
                continue
            with self.subTest(variant), open(os.path.join(folder, "manifest.json"), encoding="utf-8") as f:
                manifest = json.load(f)
                state = {t["name"]: torch.from_numpy(synth.tensor(t["name"], t["shape"], t["role"], manifest["seed"],
                                                                  t.get("gain", 1.0), t.get("value")))
                         for t in manifest["tensors"]}
                model = network.DamoFD(variant).eval()
                self.assertEqual(set(state), {k for k in model.state_dict() if "num_batches" not in k})
                model.load_state_dict(state, strict=False)
                reference = read_safetensors(os.path.join(folder, "reference.safetensors"))
                with torch.no_grad():
                    logits, distances, offsets = model(reference["input"])
                points, strides = network.priors(*reference["input"].shape[2:])
                boxes, keypoints = network.decode(points, strides, distances, offsets)
                self.close(torch.sigmoid(logits)[..., None], reference["scores"])
                self.close(boxes, reference["boxes"])
                if keypoints is not None:
                    self.close(keypoints, reference["keypoints"])

    def close(self, got, wanted):
        self.assertEqual(got.shape, wanted.shape)
        self.assertLess(float((got - wanted).abs().max() / wanted.abs().max()), 1e-5)


class Network(unittest.TestCase):
    def test_parameters_are_as_many_as_published(self):
        counts = {"0.5g": 258189, "0.5g-kps": 269729, "2.5g": 442741, "2.5g-kps": 454281, "10g": 1269325, "10g-kps": 1283745}
        for variant, count in counts.items():
            self.assertEqual(sum(p.numel() for p in network.DamoFD(variant).parameters()), count, variant)

    def test_depthwise_layers_stay_exact_in_bfloat16(self):
        layer = network.conv(8, 8, 3, groups=8)
        self.assertIsInstance(layer, network.Depthwise)
        x = torch.randn(2, 8, 6, 6).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            got = layer(x)
        wanted = torch.nn.functional.conv2d(x.float(), layer.weight, padding=1, groups=8)
        self.assertEqual(got.dtype, torch.bfloat16)
        self.assertTrue(torch.equal(got, wanted.bfloat16()))

    def test_unknown_variant(self):
        for name in ("3g", "2.5g-points", ""):
            with self.assertRaises(ValueError):
                network.DamoFD(name)

    def test_priors_agree_with_the_assignment(self):
        points, strides = network.priors(64, 96)
        other, _, other_strides, _ = assign.anchors(64, 96)
        self.assertTrue(np.array_equal(points.numpy(), other) and np.array_equal(strides.numpy(), other_strides))

    def test_published_prefixes_are_taken_off(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.pth")
            torch.save({"state_dict": {"detector.module.a": torch.ones(1), "detector.b": torch.ones(1), "c": torch.ones(1)}}, path)
            self.assertEqual(set(network.load_checkpoint(path)), {"a", "b", "c"})


class Geometry(unittest.TestCase):
    def setUp(self):
        self.faces = augment.Faces(np.float32([[30, 40, 50, 64]]), np.float32([[[35, 48], [45, 48], [40, 53], [36, 58], [44, 58]]]))

    def test_mirror_exchanges_left_and_right(self):
        m = augment.affine(source=(50, 50), target=(50, 50), mirror=True)
        out = augment.transform_faces(m, self.faces, True)
        np.testing.assert_allclose(out.keypoints[0], [[55, 48], [65, 48], [60, 53], [56, 58], [64, 58]], atol=1e-4)
        np.testing.assert_allclose(out.boxes[0], [50, 40, 70, 64], atol=0.2)

    def test_a_turned_box_is_that_of_the_turned_ellipse(self):
        m = augment.affine(degrees=45, source=(40, 52), target=(40, 52))
        box = augment.transform_boxes(m, self.faces.boxes)[0]
        half = math.sqrt((10 ** 2 + 12 ** 2) / 2)
        np.testing.assert_allclose(box, [40 - half, 52 - half, 40 + half, 52 + half], atol=0.2)

    def test_pixels_move_with_the_points(self):
        rng = np.random.default_rng(0)
        for sharp in (False, True):
            for _ in range(8):
                image = np.zeros((200, 240, 3), np.uint8)
                at = rng.uniform(60, 140, 2)
                cv2.circle(image, tuple(int(v * 16 - 8) for v in at), 12 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
                m = augment.affine(rng.uniform(0.4, 2.0), rng.uniform(-40, 40), (100, 100), (100, 100), rng.random() < 0.5, rng.uniform(0.9, 1.1))
                out = augment.warp(image, m, 200, 200, sharp=sharp)[..., 0].astype(float)
                y, x = np.mgrid[:200, :200] + 0.5
                found = np.array([(x * out).sum(), (y * out).sum()]) / out.sum()
                np.testing.assert_allclose(found, augment.transform_points(m, at[None])[0], atol=0.35)

    def test_faces_outside_and_small_ones(self):
        boxes = np.float32([[-9, 0, 11, 20], [-30, 0, 10, 20], [-30, 0, -10, 20], [50, 50, 55, 55]])
        out = augment.clip_faces(augment.Faces(boxes), 100, 100)
        np.testing.assert_allclose(out.boxes, [[0, 0, 11, 20]])
        np.testing.assert_allclose(out.ignore, [[0, 0, 10, 20], [50, 50, 55, 55]])

    def test_loose_boxes_shrink(self):
        p = data.Picture({"image": "a", "set": "mik1i", "boxes": [[0, 0, 100, 100]]})
        data.tighten([p], None)
        self.assertAlmostEqual(float(data.sizes(p.boxes)[0]), 100 / math.sqrt(data.LOOSE["mik1i"]), places=3)
        self.assertLess(p.box_weights[0], 1)

    def test_split_keeps_neighbours_together(self):
        pictures = [data.Picture({"image": "%s_%03d" % (s, i), "set": s, "boxes": []}) for s in "ab" for i in range(50)]
        train_part, held_out = data.split(pictures, 0.1)
        self.assertEqual([p.name for p in held_out], ["%s_%03d" % (s, i) for s in "ab" for i in range(45, 50)])
        self.assertEqual(len(train_part), 90)


class Assignment(unittest.TestCase):
    def test_every_face_has_a_prior_and_large_ones_the_coarse_levels(self):
        boxes = np.float32([[10, 10, 18, 19], [60, 60, 84, 90], [100, 20, 300, 270]])
        index = assign.assign(boxes, np.zeros((0, 4), np.float32), 320, 320)
        _, _, strides, _ = assign.anchors(320, 320)
        for i, stride in enumerate((8, 8, 32)):
            self.assertTrue((index == i).any())
            self.assertEqual(set(strides[index == i]), {stride})
        self.assertEqual(index.min(), assign.BACKGROUND)

    def test_ignored_regions(self):
        index = assign.assign(np.zeros((0, 4), np.float32), np.float32([[32, 32, 64, 64]]), 128, 128)
        points, _, strides, _ = assign.anchors(128, 128)
        inside = ((points >= 32) & (points <= 64)).all(1)
        self.assertTrue((index[inside] == assign.IGNORED).all())
        self.assertEqual((index[(points > 90).all(1)]).max(), assign.BACKGROUND)


class Losses(unittest.TestCase):
    def test_iou_and_diou_by_hand(self):
        a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
        iou, diou = losses.iou_and_diou(a, b)
        self.assertAlmostEqual(float(iou), 1 / 7, places=6)
        self.assertAlmostEqual(float(diou), 1 / 7 - 2 / 18, places=6)

    def test_quality_focal_by_hand(self):
        value = losses.quality_focal(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
        np.testing.assert_allclose(value.numpy(), [0.0, 0.25 * math.log(2)], rtol=1e-5)

    def perfect(self):
        """Outputs that decode to exactly the one face of the targets at its priors."""
        box, points5 = np.float32([[20, 20, 52, 56]]), np.float32([[[28, 32], [44, 32], [36, 40], [30, 48], [42, 48]]])
        index = torch.from_numpy(assign.assign(box, np.zeros((0, 4), np.float32), 96, 96))[None]
        points, strides = network.priors(96, 96)
        distances = torch.cat([points - torch.tensor(box[:, :2]), torch.tensor(box[:, 2:]) - points], 1) / strides[:, None]
        offsets = (torch.tensor(points5) - points[:, None]) / strides[:, None, None]
        logits = torch.where(index[0] >= 0, torch.tensor(20.0), torch.tensor(-20.0))
        targets = index, torch.tensor(box)[None], torch.tensor(points5)[None], torch.ones(1, 1)
        return [logits[None], distances[None], offsets[None]], points, strides, targets

    def test_a_perfect_answer_costs_nothing(self):
        for value in losses.detection_loss(*self.perfect()):
            self.assertAlmostEqual(float(value), 0, places=5)

    def test_ignored_priors_and_unknown_points_cost_nothing(self):
        outputs, points, strides, targets = self.perfect()
        targets[0][targets[0] == -1] = -2
        outputs[0] = torch.where(targets[0] == -2, torch.tensor(5.0), outputs[0])
        targets[2][:] = float("nan")
        outputs[2] = outputs[2] + 3
        outputs = [o.requires_grad_() for o in outputs]
        total = sum(losses.detection_loss(outputs, points, strides, targets))
        total.backward()
        self.assertAlmostEqual(float(total), 0, places=5)
        self.assertTrue(all(torch.isfinite(o.grad).all() for o in outputs if o.grad is not None))

    def test_a_batch_without_faces(self):
        outputs, points, strides, targets = self.perfect()
        targets[0][:] = -1
        self.assertTrue(all(math.isfinite(float(v)) for v in losses.detection_loss(outputs, points, strides, targets)))

    def test_a_pupil_that_equals_its_teacher_costs_nothing(self):
        outputs, points, strides, targets = self.perfect()
        for value in losses.teacher_loss(outputs, outputs, points, strides, targets[0]):
            self.assertAlmostEqual(float(value), 0, places=5)
        wrong = [outputs[0] - 25, outputs[1] * 1.5, outputs[2] + 1]
        self.assertTrue(all(float(v) > 0.1 for v in losses.teacher_loss(wrong, outputs, points, strides, targets[0])))
        self.assertTrue(all(float(v) == 0 for v in losses.teacher_loss(outputs, wrong, points, strides, targets[0])[1:]))   # it saw nothing


class Evaluation(unittest.TestCase):
    def test_average_precision_by_hand(self):
        value = evaluate.average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
        self.assertAlmostEqual(value, 0.5 + 0.5 * 2 / 3)

    def test_the_score_that_balances(self):
        score, f = evaluate.best_score(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, False]), 3)
        self.assertEqual(score, 0.8)
        self.assertAlmostEqual(f, 2 * 2 / (2 + 3))
        self.assertEqual(evaluate.best_score(np.zeros(0), np.zeros(0, bool), 0), (1.0, 0.0))

    def test_the_score_for_a_precision(self):
        scores, right = np.array([0.2, 0.9, 0.5, 0.7]), np.array([True, True, False, True])
        self.assertEqual([evaluate.score_for_precision(scores, right, p) for p in (1.0, 0.75, 0.6, 0.5)], [0.7, 0.2, 0.2, 0.2])
        self.assertEqual(evaluate.score_for_precision(scores, ~right, 0.9), 1.0)

    def test_a_tally_by_hand(self):
        line = {"image": "a", "boxes": [[0, 0, 20, 20], [40, 40, 60, 60], [80, 0, 90, 10]], "ignore": [[200, 200, 240, 240]],
                "keypoints": [[[5, 5], [15, 5], [10, 10], [6, 15], [14, 15]], None, None]}
        tally = evaluate.Tally(16, 0.6)
        boxes = np.float32([[0, 0, 20, 20], [100, 100, 130, 130], [205, 205, 230, 230], [80, 0, 90, 10], [40, 40, 60, 60]])
        points = np.zeros((5, 5, 2), np.float32)
        points[0] = np.float32(line["keypoints"][0]) + [3, 4]
        tally.add((boxes, np.float32([0.9, 0.8, 0.7, 0.65, 0.5]), points), data.Picture(line))
        ap, found, false, gap = tally.figures()     # the third box is excused, the fourth too small
        self.assertEqual((tally.n_true, found, false), (2, 1, 1))
        self.assertAlmostEqual(gap, 5 / 20)
        self.assertAlmostEqual(ap, 0.5 + 0.5 * 2 / 3)

    def test_nms_and_match(self):
        boxes = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]])
        self.assertEqual(list(evaluate.nms(boxes, np.float32([0.5, 0.9, 0.4]), 0.45)), [1, 2])
        self.assertEqual(list(evaluate.match(boxes, np.float32([[0, 0, 10, 10]]))), [0, -1, -1])


class Heads(unittest.TestCase):
    """Turned heads, from a mesh of a ball with a nose in place of MakeHuman's."""

    def ball(self, folder):
        """A folder as MakeHuman's, with changes of shape that change nothing."""
        across, up = 100, 80
        a, b = np.meshgrid(np.linspace(0, 2 * np.pi, across, endpoint=False), np.linspace(-1.4, 1.4, up))
        body = np.stack([0.75 * np.cos(b) * np.sin(a), 8 + 1.1 * np.sin(b), 0.6 + np.cos(b) * np.cos(a)], -1).reshape(-1, 3)
        body[heads.MOUTH_LEFT] = 0.25, 7.5, 1.45
        body[np.argmax(body[:, 2] - np.abs(body[:, 1] - 7.9))] = 0, 7.9, 2.0
        i = np.arange(across * (up - 1)).reshape(up - 1, across)
        right = np.roll(i, -1, 1)
        quads = np.stack([i, right, right + across, i + across], -1).reshape(-1, 4)
        patch = np.float64([[-0.1, -0.05, 0], [0.1, -0.05, 0], [0.1, 0.05, 0], [-0.1, 0.05, 0]])
        places = (("helper-l-eye", (0.29, 8.2, 1.5)), ("helper-r-eye", (-0.29, 8.2, 1.5)), ("helper-upper-teeth", (0, 7.5, 1)), ("helper-tongue", (0, 7.4, 1)))
        for name in ("mpfb2/3dobjs", "mpfb2/targets/macrodetails", "faceunits01/targets/faceunits"):
            os.makedirs(os.path.join(folder, name))
        with open(os.path.join(folder, "mpfb2/3dobjs/base.obj"), "w", encoding="utf-8") as f:
            for p in [*body, *(p for _, at in places for p in patch + at)]:
                f.write("v %.4f %.4f %.4f\n" % tuple(p))
            f.write("g body\n" + "".join("f %d/1 %d/1 %d/1 %d/1\n" % tuple(q + 1) for q in quads))
            for k, (name, _) in enumerate(places):
                f.write("g %s\nf %d %d %d %d\n" % (name, *range(len(body) + 4 * k + 1, len(body) + 4 * k + 5)))
        for sex in ("male", "female"):
            for age in ("young", "old"):
                names = ["%s-%s-%s" % (origin, sex, age) for origin in ("caucasian", "african", "asian")]
                names += ["universal-%s-%s-averagemuscle-%sweight" % (sex, age, w) for w in ("min", "average", "max")]
                for name in names:
                    with gzip.open(os.path.join(folder, heads.MACRO % name), "wt") as f:
                        f.write("# nothing\n0 0 0 0\n")
        for name in ("jawOpen", *(name + side for name, sides, _, _ in heads.MOODS for side in sides)):
            open(os.path.join(folder, heads.UNIT % name), "w").close()

    def test_a_portrait_is_laid_on_exactly_at_its_points(self):
        rng = np.random.default_rng(1)
        marks = np.float64([[-0.3, 8.2, 1.4], [0.3, 8.2, 1.4], [0, 7.9, 1.7], [-0.25, 7.5, 1.4], [0.25, 7.5, 1.4]])
        keypoints = np.float64([[60, 60], [100, 62], [80, 90], [66, 110], [98, 112]]) + rng.normal(0, 1, (5, 2))
        fit = heads.Fit(marks, keypoints)
        np.testing.assert_allclose(fit(marks[:, :2]), keypoints, atol=1e-6)
        np.testing.assert_allclose(fit.back(np.c_[marks[:, :2], np.ones(5)] @ fit.plane), marks[:, :2], atol=1e-6)

    def test_pixels_show_what_is_in_front_of_them(self):
        xy = np.float64([[0, 0], [40, 0], [40, 30], [0, 30]] * 2)
        depth, triangles = np.repeat([0.0, 1.0], 4), np.array([[0, 2, 1], [0, 3, 2], [4, 6, 5]])
        front = heads._cover(xy, depth, triangles, 30, 40)
        self.assertEqual((front[2, 37], front[27, 2]), (2, 1))
        pixels = heads.Pixels(front, xy, triangles)
        np.testing.assert_allclose(pixels.values(xy), np.stack([pixels.where[1], pixels.where[0]], 1) + 0.5, atol=1.1)        # drawn up to a pixel beyond
        self.assertTrue((heads._cover(xy, depth, triangles[:, ::-1], 30, 40) == -1).all())        # their backs

    def test_heads_turn(self):
        with tempfile.TemporaryDirectory() as folder:
            self.ball(folder)
            person = np.zeros((300, 260, 4), np.uint8)
            cv2.ellipse(person, (130, 150), (75, 105), 0, 0, 360, (200, 150, 120, 255), -1)
            line = {"image": "one", "set": "congress", "boxes": [[65, 45, 195, 242]],
                    "keypoints": [[[103, 120], [157, 120], [130, 150], [108, 188], [152, 188]]]}
            portrait = data.Picture(line)
            people = {"one|160": person}
            pictures, store = heads.head_store(folder, folder, [portrait, data.Picture(dict(line, image="small"))], people)
            self.assertEqual(len(pictures), heads.PER_PORTRAIT)
            for picture in pictures:
                self.assertEqual(picture.set, heads.TURNED)
                rgba = store[picture.name + "|160"]
                self.assertAlmostEqual(float(data.sizes(picture.boxes)[0]), 160, places=2)
                eyes, nose = picture.keypoints[0, :2], picture.keypoints[0, 2]
                self.assertGreater(abs(nose[0] - eyes[:, 0].mean()), 0.1 * 160)
                self.assertTrue(((picture.keypoints[0] > 0) & (picture.keypoints[0] < rgba.shape[1::-1])).all())
                x, y = ((picture.boxes[0, :2] + picture.boxes[0, 2:]) / 2).astype(int)
                self.assertGreater(rgba[y, x, 3], 250)
                self.assertEqual(rgba[2, 2, 3], 0)
                self.assertEqual(store[picture.name + "|20"].shape[0], round(rgba.shape[0] / 8))
            again, other = heads.head_store(folder, folder, [portrait], people)              # from the file
            self.assertTrue(np.array_equal(other[again[0].name + "|40"], store[pictures[0].name + "|40"]))
            with mock.patch.object(heads, "PER_PORTRAIT", 2):                                 # of another number: made anew
                self.assertEqual(len(heads.head_store(folder, folder, [portrait], people)[0]), 2)
            rgba, faces, _ = portraits.figure(np.random.default_rng(1), pictures[0], store, 40)
            self.assertEqual(len(faces.boxes), 1)

    def test_bald_and_shaved_heads(self):
        with tempfile.TemporaryDirectory() as folder:
            self.ball(folder)
            mesh, kinds = heads.Mesh(folder), set()
            box, keypoints = np.float32([65, 45, 195, 242]), np.float32([[103, 120], [157, 120], [130, 150], [108, 188], [152, 188]])
            for n in range(40):
                sitter = heads.Sitter(mesh, np.zeros((300, 260, 3), np.uint8), box, keypoints, np.random.default_rng(n))
                hair, stands = sitter.hair()
                kinds.add((sitter.bald, sitter.shaved))
                self.assertEqual(hair.max() > 0, not sitter.bald)
                self.assertEqual(stands.max() > 0, not sitter.bald and not sitter.shaved)
                self.assertLess(hair.max(), 0.61 if sitter.shaved else 1.01)
            self.assertEqual(kinds, {(False, False), (True, False), (False, True)})


class Pipeline(unittest.TestCase):
    """A made-up folder of faces, from labels to a resumed run."""

    def make(self, folder):
        rng = np.random.default_rng(0)
        os.mkdir(os.path.join(folder, "images"))
        lines = []
        for i in range(12):
            image = rng.integers(0, 80, (160, 200, 3)).astype(np.uint8)
            line = {"image": "images/%s_%02d.png" % ("abc"[i % 3], i), "set": ("congress", "x", "empty")[i % 3], "boxes": [], "keypoints": []}
            if i % 3 < 2:
                cv2.ellipse(image, (100, 70), (30, 40), 0, 0, 360, (120, 160, 220), -1)
                line["boxes"] = [[70, 30, 130, 110]]
                line["keypoints"] = [[[88, 60], [112, 60], [100, 75], [90, 90], [110, 90]]]
            cv2.imwrite(os.path.join(folder, line["image"]), image)
            lines.append(json.dumps(line))
        with open(os.path.join(folder, "labels.jsonl"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines))

    def test_scenes_are_reproducible_and_in_range(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make(folder)
            pictures, _ = data.load(folder, 0.0)
            pixels = data.pixel_store(folder, os.path.join(folder, "cache"), pictures)
            people = [p for p in pictures if p.set == "congress"]
            made = scenes.Scenes(pictures, pixels, portraits.portrait_store(os.path.join(folder, "cache"), people, pixels))
            for n in range(40):
                image, faces = made.sample(np.random.default_rng([1, n]), 128)
                again, _ = made.sample(np.random.default_rng([1, n]), 128)
                self.assertTrue(np.array_equal(image, again))
                self.assertEqual((image.shape, image.dtype), ((128, 128, 3), np.uint8))
                self.assertTrue(((faces.boxes >= 0) & (faces.boxes <= 128)).all())
                self.assertTrue((data.sizes(faces.boxes) >= augment.SMALLEST).all())
                self.assertEqual(len(faces.boxes), len(faces.keypoints))

    def test_things_are_strewn_where_nobody_is(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make(folder)
            os.mkdir(os.path.join(folder, "things"))
            thing = np.zeros((300, 200, 4), np.uint8)
            thing[50:250, 50:150] = 0, 0, 255, 255          # red, as OpenCV writes it
            cv2.imwrite(os.path.join(folder, "things", "red.png"), thing)
            cv2.imwrite(os.path.join(folder, "things", "opaque.png"), thing[..., :3])
            cache = os.path.join(folder, "cache")
            store = things.thing_store(cache, os.path.join(folder, "things"))
            self.assertEqual(store.names, ["red.png"])
            self.assertEqual((max(store["red.png"].shape[:2]), list(store["red.png"][64, 43])), (things.LONGEST, [255, 0, 0, 255]))
            image = np.zeros((96, 96, 3), np.uint8)
            things.strew(image, np.random.default_rng(3), 20, store)
            self.assertGreater((image[..., 0] > 2 * image[..., 1].astype(int) + 20).mean(), 0.2)
            pictures, _ = data.load(folder, 0.0)
            pixels = data.pixel_store(folder, cache, pictures)
            made = scenes.Scenes(pictures, pixels, None, [("nobody", 1.0)], things=store)
            for n in range(20):
                image, faces = made.sample(np.random.default_rng([4, n]), 96)
                self.assertEqual((image.shape, len(faces.boxes)), ((96, 96, 3), 0))

    def test_balls_and_drawings(self):
        for draw in (clutter._ball, clutter._drawn_face, clutter._skull):
            changed = []
            for n in range(20):
                image = np.full((80, 100, 3), 128, np.uint8)
                draw(image, np.random.default_rng(n), clutter.palette(np.random.default_rng(n)), np.float64([50, 40]), 32)
                changed.append((image != 128).any(2))
            self.assertTrue(all(c.mean() > 0.005 and not c[:3].any() and not c[:, :20].any() for c in changed))
            for x, y in ((-200, 40), (50, 500), (-5, -5), (99, 79)):
                draw(image, np.random.default_rng(1), lambda: [1, 2, 3], np.float64([x, y]), 40)

    def test_still_lives(self):
        for n in range(20):
            image = clutter.still_life(np.random.default_rng(n), 96, clutter.palette(np.random.default_rng(n)))
            self.assertEqual((image.shape, image.dtype), ((96, 96, 3), np.uint8))
            self.assertGreater(image.astype(float).std(), 3)

    def test_narrow_faces(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make(folder)
            pictures, _ = data.load(folder, 0.0)
            pixels = data.pixel_store(folder, os.path.join(folder, "cache"), pictures)
            ratios = []
            for narrow in (0.0, 1.0):
                made = scenes.Scenes(pictures, pixels, None, [("crop", 1.0)], narrow)
                boxes = np.concatenate([made.sample(np.random.default_rng([2, n]), 128)[1].boxes for n in range(60)])
                inside = boxes[(boxes > 1).all(1) & (boxes < 127).all(1)]
                ratios.append(np.median((inside[:, 2] - inside[:, 0]) / (inside[:, 3] - inside[:, 1])))
            self.assertLess(ratios[1], 0.85 * ratios[0])

    def test_a_run_stops_and_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make(folder)
            out = os.path.join(folder, "out")
            command = ["train.py", folder, "--out", out, "--variant", "0.5g-kps", "--sides", "64", "--batch", "2", "--workers", "0",
                       "--threads", "2", "--device", "cpu", "--samples"]
            argv = sys.argv
            try:
                for extra in (["8", "--until", "4"], ["8", "--resume"], ["4", "--teacher", os.path.join(out, "last.pth"),
                              "--teacher-variant", "0.5g-kps", "--out", os.path.join(folder, "pupil")]):
                    sys.argv = command + extra
                    train.main()
            finally:
                sys.argv = argv
            state = network.load_checkpoint(os.path.join(out, "last.pth"))
            self.assertTrue(all(torch.isfinite(v.float()).all() for v in state.values()))
            self.assertEqual(torch.load(os.path.join(out, "last.pth"))["samples"], 8)

    def run_two(self, command, message=None):
        """As torchrun does, which PyTorch 1.13 has broken under Python 3.11. Both are to succeed, or fail with a message."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        environment = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "training"), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        two = [subprocess.Popen([sys.executable, *command], env={**environment, "RANK": rank, "LOCAL_RANK": rank},
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True) for rank in "01"]
        for process in two:
            _, said = process.communicate(timeout=300)
            self.assertEqual(process.returncode, 1 if message else 0, said)
            self.assertIn(message or "", said)

    def test_two_processes_train_one_network(self):
        """Their gradients are averaged (so both hold the same weights), and one of them writes."""
        check = """
import torch, team
two = team.Team()
two.join("cpu")
parameters = [torch.zeros(n, requires_grad=True) for n in (3, 2, 4)]
for p in parameters[::2]:
    p.grad = torch.arange(float(len(p))) * (1 + 2 * two.rank)
two.average(parameters)
assert parameters[1].grad is None
assert all(torch.equal(p.grad, 2 * torch.arange(float(len(p)))) for p in parameters[::2])
assert two.share(range(4, 10)) == range(4 + two.rank, 10 + two.rank, 2)
"""
        with tempfile.TemporaryDirectory() as folder:
            self.make(folder)
            out, script = os.path.join(folder, "out"), os.path.join(folder, "check.py")
            with open(script, "w", encoding="utf-8") as f:
                f.write(check)
            training = [os.path.join(ROOT, "training", "train.py"), folder, "--out", out, "--variant", "0.5g-kps", "--sides", "64",
                        "--workers", "0", "--device", "cpu", "--samples", "9", "--batch"]
            self.run_two([script])
            self.run_two(training + ["3"], "--batch: 3 samples cannot be shared by 2 processes")
            self.run_two(training + ["4"])
            self.assertEqual(torch.load(os.path.join(out, "last.pth"))["samples"], 8)
            with open(os.path.join(out, "log.txt"), encoding="utf-8") as f:
                self.assertEqual([line.split()[0] for line in f], ["12", "done:"])

    def test_one_process_is_a_team(self):
        with mock.patch.dict(os.environ):
            for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
                os.environ.pop(name, None)
            one = team.Team()
            self.assertEqual((one.join("cuda"), one.share(range(5))), ("cuda", range(5)))

    def test_fine_tuning_from_what_is_shipped(self):
        """Half-precision checkpoint -> a short run -> a model file that says what it is."""
        with tempfile.TemporaryDirectory() as folder:
            self.make(folder)
            first, small, tuned, file = (os.path.join(folder, n) for n in ("first.pth", "small.pth", "tuned", "mine.safetensors"))
            torch.save({"state_dict": network.DamoFD("0.5g-kps").state_dict()}, first)
            commands = (["export.py", first, small, "--variant", "0.5g-kps"],
                        ["train.py", folder, "--init", small, "--rate", "2e-4", "--samples", "4", "--batch", "2", "--sides", "64",
                         "--variant", "0.5g-kps", "--workers", "0", "--device", "cpu", "--threads", "2", "--out", tuned],
                        ["export.py", os.path.join(tuned, "last.pth"), file, "--variant", "0.5g-kps", "--score", "0.4", "--licence", "mine"])
            for script, *arguments in commands:
                subprocess.run([sys.executable, os.path.join(ROOT, "training", script), *arguments], check=True, stdout=subprocess.DEVNULL)
            self.assertLess(os.path.getsize(small), 0.6 * os.path.getsize(first))
            with open(file, "rb") as f:
                header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
            description = json.loads(header.pop("__metadata__")["libdetect"])
            self.assertEqual((description["variant"], description["score"], description["licence"]), ("0.5g-kps", 0.4, "mine"))
            self.assertEqual({t["dtype"] for t in header.values() if len(t["shape"]) == 4}, {"F16"})

    def test_the_mean_of_checkpoints(self):
        with tempfile.TemporaryDirectory() as folder:
            a, b, out = (os.path.join(folder, n) for n in ("a.pth", "b.pth", "mean.pth"))
            for path in (a, b):
                torch.save({"state_dict": network.DamoFD("0.5g-kps").state_dict()}, path)
            subprocess.run([sys.executable, os.path.join(ROOT, "training", "export.py"), a, b, out, "--variant", "0.5g-kps", "--full"], check=True)
            first, second, got = (network.load_checkpoint(path) for path in (a, b, out))
            self.assertFalse(all(torch.equal(first[k], second[k]) for k in got))
            for k in got:
                torch.testing.assert_close(got[k], (first[k] + second[k]) / 2, rtol=1e-6, atol=1e-7)

    def test_the_schedule(self):
        self.assertLess(train.rate_at(0, 50000, 1.0), 0.01)
        self.assertAlmostEqual(train.rate_at(train.WARM_UP, 50000, 1.0), 1.0)
        self.assertAlmostEqual(train.rate_at(10000, 10000, 1.0), train.LAST_RATE)
        self.assertAlmostEqual(train.rate_at(400, 4000, 1.0), 1.0)       # a short run warms up for a tenth of it
        self.assertEqual(train.shares("crop:0.6,nobody"), [("crop", 0.6), ("nobody", 1.0)])
        self.assertRaises(ValueError, scenes.Scenes, [], {}, None, [("crowds", 1.0)])
        self.assertEqual(train.shares(""), [])
        side_at = train.stages("64:0.5,96:0.5", 1000, 10)
        self.assertEqual([side_at(n) for n in (0, 499, 500, 999, 1200)], [64, 64, 96, 96, 96])


if __name__ == "__main__":
    unittest.main()
