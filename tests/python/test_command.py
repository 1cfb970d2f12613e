"""The converter as a command, on exported graphs, and on real checkpoints."""

import contextlib
import io
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

import numpy as np
import published
import support
from libdetect import checkpoint, convert, families, safetensors
from libdetect.checkpoint import Checkpoint
from libdetect.errors import ConvertError
from published import Tensors, folded, layout, published_name
from support import torch_zip


class Onnx(unittest.TestCase):
    def convert(self, data: bytes) -> Any:
        return families.recognise(checkpoint._decode(data))

    def exported(
        self, arch: str, named: bool, order: Optional[List[str]] = None, any_size: bool = False, **more: Any
    ) -> Tuple[bytes, Tensors]:
        net = layout(arch)
        tensors = published.random_tensors(net.shapes, seed=2)
        weights = {
            conv: published_name(f"{conv}.weight") if named else f"onnx::Conv_{i}" for i, conv in enumerate(net.convs)
        }
        factors: Tensors = {}
        if "model.24.anchors" in tensors:
            tensors["model.24.anchors"] = np.abs(tensors["model.24.anchors"]) + np.arange(1, 4).reshape(3, 1, 1).astype(
                "<f4"
            )
            cells = 1 if any_size else 4
            for level in (1, 2, 0):  # exporters fold the stride in, and repeat the anchors for every cell
                pixels = tensors["model.24.anchors"][level] * (8 << level)
                grid = np.broadcast_to(pixels[None, :, None, None], (1, 3, cells, cells, 2))
                factors[f"grid{level}"] = np.ascontiguousarray(grid, "<f4")
        more["names"] = "{0: 'only'}"
        data = published.onnx_export(net, tensors, order or net.convs, weights, factors, any_size, **more)
        return data, tensors

    def test_numbered_names_in_the_order_of_the_graph(self) -> None:
        for arch in (
            "scrfd-500m-kps",
            "scrfd-2.5g-kps",
            "damo-yolo-ns",
            "damo-yolo-t",
            "yolov5n",
            "yolov8n",
            "yolo11n",
        ):
            data, tensors = self.exported(arch, named=False)
            found = self.convert(data)
            self.assertEqual(found.layout.arch, arch)
            self.assertEqual(set(found.tensors), set(tensors))
            for name, tensor in tensors.items():
                np.testing.assert_allclose(found.tensors[name], tensor, rtol=1e-6, err_msg=name)

    def test_numbered_names_with_all_boxes_before_the_classes(self) -> None:
        for arch in ("yolov8n", "yolo11n"):
            convs = layout(arch).convs
            classes = [conv for conv in convs if re.match(r"model\.2[23]\.cv3\.", conv)]
            order = [conv for conv in convs if conv not in classes] + classes
            data, tensors = self.exported(arch, False, order, node_name="")
            found = self.convert(data)
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(found.tensors[name], tensor, err_msg=name)

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

    def test_anchors_of_a_graph_for_any_size(self) -> None:
        data, tensors = self.exported("yolov5n", named=True, any_size=True)
        found = self.convert(data).tensors["model.24.anchors"]
        np.testing.assert_allclose(found, tensors["model.24.anchors"], rtol=1e-6)

    def test_numbers_restore_the_order(self) -> None:
        """A simplifier sorts a graph anew; PyTorch's numbers, in the names of nodes, stay."""
        for arch in ("scrfd-2.5g-kps", "damo-yolo-t"):
            order = sorted(layout(arch).convs)
            data, tensors = self.exported(arch, False, order)
            found = self.convert(data)
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(found.tensors[name], tensor, err_msg=name)

    def test_factors_of_named_convolutions_in_any_order(self) -> None:
        data, tensors = self.exported("damo-yolo-ns", True, sorted(layout("damo-yolo-ns").convs), node_name="")
        found = self.convert(data)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found.tensors[name], tensor, err_msg=name)

    def test_branches_that_nothing_tells_apart(self) -> None:
        siblings = {"siblings": ["neck.merge_4.conv2"]}  # reads what conv1 reads, and has its shape
        for known in ({"named": True, "node_name": ""}, {"named": False}):
            self.convert(self.exported("damo-yolo-ns", **known, **siblings)[0])
        with self.assertRaisesRegex(ConvertError, "convolutions 43 and 44 have one shape and no names"):
            self.convert(self.exported("damo-yolo-ns", False, node_name="", **siblings)[0])

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
            self.convert(self.exported("yolov8n", False, order, node_name="")[0])
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
        return self.file(
            "mine.pt", torch_zip({"model": folded("yolov8n", 2), "names": ["cat", "dog"], "license": "mine"})
        )

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

    def test_one_class(self) -> None:
        source = self.file("one.pt", torch_zip({"model": folded("yolov8n", 1), "names": ["cat"]}))
        self.assertIn(", 640x640, 1 class, ", self.run_main(source, self.target)[1])

    def test_without_numpy(self) -> None:
        """One line: numpy's own message is a page, and Python's a traceback."""
        self.file("numpy.py", b"raise ModuleNotFoundError(\"No module named 'numpy'\")")
        path = os.pathsep.join([str(self.folder), str(support.ROOT / "bindings" / "python")])
        done = subprocess.run(
            [sys.executable, "-m", "libdetect.convert", "in.pt", self.target], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        said = "libdetect: numpy cannot be loaded: No module named 'numpy'\n"
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, "", said))

    def test_options(self) -> None:
        classes = self.file("classes.txt", "\u00e9t\u00e9\n\n  zwei \n".encode())
        options = ["--classes", classes, "--input", "320x256", "--licence", "free", "--half", "--arch", "yolov8n"]
        options += ["--score", "0.4"]
        code, _, error = self.run_main(self.yolo(), self.target, *options)
        self.assertEqual((code, error), (0, ""))
        description = self.description()
        self.assertEqual(description["classes"], ["\u00e9t\u00e9", "zwei"])
        self.assertEqual((description["input"], description["licence"]), ([320, 256], "free"))
        self.assertEqual((description["score"], description["iou"]), (0.4, 0.7))
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
            ["--score", "1.1"], ["--score", "nan"], ["--score", "high"],
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

    def test_files_beside_the_target_are_left_alone(self) -> None:
        source, others = self.yolo(), {name: self.folder / name for name in ("out.safetensors.part", ".part")}
        for path in others.values():
            path.write_bytes(b"another's")
        before = set(self.folder.iterdir())
        self.assertEqual(self.run_main(source, self.target)[0], 0)
        self.assertEqual(set(self.folder.iterdir()), {*before, Path(self.target)})
        written = Path(self.target).read_bytes()
        with mock.patch.object(os, "replace", side_effect=OSError(28, "No space left on device")):
            code, _, error = self.run_main(source, self.target, "--half")
        self.assertEqual((code, error.count("\n")), (3, 1))
        self.assertIn("No space left on device", error)
        self.assertEqual(set(self.folder.iterdir()), {*before, Path(self.target)})
        self.assertEqual(Path(self.target).read_bytes(), written)
        self.assertEqual({path.read_bytes() for path in others.values()}, {b"another's"})

    def test_no_name_is_taken_from_another(self) -> None:
        """A name that is there already is not opened, whatever lies under it."""
        source = self.yolo()
        with mock.patch.object(secrets, "token_hex", return_value="taken"):
            taken = self.folder / ".libdetect-taken.part"
            taken.symlink_to(self.folder / "elsewhere")
            self.assertEqual(self.run_main(source, self.target)[0], 3)
        self.assertTrue(taken.is_symlink())
        self.assertFalse((self.folder / "elsewhere").exists() or os.path.exists(self.target))

    def test_damaged_descriptions(self) -> None:
        self.run_main(self.yolo(), self.target)
        tensors, _ = safetensors.decode(Path(self.target).read_bytes())
        for change in (
            {"input": "x"},
            {"input": [640]},
            {"input": [640.0, 640]},
            {"classes": 3},
            {"classes": [1, 2]},
            {"score": "high"},
            {"score": float("nan")},
            {"multi_label": 0},
            {"licence": None},
            {"family": "yolov12"},
            {"family": []},
        ):
            description = json.dumps({**self.description(), **change})
            damaged = str(self.folder / "damaged")
            safetensors.write(damaged, tensors, {"libdetect": description})
            with self.subTest(change):
                code, _, error = self.run_main(damaged, str(self.folder / "never"))
                self.assertEqual((code, error.count("\n")), (3, 1))

    def test_licences_are_made_text(self) -> None:
        found = Checkpoint(folded("yolov8n", 2), licence="a\0b\ud800c\u00e9", class_names=["\u200d", "dog"])
        convert.convert(found, self.target)
        self.assertEqual(self.description()["licence"], "a?b?c\u00e9")
        self.assertEqual(self.description()["classes"], ["\u200d", "dog"])

    def test_names_that_are_no_text(self) -> None:
        for names in (["cat", "d\0g"], ["cat", "\ud800"], ["cat", "a\nb"]):
            data = torch_zip({"model": folded("yolov8n", 2), "names": ["cat", "dog"]})
            checked = Checkpoint(checkpoint._decode(data).tensors, class_names=names)
            with self.assertRaisesRegex(ConvertError, "class 1"):
                convert.convert(checked, self.target)

    def test_works_without_the_c_library(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(support.ROOT / "bindings" / "python"),
            "LIBDETECT_LIBRARY": "/none",
        }
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
