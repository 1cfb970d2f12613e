"""Where the models lie that come with libdetect, among them the face detector that is used when none is named."""

import os
import sys
from pathlib import Path
from typing import Iterator, Optional

DEFAULT = "damofd-2.5g-kps"


def _places() -> Iterator[Path]:
    """Where the file may be, in order: in the package, in a checkout, in an installed prefix."""
    here = Path(__file__).resolve().parent
    yield here / "models"
    if len(here.parents) > 2:  # a checkout: bindings/python/libdetect
        yield here.parents[2] / "models"
    for prefix in (sys.prefix, "/usr/local", "/usr"):
        yield Path(prefix, "share", "libdetect", "models")


def _find_bundled(name: str) -> Optional[str]:
    paths = (str(place / f"{name}.safetensors") for place in _places())
    return next(filter(os.path.isfile, paths), None)  # Path.is_file would raise where a name is too long


def find_model(said: str) -> str:
    """The path of a model file: `said`, or, where there is no such file, that of the model of this name that comes with
    libdetect, such as "damofd-2.5g-kps". `said` when there is neither."""
    if os.path.exists(said) or os.path.basename(said) != said or "\0" in said:
        return said
    return _find_bundled(said) or said


def default_model() -> str:
    """The path of the model that Model() opens: the environment's LIBDETECT_MODEL, else the project's own face detector.

    FileNotFoundError when this installation came without it."""
    said = os.environ.get("LIBDETECT_MODEL")
    found = find_model(said) if said else _find_bundled(DEFAULT)
    if found is None:
        tried = ", ".join(map(str, _places()))
        raise FileNotFoundError(f"{DEFAULT}.safetensors is in none of {tried}: name a model file, or set LIBDETECT_MODEL")
    return found
