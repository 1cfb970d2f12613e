"""Reading and writing .safetensors: what is written is read back, and nothing malformed is read."""

import json
import os
import struct
import tempfile
import unittest
from typing import Any, Dict

import numpy as np
import support
from libdetect import safetensors
from libdetect.errors import ConvertError


def file_of(header: Dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: str, shape: Any, begin: Any, end: Any) -> Dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Reading(unittest.TestCase):
    def test_every_type(self) -> None:
        for kind, dtype in (
            ("F64", "<f8"),
            ("F32", "<f4"),
            ("F16", "<f2"),
            ("I64", "<i8"),
            ("I32", "<i4"),
            ("U8", "u1"),
        ):
            values = np.array([[1, 2, 3], [4, 5, 100]], dtype)
            tensors, metadata = safetensors.decode(
                file_of({"a": entry(kind, [2, 3], 0, values.nbytes)}, values.tobytes())
            )
            np.testing.assert_array_equal(tensors["a"], values)
            self.assertEqual((tensors["a"].dtype, metadata), (values.dtype, {}))

    def test_bfloat16_is_the_upper_half_of_float32(self) -> None:
        values = np.array([1.0, -2.5, 0.15625, 3.0e38], "<f4")
        upper = (values.view("<u4") >> 16).astype("<u2")
        tensors, _ = safetensors.decode(file_of({"a": entry("BF16", [4], 0, 8)}, upper.tobytes()))
        np.testing.assert_array_equal(tensors["a"], (values.view("<u4") & 0xFFFF0000).view("<f4"))

    def test_refuses(self) -> None:
        four = b"\0" * 4
        bad = {
            "no entry": {"a": 1},
            "unknown type": {"a": entry("F7", [1], 0, 4)},
            "type not text": {"a": entry([], [1], 0, 4)},  # type: ignore[arg-type]
            "negative size": {"a": entry("F32", [-1], 0, 4)},
            "true as size": {"a": entry("F32", [True], 0, 4)},
            "shape too large": {"a": entry("F32", [2], 0, 4)},
            "huge shape": {"a": entry("F32", [2**40, 2**40], 0, 4)},
            "beyond the end": {"a": entry("F32", [2], 0, 8)},
            "end before begin": {"a": entry("F32", [1], 4, 0)},
            "gap before": {"a": entry("U8", [3], 1, 4)},
            "bytes left over": {"a": entry("U8", [3], 0, 3)},
            "overlap": {"a": entry("U8", [4], 0, 4), "b": entry("U8", [2], 2, 4)},
            "extra key": {"a": dict(entry("F32", [1], 0, 4), more=1)},
            "metadata not text": {"__metadata__": {"x": 1}, "a": entry("F32", [1], 0, 4)},
            "too many": {str(i): entry("U8", [0], 0, 0) for i in range(safetensors.MAX_TENSORS + 1)},
        }
        for what, header in bad.items():
            with self.subTest(what), self.assertRaises(ConvertError):
                safetensors.decode(file_of(header, four))
        good, _ = safetensors.decode(file_of({"a": entry("F32", [1], 0, 4)}, four))
        self.assertEqual(good["a"].shape, (1,))

    def test_refuses_bad_headers(self) -> None:
        for what, data in {
            "empty": b"",
            "not JSON": struct.pack("<Q", 2) + b"{x",
            "not an object": struct.pack("<Q", 2) + b"[]",
            "key twice": struct.pack("<Q", 15) + b'{"a":{},"a":{}}',
            "deep": struct.pack("<Q", 100000) + b"[" * 100000,
            "too long": struct.pack("<Q", safetensors.MAX_HEADER_BYTES + 1) + b" " * (safetensors.MAX_HEADER_BYTES + 1),
            "length of the universe": struct.pack("<Q", 2**64 - 1) + b"{}",
        }.items():
            with self.subTest(what), self.assertRaises(ConvertError):
                safetensors.decode(data)

    def test_truncated_or_damaged_files_never_surprise(self) -> None:
        values = np.arange(6, dtype="<f4")
        data = file_of({"__metadata__": {"k": "v"}, "a": entry("F32", [2, 3], 0, 24)}, values.tobytes())
        for length in range(len(data)):
            with self.subTest(length=length), self.assertRaises(ConvertError):
                safetensors.decode(data[:length])
        for damaged in support.mutations(data, 3000, seed=1):
            try:
                safetensors.decode(damaged)
            except ConvertError:
                pass


