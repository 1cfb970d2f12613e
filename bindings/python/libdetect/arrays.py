"""Element types of checkpoint files, and the one place that turns stored bytes into arrays."""

from typing import Sequence, Tuple, Union

import numpy as np

from ._types import Array
from .errors import ConvertError

Buffer = Union[bytes, bytearray, memoryview]

#: Element types by their safetensors names. BF16 has no numpy type and is widened to float32.
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


def element_bytes(kind: str) -> int:
    """Bytes that one element of `kind` takes in a file."""
    return np.dtype(DTYPES[kind]).itemsize


def n_elements(shape: Sequence[int]) -> int:
    """Elements of a shape, in integers that cannot overflow."""
    count = 1
    for size in shape:
        count *= size
    return count


def from_bytes(raw: Buffer, kind: str, shape: Tuple[int, ...], what: str) -> Array:
    """The array of `shape` whose little-endian elements are exactly `raw`; a view, except for BF16."""
    if kind not in DTYPES:
        raise ConvertError(f"{what}: elements of type {kind} are not supported")
    if any(size < 0 for size in shape) or n_elements(shape) * element_bytes(kind) != len(raw):
        raise ConvertError(f"{what}: shape {list(shape)} of {kind} does not fill its {len(raw)} bytes")
    array = np.frombuffer(raw, DTYPES[kind]).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << np.uint32(16)).view("<f4")
    return array
