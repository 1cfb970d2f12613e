"""Where the project's own face detector lies: the model that is used when none is named."""

import os
import sys
from pathlib import Path
from typing import Iterator

NAME = "damofd-2.5g-kps.safetensors"


def _places() -> Iterator[Path]:
    """Where the file may be, in order: in the package, in a checkout, in an installed prefix."""
    here = Path(__file__).resolve().parent
    yield here / "models"
    if len(here.parents) > 2:  # a checkout: bindings/python/libdetect
        yield here.parents[2] / "models"
    for prefix in (sys.prefix, "/usr/local", "/usr"):
        yield Path(prefix, "share", "libdetect", "models")


def default_model() -> str:
    """The model file that Model() opens: the environment's LIBDETECT_MODEL, else the project's own face detector.

    FileNotFoundError when this installation came without it."""
    named = os.environ.get("LIBDETECT_MODEL")
    if named:
        return named
    places = list(_places())
    for place in places:
        if (place / NAME).is_file():
            return str(place / NAME)
    tried = ", ".join(map(str, places))
    raise FileNotFoundError(f"{NAME} is in none of {tried}: name a model file, or set LIBDETECT_MODEL")
