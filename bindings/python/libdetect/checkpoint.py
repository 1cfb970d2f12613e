"""Opens a checkpoint of any supported kind and finds the weights in it."""

import ast
import hashlib
import itertools
import json
import os
import re
import warnings
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from . import onnx_reader, safetensors, torch_file
from ._types import Array
from .errors import ConvertError
from .pickle_reader import Opaque

MAX_FILE_BYTES = 4 << 30
MAX_MODULE_DEPTH = 64
MAX_MODULES = 100_000
MAX_LITERAL_CHARS = 1 << 20

Tensors = Dict[str, Array]


@dataclass
class Checkpoint:
    """What a file holds, before anything is known of the network."""

    tensors: Tensors
    source: str = ""  # base name
    sha256: str = ""
    graph: Optional[onnx_reader.Graph] = None  # of an .onnx file
    description: Optional[Mapping[str, Any]] = None  # of a file that is converted already
    class_names: Optional[List[str]] = None
    licence: str = ""
    input_size: Optional[Tuple[int, int]] = None  # width, height
    module_classes: Set[str] = field(default_factory=set)  # of a pickled module and its children


def read(path: str) -> Checkpoint:
    """Reads a file by its content; its extension does not matter."""
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            raise ConvertError(f"larger than {MAX_FILE_BYTES} bytes")
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConvertError(f"cannot be read: {error.strerror}") from None
    checkpoint = _decode(data)
    checkpoint.source = os.path.basename(path)
    checkpoint.sha256 = hashlib.sha256(data).hexdigest()
    return checkpoint


def _decode(data: bytes) -> Checkpoint:
    if data[:2] == b"PK" or data.startswith(torch_file.LEGACY_START):
        return _from_torch(torch_file.load(data))
    if data[8:9] == b"{":
        return _from_safetensors(data)
    if onnx_reader.looks_like(data):
        return _from_onnx(onnx_reader.decode(data))
    if data[:1] == b"\x80":
        raise ConvertError("a pickle, but not of torch.save")
    raise ConvertError("neither .safetensors, nor .pt or .pth of torch.save, nor .onnx")


def _from_safetensors(data: bytes) -> Checkpoint:
    tensors, metadata = safetensors.decode(data)
    checkpoint = Checkpoint(tensors)
    if "libdetect" in metadata:
        try:
            checkpoint.description = json.loads(metadata["libdetect"])
        except (ValueError, RecursionError):
            checkpoint.description = None
        if not isinstance(checkpoint.description, dict):
            raise ConvertError("its libdetect metadata is not a JSON object")
    return checkpoint


def _from_onnx(graph: onnx_reader.Graph) -> Checkpoint:
    checkpoint = Checkpoint({}, graph=graph)
    shape = next((shape for name, shape in graph.inputs.items() if name not in graph.constants), [])
    if len(shape) == 4 and shape[2] and shape[3]:
        checkpoint.input_size = (shape[3], shape[2])
    checkpoint.class_names = _class_names(_literal(graph.metadata.get("names", "")))
    checkpoint.licence = graph.metadata.get("license", "")
    return checkpoint


# An entry of a literal dict or list of texts: its index, the quoted text, and what follows.
_LITERAL_ENTRY = re.compile(r"""\s*(?:(\d{1,9})\s*:\s*)?('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")\s*(,\s*|$)""")


def _literal(text: str) -> Any:
    """A dict from index to text, or a list of texts, as str() writes them; None for anything else.

    Exporters write class names so. Python's own reader of literals is not safe: some texts end the interpreter.
    """
    text = text.strip()
    if len(text) > MAX_LITERAL_CHARS or text[:1] + text[-1:] not in ("{}", "[]", "()"):
        return None
    body, at = text[1:-1], 0
    found: Dict[int, str] = {}
    while at < len(body):
        entry = _LITERAL_ENTRY.match(body, at)
        if entry is None or (entry[1] is None) != (text[0] != "{"):
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unknown escapes
                found[len(found) if entry[1] is None else int(entry[1])] = ast.literal_eval(entry[2])
        except (ValueError, SyntaxError):
            return None
        at = entry.end()
    return found


