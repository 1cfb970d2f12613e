"""The model files that the project ships are what their card says: run_shipped.py

Their SHA-256 and those of the checkpoints stand in models/README.md; each is under a megabyte; converting the checkpoint
beside it, as the card says, gives the same file byte by byte."""
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data

MODELS = reference_data.ROOT / "models"


def check(name, card):
    for suffix in (".safetensors", ".pth"):
        data = (MODELS / (name + suffix)).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        assert f"`{name}{suffix}` | `{digest}`" in card, f"{name}{suffix} is {digest}, which its card does not say"
        assert len(data) < 1 << 20, f"{name}{suffix} has {len(data)} bytes"
    command = re.search(rf"-m libdetect\.convert (models/{re.escape(name)}\.pth .*)", card)
    assert command, f"the card does not say how {name}.safetensors was made"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / (name + ".safetensors")
        arguments = [str(MODELS.parent / a) if a.endswith(".pth") else a for a in command[1].split()]
        arguments = [str(made) if a.endswith(".safetensors") else a for a in arguments]
        subprocess.run([sys.executable, "-m", "libdetect.convert", *arguments], check=True,
                       cwd=reference_data.ROOT / "bindings" / "python")
        assert made.read_bytes() == (MODELS / (name + ".safetensors")).read_bytes(), f"{name} made again is another file"


def main():
    card = (MODELS / "README.md").read_text()
    names = {path.stem for path in MODELS.iterdir() if path.suffix in (".safetensors", ".pth")}
    assert names, "models/ has no model"
    for name in sorted(names):
        check(name, card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
