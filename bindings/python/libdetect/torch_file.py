"""Reads what torch.save wrote, without torch and without running the pickle inside.

Two containers exist: a zip archive (torch 1.6 and later) with `data.pkl` and one entry per storage, and the older one,
a row of pickles followed by the raw storages.
"""

import functools
import io
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Tuple, TypeVar, Union

import numpy as np

from . import arrays, pickle_reader
from ._types import Array
from .errors import ConvertError
from .pickle_reader import Global, Opaque

MAX_PICKLE_BYTES = 64 << 20
MAX_ENTRIES = 100_000
MAX_ELEMENTS = 1 << 28
#: The older container begins with a pickle of this number.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")

_STORAGE_KINDS = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}


@dataclass
class Storage:
    """A flat run of elements, read when the first of its tensors is asked for."""

    key: str
    kind: Optional[str]  # None: a type that no detector uses
    count: int
    read: Optional[Callable[[], bytes]] = None
    raw: Optional[bytes] = None

    def elements(self) -> Array:
        """All of them."""
        if self.kind is None or self.read is None:
            raise ConvertError(f"storage '{self.key}' is missing or of an unknown type")
        if self.raw is None:
            self.raw = self.read()
        return arrays.from_bytes(self.raw, self.kind, (self.count,), f"storage '{self.key}'")


@dataclass
class Tensor:
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]

    def array(self, what: str) -> Array:
        """Its values, contiguous."""
        storage = self.storage
        if len(self.shape) > 8 or len(self.shape) != len(self.strides) or min(self.shape, default=1) < 0:
            raise ConvertError(f"tensor '{what}': shape {self.shape} with strides {self.strides}")
        count = arrays.n_elements(self.shape)
        if count > min(storage.count, MAX_ELEMENTS):
            raise ConvertError(f"tensor '{what}': {count} elements in a storage of {storage.count}")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if min(self.strides, default=0) < 0 or self.offset < 0 or (count and last >= storage.count):
            raise ConvertError(f"tensor '{what}': reaches beyond its storage of {storage.count} elements")
        flat = storage.elements()
        if count == 0:
            return np.zeros(0, flat.dtype)  # no network has such, and its other sizes may be too much for numpy
        # A stride along one element is never taken, and may be any number.
        strides = tuple(stride * flat.itemsize if size > 1 else 0 for size, stride in zip(self.shape, self.strides))
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides, writeable=False)
        return np.array(view, order="C")


def load(data: bytes) -> Any:
    """What was saved: dicts, lists and scalars as they were, tensors as `Tensor`, all else as `Opaque`."""
    if data[:4] == b"PK\x03\x04":
        return _load_zip(data)
    if data.startswith(LEGACY_START):
        return _load_legacy(data)
    raise ConvertError("not a file of torch.save")


# ------------------------------------------------------------------------------------------------------- containers


def _load_zip(data: bytes) -> Any:
    archive = _attempt(lambda: zipfile.ZipFile(io.BytesIO(data)))
    prefix = _attempt(lambda: _check_archive(archive, len(data)))
    storages: Dict[str, Storage] = {}
    pickled = _attempt(lambda: archive.read(f"{prefix}data.pkl"))
    result = pickle_reader.load(pickled, _HANDLERS, _persistent(storages))
    for key, storage in storages.items():
        storage.read = functools.partial(_attempt, functools.partial(archive.read, f"{prefix}data/{key}"))
    return result


_Result = TypeVar("_Result")


def _attempt(action: Callable[[], _Result]) -> _Result:
    """Does something with an archive that may be damaged."""
    try:
        return action()
    except _ARCHIVE_DAMAGE as error:
        raise ConvertError(f"damaged or truncated archive: {error}") from None


# Each of these is raised by zipfile for some damage.
_ARCHIVE_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip


