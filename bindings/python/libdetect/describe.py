"""The description inside a model file: what the family says, then the checkpoint, then the caller."""

import math
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .checkpoint import Checkpoint
from .errors import ConvertError
from .families import Network

FORMAT = 1
MAX_CLASSES = 4096
MAX_INPUT = 8192


@dataclass
class Options:
    """What the caller knows better than the checkpoint; None leaves it to the checkpoint."""

    arch: Optional[str] = None
    licence: Optional[str] = None
    half: bool = False
    classes: Optional[List[str]] = None
    input_size: Optional[Tuple[int, int]] = None  # width, height
    score: Optional[float] = None  # default threshold, 0 to 1


def describe(network: Network, checkpoint: Checkpoint, options: Options) -> Dict[str, Any]:
    """The JSON object of docs/model_file.md."""
    family, variant = network.family, network.layout.variant
    description: Dict[str, Any] = dict(
        family.defaults(variant).metadata(),
        classes=checkpoint.class_names or family.default_classes(network.n_classes),
        landmarks=family.n_landmarks(variant),
        licence=checkpoint.licence,
        source=checkpoint.source,
        source_sha256=checkpoint.sha256,
    )
    if checkpoint.input_size is not None and is_input_size(checkpoint.input_size):
        description["input"] = list(checkpoint.input_size)
    if checkpoint.description is not None:
        description.update(_kept(checkpoint.description, description))
    if options.classes is not None:
        description["classes"] = options.classes
    if options.licence is not None:
        description["licence"] = options.licence
    if options.input_size is not None:
        description["input"] = list(options.input_size)
    if options.score is not None:
        description["score"] = options.score
    for key in ("licence", "source", "source_sha256"):
        description[key] = "".join(c if _is_text(c) else "?" for c in description[key])
    _check_classes(description["classes"], network.n_classes)
    return {"format": FORMAT, "family": family.name, "variant": variant, **description}


def is_input_size(size: Sequence[Any]) -> bool:
    """Whether a width and a height can be a network's input."""
    return len(size) == 2 and all(type(n) is int and 32 <= n <= MAX_INPUT and n % 32 == 0 for n in size)


def _kept(old: Mapping[str, Any], defaults: Mapping[str, Any]) -> Dict[str, Any]:
    """The values of a model file's description, each of the type that it must have."""
    kept = {key: old[key] for key in defaults if key in old}
    for key, value in kept.items():
        if _type(value) != _type(defaults[key]) or (key == "input" and not is_input_size(value)) or (
            key == "source_sha256" and not re.fullmatch("([0-9a-fA-F]{64})?", value)
        ):
            raise ConvertError(f"its libdetect metadata is damaged: '{key}' is not what it should be")
    return kept


def _type(value: Any) -> str:
    if isinstance(value, float):
        return "number" if math.isfinite(value) else "no number"
    return "number" if type(value) is int else type(value).__name__


def _check_classes(names: Sequence[Any], n_classes: int) -> None:
    if n_classes > MAX_CLASSES:
        raise ConvertError(f"the network has {n_classes} classes; at most {MAX_CLASSES} are allowed")
    if len(names) != n_classes:
        raise ConvertError(f"the network has {n_classes} classes, the list of names {len(names)}; give --classes FILE")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not _is_text(name):
            raise ConvertError(f"the name of class {index} is not text without control characters; give --classes FILE")


def _is_text(text: str) -> bool:
    """Whether a text has neither control characters nor halves of surrogate pairs, which no JSON reader takes."""
    return not any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text)