class Writing(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = os.path.join(self.folder.name, "out.safetensors")

    def test_replaces_files_alone(self) -> None:
        pipe, link = os.path.join(self.folder.name, "pipe"), os.path.join(self.folder.name, "link")
        tensors = {"a": np.zeros((1,), np.float32)}
        os.mkfifo(pipe)
        with self.assertRaisesRegex(ConvertError, "no regular file"):
            safetensors.write(pipe, tensors, {})
        self.assertFalse(os.path.isfile(pipe))
        os.symlink(self.path, link)
        safetensors.write(link, tensors, {})
        self.assertTrue(os.path.islink(link) and os.path.isfile(self.path))

    def test_round_trip(self) -> None:
        random = np.random.default_rng(0)
        tensors = {
            "half": random.standard_normal((3, 1, 1, 1)).astype("<f2"),  # six bytes: what follows would be unaligned
            "scalar": np.float32(2.5).reshape(()),
            "weights": random.standard_normal((4, 3, 3, 3)).astype("<f4"),
            "strided": random.standard_normal((6, 4)).astype("<f4")[::2, ::-1],
        }
        safetensors.write(self.path, tensors, {"libdetect": "{\u00e9}"})
        with open(self.path, "rb") as file:
            data = file.read()
        read, metadata = safetensors.decode(data)
        self.assertEqual(metadata, {"libdetect": "{\u00e9}"})
        self.assertEqual(set(read), set(tensors))
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(read[name], tensor)
            self.assertEqual((read[name].dtype, read[name].shape), (tensor.dtype, tensor.shape))
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        self.assertEqual(length % 8, 0)
        for name, tensor in tensors.items():
            self.assertEqual(header[name]["data_offsets"][0] % tensor.itemsize, 0, name)

    def test_same_input_same_bytes(self) -> None:
        tensors = {name: np.ones(3, np.float32) for name in "zyx"}
        safetensors.write(self.path, tensors, {})
        safetensors.write(self.path + "2", tensors, {})
        with open(self.path, "rb") as first, open(self.path + "2", "rb") as second:
            self.assertEqual(first.read(), second.read())

    def test_refuses_and_leaves_nothing_behind(self) -> None:
        one = np.ones(1, np.float32)
        for what, tensors in {
            "not a number": {"a": one * np.nan},
            "infinite": {"a": one * np.inf},
            "double": {"a": one.astype(np.float64)},
            "empty": {"a": np.ones((0, 2), np.float32)},
            "five dimensions": {"a": one.reshape(1, 1, 1, 1, 1)},
            "long name": {"a" * (safetensors.MAX_NAME_BYTES + 1): one},
            "no name": {"": one},
            "too many": {str(i): one for i in range(safetensors.MAX_TENSORS + 1)},
        }.items():
            with self.subTest(what), self.assertRaises(ConvertError):
                safetensors.write(self.path, tensors, {})
        with self.assertRaises(OSError):
            safetensors.write(os.path.join(self.folder.name, "none", "x"), {"a": one}, {})
        self.assertEqual(os.listdir(self.folder.name), [])
        safetensors.write(self.path, {"a" * safetensors.MAX_NAME_BYTES: one}, {})
        self.assertEqual(os.listdir(self.folder.name), ["out.safetensors"])


if __name__ == "__main__":
    unittest.main()
