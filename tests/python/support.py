"""What the tests share: where things are, and writers of torch and ONNX files that need neither torch nor onnx."""

import io
import os
import struct
import sys
import unittest
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bindings" / "python"))

GOLDEN = Path(os.environ.get("DET_GOLDEN", ROOT.parent / "shared" / "golden"))
MODELS = Path(os.environ.get("DET_MODELS", ROOT.parent / "shared" / "models"))

needs_golden = unittest.skipUnless(GOLDEN.is_dir(), f"no golden folder at {GOLDEN} (set DET_GOLDEN)")
needs_models = unittest.skipUnless(MODELS.is_dir(), f"no checkpoints at {MODELS} (set DET_MODELS)")


# ---------------------------------------------------------------------------------------------------------- pickles


class Name:
    """A global of a pickle, such as Name("os", "system")."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """A call in a pickle, and the state that the result is then given."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.function, self.args, self.state = function, args, state


class Persistent:
    """An object that a pickle knows by its id."""

    def __init__(self, pid: Any) -> None:
        self.pid = pid


KINDS = {
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<f8": "DoubleStorage",
    "<i8": "LongStorage",
    "<u2": "BFloat16Storage",
}


class TorchWriter:
    """Pickles like torch.save: arrays become tensors of storages of their own. <u2 arrays stand for bfloat16."""

    def __init__(self) -> None:
        self.storages: List[Tuple[str, np.ndarray]] = []
        self.view: Tuple[Any, ...] = ()  # what follows a persistent id's five parts in the older container

    def pickle(self, value: Any) -> bytes:
        return b"\x80\x02" + self.encode(value) + b"."

    def encode(self, value: Any) -> bytes:
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, int):
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(raw)]) + raw
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, bytes):
            return b"B" + struct.pack("<I", len(value)) + value
        if isinstance(value, np.ndarray):
            return self.encode(self.tensor(value))
        return self._encode_object(value)

    def _encode_object(self, value: Any) -> bytes:
        if isinstance(value, Name):
            return f"c{value.module}\n{value.name}\n".encode()
        if isinstance(value, Call):
            state = b"" if value.state is None else self.encode(value.state) + b"b"
            return self.encode(value.function) + self.encode(value.args) + b"R" + state
        if isinstance(value, Persistent):
            return self.encode(value.pid) + b"Q"
        if isinstance(value, dict):
            items = (part for pair in value.items() for part in pair)
            return b"}(" + b"".join(map(self.encode, items)) + b"u"
        opening, closing = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
        return opening + b"".join(map(self.encode, value)) + closing

    def storage(self, array: np.ndarray) -> Persistent:
        key = str(len(self.storages))
        self.storages.append((key, array))
        return Persistent(("storage", Name("torch", KINDS[array.dtype.str]), key, "cpu", array.size) + self.view)

    def tensor(self, array: np.ndarray) -> Call:
        strides = tuple(stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides)
        return view(self.storage(array), 0, array.shape, strides)


def view(storage: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Call:
    """A tensor of a pickle."""
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage, offset, tuple(shape), tuple(strides), False, Call(Name("collections", "OrderedDict")))


def module(path: str, tensors: Dict[str, Any], children: Optional[Dict[str, Any]] = None, **attributes: Any) -> Call:
    """A pickled torch module."""
    package, _, name = path.rpartition(".")
    state = {"training": False, "_parameters": {}, "_buffers": tensors, "_modules": children or {}, **attributes}
    return Call(Name(package, name), state=state)


def torch_zip(value: Any, compression: int = zipfile.ZIP_STORED, pickled: Optional[bytes] = None) -> bytes:
    """The bytes of a file of torch.save; `pickled` replaces its pickle."""
    writer, file = TorchWriter(), io.BytesIO()
    data = writer.pickle(value)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data if pickled is None else pickled)
        for key, array in writer.storages:
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def torch_legacy(value: Any) -> bytes:
    """The bytes of a file of torch.save from before 1.6."""
    writer = TorchWriter()
    writer.view = (None,)
    magic = b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    data = magic + writer.pickle(1001) + writer.pickle(system) + writer.pickle(value)
    data += writer.pickle([key for key, _ in writer.storages])
    return data + b"".join(struct.pack("<q", array.size) + array.tobytes() for _, array in writer.storages)


# ------------------------------------------------------------------------------------------------------------- ONNX


def _varint(value: int) -> bytes:
    result = b""
    value &= (1 << 64) - 1
    while value >= 0x80:
        result += bytes([value & 0x7F | 0x80])
        value >>= 7
    return result + bytes([value])


def field(number: int, value: Any) -> bytes:
    """A field of a protocol buffer: an integer, or anything that is bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def onnx_tensor(name: str, array: np.ndarray) -> bytes:
    """A TensorProto with raw data."""
    code = {"<f4": 1, "<i8": 7, "<f2": 10, "<f8": 11}[array.dtype.str]
    return (
        b"".join(field(1, size) for size in array.shape) + field(2, code) + field(8, name) + field(9, array.tobytes())
    )


def onnx_node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", attributes: bytes = b"") -> bytes:
    """A NodeProto."""
    ends = b"".join(field(1, value) for value in inputs) + b"".join(field(2, value) for value in outputs)
    return ends + field(3, name) + field(4, op) + attributes


def onnx_model(
    nodes: Sequence[bytes], tensors: Sequence[bytes], size: Tuple[int, int] = (640, 640), **metadata: str
) -> bytes:
    """A ModelProto whose input `images` is 1 x 3 x height x width."""
    dims = b"".join(field(1, field(1, n)) for n in (1, 3, size[1], size[0]))
    image = field(1, "images") + field(2, field(1, field(1, 1) + field(2, dims)))
    graph = b"".join(field(1, node) for node in nodes) + b"".join(field(5, tensor) for tensor in tensors)
    graph += field(11, image)
    entries = b"".join(field(14, field(1, key) + field(2, value)) for key, value in metadata.items())
    return field(1, 8) + field(7, graph) + entries


# ---------------------------------------------------------------------------------------------------------- damage


def mutations(data: bytes, count: int, seed: int) -> "Any":
    """Copies of `data`, each with a few bytes changed, or a part cut out or doubled."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(random.integers(1, 4)):
            copy[random.integers(len(copy))] = random.integers(256)
        start, length = random.integers(len(copy)), random.integers(16)
        kind = random.integers(3)
        if kind == 1:
            del copy[start : start + length]
        elif kind == 2:
            copy[start:start] = copy[start : start + length]
        yield bytes(copy)
