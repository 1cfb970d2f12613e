"""Turns a published checkpoint into a model file: python3 -m libdetect.convert IN OUT

IN is .safetensors, .pt or .pth (torch.save) or .onnx. Nothing in it is run, and torch is not needed. OUT is described
in docs/model_file.md.
"""

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from . import checkpoint as checkpoints
from . import families, safetensors
from .checkpoint import Checkpoint
from .errors import ConvertError
from .families import Network

FORMAT = 1
MAX_CLASSES = 4096
MAX_INPUT = 8192
USAGE, UNUSABLE = 2, 3  # exit codes


@dataclass
class Options:
    """What the caller knows better than the checkpoint; None leaves it to the checkpoint."""

    arch: Optional[str] = None
    licence: Optional[str] = None
    half: bool = False
    classes: Optional[List[str]] = None
    input_size: Optional[Tuple[int, int]] = None  # width, height


def convert_file(source: str, target: str, options: Optional[Options] = None) -> str:
    """Converts a file; returns one line that says what it was. Raises ConvertError."""
    return convert(checkpoints.read(source), target, options)


def convert(checkpoint: Checkpoint, target: str, options: Optional[Options] = None) -> str:
    """Converts a checkpoint that is already in memory."""
    options = options or Options()
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused when it is written
        if checkpoint.description is None:
            network = families.recognise(checkpoint, options.arch)
        else:
            network = _already_converted(checkpoint, options.arch)
        tensors = _halved(network.tensors) if options.half else network.tensors
    description = _describe(network, checkpoint, options)
    try:
        safetensors.write(target, tensors, {"libdetect": json.dumps(description, ensure_ascii=False)})
    except OSError as error:
        raise ConvertError(f"{target} cannot be written: {error.strerror}") from None
    width, height = description["input"]
    n_parameters = sum(tensor.size for tensor in tensors.values())
    return (
        f"{checkpoint.source or 'checkpoint'} -> {target}: {network.layout.arch}, {width}x{height},"
        f" {len(description['classes'])} classes, {n_parameters} parameters, {os.path.getsize(target)} bytes"
    )


def _already_converted(checkpoint: Checkpoint, arch: Optional[str]) -> Network:
    """The network of a model file, which needs no folding."""
    assert checkpoint.description is not None
    name = checkpoint.description.get("family")
    for family in families.FAMILIES:
        if family.name == name:
            tensors = {key: tensor.astype(np.float32) for key, tensor in checkpoint.tensors.items()}
            return families.match(family, tensors, arch)
    raise ConvertError(f"a model file of family '{name}', which this version does not know")


def _halved(tensors: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Convolution weights in half precision. The rest is small, and biases and anchors gain from full precision."""
    return {name: tensor.astype(np.float16) if tensor.ndim == 4 else tensor for name, tensor in tensors.items()}


def _describe(network: Network, checkpoint: Checkpoint, options: Options) -> Dict[str, Any]:
    """The model file's metadata: the family's defaults, then the checkpoint's word, then the caller's."""
    family, variant = network.family, network.layout.variant
    description: Dict[str, Any] = {"format": FORMAT, "family": family.name, "variant": variant}
    description.update(family.defaults(variant).metadata())
    description.update(
        classes=checkpoint.class_names or family.default_classes(network.n_classes),
        landmarks=family.n_landmarks(variant),
        licence=checkpoint.licence,
        source=checkpoint.source.encode("utf-8", "replace").decode("utf-8"),
        source_sha256=checkpoint.sha256,
    )
    if checkpoint.input_size is not None and _is_input(*checkpoint.input_size):
        description["input"] = list(checkpoint.input_size)
    kept = checkpoint.description or {}
    description.update({key: kept[key] for key in description if key in kept and key not in ("format", "variant")})
    if options.classes is not None:
        description["classes"] = options.classes
    if options.licence is not None:
        description["licence"] = options.licence
    if options.input_size is not None:
        description["input"] = list(options.input_size)
    _check_classes(description["classes"], network.n_classes)
    return description


def _is_input(width: int, height: int) -> bool:
    return all(32 <= size <= MAX_INPUT and size % 32 == 0 for size in (width, height))


def _check_classes(names: Any, n_classes: int) -> None:
    if n_classes > MAX_CLASSES:
        raise ConvertError(f"the network has {n_classes} classes; at most {MAX_CLASSES} are allowed")
    if not isinstance(names, list) or len(names) != n_classes:
        count = len(names) if isinstance(names, list) else "no list of"
        raise ConvertError(
            f"the network has {n_classes} classes, but there are {count} class names; give --classes FILE"
        )
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.isprintable():
            raise ConvertError(f"the name of class {index} is not printable text; give --classes FILE")


# -------------------------------------------------------------------------------------------------- command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m libdetect.convert",
        description="Turns a published checkpoint into a libdetect model file. Nothing in the checkpoint is run.",
        epilog="Exit status: 0 done, 2 wrong usage, 3 the checkpoint cannot be used.",
    )
    parser.add_argument("input", metavar="IN", help="checkpoint: .safetensors, .pt, .pth or .onnx")
    parser.add_argument("output", metavar="OUT", help="model file to write: .safetensors")
    parser.add_argument(
        "--arch",
        metavar="NAME",
        choices=families.known_archs(),
        help="the network that it must be, such as yolov8n or damofd-2.5g-kps; default: any",
    )
    parser.add_argument("--licence", metavar="TEXT", help="licence of the weights")
    parser.add_argument("--half", action="store_true", help="store convolution weights as float16")
    parser.add_argument("--classes", metavar="FILE", type=_class_file, help="class names, one a line, UTF-8")
    parser.add_argument(
        "--input",
        dest="input_size",
        metavar="WxH",
        type=_input_size,
        help="native input size in pixels, multiples of 32",
    )
    return parser


def _class_file(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8") as file:
            names = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from None
    if not names:
        raise argparse.ArgumentTypeError(f"{path} has no names")
    return names


def _input_size(text: str) -> Tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match or not _is_input(int(match[1]), int(match[2])):
        raise argparse.ArgumentTypeError(f"'{text}' is not WxH, both multiples of 32 up to {MAX_INPUT}")
    return int(match[1]), int(match[2])


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status."""
    given = _parser().parse_args(arguments)
    options = Options(given.arch, given.licence, given.half, given.classes, given.input_size)
    try:
        print(convert_file(given.input, given.output, options))
    except ConvertError as error:
        print(f"{given.input}: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
