"""Conversion: what is folded equals what was published, and every network is found by its tensors alone."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import golden_model
import numpy as np
import published
import support
from libdetect import checkpoint, convert, families, folding, safetensors
from libdetect.checkpoint import Checkpoint
from libdetect.errors import ConvertError
from support import torch_zip

Tensors = Dict[str, np.ndarray]


def layout(arch: str, n_classes: int = 80) -> Any:
    """The layout of a published variant."""
    return next(net for family in families.FAMILIES for net in family.layouts(n_classes) if net.arch == arch)


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
    gamma, beta, mean, var = (tensors[f"{name}.{part}"].astype(np.float64)[:, None, None] for part in folding._NORM_PARTS)
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
                self.assertEqual(families.recognise(Checkpoint(tensors), manifest["arch"]).layout.arch, manifest["arch"])

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
        np.testing.assert_array_equal(families.recognise(Checkpoint(raw)).tensors["model.24.anchors"], raw["model.24.anchors"])

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
            net = layout(f"damo-yolo-{variant}")
            count = sum(int(np.prod(shape)) for shape in net.shapes.values())
            norms = sum(net.shapes[f"{name}.weight"][0] for name in net.convs if not name.startswith("head."))
            self.assertAlmostEqual((count + norms) / 1e6, millions, delta=0.01 * millions)

    def test_trained_and_deployed(self) -> None:
        for variant, deployed in (("ns", False), ("t", False), ("t", True), ("m", False)):
            net = layout(f"damo-yolo-{variant}", n_classes=3)
            raw = published.damo_yolo(net.shapes, net.convs, deployed)
            with self.subTest(variant, deployed=deployed):
                found = families.recognise(Checkpoint({f"module.{name}": tensor for name, tensor in raw.items()}))
                self.assertEqual((found.layout.arch, found.n_classes), (f"damo-yolo-{variant}", 3))
        names = families.recognise(Checkpoint(published.damo_yolo(*_of("damo-yolo-ns"), False))).tensors
        for name in (
            "backbone.block_list.0.conv.weight", "backbone.block_list.5.block_list.1.conv2.bias",
            "backbone.block_list.5.block_list.2.conv.7.weight", "neck.merge_3.convs.0.conv.conv.6.weight",
            "neck.bu_conv13.depthwise.weight", "head.scales.0.scale",
        ):  # fmt: skip
            self.assertIn(name, names)

    def test_rep_conv_is_folded(self) -> None:
        raw = published.damo_yolo(*_of("damo-yolo-t"), False)
        found = families.recognise(Checkpoint(raw)).tensors
        name = "neck.merge_5.convs.2.conv2"
        x = np.random.default_rng(0).standard_normal((raw[f"{name}.rbr_dense.conv.weight"].shape[1], 4, 4))
        expected = sum(
            batch_norm(conv2d(x, raw[f"{name}.{branch}.conv.weight"], None), raw, f"{name}.{branch}.bn")
            for branch in ("rbr_dense", "rbr_1x1")
        )
        np.testing.assert_allclose(conv2d(x, found[f"{name}.weight"], found[f"{name}.bias"]), expected, rtol=1e-4, atol=1e-5)


def _of(arch: str) -> Tuple[Dict[str, Tuple[int, ...]], List[str]]:
    net = layout(arch)
    return net.shapes, net.convs


def folded(arch: str, n_classes: int = 80) -> Tensors:
    """A YOLO whose BatchNorms are merged already, as deployed checkpoints have it; random."""
    net = layout(arch, n_classes)
    tensors = published.random_tensors(net.shapes, seed=1)
    return {_published_name(name): tensor for name, tensor in tensors.items()}


def _published_name(name: str) -> str:
    """Every layer has its convolution inside, but the last ones of the detection layer."""
    layer, _, part = name.rpartition(".")
    last = re.search(r"\.cv[23]\.[012]\.2$", layer) or layer.startswith("model.24")
    return name if last else f"{layer}.conv.{part}"


class Yolo(unittest.TestCase):
    def test_both_forms_of_yolo11_attention(self) -> None:
        forms = [net for net in families.FAMILIES[-1].layouts(80) if net.arch == "yolo11l"]
        self.assertEqual(len(forms), 2)
        parameters = []
        for net in forms:
            norms = sum(net.shapes[f"{name}.weight"][0] for name in net.convs)
            last = sum(net.shapes[f"model.23.{part}.{level}.2.weight"][0] for part in ("cv2", "cv3") for level in range(3))
            # with BatchNorms, and with the 16 constants of the last layer
            parameters.append(sum(int(np.prod(shape)) for shape in net.shapes.values()) + norms - last + 16)
        self.assertEqual(parameters, [25_372_160, 25_898_496])  # the first as published

    def test_any_number_of_classes(self) -> None:
        for arch in ("yolov5n", "yolov8n", "yolo11n"):
            for count in (1, 3, 120):
                found = families.recognise(Checkpoint(folded(arch, count)))
                self.assertEqual((found.layout.arch, found.n_classes), (arch, count))

    def test_other_widths_and_depths_are_custom(self) -> None:
        tensors = folded("yolov8n")
        deeper = dict(tensors)
        deeper.update({name.replace("model.4.m.1.", "model.4.m.2."): t for name, t in tensors.items() if "model.4.m.1." in name})
        pruned = dict(tensors)
        pruned["model.2.m.0.cv1.conv.weight"] = tensors["model.2.m.0.cv1.conv.weight"][:5]
        pruned["model.2.m.0.cv1.conv.bias"] = tensors["model.2.m.0.cv1.conv.bias"][:5]
        pruned["model.2.m.0.cv2.conv.weight"] = tensors["model.2.m.0.cv2.conv.weight"][:, :5]
        for variant in (deeper, pruned):
            found = families.recognise(Checkpoint(variant))
            self.assertEqual((found.layout.arch, found.n_classes), ("yolov8-custom", 80))
            self.assertEqual(len(found.tensors), len(variant))
        eleven = folded("yolo11s")
        eleven["model.10.m.1.ffn.0.conv.weight"] = eleven["model.10.m.0.ffn.0.conv.weight"]
        with self.assertRaisesRegex(ConvertError, "model.10.m.1"):
            families.recognise(Checkpoint(eleven))

    def test_names_what_is_wrong(self) -> None:
        tensors = folded("yolov8n")
        missing = {name: tensor for name, tensor in tensors.items() if name != "model.9.cv1.conv.weight"}
        cases = {
            "missing: model.9.cv1.weight": missing,
            "unexpected: model.9.extra": {**tensors, "model.9.extra": np.zeros(2, np.float32)},
            r"model.0.weight \[16, 3, 5, 5\]": {**tensors, "model.0.conv.weight": np.zeros((16, 3, 5, 5), np.float32)},
            "segmentation": {**tensors, "model.22.proto.cv1.conv.weight": np.zeros((1, 1, 1, 1), np.float32)},
            "pose": {**tensors, "model.22.cv4.0.0.conv.weight": np.zeros((1, 1, 1, 1), np.float32)},
            "classification": {"model.0.conv.weight": np.zeros((1, 1, 1, 1)), "model.9.linear.weight": np.zeros((2, 2))},
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
        silu = Checkpoint(folded("yolov5n"), module_classes={"torch.nn.modules.activation.SiLU", "models.common.Conv"})
        self.assertEqual(families.recognise(silu).layout.arch, "yolov5n")
        relu = Checkpoint(folded("yolov5n"), module_classes={"torch.nn.modules.activation.ReLU"})
        with self.assertRaisesRegex(ConvertError, "ReLU"):
            families.recognise(relu)

    def test_constant_bins_must_be_constant(self) -> None:
        name = "model.22.dfl.conv.weight"
        bins = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
        self.assertEqual(families.recognise(Checkpoint({**folded("yolov8n"), name: bins})).layout.arch, "yolov8n")
        with self.assertRaisesRegex(ConvertError, "dfl"):
            families.recognise(Checkpoint({**folded("yolov8n"), name: bins + 1}))


class Onnx(unittest.TestCase):
    def convert(self, data: bytes) -> Any:
        return families.recognise(checkpoint._decode(data))

    def exported(self, arch: str, named: bool, order: Optional[List[str]] = None) -> Tuple[bytes, Tensors]:
        net = layout(arch)
        tensors = published.random_tensors(net.shapes, seed=2)
        weights = {
            conv: _published_name(f"{conv}.weight") if named else f"onnx::Conv_{i}" for i, conv in enumerate(net.convs)
        }
        factors: Tensors = {}
        if "model.24.anchors" in tensors:
            tensors["model.24.anchors"] = np.abs(tensors["model.24.anchors"]) + np.arange(1, 4).reshape(3, 1, 1).astype("<f4")
            for level in (1, 2, 0):  # exporters fold the stride in, and repeat the anchors for every cell
                pixels = tensors["model.24.anchors"][level] * (8 << level)
                grid = np.broadcast_to(pixels[None, :, None, None], (1, 3, 4, 4, 2))
                factors[f"grid{level}"] = np.ascontiguousarray(grid, "<f4")
        data = published.onnx_export(tensors, order or net.convs, net.scales, weights, factors, names="{0: 'only'}")
        return data, tensors

    def test_numbered_names_in_the_order_of_the_graph(self) -> None:
        for arch in ("scrfd-500m-kps", "scrfd-2.5g-kps", "damo-yolo-ns", "damo-yolo-t", "yolov5n", "yolov8n", "yolo11n"):
            data, tensors = self.exported(arch, named=False)
            found = self.convert(data)
            self.assertEqual(found.layout.arch, arch)
            self.assertEqual(set(found.tensors), set(tensors))
            for name, tensor in tensors.items():
                np.testing.assert_allclose(found.tensors[name], tensor, rtol=1e-6, err_msg=name)

    def test_kept_names_in_any_order(self) -> None:
        for arch in ("yolov5n", "yolov8n"):
            order = list(layout(arch).convs)
            order[2], order[3] = order[3], order[2]
            data, tensors = self.exported(arch, True, order)
            found = self.convert(data)
            self.assertEqual(found.layout.arch, arch)
            for name, tensor in tensors.items():
                np.testing.assert_allclose(found.tensors[name], tensor, rtol=1e-6, err_msg=name)
            self.assertEqual(checkpoint._decode(data).class_names, ["only"])

    def test_names_overrule_shapes(self) -> None:
        """Two convolutions of one shape that change places: the order fits, the names say that it is another's."""
        order = list(layout("yolov8n").convs)
        first, second = order.index("model.2.m.0.cv1"), order.index("model.2.m.0.cv2")
        order[first], order[second] = order[second], order[first]
        data, tensors = self.exported("yolov8n", True, order)
        found = self.convert(data)
        np.testing.assert_array_equal(found.tensors["model.2.m.0.cv1.weight"], tensors["model.2.m.0.cv1.weight"])

    def test_says_when_it_is_impossible(self) -> None:
        order = list(layout("yolov8n").convs)
        order[2], order[3] = order[3], order[2]
        with self.assertRaisesRegex(ConvertError, "63 convolutions, 63 without a name"):
            self.convert(self.exported("yolov8n", False, order)[0])
        data, _ = self.exported("yolov5n", named=False)
        with self.assertRaisesRegex(ConvertError, "anchors"):
            self.convert(data.replace(b"grid0_out", b"grid0_ou1").replace(b"grid0", b"dirg0", 1))


