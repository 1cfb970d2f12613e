"""Turns a published checkpoint into a model file: python3 -m libdetect.convert IN OUT

IN is .safetensors, .pt or .pth (torch.save) or .onnx. Nothing in it is run, and torch is not needed. OUT is described
in docs/model_file.md.
"""

import argparse
import json
import os
import re
import sys
from typing import Dict, List, Optional, Sequence, Tuple

from .cli_streams import cause, complain

try:
    import numpy as np
except (ImportError, MemoryError) as error:
    if __name__ != "__main__":
        raise
    complain(cause(error))
    sys.exit(3)

from . import checkpoint as checkpoints
from . import families, safetensors
from ._types import Array
from .checkpoint import Checkpoint
from .describe import MAX_INPUT, Options, describe, is_input_size
from .errors import ConvertError
from .families import Network

USAGE, UNUSABLE = 2, 3  # exit codes


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
    description = describe(network, checkpoint, options)
    try:
        safetensors.write(target, tensors, {"libdetect": json.dumps(description)})
    except OSError as error:
        raise ConvertError(f"{target} cannot be written: {error.strerror}") from None
    width, height = description["input"]
    n_classes = len(description["classes"])
    n_parameters = sum(tensor.size for tensor in tensors.values())
    return (
        f"{checkpoint.source or 'checkpoint'} -> {target}: {network.layout.arch}, {width}x{height},"
        f" {n_classes} class{'es' if n_classes != 1 else ''}, {n_parameters} parameters, {os.path.getsize(target)} bytes"
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


def _halved(tensors: Dict[str, Array]) -> Dict[str, Array]:
    """Convolution weights in half precision. The rest is small, and biases and anchors gain from full precision."""
    return {name: tensor.astype(np.float16) if tensor.ndim == 4 else tensor for name, tensor in tensors.items()}


# -------------------------------------------------------------------------------------------------- command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m libdetect.convert",
        description="Turns a published checkpoint into a libdetect model file. Nothing in the checkpoint is run.",
        epilog="Exit status: 0 done, 2 wrong usage, 3 the checkpoint cannot be used, or there is no numpy.",
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
    parser.add_argument("--score", metavar="S", type=_fraction, help="default score threshold, 0 to 1")
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
    if not match or not is_input_size([int(match[1]), int(match[2])]):
        raise argparse.ArgumentTypeError(f"'{text}' is not WxH, both multiples of 32 up to {MAX_INPUT}")
    return int(match[1]), int(match[2])


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status."""
    given = _parser().parse_args(arguments)
    options = Options(given.arch, given.licence, given.half, given.classes, given.input_size, given.score)
    try:
        print(convert_file(given.input, given.output, options))
    except ConvertError as error:
        print(f"{given.input}: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
