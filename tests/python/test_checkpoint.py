"""Reading what torch.save wrote: the right values come out, nothing inside is ever run, damage is one clear error."""

import builtins
import io
import os
import pickle
import struct
import tempfile
import unittest
import warnings
import zipfile
import zlib
from typing import Any, Dict
from unittest import mock

import numpy as np
import support
from libdetect import checkpoint, pickle_reader, torch_file
from libdetect.errors import ConvertError
from support import Call, Name, TorchWriter, module, torch_legacy, torch_zip, view

FLOATS = np.arange(12, dtype="<f4").reshape(3, 4)
CONTAINERS = (torch_zip, torch_legacy)


class File(unittest.TestCase):
    """Tests that read a file from a folder of their own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def read(self, data: bytes) -> checkpoint.Checkpoint:
        path = os.path.join(self.folder, "weights.bin")
        with open(path, "wb") as file:
            file.write(data)
        return checkpoint.read(path)

    def tensors(self, data: bytes) -> Dict[str, np.ndarray]:
        return self.read(data).tensors

    def assertRefused(self, data: bytes, pattern: str = "") -> None:
        with self.assertRaisesRegex(ConvertError, pattern) as caught:
            self.read(data)
        self.assertNotIn("\n", str(caught.exception))


class Reading(File):
    def test_state_dicts_in_both_containers(self) -> None:
        state = {"a.weight": FLOATS, "half": FLOATS.astype("<f2"), "n": np.array(7, "<i8"), "epoch": 3}
        for container in CONTAINERS:
            for wrapped in (state, {"state_dict": state, "meta": {}}, {"model": state, "optimizer": None}):
                with self.subTest(container=container.__name__, keys=list(wrapped)):
                    tensors = self.tensors(container(wrapped))
                    self.assertEqual(set(tensors), {"a.weight", "half", "n"})
                    for name in tensors:
                        np.testing.assert_array_equal(tensors[name], state[name])
                        self.assertEqual(tensors[name].dtype, state[name].dtype)
                        self.assertEqual(tensors[name].shape, state[name].shape)

    def test_checksum_and_name(self) -> None:
        found = self.read(torch_zip({"a": FLOATS}))
        self.assertEqual(found.source, "weights.bin")
        self.assertRegex(found.sha256, "^[0-9a-f]{64}$")
        self.assertNotEqual(found.sha256, self.read(torch_zip({"a": FLOATS + 1})).sha256)

    def test_bfloat16(self) -> None:
        upper = (FLOATS.view("<u4") >> 16).astype("<u2")
        np.testing.assert_array_equal(self.tensors(torch_zip({"a": upper}))["a"], FLOATS)

    def test_strided_and_shared_storages(self) -> None:
        def build(storage: Any) -> Dict[str, Any]:
            return {
                "all": view(storage, 0, (3, 4), (4, 1)),
                "transposed": view(storage, 0, (4, 3), (1, 4)),
                "every_second": view(storage, 1, (3, 2), (4, 2)),
                "one": view(storage, 11, (), ()),
                "parameter": Call(Name("torch._utils", "_rebuild_parameter"), view(storage, 4, (4,), (1,)), True, {}),
            }

        writer = TorchWriter()
        data = writer.pickle(build(writer.storage(FLOATS.reshape(-1))))
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x/data.pkl", data)
            archive.writestr("x/data/0", FLOATS.tobytes())
        tensors = self.tensors(file.getvalue())
        np.testing.assert_array_equal(tensors["all"], FLOATS)
        np.testing.assert_array_equal(tensors["transposed"], FLOATS.T)
        np.testing.assert_array_equal(tensors["every_second"], FLOATS[:, 1::2])
        np.testing.assert_array_equal(tensors["one"], 11)
        np.testing.assert_array_equal(tensors["parameter"], FLOATS[1])
        self.assertTrue(all(tensor.flags.c_contiguous for tensor in tensors.values()))

    def test_modules(self) -> None:
        conv = module("torch.nn.modules.conv.Conv2d", {"weight": FLOATS, "bias": None})
        layer = module("models.common.Conv", {"table": FLOATS + 1}, {"conv": conv, "act": None})
        model = module("models.yolo.Model", {}, {"model": layer}, names={0: "cat", 1: "dog"})
        other = module("models.yolo.Model", {"wrong": FLOATS})
        for container in CONTAINERS:
            found = self.read(
                container({"model": other, "ema": model, "license": "free", "train_args": {"imgsz": 320}})
            )
            self.assertEqual(set(found.tensors), {"model.conv.weight", "model.table"})
            np.testing.assert_array_equal(found.tensors["model.table"], FLOATS + 1)
            self.assertEqual((found.class_names, found.licence, found.input_size), (["cat", "dog"], "free", (320, 320)))
            self.assertIn("torch.nn.modules.conv.Conv2d", found.module_classes)
        self.assertEqual(set(self.tensors(torch_zip({"model": other, "ema": None}))), {"wrong"})
        self.assertEqual(set(self.tensors(torch_zip(model))), {"model.conv.weight", "model.table"})

    def test_numpy_numbers(self) -> None:
        dtype = Call(Name("numpy", "dtype"), "f8", 0, 1, state=(3, "<", None, None, None, -1, -1, 0))
        scalar = Call(Name("numpy.core.multiarray", "scalar"), dtype, struct.pack("<d", 2.5))
        encoded = Call(Name("_codecs", "encode"), struct.pack("<d", -1.5).decode("latin1"), "latin1")
        older = Call(Name("numpy.core.multiarray", "scalar"), dtype, encoded)
        loaded = torch_file.load(torch_zip({"a": scalar, "b": older, "c": Call(Name("torch", "Size"), [1, 2])}))
        self.assertEqual(loaded, {"a": 2.5, "b": -1.5, "c": (1, 2)})

    def test_what_python_pickles_is_read_the_same(self) -> None:
        value = {
            "text": "na\u00efve", "bytes": b"\0\xff", "numbers": [0, -1, 255, 65536, -(2**70), 1.5, True, None],
            "nested": {("a", 1): [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}, "set": {1, 2}, "frozen": frozenset("ab"),
            "empty": [[], {}, set()], "array": bytearray(b"xy"),
        }  # fmt: skip
        value["again"] = value["nested"]
        for protocol in (2, 3, 4, 5):
            data = pickle.dumps(value, protocol)
            loaded = pickle_reader.load(data, {}, lambda pid: None)
            if protocol > 3:  # earlier ones spell sets as calls, and protocol 2 bytes
                self.assertEqual(loaded, {**value, "array": loaded["array"]})
            self.assertIs(loaded["again"], loaded["nested"])
            self.assertEqual(loaded["numbers"], value["numbers"])


class NothingRuns(File):
    """Every way that a pickle has to make Python do something."""

    def payloads(self, marker: str) -> Dict[str, bytes]:
        writer = TorchWriter()
        text, tuple1 = writer.encode, b"\x85"
        shell = f"touch {marker}"
        code = f"open({marker!r}, 'w').close()"
        getter = text(Call(Name("operator", "attrgetter"), "system"))
        return {
            "os.system": b"\x80\x02cos\nsystem\n" + text(shell) + tuple1 + b"R.",
            "posix.system": b"\x80\x02cposix\nsystem\n" + text(shell) + tuple1 + b"R.",
            "eval": b"\x80\x02cbuiltins\neval\n" + text(code) + tuple1 + b"R.",
            "python 2 eval": b"\x80\x02c__builtin__\neval\n" + text(code) + tuple1 + b"R.",
            "exec by name on the stack": b"\x80\x04"
            + text("builtins")
            + text("exec")
            + b"\x93"
            + text(code)
            + tuple1
            + b"R.",
            "new object": b"\x80\x02csubprocess\nPopen\n" + text(["touch", marker]) + tuple1 + b"\x81.",
            "new object with keywords": b"\x80\x04csubprocess\nPopen\n"
            + text((["touch", marker],))
            + text({"shell": False})
            + b"\x92.",
            "INST": b"(X" + struct.pack("<I", len(shell)) + shell.encode() + b"ios\nsystem\n.",
            "OBJ": b"(cos\nsystem\n" + text(shell) + b"o.",
            "result of a call": b"\x80\x02" + getter + b"cos\n__dict__\n\x85R" + text(shell) + tuple1 + b"R.",
            "state of a class": b"\x80\x02ccollections\nOrderedDict\n"
            + text({"__init__": Name("os", "system")})
            + b"b.",
            "hidden in the weights": writer.pickle({"a": FLOATS, "b": Call(Name("os", "system"), shell)}),
        }

    def test_payloads_would_work(self) -> None:
        """That the payloads are real: Python's own pickle runs the first of them."""
        marker = os.path.join(self.folder, "marker")
        pickle.loads(self.payloads(marker)["os.system"])
        self.assertTrue(os.path.exists(marker))
        os.unlink(marker)
        pickle.loads(self.payloads(marker)["eval"])
        self.assertTrue(os.path.exists(marker))

    def test_nothing_runs(self) -> None:
        marker = os.path.join(self.folder, "marker")
        called = mock.Mock()
        system = torch_legacy(0)[: -len(TorchWriter().pickle([])) - len(TorchWriter().pickle(0))]
        for what, payload in self.payloads(marker).items():
            for data in (torch_zip({"a": FLOATS}, pickled=payload), system + payload):
                with (
                    self.subTest(what),
                    mock.patch.object(os, "system", called),
                    mock.patch.object(builtins, "eval", called),
                ):
                    with mock.patch("subprocess.Popen", called), mock.patch.object(builtins, "exec", called):
                        try:
                            self.read(data)
                        except ConvertError as error:
                            self.assertNotIn("\n", str(error))
                self.assertFalse(os.path.exists(marker), what)
        called.assert_not_called()

    def test_a_class_with_reduce_is_inert(self) -> None:
        marker = os.path.join(self.folder, "marker")

        class Evil:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {marker}",)

        for protocol in range(2, 6):
            data = pickle.dumps({"model": Evil()}, protocol)
            loaded = pickle_reader.load(data, {}, lambda pid: None)
            self.assertIsInstance(loaded["model"], pickle_reader.Opaque)
            self.assertRegex(loaded["model"].factory.path, "^(posix|nt|os).system$")
            self.assertRefused(torch_zip(None, pickled=data), "no tensors")
        self.assertFalse(os.path.exists(marker))

    def test_tensors_beside_a_payload_are_read_and_it_stays_inert(self) -> None:
        marker = os.path.join(self.folder, "marker")
        data = torch_zip({"a": FLOATS, "b": Call(Name("os", "system"), f"touch {marker}")})
        np.testing.assert_array_equal(self.tensors(data)["a"], FLOATS)
        self.assertFalse(os.path.exists(marker))


