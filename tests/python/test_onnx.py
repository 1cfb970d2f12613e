"""Reading .onnx: values and shapes in every way that exporters store them, and one clear error for damage."""

import importlib.util
import struct
import unittest
from typing import Any, List

import numpy as np
import support
from libdetect import onnx_reader
from libdetect.errors import ConvertError
from libdetect.families import graph as graphs
from support import field, onnx_model, onnx_node, onnx_tensor

FLOATS = np.arange(6, dtype="<f4").reshape(2, 3) - 2.5
WEIGHT = np.arange(24, dtype="<f4").reshape(2, 3, 2, 2)


#: A BatchNorm's gamma, beta, mean and variance.
NORM_VALUES = np.array([[2, 3], [-1, 1], [0.5, -0.25], [4, 0.75]], "<f4")
NORM = [onnx_tensor(f"n{i}", values) for i, values in enumerate(NORM_VALUES)]


def norm_node(source: str, *more_outputs: str, eps: float = 1e-3) -> bytes:
    attribute = field(5, field(1, "epsilon") + bytes([2 << 3 | 5]) + struct.pack("<f", eps))
    inputs = [source] + [f"n{i}" for i in range(4)]
    return onnx_node("BatchNormalization", inputs, ["z", *more_outputs], "bn", attribute)


def packed(number: int, values: Any, form: str) -> bytes:
    return field(number, struct.pack(f"<{len(values)}{form}", *values))


def tensor(code: int, data: bytes, dims: Any = (2, 3)) -> np.ndarray:
    proto = b"".join(field(1, size) for size in dims) + field(2, code) + field(8, "t") + data
    return onnx_reader.decode(onnx_model([onnx_node("Relu", ["x"], ["y"])], [proto])).constants["t"]


def ints(values: Any) -> List[int]:
    return [int(value) for value in values]


class Tensors(unittest.TestCase):
    def test_every_storage(self) -> None:
        flat = FLOATS.reshape(-1)
        halves = flat.astype("<f2")
        unpacked = b"".join(bytes([4 << 3 | 5]) + struct.pack("<f", value) for value in flat)
        integers = np.array([1, -1, 2**40, 0, -(2**62), 7])
        cases = {
            "raw": (1, field(9, FLOATS.tobytes()), flat),
            "float_data packed": (1, packed(4, flat, "f"), flat),
            "float_data one by one": (1, unpacked, flat),
            "raw half": (10, field(9, halves.tobytes()), halves),
            "half as int32_data": (10, b"".join(field(5, int(bits)) for bits in halves.view("<u2")), halves),
            "double_data": (11, packed(10, flat, "d"), flat.astype("<f8")),
            "int64_data one by one": (7, b"".join(field(7, value) for value in ints(integers)), integers),
            "int64_data packed": (7, field(7, b"".join(support._varint(value) for value in ints(integers))), integers),
            "raw integers": (7, field(9, integers.astype("<i8").tobytes()), integers),
            "bfloat16": (16, field(9, (flat.view("<u4") >> 16).astype("<u2").tobytes()), flat),
        }
        for what, (code, data, expected) in cases.items():
            with self.subTest(what):
                read = tensor(code, data)
                np.testing.assert_array_equal(read, expected.reshape(2, 3))
                self.assertEqual(read.dtype, expected.dtype)
        self.assertEqual(tensor(1, field(9, struct.pack("<f", 3)), dims=()).shape, ())

    def test_refuses(self) -> None:
        for what, (code, data, dims) in {
            "too few bytes": (1, field(9, bytes(20)), (2, 3)),
            "too many": (1, field(9, bytes(28)), (2, 3)),
            "none": (1, b"", (2, 3)),
            "half an element": (1, field(4, bytes(23)), (2, 3)),
            "huge shape": (1, field(9, bytes(24)), (2**40, 2**40)),
            "negative size": (1, field(9, bytes(24)), (-2, -3)),
            "another file": (1, field(14, 1), (2, 3)),
            "number where bytes belong": (1, field(9, 5), (2, 3)),
        }.items():
            with self.subTest(what), self.assertRaises(ConvertError):
                tensor(code, data, dims)


