"""Reads what the converter needs of an .onnx file: nodes, constants, input shapes and metadata.

ONNX is a protocol buffer; its wire format is a row of fields, each a number, a kind and a value. Only the fields named
below are looked at, and nothing is copied but small values.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import numpy as np

from . import arrays
from ._types import Array
from .errors import ConvertError

MAX_NODES = 100_000
MAX_CONSTANTS = 100_000
MAX_DIMS = 8

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.data_location
_NO_BYTES = memoryview(b"")

# TensorProto.data_type -> safetensors name
_KINDS = {1: "F32", 2: "U8", 3: "I8", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 16: "BF16"}
# TensorProto's typed fields: number -> the numpy type of one of its elements
_TYPED = {4: "<f4", 5: "<i4", 7: "<i8", 10: "<f8"}


@dataclass
class Node:
    """An operation. Inputs and outputs are names of values; an omitted input is ''."""

    op: str = ""
    name: str = ""
    inputs: List[str] = field(default_factory=list)
    outputs: List[str] = field(default_factory=list)
    attributes: Dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """A network as exported."""

    nodes: List[Node] = field(default_factory=list)
    constants: Dict[str, Array] = field(default_factory=dict)
    inputs: Dict[str, List[int]] = field(default_factory=dict)  # shape, 0 where it is not fixed
    metadata: Dict[str, str] = field(default_factory=dict)


def looks_like(data: bytes) -> bool:
    """Whether the bytes may be a model: field 1 (ir_version), or field 7 (the graph) of a stripped one."""
    return data[:1] in (b"\x08", b"\x3a")


def decode(data: bytes) -> Graph:
    """The graph of a file's bytes; its arrays are views of them."""
    graph = Graph()
    body = _NO_BYTES
    for number, value in _fields(memoryview(data)):
        if number == 7:
            body = _message(value)
        elif number == 14:
            _read_metadata(_message(value), graph)
    for number, value in _fields(body):
        if number == 1:
            _add_node(_node(_message(value)), graph)
        elif number == 5:
            name, array = _tensor(_message(value))
            _add_constant(name, array, graph)
        elif number == 11:
            _read_input(_message(value), graph)
    if not graph.nodes:
        raise ConvertError("not an ONNX model: it has no graph with nodes")
    return graph


# ----------------------------------------------------------------------------------------------------- wire format


Value = Union[int, memoryview]


