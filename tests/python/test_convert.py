"""Conversion: what is folded equals what was published, and every network is found by its tensors alone."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Dict, Optional, Tuple

import golden_model
import numpy as np
import published
import support
from libdetect import families, folding
from libdetect.checkpoint import Checkpoint
from libdetect.errors import ConvertError

Tensors = Dict[str, np.ndarray]


def conv2d(x: np.ndarray, weight: np.ndarray, bias: Optional[np.ndarray], groups: int = 1) -> np.ndarray:
    """A "same" convolution of stride 1, in double precision, by its definition. x is c x h x w."""
    c_out, _, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2))).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    windows = windows.reshape((groups, -1) + windows.shape[1:])
    kernels = weight.reshape((groups, c_out // groups) + weight.shape[1:]).astype(np.float64)
    y = np.einsum("gchwij,gocij->gohw", windows, kernels).reshape((c_out,) + x.shape[1:])
    return y if bias is None else y + bias[:, None, None]


def batch_norm(x: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    """BatchNorm with eps 1e-3, by its definition."""
    gamma, beta, mean, var = (
        tensors[f"{name}.{part}"].astype(np.float64)[:, None, None] for part in folding._NORM_PARTS
    )
    return (x - mean) / np.sqrt(var + 1e-3) * gamma + beta


class Folding(unittest.TestCase):
    def test_by_hand(self) -> None:
        weight = np.array([[[[2.0]]], [[[-1.0]]]])
        norm = tuple(np.array(values) for values in ([3.0, 0.5], [1.0, -1.0], [0.5, 2.0], [3.0, 0.0]))
        folded, bias = folding.batch_norm(weight, None, norm, eps=1.0)
        # factors 3 / sqrt(4) and 0.5 / sqrt(1)
        np.testing.assert_allclose(folded.ravel(), [3.0, -0.5])
        np.testing.assert_allclose(bias, [1.0 - 0.5 * 1.5, -1.0 - 2.0 * 0.5])
        _, bias = folding.batch_norm(weight, np.array([4.0, 2.0]), norm, eps=1.0)
        np.testing.assert_allclose(bias, [1.0 + 3.5 * 1.5, -1.0])

    def test_small_variance_needs_double_precision(self) -> None:
        norm = tuple(np.array([value], np.float32) for value in (1e-6, 1.0, 1e4, 1e-12))
        weight, bias = folding.batch_norm(np.full((1, 1, 1, 1), 1e3, np.float32), None, norm, 1e-3)
        self.assertAlmostEqual(bias[0], 1.0 - 1e4 * float(np.float32(1e-6)) / np.sqrt(1e-3 + 1e-12), 12)
        self.assertEqual(weight.dtype, np.float64)

    def test_rep_conv_equals_its_branches(self) -> None:
        shapes: Dict[str, Tuple[int, ...]] = {}
        for branch, k in (("rbr_dense", 3), ("rbr_1x1", 1)):
            shapes[f"a.{branch}.conv.weight"] = (4, 3, k, k)
            shapes.update({f"a.{branch}.bn.{part}": (4,) for part in folding._NORM_PARTS})
        raw = published.random_tensors(shapes, seed=0)
        raw.update({name: np.abs(tensor) for name, tensor in raw.items() if name.endswith("running_var")})
        folded = folding.fold(raw, lambda layer: None, lambda layer: layer, 1e-3)
        x = np.random.default_rng(1).standard_normal((3, 5, 6))
        expected = sum(
            batch_norm(conv2d(x, raw[f"a.{branch}.conv.weight"], None), raw, f"a.{branch}.bn")
            for branch in ("rbr_dense", "rbr_1x1")
        )
        self.assertEqual(set(folded), {"a.weight", "a.bias"})
        np.testing.assert_allclose(conv2d(x, folded["a.weight"], folded["a.bias"]), expected, rtol=1e-5, atol=1e-6)

    def test_refuses(self) -> None:
        weight, one = np.ones((2, 1, 1, 1), np.float32), np.ones(2, np.float32)
        norm = {f"b.{part}": one for part in folding._NORM_PARTS}
        for what, tensors in {
            "part missing": {key: value for key, value in norm.items() if key != "b.bias"},
            "other channels": {**norm, "b.weight": np.ones(3, np.float32)},
            "negative variance": {**norm, "b.running_var": -one},
        }.items():
            with self.subTest(what), self.assertRaises(ConvertError):
                folding.fold({"a.weight": weight, **tensors}, lambda layer: "b", lambda layer: layer, 1e-3)
        with self.assertRaisesRegex(ConvertError, "two tensors"):
            folding.fold({"a.weight": weight, "b.weight": weight}, lambda layer: None, lambda layer: "c", 1e-3)


@support.needs_golden
class Golden(unittest.TestCase):
    def test_every_manifest_is_recognised(self) -> None:
        folders = sorted(path.parent for path in support.GOLDEN.glob("*/manifest.json"))
        self.assertGreaterEqual(len(folders), 23)
        for folder in folders:
            manifest = json.loads((folder / "manifest.json").read_text())
            tensors: Tensors = {}
            for entry in manifest["tensors"]:
                if entry["role"] == "const":
                    tensors[entry["name"]] = np.array(entry["value"], np.float32).reshape(entry["shape"])
                else:  # any finite value will do, and zeros cost nothing
                    tensors[entry["name"]] = np.zeros(entry["shape"], np.float32)
            with self.subTest(manifest["arch"]):
                network = families.recognise(Checkpoint(tensors))
                self.assertEqual(network.layout.arch, manifest["arch"])
                self.assertEqual(
                    families.recognise(Checkpoint(tensors), manifest["arch"]).layout.arch, manifest["arch"]
                )

    def test_folded_layers_equal_the_published_ones(self) -> None:
        """A few layers of three networks, each computed both ways on random input."""
        random = np.random.default_rng(3)
        for folder, layers in (
            ("damofd-0.5g-kps", {"backbone.1.0.3": ("backbone.module_list.1.module_list.0.module_list.3.netblock",
                                                    "backbone.module_list.1.module_list.0.module_list.4.netblock"),
                                 "backbone.1.0.proj": ("backbone.module_list.1.module_list.0.proj.0",
                                                       "backbone.module_list.1.module_list.0.proj.1"),
                                 "neck.fpn_convs.1": ("neck.fpn_convs.1.conv", None)}),
            ("yolov5n", {"model.1": ("model.1.conv", "model.1.bn"), "model.24.m.1": ("model.24.m.1", None),
                         "model.17.m.0.cv2": ("model.17.m.0.cv2.conv", "model.17.m.0.cv2.bn")}),
            ("yolo11n", {"model.10.m.0.attn.pe": ("model.10.m.0.attn.pe.conv", "model.10.m.0.attn.pe.bn"),
                         "model.23.cv3.1.0.0": ("model.23.cv3.1.0.0.conv", "model.23.cv3.1.0.0.bn")}),
        ):  # fmt: skip
            raw = golden_model.published(str(support.GOLDEN / folder)).tensors
            network = families.recognise(Checkpoint(raw))
            for name, (conv, norm) in layers.items():
                weight = raw[f"{conv}.weight"]
                groups = weight.shape[0] if weight.shape[1] == 1 else 1
                x = random.standard_normal((weight.shape[1] * groups, 6, 5))
                expected = conv2d(x, weight, raw.get(f"{conv}.bias"), groups)
                if norm is not None:
                    expected = batch_norm(expected, raw, norm)
                found = conv2d(x, network.tensors[f"{name}.weight"], network.tensors[f"{name}.bias"], groups)
                with self.subTest(folder, layer=name):
                    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_kept_as_published(self) -> None:
        raw = golden_model.published(str(support.GOLDEN / "damofd-0.5g")).tensors
        folded = families.recognise(Checkpoint(raw)).tensors
        np.testing.assert_array_equal(
            folded["bbox_head.cls_stride_convs.0.1.depthwise_conv.gn.bias"],
            raw["bbox_head.cls_stride_convs.0.1.depthwise_conv.gn.bias"],
        )
        self.assertEqual(folded["bbox_head.scales.2.scale"], raw["bbox_head.scales.2.scale"])
        self.assertEqual(folded["bbox_head.scales.2.scale"].shape, ())
        raw = golden_model.published(str(support.GOLDEN / "yolov5n")).tensors
        np.testing.assert_array_equal(
            families.recognise(Checkpoint(raw)).tensors["model.24.anchors"], raw["model.24.anchors"]
        )

    def test_golden_model_leaves_only_its_output(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(golden_model.__file__).resolve()
            target = os.path.join(folder, "out.safetensors")
            command = [sys.executable, str(program), str(support.GOLDEN / "damofd-0.5g"), target]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(os.listdir(folder), ["out.safetensors"])


class DamoYolo(unittest.TestCase):
    """There is no manifest of DAMO-YOLO: the published sizes stand in for one."""

    # README of the authors, millions; before folding, hence a little more than a model file holds
    PUBLISHED = {"ns": 1.41, "nm": 2.71, "nl": 5.69, "t": 8.5, "s": 16.3, "m": 28.2, "l": 42.1}

    def test_sizes_are_the_published_ones(self) -> None:
        for variant, millions in self.PUBLISHED.items():
            net = published.layout(f"damo-yolo-{variant}")
            count = sum(int(np.prod(shape)) for shape in net.shapes.values())
            norms = sum(net.shapes[f"{name}.weight"][0] for name in net.convs if not name.startswith("head."))
            self.assertAlmostEqual((count + norms) / 1e6, millions, delta=0.01 * millions)

    def test_trained_and_deployed(self) -> None:
        for variant, deployed in (("ns", False), ("t", False), ("t", True), ("m", False)):
            net = published.layout(f"damo-yolo-{variant}", n_classes=3)
            raw = published.damo_yolo(net, deployed)
            with self.subTest(variant, deployed=deployed):
                found = families.recognise(Checkpoint({f"module.{name}": tensor for name, tensor in raw.items()}))
                self.assertEqual((found.layout.arch, found.n_classes), (f"damo-yolo-{variant}", 3))
        names = families.recognise(Checkpoint(published.damo_yolo(published.layout("damo-yolo-ns"), False))).tensors
        for name in (
            "backbone.block_list.0.conv.weight", "backbone.block_list.5.block_list.1.conv2.bias",
            "backbone.block_list.5.block_list.2.conv.7.weight", "neck.merge_3.convs.0.conv.conv.6.weight",
            "neck.bu_conv13.depthwise.weight", "head.scales.0.scale",
        ):  # fmt: skip
            self.assertIn(name, names)

    def test_rep_conv_is_folded(self) -> None:
        raw = published.damo_yolo(published.layout("damo-yolo-t"), False)
        found = families.recognise(Checkpoint(raw)).tensors
        name = "neck.merge_5.convs.2.conv2"
        x = np.random.default_rng(0).standard_normal((raw[f"{name}.rbr_dense.conv.weight"].shape[1], 4, 4))
        expected = sum(
            batch_norm(conv2d(x, raw[f"{name}.{branch}.conv.weight"], None), raw, f"{name}.{branch}.bn")
            for branch in ("rbr_dense", "rbr_1x1")
        )
        np.testing.assert_allclose(
            conv2d(x, found[f"{name}.weight"], found[f"{name}.bias"]), expected, rtol=1e-4, atol=1e-5
        )


class Yolo(unittest.TestCase):
    def test_both_forms_of_yolo11_attention(self) -> None:
        forms = [net for net in families.FAMILIES[-1].layouts(80) if net.arch == "yolo11l"]
        self.assertEqual(len(forms), 2)
        parameters = []
        for net in forms:
            norms = sum(net.shapes[f"{name}.weight"][0] for name in net.convs)
            last = sum(
                net.shapes[f"model.23.{part}.{level}.2.weight"][0] for part in ("cv2", "cv3") for level in range(3)
            )
            # with BatchNorms, and with the 16 constants of the last layer
            parameters.append(sum(int(np.prod(shape)) for shape in net.shapes.values()) + norms - last + 16)
        self.assertEqual(parameters, [25_372_160, 25_898_496])  # the first as published

    def test_any_number_of_classes(self) -> None:
        for arch in ("yolov5n", "yolov8n", "yolo11n"):
            for count in (1, 3, 120):
                found = families.recognise(Checkpoint(published.folded(arch, count)))
                self.assertEqual((found.layout.arch, found.n_classes), (arch, count))

    def test_other_widths_and_depths_are_custom(self) -> None:
        tensors = published.folded("yolov8n")
        deeper = dict(tensors)
        deeper.update(
            {name.replace("model.4.m.1.", "model.4.m.2."): t for name, t in tensors.items() if "model.4.m.1." in name}
        )
        pruned = dict(tensors)
        pruned["model.2.m.0.cv1.conv.weight"] = tensors["model.2.m.0.cv1.conv.weight"][:5]
        pruned["model.2.m.0.cv1.conv.bias"] = tensors["model.2.m.0.cv1.conv.bias"][:5]
        pruned["model.2.m.0.cv2.conv.weight"] = tensors["model.2.m.0.cv2.conv.weight"][:, :5]
        for variant in (deeper, pruned):
            found = families.recognise(Checkpoint(variant))
            self.assertEqual((found.layout.arch, found.n_classes), ("yolov8-custom", 80))
            self.assertEqual(len(found.tensors), len(variant))
        eleven = published.folded("yolo11s")
        eleven["model.10.m.1.ffn.0.conv.weight"] = eleven["model.10.m.0.ffn.0.conv.weight"]
        with self.assertRaisesRegex(ConvertError, "model.10.m.1"):
            families.recognise(Checkpoint(eleven))

    def test_names_what_is_wrong(self) -> None:
        tensors = published.folded("yolov8n")
        missing = {name: tensor for name, tensor in tensors.items() if name != "model.9.cv1.conv.weight"}
        cases = {
            "missing: model.9.cv1.weight": missing,
            "unexpected: model.9.extra": {**tensors, "model.9.extra": np.zeros(2, np.float32)},
            r"model.0.weight \[16, 3, 5, 5\]": {**tensors, "model.0.conv.weight": np.zeros((16, 3, 5, 5), np.float32)},
            "segmentation": {**tensors, "model.22.proto.cv1.conv.weight": np.zeros((1, 1, 1, 1), np.float32)},
            "pose": {**tensors, "model.22.cv4.0.0.conv.weight": np.zeros((1, 1, 1, 1), np.float32)},
            "classification": {
                "model.0.conv.weight": np.zeros((1, 1, 1, 1)),
                "model.9.linear.weight": np.zeros((2, 2)),
            },
            "detection layer": {name: tensor for name, tensor in tensors.items() if not name.startswith("model.22")},
        }
        for pattern, case in cases.items():
            with self.assertRaisesRegex(ConvertError, pattern):
                families.recognise(Checkpoint(case))

    def test_unknown_network(self) -> None:
        tensors = {f"body.{i}.weight": np.zeros((1, 1, 1, 1), np.float32) for i in range(9)}
        with self.assertRaisesRegex(ConvertError, r"9 tensors, body.0.weight, .* and 3 more"):
            families.recognise(Checkpoint(tensors))

    def test_other_activations(self) -> None:
        silu = Checkpoint(
            published.folded("yolov5n"), module_classes={"torch.nn.modules.activation.SiLU", "models.common.Conv"}
        )
        self.assertEqual(families.recognise(silu).layout.arch, "yolov5n")
        relu = Checkpoint(published.folded("yolov5n"), module_classes={"torch.nn.modules.activation.ReLU"})
        with self.assertRaisesRegex(ConvertError, "ReLU"):
            families.recognise(relu)

    def test_constant_bins_must_be_constant(self) -> None:
        name = "model.22.dfl.conv.weight"
        bins = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
        self.assertEqual(
            families.recognise(Checkpoint({**published.folded("yolov8n"), name: bins})).layout.arch, "yolov8n"
        )
        with self.assertRaisesRegex(ConvertError, "dfl"):
            families.recognise(Checkpoint({**published.folded("yolov8n"), name: bins + 1}))


if __name__ == "__main__":
    unittest.main()