class Graph(unittest.TestCase):
    def test_nodes_inputs_and_metadata(self) -> None:
        attributes = field(5, field(1, "group") + field(3, 4)) + field(5, field(1, "pads") + field(8, 1) + field(8, -1))
        model = onnx_model(
            [onnx_node("Conv", ["x", "w", ""], ["y"], "c", attributes)], [], (64, 32), names="{0: 'cat'}"
        )
        graph = onnx_reader.decode(model)
        self.assertEqual(graph.inputs, {"images": [1, 3, 32, 64]})
        self.assertEqual(graph.metadata, {"names": "{0: 'cat'}"})
        (node,) = graph.nodes
        self.assertEqual((node.op, node.name, node.inputs, node.outputs), ("Conv", "c", ["x", "w", ""], ["y"]))
        self.assertEqual(node.attributes, {"group": 4, "pads": [1, -1]})

    def test_constant_nodes_and_identity(self) -> None:
        constant = onnx_node("Constant", [], ["k"], "", field(5, field(1, "value") + field(5, onnx_tensor("", WEIGHT))))
        same = onnx_node("Identity", ["k"], ["w"])
        conv = onnx_node("Conv", ["images", "w"], ["y"], "/model.2/m.0/m.0.1/cv1/conv/Conv")
        graph = onnx_reader.decode(onnx_model([constant, same, conv], []))
        (found,) = graphs.convolutions(graph)
        np.testing.assert_array_equal(found.weight, WEIGHT)
        np.testing.assert_array_equal(found.bias, [0, 0])
        self.assertEqual(found.name, "model.2.m.0.1.cv1.conv")

    def test_names_of_layers(self) -> None:
        for weight, node, expected in (
            ("model.0.conv.weight", "Conv_0", "model.0.conv"),
            ("onnx::Conv_12", "/model.22/cv2.0/cv2.0.1/conv/Conv", "model.22.cv2.0.1.conv"),
            ("onnx::Conv_12", "/model.24/m.0/Conv", "model.24.m.0"),
            ("555", "Conv_0", ""),
            ("555", "", ""),
        ):
            graph = onnx_reader.decode(
                onnx_model([onnx_node("Conv", ["x", weight], ["y"], node)], [onnx_tensor(weight, WEIGHT)])
            )
            self.assertEqual(graphs.convolutions(graph)[0].name, expected)

    def test_bin_mean_is_no_layer(self) -> None:
        mean = np.arange(16, dtype="<f4").reshape(1, 16, 1, 1)
        for weight, count in ((mean, 0), (mean + 1, 1)):
            model = onnx_model([onnx_node("Conv", ["x", "w"], ["y"])], [onnx_tensor("w", weight)])
            self.assertEqual(len(graphs.convolutions(onnx_reader.decode(model))), count)

    def test_graphs_that_cannot_be_used(self) -> None:
        weight = onnx_tensor("w", WEIGHT)
        for what, nodes, tensors in (
            ("quantised", [onnx_node("DequantizeLinear", ["q"], ["w"]), onnx_node("Conv", ["x", "w"], ["y"])], []),
            ("no weight", [onnx_node("Conv", ["x"], ["y"])], []),
            ("integer weight", [onnx_node("Conv", ["x", "w"], ["y"])], [onnx_tensor("w", WEIGHT.astype("<i8"))]),
            ("computed bias", [onnx_node("Conv", ["x", "w", "b"], ["y"])], [weight]),
            ("short bias", [onnx_node("Conv", ["x", "w", "b"], ["y"])], [weight, onnx_tensor("b", FLOATS[0])]),
            ("BatchNorm alone", [onnx_node("Conv", ["x", "w"], ["y"]), norm_node("x")], [weight, *NORM]),
            ("computed BatchNorm", [onnx_node("Conv", ["x", "w"], ["y"]), norm_node("y")], [weight, *NORM[:3]]),
            ("training", [onnx_node("Conv", ["x", "w"], ["y"]), norm_node("y", "mean", "var")], [weight, *NORM]),
            ("epsilon of none", [onnx_node("Conv", ["x", "w"], ["y"]), norm_node("y", eps=0.0)], [weight, *NORM]),
        ):
            with self.subTest(what), self.assertRaises(ConvertError):
                graphs.convolutions(onnx_reader.decode(onnx_model(nodes, tensors)))

    def test_batch_norm_is_merged(self) -> None:
        nodes = [onnx_node("Conv", ["x", "w", "b"], ["y"]), norm_node("y", eps=0.5)]
        tensors = [onnx_tensor("w", WEIGHT), onnx_tensor("b", FLOATS[0, :2]), *NORM]
        (found,) = graphs.convolutions(onnx_reader.decode(onnx_model(nodes, tensors)))
        factor = NORM_VALUES[0] / np.sqrt(NORM_VALUES[3] + 0.5)
        np.testing.assert_allclose(found.weight, WEIGHT * factor[:, None, None, None], rtol=1e-6)
        np.testing.assert_allclose(found.bias, (FLOATS[0, :2] - NORM_VALUES[2]) * factor + NORM_VALUES[1], rtol=1e-6)

    def test_damage(self) -> None:
        attributes = field(5, field(1, "pads") + field(8, 1))
        contents = [onnx_node("Conv", ["images", "w"], ["y"], "c", attributes)], [onnx_tensor("w", WEIGHT)]
        model = onnx_model(*contents, a="b")
        for length in range(len(model)):
            with self.subTest(length=length):
                if length == len(onnx_model(*contents)):  # the metadata is gone, all else is there
                    onnx_reader.decode(model[:length])
                else:
                    self.assertRaises(ConvertError, onnx_reader.decode, model[:length])
        for damaged in support.mutations(model, 3000, seed=3):
            try:
                graphs.convolutions(onnx_reader.decode(damaged))
            except ConvertError:
                pass
        for data in (b"\x08", b"\x08" + b"\xff" * 20, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b", b"\x08\x01", field(7, 5)):
            with self.assertRaises(ConvertError):
                onnx_reader.decode(data)

    def test_limits(self) -> None:
        with self.assertRaisesRegex(ConvertError, "more than"):
            onnx_reader.decode(onnx_model([b""] * (onnx_reader.MAX_NODES + 1), []))


@support.needs_models
@unittest.skipUnless(importlib.util.find_spec("onnx"), "the onnx package is not installed")
class AgainstOnnx(unittest.TestCase):
    def test_same_as_the_onnx_package(self) -> None:
        import onnx
        from onnx import numpy_helper

        files = sorted(support.MODELS.glob("*.onnx"))
        self.assertTrue(files)
        for path in files:
            theirs = onnx.load(str(path)).graph
            ours = onnx_reader.decode(path.read_bytes())
            for initialiser in theirs.initializer:
                expected = numpy_helper.to_array(initialiser)
                np.testing.assert_array_equal(ours.constants[initialiser.name], expected)
                self.assertEqual(ours.constants[initialiser.name].shape, expected.shape)
            nodes = [node for node in theirs.node if node.op_type != "Constant"]
            self.assertEqual([node.op for node in ours.nodes], [node.op_type for node in nodes])
            self.assertEqual([node.inputs for node in ours.nodes], [list(node.input) for node in nodes])
            self.assertEqual([node.outputs for node in ours.nodes], [list(node.output) for node in nodes])


if __name__ == "__main__":
    unittest.main()
