"""Where the reference data lie, and models made from them. Shared by the tests beside this file.

DET_GOLDEN, DET_PHOTOS, DET_IMAGES and DET_MODELS name the folders; by default they are looked for in ../shared.
Exit code 77 tells ctest that a test was skipped."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
SKIP = 77

sys.path.insert(0, str(ROOT / "bindings" / "python"))


def folder(variable, default):
    """The folder named by an environment variable, or `default`; leaves the test when it is not there."""
    path = Path(os.environ.get(variable) or default)
    if not path.is_dir():
        print(f"SKIP: no folder {path} ({variable})")
        sys.exit(SKIP)
    return path


def golden():
    return folder("DET_GOLDEN", SHARED / "golden")


def convert(checkpoint, out):
    """Converts a checkpoint as a user does; raises when that fails."""
    subprocess.run([sys.executable, "-m", "libdetect.convert", str(checkpoint), str(out)], check=True,
                   env=dict(os.environ, PYTHONPATH=str(ROOT / "bindings" / "python")), stdout=subprocess.DEVNULL)