class Damage(File):
    def test_truncated_anywhere(self) -> None:
        for container in CONTAINERS:
            data = container({"a": FLOATS, "b": FLOATS[:2]})
            for length in range(len(data)):
                with self.subTest(container=container.__name__, length=length):
                    self.assertRefused(data[:length])

    def test_changed_bytes_are_an_error_or_harmless(self) -> None:
        for container in CONTAINERS:
            model = module("models.yolo.Model", {"w": FLOATS}, {"m": module("a.B", {"x": FLOATS})}, names=["cat"])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pickletools, of escapes in text
                for damaged in support.mutations(container({"model": model, "ema": None}), 1500, seed=2):
                    try:
                        checkpoint._decode(damaged)
                    except ConvertError:
                        pass

    def test_other_files(self) -> None:
        file = io.BytesIO()
        np.savez(file, a=FLOATS)
        self.assertRefused(file.getvalue(), "no data.pkl")
        self.assertRefused(pickle.dumps({"a": 1}), "not of torch.save")
        self.assertRefused(b"", "neither")
        self.assertRefused(b"GIF89a" * 10, "neither")
        with self.assertRaisesRegex(ConvertError, "cannot be read"):
            checkpoint.read(os.path.join(self.folder, "none"))
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("net/data.pkl", b"\x80\x02N.")
            archive.writestr("net/constants.pkl", b"\x80\x02N.")
        self.assertRefused(file.getvalue(), "TorchScript")

    def test_messages_are_one_printable_line(self) -> None:
        message = str(ConvertError("tensor '\n\x1b[2J\ud800\u00e9'" + "x" * 5000))
        self.assertTrue(message.startswith("tensor '??[2J?\u00e9'x"))
        self.assertLess(len(message), 2000)

    def test_no_tensors(self) -> None:
        for value in (None, 3, [], {}, {"state_dict": {"a": 1}}, {"optimizer": {"state": {}}}, Call(Name("a", "b"))):
            self.assertRefused(torch_zip(value), "holds")

    def test_zip_bombs(self) -> None:
        bomb = {"a": np.zeros(1 << 20, "<f4")}
        self.assertRefused(torch_zip(bomb, zipfile.ZIP_DEFLATED), "compressed")
        data = bytearray(torch_zip({"a": FLOATS}))
        at = data.index(b"PK\x01\x02")  # the directory: sizes at 20 and 24 of each entry
        struct.pack_into("<II", data, at + 20, 1 << 30, 1 << 30)
        self.assertRefused(bytes(data), "claim")

    def test_entries_that_overlap_are_counted_twice(self) -> None:
        """Many entries of one run of bytes are how a small archive unpacks to a large one."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x/data.pkl", TorchWriter().pickle({"a": 1}))
            archive.writestr("x/data/0", bytes(5000))
            for key in range(1, 20):  # the same bytes again, under another name
                info = zipfile.ZipInfo(f"x/data/{key}")
                first = archive.getinfo("x/data/0")
                info.header_offset, info.file_size, info.compress_size = first.header_offset, 5000, 5000
                info.CRC = zlib.crc32(bytes(5000))
                archive.filelist.append(info)
                archive._didModify = True  # type: ignore[attr-defined]
        self.assertRefused(file.getvalue(), "claim")

    def test_claims_of_size(self) -> None:
        storage_of = TorchWriter.storage
        claims = {
            "many elements": ((1 << 40,), (1,)),
            "repeated by stride 0": ((1 << 30, 1 << 30), (0, 0)),
            "beyond the storage": ((13,), (1,)),
            "stride beyond the storage": ((2, 2), (12, 1)),
            "negative stride": ((4,), (-1,)),
            "negative size": ((-4,), (1,)),
            "more strides than sizes": ((4,), (1, 1)),
            "dimensions": ((1,) * 40, (1,) * 40),
            "text": (("4",), (1,)),
        }
        for what, (shape, strides) in claims.items():
            for offset in (0, -1):
                writer = TorchWriter()
                data = writer.pickle({"a": view(storage_of(writer, FLOATS), offset, shape, strides)})
                file = io.BytesIO()
                with zipfile.ZipFile(file, "w") as archive:
                    archive.writestr("x/data.pkl", data)
                    archive.writestr("x/data/0", FLOATS.tobytes())
                with self.subTest(what, offset=offset):
                    self.assertRefused(file.getvalue())

    def test_storage_of_another_size_than_claimed(self) -> None:
        for size in (0, 44, 52):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("x/data.pkl", TorchWriter().pickle({"a": FLOATS}))
                archive.writestr("x/data/0", bytes(size))
            with self.subTest(size=size):
                self.assertRefused(file.getvalue(), "does not fill")

    def test_pickles_that_ask_for_much(self) -> None:
        memo = b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b"."
        self.assertEqual(pickle_reader.load(memo, {}, lambda pid: None), {})
        for what, data in {
            "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
            "long integer": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
            "stack of nothing": b"\x80\x02R.",
            "mark missing": b"\x80\x02u.",
            "two objects": b"\x80\x02NN.",
            "unhashable key": b"\x80\x02}](]u.",
            "deep key": b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.",
            "unknown instruction": b"\x80\x02\xff.",
            "extension": b"\x80\x02\x82\x01.",
        }.items():
            with self.subTest(what), self.assertRaises(ConvertError):
                pickle_reader.load(data, {}, lambda pid: None)

    def test_modules_that_never_end(self) -> None:
        # A module that is its own child: put in the memo before its state is set, and fetched inside it.
        text = TorchWriter().encode
        cycle = b"\x80\x02ca\nB\n)Rq\x00}" + text("_modules") + b"}" + text("m") + b"h\x00ssb."
        self.assertRefused(torch_zip(None, pickled=cycle), "deep")
        nested: Any = module("a.B", {"w": FLOATS})
        for _ in range(checkpoint.MAX_MODULE_DEPTH + 1):
            nested = module("a.B", {}, {"m": nested})
        self.assertRefused(torch_zip(nested), "deep")


if __name__ == "__main__":
    unittest.main()