# --------------------------------------------------------------------------------------------------- torch pickles

# Where training code keeps the weights in the dict that it saves, the best ones first.
_WRAPPERS = ("ema", "state_dict", "model_state_dict", "model", "net", "params")


def _from_torch(saved: Any) -> Checkpoint:
    root = _unwrap(saved)
    checkpoint = Checkpoint({})
    found: Dict[str, torch_file.Tensor] = {}
    if isinstance(root, Opaque):
        _walk(root, "", found, checkpoint.module_classes, 0, itertools.count())
        checkpoint.class_names = _class_names(root.attribute("names"))
    else:
        found = {name: value for name, value in root.items() if isinstance(value, torch_file.Tensor)}
    if not found:
        raise ConvertError("it holds no tensors where weights are kept (state_dict, model, ema)")
    checkpoint.tensors = _read_tensors(found)
    if isinstance(saved, dict):
        licence = saved.get("license")
        checkpoint.licence = licence if isinstance(licence, str) else ""
        checkpoint.class_names = checkpoint.class_names or _class_names(saved.get("names"))
        checkpoint.input_size = _trained_size(saved.get("train_args"))
    return checkpoint


def _unwrap(saved: Any) -> Any:
    """The dict of tensors, or the module, inside what was saved."""
    for _ in range(len(_WRAPPERS)):
        if isinstance(saved, Opaque) and saved.items and saved.state is None:
            saved = saved.items  # some dict subclass
        if not isinstance(saved, dict) or any(isinstance(value, torch_file.Tensor) for value in saved.values()):
            break
        inner = next((saved[key] for key in _WRAPPERS if saved.get(key) is not None), None)
        if inner is None:
            break
        saved = inner
    if not isinstance(saved, (dict, Opaque)):
        raise ConvertError(f"it holds a {type(saved).__name__}, not a model or its state_dict")
    return saved


def _walk(
    module: Opaque,
    prefix: str,
    found: Dict[str, torch_file.Tensor],
    classes: Set[str],
    depth: int,
    count: Iterator[int],
) -> None:
    """Collects the tensors of a pickled module under the names that its state_dict would use."""
    if depth > MAX_MODULE_DEPTH:
        raise ConvertError(f"its modules are nested more than {MAX_MODULE_DEPTH} deep")
    if next(count) >= MAX_MODULES:  # a few modules that hold one another can stand for very many
        raise ConvertError(f"it has more than {MAX_MODULES} modules")
    classes.add(module.factory.path)
    for part in ("_parameters", "_buffers"):
        for name, value in _dict(module.attribute(part)).items():
            if isinstance(value, torch_file.Tensor):
                found[f"{prefix}{name}"] = value
    for name, child in _dict(module.attribute("_modules")).items():
        if isinstance(child, Opaque):
            _walk(child, f"{prefix}{name}.", found, classes, depth + 1, count)


def _dict(value: Any) -> Dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _read_tensors(found: Mapping[Any, torch_file.Tensor]) -> Tensors:
    tensors: Tensors = {}
    left = torch_file.MAX_ELEMENTS
    for name, tensor in found.items():
        tensors[str(name)] = array = tensor.array(str(name))
        left -= array.size
        if left < 0:
            raise ConvertError(f"it holds more than {torch_file.MAX_ELEMENTS} values")
    return tensors


def _class_names(names: Any) -> Optional[List[str]]:
    """Class names kept as a list, or as a dict from index to name; None for anything else."""
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return list(names)
    return None


def _trained_size(arguments: Any) -> Optional[Tuple[int, int]]:
    """The input size that a checkpoint of ultralytics says it was trained at."""
    size = _dict(arguments).get("imgsz")
    return (size, size) if type(size) is int else None
