"""Checkpoints that mean harm without being damaged: small files that ask for much time, memory or stack."""

import struct
import unittest
from typing import Any

import numpy as np
import support
from libdetect import checkpoint, pickle_reader, safetensors
from libdetect.errors import ConvertError
from support import Name, TorchWriter, module, onnx_model, onnx_node, torch_legacy, torch_zip, view

FLOATS = np.arange(12, dtype="<f4").reshape(3, 4)


def names_of(text: str) -> Any:
    nodes = [onnx_node("Relu", ["images"], ["y"])]
    return checkpoint._decode(onnx_model(nodes, [], names=text)).class_names


class Names(unittest.TestCase):
    def test_as_exporters_write_them(self) -> None:
        for names in ({0: "cat", 1: "it's", 2: 'a "dog"'}, ["a\\b", "\u00e9\n", ""], ("one",), {1: "b", 0: "a"}):
            expected = [names[i] for i in range(len(names))]
            self.assertEqual(names_of(str(names)), expected)
        self.assertEqual(names_of(" {0: 'a' , 1:\"b\",} "), ["a", "b"])

    def test_anything_else_is_none(self) -> None:
        for text in ("", "{}", "5", "{0: 'a', 2: 'b'}", "{'a': 0}", "['a' 'b']", "{0: 'a'", "[f'a']", "['\\x']", "['a', 5]",
                     "{0: ['a']}", "[0: 'a']", "{'a', 'b'}", "(('a',),)"):  # fmt: skip
            self.assertIsNone(names_of(text), text)

    def test_literals_that_end_an_interpreter(self) -> None:
        for text in ("1+" * 200_000 + "1", "[" + "1+" * 200_000 + "1]", "{" * 150 + "}" * 150, "[" * 100_000, "-" * 100_000 + "1"):
            self.assertIsNone(names_of(text))


class Pickles(unittest.TestCase):
    def assertRefused(self, data: bytes, pattern: str) -> None:
        with self.assertRaisesRegex(ConvertError, pattern):
            checkpoint._decode(data)

    def test_a_text_encoded_again_and_again(self) -> None:
        text = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\0" + b"0"
        call = b"c_codecs\nencode\nh\0\x85R"
        handlers = {"_codecs.encode": lambda text: text.encode()}
        with self.assertRaisesRegex(ConvertError, "calls take more than"):
            pickle_reader.load(b"\x80\x02" + text + b"(" + call * 1000 + b"t.", handlers, lambda pid: None)

    def test_modules_that_share_their_children(self) -> None:
        """60 modules, each with the next one twice: 2^60 of them to who does not count."""
        shared: Any = module("a.Leaf", {"w": FLOATS})
        writer = TorchWriter()
        pickled = writer.encode(shared) + b"q\0"
        for _ in range(60):
            state = b"}(" + writer.encode("_modules") + b"}(" + writer.encode("a") + b"h\0" + writer.encode("b") + b"h\0" + b"uu"
            pickled += b"0" + b"ca\nNode\n)R" + state + b"bq\0"
        self.assertRefused(torch_zip({"a": FLOATS}, pickled=b"\x80\x02" + pickled + b"."), "more than 100000 modules")

    def test_storages_of_any_size(self) -> None:
        data = torch_legacy({"a": FLOATS})
        for count in (13, 1 << 31, (1 << 62) + 12, (1 << 63) - 1):
            changed = data.replace(TorchWriter().encode(12), TorchWriter().encode(count), 1)
            self.assertNotEqual(changed, data)
            self.assertRefused(changed, "")

    def test_strides_of_any_size(self) -> None:
        def read(shape: Any, strides: Any) -> np.ndarray:
            return checkpoint._decode(torch_zip(Strided(shape, strides))).tensors["a"]

        np.testing.assert_array_equal(read((1, 3), (1 << 70, 1)), [[0, 1, 2]])
        self.assertEqual(read((0, 1 << 62), (1 << 62, 1 << 62)).size, 0)

    def test_deep_metadata(self) -> None:
        header = b'{"__metadata__":{"libdetect":"' + b"[" * 100_000 + b'"}}'
        self.assertRefused(struct.pack("<Q", len(header)) + header, "not a JSON object")
        header = b'{"a":' + b"[" * 100_000
        with self.assertRaisesRegex(ConvertError, "not JSON"):
            safetensors.decode(struct.pack("<Q", len(header)) + header)


class Strided(dict):  # type: ignore[type-arg]
    """A state dict with one tensor of that shape and those strides; its storage is made as it is written."""

    def __init__(self, shape: Any, strides: Any) -> None:
        super().__init__()
        self.shape, self.strides = shape, strides

    def items(self) -> Any:
        pid = ("storage", Name("torch", "FloatStorage"), "0", "cpu", 12)
        return [("a", view(support.Persistent(pid), 0, self.shape, self.strides)), ("b", FLOATS)]


if __name__ == "__main__":
    unittest.main()