def _fields(data: memoryview) -> Iterator[Tuple[int, Value]]:
    """The fields of a message: integers for varints, bytes for everything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ConvertError(f"damaged ONNX file: field {number} is of unknown kind {wire}")
        if length > len(data) - at:
            raise ConvertError(
                f"truncated or damaged ONNX file: a field of {length} bytes where {len(data) - at} are left"
            )
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ConvertError("truncated or damaged ONNX file: an integer does not end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at


def _signed(value: Value) -> int:
    value = _integer(value)
    return value - (1 << 64) if value >= 1 << 63 else value


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise ConvertError("damaged ONNX file: bytes where a number belongs")
    return value


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ConvertError("damaged ONNX file: a number where a message belongs")
    return value


def _float(value: Value) -> float:
    data = _message(value)
    if len(data) != 4:
        raise ConvertError("damaged ONNX file: a number of another size than float's")
    return float(struct.unpack("<f", data)[0])


def _text(value: Value) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")


def _integers(value: Value) -> List[int]:
    """A repeated integer field: one of them, or all of them packed."""
    if isinstance(value, int):
        return [_signed(value)]
    result, at = [], 0
    while at < len(value):
        item, at = _varint(value, at)
        result.append(_signed(item))
    return result


# -------------------------------------------------------------------------------------------------------- messages


def _read_metadata(data: memoryview, graph: Graph) -> None:
    entry = {number: _text(value) for number, value in _fields(data) if number in (1, 2)}
    graph.metadata[entry.get(1, "")] = entry.get(2, "")


def _read_input(data: memoryview, graph: Graph) -> None:
    """ValueInfoProto: name, type.tensor_type.shape.dim[].dim_value."""
    name, shape = "", []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
    for tensor_type in _nested(data, 2, 1):
        for dim in _nested(tensor_type, 2, 1):
            sizes = [_integer(value) for number, value in _fields(dim) if number == 1]
            shape.append(sizes[0] if sizes else 0)
    graph.inputs[name] = shape


def _nested(data: memoryview, *path: int) -> Iterator[memoryview]:
    """The messages at a path of field numbers."""
    for number, value in _fields(data):
        if number == path[0]:
            if len(path) == 1:
                yield _message(value)
            else:
                yield from _nested(_message(value), *path[1:])


def _add_node(node: Node, graph: Graph) -> None:
    if len(graph.nodes) >= MAX_NODES:
        raise ConvertError(f"the ONNX graph has more than {MAX_NODES} nodes")
    value = node.attributes.get("value")
    if node.op == "Constant" and isinstance(value, np.ndarray) and node.outputs:
        _add_constant(node.outputs[0], value, graph)
    else:
        graph.nodes.append(node)


def _add_constant(name: str, array: Array, graph: Graph) -> None:
    if len(graph.constants) >= MAX_CONSTANTS:
        raise ConvertError(f"the ONNX graph has more than {MAX_CONSTANTS} constants")
    graph.constants[name] = array


def _node(data: memoryview) -> Node:
    node = Node()
    for number, value in _fields(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 3:
            node.name = _text(value)
        elif number == 4:
            node.op = _text(value)
        elif number == 5:
            name, attribute = _attribute(_message(value))
            node.attributes[name] = attribute
    return node


def _attribute(data: memoryview) -> Tuple[str, Any]:
    """An attribute's name and value: a number, integers, or a tensor; None for the kinds that nothing here needs."""
    name = ""
    result: Any = None
    integers: List[int] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            result = _float(value)
        elif number == 3:
            result = _signed(value)
        elif number == 5:
            result = _tensor(_message(value))[1]
        elif number == 8:
            integers += _integers(value)
    return name, integers or result


def _tensor(data: memoryview) -> Tuple[str, Array]:
    """A TensorProto's name and values, which lie in `raw_data` or in a field of their type."""
    dims: List[int] = []
    name, code = "", 0
    raw: Optional[arrays.Buffer] = None
    typed: List[Tuple[int, Value]] = []
    for number, value in _fields(data):
        if number == 1:
            dims += _integers(value)
        elif number == 2:
            code = _integer(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _message(value)
        elif number in _TYPED:
            typed.append((number, value))
        elif number == 14 and value == _EXTERNAL:
            raise ConvertError(
                f"tensor '{name}' lies in another file; save the ONNX model as one file"
                " (torch.onnx.export: external_data=False)"
            )
    what = f"tensor '{name}'"
    if code not in _KINDS or len(dims) > MAX_DIMS:
        # Strings, quantised and complex numbers: kept out of sight, an error only where one is a weight.
        return name, np.zeros(0, np.float32)
    if raw is None:
        raw = _typed_bytes(typed, _KINDS[code], what)
    return name, arrays.from_bytes(raw, _KINDS[code], tuple(dims), what)


def _typed_bytes(typed: List[Tuple[int, Value]], kind: str, what: str) -> Union[bytes, memoryview]:
    """The elements of a typed field as raw bytes. Small types lie in int32_data; F16 and BF16 as their bits."""
    pieces: List[Array] = []
    for number, value in typed:
        stored = np.dtype(_TYPED[number])
        if stored.kind == "i":
            pieces.append(np.array(_integers(value), np.int64))
        elif len(_message(value)) % stored.itemsize:
            raise ConvertError(f"{what}: its data is not a whole number of elements")
        else:
            pieces.append(np.frombuffer(_message(value), stored))
    if not pieces:
        return b""
    values = np.concatenate(pieces)
    target = "<u2" if kind in ("F16", "BF16") else arrays.DTYPES[kind]
    return values.astype(target).tobytes()
