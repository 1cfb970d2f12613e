"""Reads and writes .safetensors files, strictly.

A file is 8 bytes of header length (little endian), a JSON header, and the tensors one after another without gap or
overlap to the end of the file. The limits are those of the library itself (docs/model_file.md).
"""

import json
import os
import struct
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from . import arrays, whole_file
from ._types import Array
from .errors import ConvertError

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 4096
MAX_NAME_BYTES = 127
MAX_DIMS = 4

_WRITABLE = {np.dtype("<f4"): "F32", np.dtype("<f2"): "F16"}


def decode(data: bytes) -> Tuple[Dict[str, Array], Dict[str, str]]:
    """The tensors (views of `data`) and the metadata of a file's bytes."""
    header, body = _split(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ConvertError("safetensors: __metadata__ is not an object of strings")
    if len(header) > MAX_TENSORS:
        raise ConvertError(f"safetensors: {len(header)} tensors; at most {MAX_TENSORS} are allowed")
    tensors: Dict[str, Array] = {}
    extents: List[Tuple[int, int, str]] = []
    for name, entry in header.items():
        kind, shape, begin, end = _entry(name, entry, len(body))
        tensors[name] = arrays.from_bytes(body[begin:end], kind, shape, f"tensor '{name}'")
        extents.append((begin, end, name))
    _check_tiling(extents, len(body))
    return tensors, metadata


def _split(data: bytes) -> Tuple[Dict[str, Any], memoryview]:
    if len(data) < 8:
        raise ConvertError(f"safetensors: {len(data)} bytes are too few for a header")
    (length,) = struct.unpack_from("<Q", data)
    if length > MAX_HEADER_BYTES:
        raise ConvertError(f"safetensors: a header of {length} bytes; at most {MAX_HEADER_BYTES} are allowed")
    if length > len(data) - 8:
        raise ConvertError(f"safetensors: truncated, a header of {length} bytes in a file of {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"safetensors: the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise ConvertError("safetensors: the header is not a JSON object")
    return header, memoryview(data)[8 + length :]


def _unique(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _entry(name: str, entry: Any, body_bytes: int) -> Tuple[str, Tuple[int, ...], int, int]:
    """The checked dtype, shape and byte range of a header entry."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ConvertError(f"tensor '{name}': its entry is not dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str):
        raise ConvertError(f"tensor '{name}': dtype is not a string")
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2:
        raise ConvertError(f"tensor '{name}': shape and data_offsets are not lists of non-negative integers")
    begin, end = offsets
    if not begin <= end <= body_bytes:
        raise ConvertError(f"tensor '{name}': bytes {begin} to {end} of {body_bytes}; the file is truncated or damaged")
    return kind, tuple(shape), begin, end


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_tiling(extents: List[Tuple[int, int, str]], body_bytes: int) -> None:
    at = 0
    for begin, end, name in sorted(extents):
        if begin != at:
            raise ConvertError(f"tensor '{name}': begins at byte {begin}, the one before it ends at {at}")
        at = end
    if at != body_bytes:
        raise ConvertError(f"safetensors: the tensors end at byte {at} of {body_bytes}")


def write(path: str, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes float32 and float16 tensors, float32 first so that every tensor is aligned.

    The file appears under its name only when it is complete. The same input gives the same bytes.
    """
    blobs = _blobs(tensors)
    header: Dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, blob in blobs:
        header[name] = {
            "dtype": _WRITABLE[blob.dtype],
            "shape": list(blob.shape),
            "data_offsets": [at, at + blob.nbytes],
        }
        at += blob.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ConvertError(f"the header takes {len(text)} bytes; at most {MAX_HEADER_BYTES} are allowed")
    pieces = [struct.pack("<Q", len(text)), text] + [np.ascontiguousarray(blob).data for _, blob in blobs]
    _write_whole(path, pieces)


def _blobs(tensors: Mapping[str, Array]) -> List[Tuple[str, Array]]:
    if len(tensors) > MAX_TENSORS:
        raise ConvertError(f"{len(tensors)} tensors; at most {MAX_TENSORS} are allowed")
    for name, tensor in tensors.items():
        if not 1 <= len(name.encode("utf-8")) <= MAX_NAME_BYTES:
            raise ConvertError(f"tensor '{name}': a name has 1 to {MAX_NAME_BYTES} bytes")
        if tensor.dtype not in _WRITABLE:
            raise ConvertError(f"tensor '{name}': {tensor.dtype} cannot be written, only float32 and float16")
        if tensor.ndim > MAX_DIMS or tensor.size == 0:
            raise ConvertError(f"tensor '{name}': shape {list(tensor.shape)} cannot be written")
        if not np.isfinite(tensor).all():
            raise ConvertError(f"tensor '{name}' has values that are not finite")
    return sorted(tensors.items(), key=lambda item: -item[1].itemsize)


def _write_whole(path: str, pieces: Sequence[Union[bytes, memoryview]]) -> None:
    path = os.path.realpath(path)  # what a link names is replaced, not the link
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConvertError(f"'{path}' is no regular file: it is not replaced")
    whole_file.write(path, pieces)