class CommandLine(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.target = str(self.folder / "out.safetensors")

    def run_main(self, *arguments: str) -> Tuple[int, str, str]:
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                code = convert.main(arguments)
            except SystemExit as stop:  # argparse
                code = int(stop.code or 0)
        return code, out.getvalue(), error.getvalue()

    def file(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def yolo(self) -> str:
        return self.file("mine.pt", torch_zip({"model": folded("yolov8n", 2), "names": ["cat", "dog"], "license": "mine"}))

    def description(self, path: Optional[str] = None) -> Dict[str, Any]:
        _, metadata = safetensors.decode(Path(path or self.target).read_bytes())
        self.assertEqual(set(metadata), {"libdetect"})
        return json.loads(metadata["libdetect"])

    def test_writes_a_complete_description(self) -> None:
        source = self.yolo()
        code, out, error = self.run_main(source, self.target)
        self.assertEqual((code, error), (0, ""))
        self.assertRegex(out, r"^mine.pt -> .*: yolov8n, 640x640, 2 classes, \d+ parameters, \d+ bytes\n$")
        self.assertEqual(
            self.description(),
            {
                "format": 1, "family": "yolov8", "variant": "n", "input": [640, 640], "resize": "letterbox-centre",
                "pad": 114, "mean": 0, "scale": 1 / 255, "score": 0.25, "iou": 0.7, "multi_label": False,
                "max_objects": 300, "classes": ["cat", "dog"], "landmarks": 0, "licence": "mine", "source": "mine.pt",
                "source_sha256": checkpoint.read(source).sha256,
            },
        )  # fmt: skip

    def test_options(self) -> None:
        classes = self.file("classes.txt", "\u00e9t\u00e9\n\n  zwei \n".encode())
        options = ["--classes", classes, "--input", "320x256", "--licence", "free", "--half", "--arch", "yolov8n"]
        code, _, error = self.run_main(self.yolo(), self.target, *options)
        self.assertEqual((code, error), (0, ""))
        description = self.description()
        self.assertEqual(description["classes"], ["\u00e9t\u00e9", "zwei"])
        self.assertEqual((description["input"], description["licence"]), ([320, 256], "free"))
        tensors, _ = safetensors.decode(Path(self.target).read_bytes())
        self.assertEqual({tensor.dtype.str for tensor in tensors.values() if tensor.ndim == 4}, {"<f2"})
        self.assertEqual({tensor.dtype.str for tensor in tensors.values() if tensor.ndim == 1}, {"<f4"})
        expected = folded("yolov8n", 2)["model.0.conv.weight"]
        np.testing.assert_array_equal(tensors["model.0.weight"], expected.astype("<f2"))

    def test_a_model_file_passes_through(self) -> None:
        self.run_main(self.yolo(), self.target)
        again = str(self.folder / "again.safetensors")
        self.assertEqual(self.run_main(self.target, again)[0], 0)
        self.assertEqual(Path(again).read_bytes(), Path(self.target).read_bytes())
        self.assertEqual(self.run_main(self.target, again, "--input", "64x32", "--half")[0], 0)
        self.assertEqual(self.description(again), {**self.description(), "input": [64, 32]})
        self.assertLess(os.path.getsize(again), 0.55 * os.path.getsize(self.target))
        self.assertEqual(self.run_main(self.target, again, "--arch", "yolov8s")[0], 3)

    def test_defaults_of_every_family(self) -> None:
        self.assertEqual(
            {
                (family.name, family.defaults(net.variant).input_size[0], len(family.default_classes(80)),
                 family.n_landmarks(net.variant), family.defaults(net.variant).multi_label)
                for family in families.FAMILIES for net in family.layouts(80)
            },
            {
                ("damofd", 640, 1, 0, False), ("damofd", 640, 1, 5, False), ("scrfd", 640, 1, 5, False),
                ("damo-yolo", 416, 80, 0, True), ("damo-yolo", 640, 80, 0, True), ("yolov5", 640, 80, 0, False),
                ("yolov8", 640, 80, 0, False), ("yolo11", 640, 80, 0, False),
            },
        )  # fmt: skip
        names = families.FAMILIES[-1].default_classes(80)
        self.assertEqual((len(set(names)), names[0], names[37], names[79]), (80, "person", "surfboard", "toothbrush"))
        self.assertEqual(families.FAMILIES[-1].default_classes(2), ["class0", "class1"])

    def test_wrong_usage(self) -> None:
        source = self.yolo()
        for options in (
            [], ["--input", "33x32"], ["--input", "0x0"], ["--input", "big"], ["--arch", "yolov9"],
            ["--classes", "/none"], ["--classes", self.file("empty", b"\n")], ["--nonsense"],
        ):  # fmt: skip
            arguments = [source, self.target, *options] if options else [source]
            with self.subTest(options):
                self.assertEqual(self.run_main(*arguments)[0], 2)
        self.assertFalse(os.path.exists(self.target))

    def test_unusable_checkpoints(self) -> None:
        broken = folded("yolov8n", 2)
        broken["model.0.conv.bias"][0] = np.nan
        large = folded("yolov8n", 2)
        large["model.0.conv.weight"][0] = 1e6
        for what, source, options in (
            ("none", str(self.folder / "none"), []),
            ("a folder", str(self.folder), []),
            ("text", self.file("a.pt", b"hello"), []),
            ("not finite", self.file("b.pt", torch_zip(broken)), []),
            ("too large for half", self.file("c.pt", torch_zip(large)), ["--half"]),
            ("another network", self.yolo(), ["--arch", "yolov5n"]),
            ("too few names", self.yolo(), ["--classes", self.file("one", b"cat")]),
        ):
            with self.subTest(what):
                code, out, error = self.run_main(source, self.target, *options)
                self.assertEqual((code, out), (3, ""))
                self.assertEqual(error.count("\n"), 1)
                self.assertFalse(os.path.exists(self.target))
        code, _, error = self.run_main(self.yolo(), str(self.folder / "none" / "out"))
        self.assertEqual((code, error.count("\n")), (3, 1))

    def test_names_that_are_no_text(self) -> None:
        for names in (["cat", "d\0g"], ["cat", "\ud800"], ["cat", "a\nb"]):
            data = torch_zip({"model": folded("yolov8n", 2), "names": ["cat", "dog"]})
            checked = Checkpoint(checkpoint._decode(data).tensors, class_names=names)
            with self.assertRaisesRegex(ConvertError, "class 1"):
                convert.convert(checked, self.target)

    def test_works_without_the_c_library(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(support.ROOT / "bindings" / "python"), "LIBDETECT_LIBRARY": "/none"}
        command = [sys.executable, "-m", "libdetect.convert", self.yolo(), self.target]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


@support.needs_models
class RealCheckpoints(unittest.TestCase):
    EXPECTED = {
        "yolov8n.pt": ("yolov8n", 80, "dining table"),
        "yolov5n_v7.0.pt": ("yolov5n", 80, "dining table"),
        "scrfd_500m_kps.onnx": ("scrfd-500m-kps", 1, None),
        "scrfd_2.5g_kps.onnx": ("scrfd-2.5g-kps", 1, None),
        "first_try_damofd_2.5g_kps.pth": ("damofd-2.5g-kps", 1, None),
    }

    def test_convert(self) -> None:
        for name, (arch, n_classes, class_60) in self.EXPECTED.items():
            found = checkpoint.read(str(support.MODELS / name))
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                network = families.recognise(found)
                self.assertEqual((network.layout.arch, network.n_classes), (arch, n_classes))
                self.assertEqual(found.class_names and found.class_names[60], class_60)
                convert.convert(found, os.path.join(folder, "out"))

    def test_shared_bias_of_scrfd(self) -> None:
        """The exporter stored one of two equal biases, under the name of the other layer."""
        network = families.recognise(checkpoint.read(str(support.MODELS / "scrfd_2.5g_kps.onnx")))
        np.testing.assert_array_equal(
            network.tensors["neck.downsample_convs.1.bias"], network.tensors["neck.fpn_convs.2.bias"]
        )

    def test_others_are_refused(self) -> None:
        for name, pattern in (
            ("retinaface_mobilenet0.25.pth", "300 tensors, body.stage1.0.0.weight"),
            ("yunet_n_640_640.onnx", "59 convolutions"),
        ):
            with self.assertRaisesRegex(ConvertError, pattern):
                families.recognise(checkpoint.read(str(support.MODELS / name)))


if __name__ == "__main__":
    unittest.main()
