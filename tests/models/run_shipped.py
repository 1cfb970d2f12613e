"""The model file that the project ships is what its card says: run_shipped.py

Its SHA-256 and that of the checkpoint stand in models/README.md; it is under a megabyte; converting the checkpoint beside
it, as the card says, gives the same file byte by byte."""
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data

MODELS = reference_data.ROOT / "models"
NAME = "damofd-2.5g-kps"


def main():
    card = (MODELS / "README.md").read_text()
    for suffix in (".safetensors", ".pth"):
        data = (MODELS / (NAME + suffix)).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        assert f"`{NAME}{suffix}` | `{digest}`" in card, f"{NAME}{suffix} is {digest}, which its card does not say"
        assert len(data) < 1 << 20, f"{NAME}{suffix} has {len(data)} bytes"
    command = re.search(r"-m libdetect\.convert (.*)", card)
    assert command, "the card does not say how the file was made"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / (NAME + ".safetensors")
        arguments = [str(MODELS.parent / a) if a.endswith(".pth") else a for a in command[1].split()]
        arguments = [str(made) if a.endswith(".safetensors") else a for a in arguments]
        subprocess.run([sys.executable, "-m", "libdetect.convert", *arguments], check=True,
                       cwd=reference_data.ROOT / "bindings" / "python")
        assert made.read_bytes() == (MODELS / (NAME + ".safetensors")).read_bytes(), "made again, it is another file"
    return 0


if __name__ == "__main__":
    sys.exit(main())