def _check_archive(archive: zipfile.ZipFile, n_bytes: int) -> str:
    """The common prefix of an archive's entries, which are stored uncompressed: none can grow while it is read."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise ConvertError(f"the archive has {len(entries)} entries; at most {MAX_ENTRIES} are read")
    names = [entry.filename for entry in entries]
    pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ConvertError("a zip archive, but not of torch.save: it has no data.pkl")
    prefix = pickles[0][: -len("data.pkl")]
    if f"{prefix}constants.pkl" in names:
        raise ConvertError("a TorchScript archive; save the model's state_dict instead")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ConvertError("the archive is compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > n_bytes:
        raise ConvertError("the archive's entries claim more bytes than the file has")
    if archive.getinfo(pickles[0]).file_size > MAX_PICKLE_BYTES:
        raise ConvertError(f"data.pkl is larger than {MAX_PICKLE_BYTES} bytes")
    if f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") != b"little":
        raise ConvertError("the archive was saved on a big-endian machine")
    return prefix


def _load_legacy(data: bytes) -> Any:
    file = io.BytesIO(data)
    storages: Dict[str, Storage] = {}
    header = [pickle_reader.load_next(file, _HANDLERS, _persistent(storages)) for _ in range(3)]
    if header[1] != 1001 or not isinstance(header[2], dict) or header[2].get("little_endian") is not True:
        raise ConvertError("not a file of torch.save for a little-endian machine")
    result = pickle_reader.load_next(file, _HANDLERS, _persistent(storages))
    keys = pickle_reader.load_next(file, _HANDLERS, _persistent(storages))
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConvertError("damaged file: its list of storages is not a list of names")
    for key in keys:
        raw = _legacy_storage(file, storages.get(key), key)
        storages[key].read = functools.partial(bytes, raw)
    return result


def _legacy_storage(file: BinaryIO, storage: Optional[Storage], key: str) -> bytes:
    """The next storage of the file: its number of elements, then the elements."""
    if storage is None or storage.kind is None:
        raise ConvertError(f"damaged file: storage '{key}' is of no tensor, or of an unknown type")
    n_bytes = storage.count * arrays.element_bytes(storage.kind)
    head = file.read(8)
    raw = file.read(min(n_bytes, sys.maxsize))
    if int.from_bytes(head, "little") != storage.count or len(raw) != n_bytes:
        raise ConvertError(f"truncated or damaged file: storage '{key}' is not whole")
    return raw


# ------------------------------------------------------------------------------- what the names in the pickle mean


def _persistent(storages: Dict[str, Storage]) -> Any:
    """Turns persistent ids, ('storage', type, key, device, count, ...), into the storages that they stand for."""

    def find(pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ConvertError("damaged pickle: a persistent id is not of a storage")
        if len(pid) > 5 and pid[5] is not None:
            raise ConvertError(
                "a storage is a view of another, as torch wrote before 0.4; save it again with a newer one"
            )
        _, factory, key, _, count = pid[:5]
        if not isinstance(factory, Global) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise ConvertError("damaged pickle: a storage without type, name and size")
        storage = storages.setdefault(key, Storage(key, _STORAGE_KINDS.get(factory.name), count))
        if storage.count != count or storage.kind != _STORAGE_KINDS.get(factory.name):
            raise ConvertError(f"damaged pickle: storage '{key}' is described twice, differently")
        return storage

    return find


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    sizes = (offset,) + tuple(shape) + tuple(strides)
    if not isinstance(storage, Storage) or not all(type(size) is int for size in sizes):
        raise ConvertError("damaged pickle: a tensor without storage, shape and strides")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _tensor_subclass(rebuild: Any, _: Any, args: Any, *__: Any) -> Any:
    if isinstance(rebuild, Global) and rebuild.path == "torch._utils._rebuild_tensor_v2" and isinstance(args, tuple):
        return _tensor(*args)
    return None


def _ordered_dict(pairs: Any = ()) -> Dict[Any, Any]:
    return {key: value for key, value in pairs if isinstance(key, (str, int))}


def _size(sizes: Any = ()) -> Tuple[Any, ...]:
    return tuple(sizes)


def _encoded(text: Any, encoding: Any = "latin1", *_: Any) -> Union[bytes, None]:
    """How protocol 2 writes bytes: _codecs.encode(text, "latin1")."""
    return text.encode("latin-1") if isinstance(text, str) and encoding == "latin1" else None


def _numpy_scalar(dtype: Any, raw: Any = b"") -> Union[int, float, None]:
    """A numpy number as a Python one. Class counts and sizes are sometimes kept as such."""
    code = dtype.args[0] if isinstance(dtype, Opaque) and dtype.args else None
    if code not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1") or not isinstance(raw, bytes):
        return None
    values: List[Any] = np.frombuffer(raw, f"<{code}").tolist()
    return values[0] if len(values) == 1 else None


_HANDLERS: pickle_reader.Handlers = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_subclass,
    "_codecs.encode": _encoded,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}
