#!/usr/bin/env python3
"""Makes the model file of a golden network: golden_model.py MANIFEST_DIR OUT.safetensors

MANIFEST_DIR holds manifest.json; the folder above it holds synth.py, which makes every tensor from its name.
"""

import importlib.util
import json
import os
import sys
from typing import Any, Dict

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bindings", "python"))

from libdetect import convert  # noqa: E402
from libdetect.checkpoint import Checkpoint  # noqa: E402
from libdetect.errors import ConvertError  # noqa: E402


def published(folder: str) -> Checkpoint:
    """The checkpoint that a golden folder describes, in the published layout."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    synth = _synth(os.path.join(os.path.abspath(folder), "..", "synth.py"))
    tensors: Dict[str, np.ndarray] = {}
    for entry in manifest["tensors"]:
        tensors[entry["name"]] = synth.tensor(
            entry["name"], entry["shape"], entry["role"], manifest["seed"], entry.get("gain", 1.0), entry.get("value")
        )
    return Checkpoint(tensors, source=manifest["arch"])


def _synth(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("synth", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True  # the golden folder may be read-only, and is not ours to write to
    spec.loader.exec_module(module)
    return module


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return convert.USAGE
    try:
        print(convert.convert(published(sys.argv[1]), sys.argv[2]))
    except (OSError, ConvertError) as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return convert.UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
